//! `[root.lifecycle]`: what becomes of sessions with a state as time goes by.

use crate::config::duration;
use crate::config::reader::Reader;
use crate::layout::spec::{Format, Kind, LayoutSpec, Source, StateSpec};
use crate::policy::lifecycle::{Lifecycle, PartGlobs};
use std::sync::Arc;
use std::time::Duration;

/// Shorter ones would fail a session between two writes of a slow sender.
const SHORTEST_STALE: Duration = Duration::from_secs(1);
const MAX_BATCH: u64 = 1_000_000;

/// Reads the table of a root.
pub(super) fn read(root: &mut Reader<'_>, layout: &LayoutSpec) -> Lifecycle {
    let mut table = root.table_or_absent("lifecycle");
    let lifecycle = read_table(&mut table, layout);
    match &layout.state {
        _ if lifecycle.is_off() => {}
        Some(state) => check(&mut table, &lifecycle, layout, state),
        None => root.problem(
            "lifecycle",
            "means nothing without [root.layout.state]: say there which words are active, complete and failed",
        ),
    }
    root.absorb(table);
    lifecycle
}

fn read_table(table: &mut Reader<'_>, layout: &LayoutSpec) -> Lifecycle {
    let default = Lifecycle::default();
    let globs = table.texts("parts").unwrap_or_default();
    let parts = PartGlobs::new(&globs).unwrap_or_else(|wrong| {
        for why in wrong {
            table.problem("parts", why);
        }
        PartGlobs::default()
    });
    Lifecycle {
        stale_after: table.parsed("stale_after", stale),
        failed_value: failed_value(table, layout),
        parts,
        parts_after: table
            .parsed("parts_after", duration::parse)
            .unwrap_or(default.parts_after),
        orphan_parts_after: table.duration_above_zero("orphan_parts_after"),
        failed_retention: table.duration_above_zero("failed_retention"),
        batch: table
            .number("batch", 1..MAX_BATCH + 1)
            .unwrap_or(default.batch),
    }
}

fn stale(text: &str) -> Result<Duration, String> {
    let time = duration::parse_above_zero(text)?;
    if time < SHORTEST_STALE {
        return Err(format!("`{text}` is shorter than a second"));
    }
    Ok(time)
}

/// As written, else `failed`, else the first of the layout's words for it.
fn failed_value(table: &mut Reader<'_>, layout: &LayoutSpec) -> Arc<str> {
    let written = table.filled_text("failed_value");
    let words = layout.state.as_ref().map_or(&[][..], |state| &state.failed);
    let usual = words.iter().find(|word| *word == "failed");
    let word = written.or_else(|| usual.or(words.first()).cloned());
    word.map_or_else(|| Lifecycle::default().failed_value, Arc::from)
}

/// What each key allows may not make sense together, or with the layout.
fn check(table: &mut Reader<'_>, lifecycle: &Lifecycle, layout: &LayoutSpec, state: &StateSpec) {
    check_stale(table, lifecycle, layout, state);
    if !lifecycle.parts.is_empty() {
        check_parts(table, lifecycle, layout);
    }
    if lifecycle.failed_retention.is_some() && state.failed.is_empty() {
        table.problem(
            "failed_retention",
            "means nothing without words in layout.state.failed",
        );
    }
    if lifecycle.orphan_parts_after.is_some() && lifecycle.parts.is_empty() {
        table.problem("orphan_parts_after", "means nothing without parts");
    }
}

fn check_stale(
    table: &mut Reader<'_>,
    lifecycle: &Lifecycle,
    layout: &LayoutSpec,
    state: &StateSpec,
) {
    if lifecycle.stale_after.is_none() {
        return;
    }
    let value = &*lifecycle.failed_value;
    if !state.failed.iter().any(|word| word == value) {
        // It would be a state that nothing is known of, and protect for ever.
        table.problem(
            "failed_value",
            format!("`{value}` is none of the words in layout.state.failed"),
        );
    }
    match (layout.kind, layout.format) {
        (Kind::Files, _) if layout.created_at.iter().any(Source::is_of_the_inode) => table.problem(
            "stale_after",
            "needs a time from the metadata or the name: here the file itself is rewritten, and its inode's times with it",
        ),
        (_, Format::Json) => {}
        (_, Format::Yaml) => {
            if state.key.trim_start_matches('/').contains(['/', '~']) {
                table.problem(
                    "stale_after",
                    "is for YAML with the state at its top: none is rewritten further down",
                );
            }
        }
        (_, Format::Text) => table.problem(
            "stale_after",
            "is for metadata in JSON or YAML: no other is rewritten",
        ),
    }
}

fn check_parts(table: &mut Reader<'_>, lifecycle: &Lifecycle, layout: &LayoutSpec) {
    match layout.kind {
        Kind::Directories | Kind::Sidecar => {}
        Kind::Catalog | Kind::Files => table.problem(
            "parts",
            "is for sessions that are directories, or files with a sidecar",
        ),
    }
    for (what, name) in [("metadata", &layout.metadata), ("marker", &layout.marker)] {
        if let Some(name) = name
            && lifecycle.parts.is_part(name.as_bytes())
        {
            table.problem("parts", format!("would take `{name}`, the {what}"));
        }
    }
}
