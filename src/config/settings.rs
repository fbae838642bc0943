//! What a checked configuration says. Values here can be used without another look.

use crate::layout::Layout;
use crate::policy::limits::{Limits, Protect};
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

/// `[[root]]`.
#[derive(Debug, Clone)]
pub struct Root {
    pub name: String,
    pub path: PathBuf,
    pub backend: Backend,
    pub layout: Arc<Layout>,
    pub limits: Limits,
    pub protect: Protect,
    pub first_start: FirstStart,
    /// Not empty: the root is watched, never pruned, not ready (promise 12).
    pub problems: Vec<Problem>,
}

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub agent: Agent,
    pub log: Log,
    pub roots: Vec<Root>,
    /// Bad values that took their default, and what else deserves a warning.
    pub warnings: Vec<Problem>,
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
