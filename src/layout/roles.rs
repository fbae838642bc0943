//! What a name in a tree is: who owns it. This runs for every name of a scan and every hint.
//!
//! Directories: only directories can be sessions. One that the glob and the pattern match is a
//! session, and since the outermost match is asked first, nothing below it is. One that does not
//! match, but below which the glob could, is a container.
//!
//! Catalogue: the root's own directory holds everything. A name in the form of a blob is a
//! `Blob` even where it is a symlink or a device, so that it can be reported as unusable; a
//! directory only where a pattern says that its id is one, for without a pattern any directory
//! with a dot in its name would look like a blob. What the catalogue lists is decided by exact
//! name, whatever its role.

use super::glob::LastName;
use super::spec::Kind;
use super::{Layout, Role};
use crate::model::path::RelPath;
use crate::model::seen::FileKind;

/// The role of the name at `path`, bytes below the root; empty is the root itself.
pub(super) fn role(layout: &Layout, path: &[u8], kind: FileKind) -> Role {
    if is_own(path) {
        return Role::Own;
    }
    match layout.spec.kind {
        Kind::Directories => directory_role(layout, path, kind),
        Kind::Catalog => catalog_role(layout, path, kind),
    }
}

/// `.housekeeper` in the root with all below it. Nothing else: a name that anybody may give must
/// not hide bytes. `.hk-*` is kept free for what the agent makes beside sessions; such a name
/// counts like any other hidden one.
fn is_own(path: &[u8]) -> bool {
    path.strip_prefix(b".housekeeper")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn directory_role(layout: &Layout, path: &[u8], kind: FileKind) -> Role {
    if kind != FileKind::Dir {
        return Role::Unowned;
    }
    if path.is_empty() {
        return Role::Container;
    }
    let name = super::last_name(path);
    let pattern = layout.pattern.as_ref();
    let last = if pattern.is_some_and(|pattern| pattern.writes(name)) {
        LastName::WrittenByPattern
    } else {
        LastName::Plain
    };
    let reach = layout.glob.reach(path, last);
    if reach.matches && pattern.is_none_or(|pattern| pattern.is_match(name)) {
        Role::Session
    } else if reach.continues {
        Role::Container
    } else {
        Role::Unowned
    }
}

fn catalog_role(layout: &Layout, path: &[u8], kind: FileKind) -> Role {
    if path.is_empty() && kind == FileKind::Dir {
        return Role::Container;
    }
    if layout.catalogue() == Some(path) {
        return match kind {
            FileKind::File => Role::Catalogue,
            FileKind::Dir | FileKind::Symlink | FileKind::Other => Role::Unowned,
        };
    }
    if !has_blob_form(layout, path) {
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
    let is_id = |id: &[u8]| {
        layout
            .pattern
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(id))
    };
    layout.blobs.iter().any(|blob| blob.fits(name, &is_id))
}

/// Whether the directory at `path` is a session, asked from the root down.
pub(super) fn is_session(layout: &Layout, path: &RelPath) -> bool {
    let mut above = path.parent();
    while let Some(dir) = above {
        if role(layout, dir.as_bytes(), FileKind::Dir) != Role::Container {
            return false;
        }
        above = dir.parent();
    }
    role(layout, path.as_bytes(), FileKind::Dir) == Role::Session
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
