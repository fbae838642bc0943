//! The slots of sessions in an order that the caller knows: 4 bytes each and little more.
//!
//! A sorted list cut into blocks, so that an insertion moves one block at most, and a list of
//! blocks: a hundredth of a millisecond with ten million of them, once in hundreds of
//! insertions.

use std::cmp::Ordering;

/// Most slots of one block.
const BLOCK: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Order {
    /// None is empty.
    blocks: Vec<Vec<u32>>,
}

impl Order {
    /// Where a slot is or belongs: the first place whose slot is not before it.
    fn place(&self, slot: u32, compare: impl Fn(u32, u32) -> Ordering) -> (usize, usize) {
        let before = |at: u32| compare(at, slot) == Ordering::Less;
        let block = self
            .blocks
            .partition_point(|block| block.last().is_some_and(|last| before(*last)));
        let at = self
            .blocks
            .get(block)
            .map_or(0, |block| block.partition_point(|at| before(*at)));
        (block, at)
    }

    /// Puts a slot in that is not in it.
    pub(super) fn insert(&mut self, slot: u32, compare: impl Fn(u32, u32) -> Ordering) {
        let (mut block, mut at) = self.place(slot, compare);
        if block == self.blocks.len() {
            match self.blocks.last() {
                Some(last) => {
                    block -= 1;
                    at = last.len();
                }
                None => self.blocks.push(Vec::new()),
            }
        }
        let slots = &mut self.blocks[block];
        slots.insert(at, slot);
        if slots.len() > BLOCK {
            // Most sessions are newer than those there are: an end that grows leaves full blocks.
            let is_last = block + 1 == self.blocks.len();
            let cut = if is_last { BLOCK } else { BLOCK / 2 };
            let rest = self.blocks[block].split_off(cut);
            self.blocks[block].shrink_to_fit();
            self.blocks.insert(block + 1, rest);
        }
    }

    /// Takes a slot out. It must compare as it did when it was put in.
    pub(super) fn remove(&mut self, slot: u32, compare: impl Fn(u32, u32) -> Ordering) {
        let (block, at) = self.place(slot, compare);
        let Some(slots) = self.blocks.get_mut(block) else {
            return;
        };
        if slots.get(at) != Some(&slot) {
            debug_assert!(false, "a slot is where it was put");
            return;
        }
        slots.remove(at);
        let left = slots.len();
        if left == 0 {
            self.blocks.remove(block);
        } else if let Some(next) = self.blocks.get(block + 1)
            && left + next.len() <= BLOCK / 2
        {
            let next = self.blocks.remove(block + 1);
            self.blocks[block].extend(next);
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.blocks.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_stays_in_order(seed in any::<u32>(), n in 0..4000u32, n_taken in 0..4000u32) {
            let mixed = |n: u32| n.wrapping_mul(2_654_435_769).wrapping_add(seed);
            let compare = |a: u32, b: u32| a.cmp(&b);
            let mut order = Order::default();
            let mut model = BTreeSet::new();
            for n in 0..n {
                order.insert(mixed(n), compare);
                model.insert(mixed(n));
            }
            for n in 0..n.min(n_taken) {
                order.remove(mixed(n), compare);
                model.remove(&mixed(n));
            }
            prop_assert!(order.iter().eq(model.iter().copied()));
            prop_assert!(order.iter().rev().eq(model.iter().rev().copied()));
            prop_assert!(order.blocks.iter().all(|b| !b.is_empty() && b.len() <= BLOCK));
        }
    }

    #[test]
    fn what_grows_at_its_end_is_dense() {
        let mut order = Order::default();
        (0..100_000).for_each(|slot| order.insert(slot, |a, b| a.cmp(&b)));
        let places: usize = order.blocks.iter().map(Vec::capacity).sum();
        assert!(places < 102_000, "{places}");
    }
}
