//! One receiver's queue: what is sent when. Pure; times are ticks.
//!
//! One message at a time, in order; what fails is tried again after 1 s, 2 s, 4 s … 5 min, each
//! shortened by up to half at random, so that many hosts do not come back at once. No more than
//! `rate` messages a minute begin: what waits then is folded into one message.

use crate::model::time::Tick;
use std::collections::VecDeque;
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// What a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// What is to be done for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing before this.
    Wait(Option<Tick>),
    /// Send the first that waits.
    Send,
    /// More wait than may be sent: fold them into one, then ask again.
    Fold,
}

#[derive(Debug)]
pub(super) struct Lane {
    is_sending: bool,
    /// The first that waits may have arrived: it keeps its identity, so that nobody takes it for
    /// another.
    is_begun: bool,
    n_failed: u32,
    ready_at: Tick,
    /// When messages began, within the last minute.
    begun: VecDeque<Tick>,
    rate: usize,
}

impl Lane {
    /// With what a run before left waiting.
    pub(super) fn new(rate: u32, n_waiting: usize) -> Self {
        Self {
            is_sending: false,
            is_begun: n_waiting > 0,
            n_failed: 0,
            ready_at: Tick::default(),
            begun: VecDeque::new(),
            rate: rate.max(1) as usize,
        }
    }

    pub(super) fn set_rate(&mut self, rate: u32) {
        self.rate = rate.max(1) as usize;
    }

    pub(super) fn n_failed(&self) -> u32 {
        self.n_failed
    }

    pub(super) fn turn(&mut self, now: Tick, n_waiting: usize) -> Turn {
        if self.is_sending || n_waiting == 0 {
            return Turn::Wait(None);
        }
        if self.ready_at > now {
            return Turn::Wait(Some(self.ready_at));
        }
        if self.is_begun {
            return Turn::Send;
        }
        while self
            .begun
            .front()
            .is_some_and(|at| now.since(*at) >= MINUTE)
        {
            self.begun.pop_front();
        }
        let room = self.rate.saturating_sub(self.begun.len());
        match self.begun.front() {
            Some(first) if room == 0 => Turn::Wait(Some(first.after(MINUTE))),
            // The last message of this minute speaks for all that wait.
            Some(_) | None if room == 1 && n_waiting > 1 => Turn::Fold,
            Some(_) | None => Turn::Send,
        }
    }

    /// The first that waits is being sent.
    pub(super) fn begin(&mut self, now: Tick) {
        self.is_sending = true;
        if !std::mem::replace(&mut self.is_begun, true) {
            self.begun.push_back(now);
        }
    }

    /// It arrived, or is given up: it waits no longer.
    pub(super) fn done(&mut self) {
        self.is_sending = false;
        self.is_begun = false;
        self.n_failed = 0;
    }

    /// It did not arrive. `dice` is any number; `asked`: how long the receiver wants to be left
    /// alone.
    pub(super) fn failed(&mut self, now: Tick, dice: u64, asked: Option<Duration>) {
        self.is_sending = false;
        self.n_failed = self.n_failed.saturating_add(1);
        let doubled = FIRST_WAIT.saturating_mul(1 << (self.n_failed - 1).min(16));
        let whole = doubled.min(LONGEST_WAIT);
        let half = whole / 2;
        let random = half.mul_f64((dice % 1024) as f64 / 1024.0);
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        self.ready_at = now.after((half + random).max(asked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    #[test]
    fn one_at_a_time() {
        let mut lane = Lane::new(100, 0);
        assert_eq!(lane.turn(at(0), 2), Turn::Send);
        lane.begin(at(0));
        assert_eq!(lane.turn(at(0), 2), Turn::Wait(None));
        lane.done();
        assert_eq!(lane.turn(at(0), 1), Turn::Send);
        assert_eq!(lane.turn(at(0), 0), Turn::Wait(None));
    }

    #[test]
    fn what_fails_waits_longer_each_time_and_never_longer_than_the_bound() {
        for dice in [0, 1023, u64::MAX] {
            let mut lane = Lane::new(1, 0);
            let mut now = Tick::default();
            for n in 0..40_u32 {
                assert_eq!(lane.turn(now, 1), Turn::Send, "{n}");
                lane.begin(now);
                lane.failed(now, dice, None);
                let Turn::Wait(Some(next)) = lane.turn(now, 1) else {
                    panic!("it does not wait");
                };
                let whole = Duration::from_secs(1 << n.min(20)).min(LONGEST_WAIT);
                let wait = next.since(now);
                assert!(whole / 2 <= wait && wait <= whole, "{n}: {wait:?}");
                now = next;
            }
            lane.begin(now);
            let asked = Duration::from_secs(1000);
            lane.failed(now, dice, Some(asked));
            assert_eq!(lane.turn(now, 1), Turn::Wait(Some(now.after(asked))));
        }
    }

    #[test]
    fn what_is_more_than_the_rate_is_folded_into_the_last_message_of_a_minute() {
        let mut lane = Lane::new(3, 0);
        for n in 0..2 {
            assert_eq!(lane.turn(at(1), 10 - n), Turn::Send);
            lane.begin(at(1));
            lane.done();
        }
        assert_eq!(lane.turn(at(2), 8), Turn::Fold);
        assert_eq!(lane.turn(at(2), 1), Turn::Send);
        lane.begin(at(2));
        lane.done();
        assert_eq!(lane.turn(at(3), 1), Turn::Wait(Some(at(61))));
        assert_eq!(lane.turn(at(61), 1), Turn::Send);
        // A single message a minute speaks for all, always.
        let mut lane = Lane::new(1, 0);
        assert_eq!(lane.turn(at(0), 5), Turn::Fold);
        lane.begin(at(0));
        lane.done();
        assert_eq!(lane.turn(at(30), 5), Turn::Wait(Some(at(60))));
        assert_eq!(lane.turn(at(60), 5), Turn::Fold);
    }

    #[test]
    fn what_may_have_arrived_is_not_folded() {
        let mut lane = Lane::new(2, 5);
        assert_eq!(lane.turn(at(0), 5), Turn::Send);
        lane.begin(at(0));
        lane.done();
        assert_eq!(lane.turn(at(0), 4), Turn::Send);
        lane.begin(at(0));
        lane.failed(at(0), 0, None);
        assert_eq!(lane.turn(at(5), 4), Turn::Send);
        lane.begin(at(5));
        lane.done();
        assert_eq!(lane.turn(at(5), 3), Turn::Fold);
    }
}
