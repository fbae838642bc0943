//! At rest: the agent's figures equal a recount of the disk, and stay so.

use crate::support::recount::{self, Count};
use crate::support::running::{Agent, PATIENCE};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// So long nothing may change before it counts as rest.
const REST: Duration = Duration::from_millis(120);
/// ext4 gives blocks to a file when it writes it back, long after the last event: what is
/// allocated may lag behind all other figures for this much longer, until a guard looks.
const GUARD: Duration = Duration::from_secs(10);
/// So long two rounds of who polls may take on a busy machine.
const ROUNDS: Duration = Duration::from_secs(120);

/// Waits until the figures rest and equal the recount, and answers the status then.
/// `EXACT_PATIENCE` says how many seconds it may take.
///
/// Counted only when they rest: a recount opens every directory, which `notify` is told of.
/// Who polls says when he looks next, the later the longer it took: what a whole round has not
/// seen yet is not expected of him.
pub(crate) fn settled(agent: &Agent<'_>, root: &Path) -> Value {
    let patience = Duration::from_secs(number("EXACT_PATIENCE", PATIENCE.as_secs()));
    let deadline = Instant::now() + patience;
    let mut resting = (Instant::now(), Count::default());
    let mut first_round = None;
    loop {
        let status = agent.root();
        let round = status["rescan"]["count"].as_u64().expect("a count");
        // One round may have been under way.
        let awaits_round =
            status["watch"]["backend"] == "poll" && round < *first_round.get_or_insert(round) + 2;
        let seen = Count::of_status(&status);
        if seen != resting.1 || status["watch"]["state"] != "watching" {
            resting = (Instant::now(), seen);
        } else if resting.0.elapsed() > REST {
            let truth = recount::directories(root);
            if seen == truth {
                return status;
            }
            resting.0 = Instant::now();
            let but_allocated = Count {
                allocated: truth.allocated,
                ..seen.clone()
            };
            let grace = if but_allocated == truth {
                GUARD
            } else {
                Duration::ZERO
            };
            assert!(
                awaits_round || Instant::now() < deadline + grace,
                "not exact:\n seen {seen:?}\n is   {truth:?}\n{status}"
            );
        }
        let patience = if awaits_round { ROUNDS } else { GUARD };
        assert!(Instant::now() < deadline + patience, "no rest: {status}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Nothing but events brought the figures there, unless events were really lost.
pub(crate) fn without_rescan(before: &Value, after: &Value) {
    // What others write on this file system leads the guard to scans of its own; one that helped
    // would have explained it.
    let by_itself = |root: &Value| {
        let scans = root["rescan"]["count"].as_u64().expect("a count");
        scans - root["guard"]["scans"].as_u64().expect("a count")
    };
    if after["watch"]["lost"] == before["watch"]["lost"] {
        assert_eq!(
            by_itself(after),
            by_itself(before),
            "no rescan may have helped"
        );
        // `notify` hears nothing for seconds after many directories went: there a guard's scan
        // may be the first to know.
        if after["watch"]["backend"] != "notify" {
            assert_eq!(after["guard"]["explained"], 0, "{after}");
        }
    }
}

/// No event was lost, and no scan helped.
pub(crate) fn nothing_lost(before: &Value, after: &Value) {
    assert_eq!(after["watch"]["lost"], before["watch"]["lost"], "{after}");
    without_rescan(before, after);
}

/// A number from the environment of the test.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
