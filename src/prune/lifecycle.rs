//! Carries out one step of a session's life, or says why not.
//!
//! As for a removal: the session is the directory that was meant; nobody holds a lock on it, and
//! we hold them all until it is done; its metadata is what the decision was made from. Then
//! everything in it is looked at once more, and anything written since the decision's time ends
//! it. Parts leave by one rename each, into the trash; the metadata changes in one step.

use crate::layout::{Layout, LockAt};
use crate::model::disk::{LiveDisk, Place};
use crate::model::lifecycle::{Deed, LifeOrder, LifeOutcome, Parts, PartsOrder, PartsSeen};
use crate::model::path::RelPath;
use crate::model::report::{Outcome, Skip};
use crate::model::seen::{FileKind, Inode, Stat};
use crate::model::time::{Now, UnixNanos};
use crate::policy::lifecycle::Lifecycle;
use crate::prune::executor::{Renamed, fresh, set_aside};
use crate::prune::grip::{Checked, Grip, errno, not_openable, refused, skip, take};
use std::io;

/// Most parts of one order; what is left is for another one.
const MAX_PARTS: usize = 1024;

/// A root's sessions and their rules.
#[derive(Debug)]
pub struct Keeping<'a, D> {
    pub disk: &'a D,
    pub layout: &'a Layout,
    pub rules: &'a Lifecycle,
}

/// A file that is to go.
struct Part {
    path: RelPath,
    inode: Inode,
    bytes: u64,
}

impl<D: LiveDisk> Keeping<'_, D> {
    /// Looks for a session's parts; changes nothing.
    ///
    /// # Errors
    /// Not all of the session could be looked at.
    pub fn find_parts(&self, order: &PartsOrder, now: Now) -> io::Result<PartsSeen> {
        let mut seen = PartsSeen {
            parts: Parts::default(),
            newest: UnixNanos(i64::MIN),
        };
        let wall = now.wall.into();
        self.disk
            .look_through(&order.path, order.id, &mut |below, stat| {
                seen.newest = seen.newest.max(stat.written(wall));
                if self.is_part(&order.path, below, stat) {
                    seen.parts.n_files += 1;
                    seen.parts.bytes = seen.parts.bytes.saturating_add(stat.apparent);
                }
            })?;
        Ok(seen)
    }

    /// Carries out one order.
    pub fn carry_out(&self, order: &LifeOrder, now: Now) -> LifeOutcome {
        self.try_out(order, now)
            .unwrap_or_else(|outcome| match outcome {
                Outcome::Skipped(why) => LifeOutcome::Skipped(why),
                Outcome::Gone | Outcome::Aside(_) | Outcome::InPlace => LifeOutcome::Gone,
            })
    }

    fn try_out(&self, order: &LifeOrder, now: Now) -> Checked<LifeOutcome> {
        let path = &order.transition.path;
        let (dir, stat) = self.disk.open(path).map_err(not_openable)?;
        if stat.id != order.id || stat.kind != FileKind::Dir {
            return Err(skip(Skip::Replaced));
        }
        let mut grip = Grip::new(self.disk);
        grip.note(&stat, now);
        take(self.disk, &dir)?;
        for proof in &order.proofs {
            grip.check_proof(&dir, proof, now)?;
        }
        for lock in self.layout.locks(path.as_bytes()) {
            grip.take_lock(path.parent().as_ref(), &dir, &lock)?;
        }
        match order.transition.deed {
            Deed::Fail => self.fail(order, &grip, now),
            Deed::DropParts | Deed::DropOrphanParts => self.drop_parts(order, now),
        }
    }

    fn fail(&self, order: &LifeOrder, grip: &Grip<'_, D>, now: Now) -> Checked<LifeOutcome> {
        let path = &order.transition.path;
        let metadata = self.layout.spec().metadata.as_ref();
        let name = metadata.map_or(&b""[..], |name| name.as_bytes());
        let Some((file, old)) = grip.handle(name) else {
            return Err(skip(Skip::Changed));
        };
        let cannot = |operation| move |error: io::Error| skip(refused(operation, errno(&error)));
        let text = self.disk.read(file).map_err(cannot("read the metadata"))?;
        let value = &self.rules.failed_value;
        let Ok(text) = self.layout.failed(&text, value, order.at) else {
            return Err(skip(Skip::Changed));
        };
        self.parts_of(order, now)?;
        let place = Place {
            session: path,
            id: order.id,
            name,
        };
        match self.disk.rewrite(&place, file, old, &text) {
            Ok(true) => Ok(LifeOutcome::Failed),
            Ok(false) => Err(skip(Skip::Changed)),
            Err(error) => Err(cannot("rewrite the metadata")(error)),
        }
    }

    fn drop_parts(&self, order: &LifeOrder, now: Now) -> Checked<LifeOutcome> {
        let parts = self.parts_of(order, now)?;
        let more = parts.len() > MAX_PARTS;
        let mut gone = Parts::default();
        let mut asides = Vec::new();
        let mut refusal = None;
        for part in parts.iter().take(MAX_PARTS) {
            match set_aside(self.disk, &part.path, part.inode.id, &fresh(now)) {
                Renamed::Aside(aside) => asides.push(aside),
                Renamed::Gone => continue,
                // No space for a name in the trash, or it is elsewhere: a part needs no record,
                // since half of them gone is nothing that could look whole.
                Renamed::Impossible => {
                    if let Err(error) = self.disk.unlink(&part.path, part.inode) {
                        refusal = Some(refused("remove a part", errno(&error)));
                        continue;
                    }
                }
                Renamed::Not(why) => {
                    refusal = Some(why);
                    continue;
                }
            }
            gone.n_files += 1;
            gone.bytes = gone.bytes.saturating_add(part.bytes);
        }
        match refusal {
            Some(why) if gone.n_files == 0 => Err(skip(why)),
            Some(_) | None => Ok(LifeOutcome::PartsGone {
                parts: gone,
                aside: asides,
                more,
            }),
        }
    }

    /// The session's parts, one more than are taken at most; or that it was written to.
    fn parts_of(&self, order: &LifeOrder, now: Now) -> Checked<Vec<Part>> {
        let path = &order.transition.path;
        let wall = UnixNanos::from(now.wall);
        let mut newest = UnixNanos(i64::MIN);
        let mut parts = Vec::new();
        let looked = self.disk.look_through(path, order.id, &mut |below, stat| {
            newest = newest.max(stat.written(wall));
            if parts.len() <= MAX_PARTS && self.is_part(path, below, stat) {
                parts.extend(part(path, below, stat));
            }
        });
        match looked {
            Ok(()) if newest > order.unwritten_since => Err(skip(Skip::Quiet)),
            Ok(()) => Ok(parts),
            Err(error) => Err(match errno(&error) {
                libc::ENOENT => Outcome::Gone,
                libc::ESTALE => skip(Skip::Replaced),
                errno => skip(refused("look through the session", errno)),
            }),
        }
    }

    /// Whether a file is a part. What facts are read from never is, nor what says "in use".
    fn is_part(&self, session: &RelPath, below: &[u8], stat: &Stat) -> bool {
        stat.kind == FileKind::File
            && self.rules.parts.is_part(below)
            && !self
                .layout
                .documents(session.as_bytes())
                .iter()
                .any(|name| **name == *below)
            && !self
                .layout
                .locks(session.as_bytes())
                .iter()
                .any(|lock| matches!(lock, LockAt::Inside(name) if **name == *below))
    }
}

fn part(session: &RelPath, below: &[u8], stat: &Stat) -> Option<Part> {
    let path = [session.as_bytes(), below].join(&b'/');
    Some(Part {
        path: RelPath::new(&path).ok()?,
        inode: stat.inode(),
        bytes: stat.apparent,
    })
}
