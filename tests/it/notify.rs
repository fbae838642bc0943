//! Notices against a real server that fails, resets, refuses, hangs and recovers, and a command.

use crate::support::receiver::{Manner, Receiver, Request};
use crate::support::running::{Place, make_session, wait_for};
use housekeeper::clock::SystemClock;
use housekeeper::model::notice::{BodyFormat, Exec, Notice, Receivers, Secret, Topic, Webhook};
use housekeeper::notify::Notifier;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// For a thread to write down what it was told.
const PATIENCE: Duration = Duration::from_secs(20);

fn configure(place: &Place, receiver: &Receiver) {
    let token = place.beside("token");
    fs::write(&token, "s3cret-token\n").expect("written");
    let root = "[root.limits]\nmax_size = 25000\n[root.protect]\nquiet = \"0s\"\n";
    let notify = format!(
        "[notify]\nrate = 600\n[[notify.webhook]]\nname = \"hook\"\nurl = {:?}\n\
         token_file = {token:?}\nevents = [\"anomaly\", \"failure\"]\n",
        receiver.url("/s3cret-path"),
    );
    place.configure(&format!("{root}{notify}"));
}

/// A session that needs a look: it says nothing of itself.
fn odd_session(place: &Place, name: &str) {
    fs::create_dir(place.root.join(name)).expect("a session");
    fs::write(place.root.join(name).join("data"), "x").expect("a file");
}

fn path(request: &Request) -> String {
    request.body["details"]["path"]
        .as_str()
        .unwrap_or("-")
        .to_owned()
}

/// Waits until notices about all of these paths were taken.
fn taken(receiver: &Receiver, paths: &BTreeSet<String>) -> Vec<Request> {
    wait_for("all notices", || {
        let taken = receiver.taken();
        let found: BTreeSet<String> = taken.iter().map(path).collect();
        if found.is_superset(paths) {
            Ok(taken)
        } else {
            Err(format!("{found:?}"))
        }
    })
}

#[test]
fn every_failure_is_told_once_by_a_server_that_fails_hangs_and_recovers_over_restarts() {
    let place = Place::new();
    let mut receiver = Receiver::new(Manner::Fail);
    configure(&place, &receiver);
    let mut expected = BTreeSet::new();
    for n in 0..12 {
        let name = format!("odd-{n}");
        odd_session(&place, &name);
        expected.insert(name);
    }
    let staging = place.beside("staging");
    let mut agent = place.agent();
    receiver.met(Manner::Fail, 0);
    receiver.behave(Manner::Reset);
    receiver.met(Manner::Reset, 0);
    receiver.leave();
    wait_for("a refusal", || {
        // It was told of the first failure only; the state on the disk is what counts.
        let outbox = place.beside("state/notify/outbox.jsonl");
        let text = fs::read_to_string(outbox).unwrap_or_default();
        let n_waiting = text
            .lines()
            .filter(|line| line.starts_with("{\"notice\""))
            .count();
        if n_waiting == 12 { Ok(()) } else { Err(text) }
    });
    receiver.behave(Manner::Hang);
    receiver.listen();
    let n_before = receiver.requests().len();
    let hung = receiver.met(Manner::Hang, n_before);
    // Enforcement goes on while nobody answers.
    for n in 0..4 {
        make_session(
            &place.root,
            &staging,
            &format!("big-{n}"),
            100 - n,
            (1, 10_000),
        );
    }
    agent.until("the oldest to go", |_| {
        !place.root.join("big-0").exists() && place.root.join("big-3").exists()
    });
    agent.kill();
    receiver.behave(Manner::Take);
    let agent = place.agent();
    let all = taken(&receiver, &expected);
    // What may have arrived has the identity that it had.
    let again = all
        .iter()
        .find(|request| path(request) == path(&hung))
        .expect("told");
    assert_eq!(again.key, hung.key);
    assert_eq!(again.body, hung.body);
    // What still holds after the restart is not told again: another comes behind all of it.
    let n_before = receiver.requests().len();
    receiver.behave(Manner::Fail);
    odd_session(&place, "odd-last");
    expected.insert("odd-last".to_owned());
    assert!(place.run(&["rescan", "--wait"]).status.success());
    receiver.met(Manner::Fail, n_before);
    receiver.behave(Manner::Take);
    taken(&receiver, &expected);
    assert_eq!(agent.stop(), Some(0));
    let _agent = place.agent();
    odd_session(&place, "odd-after");
    expected.insert("odd-after".to_owned());
    assert!(place.run(&["rescan", "--wait"]).status.success());
    let all = taken(&receiver, &expected);
    let paths: Vec<String> = all.iter().map(path).collect();
    assert_eq!(paths.len(), expected.len(), "{all:#?}");
    let keys: BTreeSet<&String> = all.iter().map(|request| &request.key).collect();
    assert_eq!(keys.len(), all.len());
    for request in &all {
        assert!(
            request.head.contains("Bearer s3cret-token"),
            "{}",
            request.head
        );
        assert_eq!(request.body["event"], "anomaly.found");
        assert_eq!(request.body["root"], "r");
        assert_eq!(request.body["details"]["kind"], "metadata_missing");
    }
    let log = place.log();
    assert!(log.contains("notify.failed") && log.contains("notify.recovered"));
    assert!(!log.contains("s3cret"), "a secret is in the log");
    let outbox = fs::read_to_string(place.beside("state/notify/outbox.jsonl")).expect("a file");
    assert!(!outbox.contains("s3cret"), "{outbox}");
}

#[test]
fn an_anomaly_that_went_away_and_came_back_is_told_again() {
    let place = Place::new();
    let receiver = Receiver::new(Manner::Take);
    configure(&place, &receiver);
    odd_session(&place, "odd");
    let expected = BTreeSet::from(["odd".to_owned()]);
    let agent = place.agent();
    taken(&receiver, &expected);
    assert_eq!(agent.stop(), Some(0));
    // It goes while nobody looks, and the next start sees that.
    fs::remove_dir_all(place.root.join("odd")).expect("it goes");
    let agent = place.agent();
    odd_session(&place, "odd");
    assert!(place.run(&["rescan", "--wait"]).status.success());
    wait_for("the second notice", || match receiver.taken().len() {
        2 => Ok(()),
        n => Err(n.to_string()),
    });
    drop(agent);
}

fn hook(name: &str, url: String, format: BodyFormat) -> Webhook {
    Webhook {
        name: name.to_owned(),
        url: Secret(url),
        format,
        topics: Topic::ALL.to_vec(),
        header: None,
    }
}

fn notifier(receivers: Receivers, dir: &Path) -> Notifier {
    let clock = Arc::new(SystemClock::start());
    Notifier::start(receivers, dir, clock).expect("a thread").0
}

fn failed(n: usize) -> Notice {
    Notice {
        topic: Topic::Failure,
        event: "cleanup.failed",
        root: None,
        message: format!("clean-up {n} failed & <stayed>"),
        details: vec![("number", n.to_string())],
    }
}

#[test]
fn what_is_more_than_the_rate_is_one_message_that_counts_all() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let receiver = Receiver::new(Manner::Fail);
    let receivers = Receivers {
        webhooks: vec![
            hook("all", receiver.url("/all"), BodyFormat::Json),
            hook("chat", receiver.url("/chat"), BodyFormat::Slack),
        ],
        rate: 3,
        ..Receivers::default()
    };
    let notifier = notifier(receivers, scratch.path());
    for n in 0..50 {
        notifier.tell(failed(n));
    }
    assert!(notifier.flush(PATIENCE));
    receiver.met(Manner::Fail, 0);
    receiver.behave(Manner::Take);
    let all = wait_for("all messages", || {
        let taken = receiver.taken();
        if taken.len() == 6 {
            Ok(taken)
        } else {
            Err(format!("{taken:?}"))
        }
    });
    let to = |path: &str| {
        let path = format!("POST {path} ");
        let requests = all
            .iter()
            .filter(move |request| request.head.starts_with(&path));
        requests
            .map(|request| request.body.clone())
            .collect::<Vec<Value>>()
    };
    let [one, two, more] = <[Value; 3]>::try_from(to("/all")).expect("three messages");
    assert_eq!(
        (&one["details"]["number"], &two["details"]["number"]),
        (&0.into(), &1.into())
    );
    assert_eq!(more["details"]["notices"], 48);
    let ids = more["details"]["ids"].as_array().expect("identities");
    let mut ids: BTreeSet<&str> = ids.iter().filter_map(Value::as_str).collect();
    ids.extend([&one, &two].map(|notice| notice["id"].as_str().expect("an identity")));
    assert_eq!(ids.len(), 50);
    assert_eq!(
        more["message"],
        "clean-up 2 failed & <stayed> (and 47 more)"
    );
    let chat = to("/chat");
    let text = chat[0]["text"].as_str().expect("text");
    assert!(
        text.ends_with(": clean-up 0 failed &amp; &lt;stayed&gt;"),
        "{text}"
    );
    assert!(
        chat[2]["text"]
            .as_str()
            .is_some_and(|text| text.ends_with("(and 47 more)"))
    );
}

#[test]
fn what_is_refused_for_good_is_given_up_and_holds_nothing_up() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let receiver = Receiver::new(Manner::Refuse);
    let receivers = Receivers {
        webhooks: vec![hook("all", receiver.url("/"), BodyFormat::Json)],
        ..Receivers::default()
    };
    let notifier = notifier(receivers, scratch.path());
    notifier.tell(failed(0));
    receiver.met(Manner::Refuse, 0);
    receiver.behave(Manner::Take);
    notifier.tell(failed(1));
    receiver.met(Manner::Take, 0);
    let numbers: Vec<Value> = receiver
        .requests()
        .iter()
        .map(|request| request.body["details"]["number"].clone())
        .collect();
    assert_eq!(numbers, [0, 1]);
}

#[test]
fn a_command_is_given_each_notice_once_without_a_shell_and_is_killed_in_time() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let told = scratch.path().join("told");
    let exec = |script: &str, timeout| Receivers {
        exec: Some(Exec {
            program: "/bin/sh".into(),
            arguments: ["-c", script, "x", "$(touch evil)"]
                .map(str::to_owned)
                .to_vec(),
            topics: Topic::ALL.to_vec(),
            timeout,
        }),
        rate: 600,
        ..Receivers::default()
    };
    let dir = scratch.path().join("notify");
    // It starts a child of its own, says who they are, and hangs.
    let hanging = format!(
        "sleep 1000 & echo $! $$ > {0}.new && mv {0}.new {0}; wait",
        told.display()
    );
    let notifier = notifier(exec(&hanging, Duration::from_millis(500)), &dir);
    notifier.tell(failed(0));
    let pids = wait_for("the command", || {
        fs::read_to_string(&told).map_err(|e| e.to_string())
    });
    for pid in pids.split_whitespace() {
        wait_for("its end", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // One that is dead may wait for a parent that looks.
            if stat.is_empty() || stat.contains(") Z ") {
                Ok(())
            } else {
                Err(stat)
            }
        });
    }
    // It reads well from now on: what failed is tried again, then the others, in order.
    let output = scratch.path().join("output");
    let good = format!("cat >> {}; echo \"$1\" >&2", output.display());
    notifier.settle(exec(&good, PATIENCE));
    for n in 1..4 {
        notifier.tell(failed(n));
    }
    let text = wait_for("all notices", || {
        let text = fs::read_to_string(&output).unwrap_or_default();
        if text.lines().count() == 4 {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let numbers: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["details"]["number"].clone())
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert!(!Path::new("/evil").exists() && !scratch.path().join("evil").exists());
}

#[test]
fn what_nobody_is_told_of_leaves_no_trace() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = scratch.path().join("notify");
    let notifier = notifier(Receivers::default(), &dir);
    notifier.tell(failed(0));
    assert!(notifier.flush(PATIENCE));
    assert!(!dir.exists());
}
