//! Several pruners at once on one root: one of them prunes, the others say that they are late.

use crate::support::recount;
use crate::support::running::{Place, freeze, make_session, signal, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};

const FILES: (u32, usize) = (8, 4096);
const SESSION: u64 = 8 * 4096 + 100;

fn place(n_sessions: i64, limit: &str) -> Place {
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
         [root.protect]\nquiet = \"0s\"\n{limit}"
    ));
    let staging = place.beside("staging");
    for n in 0..n_sessions {
        let name = format!("s{n:05}");
        make_session(&place.root, &staging, &name, 1_000_000 - n, FILES);
    }
    place
}

fn mebibytes(bytes: u64) -> String {
    format!("{}", bytes as f64 / (1 << 20) as f64)
}

fn spawn(place: &Place, goal: &str) -> Child {
    place
        .command(&["prune-size", "--json", "--max-mb", goal])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

fn newest(n: usize, of: i64) -> BTreeSet<String> {
    (of - n as i64..of).map(|n| format!("s{n:05}")).collect()
}

fn removed(document: &Value) -> Vec<String> {
    let removed = document["roots"][0]["removed"].as_array();
    removed
        .expect("a list")
        .iter()
        .map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// `n` at once bring 60 sessions down to 25.
fn race(place: &Place, n: usize) {
    let goal = mebibytes(SESSION * 25);
    let children: Vec<Child> = (0..n).map(|_| spawn(place, &goal)).collect();
    let mut all = Vec::new();
    let mut codes = Vec::new();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        codes.push(output.status.code().expect("no signal"));
        let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
        all.extend(removed(&document));
    }
    assert!(codes.iter().all(|code| [0, 2].contains(code)), "{codes:?}");
    assert!(codes.contains(&0), "{codes:?}");
    assert_eq!(recount::sessions(&place.root), newest(25, 60), "{codes:?}");
    let gone: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(gone.len(), all.len(), "nothing is removed by two: {all:?}");
    let lock = fs::read(place.root.join(".housekeeper/lock")).expect("a lock file");
    assert!(lock.trim_ascii().is_empty(), "nobody holds it any more");
}

#[test]
fn two_and_six_pruners_at_once_remove_exactly_what_was_planned() {
    for n in [2, 2, 2, 6, 6, 6] {
        let place = place(60, "");
        race(&place, n);
        assert_eq!(place.trash(), Vec::<String>::new());
    }
}

#[test]
fn pruners_beside_a_running_agent_with_the_same_goal_remove_exactly_that() {
    let place = place(60, &format!("[root.limits]\nmax_size = {}", SESSION * 25));
    let agent = place.spawn_agent();
    let goal = mebibytes(SESSION * 25);
    let children: Vec<Child> = (0..6).map(|_| spawn(&place, &goal)).collect();
    for child in children {
        let code = child.wait_with_output().expect("it ends").status.code();
        assert!(matches!(code, Some(0 | 2)), "{code:?}");
    }
    agent.until("rest", |root| {
        root["watch"]["state"] == "watching"
            && root["bytes"] == recount::directories(&place.root).apparent
            && root["session_count"] == 25
    });
    assert_eq!(recount::sessions(&place.root), newest(25, 60));
    assert_eq!(agent.stop(), Some(0));
}

/// A real holder, stopped in the middle of its work.
fn stopped_holder(place: &Place, goal: &str) -> (Child, Value) {
    let path = place.root.join(".housekeeper/lock");
    for _ in 0..50 {
        let mut child = spawn(place, goal);
        let pid = child.id();
        let caught = wait_for("a holder, or its end", || {
            if child.try_wait().expect("it is ours").is_some() {
                return Ok(false);
            }
            match fs::read(&path) {
                Ok(line) if !line.is_empty() => Ok(true),
                _ => Err("not yet".to_owned()),
            }
        });
        assert!(
            caught,
            "it ended before its lock was seen: give it more to do"
        );
        freeze(pid);
        let line = fs::read(&path).expect("a lock file");
        if let Ok(holder) = serde_json::from_slice::<Value>(&line) {
            return (child, holder);
        }
        // Stopped between two holds: let it go on and try with what is left.
        signal(pid, Signal::CONT);
        child.wait().expect("it ends");
    }
    panic!("no holder was caught in the act");
}

#[test]
fn a_held_lock_names_its_holder_and_a_killed_holders_lock_is_free_at_once() {
    let place = place(1500, "");
    let goal = mebibytes(SESSION * 25);
    let (mut holder, line) = stopped_holder(&place, &goal);
    assert_eq!(line["pid"], holder.id());
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    assert_eq!(line["host"], host.as_str());
    let since = line["since"].as_str().expect("a time");
    let since = chrono::DateTime::parse_from_rfc3339(since).expect("RFC 3339");
    let held = chrono::Utc::now().signed_duration_since(since);
    assert!(held.num_seconds().abs() < 60, "{held}");
    assert!(since.to_rfc3339().ends_with("+00:00"), "in UTC");

    let path = place.root.join(".housekeeper/lock");
    let before = (
        fs::read(&path).expect("a line"),
        recount::sessions(&place.root),
    );
    let late = place.run(&["prune-size", "--json", "--max-mb", &goal]);
    assert_eq!(late.status.code(), Some(2));
    let document: Value = serde_json::from_slice(&late.stdout).expect("one document");
    assert_eq!(removed(&document), Vec::<String>::new());
    let after = (
        fs::read(&path).expect("a line"),
        recount::sessions(&place.root),
    );
    assert!(
        before == after,
        "the holder's lock and the sessions are as they were"
    );

    signal(holder.id(), Signal::KILL);
    holder.wait().expect("it ends");
    let next = place.run(&["prune-size", "--json", "--max-mb", &goal]);
    assert_eq!(
        next.status.code(),
        Some(0),
        "a dead holder's lock is free at once"
    );
    assert_eq!(recount::sessions(&place.root), newest(25, 1500));
    assert_eq!(
        place.trash(),
        Vec::<String>::new(),
        "and its trash is finished"
    );
}

/// A mistaken limit can be stopped: the rename in hand is finished, and no other one begins.
#[test]
fn a_burst_ends_when_the_agent_is_told_to_end() {
    const N: i64 = 3000;
    let place = Place::new();
    place.configure(
        "[root.layout]\nrequired = false\n[root.layout.created_at]\nfrom = [\"mtime\"]\n\
         [root.protect]\nquiet = \"0s\"\n[root.limits]\nmax_count = 5",
    );
    for n in 0..N {
        let session = place.root.join(format!("s{n:05}"));
        fs::create_dir(&session).expect("a session");
        fs::write(session.join("f"), b"x").expect("a file");
    }
    let agent = place.spawn_agent();
    wait_for("the first to go", || {
        match recount::sessions(&place.root).len() {
            n if n < N as usize => Ok(()),
            n => Err(n.to_string()),
        }
    });
    assert_eq!(agent.stop(), Some(0));
    let left = recount::sessions(&place.root).len();
    assert!(left > N as usize / 10, "only {left} are left");
}

/// What the agent remembers of a root is no unfinished removal.
#[test]
fn a_command_leaves_what_the_agent_remembers() {
    let place = place(3, "[root.limits]\nmax_size = \"1 GiB\"\n");
    let remembered = || -> Vec<String> {
        let roots = fs::read_dir(place.beside("state/roots")).expect("roots");
        roots
            .map(|root| root.expect("one").path().join("root.json"))
            .filter_map(|file| fs::read_to_string(file).ok())
            .collect()
    };
    let agent = place.agent();
    wait_for("it is remembered", || match remembered() {
        texts if texts.len() == 1 => Ok(()),
        texts => Err(format!("{texts:?}")),
    });
    let before = remembered();
    let goal = mebibytes(SESSION * 2);
    let output = spawn(&place, &goal).wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(remembered(), before);
    drop(agent);
}

/// From the first hint of the write to the rename.
#[test]
fn a_write_over_the_limit_says_how_long_it_took() {
    let limit = SESSION * 4;
    let place = place(4, &format!("[root.limits]\nmax_size = {limit}"));
    let agent = place.agent();
    let mut newest = fs::File::options()
        .append(true)
        .open(place.root.join("s00003/f0000"))
        .expect("a file");
    std::io::Write::write_all(&mut newest, &[1; 1000]).expect("written");
    agent.until("a prune, with how long it took", |root| {
        root["pruned"]["sessions"] == 1 && root["reaction"]["p99_us"].as_u64() > Some(0)
    });
    assert!(!place.root.join("s00000").exists());
}
