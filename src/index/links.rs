//! Inodes with more than one name: counted once in each holder and once in the root.
//!
//! A file's first name is in a table like any other until a second one is seen; no event tells
//! the first that it got another. [`super::Index::settle_links`] looks for it.

use super::Owner;
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

    /// How many names of an inode with several are known.
    pub(super) fn n_names(&self, ino: u64) -> u32 {
        self.get(ino).map_or(0, Inode::n_names)
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
