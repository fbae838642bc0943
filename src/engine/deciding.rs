//! From the index to a plan, and from its reports back to the index.

use super::{Effect, Engine};
use crate::index::{Dropped, Known, Session, Standing, Taken};
use crate::layout::spec::Kind;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::{Bytes, Tally};
use crate::model::fact::{Fact, Summary};
use crate::model::path::RelPath;
use crate::model::place::{DirId, Look, Why};
use crate::model::plan::{Blocker, Body, Held, Plan, Proof, Victim};
use crate::model::report::{LockTry, Outcome, Removed, Report, Skip, Unlist};
use crate::model::seen::FileId;
use crate::model::session::{Key, SessionId, Verdict};
use crate::model::time::{Now, Tick, UnixNanos};
use crate::policy::{Candidate, Draft, Hold, Pick, Question, Speaking, Usage, age, draft};
use std::collections::HashMap;
use std::time::Duration;

/// Victims of one burst; the lock is held and hints wait no longer than for these.
const MAX_BURST: usize = 64;
/// Ids named in a summary.
const MAX_NAMED: usize = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A victim that somebody holds a lock on is tried again then.
const LOCKED_PAUSE: Duration = Duration::from_secs(1);
/// A victim that the kernel refuses to let go is tried again then, at first.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The lock was asked for.
    Asked,
    /// So many victims are being removed.
    Removing {
        left: usize,
    },
}

/// Why a victim was passed over, and until when.
#[derive(Debug, Clone, Copy)]
struct Passed {
    by: Blocker,
    until: Tick,
    /// Doubles each time the same reason comes again.
    pause: Duration,
}

/// What a burst did so far.
#[derive(Debug, Clone, Default)]
struct Burst {
    before: Bytes,
    /// A round was too short for what it began: the next one goes on down to the goal.
    unfinished: bool,
    /// How often hints had been lost when it was decided to begin.
    n_losses: u64,
    freed: Bytes,
    n_deleted: u64,
    n_this_round: u64,
    /// A victim was not as the index has it: its bytes are not known before the looks are in.
    unsure: bool,
    /// Some victim of this round was passed over for a reason of its own: others may go.
    passed_over: bool,
    deleted: Vec<Key>,
    unlist: Vec<Key>,
}

impl Burst {
    /// Whether the next oldest may do better. Where the kernel refuses one it would refuse all:
    /// that is tried again later.
    fn may_go_on(&self) -> bool {
        (self.n_this_round > 0 || self.passed_over) && !self.unsure
    }
}

#[derive(Debug)]
pub(super) struct Deciding {
    phase: Phase,
    passed: HashMap<SessionId, Passed>,
    leaving: HashMap<SessionId, Bytes>,
    back_off: Option<Tick>,
    pause: Duration,
    unmet: bool,
    busy_told: bool,
    /// The root passed its first start.
    known: bool,
    held: bool,
    burst: Burst,
    /// When the first hint of the batch at hand came in.
    pub(super) since: Option<Tick>,
    pub(super) pruned_sessions: u64,
    pub(super) pruned_bytes: Bytes,
    pub(super) trash_bytes: Bytes,
    trash: HashMap<String, Bytes>,
    pub(super) peak: Bytes,
    checked: bool,
}

impl Deciding {
    pub(super) fn new(known: bool) -> Self {
        Self {
            phase: Phase::Idle,
            passed: HashMap::new(),
            leaving: HashMap::new(),
            back_off: None,
            pause: FIRST_PAUSE,
            unmet: false,
            busy_told: false,
            known,
            held: false,
            burst: Burst::default(),
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
    }

    fn back_off(&mut self, now: Tick, retry: Option<Tick>) {
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

    pub(super) fn is_unmet(&self) -> bool {
        self.unmet
    }
}

impl Engine {
    pub(super) fn note_peak(&mut self) {
        let bytes = self.index.totals().counted.bytes(self.rules.limits.measure);
        let used = bytes.saturating_add(self.deciding.trash_bytes);
        self.deciding.peak = self.deciding.peak.max(used);
    }

    /// Says when the hints now coming in were first seen, for the reaction's figure.
    pub fn note_batch(&mut self, since: Tick) {
        self.deciding.since = Some(since);
    }

    /// What no rule may take, and why; time and locks apart.
    fn standing_of(&self, id: SessionId, session: &Session) -> Standing {
        let anomalous = !session.known
            || session.created.is_none()
            || session.verdict != Verdict::Certain
            || !session.obstacles.is_empty()
            || session.anomalies.contains(AnomalyKind::BadId)
            || (self.rules.layout.kind() == Kind::Catalog
                && (session.n_files() == 0 || self.has_unusable_blob(id)));
        if anomalous {
            return Standing::Fixed(Blocker::Anomalous);
        }
        if self.rules.protect.active && session.phase.protects() {
            return Standing::Fixed(Blocker::Active);
        }
        if !self.rules.protect.keep.is_empty() {
            let key = self.index.key(id);
            let id = String::from_utf8_lossy(self.rules.layout.id(&key));
            if self.rules.protect.keep.is_match(&*id) {
                return Standing::Fixed(Blocker::Pinned);
            }
        }
        Standing::Removable
    }

    fn has_unusable_blob(&self, id: SessionId) -> bool {
        self.index.blobs(id).iter().any(|blob| {
            matches!(
                self.index.find(self.index.root(), blob),
                Some(Known::Dir { .. } | Known::Other { .. })
            )
        })
    }

    /// Judges a session anew after something about it changed.
    pub(super) fn restand(&mut self, id: SessionId) {
        if let Some(session) = self.index.session(id) {
            let standing = self.standing_of(id, session);
            self.index.set_standing(id, standing);
        }
    }

    pub(super) fn restand_all(&mut self) {
        let all: Vec<SessionId> = self.index.sessions().map(|(id, _)| id).collect();
        all.into_iter().for_each(|id| self.restand(id));
    }

    /// What keeps a session from going for as long as it is what it is.
    fn lasting_hold(session: &Session) -> Option<Hold> {
        match session.standing {
            Standing::Fixed(by) => Some(Hold {
                by,
                until: None,
                fixed: true,
            }),
            Standing::Removable => None,
        }
    }

    fn hold(&self, id: SessionId, session: &Session, now: Now) -> Option<Hold> {
        if let Some(lasting) = Self::lasting_hold(session) {
            return Some(lasting);
        }
        if let Some(passed) = self.deciding.passed.get(&id).filter(|p| p.until > now.tick) {
            return Some(Hold {
                by: passed.by,
                until: Some(passed.until),
                fixed: false,
            });
        }
        let quiet = self.rules.protect.quiet;
        let written = Duration::from_nanos(
            u64::try_from(
                UnixNanos::from(now.wall)
                    .0
                    .saturating_sub(session.written.0),
            )
            .unwrap_or(0),
        );
        (written < quiet).then(|| Hold {
            by: Blocker::Quiet,
            until: Some(now.tick.after(quiet - written)),
            fixed: false,
        })
    }

    fn in_group(&self, session: &Session) -> bool {
        self.rules
            .group
            .as_ref()
            .is_none_or(|group| self.index.group(session) == Some(group))
    }

    /// The figures the rules see.
    pub fn usage(&self) -> Usage {
        let measure = self.rules.limits.measure;
        let totals = self.index.totals();
        if self.rules.group.is_some() {
            return self.group_usage();
        }
        let leaving: u64 = self.deciding.leaving.values().map(|bytes| bytes.0).sum();
        let fixed = totals
            .fixed
            .bytes(measure)
            .saturating_add(totals.orphans.bytes(measure));
        let catalogue = self.catalogue_bytes();
        let (entry, unlisted) = self.entry_bytes(catalogue);
        let leaving = Bytes(leaving).saturating_add(unlisted);
        Usage {
            bytes: totals.counted.bytes(measure).saturating_sub(leaving),
            fixed: fixed.saturating_add(catalogue.saturating_sub(unlisted)),
            orphans: totals.orphans.bytes(measure),
            entry,
            n_sessions: totals
                .n_sessions
                .saturating_sub(self.deciding.leaving.len() as u64),
            n_fixed: totals.n_fixed,
        }
    }

    /// The bytes of one entry of the catalogue, about, and of all that are to be taken out of
    /// it: sessions that left need no others to leave for their entries.
    fn entry_bytes(&self, catalogue: Bytes) -> (Bytes, Bytes) {
        let n_out = (self.deciding.burst.unlist.len() + self.n_unlisting()) as u64;
        let n_listed = self.index.totals().n_sessions.saturating_add(n_out);
        let entry = catalogue.0 / n_listed.max(1);
        (Bytes(entry), Bytes(entry.saturating_mul(n_out)))
    }

    fn catalogue_bytes(&self) -> Bytes {
        let name = self.rules.layout.catalogue();
        match name.and_then(|name| self.index.find(self.index.root(), name)) {
            Some(Known::File {
                apparent,
                allocated,
                ..
            }) => Tally::file(apparent, allocated).bytes(self.rules.limits.measure),
            _ => Bytes::ZERO,
        }
    }

    fn group_usage(&self) -> Usage {
        let measure = self.rules.limits.measure;
        let mut usage = Usage::default();
        let sessions = self.index.sessions().filter(|(id, session)| {
            self.in_group(session)
                && !session.is_disowned()
                && !self.deciding.leaving.contains_key(id)
        });
        for (_, session) in sessions {
            let bytes = session.bytes(measure);
            usage.bytes = usage.bytes.saturating_add(bytes);
            usage.n_sessions += 1;
            if session.standing != Standing::Removable {
                usage.fixed = usage.fixed.saturating_add(bytes);
                usage.n_fixed += 1;
            }
        }
        usage
    }

    /// Whether any rule wants something now.
    fn is_over(&self, now: Now) -> bool {
        let limits = &self.rules.limits;
        if limits.are_none() {
            return false;
        }
        let usage = self.usage();
        limits.is_over(usage.bytes)
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
        let candidates = self
            .index
            .oldest_first()
            .filter(|(id, _, session)| {
                self.in_group(session) && !self.deciding.leaving.contains_key(id)
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
            let unordered = |s: &Session| s.created.is_none() && !s.is_disowned();
            for (_, session) in all.filter(|(_, s)| unordered(s) && self.in_group(s)) {
                held.n_sessions += 1;
                held.bytes = held.bytes.saturating_add(session.bytes(measure));
            }
            held
        };
        let question = Question {
            usage: self.usage(),
            speaking: Speaking {
                age: self.clock.is_believed(now),
                down_to_goal,
            },
            now,
            max_picks: max,
        };
        draft(&self.rules.limits, question, candidates, unordered, |id| {
            self.index.freed(id, measure, &mut taken)
        })
    }

    /// The whole plan, as `plan` prints it.
    pub fn plan(&self, now: Now) -> Plan {
        let draft = self.draft(now, usize::MAX);
        self.spell_out(draft)
    }

    fn spell_out(&self, draft: Draft) -> Plan {
        Plan {
            victims: draft
                .picks
                .iter()
                .filter_map(|pick| self.victim(pick))
                .collect(),
            blocked: draft.blocked,
            still_over: draft.still_over,
            still_too_many: draft.still_too_many,
            retry: draft.retry,
        }
    }

    fn victim(&self, pick: &Pick) -> Option<Victim> {
        let session = self.index.session(pick.session)?;
        let root = self.root?;
        let dir = self.index.session_dir(pick.session)?;
        let body = match self.rules.layout.kind() {
            Kind::Directories => Body::Tree {
                id: FileId {
                    dev: root.id.dev,
                    ino: self.index.dir_ino(dir)?,
                },
                proofs: self.index.proofs(session),
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
        let sure = !self.scanning.is_suspect() || self.scanning.fresh_totals;
        self.scanning.first_done()
            && sure
            && !self.stopped
            && !self.deciding.held
            && !self.catalogue_in_doubt()
            && self.deciding.phase == Phase::Idle
    }

    /// Checks the limits; over one, asks for the lock.
    pub(super) fn decide(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.may_decide() {
            return;
        }
        if !self.is_over(now) {
            self.deciding.unmet = false;
            self.deciding.forget_back_off();
            if !self.deciding.known && self.rules.enforce && !self.rules.limits.are_none() {
                self.remember(out);
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
            return self.observe(now, out);
        }
        if !self.deciding.known && !self.first_start(now, out) {
            return;
        }
        self.deciding.phase = Phase::Asked;
        self.deciding.burst = Burst {
            before: self.usage().bytes,
            n_losses: self.n_losses,
            ..Burst::default()
        };
        out.push(Effect::Lock);
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
            .fold(Bytes::ZERO, |sum, p| sum.saturating_add(p.freed));
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

    /// The answer to a try for the lock. The plan is made under it.
    pub(super) fn locked(&mut self, now: Now, answer: LockTry, out: &mut Vec<Effect>) {
        if self.deciding.phase != Phase::Asked {
            return;
        }
        match answer {
            LockTry::Taken => {
                self.deciding.busy_told = false;
                self.next_round(now, out);
            }
            LockTry::TakenStale(holder) => {
                out.push(Effect::Tell(Fact::LockStale {
                    holder: Some(holder),
                }));
                self.next_round(now, out);
            }
            LockTry::Busy(holder) => {
                self.deciding.phase = Phase::Idle;
                self.deciding.back_off = Some(now.tick.after(BUSY_PAUSE));
                if !std::mem::replace(&mut self.deciding.busy_told, true) {
                    out.push(Effect::Tell(Fact::LockBusy { holder }));
                }
            }
            LockTry::Failed { operation, errno } => {
                self.deciding.phase = Phase::Idle;
                self.deciding.back_off(now.tick, None);
                if !std::mem::replace(&mut self.deciding.busy_told, true) {
                    out.push(Effect::Tell(Fact::LockFailed { operation, errno }));
                }
            }
        }
    }

    /// Under the lock: plans and removes until the goal is reached or nothing may go.
    fn next_round(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.deciding.burst.n_this_round = 0;
        self.deciding.burst.passed_over = false;
        let draft = self.draft(now, MAX_BURST);
        let victims: Vec<Victim> = draft.picks.iter().filter_map(|p| self.victim(p)).collect();
        // What was decided while all was well ends when hints are lost or somebody says stop.
        let is_sure = self.deciding.burst.n_losses == self.n_losses && !self.catalogue_in_doubt();
        if victims.is_empty() || self.stopped || !is_sure {
            return self.end_burst(now, Some(draft), out);
        }
        self.deciding.burst.unfinished = draft.more;
        if self.deciding.burst.n_deleted == 0 && !self.deciding.checked {
            self.deciding.checked = true;
            out.push(Effect::Tell(Fact::PruneStarted {
                usage: self.deciding.burst.before,
                limit: self.rules.limits.max_size,
                n_victims: victims.len() as u64,
            }));
        }
        self.deciding.phase = Phase::Removing {
            left: victims.len(),
        };
        out.extend(
            victims
                .into_iter()
                .map(|victim| Effect::Remove(Box::new(victim))),
        );
    }

    fn end_burst(&mut self, now: Now, draft: Option<Draft>, out: &mut Vec<Effect>) {
        self.deciding.phase = Phase::Idle;
        self.deciding.checked = false;
        out.push(Effect::Unlock);
        let burst = std::mem::take(&mut self.deciding.burst);
        if !burst.unlist.is_empty() {
            self.unlist(burst.unlist, out);
        }
        let usage = self.usage();
        let limit = self.rules.limits.max_size;
        if burst.n_deleted > 0 {
            let kept = self
                .index
                .oldest_first()
                .take(MAX_NAMED)
                .map(|(id, _, _)| self.index.key(id));
            out.push(Effect::Tell(Fact::PruneSummary(Summary {
                before: burst.before,
                after: usage.bytes,
                limit,
                n_deleted: burst.n_deleted,
                freed: burst.freed,
                n_kept: usage.n_sessions,
                deleted: burst.deleted,
                kept: kept.collect(),
            })));
        }
        if !self.is_over(now) {
            self.deciding.unmet = false;
            self.deciding.forget_back_off();
            return;
        }
        let draft = draft.unwrap_or_else(|| self.draft(now, MAX_BURST));
        self.deciding.back_off(now.tick, draft.retry);
        if self.is_unlisting() {
            // The catalogue is about to shrink: what is still over is known after that.
            return;
        }
        let unmet = draft.still_over > Bytes::ZERO || draft.still_too_many > 0;
        if unmet && !std::mem::replace(&mut self.deciding.unmet, true) {
            out.push(Effect::Tell(Fact::TargetUnmet {
                usage: usage.bytes,
                limit,
                still_over: draft.still_over,
                blocked: draft.blocked,
            }));
        }
    }

    /// What became of a victim.
    pub(super) fn reported(&mut self, now: Now, report: Report, out: &mut Vec<Effect>) {
        let Report { victim, outcome } = report;
        match outcome {
            Outcome::Aside(aside) => {
                self.tell_deleted(now, &victim, out);
                // The first name stands for the bytes of all: they leave together.
                if let Some(first) = aside.first() {
                    let deciding = &mut self.deciding;
                    deciding.trash.insert(first.0.clone(), victim.freed);
                    deciding.trash_bytes = deciding.trash_bytes.saturating_add(victim.freed);
                }
                let dropped = self.drop_victim(&victim, out);
                self.release(&dropped, out);
                out.push(Effect::Reap {
                    aside,
                    watches: dropped.watches,
                });
            }
            Outcome::InPlace => {
                self.tell_deleted(now, &victim, out);
                self.deciding.leaving.insert(victim.session, victim.freed);
                out.push(Effect::RemoveInPlace(Box::new(victim)));
            }
            Outcome::Gone => {
                self.deciding.burst.unsure = true;
                self.look_at(&victim, out);
            }
            Outcome::Skipped(why) => self.skipped(now, &victim, why, out),
        }
        let Phase::Removing { left } = self.deciding.phase else {
            return;
        };
        if left > 1 {
            self.deciding.phase = Phase::Removing { left: left - 1 };
        } else if self.deciding.burst.may_go_on()
            && (self.deciding.burst.unfinished || self.is_over(now))
        {
            self.next_round(now, out);
        } else {
            self.end_burst(now, None, out);
        }
    }

    /// Takes a victim out of the index. Its names count as looked at: a walk may have seen
    /// them before.
    fn drop_victim(&mut self, victim: &Victim, out: &mut Vec<Effect>) -> Dropped {
        let root = self.index.root();
        match &victim.body {
            Body::Tree { .. } => {
                let dir = self.index.session_dir(victim.session);
                if let Some((dir, parent)) = dir.and_then(|d| Some((d, self.index.parent(d)?))) {
                    let name: Box<[u8]> = self.index.dir_name(dir).into();
                    self.note_recent(parent, &name, out);
                }
                self.places.forget_below(|| Some(victim.path.clone()));
            }
            Body::Blobs { blobs, .. } => {
                for (blob, _) in blobs {
                    self.note_recent(root, blob, out);
                    self.places.forget_below(|| RelPath::new(blob).ok());
                }
            }
        }
        self.index.drop_session(victim.session)
    }

    fn tell_deleted(&mut self, now: Now, victim: &Victim, out: &mut Vec<Effect>) {
        let deciding = &mut self.deciding;
        deciding.pruned_sessions += 1;
        deciding.pruned_bytes = deciding.pruned_bytes.saturating_add(victim.freed);
        let burst = &mut deciding.burst;
        burst.n_deleted += 1;
        burst.n_this_round += 1;
        burst.freed = burst.freed.saturating_add(victim.freed);
        if burst.deleted.len() < MAX_NAMED {
            burst.deleted.push(victim.key.clone());
        }
        if matches!(victim.body, Body::Blobs { .. }) {
            burst.unlist.push(victim.key.clone());
        }
        out.push(Effect::Tell(Fact::PruneDeleted {
            key: victim.key.clone(),
            path: victim.shown_path(),
            freed: victim.freed,
            created: victim.created,
            because: victim.because,
            reaction: deciding.since.map(|since| now.tick.since(since)),
        }));
    }

    /// The disk is asked again about a victim that was not as planned.
    fn look_at(&mut self, victim: &Victim, out: &mut Vec<Effect>) {
        let Some(dir) = self.index.session_dir(victim.session) else {
            return;
        };
        match self.index.parent(dir) {
            Some(parent) => {
                let name = self.index.dir_name(dir);
                out.push(Effect::Look(Look::new(parent, name, Why::Again)));
            }
            None => self.look_at_blobs(victim, dir, out),
        }
    }

    fn look_at_blobs(&self, victim: &Victim, root: DirId, out: &mut Vec<Effect>) {
        if let Body::Blobs { blobs, .. } = &victim.body {
            let looks = blobs
                .iter()
                .map(|(blob, _)| Look::new(root, blob, Why::Again));
            out.extend(looks.map(Effect::Look));
        }
    }

    fn skipped(&mut self, now: Now, victim: &Victim, why: Skip, out: &mut Vec<Effect>) {
        let pause = match &why {
            Skip::Locked => (Blocker::Locked, LOCKED_PAUSE),
            Skip::Quiet => (Blocker::Quiet, self.rules.protect.quiet.min(LOCKED_PAUSE)),
            Skip::Refused { .. } | Skip::RootMoved => (Blocker::Locked, REFUSED_PAUSE),
            Skip::Replaced | Skip::Changed | Skip::Stranger | Skip::StrangerKept => {
                (Blocker::Anomalous, LOCKED_PAUSE)
            }
        };
        let is_news = self.pass_over(now, victim.session, pause.0, pause.1);
        self.deciding.burst.passed_over |= !matches!(why, Skip::Refused { .. } | Skip::RootMoved);
        match why {
            Skip::Changed => {
                self.read_session(victim.session, out);
                self.read_catalogue(out);
            }
            Skip::Replaced | Skip::Stranger | Skip::StrangerKept => {
                self.deciding.burst.unsure = true;
                self.look_at(victim, out);
            }
            Skip::Quiet => self.index.note_written(victim.session, now.wall.into()),
            Skip::Locked | Skip::Refused { .. } | Skip::RootMoved => {}
        }
        if is_news {
            out.push(Effect::Tell(Fact::PruneSkipped {
                key: victim.key.clone(),
                path: victim.shown_path(),
                why,
            }));
        }
    }

    /// Leaves a session alone for a while, each time for longer. Whether that is news: a
    /// reason that goes on is told once.
    fn pass_over(&mut self, now: Now, id: SessionId, by: Blocker, pause: Duration) -> bool {
        let before = self
            .deciding
            .passed
            .get(&id)
            .filter(|passed| passed.by == by);
        let is_news = before.is_none();
        let pause = before.map_or(pause, |passed| {
            passed.pause.saturating_mul(2).min(LONGEST_PAUSE)
        });
        let until = now.tick.after(pause);
        self.deciding.passed.insert(id, Passed { by, until, pause });
        is_news
    }

    /// A removal that ran beside the engine ended.
    pub(super) fn removed(&mut self, now: Now, removed: Removed, out: &mut Vec<Effect>) {
        match removed {
            Removed::Trash { aside, left, .. } => {
                let bytes = self.deciding.trash.remove(&aside.0).unwrap_or(Bytes::ZERO);
                self.deciding.trash_bytes = self.deciding.trash_bytes.saturating_sub(bytes);
                if !left.is_empty() {
                    out.push(Effect::Tell(Fact::TrashLeft { left }));
                }
            }
            Removed::InPlace { key, left } => {
                if let Some(id) = self.index.session_by_key(&key) {
                    self.left_in_place(now, id, left.is_empty(), out);
                }
                if !left.is_empty() {
                    out.push(Effect::Tell(Fact::TrashLeft { left }));
                }
            }
            Removed::Unlisted { keys, result } => {
                let n_entries = keys.len() as u64;
                self.unlisted_entries(now, &keys, &result, out);
                if result != Unlist::Done || n_entries > 0 {
                    out.push(Effect::Tell(Fact::Unlisted { n_entries, result }));
                }
            }
        }
    }

    /// A session was removed where it lay: the disk says what is left of it.
    fn left_in_place(&mut self, now: Now, id: SessionId, whole: bool, out: &mut Vec<Effect>) {
        self.deciding.leaving.remove(&id);
        if !whole {
            self.pass_over(now, id, Blocker::Locked, REFUSED_PAUSE);
        }
        let Some(dir) = self.index.session_dir(id) else {
            return;
        };
        if let Some(parent) = self.index.parent(dir) {
            let name = self.index.dir_name(dir);
            out.push(Effect::Look(Look::new(parent, name, Why::Again)));
            if !whole {
                self.scan_below(self.index.session_path(id), out);
            }
        }
        let blobs = self.index.blobs(id);
        let root = self.index.root();
        let looks = blobs.iter().map(|blob| Look::new(root, blob, Why::Again));
        out.extend(looks.map(Effect::Look));
    }

    /// When the next decision is due by itself.
    pub(super) fn decision_due(&self, now: Now) -> Option<Tick> {
        if !self.may_decide() {
            return None;
        }
        if self.is_over(now) {
            return Some(self.deciding.back_off.unwrap_or(now.tick));
        }
        let left = self.left_of_age(now)??;
        Some(now.tick.after(left + Duration::from_millis(1)))
    }
}
