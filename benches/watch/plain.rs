//! The two listeners to compare with: a recursive watch of `notify` with a `stat` for each event,
//! and the same with events gathered for 100 ms. Ordinary threads, as such programs have.

use super::board::{Board, Known};
use super::ours::Heard;
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const QUIET: Duration = Duration::from_millis(20);

/// Files and what they had when last looked at.
struct Sizes {
    sizes: HashMap<PathBuf, u64>,
    total: u64,
}

impl Sizes {
    fn new(root: &Path) -> Self {
        let mut sizes = Self {
            sizes: HashMap::new(),
            total: 0,
        };
        for session in fs::read_dir(root).expect("a root") {
            for file in fs::read_dir(session.expect("an entry").path()).expect("a session") {
                sizes.look(file.expect("an entry").path());
            }
        }
        sizes
    }

    fn look(&mut self, path: PathBuf) {
        let size = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => return,
        };
        let before = self.sizes.insert(path, size).unwrap_or(0);
        self.total = self.total + size - before;
    }
}

/// Listens until the board says that the writer is done. `gather`: for so long events wait.
pub(super) fn listen(
    root: &Path,
    board: &Board,
    gather: Option<Duration>,
    ready: &AtomicBool,
) -> Heard {
    let (sender, events) = unbounded();
    let mut watcher = RecommendedWatcher::new(sender, Config::default()).expect("a watcher");
    watcher
        .watch(root, RecursiveMode::Recursive)
        .expect("a watch");
    let mut sizes = Sizes::new(root);
    let mut known = Known::new(board, sizes.total);
    ready.store(true, Ordering::Release);
    let n_losses = match gather {
        None => at_once(&events, board, &mut sizes, &mut known),
        Some(gather) => gathered(&events, board, gather, &mut sizes, &mut known),
    };
    Heard {
        n_unknown: known.n_unknown(),
        took: known.took,
        n_losses,
        n_recoveries: 0,
        remark: "normal",
    }
}

type Events = Receiver<notify::Result<Event>>;

fn at_once(events: &Events, board: &Board, sizes: &mut Sizes, known: &mut Known<'_>) -> u64 {
    let mut n_losses = 0;
    loop {
        match events.recv_timeout(QUIET) {
            Ok(Ok(event)) => {
                n_losses += u64::from(event.need_rescan());
                for path in event.paths {
                    sizes.look(path);
                    known.saw(sizes.total);
                }
            }
            Ok(Err(error)) => panic!("{error}"),
            Err(RecvTimeoutError::Disconnected) => return n_losses,
            Err(RecvTimeoutError::Timeout) => {
                if board.over.load(Ordering::Acquire) {
                    return n_losses;
                }
            }
        }
    }
}

fn gathered(
    events: &Events,
    board: &Board,
    gather: Duration,
    sizes: &mut Sizes,
    known: &mut Known<'_>,
) -> u64 {
    let (mut n_losses, mut paths) = (0, HashSet::new());
    loop {
        let until = Instant::now() + gather;
        while let Ok(event) = events.recv_deadline(until) {
            let event = event.expect("an event");
            n_losses += u64::from(event.need_rescan());
            paths.extend(event.paths);
        }
        let is_over = paths.is_empty() && board.over.load(Ordering::Acquire);
        for path in paths.drain() {
            sizes.look(path);
            known.saw(sizes.total);
        }
        if is_over {
            return n_losses;
        }
    }
}
