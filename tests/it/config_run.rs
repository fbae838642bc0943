//! Configuration, from outside: all problems at once, and which of them end what.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, names};
use crate::support::{Done, housekeeper};
use std::fs;
use std::path::Path;

const BAD: &str = r#"[agent]
rescan_interval = "never"
nonsense = 1

[[root]]
name = "a"
path = "relative"

[[root]]
name = "b"
path = "/nonexistent-for-sure/b"
[root.limits]
max_size = "10G"
max_count = 0

[[root]]
name = "c"
path = "/etc"
"#;

fn run(words: &[&str], config: &Path) -> Done {
    let mut command = housekeeper();
    command.args(words).arg("--config").arg(config);
    Done::of(command.output().expect("runs"))
}

#[test]
fn check_config_lists_all_problems_with_lines() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    fs::write(&config, BAD).expect("written");
    let done = run(&["check-config", "--json"], &config);
    assert_eq!(done.code, 78, "{done:?}");
    let document = done.document();
    assert_eq!(document["ok"], false);
    let lines: Vec<u64> = document["problems"]
        .as_array()
        .expect("problems")
        .iter()
        .map(|problem| problem["line"].as_u64().expect("a line"))
        .collect();
    assert_eq!(lines, [2, 3, 7, 13, 14, 18], "{document:#}");
    let text = run(&["check-config"], &config);
    assert_eq!(text.code, 78);
    for key in ["rescan_interval", "nonsense", "max_size", "max_count"] {
        assert!(text.stdout.contains(key), "{key}: {text:?}");
    }
}

#[test]
fn a_good_configuration_is_0() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    let text = format!("[[root]]\npath = {:?}\n", scratch.root());
    fs::write(&config, text).expect("written");
    let done = run(&["check-config", "--json"], &config);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.document()["ok"], true);
}

#[test]
fn check_config_says_what_would_watch() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    let absent = scratch.path("absent");
    let text = format!(
        "[[root]]\nname = \"polled\"\npath = {:?}\nbackend = \"poll\"\n\
         [[root]]\nname = \"absent\"\npath = {absent:?}\n",
        scratch.root()
    );
    fs::write(&config, text).expect("written");
    let document = run(&["check-config", "--json"], &config).document();
    let roots = &document["effective"]["roots"];
    assert_eq!(roots[0]["watch"]["backend"], "poll", "{document:#}");
    assert!(roots[1]["watch"].is_null(), "{document:#}");
    let text = format!("[[root]]\nname = \"r\"\npath = {:?}\n", scratch.root());
    fs::write(&config, text).expect("written");
    let text = run(&["check-config"], &config).stdout;
    let backends = ["fanotify", "inotify", "notify", "poll"];
    let says = |name: &&str| text.contains(&format!("r: {name} ("));
    assert!(backends.iter().any(says), "{text}");
}

#[test]
fn one_shot_commands_end_with_78() {
    let scratch = Scratch::new();
    scratch.session("s", "2026-02-01T12:00:00Z", 10);
    let config = scratch.path("config.toml");
    let text = format!(
        "[agent]\nmode = \"enforcing\"\n[[root]]\nname = \"r\"\npath = {:?}\n",
        scratch.root()
    );
    fs::write(&config, text).expect("written");
    for words in [
        &["scan"][..],
        &["plan"],
        &["prune-size", "--max-mb", "0.000001"],
    ] {
        let done = run(words, &config);
        assert_eq!(done.code, 78, "{done:?}");
        assert_eq!(done.stdout, "");
        assert!(done.stderr.contains("mode"), "{done:?}");
    }
    assert_eq!(names(&scratch.root()), ["s"]);
}

#[test]
fn run_ends_with_78_only_when_nothing_is_left() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    for text in ["[[[", "[[root]]\npath = \"/etc\"\n", ""] {
        fs::write(&config, text).expect("written");
        let done = run(&["run"], &config);
        assert_eq!(done.code, 78, "{text}: {done:?}");
    }
    assert_eq!(run(&["run"], &scratch.path("absent")).code, 78);
    let done = Done::of(housekeeper().arg("run").output().expect("runs"));
    assert_eq!(done.code, 78, "{done:?}");
}

#[test]
fn a_running_agent_takes_the_default_for_a_wrong_interval() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    for interval in ["never", "-5m", "99999999999999999999m"] {
        let text = format!(
            "[agent]\nrescan_interval = {interval:?}\n[[root]]\nname = \"r\"\npath = {:?}\n",
            scratch.root()
        );
        fs::write(&config, text).expect("written");
        let agent = Agent::on_config(&config);
        let root = agent.watching();
        assert_eq!(root["ready"], true, "{interval}");
        let bad = agent.told("config.invalid_value", 1);
        assert_eq!(bad[0]["line"], 2);
        let time = |field: &str| {
            let text = root["rescan"][field].as_str().expect("a time");
            chrono::DateTime::parse_from_rfc3339(text).expect("RFC 3339")
        };
        let wait = time("next_at") - time("finished_at");
        assert!((wait.num_minutes() - 60).abs() <= 1, "{interval}: {wait}");
    }
}

#[test]
fn the_environment_says_more_than_the_file() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    let text = format!(
        "[agent]\nmode = \"enforce\"\n[[root]]\npath = {:?}\n",
        scratch.root()
    );
    fs::write(&config, text).expect("written");
    let mut command = housekeeper();
    command
        .args(["check-config", "--json", "--config"])
        .arg(&config);
    command.env("HOUSEKEEPER_AGENT_MODE", "observe");
    command.env("HOUSEKEEPER_NOBODY_KNOWS", "this");
    let done = Done::of(command.output().expect("runs"));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.document()["effective"]["agent"]["mode"], "observe");
}

#[test]
fn a_registry_with_mistakes_takes_its_defaults() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    let inside = scratch.root().join("reports");
    let text = format!(
        "[registry]\nschedule = \"0 25 * * *\"\nconcurrent_cleanups = 0\nzone = \"Europe/Berlin\"\n\
         report_directory = {inside:?}\nreport_keep = 7\n[[root]]\nname = \"r\"\npath = {:?}\n",
        scratch.root()
    );
    fs::write(&config, text).expect("written");
    let done = run(&["check-config", "--json"], &config);
    assert_eq!(done.code, 78, "{done:?}");
    let document = done.document();
    let problems = document["problems"].as_array().expect("problems");
    let lines: Vec<u64> = problems.iter().filter_map(|p| p["line"].as_u64()).collect();
    assert_eq!(lines, [2, 3, 5], "{document:#}");
    let why = problems[2]["message"].as_str().expect("a sentence");
    assert!(why.contains("inside root `r`"), "{why}");
    let registry = &document["effective"]["registry"];
    assert_eq!(registry["schedule"], "0 3 * * *");
    assert_eq!(registry["concurrent_cleanups"], 3);
    assert_eq!(registry["zone"], "Europe/Berlin");
    assert_eq!(registry["report_keep"], 7);
    let directory = registry["report_directory"].as_str().expect("a path");
    assert!(
        directory.ends_with("/reports") && !directory.starts_with(inside.to_str().expect("text"))
    );
    let mut command = housekeeper();
    command
        .args(["check-config", "--json", "--config"])
        .arg(&config);
    command.env("HOUSEKEEPER_REGISTRY_CONCURRENT_CLEANUPS", "5");
    command.env("HOUSEKEEPER_REGISTRY_SCHEDULE", "every 6h");
    command.env("HOUSEKEEPER_REGISTRY_REPORT", "false");
    let registry =
        Done::of(command.output().expect("runs")).document()["effective"]["registry"].clone();
    assert_eq!(registry["concurrent_cleanups"], 5);
    assert_eq!(registry["schedule"], "every 6h");
    assert_eq!(registry["report"], false);
}

#[test]
fn secrets_are_not_repeated() {
    let scratch = Scratch::new();
    let config = scratch.path("config.toml");
    fs::write(
        &config,
        "[agent]\npassword = \"hunter2\"\ntoken = hunter2\n",
    )
    .expect("written");
    for words in [&["check-config"][..], &["scan"], &["run"]] {
        let done = run(words, &config);
        assert_eq!(done.code, 78);
        assert!(!format!("{done:?}").contains("hunter2"), "{done:?}");
    }
}
