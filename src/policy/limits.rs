//! The rules of one root, as configured.

use crate::model::bytes::{Bytes, Measure};
use globset::GlobSet;
use std::time::Duration;

/// `[root.limits]`. Absent is off; zero never gets here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub max_size: Option<Bytes>,
    /// Where pruning by size stops; at most `max_size`, which it is when absent.
    pub prune_to: Option<Bytes>,
    pub max_age: Option<Duration>,
    pub max_count: Option<u64>,
    pub measure: Measure,
    /// Prune this much ahead of the limit.
    pub headroom: Bytes,
}

/// `[root.protect]`.
#[derive(Debug, Clone)]
pub struct Protect {
    /// Sessions in an active state stay.
    pub active: bool,
    /// Sessions written to within this time stay. Zero is off.
    pub quiet: Duration,
    /// Globs on the id; the sources are kept for people.
    pub keep: GlobSet,
    pub keep_globs: Vec<String>,
}

impl Default for Protect {
    fn default() -> Self {
        Self {
            active: true,
            quiet: Duration::from_secs(60),
            keep: GlobSet::empty(),
            keep_globs: Vec::new(),
        }
    }
}
