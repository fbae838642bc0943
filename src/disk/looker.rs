//! One look at one name, as fast as it goes: `statx` relative to a directory kept open.
//!
//! The descriptors are kept by the directory's place in the index. A directory is opened by
//! its path and then compared by its inode: whatever is kept open is the directory that the
//! index means, wherever it was moved to since.

use crate::disk::tree::{Tree, fd_stat, seen, stat_name};
use crate::model::path::{RelPath, is_name};
use crate::model::seen::Seen;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Dir;
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Arc;

/// How many directories are kept open. Beyond it the one not looked at for longest, roughly,
/// is closed.
pub const MAX_OPEN: usize = 1024;
/// How many names found by their inode are kept. At the bound all are forgotten and found anew.
const MAX_FOUND: usize = 1024;

/// Looks at names. Belongs to one thread.
#[derive(Debug)]
pub struct Looker {
    tree: Arc<Tree>,
    places: HashMap<u32, usize>,
    entries: Vec<Entry>,
    hand: usize,
    found: HashMap<(u32, u64), Box<[u8]>>,
}

#[derive(Debug)]
struct Entry {
    slot: u32,
    dir: OwnedFd,
    used: bool,
}

impl Looker {
    pub fn new(tree: Arc<Tree>) -> Self {
        Self {
            tree,
            places: HashMap::with_capacity(MAX_OPEN),
            entries: Vec::new(),
            hand: 0,
            found: HashMap::new(),
        }
    }

    /// Looks at `name` in the directory of that slot, which has the inode `ino` (0: whichever
    /// is there); its path is asked for only when it is not open yet. `None`: the directory is
    /// not at its path, so nothing can be said of what is in it.
    pub fn look(
        &mut self,
        dir_slot: u32,
        ino: u64,
        dir_path: impl FnOnce() -> RelPath,
        name: &[u8],
    ) -> Option<Seen> {
        let at = match self.places.get(&dir_slot) {
            Some(&at) => at,
            None => match self.open(dir_slot, ino, &dir_path()) {
                Ok(at) => at,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::STALE) => {
                    return None;
                }
                Err(errno) => return Some(seen(Err(errno))),
            },
        };
        let entry = &mut self.entries[at];
        entry.used = true;
        Some(seen(stat_name(entry.dir.as_fd(), name)))
    }

    /// A name that an inode has in a directory, for events that tell the inode alone. `worth`
    /// says whether it is worth a pass over the directory; asked only where the name that was
    /// found before is not the inode's any more.
    pub fn name_of(
        &mut self,
        dir_slot: u32,
        dir_ino: u64,
        dir_path: impl Fn() -> RelPath,
        ino: u64,
        worth: impl FnOnce() -> bool,
    ) -> Option<Box<[u8]>> {
        if let Some(name) = self.found.get(&(dir_slot, ino)).cloned()
            && matches!(
                self.look(dir_slot, dir_ino, &dir_path, &name),
                Some(Seen::There(stat)) if stat.id.ino == ino
            )
        {
            return Some(name);
        }
        self.found.remove(&(dir_slot, ino));
        if !worth() {
            return None;
        }
        let dir = self.tree.open_dir(&dir_path()).ok()?;
        let name = Dir::new(dir)
            .ok()?
            .filter_map(Result::ok)
            .find(|entry| entry.ino() == ino && is_name(entry.file_name().to_bytes()))
            .map(|entry| Box::from(entry.file_name().to_bytes()))?;
        if self.found.len() == MAX_FOUND {
            self.found.clear();
        }
        self.found.insert((dir_slot, ino), Box::clone(&name));
        Some(name)
    }

    /// Closes what is kept for this slot.
    pub fn forget(&mut self, dir_slot: u32) {
        let Some(at) = self.places.remove(&dir_slot) else {
            return;
        };
        self.entries.swap_remove(at);
        if let Some(moved) = self.entries.get(at) {
            self.places.insert(moved.slot, at);
        }
    }

    /// Closes everything.
    pub fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
    }

    /// ESTALE: another directory has the path.
    fn open(&mut self, slot: u32, ino: u64, path: &RelPath) -> rustix::io::Result<usize> {
        let dir = match self.tree.open_place(path) {
            // Descriptors are short: give all of ours back, once.
            Err(Errno::MFILE | Errno::NFILE) if !self.entries.is_empty() => {
                self.clear();
                self.tree.open_place(path)?
            }
            opened => opened?,
        };
        if ino != 0 && fd_stat(dir.as_fd())?.id.ino != ino {
            return Err(Errno::STALE);
        }
        let entry = Entry {
            slot,
            dir,
            used: true,
        };
        let at = if self.entries.len() < MAX_OPEN {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let at = self.oldest();
            self.places.remove(&self.entries[at].slot);
            self.entries[at] = entry;
            at
        };
        self.places.insert(slot, at);
        Ok(at)
    }

    /// The clock's next entry that was not used since the hand went by.
    fn oldest(&mut self) -> usize {
        loop {
            let at = self.hand % self.entries.len();
            self.hand = at + 1;
            let entry = &mut self.entries[at];
            if !entry.used {
                return at;
            }
            entry.used = false;
        }
    }
}
