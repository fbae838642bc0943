//! One pruner at a time per root, across processes and hosts that share the volume.
//!
//! Two things are locked with `flock`, always in this order: a file of this host
//! ([`host`]), then `.housekeeper/lock` (where every session is a file, `lock` in the state
//! directory, since the root gets no directory, and between the two a [`mark`] on the root), which holds one JSON line about its holder. On a full disk the latter, or `.housekeeper` itself, cannot be made: there the first
//! alone has to do, so that room can be made, and since it comes first both kinds of holders
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
mod mark;

use crate::model::report::{Holder, LockTry};
use crate::model::seen::FileId;
use crate::model::time::{Now, Tick};
use chrono::SecondsFormat;
use fs2::FileExt;
use host::HostLock;
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
    stale_after: Duration,
    /// Where a one-shot command keeps what it saw of another host's line; `None`: in memory.
    observed: Option<PathBuf>,
    sighting: Option<Sighting>,
    pid: u32,
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

#[derive(Serialize, Deserialize)]
struct Line {
    host: String,
    pid: u32,
    since: String,
    /// Containers on one machine have names of their own, but one kernel, whose `flock` reaches
    /// all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
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
        Self {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            // Without /proc only the host's name tells who is who.
            boot: boot.map_or_else(|_| String::new(), |boot| boot.trim().to_owned()),
            stale_after,
            observed,
            sighting: None,
            pid: std::process::id(),
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
        held.touched = now;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        rustix::fs::futimens(
            file,
            &Timestamps {
                last_access: now,
                last_modification: now,
            },
        )?;
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
        let line = Line {
            host: self.host.clone(),
            pid: self.pid,
            since: now.wall.to_rfc3339_opts(SecondsFormat::Millis, true),
            boot: (!self.boot.is_empty()).then(|| self.boot.clone()),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        file.write_all_at(&text, 0)?;
        if old_size > text.len() as u64 {
            file.set_len(text.len() as u64)?;
        }
        self.held = Some(Held {
            line: text,
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
mod tests {
    use super::*;
    use crate::model::time::Time;
    use std::path::Path;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> Now {
        Now {
            wall: Time::UNIX_EPOCH,
            tick: Tick::default(),
        }
    }

    fn dir(path: &Path) -> File {
        File::open(path).expect("a directory")
    }

    fn sighting(line: &str, since_boot: u64) -> Sighting {
        Sighting {
            line: line.into(),
            mtime_ns: 1,
            boot: "b".into(),
            since_boot: Duration::from_secs(since_boot),
        }
    }

    #[test]
    fn one_at_a_time_and_the_holder_is_named() {
        let hold = tempfile::tempdir().expect("a directory");
        let control = dir(hold.path());
        let mut first = RootLock::new(HOUR, None);
        let mut second = RootLock::new(HOUR, None);
        assert_eq!(
            first.try_take(control.as_fd(), Ok(control.as_fd()), now()),
            LockTry::Taken
        );
        let line = std::fs::read(hold.path().join(NAME)).expect("a line");
        let LockTry::Busy(Some(holder)) =
            second.try_take(control.as_fd(), Ok(control.as_fd()), now())
        else {
            panic!("it is held");
        };
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(std::fs::read(hold.path().join(NAME)).expect("a line"), line);
        first.release().expect("it is ours");
        let blank = std::fs::read(hold.path().join(NAME)).expect("no line");
        assert!(blank.iter().all(|b| *b == b' '), "nobody is named any more");
        assert_eq!(blank.len(), line.len(), "the next line needs no space");
        assert_eq!(
            second.try_take(control.as_fd(), Ok(control.as_fd()), now()),
            LockTry::Taken
        );
    }

    #[test]
    fn a_dead_holders_lock_is_free_at_once() {
        let hold = tempfile::tempdir().expect("a directory");
        let control = dir(hold.path());
        let mut lock = RootLock::new(HOUR, None);
        for line in [
            format!(r#"{{"host":"{}","pid":1,"since":"x"}}"#, lock.host),
            format!(
                r#"{{"host":"other","pid":1,"since":"x","boot":"{}"}}"#,
                lock.boot
            ),
            "\0\0\0\0".into(),
        ] {
            std::fs::write(hold.path().join(NAME), &line).expect("a line");
            assert_eq!(
                lock.try_take(control.as_fd(), Ok(control.as_fd()), now()),
                LockTry::Taken,
                "{line}"
            );
            lock.release().expect("it is ours");
        }
    }

    #[test]
    fn another_hosts_line_is_watched_for_the_whole_stale_time() {
        let hold = tempfile::tempdir().expect("a directory");
        let control = dir(hold.path());
        let path = hold.path().join(NAME);
        let line = r#"{"host":"elsewhere","pid":7,"since":"x"}"#;
        std::fs::write(&path, line).expect("a line");
        let kept = hold.path().join("observed");
        let mut lock = RootLock::new(HOUR, Some(kept.clone()));
        assert!(
            matches!(lock.try_take(control.as_fd(), Ok(control.as_fd()), now()), LockTry::Busy(Some(h)) if h.pid == 7)
        );
        assert_eq!(std::fs::read(&path).expect("a line"), line.as_bytes());
        // Another command, with what the first one stored, once the time is over.
        let mut later = RootLock::new(Duration::ZERO, Some(kept));
        let taken = later.try_take(control.as_fd(), Ok(control.as_fd()), now());
        assert!(matches!(taken, LockTry::TakenStale(h) if h.host == "elsewhere"));
    }

    #[test]
    fn only_an_unchanged_line_of_this_boot_gets_stale() {
        let old = sighting("a", 100);
        let judged = |seen| judge(Some(old.clone()), seen, HOUR).1;
        assert!(!judged(sighting("a", 3699)));
        assert!(judged(sighting("a", 3700)));
        assert!(!judged(sighting("b", 9000)));
        assert!(!judged(Sighting {
            mtime_ns: 2,
            ..sighting("a", 9000)
        }));
        assert!(!judged(Sighting {
            boot: "c".into(),
            ..sighting("a", 9000)
        }));
        assert!(!judge(None, sighting("a", 9000), Duration::ZERO).1);
    }

    #[test]
    fn a_replaced_or_false_lock_file_locks_nothing() {
        let hold = tempfile::tempdir().expect("a directory");
        let control = dir(hold.path());
        let path = hold.path().join(NAME);
        let mut lock = RootLock::new(HOUR, None);
        assert_eq!(
            lock.try_take(control.as_fd(), Ok(control.as_fd()), now()),
            LockTry::Taken
        );
        lock.release().expect("it is ours");
        std::fs::remove_file(&path).expect("a file");
        let mut other = RootLock::new(HOUR, None);
        assert_eq!(
            other.try_take(control.as_fd(), Ok(control.as_fd()), now()),
            LockTry::Taken
        );
        assert!(matches!(
            lock.try_take(control.as_fd(), Ok(control.as_fd()), now()),
            LockTry::Busy(_)
        ));
        drop(other);
        std::fs::remove_file(&path).expect("a file");
        std::os::unix::fs::symlink("elsewhere", &path).expect("a symlink");
        let tried = lock.try_take(control.as_fd(), Ok(control.as_fd()), now());
        assert!(
            matches!(
                tried,
                LockTry::Failed {
                    errno: libc::ELOOP,
                    ..
                }
            ),
            "{tried:?}"
        );
        assert!(!hold.path().join("elsewhere").exists());
    }

    /// There the lock has to lie in the root, where other hosts see it.
    #[test]
    fn what_the_agent_does_not_know_is_no_local_file_system() {
        assert!(!is_local(dir(Path::new("/proc")).as_fd()));
        assert!(!is_local(dir(Path::new("/sys")).as_fd()));
    }

    /// As on a full disk.
    const NO_SPACE: Result<BorrowedFd<'_>, i32> = Err(libc::ENOSPC);

    #[test]
    fn without_a_lock_file_the_hosts_lock_has_to_do() {
        let hold = tempfile::tempdir().expect("a directory");
        let root = dir(hold.path());
        let mut first = RootLock::new(HOUR, None);
        let mut second = RootLock::new(HOUR, None);
        let taken = first.try_take(root.as_fd(), NO_SPACE, now());
        if !first.host_is_enough(root.as_fd()) {
            assert!(matches!(taken, LockTry::Failed { .. }), "not local");
            return;
        }
        assert_eq!(taken, LockTry::Taken);
        for control in [NO_SPACE, Ok(root.as_fd())] {
            let busy = second.try_take(root.as_fd(), control, now());
            assert_eq!(busy, LockTry::Busy(None));
        }
        assert!(
            !hold.path().join(NAME).exists(),
            "a busy caller makes nothing"
        );
        first.touch(Tick(HOUR)).expect("nothing to touch");
        first.release().expect("it is ours");
        let taken = second.try_take(root.as_fd(), Ok(root.as_fd()), now());
        assert_eq!(taken, LockTry::Taken);
        let busy = first.try_take(root.as_fd(), NO_SPACE, now());
        assert!(matches!(busy, LockTry::Busy(_)), "{busy:?}");
        drop(second);
        assert_eq!(
            first.try_take(root.as_fd(), NO_SPACE, now()),
            LockTry::Taken
        );
    }

    #[test]
    fn who_cannot_take_the_file_lets_go_of_the_hosts_lock() {
        let hold = tempfile::tempdir().expect("a directory");
        let root = dir(hold.path());
        let line = r#"{"host":"elsewhere","pid":7,"since":"x"}"#;
        std::fs::write(hold.path().join(NAME), line).expect("a line");
        let mut first = RootLock::new(HOUR, None);
        let busy = first.try_take(root.as_fd(), Ok(root.as_fd()), now());
        assert!(matches!(busy, LockTry::Busy(Some(_))), "{busy:?}");
        let failed = first.try_take(root.as_fd(), Err(libc::EROFS), now());
        assert!(matches!(failed, LockTry::Failed { .. }), "{failed:?}");
        assert!(!first.first.is_held());
        let mut other = HostLock::default();
        assert!(other.try_take(root.as_fd()), "it is free");
    }

    /// Whoever may read the root can lock its directory: that is no pruner's business.
    #[test]
    fn a_lock_on_the_root_itself_keeps_nobody_away() {
        let hold = tempfile::tempdir().expect("a directory");
        let root = dir(hold.path());
        let others = dir(hold.path());
        FileExt::try_lock_shared(&others).expect("locked");
        let mut lock = RootLock::new(HOUR, None);
        let taken = lock.try_take(root.as_fd(), Ok(root.as_fd()), now());
        assert_eq!(taken, LockTry::Taken);
    }
}
