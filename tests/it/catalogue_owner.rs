//! A catalogue's owner that saves without locks, as the real one does: the agent takes entries
//! out beside it and loses none of its saves.

use crate::support::running::{PATIENCE, Place, wait_for};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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

/// One save of an owner: what it read, what it wrote, and when.
#[derive(Debug)]
struct Save {
    id: String,
    read: [Instant; 2],
    /// What it read was a catalogue, not a half one.
    parsed: bool,
    wrote: BTreeSet<String>,
    write: [Instant; 2],
}

/// As the owner's own code does: a catalogue that does not parse counts as empty.
fn save(root: &Path, id: String, at: String) -> Save {
    fs::write(root.join(format!("{id}.json")), vec![b'x'; 200]).expect("a blob");
    let read_from = Instant::now();
    let read = listed(root);
    let read = ([read_from, Instant::now()], read);
    let parsed = read.1.is_some();
    let mut entries = read.1.unwrap_or_default();
    entries.insert(
        id.clone(),
        json!({ "id": id, "format": "json", "created_at": at }),
    );
    let text = serde_json::to_string_pretty(&entries).expect("JSON");
    let write_from = Instant::now();
    fs::write(root.join("metadata.json"), text).expect("space");
    Save {
        id,
        read: read.0,
        parsed,
        wrote: entries.into_iter().map(|(id, _)| id).collect(),
        write: [write_from, Instant::now()],
    }
}

fn saves(root: &Path, prefix: &str, n: usize) -> Vec<Save> {
    (0..n)
        .map(|i| {
            let (day, hour, minute) = (2 + i / 1440, i / 60 % 24, i % 60);
            let at = format!("2024-01-{day:02}T{hour:02}:{minute:02}:00");
            save(root, format!("{prefix}{i:05}"), at)
        })
        .collect()
}

/// Whether owners lost a save to each other: the first version without it that one of them wrote
/// afterwards goes back to what was read before the save, or to a half catalogue. `false`: it was
/// somebody else.
fn lost_by_an_owner(lost: &Save, all: &[Save]) -> bool {
    let without = all
        .iter()
        .filter(|other| other.write[1] > lost.write[0] && !other.wrote.contains(&lost.id));
    let first = without.min_by_key(|other| other.write[0]);
    first.is_some_and(|first| !first.parsed || first.read[0] < lost.write[1])
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
    let ids: Vec<String> = saves(root, "b", NEW)
        .into_iter()
        .map(|save| save.id)
        .collect();
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

/// What became of the saves of four owners.
#[derive(Debug, Default)]
struct Lost {
    /// By anybody.
    n_all: usize,
    /// By nobody among the owners.
    by_others: Vec<String>,
}

const OLD: usize = 40;

/// Four owners save at once while `beside` does what it does with the old sessions.
fn lost_among_four(beside: impl FnOnce(&Place, &AtomicBool) + Send) -> Lost {
    const EACH: usize = 60;
    let place = Place::new();
    let root = &place.root;
    saves(root, "old", OLD);
    let older = fs::read_to_string(root.join("metadata.json")).expect("a catalogue");
    fs::write(root.join("metadata.json"), older.replace("2024-", "2020-")).expect("space");
    keep_only(&place, 4 * EACH);
    let done = AtomicBool::new(false);
    let all: Vec<Save> = std::thread::scope(|scope| {
        let beside = scope.spawn(|| beside(&place, &done));
        let owners: Vec<_> = ["w", "x", "y", "z"]
            .into_iter()
            .map(|owner| scope.spawn(move || saves(root, owner, EACH)))
            .collect();
        let saved = owners
            .into_iter()
            .map(|owner| owner.join().expect("it ends"));
        let saved = saved.flatten().collect();
        done.store(true, Ordering::Relaxed);
        beside.join().expect("it ends");
        saved
    });
    // Of all blobs none may be missing: what can be lost is entries.
    let has_all = all.iter().all(|save| has_blob(root, &save.id));
    assert!(has_all, "{}", place.log());
    let Some(entries) = listed(root) else {
        // Two owners wrote into each other; nobody else touches what does not parse.
        return Lost {
            n_all: all.len(),
            by_others: Vec::new(),
        };
    };
    let lost: Vec<&Save> = all
        .iter()
        .filter(|save| !entries.contains_key(&save.id))
        .collect();
    let others = lost.iter().filter(|save| !lost_by_an_owner(save, &all));
    Lost {
        n_all: lost.len(),
        by_others: others.map(|save| save.id.clone()).collect(),
    }
}

fn the_agent(place: &Place, done: &AtomicBool) {
    let agent = place.agent();
    wait_for("the owners' end", || match done.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("they save".to_owned()),
    });
    let pruned = agent.root()["pruned"]["sessions"].as_u64();
    assert!(
        pruned <= Some(OLD as u64),
        "none of the new ones: {pruned:?}"
    );
    assert_eq!(agent.stop(), Some(0));
}

/// Takes old entries out as somebody would who thinks that he is alone.
fn a_careless_one(place: &Place, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let Some(mut entries) = listed(&place.root) else {
            continue;
        };
        entries.remove("old00000");
        std::thread::sleep(Duration::from_millis(2));
        let text = serde_json::to_string_pretty(&entries).expect("JSON");
        fs::write(place.root.join("metadata.json"), text).expect("space");
    }
}

/// Four owners lose most of their saves to each other. What they lose to the agent is counted by
/// itself: nothing.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are what is asked for")]
fn four_owners_lose_nothing_to_the_agent_beside_them() {
    const RUNS: usize = 10;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let run = lost_among_four(|_, _| {});
        assert_eq!(run.by_others, [""; 0], "there is nobody else");
        alone.push(run.n_all);
        let run = lost_among_four(the_agent);
        assert_eq!(run.by_others, [""; 0], "the agent lost them");
        beside.push(run.n_all);
    }
    let sum = |lost: &[usize]| lost.iter().sum::<usize>();
    println!(
        "lost alone {alone:?}, together {}; beside the agent {beside:?}, together {}",
        sum(&alone),
        sum(&beside)
    );
    assert!(sum(&alone) > 0, "the owners are in nobody's way");
    // What pairs of runs differ by of themselves is all that the sums may differ by.
    let pairs = alone.iter().zip(&beside);
    let more: Vec<f64> = pairs.map(|(a, b)| *b as f64 - *a as f64).collect();
    let mean = more.iter().sum::<f64>() / RUNS as f64;
    let squares = more.iter().map(|more| (more - mean).powi(2)).sum::<f64>();
    let error = (squares / (RUNS * (RUNS - 1)) as f64).sqrt();
    assert!(
        mean <= 5.0 * error.max(1.0),
        "{beside:?} beside the agent, {alone:?} alone"
    );
}

/// The count above finds one who does lose saves.
#[test]
fn a_careless_program_beside_four_owners_is_found_out() {
    let runs = (0..10).map(|_| lost_among_four(a_careless_one).by_others.len());
    assert!(runs.sum::<usize>() > 0);
}
