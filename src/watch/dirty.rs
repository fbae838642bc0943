//! The names to look at again: a bounded set between a source's thread and the engine's.
//!
//! The source adds and pokes after it let go of the set; the engine only ever tries the lock,
//! so it never waits, and where it fails the poke that follows brings it back. Where the engine
//! can read the source itself ([`Pull`]), it does so on its way to the set. The sets are
//! swapped, so their memory is used again.
//!
//! A name is kept behind the key of its directory, as one row of bytes. Where hints name
//! directories by path the key is [`DirKey::BY_PATH`] and the name a whole path.
//!
//! Bounds: [`MAX_NAMES`] names and [`MAX_BYTES`] bytes of names. Beyond them the flag "lost" is
//! set and nothing more is kept until the next drain: one scan says it all.

use crate::model::hint::Hint;
use crate::model::watcher::{DirKey, Drained, Hints};
use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

/// How many names a set holds.
pub const MAX_NAMES: usize = 65_536;
/// How many bytes of names a set holds.
pub const MAX_BYTES: usize = 16 << 20;
const HELD: &str = "the guard is there until the drop";
/// The bytes of a key before its name.
const KEY: usize = size_of::<u64>();

/// Wakes the engine's thread.
///
/// Not by a channel: whoever receives from one may spin until a sender that it preempted has
/// finished, and a real-time engine would spin for ever before a reader of lower priority on
/// its own core.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

impl Waker {
    /// `poke` must be cheap and must not block.
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
    /// The engine found the set held: who holds it pokes afterwards.
    awaited: AtomicBool,
    wake: Waker,
}

/// What waits for the engine.
#[derive(Debug, Default)]
pub struct Waiting {
    names: HashSet<Box<[u8]>>,
    n_bytes: usize,
    /// Said before the names, in order.
    begun: Vec<DirKey>,
    /// Said after them: [`Hint::Unwatched`] and [`Hint::Ended`].
    ended: Vec<Hint>,
    /// Watches that are no more, for whoever counts them: not for the engine, and kept apart
    /// from what it is told, since it may be behind. No more than there were watches.
    gone: Vec<DirKey>,
    lost: bool,
    root_touched: bool,
    broken: Option<String>,
    first_at: Option<Instant>,
    /// Where a key and a name are put together.
    row: Vec<u8>,
}

/// A source's set, held for some additions. The engine is woken when it is let go, if
/// anything waits in it.
#[derive(Debug)]
pub struct Adding<'a> {
    dirty: &'a Dirty,
    /// `None` only while it is dropped.
    waiting: Option<MutexGuard<'a, Waiting>>,
}

impl Dirty {
    pub fn new(wake: Waker) -> Self {
        Self {
            waiting: Mutex::default(),
            awaited: AtomicBool::new(false),
            wake,
        }
    }

    /// Holds the set for additions.
    pub fn hold(&self) -> Adding<'_> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        Adding {
            dirty: self,
            waiting: Some(waiting),
        }
    }

    /// A directory is watched from now on. Nobody is woken for it: it matters with the next
    /// name.
    pub fn begin(&self, key: DirKey) {
        self.hold().begun.push(key);
    }

    /// Watches that ended by themselves since the last time. Never waits, and above all for no
    /// thread in the middle of saying so: where the set is held there are none, until the next time.
    pub fn take_gone(&self) -> Vec<DirKey> {
        let waiting = match self.waiting.try_lock() {
            Ok(waiting) => waiting,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Vec::new(),
        };
        let mut adding = Adding {
            dirty: self,
            waiting: Some(waiting),
        };
        std::mem::take(&mut adding.gone)
    }

    /// Never waits. `None`: it is held, and whoever holds it pokes.
    fn try_hold(&self) -> Option<MutexGuard<'_, Waiting>> {
        for _ in 0..2 {
            match self.waiting.try_lock() {
                Ok(waiting) => return Some(waiting),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                // Who held it may have looked at the flag before: once more.
                Err(TryLockError::WouldBlock) => self.awaited.store(true, Ordering::SeqCst),
            }
        }
        None
    }
}

impl Deref for Adding<'_> {
    type Target = Waiting;

    fn deref(&self) -> &Waiting {
        self.waiting.as_ref().expect(HELD)
    }
}

impl DerefMut for Adding<'_> {
    fn deref_mut(&mut self) -> &mut Waiting {
        self.waiting.as_mut().expect(HELD)
    }
}

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        let any = self.first_at.is_some();
        // The lock first: who is woken tries it at once.
        self.waiting = None;
        if self.dirty.awaited.swap(false, Ordering::SeqCst) || any {
            self.dirty.wake.poke();
        }
    }
}

impl Waiting {
    /// What is added waits from now on, unless something did before.
    fn begin(&mut self) {
        self.first_at.get_or_insert_with(Instant::now);
    }

    /// A watch ended without being asked to.
    pub fn end(&mut self, hint: Hint) {
        self.begin();
        if self.ended.len() == MAX_NAMES {
            self.lost = true;
        } else {
            self.ended.push(hint);
        }
    }

    /// A watch is no more.
    pub fn gone(&mut self, key: DirKey) {
        self.gone.push(key);
    }

    /// Some names are missing.
    pub fn lose(&mut self) {
        self.begin();
        self.lost = true;
    }

    /// The root itself was moved, removed or unmounted, perhaps.
    pub fn touch_root(&mut self) {
        self.begin();
        self.root_touched = true;
    }

    /// No more names come from here.
    pub fn break_off(&mut self, why: String) {
        self.begin();
        self.lost = true;
        self.broken = Some(why);
    }

    /// A name in a directory, or with [`DirKey::BY_PATH`] a path below the root; there the
    /// empty one is the root itself.
    pub fn name(&mut self, dir: DirKey, name: &[u8]) {
        self.begin();
        if self.lost {
            return;
        }
        self.row.clear();
        self.row.extend_from_slice(&dir.0.to_ne_bytes());
        self.row.extend_from_slice(name);
        if self.names.contains(&self.row[..]) {
            return;
        }
        if self.names.len() == MAX_NAMES || self.n_bytes + self.row.len() > MAX_BYTES {
            self.lost = true;
            return;
        }
        self.n_bytes += self.row.len();
        self.names.insert(Box::from(&self.row[..]));
    }
}

/// The engine's side of several sets.
#[derive(Debug)]
pub struct Drain {
    sets: Vec<Arc<Dirty>>,
    /// Empty, and as big as the biggest it was swapped for.
    spare: HashSet<Box<[u8]>>,
    pull: Option<Box<dyn Pull>>,
    /// A set was held when it was tried: whoever held it pokes.
    met_held: bool,
}

/// A source that the engine reads as well as the source's own thread, each with the set held:
/// whoever comes first. So a hint to an engine that sleeps costs no second thread's turn, and
/// one to an engine that is busy elsewhere does not wait in the kernel's queue.
pub trait Pull: std::fmt::Debug + Send {
    /// Becomes readable when there is something to pull.
    fn source(&self) -> BorrowedFd<'_>;

    /// Moves a bounded batch into the set. Whether the source had no more.
    fn pull(&mut self, into: &mut Waiting) -> bool;
}

impl Drain {
    /// Of sources that only their own threads read, and that cannot be asked what they have
    /// not told yet.
    pub fn new(sets: Vec<Arc<Dirty>>) -> Self {
        Self {
            sets,
            spare: HashSet::new(),
            pull: None,
            met_held: false,
        }
    }

    /// Of one set whose source the engine reads, too.
    pub fn pulling(set: Arc<Dirty>, pull: Box<dyn Pull>) -> Self {
        Self {
            pull: Some(pull),
            ..Self::new(vec![set])
        }
    }
}

impl Hints for Drain {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.pull.as_deref().map(|pull| pull.source())
    }

    fn is_kept(&self) -> bool {
        self.met_held
    }

    /// Takes all names that wait, without ever waiting for a source: what one of them is
    /// adding just now comes with its next poke.
    fn drain(&mut self, _: &dyn Fn(DirKey) -> bool, into: &mut Vec<Hint>) -> Drained {
        let mut drained = Drained {
            settled: true,
            ..Drained::default()
        };
        self.met_held = false;
        let mut lost = false;
        for set in &self.sets {
            let Some(mut waiting) = set.try_hold() else {
                self.met_held = true;
                drained.settled = false;
                continue;
            };
            if let Some(pull) = &mut self.pull {
                drained.settled &= pull.pull(&mut waiting);
            }
            into.extend(waiting.begun.drain(..).map(|dir| Hint::Begun { dir }));
            let Some(first_at) = waiting.first_at.take() else {
                continue;
            };
            std::mem::swap(&mut waiting.names, &mut self.spare);
            waiting.n_bytes = 0;
            lost |= std::mem::take(&mut waiting.lost);
            drained.root_touched |= std::mem::take(&mut waiting.root_touched);
            drained.broken = waiting.broken.take().or(drained.broken);
            let ended = std::mem::take(&mut waiting.ended);
            drop(waiting);
            drained.first_at = Some(drained.first_at.map_or(first_at, |at| at.min(first_at)));
            into.extend(self.spare.drain().map(hint));
            into.extend(ended);
        }
        if lost {
            into.push(Hint::Lost);
        }
        drained
    }
}

fn hint(row: Box<[u8]>) -> Hint {
    let key = row
        .first_chunk()
        .map_or(0, |key: &[u8; KEY]| u64::from_ne_bytes(*key));
    match DirKey(key) {
        DirKey::BY_PATH => Hint::Name(Box::from(&row[KEY..])),
        dir => Hint::Entry {
            dir,
            path: row,
            name_at: KEY,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::Receiver;

    const DIR: DirKey = DirKey(7);

    fn one() -> (Arc<Dirty>, Drain, Receiver<()>) {
        let (poke, woken) = crossbeam_channel::bounded(1);
        let wake = Waker::new(move || {
            // Full: a poke waits already.
            if poke.try_send(()).is_err() {}
        });
        let dirty = Arc::new(Dirty::new(wake));
        (dirty.clone(), Drain::new(vec![dirty]), woken)
    }

    fn lost(hints: &mut Vec<Hint>) -> bool {
        hints.drain(..).any(|hint| hint == Hint::Lost)
    }

    #[test]
    fn a_name_waits_once_and_pokes() {
        let (dirty, mut drain, woken) = one();
        for _ in 0..3 {
            let mut adding = dirty.hold();
            adding.name(DIR, b"b");
            adding.name(DirKey::BY_PATH, b"a/c");
        }
        assert!(woken.try_recv().is_ok() && woken.try_recv().is_err());
        let mut hints = Vec::new();
        assert!(drain.drain(&|_| true, &mut hints).first_at.is_some());
        hints.sort_by_key(|hint| matches!(hint, Hint::Entry { .. }));
        let entry = Hint::Entry {
            dir: DIR,
            path: [&DIR.0.to_ne_bytes()[..], b"b"].concat().into(),
            name_at: KEY,
        };
        assert_eq!(hints, [Hint::Name(Box::from(&b"a/c"[..])), entry]);
        assert!(drain.drain(&|_| true, &mut hints).first_at.is_none());
    }

    #[test]
    fn what_began_comes_before_the_names() {
        let (dirty, mut drain, woken) = one();
        dirty.begin(DIR);
        assert!(woken.try_recv().is_err(), "nobody is woken for it");
        dirty.hold().name(DIR, b"b");
        let mut hints = Vec::new();
        drain.drain(&|_| true, &mut hints);
        assert_eq!(hints[0], Hint::Begun { dir: DIR });
        assert!(woken.try_recv().is_ok());
        dirty.hold().name(DIR, b"c");
        assert!(woken.try_recv().is_ok());
        dirty.begin(DIR);
        assert!(woken.try_recv().is_ok(), "a name waits: the set was held");
    }

    #[test]
    fn at_the_bound_names_are_lost_and_it_is_said_once() {
        let (dirty, mut drain, _woken) = one();
        {
            let mut adding = dirty.hold();
            for n in 0..=MAX_NAMES {
                adding.name(DIR, n.to_string().as_bytes());
            }
        }
        let mut hints = Vec::new();
        drain.drain(&|_| true, &mut hints);
        assert_eq!(hints.len(), MAX_NAMES + 1);
        assert!(lost(&mut hints));
        dirty.hold().name(DIR, b"again");
        drain.drain(&|_| true, &mut hints);
        assert!(!lost(&mut hints));
        dirty.hold().name(DIR, &vec![b'x'; MAX_BYTES + 1]);
        drain.drain(&|_| true, &mut hints);
        assert!(lost(&mut hints));
    }

    #[test]
    fn who_counts_watches_does_not_wait_for_who_ends_them() {
        let (dirty, mut drain, woken) = one();
        let mut adding = dirty.hold();
        adding.gone(DIR);
        assert_eq!(dirty.take_gone(), [], "it is held just now");
        adding.name(DIR, b"a");
        drop(adding);
        let mut hints = Vec::new();
        drain.drain(&|_| true, &mut hints);
        assert_eq!(hints.len(), 1, "the engine is told nothing of it");
        assert!(woken.try_recv().is_ok());
        assert_eq!((dirty.take_gone(), dirty.take_gone()), (vec![DIR], vec![]));
        dirty.hold().name(DIR, b"b");
        assert!(woken.try_recv().is_ok());
        assert_eq!(dirty.take_gone(), []);
        assert!(woken.try_recv().is_ok(), "a name waits: the set was held");
    }

    #[test]
    fn the_engine_does_not_wait_for_a_source() {
        let (dirty, mut drain, woken) = one();
        let mut adding = dirty.hold();
        adding.name(DIR, b"a");
        let mut hints = Vec::new();
        assert!(drain.drain(&|_| true, &mut hints).first_at.is_none());
        drop(adding);
        assert!(woken.try_recv().is_ok(), "the poke comes after the lock");
        drain.drain(&|_| true, &mut hints);
        assert_eq!(hints.len(), 1);
    }
}
