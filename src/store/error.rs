//! Why the store did not do what it was asked to.

use std::sync::Arc;

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the store is switched off: [store] url is empty")]
    Off,
    /// It cannot be opened, or was not there the last time it was needed. The sentence names the
    /// file, the user and what helps.
    #[error("the store cannot be used now: {0}")]
    Unavailable(Arc<str>),
    /// As many questions wait as may wait: ask again.
    #[error("the store has too much to do; try again")]
    Busy,
    /// The store's thread has ended.
    #[error("the store is closed")]
    Closed,
    #[error("the store cannot {operation}: {source}")]
    Failed {
        operation: &'static str,
        source: Arc<sqlx::Error>,
    },
}

impl StoreError {
    /// Whether the database has none of our tables: whoever began it did not come that far.
    pub fn is_unbegun(&self) -> bool {
        matches!(self, Self::Failed { source, .. }
            if source.as_database_error().is_some_and(|e| e.message().starts_with("no such table")))
    }

    /// Whether a row of the same key is there already.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Failed { source, .. }
            if source.as_database_error().is_some_and(|e| e.is_unique_violation()))
    }
}

/// What an error of the database says about the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: the question was wrong, or the answer is odd.
    Sound,
    /// Another process holds it: the same connection may try again.
    Locked,
    /// Read-only, full, an I/O error, gone: it is opened anew.
    Lost,
    /// Somebody has to repair it.
    Corrupt,
}

/// Whether a file could not grow.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    let code = database.and_then(|error| error.code());
    // SQLITE_FULL, and SQLITE_IOERR_SHMSIZE for the file that shared reading needs.
    matches!(code.as_deref(), Some("13" | "4874"))
}

pub(super) fn verdict(error: &sqlx::Error) -> Verdict {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => {
                Verdict::Lost
            }
            _ => Verdict::Sound,
        };
    };
    let code = database.code().and_then(|code| code.parse::<u32>().ok());
    // SQLite's primary result codes; the higher bits say more about the same thing.
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => Verdict::Locked,
        Some(11 | 26) => Verdict::Corrupt,
        Some(8 | 10 | 13 | 14 | 23) => Verdict::Lost,
        Some(_) | None => Verdict::Sound,
    }
}
