//! The audit trail: what happened, by whom, and why. Rows are added, and removed when they are old;
//! none is ever changed.

use crate::model::plan::Rule;
use crate::model::time::Time;
use crate::store::database::{Connection, Db, Row};
use crate::store::row::{Columns, int, micros};
use crate::store::{Pending, Store};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, QueryBuilder};
use std::time::Duration;

/// Rows of one statement. A row has 14 values, and SQLite takes 32766 in a statement.
const ROWS_A_STATEMENT: usize = 128;
/// Rows that one answer may have, whatever is asked for.
pub const MAX_ANSWER: u64 = 100_000;

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The agent, because something was written or time went by.
    Event,
    Schedule,
    Command,
    Api,
    /// The agent, about itself.
    Agent,
}

impl Actor {
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Schedule => "schedule",
            Self::Command => "command",
            Self::Api => "api",
            Self::Agent => "agent",
        }
    }
}

/// One row. Names are escaped text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// A ULID, from [`Ids`]: a row that is written again is the same row.
    pub id: String,
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub at: Time,
    /// The name of an [`Actor`].
    pub actor: String,
    /// What happened, named as in the log: `prune.deleted`, `config.reloaded` …
    pub event: String,
    pub root: Option<String>,
    /// The session's key.
    pub session: Option<String>,
    pub path: Option<String>,
    pub bytes: Option<u64>,
    pub rule: Option<String>,
    /// A sentence.
    pub because: String,
    pub usage_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// What was planned together has the same one.
    pub plan: Option<String>,
    /// The least value of the rule's limit that would have kept a session that was removed:
    /// bytes, sessions, or seconds.
    #[serde(default)]
    pub spared_by: Option<u64>,
}

impl Entry {
    /// A row with nothing but the columns that every row has.
    pub fn new(id: String, at: Time, actor: Actor, event: &str, because: String) -> Self {
        Self {
            id,
            at,
            actor: actor.name().to_owned(),
            event: event.to_owned(),
            root: None,
            session: None,
            path: None,
            bytes: None,
            rule: None,
            because,
            usage_bytes: None,
            limit_bytes: None,
            plan: None,
            spared_by: None,
        }
    }

    /// What limit would have kept the session that this row says was removed: the key that sets
    /// it, and its least value, as the configuration has them.
    pub fn saving(&self) -> Option<(&'static str, String)> {
        let least = self.spared_by?;
        let time = || humantime::format_duration(Duration::from_secs(least)).to_string();
        let rule = self.rule.as_deref()?;
        let rule = Rule::ALL.into_iter().find(|known| known.name() == rule)?;
        Some(match rule {
            Rule::Age | Rule::Failed => (rule.name(), time()),
            Rule::Count => (rule.name(), least.to_string()),
            // Down to where pruning stops it would go on.
            Rule::Size => ("max_size and prune_to", least.to_string()),
        })
    }
}

/// Which rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    pub age: Duration,
    /// The newest so many; older ones go before their time. None younger than an hour goes for
    /// that: whatever writes so many at once must not hide what it did just now.
    pub max_rows: u64,
}

/// What is younger is kept, however many there are.
pub(super) const RECENT: TimeDelta = TimeDelta::hours(1);

/// Ids in the order they are asked for, unlike those of any other process.
#[derive(Debug, Default)]
pub struct Ids(ulid::Generator);

impl Ids {
    pub fn next_id(&mut self) -> String {
        let next = self.0.generate();
        // More in one millisecond than its random part counts: any other id does.
        next.unwrap_or_else(|_| ulid::Ulid::generate()).to_string()
    }
}

/// Which rows are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub since: Option<Time>,
    pub until: Option<Time>,
    pub root: Option<String>,
    /// Its key or its path.
    pub session: Option<String>,
    /// The newest so many; at most [`MAX_ANSWER`].
    pub limit: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            root: None,
            session: None,
            limit: 1000,
        }
    }
}

fn entry(row: &Row) -> Result<Entry, sqlx::Error> {
    Ok(Entry {
        id: row.text("id")?,
        at: row.time("at")?,
        actor: row.text("actor")?,
        event: row.text("event")?,
        root: row.text_or_null("root")?,
        session: row.text_or_null("session")?,
        path: row.text_or_null("path")?,
        bytes: row.number_or_null("bytes")?,
        rule: row.text_or_null("rule")?,
        because: row.text("because")?,
        usage_bytes: row.number_or_null("usage_bytes")?,
        limit_bytes: row.number_or_null("limit_bytes")?,
        plan: row.text_or_null("plan")?,
        spared_by: row.number_or_null("spared_by")?,
    })
}

/// A time range and a root always, and a session where one is named: each form has its index.
const BY_TIME: &str = "SELECT * FROM audit WHERE at >= $1 AND at <= $2 \
    AND ($3 IS NULL OR root = $3) ORDER BY at DESC, id DESC LIMIT $4";
const BY_SESSION: &str = "SELECT * FROM audit WHERE at >= $1 AND at <= $2 \
    AND ($3 IS NULL OR root = $3) AND (session = $5 OR path = $5) \
    ORDER BY at DESC, id DESC LIMIT $4";

impl Store {
    /// The newest rows that are wanted, in the order in which they happened. Rows that were left
    /// just now may be on their way still: [`Store::flush`] first.
    pub fn entries(&self, wanted: Wanted) -> Pending<Vec<Entry>> {
        self.look("read the audit", async move |c: &mut Connection| {
            let sql = match wanted.session {
                Some(_) => BY_SESSION,
                None => BY_TIME,
            };
            let query = sqlx::query(sql)
                .bind(wanted.since.map_or(i64::MIN, micros))
                .bind(wanted.until.map_or(i64::MAX, micros))
                .bind(wanted.root)
                .bind(int(wanted.limit.min(MAX_ANSWER)));
            let query = match wanted.session {
                Some(session) => query.bind(session),
                None => query,
            };
            let rows = query.fetch_all(c).await?;
            rows.iter().rev().map(entry).collect()
        })
    }
}

/// Writes rows in one transaction. A row that is there already is the same row.
pub(super) async fn insert(c: &mut Connection, entries: &[Entry]) -> Result<(), sqlx::Error> {
    let mut change = c.begin().await?;
    for some in entries.chunks(ROWS_A_STATEMENT) {
        let mut query: QueryBuilder<Db> = QueryBuilder::new(
            "INSERT INTO audit (id, at, actor, event, root, session, path, bytes, rule, \
             because, usage_bytes, limit_bytes, plan, spared_by) ",
        );
        query.push_values(some, |mut values, entry| {
            values
                .push_bind(&entry.id)
                .push_bind(micros(entry.at))
                .push_bind(&entry.actor)
                .push_bind(&entry.event)
                .push_bind(entry.root.as_ref())
                .push_bind(entry.session.as_ref())
                .push_bind(entry.path.as_ref())
                .push_bind(entry.bytes.map(int))
                .push_bind(entry.rule.as_ref())
                .push_bind(&entry.because)
                .push_bind(entry.usage_bytes.map(int))
                .push_bind(entry.limit_bytes.map(int))
                .push_bind(entry.plan.as_ref())
                .push_bind(entry.spared_by.map(int));
        });
        query.push(" ON CONFLICT (id) DO NOTHING");
        query.build().execute(&mut *change).await?;
    }
    change.commit().await
}

/// How many rows there are.
pub(super) async fn n_rows(c: &mut Connection) -> Result<u64, sqlx::Error> {
    let n_rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM audit")
        .fetch_one(c)
        .await?;
    Ok(u64::try_from(n_rows).unwrap_or_default())
}

/// Removes at most `limit` rows from before a time, the oldest; how many.
pub(super) async fn trim(c: &mut Connection, before: Time, limit: u64) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM audit WHERE id IN \
         (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)",
    )
    .bind(micros(before))
    .bind(int(limit))
    .execute(c)
    .await?;
    Ok(done.rows_affected())
}
