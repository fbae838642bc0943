//! Clean-ups that other programs registered.

use crate::model::cleanup::Cleanup;
use crate::model::time::Time;
use crate::store::database::{Connection, Row};
use crate::store::row::{Columns, int, micros};
use crate::store::{Pending, Store};
use sqlx::Connection as _;

fn cleanup(row: &Row) -> Result<Cleanup, sqlx::Error> {
    Ok(Cleanup {
        id: row.text("id")?,
        owner: row.text("owner")?,
        directory: row.text("directory")?,
        pattern: row.text("pattern")?,
        layout: row.text_or_null("layout")?,
        retention_days: row.number_or_null("retention_days")?,
        max_files: row.number_or_null("max_files")?,
        max_size_mb: row.number_or_null("max_size_mb")?,
        priority: row.signed("priority")?,
        description: row.text("description")?,
        schedule: row.text_or_null("schedule")?,
        watch: row.truth("watch")?,
        read_only: row.truth("read_only")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        last_run: row.time_or_null("last_run")?,
    })
}

/// What becomes of one that is registered again.
const SET: &str = "description = excluded.description, layout = excluded.layout, \
    retention_days = excluded.retention_days, max_files = excluded.max_files, \
    max_size_mb = excluded.max_size_mb, priority = excluded.priority, \
    schedule = excluded.schedule, watch = excluded.watch, updated_at = excluded.updated_at";

impl Store {
    /// All of them, the lowest priority number first.
    pub fn cleanups(&self) -> Pending<Vec<Cleanup>> {
        self.look("read the clean-ups", async |c: &mut Connection| {
            let rows = sqlx::query("SELECT * FROM cleanups ORDER BY priority, created_at, id")
                .fetch_all(c)
                .await?;
            rows.iter().map(cleanup).collect()
        })
    }

    pub fn cleanup(&self, id: String) -> Pending<Option<Cleanup>> {
        self.look("read a clean-up", async move |c: &mut Connection| {
            let row = sqlx::query("SELECT * FROM cleanups WHERE id = $1")
                .bind(id)
                .fetch_optional(c)
                .await?;
            row.as_ref().map(cleanup).transpose()
        })
    }

    /// Registers one. Where the owner has one with this directory and pattern already, that one is
    /// updated and keeps its id, `created_at` and `last_run`. Answers what is registered now.
    pub fn put_cleanup(&self, new: Cleanup) -> Pending<Cleanup> {
        self.put(new, ", read_only = excluded.read_only")
    }

    /// The same; one that is there keeps `read_only` as it is in that moment, too.
    pub fn renew_cleanup(&self, new: Cleanup) -> Pending<Cleanup> {
        self.put(new, "")
    }

    fn put(&self, new: Cleanup, and: &'static str) -> Pending<Cleanup> {
        self.ask("write a clean-up", async move |c: &mut Connection| {
            let sql = format!(
                "INSERT INTO cleanups (id, owner, directory, pattern, layout, retention_days, \
                 max_files, max_size_mb, priority, description, schedule, watch, read_only, \
                 updated_at, created_at, last_run) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
                 $10, $11, $12, $13, $14, $15, $16) \
                 ON CONFLICT (owner, directory, pattern) DO UPDATE SET {SET}{and} RETURNING *"
            );
            let (created_at, last_run) = (new.created_at, new.last_run);
            // The text has constants only.
            let query = bound(sqlx::query(sqlx::AssertSqlSafe(sql)), new)
                .bind(micros(created_at))
                .bind(last_run.map(micros));
            let row = query.fetch_one(c).await?;
            cleanup(&row)
        })
    }

    /// Changes the one with this id that was last changed at this time, all of it but when it was
    /// begun and when it ran; `false`: there is none, somebody changed or removed it meanwhile.
    ///
    /// An error that [is a conflict](crate::store::error::StoreError::is_conflict) means that the
    /// owner has another one with this directory and pattern.
    pub fn update_cleanup(&self, seen: Time, new: Cleanup) -> Pending<bool> {
        self.ask("change a clean-up", async move |c: &mut Connection| {
            let query = sqlx::query(
                "UPDATE cleanups SET owner = $2, directory = $3, pattern = $4, layout = $5, \
                 retention_days = $6, max_files = $7, max_size_mb = $8, priority = $9, \
                 description = $10, schedule = $11, watch = $12, read_only = $13, \
                 updated_at = $14 WHERE id = $1 AND updated_at = $15",
            );
            let query = bound(query, new).bind(micros(seen));
            let done = query.execute(c).await?;
            Ok(done.rows_affected() > 0)
        })
    }

    /// Notes when one ran; `false`: it is not there any more.
    pub fn note_run(&self, id: String, at: Time) -> Pending<bool> {
        self.ask("note a run", async move |c: &mut Connection| {
            let done = sqlx::query("UPDATE cleanups SET last_run = $2 WHERE id = $1")
                .bind(id)
                .bind(micros(at))
                .execute(c)
                .await?;
            Ok(done.rows_affected() > 0)
        })
    }

    /// Takes one out, and answers what it was.
    pub fn remove_cleanup(&self, id: String) -> Pending<Option<Cleanup>> {
        self.ask("remove a clean-up", async move |c: &mut Connection| {
            let mut change = c.begin().await?;
            let row = sqlx::query("DELETE FROM cleanups WHERE id = $1 RETURNING *")
                .bind(id)
                .fetch_optional(&mut *change)
                .await?;
            change.commit().await?;
            row.as_ref().map(cleanup).transpose()
        })
    }
}

type Query<'q> = sqlx::query::Query<'q, super::database::Db, sqlx::sqlite::SqliteArguments>;

/// All columns that a change sets, in their order.
fn bound(query: Query<'_>, new: Cleanup) -> Query<'_> {
    query
        .bind(new.id)
        .bind(new.owner)
        .bind(new.directory)
        .bind(new.pattern)
        .bind(new.layout)
        .bind(new.retention_days.map(int))
        .bind(new.max_files.map(int))
        .bind(new.max_size_mb.map(int))
        .bind(new.priority)
        .bind(new.description)
        .bind(new.schedule)
        .bind(i64::from(new.watch))
        .bind(i64::from(new.read_only))
        .bind(micros(new.updated_at))
}
