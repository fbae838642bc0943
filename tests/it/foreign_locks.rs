//! Another program's lock, which counts by existence: it lies in the root from before the first
//! session leaves until after the last, so that an old loop that looks at any moment waits; and
//! while the other program has it nothing leaves. The kernel tells in which order names came and
//! went.

use crate::support::mb;
use crate::support::running::{Place, freeze, signal, wait_for};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const LOCK: &str = ".prune_size.lock";
const QUIET: &str = "[root.protect]\nquiet = \"0s\"\n";

/// The layouts of programs that have such a lock.
const LAYOUTS: [&str; 3] = [
    "[root.layout]\nforeign_lock = \".prune_size.lock\"",
    "preset = \"gofr-dig\"",
    "preset = \"gofr-doc\"",
];

/// Sessions `s000` and on, a minute apart, each a little above 1 KiB.
fn fill(root: &Path, layout: &str, n_sessions: u32) {
    let mut entries = serde_json::Map::new();
    for n in 0..n_sessions {
        let name = format!("s{n:03}");
        let created = format!("2026-01-01T{:02}:{:02}:00Z", n / 60 % 24, n % 60);
        let pad = "x".repeat(1024);
        match layout {
            "preset = \"gofr-dig\"" => {
                fs::write(root.join(format!("{name}.json")), pad).expect("a blob");
                let entry = json!({ "format": "json", "created_at": created });
                entries.insert(name, entry);
            }
            "preset = \"gofr-doc\"" => {
                let text = json!({ "created_at": created, "pad": pad }).to_string();
                fs::write(root.join(format!("{name}.json")), text).expect("a session");
            }
            _ => {
                fs::create_dir(root.join(&name)).expect("a session");
                fs::write(root.join(&name).join("data"), pad).expect("data");
                let text = json!({ "created_at": created }).to_string();
                fs::write(root.join(&name).join("metadata.json"), text).expect("metadata");
            }
        }
    }
    if !entries.is_empty() {
        let text = Value::Object(entries).to_string();
        fs::write(root.join("metadata.json"), text).expect("a catalogue");
    }
}

/// Eight sessions of which five have to go, by the agent and by [`prune`].
fn place(layout: &str) -> Place {
    let place = Place::new();
    place.configure(&format!("{layout}\n{QUIET}[root.limits]\nmax_count = 3"));
    fill(&place.root, layout, 8);
    place
}

fn prune(place: &Place, goal: u64) -> Child {
    place
        .command(&["prune-size", "--json", "--max-mb", &mb(goal)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

/// Room for three of them, with a catalogue.
const THREE: u64 = 3600;

/// The first names of sessions that are there.
fn sessions(root: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(root).expect("a root");
    names
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_str().expect("text").to_owned())
        .filter(|name| name.starts_with('s'))
        .map(|name| name[..4].to_owned())
        .collect()
}

fn named(numbers: std::ops::Range<u32>) -> BTreeSet<String> {
    numbers.map(|n| format!("s{n:03}")).collect()
}

/// Hears of every name that comes to a root or leaves it.
struct Heard(OwnedFd);

impl Heard {
    fn of(root: &Path) -> Self {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let queue = inotify::init(flags).expect("a queue");
        let all = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::MODIFY;
        inotify::add_watch(&queue, root, all).expect("a watch");
        Self(queue)
    }

    /// What happened since it was asked last, in order.
    fn take(&self) -> Vec<(ReadFlags, String)> {
        let mut buffer = [const { MaybeUninit::uninit() }; 1 << 14];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut all = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let what = event.events();
                    assert!(!what.contains(ReadFlags::QUEUE_OVERFLOW));
                    let name = event.file_name().expect("of a name in the root");
                    all.push((what, name.to_str().expect("text").to_owned()));
                }
                Err(Errno::AGAIN) => return all,
                Err(errno) => panic!("the queue: {errno}"),
            }
        }
    }
}

/// The sessions that left, all of them while our lock was there; it is not there any more.
/// `catalogue`: its entries went meanwhile, too.
fn left_under_the_lock(told: &[(ReadFlags, String)], catalogue: bool) -> BTreeSet<String> {
    let went = ReadFlags::MOVED_FROM | ReadFlags::DELETE;
    let mut is_there = false;
    let mut was_edited = false;
    let mut left = BTreeSet::new();
    for (what, name) in told {
        if name == LOCK && what.contains(ReadFlags::CREATE) {
            assert!(!is_there, "two at once: {told:?}");
            is_there = true;
        } else if name == LOCK && what.intersects(went) {
            is_there = false;
        } else if name.starts_with('s') && what.intersects(went) {
            assert!(is_there, "{name} left without the lock: {told:?}");
            left.insert(name[..4].to_owned());
        } else if name == "metadata.json" && what.contains(ReadFlags::MODIFY) {
            was_edited |= is_there;
            assert!(is_there || !catalogue, "edited without the lock: {told:?}");
        }
    }
    assert!(!is_there, "it stays behind: {told:?}");
    assert!(was_edited || !catalogue, "{told:?}");
    left
}

fn lock_of(place: &Place) -> PathBuf {
    place.root.join(LOCK)
}

fn is_free(place: &Place) {
    wait_for("the lock to be given back", || {
        match lock_of(place).exists() {
            true => Err(place.log()),
            false => Ok(()),
        }
    });
}

#[test]
fn prune_size_has_the_lock_from_the_first_session_to_the_last() {
    for layout in LAYOUTS {
        let place = place(layout);
        let heard = Heard::of(&place.root);
        let done = prune(&place, THREE).wait_with_output().expect("it ends");
        assert_eq!(done.status.code(), Some(0), "{layout}: {done:?}");
        assert_eq!(sessions(&place.root), named(5..8), "{layout}");
        let has_catalogue = place.root.join("metadata.json").exists();
        let left = left_under_the_lock(&heard.take(), has_catalogue);
        assert_eq!(left, named(0..5), "{layout}");
        assert!(!lock_of(&place).exists(), "{layout}");
    }
}

#[test]
fn the_agent_has_the_lock_while_sessions_leave() {
    for layout in LAYOUTS {
        let place = place(layout);
        let heard = Heard::of(&place.root);
        let agent = place.agent();
        agent.until("the limit", |root| root["session_count"] == 3);
        is_free(&place);
        assert_eq!(agent.stop(), Some(0), "{layout}");
        assert_eq!(sessions(&place.root), named(5..8), "{layout}");
        // Entries leave a catalogue afterwards, under a lease.
        let left = left_under_the_lock(&heard.take(), false);
        assert_eq!(left, named(0..5), "{layout}");
    }
}

#[test]
fn while_another_program_has_the_lock_nothing_leaves() {
    for layout in LAYOUTS {
        let place = place(layout);
        let theirs = "pid=1 started_at=1\n";
        fs::write(lock_of(&place), theirs).expect("their lock");
        let heard = Heard::of(&place.root);
        let agent = place.agent();
        wait_for("a busy lock", || match place.told("lock.busy").len() {
            0 => Err(place.log()),
            _ => Ok(()),
        });
        // Asked for again, by the agent and by a command.
        assert!(place.run(&["rescan", "--wait"]).status.success());
        let late = prune(&place, THREE).wait_with_output().expect("it ends");
        assert_eq!(late.status.code(), Some(2), "{layout}: {late:?}");
        assert_eq!(sessions(&place.root), named(0..8), "{layout}");
        let text = fs::read_to_string(lock_of(&place)).expect("their lock");
        assert_eq!(text, theirs, "{layout}");
        let told = heard.take();
        // Beside it the agent makes names of its own, to hear itself.
        let is_of_note = |(_, name): &(ReadFlags, String)| name == LOCK || !name.starts_with('.');
        assert!(!told.iter().any(is_of_note), "{layout}: {told:?}");
        // Its end is enough: nobody has to tell the agent.
        fs::remove_file(lock_of(&place)).expect("it is done");
        agent.until("the limit", |root| root["session_count"] == 3);
        is_free(&place);
        assert_eq!(agent.stop(), Some(0), "{layout}");
        let left = left_under_the_lock(&heard.take(), false);
        assert_eq!(left, named(0..5), "{layout}");
    }
}

/// What an old loop does first: it makes the file, or waits where there is one.
fn old_loop_may_begin(place: &Place) -> bool {
    match fs::File::create_new(lock_of(place)) {
        Ok(_) => {
            fs::remove_file(lock_of(place)).expect("its own");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            false
        }
    }
}

#[test]
fn an_old_loop_that_looks_in_the_middle_finds_the_lock() {
    const N: u32 = 900;
    let place = Place::new();
    place.configure(&format!("{}\n{QUIET}", LAYOUTS[0]));
    fill(&place.root, LAYOUTS[0], N);
    assert!(old_loop_may_begin(&place));
    let mut child = prune(&place, THREE);
    let pid = child.id();
    wait_for("a session to leave", || {
        assert!(
            child.try_wait().expect("ours").is_none(),
            "too little to do"
        );
        match sessions(&place.root).len() {
            n if n < N as usize => Ok(()),
            n => Err(n.to_string()),
        }
    });
    freeze(pid);
    let n_left = sessions(&place.root).len();
    assert!(n_left > 3, "too little to do");
    assert!(!old_loop_may_begin(&place));
    // In the form that the old loop writes, and it says whose it is.
    let text = fs::read_to_string(lock_of(&place)).expect("the lock");
    let begins = format!("pid={pid} started_at=");
    let since = text.strip_prefix(&begins).expect(&text);
    let since = since.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    assert!(since > Some(1_600_000_000), "{text}");
    assert_eq!(sessions(&place.root).len(), n_left, "it stands still");
    signal(pid, Signal::CONT);
    let done = child.wait_with_output().expect("it ends");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(sessions(&place.root), named(N - 3..N));
    assert!(old_loop_may_begin(&place));
}
