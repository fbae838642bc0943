//! The seam between the loops and a source of hints.

use super::hint::Hint;
use super::path::RelPath;
use super::seen::FileId;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Who gives the hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// One mark on the whole file system; needs `CAP_SYS_ADMIN` and Linux 5.17.
    Fanotify,
    /// One kernel watch for each directory.
    Inotify,
    /// The same through the `notify` crate.
    Notify,
    /// Nobody: scans at a pace.
    Poll,
}

impl Backend {
    /// From the best to what always works.
    pub const ALL: [Self; 4] = [Self::Fanotify, Self::Inotify, Self::Notify, Self::Poll];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fanotify => "fanotify",
            Self::Inotify => "inotify",
            Self::Notify => "notify",
            Self::Poll => "poll",
        }
    }
}

/// Why a directory has no watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the limit of watches is reached (fs.inotify.max_user_watches)")]
    Exhausted,
    #[error("the directory is gone or was replaced")]
    Gone,
    #[error("the watch could not be placed")]
    Failed(#[source] std::io::Error),
}

/// What a source calls a directory in its hints: a watch descriptor, or a keyed hash of a file
/// handle. 0 where it names directories by path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct DirKey(pub u64);

impl DirKey {
    /// Hints name the directory by its path.
    pub const BY_PATH: Self = Self(0);
}

/// A watch that was placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watch {
    /// Numbers watches as they are placed, from 1. 0: none.
    pub generation: u64,
    pub key: DirKey,
}

/// Places watches. Called by walkers, from several threads; of all this the engine's thread calls
/// [`Watcher::watch_now`] only.
pub trait Watcher: Send + Sync {
    fn backend(&self) -> Backend;

    /// Watches one directory, not its children: the one that `fd` holds open, which was found
    /// at `dir`. When this returns, every later change of a name in it gives a hint.
    ///
    /// # Errors
    /// No watch can be had, or the path leads elsewhere now.
    fn watch(&self, dir: &RelPath, fd: BorrowedFd<'_>, id: FileId) -> Result<Watch, WatchError>;

    /// The same for the thread that drains the hints, which waits for nobody: nothing is announced,
    /// the engine is to know the listing before the next drain. `None`: it would have to wait, or
    /// no watch can be had; then nothing was placed.
    fn watch_now(&self, dir: &RelPath, fd: BorrowedFd<'_>) -> Option<Watch> {
        let _: (&RelPath, BorrowedFd<'_>) = (dir, fd);
        None
    }

    /// Ends that watch; a later one on the same directory stays.
    fn unwatch(&self, dir: &RelPath, watch: Watch);

    /// A file in a watched directory has names elsewhere: changes through those are to be
    /// hinted as well, where the kernel tells them.
    fn follow(&self, dir: BorrowedFd<'_>, name: &[u8], id: FileId) {
        let _: (BorrowedFd<'_>, &[u8], FileId) = (dir, name, id);
    }

    /// How many watches there are now.
    fn n_watches(&self) -> usize;
}

/// What one drain brought besides the hints.
#[derive(Debug, Default)]
pub struct Drained {
    /// When the oldest of what was drained came in; `None`: nothing was there.
    pub first_at: Option<Instant>,
    /// Something came in, and all of it was about places that the engine does not know.
    pub only_others: bool,
    /// The root itself was moved, removed or unmounted, perhaps.
    pub root_touched: bool,
    /// All that the kernel had to tell when the drain began has been taken.
    pub settled: bool,
    /// The source gives no more hints from now on, and why.
    pub broken: Option<String>,
}

/// The engine's side of a source.
pub trait Hints: Send {
    /// A descriptor that becomes readable when there is something to drain, always the same;
    /// `None`: only the waker is poked.
    fn source(&self) -> Option<BorrowedFd<'_>>;

    /// What the source has cannot be taken just now: whoever keeps it from being taken pokes the
    /// waker. Waited for all the same, a full queue would keep a real-time engine awake, and
    /// that thread from its core.
    fn is_kept(&self) -> bool {
        false
    }

    /// The calling thread takes sessions out itself: a source that knows who did what leaves out
    /// what that thread moved to where nobody looks.
    fn leave_out_this_thread(&mut self) {}

    /// Takes hints that wait, a bounded batch at a time, without ever waiting for anybody.
    /// `known` says whether the engine knows a directory by this key: a source that hears of
    /// others, too, leaves them out.
    fn drain(&mut self, known: &dyn Fn(DirKey) -> bool, into: &mut Vec<Hint>) -> Drained;
}
