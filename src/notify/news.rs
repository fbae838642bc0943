//! Facts to notices: which are worth one, and what makes two of them the same.

use crate::model::count::Count;
use crate::model::fact::Fact;
use crate::model::notice::{Notice, Topic};
use crate::model::path::escape;
use crate::model::report::{Skip, Unlist};

/// When what was told is told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Once {
    /// Not before it was over, restarts included.
    UntilOver,
    /// The teller tells it once itself, but tells what still holds again after a restart.
    ARun,
    /// It is tried, and fails, again and again: once a day.
    ADay,
}

/// What a fact means here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    Told {
        /// The same for the same thing.
        key: String,
        once: Once,
        notice: Notice,
    },
    /// What was told under this key holds no longer.
    Over {
        key: String,
    },
    /// A full scan of the root has told all that it found.
    Scanned,
}

/// All keys of anomalies in a root begin so.
pub(super) fn anomalies_of(root: &str) -> String {
    key(Topic::Anomaly, root, "anomaly.found", &[])
}

/// The key of a root that is not at its path.
pub(super) fn absence_of(root: &str) -> String {
    key(Topic::Degraded, root, ABSENT, &[])
}

const ABSENT: &str = "root.absent";

/// Names may hold anything but NUL, and root names are checked: no two things share a key.
fn key(topic: Topic, root: &str, event: &str, subject: &[&str]) -> String {
    let mut key = format!("{}\0{root}\0{event}\0", topic.name());
    for part in subject {
        key.push_str(part);
        key.push('\0');
    }
    key
}

/// A notice in the making.
struct Draft<'a> {
    root: &'a str,
    topic: Topic,
    event: &'static str,
    details: Vec<(&'static str, String)>,
}

impl<'a> Draft<'a> {
    fn new(topic: Topic, root: &'a str, event: &'static str) -> Self {
        Self {
            root,
            topic,
            event,
            details: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.push((name, value.to_string()));
        self
    }

    /// `subject`: what tells it from others of its event.
    fn say(self, once: Once, subject: &[&str], message: String) -> News {
        News::Told {
            key: key(self.topic, self.root, self.event, subject),
            once,
            notice: Notice {
                topic: self.topic,
                event: self.event,
                root: Some(self.root.to_owned()),
                message,
                details: self.details,
            },
        }
    }
}

/// What to do about a fact.
pub(super) fn of(root: &str, fact: &Fact) -> News {
    match fact {
        Fact::TargetUnmet { .. } | Fact::PruneNoop { .. } => unmet(root, fact),
        Fact::AnomalyFound { .. } | Fact::AnomalyCleared { .. } | Fact::AnomaliesMore { .. } => {
            anomaly(root, fact)
        }
        Fact::ScanDone { .. } => News::Scanned,
        Fact::PruneSkipped { .. }
        | Fact::LifecycleSkipped { .. }
        | Fact::LockFailed { .. }
        | Fact::IntentRefused { .. }
        | Fact::TrashLeft { .. }
        | Fact::Unlisted { .. } => failure(root, fact),
        Fact::WatchLost { .. }
        | Fact::WatchDegraded { .. }
        | Fact::BackendDegraded { .. }
        | Fact::RootHeld { .. }
        | Fact::RootMoved
        | Fact::RootBack
        | Fact::LockStale { .. }
        | Fact::ClockHeld { .. } => degraded(root, fact),
        Fact::CycleStart { .. }
        | Fact::CycleEnd { .. }
        | Fact::PruneCheck { .. }
        | Fact::PruneStarted { .. }
        | Fact::PruneDeleted { .. }
        | Fact::PruneSummary(_)
        | Fact::LockBusy { .. }
        | Fact::StateChanged { .. }
        | Fact::LifecycleFailed(_)
        | Fact::LifecyclePartsDeleted(_) => News::None,
    }
}

const UNMET: &str = "prune.target_unmet";

fn unmet(root: &str, fact: &Fact) -> News {
    let Fact::TargetUnmet {
        usage,
        limit,
        still_over,
        blocked,
    } = fact
    else {
        return News::Over {
            key: key(Topic::TargetUnmet, root, UNMET, &[]),
        };
    };
    let by = blocked
        .iter()
        .map(|(blocker, held)| format!("{} {} ({})", held.n_sessions, blocker.name(), held.bytes));
    let by: Vec<String> = by.collect();
    let by = if by.is_empty() {
        "nothing".to_owned()
    } else {
        by.join(", ")
    };
    let mut draft = Draft::new(Topic::TargetUnmet, root, UNMET)
        .with("usage_bytes", usage.0)
        .with("still_over_bytes", still_over.0)
        .with("blocked", &by);
    if let Some(limit) = limit {
        draft = draft.with("limit_bytes", limit.0);
    }
    let message = format!(
        "{root} cannot be brought under its limits: {still_over} too many stay; in the way: {by}"
    );
    draft.say(Once::ARun, &[], message)
}

fn anomaly(root: &str, fact: &Fact) -> News {
    const FOUND: &str = "anomaly.found";
    match fact {
        Fact::AnomalyFound { kind, path, bytes } => {
            let path = path.to_string();
            let message = format!("{path} in {root} needs a look: {kind}");
            Draft::new(Topic::Anomaly, root, FOUND)
                .with("kind", kind)
                .with("path", &path)
                .with("bytes", bytes.0)
                .say(Once::UntilOver, &[kind.name(), &path], message)
        }
        Fact::AnomalyCleared { kind, path } => News::Over {
            key: key(
                Topic::Anomaly,
                root,
                FOUND,
                &[kind.name(), &path.to_string()],
            ),
        },
        Fact::AnomaliesMore { kind, found, .. } if *found > 0 => {
            let message = format!("{found} more in {root} need a look: {kind}");
            Draft::new(Topic::Anomaly, root, "anomaly.more")
                .with("kind", kind)
                .with("more_found", found)
                .say(Once::ARun, &[kind.name()], message)
        }
        _ => News::None,
    }
}

/// The kernel's number, where the disk or its owner said no. What is skipped because it is in use
/// is no failure.
fn refused(why: &Skip) -> Option<(&'static str, Option<i32>)> {
    match why {
        Skip::Refused { operation, errno } => Some((operation, Some(*errno))),
        Skip::StrangerKept => Some(("stranger_kept_in_trash", None)),
        Skip::Replaced
        | Skip::Changed
        | Skip::Quiet
        | Skip::Locked
        | Skip::Open
        | Skip::Stranger
        | Skip::RootMoved
        | Skip::Pinned
        | Skip::Stopping => None,
    }
}

fn failure(root: &str, fact: &Fact) -> News {
    let draft = |event| Draft::new(Topic::Failure, root, event);
    match fact {
        Fact::PruneSkipped { key, path, why, .. } => match refused(why) {
            Some(reason) => skipped(draft("prune.skipped"), key, &path.to_string(), reason),
            None => News::None,
        },
        Fact::LifecycleSkipped { transition, why } => match refused(why) {
            Some(reason) => {
                let path = transition.path.to_string();
                skipped(draft("lifecycle.skipped"), &transition.key, &path, reason)
            }
            None => News::None,
        },
        Fact::LockFailed { operation, errno } => draft("lock.failed")
            .with("operation", operation)
            .with("errno", errno)
            .say(
                Once::ADay,
                &[operation],
                format!("the lock of {root} cannot be used: {operation} fails with errno {errno}"),
            ),
        Fact::IntentRefused { record, why, .. } => draft("intent.refused")
            .with("record", record)
            .with("reason", why)
            .say(
                Once::ADay,
                &[record],
                format!("a record of an unfinished removal in {root} is not carried out: {why}"),
            ),
        Fact::TrashLeft { left } => {
            let first = left
                .first()
                .map(|(path, errno)| format!("{path}: errno {errno}"));
            let first = first.unwrap_or_default();
            draft("trash.left")
                .with("entries", left.len())
                .with("first", &first)
                .say(
                    Once::ADay,
                    &[],
                    format!("something in the trash of {root} could not be removed: {first}"),
                )
        }
        Fact::Unlisted { n_entries, result } => match result {
            Unlist::Done => News::None,
            Unlist::NoLease(_) | Unlist::Failed { .. } | Unlist::Unparsable => {
                draft("catalogue.unchanged").with("entries", n_entries).say(
                    Once::ADay,
                    &[],
                    format!("{n_entries} entries stay in the catalogue of {root} for now"),
                )
            }
        },
        _ => News::None,
    }
}

fn skipped(
    draft: Draft<'_>,
    session: &[u8],
    path: &str,
    (reason, errno): (&'static str, Option<i32>),
) -> News {
    let root = draft.root;
    let errno = errno.map(|errno| errno.to_string()).unwrap_or_default();
    let message = format!("{path} in {root} was to go and stays: {reason} {errno}");
    draft
        .with("session", escape(session))
        .with("path", path)
        .with("reason", reason)
        .with("errno", &errno)
        .say(
            Once::ADay,
            &[path, reason, &errno],
            message.trim_end().to_owned(),
        )
}

fn degraded(root: &str, fact: &Fact) -> News {
    let draft = |event| Draft::new(Topic::Degraded, root, event);
    match fact {
        Fact::WatchLost { n_losses } => draft("watch.lost").with("losses", n_losses).say(
            Once::ADay,
            &[],
            format!("events of {root} were lost: it is scanned"),
        ),
        Fact::WatchDegraded { n_unwatched } => draft("watch.degraded")
            .with("unwatched", n_unwatched)
            .say(Once::ADay, &["unwatched"], format!(
                "{n_unwatched} directories of {root} have no watch: raise fs.inotify.max_user_watches"
            )),
        Fact::BackendDegraded { to, why } => draft("watch.degraded")
            .with("backend", to.name())
            .with("reason", why)
            .say(Once::ADay, &["backend", to.name()], format!(
                "changes of {root} are found by {} now: {why}", to.name()
            )),
        Fact::RootHeld {
            n_victims, freed, ..
        } => draft("root.held")
            .with("victims", n_victims)
            .with("freed_bytes", freed.0)
            .say(Once::ADay, &[], format!(
                "the first plan for {root} would remove {} ({freed}): it waits for `housekeeper accept {root}`",
                Count(*n_victims, "session")
            )),
        Fact::RootMoved => draft(ABSENT).say(
            Once::UntilOver,
            &[],
            format!("{root} is not at its path: nothing is removed"),
        ),
        Fact::RootBack => News::Over {
            key: absence_of(root),
        },
        Fact::LockStale { .. } => draft("lock.stale").say(
            Once::ADay,
            &[],
            format!("the lock of {root} was taken over from a holder that stood still"),
        ),
        Fact::ClockHeld { reason } => draft("clock.held").with("reason", reason).say(
            Once::ADay,
            &[reason],
            format!("age rules of {root} wait: {reason}"),
        ),
        _ => News::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::anomaly::AnomalyKind;
    use crate::model::bytes::Bytes;
    use crate::model::path::RelPath;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a path below")
    }

    fn told(root: &str, fact: &Fact) -> (String, Notice) {
        match of(root, fact) {
            News::Told { key, notice, .. } => (key, notice),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_over_has_the_key_of_what_was_told() {
        let (kind, at) = (AnomalyKind::OrphanBlob, path("a/b"));
        let found = Fact::AnomalyFound {
            kind,
            path: at.clone(),
            bytes: Bytes(5),
        };
        let unmet = Fact::TargetUnmet {
            usage: Bytes(9),
            limit: None,
            still_over: Bytes(1),
            blocked: Vec::new(),
        };
        let noop = Fact::PruneNoop {
            usage: Bytes(1),
            limit: None,
            n_sessions: 1,
        };
        for (fact, over) in [
            (&found, Fact::AnomalyCleared { kind, path: at }),
            (&unmet, noop),
            (&Fact::RootMoved, Fact::RootBack),
        ] {
            let (key, _) = told("r", fact);
            assert_ne!(key, told("rr", fact).0);
            assert_eq!(of("r", &over), News::Over { key });
        }
        assert!(told("r", &found).0.starts_with(&anomalies_of("r")));
        assert!(!told("rr", &found).0.starts_with(&anomalies_of("r")));
        assert_eq!(told("r", &Fact::RootMoved).0, absence_of("r"));
    }

    #[test]
    fn what_the_disk_refuses_is_a_failure_and_what_is_in_use_is_none() {
        let skipped = |why| Fact::PruneSkipped {
            key: (&b"s"[..]).into(),
            path: path("s"),
            because: crate::model::plan::Because::TooMany {
                n_sessions: 2,
                max_count: 1,
            },
            why,
            moment: crate::model::fact::Moment::default(),
        };
        let refused = |errno| Skip::Refused {
            operation: "rename",
            errno,
        };
        let (key, notice) = told("r", &skipped(refused(1)));
        assert_eq!(notice.topic, Topic::Failure);
        assert!(notice.message.contains("rename 1"), "{}", notice.message);
        assert_ne!(key, told("r", &skipped(refused(30))).0);
        for why in [Skip::Quiet, Skip::Locked, Skip::Open, Skip::Stopping] {
            assert_eq!(of("r", &skipped(why)), News::None);
        }
    }
}
