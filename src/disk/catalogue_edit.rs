//! Takes entries out of a catalogue that another program owns and saves without locks.
//!
//! The edit happens in place, under a write lease: nobody has the file open, and whoever opens
//! it waits the milliseconds until we are done. So no save of the owner's is ever overwritten,
//! and it never reads a half text. Before the first byte changes, the old and the new text are
//! saved in `.housekeeper/`; what a crash in the middle left is completed by [`recover`].

use crate::disk::document::{MAX_CATALOGUE, read_all};
use crate::disk::lease::WriteLease;
use crate::disk::records::write_all;
use crate::disk::tree::{Control, Tree, c_name, fd_stat, open_below};
use crate::model::report::Unlist;
use crate::model::seen::FileKind;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::flock;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;

const OLD: Saved = Saved {
    name: c"catalogue.old",
    temporary: c"catalogue.old.tmp",
};
const NEW: Saved = Saved {
    name: c"catalogue.new",
    temporary: c"catalogue.new.tmp",
};

struct Saved {
    name: &'static CStr,
    temporary: &'static CStr,
}

/// What was found of an edit that a crash interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// There was none.
    Nothing,
    /// The text was torn by us, and is whole now: the new one.
    Completed,
    /// The text is whole, or the owner has written since: left as it is.
    LeftAsItIs,
    /// No lease can be had now (the errno): to be tried again later.
    Later(i32),
}

/// A failed step: the operation and the errno.
type Step<T> = Result<T, (&'static str, Errno)>;

enum Leased {
    Yes(WriteLease),
    No(i32),
}

enum Written {
    /// The file, to be synced.
    Yes(OwnedFd),
    /// The owner has saved since the text was read.
    Changed,
    NoLease(i32),
}

/// How often an owner that saves meanwhile makes us begin anew.
const MAX_TRIES: u32 = 3;

/// Edits the catalogue `name` in the root. `edit` gets its text and gives the new one, or
/// `None` where the text says nothing it understands.
///
/// # Errors
/// None: every end is an [`Unlist`]. All but `Done` and a failure after the first write leave
/// the catalogue untouched; a failure after it leaves the saved texts for [`recover`].
pub fn edit_catalogue(
    tree: &Tree,
    name: &[u8],
    edit: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Unlist {
    try_edit(tree, name, edit).unwrap_or_else(|(operation, errno)| Unlist::Failed {
        operation,
        errno: errno.raw_os_error(),
    })
}

fn try_edit(
    tree: &Tree,
    name: &[u8],
    edit: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Step<Unlist> {
    let control = tree
        .control()
        .map_err(|error| ("open .housekeeper", Errno::from_raw_os_error(error.errno())))?;
    // The saved texts are one editor's: a command beside the agent waits for its next turn.
    let Some(_turn) = Turn::take(&control)? else {
        return Ok(Unlist::NoLease(Errno::AGAIN.raw_os_error()));
    };
    // What an earlier edit left must not be saved over; and without a lease nothing is saved.
    match lease(tree, name)? {
        Leased::Yes(lease) => {
            settle(&control, &lease)?;
        }
        Leased::No(errno) => return Ok(Unlist::NoLease(errno)),
    }
    for _ in 0..MAX_TRIES {
        let old = text_of(&open(tree, name, OFlags::RDONLY)?)?;
        let Some(new) = edit(&old) else {
            return Ok(Unlist::Unparsable);
        };
        if new == old {
            return Ok(Unlist::Done);
        }
        save(&control, &OLD, &old)?;
        save(&control, &NEW, &new)?;
        rustix::fs::fsync(control.dir()).map_err(|e| ("sync .housekeeper", e))?;
        let written = write_leased(tree, name, &old, &new);
        // After a failed write the saved texts stay: they are what completes it.
        match written? {
            Written::Yes(file) => {
                rustix::fs::fsync(&file).map_err(|e| ("sync", e))?;
                forget(&control)?;
                return Ok(Unlist::Done);
            }
            Written::Changed => forget(&control)?,
            Written::NoLease(errno) => {
                forget(&control)?;
                return Ok(Unlist::NoLease(errno));
            }
        }
    }
    Ok(Unlist::NoLease(Errno::AGAIN.raw_os_error()))
}

/// All that happens under the lease: syncing takes long where the disk is busy, and is done
/// before and after it.
fn write_leased(tree: &Tree, name: &[u8], old: &[u8], new: &[u8]) -> Step<Written> {
    let lease = match lease(tree, name)? {
        Leased::Yes(lease) => lease,
        Leased::No(errno) => return Ok(Written::NoLease(errno)),
    };
    if text_of(lease.file())? != old {
        return Ok(Written::Changed);
    }
    let file = lease
        .file()
        .try_clone()
        .map_err(|_| ("dup", Errno::MFILE))?;
    overwrite(&lease, new)?;
    Ok(Written::Yes(file))
}

/// At a start: completes an edit that a crash interrupted, where the text is torn in the way
/// our own writing tears it, and nobody has written since.
///
/// # Errors
/// The operation and the errno; the saved texts stay.
pub fn recover(tree: &Tree, name: &[u8]) -> Result<Recovery, (&'static str, i32)> {
    try_recover(tree, name).map_err(|(operation, errno)| (operation, errno.raw_os_error()))
}

fn try_recover(tree: &Tree, name: &[u8]) -> Step<Recovery> {
    let control = tree
        .existing_control()
        .map_err(|error| ("open .housekeeper", Errno::from_raw_os_error(error.errno())))?;
    let Some(control) = control else {
        return Ok(Recovery::Nothing);
    };
    if saved(&control, &OLD)?.is_none() && saved(&control, &NEW)?.is_none() {
        return Ok(Recovery::Nothing);
    }
    let Some(_turn) = Turn::take(&control)? else {
        return Ok(Recovery::Later(Errno::AGAIN.raw_os_error()));
    };
    match lease(tree, name) {
        Ok(Leased::Yes(lease)) => settle(&control, &lease),
        Ok(Leased::No(errno)) => Ok(Recovery::Later(errno)),
        Err((_, Errno::NOENT)) => {
            forget(&control)?;
            Ok(Recovery::LeftAsItIs)
        }
        Err(failed) => Err(failed),
    }
}

/// Under the lease: completes what is torn, and drops the saved texts.
fn settle(control: &Control, lease: &WriteLease) -> Step<Recovery> {
    let (old, new) = (saved(control, &OLD)?, saved(control, &NEW)?);
    if old.is_none() && new.is_none() {
        return Ok(Recovery::Nothing);
    }
    let mut recovery = Recovery::LeftAsItIs;
    // Only one of them: the crash came before the first write, or after the last.
    if let (Some(old), Some(new)) = (old, new)
        && is_torn(&text_of(lease.file())?, &old, &new)
    {
        overwrite(lease, &new)?;
        rustix::fs::fsync(lease.file()).map_err(|e| ("sync", e))?;
        recovery = Recovery::Completed;
    }
    forget(control)?;
    Ok(recovery)
}

/// Whether `present` is what is there when writing `new` over `old` from the start stopped in
/// the middle: some of `new`, then the rest of `old`, neither of them whole.
fn is_torn(present: &[u8], old: &[u8], new: &[u8]) -> bool {
    if present == old || present == new {
        return false;
    }
    let n_new = present
        .iter()
        .zip(new)
        .take_while(|(there, new)| there == new)
        .count();
    // The rest of `old` must begin no later than where `new` ends to match.
    let n_rest = present
        .iter()
        .rev()
        .zip(old.iter().rev())
        .take_while(|(there, old)| there == old)
        .count();
    let kept_old_length = present.len() == old.len() && n_new + n_rest >= present.len();
    // A text that grows is written past the end of the old one: a part of it alone.
    let outgrew_old = present.len() > old.len() && n_new == present.len();
    kept_old_length || outgrew_old
}

fn lease(tree: &Tree, name: &[u8]) -> Step<Leased> {
    let file = match open(tree, name, OFlags::RDWR) {
        Ok(file) => file,
        // Somebody else's lease.
        Err((_, Errno::AGAIN)) => return Ok(Leased::No(Errno::AGAIN.raw_os_error())),
        Err(failed) => return Err(failed),
    };
    match WriteLease::take(file) {
        Ok(lease) => Ok(Leased::Yes(lease)),
        Err(errno) => Ok(Leased::No(errno.raw_os_error())),
    }
}

fn open(tree: &Tree, name: &[u8], flags: OFlags) -> Step<OwnedFd> {
    let mut buffer = [0; 256];
    let c_name = c_name(name, &mut buffer).map_err(|e| ("name", e))?;
    let file =
        open_below(tree.root(), c_name, flags | OFlags::NONBLOCK).map_err(|e| ("open", e))?;
    let stat = fd_stat(file.as_fd()).map_err(|e| ("statx", e))?;
    // A catalogue with a second name (a snapshot by hard links) is not edited in place.
    if stat.kind != FileKind::File || stat.n_links != 1 || !tree.is_ours(&stat) {
        return Err(("open", Errno::INVAL));
    }
    Ok(file)
}

fn text_of(file: &OwnedFd) -> Step<Vec<u8>> {
    let stat = fd_stat(file.as_fd()).map_err(|e| ("statx", e))?;
    read_bounded(file, stat.apparent)
}

fn read_bounded(file: &OwnedFd, size: u64) -> Step<Vec<u8>> {
    if size > MAX_CATALOGUE {
        return Err(("read", Errno::FBIG));
    }
    read_all(file, size, MAX_CATALOGUE)
        .map_err(|e| ("read", e))?
        .ok_or(("read", Errno::FBIG))
}

fn overwrite(lease: &WriteLease, text: &[u8]) -> Step<()> {
    let file = lease.file();
    write_all(file.as_fd(), text).map_err(|e| ("write", e))?;
    rustix::fs::ftruncate(file, text.len() as u64).map_err(|e| ("truncate", e))
}

fn save(control: &Control, saved: &Saved, text: &[u8]) -> Step<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    unlink(control.dir(), saved.temporary)?;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(control.dir(), saved.temporary, flags, mode)
        .map_err(|e| ("save the text", e))?;
    write_all(file.as_fd(), text).map_err(|e| ("save the text", e))?;
    rustix::fs::fsync(&file).map_err(|e| ("save the text", e))?;
    rustix::fs::renameat(control.dir(), saved.temporary, control.dir(), saved.name)
        .map_err(|e| ("save the text", e))
}

fn saved(control: &Control, saved: &Saved) -> Step<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match open_below(control.dir(), saved.name, flags) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(("open a saved text", errno)),
    };
    let stat = fd_stat(file.as_fd()).map_err(|e| ("statx", e))?;
    if stat.kind != FileKind::File {
        return Err(("open a saved text", Errno::INVAL));
    }
    read_bounded(&file, stat.apparent).map(Some)
}

/// The right to use the saved texts, among processes; one process has one edit at a time.
struct Turn<'a>(BorrowedFd<'a>);

impl<'a> Turn<'a> {
    /// `None`: another process edits.
    fn take(control: &'a Control) -> Step<Option<Self>> {
        match flock(control.dir(), FlockOperation::NonBlockingLockExclusive) {
            // Without locks there is no second process that could know.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Some(Self(control.dir()))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(("lock .housekeeper", errno)),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        match flock(self.0, FlockOperation::Unlock) {
            // The end of the process unlocks as well.
            Ok(()) | Err(_) => {}
        }
    }
}

/// The new one first: with the old one alone nothing is ever completed.
fn forget(control: &Control) -> Step<()> {
    for saved in [&NEW, &OLD] {
        unlink(control.dir(), saved.name)?;
        unlink(control.dir(), saved.temporary)?;
    }
    Ok(())
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> Step<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(("remove a saved text", errno)),
    }
}
