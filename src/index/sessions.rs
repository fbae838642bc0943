//! The sessions of one root, and their order by age.

use super::dirs::Dir;
use super::entry::What;
use super::evidence::{Common, ITSELF, Marks};
use super::files::{Listed, files_of_one_home};
use super::numbers::ByNumber;
use super::tree::{DirOwner, Dropped, path_bytes};
use super::words::{Word, Words};
use super::{Index, Known};
use crate::model::anomaly::Anomalies;
use crate::model::bytes::{Bytes, Measure, Tally};
use crate::model::path::RelPath;
use crate::model::place::DirId;
use crate::model::plan::{Blocker, ReadAs};
use crate::model::seen::Stat;
use crate::model::session::{Declared, Facts, Key, Phase, SessionId, Verdict};
use crate::model::time::{Time, UnixNanos};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// Who an entry's bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The slot of a session.
    Session(u32),
    Orphan,
    Catalogue,
    Unowned,
}

/// Whether a session may go, apart from what time alone changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Removable,
    Fixed(Blocker),
}

/// What is known of one session: 88 bytes. Its name is its directory's, what several sessions
/// share is kept once, and what few have is kept elsewhere: see [`Sessions`].
#[derive(Debug)]
pub struct Session {
    /// Wraps round, as a directory's.
    pub(super) generation: u32,
    /// The slot of its directory; [`NO_DIR`]: it is files in a directory with others.
    dir: u32,
    /// The newest of mtime, ctime and the last hint.
    pub written: UnixNanos,
    /// Its tally, as far as that fits.
    apparent: u64,
    allocated: u64,
    n_files: u32,
    /// Names of inodes that have others.
    pub(super) n_linked: u32,
    /// The files the facts were read from, as they were then.
    pub(super) marks: Marks,
    pub(super) common: Option<Word>,
    pub created: Option<Time>,
    /// What its metadata says is wrong.
    pub anomalies: Anomalies,
    /// What its names on the disk say is wrong.
    pub obstacles: Anomalies,
    /// Whether any rule may take it; the bytes of the others are in [`super::Totals::fixed`].
    pub standing: Standing,
    pub phase: Phase,
    pub verdict: Verdict,
    /// Whether facts were ever read.
    pub known: bool,
    pub(super) live: bool,
    /// Marked as not owned by the layout's marker rule.
    pub(super) disowned: bool,
    /// Its files are orphans: what would claim them is missing.
    orphaned: bool,
    /// Its tally is in [`Sessions::giants`].
    giant: bool,
}

pub(super) const NO_DIR: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Vec<Session>,
    free: Vec<u32>,
    /// Those that are files, by slot, and by key where that is no path.
    pub(super) listed: ByNumber<u32, Listed>,
    pub(super) by_key: HashMap<Key, u32>,
    /// The sizes that metadata says.
    declared: ByNumber<u32, Declared>,
    /// Sums that 64 bits do not hold, or more files than 32 bits count.
    giants: ByNumber<u32, Tally>,
    pub(super) common: Words<Arc<Common>>,
}

impl Sessions {
    pub(super) fn at(&self, slot: u32) -> &Session {
        &self.slots[slot as usize]
    }

    pub(super) fn at_mut(&mut self, slot: u32) -> &mut Session {
        &mut self.slots[slot as usize]
    }

    pub(super) fn tally(&self, slot: u32) -> Tally {
        let session = self.at(slot);
        match self.giants.get(&slot).filter(|_| session.giant) {
            Some(tally) => *tally,
            None => session.small_tally(),
        }
    }

    pub(super) fn add(&mut self, slot: u32, tally: Tally) {
        self.change_tally(slot, |sum| sum.add(tally));
    }

    pub(super) fn take(&mut self, slot: u32, tally: Tally) {
        self.change_tally(slot, |sum| sum.take(tally));
    }

    fn change_tally(&mut self, slot: u32, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally(slot);
        change(&mut tally);
        let session = &mut self.slots[slot as usize];
        if session.set_tally(&tally) {
            if std::mem::take(&mut session.giant) {
                self.giants.remove(&slot);
            }
        } else {
            session.giant = true;
            self.giants.insert(slot, tally);
        }
    }
}

impl Session {
    fn new(generation: u32, dir: u32) -> Self {
        Self {
            generation,
            dir,
            written: UnixNanos(i64::MIN),
            apparent: 0,
            allocated: 0,
            n_files: 0,
            n_linked: 0,
            marks: Marks::One(None),
            common: None,
            created: None,
            anomalies: Anomalies::NONE,
            obstacles: Anomalies::NONE,
            standing: Standing::Fixed(Blocker::Anomalous),
            phase: Phase::Stateless,
            verdict: Verdict::Doubtful,
            known: false,
            live: true,
            disowned: false,
            orphaned: false,
            giant: false,
        }
    }

    pub fn bytes(&self, measure: Measure) -> Bytes {
        // Sums that do not fit stand here as the greatest number, which is what they are then.
        match measure {
            Measure::Apparent => Bytes(self.apparent),
            Measure::Allocated => Bytes(self.allocated),
        }
    }

    /// Each inode once.
    pub fn n_files(&self) -> u64 {
        self.n_files.into()
    }

    pub fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// No rule may take it now.
    pub(super) fn is_fixed(&self) -> bool {
        self.standing != Standing::Removable
    }

    pub(super) fn dir(&self) -> Option<u32> {
        (self.dir != NO_DIR).then_some(self.dir)
    }

    fn small_tally(&self) -> Tally {
        Tally {
            apparent: self.apparent.into(),
            allocated: self.allocated.into(),
            n_files: self.n_files.into(),
        }
    }

    /// Whether it fits.
    fn set_tally(&mut self, tally: &Tally) -> bool {
        self.apparent = u64::try_from(tally.apparent).unwrap_or(u64::MAX);
        self.allocated = u64::try_from(tally.allocated).unwrap_or(u64::MAX);
        self.n_files = u32::try_from(tally.n_files).unwrap_or(u32::MAX);
        self.small_tally() == *tally
    }

    pub fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    /// Neither disowned nor orphaned.
    pub fn is_owned(&self) -> bool {
        !self.disowned && !self.orphaned
    }

    /// Whether it is files in a directory that holds others, too.
    pub fn is_files(&self) -> bool {
        self.dir == NO_DIR
    }

    fn ordered(&self) -> Option<Time> {
        self.created.filter(|_| self.live && self.is_owned())
    }
}

/// How often each inode's names were already taken by victims of one plan.
#[derive(Debug, Default)]
pub struct Taken(HashMap<u64, u32>);

impl Index {
    pub(super) fn session_id(&self, slot: u32) -> SessionId {
        SessionId {
            slot,
            generation: self.sessions.at(slot).generation,
        }
    }

    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions
            .slots
            .get(id.slot as usize)
            .filter(|s| s.live && s.generation == id.generation)
    }

    pub fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions
            .slots
            .get_mut(id.slot as usize)
            .filter(|s| s.live && s.generation == id.generation)
    }

    /// The session an owner names.
    pub fn session_of(&self, owner: Owner) -> Option<SessionId> {
        match owner {
            Owner::Session(slot) => Some(self.session_id(slot)),
            Owner::Orphan | Owner::Catalogue | Owner::Unowned => None,
        }
    }

    pub(super) fn begin(&mut self, dir: u32) -> SessionId {
        let sessions = &mut self.sessions;
        let slot = sessions.free.pop().unwrap_or_else(|| {
            let unused = Session {
                live: false,
                ..Session::new(0, NO_DIR)
            };
            sessions.slots.push(unused);
            (sessions.slots.len() - 1) as u32
        });
        let generation = sessions.at(slot).generation.wrapping_add(1);
        *sessions.at_mut(slot) = Session::new(generation, dir);
        self.totals.n_sessions += 1;
        self.totals.n_fixed += 1;
        SessionId { slot, generation }
    }

    /// Begins a session that is a directory. Its key is its path.
    pub fn begin_tree(&mut self, parent: DirId, name: &[u8], stat: &Stat) -> (SessionId, DirId) {
        let session = self.begin(NO_DIR);
        let dir = self.put_dir(
            parent,
            name,
            stat,
            DirOwner::In(Owner::Session(session.slot)),
        );
        self.sessions.at_mut(session.slot).dir = dir.slot;
        (session, dir)
    }

    /// Ends a session whose names have all left the index.
    pub(super) fn end_session(&mut self, slot: u32) -> SessionId {
        let id = self.session_id(slot);
        self.reorder(slot, |s| s.live = false);
        debug_assert_eq!(
            self.sessions.tally(slot),
            Tally::default(),
            "a session ends empty"
        );
        let sessions = &mut self.sessions;
        let session = &mut sessions.slots[slot as usize];
        let (fixed, disowned, orphaned) = (session.is_fixed(), session.disowned, session.orphaned);
        sessions.declared.remove(&slot);
        session.marks = Marks::One(None);
        if let Some(common) = session.common.take() {
            sessions.common.release(common);
        }
        if std::mem::take(&mut session.giant) {
            sessions.giants.remove(&slot);
        }
        if let Some(key) = sessions.listed.remove(&slot).and_then(|listed| listed.key)
            && sessions.by_key.get(&key) == Some(&slot)
        {
            sessions.by_key.remove(&key);
        }
        sessions.free.push(slot);
        if disowned {
            self.n_disowned -= 1;
        } else if !orphaned {
            self.totals.n_sessions -= 1;
            self.totals.n_fixed -= u64::from(fixed);
        }
        id
    }

    /// Forgets a session with all its names, and what it left behind.
    pub fn drop_session(&mut self, id: SessionId) -> Dropped {
        let Some(session) = self.session(id) else {
            return Dropped::default();
        };
        if let Some(dir) = session.dir() {
            return self.drop_dir(dir);
        }
        let home = self.session_dir(id).unwrap_or(self.root());
        let blobs: Box<[Box<[u8]>]> = self.blobs(id).into();
        for blob in &blobs {
            self.forget(home, blob);
            self.set_owner(home, blob, Owner::Unowned);
        }
        Dropped {
            sessions: vec![self.end_session(id.slot)],
            ..Dropped::default()
        }
    }

    /// What its metadata says its size is.
    pub fn declared(&self, id: SessionId) -> Declared {
        let declared = self.sessions.declared.get(&id.slot);
        let declared = declared.filter(|_| self.session(id).is_some());
        declared.copied().unwrap_or(Declared::Nothing)
    }

    /// What names a session; empty when it left the index.
    pub fn key(&self, id: SessionId) -> Key {
        match self.session(id) {
            Some(_) => key_at(&self.sessions, &self.dirs, id.slot),
            None => Arc::from(&b""[..]),
        }
    }

    /// The exact sums of a session.
    pub fn tally(&self, id: SessionId) -> Tally {
        self.session(id)
            .map_or_else(Tally::default, |_| self.sessions.tally(id.slot))
    }

    /// Takes over what was read about a session, and what it was read from.
    pub fn set_facts(&mut self, id: SessionId, facts: Facts, documents: &[ReadAs]) {
        if self.session(id).is_none() {
            return;
        }
        match facts.declared {
            Declared::Nothing => self.sessions.declared.remove(&id.slot),
            declared => self.sessions.declared.insert(id.slot, declared),
        };
        self.change_orphaned(id.slot, facts.verdict == Verdict::Orphaned);
        let disowned = facts.verdict == Verdict::Disowned;
        if disowned != self.sessions.at(id.slot).disowned {
            self.change_disowned(id.slot, disowned);
        }
        let itself = self.only_file(id.slot);
        let name = |read: &ReadAs| match itself {
            Some(name) if *read.name == *name => ITSELF.into(),
            _ => read.name.clone(),
        };
        let common = Arc::new(Common {
            documents: documents.iter().map(name).collect(),
            state: facts.state,
            group: facts.group,
        });
        let common = self.sessions.common.keep(common);
        let session = self.sessions.at_mut(id.slot);
        if let Some(old) = session.common.replace(common) {
            self.sessions.common.release(old);
        }
        self.reorder(id.slot, |session| {
            session.known = true;
            session.created = facts.created;
            session.phase = facts.phase;
            session.verdict = facts.verdict;
            session.anomalies = facts.anomalies;
            session.marks = Marks::new(documents);
        });
    }

    /// Changes what decides a session's place in the order.
    fn reorder(&mut self, slot: u32, change: impl FnOnce(&mut Session)) {
        let Self {
            order,
            sessions,
            dirs,
            ..
        } = self;
        let session = sessions.at_mut(slot);
        let (before, created) = (session.ordered(), session.created);
        change(session);
        let after = session.ordered();
        if before == after {
            return;
        }
        if before.is_some() {
            // It is found where its old time put it.
            let new = std::mem::replace(&mut sessions.at_mut(slot).created, created);
            order.remove(slot, |a, b| by_age(sessions, dirs, a, b));
            sessions.at_mut(slot).created = new;
        }
        if after.is_some() {
            order.insert(slot, |a, b| by_age(sessions, dirs, a, b));
        }
    }

    /// Only the sums of their own change: orphans count as sessions do.
    fn change_orphaned(&mut self, slot: u32, orphaned: bool) {
        let session = self.sessions.at(slot);
        if session.orphaned == orphaned || session.disowned {
            return;
        }
        let (tally, fixed) = (self.sessions.tally(slot), session.is_fixed());
        self.reorder(slot, |session| session.orphaned = orphaned);
        let totals = &mut self.totals;
        if orphaned {
            totals.n_sessions -= 1;
            totals.n_fixed -= u64::from(fixed);
            totals.orphans.add(tally);
            if fixed {
                totals.fixed.take(tally);
            }
        } else {
            totals.n_sessions += 1;
            totals.n_fixed += u64::from(fixed);
            totals.orphans.take(tally);
            if fixed {
                totals.fixed.add(tally);
            }
        }
    }

    fn change_disowned(&mut self, slot: u32, disowned: bool) {
        let Some(dir) = self.sessions.at(slot).dir() else {
            return;
        };
        let mut files = Vec::new();
        self.each_below(self.dir_id_of(dir), |what, sizes| {
            if what.is_file() {
                files.push((what, sizes));
            }
        });
        let owner = Owner::Session(slot);
        for (what, _) in &files {
            self.uncount(owner, *what);
        }
        self.reorder(slot, |session| session.disowned = disowned);
        let fixed = self.sessions.at(slot).is_fixed();
        if disowned {
            self.n_disowned += 1;
            self.totals.n_sessions -= 1;
            self.totals.n_fixed -= u64::from(fixed);
        } else {
            self.n_disowned -= 1;
            self.totals.n_sessions += 1;
            self.totals.n_fixed += u64::from(fixed);
        }
        for (what, sizes) in files {
            self.count(owner, what, sizes);
        }
    }

    /// Says whether any rule may take the session.
    pub fn set_standing(&mut self, id: SessionId, standing: Standing) {
        let Some(session) = self.session_mut(id) else {
            return;
        };
        let was_fixed = session.is_fixed();
        session.standing = standing;
        let fixed = session.is_fixed();
        if fixed == was_fixed || !session.is_owned() {
            return;
        }
        let tally = self.sessions.tally(id.slot);
        if fixed {
            self.totals.fixed.add(tally);
            self.totals.n_fixed += 1;
        } else {
            self.totals.fixed.take(tally);
            self.totals.n_fixed -= 1;
        }
    }

    /// Notes a write to a session. Whether it is the first of which anything is known.
    pub fn note_written(&mut self, id: SessionId, at: UnixNanos) -> bool {
        let Some(session) = self.session_mut(id) else {
            return false;
        };
        let is_first = session.written == UnixNanos(i64::MIN);
        session.written = session.written.max(at);
        is_first
    }

    /// How many directories look like sessions but lack the layout's marker.
    pub fn n_disowned(&self) -> u64 {
        self.n_disowned
    }

    /// The sessions with a known creation time, oldest first, ties by key.
    pub fn oldest_first(&self) -> impl DoubleEndedIterator<Item = (SessionId, Time, &Session)> {
        self.order.iter().filter_map(|slot| {
            let session = self.sessions.at(slot);
            Some((self.session_id(slot), session.created?, session))
        })
    }

    /// All sessions, in no order; disowned ones among them.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions
            .slots
            .iter()
            .enumerate()
            .filter(|(_, s)| s.live)
            .map(|(slot, s)| {
                (
                    SessionId {
                        slot: slot as u32,
                        generation: s.generation,
                    },
                    s,
                )
            })
    }

    pub fn session_by_key(&self, key: &[u8]) -> Option<SessionId> {
        if let Some(slot) = self.sessions.by_key.get(key) {
            return Some(self.session_id(*slot));
        }
        let path = RelPath::new(key).ok()?;
        match self.dir_at(&path) {
            Some(dir) => self.session_at(dir),
            None => {
                let home = self.dir_at(&path.parent()?)?;
                self.file_session(home, path.name()?)
            }
        }
    }

    /// The session whose own directory this is.
    pub fn session_at(&self, dir: DirId) -> Option<SessionId> {
        match self.dir_owner(dir)? {
            DirOwner::In(Owner::Session(slot)) if self.sessions.at(slot).dir == dir.slot => {
                Some(self.session_id(slot))
            }
            _ => None,
        }
    }

    /// The directory of a session; for one that is files the directory that they lie in.
    pub fn session_dir(&self, id: SessionId) -> Option<DirId> {
        let slot = match self.session(id)?.dir() {
            Some(slot) => slot,
            None => self.files(id)?.home,
        };
        Some(self.dir_id_of(slot))
    }

    /// A session's directory's path, or that of its first blob.
    pub fn session_path(&self, id: SessionId) -> RelPath {
        let Some(session) = self.session(id) else {
            return RelPath::root();
        };
        match (session.dir(), self.blobs(id).first()) {
            (Some(slot), _) => self
                .path(self.dir_id_of(slot))
                .unwrap_or_else(RelPath::root),
            (None, Some(blob)) => {
                let home = self.session_dir(id).and_then(|home| self.path(home));
                home.and_then(|home| home.join(blob).ok())
                    .unwrap_or_else(RelPath::root)
            }
            (None, None) => RelPath::root(),
        }
    }

    /// By how much [`super::Totals::counted`] falls without the session, after those in
    /// `taken`: an inode goes with the last name that counts.
    pub fn freed(&self, id: SessionId, measure: Measure, taken: &mut Taken) -> Bytes {
        let Some(session) = self.session(id) else {
            return Bytes::ZERO;
        };
        if session.n_linked == 0 {
            return session.bytes(measure);
        }
        let owner = Owner::Session(id.slot);
        let mut freed = self.sessions.tally(id.slot);
        let mut seen = HashMap::new();
        let mut visit = |ino: u64| {
            *seen.entry(ino).or_insert(0u32) += 1;
        };
        match session.dir() {
            Some(slot) => self.each_below(self.dir_id_of(slot), |what, _| {
                if let What::Linked { ino } = what {
                    visit(ino);
                }
            }),
            None => self.blobs(id).iter().for_each(|blob| {
                if let Some(Known::File {
                    ino, linked: true, ..
                }) = self.session_dir(id).and_then(|home| self.find(home, blob))
                {
                    visit(ino);
                }
            }),
        }
        for (ino, n) in seen {
            let Some(inode) = self.links.get(ino) else {
                continue;
            };
            let others: u32 = inode
                .holders
                .iter()
                .filter(|(o, _)| *o != owner && self.counts(*o))
                .map(|(_, n)| n)
                .sum();
            let gone = taken.0.entry(ino).or_insert(0);
            if others > *gone {
                freed.take(inode.tally());
            }
            *gone += n;
        }
        freed.bytes(measure)
    }
}

/// The key of a session: its id in the catalogue or beside others, else the path of its directory
/// or its only file.
fn key_at(sessions: &Sessions, dirs: &[Dir], slot: u32) -> Key {
    let Some(listed) = sessions.listed.get(&slot) else {
        return path_bytes(dirs, sessions.at(slot).dir).into();
    };
    match (&listed.key, listed.names.as_slice()) {
        (Some(key), _) => key.clone(),
        (None, names) => {
            let mut path = path_bytes(dirs, listed.home);
            if !path.is_empty() {
                path.push(b'/');
            }
            names.iter().for_each(|name| path.extend_from_slice(name));
            path.into()
        }
    }
}

/// Oldest first, ties by key.
fn by_age(sessions: &Sessions, dirs: &[Dir], a: u32, b: u32) -> Ordering {
    let (one, other) = (sessions.at(a), sessions.at(b));
    one.created.cmp(&other.created).then_with(|| {
        if a == b {
            return Ordering::Equal;
        }
        match (one.dir(), other.dir()) {
            // Most sessions lie in one directory: then their names tell.
            (Some(a), Some(b)) if dirs[a as usize].parent == dirs[b as usize].parent => {
                let name = |dir: u32| dirs[dir as usize].name.as_bytes();
                name(a).cmp(name(b))
            }
            _ => match files_of_one_home(sessions, a, b) {
                Some((one, other)) => one.cmp(other),
                None => key_at(sessions, dirs, a).cmp(&key_at(sessions, dirs, b)),
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_88_bytes() {
        assert_eq!(size_of::<Session>(), 88);
    }
}
