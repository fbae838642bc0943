//! Takes one victim out of the tree, or says why not.
//!
//! Promise 4, in order: the victim is the inode that was planned; nobody holds a lock, and we
//! hold them all until after the rename; its metadata is what the plan was made from; it was
//! not written to within `quiet`. Then the rename, and one more look: a stranger that was
//! swapped in meanwhile goes back.

use crate::layout::LockAt;
use crate::model::disk::{Bundles, Disk, Lasting, Moved, Records};
use crate::model::path::RelPath;
use crate::model::plan::{Body, Proof, Victim};
use crate::model::report::{Aside, AsideName, Outcome, Skip};
use crate::model::seen::{FileId, FileKind, Inode, Seen};
use crate::model::time::Now;
use crate::prune::grip::{Checked, Grip, errno, not_openable, refused, skip, take};
use crate::prune::intent::{Intent, Work};
use crate::prune::names::Names;
use crate::prune::origin::Origin;
use std::io;
use std::time::Duration;

/// Removes victims from one root.
#[derive(Debug)]
pub struct Executor<D: Bundles, R: Records> {
    disk: D,
    records: R,
    /// Where what is kept came from. `None`: nothing is kept.
    origins: Option<R>,
    intent: Option<(String, Intent)>,
    names: Names,
}

/// What becomes of a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Its bytes are removed.
    Removed,
    /// It may come back for a while.
    Kept,
}

/// How one rename ended.
pub(super) enum Renamed {
    Aside(Aside),
    Gone,
    /// ENOSPC, EXDEV, EDQUOT: not by a rename.
    Impossible,
    Not(Skip),
}

impl<D: Bundles, R: Records> Executor<D, R> {
    pub fn new(disk: D, records: R) -> Self {
        Self {
            disk,
            records,
            origins: None,
            intent: None,
            names: Names::default(),
        }
    }

    /// The same, which can keep victims: where they came from is written down there.
    pub fn with_origins(mut self, origins: R) -> Self {
        self.origins = Some(origins);
        self
    }

    /// Whether the root's path still leads to the root. Asked before each burst, and again
    /// after a pause.
    ///
    /// # Errors
    /// What the disk says, but for "not found", which is an answer.
    pub fn in_place(&self) -> io::Result<bool> {
        self.disk.in_place()
    }

    /// The record that the last [`Self::remove`] wrote, with its name: to be discarded when the
    /// rest of it is done (the catalogue's entry taken out, or the removal in place).
    pub fn take_intent(&mut self) -> Option<(String, Intent)> {
        self.intent.take()
    }

    /// Takes `victim` out of the tree if nothing speaks against it. `locks` are those of its
    /// layout; `quiet` zero is off.
    pub fn remove(
        &mut self,
        victim: &Victim,
        now: Now,
        quiet: Duration,
        locks: &[LockAt],
    ) -> Outcome {
        self.take_out(victim, now, quiet, locks, Then::Removed)
    }

    /// The same, but it stays restorable, where it is nothing with an entry in a catalogue and where
    /// it came from can be written down.
    pub fn keep(
        &mut self,
        victim: &Victim,
        now: Now,
        quiet: Duration,
        locks: &[LockAt],
    ) -> Outcome {
        self.take_out(victim, now, quiet, locks, Then::Kept)
    }

    fn take_out(
        &mut self,
        victim: &Victim,
        now: Now,
        quiet: Duration,
        locks: &[LockAt],
        then: Then,
    ) -> Outcome {
        self.intent = None;
        let removed = match &victim.body {
            Body::Tree { .. } => self.remove_tree(victim, now, quiet, locks, then),
            Body::Files { names, proofs } => {
                self.remove_files(victim, names, proofs, now, quiet, locks, then)
            }
            Body::Blobs { blobs, catalogue } => {
                let kept = self.check_catalogue(victim, catalogue);
                kept.and_then(|_kept| self.remove_blobs(victim, blobs, now, quiet, locks))
            }
        };
        removed.unwrap_or_else(|outcome| outcome)
    }

    fn remove_tree(
        &mut self,
        victim: &Victim,
        now: Now,
        quiet: Duration,
        locks: &[LockAt],
        then: Then,
    ) -> Checked<Outcome> {
        let Body::Tree { id, proofs } = &victim.body else {
            return Err(skip(refused("name", libc::EINVAL)));
        };
        let id = *id;
        let (dir, stat) = self.disk.open(&victim.path).map_err(not_openable)?;
        if stat.id != id || stat.kind != FileKind::Dir {
            return Err(skip(Skip::Replaced));
        }
        let mut grip = Grip::new(&self.disk);
        grip.note(&stat, now);
        take(&self.disk, &dir)?;
        for proof in proofs {
            grip.check_proof(&dir, proof, now)?;
        }
        for lock in locks {
            grip.take_lock(victim.path.parent().as_ref(), &dir, lock)?;
        }
        grip.check_quiet(now, quiet)?;
        let ulid = self.names.next(now);
        let renamed = self.leave(victim, &victim.path, then, in_trash(&ulid, id))?;
        drop((grip, dir));
        match renamed {
            Renamed::Aside(aside) => Ok(Outcome::Aside(vec![aside])),
            Renamed::Gone => Ok(Outcome::Gone),
            Renamed::Not(why) => Ok(skip(why)),
            Renamed::Impossible => {
                let last = proofs.iter().map(|proof| proof.name.clone()).collect();
                let inode = stat.inode();
                let work = Work::InPlace { inode, last };
                self.intend(victim, work, None, ulid, Lasting::Power)?;
                Ok(Outcome::InPlace)
            }
        }
    }

    /// Renames one name out of the tree: to where it may come back from, or to `aside` with the same
    /// name.
    fn leave(&self, victim: &Victim, path: &RelPath, then: Then, aside: Aside) -> Checked<Renamed> {
        if then == Then::Removed || !self.note_origin(aside.name(), &Origin::of(victim, path))? {
            return Ok(set_aside(&self.disk, path, &aside));
        }
        let kept = Aside::Kept(aside.name().clone());
        let renamed = set_aside(&self.disk, path, &kept);
        if !matches!(renamed, Renamed::Aside(_)) {
            self.forget_origin(aside.name());
        }
        match renamed {
            // What there is no place for goes all the same: a rule took it.
            Renamed::Impossible => Ok(set_aside(&self.disk, path, &aside)),
            renamed => Ok(renamed),
        }
    }

    /// Writes down where a victim comes from, before it leaves. `false`: there is no space for
    /// that, and it is not kept: a rule took it, and a full disk must not keep it there. Refused
    /// for another reason it stays: whoever wants to undo removals must be able to.
    fn note_origin(&self, name: &AsideName, origin: &Origin) -> Checked<bool> {
        let Some(origins) = &self.origins else {
            return Ok(false);
        };
        let saved = origins.save(&name.0, &origin.to_json(name), Lasting::Process);
        unless_full(saved, "write down where it comes from").map(|saved| saved.is_some())
    }

    /// Makes a place where a victim's files are kept together, and writes down where they come from.
    /// `None`: as above, there is no space for it.
    fn note_bundle(
        &self,
        victim: &Victim,
        there: &[(Box<[u8]>, Inode)],
        ulid: &str,
    ) -> Checked<Option<(AsideName, D::Handle)>> {
        let made = self.disk.make_bundle(ulid);
        let Some((bundle, held)) = unless_full(made, "make a place to keep it")? else {
            return Ok(None);
        };
        let files = there.iter().map(|(name, _)| name.clone()).collect();
        let origin = Origin::of_files(victim, &victim.path, files);
        match self.note_origin(&bundle, &origin) {
            Ok(true) => Ok(Some((bundle, held))),
            not_noted => {
                self.drop_bundle(&bundle);
                not_noted.map(|_| None)
            }
        }
    }

    /// Nothing got into it. One that stays is empty, and the next start removes it.
    fn drop_bundle(&self, bundle: &AsideName) {
        match self.disk.drop_bundle(bundle) {
            Ok(()) | Err(_) => self.forget_origin(bundle),
        }
    }

    /// A record of what did not leave is about nothing; one that stays is discarded by the next
    /// start.
    fn forget_origin(&self, name: &AsideName) {
        if let Some(origins) = &self.origins {
            match origins.discard(&name.0) {
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Takes the catalogue's lock, to be kept past the renames, and compares it with what the
    /// plan was made from where an entry may have become active since.
    fn check_catalogue(
        &self,
        victim: &Victim,
        catalogue: &Proof,
    ) -> Checked<Option<(D::Handle, D::Handle)>> {
        let (dir, _) = self.disk.open(&victim.path).map_err(not_openable)?;
        match self.disk.open_in(&dir, &catalogue.name) {
            Ok((file, stat)) => {
                if catalogue
                    .mark
                    .is_some_and(|mark| mark != stat.signature().mark())
                {
                    return Err(skip(Skip::Changed));
                }
                take(&self.disk, &file)?;
                Ok(Some((dir, file)))
            }
            // Without states nothing in it can speak against the removal.
            Err(_) if catalogue.mark.is_none() => Ok(None),
            Err(_) => Err(skip(Skip::Changed)),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one removal's conditions")]
    fn remove_files(
        &mut self,
        victim: &Victim,
        names: &[(Box<[u8]>, FileId)],
        proofs: &[Proof],
        now: Now,
        quiet: Duration,
        locks: &[LockAt],
        then: Then,
    ) -> Checked<Outcome> {
        let (dir, _) = self.disk.open(&victim.path).map_err(not_openable)?;
        // Its borrow of the disk ends before the first record is written; what it holds does not.
        let (there, _held) = {
            let mut grip = Grip::new(&self.disk);
            for proof in proofs {
                grip.check_proof(&dir, proof, now)?;
            }
            let there = self.hold_all(&dir, names, &mut grip, now)?;
            for lock in locks {
                grip.take_lock(Some(&victim.path), &dir, lock)?;
            }
            grip.check_quiet(now, quiet)?;
            (there, grip.into_held())
        };
        let ulid = self.names.next(now);
        let [(name, inode)] = &there[..] else {
            let bundle = match then {
                Then::Kept => self.note_bundle(victim, &there, &ulid)?,
                Then::Removed => None,
            };
            let (keep, _held) = bundle.unzip();
            return self.remove_together(victim, &there, ulid, keep, now);
        };
        let path = victim.path.join(name);
        let path = path.map_err(|_| skip(refused("name", libc::EINVAL)))?;
        let aside = if names.len() == 1 {
            beside(&victim.path, &ulid, inode.id)
        } else {
            in_trash(&ulid, inode.id)
        };
        match self.leave(victim, &path, then, aside)? {
            Renamed::Aside(aside) => Ok(Outcome::Aside(vec![aside])),
            Renamed::Gone => Ok(Outcome::Gone),
            Renamed::Not(why) => Ok(skip(why)),
            Renamed::Impossible => {
                let work = Work::Blobs(there);
                self.intend(victim, work, None, ulid, Lasting::Power)?;
                Ok(Outcome::InPlace)
            }
        }
    }

    /// Takes several files out of the tree, of which no half may stay: the intent comes first.
    fn remove_together(
        &mut self,
        victim: &Victim,
        there: &[(Box<[u8]>, Inode)],
        ulid: String,
        keep: Option<AsideName>,
        now: Now,
    ) -> Checked<Outcome> {
        let work = Work::Blobs(there.to_vec());
        let intended = self.intend(victim, work, keep.clone(), ulid, Lasting::Process);
        let outcome = intended.map(|()| self.blobs_aside(victim, there, keep.as_ref(), now));
        let is_used = matches!(&outcome, Ok((Outcome::Aside(asides), _)) if !asides.is_empty());
        if let Some(bundle) = keep.filter(|_| !is_used) {
            self.drop_bundle(&bundle);
        }
        let (outcome, n_gone) = outcome?;
        // All of them are out of the tree: nothing is left to be finished.
        let is_done = matches!(outcome, Outcome::Aside(_)) && n_gone == there.len();
        Ok(if is_done { self.done(outcome) } else { outcome })
    }

    /// Discards the record of what is done. One that stays finds nothing to do.
    fn done(&mut self, outcome: Outcome) -> Outcome {
        if let Some((name, intent)) = self.intent.take()
            && self.records.discard(&name).is_err()
        {
            self.intent = Some((name, intent));
        }
        outcome
    }

    fn remove_blobs(
        &mut self,
        victim: &Victim,
        blobs: &[(Box<[u8]>, FileId)],
        now: Now,
        quiet: Duration,
        locks: &[LockAt],
    ) -> Checked<Outcome> {
        let (dir, _) = self.disk.open(&victim.path).map_err(not_openable)?;
        let mut grip = Grip::new(&self.disk);
        let there = match self.hold_all(&dir, blobs, &mut grip, now) {
            // An entry that dangles: only it is left to go.
            Err(Outcome::Gone) if blobs.is_empty() => Vec::new(),
            held => held?,
        };
        for lock in locks {
            grip.take_lock(Some(&victim.path), &dir, lock)?;
        }
        grip.check_quiet(now, quiet)?;
        let _held = grip.into_held();
        let ulid = self.names.next(now);
        let work = Work::Blobs(there.clone());
        self.intend(victim, work, None, ulid, Lasting::Process)?;
        let (outcome, _) = self.blobs_aside(victim, &there, None, now);
        Ok(outcome)
    }

    /// Opens and locks files that are to go together; those that are gone already are left out.
    fn hold_all(
        &self,
        dir: &D::Handle,
        names: &[(Box<[u8]>, FileId)],
        grip: &mut Grip<'_, D>,
        now: Now,
    ) -> Checked<Vec<(Box<[u8]>, Inode)>> {
        let mut there = Vec::with_capacity(names.len());
        for (name, id) in names {
            let (file, stat) = match self.disk.open_in(dir, name) {
                Ok(opened) => opened,
                Err(error) => match not_openable(error) {
                    Outcome::Gone => continue,
                    outcome => return Err(outcome),
                },
            };
            if stat.id != *id || stat.kind != FileKind::File {
                return Err(skip(Skip::Replaced));
            }
            grip.hold(name, file, &stat, now)?;
            there.push((name.clone(), stat.inode()));
        }
        if there.is_empty() {
            return Err(Outcome::Gone);
        }
        Ok(there)
    }

    /// The point of no return for blobs is the first rename: before it a refusal takes the
    /// record back; after it what is aside is reported, and the record finishes the rest. The second
    /// is how many left.
    fn blobs_aside(
        &mut self,
        victim: &Victim,
        there: &[(Box<[u8]>, Inode)],
        keep: Option<&AsideName>,
        now: Now,
    ) -> (Outcome, usize) {
        let mut asides = Vec::with_capacity(there.len());
        let mut n_gone = 0;
        for (name, inode) in there {
            let renamed = match (victim.path.join(name), keep) {
                (Ok(path), Some(bundle)) => bundled(&self.disk, &path, inode.id, bundle),
                (Ok(path), None) => {
                    let aside = in_trash(&self.names.next(now), inode.id);
                    set_aside(&self.disk, &path, &aside)
                }
                (Err(_), _) => Renamed::Not(refused("name", libc::EINVAL)),
            };
            match renamed {
                Renamed::Aside(aside) => {
                    n_gone += 1;
                    // What is kept together is one thing from now on.
                    if asides.last() != Some(&aside) {
                        asides.push(aside);
                    }
                }
                Renamed::Gone => {}
                Renamed::Impossible if asides.is_empty() => return (Outcome::InPlace, 0),
                Renamed::Not(why) if asides.is_empty() => return (self.take_back(why), 0),
                Renamed::Impossible | Renamed::Not(_) => break,
            }
        }
        (Outcome::Aside(asides), n_gone)
    }

    fn take_back(&mut self, why: Skip) -> Outcome {
        if let Some((name, intent)) = self.intent.take()
            && self.records.discard(&name).is_err()
        {
            // It would be carried out at the next start: the caller has to see it.
            self.intent = Some((name, intent));
        }
        skip(why)
    }

    fn intend(
        &mut self,
        victim: &Victim,
        work: Work,
        keep: Option<AsideName>,
        name: String,
        lasting: Lasting,
    ) -> Checked<()> {
        let intent = Intent {
            key: victim.key.clone(),
            path: victim.path.clone(),
            work,
            keep,
        };
        self.records
            .save(&name, &intent.to_json(), lasting)
            .map_err(|error| skip(refused("write the intent", errno(&error))))?;
        self.intent = Some((name, intent));
        Ok(())
    }
}

pub(super) fn in_trash(ulid: &str, id: FileId) -> Aside {
    Aside::Trash(AsideName::new(ulid, id))
}

/// Where a session that is one file goes: beside its place, so that no directory is made in its
/// root.
fn beside(dir: &RelPath, ulid: &str, id: FileId) -> Aside {
    Aside::Beside(dir.clone(), AsideName::new(ulid, id))
}

/// Renames, and compares what is under the new name then with what was planned.
pub(super) fn set_aside<D: Disk>(disk: &D, path: &RelPath, aside: &Aside) -> Renamed {
    match disk.set_aside(path, aside) {
        Ok(Moved::Aside) => Renamed::Aside(aside.clone()),
        Ok(Moved::Back) => Renamed::Not(Skip::Stranger),
        Ok(Moved::Kept) => Renamed::Not(Skip::StrangerKept),
        Err(error) => not_renamed(disk, path, &error),
    }
}

/// The same into a bundle.
pub(super) fn bundled<D: Bundles>(
    disk: &D,
    path: &RelPath,
    id: FileId,
    bundle: &AsideName,
) -> Renamed {
    match disk.bundle(path, id, bundle) {
        Ok(Moved::Aside) => Renamed::Aside(Aside::Kept(bundle.clone())),
        Ok(Moved::Back) => Renamed::Not(Skip::Stranger),
        Ok(Moved::Kept) => Renamed::Not(Skip::StrangerKept),
        Err(error) => not_renamed(disk, path, &error),
    }
}

/// `None`: there is no space for it.
fn unless_full<T>(done: io::Result<T>, operation: &'static str) -> Checked<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) => match errno(&error) {
            libc::ENOSPC | libc::EDQUOT => Ok(None),
            errno => Err(skip(refused(operation, errno))),
        },
    }
}

fn not_renamed<D: Disk>(disk: &D, path: &RelPath, error: &io::Error) -> Renamed {
    match errno(error) {
        libc::ENOSPC | libc::EXDEV | libc::EDQUOT => Renamed::Impossible,
        // The trash may be what is gone.
        libc::ENOENT if disk.look(path) == Seen::Gone => Renamed::Gone,
        errno => Renamed::Not(refused("rename", errno)),
    }
}
