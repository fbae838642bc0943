//! The running agent: signals, reloads, and roots that come and go.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, bare_session, names, picture, session};
use crate::support::running::{signal, wait_for};
use crate::support::{Done, housekeeper, texts};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// Four sessions of 1 KiB and some.
fn four() -> Scratch {
    let scratch = Scratch::new();
    for n in 1..=4 {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
    scratch
}

/// A configuration with one root, first starts enforced.
fn configure(scratch: &Scratch, limit: &str, mode: &str) -> std::path::PathBuf {
    let config = scratch.path("config.toml");
    let text = format!(
        "[agent]\nmode = {mode:?}\n[[root]]\nname = \"root\"\npath = {:?}\n[root.limits]\nmax_size = {limit:?}\n[root.protect]\nquiet = \"0s\"\n[root.guard]\nfirst_start = \"enforce\"\n",
        scratch.root()
    );
    fs::write(&config, text).expect("written");
    config
}

#[test]
fn usr1_rescans_and_tells_what_changed_once() {
    let scratch = four();
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "1GiB"]);
    let root = agent.watching();
    assert_eq!(root["anomalies"], 0);
    bare_session(&scratch.root(), "odd", 10);
    let scans = |root: &Value| root["rescan"]["count"].as_u64().expect("a count");
    let mut before = scans(&root);
    for round in 0..3 {
        agent.signal(Signal::USR1);
        let root = agent.root_until(0, "a rescan", |root| scans(root) > before);
        before = scans(&root);
        assert_eq!(root["rescan"]["drift_bytes"], 0, "round {round}");
        assert_eq!(root["anomalies"], 1, "round {round}");
    }
    let done = agent.told("scan.done", 4);
    let causes = texts(&Value::from(done.clone()), "cause");
    assert_eq!(causes, ["start", "asked", "asked", "asked"]);
    assert!(done.iter().all(|line| line["drift_bytes"] == 0), "{done:?}");
    let found = agent.told("anomaly.found", 1);
    assert_eq!(
        (&found[0]["kind"], &found[0]["path"]),
        (&"metadata_missing".into(), &"odd".into())
    );
    assert_eq!(found[0]["level"], "WARN");
    let ends = agent.told("cycle.end", 4);
    assert!(
        ends.iter().all(|line| line["next_wakeup"].is_string()),
        "{ends:?}"
    );

    fs::remove_dir_all(scratch.root().join("odd")).expect("removed");
    agent.rescan();
    assert_eq!(agent.rescan()["anomalies"], 0);
    let cleared = agent.told("anomaly.cleared", 1);
    assert_eq!(cleared[0]["path"], "odd");
    agent.told("anomaly.found", 1);
}

#[test]
fn hup_takes_a_good_configuration_and_refuses_a_bad_one() {
    let scratch = four();
    let config = configure(&scratch, "1GiB", "enforce");
    let agent = Agent::on_config(&config);
    let root = agent.watching();
    assert_eq!(root["limit_bytes"], 1 << 30);

    for bad in ["max_size = \"10G\"", "max_size = 0", "max_sise = 1", "[[[["] {
        let good = fs::read_to_string(&config).expect("written");
        let text = good.replace("max_size = \"1GiB\"", bad);
        assert_ne!(good, text);
        fs::write(&config, text).expect("written");
        let refused = agent.events("config.refused").len();
        agent.signal(Signal::HUP);
        agent.until("a refusal", |a| a.events("config.refused").len() > refused);
        let root = agent.status().expect("an answer")["roots"][0].clone();
        assert_eq!(root["limit_bytes"], 1 << 30, "{bad}");
        assert_eq!(root["ready"], true, "{bad}");
        fs::write(&config, good).expect("written");
    }
    let why = agent.events("config.invalid_value");
    assert!(why.iter().all(|line| line["line"].is_u64()), "{why:?}");
    assert_eq!(names(&scratch.root()).len(), 4);

    configure(&scratch, "2500", "enforce");
    agent.signal(Signal::HUP);
    agent.root_until(0, "the new limit", |root| root["pruned"]["sessions"] == 2);
    assert_eq!(names(&scratch.root()), ["s3", "s4"]);
}

#[test]
fn hup_takes_roots_in_and_out() {
    let scratch = four();
    let config = configure(&scratch, "1GiB", "enforce");
    let agent = Agent::on_config(&config);
    agent.watching();
    let second = scratch.path("second");
    fs::create_dir(&second).expect("made");
    session(&second, "a", "2026-02-01T12:00:00Z", 10);
    let one = fs::read_to_string(&config).expect("written");
    let two = format!("{one}[[root]]\nname = \"second\"\npath = {second:?}\n");
    fs::write(&config, two).expect("written");
    agent.signal(Signal::HUP);
    agent.root_until(1, "the second root", |root| root["session_count"] == 1);
    fs::write(&config, one).expect("written");
    agent.signal(Signal::HUP);
    agent.until("one root", |agent| {
        let status = agent.status().expect("an answer");
        status["roots"].as_array().expect("roots").len() == 1
    });
}

#[test]
fn new_rules_hold_when_the_root_comes_back() {
    let scratch = four();
    let config = configure(&scratch, "1GiB", "enforce");
    let agent = Agent::on_config(&config);
    agent.watching();
    // What was reloaded while the root was there counts for the directory that comes after.
    configure(&scratch, "2500", "observe");
    agent.signal(Signal::HUP);
    agent.root_until(0, "the new limit", |root| root["limit_bytes"] == 2500);
    fs::rename(scratch.root(), scratch.path("away")).expect("renamed");
    agent.signal(Signal::USR1);
    agent.root_until(0, "an absent root", |root| {
        root["watch"]["state"] == "absent"
    });
    fs::rename(scratch.path("away"), scratch.root()).expect("renamed");
    agent.watching();
    agent.rescan();
    assert_eq!(names(&scratch.root()).len(), 4, "observing deletes nothing");
    agent.until("a check by the new limit", |agent| {
        let checks = agent.events("prune.check");
        checks
            .last()
            .is_some_and(|check| check["limit_bytes"] == 2500)
    });
}

#[test]
fn term_ends_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let scratch = four();
        let mut agent = Agent::on_root(&scratch.root(), &["--max-size", "1GiB"]);
        agent.watching();
        let mode = fs::metadata(&agent.socket).expect("a socket").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        agent.signal(signal);
        assert_eq!(agent.ended(), 0);
        assert!(!agent.socket.exists());
        agent.told("housekeeper.started", 1);
        agent.told("housekeeper.stopped", 1);
    }
}

#[test]
fn a_second_agent_on_one_state_directory_ends() {
    let scratch = four();
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "1GiB"]);
    agent.watching();
    let mut second = Agent::on_root(&scratch.root(), &["--max-size", "1"]);
    assert_eq!(second.ended(), 1);
    assert_eq!(
        agent.watching()["ready"],
        true,
        "the first one is untouched"
    );
    assert_eq!(names(&scratch.root()).len(), 4);
}

#[test]
fn a_killed_agent_leaves_nothing_in_the_way() {
    let scratch = four();
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "1GiB"]);
    agent.watching();
    let socket = agent.socket.clone();
    drop(agent);
    assert!(socket.exists(), "killed, it could not remove its socket");
    Agent::on_root(&scratch.root(), &["--max-size", "1GiB"]).watching();
}

#[test]
fn one_bad_root_leaves_the_others_alone() {
    let scratch = four();
    let bad = scratch.path("bad");
    fs::create_dir(&bad).expect("made");
    for n in 1..=4 {
        session(
            &bad,
            &format!("s{n}"),
            &format!("2026-02-0{n}T12:00:00Z"),
            1024,
        );
    }
    let config = configure(&scratch, "2500", "enforce");
    let good = fs::read_to_string(&config).expect("written");
    let more = format!(
        "[[root]]\nname = \"bad\"\npath = {bad:?}\n[root.limits]\nmax_size = 1000\nmax_zise = 1\n[root.guard]\nfirst_start = \"enforce\"\n[root.protect]\nquiet = \"0s\"\n[[root]]\nname = \"worse\"\npath = \"/etc\"\n"
    );
    fs::write(&config, good + &more).expect("written");
    let agent = Agent::on_config(&config);
    agent.root_until(0, "the good root pruned", |root| {
        root["pruned"]["sessions"] == 2
    });
    let root = agent.root_until(1, "the bad root watched", |root| root["session_count"] == 4);
    assert_eq!(root["ready"], false);
    assert_eq!(root["limit_bytes"], Value::Null);
    assert_eq!(names(&bad).len(), 4);
    let status = agent.status().expect("an answer");
    assert_eq!(status["roots"].as_array().expect("roots").len(), 2);
    agent.told("config.invalid_value", 2);
}

#[test]
fn observing_deletes_nothing() {
    let scratch = four();
    let before = picture(&scratch.root());
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "1", "--mode", "observe"]);
    agent.watching();
    agent.rescan();
    agent.until("a check", |agent| {
        let checks = agent.events("prune.check");
        checks.last().is_some_and(|check| check["candidates"] == 4)
    });
    assert_eq!(picture(&scratch.root()), before);
    let status = agent.status().expect("an answer");
    assert_eq!(status["mode"], "observe");
    assert_eq!(status["roots"][0]["pruned"]["sessions"], 0);
}

#[test]
fn a_root_that_is_absent_is_looked_for() {
    let scratch = Scratch::new();
    let config = configure(&scratch, "2500", "enforce");
    fs::remove_dir(scratch.root()).expect("removed");
    let agent = Agent::on_config(&config);
    let root = agent.root_until(0, "an absent root", |root| {
        root["watch"]["state"] == "absent"
    });
    assert_eq!(root["ready"], false);
    assert!(!scratch.root().exists(), "a configured root is never made");
    fs::create_dir(scratch.root()).expect("made");
    for n in 1..=4 {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
    agent.root_until(0, "a pruned root", |root| {
        root["bytes"].as_u64() <= Some(2500)
    });
    agent.until("the two newest alone", |_| {
        names(&scratch.root()) == ["s3", "s4"]
    });
    agent.told("root.absent", 1);
    agent.told("root.present", 1);
}

#[test]
fn run_makes_a_root_that_is_a_flag() {
    let scratch = Scratch::new();
    let root = scratch.path("not/yet");
    fs::create_dir(scratch.path("not")).expect("made");
    let agent = Agent::on_root(&root, &["--max-size", "1GiB"]);
    agent.watching();
    assert!(root.is_dir());
}

#[test]
fn a_replaced_root_is_noticed_and_left_alone() {
    let scratch = four();
    let agent = Agent::on_root(
        &scratch.root(),
        &["--max-size", "4500", "--first-start", "enforce"],
    );
    agent.watching();
    let away = scratch.path("away");
    fs::rename(scratch.root(), &away).expect("renamed");
    fs::create_dir(scratch.root()).expect("made");
    scratch.session("other", "2026-01-01T12:00:00Z", 10);
    // Over its limit, but not at the root's path any more: nothing may go there, nor here.
    session(&away, "s5", "2026-02-05T12:00:00Z", 1024);
    agent.root_until(0, "the new directory", |root| root["session_count"] == 1);
    agent.rescan();
    assert_eq!(names(&away), ["s1", "s2", "s3", "s4", "s5"]);
    assert_eq!(names(&scratch.root()), ["other"]);
    agent.told("root.absent", 1);
    assert_eq!(agent.events("prune.deleted").len(), 0);
}

#[test]
fn a_root_moved_away_is_noticed_by_a_rescan() {
    let scratch = four();
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "1GiB"]);
    agent.watching();
    fs::rename(scratch.root(), scratch.path("away")).expect("renamed");
    agent.signal(Signal::USR1);
    let root = agent.root_until(0, "an absent root", |root| {
        root["watch"]["state"] == "absent"
    });
    assert_eq!(root["ready"], false);
    fs::rename(scratch.path("away"), scratch.root()).expect("renamed");
    agent.root_until(0, "the root again", |root| root["session_count"] == 4);
}

#[test]
fn two_agents_with_states_of_their_own_share_a_root() {
    // Nothing forbids it: the lock in the root keeps their bursts apart.
    let scratch = four();
    let words = ["--max-size", "2500", "--first-start", "enforce"];
    let first = Agent::on_root(&scratch.root(), &words);
    let mut prune = housekeeper();
    prune.args([
        "prune-size",
        "--max-mb",
        "0.0024",
        "--quiet",
        "0s",
        "--json",
        "--root",
    ]);
    prune
        .arg(scratch.root())
        .arg("--state-dir")
        .arg(scratch.path("other"));
    let done = Done::of(prune.output().expect("runs"));
    assert!(matches!(done.code, 0 | 2), "{done:?}");
    first.until("the two newest", |_| names(&scratch.root()) == ["s3", "s4"]);
}

/// A command that is told to end finishes the rename in hand, and has said and written down what
/// it did until then.
#[test]
fn a_command_that_is_told_to_end_leaves_no_removal_unsaid() {
    const SESSIONS: usize = 4_000;
    let scratch = Scratch::new();
    for n in 0..SESSIONS {
        let created = format!("2026-02-01T{:02}:{:02}:00Z", n / 60 % 24, n % 60);
        scratch.session(&format!("s{n:04}"), &created, 10);
    }
    let config = configure(&scratch, "1GiB", "enforce");
    let mut command = housekeeper();
    command.args(["prune-size", "--json", "--max-mb", "0.0001"]);
    command.arg("--state-dir").arg(scratch.path("state"));
    command.arg("--config").arg(&config);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().expect("it starts");
    let left = || {
        names(&scratch.root())
            .iter()
            .filter(|name| name.starts_with('s'))
            .count()
    };
    wait_for("the first to go", || match left() {
        SESSIONS => Err("all are there".to_owned()),
        _ => Ok(()),
    });
    signal(child.id(), Signal::TERM);
    let output = child.wait_with_output().expect("it ends");
    let left = left();
    assert!(left > 0, "it ended before it was told to");
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
    let deleted = &document["roots"][0]["removed"];
    assert_eq!(
        deleted.as_array().map(Vec::len),
        Some(SESSIONS - left),
        "{document:.300}"
    );
    let mut audit = housekeeper();
    audit
        .args(["audit", "--json", "--limit", "10000", "--config"])
        .arg(&config);
    audit.arg("--state-dir").arg(scratch.path("state"));
    let rows = Done::of(audit.output().expect("runs")).document();
    let events = texts(&rows["entries"], "event");
    let n_rows = events
        .iter()
        .filter(|event| *event == "prune.deleted")
        .count();
    assert_eq!(n_rows, SESSIONS - left);
}
