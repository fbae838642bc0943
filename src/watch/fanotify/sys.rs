//! The system calls of fanotify and of file handles that no crate at hand makes.

#![expect(
    unsafe_code,
    reason = "rustix has no fanotify and no name_to_handle_at"
)]

use super::event::Handle;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::CStr;

const INIT: libc::c_uint = libc::FAN_CLASS_NOTIF
    | libc::FAN_CLOEXEC
    | libc::FAN_NONBLOCK
    | libc::FAN_REPORT_FID
    | libc::FAN_REPORT_DFID_NAME
    | libc::FAN_REPORT_TARGET_FID
    | libc::FAN_REPORT_TID;
/// What happens to a file without its names.
pub(super) const OF_FILE: u64 = libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE | libc::FAN_ATTRIB;
const MASK: u64 =
    libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_RENAME | OF_FILE | libc::FAN_ONDIR;
const WRITES: u64 = OF_FILE | libc::FAN_EVENT_ON_CHILD;
/// `MAX_HANDLE_SZ` of name_to_handle_at(2).
const MAX_HANDLE: usize = 128;
/// `AT_HANDLE_FID` of Linux 6.5: a handle to compare, not to open, as fanotify's are.
const AT_HANDLE_FID: libc::c_int = 0x200;

/// A new group. Its queue has no limit, but in a user namespace: there the kernel allows a mark
/// on the namespace's own file systems, and its own limit of events.
pub(super) fn init() -> Result<OwnedFd, Errno> {
    match init_with(INIT | libc::FAN_UNLIMITED_QUEUE) {
        Err(Errno::PERM) => init_with(INIT),
        made => made,
    }
}

fn init_with(flags: libc::c_uint) -> Result<OwnedFd, Errno> {
    // SAFETY: takes two numbers.
    let fd = unsafe { libc::fanotify_init(flags, (libc::O_RDONLY | libc::O_CLOEXEC) as u32) };
    if fd < 0 {
        return Err(last());
    }
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Marks the file system on which the directory lies.
pub(super) fn mark(group: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
    // SAFETY: both descriptors live through the call; a null path means the descriptor itself.
    let done = unsafe {
        libc::fanotify_mark(
            group.as_raw_fd(),
            flags,
            MASK,
            root.as_raw_fd(),
            std::ptr::null(),
        )
    };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// Ignores writes to files in a directory: an inode mark that does not keep the inode in memory.
pub(super) fn ignore_writes(group: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_EVICTABLE | libc::FAN_MARK_IGNORE_SURV;
    mark_dir(group, flags, Some(dir))
}

/// Takes [`ignore_writes`] back.
pub(super) fn hear_writes(group: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = libc::FAN_MARK_REMOVE | libc::FAN_MARK_IGNORE_SURV;
    mark_dir(group, flags, Some(dir))
}

/// Takes [`ignore_writes`] back everywhere.
pub(super) fn hear_all(group: BorrowedFd<'_>) -> Result<(), Errno> {
    mark_dir(group, libc::FAN_MARK_FLUSH, None)
}

fn mark_dir(
    group: BorrowedFd<'_>,
    flags: libc::c_uint,
    dir: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mask = dir.map_or(0, |_| WRITES);
    let dir = dir.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd());
    // SAFETY: the descriptors live through the call; a null path means the descriptor itself.
    let done =
        unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, mask, dir, std::ptr::null()) };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// `struct file_handle` with room for the longest.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Owned {
    n_bytes: u32,
    kind: i32,
    bytes: [u8; MAX_HANDLE],
}

impl Owned {
    /// `None`: longer than any handle is.
    pub(super) fn copy(handle: Handle<'_>) -> Option<Self> {
        let mut bytes = [0; MAX_HANDLE];
        bytes
            .get_mut(..handle.bytes.len())?
            .copy_from_slice(handle.bytes);
        Some(Self {
            n_bytes: handle.bytes.len() as u32,
            kind: handle.kind,
            bytes,
        })
    }

    pub(super) fn get(&self) -> Handle<'_> {
        Handle {
            kind: self.kind,
            bytes: &self.bytes[..self.n_bytes as usize],
        }
    }
}

/// The handle of a name in a directory, of a symlink itself; of the directory for no name.
pub(super) fn handle(dir: BorrowedFd<'_>, name: &CStr) -> Result<Owned, Errno> {
    match handle_with(dir, name, AT_HANDLE_FID) {
        // Before Linux 6.5 the flag is not known.
        Err(Errno::INVAL) => handle_with(dir, name, 0),
        answered => answered,
    }
}

fn handle_with(dir: BorrowedFd<'_>, name: &CStr, flags: libc::c_int) -> Result<Owned, Errno> {
    let mut handle = Owned {
        n_bytes: MAX_HANDLE as u32,
        kind: 0,
        bytes: [0; MAX_HANDLE],
    };
    let mut mount: libc::c_int = 0;
    let flags = if name.is_empty() {
        flags | libc::AT_EMPTY_PATH
    } else {
        flags
    };
    // SAFETY: the name ends with NUL; `handle` says how much room it has, and both places
    // live through the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            flags,
        )
    };
    if done != 0 {
        return Err(last());
    }
    // The kernel never says more than there is room for; believed only so far.
    handle.n_bytes = handle.n_bytes.min(MAX_HANDLE as u32);
    Ok(handle)
}

/// Opens the directory that a handle stands for, on the file system that `place` lies on.
/// Needs `CAP_DAC_READ_SEARCH`.
pub(super) fn open(place: BorrowedFd<'_>, handle: &Owned) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDONLY
        | libc::O_DIRECTORY
        | libc::O_NOFOLLOW
        | libc::O_NONBLOCK
        | libc::O_NOATIME
        | libc::O_CLOEXEC;
    // SAFETY: `handle` says how long it is and lives through the call, which only reads it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            place.as_raw_fd(),
            &raw const *handle,
            flags,
        )
    };
    if fd < 0 {
        return Err(last());
    }
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
