//! Registrations in a running agent: schedules, watches, the socket, the client of other programs.

use crate::support::agent::Agent;
use crate::support::cleaning::{
    Desk, agent, database, execute, file, in_database, until, with_database,
};
use crate::support::fixture::names;
use crate::support::receiver::{Manner, Receiver};
use crate::support::running::wait_for;
use crate::support::texts;
use housekeeper::client::{Client, ClientError, Registration};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn what_is_registered_while_the_agent_runs_is_run_by_its_schedule() {
    let desk = Desk::new("");
    for n in 0..4 {
        desk.file(&format!("{n}.log"), 10, 40 - n);
    }
    let agent = agent(&desk, "");
    let id = desk.add("*.log", &["--max-files", "1", "--every", "1s"]);
    let shown = until(&desk, &id, "two runs", |shown| {
        shown["runs"].as_array().is_some_and(|runs| runs.len() >= 2)
            && shown["runs"][1]["outcome"] == "done"
    });
    assert_eq!(names(&desk.dir()), ["3.log"]);
    let runs = shown["runs"].as_array().expect("a list");
    let first = &runs[runs.len() - 1];
    assert_eq!(
        (&first["cause"], &first["files_deleted"]),
        (&"schedule".into(), &3.into())
    );
    assert!(
        shown["last_run"].is_string() && shown["next_run"].is_string(),
        "{shown}"
    );
    let rows = agent.command(&["audit", "--json"]).document();
    let entries = rows["entries"].as_array().expect("a list");
    let gone = entries.iter().filter(|row| row["event"] == "prune.deleted");
    assert!(gone.clone().all(|row| row["actor"] == "schedule") && gone.count() == 3);
    // Removed, it runs no more.
    desk.done(&["remove", &id]);
    assert_eq!(desk.done(&["list"])["cleanups"], Value::Array(Vec::new()));
}

#[test]
fn a_run_that_was_missed_while_no_agent_ran_is_made_up_for_once() {
    let desk = Desk::new("");
    desk.file("a.log", 10, 40);
    let id = desk.add("*.log", &["--schedule", "0 3 * * *"]);
    let other = desk.add("*.tmp", &["--schedule", "0 3 * * *"]);
    // Five nights ago, and one that ran since the last night.
    in_database(
        &desk,
        "UPDATE cleanups SET created_at = created_at - 432000000000 WHERE pattern = '*.log'",
    );
    let first = agent(&desk, "");
    until(&desk, &id, "the missed run", |shown| {
        shown["runs"][0]["outcome"] == "done"
    });
    assert_eq!(names(&desk.dir()), [""; 0]);
    let mut first = first;
    first.signal(Signal::TERM);
    assert_eq!(first.ended(), 0);
    let second = agent(&desk, "");
    // One that is run now comes after all that was due at the start.
    desk.done(&["run", &other]);
    let runs = |id: &str| desk.done(&["show", id])["runs"].as_array().map(Vec::len);
    assert_eq!((runs(&id), runs(&other)), (Some(1), Some(1)));
    drop(second);
}

#[test]
fn a_watch_is_added_changed_and_taken_away_while_the_agent_runs() {
    let desk = Desk::new("");
    let agent = agent(&desk, "");
    let id = desk.add("*.log", &["--max-files", "2", "--watch"]);
    assert_eq!(desk.done(&["show", &id])["schedule"], Value::Null);
    let name = format!("cleanup-{id}");
    let root = |agent: &Agent| {
        let status = agent.status()?;
        let roots = status["roots"].as_array()?.clone();
        roots.into_iter().find(|root| root["name"] == *name)
    };
    agent.until("a watched directory", |agent| {
        root(agent).is_some_and(|root| root["watch"]["state"] == "watching")
    });
    for n in 0..5 {
        desk.file(&format!("{n}.log"), 10, 40 - n);
        desk.file(&format!("{n}.txt"), 10, 40 - n);
    }
    let logs = || {
        let names = names(&desk.dir()).into_iter();
        names
            .filter(|name| name.ends_with(".log"))
            .collect::<Vec<_>>()
    };
    agent.until("the oldest gone", |_| logs() == ["3.log", "4.log"]);
    desk.done(&["update", &id, "--max-files", "1"]);
    agent.until("one left", |_| logs() == ["4.log"]);
    desk.done(&["remove", &id]);
    agent.until("no root any more", |agent| root(agent).is_none());
    desk.file("0.log", 10, 40);
    assert_eq!(logs(), ["0.log", "4.log"]);
    let texts: Vec<String> = names(&desk.dir());
    assert_eq!(
        texts.iter().filter(|name| name.ends_with(".txt")).count(),
        5
    );
    // Registered before its start, it is watched from the start. The dry runs wait until what was
    // written just now may go.
    let id = desk.add("*.log", &["--max-files", "1"]);
    assert_eq!(desk.done(&["run", "--dry-run"])["total_files_deleted"], 1);
    desk.done(&["update", &id, "--watch"]);
    agent.until("the older gone", |_| logs() == ["4.log"]);
    drop(agent);
    desk.file("0.log", 10, 40);
    assert_eq!(desk.done(&["run", "--dry-run"])["total_files_deleted"], 1);
    let agent = self::agent(&desk, "");
    agent.until("the older gone again", |_| logs() == ["4.log"]);
    assert_eq!(texts_of(&agent), [format!("cleanup-{id}")]);
}

fn texts_of(agent: &Agent) -> Vec<String> {
    texts(&agent.status().expect("it answers")["roots"], "name")
}

#[test]
fn runs_that_fail_or_take_too_long_are_told() {
    let desk = Desk::new("");
    let mut receiver = Receiver::new(Manner::Take);
    let hook = format!(
        "[[notify.webhook]]\nname = \"hook\"\nurl = {:?}\nevents = [\"failure\"]\n",
        receiver.url("/hook"),
    );
    let busy = desk.scratch.path("busy");
    fs::create_dir(&busy).expect("made");
    let agent = agent(&desk, &format!("job_timeout = \"100ms\"\n{hook}"));
    // What is written to all the while is waited for, and that takes too long.
    let write = || file(&busy.join("a.log"), 10, 40);
    write();
    let late = desk.add_in(&busy, "*.log", &["--every", "1s"]);
    let id = desk.add("*.log", &["--every", "1s"]);
    fs::remove_dir(desk.dir()).expect("removed");
    let has_run = |id: &str, outcome: &str| {
        write();
        until(&desk, id, outcome, |shown| {
            write();
            let runs = shown["runs"].as_array().expect("a list");
            runs.iter().any(|run| run["outcome"] == outcome)
        });
    };
    has_run(&late, "timeout");
    has_run(&id, "failed");
    wait_for("a notice of each", || {
        let said: Vec<String> = receiver
            .taken()
            .iter()
            .map(|request| request.body["root"].to_string())
            .collect();
        let has = |id: &str| said.iter().any(|root| root.contains(id));
        if has(&id) && has(&late) {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    drop(agent);
    receiver.leave();
}

#[test]
fn who_waits_for_a_lock_until_the_time_is_over_hears_that_it_is_busy() {
    let desk = Desk::new("");
    // Longer than what was written just now is left alone.
    let agent = agent(&desk, "job_timeout = \"4s\"");
    for n in 0..3 {
        desk.file(&format!("{n}.log"), 10, 9 - n);
    }
    let id = desk.add("*.log", &["--max-files", "1"]);
    let held = desk.hold();
    let busy = desk.run(&["run"]);
    assert_eq!(busy.code, 2, "{busy:?}");
    assert_eq!(names(&desk.dir()).len(), 3);
    drop(held);
    assert_eq!(desk.run(&["run"]).code, 0);
    assert_eq!(names(&desk.dir()), ["2.log"]);
    let registry = |agent: &Agent| agent.status().expect("a status")["registry"].clone();
    agent.until("a registry that does nothing", |agent| {
        registry(agent)["running"] == 0
    });
    let said = registry(&agent);
    assert_eq!(
        (&said["cleanups"], &said["watched"], &said["next"]),
        (&1.into(), &0.into(), &id.into()),
        "{said}"
    );
}

#[test]
fn other_programs_register_list_run_and_remove_over_the_socket() {
    let desk = Desk::new("");
    let client = Client::new(desk.scratch.path("agent.sock"));
    assert!(matches!(client.list(), Err(ClientError::NoAgent { .. })));
    for n in 0..3 {
        desk.file(&format!("{n}.log"), 10, 40 - n);
    }
    let _agent = agent(&desk, "");
    let dir = desk.dir().display().to_string();
    let wanted = Registration {
        owner: Some("billing".to_owned()),
        max_files: Some(Some(2)),
        ..Registration::of(&dir, "*.log")
    };
    let logs = client.register(&wanted).expect("registered");
    assert!(!logs.updated && logs.next_run.is_some(), "{logs:?}");
    assert!(client.register(&wanted).expect("known").updated);
    let would = client.dry_run(None).expect("a report");
    let ran = client.run(Some(&logs.id)).expect("a report");
    assert_eq!((would.total_files_deleted, ran.total_files_deleted), (1, 1));
    assert_eq!(
        (would.dry_run, ran.dry_run, ran.exit_code),
        (true, false, 0)
    );
    assert_eq!(names(&desk.dir()), ["1.log", "2.log"]);
    let less = Registration {
        max_files: Some(Some(1)),
        ..Registration::default()
    };
    assert_eq!(
        client.update(&logs.id, &less).expect("changed").max_files,
        Some(1)
    );
    assert_eq!(client.list().expect("a list").len(), 1);
    assert!(client.show(&logs.id).expect("there").last_run.is_some());
    let refused = client.register(&Registration::of("/etc", "*.log"));
    assert!(matches!(refused, Err(ClientError::Refused(why)) if why.contains("system")));
    client.remove(&logs.id).expect("removed");
    assert!(matches!(
        client.run(Some(&logs.id)),
        Err(ClientError::Refused(_))
    ));
    let rows = desk.scratch.path("config.toml");
    let mut audit = crate::support::housekeeper();
    audit.args(["audit", "--json", "--config"]).arg(rows);
    let rows = crate::support::Done::of(audit.output().expect("runs")).document();
    let actors = texts(&rows["entries"], "actor");
    assert!(actors.iter().all(|actor| actor == "api"), "{rows}");
}

/// Runs are on threads of their own.
#[test]
fn a_root_is_looked_after_while_a_clean_up_is_under_way() {
    let desk = Desk::new("");
    let root = desk.scratch.path("recordings");
    fs::create_dir(&root).expect("made");
    for n in 0..8_000 {
        desk.file(&format!("{n:05}.log"), 10, 40);
    }
    let agent = agent(
        &desk,
        &format!(
            "[[root]]\nname = \"r\"\npath = {root:?}\n[root.layout]\nkind = \"files\"\n\
             sessions = \"*.dat\"\ncreated_at = {{ from = [\"mtime\"] }}\n[root.limits]\n\
             max_count = 2\n[root.protect]\nquiet = \"0s\"\n[root.guard]\nfirst_start = \"enforce\"\n"
        ),
    );
    agent.root_until(0, "a watched root", |root| {
        root["watch"]["state"] == "watching"
    });
    let id = desk.add("*.log", &["--max-files", "1"]);
    let mut run = desk.command(&["run", &id]).spawn().expect("it starts");
    for n in 0..6 {
        file(&root.join(format!("{n}.dat")), 10, 40 - n);
    }
    agent.until("the limit held", |_| names(&root) == ["4.dat", "5.dat"]);
    assert_eq!(run.wait().expect("it ends").code(), Some(0));
    assert_eq!(names(&desk.dir()).len(), 1);
}

/// A run goes by what was registered when it began: what was taken away meanwhile ends it.
#[test]
fn a_registration_that_is_taken_away_ends_its_run_under_way() {
    let desk = Desk::new("");
    let agent = agent(&desk, "");
    let path = desk.dir().join("a.log");
    file(&path, 10, 40);
    let limits = ["--max-files", "0", "--yes", "--every", "1h"];
    let id = desk.add("*.log", &limits);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What is written to all the while is waited for.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                file(&path, 10, 40);
            }
        });
        let runner = scope.spawn(|| desk.run(&["run", &id]));
        let removed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(&desk, &id, "a run under way", |shown| {
                let runs = shown["runs"].as_array().expect("a list");
                runs.iter().any(|run| run["outcome"] == "running")
            });
            desk.done(&["remove", &id]);
        }));
        is_over.store(true, Ordering::Relaxed);
        removed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let answered = runner.join().expect("no panic");
        assert_ne!(answered.code, 0, "{answered:?}");
    });
    assert!(path.exists(), "nobody wants it gone any more");
    drop(agent);
}

/// A reload that lets nothing go ends the watches at once, whether or not the store can be read.
#[test]
fn a_reload_that_lets_nothing_go_ends_the_watches() {
    let desk = Desk::new("");
    let agent = agent(&desk, "");
    let id = desk.add("*.log", &["--max-files", "0", "--yes", "--watch"]);
    let name = format!("cleanup-{id}");
    let state = |agent: &Agent| {
        let status = agent.status()?;
        let roots = status["roots"].as_array()?.clone();
        let root = roots.into_iter().find(|root| root["name"] == *name)?;
        Some(root["watch"]["state"].clone())
    };
    agent.until("a watched directory", |agent| {
        state(agent).is_some_and(|state| state == "watching")
    });
    fs::remove_file(desk.scratch.path("state/housekeeper.db")).expect("removed");
    desk.configure("[registry]\nzone = \"utc\"\nread_only = true\n");
    agent.signal(Signal::HUP);
    agent.told("config.reloaded", 1);
    assert_eq!(state(&agent), None, "nothing is watched from then on");
    desk.file("0.log", 10, 40);
    drop(agent);
    assert_eq!(names(&desk.dir()), ["0.log"]);
}

/// A directory that is away for a moment, as one that is not mounted yet, is watched once it is there.
#[test]
fn a_watched_directory_that_was_away_is_watched_again() {
    let desk = Desk::new("");
    let (here, away) = (desk.dir(), desk.scratch.path("away"));
    let id = desk.add("*.log", &["--max-files", "1", "--watch"]);
    fs::rename(&here, &away).expect("moved");
    let agent = agent(&desk, "");
    let is_watching = |is: bool| {
        move |shown: &Value| shown["watching"] == is && shown["unwatched_because"].is_null() == is
    };
    until(&desk, &id, "a watch that waits", is_watching(false));
    let table = agent.command(&["cleanup", "list"]);
    assert!(table.stdout.contains("not watched now"), "{table:?}");
    agent.told("cleanup.unwatched", 1);
    for n in 0..3 {
        file(&away.join(format!("{n}.log")), 10, 40 - n);
    }
    fs::rename(&away, &here).expect("moved back");
    until(&desk, &id, "a watch", is_watching(true));
    agent.until("one left", |_| names(&here) == ["2.log"]);
    assert_eq!(agent.events("cleanup.unwatched").len(), 1);
}

/// However many questions wait, new settings hold before the next of them.
#[test]
fn a_reload_reaches_a_registry_that_has_too_much_to_do() {
    let desk = Desk::new("");
    let agent = agent(&desk, "");
    let id = desk.add("*.log", &["--max-files", "0", "--yes"]);
    desk.file("0.log", 10, 40);
    let question = serde_json::json!({
        "command": "cleanup", "do": "update", "id": id, "cleanup": { "description": "more" },
    });
    let ask = || {
        let mut stream = UnixStream::connect(&agent.socket).expect("it listens");
        writeln!(stream, "{question}").expect("asked");
        stream.set_nonblocking(true).expect("set");
        stream
    };
    while_locked(&desk, || {
        // Each of these waits for the database.
        let mut streams: Vec<UnixStream> = (0..300).map(|_| ask()).collect();
        wait_for("a queue that is full", || {
            let answers = streams.iter_mut().filter_map(|stream| {
                let mut answer = [0; 200];
                let n_bytes = stream.read(&mut answer).ok()?;
                Some(String::from_utf8_lossy(&answer[..n_bytes]).into_owned())
            });
            let answers: Vec<String> = answers.collect();
            let is_refused = answers.iter().any(|a| a.contains("too much to do"));
            is_refused.then_some(()).ok_or(format!("{answers:?}"))
        });
        desk.configure("[registry]\nzone = \"utc\"\nread_only = true\n");
        agent.signal(Signal::HUP);
        agent.told("config.reloaded", 1);
        streams
    });
    let ran = wait_for("a registry with room", || {
        let done = desk.run(&["run", &id]);
        (done.code == 0)
            .then(|| done.document())
            .ok_or(format!("{done:?}"))
    });
    assert_eq!(ran["dry_run"], true, "{ran}");
    assert_eq!(names(&desk.dir()), ["0.log"]);
}

/// Does something while another process writes to the database.
fn while_locked<T>(desk: &Desk, work: impl FnOnce() -> T) -> T {
    with_database(&database(desk), async |connection| {
        execute(connection, "BEGIN IMMEDIATE").await;
        let done = work();
        execute(connection, "ROLLBACK").await;
        done
    })
}
