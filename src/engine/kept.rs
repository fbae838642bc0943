//! What rules took and may come back: sessions in the trash that are kept for a while.
//!
//! They are gone for every rule; their bytes are not. They go for good, oldest first, when their
//! time is over, and as soon as a root's sessions and they together pass its limit: before any
//! session, and without any decision's waiting for it. Their time is in their names, so that a
//! restart does not end it. What the size rule takes is never kept.
//!
//! Bounds: [`MAX_KEPT`] of them; beyond it the oldest goes.

use super::{Effect, Engine};
use crate::model::bytes::Bytes;
use crate::model::plan::{Body, Rule, Victim};
use crate::model::report::AsideName;
use crate::model::time::{Now, Tick, Time};
use chrono::TimeDelta;
use std::collections::BTreeMap;
use std::time::Duration;

/// One that could not be let go of is tried again then.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Most sessions kept in one root.
const MAX_KEPT: usize = 65_536;

/// By their names, which begin with the time: the oldest first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    items: BTreeMap<String, Bytes>,
    bytes: Bytes,
    /// Those of them that could not be let go of, and when they are tried again.
    refused: BTreeMap<String, Tick>,
}

impl Kept {
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes
    }

    pub(super) fn n(&self) -> u64 {
        self.items.len() as u64
    }

    fn add(&mut self, name: AsideName, bytes: Bytes) {
        self.remove(&name);
        self.items.insert(name.0, bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn remove(&mut self, name: &AsideName) {
        self.refused.remove(&name.0);
        if let Some(bytes) = self.items.remove(&name.0) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// The oldest that may be let go of: one that is refused keeps no other from it.
    fn oldest(&self) -> Option<(AsideName, Bytes)> {
        let mut items = self.items.iter();
        let (name, bytes) = items.find(|(name, _)| !self.refused.contains_key(*name))?;
        Some((AsideName(name.clone()), *bytes))
    }
}

impl Engine {
    /// Whether a victim is to stay restorable for a while.
    pub fn keeps_aside(&self, victim: &Victim) -> bool {
        let is_whole = match victim.body {
            Body::Tree { .. } | Body::Files { .. } => true,
            // Its entry is in a catalogue that its owner writes.
            Body::Blobs { .. } => false,
        };
        // What goes to make room makes it.
        let makes_room = victim.because.rule() == Rule::Size;
        is_whole && !makes_room && !self.rules.trash_keep.is_zero()
    }

    pub(super) fn note_kept(&mut self, name: AsideName, bytes: Bytes) {
        self.kept.add(name, bytes);
    }

    /// When the time of one is over. A name that says no time is over at once.
    fn kept_until(&self, name: &AsideName) -> Time {
        let keep = TimeDelta::from_std(self.rules.trash_keep).unwrap_or(TimeDelta::MAX);
        let since = name.since().unwrap_or(Time::UNIX_EPOCH);
        since.checked_add_signed(keep).unwrap_or(Time::MAX_UTC)
    }

    /// One could not be let go of: it stays, it counts, and it is tried again after a pause.
    pub(super) fn keep_on(&mut self, now: Now, name: AsideName, bytes: Bytes) {
        self.kept.add(name.clone(), bytes);
        let next = now.tick.after(REFUSED_PAUSE);
        self.kept.refused.insert(name.0, next);
    }

    /// When the next one's time is over; never while the clock cannot be believed.
    pub(super) fn kept_due(&self, now: Now) -> Option<Tick> {
        if !self.rules.enforce {
            return None;
        }
        let again = self.kept.refused.values().min().copied();
        let oldest = self.kept.oldest().filter(|_| self.clock.is_believed(now));
        let over = oldest.map(|(name, _)| {
            let left = (self.kept_until(&name) - now.wall).to_std();
            now.tick.after(left.unwrap_or_default())
        });
        again.into_iter().chain(over).min()
    }

    /// Lets those go whose time is over, or whose space is needed.
    pub(super) fn mind_kept(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.kept.items.is_empty() || !self.rules.enforce {
            return;
        }
        self.kept.refused.retain(|_, at| *at > now.tick);
        let believed = self.clock.is_believed(now);
        let most = self.limits().threshold().unwrap_or(Bytes(u64::MAX));
        let used = self.usage().bytes;
        let mut gone = Vec::new();
        while let Some((name, bytes)) = self.kept.oldest() {
            let is_over = believed && self.kept_until(&name) <= now.wall;
            let is_needed = used.saturating_add(self.kept.bytes) > most;
            if !is_over && !is_needed && self.kept.items.len() <= MAX_KEPT {
                break;
            }
            self.kept.remove(&name);
            let deciding = &mut self.deciding;
            deciding.trash.insert(name.0.clone(), bytes);
            deciding.trash_bytes = deciding.trash_bytes.saturating_add(bytes);
            gone.push(name);
        }
        if !gone.is_empty() {
            out.push(Effect::LetGo(gone));
        }
    }
}
