//! Pins: whatever the rule, and whoever removes, a pinned session stays.

use crate::support::agent::Agent;
use crate::support::fixture::{Scratch, names, with_config};
use crate::support::running::Place;
use crate::support::{Done, mb, on_root};
use chrono::{DateTime, TimeDelta};
use housekeeper::agent::survey::{Manner, survey_at};
use housekeeper::clock::SystemClock;
use housekeeper::config;
use housekeeper::config::request::Request;
use housekeeper::engine::{Command, Engine, Input};
use housekeeper::model::fact::Fact;
use housekeeper::model::pin::{Pin, Pins};
use housekeeper::model::plan::Plan;
use housekeeper::model::report::Skip;
use housekeeper::model::time::{Clock, Now, Tick, Time};
use housekeeper::store::pin_file::PinFile;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Sessions of 1 KiB and some, a day apart.
fn sessions(n_sessions: u32) -> Scratch {
    let scratch = Scratch::new();
    for n in 1..=n_sessions {
        scratch.session(&format!("s{n}"), &format!("2026-02-0{n}T12:00:00Z"), 1024);
    }
    scratch
}

/// Without an agent.
fn pin(scratch: &Scratch, session: &str, more: &[&str]) -> Value {
    let socket = scratch.path("nobody.sock").display().to_string();
    let mut words = vec![session, "--reason", "a test", "--socket", &socket];
    words.extend(more);
    let done = on_root("pin", &scratch.root(), &words);
    assert_eq!(done.code, 0, "{done:?}");
    done.document()
}

fn agent(scratch: &Scratch, limits: &[&str]) -> Agent {
    let accepted = ["--first-start", "enforce"];
    Agent::on_root(&scratch.root(), &[limits, &accepted[..]].concat())
}

fn through(agent: &Agent, words: &[&str]) -> Done {
    agent.command(&[words, &["--json"]].concat())
}

/// The file that pins are in.
fn file(scratch: &Scratch) -> PathBuf {
    let roots = fs::read_dir(scratch.path("state/roots")).expect("there");
    let files = roots.map(|corner| corner.expect("an entry").path().join("pins.json"));
    let mut files: Vec<_> = files.filter(|file| file.exists()).collect();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

#[test]
fn every_limit_leaves_a_pinned_session_and_says_so() {
    for limits in [
        ["--max-size", "2500"],
        ["--max-count", "2"],
        ["--max-age", "1h"],
    ] {
        let scratch = sessions(4);
        assert_eq!(pin(&scratch, "s1", &[])["exists"], true);
        let is_age = limits[0] == "--max-age";
        let left: &[&str] = if is_age { &["s1"] } else { &["s1", "s4"] };
        let agent = agent(&scratch, &limits);
        let n_pruned = 4 - left.len();
        let root = agent.root_until(0, "a pruned root", |root| {
            root["pruned"]["sessions"] == n_pruned && root["trash_bytes"] == 0
        });
        assert_eq!(names(&scratch.root()), left, "{limits:?}");
        assert_eq!(root["pins"], json!({ "count": 1, "error": null }));
        if is_age {
            let root = agent.root_until(0, "what is in the way", |root| root["unmet"] == true);
            assert_eq!(root["blocked"][0]["reason"], "pinned");
        }
    }
}

#[test]
fn a_failed_session_that_is_pinned_is_retained() {
    let scratch = Scratch::new();
    for name in ["kept", "lost"] {
        let dir = scratch.session(name, "2026-02-01T12:00:00Z", 1024);
        let record = json!({ "created_at": "2026-02-01T12:00:00Z", "state": "failed" });
        fs::write(dir.join("metadata.json"), record.to_string()).expect("written");
    }
    pin(&scratch, "kept", &[]);
    let text = format!(
        "[[root]]\nname = \"root\"\npath = {:?}\n[root.layout.state]\nkey = \"/state\"\n\
         failed = [\"failed\"]\n[root.protect]\nquiet = \"0s\"\n\
         [root.lifecycle]\nfailed_retention = \"1ms\"\n[root.guard]\nfirst_start = \"enforce\"\n",
        scratch.root()
    );
    let planned = with_config(&scratch, &text, &["plan"]).root();
    assert_eq!(planned["victims"].as_array().map(Vec::len), Some(1));
    let agent = Agent::on_config(&scratch.path("config.toml"));
    agent.root_until(0, "a pruned root", |root| root["pruned"]["sessions"] == 1);
    agent.rescan();
    assert_eq!(names(&scratch.root()), ["kept"]);
}

#[test]
fn commands_honour_pins_and_pins_may_come_before_their_sessions() {
    let scratch = sessions(3);
    assert_eq!(pin(&scratch, "s1", &[])["exists"], true);
    assert_eq!(pin(&scratch, "s9", &[])["exists"], false);
    scratch.session("s9", "2026-01-01T12:00:00Z", 1024);
    // A limit that the pinned ones pass by themselves.
    let planned = on_root("plan", &scratch.root(), &["--max-size", "1500"]).root();
    assert_eq!(planned["victims"][0]["id"], "s2");
    assert_eq!(planned["blocked"][0]["reason"], "pinned");
    assert_eq!(planned["blocked"][0]["sessions"], 2);
    let pruned = on_root("prune-size", &scratch.root(), &["--max-mb", &mb(1)]);
    assert_eq!(pruned.code, 1, "{pruned:?}");
    assert_eq!(names(&scratch.root()), ["s1", "s9"]);
}

#[test]
fn a_pin_holds_from_its_answer_on_and_an_unpinned_session_goes() {
    let scratch = sessions(2);
    let first = agent(&scratch, &["--max-count", "2"]);
    first.watching();
    let pinned = through(&first, &["pin", "s1", "--reason", "r", "--owner", "ana"]);
    assert_eq!(pinned.code, 0, "{pinned:?}");
    scratch.session("s3", "2026-02-03T12:00:00Z", 1024);
    first.root_until(0, "s2 gone", |root| root["pruned"]["sessions"] == 1);
    assert_eq!(names(&scratch.root()), ["s1", "s3"]);
    let listed = through(&first, &["pins"]).root();
    let row = &listed["pins"][0];
    assert_eq!(
        (&row["session"], &row["owner"]),
        (&json!("s1"), &json!("ana"))
    );
    // It outlives the agent, however that ends.
    first.signal(Signal::KILL);
    drop(first);
    let second = agent(&scratch, &["--max-count", "2"]);
    second.watching();
    scratch.session("s4", "2026-02-04T12:00:00Z", 1024);
    second.root_until(0, "s3 gone", |root| root["pruned"]["sessions"] == 1);
    assert_eq!(names(&scratch.root()), ["s1", "s4"]);
    assert_eq!(through(&second, &["unpin", "s1"]).code, 0);
    assert_eq!(through(&second, &["unpin", "s1"]).code, 1);
    scratch.session("s5", "2026-02-05T12:00:00Z", 1024);
    second.root_until(0, "s1 gone", |root| root["pruned"]["sessions"] == 2);
    assert_eq!(names(&scratch.root()), ["s4", "s5"]);
}

#[test]
fn a_pin_ends_at_its_time() {
    let scratch = sessions(2);
    let until = pin(&scratch, "s1", &["--until", "3s"]);
    assert!(until["until"].is_string());
    let agent = agent(&scratch, &["--max-age", "1h"]);
    agent.root_until(0, "s2 gone", |root| root["pruned"]["sessions"] == 1);
    agent.root_until(0, "s1 gone", |root| root["pruned"]["sessions"] == 2);
    assert_eq!(through(&agent, &["pins"]).root()["pins"][0]["ended"], true);
}

#[test]
fn pins_that_cannot_be_read_keep_the_whole_root_until_they_are_mended() {
    let scratch = sessions(3);
    pin(&scratch, "s1", &[]);
    let whole = fs::read(file(&scratch)).expect("read");
    fs::write(file(&scratch), &whole[1..]).expect("broken");
    let pruned = on_root("prune-size", &scratch.root(), &["--max-mb", &mb(1)]);
    assert_eq!(pruned.code, 1, "{pruned:?}");
    let agent = agent(&scratch, &["--max-count", "1"]);
    let root = agent.root_until(0, "an unmet limit", |root| root["unmet"] == true);
    assert_eq!(root["pins"]["error"], "it is not whole");
    assert_eq!(
        (&root["ready"], &root["pruned"]["sessions"]),
        (&json!(false), &json!(0))
    );
    let refused = through(&agent, &["pin", "s2", "--reason", "r"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("mend the file"), "{refused:?}");
    assert_eq!(names(&scratch.root()).len(), 3);
    fs::write(file(&scratch), &whole).expect("mended");
    agent.rescan();
    let pruned = |root: &Value| root["pruned"]["sessions"] == 2 && root["pins"]["error"].is_null();
    agent.root_until(0, "a pruned root", pruned);
    assert_eq!(names(&scratch.root()), ["s1"]);
}

/// Somebody pins a session at the last moment: when the root's lock is held, and the pins were
/// looked at for the plan.
#[derive(Debug)]
struct PinsLate {
    clock: SystemClock,
    /// How far it is ahead of the kernel's.
    ahead: TimeDelta,
    root: PathBuf,
    file: Mutex<Option<PinFile>>,
}

impl Clock for PinsLate {
    fn now(&self) -> Now {
        let line = fs::read_to_string(self.root.join(".housekeeper/lock"));
        let mut file = self.file.lock().expect("nobody panicked");
        if line.is_ok_and(|line| line.starts_with('{'))
            && let Some(mut file) = file.take()
        {
            let now = self.clock.now().wall;
            let pinned = file.put(a_pin("s1", now, None));
            pinned.expect("written");
        }
        let now = self.clock.now();
        Now {
            wall: now.wall + self.ahead,
            tick: now.tick,
        }
    }
}

fn a_pin(session: &str, created: Time, until: Option<Time>) -> Pin {
    Pin {
        session: Arc::from(session.as_bytes()),
        owner: "ana".to_owned(),
        reason: "a test".to_owned(),
        created,
        until,
    }
}

/// One enforcing look at the root of a place, by a clock that pins `s1` late.
fn pinned_late(place: &Place, ahead: TimeDelta) -> (Plan, Vec<Fact>) {
    let request = Request {
        file: Some(place.beside("config.toml")),
        ..Request::default()
    };
    let settings = config::load(&request).expect("a good configuration");
    let state_dir = place.beside("state");
    let manner = Manner {
        enforce: true,
        ..Manner::look(&state_dir)
    };
    let clock = PinsLate {
        clock: SystemClock::start(),
        ahead,
        root: place.root.clone(),
        file: Mutex::new(Some(PinFile::of(&state_dir, &settings.roots[0].real))),
    };
    let survey = survey_at(&settings.roots[0], manner, Arc::new(clock)).expect("a survey");
    let said = (survey.plan.clone(), survey.facts().to_vec());
    survey.end();
    said
}

fn record(place: &Place, session: &str, day: u32, state: &str) {
    let dir = place.root.join(session);
    fs::create_dir_all(&dir).expect("a session");
    let text = format!(r#"{{"created_at":"2026-02-0{day}T12:00:00Z","state":"{state}"}}"#);
    fs::write(dir.join("metadata.json"), text).expect("written");
}

#[test]
fn a_pin_made_between_the_plan_and_its_rename_is_honoured() {
    let place = Place::new();
    place.configure("[root.layout]\n[root.limits]\nmax_count = 2\n[root.protect]\nquiet = \"0s\"");
    for n in 1..=3 {
        record(&place, &format!("s{n}"), n, "complete");
    }
    let (plan, facts) = pinned_late(&place, TimeDelta::zero());
    assert_eq!(plan.victims.len(), 1);
    assert_eq!(&*plan.victims[0].key, b"s1", "it was planned");
    let skipped = |fact: &Fact| matches!(fact, Fact::PruneSkipped { key, why: Skip::Pinned, .. } if **key == *b"s1");
    assert!(facts.iter().any(skipped), "{facts:?}");
    assert_eq!(names(&place.root), ["s1", "s3"], "the next oldest went");
}

#[test]
fn a_pin_made_before_a_step_of_a_sessions_life_is_honoured() {
    let place = Place::new();
    place.configure(
        "[root.layout]\n[root.layout.state]\nkey = \"/state\"\nactive = [\"open\"]\n\
         failed = [\"failed\"]\n[root.protect]\nquiet = \"0s\"\n\
         [root.lifecycle]\nstale_after = \"24h\"\n",
    );
    for session in ["s1", "s2"] {
        record(&place, session, 1, "open");
    }
    pinned_late(&place, TimeDelta::hours(25));
    let state = |session: &str| {
        let text = fs::read_to_string(place.root.join(session).join("metadata.json"));
        let record: Value = serde_json::from_str(&text.expect("metadata")).expect("JSON");
        record["state"].clone()
    };
    assert_eq!((state("s1"), state("s2")), (json!("open"), json!("failed")));
}

/// A clock that is set forward by more than ten minutes ends no pin by that.
#[test]
fn a_clock_that_jumps_ends_no_pin() {
    let begin = DateTime::from_timestamp(1_800_000_000, 0).expect("in range");
    let at = |wall: u64, tick: u64| Now {
        wall: begin + Duration::from_secs(wall),
        tick: Tick(Duration::from_secs(tick)),
    };
    let pins = || Pins::new([a_pin("s", begin, Some(begin + Duration::from_secs(3600)))]);
    let engine = |moments: &[Now]| {
        let rules = crate::support::world::bare_rules(1_000);
        let mut engine = Engine::new(rules, true, []).with_pins(pins());
        for now in moments {
            engine.handle(*now, Input::Wake, &mut Vec::new());
        }
        engine
    };
    assert!(engine(&[at(0, 0), at(3599, 3599)]).keeps(b"s"));
    let ended = engine(&[at(0, 0), at(3599, 3599), at(3600, 3600)]);
    assert!(!ended.keeps(b"s"), "the time went by");
    let jumped = [at(0, 0), at(7200, 1)];
    assert!(engine(&jumped).keeps(b"s"));
    // Nor does it end where the pins are read anew then.
    let mut engine = engine(&jumped);
    let anew = Input::Command(Command::SetPins(Arc::new(pins())));
    engine.handle(at(7201, 2), anew, &mut Vec::new());
    assert!(engine.keeps(b"s"));
}
