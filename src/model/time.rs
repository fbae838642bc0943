//! Two clocks, taken once per turn.

use chrono::{DateTime, SecondsFormat, Utc};
use std::time::Duration;

/// A moment on the wall clock.
pub type Time = DateTime<Utc>;

/// A time as the contracts write it: RFC 3339 in UTC.
pub fn rfc3339(time: Time) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Time since the agent started, from a clock that never goes back (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub Duration);

impl Tick {
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The earlier of two moments that may never come.
pub fn sooner(a: Option<Tick>, b: Option<Tick>) -> Option<Tick> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub wall: Time,
    pub tick: Tick,
}

/// Where `now` comes from.
pub trait Clock: Send + Sync {
    fn now(&self) -> Now;
}

/// A time as the kernel keeps it: nanoseconds since 1970, saturating in 1677 and 2262.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub i64);

impl UnixNanos {
    pub fn new(seconds: i64, nanos: u32) -> Self {
        Self(
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::from(nanos)),
        )
    }

    pub fn time(self) -> Time {
        DateTime::from_timestamp_nanos(self.0)
    }
}

impl From<Time> for UnixNanos {
    fn from(time: Time) -> Self {
        Self::new(time.timestamp(), time.timestamp_subsec_nanos())
    }
}
