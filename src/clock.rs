//! The real clocks.

use crate::model::time::{Clock, Now, Tick};
use chrono::Utc;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The wall clock, and `CLOCK_BOOTTIME` since this value was made: it runs on while the
/// machine sleeps and never goes back.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Duration,
}

impl SystemClock {
    pub fn start() -> Self {
        Self {
            start: since_boot(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            wall: Utc::now(),
            tick: Tick(since_boot().saturating_sub(self.start)),
        }
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // Neither is ever negative on this clock.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_never_goes_back() {
        let clock = SystemClock::start();
        let first = clock.now().tick;
        assert!(clock.now().tick >= first);
    }
}
