//! A write lease on a file: as long as it is held nobody else has the file open, and an open
//! waits until the lease is dropped (the kernel gives the holder `lease-break-time`, 45 s).

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Once;

/// A lease, with the file it is on. Dropping it lets the waiting owner in.
#[derive(Debug)]
pub(super) struct WriteLease {
    file: OwnedFd,
}

impl WriteLease {
    /// Takes a write lease on a file that is open only here.
    ///
    /// # Errors
    /// EAGAIN: somebody has the file open. EACCES: it belongs to another user. EINVAL: the
    /// file system has no leases.
    pub(super) fn take(file: OwnedFd) -> Result<Self, Errno> {
        ignore_sigio();
        set_lease(&file, libc::F_WRLCK)?;
        Ok(Self { file })
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Whether somebody has wanted to open the file since, and waits for the lease to end.
    pub(super) fn is_waited_for(&self) -> bool {
        lease_of(&self.file) != libc::F_WRLCK
    }
}

impl Drop for WriteLease {
    fn drop(&mut self) {
        match set_lease(&self.file, libc::F_UNLCK) {
            // Closing the descriptor, next, drops the lease as well.
            Ok(()) | Err(_) => {}
        }
    }
}

#[expect(unsafe_code, reason = "rustix has no F_SETLEASE")]
fn set_lease(file: &OwnedFd, kind: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the descriptor is open as long as `file` lives; F_SETLEASE takes an int.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    if done == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The kind of lease that is held, or that it is to become: the kernel says the latter as soon as
/// somebody waits.
#[expect(unsafe_code, reason = "rustix has no F_GETLEASE")]
fn lease_of(file: &OwnedFd) -> libc::c_int {
    // SAFETY: the descriptor is open as long as `file` lives; F_GETLEASE takes nothing.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) }
}

/// When somebody opens a leased file the kernel sends the holder SIGIO, which ends a process
/// that has no answer to it. We hold a lease for milliseconds and need no word.
#[expect(unsafe_code, reason = "rustix has no signal dispositions")]
fn ignore_sigio() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: SIG_IGN installs no handler; nothing else in this process uses SIGIO.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    });
}
