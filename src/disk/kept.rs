//! Sessions in `.housekeeper/kept`: listed, let go of, brought back. Each is one rename, so that
//! of two who want the same one only one has it. The files of a session that is several lie
//! there in a directory of their own, and come back one by one, all or none.

use crate::disk::DiskError;
use crate::disk::tree::{KEPT, KEPT_DIR, Tree, Unable, fd_stat, open_name, rename_new, stat_name};
use crate::model::disk::{Bundles, Disk, Moved};
use crate::model::path::{BadPath, RelPath, escape, is_name};
use crate::model::report::{Aside, AsideName};
use crate::model::seen::{FileId, Seen};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::time::Duration;
use ulid::Ulid;

/// How many names are listed.
pub const MAX_LISTED: usize = 65_536;
/// So long, and so often, the lock on what is kept is waited for.
const WAIT: Duration = Duration::from_micros(200);
const MAX_WAITS: u32 = 100;

/// What is kept, oldest first: names that are still the inode they were made for. Makes nothing.
///
/// # Errors
/// The directory is not the agent's own, or can't be read.
pub fn list(tree: &Tree) -> Result<Vec<AsideName>, DiskError> {
    let Some(dir) = tree.existing_kept()? else {
        return Ok(Vec::new());
    };
    let failed = |errno: Errno| DiskError::Own {
        operation: "read",
        path: "kept",
        source: errno.into(),
    };
    let mut kept = Vec::new();
    for entry in Dir::read_from(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if !is_name(name) || kept.len() == MAX_LISTED {
            continue;
        }
        let aside = AsideName(escape(name));
        // Another inode under the name is a stranger: it stays, and nobody gets it back as his.
        let is_it =
            stat_name(dir.as_fd(), name).is_ok_and(|stat| aside.names(stat.id, tree.id().dev));
        if is_it {
            kept.push(aside);
        }
    }
    kept.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(kept)
}

/// Whether something has this name still; also where that cannot be known.
pub fn has(tree: &Tree, name: &AsideName) -> bool {
    match tree.existing_kept() {
        Ok(Some(kept)) => stat_name(kept.as_fd(), name.0.as_bytes()) != Err(Errno::NOENT),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Whether a file of this name lies in one that is several files.
pub fn holds(tree: &Tree, name: &AsideName, file: &[u8]) -> bool {
    open_bundle(tree, name).is_ok_and(|bundle| stat_name(bundle.as_fd(), file).is_ok())
}

/// Moves one to where its bytes are removed. `false`: it is not there any more.
///
/// # Errors
/// What the kernel says; EAGAIN: something just comes back.
pub fn let_go(tree: &Tree, name: &AsideName) -> io::Result<bool> {
    let Some(kept) = hold_kept(tree, FlockOperation::NonBlockingLockShared)? else {
        return Ok(false);
    };
    let control = tree.control()?;
    let bytes = name.0.as_bytes();
    match rename_new(
        kept.as_fd(),
        bytes,
        control.trash(),
        bytes,
        Unable::OverwriteFresh,
    ) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Brings one back to a free path, through no symlink and no mount.
///
/// # Errors
/// EEXIST: something is at the path. ENOENT: it, or the directory that the path is in, is gone.
/// ELOOP, EXDEV, ENOTDIR: a symlink, a mount or a file is in the way. ESTALE: it came back, and
/// somebody moved it on at once and has put something else in its place.
pub fn bring_back(tree: &Tree, name: &AsideName, path: &RelPath) -> io::Result<()> {
    let aside = Aside::Kept(name.clone());
    tree.put_back(&aside, path)?;
    match tree.look(path) {
        Seen::There(stat) if !name.names(stat.id, tree.id().dev) => Err(Errno::STALE.into()),
        // Somebody else moved it on: it is his.
        Seen::There(_) | Seen::Gone | Seen::Unreadable(_) => Ok(()),
    }
}

/// Brings files back that are kept together, to free names in a directory, through no symlink and
/// no mount: all or none. What an earlier try brought back already is left where it is. Answers
/// the names that are in neither place: somebody removed them in between.
///
/// # Errors
/// As [`bring_back`]; what was brought back is in the bundle again, unless somebody has changed
/// its place since. EAGAIN: something else is just kept or let go of.
pub fn unbundle(
    tree: &Tree,
    name: &AsideName,
    dir: &RelPath,
    files: &[Box<[u8]>],
) -> io::Result<Vec<Box<[u8]>>> {
    let _alone = hold_kept(tree, FlockOperation::NonBlockingLockExclusive)?;
    let bundle = open_bundle(tree, name)?;
    let home = tree.open_dir(dir)?;
    let (from, to) = (bundle.as_fd(), home.as_fd());
    let (mut back, mut missing): (Vec<(&[u8], FileId)>, _) = (Vec::new(), Vec::new());
    for file in files {
        let moved = stat_name(from, file)
            .and_then(|stat| rename_new(from, file, to, file, Unable::Refuse).map(|()| stat.id));
        match moved {
            Ok(id) => back.push((file, id)),
            Err(Errno::NOENT) if stat_name(to, file).is_ok() => {}
            Err(Errno::NOENT) => missing.push(file.clone()),
            Err(errno) => {
                for (file, id) in back.into_iter().rev() {
                    take_again(tree, name, dir.join(file), id);
                }
                return Err(errno.into());
            }
        }
    }
    if missing.len() == files.len() {
        return Err(Errno::NOENT.into());
    }
    match tree.drop_bundle(name) {
        // What nobody told of is in it still: it stays until its time is over.
        Ok(()) | Err(_) => Ok(missing),
    }
}

/// Removes places for files that none got into. To be called under the root's lock.
///
/// # Errors
/// The directory is not the agent's own, or cannot be read.
pub fn sweep(tree: &Tree) -> io::Result<()> {
    let Some(kept) = tree.existing_kept()? else {
        return Ok(());
    };
    for entry in Dir::read_from(&kept)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        // One that is being made has no inode in its name yet.
        let is_new = std::str::from_utf8(name).is_ok_and(|name| Ulid::from_string(name).is_ok());
        if is_new {
            match rustix::fs::unlinkat(&kept, entry.file_name(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Keeps those who bring several files back apart from those who keep them or let them go: of two
/// who want the same one only one is to have it. `None`: nothing is kept.
fn hold_kept(tree: &Tree, how: FlockOperation) -> io::Result<Option<OwnedFd>> {
    let kept = tree.existing_kept()?;
    if let Some(kept) = &kept {
        hold(kept, how)?;
    }
    Ok(kept)
}

/// Waits for a moment: who brings something back holds it for some renames.
fn hold(kept: &OwnedFd, how: FlockOperation) -> rustix::io::Result<()> {
    for _ in 0..MAX_WAITS {
        match rustix::fs::flock(kept, how) {
            // Where there are no such locks nobody can hold one.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
            Err(Errno::AGAIN) => std::thread::sleep(WAIT),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::AGAIN)
}

/// Undoes one rename of [`unbundle`], where the name is still what came from there.
fn take_again(tree: &Tree, bundle: &AsideName, path: Result<RelPath, BadPath>, id: FileId) {
    let Ok(path) = path else { return };
    let is_it = matches!(tree.look(&path), Seen::There(stat) if stat.id == id);
    let again = is_it.then(|| tree.bundle(&path, id, bundle));
    if !matches!(again, Some(Ok(Moved::Aside))) {
        tracing::warn!(
            event = "trash.left",
            path = %path,
            "a file of a session that could not come back whole is in its old place"
        );
    }
}

fn open_bundle(tree: &Tree, name: &AsideName) -> rustix::io::Result<OwnedFd> {
    let kept = tree
        .existing_kept()
        .map_err(|error| Errno::from_raw_os_error(error.errno()))?;
    let kept = kept.ok_or(Errno::NOENT)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let bundle = open_name(kept.as_fd(), name.0.as_bytes(), flags)?;
    match fd_stat(bundle.as_fd()) {
        Ok(stat) if name.names(stat.id, tree.id().dev) => Ok(bundle),
        Ok(_) => Err(Errno::NOENT),
        Err(errno) => Err(errno),
    }
}

impl Bundles for Tree {
    fn make_bundle(&self, ulid: &str) -> io::Result<(AsideName, OwnedFd)> {
        let kept = self.own_dir(self.control()?.dir(), KEPT_DIR)?.0;
        hold(&kept, FlockOperation::NonBlockingLockShared)?;
        // Its name has its inode in it: it gets that when it is there.
        rustix::fs::mkdirat(&kept, ulid, Mode::RWXU)?;
        let named = stat_name(kept.as_fd(), ulid.as_bytes()).and_then(|stat| {
            let name = AsideName::new(ulid, stat.id);
            let (from, to) = (ulid.as_bytes(), name.0.as_bytes());
            rename_new(kept.as_fd(), from, kept.as_fd(), to, Unable::OverwriteFresh)?;
            Ok(name)
        });
        match named {
            Ok(name) => Ok((name, kept)),
            Err(errno) => match rustix::fs::unlinkat(&kept, ulid, AtFlags::REMOVEDIR) {
                // It is empty, and the next start removes it.
                Ok(()) | Err(_) => Err(errno.into()),
            },
        }
    }

    fn bundle(&self, path: &RelPath, id: FileId, bundle: &AsideName) -> io::Result<Moved> {
        let dir = open_bundle(self, bundle)?;
        let (from, name) = self.parent(path)?;
        let (from, to) = (from.as_fd(), dir.as_fd());
        rename_new(from, name, to, name, Unable::OverwriteFresh)?;
        // The rename is done: an error now must not look like a refusal.
        match stat_name(to, name) {
            Ok(stat) if stat.id == id => return Ok(Moved::Aside),
            Ok(_) | Err(_) => {}
        }
        // It is somebody else's: back onto its own name where that is free, else to the trash, where
        // nobody removes it.
        if rename_new(to, name, from, name, Unable::Refuse).is_ok() {
            return Ok(Moved::Back);
        }
        let marked = format!("{KEPT}{}", bundle.0);
        let out = self.control().map_err(io::Error::from).and_then(|control| {
            rename_new(to, name, control.trash(), marked.as_bytes(), Unable::Refuse)?;
            Ok(())
        });
        if out.is_err() {
            // Then all of it stays where it is, for ever.
            let kept = self.own_dir(self.control()?.dir(), KEPT_DIR)?.0;
            let (kept, name) = (kept.as_fd(), bundle.0.as_bytes());
            rename_new(kept, name, kept, marked.as_bytes(), Unable::OverwriteFresh)?;
        }
        Ok(Moved::Kept)
    }

    fn has_bundle(&self, bundle: &AsideName) -> bool {
        open_bundle(self, bundle).is_ok()
    }

    fn drop_bundle(&self, bundle: &AsideName) -> io::Result<()> {
        open_bundle(self, bundle)?;
        let kept = self.own_dir(self.control()?.dir(), KEPT_DIR)?.0;
        rustix::fs::unlinkat(&kept, &*bundle.0, AtFlags::REMOVEDIR)?;
        Ok(())
    }
}
