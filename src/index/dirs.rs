//! What is kept of one directory: 88 bytes and its entries.

use super::sessions::Owner;
use super::table::Table;
use super::tree::DirOwner;
use crate::model::time::UnixNanos;
use crate::model::watcher::{DirKey, Watch};
use std::fmt;

#[derive(Debug)]
pub(super) struct Dir {
    /// Wraps round: an id that is kept while its place is used four thousand million times
    /// over would be taken for another's.
    pub(super) generation: u32,
    pub(super) parent: u32,
    pub(super) name: Name,
    pub(super) ino: u64,
    key: DirKey,
    /// Of its creation time, see [`digest`].
    born: u32,
    pub(super) table: Table,
    owner: u32,
    /// Only scans with a greater number can know more of it than it began with.
    since: Count,
    /// The scan whose listing began last: it marks the entries it names.
    scan: Count,
    /// Generation of its watch; 0: none.
    watch: Count,
    flags: u8,
}

/// What is kept of a creation time, [`NO_BIRTH`] where the file system keeps none. A directory
/// that got the inode number of another one, and nobody told, is taken for it once in 2³² times:
/// until it is listed.
fn digest(born: UnixNanos) -> u32 {
    let mixed = (born.0 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (mixed as u32).max(1)
}

const NO_BIRTH: u32 = 0;

const LIVE: u8 = 1;
/// It was listed whole once.
const LISTED: u8 = 2;
/// A watch was asked for and could not be placed.
const UNWATCHED: u8 = 4;

/// Owners other than sessions, whose slots are smaller.
const CONTAINER: u32 = u32::MAX;
const ORPHAN: u32 = u32::MAX - 1;
const CATALOGUE: u32 = u32::MAX - 2;
const UNOWNED: u32 = u32::MAX - 3;

impl Dir {
    pub(super) fn new(generation: u32, parent: u32, name: &[u8], ino: u64) -> Self {
        Self {
            generation,
            parent,
            name: Name::new(name),
            ino,
            key: DirKey::BY_PATH,
            born: NO_BIRTH,
            table: Table::default(),
            owner: CONTAINER,
            since: Count::default(),
            scan: Count::default(),
            watch: Count::default(),
            flags: LIVE,
        }
    }

    pub(super) fn born(mut self, born: Option<UnixNanos>) -> Self {
        self.born = born.map_or(NO_BIRTH, digest);
        self
    }

    pub(super) fn owned_by(mut self, owner: DirOwner) -> Self {
        self.owner = match owner {
            DirOwner::Container => CONTAINER,
            DirOwner::In(Owner::Orphan) => ORPHAN,
            DirOwner::In(Owner::Catalogue) => CATALOGUE,
            DirOwner::In(Owner::Unowned) => UNOWNED,
            // Memory ends before slots reach the others.
            DirOwner::In(Owner::Session(slot)) => slot,
        };
        self
    }

    pub(super) fn owner(&self) -> DirOwner {
        match self.owner {
            CONTAINER => DirOwner::Container,
            ORPHAN => DirOwner::In(Owner::Orphan),
            CATALOGUE => DirOwner::In(Owner::Catalogue),
            UNOWNED => DirOwner::In(Owner::Unowned),
            slot => DirOwner::In(Owner::Session(slot)),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.flags & LIVE != 0
    }

    /// Whether it is the same inode as one that was created then.
    pub(super) fn may_be_born(&self, born: Option<UnixNanos>) -> bool {
        self.born == NO_BIRTH || born.is_none_or(|born| digest(born) == self.born)
    }

    /// Leaves the index. Its name and parent stay until the place is used again. Returns
    /// whether it was without a watch.
    pub(super) fn end(&mut self) -> bool {
        self.table = Table::default();
        let was_unwatched = self.is_unwatched();
        self.flags = 0;
        was_unwatched
    }

    pub(super) fn is_listed(&self) -> bool {
        self.flags & LISTED != 0
    }

    pub(super) fn set_listed(&mut self) {
        self.flags |= LISTED;
    }

    pub(super) fn is_unwatched(&self) -> bool {
        self.flags & UNWATCHED != 0
    }

    pub(super) fn watch(&self) -> Watch {
        Watch {
            generation: self.watch.get(),
            key: self.key,
        }
    }

    /// Whether it is without a watch now. A watch whose number is too great to be kept counts as
    /// none: scans look after the directory then.
    pub(super) fn set_watch(&mut self, watch: Watch, failed: bool) -> bool {
        let fits = watch.generation < Count::MAX;
        if fits {
            self.watch = Count::new(watch.generation);
            self.key = watch.key;
        } else {
            self.forget_watch();
        }
        let unwatched = failed || !fits;
        if unwatched {
            self.flags |= UNWATCHED;
        } else {
            self.flags &= !UNWATCHED;
        }
        unwatched
    }

    pub(super) fn forget_watch(&mut self) {
        self.watch = Count::default();
        self.key = DirKey::BY_PATH;
    }

    pub(super) fn since(&self) -> u64 {
        self.since.get()
    }

    pub(super) fn set_since(&mut self, scan: u64) {
        self.since = Count::new(scan);
    }

    pub(super) fn scan(&self) -> u64 {
        self.scan.get()
    }

    pub(super) fn set_scan(&mut self, scan: u64) {
        self.scan = Count::new(scan);
    }
}

/// A number that grows by one at a time, in 40 bits: enough for 35 years of a thousand a
/// second, and it stops there.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Count([u8; 5]);

impl Count {
    const MAX: u64 = (1 << 40) - 1;

    fn new(n: u64) -> Self {
        let [a, b, c, d, e, ..] = n.min(Self::MAX).to_le_bytes();
        Self([a, b, c, d, e])
    }

    fn get(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A name, in place where it is no longer than most names of sessions.
pub(super) enum Name {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

const SHORT: usize = 22;

impl Name {
    fn new(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..name.len()) {
            Some(place) => {
                place.copy_from_slice(name);
                let len = name.len() as u8;
                Self::Short { len, bytes }
            }
            None => Self::Long(name.into()),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(name) => name,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(self.as_bytes()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_88_bytes() {
        assert_eq!(size_of::<Name>(), 24);
        assert_eq!(size_of::<Dir>(), 88);
    }

    #[test]
    fn names_and_counts_come_back() {
        for len in [0, 1, SHORT, SHORT + 1, 255] {
            let name = vec![b'n'; len];
            assert_eq!(Name::new(&name).as_bytes(), name);
        }
        for n in [0, 1, 1 << 32, Count::MAX] {
            assert_eq!(Count::new(n).get(), n);
        }
        assert_eq!(Count::new(u64::MAX).get(), Count::MAX);
    }

    #[test]
    fn a_watch_that_cannot_be_numbered_is_none() {
        let mut dir = Dir::new(1, 0, b"d", 2);
        let watch = |generation| Watch {
            generation,
            key: DirKey(7),
        };
        assert!(!dir.set_watch(watch(Count::MAX - 1), false));
        assert_eq!(dir.watch(), watch(Count::MAX - 1));
        assert!(dir.set_watch(watch(Count::MAX), false));
        assert_eq!((dir.watch(), dir.is_unwatched()), (Watch::default(), true));
    }
}
