//! Sessions that are files, with and without metadata beside them; metadata in other formats; and
//! who else may have a say before something goes.

use crate::support::fixture::{Scratch, names, picture, session, session_with, with_config};
use crate::support::running::{Place, wait_for};
use crate::support::{Done, mb, texts};
use fs2::FileExt;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Runs a command on the scratch root with this layout.
fn run(scratch: &Scratch, layout: &str, words: &[&str]) -> Done {
    let root = scratch.root();
    let text = format!("[[root]]\nname = \"root\"\npath = {root:?}\n{layout}\n");
    with_config(scratch, &text, words)
}

fn scan(scratch: &Scratch, layout: &str) -> Value {
    let before = picture(&scratch.root());
    let done = run(scratch, layout, &["scan"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(picture(&scratch.root()), before, "a scan changes nothing");
    done.root()
}

fn prune(scratch: &Scratch, layout: &str, limit: u64) -> Done {
    run(scratch, layout, &["prune-size", "--max-mb", &mb(limit)])
}

fn kinds(root: &Value) -> Vec<(String, String)> {
    let kinds = texts(&root["anomalies"], "kind");
    kinds
        .into_iter()
        .zip(texts(&root["anomalies"], "path"))
        .collect()
}

fn created(day: u32) -> String {
    json!({ "created_at": format!("2026-01-{day:02}T00:00:00Z") }).to_string()
}

fn write(root: &Path, name: &str, text: impl AsRef<[u8]>) {
    fs::write(root.join(name), text).expect("written");
}

const KB: [u8; 1024] = [b'x'; 1024];
const LOUD: &str = "[root.protect]\nquiet = \"0s\"\n";
const SIDECAR: &str = "[root.protect]\nquiet = \"0s\"\n[root.layout]\nkind = \"sidecar\"\n";
const LOGS: &str = "[root.protect]\nquiet = \"0s\"\n[root.layout]\nkind = \"files\"\nsessions = \"**/*.log\"\ncreated_at = { from = [\"mtime\"] }\n";

fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_modified(then).expect("set");
}

#[test]
fn the_oldest_file_goes_and_nothing_beside_it() {
    let scratch = Scratch::new();
    let root = scratch.root();
    fs::create_dir_all(root.join("deep/er")).expect("made");
    for (name, days) in [("a.log", 3), ("deep/er/b.log", 4), ("deep/c.log", 2)] {
        write(&root, name, KB);
        age(&root.join(name), days);
    }
    write(&root, "deep/er/notes.txt", KB);
    let seen = scan(&scratch, LOGS);
    assert_eq!(
        texts(&seen["sessions"], "path"),
        ["deep/er/b.log", "a.log", "deep/c.log"]
    );
    assert_eq!(
        (&seen["bytes"], &seen["unowned"]["entries"]),
        (&json!(3072), &json!(1))
    );
    let done = prune(&scratch, LOGS, 3071);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(texts(&done.root()["removed"], "path"), ["deep/er/b.log"]);
    assert_eq!(done.root()["freed_bytes"], 1024);
    assert_eq!(names(&root.join("deep/er")), ["notes.txt"]);
    assert_eq!(names(&root), ["a.log", "deep"]);
}

#[test]
fn a_session_beside_its_metadata_goes_whole() {
    let scratch = Scratch::new();
    let root = scratch.root();
    for (id, day) in [("a", 3), ("b", 1), ("c", 2)] {
        write(&root, &format!("{id}.json"), created(day));
        write(&root, &format!("{id}.wav"), KB);
        write(&root, &format!("{id}.ogg"), KB);
    }
    write(&root, "lone.wav", KB);
    write(&root, "bare.json", created(1));
    let seen = scan(&scratch, SIDECAR);
    assert_eq!(texts(&seen["sessions"], "id"), ["b", "bare", "c", "a"]);
    let found = kinds(&seen);
    let place = |kind: &str, path: &str| (kind.to_owned(), path.to_owned());
    assert_eq!(
        found,
        [
            place("orphan_blob", "lone.wav"),
            place("dangling_entry", "bare.json")
        ]
    );
    let bytes = seen["bytes"].as_u64().expect("a number");
    let done = prune(&scratch, SIDECAR, bytes - 1);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(texts(&done.root()["removed"], "id"), ["b"]);
    assert_eq!(
        names(&root),
        [
            "a.json",
            "a.ogg",
            "a.wav",
            "bare.json",
            "c.json",
            "c.ogg",
            "c.wav",
            "lone.wav"
        ]
    );
    let intents = scratch.root().join(".housekeeper/intents");
    assert!(
        !intents.exists() || names(&intents).is_empty(),
        "all is finished"
    );
}

#[test]
fn a_recording_without_its_sidecar_is_owned_by_name_and_quiet() {
    let scratch = Scratch::new();
    let root = scratch.root();
    let layout = |quiet: &str| {
        format!(
            "[root.protect]\nquiet = {quiet:?}\n[root.layout]\nkind = \"sidecar\"\nrequired = false\npattern = '^rec_(?<created>\\d{{8}})$'\n[root.layout.created_at]\nfrom = [{{ key = \"/created_at\" }}, {{ name = \"created\", as = \"%Y%m%d\" }}]\n"
        )
    };
    write(&root, "rec_20260101.wav", KB);
    write(&root, "rec_20260102.wav", KB);
    write(&root, "rec_20260102.json", created(2));
    write(&root, "other.wav", KB);
    let seen = scan(&scratch, &layout("0s"));
    assert_eq!(
        texts(&seen["sessions"], "id"),
        ["rec_20260101", "rec_20260102"]
    );
    assert_eq!(
        kinds(&seen),
        [("unowned".to_owned(), "other.wav".to_owned())]
    );
    let live = prune(&scratch, &layout("1h"), 1500);
    assert_eq!(live.code, 1, "{live:?}");
    assert_eq!(texts(&live.root()["removed"], "id"), [""; 0]);
    let done = prune(&scratch, &layout("0s"), 1500);
    assert_eq!(texts(&done.root()["removed"], "id"), ["rec_20260101"]);
}

#[test]
fn a_sidecar_that_cannot_be_read_keeps_its_session() {
    let scratch = Scratch::new();
    let root = scratch.root();
    write(&root, "a.json", "{\"created_at\":");
    age(&root.join("a.json"), 1);
    write(&root, "a.wav", KB);
    write(&scratch.root(), "b.wav", KB);
    std::os::unix::fs::symlink("/etc/hostname", root.join("b.json")).expect("linked");
    write(&root, "c.wav", KB);
    write(&root, "c.json", created(9));
    let done = prune(&scratch, SIDECAR, 1024);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(texts(&done.root()["removed"], "id"), ["c"]);
    assert_eq!(names(&root), ["a.json", "a.wav", "b.json", "b.wav"]);
    let found = kinds(&scan(&scratch, SIDECAR));
    for kind in ["metadata_corrupt", "metadata_unreadable", "symlink"] {
        assert!(found.iter().any(|(of, _)| of == kind), "{found:?}");
    }
}

#[test]
fn metadata_in_yaml_and_in_text() {
    for (format, text) in [
        (
            "yaml",
            "meta: {at: 2026-01-05T01:00:00+09:00}\nstate: done\n",
        ),
        (
            "text",
            "# made by hand\nstate = done\nat: 2026-01-04T16:00:00Z\n",
        ),
    ] {
        let scratch = Scratch::new();
        session_with(&scratch.root(), "s", text, 10);
        session_with(&scratch.root(), "broken", "", 10);
        let key = if format == "yaml" { "/meta/at" } else { "/at" };
        let layout = format!(
            "{LOUD}[root.layout]\nformat = {format:?}\ncreated_at = {{ from = [{{ key = {key:?} }}] }}\nstate = {{ key = \"/state\", complete = [\"done\"] }}\n"
        );
        let seen = scan(&scratch, &layout);
        let session = &seen["sessions"][0];
        assert_eq!(session["created_at"], "2026-01-04T16:00:00Z", "{seen:#}");
        assert_eq!(session["state"], "done");
        assert_eq!(
            kinds(&seen),
            [("metadata_corrupt".to_owned(), "broken".to_owned())]
        );
    }
}

#[test]
fn sessions_among_other_data_go_and_the_other_data_stays() {
    let scratch = Scratch::new();
    let root = scratch.root();
    for repository in ["x", "y/z"] {
        let uploads = root.join(repository).join("_uploads");
        fs::create_dir_all(&uploads).expect("made");
        session(&uploads, "1", "2026-01-01T00:00:00Z", 1024);
        write(&root.join(repository), "data", KB);
    }
    let layout = format!("{LOUD}[root.layout]\nsessions = \"**/_uploads/*\"\n");
    let kept = format!("{layout}remove_empty_parents = true\n");
    let seen = scan(&scratch, &layout);
    assert_eq!(
        texts(&seen["sessions"], "path"),
        ["x/_uploads/1", "y/z/_uploads/1"]
    );
    let one = seen["bytes"].as_u64().expect("a number") / 2;
    let done = prune(&scratch, &layout, one);
    assert_eq!(
        texts(&done.root()["removed"], "path"),
        ["x/_uploads/1"],
        "{done:?}"
    );
    assert_eq!(names(&root.join("x")), ["_uploads", "data"]);
    let done = prune(&scratch, &kept, 1);
    assert_eq!(
        texts(&done.root()["removed"], "path"),
        ["y/z/_uploads/1"],
        "{done:?}"
    );
    assert_eq!(names(&root.join("y/z")), ["data"], "the empty parent went");
    assert_eq!(
        names(&root.join("x")),
        ["_uploads", "data"],
        "nothing was removed from it"
    );
    assert_eq!(fs::read(root.join("y/z/data")).expect("there"), KB);
}

#[test]
fn the_root_never_goes_though_it_is_empty() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.root().join("d")).expect("made");
    write(&scratch.root().join("d"), "a.log", KB);
    let layout = format!("{LOGS}remove_empty_parents = true\n");
    let done = prune(&scratch, &layout, 1);
    assert_eq!(
        texts(&done.root()["removed"], "path"),
        ["d/a.log"],
        "{done:?}"
    );
    assert_eq!(names(&scratch.root()), [""; 0]);
}

#[test]
fn declared_sizes_are_compared_and_decide_nothing() {
    let scratch = Scratch::new();
    let root = scratch.root();
    let entry = |size: Value, state: &str, day: u32| {
        json!({ "created_at": format!("2026-01-{day:02}T00:00:00Z"), "size": size, "state": state })
            .to_string()
    };
    for (id, size, state, day) in [
        ("equal", json!(1024), "done", 1),
        ("less", json!(1000), "live", 2),
        ("more_live", json!(2000), "live", 3),
        ("more_done", json!(2000), "done", 4),
        ("nonsense", json!("1024"), "done", 5),
    ] {
        write(&root, &format!("{id}.json"), entry(size, state, day));
        write(&root, &format!("{id}.bin"), KB);
    }
    let layout = |means: &str| {
        format!(
            "{SIDECAR}size = {{ key = \"/size\", means = {means:?} }}\nstate = {{ key = \"/state\", active = [\"live\"], complete = [\"done\"] }}\n"
        )
    };
    let mismatches = |means: &str| -> Vec<String> {
        kinds(&scan(&scratch, &layout(means)))
            .into_iter()
            .map(|(kind, path)| {
                assert_eq!(kind, "size_mismatch");
                path
            })
            .collect()
    };
    assert_eq!(
        mismatches("bytes"),
        ["less.bin", "more_done.bin", "more_live.bin", "nonsense.bin"]
    );
    assert_eq!(
        mismatches("declared_total"),
        ["less.bin", "more_done.bin", "nonsense.bin"]
    );
    let done = prune(&scratch, &layout("bytes"), 3500);
    assert_eq!(
        texts(&done.root()["removed"], "id"),
        ["equal", "more_done"],
        "{done:?}"
    );
}

#[test]
fn a_lock_file_counts_by_its_lock_alone() {
    let scratch = Scratch::new();
    let root = scratch.root();
    for (id, day) in [("a", 1), ("b", 2)] {
        write(&root, &format!("{id}.json"), created(day));
        write(&root, &format!("{id}.bin"), KB);
    }
    write(&root, "a.lock", "");
    let layout = format!("{SIDECAR}blobs = [\"{{id}}.bin\"]\nlock = \"{{stem}}.lock\"\n");
    let lock = fs::File::open(root.join("a.lock")).expect("a file");
    FileExt::lock_exclusive(&lock).expect("locked");
    let done = prune(&scratch, &layout, 2000);
    assert_eq!(texts(&done.root()["removed"], "id"), ["b"], "{done:?}");
    assert_eq!(done.events("prune.skipped")[0]["reason"], "locked");
    drop(lock);
    let done = prune(&scratch, &layout, 1);
    assert_eq!(texts(&done.root()["removed"], "id"), ["a"], "{done:?}");
}

/// Sessions `1` to `4`, whose groups are `live` and `done` in turns. Somebody holds the locks of
/// `live`; those of `done` merely lie there. Some guard two sessions at once.
#[test]
fn a_lock_named_by_the_patterns_groups_counts_by_its_lock_alone() {
    type Make = fn(&Path, &str, &str);
    let beside: Make = |root, id, group| {
        let name = format!("{id}_{group}");
        session(root, &name, &format!("2026-01-0{id}T00:00:00Z"), 1024);
    };
    let cases: [(&str, Make, &str); 4] = [
        (
            "pattern = '^(?<id>\\d)_(?<group>[a-z]+)$'\nlock = \"{group}.lock\"",
            beside,
            "GROUP.lock",
        ),
        (
            "pattern = '^(?<id>\\d)_(?<group>[a-z]+)$'\nlock = \"./{group}-{id}.lock\"",
            beside,
            "ID_GROUP/GROUP-ID.lock",
        ),
        (
            "kind = \"files\"\nsessions = \"*\"\npattern = '^(?<id>\\d)\\.(?<group>[a-z]+)$'\nlock = \"{group}-{id}.lock\"",
            |root, id, group| {
                let text = created(id.parse().expect("a day"));
                write(root, &format!("{id}.{group}"), text);
            },
            "GROUP-ID.lock",
        ),
        (
            "kind = \"sidecar\"\npattern = '^(?<id>\\d)_(?<group>[a-z]+)$'\nlock = \".{group}\"",
            |root, id, group| {
                let text = created(id.parse().expect("a day"));
                write(root, &format!("{id}_{group}.json"), text);
                write(root, &format!("{id}_{group}.wav"), KB);
            },
            ".GROUP",
        ),
    ];
    for (layout, make, lock) in cases {
        let scratch = Scratch::new();
        let root = scratch.root();
        let mut held = Vec::new();
        for (id, group) in [("1", "live"), ("2", "done"), ("3", "live"), ("4", "done")] {
            make(&root, id, group);
            let lock = root.join(lock.replace("ID", id).replace("GROUP", group));
            let file = fs::File::create(lock).expect("made");
            if group == "live" {
                FileExt::lock_shared(&file).expect("locked");
                held.push(file);
            }
        }
        let layout = format!("{LOUD}[root.layout]\n{layout}\n");
        let done = prune(&scratch, &layout, 1);
        assert_eq!(
            texts(&done.root()["removed"], "id"),
            ["2", "4"],
            "{layout}: {done:?}"
        );
        let skipped = Value::from(done.events("prune.skipped"));
        assert_eq!(
            texts(&skipped, "reason"),
            ["locked"; 2],
            "{layout}: {skipped}"
        );
        for file in &held {
            FileExt::unlock(file).expect("unlocked");
        }
        let done = prune(&scratch, &layout, 1);
        assert_eq!(
            texts(&done.root()["removed"], "id"),
            ["1", "3"],
            "{layout}: {done:?}"
        );
    }
}

#[test]
fn an_open_file_keeps_its_session_where_that_is_asked_for() {
    let scratch = Scratch::new();
    let root = scratch.root();
    session(&root, "a", "2026-01-01T00:00:00Z", 1024);
    session(&root, "b", "2026-01-02T00:00:00Z", 1024);
    // This process is another one than the command.
    let open = fs::File::open(root.join("a/data.bin")).expect("a file");
    let layout = format!("{LOUD}open_files = true\n[root.layout]\n");
    let done = prune(&scratch, &layout, 1500);
    assert_eq!(texts(&done.root()["removed"], "id"), ["b"], "{done:?}");
    assert_eq!(done.events("prune.skipped")[0]["reason"], "open");
    drop(open);
    // A child that another test starts just now has it for as long as it is not a program yet.
    wait_for("nobody to have it open", || {
        let done = prune(&scratch, &layout, 1);
        match texts(&done.root()["removed"], "id") == ["a"] {
            true => Ok(()),
            false => Err(format!("{done:?}")),
        }
    });
}

/// Without `/proc` nobody can say what is open: then everything may be.
#[test]
fn where_nobody_knows_what_is_open_nothing_goes() {
    let hides = "mount -t tmpfs none /proc && exec \"$@\"";
    let mut place = Place::new();
    place.wrapper = ["unshare", "-m", "sh", "-c", hides, "sh"]
        .map(str::to_owned)
        .to_vec();
    place.configure(
        "[root.layout]\n[root.limits]\nmax_size = 1500\n\
         [root.protect]\nquiet = \"0s\"\nopen_files = true",
    );
    session(&place.root, "a", "2026-01-01T00:00:00Z", 1024);
    session(&place.root, "b", "2026-01-02T00:00:00Z", 1024);
    let prune = ["prune-size", "--max-mb", "0.0015", "--json"];
    let tried = place.run(&prune);
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
    assert!(place.root.join("a").exists() && place.root.join("b").exists());
    place.wrapper.clear();
    let done = place.run(&prune);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(!place.root.join("a").exists() && place.root.join("b").exists());
}

#[test]
fn another_programs_lock_is_respected_taken_and_given_back() {
    let layout = format!("{LOUD}[root.layout]\nforeign_lock = \".prune_size.lock\"\n");
    let with_lock = |make: &dyn Fn(&Path)| {
        let scratch = Scratch::new();
        session(&scratch.root(), "a", "2026-01-01T00:00:00Z", 1024);
        let lock = scratch.root().join(".prune_size.lock");
        make(&lock);
        let done = prune(&scratch, &layout, 1);
        (
            done.code,
            lock.exists(),
            scratch.root().join("a").exists(),
            scratch,
        )
    };
    let fresh = |lock: &Path| fs::write(lock, "pid=1 started_at=1\n").expect("written");
    let (code, is_locked, is_there, _) = with_lock(&|_| {});
    assert_eq!((code, is_locked, is_there), (0, false, false));
    let (code, is_locked, is_there, scratch) = with_lock(&fresh);
    assert_eq!((code, is_locked, is_there), (2, true, true));
    let text = fs::read(scratch.root().join(".prune_size.lock")).expect("there");
    assert_eq!(
        text, b"pid=1 started_at=1\n",
        "a busy caller leaves it alone"
    );
    let stale = |lock: &Path| {
        fresh(lock);
        age(lock, 1);
    };
    let (code, is_locked, is_there, _) = with_lock(&stale);
    assert_eq!(
        (code, is_locked, is_there),
        (0, false, false),
        "left by a process that died"
    );
    let future = |lock: &Path| {
        fresh(lock);
        let then = SystemTime::now() + Duration::from_secs(86_400);
        let file = fs::File::options().write(true).open(lock).expect("a file");
        file.set_modified(then).expect("set");
    };
    let (code, is_locked, is_there, _) = with_lock(&future);
    assert_eq!(
        (code, is_locked, is_there),
        (0, false, false),
        "not busy for ever"
    );
    let ours = |lock: &Path| {
        fs::write(lock, "pid=1 started_at=1 by=housekeeper\n").expect("written");
    };
    let (code, is_locked, is_there, _) = with_lock(&ours);
    assert_eq!(
        (code, is_locked, is_there),
        (0, false, false),
        "left by one of ours"
    );
    let (code, is_locked, is_there, _) = with_lock(&|lock| fs::create_dir(lock).expect("made"));
    assert_eq!(
        (code, is_locked, is_there),
        (1, true, true),
        "a directory is no lock"
    );
}

#[test]
fn a_layout_that_owns_anything_must_say_so() {
    let scratch = Scratch::new();
    let done = run(
        &scratch,
        "[root.layout]\nkind = \"files\"\ncreated_at = { from = [\"mtime\"] }\n",
        &["scan"],
    );
    assert_eq!(done.code, 78, "{done:?}");
    assert!(done.stderr.contains("everything"), "{done:?}");
    write(&scratch.root(), "anything", KB);
    let all =
        "[root.layout]\nkind = \"files\"\neverything = true\ncreated_at = { from = [\"mtime\"] }\n";
    assert_eq!(scan(&scratch, all)["session_count"], 1);
}
