//! Where a writer says what it writes, and a listener when it knew: two arrays that nobody locks.
//!
//! The total that a listener keeps is at least what had been written up to and with a write:
//! then that write counts as known. A look costs one atomic load beside the listener's own work,
//! a known write one reading of the clock.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::session;

const BLOCK: [u8; 64] = [b'w'; 64];
/// Most writes that are timed; those in between are counted only.
const MAX_TIMED: usize = 1 << 20;
/// At most one write in so long is timed.
const APART: Duration = Duration::from_micros(4);
/// Writes that are due longer than this are left out.
const DEBT: Duration = Duration::from_millis(10);

/// One write: all that was written with it, and when it began.
#[derive(Debug, Default)]
struct Timed {
    total: AtomicU64,
    nanos: AtomicU64,
}

/// What a writer and a listener share.
#[derive(Debug)]
pub(super) struct Board {
    timed: Vec<Timed>,
    n_timed: AtomicUsize,
    pub(super) begun: Instant,
    pub(super) over: AtomicBool,
}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            timed: (0..MAX_TIMED).map(|_| Timed::default()).collect(),
            n_timed: AtomicUsize::new(0),
            begun: Instant::now(),
            over: AtomicBool::new(false),
        }
    }

    fn begins(&self, total: u64, at: Duration) {
        let next = self.n_timed.load(Ordering::Relaxed);
        if let Some(timed) = self.timed.get(next) {
            timed.total.store(total, Ordering::Relaxed);
            timed.nanos.store(at.as_nanos() as u64, Ordering::Relaxed);
            self.n_timed.store(next + 1, Ordering::Release);
        }
    }
}

/// A listener's side.
#[derive(Debug)]
pub(super) struct Known<'a> {
    board: &'a Board,
    /// The total before the first write.
    base: u64,
    next: usize,
    pub(super) took: Vec<Duration>,
}

impl<'a> Known<'a> {
    pub(super) fn new(board: &'a Board, base: u64) -> Self {
        Self {
            board,
            base,
            next: 0,
            took: Vec::with_capacity(MAX_TIMED),
        }
    }

    /// The total is this now.
    pub(super) fn saw(&mut self, total: u64) {
        let written = total.saturating_sub(self.base);
        while self.next < self.board.n_timed.load(Ordering::Acquire) {
            let timed = &self.board.timed[self.next];
            if timed.total.load(Ordering::Relaxed) > written {
                return;
            }
            let began = Duration::from_nanos(timed.nanos.load(Ordering::Relaxed));
            self.took
                .push(self.board.begun.elapsed().saturating_sub(began));
            self.next += 1;
        }
    }

    /// Timed writes that were not known at the end.
    pub(super) fn n_unknown(&self) -> usize {
        self.board.n_timed.load(Ordering::Acquire) - self.next
    }
}

/// Files in ten times fewer sessions; their paths.
pub(super) fn tree(root: &Path, n_files: usize) -> Vec<PathBuf> {
    fs::create_dir(root).expect("a root");
    let mut paths = Vec::new();
    for number in 0..n_files.div_ceil(10) {
        let n_here = 10.min(n_files - paths.len());
        let dir = session(root, number, n_here, 0);
        paths.extend((0..n_here).map(|file| dir.join(format!("f{file:05}"))));
    }
    paths
}

/// What a writer did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrote {
    pub(super) n_writes: u64,
    pub(super) took: Duration,
    pub(super) cpu: Duration,
}

/// Appends a block to one file after the other, so many a second (`None`: as fast as it can).
pub(super) fn write(paths: &[PathBuf], rate: Option<f64>, lasts: Duration, board: &Board) -> Wrote {
    let open = |path: &PathBuf| {
        let file = OpenOptions::new().append(true).open(path);
        file.expect("a file")
    };
    let mut files: Vec<File> = paths.iter().map(open).collect();
    let (begun, cpu) = (board.begun.elapsed(), thread_cpu());
    let (mut n_writes, mut total, mut n_due) = (0u64, 0u64, 0.0f64);
    let mut timed_at = Duration::ZERO;
    loop {
        let now = board.begun.elapsed();
        if now.saturating_sub(begun) >= lasts {
            break;
        }
        if let Some(rate) = rate {
            let due = (now - begun).as_secs_f64() * rate;
            n_due = n_due.max(due - DEBT.as_secs_f64() * rate);
            if n_due >= due {
                std::hint::spin_loop();
                continue;
            }
            n_due += 1.0;
        }
        total += BLOCK.len() as u64;
        if now.saturating_sub(timed_at) >= APART {
            timed_at = now;
            board.begins(total, now);
        }
        let file = &mut files[n_writes as usize % paths.len()];
        file.write_all(&BLOCK).expect("written");
        n_writes += 1;
    }
    Wrote {
        n_writes,
        took: board.begun.elapsed() - begun,
        cpu: thread_cpu() - cpu,
    }
}

pub(super) fn thread_cpu() -> Duration {
    clock(rustix::time::ClockId::ThreadCPUTime)
}

pub(super) fn process_cpu() -> Duration {
    clock(rustix::time::ClockId::ProcessCPUTime)
}

fn clock(id: rustix::time::ClockId) -> Duration {
    let now = rustix::time::clock_gettime(id);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
