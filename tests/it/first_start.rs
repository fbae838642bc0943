//! Promise 8a, and what becomes of a limit that cannot be met.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, bare_session, names, session};
use crate::support::{Done, housekeeper};
use std::fs;

/// Five sessions of 1 KiB and some; three have to go.
fn far_over() -> Scratch {
    let scratch = Scratch::new();
    for n in 1..=5 {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
    scratch
}

const LIMIT: [&str; 2] = ["--max-size", "2500"];

#[test]
fn a_root_far_over_its_limit_is_held_until_accepted() {
    let scratch = far_over();
    let mut agent = Agent::on_root(&scratch.root(), &LIMIT);
    let root = agent.root_until(0, "a held root", |root| root["held"] == true);
    assert_eq!(root["ready"], false);
    // More writing changes nothing about it, nor does a scan.
    scratch.session("s6", "2026-02-06T12:00:00Z", 1024);
    agent.root_until(0, "the new session seen", |root| root["session_count"] == 6);
    let root = agent.rescan();
    assert_eq!(root["held"], true);
    assert_eq!(root["pruned"]["sessions"], 0);
    assert_eq!(names(&scratch.root()).len(), 6);
    let held = agent.told("root.held", 1);
    assert_eq!(held[0]["victims"], 3);
    assert_eq!(held[0]["sessions"], 5);
    assert_eq!(held[0]["level"], "WARN");
    assert_eq!(agent.events("prune.deleted").len(), 0);

    let accepted = agent.command(&["accept", "root"]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    let root = agent.root_until(0, "a pruned root", |root| root["pruned"]["sessions"] == 4);
    assert_eq!(root["held"], false);
    agent.root_until(0, "a ready root", |root| root["ready"] == true);
    assert_eq!(names(&scratch.root()), ["s5", "s6"]);

    // It is remembered: the next start prunes whatever the plan takes.
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.ended(), 0);
    for n in 7..=9 {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
    let agent = Agent::on_root(&scratch.root(), &LIMIT);
    let root = agent.root_until(0, "a pruned root", |root| root["pruned"]["sessions"] == 3);
    assert_eq!(root["held"], false);
    assert_eq!(names(&scratch.root()), ["s8", "s9"]);
    assert_eq!(agent.events("root.held").len(), 0);
}

#[test]
fn a_held_root_is_held_by_the_next_start_too() {
    let scratch = far_over();
    for _ in 0..2 {
        let mut agent = Agent::on_root(&scratch.root(), &LIMIT);
        agent.root_until(0, "a held root", |root| root["held"] == true);
        agent.signal(rustix::process::Signal::TERM);
        assert_eq!(agent.ended(), 0);
    }
    assert_eq!(names(&scratch.root()).len(), 5);
}

#[test]
fn a_root_can_be_accepted_without_an_agent() {
    let scratch = far_over();
    let config = scratch.path("config.toml");
    let text = format!(
        "[agent]\nstate_dir = {:?}\nsocket = {:?}\n[[root]]\nname = \"mine\"\npath = {:?}\n[root.limits]\nmax_size = 2500\n[root.protect]\nquiet = \"0s\"\n",
        scratch.path("state"),
        scratch.path("agent.sock"),
        scratch.root()
    );
    fs::write(&config, text).expect("written");
    let mut accept = housekeeper();
    accept.args(["accept", "mine", "--config"]).arg(&config);
    let done = Done::of(accept.output().expect("runs"));
    assert_eq!(done.code, 0, "{done:?}");
    let agent = Agent::on_config(&config);
    agent.root_until(0, "a pruned root", |root| root["pruned"]["sessions"] == 3);
    assert_eq!(agent.events("root.held").len(), 0);
}

#[test]
fn less_than_half_needs_nobody() {
    let scratch = far_over();
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "3500"]);
    agent.root_until(0, "a pruned root", |root| root["pruned"]["sessions"] == 2);
    assert_eq!(names(&scratch.root()), ["s3", "s4", "s5"]);
    assert_eq!(agent.events("root.held").len(), 0);
}

#[test]
fn enforce_at_first_start_needs_nobody() {
    let scratch = far_over();
    let words = [&LIMIT[..], &["--first-start", "enforce"]].concat();
    let agent = Agent::on_root(&scratch.root(), &words);
    agent.root_until(0, "a pruned root", |root| root["pruned"]["sessions"] == 3);
}

#[test]
fn undeletable_bytes_leave_the_newest_tenth_and_are_said_once() {
    let scratch = Scratch::new();
    // Without metadata nobody may delete it, and it alone is over the limit.
    bare_session(&scratch.root(), "undeletable", 200 << 10);
    for n in 10..=25 {
        scratch.session(&format!("s{n}"), &format!("2026-02-{n}T12:00:00Z"), 1024);
    }
    let words = ["--max-size", "100KiB", "--first-start", "enforce"];
    let agent = Agent::on_root(&scratch.root(), &words);
    let root = agent.root_until(0, "an unmet limit", |root| root["unmet"] == true);
    assert_eq!(root["ready"], false);
    // A tenth of 100 KiB holds nine sessions of 1 KiB and some.
    let left = names(&scratch.root());
    assert_eq!(left.len(), 10, "{left:?}");
    assert_eq!(left[0], "s17");
    assert_eq!(left[9], "undeletable");
    let unmet = agent.told("prune.target_unmet", 1);
    let blocked = unmet[0]["blocked"].as_str().expect("text");
    assert!(
        blocked.contains("anomalous 1 session 204800 bytes"),
        "{blocked}"
    );
    assert!(unmet[0]["still_over_bytes"].as_u64() > Some(100 << 10));

    // More of the same neither prunes nor says it again, however often it is looked at.
    for n in 1..=3 {
        agent.rescan();
        session(
            &scratch.root(),
            &format!("t{n}"),
            "2026-02-26T12:00:00Z",
            10,
        );
    }
    agent.root_until(0, "the new sessions seen", |root| {
        root["session_count"] == 13
    });
    agent.rescan();
    agent.told("prune.target_unmet", 1);
    assert_eq!(agent.events("prune.skipped").len(), 0);
    let lines = agent.log().len();
    assert!(lines < 60, "{lines} lines: {:#?}", agent.log());

    // When the reason ends it prunes again, and a later failure is a new one.
    fs::remove_dir_all(scratch.root().join("undeletable")).expect("removed");
    let root = agent.root_until(0, "a met limit", |root| {
        root["unmet"] == false && root["trash_bytes"] == 0
    });
    assert_eq!(root["ready"], true);
}

/// Whoever accepts has seen what is there: not of a root that is not.
#[test]
fn a_root_that_is_not_there_cannot_be_accepted() {
    let scratch = far_over();
    let root = scratch.root();
    let away = scratch.path("away");
    fs::rename(&root, &away).expect("moved");
    let text = format!(
        "[agent]\nstate_dir = {:?}\nsocket = {:?}\n[[root]]\nname = \"r\"\npath = {root:?}\n",
        scratch.path("state"),
        scratch.path("nobody.sock"),
    );
    let config = scratch.path("accept.toml");
    fs::write(&config, text).expect("written");
    let accept = || {
        let mut command = housekeeper();
        command.args(["accept", "r", "--config"]).arg(&config);
        Done::of(command.output().expect("runs"))
    };
    let refused = accept();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("there is no root r to accept"),
        "{refused:?}"
    );
    fs::rename(&away, &root).expect("back");
    assert_eq!(accept().code, 0);
}
