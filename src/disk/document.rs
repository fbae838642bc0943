//! Reads one small file of a root, as it was at one moment.
//!
//! Opened without following and without blocking, so a symlink or a FIFO in its place stops
//! nobody; bounded twice, by its size and by the reading itself, so a sparse giant costs nothing.

use crate::disk::tree::{Tree, c_name, fd_stat, open_quietly};
use crate::model::path::RelPath;
use crate::model::seen::{FileKind, Stat};
use crate::model::session::{Content, Document};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::time::Duration;

/// The bound for a session's metadata.
pub const MAX_METADATA: u64 = 1 << 20;
/// The bound for a catalogue.
pub const MAX_CATALOGUE: u64 = 256 << 20;

/// A file written to while it was read is read again this often; then the last text stands
/// with the signature from before it, so that no later check takes it for settled.
const MAX_READS: u32 = 3;
/// How often a file under somebody's lease is tried again, a millisecond apart.
const MAX_LEASE_WAITS: u32 = 50;

/// Reads `name` in `dir`, up to `bound` bytes.
pub fn read(tree: &Tree, dir: &RelPath, name: &[u8], bound: u64) -> Document {
    let opened = path_of(dir, name).and_then(|path| open(tree.root(), &path, MAX_LEASE_WAITS));
    document(tree, opened, name, bound)
}

/// Reads `name` in `dir` without waiting for anybody. `None` where it is longer than `bound`, or
/// somebody has a lease on it.
pub fn read_at_once(tree: &Tree, dir: &RelPath, name: &[u8], bound: u64) -> Option<Document> {
    let opened = path_of(dir, name).and_then(|path| open(tree.root(), &path, 0));
    if matches!(opened, Err(Errno::AGAIN)) {
        return None;
    }
    let document = document(tree, opened, name, bound);
    (!matches!(document.content, Content::TooBig)).then_some(document)
}

fn path_of(dir: &RelPath, name: &[u8]) -> rustix::io::Result<CString> {
    let path = dir.join(name).map_err(|_| Errno::INVAL)?;
    CString::new(path.as_bytes()).map_err(|_| Errno::INVAL)
}

/// Reads `name` in a directory that is held open, up to `bound` bytes.
pub fn read_in(tree: &Tree, dir: BorrowedFd<'_>, name: &[u8], bound: u64) -> Document {
    let mut buffer = [0; 256];
    let opened = c_name(name, &mut buffer).and_then(|name| open(dir, name, MAX_LEASE_WAITS));
    document(tree, opened, name, bound)
}

fn document(
    tree: &Tree,
    opened: rustix::io::Result<(OwnedFd, Stat)>,
    name: &[u8],
    bound: u64,
) -> Document {
    let (signature, content) = match opened {
        Err(Errno::NOENT | Errno::NOTDIR) => (None, Content::Absent),
        // ENXIO: a socket, or a FIFO nobody reads.
        Err(Errno::LOOP | Errno::ISDIR | Errno::XDEV | Errno::NXIO) => (None, Content::NotAFile),
        Err(errno) => (None, Content::Unreadable(errno.raw_os_error())),
        Ok((_, stat)) if stat.kind != FileKind::File || !tree.is_ours(&stat) => {
            (Some(stat.signature()), Content::NotAFile)
        }
        Ok((file, stat)) => read_steady(&file, stat, bound),
    };
    Document {
        name: name.into(),
        signature,
        content,
    }
}

fn open(dir: BorrowedFd<'_>, path: &CStr, max_waits: u32) -> rustix::io::Result<(OwnedFd, Stat)> {
    let mut waits = 0;
    let file = loop {
        match open_quietly(dir, path, OFlags::RDONLY | OFlags::NONBLOCK) {
            // A lease, ours perhaps while the catalogue is edited: it ends in milliseconds.
            Err(Errno::AGAIN) if waits < max_waits => {
                waits += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => break opened?,
        }
    };
    let stat = fd_stat(file.as_fd())?;
    Ok((file, stat))
}

fn read_steady(
    file: &OwnedFd,
    stat: Stat,
    bound: u64,
) -> (Option<crate::model::seen::Signature>, Content) {
    let mut before = stat;
    let mut n_reads = 1;
    loop {
        let content = read_once(file, before.apparent, bound);
        let after = match fd_stat(file.as_fd()) {
            Ok(after) => after,
            Err(errno) => {
                let content = Content::Unreadable(errno.raw_os_error());
                return (Some(before.signature()), content);
            }
        };
        if after.signature() == before.signature() || n_reads == MAX_READS {
            return (Some(before.signature()), content);
        }
        before = after;
        n_reads += 1;
    }
}

fn read_once(file: &OwnedFd, size: u64, bound: u64) -> Content {
    if size > bound {
        return Content::TooBig;
    }
    match read_all(file, size, bound) {
        Ok(Some(text)) => Content::Text(text),
        Ok(None) => Content::TooBig,
        Err(errno) => Content::Unreadable(errno.raw_os_error()),
    }
}

/// Reads from the start to the end. `None`: there is more than `bound`.
pub(super) fn read_all(
    file: &OwnedFd,
    size: u64,
    bound: u64,
) -> rustix::io::Result<Option<Vec<u8>>> {
    let fits = |n: u64| usize::try_from(n).map_err(|_| Errno::FBIG);
    // One byte more than expected, so that the end is seen without another buffer.
    let mut text = vec![0; fits(size.min(bound))? + 1];
    let mut n_read = 0;
    loop {
        match rustix::io::pread(file, &mut text[n_read..], n_read as u64) {
            Ok(0) => break,
            Ok(n) => n_read += n,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        if n_read as u64 > bound {
            return Ok(None);
        }
        // All that was expected and less than was asked for: that is the end.
        if n_read as u64 == size {
            break;
        }
        if n_read == text.len() {
            let grown = (text.len() * 2).min(fits(bound)? + 1);
            text.resize(grown, 0);
        }
    }
    text.truncate(n_read);
    Ok(Some(text))
}
