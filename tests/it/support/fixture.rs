//! Directories full of sessions.

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A scratch directory with a root in it.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir(dir.path().join("root")).expect("made");
        Self { dir }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A session in the root: a directory with data and a `metadata.json`.
    pub(crate) fn session(&self, name: &str, created: &str, n_bytes: usize) -> PathBuf {
        session(&self.root(), name, created, n_bytes)
    }
}

/// A session: a directory with data and a `metadata.json` that says when it was made.
pub(crate) fn session(root: &Path, name: &str, created: &str, n_bytes: usize) -> PathBuf {
    let metadata = json!({ "created_at": created }).to_string();
    session_with(root, name, &metadata, n_bytes)
}

/// A session with this text as its `metadata.json`, which arrives before the data.
pub(crate) fn session_with(root: &Path, name: &str, metadata: &str, n_bytes: usize) -> PathBuf {
    let dir = bare_session(root, name, 0);
    fs::write(dir.join("metadata.json"), metadata).expect("written");
    fs::write(dir.join("data.bin"), vec![b'x'; n_bytes]).expect("written");
    dir
}

/// A session without metadata.
pub(crate) fn bare_session(root: &Path, name: &str, n_bytes: usize) -> PathBuf {
    let dir = root.join(name);
    fs::create_dir(&dir).expect("made");
    fs::write(dir.join("data.bin"), vec![b'x'; n_bytes]).expect("written");
    dir
}

/// The names in a directory, sorted, without the agent's own.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != ".housekeeper")
        .collect();
    names.sort();
    names
}

/// Everything of a tree that a program can change: kind, mode, links, times and bytes of each
/// name. Looking changes nothing itself.
pub(crate) fn picture(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    stats(dir, &mut all);
    let files: Vec<PathBuf> = all.keys().cloned().collect();
    for path in files {
        let stat = fs::symlink_metadata(&path).expect("there");
        // What a symlink says cannot change without its inode, and reading it leaves a trace.
        if stat.is_file() {
            let said = fnv1a(&read_quietly(&path)).to_string();
            all.get_mut(&path).expect("listed").push_str(&said);
        }
    }
    all
}

fn stats(path: &Path, all: &mut BTreeMap<PathBuf, String>) {
    let stat = fs::symlink_metadata(path).expect("there");
    let said = format!(
        "ino {} mode {:o} links {} size {} atime {}.{} mtime {}.{} ctime {}.{} ",
        stat.ino(),
        stat.mode(),
        stat.nlink(),
        stat.size(),
        stat.atime(),
        stat.atime_nsec(),
        stat.mtime(),
        stat.mtime_nsec(),
        stat.ctime(),
        stat.ctime_nsec(),
    );
    all.insert(path.to_owned(), said);
    if stat.is_dir() {
        for name in list_quietly(path) {
            stats(&path.join(name), all);
        }
    }
}

/// The names in a directory. That it was listed leaves no trace.
fn list_quietly(path: &Path) -> Vec<OsString> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
    let dir = rustix::fs::open(path, flags, Mode::empty()).expect("a directory");
    rustix::fs::Dir::new(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .map(OsString::from_vec)
        .collect()
}

fn read_quietly(path: &Path) -> Vec<u8> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut bytes = Vec::new();
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOATIME)
        .open(path);
    opened
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .expect("read");
    bytes
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A gofr store: blobs beside one `metadata.json` that lists them all.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) scratch: Scratch,
    /// In the order of the file; an id may be there twice.
    pub(crate) entries: Vec<(String, Value)>,
}

/// The id of the n-th session.
pub(crate) fn guid(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

impl Store {
    /// Sessions 1 to n of 1 KiB each, a day apart, the first the oldest.
    pub(crate) fn of(n: u32) -> Self {
        let mut store = Self {
            scratch: Scratch::new(),
            entries: Vec::new(),
        };
        for i in 1..=n {
            store.blob(&format!("{}.json", guid(i)), 1024);
            store.entries.push((guid(i), Self::entry(i)));
        }
        store.write();
        store
    }

    /// What the n-th session's entry says.
    pub(crate) fn entry(n: u32) -> Value {
        json!({
            "format": "json",
            "size": 1024,
            "created_at": format!("2026-02-{n:02}T12:00:00.123456"),
            "url": format!("https://example.com/{n}"),
            "chunk_size": 4000,
            "total_chunks": 1,
            "total_chars": 1024,
        })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.root()
    }

    pub(crate) fn catalogue(&self) -> PathBuf {
        self.root().join("metadata.json")
    }

    pub(crate) fn blob(&self, name: &str, n_bytes: usize) {
        fs::write(self.root().join(name), vec![b'x'; n_bytes]).expect("written");
    }

    /// Changes the n-th entry and writes the catalogue.
    pub(crate) fn change(&mut self, n: u32, change: impl FnOnce(&mut Value)) {
        let id = guid(n);
        let entry = self.entries.iter_mut().find(|(key, _)| *key == id);
        change(&mut entry.expect("an entry").1);
        self.write();
    }

    /// Writes the catalogue as `json.dump(indent=2)` does, duplicates and all.
    pub(crate) fn write(&self) {
        let entries: Vec<String> = self
            .entries
            .iter()
            .map(|(id, entry)| {
                let text = serde_json::to_string_pretty(entry).expect("JSON");
                format!("  {}: {}", json!(id), text.replace('\n', "\n  "))
            })
            .collect();
        self.write_text(format!("{{\n{}\n}}", entries.join(",\n")).as_bytes());
    }

    pub(crate) fn write_text(&self, text: &[u8]) {
        fs::write(self.catalogue(), text).expect("written");
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        fs::read(self.catalogue()).expect("a catalogue")
    }

    /// The ids that the catalogue lists now.
    pub(crate) fn listed(&self) -> Vec<String> {
        let value: Value = serde_json::from_slice(&self.text()).expect("JSON");
        let mut ids: Vec<String> = value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        ids.sort();
        ids
    }

    /// The numbers of the sessions whose blob `<guid>.json` is there.
    pub(crate) fn blobs(&self) -> Vec<u32> {
        (1..100)
            .filter(|n| {
                let blob = self.root().join(format!("{}.json", guid(*n)));
                fs::symlink_metadata(blob).is_ok()
            })
            .collect()
    }
}

/// Runs a command, answering in JSON, with this text as its configuration and a state directory
/// of the scratch's own.
pub(crate) fn with_config(scratch: &Scratch, text: &str, words: &[&str]) -> crate::support::Done {
    let config = scratch.path("config.toml");
    let head = format!("[agent]\nstate_dir = {:?}\n", scratch.path("state"));
    std::fs::write(&config, head + text).expect("written");
    let mut command = crate::support::housekeeper();
    command
        .args(words)
        .arg("--json")
        .arg("--config")
        .arg(&config);
    crate::support::Done::of(command.output().expect("runs"))
}
