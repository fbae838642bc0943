//! The seam between the loops and a source of hints.

use super::path::RelPath;
use super::seen::FileId;

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

/// Places watches. Called by walkers (never by the engine's thread), from several threads.
pub trait Watcher: Send + Sync {
    /// Watches one directory, not its children. When this returns, every later change of a
    /// name in the directory gives a hint. The number identifies the watch.
    fn watch(&self, dir: &RelPath, id: FileId) -> Result<u64, WatchError>;

    /// Ends the watch of that generation; another one on the same path stays.
    fn unwatch(&self, dir: &RelPath, generation: u64);

    /// How many directories are watched now.
    fn n_watches(&self) -> usize;
}
