//! What a root's thread sleeps on: the source of hints itself where that can be waited for, a
//! bell that everybody else rings, and the host's table of mounts.

use crate::watch::dirty::Waker;
use crate::watch::mounts::Mounts;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BELL: u64 = 0;
const MOUNTS: u64 = 1;
const SOURCE: u64 = 2;

/// A root's bell. Ringing it costs a system call only when nobody has since it was heard.
#[derive(Debug, Clone)]
pub struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    rung: AtomicBool,
    /// Becomes exceptional when anything is mounted or unmounted; `None` without `/proc`.
    mounts: Option<Mounts>,
}

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken {
    /// Something was mounted or unmounted on this host since the last sleep.
    pub mounts_changed: bool,
}

impl Bell {
    /// # Errors
    /// No descriptor can be had.
    pub fn new() -> io::Result<Self> {
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
    pub fn waker(&self) -> Waker {
        let bell = self.clone();
        Waker::new(move || bell.ring())
    }

    fn hear(&self) {
        let mut count = [0; 8];
        if let Err(errno) = rustix::io::read(&self.0.fd, &mut count) {
            tracing::trace!(%errno, "a bell was heard by somebody else");
        }
        // After the read, before anything is looked at: what is left for this thread from
        // now on rings anew.
        self.0.rung.swap(false, Ordering::AcqRel);
    }

    pub fn ring(&self) {
        if self.0.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        // Fails only when the counter is full, and then it is rung enough.
        if let Err(errno) = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes()) {
            tracing::trace!(%errno, "a bell rings already");
        }
    }

    /// What the bell's owner sleeps with, woken by `source` as well.
    ///
    /// # Errors
    /// No descriptors can be had.
    pub fn sleeper(&self, source: Option<BorrowedFd<'_>>) -> io::Result<Sleeper> {
        let of_bell = || -> io::Result<OwnedFd> {
            let set = epoll::create(CreateFlags::CLOEXEC)?;
            epoll::add(&set, &self.0.fd, EventData::new_u64(BELL), EventFlags::IN)?;
            if let Some(mounts) = &self.0.mounts {
                epoll::add(&set, mounts, EventData::new_u64(MOUNTS), EventFlags::PRI)?;
            }
            Ok(set)
        };
        let (bell, all) = (of_bell()?, of_bell()?);
        if let Some(source) = source {
            // Whoever else reads the source is woken only while nobody sleeps here.
            let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
            epoll::add(&all, source, EventData::new_u64(SOURCE), flags)?;
        }
        Ok(Sleeper {
            of: self.clone(),
            bell,
            all,
        })
    }
}

/// A bell's owner, asleep now and then.
#[derive(Debug)]
pub struct Sleeper {
    of: Bell,
    bell: OwnedFd,
    all: OwnedFd,
}

impl Sleeper {
    /// Sleeps until the bell is rung, the source can be read, or the time is over.
    /// `deaf`: the source is not listened to.
    pub fn wait(&self, deaf: bool, patience: Duration) -> Woken {
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut woken = Woken {
            mounts_changed: false,
        };
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(SOURCE),
        }; 3];
        let set = if deaf { &self.bell } else { &self.all };
        let n_events = match epoll::wait(set, &mut events[..], Some(&patience)) {
            Ok(n_events) => n_events,
            // Interrupted: whoever waits looks around and comes back.
            Err(errno) => {
                tracing::trace!(%errno, "a sleep was cut short");
                return woken;
            }
        };
        for event in &events[..n_events] {
            match event.data.u64() {
                BELL => self.of.hear(),
                MOUNTS => woken.mounts_changed = true,
                _ => {}
            }
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_bell_rung_before_or_meanwhile_ends_the_sleep() {
        let bell = Bell::new().expect("a descriptor");
        let sleeper = bell.sleeper(None).expect("descriptors");
        let begun = Instant::now();
        bell.ring();
        bell.ring();
        sleeper.wait(false, LONG);
        std::thread::scope(|scope| {
            scope.spawn(|| bell.waker().poke());
            sleeper.wait(true, LONG);
        });
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn without_a_ring_the_time_ends_it() {
        let bell = Bell::new().expect("a descriptor");
        let sleeper = bell.sleeper(None).expect("descriptors");
        let woken = sleeper.wait(false, Duration::from_millis(1));
        assert!(!woken.mounts_changed);
    }

    #[test]
    fn a_source_is_heard_unless_the_sleeper_is_deaf_to_it() {
        let bell = Bell::new().expect("a descriptor");
        let source = eventfd(1, EventfdFlags::CLOEXEC).expect("a descriptor");
        let sleeper = bell.sleeper(Some(source.as_fd())).expect("descriptors");
        let begun = Instant::now();
        sleeper.wait(false, LONG);
        assert!(begun.elapsed() < LONG);
        let short = Duration::from_millis(1);
        let begun = Instant::now();
        sleeper.wait(true, short);
        assert!(begun.elapsed() >= short);
    }
}
