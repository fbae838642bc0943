//! The JSON documents that commands print. Their shapes are an outside contract: extend, never
//! rename. What has no value is null.

use crate::agent::published::View;
use crate::agent::readiness::{self, Level};
use crate::agent::survey::Survey;
use crate::config::settings::{Agent, Mode, Root};
use crate::engine::{AnomalyRow, SessionRow};
use crate::layout::spec::Kind;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::Bytes;
use crate::model::fact::Fact;
use crate::model::lifecycle::Transition;
use crate::model::path::escape;
use crate::model::plan::{Blocker, Held, Victim};
use crate::model::report::LockTrouble;
use crate::model::time::{Time, rfc3339};
use crate::model::watcher::Backend;
use crate::store::Condition;
use crate::store::audit::Entry;
use crate::telemetry::tell::skip_reason;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) fn time(time: Option<Time>) -> Value {
    time.map_or(Value::Null, |time| Value::from(rfc3339(time)))
}

pub(super) fn path_text(root: &Root) -> String {
    escape(root.path.as_os_str().as_bytes())
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Directories => "directories",
        Kind::Files => "files",
        Kind::Sidecar => "sidecar",
        Kind::Catalog => "catalog",
    }
}

/// One root of `scan`.
pub fn scan(root: &Root, survey: &Survey) -> Value {
    let engine = survey.engine();
    let figures = engine.figures();
    let now = survey.now();
    let sessions = engine.session_rows(now);
    json!({
        "name": root.name,
        "path": path_text(root),
        "layout": kind_name(root.layout.kind()),
        "bytes": figures.bytes.0,
        "apparent_bytes": figures.apparent.0,
        "allocated_bytes": figures.allocated.0,
        "files": figures.n_files,
        "session_count": sessions.len(),
        "sessions": sessions.iter().map(session).collect::<Vec<_>>(),
        "anomalies": engine.anomaly_rows(now).iter().map(anomaly).collect::<Vec<_>>(),
        "unowned": { "entries": figures.unowned_entries, "bytes": figures.unowned_bytes.0 },
        "duration_ms": survey.duration.as_millis() as u64,
    })
}

fn session(row: &SessionRow) -> Value {
    json!({
        "id": escape(&row.id),
        "path": row.path.as_ref().map(ToString::to_string),
        "bytes": row.bytes.0,
        "files": row.n_files,
        "created_at": time(row.created),
        "state": row.state.as_deref(),
        "group": row.group.as_deref(),
        "anomalies": row.anomalies.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
    })
}

fn anomaly(row: &AnomalyRow) -> Value {
    json!({ "kind": row.kind.name(), "path": row.path.to_string(), "bytes": row.bytes.0 })
}

/// Which anomalies somebody asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnomalyFilter {
    /// None: all.
    pub kinds: Vec<AnomalyKind>,
}

/// One root of `anomalies`: as of a full scan, or of the look just taken.
pub fn anomalies(
    root: &Root,
    rows: &[AnomalyRow],
    scanned: Option<Time>,
    filter: &AnomalyFilter,
) -> Value {
    let wanted = |row: &&AnomalyRow| filter.kinds.is_empty() || filter.kinds.contains(&row.kind);
    let spelled = |row: &AnomalyRow| {
        let mut value = anomaly(row);
        value["first_seen"] = time(Some(row.first_seen));
        value["last_seen"] = time(Some(row.last_seen));
        value
    };
    json!({
        "name": root.name,
        "path": path_text(root),
        "scanned_at": time(scanned),
        "anomalies": rows.iter().filter(wanted).map(spelled).collect::<Vec<_>>(),
    })
}

fn blocked(blocked: &[(Blocker, Held)]) -> Vec<Value> {
    blocked
        .iter()
        .map(|(by, held)| {
            json!({ "reason": by.name(), "sessions": held.n_sessions, "bytes": held.bytes.0 })
        })
        .collect()
}

fn victim(survey: &Survey, victim: &Victim) -> Value {
    let layout = &survey.engine().rules().layout;
    json!({
        "id": escape(layout.id(&victim.key)),
        "path": victim.shown_path().to_string(),
        "bytes": victim.freed.0,
        "created_at": time(victim.created),
        "rule": victim.because.rule().name(),
        "because": victim.because.to_string(),
    })
}

fn transition(survey: &Survey, transition: &Transition) -> Value {
    let layout = &survey.engine().rules().layout;
    json!({
        "id": escape(layout.id(&transition.key)),
        "path": transition.path.to_string(),
        "action": transition.deed.name(),
        "files": transition.parts.n_files,
        "bytes": transition.parts.bytes,
        "rule": transition.deed.rule(),
        "because": transition.to_string(),
    })
}

/// One root of `plan`.
pub fn plan(root: &Root, survey: &Survey) -> Value {
    let plan = &survey.plan;
    json!({
        "name": root.name,
        "bytes": survey.bytes.0,
        "limit_bytes": root.limits.max_size.map(|bytes| bytes.0),
        "victims": plan.victims.iter().map(|v| victim(survey, v)).collect::<Vec<_>>(),
        "transitions": plan.transitions.iter().map(|t| transition(survey, t)).collect::<Vec<_>>(),
        "transitions_later": plan.n_later,
        "blocked": blocked(&plan.blocked),
        "still_over_bytes": plan.still_over.0,
    })
}

/// What `prune-size` did to one root.
pub fn pruned(root: &Root, survey: &Survey, exit_code: u8) -> Value {
    let mut document = plan(root, survey);
    let layout = &survey.engine().rules().layout;
    let mut freed = Bytes::ZERO;
    let mut removed = Vec::new();
    let mut skipped = Vec::new();
    for fact in survey.facts() {
        match fact {
            Fact::PruneDeleted {
                key,
                path,
                freed: bytes,
                created,
                because,
                ..
            } => {
                freed = freed.saturating_add(*bytes);
                removed.push(json!({
                    "id": escape(layout.id(key)),
                    "path": path.to_string(),
                    "bytes": bytes.0,
                    "created_at": time(*created),
                    "rule": because.rule().name(),
                    "because": because.to_string(),
                }));
            }
            Fact::PruneSkipped { key, path, why, .. } => {
                let (reason, errno) = skip_reason(why);
                skipped.push(json!({
                    "id": escape(layout.id(key)),
                    "path": path.to_string(),
                    "reason": reason,
                    "errno": errno,
                }));
            }
            _ => {}
        }
    }
    document["removed"] = removed.into();
    document["skipped"] = skipped.into();
    document["freed_bytes"] = freed.0.into();
    document["left_bytes"] = survey.engine().usage().bytes.0.into();
    document["exit_code"] = exit_code.into();
    document
}

/// Whether a root does what it is for.
pub fn is_ready(root: &Root, view: &View) -> bool {
    let findings = readiness::of_root(root, view);
    findings.iter().all(|finding| finding.level == Level::Ok)
}

/// Why the lock cannot be had; null where it can, or is not wanted.
fn lock(view: &View) -> Value {
    let Some(wait) = &view.figures.lock else {
        return Value::Null;
    };
    let (state, holder, error) = match &wait.trouble {
        LockTrouble::Busy(holder) => ("busy", holder.as_ref(), None),
        LockTrouble::Failed { operation, errno } => {
            let cause = std::io::Error::from_raw_os_error(*errno);
            ("failed", None, Some(format!("{operation}: {cause}")))
        }
    };
    json!({
        "state": state,
        "since": time(view.lock_since),
        "holder": holder.map(|holder| json!({
            "host": holder.host,
            "pid": holder.pid,
            "since": holder.since,
        })),
        "error": error,
    })
}

/// How the store is, in `status`.
pub fn store(database: Option<&Path>, condition: &Condition) -> Value {
    json!({
        "state": condition.state.name(),
        "path": database.map(|path| escape(path.as_os_str().as_bytes())),
        "backlog": condition.backlog,
        "message": condition.message.as_deref(),
    })
}

/// One row of `audit`.
pub fn audit_entry(entry: &Entry) -> Value {
    json!({
        "id": entry.id,
        "time": rfc3339(entry.at),
        "actor": entry.actor,
        "event": entry.event,
        "root": entry.root,
        "session": entry.session,
        "path": entry.path,
        "bytes": entry.bytes,
        "rule": entry.rule,
        "because": entry.because,
        "usage_bytes": entry.usage_bytes,
        "limit_bytes": entry.limit_bytes,
        "plan": entry.plan,
        "spared_by": entry.spared_by,
    })
}

/// Rows of the audit that wait to be written, and why.
pub fn waiting(n_rows: u64, why: Option<&str>) -> Value {
    json!({ "rows": n_rows, "why": why.filter(|_| n_rows > 0) })
}

/// The document of `audit`: rows in the order in which they happened.
pub fn audit(entries: &[Entry]) -> Value {
    json!({ "entries": entries.iter().map(audit_entry).collect::<Vec<_>>() })
}

/// One root of `status`.
pub fn status_root(root: &Root, agent: &Agent, view: &View, n_watches: usize) -> Value {
    let figures = &view.figures;
    let dirs = figures.n_dirs.max(1) as f64;
    let coverage = match view.backend {
        Some(Backend::Poll) => 0.0,
        _ => (dirs - figures.n_unwatched as f64) / dirs,
    };
    json!({
        "name": root.name,
        "path": path_text(root),
        "bytes": figures.bytes.0,
        "limit_bytes": root.limits.max_size.map(|bytes| bytes.0),
        "apparent_bytes": figures.apparent.0,
        "allocated_bytes": figures.allocated.0,
        "peak_bytes": figures.peak.0,
        "headroom_bytes": figures.headroom.0,
        "session_count": figures.n_sessions,
        "files": figures.n_files,
        "unowned": { "entries": figures.unowned_entries, "bytes": figures.unowned_bytes.0 },
        "watch": {
            "backend": view.backend.map(Backend::name),
            "why": view.backend.map(|_| view.backend_why.as_str()),
            "state": view.watching.name(),
            "watches": n_watches,
            "lost": figures.n_losses,
            "coverage": coverage,
            "barrier": view.barrier,
        },
        "rescan": {
            "finished_at": time(view.scan_ended),
            "duration_ms": figures.scan_ended.map(|_| figures.scan_duration.as_millis() as u64),
            "drift_bytes": figures.scan_ended.map(|_| figures.scan_drift.0),
            "next_at": time(view.scan_next),
            "count": view.n_scans,
        },
        "guard": {
            "hot": figures.guard.n_hot,
            "linked": figures.guard.n_linked,
            "unexplained_bytes": figures.guard.unexplained,
            "scans": figures.guard.n_scans,
            "explained": figures.guard.n_explained,
            "others_write": figures.guard.has_others,
        },
        "pruned": { "sessions": figures.pruned_sessions, "bytes": figures.pruned_bytes.0 },
        "trash_bytes": figures.trash_bytes.0,
        "kept": { "sessions": figures.n_kept, "bytes": figures.kept_bytes.0 },
        "anomalies": figures.n_anomalies,
        "ready": is_ready(root, view),
        "held": figures.held,
        "unmet": figures.unmet,
        "blocked": blocked(&figures.blocked),
        "still_over_bytes": figures.still_over.0,
        "lock": lock(view),
        "pins": { "count": figures.n_pins, "error": figures.pins_trouble.as_deref() },
        "enforcing": agent.mode == Mode::Enforce && root.problems.is_empty(),
        "problems": root.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "scheduling": view.scheduling,
        "reaction": view.reaction.map(|(p50, p99)| json!({
            "p50_us": p50.as_micros() as u64,
            "p99_us": p99.as_micros() as u64,
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::lock;
    use crate::agent::published::View;
    use crate::model::report::{Holder, LockTrouble, LockWait};
    use crate::model::time::Tick;
    use serde_json::{Value, json};

    fn view(trouble: LockTrouble) -> View {
        let mut view = View {
            lock_since: "2026-02-10T12:00:00Z".parse().ok(),
            ..View::default()
        };
        let since = Tick::default();
        view.figures.lock = Some(LockWait { trouble, since });
        view
    }

    #[test]
    fn a_lock_that_cannot_be_had_says_why() {
        let holder = Holder {
            host: "h".to_owned(),
            pid: 7,
            since: "2026-02-10T11:59:00Z".to_owned(),
        };
        let busy = view(LockTrouble::Busy(Some(holder)));
        let said = json!({ "state": "busy", "since": "2026-02-10T12:00:00Z", "error": null,
            "holder": { "host": "h", "pid": 7, "since": "2026-02-10T11:59:00Z" } });
        assert_eq!(lock(&busy), said);
        let operation = "open .housekeeper";
        let errno = libc::ENOSPC;
        let failed = view(LockTrouble::Failed { operation, errno });
        let said = lock(&failed);
        assert_eq!(
            said["error"],
            "open .housekeeper: No space left on device (os error 28)"
        );
        assert_eq!(
            (&said["state"], &said["holder"]),
            (&json!("failed"), &Value::Null)
        );
        assert_eq!(lock(&View::default()), Value::Null);
    }
}
