//! From just before the write call that takes a root over its limit to the oldest session's
//! absence: the real agent with each backend, beside the floor measured in the same run (a bare
//! inotify wake-up, one `statx`, one `rename`), interleaved and in the same scheduling class;
//! with nobody else there, and beside a program that writes elsewhere on the same file system.
//!
//! The budget, of the floor's p50 and p99: twice for fanotify and inotify, three times for
//! notify. Beside foreign writes the floor runs beside the same. Trees are used again: what the
//! measurement before removed is put there anew, as newer sessions.
//!
//! `cargo bench --bench reaction [-- --backend fanotify --place tmpfs --sessions 20000
//! --many 200000 --trials 1000 --foreign 100000 --judge 1]`; `--many 0` leaves the big trees out.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

#[path = "support/foreign.rs"]
mod foreign;
#[path = "support/setup.rs"]
mod setup;
mod support;

use foreign::{Beside, Foreign};
use housekeeper::sched::{self, Class, Governor, Home};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use setup::{Setup, backends};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::{Scratch, option, percentile, places, session};

const BLOCK: usize = 4096;
/// Long enough for the removal of the last victim.
const PAUSE: Duration = Duration::from_millis(3);
const PATIENCE: Duration = Duration::from_secs(5);

/// How many times the floor's figures a backend may take.
fn budget(backend: &str) -> f64 {
    if backend == "notify" { 3.0 } else { 2.0 }
}

/// A root full of sessions with a hot file in one that is none of the oldest.
struct Field {
    root: PathBuf,
    hot_dir: PathBuf,
    hot: File,
    n_sessions: usize,
    /// The oldest, and the number after the newest.
    oldest: usize,
    end: usize,
    n_blocks: usize,
}

impl Field {
    fn new(root: &Path, n_sessions: usize) -> Self {
        fs::create_dir(root).expect("a root");
        for number in 0..n_sessions {
            session(root, number, 1, BLOCK);
        }
        let hot_dir = root.join(format!("s{:07}", n_sessions - 1));
        let hot = OpenOptions::new()
            .append(true)
            .open(hot_dir.join("f00000"))
            .expect("opened");
        Self {
            root: root.to_owned(),
            hot_dir,
            hot,
            n_sessions,
            oldest: 0,
            end: n_sessions,
            n_blocks: n_sessions,
        }
    }

    /// As many sessions as at first, none of them `hot`.
    fn refill(&mut self) {
        while self.end - self.oldest < self.n_sessions {
            session(&self.root, self.end, 1, BLOCK);
            self.end += 1;
            self.n_blocks += 1;
        }
        assert!(self.root.join(format!("s{:07}", self.oldest)) != self.hot_dir);
    }

    fn bytes(&self) -> u64 {
        (self.n_blocks * BLOCK) as u64
    }

    /// Writes one block; how long until the oldest session is not there any more.
    fn trial(&mut self, block: &[u8], beside: &mut Option<Beside>) -> Duration {
        let oldest = self.root.join(format!("s{:07}", self.oldest));
        self.oldest += 1;
        if let Some(beside) = beside {
            beside.begin();
        }
        let begun = Instant::now();
        self.hot.write_all(block).expect("written");
        loop {
            match rustix::fs::access(&oldest, rustix::fs::Access::EXISTS) {
                Err(Errno::NOENT) => return begun.elapsed(),
                _ => assert!(begun.elapsed() < PATIENCE, "{} stays", oldest.display()),
            }
            if let Some(beside) = beside {
                beside.tick();
            }
        }
    }
}

/// The least that any program that reacts to writes has to do.
struct Floor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    hot: File,
}

impl Floor {
    fn start(field: &Field, trash: &Path, realtime: bool, home: Option<Home>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, root, trash, dir, first) = (
            stop.clone(),
            field.root.clone(),
            trash.to_owned(),
            field.hot_dir.clone(),
            field.oldest,
        );
        let began = Arc::new(AtomicUsize::new(0));
        let beginning = began.clone();
        let thread = std::thread::spawn(move || {
            // As the agent's hot threads: real-time, at home on one core.
            let _governor = realtime.then(|| Governor::enter(Class::Realtime, sched::ENGINE, home));
            floor((&root, &trash, &dir), first, &beginning, &stopped);
        });
        while began.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let hot = OpenOptions::new()
            .append(true)
            .open(field.hot_dir.join("f00000"))
            .expect("opened");
        Self {
            stop,
            thread: Some(thread),
            hot,
        }
    }

    fn end(mut self) {
        self.stop.store(true, Ordering::Release);
        self.hot.write_all(b"x").expect("written");
        self.thread.take().expect("once").join().expect("no panic");
    }
}

fn floor(
    (root, trash, dir): (&Path, &Path, &Path),
    first: usize,
    began: &AtomicUsize,
    stop: &AtomicBool,
) {
    let notify = inotify::init(CreateFlags::empty()).expect("inotify");
    inotify::add_watch(&notify, dir, WatchFlags::MODIFY).expect("a watch");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty()).expect("opened");
    let (root, trash, dir) = (open(root), open(trash), open(dir));
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&notify, &mut buffer);
    let mut number = first;
    let mut name = format!("s{number:07}");
    began.store(1, Ordering::Release);
    loop {
        reader.next().expect("an event");
        rustix::fs::statx(
            &dir,
            "f00000",
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::BASIC_STATS,
        )
        .expect("a statx");
        if stop.load(Ordering::Acquire) {
            return;
        }
        rustix::fs::renameat_with(&root, &name, &trash, &name, RenameFlags::NOREPLACE)
            .expect("a rename");
        number += 1;
        name = format!("s{number:07}");
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

/// The writer keeps off the core where the hot threads are at home: on the first one. Returns
/// where it may run otherwise.
fn keep_to_first_core() -> CpuSet {
    let allowed = sched_getaffinity(None).expect("its cores");
    let core = (0..CpuSet::MAX_CPU)
        .find(|cpu| allowed.is_set(*cpu))
        .expect("a core");
    let mut first = CpuSet::new();
    first.set(core);
    sched_setaffinity(None, &first).expect("a core can be kept to");
    allowed
}

/// The two trees of one place.
struct Trees {
    scratch: Scratch,
    agents: Field,
    floors: Field,
    n_removed: usize,
}

impl Trees {
    fn new(base: &Path, n_sessions: usize) -> Self {
        let scratch = Scratch::new(base, "reaction");
        let agents = Field::new(&scratch.0.join("agent"), n_sessions);
        let floors = Field::new(&scratch.0.join("floor"), n_sessions);
        Self {
            scratch,
            agents,
            floors,
            n_removed: 0,
        }
    }
}

/// What is measured on a place's trees.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    place: &'a str,
    backend: &'a str,
    class: &'a str,
    /// Foreign writes a second; 0 for nobody.
    foreign: u64,
    core: Option<Home>,
}

/// What came out.
struct Outcome {
    floor: [f64; 2],
    agent: [f64; 2],
}

impl Outcome {
    fn is_within(&self, budget: f64) -> bool {
        self.agent[0] <= budget * self.floor[0] && self.agent[1] <= budget * self.floor[1]
    }
}

fn measure(trees: &mut Trees, case: Case<'_>) -> Outcome {
    let n_trials = option("--trials", 1_000usize);
    trees.agents.refill();
    trees.floors.refill();
    let (field, floor_field) = (&mut trees.agents, &mut trees.floors);
    let trash = trees.scratch.0.join(format!("trash-{}", trees.n_removed));
    trees.n_removed += 1;
    fs::create_dir(&trash).expect("a trash");
    let setup = Setup {
        max_size: field.bytes(),
        backend: case.backend,
        scheduling: case.class,
        headroom: "0",
    };
    let mut agent = setup.start(&field.root, &trees.scratch.0.join("home"));
    let status = agent.ready();
    assert_eq!(status["bytes"].as_u64(), Some(field.bytes()), "{status}");
    assert_eq!(status["watch"]["backend"], case.backend, "{status}");
    let got = status["scheduling"].as_str().unwrap_or("?").to_owned();
    // The trees' own writes are on the disk before anything is measured.
    rustix::fs::sync();
    let floor = Floor::start(floor_field, &trash, case.class == "realtime", case.core);
    // After the agent and the floor have begun: a child takes over where its parent may run.
    let allowed = keep_to_first_core();
    let mut beside = None;
    let mut foreign = None;
    if case.foreign > 0 {
        beside = Some(Beside::new(&trees.scratch.0.join("beside"), case.foreign));
        foreign = Some(Foreign::start(&trees.scratch, case.foreign));
    }
    // Whoever measures is not to wait for a core when the session is gone: it would measure
    // itself. Below the floor's thread and the agent's.
    let observer =
        (case.class == "realtime").then(|| Governor::enter(Class::Realtime, sched::READER, None).0);
    let block = vec![b'y'; BLOCK];
    let (mut of_floor, mut of_agent) = (Vec::new(), Vec::new());
    for _ in 0..n_trials {
        std::thread::sleep(PAUSE);
        of_floor.push(floor_field.trial(&block, &mut beside));
        std::thread::sleep(PAUSE);
        of_agent.push(field.trial(&block, &mut beside));
    }
    let reached = foreign.as_ref().map_or(0.0, Foreign::rate);
    if let Some(observer) = observer {
        observer.leave().expect("the ordinary class");
    }
    drop(foreign);
    sched_setaffinity(None, &allowed).expect("any core again");
    floor.end();
    let at = |samples: &[Duration]| [50.0, 99.0].map(|p| micros(percentile(samples, p)));
    let outcome = Outcome {
        floor: at(&of_floor),
        agent: at(&of_agent),
    };
    let status = agent.root().unwrap_or_default();
    println!(
        "reaction {:5} {:8} {:8} ({got}, then {}) {} sessions {reached:.0} foreign writes/s, {n_trials} trials: \
         floor p50 {:.1} p99 {:.1} µs, agent p50 {:.1} p99 {:.1} µs, ratio p50 {:.2} p99 {:.2}; \
         inside, hint to rename: {}",
        case.place,
        case.backend,
        case.class,
        status["scheduling"].as_str().unwrap_or("?"),
        field.n_sessions,
        outcome.floor[0],
        outcome.floor[1],
        outcome.agent[0],
        outcome.agent[1],
        outcome.agent[0] / outcome.floor[0],
        outcome.agent[1] / outcome.floor[1],
        status["reaction"],
    );
    outcome
}

/// All cases of one place; whether the budgets were held.
fn run(place: &str, base: &Path, core: Option<Home>) -> bool {
    let rate = option("--foreign", 100_000u64);
    let (n_few, n_many) = (
        option("--sessions", 20_000usize),
        option("--many", 200_000usize),
    );
    let mut held = true;
    let mut few_p50 = None;
    let mut trees = Trees::new(base, n_few);
    for backend in backends() {
        for foreign in [0, rate] {
            let case = Case {
                place,
                backend: &backend,
                class: "realtime",
                foreign,
                core,
            };
            let outcome = measure(&mut trees, case);
            held &= outcome.is_within(budget(&backend));
            if backend == "fanotify" && foreign == 0 {
                few_p50 = Some(outcome.agent[0] / outcome.floor[0]);
            }
        }
        // The default scheduler is measured for the record.
        let case = Case {
            place,
            backend: &backend,
            class: "normal",
            foreign: 0,
            core,
        };
        measure(&mut trees, case);
    }
    drop(trees);
    let Some(few_p50) = few_p50.filter(|_| n_many > 0) else {
        return held;
    };
    let mut trees = Trees::new(base, n_many);
    for foreign in [0, rate] {
        let case = Case {
            place,
            backend: "fanotify",
            class: "realtime",
            foreign,
            core,
        };
        let outcome = measure(&mut trees, case);
        held &= outcome.is_within(budget("fanotify"));
        if foreign == 0 {
            println!(
                "         {} times the sessions: {:.2} of what it was beside the floor, p50",
                n_many / n_few,
                outcome.agent[0] / outcome.floor[0] / few_p50
            );
        }
    }
    held
}

fn main() {
    foreign::write_if_asked();
    // Asked before the writer is kept to a core: the agent, a process of its own, takes the same.
    let home = Home::next();
    let only: String = option("--place", String::new());
    let mut held = true;
    for (place, base) in places() {
        if only.is_empty() || only == place {
            held &= run(place, &base, home);
        }
    }
    println!(
        "reaction: budgets {}",
        if held { "held" } else { "NOT held" }
    );
    if option("--judge", 1u8) == 1 && !held {
        std::process::exit(1);
    }
}
