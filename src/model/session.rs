//! The unit of retention, and what is known of it.

use super::anomaly::Anomalies;
use super::seen::Signature;
use super::time::Time;
use std::sync::Arc;

/// A session's place in its root's index. Never reused for another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    pub slot: u32,
    pub generation: u32,
}

/// What names a session in its root and breaks ties of age: its path below the root,
/// or its id in a catalogue. Bytes, shown through [`super::path::escape`].
pub type Key = Arc<[u8]>;

/// What a layout's word for the state means here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// The layout knows no states, or the session has none.
    #[default]
    Stateless,
    Active,
    Complete,
    Failed,
    /// A word in none of the lists: protects like an active one.
    Unknown,
}

impl Phase {
    /// Whether the session may still be worked on.
    pub fn protects(self) -> bool {
        matches!(self, Self::Active | Self::Unknown)
    }
}

/// How far the facts can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything asked for was read, or its absence is certain.
    Certain,
    /// The metadata does not parse: perhaps half written. To be read again.
    Doubtful,
    /// The layout's marker is missing: the directory is not owned.
    Disowned,
    /// In the layout's form, but the metadata that would claim it is missing: counted, and
    /// nothing removes it but its parts, where the lifecycle says so.
    Orphaned,
}

/// What the metadata, the name and the inode of one session say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub verdict: Verdict,
    /// `None`: could not be read, see the anomalies; never removed by an order that needs it.
    pub created: Option<Time>,
    pub phase: Phase,
    /// The state's own word.
    pub state: Option<Arc<str>>,
    pub group: Option<Arc<str>>,
    /// How big the metadata says the session is; only ever compared with the disk.
    pub declared: Declared,
    pub anomalies: Anomalies,
    /// `None`: neither is told.
    pub moments: Option<Box<Moments>>,
}

impl Facts {
    /// Nothing is known yet.
    pub fn unknown() -> Self {
        Self {
            verdict: Verdict::Doubtful,
            created: None,
            phase: Phase::Stateless,
            state: None,
            group: None,
            declared: Declared::Nothing,
            anomalies: Anomalies::NONE,
            moments: None,
        }
    }
}

/// A time that metadata may tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    #[default]
    Nothing,
    /// Something is there, and it is no time: nothing is concluded from it.
    Unreadable,
    At(Time),
}

/// Times in a session's life, beside its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moments {
    pub updated: Told,
    pub failed: Told,
}

/// What a small file inside a root held when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Absent,
    /// FIFO, directory, symlink, device, or on another mount.
    NotAFile,
    /// Above the bound (1 MiB; a catalogue 256 MiB). Never read in part.
    TooBig,
    /// The errno.
    Unreadable(i32),
    Text(Vec<u8>),
}

/// A file inside a root, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub name: Box<[u8]>,
    /// Of the descriptor it was read from, taken before and found unchanged after.
    /// `None` where nothing could be opened.
    pub signature: Option<Signature>,
    pub content: Content,
}

/// One session of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogEntry {
    pub id: Key,
    /// The names of its blobs in the root's own directory. Empty where the id cannot be a name.
    pub blobs: Vec<Box<[u8]>>,
    pub facts: Facts,
}

/// A size from metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Declared {
    #[default]
    Nothing,
    Bytes(u64),
    /// There, but no size: negative, text, null.
    Nonsense,
}
