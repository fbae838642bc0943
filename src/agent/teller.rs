//! Facts on their way to the audit, to whoever is notified, and to the log, off the engine's thread.

use crate::agent::audit::{Clerk, Told};
use crate::model::fact::{Fact, Moment};
use crate::model::notice::{Notice, Receivers};
use crate::model::time::Time;
use crate::notify::Notifier;
use crate::store::Store;
use crate::store::audit::Actor;
use crate::store::error::StoreError;
use crate::telemetry::tell::tell;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Facts that may wait for the log. What comes when it is full is counted, and the count is
/// logged and audited: an engine never waits for a reader of its log.
const MAX_WAITING: usize = 1 << 16;

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub struct Teller {
    facts: Sender<Message>,
    folded: Arc<AtomicU64>,
    notifier: Option<Notifier>,
}

#[derive(Debug)]
struct Message {
    at: Time,
    root: Arc<str>,
    moment: Moment,
    fact: Fact,
}

impl Teller {
    /// Starts the thread that audits and logs. It ends when the last teller is dropped.
    pub fn start(store: Store, notifier: Option<Notifier>) -> (Self, JoinHandle<()>) {
        let (facts, waiting) = bounded(MAX_WAITING);
        let folded = Arc::new(AtomicU64::new(0));
        let (counted, also) = (folded.clone(), notifier.clone());
        let thread = std::thread::Builder::new()
            .name("teller".to_owned())
            .spawn(move || run(&waiting, &counted, &store, also.as_ref()))
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

    /// Leaves a fact, with how the root is, for who audits and logs; never waits.
    pub fn tell(&self, root: &Arc<str>, at: Time, moment: Moment, fact: Fact) {
        let message = Message {
            at,
            root: root.clone(),
            moment,
            fact,
        };
        match self.facts.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.folded.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The log comes last: whoever reads it may stand still.
fn run(
    waiting: &Receiver<Message>,
    folded: &AtomicU64,
    store: &Store,
    notifier: Option<&Notifier>,
) {
    let mut clerk = Clerk::new(Actor::Event);
    for message in waiting {
        let Message {
            at,
            root,
            moment,
            fact,
        } = message;
        if !store.is_off() {
            let told = Told {
                at,
                root: &root,
                fact: &fact,
                moment,
            };
            clerk
                .entry(&told)
                .into_iter()
                .for_each(|entry| store.audit(entry));
        }
        if let Some(notifier) = notifier {
            notifier.hear(&root, &fact);
        }
        tell(&root, &fact);
        let n_folded = folded.swap(0, Ordering::Relaxed);
        if n_folded > 0 {
            let because =
                format!("{n_folded} facts came faster than the log was read, and are counted only");
            store.audit(clerk.note(at, "audit.folded", because));
            tracing::warn!(
                event = "log.folded",
                lines = n_folded,
                "more happened than the log took"
            );
        }
    }
}

/// Waits until all that was told is written, at most so long.
pub fn finish(thread: &JoinHandle<()>, store: Store, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let rest = deadline.saturating_duration_since(Instant::now());
    if let Err(error) = store.close().wait_for(rest)
        && !matches!(error, StoreError::Off)
    {
        tracing::warn!(event = "store.unwritten", error = %error, "rows of the audit wait in their file for the next start");
    }
}
