//! A layout as somebody wrote it: words, not yet checked against each other.

use crate::model::zone::Zone;

/// How sessions lie in a root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// One directory a session.
    #[default]
    Directories,
    /// Each matching file is a session.
    Files,
    /// Files of one id beside a file of metadata.
    Sidecar,
    /// One file lists all sessions, their blobs lie beside it.
    Catalog,
}

/// How metadata is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    /// The first document of a file, which must be a mapping.
    Yaml,
    /// Lines `key = value` or `key: value`; the whole text under the empty key.
    Text,
}

/// What a size in the metadata is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// The bytes that are there.
    Bytes,
    /// The bytes that will be there in the end: there are never more, and not fewer once the
    /// state says complete.
    DeclaredTotal,
}

/// Where the metadata says how big a session is. Only ever compared with the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeSpec {
    /// A JSON pointer.
    pub key: String,
    pub means: Means,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// RFC 3339, or ISO 8601 without an offset (then read in the source's zone), with or
    /// without a fraction.
    Rfc3339,
    EpochS,
    EpochMs,
    EpochUs,
    EpochNs,
    /// strftime words, read in the source's zone.
    Strftime(String),
}

/// One place where the creation time may stand. The first that answers is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A JSON pointer into the metadata (in a catalogue: into the entry).
    Key {
        key: String,
        format: TimeFormat,
        zone: Zone,
    },
    /// A named group of `pattern`; `radix` for epoch formats, 10 unless told.
    Name {
        group: String,
        format: TimeFormat,
        zone: Zone,
        radix: u32,
    },
    /// The text of a file inside the session.
    File {
        file: String,
        format: TimeFormat,
        zone: Zone,
    },
    Birth,
    Mtime,
}

impl Source {
    /// Whether the time is the inode's own, and another one where the file is written anew.
    pub fn is_of_the_inode(&self) -> bool {
        match self {
            Self::Birth | Self::Mtime => true,
            Self::Key { .. } | Self::Name { .. } | Self::File { .. } => false,
        }
    }
}

/// Which words mean what. Values are compared as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateSpec {
    /// A JSON pointer.
    pub key: String,
    pub active: Vec<String>,
    pub complete: Vec<String>,
    pub failed: Vec<String>,
}

/// `[root.layout]` with its tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutSpec {
    pub kind: Kind,
    /// Glob on the path below the root; `*` stays in one level, `**` spans levels.
    pub sessions: String,
    /// Regex on the last name (directories, files) or on the id (sidecar, catalog), with named
    /// groups `id`, `created`, `group`.
    pub pattern: Option<String>,
    /// `None`: none is expected. Files: `.` for the file itself. Sidecar: a form with `{id}`.
    pub metadata: Option<String>,
    pub format: Format,
    pub required: bool,
    pub marker: Option<String>,
    pub lock: Option<String>,
    pub blobs: Vec<String>,
    pub created_at: Vec<Source>,
    pub state: Option<StateSpec>,
    /// A JSON pointer to the group's name; a group named `group` in `pattern` comes first.
    pub group: Option<String>,
    pub size: Option<SizeSpec>,
    /// Files: a last level of wildcards alone is meant.
    pub everything: bool,
    /// A directory that held only sessions goes with the last of them; never the root.
    pub remove_empty_parents: bool,
    /// A file in the root whose existence means that another program prunes.
    pub foreign_lock: Option<String>,
}

impl Default for LayoutSpec {
    /// Directories with a `metadata.json` that has a `created_at`.
    fn default() -> Self {
        Self {
            kind: Kind::Directories,
            sessions: "*".to_owned(),
            pattern: None,
            metadata: Some("metadata.json".to_owned()),
            format: Format::Json,
            required: true,
            marker: None,
            lock: None,
            blobs: Vec::new(),
            created_at: vec![Source::Key {
                key: "/created_at".to_owned(),
                format: TimeFormat::Rfc3339,
                zone: Zone::Utc,
            }],
            state: None,
            group: Some("/group".to_owned()),
            size: None,
            everything: false,
            remove_empty_parents: false,
            foreign_lock: None,
        }
    }
}

/// What is wrong with one key of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// The key below `[root.layout]`, such as `sessions` or `created_at.from`.
    pub key: &'static str,
    pub message: String,
}
