//! A watcher's word: look here. Never a fact.

use crate::model::path::RelPath;

/// Where to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// This name below the root may have changed. The bytes come from a watcher and are
    /// not checked yet: the engine resolves them against what it knows.
    Name(Box<[u8]>),
    /// The watch of this directory ended without being asked to.
    Unwatched { dir: RelPath, generation: u64 },
    /// Some names are missing from the hints: only a scan helps.
    Lost,
}
