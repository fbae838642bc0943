//! Each table, and a store that ends and begins.

use crate::model::cleanup::Cleanup;
use crate::model::time::{Clock, Now, Tick, Time};
use crate::store::audit::{Actor, Entry, Ids, Keeping, Wanted};
use crate::store::error::StoreError;
use crate::store::outbox::Letter;
use crate::store::pins::Pin;
use crate::store::runs::Run;
use crate::store::{Access, Place, State, Store};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
struct Wall;

impl Clock for Wall {
    fn now(&self) -> Now {
        Now {
            wall: chrono::Utc::now(),
            tick: Tick::default(),
        }
    }
}

fn place(dir: &Path) -> Place {
    Place {
        database: Some(dir.join("a/b/housekeeper.db")),
        spill: dir.join("audit.spill"),
        access: Access::Write,
    }
}

fn store(dir: &Path) -> Store {
    let store = Store::start(place(dir), Arc::new(Wall)).expect("a thread");
    store.opened().wait().expect("it opens");
    store
}

fn at(seconds: i64) -> Time {
    chrono::DateTime::from_timestamp_nanos(seconds * 1_000_000_000)
}

fn cleanup(id: &str, pattern: &str) -> Cleanup {
    Cleanup {
        id: id.to_owned(),
        owner: "o".to_owned(),
        directory: "/srv/x".to_owned(),
        pattern: pattern.to_owned(),
        layout: None,
        retention_days: Some(30),
        max_files: Some(0),
        max_size_mb: None,
        priority: -5,
        description: "d".to_owned(),
        schedule: Some("0 3 * * *".to_owned()),
        watch: false,
        read_only: true,
        created_at: at(1),
        updated_at: at(2),
        last_run: None,
    }
}

#[test]
fn a_registration_is_written_updated_and_removed() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let store = store(scratch.path());
    let first = store
        .put_cleanup(cleanup("1", "*.log"))
        .wait()
        .expect("written");
    assert_eq!(first, cleanup("1", "*.log"));
    let second = Cleanup {
        priority: 7,
        created_at: at(9),
        updated_at: at(9),
        ..cleanup("2", "*.log")
    };
    let same = store.put_cleanup(second).wait().expect("written");
    assert_eq!((&*same.id, same.priority), ("1", 7));
    assert_eq!((same.created_at, same.updated_at), (at(1), at(9)));
    store
        .put_cleanup(cleanup("3", "*.txt"))
        .wait()
        .expect("written");
    let all = store.cleanups().wait().expect("read");
    let ids: Vec<&str> = all.iter().map(|c| &*c.id).collect();
    assert_eq!(ids, ["3", "1"], "the lower priority first");
    let refused = store.update_cleanup(at(2), cleanup("3", "*.log")).wait();
    assert!(refused.is_err_and(|e| e.is_conflict()));
    assert_eq!(
        store.update_cleanup(at(2), cleanup("4", "x")).wait().ok(),
        Some(false)
    );
    let stale = store.update_cleanup(at(1), cleanup("3", "x")).wait();
    assert_eq!(stale.ok(), Some(false), "it was changed at 2");
    assert_eq!(
        store.note_run("3".to_owned(), at(5)).wait().ok(),
        Some(true)
    );
    let third = store.cleanup("3".to_owned()).wait().expect("read");
    assert_eq!(third.and_then(|c| c.last_run), Some(at(5)));
    let removed = store
        .remove_cleanup("3".to_owned())
        .wait()
        .expect("removed");
    assert_eq!(removed.map(|c| c.id).as_deref(), Some("3"));
    assert_eq!(store.cleanup("3".to_owned()).wait().ok(), Some(None));
    assert_eq!(store.condition().state, State::Ok);
}

#[test]
fn pins_runs_letters_and_meta_are_kept() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let pin = Pin {
        root: "/srv/x".to_owned(),
        session: "s\\xFF".to_owned(),
        owner: "me".to_owned(),
        reason: "evidence".to_owned(),
        created_at: at(1),
        until: Some(at(100)),
    };
    let run = Run {
        id: "r1".to_owned(),
        cleanup: "1".to_owned(),
        cause: "schedule".to_owned(),
        started_at: at(5),
        ended_at: None,
        outcome: "running".to_owned(),
        dry_run: false,
        files_deleted: 0,
        bytes_freed: u64::MAX,
        files_kept: 3,
        message: String::new(),
    };
    let letter = Letter {
        id: "l1".to_owned(),
        target: "ops".to_owned(),
        event: "store.degraded".to_owned(),
        body: "{}".to_owned(),
        attempts: 0,
        created_at: at(1),
        next_at: at(10),
    };
    {
        let store = store(scratch.path());
        store.put_pin(pin.clone()).wait().expect("written");
        store.put_run(run.clone()).wait().expect("written");
        store.put_letter(letter.clone()).wait().expect("written");
        store
            .put_meta("test.a", "1".to_owned())
            .wait()
            .expect("written");
        store
            .put_meta("test.a", "2".to_owned())
            .wait()
            .expect("written");
    }
    let store = store(scratch.path());
    assert_eq!(
        store.meta("test.a").wait().expect("read").as_deref(),
        Some("2")
    );
    assert_eq!(
        store.pins().wait().expect("read"),
        std::slice::from_ref(&pin)
    );
    assert_eq!(store.remove_pins_before(at(100)).wait().ok(), Some(0));
    assert_eq!(
        store.remove_pin(pin.root, pin.session).wait().ok(),
        Some(true)
    );
    let open = store.runs_open().wait().expect("read");
    assert_eq!(open[0].bytes_freed, i64::MAX as u64);
    let ended = Run {
        ended_at: Some(at(6)),
        outcome: "done".to_owned(),
        bytes_freed: 4,
        ..run
    };
    store.put_run(ended.clone()).wait().expect("written");
    assert_eq!(store.runs(None, 10).wait().expect("read"), [ended]);
    assert_eq!(
        store.runs(Some("2".to_owned()), 10).wait().expect("read"),
        []
    );
    assert_eq!(store.letters_waiting().wait().ok(), Some((Some(at(10)), 1)));
    assert_eq!(store.letters_due(at(9), 5).wait().expect("read"), []);
    assert_eq!(store.letters_due(at(10), 5).wait().expect("read"), [letter]);
    assert_eq!(store.remove_letter("l1".to_owned()).wait().ok(), Some(true));
    assert_eq!(store.letters_waiting().wait().ok(), Some((None, 0)));
}

/// Seconds from one row to the next: longer than a test takes.
const APART: i64 = 1000;

fn rows(n: usize) -> Vec<Entry> {
    let mut ids = Ids::default();
    let row = |n: usize| Entry {
        root: Some(format!("r{}", n % 2)),
        session: Some(format!("s{n}")),
        path: Some(format!("p/s{n}")),
        ..Entry::new(
            ids.next_id(),
            at(n as i64 * APART),
            Actor::Event,
            "prune.deleted",
            "it is old".to_owned(),
        )
    };
    (0..n).map(row).collect()
}

#[test]
fn the_audit_is_asked_by_time_root_and_session_and_is_trimmed() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let store = store(scratch.path());
    let rows = rows(1000);
    rows.iter().cloned().for_each(|row| store.audit(row));
    store.flush().wait().expect("written");
    let ask = |wanted: Wanted| store.entries(wanted).wait().expect("read");
    assert_eq!(ask(Wanted::default()), rows);
    let limit = 3;
    let newest = ask(Wanted {
        limit,
        ..Wanted::default()
    });
    assert_eq!(newest, rows[997..]);
    let (since, until) = (Some(at(10 * APART)), Some(at(13 * APART)));
    let root = Some("r1".to_owned());
    let some = ask(Wanted {
        since,
        until,
        root,
        ..Wanted::default()
    });
    assert_eq!(some, [rows[11].clone(), rows[13].clone()]);
    for session in ["s7", "p/s7"] {
        let session = Some(session.to_owned());
        assert_eq!(
            ask(Wanted {
                session,
                ..Wanted::default()
            }),
            rows[7..8]
        );
    }
    // The same rows once more are the same rows.
    rows.iter().cloned().for_each(|row| store.audit(row));
    store.flush().wait().expect("written");
    assert_eq!(ask(Wanted::default()).len(), 1000);
    let now = Wall.now().wall;
    let age = (now - at(500 * APART)).to_std().expect("long ago");
    let keep = |age, max_rows| store.keep_audit(Keeping { age, max_rows }).wait();
    let half = Duration::from_secs(APART as u64 / 2);
    keep(age - half, 1_000_000).expect("taken");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while ask(Wanted::default()).len() > 499 {
        assert!(std::time::Instant::now() < deadline);
    }
    assert_eq!(ask(Wanted::default()), rows[501..]);
    // Too many: the oldest go, of those that are not of the last hour.
    let young = Entry {
        at: now,
        ..rows[0].clone()
    };
    let young: Vec<Entry> = (0..20)
        .map(|n| Entry {
            id: format!("young-{n:02}"),
            ..young.clone()
        })
        .collect();
    young.iter().cloned().for_each(|row| store.audit(row));
    store.flush().wait().expect("written");
    for (max_rows, n_left) in [(50, 50), (10, 20)] {
        keep(age * 2, max_rows).expect("taken");
        while ask(Wanted::default()).len() > n_left {
            assert!(std::time::Instant::now() < deadline);
        }
        let left = ask(Wanted::default());
        assert_eq!(left.len(), n_left);
        assert!(
            left.iter()
                .rev()
                .zip(young.iter().rev())
                .all(|(l, y)| l.id == y.id)
        );
    }
}

#[test]
fn a_store_that_is_off_absent_or_unreachable_says_so() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    assert!(matches!(Store::off().pins().wait(), Err(StoreError::Off)));
    let clock = Arc::new(Wall);
    let read = Place {
        access: Access::Read,
        ..place(scratch.path())
    };
    let absent = Store::start(read, clock.clone()).expect("a thread");
    assert!(matches!(
        absent.pins().wait(),
        Err(StoreError::Unavailable(_))
    ));
    assert!(!scratch.path().join("a").exists(), "reading makes nothing");
    std::fs::write(scratch.path().join("a"), "a file").expect("written");
    let blocked = Store::start(place(scratch.path()), clock).expect("a thread");
    blocked.audit(rows(1).remove(0));
    let error = blocked.flush().wait().expect_err("no directory");
    let text = error.to_string();
    assert!(
        text.contains("a/b/housekeeper.db") && text.contains("user "),
        "{text}"
    );
    let condition = blocked.condition();
    assert_eq!((condition.state, condition.backlog), (State::Degraded, 1));
}

#[test]
fn async_code_awaits_an_answer() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let store = store(scratch.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let pins = runtime.block_on(async { store.pins().await });
    assert_eq!(pins.expect("read"), []);
}
