//! What is in a root, counted naively: every name walked, every inode once. Shares nothing
//! with the program but the definition of bytes in DESIGN §2.

use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The figures of one root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) apparent: u64,
    pub(crate) allocated: u64,
    pub(crate) files: u64,
    pub(crate) sessions: u64,
    pub(crate) unowned_entries: u64,
    pub(crate) unowned_bytes: u64,
}

impl Count {
    /// The same figures as `status` gives them.
    pub(crate) fn of_status(root: &Value) -> Self {
        let number = |value: &Value| value.as_u64().expect("a number");
        assert_eq!(root["bytes"], root["apparent_bytes"], "measure is apparent");
        Self {
            apparent: number(&root["apparent_bytes"]),
            allocated: number(&root["allocated_bytes"]),
            files: number(&root["files"]),
            sessions: number(&root["session_count"]),
            unowned_entries: number(&root["unowned"]["entries"]),
            unowned_bytes: number(&root["unowned"]["bytes"]),
        }
    }
}

/// Counts a root of kind `directories` with `sessions = "*"`. What vanishes meanwhile is not
/// there.
pub(crate) fn directories(root: &Path) -> Count {
    let mut count = Count::default();
    let mut owned: HashMap<u64, Metadata> = HashMap::new();
    let mut other: HashMap<u64, Metadata> = HashMap::new();
    for (name, meta) in list(root) {
        if name == ".housekeeper" {
            continue;
        }
        let path = root.join(&name);
        let hidden = name.as_bytes().starts_with(b".") || name == "lost+found";
        if meta.is_dir() && !hidden {
            count.sessions += 1;
            walk(&path, &mut owned);
        } else {
            count.unowned_entries += 1;
            if meta.is_dir() {
                walk(&path, &mut other);
            } else if meta.is_file() {
                other.insert(meta.ino(), meta);
            }
        }
    }
    for meta in owned.values() {
        count.apparent += meta.size();
        count.allocated += meta.blocks() * 512;
        count.files += 1;
    }
    other.retain(|ino, _| !owned.contains_key(ino));
    count.unowned_bytes = other.values().map(Metadata::size).sum();
    count
}

/// The names of the sessions of such a root.
pub(crate) fn sessions(root: &Path) -> BTreeSet<String> {
    list(root)
        .into_iter()
        .filter(|(name, meta)| meta.is_dir() && !name.as_bytes().starts_with(b"."))
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect()
}

fn walk(dir: &Path, into: &mut HashMap<u64, Metadata>) {
    for (name, meta) in list(dir) {
        if meta.is_dir() {
            walk(&dir.join(&name), into);
        } else if meta.is_file() {
            into.insert(meta.ino(), meta);
        }
    }
}

fn list(dir: &Path) -> Vec<(std::ffi::OsString, Metadata)> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let meta = fs::symlink_metadata(entry.path()).ok()?;
            Some((entry.file_name(), meta))
        })
        .collect()
}

/// Everything below a directory, byte for byte: to see that nothing was touched.
pub(crate) fn snapshot(dir: &Path) -> BTreeSet<(std::ffi::OsString, u32, Vec<u8>)> {
    let mut seen = BTreeSet::new();
    let mut stack = vec![dir.to_path_buf()];
    let mut dirs = HashSet::new();
    while let Some(at) = stack.pop() {
        for (name, meta) in list(&at) {
            let path = at.join(OsStr::from_bytes(name.as_bytes()));
            let body = if meta.is_file() {
                fs::read(&path).expect("a file")
            } else if meta.is_dir() {
                assert!(dirs.insert(meta.ino()), "a directory has one name");
                stack.push(path.clone());
                Vec::new()
            } else {
                fs::read_link(&path)
                    .map(|to| to.as_os_str().as_bytes().to_vec())
                    .unwrap_or_default()
            };
            seen.insert((path.into_os_string(), meta.mode(), body));
        }
    }
    seen
}
