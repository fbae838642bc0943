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

/// Waits until the figures equal the recount and stay so, and answers the status then.
/// `EXACT_PATIENCE` says how many seconds it may take.
pub(crate) fn settled(agent: &Agent<'_>, root: &Path) -> Value {
    let patience = Duration::from_secs(number("EXACT_PATIENCE", PATIENCE.as_secs()));
    let deadline = Instant::now() + patience;
    let mut since: Option<(Instant, Count)> = None;
    loop {
        let status = agent.root();
        let (seen, truth) = (Count::of_status(&status), recount::directories(root));
        if seen == truth && status["watch"]["state"] == "watching" {
            match &since {
                Some((at, count)) if *count == seen => {
                    if at.elapsed() > REST {
                        return status;
                    }
                }
                _ => since = Some((Instant::now(), seen)),
            }
        } else {
            since = None;
            let is_late = |count: &Count| Count {
                allocated: truth.allocated,
                ..count.clone()
            };
            let limit = if is_late(&seen) == truth {
                GUARD
            } else {
                Duration::ZERO
            };
            assert!(
                Instant::now() < deadline + limit,
                "not exact:\n seen {seen:?}\n is   {truth:?}\n{status}"
            );
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Nothing but events brought the figures there, unless events were really lost.
pub(crate) fn without_rescan(before: &Value, after: &Value) {
    if after["watch"]["lost"] == before["watch"]["lost"] {
        assert_eq!(
            after["rescan"]["count"], before["rescan"]["count"],
            "no rescan may have helped"
        );
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
