//! Records of unfinished removals, planted: the layout is asked again, and what it does not own
//! stays.

use crate::support::recount;
use crate::support::running::Place;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const DIRECTORIES: &str = "[root.layout]\nmetadata = \"metadata.json\"\nmarker = \"mark\"\n\
     sessions = \"*/*\"\n\
     [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
     [root.protect]\nkeep = [\"golden-*\"]\nquiet = \"0s\"";

const CATALOG: &str = "[root.layout]\nkind = \"catalog\"\nmetadata = \"metadata.json\"\n\
     blobs = [\"{id}.{format}\"]\n\
     [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
     [root.protect]\nkeep = [\"golden-*\"]\nquiet = \"0s\"";

/// `dev`, `ino` and the birth time of a path, as a record has them.
fn numbers(path: &Path) -> Value {
    let meta = fs::symlink_metadata(path).expect("it is there");
    let birth = meta.created().ok().map(|birth| {
        let since = birth.duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since.expect("after 1970").as_nanos()).expect("before 2262")
    });
    json!({ "dev": meta.dev(), "ino": meta.ino(), "birth_ns": birth })
}

/// Writes a record as the agent would.
fn plant(root: &Path, name: &str, record: &Value) {
    let intents = root.join(".housekeeper/intents");
    fs::create_dir_all(&intents).expect("intents");
    for dir in [root.join(".housekeeper"), intents.clone()] {
        fs::set_permissions(dir, PermissionsExt::from_mode(0o700)).expect("ours");
    }
    fs::write(intents.join(name), record.to_string()).expect("a record");
}

fn in_place(root: &Path, path: &str, inode: &Value, last: &[&str]) -> Value {
    assert!(root.exists());
    json!({ "version": 1, "key": path, "path": path, "directory": inode, "last": last })
}

fn make(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, text).expect("a file");
}

fn session(root: &Path, path: &str) {
    make(root, &format!("{path}/data"), "data");
    make(root, &format!("{path}/mark"), "");
    let text = r#"{"created_at":"2020-01-01T00:00:00Z"}"#;
    make(root, &format!("{path}/metadata.json"), text);
}

/// All files but the agent's own.
fn files(root: &Path) -> Vec<String> {
    recount::snapshot(root)
        .into_iter()
        .map(|(path, _, _)| path.to_string_lossy().into_owned())
        .filter(|path| !path.contains("/.housekeeper"))
        .collect()
}

/// A command that removes nothing by itself and finishes what was left; the records that it
/// refused, with the reasons.
fn start(place: &Place) -> Vec<(String, String)> {
    let done = place.run(&["prune-size", "--json", "--max-mb", "1000"]);
    let log = String::from_utf8(done.stderr).expect("text");
    assert_eq!(done.status.code(), Some(0), "{log}");
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or("-").to_owned();
    let mut refused: Vec<_> = crate::support::log_lines(&log)
        .iter()
        .filter(|line| line["event"] == "intent.refused")
        .map(|line| {
            assert_eq!(
                line["level"].as_str().map(str::to_lowercase).as_deref(),
                Some("warn")
            );
            (text(line, "record"), text(line, "reason"))
        })
        .collect();
    refused.sort();
    refused
}

fn no_record_is_left(root: &Path) {
    let names = fs::read_dir(root.join(".housekeeper/intents")).expect("intents");
    assert_eq!(names.count(), 0, "each was carried out or discarded");
}

#[test]
fn what_the_layout_does_not_own_stays_whatever_a_record_says() {
    let place = Place::new();
    place.configure(DIRECTORIES);
    let root = &place.root;
    for path in ["a/one", "a/golden-1", "a/replaced", "a/fresh", "a/unkeyed"] {
        session(root, path);
    }
    make(root, "a/unmarked/data", "data");
    make(root, "a/one/inner/data", "data");
    make(root, ".hidden/x/data", "data");
    make(root, "plain", "data");
    make(root, ".housekeeper/own/data", "data");
    make(&place.beside("outside"), "precious", "precious");
    let at = |path: &str| numbers(&root.join(path));
    let mut other = at("a/replaced");
    other["ino"] = json!(other["ino"].as_u64().expect("a number") + 1);
    let mut reborn = at("a/fresh");
    reborn["birth_ns"] = json!(1);
    let mut unkeyed = in_place(root, "a/unkeyed", &at("a/unkeyed"), &[]);
    unkeyed["key"] = json!("a/one");
    let escapes = &["metadata.json", "../../../outside/precious"];
    let records = [
        in_place(root, "a", &at("a"), &[]),
        in_place(root, ".", &at("."), &[]),
        in_place(root, "", &at("."), &[]),
        in_place(root, ".housekeeper/own", &at(".housekeeper/own"), &[]),
        in_place(root, ".hidden/x", &at(".hidden/x"), &[]),
        in_place(root, "a/one/inner", &at("a/one/inner"), &[]),
        in_place(root, "a/unmarked", &at("a/unmarked"), &[]),
        in_place(root, "a/golden-1", &at("a/golden-1"), &[]),
        in_place(root, "a/replaced", &other, &[]),
        in_place(root, "a/fresh", &reborn, &[]),
        in_place(root, "plain", &at("plain"), &[]),
        in_place(root, "a/one", &at("a/one"), escapes),
        unkeyed,
        json!({ "version": 1, "key": "k", "path": "", "blobs": [["plain", at("plain")]] }),
    ];
    for (n, record) in records.iter().enumerate() {
        plant(root, &format!("{n:02}"), record);
    }
    let before = files(root);
    let refused = start(&place);
    assert_eq!(files(root), before, "{refused:?}");
    assert!(root.join(".housekeeper/own/data").exists());
    assert!(place.beside("outside/precious").exists());
    let names: Vec<_> = refused.iter().map(|(name, _)| name.clone()).collect();
    let all: Vec<_> = (0..records.len()).map(|n| format!("{n:02}")).collect();
    assert_eq!(names, all, "{refused:?}");
    no_record_is_left(root);
}

#[test]
fn a_lawful_record_is_carried_out() {
    let place = Place::new();
    place.configure(DIRECTORIES);
    let root = &place.root;
    session(root, "a/one");
    session(root, "a/two");
    let inode = numbers(&root.join("a/one"));
    let last = ["metadata.json", "mark"];
    plant(root, "01", &in_place(root, "a/one", &inode, &last));
    plant(root, "02", &in_place(root, "a/gone", &inode, &last));
    assert_eq!(start(&place), []);
    assert!(!root.join("a/one").exists() && root.join("a/two/data").exists());
    no_record_is_left(root);
}

fn catalogue(place: &Place) {
    place.configure(CATALOG);
    let root = &place.root;
    let entry = json!({ "created_at": "2020-01-01T00:00:00Z", "format": "wav" });
    let mut entries = serde_json::Map::new();
    for id in ["a", "a.b", "golden-1", "whole", "done"] {
        make(root, &format!("{id}.wav"), id);
        entries.insert(id.to_owned(), entry.clone());
    }
    make(root, "metadata.json", &Value::Object(entries).to_string());
    make(root, "orphan.wav", "orphan");
    make(root, "notes", "mine");
}

fn blobs(root: &Path, key: &str, names: &[&str]) -> Value {
    let blobs: Vec<Value> = names
        .iter()
        .map(|name| json!([name, numbers(&root.join(name))]))
        .collect();
    json!({ "version": 1, "key": key, "path": "", "blobs": blobs })
}

#[test]
fn blobs_that_do_not_belong_to_the_key_stay() {
    let place = Place::new();
    catalogue(&place);
    let root = &place.root;
    make(root, "sub/a.wav", "elsewhere");
    let mut below = blobs(root, "a", &["a.wav"]);
    below["path"] = json!("sub");
    let mut other = blobs(root, "a", &["a.wav"]);
    other["blobs"][0][1]["ino"] = json!(1);
    let records = [
        // Another key's, though it has the form of this one's.
        blobs(root, "a", &["a.b.wav"]),
        blobs(root, "a", &["orphan.wav"]),
        blobs(root, "a", &["metadata.json"]),
        blobs(root, "a", &["a.wav", "notes"]),
        blobs(root, "golden-1", &["golden-1.wav"]),
        // Its blob is there: the entry must not go without it.
        blobs(root, "whole", &[]),
        below,
        other,
        in_place(root, "a.wav", &numbers(&root.join("a.wav")), &[]),
        // No entry, and not of the key's form.
        blobs(root, "unlisted", &["orphan.wav"]),
    ];
    for (n, record) in records.iter().enumerate() {
        plant(root, &format!("{n:02}"), record);
    }
    let before = (
        files(root),
        fs::read(root.join("metadata.json")).expect("it is there"),
    );
    let refused = start(&place);
    let after = (
        files(root),
        fs::read(root.join("metadata.json")).expect("it is there"),
    );
    assert_eq!(after, before, "{refused:?}");
    assert_eq!(refused.len(), records.len(), "{refused:?}");
    no_record_is_left(root);
}

#[test]
fn a_lawful_record_of_blobs_is_carried_out() {
    let place = Place::new();
    catalogue(&place);
    let root = &place.root;
    plant(root, "01", &blobs(root, "done", &["done.wav"]));
    assert_eq!(start(&place), []);
    assert!(!root.join("done.wav").exists() && root.join("a.wav").exists());
    let text = fs::read_to_string(root.join("metadata.json")).expect("it is there");
    assert!(
        !text.contains("\"done\"") && text.contains("\"whole\""),
        "{text}"
    );
    no_record_is_left(root);
}

#[test]
fn a_record_waits_while_the_catalogue_says_nothing() {
    let place = Place::new();
    catalogue(&place);
    let root = &place.root;
    plant(root, "01", &blobs(root, "done", &["done.wav"]));
    let text = fs::read(root.join("metadata.json")).expect("it is there");
    make(root, "metadata.json", "{ torn");
    let done = place.run(&["prune-size", "--json", "--max-mb", "1000"]);
    assert_eq!(
        done.status.code(),
        Some(1),
        "a catalogue that says nothing is never empty"
    );
    assert!(root.join("done.wav").exists());
    assert!(root.join(".housekeeper/intents/01").exists());
    fs::write(root.join("metadata.json"), text).expect("whole again");
    assert_eq!(start(&place), []);
    assert!(!root.join("done.wav").exists());
}
