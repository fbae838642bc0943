//! What becomes of a session as time goes by, apart from its end: decided in the engine, carried
//! out beside it.

use super::path::RelPath;
use super::plan::Proof;
use super::report::{Aside, Skip};
use super::seen::FileId;
use super::session::{Key, SessionId};
use super::time::{Time, UnixNanos};
use std::fmt;
use std::time::Duration;

/// What is done to a session that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    /// It is active and nobody works on it: its metadata will say that it failed.
    Fail,
    /// It has ended: its temporary parts go.
    DropParts,
    /// It has parts and no record: they go.
    DropOrphanParts,
}

impl Deed {
    /// The configuration key that asks for it; used in JSON and logs.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Fail => "stale_after",
            Self::DropParts => "parts_after",
            Self::DropOrphanParts => "orphan_parts_after",
        }
    }

    /// What it does, in a word for JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::DropParts | Self::DropOrphanParts => "delete_parts",
        }
    }
}

/// Files of one session that match the parts' globs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    pub n_files: u64,
    /// Sum of their `st_size`.
    pub bytes: u64,
}

/// A deed that is due. `Display` is the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub session: SessionId,
    pub key: Key,
    pub path: RelPath,
    pub deed: Deed,
    /// How long nobody has touched the session, and how long that may be.
    pub idle: Duration,
    pub limit: Duration,
    /// What goes; nothing for [`Deed::Fail`].
    pub parts: Parts,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |d: Duration| humantime::format_duration(Duration::from_secs(d.as_secs()));
        let (idle, limit) = (seconds(self.idle), seconds(self.limit));
        let rule = self.deed.rule();
        match self.deed {
            Deed::Fail => write!(
                f,
                "it is active and untouched for {idle}, more than {rule} {limit}"
            ),
            Deed::DropParts => {
                write!(
                    f,
                    "it has ended and is unwritten for {idle}, more than {rule} {limit}"
                )
            }
            Deed::DropOrphanParts => {
                write!(
                    f,
                    "it has no record and is unwritten for {idle}, more than {rule} {limit}"
                )
            }
        }
    }
}

/// What a session is on the disk, as it was decided from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The session's directory; for files the one that they lie in.
    pub dir: RelPath,
    pub id: FileId,
    /// `None`: the directory with all that is in it. Else these files in it, which holds others,
    /// too; [`Extent::key`] tells which names are the session's.
    pub files: Option<Vec<(Box<[u8]>, FileId)>>,
    pub key: Key,
}

/// Look for a session's parts. Changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartsOrder {
    pub session: SessionId,
    pub extent: Extent,
}

/// What a look through a session found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartsSeen {
    pub parts: Parts,
    /// The newest write to anything in the session.
    pub newest: UnixNanos,
}

/// Carry out a deed, if the disk still says what it was decided from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifeOrder {
    pub transition: Transition,
    pub extent: Extent,
    /// The documents its facts were read from.
    pub proofs: Vec<Proof>,
    /// Anything written after this, and nothing is done.
    pub unwritten_since: UnixNanos,
    /// When it was decided: what the metadata will say.
    pub at: Time,
}

/// What became of a deed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifeOutcome {
    /// The metadata says so now.
    Failed,
    /// Out of the tree; these names in the trash wait for removal. `more`: others are left,
    /// for another order.
    PartsGone {
        parts: Parts,
        aside: Vec<Aside>,
        more: bool,
    },
    /// The session is not there any more.
    Gone,
    Skipped(Skip),
}

/// The end of a [`LifeOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifeReport {
    pub transition: Transition,
    pub outcome: LifeOutcome,
}
