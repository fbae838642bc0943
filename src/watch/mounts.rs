//! What is mounted on this host below a root, and word of any change.
//!
//! Bounds: of the table [`MAX_TABLE`] bytes are read; what lies beyond is left to the scans,
//! which meet every mount by themselves.

use crate::model::path::RelPath;
use crate::model::place::MountPoint;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

const TABLE: &str = "/proc/self/mountinfo";
/// Some hundred thousand mounts.
const MAX_TABLE: u64 = 16 << 20;

/// `/proc/self/mountinfo`, held open: it becomes exceptional (`POLLPRI`) at each change, once
/// for each poll; see proc_pid_mountinfo(5).
#[derive(Debug)]
pub struct Mounts(File);

impl Mounts {
    /// # Errors
    /// `/proc` is not mounted.
    pub fn open() -> std::io::Result<Self> {
        File::open(TABLE).map(Self)
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// All that is mounted below the directory held open, not on it.
///
/// # Errors
/// `/proc` is not mounted or says nothing.
pub fn below(root: BorrowedFd<'_>) -> std::io::Result<BTreeSet<MountPoint>> {
    // The table has the path that the kernel knows the directory by.
    let root = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))?;
    let mut table = Vec::new();
    File::open(TABLE)?.take(MAX_TABLE).read_to_end(&mut table)?;
    Ok(parse(&table, root.as_os_str().as_bytes()))
}

/// Lines that are in no form that is known are passed over.
fn parse(table: &[u8], root: &[u8]) -> BTreeSet<MountPoint> {
    let lines = table.split(|b| *b == b'\n');
    lines.filter_map(|line| point(line, root)).collect()
}

/// `id parent major:minor root mount-point …`
fn point(line: &[u8], root: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|b| *b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = unescape(fields.nth(3)?);
    let below = path.strip_prefix(root)?.strip_prefix(b"/")?;
    let at = RelPath::new(below).ok().filter(|at| !at.is_root())?;
    Some(MountPoint { at, id })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_the_root_is_found_in_the_table() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            40 22 0:5 / /srv/r rw - tmpfs none rw\n\
            41 40 0:6 / /srv/r/s0 rw,x shared:3 - tmpfs none rw\n\
            42 40 0:6 /a /srv/r/with\\040space\\134n/\\303\\244 rw - tmpfs none rw\n\
            43 22 0:7 / /srv/r2/s0 rw - tmpfs none rw\n\
            nonsense\n44 22 0:7 /\n";
        let found: Vec<(Vec<u8>, u64)> = parse(table, b"/srv/r")
            .into_iter()
            .map(|point| (point.at.as_bytes().to_vec(), point.id))
            .collect();
        let odd = b"with space\\n/\xc3\xa4".to_vec();
        assert_eq!(found, [(b"s0".to_vec(), 41), (odd, 42)]);
    }

    #[test]
    fn the_hosts_own_table_is_read() {
        let root = File::open("/").expect("a root");
        let proc = RelPath::new(b"proc").expect("a path");
        let found = below(root.as_fd());
        // The root of everything is "/": what lies below it has no further slash.
        assert!(
            found.is_ok_and(|points| points.iter().all(|p| p.at != proc) || !points.is_empty())
        );
    }
}
