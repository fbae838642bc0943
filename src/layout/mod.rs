//! How a root's names map to sessions, and where a session's facts are read. Pure.

pub mod presets;
pub mod spec;

use crate::model::path::RelPath;
use crate::model::seen::{FileKind, Stat};
use crate::model::session::{CatalogEntry, Document, Facts};
use crate::model::time::Time;
use spec::{Kind, LayoutSpec, SpecProblem};

/// A checked layout.
#[derive(Debug)]
pub struct Layout {
    spec: LayoutSpec,
}

/// What a name is whose directory is the root or a [`Role::Container`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The agent's own: `.housekeeper` and `.hk-*`. Counts nothing, never reported.
    Own,
    /// A directory below which sessions may lie.
    Container,
    /// A session: the outermost match, nothing below it is one.
    Session,
    /// The file that lists all sessions.
    Catalogue,
    /// In the form of a blob: a session's where the catalogue claims it, else an orphan.
    Blob,
    Unowned,
}

/// Where a lock file of a session lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockAt {
    /// In the directory that holds the session.
    Beside(Box<[u8]>),
    /// In the session.
    Inside(Box<[u8]>),
}

/// What a catalogue says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogSeen {
    /// The last of two entries with one id; both in `duplicates`.
    pub entries: Vec<CatalogEntry>,
    pub duplicates: Vec<Box<[u8]>>,
}

/// Why a catalogue says nothing: its sessions are unknown, never "none".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogFault {
    #[error("the catalogue is no JSON: {0}")]
    Syntax(String),
    #[error("the catalogue is JSON but no object")]
    NotAnObject,
}

impl Layout {
    pub fn new(spec: LayoutSpec) -> Result<Self, Vec<SpecProblem>> {
        Ok(Self { spec })
    }
    pub fn spec(&self) -> &LayoutSpec {
        &self.spec
    }
    pub fn kind(&self) -> Kind {
        self.spec.kind
    }
    pub fn role(&self, _path: &[u8], _kind: FileKind) -> Role {
        todo!()
    }
    pub fn documents(&self) -> &[Box<[u8]>] {
        todo!()
    }
    pub fn catalogue(&self) -> Option<&[u8]> {
        todo!()
    }
    pub fn reads_inode(&self) -> bool {
        todo!()
    }
    pub fn id<'a>(&self, _key: &'a [u8]) -> &'a [u8] {
        todo!()
    }
    pub fn facts(
        &self,
        _key: &[u8],
        _inode: Option<&Stat>,
        _documents: &[Document],
        _now: Time,
    ) -> Facts {
        todo!()
    }
    pub fn catalog(&self, _text: &[u8], _now: Time) -> Result<CatalogSeen, CatalogFault> {
        todo!()
    }
    pub fn locks(&self, _path: &RelPath) -> Vec<LockAt> {
        todo!()
    }
}
