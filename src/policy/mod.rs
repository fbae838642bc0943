//! Rules in, plan out. Pure: no index, no disk, no clock, only values.
//!
//! One walk from the oldest session to the newest decides everything: a rule that no longer
//! takes a session takes no newer one either.

pub mod flow;
pub mod forecast;
pub mod lifecycle;
pub mod limits;
pub mod pace;

use crate::model::bytes::Bytes;
use crate::model::plan::{Because, Blocker, Held};
use crate::model::session::SessionId;
use crate::model::time::{Now, Tick, Time, sooner};
use limits::Limits;
use std::time::Duration;

/// A root as the rules see it. Sessions that are being removed already are in none of these.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// What the limit is compared with.
    pub bytes: Bytes,
    /// Part of `bytes` that no rule may take: fixed sessions, orphans, the catalogue.
    pub fixed: Bytes,
    pub orphans: Bytes,
    pub n_sessions: u64,
    /// How many of them no rule may take.
    pub n_fixed: u64,
    /// What one session's entry in the catalogue takes, about: it goes with the session.
    pub entry: Bytes,
}

/// One session, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    pub session: SessionId,
    pub created: Time,
    pub bytes: Bytes,
    pub hold: Option<Hold>,
}

/// Why a session stays for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub by: Blocker,
    /// When the reason ends by itself.
    pub until: Option<Tick>,
    /// Whether its bytes are in [`Usage::fixed`].
    pub fixed: bool,
}

/// A session to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    pub session: SessionId,
    pub created: Time,
    pub freed: Bytes,
    pub because: Because,
}

/// What the rules want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    pub picks: Vec<Pick>,
    pub blocked: Vec<(Blocker, Held)>,
    pub still_over: Bytes,
    pub still_too_many: u64,
    pub retry: Option<Tick>,
    /// When the last of the sessions that were passed over because somebody wrote to them just now
    /// has been left alone for long enough: newer ones go in their place.
    pub quiet_until: Option<Tick>,
    /// More would go if `max_picks` allowed.
    pub more: bool,
    /// Pruning by size had begun.
    pub sizing: bool,
}

/// Which rules may speak now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaking {
    /// The clock can be believed.
    pub age: bool,
    /// Pruning by size has begun and goes on down to the goal, no matter whether the root is
    /// over its limit still.
    pub down_to_goal: bool,
}

/// What is asked of the rules.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    pub usage: Usage,
    pub speaking: Speaking,
    pub now: Now,
    /// At most so many sessions are picked.
    pub max_picks: usize,
}

impl Limits {
    /// Where pruning by size stops.
    pub fn goal(&self) -> Option<Bytes> {
        let max = self.max_size?;
        let goal = max.min(self.prune_to.unwrap_or(max));
        Some(goal.min(self.threshold()?))
    }

    /// Above this pruning by size begins. Exactly at it is not over it.
    pub fn threshold(&self) -> Option<Bytes> {
        Some(self.max_size?.saturating_sub(self.ahead()))
    }

    /// Whether `bytes` are too many.
    pub fn is_over(&self, bytes: Bytes) -> bool {
        self.threshold().is_some_and(|threshold| bytes > threshold)
    }

    /// A limit of zero bytes: none may stay, what is empty neither.
    pub fn takes_all(&self) -> bool {
        self.max_size == Some(Bytes::ZERO)
    }

    pub fn are_none(&self) -> bool {
        self.max_size.is_none() && self.max_age.is_none() && self.max_count.is_none()
    }
}

/// How old something is; a time in the future has age zero.
pub fn age(created: Time, now: Time) -> Duration {
    (now - created).to_std().unwrap_or(Duration::ZERO)
}

/// What the rules say to one session.
enum Wish {
    Take(Because),
    /// A limit is passed still, but what is left is the newest tenth of it.
    Reserve,
    /// Every limit is met, for this session and all newer ones.
    Enough,
}

struct Walk<'a> {
    limits: &'a Limits,
    speaking: Speaking,
    now: Now,
    bytes: u128,
    fixed: u128,
    n_sessions: u64,
    n_fixed: u64,
    sizing: bool,
}

impl Walk<'_> {
    /// What is wanted of a session of this age, first by the rules that need no totals.
    fn wish(&self, created: Time) -> Wish {
        if let Some(max_age) = self.limits.max_age.filter(|_| self.speaking.age) {
            let age = age(created, self.now.wall);
            if age > max_age {
                return Wish::Take(Because::TooOld { age, max_age });
            }
        }
        if self.limits.takes_all() {
            return Wish::Take(Because::TooBig {
                usage: saturated(self.bytes),
                max_size: Bytes::ZERO,
                headroom: Bytes::ZERO,
                goal: Bytes::ZERO,
            });
        }
        let mut wish = Wish::Enough;
        if let Some(max_count) = self.limits.max_count
            && self.n_sessions > max_count
        {
            if self.n_sessions.saturating_sub(self.n_fixed) > max_count / 10 {
                return Wish::Take(Because::TooMany {
                    n_sessions: self.n_sessions,
                    max_count,
                });
            }
            wish = Wish::Reserve;
        }
        if let (Some(max_size), Some(goal)) = (self.limits.max_size, self.limits.goal())
            && self.sizing
            && self.bytes > u128::from(goal.0)
        {
            // A goal below a tenth is itself what stays: nothing undeletable is in the way of it.
            let reserve = goal.min(Bytes(max_size.0 / 10));
            if self.bytes.saturating_sub(self.fixed) > u128::from(reserve.0) {
                return Wish::Take(Because::TooBig {
                    usage: saturated(self.bytes),
                    max_size,
                    headroom: self.limits.ahead(),
                    goal,
                });
            }
            wish = Wish::Reserve;
        }
        wish
    }

    /// Takes note of a session that stays although a rule would take it.
    fn keep(&mut self, hold: Hold, bytes: Bytes) {
        // What is written to just now can go in a moment; the rest leaves less room.
        if !hold.fixed && hold.by != Blocker::Quiet {
            self.fixed += u128::from(bytes.0);
            self.n_fixed += 1;
        }
    }
}

fn saturated(bytes: u128) -> Bytes {
    Bytes(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// Decides what goes now. `oldest` yields sessions oldest first; `unordered` those without a
/// creation time, asked for only when the limits cannot be met; `freed` tells what the root
/// has less without a session, after those it was asked for before. At most `max_picks` are
/// picked; [`Draft::more`] says that there would be more, and then nothing is said of what stays.
///
/// When what may not go leaves less than a tenth of a limit, the newest removable sessions
/// up to a tenth of it stay (promise 1): undeletable bytes never empty a root.
pub fn draft(
    limits: &Limits,
    question: Question,
    oldest: impl Iterator<Item = Candidate>,
    unordered: impl FnOnce() -> Held,
    mut freed: impl FnMut(SessionId) -> Bytes,
) -> Draft {
    let Question {
        usage,
        speaking,
        now,
        max_picks,
    } = question;
    let mut draft = Draft::default();
    let mut walk = Walk {
        limits,
        speaking,
        now,
        bytes: usage.bytes.0.into(),
        fixed: usage.fixed.0.into(),
        n_sessions: usage.n_sessions,
        n_fixed: usage.n_fixed,
        sizing: speaking.down_to_goal || limits.is_over(usage.bytes),
    };
    let mut n_too_old = 0;
    for candidate in oldest {
        let wish = walk.wish(candidate.created);
        if let Wish::Enough = wish {
            break;
        }
        if let Some(hold) = candidate.hold {
            draft.hold(hold.by, 1, candidate.bytes);
            walk.keep(hold, candidate.bytes);
            n_too_old += u64::from(matches!(wish, Wish::Take(Because::TooOld { .. })));
            draft.retry = sooner(draft.retry, hold.until);
            if hold.by == Blocker::Quiet {
                draft.quiet_until = draft.quiet_until.max(hold.until);
            }
            continue;
        }
        let Wish::Take(because) = wish else {
            draft.hold(Blocker::Reserved, 1, candidate.bytes);
            continue;
        };
        if draft.picks.len() == max_picks {
            draft.more = true;
            break;
        }
        let freed = freed(candidate.session);
        let entry = u128::from(usage.entry.0);
        walk.bytes = walk.bytes.saturating_sub(u128::from(freed.0) + entry);
        walk.fixed = walk.fixed.saturating_sub(entry);
        walk.n_sessions = walk.n_sessions.saturating_sub(1);
        draft.picks.push(Pick {
            session: candidate.session,
            created: candidate.created,
            freed,
            because,
        });
    }
    draft.close(&walk, n_too_old, usage, unordered);
    draft
}

impl Draft {
    fn hold(&mut self, by: Blocker, n_sessions: u64, bytes: Bytes) {
        let place = match self.blocked.iter_mut().find(|(blocker, _)| *blocker == by) {
            Some((_, held)) => held,
            None => {
                self.blocked.push((by, Held::default()));
                &mut self.blocked.last_mut().expect("just pushed").1
            }
        };
        place.n_sessions += n_sessions;
        place.bytes = place.bytes.saturating_add(bytes);
    }

    /// What stays over, and what else holds it there.
    fn close(
        &mut self,
        walk: &Walk<'_>,
        n_too_old: u64,
        usage: Usage,
        unordered: impl FnOnce() -> Held,
    ) {
        self.sizing = walk.sizing;
        if self.more {
            return;
        }
        let goal = walk.limits.goal().filter(|_| walk.sizing);
        let over = goal.map_or(0, |goal| walk.bytes.saturating_sub(goal.0.into()));
        self.still_over = saturated(over);
        let max_count = match walk.limits.max_count {
            _ if walk.limits.takes_all() => 0,
            Some(max_count) => max_count,
            None => u64::MAX,
        };
        self.still_too_many = walk.n_sessions.saturating_sub(max_count).max(n_too_old);
        if self.still_over == Bytes::ZERO && self.still_too_many == 0 {
            self.blocked.clear();
            self.retry = None;
            return;
        }
        let anomalous = unordered();
        if anomalous.n_sessions > 0 {
            self.hold(Blocker::Anomalous, anomalous.n_sessions, anomalous.bytes);
        }
        if usage.orphans > Bytes::ZERO {
            self.hold(Blocker::Orphan, 0, usage.orphans);
        }
        self.blocked.sort_by_key(|(blocker, _)| *blocker);
    }
}

#[cfg(test)]
mod tests;
