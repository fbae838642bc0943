//! Carries out one step of a session's life, or says why not.
//!
//! As for a removal: the session is the directory, or the files, that were meant; nobody holds a lock on it, and
//! we hold them all until it is done; its metadata is what the decision was made from. Then
//! everything in it is looked at once more, and anything written since the decision's time ends
//! it. Parts leave by one rename each, into the trash; the metadata changes in one step.

use crate::layout::life::RewriteFault;
use crate::layout::{Layout, LockAt};
use crate::model::disk::{LiveDisk, Place};
use crate::model::lifecycle::{Deed, Extent, LifeOrder, LifeOutcome, Parts, PartsOrder, PartsSeen};
use crate::model::path::RelPath;
use crate::model::report::{Outcome, Skip, Unlist};
use crate::model::seen::{FileId, FileKind, Inode, Seen, Stat};
use crate::model::time::{Now, UnixNanos};
use crate::policy::lifecycle::Lifecycle;
use crate::prune::executor::{Renamed, in_trash, set_aside};
use crate::prune::grip::{Checked, Grip, errno, not_openable, refused, skip, take};
use crate::prune::names::Names;
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
        self.look_at_all(&order.extent, &mut |below, stat| {
            seen.newest = seen.newest.max(stat.written(wall));
            if self.is_part(&order.extent, below, stat) {
                seen.parts.n_files += 1;
                seen.parts.bytes = seen.parts.bytes.saturating_add(stat.apparent);
            }
        })?;
        Ok(seen)
    }

    /// Looks at all that a session is made of, each with its path below the extent's directory.
    fn look_at_all(&self, extent: &Extent, each: &mut dyn FnMut(&[u8], &Stat)) -> io::Result<()> {
        let Some(files) = &extent.files else {
            return self.disk.look_through(&extent.dir, extent.id, each);
        };
        let look = |name: &[u8]| match extent.dir.join(name) {
            Ok(path) => self.disk.look(&path),
            Err(_) => Seen::Gone,
        };
        let other = || Err(io::Error::from_raw_os_error(libc::ESTALE));
        for (name, id) in files {
            match look(name) {
                Seen::There(stat) if stat.id == *id && stat.kind == FileKind::File => {
                    each(name, &stat);
                }
                Seen::There(_) | Seen::Gone => return other(),
                Seen::Unreadable(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
        // What came since is not among them.
        for name in self.layout.names_by_key(&extent.key) {
            let is_known = files.iter().any(|(known, _)| *known == name);
            if !is_known && look(&name) != Seen::Gone {
                return other();
            }
        }
        Ok(())
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
        let extent = &order.extent;
        let (dir, stat) = self.disk.open(&extent.dir).map_err(not_openable)?;
        if stat.id != extent.id || stat.kind != FileKind::Dir {
            return Err(skip(Skip::Replaced));
        }
        let mut grip = Grip::new(self.disk);
        if extent.files.is_none() {
            grip.note(&stat, now);
            take(self.disk, &dir)?;
        }
        for proof in &order.proofs {
            grip.check_proof(&dir, proof, now)?;
        }
        for (name, id) in extent.files.iter().flatten() {
            self.hold(&mut grip, &dir, name, *id, now)?;
        }
        let beside = match &extent.files {
            Some(_) => Some(extent.dir.clone()),
            None => extent.dir.parent(),
        };
        for lock in self.layout.locks(&extent.key) {
            grip.take_lock(beside.as_ref(), &dir, &lock)?;
        }
        match order.transition.deed {
            Deed::Fail => match self.layout.catalogue() {
                Some(catalogue) => self.fail_in(catalogue, order, now),
                None => self.fail(order, &grip, now),
            },
            Deed::DropParts | Deed::DropOrphanParts => self.drop_parts(order, now),
        }
    }

    /// Locks one of a session's files, if it is what was meant. The documents are held already.
    fn hold(
        &self,
        grip: &mut Grip<'_, D>,
        dir: &D::Handle,
        name: &[u8],
        id: FileId,
        now: Now,
    ) -> Checked<()> {
        if grip.handle(name).is_some() {
            return Ok(());
        }
        let (file, stat) = self.disk.open_in(dir, name).map_err(not_openable)?;
        if stat.id != id || stat.kind != FileKind::File {
            return Err(skip(Skip::Replaced));
        }
        grip.hold(name, file, &stat, now)
    }

    fn fail(&self, order: &LifeOrder, grip: &Grip<'_, D>, now: Now) -> Checked<LifeOutcome> {
        let extent = &order.extent;
        let documents = self.layout.documents(&extent.key);
        let name = documents.first().map_or(&b""[..], |name| name);
        let Some((file, old)) = grip.handle(name) else {
            return Err(skip(Skip::Changed));
        };
        let cannot = |operation| move |error: io::Error| skip(refused(operation, errno(&error)));
        let text = self.disk.read(file).map_err(cannot("read the metadata"))?;
        let value = &self.rules.failed_value;
        let text = self.layout.failed(&text, value, order.at);
        let text = text.map_err(unchanged)?;
        self.parts_of(order, now)?;
        let place = Place {
            session: &extent.dir,
            id: extent.id,
            name,
        };
        match self.disk.rewrite(&place, file, old, &text) {
            Ok(true) => Ok(LifeOutcome::Failed),
            Ok(false) => Err(skip(Skip::Changed)),
            Err(error) => Err(cannot("rewrite the metadata")(error)),
        }
    }

    /// The same where the session's state is in its entry of a catalogue. That is not held open: an
    /// edit needs it for itself, and reads it then.
    fn fail_in(&self, catalogue: &[u8], order: &LifeOrder, now: Now) -> Checked<LifeOutcome> {
        self.parts_of(order, now)?;
        let as_it_is_to_be = (&*self.rules.failed_value, order.at);
        let mut fault = None;
        let edited = self.disk.edit(catalogue, &mut |text| {
            let (key, since) = (&order.extent.key, order.unwritten_since);
            let new = self.layout.failed_entry(text, key, as_it_is_to_be, since);
            new.map_err(|why| fault = Some(why)).ok()
        });
        match (edited, fault) {
            (Unlist::Done, _) => Ok(LifeOutcome::Failed),
            (_, Some(why)) => Err(unchanged(why)),
            (Unlist::NoLease(_), None) => Err(skip(Skip::Open)),
            (Unlist::Unparsable, None) => Err(skip(Skip::Changed)),
            (Unlist::Failed { operation, errno }, None) => Err(skip(refused(operation, errno))),
        }
    }

    fn drop_parts(&self, order: &LifeOrder, now: Now) -> Checked<LifeOutcome> {
        let parts = self.parts_of(order, now)?;
        let more = parts.len() > MAX_PARTS;
        let mut gone = Parts::default();
        let mut asides = Vec::new();
        let mut refusal = None;
        let mut names = Names::default();
        for part in parts.iter().take(MAX_PARTS) {
            let aside = in_trash(&names.next(now), part.inode.id);
            match set_aside(self.disk, &part.path, &aside) {
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
        let extent = &order.extent;
        let wall = UnixNanos::from(now.wall);
        let mut newest = UnixNanos(i64::MIN);
        let mut parts = Vec::new();
        let looked = self.look_at_all(extent, &mut |below, stat| {
            newest = newest.max(stat.written(wall));
            if parts.len() <= MAX_PARTS && self.is_part(extent, below, stat) {
                parts.extend(part(&extent.dir, below, stat));
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
    fn is_part(&self, extent: &Extent, below: &[u8], stat: &Stat) -> bool {
        let is_lock = |lock: &LockAt| match (lock, &extent.files) {
            (LockAt::Inside(name), None) | (LockAt::Beside(name), Some(_)) => **name == *below,
            (LockAt::Inside(_), Some(_)) | (LockAt::Beside(_), None) => false,
        };
        let documents = self.layout.documents(&extent.key);
        stat.kind == FileKind::File
            && self.rules.parts.is_part(below)
            && !documents.iter().any(|name| **name == *below)
            && !self.layout.locks(&extent.key).iter().any(is_lock)
    }
}

/// What it means that metadata is not to be changed.
fn unchanged(why: RewriteFault) -> Outcome {
    match why {
        // As it is it will be the next time: nothing is gained by reading it again.
        RewriteFault::Unplain | RewriteFault::Stateless => skip(refused(
            "change metadata that is written in such a way",
            libc::EINVAL,
        )),
        RewriteFault::Corrupt | RewriteFault::NotActive => skip(Skip::Changed),
    }
}

fn part(dir: &RelPath, below: &[u8], stat: &Stat) -> Option<Part> {
    let path = [dir.as_bytes(), below].join(&b'/');
    Some(Part {
        path: RelPath::new(path.strip_prefix(b"/").unwrap_or(&path)).ok()?,
        inode: stat.inode(),
        bytes: stat.apparent,
    })
}
