//! Facts as rows of the audit trail.
//!
//! A row for each removal, skip, lifecycle change and lock take-over; what else happens is in the
//! log. Who is not an engine writes its rows with [`Store::audit`](crate::store::Store::audit).

use crate::model::fact::{Fact, Moment};
use crate::model::lifecycle::Transition;
use crate::model::path::{RelPath, escape};
use crate::model::report::{Holder, Skip};
use crate::model::session::Key;
use crate::model::time::{Time, rfc3339};
use crate::store::Store;
use crate::store::audit::{Actor, Entry, Ids};
use crate::telemetry::tell::skip_reason;
use std::sync::{Arc, Mutex, PoisonError};

/// A fact with when and where it was told, and how the root was then.
#[derive(Debug)]
pub struct Told<'a> {
    pub at: Time,
    pub root: &'a str,
    pub fact: &'a Fact,
    pub moment: Moment,
}

/// Writes facts of one actor as rows.
#[derive(Debug)]
pub struct Clerk {
    ids: Ids,
    actor: Actor,
}

impl Clerk {
    pub fn new(actor: Actor) -> Self {
        Self {
            ids: Ids::default(),
            actor,
        }
    }

    /// A row about something that no engine tells of.
    pub fn note(&mut self, at: Time, event: &str, because: String) -> Entry {
        Entry::new(self.ids.next_id(), at, self.actor, event, because)
    }

    /// The row of a fact; `None`: it is of no interest later.
    pub fn entry(&mut self, told: &Told<'_>) -> Option<Entry> {
        let (event, because, moment) = match told.fact {
            Fact::PruneDeleted {
                because, moment, ..
            } => ("prune.deleted", because.to_string(), moment),
            Fact::PruneSkipped {
                because,
                why,
                moment,
                ..
            } => ("prune.skipped", stays(why, because), moment),
            Fact::LockStale { holder } => ("lock.stale", taken_over(holder.as_ref()), &told.moment),
            Fact::LifecycleFailed(transition) => {
                ("lifecycle.failed", transition.to_string(), &told.moment)
            }
            Fact::LifecyclePartsDeleted(transition) => (
                "lifecycle.parts_deleted",
                transition.to_string(),
                &told.moment,
            ),
            Fact::LifecycleSkipped { transition, why } => {
                ("lifecycle.skipped", stays(why, transition), &told.moment)
            }
            Fact::CycleStart { .. }
            | Fact::CycleEnd { .. }
            | Fact::ScanDone { .. }
            | Fact::PruneCheck { .. }
            | Fact::PruneNoop { .. }
            | Fact::PruneStarted { .. }
            | Fact::PruneSummary(_)
            | Fact::TargetUnmet { .. }
            | Fact::LockBusy { .. }
            | Fact::LockFailed { .. }
            | Fact::AnomalyFound { .. }
            | Fact::AnomalyCleared { .. }
            | Fact::AnomaliesMore { .. }
            | Fact::WatchLost { .. }
            | Fact::WatchDegraded { .. }
            | Fact::BackendDegraded { .. }
            | Fact::RootHeld { .. }
            | Fact::RootMoved
            | Fact::RootBack
            | Fact::Unlisted { .. }
            | Fact::IntentRefused { .. }
            | Fact::TrashLeft { .. }
            | Fact::ClockHeld { .. }
            | Fact::StateChanged { .. } => return None,
        };
        let subject = Subject::of(told.fact);
        Some(Entry {
            root: Some(told.root.to_owned()),
            session: subject.session.map(|key| escape(key)),
            path: subject.path.map(ToString::to_string),
            bytes: subject.bytes,
            rule: subject.rule.map(str::to_owned),
            usage_bytes: Some(moment.usage.0),
            limit_bytes: moment.limit.map(|limit| limit.0),
            plan: moment.planned.map(|at| plan(told.root, at)),
            spared_by: subject.spared_by,
            ..self.note(told.at, event, because)
        })
    }
}

/// What names a plan: its root and when it was made.
fn plan(root: &str, made: Time) -> String {
    format!("{root}@{}", rfc3339(made))
}

/// What a fact is about.
#[derive(Debug, Default)]
struct Subject<'a> {
    session: Option<&'a Key>,
    path: Option<&'a RelPath>,
    bytes: Option<u64>,
    rule: Option<&'static str>,
    spared_by: Option<u64>,
}

impl<'a> Subject<'a> {
    fn of(fact: &'a Fact) -> Self {
        let of = |transition: &'a Transition| Self {
            session: Some(&transition.key),
            path: Some(&transition.path),
            bytes: Some(transition.parts.bytes),
            rule: Some(transition.deed.rule()),
            spared_by: None,
        };
        match fact {
            Fact::PruneDeleted {
                key,
                path,
                freed,
                because,
                ..
            } => Self {
                session: Some(key),
                path: Some(path),
                bytes: Some(freed.0),
                rule: Some(because.rule().name()),
                spared_by: Some(because.spared_by()),
            },
            Fact::PruneSkipped {
                key, path, because, ..
            } => Self {
                session: Some(key),
                path: Some(path),
                bytes: None,
                rule: Some(because.rule().name()),
                spared_by: None,
            },
            Fact::LifecycleFailed(transition)
            | Fact::LifecyclePartsDeleted(transition)
            | Fact::LifecycleSkipped { transition, .. } => of(transition),
            _ => Self::default(),
        }
    }
}

fn stays(why: &Skip, because: &dyn std::fmt::Display) -> String {
    match skip_reason(why) {
        (reason, Some(errno)) => {
            let cause = std::io::Error::from_raw_os_error(errno);
            format!("it stays: {reason} is refused ({cause}); it was to go because {because}")
        }
        (reason, None) => format!("it stays: {reason}; it was to go because {because}"),
    }
}

fn taken_over(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "the lock of an unknown holder was taken over".to_owned(),
        |h| {
            let (host, pid, since) = (&h.host, h.pid, &h.since);
            format!("the lock of process {pid} on {host}, held since {since}, was taken over")
        },
    )
}

/// Is given a fact when it happened: at that time, with how the root was.
pub type Listener = dyn Fn(&Fact, Time, Moment) + Send + Sync;

/// Who hears of facts, as long as anybody tells any.
#[derive(Clone)]
pub struct Hear(pub Arc<Listener>);

impl std::fmt::Debug for Hear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hear")
    }
}

/// Writes what happens to a root into the audit when it happens.
pub fn hear(actor: Actor, root: &str, store: &Store) -> Hear {
    let (root, store) = (root.to_owned(), store.clone());
    let clerk = Mutex::new(Clerk::new(actor));
    Hear(Arc::new(move |fact, at, moment| {
        let told = Told {
            at,
            root: &root,
            fact,
            moment,
        };
        let mut clerk = clerk.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = clerk.entry(&told).into_iter();
        entry.for_each(|entry| store.audit(entry));
    }))
}
