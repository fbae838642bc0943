//! A full scan beside `du -s` on the same tree in the same run, and the resident memory of an
//! agent at many files over an empty one, and what an idle agent wakes up for.
//!
//! `cargo bench --bench scan [-- --files 500000 --sessions 20000 --rounds 5 --memory 1000000
//! --memory-sessions 100000]`; `--rounds 0` leaves the scans out, and `--index 100000 --spread 16`
//! all but an index of so many sessions, so many of which were written in turns.
//!
//! Memory is measured in two shapes: so many sessions, and half as many. First the index by
//! itself, written one session after the other and in turns, then a whole agent with its watches.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

mod support;

use housekeeper::index::Index;
use housekeeper::model::plan::ReadAs;
use housekeeper::model::seen::{FileId, FileKind, Stat};
use housekeeper::model::session::{Facts, Verdict};
use housekeeper::model::time::UnixNanos;
use housekeeper::model::watcher::{DirKey, Watch};
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

/// The budget for resident bytes a file, everything included.
const BUDGET: f64 = 48.0;

/// Resident bytes a file of an index alone, in this process: with all that deciding needs, then
/// with the places of its files as well, which an agent keeps after its first scan.
fn index_memory(n_files: usize, n_sessions: usize, spread: u64) {
    let before = resident_bytes(std::process::id());
    let begun = Instant::now();
    let mut index = index(n_files, n_sessions, spread);
    let took = begun.elapsed();
    let after = resident_bytes(std::process::id());
    let n_known = index.totals().counted.n_files;
    assert_eq!(n_known, n_files as u64);
    let begun = Instant::now();
    index.keep_homes();
    let kept = begun.elapsed();
    let with_homes = resident_bytes(std::process::id());
    let a_file = |from: u64, to: u64| to.saturating_sub(from) as f64 / n_files as f64;
    println!(
        "index {n_files} files in {n_sessions} sessions, inodes of {spread} at a time: {:.1} bytes a file, {:.1} more for their places; {:.0} ns a file to build, {:.1} ms for the places",
        a_file(before, after),
        a_file(after, with_homes),
        took.as_secs_f64() * 1e9 / n_files as f64,
        kept.as_secs_f64() * 1e3,
    );
}

fn stat(ino: u64, kind: FileKind) -> Stat {
    Stat {
        id: FileId { dev: 1, ino },
        mount: 1,
        kind,
        apparent: 64,
        allocated: 4096,
        n_links: 1,
        mtime: UnixNanos(1),
        ctime: UnixNanos(1),
        btime: Some(UnixNanos(1)),
    }
}

/// An index of sessions with facts, each of whose directories is watched and was listed. So many
/// sessions are written at the same time, and their files get inode numbers in turns.
fn index(n_files: usize, n_sessions: usize, spread: u64) -> Index {
    let mut index = Index::new();
    let root = index.root();
    let each = (n_files / n_sessions) as u64;
    for number in 0..n_sessions as u64 {
        let name = format!("s{number:07}");
        let own = 1 + number;
        let (session, dir) = index.begin_tree(root, name.as_bytes(), &stat(own, FileKind::Dir));
        let watch = Watch {
            generation: own,
            key: DirKey(own.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        };
        index.set_watch(dir, watch, false);
        let (group, at) = (number / spread, number % spread);
        let first = n_sessions as u64 + 1 + group * spread * each + at;
        for file in 0..each {
            let name = format!("f{file:05}");
            let stat = stat(first + file * spread, FileKind::File);
            index.put_file(dir, name.as_bytes(), &stat);
        }
        index.end_listing(dir, 0);
        let facts = Facts {
            verdict: Verdict::Certain,
            created: Some(UnixNanos::new(1_600_000_000 + number as i64, 0).time()),
            ..Facts::unknown()
        };
        let read = ReadAs {
            name: Box::from(&b"metadata.json"[..]),
            signature: Some(stat(first, FileKind::File).signature()),
        };
        index.set_facts(session, facts, &[read]);
    }
    index.end_listing(root, 0);
    index
}

/// Resident bytes a file over an agent on an empty root, and the idle agent's wake-ups.
fn memory(base: &Path, n_files: usize, n_sessions: usize) -> bool {
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
        let pid = agent.child.id();
        (resident_bytes(pid), peak_bytes(pid), wakeups, status)
    };
    let (empty, _, _, _) = resident("empty", 0);
    let (full, peak, wakeups, status) = resident("full", n_files);
    let a_file = |bytes: u64| bytes.saturating_sub(empty) as f64 / n_files as f64;
    println!(
        "memory {n_files} files in {n_sessions} sessions: empty agent {:.1} MiB, full {:.1} MiB, {:.1} bytes a file, {:.1} at the peak",
        empty as f64 / 1048576.0,
        full as f64 / 1048576.0,
        a_file(full),
        a_file(peak)
    );
    println!(
        "start {n_files} files: first scan with watches {} ms",
        status["rescan"]["duration_ms"]
    );
    println!(
        "idle: {wakeups} context switches of all threads in {} s",
        IDLE.as_secs()
    );
    a_file(full) <= BUDGET
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

/// The most that was resident at any time.
fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.expect("a peak") * 1024
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
    let n_files = option("--memory", 1_000_000usize);
    let n_sessions = option("--memory-sessions", 100_000usize);
    let of_index = option("--index", 0usize);
    if of_index > 0 {
        return index_memory(n_files, of_index, option("--spread", 1u64));
    }
    let shapes = [n_sessions, n_sessions / 2];
    let this = std::env::current_exe().expect("this program");
    for (n_sessions, spread) in shapes.into_iter().flat_map(|n| [(n, 1), (n, 16)]) {
        // In a process of its own: no memory was used before.
        let mut child = Command::new(&this);
        child.args(["--memory", &n_files.to_string()]);
        child.args(["--index", &n_sessions.to_string()]);
        child.args(["--spread", &spread.to_string()]);
        let status = child.status().expect("it starts");
        assert!(status.success(), "{child:?}");
    }
    let mut held = true;
    if option("--rounds", 5usize) > 0 {
        for (place, base) in places() {
            held &= scan(place, &base);
        }
    }
    let (_, base) = places().pop().expect("a place");
    for n_sessions in shapes {
        held &= memory(&base, n_files, n_sessions);
    }
    println!("scan: budgets {}", if held { "held" } else { "NOT held" });
    if !held && option("--judge", 1u8) == 1 {
        std::process::exit(1);
    }
}
