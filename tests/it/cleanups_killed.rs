//! The registry and SIGKILL: whatever was acknowledged is there, whenever the process dies, be it a
//! command or the agent that several programs ask at once.

use crate::support::cleaning::{Desk, agent, database, with_database};
use crate::support::fixture::names;
use crate::support::running::Dice;
use housekeeper::client::{Client, ClientError, Registration};
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, Row};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Of commands.
const KILLS: usize = 300;
/// Of agents; `REGISTRY_KILLS` in the environment says another number.
const AGENT_KILLS: usize = 40;
const PATTERNS: u64 = 6;
const FILES: u64 = 400;

/// What a registration is to be kept to, by its pattern.
type Registered = BTreeMap<String, i64>;

/// What the database says, and that it is whole.
fn registered(database: &Path) -> (Registered, BTreeMap<String, String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let mut connection = options.connect().await.expect("it opens");
        let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_one(&mut connection)
            .await
            .expect("it answers");
        assert_eq!(whole, "ok");
        let rows = sqlx::query("SELECT id, pattern, max_files FROM cleanups")
            .fetch_all(&mut connection)
            .await
            .expect("it answers");
        connection.close().await.expect("it closes");
        let mut all = Registered::new();
        let mut ids = BTreeMap::new();
        for row in rows {
            let pattern: String = row.get("pattern");
            ids.insert(pattern.clone(), row.get("id"));
            let max_files: i64 = row.get("max_files");
            assert_eq!(all.insert(pattern, max_files), None, "one for each pattern");
        }
        (all, ids)
    })
}

/// Kills a command after so long; the document, where it was faster.
fn kill_after(mut child: Child, patience: Duration) -> Option<Value> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if child.try_wait().expect("ours").is_some() {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    // It may have ended just now: then it is not killed.
    if child.try_wait().expect("ours").is_none() {
        child.kill().expect("ours");
    }
    let status = child.wait().expect("it ends");
    let mut said = String::new();
    let mut out = child.stdout.take().expect("piped");
    out.read_to_string(&mut said).expect("text");
    // What was printed was acknowledged, however the process ended.
    match serde_json::from_str(&said) {
        Ok(document) => Some(document),
        Err(_) => {
            assert_eq!(status.code(), None, "it answers, or was killed: {said}");
            None
        }
    }
}

#[test]
fn every_acknowledged_change_survives_300_kills() {
    let desk = Desk::new("");
    for pattern in 0..PATTERNS {
        for n in 0..FILES {
            desk.file(&format!("p{pattern}-{n:03}"), 10, 1 + n / 10);
        }
    }
    let database = desk.scratch.path("state/housekeeper.db");
    let begun = Instant::now();
    desk.add("p0-*", &["--max-files", "400"]);
    let usual = begun.elapsed();
    let mut known = Registered::from([("p0-*".to_owned(), 400)]);
    let mut ids = registered(&database).1;
    let mut dice = Dice::new(0x1c1e);
    let (mut n_killed, mut n_acknowledged, mut limit) = (0, 0, 400_i64);
    while n_killed < KILLS {
        let pattern = format!("p{}-*", dice.below(PATTERNS));
        let id = ids.get(&pattern).cloned();
        // None may go before its number says so: the limits only fall.
        limit = (limit - i64::from(dice.below(4) == 0)).max(300);
        let text = limit.to_string();
        let dir = desk.dir().display().to_string();
        let add = ["add", &dir, "--pattern", &pattern, "--max-files", &text];
        let (words, after): (Vec<&str>, Option<i64>) = match (dice.below(8), &id) {
            (0, Some(id)) => (vec!["remove", id], None),
            (1 | 2, Some(id)) => (vec!["update", id, "--max-files", &text], Some(limit)),
            (3 | 4, Some(id)) => (vec!["run", id], known.get(&pattern).copied()),
            _ => (add.to_vec(), Some(limit)),
        };
        let mut command = desk.command(&words);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().expect("it starts");
        let most = u64::try_from(usual.as_micros()).expect("short") * 5 / 4;
        let done = kill_after(child, Duration::from_micros(dice.below(most)));
        let (found, found_ids) = registered(&database);
        let mut changed = known.clone();
        match after {
            Some(limit) => changed.insert(pattern.clone(), limit),
            None => changed.remove(&pattern),
        };
        if let Some(document) = &done {
            assert!(document["error"].is_null(), "{document}");
            assert_eq!(found, changed, "{words:?} was acknowledged");
            n_acknowledged += 1;
        } else {
            assert!(found == changed || found == known, "{words:?}: {found:?}");
            n_killed += 1;
        }
        (known, ids) = (found, found_ids);
    }
    assert!(n_acknowledged > 20, "{n_acknowledged} of {n_killed}");
    // What was under way is finished, and no limit was undercut.
    for (pattern, max_files) in &known {
        let id = &ids[pattern];
        let ran = desk.run(&["run", id]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let prefix = pattern.trim_end_matches('*');
        let left = names(&desk.dir());
        let left = left.iter().filter(|name| name.starts_with(prefix)).count();
        assert!(left >= 300 && left <= usize::try_from(*max_files).expect("some"));
    }
    let left = names(&desk.dir());
    assert!(
        left.iter().all(|name| !name.starts_with(".hk-")),
        "{left:?}"
    );
}

/// A program that keeps one registration.
struct Program {
    pattern: String,
    id: Option<String>,
    /// What it was told is registered: its `max_files`.
    known: Option<i64>,
    /// Its limits only fall.
    limit: i64,
    dice: Dice,
    n_acknowledged: u64,
    /// Runs that were acknowledged.
    n_runs: u64,
}

impl Program {
    fn new(n: u64) -> Self {
        Self {
            pattern: format!("p{n}-*"),
            id: None,
            known: None,
            limit: 400,
            dice: Dice::new(0x0a6e * (n + 3)),
            n_acknowledged: 0,
            n_runs: 0,
        }
    }

    /// Changes and runs it until nobody answers. What the last question was to make of it.
    fn work(&mut self, client: &Client, dir: &str) -> Option<i64> {
        loop {
            self.limit = (self.limit - i64::from(self.dice.below(4) == 0)).max(300);
            let limited = Registration {
                max_files: Some(Some(self.limit)),
                ..Registration::default()
            };
            let mut is_run = false;
            let (after, answer) = match (self.dice.below(8), &self.id) {
                (0, Some(id)) => (None, client.remove(id).map(|_| None)),
                (1 | 2, Some(id)) => {
                    let updated = client.update(id, &limited);
                    (Some(self.limit), updated.map(|now| Some(now.id)))
                }
                (3 | 4, Some(id)) => {
                    is_run = true;
                    let ran = client.run(Some(id));
                    let ran = ran.inspect(|report| assert_eq!(report.exit_code, 0, "{report:?}"));
                    (self.known, ran.map(|_| self.id.clone()))
                }
                _ => {
                    let wanted = Registration {
                        max_files: limited.max_files,
                        ..Registration::of(dir, &self.pattern)
                    };
                    let registered = client.register(&wanted);
                    (Some(self.limit), registered.map(|now| Some(now.id)))
                }
            };
            match answer {
                Ok(id) => (self.known, self.id) = (after, id),
                Err(ClientError::Refused(why)) => panic!("{}: {why}", self.pattern),
                Err(_) => return after,
            }
            self.n_acknowledged += 1;
            self.n_runs += u64::from(is_run);
        }
    }
}

/// Runs in the history that came to their end.
fn n_done(desk: &Desk) -> u64 {
    let n_done: i64 = with_database(&database(desk), async |connection| {
        let count = "SELECT COUNT(*) FROM runs WHERE outcome = 'done'";
        let count = sqlx::query_scalar(count).fetch_one(connection).await;
        count.expect("it answers")
    });
    n_done.unsigned_abs()
}

/// Three programs at once ask an agent that is killed at any moment: what each was told stands, what
/// it was not told is done or not done, the next agent goes on.
#[test]
fn what_a_killed_agent_acknowledged_to_several_programs_survives() {
    let n_kills = std::env::var("REGISTRY_KILLS").ok();
    let n_kills = n_kills.map_or(AGENT_KILLS, |n| n.parse().expect("a number of kills"));
    let desk = Desk::new("");
    let mut programs = [0, 1, 2].map(Program::new);
    for pattern in 0..programs.len() {
        for n in 0..FILES {
            desk.file(&format!("p{pattern}-{n:03}"), 10, 1 + n / 10);
        }
    }
    let database = desk.scratch.path("state/housekeeper.db");
    let client = Client::new(desk.scratch.path("agent.sock"));
    let dir = desk.dir().display().to_string();
    let mut dice = Dice::new(0x5161);
    for _ in 0..n_kills {
        let agent = agent(&desk, "");
        let asked = std::thread::scope(|scope| {
            let asking: Vec<_> = programs
                .iter_mut()
                .map(|program| scope.spawn(|| program.work(&client, &dir)))
                .collect();
            // At any moment: it is no state that is waited for.
            std::thread::sleep(Duration::from_micros(dice.below(60_000)));
            drop(agent);
            let asked = asking.into_iter().map(|one| one.join().expect("no panic"));
            asked.collect::<Vec<_>>()
        });
        let (found, ids) = registered(&database);
        for (program, after) in programs.iter_mut().zip(asked) {
            let is = found.get(&program.pattern).copied();
            assert!(
                is == program.known || is == after,
                "{}: {is:?}, and {:?} was acknowledged, {after:?} asked for",
                program.pattern,
                program.known
            );
            (program.known, program.id) = (is, ids.get(&program.pattern).cloned());
        }
        let n_runs: u64 = programs.iter().map(|program| program.n_runs).sum();
        assert!(
            n_done(&desk) >= n_runs,
            "each acknowledged run is in the history"
        );
    }
    let n_acknowledged: u64 = programs.iter().map(|program| program.n_acknowledged).sum();
    assert!(n_acknowledged > n_kills as u64, "{n_acknowledged}");
    // What was under way is finished, and no limit was undercut.
    let agent = agent(&desk, "");
    for program in &programs {
        let Some(id) = &program.id else { continue };
        let report = client.run(Some(id)).expect("a report");
        assert_eq!(report.exit_code, 0, "{report:?}");
        let prefix = program.pattern.trim_end_matches('*');
        let left = names(&desk.dir());
        let left = left.iter().filter(|name| name.starts_with(prefix)).count();
        let most = usize::try_from(program.known.expect("registered")).expect("some");
        assert!((300..=most).contains(&left), "{left} of {most}");
    }
    let left = names(&desk.dir());
    assert!(
        left.iter().all(|name| !name.starts_with(".hk-")),
        "{left:?}"
    );
    // A run that a kill cut short is told of as such.
    let n_open: i64 = with_database(&database, async |connection| {
        let open = "SELECT COUNT(*) FROM runs WHERE ended_at IS NULL";
        let open = sqlx::query_scalar(open).fetch_one(connection).await;
        open.expect("it answers")
    });
    assert_eq!(n_open, 0);
    drop(agent);
}
