//! Notifications that wait to be sent.

use crate::model::time::Time;
use crate::store::database::{Connection, Row};
use crate::store::row::{Columns, int, micros};
use crate::store::{Pending, Store};

/// One notification for one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// A ULID: the order in which they were written, and what makes a second writing harmless.
    pub id: String,
    /// The receiver's name in the configuration; no address, which may hold a secret.
    pub target: String,
    pub event: String,
    /// JSON.
    pub body: String,
    pub attempts: u64,
    pub created_at: Time,
    /// Not sent before.
    pub next_at: Time,
}

fn letter(row: &Row) -> Result<Letter, sqlx::Error> {
    Ok(Letter {
        id: row.text("id")?,
        target: row.text("target")?,
        event: row.text("event")?,
        body: row.text("body")?,
        attempts: row.number("attempts")?,
        created_at: row.time("created_at")?,
        next_at: row.time("next_at")?,
    })
}

impl Store {
    /// Those that are to be sent by `now`, oldest first, at most `limit`.
    pub fn letters_due(&self, now: Time, limit: u64) -> Pending<Vec<Letter>> {
        self.ask(
            "read what is to be sent",
            async move |c: &mut Connection| {
                let rows =
                    sqlx::query("SELECT * FROM outbox WHERE next_at <= $1 ORDER BY id LIMIT $2")
                        .bind(micros(now))
                        .bind(int(limit))
                        .fetch_all(c)
                        .await?;
                rows.iter().map(letter).collect()
            },
        )
    }

    /// When the next one is to be sent; how many wait.
    pub fn letters_waiting(&self) -> Pending<(Option<Time>, u64)> {
        self.ask("count what is to be sent", async |c: &mut Connection| {
            let row = sqlx::query("SELECT MIN(next_at) AS next_at, COUNT(*) AS n FROM outbox")
                .fetch_one(c)
                .await?;
            Ok((row.time_or_null("next_at")?, row.number("n")?))
        })
    }

    /// Writes one, or writes it again with its attempts and time.
    pub fn put_letter(&self, letter: Letter) -> Pending<()> {
        self.ask(
            "write what is to be sent",
            async move |c: &mut Connection| {
                sqlx::query(
                    "INSERT INTO outbox (id, target, event, body, attempts, created_at, next_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) \
                 ON CONFLICT (id) DO UPDATE SET attempts = excluded.attempts, \
                 next_at = excluded.next_at, body = excluded.body",
                )
                .bind(letter.id)
                .bind(letter.target)
                .bind(letter.event)
                .bind(letter.body)
                .bind(int(letter.attempts))
                .bind(micros(letter.created_at))
                .bind(micros(letter.next_at))
                .execute(c)
                .await?;
                Ok(())
            },
        )
    }

    /// Takes one out, sent or given up; `false`: it was not there.
    pub fn remove_letter(&self, id: String) -> Pending<bool> {
        self.ask("remove what was sent", async move |c: &mut Connection| {
            let done = sqlx::query("DELETE FROM outbox WHERE id = $1")
                .bind(id)
                .execute(c)
                .await?;
            Ok(done.rows_affected() > 0)
        })
    }
}
