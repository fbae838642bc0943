//! A file that is made and removed at once: whoever watches its directory hears of it.
//!
//! Its name holds 80 random bits, drawn when it is laid: nobody can have put something there
//! before, and whoever tells of the name tells of this file.

use crate::model::report::{COOKIE, is_cookie};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Names of one directory that are gone through for old cookies; those behind them stay.
const MAX_NAMES: usize = 1 << 20;

/// A fresh name, hidden by what it begins with.
pub fn fresh_name(hidden: &str) -> String {
    format!("{hidden}{COOKIE}{}", ulid::Ulid::generate())
}

/// Lays a cookie into a directory.
///
/// # Errors
/// It cannot be made or removed: no space, read-only, not permitted; something has its name.
pub fn lay(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    let own = rustix::fs::fstat(&made)?;
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino) => {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                removed => removed,
            }
        }
        // Somebody took it away at once. That was heard, too.
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes old cookies: empty files of this user's, of one name, with a cookie's. Under the
/// root's lock. Answers how many went.
///
/// # Errors
/// The directory cannot be read.
pub fn sweep(dir: BorrowedFd<'_>, hidden: &str) -> rustix::io::Result<usize> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir.as_fd())?.take(MAX_NAMES) {
        let entry = entry?;
        if is_cookie(entry.file_name().to_bytes(), hidden) {
            found.push(entry.file_name().to_owned());
        }
    }
    let user = rustix::process::geteuid().as_raw();
    let is_old = |name| {
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            is_file && stat.st_size == 0 && stat.st_uid == user && stat.st_nlink == 1
        })
    };
    let removed = found.iter().filter(|name| {
        is_old(name.as_c_str())
            && rustix::fs::unlinkat(dir, name.as_c_str(), AtFlags::empty()).is_ok()
    });
    Ok(removed.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn old_cookies_go_and_nothing_else_does() {
        let hold = tempfile::tempdir().expect("a directory");
        let lay_file = |name: &str, text: &str| fs::write(hold.path().join(name), text);
        let (old, older) = (fresh_name(".hk-"), format!("{}-17", fresh_name(".hk-")));
        let (full, dir, plain) = (fresh_name(".hk-"), fresh_name(".hk-"), fresh_name(""));
        for name in [&old, &older, &plain] {
            lay_file(name, "").expect("space");
        }
        lay_file(&full, "text").expect("space");
        lay_file(".hk-cookie-1-1", "").expect("space");
        fs::create_dir(hold.path().join(&dir)).expect("space");
        let open = File::open(hold.path()).expect("a directory");
        assert_eq!(sweep(open.as_fd(), ".hk-"), Ok(2));
        let left = |name: &str| hold.path().join(name).exists();
        assert!(!left(&old) && !left(&older));
        assert!(left(&full) && left(&dir) && left(&plain) && left(".hk-cookie-1-1"));
    }

    #[test]
    fn what_has_its_name_is_no_cookie() {
        let hold = tempfile::tempdir().expect("a directory");
        let open = File::open(hold.path()).expect("a directory");
        fs::create_dir(hold.path().join("d")).expect("space");
        fs::write(hold.path().join("f"), "precious").expect("space");
        for name in ["d", "f"] {
            assert_eq!(lay(open.as_fd(), name), Err(Errno::EXIST));
            assert!(hold.path().join(name).exists());
        }
        let (one, other) = (fresh_name(""), fresh_name(""));
        assert_eq!(lay(open.as_fd(), &one), Ok(()));
        assert!(one != other && !hold.path().join(&one).exists());
    }
}
