//! Metadata is read once for each change of it, whatever the kind of layout: not for each scan,
//! and not when something else of its session changes. Counted by the kernel: each open.

use crate::support::running::{Place, wait_for};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const TEXT: &str = "{\"created_at\": \"2026-01-01T00:00:00Z\"}";
const LATER: &str = "{\"created_at\": \"2026-02-01T00:00:00Z\", \"more\": 1}";
const CREATED: &str =
    "[root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n";

/// One kind of layout with a session in it.
struct Case {
    layout: &'static str,
    /// What lies in the root, with its text.
    files: &'static [(&'static str, &'static str)],
    metadata: &'static str,
    /// A file of the session that is no metadata.
    data: Option<&'static str>,
    /// What the metadata becomes.
    later: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        layout: "metadata = \"metadata.json\"",
        files: &[("s/metadata.json", TEXT), ("s/data", "x")],
        metadata: "s/metadata.json",
        data: Some("s/data"),
        later: LATER,
    },
    Case {
        layout: "kind = \"sidecar\"\nsessions = \"*\"\nmetadata = \"{id}.json\"",
        files: &[("s.json", TEXT), ("s.wav", "x")],
        metadata: "s.json",
        data: Some("s.wav"),
        later: LATER,
    },
    Case {
        layout: "kind = \"files\"\nsessions = \"*.json\"\nmetadata = \".\"",
        files: &[("s.json", TEXT)],
        metadata: "s.json",
        data: None,
        later: LATER,
    },
    Case {
        layout: "kind = \"catalog\"\nmetadata = \"metadata.json\"\nblobs = [\"{id}.bin\"]",
        files: &[
            (
                "metadata.json",
                "{\"s\": {\"created_at\": \"2026-01-01T00:00:00Z\"}}",
            ),
            ("s.bin", "x"),
        ],
        metadata: "metadata.json",
        data: Some("s.bin"),
        later: "{\"s\": {\"created_at\": \"2026-02-01T00:00:00Z\", \"more\": 1}}",
    },
];

/// Counts how often names in a directory are opened.
struct Opens {
    queue: OwnedFd,
    n_opens: BTreeMap<Vec<u8>, u64>,
}

impl Opens {
    fn of(dir: &Path) -> Self {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let queue = inotify::init(flags).expect("a queue");
        inotify::add_watch(&queue, dir, WatchFlags::OPEN).expect("a watch");
        Self {
            queue,
            n_opens: BTreeMap::new(),
        }
    }

    /// So far.
    fn count(&mut self, name: &str) -> u64 {
        let mut buffer = [const { MaybeUninit::uninit() }; 1 << 14];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
                    let name = event.file_name().map(|name| name.to_bytes().to_vec());
                    *self.n_opens.entry(name.unwrap_or_default()).or_default() += 1;
                }
                Err(Errno::AGAIN) => break,
                Err(errno) => panic!("the queue: {errno}"),
            }
        }
        self.n_opens.get(name.as_bytes()).copied().unwrap_or(0)
    }
}

fn run(case: &Case, backend: &'static str) {
    let mut place = Place::new();
    place.backend = backend;
    place.configure(&format!(
        "[root.layout]\n{}\n{CREATED}[root.limits]\nmax_size = \"1 GiB\"",
        case.layout
    ));
    for (path, text) in case.files {
        let path = place.root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    let metadata: PathBuf = place.root.join(case.metadata);
    let dir = metadata.parent().expect("a directory");
    let name = metadata.file_name().and_then(|name| name.to_str());
    let name = name.expect("a name");
    let mut opens = Opens::of(dir);
    let agent = place.agent();
    let said = format!("{}, {backend}", case.layout);
    let rescan = || {
        let answer = place.run(&["rescan", "--wait"]);
        assert!(answer.status.success(), "{said}: {answer:?}");
    };
    rescan();
    let status = agent.root();
    assert_eq!(
        (&status["session_count"], &status["anomalies"]),
        (&1.into(), &0.into()),
        "{said}: {}",
        String::from_utf8_lossy(&place.run(&["anomalies", "--json"]).stdout)
    );
    assert_eq!(opens.count(name), 1, "{said}: once at the first sight");

    if let Some(data) = case.data {
        // The test's own open is not counted: the file is exchanged.
        let staged = place.beside("staged");
        fs::write(&staged, vec![b'y'; 5000]).expect("a file");
        fs::rename(staged, place.root.join(data)).expect("it is exchanged");
        agent.until("the new size", |root| root["bytes"].as_u64() > Some(5000));
    }
    (0..3).for_each(|_| rescan());
    assert_eq!(opens.count(name), 1, "{said}: not for what is not news");

    let staged = place.beside("staged");
    fs::write(&staged, case.later).expect("a file");
    fs::rename(staged, &metadata).expect("it is exchanged");
    wait_for("the changed metadata to be read", || {
        match opens.count(name) {
            0 | 1 => Err(said.clone()),
            n_opens => Ok(n_opens),
        }
    });
    (0..2).for_each(|_| rescan());
    assert_eq!(opens.count(name), 2, "{said}: once for its change");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn metadata_of_every_kind_is_read_once_a_change() {
    for case in &CASES {
        for backend in ["auto", "inotify", "poll"] {
            run(case, backend);
        }
    }
}
