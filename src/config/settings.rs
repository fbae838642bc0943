//! What a checked configuration says. Values here can be used without another look.

use crate::layout::Layout;
use crate::model::notice::Receivers;
use crate::model::zone::Zone;
use crate::policy::lifecycle::Lifecycle;
use crate::policy::limits::{Limits, Protect};
use crate::report::Keep;
use crate::schedule::Schedule;
use crate::schedule::dispatcher;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Enforce,
    /// Decides and reports, deletes nothing.
    Observe,
}

/// How the threads on the latency path are scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// Real time where the host allows it, else a short slice.
    #[default]
    Auto,
    Realtime,
    Normal,
}

/// `[agent]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub mode: Mode,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    /// Empty: off.
    pub http: String,
    pub rescan_interval: Duration,
    pub shutdown_grace: Duration,
    pub scheduling: Scheduling,
    /// `[store] url`: the file of the database. `None`: the store is off.
    pub database: Option<PathBuf>,
    /// `[audit]`.
    pub audit_keep: AuditKeep,
}

/// `[audit]`: which rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditKeep {
    pub age: Duration,
    pub max_rows: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Json,
    Text,
    Clef,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter of tracing-subscriber.
    pub level: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    #[default]
    Auto,
    Fanotify,
    Inotify,
    Notify,
    Poll,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FirstStart {
    #[default]
    Hold,
    Enforce,
}

/// Who named a root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// A configured root is never made: absent, it is not ready and looked for.
    #[default]
    File,
    /// `--root DIR`: `run` makes it when absent.
    Flag,
}

/// `[[root]]`.
#[derive(Debug, Clone)]
pub struct Root {
    pub name: String,
    /// Absolute, without `..` and symlinks at its end.
    pub path: PathBuf,
    /// Where the path led when it was judged, without symlinks: what is opened is this place
    /// and no other, whatever is put in its way later.
    pub real: PathBuf,
    pub origin: Origin,
    pub preset: Option<String>,
    pub backend: Backend,
    pub layout: Arc<Layout>,
    pub limits: Limits,
    pub protect: Protect,
    pub lifecycle: Lifecycle,
    pub first_start: FirstStart,
    /// `[root.trash] keep`. Zero: off.
    pub trash_keep: Duration,
    /// Not empty: the root is watched, never pruned, not ready (promise 12). It has no limits then.
    pub problems: Vec<Problem>,
}

/// `[registry]`.
#[derive(Debug, Clone)]
pub struct Registry {
    /// For what has none of its own and is not watched.
    pub schedule: Schedule,
    /// In which cron times are read.
    pub zone: Zone,
    pub limits: dispatcher::Limits,
    /// For what has no limit of its own.
    pub default_retention_days: u64,
    /// Runs say what they would do, and change nothing.
    pub dry_run: bool,
    /// The same for whoever asks.
    pub read_only: bool,
    /// Whether runs are kept in the store, and for how long.
    pub job_history: bool,
    pub job_history_retention: Duration,
    /// Directories that no registration may have: each is somebody's home.
    pub homes: Vec<PathBuf>,
    /// The table is in the file: an agent without roots has something to do.
    pub is_written: bool,
    /// Whether runs leave reports behind.
    pub report: bool,
    /// Absolute, outside every configured root.
    pub report_directory: PathBuf,
    pub report_keep: Keep,
}

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that was read, where one was.
    pub file: Option<PathBuf>,
    pub agent: Agent,
    pub log: Log,
    pub registry: Registry,
    pub notify: Receivers,
    pub roots: Vec<Root>,
    /// Bad values that took their default, and what else deserves a warning.
    pub warnings: Vec<Problem>,
    /// Roots that are not looked after at all, with the reasons.
    pub refused: Vec<Problem>,
}

impl Settings {
    /// All that is wrong: more than nothing ends `check-config` and one-shot commands with 78.
    pub fn strict_problems(&self) -> Vec<Problem> {
        let roots = self.roots.iter().flat_map(|root| &root.problems);
        let all = self.warnings.iter().chain(&self.refused).chain(roots);
        let mut all: Vec<_> = all.cloned().collect();
        Problem::sort(&mut all);
        all
    }
}

/// Something wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The full key, such as `root.limits.max_size`, or the name of a variable or flag.
    pub key: String,
    /// In the file, counted from 1.
    pub line: Option<usize>,
    /// A sentence that says what is wrong and what to write instead. Never the value of a secret.
    pub message: String,
}

impl Problem {
    /// As the file has them; what has no line comes last.
    pub fn sort(problems: &mut [Self]) {
        problems.sort_by_key(|problem| (problem.line.is_none(), problem.line));
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}: {}", self.key, self.message),
            None => write!(f, "{}: {}", self.key, self.message),
        }
    }
}
