//! Names that are looked at again and again, each in its turn.

use crate::index::numbers::ByNumber;
use crate::model::place::DirId;
use crate::model::time::Tick;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Most names that are warm. Beyond it the one whose last change is oldest is left to the next
/// hint, to what the file system's total betrays, and to the rescans.
pub(super) const MAX_HOT: usize = 2048;
/// So long after its last change a name stays warm.
pub(super) const KEEP: Duration = Duration::from_secs(180);
/// A name that was warmed so lately keeps its place in the order.
const SLACK: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Name<K> {
    key: K,
    dir: DirId,
    name: Box<[u8]>,
}

/// Names in a ring. A place stays a name's own until it leaves, so that each gets its turn
/// however often others come and go.
#[derive(Debug)]
pub(super) struct Ring<K> {
    slots: Vec<Option<Name<K>>>,
    free: Vec<u32>,
    places: HashMap<K, u32>,
    hand: usize,
}

impl<K> Default for Ring<K> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            hand: 0,
        }
    }
}

impl<K: Copy + Eq + Hash> Ring<K> {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn place(&self, key: K) -> Option<u32> {
        self.places.get(&key).copied()
    }

    /// Where a key's name lies, and the name.
    pub(super) fn get(&self, key: K) -> Option<(DirId, &[u8])> {
        let slot = self.place(key)?;
        let name = self.slots[slot as usize].as_ref()?;
        Some((name.dir, &name.name))
    }

    /// Puts a name in, or another one under its key. The caller keeps the bound.
    pub(super) fn put(&mut self, key: K, dir: DirId, name: &[u8]) -> u32 {
        let slot = self.place(key).unwrap_or_else(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                // The bounds of both rings are far below 2³².
                (self.slots.len() - 1) as u32
            })
        });
        let name = name.into();
        self.slots[slot as usize] = Some(Name { key, dir, name });
        self.places.insert(key, slot);
        slot
    }

    pub(super) fn remove(&mut self, key: K) -> Option<u32> {
        let slot = self.places.remove(&key)?;
        self.slots[slot as usize] = None;
        self.free.push(slot);
        Some(slot)
    }

    /// Gives the next names to `visit`, at most `max` and each once.
    pub(super) fn turn(&mut self, max: usize, mut visit: impl FnMut(K, DirId, &[u8])) {
        let mut left = max;
        for _ in 0..self.slots.len() {
            if left == 0 {
                return;
            }
            self.hand = (self.hand + 1) % self.slots.len();
            if let Some(name) = &self.slots[self.hand] {
                visit(name.key, name.dir, &name.name);
                left -= 1;
            }
        }
    }
}

/// A directory and the hash of a name in it.
type At = (DirId, u64);

/// Names that were hinted at or found changed of late.
#[derive(Debug, Default)]
pub(super) struct Hot {
    ring: Ring<At>,
    changed: ByNumber<u32, Tick>,
    order: BTreeSet<(Tick, u32)>,
}

impl Hot {
    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// A name changed then.
    pub(super) fn warm(&mut self, at: At, name: &[u8], then: Tick) {
        if let Some(slot) = self.ring.place(at) {
            let Some(before) = self.changed.get_mut(&slot) else {
                return;
            };
            if then > before.after(SLACK) {
                self.order.remove(&(*before, slot));
                self.order.insert((then, slot));
                *before = then;
            }
            return;
        }
        if self.ring.len() >= MAX_HOT {
            match self.order.first().copied() {
                Some((oldest, slot)) if oldest < then => self.drop_slot(slot),
                _ => return,
            }
        }
        let slot = self.ring.put(at, at.0, name);
        self.changed.insert(slot, then);
        self.order.insert((then, slot));
    }

    /// The name is not there any more.
    pub(super) fn cool(&mut self, at: At) {
        if let Some(slot) = self.ring.place(at) {
            self.drop_slot(slot);
        }
    }

    fn drop_slot(&mut self, slot: u32) {
        if let Some(then) = self.changed.remove(&slot) {
            self.order.remove(&(then, slot));
        }
        if let Some(name) = &self.ring.slots[slot as usize] {
            let key = name.key;
            self.ring.remove(key);
        }
    }

    /// Lets go of what did not change for long.
    pub(super) fn expire(&mut self, now: Tick) {
        while let Some((then, slot)) = self.order.first().copied() {
            if now.since(then) <= KEEP {
                return;
            }
            self.drop_slot(slot);
        }
    }

    pub(super) fn turn(&mut self, max: usize, visit: impl FnMut(At, DirId, &[u8])) {
        self.ring.turn(max, visit);
    }

    /// The directories of all names, the one that changed last first.
    pub(super) fn newest(&self) -> impl Iterator<Item = DirId> {
        let slots = self.order.iter().rev();
        slots.filter_map(|(_, slot)| self.ring.slots[*slot as usize].as_ref().map(|n| n.dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: DirId = DirId {
        slot: 0,
        generation: 0,
    };

    fn tick(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    fn turn(hot: &mut Hot, max: usize) -> Vec<String> {
        let mut names = Vec::new();
        hot.turn(max, |_, _, name| {
            names.push(String::from_utf8_lossy(name).into_owned());
        });
        names
    }

    #[test]
    fn each_name_gets_its_turn_while_others_are_warmed() {
        let mut hot = Hot::default();
        for n in 0..5 {
            hot.warm((DIR, n), n.to_string().as_bytes(), tick(n));
        }
        let mut seen = BTreeSet::new();
        for round in 0..5 {
            hot.warm((DIR, 0), b"0", tick(100 + 10 * round));
            seen.extend(turn(&mut hot, 1));
        }
        assert_eq!(seen.len(), 5);
        assert_eq!(turn(&mut hot, 100).len(), 5, "each once");
    }

    #[test]
    fn at_the_bound_the_oldest_change_goes_and_an_older_one_does_not_come() {
        let mut hot = Hot::default();
        for n in 0..MAX_HOT as u64 {
            hot.warm((DIR, n), b"x", tick(10 + n));
        }
        hot.warm((DIR, 9_000), b"old", tick(5));
        assert_eq!(hot.len(), MAX_HOT);
        assert!(hot.ring.get((DIR, 9_000)).is_none());
        hot.warm((DIR, 9_001), b"new", tick(50_000));
        assert_eq!(hot.len(), MAX_HOT);
        assert!(hot.ring.get((DIR, 0)).is_none() && hot.ring.get((DIR, 9_001)).is_some());
        hot.expire(tick(50_000).after(KEEP));
        assert_eq!(hot.len(), 1);
        hot.cool((DIR, 9_001));
        assert!(hot.is_empty() && hot.order.is_empty() && hot.changed.is_empty());
    }
}
