//! Whether the wall clock can be believed (promise 8): age rules wait while it cannot.

use super::Effect;
use crate::model::fact::Fact;
use crate::model::time::{Now, Time, UnixNanos};
use chrono::TimeDelta;
use std::time::Duration;

/// 2026-11-01 in UTC: no correct clock is earlier than the program.
const BUILT: i64 = 1_793_491_200;
const SECOND: i64 = 1_000_000_000;
/// A step by more than this between two looks is no adjustment.
const MAX_STEP: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct ClockGate {
    last: Option<Now>,
    /// The newest ctime seen on the disk: kernels set it, nobody can forge it.
    newest: Option<UnixNanos>,
    /// The clock stepped; believed again when a full scan has finished since.
    stepped: bool,
    told: bool,
}

impl ClockGate {
    /// Compares the two clocks with those of the last look.
    pub(super) fn look(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Some(last) = self.last {
            let elapsed = TimeDelta::from_std(now.tick.since(last.tick)).unwrap_or(TimeDelta::MAX);
            let step = (now.wall - last.wall)
                .checked_sub(&elapsed)
                .map(|step| step.abs());
            let limit = TimeDelta::from_std(MAX_STEP).unwrap_or(TimeDelta::MAX);
            self.stepped |= step.is_none_or(|step| step > limit);
        }
        self.last = Some(now);
        let held = self.reason(now.wall);
        if held.is_some() != self.told {
            self.told = held.is_some();
            if let Some(reason) = held {
                out.push(Effect::Tell(Fact::ClockHeld { reason }));
            }
        }
    }

    pub(super) fn note_newest(&mut self, ctime: UnixNanos) {
        self.newest = self.newest.max(Some(ctime));
    }

    /// A full scan finished: the clock ran with the kernel's for that long.
    pub(super) fn settle(&mut self) {
        self.stepped = false;
    }

    fn reason(&self, wall: Time) -> Option<&'static str> {
        // Plain numbers: it is asked at every input.
        let wall = UnixNanos::from(wall);
        // Coarse kernel time stamps and the fine clock differ by a tick at most.
        let newest = self.newest.map(|newest| newest.0.saturating_sub(SECOND));
        if wall.0 < BUILT * SECOND {
            Some("the clock is earlier than this program")
        } else if newest.is_some_and(|newest| wall.0 < newest) {
            Some("the clock is earlier than the newest change on the disk")
        } else if self.stepped {
            Some("the clock jumped by more than ten minutes")
        } else {
            None
        }
    }

    /// Whether age rules may speak.
    pub(super) fn is_believed(&self, now: Now) -> bool {
        self.reason(now.wall).is_none()
    }
}
