//! The names of one directory with what was last seen of each.
//!
//! Names are kept as keyed 56-bit hashes (SipHash, the key is random for each index, so
//! nobody can aim at a collision): nothing the agent does with an entry needs its letters,
//! those that it does need (directories, metadata) are known elsewhere.

use super::buckets::{Buckets, Item, List};
use super::entry::Entry;

/// The entries of one directory: a plain list while it is short, then a hash table.
#[derive(Debug)]
pub(super) enum Table {
    Short(List<Entry>),
    Long(Box<Buckets<Entry>>),
}

/// Up to here a walk over the list is faster than hashing.
const SHORT: usize = 32;

impl Default for Table {
    fn default() -> Self {
        Self::Short(List::default())
    }
}

impl Table {
    fn list(&self, hash: u64) -> &List<Entry> {
        match self {
            Self::Short(list) => list,
            Self::Long(table) => table.list(hash as u32),
        }
    }

    /// Whether it is a plain list.
    pub(super) fn is_short(&self) -> bool {
        matches!(self, Self::Short(_))
    }

    /// Whether one more name makes it a hash table.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Short(list) if list.len() >= SHORT)
    }

    pub(super) fn get(&self, hash: u64) -> Option<&Entry> {
        // Free places are at the end: nothing that is there comes after one.
        let found = self.list(hash).places().iter().find(|e| e.hash() == hash);
        found.filter(|e| e.is(hash))
    }

    pub(super) fn get_mut(&mut self, hash: u64) -> Option<&mut Entry> {
        let list = match self {
            Self::Short(list) => list,
            Self::Long(table) => table.list_mut(hash as u32),
        };
        let found = list.places_mut().iter_mut().find(|e| e.hash() == hash);
        found.filter(|e| e.is(hash))
    }

    /// Makes room for so many names in a table that has none.
    pub(super) fn reserve(&mut self, n_names: usize) {
        match self {
            Self::Short(list) if list.places().is_empty() && n_names <= SHORT => {
                *list = List::of(n_names);
            }
            Self::Short(list) if list.places().is_empty() => {
                *self = Self::Long(Box::new(Buckets::with_capacity(n_names)));
            }
            Self::Short(_) | Self::Long(_) => {}
        }
    }

    /// Adds a name that is not there yet.
    pub(super) fn insert(&mut self, entry: Entry) {
        match self {
            Self::Short(list) if list.len() < SHORT => list.push(entry),
            Self::Short(list) => {
                let mut table = Buckets::with_capacity(SHORT);
                for e in list.items() {
                    table.insert(*e);
                }
                table.insert(entry);
                *self = Self::Long(Box::new(table));
            }
            Self::Long(table) => table.insert(entry),
        }
    }

    pub(super) fn remove(&mut self, hash: u64) -> Option<Entry> {
        match self {
            Self::Short(list) => {
                let at = list.places().iter().position(|e| e.is(hash))?;
                Some(list.take(at))
            }
            Self::Long(table) => table.remove(hash as u32, |e| e.is(hash)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        let (short, long) = match self {
            Self::Short(list) => (list.items(), None),
            Self::Long(table) => (&[][..], Some(table.iter())),
        };
        short.iter().chain(long.into_iter().flatten())
    }

    /// Takes every mark off.
    pub(super) fn unmark(&mut self) {
        self.each_list(|list| {
            let taken = list.places_mut().iter_mut().filter(|e| !e.is_free());
            taken.for_each(Entry::unmark);
        });
    }

    /// Gives back what growing took too much, after a listing.
    pub(super) fn shrink(&mut self) {
        self.each_list(List::shrink);
    }

    fn each_list(&mut self, change: impl FnMut(&mut List<Entry>)) {
        match self {
            Self::Short(list) => [list].into_iter().for_each(change),
            Self::Long(table) => table.lists_mut().for_each(change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::entry::{What, Wides};

    #[test]
    fn a_table_is_two_words() {
        assert_eq!(size_of::<Table>(), 16);
    }

    #[test]
    fn a_table_finds_what_it_was_given_short_or_long() {
        let mut wides = Wides::default();
        for n in [3u64, 23, 24, 25, 500] {
            let mut table = Table::default();
            let what = |ino| What::File {
                ino,
                apparent: ino,
                allocated: 4096,
            };
            for hash in 0..n {
                table.insert(Entry::pack(hash, what(hash), &mut wides));
            }
            table.shrink();
            let mut roomy = Table::default();
            roomy.reserve(n as usize);
            table.iter().for_each(|e| roomy.insert(*e));
            let found = (0..n).map(|hash| roomy.get(hash).map(|e| e.what(&wides)));
            assert!(found.eq((0..n).map(|hash| Some(what(hash)))));
            assert!(roomy.get(n).is_none());
            assert_eq!(table.iter().count() as u64, n);
            let removed = table.remove(n / 2).map(|e| e.what(&wides));
            assert_eq!(removed, Some(what(n / 2)));
            assert!(table.get(n / 2).is_none());
            assert!(table.get(n - 1).is_some());
        }
    }
}
