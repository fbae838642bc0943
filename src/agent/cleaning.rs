//! One run of a registered clean-up: the registration is judged once more, becomes a root, and is
//! looked at and pruned as every other root is without an agent. What came of it is a row of runs,
//! rows of the audit, log lines, and a line of a report.

use crate::agent::audit::{self, Hear};
use crate::agent::halt::Halt;
use crate::agent::service::chain;
use crate::agent::survey::{Manner, Survey, SurveyError, survey_at};
use crate::config::cleanup::Beside;
use crate::config::cleanup::ground::Ground;
use crate::config::cleanup::layout::{preset_of, root_of};
use crate::config::settings::{Mode, Root, Settings};
use crate::model::bytes::Bytes;
use crate::model::cleanup::Cleanup;
use crate::model::fact::Fact;
use crate::model::path::escape;
use crate::model::plan::{Because, Plan};
use crate::model::time::Clock;
use crate::report::{Detail, Report};
use crate::store::Store;
use crate::store::audit::Actor;
use crate::store::error::StoreError;
use crate::store::reports::ReportDir;
use crate::store::runs::Run;
use crate::store::state::StateDir;
use crate::telemetry::tell::tell;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ulid::Ulid;

/// Between two tries for a lock that somebody else has, each of which looks at the directory: at
/// first, and at most.
const BUSY: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the store is waited for; a run goes on without it.
const STORE: Duration = Duration::from_secs(10);
/// Files that an answer names; it counts all.
const MAX_NAMED: usize = 1000;

/// What every run works with.
#[derive(Clone)]
pub struct Means {
    pub store: Store,
    pub settings: Arc<Settings>,
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").finish_non_exhaustive()
    }
}

/// A run to be.
#[derive(Debug, Clone)]
pub struct Task {
    pub cleanup: Cleanup,
    /// All that are registered.
    pub others: Arc<[Cleanup]>,
    /// Asked for. What is read-only, and what the configuration says, comes on top.
    pub dry_run: bool,
    pub actor: Actor,
    /// Once it is due nothing more is removed.
    pub stop: Halt,
    /// The longest that it may take; `None`: whoever started it watches the time.
    pub timeout: Option<Duration>,
    /// How long somebody else's lock is waited for.
    pub lock_patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Something that should have gone stays.
    Unmet,
    Failed,
    /// Another pruner holds the lock.
    Busy,
    /// It was told to stop.
    Stopped,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Done {
    pub detail: Detail,
    pub outcome: Outcome,
    /// The files that went or would go, the first thousand, oldest first.
    files: Vec<Value>,
}

#[derive(Debug, Default)]
struct Figures {
    files_deleted: u64,
    space_freed: Bytes,
    files_kept: u64,
    files: Vec<Value>,
}

impl Figures {
    fn count(&mut self, path: String, freed: Bytes, because: &Because) {
        self.files_deleted += 1;
        self.space_freed = self.space_freed.saturating_add(freed);
        if self.files.len() < MAX_NAMED {
            self.files.push(json!({
                "path": path,
                "bytes": freed.0,
                "rule": because.rule().name(),
                "because": because.to_string(),
            }));
        }
    }
}

/// Carries a task out. It never fails: what went wrong is in what came of it.
pub fn run(task: &Task, means: &Means) -> Done {
    let dry_run = task.dry_run || is_dry(&task.cleanup, &means.settings);
    let started = means.clock.now().wall;
    let mut row = Run {
        id: Ulid::generate().to_string(),
        cleanup: task.cleanup.id.clone(),
        cause: task.actor.name().to_owned(),
        started_at: started,
        ended_at: None,
        outcome: "running".to_owned(),
        dry_run,
        files_deleted: 0,
        bytes_freed: 0,
        files_kept: 0,
        message: String::new(),
    };
    put_run(&row, means);
    let mut task = task.clone();
    if let Some(timeout) = task.timeout {
        task.stop = task.stop.or_at(Instant::now() + timeout);
    }
    let task = &task;
    let (outcome, figures, message) = match clean(task, means, dry_run) {
        Ok((outcome, figures, message)) => (outcome, figures, message),
        Err(why) => (Outcome::Failed, Figures::default(), why),
    };
    if !task.dry_run {
        let noted = means.store.note_run(task.cleanup.id.clone(), started);
        heed(noted.wait_for(STORE).map(|_| ()));
    }
    row.ended_at = Some(means.clock.now().wall);
    row.outcome = match outcome {
        Outcome::Done => "done",
        Outcome::Unmet | Outcome::Failed | Outcome::Busy => "failed",
        Outcome::Stopped => "timeout",
    }
    .to_owned();
    row.files_deleted = figures.files_deleted;
    row.bytes_freed = figures.space_freed.0;
    row.files_kept = figures.files_kept;
    row.message.clone_from(&message);
    put_run(&row, means);
    let detail = Detail {
        id: task.cleanup.id.clone(),
        directory: task.cleanup.directory.clone(),
        pattern: task.cleanup.pattern.clone(),
        preset: preset_of(&task.cleanup).unwrap_or_default(),
        success: outcome == Outcome::Done,
        dry_run,
        files_deleted: figures.files_deleted,
        space_freed: figures.space_freed,
        files_kept: figures.files_kept,
        message,
    };
    log(&detail, outcome);
    Done {
        detail,
        outcome,
        files: figures.files,
    }
}

/// Whether a registration changes nothing, whoever runs it.
pub fn is_dry(cleanup: &Cleanup, settings: &Settings) -> bool {
    cleanup.read_only || removes_nothing(settings)
}

/// Whether the configuration lets no registration change anything.
pub fn removes_nothing(settings: &Settings) -> bool {
    let registry = &settings.registry;
    registry.dry_run || registry.read_only || settings.agent.mode == Mode::Observe
}

fn log(detail: &Detail, outcome: Outcome) {
    let root = &detail.id;
    if outcome == Outcome::Done {
        tracing::info!(
            event = "cleanup.done",
            cleanup = %root,
            files_deleted = detail.files_deleted,
            freed_bytes = detail.space_freed.0,
            dry_run = detail.dry_run,
            "{}", detail.message
        );
    } else {
        tracing::warn!(
            event = "cleanup.failed",
            cleanup = %root,
            files_deleted = detail.files_deleted,
            freed_bytes = detail.space_freed.0,
            dry_run = detail.dry_run,
            "{}", detail.message
        );
    }
}

/// The history may have a gap; the run itself does not stop for it.
fn heed(written: Result<(), StoreError>) {
    match written {
        Ok(()) | Err(StoreError::Off) => {}
        Err(error) => {
            tracing::warn!(event = "cleanup.unrecorded", error = %error, "a run is not in the history");
        }
    }
}

fn put_run(row: &Run, means: &Means) {
    if means.settings.registry.job_history {
        heed(means.store.put_run(row.clone()).wait_for(STORE));
    }
}

fn clean(task: &Task, means: &Means, dry_run: bool) -> Result<(Outcome, Figures, String), String> {
    let ground = ground(&task.others, &means.settings);
    let root = root_on(&ground, &task.cleanup)?;
    drop(ground);
    let deadline = Instant::now() + task.lock_patience;
    let mut pause = BUSY;
    // The time may be over in the middle of the last try for the lock.
    let mut was_busy = false;
    loop {
        let manner = manner(&root, task, means, dry_run)?;
        let survey = match survey_at(&root, manner, means.clock.clone()) {
            Ok(survey) => survey,
            Err(SurveyError::Stopped) if was_busy => return Ok(busy(Figures::default())),
            Err(SurveyError::Stopped) => {
                return Ok(stopped(Figures::default(), counted(&task.cleanup)));
            }
            Err(error) => return Err(chain(&error)),
        };
        let is_busy = survey.was_busy() && !survey.plan.victims.is_empty();
        let may_wait = Instant::now() < deadline && !task.stop.is_due();
        if is_busy && may_wait {
            survey.end();
            was_busy = true;
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            continue;
        }
        tell_all(task, means, &root, &survey);
        let ended = judge_end(task, &root, &survey, dry_run);
        survey.end();
        return Ok(ended);
    }
}

/// What registrations lie beside at this moment.
pub fn ground<'a>(others: &'a [Cleanup], settings: &'a Settings) -> Ground<'a> {
    Ground::survey(Beside {
        agent: &settings.agent,
        registry: &settings.registry,
        roots: &settings.roots,
        others,
    })
}

/// The root of a registration, if it is lawful on this ground.
///
/// # Errors
/// It is not; a sentence with the reason.
pub fn root_on(ground: &Ground<'_>, cleanup: &Cleanup) -> Result<Root, String> {
    let is = ground.judge(cleanup)?;
    let root = root_of(cleanup)?;
    if is != root.path {
        return Err(format!(
            "the directory {} leads to {} now; register it again",
            cleanup.directory,
            escape(is.as_os_str().as_bytes())
        ));
    }
    Ok(root)
}

fn manner(root: &Root, task: &Task, means: &Means, dry_run: bool) -> Result<Manner, String> {
    let state_dir = &means.settings.agent.state_dir;
    let look = Manner {
        patience: root.protect.quiet,
        stop: task.stop.clone(),
        ..Manner::look(state_dir)
    };
    if dry_run {
        return Ok(look);
    }
    let state = match StateDir::open(state_dir).and_then(|state| state.root(&root.path)) {
        Ok(state) => Some(state),
        // To wait for room would be to wait for this run.
        Err(error) if error.is_no_room() => {
            tracing::warn!(event = "state.unwritten", cleanup = %task.cleanup.id, error = %chain(&error), "a clean-up runs without its place in the state directory");
            None
        }
        Err(error) => return Err(chain(&error)),
    };
    Ok(Manner {
        enforce: true,
        lock_stale: crate::agent::root::LOCK_STALE,
        hear: Some(hear(root, task, means)),
        state,
        ..look
    })
}

/// Audits and logs what happens when it does: the agent may be killed in the middle of it.
fn hear(root: &Root, task: &Task, means: &Means) -> Hear {
    let name = root.name.clone();
    let audit = audit::hear(task.actor, &name, &means.store);
    Hear(Arc::new(move |fact, at, moment| {
        tell(&name, fact);
        (audit.0)(fact, at, moment);
    }))
}

/// What nobody heard of when it happened: another had the lock, or nothing was to be removed.
fn tell_all(task: &Task, means: &Means, root: &Root, survey: &Survey) {
    if survey.was_heard() {
        return;
    }
    let hear = hear(root, task, means);
    for fact in survey.facts() {
        (hear.0)(fact, survey.now().wall, survey.engine().moment());
    }
}

fn judge_end(
    task: &Task,
    root: &Root,
    survey: &Survey,
    dry_run: bool,
) -> (Outcome, Figures, String) {
    let n_left = survey.engine().figures().n_sessions;
    let mut figures = Figures::default();
    if dry_run {
        for victim in &survey.plan.victims {
            figures.count(
                victim.shown_path().to_string(),
                victim.freed,
                &victim.because,
            );
        }
        figures.files_kept = n_left.saturating_sub(figures.files_deleted);
    } else {
        for fact in survey.facts() {
            if let Fact::PruneDeleted {
                path,
                freed,
                because,
                ..
            } = fact
            {
                figures.count(path.to_string(), *freed, because);
            }
        }
        figures.files_kept = n_left;
    }
    let left = survey.left.as_ref().unwrap_or(&survey.plan);
    let stays = if dry_run { 0 } else { left.victims.len() };
    if survey.was_busy() && stays > 0 {
        return busy(figures);
    }
    let of = counted(&task.cleanup);
    let what = sentence(&figures, of, dry_run);
    if stays == 0 && left.meets_limits() {
        return (Outcome::Done, figures, what);
    }
    if !dry_run && task.stop.is_due() {
        return stopped(figures, of);
    }
    let message = format!("{what}; {}", why_stays(left, stays, root, of));
    (Outcome::Unmet, figures, message)
}

fn busy(figures: Figures) -> (Outcome, Figures, String) {
    let message = "another pruner holds the lock; nothing was removed".to_owned();
    (Outcome::Busy, figures, message)
}

fn stopped(figures: Figures, of: &str) -> (Outcome, Figures, String) {
    let message = format!(
        "told to stop, by [registry] job_timeout or because it is not wanted any more: {}",
        sentence(&figures, of, false)
    );
    (Outcome::Stopped, figures, message)
}

fn sentence(figures: &Figures, of: &str, dry_run: bool) -> String {
    let (n_files, bytes) = (figures.files_deleted, figures.space_freed.0);
    match (n_files, figures.files_kept, dry_run) {
        (0, 0, _) => format!("No matching {of} found"),
        (_, _, true) => {
            format!("[DRY RUN] Would delete {n_files} {of}, freeing {bytes} bytes")
        }
        (_, _, false) => format!("Deleted {n_files} {of}, freeing {bytes} bytes"),
    }
}

/// What a registration counts.
fn counted(cleanup: &Cleanup) -> &'static str {
    match cleanup.layout {
        None => "files",
        Some(_) => "sessions",
    }
}

fn why_stays(left: &Plan, stays: usize, root: &Root, of: &str) -> String {
    let held: Vec<String> = left
        .blocked
        .iter()
        .map(|(by, held)| format!("{} {}", held.n_sessions, by.name()))
        .collect();
    if held.is_empty() {
        return format!(
            "{stays} {of} of {} stay that should go: see the log",
            root.name
        );
    }
    format!("{of} stay that should go: {}", held.join(", "))
}

/// Writes the report of a run, where reports are wanted; answers its path. What cannot be written is
/// a warning.
pub fn report(done: &[Done], dry_run: bool, means: &Means) -> (Report, Option<PathBuf>) {
    let registry = &means.settings.registry;
    let details = done.iter().map(|done| done.detail.clone());
    let report = Report {
        at: means.clock.now().wall,
        dry_run,
        details: details.collect(),
    };
    if !registry.report {
        return (report, None);
    }
    let dir = ReportDir::new(&registry.report_directory, registry.report_keep);
    let path = match dir.write(&report, Ulid::generate()) {
        Ok(written) => {
            if let Some(left) = written.left {
                tracing::warn!(event = "report.left", error = %chain(&left), "old reports stay");
            }
            Some(written.path)
        }
        Err(error) => {
            tracing::warn!(event = "report.unwritten", error = %chain(&error), "a run has no report");
            None
        }
    };
    (report, path)
}

/// What a run answers whoever asked for it: the report's document, its `report` file, the files,
/// and an `exit_code` (1 before 2 before 0).
pub fn answer(done: &[Done], asked_dry: bool, means: &Means) -> Value {
    let is_dry = |done: &Done| done.detail.dry_run;
    let dry_run = asked_dry || (!done.is_empty() && done.iter().all(is_dry));
    let (report, path) = report(done, dry_run, means);
    let mut document = report.document();
    for (n, done) in done.iter().enumerate() {
        document["details"][n]["files"] = done.files.clone().into();
    }
    document["report"] = path.map(|path| escape(path.as_os_str().as_bytes())).into();
    let has = |outcome| done.iter().any(|done: &Done| done.outcome == outcome);
    let fails = [Outcome::Failed, Outcome::Unmet, Outcome::Stopped];
    document["exit_code"] = match () {
        () if fails.into_iter().any(has) => 1,
        () if has(Outcome::Busy) => 2,
        () => 0,
    }
    .into();
    document
}
