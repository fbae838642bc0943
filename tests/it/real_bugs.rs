//! Defects that users of the programs before this one live with, each named after its place in
//! the list of them: section, then letter. None of them is to be had here. Those of catalogues
//! and locks that have a test of their own elsewhere are not repeated: `odd_inputs`, `pruners`.

use crate::support::agent::Agent;
use crate::support::cleaning::Desk;
use crate::support::fixture::{Scratch, bare_session, names, picture, session, with_config};
use crate::support::{Done, housekeeper, mb, on_root, texts};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn at(path: &Path, seconds: u64) {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_modified(then).expect("set");
}

fn root(scratch: &Scratch, more: &str) -> String {
    let quiet = "[root.protect]\nquiet = \"0s\"\n";
    format!(
        "[[root]]\nname = \"r\"\npath = {:?}\n{quiet}{more}",
        scratch.root()
    )
}

/// Six sessions in a store that an old loop says it prunes, in its own way.
fn locked_store() -> (Scratch, std::path::PathBuf) {
    let scratch = Scratch::new();
    for n in 1..=6 {
        let created = format!("2026-01-{n:02}T00:00:00Z");
        session(&scratch.root(), &format!("s{n}"), &created, 1024);
    }
    let lock = scratch.root().join(".prune_size.lock");
    fs::write(&lock, "pid=1 started_at=1\n").expect("written");
    (scratch, lock)
}

const FOREIGN: &str = "[root.layout]\nforeign_lock = \".prune_size.lock\"\n";

/// The second sourcing of a file was overruled by the first one: the wrong store was pruned.
#[test]
fn bug_1_3_the_root_that_is_named_is_the_one_that_is_pruned() {
    let (named, other) = (Scratch::new(), Scratch::new());
    for scratch in [&named, &other] {
        session(&scratch.root(), "a", "2026-01-01T00:00:00Z", 1024);
    }
    let config = other.path("config.toml");
    fs::write(&config, root(&other, "")).expect("written");
    let before = picture(&other.root());
    let mut command = housekeeper();
    command.args(["prune-size", "--max-mb", &mb(1), "--json", "--quiet", "0s"]);
    command.arg("--state-dir").arg(named.path("state"));
    command
        .arg("--config")
        .arg(&config)
        .arg("--root")
        .arg(named.root());
    let done = Done::of(command.output().expect("runs"));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(names(&named.root()), [""; 0]);
    assert_eq!(picture(&other.root()), before);
}

/// A number that no clock holds ended the process.
#[test]
fn bug_1_4_an_interval_beyond_any_clock_is_a_mistake_and_no_crash() {
    let scratch = Scratch::new();
    for interval in ["99999999999999999999m", "99999999999999999999", "-1m", ""] {
        let text = format!("rescan_interval = {interval:?}\n{}", root(&scratch, ""));
        let done = with_config(&scratch, &text, &["check-config"]);
        assert_eq!(done.code, 78, "{interval}: {done:?}");
        assert!(done.stdout.contains("rescan_interval"), "{done:?}");
        let done = with_config(&scratch, &text, &["prune-size", "--max-mb", &mb(1)]);
        assert_eq!(done.code, 78, "{interval}: {done:?}");
        assert!(done.stderr.contains("rescan_interval"), "{done:?}");
    }
}

/// Nor does it end the agent, which has other work: it takes the default, says so, and the limit
/// holds; in the file and in the environment. The longest that is no mistake is waited for.
#[test]
fn bug_1_4_an_interval_beyond_any_clock_does_not_end_the_agent() {
    const VARIABLE: &str = "HOUSEKEEPER_AGENT_RESCAN_INTERVAL";
    let beyond = ["99999999999999999999m", "99999999999999999999", "-1m"];
    let in_file = beyond.map(|interval| ("agent.rescan_interval", interval));
    let in_environment = beyond.map(|interval| (VARIABLE, interval));
    let longest = [("agent.rescan_interval", "999y"), (VARIABLE, "999y")];
    for (key, interval) in in_file.into_iter().chain(in_environment).chain(longest) {
        let scratch = Scratch::new();
        for n in 1..=3 {
            let created = format!("2026-01-0{n}T00:00:00Z");
            session(&scratch.root(), &format!("s{n}"), &created, 1024);
        }
        let config = scratch.path("config.toml");
        let limits = "[root.limits]\nmax_count = 2\n";
        let mut text = root(&scratch, limits);
        let mut command = housekeeper();
        command.arg("run").arg("--config").arg(&config);
        if key == VARIABLE {
            command.env(VARIABLE, interval);
        } else {
            text = format!("[agent]\nrescan_interval = {interval:?}\n{text}");
        }
        fs::write(&config, text).expect("written");
        let mut agent = Agent::start(command, &scratch.path(""));
        let status = agent.root_until(0, "the count", |root| root["session_count"] == 2);
        assert_eq!(names(&scratch.root()), ["s2", "s3"]);
        let time = |field: &str| {
            let text = status["rescan"][field].as_str().expect("a time");
            chrono::DateTime::parse_from_rfc3339(text).expect("RFC 3339")
        };
        let wait = (time("next_at") - time("finished_at")).num_minutes();
        agent.signal(rustix::process::Signal::TERM);
        assert_eq!(agent.ended(), 0, "{key} {interval}");
        let said = agent.events("config.invalid_value");
        if interval == "999y" {
            assert_eq!(said.len(), 0, "{said:?}");
            assert!(wait > 998 * 365 * 24 * 60, "{key}: {wait}");
        } else {
            assert_eq!(texts(&said.into(), "key"), [key], "{interval}");
            assert!((59..=61).contains(&wait), "{key} {interval}: {wait}");
        }
    }
}

/// A busy caller removed the holder's lock on its way out, and the next one came in.
#[test]
fn bug_1_5_a_a_busy_caller_leaves_the_holders_lock() {
    let (scratch, lock) = locked_store();
    let before = picture(&lock);
    for _ in 0..3 {
        let done = with_config(
            &scratch,
            &root(&scratch, FOREIGN),
            &["prune-size", "--max-mb", "0.001"],
        );
        assert_eq!(done.code, 2, "{done:?}");
    }
    assert_eq!(picture(&lock), before);
    assert_eq!(names(&scratch.root()).len(), 7);
}

/// Whoever met a directory in the lock's place died of it.
#[test]
fn bug_1_5_b_a_directory_in_the_locks_place_is_said_and_left() {
    let (scratch, lock) = locked_store();
    fs::remove_file(&lock).expect("removed");
    fs::create_dir(&lock).expect("made");
    fs::write(lock.join("precious"), "x").expect("written");
    at(&lock.join("precious"), 0);
    let done = with_config(
        &scratch,
        &root(&scratch, FOREIGN),
        &["prune-size", "--max-mb", "0.001"],
    );
    assert_eq!(done.code, 1, "{done:?}");
    let told = done.events("lock.failed");
    assert!(told[0]["message"].is_string(), "{done:?}");
    assert_eq!(names(&lock), ["precious"]);
    assert_eq!(names(&scratch.root()).len(), 7, "nothing went");
}

/// A lock that was made in the future was never stale.
#[test]
fn bug_1_5_c_a_lock_from_the_future_is_not_busy_for_ever() {
    let (scratch, lock) = locked_store();
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let file = fs::File::options().write(true).open(&lock).expect("a file");
    file.set_modified(tomorrow).expect("set");
    let done = with_config(
        &scratch,
        &root(&scratch, FOREIGN),
        &["prune-size", "--max-mb", "0.001"],
    );
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!lock.exists() && names(&scratch.root()).is_empty());
}

/// Two callers both saw a stale lock, and the second removed the first one's.
#[test]
fn bug_1_5_d_of_many_who_see_a_stale_lock_one_prunes_at_a_time() {
    let (scratch, lock) = locked_store();
    at(&lock, 0);
    let one = fs::metadata(scratch.root().join("s1/metadata.json"))
        .expect("there")
        .len()
        + 1024;
    let max_mb = mb(2 * one);
    let config = scratch.path("config.toml");
    let head = format!("[agent]\nstate_dir = {:?}\n", scratch.path("state"));
    fs::write(&config, head + &root(&scratch, FOREIGN)).expect("written");
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let mut command = housekeeper();
            command.args(["prune-size", "--max-mb", &max_mb, "--json", "--config"]);
            command.arg(&config).stdout(std::process::Stdio::piped());
            command
                .stderr(std::process::Stdio::piped())
                .spawn()
                .expect("starts")
        })
        .collect();
    let done: Vec<Done> = callers
        .into_iter()
        .map(|caller| Done::of(caller.wait_with_output().expect("ends")))
        .collect();
    let codes: Vec<i32> = done.iter().map(|done| done.code).collect();
    assert!(
        codes.contains(&0) && codes.iter().all(|code| matches!(code, 0 | 2)),
        "{done:?}"
    );
    let removed: usize = done
        .iter()
        .map(|done| texts(&done.root()["removed"], "id").len())
        .sum();
    assert_eq!(removed, 4, "{done:?}");
    assert_eq!(names(&scratch.root()), ["s5", "s6"]);
}

/// Looking made the directory, pruning died of its absence.
#[test]
fn bug_1_5_e_a_root_that_is_missing_is_said_and_not_made() {
    let scratch = Scratch::new();
    let missing = scratch.path("missing");
    for words in [&["scan"][..], &["plan"], &["prune-size", "--max-mb", "1"]] {
        let done = on_root(words[0], &missing, &words[1..]);
        assert!(matches!(done.code, 1 | 78), "{done:?}");
        assert!(done.stderr.contains("missing"), "{done:?}");
        assert!(!missing.exists());
    }
}

/// A dry run of all configurations deleted.
#[test]
fn bug_2_a_a_dry_run_of_all_roots_changes_nothing() {
    let scratches = [Scratch::new(), Scratch::new()];
    let mut text = String::new();
    for (n, scratch) in scratches.iter().enumerate() {
        session(&scratch.root(), "a", "2026-01-01T00:00:00Z", 4096);
        text += &root(scratch, "").replace("\"r\"", &format!("\"r{n}\""));
    }
    let before: Vec<_> = scratches.iter().map(|s| picture(&s.root())).collect();
    let words = ["prune-size", "--max-mb", "0.001", "--dry-run"];
    let done = with_config(&scratches[0], &text, &words);
    let document = done.document();
    assert_eq!(
        document["roots"].as_array().map(Vec::len),
        Some(2),
        "{done:?}"
    );
    for root in document["roots"].as_array().expect("a list") {
        assert_eq!(texts(&root["victims"], "id"), ["a"]);
    }
    let after: Vec<_> = scratches.iter().map(|s| picture(&s.root())).collect();
    assert_eq!(after, before);
}

/// Zero kept everything, minus one deleted the oldest, and a size of zero deleted all.
#[test]
fn bug_2_c_limits_of_zero_and_less_are_refused() {
    let scratch = Scratch::new();
    session(&scratch.root(), "a", "2026-01-01T00:00:00Z", 1024);
    for limit in [
        "max_count = 0",
        "max_count = -1",
        "max_size = 0",
        "max_age = \"0s\"",
    ] {
        let text = root(&scratch, &format!("[root.limits]\n{limit}\n"));
        let done = with_config(&scratch, &text, &["plan"]);
        assert_eq!(done.code, 78, "{limit}: {done:?}");
    }
    assert_eq!(names(&scratch.root()), ["a"]);
}

/// A pattern with `..` in it reached files outside.
#[test]
fn bug_2_d_a_pattern_cannot_leave_the_root() {
    let scratch = Scratch::new();
    fs::write(scratch.path("treasure"), "x").expect("written");
    for sessions in ["../t*", "*/../../t*", "/etc/*", "a/./b"] {
        let layout = format!(
            "[root.layout]\nkind = \"files\"\nsessions = {sessions:?}\ncreated_at = {{ from = [\"mtime\"] }}\n"
        );
        let done = with_config(
            &scratch,
            &root(&scratch, &layout),
            &["prune-size", "--max-mb", "0.000001"],
        );
        assert_eq!(done.code, 78, "{sessions}: {done:?}");
    }
    assert!(scratch.path("treasure").exists());
}

const LOGS: &str =
    "[root.layout]\nkind = \"files\"\nsessions = \"*.log\"\ncreated_at = { from = [\"mtime\"] }\n";

/// The size and age of a symlink's target counted, and the link was removed.
#[test]
fn bug_2_e_a_symlink_is_no_log_and_its_target_counts_nothing() {
    let scratch = Scratch::new();
    let target = scratch.path("big");
    fs::write(&target, vec![b'x'; 100_000]).expect("written");
    std::os::unix::fs::symlink(&target, scratch.root().join("link.log")).expect("linked");
    fs::write(scratch.root().join("a.log"), vec![b'x'; 1000]).expect("written");
    let text = root(&scratch, LOGS);
    let seen = with_config(&scratch, &text, &["scan"]).root();
    assert_eq!(seen["bytes"], 1000);
    assert_eq!(texts(&seen["sessions"], "id"), ["a.log"]);
    let done = with_config(&scratch, &text, &["prune-size", "--max-mb", &mb(1)]);
    assert_eq!(done.root()["freed_bytes"], 1000, "{done:?}");
    assert_eq!(names(&scratch.root()), ["link.log"]);
    assert_eq!(fs::metadata(&target).expect("there").len(), 100_000);
}

/// Files of one age went in any order.
#[test]
fn bug_2_f_files_of_one_age_go_by_name() {
    let scratch = Scratch::new();
    for name in ["c.log", "a.log", "b.log"] {
        let path = scratch.root().join(name);
        fs::write(&path, vec![b'x'; 1000]).expect("written");
        at(&path, 0);
    }
    let done = with_config(
        &scratch,
        &root(&scratch, LOGS),
        &["prune-size", "--max-mb", &mb(1000)],
    );
    assert_eq!(
        texts(&done.root()["removed"], "id"),
        ["a.log", "b.log"],
        "{done:?}"
    );
}

/// Whatever had an underscore in its name was a recording: a project, a hidden directory, the
/// files behind a symlink; and one directory or file among the oldest ended retention for ever.
#[test]
fn bug_3_only_recordings_go_and_nothing_stops_the_others() {
    let scratch = Scratch::new();
    let root = scratch.root();
    for n in 1..=4 {
        bare_session(&root, &format!("sess-00{n}_20260101_00000{n}"), 1000);
    }
    // A directory in the oldest, and a file in it that was touched since.
    let oldest = root.join("sess-001_20260101_000001");
    fs::create_dir(oldest.join("clips")).expect("made");
    fs::write(oldest.join("clips/clip_1.wav"), "x").expect("written");
    bare_session(&root, "my_important_project", 1000);
    bare_session(&root, ".hid_20250101_000000", 1000);
    fs::write(root.join("notes_old.txt"), "x").expect("written");
    fs::write(root.join("notes_20250101_000000"), "x").expect("written");
    let outside = scratch.path("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("file"), "x").expect("written");
    std::os::unix::fs::symlink(&outside, root.join("link_20250101_000000")).expect("linked");
    let words = ["--preset", "habla", "--max-mb", &mb(2500)];
    let done = on_root("prune-size", &root, &words);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(
        texts(&done.root()["removed"], "id"),
        ["sess-001", "sess-002"]
    );
    let left = [
        ".hid_20250101_000000",
        "link_20250101_000000",
        "my_important_project",
        "notes_20250101_000000",
        "notes_old.txt",
        "sess-003_20260101_000003",
        "sess-004_20260101_000004",
    ];
    assert_eq!(names(&root), left);
    assert_eq!(names(&outside), ["file"]);
}

/// The recording that had just ended, and those under way, were counted and deleted, too.
#[test]
fn bug_3_what_is_being_recorded_stays() {
    let scratch = Scratch::new();
    bare_session(&scratch.root(), "live_20200101_000000", 1000);
    let words = ["--preset", "habla", "--max-mb", &mb(1), "--quiet", "60s"];
    let state = scratch.path("state");
    let mut command = housekeeper();
    command
        .arg("prune-size")
        .arg("--root")
        .arg(scratch.root())
        .args(words);
    command.arg("--state-dir").arg(state).arg("--json");
    let done = Done::of(command.output().expect("runs"));
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(names(&scratch.root()), ["live_20200101_000000"]);
}

/// A dry run without a registration's id deleted, and its report said that it was none.
#[test]
fn bug_2_a_a_dry_run_of_all_registrations_changes_nothing_and_says_so() {
    let desk = Desk::new("");
    desk.file("a.log", 1000, 90);
    desk.file("b.tmp", 1000, 90);
    desk.add("*.log", &[]);
    desk.add("*.tmp", &[]);
    let before = picture(&desk.dir());
    let done = desk.done(&["run", "--dry-run"]);
    assert_eq!(picture(&desk.dir()), before);
    assert_eq!(
        (&done["dry_run"], &done["total_files_deleted"]),
        (&true.into(), &2.into())
    );
    let path = done["report"].as_str().expect("a path");
    let text = fs::read_to_string(path).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["dry_run"], true);
    assert!(
        texts(&report["details"], "message")
            .iter()
            .all(|m| m.contains("Would delete 1"))
    );
}

/// Where a directory for reports was configured there was none.
#[test]
fn bug_2_b_a_configured_report_directory_gets_the_report() {
    let desk = Desk::new("");
    let dir = desk.scratch.path("my/reports");
    desk.configure(&format!("[registry]\nreport_directory = {dir:?}\n"));
    desk.file("a.log", 1000, 90);
    let id = desk.add("*.log", &[]);
    let done = desk.done(&["run", &id]);
    let reports = names(&dir);
    assert_eq!(reports.len(), 1);
    assert_eq!(done["report"], dir.join(&reports[0]).display().to_string());
    let text = fs::read_to_string(dir.join(&reports[0])).expect("read");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&report["total_files_deleted"], &report["details"][0]["id"]),
        (&1.into(), &id.into())
    );
    assert!(!desk.scratch.path("state/reports").exists());
}

/// A number of zero kept everything, minus one deleted the oldest, a size of zero deleted all
/// without a word.
#[test]
fn bug_2_c_a_registration_of_zero_keeps_none_and_of_less_is_refused() {
    let desk = Desk::new("");
    for n in 0..3 {
        desk.file(&format!("{n}.log"), 1000, 1);
    }
    let dir = desk.dir().display().to_string();
    for limit in [
        "--max-files=-1",
        "--max-size-mb=-1",
        "--max-files=0",
        "--max-size-mb=0",
    ] {
        let done = desk.run(&["add", &dir, "--pattern", "*.log", limit]);
        assert_ne!(done.code, 0, "{limit}: {done:?}");
    }
    desk.done(&["run"]);
    assert_eq!(names(&desk.dir()).len(), 3);
    desk.add("*.log", &["--max-files", "0", "--yes"]);
    desk.done(&["run"]);
    assert_eq!(names(&desk.dir()), [""; 0]);
}

/// A pattern with `..` in it deleted outside of its directory.
#[test]
fn bug_2_d_a_registrations_pattern_cannot_leave_its_directory() {
    let desk = Desk::new("");
    fs::write(desk.scratch.path("treasure"), "x").expect("written");
    at(&desk.scratch.path("treasure"), 0);
    let dir = desk.dir().display().to_string();
    for pattern in ["../t*", "..", "../treasure", "{..,x}/t*", "**"] {
        let done = desk.run(&["add", &dir, "--pattern", pattern]);
        assert_eq!(done.code, 1, "{pattern}: {done:?}");
    }
    desk.add("t*", &[]);
    desk.done(&["run"]);
    assert!(desk.scratch.path("treasure").exists());
}

/// Age and size of a symlink's target counted, and the link went.
#[test]
fn bug_2_e_a_registration_neither_counts_nor_removes_a_symlink() {
    let desk = Desk::new("");
    let target = desk.scratch.path("big");
    fs::write(&target, vec![b'x'; 100_000]).expect("written");
    at(&target, 0);
    std::os::unix::fs::symlink(&target, desk.dir().join("link.log")).expect("linked");
    desk.file("a.log", 1000, 90);
    desk.add("*.log", &["--max-files", "0", "--yes"]);
    let done = desk.done(&["run"]);
    assert_eq!(
        (&done["total_files_deleted"], &done["total_space_freed"]),
        (&1.into(), &1000.into())
    );
    assert_eq!(names(&desk.dir()), ["link.log"]);
    assert_eq!(fs::metadata(&target).expect("there").len(), 100_000);
}

/// Count and age together, and files of one time: the count is of those that are young enough,
/// and of one time the first by name goes.
#[test]
fn bug_2_f_age_then_count_and_files_of_one_time_by_name() {
    let desk = Desk::new("");
    for name in ["c.log", "a.log", "b.log", "d.log"] {
        desk.file(name, 1000, 5);
    }
    desk.file("old.log", 1000, 90);
    desk.add("*.log", &["--retention-days", "30", "--max-files", "2"]);
    let done = desk.done(&["run"]);
    let files = &done["details"][0]["files"];
    assert_eq!(texts(files, "path"), ["old.log", "a.log", "b.log"]);
    assert_eq!(texts(files, "rule"), ["max_age", "max_count", "max_count"]);
    assert_eq!(names(&desk.dir()), ["c.log", "d.log"]);
}
