//! How fast a root fills at present: what forecasts are made of.
//!
//! What came in is what is there and what was pruned; what others removed counts as never come.
//! Pure: moments and sums in, an amount over a time out. Bounds: [`N_SAMPLES`] samples.

use crate::model::bytes::Bytes;
use crate::model::time::Tick;
use std::collections::VecDeque;
use std::time::Duration;

/// "At present" is this long.
pub const WINDOW: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(5);
const N_SAMPLES: usize = 13;
/// What came in less is spread over so long: a single moment is no rate.
const SHORTEST: Duration = Duration::from_secs(5);

/// How much a root grew in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Growth {
    pub bytes: Bytes,
    pub n_sessions: u64,
    /// Zero: nothing is known.
    pub over: Duration,
}

impl Growth {
    /// How long until so many bytes more come. `None`: never at this rate.
    pub fn until_bytes(&self, bytes: u128) -> Option<Duration> {
        self.until(bytes, self.bytes.0)
    }

    /// How long until so many sessions more come. `None`: never at this rate.
    pub fn until_sessions(&self, n_sessions: u64) -> Option<Duration> {
        self.until(n_sessions.into(), self.n_sessions)
    }

    fn until(&self, wanted: u128, came: u64) -> Option<Duration> {
        let nanos = self.over.as_nanos().checked_mul(wanted)?;
        let nanos = nanos.checked_div(came.into())?;
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        Some(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Tick,
    bytes: u64,
    n_sessions: u64,
}

/// What came in lately.
#[derive(Debug, Default)]
pub struct Flow {
    samples: VecDeque<Sample>,
    latest: Option<Sample>,
}

impl Flow {
    /// So many bytes and sessions came in up to now, since any time in the past.
    pub fn note(&mut self, at: Tick, bytes: Bytes, n_sessions: u64) {
        let sample = Sample {
            at,
            bytes: bytes.0,
            n_sessions,
        };
        self.latest = Some(sample);
        let last = self.samples.back();
        if last.is_some_and(|last| at.since(last.at) < STEP) {
            return;
        }
        if self.samples.len() == N_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// How much of it came of late.
    pub fn growth(&self, now: Tick) -> Growth {
        let is_old = |sample: &&Sample| now.since(sample.at) >= WINDOW;
        let before = self.samples.iter().rev().find(is_old);
        let (Some(base), Some(latest)) = (before.or(self.samples.front()), self.latest) else {
            return Growth::default();
        };
        let over = now.since(base.at).max(SHORTEST);
        if now.since(latest.at) >= WINDOW {
            return Growth {
                over,
                ..Growth::default()
            };
        }
        Growth {
            bytes: Bytes(latest.bytes.saturating_sub(base.bytes)),
            n_sessions: latest.n_sessions.saturating_sub(base.n_sessions),
            over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    #[test]
    fn a_steady_writer_has_a_rate_that_ends_with_it() {
        let mut flow = Flow::default();
        assert_eq!(flow.growth(at(1)), Growth::default());
        for second in 0..=600 {
            flow.note(at(second), Bytes(second * 1000), second / 10);
        }
        let growth = flow.growth(at(600));
        assert_eq!((growth.bytes, growth.over), (Bytes(60_000), WINDOW));
        assert_eq!(growth.until_bytes(5000), Some(Duration::from_secs(5)));
        assert_eq!(growth.until_sessions(2), Some(Duration::from_secs(20)));
        assert_eq!(flow.growth(at(659)).bytes, Bytes(5000));
        let over = flow.growth(at(661));
        assert_eq!((over.until_bytes(1), over.until_sessions(1)), (None, None));
    }

    #[test]
    fn one_burst_is_spread_and_what_others_remove_is_no_growth() {
        let mut flow = Flow::default();
        flow.note(at(100), Bytes(0), 0);
        flow.note(at(101), Bytes(5000), 1);
        assert_eq!(
            flow.growth(at(101)).until_bytes(1000),
            Some(Duration::from_secs(1))
        );
        flow.note(at(102), Bytes(0), 0);
        assert_eq!(flow.growth(at(102)).until_bytes(1), None);
    }
}
