//! `remove_empty_parents`: a directory that held only sessions goes with the last of them, over
//! as many levels as are empty then. What holds anything else stays, what never held a session
//! stays, and so does the root. By the agent, which goes on knowing what is there.

use crate::support::running::{Place, make_session, wait_for};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const KEY: &str = "remove_empty_parents = true\n";

fn place(layout: &str, limit: &str) -> Place {
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\n{layout}\n[root.protect]\nquiet = \"0s\"\n[root.limits]\n{limit}"
    ));
    place
}

/// All paths below the root, but the agent's own.
fn tree(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    below(root, "", &mut all);
    all.sort();
    all
}

fn below(root: &Path, dir: &str, all: &mut Vec<String>) {
    // One that goes while it is looked at holds nothing.
    for entry in fs::read_dir(root.join(dir)).into_iter().flatten() {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_str().expect("text").to_owned();
        let path = format!("{dir}{name}");
        if name == ".housekeeper" {
            continue;
        }
        if entry.file_type().expect("a type").is_dir() {
            below(root, &format!("{path}/"), all);
        }
        all.push(path);
    }
}

fn becomes(place: &Place, expected: &[&str]) {
    wait_for("the tree", || {
        let tree = tree(&place.root);
        match tree == expected {
            true => Ok(()),
            false => Err(format!("{tree:?} {}", place.log())),
        }
    });
}

/// A session at a path below the root, so many minutes old.
fn session(place: &Place, path: &str, age_minutes: i64) {
    let (above, name) = path.rsplit_once('/').expect("a directory above");
    let above = place.root.join(above);
    fs::create_dir_all(&above).expect("made");
    make_session(
        &above,
        &place.beside("staging"),
        name,
        age_minutes,
        (1, 1024),
    );
}

/// Six sessions that go and one that stays, with other data on some of their ways.
fn grow(place: &Place) {
    for (path, age) in [
        ("a/b/s1", 70),
        ("a/b/s2", 60),
        ("c/d/s3", 50),
        ("e/f/s4", 40),
        ("g/h/s5", 30),
        ("l/m/s6", 20),
        ("g/i/s7", 10),
    ] {
        session(place, path, age);
    }
    fs::write(place.root.join("c/notes.txt"), "c").expect("written");
    fs::write(place.root.join("e/f/.hidden"), "e").expect("written");
    // Empty from the beginning: it never held a session.
    fs::create_dir_all(place.root.join("j/k")).expect("made");
    fs::create_dir_all(place.root.join("l/n")).expect("made");
}

#[test]
fn parents_go_as_far_up_as_they_are_empty() {
    let place = place(&format!("sessions = \"*/*/*\"\n{KEY}"), "max_count = 1");
    grow(&place);
    let agent = place.agent();
    let left = [
        "c",
        "c/notes.txt",
        "e",
        "e/f",
        "e/f/.hidden",
        "g",
        "g/i",
        "g/i/s7",
        "g/i/s7/f0000",
        "g/i/s7/metadata.json",
        "j",
        "j/k",
        "l",
        "l/n",
    ];
    becomes(&place, &left);
    // The same directories made again are seen, and go again with what is in them. What comes is
    // the newest each time: what is older by its metadata may not be known to be so at once.
    session(&place, "a/b/s8", 5);
    agent.until("the count", |root| root["pruned"]["sessions"] == 7);
    session(&place, "g/h/s9", 1);
    agent.until("the count", |root| root["pruned"]["sessions"] == 8);
    let left = left.map(|path| path.replace("g/i/s7", "g/h/s9").replace("g/i", "g/h"));
    let left = left.each_ref().map(String::as_str);
    becomes(&place, &left);
    assert!(place.run(&["rescan", "--wait"]).status.success());
    let root = agent.root();
    assert_eq!(root["session_count"], 1, "{root}");
    assert_eq!(root["rescan"]["drift_bytes"], 0, "{root}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(tree(&place.root), left);
    assert_eq!(place.trash(), [""; 0]);
}

#[test]
fn parents_stay_where_nobody_asked_for_it() {
    let place = place("sessions = \"*/*/*\"", "max_count = 1");
    grow(&place);
    let agent = place.agent();
    agent.until("the count", |root| root["session_count"] == 1);
    assert_eq!(agent.stop(), Some(0));
    for dir in ["a/b", "c/d", "e/f", "g/h", "g/i", "j/k", "l/m", "l/n"] {
        assert!(place.root.join(dir).is_dir(), "{dir}");
    }
}

/// Sessions that are files leave beside their place first: the directory is not empty until
/// they are unlinked.
#[test]
fn parents_of_files_go_when_the_last_file_is_unlinked() {
    const N: usize = 60;
    let place = place(
        &format!(
            "kind = \"files\"\nsessions = \"**/*.log\"\n{KEY}created_at = {{ from = [\"mtime\"] }}"
        ),
        "max_size = 1",
    );
    let inode = fs::metadata(&place.root).expect("a root").ino();
    for n in 0..N {
        let dir = place.root.join(format!("{}/{}/{n}", n % 2, n % 4));
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("a.log"), [b'x'; 100]).expect("written");
        fs::write(dir.join("b.log"), [b'x'; 100]).expect("written");
    }
    fs::write(place.root.join("1/3/notes.txt"), "x").expect("written");
    let agent = place.agent();
    let left = ["1", "1/3", "1/3/notes.txt"];
    becomes(&place, &left);
    // In a root that is all but empty, too.
    fs::create_dir_all(place.root.join("2/2")).expect("made");
    fs::write(place.root.join("2/2/c.log"), [b'x'; 100]).expect("written");
    agent.until("it gone", |root| {
        root["pruned"]["sessions"] == 2 * N as u64 + 1
    });
    becomes(&place, &left);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(tree(&place.root), left);
    assert_eq!(fs::metadata(&place.root).expect("a root").ino(), inode);
}

#[test]
fn the_root_stays_when_all_is_gone_and_is_looked_after_as_before() {
    let place = place(&format!("sessions = \"**/run\"\n{KEY}"), "max_size = 1");
    let inode = fs::metadata(&place.root).expect("a root").ino();
    session(&place, "a/b/c/run", 10);
    session(&place, "d/run", 20);
    let agent = place.agent();
    becomes(&place, &[]);
    session(&place, "a/b/c/run", 10);
    agent.until("it gone", |root| root["pruned"]["sessions"] == 3);
    becomes(&place, &[]);
    agent.until("an empty root", |root| {
        root["bytes"] == 0 && root["ready"] == true
    });
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(fs::metadata(&place.root).expect("a root").ino(), inode);
}
