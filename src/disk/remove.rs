//! Removes bytes for good: what lies in the trash, and files set aside beside their place.
//!
//! Everything is unlinked relative to a directory held open, one name at a time. Symlinks are
//! unlinked, never followed; what lies on another mount, a bind mount included, stays and is
//! reported. A removal never stops at its first failure: it removes what it can and says what
//! is left. "Not found" is success.
//!
//! Bounds: not recursive. At most [`MAX_OPEN`] directories of a path are open; a directory
//! below that is renamed up into the trash as a victim of its own. Where that is refused the
//! path goes on down to [`MAX_OPEN_HARD`], and what is deeper is left. At most
//! [`MAX_LEFT`] left-overs are named; the directories above the others are among them.

use crate::disk::DiskError;
use crate::disk::kept;
use crate::disk::measure::measured_at_most;
use crate::disk::tree::{
    Control, KEPT, KEPT_DIR, TRASH, Tree, Unable, fd_stat, open_below, open_name, rename_new,
    stat_at, stat_name,
};
use crate::model::bytes::Tally;
use crate::model::path::{RelPath, escape, is_name};
use crate::model::report::{Aside, AsideName, Removed};
use crate::model::seen::{FileId, FileKind, Stat};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::Arc;
use ulid::Ulid;

/// How many directories of one path are open before a deeper one is lifted. One: a directory is
/// emptied only while it lies in the trash itself, where nobody else can take it away. Deeper
/// down whoever has its parent open could move it out of the root, and lose what it gets there.
pub const MAX_OPEN: usize = 1;
/// The same where lifting is refused.
pub const MAX_OPEN_HARD: usize = 256;
/// How many left-overs are named.
pub const MAX_LEFT: usize = 1000;

/// Subdirectories of one directory taken at a time.
const MAX_SUBDIRS: usize = 4096;
/// How often one directory is gone through. Only a directory that somebody fills while it is
/// emptied, or with 16 million subdirectories, reaches it; it is left then.
const MAX_PASSES: u32 = 4096;
const BUFFER: usize = 32 << 10;

/// What an earlier run left in the trash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// To be removed.
    pub asides: Vec<Aside>,
    /// Names that are not ours, or no longer the inode they were made for: they stay.
    pub strangers: Vec<String>,
    /// There are more than [`MAX_LEFTOVERS`].
    pub more: bool,
}

/// How many names of a directory [`strangers`] looks at, and of one stranger it counts.
pub const MAX_SEARCHED: usize = 4096;
/// How many names [`leftovers`] lists.
pub const MAX_LEFTOVERS: usize = 1 << 20;

/// Removes something that was set aside, if it is still the inode its name says.
///
/// What was kept is moved into the trash first, so that nobody brings half of it back. Where that
/// cannot be done the answer names it as kept still, and left.
pub fn remove_aside(tree: &Tree, aside: &Aside) -> Removed {
    let mut aside = aside.clone();
    let (bytes, left) = match &aside {
        Aside::Trash(name) => remove_trash(tree, name),
        Aside::Kept(name) => match kept::let_go(tree, name) {
            Ok(true) => {
                let name = name.clone();
                let removed = remove_trash(tree, &name);
                aside = Aside::Trash(name);
                removed
            }
            Ok(false) => (0, Vec::new()),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                (0, vec![(name.0.clone(), errno)])
            }
        },
        Aside::Beside(dir, name) => match unlink_beside(tree, dir, &aside, name.id()) {
            Ok(bytes) => (bytes, Vec::new()),
            Err(Errno::NOENT) => (0, Vec::new()),
            Err(errno) => (0, vec![(aside_path(&aside), errno.raw_os_error())]),
        },
    };
    Removed::Trash { aside, bytes, left }
}

fn aside_path(aside: &Aside) -> String {
    let path = aside.beside();
    path.map_or_else(|| aside.file_name(), |path| path.to_string())
}

/// Unlinks a file beside its place. Answers the bytes that went with it.
fn unlink_beside(
    tree: &Tree,
    dir: &RelPath,
    aside: &Aside,
    id: Option<FileId>,
) -> rustix::io::Result<u64> {
    let place = tree.open_place(dir)?;
    let name = aside.file_name();
    let stat = stat_name(place.as_fd(), name.as_bytes())?;
    if Some(stat.id) != id || stat.kind != FileKind::File {
        return Err(Errno::STALE);
    }
    if !tree.is_ours(&stat) {
        return Err(Errno::XDEV);
    }
    rustix::fs::unlinkat(&place, name, AtFlags::empty())?;
    Ok(freed_by(&stat))
}

/// Removes something from the trash. Answers the bytes that went, and what is left.
pub(super) fn remove_trash(tree: &Tree, aside: &AsideName) -> (u64, Vec<(String, i32)>) {
    let mut remover = match tree.existing_control() {
        Ok(Some(control)) => Remover::new(tree, Some(control)),
        Ok(None) => Remover::new(tree, None),
        Err(error) => return (0, vec![(aside.0.clone(), error.errno())]),
    };
    remover.queue.push(aside.clone());
    remover.drain();
    (remover.bytes, remover.left)
}

/// Bytes are gone with the last link.
fn freed_by(stat: &Stat) -> u64 {
    if stat.kind == FileKind::File && stat.n_links == 1 {
        stat.apparent
    } else {
        0
    }
}

/// Lists what an earlier run left in the trash. Makes nothing.
///
/// # Errors
/// The trash is not the agent's own, or can't be read.
pub fn leftovers(tree: &Tree) -> Result<Leftovers, DiskError> {
    let mut leftovers = Leftovers::default();
    let Some(control) = tree.existing_control()? else {
        return Ok(leftovers);
    };
    let failed = |errno: Errno| DiskError::Own {
        operation: "read",
        path: "trash",
        source: errno.into(),
    };
    for entry in rustix::fs::Dir::read_from(control.trash()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if !is_name(name) {
            continue;
        }
        if leftovers.asides.len() + leftovers.strangers.len() == MAX_LEFTOVERS {
            leftovers.more = true;
            break;
        }
        let aside = AsideName(escape(name));
        let id = stat_name(control.trash(), name).map(|stat| stat.id);
        match id {
            Err(Errno::NOENT) => {}
            Ok(id) if aside.names(id, tree.id().dev) => {
                leftovers.asides.push(Aside::Trash(aside));
            }
            Ok(_) | Err(_) => leftovers.strangers.push(aside.0),
        }
    }
    Ok(leftovers)
}

/// What lies in the trash, or among what is kept, and is nobody's victim: each with its path below
/// `.housekeeper/` and its bytes, `at_most` so many. Of more names than [`MAX_SEARCHED`] the rest
/// is not looked at: then removal is at work there.
///
/// # Errors
/// A directory is not the agent's own, or can't be read.
pub fn strangers(tree: &Tree, at_most: usize) -> Result<Vec<(String, Tally)>, DiskError> {
    let mut found = Vec::new();
    let Some(control) = tree.existing_control()? else {
        return Ok(found);
    };
    let kept = tree.existing_kept()?;
    let bins = [
        (TRASH, Some(control.trash())),
        (KEPT_DIR, kept.as_ref().map(AsFd::as_fd)),
    ];
    for (bin, dir) in bins {
        let Some(dir) = dir else { continue };
        let failed = |errno: Errno| DiskError::Own {
            operation: "read",
            path: bin,
            source: errno.into(),
        };
        let names = rustix::fs::Dir::read_from(dir).map_err(failed)?;
        for entry in names.take(MAX_SEARCHED) {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            let aside = AsideName(escape(name));
            let is_stranger = is_name(name)
                && match stat_name(dir, name) {
                    Err(Errno::NOENT) => false,
                    Ok(stat) => !aside.names(stat.id, tree.id().dev),
                    Err(_) => true,
                };
            // What is kept together gets its name when it is there.
            let is_new = Ulid::from_string(&aside.0).is_ok();
            if is_stranger && !is_new && found.len() < at_most {
                let bytes = measured_at_most(dir, name, MAX_SEARCHED);
                found.push((format!("{bin}/{}", aside.0), bytes));
            }
        }
    }
    Ok(found)
}

/// Whether a name in the trash was marked as a stranger's.
pub fn is_kept(name: &str) -> bool {
    name.starts_with(KEPT)
}

struct Remover<'a> {
    tree: &'a Tree,
    control: Option<Arc<Control>>,
    /// Victims in the trash still to be removed: the first one, and what was lifted.
    queue: Vec<AsideName>,
    buffer: Vec<MaybeUninit<u8>>,
    bytes: u64,
    left: Vec<(String, i32)>,
}

/// A directory that is being emptied.
struct Frame {
    dir: OwnedFd,
    /// Its name in the directory above.
    name: CString,
    /// For people, in what is left.
    shown: String,
    subdirs: Vec<CString>,
    /// What could not be removed, and is not tried twice.
    failed: HashSet<CString>,
    n_passes: u32,
    /// Its right to be changed was given once.
    opened_up: bool,
}

/// How one pass over a directory ended.
enum Pass {
    /// Nothing is in it but what failed.
    Empty,
    /// Something was removed, or subdirectories wait.
    Again,
}

impl<'a> Remover<'a> {
    fn new(tree: &'a Tree, control: Option<Arc<Control>>) -> Self {
        Self {
            tree,
            control,
            queue: Vec::new(),
            buffer: vec![MaybeUninit::uninit(); BUFFER],
            bytes: 0,
            left: Vec::new(),
        }
    }

    fn leave(&mut self, name: String, errno: Errno) {
        if self.left.len() < MAX_LEFT {
            self.left.push((name, errno.raw_os_error()));
        }
    }

    /// Removes what waits in the trash, and all that is lifted meanwhile.
    fn drain(&mut self) {
        let Some(control) = self.control.clone() else {
            return;
        };
        while let Some(aside) = self.queue.pop() {
            match self.take_from_trash(&control, &aside) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => self.leave(aside.0, errno),
            }
        }
    }

    fn take_from_trash(&mut self, control: &Control, aside: &AsideName) -> rustix::io::Result<()> {
        let c_name = CString::new(aside.0.as_bytes()).map_err(|_| Errno::INVAL)?;
        let stat = stat_at(control.trash(), &c_name)?;
        if !aside.names(stat.id, self.tree.id().dev) {
            return Err(Errno::STALE);
        }
        if stat.kind != FileKind::Dir {
            return self.unlink(control.trash(), &c_name, &stat);
        }
        let frame = self.enter(control.trash(), c_name, aside.0.clone())?;
        // The descriptor, not the name, decides.
        if fd_stat(frame.dir.as_fd())?.id != stat.id {
            return Err(Errno::STALE);
        }
        self.empty(control.trash(), frame)
    }

    /// Empties a directory and removes it.
    fn empty(&mut self, parent: BorrowedFd<'_>, first: Frame) -> rustix::io::Result<()> {
        let top_name = first.name.clone();
        let mut stack = vec![first];
        while let Some(mut frame) = stack.pop() {
            let depth = stack.len();
            if let Some(name) = frame.subdirs.pop() {
                let entered = self.descend(&mut frame, name, depth);
                stack.push(frame);
                stack.extend(entered);
                continue;
            }
            let passed = self.pass(&mut frame);
            match passed {
                Ok(Pass::Again) if frame.n_passes < MAX_PASSES => stack.push(frame),
                Ok(Pass::Again | Pass::Empty) => {
                    let Some(above) = stack.last_mut() else {
                        return done(rustix::fs::unlinkat(parent, &*top_name, AtFlags::REMOVEDIR));
                    };
                    self.remove_dir(above, frame);
                }
                Err(errno) => match stack.last_mut() {
                    Some(above) => {
                        self.leave(frame.shown, errno);
                        above.failed.insert(frame.name);
                    }
                    None => return Err(errno),
                },
            }
        }
        Ok(())
    }

    fn remove_dir(&mut self, above: &mut Frame, emptied: Frame) {
        let removed = with_rights(above, |dir| {
            rustix::fs::unlinkat(dir, &*emptied.name, AtFlags::REMOVEDIR)
        });
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            // What failed in it was named; otherwise somebody fills it.
            Err(Errno::NOTEMPTY | Errno::EXIST) if !emptied.failed.is_empty() => {
                above.failed.insert(emptied.name);
            }
            Err(errno) => {
                self.leave(emptied.shown, errno);
                above.failed.insert(emptied.name);
            }
        }
    }

    /// Goes into a subdirectory, or lifts it where the path is too deep.
    fn descend(&mut self, frame: &mut Frame, name: CString, depth: usize) -> Option<Frame> {
        let shown = format!("{}/{}", frame.shown, escape(name.to_bytes()));
        if depth + 1 >= MAX_OPEN && self.lift(frame, &name).is_ok() {
            return None;
        }
        let entered = if depth + 1 >= MAX_OPEN_HARD {
            Err(Errno::NAMETOOLONG)
        } else {
            self.enter(frame.dir.as_fd(), name.clone(), shown.clone())
        };
        match entered {
            Ok(frame) => Some(frame),
            Err(Errno::NOENT) => None,
            Err(errno) => {
                self.leave(shown, errno);
                frame.failed.insert(name);
                None
            }
        }
    }

    fn lift(&mut self, frame: &Frame, name: &CStr) -> rustix::io::Result<()> {
        let control = self.control.clone().ok_or(Errno::NOENT)?;
        let id = stat_at(frame.dir.as_fd(), name)?.id;
        let aside = AsideName::new(&Ulid::generate().to_string(), id);
        rename_new(
            frame.dir.as_fd(),
            name.to_bytes(),
            control.trash(),
            aside.0.as_bytes(),
            Unable::OverwriteFresh,
        )?;
        self.queue.push(aside);
        Ok(())
    }

    /// Opens a directory to be emptied: on the root's mount, and readable from now on.
    fn enter(
        &self,
        parent: BorrowedFd<'_>,
        name: CString,
        shown: String,
    ) -> rustix::io::Result<Frame> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = match open_name(parent, name.to_bytes(), flags) {
            Err(Errno::ACCESS) => {
                let place = open_below(parent, &name, OFlags::PATH | OFlags::DIRECTORY)?;
                if !self.tree.is_ours(&fd_stat(place.as_fd())?) {
                    return Err(Errno::XDEV);
                }
                open_up(place.as_fd())?;
                open_name(parent, name.to_bytes(), flags)?
            }
            opened => opened?,
        };
        if !self.tree.is_ours(&fd_stat(dir.as_fd())?) {
            return Err(Errno::XDEV);
        }
        Ok(Frame {
            dir,
            name,
            shown,
            subdirs: Vec::new(),
            failed: HashSet::new(),
            n_passes: 0,
            opened_up: false,
        })
    }

    /// Unlinks what is no directory, and notes the directories.
    fn pass(&mut self, frame: &mut Frame) -> rustix::io::Result<Pass> {
        frame.n_passes += 1;
        rustix::fs::seek(&frame.dir, rustix::fs::SeekFrom::Start(0))?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let passed = self.pass_over(frame, &mut buffer);
        self.buffer = buffer;
        passed
    }

    fn pass_over(
        &mut self,
        frame: &mut Frame,
        buffer: &mut [MaybeUninit<u8>],
    ) -> rustix::io::Result<Pass> {
        let listed = frame.dir.try_clone().map_err(|_| Errno::MFILE)?;
        let mut entries = RawDir::new(&listed, buffer);
        let mut pass = Pass::Empty;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                // The directory itself was removed.
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(errno),
            };
            let name = entry.file_name();
            if !is_name(name.to_bytes()) || frame.failed.contains(name) {
                continue;
            }
            match self.entry(frame, name) {
                Ok(()) => pass = Pass::Again,
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    self.leave(
                        format!("{}/{}", frame.shown, escape(name.to_bytes())),
                        errno,
                    );
                    frame.failed.insert(name.to_owned());
                    if frame.failed.len() > MAX_SUBDIRS {
                        return Err(Errno::NOTEMPTY);
                    }
                }
            }
            if frame.subdirs.len() == MAX_SUBDIRS {
                break;
            }
        }
        Ok(pass)
    }

    fn entry(&mut self, frame: &mut Frame, name: &CStr) -> rustix::io::Result<()> {
        let stat = with_rights(frame, |dir| stat_at(dir, name))?;
        if !self.tree.is_ours(&stat) {
            return Err(Errno::XDEV);
        }
        if stat.kind == FileKind::Dir {
            frame.subdirs.push(name.to_owned());
            return Ok(());
        }
        let removed = with_rights(frame, |dir| {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())
        });
        if removed.is_ok() {
            self.count(&stat);
        }
        removed
    }

    fn unlink(&mut self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
        if !self.tree.is_ours(stat) {
            return Err(Errno::XDEV);
        }
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        self.count(stat);
        Ok(())
    }

    fn count(&mut self, stat: &Stat) {
        self.bytes = self.bytes.saturating_add(freed_by(stat));
    }
}

/// Gives this user all rights to a directory, through a descriptor of it.
pub(super) fn open_up(place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    // A place (O_PATH) has no fchmod; this name is the descriptor itself, no path.
    let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::chmodat(CWD, itself, Mode::RWXU, AtFlags::empty())
}

/// Does something in a directory; where this user may not, gives it the right, once.
fn with_rights<T>(
    frame: &mut Frame,
    change: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match change(frame.dir.as_fd()) {
        Err(Errno::ACCESS) if !frame.opened_up => {
            frame.opened_up = true;
            rustix::fs::fchmod(&frame.dir, Mode::RWXU)?;
            change(frame.dir.as_fd())
        }
        changed => changed,
    }
}

fn done(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}
