//! Sessions that are files in directories with others: entries of a catalogue, files with a sidecar,
//! single files.

use super::sessions::{NO_DIR, Owner, Sessions};
use super::{Index, Known};
use crate::model::place::DirId;
use crate::model::seen::FileId;
use crate::model::session::{Key, SessionId};

/// What only a session that is files has.
#[derive(Debug)]
pub(super) struct Listed {
    /// `None`: the path of its only file.
    pub(super) key: Option<Key>,
    /// The slot of the directory that they lie in.
    pub(super) home: u32,
    pub(super) names: Names,
    /// The last of these is the metadata's.
    ends_in_metadata: bool,
}

/// Most are one file.
#[derive(Debug)]
pub(super) enum Names {
    One(Box<[u8]>),
    Several(Box<[Box<[u8]>]>),
}

impl Names {
    fn new(mut names: Vec<Box<[u8]>>) -> Self {
        match names.len() {
            1 => names.pop().map_or_else(Self::none, Self::One),
            _ => Self::Several(names.into_boxed_slice()),
        }
    }

    fn none() -> Self {
        Self::Several(Box::default())
    }

    pub(super) fn as_slice(&self) -> &[Box<[u8]>] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    fn take(&mut self) -> Vec<Box<[u8]>> {
        match std::mem::replace(self, Self::none()) {
            Self::One(name) => vec![name],
            Self::Several(names) => names.into_vec(),
        }
    }
}

impl Index {
    /// Begins a session of a catalogue with nothing in it. Its facts are unknown, so nothing
    /// may take it.
    pub fn begin_session(&mut self, key: Key) -> SessionId {
        self.begin_files(self.root(), key)
    }

    /// Begins a session that is files in a directory with others, none of them so far.
    pub fn begin_files(&mut self, home: DirId, key: Key) -> SessionId {
        let id = self.begin(NO_DIR);
        let listed = Listed {
            key: Some(key.clone()),
            home: home.slot,
            names: Names::none(),
            ends_in_metadata: false,
        };
        self.sessions.listed.insert(id.slot, listed);
        self.sessions.by_key.insert(key, id.slot);
        id
    }

    /// Begins a session that is one file, which is still to be put. Its key is its path.
    pub fn begin_file(&mut self, home: DirId, name: &[u8]) -> SessionId {
        let id = self.begin(NO_DIR);
        let listed = Listed {
            key: None,
            home: home.slot,
            names: Names::One(name.into()),
            ends_in_metadata: false,
        };
        self.sessions.listed.insert(id.slot, listed);
        self.set_owner(home, name, Owner::Session(id.slot));
        id
    }

    /// Gives a session that is files one name more, the last one where it is the metadata.
    /// `false`: it was there.
    pub fn add_file(&mut self, id: SessionId, name: &[u8], is_metadata: bool) -> bool {
        let (Some(home), Some(listed)) =
            (self.session_dir(id), self.sessions.listed.get_mut(&id.slot))
        else {
            return false;
        };
        let is_new = listed.names.as_slice().iter().all(|known| **known != *name);
        if is_new {
            let mut blobs = listed.names.take();
            let n_data = blobs.len() - usize::from(listed.ends_in_metadata);
            let at = if is_metadata {
                n_data
            } else {
                blobs[..n_data].partition_point(|known| **known < *name)
            };
            listed.ends_in_metadata |= is_metadata;
            blobs.insert(at, name.into());
            listed.names = Names::new(blobs);
        }
        self.set_owner(home, name, Owner::Session(id.slot));
        is_new
    }

    /// A file of such a session is gone, known by the hash of its name. With the last one the
    /// session ends.
    pub fn take_file(&mut self, id: SessionId, hash: u64) -> Option<SessionId> {
        let home = self.files(id)?.home;
        let names = self.blobs(id);
        let at = names
            .iter()
            .position(|name| self.hash_in(home, name) == hash)?;
        let is_last = names.len() == 1;
        self.loose.remove(&(home, hash));
        if is_last {
            return Some(self.end_session(id.slot));
        }
        let listed = self.sessions.listed.get_mut(&id.slot)?;
        let mut names = listed.names.take();
        listed.ends_in_metadata &= at + 1 < names.len();
        names.remove(at);
        listed.names = Names::new(names);
        None
    }

    /// Of a session that is files the metadata's name, or else the first one.
    pub fn metadata_or_first(&self, id: SessionId) -> Option<&[u8]> {
        let listed = self.files(id)?;
        let names = listed.names.as_slice();
        let name = if listed.ends_in_metadata {
            names.last()
        } else {
            names.first()
        };
        name.map(|name| &**name)
    }

    /// Whether a session is files, and none but the metadata.
    pub fn is_bare_metadata(&self, id: SessionId) -> bool {
        let listed = self.files(id);
        listed.is_some_and(|listed| listed.ends_in_metadata && listed.names.as_slice().len() == 1)
    }

    /// Ends a session of a catalogue; names that are still there become orphans.
    pub fn unclaim_session(&mut self, id: SessionId) {
        if self.session(id).is_none() {
            return;
        }
        let blobs: Box<[Box<[u8]>]> = self.blobs(id).into();
        for blob in &blobs {
            self.set_owner(self.root(), blob, Owner::Orphan);
        }
        self.end_session(id.slot);
    }

    /// Gives a session of a catalogue these blobs; others it had become orphans.
    pub fn set_blobs(&mut self, id: SessionId, blobs: Vec<Box<[u8]>>) {
        if self.session(id).is_none() {
            return;
        }
        let before: Box<[Box<[u8]>]> = self.blobs(id).into();
        for old in before.iter().filter(|old| !blobs.contains(old)) {
            self.set_owner(self.root(), old, Owner::Orphan);
        }
        for blob in &blobs {
            self.set_owner(self.root(), blob, Owner::Session(id.slot));
        }
        if let Some(listed) = self.sessions.listed.get_mut(&id.slot) {
            listed.names = Names::new(blobs);
        }
    }

    /// The files of a session that is some, its metadata last.
    pub fn blobs(&self, id: SessionId) -> &[Box<[u8]>] {
        self.files(id).map_or(&[], |listed| listed.names.as_slice())
    }

    /// The file of a session that has no other and never will.
    pub(super) fn only_file(&self, slot: u32) -> Option<&[u8]> {
        let listed = self.sessions.listed.get(&slot)?;
        let name = listed.names.as_slice().first()?;
        listed.key.is_none().then_some(name)
    }

    pub(super) fn files(&self, id: SessionId) -> Option<&Listed> {
        self.session(id)?;
        self.sessions.listed.get(&id.slot)
    }

    /// The session that is this one file.
    pub fn file_session(&self, home: DirId, name: &[u8]) -> Option<SessionId> {
        let id = self.session_of(self.owner_of(home, name))?;
        self.only_file(id.slot).is_some().then_some(id)
    }

    /// The session that is files and has this key, which is no path.
    pub fn files_by_key(&self, key: &[u8]) -> Option<SessionId> {
        let slot = self.sessions.by_key.get(key)?;
        Some(self.session_id(*slot))
    }

    /// The blobs of a session that are there, with their inodes; `dev` completes them.
    pub fn present_blobs(&self, id: SessionId, dev: u64) -> Vec<(Box<[u8]>, FileId)> {
        let Some(home) = self.session_dir(id) else {
            return Vec::new();
        };
        self.blobs(id)
            .iter()
            .filter_map(|blob| match self.find(home, blob) {
                Some(Known::File { ino, .. }) => Some((blob.clone(), FileId { dev, ino })),
                _ => None,
            })
            .collect()
    }
}

/// The names of two sessions that are one file each, in one directory.
pub(super) fn files_of_one_home(sessions: &Sessions, a: u32, b: u32) -> Option<(&[u8], &[u8])> {
    let (one, other) = (sessions.listed.get(&a)?, sessions.listed.get(&b)?);
    match (&one.names, &other.names) {
        (Names::One(a), Names::One(b))
            if one.home == other.home && one.key.is_none() && other.key.is_none() =>
        {
            Some((a, b))
        }
        _ => None,
    }
}
