//! Sessions that are files: each goes by one rename beside its place, in a root that gets no
//! directory of the agent's. SIGKILL at random moments: a file is there whole or not at all, the
//! next start finishes what was left, and nothing that only looks like it.

#![expect(
    clippy::print_stdout,
    reason = "seeds and figures are for who reads the run"
)]

use crate::support::running::{Dice, Place, wait_for};
use housekeeper::clock::SystemClock;
use housekeeper::model::report::LockTry;
use housekeeper::model::time::Clock;
use housekeeper::prune::lock::RootLock;
use rustix::fd::AsFd;
use rustix::fs::FlockOperation;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use ulid::Ulid;

const FILE: usize = 200_000;
const KEPT: usize = 4;

/// Logs by their names' numbers, the smallest the oldest.
fn configured(place: &Place, agent: &str) {
    place.configure(&format!(
        "[root.layout]\nkind = \"files\"\nsessions = \"**/*.log\"\npattern = '^(?<created>\\d+)\\.log$'\n\
         [root.layout.created_at]\nfrom = [{{ name = \"created\", as = \"epoch_s\" }}]\n\
         [root.limits]\nmax_size = {}\n[root.protect]\nquiet = \"0s\"\n{agent}",
        FILE * KEPT
    ));
}

fn log(root: &Path, n: usize) -> PathBuf {
    let path = root.join(format!("{:010}.log", 1_000_000 + n));
    fs::write(&path, vec![b'x'; FILE]).expect("a log");
    path
}

fn names(root: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(root).expect("the root");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.into_string().expect("UTF-8"))
        .collect()
}

fn logs(root: &Path) -> BTreeSet<String> {
    let mut logs = names(root);
    logs.retain(|name| name.ends_with(".log"));
    logs
}

fn left(root: &Path) -> Vec<String> {
    let mut left = names(root);
    left.retain(|name| name.starts_with(".hk-"));
    left.into_iter().collect()
}

/// The root's lock in the state directory.
fn lock_in_state(place: &Place) -> PathBuf {
    let roots = fs::read_dir(place.beside("state/roots")).expect("corners of roots");
    let corner = roots.map(|corner| corner.expect("a corner").path()).next();
    corner.expect("one").join("lock")
}

/// Gives a file the name that a run which was killed at `at` would have left it under.
fn strand(path: &Path, at: SystemTime) -> PathBuf {
    let stat = fs::metadata(path).expect("a file");
    let ulid = Ulid::from_datetime(at);
    let name = format!(".hk-{ulid}-{:x}-{:x}", stat.dev(), stat.ino());
    let to = path.with_file_name(name);
    fs::rename(path, &to).expect("it moves");
    to
}

#[test]
fn a_root_of_files_gets_no_directory_and_its_lock_lies_in_the_state_directory() {
    let place = Place::new();
    configured(&place, "");
    for n in 0..KEPT {
        log(&place.root, n);
    }
    let agent = place.agent();
    for n in KEPT..3 * KEPT {
        log(&place.root, n);
    }
    agent.until("the limit", |root| root["pruned"]["sessions"] == 2 * KEPT);
    wait_for("nothing that is left", || match left(&place.root) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(
        names(&place.root),
        logs(&place.root),
        "no directory was made"
    );
    assert_eq!(logs(&place.root).len(), KEPT);
    let root = agent.root();
    assert_eq!(root["unowned"]["entries"], 0, "{root}");
    assert_eq!(root["anomalies"], 0, "{root}");
    assert!(lock_in_state(&place).is_file());
    // Who waits for a barrier gets it without a scan, by a cookie that leaves nothing.
    let answer = place.run(&["rescan", "--wait", "--json"]);
    assert!(answer.status.success(), "{answer:?}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(names(&place.root), logs(&place.root));
}

#[test]
fn who_holds_the_lock_in_the_state_directory_keeps_the_others_out() {
    let place = Place::new();
    configured(&place, "");
    let prune = ["prune-size", "--max-mb", "0.3"];
    assert_eq!(place.run(&prune).status.code(), Some(0), "nothing to do");
    for n in 0..KEPT {
        log(&place.root, n);
    }
    let path = lock_in_state(&place);
    let lock = fs::File::options().write(true).open(&path).expect("a lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("it is free");
    let before = fs::read(&path).expect("its line");
    let busy = place.run(&prune);
    assert_eq!(busy.status.code(), Some(2), "{busy:?}");
    assert_eq!(logs(&place.root).len(), KEPT, "nothing went");
    assert_eq!(fs::read(&path).expect("its line"), before);
    drop(lock);
    assert_eq!(place.run(&prune).status.code(), Some(0));
    assert_eq!(logs(&place.root).len(), 1);
    assert_eq!(names(&place.root), logs(&place.root));
}

/// Another pruner may use it, such as one of an older version.
#[test]
fn a_directory_of_the_agents_that_is_there_already_has_the_lock() {
    let place = Place::new();
    configured(&place, "");
    fs::create_dir_all(place.root.join(".housekeeper/trash")).expect("a directory");
    for n in 0..KEPT {
        log(&place.root, n);
    }
    let done = place.run(&["prune-size", "--max-mb", "0.3"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(place.root.join(".housekeeper/lock").is_file());
    assert_eq!(place.trash(), [""; 0]);
}

#[test]
fn a_killed_agent_leaves_no_half_file_and_the_next_start_finishes() {
    const SEED: u64 = 55_443_322;
    const N_ROUNDS: usize = 100;
    println!("seed: {SEED}");
    let mut dice = Dice::new(SEED);
    let place = Place::new();
    configured(&place, "");
    let (mut n_next, mut n_left) = (0, 0);
    for round in 0..N_ROUNDS {
        while logs(&place.root).len() < KEPT + 40 {
            log(&place.root, n_next);
            n_next += 1;
        }
        let before = logs(&place.root);
        let mut agent = place.spawn_agent();
        let deadline = Instant::now() + Duration::from_secs(20);
        while before.iter().all(|name| place.root.join(name).exists()) {
            assert!(Instant::now() < deadline, "nothing was pruned");
            std::hint::spin_loop();
        }
        let until = Instant::now() + Duration::from_micros(dice.below(1_500));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        agent.kill();
        let after = logs(&place.root);
        let newest: BTreeSet<_> = before.iter().rev().take(after.len()).cloned().collect();
        assert_eq!(after, newest, "only the oldest may be gone");
        assert!(after.len() >= KEPT);
        for name in &after {
            let size = fs::metadata(place.root.join(name)).expect("a log").len();
            assert_eq!(size, FILE as u64, "{name} is half there");
        }
        n_left += usize::from(!left(&place.root).is_empty());
        if round % 20 == 19 {
            finishes(&place);
        }
    }
    println!("{n_left} of {N_ROUNDS} kills left something beside its place");
    assert!(n_left > 5, "the kills come too late: {n_left}");
}

fn finishes(place: &Place) {
    let agent = place.agent();
    agent.until("nothing that is left", |root| {
        left(&place.root).is_empty()
            && root["unowned"]["entries"] == 0
            && root["bytes"] == logs(&place.root).len() * FILE
    });
    assert_eq!(logs(&place.root).len(), KEPT);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(names(&place.root), logs(&place.root));
}

#[test]
fn what_a_killed_run_left_deeper_down_goes_and_is_no_session() {
    let backend = Place::new().backend;
    // Where nothing is polled soon, nobody but the agent itself says that it removed something.
    [backend, "poll"].into_iter().for_each(leftover_deeper_down);
}

fn leftover_deeper_down(backend: &'static str) {
    let mut place = Place::new();
    place.backend = backend;
    // A glob that writes the dot owns hidden files.
    place.configure(
        "[root.layout]\nkind = \"files\"\nsessions = \"*/.*\"\neverything = true\n\
         remove_empty_parents = true\n[root.layout.created_at]\nfrom = [\"mtime\"]\n\
         [root.limits]\nmax_size = \"1 GiB\"\n[root.protect]\nquiet = \"0s\"",
    );
    let (deep, kept) = (place.root.join("a"), place.root.join("b"));
    fs::create_dir(&deep).expect("a directory");
    fs::create_dir(&kept).expect("a directory");
    fs::write(kept.join(".session"), b"1").expect("a session");
    fs::write(deep.join("x"), b"123").expect("a file");
    let stranded = strand(&deep.join("x"), SystemTime::now());
    // Whoever only looks leaves it, as a name that nobody owns.
    let scan = place.run(&["scan", "--json"]);
    let scan: serde_json::Value = serde_json::from_slice(&scan.stdout).expect("JSON");
    let root = &scan["roots"][0];
    assert_eq!(root["session_count"], 1, "{root}");
    assert_eq!(root["unowned"]["entries"], 1, "{root}");
    assert_eq!(root["unowned"]["bytes"], 3, "{root}");
    assert!(place.run(&["plan"]).status.success());
    assert!(stranded.exists());
    let agent = place.agent();
    agent.until("an end of it", |root| {
        !deep.exists() && root["unowned"]["entries"] == 0
    });
    assert!(kept.join(".session").exists());
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn what_only_looks_like_a_leftover_stays() {
    let place = Place::new();
    configured(&place, "");
    let root = &place.root;
    log(root, 1);
    let file = |name: &str| {
        let path = root.join(name);
        fs::write(&path, b"precious").expect("a file");
        path
    };
    let hour = Duration::from_secs(3600);
    let mut stays = vec![file(".hk-notes"), file(".hk-cookie-1-1")];
    let cookie = root.join(format!(".hk-cookie-{}", Ulid::generate()));
    fs::write(&cookie, b"").expect("a file");
    // Another inode's.
    let other = strand(&file("other"), SystemTime::now());
    let swapped = file("swapped");
    fs::remove_file(&other).expect("it goes");
    fs::rename(swapped, &other).expect("it moves");
    stays.push(other);
    // Written to after it left.
    stays.push(strand(&file("written"), SystemTime::now() - hour));
    // A directory, and a file where no session can be.
    let dir = root.join("d");
    fs::create_dir(&dir).expect("a directory");
    stays.push(strand(&dir, SystemTime::now()));
    let hidden = root.join(".git");
    fs::create_dir(&hidden).expect("a directory");
    fs::write(hidden.join("x"), b"precious").expect("a file");
    stays.push(strand(&hidden.join("x"), SystemTime::now()));
    // A mtime in the future is no write.
    let ahead = file("ahead");
    let opened = fs::File::options().write(true).open(&ahead);
    let set = opened.and_then(|file| file.set_modified(SystemTime::now() + hour));
    set.expect("a time");
    let ahead = strand(&ahead, SystemTime::now());
    // Given by a kernel that had another number for the device; and for an inode that did not
    // live then.
    let other_device = |path: &Path, at| {
        let stat = fs::metadata(path).expect("a file");
        let (ulid, dev) = (Ulid::from_datetime(at), stat.dev() + 1);
        let to = path.with_file_name(format!(".hk-{ulid}-{dev:x}-{:x}", stat.ino()));
        fs::rename(path, &to).expect("it moves");
        to
    };
    let moved = other_device(&file("moved"), SystemTime::now());
    let reborn = file("reborn");
    let opened = fs::File::options().write(true).open(&reborn);
    let set = opened.and_then(|file| file.set_modified(SystemTime::now() - 2 * hour));
    set.expect("a time");
    stays.push(other_device(&reborn, SystemTime::now() - hour));
    // Its time has not come.
    stays.push(strand(&file("later"), SystemTime::now() + hour));
    let goes = strand(&file("goes"), SystemTime::now());
    // More than are judged in a turn, all told of in one line.
    for n in 0..300 {
        let at = SystemTime::now() - hour;
        stays.push(strand(&file(&format!("many-{n}")), at));
    }
    let goes = [goes, ahead, moved, cookie];

    let agent = place.agent();
    wait_for("the one that is ours to go", || {
        match goes.iter().find(|path| path.exists()) {
            Some(path) => Err(format!("{path:?}: {}", place.log())),
            None => Ok(()),
        }
    });
    let told = wait_for("a line about what stays", || {
        place.told("trash.left").pop().ok_or_else(|| place.log())
    });
    for path in &stays {
        assert!(path.exists(), "{path:?}");
    }
    assert_eq!(place.told("trash.left").len(), 1, "{}", place.log());
    // Not the directory, the one out of place, and the other inode's: those are no leftovers.
    assert_eq!(told["entries"], 303, "{told}");
    let answer = place.run(&["rescan", "--wait"]);
    assert!(answer.status.success(), "{answer:?}");
    let status = agent.root();
    assert_eq!(status["session_count"], 1, "{status}");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn observing_leaves_what_a_killed_run_left() {
    let place = Place::new();
    configured(&place, "");
    let config = place.beside("config.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(
        &config,
        text.replace("[agent]\n", "[agent]\nmode = \"observe\"\n"),
    )
    .expect("it");
    log(&place.root, 1);
    let stranded = strand(
        &log(&place.root, 2),
        SystemTime::now() + Duration::from_secs(9),
    );
    let agent = place.agent();
    let answer = place.run(&["rescan", "--wait"]);
    assert!(answer.status.success(), "{answer:?}");
    agent.until("its report", |root| root["unowned"]["entries"] == 1);
    assert!(stranded.exists());
    assert_eq!(agent.stop(), Some(0));
}

/// A place with the same root, and a state directory and a `/run` of its own, as a container has.
fn contained(place: &Place) -> Place {
    let own = "mount -t tmpfs none /run && exec \"$@\"";
    let mut other = Place::new();
    other.root.clone_from(&place.root);
    other.wrapper = ["unshare", "-m", "sh", "-c", own, "sh"]
        .map(str::to_owned)
        .to_vec();
    configured(&other, "");
    other
}

#[test]
fn pruners_in_containers_of_their_own_exclude_each_other() {
    let place = Place::new();
    let others = [contained(&place), contained(&place)];
    for n in 0..3 * KEPT {
        log(&place.root, n);
    }
    let prune = |other: &Place| {
        let done = other.run(&["prune-size", "--json", "--max-mb", "0.77"]);
        (done.status.code(), logs(&place.root).len())
    };
    // As one in a third container would hold it.
    let root = fs::File::open(&place.root).expect("the root");
    let corner = fs::File::open(place.beside("")).expect("a directory");
    let mut third = RootLock::new(Duration::from_secs(3600), None).apart();
    let now = SystemClock::start().now();
    let taken = third.try_take(root.as_fd(), Ok(corner.as_fd()), now);
    assert_eq!(taken, LockTry::Taken);
    for other in &others {
        assert_eq!(prune(other), (Some(2), 3 * KEPT));
    }
    third.release().expect("it is ours");
    // `flock` on the root itself is others' business.
    rustix::fs::flock(&root, FlockOperation::LockExclusive).expect("locked");
    assert_eq!(prune(&others[0]), (Some(0), KEPT));

    // Two agents on one root bring it to its limit, not below.
    let agents = others.each_ref().map(Place::agent);
    for n in 3 * KEPT..20 * KEPT {
        log(&place.root, n);
    }
    wait_for("the limit", || match logs(&place.root).len() {
        n if n <= KEPT => Ok(()),
        n => Err(format!("{n} {} {}", others[0].log(), others[1].log())),
    });
    for (agent, other) in agents.into_iter().zip(&others) {
        assert!(other.run(&["rescan", "--wait"]).status.success());
        assert_eq!(agent.stop(), Some(0));
    }
    assert_eq!(logs(&place.root).len(), KEPT);
    assert_eq!(
        names(&place.root),
        logs(&place.root),
        "nothing was left in the root"
    );
}
