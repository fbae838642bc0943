//! Records of unfinished removals, planted: the layout is asked again, and what it does not own
//! stays.

use crate::support::recount;
use crate::support::running::Place;
use chrono::DateTime;
use fs2::FileExt;
use housekeeper::model::pin::Pin;
use housekeeper::store::pin_file::PinFile;
use serde_json::{Value, json};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use ulid::Ulid;

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

/// A record's name: when it was decided, and a number of two digits.
fn decided(ago: Duration, name: &str) -> String {
    let at = Ulid::from_datetime(SystemTime::now() - ago).to_string();
    format!("{}{name:0>16}", &at[..10])
}

/// Writes a record as the agent would, decided just now. Its name.
fn plant(root: &Path, name: &str, record: &Value) -> String {
    plant_as(root, decided(Duration::ZERO, name), record)
}

/// The same, an hour ago: what a test has written was written since.
fn plant_old(root: &Path, name: &str, record: &Value) -> String {
    plant_as(root, decided(Duration::from_secs(3600), name), record)
}

fn plant_as(root: &Path, name: String, record: &Value) -> String {
    let intents = root.join(".housekeeper/intents");
    fs::create_dir_all(&intents).expect("intents");
    for dir in [root.join(".housekeeper"), intents.clone()] {
        fs::set_permissions(dir, PermissionsExt::from_mode(0o700)).expect("ours");
    }
    fs::write(intents.join(&name), record.to_string()).expect("a record");
    name
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
/// refused, by their numbers, with the reasons.
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
            let number = text(line, "record").split_off(24);
            (number, text(line, "reason"))
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

/// The same, where each session has a second blob.
fn of_two_blobs(place: &Place) {
    catalogue(place);
    place.configure(&CATALOG.replace("[\"{id}.{format}\"]", "[\"{id}.{format}\", \"{id}.txt\"]"));
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
    let record = plant(root, "01", &blobs(root, "done", &["done.wav"]));
    let text = fs::read(root.join("metadata.json")).expect("it is there");
    make(root, "metadata.json", "{ torn");
    let done = place.run(&["prune-size", "--json", "--max-mb", "1000"]);
    assert_eq!(
        done.status.code(),
        Some(1),
        "a catalogue that says nothing is never empty"
    );
    assert!(root.join("done.wav").exists());
    assert!(root.join(".housekeeper/intents").join(record).exists());
    fs::write(root.join("metadata.json"), text).expect("whole again");
    assert_eq!(start(&place), []);
    assert!(!root.join("done.wav").exists());
}

/// A time long before any record.
fn long_ago(path: &Path) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    let file = File::options().write(true).open(path).expect("a file");
    let times = FileTimes::new().set_modified(at);
    file.set_times(times).expect("a time");
}

const WRITTEN: &str = "it was written to since: somebody still uses it";

#[test]
fn what_was_written_to_since_it_was_decided_stays() {
    let place = Place::new();
    catalogue(&place);
    let root = &place.root;
    plant_old(root, "01", &blobs(root, "done", &["done.wav"]));
    // Whoever sets the time of a file back changes its ctime.
    long_ago(&root.join("whole.wav"));
    plant_old(root, "02", &blobs(root, "whole", &["whole.wav"]));
    let before = files(root);
    let text = fs::read(root.join("metadata.json")).expect("it is there");
    let refused = start(&place);
    let expected = ["01", "02"].map(|number| (number.to_owned(), WRITTEN.to_owned()));
    assert_eq!(refused, expected);
    assert_eq!(files(root), before);
    let after = fs::read(root.join("metadata.json")).expect("it is there");
    assert_eq!(after, text, "nor does its entry go");
    no_record_is_left(root);
}

#[test]
fn what_is_left_of_a_half_session_stays_where_it_was_written_to() {
    let place = Place::new();
    of_two_blobs(&place);
    let root = &place.root;
    let mut record = blobs(root, "done", &["done.wav", "done.wav"]);
    record["blobs"][0] = json!(["done.txt", { "dev": 1, "ino": 1, "birth_ns": 1 }]);
    plant_old(root, "01", &record);
    let refused = start(&place);
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].1.starts_with("part of it had left"),
        "{refused:?}"
    );
    assert!(root.join("done.wav").exists());
    no_record_is_left(root);
}

/// Our own rename of one name changes the ctime of the inode's other name.
#[test]
fn the_other_name_of_what_has_left_is_not_taken_for_written() {
    let place = Place::new();
    of_two_blobs(&place);
    let root = &place.root;
    long_ago(&root.join("done.wav"));
    let mut record = blobs(root, "done", &["done.wav", "done.wav"]);
    record["blobs"][0][0] = json!("done.txt");
    plant_old(root, "01", &record);
    assert_eq!(start(&place), []);
    assert!(!root.join("done.wav").exists());
    no_record_is_left(root);
}

#[test]
fn a_directory_that_was_written_to_since_stays() {
    let place = Place::new();
    place.configure(DIRECTORIES);
    let root = &place.root;
    session(root, "a/one");
    session(root, "a/two");
    let last = ["metadata.json", "mark"];
    let one = numbers(&root.join("a/one"));
    plant_old(root, "01", &in_place(root, "a/one", &one, &last));
    let two = numbers(&root.join("a/two"));
    plant(root, "02", &in_place(root, "a/two", &two, &last));
    assert_eq!(start(&place), [("01".to_owned(), WRITTEN.to_owned())]);
    assert!(root.join("a/one/data").exists() && !root.join("a/two").exists());
    no_record_is_left(root);
}

#[test]
fn a_record_from_the_future_or_of_what_is_locked_waits() {
    let place = Place::new();
    place.configure(DIRECTORIES);
    let root = &place.root;
    session(root, "a/one");
    session(root, "a/two");
    let last = ["metadata.json", "mark"];
    let record = |path: &str| in_place(root, path, &numbers(&root.join(path)), &last);
    let ahead = Ulid::from_datetime(SystemTime::now() + Duration::from_secs(3600));
    let ahead = plant_as(root, ahead.to_string(), &record("a/one"));
    let locked = plant(root, "02", &record("a/two"));
    let owner = File::open(root.join("a/two/metadata.json")).expect("a file");
    FileExt::lock_exclusive(&owner).expect("a lock");
    assert_eq!(start(&place), []);
    let waits = |name: &str| root.join(".housekeeper/intents").join(name).exists();
    assert!(waits(&ahead) && waits(&locked));
    assert!(root.join("a/one/data").exists() && root.join("a/two/data").exists());
    drop(owner);
    assert_eq!(start(&place), []);
    assert!(!root.join("a/two").exists() && !waits(&locked) && waits(&ahead));
}

#[test]
fn a_session_that_was_pinned_before_the_next_start_stays() {
    let place = Place::new();
    place.configure(DIRECTORIES);
    let root = &place.root;
    session(root, "a/one");
    let last = ["metadata.json", "mark"];
    let record = in_place(root, "a/one", &numbers(&root.join("a/one")), &last);
    let name = plant(root, "01", &record);
    let mut pins = PinFile::of(
        &place.beside("state"),
        &root.canonicalize().expect("a path"),
    );
    pins.put(Pin {
        session: Arc::from(&b"a/one"[..]),
        owner: "ana".to_owned(),
        reason: "a test".to_owned(),
        created: DateTime::from_timestamp(1_800_000_000, 0).expect("in range"),
        // Nobody knows at a start whether the clock can be believed: it has not ended.
        until: DateTime::from_timestamp(1_800_000_001, 0),
    })
    .expect("written");
    // What cannot be read pins everything, and the record waits.
    let corners = fs::read_dir(place.beside("state/roots")).expect("there");
    let file = corners.map(|corner| corner.expect("an entry").path().join("pins.json"));
    let file = file.last().expect("one");
    let whole = fs::read(&file).expect("pins");
    fs::write(&file, &whole[1..]).expect("broken");
    assert_eq!(start(&place), []);
    assert!(root.join(".housekeeper/intents").join(name).exists());
    fs::write(&file, &whole).expect("mended");
    let pinned = ("01".to_owned(), "the session is pinned".to_owned());
    assert_eq!(start(&place), [pinned]);
    assert!(root.join("a/one/data").exists());
    no_record_is_left(root);
}
