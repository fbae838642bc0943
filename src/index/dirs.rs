//! What is kept of one directory: 88 bytes and its entries.

use super::sessions::Owner;
use super::table::Table;
use super::tree::DirOwner;
use crate::model::time::UnixNanos;
use std::fmt;

#[derive(Debug)]
pub(super) struct Dir {
    /// Wraps round: an id that is kept while its place is used four thousand million times
    /// over would be taken for another's.
    pub(super) generation: u32,
    pub(super) parent: u32,
    pub(super) name: Name,
    pub(super) ino: u64,
    /// Its creation time, [`NO_BIRTH`] where the file system keeps none.
    born: i64,
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

/// The earliest time there is, 1677: a directory made then is told by its inode alone.
const NO_BIRTH: i64 = i64::MIN;

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
        self.born = born.map_or(NO_BIRTH, |born| born.0);
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
        self.born == NO_BIRTH || born.is_none_or(|born| born.0 == self.born)
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

    pub(super) fn watch(&self) -> u64 {
        self.watch.get()
    }

    /// A watch whose number is too great to be kept counts as none: scans look after the
    /// directory then. That is after nine years of a million watches a second.
    pub(super) fn set_watch(&mut self, generation: u64, failed: bool) -> bool {
        let fits = generation < Count::MAX;
        self.watch = Count::new(if fits { generation } else { 0 });
        let unwatched = failed || !fits;
        if unwatched {
            self.flags |= UNWATCHED;
        } else {
            self.flags &= !UNWATCHED;
        }
        unwatched
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

/// A number that grows by one at a time, in 48 bits: enough for nine years of a million a
/// second, and it stops there.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Count([u8; 6]);

impl Count {
    const MAX: u64 = (1 << 48) - 1;

    fn new(n: u64) -> Self {
        let [a, b, c, d, e, f, ..] = n.min(Self::MAX).to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    fn get(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
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
        assert!(!dir.set_watch(Count::MAX - 1, false));
        assert_eq!(dir.watch(), Count::MAX - 1);
        assert!(dir.set_watch(Count::MAX, false));
        assert_eq!((dir.watch(), dir.is_unwatched()), (0, true));
    }
}
