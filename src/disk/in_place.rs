//! Removes a victim where it lies, because no rename could take it into the trash.
//!
//! Its owner can still take a directory out of it meanwhile, and what is out is not ours any
//! more. So nothing is unlinked through a directory kept open: before each single unlink the
//! containing directory is resolved anew from the root, beneath it, over no symlink and no
//! mount, and must be the inode that was listed. What is lost to a move at the same moment is
//! one file at most. That is slow, and a fall-back only. Where there is a trash, a subdirectory
//! is renamed into it and removed there; what was not in the victim any more goes back.
//!
//! Bounds: not recursive; a path that the kernel does not take at once is left. Names are
//! listed [`MAX_NAMES`] at a time, a directory is gone through [`MAX_PASSES`] times, and what
//! then is in it is left. Left-overs are named up to [`remove::MAX_LEFT`].

use crate::disk::remove::{self, MAX_LEFT, open_up};
use crate::disk::tree::{
    Control, MAX_PATH, Tree, Unable, c_name, fd_stat, keep, rename_new, stat_name,
};
use crate::model::path::{RelPath, escape, is_name};
use crate::model::report::{Aside, AsideName};
use crate::model::seen::{FileId, FileKind, Inode};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;
use std::collections::HashSet;
use std::sync::Arc;
use ulid::Ulid;

/// Names of one directory taken at a time.
const MAX_NAMES: usize = 4096;
/// Only a directory that somebody fills while it is emptied, or with 16 million names,
/// reaches it.
const MAX_PASSES: u32 = 4096;

/// Removes a directory where it lies: its contents first, then the names in `last`, in order,
/// then itself. Its intent is written before. Answers what is left, with the errno.
pub fn remove_in_place(
    tree: &Tree,
    path: &RelPath,
    inode: Inode,
    last: &[Box<[u8]>],
) -> Vec<(String, i32)> {
    let mut emptier = Emptier::new(tree);
    match emptier.victim(path, inode, last) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => emptier.leave(path.to_string(), errno),
    }
    emptier.finish_lifted();
    let Emptier {
        mut left,
        left_in_trash,
        ..
    } = emptier;
    left.extend(left_in_trash);
    left
}

/// Removes files where they lie, those that are still the same inodes. Answers what is left.
pub fn remove_files_in_place(
    tree: &Tree,
    dir: &RelPath,
    files: &[(Box<[u8]>, Inode)],
) -> Vec<(String, i32)> {
    let mut emptier = Emptier::new(tree);
    for (name, inode) in files {
        match emptier.file(dir, name, *inode) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => emptier.leave(escape(name), errno),
        }
    }
    emptier.left
}

/// A directory that is being emptied: where it was listed, and what it was.
struct Level {
    path: RelPath,
    id: FileId,
    /// Not looked into yet, each as it was listed.
    subdirs: Vec<(Box<[u8]>, FileId)>,
    /// What could not be removed, and is not tried twice.
    failed: HashSet<Box<[u8]>>,
    n_passes: u32,
    /// Its right to be changed was given once.
    opened_up: bool,
}

/// How one pass over a directory ended.
enum Pass {
    /// Nothing is in it but what failed.
    Empty,
    /// Something was removed, or subdirectories wait.
    Again,
}

struct Emptier<'a> {
    tree: &'a Tree,
    /// Without a trash (no space for it) nothing is lifted.
    control: Option<Arc<Control>>,
    lifted: Vec<AsideName>,
    left: Vec<(String, i32)>,
    left_in_trash: Vec<(String, i32)>,
}

impl<'a> Emptier<'a> {
    fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            control: tree.existing_control().unwrap_or_default(),
            lifted: Vec::new(),
            left: Vec::new(),
            left_in_trash: Vec::new(),
        }
    }

    fn leave(&mut self, name: String, errno: Errno) {
        if self.left.len() < MAX_LEFT {
            self.left.push((name, errno.raw_os_error()));
        }
    }

    fn victim(
        &mut self,
        path: &RelPath,
        inode: Inode,
        last: &[Box<[u8]>],
    ) -> rustix::io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(Errno::INVAL);
        };
        let stat = stat_name(self.tree.open_place(&parent)?.as_fd(), name)?;
        if stat.kind != FileKind::Dir {
            return Err(Errno::NOTDIR);
        }
        if !inode.is(&stat) {
            return Err(Errno::STALE);
        }
        let spared = last.iter().map(|name| &**name).collect();
        let mut top = self.empty(Level::new(path.clone(), stat.id), &spared)?;
        if !self.left.is_empty() {
            // The metadata stays with what stays.
            return Ok(());
        }
        for name in last {
            match self.unlink(&mut top, name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => self.leave(escape(name), errno),
            }
        }
        let parent = self.tree.open_place(&parent)?;
        unlink_at(parent.as_fd(), name, AtFlags::REMOVEDIR)
    }

    fn file(&self, dir: &RelPath, name: &[u8], inode: Inode) -> rustix::io::Result<()> {
        let place = self.tree.open_place(dir)?;
        let stat = stat_name(place.as_fd(), name)?;
        // Another one has the name: it is not ours to remove.
        if !inode.is(&stat) || stat.kind != FileKind::File {
            return Ok(());
        }
        if !self.tree.is_ours(&stat) {
            return Err(Errno::XDEV);
        }
        unlink_at(place.as_fd(), name, AtFlags::empty())
    }

    /// Empties a directory, but for the names in it that are `spared`, and gives it back.
    fn empty(&mut self, top: Level, spared: &HashSet<&[u8]>) -> rustix::io::Result<Level> {
        let none = HashSet::new();
        let mut level = top;
        let mut above: Vec<Level> = Vec::new();
        loop {
            if let Some((name, id)) = level.subdirs.pop() {
                if let Some(entered) = self.descend(&mut level, &name, id) {
                    above.push(std::mem::replace(&mut level, entered));
                }
                continue;
            }
            let spared = if above.is_empty() { spared } else { &none };
            let ended = match self.pass(&mut level, spared) {
                Ok(Pass::Again) if level.n_passes < MAX_PASSES => continue,
                Ok(Pass::Again | Pass::Empty) => Ok(()),
                Err(errno) => Err(errno),
            };
            let Some(next) = above.pop() else {
                return ended.map(|()| level);
            };
            let done = std::mem::replace(&mut level, next);
            self.end(&mut level, done, ended);
        }
    }

    /// Removes a directory that was emptied.
    fn end(&mut self, above: &mut Level, done: Level, ended: rustix::io::Result<()>) {
        let Some(name) = done.path.name() else { return };
        let removed = ended.and_then(|()| {
            self.with_rights(above, |emptier, above| {
                unlink_at(emptier.reach(above)?.as_fd(), name, AtFlags::REMOVEDIR)
            })
        });
        match removed {
            // It has left the victim; what has its name now is listed again.
            Ok(()) | Err(Errno::NOENT | Errno::STALE) => {}
            // What failed in it was named; otherwise somebody fills it.
            Err(Errno::NOTEMPTY | Errno::EXIST) if !done.failed.is_empty() => {
                above.failed.insert(name.into());
            }
            Err(errno) => {
                self.leave(done.path.to_string(), errno);
                above.failed.insert(name.into());
            }
        }
    }

    /// Goes into a subdirectory, or takes it into the trash.
    fn descend(&mut self, level: &mut Level, name: &[u8], id: FileId) -> Option<Level> {
        if self.lift(level, name, id).is_ok() {
            return None;
        }
        match level.path.join(name) {
            Ok(path) if path.as_bytes().len() <= MAX_PATH => Some(Level::new(path, id)),
            Ok(_) | Err(_) => {
                self.leave(level.shown(name), Errno::NAMETOOLONG);
                level.failed.insert(name.into());
                None
            }
        }
    }

    /// Renames a subdirectory into the trash. Where the directory that it was in has left the
    /// victim by then, it goes back there.
    fn lift(&mut self, level: &Level, name: &[u8], id: FileId) -> rustix::io::Result<()> {
        let control = self.control.clone().ok_or(Errno::NOENT)?;
        let place = self.reach(level)?;
        let aside = AsideName::new(&Ulid::generate().to_string(), id);
        let aside_name = aside.0.as_bytes();
        let trash = control.trash();
        rename_new(
            place.as_fd(),
            name,
            trash,
            aside_name,
            Unable::OverwriteFresh,
        )?;
        if self.reach(level).is_ok() {
            self.lifted.push(aside);
            if self.lifted.len() == MAX_NAMES {
                self.finish_lifted();
            }
            return Ok(());
        }
        match rename_new(trash, aside_name, place.as_fd(), name, Unable::Refuse) {
            Ok(()) => Ok(()),
            // Its place is taken: it stays, unremoved, and the next start reports it.
            Err(_) => keep(trash, "", &Aside::Trash(aside)),
        }
    }

    fn finish_lifted(&mut self) {
        for aside in std::mem::take(&mut self.lifted) {
            let (_, left) = remove::remove_trash(self.tree, &aside);
            self.left_in_trash.extend(left);
            self.left_in_trash.truncate(MAX_LEFT);
        }
    }

    /// The directory, if it is where it was listed and what it was.
    fn reach(&self, level: &Level) -> rustix::io::Result<OwnedFd> {
        self.same(level, self.tree.open_place(&level.path))
    }

    fn same(
        &self,
        level: &Level,
        opened: rustix::io::Result<OwnedFd>,
    ) -> rustix::io::Result<OwnedFd> {
        let dir = match opened {
            // A file, a symlink or a mount has its path.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Err(Errno::STALE),
            opened => opened?,
        };
        let stat = fd_stat(dir.as_fd())?;
        if stat.id != level.id || !self.tree.is_ours(&stat) {
            return Err(Errno::STALE);
        }
        Ok(dir)
    }

    /// Does something in a directory; where this user may not, gives it the right, once.
    fn with_rights<T>(
        &self,
        level: &mut Level,
        change: impl Fn(&Self, &Level) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match change(self, level) {
            Err(Errno::ACCESS) if !level.opened_up => {
                level.opened_up = true;
                open_up(self.reach(level)?.as_fd())?;
                change(self, level)
            }
            changed => changed,
        }
    }

    /// Unlinks what is no directory, and notes the directories.
    fn pass(&mut self, level: &mut Level, spared: &HashSet<&[u8]>) -> rustix::io::Result<Pass> {
        level.n_passes += 1;
        // Kept open to list and to look; nothing is changed through it.
        let dir = self.with_rights(level, |emptier, level| {
            emptier.same(level, emptier.tree.open_dir(&level.path))
        })?;
        let names = names_in(&dir, |name| {
            !spared.contains(name) && !level.failed.contains(name)
        })?;
        let mut pass = Pass::Empty;
        for name in names {
            match self.entry(level, &dir, &name) {
                Ok(()) | Err(Errno::NOENT) => pass = Pass::Again,
                Err(Errno::STALE) => return Err(Errno::STALE),
                Err(errno) => {
                    self.leave(level.shown(&name), errno);
                    level.failed.insert(name);
                    if level.failed.len() > MAX_NAMES {
                        return Err(Errno::NOTEMPTY);
                    }
                }
            }
        }
        Ok(pass)
    }

    fn entry(&self, level: &mut Level, dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
        let stat = self.with_rights(level, |_, _| stat_name(dir.as_fd(), name))?;
        if !self.tree.is_ours(&stat) {
            return Err(Errno::XDEV);
        }
        if stat.kind == FileKind::Dir {
            level.subdirs.push((name.into(), stat.id));
            return Ok(());
        }
        self.unlink(level, name)
    }

    fn unlink(&self, level: &mut Level, name: &[u8]) -> rustix::io::Result<()> {
        self.with_rights(level, |emptier, level| {
            unlink_at(emptier.reach(level)?.as_fd(), name, AtFlags::empty())
        })
    }
}

impl Level {
    fn new(path: RelPath, id: FileId) -> Self {
        Self {
            path,
            id,
            subdirs: Vec::new(),
            failed: HashSet::new(),
            n_passes: 0,
            opened_up: false,
        }
    }

    fn shown(&self, name: &[u8]) -> String {
        format!("{}/{}", self.path, escape(name))
    }
}

/// The first [`MAX_NAMES`] that are asked for.
fn names_in(dir: &OwnedFd, asked: impl Fn(&[u8]) -> bool) -> rustix::io::Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = match entry {
            Ok(entry) => entry,
            // The directory itself was removed.
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(errno),
        };
        let name = entry.file_name().to_bytes();
        if is_name(name) && asked(name) {
            names.push(name.into());
            if names.len() == MAX_NAMES {
                break;
            }
        }
    }
    Ok(names)
}

fn unlink_at(dir: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> rustix::io::Result<()> {
    let mut buffer = [0; 256];
    rustix::fs::unlinkat(dir, c_name(name, &mut buffer)?, flags)
}
