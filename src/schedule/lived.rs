//! The stretches of the wall clock that were lived through: what was due in them is settled.
//!
//! A clock that runs makes one stretch longer. One that is set begins another, or comes back into
//! one that is there: then nothing is due until its end, because all of it ran.

use crate::model::time::{Now, Time};
use chrono::TimeDelta;

/// Stretches that are remembered. At the bound the one touched longest ago is forgotten: what was
/// due in it may run once more when the clock comes back there.
const MAX_STRETCHES: usize = 16;
/// Both clocks may differ by so much between two looks without one having been set.
const TOLERANCE: TimeDelta = TimeDelta::seconds(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    from: Time,
    to: Time,
}

#[derive(Debug)]
pub(super) struct Lived {
    /// The one lived in now comes last. None overlaps another.
    stretches: Vec<Stretch>,
    last: Now,
}

impl Lived {
    pub(super) fn new(now: Now) -> Self {
        Self {
            stretches: vec![Stretch {
                from: now.wall,
                to: now.wall,
            }],
            last: now,
        }
    }

    /// Goes on to `now`. `true`: the wall clock was set since the last look.
    pub(super) fn go_on(&mut self, now: Now) -> bool {
        let passed = TimeDelta::from_std(now.tick.since(self.last.tick)).unwrap_or(TimeDelta::MAX);
        let shown = now.wall.signed_duration_since(self.last.wall);
        let set = shown
            .checked_sub(&passed)
            .is_none_or(|off| off.abs() > TOLERANCE);
        self.last = now;
        if set {
            let known = self.stretches.iter().position(|s| s.holds(now.wall));
            let stretch = match known {
                Some(at) => self.stretches.remove(at),
                None => Stretch {
                    from: now.wall,
                    to: now.wall,
                },
            };
            self.stretches.push(stretch);
            if self.stretches.len() > MAX_STRETCHES {
                self.stretches.remove(0);
            }
        }
        self.extend(now.wall);
        set
    }

    fn extend(&mut self, to: Time) {
        let mut here = self.stretches.pop().unwrap_or(Stretch { from: to, to });
        here.to = here.to.max(to);
        // A small step back, which is no setting of the clock.
        here.from = here.from.min(to);
        self.stretches.retain(|other| {
            let apart = other.to < here.from || here.to < other.from;
            if !apart {
                here.from = here.from.min(other.from);
                here.to = here.to.max(other.to);
            }
            apart
        });
        self.stretches.push(here);
    }

    /// The moment up to which all that is due before `now` has run: the end of the stretch lived
    /// in before a clock was set forward. `None`: no stretch ends before `now`.
    pub(super) fn before(&self, now: Time) -> Option<Time> {
        let ended = self.stretches.iter().map(|s| s.to).filter(|to| *to < now);
        ended.max()
    }

    /// The end of the stretch that holds `time`: nothing up to there runs again.
    pub(super) fn settled_until(&self, time: Time) -> Option<Time> {
        let holds = self.stretches.iter().find(|s| s.holds(time));
        holds.map(|s| s.to)
    }
}

impl Stretch {
    fn holds(self, time: Time) -> bool {
        self.from <= time && time <= self.to
    }
}
