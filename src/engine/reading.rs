//! Metadata: when it is read, when it is believed.
//!
//! Metadata that does not parse is perhaps being written: it is read again for a second
//! before it is called corrupt, and meanwhile the last good facts stand and the session stays.
//!
//! Until a session has its place in the order nobody knows whether it is the oldest. So it is
//! read as soon as it is seen, before anything in it counts, and what is decided waits for that.

use super::{CatalogTrouble, Effect, Engine, ReadOf, ReadOrder};
use crate::index::Known;
use crate::layout::CatalogSeen;
use crate::layout::spec::Kind;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::Bytes;
use crate::model::fact::Fact;
use crate::model::listing::Gathered;
use crate::model::path::RelPath;
use crate::model::place::{DirId, Look, Why};
use crate::model::plan::ReadAs;
use crate::model::seen::{Signature, Stat};
use crate::model::session::{CatalogEntry, Facts, Key, SessionId, Verdict};
use crate::model::time::{Now, Tick, UnixNanos};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// So long metadata may be half written.
const DOUBT: Duration = Duration::from_secs(1);
const FIRST_REREAD: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Tick,
    next: Tick,
    pause: Duration,
    reading: bool,
}

/// Who a read was for; `again`: asked for once more while it was under way.
#[derive(Debug, Clone, Copy)]
struct Pending {
    seq: u64,
    again: bool,
}

#[derive(Debug, Default)]
pub(super) struct Reading {
    seq: u64,
    outstanding: BTreeSet<u64>,
    pending: HashMap<Option<SessionId>, Pending>,
    doubts: HashMap<Option<SessionId>, Doubt>,
    /// Sessions that are files, found in directories whose listings have not ended. At most
    /// the sessions that there are; those of a directory that goes are forgotten with it.
    listed: HashMap<DirId, Vec<SessionId>>,
    /// The reads under way of sessions that have no place in the order yet. At most the sessions
    /// that there are.
    first: HashSet<u64>,
    catalogue: Option<Signature>,
    catalogue_asked: bool,
    catalogue_known: bool,
    trouble: Option<AnomalyKind>,
    /// The catalogue lists an id more than once.
    has_duplicates: bool,
}

impl Reading {
    pub(super) fn last_seq(&self) -> u64 {
        self.seq
    }

    /// Whether all reads up to this number are in.
    pub(super) fn is_done(&self, until: u64) -> bool {
        self.outstanding.first().is_none_or(|first| *first > until)
    }

    /// Nothing is being read and nothing is in doubt.
    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_empty() && self.doubts.is_empty()
    }

    pub(super) fn forget_dir(&mut self, slot: u32) {
        if !self.listed.is_empty() {
            self.listed.retain(|dir, _| dir.slot != slot);
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.doubts.remove(&Some(session));
        if let Some(pending) = self.pending.remove(&Some(session)) {
            self.first.remove(&pending.seq);
        }
    }

    /// Whether something is being read that may be older than all that is known.
    pub(super) fn has_first(&self) -> bool {
        !self.first.is_empty()
    }

    /// A session's metadata is to be read when all beside it is known.
    pub(super) fn await_listing(&mut self, dir: DirId, session: SessionId) {
        self.listed.entry(dir).or_default().push(session);
    }

    /// One of those was read by the walk that lists the directory.
    pub(super) fn read_in_passing(&mut self, dir: DirId, session: SessionId) {
        if let Some(waiting) = self.listed.get_mut(&dir)
            // Walks name a session and read it soon after.
            && let Some(at) = waiting.iter().rposition(|id| *id == session)
        {
            waiting.swap_remove(at);
        }
    }

    /// Those that waited for the end of a listing.
    pub(super) fn listed(&mut self, dir: DirId) -> Vec<SessionId> {
        self.listed.remove(&dir).unwrap_or_default()
    }

    /// The catalogue as it was when it was read last.
    pub(super) fn catalogue_signature(&self) -> Option<Signature> {
        self.catalogue
    }

    pub(super) fn catalogue_trouble(&self) -> Option<AnomalyKind> {
        self.trouble
    }

    pub(super) fn has_duplicates(&self) -> bool {
        self.has_duplicates
    }

    pub(super) fn due(&self) -> Option<Tick> {
        let doubts = self.doubts.values().filter(|d| !d.reading).map(|d| d.next);
        doubts.min()
    }
}

impl Engine {
    fn ask(&mut self, session: Option<SessionId>, out: &mut Vec<Effect>) {
        if let Some(pending) = self.reading.pending.get_mut(&session) {
            pending.again = true;
            return;
        }
        let (key, dir, inode) = match session {
            None => (None, RelPath::root(), None),
            Some(id) => {
                let Some(dir) = self.index.session_dir(id).and_then(|d| self.index.path(d)) else {
                    return;
                };
                // Of several files the metadata's times count, else those of the first by name.
                let inode = match self.index.metadata_or_first(id) {
                    Some(name) => dir.join(name).ok(),
                    None => Some(dir.clone()),
                };
                let inode = inode.filter(|_| self.rules.layout.reads_inode());
                (Some((id, self.index.key(id))), dir, inode)
            }
        };
        self.reading.seq += 1;
        let seq = self.reading.seq;
        let is_first = session.is_some_and(|id| self.has_no_place(id));
        if is_first {
            self.reading.first.insert(seq);
        }
        let is_known = |id| self.index.session(id).is_some_and(|session| session.known);
        let at_once = is_first && !session.is_some_and(is_known);
        self.reading.outstanding.insert(seq);
        self.reading
            .pending
            .insert(session, Pending { seq, again: false });
        out.push(Effect::Read(ReadOrder {
            seq,
            session: key,
            dir,
            inode,
            at_once,
        }));
    }

    /// Whether a session that came since the first scan is in no order yet.
    fn has_no_place(&self, session: SessionId) -> bool {
        let session = self.index.session(session);
        let is_unordered = session.is_some_and(|session| session.created.is_none());
        is_unordered && self.scanning.first_done()
    }

    /// A session was seen that was not there before: what is in it is not known yet.
    pub(super) fn read_first(&mut self, session: SessionId, out: &mut Vec<Effect>) {
        if self.has_no_place(session) {
            self.read_session(session, out);
        }
    }

    pub(super) fn read_session(&mut self, session: SessionId, out: &mut Vec<Effect>) {
        let layout = &self.rules.layout;
        if layout.kind() != Kind::Catalog && !layout.reads_no_file() {
            self.ask(Some(session), out);
        }
    }

    /// The directory of a session was listed: its documents are there, or are not.
    pub(super) fn read_if_unknown(&mut self, session: SessionId, out: &mut Vec<Effect>) {
        let known = self.index.session(session).is_some_and(|s| s.known);
        let vanished = self.index.has_other_documents(session);
        if !known || vanished || self.rules.layout.reads_inode() {
            self.read_session(session, out);
        }
    }

    /// One of a session's documents was seen: it is read when it is not as it was read last.
    pub(super) fn document_seen(
        &mut self,
        dir: DirId,
        name: &[u8],
        stat: &Stat,
        why: Why,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.document_of(dir, name) else {
            return;
        };
        let Some(known) = self.index.session(session) else {
            return;
        };
        // What was half written may be whole now.
        let in_doubt = self.reading.doubts.contains_key(&Some(session));
        let wanted = known.known || in_doubt;
        if wanted && !self.index.is_read_as_seen(session, name, stat) {
            self.read_session(session, out);
        } else if why != Why::Again && self.reading.pending.contains_key(&Some(session)) {
            // A read asks for a look of the engine's own: it must not ask for a read in turn.
            self.ask(Some(session), out);
        }
    }

    pub(super) fn is_catalogue(&self, dir: DirId, name: &[u8]) -> bool {
        dir == self.index.root() && self.rules.layout.catalogue() == Some(name)
    }

    pub(super) fn catalogue_seen(&mut self, stat: &Stat, out: &mut Vec<Effect>) {
        if self.reading.catalogue != Some(stat.signature()) {
            self.read_catalogue(out);
        }
    }

    pub(super) fn read_catalogue(&mut self, out: &mut Vec<Effect>) {
        if self.rules.layout.catalogue().is_some() {
            self.ask(None, out);
        }
    }

    /// A catalogue is read before the first scan, so that blobs find their sessions.
    pub(super) fn catalogue_was_read(&mut self, out: &mut Vec<Effect>) -> bool {
        if self.rules.layout.catalogue().is_none() {
            return true;
        }
        if !self.reading.catalogue_asked {
            self.reading.catalogue_asked = true;
            self.read_catalogue(out);
        }
        self.reading.catalogue_known
    }

    /// Whether the first look into the catalogue is under way.
    pub(super) fn awaits_catalogue(&self) -> bool {
        self.reading.catalogue_asked && !self.reading.catalogue_known
    }

    /// Reads again what did not parse.
    pub(super) fn reread_doubtful(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.reading.due().is_none_or(|at| at > now.tick) {
            return;
        }
        let mut due: Vec<_> = self
            .reading
            .doubts
            .iter()
            .filter(|(_, doubt)| !doubt.reading && doubt.next <= now.tick)
            .map(|(session, _)| *session)
            .collect();
        due.sort_unstable();
        for session in due {
            if let Some(doubt) = self.reading.doubts.get_mut(&session) {
                doubt.reading = true;
            }
            self.ask(session, out);
        }
    }

    /// Whether something that does not parse may still be half written.
    fn in_doubt(&mut self, who: Option<SessionId>, written: Option<UnixNanos>, now: Now) -> bool {
        let wall: UnixNanos = now.wall.into();
        let old = written.is_some_and(|at| {
            u128::try_from(wall.0.saturating_sub(at.0)).is_ok_and(|age| age > DOUBT.as_nanos())
        });
        let doubt = self.reading.doubts.entry(who).or_insert(Doubt {
            since: now.tick,
            next: now.tick,
            pause: FIRST_REREAD,
            reading: false,
        });
        let over = now.tick.since(doubt.since) >= DOUBT;
        if over || old {
            self.reading.doubts.remove(&who);
            return false;
        }
        // A read that a hint led to is not one that was waited for.
        if std::mem::take(&mut doubt.reading) {
            doubt.pause = doubt.pause.saturating_mul(2);
        }
        doubt.next = now.tick.after(doubt.pause).min(doubt.since.after(DOUBT));
        true
    }

    pub(super) fn read(&mut self, now: Now, seq: u64, of: ReadOf, out: &mut Vec<Effect>) {
        self.reading.outstanding.remove(&seq);
        let was_first = self.reading.first.remove(&seq);
        let who = match &of {
            ReadOf::Session { session, .. } => Some(*session),
            ReadOf::Catalogue { .. } => None,
        };
        let again = match self.reading.pending.get(&who) {
            Some(pending) if pending.seq == seq => {
                self.reading.pending.remove(&who).is_some_and(|p| p.again)
            }
            _ => false,
        };
        match of {
            ReadOf::Session {
                session,
                facts,
                proofs,
            } => {
                let gathered = Gathered { facts, proofs };
                let is_early = was_first && self.is_yet_to_come(session, &gathered);
                if !is_early {
                    self.session_gathered(now, session, gathered, out);
                }
            }
            ReadOf::Catalogue { signature, seen } => {
                self.catalogue_read(now, signature, seen, out);
            }
        }
        if again {
            self.ask(who, out);
        }
    }

    /// Whether a session is a directory that was not listed yet, with nothing in it to be read: the
    /// end of its listing asks again.
    fn is_yet_to_come(&self, session: SessionId, gathered: &Gathered) -> bool {
        let dir = self.index.session_dir(session);
        let is_whole = |dir: &DirId| self.index.session_at(*dir) == Some(session);
        let is_unlisted = dir
            .filter(is_whole)
            .is_some_and(|dir| !self.index.is_listed(dir));
        let is_nothing = gathered.proofs.iter().all(|p| p.signature.is_none());
        // A name or an inode may say when it was made, whatever is in it.
        is_unlisted && is_nothing && gathered.facts.created.is_none()
    }

    /// Whether nobody has read anything of a session yet, nor is about to.
    pub(super) fn is_unread(&self, session: SessionId) -> bool {
        let who = Some(session);
        self.index.session(session).is_some_and(|s| !s.known)
            && !self.reading.pending.contains_key(&who)
            && !self.reading.doubts.contains_key(&who)
    }

    /// A session's documents were read.
    pub(super) fn session_gathered(
        &mut self,
        now: Now,
        session: SessionId,
        gathered: Gathered,
        out: &mut Vec<Effect>,
    ) {
        let Gathered { facts, proofs } = gathered;
        // Nothing to read where something is expected: perhaps the whole session went,
        // and no plan may count what is not there.
        let vanished = proofs.iter().any(|proof| proof.signature.is_none());
        // A look at a file that is in doubt would ask for a read in turn.
        let is_there = facts.verdict == Verdict::Doubtful && !vanished;
        if vanished || (facts.created.is_none() && !is_there) {
            self.look_at_session(session, out);
        }
        self.session_read(now, session, facts, proofs, out);
    }

    fn session_read(
        &mut self,
        now: Now,
        id: SessionId,
        mut facts: Facts,
        proofs: Vec<ReadAs>,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.index.session(id) else {
            self.reading.doubts.remove(&Some(id));
            return;
        };
        if facts.verdict == Verdict::Doubtful {
            let known = session.known;
            let written = proofs
                .iter()
                .filter_map(|p| p.signature)
                .map(|s| s.mtime.max(s.ctime));
            if self.in_doubt(Some(id), written.max(), now) {
                if known && let Some(session) = self.index.session_mut(id) {
                    session.verdict = Verdict::Doubtful;
                }
                return self.restand(id);
            }
            facts.verdict = Verdict::Certain;
        } else {
            self.reading.doubts.remove(&Some(id));
        }
        // Read again and found the same: what kept it from going has not changed either.
        let is_news = !self.index.was_read_from(id, &proofs);
        self.set_facts(id, facts, &proofs, out);
        if is_news {
            self.deciding.forget_back_off();
            self.deciding.forget_passed(id);
        }
        self.restand(id);
    }

    /// Takes over what was read, tells of another state, and looks ahead to what follows.
    fn set_facts(
        &mut self,
        id: SessionId,
        mut facts: Facts,
        proofs: &[ReadAs],
        out: &mut Vec<Effect>,
    ) {
        if let Some(session) = self.index.session(id).filter(|s| s.known)
            && self.index.state(session) != facts.state.as_ref()
        {
            out.push(Effect::Tell(Fact::StateChanged {
                key: self.index.key(id),
                path: self.index.session_path(id),
                from: self.index.state(session).cloned(),
                to: facts.state.clone(),
            }));
        }
        self.living.set_moments(id, facts.moments.take());
        self.index.set_facts(id, facts, proofs);
        self.plan_life(id);
    }

    fn catalogue_read(
        &mut self,
        now: Now,
        signature: Option<Signature>,
        seen: Result<CatalogSeen, CatalogTrouble>,
        out: &mut Vec<Effect>,
    ) {
        if self.reading.catalogue != signature {
            // Its owner has just been at it: it may be free soon.
            self.unlisting.try_soon(now.tick);
        }
        self.reading.catalogue = signature;
        match seen {
            Ok(seen) => {
                self.reading.doubts.remove(&None);
                self.reading.trouble = None;
                self.take_catalogue(seen, out);
            }
            Err(trouble) => {
                let written = signature.map(|s| s.mtime.max(s.ctime));
                let doubtful = matches!(trouble, CatalogTrouble::Corrupt(_));
                if doubtful && self.in_doubt(None, written, now) {
                    // The last good entries stand, but nobody can say what they are now.
                    self.restand_all();
                    return;
                }
                self.reading.doubts.remove(&None);
                self.reading.trouble = Some(match trouble {
                    CatalogTrouble::Absent => AnomalyKind::MetadataMissing,
                    CatalogTrouble::Unreadable => AnomalyKind::MetadataUnreadable,
                    CatalogTrouble::Corrupt(_) => AnomalyKind::MetadataCorrupt,
                });
                self.reading.has_duplicates = false;
                self.unclaim_all();
            }
        }
        self.reading.catalogue_known = true;
        self.deciding.forget_back_off();
        self.restand_all();
    }

    /// Whether the catalogue is being doubted: then nothing goes.
    pub(super) fn catalogue_in_doubt(&self) -> bool {
        self.reading.doubts.contains_key(&None)
    }

    fn unclaim_all(&mut self) {
        let all: Vec<SessionId> = self.index.sessions().map(|(id, _)| id).collect();
        for id in all {
            self.unclaim(id);
        }
    }

    fn unclaim(&mut self, id: SessionId) {
        let blobs = self.index.blobs(id).to_vec();
        self.index.unclaim_session(id);
        self.deciding.forget(id);
        self.living.forget(id);
        self.unlisting.note_ghost(id, false);
        for blob in blobs {
            self.orphaned(&blob);
        }
    }

    /// A blob lost its claim: reported while it is there.
    fn orphaned(&mut self, blob: &[u8]) {
        let root = self.index.root();
        match (self.index.find(root, blob), RelPath::new(blob)) {
            (Some(Known::File { apparent, .. }), Ok(path)) => {
                self.places
                    .insert(AnomalyKind::OrphanBlob, path, Bytes(apparent));
            }
            (_, _) => self
                .index
                .set_owner(root, blob, crate::index::Owner::Unowned),
        }
    }

    fn take_catalogue(&mut self, seen: CatalogSeen, out: &mut Vec<Effect>) {
        self.reading.has_duplicates = !seen.duplicates.is_empty();
        let listed: HashSet<Key> = seen.entries.iter().map(|entry| entry.id.clone()).collect();
        let gone: Vec<SessionId> = self
            .index
            .sessions()
            .map(|(id, _)| id)
            .filter(|id| !listed.contains(&self.index.key(*id)))
            .collect();
        for id in gone {
            self.unclaim(id);
        }
        self.unlisting.keep(&listed);
        let mut written_back = Vec::new();
        for entry in seen.entries {
            if let Some(key) = self.take_entry(entry, out) {
                written_back.push(key);
            }
        }
        if !written_back.is_empty() {
            self.unlisting.note_written_back();
        }
        self.unlist(written_back, out);
    }

    /// Takes over one entry. Returns its id when it was taken out before and is to go again.
    fn take_entry(&mut self, entry: CatalogEntry, out: &mut Vec<Effect>) -> Option<Key> {
        let root = self.index.root();
        let present = entry
            .blobs
            .iter()
            .any(|blob| matches!(self.index.find(root, blob), Some(Known::File { .. })));
        let id = match self.index.session_by_key(&entry.id) {
            // Also where the entry goes in a moment: its blob may come back, and is judged then.
            Some(id) => id,
            None if !present && self.unlisting.is_leaving(&entry.id) => return None,
            None => self.index.begin_session(entry.id.clone()),
        };
        for blob in &entry.blobs {
            if let Ok(path) = RelPath::new(blob) {
                self.places.remove(AnomalyKind::OrphanBlob, &path);
            }
        }
        let old: Vec<Box<[u8]>> = self.index.blobs(id).to_vec();
        for blob in entry.blobs.iter().filter(|blob| !old.contains(blob)) {
            // Nobody noted when an orphan was written.
            if present {
                out.push(Effect::Look(Look::new(root, blob, Why::Again)));
            }
        }
        self.index.set_blobs(id, entry.blobs.clone());
        for blob in old.iter().filter(|blob| !entry.blobs.contains(blob)) {
            self.orphaned(blob);
        }
        self.set_facts(id, entry.facts, &[], out);
        if present {
            self.unlisting.is_back(&entry.id);
            return None;
        }
        self.unlisting.was_removed(&entry.id).then_some(entry.id)
    }
}
