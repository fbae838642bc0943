//! Inodes with more than one name: counted once in each holder and once in the root.
//!
//! A file's first name is in a table like any other until a second one is seen; no event tells
//! the first that it got another. Where it is, [`Homes`] knows: an index by inode that is made
//! in one pass when it is needed first, kept up from then on, and given up when no file has a
//! second name any more. Who links nothing pays nothing for it.

use super::Owner;
use super::buckets::{Buckets, Item};
use crate::model::bytes::Tally;
use std::collections::HashMap;

/// One inode that was seen with more than one link.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) apparent: u64,
    pub(super) allocated: u64,
    /// How many names it has, by the disk's last word.
    pub(super) n_links: u32,
    /// Who holds how many of its names. Never empty.
    pub(super) holders: Vec<(Owner, u32)>,
}

impl Inode {
    pub(super) fn tally(&self) -> Tally {
        Tally::file(self.apparent, self.allocated)
    }

    fn n_names(&self) -> u32 {
        self.holders.iter().map(|(_, n)| n).sum()
    }
}

/// The table of such inodes.
#[derive(Debug, Default)]
pub(super) struct Links {
    inodes: HashMap<u64, Inode>,
    unsettled: Unsettled,
}

/// Inodes that got a second name since names were last looked for.
#[derive(Debug)]
enum Unsettled {
    Some(Vec<u64>),
    /// More than are worth a list: all with names unknown.
    Any,
}

/// Above it, going over all linked inodes is no more work.
const MAX_UNSETTLED: usize = 1 << 16;

impl Default for Unsettled {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl Links {
    pub(super) fn get(&self, ino: u64) -> Option<&Inode> {
        self.inodes.get(&ino)
    }

    pub(super) fn get_mut(&mut self, ino: u64) -> Option<&mut Inode> {
        self.inodes.get_mut(&ino)
    }

    pub(super) fn insert(&mut self, ino: u64, inode: Inode) {
        self.inodes.insert(ino, inode);
    }

    pub(super) fn remove(&mut self, ino: u64) {
        self.inodes.remove(&ino);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// A name of an inode was seen: whether there are others that are not known.
    pub(super) fn has_unknown_names(&self, ino: u64) -> bool {
        self.get(ino).is_some_and(|i| i.n_names() < i.n_links)
    }

    pub(super) fn unsettle(&mut self, ino: u64) {
        if let Unsettled::Some(inodes) = &mut self.unsettled {
            inodes.push(ino);
            if inodes.len() > MAX_UNSETTLED {
                self.unsettled = Unsettled::Any;
            }
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(&self.unsettled, Unsettled::Some(inodes) if inodes.is_empty())
    }

    /// The inodes whose other names are to be looked for. They count as settled then: a name
    /// that is not found lies outside of the root, or was not seen yet.
    pub(super) fn take_unsettled(&mut self) -> Vec<u64> {
        let mut inodes = match std::mem::take(&mut self.unsettled) {
            Unsettled::Some(inodes) => inodes,
            Unsettled::Any => self.inodes.keys().copied().collect(),
        };
        inodes.retain(|ino| self.has_unknown_names(*ino));
        inodes
    }
}

/// Where a file with one known name is: a hint that is compared with the entry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home {
    tag: u32,
    pub(super) dir: u32,
    /// The low half of the hash of its name.
    pub(super) low_hash: u32,
}

impl Home {
    fn new(ino: u64, dir: u32, hash: u64) -> Self {
        Self {
            tag: mixed(ino),
            dir,
            low_hash: hash as u32,
        }
    }
}

impl Item for Home {
    const FREE: Self = Self {
        tag: 0,
        dir: u32::MAX,
        low_hash: 0,
    };

    fn is_free(&self) -> bool {
        self.dir == u32::MAX
    }

    fn address(&self) -> u32 {
        self.tag
    }
}

/// Files by inode: 12 bytes each.
#[derive(Debug, Default)]
pub(super) struct Homes(Buckets<Home>);

impl Homes {
    /// Those of so many files, about. `each` tells inode, directory and hash of all of them, two
    /// times the same.
    pub(super) fn all(n_files: usize, each: impl Fn(&mut dyn FnMut(u64, u32, u64))) -> Self {
        Self(Buckets::of(n_files, |give| {
            each(&mut |ino, dir, hash| give(Home::new(ino, dir, hash)));
        }))
    }

    pub(super) fn insert(&mut self, ino: u64, dir: u32, hash: u64) {
        self.0.insert(Home::new(ino, dir, hash));
    }

    pub(super) fn remove(&mut self, ino: u64, dir: u32, hash: u64) {
        let home = Home::new(ino, dir, hash);
        let removed = self.0.remove(home.tag, |other| *other == home);
        debug_assert!(removed.is_some(), "each file with one name has a home");
    }

    /// Where files with this inode number may be.
    pub(super) fn of(&self, ino: u64) -> Vec<Home> {
        let tag = mixed(ino);
        let near = self.0.list(tag).items().iter();
        near.filter(|home| home.tag == tag).copied().collect()
    }
}

/// Where directories are, by inode: 8 bytes each. Names come first here, an inode is compared
/// with the directory itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    tag: u32,
    slot: u32,
}

impl Item for Place {
    const FREE: Self = Self {
        tag: 0,
        slot: u32::MAX,
    };

    fn is_free(&self) -> bool {
        self.slot == u32::MAX
    }

    fn address(&self) -> u32 {
        self.tag
    }
}

/// Directories by inode.
#[derive(Debug, Default)]
pub(super) struct Places(Buckets<Place>);

impl Places {
    pub(super) fn insert(&mut self, ino: u64, slot: u32) {
        let tag = mixed(ino);
        self.0.insert(Place { tag, slot });
    }

    pub(super) fn remove(&mut self, ino: u64, slot: u32) {
        self.0.remove(mixed(ino), |place| place.slot == slot);
    }

    /// The slots of directories that may have this inode number, the newest last.
    pub(super) fn of(&self, ino: u64) -> impl Iterator<Item = u32> {
        let tag = mixed(ino);
        let near = self.0.list(tag).items().iter();
        near.filter(move |place| place.tag == tag).map(|p| p.slot)
    }
}

/// Inode numbers are given out one after the other: the bits that are used vary with all.
fn mixed(ino: u64) -> u32 {
    (ino.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}
