//! The lock of a root, as a shell takes it and lets go of it: ours, and another program's where
//! the layout names one.

use super::Shell;
use crate::agent::leftovers::Leftovers;
use crate::disk::foreign_lock::{self, ForeignLock};
use crate::model::fact::Fact;
use crate::model::report::LockTry;
use crate::model::time::Now;
use rustix::fd::AsFd;
use rustix::io::Errno;

impl Shell {
    pub(super) fn take_lock(&mut self, now: Now) -> LockTry {
        let failed = |operation, errno| LockTry::Failed { operation, errno };
        match self.executor.in_place() {
            Ok(true) => self.is_placed = true,
            Ok(false) => {
                self.moved = true;
                return failed("find the root at its path", libc::ESTALE);
            }
            Err(error) => {
                self.moved = true;
                return failed(
                    "look at the root's path",
                    error.raw_os_error().unwrap_or(libc::EIO),
                );
            }
        }
        let root = self.tree.root();
        let taken = if let Some(corner) = &self.corner {
            self.lock.try_take(root, Ok(corner.as_fd()), now)
        } else {
            match self.tree.control() {
                Ok(control) => self.lock.try_take(root, Ok(control.dir()), now),
                // What is to free a full disk must not need space on it.
                Err(error) if matches!(error.errno(), libc::ENOSPC | libc::EDQUOT) => {
                    self.lock.try_take(root, Err(error.errno()), now)
                }
                Err(error) => return failed("open .housekeeper", error.errno()),
            }
        };
        match taken {
            LockTry::Taken | LockTry::TakenStale(_) => self.take_foreign(now).unwrap_or(taken),
            LockTry::Busy(_) | LockTry::Failed { .. } => taken,
        }
    }

    /// Takes another program's lock, too. Where that cannot be had ours is let go of, and the
    /// answer says why.
    fn take_foreign(&mut self, now: Now) -> Option<LockTry> {
        let layout = &self.engine.rules().layout;
        let name = layout.spec().foreign_lock.as_deref()?;
        let stale = self.lock.stale_after();
        let refused = match foreign_lock::take(&self.tree, name.as_bytes(), stale, now) {
            Ok(Some(taken)) => {
                self.foreign = Some(taken);
                return None;
            }
            // What is to free a full disk must not need space on it.
            Err(Errno::NOSPC | Errno::DQUOT) => return None,
            Ok(None) => LockTry::Busy(None),
            Err(errno) => LockTry::Failed {
                operation: "take the other program's lock",
                errno: errno.raw_os_error(),
            },
        };
        self.release_lock();
        Some(refused)
    }

    /// Takes the lock for all that follows, up to [`Self::let_go`], and finishes under it what
    /// an earlier run left. `false`: somebody else has it, or it can't be had; the fact says so.
    pub fn keep_lock(&mut self, finish: impl FnOnce(Now) -> Leftovers) -> bool {
        let now = self.now();
        match self.take_lock(now) {
            LockTry::Taken => {}
            LockTry::TakenStale(holder) => self.told.push(Fact::LockStale {
                holder: Some(holder),
            }),
            LockTry::Busy(holder) => {
                self.told.push(Fact::LockBusy { holder });
                return false;
            }
            LockTry::Failed { operation, errno } => {
                self.told.push(Fact::LockFailed { operation, errno });
                return false;
            }
        }
        self.lock_kept = true;
        self.was_locked = true;
        // A scan comes before the first removal.
        self.is_placed = false;
        let leftovers = finish(now);
        self.finish_beside(leftovers);
        true
    }

    /// Shows that the holder of a kept lock lives.
    pub fn touch_lock(&mut self) {
        let now = self.now();
        if let Some(Err(errno)) = self.foreign.as_mut().map(|foreign| foreign.touch(now)) {
            tracing::debug!(%errno, "the other program's lock could not be touched");
        }
        if let Err(error) = self.lock.touch(now.tick) {
            // Before each removal it is touched again, and there the failure counts.
            tracing::debug!(error = %error, "the lock could not be touched");
        }
    }

    /// Lets go of a kept lock.
    pub fn let_go(&mut self) {
        if std::mem::take(&mut self.lock_kept) {
            self.release_lock();
        }
    }

    pub(super) fn release_lock(&mut self) {
        self.is_placed = false;
        let foreign = self.foreign.take().map(ForeignLock::release);
        if let Some(Err(errno)) = foreign {
            self.told.push(Fact::LockFailed {
                operation: "release the other program's",
                errno: errno.raw_os_error(),
            });
        }
        if let Err(error) = self.lock.release() {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.told.push(Fact::LockFailed {
                operation: "release",
                errno,
            });
        }
    }
}
