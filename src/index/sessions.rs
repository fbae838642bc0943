//! The sessions of one root, and their order by age.

use super::table::EntryKind;
use super::tree::{DirOwner, Dropped};
use super::{Index, Known};
use crate::model::anomaly::Anomalies;
use crate::model::bytes::{Bytes, Measure, Tally};
use crate::model::path::RelPath;
use crate::model::place::DirId;
use crate::model::plan::{Blocker, Proof};
use crate::model::seen::{FileId, Stat};
use crate::model::session::{Declared, Facts, Key, Phase, SessionId, Verdict};
use crate::model::time::{Time, UnixNanos};
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

/// What is known of one session.
#[derive(Debug)]
pub struct Session {
    pub(super) generation: u32,
    pub(super) live: bool,
    pub key: Key,
    /// The slot of its directory; `None`: it is the files named by `blobs`.
    pub(super) dir: Option<u32>,
    /// The slot of the directory that these lie in, beside others.
    pub(super) home: u32,
    pub blobs: Box<[Box<[u8]>]>,
    /// The last of these is the metadata's.
    ends_in_metadata: bool,
    pub declared: Declared,
    pub created: Option<Time>,
    pub phase: Phase,
    pub state: Option<Arc<str>>,
    pub group: Option<Arc<str>>,
    pub verdict: Verdict,
    /// Whether facts were ever read.
    pub known: bool,
    /// What its metadata says is wrong.
    pub anomalies: Anomalies,
    /// What its names on the disk say is wrong.
    pub obstacles: Anomalies,
    /// The files the facts were read from, as they were then.
    pub proofs: Box<[Proof]>,
    pub tally: Tally,
    /// Names of inodes that have others.
    pub(super) n_linked: u32,
    /// The newest of mtime, ctime and the last hint.
    pub written: UnixNanos,
    /// No rule may take it now; its bytes are in [`super::Totals::fixed`].
    pub(super) fixed: bool,
    pub standing: Standing,
    /// Marked as not owned by the layout's marker rule.
    pub(super) disowned: bool,
    /// Its files are orphans: what would claim them is missing.
    pub(super) orphaned: bool,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Vec<Session>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32>,
}

impl Sessions {
    pub(super) fn at(&self, slot: u32) -> &Session {
        &self.slots[slot as usize]
    }

    pub(super) fn at_mut(&mut self, slot: u32) -> &mut Session {
        &mut self.slots[slot as usize]
    }
}

impl Session {
    fn new(generation: u32, key: Key, dir: Option<u32>) -> Self {
        Self {
            generation,
            live: true,
            key,
            dir,
            home: 0,
            blobs: Box::default(),
            ends_in_metadata: false,
            declared: Declared::Nothing,
            created: None,
            phase: Phase::Stateless,
            state: None,
            group: None,
            verdict: Verdict::Doubtful,
            known: false,
            anomalies: Anomalies::NONE,
            obstacles: Anomalies::NONE,
            proofs: Box::default(),
            tally: Tally::default(),
            n_linked: 0,
            written: UnixNanos(i64::MIN),
            fixed: true,
            standing: Standing::Fixed(Blocker::Anomalous),
            disowned: false,
            orphaned: false,
        }
    }

    pub fn bytes(&self, measure: Measure) -> Bytes {
        self.tally.bytes(measure)
    }

    pub fn is_disowned(&self) -> bool {
        self.disowned
    }

    pub fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    /// Neither disowned nor orphaned.
    pub fn is_owned(&self) -> bool {
        !self.disowned && !self.orphaned
    }

    /// Of a session that is files the metadata's name, or else the first one.
    pub fn metadata_or_first(&self) -> Option<&[u8]> {
        let name = if self.ends_in_metadata {
            self.blobs.last()
        } else {
            self.blobs.first()
        };
        name.map(|name| &**name)
    }

    /// Whether it is files, and none but the metadata.
    pub fn is_bare_metadata(&self) -> bool {
        self.ends_in_metadata && self.blobs.len() == 1
    }

    /// Whether it is files in a directory that holds others, too.
    pub fn is_files(&self) -> bool {
        self.dir.is_none()
    }

    fn ordered(&self) -> Option<Time> {
        self.created.filter(|_| self.live && self.is_owned())
    }
}

/// How often each inode's names were already taken by victims of one plan.
#[derive(Debug, Default)]
pub struct Taken(HashMap<u64, u32>);

impl Index {
    fn session_id(&self, slot: u32) -> SessionId {
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

    /// Begins a session with nothing in it. Its facts are unknown, so nothing may take it.
    pub fn begin_session(&mut self, key: Key) -> SessionId {
        let slot = self.sessions.free.pop().unwrap_or_else(|| {
            self.sessions.slots.push(Session {
                live: false,
                ..Session::new(0, key.clone(), None)
            });
            (self.sessions.slots.len() - 1) as u32
        });
        let generation = self.sessions.at(slot).generation + 1;
        *self.sessions.at_mut(slot) = Session::new(generation, key.clone(), None);
        self.sessions.by_key.insert(key, slot);
        self.totals.n_sessions += 1;
        self.totals.n_fixed += 1;
        SessionId { slot, generation }
    }

    /// Begins a session that is a directory.
    pub fn begin_tree(
        &mut self,
        parent: DirId,
        name: &[u8],
        stat: &Stat,
        key: Key,
    ) -> (SessionId, DirId) {
        let session = self.begin_session(key);
        let dir = self.put_dir(
            parent,
            name,
            stat,
            DirOwner::In(Owner::Session(session.slot)),
        );
        self.sessions.at_mut(session.slot).dir = Some(dir.slot);
        (session, dir)
    }

    /// Begins a session that is files in a directory with others, none of them so far.
    pub fn begin_files(&mut self, home: DirId, key: Key) -> SessionId {
        let session = self.begin_session(key);
        self.sessions.at_mut(session.slot).home = home.slot;
        session
    }

    /// Gives a session that is files one name more, the last one where it is the metadata.
    pub fn add_file(&mut self, id: SessionId, name: &[u8], is_metadata: bool) {
        let Some(home) = self.session_dir(id) else {
            return;
        };
        let session = self.sessions.at_mut(id.slot);
        if session.blobs.iter().all(|known| **known != *name) {
            let mut blobs = std::mem::take(&mut session.blobs).into_vec();
            let metadata = blobs.len() - usize::from(session.ends_in_metadata);
            let at = if is_metadata {
                metadata
            } else {
                blobs[..metadata].partition_point(|known| **known < *name)
            };
            session.ends_in_metadata |= is_metadata;
            blobs.insert(at, name.into());
            session.blobs = blobs.into_boxed_slice();
        }
        self.set_owner(home, name, Owner::Session(id.slot));
    }

    /// A file of such a session is gone, known by the hash of its name. With the last one the
    /// session ends.
    pub fn take_file(&mut self, id: SessionId, hash: u64) -> Option<SessionId> {
        let session = self.session(id)?;
        let home = session.home;
        let mut names = session.blobs.iter();
        let at = names.position(|name| self.hash(name) == hash)?;
        let session = self.sessions.at_mut(id.slot);
        let mut blobs = std::mem::take(&mut session.blobs).into_vec();
        session.ends_in_metadata &= at + 1 < blobs.len();
        blobs.remove(at);
        let is_last = blobs.is_empty();
        session.blobs = blobs.into_boxed_slice();
        self.loose.remove(&(home, hash));
        is_last.then(|| self.end_session(id.slot))
    }

    /// Ends a session whose names have all left the index.
    pub(super) fn end_session(&mut self, slot: u32) -> SessionId {
        let id = self.session_id(slot);
        self.reorder(slot, |s| s.live = false);
        let session = self.sessions.at_mut(slot);
        debug_assert_eq!(session.tally, Tally::default(), "a session ends empty");
        let (fixed, disowned, orphaned) = (session.fixed, session.disowned, session.orphaned);
        let key = std::mem::replace(&mut session.key, Arc::from(&b""[..]));
        session.blobs = Box::default();
        session.proofs = Box::default();
        session.state = None;
        session.group = None;
        if self.sessions.by_key.get(&key) == Some(&slot) {
            self.sessions.by_key.remove(&key);
        }
        if disowned {
            self.n_disowned -= 1;
        } else if !orphaned {
            self.totals.n_sessions -= 1;
            self.totals.n_fixed -= u64::from(fixed);
        }
        self.sessions.free.push(slot);
        id
    }

    /// Forgets a session with all its names, and what it left behind.
    pub fn drop_session(&mut self, id: SessionId) -> Dropped {
        let Some(session) = self.session(id) else {
            return Dropped::default();
        };
        if let Some(dir) = session.dir {
            return self.drop_dir(dir);
        }
        let (home, blobs) = (self.dir_id_of(session.home), session.blobs.clone());
        for blob in &blobs {
            self.forget(home, blob);
            self.set_owner(home, blob, Owner::Unowned);
        }
        Dropped {
            sessions: vec![self.end_session(id.slot)],
            ..Dropped::default()
        }
    }

    /// Ends a session of a catalogue; names that are still there become orphans.
    pub fn unclaim_session(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else {
            return;
        };
        let blobs = session.blobs.clone();
        for blob in &blobs {
            self.set_owner(self.root(), blob, Owner::Orphan);
        }
        self.end_session(id.slot);
    }

    /// Gives a session of a catalogue these blobs; others it had become orphans.
    pub fn set_blobs(&mut self, id: SessionId, blobs: Vec<Box<[u8]>>) {
        let Some(session) = self.session(id) else {
            return;
        };
        for old in session
            .blobs
            .clone()
            .iter()
            .filter(|old| !blobs.contains(old))
        {
            self.set_owner(self.root(), old, Owner::Orphan);
        }
        for blob in &blobs {
            self.set_owner(self.root(), blob, Owner::Session(id.slot));
        }
        self.sessions.at_mut(id.slot).blobs = blobs.into_boxed_slice();
    }

    /// Takes over what was read about a session.
    pub fn set_facts(&mut self, id: SessionId, facts: Facts, proofs: Vec<Proof>) {
        if self.session(id).is_none() {
            return;
        }
        self.change_orphaned(id.slot, facts.verdict == Verdict::Orphaned);
        let disowned = facts.verdict == Verdict::Disowned;
        if disowned != self.sessions.at(id.slot).disowned {
            self.change_disowned(id.slot, disowned);
        }
        self.reorder(id.slot, |session| {
            session.known = true;
            session.created = facts.created;
            session.phase = facts.phase;
            session.state = facts.state;
            session.group = facts.group;
            session.verdict = facts.verdict;
            session.declared = facts.declared;
            session.anomalies = facts.anomalies;
            session.proofs = proofs.into_boxed_slice();
        });
    }

    /// Changes what decides a session's place in the order.
    fn reorder(&mut self, slot: u32, change: impl FnOnce(&mut Session)) {
        let session = self.sessions.at_mut(slot);
        let (before, key) = (session.ordered(), session.key.clone());
        change(session);
        let after = session.ordered();
        if before != after {
            if let Some(created) = before {
                self.order.remove(&(created, key.clone(), slot));
            }
            if let Some(created) = after {
                self.order.insert((created, key, slot));
            }
        }
    }

    /// Only the sums of their own change: orphans count as sessions do.
    fn change_orphaned(&mut self, slot: u32, orphaned: bool) {
        let session = self.sessions.at(slot);
        let (tally, fixed) = (session.tally, session.fixed);
        if session.orphaned == orphaned || session.disowned {
            return;
        }
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
        let Some(dir) = self.sessions.at(slot).dir else {
            return;
        };
        let mut entries = Vec::new();
        self.each_below(self.dir_id_of(dir), |at, entry, sizes| {
            if entry.kind() == EntryKind::File {
                entries.push((at, *entry, sizes));
            }
        });
        let owner = Owner::Session(slot);
        for (_, entry, _) in &entries {
            self.uncount_entry(owner, entry);
        }
        self.reorder(slot, |session| session.disowned = disowned);
        let fixed = self.sessions.at(slot).fixed;
        if disowned {
            self.n_disowned += 1;
            self.totals.n_sessions -= 1;
            self.totals.n_fixed -= u64::from(fixed);
        } else {
            self.n_disowned -= 1;
            self.totals.n_sessions += 1;
            self.totals.n_fixed += u64::from(fixed);
        }
        for (_, entry, sizes) in &entries {
            self.count_entry(owner, entry, *sizes);
        }
    }

    /// Says whether any rule may take the session.
    pub fn set_standing(&mut self, id: SessionId, standing: Standing) {
        let Some(session) = self.session_mut(id) else {
            return;
        };
        session.standing = standing;
        let fixed = standing != Standing::Removable;
        if fixed == session.fixed {
            return;
        }
        session.fixed = fixed;
        let tally = session.tally;
        if !session.is_owned() {
            return;
        }
        if fixed {
            self.totals.fixed.add(tally);
            self.totals.n_fixed += 1;
        } else {
            self.totals.fixed.take(tally);
            self.totals.n_fixed -= 1;
        }
    }

    /// Notes a write to a session.
    pub fn note_written(&mut self, id: SessionId, at: UnixNanos) {
        if let Some(session) = self.session_mut(id) {
            session.written = session.written.max(at);
        }
    }

    /// How many directories look like sessions but lack the layout's marker.
    pub fn n_disowned(&self) -> u64 {
        self.n_disowned
    }

    /// The sessions with a known creation time, oldest first, ties by key.
    pub fn oldest_first(&self) -> impl DoubleEndedIterator<Item = (SessionId, Time, &Session)> {
        self.order
            .iter()
            .map(|(created, _, slot)| (self.session_id(*slot), *created, self.sessions.at(*slot)))
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
        self.sessions
            .by_key
            .get(key)
            .map(|slot| self.session_id(*slot))
    }

    /// The session whose own directory this is.
    pub fn session_at(&self, dir: DirId) -> Option<SessionId> {
        match self.dir_owner(dir)? {
            DirOwner::In(Owner::Session(slot)) if self.sessions.at(slot).dir == Some(dir.slot) => {
                Some(self.session_id(slot))
            }
            _ => None,
        }
    }

    /// The directory of a session; for one that is files the directory that they lie in.
    pub fn session_dir(&self, id: SessionId) -> Option<DirId> {
        self.dir_of(self.session(id)?)
    }

    /// The same, of a session at hand.
    pub fn dir_of(&self, session: &Session) -> Option<DirId> {
        let slot = session.dir.unwrap_or(session.home);
        self.dirs[slot as usize].live.then(|| self.dir_id_of(slot))
    }

    /// A session's directory's path, or that of its first blob.
    pub fn session_path(&self, id: SessionId) -> RelPath {
        let Some(session) = self.session(id) else {
            return RelPath::root();
        };
        match (session.dir, session.blobs.first()) {
            (Some(slot), _) => self
                .path(self.dir_id_of(slot))
                .unwrap_or_else(RelPath::root),
            (None, Some(blob)) => {
                let home = self.path(self.dir_id_of(session.home));
                home.and_then(|home| home.join(blob).ok())
                    .unwrap_or_else(RelPath::root)
            }
            (None, None) => RelPath::root(),
        }
    }

    /// The blobs of a session that are there, with their inodes; `dev` completes them.
    pub fn present_blobs(&self, id: SessionId, dev: u64) -> Vec<(Box<[u8]>, FileId)> {
        let (Some(session), Some(home)) = (self.session(id), self.session_dir(id)) else {
            return Vec::new();
        };
        session
            .blobs
            .iter()
            .filter_map(|blob| match self.find(home, blob) {
                Some(Known::File { ino, .. }) => Some((blob.clone(), FileId { dev, ino })),
                _ => None,
            })
            .collect()
    }

    /// By how much [`super::Totals::counted`] falls without the session, after those in
    /// `taken`: an inode goes with the last name that counts.
    pub fn freed(&self, id: SessionId, measure: Measure, taken: &mut Taken) -> Bytes {
        let Some(session) = self.session(id) else {
            return Bytes::ZERO;
        };
        if session.n_linked == 0 {
            return session.tally.bytes(measure);
        }
        let owner = Owner::Session(id.slot);
        let mut freed = session.tally;
        let mut seen = HashMap::new();
        let mut visit = |ino: u64| {
            *seen.entry(ino).or_insert(0u32) += 1;
        };
        match session.dir {
            Some(slot) => self.each_below(self.dir_id_of(slot), |_, entry, _| {
                if entry.kind() == EntryKind::File && entry.is_linked() {
                    visit(entry.ino);
                }
            }),
            None => session.blobs.iter().for_each(|blob| {
                if let Some(Known::File {
                    ino, linked: true, ..
                }) = self.find(self.dir_id_of(session.home), blob)
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
