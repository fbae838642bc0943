//! Whether a loop turns, told without a clock and without a lock.
//!
//! Whoever turns counts; whoever wants to know looks twice. A loop that sleeps says so first: only
//! one that is awake and does not count any more is stuck, on a disk that does not answer perhaps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The pulse of one loop.
#[derive(Debug, Default)]
pub struct Pulse {
    turns: AtomicU64,
    sleeps: AtomicBool,
}

impl Pulse {
    /// The loop goes on. Called by the loop's own thread alone.
    pub fn beat(&self) {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
        self.sleeps.store(false, Ordering::Relaxed);
    }

    /// The loop waits for something to do.
    pub fn rest(&self) {
        self.sleeps.store(true, Ordering::Relaxed);
    }
}

/// What somebody who looks at a pulse at times has seen of it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    turns: u64,
    since: Instant,
}

impl Seen {
    /// The first look.
    pub fn of(pulse: &Pulse, now: Instant) -> Self {
        Self {
            turns: pulse.turns.load(Ordering::Relaxed),
            since: now,
        }
    }

    /// Looks again. For how long the loop has not turned though it does not sleep: as far as is
    /// known from these looks, so never too long.
    pub fn look(&mut self, pulse: &Pulse, now: Instant) -> Duration {
        let turns = pulse.turns.load(Ordering::Relaxed);
        if turns != self.turns || pulse.sleeps.load(Ordering::Relaxed) {
            *self = Self { turns, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pulse, Seen};
    use std::time::{Duration, Instant};

    #[test]
    fn only_who_is_awake_and_does_not_turn_is_stuck() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut seen = Seen::of(&pulse, at(0));
        pulse.beat();
        assert_eq!(seen.look(&pulse, at(5)), Duration::ZERO);
        assert_eq!(seen.look(&pulse, at(8)), Duration::from_secs(3));
        pulse.beat();
        assert_eq!(seen.look(&pulse, at(9)), Duration::ZERO);
        pulse.rest();
        assert_eq!(seen.look(&pulse, at(60)), Duration::ZERO);
        pulse.beat();
        assert_eq!(seen.look(&pulse, at(61)), Duration::ZERO);
        assert_eq!(seen.look(&pulse, at(71)), Duration::from_secs(10));
    }
}
