//! The real agent, asked from outside: bursts of new directories, removals of many watched ones,
//! rest, and hours of writes.

use crate::setup::{Setup, backends};
use crate::support::{Agent, Scratch, option, percentile, session};
use rustix::io::Errno;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const UNLIMITED: u64 = 1 << 50;
const BLOCK: usize = 4096;
/// So long nothing may change before an agent counts as at rest.
const REST: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

fn setup(backend: &str, max_size: u64) -> Setup<'_> {
    Setup {
        max_size,
        backend,
        scheduling: "realtime",
        headroom: "0",
    }
}

/// Waits until the agent knows so many files or knows no more for a while.
fn at_rest(agent: &Agent, n_files: u64) -> Value {
    let begun = Instant::now();
    let mut last = (Value::Null, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let Some(root) = agent.root() else { continue };
        let files = root["files"].clone();
        if files.as_u64() == Some(n_files) {
            return root;
        }
        if files != last.0 {
            last = (files, Instant::now());
        }
        if last.1.elapsed() > REST * 10 || begun.elapsed() > PATIENCE {
            return root;
        }
    }
}

/// Directories made as fast as can be, ten files in each: none may be missing at rest.
pub(crate) fn new_directories(base: &Path) -> bool {
    let mut held = true;
    for backend in backends() {
        for n_dirs in [1_000usize, 10_000] {
            let scratch = Scratch::new(base, "burst");
            let root = scratch.0.join("root");
            fs::create_dir(&root).expect("a root");
            let mut agent = setup(&backend, UNLIMITED).start(&root, &scratch.0.join("home"));
            let before = agent.ready();
            let begun = Instant::now();
            for number in 0..n_dirs {
                session(&root, number, 9, 0);
            }
            let made = begun.elapsed();
            let n_files = n_dirs as u64 * 10;
            let after = at_rest(&agent, n_files);
            let seen = after["files"].as_u64().unwrap_or(0);
            let lost = n_files.saturating_sub(seen);
            println!(
                "burst {backend:8} {n_dirs} directories x 10 files in {:.0} ms: {lost} files lost, known {:.0} ms after the last; \
                 {} losses, {} scans",
                made.as_secs_f64() * 1e3,
                (begun.elapsed() - made).as_secs_f64() * 1e3,
                after["watch"]["lost"],
                after["rescan"]["count"].as_u64().unwrap_or(0)
                    - before["rescan"]["count"].as_u64().unwrap_or(0),
            );
            held &= lost == 0;
        }
    }
    held
}

/// Sessions of one block each, oldest first, and a file that grows.
struct Field {
    root: PathBuf,
    oldest: usize,
    end: usize,
    hot: File,
    hot_bytes: u64,
}

impl Field {
    fn new(root: PathBuf, n_sessions: usize) -> Self {
        fs::create_dir(&root).expect("a root");
        for number in 0..n_sessions {
            session(&root, number, 1, BLOCK);
        }
        // Far from the oldest at all times.
        let last = root.join(format!("s{:07}", n_sessions - 1));
        let hot = OpenOptions::new().append(true).open(last.join("f00000"));
        Self {
            root,
            oldest: 0,
            end: n_sessions,
            hot: hot.expect("a file"),
            hot_bytes: 0,
        }
    }

    fn refill(&mut self, n_sessions: usize) {
        while self.end - self.oldest < n_sessions {
            session(&self.root, self.end, 1, BLOCK);
            self.end += 1;
        }
    }

    fn bytes(&self) -> u64 {
        ((self.end - self.oldest) * BLOCK) as u64 + self.hot_bytes
    }

    /// Makes the hot file longer, without a byte written.
    fn grow(&mut self, by: u64) {
        let now = self.hot.metadata().expect("metadata").len();
        self.hot.set_len(now + by).expect("a longer file");
        self.hot_bytes += by;
    }

    fn has(&self, number: usize) -> bool {
        let path = self.root.join(format!("s{number:07}"));
        rustix::fs::access(path, rustix::fs::Access::EXISTS) != Err(Errno::NOENT)
    }

    /// A block each millisecond, whatever became of those before: how long until each block's
    /// session was gone.
    fn paced(&mut self, n_blocks: usize) -> Vec<Duration> {
        let begun = Instant::now();
        let due = |n: usize| Duration::from_millis(n as u64 + 1);
        let (mut n_written, mut took) = (0, Vec::new());
        while took.len() < n_blocks {
            let now = begun.elapsed();
            assert!(now < PATIENCE, "{} of {n_blocks} are gone", took.len());
            if n_written < n_blocks && now >= due(n_written) {
                self.hot.write_all(&[b'h'; BLOCK]).expect("written");
                self.hot_bytes += BLOCK as u64;
                n_written += 1;
            }
            if took.len() < n_written && !self.has(self.oldest) {
                let since = due(took.len());
                took.push(begun.elapsed().saturating_sub(since));
                self.oldest += 1;
            }
        }
        took
    }
}

/// From a write over the limit to the oldest session's absence, right after many watched
/// directories went.
pub(crate) fn removals(base: &Path) -> bool {
    let (n_sessions, n_gone) = (option("--watched", 50_000usize), option("--gone", 2_000));
    let n_blocks = option("--blocks", 1_000usize);
    let scratch = Scratch::new(base, "removals");
    let mut field = Field::new(scratch.0.join("root"), n_sessions);
    let mut held = true;
    for backend in backends() {
        for by in ["prune", "rm -rf"] {
            field.refill(n_sessions);
            let mut agent =
                setup(&backend, field.bytes()).start(&field.root, &scratch.0.join("home"));
            let status = agent.ready();
            assert_eq!(status["bytes"].as_u64(), Some(field.bytes()), "{status}");
            let begun = Instant::now();
            let first = field.oldest;
            if by == "prune" {
                field.grow((n_gone * BLOCK) as u64);
                while field.has(first + n_gone - 1) {
                    assert!(begun.elapsed() < PATIENCE, "they stay");
                }
                field.oldest += n_gone;
            } else {
                let gone = first..first + n_gone;
                let paths = gone.map(|n| field.root.join(format!("s{n:07}")));
                let done = Command::new("rm").arg("-rf").args(paths).status();
                assert!(done.is_ok_and(|status| status.success()));
                field.oldest += n_gone;
                field.grow((n_gone * BLOCK) as u64);
            }
            let gone = begun.elapsed();
            let took = field.paced(n_blocks);
            let at = |p| percentile(&took, p).as_secs_f64() * 1e3;
            let budget = if by == "prune" { 5.0 } else { 500.0 };
            println!(
                "removal {backend:8} {n_gone} of {n_sessions} directories by {by} in {:.0} ms, then a write each ms: \
                 p50 {:.3} p99 {:.3} worst {:.3} ms (p99 below {budget})",
                gone.as_secs_f64() * 1e3,
                at(50.0),
                at(99.0),
                at(100.0)
            );
            held &= at(99.0) < budget || backend == "notify";
        }
    }
    held
}

/// Longer than a name that was written to stays warm (`engine::hot`).
const WARM: Duration = Duration::from_secs(185);

/// An agent on a tree that nobody touches does nothing, and hears nothing of itself.
pub(crate) fn rest(base: &Path) -> bool {
    let scratch = Scratch::new(base, "rest");
    let root = scratch.0.join("root");
    fs::create_dir(&root).expect("a root");
    for number in 0..20_000 {
        session(&root, number, 1, BLOCK);
    }
    let lasts = Duration::from_secs(option("--rest", 10));
    let mut agents: Vec<(String, Agent)> = backends()
        .into_iter()
        .map(|backend| {
            let home = scratch.0.join(format!("home-{backend}"));
            let mut agent = setup(&backend, UNLIMITED).start(&root, &home);
            agent.ready();
            (backend, agent)
        })
        .collect();
    // So long the guard looks at what was written last, four times a second.
    std::thread::sleep(WARM);
    let before: Vec<u64> = agents
        .iter()
        .map(|(_, agent)| switches(agent.child.id()))
        .collect();
    std::thread::sleep(lasts);
    let after: Vec<u64> = agents
        .iter()
        .map(|(_, agent)| switches(agent.child.id()))
        .collect();
    let mut held = true;
    for (n, (backend, agent)) in agents.iter_mut().enumerate() {
        let switches = after[n] - before[n];
        let status = agent.root().expect("the agent answers");
        println!(
            "rest {backend:8} 20 000 directories: {switches} context switches in {} s, {} s after the start; {} losses since then, {} watches",
            lasts.as_secs(),
            WARM.as_secs(),
            status["watch"]["lost"],
            status["watch"]["watches"]
        );
        // The guard asks for the file system's total every half a minute.
        held &= switches <= 1 + lasts.as_secs() / 30 && status["watch"]["lost"] == 0;
    }
    held
}

/// Voluntary context switches of all threads of a process.
fn switches(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let of = |status: String| -> Option<u64> {
        let line = status
            .lines()
            .find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(of)
        .sum()
}

/// Resident memory while somebody writes at full speed: it grows no more once it is warm.
pub(crate) fn soak(base: &Path) -> bool {
    const ALLOWED: u64 = 2 << 20;
    let lasts = Duration::from_secs(option("--soak", 10));
    let mut held = true;
    for backend in backends() {
        let scratch = Scratch::new(base, "soak");
        let root = scratch.0.join("root");
        let paths = super::board::tree(&root, 1_000);
        let mut agent = setup(&backend, UNLIMITED).start(&root, &scratch.0.join("home"));
        agent.ready();
        let open = |path: &PathBuf| OpenOptions::new().write(true).open(path).expect("a file");
        let files: Vec<File> = paths.iter().map(open).collect();
        let (begun, mut n_writes, mut sizes) = (Instant::now(), 0u64, Vec::new());
        while begun.elapsed() < lasts {
            for file in &files {
                // Longer by one byte each time, so that there is something to learn.
                file.write_all_at(b"s", n_writes / 1000).expect("written");
                n_writes += 1;
            }
            if n_writes % 100_000 == 0 {
                sizes.push((begun.elapsed(), resident(agent.child.id())));
            }
        }
        let warm = lasts / 5;
        let after = sizes.iter().filter(|(at, _)| *at > warm);
        let (first, last) = (
            after.clone().next().map_or(0, |(_, bytes)| *bytes),
            after.map(|(_, bytes)| *bytes).max().unwrap_or(0),
        );
        let status = agent.root().expect("the agent answers");
        println!(
            "soak {backend:8} {} s, {:.0} writes/s over 1 000 files: resident {:.1} MiB after a fifth, at most {:.1} MiB after it; {} losses",
            lasts.as_secs(),
            n_writes as f64 / begun.elapsed().as_secs_f64(),
            first as f64 / 1048576.0,
            last as f64 / 1048576.0,
            status["watch"]["lost"]
        );
        held &= last.saturating_sub(first) <= ALLOWED;
    }
    held
}

fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("statm");
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.expect("pages") * rustix::param::page_size() as u64
}
