//! `[root.protect]`: what stays whatever the limits say.

use crate::config::duration;
use crate::config::reader::Reader;
use crate::config::request::RootFlags;
use crate::layout::spec::{Kind, LayoutSpec};
use crate::policy::limits::Protect;
use globset::{Glob, GlobSetBuilder};
use std::time::Duration;

/// A writer that says when it is done needs less time to be believed; and a log that is
/// rotated is done.
pub(super) const QUIET_SHORT: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(60);

/// Reads the table and lays the flags over it.
pub(super) fn read(table: &mut Reader<'_>, layout: &LayoutSpec, flags: &RootFlags) -> Protect {
    let quiet = table.parsed("quiet", duration::parse_quiet);
    let default = match (&layout.state, layout.kind) {
        (Some(_), _) | (None, Kind::Files) => QUIET_SHORT,
        (None, Kind::Directories | Kind::Sidecar | Kind::Catalog) => QUIET,
    };
    let active = table.switch("active").unwrap_or(true);
    let keep_globs = table.texts("keep").unwrap_or_default();
    let mut keep = GlobSetBuilder::new();
    for glob in &keep_globs {
        match Glob::new(glob) {
            Ok(glob) => {
                keep.add(glob);
            }
            Err(why) => {
                table.problem("keep", format!("`{glob}` is no glob: {}", why.kind()));
            }
        }
    }
    let keep = keep.build().unwrap_or_else(|why| {
        table.problem("keep", format!("these globs are too much together: {why}"));
        globset::GlobSet::empty()
    });
    Protect {
        active,
        quiet: flags.quiet.or(quiet).unwrap_or(default),
        keep,
        keep_globs,
        open_files: table.switch("open_files").unwrap_or_default(),
    }
}
