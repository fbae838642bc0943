//! Whether another process has a file of a session open: a look through `/proc/*/fd`.
//!
//! It costs some microseconds for each open file of the host, so it is done for victims only and
//! only where it is asked for. What this user may not see (other users' processes, unless it is
//! root) does not count.

use crate::disk::tree::{Tree, stat_name};
use crate::model::path::{RelPath, is_name};
use crate::model::seen::FileId;
use rustix::fs::{AtFlags, CWD, Dir, StatxFlags, makedev};
use rustix::io::Errno;
use std::collections::HashSet;

/// What other processes have open.
#[derive(Debug)]
pub struct OpenFiles(HashSet<FileId>);

impl OpenFiles {
    /// Asks the kernel.
    ///
    /// # Errors
    /// `/proc` is not there, or cannot be looked through, but for what is another user's.
    pub fn look() -> rustix::io::Result<Self> {
        let mut open = HashSet::new();
        let own = std::process::id().to_string();
        let processes = names("/proc")?;
        // Something else has that name: it tells nothing of what is open.
        if !processes.iter().any(|name| name == "self") {
            return Err(Errno::NOENT);
        }
        for process in processes {
            if !process.bytes().all(|b| b.is_ascii_digit()) || process == own {
                continue;
            }
            let fds = format!("/proc/{process}/fd");
            let all = match names(&fds) {
                Ok(all) => all,
                Err(errno) if is_hidden(errno) => continue,
                Err(errno) => return Err(errno),
            };
            for fd in all {
                // What the kernel knows: a file server that does not answer keeps nobody waiting.
                let flags = AtFlags::STATX_DONT_SYNC;
                match rustix::fs::statx(CWD, format!("{fds}/{fd}"), flags, StatxFlags::INO) {
                    Ok(stat) => {
                        open.insert(FileId {
                            dev: makedev(stat.stx_dev_major, stat.stx_dev_minor),
                            ino: stat.stx_ino,
                        });
                    }
                    Err(errno) if is_hidden(errno) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(Self(open))
    }

    /// Whether one of these files is open.
    pub fn has_any(&self, mut files: impl Iterator<Item = FileId>) -> bool {
        files.any(|file| self.0.contains(&file))
    }

    /// Whether something in a directory, or it itself, is open.
    ///
    /// # Errors
    /// It cannot be listed whole.
    pub fn has_below(&self, tree: &Tree, dir: &RelPath, id: FileId) -> rustix::io::Result<bool> {
        let mut waiting = vec![dir.clone()];
        if self.0.is_empty() || self.0.contains(&id) {
            return Ok(!self.0.is_empty());
        }
        while let Some(at) = waiting.pop() {
            let opened = tree.open_dir(&at)?;
            let listed = Dir::read_from(&opened)?;
            for entry in listed {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if !is_name(name) {
                    continue;
                }
                let stat = match stat_name(rustix::fd::AsFd::as_fd(&opened), name) {
                    Err(Errno::NOENT) => continue,
                    stat => stat?,
                };
                if self.0.contains(&stat.id) {
                    return Ok(true);
                }
                if stat.kind == crate::model::seen::FileKind::Dir {
                    waiting.push(at.join(name).map_err(|_| Errno::NAMETOOLONG)?);
                }
            }
        }
        Ok(false)
    }
}

/// A process or descriptor that ended, or another user's.
fn is_hidden(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM
    )
}

fn names(dir: &str) -> rustix::io::Result<Vec<String>> {
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name != "." && name != "..");
    Ok(names)
}
