//! What walks bring: evidence for every name of a directory.

use super::{Effect, Engine};
use crate::index::{DirOwner, Known, Listed, Owner};
use crate::layout::Within;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::Bytes;
use crate::model::listing::{Gathered, Listing, ScanId, Unlisted, Walked, Watched};
use crate::model::path::RelPath;
use crate::model::place::{DirId, Look, Why};
use crate::model::plan::ReadAs;
use crate::model::seen::{FileKind, Seen, Stat};
use crate::model::session::SessionId;
use crate::model::time::Now;

/// The directory whose chunk is taken just now: asked for once, and not for each of a thousand
/// names.
#[derive(Debug)]
pub(super) struct InListing {
    pub(super) dir: DirId,
    pub(super) path: RelPath,
    pub(super) within: Within,
    /// [`Places::n_told`](super::anomalies::Places) when the chunk began; `None`: something was
    /// kept of places in the directory already.
    pub(super) nothing_told_since: Option<u64>,
}

impl Engine {
    pub(super) fn walked(&mut self, now: Now, walked: Walked, out: &mut Vec<Effect>) {
        match walked {
            Walked::Chunk(listing) => self.chunk(now, listing, out),
            Walked::Unlisted { dir, why, .. } => self.unlisted(&dir, &why, out),
            Walked::End { scan } => self.scan_ended(scan, out),
        }
    }

    fn chunk(&mut self, now: Now, mut listing: Listing, out: &mut Vec<Effect>) {
        let Some(dir) = self.place_of(&listing, out) else {
            return;
        };
        if listing.first {
            self.begin_listing(dir, &listing, out);
        }
        // A listing that another one overtook is a list of hints. A known directory's unknown
        // names may be newer than their hints: in a rescan they are looked at again at its
        // end. And a walk that began before the directory came here may speak of what is
        // gone since.
        let scan = listing.scan.0;
        let believe = self.index.listing_scan(dir) == scan
            && self.index.is_older_than(dir, scan)
            && !(self.index.is_listed(dir) && self.scanning.defers(listing.scan));
        self.in_listing = Some(InListing {
            dir,
            path: listing.dir.clone(),
            within: self.rules.layout.within(listing.dir.as_bytes()),
            nothing_told_since: (!self.places.are_below(&listing.dir))
                .then_some(self.places.n_told),
        });
        for (name, seen) in listing.entries() {
            self.listed(now, listing.scan, dir, name, seen, believe, out);
        }
        self.in_listing = None;
        let mut gathered = std::mem::take(&mut listing.gathered);
        gathered.retain(|_| believe);
        if self.rules.layout.is_of_files() {
            for (key, gathered) in gathered.drain(..) {
                self.file_gathered(now, dir, &key, gathered, out);
            }
        }
        if listing.last {
            let gathered = gathered.pop().map(|(_, gathered)| gathered);
            self.listing_ended(now, listing.scan, dir, gathered, out);
        }
        self.note_peak();
    }

    /// The directory a chunk speaks of, if it still is what the walk had open.
    fn place_of(&mut self, listing: &Listing, out: &mut Vec<Effect>) -> Option<DirId> {
        let ino = listing.stat.id.ino;
        let dir = self.index.dir_at(&listing.dir);
        if let Some(dir) = dir.filter(|_| listing.dir.is_root()) {
            self.index.set_root_ino(ino);
            self.root = Some(listing.stat);
            return Some(dir);
        }
        if let Some(dir) = dir.filter(|dir| self.index.is_same_dir(*dir, &listing.stat)) {
            return Some(dir);
        }
        if let Watched::Placed(watch) = listing.watched {
            out.push(Effect::Unwatch(vec![(listing.dir.clone(), watch)]));
        }
        let parent = dir.and_then(|dir| self.index.parent(dir));
        if let (Some(parent), Some(name)) = (parent, listing.dir.name()) {
            out.push(Effect::Look(Look::new(parent, name, Why::Again)));
        }
        None
    }

    /// Takes over a listing's watch, and its word for what is absent, unless a listing that
    /// is newer came in before it. Watches are numbered as they are placed and every change
    /// after that gives a hint, so the listing with the greater number knows all that the
    /// other one can know.
    fn begin_listing(&mut self, dir: DirId, listing: &Listing, out: &mut Vec<Effect>) {
        let scan = listing.scan.0;
        let old = self.index.watch(dir);
        let is_newer = match listing.watched {
            Watched::Placed(new) => new.generation > old.generation,
            Watched::Failed | Watched::Unasked => scan > self.index.listing_scan(dir),
        };
        if let Watched::Placed(new) = listing.watched {
            let other = if is_newer { old } else { new };
            if other.generation != 0 && old.generation != new.generation {
                out.push(Effect::Unwatch(vec![(listing.dir.clone(), other)]));
            }
        }
        if let Watched::Placed(new) = listing.watched
            && self.ended_early.remove(&new.generation)
        {
            self.scan_below(listing.dir.clone(), out);
        }
        if !is_newer {
            return;
        }
        match listing.watched {
            Watched::Unasked => {}
            Watched::Placed(new) => self.index.set_watch(dir, new, false),
            Watched::Failed => self.index.set_watch(dir, old, true),
        }
        if let Watched::Placed(new) = listing.watched {
            self.look_at_begun(dir, new.key, out);
        }
        self.index.begin_listing(dir, scan, listing.len());
        self.places.remove(AnomalyKind::Unreadable, &listing.dir);
    }

    /// A watch ended by itself: what counts on it is listed and watched anew.
    pub(super) fn unwatched(&mut self, path: RelPath, generation: u64, out: &mut Vec<Effect>) {
        let dir = self.index.dir_at(&path);
        if dir.is_some_and(|dir| self.index.watch(dir).generation == generation) {
            self.scan_below(path, out);
        } else if !self.scanning.is_quiet() {
            self.ended_early.insert(generation);
            // At the bound the scan is repeated, and all are watched anew.
            if self.ended_early.len() > super::MAX_RECENT {
                self.ended_early.clear();
                self.lost(out);
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one entry with its listing's context"
    )]
    fn listed(
        &mut self,
        now: Now,
        scan: ScanId,
        dir: DirId,
        name: &[u8],
        seen: &Seen,
        believe: bool,
        out: &mut Vec<Effect>,
    ) {
        let mut listed = self.index.listed(dir, name, scan.0);
        let stat = match seen {
            Seen::There(stat) => stat,
            Seen::Gone => return,
            Seen::Unreadable(_) => return self.unreadable(dir, name),
        };
        self.note_stranded(dir, name, stat);
        if self.is_twin(dir, &listed, stat) && self.index.part_twins(dir, name) {
            // Whose the entry is, another listing will tell, also should it be nobody's: a name
            // may be listed twice. What is gone meanwhile is not counted, which is the safe side.
            self.index.forget_hash(dir, listed.hash);
            if let Some(path) = self.index.path(dir) {
                self.scan_below(path, out);
            }
            listed = self.index.listed(dir, name, scan.0);
        }
        let Listed { hash, known, .. } = listed;
        match known {
            Some(known) if self.agrees(known, stat) && !self.is_foreign(stat) => {
                self.confirmed(dir, name, known, stat, now, out);
                self.guard_listed(now, dir, name, stat);
            }
            None if believe
                && !self.is_recent(dir, hash)
                && !self.is_elsewhere(dir, name, stat) =>
            {
                let new = self.there_anew(dir, name, stat, now, out);
                if new.is_some() {
                    self.known_since(dir, name, scan.0.saturating_sub(1));
                }
                self.guard_listed(now, dir, name, stat);
            }
            Some(_) | None => {
                if !listed.again && is_another(known, stat) {
                    self.note_disagreeing(dir, hash);
                }
                let deferred = self.scanning.defers(scan) && self.scanning.dispute(dir, name);
                if !deferred {
                    self.look_for_scan(dir, name, out);
                }
            }
        }
    }

    /// Whether an entry that a listing names for the second time is another's: two names have
    /// one hash. Not where somebody looked meanwhile, then the listing is only older.
    fn is_twin(&self, dir: DirId, listed: &Listed, stat: &Stat) -> bool {
        let is_linked = match listed.known {
            Some(Known::File { linked, .. }) => linked,
            Some(Known::Other { .. }) => false,
            // The index knows the names of directories.
            Some(Known::Dir { .. }) | None => return false,
        };
        listed.again
            && (is_linked
                || is_another(listed.known, stat)
                || self.disagreeing.contains(&(dir, listed.hash)))
            && !self.is_recent(dir, listed.hash)
    }

    /// At the bound all are forgotten: two names with one hash are then found by the next scan.
    fn note_disagreeing(&mut self, dir: DirId, hash: u64) {
        if self.disagreeing.len() >= super::MAX_RECENT {
            self.disagreeing.clear();
        }
        self.disagreeing.insert((dir, hash));
    }

    fn is_recent(&self, dir: DirId, hash: u64) -> bool {
        !self.recent.is_empty() && self.recent.contains_key(&(dir, hash))
    }

    /// Whether something that has one name is known under another, so that it was moved, or a
    /// file of several names with other sizes: only a look can tell which of the two is newer.
    fn is_elsewhere(&self, dir: DirId, name: &[u8], stat: &Stat) -> bool {
        let ino = stat.id.ino;
        match stat.kind {
            FileKind::Dir => self.index.dir_of_ino(ino).is_some(),
            FileKind::File => {
                self.has_moved(dir, name, stat)
                    || self
                        .index
                        .is_linked_otherwise(ino, stat.apparent, stat.allocated)
            }
            FileKind::Symlink | FileKind::Other => false,
        }
    }

    /// Whether a name is what the index has for it, in its place.
    pub(super) fn is_known_as(&self, known: Option<Known>, stat: &Stat) -> bool {
        known.is_some_and(|known| self.agrees(known, stat)) && !self.is_foreign(stat)
    }

    /// A look in its turn found nothing new.
    pub(super) fn confirm(
        &mut self,
        now: Now,
        look: &Look,
        known: Option<Known>,
        stat: &Stat,
        out: &mut Vec<Effect>,
    ) {
        if let Some(known) = known {
            self.confirmed(look.dir, look.name(), known, stat, now, out);
        }
        self.guard_seen(now, look, stat, known, out);
    }

    /// The disk has what the index has; times and documents may still be news.
    fn confirmed(
        &mut self,
        dir: DirId,
        name: &[u8],
        known: Known,
        stat: &Stat,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let inside = match known {
            Known::Dir { id, .. } => self.session_of_dir(id),
            Known::File { .. } | Known::Other { .. } => self.session_at_name(dir, name),
        };
        if let Some(session) = inside {
            let written = stat.written(now.wall.into());
            let is_first = self.index.note_written(session, written);
            self.life_touched(session, is_first);
            self.places
                .note_time(session, stat.mtime.max(stat.ctime), now);
            match known {
                Known::File { .. } if self.rules.layout.is_of_files() => {
                    self.file_seen(session, dir, name, stat, now, Why::Scan, out);
                }
                Known::File { .. } | Known::Dir { .. } | Known::Other { .. } => {
                    self.document_seen(dir, name, stat, Why::Scan, out);
                }
            }
        }
        if self.is_catalogue(dir, name) {
            self.catalogue_seen(stat, out);
        }
    }

    fn listing_ended(
        &mut self,
        now: Now,
        scan: ScanId,
        dir: DirId,
        gathered: Option<Gathered>,
        out: &mut Vec<Effect>,
    ) {
        let defer = self.scanning.defers(scan) && self.index.is_listed(dir);
        let absent = self.index.end_listing(dir, scan.0);
        for gone in absent.dirs {
            if let Some(parent) = self.index.parent(gone) {
                let name: Box<[u8]> = self.index.dir_name(gone).into();
                self.look_for_scan(parent, &name, out);
            }
        }
        if !defer && !absent.names.is_empty() {
            self.read_unreadable(out);
        }
        for hash in absent.names {
            if !(defer && self.scanning.defer_absent(dir, hash)) {
                self.absent(dir, hash, out);
            }
        }
        if let Some(session) = self.index.session_at(dir) {
            match gathered.filter(|gathered| self.is_first_word(session, dir, gathered)) {
                Some(gathered) => self.session_gathered(now, session, gathered, out),
                None => self.read_if_unknown(session, out),
            }
        }
        self.read_listed(dir, out);
    }

    /// Whether what a walk read of a session is the newest that anybody knows: nothing was
    /// read of it yet, and none of its documents was touched since the walk came by.
    pub(super) fn is_first_word(
        &self,
        session: SessionId,
        dir: DirId,
        gathered: &Gathered,
    ) -> bool {
        let is_touched =
            |proof: &ReadAs| self.is_recent(dir, self.index.name_hash(dir, &proof.name));
        self.is_unread(session) && !gathered.proofs.iter().any(is_touched)
    }

    /// A listing did not name what the index has. What was looked at since the scan began is
    /// looked at again, everything else is gone.
    pub(super) fn absent(&mut self, dir: DirId, hash: u64, out: &mut Vec<Effect>) {
        if let Some(name) = self.recent.get(&(dir, hash)).cloned() {
            return self.look_for_scan(dir, &name, out);
        }
        let before = self.both_tallies();
        let Some(owner) = self.index.forget_hash(dir, hash) else {
            return;
        };
        if self.index.dir_owner(dir) == Some(DirOwner::Container) {
            self.file_gone(owner, hash, out);
        }
        self.note_drift(before);
        if let Some(session) = self.index.session_of(owner) {
            self.restand(session);
        }
        if owner == Owner::Catalogue {
            self.read_catalogue(out);
        }
    }

    /// A directory could not be listed.
    fn unlisted(&mut self, path: &RelPath, why: &Unlisted, out: &mut Vec<Effect>) {
        let dir = self.index.dir_at(path);
        let kind = match why {
            Unlisted::Gone => {
                let parent = dir.and_then(|dir| self.index.parent(dir));
                if let (Some(parent), Some(name)) = (parent, path.name()) {
                    out.push(Effect::Look(Look::new(parent, name, Why::Again)));
                }
                return;
            }
            Unlisted::ForeignMount => AnomalyKind::ForeignMount,
            Unlisted::TooDeep => AnomalyKind::TooDeep,
            Unlisted::Unreadable(_) => AnomalyKind::Unreadable,
        };
        self.places.insert(kind, path.clone(), Bytes::ZERO);
        let session = dir.and_then(|dir| self.session_of_dir(dir));
        self.obstruct(session, kind);
        if let Some(session) = dir.and_then(|dir| self.index.session_at(dir)) {
            self.read_if_unknown(session, out);
        }
    }
}

impl Engine {
    /// Whether the index has for a name what the disk has.
    fn agrees(&self, known: Known, stat: &Stat) -> bool {
        match (known, stat.kind) {
            (
                Known::File {
                    ino,
                    apparent,
                    allocated,
                    linked,
                },
                FileKind::File,
            ) => {
                ino == stat.id.ino
                    && apparent == stat.apparent
                    && allocated == stat.allocated
                    && (linked || stat.n_links == 1)
            }
            (Known::Dir { id, .. }, FileKind::Dir) => self.index.is_same_dir(id, stat),
            (Known::Other { ino }, FileKind::Symlink | FileKind::Other) => ino == stat.id.ino,
            _ => false,
        }
    }
}

/// Whether what the index has for a name is another inode than what was seen.
fn is_another(known: Option<Known>, stat: &Stat) -> bool {
    known.is_some_and(|known| match known {
        Known::File { ino, .. } | Known::Dir { ino, .. } | Known::Other { ino } => {
            ino != stat.id.ino
        }
    })
}
