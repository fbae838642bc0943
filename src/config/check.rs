//! What `check-config` prints: every problem, and what the configuration comes to.

use crate::config::file::show;
use crate::config::request::Request;
use crate::config::settings::{Problem, Registry, Root, Settings};
use crate::config::word::Word;
use crate::layout::spec::{LayoutSpec, Source, StateSpec, TimeFormat};
use crate::model::bytes::Bytes;
use crate::model::notice::{Receivers, Topic};
use crate::policy::limits::Headroom;
use serde_json::{Value, json};
use std::time::Duration;

/// The answer of `check-config`.
#[derive(Debug, Clone)]
pub struct Check {
    /// As the file has them. Not empty: exit code 78.
    pub problems: Vec<Problem>,
    /// What the agent would go on with; `None` where it would not start.
    pub effective: Option<Value>,
    /// The roots of `effective`, in its order.
    pub roots: Vec<Root>,
}

/// Reads everything and says what it found.
pub fn check(request: &Request) -> Check {
    match crate::config::load(request) {
        Ok(settings) => Check {
            problems: settings.strict_problems(),
            effective: Some(summary(&settings)),
            roots: settings.roots,
        },
        Err(problems) => Check {
            problems,
            effective: None,
            roots: Vec::new(),
        },
    }
}

impl Check {
    /// Says beside each root that is there what would watch it, and why.
    pub fn say_backends(&mut self, backend: impl Fn(&Root) -> Option<(&'static str, String)>) {
        let Some(roots) = self
            .effective
            .as_mut()
            .and_then(|e| e["roots"].as_array_mut())
        else {
            return;
        };
        for (root, value) in self.roots.iter().zip(roots) {
            value["watch"] = match backend(root) {
                Some((name, why)) => json!({ "backend": name, "why": why }),
                None => Value::Null,
            };
        }
    }

    /// One document: `{"ok","problems":[{"key","line","message"}],"effective"}`.
    pub fn to_json(&self) -> Value {
        json!({
            "ok": self.problems.is_empty(),
            "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
            "effective": self.effective,
        })
    }
}

fn problem(problem: &Problem) -> Value {
    json!({
        "key": problem.key,
        "line": problem.line,
        "message": problem.message,
    })
}

/// Settings as one JSON value, with the names of the file.
pub fn summary(settings: &Settings) -> Value {
    let agent = &settings.agent;
    json!({
        "file": settings.file.as_deref().map(show),
        "agent": {
            "mode": agent.mode.word(),
            "state_dir": show(&agent.state_dir),
            "socket": show(&agent.socket),
            "http": agent.http,
            "rescan_interval": time(agent.rescan_interval),
            "shutdown_grace": time(agent.shutdown_grace),
            "scheduling": agent.scheduling.word(),
        },
        "store": { "database": agent.database.as_deref().map(show) },
        "audit": { "keep": time(agent.audit_keep.age), "max_rows": agent.audit_keep.max_rows },
        "log": {
            "format": settings.log.format.word(),
            "level": settings.log.level,
        },
        "registry": registry(&settings.registry),
        "notify": notify(&settings.notify),
        "roots": settings.roots.iter().map(root).collect::<Vec<_>>(),
    })
}

fn registry(registry: &Registry) -> Value {
    json!({
        "schedule": registry.schedule.text(),
        "zone": registry.zone.name(),
        "concurrent_cleanups": registry.limits.concurrent,
        "job_timeout": time(registry.limits.timeout),
        "default_retention": registry.default_retention_days,
        "dry_run": registry.dry_run,
        "read_only": registry.read_only,
        "job_history": registry.job_history,
        "job_history_retention": time(registry.job_history_retention),
        "report": registry.report,
        "report_directory": show(&registry.report_directory),
        "report_keep": registry.report_keep.count,
        "report_keep_for": time(registry.report_keep.age),
    })
}

/// Without addresses and headers: both may have secrets in them.
fn notify(receivers: &Receivers) -> Value {
    let words = |topics: &[Topic]| topics.iter().map(|topic| topic.word()).collect::<Vec<_>>();
    let webhooks = receivers.webhooks.iter().map(|hook| {
        json!({
            "name": hook.name,
            "format": hook.format.word(),
            "events": words(&hook.topics),
            "header": hook.header.as_ref().map(|(name, _)| name),
        })
    });
    json!({
        "rate": receivers.rate,
        "webhooks": webhooks.collect::<Vec<_>>(),
        "exec": receivers.exec.as_ref().map(|exec| show(&exec.program)),
        "exec_events": receivers.exec.as_ref().map(|exec| words(&exec.topics)),
    })
}

fn root(root: &Root) -> Value {
    let bytes = |size: Bytes| size.0;
    json!({
        "name": root.name,
        "path": show(&root.path),
        "preset": root.preset,
        "backend": root.backend.word(),
        "layout": layout(root.layout.spec()),
        "limits": {
            "max_size_bytes": root.limits.max_size.map(bytes),
            "prune_to_bytes": root.limits.prune_to.or(root.limits.max_size).map(bytes),
            "max_age": root.limits.max_age.map(time),
            "max_count": root.limits.max_count,
            "measure": root.limits.measure.word(),
            "headroom": match root.limits.headroom {
                Headroom::Auto => "auto",
                Headroom::Fixed(_) => "fixed",
            },
            "headroom_bytes": match root.limits.headroom {
                Headroom::Auto => Value::Null,
                Headroom::Fixed(size) => size.0.into(),
            },
        },
        "protect": {
            "active": root.protect.active,
            "quiet": time(root.protect.quiet),
            "keep": root.protect.keep_globs,
        },
        "lifecycle": {
            "stale_after": root.lifecycle.stale_after.map(time),
            "failed_value": &*root.lifecycle.failed_value,
            "parts": root.lifecycle.parts.texts(),
            "parts_after": time(root.lifecycle.parts_after),
            "orphan_parts_after": root.lifecycle.orphan_parts_after.map(time),
            "failed_retention": root.lifecycle.failed_retention.map(time),
            "batch": root.lifecycle.batch,
        },
        "guard": { "first_start": root.first_start.word() },
        "pruned": root.problems.is_empty(),
    })
}

fn layout(spec: &LayoutSpec) -> Value {
    json!({
        "kind": spec.kind.word(),
        "sessions": spec.sessions,
        "pattern": spec.pattern,
        "metadata": spec.metadata,
        "required": spec.required,
        "marker": spec.marker,
        "lock": spec.lock,
        "blobs": spec.blobs,
        "created_at": { "from": spec.created_at.iter().map(source).collect::<Vec<_>>() },
        "state": spec.state.as_ref().map(state),
        "group": spec.group,
    })
}

fn state(state: &StateSpec) -> Value {
    json!({
        "key": state.key,
        "active": state.active,
        "complete": state.complete,
        "failed": state.failed,
    })
}

fn source(source: &Source) -> Value {
    match source {
        Source::Key { key, format, zone } => {
            json!({"key": key, "as": written(format), "zone": zone.name()})
        }
        Source::Name {
            group,
            format,
            zone,
            radix,
        } => json!({
            "name": group,
            "as": written(format),
            "zone": zone.name(),
            "radix": radix,
        }),
        Source::File { file, format, zone } => {
            json!({"file": file, "as": written(format), "zone": zone.name()})
        }
        Source::Birth => json!("birth"),
        Source::Mtime => json!("mtime"),
    }
}

fn written(format: &TimeFormat) -> &str {
    match format {
        TimeFormat::Rfc3339 => "rfc3339",
        TimeFormat::EpochS => "epoch_s",
        TimeFormat::EpochMs => "epoch_ms",
        TimeFormat::EpochUs => "epoch_us",
        TimeFormat::EpochNs => "epoch_ns",
        TimeFormat::Strftime(words) => words,
    }
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
