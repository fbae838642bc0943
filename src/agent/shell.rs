//! Carries out an engine's effects, in order, on the engine's own thread.
//!
//! Looks, removals and the first small read of a session happen here and now; scans, all other
//! reads and what costs time go to [`Jobs`].
//! What is to be told waits until the work at hand is done: nothing that can wait stands
//! between a hint and the rename.

mod locking;

use crate::agent::apart::CookieAt;
use crate::agent::audit::Hear;
use crate::agent::documents;
use crate::agent::halt::Halt;
use crate::agent::jobs::Jobs;
use crate::agent::leftovers::{self, Leftovers, Stranded};
use crate::agent::pulse::Pulse;
use crate::agent::teller::Mouth;
use crate::disk::foreign_lock::ForeignLock;
use crate::disk::looker::Looker;
use crate::disk::open_files::OpenFiles;
use crate::disk::records::RecordDir;
use crate::disk::removed::RemovedIds;
use crate::disk::tree::Tree;
use crate::engine::{Command, Effect, Engine, Input, ReadOrder};
use crate::layout::LockAt;
use crate::layout::spec::Kind;
use crate::model::disk::Records;
use crate::model::fact::Fact;
use crate::model::lifecycle::{LifeOrder, LifeOutcome, LifeReport};
use crate::model::listing::{ScanOrder, Walked};
use crate::model::path::RelPath;
use crate::model::place::{Look, Why};
use crate::model::plan::{Body, Victim};
use crate::model::report::{Aside, LockTry, Outcome, Removed, Report, Skip};
use crate::model::seen::Seen;
use crate::model::session::Key;
use crate::model::time::{Clock, Now};
use crate::prune::executor::Executor;
use crate::prune::intent::Intent;
use crate::prune::lock::{self, RootLock};
use crate::prune::warrant::Law;
use crate::store::pin_file::PinFile;
use crate::store::state::RootState;
use rustix::fd::OwnedFd;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where facts go.
#[derive(Debug)]
pub enum Ear {
    Teller(Mouth),
    /// Kept for the caller, as a one-shot command does. From when it has the root's lock each is
    /// heard at once as well: nobody knows whether the caller lives to its end.
    List {
        facts: Vec<Fact>,
        hear: Option<Hear>,
    },
}

/// One root's hands.
pub struct Shell {
    pub engine: Engine,
    pub jobs: Jobs,
    pub ear: Ear,
    tree: Arc<Tree>,
    looker: Looker,
    executor: Executor<Arc<Tree>, Arc<RecordDir>>,
    records: Arc<RecordDir>,
    removed: Option<RemovedIds>,
    state: Option<RootState>,
    lock: RootLock,
    pins: PinFile,
    /// Where the lock lies instead of `.housekeeper/`.
    corner: Option<OwnedFd>,
    /// Another program's lock, held as long as ours.
    foreign: Option<ForeignLock>,
    /// The lock is held from before the scan to the last rename: the engine's own wishes to
    /// take it and to let go of it are met already.
    lock_kept: bool,
    /// It was, and may be no more.
    pub was_locked: bool,
    clock: Arc<dyn Clock>,
    queue: VecDeque<Effect>,
    out: Vec<Effect>,
    told: Vec<Fact>,
    intents: HashMap<Key, (String, Intent)>,
    /// Reactions since they were last taken.
    pub reactions: Vec<Duration>,
    /// The root is not at its path any more.
    pub moved: bool,
    /// It was there when the lock was taken just now, and the next removal need not ask again.
    is_placed: bool,
    /// Hints come in beside: what is confirmed waits for them.
    pub hears: bool,
    /// Since when the engine waits for [`Input::Confirmed`].
    pub confirm_since: Option<Instant>,
    /// Leftovers that stay and were not told of yet.
    stranded: Stranded,
    /// That the root passed its first start is not written down yet.
    is_unremembered: bool,
    /// Somebody wants the thread to end: nothing more is removed.
    pub stop: Halt,
    /// Of the thread that all this is done on.
    pub(super) pulse: Arc<Pulse>,
    /// Since when sessions have been read here for the input at hand.
    reads_since: Option<Instant>,
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell")
            .field("tree", &self.tree)
            .finish_non_exhaustive()
    }
}

/// What a shell works with on its root.
#[derive(Debug)]
pub struct Tools {
    pub tree: Arc<Tree>,
    pub records: Arc<RecordDir>,
    /// Ids taken out of the catalogue; `None` where there is no catalogue.
    pub removed: Option<RemovedIds>,
    /// `None`: nothing is remembered (read-only commands).
    pub state: Option<RootState>,
    pub lock: RootLock,
    pub pins: PinFile,
    /// Where the lock lies instead of `.housekeeper/`.
    pub corner: Option<OwnedFd>,
}

/// So long first reads of one input may take here: a disk may be slow, and many may come at once.
const READS_HERE: Duration = Duration::from_millis(2);
/// Most reactions kept between two looks at them.
const MAX_REACTIONS: usize = 4096;

impl Shell {
    pub fn new(engine: Engine, tools: Tools, jobs: Jobs, clock: Arc<dyn Clock>, ear: Ear) -> Self {
        let Tools {
            tree,
            records,
            removed,
            state,
            lock,
            mut pins,
            corner,
        } = tools;
        let may_be_apart =
            engine.rules().layout.kind() == Kind::Files && lock::is_local(tree.root());
        Self {
            engine: engine.with_pins(pins.load()),
            jobs,
            ear,
            looker: Looker::new(tree.clone()),
            executor: Executor::new(tree.clone(), records.clone())
                .with_origins(Arc::new(RecordDir::origins(tree.clone()))),
            tree,
            records,
            removed,
            state,
            // Whoever has another state directory is not met in it. Nor is one whose rules let him
            // keep his lock apart from a root that has `.housekeeper/` by now.
            lock: if may_be_apart { lock.apart() } else { lock },
            pins,
            corner,
            foreign: None,
            lock_kept: false,
            was_locked: false,
            clock,
            queue: VecDeque::new(),
            out: Vec::new(),
            told: Vec::new(),
            intents: HashMap::new(),
            reactions: Vec::new(),
            moved: false,
            is_placed: false,
            hears: false,
            confirm_since: None,
            stranded: Stranded::default(),
            is_unremembered: false,
            stop: Halt::default(),
            pulse: Arc::default(),
            reads_since: None,
        }
    }

    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Gives the engine one input and does all that follows from it.
    pub fn input(&mut self, now: Now, input: Input) {
        if let Input::Removed(removed) = &input {
            self.finish_intents(removed);
        }
        let is_removed = matches!(input, Input::Removed(_));
        self.reads_since = None;
        self.handle(now, input);
        if is_removed {
            self.mind_trash();
        }
        self.carry_out_all(now);
    }

    fn carry_out_all(&mut self, now: Now) {
        while let Some(effect) = self.queue.pop_front() {
            self.carry_out(now, effect);
        }
    }

    /// Does what follows from pins that came or went, between two inputs.
    pub fn heed_pins(&mut self, now: Now) {
        self.mind_pins(now);
        self.carry_out_all(now);
    }

    fn mind_trash(&mut self) {
        let hurries = self.engine.trash_presses(self.jobs.hurries());
        self.jobs.hurry(hurries);
    }

    /// Where cookies are to be laid.
    pub(super) fn cookies(&self) -> CookieAt {
        match self.corner {
            Some(_) => CookieAt::Root,
            None => CookieAt::Control,
        }
    }

    /// Tells what waits to be told.
    pub fn speak(&mut self) {
        if self.told.is_empty() {
            return;
        }
        let is_news = |fact: &Fact| matches!(fact, Fact::PruneSummary(_) | Fact::ScanDone { .. });
        if self.is_unremembered && self.told.iter().any(is_news) {
            self.remember();
        }
        let (at, moment) = (self.clock.now().wall, self.engine.moment());
        for fact in self.told.drain(..) {
            match &mut self.ear {
                Ear::Teller(mouth) => mouth.tell(at, moment, fact),
                Ear::List { facts, hear } => {
                    if let Some(hear) = hear.as_ref().filter(|_| self.was_locked) {
                        (hear.0)(&fact, at, moment);
                    }
                    facts.push(fact);
                }
            }
        }
    }

    fn handle(&mut self, now: Now, input: Input) {
        self.engine.handle(now, input, &mut self.out);
        self.queue.extend(self.out.drain(..));
    }

    /// What follows from this goes before all that waits: a look that could not be answered is
    /// still owed, and nothing may be decided without it.
    fn handle_first(&mut self, now: Now, input: Input) {
        self.engine.handle(now, input, &mut self.out);
        for effect in self.out.drain(..).rev() {
            self.queue.push_front(effect);
        }
    }

    fn carry_out(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Look(look) => self.look(now, look),
            Effect::Forget(slot) => self.looker.forget(slot),
            Effect::Unwatch(watches) => self.jobs.unwatch(watches),
            Effect::Scan(order) => self.scan(now, order),
            Effect::Read(order) => self.read(now, order),
            Effect::Confirm if self.hears => self.confirm_since = Some(Instant::now()),
            // Nobody tells anything here: what was looked at is all there is to know.
            Effect::Confirm => self.handle(now, Input::Confirmed),
            Effect::Lock => {
                let answer = if self.lock_kept {
                    LockTry::Taken
                } else {
                    self.take_lock(now)
                };
                self.handle(now, Input::Lock(answer));
            }
            Effect::Unlock if self.lock_kept => {}
            Effect::Unlock => self.release_lock(),
            Effect::Remove(victim) => self.remove(victim),
            Effect::Reap { aside, watches } => {
                self.jobs.reap(aside, watches);
                self.mind_trash();
            }
            Effect::LetGo(kept) => {
                let kept = kept.into_iter().map(Aside::Kept).collect();
                self.jobs.reap(kept, Vec::new());
                self.mind_trash();
            }
            Effect::FinishAsides { asides, more } => self.finish_asides(now, asides, more),
            Effect::RemoveInPlace(victim) => {
                if let Some((_, intent)) = self.intents.get(&victim.key) {
                    self.jobs.remove_in_place(intent.clone());
                }
            }
            Effect::RemoveEmpty(dir) => self.jobs.remove_empty(dir),
            Effect::Unlist(keys) => {
                self.note_removed(&keys);
                self.jobs.unlist(keys);
            }
            Effect::FindParts(order) => {
                self.jobs
                    .find_parts(order, self.engine.rules().lifecycle.clone());
            }
            Effect::Live(order) => self.live(*order),
            Effect::Follow { dir, name, id } => {
                if let Some(dir) = self.engine.index().path(dir) {
                    self.jobs.follow(dir, name, id);
                }
            }
            Effect::Measure => {
                let used = self.tree.used();
                self.handle(now, Input::Measured(used));
            }
            Effect::CheckPlace => self.check_place(),
            Effect::Remember => self.remember(),
            Effect::KeepAnomalies => {
                if let Some(state) = &self.state {
                    let known = self.engine.known_anomalies();
                    self.jobs.keep_anomalies(state.clone(), known);
                }
            }
            Effect::Tell(fact) => self.note(fact),
        }
    }

    /// A small directory is listed here and now; walks are for other threads.
    fn scan(&mut self, now: Now, order: ScanOrder) {
        if order.at.is_root() {
            self.check_place();
            return self.jobs.scan(order);
        }
        let Some(brief) = self.jobs.list_briefly(&order) else {
            return self.jobs.scan(order);
        };
        let mut walked = vec![Walked::Chunk(brief.listing)];
        if brief.more {
            self.jobs.scan(order);
        } else {
            walked.push(Walked::End { scan: order.id });
        }
        self.handle(now, Input::Walked(walked));
    }

    /// What a decision waits for is read here and now, for [`READS_HERE`] of each input; all else by
    /// other threads.
    fn read(&mut self, now: Now, order: ReadOrder) {
        let layout = &self.engine.rules().layout;
        let is_in_time = order.at_once
            && self.reads_since.get_or_insert_with(Instant::now).elapsed() < READS_HERE;
        let read = is_in_time
            .then(|| documents::read_at_once(&self.tree, layout, &*self.clock, &order))
            .flatten();
        match read {
            Some(read) => self.handle(now, read),
            None => self.jobs.read(order),
        }
    }

    fn note(&mut self, fact: Fact) {
        if let Fact::PruneDeleted {
            reaction: Some(reaction),
            ..
        } = &fact
            && self.reactions.len() < MAX_REACTIONS
        {
            self.reactions.push(*reaction);
        }
        self.told.push(fact);
    }

    fn look(&mut self, now: Now, look: Look) {
        let index = self.engine.index();
        if !index.has_dir(look.dir) {
            return self.handle(now, Input::Looked(look, Seen::Gone));
        }
        let path = || index.path(look.dir).unwrap_or_else(RelPath::root);
        let (slot, dir_ino) = (look.dir.slot, index.dir_ino(look.dir).unwrap_or(0));
        let Some(seen) = self.looker.look(slot, dir_ino, path, look.name()) else {
            return self.handle_first(now, Input::Astray(look));
        };
        // A file made without a name (O_TMPFILE) is `#<inode>` to the kernel's events for as
        // long as it is open, also when it has got a name.
        let unnamed = unnamed(look.name()).filter(|_| seen == Seen::Gone && look.why == Why::Hint);
        let named = unnamed.and_then(|ino| {
            let worth = || index.has_ino(look.dir, ino);
            self.looker.name_of(slot, dir_ino, path, ino, worth)
        });
        let again = named.and_then(|name| {
            let again = Look::new(look.dir, &name, look.why);
            let seen = self.looker.look(slot, dir_ino, path, &name)?;
            Some((again, seen))
        });
        self.handle(now, Input::Looked(look, seen));
        if let Some((again, seen)) = again {
            self.handle(now, Input::Looked(again, seen));
        }
    }

    /// Tells the engine of pins that came or went, whoever wrote them.
    fn mind_pins(&mut self, now: Now) {
        if let Some(pins) = self.pins.changed() {
            self.handle(now, Input::Command(Command::SetPins(pins)));
        }
    }

    fn finish_beside(&mut self, leftovers: Leftovers) {
        let Leftovers {
            trash,
            unlist,
            told,
        } = leftovers;
        self.told.extend(told);
        self.jobs.found(trash, self.engine.rules().limits.measure);
        if !unlist.is_empty() {
            self.note_removed(&unlist);
            self.jobs.unlist(unlist);
        }
    }

    fn remove(&mut self, victim: Box<Victim>) {
        // Many victims take time: each is judged at its own moment, and the lock stays ours.
        self.pulse.beat();
        let now = self.clock.now();
        let locks = self.locks_of(&victim);
        if self.stop.is_due() {
            self.handle(now, Input::Command(Command::Stop));
        }
        self.mind_pins(now);
        let foreign = self.foreign.as_mut().map(|foreign| foreign.touch(now));
        let is_placed = std::mem::take(&mut self.is_placed) || self.is_at_its_path();
        let outcome = match self.lock.touch(now.tick) {
            _ if self.stop.is_due() || self.engine.is_halted() => Outcome::Skipped(Skip::Stopping),
            _ if !is_placed => Outcome::Skipped(Skip::RootMoved),
            Ok(()) if matches!(foreign, Some(Err(_))) => Outcome::Skipped(Skip::Refused {
                operation: "touch the other program's lock",
                errno: libc::ESTALE,
            }),
            Ok(()) if self.engine.keeps(&victim.key) => Outcome::Skipped(Skip::Pinned),
            Ok(()) if self.is_open(&victim) => Outcome::Skipped(Skip::Open),
            Err(error) => Outcome::Skipped(Skip::Refused {
                operation: "touch the lock",
                errno: error.raw_os_error().unwrap_or(libc::EIO),
            }),
            Ok(()) => {
                let quiet = self.engine.rules().protect.quiet;
                if self.engine.keeps_aside(&victim) {
                    self.executor.keep(&victim, now, quiet, &locks)
                } else {
                    self.executor.remove(&victim, now, quiet, &locks)
                }
            }
        };
        if let Some((name, intent)) = self.executor.take_intent()
            && let Some((before, _)) = self.intents.insert(intent.key.clone(), (name, intent))
        {
            self.discard(&before);
        }
        let now = self.clock.now();
        self.handle(
            now,
            Input::Report(Box::new(Report {
                victim: *victim,
                outcome,
            })),
        );
    }

    /// Removes what a killed run left beside its place, as far as that is lawful.
    fn finish_asides(&mut self, now: Now, asides: Vec<Aside>, more: bool) {
        let is_held = self.lock_kept || self.lock.is_held();
        if !is_held && !matches!(self.take_lock(now), LockTry::Taken | LockTry::TakenStale(_)) {
            return;
        }
        let pins = self.pins.clone().load();
        let rules = self.engine.rules();
        let law = Law {
            layout: &rules.layout,
            protect: &rules.protect,
            pins: &pins,
            catalogue: None,
        };
        let granted = leftovers::lawful(&self.tree, &law, asides, now, &mut self.stranded);
        if !more {
            std::mem::take(&mut self.stranded).tell();
        }
        if !is_held {
            self.release_lock();
        }
        self.jobs.reap(granted, Vec::new());
    }

    /// Hands a step of a session's life to the threads beside, if the lock is ours still.
    fn live(&mut self, order: LifeOrder) {
        let now = self.clock.now();
        self.mind_pins(now);
        // A burst that joins in later asks for itself.
        self.is_placed = false;
        let refusal = match self.lock.touch(now.tick) {
            _ if self.stop.is_due() => Skip::Stopping,
            _ if !self.is_at_its_path() => Skip::RootMoved,
            _ if self.engine.keeps(&order.transition.key) => Skip::Pinned,
            Err(error) => Skip::Refused {
                operation: "touch the lock",
                errno: error.raw_os_error().unwrap_or(libc::EIO),
            },
            Ok(()) => {
                let rules = self.engine.rules().lifecycle.clone();
                return self.jobs.live(order, rules);
            }
        };
        let report = LifeReport {
            transition: order.transition,
            outcome: LifeOutcome::Skipped(refusal),
        };
        self.handle(now, Input::Lived(Box::new(report)));
    }

    /// Whether another process has a file of a victim open, where that is asked for. What
    /// cannot be looked through counts as open.
    fn is_open(&self, victim: &Victim) -> bool {
        if !self.engine.rules().protect.open_files {
            return false;
        }
        let found = OpenFiles::look().and_then(|open| match &victim.body {
            Body::Tree { id, .. } => open.has_below(&self.tree, &victim.path, *id),
            Body::Files { names, .. } | Body::Blobs { blobs: names, .. } => {
                Ok(open.has_any(names.iter().map(|(_, id)| *id)))
            }
        });
        found.unwrap_or(true)
    }

    /// Looks whether the root still is at its path.
    pub fn check_place(&mut self) {
        self.is_at_its_path();
    }

    /// The same, asked before each removal: under another directory's name nothing is removed.
    fn is_at_its_path(&mut self) -> bool {
        let is = matches!(self.executor.in_place(), Ok(true));
        self.moved |= !is;
        is
    }

    /// Finishes, under the lock, what an earlier run left; not while another prunes: that one
    /// finishes it, or the next start.
    pub fn finish_leftovers(&mut self, finish: impl FnOnce(Now) -> Leftovers) {
        let now = self.now();
        match self.take_lock(now) {
            LockTry::Taken | LockTry::TakenStale(_) => {
                let leftovers = finish(now);
                self.release_lock();
                self.finish_beside(leftovers);
            }
            LockTry::Busy(_) | LockTry::Failed { .. } => {}
        }
    }

    fn locks_of(&self, victim: &Victim) -> Vec<LockAt> {
        self.engine.rules().layout.locks(&victim.key)
    }

    /// Discards the records of what is done now.
    fn finish_intents(&mut self, removed: &Removed) {
        let is_listed = self.engine.rules().layout.kind() == Kind::Catalog;
        let done: Vec<Key> = match removed {
            // A catalogue's entry is still to go.
            Removed::InPlace { key, left } if left.is_empty() && !is_listed => vec![key.clone()],
            // The ids are remembered among the removed ones: that is enough from here on.
            Removed::Unlisted { keys, .. } => keys.clone(),
            Removed::InPlace { .. } | Removed::Trash { .. } => return,
        };
        for key in done {
            if let Some((name, _)) = self.intents.remove(&key) {
                self.discard(&name);
            }
        }
    }

    fn discard(&self, record: &str) {
        if let Err(error) = self.records.discard(record) {
            // It is judged again at the next start.
            tracing::debug!(error = %error, "an intent record could not be discarded");
        }
    }

    fn note_removed(&mut self, keys: &[Key]) {
        let Some(removed) = &mut self.removed else {
            return;
        };
        let ids: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        if let Err(error) = removed.add(&ids) {
            tracing::warn!(
                event = "state.unwritten",
                error = %error,
                "ids taken out of a catalogue could not be written down"
            );
        }
    }

    fn remember(&mut self) {
        let Some(state) = &self.state else { return };
        let was_unwritten = self.is_unremembered;
        self.is_unremembered = match state.remember() {
            Ok(()) => false,
            Err(_) if was_unwritten => true,
            Err(error) => {
                tracing::warn!(
                    event = "state.unwritten",
                    error = %error,
                    "a root's first start could not be written down: the next start may hold it again; it is tried again when there may be room"
                );
                true
            }
        };
    }
}

/// The inode that an unnamed file's name in an event tells.
fn unnamed(name: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(b"#")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
