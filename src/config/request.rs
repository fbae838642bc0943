//! What a command asks for beside the file: flags and environment, already taken apart.

use crate::config::settings::{FirstStart, LogFormat, Mode, Scheduling};
use crate::model::bytes::Bytes;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a configuration is made from. Nothing else is looked at but the disk.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--config`. Absent: [`crate::config::DEFAULT_FILE`] where it exists.
    pub file: Option<PathBuf>,
    pub environment: Vec<(OsString, OsString)>,
    /// How to log where neither flag nor environment nor file says it.
    pub log_default: LogFormat,
    pub agent: AgentFlags,
    /// `--root`, as given: the name or the path of a configured root, or any directory.
    /// Not empty: no other root is looked after.
    pub roots: Vec<PathBuf>,
    pub root: RootFlags,
}

/// Flags that say more than `[agent]` and `[log]`.
#[derive(Debug, Clone, Default)]
pub struct AgentFlags {
    pub mode: Option<Mode>,
    pub state_dir: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub scheduling: Option<Scheduling>,
    pub log_format: Option<LogFormat>,
    pub log_level: Option<String>,
}

/// Flags that say more than `[[root]]`, for every root that is looked after.
#[derive(Debug, Clone, Default)]
pub struct RootFlags {
    pub preset: Option<String>,
    pub max_size: Option<Bytes>,
    pub prune_to: Option<Bytes>,
    pub max_age: Option<Duration>,
    pub max_count: Option<u64>,
    pub quiet: Option<Duration>,
    pub first_start: Option<FirstStart>,
}

impl Request {
    /// A variable of the environment; blank is the same as absent.
    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        // The last one of a name counts, as it would for a child.
        let (_, value) = self.environment.iter().rev().find(|(n, _)| n == name)?;
        let blank = value.as_encoded_bytes().trim_ascii().is_empty();
        (!blank).then_some(value.as_os_str())
    }

    /// A variable that holds an absolute path; any other value is as good as absent.
    pub(super) fn directory(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.variable(name)?);
        path.is_absolute().then_some(path)
    }
}

/// The environment of this process, as it is now.
pub fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}
