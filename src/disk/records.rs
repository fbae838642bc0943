//! Records that outlive the process: in `.housekeeper/intents/`, or in the state directory
//! where the root has no space for one, or gets no directory.
//!
//! Bounds: [`MAX_RECORDS`] are listed, the oldest first (their names begin with the time); the
//! others come when those are done. A record holds at most 1 MiB.

use crate::disk::document::{MAX_METADATA, read_all};
use crate::disk::tree::{Control, Tree, fd_stat, open_name};
use crate::model::disk::{Lasting, Records};
use crate::model::path::is_name;
use crate::model::seen::FileKind;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

const INTENTS: &str = "intents";
const ORIGINS: &str = "origins";
/// How many records are listed at once.
pub const MAX_RECORDS: usize = 65_536;

/// The records of one root.
#[derive(Debug)]
pub struct RecordDir {
    tree: Arc<Tree>,
    /// A directory for this root alone; made when needed. `None`: no fall-back.
    state: Option<PathBuf>,
    /// Its name in `.housekeeper/`.
    name: &'static str,
    /// Nothing is made in the root.
    is_apart: bool,
    open: Mutex<Option<(Arc<Control>, Arc<OwnedFd>)>>,
}

impl RecordDir {
    pub fn new(tree: Arc<Tree>, state: Option<PathBuf>) -> Self {
        Self {
            tree,
            state,
            name: INTENTS,
            is_apart: false,
            open: Mutex::new(None),
        }
    }

    /// Where what is kept came from: in `.housekeeper/origins/` alone. Where the root has no space
    /// for a record nothing is kept.
    pub fn origins(tree: Arc<Tree>) -> Self {
        Self {
            name: ORIGINS,
            ..Self::new(tree, None)
        }
    }

    /// New records lie in the state directory alone.
    pub fn apart(tree: Arc<Tree>, state: PathBuf) -> Self {
        Self {
            is_apart: true,
            ..Self::new(tree, Some(state))
        }
    }

    /// `.housekeeper/intents/`, made when absent and kept open as long as `.housekeeper/` is.
    fn in_root(&self) -> io::Result<Arc<OwnedFd>> {
        let control = self.tree.control()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some((held, dir)) if Arc::ptr_eq(held, &control) => Ok(dir.clone()),
            Some(_) | None => {
                let dir = Arc::new(self.tree.own_dir(control.dir(), self.name)?.0);
                *open = Some((control, dir.clone()));
                Ok(dir)
            }
        }
    }

    fn existing_in_root(&self) -> io::Result<Option<OwnedFd>> {
        let Some(control) = self.tree.existing_control()? else {
            return Ok(None);
        };
        match self.tree.open_own(control.dir(), self.name) {
            Ok((dir, _)) => Ok(Some(dir)),
            Err(error) if error.errno() == libc::ENOENT => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn existing_in_state(&self) -> io::Result<Option<OwnedFd>> {
        let Some(path) = &self.state else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn save_in_state(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let Some(path) = &self.state else {
            return Err(Errno::NOSPC.into());
        };
        std::fs::create_dir_all(path)?;
        match self.existing_in_state()? {
            Some(dir) => write_new(dir.as_fd(), name, text, Lasting::Power),
            None => Err(Errno::NOENT.into()),
        }
    }
}

impl RecordDir {
    /// One record in the root; `None`: it is not there, or no file of ours.
    ///
    /// # Errors
    /// The directory is not the agent's own, or the record can't be read.
    pub fn one(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match self.existing_in_root()? {
            Some(dir) => read_record(dir.as_fd(), name),
            None => Ok(None),
        }
    }
}

impl Records for RecordDir {
    fn save(&self, name: &str, text: &[u8], lasting: Lasting) -> io::Result<()> {
        if self.is_apart {
            return self.save_in_state(name, text);
        }
        let saved = self
            .in_root()
            .and_then(|dir| write_new(dir.as_fd(), name, text, lasting));
        match saved {
            Ok(()) => Ok(()),
            // No space in the root is why the state directory is asked; where it can't help
            // either, the root's own error is the one to know.
            Err(error) => self.save_in_state(name, text).map_err(|_| error),
        }
    }

    fn discard(&self, name: &str) -> io::Result<()> {
        for dir in [self.existing_in_root()?, self.existing_in_state()?] {
            let Some(dir) = dir else { continue };
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn all(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut all = Vec::new();
        for dir in [self.existing_in_root()?, self.existing_in_state()?] {
            let Some(dir) = dir else { continue };
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&dir)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if is_name(name) && !name.starts_with(b".") {
                    names.extend(String::from_utf8(name.to_vec()));
                }
            }
            names.sort_unstable();
            names.truncate(MAX_RECORDS);
            for name in names {
                if let Some(text) = read_record(dir.as_fd(), &name)? {
                    all.push((name, text));
                }
            }
        }
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}

fn read_record(dir: BorrowedFd<'_>, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match open_name(dir, name.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(file) => file,
        // Not a file of ours, or gone: no record.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = fd_stat(file.as_fd())?;
    if stat.kind != FileKind::File || stat.apparent > MAX_METADATA {
        return Ok(None);
    }
    Ok(read_all(&file, stat.apparent, MAX_METADATA)?)
}

fn write_new(dir: BorrowedFd<'_>, name: &str, text: &[u8], lasting: Lasting) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    let written = write_all(file.as_fd(), text).and_then(|()| match lasting {
        Lasting::Process => Ok(()),
        Lasting::Power => rustix::fs::fsync(&file).and_then(|()| rustix::fs::fsync(dir)),
    });
    if let Err(errno) = written {
        // Half a record is none; one that stays is discarded by the next start.
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(_) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Writes everything from the start of the file.
pub(super) fn write_all(file: BorrowedFd<'_>, text: &[u8]) -> rustix::io::Result<()> {
    let mut n_written = 0;
    while n_written < text.len() {
        match rustix::io::pwrite(file, &text[n_written..], n_written as u64) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => n_written += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
