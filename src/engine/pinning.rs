//! Pins: which sessions somebody promised to keep, and when that ends.
//!
//! A pin ends by the wall clock, where age rules may speak: a clock that jumped ends none before
//! a full scan has finished since.

use super::Engine;
use crate::model::pin::Pins;
use crate::model::session::SessionId;
use crate::model::time::{Now, Tick, Time};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Pinning {
    pins: Arc<Pins>,
    /// The moment at which they were last judged; `None`: none has ended.
    judged: Option<Time>,
    /// When the first of those ends that hold.
    next_end: Option<Time>,
    n_lasting: u64,
}

impl Pinning {
    fn new(pins: Arc<Pins>, judged: Option<Time>) -> Self {
        Self {
            next_end: pins.next_end(judged),
            n_lasting: pins.n_lasting(judged),
            pins,
            judged,
        }
    }

    pub(super) fn are_none(&self) -> bool {
        self.pins.are_none()
    }

    pub(super) fn hold(&self, key: &[u8], id: &[u8]) -> bool {
        self.pins.hold(key, id, self.judged)
    }

    pub(super) fn n_lasting(&self) -> u64 {
        self.n_lasting
    }

    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        self.pins.trouble().map(Arc::from)
    }
}

impl Engine {
    /// The same engine, which knows of these pins before it knows of anything else.
    pub fn with_pins(mut self, pins: Pins) -> Self {
        self.pinning = Pinning::new(Arc::new(pins), None);
        self
    }

    pub(super) fn set_pins(&mut self, now: Now, pins: Arc<Pins>) {
        let judged = self.clock.is_believed(now).then_some(now.wall);
        self.change_pins(Pinning::new(pins, judged));
    }

    /// Lets those end whose time has come.
    pub(super) fn end_pins(&mut self, now: Now) {
        let next = self.pinning.next_end;
        if next.is_some_and(|end| end <= now.wall) && self.clock.is_believed(now) {
            let pins = self.pinning.pins.clone();
            self.set_pins(now, pins);
        }
    }

    /// When the next one ends; never while the clock cannot be believed.
    pub(super) fn pins_due(&self, now: Now) -> Option<Tick> {
        let end = self.pinning.next_end?;
        let left = (end - now.wall).to_std().unwrap_or_default();
        self.clock.is_believed(now).then(|| now.tick.after(left))
    }

    /// Judges those sessions anew that are pinned now and were not, or were and are not.
    fn change_pins(&mut self, pinning: Pinning) {
        let before = std::mem::replace(&mut self.pinning, pinning);
        let layout = self.rules.layout.clone();
        let has_changed = |key: &[u8]| {
            let id = layout.id(key);
            before.hold(key, id) != self.pinning.hold(key, id)
        };
        let sessions = self.index.sessions().map(|(id, _)| id);
        let changed: Vec<SessionId> = sessions
            .filter(|id| has_changed(&self.index.key(*id)))
            .collect();
        if changed.is_empty() {
            return;
        }
        for id in changed {
            self.restand(id);
            self.plan_life(id);
        }
        self.deciding.forget_back_off();
        self.deciding.forget_unmet();
    }
}
