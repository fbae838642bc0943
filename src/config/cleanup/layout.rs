//! What a registration's sessions are: regular files of its directory whose names match a pattern,
//! or what a preset says. Either way it is a root like every other.
//!
//! The store has a preset as TOML, as a root of the configuration would name it: a later version
//! may write more there, which this one refuses instead of reading half of it.

use crate::config::cleanup::directory;
use crate::config::protect::QUIET_SHORT;
use crate::config::root;
use crate::config::settings::{Backend, FirstStart, Origin, Root};
use crate::layout::Layout;
use crate::layout::spec::{Kind, LayoutSpec, Source};
use crate::model::bytes::Bytes;
use crate::model::cleanup::Cleanup;
use crate::policy::lifecycle::Lifecycle;
use crate::policy::limits::{Limits, Protect};
use std::sync::Arc;
use std::time::Duration;

const DAY: u64 = 24 * 3600;

/// What the store has for this preset.
pub(super) fn text_of(preset: &str) -> String {
    let mut table = toml::Table::new();
    table.insert("preset".to_owned(), preset.into());
    table.to_string()
}

/// The preset that a registration goes by; `None`: by its pattern.
///
/// # Errors
/// It goes by something that this version does not know; a sentence.
pub fn preset_of(cleanup: &Cleanup) -> Result<Option<String>, String> {
    let Some(text) = &cleanup.layout else {
        return Ok(None);
    };
    let table = text.parse::<toml::Table>().unwrap_or_default();
    match table.get("preset").and_then(toml::Value::as_str) {
        Some(name) if table.len() == 1 => Ok(Some(name.to_owned())),
        Some(_) | None => {
            Err("it has a layout of its own, which this version cannot read".to_owned())
        }
    }
}

/// What a registration is of, for a sentence: its pattern, or its preset.
pub fn what_of(cleanup: &Cleanup) -> String {
    match preset_of(cleanup) {
        Ok(Some(preset)) => format!("the preset {preset}"),
        Ok(None) => cleanup.pattern.clone(),
        Err(_) => "an unknown layout".to_owned(),
    }
}

/// A registration as a root like every other.
///
/// # Errors
/// Its pattern is none, or there is no such preset; a sentence.
pub fn root_of(cleanup: &Cleanup) -> Result<Root, String> {
    let (layout, protect, preset) = match preset_of(cleanup)? {
        Some(preset) => {
            let (layout, protect) = root::of_preset(&preset)?;
            (layout, protect, Some(preset))
        }
        None => {
            let protect = Protect {
                quiet: QUIET_SHORT,
                ..Protect::default()
            };
            (Arc::new(files(&cleanup.pattern)?), protect, None)
        }
    };
    let path = directory(cleanup);
    Ok(Root {
        name: cleanup.root_name(),
        real: path.clone(),
        path,
        origin: Origin::File,
        preset,
        backend: Backend::Auto,
        layout,
        limits: Limits {
            max_size: cleanup
                .max_size_mb
                .map(|mb| Bytes(mb.saturating_mul(1 << 20))),
            max_age: cleanup
                .retention_days
                .map(|days| Duration::from_secs(days.saturating_mul(DAY))),
            max_count: cleanup.max_files,
            ..Limits::default()
        },
        protect,
        // What a preset does to sessions that stay nobody asked for.
        lifecycle: Lifecycle::default(),
        trash_keep: Duration::ZERO,
        // Who registers it has said what may go.
        first_start: FirstStart::Enforce,
        problems: Vec::new(),
    })
}

/// Regular files of the directory itself, dated by their last change.
fn files(pattern: &str) -> Result<Layout, String> {
    let refuse = |why: &str| Err(format!("the pattern `{pattern}` {why}"));
    if pattern.contains('/') {
        return refuse(
            "has a slash; it names files of the directory itself, register others by themselves",
        );
    }
    if pattern.contains("**") {
        return refuse("has `**`; it names files of the directory itself");
    }
    if pattern.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    let spec = LayoutSpec {
        kind: Kind::Files,
        sessions: pattern.to_owned(),
        metadata: None,
        group: None,
        created_at: vec![Source::Mtime],
        everything: true,
        ..LayoutSpec::default()
    };
    Layout::new(spec).map_err(|problems| {
        let why = problems.first().map(|problem| problem.message.as_str());
        format!("the pattern `{pattern}` {}", why.unwrap_or("is no glob"))
    })
}
