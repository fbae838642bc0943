//! Random trees of each kind of layout: what `scan` says equals what a second implementation
//! says that is naive on purpose. It walks with plain `std::fs`, matches globs by trying, asks
//! for each name every other one, and shares nothing with the program but the words of its
//! design.

use crate::support::fixture::Scratch;
use crate::support::world::Dice;
use crate::support::{Done, housekeeper};
use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const TREES: u64 = 300;
const AT_ONCE: u64 = 8;
const KINDS: [&str; 4] = ["directories", "files", "sidecar", "catalog"];

/// Patterns of last names; each is written once more in [`taken`].
const NUMBERED: &str = "^s(?<created>[0-9])";
const WORDS: &str = "^[a-z]+(?<created>[0-9]*)$";
const HIDDEN: &str = "^\\.hidden";
const PATTERNS: [&str; 3] = [NUMBERED, WORDS, HIDDEN];

/// A layout in the few words that the naive one knows.
#[derive(Debug, Clone)]
struct Words {
    kind: &'static str,
    sessions: &'static str,
    pattern: Option<&'static str>,
    /// A file `startedat` has to be inside.
    has_marker: bool,
    required: bool,
    has_metadata: bool,
    /// Where times come from, in this order.
    from: Vec<Source>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Metadata,
    Name,
    Inode,
}

impl Words {
    fn of(dice: &mut Dice, kind: &'static str) -> Self {
        let by_name = matches!(kind, "directories" | "files");
        let pattern = (by_name && dice.percent(60)).then(|| *dice.pick(&PATTERNS));
        let sessions = match (kind, pattern) {
            ("directories", _) => *dice.pick(&["*", "*/*", "**/_uploads/*", "*/runs/*", "**/runs"]),
            ("files", None) => *dice.pick(&["*.log", "**/*.log", "a/*.log"]),
            ("files", Some(_)) => *dice.pick(&["*", "**", "**/*.log", "a/*"]),
            ("sidecar", _) => *dice.pick(&["*", "a/*", "**"]),
            _ => "*",
        };
        let has_metadata = kind != "files" || dice.percent(50);
        let mut from = Vec::new();
        if has_metadata {
            from.push(Source::Metadata);
        }
        if matches!(pattern, Some(NUMBERED | WORDS)) && dice.percent(50) {
            from.insert(dice.below(from.len() + 1), Source::Name);
        }
        if !has_metadata || (by_name && dice.percent(30)) {
            from.push(Source::Inode);
        }
        Self {
            kind,
            sessions,
            pattern,
            has_marker: kind == "directories" && dice.percent(30),
            required: kind != "directories" || dice.percent(60),
            has_metadata,
            from,
        }
    }

    fn toml(&self) -> String {
        let metadata = match (self.kind, self.has_metadata) {
            ("files", false) => "",
            ("files", true) => "metadata = \".\"\n",
            ("sidecar", _) => "metadata = \"{id}.json\"\n",
            _ => "metadata = \"metadata.json\"\n",
        };
        let pattern = self.pattern.map(|text| format!("pattern = '{text}'\n"));
        let marker = if self.has_marker {
            "marker = \"startedat\"\n"
        } else {
            ""
        };
        let from: Vec<&str> = self
            .from
            .iter()
            .map(|from| match from {
                Source::Metadata => "{ key = \"/created_at\" }",
                Source::Name => "{ name = \"created\", as = \"epoch_s\" }",
                Source::Inode => "\"mtime\"",
            })
            .collect();
        format!(
            "[root.layout]\nkind = {:?}\nsessions = {:?}\nrequired = {}\n{metadata}{}{marker}[root.layout.created_at]\nfrom = [{}]\n",
            self.kind,
            self.sessions,
            self.required,
            pattern.unwrap_or_default(),
            from.join(", "),
        )
    }
}

/// What the group `created` of a pattern has of a name that it takes, perhaps nothing.
fn taken<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    match pattern {
        NUMBERED => name.strip_prefix('s')?.get(..1).filter(is_number),
        WORDS => {
            let digits = name.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
            Some(digits)
                .filter(is_number)
                .filter(|_| digits.len() < name.len())
        }
        _ => name.starts_with(".hidden").then_some(""),
    }
}

/// What is compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    bytes: u64,
    n_unowned: u64,
    unowned: BTreeSet<String>,
    unowned_bytes: u64,
    /// By path, of a catalogue by id: bytes and time.
    sessions: BTreeMap<String, (u64, Option<String>)>,
    orphans: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Session(String),
    Catalogue,
    Unowned,
}

fn metadata(dice: &mut Dice) -> String {
    let created = match dice.below(9) {
        0 => return "{\"created_at\":".to_owned(),
        1 => return "{}".to_owned(),
        2 => json!(7),
        3 => json!("soon"),
        4 => json!(format!("2026-02-{:02}T12:00:00+09:00", 1 + dice.below(28))),
        5 => json!(format!("2026-02-{:02}T12:00:00Z", 1 + dice.below(28))),
        6 => json!(format!("2026-02-{:02}T12:00:00.123456", 1 + dice.below(28))),
        _ => json!(format!("2026-01-{:02}T01:02:03", 1 + dice.below(28))),
    };
    json!({ "created_at": created }).to_string()
}

fn catalogue(dice: &mut Dice) -> String {
    let mut entries = Vec::new();
    for id in ["s0", "s1", "s2", "s3", "s4"] {
        if dice.percent(60) {
            let text = metadata(dice);
            let entry: Value = serde_json::from_str(&text).unwrap_or(json!({}));
            let format = *dice.pick(&["log", "json", "WAV"]);
            let mut entry = entry.as_object().expect("an object").clone();
            entry.insert("format".to_owned(), json!(format));
            entries.push(format!("{}: {}", json!(id), Value::Object(entry)));
        }
    }
    format!("{{{}}}", entries.join(",\n"))
}

/// Fills a directory with what may or may not be sessions.
fn grow(dice: &mut Dice, dir: &Path, depth: usize, words: &Words) {
    for _ in 0..3 + dice.below(6) {
        let name = *dice.pick(&[
            "a",
            "runs",
            "_uploads",
            "s0",
            "s1",
            "s2",
            "s3.log",
            "s3.json",
            "s1.log",
            "s1.json",
            "s2.wav",
            "s0.json",
            "s0.log",
            ".hidden",
            ".hidden.log",
            "lost+found",
            "notes.txt",
            "s4.tar.gz",
            "metadata.json",
            "startedat",
        ]);
        let path = dir.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match dice.below(12) {
            0..=3 if depth < 4 => {
                fs::create_dir(&path).expect("made");
                grow(dice, &path, depth + 1, words);
            }
            4 => std::os::unix::fs::symlink("/etc/hostname", &path).expect("linked"),
            5 => {
                let other = dir.join("s1.log");
                if other.is_file() {
                    fs::hard_link(other, &path).expect("linked");
                }
            }
            _ => fs::write(&path, vec![b'x'; dice.below(3000)]).expect("written"),
        }
    }
    let is_root = depth == 0;
    let marker = dir.join("startedat");
    if words.has_marker && dice.percent(60) && fs::symlink_metadata(&marker).is_err() {
        fs::write(marker, "").expect("written");
    }
    let names: Vec<String> = list(dir).into_iter().map(|(name, _)| name).collect();
    for name in names {
        let path = dir.join(&name);
        let is_metadata = match words.kind {
            "directories" => name == "metadata.json",
            "files" => name.ends_with(".log") || words.pattern.is_some(),
            "sidecar" => name.ends_with(".json"),
            _ => false,
        };
        if is_metadata && path.is_file() && !path.is_symlink() && dice.percent(80) {
            fs::write(&path, metadata(dice)).expect("written");
        }
    }
    if words.kind == "catalog" && is_root {
        let path = dir.join("metadata.json");
        if path.is_dir() {
            fs::remove_dir_all(&path).expect("removed");
        } else if fs::symlink_metadata(&path).is_ok() {
            fs::remove_file(&path).expect("removed");
        }
        fs::write(path, catalogue(dice)).expect("written");
    }
}

fn list(dir: &Path) -> Vec<(String, fs::Metadata)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let meta = fs::symlink_metadata(entry.path()).expect("there");
            (entry.file_name().into_string().expect("text"), meta)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Whether a glob matches all of a path, or could match something below it. `shown`: its last
/// name is no hidden one, whatever it begins with.
fn matches(glob: &[&str], path: &[&str], below: bool, shown: bool) -> bool {
    let Some((name, rest)) = path.split_first() else {
        return if below {
            !glob.is_empty()
        } else {
            glob.is_empty()
        };
    };
    let Some((first, others)) = glob.split_first() else {
        return false;
    };
    let is_shown = shown && rest.is_empty();
    let hidden = !is_shown && (name.starts_with('.') || *name == "lost+found");
    let go_on = |glob: &[&str], path: &[&str]| matches(glob, path, below, shown);
    match *first {
        "**" => {
            let is_last = others.is_empty();
            (!is_last && go_on(others, path))
                || (!hidden && go_on(glob, rest))
                || (!hidden && is_last && rest.is_empty())
        }
        "*" => !hidden && go_on(others, rest),
        "*.log" => !hidden && name.ends_with(".log") && go_on(others, rest),
        literal => literal == *name && go_on(others, rest),
    }
}

/// Whether sessions may lie below a path.
fn leads_to_sessions(words: &Words, path: &str) -> bool {
    let glob: Vec<&str> = words.sessions.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    matches(&glob, &path, true, false)
}

/// Whether the glob and the pattern take a path. A pattern that writes a dot shows what begins
/// with one.
fn is_match(words: &Words, path: &str) -> bool {
    let glob: Vec<&str> = words.sessions.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    let is_taken = words
        .pattern
        .is_none_or(|pattern| taken(pattern, path.last().expect("a name")).is_some());
    is_taken && matches(&glob, &path, false, words.pattern == Some(HIDDEN))
}

/// The id of a name beside a sidecar.
fn id_of(name: &str) -> &str {
    name.rfind('.')
        .filter(|at| *at > 0 && at + 1 < name.len())
        .map_or(name, |at| &name[..at])
}

fn time_of(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
    let time = time
        .ok()
        .or_else(|| naive.ok().map(|naive| naive.and_utc()))?;
    Some(time.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

fn shown_time(seconds: i64, nanos: i64) -> Option<String> {
    let nanos = u32::try_from(nanos).expect("below a second");
    let time = DateTime::<Utc>::from_timestamp(seconds, nanos)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

struct Naive<'a> {
    root: &'a Path,
    words: &'a Words,
    entries: serde_json::Map<String, Value>,
    files: Vec<(String, fs::Metadata, Owner)>,
    count: Count,
}

impl Naive<'_> {
    fn walk(&mut self, dir: &str, owner: Option<&Owner>) {
        for (name, meta) in list(&self.root.join(dir)) {
            let path = if dir.is_empty() {
                name.clone()
            } else {
                format!("{dir}/{name}")
            };
            if path == ".housekeeper" {
                continue;
            }
            let own = match owner {
                Some(owner) => Some(owner.clone()),
                None => self.owner(&path, &name, &meta),
            };
            if owner.is_none() && own == Some(Owner::Unowned) {
                self.count.n_unowned += 1;
                self.count.unowned.insert(path.clone());
            }
            if meta.is_dir() {
                self.walk(&path, own.as_ref());
            } else if meta.is_file() {
                self.files.push((path, meta, own.expect("no container")));
            }
        }
    }

    fn owner(&self, path: &str, name: &str, meta: &fs::Metadata) -> Option<Owner> {
        let words = self.words;
        let is_match = is_match(words, path);
        match words.kind {
            "directories" if meta.is_dir() && is_match => {
                let is_marked = self.text(&format!("{path}/startedat")).is_some();
                let is_session = is_marked || !words.has_marker;
                Some(if is_session {
                    Owner::Session(path.to_owned())
                } else {
                    Owner::Unowned
                })
            }
            "catalog" => Some(self.catalogue_owner(name, meta)),
            _ if meta.is_dir() && leads_to_sessions(words, path) => None,
            "files" if meta.is_file() && is_match => Some(Owner::Session(path.to_owned())),
            "sidecar" if meta.is_file() && is_match => {
                let above = &path[..path.len() - name.len()];
                Some(Owner::Session(format!("{above}{}", id_of(name))))
            }
            _ => Some(Owner::Unowned),
        }
    }

    fn catalogue_owner(&self, name: &str, meta: &fs::Metadata) -> Owner {
        if name == "metadata.json" {
            return Owner::Catalogue;
        }
        let hidden = name.starts_with('.');
        let is_blob = name.trim_end_matches('.').contains('.') && !hidden && meta.is_file();
        if !is_blob {
            return Owner::Unowned;
        }
        for (id, entry) in &self.entries {
            let format = entry["format"].as_str().expect("text").to_lowercase();
            if name == format!("{id}.{format}") {
                return Owner::Session(id.clone());
            }
        }
        // An orphan is its own.
        Owner::Session(name.to_owned())
    }

    /// The bytes of all names of which `is_it` says yes, each inode once.
    fn sum(&self, is_it: impl Fn(&Owner) -> bool) -> u64 {
        let mut seen = BTreeSet::new();
        let mine = self.files.iter().filter(|(_, _, owner)| is_it(owner));
        mine.filter(|(_, meta, _)| seen.insert(meta.ino()))
            .map(|(_, meta, _)| meta.size())
            .sum()
    }

    fn text(&self, path: &str) -> Option<String> {
        let path = self.root.join(path);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
        is_file.then(|| fs::read_to_string(path).expect("text"))
    }

    fn created(&self, key: &str) -> Option<String> {
        let words = self.words;
        let entry = match words.kind {
            "catalog" => Some(self.entries.get(key)?.clone()),
            _ => self.entry_in(key)?,
        };
        let name = key.rsplit('/').next().expect("a name");
        for from in &words.from {
            match from {
                Source::Metadata => match entry.as_ref().map_or(&Value::Null, |e| &e["created_at"])
                {
                    Value::Null => {}
                    value => return time_of(value),
                },
                Source::Name => match taken(words.pattern?, name)? {
                    "" => {}
                    digits => return shown_time(digits.parse().expect("a number"), 0),
                },
                Source::Inode => {
                    let meta = fs::symlink_metadata(self.root.join(key)).expect("there");
                    return shown_time(meta.mtime(), meta.mtime_nsec());
                }
            }
        }
        None
    }

    /// What the metadata of a session says; nothing where there is none and none has to be.
    /// `None`: it cannot be read, so nothing else is asked.
    fn entry_in(&self, key: &str) -> Option<Option<Value>> {
        let path = match self.words.kind {
            _ if !self.words.has_metadata => return Some(None),
            "directories" => format!("{key}/metadata.json"),
            "sidecar" => format!("{key}.json"),
            _ => key.to_owned(),
        };
        let is_there = fs::symlink_metadata(self.root.join(&path)).is_ok();
        if !is_there && !self.words.required {
            return Some(None);
        }
        let value: Value = serde_json::from_str(&self.text(&path)?).ok()?;
        value.is_object().then_some(Some(value))
    }

    /// Where people look for a session: its first name that is no metadata.
    fn shown(&self, key: &str) -> String {
        if self.words.kind != "sidecar" {
            return key.to_owned();
        }
        let owner = Owner::Session(key.to_owned());
        let names = self.files.iter().filter(|(_, _, of)| *of == owner);
        let names: Vec<&String> = names.map(|(path, _, _)| path).collect();
        let data = names.iter().find(|path| ***path != format!("{key}.json"));
        (**data.unwrap_or(&names[0])).clone()
    }

    fn count(mut self) -> Count {
        self.walk("", None);
        let mut keys: BTreeSet<String> = self.entries.keys().cloned().collect();
        for (_, _, owner) in &self.files {
            if let Owner::Session(key) = owner {
                keys.insert(key.clone());
            }
        }
        // The directories that hold no file are sessions, too.
        if self.words.kind == "directories" {
            self.empty_sessions("", &mut keys);
        }
        for key in &keys {
            let owner = Owner::Session(key.clone());
            let bytes = self.sum(|of| *of == owner);
            let is_orphan = match self.words.kind {
                "catalog" => !self.entries.contains_key(key),
                "sidecar" => {
                    let mine = self.files.iter().filter(|(_, _, of)| *of == owner);
                    let sidecar = format!("{key}.json");
                    // One that is no regular file is metadata that cannot be read.
                    let there = fs::symlink_metadata(self.root.join(&sidecar)).is_ok();
                    !mine.into_iter().any(|(path, _, _)| *path == sidecar) && !there
                }
                _ => false,
            };
            let shown = self.shown(key);
            if is_orphan {
                self.count.orphans.insert(shown, bytes);
            } else {
                let created = self.created(key);
                self.count.sessions.insert(shown, (bytes, created));
            }
        }
        self.count.bytes = self.sum(|owner| *owner != Owner::Unowned);
        self.count.unowned_bytes = self.sum(|_| true) - self.count.bytes;
        self.count
    }

    fn empty_sessions(&self, dir: &str, keys: &mut BTreeSet<String>) {
        for (name, meta) in list(&self.root.join(dir)) {
            let path = if dir.is_empty() {
                name.clone()
            } else {
                format!("{dir}/{name}")
            };
            match self.owner(&path, &name, &meta) {
                Some(Owner::Session(key)) => {
                    keys.insert(key);
                }
                Some(Owner::Catalogue | Owner::Unowned) => {}
                None => self.empty_sessions(&path, keys),
            }
        }
    }
}

fn said(root: &Value, words: &Words) -> Count {
    let number = |value: &Value| value.as_u64().expect("a number");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let time = |value: &Value| {
        let time = DateTime::parse_from_rfc3339(value.as_str()?).expect("a time");
        Some(time.to_utc().to_rfc3339_opts(SecondsFormat::Nanos, true))
    };
    let shown = if words.kind == "catalog" {
        "id"
    } else {
        "path"
    };
    let sessions = root["sessions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|session| {
            let key = text(&session[shown]).expect("a name");
            (
                key,
                (number(&session["bytes"]), time(&session["created_at"])),
            )
        });
    let orphans = root["anomalies"].as_array().expect("a list").iter();
    let orphans = orphans
        .filter(|anomaly| anomaly["kind"] == "orphan_blob")
        .map(|anomaly| {
            (
                text(&anomaly["path"]).expect("a path"),
                number(&anomaly["bytes"]),
            )
        });
    let unowned = root["anomalies"].as_array().expect("a list").iter();
    let unowned = unowned
        .filter(|anomaly| anomaly["kind"] == "unowned")
        .map(|anomaly| text(&anomaly["path"]).expect("a path"));
    Count {
        bytes: number(&root["bytes"]),
        n_unowned: number(&root["unowned"]["entries"]),
        unowned: unowned.collect(),
        unowned_bytes: number(&root["unowned"]["bytes"]),
        sessions: sessions.collect(),
        orphans: orphans.collect(),
    }
}

fn compare(seed: u64, kind: &'static str) {
    let mut dice = Dice::new(seed);
    let words = Words::of(&mut dice, kind);
    let scratch = Scratch::new();
    grow(&mut dice, &scratch.root(), 0, &words);
    let config = scratch.path("config.toml");
    let text = format!(
        "[agent]\nstate_dir = {:?}\n[[root]]\npath = {:?}\n{}",
        scratch.path("state"),
        scratch.root(),
        words.toml()
    );
    fs::write(&config, text).expect("written");
    let mut scan = housekeeper();
    scan.args(["scan", "--json", "--config"]).arg(&config);
    let done = Done::of(scan.output().expect("runs"));
    assert_eq!(done.code, 0, "{done:?}");
    let entries = fs::read_to_string(scratch.root().join("metadata.json"));
    let entries = entries.ok().filter(|_| kind == "catalog");
    let naive = Naive {
        root: &scratch.root(),
        words: &words,
        entries: entries.map_or_else(serde_json::Map::new, |text| {
            serde_json::from_str(&text).expect("an object")
        }),
        files: Vec::new(),
        count: Count::default(),
    };
    let root = done.root();
    assert_eq!(
        said(&root, &words),
        naive.count(),
        "seed {seed}: {words:?}\n{root:#}"
    );
}

fn all(kind: usize) {
    let first = kind as u64 * 1_000_000;
    if let Ok(seed) = std::env::var("TREE_SEED") {
        let seed: u64 = seed.parse().expect("a number");
        if seed / 1_000_000 == kind as u64 {
            compare(seed, KINDS[kind]);
        }
        return;
    }
    // What is young and in no form that is known is read for a second: they wait side by side.
    std::thread::scope(|scope| {
        for nth in 0..AT_ONCE {
            scope.spawn(move || {
                let seeds = (first + nth..first + TREES).step_by(AT_ONCE as usize);
                seeds.for_each(|seed| compare(seed, KINDS[kind]));
            });
        }
    });
}

#[test]
fn directories_as_a_naive_count_has_them() {
    all(0);
}

#[test]
fn files_as_a_naive_count_has_them() {
    all(1);
}

#[test]
fn sidecars_as_a_naive_count_has_them() {
    all(2);
}

#[test]
fn catalogues_as_a_naive_count_has_them() {
    all(3);
}
