//! One holder at a time, whoever has died or lies.

use super::*;
use crate::model::time::Time;
use std::path::Path;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Now {
    Now {
        wall: Time::UNIX_EPOCH,
        tick: Tick::default(),
    }
}

fn dir(path: &Path) -> File {
    File::open(path).expect("a directory")
}

fn sighting(line: &str, since_boot: u64) -> Sighting {
    Sighting {
        line: line.into(),
        mtime_ns: 1,
        boot: "b".into(),
        since_boot: Duration::from_secs(since_boot),
    }
}

#[test]
fn one_at_a_time_and_the_holder_is_named() {
    let hold = tempfile::tempdir().expect("a directory");
    let control = dir(hold.path());
    let mut first = RootLock::new(HOUR, None);
    let mut second = RootLock::new(HOUR, None);
    assert_eq!(
        first.try_take(control.as_fd(), Ok(control.as_fd()), now()),
        LockTry::Taken
    );
    let line = std::fs::read(hold.path().join(NAME)).expect("a line");
    let LockTry::Busy(Some(holder)) = second.try_take(control.as_fd(), Ok(control.as_fd()), now())
    else {
        panic!("it is held");
    };
    assert_eq!(holder.pid, std::process::id());
    assert_eq!(std::fs::read(hold.path().join(NAME)).expect("a line"), line);
    first.release().expect("it is ours");
    let blank = std::fs::read(hold.path().join(NAME)).expect("no line");
    assert!(blank.iter().all(|b| *b == b' '), "nobody is named any more");
    assert_eq!(blank.len(), line.len(), "the next line needs no space");
    assert_eq!(
        second.try_take(control.as_fd(), Ok(control.as_fd()), now()),
        LockTry::Taken
    );
}

#[test]
fn a_dead_holders_lock_is_free_at_once() {
    let hold = tempfile::tempdir().expect("a directory");
    let control = dir(hold.path());
    let mut lock = RootLock::new(HOUR, None);
    for line in [
        format!(r#"{{"host":"{}","pid":1,"since":"x"}}"#, lock.host),
        format!(
            r#"{{"host":"other","pid":1,"since":"x","boot":"{}"}}"#,
            lock.boot
        ),
        "\0\0\0\0".into(),
    ] {
        std::fs::write(hold.path().join(NAME), &line).expect("a line");
        assert_eq!(
            lock.try_take(control.as_fd(), Ok(control.as_fd()), now()),
            LockTry::Taken,
            "{line}"
        );
        lock.release().expect("it is ours");
    }
}

#[test]
fn another_hosts_line_is_watched_for_the_whole_stale_time() {
    let hold = tempfile::tempdir().expect("a directory");
    let control = dir(hold.path());
    let path = hold.path().join(NAME);
    let line = r#"{"host":"elsewhere","pid":7,"since":"x"}"#;
    std::fs::write(&path, line).expect("a line");
    let kept = hold.path().join("observed");
    let mut lock = RootLock::new(HOUR, Some(kept.clone()));
    assert!(
        matches!(lock.try_take(control.as_fd(), Ok(control.as_fd()), now()), LockTry::Busy(Some(h)) if h.pid == 7)
    );
    assert_eq!(std::fs::read(&path).expect("a line"), line.as_bytes());
    // Another command, with what the first one stored, once the time is over.
    let mut later = RootLock::new(Duration::ZERO, Some(kept));
    let taken = later.try_take(control.as_fd(), Ok(control.as_fd()), now());
    assert!(matches!(taken, LockTry::TakenStale(h) if h.host == "elsewhere"));
}

#[test]
fn only_an_unchanged_line_of_this_boot_gets_stale() {
    let old = sighting("a", 100);
    let judged = |seen| judge(Some(old.clone()), seen, HOUR).1;
    assert!(!judged(sighting("a", 3699)));
    assert!(judged(sighting("a", 3700)));
    assert!(!judged(sighting("b", 9000)));
    assert!(!judged(Sighting {
        mtime_ns: 2,
        ..sighting("a", 9000)
    }));
    assert!(!judged(Sighting {
        boot: "c".into(),
        ..sighting("a", 9000)
    }));
    assert!(!judge(None, sighting("a", 9000), Duration::ZERO).1);
}

#[test]
fn a_replaced_or_false_lock_file_locks_nothing() {
    let hold = tempfile::tempdir().expect("a directory");
    let control = dir(hold.path());
    let path = hold.path().join(NAME);
    let mut lock = RootLock::new(HOUR, None);
    assert_eq!(
        lock.try_take(control.as_fd(), Ok(control.as_fd()), now()),
        LockTry::Taken
    );
    lock.release().expect("it is ours");
    std::fs::remove_file(&path).expect("a file");
    let mut other = RootLock::new(HOUR, None);
    assert_eq!(
        other.try_take(control.as_fd(), Ok(control.as_fd()), now()),
        LockTry::Taken
    );
    assert!(matches!(
        lock.try_take(control.as_fd(), Ok(control.as_fd()), now()),
        LockTry::Busy(_)
    ));
    drop(other);
    std::fs::remove_file(&path).expect("a file");
    std::os::unix::fs::symlink("elsewhere", &path).expect("a symlink");
    let tried = lock.try_take(control.as_fd(), Ok(control.as_fd()), now());
    assert!(
        matches!(
            tried,
            LockTry::Failed {
                errno: libc::ELOOP,
                ..
            }
        ),
        "{tried:?}"
    );
    assert!(!hold.path().join("elsewhere").exists());
}

/// There the lock has to lie in the root, where other hosts see it.
#[test]
fn what_the_agent_does_not_know_is_no_local_file_system() {
    assert!(!is_local(dir(Path::new("/proc")).as_fd()));
    assert!(!is_local(dir(Path::new("/sys")).as_fd()));
}

/// As on a full disk.
const NO_SPACE: Result<BorrowedFd<'_>, i32> = Err(libc::ENOSPC);

#[test]
fn without_a_lock_file_the_hosts_lock_has_to_do() {
    let hold = tempfile::tempdir().expect("a directory");
    let root = dir(hold.path());
    let mut first = RootLock::new(HOUR, None);
    let mut second = RootLock::new(HOUR, None);
    let taken = first.try_take(root.as_fd(), NO_SPACE, now());
    if !first.host_is_enough(root.as_fd()) {
        assert!(matches!(taken, LockTry::Failed { .. }), "not local");
        return;
    }
    assert_eq!(taken, LockTry::Taken);
    for control in [NO_SPACE, Ok(root.as_fd())] {
        let busy = second.try_take(root.as_fd(), control, now());
        assert_eq!(busy, LockTry::Busy(None));
    }
    assert!(
        !hold.path().join(NAME).exists(),
        "a busy caller makes nothing"
    );
    first.touch(Tick(HOUR)).expect("nothing to touch");
    first.release().expect("it is ours");
    let taken = second.try_take(root.as_fd(), Ok(root.as_fd()), now());
    assert_eq!(taken, LockTry::Taken);
    let busy = first.try_take(root.as_fd(), NO_SPACE, now());
    assert!(matches!(busy, LockTry::Busy(_)), "{busy:?}");
    drop(second);
    assert_eq!(
        first.try_take(root.as_fd(), NO_SPACE, now()),
        LockTry::Taken
    );
}

#[test]
fn who_cannot_take_the_file_lets_go_of_the_hosts_lock() {
    let hold = tempfile::tempdir().expect("a directory");
    let root = dir(hold.path());
    let line = r#"{"host":"elsewhere","pid":7,"since":"x"}"#;
    std::fs::write(hold.path().join(NAME), line).expect("a line");
    let mut first = RootLock::new(HOUR, None);
    let busy = first.try_take(root.as_fd(), Ok(root.as_fd()), now());
    assert!(matches!(busy, LockTry::Busy(Some(_))), "{busy:?}");
    let failed = first.try_take(root.as_fd(), Err(libc::EROFS), now());
    assert!(matches!(failed, LockTry::Failed { .. }), "{failed:?}");
    assert!(!first.first.is_held());
    let mut other = HostLock::default();
    assert!(other.try_take(root.as_fd()), "it is free");
}

/// Whoever may read the root can lock its directory: that is no pruner's business.
#[test]
fn a_lock_on_the_root_itself_keeps_nobody_away() {
    let hold = tempfile::tempdir().expect("a directory");
    let root = dir(hold.path());
    let others = dir(hold.path());
    FileExt::try_lock_shared(&others).expect("locked");
    let mut lock = RootLock::new(HOUR, None);
    let taken = lock.try_take(root.as_fd(), Ok(root.as_fd()), now());
    assert_eq!(taken, LockTry::Taken);
}
