//! Runs of clean-ups: the history of jobs.

use crate::model::time::Time;
use crate::store::database::{Connection, Row};
use crate::store::row::{Columns, int, micros};
use crate::store::{Pending, Store};

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// A ULID.
    pub id: String,
    /// The id of the clean-up, or the name of the root.
    pub cleanup: String,
    /// What began it: `schedule`, `command`, `api`, `event`.
    pub cause: String,
    pub started_at: Time,
    /// `None`: it runs, or the agent died meanwhile.
    pub ended_at: Option<Time>,
    /// `running`, `done`, `failed`, `timeout`, `interrupted`.
    pub outcome: String,
    pub dry_run: bool,
    pub files_deleted: u64,
    pub bytes_freed: u64,
    pub files_kept: u64,
    pub message: String,
}

fn run(row: &Row) -> Result<Run, sqlx::Error> {
    Ok(Run {
        id: row.text("id")?,
        cleanup: row.text("cleanup")?,
        cause: row.text("cause")?,
        started_at: row.time("started_at")?,
        ended_at: row.time_or_null("ended_at")?,
        outcome: row.text("outcome")?,
        dry_run: row.truth("dry_run")?,
        files_deleted: row.number("files_deleted")?,
        bytes_freed: row.number("bytes_freed")?,
        files_kept: row.number("files_kept")?,
        message: row.text("message")?,
    })
}

impl Store {
    /// The newest runs first, at most `limit`; of one clean-up where it is named.
    pub fn runs(&self, cleanup: Option<String>, limit: u64) -> Pending<Vec<Run>> {
        self.look("read the runs", async move |c: &mut Connection| {
            let rows = sqlx::query(
                "SELECT * FROM runs WHERE ($1 IS NULL OR cleanup = $1) \
                 ORDER BY started_at DESC, id DESC LIMIT $2",
            )
            .bind(cleanup)
            .bind(int(limit))
            .fetch_all(c)
            .await?;
            rows.iter().map(run).collect()
        })
    }

    /// Runs that have not ended.
    pub fn runs_open(&self) -> Pending<Vec<Run>> {
        self.look("read the runs", async |c: &mut Connection| {
            let rows = sqlx::query("SELECT * FROM runs WHERE ended_at IS NULL ORDER BY id")
                .fetch_all(c)
                .await?;
            rows.iter().map(run).collect()
        })
    }

    /// Writes a run, or writes it again with how it ended.
    pub fn put_run(&self, run: Run) -> Pending<()> {
        self.ask("write a run", async move |c: &mut Connection| {
            sqlx::query(
                "INSERT INTO runs (id, cleanup, cause, started_at, ended_at, outcome, dry_run, \
                 files_deleted, bytes_freed, files_kept, message) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                 ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at, \
                 outcome = excluded.outcome, files_deleted = excluded.files_deleted, \
                 bytes_freed = excluded.bytes_freed, files_kept = excluded.files_kept, \
                 message = excluded.message",
            )
            .bind(run.id)
            .bind(run.cleanup)
            .bind(run.cause)
            .bind(micros(run.started_at))
            .bind(run.ended_at.map(micros))
            .bind(run.outcome)
            .bind(i64::from(run.dry_run))
            .bind(int(run.files_deleted))
            .bind(int(run.bytes_freed))
            .bind(int(run.files_kept))
            .bind(run.message)
            .execute(c)
            .await?;
            Ok(())
        })
    }

    /// Removes runs that began before a time; how many.
    pub fn remove_runs_before(&self, time: Time) -> Pending<u64> {
        self.ask("remove old runs", async move |c: &mut Connection| {
            let done = sqlx::query("DELETE FROM runs WHERE started_at < $1")
                .bind(micros(time))
                .execute(c)
                .await?;
            Ok(done.rows_affected())
        })
    }
}
