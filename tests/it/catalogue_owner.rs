//! A catalogue's owner that saves without locks, as the real one does: the agent takes entries
//! out beside it and loses none of its saves.

use crate::support::running::{PATIENCE, Place, wait_for};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const BLOB: usize = 4000;
const KEPT: usize = 20;

fn configure(place: &Place) {
    place.configure(&format!(
        "preset = \"gofr-dig\"\n[root.limits]\nmax_size = {}\n[root.protect]\nquiet = \"0s\"",
        (BLOB + 150) * KEPT
    ));
}

fn listed(root: &Path) -> Option<Map<String, Value>> {
    serde_json::from_slice(&fs::read(root.join("metadata.json")).ok()?).ok()
}

fn has_blob(root: &Path, id: &str) -> bool {
    root.join(format!("{id}.json")).exists()
}

/// What the owner does, as a program of its own: it reads the catalogue, adds one session and
/// writes the whole file anew, without any lock. It says afterwards what it saved.
const OWNER: &str = r#"
import datetime, json, os, sys
root, n, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
path = os.path.join(root, "metadata.json")
for i in range(n):
    sid = "sess%05d" % i
    with open(os.path.join(root, sid + ".json"), "w") as f:
        f.write("x" * size)
    entries = {}
    if os.path.exists(path):
        with open(path) as f:
            entries = json.load(f)
    at = datetime.datetime(2024, 1, 1) + datetime.timedelta(minutes=i)
    entries[sid] = {"id": sid, "format": "json", "created_at": at.isoformat()}
    with open(path, "w") as f:
        json.dump(entries, f, indent=2)
    with open(path) as f:
        if sid not in json.load(f):
            print("LOST", sid, flush=True)
print("DONE", flush=True)
"#;

fn has_python() -> bool {
    Command::new("python3")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The same without python, in this process.
fn own_saves(root: &Path, n: usize) -> String {
    use std::fmt::Write as _;
    let mut said = String::new();
    let path = root.join("metadata.json");
    for i in 0..n {
        let id = format!("sess{i:05}");
        fs::write(root.join(format!("{id}.json")), vec![b'x'; BLOB]).expect("a blob");
        let mut entries = listed(root).unwrap_or_default();
        let at = format!("2024-01-01T{:02}:{:02}:00", i / 60, i % 60);
        entries.insert(
            id.clone(),
            json!({ "id": id, "format": "json", "created_at": at }),
        );
        fs::write(&path, serde_json::to_vec(&entries).expect("JSON")).expect("space");
        if !listed(root).is_some_and(|entries| entries.contains_key(&id)) {
            writeln!(said, "LOST {id}").expect("a string");
        }
    }
    said + "DONE\n"
}

/// Every session that was saved is whole, or gone with its entry; none of the newest is gone.
fn nothing_lost(place: &Place, n: usize) {
    let root = &place.root;
    wait_for(
        "entries and blobs that belong together, within the limit",
        || {
            let entries = listed(root).ok_or("it does not parse")?;
            let state: Vec<(usize, bool, bool)> = (0..n)
                .map(|i| {
                    let id = format!("sess{i:05}");
                    (i, entries.contains_key(&id), has_blob(root, &id))
                })
                .collect();
            let odd = state.iter().find(|(_, entry, blob)| entry != blob);
            let n_there = state.iter().filter(|(_, entry, _)| *entry).count();
            let newest = state.iter().rev().take(n_there).all(|(_, entry, _)| *entry);
            if odd.is_none() && newest && n_there > 0 && n_there < n {
                return Ok(());
            }
            Err(format!(
                "odd {odd:?}, {n_there} there, newest {newest}\n{}",
                place.log()
            ))
        },
    );
}

#[test]
fn an_owner_that_saves_without_locks_loses_none_of_its_saves() {
    const N: usize = 400;
    let place = Place::new();
    configure(&place);
    let agent = place.agent();
    let said = if has_python() {
        let output = Command::new("python3")
            .args(["-c", OWNER])
            .arg(&place.root)
            .args([N.to_string(), BLOB.to_string()])
            .output()
            .expect("python starts");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "the owner met a broken catalogue: {complaint}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    } else {
        own_saves(&place.root, N)
    };
    assert_eq!(said, "DONE\n", "saves were lost");
    nothing_lost(&place, N);
    let pruned = agent.root()["pruned"]["sessions"].as_u64();
    assert!(pruned >= Some(N as u64 - KEPT as u64 - 1), "{pruned:?}");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn entries_that_the_owner_writes_back_are_taken_out_again() {
    let place = Place::new();
    configure(&place);
    let root = &place.root;
    assert_eq!(own_saves(root, 60), "DONE\n");
    let whole = fs::read(root.join("metadata.json")).expect("a catalogue");
    let agent = place.agent();
    nothing_lost(&place, 60);
    // From its memory, all of them, many times over.
    for _ in 0..20 {
        fs::write(root.join("metadata.json"), &whole).expect("space");
        nothing_lost(&place, 60);
    }
    // Also by an agent that was not there when they were taken out.
    assert_eq!(agent.stop(), Some(0));
    fs::write(root.join("metadata.json"), &whole).expect("space");
    let agent = place.agent();
    nothing_lost(&place, 60);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn while_the_owner_keeps_the_file_open_entries_stay_and_are_reported() {
    let place = Place::new();
    configure(&place);
    let root = &place.root;
    assert_eq!(own_saves(root, 60), "DONE\n");
    let whole = fs::read(root.join("metadata.json")).expect("a catalogue");
    let open = fs::File::open(root.join("metadata.json")).expect("it is there");
    let agent = place.agent();
    agent.until("the limit", |status| {
        status["bytes"].as_u64() <= status["limit_bytes"].as_u64()
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = place.run(&["scan", "--json"]);
        let scanned: Value = serde_json::from_slice(&output.stdout).expect("one document");
        let anomalies = scanned["roots"][0]["anomalies"].as_array().cloned();
        let n_dangling = anomalies
            .unwrap_or_default()
            .iter()
            .filter(|anomaly| anomaly["kind"] == "dangling_entry")
            .count();
        let n_gone = (0..60)
            .filter(|i| !has_blob(root, &format!("sess{i:05}")))
            .count();
        if n_gone > 30 && n_dangling == n_gone {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{n_dangling} dangling, {n_gone} gone: {scanned}"
        );
    }
    assert_eq!(
        fs::read(root.join("metadata.json")).expect("it is there"),
        whole,
        "untouched"
    );
    assert!(place.run(&["rescan", "--json"]).status.success());
    let kind = "catalog_concurrent_write";
    let output = place.run(&["anomalies", "--json", "--kind", kind]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("one document");
    let told = &told["roots"][0]["anomalies"];
    assert_eq!(told[0]["path"], "metadata.json", "{told}");
    assert!(told[0]["bytes"].as_u64() > Some(0), "{told}");
    drop(open);
    nothing_lost(&place, 60);
    assert_eq!(agent.stop(), Some(0));
}

/// Says which of its saves were there at once, and which were not.
fn saves(root: &Path, prefix: &str, n: usize) -> Vec<String> {
    let mut saved = Vec::new();
    for i in 0..n {
        let id = format!("{prefix}{i:05}");
        fs::write(root.join(format!("{id}.json")), vec![b'x'; 200]).expect("a blob");
        let path = root.join("metadata.json");
        // As its own code does: a catalogue that does not parse counts as empty.
        let mut entries = listed(root).unwrap_or_default();
        let at = format!(
            "2024-01-{:02}T{:02}:{:02}:00",
            2 + i / 1440,
            i / 60 % 24,
            i % 60
        );
        entries.insert(
            id.clone(),
            json!({ "id": id, "format": "json", "created_at": at }),
        );
        let text = serde_json::to_string_pretty(&entries).expect("JSON");
        fs::write(path, text).expect("space");
        saved.push(id);
    }
    saved
}

/// Removes the oldest sessions: `n_kept` of what there is may stay.
fn keep_only(place: &Place, n_kept: usize) {
    place.configure(&format!(
        "preset = \"gofr-dig\"\n[root.limits]\nmax_count = {n_kept}\n[root.protect]\nquiet = \"0s\""
    ));
}

#[test]
fn a_thousand_saves_beside_four_hundred_removals_lose_nothing() {
    const OLD: usize = 400;
    const NEW: usize = 1000;
    let place = Place::new();
    let root = &place.root;
    assert_eq!(saves(root, "a", OLD).len(), OLD);
    // What was there before has to go, and what is saved meanwhile has to stay.
    let older = fs::read_to_string(root.join("metadata.json")).expect("a catalogue");
    let older = older.replace("2024-01-", "2020-01-");
    fs::write(root.join("metadata.json"), older).expect("space");
    keep_only(&place, NEW);
    let agent = place.agent();
    let ids = saves(root, "b", NEW);
    wait_for("the old ones to go, and nothing else", || {
        let entries = listed(root).ok_or("it does not parse")?;
        let lost = ids
            .iter()
            .filter(|id| !entries.contains_key(*id) || !has_blob(root, id))
            .count();
        assert_eq!(lost, 0, "saves were lost\n{}", place.log());
        let n_blobs = fs::read_dir(root).expect("a root").count();
        if entries.len() == NEW && n_blobs == NEW + 2 {
            return Ok(());
        }
        Err(format!("{} entries, {n_blobs} names", entries.len()))
    });
    let pruned = agent.root()["pruned"]["sessions"].as_u64();
    assert_eq!(pruned, Some(OLD as u64));
    assert_eq!(agent.stop(), Some(0));
}

/// How many of their own saves four owners lose to each other, with and without an agent that
/// removes beside them.
fn lost_among_four(with_agent: bool) -> usize {
    const EACH: usize = 60;
    const OLD: usize = 40;
    let place = Place::new();
    let root = &place.root;
    saves(root, "old", OLD);
    let older = fs::read_to_string(root.join("metadata.json")).expect("a catalogue");
    fs::write(root.join("metadata.json"), older.replace("2024-", "2020-")).expect("space");
    keep_only(&place, 4 * EACH);
    let agent = with_agent.then(|| place.agent());
    let ids: Vec<String> = std::thread::scope(|scope| {
        let owners: Vec<_> = ["w", "x", "y", "z"]
            .into_iter()
            .map(|owner| scope.spawn(move || saves(root, owner, EACH)))
            .collect();
        let saved = owners
            .into_iter()
            .map(|owner| owner.join().expect("it ends"));
        saved.flatten().collect()
    });
    if let Some(agent) = agent {
        let pruned = agent.root()["pruned"]["sessions"].as_u64();
        assert!(
            pruned <= Some(OLD as u64),
            "none of the new ones: {pruned:?}"
        );
        assert_eq!(agent.stop(), Some(0));
    }
    // Of all blobs none may be missing: what the owners lose is entries.
    assert!(ids.iter().all(|id| has_blob(root, id)), "{}", place.log());
    let entries = listed(root).unwrap_or_default();
    ids.iter().filter(|id| !entries.contains_key(*id)).count()
}

/// What runs differ by of themselves is more than what an agent could add: "not above" is said of
/// means, with their error.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are what is asked for")]
fn four_owners_lose_no_more_beside_the_agent_than_alone() {
    const RUNS: usize = 10;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        alone.push(lost_among_four(false));
        beside.push(lost_among_four(true));
    }
    println!("lost alone {alone:?}, beside the agent {beside:?}");
    let mean = |lost: &[usize]| lost.iter().sum::<usize>() as f64 / RUNS as f64;
    let error = |lost: &[usize]| {
        let mean = mean(lost);
        let squares = lost.iter().map(|n| (*n as f64 - mean).powi(2));
        squares.sum::<f64>() / (RUNS * (RUNS - 1)) as f64
    };
    assert!(mean(&alone) > 0.0, "the owners are in nobody's way");
    let margin = 3.0 * (error(&alone) + error(&beside)).sqrt();
    assert!(
        mean(&beside) <= mean(&alone) + margin,
        "{beside:?} beside the agent, {alone:?} alone"
    );
}
