//! The database file: opened, migrated, and known again.
//!
//! SQLite in WAL mode with `synchronous = FULL`: what was acknowledged survives `SIGKILL` and a loss
//! of power. The file is the owner's alone (mode 0600), and so are SQLite's files beside it.

use crate::store::error::{StoreError, Verdict, verdict};
use crate::store::migrations::migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
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
        let cannot = |what: &str, error: &io::Error| unavailable(path, what, error);
        let dir = path.parent().unwrap_or(Path::new("/"));
        if home.is_none() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|e| cannot("make the directory of", &e))?;
        }
        let now = inode(dir).map_err(|e| cannot("find the directory of", &e))?;
        if home.is_some_and(|home| home != now) && !path.exists() {
            let why = "its directory is another one than before; mount or move it back, or restart the agent to begin a new store";
            return Err(cannot("find", &io::Error::other(why)));
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

    /// Opens it for reading; it must be there. `None`: it can be read for one question at a time
    /// only, see [`read_apart`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] names file and user.
    pub(super) async fn open_to_read(path: &Path) -> Result<Option<Self>, StoreError> {
        let cannot = |error: &io::Error| unavailable(path, "read", error);
        let file = inode(path).map_err(|e| cannot(&e))?;
        let home = inode(path.parent().unwrap_or(Path::new("/"))).map_err(|e| cannot(&e))?;
        let connect = async {
            let mut connection = options(path).read_only(true).connect().await?;
            probe(&mut connection).await?;
            Ok::<_, sqlx::Error>(connection)
        };
        let connection = match connect.await {
            Ok(connection) => connection,
            Err(error) if verdict(&error) == Verdict::Lost => {
                let apart = read_apart(path).await;
                close(apart.map_err(|_| cannot(&io::Error::other(error)))?).await;
                return Ok(None);
            }
            Err(source) => {
                return Err(StoreError::Failed {
                    operation: "be read",
                    source: Arc::new(source),
                });
            }
        };
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            home,
            connection,
        }))
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
        close(self.connection).await;
    }
}

/// Opens a database that cannot be opened for writing, so that it can be read: for one question,
/// because it is kept from everybody else meanwhile.
///
/// For shared reading SQLite needs a file beside the database (`-shm`), which an ordered close
/// removes and which cannot be made on a full disk. Whoever has it alone needs none, but `-wal`.
/// Where that can neither be found nor made, the database is read as it lies: nobody has it open then,
/// and all that was written is in it. On a read-only file system nobody changes it, and there are no
/// locks.
///
/// # Errors
/// It cannot be read either, or another process has it.
pub(super) async fn read_apart(path: &Path) -> Result<Connection, StoreError> {
    let alone = options(path)
        .locking_mode(SqliteLockingMode::Exclusive)
        .pragma("query_only", "ON");
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = Path::new(&log).exists();
    let mut ways = vec![alone.clone()];
    if is_read_only(path) && has_log {
        ways.push(alone.read_only(true).vfs("unix-none"));
    } else if !has_log {
        ways.push(options(path).read_only(true).immutable(true));
    }
    let mut refused = sqlx::Error::PoolClosed;
    for way in ways {
        let mut connection = match way.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                refused = error;
                continue;
            }
        };
        match probe(&mut connection).await {
            Ok(()) => return Ok(connection),
            Err(error) => refused = error,
        }
        close(connection).await;
        if verdict(&refused) == Verdict::Locked {
            break;
        }
    }
    Err(StoreError::Failed {
        operation: "be read",
        source: Arc::new(refused),
    })
}

/// Reads something, so that what keeps from reading is known.
async fn probe(connection: &mut Connection) -> Result<(), sqlx::Error> {
    let query = sqlx::query("SELECT COUNT(*) FROM sqlite_master");
    query.fetch_one(connection).await.map(|_| ())
}

/// What cannot be asked is taken for writable: then the attempt says what is wrong.
fn is_read_only(path: &Path) -> bool {
    let asked = rustix::fs::statvfs(path);
    asked.is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Closes in order; what does not close is closed with the process.
pub(super) async fn close(connection: Connection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(error = %error, "the store did not close in order");
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

fn unavailable(path: &Path, what: &str, error: &io::Error) -> StoreError {
    let user = rustix::process::geteuid().as_raw();
    let dir = path.parent().unwrap_or(Path::new("/")).display();
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free some space on the file system of {dir}")
        }
        io::ErrorKind::ReadOnlyFilesystem => format!("mount the file system of {dir} for writing"),
        _ => "give it to that user, or name another one with [store] url".to_owned(),
    };
    let said = format!(
        "user {user} cannot {what} {}: {error}; {advice}",
        path.display()
    );
    StoreError::Unavailable(said.into())
}
