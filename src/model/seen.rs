//! What the disk answered.

use super::time::UnixNanos;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;

/// Which inode: survives renames, not deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    pub dev: u64,
    pub ino: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Dir,
    Symlink,
    /// FIFO, socket, device.
    Other,
}

/// One `statx` answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub id: FileId,
    /// The mount it was reached through; bind mounts share `id.dev`.
    pub mount: u64,
    pub kind: FileKind,
    /// `st_size`.
    pub apparent: u64,
    /// 512 × `st_blocks`.
    pub allocated: u64,
    pub n_links: u32,
    pub mtime: UnixNanos,
    pub ctime: UnixNanos,
    /// Creation time, where the file system keeps one.
    pub btime: Option<UnixNanos>,
}

impl Stat {
    /// The later of mtime and ctime; mtime alone can be forged.
    /// A mtime after `now` says nothing about a write and is passed over.
    pub fn written(&self, now: UnixNanos) -> UnixNanos {
        if self.mtime > now {
            self.ctime.min(now)
        } else {
            self.mtime.max(self.ctime).min(now)
        }
    }

    /// What names this inode across a restart.
    pub fn inode(&self) -> Inode {
        Inode {
            id: self.id,
            birth: self.btime,
        }
    }

    /// Changes when the content may have changed.
    pub fn signature(&self) -> Signature {
        Signature {
            id: self.id,
            size: self.apparent,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }
}

/// Which directory a root is, across restarts: device numbers are given anew by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub ino: u64,
    /// `f_fsid` of statvfs(3); 0 where the file system has none.
    pub file_system: u64,
}

/// Which inode, told apart from a later one that got the same number: for what is compared
/// after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    pub id: FileId,
    /// `None` where the file system keeps no creation time: then the number has to do.
    pub birth: Option<UnixNanos>,
}

impl Inode {
    /// Whether this is seen there. A restart may give a file system another device number: then
    /// number and time of birth say it.
    pub fn is(&self, seen: &Stat) -> bool {
        let is_known_again = self.birth.is_some() && self.birth == seen.btime;
        seen.inode() == *self || (seen.id.ino == self.id.ino && is_known_again)
    }
}

/// Two equal signatures of one name: the content was not written in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Signature {
    pub id: FileId,
    pub size: u64,
    pub mtime: UnixNanos,
    pub ctime: UnixNanos,
}

impl Signature {
    /// What is kept of it for each session.
    pub fn mark(&self) -> Mark {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Mark(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
    }
}

/// A digest of a signature: a change leaves it as it was once in 2⁶⁴ times. Whoever could aim
/// at that (nobody sets a ctime) would hide a change of his own session's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(NonZeroU64);

/// The answer to one look at one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    There(Stat),
    Gone,
    /// Any error but "not found"; the errno.
    Unreadable(i32),
}
