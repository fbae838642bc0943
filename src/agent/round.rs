//! One engine at work on a root that is at its path: hints, then orders, then answers, then sleep.
//!
//! Hints come first, a batch at a time, so that a writer that never rests keeps nobody from
//! their turn. Nothing here waits for another thread.

use crate::agent::apart::CookieAt;
use crate::agent::barrier::{Answer, Barrier, Ground, Step};
use crate::agent::bell::Sleeper;
use crate::agent::crowd::{Crowd, NAP};
use crate::agent::mailbox::Inbox;
use crate::agent::published::{View, Watching};
use crate::agent::root::{Keeper, Order, rules};
use crate::agent::shell::Shell;
use crate::agent::watching::{self, Chosen};
use crate::disk::tree::{CONTROL, Tree};
use crate::engine::{Command, Input};
use crate::model::hint::Hint;
use crate::model::time::Now;
use crate::model::watcher::{Backend, Watch};
use crate::policy::flow::Flow;
use crate::policy::pace::gathering;
use crate::sched::{Class, Governor, Turn};
use crate::watch::Attend;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Answers handled before hints are looked for again.
const ANSWERS_A_TURN: usize = 4;
/// So long a source may go on to have more before a passed limit is believed all the same: under
/// a storm without an end the limit has to hold, too.
const CONFIRM_WITHIN: Duration = Duration::from_millis(2);
/// A reader on the same core gets so much time to hand over what it has.
const READERS_TURN: Duration = Duration::from_micros(50);
/// The longest sleep; the guard wakes before.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// While nothing ends, what is published is at most this old.
const PUBLISH: Duration = Duration::from_millis(50);
/// Reactions that the percentiles are made from.
const N_REACTIONS: usize = 4096;

/// Why a round ended.
pub(super) enum Ended {
    Stopped,
    Moved,
}

pub(super) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Realtime => "realtime",
        Class::ShortSlice => "short-slice",
        Class::Normal => "normal",
    }
}

fn n_watches(chosen: &Chosen) -> usize {
    let watcher = chosen.source.watcher.as_ref();
    watcher.map_or(0, |watcher| watcher.n_watches())
}

/// One engine at work.
pub(super) struct Round<'a> {
    pub(super) keeper: &'a mut Keeper,
    pub(super) barrier: Barrier,
    pub(super) shell: Shell,
    pub(super) answers: Inbox<Input>,
    pub(super) tree: Arc<Tree>,
    pub(super) chosen: Chosen,
    pub(super) attend: Attend,
    pub(super) sleeper: Sleeper,
    pub(super) hints: Vec<Hint>,
    pub(super) governor: Governor,
    /// The thread entered its class.
    pub(super) hurries: bool,
    pub(super) view: View,
    pub(super) reactions: Vec<Duration>,
    pub(super) unpublished: bool,
    pub(super) published_at: Instant,
    pub(super) crowd: Crowd,
    /// So long what comes next may gather.
    pub(super) nap: Duration,
    pub(super) flow: Flow,
    /// The last drain took all that the source had when it began.
    pub(super) settled: bool,
}

impl Round<'_> {
    pub(super) fn run(&mut self) -> Ended {
        let now = self.shell.now();
        if self.chosen.backend == Backend::Poll {
            self.shell.input(now, Input::Command(Command::Poll));
        }
        self.shell.input(now, Input::Command(Command::Guard));
        self.shell.jobs.mounts();
        loop {
            self.keeper.pulse.beat();
            if self.shell.moved {
                // A burst that this cut short has removed something.
                self.shell.speak();
                return Ended::Moved;
            }
            self.attend_to_class();
            // Hints first; but a writer that never rests must not keep the rest from its turn.
            let confirming = self.shell.confirm_since;
            let mut busy = self.take_hints();
            if let Some(since) = confirming {
                busy |= self.confirm(since);
            } else if self.shell.confirm_since.is_some() {
                // A limit seems to be passed: what is left to hear decides, nothing else.
                continue;
            }
            self.shell.speak();
            match self.keeper.orders.try_take() {
                Some(Order::Stop) => {
                    let now = self.shell.now();
                    self.shell.input(now, Input::Command(Command::Stop));
                    self.shell.speak();
                    return Ended::Stopped;
                }
                Some(order) => {
                    self.obey(order);
                    busy = true;
                }
                None => {}
            }
            busy |= self.take_answers();
            busy |= self.mind_barrier();
            if busy {
                self.publish_in_time();
            } else {
                self.wait();
            }
        }
    }

    /// A first scan is bulk work, and no limit is held before its end: real time begins after it, and
    /// what it was made with goes.
    fn attend_to_class(&mut self) {
        let turn = if self.hurries {
            self.governor.attend()
        } else if self.shell.engine.is_scanned() {
            self.hurries = true;
            // An engine in real time would wait for what this locks.
            if !self.keeper.around.hurries.swap(true, Ordering::Relaxed) {
                give_memory_back();
            }
            Some(self.governor.begin())
        } else {
            None
        };
        if let Some(turn) = turn {
            self.note_turn(&turn);
        }
    }

    /// A limit seemed to be passed before the last drain began: that drain has told what happened
    /// before, unless the source has more.
    fn confirm(&mut self, since: Instant) -> bool {
        if !self.settled && since.elapsed() < CONFIRM_WITHIN {
            return false;
        }
        self.shell.confirm_since = None;
        let now = self.shell.now();
        self.shell.input(now, Input::Confirmed);
        true
    }

    /// Handles a batch of hints; `false`: there are none.
    fn take_hints(&mut self) -> bool {
        let engine = &self.shell.engine;
        let control = self.barrier.key();
        let known = |key| engine.knows(key) || control == Some(key);
        let drained = self.chosen.source.hints.drain(&known, &mut self.hints);
        self.settled = drained.settled;
        if drained.root_touched {
            self.shell.check_place();
        }
        if drained.only_others {
            self.nap = self.crowd.came(Instant::now(), NAP);
        }
        let Some(first_at) = drained.first_at else {
            // What only began matters with the next name.
            self.give_hints();
            if let Some(why) = drained.broken {
                self.degrade(&why);
            }
            return false;
        };
        self.unpublished = true;
        let now = self.shell.now();
        let since = now.tick.0.saturating_sub(first_at.elapsed());
        self.shell
            .engine
            .note_batch(crate::model::time::Tick(since));
        self.give_hints();
        let now = self.shell.now();
        self.shell.input(now, Input::Drained);
        let may_gather = gathering(self.shell.engine.room());
        self.nap = self.crowd.came(Instant::now(), may_gather);
        if let Some(why) = drained.broken {
            self.degrade(&why);
        }
        true
    }

    fn give_hints(&mut self) {
        if self.hints.is_empty() {
            return;
        }
        let now = self.shell.now();
        let mut hints = std::mem::take(&mut self.hints);
        for hint in hints.drain(..) {
            if self.is_for_barrier(&hint) {
                continue;
            }
            self.shell.input(now, Input::Hint(hint));
        }
        self.hints = hints;
    }

    /// Whether a hint is about `.housekeeper/`, which the engine knows nothing of.
    fn is_for_barrier(&mut self, hint: &Hint) -> bool {
        match hint {
            Hint::Entry { dir, path, name_at } if self.barrier.key() == Some(*dir) => {
                self.barrier.hear(&path[*name_at..])
            }
            Hint::Name(path) if self.barrier.at() == CookieAt::Root => self.barrier.hear(path),
            Hint::Name(path) => {
                let below = path.strip_prefix(CONTROL.as_bytes());
                let name = below.and_then(|below| below.strip_prefix(b"/"));
                name.is_some_and(|name| self.barrier.hear(name))
            }
            Hint::Begun { dir } | Hint::Ended { dir } => {
                self.barrier.at() == CookieAt::Control && self.barrier.key() == Some(*dir)
            }
            Hint::Lost => {
                self.barrier.lose();
                false
            }
            Hint::Entry { .. } | Hint::Unwatched { .. } | Hint::Inode(_) => false,
        }
    }

    /// Moves barriers on; `true`: something was done.
    fn mind_barrier(&mut self) -> bool {
        let answer = self.shell.jobs.take_cookie();
        if let Some(answer) = answer {
            self.barrier.answered(answer);
        }
        let now = self.shell.now();
        let engine = &self.shell.engine;
        let backend = self.chosen.backend;
        let ground = Ground {
            cookies: engine.rules().enforce && backend != Backend::Poll,
            ordered: backend != Backend::Notify,
            scanned: engine.is_scanned(),
            suspect: engine.is_suspect(),
            scan_begun: engine.scan_begun(),
        };
        let before = self.barrier.passed();
        let step = self.barrier.step(now.tick, ground);
        self.unpublished |= self.barrier.passed() != before;
        let at = self.barrier.at();
        match step {
            Step::Nothing => return answer.is_some(),
            Step::Watch => match at {
                CookieAt::Control => self.shell.jobs.watch_control(),
                // It is watched like every directory.
                CookieAt::Root => {
                    let watch = self.shell.engine.root_watch();
                    let answer = watch.map_or(Answer::Unable, Answer::Watched);
                    self.barrier.answered(answer);
                }
            },
            Step::Lay(name) => self.shell.jobs.lay(name, at),
            Step::Unwatch(watch) => self.end_watch(watch),
            Step::Scan => self.shell.input(now, Input::Command(Command::Rescan)),
            Step::Deaf(watch) => {
                self.end_watch(watch);
                self.degrade("it hears nothing");
            }
        }
        true
    }

    /// What was watched for a cookie alone is not any more.
    fn end_watch(&self, watch: Watch) {
        match self.barrier.at() {
            CookieAt::Control => self.shell.jobs.unwatch_control(watch),
            CookieAt::Root => {}
        }
    }

    /// The source gives no more hints: the next one takes over, and a scan finds what was
    /// missed between them.
    fn degrade(&mut self, why: &str) {
        let choice = self.chosen.after(why);
        let wake = self.keeper.bell.waker();
        self.chosen = watching::start(&choice, &self.tree, &wake, &self.attend);
        match self.keeper.bell.sleeper(self.chosen.source.hints.source()) {
            Ok(sleeper) => self.sleeper = sleeper,
            Err(error) => {
                tracing::error!(event = "root.failed", root = %self.keeper.name, error = %error, "a root's new source of hints cannot be waited for: it is begun anew");
                self.shell.moved = true;
            }
        }
        self.barrier.begin_anew();
        let to = self.chosen.backend;
        self.shell
            .jobs
            .watch_with(self.chosen.source.watcher.clone());
        self.keeper.tell_degraded(&self.chosen);
        let now = self.shell.now();
        if to == Backend::Poll {
            self.shell.input(now, Input::Command(Command::Poll));
        }
        self.shell.input(now, Input::Command(Command::NewSource));
    }

    fn obey(&mut self, order: Order) {
        let now = self.shell.now();
        self.shell.heed_pins(now);
        match order {
            Order::Engine(command) => self.shell.input(now, Input::Command(command)),
            Order::Settle(settled) => {
                let rules = rules(&settled.0, &settled.1);
                self.keeper.settle(*settled);
                let command = Command::SetRules(Box::new(rules));
                self.shell.input(now, Input::Command(command));
            }
            Order::Barrier(number) => {
                self.keeper.barrier = self.keeper.barrier.max(number);
                self.barrier.want(number);
            }
            Order::Restoring(name, answer) => {
                let command = Command::Restoring(name);
                self.shell.input(now, Input::Command(command));
                // Whoever waits no longer says that it stays.
                if answer.try_send(()).is_err() {
                    tracing::debug!("nobody waits for what comes back any more");
                }
            }
            Order::Outlook(sight, slot) => {
                let mut outlook = self.shell.engine.outlook(now, &sight);
                outlook.outset.growth = self.flow.growth(now.tick);
                // Nobody else fills it, so that nobody is waited for.
                if slot.set(outlook).is_err() {
                    tracing::debug!("an outlook was there already");
                }
            }
            // Done above, or taken by the loop itself.
            Order::Pins | Order::Stop => {}
        }
        self.unpublished = true;
    }

    fn take_answers(&mut self) -> bool {
        let mut any = false;
        for _ in 0..ANSWERS_A_TURN {
            let Some(input) = self.answers.try_take() else {
                break;
            };
            let now = self.shell.now();
            self.shell.input(now, input);
            any = true;
        }
        self.unpublished |= any;
        any
    }

    fn publish_in_time(&mut self) {
        if self.unpublished && self.published_at.elapsed() >= PUBLISH {
            let now = self.shell.now();
            self.publish(now);
        }
    }

    /// Publishes, then sleeps until something happens or is due.
    fn wait(&mut self) {
        let now = self.shell.now();
        if self.unpublished {
            self.publish(now);
        }
        let engine_due = self.shell.engine.wake_at(now);
        let due = engine_due.into_iter().chain(self.barrier.due()).min();
        let mut wait = due.map_or(LONGEST_SLEEP, |at| at.since(now.tick));
        if self.unpublished {
            wait = wait.min(PUBLISH);
        }
        if self.shell.confirm_since.is_some() {
            wait = wait.min(READERS_TURN);
        }
        self.keeper.pulse.rest();
        let nap = std::mem::take(&mut self.nap);
        if !nap.is_zero() {
            std::thread::sleep(nap.min(wait));
        }
        let deaf = self.chosen.source.hints.is_kept();
        // Whoever has something for this thread rings afterwards; what came in between is not
        // lost, the next sleep ends at once.
        let woken = self.sleeper.wait(deaf, wait);
        self.keeper.pulse.beat();
        if woken.mounts_changed {
            self.shell.check_place();
            self.shell.jobs.mounts();
        }
        // Nothing was said to the engine meanwhile: it is due when it was due.
        let Some(due_at) = engine_due else { return };
        let now = self.shell.now();
        if due_at <= now.tick {
            self.unpublished = true;
            self.shell.input(now, Input::Wake);
        }
    }

    fn note_turn(&mut self, turn: &Turn) {
        self.unpublished = true;
        match turn {
            Turn::SteppedDown { used, window } => {
                self.view.scheduling = "normal (busy)";
                tracing::warn!(
                    event = "scheduling.stepped_down",
                    root = %self.keeper.name,
                    used_ms = used.as_millis() as u64,
                    window_ms = window.as_millis() as u64,
                    "the engine's thread was busy for long: it runs with ordinary scheduling for a while"
                );
            }
            Turn::Entered(entered) => self.view.scheduling = class_name(entered.class),
        }
    }

    fn publish(&mut self, now: Now) {
        let figures = self.shell.engine.figures();
        let wall = |at: crate::model::time::Tick| {
            if at >= now.tick {
                now.wall + at.since(now.tick)
            } else {
                now.wall - now.tick.since(at)
            }
        };
        self.take_reactions();
        // What a first scan finds came at some time.
        if figures.scanned {
            let came = figures.bytes.saturating_add(figures.pruned_bytes);
            let n_came = figures.n_sessions + figures.pruned_sessions;
            self.flow.note(now.tick, came, n_came);
        }
        let view = &mut self.view;
        if view.figures.scan_ended != figures.scan_ended {
            view.n_scans += 1;
            view.scan_ended = figures.scan_ended.map(wall);
        }
        if view.figures.scan_next != figures.scan_next || view.scan_next.is_none() {
            view.scan_next = figures.scan_next.map(wall);
        }
        if view.backend != Some(self.chosen.backend) {
            view.backend = Some(self.chosen.backend);
            view.backend_why.clone_from(&self.chosen.why);
        }
        let wanted = figures.lock.as_ref().map(|wait| wait.since);
        if view.figures.lock.as_ref().map(|wait| wait.since) != wanted {
            view.lock_since = wanted.map(wall);
        }
        view.lock_lasts = wanted.map_or(Duration::ZERO, |since| now.tick.since(since));
        view.watching = match (figures.scanned, figures.suspect) {
            (false, _) => Watching::Starting,
            (true, true) => Watching::Suspect,
            (true, false) => Watching::Watching,
        };
        view.figures = figures;
        view.barrier = self.barrier.passed();
        self.keeper
            .watches
            .store(n_watches(&self.chosen), Ordering::Relaxed);
        self.published_at = Instant::now();
        self.unpublished = !self.keeper.published.put(&self.view);
    }

    fn take_reactions(&mut self) {
        if self.shell.reactions.is_empty() {
            return;
        }
        self.reactions.append(&mut self.shell.reactions);
        let excess = self.reactions.len().saturating_sub(N_REACTIONS);
        self.reactions.drain(..excess);
        let mut shuffled = self.reactions.clone();
        let last = shuffled.len() - 1;
        let mut at = |percent: usize| *shuffled.select_nth_unstable(last * percent / 100).1;
        self.view.reaction = Some((at(50), at(99)));
    }
}

/// What a first scan was made with lies in pieces between what stays of it, and would count as used
/// for ever.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate has malloc_trim")]
fn give_memory_back() {
    // SAFETY: it takes a number, and locks what it looks through.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_memory_back() {}
