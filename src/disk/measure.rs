//! How much lies in what was set aside, where nobody remembers.

use crate::disk::tree::{Tree, open_name, stat_name};
use crate::model::bytes::Tally;
use crate::model::disk::Disk;
use crate::model::report::Aside;
use crate::model::seen::{FileKind, Seen};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Dir, OFlags};

/// How many directories wait, open, at once.
const MAX_OPEN: usize = 256;

/// The sum over the names of files in it; nothing of what can't be read, or lies in more than 256
/// directories that wait at once. Linear in the names.
pub fn measured(tree: &Tree, aside: &Aside) -> Tally {
    match aside {
        Aside::Trash(name) => match tree.existing_control() {
            Ok(Some(control)) => below(control.trash(), name.0.as_bytes()),
            Ok(None) | Err(_) => Tally::default(),
        },
        Aside::Kept(name) => match tree.existing_kept() {
            Ok(Some(kept)) => below(kept.as_fd(), name.0.as_bytes()),
            Ok(None) | Err(_) => Tally::default(),
        },
        Aside::Beside(..) => match aside.beside().map(|path| tree.look(&path)) {
            Some(Seen::There(stat)) if stat.kind == FileKind::File => {
                Tally::file(stat.apparent, stat.allocated)
            }
            Some(Seen::There(_) | Seen::Gone | Seen::Unreadable(_)) | None => Tally::default(),
        },
    }
}

fn below(bin: BorrowedFd<'_>, name: &[u8]) -> Tally {
    measured_at_most(bin, name, usize::MAX)
}

/// The same of a name in an open directory, over so many names at most.
pub(super) fn measured_at_most(bin: BorrowedFd<'_>, name: &[u8], at_most: usize) -> Tally {
    let mut left = at_most;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut sum = Tally::default();
    let mut waiting = Vec::new();
    match stat_name(bin, name) {
        Ok(stat) if stat.kind == FileKind::File => {
            sum.add(Tally::file(stat.apparent, stat.allocated));
        }
        Ok(stat) if stat.kind == FileKind::Dir => waiting.extend(open_name(bin, name, flags)),
        Ok(_) | Err(_) => {}
    }
    while let Some(dir) = waiting.pop() {
        for entry in Dir::read_from(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let Some(fewer) = left.checked_sub(1) else {
                return sum;
            };
            left = fewer;
            match stat_name(dir.as_fd(), name) {
                Ok(stat) if stat.kind == FileKind::File => {
                    sum.add(Tally::file(stat.apparent, stat.allocated));
                }
                Ok(stat) if stat.kind == FileKind::Dir && waiting.len() < MAX_OPEN => {
                    waiting.extend(open_name(dir.as_fd(), name, flags));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    sum
}
