//! `[root.trash]`: how long what rules took may come back.

use crate::config::duration;
use crate::config::reader::Reader;
use crate::layout::spec::{Kind, LayoutSpec};
use std::time::Duration;

/// Reads the table of a root.
pub(super) fn read(root: &mut Reader<'_>, layout: &LayoutSpec) -> Duration {
    let mut table = root.table_or_absent("trash");
    let keep = table
        .parsed("keep", duration::parse_quiet)
        .unwrap_or_default();
    let is_whole = match layout.kind {
        Kind::Directories | Kind::Files | Kind::Sidecar => true,
        Kind::Catalog => false,
    };
    if !is_whole && !keep.is_zero() {
        table.problem(
            "keep",
            "is for sessions without a catalogue: an entry that was taken out cannot be put back beside an owner who writes the whole file; leave it out, or write \"0\"",
        );
    }
    root.absorb(table);
    keep
}
