//! Where a root lies, and whether a program that deletes may be pointed there (promise 12).
//!
//! Text alone cannot tell: parents may be symlinks, and one directory may have two names. So places
//! are compared by device and inode of every directory above them as well as by their text. What a
//! bind mount shows of the middle of a tree can't be seen from there; the pruner's checks hold still.

use crate::config::file;
use crate::model::seen::FileId;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Never a root, but what lies below may be one.
const SYSTEM: &[&str] = &[
    "/",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/tmp",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lock",
    "/var/log",
    "/var/mail",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Never a root, nor is anything below.
const SYSTEM_TREES: &[&str] = &[
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin",
    "/sys", "/usr",
];

/// A place in the file system, there or not.
#[derive(Debug, Clone)]
pub(super) struct Place {
    written: PathBuf,
    /// Without symlinks, as far as it exists.
    real: PathBuf,
    itself: Option<FileId>,
    /// Every directory above it that exists.
    above: Vec<FileId>,
}

/// How one place lies to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Apart,
    Same,
    /// The first lies inside the second.
    Inside,
    /// The second lies inside the first.
    Around,
}

impl Place {
    /// Looks at the disk once; `path` is absolute.
    pub(super) fn survey(path: &Path) -> Self {
        let real = path.ancestors().find_map(|above| {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            Some(tidy(&fs::canonicalize(above).ok()?.join(rest)))
        });
        let real = real.unwrap_or_else(|| path.to_owned());
        Self {
            itself: id(&real),
            above: real.ancestors().skip(1).filter_map(id).collect(),
            written: tidy(path),
            real,
        }
    }

    /// As it was given, tidied.
    pub(super) fn written(&self) -> &Path {
        &self.written
    }

    pub(super) fn is_there(&self) -> bool {
        self.itself.is_some()
    }

    /// Which inode it is, where it is there.
    pub(super) fn itself(&self) -> Option<FileId> {
        self.itself
    }

    /// Every directory above it that exists.
    pub(super) fn above(&self) -> &[FileId] {
        &self.above
    }

    /// Without symlinks, as far as it exists.
    pub(super) fn real(&self) -> &Path {
        &self.real
    }

    pub(super) fn relation(&self, other: &Self) -> Relation {
        let same = (self.itself.is_some() && self.itself == other.itself)
            || self.real == other.real
            || self.written == other.written;
        if same {
            Relation::Same
        } else if self.is_below(other) {
            Relation::Inside
        } else if other.is_below(self) {
            Relation::Around
        } else {
            Relation::Apart
        }
    }

    /// Whether this place lies in `other` or is `other`.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        matches!(self.relation(other), Relation::Same | Relation::Inside)
    }

    fn is_below(&self, other: &Self) -> bool {
        other.itself.is_some_and(|id| self.above.contains(&id))
            || self.real.starts_with(&other.real)
            || self.written.starts_with(&other.written)
    }

    /// Why this can be no root, in words that follow "the path".
    pub(super) fn refusal(&self, homes: &[PathBuf]) -> Option<String> {
        match fs::symlink_metadata(&self.written) {
            Ok(seen) if seen.is_symlink() => {
                return Some("is a symlink; write where it leads".to_owned());
            }
            Ok(seen) if !seen.is_dir() => {
                return Some("is a file; a root is a directory".to_owned());
            }
            // Absent or out of sight now: the agent looks for it.
            Ok(_) | Err(_) => {}
        }
        let is = |path: &Path| {
            self.real == path
                || self.written == path
                || (self.itself.is_some() && self.itself == id(path))
        };
        if is(Path::new("/")) {
            return Some("is the whole file system".to_owned());
        }
        // Memory that every program may use, below a system tree.
        let shared = |path: &Path| path.starts_with("/dev/shm") && path != Path::new("/dev/shm");
        let below = |path: &Path, tree: &str| path.starts_with(tree) && !shared(path);
        let in_tree = |tree: &str| below(&self.real, tree) || below(&self.written, tree);
        if let Some(tree) = SYSTEM_TREES.iter().find(|tree| in_tree(tree)) {
            return Some(format!("lies in {tree}, which belongs to the system"));
        }
        let system = SYSTEM.iter().chain(SYSTEM_TREES);
        if let Some(found) = system.map(Path::new).find(|path| is(path)) {
            let name = found.display();
            return Some(format!(
                "is {name}, a system directory; make a directory of its own below"
            ));
        }
        homes
            .iter()
            .any(|home| is(home))
            .then(|| "is a home directory; make a directory of its own below".to_owned())
    }
}

/// Why text can't even be looked at as the path of a root, in words that follow "the path".
pub(super) fn unusable(path: &Path) -> Option<&'static str> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        Some("is empty")
    } else if bytes.contains(&0) {
        Some("contains a NUL byte")
    } else if bytes.starts_with(b"~") {
        Some("is not absolute; `~` means nothing here, write the home directory out")
    } else if !path.is_absolute() {
        Some("is not absolute; begin it with `/`")
    } else if path.components().any(|part| part == Component::ParentDir) {
        Some("has a `..` in it; write it without")
    } else {
        None
    }
}

/// A path of the command line made absolute: symlinks above it resolved, itself left as it is.
pub(super) fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parts = whole.parent().zip(whole.file_name());
    match parts {
        Some((parent, name)) => Place::survey(parent).real.join(name),
        // `/`, or something that ends in `..`.
        None => fs::canonicalize(&whole).unwrap_or(whole),
    }
}

/// Without doubled slashes, `.` and a slash at the end, which would follow a symlink.
pub(super) fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Every home directory that this host names: `$HOME` and those of /etc/passwd.
pub(super) fn homes(home: Option<PathBuf>) -> Vec<PathBuf> {
    // Where /etc/passwd can't be read the system list and `$HOME` must do.
    let passwd = file::read_bytes(Path::new("/etc/passwd")).unwrap_or_default();
    homes_of(&passwd).chain(home).collect()
}

fn homes_of(passwd: &[u8]) -> impl Iterator<Item = PathBuf> {
    passwd
        .split(|b| *b == b'\n')
        // Who cannot log in is a service, and its "home" the data it keeps.
        .filter(|line| !line.ends_with(b"/nologin") && !line.ends_with(b"/false"))
        .filter_map(|line| line.split(|b| *b == b':').nth(5))
        .map(|home| tidy(Path::new(OsStr::from_bytes(home))))
        .filter(|home| home.is_absolute())
}

fn id(path: &Path) -> Option<FileId> {
    let seen = fs::metadata(path).ok()?;
    Some(FileId {
        dev: seen.dev(),
        ino: seen.ino(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Place, Relation, absolute, homes_of, unusable};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    fn refusal(path: &str) -> Option<String> {
        let homes = [PathBuf::from("/home/joe"), PathBuf::from("/data/jane")];
        Place::survey(Path::new(path)).refusal(&homes)
    }

    #[test]
    fn system_and_home_directories_are_refused() {
        for path in [
            "/",
            "//",
            "/etc",
            "/etc/",
            "/etc/x",
            "/usr/local/data",
            "/bin",
            "/lib",
            "/lib64/x",
            "/proc/1",
            "/sys/fs",
            "/dev/shm",
            "/boot",
            "/run",
            "/var",
            "/var/lib",
            "/var/log",
            "/tmp",
            "/home",
            "/root",
            "/home/joe",
            "/home/joe/",
            "/data/jane",
            "/srv",
        ] {
            assert!(refusal(path).is_some(), "{path}");
        }
        for path in [
            "/srv/recordings",
            "/var/lib/recordings",
            "/home/joe/data",
            "/homework",
            "/etcetera",
            "/library/x",
            "/run/x",
        ] {
            assert_eq!(refusal(path), None, "{path}");
        }
    }

    #[test]
    fn files_and_symlinks_are_refused_and_absent_directories_are_not() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("file"), "").expect("a file");
        fs::create_dir(at("dir")).expect("a directory");
        symlink(at("dir"), at("link")).expect("a symlink");
        symlink("/etc", at("etc")).expect("a symlink");
        let refusal = |path: PathBuf| Place::survey(&path).refusal(&[at("dir")]);
        assert!(refusal(at("file")).is_some_and(|why| why.contains("file")));
        assert!(refusal(at("link")).is_some_and(|why| why.contains("symlink")));
        assert!(refusal(at("link/")).is_some_and(|why| why.contains("symlink")));
        assert!(refusal(at("dir")).is_some_and(|why| why.contains("home")));
        assert!(refusal(at("etc/x")).is_some_and(|why| why.contains("/etc")));
        assert_eq!(refusal(at("absent/below")), None);
        assert_eq!(refusal(at("link/below")), None);
    }

    #[test]
    fn overlap_is_seen_through_symlinked_parents() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir_all(scratch.path().join("a/b/c")).expect("directories");
        symlink(scratch.path().join("a/b"), scratch.path().join("other")).expect("a symlink");
        let place = |name: &str| Place::survey(&scratch.path().join(name));
        assert_eq!(place("other/c").relation(&place("a")), Relation::Inside);
        assert_eq!(
            place("a").relation(&place("other/absent")),
            Relation::Around
        );
        assert_eq!(place("other/c").relation(&place("a/b/c")), Relation::Same);
        assert_eq!(place("a/b/c").relation(&place("a/b/cc")), Relation::Apart);
        assert!(place("other/c").is_within(&place("a/b/c")));
        assert!(!place("a").is_within(&place("a/b")));
    }

    #[test]
    fn the_command_line_may_be_relative() {
        let here = absolute(Path::new("x"));
        assert!(here.is_absolute() && here.ends_with("x"), "{here:?}");
        assert_eq!(absolute(Path::new("/")), Path::new("/"));
        assert_eq!(absolute(Path::new("/usr/..")), Path::new("/"));
        assert_eq!(
            absolute(Path::new("/usr/./absent/")),
            Path::new("/usr/absent")
        );
    }

    #[test]
    fn unusable_paths_are_named() {
        for path in ["", "x", "./x", "~/x", "/a/../b", "/a\0b"] {
            assert!(unusable(Path::new(path)).is_some(), "{path}");
        }
        assert_eq!(unusable(Path::new("/srv/x")), None);
    }

    #[test]
    fn homes_are_the_sixth_field() {
        let passwd = b"joe:x:1:1:Joe:/home/joe/:/bin/sh\nbroken\nx:x:1:1::relative:\n";
        let homes: Vec<_> = homes_of(passwd).collect();
        assert_eq!(homes, [PathBuf::from("/home/joe")]);
    }
}
