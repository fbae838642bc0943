//! Rules in, plan out. Pure: no index, no disk, no clock, only values.
//!
//! One walk from the oldest session to the newest decides everything: a rule that no longer
//! takes a session takes no newer one either.

pub mod limits;

use crate::model::bytes::Bytes;
use crate::model::plan::{Because, Blocker, Held};
use crate::model::session::SessionId;
use crate::model::time::{Now, Tick, Time};
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
    /// What the catalogue is smaller by when a session goes, about.
    pub entry: Bytes,
    pub n_sessions: u64,
    /// How many of them no rule may take.
    pub n_fixed: u64,
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
    /// More would go if `max_picks` allowed.
    pub more: bool,
}

/// Which rules may speak now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaking {
    /// The clock can be believed.
    pub age: bool,
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
        Some(self.max_size?.saturating_sub(self.headroom))
    }

    /// Whether `bytes` are too many.
    pub fn is_over(&self, bytes: Bytes) -> bool {
        self.threshold().is_some_and(|threshold| bytes > threshold)
    }

    pub fn are_none(&self) -> bool {
        self.max_size.is_none() && self.max_age.is_none() && self.max_count.is_none()
    }
}

/// How old something is; a time in the future has age zero.
pub fn age(created: Time, now: Time) -> Duration {
    (now - created).to_std().unwrap_or(Duration::ZERO)
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
    /// Whether a total still is above its limit.
    fn is_unmet(&self) -> bool {
        let goal = self.limits.goal().filter(|_| self.sizing);
        goal.is_some_and(|goal| self.bytes > u128::from(goal.0))
            || self
                .limits
                .max_count
                .is_some_and(|max| self.n_sessions > max)
    }

    /// The rule that takes a session of this age, first the ones that need no totals.
    fn because(&self, created: Time, usage: Bytes) -> Option<Because> {
        if let Some(max_age) = self.limits.max_age.filter(|_| self.speaking.age) {
            let age = age(created, self.now.wall);
            if age > max_age {
                return Some(Because::TooOld { age, max_age });
            }
        }
        if let Some(max_count) = self.limits.max_count {
            let removable = self.n_sessions.saturating_sub(self.n_fixed);
            if self.n_sessions > max_count && removable > max_count / 10 {
                return Some(Because::TooMany {
                    n_sessions: self.n_sessions,
                    max_count,
                });
            }
        }
        let (max_size, goal) = (self.limits.max_size?, self.limits.goal()?);
        let removable = self.bytes.saturating_sub(self.fixed);
        let wanted = self.sizing && self.bytes > u128::from(goal.0);
        (wanted && removable > u128::from(max_size.0 / 10)).then_some(Because::TooBig {
            usage,
            max_size,
            goal,
        })
    }
}

/// Decides what goes now. `oldest` yields sessions oldest first; `unordered` those without a
/// creation time, asked for only when the limits cannot be met; `freed` tells what the root
/// has less without a session, after those it was asked for before.
///
/// When what may not go leaves less than a tenth of a limit, the newest removable sessions
/// up to a tenth of it stay (promise 1): undeletable bytes never empty a root.
#[expect(
    clippy::too_many_arguments,
    reason = "all that a decision depends on, named one by one"
)]
pub fn draft(
    limits: &Limits,
    usage: Usage,
    speaking: Speaking,
    now: Now,
    max_picks: usize,
    oldest: impl Iterator<Item = Candidate>,
    unordered: impl FnOnce() -> Held,
    mut freed: impl FnMut(SessionId) -> Bytes,
) -> Draft {
    let mut draft = Draft::default();
    let mut walk = Walk {
        limits,
        speaking,
        now,
        bytes: usage.bytes.0.into(),
        fixed: usage.fixed.0.into(),
        n_sessions: usage.n_sessions,
        n_fixed: usage.n_fixed,
        sizing: limits.is_over(usage.bytes),
    };
    let mut too_old = 0;
    let mut oldest = oldest;
    while let Some(candidate) = oldest.next() {
        let at = Bytes(u64::try_from(walk.bytes).unwrap_or(u64::MAX));
        let Some(because) = walk.because(candidate.created, at) else {
            if walk.is_unmet() {
                // Nothing more goes; the newer ones that are held block it all the same.
                let rest = std::iter::once(candidate).chain(oldest);
                draft.hold_rest(&mut walk, rest);
            }
            break;
        };
        if let Some(hold) = candidate.hold {
            draft.hold(hold.by, candidate.bytes);
            if !hold.fixed && hold.by != Blocker::Quiet {
                walk.fixed += u128::from(candidate.bytes.0);
                walk.n_fixed += 1;
            }
            too_old += u64::from(matches!(because, Because::TooOld { .. }));
            draft.retry = [draft.retry, hold.until].into_iter().flatten().min();
            continue;
        }
        if draft.picks.len() == max_picks {
            draft.more = true;
            break;
        }
        let Candidate {
            session, created, ..
        } = candidate;
        let freed = freed(session);
        let entry = u128::from(usage.entry.0);
        walk.bytes = walk.bytes.saturating_sub(u128::from(freed.0) + entry);
        walk.fixed = walk.fixed.saturating_sub(entry);
        walk.n_sessions = walk.n_sessions.saturating_sub(1);
        draft.picks.push(Pick {
            session,
            created,
            freed,
            because,
        });
    }
    draft.close(&walk, too_old, usage, unordered);
    draft
}

impl Draft {
    fn hold_rest(&mut self, walk: &mut Walk<'_>, rest: impl Iterator<Item = Candidate>) {
        for candidate in rest {
            let Some(hold) = candidate.hold else { continue };
            self.hold(hold.by, candidate.bytes);
            if !hold.fixed && hold.by != Blocker::Quiet {
                walk.fixed += u128::from(candidate.bytes.0);
                walk.n_fixed += 1;
                // It would make room above the reserve; what is only quiet would not.
                self.retry = [self.retry, hold.until].into_iter().flatten().min();
            }
        }
    }

    fn hold(&mut self, by: Blocker, bytes: Bytes) {
        let place = match self.blocked.iter_mut().find(|(blocker, _)| *blocker == by) {
            Some((_, held)) => held,
            None => {
                self.blocked.push((by, Held::default()));
                &mut self.blocked.last_mut().expect("just pushed").1
            }
        };
        place.n_sessions += 1;
        place.bytes = place.bytes.saturating_add(bytes);
    }

    /// What stays over, and what else holds it there.
    fn close(
        &mut self,
        walk: &Walk<'_>,
        too_old: u64,
        usage: Usage,
        unordered: impl FnOnce() -> Held,
    ) {
        if self.more {
            return;
        }
        let goal = walk.limits.goal().filter(|_| walk.sizing);
        let over = goal.map_or(0, |goal| walk.bytes.saturating_sub(goal.0.into()));
        self.still_over = Bytes(u64::try_from(over).unwrap_or(u64::MAX));
        let max_count = walk.limits.max_count.unwrap_or(u64::MAX);
        self.still_too_many = walk.n_sessions.saturating_sub(max_count).max(too_old);
        if self.still_over == Bytes::ZERO && self.still_too_many == 0 {
            self.blocked.clear();
            return;
        }
        let anomalous = unordered();
        if anomalous.n_sessions > 0 {
            self.blocked.push((Blocker::Anomalous, anomalous));
        }
        if usage.orphans > Bytes::ZERO {
            self.blocked.push((
                Blocker::Orphan,
                Held {
                    n_sessions: 0,
                    bytes: usage.orphans,
                },
            ));
        }
        let quiet: u128 = self
            .blocked
            .iter()
            .filter(|(blocker, _)| *blocker == Blocker::Quiet)
            .map(|(_, held)| u128::from(held.bytes.0))
            .sum();
        let reserved = walk.bytes.saturating_sub(walk.fixed).saturating_sub(quiet);
        let n_held: u64 = self.blocked.iter().map(|(_, held)| held.n_sessions).sum();
        let n_sessions = walk.n_sessions.saturating_sub(n_held);
        if over > 0 && reserved > 0 && n_sessions > 0 {
            let bytes = Bytes(u64::try_from(reserved).unwrap_or(u64::MAX));
            self.blocked
                .push((Blocker::Reserved, Held { n_sessions, bytes }));
        }
        self.blocked.sort_by_key(|(blocker, _)| *blocker);
    }
}
