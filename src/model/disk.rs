//! The seam between pruning and the file system: the few operations a removal is made of.
//!
//! All paths are below the root that the disk holds open. None of these follows a symlink,
//! crosses a mount or leaves the root.

use super::path::RelPath;
use super::report::{Aside, AsideName, Unlist};
use super::seen::{FileId, Inode, Seen, Signature, Stat};
use std::io;
use std::sync::Arc;

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

    /// Renames out of its place and looks at what is under the new name then. Where that is not
    /// the inode of `aside`'s name it goes back onto a free name in the same open directory,
    /// whatever has that one's path by now; else it is marked, and no start removes it.
    fn set_aside(&self, path: &RelPath, aside: &Aside) -> io::Result<Moved>;
}

/// What came of a rename out of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    Aside,
    /// It was another inode, and is back in its place.
    Back,
    /// It was another inode, and its place was taken: it stays where it was renamed to.
    Kept,
}

impl<D: Disk> Disk for Arc<D> {
    type Handle = D::Handle;

    fn in_place(&self) -> io::Result<bool> {
        (**self).in_place()
    }

    fn look(&self, path: &RelPath) -> Seen {
        (**self).look(path)
    }

    fn open(&self, path: &RelPath) -> io::Result<(Self::Handle, Stat)> {
        (**self).open(path)
    }

    fn open_in(&self, dir: &Self::Handle, name: &[u8]) -> io::Result<(Self::Handle, Stat)> {
        (**self).open_in(dir, name)
    }

    fn lock(&self, handle: &Self::Handle) -> io::Result<bool> {
        (**self).lock(handle)
    }

    fn set_aside(&self, path: &RelPath, aside: &Aside) -> io::Result<Moved> {
        (**self).set_aside(path, aside)
    }
}

/// What it takes to keep a session that is several files: they lie together in a directory of
/// their own, which is kept, let go of and brought back as one.
pub trait Bundles: Disk {
    /// Makes an empty one; `ulid` begins its name. While the handle is open nothing that is kept
    /// comes back: half of it could. EAGAIN: something just comes back.
    fn make_bundle(&self, ulid: &str) -> io::Result<(AsideName, Self::Handle)>;

    /// Renames a file into it, under its own name, and looks at what is there then, as
    /// [`Disk::set_aside`] does. ENOENT: the file or the bundle is not there.
    fn bundle(&self, path: &RelPath, id: FileId, bundle: &AsideName) -> io::Result<Moved>;

    /// Whether it is there, as the directory that was made.
    fn has_bundle(&self, bundle: &AsideName) -> bool;

    /// Removes one that is empty; ENOTEMPTY: it is not, and stays.
    fn drop_bundle(&self, bundle: &AsideName) -> io::Result<()>;
}

impl<D: Bundles> Bundles for Arc<D> {
    fn make_bundle(&self, ulid: &str) -> io::Result<(AsideName, Self::Handle)> {
        (**self).make_bundle(ulid)
    }

    fn bundle(&self, path: &RelPath, id: FileId, bundle: &AsideName) -> io::Result<Moved> {
        (**self).bundle(path, id, bundle)
    }

    fn has_bundle(&self, bundle: &AsideName) -> bool {
        (**self).has_bundle(bundle)
    }

    fn drop_bundle(&self, bundle: &AsideName) -> io::Result<()> {
        (**self).drop_bundle(bundle)
    }
}

/// What the lifecycle of sessions needs besides: it changes sessions that stay.
pub trait LiveDisk: Disk {
    /// Looks at all that is in a session, the session itself first, each with its path below the
    /// session. An error ends it: then not everything was seen.
    fn look_through(
        &self,
        path: &RelPath,
        id: FileId,
        each: &mut dyn FnMut(&[u8], &Stat),
    ) -> io::Result<()>;

    /// The text of an open file.
    fn read(&self, file: &Self::Handle) -> io::Result<Vec<u8>>;

    /// Puts a file with this text, and the old one's owner and mode, in the place of `file`,
    /// which is `name` in the session. After a crash it is the old one or the new one, whole.
    /// `false`: somebody else changed it or has it open, and it is as they want it.
    fn rewrite(
        &self,
        place: &Place<'_>,
        file: &Self::Handle,
        old: Signature,
        text: &[u8],
    ) -> io::Result<bool>;

    /// Edits the catalogue, a file of this name in the root that its owner saves without locks.
    /// `edit` gets its text, and gives the new one, or `None`; it may be called again where the
    /// owner saves meanwhile.
    fn edit(&self, name: &[u8], edit: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Unlist;

    /// Removes a file where it lies, if it still is this inode.
    fn unlink(&self, path: &RelPath, inode: Inode) -> io::Result<()>;
}

/// A name in a session.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub session: &'a RelPath,
    /// The session's directory.
    pub id: FileId,
    pub name: &'a [u8],
}

/// How long a record must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Through the end of this process.
    Process,
    /// Through a loss of power: costs milliseconds.
    Power,
}

/// Small records that the next start reads: what was decided and is not finished.
pub trait Records {
    /// Writes a record under a fresh name. After a crash it is whole, absent or empty.
    fn save(&self, name: &str, text: &[u8], lasting: Lasting) -> io::Result<()>;

    /// Removes a record. One that is not there is no error.
    fn discard(&self, name: &str) -> io::Result<()>;

    /// All records, oldest first.
    fn all(&self) -> io::Result<Vec<(String, Vec<u8>)>>;
}

impl<R: Records> Records for Arc<R> {
    fn save(&self, name: &str, text: &[u8], lasting: Lasting) -> io::Result<()> {
        (**self).save(name, text, lasting)
    }

    fn discard(&self, name: &str) -> io::Result<()> {
        (**self).discard(name)
    }

    fn all(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        (**self).all()
    }
}
