//! Symlinks, swaps and mounts: whatever lies in the root or is put there during a prune,
//! nothing outside of it is touched.

#![expect(
    clippy::print_stdout,
    reason = "seeds, figures and skipped parts are for who reads the run"
)]

use crate::support::recount;
use crate::support::running::{Place, make_session, wait_for};
use housekeeper::clock::SystemClock;
use housekeeper::disk::records::RecordDir;
use housekeeper::disk::remove::{is_kept, leftovers, remove_aside};
use housekeeper::disk::tree::Tree;
use housekeeper::model::bytes::Bytes;
use housekeeper::model::path::RelPath;
use housekeeper::model::plan::{Because, Body, Victim};
use housekeeper::model::report::{Outcome, Removed, Skip};
use housekeeper::model::seen::FileId;
use housekeeper::model::session::{Key, SessionId};
use housekeeper::model::time::Clock;
use housekeeper::prune::executor::Executor;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LAYOUT: &str = "[root.layout]\nmetadata = \"metadata.json\"\n\
     [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
     [root.protect]\nquiet = \"0s\"\n";

/// A directory beside the root with files, directories and a session's metadata in it.
fn outside(place: &Place) -> PathBuf {
    let outside = place.beside("outside");
    fs::create_dir_all(outside.join("deep/er")).expect("directories");
    for name in ["a", "deep/b", "deep/er/c"] {
        fs::write(outside.join(name), vec![b'o'; 5000]).expect("a file");
    }
    let old = r#"{"created_at":"2001-01-01T00:00:00Z"}"#;
    fs::write(outside.join("metadata.json"), old).expect("metadata");
    outside
}

fn sessions(place: &Place, n: i64) {
    let staging = place.beside("staging");
    for n in 0..n {
        make_session(&place.root, &staging, &format!("s{n}"), 1000 - n, (5, 2000));
    }
}

fn prune(place: &Place, bytes: u64) -> (Option<i32>, Value) {
    let mebibytes = format!("{}", bytes as f64 / (1 << 20) as f64);
    let output = place.run(&["prune-size", "--json", "--max-mb", &mebibytes]);
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), document)
}

#[test]
fn symlinks_in_place_of_sessions_and_in_them_are_never_followed() {
    let place = Place::new();
    place.configure(LAYOUT);
    let outside = outside(&place);
    sessions(&place, 4);
    let root = &place.root;
    symlink(&outside, root.join("linked")).expect("a symlink");
    symlink("/", root.join("s0/to-root")).expect("a symlink");
    symlink(&outside, root.join("s0/to-outside")).expect("a symlink");
    symlink(outside.join("a"), root.join("s1/to-file")).expect("a symlink");
    symlink("..", root.join("s1/up")).expect("a symlink");
    // Its metadata is a symlink to one that looks very old: not believed, never removed.
    fs::remove_file(root.join("s3/metadata.json")).expect("a file");
    symlink(outside.join("metadata.json"), root.join("s3/metadata.json")).expect("a symlink");
    let before = recount::snapshot(&outside);

    let scanned = place.run(&["scan", "--json"]);
    let scanned: Value = serde_json::from_slice(&scanned.stdout).expect("one document");
    let scanned = &scanned["roots"][0];
    assert_eq!(scanned["bytes"], recount::directories(root).apparent);
    assert_eq!(scanned["session_count"], 4);
    let anomalies = scanned["anomalies"].to_string();
    assert!(
        anomalies.contains("symlink") && anomalies.contains("linked"),
        "{anomalies}"
    );

    let (code, document) = prune(&place, 1);
    assert_eq!(code, Some(1), "what may not go is still over: {document}");
    assert_eq!(recount::snapshot(&outside), before);
    let left = recount::sessions(root);
    assert_eq!(left.into_iter().collect::<Vec<_>>(), ["s3"], "{document}");
    assert!(fs::symlink_metadata(root.join("linked")).is_ok_and(|m| m.is_symlink()));
    assert_eq!(place.trash(), Vec::<String>::new());
}

fn refused_control(replace: impl Fn(&Path, &Path)) {
    let place = Place::new();
    place.configure(LAYOUT);
    let outside = outside(&place);
    sessions(&place, 4);
    replace(&place.root, &outside);
    let before = recount::snapshot(&outside);
    let there = recount::sessions(&place.root);

    let (code, document) = prune(&place, 1);
    assert_eq!(code, Some(1), "{document}");
    assert_eq!(recount::snapshot(&outside), before);
    assert_eq!(
        recount::sessions(&place.root),
        there,
        "nothing may go without a lock"
    );

    place.configure(&format!("{LAYOUT}[root.limits]\nmax_size = 1"));
    let agent = place.agent();
    wait_for("a clear error", || {
        let log = place.log();
        let line = log
            .lines()
            .find(|line| line.contains("lock.") && line.contains("\"WARN\""));
        line.map(str::to_owned).ok_or(log)
    });
    assert_eq!(recount::snapshot(&outside), before);
    assert_eq!(recount::sessions(&place.root), there);
    assert_eq!(agent.stop(), Some(0), "no crash");
}

#[test]
fn a_symlink_in_place_of_the_agents_own_directory_is_refused() {
    refused_control(|root, outside| {
        symlink(outside, root.join(".housekeeper")).expect("a symlink");
    });
}

#[test]
fn a_symlink_in_place_of_the_trash_is_refused() {
    refused_control(|root, outside| {
        fs::create_dir(root.join(".housekeeper")).expect("a directory");
        symlink(outside, root.join(".housekeeper/trash")).expect("a symlink");
    });
}

#[test]
fn a_trash_that_becomes_a_symlink_while_the_agent_runs_is_not_followed() {
    let place = Place::new();
    place.configure(&format!("{LAYOUT}[root.limits]\nmax_size = 25000"));
    let outside = outside(&place);
    sessions(&place, 3);
    let agent = place.agent();
    agent.until("the first prune", |root| root["pruned"]["sessions"] == 1);
    let before = recount::snapshot(&outside);
    let own = place.root.join(".housekeeper");
    for (n, name) in ["trash", ""].into_iter().enumerate() {
        let at = own.join(name);
        fs::rename(&at, place.beside(&format!("moved{n}"))).expect("it moves");
        let at = at.components().collect::<PathBuf>();
        symlink(&outside, &at).expect("a symlink");
        let staging = place.beside("staging");
        make_session(
            &place.root,
            &staging,
            &format!("new{n}"),
            -1 - n as i64,
            (5, 2000),
        );
        wait_for("a warning about the lock", || {
            let log = place.log();
            if log.contains("lock.failed") {
                Ok(())
            } else {
                Err(log)
            }
        });
        fs::remove_file(&at).expect("the symlink goes");
        agent.until("the limit", |root| root["bytes"].as_u64() <= Some(25_000));
    }
    assert_eq!(recount::snapshot(&outside), before);
    assert_eq!(agent.stop(), Some(0));
}

fn victim(name: &str, id: FileId) -> Victim {
    Victim {
        session: SessionId {
            slot: 0,
            generation: 0,
        },
        key: Key::from(name.as_bytes()),
        path: RelPath::new(name.as_bytes()).expect("a path"),
        body: Body::Tree {
            id,
            proofs: Vec::new(),
        },
        freed: Bytes::ZERO,
        created: None,
        because: Because::TooMany {
            n_sessions: 1,
            max_count: 1,
        },
    }
}

/// A thread that exchanges two names as fast as it can. `n_swaps` counts.
fn swapper(a: PathBuf, b: PathBuf, stop: Arc<AtomicBool>, n_swaps: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        // One of them is gone for a moment, with every victim.
        if renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).is_ok() {
            n_swaps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is put in the victim's place: a symlink to the outside, or another directory.
#[derive(Clone, Copy, PartialEq)]
enum Other {
    Symlink,
    Directory,
}

/// So many victims must really have gone, and so many been found replaced.
const ENOUGH: u32 = 100;

fn race(other: Other, n_attempts: u32) -> (u32, u32, u32) {
    let place = Place::new();
    let outside = outside(&place);
    let before = recount::snapshot(&outside);
    let (at, beside) = (place.root.join("s"), place.root.join("x"));
    match other {
        Other::Symlink => symlink(&outside, &beside).expect("a symlink"),
        Other::Directory => {
            fs::create_dir(&beside).expect("a directory");
            fs::write(beside.join("precious"), "precious").expect("a file");
        }
    }
    let stranger = fs::symlink_metadata(&beside).expect("it is there").ino();
    let tree = Arc::new(Tree::open(&place.root).expect("a root"));
    let records = Arc::new(RecordDir::new(tree.clone(), None));
    let mut executor = Executor::new(tree.clone(), records);
    let clock = SystemClock::start();
    let stop = Arc::new(AtomicBool::new(false));
    let n_swaps = Arc::new(AtomicU64::new(0));
    let thread = {
        let (a, b, stop, n_swaps) = (at.clone(), beside.clone(), stop.clone(), n_swaps.clone());
        std::thread::spawn(move || swapper(a, b, stop, n_swaps))
    };
    let (mut n_removed, mut n_strangers, mut n_replaced) = (0, 0, 0);
    let staged = place.beside("staged");
    let mut session = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut n_tried = 0;
    // Where the two threads get few turns together, a few more attempts.
    while n_tried < n_attempts
        || n_removed < ENOUGH
        || n_replaced < ENOUGH
        || n_swaps.load(Ordering::Relaxed) <= u64::from(ENOUGH)
    {
        assert!(Instant::now() < deadline, "they hardly ever met");
        n_tried += 1;
        if session == 0 {
            fs::create_dir(&staged).expect("a directory");
            fs::write(staged.join("f"), "x").expect("a file");
            session = fs::metadata(&staged).expect("it is there").ino();
            // Into whichever of the two names is free.
            let free = if at.symlink_metadata().is_ok() {
                &beside
            } else {
                &at
            };
            renameat_with(CWD, &staged, CWD, free, RenameFlags::NOREPLACE).expect("a free name");
        }
        let id = FileId {
            dev: tree.id().dev,
            ino: session,
        };
        match executor.remove(&victim("s", id), clock.now(), Duration::ZERO, &[]) {
            Outcome::Aside(asides) => {
                n_removed += 1;
                for aside in &asides {
                    let removed = remove_aside(&tree, aside);
                    assert!(matches!(&removed, Removed::Trash { left, .. } if left.is_empty()));
                }
                session = 0;
            }
            Outcome::Skipped(Skip::Stranger) => n_strangers += 1,
            Outcome::Skipped(Skip::StrangerKept) => {
                n_strangers += 1;
                put_back(&place, stranger, &at, &beside);
            }
            Outcome::Skipped(Skip::Replaced) => n_replaced += 1,
            Outcome::Gone => {}
            outcome => panic!("{outcome:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().expect("no panic");
    assert_eq!(recount::snapshot(&outside), before);
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.ino() == stranger);
    assert!(
        is_there(&at) || is_there(&beside),
        "the stranger stays in the tree"
    );
    if other == Other::Directory {
        let file = [at.join("precious"), beside.join("precious")];
        assert!(
            file.iter()
                .any(|f| fs::read(f).is_ok_and(|text| text == b"precious"))
        );
    }
    // What is marked as a stranger's no start takes for its own.
    let found = leftovers(&tree).expect("a trash");
    assert!(found.strangers.iter().all(|name| is_kept(name)));
    (n_removed, n_strangers, n_replaced)
}

/// The stranger's place was taken by then: it has to lie in the trash, whole.
fn put_back(place: &Place, stranger: u64, at: &Path, beside: &Path) {
    let trash = place.root.join(".housekeeper/trash");
    let kept = fs::read_dir(&trash)
        .expect("a trash")
        .filter_map(Result::ok)
        .find(|entry| entry.metadata().is_ok_and(|meta| meta.ino() == stranger))
        .expect("a stranger is put back or kept");
    let to = if at.symlink_metadata().is_ok() {
        beside
    } else {
        at
    };
    fs::rename(kept.path(), to).expect("it goes back");
}

#[test]
fn a_symlink_or_directory_swapped_in_during_the_prune_is_never_removed() {
    for other in [Other::Symlink, Other::Directory] {
        let (n_removed, n_strangers, n_replaced) = race(other, 4000);
        println!("removed {n_removed}, strangers caught {n_strangers}, seen before {n_replaced}");
    }
}

#[test]
fn the_agent_prunes_under_a_swapping_thread_and_touches_nothing_outside() {
    let place = Place::new();
    place.configure(&format!("{LAYOUT}[root.limits]\nmax_size = 25000"));
    let outside = outside(&place);
    let before = recount::snapshot(&outside);
    let agent = place.agent();
    let stop = Arc::new(AtomicBool::new(false));
    let n_swaps = Arc::new(AtomicU64::new(0));
    let (a, b) = (place.root.join("swapped"), place.beside("link"));
    symlink(&outside, &b).expect("a symlink");
    let thread = {
        let (a, b, stop, n_swaps) = (a.clone(), b.clone(), stop.clone(), n_swaps.clone());
        std::thread::spawn(move || swapper(a, b, stop, n_swaps))
    };
    let staging = place.beside("staging");
    for n in 0..60 {
        // The oldest of all, so that it is always the victim.
        if a.symlink_metadata().is_err() {
            make_session(&place.root, &staging, "swapped", 1_000_000, (5, 2000));
        }
        make_session(&place.root, &staging, &format!("n{n}"), 1000 - n, (5, 2000));
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().expect("no panic");
    agent.until("exact figures within the limit", |root| {
        root["bytes"] == recount::directories(&place.root).apparent
            && root["bytes"].as_u64() <= Some(25_000)
    });
    assert_eq!(recount::snapshot(&outside), before);
    assert!(n_swaps.load(Ordering::Relaxed) > 10, "they met");
    assert_eq!(agent.stop(), Some(0));
}

/// Mounted for the length of a test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "it is unmounted");
    }
}

/// Binds `what` over something in the oldest of three sessions, and prunes all that may go.
fn bound_into_a_session(is_dir: bool) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may mount");
        return;
    }
    let place = Place::new();
    place.configure(LAYOUT);
    let outside = outside(&place);
    sessions(&place, 3);
    let at = place.root.join("s0/mounted");
    let mut what = outside.clone();
    if is_dir {
        fs::create_dir(&at).expect("a directory");
    } else {
        fs::write(&at, b"").expect("a file");
        what = place.beside("image");
        fs::write(&what, vec![7; 5_000_000]).expect("a file");
    }
    let bound = Command::new("mount")
        .arg("--bind")
        .args([&what, &at])
        .status();
    if !bound.is_ok_and(|status| status.success()) {
        println!("skipped: bind mounts are refused here");
        return;
    }
    let _mounted = Mounted(at);
    let before = recount::snapshot(&outside);
    let scanned = place.run(&["scan", "--json"]);
    let scanned: Value = serde_json::from_slice(&scanned.stdout).expect("one document");
    let root = &scanned["roots"][0];
    let anomalies = &root["anomalies"];
    let reported = |path: &str| {
        let list = anomalies.as_array().expect("a list");
        list.iter()
            .any(|a| a["kind"] == "foreign_mount" && a["path"] == path)
    };
    assert!(reported("s0/mounted"), "{anomalies}");
    assert!(reported("s0"), "the session is named, too: {anomalies}");
    assert!(
        root["bytes"].as_u64() < Some(1_000_000),
        "not the root's: {root}"
    );
    let (code, document) = prune(&place, 1);
    assert_eq!(code, Some(1), "{document}");
    assert_eq!(recount::snapshot(&outside), before);
    let left: Vec<_> = recount::sessions(&place.root).into_iter().collect();
    assert_eq!(left, ["s0"], "{document}");
}

#[test]
fn a_directory_mounted_into_a_session_keeps_its_content_and_its_session() {
    bound_into_a_session(true);
}

/// As containers do with single files.
#[test]
fn a_file_mounted_into_a_session_counts_nothing_and_keeps_its_session() {
    bound_into_a_session(false);
}

/// Whoever owns a directory above the root puts a symlink in its place: the root's path leads
/// to somebody else's directory then, which looks just like one to be pruned.
#[test]
fn a_symlink_above_the_root_leads_nowhere() {
    let mut place = Place::new();
    place.root = place.beside("home/app/log");
    fs::create_dir_all(&place.root).expect("a root");
    place.configure(&format!("{LAYOUT}[root.limits]\nmax_size = 50_000\n"));
    let config = place.beside("config.toml");
    let held = fs::read_to_string(&config)
        .expect("written")
        .replace("first_start = \"enforce\"", "first_start = \"hold\"");
    fs::write(&config, held).expect("written");
    sessions(&place, 2);
    let others = place.beside("others");
    fs::create_dir_all(others.join("log")).expect("a directory");
    let staging = place.beside("staging");
    for n in 0..20 {
        make_session(
            &others.join("log"),
            &staging,
            &format!("t{n}"),
            1000 - n,
            (5, 2000),
        );
    }
    let before = recount::snapshot(&others);
    let agent = place.agent();
    agent.until("it is known", |root| root["bytes"].as_u64() > Some(20_000));
    let app = place.beside("home/app");
    fs::rename(&app, place.beside("home/away")).expect("it moves");
    symlink(&others, &app).expect("a symlink");
    agent.until("nothing is there", |root| {
        root["watch"]["state"] == "absent"
    });
    // Looked for once a second: it is passed over again and again.
    let passed = std::time::Instant::now() + Duration::from_millis(2500);
    agent.until("it stays so", |root| {
        assert_eq!(root["watch"]["state"], "absent", "{root}");
        std::time::Instant::now() > passed
    });
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(recount::snapshot(&others), before);
    // Started anew the path is resolved anew: that is another directory, and nobody accepted it.
    let agent = place.agent();
    agent.until("it is held", |root| root["held"] == true);
    assert_eq!(agent.root()["pruned"]["sessions"], 0);
    drop(agent);
    let sessions = recount::sessions(&others.join("log"));
    assert_eq!(sessions.len(), 20);
}
