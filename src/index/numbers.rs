//! Maps by numbers that the index gives out itself, or that are keyed hashes already: nobody can
//! aim at a collision, so one multiplication a number spreads them well enough. Of the engine's
//! own maps those that are asked on the way from a hint to a rename are of this kind.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by slots, or by slots and hashes of names. Never by anything that a disk says.
pub type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// Spreads numbers over all bits.
#[derive(Debug, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        // The upper bits depend on all, and a map takes the lower ones, too.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    fn spread(value: impl Hash) -> u64 {
        BuildHasherDefault::<Spread>::default().hash_one(value)
    }

    #[test]
    fn what_comes_one_after_the_other_lies_apart() {
        let slots: HashSet<u64> = (0..1u32 << 16).map(|n| spread(n) & 0xFFFF).collect();
        assert!(slots.len() > 1 << 15, "{}", slots.len());
        let tops: HashSet<u64> = (0..128u32).map(|n| spread((n, 7u64)) >> 57).collect();
        assert!(tops.len() > 64, "{}", tops.len());
    }
}
