//! One look at a root without watching it: what `scan`, `plan` and `prune-size` are made of.

use crate::agent::apart;
use crate::agent::audit::Hear;
use crate::agent::halt::Halt;
use crate::agent::jobs::Jobs;
use crate::agent::leftovers;
use crate::agent::mailbox::Inbox;
use crate::agent::shell::{Ear, Shell, Tools};
use crate::clock::SystemClock;
use crate::config::settings::Root;
use crate::disk::DiskError;
use crate::disk::records::RecordDir;
use crate::disk::removed::RemovedIds;
use crate::disk::tree::Tree;
use crate::engine::{Command, Engine, Input, Rules};
use crate::layout::spec::Kind;
use crate::model::bytes::Bytes;
use crate::model::fact::Fact;
use crate::model::plan::Plan;
use crate::model::time::{Clock, Now};
use crate::prune::lock::RootLock;
use crate::store::pin_file::PinFile;
use crate::store::state::{RootState, StateError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a root could not be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error("the root {path} cannot be opened")]
    Open {
        path: String,
        #[source]
        source: DiskError,
    },
    #[error("it was moved or replaced meanwhile")]
    Moved,
    #[error("it was told to stop before it had looked at everything")]
    Stopped,
    #[error("no thread could be started")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

/// How a root is surveyed.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Removes what the rules want. Else nothing on the disk changes.
    pub enforce: bool,
    pub group: Option<Arc<str>>,
    pub lock_stale: Duration,
    /// Where unfinished work is written when the root has no space.
    pub state: Option<RootState>,
    /// Where pins are kept.
    pub state_dir: PathBuf,
    /// What was written to just now is waited for at most so long: it may be older than it seems.
    pub patience: Duration,
    /// Once it is due nothing more is removed.
    pub stop: Halt,
    /// Hears at once of what happens under the root's lock.
    pub hear: Option<Hear>,
}

impl Manner {
    /// A look that changes nothing. The state directory is where pins are.
    pub fn look(state_dir: &Path) -> Self {
        Self {
            enforce: false,
            group: None,
            lock_stale: Duration::MAX,
            state: None,
            state_dir: state_dir.to_owned(),
            patience: Duration::ZERO,
            stop: Halt::default(),
            hear: None,
        }
    }
}

/// A root that was looked at once.
#[derive(Debug)]
pub struct Survey {
    shell: Shell,
    answers: Inbox<Input>,
    pub duration: Duration,
    /// What was used, and what was to go, before anything went.
    pub plan: Plan,
    pub bytes: Bytes,
    /// What was to go still when nothing more could. `None`: nothing was to be removed.
    pub left: Option<Plan>,
}

/// The rules of a configured root.
pub fn rules_of(root: &Root, rescan_interval: Duration) -> Rules {
    Rules {
        layout: root.layout.clone(),
        limits: root.limits.clone(),
        protect: root.protect.clone(),
        lifecycle: root.lifecycle.clone(),
        enforce: false,
        group: None,
        rescan_interval,
        trash_keep: root.trash_keep,
        first_start_enforce: root.first_start == crate::config::settings::FirstStart::Enforce,
    }
}

/// Where unfinished work is written when the root has no space, in the root's corner of the
/// state directory. Nothing else lies there: what is no record is discarded.
pub const INTENTS: &str = "intents";

/// The shortest wait for what is quiet soon.
const MOMENT: Duration = Duration::from_millis(10);

/// Nothing is due by itself in a survey.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Looks at a root until all is known, and, where `manner` says so, removes until nothing more
/// is to be removed now.
///
/// # Errors
/// The root cannot be opened or listed.
pub fn survey(root: &Root, manner: Manner) -> Result<Survey, SurveyError> {
    survey_at(root, manner, Arc::new(SystemClock::start()))
}

/// The same, where this clock says what time it is.
///
/// # Errors
/// The root cannot be opened or listed.
pub fn survey_at(
    root: &Root,
    manner: Manner,
    clock: Arc<dyn Clock>,
) -> Result<Survey, SurveyError> {
    let path = root.path.display().to_string();
    let tree = Tree::open(&root.real)
        .map(Arc::new)
        .map_err(|source| SurveyError::Open { path, source })?;
    let mut rules = rules_of(root, NEVER);
    rules.group = manner.group;
    let catalog = root.layout.kind() == Kind::Catalog;
    let removed = if catalog && manner.enforce {
        RemovedIds::load(tree.clone()).ok()
    } else {
        None
    };
    let state_dir = manner.state.as_ref().map(|state| state.dir().to_owned());
    let observed = state_dir.as_ref().map(|dir| dir.join("lock.observed"));
    let intents = state_dir.map(|dir| dir.join(INTENTS));
    let mut pins = PinFile::of(&manner.state_dir, &root.real);
    let corner = apart::corner(&tree, root, manner.state.as_ref());
    let records = match (&corner, intents) {
        (Some(_), Some(intents)) => RecordDir::apart(tree.clone(), intents),
        (_, intents) => RecordDir::new(tree.clone(), intents),
    };
    let tools = Tools {
        pins: pins.clone(),
        records: Arc::new(records),
        corner,
        removed,
        state: manner.state,
        lock: RootLock::new(manner.lock_stale, observed),
        tree: tree.clone(),
    };
    let ids = tools
        .removed
        .as_ref()
        .map(RemovedIds::ids)
        .unwrap_or_default();
    let records = tools.records.clone();
    let mut engine = Engine::new(rules.clone(), true, ids);
    engine.recall_anomalies(RootState::at(&manner.state_dir, &root.path).anomalies());
    let (jobs, answers) = Jobs::start(tree.clone(), root.layout.clone(), clock.clone(), None, None)
        .map_err(SurveyError::Thread)?;
    let stop = manner.stop;
    let ear = Ear::List {
        facts: Vec::new(),
        hear: manner.hear,
    };
    let mut shell = Shell::new(engine, tools, jobs, clock, ear);
    shell.stop = stop.clone();
    let begun = shell.now();
    let mut survey = Survey {
        shell,
        answers,
        duration: Duration::ZERO,
        plan: Plan::default(),
        bytes: Bytes::ZERO,
        left: None,
    };
    // Held while it is scanned: what another pruner takes out meanwhile would be counted, and
    // others would go in its place.
    let enforce = manner.enforce
        && survey
            .shell
            .keep_lock(|now| leftovers::finish(&tree, &records, root, &pins.load(), now));
    if enforce {
        survey
            .shell
            .input(begun, Input::Command(Command::FollowFiles));
    }
    survey.shell.input(begun, Input::Wake);
    let is_stopped = || stop.is_due();
    survey.run_until(|shell, _| shell.engine.is_settled() || is_stopped())?;
    survey.wait_for_quiet(manner.patience)?;
    if is_stopped() {
        return Err(SurveyError::Stopped);
    }
    let now = survey.shell.now();
    survey.duration = now.tick.since(begun.tick);
    survey.plan = survey.engine().plan(now);
    survey.bytes = survey.engine().usage().bytes;
    if enforce {
        rules.enforce = true;
        let rules = Command::SetRules(Box::new(rules));
        survey.shell.input(now, Input::Command(rules));
        survey.run_until(|shell, now| shell.engine.is_resting(now))?;
        let now = survey.shell.now();
        survey.left = Some(survey.engine().plan(now));
        survey.shell.input(now, Input::Command(Command::Stop));
        survey.shell.let_go();
        survey
            .run_until(|shell, now| shell.engine.is_resting(now) && shell.jobs.n_removing() == 0)?;
    }
    Ok(survey)
}

impl Survey {
    fn run_until(&mut self, done: impl Fn(&Shell, Now) -> bool) -> Result<(), SurveyError> {
        loop {
            self.shell.speak();
            self.shell.touch_lock();
            let now = self.shell.now();
            if self.shell.moved {
                return Err(SurveyError::Moved);
            }
            if done(&self.shell, now) && self.answers.is_empty() {
                return Ok(());
            }
            let due = self.shell.engine.wake_at(now).map(|at| at.since(now.tick));
            // Removals end without an answer when nothing was there to remove.
            let wait = due.unwrap_or(NEVER).min(Duration::from_millis(20));
            let answer = self.answers.take_until(Instant::now() + wait);
            let input = answer.unwrap_or(Input::Wake);
            let now = self.shell.now();
            self.shell.input(now, input);
        }
    }

    /// Waits until what was written to just now has been left alone for long enough: else newer
    /// sessions would go in its place.
    fn wait_for_quiet(&mut self, patience: Duration) -> Result<(), SurveyError> {
        let end = self.now().tick.after(patience);
        loop {
            let now = self.now();
            let is_over = now.tick >= end || self.shell.stop.is_due();
            if is_over {
                return Ok(());
            }
            let Some(until) = self.engine().plan(now).quiet_until else {
                return Ok(());
            };
            let until = until.max(now.tick.after(MOMENT)).min(end);
            let stop = self.shell.stop.clone();
            self.run_until(|_, now| now.tick >= until || stop.is_due())?;
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.shell.engine
    }

    pub fn now(&self) -> Now {
        self.shell.now()
    }

    /// What happened.
    pub fn facts(&self) -> &[Fact] {
        match &self.shell.ear {
            Ear::List { facts, .. } => facts,
            Ear::Teller(_) => &[],
        }
    }

    /// Whether each fact was heard of when it happened.
    pub fn was_heard(&self) -> bool {
        let is_heard = matches!(self.shell.ear, Ear::List { hear: Some(_), .. });
        is_heard && self.shell.was_locked
    }

    /// Whether another pruner held the lock.
    pub fn was_busy(&self) -> bool {
        self.facts()
            .iter()
            .any(|fact| matches!(fact, Fact::LockBusy { .. }))
    }

    /// Waits for the threads.
    pub fn end(self) {
        let Self { shell, answers, .. } = self;
        drop(answers);
        shell.jobs.join();
    }
}
