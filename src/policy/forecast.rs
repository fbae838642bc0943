//! Which sessions go next, by which rule and when: [`super::draft`]'s walk, thought on into the
//! future.
//!
//! Every rule takes the oldest session first, so that a session goes once all that may go before
//! it are gone and its own rule asks for one more. What is exact: the moment an age ends. What is
//! not: when so many bytes or sessions will have come; that is told at the rate of the last
//! minute, and where nothing came, as "never at the present rate".
//!
//! Pure. A law ties it to [`super::draft`]: what it says goes now is what a plan picks.

use super::flow::Growth;
use super::limits::Limits;
use super::{Candidate, Hold, Speaking, Usage};
use crate::model::bytes::Bytes;
use crate::model::plan::{Blocker, Rule};
use crate::model::time::{Now, Time};
use chrono::TimeDelta;
use std::time::Duration;

/// One session in the order in which sessions go.
#[derive(Debug, Clone, Copy)]
pub struct Ahead {
    pub candidate: Candidate,
    /// What the root has less without it and all before it that may go.
    pub freed: Bytes,
    /// From when on it goes because it failed long ago.
    pub retires: Option<Time>,
}

/// A root's rules and figures at one moment.
#[derive(Debug, Clone)]
pub struct Outset {
    pub limits: Limits,
    pub usage: Usage,
    pub speaking: Speaking,
    pub now: Now,
    pub growth: Growth,
}

/// When something will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    Now,
    At(Moment),
    /// Nothing comes at present.
    NeverAtThisRate,
    /// No rule asks for it.
    Never,
}

/// A time, and whether it is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub at: Time,
    /// `false`: at the present rate.
    pub exact: bool,
}

/// What becomes of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// What takes it, or would.
    pub rule: Option<Rule>,
    pub due: Due,
    /// It would be passed over then, and why.
    pub passed_over: Option<Hold>,
}

/// Thinks the walk on. `oldest`: sessions oldest first, none left out before the last.
pub fn forecast(outset: &Outset, oldest: impl IntoIterator<Item = Ahead>) -> Vec<Fate> {
    let usage = &outset.usage;
    let mut walk = Walk {
        outset,
        gone: 0,
        n_gone: 0,
        came: 0,
        fixed: usage.fixed.0.into(),
        n_fixed: usage.n_fixed,
        sizing: outset.speaking.down_to_goal || outset.limits.is_over(usage.bytes),
    };
    oldest.into_iter().map(|ahead| walk.step(&ahead)).collect()
}

struct Walk<'a> {
    outset: &'a Outset,
    /// What is gone before the session at hand.
    gone: u128,
    n_gone: u64,
    /// What will have come when the session before it goes.
    came: u128,
    fixed: u128,
    n_fixed: u64,
    /// Pruning by size goes on down to the goal.
    sizing: bool,
}

impl Walk<'_> {
    fn step(&mut self, ahead: &Ahead) -> Fate {
        let (came, sizing) = (self.came, self.sizing);
        let wishes = [
            (Rule::Failed, ahead.retires.map(|at| self.at(at))),
            (Rule::Age, self.by_age(ahead.candidate.created)),
            (Rule::Count, self.by_count()),
            (Rule::Size, self.by_size()),
        ];
        let wishes = wishes
            .into_iter()
            .filter_map(|(rule, due)| Some((due?, rule)));
        // The first of equals speaks, as in a plan.
        let first = wishes.min_by_key(|(due, _)| *due);
        let (due, rule) = first.map_or((Due::Never, None), |(due, rule)| (due, Some(rule)));
        let passed_over = ahead.candidate.hold.filter(|hold| self.lasts(*hold, due));
        match passed_over {
            // It stays: nothing came for it.
            Some(hold) => {
                (self.came, self.sizing) = (came, sizing);
                self.keep(hold, ahead.candidate.bytes);
            }
            None => {
                if rule != Some(Rule::Size) {
                    (self.came, self.sizing) = (came, sizing);
                }
                self.let_go(ahead.freed);
            }
        }
        Fate {
            rule,
            due,
            passed_over,
        }
    }

    fn keep(&mut self, hold: Hold, bytes: Bytes) {
        if !hold.fixed && hold.by != Blocker::Quiet {
            self.fixed += u128::from(bytes.0);
            self.n_fixed += 1;
        }
    }

    fn let_go(&mut self, freed: Bytes) {
        let entry = u128::from(self.outset.usage.entry.0);
        self.gone += u128::from(freed.0) + entry;
        self.fixed = self.fixed.saturating_sub(entry);
        self.n_gone += 1;
    }

    /// Whether a reason to stay will hold then still.
    fn lasts(&self, hold: Hold, due: Due) -> bool {
        let Some(until) = hold.until else { return true };
        match due {
            Due::Now => true,
            Due::At(moment) => moment.at < self.after(until.since(self.outset.now.tick)),
            Due::NeverAtThisRate | Due::Never => false,
        }
    }

    fn by_age(&self, created: Time) -> Option<Due> {
        let max_age = TimeDelta::from_std(self.outset.limits.max_age?).ok()?;
        // Exactly at its age it is not over it.
        let over = created.checked_add_signed(max_age)?;
        if over >= self.outset.now.wall {
            let at = over.checked_add_signed(TimeDelta::milliseconds(1))?;
            return Some(Due::At(Moment { at, exact: true }));
        }
        Some(if self.outset.speaking.age {
            Due::Now
        } else {
            // As soon as the clock is believed.
            let (at, exact) = (self.outset.now.wall, false);
            Due::At(Moment { at, exact })
        })
    }

    fn by_count(&self) -> Option<Due> {
        let max_count = self.outset.limits.max_count?;
        let left = self.outset.usage.n_sessions.saturating_sub(self.n_gone);
        // One more than may be there, and than the reserve beside what may not go.
        let most = max_count.max(self.n_fixed.saturating_add(max_count / 10));
        let missing = most.saturating_add(1).saturating_sub(left);
        Some(self.when(missing.into(), self.outset.growth.until_sessions(missing)))
    }

    fn by_size(&mut self) -> Option<Due> {
        let outset = self.outset;
        let limits = &outset.limits;
        let (max_size, goal) = (limits.max_size?, limits.goal()?);
        let threshold = limits.threshold()?;
        let reserve = goal.min(Bytes(max_size.0 / 10));
        let reserve = self.fixed.saturating_add(reserve.0.into());
        let bytes = (u128::from(self.outset.usage.bytes.0) + self.came).saturating_sub(self.gone);
        // It ends at the goal, or where only the reserve is left to take.
        self.sizing &= bytes > reserve.max(goal.0.into());
        let above = if self.sizing { goal } else { threshold };
        let most = reserve.max(above.0.into());
        self.came += (most + 1).saturating_sub(bytes);
        self.sizing = true;
        Some(self.when(self.came, self.outset.growth.until_bytes(self.came)))
    }

    fn when(&self, missing: u128, wait: Option<Duration>) -> Due {
        match wait {
            _ if missing == 0 => Due::Now,
            None => Due::NeverAtThisRate,
            Some(wait) => Due::At(Moment {
                at: self.after(wait),
                exact: false,
            }),
        }
    }

    fn at(&self, at: Time) -> Due {
        let exact = true;
        if at > self.outset.now.wall {
            Due::At(Moment { at, exact })
        } else {
            Due::Now
        }
    }

    /// Later than any calendar goes is its end.
    fn after(&self, wait: Duration) -> Time {
        let wait = TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
        let at = self.outset.now.wall.checked_add_signed(wait);
        at.unwrap_or(Time::MAX_UTC)
    }
}
