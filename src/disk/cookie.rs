//! A file that is made and removed at once: whoever watches its directory hears of it.

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// Lays a cookie into a directory.
///
/// # Errors
/// It cannot be made or removed: no space, read-only, not permitted.
pub fn lay(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR) {
        // Left by a crash: its removal is heard as well.
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::unlinkat(dir, name, AtFlags::empty())
}
