//! Hints from fanotify: one mark on the whole file system, and no watch for any directory.
//!
//! Needs `CAP_SYS_ADMIN` where the file system was mounted, the host or a user namespace, and
//! Linux 5.17 (`FAN_REPORT_TARGET_FID`, `FAN_RENAME`). On the host the queue has no limit, and
//! the kernel merges what happens to one inode, so the engine's own thread reads it. Hints call
//! a directory by a keyed hash of its file handle; the walker tells the hash of each directory
//! before it lists it, and no path is asked for at any event.
//!
//! Everything on the file system is told, the agent's own writes as well. What lies in a
//! directory that nobody announced is dropped here, at the cost of one hash; that is all of
//! the agent's own: its state, its log, and what it empties in the trash. So is what the engine's
//! own thread moved into the trash: its index has it already. A directory of others that tells
//! much is silenced in the kernel ([`others`]).
//!
//! Bounds: a drain takes [`BUFFER`] bytes of events; [`MAX_FOLLOWED`] inodes with names
//! elsewhere are followed, further ones are left to the guard and the rescans.

pub mod event;
mod others;
mod sys;

use self::event::{Event, Handle, OF_NAME, OVERFLOW, Record};
use self::others::{Busiest, Silence};
use crate::model::hint::Hint;
use crate::model::path::RelPath;
use crate::model::seen::FileId;
use crate::model::watcher::{Backend, DirKey, Drained, Hints, Watch, WatchError, Watcher};
use crate::watch::dirty::Waker;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

/// Some thousand events.
const BUFFER: usize = 128 << 10;
/// Above the longest event: two names of 255 bytes, three handles of 128, and their heads.
const LONGEST_EVENT: usize = 4096;
/// How many inodes with names elsewhere are followed.
const MAX_FOLLOWED: usize = 1 << 16;

/// The walkers' side.
#[derive(Debug)]
pub struct FanotifyWatcher(Arc<Shared>);

/// The engine's side.
#[derive(Debug)]
pub struct FanotifyHints {
    shared: Arc<Shared>,
    /// The root itself: its own name lies in a directory that nobody announces.
    root: DirKey,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read and not understood yet.
    n_filled: usize,
    /// Directories announced in this drain: the engine does not know them yet.
    announced: HashSet<DirKey>,
    followed: HashMap<DirKey, u64>,
    busiest: Busiest,
    /// The thread whose removals are no news.
    own: Option<i32>,
}

#[derive(Debug)]
struct Shared {
    queue: OwnedFd,
    hasher: RandomState,
    last: AtomicU64,
    news: Mutex<News>,
    /// The engine found [`Self::news`] held: who holds it wakes the engine afterwards.
    awaited: AtomicBool,
    wake: Waker,
    n_followed: AtomicUsize,
}

/// What walkers tell. Said before any later event is understood.
#[derive(Debug)]
struct News {
    begun: Vec<DirKey>,
    followed: Vec<(DirKey, u64)>,
    silence: Silence,
}

/// Marks the file system that `root` lies on.
///
/// # Errors
/// EPERM without the capability, EINVAL before Linux 5.17, ENODEV, EXDEV or EOPNOTSUPP where
/// the file system cannot be marked, EMFILE where there are too many groups.
pub fn start(
    root: BorrowedFd<'_>,
    wake: &Waker,
) -> Result<(FanotifyWatcher, FanotifyHints), WatchError> {
    let failed = |errno: Errno| WatchError::Failed(errno.into());
    let queue = sys::init().map_err(failed)?;
    // Asked first: a file system without handles gives events that nobody can place.
    let root_handle = sys::handle(root, c"").map_err(failed)?;
    sys::mark(queue.as_fd(), root).map_err(failed)?;
    let shared = Arc::new(Shared {
        queue,
        hasher: RandomState::new(),
        last: AtomicU64::new(0),
        news: Mutex::new(News {
            begun: Vec::new(),
            followed: Vec::new(),
            silence: Silence::new(root),
        }),
        awaited: AtomicBool::new(false),
        wake: wake.clone(),
        n_followed: AtomicUsize::new(0),
    });
    let hints = FanotifyHints {
        root: shared.key(root_handle.get()),
        shared: shared.clone(),
        buffer: vec![0; BUFFER],
        n_filled: 0,
        announced: HashSet::new(),
        followed: HashMap::new(),
        busiest: Busiest::default(),
        own: None,
    };
    Ok((FanotifyWatcher(shared), hints))
}

impl Shared {
    /// Never 0: that is no directory's key.
    fn key(&self, handle: Handle<'_>) -> DirKey {
        DirKey(self.hasher.hash_one(handle).max(1))
    }

    fn tell<T>(&self, tell: impl FnOnce(&mut News) -> T) -> T {
        let mut news: MutexGuard<'_, News> =
            self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let told = tell(&mut news);
        drop(news);
        if self.awaited.swap(false, Ordering::SeqCst) {
            self.wake.poke();
        }
        told
    }

    fn key_of(&self, dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<DirKey, Errno> {
        let handle = sys::handle(dir, name)?;
        Ok(self.key(handle.get()))
    }
}

impl Watcher for FanotifyWatcher {
    fn backend(&self) -> Backend {
        Backend::Fanotify
    }

    fn watch(&self, _: &RelPath, fd: BorrowedFd<'_>, _: FileId) -> Result<Watch, WatchError> {
        let failed = |errno: Errno| WatchError::Failed(errno.into());
        let key = self.0.key_of(fd, c"").map_err(failed)?;
        let generation = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        let begun = self.0.tell(|news| {
            news.begun.push(key);
            news.silence.break_for(self.0.queue.as_fd(), key, fd)
        });
        begun.map_err(failed)?;
        Ok(Watch { generation, key })
    }

    fn watch_now(&self, _: &RelPath, fd: BorrowedFd<'_>) -> Option<Watch> {
        let key = self.0.key_of(fd, c"").ok()?;
        let mut news = match self.0.news.try_lock() {
            Ok(news) => news,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        news.silence.break_for(self.0.queue.as_fd(), key, fd).ok()?;
        let generation = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        Some(Watch { generation, key })
    }

    /// There is nothing to end: the mark stays, and the index forgets the key.
    fn unwatch(&self, _: &RelPath, _: Watch) {}

    fn follow(&self, dir: BorrowedFd<'_>, name: &[u8], id: FileId) {
        if self.0.n_followed.load(Ordering::Relaxed) >= MAX_FOLLOWED {
            return;
        }
        let Ok(name) = std::ffi::CString::new(name) else {
            return;
        };
        match self.0.key_of(dir, &name) {
            Ok(key) => self.0.tell(|news| {
                news.silence.end(self.0.queue.as_fd());
                news.followed.push((key, id.ino));
            }),
            Err(errno) => tracing::debug!(%errno, "an inode cannot be followed"),
        }
    }

    /// The one mark.
    fn n_watches(&self) -> usize {
        1
    }
}

impl FanotifyHints {
    /// Fills the buffer, unless something waits in it still.
    fn read(&mut self, drained: &mut Drained) {
        if self.n_filled > 0 {
            return;
        }
        match rustix::io::read(&self.shared.queue, &mut self.buffer[..]) {
            Ok(n_read) => {
                self.n_filled = n_read;
                // With room left for any event: there was no further one.
                drained.settled = n_read + LONGEST_EVENT <= BUFFER;
            }
            Err(Errno::AGAIN) => drained.settled = true,
            Err(Errno::INTR) => {}
            Err(errno) => {
                drained.broken = Some(format!("fanotify cannot be read: {errno}"));
            }
        }
    }

    /// What walkers told before the events at hand were read. `false`: one of them is telling
    /// just now, and wakes the engine when it has done.
    fn hear_news(&mut self, into: &mut Vec<Hint>) -> bool {
        let shared = self.shared.clone();
        let tried = shared.news.try_lock().or_else(|error| match error {
            TryLockError::WouldBlock => {
                shared.awaited.store(true, Ordering::SeqCst);
                // Who held it may have looked at the flag before.
                shared.news.try_lock()
            }
            TryLockError::Poisoned(_) => Err(error),
        });
        let mut news = match tried {
            Ok(news) => news,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        self.announced.clear();
        for dir in news.begun.drain(..) {
            self.announced.insert(dir);
            into.push(Hint::Begun { dir });
        }
        self.followed.extend(news.followed.drain(..));
        shared
            .n_followed
            .store(self.followed.len(), Ordering::Relaxed);
        true
    }

    /// The directory that others are busiest in is told of no more. Not while a walker
    /// announces: it may be that one.
    fn silence(&mut self, known: &dyn Fn(DirKey) -> bool) {
        let Some((key, handle)) = self.busiest.take() else {
            return;
        };
        let Ok(mut news) = self.shared.news.try_lock() else {
            return;
        };
        if known(key) || self.announced.contains(&key) || news.begun.contains(&key) {
            return;
        }
        let shared = &self.shared;
        let key_of = |dir: BorrowedFd<'_>| shared.key_of(dir, c"").ok();
        news.silence
            .fall(shared.queue.as_fd(), key, &handle, key_of);
    }
}

/// What one event means, to a drain that knows these.
struct Sieve<'a> {
    shared: &'a Shared,
    root: DirKey,
    announced: &'a HashSet<DirKey>,
    followed: &'a HashMap<DirKey, u64>,
    known: &'a dyn Fn(DirKey) -> bool,
    busiest: &'a mut Busiest,
    own: Option<i32>,
    into: &'a mut Vec<Hint>,
    root_touched: bool,
}

impl Sieve<'_> {
    /// `false`: the event is in no form that is known.
    fn take(&mut self, event: Event<'_>) -> bool {
        self.is_own_removal(&event) || self.hear(event)
    }

    /// Whether the engine's own thread moved something to where nobody looks.
    fn is_own_removal(&self, event: &Event<'_>) -> bool {
        let mut arrives_here = false;
        event.mask & libc::FAN_RENAME != 0
            && self.own == Some(event.thread)
            && event
                .records(|record| match record {
                    Record::Entry { dir, has_left, .. } if !has_left => {
                        arrives_here |= self.is_here(self.shared.key(dir));
                    }
                    Record::Entry { .. } | Record::Target(_) => {}
                })
                .is_ok()
            && !arrives_here
    }

    fn is_here(&self, dir: DirKey) -> bool {
        (self.known)(dir) || self.announced.contains(&dir)
    }

    fn hear(&mut self, event: Event<'_>) -> bool {
        let seen = event.records(|record| match record {
            Record::Entry { name: b".", .. } => {}
            Record::Entry {
                dir: handle, name, ..
            } => {
                let dir = self.shared.key(handle);
                if self.is_here(dir) {
                    self.into.push(Hint::Entry {
                        dir,
                        path: name.into(),
                        name_at: 0,
                    });
                } else if event.mask & sys::OF_FILE != 0 {
                    self.busiest.told(dir, handle);
                }
            }
            Record::Target(_) if event.mask & OF_NAME == 0 && self.followed.is_empty() => {}
            Record::Target(target) => {
                let target = self.shared.key(target);
                self.root_touched |= event.mask & OF_NAME != 0 && target == self.root;
                if let Some(ino) = self.followed.get(&target) {
                    self.into.push(Hint::Inode(*ino));
                }
            }
        });
        seen.is_ok()
    }
}

impl Hints for FanotifyHints {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.queue.as_fd())
    }

    /// Events wait for a walker's news.
    fn is_kept(&self) -> bool {
        self.n_filled > 0
    }

    fn leave_out_this_thread(&mut self) {
        self.own = Some(rustix::thread::gettid().as_raw_nonzero().get());
    }

    fn drain(&mut self, known: &dyn Fn(DirKey) -> bool, into: &mut Vec<Hint>) -> Drained {
        let mut drained = Drained::default();
        self.read(&mut drained);
        if !self.hear_news(into) {
            drained.settled = false;
            return drained;
        }
        if self.n_filled == 0 {
            return drained;
        }
        // Most of what a busy file system tells may be about others: that is no batch.
        let (read_at, n_before) = (Instant::now(), into.len());
        let mut rest = &self.buffer[..self.n_filled];
        let mut sieve = Sieve {
            shared: &self.shared,
            root: self.root,
            announced: &self.announced,
            followed: &self.followed,
            known,
            busiest: &mut self.busiest,
            own: self.own,
            into,
            root_touched: false,
        };
        loop {
            match event::next(&mut rest) {
                Ok(Some(event)) if event.mask & OVERFLOW != 0 => sieve.into.push(Hint::Lost),
                Ok(Some(event)) if sieve.take(event) => {}
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => {
                    drained.broken = Some(event::Malformed.to_string());
                    sieve.into.push(Hint::Lost);
                    break;
                }
            }
        }
        drained.root_touched = sieve.root_touched;
        self.n_filled = 0;
        drained.only_others = into.len() == n_before;
        drained.first_at = (!drained.only_others).then_some(read_at);
        if drained.only_others {
            self.silence(known);
        }
        drained
    }
}
