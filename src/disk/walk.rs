//! A parallel look at everything below one directory.
//!
//! Threads share a stack of directories (last in, first out: what waits stays small). A
//! directory is watched first and listed then. The chunk that names a directory is sent before
//! the directory is queued, so a receiver knows a parent before its children. What can't be
//! read is sent like everything else; nothing is skipped in silence.
//!
//! Bounds: a chunk holds [`Listing::MAX_ENTRIES`]; sending blocks where the receiver is slow;
//! the stack holds directories that exist, each once; a path has at most
//! [`MAX_DEEP`] bytes. A source that watches by path watches nothing beyond [`MAX_PATH`].

use crate::disk::tree::{CONTROL, MAX_PATH, Tree, fd_stat, seen, stat_at};
use crate::model::listing::{Listing, ScanId, ScanOrder, Unlisted, Walked, Watched};
use crate::model::path::RelPath;
use crate::model::seen::{FileId, FileKind, Seen, Stat};
use crate::model::watcher::{WatchError, Watcher};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::RawDir;
use rustix::io::Errno;
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

const BUFFER: usize = 128 << 10;
/// The longest path that is listed. A longer one is reported, and what is below it is not
/// counted: its session is judged by nobody until it is gone. Every level costs the engine a
/// pass from the root down, so a path without a bound would stop it.
pub const MAX_DEEP: usize = 4 * MAX_PATH;

/// Walks everything below `order.at` with up to `n_threads` threads, this one among them, and
/// sends what it saw. `send` answers `false` when nobody listens any more. Ends with exactly
/// one [`Walked::End`], also when `stop` was set.
pub fn walk(
    tree: &Tree,
    order: &ScanOrder,
    watcher: Option<&dyn Watcher>,
    n_threads: usize,
    stop: &AtomicBool,
    send: &(dyn Fn(Walked) -> bool + Sync),
) {
    let walk = Walk {
        tree,
        scan: order.id,
        watcher,
        stop,
        send,
        unheard: AtomicBool::new(false),
        queue: Mutex::new(Queue {
            dirs: vec![order.at.clone()],
            n_busy: 0,
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 1..n_threads {
            let spawned = std::thread::Builder::new()
                .name("walk".into())
                .spawn_scoped(scope, || walk.work());
            // Without another thread the walk is slower, nothing else.
            if spawned.is_err() {
                break;
            }
        }
        walk.work();
    });
    send(Walked::End { scan: order.id });
}

struct Walk<'a> {
    tree: &'a Tree,
    scan: ScanId,
    watcher: Option<&'a dyn Watcher>,
    stop: &'a AtomicBool,
    send: &'a (dyn Fn(Walked) -> bool + Sync),
    unheard: AtomicBool,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    dirs: Vec<RelPath>,
    n_busy: usize,
}

/// What a thread uses for one directory after the other.
struct Workbench {
    buffer: Vec<MaybeUninit<u8>>,
    /// Subdirectories of the directory in hand that are queued: `getdents` may give a name
    /// twice when the directory changes meanwhile.
    queued: HashSet<RelPath>,
}

/// Counts a thread out of the busy ones, also when it panics: the others would wait for ever.
struct Busy<'a, 'w>(&'a Walk<'w>);

impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        self.0.queue().n_busy -= 1;
        self.0.changed.notify_all();
    }
}

impl Walk<'_> {
    fn work(&self) {
        let mut bench = Workbench {
            buffer: vec![MaybeUninit::uninit(); BUFFER],
            queued: HashSet::new(),
        };
        while let Some((dir, _busy)) = self.next() {
            bench.queued.clear();
            match self.list(&dir, &mut bench) {
                Ok(()) => {}
                Err(why) => self.unlisted(dir, why),
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.unheard.load(Ordering::Relaxed)
    }

    /// Waits for a directory; `None` when all are done.
    fn next(&self) -> Option<(RelPath, Busy<'_, '_>)> {
        let mut queue = self.queue();
        loop {
            if self.stopped() {
                queue.dirs.clear();
            }
            if let Some(dir) = queue.dirs.pop() {
                queue.n_busy += 1;
                return Some((dir, Busy(self)));
            }
            if queue.n_busy == 0 {
                self.changed.notify_all();
                return None;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put(&self, dirs: &mut Vec<RelPath>) {
        if dirs.is_empty() {
            return;
        }
        self.queue().dirs.append(dirs);
        self.changed.notify_all();
    }

    fn say(&self, walked: Walked) {
        if !(self.send)(walked) {
            self.unheard.store(true, Ordering::Relaxed);
        }
    }

    fn unlisted(&self, dir: RelPath, why: Unlisted) {
        let scan = self.scan;
        self.say(Walked::Unlisted { scan, dir, why });
    }

    /// Watches and lists one directory, and queues those in it.
    fn list(&self, path: &RelPath, bench: &mut Workbench) -> Result<(), Unlisted> {
        if path.as_bytes().len() > MAX_DEEP {
            return Err(Unlisted::TooDeep);
        }
        let dir = self.tree.open_dir(path).map_err(unlisted)?;
        let stat = fd_stat(dir.as_fd()).map_err(unlisted)?;
        if !self.tree.is_ours(&stat) {
            return Err(Unlisted::ForeignMount);
        }
        let watched = self.watch(path, dir.as_fd(), stat.id)?;
        let listed = Listing::new(self.scan, path.clone(), stat, watched, true);
        self.entries(&dir, listed, bench)
    }

    fn entries(
        &self,
        dir: &OwnedFd,
        mut listed: Listing,
        bench: &mut Workbench,
    ) -> Result<(), Unlisted> {
        let path = listed.dir.clone();
        let Workbench { buffer, queued } = bench;
        let mut entries = RawDir::new(dir, buffer);
        let mut subdirs = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(unlisted(errno)),
            };
            let c_name = entry.file_name();
            let name = c_name.to_bytes();
            if matches!(name, b"." | b"..") || is_own(&path, name) {
                continue;
            }
            let seen = seen(stat_at(dir.as_fd(), c_name));
            if let Seen::Gone = seen {
                continue;
            }
            if listed.len() == Listing::MAX_ENTRIES {
                let next =
                    Listing::new(self.scan, path.clone(), listed.stat, listed.watched, false);
                self.say(Walked::Chunk(std::mem::replace(&mut listed, next)));
                self.put(&mut subdirs);
                if self.stopped() {
                    return Ok(());
                }
            }
            listed.push(name, seen);
            if let Seen::There(stat) = seen {
                match stat.kind {
                    FileKind::Dir => self.subdir(&path, name, &stat, &mut subdirs, queued),
                    FileKind::File if stat.n_links > 1 => self.follow(dir, name, stat.id),
                    FileKind::File | FileKind::Symlink | FileKind::Other => {}
                }
            }
        }
        listed.last = true;
        self.say(Walked::Chunk(listed));
        self.put(&mut subdirs);
        Ok(())
    }

    fn follow(&self, dir: &OwnedFd, name: &[u8], id: FileId) {
        if let Some(watcher) = self.watcher {
            watcher.follow(dir.as_fd(), name, id);
        }
    }

    fn subdir(
        &self,
        parent: &RelPath,
        name: &[u8],
        stat: &Stat,
        subdirs: &mut Vec<RelPath>,
        queued: &mut HashSet<RelPath>,
    ) {
        // A name that no path can hold comes from a broken file system only; the entry itself
        // is in the listing.
        let Ok(path) = parent.join(name) else {
            return;
        };
        if !self.tree.is_ours(stat) {
            self.unlisted(path, Unlisted::ForeignMount);
        } else if queued.insert(path.clone()) {
            subdirs.push(path);
        }
    }

    fn watch(&self, path: &RelPath, dir: BorrowedFd<'_>, id: FileId) -> Result<Watched, Unlisted> {
        let Some(watcher) = self.watcher else {
            return Ok(Watched::Unasked);
        };
        match watcher.watch(path, dir, id) {
            Ok(watch) => Ok(Watched::Placed(watch)),
            Err(WatchError::Gone) => Err(Unlisted::Gone),
            Err(WatchError::Exhausted | WatchError::Failed(_)) => Ok(Watched::Failed),
        }
    }
}

fn is_own(dir: &RelPath, name: &[u8]) -> bool {
    dir.is_root() && name == CONTROL.as_bytes()
}

fn unlisted(errno: Errno) -> Unlisted {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Unlisted::Gone,
        Errno::XDEV => Unlisted::ForeignMount,
        Errno::NAMETOOLONG => Unlisted::TooDeep,
        errno => Unlisted::Unreadable(errno.raw_os_error()),
    }
}
