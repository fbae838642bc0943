//! A root held open, and the few ways to reach what is below it.
//!
//! The root's descriptor, inode and mount are fixed at [`Tree::open`]. `.housekeeper/` and
//! `.housekeeper/trash/` are made at the first need, never before: a command that only reads
//! leaves nothing behind.

use crate::disk::DiskError;
use crate::model::disk::{Disk, Moved};
use crate::model::path::{RelPath, is_name};
use crate::model::report::{Aside, BESIDE};
use crate::model::seen::{FileId, FileKind, Identity, Seen, Stat};
use crate::model::time::UnixNanos;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, Statx,
    StatxFlags, StatxTimestamp,
};
use rustix::io::Errno;
use rustix::path::Arg;
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The agent's own directory in a root.
pub const CONTROL: &str = ".housekeeper";
/// Where victims wait for their removal, below [`CONTROL`].
pub const TRASH: &str = "trash";
/// Where victims wait that may come back, below [`CONTROL`].
pub const KEPT_DIR: &str = "kept";
/// What begins a stranger's name in the trash: no start removes it.
pub const KEPT: &str = "kept-";

const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS);
const MASK: StatxFlags = StatxFlags::BASIC_STATS
    .union(StatxFlags::BTIME)
    .union(StatxFlags::MNT_ID);
/// The longest path the kernel takes at once, without the final NUL.
pub const MAX_PATH: usize = 4095;
/// `openat2` answers EAGAIN when a rename somewhere made its check uncertain; after this many
/// the caller gets it.
const MAX_TRIES: u32 = 64;

/// One root. Shared by all threads.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    c_path: CString,
    root: OwnedFd,
    id: FileId,
    mount: u64,
    control: Mutex<Option<Arc<Control>>>,
}

/// `.housekeeper/` and its trash, held open.
#[derive(Debug)]
pub struct Control {
    dir: OwnedFd,
    id: FileId,
    trash: OwnedFd,
    trash_id: FileId,
}

impl Control {
    /// `.housekeeper/`.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Which directory that is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// `.housekeeper/trash/`.
    pub fn trash(&self) -> BorrowedFd<'_> {
        self.trash.as_fd()
    }
}

impl Tree {
    /// Opens the directory at an absolute path without any symlink in it.
    ///
    /// # Errors
    /// A path that is not absolute, or whatever the kernel says: ENOENT, ENOTDIR, ELOOP, EACCES.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        if !path.is_absolute() {
            return Err(DiskError::NotAbsolute { path: path.into() });
        }
        let failed = |source: io::Error| DiskError::OpenRoot {
            path: path.into(),
            source,
        };
        // `components` drops trailing slashes, with which the kernel would follow a symlink.
        let plain: PathBuf = path.components().collect();
        let c_path =
            CString::new(plain.as_os_str().as_bytes()).map_err(|_| failed(Errno::INVAL.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let root =
            again(|| rustix::fs::openat2(CWD, c_path.as_c_str(), flags, Mode::empty(), resolve))
                .map_err(|errno| failed(errno.into()))?;
        let raw = raw_fd_stat(root.as_fd()).map_err(|errno| failed(errno.into()))?;
        let stat = model_stat(&raw);
        Ok(Self {
            path: plain,
            c_path,
            root,
            id: stat.id,
            mount: stat.mount,
            control: Mutex::new(None),
        })
    }

    /// The root's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells this directory from another one at its path, also after a restart.
    pub fn identity(&self) -> Identity {
        Identity {
            ino: self.id.ino,
            file_system: rustix::fs::fstatvfs(&self.root).map_or(0, |stat| stat.f_fsid),
        }
    }

    /// The root's inode.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// The root's descriptor.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether something seen lies on the root's own mount. For directories the device must be
    /// the root's as well (a btrfs subvolume is another file system); overlayfs gives files a
    /// device of their own.
    pub fn is_ours(&self, stat: &Stat) -> bool {
        stat.mount == self.mount && (stat.kind != FileKind::Dir || stat.id.dev == self.id.dev)
    }

    /// Opens a directory below the root for reading, without changing its access time where
    /// the kernel allows.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR; ELOOP for a symlink anywhere; EXDEV where another mount begins.
    pub fn open_dir(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        let (above, rest) = self.above(path)?;
        let dir = above.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
        open_quietly(dir, or_itself(rest), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The same, as a place only (`O_PATH`): needs no right to read.
    ///
    /// # Errors
    /// As [`Self::open_dir`].
    pub fn open_place(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        let (above, rest) = self.above(path)?;
        let dir = above.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
        open_below(dir, or_itself(rest), OFlags::PATH | OFlags::DIRECTORY)
    }

    /// A path longer than the kernel takes at once is opened in pieces: the directory that all
    /// but the last piece lead to, and that piece.
    fn above<'a>(&self, path: &'a RelPath) -> rustix::io::Result<(Option<OwnedFd>, &'a [u8])> {
        let mut above: Option<OwnedFd> = None;
        let mut rest = path.as_bytes();
        while rest.len() > MAX_PATH {
            let end = rest[..=MAX_PATH].iter().rposition(|b| *b == b'/');
            let end = end.ok_or(Errno::NAMETOOLONG)?;
            let dir = above.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            above = Some(open_below(dir, or_itself(&rest[..end]), flags)?);
            rest = &rest[end + 1..];
        }
        Ok((above, rest))
    }

    /// Whether the root's path leads to the directory held open.
    ///
    /// # Errors
    /// What `statx` says, but for "not found", which is an answer.
    pub fn is_in_place(&self) -> rustix::io::Result<bool> {
        match stat_at(CWD, &self.c_path) {
            Ok(stat) => Ok(stat.id == self.id && stat.mount == self.mount),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// How many bytes of the root's file system are in use; `None` where it does not say.
    pub fn used(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.root).ok()?;
        let blocks = stat.f_blocks.checked_sub(stat.f_bfree)?;
        Some(blocks.saturating_mul(stat.f_frsize)).filter(|_| stat.f_blocks > 0)
    }

    /// `.housekeeper/` with its trash; made when absent.
    ///
    /// # Errors
    /// It can't be made, or the name is something else: a symlink, a mount point, a file, or a
    /// directory of somebody who is neither this user nor root.
    pub fn control(&self) -> Result<Arc<Control>, DiskError> {
        if let Some(control) = self.held_control() {
            return Ok(control);
        }
        let dir = self.own_dir(self.root.as_fd(), CONTROL)?;
        let trash = self.own_dir(dir.0.as_fd(), TRASH)?;
        Ok(self.hold(dir, trash))
    }

    /// `.housekeeper/` with its trash where both are there already. Makes nothing.
    ///
    /// # Errors
    /// As [`Self::control`], but for "not found", which is an answer.
    pub fn existing_control(&self) -> Result<Option<Arc<Control>>, DiskError> {
        if let Some(control) = self.held_control() {
            return Ok(Some(control));
        }
        let Some(dir) = found(self.open_own(self.root.as_fd(), CONTROL))? else {
            return Ok(None);
        };
        let Some(trash) = found(self.open_own(dir.0.as_fd(), TRASH))? else {
            return Ok(None);
        };
        Ok(Some(self.hold(dir, trash)))
    }

    /// Looks whether the control directories held open still have their names, and lets go of
    /// them otherwise, so that the next need opens or makes them anew.
    ///
    /// # Errors
    /// What `statx` says, but for "not found".
    pub fn verify_control(&self) -> rustix::io::Result<()> {
        let Some(control) = self.held_control() else {
            return Ok(());
        };
        let still =
            |dir: BorrowedFd<'_>, name: &str, id: FileId| match stat_name(dir, name.as_bytes()) {
                Ok(stat) => Ok(stat.id == id && self.is_ours(&stat)),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
                Err(errno) => Err(errno),
            };
        if !still(self.root(), CONTROL, control.id)?
            || !still(control.dir(), TRASH, control.trash_id)?
        {
            *self.control.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }

    fn held_control(&self) -> Option<Arc<Control>> {
        self.control
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn hold(&self, dir: (OwnedFd, FileId), trash: (OwnedFd, FileId)) -> Arc<Control> {
        let control = Arc::new(Control {
            dir: dir.0,
            id: dir.1,
            trash: trash.0,
            trash_id: trash.1,
        });
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.clone());
        control
    }

    /// Opens one of the agent's own directories, made when absent.
    pub(super) fn own_dir(
        &self,
        parent: BorrowedFd<'_>,
        name: &'static str,
    ) -> Result<(OwnedFd, FileId), DiskError> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(own("make", name, errno)),
        }
        self.open_own(parent, name)
    }

    /// Opens one of the agent's own directories, which must be there.
    pub(super) fn open_own(
        &self,
        parent: BorrowedFd<'_>,
        name: &'static str,
    ) -> Result<(OwnedFd, FileId), DiskError> {
        let c_name = CString::new(name).map_err(|_| own("open", name, Errno::INVAL))?;
        let dir = open_quietly(parent, &c_name, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|errno| own("open", name, errno))?;
        let raw = raw_fd_stat(dir.as_fd()).map_err(|errno| own("look at", name, errno))?;
        let stat = model_stat(&raw);
        let me = rustix::process::geteuid().as_raw();
        // In a root that everybody may write to, somebody else could put his directory there
        // first and lay records and leftovers into it.
        // Nor may the root's owner, where a more powerful user carries out what they say.
        let trusted = raw.stx_uid == me || raw.stx_uid == 0;
        if !self.is_ours(&stat) || !trusted {
            return Err(DiskError::NotOwn { path: name });
        }
        Ok((dir, stat.id))
    }

    /// `.housekeeper/kept` where it is there already. Makes nothing.
    ///
    /// # Errors
    /// As [`Self::control`], but for "not found", which is an answer.
    pub(super) fn existing_kept(&self) -> Result<Option<OwnedFd>, DiskError> {
        let Some(control) = self.existing_control()? else {
            return Ok(None);
        };
        let kept = found(self.open_own(control.dir(), KEPT_DIR))?;
        Ok(kept.map(|(dir, _)| dir))
    }

    /// Where something is set aside, made when absent.
    fn bin_of(&self, aside: &Aside) -> Result<Bin, DiskError> {
        Ok(match aside {
            Aside::Trash(_) => Bin::Trash(self.control()?),
            Aside::Kept(_) => Bin::Kept(self.own_dir(self.control()?.dir(), KEPT_DIR)?.0),
            Aside::Beside(..) => Bin::Beside,
        })
    }

    /// The directory that a path lies in, and its last name.
    pub(super) fn parent<'a>(
        &self,
        path: &'a RelPath,
    ) -> rustix::io::Result<(Parent<'_>, &'a [u8])> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(Errno::INVAL);
        };
        let dir = if parent.is_root() {
            Parent::Root(self.root.as_fd())
        } else {
            Parent::Below(self.open_place(&parent)?)
        };
        Ok((dir, name))
    }
}

/// The directory that something set aside lies in.
enum Bin {
    Trash(Arc<Control>),
    Kept(OwnedFd),
    /// That in which it lay.
    Beside,
}

impl Bin {
    /// `home`: the directory in which it lay.
    fn dir<'a>(&'a self, home: BorrowedFd<'a>) -> BorrowedFd<'a> {
        match self {
            Self::Trash(control) => control.trash(),
            Self::Kept(kept) => kept.as_fd(),
            Self::Beside => home,
        }
    }
}

pub(super) enum Parent<'a> {
    Root(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

impl Disk for Tree {
    type Handle = OwnedFd;

    fn in_place(&self) -> io::Result<bool> {
        let in_place = self.is_in_place()?;
        if in_place {
            self.verify_control()?;
        }
        Ok(in_place)
    }

    fn look(&self, path: &RelPath) -> Seen {
        let looked = if path.is_root() {
            fd_stat(self.root.as_fd())
        } else {
            self.parent(path)
                .and_then(|(dir, name)| stat_name(dir.as_fd(), name))
        };
        seen(looked)
    }

    fn open(&self, path: &RelPath) -> io::Result<(OwnedFd, Stat)> {
        let opened = open_quietly(
            self.root.as_fd(),
            or_itself(path.as_bytes()),
            OFlags::RDONLY | OFlags::NONBLOCK,
        )?;
        let stat = fd_stat(opened.as_fd())?;
        Ok((opened, stat))
    }

    fn open_in(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<(OwnedFd, Stat)> {
        let opened = open_name(dir.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let stat = fd_stat(opened.as_fd())?;
        Ok((opened, stat))
    }

    fn lock(&self, handle: &OwnedFd) -> io::Result<bool> {
        match rustix::fs::flock(handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn set_aside(&self, path: &RelPath, aside: &Aside) -> io::Result<Moved> {
        let taken = self.take(path, aside)?;
        if Some(taken.stat.id) == aside.name().id() {
            return Ok(Moved::Aside);
        }
        Ok(taken.give_back())
    }
}

/// Something that was renamed out of its place, with both directories as they were open then.
pub(super) struct Taken<'a> {
    from: Parent<'a>,
    name: &'a [u8],
    bin: Bin,
    aside: &'a Aside,
    stat: Stat,
}

impl Taken<'_> {
    fn to(&self) -> BorrowedFd<'_> {
        self.bin.dir(self.from.as_fd())
    }

    /// It is somebody else's: back onto its own name where that is free, else marked.
    pub(super) fn give_back(&self) -> Moved {
        let (from, aside_name) = (self.from.as_fd(), self.aside.file_name());
        let aside_name = aside_name.as_bytes();
        if rename_new(self.to(), aside_name, from, self.name, Unable::Refuse).is_ok() {
            return Moved::Back;
        }
        let begin = match self.bin {
            Bin::Trash(_) | Bin::Kept(_) => "",
            Bin::Beside => BESIDE,
        };
        match keep(self.to(), begin, self.aside) {
            // Also without its new name the next start sees that its inode is another one.
            Ok(()) | Err(_) => Moved::Kept,
        }
    }
}

impl Tree {
    /// Renames back, onto a free name only.
    pub(super) fn put_back(&self, aside: &Aside, path: &RelPath) -> io::Result<()> {
        let bin = self.bin_of(aside)?;
        let (to, name) = self.parent(path)?;
        let from = bin.dir(to.as_fd());
        let aside_name = aside.file_name();
        rename_new(
            from,
            aside_name.as_bytes(),
            to.as_fd(),
            name,
            Unable::Refuse,
        )?;
        Ok(())
    }

    /// Renames out of its place; what is under the new name then.
    pub(super) fn take<'a>(&'a self, path: &'a RelPath, aside: &'a Aside) -> io::Result<Taken<'a>> {
        let bin = self.bin_of(aside)?;
        let (from, name) = self.parent(path)?;
        let mut taken = Taken {
            from,
            name,
            bin,
            aside,
            stat: NO_STAT,
        };
        // Beside: the same open directory, whatever has its path by now.
        let (to, aside_name) = (taken.to(), aside.file_name());
        let aside_name = aside_name.as_bytes();
        rename_new(
            taken.from.as_fd(),
            name,
            to,
            aside_name,
            Unable::OverwriteFresh,
        )?;
        // The rename is done: an error now must not look like a refusal. A stat that equals
        // nothing is treated like a stranger's, which is never removed.
        taken.stat = stat_name(to, aside_name).unwrap_or(NO_STAT);
        Ok(taken)
    }
}

/// Marks something set aside as not ours: no start removes it.
pub(super) fn keep(dir: BorrowedFd<'_>, begin: &str, aside: &Aside) -> rustix::io::Result<()> {
    let kept = format!("{begin}{KEPT}{}", aside.name().0);
    let name = aside.file_name();
    rename_new(
        dir,
        name.as_bytes(),
        dir,
        kept.as_bytes(),
        Unable::OverwriteFresh,
    )
}

/// Equal to nothing that exists.
const NO_STAT: Stat = Stat {
    id: FileId { dev: 0, ino: 0 },
    mount: 0,
    kind: FileKind::Other,
    apparent: 0,
    allocated: 0,
    n_links: 0,
    mtime: UnixNanos(0),
    ctime: UnixNanos(0),
    btime: None,
};

/// What to do on a file system without `RENAME_NOREPLACE` (it answers EINVAL).
#[derive(Clone, Copy)]
pub(super) enum Unable {
    /// The new name is a fresh one of ours: an ordinary rename replaces nothing.
    OverwriteFresh,
    Refuse,
}

/// Renames onto a free name.
pub(super) fn rename_new(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    new_name: &[u8],
    unable: Unable,
) -> rustix::io::Result<()> {
    if !is_name(name) || !is_name(new_name) {
        return Err(Errno::INVAL);
    }
    match rustix::fs::renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => match unable {
            Unable::OverwriteFresh => rustix::fs::renameat(from, name, to, new_name),
            Unable::Refuse => Err(Errno::INVAL),
        },
        done => done,
    }
}

/// `statx` of one ordinary name in an open directory. No allocation.
pub(super) fn stat_name(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Stat> {
    let mut buffer = [0; 256];
    stat_at(dir, c_name(name, &mut buffer)?)
}

/// `statx` without following, without mounting and without asking a server anew.
pub(super) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(dir, name, flags, MASK).map(|raw| model_stat(&raw))
}

/// `statx` of an open descriptor.
/// What an open file is.
pub fn fd_stat(fd: BorrowedFd<'_>) -> rustix::io::Result<Stat> {
    raw_fd_stat(fd).map(|raw| model_stat(&raw))
}

fn raw_fd_stat(fd: BorrowedFd<'_>) -> rustix::io::Result<Statx> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, MASK)
}

fn model_stat(raw: &Statx) -> Stat {
    let time = |stamp: &StatxTimestamp| UnixNanos::new(stamp.tv_sec, stamp.tv_nsec);
    let has_birth = raw.stx_mask & StatxFlags::BTIME.bits() != 0;
    let has_mount = raw.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    Stat {
        id: FileId {
            dev: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            ino: raw.stx_ino,
        },
        // Before Linux 5.8 there is no number: all mounts of one device look alike.
        mount: if has_mount { raw.stx_mnt_id } else { 0 },
        kind: match FileType::from_raw_mode(raw.stx_mode.into()) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Dir,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        },
        apparent: raw.stx_size,
        allocated: raw.stx_blocks.saturating_mul(512),
        n_links: raw.stx_nlink,
        mtime: time(&raw.stx_mtime),
        ctime: time(&raw.stx_ctime),
        btime: has_birth.then(|| time(&raw.stx_btime)),
    }
}

/// What a `statx` answer means for a name. A parent that is no directory any more, or hides
/// behind a symlink or a mount, has no such name.
pub(super) fn seen(looked: rustix::io::Result<Stat>) -> Seen {
    match looked {
        Ok(stat) => Seen::There(stat),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Seen::Gone,
        Err(errno) => Seen::Unreadable(errno.raw_os_error()),
    }
}

/// A name as the kernel wants it, on the stack.
pub(super) fn c_name<'a>(name: &[u8], buffer: &'a mut [u8; 256]) -> rustix::io::Result<&'a CStr> {
    if !is_name(name) {
        return Err(Errno::INVAL);
    }
    if name.len() > 255 {
        return Err(Errno::NAMETOOLONG);
    }
    buffer[..name.len()].copy_from_slice(name);
    buffer[name.len()] = 0;
    CStr::from_bytes_with_nul(&buffer[..=name.len()]).map_err(|_| Errno::INVAL)
}

/// Nothing is the directory itself.
fn or_itself(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// Opens one ordinary name in an open directory, with the same care as a path below the root.
pub(super) fn open_name(
    dir: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut buffer = [0; 256];
    open_quietly(dir, c_name(name, &mut buffer)?, flags)
}

/// Without touching the access time; only a file's owner may ask for that.
pub(super) fn open_quietly<P: Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    match open_below(dir, path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open_below(dir, path, flags),
        opened => opened,
    }
}

pub(super) fn open_below<P: Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    again(|| rustix::fs::openat2(dir, path, flags, Mode::empty(), BELOW))
}

/// Opens until the kernel is sure, or was asked too often.
fn again(open: impl Fn() -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) if tries < MAX_TRIES => tries += 1,
            opened => return opened,
        }
    }
}

fn own(operation: &'static str, path: &'static str, errno: Errno) -> DiskError {
    DiskError::Own {
        operation,
        path,
        source: errno.into(),
    }
}

fn found<T>(opened: Result<T, DiskError>) -> Result<Option<T>, DiskError> {
    match opened {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.errno() == libc::ENOENT => Ok(None),
        Err(error) => Err(error),
    }
}
