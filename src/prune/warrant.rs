//! Whether what an earlier run decided may still be done.
//!
//! A record is a file: it may be old, and whoever can write into `.housekeeper` can lay one
//! there. So it is believed in nothing that can be asked again: the layout must own the session
//! and its files, nothing may pin it, and every name must still be the inode it was.

use crate::layout::Layout;
use crate::layout::spec::Kind;
use crate::model::disk::Disk;
use crate::model::path::RelPath;
use crate::model::pin::Pins;
use crate::model::report::Aside;
use crate::model::seen::{FileKind, Inode, Seen};
use crate::model::session::CatalogEntry;
use crate::policy::limits::Protect;
use crate::prune::intent::{Intent, Work};
use ulid::Ulid;

/// The answer for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warrant {
    Granted,
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
type Judged = Result<(), Warrant>;

impl Law<'_> {
    /// Judges one record.
    pub fn judge(&self, disk: &impl Disk, intent: &Intent) -> Warrant {
        let judged = match &intent.work {
            Work::InPlace { inode, .. } => self.directory(disk, intent, *inode),
            Work::Blobs(blobs) => self.blobs(disk, intent, blobs),
        };
        judged.err().unwrap_or(Warrant::Granted)
    }

    /// Judges a file that was set aside beside its place. Its name says which inode was meant
    /// and when that was; what it was called before nobody knows any more.
    pub fn judge_aside(&self, disk: &impl Disk, aside: &Aside) -> Warrant {
        let Some(path) = aside.beside() else {
            return Warrant::Refused("it lies in the trash");
        };
        if !self.layout.is_of_files() || !self.layout.may_hold_files(&path) {
            return Warrant::Refused("no session is a file there");
        }
        let name = aside.name();
        let (Some(id), Ok(ulid)) = (name.id(), Ulid::from_string(name.ulid())) else {
            return Warrant::Refused("its name is none of ours");
        };
        // The name's time is in whole milliseconds, cut off.
        let left = i64::try_from(ulid.timestamp_ms() + 1).unwrap_or(i64::MAX);
        let left = left.saturating_mul(1_000_000);
        match disk.look(&path) {
            Seen::There(stat) if stat.id != id || stat.kind != FileKind::File => {
                Warrant::Refused("another inode has its name")
            }
            Seen::There(stat) if stat.mtime.0 > left => {
                Warrant::Refused("it was written to since: somebody still uses it")
            }
            Seen::There(_) => Warrant::Granted,
            // There is nothing left to do.
            Seen::Gone => Warrant::Granted,
            Seen::Unreadable(_) => Warrant::Later("it cannot be looked at"),
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
        if !is_still(disk, &intent.path, inode, FileKind::Dir)? {
            return Ok(());
        }
        let Some(marker) = &layout.spec().marker else {
            return Ok(());
        };
        let marked = intent.path.join(marker.as_bytes());
        match marked.map(|marked| disk.look(&marked)) {
            Ok(Seen::There(stat)) if stat.kind == FileKind::File => Ok(()),
            Ok(Seen::Unreadable(_)) => Err(Warrant::Later("its marker cannot be looked at")),
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
            return Err(Warrant::Later("the catalogue says nothing now"));
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
            let no_name = |_| Warrant::Refused("a file of it has no plain name");
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
            return Err(Warrant::Later("the pins cannot be read"));
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
    Err(Warrant::Refused(why))
}

fn blob(name: &[u8]) -> Result<RelPath, Warrant> {
    let no_name = |_| Warrant::Refused("a blob of it has no plain name");
    RelPath::root().join(name).map_err(no_name)
}

/// Whether there is anything left to do: gone is done.
fn is_still(
    disk: &impl Disk,
    path: &RelPath,
    inode: Inode,
    kind: FileKind,
) -> Result<bool, Warrant> {
    match disk.look(path) {
        Seen::There(stat) if stat.inode() == inode && stat.kind == kind => Ok(true),
        Seen::There(_) => Err(Warrant::Refused("another inode has its name")),
        Seen::Gone => Ok(false),
        Seen::Unreadable(_) => Err(Warrant::Later("it cannot be looked at")),
    }
}
