//! Each preset on a tree as its program leaves one: what it owns, what it plans, what it removes.
//! A preset without a tree here fails the last test.

use crate::support::fixture::{Scratch, Store, guid, names, picture, session_with};
use crate::support::{Done, housekeeper, mb, on_root, texts};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A tree with what is to be seen of it.
struct Tree {
    preset: &'static str,
    scratch: Scratch,
    /// Ids, the oldest first.
    sessions: Vec<String>,
    /// Names that are not owned and stay.
    others: Vec<&'static str>,
    /// All that is left when the oldest is gone.
    left: Vec<String>,
}

const KB: [u8; 1024] = [b'x'; 1024];

fn write(root: &Path, name: &str, bytes: impl AsRef<[u8]>, days: u64) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(&path, bytes).expect("written");
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    let file = fs::File::options().write(true).open(&path).expect("a file");
    file.set_modified(then).expect("set");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn directories() -> Tree {
    let scratch = Scratch::new();
    scratch.session("b", "2026-01-01T00:00:00Z", 1024);
    scratch.session("a", "2026-01-02T00:00:00+09:00", 1024);
    write(&scratch.root(), "README", KB, 0);
    Tree {
        preset: "directories",
        scratch,
        sessions: words(&["b", "a"]),
        others: vec!["README"],
        left: words(&["README", "a"]),
    }
}

fn files() -> Tree {
    let scratch = Scratch::new();
    write(&scratch.root(), "new.bin", KB, 1);
    write(&scratch.root(), "old.dat.1", KB, 2);
    write(&scratch.root(), "README", KB, 3);
    Tree {
        preset: "files",
        scratch,
        sessions: words(&["old.dat.1", "new.bin"]),
        others: vec!["README"],
        left: words(&["README", "new.bin"]),
    }
}

fn gofr_dig() -> Tree {
    let store = Store::of(3);
    write(&store.root(), "README", KB, 0);
    let blob = |n: u32| format!("{}.json", guid(n));
    Tree {
        preset: "gofr-dig",
        scratch: store.scratch,
        sessions: vec![guid(1), guid(2), guid(3)],
        others: vec!["README"],
        left: vec![
            blob(2),
            blob(3),
            "README".to_owned(),
            "metadata.json".to_owned(),
        ],
    }
}

fn gofr_doc() -> Tree {
    let scratch = Scratch::new();
    for n in 1..=2 {
        let text = json!({
            "session_id": guid(n),
            "template_id": "letter",
            "group": "alpha",
            "alias": null,
            "global_parameters": {},
            "fragments": [{
                "fragment_id": "f", "fragment_instance_guid": guid(9),
                "parameters": {}, "created_at": "2020-01-01T00:00:00",
            }],
            "created_at": format!("2026-02-0{n}T12:00:00.123456"),
            "updated_at": "2026-03-01T12:00:00.123456",
        });
        write(
            &scratch.root(),
            &format!("{}.json", guid(n)),
            text.to_string(),
            0,
        );
    }
    write(&scratch.root(), "notes.txt", KB, 0);
    Tree {
        preset: "gofr-doc",
        scratch,
        sessions: vec![guid(1), guid(2)],
        others: vec!["notes.txt"],
        left: vec![format!("{}.json", guid(2)), "notes.txt".to_owned()],
    }
}

fn habla() -> Tree {
    let scratch = Scratch::new();
    let root = scratch.root();
    let record = |name: &str, metadata: Option<&str>| {
        write(&root, &format!("{name}/raw_stream.webm"), KB, 0);
        write(&root, &format!("{name}/segment_001.wav"), KB, 0);
        if let Some(started) = metadata {
            let text = json!({
                "session_id": "140234567890", "started_at": started, "raw_audio_format": "webm_opus",
                "sample_rate": 16000, "segments": [], "ended_at": started, "total_segments": 0,
            });
            write(&root, &format!("{name}/metadata.json"), text.to_string(), 0);
        }
    };
    record(
        "140234567890_20260101_000001",
        Some("2026-01-01T00:00:01.5"),
    );
    // Crashed: it has no metadata.
    record("sess_004_20260101_000002", None);
    write(&root, "my_important_project/file", KB, 0);
    Tree {
        preset: "habla",
        scratch,
        sessions: words(&["140234567890", "sess_004"]),
        others: vec!["my_important_project"],
        left: words(&["my_important_project", "sess_004_20260101_000002"]),
    }
}

fn modular_logs() -> Tree {
    let scratch = Scratch::new();
    let root = scratch.root();
    write(&root, "app.log", KB, 1);
    write(&root, "app.log.2026-01-01", KB, 20);
    write(&root, "cleanup_report_20200101_030000.json", KB, 0);
    write(&root, "settings.json", KB, 90);
    Tree {
        preset: "modular-logs",
        scratch,
        sessions: words(&[
            "cleanup_report_20200101_030000",
            "app.log.2026-01-01",
            "app.log",
        ]),
        others: vec!["settings.json"],
        left: words(&["app.log", "app.log.2026-01-01", "settings.json"]),
    }
}

fn portal_uploads() -> Tree {
    let scratch = Scratch::new();
    let upload = |id: &str, state: &str, day: u32, total: u64| {
        let text = json!({
            "id": id, "state": state, "created_at": format!("2026-01-{day:02}T00:00:00Z"),
            "updated_at": "2026-02-01T00:00:00Z", "total_size_bytes": total,
        });
        session_with(&scratch.root(), id, &text.to_string(), 1024);
    };
    upload("0190-live", "in_progress", 1, 5_242_880);
    upload("0190-done", "complete", 2, 1024);
    upload("0190-failed", "failed", 3, 5_242_880);
    write(&scratch.root(), "README", KB, 0);
    Tree {
        preset: "portal-uploads",
        scratch,
        sessions: words(&["0190-live", "0190-done", "0190-failed"]),
        others: vec!["README"],
        left: words(&["0190-failed", "0190-live", "README"]),
    }
}

fn tus() -> Tree {
    let scratch = Scratch::new();
    let root = scratch.root();
    let ids = ["00aa", "11bb"];
    for id in ids {
        let info = json!({
            "ID": id, "Size": 1024, "SizeIsDeferred": false, "Offset": 0,
            "MetaData": { "filename": "film.mp4" }, "IsPartial": false, "IsFinal": false,
            "PartialUploads": null, "Storage": { "Path": format!("data/{id}"), "Type": "filestore" },
        });
        write(&root, &format!("{id}.info"), info.to_string(), 0);
        write(&root, id, KB, 0);
    }
    write(&root, "film.mp4", KB, 0);
    Tree {
        preset: "tus",
        scratch,
        sessions: words(&ids),
        others: vec!["film.mp4"],
        left: words(&["11bb", "11bb.info", "film.mp4"]),
    }
}

fn trees() -> Vec<Tree> {
    vec![
        directories(),
        files(),
        gofr_dig(),
        gofr_doc(),
        habla(),
        modular_logs(),
        portal_uploads(),
        tus(),
    ]
}

fn on(tree: &Tree, command: &str, more: &[&str]) -> Done {
    let words = [&["--preset", tree.preset], more].concat();
    on_root(command, &tree.scratch.root(), &words)
}

#[test]
fn each_preset_scans_plans_and_prunes_its_programs_tree() {
    for tree in trees() {
        let root = tree.scratch.root();
        let preset = tree.preset;
        let before = picture(&root);
        let scan = on(&tree, "scan", &[]);
        assert_eq!(scan.code, 0, "{preset}: {scan:?}");
        let seen = scan.root();
        assert_eq!(
            texts(&seen["sessions"], "id"),
            tree.sessions,
            "{preset}: {seen:#}"
        );
        let odd: Vec<(String, String)> = texts(&seen["anomalies"], "kind")
            .into_iter()
            .zip(texts(&seen["anomalies"], "path"))
            .collect();
        let others: Vec<(String, String)> = tree
            .others
            .iter()
            .map(|&name| ("unowned".to_owned(), name.to_owned()))
            .collect();
        assert_eq!(odd, others, "{preset}");
        // One session less is enough.
        let limit = seen["bytes"].as_u64().expect("a number") - 1;
        let plan = on(&tree, "plan", &["--max-size", &limit.to_string()]);
        let victims = texts(&plan.root()["victims"], "id");
        assert_eq!(picture(&root), before, "{preset}: looking changes nothing");
        let done = on(&tree, "prune-size", &["--max-mb", &mb(limit)]);
        assert_eq!(done.code, 0, "{preset}: {done:?}");
        assert_eq!(texts(&done.root()["removed"], "id"), victims, "{preset}");
        assert_eq!(victims.len(), 1, "{preset}");
        assert_eq!(names(&root), tree.left, "{preset}");
    }
}

fn run(words: &[&str]) -> Done {
    let mut command = housekeeper();
    command.args(words);
    Done::of(command.output().expect("runs"))
}

#[test]
fn detect_names_the_programs_own_preset_first() {
    for tree in trees() {
        let root = tree.scratch.root();
        let before = picture(&root);
        let dir = root.to_str().expect("text");
        let done = run(&["detect", dir, "--json"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(
            picture(&root),
            before,
            "{}: looking changes nothing",
            tree.preset
        );
        let document = done.document();
        let best = &document["presets"][0];
        // Directories whose metadata tells no state are no portal's uploads.
        assert!(
            best["preset"] == tree.preset && best["fits"] == true,
            "{}: {document:#}",
            tree.preset
        );
        let people = run(&["detect", dir]);
        let words = format!("--root {dir} --preset {}", tree.preset);
        assert!(people.stdout.contains(&words), "{people:?}");
    }
    let done = run(&["detect", "/", "--json"]);
    assert_eq!(done.code, 78, "{done:?}");
}

#[test]
fn presets_are_listed_and_shown() {
    let listed = run(&["presets", "--json"]).document();
    let named = texts(&listed["presets"], "name");
    let trees: BTreeSet<String> = trees().iter().map(|tree| tree.preset.to_owned()).collect();
    let all: BTreeSet<String> = named.iter().cloned().collect();
    assert_eq!(all, trees, "a preset without a tree above");
    let people = run(&["presets"]).stdout;
    for name in named {
        assert!(people.contains(&name), "{people}");
        let shown = run(&["presets", "show", &name]);
        assert_eq!(shown.code, 0);
        assert!(shown.stdout.contains("[layout]"), "{shown:?}");
        let json: Value = run(&["presets", "show", &name, "--json"]).document();
        assert_eq!(json["toml"], shown.stdout.as_str());
    }
    assert_eq!(run(&["presets", "show", "nothing"]).code, 64);
}
