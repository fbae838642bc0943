//! Another program's lock: a file in the root whose existence says that it prunes.
//!
//! It is respected, and taken as well, so that an old clean-up loop beside the agent waits for
//! it. It is asked for under the root's own lock only. One that is older than the stale time,
//! counted in both directions, was left by a process that died; one of ours, which says so, was
//! too, since whoever holds the root's lock now is no other. A busy caller leaves the file alone.

use crate::disk::tree::{Tree, Unable, fd_stat, open_quietly, rename_new, stat_name};
use crate::model::report::AsideName;
use crate::model::seen::{FileId, FileKind, Stat};
use crate::model::time::{Now, UnixNanos};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, Timestamps};
use rustix::io::Errno;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

/// How often a holder shows that it lives.
const TOUCH: Duration = Duration::from_secs(10);
const OURS: &[u8] = b"by=housekeeper";

/// A foreign lock that is held. Dropping it does not let go of it.
#[derive(Debug)]
pub struct ForeignLock {
    tree: Arc<Tree>,
    name: Box<[u8]>,
    id: FileId,
    touched: Now,
}

/// Takes the lock. `None`: somebody else has it.
///
/// # Errors
/// It can be neither made nor judged: something else has its name, or the kernel refuses.
pub fn take(
    tree: &Arc<Tree>,
    name: &[u8],
    stale: Duration,
    now: Now,
) -> rustix::io::Result<Option<ForeignLock>> {
    match make(tree, name, now) {
        Err(Errno::EXIST) => {}
        made => return made.map(Some),
    }
    let found = match stat_name(tree.root(), name) {
        Err(Errno::NOENT) => return Ok(None),
        found => found?,
    };
    if found.kind != FileKind::File {
        return Err(Errno::ISDIR);
    }
    if !is_left(tree, name, &found, stale, now) || !put_away(tree, name, found.id)? {
        return Ok(None);
    }
    match make(tree, name, now) {
        // Its owner was quicker.
        Err(Errno::EXIST) => Ok(None),
        made => made.map(Some),
    }
}

fn make(tree: &Arc<Tree>, name: &[u8], now: Now) -> rustix::io::Result<ForeignLock> {
    let c_name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let file = rustix::fs::openat(tree.root(), &*c_name, flags, mode)?;
    let text = format!(
        "pid={} started_at={} by=housekeeper\n",
        std::process::id(),
        now.wall.timestamp()
    );
    match rustix::io::write(&file, text.as_bytes()) {
        // Its existence is what counts.
        Ok(_) | Err(Errno::NOSPC | Errno::DQUOT) => {}
        Err(errno) => return Err(errno),
    }
    Ok(ForeignLock {
        tree: tree.clone(),
        name: name.into(),
        id: fd_stat(file.as_fd())?.id,
        touched: now,
    })
}

fn is_left(tree: &Tree, name: &[u8], found: &Stat, stale: Duration, now: Now) -> bool {
    let age = UnixNanos::from(now.wall).0.abs_diff(found.mtime.0);
    if u128::from(age) > stale.as_nanos() {
        return true;
    }
    let mut text = [0; 256];
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let read = CString::new(name)
        .map_err(|_| Errno::INVAL)
        .and_then(|name| open_quietly(tree.root(), &name, flags))
        .and_then(|file| rustix::io::pread(&file, &mut text, 0));
    // What cannot be read is not ours.
    read.is_ok_and(|n| text[..n].windows(OURS.len()).any(|part| part == OURS))
}

/// Removes the lock that was judged, and no other that came in its place.
fn put_away(tree: &Tree, name: &[u8], id: FileId) -> rustix::io::Result<bool> {
    let ulid = Ulid::generate().to_string();
    let aside = format!(".hk-{}", AsideName::new(&ulid, id).0).into_bytes();
    match rename_new(
        tree.root(),
        name,
        tree.root(),
        &aside,
        Unable::OverwriteFresh,
    ) {
        Err(Errno::NOENT) => return Ok(true),
        renamed => renamed?,
    }
    if stat_name(tree.root(), &aside)?.id == id {
        let aside = CString::new(aside).map_err(|_| Errno::INVAL)?;
        rustix::fs::unlinkat(tree.root(), &*aside, AtFlags::empty())?;
        return Ok(true);
    }
    rename_new(tree.root(), &aside, tree.root(), name, Unable::Refuse)?;
    Ok(false)
}

impl ForeignLock {
    /// Shows that its holder lives, from time to time.
    ///
    /// # Errors
    /// It is not ours any more: somebody took it for stale.
    pub fn touch(&mut self, now: Now) -> rustix::io::Result<()> {
        if now.tick.since(self.touched.tick) < TOUCH {
            return Ok(());
        }
        if stat_name(self.tree.root(), &self.name)?.id != self.id {
            return Err(Errno::STALE);
        }
        let at = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let times = Timestamps {
            last_access: at,
            last_modification: at,
        };
        let name = CString::new(&*self.name).map_err(|_| Errno::INVAL)?;
        rustix::fs::utimensat(self.tree.root(), &*name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        // Not before: what is not ours any more is not ours for the next victim either.
        self.touched = now;
        Ok(())
    }

    /// Lets go of it, if it still is ours.
    ///
    /// # Errors
    /// It could not be removed: others wait until it is stale.
    pub fn release(self) -> rustix::io::Result<()> {
        match put_away(&self.tree, &self.name, self.id) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
