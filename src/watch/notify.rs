//! Hints from the `notify` crate: one non-recursive watch per directory, placed by the walker.
//!
//! Recursive watching loses files in new directories and goes blind after removals, so it is
//! never used. Three instances, so that none watches a directory together with its parent:
//! with both in one, every removed directory costs notify a pass over all its watches.
//!
//! notify names a watch by its path, the kernel by its inode. Where the two part, a watch dies
//! in silence, so two things are done before a watch is placed:
//! - the path was watched before: unwatch it first. Else the old directory's `DELETE_SELF`,
//!   still in the queue, takes off the new directory's watch;
//! - the inode is watched under another path (it was moved): unwatch that path first. Else both
//!   paths share one kernel watch, and a later unwatch of the old one kills the new one.
//!
//! What is taken off so may be where the directory really is: a walk is behind a rename, or the
//! directory has come back. The engine is told of every watch that ended this way, and scans
//! that directory if it still counts on it.

use crate::model::hint::Hint;
use crate::model::path::RelPath;
use crate::model::seen::FileId;
use crate::model::watcher::{Backend, DirKey, Watch, WatchError, Watcher};
use crate::watch::dirty::{Dirty, Drain, Waker};
use crate::watch::{Attend, Reader};
use notify::event::{AccessKind, AccessMode};
use notify::{Config, ErrorKind, Event, EventKind, INotifyWatcher, RecursiveMode};
use notify::{Error, Watcher as _};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const N_INSTANCES: usize = 3;
/// The longest path the kernel takes, without the final NUL.
const MAX_PATH: usize = 4095;

/// Watches with `notify`. Placing and ending watches waits for notify's threads, so it is never
/// called from the engine's.
pub struct NotifyWatcher {
    root: PathBuf,
    book: Mutex<Book>,
    /// For what happens here, not in a source's thread.
    own: Arc<Dirty>,
}

impl std::fmt::Debug for NotifyWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotifyWatcher")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// What is watched, with the instances, under one lock: the steps of one `watch` belong together.
struct Book {
    instances: Vec<INotifyWatcher>,
    by_path: HashMap<RelPath, Entry>,
    by_id: HashMap<FileId, RelPath>,
    generation: u64,
}

struct Entry {
    generation: u64,
    id: FileId,
}

impl NotifyWatcher {
    /// Begins with no watch. Hints go to the [`Drain`], each followed by a poke of `wake`.
    ///
    /// # Errors
    /// No inotify instance can be had (EMFILE, ENOSYS).
    pub fn new(root: &Path, wake: &Waker, attend: &Attend) -> Result<(Self, Drain), WatchError> {
        let own = Arc::new(Dirty::new(wake.clone()));
        let mut sets = vec![own.clone()];
        let mut instances = Vec::new();
        for _ in 0..N_INSTANCES {
            let dirty = Arc::new(Dirty::new(wake.clone()));
            let handler = handler(root, dirty.clone(), attend.clone());
            let config = Config::default().with_follow_symlinks(false);
            instances.push(INotifyWatcher::new(handler, config).map_err(watch_error)?);
            sets.push(dirty);
        }
        let book = Book {
            instances,
            by_path: HashMap::new(),
            by_id: HashMap::new(),
            generation: 0,
        };
        let watcher = Self {
            root: root.into(),
            book: Mutex::new(book),
            own,
        };
        Ok((watcher, Drain::new(sets)))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn absolute(&self, dir: &RelPath) -> PathBuf {
        if dir.is_root() {
            return self.root.clone();
        }
        self.root.join(OsStr::from_bytes(dir.as_bytes()))
    }

    /// Ends the watch of this path; answers what it was.
    fn take_off(&self, book: &mut Book, dir: &RelPath) -> Option<Entry> {
        let entry = book.by_path.remove(dir)?;
        if book.by_id.get(&entry.id) == Some(dir) {
            book.by_id.remove(&entry.id);
        }
        // Its only error is "not watched": the directory is gone, and notify saw that before us.
        if let Err(error) = book.instances[instance(dir)].unwatch(&self.absolute(dir)) {
            debug_assert!(matches!(error.kind, ErrorKind::WatchNotFound));
        }
        Some(entry)
    }

    fn end(&self, dir: RelPath, generation: u64) {
        self.own.hold().end(Hint::Unwatched { dir, generation });
    }

    /// The inode that a path leads to now.
    fn id_at(&self, dir: &RelPath) -> Option<FileId> {
        let meta = std::fs::symlink_metadata(self.absolute(dir)).ok()?;
        Some(FileId {
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }
}

impl Watcher for NotifyWatcher {
    fn backend(&self) -> Backend {
        Backend::Notify
    }

    fn watch(&self, dir: &RelPath, _: BorrowedFd<'_>, id: FileId) -> Result<Watch, WatchError> {
        // The kernel takes no longer paths, and this backend knows nothing else.
        if self.absolute(dir).as_os_str().len() > MAX_PATH {
            let error = std::io::Error::from_raw_os_error(libc::ENAMETOOLONG);
            return Err(WatchError::Failed(error));
        }
        let mut book = self.book();
        // Before anything is taken off: a walk may be behind a rename.
        if self.id_at(dir) != Some(id) {
            return Err(WatchError::Gone);
        }
        let same_path = self.take_off(&mut book, dir);
        let other_path = book.by_id.get(&id).cloned();
        if let Some(old) = other_path
            && let Some(entry) = self.take_off(&mut book, &old)
        {
            self.end(old, entry.generation);
        }
        let placed = book.instances[instance(dir)]
            .watch(&self.absolute(dir), RecursiveMode::NonRecursive)
            .map_err(watch_error);
        if let Some(entry) = same_path.filter(|entry| placed.is_err() || entry.id != id) {
            self.end(dir.clone(), entry.generation);
        }
        placed?;
        book.generation += 1;
        let generation = book.generation;
        book.by_path.insert(dir.clone(), Entry { generation, id });
        book.by_id.insert(id, dir.clone());
        let there = self.id_at(dir);
        if there == Some(id) {
            return Ok(Watch {
                generation,
                key: DirKey::BY_PATH,
            });
        }
        self.take_off(&mut book, dir);
        // Perhaps this other directory was watched here, and its own watch is what ended now.
        let other = there.and_then(|id| book.by_id.get(&id)).cloned();
        if let Some((path, entry)) =
            other.and_then(|path| Some((path.clone(), book.by_path.get(&path)?)))
        {
            self.end(path, entry.generation);
        }
        Err(WatchError::Gone)
    }

    fn unwatch(&self, dir: &RelPath, watch: Watch) {
        let mut book = self.book();
        if book
            .by_path
            .get(dir)
            .is_some_and(|entry| entry.generation == watch.generation)
        {
            self.take_off(&mut book, dir);
        }
    }

    fn n_watches(&self) -> usize {
        self.book().by_path.len()
    }
}

/// The root alone; the others by the parity of their depth.
fn instance(dir: &RelPath) -> usize {
    match dir.names().count() {
        0 => 0,
        depth => 1 + depth % 2,
    }
}

/// Puts names into the set, nothing else: it must never block, look at the disk or log, since
/// notify reads no event and places no watch meanwhile.
fn handler(
    root: &Path,
    dirty: Arc<Dirty>,
    attend: Attend,
) -> impl Fn(notify::Result<Event>) + Send + 'static {
    let root = root.to_path_buf();
    move |event| {
        attend(Reader::Sole);
        match event {
            // Asked first: such an event has no paths.
            Ok(event) if event.need_rescan() => dirty.hold().lose(),
            Ok(event) if is_reading(event.kind) => {}
            Ok(event) => {
                let mut adding = dirty.hold();
                for path in &event.paths {
                    match below(&root, path) {
                        Some(name) => adding.name(DirKey::BY_PATH, name),
                        None => adding.lose(),
                    }
                }
            }
            Err(_) => dirty.hold().lose(),
        }
    }
}

/// Events that a scan of our own would cause, too.
fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access != AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => false,
    }
}

fn below<'a>(root: &Path, path: &'a Path) -> Option<&'a [u8]> {
    let rest = path
        .as_os_str()
        .as_bytes()
        .strip_prefix(root.as_os_str().as_bytes())?;
    match rest {
        [] => Some(rest),
        [b'/', name @ ..] => Some(name),
        // Of the root "/sessions" nothing that begins with "/sessions2" is heard.
        _ => None,
    }
}

fn watch_error(error: Error) -> WatchError {
    match error.kind {
        ErrorKind::MaxFilesWatch => WatchError::Exhausted,
        ErrorKind::PathNotFound => WatchError::Gone,
        ErrorKind::Io(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => WatchError::Gone,
            _ => WatchError::Failed(error),
        },
        ErrorKind::Generic(_) | ErrorKind::WatchNotFound | ErrorKind::InvalidConfig(_) => {
            WatchError::Failed(std::io::Error::other(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::watcher::Hints;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_gone_or_no_directory_says_so() {
        let hold = tempfile::tempdir().expect("a temporary directory");
        let here = std::fs::File::open(hold.path()).expect("opened");
        let wake = Waker::new(|| {});
        let attend: Attend = Arc::new(|_| {});
        let (watcher, _drain) = NotifyWatcher::new(hold.path(), &wake, &attend).expect("instances");
        let id = FileId { dev: 1, ino: 1 };
        for dir in ["nothing", "nothing/below"] {
            let dir = RelPath::new(dir.as_bytes()).expect("a path");
            let error = watcher.watch(&dir, here.as_fd(), id);
            assert!(matches!(error, Err(WatchError::Gone)), "{error:?}");
        }
    }

    #[test]
    fn events_without_paths_and_errors_are_losses() {
        let wake = Waker::new(|| {});
        let dirty = Arc::new(Dirty::new(wake));
        let mut drain = Drain::new(vec![dirty.clone()]);
        let handle = handler(Path::new("/r"), dirty, Arc::new(|_| {}));
        let lost = |drain: &mut Drain| {
            let mut hints = Vec::new();
            drain.drain(&|_| true, &mut hints);
            hints.contains(&Hint::Lost)
        };
        handle(Ok(
            Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)
        ));
        assert!(lost(&mut drain));
        handle(Err(Error::generic("broken")));
        assert!(lost(&mut drain));
        handle(Ok(Event::new(EventKind::Any).add_path("/r2/x".into())));
        assert!(lost(&mut drain));
        handle(Ok(Event::new(EventKind::Any).add_path("/r/x".into())));
        assert!(!lost(&mut drain));
    }
}
