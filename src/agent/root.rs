//! One root's thread: wait for hints, answers and orders; let the engine think; carry it out.
//!
//! The thread waits for the root to be at its path, runs an engine on it, and begins anew when
//! the path leads elsewhere. Hints come before everything else.

use crate::agent::barrier::{Barrier, Ground, Step};
use crate::agent::bell::Bell;
use crate::agent::crowd::{Crowd, NAP};
use crate::agent::jobs::Jobs;
use crate::agent::leftovers;
use crate::agent::mailbox::{Inbox, Outbox, mailbox};
use crate::agent::published::{Published, View, Watching};
use crate::agent::shell::{Ear, Shell, Tools};
use crate::agent::survey::rules_of;
use crate::agent::teller::Teller;
use crate::agent::watching::{self, Chosen};
use crate::clock::SystemClock;
use crate::config::settings::{self, Agent, Mode, Root, Scheduling};
use crate::disk::records::RecordDir;
use crate::disk::removed::RemovedIds;
use crate::disk::tree::{CONTROL, Tree};
use crate::engine::{Command, Engine, Input, Rules};
use crate::layout::spec::Kind;
use crate::model::fact::Fact;
use crate::model::hint::Hint;
use crate::model::time::{Clock, Now};
use crate::model::watcher::Backend;
use crate::prune::lock::RootLock;
use crate::sched::{self, Class, Governor, Home, Turn};
use crate::store::state::{RootState, StateDir};
use crate::watch::Attend;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Orders that may wait for a root's thread.
const MAX_ORDERS: usize = 64;
/// An absent root is looked for that often.
const LOOK_FOR: Duration = Duration::from_secs(1);
/// Answers handled before hints are looked for again.
const ANSWERS_A_TURN: usize = 4;
/// The longest sleep; the guard wakes before.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// While nothing ends, what is published is at most this old.
const PUBLISH: Duration = Duration::from_millis(50);
/// Reactions that the percentiles are made from.
const N_REACTIONS: usize = 4096;
/// After how long an untouched lock of another host is stale.
pub const LOCK_STALE: Duration = Duration::from_secs(3600);

/// What a root's thread may be told.
#[derive(Debug)]
pub enum Order {
    Engine(Command),
    /// The root as configured now: its place and layout are as before.
    Settle(Box<(Root, Agent)>),
    /// Say when all that happened before has been heard of: [`View::barrier`] comes to this.
    Barrier(u64),
    /// Finish the rename in hand and end.
    Stop,
}

/// A root that is looked after.
#[derive(Debug)]
pub struct Handle {
    pub root: Root,
    pub published: Arc<Published>,
    pub watches: Arc<AtomicUsize>,
    orders: Outbox<Order>,
    bell: Bell,
    n_barriers: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

/// What every root's thread needs.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub state: StateDir,
    pub teller: Teller,
    pub agent: Agent,
}

impl Handle {
    /// Starts the thread of a root.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(root: Root, around: &Surroundings) -> std::io::Result<Self> {
        let (orders, ordered) = mailbox(MAX_ORDERS);
        let bell = Bell::new()?;
        let published = Arc::new(Published::default());
        let watches = Arc::new(AtomicUsize::new(0));
        let keeper = Keeper {
            name: Arc::from(root.name.as_str()),
            root: root.clone(),
            around: around.clone(),
            published: published.clone(),
            watches: watches.clone(),
            orders: ordered,
            bell: bell.clone(),
            class: Class::Normal,
            barrier: 0,
        };
        let thread = std::thread::Builder::new()
            .name(format!("root-{}", root.name))
            .spawn(move || keeper.run())?;
        Ok(Self {
            root,
            published,
            watches,
            orders,
            bell,
            n_barriers: AtomicU64::new(0),
            thread: Some(thread),
        })
    }

    /// Sends an order; `false` when the thread is busy with too many or gone.
    pub fn order(&self, order: Order) -> bool {
        let sent = self.orders.try_send(order);
        self.bell.ring();
        sent
    }

    /// Asks for a barrier and gives its number; `None`: the thread is busy with too many.
    pub fn barrier(&self) -> Option<u64> {
        let number = self.n_barriers.fetch_add(1, Ordering::Relaxed) + 1;
        self.order(Order::Barrier(number)).then_some(number)
    }

    /// Tells the thread to end. It finishes the rename in hand.
    pub fn stop(&self) {
        if !self.orders.send_within(Order::Stop, Duration::from_secs(1)) {
            tracing::debug!(root = %self.root.name, "the thread of a root is gone already");
        }
        self.bell.ring();
    }

    /// Waits until the thread has ended, at most until `deadline`.
    pub fn join_until(&mut self, deadline: Instant) -> bool {
        let Some(thread) = self.thread.take() else {
            return true;
        };
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if thread.is_finished() {
            if thread.join().is_err() {
                tracing::error!(event = "thread.panicked", root = %self.root.name, "the thread of a root panicked");
            }
            return true;
        }
        false
    }
}

/// How a root's rules follow from its configuration.
pub fn rules(root: &Root, agent: &Agent) -> Rules {
    let mut rules = rules_of(root, agent.rescan_interval);
    rules.enforce = agent.mode == Mode::Enforce && root.problems.is_empty();
    rules
}

enum Ended {
    Stopped,
    Moved,
}

struct Keeper {
    name: Arc<str>,
    root: Root,
    around: Surroundings,
    published: Arc<Published>,
    watches: Arc<AtomicUsize>,
    orders: Inbox<Order>,
    bell: Bell,
    class: Class,
    /// The greatest number of a barrier that was asked for.
    barrier: u64,
}

impl Keeper {
    fn run(mut self) {
        self.class = match self.around.agent.scheduling {
            Scheduling::Auto | Scheduling::Realtime => Class::Realtime,
            Scheduling::Normal => Class::Normal,
        };
        let mut told_absent = false;
        loop {
            match Tree::open(&self.root.path) {
                Ok(tree) => {
                    if std::mem::take(&mut told_absent) {
                        self.around.teller.tell(&self.name, Fact::RootBack);
                    }
                    match self.look_after(Arc::new(tree)) {
                        Ok(Ended::Stopped) => break,
                        Ok(Ended::Moved) => {}
                        Err(error) => {
                            tracing::error!(event = "root.failed", root = %self.name, error = %error, "a root cannot be looked after now");
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(root = %self.name, error = %error, "a root cannot be opened");
                }
            }
            if !std::mem::replace(&mut told_absent, true) {
                self.around.teller.tell(&self.name, Fact::RootMoved);
            }
            self.publish_state(Watching::Absent);
            if self.wait_for_root() {
                break;
            }
        }
        self.publish_state(Watching::Stopped);
    }

    fn tell_degraded(&self, chosen: &Chosen) {
        let fact = Fact::BackendDegraded {
            to: chosen.backend,
            why: chosen.why.clone(),
        };
        self.around.teller.tell(&self.name, fact);
    }

    fn publish_state(&self, watching: Watching) {
        let view = View {
            watching,
            scheduling: "-",
            ..View::default()
        };
        self.watches.store(0, Ordering::Relaxed);
        while !self.published.put(&view) {
            std::thread::yield_now();
        }
    }

    /// Waits a while; `true`: it is time to stop.
    fn wait_for_root(&mut self) -> bool {
        let until = Instant::now() + LOOK_FOR;
        loop {
            match self.orders.take_until(until) {
                Some(Order::Stop) => return true,
                Some(Order::Settle(settled)) => self.settle(*settled),
                Some(Order::Barrier(number)) => self.barrier = self.barrier.max(number),
                Some(Order::Engine(Command::Accept)) => self.accept_absent(),
                Some(Order::Engine(_)) => {}
                None => return false,
            }
        }
    }

    /// Holds from now on, also for a directory that comes to the root's path later.
    fn settle(&mut self, (root, agent): (Root, Agent)) {
        self.root = root;
        self.around.agent = agent;
    }

    fn accept_absent(&self) {
        let remembered = self
            .around
            .state
            .root(&self.root.path)
            .and_then(|s| s.remember());
        if let Err(error) = remembered {
            tracing::warn!(event = "state.unwritten", root = %self.name, error = %error, "an acceptance could not be written down");
        }
    }

    /// Runs an engine on the root until it ends or the path leads elsewhere.
    fn look_after(&mut self, tree: Arc<Tree>) -> Result<Ended, Box<dyn std::error::Error>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let state = self.around.state.root(&self.root.path)?;
        let rules = rules(&self.root, &self.around.agent);
        let enforce = rules.enforce;
        let home = Home::next();
        let wake = self.bell.waker();
        let attend = attend(self.class, home);
        let choice = watching::choice(self.root.backend, &tree);
        let chosen = watching::start(&choice, &tree, &wake, &attend);
        let is_other = choice.order.first() != Some(&chosen.backend);
        if is_other && self.root.backend != settings::Backend::Auto {
            self.tell_degraded(&chosen);
        }
        let tools = self.tools(&tree, state.clone(), enforce);
        let removed = tools
            .removed
            .as_ref()
            .map(RemovedIds::ids)
            .unwrap_or_default();
        let records = tools.records.clone();
        let engine = Engine::new(rules, state.is_known(), removed);
        let (jobs, answers) = Jobs::start(
            tree.clone(),
            self.root.layout.clone(),
            clock.clone(),
            chosen.source.watcher.clone(),
            Some(wake.clone()),
        )?;
        let ear = Ear::Teller {
            teller: self.around.teller.clone(),
            root: self.name.clone(),
        };
        let mut shell = Shell::new(engine, tools, jobs, clock, ear);
        if enforce {
            shell.finish_leftovers(|now| leftovers::finish(&tree, &records, &self.root, now));
        }
        let (governor, entered) = Governor::enter(self.class, sched::ENGINE, home);
        let barrier = Barrier::new(self.barrier, ulid::Ulid::generate().to_string());
        let mut round = Round {
            keeper: self,
            barrier,
            shell,
            answers,
            tree,
            chosen,
            attend,
            hints: Vec::new(),
            governor,
            view: View {
                scheduling: class_name(entered.class),
                ..View::default()
            },
            reactions: Vec::new(),
            unpublished: true,
            published_at: Instant::now(),
            crowd: Crowd::new(Instant::now()),
            crowded: false,
        };
        let ended = round.run();
        let Round {
            shell,
            answers,
            governor,
            ..
        } = round;
        if let Err(errno) = governor.leave() {
            tracing::debug!(errno, "the ordinary scheduling class was refused");
        }
        drop(answers);
        shell.jobs.join();
        Ok(ended)
    }

    fn tools(&self, tree: &Arc<Tree>, state: RootState, enforce: bool) -> Tools {
        let catalog = self.root.layout.kind() == Kind::Catalog && enforce;
        let removed = catalog.then(|| RemovedIds::load(tree.clone())).and_then(|loaded| match loaded {
            Ok(removed) => Some(removed),
            Err(error) => {
                tracing::warn!(event = "state.unread", root = %self.name, error = %error, "ids taken out of the catalogue earlier are not known");
                None
            }
        });
        Tools {
            tree: tree.clone(),
            records: Arc::new(RecordDir::new(
                tree.clone(),
                Some(state.dir().join("intents")),
            )),
            removed,
            lock: RootLock::new(LOCK_STALE, Some(state.dir().join("lock.observed"))),
            state: Some(state),
        }
    }
}

fn class_name(class: Class) -> &'static str {
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

/// Puts a source's thread into its class at its first event, and watches over it.
fn attend(class: Class, home: Option<Home>) -> Attend {
    thread_local! {
        static GOVERNOR: RefCell<Option<Governor>> = const { RefCell::new(None) };
    }
    Arc::new(move || {
        GOVERNOR.with_borrow_mut(|governor| match governor {
            Some(governor) => {
                governor.attend();
            }
            None => *governor = Some(Governor::enter(class, sched::READER, home).0),
        });
    })
}

/// One engine at work.
struct Round<'a> {
    keeper: &'a mut Keeper,
    barrier: Barrier,
    shell: Shell,
    answers: Inbox<Input>,
    tree: Arc<Tree>,
    chosen: Chosen,
    attend: Attend,
    hints: Vec<Hint>,
    governor: Governor,
    view: View,
    reactions: Vec<Duration>,
    unpublished: bool,
    published_at: Instant,
    crowd: Crowd,
    /// Others are at work, and nobody else: their doings may gather.
    crowded: bool,
}

impl Round<'_> {
    fn run(&mut self) -> Ended {
        let now = self.shell.now();
        if self.chosen.backend == Backend::Poll {
            self.shell.input(now, Input::Command(Command::Poll));
        }
        self.shell.input(now, Input::Command(Command::Guard));
        self.shell.jobs.mounts();
        loop {
            if self.shell.moved {
                return Ended::Moved;
            }
            if let Some(turn) = self.governor.attend() {
                self.note_turn(&turn);
            }
            // Hints first; but a writer that never rests must not keep the rest from its turn.
            let mut busy = self.take_hints();
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

    /// Handles a batch of hints; `false`: there are none.
    fn take_hints(&mut self) -> bool {
        let engine = &self.shell.engine;
        let control = self.barrier.key();
        let known = |key| engine.knows(key) || control == Some(key);
        let drained = self.chosen.source.hints.drain(&known, &mut self.hints);
        if drained.root_touched {
            self.shell.check_place();
        }
        self.crowded = drained.only_others && self.crowd.came(Instant::now());
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
                self.barrier.hear(&path[*name_at..]);
                true
            }
            Hint::Name(path) => {
                let below = path.strip_prefix(CONTROL.as_bytes());
                match below.and_then(|below| below.strip_prefix(b"/")) {
                    Some(name) => {
                        self.barrier.hear(name);
                        true
                    }
                    None => false,
                }
            }
            Hint::Begun { dir } | Hint::Ended { dir } => self.barrier.key() == Some(*dir),
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
        match step {
            Step::Nothing => return answer.is_some(),
            Step::Watch => self.shell.jobs.watch_control(),
            Step::Lay(name) => self.shell.jobs.lay(name),
            Step::Unwatch(watch) => self.shell.jobs.unwatch_control(watch),
            Step::Scan => self.shell.input(now, Input::Command(Command::Rescan)),
            Step::Deaf(watch) => {
                self.shell.jobs.unwatch_control(watch);
                self.degrade("it hears nothing");
            }
        }
        true
    }

    /// The source gives no more hints: the next one takes over, and a scan finds what was
    /// missed between them.
    fn degrade(&mut self, why: &str) {
        let choice = self.chosen.after(why);
        let wake = self.keeper.bell.waker();
        self.chosen = watching::start(&choice, &self.tree, &wake, &self.attend);
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
            // Taken by the loop itself.
            Order::Stop => {}
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
        if self.crowded {
            std::thread::sleep(NAP.min(wait));
        }
        let source = self.chosen.source.hints.source();
        // Whoever has something for this thread rings afterwards; what came in between is not
        // lost, the next sleep ends at once.
        let woken = self.keeper.bell.wait(source, wait);
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
            Turn::SteppedBack(entered) => self.view.scheduling = class_name(entered.class),
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
        let mut sorted = self.reactions.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
        self.view.reaction = Some((at(50), at(99)));
    }
}
