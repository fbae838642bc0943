//! Sessions in `.housekeeper/kept`: listed, let go of, brought back. Each is one rename, so that
//! of two who want the same one only one has it.

use crate::disk::DiskError;
use crate::disk::tree::{Tree, Unable, rename_new, stat_name};
use crate::model::disk::Disk;
use crate::model::path::{RelPath, escape, is_name};
use crate::model::report::{Aside, AsideName};
use crate::model::seen::Seen;
use rustix::fd::AsFd;
use rustix::fs::Dir;
use rustix::io::Errno;
use std::io;

/// How many names are listed.
pub const MAX_LISTED: usize = 65_536;

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

/// Moves one to where its bytes are removed. `false`: it is not there any more.
///
/// # Errors
/// What the kernel says.
pub fn let_go(tree: &Tree, name: &AsideName) -> io::Result<bool> {
    let Some(kept) = tree.existing_kept()? else {
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
