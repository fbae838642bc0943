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

/// So long none is let go of after one could not be.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Most sessions kept in one root.
const MAX_KEPT: usize = 65_536;

/// By their names, which begin with the time: the oldest first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    items: BTreeMap<String, Bytes>,
    bytes: Bytes,
    /// One could not be let go of: the next are tried from then on.
    not_before: Option<Tick>,
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
        if let Some(bytes) = self.items.remove(&name.0) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn oldest(&self) -> Option<(AsideName, Bytes)> {
        let (name, bytes) = self.items.first_key_value()?;
        Some((AsideName(name.clone()), *bytes))
    }
}

impl Engine {
    /// Whether a victim is to stay restorable for a while.
    pub fn keeps_aside(&self, victim: &Victim) -> bool {
        let is_whole = match victim.body {
            Body::Tree { .. } => true,
            Body::Files { .. } | Body::Blobs { .. } => false,
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
        self.kept.add(name, bytes);
        self.kept.not_before = Some(now.tick.after(REFUSED_PAUSE));
    }

    /// When the next one's time is over; never while the clock cannot be believed.
    pub(super) fn kept_due(&self, now: Now) -> Option<Tick> {
        let (name, _) = self.kept.oldest()?;
        if let Some(at) = self.kept.not_before {
            return Some(at);
        }
        let left = (self.kept_until(&name) - now.wall).to_std();
        let may_end = self.rules.enforce && self.clock.is_believed(now);
        may_end.then(|| now.tick.after(left.unwrap_or_default()))
    }

    /// Lets those go whose time is over, or whose space is needed.
    pub(super) fn mind_kept(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.kept.items.is_empty() || !self.rules.enforce {
            return;
        }
        if self.kept.not_before.is_some_and(|at| at > now.tick) {
            return;
        }
        self.kept.not_before = None;
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
