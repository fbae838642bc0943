//! What commands answer: the shapes of their documents, their exit codes, and that asking
//! changes nothing.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, Store, guid, names, picture, session};
use crate::support::{Done, housekeeper, log_lines, mb, on_root, texts};
use fs2::FileExt;
use serde_json::{Value, json};
use std::fs;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Is {
    Number,
    Text,
    TimeOrNull,
    NumberOrNull,
    Flag,
    List,
    Object,
    ObjectOrNull,
    TextOrNull,
}

fn holds(is: Is, value: &Value) -> bool {
    match is {
        Is::Number => value.is_number(),
        Is::NumberOrNull => value.is_u64() || value.is_null(),
        Is::Text => value.is_string(),
        Is::TextOrNull => value.is_string() || value.is_null(),
        Is::TimeOrNull => value.is_null() || value.as_str().is_some_and(is_utc),
        Is::Flag => value.is_boolean(),
        Is::List => value.is_array(),
        Is::Object => value.is_object(),
        Is::ObjectOrNull => value.is_object() || value.is_null(),
    }
}

/// RFC 3339 in UTC.
fn is_utc(text: &str) -> bool {
    text.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(text).is_ok()
}

fn has(value: &Value, fields: &[(&str, Is)]) {
    let object = value.as_object().expect("an object");
    for (field, is) in fields {
        let found = object
            .get(*field)
            .unwrap_or_else(|| panic!("{field}: {value}"));
        assert!(holds(*is, found), "{field} is {is:?}: {found}");
    }
}

/// Five sessions of 1 KiB and some, a day apart, and something that is none.
fn five() -> Scratch {
    let scratch = Scratch::new();
    for n in 1..=5 {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
    fs::write(scratch.root().join("stray"), "stray").expect("written");
    scratch
}

const SCAN: &[(&str, Is)] = &[
    ("name", Is::Text),
    ("path", Is::Text),
    ("layout", Is::Text),
    ("bytes", Is::Number),
    ("apparent_bytes", Is::Number),
    ("allocated_bytes", Is::Number),
    ("files", Is::Number),
    ("session_count", Is::Number),
    ("sessions", Is::List),
    ("anomalies", Is::List),
    ("unowned", Is::Object),
    ("duration_ms", Is::Number),
];
const VICTIM: &[(&str, Is)] = &[
    ("id", Is::Text),
    ("path", Is::Text),
    ("bytes", Is::Number),
    ("created_at", Is::TimeOrNull),
    ("rule", Is::Text),
    ("because", Is::Text),
];
const PLAN: &[(&str, Is)] = &[
    ("name", Is::Text),
    ("bytes", Is::Number),
    ("limit_bytes", Is::NumberOrNull),
    ("victims", Is::List),
    ("blocked", Is::List),
    ("still_over_bytes", Is::Number),
];
const PRUNED: &[(&str, Is)] = &[
    ("removed", Is::List),
    ("freed_bytes", Is::Number),
    ("left_bytes", Is::Number),
    ("exit_code", Is::Number),
];
const STATUS: &[(&str, Is)] = &[
    ("name", Is::Text),
    ("path", Is::Text),
    ("bytes", Is::Number),
    ("limit_bytes", Is::NumberOrNull),
    ("session_count", Is::Number),
    ("files", Is::Number),
    ("unowned", Is::Object),
    ("watch", Is::Object),
    ("rescan", Is::Object),
    ("pruned", Is::Object),
    ("trash_bytes", Is::Number),
    ("anomalies", Is::Number),
    ("ready", Is::Flag),
    ("blocked", Is::List),
    ("still_over_bytes", Is::Number),
    ("lock", Is::ObjectOrNull),
];
const COUNTED: &[(&str, Is)] = &[("entries", Is::Number), ("bytes", Is::Number)];

#[test]
fn scan_has_its_shape() {
    let scratch = five();
    let done = on_root("scan", &scratch.root(), &[]);
    assert_eq!(done.code, 0, "{done:?}");
    let root = done.root();
    has(&root, SCAN);
    has(&root["unowned"], COUNTED);
    assert_eq!(root["layout"], "directories");
    assert_eq!(root["session_count"], 5);
    assert_eq!(root["files"], 10);
    assert_eq!(root["unowned"], json!({ "entries": 1, "bytes": 5 }));
    let each = &root["sessions"][0];
    has(
        each,
        &[
            ("id", Is::Text),
            ("path", Is::Text),
            ("bytes", Is::Number),
            ("files", Is::Number),
            ("created_at", Is::TimeOrNull),
            ("state", Is::TextOrNull),
            ("group", Is::TextOrNull),
            ("anomalies", Is::List),
        ],
    );
    assert_eq!(each["created_at"], "2026-02-01T12:00:00Z");
    let size = 1024
        + json!({ "created_at": "2026-02-01T12:00:00Z" })
            .to_string()
            .len();
    assert_eq!(each["bytes"], size);
    assert_eq!(root["bytes"], 5 * size);
    let anomaly = json!({ "kind": "unowned", "path": "stray", "bytes": 5 });
    assert_eq!(root["anomalies"], json!([anomaly]));
}

#[test]
fn plan_has_its_shape() {
    let scratch = five();
    let done = on_root("plan", &scratch.root(), &["--max-size", "3500"]);
    assert_eq!(done.code, 0, "{done:?}");
    let root = done.root();
    has(&root, PLAN);
    assert_eq!(texts(&root["victims"], "id"), ["s1", "s2"]);
    has(&root["victims"][0], VICTIM);
    assert_eq!(root["victims"][0]["rule"], "max_size");
    assert_eq!(root["limit_bytes"], 3500);
    assert_eq!(root["still_over_bytes"], 0);
    let unlimited = on_root("plan", &scratch.root(), &[]).root();
    assert_eq!(unlimited["limit_bytes"], Value::Null);
    assert_eq!(unlimited["victims"], json!([]));
}

#[test]
fn prune_size_has_its_shape() {
    let scratch = five();
    let done = on_root("prune-size", &scratch.root(), &["--max-mb", &mb(3500)]);
    assert_eq!(done.code, 0, "{done:?}");
    let root = done.root();
    has(&root, PLAN);
    has(&root, PRUNED);
    has(&root["removed"][0], VICTIM);
    assert_eq!(texts(&root["removed"], "id"), ["s1", "s2"]);
    assert_eq!(texts(&root["victims"], "id"), ["s1", "s2"]);
    let before = root["bytes"].as_u64().expect("bytes");
    let freed = root["freed_bytes"].as_u64().expect("bytes");
    assert_eq!(root["left_bytes"], before - freed);
    assert_eq!(root["exit_code"], 0);
    assert_eq!(names(&scratch.root()), ["s3", "s4", "s5", "stray"]);
    let trash = scratch.root().join(".housekeeper/trash");
    assert_eq!(names(&trash), [""; 0], "the bytes are gone when it ends");
}

#[test]
fn status_has_its_shape() {
    let scratch = five();
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "1GiB"]);
    agent.watching();
    let done = agent.command(&["status", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let status = done.document();
    has(
        &status,
        &[
            ("version", Is::Text),
            ("pid", Is::Number),
            ("started_at", Is::TimeOrNull),
            ("mode", Is::Text),
            ("roots", Is::List),
        ],
    );
    let root = &status["roots"][0];
    has(root, STATUS);
    has(&root["unowned"], COUNTED);
    has(
        &root["watch"],
        &[
            ("backend", Is::Text),
            ("state", Is::Text),
            ("watches", Is::Number),
            ("lost", Is::Number),
            ("coverage", Is::Number),
        ],
    );
    has(
        &root["rescan"],
        &[
            ("finished_at", Is::TimeOrNull),
            ("duration_ms", Is::Number),
            ("drift_bytes", Is::Number),
            ("next_at", Is::TimeOrNull),
        ],
    );
    has(
        &root["pruned"],
        &[("sessions", Is::Number), ("bytes", Is::Number)],
    );
    assert_eq!(root["ready"], true);
    assert_eq!(root["session_count"], 5);
    let rescanned = agent.command(&["rescan", "--json"]);
    assert_eq!(rescanned.code, 0, "{rescanned:?}");
    assert_eq!(rescanned.root()["rescan"]["drift_bytes"], 0);
    // For people there is a text with the same in it.
    let text = agent.command(&["status"]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(text.stdout.contains("root"), "{text:?}");
}

#[test]
fn a_question_without_an_agent_fails() {
    let scratch = Scratch::new();
    for command in ["status", "rescan"] {
        let mut asked = housekeeper();
        asked.arg(command).arg("--socket").arg(scratch.path("none"));
        let done = Done::of(asked.output().expect("runs"));
        assert_eq!(done.code, 1, "{done:?}");
        assert_eq!(done.stdout, "");
        assert!(done.stderr.contains("no agent listens"), "{done:?}");
    }
}

#[test]
fn wrong_usage_is_64() {
    let scratch = five();
    let before = picture(&scratch.root());
    for wrong in [
        "NaN", "nan", "inf", "-inf", "infinity", "0", "-1", "0.0", "ten", "",
    ] {
        let done = on_root("prune-size", &scratch.root(), &["--max-mb", wrong]);
        assert_eq!(done.code, 64, "{wrong}: {done:?}");
        assert_eq!(done.stdout, "", "{wrong}");
        assert!(done.stderr.contains("--max-mb"), "{wrong}: {done:?}");
    }
    for words in [
        &["--max-mb", "1", "--lock-stale-seconds", "0"][..],
        &[],
        &["--max-mb", "1", "--nonsense"],
    ] {
        assert_eq!(on_root("prune-size", &scratch.root(), words).code, 64);
    }
    for words in [&["nonsense"][..], &[], &["run", "--max-size", "10G"]] {
        let done = Done::of(housekeeper().args(words).output().expect("runs"));
        assert_eq!(done.code, 64, "{words:?}: {done:?}");
    }
    assert_eq!(picture(&scratch.root()), before);
}

#[test]
fn a_wrong_root_is_78() {
    let scratch = Scratch::new();
    let file = scratch.path("file");
    fs::write(&file, "").expect("written");
    let link = scratch.path("link");
    std::os::unix::fs::symlink(scratch.root(), &link).expect("linked");
    for root in [
        "/".as_ref(),
        "/etc".as_ref(),
        file.as_path(),
        link.as_path(),
    ] {
        for command in ["scan", "plan"] {
            let mut asked = housekeeper();
            asked.arg(command).arg("--root").arg(root).arg("--json");
            let done = Done::of(asked.output().expect("runs"));
            assert_eq!(done.code, 78, "{root:?}: {done:?}");
            assert_eq!(done.stdout, "");
            assert!(done.stderr.contains("not looked after"), "{done:?}");
        }
    }
}

#[test]
fn a_held_lock_is_2_and_stays_the_holders() {
    let scratch = five();
    let control = scratch.root().join(".housekeeper");
    fs::create_dir(&control).expect("made");
    let line = "{\"host\":\"elsewhere\",\"pid\":1,\"since\":\"2026-02-01T12:00:00Z\"}\n";
    let path = control.join("lock");
    fs::write(&path, line).expect("written");
    let lock = fs::File::open(&path).expect("there");
    lock.lock_exclusive().expect("locked");
    let before = picture(&path);
    for _ in 0..2 {
        let done = on_root("prune-size", &scratch.root(), &["--max-mb", &mb(3500)]);
        assert_eq!(done.code, 2, "{done:?}");
        assert_eq!(done.root()["exit_code"], 2);
        assert_eq!(done.root()["removed"], json!([]));
        assert_eq!(done.events("lock.busy").len(), 1, "{done:?}");
        assert_eq!(names(&scratch.root()).len(), 6);
    }
    let after = picture(&path);
    let [(_, before)] = &before.into_iter().collect::<Vec<_>>()[..] else {
        panic!("one file");
    };
    let [(_, after)] = &after.into_iter().collect::<Vec<_>>()[..] else {
        panic!("one file");
    };
    // Reading the holder's line may count as access; nothing else may have happened to it.
    let but_atime = |said: &str| -> String {
        let (head, tail) = said.split_once("atime").expect("there");
        format!("{head}{}", tail.split_once("mtime").expect("there").1)
    };
    assert_eq!(but_atime(before), but_atime(after));
    // A lock of this host that nobody holds any more is free at once.
    drop(lock);
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    fs::write(&path, line.replace("elsewhere", &host)).expect("written");
    let done = on_root("prune-size", &scratch.root(), &["--max-mb", &mb(3500)]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn an_unmet_goal_is_1() {
    let scratch = five();
    for n in 1..=5 {
        fs::remove_file(scratch.root().join(format!("s{n}/metadata.json"))).expect("removed");
    }
    let done = on_root("prune-size", &scratch.root(), &["--max-mb", &mb(3500)]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(names(&scratch.root()).len(), 6);
    let unmet = done.events("prune.target_unmet");
    assert_eq!(unmet.len(), 1, "{done:?}");
    assert_eq!(unmet[0]["still_over_bytes"], 5 * 1024 - 3500);
    assert_eq!(done.root()["still_over_bytes"], 5 * 1024 - 3500);
    assert_eq!(
        done.root()["blocked"],
        json!([{ "reason": "anomalous", "sessions": 5, "bytes": 5 * 1024 }])
    );
}

#[test]
fn several_roots_answer_1_before_2_before_0() {
    let scratch = five();
    let other = scratch.path("other");
    fs::create_dir(&other).expect("made");
    session(&other, "a", "2026-02-01T12:00:00Z", 1024);
    session(&other, "b", "2026-02-02T12:00:00Z", 1024);
    let control = other.join(".housekeeper");
    fs::create_dir(&control).expect("made");
    let lock = fs::File::create(control.join("lock")).expect("made");
    lock.lock_exclusive().expect("locked");
    let other = other.to_str().expect("text").to_owned();
    let words = ["--root", &other, "--max-mb", &mb(2000)];
    let done = on_root("prune-size", &scratch.root(), &words);
    assert_eq!(done.code, 2, "{done:?}");
    let codes: Vec<_> = done.document()["roots"]
        .as_array()
        .expect("roots")
        .iter()
        .map(|root| root["exit_code"].clone())
        .collect();
    assert_eq!(codes, [json!(0), json!(2)]);
    assert_eq!(names(&scratch.root()), ["s5", "stray"]);
}

#[test]
fn asking_changes_nothing() {
    let scratch = five();
    fs::create_dir(scratch.root().join("s1/deep")).expect("made");
    let before = picture(&scratch.root());
    for (command, words) in [
        ("scan", &[][..]),
        ("plan", &["--max-size", "2000", "--max-age", "1h"]),
        ("prune-size", &["--max-mb", "0.001", "--dry-run"]),
    ] {
        let done = on_root(command, &scratch.root(), words);
        assert!(matches!(done.code, 0 | 1), "{done:?}");
        assert_eq!(picture(&scratch.root()), before, "{command}");
        assert!(!scratch.path("state").exists(), "{command}");
    }
    let store = Store::of(5);
    let before = picture(&store.root());
    for (command, more) in [
        ("scan", &[][..]),
        ("plan", &["--max-size", "2000"]),
        ("prune-size", &["--max-mb", "0.001", "--dry-run"]),
    ] {
        let words = [&["--preset", "gofr-dig"], more].concat();
        let done = on_root(command, &store.root(), &words);
        assert!(matches!(done.code, 0 | 1), "{done:?}");
        assert_eq!(picture(&store.root()), before, "{command}");
    }
}

#[test]
fn a_dry_run_is_the_plan() {
    let scratch = five();
    let max_mb = mb(3500);
    let words = ["--max-mb", &max_mb, "--dry-run"];
    let dry = on_root("prune-size", &scratch.root(), &words);
    assert_eq!(dry.code, 0, "{dry:?}");
    let planned = on_root("plan", &scratch.root(), &["--max-size", "3500"]);
    assert_eq!(dry.root()["victims"], planned.root()["victims"]);
    assert_eq!(dry.root()["removed"], json!([]));
    let wet = on_root("prune-size", &scratch.root(), &words[..2]);
    assert_eq!(wet.root()["victims"], planned.root()["victims"]);
    assert_eq!(texts(&wet.root()["removed"], "id"), ["s1", "s2"]);
}

#[test]
fn what_is_logged_is_json_lines() {
    let scratch = five();
    let words = ["--max-mb", &mb(3500), "--verbose"];
    let done = on_root("prune-size", &scratch.root(), &words);
    assert_eq!(done.code, 0, "{done:?}");
    let lines = log_lines(&done.stderr);
    assert!(!lines.is_empty());
    for line in &lines {
        let time = line["timestamp"].as_str().expect("a time");
        assert!(is_utc(time), "{line}");
        assert!(line["event"].is_string(), "{line}");
        assert!(line["level"].is_string(), "{line}");
        assert!(line["message"].is_string(), "{line}");
        assert_eq!(line["root"], "root", "{line}");
    }
    let [check, ..] = &done.events("prune.check")[..] else {
        panic!("{done:?}");
    };
    assert_eq!(check["candidates"], 2);
    let deleted = done.events("prune.deleted");
    assert_eq!(
        texts(&Value::from(deleted.clone()), "session"),
        ["s1", "s2"]
    );
    for line in &deleted {
        assert_eq!(line["rule"], "max_size");
        assert!(line["freed_bytes"].as_u64() > Some(1024), "{line}");
        assert!(line["because"].is_string(), "{line}");
        assert_eq!(line["level"], "INFO");
    }
    let [summary] = &done.events("prune.summary")[..] else {
        panic!("{done:?}");
    };
    for field in [
        "usage_before_bytes",
        "usage_after_bytes",
        "limit_bytes",
        "freed_bytes",
    ] {
        assert!(summary[field].is_u64(), "{field}: {summary}");
    }
    assert_eq!(summary["deleted_count"], 2);
    assert_eq!(summary["kept"], 3);
    assert_eq!(summary["deleted_ids"], "[\"s1\",\"s2\"]");
    assert_eq!(summary["kept_ids"], "[\"s3\",\"s4\",\"s5\"]");
    assert_eq!(done.events("anomaly.found").len(), 1, "the stray file");
}

#[test]
fn within_the_limit_nothing_is_said_to_go() {
    let scratch = five();
    let done = on_root(
        "prune-size",
        &scratch.root(),
        &["--max-mb", "1", "--verbose"],
    );
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.events("prune.noop").len(), 1, "{done:?}");
    assert_eq!(done.root()["removed"], json!([]));
}

#[test]
fn exactly_at_the_limit_is_not_over_it() {
    let scratch = five();
    let bytes = on_root("scan", &scratch.root(), &[]).root()["bytes"]
        .as_u64()
        .expect("bytes");
    let at = on_root("prune-size", &scratch.root(), &["--max-mb", &mb(bytes)]);
    assert_eq!((at.code, &at.root()["removed"]), (0, &json!([])));
    let over = on_root("prune-size", &scratch.root(), &["--max-mb", &mb(bytes - 1)]);
    assert_eq!(texts(&over.root()["removed"], "id"), ["s1"]);
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let mut asked = housekeeper();
        let done = Done::of(asked.args(["completions", shell]).output().expect("runs"));
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stdout.contains("prune-size"), "{shell}");
        assert_eq!(done.stderr, "");
    }
}

/// The programs replaced had these tests of `prune-size`; sizes are theirs, with the catalogue's
/// own bytes added to the limits, since they count here.
mod as_before {
    use super::*;

    fn prune(store: &Store, limit: u64, more: &[&str]) -> Done {
        let max_mb = mb(limit);
        let words = [&["--preset", "gofr-dig", "--max-mb", &max_mb], more].concat();
        on_root("prune-size", &store.root(), &words)
    }

    fn catalogue(store: &Store) -> u64 {
        store.text().len() as u64
    }

    #[test]
    fn prune_removes_oldest_first() {
        let store = Store::of(5);
        // The catalogue shrinks with each session that goes, and only three fifths of it stay.
        let limit = 3072 + catalogue(&store) * 3 / 5 + 8;
        let done = prune(&store, limit, &[]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(store.blobs(), [3, 4, 5]);
        assert_eq!(store.listed(), [guid(3), guid(4), guid(5)]);
        assert_eq!(done.root()["freed_bytes"], 2048);
        let on_disk = 3072 + catalogue(&store);
        assert_eq!(done.root()["left_bytes"], on_disk);
    }

    #[test]
    fn prune_noop_when_under_limit() {
        let store = Store::of(3);
        let before = store.text();
        assert_eq!(prune(&store, 10 << 10, &[]).code, 0);
        assert_eq!(store.blobs(), [1, 2, 3]);
        assert_eq!(store.text(), before);
    }

    #[test]
    fn prune_empty_storage() {
        let store = Store::of(0);
        store.write_text(b"{}");
        assert_eq!(prune(&store, 1, &[]).code, 1, "two bytes of catalogue");
        assert_eq!(prune(&store, 1024, &[]).code, 0);
        assert_eq!(store.text(), b"{}");
    }

    #[test]
    fn prune_deletes_all_when_limit_tiny() {
        let store = Store::of(3);
        let done = on_root(
            "prune-size",
            &store.root(),
            &["--preset", "gofr-dig", "--max-mb", "0.0001"],
        );
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(store.blobs(), [0; 0]);
        assert_eq!(store.listed(), [""; 0]);
    }

    #[test]
    fn prune_with_group_filter() {
        let mut store = Store::of(6);
        for n in 1..=6 {
            let group = if n % 2 == 0 { "group_b" } else { "group_a" };
            store.change(n, |entry| entry["group"] = json!(group));
        }
        let done = prune(&store, 2048, &["--group", "group_a"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(store.blobs(), [2, 3, 4, 5, 6]);
        assert_eq!(store.listed().len(), 5);
    }

    #[test]
    fn newest_sessions_survive_pruning() {
        let store = Store::of(10);
        let done = prune(&store, 5 * 1024 + catalogue(&store) / 2 + 8, &[]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(store.blobs(), [6, 7, 8, 9, 10]);
    }
}
