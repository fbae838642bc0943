//! Directories of files to be cleaned up, and the commands that do it.

use super::{Done, housekeeper};
use crate::support::agent::Agent;
use crate::support::fixture::Scratch;
use crate::support::running::wait_for;
use housekeeper::clock::SystemClock;
use housekeeper::model::report::LockTry;
use housekeeper::model::time::Clock;
use housekeeper::prune::lock::RootLock;
use rustix::fd::AsFd;
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A scratch directory with a directory `root` of files, a configuration and a state beside it.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) scratch: Scratch,
}

impl Desk {
    /// With this `[registry]` and more.
    pub(crate) fn new(text: &str) -> Self {
        let desk = Self {
            scratch: Scratch::new(),
        };
        desk.configure(text);
        desk
    }

    pub(crate) fn configure(&self, text: &str) {
        let head = format!(
            "[agent]\nstate_dir = {:?}\nsocket = {:?}\nscheduling = \"normal\"\n",
            self.scratch.path("state"),
            self.scratch.path("agent.sock"),
        );
        fs::write(self.scratch.path("config.toml"), head + text).expect("written");
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.scratch.root()
    }

    pub(crate) fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = housekeeper();
        command.arg("cleanup").args(words).arg("--json");
        command
            .arg("--config")
            .arg(self.scratch.path("config.toml"));
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Done {
        Done::of(self.command(words).output().expect("the program runs"))
    }

    /// The document of a command that is done.
    pub(crate) fn done(&self, words: &[&str]) -> Value {
        let done = self.run(words);
        assert_eq!(done.code, 0, "{words:?}: {done:?}");
        done.document()
    }

    /// Holds the directory's lock as another pruner would.
    pub(crate) fn hold(&self) -> RootLock {
        let root = fs::File::open(self.dir()).expect("opened");
        let beside = fs::File::open(self.scratch.path("state")).expect("opened");
        let mut lock = RootLock::new(Duration::from_secs(3600), None);
        let now = SystemClock::start().now();
        let taken = lock.try_take(root.as_fd(), Ok(beside.as_fd()), now);
        assert_eq!(taken, LockTry::Taken);
        lock
    }

    /// Registers files of the directory; the id.
    pub(crate) fn add(&self, pattern: &str, more: &[&str]) -> String {
        self.add_in(&self.dir(), pattern, more)
    }

    pub(crate) fn add_in(&self, dir: &Path, pattern: &str, more: &[&str]) -> String {
        let dir = dir.display().to_string();
        let words = [&["add", &dir, "--pattern", pattern], more].concat();
        let added = self.done(&words);
        added["id"].as_str().expect("an id").to_owned()
    }

    /// A file of the directory, so many days old.
    pub(crate) fn file(&self, name: &str, n_bytes: usize, days: u64) {
        file(&self.dir().join(name), n_bytes, days);
    }
}

/// A file that was last written so many days ago, to the second.
pub(crate) fn file(path: &Path, n_bytes: usize, days: u64) {
    fs::write(path, vec![b'x'; n_bytes]).expect("written");
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(now_in_seconds() - days * 86_400);
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_modified(then).expect("set");
}

fn now_in_seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // The same for a whole run of tests: files of one age are of one time.
    static NOW: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *NOW.get_or_init(|| now.expect("after 1970").as_secs())
}

/// An agent for registrations only.
pub(crate) fn agent(desk: &Desk, registry: &str) -> Agent {
    desk.configure(&format!("[registry]\nzone = \"utc\"\n{registry}"));
    let agent = Agent::on_config(&desk.scratch.path("config.toml"));
    agent.until("an agent that answers", |agent| agent.status().is_some());
    agent
}

/// The registration once this holds.
pub(crate) fn until(desk: &Desk, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || {
        let shown = desk.done(&["show", id]);
        if holds(&shown) {
            Ok(shown)
        } else {
            Err(shown.to_string())
        }
    })
}

/// Where a desk's registrations are.
pub(crate) fn database(desk: &Desk) -> PathBuf {
    desk.scratch.path("state/housekeeper.db")
}

/// Does something with a database, beside whoever else has it.
pub(crate) fn with_database<T>(
    file: &Path,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = options.connect().await.expect("it opens");
        let done = work(&mut connection).await;
        connection.close().await.expect("it closes");
        done
    })
}

pub(crate) async fn execute(connection: &mut SqliteConnection, sql: &'static str) {
    let done = sqlx::query(sql).execute(connection).await;
    done.expect("it works");
}

/// Changes the database while no agent runs.
pub(crate) fn in_database(desk: &Desk, sql: &'static str) {
    with_database(&database(desk), async |connection| {
        execute(connection, sql).await
    });
}
