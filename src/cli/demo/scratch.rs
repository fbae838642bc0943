//! A directory for a while: made here, empty and for this user alone, and removed here.
//!
//! Nothing else is ever removed: the directory is known by device and inode from the moment it
//! was made, and is looked at again just before it goes.

use anyhow::{Context, bail};
use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use ulid::Ulid;

const PREFIX: &str = "housekeeper-demo-";
/// Names tried before giving up; one is enough unless somebody plays with us.
const MAX_TRIES: usize = 8;

/// The directory; dropping it removes it too.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// Device and inode. `None`: it is gone.
    made: Option<(u64, u64)>,
}

impl Scratch {
    /// Makes a directory of a new name in `parent`.
    pub(super) fn make(parent: &Path) -> anyhow::Result<Self> {
        let parent = std::fs::canonicalize(parent)
            .with_context(|| format!("there is no directory {}", parent.display()))?;
        for _ in 0..MAX_TRIES {
            let path = parent.join(format!("{PREFIX}{}", Ulid::generate()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let seen = path.symlink_metadata().context("cannot look at it")?;
                    let made = Some(identity(&seen));
                    return Ok(Self { path, made });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let parent = parent.display();
                    return Err(error).context(format!(
                        "cannot make a directory in {parent}: name another place with --dir"
                    ));
                }
            }
        }
        bail!("every new name in {} is taken already", parent.display())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory and all in it.
    pub(super) fn remove(mut self) -> anyhow::Result<()> {
        self.clear()
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        let Some(made) = self.made.take() else {
            return Ok(());
        };
        let path = self.path.display();
        match self.path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context(format!("cannot look at {path}")),
            Ok(seen) if !seen.is_dir() || identity(&seen) != made => {
                bail!("{path} is not the directory that was made there: it stays")
            }
            Ok(_) => {}
        }
        // Follows no symlink, whatever was put inside.
        std::fs::remove_dir_all(&self.path).with_context(|| format!("cannot remove {path}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!(event = "demo.left", "{error:#}");
        }
    }
}

fn identity(seen: &Metadata) -> (u64, u64) {
    (seen.dev(), seen.ino())
}

#[cfg(test)]
mod tests {
    use super::Scratch;

    #[test]
    fn it_goes_with_all_in_it_and_nothing_else_does() {
        let parent = tempfile::tempdir().expect("a directory");
        let outside = parent.path().join("outside");
        std::fs::create_dir(&outside).expect("a directory");
        std::fs::write(outside.join("file"), "stays").expect("a file");
        let scratch = Scratch::make(parent.path()).expect("a scratch directory");
        std::os::unix::fs::symlink(&outside, scratch.path().join("way out")).expect("a symlink");
        std::fs::write(scratch.path().join("file"), "goes").expect("a file");
        let path = scratch.path().to_owned();
        scratch.remove().expect("it can be removed");
        assert!(!path.exists());
        assert!(outside.join("file").exists());
    }

    #[test]
    fn dropping_it_removes_it() {
        let parent = tempfile::tempdir().expect("a directory");
        drop(Scratch::make(parent.path()).expect("a scratch directory"));
        let left = std::fs::read_dir(parent.path()).expect("a directory");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn a_stranger_in_its_place_stays() {
        let parent = tempfile::tempdir().expect("a directory");
        let scratch = Scratch::make(parent.path()).expect("a scratch directory");
        let path = scratch.path().to_owned();
        std::fs::rename(&path, parent.path().join("moved")).expect("a rename");
        std::fs::create_dir(&path).expect("a directory");
        let why = scratch.remove().expect_err("a stranger").to_string();
        assert!(why.contains("it stays"), "{why}");
        assert!(path.exists());
    }
}
