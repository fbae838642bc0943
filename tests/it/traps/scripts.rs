//! Traps as scripts: what strangers do to a root, line by line, and what `status` says at the
//! end. Each `scripts/*.txt` runs on every backend, in memory and on a disk; a new file there
//! or a new backend is run by itself.
//!
//! A line is a word and what it works on, relative to the root; `../x` lies beside it. What
//! stands before `start` is there before the agent is. `each N` to `end` is repeated with `%`
//! for the number. In names `\xNN` is a byte and `{c*N}` a character N times. `rest` compares
//! in between. After `Output:` come figures of `status`; `anomalies` after one more scan,
//! which has to find no drift.

use super::hears;
use crate::support::resting::{nothing_lost, settled};
use crate::support::running::{Agent, Place, signal};
use housekeeper::model::watcher::Backend;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, fallocate, linkat, openat,
    renameat_with,
};
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Sessions without metadata, and nothing odd in that.
pub(super) const CREATED: &str = "[root.layout.created_at]\nfrom = [\"mtime\"]";

/// A script that was read.
pub(super) struct Script {
    name: String,
    before: Vec<String>,
    then: Vec<String>,
    output: Vec<(String, Value)>,
}

/// What a script works on.
pub(super) struct Hand {
    root: PathBuf,
    held: HashMap<String, File>,
}

pub(super) fn all() -> Vec<Script> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/traps/scripts");
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("the scripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| Script::read(file)).collect()
}

#[test]
fn every_script_on_every_backend() {
    let scripts = all();
    assert!(scripts.len() > 10, "the scripts were not found");
    std::thread::scope(|scope| {
        for backend in Backend::ALL {
            for is_in_memory in [true, false] {
                let scripts = &scripts;
                scope.spawn(move || {
                    for script in scripts {
                        let mut place = if is_in_memory {
                            Place::in_memory()
                        } else {
                            Place::new()
                        };
                        place.backend = backend.name();
                        place.configure(CREATED);
                        let mut hand = Hand::new(place.root.clone());
                        script.prepare(&mut hand);
                        if let Some(agent) = place.heard_by(backend) {
                            script.play(&mut hand, &agent, backend);
                        }
                    }
                });
            }
        }
    });
}

impl Script {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).expect("a script");
        let (does, output) = text.split_once("Output:\n").expect("an output");
        let mut lines = Vec::new();
        let mut block: Option<(usize, Vec<&str>)> = None;
        let does = does.lines().map(str::trim);
        for line in does.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(n) = line.strip_prefix("each ") {
                block = Some((n.parse().expect("a number"), Vec::new()));
            } else if line == "end" {
                let (n, inner) = block.take().expect("a block");
                let numbered = |n: usize| inner.iter().map(move |l| l.replace('%', &n.to_string()));
                lines.extend((0..n).flat_map(numbered));
            } else if let Some((_, inner)) = &mut block {
                inner.push(line);
            } else {
                lines.push(line.to_owned());
            }
        }
        let start = lines.iter().position(|line| line == "start");
        let then = lines.split_off(start.expect("a start") + 1);
        lines.pop();
        let figure = |line: &str| {
            let (key, value) = line.split_once(' ').expect("a key and a number");
            let value = value.parse::<u64>().expect("a number");
            (key.to_owned(), value.into())
        };
        Self {
            name: file.display().to_string(),
            before: lines,
            then,
            output: output.lines().map(figure).collect(),
        }
    }

    pub(super) fn prepare(&self, hand: &mut Hand) {
        for line in &self.before {
            hand.does(line);
        }
    }

    /// After the start: everything, then rest without a scan, the figures, and no drift.
    #[expect(clippy::print_stdout, reason = "a failure says which script it was")]
    pub(super) fn play(&self, hand: &mut Hand, agent: &Agent<'_>, backend: Backend) {
        println!("{} with {}", self.name, backend.name());
        let start = agent.root();
        let rest = |root: &Path| {
            let status = settled(agent, root);
            if hears(backend) {
                nothing_lost(&start, &status);
            }
            status
        };
        for line in &self.then {
            if line == "rest" {
                rest(&hand.root);
            } else {
                hand.does(line);
            }
        }
        let status = rest(&hand.root);
        let count = |root: &Value| root["rescan"]["count"].as_u64();
        signal(agent.child.id(), rustix::process::Signal::USR1);
        let scanned = agent.until("one more scan", |root| count(root) > count(&status));
        // Of polling the drift is what it is for.
        if hears(backend) {
            assert_eq!(
                scanned["rescan"]["drift_bytes"], 0,
                "{}: {scanned}",
                self.name
            );
        }
        for (key, value) in &self.output {
            let is = match key.as_str() {
                "anomalies" => &scanned["anomalies"],
                "sessions" => &status["session_count"],
                "unowned" => &status["unowned"]["entries"],
                "unowned_bytes" => &status["unowned"]["bytes"],
                key => &status[key],
            };
            assert_eq!(
                is, value,
                "{} in {} with {backend:?}: {status}",
                key, self.name
            );
        }
    }
}

impl Hand {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            held: HashMap::new(),
        }
    }

    fn path(root: &Path, word: &str) -> PathBuf {
        let mut bytes = Vec::new();
        let mut rest = word;
        while let Some(c) = rest.chars().next() {
            if let Some(hex) = rest.strip_prefix("\\x").and_then(|rest| rest.get(..2)) {
                bytes.push(u8::from_str_radix(hex, 16).expect("two digits"));
                rest = &rest[4..];
            } else if let Some(inner) = rest.strip_prefix('{') {
                let (inner, after) = inner.split_once('}').expect("an end");
                let (what, n) = inner.split_once('*').expect("how often");
                bytes.extend(what.repeat(n.parse().expect("a number")).bytes());
                rest = after;
            } else {
                bytes.extend(c.to_string().bytes());
                rest = &rest[c.len_utf8()..];
            }
        }
        root.join(OsString::from_vec(bytes))
    }

    fn does(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let root = self.root.clone();
        let at = |n: usize| Self::path(&root, words[n]);
        let number = |n: usize| words[n].parse::<u64>().expect("a number");
        let bytes = |n: usize| vec![b'x'; number(n) as usize];
        let open = |n: usize| OpenOptions::new().write(true).open(at(n));
        match words[0] {
            "mkdir" => fs::create_dir_all(at(1)),
            "write" => fs::write(at(1), bytes(2)),
            "append" => OpenOptions::new()
                .append(true)
                .open(at(1))
                .and_then(|mut file| file.write_all(&bytes(2))),
            "truncate" => open(1).and_then(|file| file.set_len(number(2))),
            "mv" => fs::rename(at(1), at(2)),
            "exchange" => {
                renameat_with(CWD, at(1), CWD, at(2), RenameFlags::EXCHANGE).map_err(Into::into)
            }
            "ln" => fs::hard_link(at(1), at(2)),
            // What it points to is taken as it is written.
            "symlink" => symlink(words[1], at(2)),
            "rm" => fs::remove_file(at(1)),
            "rmtree" => fs::remove_dir_all(at(1)),
            "allocate" => {
                open(1).and_then(|f| Ok(fallocate(&f, FallocateFlags::empty(), 0, number(2))?))
            }
            "keep-size" => {
                open(1).and_then(|f| Ok(fallocate(&f, FallocateFlags::KEEP_SIZE, 0, number(2))?))
            }
            "punch" => {
                let hole = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE;
                open(1).and_then(|f| Ok(fallocate(&f, hole, 0, number(2))?))
            }
            // Seconds since 1970.
            "touch" => {
                let time = UNIX_EPOCH + Duration::from_secs(number(2));
                open(1).and_then(|file| file.set_modified(time))
            }
            "hold" => open(2).map(|file| {
                self.held.insert(words[1].to_owned(), file);
            }),
            // A file without a name, held, that is linked to its name afterwards.
            "unnamed" => {
                let dir = at(2);
                let dir = dir.parent().expect("below the root");
                openat(
                    CWD,
                    dir,
                    OFlags::TMPFILE | OFlags::WRONLY,
                    Mode::RUSR | Mode::WUSR,
                )
                .map_err(Into::into)
                .and_then(|fd| {
                    let itself = format!("/proc/self/fd/{}", fd.as_raw_fd());
                    linkat(CWD, itself, CWD, at(2), AtFlags::SYMLINK_FOLLOW)?;
                    self.held.insert(words[1].to_owned(), File::from(fd));
                    Ok(())
                })
            }
            "held" => {
                let body = bytes(2);
                self.held
                    .get_mut(words[1])
                    .expect("it is held")
                    .write_all(&body)
            }
            "drop" => {
                self.held.remove(words[1]);
                Ok(())
            }
            other => panic!("no such word: {other}"),
        }
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}
