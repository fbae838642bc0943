//! Names of what goes, in the order in which it went: what is let go of oldest first, and what the
//! next start finishes, is put in order by them.

use crate::model::time::Now;
use std::time::SystemTime;
use ulid::Ulid;

/// Gives names that begin with the time.
#[derive(Debug, Default)]
pub(super) struct Names {
    last: Ulid,
}

impl Names {
    /// The next one, a ULID. Within one millisecond each is the one before and one more, since what
    /// is drawn at random would be in no order; a clock that was set back is believed.
    pub(super) fn next(&mut self, now: Now) -> String {
        let drawn = Ulid::from_datetime(SystemTime::from(now.wall));
        self.last = match self.last.increment() {
            Ok(following) if drawn.timestamp_ms() == self.last.timestamp_ms() => following,
            Ok(_) | Err(_) => drawn,
        };
        self.last.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::model::time::{Now, Tick, Time};

    fn at(millis: i64) -> Now {
        Now {
            wall: Time::from_timestamp_millis(millis).expect("a time"),
            tick: Tick::default(),
        }
    }

    #[test]
    fn many_of_one_millisecond_are_in_their_order() {
        let mut names = Names::default();
        let given: Vec<String> = (0..4_000)
            .map(|n| names.next(at(1_000 + n / 1_000)))
            .collect();
        assert!(given.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn a_clock_that_was_set_back_is_believed() {
        let mut names = Names::default();
        let (late, early) = (names.next(at(9_000)), names.next(at(1_000)));
        assert!(early < late);
        assert!(early < names.next(at(1_000)));
    }
}
