//! Keeps many wake-ups from taking the engine's thread.
//!
//! A mark on a whole file system tells of everybody's writes, and each of them would wake the
//! thread: a hundred thousand a second take more than half a core, and the governor would take
//! the thread out of its class, which costs milliseconds. So where many wake-ups in a row brought
//! nothing but others' doings, the thread lets some more of it gather before it looks again: one
//! wake-up then serves for several writes. What is ours waits for that too, for [`NAP`] at most.
//!
//! What is ours gathers as well, as long as the limit is too far away to be passed meanwhile
//! ([`crate::policy::pace::gathering`] says how long that is).

use std::time::{Duration, Instant};

/// So long the thread lets others' doings gather.
pub(super) const NAP: Duration = Duration::from_micros(20);
/// So many wake-ups are borne in each [`WINDOW`].
const BORNE: u32 = 4;
const WINDOW: Duration = Duration::from_millis(1);

/// The wake-ups of late.
#[derive(Debug)]
pub(super) struct Crowd {
    began: Instant,
    n_wakes: u32,
}

impl Crowd {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            n_wakes: 0,
        }
    }

    /// A wake-up was for nothing that could not have waited for so long: how long to let more
    /// gather before the next one.
    pub(super) fn came(&mut self, now: Instant, may_gather: Duration) -> Duration {
        if now.saturating_duration_since(self.began) >= WINDOW {
            *self = Self::new(now);
        }
        self.n_wakes = self.n_wakes.saturating_add(1);
        if self.n_wakes > BORNE {
            may_gather
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_borne_and_many_gather() {
        let begun = Instant::now();
        let at = |us| begun + Duration::from_micros(us);
        let mut crowd = Crowd::new(begun);
        let mut came = |us| crowd.came(at(us), NAP) == NAP;
        let sparse = (0..100).any(|n| came(n * 300));
        assert!(!sparse, "three in a millisecond are borne");
        let dense: Vec<bool> = (0..8).map(|n| came(100_000 + n * 10)).collect();
        assert_eq!(dense[..4], [false; 4]);
        assert_eq!(dense[4..], [true; 4]);
        assert!(!came(200_000), "and it ends");
    }
}
