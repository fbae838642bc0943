//! One pruner at a time per root, across processes and hosts that share the volume.
//!
//! Two things are locked with `flock`, always in this order: a file of this host
//! ([`host`]), then `.housekeeper/lock` (where every session is a file, `lock` in the state
//! directory, since the root gets no directory, and between the two a [`mark`] on the root), which
//! holds one JSON line about its holder. On a full disk the latter, or `.housekeeper` itself, cannot
//! be made: there the first alone has to do, so that room can be made, and since it comes first both kinds of holders
//! exclude each other. That is only so where no other machine prunes: on a local file system.
//!
//! Where `flock` reaches, it alone decides: a busy caller leaves everything alone, and a dead
//! holder's lock is free at once. Where it does not reach (a volume shared by hosts whose locks
//! are local), a line of another host in a file whose lock was got means that its holder may
//! live: it is taken only after this host has itself watched line and mtime unchanged for the
//! whole stale time. A holder touches the file every quarter of that.
//!
//! The descriptors are kept open between two locks, and an uncontended lock costs two `flock`,
//! one `statx` and one `pwrite`. Nothing is synced: after a loss of power nobody holds a lock.

mod host;
mod line;
mod mark;

use crate::model::report::{Holder, LockTry};
use crate::model::seen::FileId;
use crate::model::time::{Now, Tick};
use fs2::FileExt;
use host::HostLock;
use line::{Line, OwnLine};
use mark::Mark;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

const NAME: &str = "lock";
/// File systems of one machine alone, by the kernel's numbers for them: ext2 to ext4, XFS,
/// btrfs, tmpfs, ramfs, F2FS, overlayfs, ZFS, bcachefs.
const LOCAL: [u32; 9] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x0102_1994,
    0x8584_58F6,
    0xF2F5_2010,
    0x794C_7630,
    0x2FC1_2FC1,
    0xCA45_1A4E,
];
/// A holder's line is shorter; more than this is somebody else's file.
const MAX_LINE: usize = 4096;
/// How often the file may be replaced under our hands before we give up.
const MAX_TRIES: u32 = 8;

/// The lock of one root. Dropping it lets go.
#[derive(Debug)]
pub struct RootLock {
    host: String,
    boot: String,
    own: OwnLine,
    stale_after: Duration,
    /// Where a one-shot command keeps what it saw of another host's line; `None`: in memory.
    observed: Option<PathBuf>,
    sighting: Option<Sighting>,
    first: HostLock,
    /// On the root itself, where pruners do not meet in it.
    mark: Option<Mark>,
    file: Option<(File, FileId)>,
    held: Option<Held>,
    /// Size and mtime of the file as the last release left it, with nobody's line in it; known
    /// only where nobody writes to it who does not meet the lock of this host.
    left: Option<(u64, i128)>,
}

#[derive(Debug)]
struct Held {
    line: Vec<u8>,
    touched: Tick,
}

/// Another host's line, and since when this host has seen it unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sighting {
    line: String,
    mtime_ns: i128,
    boot: String,
    since_boot: Duration,
}

/// A failed step: the operation and the errno.
type Step<T> = Result<T, (&'static str, Errno)>;

enum Attempt {
    Done(LockTry),
    /// The file was replaced meanwhile.
    Again,
}

/// Whether a file system is this machine's own, so that no other host prunes on it. An unknown
/// one is no reason to trust it.
pub fn is_local(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|stat| LOCAL.contains(&(stat.f_type as u32)))
}

impl RootLock {
    /// After how long a lock of a silent holder is taken.
    pub fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// The lock of one root, not taken yet. `observed` is a file in the state directory.
    pub fn new(stale_after: Duration, observed: Option<PathBuf>) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let uname = rustix::system::uname();
        let host = uname.nodename().to_string_lossy().into_owned();
        // Without /proc only the host's name tells who is who.
        let boot = boot.map_or_else(|_| String::new(), |boot| boot.trim().to_owned());
        Self {
            own: OwnLine::new(Line {
                host: host.clone(),
                pid: std::process::id(),
                since: String::new(),
                boot: (!boot.is_empty()).then(|| boot.clone()),
            }),
            host,
            boot,
            stale_after,
            observed,
            sighting: None,
            first: HostLock::default(),
            mark: None,
            file: None,
            held: None,
            left: None,
        }
    }

    /// The same for a root that the lock's file does not lie in: a [`mark`] on the root is set,
    /// too, since others may keep their file elsewhere.
    pub fn apart(mut self) -> Self {
        self.mark = Some(Mark::default());
        self
    }

    /// Tries to take the lock of its root, held open by the caller like the directory for the
    /// lock's file: `.housekeeper/` in it, or one in the state directory. Where that cannot be
    /// made for want of space, the errno. Never waits.
    pub fn try_take(
        &mut self,
        root: BorrowedFd<'_>,
        control: Result<BorrowedFd<'_>, i32>,
        now: Now,
    ) -> LockTry {
        if self.held.is_some() {
            return LockTry::Taken;
        }
        if !self.first.try_take(root) {
            return LockTry::Busy(control.ok().and_then(named_holder));
        }
        if self.mark.as_mut().is_some_and(|mark| !mark.try_set(root)) {
            self.first.release();
            return LockTry::Busy(None);
        }
        let answer = match control {
            Ok(control) => self.take_file(control, now),
            Err(errno) => Err(("make .housekeeper", Errno::from_raw_os_error(errno))),
        };
        let answer = match answer {
            Err((_, Errno::NOSPC | Errno::DQUOT)) if self.host_is_enough(root) => {
                // On a full disk nobody can be told who holds it.
                self.held = Some(Held {
                    line: Vec::new(),
                    touched: now.tick,
                });
                LockTry::Taken
            }
            Err(failed) => failure(failed),
            Ok(answer) => answer,
        };
        if self.held.is_none() {
            self.release_host();
        }
        answer
    }

    /// Whether everybody who may prune on the file system of `fd` meets the lock of this host.
    fn host_is_enough(&self, fd: BorrowedFd<'_>) -> bool {
        self.first.is_held() && is_local(fd)
    }

    fn take_file(&mut self, control: BorrowedFd<'_>, now: Now) -> Step<LockTry> {
        for _ in 0..MAX_TRIES {
            match self.attempt(control, now) {
                Ok(Attempt::Done(done)) => return Ok(done),
                Ok(Attempt::Again) => self.file = None,
                Err(failed) => {
                    self.file = None;
                    return Err(failed);
                }
            }
        }
        Err(("find the lock file again", Errno::AGAIN))
    }

    /// Whether it is held.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Shows other hosts that the holder lives. To be called now and then while it is held;
    /// does something every quarter of the stale time only.
    ///
    /// # Errors
    /// What the kernel says to the change of the mtime.
    pub fn touch(&mut self, now: Tick) -> io::Result<()> {
        let (Some(held), Some((file, _))) = (&mut self.held, &self.file) else {
            return Ok(());
        };
        if now.since(held.touched) < self.stale_after / 4 {
            return Ok(());
        }
        let at = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        rustix::fs::futimens(
            file,
            &Timestamps {
                last_access: at,
                last_modification: at,
            },
        )?;
        // Not before: nothing is removed under a lock that could not be touched.
        held.touched = now;
        Ok(())
    }

    /// Lets go. The line is removed first where it is still ours.
    ///
    /// # Errors
    /// What the kernel says; the lock is given up all the same.
    pub fn release(&mut self) -> io::Result<()> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let released = self.release_file(&held);
        self.left = self.left_alone();
        self.release_host();
        released
    }

    fn release_host(&mut self) {
        if let Some(mark) = &mut self.mark {
            mark.unset();
        }
        self.first.release();
    }

    /// Size and mtime of the file, where only pruners of this host write to it.
    fn left_alone(&self) -> Option<(u64, i128)> {
        let (file, _) = self.file.as_ref()?;
        let named = look(file.as_fd(), "", AtFlags::EMPTY_PATH).ok()?;
        self.host_is_enough(file.as_fd())
            .then_some((named.size, named.mtime_ns))
    }

    fn release_file(&mut self, held: &Held) -> io::Result<()> {
        let Some((file, _)) = &self.file else {
            return Ok(());
        };
        let cleared = match read_line(file) {
            // Blanks, not an empty file: on a full disk the next line needs the block.
            Ok(line) if line == held.line => file.write_all_at(&vec![b' '; line.len()], 0),
            // Another host has taken it for stale: the line is its own.
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        let unlocked = FileExt::unlock(file);
        if unlocked.is_err() {
            self.file = None;
        }
        cleared.and(unlocked)
    }

    fn attempt(&mut self, control: BorrowedFd<'_>, now: Now) -> Step<Attempt> {
        let (file, id) = match self.file.take() {
            Some(open) => open,
            None => open(control)?,
        };
        let answer = self.attempt_on(control, &file, id, now);
        // On every way but the first the descriptor must not keep what it locked.
        match &answer {
            Ok(Attempt::Done(LockTry::Taken | LockTry::TakenStale(_))) => {}
            Ok(_) | Err(_) => {
                FileExt::unlock(&file).map_err(|error| ("unlock", errno(&error)))?;
            }
        }
        self.file = Some((file, id));
        answer
    }

    fn attempt_on(
        &mut self,
        control: BorrowedFd<'_>,
        file: &File,
        id: FileId,
        now: Now,
    ) -> Step<Attempt> {
        match FileExt::try_lock_exclusive(file) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                let line = read_line(file).map_err(|error| ("read", errno(&error)))?;
                return Ok(Attempt::Done(LockTry::Busy(holder(&line))));
            }
            Err(error) => return Err(("flock", errno(&error))),
        }
        let named = match look(control, NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => named,
            Err(Errno::NOENT) => return Ok(Attempt::Again),
            Err(errno) => return Err(("statx", errno)),
        };
        if named.id != id {
            return Ok(Attempt::Again);
        }
        let mut answer = LockTry::Taken;
        if named.size > 0 && self.left != Some((named.size, named.mtime_ns)) {
            let line = read_line(file).map_err(|error| ("read", errno(&error)))?;
            if !self.is_ours(&line) {
                if !self.is_stale(&line, named.mtime_ns) {
                    return Ok(Attempt::Done(LockTry::Busy(holder(&line))));
                }
                answer = holder(&line).map_or(LockTry::Taken, LockTry::TakenStale);
            }
        }
        match self.write_line(file, named.size, now) {
            Ok(()) => {}
            // On a full disk nobody can be told who holds it; the lock itself needs no space.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
                self.held = Some(Held {
                    line: Vec::new(),
                    touched: now.tick,
                });
            }
            Err(error) => return Err(("write", errno(&error))),
        }
        Ok(Attempt::Done(answer))
    }

    /// Whether `flock` reaches the one who wrote this: then he is dead, since we hold it.
    fn is_ours(&self, line: &[u8]) -> bool {
        // A power cut leaves zeros where a line was.
        if line.iter().all(|b| *b == 0 || b.is_ascii_whitespace()) {
            return true;
        }
        serde_json::from_slice::<Line>(line).is_ok_and(|line| {
            line.host == self.host
                || (!self.boot.is_empty() && line.boot.as_ref() == Some(&self.boot))
        })
    }

    fn is_stale(&mut self, line: &[u8], mtime_ns: i128) -> bool {
        let since_boot = clock_gettime(ClockId::Boottime);
        let seen = Sighting {
            line: String::from_utf8_lossy(line).into_owned(),
            mtime_ns,
            boot: self.boot.clone(),
            since_boot: Duration::new(
                since_boot.tv_sec.unsigned_abs(),
                since_boot.tv_nsec.unsigned_abs() as u32,
            ),
        };
        let before = self.sighting.take().or_else(|| self.stored());
        let (sighting, stale) = judge(before, seen, self.stale_after);
        if let Some(new) = &sighting.new {
            self.store(new);
        }
        self.sighting = Some(sighting.kept);
        stale
    }

    fn stored(&self) -> Option<Sighting> {
        let text = std::fs::read(self.observed.as_ref()?);
        // Absent or broken: watching begins anew, which only ever waits longer.
        text.ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
    }

    fn store(&self, sighting: &Sighting) {
        let (Some(path), Ok(text)) = (&self.observed, serde_json::to_vec(sighting)) else {
            return;
        };
        let temporary = path.with_extension("new");
        // A sighting that can't be kept makes the next command begin to watch anew: it waits
        // longer, and takes nothing it should not.
        if std::fs::write(&temporary, text).is_err() || std::fs::rename(&temporary, path).is_err() {
            debug_assert!(self.observed.is_some());
        }
    }

    fn write_line(&mut self, file: &File, old_size: u64, now: Now) -> io::Result<()> {
        let text = self.own.since(now.wall)?;
        file.write_all_at(text, 0)?;
        if old_size > text.len() as u64 {
            file.set_len(text.len() as u64)?;
        }
        self.held = Some(Held {
            line: text.to_owned(),
            touched: now.tick,
        });
        Ok(())
    }
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // Closing the descriptor frees the lock in any case; a line that stays is a dead one's.
        if self.release().is_err() {
            self.file = None;
        }
    }
}

struct Judged {
    kept: Sighting,
    /// To be stored: watching begins now.
    new: Option<Sighting>,
}

/// Whether what is seen was seen unchanged for `stale_after` by this machine's own clock since
/// its last boot.
fn judge(before: Option<Sighting>, seen: Sighting, stale_after: Duration) -> (Judged, bool) {
    let same = |before: &Sighting| {
        (&before.line, before.mtime_ns, &before.boot) == (&seen.line, seen.mtime_ns, &seen.boot)
            && before.since_boot <= seen.since_boot
    };
    match before.filter(same) {
        Some(kept) => {
            let stale = seen.since_boot.saturating_sub(kept.since_boot) >= stale_after;
            (Judged { kept, new: None }, stale)
        }
        None => {
            let new = Some(seen.clone());
            (Judged { kept: seen, new }, false)
        }
    }
}

struct Looked {
    id: FileId,
    is_file: bool,
    n_links: u32,
    size: u64,
    mtime_ns: i128,
}

fn look(dir: BorrowedFd<'_>, name: &str, flags: AtFlags) -> rustix::io::Result<Looked> {
    let stat = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
    Ok(Looked {
        id: FileId {
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
        },
        is_file: FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile,
        n_links: stat.stx_nlink,
        size: stat.stx_size,
        mtime_ns: i128::from(stat.stx_mtime.tv_sec) * 1_000_000_000
            + i128::from(stat.stx_mtime.tv_nsec),
    })
}

fn open(control: BorrowedFd<'_>) -> Step<(File, FileId)> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mode = Mode::RUSR | Mode::WUSR;
    let fd = rustix::fs::openat2(control, NAME, flags, mode, resolve).map_err(|e| ("open", e))?;
    let looked = look(fd.as_fd(), "", AtFlags::EMPTY_PATH).map_err(|e| ("statx", e))?;
    // A file with a second name may be anybody's outside.
    if !looked.is_file || looked.n_links != 1 {
        return Err(("open", Errno::INVAL));
    }
    Ok((File::from(fd), looked.id))
}

fn read_line(file: &File) -> io::Result<Vec<u8>> {
    let mut line = vec![0; MAX_LINE];
    let n_read = file.read_at(&mut line, 0)?;
    line.truncate(n_read);
    Ok(line)
}

/// Who says in the lock file that he holds it. A dead one's line stays until the next holder
/// writes his own.
fn named_holder(control: BorrowedFd<'_>) -> Option<Holder> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(control, NAME, flags, Mode::empty()).ok()?;
    holder(&read_line(&File::from(file)).ok()?)
}

fn failure((operation, errno): (&'static str, Errno)) -> LockTry {
    LockTry::Failed {
        operation,
        errno: errno.raw_os_error(),
    }
}

fn holder(line: &[u8]) -> Option<Holder> {
    let line: Line = serde_json::from_slice(line).ok()?;
    Some(Holder {
        host: line.host,
        pid: line.pid,
        since: line.since,
    })
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests;
