//! What `status` says of the registry while clean-ups wait, run, fail and take too long; and that a
//! change of one ends no run of another.

use crate::support::agent::Agent;
use crate::support::cleaning::{Desk, agent, file, in_database, until};
use crate::support::fixture::names;
use crate::support::running::wait_for;
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// At three each night, and registered five days ago: one run was missed, and none is due soon.
const NIGHTLY: [&str; 2] = ["--schedule", "0 3 * * *"];
const FIVE_DAYS_AGO: &str = "UPDATE cleanups SET created_at = created_at - 432000000000";

fn registry(agent: &Agent) -> Value {
    agent
        .status()
        .map_or(Value::Null, |status| status["registry"].clone())
}

fn until_registry(agent: &Agent, what: &str, running: u64, waiting: u64) {
    agent.until(what, |agent| {
        let said = registry(agent);
        said["running"] == running && said["waiting"] == waiting
    });
}

#[test]
fn status_counts_runs_under_way_and_those_that_wait_for_a_place() {
    let desk = Desk::new("");
    let mut limits = NIGHTLY.to_vec();
    limits.extend(["--max-files", "1"]);
    for n in 0..3 {
        desk.file(&format!("{n}.log"), 10, 9 - n);
        desk.file(&format!("{n}.tmp"), 10, 9 - n);
    }
    desk.add("*.log", &limits);
    desk.add("*.tmp", &limits);
    in_database(&desk, FIVE_DAYS_AGO);
    let held = desk.hold();
    let agent = agent(&desk, "concurrent_cleanups = 1\n");
    // The first waits for the lock, the second for the first.
    until_registry(&agent, "one that runs and one that waits", 1, 1);
    let said = registry(&agent);
    assert_eq!(
        (&said["cleanups"], &said["watched"], &said["message"]),
        (&2.into(), &0.into(), &Value::Null),
        "{said}"
    );
    assert_eq!(
        names(&desk.dir()).len(),
        6,
        "nothing went under another's lock"
    );
    drop(held);
    until_registry(&agent, "all done", 0, 0);
    assert_eq!(names(&desk.dir()), ["2.log", "2.tmp"]);
    let said = registry(&agent);
    assert!(
        said["next"].is_string() && said["next_run"].is_string(),
        "{said}"
    );
}

#[test]
fn nothing_counts_as_running_after_runs_that_fail_or_take_too_long() {
    let desk = Desk::new("");
    let busy = desk.scratch.path("busy");
    fs::create_dir(&busy).expect("made");
    let path = busy.join("a.log");
    file(&path, 10, 40);
    let late = desk.add_in(&busy, "*.log", &NIGHTLY);
    let gone = desk.add("*.log", &NIGHTLY);
    in_database(&desk, FIVE_DAYS_AGO);
    fs::remove_dir(desk.dir()).expect("removed");
    let is_over = AtomicBool::new(false);
    let watched = std::thread::scope(|scope| {
        // What is changed all the while is waited for, and that takes too long. It stays as old as it is.
        scope.spawn(|| {
            let mode = fs::metadata(&path).expect("there").permissions();
            while !is_over.load(Ordering::Relaxed) {
                fs::set_permissions(&path, mode.clone()).expect("set");
            }
        });
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let agent = agent(&desk, "job_timeout = \"100ms\"\n");
            let has_run = |id: &str, cause: &str, outcome: &str| {
                until(&desk, id, outcome, |shown| {
                    let run = &shown["runs"][0];
                    run["cause"] == cause && run["outcome"] == outcome
                });
            };
            has_run(&late, "schedule", "timeout");
            has_run(&gone, "schedule", "failed");
            until_registry(&agent, "none that runs, of those that were due", 0, 0);
            for (id, outcome) in [(&late, "timeout"), (&gone, "failed")] {
                let done = desk.run(&["run", id]);
                assert_eq!(done.code, 1, "{done:?}");
                has_run(id, "command", outcome);
                until_registry(&agent, "none that runs, of those asked for", 0, 0);
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        watched
    });
    watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Programs register anew whenever they start.
#[test]
fn a_change_of_one_registration_ends_no_run_of_another() {
    let desk = Desk::new("");
    let other = desk.scratch.path("other");
    fs::create_dir(&other).expect("made");
    for n in 0..3 {
        desk.file(&format!("{n}.log"), 10, 9 - n);
    }
    let agent = agent(&desk, "");
    let id = desk.add("*.log", &["--max-files", "1"]);
    let changed = desk.add_in(&other, "*.log", &["--max-files", "5"]);
    let gone = desk.add_in(&other, "*.tmp", &["--max-files", "5"]);
    let held = desk.hold();
    let ran = std::thread::scope(|scope| {
        let run = scope.spawn(|| desk.run(&["run", &id]));
        until_registry(&agent, "a run that waits for the lock", 1, 0);
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            desk.done(&["update", &changed, "--max-files", "4"]);
            desk.done(&["remove", &gone]);
        }));
        drop(held);
        made.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        run.join().expect("no panic")
    });
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(names(&desk.dir()), ["2.log"]);
    until_registry(&agent, "none that runs", 0, 0);
    // One of its own ends it.
    let held = desk.hold();
    desk.file("0.log", 10, 9);
    let ran = std::thread::scope(|scope| {
        let run = scope.spawn(|| desk.run(&["run", &id]));
        until_registry(&agent, "a run that waits for the lock", 1, 0);
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            desk.done(&["update", &id, "--max-files", "2"]);
            wait_for("the end of the run", || match run.is_finished() {
                true => Ok(()),
                false => Err("it runs on".to_owned()),
            });
        }));
        drop(held);
        made.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        run.join().expect("no panic")
    });
    assert_ne!(ran.code, 0, "{ran:?}");
    assert_eq!(names(&desk.dir()), ["0.log", "2.log"]);
}
