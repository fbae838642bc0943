//! The odd inputs of gofr's stores, one test a row, with the answer of the last column of the
//! table: neither gofr-dig's nor gofr-doc's own answer is one to keep.
//!
//! Each runs the built program on a store of three sessions of 1 KiB, oldest first, with a limit
//! that one session less meets.

use crate::support::fixture::{Store, guid};
use crate::support::{Done, mb, on_root, texts};
use rustix::fs::{IFlags, ioctl_setflags};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const PRESET: [&str; 2] = ["--preset", "gofr-dig"];

/// One of three sessions has to go.
fn one_less(store: &Store) -> u64 {
    3072 + store.text().len() as u64 - 1
}

fn prune(store: &Store, limit: u64) -> Done {
    let max_mb = mb(limit);
    let words = [&PRESET[..], &["--max-mb", &max_mb]].concat();
    let before = outside(store);
    let done = on_root("prune-size", &store.root(), &words);
    assert_eq!(outside(store), before, "something outside was touched");
    assert_eq!(done.root()["exit_code"], done.code);
    done
}

/// What lies beside the root, which nothing may touch.
fn outside(store: &Store) -> Vec<(String, Vec<u8>)> {
    let beside = store.scratch.path("");
    let mut all: Vec<_> = fs::read_dir(beside)
        .expect("the scratch directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), fs::read(&path).expect("a file"))
        })
        .collect();
    all.sort();
    all
}

/// Kinds with places, of the whole store.
fn anomalies(store: &Store) -> Vec<(String, String)> {
    let done = on_root("scan", &store.root(), &PRESET);
    assert_eq!(done.code, 0, "{done:?}");
    let all = &done.root()["anomalies"];
    let kinds = texts(all, "kind");
    kinds.into_iter().zip(texts(all, "path")).collect()
}

fn kinds(store: &Store) -> Vec<String> {
    anomalies(store).into_iter().map(|(kind, _)| kind).collect()
}

fn removed(done: &Done) -> Vec<String> {
    texts(&done.root()["removed"], "id")
}

/// The session named is passed over for the next oldest, with this anomaly, and stays whole.
fn passed_over(store: &Store, kind: &str) {
    let before: Value = serde_json::from_slice(&store.text()).expect("JSON");
    assert_eq!(kinds(store), [kind]);
    let done = prune(store, one_less(store));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(2)]);
    assert_eq!(store.blobs(), [1, 3]);
    assert_eq!(store.listed(), [guid(1), guid(3)]);
    let after: Value = serde_json::from_slice(&store.text()).expect("JSON");
    assert_eq!(after[guid(1)], before[guid(1)]);
    let logged = texts(&Value::from(done.events("anomaly.found")), "kind");
    assert_eq!(logged, [kind], "{done:?}");
}

/// The oldest goes as if nothing was odd; what is odd about it is reported before.
fn still_removable(store: &Store, anomalies: &[&str]) {
    assert_eq!(kinds(store), anomalies);
    let done = prune(store, one_less(store));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(1)]);
    assert_eq!(done.root()["freed_bytes"], 1024);
    assert_eq!(store.blobs(), [2, 3]);
    assert_eq!(store.listed(), [guid(2), guid(3)]);
}

/// Nothing can be said about any session: nothing goes, and the catalogue stays as it is.
fn says_nothing(text: Option<&[u8]>) {
    let store = Store::of(3);
    match text {
        Some(text) => store.write_text(text),
        None => fs::remove_file(store.catalogue()).expect("removed"),
    }
    let done = prune(&store, 1024);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(removed(&done), [""; 0]);
    assert_eq!(store.blobs(), [1, 2, 3]);
    match text {
        Some(text) => assert_eq!(store.text(), text),
        None => assert!(!store.catalogue().exists()),
    }
    let missing = anomalies(&store);
    for n in 1..=3 {
        let wanted = ("metadata_missing".to_owned(), format!("{}.json", guid(n)));
        assert!(missing.contains(&wanted), "{missing:?}");
    }
    assert_eq!(done.events("prune.target_unmet").len(), 1, "{done:?}");
}

#[test]
fn a_corrupt_catalogue() {
    says_nothing(Some(b"{\"a\": "));
}

#[test]
fn a_catalogue_of_0_bytes() {
    says_nothing(Some(b""));
}

#[test]
fn a_catalogue_with_a_byte_order_mark() {
    let text = [b"\xEF\xBB\xBF".to_vec(), Store::of(3).text()].concat();
    says_nothing(Some(&text));
}

#[test]
fn a_catalogue_that_is_a_list() {
    says_nothing(Some(b"[]"));
}

#[test]
fn a_catalogue_that_is_missing_beside_blobs() {
    says_nothing(None);
}

#[test]
fn an_unknown_catalogue_fails_even_within_the_limit() {
    let store = Store::of(3);
    store.write_text(b"[]");
    assert_eq!(prune(&store, 1 << 20).code, 1);
}

#[test]
fn an_empty_catalogue_leaves_its_blobs_as_orphans() {
    let store = Store::of(3);
    store.write_text(b"{}");
    assert_eq!(kinds(&store), ["orphan_blob"; 3]);
    let done = prune(&store, 1024);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(store.blobs(), [1, 2, 3]);
    assert_eq!(store.text(), b"{}");
    assert_eq!(done.root()["blocked"][0]["reason"], "orphan");
}

#[test]
fn an_empty_catalogue_alone_is_an_empty_store() {
    let store = Store::of(0);
    store.write_text(b"{}");
    assert_eq!(prune(&store, 1024).code, 0);
    fs::remove_file(store.catalogue()).expect("removed");
    assert_eq!(prune(&store, 1024).code, 0);
}

#[test]
fn an_entry_that_is_null() {
    an_entry_that_is(Value::Null);
}

#[test]
fn an_entry_that_is_a_string() {
    an_entry_that_is(json!("text"));
}

/// The entry says nothing, not even which blob is its own: one is skipped, the others go on.
fn an_entry_that_is(value: Value) {
    let mut store = Store::of(3);
    store.change(1, |entry| *entry = value.clone());
    let found = anomalies(&store);
    let wanted = ("metadata_corrupt".to_owned(), guid(1));
    assert!(found.contains(&wanted), "{found:?}");
    let done = prune(&store, one_less(&store));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(2)]);
    assert_eq!(store.blobs(), [1, 3]);
    assert_eq!(store.listed(), [guid(1), guid(3)]);
    let kinds = texts(&Value::from(done.events("anomaly.found")), "kind");
    assert!(kinds.contains(&"metadata_corrupt".to_owned()), "{kinds:?}");
}

#[test]
fn created_at_missing() {
    let mut store = Store::of(3);
    store.change(1, |entry| {
        entry
            .as_object_mut()
            .expect("an object")
            .remove("created_at");
    });
    passed_over(&store, "created_at_missing");
}

#[test]
fn created_at_null() {
    let mut store = Store::of(3);
    store.change(1, |entry| entry["created_at"] = Value::Null);
    passed_over(&store, "created_at_missing");
}

#[test]
fn created_at_a_number() {
    let mut store = Store::of(3);
    store.change(1, |entry| entry["created_at"] = json!(1_770_000_000));
    passed_over(&store, "created_at_invalid");
}

#[test]
fn created_at_no_date() {
    let mut store = Store::of(3);
    store.change(1, |entry| entry["created_at"] = json!("not-a-date"));
    passed_over(&store, "created_at_invalid");
}

#[test]
fn mixed_offsets_are_compared_as_instants() {
    let mut store = Store::of(3);
    // As text the first is the newest; as an instant it is the oldest.
    for (n, time) in [
        (1, "2026-02-10T12:00:00+09:00"),
        (2, "2026-02-10T04:00:00Z"),
        (3, "2026-02-10T05:00:00"),
    ] {
        store.change(n, |entry| entry["created_at"] = json!(time));
    }
    let sessions = on_root("scan", &store.root(), &PRESET).root()["sessions"].clone();
    let times = texts(&sessions, "created_at");
    assert!(
        times.contains(&"2026-02-10T03:00:00Z".to_owned()),
        "{times:?}"
    );
    still_removable(&store, &[]);
}

#[test]
fn created_far_in_the_future() {
    let mut store = Store::of(3);
    store.change(1, |entry| {
        entry["created_at"] = json!("2126-02-10T12:00:00")
    });
    passed_over(&store, "created_at_future");
    // By age it never goes, by size it does when all older ones are gone.
    let words = [&PRESET[..], &["--max-age", "1h"]].concat();
    let victims = on_root("plan", &store.root(), &words).root()["victims"].clone();
    assert_eq!(texts(&victims, "id"), [guid(3)]);
    let done = prune(&store, 1000);
    assert_eq!(removed(&done), [guid(3), guid(1)]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn size_a_string() {
    let mut store = Store::of(3);
    store.change(1, |entry| entry["size"] = json!("1024"));
    still_removable(&store, &["size_mismatch"]);
}

#[test]
fn size_missing() {
    let mut store = Store::of(3);
    store.change(1, |entry| {
        entry.as_object_mut().expect("an object").remove("size");
    });
    still_removable(&store, &[]);
}

#[test]
fn size_negative() {
    let mut store = Store::of(3);
    store.change(1, |entry| entry["size"] = json!(-1_000_000));
    still_removable(&store, &["size_mismatch"]);
}

#[test]
fn size_far_too_big() {
    let mut store = Store::of(3);
    store.change(1, |entry| entry["size"] = json!(1e9));
    still_removable(&store, &["size_mismatch"]);
    let mut store = Store::of(3);
    store.change(3, |entry| entry["size"] = json!(1_000_000_000));
    still_removable(&store, &["size_mismatch"]);
}

#[test]
fn a_blob_that_grew() {
    let store = Store::of(3);
    store.blob(&format!("{}.json", guid(2)), 500 << 10);
    let done = prune(&store, 100 << 10);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(1), guid(2)]);
    assert_eq!(done.root()["freed_bytes"], 501 << 10);
    assert_eq!(store.blobs(), [3]);
    let store = Store::of(3);
    store.blob(&format!("{}.json", guid(2)), 500 << 10);
    assert_eq!(kinds(&store), ["size_mismatch"]);
}

#[test]
fn an_orphan_over_the_limit() {
    let store = Store::of(3);
    store.blob("0000000f-0000-4000-8000-000000000000.json", 500 << 10);
    assert_eq!(kinds(&store), ["orphan_blob"]);
    let done = prune(&store, 100 << 10);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(store.blobs(), [1, 2, 3]);
    assert_eq!(store.listed().len(), 3);
    let unmet = done.events("prune.target_unmet");
    assert_eq!(unmet.len(), 1, "{done:?}");
    let blocked = done.root()["blocked"].clone();
    assert_eq!(blocked[0]["reason"], "orphan");
    assert_eq!(blocked[0]["bytes"], 500 << 10);
    assert_eq!(texts(&blocked, "reason"), ["orphan", "reserved"]);
}

#[test]
fn an_orphan_over_the_limit_leaves_the_newest_tenth() {
    let store = Store::of(12);
    store.blob("0000000f-0000-4000-8000-000000000000.json", 500 << 10);
    let done = prune(&store, 100 << 10);
    assert_eq!(done.code, 1, "{done:?}");
    // Ten sessions of 1 KiB are a tenth of 100 KiB.
    assert_eq!(removed(&done), [guid(1), guid(2)]);
    assert_eq!(store.blobs(), (3..=12).collect::<Vec<_>>());
    assert!(
        store
            .root()
            .join("0000000f-0000-4000-8000-000000000000.json")
            .exists()
    );
}

#[test]
fn an_entry_without_its_blob() {
    let store = Store::of(3);
    fs::remove_file(store.root().join(format!("{}.json", guid(1)))).expect("removed");
    assert_eq!(kinds(&store), ["dangling_entry"]);
    let done = prune(&store, 2048 + store.text().len() as u64 - 1);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(2)]);
    assert_eq!(done.root()["freed_bytes"], 1024);
    assert_eq!(store.listed(), [guid(1), guid(3)]);
}

#[test]
fn a_wrong_format() {
    let mut store = Store::of(3);
    store.change(1, |entry| entry["format"] = json!("png"));
    let mut found = kinds(&store);
    found.sort();
    assert_eq!(found, ["dangling_entry", "orphan_blob"]);
    let done = prune(&store, one_less(&store));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(2)]);
    assert_eq!(store.blobs(), [1, 3]);
    assert_eq!(store.listed(), [guid(1), guid(3)]);
}

#[test]
fn a_blob_that_is_a_directory() {
    let store = Store::of(3);
    let blob = store.root().join(format!("{}.json", guid(1)));
    fs::remove_file(&blob).expect("removed");
    fs::create_dir(&blob).expect("made");
    fs::write(blob.join("precious"), "precious").expect("written");
    let found = kinds(&store);
    assert!(found.contains(&"blob_unusable".to_owned()), "{found:?}");
    let done = prune(&store, 2048 + store.text().len() as u64 - 1);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(2)]);
    assert_eq!(done.root()["freed_bytes"], 1024);
    assert!(blob.join("precious").exists());
    assert_eq!(store.listed(), [guid(1), guid(3)]);
    let logged = texts(&Value::from(done.events("anomaly.found")), "kind");
    assert!(logged.contains(&"blob_unusable".to_owned()), "{logged:?}");
}

/// Lets go of the file at last, so that the scratch directory can be removed.
struct Immutable(fs::File);

impl Immutable {
    fn new(path: &Path) -> Self {
        let file = fs::File::open(path).expect("opened");
        ioctl_setflags(&file, IFlags::IMMUTABLE).expect("the file system has such a flag");
        Self(file)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        ioctl_setflags(&self.0, IFlags::empty()).expect("it can be taken off");
    }
}

#[test]
fn a_blob_that_cannot_be_removed() {
    let store = Store::of(3);
    let blob = store.root().join(format!("{}.json", guid(1)));
    let held = Immutable::new(&blob);
    let done = prune(&store, one_less(&store));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(2)]);
    assert_eq!(store.blobs(), [1, 3]);
    assert_eq!(store.listed(), [guid(1), guid(3)]);
    let skipped = Value::from(done.events("prune.skipped"));
    assert_eq!(texts(&skipped, "session"), [guid(1)], "{skipped}");
    let logged = texts(&Value::from(done.events("anomaly.found")), "kind");
    assert_eq!(logged, ["blob_unusable"], "{done:?}");
    drop(held);
}

#[test]
fn a_blob_that_is_a_symlink() {
    let store = Store::of(3);
    let blob = store.root().join(format!("{}.json", guid(1)));
    let target = store.scratch.path("target");
    fs::rename(&blob, &target).expect("renamed");
    std::os::unix::fs::symlink(&target, &blob).expect("linked");
    let found = kinds(&store);
    assert!(found.contains(&"blob_unusable".to_owned()), "{found:?}");
    let done = prune(&store, 2048 + store.text().len() as u64 - 1);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(2)]);
    assert_eq!(fs::read_link(&blob).expect("still a link"), target);
    assert_eq!(fs::read(&target).expect("the target").len(), 1024);
    assert_eq!(store.listed(), [guid(1), guid(3)]);
}

#[test]
fn an_id_that_leads_out() {
    let mut store = Store::of(3);
    fs::write(store.scratch.path("evil.json"), "precious").expect("written");
    store
        .entries
        .insert(0, ("../evil".to_owned(), Store::entry(1)));
    store.write();
    leads_nowhere(&store);
}

#[test]
fn a_format_that_leads_out() {
    let mut store = Store::of(3);
    fs::write(store.scratch.path("evil2"), "precious").expect("written");
    // So that even the path as it is written leads there.
    let step = "0000000e-0000-4000-8000-000000000000";
    fs::create_dir(store.root().join(format!("{step}."))).expect("made");
    let mut entry = Store::entry(1);
    entry["format"] = json!("/../../evil2");
    store.entries.insert(0, (step.to_owned(), entry));
    store.write();
    leads_nowhere(&store);
}

fn leads_nowhere(store: &Store) {
    let found = kinds(store);
    assert!(found.contains(&"bad_id".to_owned()), "{found:?}");
    assert!(!found.contains(&"dangling_entry".to_owned()), "{found:?}");
    let done = prune(store, one_less(store));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(1)]);
    assert_eq!(store.blobs(), [2, 3]);
    assert_eq!(store.listed().len(), 3, "the odd entry stays");
    // Even when everything must go.
    let done = prune(store, 500);
    assert_eq!(removed(&done), [guid(2), guid(3)], "{done:?}");
}

#[test]
fn an_alias_is_never_an_identity() {
    let mut store = Store::of(3);
    store.change(3, |entry| entry["aliases"] = json!([guid(1)]));
    still_removable(&store, &[]);
}

#[test]
fn an_id_that_is_there_twice() {
    let mut store = Store::of(3);
    // The first says the oldest, the last says the newest: the last one counts.
    store.entries.push((guid(1), Store::entry(9)));
    store.write();
    assert_eq!(kinds(&store), ["duplicate_id"]);
    let done = prune(&store, one_less(&store));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(removed(&done), [guid(2)]);
    assert_eq!(store.blobs(), [1, 3]);
}

#[test]
fn a_key_that_is_there_twice() {
    let store = Store::of(3);
    let text = String::from_utf8(store.text()).expect("text");
    let twice = "\"created_at\": \"2026-02-09T12:00:00\", \"format\"";
    store.write_text(text.replacen("\"format\"", twice, 1).as_bytes());
    // Of the first session's two times the last one counts: it stays the oldest.
    still_removable(&store, &["duplicate_id"]);
}

#[test]
fn an_entry_with_a_key_guid() {
    let mut store = Store::of(3);
    store.change(1, |entry| entry["guid"] = json!(guid(3)));
    still_removable(&store, &[]);
}
