//! What the agent keeps for itself, outside every root: its state directory, and a database of
//! clean-ups, their runs, the audit trail, pins, and notifications that wait.
//!
//! One thread owns the one connection, so there is one writer. A [`Store`] is a handle on it: a
//! question is a [`Pending`] answer, which a thread waits for and async code awaits. A table is one
//! file with a row type and its questions as methods of [`Store`]. A change that was answered `Ok`
//! survives `SIGKILL` and a loss of power.
//!
//! Rows of the audit are not questions: [`Store::audit`] leaves them in a queue and never waits. The
//! thread writes many in one transaction; while it cannot, it keeps them in a file beside the
//! state ([`spill`]) and writes them later, in order, each once. A store that is gone, read-only,
//! locked, full or corrupt stops nothing but itself: questions answer
//! [`StoreError::Unavailable`](error::StoreError), and [`Store::condition`] says what is wrong. One
//! that can be read and not written answers what only reads.

pub mod anomalies;
pub mod audit;
pub mod cleanups;
mod database;
pub mod error;
pub mod meta;
mod migrations;
pub mod outbox;
pub mod pin_file;
pub mod pins;
mod question;
pub mod reports;
mod row;
pub mod runs;
pub mod spill;
pub mod state;
mod writer;

use crate::model::time::Clock;
use crate::store::audit::{Entry, Keeping};
use crate::store::database::Connection;
use crate::store::error::StoreError;
use crate::store::question::{Ask, Job, Question};
use crate::store::writer::Writer;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Questions that may wait. One more is answered [`StoreError::Busy`].
const MAX_QUESTIONS: usize = 256;
/// Rows of the audit that may wait for the thread: half a second of a busy second's removals, times
/// ten. More are counted, and the count becomes a row ([`spill::Folded`]).
const MAX_ROWS: usize = 1 << 16;

/// Between two looks for an answer that has a time limit.
const POLL: Duration = Duration::from_millis(2);

/// Where the store is, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The database file. `None`: the store is switched off.
    pub database: Option<PathBuf>,
    /// The file for rows that could not be written, in the state directory.
    pub spill: PathBuf,
    pub access: Access,
}

impl Place {
    /// This database, and a spill in this state directory.
    pub fn new(database: Option<&Path>, state_dir: &Path, access: Access) -> Self {
        Self {
            database: database.map(Path::to_owned),
            spill: state_dir.join("audit.spill"),
            access,
        }
    }
}

impl Place {
    /// Whether there is a database that somebody wrote to.
    pub fn has_begun(&self) -> bool {
        // What is there and cannot be looked at is said when it is opened.
        let is_empty = |path: &PathBuf| match std::fs::metadata(path) {
            Ok(found) => found.len() == 0,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        !self.database.as_ref().is_some_and(is_empty)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is made where it is absent.
    Write,
    /// Nothing is made or changed; an absent store is [`StoreError::Unavailable`].
    Read,
}

/// How the store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    Off,
    /// Not opened yet.
    #[default]
    Starting,
    Ok,
    /// It cannot be used; the agent goes on without it.
    Degraded,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Degraded => "degraded",
        }
    }
}

/// What `status` says of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    pub state: State,
    /// Rows of the audit that wait to be written because it could not be used.
    pub backlog: u64,
    /// Of these, what waits in memory alone: it is lost with the process.
    pub unkept: u64,
    /// Why their file takes no rows.
    pub unkept_because: Option<Arc<str>>,
    /// What is wrong and what helps.
    pub message: Option<Arc<str>>,
}

/// A handle on the store; cheap to clone. The store closes when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    /// `None`: switched off.
    inner: Option<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    questions: mpsc::Sender<Question>,
    rows: mpsc::Sender<Entry>,
    shared: Arc<Shared>,
}

/// What the thread and the handles both see.
#[derive(Debug, Default)]
struct Shared {
    condition: Mutex<Condition>,
    /// Rows that found the queue full.
    folded: Mutex<spill::Folded>,
}

impl Shared {
    fn say(&self, condition: Condition) {
        *self
            .condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = condition;
    }
}

impl Store {
    /// Starts the store's thread. It opens the database by itself, and tries again while it cannot:
    /// a store that cannot be opened is no error here ([`Store::opened`] waits for the first try).
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(place: Place, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        if place.database.is_none() {
            return Ok(Self { inner: None });
        }
        let (questions, asked) = mpsc::channel(MAX_QUESTIONS);
        let (rows, told) = mpsc::channel(MAX_ROWS);
        let shared = Arc::new(Shared::default());
        let inner = Inner {
            questions,
            rows,
            shared: shared.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || runtime.block_on(Writer::new(place, clock, shared).run(asked, told)))?;
        Ok(Self { inner: Some(inner) })
    }

    /// How many rows of the audit wait in the file that an agent or command left them in.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn waiting(place: &Place) -> std::io::Result<u64> {
        spill::waiting(&place.spill)
    }

    /// A store that is switched off.
    pub fn off() -> Self {
        Self { inner: None }
    }

    pub fn is_off(&self) -> bool {
        self.inner.is_none()
    }

    pub fn condition(&self) -> Condition {
        match &self.inner {
            Some(inner) => {
                let condition = inner.shared.condition.lock();
                condition.unwrap_or_else(PoisonError::into_inner).clone()
            }
            None => Condition {
                state: State::Off,
                ..Condition::default()
            },
        }
    }

    /// The first try to open it has ended. `Err`: it failed.
    pub fn opened(&self) -> Pending<()> {
        self.ask("open", async |_: &mut Connection| Ok(()))
    }

    /// Leaves a row for the audit; never waits.
    pub fn audit(&self, entry: Entry) {
        let Some(inner) = &self.inner else { return };
        if let Err(refused) = inner.rows.try_send(entry) {
            let folded = inner.shared.folded.lock();
            folded
                .unwrap_or_else(PoisonError::into_inner)
                .add(&refused.into_inner());
        }
    }

    /// All rows that were left before are in the database, or, where `Err`, in the spill.
    pub fn flush(&self) -> Pending<()> {
        let (answer, answered) = oneshot::channel();
        self.send(Question::Flush(answer), answered)
    }

    /// Writes what waits and closes the database in order. Questions of other handles are answered
    /// [`StoreError::Closed`] from then on. `Err`: rows wait in the spill.
    pub fn close(self) -> Pending<()> {
        let (answer, answered) = oneshot::channel();
        self.send(Question::Close(answer), answered)
    }

    /// Rows of the audit that are older, or too many, are removed from now on, in the background.
    pub fn keep_audit(&self, keep: Keeping) -> Pending<()> {
        let (answer, answered) = oneshot::channel();
        self.send(Question::Keep(keep, answer), answered)
    }

    /// Has the store's thread do something with the connection. `operation` completes the sentence
    /// "the store cannot …".
    fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, sqlx::Error> + Send + 'static,
    ) -> Pending<T> {
        self.have_done(Question::Job, operation, work)
    }

    /// Like [`Store::ask`], for work that only reads: it is done while nothing can be written, too.
    fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, sqlx::Error> + Send + 'static,
    ) -> Pending<T> {
        self.have_done(Question::Look, operation, work)
    }

    fn have_done<T: Send + 'static>(
        &self,
        question: fn(Box<dyn Job>) -> Question,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, sqlx::Error> + Send + 'static,
    ) -> Pending<T> {
        let (answer, answered) = oneshot::channel();
        let ask = Box::new(Ask {
            operation,
            work,
            answer,
        });
        self.send(question(ask), answered)
    }

    fn send<T>(
        &self,
        question: Question,
        answered: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Pending<T> {
        let Some(inner) = &self.inner else {
            return Pending::refused(StoreError::Off);
        };
        match inner.questions.try_send(question) {
            Ok(()) => Pending(answered),
            Err(mpsc::error::TrySendError::Full(_)) => Pending::refused(StoreError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Pending::refused(StoreError::Closed),
        }
    }
}

/// An answer to come. Dropping it does not take the question back.
#[derive(Debug)]
#[must_use = "nothing says whether it was done but the answer"]
pub struct Pending<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Pending<T> {
    fn refused(why: StoreError) -> Self {
        let (answer, answered) = oneshot::channel();
        // The receiver is right here.
        if answer.send(Err(why)).is_err() {
            tracing::trace!("an answer nobody waits for");
        }
        Self(answered)
    }

    /// Waits for the answer on an ordinary thread; in async code, await it instead.
    ///
    /// # Errors
    /// The store could not do it.
    pub fn wait(self) -> Result<T, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl<T> Pending<T> {
    /// Like [`Pending::wait`], at most so long: a disk may hang.
    ///
    /// # Errors
    /// The store could not do it, or not in time.
    pub fn wait_for(mut self, patience: Duration) -> Result<T, StoreError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.0.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Closed) => return Err(StoreError::Closed),
                Err(oneshot::error::TryRecvError::Empty) if Instant::now() > deadline => {
                    return Err(StoreError::Busy);
                }
                Err(oneshot::error::TryRecvError::Empty) => std::thread::sleep(POLL),
            }
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.0).poll(context);
        answer.map(|answer| answer.unwrap_or(Err(StoreError::Closed)))
    }
}

#[cfg(test)]
mod tests;
