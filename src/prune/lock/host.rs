//! A lock among the pruners of one user on this host, in a place that needs no space on the
//! root's file system and that nobody else can open.
//!
//! Not the root's own directory: everybody who may read it could lock it, and with that keep
//! every pruner away. See docs/decisions/0006-a-lock-of-the-host-first.md.

use crate::model::seen::FileId;
use fs2::FileExt;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One root's lock.
#[derive(Debug, Default)]
pub(super) struct HostLock {
    file: Option<File>,
    locked: bool,
}

impl HostLock {
    /// Tries to lock; never waits. `false`: somebody else has it. Where there is no place for
    /// it nothing is locked, and the answer is `true`: then another lock has to do.
    pub(super) fn try_take(&mut self, root: BorrowedFd<'_>) -> bool {
        if self.file.is_none() {
            let opened = id(root).and_then(|id| open(&place()?, id));
            self.file = opened.ok();
        }
        let Some(file) = &self.file else {
            return true;
        };
        match FileExt::try_lock_exclusive(file) {
            Ok(()) => {
                self.locked = true;
                true
            }
            Err(error) => error.raw_os_error() != fs2::lock_contended_error().raw_os_error(),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.locked
    }

    pub(super) fn release(&mut self) {
        if !std::mem::take(&mut self.locked) {
            return;
        }
        if let Some(file) = &self.file
            && FileExt::unlock(file).is_err()
        {
            // Closing it frees it in any case; the next try opens it anew.
            self.file = None;
        }
    }
}

fn id(root: BorrowedFd<'_>) -> Result<FileId, Errno> {
    let raw = rustix::fs::statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
    Ok(FileId {
        dev: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
        ino: raw.stx_ino,
    })
}

/// `/run/housekeeper/locks-UID/`, else the same below `/run/user/UID/`; made when absent. It
/// must be this user's and nobody else's.
fn place() -> Result<OwnedFd, Errno> {
    let user = rustix::process::geteuid().as_raw();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut last = Errno::NOENT;
    for base in ["/run".to_owned(), format!("/run/user/{user}")] {
        let made = || -> Result<OwnedFd, Errno> {
            let base = rustix::fs::open(base.as_str(), flags, Mode::empty())?;
            let ours = make(&base, "housekeeper", Mode::from_raw_mode(0o755))?;
            let dir = make(&ours, &format!("locks-{user}"), Mode::RWXU)?;
            let stat = rustix::fs::fstat(&dir)?;
            let is_private = stat.st_uid == user && stat.st_mode & 0o077 == 0;
            is_private.then_some(dir).ok_or(Errno::PERM)
        };
        match made() {
            Ok(dir) => return Ok(dir),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

fn make(dir: &impl AsFd, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(dir, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn open(dir: &OwnedFd, root: FileId) -> Result<File, Errno> {
    let name = format!("{:x}-{:x}", root.dev, root.ino);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}
