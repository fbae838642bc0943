//! One root's thread, and who may order it about.
//!
//! The thread waits for the root to be at its path, runs an engine on it
//! ([`crate::agent::round`]), and begins anew when the path leads elsewhere.

use crate::agent::apart;
use crate::agent::barrier::Barrier;
use crate::agent::bell::Bell;
use crate::agent::crowd::Crowd;
use crate::agent::halt::Halt;
use crate::agent::jobs::Jobs;
use crate::agent::kept;
use crate::agent::leftovers;
use crate::agent::mailbox::{Inbox, Outbox, mailbox};
use crate::agent::published::{Published, View, Watching};
use crate::agent::pulse::Pulse;
use crate::agent::round::{Ended, Round, class_name};
use crate::agent::service::chain;
use crate::agent::shell::{Ear, Shell, Tools};
use crate::agent::survey::{INTENTS, rules_of};
use crate::agent::teller::{Mouth, Teller};
use crate::agent::watching::{self, Chosen};
use crate::clock::SystemClock;
use crate::config::settings::{self, Agent, Mode, Root, Scheduling};
use crate::disk::cookie;
use crate::disk::records::RecordDir;
use crate::disk::removed::RemovedIds;
use crate::disk::tree::Tree;
use crate::engine::outlook::{Outlook, Sight};
use crate::engine::{Command, Engine, Input, Rules};
use crate::layout::spec::Kind;
use crate::model::fact::{Fact, Moment};
use crate::model::report::AsideName;
use crate::model::time::Clock;
use crate::policy::flow::Flow;
use crate::prune::lock::RootLock;
use crate::sched::{self, Class, Governor, Home};
use crate::store::pin_file::PinFile;
use crate::store::state::{Known, RootState, StateDir, StateError};
use crate::watch::{Attend, Reader};
use crossbeam_channel::Sender;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Orders that may wait for a root's thread.
const MAX_ORDERS: usize = 64;
/// An absent root is looked for that often.
const LOOK_FOR: Duration = Duration::from_secs(1);
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
    /// Pins came or went.
    Pins,
    /// Say what is to come; nothing where nobody looks after the root just then.
    Outlook(Sight, Arc<OnceLock<Outlook>>),
    /// Something comes back from the trash: say when it counts there no more.
    Restoring(AsideName, Sender<()>),
    /// Finish the rename in hand and end.
    Stop,
}

/// A root that is looked after.
#[derive(Debug)]
pub struct Handle {
    pub root: Root,
    pub published: Arc<Published>,
    pub watches: Arc<AtomicUsize>,
    pub pulse: Arc<Pulse>,
    orders: Outbox<Order>,
    bell: Bell,
    n_barriers: AtomicU64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What every root's thread needs.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub state: StateDir,
    pub teller: Teller,
    pub agent: Agent,
    /// A root of this agent is looked after in real time.
    pub hurries: Arc<AtomicBool>,
}

/// A way to a root's thread.
#[derive(Debug, Clone)]
pub struct Orders {
    orders: Outbox<Order>,
    bell: Bell,
}

impl Orders {
    /// `false` when the thread is busy with too many or gone.
    pub fn send(&self, order: Order) -> bool {
        let sent = self.orders.try_send(order);
        self.bell.ring();
        sent
    }
}

impl Handle {
    /// Starts the thread of a root.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(root: Root, around: &Surroundings) -> std::io::Result<Self> {
        let (orders, ordered) = mailbox(MAX_ORDERS);
        let bell = Bell::new()?;
        let stop = Arc::new(AtomicBool::new(false));
        let published = Arc::new(Published::default());
        let watches = Arc::new(AtomicUsize::new(0));
        let pulse = Arc::new(Pulse::default());
        let name = Arc::from(root.name.as_str());
        let keeper = Keeper {
            mouth: around.teller.mouth(&name),
            name,
            root: root.clone(),
            around: around.clone(),
            published: published.clone(),
            watches: watches.clone(),
            pulse: pulse.clone(),
            orders: ordered,
            bell: bell.clone(),
            class: Class::Normal,
            barrier: 0,
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("root-{}", root.name))
            .spawn(move || keeper.run())?;
        Ok(Self {
            root,
            published,
            watches,
            pulse,
            orders,
            bell,
            n_barriers: AtomicU64::new(0),
            stop,
            thread: Some(thread),
        })
    }

    /// Who may send orders as well.
    pub(super) fn orders(&self) -> Orders {
        Orders {
            orders: self.orders.clone(),
            bell: self.bell.clone(),
        }
    }

    /// Sends an order; `false` when the thread is busy with too many or gone.
    pub fn order(&self, order: Order) -> bool {
        self.orders().send(order)
    }

    /// Asks for a barrier and gives its number; `None`: the thread is busy with too many.
    pub fn barrier(&self) -> Option<u64> {
        let number = self.n_barriers.fetch_add(1, Ordering::Relaxed) + 1;
        self.order(Order::Barrier(number)).then_some(number)
    }

    /// Tells the thread to end. It finishes the rename in hand.
    pub fn stop(&self) {
        // Also for a burst under way, which takes no order before its end.
        self.stop.store(true, Ordering::Relaxed);
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

pub(super) struct Keeper {
    pub(super) name: Arc<str>,
    mouth: Mouth,
    pub(super) root: Root,
    pub(super) around: Surroundings,
    pub(super) published: Arc<Published>,
    pub(super) watches: Arc<AtomicUsize>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) orders: Inbox<Order>,
    pub(super) bell: Bell,
    pub(super) class: Class,
    /// The greatest number of a barrier that was asked for.
    pub(super) barrier: u64,
    stop: Arc<AtomicBool>,
}

impl Keeper {
    fn run(mut self) {
        self.class = match self.around.agent.scheduling {
            Scheduling::Auto | Scheduling::Realtime => Class::Realtime,
            Scheduling::Normal => Class::Normal,
        };
        let mut told_absent = false;
        loop {
            match Tree::open(&self.root.real) {
                Ok(tree) => {
                    if std::mem::take(&mut told_absent) {
                        self.tell(Fact::RootBack);
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
                self.tell(Fact::RootMoved);
            }
            self.publish_state(Watching::Absent);
            if self.wait_for_root() {
                break;
            }
        }
        self.publish_state(Watching::Stopped);
    }

    pub(super) fn tell_degraded(&self, chosen: &Chosen) {
        let fact = Fact::BackendDegraded {
            to: chosen.backend,
            why: chosen.why.clone(),
        };
        self.tell(fact);
    }

    /// Tells what no engine tells: there is none just then.
    fn tell(&self, fact: Fact) {
        let at = SystemClock::start().now().wall;
        self.mouth.tell(at, Moment::default(), fact);
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
            self.pulse.rest();
            let order = self.orders.take_until(until);
            self.pulse.beat();
            match order {
                Some(Order::Stop) => return true,
                Some(Order::Settle(settled)) => self.settle(*settled),
                Some(Order::Barrier(number)) => self.barrier = self.barrier.max(number),
                Some(Order::Engine(Command::Accept)) => self.accept_absent(),
                Some(
                    Order::Engine(_) | Order::Pins | Order::Outlook(..) | Order::Restoring(..),
                ) => {}
                None => return false,
            }
        }
    }

    /// Holds from now on, also for a directory that comes to the root's path later.
    pub(super) fn settle(&mut self, (root, agent): (Root, Agent)) {
        self.root = root;
        self.around.agent = agent;
    }

    /// Whether this directory passed its first start. Another one at the same path did not,
    /// however it came there.
    fn is_known(&self, tree: &Tree, state: &RootState) -> bool {
        let known = state.known();
        if known == Known::ByPath
            && let Err(error) = state.remember()
        {
            tracing::debug!(root = %self.name, error = %error, "which directory was accepted could not be written down");
        }
        known.is(tree.identity())
    }

    /// The root's corner of the state directory. What frees a full disk must not need room on it:
    /// there it is made later.
    fn corner(&self) -> Result<RootState, StateError> {
        let state = &self.around.state;
        match state.root(&self.root.path) {
            Err(error) if error.is_full() => {
                tracing::warn!(
                    event = "state.unwritten",
                    root = %self.name,
                    error = %chain(&error),
                    "a root is looked after without its place in the state directory, which is made when there is room"
                );
                Ok(state.root_later(&self.root.path))
            }
            made => made,
        }
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
        let state = self.corner()?;
        let rules = rules(&self.root, &self.around.agent);
        let enforce = rules.enforce;
        let home = Home::next();
        let wake = self.bell.waker();
        let attend = attend(self.class, home);
        let choice = watching::choice(self.root.backend, &tree);
        let chosen = watching::start(&choice, &tree, &wake, &attend);
        // Before anything is watched: who sleeps first is woken first.
        let sleeper = self.bell.sleeper(chosen.source.hints.source())?;
        let is_other = choice.order.first() != Some(&chosen.backend);
        if is_other && self.root.backend != settings::Backend::Auto {
            self.tell_degraded(&chosen);
        }
        let state = state.with_identity(tree.identity());
        let tools = self.tools(&tree, state.clone(), enforce);
        let removed = tools
            .removed
            .as_ref()
            .map(RemovedIds::ids)
            .unwrap_or_default();
        let records = tools.records.clone();
        let mut engine = Engine::new(rules, self.is_known(&tree, &state), removed);
        engine.recall_anomalies(state.anomalies());
        let (jobs, answers) = Jobs::start(
            tree.clone(),
            self.root.layout.clone(),
            clock.clone(),
            chosen.source.watcher.clone(),
            Some(wake.clone()),
        )?;
        let ear = Ear::Teller(self.mouth.clone());
        let pins = self.pins().load();
        let mut shell = Shell::new(engine, tools, jobs, clock, ear);
        shell.hears = true;
        shell.stop = Halt::when(self.stop.clone());
        shell.pulse = self.pulse.clone();
        if enforce {
            shell
                .finish_leftovers(|now| leftovers::finish(&tree, &records, &self.root, &pins, now));
            let now = shell.now();
            shell.input(
                now,
                Input::Kept(kept::known(&tree, self.root.limits.measure)),
            );
        }
        let governor = Governor::idle(self.class, sched::ENGINE, home);
        let barrier = Barrier::new(self.barrier, cookie::fresh_name, shell.cookies());
        let mut round = Round {
            keeper: self,
            barrier,
            shell,
            answers,
            tree,
            chosen,
            attend,
            sleeper,
            hints: Vec::new(),
            governor,
            hurries: false,
            view: View {
                scheduling: class_name(Class::Normal),
                ..View::default()
            },
            reactions: Vec::new(),
            unpublished: true,
            published_at: Instant::now(),
            crowd: Crowd::new(Instant::now()),
            nap: Duration::ZERO,
            flow: Flow::default(),
            settled: false,
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

    fn pins(&self) -> PinFile {
        PinFile::of(self.around.state.path(), &self.root.real)
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
        let corner = apart::corner(tree, &self.root, Some(&state));
        let intents = state.dir().join(INTENTS);
        let records = match corner {
            Some(_) => RecordDir::apart(tree.clone(), intents),
            None => RecordDir::new(tree.clone(), Some(intents)),
        };
        Tools {
            tree: tree.clone(),
            records: Arc::new(records),
            removed,
            corner,
            lock: RootLock::new(LOCK_STALE, Some(state.dir().join("lock.observed"))),
            state: Some(state),
            pins: self.pins(),
        }
    }
}

/// Puts a source's thread into its class at its first event, and watches over it.
fn attend(class: Class, home: Option<Home>) -> Attend {
    thread_local! {
        static GOVERNOR: RefCell<Option<Governor>> = const { RefCell::new(None) };
    }
    Arc::new(move |reader| {
        let priority = match reader {
            Reader::Sole => sched::SOLE_READER,
            Reader::Second => sched::READER,
        };
        GOVERNOR.with_borrow_mut(|governor| match governor {
            Some(governor) => {
                governor.attend();
            }
            None => *governor = Some(Governor::enter(class, priority, home).0),
        });
    })
}
