//! Whether a place can be read, or written to. May hang as long as a disk does: for threads that
//! nobody waits for without an end.

use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, accessat, openat, statvfs,
};
use rustix::io::Errno;
use std::path::Path;

/// Asks the permissions of a directory.
///
/// # Errors
/// `EACCES`, `ENOENT`, `EIO` … as the kernel says them.
pub fn is_readable(dir: &Path) -> Result<(), Errno> {
    accessat(
        CWD,
        dir,
        Access::READ_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    )
}

/// Asks the file system of a directory, its permissions, and makes a file there that has no name
/// and is gone at once: since Linux 6.15 ext4 refuses all writes after an error without being
/// mounted read-only. A full one can be written to: what is there can be removed.
///
/// # Errors
/// `EROFS`, `EACCES`, `ENOENT`, `EIO` … as the kernel says them.
pub fn is_writable(dir: &Path) -> Result<(), Errno> {
    if statvfs(dir)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(Errno::ROFS);
    }
    accessat(
        CWD,
        dir,
        Access::WRITE_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    )?;
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR) {
        // Not every file system has files without names: it is believed then.
        Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(()),
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
