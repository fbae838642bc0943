//! Undo for sessions that are files: alone, or several together with a sidecar. They come back
//! exactly as they were, all of them or none; whatever is killed, no file is lost.

#![expect(clippy::print_stdout, reason = "seeds are for who reads the run")]

use crate::support::running::{Agent, Dice, PATIENCE, Place, wait_for};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

fn logs(keep: &str, limits: &str) -> Place {
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nkind = \"files\"\nsessions = \"*.log\"\n[root.layout.created_at]\n\
         from = [\"mtime\"]\n[root.protect]\nquiet = \"0s\"\n[root.limits]\n{limits}\n\
         [root.trash]\nkeep = \"{keep}\""
    ));
    place
}

fn uploads(keep: &str, limits: &str) -> Place {
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nkind = \"sidecar\"\nsessions = \"**\"\nmetadata = \"{{id}}.json\"\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\" }}]\n\
         [root.protect]\nquiet = \"0s\"\n[root.limits]\n{limits}\n\
         [root.trash]\nkeep = \"{keep}\""
    ));
    place
}

/// A log that was written so long ago.
fn log(place: &Place, name: &str, ago: Duration) {
    let path = place.root.join(name);
    fs::write(&path, name.repeat(10)).expect("space");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    let file = fs::File::options().write(true).open(&path);
    let file = file.expect("a file");
    file.set_modified(SystemTime::now() - ago).expect("set");
}

/// Two files and their sidecar, months old; older the smaller `n` is.
fn upload(place: &Place, id: &str, n: usize) {
    let (day, hour) = (1 + n / 24 % 28, n % 24);
    let at = format!("2026-01-{day:02}T{hour:02}:00:00Z");
    made_at(place, id, n, &at);
}

/// The same, made just now.
fn fresh(place: &Place, id: &str) {
    made_at(place, id, 0, &chrono::Utc::now().to_rfc3339());
}

fn made_at(place: &Place, id: &str, n: usize, time: &str) {
    let at = |name: String| place.root.join(name);
    fs::write(at(format!("{id}.wav")), vec![b'w'; 1000 + n]).expect("space");
    fs::write(at(format!("{id}.txt")), vec![b't'; 100]).expect("space");
    let text = format!("{{\"created_at\":{time:?}}}");
    // Whole in one step: what is half written is looked at by nobody.
    let staging = place.beside("staging");
    fs::write(&staging, text).expect("space");
    fs::rename(staging, at(format!("{id}.json"))).expect("moved");
}

/// One of an age that is removed, and one that stays.
fn two_uploads() -> Place {
    let place = uploads("1h", "max_age = \"30d\"");
    upload(&place, "a", 1);
    fresh(&place, "b");
    place
}

fn agent_that_keeps_one(place: &Place) -> Agent<'_> {
    let agent = place.agent();
    agent.until("it is kept", |root| root["kept"]["sessions"] == 1);
    agent
}

/// Where the files of the first that is kept are.
fn bundle(place: &Place) -> PathBuf {
    let row = &rows(place)[0];
    let name = row["name"].as_str().expect("a name");
    place.root.join(".housekeeper/kept").join(name)
}

fn run(place: &Place, words: &[&str]) -> (Option<i32>, Value, String) {
    let output = place.run(&[words, &["--json"]].concat());
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), document, said)
}

fn rows(place: &Place) -> Vec<Value> {
    let (code, document, said) = run(place, &["trash", "list"]);
    assert_eq!(code, Some(0), "{said}");
    let rows = document["roots"][0]["kept"].as_array().cloned();
    rows.unwrap_or_default()
}

fn restored(place: &Place, wanted: &str) -> Value {
    let (code, document, said) = run(place, &["restore", wanted]);
    assert_eq!(code, Some(0), "{wanted}: {said}");
    document
}

/// The files at the top with what a restore must not change.
fn files(dir: &Path) -> BTreeMap<String, (Vec<u64>, Vec<u8>)> {
    let entries = fs::read_dir(dir)
        .expect("a directory")
        .map(|e| e.expect("an entry"));
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files
        .map(|entry| {
            let meta = entry.metadata().expect("there");
            let (mtime, nanos) = (meta.mtime() as u64, meta.mtime_nsec() as u64);
            let numbers = vec![meta.mode().into(), meta.ino(), mtime, nanos];
            let name = entry.file_name().into_string().expect("text");
            (name, (numbers, fs::read(entry.path()).expect("a file")))
        })
        .collect()
}

/// How many uploads' names are there; also while an agent is at work.
fn n_names(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| name.as_encoded_bytes()[0] == b'u')
        .count()
}

#[test]
fn a_log_that_age_took_comes_back_as_it_was_and_stays() {
    let place = logs("1h", "max_age = \"1d\"");
    log(&place, "old.log", 3 * DAY);
    log(&place, "new.log", DAY / 2);
    let before = files(&place.root);
    let agent = place.agent();
    agent.until("it is kept", |root| root["kept"]["sessions"] == 1);
    assert_eq!(files(&place.root).len(), 1);
    let row = &rows(&place)[0];
    assert_eq!(row["path"], "old.log");
    assert_eq!(
        (&row["rule"], &row["bytes"]),
        (&json!("max_age"), &json!(70))
    );
    assert_eq!(restored(&place, "old.log")["path"], "old.log");
    agent.until("it is back", |root| {
        root["session_count"] == 2 && root["kept"]["sessions"] == 0
    });
    assert_eq!(files(&place.root), before);
    let (code, _, said) = run(&place, &["rescan", "--wait"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        files(&place.root),
        before,
        "what took it does not take it again"
    );
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn an_upload_comes_back_with_all_its_files_or_not_at_all() {
    let place = two_uploads();
    let before = files(&place.root);
    let agent = agent_that_keeps_one(&place);
    assert_eq!(files(&place.root).len(), 3);
    let row = &rows(&place)[0];
    assert_eq!((&row["id"], &row["path"]), (&json!("a"), &json!("a")));
    assert_eq!(
        row["bytes"].as_u64(),
        before
            .iter()
            .filter(|(name, _)| name.starts_with("a."))
            .map(|(_, (_, text))| text.len() as u64)
            .reduce(|a, b| a + b)
    );
    // Each of the names in turn is somebody else's by now. Without an agent: he would count them.
    assert_eq!(agent.stop(), Some(0));
    for name in ["a.json", "a.txt", "a.wav"] {
        let foreign = place.root.join(name);
        fs::write(&foreign, "foreign").expect("space");
        let (code, _, said) = run(&place, &["restore", "a"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains(&format!("something is at {name} again")),
            "{said}"
        );
        assert_eq!(files(&place.root).len(), 4);
        assert_eq!(fs::read(&foreign).expect("there"), b"foreign");
        fs::remove_file(&foreign).expect("removed");
    }
    let agent = place.agent();
    assert_eq!(restored(&place, "a")["restored"], "a");
    agent.until("it is back", |root| {
        root["session_count"] == 2 && root["kept"]["sessions"] == 0
    });
    assert_eq!(files(&place.root), before);
    assert_eq!(rows(&place).len(), 0);
    let kept = fs::read_dir(place.root.join(".housekeeper/kept")).expect("there");
    assert_eq!(kept.count(), 0, "nothing is left of it");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn kept_files_give_way_before_any_session() {
    let place = uploads("1h", "max_count = 2\nmax_size = 6000");
    for (n, id) in ["a", "b", "c"].into_iter().enumerate() {
        upload(&place, id, n);
    }
    let agent = place.agent();
    agent.until("it is kept", |root| root["kept"]["sessions"] == 1);
    fs::write(place.root.join("c.bin"), vec![b'c'; 3000]).expect("space");
    agent.until("its space", |root| {
        root["kept"]["sessions"] == 0 && root["trash_bytes"] == 0 && root["session_count"] == 2
    });
    assert_eq!(files(&place.root).len(), 7);
    wait_for("nothing of it", || {
        let kept = fs::read_dir(place.root.join(".housekeeper/kept")).expect("there");
        let n = kept.count();
        (n == 0).then_some(()).ok_or(format!("{n} left"))
    });
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_record_brings_nothing_to_where_its_layout_has_no_such_session() {
    let place = two_uploads();
    let agent = agent_that_keeps_one(&place);
    assert_eq!(agent.stop(), Some(0));
    let dir = place.root.join(".housekeeper/origins");
    let record = fs::read_dir(&dir).expect("records").next();
    let record = record.expect("one").expect("an entry").path();
    let honest = fs::read_to_string(&record).expect("text");
    for (from, to) in [
        ("\"a.wav\"", "\"b.wav\""),
        ("\"a.wav\"", "\".housekeeper\""),
        ("\"key\":\"a\"", "\"key\":\"c\""),
        ("\"path\":\"\"", "\"path\":\".housekeeper\""),
    ] {
        let forged = honest.replace(from, to);
        assert_ne!(forged, honest, "{from}");
        fs::write(&record, forged).expect("written");
        let name = rows(&place)[0]["name"].as_str().expect("a name").to_owned();
        let (code, _, said) = run(&place, &["restore", &name]);
        assert_eq!(code, Some(1), "{to}: {said}");
        assert_eq!(files(&place.root).len(), 3, "{to}");
    }
    fs::write(&record, honest).expect("written");
    restored(&place, "a");
    assert_eq!(files(&place.root).len(), 6);
}

/// Who brings it back holds what is kept for a moment: nobody younger goes for that.
#[test]
fn what_comes_back_costs_the_oldest_of_the_others_its_place() {
    for _ in 0..5 {
        let place = uploads("1h", "max_count = 3");
        for n in 1..=5 {
            upload(&place, &format!("u{n}"), n);
        }
        let agent = place.agent();
        agent.until("two are kept", |root| root["kept"]["sessions"] == 2);
        restored(&place, "u1");
        agent.until("another one", |root| {
            root["kept"]["sessions"] == 2 && root["session_count"] == 3
        });
        let there: Vec<bool> = (1..=5)
            .map(|n| place.root.join(format!("u{n}.json")).exists())
            .collect();
        assert_eq!(there, [true, false, false, true, true], "{}", place.log());
        assert_eq!(agent.stop(), Some(0));
    }
}

#[test]
fn a_file_that_is_nowhere_keeps_no_other_from_coming_back() {
    let place = two_uploads();
    let agent = agent_that_keeps_one(&place);
    fs::remove_file(bundle(&place).join("a.txt")).expect("removed");
    assert_eq!(restored(&place, "a")["missing"], json!(["a.txt"]));
    assert_eq!(files(&place.root).len(), 5);
    assert_eq!(agent.stop(), Some(0));
}

/// A restore that was killed between two renames: it had pinned the session before.
#[test]
fn the_next_start_ends_a_restore_that_was_killed_half_way() {
    let place = two_uploads();
    let before = files(&place.root);
    let agent = agent_that_keeps_one(&place);
    assert_eq!(agent.stop(), Some(0));
    fs::rename(bundle(&place).join("a.wav"), place.root.join("a.wav")).expect("moved");
    // Not pinned nobody brings the rest back: it may have been left behind on the way out.
    let agent = place.agent();
    agent.until("all of it", |root| root["kept"]["sessions"] == 1);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(files(&place.root).len(), 4);
    let (code, _, said) = run(&place, &["pin", "a", "--reason", "restored"]);
    assert_eq!(code, Some(0), "{said}");
    let agent = place.agent();
    agent.until("all of it", |root| {
        root["session_count"] == 2 && root["kept"]["sessions"] == 0
    });
    assert_eq!(files(&place.root), before);
    assert_eq!(agent.stop(), Some(0));
}

/// Where each file of each upload is: at the top, or in something kept.
fn where_all_are(place: &Place) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in files(&place.root).into_keys() {
        found.entry(name).or_default().push(String::new());
    }
    let kept = fs::read_dir(place.root.join(".housekeeper/kept"));
    for bundle in kept.into_iter().flatten().flatten() {
        let at = bundle.file_name().into_string().expect("text");
        for name in files(&bundle.path()).into_keys() {
            found.entry(name).or_default().push(at.clone());
        }
    }
    found
}

/// Every file is there once.
fn nothing_is_lost(place: &Place, n_uploads: usize) {
    let found = where_all_are(place);
    let odd: Vec<_> = found.iter().filter(|(_, at)| at.len() != 1).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert_eq!(found.len(), 3 * n_uploads, "{:?}", found.keys());
}

/// And the three of an upload are together.
fn nothing_is_halved(place: &Place, n_uploads: usize) {
    nothing_is_lost(place, n_uploads);
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, at) in where_all_are(place) {
        let id = name.split('.').next().expect("an id").to_owned();
        places.entry(id).or_default().extend(at);
    }
    let odd: Vec<_> = places.iter().filter(|(_, at)| at.len() != 1).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[test]
fn killed_agents_and_restores_lose_no_file_and_halve_nothing() {
    const SEED: u64 = 20_261_128;
    println!("seed: {SEED}");
    let mut dice = Dice::new(SEED);
    let place = uploads("1h", "max_count = 3");
    let (mut n_uploads, mut n_half, mut n_killed) = (0, 0, 0);
    // A busy machine may let no kill meet the moment between two renames for long.
    for round in 0..400 {
        if round >= 60 && n_half > 0 && n_killed > 5 {
            break;
        }
        for _ in 0..4 {
            upload(&place, &format!("u{n_uploads:03}"), n_uploads);
            n_uploads += 1;
        }
        let before = n_names(&place.root);
        let mut agent = place.spawn_agent();
        // Without a pause between two looks: a session is gone within a fraction of one.
        let deadline = Instant::now() + PATIENCE;
        while n_names(&place.root) >= before {
            assert!(Instant::now() < deadline, "none goes: {}", place.log());
        }
        spin(Duration::from_micros(dice.below(400)));
        agent.kill();
        drop(agent);
        nothing_is_lost(&place, n_uploads);
        let n_found = files(&place.root).len();
        n_half += usize::from(!n_found.is_multiple_of(3));
        // The next one finishes what was decided.
        let agent = place.agent();
        agent.until("the limit", |root| root["session_count"] == 3);
        assert_eq!(agent.stop(), Some(0));
        nothing_is_halved(&place, n_uploads);
        // A restore that is killed can be had again.
        let kept = rows(&place);
        let row = &kept[dice.below(kept.len() as u64) as usize];
        let name = row["name"].as_str().expect("a name");
        let id = row["id"].as_str().expect("its origin is known");
        let mut command = place.command(&["restore", name]);
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        spin(Duration::from_micros(dice.below(30_000)));
        let ended = child.try_wait().expect("a child");
        if ended.is_none() {
            child.kill().expect("killed");
            child.wait().expect("a child");
            n_killed += 1;
        }
        nothing_is_lost(&place, n_uploads);
        if rows(&place).iter().any(|row| row["id"] == id) {
            restored(&place, id);
        }
        nothing_is_halved(&place, n_uploads);
        assert!(place.root.join(format!("{id}.json")).exists());
        run(&place, &["unpin", id]);
    }
    println!("{n_half} agents killed half-way, {n_killed} restores killed");
    assert!(n_half > 0 && n_killed > 5, "{n_half} {n_killed}");
}
