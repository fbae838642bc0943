//! What signals ask of the agent.

use crate::agent::service::ServiceError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug)]
pub(super) enum Caught {
    Rescan,
    Reload,
    Stop,
}

/// The signals that the agent takes.
#[derive(Debug)]
pub(super) struct Signals {
    usr1: Signal,
    hup: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// # Errors
    /// Signals cannot be had.
    pub(super) fn new() -> Result<Self, ServiceError> {
        let what = "listen for signals";
        let on = |kind| signal(kind).map_err(|source| ServiceError::Start { what, source });
        Ok(Self {
            usr1: on(SignalKind::user_defined1())?,
            hup: on(SignalKind::hangup())?,
            term: on(SignalKind::terminate())?,
            int: on(SignalKind::interrupt())?,
        })
    }

    /// Waits for one that ends the agent.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.usr1.recv() => Caught::Rescan,
            _ = self.hup.recv() => Caught::Reload,
            _ = self.term.recv() => Caught::Stop,
            _ = self.int.recv() => Caught::Stop,
        }
    }
}
