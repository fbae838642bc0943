//! From the index to a plan, and when to ask for the lock to carry it out.

use super::burst::{Burst, Phase};
use super::confirming::Unsure;
use super::skipping::Passed;
use super::{Effect, Engine};
use crate::index::numbers::ByNumber;
use crate::index::{Session, Taken};
use crate::layout::spec::Kind;
use crate::model::bytes::Bytes;
use crate::model::fact::Fact;
use crate::model::plan::{Blocker, Body, Held, Plan, Proof, Victim};
use crate::model::report::LockWait;
use crate::model::seen::FileId;
use crate::model::session::{Key, SessionId};
use crate::model::time::{Now, Tick, sooner};
use crate::policy::{Candidate, Draft, Hold, Pick, Question, Speaking, age, draft};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The first read of a session is waited for at most so long.
const FIRST_READ_PATIENCE: Duration = Duration::from_millis(100);
/// Where that was in vain, nothing is waited for meanwhile: a hundredth of the time at most is lost.
const WITHOUT_WAITS: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Deciding {
    pub(super) phase: Phase,
    pub(super) passed: ByNumber<SessionId, Passed>,
    pub(super) leaving: ByNumber<SessionId, Bytes>,
    /// Those that are removed where they lie, until it is known what became of them, and the hint
    /// that each goes back to.
    pub(super) in_place: HashMap<Key, (Victim, Option<Tick>)>,
    pub(super) back_off: Option<Tick>,
    pause: Duration,
    pub(super) unmet: bool,
    /// What stays although a limit is passed, and how much too much that is: of the last plan
    /// that was carried out and did not meet the limits.
    pub(super) blocked: Vec<(Blocker, Held)>,
    pub(super) still_over: Bytes,
    /// The lock is wanted and cannot be had.
    pub(super) lock: Option<LockWait>,
    pub(super) busy_told: bool,
    /// The root passed its first start.
    known: bool,
    pub(super) held: bool,
    pub(super) burst: Burst,
    pub(super) unsure: Unsure,
    /// Since when a decision waits for the first read of a session.
    waits_since: Option<Tick>,
    no_waits_until: Option<Tick>,
    /// When the first hint of the batch at hand came in.
    pub(super) since: Option<Tick>,
    pub(super) pruned_sessions: u64,
    pub(super) pruned_bytes: Bytes,
    pub(super) trash_bytes: Bytes,
    pub(super) trash: HashMap<String, Bytes>,
    pub(super) peak: Bytes,
    pub(super) checked: bool,
}

impl Deciding {
    pub(super) fn new(known: bool) -> Self {
        Self {
            phase: Phase::Idle,
            passed: ByNumber::default(),
            leaving: ByNumber::default(),
            in_place: HashMap::new(),
            back_off: None,
            pause: FIRST_PAUSE,
            unmet: false,
            blocked: Vec::new(),
            still_over: Bytes::ZERO,
            lock: None,
            busy_told: false,
            known,
            held: false,
            burst: Burst::default(),
            unsure: Unsure::default(),
            waits_since: None,
            no_waits_until: None,
            since: None,
            pruned_sessions: 0,
            pruned_bytes: Bytes::ZERO,
            trash_bytes: Bytes::ZERO,
            trash: HashMap::new(),
            peak: Bytes::ZERO,
            checked: false,
        }
    }

    /// What spoke against a session may have ended.
    /// What was immovable may be so no more.
    pub(super) fn forget_immovable(&mut self, session: Option<SessionId>) {
        match session {
            Some(id) => {
                if let Some(passed) = self.passed.get_mut(&id) {
                    passed.immovable = false;
                }
            }
            None => self
                .passed
                .values_mut()
                .for_each(|passed| passed.immovable = false),
        }
    }

    /// Whether the last try to remove a session met a name that may not be renamed.
    pub(super) fn is_immovable(&self, session: SessionId) -> bool {
        let passed = self.passed.get(&session);
        passed.is_some_and(|passed| passed.immovable)
    }

    pub(super) fn forget_passed(&mut self, session: SessionId) {
        self.passed.remove(&session);
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.passed.remove(&session);
        self.leaving.remove(&session);
    }

    pub(super) fn forget_back_off(&mut self) {
        self.back_off = None;
        self.pause = FIRST_PAUSE;
    }

    pub(super) fn forget_unmet(&mut self) {
        self.unmet = false;
        self.blocked.clear();
        self.still_over = Bytes::ZERO;
    }

    pub(super) fn back_off(&mut self, now: Tick, retry: Option<Tick>) {
        let until = now.after(self.pause);
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        // A reason that ends by itself is waited for; then nothing is gained by looking before.
        self.back_off = Some(retry.map_or(until, |at| at.max(now.after(FIRST_PAUSE))));
    }

    pub(super) fn is_busy(&self) -> bool {
        self.phase != Phase::Idle || !self.leaving.is_empty()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Whether the root passed its first start.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// Whether a session is being removed where it lies.
    pub(super) fn is_leaving(&self, session: SessionId) -> bool {
        self.leaving.contains_key(&session)
    }

    /// Whether a burst holds the root's lock.
    pub(super) fn has_lock(&self) -> bool {
        matches!(self.phase, Phase::Removing { .. })
    }

    /// Whether the answer to a try for the lock is still to come.
    pub(super) fn awaits_lock(&self) -> bool {
        self.phase == Phase::Asked
    }

    pub(super) fn is_unmet(&self) -> bool {
        self.unmet
    }
}

impl Engine {
    /// Whether any rule wants something now.
    pub(super) fn is_over(&self, now: Now) -> bool {
        if self.rules.limits.are_none() {
            return self.retires(now);
        }
        let limits = self.limits();
        let usage = self.usage();
        self.retires(now)
            || limits.is_over(usage.bytes)
            || (limits.takes_all() && usage.n_sessions > 0)
            || limits.max_count.is_some_and(|max| usage.n_sessions > max)
            || self.left_of_age(now).is_some_and(|left| left.is_none())
    }

    /// How long the oldest session may stay by its age, `Some(None)` when it is too old.
    /// `None` where age says nothing.
    fn left_of_age(&self, now: Now) -> Option<Option<Duration>> {
        let believed = self.clock.is_believed(now);
        let max_age = self.rules.limits.max_age.filter(|_| believed)?;
        let mut sessions = self.index.oldest_first();
        let (_, created, _) = sessions.find(|(id, _, session)| {
            self.in_group(session) && !self.deciding.leaving.contains_key(id)
        })?;
        Some(max_age.checked_sub(age(created, now.wall)))
    }

    /// What the rules want, at most `max` sessions of it.
    pub fn draft(&self, now: Now, max: usize) -> Draft {
        let down_to_goal = self.deciding.burst.unfinished;
        self.draft_of(now, max, down_to_goal, |id, session| {
            self.hold(id, session, now)
        })
    }

    fn draft_of(
        &self,
        now: Now,
        max: usize,
        down_to_goal: bool,
        hold: impl Fn(SessionId, &Session) -> Option<Hold>,
    ) -> Draft {
        let measure = self.rules.limits.measure;
        let mut taken = Taken::default();
        // They go whatever the limits say, so the limits see what is left.
        let (retired, retry) = self.retired(now, max, &mut taken, &hold);
        let mut usage = self.usage();
        let mut goes = HashSet::new();
        for pick in &retired {
            goes.insert(pick.session);
            usage.bytes = usage
                .bytes
                .saturating_sub(pick.freed)
                .saturating_sub(usage.entry);
            usage.fixed = usage.fixed.saturating_sub(usage.entry);
            usage.n_sessions = usage.n_sessions.saturating_sub(1);
        }
        let candidates = self
            .index
            .oldest_first()
            .filter(|(id, _, session)| {
                self.in_group(session)
                    && !self.deciding.leaving.contains_key(id)
                    && !goes.contains(id)
            })
            .map(|(id, created, session)| Candidate {
                session: id,
                created,
                bytes: session.bytes(measure),
                hold: hold(id, session),
            });
        let unordered = || {
            let mut held = Held::default();
            let all = self.index.sessions();
            let unordered = |s: &Session| s.created.is_none() && s.is_owned();
            for (_, session) in all.filter(|(_, s)| unordered(s) && self.in_group(s)) {
                held.n_sessions += 1;
                held.bytes = held.bytes.saturating_add(session.bytes(measure));
            }
            held
        };
        let question = Question {
            usage,
            speaking: Speaking {
                age: self.clock.is_believed(now),
                down_to_goal,
            },
            now,
            max_picks: max - retired.len(),
        };
        let mut draft = draft(&self.limits(), question, candidates, unordered, |id| {
            self.index.freed(id, measure, &mut taken)
        });
        if !retired.is_empty() {
            draft.picks.splice(0..0, retired);
        }
        draft.retry = sooner(draft.retry, retry);
        draft
    }

    /// The whole plan, as `plan` prints it.
    pub fn plan(&self, now: Now) -> Plan {
        let draft = self.draft(now, usize::MAX);
        self.spell_out(now, draft)
    }

    fn spell_out(&self, now: Now, draft: Draft) -> Plan {
        Plan {
            victims: draft
                .picks
                .iter()
                .filter_map(|pick| self.victim(pick))
                .collect(),
            transitions: self.transitions(now),
            n_later: self.steps_for_later(now),
            blocked: draft.blocked,
            still_over: draft.still_over,
            still_too_many: draft.still_too_many,
            retry: draft.retry,
            quiet_until: draft.quiet_until,
        }
    }

    pub(super) fn victim(&self, pick: &Pick) -> Option<Victim> {
        let root = self.root?;
        let dir = self.index.session_dir(pick.session)?;
        let body = match self.rules.layout.kind() {
            Kind::Directories => Body::Tree {
                id: FileId {
                    dev: root.id.dev,
                    ino: self.index.dir_ino(dir)?,
                },
                proofs: self.index.proofs(pick.session),
            },
            Kind::Files | Kind::Sidecar => Body::Files {
                names: self.index.present_blobs(pick.session, root.id.dev),
                proofs: self.index.proofs(pick.session),
            },
            Kind::Catalog => Body::Blobs {
                blobs: self.index.present_blobs(pick.session, root.id.dev),
                catalogue: Proof {
                    name: self.rules.layout.catalogue()?.into(),
                    // Owners rewrite it for every save: only where an entry has a state can
                    // that turn a session into one that must stay.
                    mark: (self.rules.layout.spec().state)
                        .as_ref()
                        .and_then(|_| self.reading.catalogue_signature())
                        .map(|signature| signature.mark()),
                },
            },
        };
        Some(Victim {
            session: pick.session,
            key: self.index.key(pick.session),
            path: self.index.path(dir)?,
            body,
            freed: pick.freed,
            created: Some(pick.created),
            because: pick.because,
        })
    }

    fn may_decide(&self) -> bool {
        // Where nobody gives hints what others removed since the last scan still counts: nothing
        // may go for bytes that are gone already.
        let is_heard = !self.scanning.is_suspect() && !self.scanning.polls;
        let sure = is_heard || self.scanning.fresh_totals;
        self.scanning.first_done()
            && sure
            && !self.stopped
            && !self.deciding.held
            && !self.catalogue_in_doubt()
            // What a first plan would take is not known before.
            && (self.deciding.known || !self.living.is_finding())
            && self.deciding.phase == Phase::Idle
    }

    /// Checks the limits; over one, asks for the lock.
    pub(super) fn decide(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.may_decide() {
            return;
        }
        if self.deciding.known {
            self.finish_stranded(now, out);
        }
        if !self.is_over(now) {
            self.deciding.forget_unmet();
            self.deciding.forget_back_off();
            self.deciding.waits_since = None;
            self.deciding.lock = None;
            // An empty directory has shown nothing: it may be the place of a mount to come.
            let has_any = self.index.totals().n_sessions > 0;
            let has_rules = !self.rules.limits.are_none() || !self.rules.lifecycle.is_off();
            if !self.deciding.known && self.rules.enforce && has_rules && has_any {
                self.first_start(now, out);
            }
            return;
        }
        if self.deciding.back_off.is_some_and(|until| until > now.tick) {
            return;
        }
        if self.index.has_unsettled_links() {
            self.index.settle_links();
            if !self.is_over(now) {
                return;
            }
        }
        if !self.rules.enforce {
            self.deciding.lock = None;
            return self.observe(now, out);
        }
        if !self.deciding.known && !self.first_start(now, out) {
            return;
        }
        if self.awaits_first_reads(now) {
            return;
        }
        self.confirm_limit(now, out);
    }

    /// Whether a decision waits for the first read of a session: it may be older than all that
    /// is known. Not for longer than [`FIRST_READ_PATIENCE`], and then not again for
    /// [`WITHOUT_WAITS`]: somebody may go on bringing in what takes long to read.
    pub(super) fn awaits_first_reads(&mut self, now: Now) -> bool {
        let may_wait = self.deciding.no_waits_until.is_none_or(|at| at <= now.tick);
        if !self.reading.has_first() || !may_wait {
            self.deciding.waits_since = None;
            return false;
        }
        let since = *self.deciding.waits_since.get_or_insert(now.tick);
        if now.tick.since(since) < FIRST_READ_PATIENCE {
            return true;
        }
        self.deciding.waits_since = None;
        self.deciding.no_waits_until = Some(now.tick.after(WITHOUT_WAITS));
        false
    }

    /// Promise 8a: a first plan that takes more than half waits for a person.
    fn first_start(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        if self.rules.first_start_enforce {
            self.remember(out);
            return true;
        }
        // What only waits for a quiet moment goes a moment later: it belongs to the first plan.
        let draft = self.draft_of(now, usize::MAX, false, |_, s| Self::lasting_hold(s));
        let usage = self.usage();
        let freed = draft
            .picks
            .iter()
            .fold(self.parts_due(), |sum, p| sum.saturating_add(p.freed));
        let n_victims = draft.picks.len() as u64;
        if n_victims.saturating_mul(2) > usage.n_sessions
            || u128::from(freed.0) * 2 > u128::from(usage.bytes.0)
        {
            self.deciding.held = true;
            out.push(Effect::Tell(Fact::RootHeld {
                n_victims,
                n_sessions: usage.n_sessions,
                freed,
                usage: usage.bytes,
            }));
            return false;
        }
        self.remember(out);
        true
    }

    fn remember(&mut self, out: &mut Vec<Effect>) {
        self.deciding.known = true;
        out.push(Effect::Remember);
    }

    pub(super) fn accept(&mut self, out: &mut Vec<Effect>) {
        self.deciding.held = false;
        self.deciding.forget_back_off();
        if !self.deciding.known {
            self.remember(out);
        }
    }

    fn observe(&mut self, now: Now, out: &mut Vec<Effect>) {
        let draft = self.draft(now, usize::MAX);
        self.deciding.back_off(now.tick, draft.retry);
        if !self.deciding.unmet {
            self.deciding.unmet = true;
            let usage = self.usage();
            out.push(Effect::Tell(Fact::PruneCheck {
                usage: usage.bytes,
                limit: self.rules.limits.max_size,
                n_sessions: usage.n_sessions,
                n_candidates: draft.picks.len() as u64,
            }));
        }
    }

    /// After a full scan: where the root stands.
    pub(super) fn tell_check(&mut self, now: Now, out: &mut Vec<Effect>) {
        let usage = self.usage();
        let limit = self.rules.limits.max_size;
        let n_sessions = usage.n_sessions;
        let over = self.is_over(now);
        let n_candidates = if over {
            self.draft(now, usize::MAX).picks.len() as u64
        } else {
            0
        };
        out.push(Effect::Tell(Fact::PruneCheck {
            usage: usage.bytes,
            limit,
            n_sessions,
            n_candidates,
        }));
        if !over {
            out.push(Effect::Tell(Fact::PruneNoop {
                usage: usage.bytes,
                limit,
                n_sessions,
            }));
        }
    }

    /// How many bytes are too many and cannot go at present: as a plan says it, and all of
    /// them where nothing may go at all.
    pub(super) fn still_over(&self) -> Bytes {
        if self.deciding.lock.is_none() && !self.deciding.held {
            return self.deciding.still_over;
        }
        let limits = self.limits();
        let bytes = self.usage().bytes;
        let goal = limits.goal().filter(|_| limits.is_over(bytes));
        goal.map_or(Bytes::ZERO, |goal| bytes.saturating_sub(goal))
    }

    /// When the next decision is due by itself.
    pub(super) fn decision_due(&self, now: Now) -> Option<Tick> {
        if !self.may_decide() {
            return None;
        }
        if self.is_over(now) {
            let waits = self.deciding.waits_since;
            let waited = waits.map_or(now.tick, |since| since.after(FIRST_READ_PATIENCE));
            return Some(self.deciding.back_off.map_or(waited, |at| at.max(waited)));
        }
        let left = self.left_of_age(now)??;
        Some(now.tick.after(left + Duration::from_millis(1)))
    }
}
