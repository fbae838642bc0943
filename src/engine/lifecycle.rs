//! The life of sessions: which step of whose is due, and what became of it.
//!
//! Each session waits in a queue by the time of its next step. A write only moves that time away,
//! so nothing is done for it: when the time has come the step is asked for once more, and the
//! session waits on. Steps that change the disk are carried out beside the engine, under the
//! root's lock, and never stand in the way of a removal: a burst uses the same lock meanwhile.
//!
//! Bounds: [`MAX_FINDING`] sessions are looked through at a time, [`MAX_DEEDS`] changed; the
//! others wait in the queue. At most `lifecycle.batch` steps are done a cycle (from one full scan
//! to the next); what is left is for the next one.

use super::living::{Phase, Stage};
use super::{Effect, Engine};
use crate::index::{Session, Standing, Taken};
use crate::layout::spec::Kind;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::Bytes;
use crate::model::fact::Fact;
use crate::model::lifecycle::{
    Deed, Extent, LifeOrder, LifeOutcome, LifeReport, Parts, PartsOrder, PartsSeen, Transition,
};
use crate::model::plan::{Because, Proof};
use crate::model::report::Skip;
use crate::model::seen::FileId;
use crate::model::session::{Phase as SessionPhase, SessionId, Verdict};
use crate::model::time::{Now, Tick, Time, UnixNanos, sooner};
use crate::policy::lifecycle::{Condition, Lifecycle, Step};
use crate::policy::{Hold, Pick, age};
use chrono::TimeDelta;
use std::time::Duration;

/// Sessions that are looked through for parts at a time.
const MAX_FINDING: usize = 16;
/// Steps under way at a time; the lock is held for all of them.
const MAX_DEEDS: usize = 16;
/// E2BIG, as the disk says it of a session with too many names.
const TOO_MANY: i32 = 7;

impl Engine {
    /// The session's next step, and from when on; `None`: none as it is now.
    pub(super) fn next_step(&self, id: SessionId) -> Option<(Time, Step)> {
        let session = self.index.session(id)?;
        let condition = self.condition(id, session)?;
        self.rules.lifecycle.next(&condition)
    }

    /// `None`: nothing may be concluded about it, or it is to stay as it is.
    fn condition(&self, id: SessionId, session: &Session) -> Option<Condition<'_>> {
        let is_judged = match session.verdict {
            // Without a record only its parts may go.
            Verdict::Certain | Verdict::Orphaned => true,
            Verdict::Doubtful | Verdict::Disowned => false,
        };
        let is_sure =
            session.known && is_judged && session.obstacles.is_empty() && !session.is_disowned();
        let is_known = session.written != UnixNanos(i64::MIN);
        if !is_sure || !is_known || self.is_pinned(id) || self.deciding.is_leaving(id) {
            return None;
        }
        let layout = &self.rules.layout;
        let has_no_parts = match layout.kind() {
            Kind::Directories | Kind::Sidecar => {
                let barren = self.living.barren.get(&id);
                barren.is_some_and(|at| session.written <= *at)
            }
            Kind::Catalog | Kind::Files => true,
        };
        Some(Condition {
            phase: session.phase,
            has_record: session.phase != SessionPhase::Stateless || self.has_record(id, session),
            created: session.created,
            moments: self.living.moments.get(&id).map(|moments| &**moments),
            written: session.written.time(),
            has_no_parts,
        })
    }

    /// Whether a session has metadata. What is there and cannot be read is a record.
    fn has_record(&self, id: SessionId, session: &Session) -> bool {
        let layout = &self.rules.layout;
        let key = self.index.key(id);
        let documents = layout.documents(&key);
        let Some(name) = documents
            .first()
            .filter(|_| layout.spec().metadata.is_some())
        else {
            return true;
        };
        let is_absent = |proof: &Proof| proof.name == *name && proof.mark.is_none();
        layout.kind() == Kind::Catalog
            || session.anomalies.contains(AnomalyKind::MetadataUnreadable)
            || session.anomalies.contains(AnomalyKind::MetadataCorrupt)
            || !self.index.proofs(id).iter().any(is_absent)
    }

    /// Looks ahead to a session's next step, after something about it changed.
    pub(super) fn plan_life(&mut self, id: SessionId) {
        if self.rules.lifecycle.is_off() {
            return;
        }
        if let Some(Stage::Finding | Stage::AtWork) = self.living.stages.get(&id) {
            // What comes of that is followed by another look ahead.
            return;
        }
        match self.next_step(id) {
            Some((at, _)) => self.living.wait(id, at),
            None => self.living.unstage(id),
        }
    }

    /// The rules have changed.
    pub(super) fn plan_lives(&mut self) {
        let ids: Vec<SessionId> = self.index.sessions().map(|(id, _)| id).collect();
        let is_off = self.rules.lifecycle.is_off();
        self.living.barren.clear();
        self.living.quota = self.rules.lifecycle.batch;
        for id in ids {
            if is_off && !self.living.is_at_work_on(id) {
                self.living.unstage(id);
            }
            self.plan_life(id);
        }
    }

    /// A session that had no parts may have been written to, or it is known for the first time when
    /// one was (a catalogue's is, after its entry).
    pub(super) fn life_touched(&mut self, id: SessionId, is_first: bool) {
        if is_first {
            self.plan_life(id);
        }
        let Some(found) = self.living.barren.get(&id) else {
            return;
        };
        if self.index.session(id).is_some_and(|s| s.written > *found) {
            self.living.barren.remove(&id);
            self.plan_life(id);
        }
    }

    fn may_live(&self, now: Now) -> bool {
        !self.rules.lifecycle.is_off()
            && self.scanning.first_done()
            && !self.scanning.is_suspect()
            && !self.stopped
            && !self.catalogue_in_doubt()
            && self.clock.is_believed(now)
    }

    /// What is due after every input.
    pub(super) fn live(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.may_live(now) {
            return;
        }
        while let Some((at, id)) = self.living.queue.first().copied() {
            if at > now.wall || self.living.n_finding >= MAX_FINDING {
                break;
            }
            match self.next_step(id) {
                Some((at, _)) if at > now.wall => self.living.wait(id, at),
                Some((_, Step::Do(Deed::DropParts | Deed::DropOrphanParts))) => {
                    self.find_parts(id, out);
                }
                Some((at, step)) => self.make_due(id, at, step, Parts::default()),
                None => self.living.unstage(id),
            }
        }
        self.begin_deeds(now, out);
    }

    fn make_due(&mut self, id: SessionId, at: Time, step: Step, parts: Parts) {
        let Some(session) = self.index.session(id) else {
            return;
        };
        let age = (session.created.unwrap_or(at), self.index.key(id));
        self.living.make_due(id, age, step, parts);
        if step == Step::Retire {
            // Nothing was tried with this one yet.
            self.deciding.forget_back_off();
        }
    }

    fn find_parts(&mut self, id: SessionId, out: &mut Vec<Effect>) {
        self.living.unstage(id);
        let Some(extent) = self.extent(id) else {
            return;
        };
        self.living.stages.insert(id, Stage::Finding);
        self.living.n_finding += 1;
        out.push(Effect::FindParts(PartsOrder {
            session: id,
            extent,
        }));
    }

    /// What a session with a life is on the disk. `None`: not all of it is known just now.
    fn extent(&self, id: SessionId) -> Option<Extent> {
        let at = self.index.session_dir(id)?;
        let dir = self.index.path(at)?;
        let dev = self.root?.id.dev;
        let files = match self.rules.layout.kind() {
            Kind::Directories if dir.is_root() => return None,
            Kind::Directories => None,
            Kind::Sidecar | Kind::Files | Kind::Catalog => {
                let files = self.index.present_blobs(id, dev);
                let is_whole = files.len() == self.index.blobs(id).len();
                Some(is_whole.then_some(files)?)
            }
        };
        Some(Extent {
            dir,
            id: FileId {
                dev,
                ino: self.index.dir_ino(at)?,
            },
            files,
            key: self.index.key(id),
        })
    }

    /// A session was looked through.
    pub(super) fn parts_found(
        &mut self,
        now: Now,
        id: SessionId,
        seen: Result<PartsSeen, i32>,
        out: &mut Vec<Effect>,
    ) {
        self.living.n_finding = self.living.n_finding.saturating_sub(1);
        if !matches!(self.living.stages.remove(&id), Some(Stage::Finding)) {
            return;
        }
        let seen = match seen {
            Ok(seen) => seen,
            // More names than are looked at: its parts stay, and its life goes on.
            Err(TOO_MANY) => {
                if let Some(session) = self.index.session(id) {
                    self.living.barren.insert(id, session.written);
                }
                return self.plan_life(id);
            }
            Err(_) => {
                // Moved, changing, or not to be read: the disk is asked about it.
                let (pause, _) = self.living.pause(id);
                self.living.wait(id, later(now, pause));
                return self.look_through_session(id, out);
            }
        };
        self.index.note_written(id, seen.newest);
        if seen.parts.n_files == 0 {
            let written = self.index.session(id).map_or(seen.newest, |s| s.written);
            self.living.barren.insert(id, written);
            return self.plan_life(id);
        }
        match self.next_step(id) {
            Some((at, step @ Step::Do(Deed::DropParts | Deed::DropOrphanParts)))
                if at <= now.wall =>
            {
                self.make_due(id, at, step, seen.parts);
            }
            Some(_) | None => self.plan_life(id),
        }
    }

    /// Asks for the lock where something is due.
    fn begin_deeds(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.may_begin(now) || self.living.back_off.is_some_and(|until| until > now.tick) {
            return;
        }
        self.living.back_off = None;
        self.living.phase = Phase::Asked;
        if self.deciding.has_lock() {
            self.next_deeds(now, out);
        } else if !self.deciding.awaits_lock() {
            out.push(Effect::Lock);
        }
    }

    fn may_begin(&self, now: Now) -> bool {
        self.rules.enforce
            && self.deciding.is_known()
            && !self.deciding.held
            && self.living.phase == Phase::Idle
            && self.living.quota > 0
            && !self.living.due.is_empty()
            && self.may_live(now)
    }

    /// Under the lock: the next few steps, or its end.
    pub(super) fn next_deeds(&mut self, now: Now, out: &mut Vec<Effect>) {
        let mut left = 0;
        self.living.phase = Phase::Idle;
        while left < MAX_DEEDS && self.may_begin(now) {
            let Some(id) = self.living.due.first().map(|(_, id)| *id) else {
                break;
            };
            let Some(order) = self.life_order(now, id) else {
                // Not due any more; else its place is not known, and it must not come again at once.
                self.living.unstage(id);
                if let Some((at, _)) = self.next_step(id) {
                    let (pause, _) = self.living.pause(id);
                    self.living.wait(id, at.max(later(now, pause)));
                }
                continue;
            };
            self.living.unstage(id);
            self.living.stages.insert(id, Stage::AtWork);
            self.living.count();
            left += 1;
            out.push(Effect::Live(Box::new(order)));
        }
        if left > 0 {
            self.living.phase = Phase::Working { left };
        } else if !self.deciding.has_lock() && !self.deciding.awaits_lock() {
            out.push(Effect::Unlock);
        }
    }

    fn life_order(&self, now: Now, id: SessionId) -> Option<LifeOrder> {
        let transition = self.transition(now, id)?;
        let extent = self.extent(id)?;
        let since = TimeDelta::from_std(transition.limit).ok()?;
        Some(LifeOrder {
            extent,
            proofs: self.index.proofs(id),
            unwritten_since: now.wall.checked_sub_signed(since)?.into(),
            at: now.wall,
            transition,
        })
    }

    /// The step that is due for a session that stays, if it still is.
    fn transition(&self, now: Now, id: SessionId) -> Option<Transition> {
        let Some(Stage::Due { step, parts, .. }) = self.living.stages.get(&id) else {
            return None;
        };
        let (at, step) = self.next_step(id).filter(|(_, next)| next == step)?;
        let (Step::Do(deed), true) = (step, at <= now.wall) else {
            return None;
        };
        let limit = self.rules.lifecycle.limit(deed);
        Some(Transition {
            session: id,
            key: self.index.key(id),
            path: self.index.session_path(id),
            deed,
            idle: age(at, now.wall).saturating_add(limit),
            limit,
            parts: *parts,
        })
    }

    /// All that is due for sessions that stay, the oldest first, as many as this cycle takes.
    pub(super) fn transitions(&self, now: Now) -> Vec<Transition> {
        if !self.may_live(now) {
            return Vec::new();
        }
        let due = self.living.due.iter();
        due.filter_map(|(_, id)| self.transition(now, *id))
            .take(usize::try_from(self.living.quota).unwrap_or(usize::MAX))
            .collect()
    }

    /// How many steps are due that this cycle does not take, retirements among them.
    pub(super) fn steps_for_later(&self, now: Now) -> u64 {
        let n_due = self.living.due.len() + self.living.retiring.len();
        let n_due = if self.may_live(now) { n_due as u64 } else { 0 };
        n_due.saturating_sub(self.living.quota)
    }

    /// What the parts that are due hold.
    pub(super) fn parts_due(&self) -> Bytes {
        let due = self.living.due.iter();
        let bytes = due.map(|(_, id)| match self.living.stages.get(id) {
            Some(Stage::Due { parts, .. }) => parts.bytes,
            Some(Stage::Waits(_) | Stage::Finding | Stage::AtWork) | None => 0,
        });
        Bytes(bytes.fold(0, u64::saturating_add))
    }

    /// What became of a step.
    pub(super) fn lived(&mut self, now: Now, report: LifeReport, out: &mut Vec<Effect>) {
        let LifeReport {
            mut transition,
            outcome,
        } = report;
        let id = transition.session;
        self.living.stages.remove(&id);
        match outcome {
            LifeOutcome::Failed => {
                self.living.pauses.remove(&id);
                out.push(Effect::Tell(Fact::LifecycleFailed(transition)));
                self.read_session(id, out);
                self.read_catalogue(out);
            }
            LifeOutcome::PartsGone { parts, aside, .. } => {
                self.living.pauses.remove(&id);
                // The first name stands for the bytes of all: they leave together.
                if let Some(first) = aside.first() {
                    let bytes = Bytes(parts.bytes);
                    let deciding = &mut self.deciding;
                    deciding.trash.insert(first.name().0.clone(), bytes);
                    deciding.trash_bytes = deciding.trash_bytes.saturating_add(bytes);
                }
                transition.parts = parts;
                out.push(Effect::Tell(Fact::LifecyclePartsDeleted(transition)));
                out.push(Effect::Reap {
                    aside,
                    watches: Vec::new(),
                });
                self.plan_life(id);
            }
            LifeOutcome::Gone => self.plan_life(id),
            LifeOutcome::Skipped(why) => self.deed_skipped(now, transition, why, out),
        }
        // After a step the disk is asked, whatever was reported.
        self.look_through_session(id, out);
        self.deciding.forget_back_off();
        let Phase::Working { left } = self.living.phase else {
            return;
        };
        if left > 1 {
            self.living.phase = Phase::Working { left: left - 1 };
        } else {
            self.next_deeds(now, out);
        }
    }

    fn deed_skipped(&mut self, now: Now, transition: Transition, why: Skip, out: &mut Vec<Effect>) {
        let id = transition.session;
        self.living.give_back(self.rules.lifecycle.batch);
        if self.index.session(id).is_none() || why == Skip::Stopping {
            return;
        }
        if why == Skip::Changed {
            self.read_session(id, out);
            self.read_catalogue(out);
        }
        let (pause, is_news) = self.living.pause(id);
        self.living.wait(id, later(now, pause));
        // Somebody is at work on it after all: that is as it should be.
        if is_news && why != Skip::Quiet {
            out.push(Effect::Tell(Fact::LifecycleSkipped { transition, why }));
        }
    }

    /// The disk is asked about everything in a session.
    fn look_through_session(&mut self, id: SessionId, out: &mut Vec<Effect>) {
        match self.extent(id) {
            Some(Extent {
                dir, files: None, ..
            }) => self.scan_below(dir, out),
            Some(_) | None => self.look_at_session(id, out),
        }
    }

    /// Whether a session is to go because it failed long ago.
    pub(super) fn retires(&self, now: Now) -> bool {
        !self.living.retiring.is_empty() && self.retirements_left() > 0 && self.may_live(now)
    }

    /// How many may go in this cycle because they failed: what is due for those that stay comes
    /// first, and a cycle takes a batch of both together.
    fn retirements_left(&self) -> u64 {
        let n_due = self.living.due.len() as u64;
        self.living.quota.saturating_sub(n_due)
    }

    /// Sessions that failed long ago and may go, the oldest first, at most `max`; and when the
    /// first reason against another one ends.
    pub(super) fn retired(
        &self,
        now: Now,
        max: usize,
        taken: &mut Taken,
        hold: &impl Fn(SessionId, &Session) -> Option<Hold>,
    ) -> (Vec<Pick>, Option<Tick>) {
        let (mut picks, mut retry) = (Vec::new(), None);
        if !self.retires(now) {
            return (picks, retry);
        }
        let quota = usize::try_from(self.retirements_left()).unwrap_or(usize::MAX);
        for (_, id) in &self.living.retiring {
            if picks.len() == max.min(quota) {
                break;
            }
            let Some((session, since)) = self.retires_now(*id, now) else {
                continue;
            };
            match (hold(*id, session), session.created) {
                (None, Some(created)) => picks.push(Pick {
                    session: *id,
                    created,
                    freed: self.index.freed(*id, self.rules.limits.measure, taken),
                    because: Because::Failed {
                        since,
                        failed_retention: self.rules.lifecycle.failed_retention.unwrap_or_default(),
                    },
                }),
                (Some(hold), _) => retry = sooner(retry, hold.until),
                (None, None) => {}
            }
        }
        (picks, retry)
    }

    /// A session whose time is over, and how long ago it failed.
    fn retires_now(&self, id: SessionId, now: Now) -> Option<(&Session, Duration)> {
        let session = self.index.session(id)?;
        let is_removable = session.standing == Standing::Removable;
        let (at, step) = self.next_step(id)?;
        if step != Step::Retire || at > now.wall || !is_removable || !self.in_group(session) {
            return None;
        }
        let since = Lifecycle::failed_since(&self.condition(id, session)?)?;
        Some((session, age(since, now.wall)))
    }

    /// When the next step is due by itself.
    pub(super) fn life_due(&self, now: Now) -> Option<Tick> {
        if !self.may_live(now) {
            return None;
        }
        let deeds = self
            .may_begin(now)
            .then(|| self.living.back_off.unwrap_or(now.tick));
        // Else the next answer makes room.
        let has_room = self.living.n_finding < MAX_FINDING;
        let waiting = self.living.queue.first().filter(|_| has_room);
        let waits = waiting.map(|(at, _)| {
            let left = (*at - now.wall).to_std().unwrap_or(Duration::ZERO);
            now.tick.after(left)
        });
        deeds.into_iter().chain(waits).min()
    }
}

fn later(now: Now, pause: Duration) -> Time {
    let pause = TimeDelta::from_std(pause).unwrap_or_default();
    now.wall.checked_add_signed(pause).unwrap_or(now.wall)
}
