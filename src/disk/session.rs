//! Looks at everything in one session, without changing anything.
//!
//! Each directory is opened by its path beneath the root, over no symlink and no mount, and must
//! be the inode that was listed. What lies on another mount ends the look, as does anything that
//! cannot be looked at: whoever asks wants to know all or nothing.
//!
//! Bounds: not recursive; a session of more than [`MAX_ENTRIES`] names is not looked through.

use crate::disk::tree::{Tree, fd_stat, stat_name};
use crate::model::path::{RelPath, is_name};
use crate::model::seen::{FileId, FileKind, Stat};
use rustix::fd::AsFd;
use rustix::fs::Dir;
use rustix::io::Errno;

/// The names of one session that are looked at.
pub const MAX_ENTRIES: usize = 1 << 20;

/// Gives each name in the session at `path` to `each`, with its path below the session; the
/// session itself first, with an empty one.
///
/// # Errors
/// ESTALE: another directory lies there. EXDEV: something in it is another mount's. E2BIG: it
/// holds more than [`MAX_ENTRIES`] names. Else what the kernel says.
pub fn look_through(
    tree: &Tree,
    path: &RelPath,
    id: FileId,
    each: &mut dyn FnMut(&[u8], &Stat),
) -> rustix::io::Result<()> {
    let mut waiting: Vec<(Vec<u8>, FileId)> = vec![(Vec::new(), id)];
    let mut n_entries = 0;
    while let Some((below, id)) = waiting.pop() {
        let at = joined(path, &below)?;
        let dir = match tree.open_dir(&at) {
            // A file, a symlink or a mount has its path.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Err(Errno::STALE),
            opened => opened?,
        };
        let stat = fd_stat(dir.as_fd())?;
        if stat.id != id || !tree.is_ours(&stat) {
            return Err(Errno::STALE);
        }
        if below.is_empty() {
            each(&below, &stat);
        }
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !is_name(name) {
                continue;
            }
            n_entries += 1;
            if n_entries > MAX_ENTRIES {
                return Err(Errno::TOOBIG);
            }
            let stat = match stat_name(dir.as_fd(), name) {
                // Its directory was written to when it went: that counts.
                Err(Errno::NOENT) => continue,
                looked => looked?,
            };
            if !tree.is_ours(&stat) {
                return Err(Errno::XDEV);
            }
            let mut path = below.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            each(&path, &stat);
            if stat.kind == FileKind::Dir {
                waiting.push((path, stat.id));
            }
        }
        // What was written to it while it was listed is seen here at the latest.
        each(&below, &fd_stat(dir.as_fd())?);
    }
    Ok(())
}

fn joined(path: &RelPath, below: &[u8]) -> rustix::io::Result<RelPath> {
    if below.is_empty() {
        return Ok(path.clone());
    }
    let whole = [path.as_bytes(), below].join(&b'/');
    RelPath::new(&whole).map_err(|_| Errno::INVAL)
}
