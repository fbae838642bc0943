//! SIGKILL at random moments of a prune: a session is in the tree whole or not at all, and the
//! next start finishes what was decided.

#![expect(
    clippy::print_stdout,
    reason = "seeds, figures and skipped parts are for who reads the run"
)]

use crate::support::recount;
use crate::support::running::{Agent, Dice, Place, make_session, wait_for};
use housekeeper::model::report::AsideName;
use housekeeper::model::seen::FileId;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

const N_FILES: u32 = 60;
const FILE: usize = 300;

/// Waits until one of `names` is no longer in the root, then so long, then kills.
fn kill_after_one_vanished(
    agent: &mut Agent<'_>,
    root: &Path,
    names: &BTreeSet<String>,
    dice: &mut Dice,
) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while names.iter().all(|name| root.join(name).exists()) {
        assert!(Instant::now() < deadline, "nothing was pruned");
        std::hint::spin_loop();
    }
    // Most within the first milliseconds, some at once, a few much later.
    let micros = match dice.below(10) {
        0 => 0,
        1..=7 => dice.below(3_000),
        8 => dice.below(10_000),
        _ => dice.below(60_000),
    };
    let until = Instant::now() + Duration::from_micros(micros);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    agent.kill();
}

fn assert_whole(root: &Path) {
    for name in recount::sessions(root) {
        let dir = root.join(&name);
        let entries = fs::read_dir(&dir).expect("a session").count();
        assert_eq!(entries as u32, N_FILES + 1, "{name} is half there");
        for n in 0..N_FILES {
            let meta = fs::metadata(dir.join(format!("f{n:04}"))).expect("a file");
            assert_eq!(meta.len(), FILE as u64, "{name}");
        }
    }
}

#[test]
fn a_killed_agent_leaves_no_half_session() {
    const KEPT: usize = 3;
    const SEED: u64 = 20_261_122;
    println!("seed: {SEED}");
    let mut dice = Dice::new(SEED);
    let place = Place::new();
    let session = u64::from(N_FILES) * FILE as u64 + 100;
    place.configure(&format!(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
         [root.limits]\nmax_size = {}\n[root.protect]\nquiet = \"0s\"",
        session * KEPT as u64
    ));
    let staging = place.beside("staging");
    let mut n_next = 0;
    let mut n_unfinished = 0;
    for round in 0..200 {
        while recount::sessions(&place.root).len() < KEPT + 3 {
            let name = format!("s{n_next:06}");
            make_session(
                &place.root,
                &staging,
                &name,
                1_000_000 - n_next,
                (N_FILES, FILE),
            );
            n_next += 1;
        }
        let before = recount::sessions(&place.root);
        let mut agent = place.spawn_agent();
        kill_after_one_vanished(&mut agent, &place.root, &before, &mut dice);
        assert_whole(&place.root);
        let after = recount::sessions(&place.root);
        let newest: BTreeSet<_> = before.iter().rev().take(after.len()).cloned().collect();
        assert_eq!(after, newest, "only the oldest may be gone");
        assert!(after.len() >= KEPT);
        n_unfinished += usize::from(!place.trash().is_empty());
        if round % 20 == 19 {
            finishes(&place);
        }
    }
    println!("{n_unfinished} of 200 kills left something in the trash");
    assert!(n_unfinished > 20, "the kills come too late: {n_unfinished}");
}

/// The next start: the trash is emptied, what is left is exact and within the limit.
fn finishes(place: &Place) {
    let agent = place.agent();
    wait_for("an empty trash", || match place.trash() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    agent.until("exact figures within the limit", |root| {
        root["bytes"].as_u64() <= root["limit_bytes"].as_u64()
            && root["bytes"] == recount::directories(&place.root).apparent
    });
    assert_whole(&place.root);
    assert_eq!(agent.stop(), Some(0));
}

const BLOB: usize = 20_000;

/// Adds sessions of two blobs each to a catalogue root; the catalogue is written last.
fn fill_catalogue(root: &Path, n_next: &mut i64, n_wanted: usize) {
    let path = root.join("metadata.json");
    let mut entries: Map<String, Value> = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).expect("the catalogue parses"),
        Err(_) => Map::new(),
    };
    while entries.len() < n_wanted {
        let id = format!("id{n_next:06}");
        let minutes = chrono::TimeDelta::minutes(1_000_000 - *n_next);
        let created = (chrono::Utc::now() - minutes).to_rfc3339();
        for end in ["a", "b"] {
            fs::write(root.join(format!("{id}.{end}")), [b'x'; BLOB]).expect("a blob");
        }
        entries.insert(
            id,
            json!({ "created_at": created, "note": "n".repeat(300) }),
        );
        *n_next += 1;
    }
    // Written beside and renamed: the owner here never leaves a half catalogue of its own.
    let new = root.join(".metadata.new");
    fs::write(&new, serde_json::to_vec_pretty(&entries).expect("JSON")).expect("space");
    fs::rename(new, path).expect("it is replaced");
}

/// Ids with the ends of their blobs that are there; each blob is whole.
fn blobs(root: &Path) -> std::collections::BTreeMap<String, String> {
    let mut found: std::collections::BTreeMap<String, String> = Default::default();
    for entry in fs::read_dir(root).expect("the root").filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((id, end)) = name.split_once('.').filter(|(id, _)| id.starts_with("id")) {
            let len = entry.metadata().map(|meta| meta.len());
            assert_eq!(len.ok(), Some(BLOB as u64), "{name} is half there");
            found.entry(id.to_owned()).or_default().push_str(end);
        }
    }
    found
}

fn listed(root: &Path) -> Option<BTreeSet<String>> {
    let text = fs::read(root.join("metadata.json")).expect("a catalogue");
    let entries: Map<String, Value> = serde_json::from_slice(&text).ok()?;
    Some(entries.keys().cloned().collect())
}

#[test]
fn a_killed_agent_leaves_no_half_blob_and_the_next_start_takes_the_entries_out() {
    const KEPT: usize = 12;
    const SEED: u64 = 7_654_321;
    println!("seed: {SEED}");
    let mut dice = Dice::new(SEED);
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nkind = \"catalog\"\nmetadata = \"metadata.json\"\n\
         blobs = [\"{{id}}.a\", \"{{id}}.b\"]\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
         [root.limits]\nmax_size = {}\n[root.protect]\nquiet = \"0s\"",
        2 * BLOB * KEPT + 30_000
    ));
    let root = &place.root;
    let mut n_next = 0;
    let (mut n_torn, mut n_open) = (0, 0);
    for round in 0..60 {
        fill_catalogue(root, &mut n_next, KEPT + 8);
        let before: BTreeSet<String> = blobs(root).into_keys().map(|id| id + ".a").collect();
        let mut agent = place.spawn_agent();
        kill_after_one_vanished(&mut agent, root, &before, &mut dice);
        blobs(root);
        match listed(root) {
            None => n_torn += 1,
            Some(ids) => n_open += usize::from(ids.iter().any(|id| !blobs(root).contains_key(id))),
        }
        next_start_is_whole(&place, round);
    }
    println!("of 60 kills {n_torn} tore the catalogue, {n_open} left entries without blobs");
    assert!(n_open > 5, "the kills come too late: {n_open}");
}

/// After the next start every entry has both blobs, every blob has its entry, and the
/// catalogue parses.
fn next_start_is_whole(place: &Place, round: usize) {
    let agent = place.agent();
    wait_for("entries and blobs that belong together", || {
        let ids = listed(&place.root);
        let blobs = blobs(&place.root);
        let whole = ids.as_ref().is_some_and(|ids| {
            ids.iter().eq(blobs.keys()) && blobs.values().all(|ends| ends.len() == 2)
        });
        let trash = place.trash();
        if whole && trash.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "round {round}: {ids:?} {blobs:?} {trash:?}\n{}",
                place.log()
            ))
        }
    });
    assert_eq!(agent.stop(), Some(0));
}

/// What a killed run set aside takes space until it is removed: it is in the peak, and where it is
/// much it is removed by all means.
#[test]
fn what_a_killed_run_left_in_the_trash_is_counted() {
    const BYTES: usize = 300_000;
    let place = Place::in_memory();
    place.configure(
        "[root.layout]\nmetadata = \"metadata.json\"\n[root.limits]\nmax_size = \"1MiB\"",
    );
    let agent = place.agent();
    assert_eq!(agent.stop(), Some(0));
    let trash = place.root.join(".housekeeper/trash");
    for n in 0..200 {
        let made = place.beside("left");
        fs::create_dir_all(made.join("deep")).expect("made");
        fs::write(made.join("deep/data"), vec![b'x'; BYTES]).expect("written");
        let meta = fs::metadata(&made).expect("there");
        let id = FileId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        let name = AsideName::new(&format!("01ARZ3NDEKTSV4RRFFQ69G{n:04}"), id);
        fs::rename(&made, trash.join(&name.0)).expect("set aside");
    }
    let agent = place.agent();
    agent.until("an empty trash", |root| {
        root["trash_bytes"] == 0 && place.trash().is_empty()
    });
    let peak = agent.root()["peak_bytes"].as_u64();
    assert!(peak >= Some(64 * BYTES as u64), "{peak:?}");
    assert_eq!(agent.stop(), Some(0));
}
