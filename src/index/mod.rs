//! What is on the disk of one root as last seen: sizes, totals, sessions oldest first.
//!
//! Invariants, kept by every public function:
//! - a root's `counted` is the sum over inodes that a session, the orphans or the catalogue
//!   holds; `unowned` the sum over those only unowned names hold; each inode once;
//! - a session's tally counts each inode once that has a name in it;
//! - `order` holds exactly the sessions with a known creation time that are not disowned.
//!
//! A million files in 100 000 sessions take 41 MB, all that is needed for deciding included, and 2
//! to 11 for [`Index::keep_homes`]. Nothing here takes longer with more files, apart from the
//! passes that say so, and but for caches that hold less of them.

mod buckets;
mod dirs;
mod entry;
mod evidence;
mod files;
mod homes;
mod links;
pub mod numbers;
mod order;
mod places;
mod sessions;
mod table;
mod tree;
mod words;

pub use sessions::{Owner, Session, Standing, Taken};
pub use tree::{Absent, DirOwner, Dropped, Known, Listed};

use crate::model::bytes::Tally;
use crate::model::place::DirId;
use dirs::Dir;
use entry::{HASH_MASK, Wides};
use homes::Homes;
use links::Links;
use numbers::ByNumber;
use order::Order;
use places::Places;
use sessions::Sessions;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The sums of one root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions with their metadata, orphans and the catalogue, each inode once.
    pub counted: Tally,
    /// The rest, each inode once.
    pub unowned: Tally,
    /// In the layout's form but claimed by no session.
    pub orphans: Tally,
    /// Sessions that no rule may take now.
    pub fixed: Tally,
    pub n_sessions: u64,
    pub n_fixed: u64,
}

/// The index of one root.
#[derive(Debug)]
pub struct Index {
    hasher: RandomState,
    /// The bits of a hash that are kept.
    mask: u64,
    dirs: Vec<Dir>,
    free_dirs: Vec<u32>,
    by_ino: Places,
    /// Directories by what hints call them.
    by_key: Places,
    wides: Wides,
    sessions: Sessions,
    order: Order,
    /// Owners of names in container directories, where they differ from name to name.
    loose: ByNumber<(u32, u64), Owner>,
    /// Of names whose hash is that of another name of their directory, the hash they have
    /// instead, by the directory's slot.
    twins: HashMap<u32, HashMap<Box<[u8]>, u64>>,
    links: Links,
    homes: Homes,
    totals: Totals,
    n_unwatched: u64,
    n_unowned: u64,
    n_disowned: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An index with an empty root directory in it.
    pub fn new() -> Self {
        Self::with_hash_mask(HASH_MASK)
    }

    /// The same, with fewer bits of the hashes of names: to see what happens when two names
    /// have one hash.
    pub fn with_hash_mask(mask: u64) -> Self {
        Self {
            hasher: RandomState::new(),
            mask: mask & HASH_MASK,
            dirs: vec![Dir::new(0, 0, b"", 0)],
            free_dirs: Vec::new(),
            by_ino: Places::default(),
            by_key: Places::default(),
            wides: Wides::default(),
            sessions: Sessions::default(),
            order: Order::default(),
            loose: ByNumber::default(),
            twins: HashMap::new(),
            links: Links::default(),
            homes: Homes::default(),
            totals: Totals::default(),
            n_unwatched: 0,
            n_unowned: 0,
            n_disowned: 0,
        }
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    pub fn root(&self) -> DirId {
        DirId {
            slot: 0,
            generation: 0,
        }
    }

    fn hash(&self, name: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        // Nothing follows it, so that its length needs no place of its own.
        hasher.write(name);
        hasher.finish() & self.mask
    }

    /// Whether an owner's bytes are compared with the limit.
    fn counts(&self, owner: Owner) -> bool {
        match owner {
            Owner::Session(slot) => !self.sessions.at(slot).disowned,
            Owner::Orphan | Owner::Catalogue => true,
            Owner::Unowned => false,
        }
    }

    fn credit(&mut self, owner: Owner, tally: Tally) {
        match owner {
            Owner::Session(slot) => {
                self.sessions.add(slot, tally);
                let session = self.sessions.at(slot);
                if session.is_orphaned() {
                    self.totals.orphans.add(tally);
                } else if session.is_fixed() && !session.disowned {
                    self.totals.fixed.add(tally);
                }
            }
            Owner::Orphan => self.totals.orphans.add(tally),
            Owner::Catalogue | Owner::Unowned => {}
        }
    }

    fn debit(&mut self, owner: Owner, tally: Tally) {
        match owner {
            Owner::Session(slot) => {
                self.sessions.take(slot, tally);
                let session = self.sessions.at(slot);
                if session.is_orphaned() {
                    self.totals.orphans.take(tally);
                } else if session.is_fixed() && !session.disowned {
                    self.totals.fixed.take(tally);
                }
            }
            Owner::Orphan => self.totals.orphans.take(tally),
            Owner::Catalogue | Owner::Unowned => {}
        }
    }

    /// A file with one name begins to count.
    fn add_single(&mut self, owner: Owner, tally: Tally) {
        self.credit(owner, tally);
        if self.counts(owner) {
            self.totals.counted.add(tally);
        } else {
            self.totals.unowned.add(tally);
        }
    }

    /// A file with one name ends to count.
    fn take_single(&mut self, owner: Owner, tally: Tally) {
        self.debit(owner, tally);
        if self.counts(owner) {
            self.totals.counted.take(tally);
        } else {
            self.totals.unowned.take(tally);
        }
    }

    /// Changes an inode with several names: all it counted for is taken off, the change is
    /// made, and what it counts for then is added. `change` gets `None` for a new inode and
    /// returns `None` when its last name is gone.
    fn change_inode(
        &mut self,
        ino: u64,
        change: impl FnOnce(Option<links::Inode>) -> Option<links::Inode>,
    ) {
        let old = self.links.get_mut(ino).map(|inode| links::Inode {
            apparent: inode.apparent,
            allocated: inode.allocated,
            n_links: inode.n_links,
            holders: std::mem::take(&mut inode.holders),
        });
        if let Some(old) = &old {
            let tally = old.tally();
            let counts = old.holders.iter().any(|(owner, _)| self.counts(*owner));
            for (owner, _) in &old.holders {
                self.debit(*owner, tally);
            }
            if counts {
                self.totals.counted.take(tally);
            } else {
                self.totals.unowned.take(tally);
            }
        }
        let Some(new) = change(old) else {
            self.links.remove(ino);
            return;
        };
        let tally = new.tally();
        let counts = new.holders.iter().any(|(owner, _)| self.counts(*owner));
        for (owner, _) in &new.holders {
            self.credit(*owner, tally);
        }
        if counts {
            self.totals.counted.add(tally);
        } else {
            self.totals.unowned.add(tally);
        }
        self.links.insert(ino, new);
    }
}

#[cfg(test)]
mod tests;
