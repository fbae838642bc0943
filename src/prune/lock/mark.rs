//! A mark on the root itself, among pruners that meet in no directory: of different users, or in
//! containers with a `/run` and a state directory of their own.
//!
//! A read lock of this open file description (fcntl(2), `F_OFD_SETLK`) on one byte far beyond any
//! offset of the root's directory. It needs no name, no space and no right to write, the kernel
//! drops it with the process, and `flock` on the root, a common habit, does not meet it. A directory
//! takes no write lock, so read locks have to do: whoever wants to prune sets his mark first and looks
//! for another one then. Of two at the same moment at least one sees the other, and gives way.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Where the byte is: "houseke" in ASCII, below the greatest offset there is.
const OFFSET: i64 = 0x0068_6f75_7365_6b65;

/// One pruner's mark on one root.
#[derive(Debug, Default)]
pub(super) struct Mark {
    dir: Option<OwnedFd>,
}

impl Mark {
    /// Sets it; never waits. `false`: another pruner's is there, and ours is not. Where the root
    /// takes none (it may not be read, or the file system has no such locks) the answer is
    /// `true`: then the other locks have to do.
    pub(super) fn try_set(&mut self, root: BorrowedFd<'_>) -> bool {
        if self.dir.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.dir = rustix::fs::openat(root, ".", flags, Mode::empty()).ok();
        }
        let Some(dir) = &self.dir else { return true };
        if ask(dir, libc::F_OFD_SETLK, libc::F_RDLCK).is_err() {
            return true;
        }
        // Asked as for a write lock: whoever has a read lock is in the way of it.
        let is_alone = match ask(dir, libc::F_OFD_GETLK, libc::F_WRLCK) {
            Ok(found) => found == libc::F_UNLCK,
            Err(_) => true,
        };
        if !is_alone {
            self.unset();
        }
        is_alone
    }

    pub(super) fn unset(&mut self) {
        if let Some(dir) = &self.dir
            && ask(dir, libc::F_OFD_SETLK, libc::F_UNLCK).is_err()
        {
            // Closing it drops the mark in any case.
            self.dir = None;
        }
    }
}

/// Sets or asks for a lock of a kind on the byte. Answers the kind that the kernel wrote.
#[expect(unsafe_code, reason = "rustix has no locks of open file descriptions")]
fn ask(dir: &OwnedFd, command: libc::c_int, kind: libc::c_int) -> Result<libc::c_int, Errno> {
    // SAFETY: all-zero is a valid `flock`, a struct of integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    (lock.l_start, lock.l_len) = (OFFSET, 1);
    // SAFETY: the descriptor is open as long as `dir` lives, and `lock` outlives the call.
    let done = unsafe { libc::fcntl(dir.as_raw_fd(), command, &raw mut lock) };
    if done == -1 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(lock.l_type.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs2::FileExt;
    use rustix::fd::AsFd;
    use std::fs::File;

    #[test]
    fn one_at_a_time_whoever_flocks_the_root() {
        let hold = tempfile::tempdir().expect("a directory");
        let root = File::open(hold.path()).expect("a directory");
        let (mut one, mut other) = (Mark::default(), Mark::default());
        FileExt::lock_exclusive(&root).expect("another program's habit");
        assert!(one.try_set(root.as_fd()));
        assert!(one.try_set(root.as_fd()), "it meets no other than itself");
        assert!(!other.try_set(root.as_fd()));
        one.unset();
        assert!(other.try_set(root.as_fd()), "who gave way left no mark");
        drop(other);
        assert!(one.try_set(root.as_fd()), "it goes with its descriptor");
    }
}
