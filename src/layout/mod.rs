//! How a root's names map to sessions, and where a session's facts are read. Pure.
//!
//! A [`Layout`] is a checked [`LayoutSpec`]. It answers for names what they are, and for bytes
//! read elsewhere what they say. It never panics on what a disk holds, and what it does not
//! understand is never a reason to remove something.

pub mod catalog;
mod check;
mod created;
mod facts;
mod formats;
mod glob;
pub mod life;
mod moment;
mod pattern;
pub mod presets;
mod record;
mod roles;
pub mod spec;
mod template;

use crate::model::path::RelPath;
use crate::model::seen::{FileKind, Stat};
use crate::model::session::{CatalogEntry, Document, Facts};
use crate::model::time::{Time, UnixNanos};
use check::{Checked, Lock};
use glob::Glob;
use life::RewriteFault;
use pattern::Pattern;
pub use roles::Within;
use spec::{Kind, LayoutSpec, SizeSpec, Source, SpecProblem};
use std::borrow::Cow;
use template::Template;

/// A checked layout.
#[derive(Debug)]
pub struct Layout {
    spec: LayoutSpec,
    glob: Glob,
    pattern: Option<Pattern>,
    /// Sidecar: the form of the metadata's name.
    sidecar: Option<Template>,
    blobs: Vec<Template>,
    lock: Option<Lock>,
    /// Directories: the names of the files that facts are read from.
    documents: Vec<Box<[u8]>>,
}

/// What a name is whose directory is the root or a [`Role::Container`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The agent's own: `.housekeeper`. Counts nothing, never reported.
    Own,
    /// A directory below which sessions may lie.
    Container,
    /// A session: the outermost match, nothing below it is one. A regular file: one of the
    /// session's, see [`Layout::part_of`].
    Session,
    /// The file that lists all sessions.
    Catalogue,
    /// In the form of a blob: a session's where the catalogue claims it, else an orphan.
    Blob,
    /// Nothing the layout recognises: reported, never touched.
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
    /// One for each id; of two entries with one id the last.
    pub entries: Vec<CatalogEntry>,
    /// The ids that are there more than once, each listed once, sorted.
    pub duplicates: Vec<Box<[u8]>>,
}

/// Why a catalogue says nothing: its sessions are unknown, never "none".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogFault {
    /// Perhaps half written.
    #[error("the catalogue is no JSON: {0}")]
    Syntax(String),
    /// A list, a text, a number.
    #[error("the catalogue is JSON but no object")]
    NotAnObject,
}

impl Layout {
    /// Checks a spec and reports everything that is wrong with it.
    pub fn new(spec: LayoutSpec) -> Result<Self, Vec<SpecProblem>> {
        let Checked {
            glob,
            pattern,
            sidecar,
            blobs,
            lock,
        } = check::check(&spec)?;
        let documents = documents(&spec);
        Ok(Self {
            spec,
            glob,
            pattern,
            sidecar,
            blobs,
            lock,
            documents,
        })
    }

    /// The words it was made from.
    pub fn spec(&self) -> &LayoutSpec {
        &self.spec
    }

    /// How sessions lie in the root.
    pub fn kind(&self) -> Kind {
        self.spec.kind
    }

    /// What the name at `path` is (bytes below the root), given that its directory is the root
    /// or a [`Role::Container`].
    pub fn role(&self, path: &[u8], kind: FileKind) -> Role {
        match kind {
            FileKind::Dir if path.is_empty() => Role::Container,
            _ => self.role_within(self.within(path_above(path)), last_name(path), kind),
        }
    }

    /// What all names of the directory at `path` have in common, for [`Layout::role_within`].
    pub fn within(&self, dir: &[u8]) -> Within {
        roles::within(self, dir)
    }

    /// [`Layout::role`] of a name in a directory.
    pub fn role_within(&self, within: Within, name: &[u8], kind: FileKind) -> Role {
        roles::role(self, within, name, kind)
    }

    /// Whether the directory at `path` is a session: every directory above it is one below
    /// which sessions may lie, and it is the outermost match.
    pub fn owns(&self, path: &RelPath) -> bool {
        roles::is_session(self, path)
    }

    /// Whether the file at `path` belongs to the session of this key, where sessions are files.
    pub fn owns_file(&self, path: &RelPath, key: &[u8]) -> bool {
        self.may_hold_files(path)
            && self
                .part_of(path.as_bytes())
                .is_some_and(|part| *part == *key)
    }

    /// Whether the directory at `path` is the root or one below which sessions may lie, and so is
    /// each above it.
    pub fn is_container(&self, path: &RelPath) -> bool {
        self.role(path.as_bytes(), FileKind::Dir) == Role::Container
            && roles::lies_in_containers(self, path)
    }

    /// Whether a session that is a file may lie beside `path`.
    pub fn may_hold_files(&self, path: &RelPath) -> bool {
        self.is_of_files() && roles::lies_in_containers(self, path)
    }

    /// Whether a blob of this name may belong to the session of this key in a catalogue, as far
    /// as the templates tell.
    pub fn may_be_blob_of(&self, key: &[u8], name: &[u8]) -> bool {
        self.kind() == Kind::Catalog && roles::may_be_blob_of(self, key, name)
    }

    /// The key of the session that the file at `path` belongs to, where sessions are files.
    pub fn part_of(&self, path: &[u8]) -> Option<Box<[u8]>> {
        let id = roles::part_id(self, self.within(path_above(path)), last_name(path))?;
        let above = &path[..path.len() - last_name(path).len()];
        Some([above, id].concat().into())
    }

    /// The key of the session, where sessions are files, that facts are read for from a file of this
    /// name in the container at `dir`; `within` is that directory's.
    pub fn document_key(&self, within: Within, dir: &RelPath, name: &[u8]) -> Option<Box<[u8]>> {
        if self.spec.kind == Kind::Sidecar {
            // Most names are none, and are seen by their form alone.
            let is_id = |id: &[u8]| self.is_id(id);
            self.sidecar.as_ref()?.id_in(name, &is_id)?;
        }
        let id = roles::part_id(self, within, name)?;
        let key = dir.join(id).ok()?;
        self.is_document(key.as_bytes(), name)
            .then(|| key.as_bytes().into())
    }

    /// The files that facts of the session at `key` are read from, metadata first: inside it, or
    /// beside each other where sessions are files. Empty for a catalogue.
    pub fn documents(&self, key: &[u8]) -> Cow<'_, [Box<[u8]>]> {
        match self.spec.kind {
            Kind::Directories | Kind::Catalog => Cow::Borrowed(&self.documents),
            Kind::Files | Kind::Sidecar => {
                Cow::Owned(self.metadata_of(key).map(Box::from).into_iter().collect())
            }
        }
    }

    /// The names of a session that is files, as far as its key alone gives them, metadata first.
    pub fn names_by_key(&self, key: &[u8]) -> Vec<Box<[u8]>> {
        let id = |word: &str| (word == "id").then(|| last_name(key).to_vec());
        let forms = self.sidecar.iter().chain(&self.blobs);
        let names = forms.filter_map(|form| form.name(id).ok());
        names.filter(|_| self.spec.kind == Kind::Sidecar).collect()
    }

    /// Whether facts of the session at `key` are read from a file of this name.
    pub fn is_document(&self, key: &[u8], name: &[u8]) -> bool {
        match self.spec.kind {
            Kind::Directories => self.documents.iter().any(|document| **document == *name),
            Kind::Catalog => false,
            Kind::Files | Kind::Sidecar => self.metadata_of(key).as_deref() == Some(name),
        }
    }

    /// Whether this is the lock of another program: nothing to report while it is there.
    pub fn is_foreign_lock(&self, path: &[u8]) -> bool {
        let lock = self.spec.foreign_lock.as_deref();
        lock.is_some_and(|lock| lock.as_bytes() == path)
    }

    /// Whether all facts of a session that is files come from its name and inode.
    pub fn reads_no_file(&self) -> bool {
        self.spec.kind == Kind::Files && self.spec.metadata.is_none()
    }

    /// Whether sessions are files in directories that hold others, too.
    pub fn is_of_files(&self) -> bool {
        match self.spec.kind {
            Kind::Files | Kind::Sidecar => true,
            Kind::Directories | Kind::Catalog => false,
        }
    }

    /// The name of the metadata of the session at `key`, beside or inside it.
    fn metadata_of<'a>(&'a self, key: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let written = self.spec.metadata.as_deref()?;
        match self.spec.kind {
            Kind::Files => Some(Cow::Borrowed(last_name(key))),
            Kind::Sidecar => {
                let id = |_: &str| Some(last_name(key).to_vec());
                let name = self.sidecar.as_ref()?.name(id).ok()?;
                Some(Cow::Owned(name.into_vec()))
            }
            Kind::Directories | Kind::Catalog => Some(Cow::Borrowed(written.as_bytes())),
        }
    }

    /// Whether the pattern takes a last name or an id.
    fn is_id(&self, name: &[u8]) -> bool {
        let pattern = self.pattern.as_ref();
        pattern.is_none_or(|pattern| pattern.is_match(name))
    }

    /// What the size in the metadata is, where there is one to compare.
    pub fn size(&self) -> Option<&SizeSpec> {
        self.spec.size.as_ref()
    }

    /// The name of the file in the root that lists all sessions.
    pub fn catalogue(&self) -> Option<&[u8]> {
        match self.spec.kind {
            Kind::Directories | Kind::Files | Kind::Sidecar => None,
            Kind::Catalog => self.spec.metadata.as_ref().map(|name| name.as_bytes()),
        }
    }

    /// Whether a time of the session's own inode is among the sources.
    pub fn reads_inode(&self) -> bool {
        self.spec.created_at.iter().any(|source| match source {
            Source::Birth | Source::Mtime => true,
            Source::Key { .. } | Source::Name { .. } | Source::File { .. } => false,
        })
    }

    /// What people call the session of this key: the pattern's group `id`, else the last name;
    /// in a catalogue the key.
    pub fn id<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        match self.spec.kind {
            Kind::Catalog => key,
            Kind::Directories | Kind::Files | Kind::Sidecar => {
                let name = last_name(key);
                self.pattern
                    .as_ref()
                    .and_then(|pattern| pattern.group(name, "id"))
                    .unwrap_or(name)
            }
        }
    }

    /// The facts of the session at `key`, from what was read of its [`Self::documents`].
    /// A document that is not given counts as absent.
    pub fn facts(
        &self,
        key: &[u8],
        inode: Option<&Stat>,
        documents: &[Document],
        now: Time,
    ) -> Facts {
        facts::of_session(self, key, inode, documents, now)
    }

    /// The text of metadata with its state changed to `value`, and when and why that was; all
    /// else stays byte for byte.
    ///
    /// # Errors
    /// It is not what a stale session's metadata looks like; nothing is changed then.
    pub fn failed(&self, text: &[u8], value: &str, at: Time) -> Result<Vec<u8>, RewriteFault> {
        life::failed(self, text, value, at)
    }

    /// The same of one entry of a catalogue's text.
    ///
    /// # Errors
    /// It is not what a stale session's entry looks like, or it says that it was updated after
    /// `since`; nothing is changed then.
    pub fn failed_entry(
        &self,
        text: &[u8],
        key: &[u8],
        (value, at): (&str, Time),
        since: UnixNanos,
    ) -> Result<Vec<u8>, RewriteFault> {
        life::failed_entry(self, text, key, (value, at), since)
    }

    /// What the text of a catalogue says.
    pub fn catalog(&self, text: &[u8], now: Time) -> Result<CatalogSeen, CatalogFault> {
        catalog::read(self, text, now)
    }

    /// The files whose BSD locks mean that the session of this key is in use. `{stem}` is its
    /// last name, that of a file without its last extension; for a sidecar the id.
    /// A template that gives no plain name here gives no lock.
    pub fn locks(&self, key: &[u8]) -> Vec<LockAt> {
        let name = last_name(key);
        let (Some(lock), false) = (&self.lock, name.is_empty()) else {
            return Vec::new();
        };
        let stem = match (self.spec.kind, name.iter().rposition(|b| *b == b'.')) {
            (Kind::Files, Some(dot)) if dot > 0 => &name[..dot],
            _ => name,
        };
        let value = |word: &str| match word {
            "stem" => Some(stem.to_vec()),
            "id" => Some(self.id(key).to_vec()),
            group => Some(self.pattern.as_ref()?.group(name, group)?.to_vec()),
        };
        match lock.name.name(value) {
            Ok(name) if lock.is_inside => vec![LockAt::Inside(name)],
            Ok(name) => vec![LockAt::Beside(name)],
            Err(_no_name) => Vec::new(),
        }
    }
}

/// The names of a session's files that facts are read from, each once.
fn documents(spec: &LayoutSpec) -> Vec<Box<[u8]>> {
    match spec.kind {
        Kind::Catalog | Kind::Files | Kind::Sidecar => return Vec::new(),
        Kind::Directories => {}
    }
    let files = spec.created_at.iter().filter_map(|source| match source {
        Source::File { file, .. } => Some(file),
        Source::Key { .. } | Source::Name { .. } | Source::Birth | Source::Mtime => None,
    });
    let mut names: Vec<Box<[u8]>> = Vec::new();
    for name in spec.metadata.iter().chain(&spec.marker).chain(files) {
        if !names.iter().any(|known| **known == *name.as_bytes()) {
            names.push(name.as_bytes().into());
        }
    }
    names
}

/// The part of a path after its last slash.
/// The path of the directory that a path lies in.
fn path_above(path: &[u8]) -> &[u8] {
    let at = path.iter().rposition(|b| *b == b'/');
    &path[..at.unwrap_or_default()]
}

fn last_name(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => &path[at + 1..],
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(change: impl FnOnce(&mut LayoutSpec)) -> Layout {
        let mut spec = LayoutSpec::default();
        change(&mut spec);
        Layout::new(spec).expect("a good spec")
    }

    #[test]
    fn ids_come_from_the_pattern() {
        let layout = layout(|s| s.pattern = Some(r"^(?<id>.*)_\d+$".to_owned()));
        for (key, id) in [
            (&b"x/a_b_1"[..], &b"a_b"[..]),
            (b"_1", b"_1"),
            (b"x/other", b"other"),
            (b"\xFF_1", b"\xFF_1"),
        ] {
            assert_eq!(layout.id(key), id);
        }
    }

    #[test]
    fn locks_lie_beside_or_inside() {
        let locks = |lock: &str, path: &[u8]| {
            let layout = layout(|s| {
                s.pattern = Some(r"^(?<id>.+?)_(?<rest>x*)$".to_owned());
                s.lock = Some(lock.to_owned());
            });
            layout.locks(path)
        };
        let beside = |name: &[u8]| vec![LockAt::Beside(name.into())];
        assert_eq!(locks("{stem}.lock", b"d/a_x"), beside(b"a_x.lock"));
        assert_eq!(locks(".{id}-{rest}", b"d/a_x"), beside(b".a-x"));
        assert_eq!(
            locks("./in_use", b"a_"),
            vec![LockAt::Inside(b"in_use".as_slice().into())]
        );
        assert_eq!(locks("{rest}", b"a_"), vec![]);
        assert_eq!(locks("{stem}.lock", b""), vec![]);
        assert_eq!(locks("{stem}.lock", &[b'a'; 254]), vec![]);
    }

    #[test]
    fn documents_are_read_once_each() {
        let file = |file: &str| Source::File {
            file: file.to_owned(),
            format: spec::TimeFormat::Rfc3339,
            zone: crate::model::zone::Zone::Utc,
        };
        let names = |layout: &Layout| -> Vec<String> {
            let documents = layout.documents(b"s");
            documents
                .iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect()
        };
        let all = layout(|s| {
            s.marker = Some("startedat".to_owned());
            s.created_at = vec![file("startedat"), file("other")];
        });
        assert_eq!(names(&all), ["metadata.json", "startedat", "other"]);
        let none = layout(|s| {
            s.metadata = None;
            s.created_at = vec![Source::Birth];
        });
        assert_eq!(names(&none), [""; 0]);
        let catalog = layout(|s| {
            s.kind = Kind::Catalog;
            s.blobs = vec!["{id}.{format}".to_owned()];
        });
        assert_eq!(names(&catalog), [""; 0]);
        assert_eq!(catalog.catalogue(), Some(&b"metadata.json"[..]));
        assert_eq!(all.catalogue(), None);
    }
}
