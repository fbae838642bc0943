//! The seam between pruning and the file system: the few operations a removal is made of.
//!
//! All paths are below the root that the disk holds open. None of these follows a symlink,
//! crosses a mount or leaves the root.

use super::path::RelPath;
use super::report::AsideName;
use super::seen::{Seen, Stat};
use std::io;

/// One root's tree, as pruning sees it.
pub trait Disk {
    /// An open file or directory. Dropping it closes it and frees its lock.
    type Handle;

    /// Whether the root's path still leads to the directory held open.
    fn in_place(&self) -> io::Result<bool>;

    /// One `statx`, without following.
    fn look(&self, path: &RelPath) -> Seen;

    /// Opens a directory or regular file for reading, without following and without blocking,
    /// and tells what was opened.
    fn open(&self, path: &RelPath) -> io::Result<(Self::Handle, Stat)>;

    /// The same, for a name in an open directory.
    fn open_in(&self, dir: &Self::Handle, name: &[u8]) -> io::Result<(Self::Handle, Stat)>;

    /// Takes an exclusive BSD lock without waiting. `false`: somebody holds one.
    /// A file system without such locks answers `true`: there nobody can hold one.
    fn lock(&self, handle: &Self::Handle) -> io::Result<bool>;

    /// Renames into the trash and looks at what is there then.
    fn set_aside(&self, path: &RelPath, aside: &AsideName) -> io::Result<Stat>;

    /// Renames out of the trash, onto a free name only (`RENAME_NOREPLACE`).
    fn put_back(&self, aside: &AsideName, path: &RelPath) -> io::Result<()>;

    /// Marks something in the trash as not ours: no start removes it.
    fn keep_aside(&self, aside: &AsideName) -> io::Result<()>;
}
