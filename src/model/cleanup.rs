//! A clean-up that another program registered: what it is to be kept to, and when.

use crate::model::time::Time;

/// One registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleanup {
    /// A ULID.
    pub id: String,
    pub owner: String,
    /// Absolute, escaped.
    pub directory: String,
    /// Empty where there is a layout.
    pub pattern: String,
    /// Keys of a root as TOML, such as `preset = "tus"`, for other sessions than files of a pattern.
    pub layout: Option<String>,
    pub retention_days: Option<u64>,
    /// 0: none may stay.
    pub max_files: Option<u64>,
    /// MiB; 0: none may stay.
    pub max_size_mb: Option<u64>,
    /// Lower first.
    pub priority: i64,
    pub description: String,
    pub schedule: Option<String>,
    pub watch: bool,
    pub read_only: bool,
    pub created_at: Time,
    pub updated_at: Time,
    pub last_run: Option<Time>,
}

impl Cleanup {
    /// What its root is called, in the audit and in `status`.
    pub fn root_name(&self) -> String {
        format!("cleanup-{}", self.id)
    }
}
