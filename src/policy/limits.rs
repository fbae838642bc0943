//! The rules of one root, as configured.

use crate::model::bytes::{Bytes, Measure};
use globset::GlobSet;
use std::time::Duration;

/// `[root.limits]`, or those of a registration. Absent is off. Zero comes from registrations only,
/// where somebody said yes to it: none may stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub max_size: Option<Bytes>,
    /// Where pruning by size stops; at most `max_size`, which it is when absent.
    pub prune_to: Option<Bytes>,
    pub max_age: Option<Duration>,
    pub max_count: Option<u64>,
    pub measure: Measure,
    /// How far ahead of the limit is pruned.
    pub headroom: Headroom,
}

/// How far ahead of a limit is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headroom {
    Fixed(Bytes),
    /// What is written while a session leaves, as measured; nothing where nobody measures.
    Auto,
}

impl Default for Headroom {
    fn default() -> Self {
        Self::Fixed(Bytes::ZERO)
    }
}

impl Limits {
    /// These limits where so much was found necessary ahead of `max_size`; a tenth of it is
    /// the most. What somebody wrote as a size stays.
    pub fn with_measured(&self, measured: Bytes) -> Self {
        let headroom = match self.headroom {
            Headroom::Fixed(size) => size,
            Headroom::Auto => self
                .max_size
                .map_or(Bytes::ZERO, |max| measured.min(Bytes(max.0 / 10))),
        };
        Self {
            headroom: Headroom::Fixed(headroom),
            ..self.clone()
        }
    }

    /// Whether what lies in the trash is so much that its removal has to hurry: more than a tenth
    /// of the limit. Once it hurries it does so down to half of that.
    pub fn trash_presses(&self, trash: Bytes, hurries: bool) -> bool {
        let part = if hurries { 20 } else { 10 };
        self.max_size.is_some_and(|max| trash.0 > max.0 / part)
    }

    /// What is kept free ahead of `max_size`.
    pub fn ahead(&self) -> Bytes {
        match self.headroom {
            Headroom::Fixed(size) => size,
            Headroom::Auto => Bytes::ZERO,
        }
    }
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
    /// Sessions stay of which another process has a file open.
    pub open_files: bool,
}

impl Default for Protect {
    fn default() -> Self {
        Self {
            active: true,
            quiet: Duration::from_secs(60),
            keep: GlobSet::empty(),
            keep_globs: Vec::new(),
            open_files: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_hurries_above_a_tenth_down_to_a_twentieth() {
        let limits = Limits {
            max_size: Some(Bytes(1000)),
            ..Limits::default()
        };
        assert!(!limits.trash_presses(Bytes(100), false));
        assert!(limits.trash_presses(Bytes(101), false));
        assert!(limits.trash_presses(Bytes(51), true));
        assert!(!limits.trash_presses(Bytes(50), true));
        assert!(!Limits::default().trash_presses(Bytes(u64::MAX), true));
    }
}
