//! Victims that stay after all: who is passed over and until when, and when nobody is.
//!
//! What is said of one session passes it over, and the next oldest goes. What may be said of all (no
//! space, a lock that was lost) passes nobody over: else a newer one would go for it. Then the rest of
//! the burst is not tried, and the root waits.

use super::deciding::LONGEST_PAUSE;
use super::{Effect, Engine};
use crate::model::anomaly::AnomalyKind;
use crate::model::fact::Fact;
use crate::model::plan::{Blocker, Victim};
use crate::model::report::Skip;
use crate::model::session::SessionId;
use crate::model::time::{Now, Tick};
use std::time::Duration;

/// Fewer that may not go are an immutable file each, and another round is tried; more, and all may not.
const MAX_REFUSED: u64 = 64;
/// A victim that somebody holds a lock on is tried again then.
const LOCKED_PAUSE: Duration = Duration::from_secs(1);
/// A victim that the kernel refuses to let go is tried again then, at first.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Why a victim was passed over, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    pub(super) by: Blocker,
    pub(super) until: Tick,
    /// Doubles each time the same reason comes again.
    pause: Duration,
    /// It may not be renamed, by anybody: it is immutable.
    pub(super) immovable: bool,
}

impl Passed {
    /// For `pause`, or for twice as long as the time before where that had the same reason.
    fn again(before: Option<&Self>, by: Blocker, now: Tick, pause: Duration) -> Self {
        let longer = before.map_or(Duration::ZERO, |before| before.pause.saturating_mul(2));
        let pause = longer.min(LONGEST_PAUSE).max(pause);
        Self {
            by,
            until: now.after(pause),
            pause,
            immovable: false,
        }
    }

    /// Not at all: it is only known that this was told.
    fn told(by: Blocker, now: Tick) -> Self {
        Self {
            by,
            until: now,
            pause: Duration::ZERO,
            immovable: false,
        }
    }
}

impl Engine {
    /// Whether the victims that are left of this burst are to stay.
    pub fn is_halted(&self) -> bool {
        self.deciding.burst.halted.is_some()
    }

    /// One was refused for what may be said of all: none goes before it, and none is passed over. All
    /// is tried again after the root's pause.
    fn halt(&mut self, now: Now, victim: &Victim, why: Skip, out: &mut Vec<Effect>) {
        let is_first = self.deciding.burst.halted.is_none();
        let held = self.deciding.burst.halted.get_or_insert_default();
        held.n_sessions += 1;
        held.bytes = held.bytes.saturating_add(victim.freed);
        if !is_first {
            return;
        }
        let told = Passed::told(Blocker::Refused, now.tick);
        let before = self.deciding.passed.insert(victim.session, told);
        if before.is_none_or(|before| before.by != Blocker::Refused) {
            self.tell_skipped(victim, why, out);
        }
    }

    /// A victim stays for now, and why.
    pub(super) fn skipped(&mut self, now: Now, victim: &Victim, why: Skip, out: &mut Vec<Effect>) {
        if self.is_halted() || (why.is_of_all() && why != Skip::Stopping) {
            return self.halt(now, victim, why, out);
        }
        let (by, pause) = match &why {
            Skip::Locked | Skip::Open => (Blocker::Locked, LOCKED_PAUSE),
            // The engine knows of the pin by now; where it ends at once it is asked again then.
            Skip::Pinned => (Blocker::Pinned, LOCKED_PAUSE),
            Skip::Quiet => (Blocker::Quiet, self.rules.protect.quiet.min(LOCKED_PAUSE)),
            Skip::Refused { .. } | Skip::RootMoved | Skip::Stopping => {
                (Blocker::Refused, REFUSED_PAUSE)
            }
            Skip::Replaced | Skip::Changed | Skip::Stranger | Skip::StrangerKept => {
                (Blocker::Anomalous, LOCKED_PAUSE)
            }
        };
        let is_news = self.pass_over(now, victim.session, by, pause);
        self.may_the_next_go(now, victim, &why, out);
        match why {
            Skip::Changed => {
                if self.rules.layout.reads_no_file() {
                    self.look_at_session(victim.session, out);
                }
                self.read_session(victim.session, out);
                self.read_catalogue(out);
            }
            Skip::Replaced | Skip::Stranger | Skip::StrangerKept => {
                self.deciding.burst.unsure = true;
                self.look_at_session(victim.session, out);
            }
            Skip::Quiet => {
                self.index.note_written(victim.session, now.wall.into());
            }
            Skip::Locked | Skip::Open | Skip::Pinned | Skip::Refused { .. } | Skip::RootMoved => {}
            Skip::Stopping => return,
        }
        if is_news {
            self.tell_skipped(victim, why, out);
        }
    }

    /// Notes whether the next oldest may go in this one's place, within this burst.
    fn may_the_next_go(&mut self, now: Now, victim: &Victim, why: &Skip, out: &mut Vec<Effect>) {
        let immovable = why.is_of_the_victim_alone();
        if let Some(passed) = self.deciding.passed.get_mut(&victim.session) {
            passed.immovable = immovable;
        }
        if immovable {
            self.tell_anomaly(now, victim.session, AnomalyKind::BlobUnusable, out);
        }
        let burst = &mut self.deciding.burst;
        burst.passed_over |= match why {
            // Another one may be said of all, as by a broken disk: no newer one goes in the place of
            // this one in this burst.
            Skip::Refused { .. } if immovable => {
                burst.n_refused += 1;
                burst.n_refused < MAX_REFUSED
            }
            Skip::Refused { .. } | Skip::RootMoved | Skip::Stopping => false,
            Skip::Locked
            | Skip::Open
            | Skip::Pinned
            | Skip::Quiet
            | Skip::Replaced
            | Skip::Changed
            | Skip::Stranger
            | Skip::StrangerKept => true,
        };
    }

    fn tell_skipped(&self, victim: &Victim, why: Skip, out: &mut Vec<Effect>) {
        out.push(Effect::Tell(Fact::PruneSkipped {
            key: victim.key.clone(),
            path: victim.shown_path(),
            because: victim.because,
            why,
            moment: self.moment(),
        }));
    }

    /// Leaves a session alone for a while, each time for longer. Whether that is news: a
    /// reason that goes on is told once.
    fn pass_over(&mut self, now: Now, id: SessionId, by: Blocker, pause: Duration) -> bool {
        let before = self.deciding.passed.get(&id);
        let before = before.filter(|passed| passed.by == by);
        let is_news = before.is_none();
        let passed = Passed::again(before, by, now.tick, pause);
        self.deciding.passed.insert(id, passed);
        is_news
    }

    /// A session was removed where it lay: the disk says what is left of it.
    pub(super) fn left_in_place(
        &mut self,
        now: Now,
        id: SessionId,
        victim: Option<&Victim>,
        left: &[(String, i32)],
        out: &mut Vec<Effect>,
    ) {
        self.deciding.leaving.remove(&id);
        if let Some((_, errno)) = left.first()
            && self.pass_over(now, id, Blocker::Refused, REFUSED_PAUSE)
            && let Some(victim) = victim
        {
            let why = Skip::Refused {
                operation: "remove all of it where it lies",
                errno: *errno,
            };
            self.tell_skipped(victim, why, out);
        }
        self.look_at_session(id, out);
        let is_tree = self.index.session(id).is_some_and(|s| !s.is_files());
        if !left.is_empty() && is_tree {
            self.scan_below(self.index.session_path(id), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_it_is_longer_and_never_nothing() {
        let now = Tick::default();
        let by = Blocker::Refused;
        let mut passed = Passed::again(None, by, now, LOCKED_PAUSE);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(passed.until, now.after(Duration::from_secs(seconds)));
            passed = Passed::again(Some(&passed), by, now, LOCKED_PAUSE);
        }
        // What was only told of before is passed over all the same: else it is tried for ever.
        let told = Passed::told(by, now);
        assert_eq!(told.until, now);
        let after = Passed::again(Some(&told), by, now, REFUSED_PAUSE);
        assert_eq!(after.until, now.after(REFUSED_PAUSE));
    }
}
