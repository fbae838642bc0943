//! Odd metadata of sessions that are directories: what cannot be read is never a reason to
//! delete, and what another program needs to stay stays.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, bare_session, names, picture, session, session_with};
use crate::support::{Done, housekeeper, mb, texts};
use fs2::FileExt;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OLD: &str = "2026-01-01T12:00:00Z";
const NEW: &str = "2026-02-01T12:00:00Z";

/// A session `odd` to be made odd, and two good ones that are newer.
fn with_odd(metadata: &str) -> Scratch {
    let scratch = Scratch::new();
    session_with(&scratch.root(), "odd", metadata, 1024);
    scratch.session("s1", NEW, 1024);
    scratch.session("s2", "2026-02-02T12:00:00Z", 1024);
    scratch
}

fn configure(scratch: &Scratch, layout: &str) -> std::path::PathBuf {
    let config = scratch.path("config.toml");
    let text = format!(
        "[agent]\nstate_dir = {:?}\n[[root]]\nname = \"root\"\npath = {:?}\n{layout}",
        scratch.path("state"),
        scratch.root()
    );
    fs::write(&config, text).expect("written");
    config
}

const QUIET: &str = "[root.protect]\nquiet = \"0s\"\n";

fn run(config: &Path, words: &[&str]) -> Done {
    let mut command = housekeeper();
    command
        .args(words)
        .arg("--json")
        .arg("--config")
        .arg(config);
    Done::of(command.output().expect("runs"))
}

/// Brings a root of the default layout, or one written as TOML, to a size.
fn prune(scratch: &Scratch, layout: &str, limit: u64) -> Done {
    let config = configure(scratch, &format!("{layout}{QUIET}"));
    run(&config, &["prune-size", "--max-mb", &mb(limit)])
}

fn scan(scratch: &Scratch, layout: &str) -> Value {
    let config = configure(scratch, &format!("{layout}{QUIET}"));
    let done = run(&config, &["scan"]);
    assert_eq!(done.code, 0, "{done:?}");
    done.root()
}

/// Creation times by id.
fn times(scan: &Value) -> Vec<(String, Value)> {
    let sessions = scan["sessions"].as_array().expect("sessions");
    let mut times: Vec<_> = sessions
        .iter()
        .map(|s| {
            (
                s["id"].as_str().expect("an id").to_owned(),
                s["created_at"].clone(),
            )
        })
        .collect();
    times.sort_by(|a, b| a.0.cmp(&b.0));
    times
}

/// Whatever is to go, the odd session stays, with this anomaly; the good ones go first.
fn odd_stays(scratch: &Scratch, kind: &str) {
    let scan = scan(scratch, "");
    let kinds = texts(&scan["anomalies"], "kind");
    assert!(kinds.contains(&kind.to_owned()), "{scan:#}");
    let odd = scan["sessions"].as_array().expect("sessions");
    let odd = odd.iter().find(|s| s["id"] == "odd").expect("it counts");
    assert_eq!(odd["created_at"], Value::Null);
    let before = picture(&scratch.root().join("odd"));
    let done = prune(scratch, "", 2200);
    assert_eq!(texts(&done.root()["removed"], "id"), ["s1"], "{done:?}");
    let done = prune(scratch, "", 100);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(texts(&done.root()["removed"], "id"), ["s2"], "{done:?}");
    assert_eq!(names(&scratch.root()), ["odd"]);
    assert_eq!(picture(&scratch.root().join("odd")), before);
}

fn metadata(scratch: &Scratch) -> std::path::PathBuf {
    scratch.root().join("odd/metadata.json")
}

fn without_metadata() -> Scratch {
    let scratch = with_odd("{}");
    fs::remove_file(metadata(&scratch)).expect("removed");
    scratch
}

#[test]
fn metadata_missing() {
    odd_stays(&without_metadata(), "metadata_missing");
}

#[test]
fn metadata_a_fifo() {
    let scratch = without_metadata();
    let made = std::process::Command::new("mkfifo")
        .arg(metadata(&scratch))
        .status();
    assert!(made.expect("mkfifo runs").success());
    odd_stays(&scratch, "metadata_unreadable");
}

#[test]
fn metadata_a_directory() {
    let scratch = without_metadata();
    fs::create_dir(metadata(&scratch)).expect("made");
    odd_stays(&scratch, "metadata_unreadable");
}

#[test]
fn metadata_a_symlink_out_of_the_root() {
    let scratch = without_metadata();
    let target = scratch.path("valid.json");
    fs::write(&target, json!({ "created_at": OLD }).to_string()).expect("written");
    std::os::unix::fs::symlink(&target, metadata(&scratch)).expect("linked");
    odd_stays(&scratch, "metadata_unreadable");
    assert!(target.exists());
}

#[test]
fn metadata_of_10_gib() {
    let scratch = with_odd("{\"created_at\": ");
    let file = fs::OpenOptions::new().write(true).open(metadata(&scratch));
    file.expect("there").set_len(10 << 30).expect("sparse");
    let scan = scan(&scratch, "");
    assert!(texts(&scan["anomalies"], "kind").contains(&"metadata_unreadable".to_owned()));
    // Its apparent bytes count, and it stays: nothing may be deleted for it but down to a tenth.
    assert!(scan["bytes"].as_u64() > Some(10 << 30));
    let done = prune(&scratch, "", 1 << 20);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(names(&scratch.root()), ["odd", "s1", "s2"]);
}

#[test]
fn metadata_corrupt() {
    for text in ["", "{\"created_at\": ", "[]", "null", "\u{FEFF}{}"] {
        odd_stays(&with_odd(text), "metadata_corrupt");
    }
}

#[test]
fn created_at_that_is_none() {
    odd_stays(&with_odd("{}"), "created_at_missing");
    odd_stays(&with_odd("{\"created_at\": null}"), "created_at_missing");
    odd_stays(&with_odd("{\"created_at\": 5}"), "created_at_invalid");
    odd_stays(
        &with_odd("{\"created_at\": \"soon\"}"),
        "created_at_invalid",
    );
}

#[test]
fn metadata_half_written_for_a_moment() {
    let scratch = with_odd(&json!({ "created_at": OLD }).to_string());
    // The oldest by far: any pruning would take it first.
    let words = ["--max-size", "10200", "--first-start", "enforce"];
    let agent = Agent::on_root(&scratch.root(), &words);
    agent.watching();
    let good = json!({ "created_at": "2026-03-01T12:00:00Z", "more": 1 }).to_string();
    // In place, as json.dump does: first nothing, then a part of it.
    fs::write(metadata(&scratch), &good[..20]).expect("written");
    bare_session(&scratch.root(), "big", 8000);
    // Now one has to go, and not `odd` while its metadata is in doubt.
    agent.root_until(0, "something pruned", |root| {
        root["pruned"]["sessions"].as_u64() >= Some(1)
    });
    assert!(scratch.root().join("odd").exists());
    assert!(
        !scratch.root().join("s1").exists(),
        "the oldest without doubt"
    );
    fs::write(metadata(&scratch), &good).expect("written");
    // Its new time makes it the newest: the next to go is the other one.
    agent.rescan();
    session(&scratch.root(), "s3", "2026-02-03T12:00:00Z", 1024);
    agent.until("the next oldest gone", |_| {
        !scratch.root().join("s2").exists()
    });
    assert!(scratch.root().join("odd").exists());
    agent.rescan();
    let kinds = texts(&Value::from(agent.events("anomaly.found")), "kind");
    assert!(!kinds.contains(&"metadata_corrupt".to_owned()), "{kinds:?}");
}

#[test]
fn metadata_that_stays_broken_is_corrupt_after_a_second() {
    let scratch = with_odd(&json!({ "created_at": OLD }).to_string());
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "1MiB"]);
    agent.watching();
    fs::write(metadata(&scratch), "{\"created").expect("written");
    agent.until("a corrupt one", |agent| {
        agent.rescan()["anomalies"].as_u64() == Some(1)
    });
    let found = agent.told("anomaly.found", 1);
    assert_eq!(texts(&Value::from(found), "kind"), ["metadata_corrupt"]);
    fs::write(metadata(&scratch), json!({ "created_at": OLD }).to_string()).expect("written");
    agent.until("a good one", |agent| {
        agent.rescan()["anomalies"].as_u64() == Some(0)
    });
    agent.told("anomaly.cleared", 1);
}

#[test]
fn names_that_are_no_text() {
    let scratch = with_odd(&json!({ "created_at": NEW }).to_string());
    let name = OsStr::from_bytes(b"raw\xFF\\x");
    fs::rename(scratch.root().join("odd"), scratch.root().join(name)).expect("renamed");
    fs::write(
        scratch.root().join(name).join("metadata.json"),
        json!({ "created_at": OLD }).to_string(),
    )
    .expect("written");
    let ids = texts(&scan(&scratch, "")["sessions"], "id");
    assert!(ids.contains(&"raw\\xFF\\x5Cx".to_owned()), "{ids:?}");
    let done = prune(&scratch, "", 2200);
    assert_eq!(
        texts(&done.root()["removed"], "id"),
        ["raw\\xFF\\x5Cx"],
        "{done:?}"
    );
    assert_eq!(names(&scratch.root()), ["s1", "s2"]);
}

#[test]
fn created_at_of_many_kinds() {
    let scratch = Scratch::new();
    let root = scratch.root();
    for (name, value, sort, zone) in [
        (
            "rfc",
            json!("2026-02-10T12:00:00.5+09:00"),
            "rfc3339",
            "utc",
        ),
        ("naive", json!("2026-02-10T12:00:00"), "rfc3339", "utc"),
        (
            "zurich",
            json!("2026-02-10T12:00:00"),
            "rfc3339",
            "Europe/Zurich",
        ),
        ("day", json!("2026-02-10"), "%Y-%m-%d", "utc"),
        ("epoch_s", json!(1_770_724_800), "epoch_s", "utc"),
        ("epoch_ms", json!(1_770_724_800_000_u64), "epoch_ms", "utc"),
        ("epoch_us", json!("1770724800000000"), "epoch_us", "utc"),
        (
            "epoch_ns",
            json!(1_770_724_800_000_000_000_u64),
            "epoch_ns",
            "utc",
        ),
    ] {
        session_with(
            &root,
            name,
            &json!({ "deep": { "time": value } }).to_string(),
            1,
        );
        let layout = format!(
            "[root.layout]\nmetadata = \"metadata.json\"\n[root.layout.created_at]\nfrom = [{{ key = \"/deep/time\", as = {sort:?}, zone = {zone:?} }}]\n"
        );
        let all = times(&scan(&scratch, &layout));
        let (_, time) = all.iter().find(|(id, _)| id == name).expect("there");
        let expected = match name {
            "rfc" => "2026-02-10T03:00:00.500Z",
            "zurich" => "2026-02-10T11:00:00Z",
            "day" => "2026-02-10T00:00:00Z",
            _ => "2026-02-10T12:00:00Z",
        };
        assert_eq!(time, expected, "{name}");
    }
}

#[test]
fn created_at_from_names_files_and_inodes() {
    let scratch = Scratch::new();
    let root = scratch.root();
    for name in ["a_20260210_120000", "b_x", "c_y"] {
        fs::create_dir(root.join(name)).expect("made");
    }
    fs::write(root.join("b_x/startedat"), "2026-02-11T12:00:00Z\n").expect("written");
    let layout = r#"[root.layout]
pattern = '^(?<id>[a-z])_(?<created>\d{8}_\d{6})?.*$'
[root.layout.created_at]
from = [
  { name = "created", as = "%Y%m%d_%H%M%S" },
  { file = "startedat" },
  "mtime",
]
"#;
    let at = chrono::DateTime::parse_from_rfc3339("2026-02-12T12:00:00Z").expect("a time");
    let time = std::time::SystemTime::from(at);
    let dir = fs::File::open(root.join("c_y")).expect("there");
    dir.set_modified(time).expect("set");
    let expected = [
        ("a", "2026-02-10T12:00:00Z"),
        ("b", "2026-02-11T12:00:00Z"),
        ("c", "2026-02-12T12:00:00Z"),
    ]
    .map(|(id, time)| (id.to_owned(), json!(time)));
    assert_eq!(times(&scan(&scratch, layout)), expected);
    let done = prune(&scratch, layout, 1);
    assert_eq!(texts(&done.root()["removed"], "id"), ["a", "b"], "{done:?}");
    // The birth of an inode is not to be forged, so it is about now.
    let birth = "[root.layout]\n[root.layout.created_at]\nfrom = [\"birth\"]\n";
    let (_, born) = times(&scan(&scratch, birth)).pop().expect("one is left");
    let born = chrono::DateTime::parse_from_rfc3339(born.as_str().expect("a time"));
    let made = fs::metadata(root.join("c_y")).expect("there").created();
    let made = chrono::DateTime::<chrono::Utc>::from(made.expect("a birth time"));
    assert_eq!(born.expect("a time"), made);
}

const STATES: &str = r#"[root.layout]
metadata = "metadata.json"
[root.layout.state]
key = "/state"
active = ["recording"]
complete = ["done"]
failed = ["failed"]
"#;

#[test]
fn states_protect() {
    let scratch = Scratch::new();
    for (name, state) in [
        ("s1", json!("recording")),
        ("s2", json!("paused")),
        ("s3", json!("done")),
        ("s4", json!("failed")),
        ("s5", json!(["recording"])),
    ] {
        let day = &name[1..];
        let text = json!({ "created_at": format!("2026-02-0{day}T12:00:00Z"), "state": state });
        session_with(&scratch.root(), name, &text.to_string(), 1024);
    }
    let scan = scan(&scratch, STATES);
    let unknown: Vec<_> = scan["anomalies"].as_array().expect("anomalies").to_vec();
    let paths = texts(&Value::from(unknown.clone()), "path");
    assert_eq!(paths, ["s2", "s5"], "{unknown:?}");
    assert!(unknown.iter().all(|a| a["kind"] == "state_unknown"));
    assert_eq!(
        texts(&scan["sessions"], "state")[..3],
        ["recording", "paused", "done"]
    );
    let done = prune(&scratch, STATES, 1);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(names(&scratch.root()), ["s1", "s2", "s5"]);
    let blocked = done.root()["blocked"].clone();
    assert_eq!(texts(&blocked, "reason"), ["active"], "{blocked}");
    assert_eq!(blocked[0]["sessions"], 3, "{blocked}");
}

#[test]
fn a_state_that_changes_frees_the_session() {
    let scratch = Scratch::new();
    let text = |state: &str| json!({ "created_at": OLD, "state": state }).to_string();
    session_with(&scratch.root(), "odd", &text("recording"), 2000);
    let more = "[root.limits]\nmax_size = 1000\n[root.guard]\nfirst_start = \"enforce\"\n";
    let config = configure(&scratch, &format!("{STATES}{QUIET}{more}"));
    let agent = Agent::on_config(&config);
    agent.root_until(0, "an unmet limit", |root| root["unmet"] == true);
    assert!(scratch.root().join("odd").exists());
    fs::write(metadata(&scratch), text("done")).expect("written");
    agent.until("it gone", |_| !scratch.root().join("odd").exists());
    let unmet = agent.told("prune.target_unmet", 1);
    let blocked = unmet[0]["blocked"].as_str().expect("text");
    assert!(blocked.starts_with("active 1 "), "{:#?}", agent.log());
}

#[test]
fn globs_keep() {
    let scratch = with_odd(&json!({ "created_at": OLD }).to_string());
    let config = configure(
        &scratch,
        "[root.protect]\nquiet = \"0s\"\nkeep = [\"o?d\", \"golden-*\"]\n",
    );
    let done = run(&config, &["prune-size", "--max-mb", &mb(1)]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(names(&scratch.root()), ["odd"]);
    assert_eq!(texts(&done.root()["blocked"], "reason"), ["pinned"]);
}

#[test]
fn groups_are_counted_alone() {
    let scratch = Scratch::new();
    for n in 1..=4 {
        let group = if n % 2 == 1 { "a" } else { "b" };
        let text = json!({ "created_at": format!("2026-02-0{n}T12:00:00Z"), "group": group });
        session_with(&scratch.root(), &format!("s{n}"), &text.to_string(), 1024);
    }
    let layout = "[root.layout]\nmetadata = \"metadata.json\"\ngroup = \"/group\"\n";
    let config = configure(&scratch, &format!("{layout}{QUIET}"));
    let words = ["prune-size", "--group", "b", "--max-mb", &mb(1100)];
    let done = run(&config, &words);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(names(&scratch.root()), ["s1", "s3", "s4"]);
    let done = run(
        &config,
        &["prune-size", "--group", "nobody", "--max-mb", &mb(1)],
    );
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(names(&scratch.root()), ["s1", "s3", "s4"]);
}

#[test]
fn what_was_just_written_is_quiet() {
    let scratch = with_odd(&json!({ "created_at": OLD }).to_string());
    let config = configure(&scratch, "");
    let done = run(&config, &["prune-size", "--max-mb", &mb(1)]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(names(&scratch.root()).len(), 3);
    assert_eq!(texts(&done.root()["blocked"], "reason"), ["quiet"]);
}

#[test]
fn a_recording_without_metadata_is_owned_and_quiet() {
    let scratch = Scratch::new();
    let root = scratch.root();
    for (name, n_bytes) in [
        ("140234567890_20260101_120000", 2048),
        ("some_id_20260102_120000", 1024),
    ] {
        bare_session(&root, name, n_bytes);
    }
    // Not in the form of a recording: nobody's, whatever its age.
    bare_session(&root, "my_important_project", 10);
    fs::write(root.join("notes_20260101_120000"), "a file").expect("written");
    let flags = [
        "--root",
        root.to_str().expect("text"),
        "--preset",
        "habla",
        "--json",
    ];
    let ask = |words: &[&str]| {
        let mut command = housekeeper();
        command.env("TZ", "UTC").args(words).args(flags);
        command.arg("--state-dir").arg(scratch.path("state"));
        Done::of(command.output().expect("runs"))
    };
    let scan = ask(&["scan"]).root();
    assert_eq!(
        times(&scan),
        [
            ("140234567890".to_owned(), json!("2026-01-01T12:00:00Z")),
            ("some_id".to_owned(), json!("2026-01-02T12:00:00Z")),
        ]
    );
    assert_eq!(texts(&scan["anomalies"], "kind"), ["unowned", "unowned"]);
    // It may be live: it was just written to.
    let done = ask(&["prune-size", "--max-mb", &mb(1500)]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(names(&root).len(), 4);
    // Crashed long ago it goes by the time in its name.
    let done = ask(&["prune-size", "--max-mb", &mb(1500), "--quiet", "0s"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(
        names(&root),
        [
            "my_important_project",
            "notes_20260101_120000",
            "some_id_20260102_120000"
        ]
    );
}

#[test]
fn a_directory_without_its_marker_is_nobodys() {
    let scratch = with_odd(&json!({ "created_at": OLD }).to_string());
    for name in ["s1", "s2"] {
        fs::write(scratch.root().join(name).join("ours"), "").expect("written");
    }
    let layout = "[root.layout]\nmetadata = \"metadata.json\"\nmarker = \"ours\"\n";
    let scan = scan(&scratch, layout);
    assert_eq!(texts(&scan["sessions"], "id"), ["s1", "s2"]);
    assert_eq!(scan["anomalies"][0]["kind"], "unowned");
    assert_eq!(scan["anomalies"][0]["path"], "odd");
    assert!(scan["unowned"]["bytes"].as_u64() > Some(1024), "{scan}");
    let done = prune(&scratch, layout, 1);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(names(&scratch.root()), ["odd"]);
}

#[test]
fn a_session_whose_lock_is_held_is_skipped() {
    for (layout, lock) in [
        ("lock = \"{stem}.lock\"", "odd.lock"),
        ("lock = \"./in_use\"", "odd/in_use"),
    ] {
        let scratch = with_odd(&json!({ "created_at": OLD }).to_string());
        let layout = format!("[root.layout]\nmetadata = \"metadata.json\"\n{layout}\n");
        let lock = scratch.root().join(lock);
        let held = fs::File::create(&lock).expect("made");
        held.lock_exclusive().expect("locked");
        let done = prune(&scratch, &layout, 2200);
        assert!(scratch.root().join("odd").exists(), "{done:?}");
        assert_eq!(texts(&done.root()["removed"], "id"), ["s1"], "{done:?}");
        assert_eq!(done.events("prune.skipped").len(), 1, "{done:?}");
        assert_eq!(done.events("prune.skipped")[0]["reason"], "locked");
        drop(held);
        let done = prune(&scratch, &layout, 1100);
        assert_eq!(texts(&done.root()["removed"], "id"), ["odd"], "{done:?}");
    }
}

#[test]
fn the_agent_tries_again_when_a_lock_is_let_go() {
    let scratch = with_odd(&json!({ "created_at": OLD }).to_string());
    let held = fs::File::create(scratch.root().join("odd.lock")).expect("made");
    held.lock_exclusive().expect("locked");
    fs::remove_dir_all(scratch.root().join("s1")).expect("removed");
    fs::remove_dir_all(scratch.root().join("s2")).expect("removed");
    let layout = "[root.layout]\nmetadata = \"metadata.json\"\nlock = \"{stem}.lock\"\n";
    let more = "[root.limits]\nmax_size = 10\n[root.guard]\nfirst_start = \"enforce\"\n";
    let config = configure(&scratch, &format!("{layout}{QUIET}{more}"));
    let agent = Agent::on_config(&config);
    agent.until("a skip", |agent| !agent.events("prune.skipped").is_empty());
    assert!(scratch.root().join("odd").exists());
    drop(held);
    agent.until("it gone", |_| !scratch.root().join("odd").exists());
}
