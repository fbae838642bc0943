//! The names to look at again: a bounded set between a source's thread and the engine's.
//!
//! The source adds and pokes after it let go of the set; the engine only ever tries the lock,
//! so it never waits, and where it fails the poke that follows brings it back. The sets are
//! swapped, so their memory is used again.
//!
//! Bounds: [`MAX_NAMES`] names and [`MAX_BYTES`] bytes of names. Beyond them the flag "lost" is
//! set and nothing more is kept until the next drain: one scan says it all.

use crate::model::path::RelPath;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

/// How many names a set holds.
pub const MAX_NAMES: usize = 65_536;
/// How many bytes of names a set holds.
pub const MAX_BYTES: usize = 16 << 20;

/// Wakes the engine's thread.
///
/// Not by a channel: whoever receives from one may spin until a sender that it preempted has
/// finished, and a real-time engine would spin for ever before a reader of lower priority on
/// its own core. Unparking a thread is one atomic exchange; nobody ever spins for it.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

impl Waker {
    /// Wakes the calling thread from [`std::thread::park`].
    pub fn here() -> Self {
        let thread = std::thread::current();
        Self(Arc::new(move || thread.unpark()))
    }

    /// Does something else instead. It must be cheap and must not block.
    pub fn new(poke: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(poke))
    }

    pub fn poke(&self) {
        (self.0)();
    }
}

/// One source's set.
#[derive(Debug)]
pub struct Dirty {
    waiting: Mutex<Waiting>,
    wake: Waker,
}

#[derive(Debug, Default)]
struct Waiting {
    names: HashSet<Box<[u8]>>,
    n_bytes: usize,
    ended: Vec<(RelPath, u64)>,
    lost: bool,
    first_at: Option<Instant>,
}

impl Dirty {
    pub fn new(wake: Waker) -> Self {
        Self {
            waiting: Mutex::default(),
            wake,
        }
    }

    /// Adds names below the root; the empty one is the root itself.
    pub fn add<'a>(&self, names: impl Iterator<Item = &'a [u8]>) {
        let mut waiting = self.lock();
        for name in names {
            waiting.add(name);
        }
        self.let_go(waiting);
    }

    /// The watch of this directory with this generation ended without being asked to.
    pub fn end(&self, dir: RelPath, generation: u64) {
        let mut waiting = self.lock();
        waiting.begin();
        if waiting.ended.len() == MAX_NAMES {
            waiting.lost = true;
        } else {
            waiting.ended.push((dir, generation));
        }
        self.let_go(waiting);
    }

    /// Some names are missing.
    pub fn lose(&self) {
        let mut waiting = self.lock();
        waiting.lost = true;
        waiting.begin();
        self.let_go(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_go(&self, waiting: MutexGuard<'_, Waiting>) {
        drop(waiting);
        self.wake.poke();
    }
}

impl Waiting {
    fn begin(&mut self) {
        self.first_at.get_or_insert_with(Instant::now);
    }

    fn add(&mut self, name: &[u8]) {
        self.begin();
        if self.lost || self.names.contains(name) {
            return;
        }
        if self.names.len() == MAX_NAMES || self.n_bytes + name.len() > MAX_BYTES {
            self.lost = true;
            return;
        }
        self.n_bytes += name.len();
        self.names.insert(name.into());
    }
}

/// What a drain brought besides the names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Some names are missing: only a scan helps.
    pub lost: bool,
    /// When the oldest of what was drained was added.
    pub first_at: Option<Instant>,
}

/// The engine's side of several sets.
#[derive(Debug)]
pub struct Drain {
    sets: Vec<Arc<Dirty>>,
    /// Empty, and as big as the biggest it was swapped for.
    spare: HashSet<Box<[u8]>>,
    ended: Vec<(RelPath, u64)>,
}

impl Drain {
    pub fn new(sets: Vec<Arc<Dirty>>) -> Self {
        Self {
            sets,
            spare: HashSet::new(),
            ended: Vec::new(),
        }
    }

    /// Takes all names that wait, without ever waiting for a source: what one of them is
    /// adding just now comes with its next poke.
    pub fn drain(&mut self, into: &mut Vec<Box<[u8]>>) -> Drained {
        let mut drained = Drained::default();
        for set in &self.sets {
            let mut waiting = match set.waiting.try_lock() {
                Ok(waiting) => waiting,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            let Some(first_at) = waiting.first_at.take() else {
                continue;
            };
            std::mem::swap(&mut waiting.names, &mut self.spare);
            drained.lost |= std::mem::take(&mut waiting.lost);
            self.ended.append(&mut waiting.ended);
            waiting.n_bytes = 0;
            drop(waiting);
            drained.first_at = Some(drained.first_at.map_or(first_at, |at| at.min(first_at)));
            into.extend(self.spare.drain());
        }
        drained
    }

    /// The watches that ended by themselves up to the last drain.
    pub fn take_ended(&mut self) -> Vec<(RelPath, u64)> {
        std::mem::take(&mut self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::Receiver;

    fn one() -> (Arc<Dirty>, Drain, Receiver<()>) {
        let (poke, woken) = crossbeam_channel::bounded(1);
        let wake = Waker::new(move || {
            // Full: a poke waits already.
            if poke.try_send(()).is_err() {}
        });
        let dirty = Arc::new(Dirty::new(wake));
        (dirty.clone(), Drain::new(vec![dirty]), woken)
    }

    #[test]
    fn a_name_waits_once_and_pokes() {
        let (dirty, mut drain, woken) = one();
        for _ in 0..3 {
            dirty.add([&b"a/b"[..], b"a/c"].into_iter());
        }
        assert!(woken.try_recv().is_ok() && woken.try_recv().is_err());
        let mut names = Vec::new();
        let drained = drain.drain(&mut names);
        assert!(!drained.lost && drained.first_at.is_some());
        assert_eq!(names.len(), 2);
        assert_eq!(drain.drain(&mut names), Drained::default());
    }

    #[test]
    fn at_the_bound_names_are_lost_and_it_is_said_once() {
        let (dirty, mut drain, _woken) = one();
        let all: Vec<String> = (0..=MAX_NAMES).map(|n| n.to_string()).collect();
        dirty.add(all.iter().map(String::as_bytes));
        let mut names = Vec::new();
        assert!(drain.drain(&mut names).lost);
        assert_eq!(names.len(), MAX_NAMES);
        dirty.add([&b"again"[..]].into_iter());
        assert!(!drain.drain(&mut names).lost);
        dirty.add([&vec![b'x'; MAX_BYTES + 1][..]].into_iter());
        assert!(drain.drain(&mut names).lost);
    }

    #[test]
    fn the_engine_does_not_wait_for_a_source() {
        let (dirty, mut drain, woken) = one();
        let mut waiting = dirty.lock();
        waiting.add(b"a");
        let mut names = Vec::new();
        assert_eq!(drain.drain(&mut names), Drained::default());
        dirty.let_go(waiting);
        assert!(woken.try_recv().is_ok(), "the poke comes after the lock");
        drain.drain(&mut names);
        assert_eq!(names, [Box::from(&b"a"[..])]);
    }
}
