//! Runs under way: how they are told to stop, and how it is known that they have ended.

use super::Order;
use crate::agent::cleaning::{Done, Outcome, Task};
use crate::agent::teller::Teller;
use crate::config::cleanup::layout::what_of;
use crate::model::notice::{Notice, Topic};
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread that runs one registration, or several one after the other.
pub(super) struct Running {
    /// What halts the run of each.
    stops: Vec<(String, Arc<AtomicBool>)>,
    thread: JoinHandle<()>,
}

impl Running {
    pub(super) fn new(stops: Vec<(String, Arc<AtomicBool>)>, thread: JoinHandle<()>) -> Self {
        Self { stops, thread }
    }

    /// All of it ends between two removals.
    pub(super) fn halt(&self) {
        for (_, stop) in &self.stops {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// What is of this registration ends between two removals.
    pub(super) fn halt_of(&self, id: &str) {
        for (_, stop) in self.stops.iter().filter(|(of, _)| of == id) {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Waits for its end.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!(event = "thread.panicked", "a clean-up's thread panicked");
        }
    }
}

pub(super) fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("cleanup".to_owned())
        .spawn(work)
}

/// Says, when it is dropped, that a run has ended: after a panic, too. It waits where many orders
/// do, for what is not said would count as running for ever.
pub(super) struct Ended {
    order: Option<Order>,
    orders: Sender<Order>,
}

impl Ended {
    /// Says it with this order. To be made on the run's own thread: the registry's is the one that
    /// makes room.
    pub(super) fn says(order: Order, orders: Sender<Order>) -> Self {
        Self {
            order: Some(order),
            orders,
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let order = self.order.take();
        if order.is_some_and(|order| self.orders.send(order).is_err()) {
            tracing::debug!("the registry's thread is gone already");
        }
    }
}

/// Tells people of a run that did not do what it should.
pub(super) fn notify(teller: &Teller, task: &Task, done: &Done) {
    let topic = match done.outcome {
        Outcome::Done => return,
        Outcome::Unmet => Topic::TargetUnmet,
        Outcome::Failed | Outcome::Busy | Outcome::Stopped => Topic::Failure,
    };
    let detail = &done.detail;
    teller.notify(Notice {
        topic,
        event: "cleanup.failed",
        root: Some(task.cleanup.root_name()),
        message: format!(
            "the clean-up of {} in {}: {}",
            what_of(&task.cleanup),
            detail.directory,
            detail.message
        ),
        details: vec![
            ("cleanup", detail.id.clone()),
            ("owner", task.cleanup.owner.clone()),
            ("files_deleted", detail.files_deleted.to_string()),
            ("freed_bytes", detail.space_freed.0.to_string()),
        ],
    });
}
