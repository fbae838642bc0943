//! A full scan beside `du -s` on the same tree in the same run, and the resident memory of an
//! agent at many files over an empty one, and what an idle agent wakes up for.
//!
//! `cargo bench --bench scan [-- --files 500000 --sessions 20000 --rounds 5 --memory 1000000]`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Agent, Scratch, option, percentile, places, session};

fn tree(root: &Path, n_files: usize, n_sessions: usize) {
    fs::create_dir(root).expect("a root");
    let files = n_files / n_sessions - 1;
    for number in 0..n_sessions {
        session(root, number, files, 64 * (files + 1));
    }
}

fn time(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("it starts");
    assert!(status.success(), "{command:?}");
    begun.elapsed()
}

/// The whole command against the whole command, interleaved, the cache warm.
fn scan(place: &str, base: &Path) -> bool {
    let (n_files, n_sessions) = (
        option("--files", 500_000usize),
        option("--sessions", 20_000usize),
    );
    let scratch = Scratch::new(base, "scan");
    let root = scratch.0.join("root");
    tree(&root, n_files, n_sessions);
    let mut du = Command::new("du");
    du.arg("-s").arg(&root);
    let mut ours = Command::new(env!("CARGO_BIN_EXE_housekeeper"));
    // `plan` builds the whole index and prints little.
    ours.args(["plan", "--json", "--max-size", "1TiB", "--root"])
        .arg(&root);
    time(&mut du);
    time(&mut ours);
    let (mut of_du, mut of_ours) = (Vec::new(), Vec::new());
    for _ in 0..option("--rounds", 5usize) {
        of_du.push(time(&mut du));
        of_ours.push(time(&mut ours));
    }
    let (du, ours) = (percentile(&of_du, 50.0), percentile(&of_ours, 50.0));
    let ratio = ours.as_secs_f64() / du.as_secs_f64();
    println!(
        "scan {place:5} {n_files} files in {n_sessions} sessions: du -s {:.0} ms, housekeeper {:.0} ms, ratio {ratio:.2}",
        du.as_secs_f64() * 1e3,
        ours.as_secs_f64() * 1e3
    );
    ratio <= 1.0
}

/// Resident bytes a file over an agent on an empty root, and the idle agent's wake-ups.
fn memory(base: &Path, n_sessions: usize) -> bool {
    let n_files = option("--memory", 1_000_000usize);
    let scratch = Scratch::new(base, "memory");
    let resident = |name: &str, files: usize| {
        let root = scratch.0.join(name);
        let home = scratch.0.join(format!("{name}-home"));
        fs::create_dir(&home).expect("a home");
        if files > 0 {
            tree(&root, files, n_sessions);
        }
        let mut agent = Agent::start(
            &root,
            &home,
            &["--max-size", "100TiB", "--log-level", "warn"],
        );
        let status = agent.ready();
        assert_eq!(status["files"].as_u64(), Some(files as u64));
        let wakeups = idle_wakeups(agent.child.id());
        (resident_bytes(agent.child.id()), wakeups, status)
    };
    let (empty, _, _) = resident("empty", 0);
    let (full, wakeups, status) = resident("full", n_files);
    let a_file = (full.saturating_sub(empty)) as f64 / n_files as f64;
    println!(
        "memory {n_files} files in {n_sessions} sessions: empty agent {:.1} MiB, full {:.1} MiB, {a_file:.1} bytes a file",
        empty as f64 / 1048576.0,
        full as f64 / 1048576.0
    );
    println!(
        "start {n_files} files: first scan with watches {} ms",
        status["rescan"]["duration_ms"]
    );
    println!(
        "idle: {wakeups} context switches of all threads in {} s",
        IDLE.as_secs()
    );
    a_file <= 100.0
}

const IDLE: Duration = Duration::from_secs(10);

fn resident_bytes(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("statm");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("pages");
    pages * rustix::param::page_size() as u64
}

/// Voluntary context switches of all threads of a process while nothing happens.
fn idle_wakeups(pid: u32) -> u64 {
    let switches = || -> u64 {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
            .filter_map(|status| {
                let line = status
                    .lines()
                    .find(|l| l.starts_with("voluntary_ctxt_switches"))?;
                line.split_whitespace().nth(1)?.parse::<u64>().ok()
            })
            .sum()
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = switches();
    std::thread::sleep(IDLE);
    switches() - before
}

fn main() {
    let mut held = true;
    for (place, base) in places() {
        held &= scan(place, &base);
    }
    let (_, base) = places().pop().expect("a place");
    held &= memory(&base, option("--memory-sessions", 50_000usize));
    println!("scan: budgets {}", if held { "held" } else { "NOT held" });
    if !held && option("--judge", 1u8) == 1 {
        std::process::exit(1);
    }
}
