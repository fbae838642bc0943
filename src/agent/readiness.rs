//! Whether a root does what it is for, and what keeps it from that: the one list of rules that
//! `status`, `/ready` and whoever else asks go by. Pure. What is said names no path.

use crate::agent::published::{View, Watching};
use crate::config::settings::Root;
use crate::model::report::LockTrouble;
use crate::model::watcher::Backend;
use crate::store::{Condition, State};
use std::time::Duration;

/// A burst is over in milliseconds, a command that prunes in seconds: who holds the lock of a
/// root that is over its limit for longer keeps that limit from holding.
const LONG_BUSY: Duration = Duration::from_secs(10);

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// It works, not as it should.
    Degraded,
    /// What it is for is not done.
    Down,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// How one part is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub component: &'static str,
    pub level: Level,
    pub message: String,
}

impl Finding {
    pub fn new(component: &'static str, level: Level, message: impl Into<String>) -> Self {
        Self {
            component,
            level,
            message: message.into(),
        }
    }

    fn down(component: &'static str, message: impl Into<String>) -> Self {
        Self::new(component, Level::Down, message)
    }

    fn ok(component: &'static str, message: impl Into<String>) -> Self {
        Self::new(component, Level::Ok, message)
    }
}

/// What is published of a root, judged.
pub fn of_root(root: &Root, view: &View) -> [Finding; 4] {
    [watcher(view), index(view), lock(view), limits(root, view)]
}

fn watcher(view: &View) -> Finding {
    let say = |message| Finding::down("watcher", message);
    match view.watching {
        Watching::Starting => say("it has not begun yet".to_owned()),
        Watching::Suspect => say("hints were lost; a scan is on its way".to_owned()),
        Watching::Absent => say("the root is not at its path".to_owned()),
        Watching::Stopped => say("it was stopped".to_owned()),
        Watching::Watching => match view.figures.n_unwatched {
            0 => Finding::ok("watcher", view.backend.map_or("none", Backend::name)),
            n => say(format!(
                "{n} directories have no watch: changes there are seen by scans only"
            )),
        },
    }
}

fn index(view: &View) -> Finding {
    let figures = &view.figures;
    match (view.watching, figures.scanned) {
        (Watching::Watching | Watching::Suspect, true) => {
            let message = format!("{} sessions", figures.n_sessions);
            Finding::ok("index", message)
        }
        (Watching::Absent | Watching::Stopped, _) => {
            Finding::down("index", "there is none: nobody looks after the root")
        }
        (Watching::Starting, _) | (_, false) => {
            Finding::down("index", "the first scan has not ended yet")
        }
    }
}

fn lock(view: &View) -> Finding {
    match view.figures.lock.as_ref().map(|wait| &wait.trouble) {
        None => Finding::ok("lock", "not wanted, or had"),
        Some(LockTrouble::Busy(_)) if view.lock_lasts <= LONG_BUSY => {
            Finding::ok("lock", "another pruner is at work")
        }
        Some(LockTrouble::Busy(_)) => Finding::down(
            "lock",
            "another holds it for long, and a limit is passed meanwhile",
        ),
        Some(LockTrouble::Failed { .. }) => Finding::down("lock", "it cannot be taken"),
    }
}

fn limits(root: &Root, view: &View) -> Finding {
    let figures = &view.figures;
    let say = |message: &str| Finding::down("limits", message);
    let trash = figures.trash_bytes.saturating_sub(figures.kept_bytes);
    if !root.problems.is_empty() {
        say("the root's configuration has errors: it is watched and not pruned")
    } else if figures.held {
        say("a first plan takes more than half: it waits to be accepted")
    } else if figures.pins_trouble.is_some() {
        say("the pins cannot be read: nothing is removed")
    } else if figures.unmet {
        say("what may go is not enough to meet a limit")
    } else if root.limits.trash_presses(trash, false) {
        let message = "more than a tenth of the limit waits in the trash to be removed";
        Finding::new("limits", Level::Degraded, message)
    } else {
        Finding::ok("limits", "they hold, or can be made to")
    }
}

/// How the store is.
pub fn of_store(condition: &Condition) -> Finding {
    let level = match condition.state {
        State::Off | State::Ok => Level::Ok,
        State::Starting => Level::Degraded,
        State::Degraded => Level::Down,
    };
    let message = match condition.backlog {
        0 => condition.state.name().to_owned(),
        n => format!("{}; {n} rows wait to be written", condition.state.name()),
    };
    Finding::new("store", level, message)
}

#[cfg(test)]
mod tests {
    use super::{LONG_BUSY, Level, lock};
    use crate::agent::published::View;
    use crate::model::report::{LockTrouble, LockWait};
    use crate::model::time::Tick;
    use std::time::Duration;

    fn view(trouble: LockTrouble, lasts: Duration) -> View {
        let mut view = View {
            lock_lasts: lasts,
            ..View::default()
        };
        let since = Tick::default();
        view.figures.lock = Some(LockWait { trouble, since });
        view
    }

    #[test]
    fn a_lock_that_is_busy_for_long_or_fails_is_lost() {
        let busy = |lasts| view(LockTrouble::Busy(None), lasts);
        assert_eq!(lock(&View::default()).level, Level::Ok);
        assert_eq!(lock(&busy(LONG_BUSY)).level, Level::Ok);
        let long = busy(LONG_BUSY + Duration::from_millis(1));
        assert_eq!(lock(&long).level, Level::Down);
        let (operation, errno) = ("open .housekeeper", libc::ENOSPC);
        let failed = view(LockTrouble::Failed { operation, errno }, Duration::ZERO);
        assert_eq!(lock(&failed).level, Level::Down);
    }
}
