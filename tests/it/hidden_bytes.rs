//! Whoever may write into a root cannot hide bytes from its limit: not behind names that look
//! like the agent's, not at the end of paths that the kernel does not take.

use crate::support::running::{Place, make_session, signal};
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
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
    let name = "n".repeat(200);
    let mut dir = open(session, OFlags::DIRECTORY, Mode::empty()).expect("a session");
    for _ in 0..60 {
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
