//! `next` and `why`: what a forecast says comes true, and what is gone has its reason.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, names, with_config};
use crate::support::{Done, on_root, texts};
use serde_json::{Value, json};

/// Sessions of 1 KiB and some, a day apart.
fn sessions(n_sessions: u32) -> Scratch {
    let scratch = Scratch::new();
    for n in 1..=n_sessions {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
    scratch
}

fn alone(scratch: &Scratch, command: &str, words: &[&str]) -> Done {
    let socket = scratch.path("nobody.sock").display().to_string();
    on_root(
        command,
        &scratch.root(),
        &[words, &["--socket", &socket]].concat(),
    )
}

fn agent(scratch: &Scratch, limits: &[&str]) -> Agent {
    let accepted = ["--first-start", "enforce"];
    Agent::on_root(&scratch.root(), &[limits, &accepted[..]].concat())
}

fn through(agent: &Agent, words: &[&str]) -> Done {
    agent.command(&[words, &["--json"]].concat())
}

#[test]
fn without_an_agent_the_next_are_those_that_a_plan_takes_and_who_stays_says_why() {
    let scratch = sessions(4);
    let limits = ["--max-count", "2", "--max-size", "1GiB"];
    let pinned = alone(&scratch, "pin", &["s1", "--reason", "a test"]);
    assert_eq!(pinned.code, 0, "{pinned:?}");
    let next = alone(&scratch, "next", &limits).root();
    assert_eq!(texts(&next["sessions"], "id"), ["s1", "s2", "s3", "s4"]);
    assert_eq!(
        texts(&next["sessions"], "due"),
        ["now", "now", "now", "rate_unknown"]
    );
    assert_eq!(
        texts(&next["sessions"], "held_by"),
        ["pinned", "null", "null", "null"]
    );
    assert_eq!(next["sessions"][1]["rule"], "max_count");
    assert!(next["bytes_per_second"].is_null());
    let planned = on_root("plan", &scratch.root(), &limits).root();
    assert_eq!(texts(&planned["victims"], "id"), ["s2", "s3"]);
    let two = alone(&scratch, "next", &[&limits[..], &["-n", "1"]].concat()).root();
    assert_eq!(texts(&two["sessions"], "id"), ["s1", "s2"]);
    assert_eq!(two["more"], true);
    assert_eq!(names(&scratch.root()).len(), 4);
}

#[test]
fn an_age_ends_at_an_exact_instant() {
    let scratch = sessions(1);
    let next = alone(&scratch, "next", &["--max-age", "5000d"]).root();
    let row = &next["sessions"][0];
    assert_eq!(
        (&row["due"], &row["rule"]),
        (&json!("at"), &json!("max_age"))
    );
    assert_eq!(row["expected_at"], "2039-10-11T12:00:00.001Z");
}

#[test]
fn an_agent_tells_what_is_to_come_at_the_present_rate() {
    let scratch = sessions(2);
    let agent = agent(&scratch, &["--max-count", "3", "--max-size", "1GiB"]);
    agent.watching();
    let still = through(&agent, &["next"]).root();
    let dues = texts(&still["sessions"], "due");
    assert_eq!(dues, ["never_at_present_rate"; 2], "{still}");
    scratch.session("s3", "2026-02-03T12:00:00Z", 4096);
    agent.until("a rate", |agent| {
        let next = through(agent, &["next"]).root();
        next["bytes_per_second"].as_f64() > Some(0.0)
            && texts(&next["sessions"], "due") == ["at_present_rate"; 3]
            && next["sessions"][0]["rule"] == "max_count"
    });
    assert_eq!(names(&scratch.root()).len(), 3);
}

#[test]
fn why_answers_for_what_is_there_by_path_by_id_and_from_inside() {
    let scratch = sessions(3);
    let agent = agent(&scratch, &["--max-count", "3"]);
    agent.watching();
    let inside = scratch
        .root()
        .join("s2/metadata.json")
        .display()
        .to_string();
    for name in ["s2", "s2/", "s2/metadata.json", &inside] {
        let why = through(&agent, &["why", name]);
        assert_eq!(why.code, 0, "{why:?}");
        let why = why.document();
        assert_eq!(
            (&why["state"], &why["id"]),
            (&json!("present"), &json!("s2"))
        );
        assert_eq!(
            (&why["place"], &why["rule"]),
            (&json!(2), &json!("max_count"))
        );
    }
    assert_eq!(through(&agent, &["pin", "s1", "--reason", "r"]).code, 0);
    agent.until("a pin that is known", |agent| {
        let why = through(agent, &["why", "s1"]).document();
        why["held_by"] == "pinned"
            && why["because"]
                .as_str()
                .is_some_and(|b| b.contains("it stays"))
    });
    let nobody = through(&agent, &["why", "s9"]);
    assert_eq!(
        (nobody.code, &nobody.document()["state"]),
        (1, &json!("unknown"))
    );
    assert_eq!(
        through(&agent, &["why", "/etc/passwd"]).document()["state"],
        "unknown"
    );
}

#[test]
fn an_id_that_repeats_lists_its_sessions() {
    let scratch = Scratch::new();
    for home in ["a", "b"] {
        std::fs::create_dir(scratch.root().join(home)).expect("made");
        scratch.session(&format!("{home}/x"), "2026-02-01T12:00:00Z", 1024);
    }
    let text = format!(
        "socket = {:?}\n[[root]]\nname = \"r\"\npath = {:?}\n[root.layout]\nsessions = \"*/*\"\n\
         metadata = \"metadata.json\"\n[root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n",
        scratch.path("nobody.sock"),
        scratch.root()
    );
    let why = |name: &str| with_config(&scratch, &text, &["why", name]);
    let both = why("x");
    assert_eq!(
        (both.code, &both.document()["state"]),
        (1, &json!("ambiguous"))
    );
    assert_eq!(
        texts(&both.document()["candidates"], "path"),
        ["a/x", "b/x"]
    );
    assert_eq!(why("b/x").document()["path"], "b/x");
}

#[test]
fn what_is_gone_has_its_rule_its_usage_and_the_limit_that_would_have_kept_it() {
    for (limits, rule) in [
        (["--max-count", "1"], "max_count"),
        (["--max-size", "1500"], "max_size"),
        (["--max-age", "1h"], "max_age"),
    ] {
        let scratch = sessions(2);
        let first = agent(&scratch, &limits);
        first.root_until(0, "s1 gone", |root| {
            root["pruned"]["sessions"].as_u64() >= Some(1)
        });
        let gone = |first: &Agent| through(first, &["why", "s1"]).document();
        first.until("a row", |agent| gone(agent)["state"] == "removed");
        let why = gone(&first);
        assert_eq!(
            (&why["rule"], &why["actor"]),
            (&json!(rule), &json!("event")),
            "{why}"
        );
        assert!(why["usage_bytes"].as_u64() > Some(2000), "{why}");
        // Under the limit that it names the same session stays.
        let spared = why["spared_by"]["value"]
            .as_str()
            .expect("a limit")
            .to_owned();
        drop(first);
        let again = sessions(2);
        let spared = spared.replace(' ', "");
        let plan = on_root("plan", &again.root(), &[limits[0], &spared]);
        if rule == "max_age" {
            // It has become older by what the test took.
            continue;
        }
        assert_eq!(
            plan.root()["victims"],
            Value::Array(Vec::new()),
            "{rule} {spared}"
        );
        let number: u64 = spared.parse().expect("a number");
        let less = on_root(
            "plan",
            &again.root(),
            &[limits[0], &(number - 1).to_string()],
        );
        assert_eq!(texts(&less.root()["victims"], "id"), ["s1"]);
    }
}
