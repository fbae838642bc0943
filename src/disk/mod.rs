//! The only place that touches a root's tree.
//!
//! Everything here is relative to one directory held open, [`tree::Tree`]. Names below it are
//! resolved by `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_XDEV` and
//! `RESOLVE_NO_MAGICLINKS`, so whatever an attacker with write access inside the root does, no
//! call here follows a symlink, crosses a mount or leaves the root.

pub mod brief;
pub mod catalogue_edit;
pub mod cookie;
pub mod document;
pub mod empty;
pub mod foreign_lock;
pub mod in_place;
pub mod kept;
mod lease;
mod live;
pub mod looker;
pub mod measure;
pub mod open_files;
pub mod probe;
pub mod records;
pub mod remove;
pub mod removed;
pub mod rewrite;
pub mod session;
pub mod tree;
pub mod walk;

use std::path::PathBuf;

/// What went wrong with a root or with the agent's own directory in it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the root {} is not an absolute path", path.display())]
    NotAbsolute { path: PathBuf },
    #[error("cannot open the root {}", path.display())]
    OpenRoot {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {operation} {path} in the root")]
    Own {
        operation: &'static str,
        path: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} in the root is not a directory of the agent's on the root's own mount")]
    NotOwn { path: &'static str },
}

impl DiskError {
    /// The kernel's number; `ENOTDIR` for what is not what it should be.
    pub fn errno(&self) -> i32 {
        match self {
            Self::NotAbsolute { .. } => libc::EINVAL,
            Self::NotOwn { .. } => libc::ENOTDIR,
            Self::OpenRoot { source, .. } | Self::Own { source, .. } => {
                source.raw_os_error().unwrap_or(libc::EIO)
            }
        }
    }
}

impl From<DiskError> for std::io::Error {
    fn from(error: DiskError) -> Self {
        Self::from_raw_os_error(error.errno())
    }
}

#[cfg(test)]
mod tests;
