//! What a name in a tree is: who owns it. This runs for every name of a scan and every hint.
//!
//! Directories: only directories can be sessions. One that the glob and the pattern match is a
//! session, and since the outermost match is asked first, nothing below it is. One that does not
//! match, but below which the glob could, is a container.
//!
//! Files: only regular files can be, and a directory below which the glob could match is a
//! container. Sidecar: the same, where the name has the form of the metadata or of a blob; the
//! id in it says to which session it belongs, whatever else is there.
//!
//! Catalogue: the root's own directory holds everything. A name in the form of a blob is a
//! `Blob` even where it is a symlink or a device, so that it can be reported as unusable; a
//! directory only where a pattern says that its id is one, for without a pattern any directory
//! with a dot in its name would look like a blob. What the catalogue lists is decided by exact
//! name, whatever its role.

use super::glob::{LastName, Reached};
use super::spec::Kind;
use super::{Layout, Role};
use crate::model::path::RelPath;
use crate::model::report::BESIDE;
use crate::model::seen::FileKind;

/// A directory in which names have roles, looked at once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// Where its path got to in the glob.
    reached: Reached,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// `.housekeeper` in the root, or below it. Nothing else: a name that anybody may give must
    /// not hide bytes. What the agent makes beside sessions (`.hk-*`) is no session, whatever the
    /// glob writes, and counts like any other name that nobody owns.
    Own,
    Below,
}

const OWN: &[u8] = b".housekeeper";

/// What all names of the directory at `path` have in common, bytes below the root; empty is the
/// root itself.
pub(super) fn within(layout: &Layout, path: &[u8]) -> Within {
    let below_own = path.strip_prefix(OWN);
    let place = match below_own {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => Place::Own,
        Some(_) | None if path.is_empty() => Place::Root,
        Some(_) | None => Place::Below,
    };
    Within {
        reached: layout.glob.after(path),
        place,
    }
}

/// The role of a name.
pub(super) fn role(layout: &Layout, within: Within, name: &[u8], kind: FileKind) -> Role {
    let is_own = match within.place {
        Place::Root => name == OWN,
        Place::Own => true,
        Place::Below => false,
    };
    if is_own {
        return Role::Own;
    }
    match layout.spec.kind {
        Kind::Directories => directory_role(layout, within, name, kind),
        Kind::Files | Kind::Sidecar => file_role(layout, within, name, kind),
        Kind::Catalog => catalog_role(layout, within, name, kind),
    }
}

fn directory_role(layout: &Layout, within: Within, name: &[u8], kind: FileKind) -> Role {
    if kind != FileKind::Dir {
        return Role::Unowned;
    }
    let reach = layout
        .glob
        .reach(within.reached, name, last_name(layout, name));
    if reach.matches && layout.is_id(name) {
        Role::Session
    } else if reach.continues {
        Role::Container
    } else {
        Role::Unowned
    }
}

/// What is known of a path's last name, which the pattern judges.
fn last_name(layout: &Layout, name: &[u8]) -> LastName {
    let pattern = layout.pattern.as_ref();
    if pattern.is_some_and(|pattern| pattern.writes(name)) {
        LastName::WrittenByPattern
    } else {
        LastName::Plain
    }
}

fn file_role(layout: &Layout, within: Within, name: &[u8], kind: FileKind) -> Role {
    match kind {
        FileKind::Dir => {
            let reach = layout.glob.reach(within.reached, name, LastName::Plain);
            if reach.continues {
                Role::Container
            } else {
                Role::Unowned
            }
        }
        FileKind::File if part_id(layout, within, name).is_some() => Role::Session,
        FileKind::File | FileKind::Symlink | FileKind::Other => Role::Unowned,
    }
}

/// The last name of the key of the session that a name belongs to.
pub(super) fn part_id<'n>(layout: &Layout, within: Within, name: &'n [u8]) -> Option<&'n [u8]> {
    if name.starts_with(BESIDE.as_bytes()) {
        return None;
    }
    let id = match layout.spec.kind {
        Kind::Files if layout.is_id(name) => name,
        Kind::Sidecar => sidecar_id(layout, name)?,
        Kind::Files | Kind::Directories | Kind::Catalog => return None,
    };
    let reach = layout
        .glob
        .reach(within.reached, name, last_name(layout, id));
    reach.matches.then_some(id)
}

/// The form of the metadata comes first, then those of the blobs in their order.
fn sidecar_id<'n>(layout: &Layout, name: &'n [u8]) -> Option<&'n [u8]> {
    let is_id = |id: &[u8]| layout.is_id(id);
    let mut forms = layout.sidecar.iter().chain(&layout.blobs);
    forms.find_map(|form| form.id_in(name, &is_id))
}

fn catalog_role(layout: &Layout, within: Within, name: &[u8], kind: FileKind) -> Role {
    if within.place != Place::Root {
        return Role::Unowned;
    }
    if layout.catalogue() == Some(name) {
        return match kind {
            FileKind::File => Role::Catalogue,
            FileKind::Dir | FileKind::Symlink | FileKind::Other => Role::Unowned,
        };
    }
    if !has_blob_form(layout, name) {
        return Role::Unowned;
    }
    match kind {
        FileKind::Dir if layout.pattern.is_none() => Role::Unowned,
        FileKind::Dir | FileKind::File | FileKind::Symlink | FileKind::Other => Role::Blob,
    }
}

/// Whether a blob may have this name: one name in the root, not hidden, not the catalogue's,
/// in the form of a template, with an id that the pattern matches.
pub(super) fn has_blob_form(layout: &Layout, name: &[u8]) -> bool {
    if name.contains(&b'/') || super::glob::is_hidden(name) || layout.catalogue() == Some(name) {
        return false;
    }
    let is_id = |id: &[u8]| layout.is_id(id);
    layout.blobs.iter().any(|blob| blob.fits(name, &is_id))
}

/// Whether the directory at `path` is a session, asked from the root down.
pub(super) fn is_session(layout: &Layout, path: &RelPath) -> bool {
    lies_in_containers(layout, path) && layout.role(path.as_bytes(), FileKind::Dir) == Role::Session
}

/// Whether sessions may lie in every directory above `path`.
pub(super) fn lies_in_containers(layout: &Layout, path: &RelPath) -> bool {
    let mut above = path.parent();
    while let Some(dir) = above {
        if layout.role(dir.as_bytes(), FileKind::Dir) != Role::Container {
            return false;
        }
        above = dir.parent();
    }
    true
}

/// Whether a template gives this name for this id, whatever its other words are.
pub(super) fn may_be_blob_of(layout: &Layout, key: &[u8], name: &[u8]) -> bool {
    has_blob_form(layout, name)
        && layout
            .blobs
            .iter()
            .any(|blob| blob.fits(name, &|id| id == key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::spec::LayoutSpec;

    fn directories(sessions: &str, pattern: Option<&str>) -> Layout {
        Layout::new(LayoutSpec {
            sessions: sessions.to_owned(),
            pattern: pattern.map(str::to_owned),
            ..LayoutSpec::default()
        })
        .expect("a good spec")
    }

    fn catalog(pattern: Option<&str>) -> Layout {
        Layout::new(LayoutSpec {
            kind: Kind::Catalog,
            pattern: pattern.map(str::to_owned),
            blobs: vec!["{id}.{format}".to_owned()],
            ..LayoutSpec::default()
        })
        .expect("a good spec")
    }

    #[test]
    fn directories_are_sessions_containers_or_unowned() {
        let habla = Some(r"^(?<id>.+)_(?<created>\d{8}_\d{6})$");
        for (sessions, pattern, path, role) in [
            ("*", None, "", Role::Container),
            ("*", None, "a", Role::Session),
            ("*", None, ".a", Role::Unowned),
            ("*", None, "lost+found", Role::Unowned),
            ("*", None, ".housekeeper", Role::Own),
            ("*", None, ".housekeeper/trash", Role::Own),
            ("*", None, ".housekeeper2", Role::Unowned),
            ("*", None, ".hk-01ARZ3NDEKTSV4RRFFQ69G5FAV", Role::Unowned),
            ("*/*", None, "a", Role::Container),
            ("*/*", None, "a/b", Role::Session),
            ("*/*", None, "a/.hk-01", Role::Unowned),
            ("*/*", None, "a/.housekeeper", Role::Unowned),
            (".*", None, ".housekeeper", Role::Own),
            (".*", None, ".a", Role::Session),
            ("*", habla, "a_b_20260210_120000", Role::Session),
            ("*", habla, ".a_20260210_120000", Role::Unowned),
            ("*", habla, "my_important_project", Role::Unowned),
            ("*", Some(r"^\.rec\d+$"), ".rec1", Role::Session),
            ("*", Some(r"^\.rec\d+$"), ".git", Role::Unowned),
            ("*/x", Some(r"^\.rec\d+$"), ".rec1", Role::Unowned),
            ("**", Some(r"^s\d+$"), "2026", Role::Container),
            ("**", Some(r"^s\d+$"), "2026/s1", Role::Session),
            ("**", Some(r"^s\d+$"), ".git", Role::Unowned),
            ("20[0-9][0-9]/*", None, "2026", Role::Container),
            ("20[0-9][0-9]/*", None, "1999", Role::Unowned),
        ] {
            let layout = directories(sessions, pattern);
            let seen = layout.role(path.as_bytes(), FileKind::Dir);
            assert_eq!(seen, role, "{sessions} {pattern:?} {path}");
        }
    }

    #[test]
    fn a_session_is_the_outermost_match_below_containers() {
        for (sessions, path, is_session) in [
            ("*", "a", true),
            ("*", "", false),
            ("*", "a/b", false),
            ("*", ".housekeeper", false),
            ("*", ".hidden", false),
            ("*/*", "a", false),
            ("*/*", "a/b", true),
            ("*/*", "a/b/c", false),
            ("*/*", ".housekeeper/trash", false),
            ("**/s", "a/b/s", true),
            ("**/s", "s/s", false),
        ] {
            let layout = directories(sessions, None);
            let path = RelPath::new(path.as_bytes()).expect("a path");
            assert_eq!(layout.owns(&path), is_session, "{sessions} {path}");
        }
        assert!(!catalog(None).owns(&RelPath::new(b"a.wav").expect("a path")));
    }

    #[test]
    fn a_blob_has_the_form_that_its_key_gives() {
        for (key, name, may) in [
            ("a", "a.wav", true),
            ("a", "b.wav", false),
            ("a", "a", false),
            ("a", "a.", false),
            ("a", "metadata.json", false),
            ("metadata", "metadata.json", false),
            (".a", ".a.wav", false),
            ("a", "../a.wav", false),
        ] {
            let layout = catalog(None);
            let told = layout.may_be_blob_of(key.as_bytes(), name.as_bytes());
            assert_eq!(told, may, "{key} {name}");
        }
    }

    #[test]
    fn only_directories_are_sessions() {
        let layout = directories("*", None);
        for kind in [FileKind::File, FileKind::Symlink, FileKind::Other] {
            assert_eq!(layout.role(b"a", kind), Role::Unowned);
        }
        assert_eq!(layout.role(b"a\xFF", FileKind::Dir), Role::Session);
    }

    #[test]
    fn files_are_sessions_in_containers() {
        use FileKind::{Dir, File, Other, Symlink};
        let logs = |sessions: &str, pattern: Option<&str>| {
            Layout::new(LayoutSpec {
                kind: Kind::Files,
                sessions: sessions.to_owned(),
                pattern: pattern.map(str::to_owned),
                metadata: Some(".".to_owned()),
                ..LayoutSpec::default()
            })
            .expect("a good spec")
        };
        for (sessions, pattern, path, kind, role) in [
            ("*.log*", None, "", Dir, Role::Container),
            ("*.log*", None, "a.log", File, Role::Session),
            ("*.log*", None, "a.log.1", File, Role::Session),
            ("*.log*", None, "a.txt", File, Role::Unowned),
            ("*.log*", None, ".a.log", File, Role::Unowned),
            ("*.log*", None, "a.log", Dir, Role::Unowned),
            ("*.log*", None, "a.log", Symlink, Role::Unowned),
            ("*.log*", None, "a.log", Other, Role::Unowned),
            ("**/*.log", None, "a/b/c.log", File, Role::Session),
            ("**/*.log", None, "a/b", Dir, Role::Container),
            ("**/*.log", None, ".git", Dir, Role::Unowned),
            ("*", Some(r"^\d+\.json$"), "12.json", File, Role::Session),
            ("*", Some(r"^\d+\.json$"), "a.json", File, Role::Unowned),
            ("*.log", None, ".housekeeper", Dir, Role::Own),
        ] {
            let seen = logs(sessions, pattern).role(path.as_bytes(), kind);
            assert_eq!(seen, role, "{sessions} {pattern:?} {path} {kind:?}");
        }
    }

    #[test]
    fn a_name_beside_a_sidecar_belongs_to_its_id() {
        let sidecar = |sessions: &str, pattern: Option<&str>, blobs: &[&str]| {
            Layout::new(LayoutSpec {
                kind: Kind::Sidecar,
                sessions: sessions.to_owned(),
                pattern: pattern.map(str::to_owned),
                metadata: Some("{id}.json".to_owned()),
                blobs: blobs.iter().map(|&blob| blob.to_owned()).collect(),
                ..LayoutSpec::default()
            })
            .expect("a good spec")
        };
        let both = &["{id}.{ext}", "{id}"][..];
        for (sessions, pattern, blobs, path, key) in [
            ("*", None, both, "a.wav", Some("a")),
            ("*", None, both, "a.json", Some("a")),
            ("*", None, both, "a", Some("a")),
            ("*", None, both, "a.tar.gz", Some("a.tar")),
            ("*", Some("^[a-z]+$"), both, "a.tar.gz", Some("a")),
            ("*", Some("^[a-z]+$"), both, "1.wav", None),
            ("*", None, &["{id}"], "a.b", Some("a.b")),
            ("*", None, both, ".a.wav", None),
            ("*", None, both, ".housekeeper", None),
            ("up/*", None, both, "up/a.wav", Some("up/a")),
            ("up/*", None, both, "a.wav", None),
            ("**", None, both, "x/y/a.json", Some("x/y/a")),
        ] {
            let layout = sidecar(sessions, pattern, blobs);
            let found = layout.part_of(path.as_bytes());
            assert_eq!(
                found.as_deref(),
                key.map(str::as_bytes),
                "{sessions} {path}"
            );
            let role = layout.role(path.as_bytes(), FileKind::File);
            assert_eq!(role == Role::Session, key.is_some(), "{sessions} {path}");
        }
    }

    #[test]
    fn beside_a_catalogue_lie_blobs() {
        use FileKind::{Dir, File, Other, Symlink};
        let uuid = Some("^[0-9a-f]{4}$");
        for (pattern, path, kind, role) in [
            (None, "", Dir, Role::Container),
            (None, "metadata.json", File, Role::Catalogue),
            (None, "metadata.json", Symlink, Role::Unowned),
            (None, "metadata.json", Dir, Role::Unowned),
            (None, "a.json", File, Role::Blob),
            (None, "a.json", Symlink, Role::Blob),
            (None, "a.json", Other, Role::Blob),
            (None, "a.json", Dir, Role::Unowned),
            (None, "a", File, Role::Unowned),
            (None, ".prune_size.lock", File, Role::Unowned),
            (None, "a/b.json", File, Role::Unowned),
            (None, ".hk-01", File, Role::Unowned),
            (None, ".housekeeper", Dir, Role::Own),
            (uuid, "12ab.json", File, Role::Blob),
            (uuid, "12ab.tar.gz", File, Role::Blob),
            (uuid, "12ab.json", Dir, Role::Blob),
            (uuid, "notes.txt", File, Role::Unowned),
            (uuid, "notes.d", Dir, Role::Unowned),
        ] {
            let seen = catalog(pattern).role(path.as_bytes(), kind);
            assert_eq!(seen, role, "{pattern:?} {path} {kind:?}");
        }
    }
}
