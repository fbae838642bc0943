//! What a walk saw of one directory, in chunks.

use super::path::RelPath;
use super::plan::ReadAs;
use super::seen::{Seen, Stat};
use super::session::{Facts, Key};
use super::watcher::Watch;

/// Identifies one scan; later scans have greater numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScanId(pub u64);

/// What a scan covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOrder {
    pub id: ScanId,
    /// The directory to begin with, listed with everything below it.
    pub at: RelPath,
    /// Whether the sessions in it are new, so that their documents are read on the way.
    pub reads: bool,
}

/// What was read of a session through the descriptor that its directory, or the one that its
/// files lie in, was listed with, after the listing named what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered {
    pub facts: Facts,
    pub proofs: Vec<ReadAs>,
}

/// The watch that was placed on a directory before it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Nobody watches (a one-shot command).
    Unasked,
    Placed(Watch),
    /// Could not be placed: changes in this directory are seen by scans only.
    Failed,
}

/// Some entries of one directory. The chunks of one directory come in order,
/// and those of a directory after the chunk of its parent that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub scan: ScanId,
    pub dir: RelPath,
    /// Of the directory itself, taken from its open descriptor.
    pub stat: Stat,
    pub watched: Watched,
    pub first: bool,
    /// After this chunk the directory is known whole: a name in none of its chunks was not there.
    pub last: bool,
    /// Where the order asked for it: with the last chunk of a session what was read of it, with
    /// any chunk what the metadata that it names says of sessions that are files, by their keys.
    pub gathered: Vec<(Key, Gathered)>,
    names: Vec<u8>,
    entries: Vec<(u32, Seen)>,
}

impl Listing {
    /// Entries of one chunk; a bigger directory comes in several.
    pub const MAX_ENTRIES: usize = 1024;

    pub fn new(scan: ScanId, dir: RelPath, stat: Stat, watched: Watched, first: bool) -> Self {
        Self {
            scan,
            dir,
            stat,
            watched,
            first,
            last: false,
            gathered: Vec::new(),
            names: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub fn push(&mut self, name: &[u8], seen: Seen) {
        self.names.extend_from_slice(name);
        // A chunk holds at most 1024 names of at most 255 bytes each.
        self.entries.push((self.names.len() as u32, seen));
    }

    /// Entries and bytes of names.
    pub fn room(&self) -> (usize, usize) {
        (self.entries.len(), self.names.len())
    }

    /// Makes room for so much, within reason.
    pub fn make_room(&mut self, (n_entries, n_bytes): (usize, usize)) {
        self.entries.reserve(n_entries.min(64));
        self.names.reserve(n_bytes.min(1024));
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &Seen)> {
        let mut begin = 0;
        self.entries.iter().map(move |(end, seen)| {
            let name = &self.names[begin..*end as usize];
            begin = *end as usize;
            (name, seen)
        })
    }
}

/// How a directory could not be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlisted {
    /// Not there any more, or no directory any more: its parent will say.
    Gone,
    /// Another file system or mount begins here; never crossed.
    ForeignMount,
    /// Its path is longer than is listed (four times what the kernel takes at once).
    TooDeep,
    /// Any other error; the errno.
    Unreadable(i32),
}

/// What a walk sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    Chunk(Listing),
    Unlisted {
        scan: ScanId,
        dir: RelPath,
        why: Unlisted,
    },
    /// Everything of this scan was sent before this.
    End {
        scan: ScanId,
    },
}
