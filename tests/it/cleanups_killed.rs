//! The registry and SIGKILL: whatever was acknowledged is there, whenever the process dies.

use crate::support::cleaning::Desk;
use crate::support::fixture::names;
use crate::support::running::Dice;
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, Row};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const KILLS: usize = 300;
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
