//! What people are told of beside the log, and where it is sent.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What a notice is about. The names are an outside contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Something was to be done and could not be.
    Failure,
    /// A root cannot be brought under its limits.
    TargetUnmet,
    /// A new anomaly.
    Anomaly,
    /// The agent knows less than it should, or waits for somebody.
    Degraded,
}

impl Topic {
    pub const ALL: [Self; 4] = [
        Self::Failure,
        Self::TargetUnmet,
        Self::Anomaly,
        Self::Degraded,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::TargetUnmet => "target_unmet",
            Self::Anomaly => "anomaly",
            Self::Degraded => "degraded",
        }
    }
}

/// One thing that people should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub topic: Topic,
    /// As in the log: `prune.target_unmet`.
    pub event: &'static str,
    /// `None`: it is of no one root.
    pub root: Option<String>,
    /// A sentence.
    pub message: String,
    /// What programs read, with units in the names.
    pub details: Vec<(&'static str, String)>,
}

/// Text that no log, answer or error repeats.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How a webhook wants to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyFormat {
    /// The whole notice.
    #[default]
    Json,
    /// `{"text": "…"}`, as Slack and its like read it.
    Slack,
}

/// `[[notify.webhook]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// What waits for it is kept under this name.
    pub name: String,
    /// May have a secret in it.
    pub url: Secret,
    pub format: BodyFormat,
    pub topics: Vec<Topic>,
    /// A header with a secret in it.
    pub header: Option<(String, Secret)>,
}

/// `[notify] exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Absolute.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub topics: Vec<Topic>,
    /// After which it is killed.
    pub timeout: Duration,
}

/// `[notify]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receivers {
    pub webhooks: Vec<Webhook>,
    pub exec: Option<Exec>,
    /// Messages a minute to each; what is more is folded into one. Above zero.
    pub rate: u32,
}

impl Default for Receivers {
    /// Nobody.
    fn default() -> Self {
        Self {
            webhooks: Vec::new(),
            exec: None,
            rate: 30,
        }
    }
}
