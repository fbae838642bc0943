//! The store: what was removed is in the audit, whatever becomes of the store meanwhile, and
//! what becomes of the store stops nobody.

use crate::support::cleaning::with_database;
use crate::support::mounted::Mounted;
use crate::support::running::{Agent, Dice, Place, make_session, signal, wait_for};
use crate::support::{Done, recount};
use serde_json::Value;
use sqlx::SqliteConnection;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SESSION: u64 = 1000;
/// Sessions that the limit has room for.
const KEPT: u64 = 4;

/// A root with a limit, and a store in a directory of its own.
struct Case {
    place: Place,
    n_made: Cell<i64>,
}

impl Case {
    fn new() -> Self {
        Self::with("")
    }

    /// `more` is configuration.
    fn with(more: &str) -> Self {
        let place = Place::new();
        fs::create_dir(place.beside("store")).expect("a directory");
        let case = Self {
            place,
            n_made: Cell::new(0),
        };
        case.configure(&format!(
            "[store]\nurl = \"sqlite://{}\"\n{more}",
            case.database().display()
        ));
        case
    }

    fn configure(&self, store: &str) {
        // Tables of the agent may stand behind those of the root.
        self.place.configure(&format!(
            "[root.layout]\nmetadata = \"metadata.json\"\n\
             [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
             [root.limits]\nmax_size = {}\n[root.protect]\nquiet = \"0s\"\n{store}",
            SESSION * KEPT + SESSION / 2
        ));
    }

    fn database(&self) -> PathBuf {
        self.place.beside("store/housekeeper.db")
    }

    /// So many sessions more, each newer than those before.
    fn write(&self, n: i64) {
        let staging = self.place.beside("staging");
        for _ in 0..n {
            let name = format!("s{:05}", self.n_made.get());
            let size = usize::try_from(SESSION - 48).expect("small");
            make_session(
                &self.place.root,
                &staging,
                &name,
                100_000 - self.n_made.get(),
                (1, size),
            );
            self.n_made.set(self.n_made.get() + 1);
        }
    }

    /// Writes more, and waits until the root is below its limit again and has been told so.
    fn overflow(&self, agent: &Agent<'_>) {
        let before = self.deleted().len() as u64;
        self.write(12);
        // Below the limit is also who has not seen the last of it yet.
        agent.until("the limit to hold for all that is there", |root| {
            let pruned = root["pruned"]["sessions"].as_u64().unwrap_or(0);
            let is_all_seen = root["bytes"] == recount::directories(&self.place.root).apparent;
            pruned > before && is_all_seen && root["bytes"].as_u64() <= root["limit_bytes"].as_u64()
        });
        wait_for("the log to say so", || {
            let n_left = recount::sessions(&self.place.root).len();
            let n_said = self.deleted().len();
            if n_said + n_left == usize::try_from(self.n_made.get()).expect("some") {
                return Ok(());
            }
            Err(format!(
                "{n_said} said, {n_left} left of {}",
                self.n_made.get()
            ))
        });
    }

    /// Paths of sessions that the log says were removed.
    fn deleted(&self) -> Vec<String> {
        let told = self.place.told("prune.deleted");
        told.iter()
            .map(|line| line["path"].as_str().expect("a path").to_owned())
            .collect()
    }

    fn audit(&self, words: &[&str]) -> Vec<Value> {
        let words = [&["audit", "--json", "--limit", "100000"], words].concat();
        let done = Done::of(self.place.run(&words));
        assert_eq!(done.code, 0, "{done:?}");
        done.document()["entries"]
            .as_array()
            .expect("a list")
            .clone()
    }

    /// The rows of removals.
    fn removals(&self) -> Vec<Value> {
        let rows = self.audit(&[]).into_iter();
        rows.filter(|row| row["event"] == "prune.deleted").collect()
    }

    /// Every removal that the log has is one row of the audit, in the same order.
    fn audit_is_complete(&self) -> Vec<Value> {
        let rows = self.removals();
        let said = |list: &[Value], bytes: &str| -> Vec<(String, u64)> {
            let one = |v: &Value| Some((v["path"].as_str()?.to_owned(), v[bytes].as_u64()?));
            list.iter().map(|v| one(v).expect("both")).collect()
        };
        let told = self.place.told("prune.deleted");
        assert_eq!(said(&rows, "bytes"), said(&told, "freed_bytes"));
        rows
    }

    fn until_store(&self, agent: &Agent<'_>, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || {
            let store = agent.try_status()?["store"].clone();
            if holds(&store) {
                Ok(store)
            } else {
                Err(store.to_string())
            }
        })
    }

    fn degraded(&self, agent: &Agent<'_>, says: &str) {
        let store = self.until_store(agent, "the store to be degraded", |store| {
            store["state"] == "degraded" && store["backlog"].as_u64() > Some(0)
        });
        let message = store["message"].as_str().unwrap_or_default();
        assert!(message.contains(says), "{store}");
    }

    /// After the repair: in use again, nothing waits, each end told once.
    fn back(&self, agent: &Agent<'_>) {
        self.until_store(agent, "the store to be back", |store| {
            store["state"] == "ok" && store["backlog"] == 0
        });
        let (degraded, back) = (
            self.place.told("store.degraded"),
            self.place.told("store.back"),
        );
        assert_eq!(
            (degraded.len(), back.len()),
            (1, 1),
            "{degraded:?} {back:?}"
        );
    }
}

/// Runs something on the database as another process would.
fn on_database<T>(
    path: &Path,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
) -> T {
    with_database(path, async |connection| {
        work(connection).await.expect("it works")
    })
}

fn removals_in(database: &Path) -> usize {
    let n_rows: i64 = on_database(database, async |c| {
        sqlx::query_scalar("SELECT count(*) FROM audit WHERE event = 'prune.deleted'")
            .fetch_one(c)
            .await
    });
    usize::try_from(n_rows).expect("a count")
}

fn is_whole(path: &Path) {
    let said: String = on_database(path, async |c| {
        sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_one(c)
            .await
    });
    assert_eq!(said, "ok");
}

#[test]
fn every_removal_is_a_row_that_says_why() {
    let case = Case::new();
    let agent = case.place.agent();
    case.overflow(&agent);
    let rows = case.audit_is_complete();
    for row in &rows {
        assert_eq!(
            (&row["actor"], &row["root"]),
            (&"event".into(), &"r".into()),
            "{row}"
        );
        assert_eq!(row["rule"], "max_size", "{row}");
        assert!(
            row["usage_bytes"].as_u64() > row["limit_bytes"].as_u64(),
            "{row}"
        );
        assert!(
            row["plan"]
                .as_str()
                .is_some_and(|plan| plan.starts_with("r@")),
            "{row}"
        );
        assert!(
            row["because"]
                .as_str()
                .is_some_and(|b| b.contains("max_size")),
            "{row}"
        );
    }
    let one = case.audit(&["--session", "s00001"]);
    assert_eq!(one.len(), 1, "{one:?}");
    assert_eq!(case.audit(&["--root", "another"]), [] as [Value; 0]);
    assert_eq!(case.audit(&["--until", "1h"]), [] as [Value; 0]);
    assert_eq!(
        case.audit(&["--since", "1h", "--root", "r"]).len(),
        rows.len()
    );
    signal(agent.child.id(), rustix::process::Signal::HUP);
    wait_for("the reload", || {
        let rows = case.audit(&[]);
        let is_there = rows.iter().any(|row| row["event"] == "config.reloaded");
        is_there.then_some(()).ok_or_else(|| format!("{rows:?}"))
    });
    let mode = fs::metadata(case.database())
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(agent.stop(), Some(0));
    // Without an agent the same rows, read from the store.
    case.audit_is_complete();
    is_whole(&case.database());
}

#[test]
fn a_command_s_removals_are_rows_too() {
    let case = Case::new();
    case.write(6);
    let done = Done::of(
        case.place
            .run(&["prune-size", "--max-mb", "0.003", "--json"]),
    );
    assert_eq!(done.code, 0, "{done:?}");
    let rows = case.audit(&[]);
    let removed = done.root()["removed"].as_array().map_or(0, Vec::len);
    assert!(removed > 0 && rows.len() == removed, "{rows:?}");
    assert!(rows.iter().all(|row| row["actor"] == "command"), "{rows:?}");
    // A root is meant by its path as well, and by nothing else.
    let path = case.place.root.display().to_string();
    assert_eq!(case.audit(&["--root", &path]), rows);
    assert_eq!(case.audit(&["--root", "nobody"]).len(), 0);
    let done = Done::of(case.place.run(&["audit"]));
    assert!(
        done.stdout.contains("prune.deleted") && done.stdout.contains("s00000"),
        "{done:?}"
    );
}

#[test]
fn an_audit_that_was_never_begun_is_empty_and_says_so() {
    let case = Case::new();
    assert_eq!(case.audit(&[]).len(), 0);
    let database = case.database();
    fs::create_dir_all(database.parent().expect("a directory")).expect("made");
    fs::write(&database, "").expect("an empty file");
    let done = Done::of(case.place.run(&["audit"]));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("there is no audit yet"), "{done:?}");
    // Rows that wait are not shown, but counted.
    let waiting = Done::of(case.place.run(&["audit", "--json"])).document();
    assert_eq!(waiting["waiting"]["rows"], 0);
}

/// A command beside an agent that has the spill, while somebody holds the database: nothing
/// keeps the command's rows, and it says so.
#[test]
fn rows_that_nothing_keeps_are_told_as_lost() {
    let case = Case::new();
    case.write(6);
    let state = case.place.beside("state");
    fs::create_dir_all(&state).expect("made");
    // A directory in the database's place, and another process with the spill.
    fs::create_dir_all(case.database()).expect("made");
    let spill = fs::File::create(state.join("audit.spill")).expect("made");
    fs2::FileExt::lock_exclusive(&spill).expect("a lock");
    let prune = ["prune-size", "--max-mb", "0.003", "--json"];
    let done = Done::of(case.place.run(&prune));
    assert_eq!(done.code, 0, "{done:?}");
    let told = done.events("store.unwritten");
    assert_eq!(told.len(), 1, "{done:?}");
    assert!(told[0]["rows"].as_u64().is_some_and(|n| n > 0), "{told:?}");
    drop(spill);
    case.write(6);
    let done = Done::of(case.place.run(&prune));
    let told = done.events("store.unwritten");
    assert!(told.len() == 1 && told[0]["rows"].is_null(), "{told:?}");
    let removed = done.root()["removed"].as_array().map_or(0, Vec::len) as u64;
    assert_eq!(fs::remove_dir(case.database()).ok(), Some(()));
    let waiting = Done::of(case.place.run(&["audit", "--json"])).document();
    assert_eq!(waiting["waiting"]["rows"], removed, "{waiting}");
}

#[test]
fn a_store_that_is_gone_is_waited_for() {
    let case = Case::new();
    let agent = case.place.agent();
    case.overflow(&agent);
    let (here, away) = (case.place.beside("store"), case.place.beside("away"));
    fs::rename(&here, &away).expect("moved");
    case.overflow(&agent);
    case.degraded(&agent, "housekeeper.db");
    fs::rename(&away, &here).expect("moved back");
    case.overflow(&agent);
    case.back(&agent);
    case.audit_is_complete();
}

#[test]
fn a_store_that_another_process_holds_is_waited_for() {
    let case = Case::new();
    let agent = case.place.agent();
    let database = case.database();
    on_database(&database, async |c| {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *c).await?;
        case.overflow(&agent);
        case.degraded(&agent, "locked");
        case.overflow(&agent);
        sqlx::query("ROLLBACK").execute(c).await.map(|_| ())
    });
    case.back(&agent);
    case.audit_is_complete();
}

#[test]
fn a_corrupt_store_is_left_to_be_repaired() {
    let case = Case::new();
    {
        let agent = case.place.agent();
        case.overflow(&agent);
        assert_eq!(agent.stop(), Some(0));
    }
    let database = case.database();
    let good = fs::read(&database).expect("it is there");
    let log = case.place.beside("store/housekeeper.db-wal");
    assert!(!log.exists(), "it was closed in order");
    fs::write(&database, vec![b'x'; good.len()]).expect("written");
    let agent = case.place.agent();
    case.overflow(&agent);
    case.degraded(&agent, "corrupt");
    let found = fs::read(&database).expect("it is there");
    assert!(found.iter().all(|b| *b == b'x'), "nobody touched it");
    let mended = case.place.beside("store/mended");
    fs::write(&mended, &good).expect("written");
    fs::rename(&mended, &database).expect("put in its place");
    case.overflow(&agent);
    case.back(&agent);
    case.audit_is_complete();
}

#[test]
fn a_store_moved_away_is_begun_anew() {
    let case = Case::new();
    let agent = case.place.agent();
    case.overflow(&agent);
    let before = case.audit_is_complete().len();
    let aside = case.place.beside("aside");
    fs::create_dir(&aside).expect("a directory");
    for name in ["housekeeper.db", "housekeeper.db-wal", "housekeeper.db-shm"] {
        fs::rename(case.place.beside("store").join(name), aside.join(name)).expect("moved");
    }
    case.overflow(&agent);
    wait_for("the new store", || {
        let rows = case.audit(&[]).len();
        let all = case.deleted().len();
        (rows == all - before)
            .then_some(())
            .ok_or(format!("{rows} of {all}"))
    });
    assert_eq!(case.place.told("store.begun").len(), 1);
}

#[test]
fn a_store_that_is_read_only_is_waited_for() {
    let case = Case::new();
    let at = case.place.beside("store");
    let Some(mounted) = Mounted::tmpfs(&at, "size=16m") else {
        return;
    };
    mounted.remount("ro");
    let agent = case.place.agent();
    case.overflow(&agent);
    case.degraded(&agent, "housekeeper.db");
    mounted.remount("rw");
    case.back(&agent);
    case.overflow(&agent);
    case.audit_is_complete();
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_store_on_a_full_disk_is_waited_for() {
    let case = Case::new();
    let at = case.place.beside("store");
    let Some(_mounted) = Mounted::tmpfs(&at, "size=1m") else {
        return;
    };
    let agent = case.place.agent();
    case.until_store(&agent, "the store", |store| store["state"] == "ok");
    let filler = at.join("filler");
    let mut file = fs::File::create(&filler).expect("a file");
    while std::io::Write::write_all(&mut file, &[b'x'; 512]).is_ok() {}
    // What SQLite has of its log already takes some rows.
    while case.place.told("store.degraded").is_empty() {
        case.overflow(&agent);
    }
    case.degraded(&agent, "full");
    case.overflow(&agent);
    drop(file);
    fs::remove_file(&filler).expect("removed");
    case.back(&agent);
    case.audit_is_complete();
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn what_could_not_be_written_waits_for_the_next_start() {
    let case = Case::new();
    let (here, away) = (case.place.beside("store"), case.place.beside("away"));
    {
        let mut agent = case.place.agent();
        case.overflow(&agent);
        let n_before = case.deleted().len();
        wait_for("the first rows in the store", || {
            let n_rows = case.removals().len();
            (n_rows == n_before)
                .then_some(())
                .ok_or(format!("{n_rows} rows"))
        });
        fs::rename(&here, &away).expect("moved");
        case.overflow(&agent);
        let n_since = case.deleted().len() - n_before;
        case.degraded(&agent, "housekeeper.db");
        wait_for("the rows in their file", || {
            let spilled = fs::read_to_string(case.place.beside("state/audit.spill"));
            let spilled = spilled.unwrap_or_default();
            let n_spilled = spilled
                .lines()
                .filter(|row| row.contains("prune.deleted"))
                .count();
            // The first may have been on their way into the database as it moved.
            let n_rows = removals_in(&away.join("housekeeper.db"));
            (n_rows + n_spilled == n_before + n_since)
                .then_some(())
                .ok_or(format!("{n_spilled} rows, and {n_rows} in the store"))
        });
        agent.kill();
    }
    fs::rename(&away, &here).expect("moved back");
    let agent = case.place.agent();
    case.until_store(&agent, "the store", |store| store["state"] == "ok");
    case.audit_is_complete();
}

#[test]
fn an_agent_without_a_store_says_so() {
    let case = Case::new();
    case.configure("[store]\nurl = \"\"");
    let agent = case.place.agent();
    case.overflow(&agent);
    case.until_store(&agent, "no store", |store| store["state"] == "off");
    assert!(!case.database().exists() && !case.place.beside("state/housekeeper.db").exists());
    let done = Done::of(case.place.run(&["audit"]));
    assert!(
        done.code == 1 && done.stderr.contains("switched off"),
        "{done:?}"
    );
}

/// Kills the agent while rows are written. What `audit` had answered is there afterwards, no row
/// twice, and none that the log does not know.
#[test]
fn killed_while_it_writes() {
    let case = Case::new();
    let mut dice = Dice::new(0x5eed_0042);
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    for _ in 0..25 {
        let mut agent = case.place.agent();
        case.write(12);
        let n_looks = dice.below(4);
        for _ in 0..n_looks {
            for row in case.audit(&[]) {
                seen.insert(row["id"].as_str().expect("an id").to_owned(), row);
            }
        }
        std::thread::park_timeout(Duration::from_micros(dice.below(60_000)));
        agent.kill();
        is_whole(&case.database());
    }
    let rows = case.audit(&[]);
    let mut paths = BTreeMap::new();
    for row in &rows {
        let path = row["path"].as_str().expect("a path").to_owned();
        assert_eq!(paths.insert(path, row), None, "twice: {row}");
    }
    for (id, row) in &seen {
        assert!(rows.contains(row), "{id} was acknowledged: {row}");
    }
    assert!(!seen.is_empty());
    let there = recount::sessions(&case.place.root);
    assert!(!there.iter().any(|name| paths.contains_key(name.as_str())));
}
