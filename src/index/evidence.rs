//! What the facts of a session were read from, and what must still be so for them to be believed.

use super::Index;
use super::sessions::Session;
use crate::model::plan::{Proof, ReadAs};
use crate::model::seen::{Mark, Stat};
use crate::model::session::SessionId;
use std::sync::Arc;

/// Stands for the name of a session's only file where it is a document: all of them share it.
pub(super) const ITSELF: &[u8] = b"";

/// One mark for each document, `None` for one that was absent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Marks {
    One(Option<Mark>),
    Several(Box<[Option<Mark>]>),
}

impl Marks {
    pub(super) fn new(documents: &[ReadAs]) -> Self {
        let mut marks = documents.iter().map(|d| d.signature.map(|s| s.mark()));
        match documents.len() {
            1 => Self::One(marks.next().flatten()),
            _ => Self::Several(marks.collect()),
        }
    }

    pub(super) fn as_slice(&self) -> &[Option<Mark>] {
        match self {
            Self::One(mark) => std::slice::from_ref(mark),
            Self::Several(marks) => marks,
        }
    }
}

/// What a session's metadata says in the words of many others.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Common {
    /// The names of the documents that the facts were read from; [`ITSELF`] among them.
    pub(super) documents: Box<[Box<[u8]>]>,
    pub(super) state: Option<Arc<str>>,
    pub(super) group: Option<Arc<str>>,
}

impl Index {
    /// The state's own word.
    pub fn state(&self, session: &Session) -> Option<&Arc<str>> {
        self.common(session)?.state.as_ref()
    }

    pub fn group(&self, session: &Session) -> Option<&Arc<str>> {
        self.common(session)?.group.as_ref()
    }

    fn common(&self, session: &Session) -> Option<&Common> {
        let word = session.common?;
        Some(self.sessions.common.get(word))
    }

    /// Names and marks of what the facts were read from.
    fn marks(&self, id: SessionId) -> impl Iterator<Item = (&[u8], Option<Mark>)> + use<'_> {
        let session = self.session(id);
        let common = session.and_then(|session| self.common(session));
        let names = common
            .into_iter()
            .flat_map(|common| common.documents.iter());
        let itself = self.only_file(id.slot).unwrap_or(ITSELF);
        names
            .map(move |name| if **name == *ITSELF { itself } else { name })
            .zip(
                session
                    .into_iter()
                    .flat_map(|session| session.marks.as_slice()),
            )
            .map(|(name, mark)| (name, *mark))
    }

    /// What must still be as it was for the facts to be believed.
    pub fn proofs(&self, id: SessionId) -> Vec<Proof> {
        self.marks(id)
            .map(|(name, mark)| Proof {
                name: name.into(),
                mark,
            })
            .collect()
    }

    /// Whether the facts were read from documents that were just like these.
    pub fn was_read_from(&self, id: SessionId, documents: &[ReadAs]) -> bool {
        let documents = documents
            .iter()
            .map(|d| (&*d.name, d.signature.map(|s| s.mark())));
        self.session(id).is_some_and(|session| session.known) && self.marks(id).eq(documents)
    }

    /// Whether the facts were read from a document of this name as it is now.
    pub fn is_read_as_seen(&self, id: SessionId, name: &[u8], stat: &Stat) -> bool {
        self.marks(id)
            .any(|(known, mark)| known == name && mark == Some(stat.signature().mark()))
    }

    /// Whether a document that was read is not in the index any more, or one that was absent
    /// is there.
    pub fn has_other_documents(&self, id: SessionId) -> bool {
        let Some(dir) = self.session_dir(id) else {
            return false;
        };
        self.marks(id)
            .any(|(name, mark)| mark.is_some() != self.find(dir, name).is_some())
    }
}
