//! A root that stays over its limit: `status` says why, and what helps.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, bare_session, names};
use fs2::FileExt;
use serde_json::{Value, json};
use std::fs;

/// Five sessions of a little more than 1 KiB, a day apart.
fn five() -> Scratch {
    let scratch = Scratch::new();
    for n in 1..=5 {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
    scratch
}

fn told(agent: &Agent) -> String {
    let done = agent.command(&["status"]);
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout
}

#[test]
fn another_holds_the_lock() {
    let scratch = five();
    let control = scratch.root().join(".housekeeper");
    fs::create_dir(&control).expect("made");
    let host = rustix::system::uname();
    let holder = json!({
        "host": host.nodename().to_string_lossy(),
        "pid": std::process::id(),
        "since": "2026-02-01T12:00:00Z",
    });
    fs::write(control.join("lock"), format!("{holder}\n")).expect("written");
    let lock = fs::File::open(control.join("lock")).expect("there");
    lock.lock_exclusive().expect("locked");

    let agent = Agent::on_root(&scratch.root(), &["--max-size", "3500"]);
    let root = agent.root_until(0, "a lock in the way", |root| root["lock"].is_object());
    assert_eq!(root["lock"]["state"], "busy");
    assert_eq!(root["lock"]["holder"], holder);
    assert_eq!(root["lock"]["error"], Value::Null);
    let since = root["lock"]["since"].as_str().expect("a time");
    chrono::DateTime::parse_from_rfc3339(since).expect("RFC 3339");
    let bytes = root["bytes"].as_u64().expect("bytes");
    assert_eq!(root["still_over_bytes"], bytes - 3500);
    assert_eq!(root["blocked"], json!([]));
    let text = told(&agent);
    let who = format!("process {} on ", std::process::id());
    assert!(text.contains("over its limit: "), "{text}");
    assert!(text.contains(&who), "{text}");
    agent.root_until(0, "a root that is not ready", |root| root["ready"] == false);

    drop(lock);
    let root = agent.root_until(0, "a pruned root", |root| {
        root["pruned"]["sessions"] == 2 && root["lock"].is_null() && root["trash_bytes"] == 0
    });
    assert_eq!(root["ready"], true, "{root}");
    assert_eq!(root["still_over_bytes"], 0);
    assert_eq!(names(&scratch.root()), ["s3", "s4", "s5"]);
    assert!(!told(&agent).contains("over its limit"));
}

#[test]
fn the_lock_cannot_be_taken() {
    let scratch = five();
    let control = scratch.root().join(".housekeeper");
    fs::write(&control, "in the way").expect("written");
    let agent = Agent::on_root(&scratch.root(), &["--max-size", "3500"]);
    let root = agent.root_until(0, "a lock that fails", |root| root["lock"].is_object());
    assert_eq!(root["lock"]["state"], "failed");
    assert_eq!(root["lock"]["holder"], Value::Null);
    let error = root["lock"]["error"].as_str().expect("an error");
    assert!(error.contains(".housekeeper"), "{error}");
    assert_eq!(root["ready"], false, "{root}");
    assert_eq!(names(&scratch.root()).len(), 5);
    let text = told(&agent);
    assert!(text.contains("its lock cannot be taken"), "{text}");
    assert!(text.contains(error), "{text}");

    fs::remove_file(&control).expect("removed");
    let root = agent.root_until(0, "a pruned root", |root| {
        root["pruned"]["sessions"] == 2 && root["trash_bytes"] == 0
    });
    assert_eq!(root["lock"], Value::Null);
    assert_eq!(root["ready"], true, "{root}");
}

#[test]
fn what_may_not_go_is_named_by_reason() {
    let scratch = five();
    bare_session(&scratch.root(), "bare", 8192);
    let more = ["--max-size", "3500", "--first-start", "enforce"];
    let agent = Agent::on_root(&scratch.root(), &more);
    let root = agent.root_until(0, "an unmet limit", |root| root["unmet"] == true);
    let reasons = json!([{ "reason": "anomalous", "sessions": 1, "bytes": 8192 }]);
    assert_eq!(root["blocked"][0], reasons[0], "{root}");
    let over = root["still_over_bytes"].as_u64().expect("bytes");
    assert_eq!(over, root["bytes"].as_u64().expect("bytes") - 3500);
    assert_eq!(
        (&root["lock"], &root["ready"]),
        (&Value::Null, &json!(false))
    );
    let text = told(&agent);
    assert!(text.contains("root stays "), "{text}");
    assert!(text.contains("8.0 KiB anomalous (1 session)"), "{text}");

    fs::remove_dir_all(scratch.root().join("bare")).expect("removed");
    let root = agent.root_until(0, "a limit that is met", |root| root["unmet"] == false);
    assert_eq!(root["blocked"], json!([]));
    assert_eq!(root["still_over_bytes"], 0);
}
