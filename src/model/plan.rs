//! What should go now, and why. Computing it has no effects.

use super::bytes::Bytes;
use super::lifecycle::Transition;
use super::path::RelPath;
use super::seen::{FileId, Mark, Signature};
use super::session::{Key, SessionId};
use super::time::{Tick, Time};
use std::fmt;
use std::time::Duration;

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    Age,
    Count,
    Size,
    Failed,
}

impl Rule {
    pub const ALL: [Self; 4] = [Self::Age, Self::Count, Self::Size, Self::Failed];

    /// The configuration key that sets it; used in JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Age => "max_age",
            Self::Count => "max_count",
            Self::Size => "max_size",
            Self::Failed => "failed_retention",
        }
    }
}

/// Why one session goes: the rule with its numbers. `Display` is the sentence for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    TooOld {
        age: Duration,
        max_age: Duration,
    },
    TooMany {
        n_sessions: u64,
        max_count: u64,
    },
    TooBig {
        usage: Bytes,
        max_size: Bytes,
        /// What is kept free ahead of it.
        headroom: Bytes,
        goal: Bytes,
    },
    /// It failed long ago.
    Failed {
        since: Duration,
        failed_retention: Duration,
    },
}

impl Because {
    pub fn rule(&self) -> Rule {
        match self {
            Self::TooOld { .. } => Rule::Age,
            Self::TooMany { .. } => Rule::Count,
            Self::TooBig { .. } => Rule::Size,
            Self::Failed { .. } => Rule::Failed,
        }
    }

    /// The least value of the rule's limit under which it would have stayed: bytes, sessions, or
    /// whole seconds.
    pub fn spared_by(&self) -> u64 {
        let seconds = |time: &Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        match self {
            Self::TooOld { age, .. } => seconds(age),
            Self::TooMany { n_sessions, .. } => *n_sessions,
            Self::TooBig {
                usage, headroom, ..
            } => usage.saturating_add(*headroom).0,
            Self::Failed { since, .. } => seconds(since),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |d: &Duration| humantime::format_duration(Duration::from_secs(d.as_secs()));
        match self {
            Self::TooOld { age, max_age } => {
                write!(
                    f,
                    "it is {} old, more than max_age {}",
                    seconds(age),
                    seconds(max_age)
                )
            }
            Self::TooMany {
                n_sessions,
                max_count,
            } => {
                write!(
                    f,
                    "the oldest of {n_sessions} sessions, more than max_count {max_count}"
                )
            }
            Self::TooBig {
                usage,
                max_size,
                headroom,
                goal,
            } => {
                write!(
                    f,
                    "the oldest while {usage} ({} bytes) are used, more than max_size {max_size}",
                    usage.0
                )?;
                if *headroom > Bytes::ZERO {
                    write!(f, " less headroom {headroom}")?;
                }
                write!(f, ", down to {goal}")
            }
            Self::Failed {
                since,
                failed_retention,
            } => write!(
                f,
                "it failed {} ago, more than failed_retention {}",
                seconds(since),
                seconds(failed_retention)
            ),
        }
    }
}

/// Why a session that a rule would take stays, or why bytes cannot go at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blocker {
    Active,
    Quiet,
    Pinned,
    Locked,
    /// The kernel refuses it: a file system for reading only, an immutable file, no right to it.
    Refused,
    Anomalous,
    Orphan,
    /// The newest tenth of the limit, kept because what may not go fills the rest (promise 1).
    Reserved,
}

impl Blocker {
    pub const ALL: [Self; 8] = [
        Self::Active,
        Self::Quiet,
        Self::Pinned,
        Self::Locked,
        Self::Refused,
        Self::Anomalous,
        Self::Orphan,
        Self::Reserved,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Quiet => "quiet",
            Self::Pinned => "pinned",
            Self::Locked => "locked",
            Self::Refused => "refused",
            Self::Anomalous => "anomalous",
            Self::Orphan => "orphan",
            Self::Reserved => "reserved",
        }
    }
}

/// What one reason holds back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub n_sessions: u64,
    pub bytes: Bytes,
}

/// A file as it was when facts were read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAs {
    pub name: Box<[u8]>,
    /// `None`: it was absent.
    pub signature: Option<Signature>,
}

/// A file that must still be as it was when the facts were read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub name: Box<[u8]>,
    /// `None`: it must still be absent.
    pub mark: Option<Mark>,
}

/// The names that make up a victim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A directory with everything in it: leaves in one rename.
    Tree { id: FileId, proofs: Vec<Proof> },
    /// Files beside others in one directory. One leaves in one rename; of several the data goes
    /// first, and the metadata, the last of them, last.
    Files {
        names: Vec<(Box<[u8]>, FileId)>,
        proofs: Vec<Proof>,
    },
    /// Blobs in the root's own directory and an entry in the catalogue: blobs first, entry last.
    Blobs {
        blobs: Vec<(Box<[u8]>, FileId)>,
        catalogue: Proof,
    },
}

/// A session that a plan gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    pub session: SessionId,
    pub key: Key,
    /// The session's directory; for files and blobs the directory that they lie in.
    pub path: RelPath,
    pub body: Body,
    /// What the root has less when it is gone. Links that stay elsewhere in the root do not count.
    pub freed: Bytes,
    /// `None` never happens for a rule that orders by it.
    pub created: Option<Time>,
    pub because: Because,
}

impl Victim {
    /// The name that people know it by: its directory, or its first blob.
    pub fn shown_path(&self) -> RelPath {
        let blob = match &self.body {
            Body::Tree { .. } => None,
            Body::Files { names, .. } | Body::Blobs { blobs: names, .. } => names.first(),
        };
        blob.and_then(|(name, _)| self.path.join(name).ok())
            .unwrap_or_else(|| self.path.clone())
    }
}

/// What to do now. A plan that cannot be met says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Oldest first.
    pub victims: Vec<Victim>,
    /// What is to be done to sessions that stay, oldest first.
    pub transitions: Vec<Transition>,
    /// Steps of lives that are due and wait for a later cycle: `lifecycle.batch` is full.
    pub n_later: u64,
    /// By reason, those with nothing held left out.
    pub blocked: Vec<(Blocker, Held)>,
    /// What is above the goal still when all victims are gone.
    pub still_over: Bytes,
    /// Sessions above `max_count`, or older than `max_age`, still there when all victims are gone.
    pub still_too_many: u64,
    /// When a reason that ends with time ends first.
    pub retry: Option<Tick>,
    /// When all sessions have been left alone for long enough that were passed over because they
    /// were written to just now. Newer ones are victims in their place.
    pub quiet_until: Option<Tick>,
}

impl Plan {
    /// Whether carrying it out meets every limit.
    pub fn meets_limits(&self) -> bool {
        self.still_over == Bytes::ZERO && self.still_too_many == 0
    }
}
