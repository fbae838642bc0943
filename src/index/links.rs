//! Inodes with more than one name: counted once in each holder and once in the root.

use super::Owner;
use crate::model::bytes::Tally;
use std::collections::HashMap;

/// One inode that was seen with more than one link.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) apparent: u64,
    pub(super) allocated: u64,
    /// Who holds how many of its names. Never empty.
    pub(super) holders: Vec<(Owner, u32)>,
}

impl Inode {
    pub(super) fn tally(&self) -> Tally {
        Tally::file(self.apparent, self.allocated)
    }
}

/// The table of such inodes.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<u64, Inode>);

impl Links {
    pub(super) fn get(&self, ino: u64) -> Option<&Inode> {
        self.0.get(&ino)
    }

    /// How many of its names are known.
    pub(super) fn n_names(&self, ino: u64) -> u32 {
        self.0
            .get(&ino)
            .map_or(0, |inode| inode.holders.iter().map(|(_, n)| n).sum())
    }

    pub(super) fn get_mut(&mut self, ino: u64) -> Option<&mut Inode> {
        self.0.get_mut(&ino)
    }

    pub(super) fn insert(&mut self, ino: u64, inode: Inode) {
        self.0.insert(ino, inode);
    }

    pub(super) fn remove(&mut self, ino: u64) {
        self.0.remove(&ino);
    }
}
