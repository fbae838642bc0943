//! The registry in a running agent: one thread that answers questions about registrations, one at a
//! time, and starts what is due. Runs are on threads of their own; no root's thread waits for any of
//! this.
//!
//! After every change the registrations are read anew, and what is wanted is compared with what is:
//! nothing is patched. Watched ones become roots of the agent, which hears of all that it is to have
//! by [`Wants`].
//!
//! Bounds: 256 orders wait; who asks then is refused, and a run that ends waits. 8 runs that somebody
//! asked for at once, and more are refused; of those that are due as many as the configuration says.
//! Each has the same timeout.

mod asked;
mod running;

use crate::agent::cleaning::{self, Means, Task, ground, is_dry, removes_nothing, root_on};
use crate::agent::halt::Halt;
use crate::agent::registrations::Ask;
use crate::agent::registry::asked::say;
use crate::agent::registry::running::{Ended, Running, notify, spawn};
use crate::agent::service::chain;
use crate::agent::teller::Teller;
use crate::clock::SystemClock;
use crate::config::settings::{Root, Settings};
use crate::model::cleanup::Cleanup;
use crate::model::time::{Clock, Now, Time, rfc3339};
use crate::model::zone::Zone;
use crate::schedule::Schedule;
use crate::schedule::dispatcher::{Cause, Dispatcher, Effect, Input, Job};
use crate::store::Store;
use crate::store::audit::Actor;
use chrono::TimeDelta;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const MAX_ORDERS: usize = 256;
/// A store that cannot be read is asked again after so long.
const RETRY: Duration = Duration::from_secs(2);
/// What could not be watched, because its directory is away, is tried again after so long.
const WATCH_AGAIN: Duration = Duration::from_secs(3);
/// How often old runs are taken out of the history.
const SWEEP: Duration = Duration::from_secs(3600);
/// How long the store is waited for.
const STORE: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest sleep.
const LONGEST: Duration = Duration::from_secs(3600);

/// What registrations want of the agent, all of it.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// Roots that are to be watched.
    pub watched: Vec<Root>,
    /// The audit is not to be shorter than this.
    pub longest: Duration,
}

/// What is wanted from now on, and whom to tell that it is so.
pub type Wish = (Wants, oneshot::Sender<()>);

enum Order {
    Ask(Box<Ask>, Actor, oneshot::Sender<Value>),
    /// A run of this registration has ended.
    Finished(String),
    /// The run of this number, which was asked for, has ended.
    Answered(u64),
    /// There are new settings.
    Settle,
    Stop,
}

/// The settings that were read last, until they are taken: each instead of those before.
type Newest = Arc<Mutex<Option<Arc<Settings>>>>;

/// How the registry was at its last turn.
#[derive(Debug, Clone, Default)]
struct Sight {
    n_cleanups: usize,
    n_watched: usize,
    /// Those that are to be watched and cannot be, as of now.
    n_unwatched: usize,
    /// Runs under way, those that were asked for included; one that is told to stop is until it has.
    n_running: usize,
    /// Due, and waiting for a place among those that run at once.
    n_waiting: usize,
    /// The next run by a schedule: of which registration, and when.
    next: Option<(String, Time)>,
    /// Why the registrations cannot be read.
    unread: Option<String>,
}

/// A handle on the registry.
#[derive(Debug)]
pub struct Registry {
    orders: Sender<Order>,
    newest: Newest,
    sight: Arc<Mutex<Sight>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

impl Registry {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        settings: Settings,
        store: Store,
        teller: Teller,
    ) -> std::io::Result<(Self, mpsc::Receiver<Wish>)> {
        let (orders, ordered) = bounded(MAX_ORDERS);
        let (wishes, wished) = mpsc::channel(1);
        let clock = Arc::new(SystemClock::start());
        let newest = Newest::default();
        let sight = Arc::new(Mutex::new(Sight::default()));
        let desk = Keeper {
            dispatcher: Dispatcher::new(settings.registry.limits, clock.now()),
            zone: settings.registry.zone,
            means: Means {
                store,
                settings: Arc::new(settings),
                clock,
            },
            teller,
            cleanups: Arc::new([]),
            is_read: false,
            is_known: false,
            unread: None,
            runs: BTreeMap::new(),
            asked: BTreeMap::new(),
            n_asked: 0,
            swept: None,
            unwatched: BTreeMap::new(),
            again_at: None,
            wishes,
            wanted: (Vec::new(), Duration::ZERO),
            orders: orders.clone(),
            ending: Arc::default(),
            newest: newest.clone(),
            sight: sight.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || desk.run(ordered))?;
        let thread = Some(thread);
        let registry = Self {
            orders,
            newest,
            sight,
            thread,
        };
        Ok((registry, wished))
    }

    /// Asks. Never waits: where too many wait already the answer says so.
    pub fn ask(&self, ask: Ask, actor: Actor, answer: oneshot::Sender<Value>) {
        let refused = self
            .orders
            .try_send(Order::Ask(Box::new(ask), actor, answer));
        if let Err(refused) = refused
            && let Order::Ask(_, _, answer) = refused.into_inner()
        {
            say(
                answer,
                json!({ "error": "the registry has too much to do; try again" }),
            );
        }
    }

    /// How it is, in `status`. Never waits for the store.
    pub fn status(&self) -> Value {
        let sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        let next = sight.next.as_ref();
        json!({
            "cleanups": sight.n_cleanups,
            "watched": sight.n_watched,
            "unwatched": sight.n_unwatched,
            "running": sight.n_running,
            "waiting": sight.n_waiting,
            "next": next.map(|(id, _)| id),
            "next_run": next.map(|(_, at)| rfc3339(*at)),
            "message": sight.unread,
        })
    }

    /// The configuration was read again. It holds before the next order is carried out, however
    /// many wait.
    pub fn settle(&self, settings: Settings) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Some(Arc::new(settings));
        drop(newest);
        if self.orders.try_send(Order::Settle).is_err() {
            tracing::debug!("the registry is busy, and sees its new rules before its next order");
        }
    }

    /// Ends the thread and all runs, between two removals, at most until `deadline`.
    pub fn stop(&mut self, deadline: Instant) {
        if self.orders.send_deadline(Order::Stop, deadline).is_err() {
            tracing::debug!("the registry's thread is gone already, or has too much to do");
        }
        let Some(thread) = self.thread.take() else {
            return;
        };
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !thread.is_finished() {
            tracing::warn!(
                event = "registry.abandoned",
                "a clean-up did not end in time: its next run does the rest"
            );
        }
    }
}

struct Keeper {
    dispatcher: Dispatcher<String>,
    means: Means,
    teller: Teller,
    cleanups: Arc<[Cleanup]>,
    /// In which schedules were read.
    zone: Zone,
    /// The store has been read since it was last asked in vain.
    is_read: bool,
    /// It was read once: what is registered is known.
    is_known: bool,
    /// Why it could not be read when it was last asked; told once.
    unread: Option<String>,
    /// By registration.
    runs: BTreeMap<String, Running>,
    /// Those that somebody asked for, by number.
    asked: BTreeMap<u64, Running>,
    n_asked: u64,
    swept: Option<Now>,
    wishes: mpsc::Sender<Wish>,
    /// Watched ones that cannot be watched now, each with the reason, told once.
    unwatched: BTreeMap<String, String>,
    /// When the store, or what cannot be watched, is tried again.
    again_at: Option<Instant>,
    /// What the agent was told last.
    wanted: (Vec<Cleanup>, Duration),
    orders: Sender<Order>,
    newest: Newest,
    sight: Arc<Mutex<Sight>>,
    /// The agent ends: what is cut short is nobody's failure.
    ending: Arc<AtomicBool>,
}

impl Keeper {
    fn run(mut self, ordered: Receiver<Order>) {
        self.interrupt();
        self.read();
        loop {
            self.show();
            let now = self.means.clock.now();
            let due = self.dispatcher.wake_at().map(|at| at.since(now.tick));
            let again = self
                .again_at
                .map(|at| at.saturating_duration_since(Instant::now()));
            let wait = due.into_iter().chain(again).fold(LONGEST, Duration::min);
            let order = ordered.recv_timeout(wait);
            self.take_settings();
            match order {
                Ok(Order::Ask(ask, actor, answer)) => self.answer(*ask, actor, answer),
                Ok(Order::Finished(id)) => {
                    self.runs.remove(&id);
                    self.turn(Input::Finished(id));
                }
                Ok(Order::Answered(number)) => {
                    self.asked.remove(&number);
                }
                // They are taken.
                Ok(Order::Settle) => {}
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.turn(Input::Woken),
            }
            self.try_again();
            self.sweep();
        }
        self.ending.store(true, Ordering::Relaxed);
        // Who ends now waits for nobody to hear of it.
        drop(ordered);
        let runs = self.runs.into_values().chain(self.asked.into_values());
        let runs: Vec<Running> = runs.collect();
        runs.iter().for_each(Running::halt);
        runs.into_iter().for_each(Running::join);
    }

    /// Shows how things are.
    fn show(&self) {
        let next = self.cleanups.iter().filter_map(|cleanup| {
            let at = self.dispatcher.next_of(&cleanup.id)?;
            Some((cleanup.id.clone(), at))
        });
        let sight = Sight {
            n_cleanups: self.cleanups.len(),
            n_watched: self.wanted.0.len(),
            n_unwatched: self.unwatched.len(),
            n_running: self.runs.len() + self.asked.len(),
            n_waiting: self.dispatcher.n_waiting(),
            next: next.min_by_key(|(_, at)| *at),
            unread: self.unread.clone(),
        };
        *self.sight.lock().unwrap_or_else(PoisonError::into_inner) = sight;
    }

    /// Goes by the settings that were read last.
    fn take_settings(&mut self) {
        let newest = self
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(settings) = newest else { return };
        if removes_nothing(&settings) && !removes_nothing(&self.means.settings) {
            let runs = self.runs.values().chain(self.asked.values());
            runs.for_each(Running::halt);
        }
        self.means.settings = settings;
        let limits = self.means.settings.registry.limits;
        self.dispatcher.set_limits(limits);
        self.read();
        if !self.is_read {
            // Those known go on, under the new rules.
            self.want();
        }
    }

    /// Tries what could not be done the last time, when its time has come.
    fn try_again(&mut self) {
        if self.again_at.is_some_and(|at| at <= Instant::now()) {
            if !self.is_read {
                self.read();
            }
            self.want();
        }
        let wait = match (self.is_read, self.unwatched.is_empty()) {
            (false, _) => Some(RETRY),
            (true, false) => Some(WATCH_AGAIN),
            (true, true) => None,
        };
        let is_due = |at: &Instant| *at > Instant::now();
        self.again_at = wait.map(|wait| {
            let planned = self.again_at.filter(is_due);
            planned.unwrap_or_else(|| Instant::now() + wait)
        });
    }

    /// Runs that an agent before this one did not end.
    fn interrupt(&self) {
        let open = match self.means.store.runs_open().wait_for(STORE) {
            Ok(open) => open,
            // It is off, or says itself what is wrong.
            Err(error) => return tracing::debug!(error = %error, "the runs cannot be read"),
        };
        for mut run in open {
            run.ended_at = Some(self.means.clock.now().wall);
            run.outcome = "interrupted".to_owned();
            run.message = "the agent ended meanwhile".to_owned();
            if let Err(error) = self.means.store.put_run(run).wait_for(STORE) {
                tracing::debug!(error = %error, "an interrupted run stays open in the history");
            }
        }
    }

    /// Reads all registrations, and wants what they want. While they cannot be read those known
    /// stand.
    fn read(&mut self) {
        if self.means.store.is_off() {
            self.is_read = true;
            return;
        }
        let cleanups = match self.means.store.cleanups().wait_for(STORE) {
            Ok(cleanups) => cleanups,
            Err(error) => return self.is_unread(chain(&error)),
        };
        (self.is_read, self.is_known) = (true, true);
        self.unread = None;
        let before: BTreeMap<String, Cleanup> = self
            .cleanups
            .iter()
            .map(|cleanup| (cleanup.id.clone(), cleanup.clone()))
            .collect();
        self.cleanups = cleanups.into();
        self.halt_changed(&before);
        let cleanups = self.cleanups.clone();
        let known: BTreeSet<&str> = cleanups.iter().map(|cleanup| cleanup.id.as_str()).collect();
        for id in before.keys().filter(|id| !known.contains(id.as_str())) {
            self.turn(Input::Removed(id.clone()));
        }
        for cleanup in cleanups.iter() {
            if let Some(job) = self.job(cleanup, before.get(&cleanup.id)) {
                self.turn(Input::Registered(cleanup.id.clone(), job));
            }
        }
        self.zone = self.means.settings.registry.zone;
        self.want();
    }

    fn is_unread(&mut self, why: String) {
        self.is_read = false;
        if self.unread.is_none() {
            let so = match self.is_known {
                true => "those known go on",
                false => "none runs until they can be",
            };
            tracing::warn!(event = "registry.unread", error = %why, "the clean-ups cannot be read; {so}");
        }
        self.unread = Some(why);
    }

    /// Runs under way go by what was registered when they began: those of what is gone or was
    /// changed since end between two removals.
    fn halt_changed(&self, before: &BTreeMap<String, Cleanup>) {
        let now = self.cleanups.iter();
        let now: BTreeMap<&str, Time> = now.map(|new| (new.id.as_str(), new.updated_at)).collect();
        let stands = |old: &Cleanup| now.get(old.id.as_str()) == Some(&old.updated_at);
        for old in before.values().filter(|old| !stands(old)) {
            let runs = self
                .runs
                .get(&old.id)
                .into_iter()
                .chain(self.asked.values());
            runs.for_each(|run| run.halt_of(&old.id));
        }
    }

    /// When a registration runs; `None`: as before.
    fn job(&self, cleanup: &Cleanup, before: Option<&Cleanup>) -> Option<Job> {
        let when = |cleanup: &Cleanup| (cleanup.schedule.clone(), cleanup.priority);
        let zone = self.means.settings.registry.zone;
        let is_known = before.is_some_and(|before| when(before) == when(cleanup));
        if is_known && self.zone == zone {
            return None;
        }
        let now = self.means.clock.now().wall;
        let text = cleanup.schedule.as_deref().unwrap_or("on write");
        let schedule = match Schedule::parse(text, zone) {
            Ok(schedule) => schedule,
            Err(why) => {
                tracing::warn!(event = "cleanup.unscheduled", cleanup = %cleanup.id, "it does not run by itself: {why}");
                return None;
            }
        };
        let is_new_schedule = before.is_some_and(|before| before.schedule != cleanup.schedule);
        let since = match cleanup.last_run {
            // What was due by another schedule was not missed by this one.
            _ if is_new_schedule => now,
            Some(last_run) => last_run,
            None => cleanup.created_at,
        };
        Some(Job {
            schedule,
            priority: cleanup.priority,
            since,
        })
    }

    /// Has the agent watch what is to be watched, and nothing else, before anybody is answered.
    fn want(&mut self) {
        let settings = &self.means.settings;
        let all = self.cleanups.iter().filter(|cleanup| cleanup.watch);
        let all: Vec<&Cleanup> = all.filter(|cleanup| !is_dry(cleanup, settings)).collect();
        // Each place is looked up once, and not once for each of the others; none for nobody.
        let others: &[Cleanup] = if all.is_empty() { &[] } else { &self.cleanups };
        let ground = ground(others, settings);
        let mut roots = Vec::new();
        let mut watched = Vec::new();
        let mut unwatched = BTreeMap::new();
        for cleanup in all {
            match root_on(&ground, cleanup) {
                Ok(root) => {
                    roots.push(root);
                    watched.push(cleanup.clone());
                }
                Err(why) => {
                    if self.unwatched.get(&cleanup.id) != Some(&why) {
                        tracing::warn!(event = "cleanup.unwatched", cleanup = %cleanup.id, "it is not watched until it can be: {why}");
                    }
                    unwatched.insert(cleanup.id.clone(), why);
                }
            }
        }
        drop(ground);
        self.unwatched = unwatched;
        let days = self.cleanups.iter().filter_map(|c| c.retention_days).max();
        let longest = DAY.saturating_mul(u32::try_from(days.unwrap_or(0)).unwrap_or(u32::MAX));
        let wanted = (watched, longest);
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        let wants = Wants {
            watched: roots,
            longest,
        };
        let (done, heard) = oneshot::channel();
        let sent = self.wishes.blocking_send((wants, done));
        if sent.is_err() || heard.blocking_recv().is_err() {
            tracing::debug!("the agent ends, and watches nothing any more");
        }
    }

    fn turn(&mut self, input: Input<String>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.means.clock.now();
            let effects = self.dispatcher.handle(now, input);
            let unstarted = effects
                .into_iter()
                .filter_map(|effect| self.carry_out(effect));
            // What was to start and did not waits for its next time, and keeps no place.
            inputs.extend(unstarted.map(Input::Finished));
        }
    }

    /// Answers what was to start and did not.
    fn carry_out(&mut self, effect: Effect<String>) -> Option<String> {
        match effect {
            Effect::Start { key, cause, due } => {
                let is_started = self.start(&key, cause, rfc3339(due));
                return (!is_started).then_some(key);
            }
            Effect::Stop { key } => {
                if let Some(run) = self.runs.get(&key) {
                    run.halt();
                }
            }
            Effect::Skipped { key, due } => {
                tracing::warn!(event = "cleanup.skipped", cleanup = %key, due = %rfc3339(due), "it was due while it still ran, and is left out once");
            }
        }
        None
    }

    /// Starts a run that is due; `false`: it could not be started.
    fn start(&mut self, id: &str, cause: Cause, due: String) -> bool {
        let found = self.cleanups.iter().find(|cleanup| cleanup.id == id);
        let Some(cleanup) = found.cloned() else {
            return false;
        };
        tracing::info!(
            event = "cleanup.started",
            cleanup = %id,
            due = %due,
            missed = cause == Cause::Missed,
            "a clean-up runs"
        );
        let stop = Arc::new(AtomicBool::new(false));
        let task = Task {
            cleanup,
            others: self.cleanups.clone(),
            dry_run: false,
            actor: Actor::Schedule,
            stop: Halt::when(stop.clone()),
            // The dispatcher watches the time.
            timeout: None,
            lock_patience: self.means.settings.registry.limits.timeout,
        };
        let (means, teller, orders) =
            (self.means.clone(), self.teller.clone(), self.orders.clone());
        let (key, ending) = (id.to_owned(), self.ending.clone());
        let started = spawn(move || {
            let _ended = Ended::says(Order::Finished(key), orders);
            let done = cleaning::run(&task, &means);
            if !ending.load(Ordering::Relaxed) {
                notify(&teller, &task, &done);
            }
            let dry_run = done.detail.dry_run;
            cleaning::report(&[done], dry_run, &means);
        });
        match started {
            Ok(thread) => {
                let run = Running::new(vec![(id.to_owned(), stop)], thread);
                self.runs.insert(id.to_owned(), run);
                true
            }
            Err(error) => {
                tracing::error!(event = "cleanup.failed", cleanup = %id, error = %error, "a clean-up's thread could not be started");
                false
            }
        }
    }

    /// Takes old runs out of the history, now and then.
    fn sweep(&mut self) {
        let now = self.means.clock.now();
        let is_fresh = |then: Now| now.tick.since(then.tick) < SWEEP;
        if self.swept.is_some_and(is_fresh) || !self.is_read {
            return;
        }
        self.swept = Some(now);
        let keep = self.means.settings.registry.job_history_retention;
        let before = TimeDelta::from_std(keep)
            .ok()
            .and_then(|keep| now.wall.checked_sub_signed(keep));
        if let Some(before) = before {
            // Nothing waits for it: what stays is tried again in an hour.
            drop(self.means.store.remove_runs_before(before));
        }
    }
}
