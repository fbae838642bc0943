//! Removes directories that hold nothing any more.

use crate::disk::tree::Tree;
use crate::model::path::RelPath;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::ffi::CString;

/// Removes an empty directory, then those above it that are empty then; never the root. The
/// kernel refuses what is not empty, so nothing can be lost. Answers how many went.
pub fn remove_empty(tree: &Tree, dir: &RelPath) -> usize {
    let mut at = dir.clone();
    let mut n_removed = 0;
    while let (Some(parent), Some(name)) = (at.parent(), at.name()) {
        let removed = CString::new(name)
            .map_err(|_| Errno::INVAL)
            .and_then(|name| {
                let above = tree.open_place(&parent)?;
                rustix::fs::unlinkat(&above, &*name, AtFlags::REMOVEDIR)
            });
        match removed {
            Ok(()) => n_removed += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => {
                tracing::debug!(%errno, path = %at, "a directory stays");
                break;
            }
        }
        at = parent;
    }
    n_removed
}
