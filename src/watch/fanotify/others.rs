//! Directories of others that tell much are silenced in the kernel.
//!
//! A mark on a whole file system tells of everybody's writes. Dropping one here costs a wake-up;
//! a hundred thousand a second would take the engine's core. So a directory that nobody
//! announced and that is told of often gets an ignore mark for the writes to files in it. Its
//! names stay told of: what is moved or linked out of it is met where it arrives.
//!
//! Never silenced: a directory that a walker announced. Announcing one ends its silence, under
//! the same lock and before anything in it is listed, so no write in a watched directory goes
//! unheard. Nor is anything silenced once an inode is followed: it may be written to through a
//! name in a silent directory.
//!
//! Needs `CAP_DAC_READ_SEARCH` and Linux 6.0; without them everything goes on being heard and
//! dropped. Bounds: [`MAX_SILENCED`] directories; a mark does not keep an inode in memory, so
//! one may end by itself, and is laid again.

use super::event::Handle;
use super::sys::{self, Owned};
use crate::model::watcher::DirKey;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashSet;

/// How many directories are silent at once.
const MAX_SILENCED: usize = 1024;
/// So often a directory is told of before it is silenced, by the count of [`Busiest`].
const BORNE: u32 = 32;
/// A directory that tells more than one in so many events is found.
const CANDIDATES: usize = 8;

/// The directories told of most, by the frequent-items count of Misra and Gries (1982): a
/// fixed number of counters, and whatever makes up more than its share is among them.
#[derive(Debug, Default)]
pub(super) struct Busiest {
    counters: [(DirKey, u32); CANDIDATES],
    found: Option<(DirKey, Owned)>,
}

impl Busiest {
    /// Something was told of a directory that nobody announced.
    pub(super) fn told(&mut self, key: DirKey, handle: Handle<'_>) {
        let Some(at) = self.counter(key) else { return };
        at.1 += 1;
        if at.1 >= BORNE {
            // Whatever comes of it, it is counted anew.
            at.1 = 0;
            self.found = Owned::copy(handle).map(|handle| (key, handle));
        }
    }

    fn counter(&mut self, key: DirKey) -> Option<&mut (DirKey, u32)> {
        let known = self.counters.iter().position(|c| c.0 == key);
        let at = known.or_else(|| self.counters.iter().position(|c| c.1 == 0));
        match at {
            Some(at) => {
                self.counters[at].0 = key;
                Some(&mut self.counters[at])
            }
            None => {
                self.counters.iter_mut().for_each(|c| c.1 -= 1);
                None
            }
        }
    }

    /// One that was told of too often, once.
    pub(super) fn take(&mut self) -> Option<(DirKey, Owned)> {
        self.found.take()
    }
}

/// The silent directories. Only to be touched under the lock under which walkers announce.
#[derive(Debug)]
pub(super) struct Silence {
    silenced: HashSet<DirKey>,
    /// A descriptor on the marked file system, by which handles are opened; `None`: nothing is
    /// silenced, or not any more.
    place: Option<OwnedFd>,
}

impl Silence {
    pub(super) fn new(root: BorrowedFd<'_>) -> Self {
        Self {
            silenced: HashSet::new(),
            place: root.try_clone_to_owned().ok(),
        }
    }

    /// Silences a directory that nobody announced. `key_of` says what an open one is called.
    pub(super) fn fall(
        &mut self,
        group: BorrowedFd<'_>,
        key: DirKey,
        handle: &Owned,
        key_of: impl Fn(BorrowedFd<'_>) -> Option<DirKey>,
    ) {
        let Some(place) = &self.place else { return };
        if self.silenced.len() >= MAX_SILENCED {
            self.break_all(group);
            return;
        }
        let silenced = match sys::open(place.as_fd(), handle) {
            Ok(dir) if key_of(dir.as_fd()) == Some(key) => sys::ignore_writes(group, dir.as_fd()),
            // Gone meanwhile, or the handle leads elsewhere.
            Ok(_) | Err(Errno::STALE | Errno::NOENT) => return,
            Err(errno) => Err(errno),
        };
        match silenced {
            Ok(()) => {
                self.silenced.insert(key);
            }
            Err(errno) => {
                tracing::debug!(%errno, "busy directories of others cannot be silenced");
                self.end(group);
            }
        }
    }

    /// Hears a directory again, which `dir` holds open.
    ///
    /// # Errors
    /// The kernel keeps the mark.
    pub(super) fn break_for(
        &mut self,
        group: BorrowedFd<'_>,
        key: DirKey,
        dir: BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        if !self.silenced.contains(&key) {
            return Ok(());
        }
        match sys::hear_writes(group, dir) {
            // Its inode left the memory, and the mark with it.
            Ok(()) | Err(Errno::NOENT) => {
                self.silenced.remove(&key);
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    /// Hears everything from now on.
    pub(super) fn end(&mut self, group: BorrowedFd<'_>) {
        self.place = None;
        self.break_all(group);
    }

    fn break_all(&mut self, group: BorrowedFd<'_>) {
        if self.silenced.is_empty() {
            return;
        }
        match sys::hear_all(group) {
            Ok(()) => self.silenced.clear(),
            // Takes a group that is none; what stays silent is nobody's but others'.
            Err(errno) => tracing::warn!(%errno, "silent directories of others stay silent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Handle<'static> {
        Handle {
            kind: 1,
            bytes: b"12345678",
        }
    }

    #[test]
    fn who_tells_most_is_found_among_many() {
        let mut busiest = Busiest::default();
        let mut found = HashSet::new();
        for n in 0..10_000u64 {
            // Two tell a third each, and the rest is told by a thousand.
            let key = match n % 3 {
                0 => 1,
                1 => 2,
                _ => 10 + n % 1000,
            };
            busiest.told(DirKey(key), handle());
            found.extend(busiest.take().map(|(key, _)| key));
        }
        assert_eq!(found, HashSet::from([DirKey(1), DirKey(2)]));
    }

    #[test]
    fn few_events_are_borne() {
        let mut busiest = Busiest::default();
        for _ in 1..BORNE {
            busiest.told(DirKey(1), handle());
        }
        assert!(busiest.take().is_none());
        busiest.told(DirKey(1), handle());
        assert!(busiest.take().is_some() && busiest.take().is_none());
    }
}
