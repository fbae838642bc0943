//! In which directories each inode has names: a file that was moved is found in its old place
//! without a pass over the index.
//!
//! Eight bytes a file: a mark made of the inode number, and the slot of the directory. What a
//! mark leads to is compared with the directory's own table, so that two inodes of one mark
//! cost a look and nothing else.

use hashbrown::HashTable;

#[derive(Debug, Clone, Copy)]
struct Home {
    mark: u32,
    slot: u32,
}

/// One place for each name of each file; nothing where nobody needs it.
#[derive(Debug, Default)]
pub(super) struct Homes(Option<HashTable<Home>>);

/// Spreads inode numbers, which often follow each other (the multiplier of Fibonacci hashing).
fn mark(ino: u64) -> u32 {
    (ino.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

fn hash(mark: u32) -> u64 {
    u64::from(mark).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Homes {
    /// Keeps them from now on. All names that there are must be added then.
    pub(super) fn keep(&mut self, n_names: usize) {
        self.0 = Some(HashTable::with_capacity(n_names));
    }

    pub(super) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn add(&mut self, ino: u64, slot: u32) {
        let home = Home {
            mark: mark(ino),
            slot,
        };
        if let Some(homes) = &mut self.0 {
            homes.insert_unique(hash(home.mark), home, |home| hash(home.mark));
        }
    }

    pub(super) fn remove(&mut self, ino: u64, slot: u32) {
        let Some(homes) = &mut self.0 else { return };
        let mark = mark(ino);
        let found = homes.find_entry(hash(mark), |home| home.mark == mark && home.slot == slot);
        debug_assert!(found.is_ok(), "each name has its home");
        if let Ok(found) = found {
            found.remove();
        }
    }

    /// Directories in which the inode may have names, one for each.
    pub(super) fn of(&self, ino: u64) -> impl Iterator<Item = u32> {
        let mark = mark(ino);
        self.0
            .iter()
            .flat_map(move |homes| homes.iter_hash(hash(mark)))
            .filter(move |home| home.mark == mark)
            .map(|home| home.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_home() {
        let mut homes = Homes::default();
        homes.add(7, 7);
        assert!(homes.of(7).next().is_none(), "nobody needs it");
        homes.keep(0);
        for ino in 0..10_000 {
            homes.add(ino, ino as u32 % 7);
        }
        homes.add(5, 99);
        let mut of: Vec<u32> = homes.of(5).collect();
        of.sort_unstable();
        assert_eq!(of, [5, 99]);
        homes.remove(5, 5);
        assert_eq!(homes.of(5).collect::<Vec<_>>(), [99]);
        assert!(homes.of(10_000).next().is_none());
    }
}
