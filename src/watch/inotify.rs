//! Hints from inotify itself: one watch for each directory, placed by the walker.
//!
//! A watch belongs to an inode, not to a path, so its descriptor is what hints call the
//! directory by: a rename of a directory, or of one above it, costs nothing here, and ending
//! a watch never takes a pass over the others. A directory is watched through the descriptor
//! that the walker holds (`/proc/self/fd`), so that no rename can put the watch elsewhere.
//!
//! The kernel's queue fills in milliseconds: a thread of its own drains it into the dirty set
//! and never looks at the disk. An engine that sleeps is woken by the queue itself and
//! reads it; the kernel wakes that thread only while the engine does not sleep (`EPOLLEXCLUSIVE`).
//!
//! `IN_EXCL_UNLINK` is not asked for: it would silence writes to a file that was made without
//! a name (`O_TMPFILE`) and linked afterwards, which count.

use crate::model::hint::Hint;
use crate::model::path::RelPath;
use crate::model::seen::FileId;
use crate::model::watcher::{Backend, DirKey, Watch, WatchError, Watcher};
use crate::watch::dirty::{Dirty, Drain, Pull, Waiting, Waker};
use crate::watch::{Attend, Reader as Role};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Some eight thousand events.
const BUFFER: usize = 256 << 10;
/// An event without its name; with one, the kernel fills the name up to a multiple of this.
const EVENT: usize = size_of::<libc::inotify_event>();
/// Names of some file systems (vfat, NTFS, CIFS) are longer than 255 bytes: a page is enough for all.
const LONGEST_EVENT: usize = EVENT + 4096;
const QUEUE: u64 = 0;
const STOP: u64 = 1;
const MASK: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);
/// What happens to the root itself is told to nobody who watches its parent: nobody does.
const ROOT_MASK: WatchFlags = MASK
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);
const OF_SELF: ReadFlags = ReadFlags::MOVE_SELF
    .union(ReadFlags::DELETE_SELF)
    .union(ReadFlags::UNMOUNT);

/// Watches with inotify.
#[derive(Debug)]
pub struct InotifyWatcher {
    shared: Arc<Shared>,
    stop: OwnedFd,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queue: OwnedFd,
    /// What the reader's thread sleeps on.
    waiting: OwnedFd,
    reads: Once,
    book: Mutex<Book>,
    n_watches: AtomicUsize,
    dirty: Arc<Dirty>,
}

/// What is watched. Walkers hold it while they place a watch.
#[derive(Debug)]
struct Book {
    /// The number of the last watch placed on each descriptor.
    generations: HashMap<i32, u64>,
    last: u64,
}

impl InotifyWatcher {
    /// Begins with no watch. Hints go to the [`Drain`], each followed by a poke of `wake`.
    ///
    /// # Errors
    /// No instance can be had (EMFILE, ENOSYS), no thread, or there is no `/proc`.
    pub fn new(wake: &Waker, attend: &Attend) -> Result<(Self, Drain), WatchError> {
        let failed = |error: std::io::Error| WatchError::Failed(error);
        if !Path::new("/proc/self/fd").is_dir() {
            return Err(failed(std::io::Error::other("/proc is not mounted")));
        }
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let waiting = epoll::create(epoll::CreateFlags::CLOEXEC)
            .and_then(|waiting| {
                epoll::add(&waiting, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
                Ok(waiting)
            })
            .map_err(|errno| failed(errno.into()))?;
        let book = Book {
            generations: HashMap::new(),
            last: 0,
        };
        let shared = Arc::new(Shared {
            queue,
            waiting,
            reads: Once::new(),
            book: Mutex::new(book),
            n_watches: AtomicUsize::new(0),
            dirty: Arc::new(Dirty::new(wake.clone())),
        });
        let pull = Box::new(Puller {
            shared: shared.clone(),
            buffer: vec![MaybeUninit::uninit(); BUFFER],
        });
        let drain = Drain::pulling(shared.dirty.clone(), pull);
        let (reading, attend) = (shared.clone(), attend.clone());
        let reader = std::thread::Builder::new()
            .name("inotify".into())
            .spawn(move || reading.read(&attend))
            .map_err(failed)?;
        let watcher = Self {
            shared,
            stop,
            reader: Some(reader),
        };
        Ok((watcher, drain))
    }
}

impl Drop for InotifyWatcher {
    fn drop(&mut self) {
        // An eventfd's counter has room for one, and its write does not wait.
        if rustix::io::write(&self.stop, &1u64.to_ne_bytes()).is_ok()
            && let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::error!(
                event = "thread.panicked",
                "the thread that reads inotify panicked"
            );
        }
    }
}

impl Watcher for InotifyWatcher {
    fn backend(&self) -> Backend {
        Backend::Inotify
    }

    fn watch(&self, dir: &RelPath, fd: BorrowedFd<'_>, _: FileId) -> Result<Watch, WatchError> {
        self.shared.begin_to_read();
        let watch = self
            .place(dir, fd, self.shared.book())
            .map_err(watch_error)?;
        self.shared.dirty.begin(watch.key);
        Ok(watch)
    }

    fn watch_now(&self, dir: &RelPath, fd: BorrowedFd<'_>) -> Option<Watch> {
        let book = match self.shared.book.try_lock() {
            Ok(book) => book,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.place(dir, fd, book).ok()
    }

    fn unwatch(&self, _: &RelPath, watch: Watch) {
        // Keys are made from descriptors.
        let wd = watch.key.0 as i32;
        let mut book = self.shared.book();
        if book.generations.get(&wd) != Some(&watch.generation) {
            return;
        }
        book.generations.remove(&wd);
        self.shared.count(&mut book);
        match inotify::remove_watch(&self.shared.queue, wd) {
            // Its directory is gone, and the kernel took it off before us.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => tracing::debug!(%errno, "a watch could not be taken off"),
        }
    }

    fn n_watches(&self) -> usize {
        if let Ok(mut book) = self.shared.book.try_lock() {
            self.shared.count(&mut book);
        }
        self.shared.n_watches.load(Ordering::Relaxed)
    }
}

impl InotifyWatcher {
    fn place(
        &self,
        dir: &RelPath,
        fd: BorrowedFd<'_>,
        mut book: MutexGuard<'_, Book>,
    ) -> rustix::io::Result<Watch> {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mask = if dir.is_root() { ROOT_MASK } else { MASK };
        let wd = inotify::add_watch(&self.shared.queue, path, mask)?;
        book.last += 1;
        let generation = book.last;
        book.generations.insert(wd, generation);
        self.shared.count(&mut book);
        Ok(Watch {
            generation,
            key: key(wd),
        })
    }
}

/// Descriptors begin at 1.
fn key(wd: i32) -> DirKey {
    DirKey(wd as u64)
}

fn watch_error(errno: Errno) -> WatchError {
    match errno {
        Errno::NOSPC | Errno::NOMEM => WatchError::Exhausted,
        Errno::NOENT | Errno::NOTDIR => WatchError::Gone,
        errno => WatchError::Failed(errno.into()),
    }
}

impl Shared {
    /// From the first watch on the reader's thread is woken while the engine does not sleep.
    /// The engine listens before that, so it is woken first.
    fn begin_to_read(&self) {
        self.reads.call_once(|| {
            let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
            let data = EventData::new_u64(QUEUE);
            if let Err(errno) = epoll::add(&self.waiting, &self.queue, data, flags) {
                // The engine reads all the same.
                tracing::warn!(%errno, "inotify is read by one thread only");
            }
        });
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Strikes out what ended by itself. The kernel does not use these descriptors again.
    fn count(&self, book: &mut Book) {
        for key in self.dirty.take_gone() {
            book.generations.remove(&(key.0 as i32));
        }
        self.n_watches
            .store(book.generations.len(), Ordering::Relaxed);
    }

    /// The reader's thread: until it is stopped, or the kernel gives no more.
    fn read(&self, attend: &Attend) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(QUEUE),
        }; 2];
        loop {
            let n_events = match epoll::wait(&self.waiting, &mut events[..], None) {
                Ok(n_events) => n_events,
                Err(Errno::INTR) => continue,
                Err(errno) => return break_off(&mut self.dirty.hold(), errno),
            };
            if events[..n_events].iter().any(|e| e.data.u64() == STOP) {
                return;
            }
            attend(Role::Second);
            let mut adding = self.dirty.hold();
            if let Err(errno) = self.take_batch(&mut reader, &mut adding) {
                return break_off(&mut adding, errno);
            }
        }
    }

    /// One buffer of events. At most so many bytes of it were full.
    fn take_batch(
        &self,
        reader: &mut Reader<'_, &OwnedFd>,
        into: &mut Waiting,
    ) -> Result<usize, Errno> {
        let mut n_bytes = 0;
        loop {
            match reader.next() {
                Ok(event) => {
                    self.take(&event, into);
                    n_bytes += event.file_name().map_or(EVENT, |name| {
                        EVENT + (name.count_bytes() + 1).next_multiple_of(EVENT)
                    });
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(n_bytes),
                Err(errno) => return Err(errno),
            }
            if reader.is_buffer_empty() {
                return Ok(n_bytes);
            }
        }
    }

    fn take(&self, event: &inotify::Event<'_>, into: &mut Waiting) {
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return into.lose();
        }
        if flags.intersects(OF_SELF) {
            into.touch_root();
        }
        if flags.contains(ReadFlags::IGNORED) {
            // One that was asked to end is nobody's any more, and this says nothing new.
            into.end(Hint::Ended {
                dir: key(event.wd()),
            });
            into.gone(key(event.wd()));
            return;
        }
        // An event without a name is about the directory itself: its parent's watch tells the
        // same with a name.
        if let Some(name) = event.file_name() {
            into.name(key(event.wd()), name.to_bytes());
        }
    }
}

fn break_off(into: &mut Waiting, errno: Errno) {
    into.break_off(format!("inotify cannot be read: {errno}"));
}

/// The engine's own way to the queue.
#[derive(Debug)]
struct Puller {
    shared: Arc<Shared>,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Pull for Puller {
    fn source(&self) -> BorrowedFd<'_> {
        self.shared.queue.as_fd()
    }

    fn pull(&mut self, into: &mut Waiting) -> bool {
        let shared = &self.shared;
        let mut reader = Reader::new(&shared.queue, &mut self.buffer);
        match shared.take_batch(&mut reader, into) {
            // With room left there was no further one when it was read.
            Ok(n_bytes) => n_bytes + LONGEST_EVENT <= BUFFER,
            Err(errno) => {
                break_off(into, errno);
                false
            }
        }
    }
}
