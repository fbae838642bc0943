//! What a root's thread sleeps on: the source of hints itself where that can be waited for, a
//! bell that everybody else rings, and the host's table of mounts.

use crate::watch::dirty::Waker;
use crate::watch::mounts::Mounts;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A root's bell. Ringing it costs a system call only when nobody has since it was heard.
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    rung: AtomicBool,
    /// Becomes exceptional when anything is mounted or unmounted; `None` without `/proc`.
    mounts: Option<Mounts>,
}

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Woken {
    /// Something was mounted or unmounted on this host since the last sleep.
    pub(super) mounts_changed: bool,
}

impl Bell {
    /// # Errors
    /// No descriptor can be had.
    pub(super) fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mounts = match Mounts::open() {
            Ok(mounts) => Some(mounts),
            Err(error) => {
                tracing::debug!(%error, "mounts are looked for at times only");
                None
            }
        };
        Ok(Self(Arc::new(Inner {
            fd,
            rung: AtomicBool::new(false),
            mounts,
        })))
    }

    /// Rings this bell.
    pub(super) fn waker(&self) -> Waker {
        let bell = self.clone();
        Waker::new(move || bell.ring())
    }

    pub(super) fn ring(&self) {
        if self.0.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        // Fails only when the counter is full, and then it is rung enough.
        if let Err(errno) = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes()) {
            tracing::trace!(%errno, "a bell rings already");
        }
    }

    /// Sleeps until the bell is rung, `source` can be read, or the time is over.
    pub(super) fn wait(&self, source: Option<BorrowedFd<'_>>, patience: Duration) -> Woken {
        let bell = self.0.fd.as_fd();
        // Without a source the bell is asked for twice, which is the same.
        let mut fds = [
            PollFd::from_borrowed_fd(bell, PollFlags::IN),
            PollFd::from_borrowed_fd(source.unwrap_or(bell), PollFlags::IN),
            match &self.0.mounts {
                Some(mounts) => PollFd::new(mounts, PollFlags::PRI),
                None => PollFd::from_borrowed_fd(bell, PollFlags::IN),
            },
        ];
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        if let Err(errno) = poll(&mut fds, Some(&patience)) {
            // Interrupted: whoever waits looks around and comes back.
            tracing::trace!(%errno, "a sleep was cut short");
            return Woken {
                mounts_changed: false,
            };
        }
        if fds[0].revents().contains(PollFlags::IN) {
            let mut count = [0; 8];
            if let Err(errno) = rustix::io::read(&self.0.fd, &mut count) {
                tracing::trace!(%errno, "a bell was heard by somebody else");
            }
            // After the read, before anything is looked at: what is left for this thread from
            // now on rings anew.
            self.0.rung.swap(false, Ordering::AcqRel);
        }
        Woken {
            mounts_changed: self.0.mounts.is_some() && fds[2].revents().contains(PollFlags::PRI),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_bell_rung_before_or_meanwhile_ends_the_sleep() {
        let bell = Bell::new().expect("a descriptor");
        let begun = Instant::now();
        bell.ring();
        bell.ring();
        bell.wait(None, LONG);
        std::thread::scope(|scope| {
            scope.spawn(|| bell.waker().poke());
            bell.wait(None, LONG);
        });
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn without_a_ring_the_time_ends_it() {
        let bell = Bell::new().expect("a descriptor");
        let woken = bell.wait(None, Duration::from_millis(1));
        assert!(!woken.mounts_changed);
    }
}
