//! Puts a new text in the place of a session's metadata.
//!
//! The new file is written and synced in `.housekeeper/`, with the old one's owner, mode, access
//! lists and other extended attributes (where one of them cannot be had, nothing is rewritten), and
//! then changes places with the old one in one step, so that a crash leaves the old text or the
//! new one, never a mixture. What came out is looked at: is it not the file that was read, or did
//! somebody open that one meanwhile, the two change places again. So no save of the owner's is
//! ever lost to us.
//!
//! Where a file system cannot exchange two names, nothing is rewritten.
//!
//! A crash leaves at most one file in `.housekeeper/`, whose name tells both inodes, and size and
//! mtime of the old one: [`sweep`] removes it at the next start if it is the new one, or the old one
//! as it was read and open nowhere. What its owner wrote into the old one, through a descriptor kept
//! past the exchange, stays.

use crate::disk::lease::WriteLease;
use crate::disk::records::write_all;
use crate::disk::tree::{Control, KEPT, Tree, Unable, fd_stat, open_name, rename_new, stat_name};
use crate::model::disk::Place;
use crate::model::path::is_name;
use crate::model::seen::{FileId, FileKind, Signature, Stat};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, RenameFlags, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use ulid::Ulid;

/// What the names of all files of this module begin with.
const PREFIX: &str = "rewrite-";
/// The kernel's bound for one attribute's value, and for the list of names (`XATTR_SIZE_MAX`).
const MAX_ATTRIBUTE: usize = 64 << 10;
/// How often two files change places until each is where it belongs.
const MAX_SWAPS: u32 = 4;

/// Puts `text` in the place of `file`, which is open only here. `false`: somebody else changed
/// the file or has it open; it is as they want it.
///
/// # Errors
/// What the kernel says; the old file is in its place then.
pub fn rewrite(
    tree: &Tree,
    place: &Place<'_>,
    file: &OwnedFd,
    old: Signature,
    text: &[u8],
) -> rustix::io::Result<bool> {
    let control = tree
        .control()
        .map_err(|error| Errno::from_raw_os_error(error.errno()))?;
    let spare = Spare::write(&control, file, old, text)?;
    let swapped = swap_in(tree, place, file, old, &spare);
    // Only what is known to be of no use to anybody: the text that was read, or the new one.
    let removed = match swapped {
        Ok(true) => spare.remove(old.id),
        Ok(false) | Err(_) => spare.remove(spare.new),
    };
    let done = swapped?;
    removed?;
    Ok(done)
}

/// The file in `.housekeeper/`: first the new one, afterwards the old one.
struct Spare<'a> {
    control: &'a Control,
    name: String,
    new: FileId,
}

impl<'a> Spare<'a> {
    fn write(
        control: &'a Control,
        model: &OwnedFd,
        old: Signature,
        text: &[u8],
    ) -> rustix::io::Result<Self> {
        let ulid = Ulid::generate().to_string();
        let name = format!("{PREFIX}{ulid}");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(control.dir(), &name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut spare = Self {
            control,
            name,
            new: FileId::default(),
        };
        let written = fill(&file, model, text).and_then(|()| {
            spare.new = fd_stat(file.as_fd())?.id;
            let named = spare_name(&ulid, spare.new, old);
            rename_new(
                control.dir(),
                spare.name.as_bytes(),
                control.dir(),
                named.as_bytes(),
                Unable::OverwriteFresh,
            )?;
            spare.name = named;
            Ok(())
        });
        match written {
            Ok(()) => Ok(spare),
            Err(errno) => {
                // It was never in the session.
                unlink(control.dir(), &spare.name)?;
                Err(errno)
            }
        }
    }

    /// Removes what lies there, if it is this file. Another one is somebody's: it stays, under a
    /// name that no start removes.
    fn remove(&self, id: FileId) -> rustix::io::Result<()> {
        match stat_name(self.control.dir(), self.name.as_bytes()) {
            Ok(stat) if stat.id == id => unlink(self.control.dir(), &self.name),
            Err(Errno::NOENT) => Ok(()),
            Ok(_) | Err(_) => rename_new(
                self.control.dir(),
                self.name.as_bytes(),
                self.control.dir(),
                format!("{KEPT}{}", self.name).as_bytes(),
                Unable::OverwriteFresh,
            ),
        }
    }
}

fn fill(file: &OwnedFd, model: &OwnedFd, text: &[u8]) -> rustix::io::Result<()> {
    write_all(file.as_fd(), text)?;
    let (wanted, own) = (rustix::fs::fstat(model)?, rustix::fs::fstat(file)?);
    if (wanted.st_uid, wanted.st_gid) != (own.st_uid, own.st_gid) {
        let (uid, gid) = (Uid::from_raw(wanted.st_uid), Gid::from_raw(wanted.st_gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    copy_attributes(model, file)?;
    // Afterwards: a change of the owner takes bits away, and so may an access list.
    rustix::fs::fchmod(file, Mode::from_raw_mode(wanted.st_mode))?;
    rustix::fs::fsync(file)
}

/// Gives the new file all extended attributes of the old one, access lists among them, and
/// takes away what its directory gave it. Where one cannot be had nothing is rewritten: who may
/// read the metadata must not change with it.
fn copy_attributes(model: &OwnedFd, file: &OwnedFd) -> rustix::io::Result<()> {
    let (wanted, own) = (attributes(model)?, attributes(file)?);
    for name in own.keys().filter(|name| !wanted.contains_key(*name)) {
        rustix::fs::fremovexattr(file, &**name)?;
    }
    for (name, value) in &wanted {
        if own.get(name) != Some(value) {
            rustix::fs::fsetxattr(file, &**name, value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// The extended attributes that are seen of a file. A file system without them has none.
fn attributes(file: &OwnedFd) -> rustix::io::Result<BTreeMap<CString, Vec<u8>>> {
    let mut names = Vec::new();
    match grown(&mut names, |buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        listed => listed?,
    }
    let mut all = BTreeMap::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::INVAL)?;
        let mut value = Vec::new();
        grown(&mut value, |buffer| {
            rustix::fs::fgetxattr(file, name, buffer)
        })?;
        all.insert(name.to_owned(), value);
    }
    Ok(all)
}

/// Asks with a buffer that is large enough for all there can be; the kernel has no larger ones.
fn grown(
    buffer: &mut Vec<u8>,
    ask: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<()> {
    buffer.resize(MAX_ATTRIBUTE, 0);
    let n_bytes = ask(buffer)?;
    buffer.truncate(n_bytes);
    Ok(())
}

fn swap_in(
    tree: &Tree,
    place: &Place<'_>,
    file: &OwnedFd,
    old: Signature,
    spare: &Spare<'_>,
) -> rustix::io::Result<bool> {
    let lease = match WriteLease::take(file.try_clone().map_err(|_| Errno::MFILE)?) {
        Ok(lease) => Some(lease),
        // Somebody has it open.
        Err(Errno::AGAIN) => return Ok(false),
        // Another user's, or a file system without leases: the looks have to do.
        Err(_) => None,
    };
    // Resolved anew, as late as can be: a session that was moved meanwhile is not followed.
    let dir = tree.open_place(place.session)?;
    let stat = fd_stat(dir.as_fd())?;
    let there = stat_name(dir.as_fd(), place.name)?;
    if stat.id != place.id || !tree.is_ours(&stat) || there.signature() != old {
        return Ok(false);
    }
    // Where two files cannot change places nothing is done: a rename would put an end to what
    // the owner saved a moment ago.
    swap(spare, dir.as_fd(), place.name)?;
    let is_as_read = stat_name(spare.control.dir(), spare.name.as_bytes())
        .is_ok_and(|out| out.id == old.id && out.apparent == old.size && out.mtime == old.mtime);
    if is_as_read && !lease.as_ref().is_some_and(WriteLease::is_waited_for) {
        return Ok(true);
    }
    for _ in 0..MAX_SWAPS {
        swap(spare, dir.as_fd(), place.name)?;
        let out = stat_name(spare.control.dir(), spare.name.as_bytes())?;
        if out.id == spare.new {
            return Ok(false);
        }
    }
    Err(Errno::STALE)
}

fn swap(spare: &Spare<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    if !is_name(name) {
        return Err(Errno::INVAL);
    }
    let from = spare.control.dir();
    rustix::fs::renameat_with(from, &*spare.name, dir, name, RenameFlags::EXCHANGE)
}

/// Removes what a crash left, under the root's lock. Answers the names that stay: what lies
/// there is neither of the two files, but somebody's newer one.
///
/// # Errors
/// `.housekeeper/` cannot be read.
pub fn sweep(tree: &Tree) -> rustix::io::Result<Vec<String>> {
    let control = tree
        .existing_control()
        .map_err(|error| Errno::from_raw_os_error(error.errno()))?;
    let Some(control) = control else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in Dir::read_from(control.dir())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            found.push(name);
        }
    }
    let mut kept = Vec::new();
    for name in found {
        let stat = match stat_name(control.dir(), name.as_bytes()) {
            Err(Errno::NOENT) => continue,
            looked => looked?,
        };
        if stat.kind == FileKind::File && is_of_no_use(&control, &name, &stat) {
            unlink(control.dir(), &name)?;
        } else {
            kept.push(name);
        }
    }
    Ok(kept)
}

/// Whether what a crash left holds nothing that is not in the session, or never was.
fn is_of_no_use(control: &Control, name: &str, stat: &Stat) -> bool {
    let told: Vec<&str> = name.split('-').skip(2).collect();
    match told[..] {
        // Without inodes in its name it was never in the session.
        [] => true,
        [new, ..] if new == id_text(stat.id) => true,
        [_, old, size, mtime] if old == id_text(stat.id) => {
            let is_as_read =
                size == stat.apparent.to_string() && mtime == format!("{:x}", stat.mtime.0);
            is_as_read && !is_open(control, name)
        }
        _ => false,
    }
}

/// Whether somebody has it open and may write to it yet. Where no lease can be had, as on another
/// user's file without the right to it, nobody can say.
fn is_open(control: &Control, name: &str) -> bool {
    let file = open_name(
        control.dir(),
        name.as_bytes(),
        OFlags::RDONLY | OFlags::NONBLOCK,
    );
    match file.and_then(WriteLease::take) {
        Ok(_) => false,
        Err(errno) => errno == Errno::AGAIN,
    }
}

/// What a file of this module is called once it is whole.
fn spare_name(ulid: &str, new: FileId, old: Signature) -> String {
    let (size, mtime) = (old.size, old.mtime.0);
    format!(
        "{PREFIX}{ulid}-{}-{}-{size}-{mtime:x}",
        id_text(new),
        id_text(old.id)
    )
}

fn id_text(id: FileId) -> String {
    format!("{:x}.{:x}", id.dev, id.ino)
}

fn unlink(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
