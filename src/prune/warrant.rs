//! Whether what an earlier run decided may still be done.
//!
//! A record is a file: it may be old, and whoever can write into `.housekeeper` can lay one
//! there. So it is believed in nothing that can be asked again: the layout must own the session
//! and its files, nothing may pin it, and every name must still be the inode it was.
//!
//! What was decided was a session that rested. Where somebody wrote to what is left of it since,
//! the record is void and all that is left stays: docs/decisions/0012-a-record-does-not-outlive-a-write.md.

use crate::layout::Layout;
use crate::layout::spec::Kind;
use crate::model::disk::{Disk, LiveDisk};
use crate::model::path::RelPath;
use crate::model::pin::Pins;
use crate::model::report::Aside;
use crate::model::seen::{FileId, FileKind, Inode, Seen, Stat};
use crate::model::session::CatalogEntry;
use crate::model::time::{Now, UnixNanos};
use crate::policy::limits::Protect;
use crate::prune::intent::{Intent, Work};
use ulid::Ulid;

/// What speaks against carrying a record out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// It is not to be done, now or later; why.
    Refused(&'static str),
    /// It cannot be judged now; why. The record stays.
    Later(&'static str),
}

/// What is asked besides the disk.
#[derive(Debug, Clone, Copy)]
pub struct Law<'a> {
    pub layout: &'a Layout,
    pub protect: &'a Protect,
    pub pins: &'a Pins,
    /// `None`: there is no catalogue, or it says nothing now.
    pub catalogue: Option<&'a [CatalogEntry]>,
}

/// The first word against it ends the judging.
pub type Judged = Result<(), Against>;

const WRITTEN: Against = Against::Refused("it was written to since: somebody still uses it");
const HALF_WRITTEN: Against = Against::Refused(
    "part of it had left when what is left was written to: that stays, look at it",
);
/// How far a clock may be behind the one that a time was read from.
const SLACK: i64 = 1_000_000_000;

impl Law<'_> {
    /// Judges one record.
    pub fn judge(&self, disk: &impl Disk, intent: &Intent) -> Judged {
        match &intent.work {
            Work::InPlace { inode, .. } => self.directory(disk, intent, *inode),
            Work::Blobs(blobs) => self.blobs(disk, intent, blobs),
        }
    }

    /// Judges what is left of it, once that is held: whether somebody wrote to it since the
    /// decision, whose time the record's name tells.
    pub fn judge_writes(
        &self,
        disk: &impl LiveDisk,
        intent: &Intent,
        record: &str,
        now: Now,
    ) -> Judged {
        let Some(since) = made_at(record) else {
            return refused("its name is none of ours");
        };
        let now = UnixNanos::from(now.wall);
        if since.0 > now.0.saturating_add(SLACK) {
            return Err(Against::Later("its time lies in the future"));
        }
        match &intent.work {
            Work::InPlace { inode, .. } => tree_rests(disk, &intent.path, *inode, since, now),
            Work::Blobs(names) => names_rest(disk, &intent.path, names, since, now),
        }
    }

    /// Judges a file that was set aside beside its place. Its name says which inode was meant
    /// and when that was; what it was called before nobody knows any more.
    pub fn judge_aside(&self, disk: &impl Disk, aside: &Aside, now: Now) -> Judged {
        let Some(path) = aside.beside() else {
            return refused("it lies in the trash");
        };
        if !self.layout.is_of_files() || !self.layout.may_hold_files(&path) {
            return refused("no session is a file there");
        }
        let name = aside.name();
        let (Some(id), Some(left)) = (name.id(), made_at(name.ulid())) else {
            return refused("its name is none of ours");
        };
        let now = UnixNanos::from(now.wall);
        if left.0 > now.0.saturating_add(SLACK) {
            return Err(Against::Later("the time in its name lies in the future"));
        }
        match disk.look(&path) {
            Seen::There(stat) if stat.kind != FileKind::File || !is_it(&stat, id, left) => {
                refused("another inode has its name")
            }
            Seen::There(stat) if is_written(&stat, left, now) => Err(WRITTEN),
            // Where it is gone there is nothing left to do.
            Seen::There(_) | Seen::Gone => Ok(()),
            Seen::Unreadable(_) => Err(Against::Later("it cannot be looked at")),
        }
    }

    fn directory(&self, disk: &impl Disk, intent: &Intent, inode: Inode) -> Judged {
        let layout = self.layout;
        if layout.kind() != Kind::Directories || !layout.owns(&intent.path) {
            return refused("the layout owns no session there");
        }
        if *intent.key != *intent.path.as_bytes() {
            return refused("its key is not the session's");
        }
        self.not_pinned(intent)?;
        if is_still(disk, &intent.path, inode, FileKind::Dir)?.is_none() {
            return Ok(());
        }
        let Some(marker) = &layout.spec().marker else {
            return Ok(());
        };
        let marked = intent.path.join(marker.as_bytes());
        match marked.map(|marked| disk.look(&marked)) {
            Ok(Seen::There(stat)) if stat.kind == FileKind::File => Ok(()),
            Ok(Seen::Unreadable(_)) => Err(Against::Later("its marker cannot be looked at")),
            Ok(Seen::There(_) | Seen::Gone) | Err(_) => refused("the layout's marker is not in it"),
        }
    }

    fn blobs(&self, disk: &impl Disk, intent: &Intent, blobs: &[(Box<[u8]>, Inode)]) -> Judged {
        if self.layout.is_of_files() {
            return self.files(disk, intent, blobs);
        }
        if self.layout.kind() != Kind::Catalog || !intent.path.is_root() {
            return refused("the layout owns no blobs there");
        }
        self.not_pinned(intent)?;
        let Some(entries) = self.catalogue else {
            return Err(Against::Later("the catalogue says nothing now"));
        };
        let entry = entries.iter().find(|entry| entry.id == intent.key);
        for (name, inode) in blobs {
            let belongs = match entry {
                Some(entry) => entry.blobs.contains(name),
                None => {
                    self.layout.may_be_blob_of(&intent.key, name)
                        && !entries.iter().any(|other| other.blobs.contains(name))
                }
            };
            if !belongs {
                return refused("a blob of it does not belong to its key");
            }
            is_still(disk, &blob(name)?, *inode, FileKind::File)?;
        }
        // Its entry goes, too: not while a blob of it would stay.
        for name in entry.iter().flat_map(|entry| &entry.blobs) {
            let is_named = blobs.iter().any(|(named, _)| named == name);
            if !is_named && disk.look(&blob(name)?) != Seen::Gone {
                return refused("it does not name all blobs of its key");
            }
        }
        Ok(())
    }

    fn files(&self, disk: &impl Disk, intent: &Intent, names: &[(Box<[u8]>, Inode)]) -> Judged {
        self.not_pinned(intent)?;
        for (name, inode) in names {
            let no_name = |_| Against::Refused("a file of it has no plain name");
            let path = intent.path.join(name).map_err(no_name)?;
            if !self.layout.owns_file(&path, &intent.key) {
                return refused("a file of it does not belong to its key");
            }
            is_still(disk, &path, *inode, FileKind::File)?;
        }
        Ok(())
    }

    fn not_pinned(&self, intent: &Intent) -> Judged {
        let id = String::from_utf8_lossy(self.layout.id(&intent.key));
        if self.protect.keep.is_match(&*id) {
            return refused("the session is pinned");
        }
        if self.pins.trouble().is_some() {
            return Err(Against::Later("the pins cannot be read"));
        }
        // Whether the clock can be believed is not known yet: a pin with an end holds.
        if self
            .pins
            .hold(&intent.key, self.layout.id(&intent.key), None)
        {
            return refused("the session is pinned");
        }
        Ok(())
    }
}

fn refused(why: &'static str) -> Judged {
    Err(Against::Refused(why))
}

/// The end of the millisecond that a record's or a file's ULID tells. `None`: it is none.
fn made_at(ulid: &str) -> Option<UnixNanos> {
    let ulid = Ulid::from_string(ulid).ok()?;
    let millis = i64::try_from(ulid.timestamp_ms().checked_add(1)?).ok()?;
    millis.checked_mul(1_000_000).map(UnixNanos)
}

/// Whether a file that was set aside at `left` is the one that was meant. Device numbers are
/// given anew by a restart (btrfs, overlay, device mapper): then it is the one if an inode of
/// this number was there already when it was set aside.
fn is_it(stat: &Stat, id: FileId, left: UnixNanos) -> bool {
    let was_there = || stat.btime.is_some_and(|birth| birth <= left);
    stat.id == id || (stat.id.ino == id.ino && stat.id.dev != id.dev && was_there())
}

/// Whether a file was written to since it was set aside. A mtime in the future says nothing
/// about that; then its ctime does, which was changed by setting it aside, a moment after `left`.
fn is_written(stat: &Stat, left: UnixNanos, now: UnixNanos) -> bool {
    if stat.mtime > now {
        stat.ctime.0 > left.0.saturating_add(SLACK)
    } else {
        stat.mtime > left
    }
}

/// Nothing that is left of some files was written to. Where another name of the same inode is
/// out, our own rename changed its ctime.
fn names_rest(
    disk: &impl Disk,
    dir: &RelPath,
    names: &[(Box<[u8]>, Inode)],
    since: UnixNanos,
    now: UnixNanos,
) -> Judged {
    let (mut left, mut gone) = (Vec::new(), Vec::new());
    for (name, inode) in names {
        let no_name = |_| Against::Refused("a file of it has no plain name");
        match disk.look(&dir.join(name).map_err(no_name)?) {
            Seen::There(stat) if inode.is(&stat) => left.push(stat),
            Seen::There(_) | Seen::Gone => gone.push(inode.id.ino),
            Seen::Unreadable(_) => return Err(Against::Later("it cannot be looked at")),
        }
    }
    let written = |stat: &Stat| match gone.contains(&stat.id.ino) {
        true => stat.mtime,
        false => stat.written(now),
    };
    if left.iter().all(|stat| written(stat) <= since) {
        return Ok(());
    }
    Err(if gone.is_empty() {
        WRITTEN
    } else {
        HALF_WRITTEN
    })
}

/// Nothing that is left in a directory was written to. Its own times and those of directories in
/// it say nothing: emptying them changes these, too.
fn tree_rests(
    disk: &impl LiveDisk,
    path: &RelPath,
    inode: Inode,
    since: UnixNanos,
    now: UnixNanos,
) -> Judged {
    let Some(id) = is_still(disk, path, inode, FileKind::Dir)? else {
        return Ok(());
    };
    let mut rests = true;
    disk.look_through(path, id, &mut |_, stat| {
        rests &= stat.kind == FileKind::Dir || stat.written(now) <= since;
    })
    .map_err(|_| Against::Later("not all of it can be looked at"))?;
    if rests { Ok(()) } else { Err(WRITTEN) }
}

fn blob(name: &[u8]) -> Result<RelPath, Against> {
    let no_name = |_| Against::Refused("a blob of it has no plain name");
    RelPath::root().join(name).map_err(no_name)
}

/// What is left to be done something to: gone is done.
fn is_still(
    disk: &impl Disk,
    path: &RelPath,
    inode: Inode,
    kind: FileKind,
) -> Result<Option<FileId>, Against> {
    match disk.look(path) {
        Seen::There(stat) if inode.is(&stat) && stat.kind == kind => Ok(Some(stat.id)),
        Seen::There(_) => Err(Against::Refused("another inode has its name")),
        Seen::Gone => Ok(None),
        Seen::Unreadable(_) => Err(Against::Later("it cannot be looked at")),
    }
}
