//! Walks of single directories: few at once, and each place waits once.
//!
//! Every hint that names a directory wants one. Whoever renames directories without a rest
//! would fill any queue with walks of the same few places, and a full scan behind them would
//! never end; so what waits, waits here, by place.
//!
//! Bounds: [`MAX_WALKING`] walks are ordered at a time; [`MAX_WAITING`] places wait, beyond
//! which one full scan takes their place.

use super::{Effect, Engine};
use crate::model::listing::{ScanId, ScanOrder};
use crate::model::path::RelPath;
use std::collections::{HashSet, VecDeque};

const MAX_WALKING: usize = 16;
const MAX_WAITING: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct Parts {
    walking: HashSet<ScanId>,
    order: VecDeque<RelPath>,
    /// The places in [`Self::order`].
    waiting: HashSet<RelPath>,
}

impl Parts {
    pub(super) fn are_none(&self) -> bool {
        self.walking.is_empty() && self.order.is_empty()
    }

    /// A place is to be walked. `false`: too many wait.
    fn want(&mut self, at: RelPath) -> bool {
        if self.waiting.contains(&at) {
            return true;
        }
        if self.waiting.len() == MAX_WAITING {
            return false;
        }
        self.waiting.insert(at.clone());
        self.order.push_back(at);
        true
    }

    /// The place to walk next, if there is room for a walk.
    pub(super) fn next(&mut self) -> Option<RelPath> {
        if self.walking.len() >= MAX_WALKING {
            return None;
        }
        let at = self.order.pop_front()?;
        self.waiting.remove(&at);
        Some(at)
    }

    pub(super) fn begun(&mut self, id: ScanId) {
        self.walking.insert(id);
    }

    /// `false`: it was no walk of these.
    pub(super) fn ended(&mut self, id: ScanId) -> bool {
        self.walking.remove(&id)
    }

    fn forget_waiting(&mut self) {
        self.order.clear();
        self.waiting.clear();
    }
}

impl Engine {
    /// Wants a walk of a directory with everything below it. It begins at the end of the turn,
    /// or when another one has ended: later than whatever made it wanted.
    pub(super) fn scan_below(&mut self, at: RelPath, out: &mut Vec<Effect>) {
        if !self.scanning.parts.want(at) {
            self.scanning.parts.forget_waiting();
            self.lost(out);
        }
    }

    pub(super) fn begin_parts(&mut self, out: &mut Vec<Effect>) {
        while let Some((id, at)) = self.scanning.next_part() {
            // What is below is new, or has moved.
            let reads = true;
            out.push(Effect::Scan(ScanOrder { id, at, reads }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> RelPath {
        RelPath::new(name.as_bytes()).expect("a path")
    }

    #[test]
    fn a_place_waits_once_and_few_are_walked_at_a_time() {
        let mut parts = Parts::default();
        for n in 0..1000 {
            assert!(parts.want(at(&format!("d{}", n % 40))));
        }
        let mut begun = Vec::new();
        while let Some(at) = parts.next() {
            parts.begun(ScanId(begun.len() as u64));
            begun.push(at);
        }
        assert_eq!(begun.len(), MAX_WALKING);
        assert_eq!(parts.order.len(), 40 - MAX_WALKING);
        // Under way, but what made it wanted again may be younger.
        assert!(parts.want(at("d0")));
        assert_eq!(parts.order.len(), 41 - MAX_WALKING);
        assert!(parts.ended(ScanId(0)) && !parts.ended(ScanId(0)));
        assert_eq!(parts.next(), Some(at(&format!("d{MAX_WALKING}"))));
    }

    #[test]
    fn at_the_bound_it_says_so() {
        let mut parts = Parts::default();
        for n in 0..MAX_WAITING {
            assert!(parts.want(at(&n.to_string())));
        }
        assert!(parts.want(at("0")) && !parts.want(at("one more")));
        parts.forget_waiting();
        assert!(parts.are_none());
    }
}
