//! Registrations of other sessions than files of a pattern: what a preset of the program says.

use crate::support::cleaning::{Desk, agent, file, in_database};
use crate::support::fixture::{Store, names, picture};
use crate::support::texts;
use housekeeper::client::{Client, ClientError, Registration};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A session of gofr-doc, created on this day of February; its file was written just now.
fn document(dir: &Path, id: &str, day: u32) {
    let text = json!({ "created_at": format!("2026-02-{day:02}T12:00:00") });
    fs::write(dir.join(format!("{id}.json")), text.to_string()).expect("written");
}

/// A session of the upload portal: its metadata, and a file of a hundred bytes.
fn upload(dir: &Path, name: &str, day: u32, state: &str) {
    let session = dir.join(name);
    fs::create_dir(&session).expect("made");
    let text = json!({
        "created_at": format!("2026-02-{day:02}T12:00:00Z"),
        "state": state,
        "total_size_bytes": 100,
    });
    fs::write(session.join("data.bin"), vec![b'x'; 100]).expect("written");
    fs::write(session.join("metadata.json"), text.to_string()).expect("written");
}

#[test]
fn sessions_of_a_preset_go_by_what_their_metadata_says() {
    let desk = Desk::new("");
    // The newest by its metadata is the oldest by its last write.
    for (id, day) in [("d", 4), ("c", 3), ("b", 2), ("a", 1)] {
        document(&desk.dir(), id, day);
    }
    file(&desk.dir().join("notes.txt"), 10, 400);
    let dir = desk.dir().display().to_string();
    let added = desk.done(&[
        "add",
        &dir,
        "--preset",
        "gofr-doc",
        "--max-files",
        "2",
        "--yes",
    ]);
    assert_eq!(
        (&added["preset"], &added["pattern"], &added["updated"]),
        (&"gofr-doc".into(), &"".into(), &false.into())
    );
    let id = added["id"].as_str().expect("an id");
    let before = picture(&desk.dir());
    let would = desk.done(&["run", "--dry-run"]);
    assert_eq!(picture(&desk.dir()), before);
    let ran = desk.done(&["run", id]);
    let detail = &ran["details"][0];
    assert_eq!(texts(&detail["files"], "path"), ["a.json", "b.json"]);
    assert_eq!(detail["preset"], "gofr-doc");
    let message = detail["message"].as_str().expect("a sentence");
    assert!(message.starts_with("Deleted 2 sessions"), "{message}");
    for figure in ["files_deleted", "space_freed", "files_kept"] {
        assert_eq!(would["details"][0][figure], detail[figure], "{figure}");
    }
    assert_eq!(names(&desk.dir()), ["c.json", "d.json", "notes.txt"]);
    let shown = desk.done(&["show", id]);
    assert_eq!(
        (&shown["preset"], &shown["runs"][0]["files_deleted"]),
        (&"gofr-doc".into(), &2.into())
    );
    let mut list = crate::support::housekeeper();
    list.args(["cleanup", "list", "--config"]);
    list.arg(desk.scratch.path("config.toml"));
    let table = crate::support::Done::of(list.output().expect("it runs"));
    assert!(table.stdout.contains("preset gofr-doc"), "{table:?}");
}

/// A directory is one session, goes whole, and stays as it is while it is active: nothing of a
/// preset's `[lifecycle]` is done to it, though it is stale by far.
#[test]
fn a_directory_goes_whole_and_an_active_one_stays_as_it_is() {
    let desk = Desk::new("");
    upload(&desk.dir(), "active", 1, "uploading");
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        upload(&desk.dir(), name, 2 + n as u32, "complete");
    }
    let active = picture(&desk.dir().join("active"));
    let dir = desk.dir().display().to_string();
    desk.done(&[
        "add",
        &dir,
        "--preset",
        "portal-uploads",
        "--max-files",
        "2",
        "--yes",
    ]);
    let ran = desk.done(&["run"]);
    let detail = &ran["details"][0];
    assert_eq!(texts(&detail["files"], "path"), ["one", "two"], "{ran}");
    assert_eq!(
        (&detail["files_deleted"], &detail["files_kept"]),
        (&2.into(), &2.into())
    );
    assert_eq!(names(&desk.dir()), ["active", "three"]);
    assert_eq!(picture(&desk.dir().join("active")), active);
}

#[test]
fn a_catalogue_is_counted_by_its_entries() {
    let desk = Desk::new("");
    let store = Store::of(3);
    let dir = store.root().display().to_string();
    desk.done(&[
        "add",
        &dir,
        "--preset",
        "gofr-dig",
        "--max-files",
        "10",
        "--yes",
    ]);
    let would = desk.done(&["run", "--dry-run"]);
    let detail = &would["details"][0];
    assert_eq!(
        (&detail["files_kept"], &detail["files_deleted"]),
        (&3.into(), &0.into()),
        "{would}"
    );
}

#[test]
fn other_programs_register_a_preset_and_an_agent_watches_it() {
    let desk = Desk::new("");
    let agent = agent(&desk, "");
    let client = Client::new(desk.scratch.path("agent.sock"));
    let dir = desk.dir().display().to_string();
    let wanted = Registration {
        max_files: Some(Some(1)),
        watch: Some(true),
        yes: true,
        ..Registration::of_preset(&dir, "portal-uploads")
    };
    let uploads = client.register(&wanted).expect("registered");
    assert_eq!(
        (uploads.preset.as_deref(), uploads.pattern.as_str()),
        (Some("portal-uploads"), "")
    );
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        upload(&desk.dir(), name, 2 + n as u32, "complete");
    }
    agent.until("the newest alone", |_| names(&desk.dir()) == ["three"]);
    assert!(client.register(&wanted).expect("known").updated);
    let files = client.register(&Registration::of(&dir, "*.log"));
    assert!(
        matches!(&files, Err(ClientError::Refused(why)) if why.contains("no preset can be")),
        "{files:?}"
    );
    let other = Registration {
        preset: Some("directories".to_owned()),
        ..Registration::default()
    };
    // Other sessions go by other words: that is asked for anew.
    let unasked = client.update(&uploads.id, &other);
    assert!(
        matches!(&unasked, Err(ClientError::Refused(why)) if why.contains("--yes")),
        "{unasked:?}"
    );
    let other = Registration { yes: true, ..other };
    let changed = client.update(&uploads.id, &other).expect("changed");
    assert_eq!(changed.preset.as_deref(), Some("directories"));
    let all = client.list().expect("a list");
    assert_eq!(all.len(), 1);
    let report = client.dry_run(Some(&uploads.id)).expect("a report");
    assert_eq!(report.details[0].preset.as_deref(), Some("directories"));
}

#[test]
fn what_no_preset_is_is_refused_and_leaves_nothing() {
    let desk = Desk::new("");
    let dir = desk.dir().display().to_string();
    for (more, code, why) in [
        (&["--preset", "tusk"][..], 1, "gofr-dig"),
        (&["--preset", "tus", "--pattern", "*"], 64, "--pattern"),
        (&["--preset", "tus"], 1, "--yes"),
    ] {
        let words = [&["add", &dir][..], more].concat();
        let done = desk.run(&words);
        assert!(
            done.code == code && done.stderr.contains(why),
            "{words:?}: {done:?}"
        );
    }
    assert_eq!(desk.done(&["list"])["cleanups"], Value::Array(Vec::new()));
}

/// As written by a later version, which may say more than a preset there.
#[test]
fn a_layout_that_is_not_understood_removes_nothing_and_says_so() {
    let desk = Desk::new("");
    document(&desk.dir(), "a", 1);
    let dir = desk.dir().display().to_string();
    desk.done(&["add", &dir, "--preset", "gofr-doc", "--yes"]);
    in_database(
        &desk,
        "UPDATE cleanups SET layout = 'preset = \"gofr-doc\"' || char(10) || 'kind = \"files\"'",
    );
    let ran = desk.run(&["run"]);
    assert!(
        ran.code == 1 && ran.stdout.contains("cannot read"),
        "{ran:?}"
    );
    assert_eq!(names(&desk.dir()), ["a.json"]);
    assert_eq!(desk.done(&["list"])["cleanups"][0]["preset"], Value::Null);
}
