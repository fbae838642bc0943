//! Finishes what was decided and could not be done at once: what is left of it is held as the
//! whole was for the decision.

use crate::layout::Layout;
use crate::model::disk::{Bundles, Disk};
use crate::model::path::RelPath;
use crate::model::report::{Aside, Outcome, Skip};
use crate::model::seen::{FileKind, Inode, Seen};
use crate::model::time::Now;
use crate::prune::executor::{Renamed, bundled, in_trash, set_aside};
use crate::prune::grip::{Checked, Grip, not_openable, take};
use crate::prune::intent::{Intent, Work};
use crate::prune::names::Names;

/// Who else of this agent takes locks in the root meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    Nobody,
    /// The engine's thread, for the victims that follow: what all sessions share stays free, or
    /// the oldest would count as locked and newer ones go in their place.
    Engine,
}

/// Takes the locks of what is left of a decided removal, never waiting: of its files or its
/// directory, of its metadata, the layout's own, and the catalogue's. To be kept until it is
/// done. What is gone, or is another inode by now, has no lock to be taken.
///
/// # Errors
/// Somebody has one of them, or a file cannot be opened.
pub fn hold<D: Disk>(
    disk: &D,
    layout: &Layout,
    intent: &Intent,
    beside: Beside,
    now: Now,
) -> Result<Vec<D::Handle>, Skip> {
    match try_hold(disk, layout, intent, beside, now) {
        Ok(held) => Ok(held),
        Err(Outcome::Skipped(why)) => Err(why),
        Err(Outcome::Gone | Outcome::Aside(_) | Outcome::InPlace) => Ok(Vec::new()),
    }
}

fn try_hold<D: Disk>(
    disk: &D,
    layout: &Layout,
    intent: &Intent,
    beside: Beside,
    now: Now,
) -> Checked<Vec<D::Handle>> {
    let (dir, stat) = disk.open(&intent.path).map_err(not_openable)?;
    let mut grip = Grip::new(disk);
    let parent = match &intent.work {
        Work::InPlace { inode, last } => {
            if !inode.is(&stat) || stat.kind != FileKind::Dir {
                return Err(Outcome::Gone);
            }
            grip.note(&stat, now);
            take(disk, &dir)?;
            for name in last {
                hold_one(disk, &mut grip, &dir, name, None, now)?;
            }
            intent.path.parent()
        }
        Work::Blobs(names) => {
            for (name, inode) in names {
                hold_one(disk, &mut grip, &dir, name, Some(*inode), now)?;
            }
            if beside == Beside::Nobody
                && let Some(catalogue) = layout.catalogue()
            {
                hold_one(disk, &mut grip, &dir, catalogue, None, now)?;
            }
            Some(intent.path.clone())
        }
    };
    for lock in layout.locks(&intent.key) {
        grip.take_lock(parent.as_ref(), &dir, &lock)?;
    }
    let mut held = grip.into_held();
    held.push(dir);
    Ok(held)
}

/// Locks one name, if it is there and, where that is asked for, this inode.
fn hold_one<'d, D: Disk>(
    disk: &'d D,
    grip: &mut Grip<'d, D>,
    dir: &D::Handle,
    name: &[u8],
    inode: Option<Inode>,
    now: Now,
) -> Checked<()> {
    match disk.open_in(dir, name) {
        Ok((file, stat)) if inode.is_none_or(|inode| inode.is(&stat)) => {
            grip.hold(name, file, &stat, now)
        }
        Ok(_) => Ok(()),
        Err(error) => match not_openable(error) {
            Outcome::Gone | Outcome::Skipped(Skip::Replaced) => Ok(()),
            outcome => Err(outcome),
        },
    }
}

/// Takes the blobs of an unfinished intent out of the tree: those that are still the same
/// inodes. What is to be kept goes to where the others of it are, if they are there still. The
/// second names what could not go, with the errno.
pub fn finish_blobs<D: Bundles>(
    disk: &D,
    intent: &Intent,
    now: Now,
) -> (Vec<Aside>, Vec<(RelPath, i32)>) {
    let (mut asides, mut left) = (Vec::new(), Vec::new());
    let Work::Blobs(blobs) = &intent.work else {
        return (asides, left);
    };
    let mut names = Names::default();
    for (name, inode) in blobs {
        let Ok(path) = intent.path.join(name) else {
            continue;
        };
        let id = match disk.look(&path) {
            Seen::There(stat) if inode.is(&stat) && stat.kind == FileKind::File => stat.id,
            // Gone, or the owner's new blob of the same name.
            Seen::There(_) | Seen::Gone => continue,
            Seen::Unreadable(errno) => {
                left.push((path, errno));
                continue;
            }
        };
        let kept = intent.keep.as_ref();
        let renamed = match kept.filter(|bundle| disk.has_bundle(bundle)) {
            Some(bundle) => bundled(disk, &path, id, bundle),
            None => set_aside(disk, &path, &in_trash(&names.next(now), id)),
        };
        match renamed {
            Renamed::Aside(Aside::Kept(_)) => {}
            Renamed::Aside(aside) => asides.push(aside),
            Renamed::Gone => {}
            Renamed::Impossible => left.push((path, libc::ENOSPC)),
            Renamed::Not(Skip::Refused { errno, .. }) => left.push((path, errno)),
            Renamed::Not(why) => {
                left.push((path, libc::ESTALE));
                // Somebody is at work there: what he swapped in is looked for in the trash.
                if why == Skip::StrangerKept {
                    break;
                }
            }
        }
    }
    (asides, left)
}
