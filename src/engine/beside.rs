//! Sessions that are files in directories with others: which names make one, and what follows
//! when one of them comes, changes or goes.
//!
//! A name alone says to which session it belongs, so names may come in any order. Metadata is
//! read when the directory was listed, or at once where a single name was looked at.

use super::{Effect, Engine};
use crate::index::Owner;
use crate::layout::spec::Kind;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::Bytes;
use crate::model::listing::Gathered;
use crate::model::path::RelPath;
use crate::model::place::{DirId, Look, Why};
use crate::model::plan::ReadAs;
use crate::model::seen::Stat;
use crate::model::session::SessionId;
use crate::model::time::Now;
use std::borrow::Cow;

impl Engine {
    /// The session of a name, whatever kind the layout is of.
    pub(super) fn session_at_name(&self, dir: DirId, name: &[u8]) -> Option<SessionId> {
        if self.rules.layout.is_of_files() {
            self.index.session_of(self.index.owner_of(dir, name))
        } else {
            self.session_of_dir(dir)
        }
    }

    /// A regular file that belongs to a session by its name.
    #[expect(
        clippy::too_many_arguments,
        reason = "one look's context, passed on unchanged"
    )]
    pub(super) fn place_file(
        &mut self,
        dir: DirId,
        name: &[u8],
        path: &RelPath,
        stat: &Stat,
        now: Now,
        why: Why,
        out: &mut Vec<Effect>,
    ) {
        let layout = self.rules.layout.clone();
        // Where a session is one file its key is its path, and nobody has to look for it by that.
        let is_one_file = layout.kind() == Kind::Files;
        let key = match is_one_file {
            true => Some(Cow::Borrowed(path.as_bytes())),
            false => layout
                .part_of(path.as_bytes())
                .map(|key| Cow::Owned(key.into_vec())),
        };
        let Some(key) = key else {
            return;
        };
        let known = match is_one_file {
            true => self.index.file_session(dir, name),
            false => self.index.files_by_key(&key),
        };
        let session = known.unwrap_or_else(|| match is_one_file {
            true => self.index.begin_file(dir, name),
            false => self.index.begin_files(dir, key.as_ref().into()),
        });
        let is_document = layout.is_document(&key, name);
        let is_sidecar = is_document && layout.kind() == Kind::Sidecar;
        let is_news = !is_one_file && self.index.add_file(session, name, is_sidecar);
        self.index.put_file(dir, name, stat);
        self.note_write(session, stat, now, why);
        self.file_seen(session, dir, name, stat, now, why, out);
        if is_news && is_sidecar && known.is_some() && layout.reads_inode() {
            // Until now the times of another of its files stood for those of its metadata.
            self.read_session(session, out);
        }
        if known.is_none() && !layout.reads_no_file() {
            match why {
                Why::Scan => {
                    self.reading.await_listing(dir, session);
                    self.read_first(session, out);
                }
                Why::Hint | Why::Again | Why::Guard => self.read_session(session, out),
            }
        }
        self.restand(session);
    }

    /// A file of a session is there: what its inode or its text says may be news.
    #[expect(
        clippy::too_many_arguments,
        reason = "one look's context, passed on unchanged"
    )]
    pub(super) fn file_seen(
        &mut self,
        session: SessionId,
        dir: DirId,
        name: &[u8],
        stat: &Stat,
        now: Now,
        why: Why,
        out: &mut Vec<Effect>,
    ) {
        if !self.rules.layout.reads_no_file() {
            return self.document_seen(dir, name, stat, why, out);
        }
        let Some(known) = self.index.session(session) else {
            return;
        };
        if known.known && !self.rules.layout.reads_inode() {
            return;
        }
        let key = self.index.key(session);
        let facts = self.rules.layout.facts(&key, Some(stat), &[], now.wall);
        // A file that is written to meanwhile may be younger than the plan thinks.
        let proof = self.rules.layout.reads_inode().then(|| ReadAs {
            name: name.into(),
            signature: Some(stat.signature()),
        });
        self.index.set_facts(session, facts, proof.as_slice());
    }

    /// A name with an owner is gone, or something else has it. Where it was a file of a session
    /// in a directory with others, the session has one less, or ends.
    pub(super) fn file_gone(&mut self, owner: Owner, hash: u64, out: &mut Vec<Effect>) {
        let session = self.index.session_of(owner);
        let Some(session) = session.filter(|_| self.rules.layout.is_of_files()) else {
            return;
        };
        match self.index.take_file(session, hash) {
            Some(ended) => self.session_ended(ended),
            // Perhaps it was the metadata.
            None => self.read_session(session, out),
        }
    }

    /// Something that is no regular file has a name in the form of a sidecar's blob. Whether a
    /// session has that name is known when it is asked for.
    pub(super) fn note_unusable(&mut self, path: &RelPath) {
        let layout = &self.rules.layout;
        if layout.kind() != Kind::Sidecar {
            return;
        }
        let Some(key) = layout.part_of(path.as_bytes()) else {
            return;
        };
        let is_document = path
            .name()
            .is_some_and(|name| layout.is_document(&key, name));
        if !is_document {
            self.places
                .insert(AnomalyKind::BlobUnusable, path.clone(), Bytes::ZERO);
        }
        if let Some(session) = self.index.files_by_key(&key) {
            self.restand(session);
        }
    }

    /// Whether a name of a session with a sidecar is no regular file: then it stays.
    pub(super) fn has_unusable_name(&self, id: SessionId) -> bool {
        if self.places.is_full() {
            return true;
        }
        if self.places.is_empty() {
            return false;
        }
        let home = self.index.session_dir(id);
        let Some(home) = home.and_then(|home| self.index.path(home)) else {
            return false;
        };
        let names = self.rules.layout.names_by_key(&self.index.key(id));
        names.iter().any(|name| {
            let path = home.join(name);
            path.is_ok_and(|path| self.places.has(AnomalyKind::BlobUnusable, &path))
        })
    }

    /// Something that is no regular file came to, or left, a name that metadata may have.
    pub(super) fn metadata_replaced(&mut self, dir: DirId, name: &[u8], out: &mut Vec<Effect>) {
        if self.rules.layout.kind() != Kind::Sidecar {
            return;
        }
        let path = self.path_in(dir, name);
        let key = path.and_then(|path| self.rules.layout.part_of(path.as_bytes()));
        let session = key.and_then(|key| self.index.files_by_key(&key));
        if let Some(session) = session {
            self.read_session(session, out);
        }
    }

    /// Listings did not name what they named before. Of what is no regular file only a hash is
    /// known: sessions whose metadata was such a thing are read again.
    pub(super) fn read_unreadable(&mut self, out: &mut Vec<Effect>) {
        if self.rules.layout.kind() != Kind::Sidecar {
            return;
        }
        let sessions = self.index.sessions();
        let unreadable: Vec<SessionId> = sessions
            .filter(|(_, session)| session.anomalies.contains(AnomalyKind::MetadataUnreadable))
            .map(|(id, _)| id)
            .collect();
        for session in unreadable {
            self.read_session(session, out);
        }
    }

    /// What a walk read of a session that is files in a directory: where it is the first word, it
    /// need not be read when the directory is known whole.
    pub(super) fn file_gathered(
        &mut self,
        now: Now,
        dir: DirId,
        key: &[u8],
        gathered: Gathered,
        out: &mut Vec<Effect>,
    ) {
        let session = match self.rules.layout.kind() {
            Kind::Sidecar => self.index.files_by_key(key),
            Kind::Files | Kind::Directories | Kind::Catalog => {
                let name = gathered.proofs.first().map(|proof| &proof.name);
                name.and_then(|name| self.index.file_session(dir, name))
            }
        };
        let session = session.filter(|session| self.index.session_dir(*session) == Some(dir));
        if let Some(session) = session.filter(|id| self.is_first_word(*id, dir, &gathered)) {
            self.reading.read_in_passing(dir, session);
            self.session_gathered(now, session, gathered, out);
        }
    }

    /// All that was found in a listed directory and has metadata to be read.
    pub(super) fn read_listed(&mut self, dir: DirId, out: &mut Vec<Effect>) {
        for session in self.reading.listed(dir) {
            self.read_if_unknown(session, out);
        }
    }

    /// Looks at each name that a session is made of.
    pub(super) fn look_at_session(&self, session: SessionId, out: &mut Vec<Effect>) {
        let (Some(known), Some(dir)) =
            (self.index.session(session), self.index.session_dir(session))
        else {
            return;
        };
        if known.is_files() {
            let looks = self.index.blobs(session).iter();
            out.extend(looks.map(|name| Effect::Look(Look::new(dir, name, Why::Again))));
        } else if let Some(parent) = self.index.parent(dir) {
            let name = self.index.dir_name(dir);
            out.push(Effect::Look(Look::new(parent, name, Why::Again)));
        }
    }
}
