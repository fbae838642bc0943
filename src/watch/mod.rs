//! Sources of hints: who tells where to look again.
//!
//! A source never says what is there. It names directories and names in them; everything it
//! could not say becomes one hint, "lost", which costs a scan. [`open`] starts one of them,
//! [`choice`] says which.

pub mod choice;
pub mod dirty;
pub mod fanotify;
pub mod inotify;
pub mod mounts;
pub mod notify;
#[cfg(test)]
mod tests;

use crate::model::hint::Hint;
use crate::model::watcher::{Backend, DirKey, Drained, Hints, WatchError, Watcher};
use crate::watch::dirty::Waker;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

/// What a source's thread is to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Nobody else empties the kernel's queue.
    Sole,
    /// The engine reads, too, whenever it can.
    Second,
}

/// Runs on a source's thread, before it handles what came in: sets its scheduling. Must be
/// cheap and must not block.
pub type Attend = Arc<dyn Fn(Reader) + Send + Sync>;

/// A source that runs: the walkers' side and the engine's.
pub struct Source {
    /// `None`: nobody watches, scans at a pace find everything.
    pub watcher: Option<Arc<dyn Watcher>>,
    pub hints: Box<dyn Hints>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("backend", &self.watcher.as_ref().map(|w| w.backend()))
            .finish_non_exhaustive()
    }
}

/// Starts a backend for the root held open as `root` at `path`.
///
/// # Errors
/// It cannot be had here, and why.
pub fn open(
    backend: Backend,
    path: &Path,
    root: BorrowedFd<'_>,
    wake: &Waker,
    attend: &Attend,
) -> Result<Source, WatchError> {
    let source = |watcher: Arc<dyn Watcher>, hints: Box<dyn Hints>| Source {
        watcher: Some(watcher),
        hints,
    };
    Ok(match backend {
        Backend::Fanotify => {
            let (watcher, hints) = fanotify::start(root, wake)?;
            source(Arc::new(watcher), Box::new(hints))
        }
        Backend::Inotify => {
            let (watcher, hints) = inotify::InotifyWatcher::new(wake, attend)?;
            source(Arc::new(watcher), Box::new(hints))
        }
        Backend::Notify => {
            let (watcher, hints) = notify::NotifyWatcher::new(path, wake, attend)?;
            source(Arc::new(watcher), Box::new(hints))
        }
        Backend::Poll => silent(),
    })
}

/// The source that gives no hints: it is always to be had.
pub fn silent() -> Source {
    Source {
        watcher: None,
        hints: Box::new(Silent),
    }
}

/// Gives no hints.
#[derive(Debug)]
struct Silent;

impl Hints for Silent {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drain(&mut self, _: &dyn Fn(DirKey) -> bool, _: &mut Vec<Hint>) -> Drained {
        Drained {
            settled: true,
            ..Drained::default()
        }
    }
}
