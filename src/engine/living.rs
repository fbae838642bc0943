//! Where each session is on its way through its life, and what is under way for it.

use super::deciding::LONGEST_PAUSE;
use crate::model::lifecycle::{Deed, Parts};
use crate::model::session::{Key, Moments, SessionId};
use crate::model::time::{Tick, Time, UnixNanos};
use crate::policy::lifecycle::Step;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// A session that could not be changed is tried again then, at first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Idle,
    /// The lock was asked for.
    Asked,
    /// The lock is held; so many steps are under way.
    Working { left: usize },
}

/// When a session was made, and its key for ties.
pub(super) type Age = (Time, Key);

/// Where a session is on its way to its next step.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Asked again then.
    Waits(Time),
    /// It is looked through.
    Finding,
    /// A step is due.
    Due { at: Age, step: Step, parts: Parts },
    /// The step is under way.
    AtWork,
}

#[derive(Debug, Default)]
pub(super) struct Living {
    pub(super) phase: Phase,
    pub(super) stages: HashMap<SessionId, Stage>,
    /// Those that wait, and those that are due.
    pub(super) queue: BTreeSet<(Time, SessionId)>,
    pub(super) due: BTreeSet<(Age, SessionId)>,
    pub(super) retiring: BTreeSet<(Age, SessionId)>,
    /// Sessions found without parts, and how new their newest write was then.
    pub(super) barren: HashMap<SessionId, UnixNanos>,
    /// What the metadata of some tells of their lives.
    pub(super) moments: HashMap<SessionId, Box<Moments>>,
    /// After a refusal: the pause, which doubles each time.
    pub(super) pauses: HashMap<SessionId, Duration>,
    pub(super) n_finding: usize,
    /// Steps left in this cycle.
    pub(super) quota: u64,
    /// The lock could not be had.
    pub(super) back_off: Option<Tick>,
}

impl Living {
    pub(super) fn new(batch: u64) -> Self {
        Self {
            quota: batch,
            ..Self::default()
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the lock is wanted or held.
    pub(super) fn is_busy(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// Whether it is not known yet which parts are due.
    pub(super) fn is_finding(&self) -> bool {
        self.n_finding > 0
    }

    pub(super) fn is_at_work_on(&self, session: SessionId) -> bool {
        matches!(self.stages.get(&session), Some(Stage::AtWork))
    }

    /// Whether a session is active and stale, and nothing was done about it yet.
    pub(super) fn is_stale(&self, session: SessionId) -> bool {
        let step = match self.stages.get(&session) {
            Some(Stage::Due { step, .. }) => *step,
            Some(Stage::Waits(_) | Stage::Finding | Stage::AtWork) | None => return false,
        };
        step == Step::Do(Deed::Fail)
    }

    /// A full scan has ended.
    pub(super) fn begin_cycle(&mut self, batch: u64) {
        self.quota = batch;
    }

    /// One step is about to be done.
    pub(super) fn count(&mut self) {
        self.quota = self.quota.saturating_sub(1);
    }

    /// It was not done.
    pub(super) fn give_back(&mut self, batch: u64) {
        self.quota = self.quota.saturating_add(1).min(batch);
    }

    pub(super) fn set_moments(&mut self, session: SessionId, moments: Option<Box<Moments>>) {
        match moments {
            Some(moments) => self.moments.insert(session, moments),
            None => self.moments.remove(&session),
        };
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.unstage(session);
        self.moments.remove(&session);
        self.barren.remove(&session);
        self.pauses.remove(&session);
    }

    pub(super) fn lock_refused(&mut self, now: Tick) {
        if self.phase == Phase::Asked {
            self.phase = Phase::Idle;
            self.back_off = Some(now.after(FIRST_PAUSE));
        }
    }

    pub(super) fn unstage(&mut self, session: SessionId) {
        match self.stages.remove(&session) {
            Some(Stage::Waits(at)) => {
                self.queue.remove(&(at, session));
            }
            Some(Stage::Due { at, .. }) => {
                let place = (at, session);
                self.due.remove(&place);
                self.retiring.remove(&place);
            }
            Some(Stage::Finding | Stage::AtWork) | None => {}
        }
    }

    pub(super) fn wait(&mut self, session: SessionId, at: Time) {
        self.unstage(session);
        self.queue.insert((at, session));
        self.stages.insert(session, Stage::Waits(at));
    }

    pub(super) fn make_due(&mut self, session: SessionId, at: Age, step: Step, parts: Parts) {
        self.unstage(session);
        let waiting = match step {
            Step::Do(_) => &mut self.due,
            Step::Retire => &mut self.retiring,
        };
        waiting.insert((at.clone(), session));
        self.stages.insert(session, Stage::Due { at, step, parts });
    }

    /// How long to leave a session alone, each time for longer; whether that is news.
    pub(super) fn pause(&mut self, session: SessionId) -> (Duration, bool) {
        let before = self.pauses.get(&session).copied();
        let pause = before.map_or(FIRST_PAUSE, |pause| pause.saturating_mul(2));
        let pause = pause.min(LONGEST_PAUSE);
        self.pauses.insert(session, pause);
        (pause, before.is_none())
    }
}
