//! The names of one directory with what was last seen of each: 32 bytes an entry.
//!
//! Names are kept as keyed 64-bit hashes (SipHash, the key is random for each index, so
//! nobody can aim at a collision): nothing the agent does with an entry needs its letters,
//! those that it does need (directories, metadata) are known elsewhere.

use hashbrown::HashTable;

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    /// `size` is the slot of the directory.
    Dir,
    /// Symlink, FIFO, socket, device, or a mount point: counts nothing.
    Other,
}

/// One name of one directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) ino: u64,
    /// Bytes of a file, slot of a directory.
    pub(super) size: u64,
    /// Blocks of 512 bytes in the low 56 bits, flags above.
    packed: u64,
}

const BLOCKS: u64 = (1 << 56) - 1;
const KIND_SHIFT: u32 = 56;
const LINKED: u64 = 1 << 58;
const MARK: u64 = 1 << 59;

impl Entry {
    pub(super) fn file(hash: u64, ino: u64, apparent: u64, allocated: u64, linked: bool) -> Self {
        let packed = (allocated / 512).min(BLOCKS) | MARK | if linked { LINKED } else { 0 };
        Self {
            hash,
            ino,
            size: apparent,
            packed,
        }
    }

    pub(super) fn dir(hash: u64, ino: u64, slot: u32) -> Self {
        Self {
            hash,
            ino,
            size: slot.into(),
            packed: MARK | 1 << KIND_SHIFT,
        }
    }

    pub(super) fn other(hash: u64, ino: u64) -> Self {
        Self {
            hash,
            ino,
            size: 0,
            packed: MARK | 2 << KIND_SHIFT,
        }
    }

    pub(super) fn kind(&self) -> EntryKind {
        match (self.packed >> KIND_SHIFT) & 3 {
            0 => EntryKind::File,
            1 => EntryKind::Dir,
            _ => EntryKind::Other,
        }
    }

    pub(super) fn allocated(&self) -> u64 {
        (self.packed & BLOCKS) * 512
    }

    /// Whether the inode has more than one name: then its size is kept with the inode.
    pub(super) fn is_linked(&self) -> bool {
        self.packed & LINKED != 0
    }

    pub(super) fn set_linked(&mut self) {
        self.packed |= LINKED;
    }

    /// Whether the present listing named it, or it came since that began.
    pub(super) fn is_marked(&self) -> bool {
        self.packed & MARK != 0
    }

    pub(super) fn mark(&mut self) {
        self.packed |= MARK;
    }

    pub(super) fn dir_slot(&self) -> Option<u32> {
        (self.kind() == EntryKind::Dir).then_some(self.size as u32)
    }
}

/// The entries of one directory: a plain list while it is short, then a hash table.
#[derive(Debug)]
pub(super) enum Table {
    Short(Vec<Entry>),
    Long(Box<HashTable<Entry>>),
}

/// Up to here a walk over the list is faster than hashing, and four cache lines shorter.
const SHORT: usize = 24;

impl Default for Table {
    fn default() -> Self {
        Self::Short(Vec::new())
    }
}

impl Table {
    pub(super) fn get(&self, hash: u64) -> Option<&Entry> {
        match self {
            Self::Short(list) => list.iter().find(|e| e.hash == hash),
            Self::Long(table) => table.find(hash, |e| e.hash == hash),
        }
    }

    pub(super) fn get_mut(&mut self, hash: u64) -> Option<&mut Entry> {
        match self {
            Self::Short(list) => list.iter_mut().find(|e| e.hash == hash),
            Self::Long(table) => table.find_mut(hash, |e| e.hash == hash),
        }
    }

    /// Adds a name that is not there yet.
    pub(super) fn insert(&mut self, entry: Entry) {
        match self {
            Self::Short(list) if list.len() < SHORT => {
                if list.len() == list.capacity() {
                    // Sessions have few files and there are many of them: grow by little.
                    list.reserve_exact((list.len() / 2).max(2));
                }
                list.push(entry);
            }
            Self::Short(list) => {
                let mut table = HashTable::with_capacity(SHORT * 2);
                for e in list.drain(..).chain([entry]) {
                    table.insert_unique(e.hash, e, |e| e.hash);
                }
                *self = Self::Long(Box::new(table));
            }
            Self::Long(table) => {
                table.insert_unique(entry.hash, entry, |e| e.hash);
            }
        }
    }

    pub(super) fn remove(&mut self, hash: u64) -> Option<Entry> {
        match self {
            Self::Short(list) => {
                let at = list.iter().position(|e| e.hash == hash)?;
                Some(list.swap_remove(at))
            }
            Self::Long(table) => match table.find_entry(hash, |e| e.hash == hash) {
                Ok(found) => Some(found.remove().0),
                Err(_) => None,
            },
        }
    }

    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match self {
            Self::Short(list) => Box::new(list.iter()),
            Self::Long(table) => Box::new(table.iter()),
        }
    }

    /// Takes every mark off.
    pub(super) fn unmark(&mut self) {
        let unmark = |entry: &mut Entry| entry.packed &= !MARK;
        match self {
            Self::Short(list) => list.iter_mut().for_each(unmark),
            Self::Long(table) => table.iter_mut().for_each(unmark),
        }
    }

    /// Gives back what growing took too much, after a listing.
    pub(super) fn shrink(&mut self) {
        if let Self::Short(list) = self {
            list.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_32_bytes() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn a_table_finds_what_it_was_given_short_or_long() {
        for n in [3u64, 23, 24, 25, 500] {
            let mut table = Table::default();
            for hash in 0..n {
                table.insert(Entry::file(hash, hash, hash, 4096, false));
            }
            assert_eq!(table.iter().count() as u64, n);
            assert_eq!(table.remove(n / 2).map(|e| e.size), Some(n / 2));
            assert!(table.get(n / 2).is_none());
            assert!(table.get(n - 1).is_some());
        }
    }
}
