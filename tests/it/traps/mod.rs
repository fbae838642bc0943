//! The traps of watching, T1 to T32: each one on every backend that it applies to.
//!
//! | trap | where |
//! |---|---|
//! | T1 to T9, T11 to T14, T16, T29: what names and sizes do | `scripts/*.txt`, all backends |
//! | T7, T9, T10: what no event tells; T15: roots that go | `guard` |
//! | T11, T12, T16: what a prune makes of it | [`sessions`], all backends |
//! | T17, T18, T20 to T23: too many events | [`overload`] |
//! | T19, T24: nothing happens | [`idle`] |
//! | T25 to T27, T32: what a host refuses | [`limits`] |
//! | bytes that move while the limit is reached | [`moves`], fanotify and inotify |
//! | T28, T30, T31: scans and changes at once | [`scans`], all backends |
//!
//! A trap goes through all of [`Backend::ALL`]: a new backend is tried by all of them.

mod idle;
mod limits;
mod moves;
mod overload;
mod scans;
mod scripts;
mod sessions;

use crate::support::running::{Agent, Place};
use housekeeper::model::watcher::Backend;
use std::time::{Duration, Instant};

/// What a trap asks of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    All,
    /// Those that are told of changes.
    Hearing,
    /// Those whose kernel queue is full some time.
    Overflowing,
}

impl For {
    fn has(self, backend: Backend) -> bool {
        match (self, backend) {
            (Self::All, _) => true,
            (Self::Hearing, backend) => hears(backend),
            (Self::Overflowing, Backend::Inotify | Backend::Notify) => true,
            (Self::Overflowing, Backend::Fanotify | Backend::Poll) => false,
        }
    }
}

fn hears(backend: Backend) -> bool {
    match backend {
        Backend::Fanotify | Backend::Inotify | Backend::Notify => true,
        Backend::Poll => false,
    }
}

/// Runs a trap on a fresh place in memory for each backend it is for; one after the other.
#[expect(clippy::print_stdout, reason = "a failure says which backend it was")]
fn each_backend(traps: For, trap: impl Fn(&mut Place, Backend)) {
    for backend in Backend::ALL {
        if traps.has(backend) {
            println!("with {}", backend.name());
            let mut place = Place::in_memory();
            place.backend = backend.name();
            trap(&mut place, backend);
        }
    }
}

/// Fails as soon as `holds` says that something is not as it was, for so long.
fn stays(lasts: Duration, mut holds: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        if let Err(state) = holds() {
            panic!("{state}");
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// How many full scans began because of a loss.
fn n_recoveries(place: &Place) -> usize {
    place
        .told("cycle.start")
        .iter()
        .filter(|line| line["cause"] == "loss")
        .count()
}

/// The voluntary context switches of all threads that work for a root.
fn n_switches(agent: &Agent<'_>) -> u64 {
    let tasks = format!("/proc/{}/task", agent.child.id());
    let tasks = std::fs::read_dir(tasks).expect("it runs");
    tasks
        .flatten()
        .filter_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let rest = status.split("\nvoluntary_ctxt_switches:").nth(1)?;
            rest.lines().next()?.trim().parse::<u64>().ok()
        })
        .sum()
}
