//! What `next`, `why` and `status` say where nothing goes although a rule would take it, and where
//! what is gone is not known.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, names};
use serde_json::{Value, json};
use std::fs;

fn sessions(scratch: &Scratch, n_sessions: u32) {
    for n in 1..=n_sessions {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
}

fn asked(agent: &Agent, words: &[&str]) -> Value {
    agent.command(&[words, &["--json"]].concat()).document()
}

#[test]
fn a_root_that_is_held_or_only_observed_is_no_root_where_something_goes_now() {
    for (more, by, says) in [
        (&[][..], "held", "its root is held"),
        (&["--mode", "observe"], "observe", "the agent only observes"),
    ] {
        let scratch = Scratch::new();
        sessions(&scratch, 4);
        let agent = Agent::on_root(&scratch.root(), &[&["--max-count", "1"], more].concat());
        agent.until("an agent that answers", |agent| agent.status().is_some());
        agent.until("a root that is known", |agent| {
            asked(agent, &["next"])["roots"][0]["prevented_by"] == by
        });
        let why = asked(&agent, &["why", "s1"]);
        assert_eq!(
            (&why["prevented_by"], &why["due"]),
            (&json!(by), &json!("now"))
        );
        let because = why["because"].as_str().expect("a sentence");
        assert!(because.starts_with(says), "{because}");
        let next = agent.command(&["next"]).stdout;
        assert!(next.contains("nothing goes"), "{next}");
        let status = agent.command(&["status"]).stdout;
        assert!(!status.contains("nothing more may go"), "{status}");
        assert_eq!(names(&scratch.root()).len(), 4);
    }
    let scratch = Scratch::new();
    sessions(&scratch, 1);
    let agent = Agent::on_root(&scratch.root(), &["--max-count", "1"]);
    agent.watching();
    assert!(asked(&agent, &["why", "s1"])["prevented_by"].is_null());
}

#[test]
fn the_next_of_a_root_that_is_away_says_so() {
    let scratch = Scratch::new();
    sessions(&scratch, 1);
    let agent = Agent::on_root(&scratch.root(), &["--max-count", "1"]);
    agent.watching();
    fs::rename(scratch.root(), scratch.path("away")).expect("moved");
    agent.until("a root that is away", |agent| {
        asked(agent, &["next"])["roots"][0]["error"] == "it is not at its path"
    });
}

/// Rows of removals wait: nobody can say that none was removed.
#[test]
fn what_went_while_the_store_is_away_is_not_said_to_be_unknown() {
    let scratch = Scratch::new();
    sessions(&scratch, 2);
    let (here, away) = (scratch.path("store"), scratch.path("away"));
    fs::create_dir(&here).expect("made");
    let text = format!(
        "[store]\nurl = \"sqlite://{}/housekeeper.db\"\n[[root]]\nname = \"r\"\npath = {:?}\n\
         [root.limits]\nmax_count = 2\n[root.protect]\nquiet = \"0s\"\n\
         [root.guard]\nfirst_start = \"enforce\"\n",
        here.display(),
        scratch.root()
    );
    let config = scratch.path("config.toml");
    fs::write(&config, text).expect("written");
    let agent = Agent::on_config(&config);
    agent.watching();
    fs::rename(&here, &away).expect("moved");
    scratch.session("s3", "2026-02-03T12:00:00Z", 1024);
    agent.until("the oldest gone", |_| {
        names(&scratch.root()) == ["s2", "s3"]
    });
    agent.until("an answer that says why it knows nothing", |agent| {
        let why = asked(agent, &["why", "s1"]);
        let because = why["because"].as_str().unwrap_or_default().to_owned();
        why["state"] == "unknown" && because.contains("is not known now")
    });
    fs::rename(&away, &here).expect("moved back");
    agent.until("a row", |agent| {
        asked(agent, &["why", "s1"])["state"] == "removed"
    });
}
