//! Facts on their way to the audit, to whoever is notified, and to the log, off the engine's thread.
//!
//! Each thread that tells has a ring of its own, whose both ends only try: a channel's sender may
//! have to wait for a receiver that it preempted. See
//! docs/decisions/0008-no-channel-to-the-engine.md.

use crate::agent::audit::{Clerk, Told};
use crate::model::fact::{Fact, Moment};
use crate::model::notice::{Notice, Receivers};
use crate::model::time::Time;
use crate::notify::Notifier;
use crate::store::Store;
use crate::store::audit::Actor;
use crate::store::error::StoreError;
use crate::telemetry::counts::Counts;
use crate::telemetry::tell::tell;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Facts of one thread that may wait for the log. What comes when it is full is counted, and the
/// count is logged and audited: an engine never waits for a reader of its log.
const MAX_WAITING: usize = 1 << 16;
/// Facts of one thread before it is another one's turn.
const MAX_AT_ONCE: usize = 256;

/// Who tells people, and gives out mouths; cheap to clone.
#[derive(Debug, Clone)]
pub struct Teller {
    office: Arc<Office>,
    notifier: Option<Notifier>,
    counts: Arc<Counts>,
}

/// What one thread tells its facts with; its clones are for the same thread.
#[derive(Debug, Clone)]
pub struct Mouth {
    /// Boxed: a ring is used all around, however few wait in it. The lock is never waited for.
    messages: Arc<Mutex<Producer<Box<Message>>>>,
    folded: Arc<AtomicU64>,
    office: Arc<Office>,
}

/// Dropped with the last that may tell something: then the telling thread ends.
#[derive(Debug)]
struct Office {
    desk: Arc<Desk>,
    thread: Thread,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.desk.is_closed.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

#[derive(Debug, Default)]
struct Desk {
    /// Not taken over yet by the telling thread.
    new: Mutex<Vec<Line>>,
    is_closed: AtomicBool,
}

/// The other end of a mouth.
#[derive(Debug)]
struct Line {
    root: Arc<str>,
    messages: Consumer<Box<Message>>,
    folded: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Message {
    at: Time,
    moment: Moment,
    fact: Fact,
}

impl Teller {
    /// Starts the thread that audits and logs. It ends when the last teller and the last mouth are
    /// dropped.
    pub fn start(store: Store, notifier: Option<Notifier>) -> (Self, JoinHandle<()>) {
        let desk = Arc::new(Desk::default());
        let counts = Arc::new(Counts::default());
        let (at, ears) = (desk.clone(), (notifier.clone(), counts.clone()));
        let thread = std::thread::Builder::new()
            .name("teller".to_owned())
            .spawn(move || run(&at, &store, ears.0.as_ref(), &ears.1))
            .expect("a thread can be started at the start of the program");
        let office = Office {
            desk,
            thread: thread.thread().clone(),
        };
        let teller = Self {
            office: Arc::new(office),
            notifier,
            counts,
        };
        (teller, thread)
    }

    /// What was told so far, counted.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// For a thread that tells what happens in this root.
    pub fn mouth(&self, root: &Arc<str>) -> Mouth {
        let (producer, consumer) = RingBuffer::new(MAX_WAITING);
        let folded = Arc::new(AtomicU64::new(0));
        let line = Line {
            root: root.clone(),
            messages: consumer,
            folded: folded.clone(),
        };
        let new = &self.office.desk.new;
        new.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
        self.office.thread.unpark();
        Mouth {
            messages: Arc::new(Mutex::new(producer)),
            folded,
            office: self.office.clone(),
        }
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
}

impl Mouth {
    /// Leaves a fact, with how the root is, for who audits and logs; never waits.
    pub fn tell(&self, at: Time, moment: Moment, fact: Fact) {
        let message = Box::new(Message { at, moment, fact });
        let left = match self.messages.try_lock() {
            Ok(mut messages) => messages.push(message).is_ok(),
            Err(TryLockError::Poisoned(messages)) => messages.into_inner().push(message).is_ok(),
            Err(TryLockError::WouldBlock) => false,
        };
        if !left {
            self.folded.fetch_add(1, Ordering::Relaxed);
        }
        self.office.thread.unpark();
    }
}

fn run(desk: &Desk, store: &Store, notifier: Option<&Notifier>, counts: &Counts) {
    let mut clerk = Clerk::new(Actor::Event);
    let mut lines: Vec<Line> = Vec::new();
    loop {
        // Before the lines: whoever closed has told all that there is.
        let is_closed = desk.is_closed.load(Ordering::Acquire);
        lines.append(&mut desk.new.lock().unwrap_or_else(PoisonError::into_inner));
        let mut any = false;
        lines.retain_mut(|line| {
            let is_over = line.messages.is_abandoned();
            if is_over {
                // What was told before it was dropped is there now.
                fence(Ordering::Acquire);
            }
            let mut said = 0;
            while said < MAX_AT_ONCE
                && let Ok(message) = line.messages.pop()
            {
                counts.hear(&line.root, &message.fact);
                say(&mut clerk, line, *message, store, notifier);
                said += 1;
            }
            any |= said > 0;
            !is_over || said == MAX_AT_ONCE
        });
        if any {
            continue;
        }
        if is_closed {
            return;
        }
        std::thread::park();
    }
}

/// The log comes last: whoever reads it may stand still.
fn say(
    clerk: &mut Clerk,
    line: &Line,
    message: Message,
    store: &Store,
    notifier: Option<&Notifier>,
) {
    let Message { at, moment, fact } = message;
    let root = &line.root;
    if !store.is_off() {
        let told = Told {
            at,
            root,
            fact: &fact,
            moment,
        };
        let entries = clerk.entry(&told).into_iter();
        entries.for_each(|entry| store.audit(entry));
    }
    if let Some(notifier) = notifier {
        notifier.hear(root, &fact);
    }
    tell(root, &fact);
    let n_folded = line.folded.swap(0, Ordering::Relaxed);
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
