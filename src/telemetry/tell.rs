//! One log line for each fact. The names of events and fields are an outside contract.

use crate::model::bytes::Bytes;
use crate::model::count::Count;
use crate::model::fact::{Fact, Summary};
use crate::model::path::escape;
use crate::model::report::{Holder, Skip, Unlist};
use crate::model::session::Key;
use crate::model::time::rfc3339;
use tracing::{info, warn};

fn or_null(bytes: Option<Bytes>) -> Option<u64> {
    bytes.map(|bytes| bytes.0)
}

fn names(keys: &[Key]) -> String {
    let names: Vec<String> = keys.iter().map(|key| escape(key)).collect();
    serde_json::to_string(&names).unwrap_or_default()
}

fn holder(holder: Option<&Holder>) -> String {
    holder.map_or("unknown".to_owned(), |h| {
        format!("{} pid {} since {}", h.host, h.pid, h.since)
    })
}

/// Why a victim stayed, as a word and the kernel's number.
pub fn skip_reason(why: &Skip) -> (&'static str, Option<i32>) {
    match why {
        Skip::Replaced => ("replaced", None),
        Skip::Changed => ("changed", None),
        Skip::Quiet => ("quiet", None),
        Skip::Locked => ("locked", None),
        Skip::Open => ("open", None),
        Skip::Pinned => ("pinned", None),
        Skip::Stranger => ("stranger_put_back", None),
        Skip::StrangerKept => ("stranger_kept_in_trash", None),
        Skip::Refused { operation, errno } => (operation, Some(*errno)),
        Skip::RootMoved => ("root_moved", None),
        Skip::Stopping => ("stopping", None),
    }
}

/// Writes the log line of a fact.
pub fn tell(root: &str, fact: &Fact) {
    match fact {
        Fact::CycleStart { .. } | Fact::CycleEnd { .. } | Fact::ScanDone { .. } => {
            cycle(root, fact)
        }
        Fact::PruneCheck { .. }
        | Fact::PruneNoop { .. }
        | Fact::PruneStarted { .. }
        | Fact::PruneDeleted { .. }
        | Fact::PruneSkipped { .. }
        | Fact::PruneSummary(_)
        | Fact::TargetUnmet { .. }
        | Fact::RootHeld { .. } => prune(root, fact),
        Fact::AnomalyFound { .. } | Fact::AnomalyCleared { .. } | Fact::AnomaliesMore { .. } => {
            anomaly(root, fact);
        }
        Fact::StateChanged { .. }
        | Fact::LifecycleFailed(_)
        | Fact::LifecyclePartsDeleted(_)
        | Fact::LifecycleSkipped { .. } => life(root, fact),
        Fact::LockBusy { .. }
        | Fact::LockStale { .. }
        | Fact::LockFailed { .. }
        | Fact::WatchLost { .. }
        | Fact::WatchDegraded { .. }
        | Fact::BackendDegraded { .. }
        | Fact::RootMoved
        | Fact::RootBack
        | Fact::Unlisted { .. }
        | Fact::IntentRefused { .. }
        | Fact::TrashLeft { .. }
        | Fact::ClockHeld { .. } => trouble(root, fact),
    }
}

fn cycle(root: &str, fact: &Fact) {
    match fact {
        Fact::CycleStart { cause } => {
            info!(
                event = "cycle.start",
                root,
                cause = cause.name(),
                "a full scan of {root} begins"
            );
        }
        Fact::CycleEnd { next_wakeup } => {
            let next_wakeup = next_wakeup.map(rfc3339);
            info!(
                event = "cycle.end",
                root, next_wakeup, "the full scan of {root} has ended"
            );
        }
        Fact::ScanDone {
            cause,
            duration,
            bytes,
            n_files,
            n_sessions,
            n_anomalies,
            drift,
        } => info!(
            event = "scan.done",
            root,
            cause = cause.name(),
            duration_ms = duration.as_millis() as u64,
            bytes = bytes.0,
            files = n_files,
            sessions = n_sessions,
            anomalies = n_anomalies,
            drift_bytes = drift.0,
            "{root} holds {} with {bytes}",
            Count(*n_sessions, "session")
        ),
        _ => {}
    }
}

fn prune(root: &str, fact: &Fact) {
    match fact {
        Fact::PruneCheck {
            usage,
            limit,
            n_sessions,
            n_candidates,
        } => info!(
            event = "prune.check",
            root,
            usage_bytes = usage.0,
            limit_bytes = or_null(*limit),
            sessions = n_sessions,
            candidates = n_candidates,
            "{root} was compared with its limits"
        ),
        Fact::PruneNoop {
            usage,
            limit,
            n_sessions,
        } => info!(
            event = "prune.noop",
            root,
            usage_bytes = usage.0,
            limit_bytes = or_null(*limit),
            sessions = n_sessions,
            "{root} is within its limits"
        ),
        Fact::PruneStarted {
            usage,
            limit,
            n_victims,
        } => info!(
            event = "prune.started",
            root,
            usage_bytes = usage.0,
            limit_bytes = or_null(*limit),
            victims = n_victims,
            "{root} is over a limit"
        ),
        Fact::PruneDeleted {
            key,
            path,
            freed,
            created,
            because,
            reaction,
            moment: _,
        } => info!(
            event = "prune.deleted",
            root,
            session = %escape(key),
            path = %path,
            freed_bytes = freed.0,
            created_at = created.map(rfc3339),
            rule = because.rule().name(),
            because = %because,
            reaction_us = reaction.map(|r| r.as_micros() as u64),
            "a session of {root} was removed"
        ),
        Fact::PruneSkipped { key, path, why, .. } => {
            let (reason, errno) = skip_reason(why);
            warn!(
                event = "prune.skipped",
                root,
                session = %escape(key),
                path = %path,
                reason,
                errno,
                "a session of {root} was to go and stays"
            );
        }
        Fact::PruneSummary(summary) => summary_line(root, summary),
        Fact::TargetUnmet {
            usage,
            limit,
            still_over,
            blocked,
        } => {
            let by: Vec<String> = blocked
                .iter()
                .map(|(b, held)| {
                    format!(
                        "{} {} {} bytes",
                        b.name(),
                        Count(held.n_sessions, "session"),
                        held.bytes.0
                    )
                })
                .collect();
            warn!(
                event = "prune.target_unmet",
                root,
                usage_bytes = usage.0,
                limit_bytes = or_null(*limit),
                still_over_bytes = still_over.0,
                blocked = by.join("; "),
                "{root} cannot be brought under its limits"
            );
        }
        Fact::RootHeld {
            n_victims,
            n_sessions,
            freed,
            usage,
        } => warn!(
            event = "root.held",
            root,
            victims = n_victims,
            sessions = n_sessions,
            freed_bytes = freed.0,
            usage_bytes = usage.0,
            "the first plan for {root} would remove more than half of it: nothing is removed until `housekeeper accept {root}`"
        ),
        _ => {}
    }
}

fn summary_line(root: &str, summary: &Summary) {
    info!(
        event = "prune.summary",
        root,
        usage_before_bytes = summary.before.0,
        usage_after_bytes = summary.after.0,
        limit_bytes = or_null(summary.limit),
        deleted_count = summary.n_deleted,
        freed_bytes = summary.freed.0,
        kept = summary.n_kept,
        deleted_ids = names(&summary.deleted),
        kept_ids = names(&summary.kept),
        "{root} was brought from {} to {}",
        summary.before,
        summary.after
    );
}

fn anomaly(root: &str, fact: &Fact) {
    match fact {
        Fact::AnomalyFound { kind, path, bytes } => warn!(
            event = "anomaly.found",
            root,
            kind = kind.name(),
            path = %path,
            bytes = bytes.0,
            "something in {root} needs a look"
        ),
        Fact::AnomalyCleared { kind, path } => info!(
            event = "anomaly.cleared",
            root,
            kind = kind.name(),
            path = %path,
            "something in {root} is well again"
        ),
        Fact::AnomaliesMore {
            kind,
            found,
            cleared,
        } => warn!(
            event = "anomaly.found",
            root,
            kind = kind.name(),
            more_found = found,
            more_cleared = cleared,
            "more of one kind in {root} than the log takes"
        ),
        _ => {}
    }
}

fn life(root: &str, fact: &Fact) {
    match fact {
        Fact::StateChanged {
            key,
            path,
            from,
            to,
        } => info!(
            event = "session.state_changed",
            root,
            session = %escape(key),
            path = %path,
            from = from.as_deref(),
            to = to.as_deref(),
            "a session of {root} has another state"
        ),
        Fact::LifecycleFailed(transition) => info!(
            event = "lifecycle.failed",
            root,
            session = %escape(&transition.key),
            path = %transition.path,
            idle_seconds = transition.idle.as_secs(),
            rule = transition.deed.rule(),
            because = %transition,
            "a session of {root} was left behind: it has failed"
        ),
        Fact::LifecyclePartsDeleted(transition) => info!(
            event = "lifecycle.parts_deleted",
            root,
            session = %escape(&transition.key),
            path = %transition.path,
            files = transition.parts.n_files,
            freed_bytes = transition.parts.bytes,
            rule = transition.deed.rule(),
            because = %transition,
            "temporary parts of a session of {root} were removed"
        ),
        Fact::LifecycleSkipped { transition, why } => {
            let (reason, errno) = skip_reason(why);
            warn!(
                event = "lifecycle.skipped",
                root,
                session = %escape(&transition.key),
                path = %transition.path,
                action = transition.deed.name(),
                rule = transition.deed.rule(),
                reason,
                errno,
                "a step of a session's life in {root} could not be done: it is tried again"
            );
        }
        _ => {}
    }
}

fn trouble(root: &str, fact: &Fact) {
    match fact {
        Fact::LockBusy { holder: by } => warn!(
            event = "lock.busy",
            root,
            holder = holder(by.as_ref()),
            "another pruner holds the lock of {root}"
        ),
        Fact::LockStale { holder: by } => warn!(
            event = "lock.stale",
            root,
            holder = holder(by.as_ref()),
            "the lock of {root} was taken over from a holder that stood still"
        ),
        Fact::IntentRefused { record, path, why } => {
            let path = path.as_ref().map(ToString::to_string);
            warn!(
                event = "intent.refused",
                root,
                record,
                path,
                reason = why,
                "a record of an unfinished removal in {root} is not carried out: {why}"
            );
        }
        Fact::LockFailed { operation, errno } => warn!(
            event = "lock.failed",
            root, operation, errno, "the lock of {root} cannot be used"
        ),
        Fact::WatchLost { n_losses } => {
            warn!(
                event = "watch.lost",
                root,
                losses = n_losses,
                "events of {root} were lost: it is scanned"
            );
        }
        Fact::WatchDegraded { n_unwatched } => warn!(
            event = "watch.degraded",
            root,
            unwatched = n_unwatched,
            reason = "no more watches can be had (see fs.inotify.max_user_watches)",
            "directories of {root} have no watch and are scanned from time to time"
        ),
        Fact::BackendDegraded { to, why } => warn!(
            event = "watch.degraded",
            root,
            backend = to.name(),
            reason = why,
            "changes of {root} are found by {} now",
            to.name()
        ),
        Fact::RootMoved => warn!(
            event = "root.absent",
            root, "{root} is not at its path: nothing is removed"
        ),
        Fact::RootBack => info!(event = "root.present", root, "{root} is at its path"),
        Fact::Unlisted { n_entries, result } => unlisted(root, *n_entries, result),
        Fact::TrashLeft { left } => warn!(
            event = "trash.left",
            root,
            entries = left.len(),
            first = left
                .first()
                .map(|(path, errno)| format!("{path}: errno {errno}")),
            "something in the trash of {root} could not be removed"
        ),
        Fact::ClockHeld { reason } => warn!(
            event = "clock.held",
            root, reason, "age rules of {root} wait"
        ),
        _ => {}
    }
}

fn unlisted(root: &str, n_entries: u64, result: &Unlist) {
    match result {
        Unlist::Done => {
            info!(
                event = "catalogue.edited",
                root,
                entries = n_entries,
                "entries were taken out of the catalogue of {root}"
            );
        }
        Unlist::NoLease(errno) | Unlist::Failed { errno, .. } => warn!(
            event = "catalogue.unchanged",
            root,
            entries = n_entries,
            errno,
            "entries stay in the catalogue of {root} for now"
        ),
        Unlist::Unparsable => warn!(
            event = "catalogue.unchanged",
            root,
            entries = n_entries,
            "the catalogue of {root} does not parse: entries stay"
        ),
    }
}
