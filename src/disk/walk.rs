//! A parallel look at everything below one directory.
//!
//! Each thread has a stack of directories of its own (last in, first out: what waits stays
//! small) and shares it when another one has nothing to do. A directory is watched first and
//! listed then. What can't be read is sent like everything else; nothing is skipped in silence.
//!
//! What is seen of many small directories goes in one message. A message is sent before another
//! thread gets a directory that it names, so a receiver knows a parent before its children.
//!
//! Each directory is opened by its whole path from the root, not by its name in its parent's
//! descriptor: a parent that was moved out of the root meanwhile would lead out of it.
//!
//! Bounds: a message and a chunk hold [`Listing::MAX_ENTRIES`] at most; sending blocks where the
//! receiver is slow; the stacks hold directories that exist, each once; a path has at most
//! [`MAX_DEEP`] bytes. A source that watches by path watches nothing beyond [`MAX_PATH`].

use crate::disk::tree::{CONTROL, MAX_PATH, Tree, fd_stat, seen, stat_at};
use crate::model::listing::{Gathered, Listing, ScanId, ScanOrder, Unlisted, Walked, Watched};
use crate::model::path::RelPath;
use crate::model::seen::{FileId, FileKind, Seen, Stat};
use crate::model::session::Key;
use crate::model::watcher::{WatchError, Watcher};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::RawDir;
use rustix::io::Errno;
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

const BUFFER: usize = 128 << 10;
/// The longest path that is listed. A longer one is reported, and what is below it is not
/// counted: its session is judged by nobody until it is gone. Every level costs the engine a
/// pass from the root down, so a path without a bound would stop it.
pub const MAX_DEEP: usize = 4 * MAX_PATH;
/// Directories that a thread takes at a time.
const HANDFUL: usize = 16;
/// What a message may hold beside its last chunk: the engine takes it in one turn, between two
/// hints.
const MAX_MESSAGE: usize = Listing::MAX_ENTRIES / 2;
/// Beside its entries, what a directory or anything else adds to a message: a watcher may take
/// long for each, and nobody knows of them before the message is sent.
const WEIGHT: usize = 16;

/// Reads what documents say of the sessions of a chunk, by their keys, given the open directory.
pub type Gather<'a> = dyn Fn(&Listing, BorrowedFd<'_>) -> Vec<(Key, Gathered)> + Sync + 'a;

/// Who helps a walk.
#[derive(Clone, Copy, Default)]
pub struct Aides<'a> {
    /// Watches each directory before it is listed.
    pub watcher: Option<&'a dyn Watcher>,
    /// Asked for each chunk, where the order says so.
    pub gather: Option<&'a Gather<'a>>,
}

impl std::fmt::Debug for Aides<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aides")
            .field("watcher", &self.watcher.is_some())
            .field("gather", &self.gather.is_some())
            .finish()
    }
}

/// Walks everything below `order.at` with up to `n_threads` threads, this one among them, and
/// sends what it saw. `send` answers `false` when nobody listens any more. Ends with exactly
/// one [`Walked::End`], also when `stop` was set.
pub fn walk(
    tree: &Tree,
    order: &ScanOrder,
    aides: Aides<'_>,
    n_threads: usize,
    stop: &AtomicBool,
    send: &(dyn Fn(Vec<Walked>) -> bool + Sync),
) {
    let walk = Walk {
        tree,
        scan: order.id,
        watcher: aides.watcher,
        gather: aides.gather.filter(|_| order.reads),
        stop,
        send,
        unheard: AtomicBool::new(false),
        n_idle: AtomicUsize::new(0),
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
    send(vec![Walked::End { scan: order.id }]);
}

struct Walk<'a> {
    tree: &'a Tree,
    scan: ScanId,
    watcher: Option<&'a dyn Watcher>,
    gather: Option<&'a Gather<'a>>,
    stop: &'a AtomicBool,
    send: &'a (dyn Fn(Vec<Walked>) -> bool + Sync),
    unheard: AtomicBool,
    /// Threads that wait for a directory: whoever has some shares them.
    n_idle: AtomicUsize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The directories that any thread may take.
struct Queue {
    dirs: Vec<RelPath>,
    n_busy: usize,
}

/// What a thread uses for one directory after the other.
struct Workbench {
    buffer: Vec<MaybeUninit<u8>>,
    /// Subdirectories of the directory in hand that are on a stack: `getdents` may give a name
    /// twice when the directory changes meanwhile.
    stacked: HashSet<RelPath>,
    /// Directories that this thread lists next, the last one first.
    dirs: Vec<RelPath>,
    /// What was seen and not sent yet.
    message: Vec<Walked>,
    weight: usize,
    /// Entries and bytes of names in the last chunk: the next one is often alike.
    like: (usize, usize),
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
            stacked: HashSet::new(),
            dirs: Vec::new(),
            message: Vec::new(),
            weight: 0,
            like: (0, 0),
        };
        while let Some(_busy) = self.take(&mut bench) {
            while let Some(dir) = bench.dirs.pop() {
                if self.stopped() {
                    bench.dirs.clear();
                    break;
                }
                bench.stacked.clear();
                if let Err(why) = self.list(&dir, &mut bench) {
                    self.unlisted(&mut bench, dir, why);
                }
                self.share(&mut bench);
            }
        }
        self.send(&mut bench);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.unheard.load(Ordering::Relaxed)
    }

    /// Waits for directories and takes some; `None` when all are done.
    fn take(&self, bench: &mut Workbench) -> Option<Busy<'_, '_>> {
        let mut queue = self.queue();
        loop {
            if self.stopped() {
                queue.dirs.clear();
            }
            if !queue.dirs.is_empty() {
                // Not all of a few: the others want some, too.
                let n = HANDFUL.min(queue.dirs.len().div_ceil(2));
                let at = queue.dirs.len() - n;
                bench.dirs.extend(queue.dirs.drain(at..));
                queue.n_busy += 1;
                return Some(Busy(self));
            }
            if queue.n_busy == 0 {
                self.changed.notify_all();
                return None;
            }
            if !bench.message.is_empty() {
                // Nobody knows how long the others take.
                drop(queue);
                self.send(bench);
                queue = self.queue();
                continue;
            }
            self.n_idle.fetch_add(1, Ordering::Relaxed);
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            self.n_idle.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives this thread's directories away where another one has none.
    fn share(&self, bench: &mut Workbench) {
        if bench.dirs.len() < 2 || self.n_idle.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.send(bench);
        self.queue().dirs.append(&mut bench.dirs);
        self.changed.notify_all();
    }

    /// Adds to the message, which is sent when it is full.
    fn say(&self, bench: &mut Workbench, walked: Walked) {
        let weight = match &walked {
            Walked::Chunk(listing) => WEIGHT + listing.len(),
            Walked::Unlisted { .. } | Walked::End { .. } => WEIGHT,
        };
        if bench.weight + weight > MAX_MESSAGE {
            self.send(bench);
        }
        bench.weight += weight;
        bench.message.push(walked);
    }

    fn send(&self, bench: &mut Workbench) {
        bench.weight = 0;
        if !bench.message.is_empty() && !(self.send)(std::mem::take(&mut bench.message)) {
            self.unheard.store(true, Ordering::Relaxed);
        }
    }

    fn unlisted(&self, bench: &mut Workbench, dir: RelPath, why: Unlisted) {
        let scan = self.scan;
        self.say(bench, Walked::Unlisted { scan, dir, why });
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
        let mut buffer = std::mem::take(&mut bench.buffer);
        let listed = self.entries(&dir, listed, &mut buffer, bench);
        bench.buffer = buffer;
        listed
    }

    fn entries(
        &self,
        dir: &OwnedFd,
        mut listed: Listing,
        buffer: &mut [MaybeUninit<u8>],
        bench: &mut Workbench,
    ) -> Result<(), Unlisted> {
        let path = listed.dir.clone();
        listed.make_room(bench.like);
        let mut entries = RawDir::new(dir, buffer);
        // Go on the stack when the chunk that names them is in the message.
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
                self.gather(&mut listed, dir);
                let next =
                    Listing::new(self.scan, path.clone(), listed.stat, listed.watched, false);
                self.say(bench, Walked::Chunk(std::mem::replace(&mut listed, next)));
                bench.dirs.append(&mut subdirs);
                self.share(bench);
                if self.stopped() {
                    return Ok(());
                }
            }
            listed.push(name, seen);
            if let Seen::There(stat) = seen {
                match stat.kind {
                    FileKind::Dir => subdirs.extend(self.subdir(&path, name, &stat, bench)),
                    FileKind::File if stat.n_links > 1 => self.follow(dir, name, stat.id),
                    FileKind::File | FileKind::Symlink | FileKind::Other => {}
                }
            }
        }
        listed.last = true;
        bench.like = listed.room();
        self.gather(&mut listed, dir);
        self.say(bench, Walked::Chunk(listed));
        bench.dirs.append(&mut subdirs);
        Ok(())
    }

    /// After the listing: what is read then is never older than what the listing says.
    fn gather(&self, listed: &mut Listing, dir: &OwnedFd) {
        if let Some(gather) = self.gather {
            listed.gathered = gather(listed, dir.as_fd());
        }
    }

    fn follow(&self, dir: &OwnedFd, name: &[u8], id: FileId) {
        if let Some(watcher) = self.watcher {
            watcher.follow(dir.as_fd(), name, id);
        }
    }

    /// The path of a subdirectory that is to be listed, too.
    fn subdir(
        &self,
        parent: &RelPath,
        name: &[u8],
        stat: &Stat,
        bench: &mut Workbench,
    ) -> Option<RelPath> {
        // A name that no path can hold comes from a broken file system only; the entry itself
        // is in the listing.
        let path = parent.join(name).ok()?;
        if !self.tree.is_ours(stat) {
            self.unlisted(bench, path, Unlisted::ForeignMount);
            return None;
        }
        bench.stacked.insert(path.clone()).then_some(path)
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
