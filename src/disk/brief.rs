//! A small new directory, listed at once by the thread that met it.
//!
//! Whoever writes a session makes its directory first, and what is in there counts only when it
//! was listed. A walker is a thread of the ordinary class: on a host whose cores are all busy it
//! gets its turn after some ticks, and by then the limit is passed by what was written in them.
//!
//! Bounds: [`MAX_ENTRIES`] looks. What is bigger, or has directories in it, is left to a walk,
//! and so is whatever goes wrong here: the walk meets it again and says so.

use crate::disk::tree::{MAX_PATH, Tree, fd_stat, seen, stat_at};
use crate::model::listing::{Listing, ScanOrder, Watched};
use crate::model::seen::{FileKind, Seen};
use crate::model::watcher::Watcher;
use rustix::fd::AsFd;
use rustix::fs::RawDir;
use std::mem::MaybeUninit;

/// The most entries of a directory that is listed at once.
pub const MAX_ENTRIES: usize = 16;
const BUFFER: usize = 2 << 10;

/// What was seen of a directory.
#[derive(Debug)]
pub struct Brief {
    pub listing: Listing,
    /// It is to be walked all the same: the listing has not all of it, or there is more below.
    pub more: bool,
}

/// Watches and lists one directory. `None`: nothing was done.
pub fn list_briefly(tree: &Tree, order: &ScanOrder, watcher: &dyn Watcher) -> Option<Brief> {
    if order.at.as_bytes().len() > MAX_PATH {
        return None;
    }
    let dir = tree.open_dir(&order.at).ok()?;
    let stat = fd_stat(dir.as_fd()).ok()?;
    if !tree.is_ours(&stat) {
        return None;
    }
    let watch = watcher.watch_now(&order.at, dir.as_fd())?;
    let watched = Watched::Placed(watch);
    let mut listing = Listing::new(order.id, order.at.clone(), stat, watched, true);
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(&dir, &mut buffer);
    let mut more = false;
    while let Some(entry) = entries.next() {
        let Ok(entry) = entry else {
            more = true;
            break;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if listing.len() == MAX_ENTRIES {
            more = true;
            break;
        }
        let seen = seen(stat_at(dir.as_fd(), name));
        match seen {
            Seen::Gone => continue,
            // What has names elsewhere is to be followed.
            Seen::There(stat) => {
                more |=
                    stat.kind == FileKind::Dir || (stat.kind == FileKind::File && stat.n_links > 1);
            }
            Seen::Unreadable(_) => more = true,
        }
        listing.push(name.to_bytes(), seen);
    }
    listing.last = !more;
    Some(Brief { listing, more })
}
