//! The listener that the agent has: its sources, engine, looks, walks and reads, turned by a loop
//! of this bench on a thread in the agent's class, on the agent's core. Left out are the lock,
//! removals, what is published, and that walks run beside.

use super::board::{Board, Known};
use housekeeper::agent::bell::Bell;
use housekeeper::agent::documents;
use housekeeper::clock::SystemClock;
use housekeeper::disk::looker::Looker;
use housekeeper::disk::tree::Tree;
use housekeeper::disk::walk::{Aides, walk};
use housekeeper::engine::{Effect, Engine, Input, Rules};
use housekeeper::layout::Layout;
use housekeeper::layout::spec::LayoutSpec;
use housekeeper::model::hint::Hint;
use housekeeper::model::path::RelPath;
use housekeeper::model::seen::Seen;
use housekeeper::model::time::Clock;
use housekeeper::model::watcher::Backend;
use housekeeper::policy::lifecycle::Lifecycle;
use housekeeper::policy::limits::{Limits, Protect};
use housekeeper::sched::{self, Class, Governor, Home};
use housekeeper::watch::{self, Attend, Reader, Source};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// At the writer's end the listener looks around once in so long.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a listener came to.
pub(super) struct Heard {
    pub(super) took: Vec<Duration>,
    pub(super) n_unknown: usize,
    pub(super) n_losses: u64,
    /// Full scans after the first one.
    pub(super) n_recoveries: u64,
    pub(super) remark: &'static str,
}

struct Turning {
    tree: Arc<Tree>,
    layout: Arc<Layout>,
    clock: SystemClock,
    engine: Engine,
    looker: Looker,
    source: Source,
    queue: VecDeque<Effect>,
    n_full_scans: u64,
}

impl Turning {
    fn new(root: &Path, source: Source, tree: Arc<Tree>) -> Self {
        let layout = Arc::new(Layout::new(LayoutSpec::default()).expect("a good layout"));
        let rules = Rules {
            layout: layout.clone(),
            limits: Limits::default(),
            protect: Protect::default(),
            lifecycle: Lifecycle::default(),
            enforce: false,
            group: None,
            rescan_interval: Duration::from_secs(3600),
            first_start_enforce: true,
            trash_keep: Duration::ZERO,
        };
        assert_eq!(tree.path(), root);
        Self {
            looker: Looker::new(tree.clone()),
            tree,
            layout,
            clock: SystemClock::start(),
            engine: Engine::new(rules, true, []),
            source,
            queue: VecDeque::new(),
            n_full_scans: 0,
        }
    }

    fn total(&self) -> u64 {
        self.engine.index().totals().counted.apparent as u64
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.engine.handle(self.clock.now(), input, &mut out);
        self.queue.extend(out);
    }

    /// Gives the engine one input and does what follows; `seen` is told the total after each.
    fn input(&mut self, input: Input, seen: &mut dyn FnMut(u64)) {
        self.handle(input);
        while let Some(effect) = self.queue.pop_front() {
            match effect {
                Effect::Look(look) => {
                    let index = self.engine.index();
                    let answer = if index.has_dir(look.dir) {
                        let path = || index.path(look.dir).unwrap_or_else(RelPath::root);
                        let ino = index.dir_ino(look.dir).unwrap_or(0);
                        self.looker.look(look.dir.slot, ino, path, look.name())
                    } else {
                        Some(Seen::Gone)
                    };
                    self.handle(match answer {
                        Some(seen) => Input::Looked(look, seen),
                        None => Input::Astray(look),
                    });
                    seen(self.total());
                }
                Effect::Forget(slot) => self.looker.forget(slot),
                Effect::Unwatch(watches) => {
                    if let Some(watcher) = &self.source.watcher {
                        for (dir, watch) in watches {
                            watcher.unwatch(&dir, watch);
                        }
                    }
                }
                Effect::Scan(order) => {
                    self.n_full_scans += u64::from(order.at.is_root());
                    let walked = Mutex::new(Vec::new());
                    let watcher = self.source.watcher.clone();
                    let aides = Aides {
                        watcher: watcher.as_deref(),
                        gather: None,
                    };
                    let send = |chunk| {
                        walked.lock().expect("one thread").push(chunk);
                        true
                    };
                    let stop = AtomicBool::new(false);
                    walk(&self.tree, &order, aides, 1, &stop, &send);
                    for chunk in walked.into_inner().expect("one thread") {
                        self.handle(Input::Walked(chunk));
                    }
                    seen(self.total());
                }
                Effect::Read(order) => {
                    let read = documents::read(&self.tree, &self.layout, &self.clock, order);
                    self.handle(read);
                }
                Effect::Tell(_) | Effect::Remember => {}
                other => panic!("nothing is removed here: {other:?}"),
            }
        }
    }
}

/// Listens until the board says that the writer is done.
pub(super) fn listen(
    backend: Backend,
    root: &Path,
    board: &Board,
    home: Option<Home>,
    ready: &AtomicBool,
) -> Heard {
    let bell = Bell::new().expect("a bell");
    let wake = bell.waker();
    let tree = Arc::new(Tree::open(root).expect("a root"));
    let source = watch::open(backend, tree.path(), tree.root(), &wake, &attend(home))
        .expect("the backend can be had");
    let sleeper = bell.sleeper(source.hints.source()).expect("descriptors");
    let mut turning = Turning::new(root, source, tree);
    turning.input(Input::Wake, &mut |_| {});
    let (mut governor, _) = Governor::enter(Class::Realtime, sched::ENGINE, home);
    let n_first = turning.n_full_scans;
    let mut known = Known::new(board, turning.total());
    let mut hints: Vec<Hint> = Vec::new();
    let mut remark = "realtime";
    ready.store(true, Ordering::Release);
    loop {
        if governor.attend().is_some() {
            remark = "stepped down";
        }
        let engine = &turning.engine;
        let drained = turning
            .source
            .hints
            .drain(&|key| engine.knows(key), &mut hints);
        for hint in hints.drain(..) {
            turning.input(Input::Hint(hint), &mut |total| known.saw(total));
        }
        if drained.first_at.is_some() {
            turning.input(Input::Drained, &mut |_| {});
            continue;
        }
        let now = turning.clock.now();
        let due = turning.engine.wake_at(now).map(|at| at.since(now.tick));
        if due == Some(Duration::ZERO) {
            turning.input(Input::Wake, &mut |total| known.saw(total));
            continue;
        }
        if board.over.load(Ordering::Acquire) {
            break;
        }
        let deaf = turning.source.hints.is_kept();
        sleeper.wait(deaf, due.unwrap_or(PATIENCE).min(PATIENCE));
    }
    if let Err(errno) = governor.leave() {
        panic!("the ordinary class was refused: {errno}");
    }
    Heard {
        n_unknown: known.n_unknown(),
        took: known.took,
        n_losses: turning.engine.figures().n_losses,
        n_recoveries: turning.n_full_scans - n_first,
        remark,
    }
}

/// As the agent puts its readers into their class.
fn attend(home: Option<Home>) -> Attend {
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
            None => *governor = Some(Governor::enter(Class::Realtime, priority, home).0),
        });
    })
}
