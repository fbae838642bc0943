//! Room for open files, made once.
//!
//! The kernel's table of a process's descriptors doubles when it is full, and in a process of
//! several threads it waits for a grace period of RCU each time: 8 to 19 ms were measured in the
//! middle of a removal, on the thread that was about to rename. So the table is made as large as
//! it will ever have to be before the threads that must not wait begin.

use crate::disk::looker::MAX_OPEN;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::AsFd;

/// What a root has open beside the directories it looks in: walks, removals, locks, records.
const BESIDE: usize = 512;
/// No table is made larger than this: eight bytes of kernel memory for each.
const MOST: u64 = 1 << 18;

/// Raises the process's own limit of open files to what the host allows it, and makes the table
/// large enough for that many roots. Where that is refused, all works as before, only slower for
/// a moment when the table grows.
pub(super) fn make_room(n_roots: usize) {
    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if limit.current.is_some() && limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(errno) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%errno, "the limit of open files could not be raised");
        }
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(MOST);
    let wanted = n_roots.saturating_mul(MAX_OPEN + BESIDE);
    let last = MOST.min(allowed).min(wanted as u64).saturating_sub(1);
    let last = i32::try_from(last).unwrap_or(i32::MAX);
    // Any open file will do; the copy is closed at once, and the table stays as large.
    if let Err(errno) = fcntl_dupfd_cloexec(std::io::stdin().as_fd(), last) {
        tracing::debug!(%errno, "the table of open files could not be made larger");
    }
}
