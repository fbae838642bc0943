//! What is held of a session while something is done to it: its locks, and the proof that it is
//! what the decision was made from.

use crate::layout::LockAt;
use crate::model::disk::Disk;
use crate::model::path::RelPath;
use crate::model::plan::Proof;
use crate::model::report::{Outcome, Skip};
use crate::model::seen::{FileId, Seen, Signature, Stat};
use crate::model::time::{Now, UnixNanos};
use std::io;
use std::time::Duration;

/// The first word against it ends the checking.
pub(super) type Checked<T> = Result<T, Outcome>;

/// Everything held. Dropping it lets go.
pub(super) struct Grip<'d, D: Disk> {
    disk: &'d D,
    /// The documents with their names, and lock files.
    handles: Vec<(Box<[u8]>, D::Handle, Signature)>,
    ids: Vec<FileId>,
    written: UnixNanos,
}

impl<'d, D: Disk> Grip<'d, D> {
    pub(super) fn new(disk: &'d D) -> Self {
        Self {
            disk,
            handles: Vec::new(),
            ids: Vec::new(),
            written: UnixNanos(i64::MIN),
        }
    }

    /// Its open files, to be kept past the rename: their locks go with the last of them, and an
    /// inode that is open is no other file's meanwhile.
    pub(super) fn into_held(self) -> Vec<D::Handle> {
        self.handles
            .into_iter()
            .map(|(_, handle, _)| handle)
            .collect()
    }

    /// What was looked at counts as a write at its time.
    pub(super) fn note(&mut self, stat: &Stat, now: Now) {
        self.ids.push(stat.id);
        self.written = self.written.max(stat.written(now.wall.into()));
    }

    /// An open file that was held under this name, and what it was then.
    pub(super) fn handle(&self, name: &[u8]) -> Option<(&D::Handle, Signature)> {
        let held = self.handles.iter().find(|(known, _, _)| **known == *name);
        held.map(|(_, handle, signature)| (handle, *signature))
    }

    /// A document is what it was when the facts were read, and locked from now on.
    pub(super) fn check_proof(&mut self, dir: &D::Handle, proof: &Proof, now: Now) -> Checked<()> {
        let opened = match self.disk.open_in(dir, &proof.name) {
            Ok(opened) => Some(opened),
            Err(error) => match not_openable(error) {
                Outcome::Gone => None,
                Outcome::Skipped(Skip::Replaced) => return Err(skip(Skip::Changed)),
                outcome => return Err(outcome),
            },
        };
        match (opened, proof.mark) {
            (None, None) => Ok(()),
            (Some((file, stat)), Some(mark)) if stat.signature().mark() == mark => {
                self.hold(&proof.name, file, &stat, now)
            }
            (None, Some(_)) | (Some(_), None | Some(_)) => Err(skip(Skip::Changed)),
        }
    }

    /// Takes one of the layout's locks, where its file is there. `parent`: the directory that
    /// the session lies in, a directory or files; `dir`: the session, or again that directory.
    pub(super) fn take_lock(
        &mut self,
        parent: Option<&RelPath>,
        dir: &D::Handle,
        lock: &LockAt,
    ) -> Checked<()> {
        let beside = match (lock, parent) {
            (LockAt::Beside(name), Some(parent)) => {
                let bad_name = |_| skip(refused("open the lock file", libc::EINVAL));
                Some(parent.join(name).map_err(bad_name)?)
            }
            (LockAt::Inside(_) | LockAt::Beside(_), _) => None,
        };
        let (LockAt::Inside(name) | LockAt::Beside(name)) = lock;
        let opened = match &beside {
            Some(path) => self.disk.open(path),
            None => self.disk.open_in(dir, name),
        };
        let (file, stat) = match opened {
            Ok(opened) => opened,
            Err(error) if errno(&error) == libc::ENOENT => return Ok(()),
            Err(error) => return Err(skip(refused("open the lock file", errno(&error)))),
        };
        // A second descriptor of a file locked already would find our own lock.
        if self.ids.contains(&stat.id) {
            return Ok(());
        }
        take(self.disk, &file)?;
        // A program that removes its lock file and makes a new one holds the new one.
        if let Some(path) = beside
            && !matches!(self.disk.look(&path), Seen::There(now) if now.id == stat.id)
        {
            return Err(skip(Skip::Locked));
        }
        self.ids.push(stat.id);
        self.handles.push((name.clone(), file, stat.signature()));
        Ok(())
    }

    /// Locks a file of the session, and keeps it.
    pub(super) fn hold(
        &mut self,
        name: &[u8],
        file: D::Handle,
        stat: &Stat,
        now: Now,
    ) -> Checked<()> {
        if !self.ids.contains(&stat.id) {
            take(self.disk, &file)?;
        }
        self.note(stat, now);
        self.handles.push((name.into(), file, stat.signature()));
        Ok(())
    }

    pub(super) fn check_quiet(&self, now: Now, quiet: Duration) -> Checked<()> {
        let now = UnixNanos::from(now.wall);
        let age = u128::from(now.0.saturating_sub(self.written.0).unsigned_abs());
        if age < quiet.as_nanos() {
            return Err(skip(Skip::Quiet));
        }
        Ok(())
    }
}

/// Takes a BSD lock, or says who has it: somebody.
pub(super) fn take<D: Disk>(disk: &D, handle: &D::Handle) -> Checked<()> {
    match disk.lock(handle) {
        Ok(true) => Ok(()),
        Ok(false) => Err(skip(Skip::Locked)),
        Err(error) => Err(skip(refused("lock", errno(&error)))),
    }
}

pub(super) fn skip(why: Skip) -> Outcome {
    Outcome::Skipped(why)
}

pub(super) fn refused(operation: &'static str, errno: i32) -> Skip {
    Skip::Refused { operation, errno }
}

pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// What a failed open says about a name that was planned.
pub(super) fn not_openable(error: io::Error) -> Outcome {
    match errno(&error) {
        libc::ENOENT => Outcome::Gone,
        // A symlink, or something else, took the place of a directory on the way; a socket.
        libc::ELOOP | libc::ENOTDIR | libc::ENXIO => skip(Skip::Replaced),
        errno => skip(refused("open", errno)),
    }
}
