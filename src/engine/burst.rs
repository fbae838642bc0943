//! A plan being carried out: the lock, the victims round by round, and what became of each.

use super::living::Phase as LifePhase;
use super::{Effect, Engine};
use crate::index::Dropped;
use crate::layout::spec::Kind;
use crate::model::bytes::Bytes;
use crate::model::fact::{Fact, Moment, Summary};
use crate::model::place::DirId;
use crate::model::plan::{Blocker, Body, Held, Rule, Victim};
use crate::model::report::{
    Aside, LockTrouble, LockTry, LockWait, Outcome, Removed, Report, Unlist,
};
use crate::model::session::{Key, SessionId};
use crate::model::time::{Now, Tick, Time};
use crate::policy::Draft;
use crate::policy::limits::Headroom;
use std::mem::discriminant;
use std::time::Duration;

/// Victims of one burst; the lock is held and hints wait no longer than for these.
const MAX_BURST: usize = 64;
/// Ids named in a summary.
const MAX_NAMED: usize = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// Over a limit by what was looked at one name after the other: what happened before is
    /// to be heard first.
    Confirming,
    /// The lock was asked for.
    Asked,
    /// So many victims are being removed.
    Removing {
        left: usize,
    },
}

/// What a burst did so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Burst {
    pub(super) before: Bytes,
    /// When its first plan was made.
    planned: Option<Time>,
    /// When the first hint of what made it necessary came in.
    since: Option<Tick>,
    /// A round was too short for what it began: the next one goes on down to the goal.
    pub(super) unfinished: bool,
    /// How often hints had been lost when it was decided to begin.
    n_losses: u64,
    freed: Bytes,
    n_deleted: u64,
    n_this_round: u64,
    /// A victim was not as the index has it: its bytes are not known before the looks are in.
    pub(super) unsure: bool,
    /// Some victim of this round was passed over for a reason of its own: others may go.
    pub(super) passed_over: bool,
    /// Victims that the kernel does not permit to go.
    pub(super) n_refused: u64,
    /// What one victim was refused for may be said of all: the rest of them wait, too.
    pub(super) halted: Option<Held>,
    deleted: Vec<Key>,
    pub(super) unlist: Vec<Key>,
}

impl Burst {
    /// Nothing is done yet. `before`: what is used; `n_losses`: how often hints were lost;
    /// `since`: when the hint came in that it goes back to.
    pub(super) fn begun(before: Bytes, n_losses: u64, since: Option<Tick>) -> Self {
        Self {
            before,
            since,
            n_losses,
            ..Self::default()
        }
    }

    /// Whether the next oldest may do better. Where the kernel refuses one for any reason but that
    /// this one may not go, or does not permit many, it would refuse all: that is tried
    /// again later.
    fn may_go_on(&self) -> bool {
        (self.n_this_round > 0 || self.passed_over) && !self.unsure && self.halted.is_none()
    }
}

impl Engine {
    /// The lock is wanted for a burst: it may be held, or asked for, already.
    pub(super) fn ask_for_lock(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.deciding.phase = Phase::Asked;
        self.deciding.burst.before = self.usage().bytes;
        self.deciding.burst.planned = Some(now.wall);
        match self.living.phase() {
            LifePhase::Idle => out.push(Effect::Lock),
            // The answer is for both.
            LifePhase::Asked => {}
            LifePhase::Working { .. } => self.next_round(now, out),
        }
    }

    /// The answer to a try for the lock. The plan is made under it.
    pub(super) fn locked(&mut self, now: Now, answer: LockTry, out: &mut Vec<Effect>) {
        let is_wanted = self.deciding.phase == Phase::Asked;
        let is_wanted_for_life = self.living.phase() == LifePhase::Asked;
        if !is_wanted && !is_wanted_for_life {
            return;
        }
        let trouble = match answer {
            LockTry::Taken => None,
            LockTry::TakenStale(holder) => {
                out.push(Effect::Tell(Fact::LockStale {
                    holder: Some(holder),
                }));
                None
            }
            LockTry::Busy(holder) => Some(LockTrouble::Busy(holder)),
            LockTry::Failed { operation, errno } => Some(LockTrouble::Failed { operation, errno }),
        };
        if let Some(trouble) = trouble {
            return self.lock_refused(now, trouble, out);
        }
        self.deciding.busy_told = false;
        self.deciding.lock = None;
        // First: a burst that ends at once must know whether the lock is needed still.
        if is_wanted_for_life {
            self.next_deeds(now, out);
        }
        if is_wanted {
            self.next_round(now, out);
        }
    }

    fn lock_refused(&mut self, now: Now, trouble: LockTrouble, out: &mut Vec<Effect>) {
        self.living.lock_refused(now.tick);
        if self.deciding.phase == Phase::Asked {
            self.deciding.phase = Phase::Idle;
            self.deciding.unsure.clear();
            match &trouble {
                LockTrouble::Busy(_) => {
                    self.deciding.back_off = Some(now.tick.after(BUSY_PAUSE));
                }
                LockTrouble::Failed { .. } => self.deciding.back_off(now.tick, None),
            }
            self.lock_wanted(now, trouble.clone());
        }
        if !std::mem::replace(&mut self.deciding.busy_told, true) {
            out.push(Effect::Tell(match trouble {
                LockTrouble::Busy(holder) => Fact::LockBusy { holder },
                LockTrouble::Failed { operation, errno } => Fact::LockFailed { operation, errno },
            }));
        }
    }

    /// Keeps why the lock cannot be had, and since when that has been so.
    fn lock_wanted(&mut self, now: Now, trouble: LockTrouble) {
        let same = |wait: &&LockWait| discriminant(&wait.trouble) == discriminant(&trouble);
        let before = self.deciding.lock.as_ref().filter(same);
        let since = before.map_or(now.tick, |wait| wait.since);
        self.deciding.lock = Some(LockWait { trouble, since });
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
        self.deciding.burst.unfinished = draft.more && draft.sizing;
        if self.deciding.burst.n_deleted == 0 && !self.deciding.checked {
            self.deciding.checked = true;
            out.push(Effect::Tell(Fact::PruneStarted {
                usage: self.deciding.burst.before,
                limit: self.rules.limits.max_size,
                n_victims: victims.len() as u64,
            }));
        }
        let retires = |victim: &&Victim| victim.because.rule() == Rule::Failed;
        // When they are planned: steps of others are begun meanwhile.
        victims
            .iter()
            .filter(retires)
            .for_each(|_| self.living.count());
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
        // What came since it was decided to begin is the next decision's, and that may be now.
        let is_met = !self.is_over(now);
        self.deciding.unsure.clear();
        self.deciding.checked = false;
        if self.living.phase() == LifePhase::Idle {
            out.push(Effect::Unlock);
        }
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
        if is_met || !self.is_over(now) {
            self.deciding.forget_unmet();
            self.deciding.forget_back_off();
            return;
        }
        let mut draft = draft.unwrap_or_else(|| self.draft(now, MAX_BURST));
        if let Some(held) = burst.halted {
            // Nothing speaks against them but what speaks against all.
            draft.blocked.push((Blocker::Refused, held));
            let goal = limit.map_or(Bytes::ZERO, |limit| usage.bytes.saturating_sub(limit));
            draft.still_over = draft.still_over.max(goal);
            draft.still_too_many = draft.still_too_many.max(u64::from(goal == Bytes::ZERO));
        }
        self.deciding.back_off(now.tick, draft.retry);
        if self.is_unlisting() {
            // The catalogue is about to shrink: what is still over is known after that.
            return;
        }
        // A limit that is not passed yet is met, though nothing may go ahead of it.
        let limits = &self.rules.limits;
        let is_ahead = limits.headroom == Headroom::Auto && !limits.is_over(usage.bytes);
        let unmet = (draft.still_over > Bytes::ZERO && !is_ahead) || draft.still_too_many > 0;
        self.deciding.still_over = draft.still_over;
        self.deciding.blocked.clone_from(&draft.blocked);
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
        let stays = matches!(outcome, Outcome::Gone | Outcome::Skipped(_));
        if stays && victim.because.rule() == Rule::Failed {
            self.living.give_back(self.rules.lifecycle.batch);
        }
        match outcome {
            Outcome::Aside(aside) => {
                if let Some(since) = self.deciding.burst.since {
                    self.pace.reacted(now.tick.since(since));
                }
                self.note_leaving(&victim);
                let since = self.deciding.burst.since;
                self.tell_deleted(now, &victim, since, out);
                if matches!(victim.body, Body::Blobs { .. }) {
                    self.deciding.burst.unlist.push(victim.key.clone());
                }
                // The first name stands for the bytes of all: they leave together.
                if let [Aside::Kept(name)] = &aside[..] {
                    self.note_kept(name.clone(), victim.freed);
                } else if let Some(first) = aside.first() {
                    let deciding = &mut self.deciding;
                    deciding.trash.insert(first.name().0.clone(), victim.freed);
                    deciding.trash_bytes = deciding.trash_bytes.saturating_add(victim.freed);
                }
                let home = self.home_of(victim.session);
                let dropped = self.drop_victim(&victim, out);
                self.release(&dropped, out);
                let is_beside = self.note_beside(home, &aside, out);
                out.push(match &aside[..] {
                    [Aside::Kept(_)] => Effect::Unwatch(dropped.watches),
                    _ => Effect::Reap {
                        aside,
                        watches: dropped.watches,
                    },
                });
                if !is_beside {
                    self.leave_empty(home, out);
                }
            }
            Outcome::InPlace => {
                // Told when it is known whether it went.
                self.note_leaving(&victim);
                self.deciding.leaving.insert(victim.session, victim.freed);
                let going = (victim.clone(), self.deciding.burst.since);
                self.deciding.in_place.insert(victim.key.clone(), going);
                out.push(Effect::RemoveInPlace(Box::new(victim)));
            }
            Outcome::Gone => {
                self.deciding.burst.unsure = true;
                self.look_at_session(victim.session, out);
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

    /// The directory that a session lies in.
    fn home_of(&self, session: SessionId) -> Option<DirId> {
        let is_files = self.index.session(session)?.is_files();
        let dir = self.index.session_dir(session)?;
        if is_files {
            Some(dir)
        } else {
            self.index.parent(dir)
        }
    }

    /// A directory that held only sessions may go with the last of them.
    pub(super) fn leave_empty(&self, home: Option<DirId>, out: &mut Vec<Effect>) {
        let home = home.filter(|_| self.rules.layout.spec().remove_empty_parents);
        let Some(home) = home.filter(|home| self.index.is_empty(*home)) else {
            return;
        };
        if let Some(path) = self.index.path(home).filter(|path| !path.is_root()) {
            out.push(Effect::RemoveEmpty(path));
        }
    }

    /// Takes a victim out of the index. Its names count as looked at: a walk may have seen
    /// them before.
    fn drop_victim(&mut self, victim: &Victim, out: &mut Vec<Effect>) -> Dropped {
        match &victim.body {
            Body::Tree { .. } => {
                let dir = self.index.session_dir(victim.session);
                if let Some((dir, parent)) = dir.and_then(|d| Some((d, self.index.parent(d)?))) {
                    let name: Box<[u8]> = self.index.dir_name(dir).into();
                    self.note_recent(parent, &name, out);
                }
                self.places.forget_below(|| Some(victim.path.clone()));
            }
            Body::Files { names, .. } | Body::Blobs { blobs: names, .. } => {
                let home = self.index.session_dir(victim.session);
                for (name, _) in names {
                    if let Some(home) = home {
                        self.note_recent(home, name, out);
                    }
                    self.places.forget_below(|| victim.path.join(name).ok());
                }
            }
        }
        self.index.drop_session(victim.session)
    }

    /// How the root is now, and which plan is carried out.
    pub fn moment(&self) -> Moment {
        Moment {
            planned: self.deciding.burst.planned,
            usage: self.usage().bytes,
            limit: self.rules.limits.max_size,
        }
    }

    /// The burst got rid of one.
    fn note_leaving(&mut self, victim: &Victim) {
        let burst = &mut self.deciding.burst;
        burst.n_deleted += 1;
        burst.n_this_round += 1;
        burst.freed = burst.freed.saturating_add(victim.freed);
        if burst.deleted.len() < MAX_NAMED {
            burst.deleted.push(victim.key.clone());
        }
    }

    /// `since`: when the hint came in that it goes back to.
    fn tell_deleted(
        &mut self,
        now: Now,
        victim: &Victim,
        since: Option<Tick>,
        out: &mut Vec<Effect>,
    ) {
        let moment = self.moment();
        let deciding = &mut self.deciding;
        deciding.pruned_sessions += 1;
        deciding.pruned_bytes = deciding.pruned_bytes.saturating_add(victim.freed);
        out.push(Effect::Tell(Fact::PruneDeleted {
            key: victim.key.clone(),
            path: victim.shown_path(),
            freed: victim.freed,
            created: victim.created,
            because: victim.because,
            reaction: since.map(|since| now.tick.since(since)),
            moment,
        }));
    }

    /// What an earlier run set aside and did not remove: it takes space as what goes now does.
    pub(super) fn found_aside(&mut self, asides: Vec<(Aside, Bytes)>, out: &mut Vec<Effect>) {
        for (aside, bytes) in asides {
            let deciding = &mut self.deciding;
            deciding.trash.insert(aside.name().0.clone(), bytes);
            deciding.trash_bytes = deciding.trash_bytes.saturating_add(bytes);
            out.push(Effect::Reap {
                aside: vec![aside],
                watches: Vec::new(),
            });
        }
        self.note_peak();
    }

    /// A removal that ran beside the engine ended.
    pub(super) fn removed(&mut self, now: Now, removed: Removed, out: &mut Vec<Effect>) {
        match removed {
            Removed::Trash { aside, left, .. } => {
                let bytes = self.deciding.trash.remove(&aside.name().0);
                let bytes = bytes.unwrap_or(Bytes::ZERO);
                self.deciding.trash_bytes = self.deciding.trash_bytes.saturating_sub(bytes);
                match &aside {
                    Aside::Kept(name) if !left.is_empty() => self.keep_on(now, name.clone(), bytes),
                    Aside::Kept(_) | Aside::Trash(_) | Aside::Beside(..) => {}
                }
                self.beside_removed(&aside, out);
                if !left.is_empty() {
                    out.push(Effect::Tell(Fact::TrashLeft { left }));
                }
            }
            Removed::InPlace { key, left } => {
                let is_whole = left.is_empty();
                let going = self.deciding.in_place.remove(&key);
                if let Some((victim, since)) = going.as_ref().filter(|_| is_whole) {
                    self.tell_deleted(now, victim, *since, out);
                }
                let victim = going.as_ref().map(|(victim, _)| victim);
                if let Some(id) = self.index.session_by_key(&key) {
                    self.left_in_place(now, id, victim, &left, out);
                }
                // What is still there keeps its entry: without it nobody knows whose it is.
                if is_whole && self.rules.layout.kind() == Kind::Catalog {
                    self.unlist(vec![key], out);
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
}
