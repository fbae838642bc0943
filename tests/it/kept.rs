//! Undo: what age and count took comes back exactly as it was, or goes for good before its space
//! is missing; whatever is killed, no session is lost; whatever is planted, nothing leaves its
//! place.

#![expect(
    clippy::print_stdout,
    reason = "seeds and skipped parts are for who reads the run"
)]

use crate::support::mounted::Mounted;
use crate::support::recount;
use crate::support::running::{Agent, Dice, Place, make_session, signal, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const LAYOUT: &str = "[root.layout]\nmetadata = \"metadata.json\"\n\
    [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
    [root.protect]\nquiet = \"0s\"\n";

fn place(keep: &str, limits: &str) -> Place {
    let place = Place::new();
    configure(&place, keep, limits);
    place
}

fn configure(place: &Place, keep: &str, limits: &str) {
    place.configure(&format!(
        "{LAYOUT}[root.limits]\n{limits}\n[root.trash]\nkeep = \"{keep}\""
    ));
}

/// `name` of so many KiB and some, older the smaller `n` is.
fn session(place: &Place, name: &str, n: i64, kib: usize) {
    let staging = place.beside("staging");
    make_session(&place.root, &staging, name, 1_000_000 - n, (1, kib << 10));
}

fn run(place: &Place, words: &[&str]) -> (Option<i32>, Value, String) {
    let output = place.run(&[words, &["--json"]].concat());
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), document, said)
}

fn restore(place: &Place, name: &str) -> Value {
    let (code, document, said) = run(place, &["restore", name]);
    assert_eq!(code, Some(0), "{said}");
    document
}

fn refused(place: &Place, name: &str) -> String {
    let (code, _, said) = run(place, &["restore", name]);
    assert_eq!(code, Some(1), "{said}");
    said
}

fn kept_rows(place: &Place) -> Vec<Value> {
    let (code, document, said) = run(place, &["trash", "list"]);
    assert_eq!(code, Some(0), "{said}");
    document["roots"][0]["kept"]
        .as_array()
        .expect("a list")
        .clone()
}

fn kept(place: &Place) -> BTreeSet<String> {
    let rows = kept_rows(place);
    let ids = rows
        .iter()
        .map(|row| row["id"].as_str().unwrap_or("unknown").to_owned());
    ids.collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn until_kept(agent: &Agent<'_>, n: u64) -> Value {
    agent.until("what is kept", |root| root["kept"]["sessions"] == n)
}

fn exact(place: &Place, agent: &Agent<'_>) {
    agent.until("exact figures", |root| {
        root["bytes"] == recount::directories(&place.root).apparent
            && root["session_count"] == recount::sessions(&place.root).len()
    });
}

/// Names below a directory with what a restore must not change: kind, mode, owner, size, the time
/// of the last write, the inode, the text.
fn look(dir: &Path) -> BTreeSet<(PathBuf, Vec<u64>, Vec<u8>)> {
    let mut seen = BTreeSet::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(at) = stack.pop() {
        let meta = fs::symlink_metadata(&at).expect("there");
        let numbers = vec![
            meta.mode().into(),
            meta.uid().into(),
            meta.size(),
            meta.mtime() as u64,
            meta.mtime_nsec() as u64,
            meta.ino(),
        ];
        let mut text = Vec::new();
        if meta.is_dir() {
            stack.extend(
                fs::read_dir(&at)
                    .expect("a directory")
                    .map(|e| e.expect("an entry").path()),
            );
        } else if meta.is_file() {
            text = fs::read(&at).expect("a file");
        }
        let below = at.strip_prefix(dir).expect("below").to_owned();
        seen.insert((below, numbers, text));
    }
    seen
}

#[test]
fn what_age_took_comes_back_exactly_and_stays() {
    let place = place("1h", "max_age = \"1d\"");
    session(&place, "old", 0, 4);
    let dir = place.root.join("old");
    fs::create_dir_all(dir.join("deep/er")).expect("made");
    fs::write(dir.join("deep/er/secret"), b"text").expect("written");
    fs::set_permissions(
        dir.join("deep/er/secret"),
        fs::Permissions::from_mode(0o400),
    )
    .expect("set");
    fs::set_permissions(dir.join("deep"), fs::Permissions::from_mode(0o751)).expect("set");
    symlink("/nowhere", dir.join("link")).expect("linked");
    let past = SystemTime::now() - Duration::from_secs(500_000);
    for name in ["f0000", "deep/er", "."] {
        let file = fs::File::open(dir.join(name)).expect("opened");
        file.set_modified(past).expect("set");
    }
    let before = look(&dir);
    let agent = place.agent();
    let root = until_kept(&agent, 1);
    assert!(!dir.exists() && root["session_count"] == 0 && root["bytes"] == 0);
    assert_eq!(root["pruned"]["sessions"], 1);
    let row = &kept_rows(&place)[0];
    assert_eq!(
        (&row["id"], &row["rule"]),
        (&json!("old"), &json!("max_age"))
    );
    assert_eq!(root["kept"]["bytes"], row["bytes"]);
    wait_for("the reason with the way back", || {
        let (_, why, _) = run(&place, &["why", "old"]);
        let is_told = why["state"] == "removed" && why["restorable_until"] == row["until"];
        is_told.then_some(()).ok_or(why.to_string())
    });
    let answer = restore(&place, "old");
    assert_eq!(
        (&answer["path"], &answer["restored"]),
        (&json!("old"), &json!("old"))
    );
    assert_eq!(look(&dir), before);
    agent.until("it is back", |root| {
        root["session_count"] == 1 && root["kept"]["sessions"] == 0
    });
    exact(&place, &agent);
    // What took it would take it again.
    let (_, pins, _) = run(&place, &["pins"]);
    assert_eq!(pins["roots"][0]["pins"][0]["until"], answer["pinned_until"]);
    let (code, _, said) = run(&place, &["rescan", "--wait"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(dir.exists());
    let (_, unpinned, _) = run(&place, &["unpin", "old"]);
    assert_eq!(unpinned["unpinned"], true);
    until_kept(&agent, 1);
    wait_for("rows of both", || {
        let (_, audit, _) = run(&place, &["audit", "--session", "old"]);
        let rows = audit["entries"].as_array().cloned().unwrap_or_default();
        let n = |event: &str| rows.iter().filter(|row| row["event"] == event).count();
        let both = (n("prune.deleted"), n("session.restored"));
        (both == (2, 1)).then_some(()).ok_or(format!("{both:?}"))
    });
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_restart_neither_ends_nor_prolongs_the_time_and_its_end_is_kept() {
    let place = place("1h", "max_count = 1");
    for n in 0..3 {
        session(&place, &format!("s{n}"), n, 1);
    }
    let mut agent = place.agent();
    until_kept(&agent, 2);
    agent.kill();
    drop(agent);
    let before = kept_rows(&place);
    let agent = place.agent();
    let root = until_kept(&agent, 2);
    assert_eq!(kept_rows(&place), before);
    assert_eq!(root["trash_bytes"], root["kept"]["bytes"]);
    assert_eq!(agent.stop(), Some(0));
    // Its time counts from the removal.
    configure(&place, "1s", "max_count = 1");
    let agent = place.agent();
    agent.until("an empty trash", |root| root["trash_bytes"] == 0);
    assert!(kept(&place).is_empty());
    wait_for("no records", || {
        let records = fs::read_dir(place.root.join(".housekeeper/origins"));
        match records.expect("there").count() {
            0 => Ok(()),
            n => Err(format!("{n} records")),
        }
    });
    assert_eq!(recount::sessions(&place.root), names(&["s2"]));
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn kept_trash_gives_way_oldest_first_and_no_session_goes_for_it() {
    let place = place("1h", "max_count = 2\nmax_size = \"100KiB\"");
    for n in 0..4 {
        session(&place, &format!("s{n}"), n, 20);
    }
    let agent = place.agent();
    let root = until_kept(&agent, 2);
    // 40 KiB of sessions and 40 KiB of trash: as used in the peak, as freed for the limits.
    assert!(root["peak_bytes"].as_u64() > Some(80 << 10), "{root}");
    assert_eq!(
        (&root["unmet"], &root["ready"]),
        (&json!(false), &json!(true))
    );
    fs::write(place.root.join("s3/more"), vec![b'x'; 30 << 10]).expect("written");
    let root = until_kept(&agent, 1);
    assert_eq!(kept(&place), names(&["s1"]));
    assert_eq!(root["pruned"]["sessions"], 2);
    fs::write(place.root.join("s3/more"), vec![b'x'; 55 << 10]).expect("written");
    let root = until_kept(&agent, 0);
    assert_eq!(root["pruned"]["sessions"], 2);
    assert_eq!(recount::sessions(&place.root), names(&["s2", "s3"]));
    // What the size rule takes makes room at once.
    fs::write(place.root.join("s3/more"), vec![b'x'; 70 << 10]).expect("written");
    agent.until("the limit", |root| {
        root["pruned"]["sessions"] == 3 && root["trash_bytes"] == 0
    });
    assert!(kept(&place).is_empty());
    exact(&place, &agent);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn without_the_key_nothing_is_kept() {
    let place = place("0", "max_count = 1");
    for n in 0..3 {
        session(&place, &format!("s{n}"), n, 1);
    }
    let agent = place.agent();
    agent.until("pruned", |root| {
        root["pruned"]["sessions"] == 2 && root["trash_bytes"] == 0
    });
    assert!(!place.root.join(".housekeeper/kept").exists());
    assert!(kept(&place).is_empty());
    assert!(refused(&place, "s0").contains("trash list"));
    assert_eq!(agent.stop(), Some(0));
}

/// Three sessions, of which s0 and s1 are in the trash; nobody runs.
fn two_kept(layout: &str) -> Place {
    let place = Place::new();
    place.configure(&format!(
        "{layout}[root.limits]\nmax_count = 1\n[root.trash]\nkeep = \"1h\""
    ));
    place
}

fn prune(place: &Place) {
    let agent = place.agent();
    until_kept(&agent, 2);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn nothing_is_put_over_what_is_there_nor_where_a_record_was_changed_to_say() {
    let place = two_kept(LAYOUT);
    for n in 0..3 {
        session(&place, &format!("s{n}"), n, 1);
    }
    prune(&place);
    let outside = place.beside("outside");
    fs::create_dir(&outside).expect("made");
    // Somebody made it anew.
    fs::create_dir(place.root.join("s0")).expect("made");
    fs::write(place.root.join("s0/new"), b"new").expect("written");
    assert!(refused(&place, "s0").contains("move it away"));
    assert_eq!(fs::read(place.root.join("s0/new")).expect("there"), b"new");
    fs::remove_dir_all(place.root.join("s0")).expect("removed");
    let (_, pins, _) = run(&place, &["pins"]);
    assert_eq!(pins["roots"][0]["pins"], json!([]));
    // Names of one millisecond are in no order.
    let rows = kept_rows(&place);
    let row = rows.iter().find(|row| row["id"] == "s0").expect("s0");
    let name = row["name"].as_str().expect("a name").to_owned();
    let record = place.root.join(".housekeeper/origins").join(&name);
    let text = fs::read_to_string(&record).expect("a record");
    for (path, key) in [
        ("../outside/s0", "../outside/s0"),
        ("/tmp/s0", "/tmp/s0"),
        (".housekeeper/trash/s0", ".housekeeper/trash/s0"),
        ("s2/s0", "s2/s0"),
        (".hidden", ".hidden"),
        ("s9", "s0"),
        ("", ""),
    ] {
        let mut record_now: Value = serde_json::from_str(&text).expect("JSON");
        record_now["path"] = path.into();
        record_now["key"] = key.into();
        fs::write(&record, record_now.to_string()).expect("planted");
        refused(&place, &name);
        assert!(
            place.root.join(".housekeeper/kept").join(&name).exists(),
            "{path}"
        );
    }
    // Another inode under the name is nobody's session.
    fs::write(&record, &text).expect("written");
    let item = place.root.join(".housekeeper/kept").join(&name);
    fs::rename(&item, place.beside("away")).expect("moved");
    fs::create_dir(&item).expect("planted");
    assert!(refused(&place, "s0").contains("trash list"));
    fs::remove_dir(&item).expect("removed");
    fs::rename(place.beside("away"), &item).expect("moved");
    restore(&place, "s0");
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    assert_eq!(recount::sessions(&place.root), names(&["s0", "s2"]));
}

#[test]
fn a_symlink_in_the_way_is_not_followed() {
    let nested = LAYOUT.replacen("[root.layout]\n", "[root.layout]\nsessions = \"*/*\"\n", 1);
    let place = two_kept(&nested);
    let home = place.root.join("a");
    fs::create_dir(&home).expect("made");
    for n in 0..3 {
        let staging = place.beside("staging");
        make_session(&home, &staging, &format!("s{n}"), 1000 - n, (1, 100));
    }
    prune(&place);
    let outside = place.beside("outside");
    fs::create_dir(&outside).expect("made");
    let away = place.beside("away");
    fs::rename(&home, &away).expect("moved");
    symlink(&outside, &home).expect("linked");
    assert!(refused(&place, "a/s0").contains("symlink"));
    fs::remove_file(&home).expect("removed");
    assert!(refused(&place, "a/s0").contains("make it"));
    fs::rename(&away, &home).expect("moved back");
    // Swapped in and out while restores come, and never followed.
    let deadline = Instant::now() + Duration::from_secs(2);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let link = place.beside("link");
            symlink(&outside, &link).expect("linked");
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for _ in 0..2 {
                    let swap = rustix::fs::RenameFlags::EXCHANGE;
                    let (from, to) = (&link, &home);
                    rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, swap)
                        .expect("swapped");
                }
            }
        });
        let mut n_tries = 0;
        while Instant::now() < deadline {
            let (code, _, _) = run(&place, &["restore", "a/s0"]);
            n_tries += 1;
            if code == Some(0) {
                break;
            }
        }
        println!("{n_tries} tries");
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    let back = home.join("s0").exists();
    assert_eq!(kept(&place).contains("s0"), !back);
    restore(&place, "a/s1");
    assert!(home.join("s1/metadata.json").exists());
}

#[test]
fn ids_that_repeat_in_the_trash_are_listed_and_a_name_is_exact() {
    let place = place("1h", "max_count = 1");
    let agent = place.agent();
    for n in 0..2 {
        session(&place, "again", n, 1);
        session(&place, &format!("newer{n}"), 100 + n, 1);
        until_kept(&agent, 1 + 2 * n as u64);
    }
    let rows = kept_rows(&place);
    let again: Vec<_> = rows.iter().filter(|row| row["id"] == "again").collect();
    assert_eq!(again.len(), 2);
    let said = refused(&place, "again");
    let name = again[1]["name"].as_str().expect("a name");
    assert!(said.contains(name), "{said}");
    assert_eq!(restore(&place, name)["restored"], "again");
    assert_eq!(agent.stop(), Some(0));
}

const N_FILES: u32 = 6;

fn is_whole(dir: &Path) -> bool {
    let sizes = (0..N_FILES).map(|n| fs::metadata(dir.join(format!("f{n:04}"))).map(|m| m.len()));
    sizes
        .into_iter()
        .all(|size| size.is_ok_and(|size| size == 300))
        && dir.join("metadata.json").exists()
}

/// Every session is in the root or in the trash, whole, and once.
fn nothing_is_lost(place: &Place, all: &BTreeSet<String>) {
    let there = recount::sessions(&place.root);
    let rows = kept_rows(place);
    let mut found: Vec<String> = there.iter().cloned().collect();
    for row in &rows {
        let id = row["id"].as_str().expect("its origin is known");
        let item = place
            .root
            .join(".housekeeper/kept")
            .join(row["name"].as_str().expect("a name"));
        assert!(is_whole(&item), "{row}");
        found.push(id.to_owned());
    }
    assert!(there.iter().all(|name| is_whole(&place.root.join(name))));
    found.sort();
    assert_eq!(found, all.iter().cloned().collect::<Vec<_>>());
}

#[test]
fn killed_agents_and_restores_lose_neither_sessions_nor_the_way_back() {
    const KEPT: usize = 3;
    const SEED: u64 = 20_261_127;
    println!("seed: {SEED}");
    let mut dice = Dice::new(SEED);
    let place = place("1h", "max_count = 3");
    let mut all = BTreeSet::new();
    let (mut n_killed, mut n_restored) = (0, 0);
    for round in 0..70 {
        while recount::sessions(&place.root).len() < KEPT + 3 {
            let name = format!("s{:04}", all.len());
            let (staging, age) = (place.beside("staging"), 1_000_000 - all.len() as i64);
            make_session(&place.root, &staging, &name, age, (N_FILES, 300));
            all.insert(name);
        }
        let before = recount::sessions(&place.root);
        let mut agent = place.spawn_agent();
        let deadline = Instant::now() + Duration::from_secs(20);
        while before.iter().all(|name| place.root.join(name).exists()) {
            assert!(
                Instant::now() < deadline,
                "nothing was pruned: {}",
                place.log()
            );
            std::hint::spin_loop();
        }
        spin(Duration::from_micros(dice.below(3_000)));
        agent.kill();
        drop(agent);
        nothing_is_lost(&place, &all);
        // A restore that is killed, or not, is done or not; one that answered is.
        let ids: Vec<String> = kept(&place).into_iter().collect();
        let id = ids[dice.below(ids.len() as u64) as usize].clone();
        let mut command = place.command(&["restore", &id]);
        let mut child = quiet(&mut command).spawn().expect("it starts");
        spin(Duration::from_micros(dice.below(40_000)));
        let ended = child.try_wait().expect("a child");
        n_restored += usize::from(ended.is_some_and(|status| status.success()));
        if let Some(status) = ended {
            assert!(status.success() && place.root.join(&id).exists(), "{id}");
        } else {
            child.kill().expect("killed");
            child.wait().expect("a child");
            n_killed += 1;
        }
        nothing_is_lost(&place, &all);
        // It is pinned: unpin it, so that it goes again.
        if place.root.join(&id).exists() {
            run(&place, &["unpin", &id]);
        }
        if round % 20 == 19 {
            let agent = place.agent();
            agent.until("the limit", |root| {
                root["session_count"].as_u64() <= Some(KEPT as u64)
            });
            exact(&place, &agent);
            assert_eq!(agent.stop(), Some(0));
            nothing_is_lost(&place, &all);
        }
    }
    println!("{n_killed} restores killed, {n_restored} done before");
    assert!(n_killed > 5, "{n_killed}");
    for id in kept(&place) {
        restore(&place, &id);
    }
    assert_eq!(recount::sessions(&place.root), all);
    nothing_is_lost(&place, &all);
}

fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

#[test]
fn a_full_disk_keeps_nothing_and_still_lets_go() {
    let place = place("1h", "max_count = 2");
    let Some(_mounted) = Mounted::tmpfs(&place.root, "size=1m,nr_inodes=40") else {
        return;
    };
    let staging = place.root.join(".staging");
    for n in 0..2 {
        make_session(&place.root, &staging, &format!("s{n}"), 1000 - n, (2, 100));
    }
    let agent = place.agent();
    make_session(&place.root, &staging, "s2", 100, (2, 100));
    until_kept(&agent, 1);
    assert_eq!(kept(&place), names(&["s0"]));
    make_session(&place.root, &staging, "s3", 50, (2, 100));
    until_kept(&agent, 2);
    // Not an inode is left, so that no record can be written.
    assert_eq!(agent.stop(), Some(0));
    make_session(&place.root, &staging, "s4", 20, (2, 100));
    let mut n = 0;
    while fs::write(place.root.join(format!("s4/more{n}")), b"").is_ok() {
        n += 1;
    }
    let agent = place.agent();
    agent.until("the limit", |root| {
        root["session_count"] == 2 && root["pruned"]["sessions"] == 1
    });
    assert_eq!(recount::sessions(&place.root), names(&["s3", "s4"]));
    assert_eq!(kept(&place), names(&["s0", "s1"]));
    restore(&place, "s0");
    assert!(place.root.join("s0/metadata.json").exists());
    assert_eq!(agent.stop(), Some(0));
}

/// A command brings a root to a size and does nothing else: what is kept is the agent's to let
/// go of, by a time that a command on a bare path does not know.
#[test]
fn a_command_leaves_what_is_kept() {
    let place = place("1h", "max_count = 2");
    for n in 0..5 {
        session(&place, &format!("s{n}"), n, 8);
    }
    let agent = place.agent();
    until_kept(&agent, 3);
    assert_eq!(agent.stop(), Some(0));
    let before = kept(&place);
    let root = place.root.display().to_string();
    let state = place.beside("state").display().to_string();
    for words in [
        &["prune-size", "--max-mb", "1"][..],
        &["prune-size", "--max-mb", "0.01"],
        &["prune-size", "--group", "g", "--max-mb", "1"],
    ] {
        let (code, document, said) = run(&place, words);
        assert!(matches!(code, Some(0 | 1)), "{said}");
        assert_eq!(kept(&place), before, "{words:?}: {document}");
    }
    // Without the configuration, as the README's page for a full disk has it.
    let mut bare = crate::support::housekeeper();
    bare.args([
        "prune-size",
        "--root",
        &root,
        "--max-mb",
        "100",
        "--state-dir",
        &state,
    ]);
    let done = crate::support::Done::of(bare.output().expect("runs"));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(kept(&place), before);
}

/// For a moment it would count as a session and as kept: that costs no other its place.
#[test]
fn a_session_that_comes_back_at_the_limit_costs_no_other() {
    for n in 0..3 {
        let place = place("1h", "max_count = 5");
        for n in 0..10 {
            session(&place, &format!("s{n}"), n, 16);
        }
        let agent = place.agent();
        until_kept(&agent, 5);
        let root = agent.root();
        let all =
            root["bytes"].as_u64().expect("bytes") + root["kept"]["bytes"].as_u64().expect("bytes");
        // All that is there just fits.
        configure(&place, "1h", &format!("max_size = {all}"));
        signal(agent.child.id(), rustix::process::Signal::HUP);
        agent.until("the new limit", |root| root["limit_bytes"] == all);
        let wanted = format!("s{}", n + 2);
        restore(&place, &wanted);
        agent.until("it is back", |root| root["session_count"] == 6);
        let (code, _, said) = run(&place, &["rescan", "--wait"]);
        assert_eq!(code, Some(0), "{said}");
        until_kept(&agent, 4);
        assert_eq!(kept(&place).len(), 4);
        assert_eq!(agent.stop(), Some(0));
    }
}
