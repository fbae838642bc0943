//! The life of sessions on a real disk, with a clock that is moved: what becomes of them when
//! their time has come, and what nobody may do to them before.

use crate::support::running::{Dice, Place, wait_for};
use chrono::TimeDelta;
use housekeeper::agent::survey::{Manner, survey_at};
use housekeeper::clock::SystemClock;
use housekeeper::config;
use housekeeper::config::request::Request;
use housekeeper::config::settings::Root;
use housekeeper::disk::rewrite::sweep;
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
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The upload portal's words.
const PORTAL: &str = r#"
[root.layout]
sessions = "*"
[root.layout.state]
key = "/state"
active = ["init", "in_progress"]
complete = ["complete"]
failed = ["failed", "aborted"]
[root.protect]
quiet = "0s"
keep = ["golden-*"]
[root.lifecycle]
parts = ["parts/*"]
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

fn portal(more: &str) -> Place {
    let place = Place::new();
    place.configure(&format!("{PORTAL}{more}"));
    place
}

fn settings(place: &Place) -> Root {
    let request = Request {
        file: Some(place.beside("config.toml")),
        ..Request::default()
    };
    let settings = config::load(&request).expect("a good configuration");
    assert_eq!(settings.strict_problems(), []);
    settings.roots[0].clone()
}

/// One look at the root so many hours from now, with all that follows; what was planned, and
/// what happened.
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

/// A session of a final file and two parts.
fn upload(place: &Place, name: &str, metadata: &str) {
    let dir = place.root.join(name);
    fs::create_dir_all(dir.join("parts")).expect("a session");
    fs::write(dir.join("final.bin"), [7; 300]).expect("a file");
    for part in ["1", "2"] {
        fs::write(dir.join("parts").join(part), [1; 100]).expect("a part");
    }
    fs::write(dir.join("metadata.json"), metadata).expect("metadata");
}

fn state(word: &str) -> String {
    format!(r#"{{"created_at":"2026-01-01T00:00:00Z","state":"{word}","size":1.50,"x":[1,{{}}]}}"#)
}

fn metadata(place: &Place, name: &str) -> String {
    fs::read_to_string(place.root.join(name).join("metadata.json")).expect("metadata")
}

fn has(place: &Place, path: &str) -> bool {
    place.root.join(path).exists()
}

/// Names in `.housekeeper` that a rewrite makes.
fn spare_files(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.root.join(".housekeeper"));
    let names = entries.into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("rewrite"))
        .collect()
}

#[test]
fn a_session_left_behind_becomes_failed_and_nothing_else_of_it_changes() {
    // The kernel's clock stands where it was: what is written now is a day old at once.
    let place = portal("stale_after = \"24h\"\nparts_after = \"48h\"\n");
    upload(&place, "u1", &state("init"));
    upload(&place, "golden-1", &state("init"));
    upload(&place, "odd", &state("paused"));
    let file = place.root.join("u1/metadata.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
    let before = fs::metadata(&file).expect("a file");
    // Seen before it happens, and a look changes nothing.
    let (plan, _) = at(&place, 25, false);
    assert_eq!(plan.transitions.len(), 1, "{plan:?}");
    assert_eq!(plan.transitions[0].deed, Deed::Fail);
    assert!(plan.transitions[0].to_string().contains("stale_after 1day"));
    assert_eq!(metadata(&place, "u1"), state("init"));
    assert!(!has(&place, ".housekeeper"));
    at(&place, 23, true);
    assert_eq!(metadata(&place, "u1"), state("init"));
    let (_, facts) = at(&place, 25, true);
    let text = metadata(&place, "u1");
    let (kept, added) = text.split_once(r#","failed_at":""#).expect("a time");
    assert_eq!(kept, state("failed").strip_suffix('}').expect("an object"));
    assert!(added.ends_with(r#"Z","failure_reason":"stale"}"#), "{text}");
    let after = fs::metadata(&file).expect("a file");
    let owner = |of: &fs::Metadata| (of.mode(), of.uid(), of.gid());
    assert_eq!(owner(&after), owner(&before));
    assert_ne!(after.ino(), before.ino(), "a new file in its place");
    assert!(has(&place, "u1/parts/1") && has(&place, "u1/final.bin"));
    let told = |fact: &&Fact| matches!(fact, Fact::LifecycleFailed(_) | Fact::StateChanged { .. });
    assert_eq!(facts.iter().filter(told).count(), 2, "{facts:?}");
    for untouched in ["golden-1", "odd"] {
        assert!(
            !metadata(&place, untouched).contains("failed"),
            "{untouched}"
        );
    }
    assert_eq!(spare_files(&place), [""; 0]);
}

#[test]
fn what_was_updated_is_not_stale_and_nonsense_decides_nothing() {
    let place = portal("stale_after = \"24h\"\n");
    let soon = chrono::Utc::now() + TimeDelta::hours(2);
    let updated = |word: &str| {
        state("init").replace("\"size\"", &format!("\"updated_at\":\"{word}\",\"size\""))
    };
    upload(&place, "later", &updated(&soon.to_rfc3339()));
    upload(&place, "odd", &updated("soon"));
    at(&place, 25, true);
    assert!(metadata(&place, "later").contains("init"));
    at(&place, 27, true);
    assert!(metadata(&place, "later").contains("stale"));
    assert!(metadata(&place, "odd").contains("init"));
}

#[test]
fn parts_of_what_has_ended_go_and_the_rest_stays() {
    let place = portal("orphan_parts_after = \"3h\"\n");
    for word in ["complete", "failed", "init", "paused"] {
        upload(&place, word, &state(word));
    }
    upload(&place, "golden-2", &state("complete"));
    upload(&place, "corrupt", "{\"state\":\"comp");
    upload(&place, "lost", "");
    fs::remove_file(place.root.join("lost/metadata.json")).expect("it was there");
    symlink(
        place.root.join("init/final.bin"),
        place.root.join("complete/parts/link"),
    )
    .expect("a link");
    let (plan, _) = at(&place, 1, false);
    assert_eq!(plan.transitions.len(), 2, "{plan:?}");
    assert!(plan.transitions.iter().all(|due| due.parts
        == Parts {
            n_files: 2,
            bytes: 200
        }));
    let (_, facts) = at(&place, 1, true);
    let told: Vec<_> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::LifecyclePartsDeleted(done) => Some((done.path.to_string(), done.parts.bytes)),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2, "{facts:?}");
    for (name, stays) in [
        ("complete", false),
        ("failed", false),
        ("init", true),
        ("paused", true),
        ("golden-2", true),
        ("corrupt", true),
        ("lost", true),
    ] {
        assert_eq!(has(&place, &format!("{name}/parts/1")), stays, "{name}");
        assert!(has(&place, &format!("{name}/final.bin")), "{name}");
        assert!(has(&place, &format!("{name}/parts")), "{name}");
    }
    assert!(
        place.root.join("complete/parts/link").is_symlink(),
        "no part"
    );
    assert_eq!(place.trash(), [""; 0]);
    // Those without a record go later, and their session stays.
    at(&place, 4, true);
    assert!(!has(&place, "lost/parts/1") && has(&place, "lost/final.bin"));
    assert!(has(&place, "corrupt/parts/1"));
}

#[test]
fn the_portals_preset_has_the_portals_rules() {
    let place = Place::new();
    place.configure("preset = \"portal-uploads\"\n[root.protect]\nquiet = \"0s\"");
    for word in ["init", "in_progress", "complete", "partial", "aborted"] {
        upload(&place, word, &state(word));
    }
    let (plan, _) = at(&place, 23, true);
    assert!(plan.victims.is_empty(), "{plan:?}");
    for (name, stays) in [
        ("init", true),
        ("in_progress", true),
        ("complete", false),
        ("partial", false),
        ("aborted", false),
    ] {
        assert_eq!(has(&place, &format!("{name}/parts/1")), stays, "{name}");
        assert_eq!(metadata(&place, name), state(name));
    }
    at(&place, 25, true);
    for name in ["init", "in_progress"] {
        assert!(metadata(&place, name).contains("\"failure_reason\":\"stale\""));
    }
    // Nothing goes because it failed until somebody says when.
    let (plan, _) = at(&place, 24 * 1000, true);
    assert!(plan.victims.is_empty(), "{plan:?}");
    assert!(has(&place, "aborted/final.bin") && has(&place, "init/final.bin"));
}

/// A layout whose sessions are files that are their own metadata.
const REPORTS: &str = r#"
[root.layout]
kind = "files"
sessions = "*.json"
metadata = "."
[root.layout.created_at]
from = [{ key = "/created_at" }]
[root.layout.state]
key = "/state"
active = ["init"]
complete = ["complete"]
failed = ["failed"]
[root.protect]
quiet = "0s"
[root.lifecycle]
stale_after = "24h"
failed_retention = "48h"
"#;

#[test]
fn a_file_that_is_its_own_metadata_has_a_life_too() {
    let place = Place::new();
    place.configure(REPORTS);
    let file = place.root.join("r1.json");
    fs::write(&file, state("init")).expect("space");
    fs::write(place.root.join("r2.json"), state("complete")).expect("space");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
    let (plan, _) = at(&place, 25, false);
    assert_eq!(plan.transitions.len(), 1, "{plan:?}");
    assert_eq!(plan.transitions[0].path.to_string(), "r1.json");
    let (_, facts) = at(&place, 25, true);
    let failed = |fact: &&Fact| matches!(fact, Fact::LifecycleFailed(_));
    assert_eq!(facts.iter().filter(failed).count(), 1, "{facts:?}");
    let text = fs::read_to_string(&file).expect("a file");
    let begun = state("failed");
    assert!(text.starts_with(begun.trim_end_matches('}')), "{text}");
    assert!(text.contains(r#""failure_reason":"stale""#), "{text}");
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    // It failed an hour after the day was over, and goes two days later, by the same rules.
    at(&place, 25 + 47, true);
    assert!(has(&place, "r1.json"));
    at(&place, 25 + 49, true);
    assert!(!has(&place, "r1.json") && has(&place, "r2.json"));
}

#[test]
fn failed_sessions_go_after_their_time_oldest_first_as_many_as_a_cycle_takes() {
    let place = portal("failed_retention = \"7d\"\nbatch = 3\n");
    for n in 0..5 {
        let text = state("aborted").replace("2026-01-01", &format!("2026-01-0{}", 9 - n));
        upload(&place, &format!("f{n}"), &text);
    }
    let now = chrono::Utc::now().to_rfc3339();
    let failed_at =
        |at: &str| state("failed").replace("\"size\"", &format!("\"failed_at\":\"{at}\",\"size\""));
    upload(&place, "young", &failed_at(&now));
    upload(&place, "odd", &failed_at("never"));
    upload(&place, "golden-3", &state("failed"));
    upload(&place, "done", &state("complete"));
    // Their parts go in one cycle (three of eight at a time), they themselves in the next ones.
    let (mut n_seen, mut most) = (Vec::new(), 0);
    for _ in 0..12 {
        let (plan, _) = at(&place, 1, true);
        let n_planned = plan.victims.len() + plan.transitions.len();
        assert!(n_planned <= 3, "{plan:?}");
        assert!(plan.n_later == 0 || n_planned == 3, "{plan:?}");
        most = most.max(n_planned as u64 + plan.n_later);
        n_seen.push(fs::read_dir(&place.root).expect("a root").count());
    }
    assert_eq!(most, 8, "what is due beyond the batch is counted");
    let lost: Vec<_> = n_seen.windows(2).map(|pair| pair[0] - pair[1]).collect();
    assert!(lost.iter().all(|n| *n <= 3), "{n_seen:?}");
    for n in 0..5 {
        assert!(!has(&place, &format!("f{n}")), "{n_seen:?}");
    }
    for stays in ["young", "odd", "golden-3", "done"] {
        assert!(has(&place, stays), "{stays}");
    }
    at(&place, 24 * 7 + 1, true);
    assert!(!has(&place, "young") && has(&place, "odd") && has(&place, "golden-3"));
}

#[test]
fn a_cycle_takes_a_batch_of_all_steps_together() {
    let place = portal("stale_after = \"24h\"\nfailed_retention = \"7d\"\nbatch = 3\n");
    for n in 0..5 {
        upload(&place, &format!("stale{n}"), &state("init"));
        upload(&place, &format!("failed{n}"), &state("failed"));
        upload(&place, &format!("done{n}"), &state("complete"));
    }
    for _ in 0..12 {
        let (plan, facts) = at(&place, 24 * 8, true);
        let is_step = |fact: &&Fact| {
            matches!(
                fact,
                Fact::PruneDeleted { .. }
                    | Fact::LifecycleFailed(_)
                    | Fact::LifecyclePartsDeleted(_)
            )
        };
        assert!(facts.iter().filter(is_step).count() <= 3, "{facts:?}");
        assert!(plan.victims.len() + plan.transitions.len() <= 3, "{plan:?}");
    }
    for n in 0..5 {
        assert!(metadata(&place, &format!("stale{n}")).contains("\"failure_reason\":\"stale\""));
        assert!(!has(&place, &format!("failed{n}")));
        assert!(has(&place, &format!("done{n}/final.bin")));
        assert!(!has(&place, &format!("done{n}/parts/1")));
    }
}

/// An order as the engine gives it, for what is there now.
fn order(tree: &Tree, name: &str, deed: Deed, now: Now) -> LifeOrder {
    let path = RelPath::new(name.as_bytes()).expect("a path");
    let document = path.join(b"metadata.json").expect("a path");
    let (Seen::There(dir), Seen::There(file)) = (tree.look(&path), tree.look(&document)) else {
        panic!("no session");
    };
    LifeOrder {
        transition: Transition {
            session: SessionId {
                slot: 0,
                generation: 1,
            },
            key: Key::from(name.as_bytes()),
            path: path.clone(),
            deed,
            idle: Duration::ZERO,
            limit: Duration::ZERO,
            parts: Parts::default(),
        },
        extent: Extent {
            dir: path,
            id: dir.id,
            files: None,
            key: Key::from(name.as_bytes()),
        },
        proofs: vec![Proof {
            name: b"metadata.json".as_slice().into(),
            mark: Some(file.signature().mark()),
        }],
        unwritten_since: now.wall.into(),
        at: now.wall,
    }
}

#[test]
fn what_changes_between_decision_and_deed_is_left_alone() {
    type Change = fn(&Place);
    let in_root = |place: &Place, name: &str| place.root.join(name);
    let clock = SystemClock::start();
    let changes: [(&str, Change, Skip); 6] = [
        (
            "a part is written",
            |p| fs::write(p.root.join("u/parts/2"), "new").expect("space"),
            Skip::Quiet,
        ),
        (
            "a name is made",
            |p| fs::create_dir(p.root.join("u/new")).expect("space"),
            Skip::Quiet,
        ),
        (
            "metadata is written",
            |p| fs::write(p.root.join("u/metadata.json"), state("init")).expect("space"),
            Skip::Changed,
        ),
        (
            "metadata is a link",
            |p| {
                let file = p.root.join("u/metadata.json");
                fs::rename(&file, p.beside("moved.json")).expect("it moves");
                symlink(p.beside("moved.json"), &file).expect("a link");
            },
            Skip::Changed,
        ),
        (
            "the session is another one",
            |p| {
                fs::rename(p.root.join("u"), p.beside("moved")).expect("it moves");
                upload(p, "u", &state("init"));
            },
            Skip::Replaced,
        ),
        (
            "the session is a link",
            |p| {
                fs::rename(p.root.join("u"), p.beside("moved")).expect("it moves");
                symlink(p.beside("moved"), p.root.join("u")).expect("a link");
            },
            Skip::Replaced,
        ),
    ];
    for (deed, word) in [(Deed::Fail, "init"), (Deed::DropParts, "complete")] {
        for (what, change, why) in &changes {
            let place = portal("stale_after = \"24h\"\n");
            let root = settings(&place);
            upload(&place, "u", &state(word));
            let tree = Tree::open(&root.real).expect("a root");
            let keeping = Keeping {
                disk: &tree,
                layout: &root.layout,
                rules: &root.lifecycle,
            };
            let order = order(&tree, "u", deed, clock.now());
            wait_for("a later time stamp", || {
                let probe = place.beside("probe");
                fs::write(&probe, "x").expect("space");
                let at = fs::metadata(&probe)
                    .and_then(|m| m.modified())
                    .expect("a time");
                let since = std::time::SystemTime::from(order.at);
                if at > since {
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
            for dir in [in_root(&place, "u"), place.beside("moved")] {
                if let Ok(text) = fs::read_to_string(dir.join("metadata.json")) {
                    assert!(!text.contains("stale"), "{what}");
                    assert!(dir.join("parts/1").exists(), "{what}");
                }
            }
            assert_eq!(spare_files(&place), [""; 0], "{what}");
        }
    }
}

fn in_an_hour() -> Now {
    let now = SystemClock::start().now();
    Now {
        wall: now.wall + TimeDelta::hours(1),
        ..now
    }
}

#[test]
fn what_is_locked_or_open_is_left_alone() {
    let place = portal("stale_after = \"24h\"\n");
    let root = settings(&place);
    upload(&place, "u", &state("init"));
    let tree = Tree::open(&root.real).expect("a root");
    let keeping = Keeping {
        disk: &tree,
        layout: &root.layout,
        rules: &root.lifecycle,
    };
    let later = in_an_hour();
    let order = order(&tree, "u", Deed::Fail, later);
    for locked in ["u", "u/metadata.json"] {
        let file = fs::File::open(place.root.join(locked)).expect("it is there");
        flock(&file, FlockOperation::LockExclusive).expect("a lock");
        assert_eq!(
            keeping.carry_out(&order, later),
            LifeOutcome::Skipped(Skip::Locked),
            "{locked}"
        );
    }
    // Whoever has it open may be about to write into the old file.
    let open = fs::File::open(place.root.join("u/metadata.json")).expect("it is there");
    assert_eq!(
        keeping.carry_out(&order, later),
        LifeOutcome::Skipped(Skip::Changed)
    );
    assert_eq!(metadata(&place, "u"), state("init"));
    drop(open);
    assert_eq!(keeping.carry_out(&order, later), LifeOutcome::Failed);
    assert!(metadata(&place, "u").contains("stale"));
    assert_eq!(spare_files(&place), [""; 0]);
}

/// Somebody who opens the file while it is exchanged writes into the one that stays.
#[test]
fn a_save_at_the_same_moment_is_never_lost() {
    let place = portal("stale_after = \"24h\"\n");
    let root = settings(&place);
    let tree = Tree::open(&root.real).expect("a root");
    let keeping = Keeping {
        disk: &tree,
        layout: &root.layout,
        rules: &root.lifecycle,
    };
    let later = in_an_hour();
    let mut n_failed = 0;
    for n in 0..300 {
        let name = format!("u{n}");
        upload(&place, &name, &state("init"));
        let order = order(&tree, &name, Deed::Fail, later);
        let file = place.root.join(&name).join("metadata.json");
        let in_place = n % 2 == 0;
        let owner = std::thread::spawn(move || save(&file, in_place));
        let outcome = keeping.carry_out(&order, later);
        owner.join().expect("the owner ends");
        n_failed += usize::from(outcome == LifeOutcome::Failed);
        // The owner saved last, or found the new text and saved over it: its save is there.
        assert_eq!(
            metadata(&place, &name),
            state("complete"),
            "{n} {outcome:?}"
        );
        assert_eq!(spare_files(&place), [""; 0]);
    }
    assert!(n_failed < 300);
}

fn save(file: &Path, in_place: bool) {
    if in_place {
        fs::write(file, state("complete")).expect("space");
    } else {
        let new = file.with_extension("new");
        fs::write(&new, state("complete")).expect("space");
        fs::rename(&new, file).expect("it moves");
    }
}

/// Killed anywhere: old or new metadata, whole, and the next start goes on.
#[test]
fn killed_while_it_changes_metadata() {
    const N: usize = 120;
    let place = portal(
        "stale_after = \"1s\"\nparts_after = \"1h\"\nfailed_retention = \"30d\"\nbatch = 100000\n",
    );
    for n in 0..N {
        upload(&place, &format!("u{n:03}"), &state("init"));
    }
    let mut dice = Dice::new(4);
    let n_new = || {
        let texts = (0..N).map(|n| metadata(&place, &format!("u{n:03}")));
        let new = texts.map(|text| {
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            let is_new = value["state"] == "failed" && value["failure_reason"] == "stale";
            assert!(
                is_new || text == state("init"),
                "neither old nor new: {text}"
            );
            usize::from(is_new)
        });
        new.sum::<usize>()
    };
    let mut before = 0;
    for _ in 0..8 {
        let mut agent = place.spawn_agent();
        let wanted = (before + 1 + dice.below(20) as usize).min(N);
        wait_for("some to fail", || {
            let n = n_new();
            if n >= wanted {
                Ok(())
            } else {
                Err(format!("{n} of {wanted}; {}", place.log()))
            }
        });
        agent.kill();
        before = n_new();
    }
    let agent = place.agent();
    wait_for("all to fail", || {
        let n = n_new();
        if n == N {
            Ok(())
        } else {
            Err(format!("{n} of {N}"))
        }
    });
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(spare_files(&place), [""; 0]);
}

/// What a crash leaves is removed where it is one of the two files, and nothing else is.
#[test]
fn only_what_a_crash_left_is_swept() {
    let place = portal("stale_after = \"24h\"\n");
    let root = settings(&place);
    let tree = Tree::open(&root.real).expect("a root");
    tree.control().expect("a control directory");
    let control = place.root.join(".housekeeper");
    let lay = |name: &str| fs::write(control.join(name), name).expect("space");
    lay("rewrite-1");
    lay("rewrite-2-fd.1-fd.2");
    lay("other");
    lay("own");
    lay("new");
    lay("written");
    lay("longer");
    lay("open");
    let stat = |name: &str| fs::metadata(control.join(name)).expect("a file");
    let named = |name: &str, number: u32, size_less: u64, ns_less: i64| {
        let stat = stat(name);
        let mtime = stat.mtime() * 1_000_000_000 + stat.mtime_nsec() - ns_less;
        let (dev, ino, size) = (stat.dev(), stat.ino(), stat.size() - size_less);
        let to = format!("rewrite-{number}-0.1-{dev:x}.{ino:x}-{size}-{mtime:x}");
        fs::rename(control.join(name), control.join(&to)).expect("it moves");
        to
    };
    // Exchanged out: as it was read; written to since; longer since; open yet.
    let own = named("own", 3, 0, 0);
    let written = named("written", 4, 0, 1);
    let longer = named("longer", 5, 1, 0);
    let held = fs::File::options().append(true).open(control.join("open"));
    let open = named("open", 6, 0, 0);
    // Never exchanged: its text is in the session, or is to be written anew.
    let (dev, ino) = (stat("new").dev(), stat("new").ino());
    let new = format!("rewrite-7-{dev:x}.{ino:x}-0.1-5-5");
    fs::rename(control.join("new"), control.join(&new)).expect("it moves");
    let swept = || {
        let mut kept = sweep(&tree).expect("a look");
        kept.sort();
        kept
    };
    let other = "rewrite-2-fd.1-fd.2".to_owned();
    assert_eq!(
        swept(),
        [&other, &written, &longer, &open].map(Clone::clone)
    );
    let left = |name: &str| control.join(name).exists();
    assert!(!left("rewrite-1") && !left(&own) && !left(&new));
    assert!(left(&other) && left("other") && left(&written) && left(&longer) && left(&open));
    drop(held);
    assert_eq!(swept(), [other, written, longer]);
}

/// By itself, when the time has come: no command, no rescan.
#[test]
fn the_agent_wakes_for_it_and_hears_of_it() {
    let place = portal("stale_after = \"1s\"\nparts_after = \"1s\"\nfailed_retention = \"2s\"\n");
    upload(&place, "u", &state("in_progress"));
    upload(&place, "v", &state("in_progress"));
    let agent = place.agent();
    fs::write(place.root.join("v/metadata.json"), state("complete")).expect("space");
    wait_for("the parts to go", || {
        if has(&place, "v/parts/1") {
            Err(place.log())
        } else {
            Ok(())
        }
    });
    wait_for("the stale one to go", || {
        if has(&place, "u") {
            Err(place.log())
        } else {
            Ok(())
        }
    });
    assert!(has(&place, "v/final.bin"));
    let n_scans = agent.root()["rescan"]["count"].as_u64();
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(n_scans, Some(1));
    let told = |event: &str| place.told(event).len();
    assert_eq!(told("lifecycle.failed"), 1);
    assert_eq!(told("lifecycle.parts_deleted"), 2);
    assert_eq!(told("session.state_changed"), 2);
    let gone = place.told("prune.deleted");
    assert_eq!(gone[0]["rule"], "failed_retention", "{gone:?}");
}

#[test]
fn nothing_of_it_is_done_in_observe_mode_or_while_held() {
    let more = "stale_after = \"1s\"\nparts_after = \"1s\"\nfailed_retention = \"1d\"\n";
    for held in [false, true] {
        let place = portal(more);
        let text = fs::read_to_string(place.beside("config.toml")).expect("a file");
        let text = if held {
            text.replace("first_start = \"enforce\"", "first_start = \"hold\"")
        } else {
            text.replace(
                "[agent]",
                "[agent]\nmode = \"observe\"\nrescan_interval = \"300ms\"",
            )
        };
        fs::write(place.beside("config.toml"), text).expect("space");
        upload(&place, "u", &state("init"));
        upload(&place, "v", &state("complete"));
        for n in 0..4 {
            upload(&place, &format!("f{n}"), &state("failed"));
        }
        let agent = place.agent();
        // Long enough for all of it to be due.
        if held {
            agent.until("it is held", |root| root["held"] == true);
        } else {
            agent.until("some scans", |root| {
                root["rescan"]["count"].as_u64() > Some(8)
            });
        }
        wait_for("something due", || {
            let plan = place.run(&["plan", "--json"]);
            let plan: Value = serde_json::from_slice(&plan.stdout).expect("one document");
            let due = plan["roots"][0]["transitions"].as_array();
            let n_due = due.map_or(0, Vec::len);
            if n_due == 2 {
                Ok(())
            } else {
                Err(plan.to_string())
            }
        });
        assert_eq!(metadata(&place, "u"), state("init"));
        for name in ["u", "v", "f0", "f3"] {
            assert!(has(&place, &format!("{name}/parts/1")), "{name} {held}");
        }
        if held {
            let done = place.run(&["accept", "r"]);
            assert!(done.status.success(), "{done:?}");
            wait_for("what was held", || {
                if has(&place, "f0") || has(&place, "v/parts/1") {
                    Err(place.log())
                } else {
                    Ok(())
                }
            });
        } else {
            let found = place.run(&["anomalies", "--kind", "stale_active", "--json"]);
            let found: Value = serde_json::from_slice(&found.stdout).expect("one document");
            let found = &found["roots"][0]["anomalies"];
            assert_eq!(found[0]["path"], "u", "{found}");
            assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
        }
        assert_eq!(agent.stop(), Some(0));
    }
}
