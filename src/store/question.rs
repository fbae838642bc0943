//! What the store's thread can be asked, with the way back.

use crate::store::audit::Keeping;
use crate::store::database::Connection;
use crate::store::error::StoreError;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::oneshot;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Question {
    Job(Box<dyn Job>),
    /// It changes nothing.
    Look(Box<dyn Job>),
    Flush(Answer<()>),
    Keep(Keeping, Answer<()>),
    /// Answered when all is written and closed.
    Close(Answer<()>),
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Job(_) => "Job",
            Self::Look(_) => "Look",
            Self::Flush(_) => "Flush",
            Self::Keep(..) => "Keep",
            Self::Close(_) => "Close",
        })
    }
}

/// Whoever asked may have gone away; that is no trouble of the store's.
pub(super) fn answer<T>(to: Answer<T>, with: Result<T, StoreError>) {
    if to.send(with).is_err() {
        tracing::trace!("an answer nobody waits for");
    }
}

type Working<'c> = Pin<Box<dyn Future<Output = Option<Arc<sqlx::Error>>> + 'c>>;

/// Something to do with the connection.
pub(super) trait Job: Send {
    /// Does it and answers; gives back what the database said when it failed.
    fn run(self: Box<Self>, connection: &mut Connection) -> Working<'_>;

    /// Answers that it cannot be done.
    fn refuse(self: Box<Self>, why: StoreError);
}

/// A [`Job`] with an answer of type `T`.
pub(super) struct Ask<F, T> {
    pub(super) operation: &'static str,
    pub(super) work: F,
    pub(super) answer: Answer<T>,
}

impl<F, T> Job for Ask<F, T>
where
    T: Send + 'static,
    F: AsyncFnOnce(&mut Connection) -> Result<T, sqlx::Error> + Send + 'static,
{
    fn run(self: Box<Self>, connection: &mut Connection) -> Working<'_> {
        let Self {
            operation,
            work,
            answer: to,
        } = *self;
        Box::pin(async move {
            match work(connection).await {
                Ok(done) => {
                    answer(to, Ok(done));
                    None
                }
                Err(error) => {
                    let source = Arc::new(error);
                    let told = source.clone();
                    answer(to, Err(StoreError::Failed { operation, source }));
                    Some(told)
                }
            }
        })
    }

    fn refuse(self: Box<Self>, why: StoreError) {
        answer(self.answer, Err(why));
    }
}
