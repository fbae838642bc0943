//! The database file: opened, migrated, and known again.
//!
//! SQLite in WAL mode with `synchronous = FULL`: what was acknowledged survives `SIGKILL` and a loss
//! of power. The file is the owner's alone (mode 0600), and so are SQLite's files beside it.

use crate::store::error::StoreError;
use crate::store::migrations::migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _};
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

// What is SQLite's own here; the tables know these names only.
pub(super) type Db = sqlx::Sqlite;
pub(super) type Connection = sqlx::SqliteConnection;
pub(super) type Row = sqlx::sqlite::SqliteRow;

/// How long a write waits for another process that writes. Rows of the audit wait in their queue
/// meanwhile, and what lasts longer is spilled.
const BUSY: Duration = Duration::from_secs(1);
/// Statements kept prepared; inserts of many rows have one for each number of rows.
const STATEMENTS: usize = 160;

/// A file or directory, whatever its name is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    dev: u64,
    ino: u64,
}

fn inode(path: &Path) -> io::Result<Inode> {
    let meta = std::fs::metadata(path)?;
    Ok(Inode {
        dev: meta.dev(),
        ino: meta.ino(),
    })
}

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    file: Inode,
    /// The directory that it lies in.
    pub(super) home: Inode,
    pub(super) connection: Connection,
}

impl Database {
    /// Opens it for reading and writing. Where there is no file, one is begun: with its parents
    /// where `home` is unknown, else only in that very directory, because a store whose volume is
    /// not mounted must not begin anew below the mount point.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] names file and user.
    pub(super) async fn open(path: &Path, home: Option<Inode>) -> Result<Self, StoreError> {
        let cannot = |what: &str, error: &dyn std::fmt::Display| unavailable(path, what, error);
        let dir = path.parent().unwrap_or(Path::new("/"));
        if home.is_none() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|e| cannot("make the directory of", &e))?;
        }
        let now = inode(dir).map_err(|e| cannot("find the directory of", &e))?;
        if home.is_some_and(|home| home != now) && !path.exists() {
            return Err(cannot(
                "find",
                &"its directory is another one than before; mount or move it back, or restart the agent to begin a new store",
            ));
        }
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| cannot("open", &e))?;
        let options = options(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let connect = async {
            let mut connection = options.connect().await?;
            migrator().run(&mut connection).await.map_err(unwrapped)?;
            Ok::<_, sqlx::Error>(connection)
        };
        let connection = connect.await.map_err(|source| StoreError::Failed {
            operation: "be opened",
            source: Arc::new(source),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file: inode(path).map_err(|e| cannot("open", &e))?,
            home: now,
            connection,
        })
    }

    /// Opens it for reading; it must be there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] names file and user.
    pub(super) async fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        let cannot = |error: &dyn std::fmt::Display| unavailable(path, "read", error);
        let file = inode(path).map_err(|e| cannot(&e))?;
        let home = inode(path.parent().unwrap_or(Path::new("/"))).map_err(|e| cannot(&e))?;
        let options = options(path).read_only(true);
        let connection = options.connect().await.map_err(|e| cannot(&e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            home,
            connection,
        })
    }

    /// Whether the file still is the one at its path: SQLite would go on with an unlinked one.
    pub(super) fn is_in_place(&self) -> bool {
        inode(&self.path).is_ok_and(|now| now == self.file)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn is_whole(&mut self) -> Result<(), sqlx::Error> {
        let said: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&mut self.connection)
            .await?;
        if said == "ok" {
            Ok(())
        } else {
            Err(sqlx::Error::Protocol(said))
        }
    }

    /// Writes something harmless.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(super) async fn is_writable(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ('store.tried', $1) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(env!("CARGO_PKG_VERSION"))
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// Closes it in order; what does not close is closed with the process.
    pub(super) async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(error = %error, "the store did not close in order");
        }
    }
}

/// The database's own error, where a migration failed for one.
fn unwrapped(error: sqlx::migrate::MigrateError) -> sqlx::Error {
    match error {
        sqlx::migrate::MigrateError::Execute(error)
        | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => error,
        other => other.into(),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY)
        .statement_cache_capacity(STATEMENTS)
        // Statements hold names of sessions, and are no events.
        .disable_statement_logging()
        .thread_name(|_| "store-sqlite".to_owned())
}

fn unavailable(path: &Path, what: &str, error: &dyn std::fmt::Display) -> StoreError {
    let user = rustix::process::geteuid().as_raw();
    let said = format!(
        "user {user} cannot {what} {}: {error}; give it to that user, or name another one with [store] url",
        path.display()
    );
    StoreError::Unavailable(said.into())
}
