//! A watcher's word: look here. Never a fact.

use crate::model::path::RelPath;
use crate::model::watcher::DirKey;

/// Where to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// This name below the root may have changed. The bytes come from a watcher and are
    /// not checked yet: the engine resolves them against what it knows.
    Name(Box<[u8]>),
    /// This name in a directory may have changed: the name is what lies from `name_at` on.
    Entry {
        dir: DirKey,
        path: Box<[u8]>,
        name_at: usize,
    },
    /// A directory with this key is watched from now on; its listing is still to come. What
    /// is hinted in a directory of an unknown key before that is older than the listing.
    Begun { dir: DirKey },
    /// The watch of this directory ended without being asked to.
    Unwatched { dir: RelPath, generation: u64 },
    /// The same, where hints name directories by key; told of those that were asked to end, too.
    Ended { dir: DirKey },
    /// This inode, known under several names, may have been written through one elsewhere.
    Inode(u64),
    /// Some names are missing from the hints: only a scan helps.
    Lost,
}
