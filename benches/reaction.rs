//! From just before the write call that takes a root over its limit to the oldest session's
//! absence: the real agent, beside the floor measured in the same run (a bare inotify wake-up,
//! one `statx`, one `rename`), interleaved and in the same scheduling class.
//!
//! `cargo bench --bench reaction [-- --sessions 20000 --trials 1000 --judge 1]`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

mod support;

use housekeeper::sched::{self, Class, Governor, Home};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::{Agent, Scratch, option, percentile, places, session};

const BLOCK: usize = 4096;
const BUDGET: f64 = 3.0;
/// Long enough for the removal of the last victim.
const PAUSE: Duration = Duration::from_millis(3);
const PATIENCE: Duration = Duration::from_secs(5);

/// A root full of sessions with a hot file in the newest.
struct Field {
    root: PathBuf,
    hot: File,
    next: usize,
}

impl Field {
    fn new(root: &Path, n_sessions: usize) -> Self {
        fs::create_dir(root).expect("a root");
        for number in 0..n_sessions {
            session(root, number, 1, BLOCK);
        }
        let newest = session(root, n_sessions, 1, BLOCK);
        let hot = OpenOptions::new()
            .append(true)
            .open(newest.join("f00000"))
            .expect("opened");
        Self {
            root: root.to_owned(),
            hot,
            next: 0,
        }
    }

    /// Writes one block; how long until the oldest session is not there any more.
    fn trial(&mut self, block: &[u8]) -> Duration {
        let oldest = self.root.join(format!("s{:07}", self.next));
        self.next += 1;
        let begun = Instant::now();
        self.hot.write_all(block).expect("written");
        loop {
            match rustix::fs::access(&oldest, rustix::fs::Access::EXISTS) {
                Err(Errno::NOENT) => return begun.elapsed(),
                _ => assert!(begun.elapsed() < PATIENCE, "{} stays", oldest.display()),
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
    fn start(
        root: &Path,
        trash: &Path,
        hot_dir: &Path,
        realtime: bool,
        home: Option<Home>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, root, trash, dir) = (
            stop.clone(),
            root.to_owned(),
            trash.to_owned(),
            hot_dir.to_owned(),
        );
        let began = Arc::new(AtomicUsize::new(0));
        let beginning = began.clone();
        let thread = std::thread::spawn(move || {
            // As the agent's hot threads: real-time, at home on one core.
            let _governor = realtime.then(|| Governor::enter(Class::Realtime, sched::ENGINE, home));
            floor(&root, &trash, &dir, &beginning, &stopped);
        });
        while began.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let hot = OpenOptions::new()
            .append(true)
            .open(hot_dir.join("f00000"))
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

fn floor(root: &Path, trash: &Path, dir: &Path, began: &AtomicUsize, stop: &AtomicBool) {
    let notify = inotify::init(CreateFlags::empty()).expect("inotify");
    inotify::add_watch(&notify, dir, WatchFlags::MODIFY).expect("a watch");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty()).expect("opened");
    let (root, trash, dir) = (open(root), open(trash), open(dir));
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&notify, &mut buffer);
    let mut number = 0;
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

fn measure(place: (&str, &Path), class: &str, core: Option<Home>) -> bool {
    let (place, base) = place;
    let n_sessions = option("--sessions", 20_000usize);
    let n_trials = option("--trials", 1_000usize);
    let scratch = Scratch::new(base, "reaction");
    let home = scratch.0.join("home");
    fs::create_dir(&home).expect("a home");
    let mut field = Field::new(&scratch.0.join("agent"), n_sessions);
    let floor_root = scratch.0.join("floor");
    let mut floor_field = Field::new(&floor_root, n_sessions);
    let trash = scratch.0.join("floor-trash");
    fs::create_dir(&trash).expect("a trash");

    let limit = format!("{}B", (n_sessions + 1) * BLOCK);
    let mut agent = Agent::start(
        &field.root,
        &home,
        &["--max-size", &limit, "--scheduling", class],
    );
    let status = agent.ready();
    assert_eq!(
        status["bytes"].as_u64(),
        Some(((n_sessions + 1) * BLOCK) as u64),
        "{status}"
    );
    let got = status["scheduling"].as_str().unwrap_or("?").to_owned();
    // The trees' own writes are on the disk before anything is measured.
    rustix::fs::sync();
    let hot_dir = floor_root.join(format!("s{n_sessions:07}"));
    let floor = Floor::start(&floor_root, &trash, &hot_dir, class == "realtime", core);
    // After the agent and the floor have begun: a child takes over where its parent may run.
    let allowed = keep_to_first_core();
    let block = vec![b'y'; BLOCK];
    let (mut of_floor, mut of_agent) = (Vec::new(), Vec::new());
    for _ in 0..n_trials {
        std::thread::sleep(PAUSE);
        of_floor.push(floor_field.trial(&block));
        std::thread::sleep(PAUSE);
        of_agent.push(field.trial(&block));
    }
    sched_setaffinity(None, &allowed).expect("any core again");
    floor.end();
    let at = |samples: &[Duration], p| micros(percentile(samples, p));
    let (f50, f99) = (at(&of_floor, 50.0), at(&of_floor, 99.0));
    let (a50, a99) = (at(&of_agent, 50.0), at(&of_agent, 99.0));
    let (r50, r99) = (a50 / f50, a99 / f99);
    println!(
        "reaction {place:5} {class:8} ({got}) {n_sessions} sessions {n_trials} trials: \
         floor p50 {f50:.1} p99 {f99:.1} µs, agent p50 {a50:.1} p99 {a99:.1} µs, \
         ratio p50 {r50:.2} p99 {r99:.2}"
    );
    let inside = agent
        .root()
        .map(|root| root["reaction"].to_string())
        .unwrap_or_default();
    println!("         the agent's own figures, hint to rename: {inside}");
    r50 <= BUDGET && r99 <= BUDGET
}

fn main() {
    // Asked before the writer is kept to a core: the agent, a process of its own, takes the same.
    let home = Home::next();
    let judge = option("--judge", 1u8) == 1;
    let only: String = option("--place", String::new());
    let mut held = true;
    for (place, base) in places() {
        if !only.is_empty() && only != place {
            continue;
        }
        for class in ["realtime", "normal"] {
            let within = measure((place, &base), class, home);
            // The default scheduler is measured for the record.
            held &= within || class == "normal";
        }
    }
    println!(
        "reaction: budget {BUDGET} x floor {}",
        if held { "held" } else { "NOT held" }
    );
    if judge && !held {
        std::process::exit(1);
    }
}
