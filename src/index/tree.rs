//! Directories and the names in them.

use super::Index;
use super::dirs::Dir;
use super::entry::{Entry, HASH_MASK, What};
use super::links::Inode;
use super::places::Places;
use super::sessions::Owner;
use crate::model::bytes::Tally;
use crate::model::path::RelPath;
use crate::model::place::DirId;
use crate::model::seen::Stat;
use crate::model::session::SessionId;
use crate::model::watcher::{DirKey, Watch};

/// Who owns what lies in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirOwner {
    /// Sessions may lie in it; each name has its own role.
    Container,
    /// Everything in it belongs to one owner.
    In(Owner),
}

/// What the index has for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    File {
        ino: u64,
        apparent: u64,
        allocated: u64,
        linked: bool,
    },
    Dir {
        id: DirId,
        ino: u64,
    },
    /// Symlink, device, mount point and the like.
    Other {
        ino: u64,
    },
}

/// Directories that left the index: their descriptors and watches are to be given up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub slots: Vec<u32>,
    pub watches: Vec<(RelPath, Watch)>,
    pub sessions: Vec<SessionId>,
}

/// What a listing did not name.
#[derive(Debug, Default)]
pub struct Absent {
    pub dirs: Vec<DirId>,
    /// Of everything else the hashes of the names.
    pub names: Vec<u64>,
}

/// What a listing's word for a name meets.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    pub hash: u64,
    pub known: Option<Known>,
    /// The entry has the mark of this listing already: it was named before, or came meanwhile.
    pub again: bool,
}

/// Names of one directory whose hash was another's, before those are dropped that went.
const MAX_TWINS: usize = 1024;

impl Index {
    fn dir(&self, id: DirId) -> Option<&Dir> {
        self.dirs
            .get(id.slot as usize)
            .filter(|d| d.is_live() && d.generation == id.generation)
    }

    fn dir_mut(&mut self, id: DirId) -> Option<&mut Dir> {
        self.dirs
            .get_mut(id.slot as usize)
            .filter(|d| d.is_live() && d.generation == id.generation)
    }

    pub(super) fn dir_id_of(&self, slot: u32) -> DirId {
        DirId {
            slot,
            generation: self.dirs[slot as usize].generation,
        }
    }

    /// Whether the directory is (still) known.
    pub fn has_dir(&self, id: DirId) -> bool {
        self.dir(id).is_some()
    }

    pub fn n_dirs(&self) -> usize {
        self.dirs.len() - self.free_dirs.len()
    }

    /// The inode of a directory; 0 for a root that was never listed.
    pub fn dir_ino(&self, id: DirId) -> Option<u64> {
        self.dir(id).map(|d| d.ino)
    }

    /// Whether the directory is the one that this was seen of, and not another one that got
    /// its inode number.
    pub fn is_same_dir(&self, id: DirId, stat: &Stat) -> bool {
        self.dir(id)
            .is_some_and(|dir| dir.ino == stat.id.ino && dir.may_be_born(stat.btime))
    }

    /// Says that scans up to this number may have listed the directory before what is known
    /// of it, or when it was elsewhere.
    pub fn set_since(&mut self, id: DirId, scan: u64) {
        if let Some(dir) = self.dir_mut(id) {
            dir.set_since(scan);
        }
    }

    /// Whether a scan began when the directory was known already.
    pub fn is_older_than(&self, id: DirId, scan: u64) -> bool {
        self.dir(id).is_some_and(|dir| scan > dir.since())
    }

    pub fn dir_owner(&self, id: DirId) -> Option<DirOwner> {
        self.dir(id).map(Dir::owner)
    }

    /// Whether the directory was ever listed to its end.
    pub fn is_listed(&self, id: DirId) -> bool {
        self.dir(id).is_some_and(Dir::is_listed)
    }

    pub fn parent(&self, id: DirId) -> Option<DirId> {
        let dir = self.dir(id)?;
        (id.slot != 0).then(|| self.dir_id_of(dir.parent))
    }

    /// The last name of a directory; empty for the root.
    pub fn dir_name(&self, id: DirId) -> &[u8] {
        self.dir(id).map_or(&[], |d| d.name.as_bytes())
    }

    /// The path of a directory, `None` when it left the index.
    pub fn path(&self, id: DirId) -> Option<RelPath> {
        self.dir(id)?;
        Some(self.path_at(id.slot))
    }

    fn path_at(&self, slot: u32) -> RelPath {
        // Each name was checked when it came in.
        RelPath::new(&path_bytes(&self.dirs, slot)).unwrap_or_else(|_| RelPath::root())
    }

    /// The directory at a path, as far as it is known.
    pub fn dir_at(&self, path: &RelPath) -> Option<DirId> {
        path.names()
            .try_fold(self.root(), |dir, name| match self.find(dir, name) {
                Some(Known::Dir { id, .. }) => Some(id),
                _ => None,
            })
    }

    /// The directory with this inode, wherever it was last seen.
    pub fn dir_of_ino(&self, ino: u64) -> Option<DirId> {
        self.by_ino
            .of(ino)
            .find(|slot| self.dirs[*slot as usize].ino == ino)
            .map(|slot| self.dir_id_of(slot))
    }

    pub fn find(&self, dir: DirId, name: &[u8]) -> Option<Known> {
        self.dir(dir)?;
        let hash = self.hash_in(dir.slot, name);
        let what = self.what_at(dir.slot, hash)?;
        (!self.is_anothers(what, name)).then(|| self.known(what))
    }

    /// Whether an entry is a directory of another name, which only has the hash of this one.
    fn is_anothers(&self, what: What, name: &[u8]) -> bool {
        matches!(what, What::Dir(slot) if self.dirs[slot as usize].name.as_bytes() != name)
    }

    fn known(&self, what: What) -> Known {
        match what {
            What::Dir(slot) => Known::Dir {
                id: self.dir_id_of(slot),
                ino: self.dirs[slot as usize].ino,
            },
            What::Other { ino } => Known::Other { ino },
            What::File { ino, .. } | What::Linked { ino } => {
                let (apparent, allocated) = self.sizes(what);
                Known::File {
                    ino,
                    apparent,
                    allocated,
                    linked: matches!(what, What::Linked { .. }),
                }
            }
        }
    }

    /// The hash under which a directory has, or would have, a name.
    pub(super) fn hash_in(&self, slot: u32, name: &[u8]) -> u64 {
        let hash = self.hash(name);
        if self.twins.is_empty() {
            return hash;
        }
        let twins = self.twins.get(&slot);
        twins
            .and_then(|twins| twins.get(name))
            .map_or(hash, |twin| *twin)
    }

    /// The hash under which a directory will have a name, and what has it now: where the hash of
    /// the name is a directory's of another name, it gets one of its own.
    fn place_for(&mut self, dir: DirId, name: &[u8]) -> (u64, Option<What>) {
        let hash = self.hash_in(dir.slot, name);
        match self.what_at(dir.slot, hash) {
            Some(what) if self.is_anothers(what, name) => {
                self.part_twins(dir, name);
                let hash = self.hash_in(dir.slot, name);
                (hash, self.what_at(dir.slot, hash))
            }
            old => (hash, old),
        }
    }

    /// Two names of a directory have one hash: from now on this one has another. Whatever the
    /// first of them is, it keeps the hash.
    /// `false`: it has another already.
    pub fn part_twins(&mut self, dir: DirId, name: &[u8]) -> bool {
        if self.dir(dir).is_none() {
            return false;
        }
        let hash = self.hash_in(dir.slot, name);
        let table = &self.dirs[dir.slot as usize].table;
        let twins = self.twins.entry(dir.slot).or_default();
        if twins.contains_key(name) {
            return false;
        }
        if twins.len() >= MAX_TWINS {
            // Names that are not there now are told apart again when they come back.
            twins.retain(|_, twin| table.get(*twin).is_some());
        }
        let is_free = |twin: &u64| table.get(*twin).is_none() && twins.values().all(|t| t != twin);
        // As odd as a hash, and a table has fewer entries than there are steps.
        let twin = (1..)
            .map(|n: u64| hash.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) & HASH_MASK)
            .find(is_free);
        twins.extend(twin.map(|twin| (Box::from(name), twin)));
        twin.is_some()
    }

    /// The owner of a name in a directory.
    pub(super) fn owner_at(&self, slot: u32, hash: u64) -> Owner {
        match self.dirs[slot as usize].owner() {
            DirOwner::In(owner) => owner,
            DirOwner::Container => self
                .loose
                .get(&(slot, hash))
                .copied()
                .unwrap_or(Owner::Unowned),
        }
    }

    fn what_at(&self, slot: u32, hash: u64) -> Option<What> {
        let entry = self.dirs[slot as usize].table.get(hash)?;
        Some(entry.what(&self.wides))
    }

    /// Whether a name, which has an entry and this owner, is one that nobody owns, and not only
    /// below one.
    pub(super) fn is_loose(&self, slot: u32, what: What, owner: Owner) -> bool {
        let is_unowned = match what {
            What::Dir(dir) => self.dirs[dir as usize].owner() == DirOwner::In(Owner::Unowned),
            What::File { .. } | What::Linked { .. } => owner == Owner::Unowned,
            // Who claims its name cannot use it.
            What::Other { .. } => true,
        };
        is_unowned && self.dirs[slot as usize].owner() == DirOwner::Container
    }

    /// Names in containers that nobody owns: a directory of them is one.
    pub fn n_unowned(&self) -> u64 {
        self.n_unowned
    }

    /// Puts an entry into a table, in the place of the `old` one where there is one, whose owner is
    /// the same.
    fn put(&mut self, slot: u32, hash: u64, old: Option<What>, what: What, owner: Owner) {
        let was_loose = old.is_some_and(|old| self.is_loose(slot, old, owner));
        self.n_unowned -= u64::from(was_loose);
        self.n_unowned += u64::from(self.is_loose(slot, what, owner));
        let (left, came) = (old.and_then(What::file_ino), what.file_ino());
        let moves = left != came;
        let table = &mut self.dirs[slot as usize].table;
        let lengthens = old.is_none() && table.is_full();
        if lengthens {
            self.homes.remove(slot, table, &self.wides);
        } else if let Some(ino) = came.filter(|_| moves) {
            self.homes.enter(slot, table, &self.wides, ino);
        }
        match old.and_then(|_| table.get_mut(hash)) {
            Some(place) => {
                self.wides.free(place);
                *place = Entry::pack(hash, what, &mut self.wides);
            }
            None => table.insert(Entry::pack(hash, what, &mut self.wides)),
        }
        if lengthens {
            self.homes.add(slot, table, &self.wides);
        } else if let Some(ino) = left.filter(|_| moves) {
            self.homes.leave(slot, table, &self.wides, ino);
        }
    }

    /// Says who owns a name in a container; its bytes move with it. The name need not exist yet.
    pub fn set_owner(&mut self, dir: DirId, name: &[u8], owner: Owner) {
        if self
            .dir(dir)
            .is_none_or(|d| d.owner() != DirOwner::Container)
        {
            return;
        }
        let (hash, what) = self.place_for(dir, name);
        let at = (dir.slot, hash);
        let old = self.owner_at(at.0, at.1);
        if old == owner {
            return;
        }
        if let Some(what) = what.filter(|what| !matches!(what, What::Dir(_))) {
            self.n_unowned -= u64::from(self.is_loose(at.0, what, old));
            self.n_unowned += u64::from(self.is_loose(at.0, what, owner));
        }
        let file = what.filter(|what| what.is_file());
        let file = file.map(|what| (what, self.sizes(what)));
        if let Some((what, _)) = file {
            self.uncount(old, what);
        }
        if owner == Owner::Unowned {
            self.loose.remove(&at);
        } else {
            self.loose.insert(at, owner);
        }
        if let Some((what, sizes)) = file {
            self.count(owner, what, sizes);
        }
    }

    fn sizes(&self, what: What) -> (u64, u64) {
        match what {
            What::File {
                apparent,
                allocated,
                ..
            } => (apparent, allocated),
            What::Linked { ino } => self
                .links
                .get(ino)
                .map_or((0, 0), |inode| (inode.apparent, inode.allocated)),
            What::Dir(_) | What::Other { .. } => (0, 0),
        }
    }

    /// A name begins to count for an owner; the sizes are those of its inode.
    pub(super) fn count(&mut self, owner: Owner, what: What, (apparent, allocated): (u64, u64)) {
        let ino = match what {
            What::Dir(_) | What::Other { .. } => return,
            What::File { .. } => {
                return self.add_single(owner, Tally::file(apparent, allocated));
            }
            What::Linked { ino } => ino,
        };
        if let Owner::Session(slot) = owner {
            self.sessions.at_mut(slot).n_linked += 1;
        }
        self.change_inode(ino, |old| {
            let mut inode = old.unwrap_or(Inode {
                apparent,
                allocated,
                n_links: 0,
                holders: Vec::new(),
            });
            (inode.apparent, inode.allocated) = (apparent, allocated);
            match inode
                .holders
                .iter_mut()
                .find(|(holder, _)| *holder == owner)
            {
                Some((_, n)) => *n += 1,
                None => inode.holders.push((owner, 1)),
            }
            Some(inode)
        });
    }

    /// It ends to count.
    pub(super) fn uncount(&mut self, owner: Owner, what: What) {
        let ino = match what {
            What::Dir(_) | What::Other { .. } => return,
            What::File {
                apparent,
                allocated,
                ..
            } => {
                return self.take_single(owner, Tally::file(apparent, allocated));
            }
            What::Linked { ino } => ino,
        };
        if let Owner::Session(slot) = owner {
            self.sessions.at_mut(slot).n_linked -= 1;
        }
        self.change_inode(ino, |old| {
            let mut inode = old?;
            if let Some(at) = inode
                .holders
                .iter()
                .position(|(holder, _)| *holder == owner)
            {
                inode.holders[at].1 -= 1;
                if inode.holders[at].1 == 0 {
                    inode.holders.swap_remove(at);
                }
            }
            (!inode.holders.is_empty()).then_some(inode)
        });
    }

    /// A regular file as just seen. Whatever had the name before must be no directory.
    pub fn put_file(&mut self, dir: DirId, name: &[u8], stat: &Stat) {
        if self.dir(dir).is_none() {
            return;
        }
        let (hash, old) = self.place_for(dir, name);
        debug_assert!(!matches!(old, Some(What::Dir(_))));
        let owner = self.owner_at(dir.slot, hash);
        let (ino, sizes) = (stat.id.ino, (stat.apparent, stat.allocated));
        // An inode that ever had several names keeps its record until they are gone.
        let linked = stat.n_links > 1 || self.links.get(ino).is_some();
        let new = if linked {
            What::Linked { ino }
        } else {
            What::File {
                ino,
                apparent: stat.apparent,
                allocated: stat.allocated,
            }
        };
        if let Some(old) = old {
            self.uncount(owner, old);
        }
        self.count(owner, new, sizes);
        if linked {
            if let Some(inode) = self.links.get_mut(ino) {
                inode.n_links = stat.n_links;
            }
            if old != Some(new) && self.links.has_unknown_names(ino) {
                self.links.unsettle(ino);
            }
        }
        self.put(dir.slot, hash, old, new, owner);
    }

    /// A symlink, device or mount point: known, counts nothing.
    pub fn put_other(&mut self, dir: DirId, name: &[u8], ino: u64) {
        if self.dir(dir).is_none() {
            return;
        }
        let (hash, old) = self.place_for(dir, name);
        let owner = self.owner_at(dir.slot, hash);
        if let Some(old) = old {
            self.uncount(owner, old);
        }
        self.put(dir.slot, hash, old, What::Other { ino }, owner);
    }

    /// A directory as just seen, empty as far as known. The name must be free.
    pub fn put_dir(&mut self, parent: DirId, name: &[u8], stat: &Stat, owner: DirOwner) -> DirId {
        debug_assert!(self.has_dir(parent) && self.find(parent, name).is_none());
        let ino = stat.id.ino;
        let (hash, old) = self.place_for(parent, name);
        let slot = self.free_dirs.pop().unwrap_or_else(|| {
            self.dirs.push(Dir::new(0, 0, b"", 0));
            // 32 bits are enough for 4 thousand million directories: memory ends before.
            (self.dirs.len() - 1) as u32
        });
        let generation = self.dirs[slot as usize].generation.wrapping_add(1);
        let dir = Dir::new(generation, parent.slot, name, ino);
        self.dirs[slot as usize] = dir.born(stat.btime).owned_by(owner);
        if let Some(older) = self.dir_of_ino(ino) {
            self.by_ino.remove(ino, older.slot);
        }
        self.by_ino.insert(ino, slot);
        let owner_of_name = self.owner_at(parent.slot, hash);
        self.put(parent.slot, hash, old, What::Dir(slot), owner_of_name);
        DirId { slot, generation }
    }

    /// Tells the root directory's inode.
    pub fn set_root_ino(&mut self, ino: u64) {
        self.dirs[0].ino = ino;
    }

    /// Notes a directory's watch; generation 0 with `failed`: none could be placed.
    pub fn set_watch(&mut self, dir: DirId, watch: Watch, failed: bool) {
        let Some(node) = self.dir_mut(dir) else {
            return;
        };
        let (old, before) = (node.watch(), node.is_unwatched());
        let after = node.set_watch(watch, failed);
        let new = node.watch();
        if old.key != new.key {
            self.unkey(old.key, dir.slot);
            if new.key != DirKey::BY_PATH {
                if let Some(older) = self.slot_of_key(new.key) {
                    self.unkey(new.key, older);
                }
                self.by_key.insert(new.key.0, dir.slot);
            }
        }
        self.n_unwatched += u64::from(after);
        self.n_unwatched -= u64::from(before);
    }

    /// No directory has a watch any more. A pass over all of them.
    pub fn forget_watches(&mut self) {
        self.dirs.iter_mut().for_each(Dir::forget_watch);
        self.by_key = Places::default();
    }

    /// How many directories have no watch although one was asked for.
    pub fn n_unwatched(&self) -> u64 {
        self.n_unwatched
    }

    pub fn watch(&self, dir: DirId) -> Watch {
        self.dir(dir).map_or(Watch::default(), Dir::watch)
    }

    /// The directory that hints call by this key.
    pub fn dir_of_key(&self, key: DirKey) -> Option<DirId> {
        self.slot_of_key(key).map(|slot| self.dir_id_of(slot))
    }

    fn slot_of_key(&self, key: DirKey) -> Option<u32> {
        self.by_key
            .of(key.0)
            .find(|slot| self.dirs[*slot as usize].watch().key == key)
    }

    fn unkey(&mut self, key: DirKey, slot: u32) {
        if key != DirKey::BY_PATH {
            self.by_key.remove(key.0, slot);
        }
    }

    /// Forgets a name with everything below it.
    pub fn forget(&mut self, dir: DirId, name: &[u8]) -> Dropped {
        if self.dir(dir).is_none() {
            return Dropped::default();
        }
        let hash = self.hash_in(dir.slot, name);
        match self.what_at(dir.slot, hash) {
            Some(what) if self.is_anothers(what, name) => Dropped::default(),
            Some(What::Dir(slot)) => self.drop_dir(slot),
            Some(_) => {
                self.remove_name(dir.slot, hash);
                Dropped::default()
            }
            None => Dropped::default(),
        }
    }

    fn remove_name(&mut self, slot: u32, hash: u64) {
        let Some(entry) = self.dirs[slot as usize].table.remove(hash) else {
            return;
        };
        let owner = self.owner_at(slot, hash);
        let what = entry.what(&self.wides);
        self.n_unowned -= u64::from(self.is_loose(slot, what, owner));
        self.uncount(owner, what);
        self.wides.free(&entry);
        if let Some(ino) = what.file_ino() {
            let table = &self.dirs[slot as usize].table;
            self.homes.leave(slot, table, &self.wides, ino);
        }
    }

    /// From now on the places of each file are kept, so that it is known when one has moved.
    /// One pass over all that is known.
    pub fn keep_homes(&mut self) {
        if self.homes.are_kept() {
            return;
        }
        self.homes.keep();
        for (slot, dir) in self.dirs.iter().enumerate() {
            self.homes.add(slot as u32, &dir.table, &self.wides);
        }
    }

    /// Whether a file's inode is known under another name than this one.
    pub fn has_other_names(&self, dir: DirId, name: &[u8], ino: u64) -> bool {
        if !self.homes.are_kept() {
            return false;
        }
        let this = (dir.slot, self.hash_in(dir.slot, name));
        // A long directory is found once for each of its files, and it is not looked through
        // for this one alone.
        let is_long = |d: &Dir| !d.table.is_short();
        let is_known = self.what_at(this.0, this.1).and_then(What::file_ino) == Some(ino);
        let mut is_this = is_known && self.dir(dir).is_some_and(is_long);
        self.homes
            .of(ino)
            .filter(|slot| *slot != dir.slot || !std::mem::take(&mut is_this))
            .any(|slot| self.names_in(slot, ino).any(|hash| (slot, hash) != this))
    }

    /// The other names of a file's inode: their directories, and the hashes of the names.
    pub fn other_names(&self, dir: DirId, name: &[u8], ino: u64) -> Vec<(DirId, u64)> {
        let mut slots: Vec<u32> = self.homes.of(ino).collect();
        slots.sort_unstable();
        slots.dedup();
        let this = (dir, self.hash_in(dir.slot, name));
        slots
            .into_iter()
            .flat_map(|slot| {
                self.names_in(slot, ino)
                    .map(move |hash| (self.dir_id_of(slot), hash))
            })
            .filter(|other| *other != this)
            .collect()
    }

    /// The hashes of the names that a file has in a directory.
    fn names_in(&self, slot: u32, ino: u64) -> impl Iterator<Item = u64> {
        self.dirs[slot as usize]
            .table
            .iter()
            .filter(move |entry| entry.may_be(ino) && self.is_file_of(entry, ino))
            .map(Entry::hash)
    }

    /// Forgets a directory with everything below it, the sessions in it included.
    pub fn drop_dir(&mut self, slot: u32) -> Dropped {
        let mut dropped = Dropped::default();
        if slot == 0 || !self.dirs[slot as usize].is_live() {
            return dropped;
        }
        let mut stack = vec![slot];
        let mut leaving = Vec::new();
        while let Some(at) = stack.pop() {
            leaving.push(at);
            let dir = &self.dirs[at as usize];
            if dir.watch().generation != 0 {
                dropped.watches.push((self.path_at(at), dir.watch()));
            }
            stack.extend(dir.table.iter().filter_map(Entry::dir_slot));
        }
        let dir = &self.dirs[slot as usize];
        let (parent, hash) = (dir.parent, self.hash_in(dir.parent, dir.name.as_bytes()));
        let is_loose = self.is_loose(parent, What::Dir(slot), Owner::Unowned);
        self.n_unowned -= u64::from(is_loose);
        self.dirs[parent as usize].table.remove(hash);
        // Parents come before their children in `leaving`; a session ends with its own
        // directory, when all below it is uncounted.
        for at in leaving.iter().rev() {
            self.empty_dir(*at, &mut dropped);
        }
        dropped.slots = leaving;
        dropped
    }

    fn empty_dir(&mut self, slot: u32, dropped: &mut Dropped) {
        let is_container = self.dirs[slot as usize].owner() == DirOwner::Container;
        let table = std::mem::take(&mut self.dirs[slot as usize].table);
        self.homes.remove(slot, &table, &self.wides);
        for entry in table.iter() {
            let at = (slot, entry.hash());
            let owner = self.owner_at(slot, entry.hash());
            let what = entry.what(&self.wides);
            // Directories in it went before it, and have nobody.
            self.n_unowned -= u64::from(self.is_loose(slot, what, owner));
            self.uncount(owner, what);
            self.wides.free(entry);
            if !self.loose.is_empty() {
                if let Some(session) = self.session_of(owner).filter(|_| is_container) {
                    dropped.sessions.extend(self.take_file(session, at.1));
                }
                self.loose.remove(&at);
            }
        }
        let dir = &mut self.dirs[slot as usize];
        let (ino, owner, key) = (dir.ino, dir.owner(), dir.watch().key);
        self.n_unwatched -= u64::from(dir.end());
        self.by_ino.remove(ino, slot);
        self.unkey(key, slot);
        self.twins.remove(&slot);
        if let DirOwner::In(Owner::Session(session)) = owner
            && self.sessions.at(session).dir() == Some(slot)
        {
            dropped.sessions.push(self.end_session(session));
        }
        self.free_dirs.push(slot);
    }

    /// A listing begins, with so many names at first: entries that it will not name can be told
    /// from the others after it.
    pub fn begin_listing(&mut self, dir: DirId, scan: u64, n_names: usize) {
        if let Some(dir) = self.dir_mut(dir) {
            dir.set_scan(scan);
            dir.table.unmark();
            dir.table.reserve(n_names);
        }
    }

    /// The scan whose listing of a directory began last.
    pub fn listing_scan(&self, dir: DirId) -> u64 {
        self.dir(dir).map_or(0, Dir::scan)
    }

    /// A scan's listing names an entry. Only the listing that began last leaves its mark.
    pub fn listed(&mut self, dir: DirId, name: &[u8], scan: u64) -> Listed {
        let hash = self.hash_in(dir.slot, name);
        let mut listed = Listed {
            hash,
            known: None,
            again: false,
        };
        if self.dir(dir).is_none() {
            return listed;
        }
        let Some(what) = self.what_at(dir.slot, hash) else {
            return listed;
        };
        if self.is_anothers(what, name) {
            return listed;
        }
        let node = &mut self.dirs[dir.slot as usize];
        let is_current = node.scan() == scan;
        if is_current && let Some(entry) = node.table.get_mut(hash) {
            listed.again = entry.is_marked();
            entry.mark();
        }
        listed.known = Some(self.known(what));
        listed
    }

    /// A listing ended: what it did not name. Nothing where another scan's listing of the
    /// directory began meanwhile: that one will tell.
    pub fn end_listing(&mut self, dir: DirId, scan: u64) -> Absent {
        let mut absent = Absent::default();
        let Some(node) = self.dir_mut(dir) else {
            return absent;
        };
        if node.scan() != scan {
            return absent;
        }
        node.set_listed();
        node.table.shrink();
        let mut slots = Vec::new();
        for entry in node.table.iter().filter(|e| !e.is_marked()) {
            match entry.dir_slot() {
                Some(slot) => slots.push(slot),
                None => absent.names.push(entry.hash()),
            }
        }
        let dirs = slots.into_iter().map(|slot| self.dir_id_of(slot));
        absent.dirs = dirs.collect();
        absent
    }

    /// Whether a directory has no names, as far as is known.
    pub fn is_empty(&self, dir: DirId) -> bool {
        self.is_listed(dir)
            && self
                .dir(dir)
                .is_some_and(|dir| dir.table.iter().next().is_none())
    }

    /// Forgets a file (or symlink, or device) by the hash of its name. Returns whose it was.
    pub fn forget_hash(&mut self, dir: DirId, hash: u64) -> Option<Owner> {
        self.dir(dir)?;
        if let What::Dir(_) = self.what_at(dir.slot, hash)? {
            return None;
        }
        let owner = self.owner_at(dir.slot, hash);
        self.remove_name(dir.slot, hash);
        Some(owner)
    }

    /// Who owns a name of a directory.
    pub fn owner_of(&self, dir: DirId, name: &[u8]) -> Owner {
        match self.dir(dir) {
            Some(_) => self.owner_at(dir.slot, self.hash_in(dir.slot, name)),
            None => Owner::Unowned,
        }
    }

    /// Whether a file in a directory has this inode.
    pub fn has_ino(&self, dir: DirId, ino: u64) -> bool {
        let is_it = |e: &Entry| e.may_be(ino) && self.is_file_of(e, ino);
        self.dir(dir).is_some_and(|d| d.table.iter().any(is_it))
    }

    fn is_file_of(&self, entry: &Entry, wanted: u64) -> bool {
        match entry.what(&self.wides) {
            What::File { ino, .. } | What::Linked { ino } => ino == wanted,
            What::Dir(_) | What::Other { .. } => false,
        }
    }

    /// The hash under which the index keeps a name of a directory; valid for this index only.
    pub fn name_hash(&self, dir: DirId, name: &[u8]) -> u64 {
        self.hash_in(dir.slot, name)
    }

    /// The slots of a directory and of all below it.
    pub fn slots_below(&self, dir: DirId) -> Vec<u32> {
        if self.dir(dir).is_none() {
            return Vec::new();
        }
        let mut slots = vec![dir.slot];
        self.each_below(dir, |what, _| {
            if let What::Dir(slot) = what {
                slots.push(slot);
            }
        });
        slots
    }

    /// Finds the other names of inodes that were seen with a second link: no event tells the
    /// first name of a file that it got another. A step for each such inode where the places
    /// of files are kept, else one pass over the index.
    pub fn settle_links(&mut self) {
        let inos = self.links.take_unsettled();
        if inos.is_empty() {
            return;
        }
        let mut slots: Vec<u32> = if self.homes.are_kept() {
            inos.iter().flat_map(|ino| self.homes.of(*ino)).collect()
        } else {
            (0..self.dirs.len() as u32).collect()
        };
        slots.sort_unstable();
        slots.dedup();
        let mut found = Vec::new();
        for slot in slots {
            for entry in self.dirs[slot as usize].table.iter() {
                if let What::File { ino, .. } = entry.what(&self.wides)
                    && self.links.get(ino).is_some()
                {
                    found.push((slot, entry.hash()));
                }
            }
        }
        for (slot, hash) in found {
            self.relink(slot, hash);
        }
    }

    /// The first name of an inode is one of several.
    fn relink(&mut self, slot: u32, hash: u64) {
        // A directory may have been found twice.
        let Some(old @ What::File { ino, .. }) = self.what_at(slot, hash) else {
            return;
        };
        let owner = self.owner_at(slot, hash);
        self.uncount(owner, old);
        let new = What::Linked { ino };
        // The inode's sizes are newer than those of its first name.
        let sizes = self.sizes(new);
        self.count(owner, new, sizes);
        let was_marked = self.is_marked(slot, hash);
        self.put(slot, hash, Some(old), new, owner);
        if !was_marked && let Some(entry) = self.dirs[slot as usize].table.get_mut(hash) {
            entry.unmark();
        }
    }

    fn is_marked(&self, slot: u32, hash: u64) -> bool {
        let entry = self.dirs[slot as usize].table.get(hash);
        entry.is_some_and(Entry::is_marked)
    }

    /// How many names of an inode with several are known.
    pub fn n_names(&self, ino: u64) -> u32 {
        self.links.n_names(ino)
    }

    /// Whether an inode of several names is known with other sizes, from whichever name.
    pub fn is_linked_otherwise(&self, ino: u64, apparent: u64, allocated: u64) -> bool {
        let known = self.links.get(ino).map(Inode::tally);
        known.is_some_and(|known| known != Tally::file(apparent, allocated))
    }

    pub fn has_unsettled_links(&self) -> bool {
        !self.links.is_settled()
    }

    /// The bytes of everything below a directory, names of one inode each counted.
    pub fn tally_below(&self, dir: DirId) -> Tally {
        let mut tally = Tally::default();
        self.each_below(dir, |what, sizes| {
            if what.is_file() {
                tally.add(Tally::file(sizes.0, sizes.1));
            }
        });
        tally
    }

    pub(super) fn each_below(&self, dir: DirId, mut visit: impl FnMut(What, (u64, u64))) {
        if self.dir(dir).is_none() {
            return;
        }
        let mut stack = vec![dir.slot];
        while let Some(at) = stack.pop() {
            for entry in self.dirs[at as usize].table.iter() {
                let what = entry.what(&self.wides);
                visit(what, self.sizes(what));
                stack.extend(entry.dir_slot());
            }
        }
    }
}

/// The path of a directory.
pub(super) fn path_bytes(dirs: &[Dir], slot: u32) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = slot;
    while at != 0 {
        let dir = &dirs[at as usize];
        names.push(dir.name.as_bytes());
        at = dir.parent;
    }
    names.reverse();
    names.join(&b'/')
}
