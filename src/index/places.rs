//! Where things are, by a number of theirs: 8 bytes each and little more, and no insertion
//! moves more than a bucket of them.
//!
//! An item is a tag made of the number, and the slot of a directory. What a tag leads to is
//! compared with the directory itself: two numbers of one tag cost a look and nothing else.

use super::buckets::{Buckets, Item};

#[derive(Debug, Clone, Copy)]
struct Place {
    tag: u32,
    slot: u32,
}

impl Item for Place {
    const FREE: Self = Self {
        tag: 0,
        slot: u32::MAX,
    };
    const LOAD: usize = 24;

    fn is_free(&self) -> bool {
        self.slot == u32::MAX
    }

    fn address(&self) -> u32 {
        self.tag
    }
}

/// Slots of directories by number; the same pair may be in it several times.
#[derive(Debug, Default)]
pub(super) struct Places(Buckets<Place>);

impl Places {
    pub(super) fn insert(&mut self, number: u64, slot: u32) {
        let tag = mixed(number);
        self.0.insert(Place { tag, slot });
    }

    /// Takes one of the pair out. Whether there was one.
    pub(super) fn remove(&mut self, number: u64, slot: u32) -> bool {
        let tag = mixed(number);
        let is_it = |place: &Place| place.tag == tag && place.slot == slot;
        self.0.remove(tag, is_it).is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().count()
    }

    /// The slots that may have this number, and all that do.
    pub(super) fn of(&self, number: u64) -> impl Iterator<Item = u32> {
        let tag = mixed(number);
        let near = self.0.list(tag).places().iter();
        near.filter(move |place| place.tag == tag && !place.is_free())
            .map(|place| place.slot)
    }
}

/// Numbers are given out one after the other: the bits that are used vary with all.
fn mixed(number: u64) -> u32 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_its_place() {
        let mut places = Places::default();
        for number in 0..10_000 {
            places.insert(number, number as u32 % 7);
        }
        places.insert(5, 99);
        let mut of: Vec<u32> = places.of(5).collect();
        of.sort_unstable();
        assert_eq!(of, [5, 99]);
        assert!(places.remove(5, 5) && !places.remove(5, 5));
        assert_eq!(places.of(5).collect::<Vec<_>>(), [99]);
        assert!(places.of(10_000).next().is_none());
    }
}
