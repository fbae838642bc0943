//! Directories and the names in them.

use super::Index;
use super::links::Inode;
use super::sessions::Owner;
use super::table::{Entry, EntryKind, Table};
use crate::model::bytes::Tally;
use crate::model::path::RelPath;
use crate::model::place::DirId;
use crate::model::seen::Stat;
use crate::model::session::SessionId;
use crate::model::time::UnixNanos;
use crate::model::watcher::{DirKey, Watch};

/// Who owns what lies in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirOwner {
    /// Sessions may lie in it; each name has its own role.
    Container,
    /// Everything in it belongs to one owner.
    In(Owner),
}

#[derive(Debug)]
pub(super) struct Dir {
    pub(super) generation: u32,
    pub(super) parent: u32,
    pub(super) name: Box<[u8]>,
    pub(super) hash: u64,
    pub(super) ino: u64,
    /// Its creation time, where the file system keeps one: an inode number is used again.
    pub(super) born: Option<UnixNanos>,
    /// Only scans with a greater number can know more of it than it began with.
    pub(super) since: u64,
    pub(super) owner: DirOwner,
    /// Its watch; generation 0: none.
    pub(super) watch: Watch,
    /// The scan whose listing began last: it marks the entries it names.
    pub(super) scan: u64,
    /// Whether it was ever listed whole.
    pub(super) listed: bool,
    /// A watch was asked for and could not be placed.
    pub(super) unwatched: bool,
    pub(super) live: bool,
    pub(super) table: Table,
}

impl Dir {
    pub(super) fn root() -> Self {
        Self {
            generation: 0,
            parent: 0,
            name: Box::from(&b""[..]),
            hash: 0,
            ino: 0,
            born: None,
            since: 0,
            owner: DirOwner::Container,
            watch: Watch::default(),
            scan: 0,
            listed: false,
            unwatched: false,
            live: true,
            table: Table::default(),
        }
    }
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

impl Index {
    fn dir(&self, id: DirId) -> Option<&Dir> {
        self.dirs
            .get(id.slot as usize)
            .filter(|d| d.live && d.generation == id.generation)
    }

    fn dir_mut(&mut self, id: DirId) -> Option<&mut Dir> {
        self.dirs
            .get_mut(id.slot as usize)
            .filter(|d| d.live && d.generation == id.generation)
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
        self.dir(id).is_some_and(|dir| {
            let is_other = dir.born.zip(stat.btime).is_some_and(|(a, b)| a != b);
            dir.ino == stat.id.ino && !is_other
        })
    }

    /// Says that scans up to this number may have listed the directory before what is known
    /// of it, or when it was elsewhere.
    pub fn set_since(&mut self, id: DirId, scan: u64) {
        if let Some(dir) = self.dir_mut(id) {
            dir.since = scan;
        }
    }

    /// Whether a scan began when the directory was known already.
    pub fn is_older_than(&self, id: DirId, scan: u64) -> bool {
        self.dir(id).is_some_and(|dir| scan > dir.since)
    }

    pub fn dir_owner(&self, id: DirId) -> Option<DirOwner> {
        self.dir(id).map(|d| d.owner)
    }

    /// Whether the directory was ever listed to its end.
    pub fn is_listed(&self, id: DirId) -> bool {
        self.dir(id).is_some_and(|d| d.listed)
    }

    pub fn parent(&self, id: DirId) -> Option<DirId> {
        let dir = self.dir(id)?;
        (id.slot != 0).then(|| self.dir_id_of(dir.parent))
    }

    /// The last name of a directory; empty for the root.
    pub fn dir_name(&self, id: DirId) -> &[u8] {
        self.dir(id).map_or(&[], |d| &d.name)
    }

    /// The path of a directory, `None` when it left the index.
    pub fn path(&self, id: DirId) -> Option<RelPath> {
        self.dir(id)?;
        Some(self.path_at(id.slot))
    }

    fn path_at(&self, slot: u32) -> RelPath {
        let mut names = Vec::new();
        let mut at = slot;
        while at != 0 {
            let dir = &self.dirs[at as usize];
            names.push(&dir.name);
            at = dir.parent;
        }
        let mut bytes = Vec::new();
        for name in names.iter().rev() {
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(name);
        }
        // Each name was checked when it came in.
        RelPath::new(&bytes).unwrap_or_else(|_| RelPath::root())
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
        self.by_ino.get(&ino).map(|slot| self.dir_id_of(*slot))
    }

    pub fn find(&self, dir: DirId, name: &[u8]) -> Option<Known> {
        let entry = self.dir(dir)?.table.get(self.hash(name))?;
        Some(self.known(entry))
    }

    fn known(&self, entry: &Entry) -> Known {
        match entry.dir_slot() {
            Some(slot) => Known::Dir {
                id: self.dir_id_of(slot),
                ino: entry.ino,
            },
            None if entry.kind() == EntryKind::Other => Known::Other { ino: entry.ino },
            None => {
                let linked = entry.is_linked();
                let inode = linked.then(|| self.links.get(entry.ino)).flatten();
                Known::File {
                    ino: entry.ino,
                    apparent: inode.map_or(entry.size, |i| i.apparent),
                    allocated: inode.map_or(entry.allocated(), |i| i.allocated),
                    linked,
                }
            }
        }
    }

    /// The owner of a name in a directory.
    fn owner_at(&self, slot: u32, hash: u64) -> Owner {
        match self.dirs[slot as usize].owner {
            DirOwner::In(owner) => owner,
            DirOwner::Container => self
                .loose
                .get(&(slot, hash))
                .copied()
                .unwrap_or(Owner::Unowned),
        }
    }

    /// Says who owns a name in a container; its bytes move with it. The name need not exist yet.
    pub fn set_owner(&mut self, dir: DirId, name: &[u8], owner: Owner) {
        let hash = self.hash(name);
        let old = self.owner_at(dir.slot, hash);
        if old == owner || self.dir(dir).is_none_or(|d| d.owner != DirOwner::Container) {
            return;
        }
        let entry = self.dirs[dir.slot as usize].table.get(hash).copied();
        let file = entry.filter(|e| e.kind() == EntryKind::File);
        let sizes = file.as_ref().map(|e| self.sizes(e));
        if let Some(entry) = &file {
            self.uncount_entry(old, entry);
        }
        if owner == Owner::Unowned {
            self.loose.remove(&(dir.slot, hash));
        } else {
            self.loose.insert((dir.slot, hash), owner);
        }
        if let Some((entry, sizes)) = file.as_ref().zip(sizes) {
            self.count_entry(owner, entry, sizes);
        }
    }

    fn sizes(&self, entry: &Entry) -> (u64, u64) {
        match entry
            .is_linked()
            .then(|| self.links.get(entry.ino))
            .flatten()
        {
            Some(inode) => (inode.apparent, inode.allocated),
            None => (entry.size, entry.allocated()),
        }
    }

    pub(super) fn count_entry(
        &mut self,
        owner: Owner,
        entry: &Entry,
        (apparent, allocated): (u64, u64),
    ) {
        if !entry.is_linked() {
            return self.add_single(owner, Tally::file(apparent, allocated));
        }
        if let Owner::Session(slot) = owner {
            self.sessions.at_mut(slot).n_linked += 1;
        }
        self.change_inode(entry.ino, |old| {
            let mut inode = old.unwrap_or(Inode {
                apparent,
                allocated,
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

    pub(super) fn uncount_entry(&mut self, owner: Owner, entry: &Entry) {
        if !entry.is_linked() {
            return self.take_single(owner, Tally::file(entry.size, entry.allocated()));
        }
        if let Owner::Session(slot) = owner {
            self.sessions.at_mut(slot).n_linked -= 1;
        }
        self.change_inode(entry.ino, |old| {
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
        let hash = self.hash(name);
        let Some(node) = self.dir(dir) else { return };
        let old = node.table.get(hash).copied();
        debug_assert!(old.is_none_or(|e| e.kind() != EntryKind::Dir));
        let owner = self.owner_at(dir.slot, hash);
        // An inode that ever had several names keeps its record until they are gone.
        let linked = stat.n_links > 1 || self.links.get(stat.id.ino).is_some();
        let entry = Entry::file(hash, stat.id.ino, stat.apparent, stat.allocated, linked);
        let old_file = old.filter(|e| e.kind() == EntryKind::File);
        if let Some(old) = old_file {
            self.uncount_entry(owner, &old);
        }
        self.count_entry(owner, &entry, (stat.apparent, stat.allocated));
        if old_file.map(|old| old.ino) != Some(entry.ino) {
            if let Some(old) = old_file {
                self.homes.remove(old.ino, dir.slot);
            }
            self.homes.add(entry.ino, dir.slot);
        }
        if linked
            && !old.is_some_and(|e| e.is_linked() && e.ino == entry.ino)
            && self.links.n_names(entry.ino) < stat.n_links
        {
            self.unsettled.push(entry.ino);
        }
        let table = &mut self.dirs[dir.slot as usize].table;
        match table.get_mut(hash) {
            Some(place) => *place = entry,
            None => table.insert(entry),
        }
    }

    /// A symlink, device or mount point: known, counts nothing.
    pub fn put_other(&mut self, dir: DirId, name: &[u8], ino: u64) {
        let hash = self.hash(name);
        self.remove_name(dir, hash);
        let Some(node) = self.dir_mut(dir) else {
            return;
        };
        let entry = Entry::other(hash, ino);
        node.table.insert(entry);
    }

    /// A directory as just seen, empty as far as known. The name must be free.
    pub fn put_dir(&mut self, parent: DirId, name: &[u8], stat: &Stat, owner: DirOwner) -> DirId {
        debug_assert!(self.has_dir(parent) && self.find(parent, name).is_none());
        let ino = stat.id.ino;
        let hash = self.hash(name);
        let slot = self.free_dirs.pop().unwrap_or_else(|| {
            self.dirs.push(Dir {
                live: false,
                ..Dir::root()
            });
            // 32 bits are enough for 4 thousand million directories: memory ends before.
            (self.dirs.len() - 1) as u32
        });
        let generation = self.dirs[slot as usize].generation + 1;
        self.dirs[slot as usize] = Dir {
            generation,
            parent: parent.slot,
            name: name.into(),
            hash,
            ino,
            born: stat.btime,
            owner,
            live: true,
            ..Dir::root()
        };
        self.by_ino.insert(ino, slot);
        let node = &mut self.dirs[parent.slot as usize];
        let entry = Entry::dir(hash, ino, slot);
        node.table.insert(entry);
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
        let old = std::mem::replace(&mut node.watch, watch);
        let before = std::mem::replace(&mut node.unwatched, failed);
        if old.key != watch.key {
            self.unkey(old.key, dir.slot);
            if watch.key != DirKey::BY_PATH {
                self.by_key.insert(watch.key, dir.slot);
            }
        }
        self.n_unwatched += u64::from(failed);
        self.n_unwatched -= u64::from(before);
    }

    /// No directory has a watch any more. A pass over all of them.
    pub fn forget_watches(&mut self) {
        for dir in &mut self.dirs {
            dir.watch = Watch::default();
        }
        self.by_key.clear();
    }

    /// How many directories have no watch although one was asked for.
    pub fn n_unwatched(&self) -> u64 {
        self.n_unwatched
    }

    pub fn watch(&self, dir: DirId) -> Watch {
        self.dir(dir).map_or(Watch::default(), |d| d.watch)
    }

    /// The directory that hints call by this key.
    pub fn dir_of_key(&self, key: DirKey) -> Option<DirId> {
        self.by_key.get(&key).map(|slot| self.dir_id_of(*slot))
    }

    fn unkey(&mut self, key: DirKey, slot: u32) {
        if self.by_key.get(&key) == Some(&slot) {
            self.by_key.remove(&key);
        }
    }

    /// Forgets a name with everything below it.
    pub fn forget(&mut self, dir: DirId, name: &[u8]) -> Dropped {
        let hash = self.hash(name);
        let slot = self
            .dir(dir)
            .and_then(|d| d.table.get(hash))
            .and_then(Entry::dir_slot);
        match slot {
            Some(slot) => self.drop_dir(slot),
            None => {
                self.remove_name(dir, hash);
                Dropped::default()
            }
        }
    }

    fn remove_name(&mut self, dir: DirId, hash: u64) {
        let Some(node) = self.dir_mut(dir) else {
            return;
        };
        let Some(entry) = node.table.remove(hash) else {
            return;
        };
        if entry.kind() == EntryKind::File {
            let owner = self.owner_at(dir.slot, hash);
            self.uncount_entry(owner, &entry);
            self.homes.remove(entry.ino, dir.slot);
        }
    }

    /// From now on the places of each file are kept, so that it is known when one has moved.
    /// One pass over all that is known.
    pub fn keep_homes(&mut self) {
        if self.homes.are_kept() {
            return;
        }
        let files = |dir: &Dir| {
            dir.table
                .iter()
                .filter(|e| e.kind() == EntryKind::File)
                .count()
        };
        self.homes.keep(self.dirs.iter().map(files).sum());
        for (slot, dir) in self.dirs.iter().enumerate() {
            for entry in dir.table.iter().filter(|e| e.kind() == EntryKind::File) {
                self.homes.add(entry.ino, slot as u32);
            }
        }
    }

    /// Whether a file's inode is known under another name than this one.
    pub fn has_other_names(&self, dir: DirId, name: &[u8], ino: u64) -> bool {
        self.homes.of(ino).next().is_some() && !self.other_names(dir, name, ino).is_empty()
    }

    /// The other names of a file's inode: their directories, and the hashes of the names.
    pub fn other_names(&self, dir: DirId, name: &[u8], ino: u64) -> Vec<(DirId, u64)> {
        let mut names = Vec::new();
        let mut slots: Vec<u32> = self.homes.of(ino).collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            let is_it = |entry: &&Entry| entry.ino == ino && entry.kind() == EntryKind::File;
            let entries = self.dirs[slot as usize].table.iter();
            names.extend(
                entries
                    .filter(is_it)
                    .map(|entry| (self.dir_id_of(slot), entry.hash)),
            );
        }
        let this = (dir, self.hash(name));
        names.retain(|other| *other != this);
        names
    }

    /// Forgets a directory with everything below it, the sessions in it included.
    pub fn drop_dir(&mut self, slot: u32) -> Dropped {
        let mut dropped = Dropped::default();
        if slot == 0 || !self.dirs[slot as usize].live {
            return dropped;
        }
        let (parent, hash) = (
            self.dirs[slot as usize].parent,
            self.dirs[slot as usize].hash,
        );
        let mut stack = vec![slot];
        let mut leaving = Vec::new();
        while let Some(at) = stack.pop() {
            leaving.push(at);
            dropped
                .watches
                .push((self.path_at(at), self.dirs[at as usize].watch));
            stack.extend(
                self.dirs[at as usize]
                    .table
                    .iter()
                    .filter_map(Entry::dir_slot),
            );
        }
        self.dirs[parent as usize].table.remove(hash);
        // Parents come before their children in `leaving`; a session ends with its own
        // directory, when all below it is uncounted.
        for at in leaving.iter().rev() {
            self.empty_dir(*at, &mut dropped);
        }
        dropped.watches.retain(|(_, watch)| watch.generation != 0);
        dropped.slots = leaving;
        dropped
    }

    fn empty_dir(&mut self, slot: u32, dropped: &mut Dropped) {
        let table = std::mem::take(&mut self.dirs[slot as usize].table);
        let is_container = self.dirs[slot as usize].owner == DirOwner::Container;
        for entry in table.iter().filter(|e| e.kind() == EntryKind::File) {
            let owner = self.owner_at(slot, entry.hash);
            self.uncount_entry(owner, entry);
            self.homes.remove(entry.ino, slot);
            self.loose.remove(&(slot, entry.hash));
            if let Some(session) = self.session_of(owner).filter(|_| is_container) {
                dropped.sessions.extend(self.take_file(session, entry.hash));
            }
        }
        let dir = &mut self.dirs[slot as usize];
        dir.live = false;
        let (ino, key) = (dir.ino, dir.watch.key);
        self.n_unwatched -= u64::from(std::mem::take(&mut dir.unwatched));
        self.unkey(key, slot);
        if self.by_ino.get(&ino) == Some(&slot) {
            self.by_ino.remove(&ino);
        }
        if let DirOwner::In(Owner::Session(session)) = self.dirs[slot as usize].owner
            && self.sessions.at(session).dir == Some(slot)
        {
            dropped.sessions.push(self.end_session(session));
        }
        self.free_dirs.push(slot);
    }

    /// A listing begins: entries that it will not name can be told from the others after it.
    pub fn begin_listing(&mut self, dir: DirId, scan: u64) {
        if let Some(dir) = self.dir_mut(dir) {
            dir.scan = scan;
            dir.table.unmark();
        }
    }

    /// The scan whose listing of a directory began last.
    pub fn listing_scan(&self, dir: DirId) -> u64 {
        self.dir(dir).map_or(0, |dir| dir.scan)
    }

    /// A scan's listing names an entry: its hash, and what the index has for it. Only the
    /// listing that began last leaves its mark.
    pub fn listed(&mut self, dir: DirId, name: &[u8], scan: u64) -> (u64, Option<Known>) {
        let hash = self.hash(name);
        let Some(node) = self.dir_mut(dir) else {
            return (hash, None);
        };
        let is_current = node.scan == scan;
        let Some(entry) = node.table.get_mut(hash) else {
            return (hash, None);
        };
        if is_current {
            entry.mark();
        }
        let entry = *entry;
        (hash, Some(self.known(&entry)))
    }

    /// A listing ended: what it did not name. Nothing where another scan's listing of the
    /// directory began meanwhile: that one will tell.
    pub fn end_listing(&mut self, dir: DirId, scan: u64) -> Absent {
        let mut absent = Absent::default();
        let Some(node) = self.dir_mut(dir) else {
            return absent;
        };
        if node.scan != scan {
            return absent;
        }
        node.listed = true;
        node.table.shrink();
        let mut slots = Vec::new();
        for entry in node.table.iter().filter(|e| !e.is_marked()) {
            match entry.dir_slot() {
                Some(slot) => slots.push(slot),
                None => absent.names.push(entry.hash),
            }
        }
        let dirs = slots.into_iter().map(|slot| self.dir_id_of(slot));
        absent.dirs = dirs.collect();
        absent
    }

    /// Whether a directory has no names, as far as is known.
    pub fn is_empty(&self, dir: DirId) -> bool {
        let dir = self.dir(dir);
        dir.is_some_and(|dir| dir.listed && dir.table.iter().next().is_none())
    }

    /// Forgets a file (or symlink, or device) by the hash of its name. Returns whose it was.
    pub fn forget_hash(&mut self, dir: DirId, hash: u64) -> Option<Owner> {
        let entry = self.dir(dir)?.table.get(hash)?;
        if entry.kind() == EntryKind::Dir {
            return None;
        }
        let owner = self.owner_at(dir.slot, hash);
        self.remove_name(dir, hash);
        Some(owner)
    }

    /// Who owns a name of a directory.
    pub fn owner_of(&self, dir: DirId, name: &[u8]) -> Owner {
        match self.dir(dir) {
            Some(_) => self.owner_at(dir.slot, self.hash(name)),
            None => Owner::Unowned,
        }
    }

    /// Whether a file in a directory has this inode.
    pub fn has_ino(&self, dir: DirId, ino: u64) -> bool {
        let is_it = |e: &Entry| e.ino == ino && e.kind() == EntryKind::File;
        self.dir(dir).is_some_and(|d| d.table.iter().any(is_it))
    }

    /// The hash under which the index keeps a name; valid for this index only.
    pub fn name_hash(&self, name: &[u8]) -> u64 {
        self.hash(name)
    }

    /// The slots of a directory and of all below it.
    pub fn slots_below(&self, dir: DirId) -> Vec<u32> {
        if self.dir(dir).is_none() {
            return Vec::new();
        }
        let mut slots = vec![dir.slot];
        self.each_below(dir, |_, entry, _| slots.extend(entry.dir_slot()));
        slots
    }

    /// Finds the other names of inodes that were seen with a second link, in one pass over
    /// the index: no event tells the first name of a file that it got another.
    pub fn settle_links(&mut self) {
        if self.unsettled.is_empty() {
            return;
        }
        self.unsettled.clear();
        let mut found = Vec::new();
        for (slot, dir) in self.dirs.iter().enumerate().filter(|(_, d)| d.live) {
            for entry in dir.table.iter() {
                if entry.kind() == EntryKind::File
                    && !entry.is_linked()
                    && self.links.get(entry.ino).is_some()
                {
                    found.push((slot as u32, *entry));
                }
            }
        }
        for (slot, mut entry) in found {
            let owner = self.owner_at(slot, entry.hash);
            self.uncount_entry(owner, &entry);
            entry.set_linked();
            let sizes = self.sizes(&entry);
            self.count_entry(owner, &entry, sizes);
            if let Some(place) = self.dirs[slot as usize].table.get_mut(entry.hash) {
                *place = entry;
            }
        }
    }

    /// How many names of an inode with several are known.
    pub fn n_names(&self, ino: u64) -> u32 {
        self.links.n_names(ino)
    }

    pub fn has_unsettled_links(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// The bytes of everything below a directory, names of one inode each counted.
    pub fn tally_below(&self, dir: DirId) -> Tally {
        let mut tally = Tally::default();
        self.each_below(dir, |_, entry, sizes| {
            if entry.kind() == EntryKind::File {
                tally.add(Tally::file(sizes.0, sizes.1));
            }
        });
        tally
    }

    pub(super) fn each_below(&self, dir: DirId, mut visit: impl FnMut(u32, &Entry, (u64, u64))) {
        if self.dir(dir).is_none() {
            return;
        }
        let mut stack = vec![dir.slot];
        while let Some(at) = stack.pop() {
            for entry in self.dirs[at as usize].table.iter() {
                visit(at, entry, self.sizes(entry));
                stack.extend(entry.dir_slot());
            }
        }
    }
}
