//! Whoever may write into a root cannot hide bytes from its limit: not behind names that look
//! like the agent's, not at the end of paths that the kernel does not take.

use crate::support::running::{Place, make_session, signal};
use crate::support::texts;
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use serde_json::Value;
use std::fs;
use std::path::Path;

const BYTES: usize = 1_000_000;

fn place(limit: &str) -> Place {
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
         [root.protect]\nquiet = \"0s\"\n{limit}"
    ));
    for (name, age) in [("old", 200), ("new", 100)] {
        make_session(&place.root, &place.beside("staging"), name, age, (1, 10));
    }
    place
}

/// A file at the end of 60 directories with names of 200 letters.
fn hide_deep(session: &Path) {
    hide_below(session, 60);
}

fn hide_below(session: &Path, n_levels: u32) {
    let name = "n".repeat(200);
    let mut dir = open(session, OFlags::DIRECTORY, Mode::empty()).expect("a session");
    for _ in 0..n_levels {
        mkdirat(&dir, &name, Mode::RWXU).expect("a directory");
        dir = openat(&dir, &name, OFlags::DIRECTORY, Mode::empty()).expect("a directory");
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = openat(&dir, "data", flags, Mode::RUSR).expect("a file");
    rustix::fs::ftruncate(&file, BYTES as u64).expect("a sparse file");
}

fn hide_behind(session: &Path, name: &str) {
    fs::create_dir(session.join(name)).expect("a directory");
    fs::write(session.join(name).join("data"), vec![b'x'; BYTES]).expect("a file");
}

#[test]
fn what_is_hidden_before_a_start_counts_and_goes() {
    let hiders: [fn(&Path); 3] = [
        hide_deep,
        |session| hide_behind(session, ".hk-"),
        |session| hide_behind(session, ".hk-01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ];
    for hide in hiders {
        let place = place("[root.limits]\nmax_size = 500000");
        hide(&place.root.join("old"));
        let agent = place.agent();
        agent.until("only the new session", |root| root["session_count"] == 1);
        assert!(place.root.join("new/f0000").exists() && !place.root.join("old").exists());
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(place.trash(), Vec::<String>::new());
    }
}

#[test]
fn what_is_hidden_beside_a_running_agent_counts() {
    let place = place("");
    let agent = place.agent();
    let before = agent.root()["bytes"].as_u64().expect("a number");
    hide_behind(&place.root.join("old"), ".hk-x");
    agent.until("the bytes of the session", |root| {
        root["bytes"] == before + BYTES as u64
    });
    hide_behind(&place.root, ".hk-01ARZ3NDEKTSV4RRFFQ69G5FAV");
    agent.until("unowned bytes", |root| root["unowned"]["bytes"] == BYTES);
    hide_deep(&place.root.join("new"));
    // So deep nothing can be watched, and the walk may have been there before it was all made.
    signal(agent.child.id(), rustix::process::Signal::USR1);
    agent.until("bytes that no path leads to", |root| {
        root["bytes"] == before + 2 * BYTES as u64
    });
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_path_beyond_every_bound_is_reported_and_its_session_stays() {
    let place = place("[root.limits]\nmax_size = 10");
    hide_below(&place.root.join("old"), 100);
    let done = place.run(&["plan", "--json"]);
    let plan: Value = serde_json::from_slice(&done.stdout).expect("one document");
    let plan = &plan["roots"][0];
    assert_eq!(texts(&plan["blocked"], "reason"), ["anomalous"], "{plan}");
    assert!(!texts(&plan["victims"], "id").contains(&"old".to_owned()));
    let done = place.run(&["scan", "--json"]);
    let scan: Value = serde_json::from_slice(&done.stdout).expect("one document");
    let anomalies = &scan["roots"][0]["anomalies"];
    let is_told = |path: &str| path == "old" || (path.starts_with("old/") && path.len() > 16_380);
    assert!(
        texts(anomalies, "kind")
            .iter()
            .all(|kind| kind == "too_deep")
    );
    // The session, and the place in it.
    let paths = texts(anomalies, "path");
    assert!(paths.len() == 2 && paths.iter().all(|path| is_told(path)));
}
