//! How fast a root grows, and how long until it is acted upon: what `headroom = "auto"` is
//! made of.
//!
//! A write that takes a root over its limit is above it until the oldest session has left, and
//! what others write meanwhile comes on top. Pruning that much ahead keeps the limit itself
//! from being passed:
//!
//! headroom = the most that came at once + [`SAFETY`] × rate × reaction
//!
//! The most that came at once is there because no reaction to a write can be faster than the
//! write: a block of a mebibyte needs a mebibyte of room. The rate is the highest of short
//! windows and the reaction the longest, both of the last [`MEMORY`], so that a burst finds the
//! room that the burst before it taught. Where nothing grew for so long it is zero. What was
//! kept free then stays free until somebody writes, and whoever writes is measured anew.
//!
//! Pure: moments and amounts in, an amount out. Bounds: [`N_SPANS`] numbers of each kind; the
//! caller bounds what is made of them.

use crate::model::bytes::Bytes;
use crate::model::time::Tick;
use std::time::Duration;

/// Growth is measured over so long at least.
const WINDOW: Duration = Duration::from_millis(1);
/// What comes after a pause came in at most so long.
const LONGEST_GAP: Duration = Duration::from_millis(20);
/// A reaction takes at least so long, also before one was seen.
const REACTION: Duration = Duration::from_millis(1);
const SAFETY: u128 = 2;
const SPAN: Duration = Duration::from_secs(15);
const N_SPANS: usize = 8;
/// What was seen is forgotten after so long.
pub const MEMORY: Duration = Duration::from_secs(15 * N_SPANS as u64);

/// No root grows by more in a nanosecond: five times what one core writes into memory.
const FASTEST: u64 = 16;
/// Hints gather for so long at most, and for less than that not at all.
const GATHERING: [Duration; 2] = [Duration::from_micros(20), Duration::from_micros(100)];

/// How long hints may gather before they are looked at, where so much room is left below the
/// limit: not so long that the room could be filled meanwhile.
pub fn gathering(room: Bytes) -> Duration {
    let [shortest, longest] = GATHERING;
    let fills = Duration::from_nanos(room.0 / FASTEST).min(longest);
    if fills < shortest {
        Duration::ZERO
    } else {
        fills
    }
}

/// What was seen of a root's growth lately.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// The highest of each span, by the number of the span.
    spans: [Highest; N_SPANS],
    /// The number of the span that is filled.
    span: u64,
    /// When the window at hand began, and what came in it.
    began: Tick,
    in_window: u64,
    grew_at: Option<Tick>,
    /// What came in the batch at hand.
    in_batch: u64,
    /// How long the last batch took: so long what came meanwhile waited.
    batch_took: Duration,
    headroom: Bytes,
}

#[derive(Debug, Clone, Copy, Default)]
struct Highest {
    at_once: u64,
    a_second: u64,
    reaction: Duration,
}

impl Pace {
    /// The root has so many bytes more than before.
    pub fn grew(&mut self, now: Tick, by: Bytes) {
        if by == Bytes::ZERO {
            return;
        }
        self.turn_to(now);
        let since = self.grew_at.unwrap_or_default();
        if now.since(self.began) >= WINDOW {
            let gap = now.since(since).min(LONGEST_GAP);
            self.began = Tick(now.0.saturating_sub(gap));
            self.in_window = 0;
        }
        self.grew_at = Some(now);
        self.in_window = self.in_window.saturating_add(by.0);
        self.in_batch = self.in_batch.saturating_add(by.0);
        let lasts = now.since(self.began).max(WINDOW).as_nanos();
        let a_second = u128::from(self.in_window) * 1_000_000_000 / lasts;
        let at_once = self.in_batch;
        self.note(|highest| {
            highest.at_once = highest.at_once.max(at_once);
            highest.a_second = highest.a_second.max(saturated(a_second));
        });
    }

    /// All hints that were at hand were used up; the first of them came at `since`.
    pub fn batch_ended(&mut self, since: Tick, now: Tick) {
        self.in_batch = 0;
        self.batch_took = now.since(since);
    }

    /// A session left that long after its hint was read. The hint may have waited for the batch
    /// before to be done.
    pub fn reacted(&mut self, took: Duration) {
        let took = took.saturating_add(self.batch_took);
        self.note(|highest| highest.reaction = highest.reaction.max(took));
    }

    /// How much is to be kept free.
    pub fn headroom(&self) -> Bytes {
        self.headroom
    }

    /// When all is forgotten, unless something grows before.
    pub fn due(&self) -> Option<Tick> {
        let grew_at = self.grew_at?;
        (self.headroom > Bytes::ZERO).then(|| grew_at.after(MEMORY))
    }

    /// Forgets what is too old, where nothing grew for long.
    pub fn expire(&mut self, now: Tick) {
        if self.due().is_some_and(|due| due <= now) {
            *self = Self::default();
        }
    }

    fn note(&mut self, note: impl FnOnce(&mut Highest)) {
        note(&mut self.spans[self.span as usize % N_SPANS]);
        let mut all = Highest::default();
        for span in &self.spans {
            all.at_once = all.at_once.max(span.at_once);
            all.a_second = all.a_second.max(span.a_second);
            all.reaction = all.reaction.max(span.reaction);
        }
        self.headroom = all.headroom();
    }

    /// Empties the spans that began since.
    fn turn_to(&mut self, now: Tick) {
        let span = now.0.as_secs() / SPAN.as_secs();
        let n_new = span.saturating_sub(self.span).min(N_SPANS as u64);
        for number in 0..n_new {
            self.spans[(span - number) as usize % N_SPANS] = Highest::default();
        }
        self.span = self.span.max(span);
    }
}

impl Highest {
    fn headroom(&self) -> Bytes {
        if self.a_second == 0 {
            return Bytes::ZERO;
        }
        let reaction = self.reaction.max(REACTION).as_nanos();
        let meanwhile = u128::from(self.a_second).saturating_mul(reaction) / 1_000_000_000;
        let room = meanwhile
            .saturating_mul(SAFETY)
            .saturating_add(self.at_once.into());
        Bytes(saturated(room))
    }
}

fn saturated(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn us(us: u64) -> Tick {
        Tick(Duration::from_micros(us))
    }

    /// Blocks that come one by one, each a batch.
    fn paced(first_us: u64, n_blocks: u64, gap_us: u64, block: u64) -> Pace {
        let mut pace = Pace::default();
        for number in 0..n_blocks {
            let now = us(first_us + number * gap_us);
            pace.grew(now, Bytes(block));
            pace.batch_ended(now, now);
        }
        pace
    }

    #[test]
    fn nothing_was_seen_and_nothing_is_kept_free() {
        let mut pace = Pace::default();
        pace.reacted(Duration::from_millis(5));
        assert_eq!(pace.headroom(), Bytes::ZERO);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn a_steady_writer_is_measured() {
        // A mebibyte each half millisecond: 2 GiB/s, for the millisecond that is assumed.
        let pace = paced(5_000_000, 100, 500, 1 << 20);
        let rate = (2000 << 20) as f64;
        let room = pace.headroom().0 as f64 - (1 << 20) as f64;
        assert!(
            (room / (2.0 * rate * 0.001) - 1.0).abs() < 0.6,
            "{}",
            pace.headroom()
        );
    }

    #[test]
    fn a_block_now_and_then_needs_room_for_itself() {
        let pace = paced(5_000_000, 10, 1_000_000, 1 << 20);
        let room = pace.headroom().0;
        assert!((1 << 20..5 << 18).contains(&room), "{room}");
    }

    #[test]
    fn a_slow_reaction_needs_more_room_and_the_wait_before_counts() {
        let mut pace = paced(5_000_000, 100, 500, 1 << 20);
        let before = pace.headroom();
        pace.reacted(Duration::from_millis(4));
        let slow = pace.headroom();
        pace.batch_ended(us(6_000_000), us(6_004_000));
        pace.reacted(Duration::from_millis(4));
        assert!(before < slow && slow < pace.headroom());
    }

    #[test]
    fn it_is_kept_for_minutes_and_then_forgotten() {
        let mut pace = paced(5_000_000, 100, 500, 1 << 20);
        let before = pace.headroom();
        let last = us(5_000_000 + 99 * 500);
        pace.expire(last.after(MEMORY - Duration::from_millis(1)));
        assert_eq!(pace.headroom(), before);
        assert_eq!(pace.due(), Some(last.after(MEMORY)));
        pace.expire(last.after(MEMORY));
        assert_eq!(pace.headroom(), Bytes::ZERO);
    }

    #[test]
    fn a_burst_is_forgotten_also_while_others_write() {
        let mut pace = paced(5_000_000, 100, 500, 1 << 20);
        for second in 10..200 {
            let now = us(second * 1_000_000);
            pace.grew(now, Bytes(1000));
            pace.batch_ended(now, now);
        }
        assert!(pace.headroom() < Bytes(10_000), "{}", pace.headroom());
        assert!(pace.headroom() > Bytes::ZERO);
    }

    #[test]
    fn hints_gather_only_where_there_is_room() {
        assert_eq!(gathering(Bytes::ZERO), Duration::ZERO);
        assert_eq!(gathering(Bytes(319_999)), Duration::ZERO);
        assert_eq!(gathering(Bytes(800_000)), Duration::from_micros(50));
        assert_eq!(gathering(Bytes(u64::MAX)), Duration::from_micros(100));
    }

    proptest! {
        /// Whatever comes: no overflow; never less than the last thing that came, which passed
        /// everything before anybody knew; and zero a while after the last.
        #[test]
        fn laws(steps in prop::collection::vec((0..40_000_000u64, any::<u64>(), 0..9_000u64), 1..60)) {
            let mut pace = Pace::default();
            let mut now = us(0);
            for (wait, by, reaction) in steps {
                now = now.after(Duration::from_micros(wait));
                pace.expire(now);
                pace.grew(now, Bytes(by));
                prop_assert!(pace.headroom() >= Bytes(by));
                pace.reacted(Duration::from_micros(reaction));
                pace.batch_ended(now, now);
                prop_assert!(pace.headroom() >= Bytes(by));
            }
            pace.expire(now.after(MEMORY));
            prop_assert_eq!(pace.headroom(), Bytes::ZERO);
        }

        /// More bytes at the same moments never ask for less room.
        #[test]
        fn more_bytes_more_room(
            steps in prop::collection::vec((0..5_000u64, 0..1u64 << 40, 0..1u64 << 40), 1..60)
        ) {
            let (mut less, mut more) = (Pace::default(), Pace::default());
            let mut now = us(1);
            for (wait, by, extra) in steps {
                now = now.after(Duration::from_micros(wait));
                // A step of nothing is no step: then the windows would not be the same.
                less.grew(now, Bytes(by + 1));
                more.grew(now, Bytes(by + 1 + extra));
                prop_assert!(less.headroom() <= more.headroom());
            }
        }
    }
}
