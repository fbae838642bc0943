//! The registry of clean-ups without an agent: registering, running, reports, history.

use crate::support::cleaning::{Desk, file};
use crate::support::fixture::{names, picture};
use crate::support::running::wait_for;
use crate::support::texts;
use housekeeper::agent::cleaning::{self, Means, Outcome, Task};
use housekeeper::agent::halt::Halt;
use housekeeper::clock::SystemClock;
use housekeeper::config;
use housekeeper::config::request::Request;
use housekeeper::store::audit::Actor;
use housekeeper::store::{Access, Place, Store};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The one report in a directory.
fn report(dir: PathBuf) -> Value {
    let reports = names(&dir);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].starts_with("cleanup_report_") && reports[0].ends_with(".json"));
    let text = fs::read_to_string(dir.join(&reports[0])).expect("read");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_registration_is_added_once_changed_shown_and_removed() {
    let desk = Desk::new("");
    let dir = desk.dir().display().to_string();
    let add = ["add", &dir, "--pattern", "*.log", "--owner", "ana"];
    let added = desk.done(&add);
    assert_eq!(added["updated"], false);
    assert_eq!(
        (&added["retention_days"], &added["priority"]),
        (&30.into(), &100.into())
    );
    assert_eq!(added["schedule"], "0 3 * * *");
    let notes = added["notes"].to_string();
    assert!(
        notes.contains("30 days") && notes.contains("0 3 * * *"),
        "{notes}"
    );
    let id = added["id"].as_str().expect("an id");
    // The same once more is no second one.
    let again = desk.done(&[&add[..], &["--max-files", "5", "--every", "6h"]].concat());
    assert_eq!(
        (&again["id"], &again["updated"]),
        (&added["id"], &true.into())
    );
    assert_eq!(
        (&again["max_files"], &again["schedule"]),
        (&5.into(), &"every 6h".into())
    );
    assert_eq!(again["created_at"], added["created_at"]);
    let words = [
        "update",
        id,
        "--max-files",
        "none",
        "--max-size-mb",
        "7",
        "--read-only",
    ];
    desk.done(
        &[
            &words[..],
            &["--description", "old logs", "--priority", "-3"],
        ]
        .concat(),
    );
    let shown = desk.done(&["show", id]);
    assert_eq!(
        (&shown["max_files"], &shown["max_size_mb"]),
        (&Value::Null, &7.into())
    );
    assert_eq!(
        (&shown["read_only"], &shown["priority"]),
        (&true.into(), &(-3).into())
    );
    assert_eq!(
        (&shown["owner"], &shown["runs"]),
        (&"ana".into(), &Value::Array(Vec::new()))
    );
    // Registering it once more does not end what keeps it from removing.
    assert_eq!(desk.done(&add)["read_only"], true);
    assert_eq!(
        desk.done(&["update", id, "--no-read-only"])["read_only"],
        false
    );
    let listed = desk.done(&["list"]);
    assert_eq!(texts(&listed["cleanups"], "id"), [id]);
    assert_eq!(desk.done(&["remove", id])["removed"], true);
    assert_eq!(desk.done(&["list"])["cleanups"], Value::Array(Vec::new()));
    for words in [
        &["remove", id][..],
        &["show", id],
        &["update", id],
        &["run", id],
    ] {
        let done = desk.run(words);
        assert!(
            done.code == 1 && done.stderr.contains("no clean-up"),
            "{done:?}"
        );
    }
}

#[test]
fn what_may_not_be_registered_is_refused_and_leaves_nothing() {
    let desk = Desk::new("");
    let dir = desk.dir().display().to_string();
    for (words, code, why) in [
        (
            &["add", "root", "--pattern", "*.log"][..],
            1,
            "not absolute",
        ),
        (&["add", "/etc", "--pattern", "*.log"], 1, "system"),
        (&["add", &dir, "--pattern", "../*"], 1, "slash"),
        (
            &["add", &dir, "--pattern", "*.log", "--max-files", "0"],
            1,
            "--yes",
        ),
        (
            &["add", &dir, "--pattern", "*.log", "--max-files", "-1"],
            64,
            "negative",
        ),
        (
            &["add", &dir, "--pattern", "*.log", "--max-size-mb=-1"],
            64,
            "negative",
        ),
        (
            &["add", &dir, "--pattern", "*.log", "--schedule", "soon"],
            1,
            "schedule",
        ),
        (&["add", &dir], 64, "--pattern"),
    ] {
        let done = desk.run(words);
        assert!(
            done.code == code && done.stderr.contains(why),
            "{words:?}: {done:?}"
        );
    }
    assert_eq!(desk.done(&["list"])["cleanups"], Value::Array(Vec::new()));
}

#[test]
fn age_count_and_size_take_the_oldest_each_with_its_reason() {
    let desk = Desk::new("");
    for n in 1..=8 {
        desk.file(&format!("{n}.log"), 400 << 10, 9 - n);
    }
    desk.file("other.txt", 400 << 10, 100);
    fs::create_dir(desk.dir().join("dir.log")).expect("made");
    let limits = [
        "--retention-days",
        "6",
        "--max-files",
        "5",
        "--max-size-mb",
        "1",
    ];
    let id = desk.add("*.log", &limits);
    let would = desk.done(&["run", "--dry-run"]);
    let ran = desk.done(&["run", &id]);
    let detail = &ran["details"][0];
    let rules: Vec<(String, String)> = texts(&detail["files"], "path")
        .into_iter()
        .zip(texts(&detail["files"], "rule"))
        .collect();
    let named = |n: u64, rule: &str| (format!("{n}.log"), rule.to_owned());
    // A file of 6 days and a moment is older than 6 days.
    let wanted = [
        named(1, "max_age"),
        named(2, "max_age"),
        named(3, "max_age"),
        named(4, "max_size"),
        named(5, "max_size"),
        named(6, "max_size"),
    ];
    assert_eq!(rules, wanted, "{ran}");
    assert_eq!(
        names(&desk.dir()),
        ["7.log", "8.log", "dir.log", "other.txt"]
    );
    assert_eq!(
        (&detail["files_deleted"], &detail["files_kept"]),
        (&6.into(), &2.into())
    );
    assert_eq!(detail["space_freed"], 6 * (400 << 10));
    // Why is told with an age, which is another a second later.
    for figure in ["files_deleted", "space_freed", "files_kept"] {
        assert_eq!(would["details"][0][figure], detail[figure], "{figure}");
    }
    for figure in ["path", "rule"] {
        let named = |detail: &Value| texts(&detail["files"], figure);
        assert_eq!(named(&would["details"][0]), named(detail), "{figure}");
    }
    assert_eq!(
        (&would["dry_run"], &ran["dry_run"]),
        (&true.into(), &false.into())
    );
    let shown = desk.done(&["show", &id]);
    assert!(shown["last_run"].is_string(), "{shown}");
    assert_eq!(texts(&shown["runs"], "outcome"), ["done", "done"]);
    assert_eq!(shown["runs"][0]["files_deleted"], 6);
    assert_eq!(shown["runs"][0]["cause"], "command");
    assert_eq!(names(&desk.scratch.path("state/reports")).len(), 2);
    let mut audit = crate::support::housekeeper();
    audit.args(["audit", "--json", "--config"]);
    audit.arg(desk.scratch.path("config.toml"));
    let rows = crate::support::Done::of(audit.output().expect("runs")).document();
    let events = texts(&rows["entries"], "event");
    let count = |event: &str| events.iter().filter(|e| *e == event).count();
    assert_eq!(
        (count("prune.deleted"), count("cleanup.added")),
        (6, 1),
        "{rows}"
    );
    let actors = texts(&rows["entries"], "actor");
    assert!(actors.iter().all(|actor| actor == "command"), "{actors:?}");
}

#[test]
fn zero_lets_none_stay_and_empty_files_are_files() {
    for limit in ["--max-files", "--max-size-mb"] {
        let desk = Desk::new("");
        desk.file("a.log", 1000, 1);
        desk.file("b.log", 0, 1);
        desk.file("c.txt", 0, 1);
        desk.add("*.log", &[limit, "0", "--yes"]);
        let ran = desk.done(&["run"]);
        assert_eq!(ran["total_files_deleted"], 2, "{ran}");
        assert_eq!(names(&desk.dir()), ["c.txt"], "{limit}");
        let again = desk.done(&["run"]);
        assert_eq!(again["details"][0]["message"], "No matching files found");
    }
}

/// Read-only in every way that it can be said: nothing changes, and the numbers are those of the
/// run that follows.
#[test]
fn who_only_looks_changes_nothing_and_says_what_a_run_does() {
    for (registry, flags, words) in [
        ("", &[][..], &["run", "--dry-run"][..]),
        ("", &["--read-only"], &["run"]),
        ("[registry]\ndry_run = true\n", &[], &["run"]),
        ("[registry]\nread_only = true\n", &[], &["run"]),
    ] {
        let desk = Desk::new(registry);
        for n in 0..5 {
            desk.file(&format!("{n}.log"), 1000 + n, 10);
        }
        let limits = ["--max-files", "2"];
        let id = desk.add("*.log", &[&limits[..], flags].concat());
        let before = picture(&desk.dir());
        let would = desk.done(words);
        assert_eq!(picture(&desk.dir()), before);
        assert!(
            !desk.scratch.path("state/roots").exists(),
            "no lock, no corner"
        );
        assert_eq!(would["dry_run"], true);
        assert_eq!(report(desk.scratch.path("state/reports"))["dry_run"], true);
        desk.configure("");
        desk.done(&["update", &id, "--no-read-only"]);
        let ran = desk.done(&["run"]);
        assert_eq!(
            (&ran["dry_run"], &ran["total_files_deleted"]),
            (&false.into(), &3.into())
        );
        for figure in ["total_files_deleted", "total_space_freed"] {
            assert_eq!(would[figure], ran[figure], "{figure}");
        }
        assert_eq!(names(&desk.dir()), ["3.log", "4.log"]);
    }
}

#[test]
fn several_patterns_of_one_directory_leave_each_others_files() {
    let desk = Desk::new("");
    for n in 0..4 {
        desk.file(&format!("{n}.log"), 10, 10 - n);
        desk.file(&format!("{n}.tmp"), 10, 10 - n);
    }
    desk.add("*.log", &["--max-files", "1"]);
    desk.add("*.tmp", &["--max-files", "2"]);
    let ran = desk.done(&["run"]);
    assert_eq!(
        (&ran["successful"], &ran["failed"]),
        (&2.into(), &0.into()),
        "{ran}"
    );
    assert_eq!(names(&desk.dir()), ["2.tmp", "3.log", "3.tmp"]);
}

#[test]
fn a_busy_lock_is_2_and_a_directory_that_went_is_1() {
    let desk = Desk::new("");
    for n in 0..3 {
        desk.file(&format!("{n}.log"), 10, 10);
    }
    let id = desk.add("*.log", &["--max-files", "1"]);
    let mut lock = desk.hold();
    let busy = desk.run(&["run"]);
    assert_eq!(busy.code, 2, "{busy:?}");
    assert_eq!(busy.document()["details"][0]["success"], false);
    assert_eq!(names(&desk.dir()).len(), 3);
    lock.release().expect("released");
    let other = desk.scratch.path("other");
    fs::create_dir(&other).expect("made");
    file(&other.join("a.log"), 10, 40);
    desk.add_in(&other, "*.log", &[]);
    fs::remove_dir_all(desk.dir()).expect("removed");
    let ran = desk.run(&["run"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let document = ran.document();
    assert_eq!(
        (&document["successful"], &document["failed"]),
        (&1.into(), &1.into())
    );
    assert_eq!(names(&other), [""; 0], "the others run all the same");
    let shown = desk.done(&["show", &id]);
    assert!(
        shown["runs"][0]["message"]
            .to_string()
            .contains("does not exist"),
        "{shown}"
    );
}

/// A directory that became a symlink, or part of a root, is not cleaned by an old registration.
#[test]
fn a_registration_is_judged_again_before_each_run() {
    let desk = Desk::new("");
    let (real, treasure) = (desk.scratch.path("real"), desk.scratch.path("treasure"));
    fs::create_dir(&real).expect("made");
    fs::create_dir(&treasure).expect("made");
    file(&treasure.join("a.log"), 10, 100);
    desk.add_in(&real, "*.log", &[]);
    fs::remove_dir(&real).expect("removed");
    std::os::unix::fs::symlink(&treasure, &real).expect("linked");
    let ran = desk.run(&["run"]);
    assert!(ran.code == 1 && ran.stdout.contains("symlink"), "{ran:?}");
    fs::remove_file(&real).expect("removed");
    fs::rename(&treasure, &real).expect("renamed");
    desk.configure(&format!("[[root]]\npath = {real:?}\n"));
    let ran = desk.run(&["run"]);
    assert!(
        ran.code == 1 && ran.stdout.contains("configured root"),
        "{ran:?}"
    );
    assert_eq!(names(&real), ["a.log"]);
}

/// Twelve registrations, 50 000 files, and files of nobody's beside them.
#[test]
fn a_dry_run_of_all_leaves_50_000_files_as_they_are_and_says_what_a_run_does() {
    let desk = Desk::new("");
    for n in 0..12 {
        let dir = desk.dir().join(format!("d{n:02}"));
        fs::create_dir_all(dir.join("sub")).expect("made");
        file(&dir.join("sub/kept.log"), 10, 400);
        file(&dir.join(".hidden.log"), 10, 400);
        for m in 0..4166 {
            file(&dir.join(format!("{m:05}.log")), m % 7, (m % 60) as u64);
        }
        let limits: [&[&str]; 4] = [
            &["--retention-days", "30"],
            &["--max-files", "1000"],
            &["--max-size-mb", "0", "--yes"],
            &["--retention-days", "50", "--max-files", "3000"],
        ];
        desk.add_in(&dir, "*.log", limits[n % 4]);
    }
    // Twelve times 4166, and 8 more.
    for n in 0..8 {
        file(&desk.dir().join(format!("{n}.log")), 10, 400);
    }
    let before = picture(&desk.dir());
    let would = desk.done(&["run", "--dry-run"]);
    assert_eq!(picture(&desk.dir()), before);
    let ran = desk.run(&["run"]).document();
    for figure in ["total_configs", "total_files_deleted", "total_space_freed"] {
        assert_eq!(would[figure], ran[figure], "{figure}");
    }
    for (would, ran) in would["details"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(ran["details"].as_array().expect("a list"))
    {
        for figure in ["id", "files_deleted", "space_freed", "files_kept"] {
            assert_eq!(would[figure], ran[figure], "{figure} of {ran}");
        }
    }
    assert_eq!(
        (&would["dry_run"], &ran["failed"]),
        (&true.into(), &0.into())
    );
    let deleted = ran["total_files_deleted"].as_u64().expect("a number");
    let left: usize = picture(&desk.dir()).len();
    assert!(deleted > 20_000, "{deleted}");
    assert_eq!(before.len() as u64 - deleted, left as u64);
    for n in 0..12 {
        let dir = desk.dir().join(format!("d{n:02}"));
        assert!(dir.join("sub/kept.log").exists() && dir.join(".hidden.log").exists());
    }
}

/// A task of the desk's registration without an agent, and what it works with.
fn task(desk: &Desk, id: &str, stop: &Arc<AtomicBool>) -> (Task, Means) {
    let request = Request {
        file: Some(desk.scratch.path("config.toml")),
        ..Request::default()
    };
    let settings = config::load_registry(&request).expect("sound");
    let clock = Arc::new(SystemClock::start());
    let place = Place::new(
        settings.agent.database.as_deref(),
        &settings.agent.state_dir,
        Access::Write,
    );
    let means = Means {
        store: Store::start(place, clock.clone()).expect("a thread"),
        settings: Arc::new(settings),
        clock,
    };
    let cleanup = means.store.cleanup(id.to_owned()).wait().expect("read");
    let task = Task {
        cleanup: cleanup.expect("there"),
        others: Arc::new([]),
        dry_run: false,
        actor: Actor::Schedule,
        stop: Halt::when(stop.clone()),
        timeout: None,
        lock_patience: Duration::ZERO,
    };
    (task, means)
}

/// As where `job_timeout` is over: what was not begun stays, and what was begun is done.
#[test]
fn a_run_that_is_told_to_stop_stops_between_two_removals() {
    const FILES: usize = 20_000;
    let desk = Desk::new("");
    for n in 0..FILES {
        desk.file(&format!("{n:05}.log"), 10, 40);
    }
    let id = desk.add("*.log", &["--max-files", "1"]);
    let stop = Arc::new(AtomicBool::new(false));
    let (task, means) = task(&desk, &id, &stop);
    // As long as nothing: asked for, a run ends in its time like one that is due.
    let in_no_time = Task {
        timeout: Some(Duration::ZERO),
        ..task.clone()
    };
    let done = cleaning::run(&in_no_time, &means);
    assert_eq!(done.outcome, Outcome::Stopped);
    assert_eq!(done.detail.files_deleted, 0);
    let done = std::thread::scope(|scope| {
        let run = scope.spawn(|| cleaning::run(&task, &means));
        wait_for("a first removal", || {
            if desk.dir().join("00000.log").exists() {
                return Err("all there".to_owned());
            }
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        run.join().expect("no panic")
    });
    assert_eq!(done.outcome, Outcome::Stopped);
    let left = names(&desk.dir());
    let deleted = usize::try_from(done.detail.files_deleted).expect("some");
    assert!(
        deleted > 0 && left.len() > 1,
        "{deleted}, {} left",
        left.len()
    );
    assert_eq!(deleted + left.len(), FILES);
    assert!(
        left.iter().all(|name| name.ends_with(".log")),
        "none is on its way"
    );
    let runs = means.store.runs(Some(id), 1).wait().expect("read");
    assert_eq!(runs[0].outcome, "timeout");
}

/// Its files are out of the directory, and are being unlinked: it did all that it should.
#[test]
fn a_run_that_did_all_is_done_though_its_time_is_over_before_its_end() {
    let desk = Desk::new("");
    for n in 0..3000 {
        desk.file(&format!("{n:04}.log"), 10, 40);
    }
    let id = desk.add("*.log", &["--max-files", "1"]);
    let stop = Arc::new(AtomicBool::new(false));
    let (task, means) = task(&desk, &id, &stop);
    let done = std::thread::scope(|scope| {
        let run = scope.spawn(|| cleaning::run(&task, &means));
        wait_for("the last of them out", || {
            let left = names(&desk.dir());
            let left = left.iter().filter(|name| name.ends_with(".log")).count();
            (left == 1).then_some(()).ok_or(format!("{left} are there"))
        });
        stop.store(true, Ordering::Relaxed);
        run.join().expect("no panic")
    });
    assert_eq!(done.outcome, Outcome::Done, "{done:?}");
    assert!(done.detail.success);
    assert_eq!(
        done.detail.message,
        "Deleted 2999 files, freeing 29990 bytes"
    );
    let runs = means.store.runs(Some(id), 1).wait().expect("read");
    assert_eq!((&*runs[0].outcome, runs[0].files_deleted), ("done", 2999));
    assert_eq!(
        names(&desk.dir()),
        ["2999.log"],
        "and nothing is on its way"
    );
}

/// What was renamed or copied just now is old still: nothing newer goes in its place.
#[test]
fn an_old_file_that_came_just_now_is_waited_for() {
    let desk = Desk::new("");
    desk.file("new.log", 10, 1);
    desk.add("*.log", &["--max-files", "1"]);
    assert_eq!(desk.done(&["run"])["total_files_deleted"], 0);
    desk.file("old.log", 10, 9);
    let would = desk.done(&["run", "--dry-run"]);
    assert_eq!(texts(&would["details"][0]["files"], "path"), ["old.log"]);
    file(&desk.dir().join("older.log"), 10, 10);
    desk.done(&["run"]);
    assert_eq!(names(&desk.dir()), ["new.log"]);
}
