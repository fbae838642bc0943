//! What is wrong at which place, and what of it was told.

use super::{AnomalyRow, Effect, Engine};
use crate::index::{Known, Owner, Session};
use crate::layout::spec::{Kind, Means};
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::{Bytes, Tally};
use crate::model::fact::Fact;
use crate::model::path::RelPath;
use crate::model::session::{Declared, Phase, SessionId};
use crate::model::time::{Now, Time, UnixNanos};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most places kept; above it they are counted only.
const MAX_PLACES: usize = 100_000;
/// As many of what nobody owns: nobody reads a longer list, and it costs a scan.
const MAX_UNOWNED: u64 = 10_000;
/// Most lines a kind and scan.
const MAX_LINES: u64 = 100;

/// In nanoseconds; a kernel's coarse time stamps and the fine clock differ by less.
const CLOCK_TICK: i64 = 1_000_000_000;

fn is_to_come(at: UnixNanos, now: Now) -> bool {
    at.0 > UnixNanos::from(now.wall).0.saturating_add(CLOCK_TICK)
}

/// Anomalies that belong to a place, not to a session's metadata.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: BTreeMap<(RelPath, AnomalyKind), Bytes>,
    /// Of what nobody owns.
    n_unowned: u64,
    /// How often something other than an unowned name was told of.
    pub(super) n_told: u64,
    /// Places above the bound since the last full scan, but for what nobody owns.
    n_more: u64,
    /// What was there at the end of the last full scan, and since when.
    told: BTreeMap<(AnomalyKind, RelPath), Time>,
    /// What a run before this one knew, up to this one's second full scan: some of it is found
    /// only when a time has passed.
    before: BTreeMap<(AnomalyKind, RelPath), Time>,
    published: bool,
    /// Something was told between two full scans, and is not written down yet.
    is_told_early: bool,
    /// The same as in `told`, spelled out.
    rows: Arc<[AnomalyRow]>,
    /// Sessions written to at times to come, and the latest of those.
    future: HashMap<SessionId, UnixNanos>,
}

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn insert(&mut self, kind: AnomalyKind, path: RelPath, bytes: Bytes) {
        self.n_told += u64::from(kind != AnomalyKind::Unowned);
        let is_full = match kind {
            AnomalyKind::Unowned => self.n_unowned >= MAX_UNOWNED,
            _ => self.is_full(),
        };
        let at = (path, kind);
        if is_full && !self.all.contains_key(&at) {
            self.n_more += u64::from(kind != AnomalyKind::Unowned);
        } else if self.all.insert(at, bytes).is_none() {
            self.n_unowned += u64::from(kind == AnomalyKind::Unowned);
        }
    }

    /// Whether there are more places than are kept that speak against a removal: then what is not
    /// found here may be so all the same. Names that nobody owns have room of their own, so that
    /// they crowd out nothing.
    pub(super) fn is_full(&self) -> bool {
        self.all.len() as u64 - self.n_unowned >= MAX_PLACES as u64
    }

    /// Whether there is room for one more unowned name.
    pub(super) fn has_room_for_unowned(&self) -> bool {
        self.n_unowned < MAX_UNOWNED
    }

    /// The same for an unowned name of which nothing was kept: above the bound it costs nothing
    /// that there are many.
    pub(super) fn insert_unowned(&mut self, path: RelPath, bytes: Bytes) {
        if self.has_room_for_unowned() {
            self.insert(AnomalyKind::Unowned, path, bytes);
        }
    }

    pub(super) fn remove(&mut self, kind: AnomalyKind, path: &RelPath) {
        if !self.all.is_empty() && self.all.remove(&(path.clone(), kind)).is_some() {
            self.n_unowned -= u64::from(kind == AnomalyKind::Unowned);
        }
    }

    /// Those at a path and below it.
    fn within<'a>(
        &'a self,
        path: &'a RelPath,
    ) -> impl Iterator<Item = (&'a (RelPath, AnomalyKind), &'a Bytes)> {
        // Siblings such as `a-b` sort between `a` and `a/b`.
        self.all
            .range((path.clone(), AnomalyKind::ALL[0])..)
            .take_while(|((at, _), _)| at.as_bytes().starts_with(path.as_bytes()))
            .filter(|((at, _), _)| at.is_within(path))
    }

    /// Whether there are any below a path.
    pub(super) fn are_below(&self, path: &RelPath) -> bool {
        !self.all.is_empty() && self.within(path).any(|((at, _), _)| at != path)
    }

    /// Forgets a path with everything below it. The path is asked for only when needed.
    pub(super) fn forget_below(&mut self, path: impl FnOnce() -> Option<RelPath>) {
        if self.all.is_empty() {
            return;
        }
        let Some(path) = path() else { return };
        let below: Vec<_> = self.within(&path).map(|(at, _)| at.clone()).collect();
        for (at, kind) in below {
            self.remove(kind, &at);
        }
    }

    /// Forgets all of one kind.
    fn forget_kind(&mut self, kind: AnomalyKind) {
        let places = self.all.keys().filter(|(_, of)| *of == kind);
        let places: Vec<RelPath> = places.map(|(path, _)| path.clone()).collect();
        for path in places {
            self.remove(kind, &path);
        }
    }

    pub(super) fn has(&self, kind: AnomalyKind, path: &RelPath) -> bool {
        self.all.contains_key(&(path.clone(), kind))
    }

    /// Since when what a run before this one knew has been there.
    pub(super) fn recall(&mut self, known: impl IntoIterator<Item = (AnomalyKind, RelPath, Time)>) {
        let known = known.into_iter().take(MAX_PLACES);
        self.before = known.map(|(kind, path, at)| ((kind, path), at)).collect();
    }

    fn first_seen(&self, place: &(AnomalyKind, RelPath)) -> Option<Time> {
        self.told
            .get(place)
            .or_else(|| self.before.get(place))
            .copied()
    }

    pub(super) fn rows(&self) -> Arc<[AnomalyRow]> {
        self.rows.clone()
    }

    /// Something in a session has this time.
    pub(super) fn note_time(&mut self, session: SessionId, at: UnixNanos, now: Now) {
        if is_to_come(at, now)
            && (self.future.len() < MAX_PLACES || self.future.contains_key(&session))
        {
            let latest = self.future.entry(session).or_insert(at);
            *latest = at.max(*latest);
        }
    }

    /// A full scan begins: it meets again what there is.
    pub(super) fn forget_future(&mut self) {
        self.future.clear();
    }

    fn is_future(&self, session: SessionId, now: Now) -> bool {
        let latest = self.future.get(&session);
        latest.is_some_and(|at| is_to_come(*at, now))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AnomalyKind, &RelPath, Bytes)> {
        self.all
            .iter()
            .map(|((path, kind), bytes)| (*kind, path, *bytes))
    }

    /// Whether something that hides bytes lies within a path.
    pub(super) fn obstructs(&self, path: &RelPath, kind: AnomalyKind) -> bool {
        self.within(path).any(|((_, found), _)| *found == kind)
    }
}

impl Engine {
    /// Every anomaly with its place and bytes, at most [`MAX_PLACES`] and those of sessions.
    fn anomalies(&self, now: Now) -> Vec<(AnomalyKind, RelPath, Bytes)> {
        let trouble = self.reading.catalogue_trouble();
        let mut all: Vec<_> = self
            .places
            .iter()
            .filter(|(kind, path, _)| {
                *kind != AnomalyKind::BlobUnusable || self.is_of_a_session(path)
            })
            .map(|(kind, path, bytes)| {
                let bytes = self.place_bytes(kind, path).unwrap_or(bytes);
                match (kind, trouble) {
                    // Without a catalogue nobody can say whether a blob is an orphan.
                    (AnomalyKind::OrphanBlob, Some(_)) => {
                        (AnomalyKind::MetadataMissing, path.clone(), bytes)
                    }
                    _ => (kind, path.clone(), bytes),
                }
            })
            .collect();
        if let Some(catalogue) = self.catalogue_path() {
            let bytes = self.catalogue_bytes();
            let twice = self.reading.has_duplicates();
            let twice = twice.then_some(AnomalyKind::DuplicateId);
            // Where there is nothing at all, there may be no session yet.
            let is_empty = self.index.totals().counted.n_files == 0;
            let unknown = trouble.filter(|_| !is_empty);
            let unknown = unknown.map(|_| AnomalyKind::CatalogUnreadable);
            let contended = self.unlisting.is_contended();
            let contended = contended.then_some(AnomalyKind::CatalogConcurrentWrite);
            let kinds = trouble.into_iter().chain(twice);
            let kinds = kinds.chain(unknown).chain(contended);
            all.extend(kinds.map(|kind| (kind, catalogue.clone(), bytes)));
        }
        let measure = self.rules.limits.measure;
        for (id, session) in self.index.sessions() {
            let path = || self.told_path(id);
            let kinds = session.anomalies.iter().chain(session.obstacles.iter());
            all.extend(
                kinds
                    .chain(self.derived(id, session))
                    .chain(self.as_time_goes_by(id, now))
                    .map(|kind| (kind, path(), session.bytes(measure))),
            );
            if session.is_disowned() {
                all.push((AnomalyKind::Unowned, path(), session.bytes(measure)));
            }
            if session.is_orphaned() {
                all.push((AnomalyKind::OrphanBlob, path(), session.bytes(measure)));
            }
        }
        all.sort();
        all.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
        all
    }

    /// All that lies in the trash and is nobody's victim; what was there before is gone.
    pub(super) fn note_strangers(&mut self, found: Vec<(RelPath, Tally)>) {
        let kind = AnomalyKind::StrangerInTrash;
        self.places.forget_kind(kind);
        for (path, tally) in found {
            let bytes = tally.bytes(self.rules.limits.measure);
            self.places.insert(kind, path, bytes);
        }
    }

    /// Whether a session with a sidecar has this name. What a catalogue claims was found so.
    fn is_of_a_session(&self, path: &RelPath) -> bool {
        let layout = &self.rules.layout;
        layout.kind() != Kind::Sidecar
            || layout
                .part_of(path.as_bytes())
                .is_some_and(|key| self.index.files_by_key(&key).is_some())
    }

    /// Names that nobody owns, and that are to be reported.
    pub(super) fn n_unowned(&self) -> u64 {
        let root = self.index.root();
        let lock = self.rules.layout.spec().foreign_lock.as_deref();
        let is_there = lock.map(str::as_bytes).is_some_and(|name| {
            let known = self.index.find(root, name);
            matches!(known, Some(Known::File { .. } | Known::Other { .. }))
                && self.index.owner_of(root, name) == Owner::Unowned
        });
        self.index.n_unowned() - u64::from(is_there)
    }

    fn catalogue_path(&self) -> Option<RelPath> {
        RelPath::new(self.rules.layout.catalogue()?).ok()
    }

    /// Where people look for a session. An entry that names no file is told by its id, with a
    /// slash in it escaped, so that no two of them are taken for one.
    fn told_path(&self, id: SessionId) -> RelPath {
        let path = self.index.session_path(id);
        if !path.is_root() {
            return path;
        }
        let key = self.index.key(id);
        let mut name = Vec::with_capacity(key.len());
        for byte in &*key {
            match byte {
                b'/' => name.extend_from_slice(br"\x2F"),
                byte => name.push(*byte),
            }
        }
        RelPath::new(&name)
            .ok()
            .or_else(|| self.catalogue_path())
            .unwrap_or(path)
    }

    /// What follows from comparing a session's entry with the disk.
    pub(super) fn derived(
        &self,
        id: SessionId,
        session: &Session,
    ) -> impl Iterator<Item = AnomalyKind> + use<> {
        let bad_id = session.anomalies.contains(AnomalyKind::BadId);
        let dangling = match self.rules.layout.kind() {
            Kind::Directories | Kind::Files => false,
            Kind::Sidecar => self.index.is_bare_metadata(id),
            Kind::Catalog => session.n_files() == 0 && !bad_id,
        };
        let mismatch = match self.index.declared(id) {
            Declared::Nothing => false,
            Declared::Nonsense => true,
            Declared::Bytes(size) => !dangling && self.differs(id, session, size),
        };
        [
            dangling.then_some(AnomalyKind::DanglingEntry),
            (mismatch && !bad_id).then_some(AnomalyKind::SizeMismatch),
        ]
        .into_iter()
        .flatten()
    }

    /// What nobody says, and time brings about.
    pub(super) fn as_time_goes_by(
        &self,
        id: SessionId,
        now: Now,
    ) -> impl Iterator<Item = AnomalyKind> + use<> {
        let stale = self.living.is_stale(id).then_some(AnomalyKind::StaleActive);
        let is_fast = self.deciding.is_immovable(id);
        let fast = is_fast.then_some(AnomalyKind::BlobUnusable);
        let future = self.places.is_future(id, now);
        let future = future.then_some(AnomalyKind::ClockFuture);
        stale.into_iter().chain(fast).chain(future)
    }

    /// Everything that is wrong, each kind once at each place, and since when that is known.
    pub fn anomaly_rows(&self, now: Now) -> Vec<AnomalyRow> {
        let all = self.anomalies(now).into_iter();
        all.map(|(kind, path, bytes)| {
            let first_seen = self.places.first_seen(&(kind, path.clone()));
            AnomalyRow {
                kind,
                bytes,
                first_seen: first_seen.unwrap_or(now.wall).min(now.wall),
                last_seen: now.wall,
                path,
            }
        })
        .collect()
    }

    /// Whether a size from the metadata is not what the disk has, the metadata itself apart.
    fn differs(&self, id: SessionId, session: &Session, size: u64) -> bool {
        let there = self.index.tally(id).apparent - self.metadata_bytes(id);
        match self.rules.layout.size().map(|size| size.means) {
            None | Some(Means::Bytes) => u128::from(size) != there,
            Some(Means::DeclaredTotal) => {
                let is_whole = session.phase == Phase::Complete;
                there > u128::from(size) || (is_whole && there < u128::from(size))
            }
        }
    }

    /// The bytes of a session's own metadata file; a file that is its own metadata has none
    /// beside it.
    fn metadata_bytes(&self, id: SessionId) -> u128 {
        let layout = &self.rules.layout;
        let key = self.index.key(id);
        let documents = match layout.kind() {
            Kind::Directories | Kind::Sidecar => layout.documents(&key),
            Kind::Files | Kind::Catalog => return 0,
        };
        let (Some(dir), Some(name)) = (self.index.session_dir(id), documents.first()) else {
            return 0;
        };
        match self.index.find(dir, name) {
            Some(Known::File { apparent, .. }) => apparent.into(),
            Some(Known::Dir { .. } | Known::Other { .. }) | None => 0,
        }
    }

    fn place_bytes(&self, kind: AnomalyKind, path: &RelPath) -> Option<Bytes> {
        if kind != AnomalyKind::Unowned {
            return None;
        }
        let dir = self.index.dir_at(path)?;
        Some(self.index.tally_below(dir).bytes(self.rules.limits.measure))
    }

    /// Tells at once of what a removal met; the next full scan has it in its rows.
    pub(super) fn tell_anomaly(
        &mut self,
        now: Now,
        id: SessionId,
        kind: AnomalyKind,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.index.session(id) else {
            return;
        };
        let bytes = session.bytes(self.rules.limits.measure);
        let path = self.told_path(id);
        let place = (kind, path.clone());
        let first_seen = self.places.first_seen(&place).unwrap_or(now.wall);
        if self.places.told.insert(place, first_seen).is_none() {
            out.push(Effect::Tell(Fact::AnomalyFound { kind, path, bytes }));
            self.places.is_told_early = true;
        }
    }

    /// Tells which anomalies came and went since the last full scan, once each.
    pub(super) fn publish_anomalies(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.refresh_obstacles();
        let all = self.anomaly_rows(now);
        let is_cut = self.places.n_unowned >= MAX_UNOWNED;
        let n_unnamed = self.n_unowned().saturating_sub(self.places.n_unowned);
        let n_unnamed = if is_cut { n_unnamed } else { 0 };
        self.scanning.n_anomalies = all.len() as u64 + self.places.n_more + n_unnamed;
        self.places.n_more = 0;
        let mut lines: HashMap<AnomalyKind, (u64, u64)> = HashMap::new();
        let mut now_there = BTreeMap::new();
        for row in &all {
            let (kind, path, bytes) = (row.kind, row.path.clone(), row.bytes);
            if !self.places.told.contains_key(&(kind, path.clone())) {
                let (found, _) = lines.entry(kind).or_default();
                *found += 1;
                if *found <= MAX_LINES {
                    let path = path.clone();
                    out.push(Effect::Tell(Fact::AnomalyFound { kind, path, bytes }));
                }
            }
            now_there.insert((kind, path), row.first_seen);
        }
        for (kind, path) in self.places.told.keys() {
            if now_there.contains_key(&(*kind, path.clone())) {
                continue;
            }
            let (_, cleared) = lines.entry(*kind).or_default();
            *cleared += 1;
            if *cleared <= MAX_LINES {
                out.push(Effect::Tell(Fact::AnomalyCleared {
                    kind: *kind,
                    path: path.clone(),
                }));
            }
        }
        for (kind, (found, cleared)) in lines {
            let (found, cleared) = (
                found.saturating_sub(MAX_LINES),
                cleared.saturating_sub(MAX_LINES),
            );
            if found + cleared > 0 {
                out.push(Effect::Tell(Fact::AnomaliesMore {
                    kind,
                    found,
                    cleared,
                }));
            }
        }
        self.places.rows = all.into();
        if std::mem::replace(&mut self.places.published, true) {
            self.places.before = BTreeMap::new();
        }
        let is_told_early = std::mem::take(&mut self.places.is_told_early);
        if is_told_early || self.places.told != now_there {
            self.places.told = now_there;
            out.push(Effect::KeepAnomalies);
        }
        self.unlisting.forget_contention();
        // Until the next try says so again.
        self.deciding.forget_immovable(None);
    }

    /// After a full scan a session whose obstacle was not found again is free of it.
    fn refresh_obstacles(&mut self) {
        self.forget_vanished_places();
        if self.places.is_full() {
            return;
        }
        let obstructed: Vec<_> = self
            .index
            .sessions()
            .filter(|(_, session)| !session.obstacles.is_empty())
            .map(|(id, session)| (id, session.obstacles))
            .collect();
        for (id, obstacles) in obstructed {
            let path = self.index.session_path(id);
            for kind in obstacles.iter() {
                if !self.places.obstructs(&path, kind)
                    && let Some(session) = self.index.session_mut(id)
                {
                    session.obstacles.remove(kind);
                }
            }
            self.restand(id);
        }
    }

    /// Places whose name left the index without a look (a scan knows only hashes) go too.
    fn forget_vanished_places(&mut self) {
        let vanished: Vec<(AnomalyKind, RelPath)> = self
            .places
            .iter()
            .filter(|(kind, path, _)| needs_name(*kind) && !self.is_known(path))
            .map(|(kind, path, _)| (kind, path.clone()))
            .collect();
        for (kind, path) in vanished {
            self.places.remove(kind, &path);
        }
    }

    fn is_known(&self, path: &RelPath) -> bool {
        let parent = path.parent().and_then(|parent| self.index.dir_at(&parent));
        parent
            .zip(path.name())
            .is_some_and(|(dir, name)| self.index.find(dir, name).is_some())
    }
}

/// Whether an anomaly of this kind ends when its name is not there any more.
fn needs_name(kind: AnomalyKind) -> bool {
    matches!(
        kind,
        AnomalyKind::Unowned
            | AnomalyKind::OrphanBlob
            | AnomalyKind::Symlink
            | AnomalyKind::BlobUnusable
            | AnomalyKind::NotUtf8
            | AnomalyKind::ForeignMount
    )
}
