//! In which directories each inode has names: a file that was moved is found in its old place
//! without a pass over the index.
//!
//! The files of a short directory are often made one after the other, and file systems number
//! them so: it is found by the blocks of sixteen inode numbers that it has files in, and then
//! looked through. A long one is found by each of its files.

use super::entry::Wides;
use super::places::Places;
use super::table::Table;

/// The places of all files; nothing where nobody needs it.
#[derive(Debug, Default)]
pub(super) struct Homes(Option<Places>);

/// The number of an inode's block: other than all that inodes have.
fn block(ino: u64) -> u64 {
    !(ino >> 4)
}

fn inos<'a>(table: &'a Table, wides: &'a Wides) -> impl Iterator<Item = u64> {
    table
        .iter()
        .filter_map(|entry| entry.what(wides).file_ino())
}

/// What a directory is found by.
fn numbers(table: &Table, wides: &Wides) -> Vec<u64> {
    if !table.is_short() {
        return inos(table, wides).collect();
    }
    let mut blocks: Vec<u64> = inos(table, wides).map(block).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

/// What a directory is found by for one file, unless it is for another file already.
fn number(table: &Table, wides: &Wides, ino: u64) -> Option<u64> {
    if !table.is_short() {
        return Some(ino);
    }
    let is_shared = inos(table, wides).any(|other| block(other) == block(ino));
    (!is_shared).then_some(block(ino))
}

impl Homes {
    /// Keeps them from now on. All directories that there are must be added then.
    pub(super) fn keep(&mut self) {
        self.0 = Some(Places::default());
    }

    pub(super) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// A directory comes with all its files.
    pub(super) fn add(&mut self, slot: u32, table: &Table, wides: &Wides) {
        if let Some(places) = &mut self.0 {
            let numbers = numbers(table, wides);
            numbers.iter().for_each(|n| places.insert(*n, slot));
        }
    }

    /// It goes with all its files.
    pub(super) fn remove(&mut self, slot: u32, table: &Table, wides: &Wides) {
        if self.are_kept() {
            let numbers = numbers(table, wides);
            numbers.iter().for_each(|n| self.take(*n, slot));
        }
    }

    /// A file is about to get a name in a directory.
    pub(super) fn enter(&mut self, slot: u32, table: &Table, wides: &Wides, ino: u64) {
        if let Some(places) = &mut self.0
            && let Some(number) = number(table, wides, ino)
        {
            places.insert(number, slot);
        }
    }

    /// A file has just lost a name in a directory.
    pub(super) fn leave(&mut self, slot: u32, table: &Table, wides: &Wides, ino: u64) {
        if self.are_kept()
            && let Some(number) = number(table, wides, ino)
        {
            self.take(number, slot);
        }
    }

    fn take(&mut self, number: u64, slot: u32) {
        let taken = self.0.as_mut().is_none_or(|p| p.remove(number, slot));
        debug_assert!(taken, "each file has its home");
    }

    #[cfg(test)]
    pub(super) fn n_numbers(&self) -> usize {
        self.0.as_ref().map_or(0, Places::len)
    }

    /// Directories in which the inode may have names; one may come several times.
    pub(super) fn of(&self, ino: u64) -> impl Iterator<Item = u32> {
        let numbers = [block(ino), ino].into_iter();
        let places = self.0.iter();
        places.flat_map(move |places| numbers.clone().flat_map(|number| places.of(number)))
    }
}
