//! What happened in one root, for logs, metrics and audit. Written once, told in many ways.

use super::anomaly::AnomalyKind;
use super::bytes::Bytes;
use super::lifecycle::Transition;
use super::path::RelPath;
use super::plan::{Because, Blocker, Held};
use super::report::{Holder, Skip, Unlist};
use super::session::Key;
use super::time::Time;
use super::watcher::Backend;
use std::sync::Arc;
use std::time::Duration;

/// Why a scan was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanCause {
    Start,
    Timer,
    /// A signal or a command.
    Asked,
    /// Hints were lost.
    Loss,
    /// The file system holds more or less than the index explains, or mounts changed.
    Guard,
}

impl ScanCause {
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Timer => "timer",
            Self::Asked => "asked",
            Self::Loss => "loss",
            Self::Guard => "guard",
        }
    }
}

/// How a burst of pruning ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub before: Bytes,
    pub after: Bytes,
    pub limit: Option<Bytes>,
    pub n_deleted: u64,
    pub freed: Bytes,
    pub n_kept: u64,
    /// The first 100 of each.
    pub deleted: Vec<Key>,
    pub kept: Vec<Key>,
}

/// What was so when something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// When the plan was made that it belongs to: what was planned together has the same one.
    pub planned: Option<Time>,
    pub usage: Bytes,
    pub limit: Option<Bytes>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A cycle is one full scan with the check after it.
    CycleStart {
        cause: ScanCause,
    },
    CycleEnd {
        next_wakeup: Option<Time>,
    },
    ScanDone {
        cause: ScanCause,
        duration: Duration,
        bytes: Bytes,
        n_files: u64,
        n_sessions: u64,
        n_anomalies: u64,
        drift: Bytes,
    },
    PruneCheck {
        usage: Bytes,
        limit: Option<Bytes>,
        n_sessions: u64,
        n_candidates: u64,
    },
    PruneNoop {
        usage: Bytes,
        limit: Option<Bytes>,
        n_sessions: u64,
    },
    PruneStarted {
        usage: Bytes,
        limit: Option<Bytes>,
        n_victims: u64,
    },
    /// `reaction`: from the first hint of the batch that led here until it was out of the tree.
    PruneDeleted {
        key: Key,
        path: RelPath,
        freed: Bytes,
        created: Option<Time>,
        because: Because,
        reaction: Option<Duration>,
        /// Before it went.
        moment: Moment,
    },
    PruneSkipped {
        key: Key,
        path: RelPath,
        because: Because,
        why: Skip,
        moment: Moment,
    },
    PruneSummary(Summary),
    TargetUnmet {
        usage: Bytes,
        limit: Option<Bytes>,
        still_over: Bytes,
        blocked: Vec<(Blocker, Held)>,
    },
    LockBusy {
        holder: Option<Holder>,
    },
    LockStale {
        holder: Option<Holder>,
    },
    LockFailed {
        operation: &'static str,
        errno: i32,
    },
    AnomalyFound {
        kind: AnomalyKind,
        path: RelPath,
        bytes: Bytes,
    },
    AnomalyCleared {
        kind: AnomalyKind,
        path: RelPath,
    },
    /// More of a kind than the log takes.
    AnomaliesMore {
        kind: AnomalyKind,
        found: u64,
        cleared: u64,
    },
    WatchLost {
        n_losses: u64,
    },
    /// Directories have no watch of their own.
    WatchDegraded {
        n_unwatched: u64,
    },
    /// Another backend than the one wanted, or than the one before, gives the hints.
    BackendDegraded {
        to: Backend,
        why: String,
    },
    RootHeld {
        n_victims: u64,
        n_sessions: u64,
        freed: Bytes,
        usage: Bytes,
    },
    RootMoved,
    RootBack,
    Unlisted {
        n_entries: u64,
        result: Unlist,
    },
    /// A record of an unfinished removal is not carried out; it was discarded.
    IntentRefused {
        record: String,
        /// `None`: the record does not say it.
        path: Option<RelPath>,
        why: &'static str,
    },
    TrashLeft {
        left: Vec<(String, i32)>,
    },
    ClockHeld {
        reason: &'static str,
    },
    /// The metadata of a session says another state than before.
    StateChanged {
        key: Key,
        path: RelPath,
        from: Option<Arc<str>>,
        to: Option<Arc<str>>,
    },
    /// The metadata of a stale session was made to say that it failed.
    LifecycleFailed(Transition),
    /// What went of a session's parts is in the transition.
    LifecyclePartsDeleted(Transition),
    LifecycleSkipped {
        transition: Transition,
        why: Skip,
    },
}
