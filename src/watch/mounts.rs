//! Word of anything that is mounted or unmounted on this host.

use rustix::fd::{AsFd, BorrowedFd};
use std::fs::File;

/// `/proc/self/mountinfo`, held open: it becomes exceptional (`POLLPRI`) at each change, once
/// for each poll; see proc_pid_mountinfo(5).
#[derive(Debug)]
pub struct Mounts(File);

impl Mounts {
    /// # Errors
    /// `/proc` is not mounted.
    pub fn open() -> std::io::Result<Self> {
        File::open("/proc/self/mountinfo").map(Self)
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
