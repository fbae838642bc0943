//! The registry in a running agent: one thread that answers questions about registrations, one at a
//! time, and starts what is due. Runs are on threads of their own; no root's thread waits for any of
//! this.
//!
//! After every change the registrations are read anew, and what is wanted is compared with what is:
//! nothing is patched. Watched ones become roots of the agent, which hears of all that it is to have
//! by [`Wants`].
//!
//! Bounds: 256 orders wait, whoever asks waits then; 8 runs that somebody asked for at once,
//! and more are refused; of those that are due as many as the configuration says. Each
//! has the same timeout.

mod asked;

use crate::agent::cleaning::{self, Done, Means, Outcome, Task, is_dry, removes_nothing, root_now};
use crate::agent::halt::Halt;
use crate::agent::registrations::Ask;
use crate::agent::registry::asked::say;
use crate::agent::service::chain;
use crate::agent::teller::Teller;
use crate::clock::SystemClock;
use crate::config::settings::{Root, Settings};
use crate::model::cleanup::Cleanup;
use crate::model::notice::{Notice, Topic};
use crate::model::time::{Clock, Now, Time, rfc3339};
use crate::model::zone::Zone;
use crate::schedule::Schedule;
use crate::schedule::dispatcher::{Cause, Dispatcher, Effect, Input, Job};
use crate::store::Store;
use crate::store::audit::Actor;
use chrono::TimeDelta;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
    /// The run that was asked for and is halted by this has ended.
    Answered(Arc<AtomicBool>),
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
    /// Runs under way, those that were asked for included.
    n_running: usize,
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
            asked: Vec::new(),
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

/// A run under way.
struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Running {
    /// It ends between two removals.
    fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
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
    asked: Vec<Running>,
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
                Ok(Order::Answered(stop)) => {
                    self.asked.retain(|run| !Arc::ptr_eq(&run.stop, &stop));
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
        let runs = self.runs.into_values().chain(self.asked);
        let runs: Vec<Running> = runs.collect();
        runs.iter().for_each(Running::halt);
        for run in runs {
            if run.thread.join().is_err() {
                tracing::error!(event = "thread.panicked", "a clean-up's thread panicked");
            }
        }
    }

    /// Shows how things are.
    fn show(&self) {
        let next = self.cleanups.iter().filter_map(|cleanup| {
            let at = self.dispatcher.next_of(&cleanup.id)?;
            Some((cleanup.id.clone(), at))
        });
        let asked = self.asked.iter().filter(|run| !run.thread.is_finished());
        let sight = Sight {
            n_cleanups: self.cleanups.len(),
            n_watched: self.wanted.0.len(),
            n_unwatched: self.unwatched.len(),
            n_running: self.runs.len() + asked.count(),
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
            let runs = self.runs.values().chain(&self.asked);
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
        for id in before.keys() {
            if !self.cleanups.iter().any(|cleanup| cleanup.id == *id) {
                self.turn(Input::Removed(id.clone()));
            }
        }
        for cleanup in self.cleanups.clone().iter() {
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
    /// changed since end between two removals, and so do all that somebody asked for.
    fn halt_changed(&self, before: &BTreeMap<String, Cleanup>) {
        let stands = |old: &Cleanup| {
            let same = |new: &Cleanup| new.id == old.id && new.updated_at == old.updated_at;
            self.cleanups.iter().any(same)
        };
        let changed: Vec<&Cleanup> = before.values().filter(|old| !stands(old)).collect();
        let scheduled = changed.iter().filter_map(|old| self.runs.get(&old.id));
        let asked = self.asked.iter().filter(|_| !changed.is_empty());
        scheduled.chain(asked).for_each(Running::halt);
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
        let mut roots = Vec::new();
        let mut watched = Vec::new();
        let mut unwatched = BTreeMap::new();
        let all = self.cleanups.iter().filter(|cleanup| cleanup.watch);
        for cleanup in all.filter(|cleanup| !is_dry(cleanup, settings)) {
            match root_now(cleanup, &self.cleanups, settings) {
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
        let now = self.means.clock.now();
        for effect in self.dispatcher.handle(now, input) {
            match effect {
                Effect::Start { key, cause, due } => self.start(key, cause, rfc3339(due)),
                Effect::Stop { key } => {
                    if let Some(run) = self.runs.get(&key) {
                        run.halt();
                    }
                }
                Effect::Skipped { key, due } => {
                    tracing::warn!(event = "cleanup.skipped", cleanup = %key, due = %rfc3339(due), "it was due while it still ran, and is left out once");
                }
            }
        }
    }

    fn start(&mut self, id: String, cause: Cause, due: String) {
        let found = self.cleanups.iter().find(|cleanup| cleanup.id == id);
        let Some(cleanup) = found.cloned() else {
            return self.give_back(id);
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
        let (key, ending) = (id.clone(), self.ending.clone());
        let started = spawn(move || {
            let finished = Finished { id: key, orders };
            let done = cleaning::run(&task, &means);
            if !ending.load(Ordering::Relaxed) {
                notify(&teller, &task, &done);
            }
            let dry_run = done.detail.dry_run;
            cleaning::report(&[done], dry_run, &means);
            drop(finished);
        });
        match started {
            Ok(thread) => {
                self.runs.insert(id, Running { stop, thread });
            }
            Err(error) => {
                tracing::error!(event = "cleanup.failed", cleanup = %id, error = %error, "a clean-up's thread could not be started");
                self.give_back(id);
            }
        }
    }

    /// What was to start did not.
    fn give_back(&self, id: String) {
        if self.orders.try_send(Order::Finished(id)).is_err() {
            tracing::warn!(
                event = "cleanup.failed",
                "a clean-up that could not start keeps its place until it is over time"
            );
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

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("cleanup".to_owned())
        .spawn(work)
}

/// Says that a run has ended, however it ends.
struct Finished {
    id: String,
    orders: Sender<Order>,
}

impl Drop for Finished {
    fn drop(&mut self) {
        if self.orders.send(Order::Finished(self.id.clone())).is_err() {
            tracing::debug!("the registry's thread is gone already");
        }
    }
}

/// Tells people of a run that did not do what it should.
fn notify(teller: &Teller, task: &Task, done: &Done) {
    let topic = match done.outcome {
        Outcome::Done => return,
        Outcome::Unmet => Topic::TargetUnmet,
        Outcome::Failed | Outcome::Busy | Outcome::Stopped => Topic::Failure,
    };
    let detail = &done.detail;
    teller.notify(Notice {
        topic,
        event: "cleanup.failed",
        root: Some(task.cleanup.root_name()),
        message: format!(
            "the clean-up of {} in {}: {}",
            detail.pattern, detail.directory, detail.message
        ),
        details: vec![
            ("cleanup", detail.id.clone()),
            ("owner", task.cleanup.owner.clone()),
            ("files_deleted", detail.files_deleted.to_string()),
            ("freed_bytes", detail.space_freed.0.to_string()),
        ],
    });
}
