//! What may be seen of an agent without asking any of its threads: a thread that hangs on a disk
//! keeps nobody from looking.

use crate::agent::published::{Published, View};
use crate::agent::pulse::Pulse;
use crate::config::settings::Root;
use crate::store::{Condition, Store};
use crate::telemetry::counts::Counts;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// The way in for everybody who only looks; cheap to clone.
#[derive(Debug, Clone)]
pub struct Window(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state_dir: PathBuf,
    store: Store,
    counts: Arc<Counts>,
    /// Of the loop that signals, orders and configuration come to.
    pulse: Pulse,
    panes: Mutex<Arc<[Pane]>>,
}

/// One root, as it was configured last.
#[derive(Debug, Clone)]
pub struct Pane {
    pub root: Arc<Root>,
    /// What its limits say is done, so that it has to be written to.
    pub enforces: bool,
    pub published: Arc<Published>,
    pub pulse: Arc<Pulse>,
    pub watches: Arc<AtomicUsize>,
}

impl Pane {
    /// What its thread published last.
    pub fn view(&self) -> View {
        self.published.view()
    }
}

impl Window {
    pub(super) fn new(state_dir: PathBuf, store: Store, counts: Arc<Counts>) -> Self {
        Self(Arc::new(Inner {
            state_dir,
            store,
            counts,
            pulse: Pulse::default(),
            panes: Mutex::new(Arc::from([])),
        }))
    }

    pub(super) fn show(&self, panes: Vec<Pane>) {
        *self.0.panes.lock().unwrap_or_else(PoisonError::into_inner) = panes.into();
    }

    /// The roots that are looked after.
    pub fn panes(&self) -> Arc<[Pane]> {
        let panes = self.0.panes.lock();
        panes.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happened since the start.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Of the agent's own loop.
    pub fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    /// How the store is.
    pub fn store(&self) -> Condition {
        self.0.store.condition()
    }

    /// Where the agent keeps what it has to remember.
    pub fn state_dir(&self) -> &std::path::Path {
        &self.0.state_dir
    }
}
