//! Sessions that somebody pinned.

use crate::model::time::Time;
use crate::store::database::{Connection, Row};
use crate::store::row::{Columns, micros};
use crate::store::{Pending, Store};

/// A session that every rule leaves alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The root's path, escaped: its name may change.
    pub root: String,
    /// The session's key, escaped.
    pub session: String,
    pub owner: String,
    pub reason: String,
    pub created_at: Time,
    /// `None`: until it is taken away.
    pub until: Option<Time>,
}

fn pin(row: &Row) -> Result<Pin, sqlx::Error> {
    Ok(Pin {
        root: row.text("root")?,
        session: row.text("session")?,
        owner: row.text("owner")?,
        reason: row.text("reason")?,
        created_at: row.time("created_at")?,
        until: row.time_or_null("until")?,
    })
}

impl Store {
    /// All pins, those that have run out among them.
    pub fn pins(&self) -> Pending<Vec<Pin>> {
        self.look("read the pins", async |c: &mut Connection| {
            let rows = sqlx::query("SELECT * FROM pins ORDER BY root, session")
                .fetch_all(c)
                .await?;
            rows.iter().map(pin).collect()
        })
    }

    /// Pins a session, instead of an earlier pin of it.
    pub fn put_pin(&self, pin: Pin) -> Pending<()> {
        self.ask("write a pin", async move |c: &mut Connection| {
            sqlx::query(
                "INSERT INTO pins (root, session, owner, reason, created_at, until) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (root, session) DO UPDATE SET owner = excluded.owner, \
                 reason = excluded.reason, created_at = excluded.created_at, \
                 until = excluded.until",
            )
            .bind(pin.root)
            .bind(pin.session)
            .bind(pin.owner)
            .bind(pin.reason)
            .bind(micros(pin.created_at))
            .bind(pin.until.map(micros))
            .execute(c)
            .await?;
            Ok(())
        })
    }

    /// Takes a pin away; `false`: there was none.
    pub fn remove_pin(&self, root: String, session: String) -> Pending<bool> {
        self.ask("remove a pin", async move |c: &mut Connection| {
            let done = sqlx::query("DELETE FROM pins WHERE root = $1 AND session = $2")
                .bind(root)
                .bind(session)
                .execute(c)
                .await?;
            Ok(done.rows_affected() > 0)
        })
    }

    /// Removes pins that ran out before a time; how many.
    pub fn remove_pins_before(&self, time: Time) -> Pending<u64> {
        self.ask("remove old pins", async move |c: &mut Connection| {
            let done = sqlx::query("DELETE FROM pins WHERE until < $1")
                .bind(micros(time))
                .execute(c)
                .await?;
            Ok(done.rows_affected())
        })
    }
}
