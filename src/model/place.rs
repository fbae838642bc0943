//! Where the engine asks the disk to look.

use super::path::RelPath;

/// A directory's place in the index. A place used again has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DirId {
    pub slot: u32,
    pub generation: u32,
}

/// Why a look was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A watcher named it: somebody touched it just now.
    Hint,
    /// A scan found something else than the index has: a difference now is drift.
    Scan,
    /// Asked again by the engine itself.
    Again,
    /// In its turn, whether or not anybody touched it.
    Guard,
}

/// Something that is mounted below a root. Mounted anew at the same place it has another number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountPoint {
    pub at: RelPath,
    pub id: u64,
}

/// One name to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub dir: DirId,
    /// The bytes of a path; the name begins at `name_at`.
    pub path: Box<[u8]>,
    pub name_at: usize,
    pub why: Why,
}

impl Look {
    pub fn new(dir: DirId, name: &[u8], why: Why) -> Self {
        Self {
            dir,
            path: name.into(),
            name_at: 0,
            why,
        }
    }

    pub fn name(&self) -> &[u8] {
        &self.path[self.name_at..]
    }
}
