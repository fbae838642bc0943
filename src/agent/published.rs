//! What the outside may read of a root. The engine's thread writes it when nobody reads just
//! then, and never waits: who reads copies and lets go.

use crate::engine::Figures;
use crate::model::time::Time;
use crate::model::watcher::Backend;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// How a root is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Watching {
    #[default]
    Starting,
    Watching,
    /// Hints were lost; a scan is on its way.
    Suspect,
    /// Nothing is at the root's path, or something else is.
    Absent,
    Stopped,
}

impl Watching {
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Watching => "watching",
            Self::Suspect => "suspect",
            Self::Absent => "absent",
            Self::Stopped => "stopped",
        }
    }
}

/// Everything that is published of one root, at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub watching: Watching,
    pub figures: Figures,
    pub scan_ended: Option<Time>,
    pub scan_next: Option<Time>,
    /// Who gives the hints; `None` before any does.
    pub backend: Option<Backend>,
    /// Why that one.
    pub backend_why: String,
    /// Since when the lock is wanted and cannot be had, and how long that was when published.
    pub lock_since: Option<Time>,
    pub lock_lasts: Duration,
    pub scheduling: &'static str,
    /// Median and 99th percentile of the last reactions: first hint to rename done.
    pub reaction: Option<(Duration, Duration)>,
    /// How many full scans have ended.
    pub n_scans: u64,
    /// Barriers up to this number are passed.
    pub barrier: u64,
}

/// The place where a view lies.
#[derive(Debug, Default)]
pub struct Published(Mutex<View>);

impl Published {
    /// Puts a view there, unless somebody reads just now: then `false`, and later again.
    pub fn put(&self, view: &View) -> bool {
        let mut place = match self.0.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        place.clone_from(view);
        true
    }

    pub fn view(&self) -> View {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
