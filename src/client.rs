//! For other programs: hand a clean-up over to the running agent, and forget it.
//!
//! ```no_run
//! use housekeeper::client::{Client, Registration};
//!
//! # fn main() -> Result<(), housekeeper::client::ClientError> {
//! let client = Client::new("/run/housekeeper/agent.sock");
//! // At every start of the program: the same owner, directory and pattern are the same clean-up.
//! let logs = client.register(&Registration {
//!     owner: Some("billing".to_owned()),
//!     retention_days: Some(Some(30)),
//!     max_size_mb: Some(Some(500)),
//!     ..Registration::of("/var/log/billing", "*.log")
//! })?;
//! let would = client.dry_run(Some(&logs.id))?;
//! println!("{} files would go", would.total_files_deleted);
//! # Ok(())
//! # }
//! ```
//!
//! Each call is one connection to the agent's socket and one line each way. What was answered is on
//! the agent's disk.

use crate::config::cleanup::Wanted;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A full rescan of a big root, or a big clean-up, takes its time.
const PATIENCE: Duration = Duration::from_secs(3700);

/// What a clean-up is to be; see its fields.
pub type Registration = Wanted;

impl Registration {
    /// Regular files of this directory whose names match the glob, with all defaults.
    pub fn of(directory: &str, pattern: &str) -> Self {
        Self {
            directory: Some(directory.to_owned()),
            pattern: Some(pattern.to_owned()),
            ..Self::default()
        }
    }

    /// The sessions of this directory as the preset of this name knows them, with all defaults.
    /// No other registration may share the directory.
    pub fn of_preset(directory: &str, preset: &str) -> Self {
        Self {
            directory: Some(directory.to_owned()),
            preset: Some(preset.to_owned()),
            ..Self::default()
        }
    }
}

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no agent listens on {socket}: start one with `housekeeper run`, or name another socket"
    )]
    NoAgent { socket: String },
    #[error("cannot {operation} the agent at {socket}")]
    Io {
        operation: &'static str,
        socket: String,
        #[source]
        source: io::Error,
    },
    #[error("the agent's answer is none")]
    BadAnswer(#[source] serde_json::Error),
    /// The agent says why. Nothing changed.
    #[error("{0}")]
    Refused(String),
}

/// A clean-up that is registered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Registered {
    pub id: String,
    pub owner: String,
    /// Without symlinks; names that are not UTF-8 have `\xNN` escapes.
    pub directory: String,
    /// Empty where it goes by a preset.
    pub pattern: String,
    /// The preset that it goes by: `max_files`, `max_size_mb` and `retention_days` are of its
    /// sessions then.
    #[serde(default)]
    pub preset: Option<String>,
    pub retention_days: Option<u64>,
    pub max_files: Option<u64>,
    pub max_size_mb: Option<u64>,
    pub priority: i64,
    pub description: String,
    pub schedule: Option<String>,
    pub watch: bool,
    pub read_only: bool,
    /// Times are RFC 3339 in UTC.
    pub created_at: String,
    pub updated_at: String,
    pub last_run: Option<String>,
    pub next_run: Option<String>,
    /// It was there before and is changed.
    #[serde(default)]
    pub updated: bool,
    /// Sentences: what was not said and how it was taken.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What a run did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunReport {
    pub timestamp: String,
    pub total_configs: usize,
    pub successful: usize,
    pub failed: usize,
    pub total_files_deleted: u64,
    /// Bytes.
    pub total_space_freed: u64,
    pub dry_run: bool,
    pub details: Vec<RunDetail>,
    /// As that of the command: 0 done, 1 failed or limits not met, 2 another pruner holds a lock.
    pub exit_code: u8,
}

/// What became of one clean-up in a run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunDetail {
    pub id: String,
    pub directory: String,
    /// Empty where it goes by a preset.
    pub pattern: String,
    #[serde(default)]
    pub preset: Option<String>,
    pub success: bool,
    pub dry_run: bool,
    /// Sessions, where it goes by a preset.
    pub files_deleted: u64,
    /// Bytes.
    pub space_freed: u64,
    pub files_kept: u64,
    pub message: String,
}

#[derive(Debug, Deserialize)]
struct List {
    cleanups: Vec<Registered>,
}

/// The way to one agent.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Whoever listens there. Nothing is asked yet.
    pub fn new(socket: impl AsRef<Path>) -> Self {
        Self {
            socket: socket.as_ref().to_owned(),
        }
    }

    /// Registers a clean-up, or updates the one of the same owner, directory and pattern.
    ///
    /// # Errors
    /// It is refused, with the reason, or no agent answers.
    pub fn register(&self, registration: &Registration) -> Result<Registered, ClientError> {
        self.cleanup(json!({ "do": "add", "cleanup": registration }))
    }

    /// Changes what is said in `registration`, and leaves the rest.
    ///
    /// # Errors
    /// It is refused, with the reason, or no agent answers.
    pub fn update(&self, id: &str, registration: &Registration) -> Result<Registered, ClientError> {
        self.cleanup(json!({ "do": "update", "id": id, "cleanup": registration }))
    }

    /// All that are registered, the lowest priority number first.
    ///
    /// # Errors
    /// No agent answers, or its store cannot be read.
    pub fn list(&self) -> Result<Vec<Registered>, ClientError> {
        let list: List = self.cleanup(json!({ "do": "list" }))?;
        Ok(list.cleanups)
    }

    /// # Errors
    /// There is none of this id, or no agent answers.
    pub fn show(&self, id: &str) -> Result<Registered, ClientError> {
        self.cleanup(json!({ "do": "show", "id": id }))
    }

    /// Takes a registration out, and answers what it was. Files stay as they are.
    ///
    /// # Errors
    /// There is none of this id, or no agent answers.
    pub fn remove(&self, id: &str) -> Result<Registered, ClientError> {
        self.cleanup(json!({ "do": "remove", "id": id }))
    }

    /// Runs a clean-up now and waits for its end; all of them where none is named.
    ///
    /// # Errors
    /// There is none of this id, or no agent answers. What a run could not do is in its report.
    pub fn run(&self, id: Option<&str>) -> Result<RunReport, ClientError> {
        self.cleanup(json!({ "do": "run", "id": id, "dry_run": false }))
    }

    /// What [`Client::run`] would do now. Nothing changes.
    ///
    /// # Errors
    /// As those of [`Client::run`].
    pub fn dry_run(&self, id: Option<&str>) -> Result<RunReport, ClientError> {
        self.cleanup(json!({ "do": "run", "id": id, "dry_run": true }))
    }

    fn cleanup<T: DeserializeOwned>(&self, mut question: Value) -> Result<T, ClientError> {
        question["command"] = "cleanup".into();
        question["by"] = "api".into();
        let answer = self.ask(&question)?;
        if let Some(why) = answer["error"].as_str() {
            return Err(ClientError::Refused(why.to_owned()));
        }
        serde_json::from_value(answer).map_err(ClientError::BadAnswer)
    }

    /// Any question of the socket's, and its answer as it comes, `{"error": …}` included.
    ///
    /// # Errors
    /// No agent answers.
    pub fn ask(&self, question: &Value) -> Result<Value, ClientError> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| self.refused(error))?;
        let failed = |operation| {
            let socket = self.socket.display().to_string();
            move |source| ClientError::Io {
                operation,
                socket,
                source,
            }
        };
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(failed("set a time limit for"))?;
        let line = format!("{question}\n");
        stream.write_all(line.as_bytes()).map_err(failed("ask"))?;
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .map_err(failed("hear"))?;
        serde_json::from_str(&answer).map_err(ClientError::BadAnswer)
    }

    fn refused(&self, source: io::Error) -> ClientError {
        let socket = self.socket.display().to_string();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NoAgent { socket },
            _ => ClientError::Io {
                operation: "reach",
                socket,
                source,
            },
        }
    }
}
