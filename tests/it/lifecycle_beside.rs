//! The life of sessions whose metadata lies beside them, and of metadata in YAML.

use crate::support::running::{Place, wait_for};
use chrono::TimeDelta;
use housekeeper::agent::survey::{Manner, survey_at};
use housekeeper::clock::SystemClock;
use housekeeper::config;
use housekeeper::config::request::Request;
use housekeeper::disk::tree::Tree;
use housekeeper::model::disk::Disk;
use housekeeper::model::fact::Fact;
use housekeeper::model::lifecycle::{Deed, Extent, LifeOrder, LifeOutcome, Parts, Transition};
use housekeeper::model::path::RelPath;
use housekeeper::model::plan::{Plan, Proof};
use housekeeper::model::report::Skip;
use housekeeper::model::seen::Seen;
use housekeeper::model::session::{Key, SessionId};
use housekeeper::model::time::{Clock, Now};
use housekeeper::prune::lifecycle::Keeping;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

const STATE: &str = r#"
[root.layout.state]
key = "/state"
active = ["init", "in_progress"]
complete = ["complete"]
failed = ["failed", "aborted"]
[root.protect]
quiet = "0s"
keep = ["golden*"]
"#;

/// Runs as far from now as it is told.
#[derive(Debug)]
struct Moved(SystemClock, TimeDelta);

impl Clock for Moved {
    fn now(&self) -> Now {
        let now = self.0.now();
        Now {
            wall: now.wall + self.1,
            tick: now.tick,
        }
    }
}

/// A tus server's uploads, whose `.info` has a state here.
fn uploads(lifecycle: &str) -> Place {
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nkind = \"sidecar\"\nsessions = \"**\"\npattern = '^[0-9a-z]+$'\n\
         metadata = \"{{id}}.info\"\nblobs = [\"{{id}}\", \"{{id}}.part{{n}}\", \"{{id}}.lock\"]\n\
         lock = \"{{id}}.lock\"\n[root.layout.created_at]\nfrom = [\"mtime\"]\n{STATE}\
         [root.lifecycle]\n{lifecycle}\n"
    ));
    fs::create_dir(place.root.join("a")).expect("a directory");
    place
}

fn settings(place: &Place) -> config::settings::Root {
    let request = Request {
        file: Some(place.beside("config.toml")),
        ..Request::default()
    };
    let settings = config::load(&request).expect("a good configuration");
    assert_eq!(settings.strict_problems(), []);
    settings.roots[0].clone()
}

fn at(place: &Place, hours: i64, enforce: bool) -> (Plan, Vec<Fact>) {
    let clock = Moved(SystemClock::start(), TimeDelta::hours(hours));
    let manner = Manner {
        enforce,
        ..Manner::look(&place.root.with_file_name("state"))
    };
    let survey = survey_at(&settings(place), manner, Arc::new(clock)).expect("a survey");
    let said = (survey.plan.clone(), survey.facts().to_vec());
    survey.end();
    said
}

fn info(word: &str) -> String {
    format!("{{\"ID\":\"x\",\"Size\":300,\"state\":\"{word}\",\"MetaData\":{{\"n\":1.50}}}}")
}

fn upload(place: &Place, id: &str, word: &str) {
    let file = |end: &str| place.root.join(format!("{id}{end}"));
    fs::write(file(""), [7; 300]).expect("data");
    for part in [".part1", ".part2"] {
        fs::write(file(part), [1; 100]).expect("a part");
    }
    fs::write(file(".info"), info(word)).expect("metadata");
}

fn read(place: &Place, path: &str) -> String {
    fs::read_to_string(place.root.join(path)).expect("a file")
}

fn has(place: &Place, path: &str) -> bool {
    place.root.join(path).exists()
}

#[test]
fn an_upload_with_a_sidecar_that_is_left_behind_becomes_failed() {
    let place = uploads("stale_after = \"24h\"");
    for id in ["u1", "a/u2", "golden1"] {
        upload(&place, id, "init");
    }
    upload(&place, "odd", "paused");
    upload(&place, "done", "complete");
    let before = fs::metadata(place.root.join("u1.info")).expect("a file");
    let (plan, _) = at(&place, 25, false);
    let due: Vec<_> = plan.transitions.iter().map(|due| due.deed).collect();
    assert_eq!(due, [Deed::Fail, Deed::Fail], "{plan:?}");
    assert!(!has(&place, ".housekeeper"));
    at(&place, 23, true);
    assert_eq!(read(&place, "u1.info"), info("init"));
    let (_, facts) = at(&place, 25, true);
    for id in ["u1", "a/u2"] {
        let text = read(&place, &format!("{id}.info"));
        let (kept, added) = text.split_once(",\"failed_at\":\"").expect("a time");
        assert_eq!(kept, info("failed").strip_suffix('}').expect("an object"));
        assert!(
            added.ends_with("Z\",\"failure_reason\":\"stale\"}"),
            "{text}"
        );
    }
    let after = fs::metadata(place.root.join("u1.info")).expect("a file");
    assert_ne!(after.ino(), before.ino(), "a new file in its place");
    assert_eq!(after.mode(), before.mode());
    for (id, word) in [("golden1", "init"), ("odd", "paused"), ("done", "complete")] {
        assert_eq!(read(&place, &format!("{id}.info")), info(word));
    }
    let told = |fact: &&Fact| matches!(fact, Fact::LifecycleFailed(_));
    assert_eq!(facts.iter().filter(told).count(), 2, "{facts:?}");
    assert!(has(&place, "u1") && has(&place, "u1.part1"));
}

#[test]
fn parts_beside_go_and_what_is_final_stays() {
    // The lock matches, too: it never is a part.
    let place = uploads(
        "parts = [\"*.part*\", \"*.lock\"]\norphan_parts_after = \"3h\"\nfailed_retention = \"30d\"",
    );
    for word in ["complete", "failed", "init", "paused"] {
        upload(&place, word, word);
        fs::write(place.root.join(format!("{word}.lock")), "").expect("a lock file");
    }
    upload(&place, "a/complete", "complete");
    upload(&place, "golden2", "complete");
    upload(&place, "corrupt", "comp");
    fs::write(place.root.join("corrupt.info"), "{\"state\":\"comp").expect("metadata");
    upload(&place, "lost", "x");
    fs::remove_file(place.root.join("lost.info")).expect("it was there");
    let (plan, _) = at(&place, 1, false);
    assert_eq!(plan.transitions.len(), 3, "{plan:?}");
    let two = Parts {
        n_files: 2,
        bytes: 200,
    };
    assert!(plan.transitions.iter().all(|due| due.parts == two));
    let (_, facts) = at(&place, 1, true);
    let told = |fact: &&Fact| matches!(fact, Fact::LifecyclePartsDeleted(_));
    assert_eq!(facts.iter().filter(told).count(), 3, "{facts:?}");
    for (id, stays) in [
        ("complete", false),
        ("a/complete", false),
        ("failed", false),
        ("init", true),
        ("paused", true),
        ("golden2", true),
        ("corrupt", true),
        ("lost", true),
    ] {
        assert_eq!(has(&place, &format!("{id}.part1")), stays, "{id}");
        assert_eq!(has(&place, &format!("{id}.part2")), stays, "{id}");
        assert!(has(&place, id), "{id}");
        assert_eq!(has(&place, &format!("{id}.info")), id != "lost", "{id}");
    }
    assert!(has(&place, "complete.lock"));
    assert_eq!(place.trash(), [""; 0]);
    at(&place, 4, true);
    assert!(!has(&place, "lost.part1") && has(&place, "lost"));
    assert!(has(&place, "corrupt.part1"));
    // And what failed goes whole.
    at(&place, 24 * 31, true);
    assert!(!has(&place, "failed") && !has(&place, "failed.info"));
    assert!(has(&place, "complete") && has(&place, "init"));
}

/// An order as the engine gives it, for what is there now.
/// A catalogue's sessions, of which one is left behind.
const LISTED: &str = r#"
[root.layout]
kind = "catalog"
metadata = "metadata.json"
[root.layout.created_at]
from = [{ key = "/created_at" }]
"#;

/// One that was made at `day`, of January.
fn entry(id: &str, day: u32, word: &str) -> String {
    format!(
        "  {id:?}: {{ \"format\": \"bin\", \"created_at\": \"2026-01-{day:02}T00:00:00Z\", \"state\": {word:?}, \"n\": 1.50 }}"
    )
}

#[test]
fn an_entry_of_a_catalogue_that_is_left_behind_becomes_failed() {
    let place = Place::new();
    let lifecycle = "[root.lifecycle]\nstale_after = \"24h\"\nfailed_retention = \"48h\"";
    place.configure(&format!("{LISTED}{STATE}{lifecycle}"));
    for id in ["a", "b", "c"] {
        fs::write(place.root.join(format!("{id}.bin")), [7; 100]).expect("space");
    }
    let text = |word: &str| {
        let entries = [
            entry("a", 1, "complete"),
            entry("b", 2, word),
            entry("c", 3, "complete"),
        ];
        format!("{{\n{}\n}}\n", entries.join(",\n"))
    };
    fs::write(place.root.join("metadata.json"), text("init")).expect("space");
    let (plan, _) = at(&place, 25, false);
    assert_eq!(plan.transitions.len(), 1, "{plan:?}");
    assert_eq!(
        (plan.transitions[0].deed, &*plan.transitions[0].key),
        (Deed::Fail, &b"b"[..])
    );
    assert_eq!(read(&place, "metadata.json"), text("init"));
    // Its owner may be about to save.
    let open = fs::File::open(place.root.join("metadata.json")).expect("a file");
    let (_, facts) = at(&place, 25, true);
    let skipped = |fact: &&Fact| {
        matches!(
            fact,
            Fact::LifecycleSkipped {
                why: Skip::Open,
                ..
            }
        )
    };
    assert_eq!(facts.iter().filter(skipped).count(), 1, "{facts:?}");
    assert_eq!(read(&place, "metadata.json"), text("init"));
    drop(open);
    let (_, facts) = at(&place, 25, true);
    let failed = |fact: &&Fact| matches!(fact, Fact::LifecycleFailed(_));
    assert_eq!(facts.iter().filter(failed).count(), 1, "{facts:?}");
    let now = read(&place, "metadata.json");
    let entries: serde_json::Value = serde_json::from_str(&now).expect("a catalogue");
    let failed_at = entries["b"]["failed_at"]
        .as_str()
        .expect("a time")
        .to_owned();
    let added = format!(", \"failed_at\": \"{failed_at}\", \"failure_reason\": \"stale\"");
    let (before, after) = (
        entry("b", 2, "failed"),
        entry("b", 2, "failed").replace(" }", &format!("{added} }}")),
    );
    assert_eq!(
        now,
        text("failed").replace(&before, &after),
        "all else stays byte for byte"
    );
    // Its blob was not touched, and goes two days later, with its entry.
    assert!(has(&place, "b.bin"));
    at(&place, 25 + 47, true);
    assert!(has(&place, "b.bin"));
    at(&place, 25 + 49, true);
    assert!(!has(&place, "b.bin") && has(&place, "a.bin") && has(&place, "c.bin"));
    let entries: serde_json::Value =
        serde_json::from_str(&read(&place, "metadata.json")).expect("a catalogue");
    assert!(entries.get("b").is_none() && entries.get("a").is_some());
}

fn order(tree: &Tree, id: &str, names: &[&str], deed: Deed, now: Now) -> LifeOrder {
    let look = |name: &str| match tree.look(&RelPath::new(name.as_bytes()).expect("a path")) {
        Seen::There(stat) => stat,
        seen => panic!("{name}: {seen:?}"),
    };
    let info = format!("{id}.info");
    let key = Key::from(id.as_bytes());
    let files = names
        .iter()
        .map(|name| (name.as_bytes().into(), look(name).id));
    LifeOrder {
        transition: Transition {
            session: SessionId {
                slot: 0,
                generation: 1,
            },
            key: key.clone(),
            path: RelPath::new(id.as_bytes()).expect("a path"),
            deed,
            idle: Duration::ZERO,
            limit: Duration::ZERO,
            parts: Parts::default(),
        },
        extent: Extent {
            dir: RelPath::root(),
            id: tree.id(),
            files: Some(files.collect()),
            key,
        },
        proofs: vec![Proof {
            name: info.as_bytes().into(),
            mark: Some(look(&info).signature().mark()),
        }],
        unwritten_since: now.wall.into(),
        at: now.wall,
    }
}

#[test]
fn what_changes_between_decision_and_deed_beside_is_left_alone() {
    type Change = fn(&Place);
    let changes: [(&str, Change, Skip); 5] = [
        (
            "data is written",
            |p| fs::write(p.root.join("u"), "new").expect("space"),
            Skip::Quiet,
        ),
        (
            "data is another file",
            |p| {
                fs::rename(p.root.join("u"), p.beside("moved")).expect("it moves");
                fs::write(p.root.join("u"), "new").expect("space");
            },
            Skip::Replaced,
        ),
        (
            "metadata is written",
            |p| fs::write(p.root.join("u.info"), info("init")).expect("space"),
            Skip::Changed,
        ),
        (
            "a file of it comes",
            |p| fs::write(p.root.join("u.lock"), "").expect("space"),
            Skip::Replaced,
        ),
        (
            "somebody locks its lock file",
            |p| {
                let lock = fs::File::create(p.root.join("u.lock")).expect("a lock file");
                rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
                    .expect("it is free");
                // Held to the end of the test.
                std::mem::forget(lock);
            },
            Skip::Locked,
        ),
    ];
    for (deed, word) in [(Deed::Fail, "init"), (Deed::DropParts, "complete")] {
        for (what, change, why) in &changes {
            let place = uploads("stale_after = \"24h\"\nparts = [\"*.part*\"]");
            let root = settings(&place);
            upload(&place, "u", word);
            // Others write in the same directory all the time: that says nothing of this one.
            upload(&place, "other", "init");
            let tree = Tree::open(&root.real).expect("a root");
            let keeping = Keeping {
                disk: &tree,
                layout: &root.layout,
                rules: &root.lifecycle,
            };
            let names = ["u", "u.part1", "u.part2", "u.info"];
            let clock = SystemClock::start();
            let order = order(&tree, "u", &names, deed, clock.now());
            wait_for("a later time stamp", || {
                let probe = place.beside("probe");
                fs::write(&probe, "x").expect("space");
                let at = fs::metadata(&probe).and_then(|m| m.modified());
                if at.expect("a time") > std::time::SystemTime::from(order.at) {
                    Ok(())
                } else {
                    Err("not yet".to_owned())
                }
            });
            change(&place);
            let outcome = keeping.carry_out(&order, clock.now());
            assert_eq!(
                outcome,
                LifeOutcome::Skipped(why.clone()),
                "{what}, {deed:?}"
            );
            assert!(!read(&place, "u.info").contains("stale"), "{what}");
            assert!(has(&place, "u.part1"), "{what}");
        }
    }
}

#[test]
fn metadata_in_yaml_keeps_what_nobody_asked_for() {
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nsessions = \"*\"\nmetadata = \"meta.yaml\"\nformat = \"yaml\"\n{STATE}\
         [root.lifecycle]\nstale_after = \"24h\"\n"
    ));
    let write = |name: &str, text: &str| {
        fs::create_dir(place.root.join(name)).expect("a session");
        fs::write(place.root.join(name).join("meta.yaml"), text).expect("metadata");
    };
    let head = "# an upload\nzeta: 1.50\ncreated_at: 2026-01-01T00:00:00Z\n";
    write(
        "block",
        &format!("{head}state: init # so far\nalpha: [1, {{x: y}}]\n"),
    );
    let flow = "{created_at: 2026-01-01T00:00:00Z, state: init}\n";
    write("flow", flow);
    at(&place, 25, true);
    let text = read(&place, "block/meta.yaml");
    let changed = format!("{head}state: \"failed\" # so far\nalpha: [1, {{x: y}}]\nfailed_at: \"");
    assert!(text.starts_with(&changed), "{text}");
    assert!(text.ends_with("Z\"\nfailure_reason: \"stale\"\n"), "{text}");
    assert_eq!(
        read(&place, "flow/meta.yaml"),
        flow,
        "a style not known stays"
    );
}
