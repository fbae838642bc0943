//! Facts on their way to the log and to whoever is notified, off the engine's thread.

use crate::model::fact::Fact;
use crate::model::notice::{Notice, Receivers};
use crate::notify::Notifier;
use crate::telemetry::tell::tell;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Facts that may wait for the log. What comes when it is full is counted, and the count is
/// logged: an engine never waits for a reader of its log.
const MAX_WAITING: usize = 1 << 16;

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub struct Teller {
    facts: Sender<(Arc<str>, Fact)>,
    folded: Arc<AtomicU64>,
    notifier: Option<Notifier>,
}

impl Teller {
    /// Starts the thread that logs. It ends when the last teller is dropped.
    pub fn start(notifier: Option<Notifier>) -> (Self, JoinHandle<()>) {
        let (facts, waiting) = bounded(MAX_WAITING);
        let folded = Arc::new(AtomicU64::new(0));
        let (counted, also) = (folded.clone(), notifier.clone());
        let thread = std::thread::Builder::new()
            .name("teller".to_owned())
            .spawn(move || run(&waiting, &counted, also.as_ref()))
            .expect("a thread can be started at the start of the program");
        let teller = Self {
            facts,
            folded,
            notifier,
        };
        (teller, thread)
    }

    /// Tells people of something that is no fact of a root. Never waits.
    pub fn notify(&self, notice: Notice) {
        if let Some(notifier) = &self.notifier {
            notifier.tell(notice);
        }
    }

    /// Who is notified from now on.
    pub fn settle(&self, receivers: Receivers) {
        if let Some(notifier) = &self.notifier {
            notifier.settle(receivers);
        }
    }

    pub fn tell(&self, root: &Arc<str>, fact: Fact) {
        match self.facts.try_send((root.clone(), fact)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.folded.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn run(waiting: &Receiver<(Arc<str>, Fact)>, folded: &AtomicU64, notifier: Option<&Notifier>) {
    for (root, fact) in waiting {
        // First: whoever reads the log may stand still.
        if let Some(notifier) = notifier {
            notifier.hear(&root, &fact);
        }
        tell(&root, &fact);
        let n_folded = folded.swap(0, Ordering::Relaxed);
        if n_folded > 0 {
            tracing::warn!(
                event = "log.folded",
                lines = n_folded,
                "more happened than the log took"
            );
        }
    }
}
