//! The architecture as a table: which module may name which, and who may touch the world.
//!
//! Tried with these deliberate breaches, each of which failed with its file and line:
//! `use crate::agent::root::Handle;` in `engine/mod.rs` (a higher floor), `use crate::disk::tree;`
//! in `prune/lock.rs` (a sibling), `use crate::{model, engine};` anywhere (a group hides names),
//! `std::fs::read` in `engine/looking.rs`, `Utc::now()` in `agent/root.rs`, `std::env::var` in
//! `agent/root.rs`, `mpsc::channel()` in `watch/inotify.rs`, `std::process::exit(1)` in
//! `cli/mod.rs`, `anyhow::Result` in `agent/root.rs`, `use crate::model::plan::*;` in
//! `policy/mod.rs`, and a file without its first `//!` line.

use std::fs;
use std::path::{Path, PathBuf};

/// Module and floor. Who lives on a floor names modules on lower floors and itself; siblings
/// meet in `model`.
const FLOORS: &[(&str, u32)] = &[
    ("model", 0),
    ("layout", 1),
    ("index", 1),
    ("policy", 1),
    ("schedule", 1),
    ("report", 1),
    ("engine", 2),
    ("clock", 3),
    ("sched", 3),
    ("disk", 3),
    ("watch", 3),
    ("prune", 3),
    ("store", 3),
    ("config", 3),
    ("telemetry", 3),
    ("notify", 3),
    ("service", 3),
    ("agent", 4),
    ("client", 4),
    ("http", 5),
    ("cli", 5),
    ("main", 6),
    ("lib", 6),
];

/// What touches the world, and the places that may.
struct Reserved {
    what: &'static str,
    words: &'static [&'static str],
    /// Beginnings of paths below `src/`, each with its reason where the design has none.
    places: &'static [&'static str],
}

const RESERVED: &[Reserved] = &[
    Reserved {
        what: "the file system",
        words: &[
            "std::fs",
            "rustix::fs",
            "tokio::fs",
            "libc::open",
            "libc::unlink",
            "libc::rename",
            "UnixListener::bind",
        ],
        places: &[
            "disk/",
            "watch/",
            "store/",
            "prune/lock.rs",
            "prune/lock/",
            "config/",
            // What waits to be sent must stay where the store is broken.
            "notify/outbox.rs",
            // The demonstration makes and removes a scratch directory of its own, and writes
            // there as strangers would.
            "cli/demo.rs",
            "cli/demo/scratch.rs",
            "cli/demo/writers.rs",
        ],
    },
    Reserved {
        what: "the wall clock",
        words: &["Utc::now", "Local::now", "SystemTime::now"],
        places: &[
            "clock.rs",
            // The demonstration's writers are strangers to the agent and date their sessions
            // themselves.
            "cli/demo/writers.rs",
        ],
    },
    Reserved {
        what: "the environment",
        words: &["std::env", "env::var", "env::args"],
        places: &["cli/", "config/", "main.rs"],
    },
    Reserved {
        what: "the end of the process",
        words: &[
            "process::exit",
            "process::abort",
            "libc::exit",
            "libc::_exit",
        ],
        places: &["main.rs"],
    },
    Reserved {
        what: "errors that end the program",
        words: &["anyhow"],
        places: &["cli/", "main.rs"],
    },
    Reserved {
        // Whoever receives, or asks whether there is anything, spins for a sender that it
        // preempted: none where an engine's thread comes by (decision 8).
        what: "channels",
        words: &["mpsc", "crossbeam_channel"],
        places: &[
            "notify/",
            "store/",
            "http/",
            "agent/control.rs",
            "agent/jobs.rs",
            "agent/kept.rs",
            "agent/registry.rs",
            "agent/registry/",
            "agent/root.rs",
            "agent/service.rs",
            "cli/demo.rs",
        ],
    },
    Reserved {
        what: "printing",
        words: &["io::stdout", "println!", "print!", "eprintln!", "eprint!"],
        places: &["cli/"],
    },
];

/// One line of code: no comment, not below `#[cfg(test)]`.
struct Line {
    /// Below `src/`.
    file: String,
    number: usize,
    text: String,
    is_test: bool,
}

fn sources() -> Vec<PathBuf> {
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).expect("a source directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() > 50, "the sources were not found");
    files
}

fn below_src(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let path = path.strip_prefix(src).expect("below src");
    path.to_str().expect("UTF-8").to_owned()
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for path in sources() {
        let file = below_src(&path);
        // Unit tests are the last thing in a file, or files of their own.
        let mut is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
        let text = fs::read_to_string(&path).expect("a source file");
        for (at, line) in text.lines().enumerate() {
            is_test |= line.trim() == "#[cfg(test)]" && !line.starts_with(' ');
            let code = line.split("//").next().unwrap_or("").to_owned();
            lines.push(Line {
                file: file.clone(),
                number: at + 1,
                text: code,
                is_test,
            });
        }
    }
    lines
}

fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or(file)
}

fn floor(module: &str) -> Option<u32> {
    let place = FLOORS.iter().find(|(name, _)| *name == module);
    place.map(|(_, floor)| *floor)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn modules_name_lower_floors_only() {
    let mut breaches = Vec::new();
    for line in lines() {
        let at = format!("src/{}:{}", line.file, line.number);
        let own = module(&line.file);
        let Some(own_floor) = floor(own) else {
            breaches.push(format!("{at}: `{own}` is on no floor"));
            continue;
        };
        for (start, word) in line.text.match_indices("crate::") {
            let before = line.text[..start].chars().next_back();
            if before.is_some_and(is_word) {
                continue;
            }
            let rest = &line.text[start + word.len()..];
            let named: String = rest.chars().take_while(|c| is_word(*c)).collect();
            match floor(&named) {
                _ if named == own => {}
                Some(floor) if floor < own_floor => {}
                Some(_) => breaches.push(format!("{at}: `{own}` may not name `{named}`")),
                None => breaches.push(format!("{at}: `{named}{{` names no module by itself")),
            }
        }
        if line.text.contains("super::super") {
            breaches.push(format!("{at}: write `crate::`"));
        }
    }
    none(&breaches);
}

#[test]
fn the_world_is_touched_in_its_places_only() {
    let mut breaches = Vec::new();
    for line in lines().iter().filter(|line| !line.is_test) {
        for reserved in RESERVED {
            let allowed = reserved.places.iter().any(|p| line.file.starts_with(p));
            let word = reserved.words.iter().find(|w| has_word(&line.text, w));
            if let (false, Some(word)) = (allowed, word) {
                breaches.push(format!(
                    "src/{}:{}: {} (`{word}`) has its places: {}",
                    line.file,
                    line.number,
                    reserved.what,
                    reserved.places.join(", ")
                ));
            }
        }
    }
    none(&breaches);
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[test]
fn names_are_imported_one_by_one() {
    let mut breaches = Vec::new();
    for line in lines().iter().filter(|line| !line.is_test) {
        let used = line.text.trim_start();
        let is_import = used.starts_with("use ") || used.starts_with("pub use ");
        if line.text.contains("::*") || (is_import && line.text.contains("prelude")) {
            breaches.push(format!("src/{}:{}: a glob", line.file, line.number));
        }
    }
    none(&breaches);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut breaches = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a source file");
        if !text.starts_with("//! ") {
            breaches.push(format!("src/{}:1: no `//!`", below_src(&path)));
        }
    }
    none(&breaches);
}
