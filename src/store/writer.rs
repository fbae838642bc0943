//! The store's thread: the one that writes.
//!
//! Questions come first and one by one. Rows of the audit are taken together: the first at once,
//! then all that came within [`GATHER`], in one transaction. A batch that cannot be written is
//! spilled, and from then on every row goes through the spill until it is empty again, so their
//! order stays. Once a [`RETRY`] the database is opened anew where it has to be, and tried.

use crate::model::time::{Clock, Time};
use crate::store::audit::{self, Entry, Ids, Keeping, RECENT};
use crate::store::database::{self, Connection, Database, Inode};
use crate::store::error::{StoreError, Verdict, is_full, verdict};
use crate::store::question::{Job, Question, answer};
use crate::store::spill::Spill;
use crate::store::{Access, Condition, Place, Shared, State};
use chrono::TimeDelta;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Rows of one transaction at most; more wait for the next.
const MAX_BATCH: usize = 4096;
/// Between two batches: waking up for each row would take a core from those who prune.
const GATHER: Duration = Duration::from_millis(50);
/// Between two tries of a store that cannot be used.
const RETRY: Duration = Duration::from_secs(1);
/// Old rows are looked for that often, and removed so many at a time.
const TRIM: Duration = Duration::from_secs(600);
const TRIM_AGAIN: Duration = Duration::from_millis(100);
const MAX_TRIM: u64 = 1000;

pub(super) struct Writer {
    place: Place,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    database: Option<Database>,
    /// The directory of the database, since it was open for the first time.
    home: Option<Inode>,
    spill: Spill,
    ids: Ids,
    /// Why it cannot be used; told once.
    trouble: Option<Arc<str>>,
    /// It was corrupt when last tried: it is read through before it is trusted again.
    was_corrupt: bool,
    retry_at: Option<Instant>,
    keep: Option<Keeping>,
    trim_at: Instant,
}

impl Writer {
    pub(super) fn new(place: Place, clock: Arc<dyn Clock>, shared: Arc<Shared>) -> Self {
        let spill = Spill::open(match place.access {
            Access::Write => Some(place.spill.clone()),
            Access::Read => None,
        });
        Self {
            place,
            clock,
            shared,
            database: None,
            home: None,
            spill,
            ids: Ids::default(),
            trouble: None,
            was_corrupt: false,
            retry_at: None,
            keep: None,
            trim_at: Instant::now(),
        }
    }

    /// Until the last handle is dropped; then what waits is written, or spilled.
    pub(super) async fn run(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        mut rows: mpsc::Receiver<Entry>,
    ) {
        self.recover().await;
        let mut rows_at = Instant::now();
        let mut batch = Vec::new();
        let closing = loop {
            let next_look = self.next_look();
            let gathered = async {
                sleep_until(rows_at).await;
                rows.recv_many(&mut batch, MAX_BATCH).await
            };
            tokio::select! {
                biased;
                asked = questions.recv() => match asked {
                    Some(Question::Flush(to)) => answer(to, self.flush(&mut rows).await),
                    Some(Question::Keep(keep, to)) => {
                        self.keep = Some(keep);
                        self.trim_at = Instant::now();
                        answer(to, Ok(()));
                    }
                    Some(Question::Job(job)) => self.work(job).await,
                    Some(Question::Look(job)) => self.look_up(job).await,
                    Some(Question::Close(to)) => break Some(to),
                    None => break None,
                },
                n_rows = gathered => {
                    if n_rows > 0 {
                        self.write(std::mem::take(&mut batch)).await;
                    }
                    rows_at = Instant::now() + GATHER;
                }
                () = sleep_until(next_look) => self.look().await,
            }
        };
        let mut ended = self.flush(&mut rows).await;
        if ended.is_err() {
            // What was done meanwhile may have made the room for its rows.
            self.recover().await;
            ended = self.flush(&mut rows).await;
        }
        self.publish();
        if let Some(database) = self.database {
            database.close().await;
        }
        if let Some(to) = closing {
            answer(to, ended);
        }
    }

    fn next_look(&self) -> Instant {
        let trim = self.keep.map(|_| self.trim_at);
        let far = Instant::now() + TRIM;
        self.retry_at.into_iter().chain(trim).min().unwrap_or(far)
    }

    /// What is due without a question.
    async fn look(&mut self) {
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.recover().await;
        }
        if self.keep.is_some() && self.trim_at <= Instant::now() {
            self.trim().await;
        }
    }

    async fn work(&mut self, job: Box<dyn Job>) {
        if !self.is_usable().await {
            let why = self.trouble.clone().unwrap_or_else(|| "".into());
            return job.refuse(StoreError::Unavailable(why));
        }
        let Some(database) = &mut self.database else {
            return job.refuse(StoreError::Closed);
        };
        if let Some(error) = job.run(&mut database.connection).await {
            self.failed(&error);
        }
    }

    /// A question that only reads. While the database cannot be written it is opened for that one
    /// question: nobody else could use it meanwhile.
    async fn look_up(&mut self, job: Box<dyn Job>) {
        let path = self.place.database.clone();
        let Some(path) = path.filter(|path| !self.was_corrupt && path.exists()) else {
            return self.work(job).await;
        };
        if self.is_usable().await {
            return self.work(job).await;
        }
        let mut connection = match database::read_apart(&path).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(error = %error, "the store cannot be read either");
                return self.work(job).await;
            }
        };
        if let Some(error) = job.run(&mut connection).await {
            tracing::debug!(error = %error, "a store that cannot be written did not answer");
        }
        database::close(connection).await;
    }

    /// Whether there is a database, at its place. One that was moved away is noticed here.
    async fn is_usable(&mut self) -> bool {
        if self.database.as_ref().is_some_and(|d| !d.is_in_place()) {
            self.database = None;
        }
        if self.database.is_none() && self.retry_at.is_none() {
            self.recover().await;
        }
        self.database.is_some()
    }

    /// Writes all that waits in the queue.
    async fn flush(&mut self, rows: &mut mpsc::Receiver<Entry>) -> Result<(), StoreError> {
        loop {
            let mut batch = Vec::new();
            while batch.len() < MAX_BATCH
                && let Ok(entry) = rows.try_recv()
            {
                batch.push(entry);
            }
            if batch.is_empty() {
                break;
            }
            self.write(batch).await;
        }
        if self.spill.is_empty() {
            return Ok(());
        }
        let why = self.trouble.clone().unwrap_or_else(|| "".into());
        Err(StoreError::Unavailable(why))
    }

    async fn write(&mut self, batch: Vec<Entry>) {
        let folded = std::mem::take(
            &mut *self
                .shared
                .folded
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.spill.fold(folded);
        self.spill.unfold(self.clock.now().wall, &mut self.ids);
        let in_order = self.trouble.is_none() && self.spill.is_empty();
        if in_order && self.is_usable().await {
            match self.insert(&batch).await {
                Ok(()) => return self.publish(),
                Err(error) => self.failed(&error),
            }
        }
        self.spill.append(batch);
        if self.trouble.is_none() {
            self.recover().await;
        }
        self.publish();
    }

    async fn insert(&mut self, entries: &[Entry]) -> Result<(), sqlx::Error> {
        match &mut self.database {
            Some(database) => audit::insert(&mut database.connection, entries).await,
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    /// What an error says about the database.
    fn failed(&mut self, error: &sqlx::Error) {
        let verdict = verdict(error);
        let path = self.path();
        let why = match verdict {
            Verdict::Sound => return,
            Verdict::Locked => format!("another process holds {path} locked: end it"),
            Verdict::Lost if is_full(error) => {
                format!("{path} cannot be written: {error}; free some space on its file system")
            }
            Verdict::Lost => format!("{path} cannot be written: {error}"),
            Verdict::Corrupt => format!(
                "{path} is corrupt ({error}): move it and its -wal and -shm files away, and put a good copy in its place; without one a new store is begun, with no registrations and pins"
            ),
        };
        self.was_corrupt |= verdict == Verdict::Corrupt;
        if verdict != Verdict::Locked {
            self.database = None;
        }
        self.degraded(why.into());
    }

    fn path(&self) -> String {
        let path = self.place.database.as_deref();
        path.map(|path| path.display().to_string())
            .unwrap_or_default()
    }

    fn degraded(&mut self, why: Arc<str>) {
        self.retry_at = Some(Instant::now() + RETRY);
        if self.trouble.is_none() {
            tracing::warn!(
                event = "store.degraded",
                path = self.path(),
                "{why}; it is tried again by itself"
            );
        }
        self.trouble = Some(why);
        self.publish();
    }

    /// Opens the database where it is not open, tries it, and writes what waits.
    async fn recover(&mut self) {
        self.retry_at = None;
        match self.try_to_recover().await {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    tracing::info!(
                        event = "store.back",
                        path = self.path(),
                        "the store can be used again, and what waited is written"
                    );
                }
                self.was_corrupt = false;
                self.publish();
            }
            Err(StoreError::Failed { source, .. }) if verdict(&source) != Verdict::Sound => {
                self.failed(&source);
            }
            Err(error) => {
                self.database = None;
                let why = match error {
                    StoreError::Unavailable(why) => why,
                    other => other.to_string().into(),
                };
                self.degraded(why);
            }
        }
    }

    async fn try_to_recover(&mut self) -> Result<(), StoreError> {
        let Some(path) = self.place.database.clone() else {
            return Err(StoreError::Off);
        };
        if self.database.as_ref().is_some_and(|d| !d.is_in_place()) {
            self.database = None;
        }
        if self.database.is_none() {
            let begun = self.home.is_some() && !path.exists();
            let database = match self.place.access {
                Access::Write => Database::open(&path, self.home).await?,
                Access::Read => match Database::open_to_read(&path).await? {
                    Some(database) => database,
                    None => return Ok(()),
                },
            };
            if begun {
                tracing::warn!(
                    event = "store.begun",
                    path = self.path(),
                    "the store was taken away: a new one is begun without registrations and pins"
                );
            }
            self.home = Some(database.home);
            self.database = Some(database);
        }
        if self.place.access == Access::Read {
            return Ok(());
        }
        let failed = |source| StoreError::Failed {
            operation: "be tried",
            source: Arc::new(source),
        };
        if let Some(database) = self.database.as_mut().filter(|_| self.trouble.is_some()) {
            if self.was_corrupt {
                database.is_whole().await.map_err(failed)?;
            }
            database.is_writable().await.map_err(failed)?;
        }
        while !self.spill.is_empty() {
            self.spill.unfold(self.clock.now().wall, &mut self.ids);
            let (entries, done) = self
                .spill
                .oldest(MAX_BATCH)
                .map_err(|error| failed(error.into()))?;
            if entries.is_empty() {
                break;
            }
            self.insert(&entries).await.map_err(failed)?;
            self.spill.done(&done);
            self.publish();
        }
        Ok(())
    }

    async fn trim(&mut self) {
        let Some(keep) = self.keep else { return };
        self.trim_at = Instant::now() + TRIM;
        if self.trouble.is_some() || !self.is_usable().await {
            return;
        }
        let Some(database) = &mut self.database else {
            return;
        };
        let now = self.clock.now().wall;
        match trim_once(&mut database.connection, keep, now).await {
            Ok(n_removed) if n_removed >= MAX_TRIM => self.trim_at = Instant::now() + TRIM_AGAIN,
            Ok(_) => {}
            Err(error) => self.failed(&error),
        }
    }

    fn publish(&self) {
        let spill = self.spill.trouble.as_ref();
        let again = "it is tried again by itself";
        let message = match (&self.trouble, spill) {
            (Some(why), Some(spill)) => Some(
                format!("{why}; {again}; rows of the audit wait in memory, because their file cannot be written: {spill}").into(),
            ),
            (Some(why), None) => Some(format!("{why}; {again}").into()),
            (None, _) => None,
        };
        self.shared.say(Condition {
            state: if self.trouble.is_some() {
                State::Degraded
            } else {
                State::Ok
            },
            backlog: self.spill.backlog(),
            unkept: self.spill.unkept(),
            unkept_because: spill.map(|why| why.as_str().into()),
            message,
        });
    }
}

/// Removes rows that are too old, then the oldest of too many; how many, at most twice
/// [`MAX_TRIM`].
async fn trim_once(c: &mut Connection, keep: Keeping, now: Time) -> Result<u64, sqlx::Error> {
    let age = TimeDelta::from_std(keep.age).ok();
    let aged = match age.and_then(|age| now.checked_sub_signed(age)) {
        Some(before) => audit::trim(c, before, MAX_TRIM).await?,
        None => 0,
    };
    let too_many = audit::n_rows(c).await?.saturating_sub(keep.max_rows);
    let crowded = match now.checked_sub_signed(RECENT) {
        Some(before) if too_many > 0 => audit::trim(c, before, too_many.min(MAX_TRIM)).await?,
        _ => 0,
    };
    // Each by itself says whether it has come to its end.
    Ok(aged.max(crowded))
}
