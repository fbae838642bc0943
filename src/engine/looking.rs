//! From a hint to the index: look at the name, believe the answer.

use super::{Effect, Engine};
use crate::index::{DirOwner, Dropped, Known, Owner};
use crate::layout::Role;
use crate::layout::spec::Kind;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::Bytes;
use crate::model::path::{RelPath, is_name};
use crate::model::place::{DirId, Look, Why};
use crate::model::report::{BESIDE, is_cookie};
use crate::model::seen::{FileKind, Seen, Stat};
use crate::model::session::SessionId;
use crate::model::time::{Now, UnixNanos};

/// What a name turned out to be.
enum Found<'a> {
    File(&'a Stat),
    Dir(&'a Stat),
    /// Symlink, FIFO, socket, device.
    Other(&'a Stat),
    /// A directory of another mount or file system, or a file that is mounted here.
    Foreign(&'a Stat),
}

impl<'a> Found<'a> {
    fn stat(&self) -> &'a Stat {
        match self {
            Self::File(stat) | Self::Dir(stat) | Self::Other(stat) | Self::Foreign(stat) => stat,
        }
    }
}

impl Engine {
    /// The session everything in a directory belongs to.
    pub(super) fn session_of_dir(&self, dir: DirId) -> Option<SessionId> {
        match self.index.dir_owner(dir)? {
            DirOwner::In(owner) => self.index.session_of(owner),
            DirOwner::Container => None,
        }
    }

    /// The disk's answer to a look.
    pub(super) fn looked(&mut self, now: Now, look: Look, seen: Seen, out: &mut Vec<Effect>) {
        if look.why == Why::Scan {
            self.scanning.looks_left = self.scanning.looks_left.saturating_sub(1);
        }
        if !self.index.has_dir(look.dir) {
            return;
        }
        let before = self.both_tallies();
        let known = self.before_look(look.dir, look.name(), look.why);
        self.note_recent(look.dir, look.name(), out);
        match seen {
            Seen::Gone => {
                self.gone(look.dir, look.name(), out);
                self.guard_gone(look.dir, look.name(), known);
                self.beside_gone(&look, out);
            }
            Seen::Unreadable(_) => self.unreadable(look.dir, look.name()),
            Seen::There(stat) if look.why == Why::Guard && self.is_known_as(known, &stat) => {
                self.confirm(now, &look, known, &stat, out);
            }
            Seen::There(stat) => {
                let found = self.there(look.dir, look.name(), &stat, now, look.why, out);
                self.guard_seen(now, &look, &stat, known, out);
                if look.why == Why::Scan {
                    // Its listing may have ended before.
                    self.read_listed(look.dir, out);
                }
                if let Some(new) = found {
                    self.known_since(look.dir, look.name(), self.scanning.last_id());
                    self.scan_below(new, out);
                }
            }
        }
        if look.why == Why::Scan {
            self.note_drift(before);
        }
        self.note_peak();
    }

    /// A directory is not at its path: it was moved, replaced or removed, and the hint of that
    /// is still to come. What is in it is not judged by what lies there now; the directory's
    /// own name is looked at instead, and wherever it is found it is listed anew.
    pub(super) fn astray(&mut self, look: &Look, out: &mut Vec<Effect>) {
        if look.why == Why::Scan {
            self.scanning.looks_left = self.scanning.looks_left.saturating_sub(1);
        }
        if let Some(parent) = self.index.parent(look.dir) {
            let name: Box<[u8]> = self.index.dir_name(look.dir).into();
            out.push(Effect::Look(Look::new(parent, &name, Why::Hint)));
        }
    }

    /// Walks up to this number may have seen the directory when it was elsewhere, or what has
    /// left it since.
    pub(super) fn known_since(&mut self, parent: DirId, name: &[u8], scan: u64) {
        if let Some(Known::Dir { id, .. }) = self.index.find(parent, name) {
            self.index.set_since(id, scan);
        }
    }

    /// A name is not there any more.
    pub(super) fn gone(&mut self, dir: DirId, name: &[u8], out: &mut Vec<Effect>) {
        let owner = self.index.owner_of(dir, name);
        let document_of = self.document_of(dir, name);
        let dropped = self.index.forget(dir, name);
        self.places
            .forget_below(|| self.index.path(dir)?.join(name).ok());
        self.give_up(dropped, out);
        if self.index.dir_owner(dir) == Some(DirOwner::Container) {
            self.file_gone(owner, self.index.name_hash(dir, name), out);
            self.metadata_replaced(dir, name, out);
        }
        if let Some(session) = self.index.session_of(owner) {
            self.restand(session);
        }
        if let Some(session) = document_of.filter(|_| !self.rules.layout.is_of_files()) {
            self.read_session(session, out);
        }
        if owner == Owner::Catalogue {
            self.read_catalogue(out);
        }
        if owner == Owner::Orphan && self.index.dir_owner(dir) == Some(DirOwner::Container) {
            self.index.set_owner(dir, name, Owner::Unowned);
        }
    }

    /// Gives back what directories that left the index had open.
    pub(super) fn give_up(&mut self, dropped: Dropped, out: &mut Vec<Effect>) {
        self.release(&dropped, out);
        if !dropped.watches.is_empty() {
            out.push(Effect::Unwatch(dropped.watches));
        }
    }

    /// The same without the watches, which the caller ends.
    pub(super) fn release(&mut self, dropped: &Dropped, out: &mut Vec<Effect>) {
        for slot in &dropped.slots {
            self.reading.forget_dir(*slot);
            out.push(Effect::Forget(*slot));
        }
        for session in &dropped.sessions {
            self.session_ended(*session);
        }
        if !dropped.sessions.is_empty() {
            self.deciding.forget_back_off();
        }
    }

    pub(super) fn session_ended(&mut self, session: SessionId) {
        self.reading.forget(session);
        self.deciding.forget(session);
        self.living.forget(session);
        self.unlisting.note_ghost(session, false);
    }

    pub(super) fn unreadable(&mut self, dir: DirId, name: &[u8]) {
        self.note_place(AnomalyKind::Unreadable, dir, name, Bytes::ZERO);
    }

    pub(super) fn path_in(&self, dir: DirId, name: &[u8]) -> Option<RelPath> {
        let listed = self.in_listing.as_ref().filter(|listed| listed.dir == dir);
        match listed.filter(|_| self.index.has_dir(dir)) {
            Some(listed) => listed.path.join(name).ok(),
            None => self.index.path(dir)?.join(name).ok(),
        }
    }

    fn found<'a>(&self, stat: &'a Stat) -> Found<'a> {
        if self.is_foreign(stat) {
            return Found::Foreign(stat);
        }
        match stat.kind {
            FileKind::File => Found::File(stat),
            FileKind::Dir => Found::Dir(stat),
            FileKind::Symlink | FileKind::Other => Found::Other(stat),
        }
    }

    /// Whether it lies on another mount than the root: it counts nothing here. Files may have
    /// another device on the same mount (overlayfs); a directory that has is another file
    /// system (a btrfs subvolume).
    pub(super) fn is_foreign(&self, stat: &Stat) -> bool {
        self.root.is_some_and(|root| {
            root.mount != stat.mount || (stat.kind == FileKind::Dir && root.id.dev != stat.id.dev)
        })
    }

    /// A name is there. Returns a directory that is to be listed: it was not known, or was
    /// perhaps away for a while.
    pub(super) fn there(
        &mut self,
        dir: DirId,
        name: &[u8],
        stat: &Stat,
        now: Now,
        why: Why,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        self.clock.note_newest(stat.ctime.min(now.wall.into()));
        match self.index.find(dir, name) {
            Some(Known::Dir { id, .. })
                if stat.kind == FileKind::Dir
                    && !self.is_foreign(stat)
                    && self.index.is_same_dir(id, stat) =>
            {
                return self.touch(id, stat, now, why, out);
            }
            Some(Known::Dir { .. }) => self.gone(dir, name, out),
            Some(Known::File { .. } | Known::Other { .. }) | None => {}
        }
        self.places
            .forget_below(|| self.index.path(dir)?.join(name).ok());
        self.leave_old_names(dir, name, stat, out);
        self.place(dir, name, stat, now, why, out)
    }

    /// The same for a name that a listing brings, of which nothing is known, nor of its inode under
    /// another name.
    pub(super) fn there_anew(
        &mut self,
        dir: DirId,
        name: &[u8],
        stat: &Stat,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        self.clock.note_newest(stat.ctime.min(now.wall.into()));
        let listed = self.in_listing.as_ref().filter(|listed| listed.dir == dir);
        let told_since = listed.and_then(|listed| listed.nothing_told_since);
        if told_since != Some(self.places.n_told) {
            self.places
                .forget_below(|| self.index.path(dir)?.join(name).ok());
        }
        self.place(dir, name, stat, now, Why::Scan, out)
    }

    fn place(
        &mut self,
        dir: DirId,
        name: &[u8],
        stat: &Stat,
        now: Now,
        why: Why,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        let found = self.found(stat);
        match self.index.dir_owner(dir)? {
            DirOwner::In(owner) => self.place_inside(dir, name, &found, owner, now, why, out),
            DirOwner::Container => self.place_in_container(dir, name, &found, now, why, out),
        }
    }

    /// A file with one name has it here: where it was before, it is not any more. Counted in
    /// both places it would cost others their place, until the hint of the old one comes.
    fn leave_old_names(&mut self, dir: DirId, name: &[u8], stat: &Stat, out: &mut Vec<Effect>) {
        if !self.has_moved(dir, name, stat) {
            return;
        }
        for (old, hash) in self.index.other_names(dir, name, stat.id.ino) {
            let Some(owner) = self.index.forget_hash(old, hash) else {
                continue;
            };
            self.file_gone(owner, hash, out);
            if let Some(session) = self.index.session_of(owner) {
                self.restand(session);
            }
            if owner == Owner::Catalogue {
                self.read_catalogue(out);
            }
        }
    }

    /// Whether this is the only name of a file that the index has elsewhere. An inode number
    /// says that on the root's own device only: overlayfs gives files others.
    pub(super) fn has_moved(&self, dir: DirId, name: &[u8], stat: &Stat) -> bool {
        stat.kind == FileKind::File
            && stat.n_links == 1
            && self.root.is_some_and(|root| root.id.dev == stat.id.dev)
            && self.index.has_other_names(dir, name, stat.id.ino)
    }

    /// A directory that is known was touched. A hint that names it may mean that it was moved
    /// away and came back, and what was looked for in it meanwhile was not found, or found
    /// in another directory that had its path.
    fn touch(
        &mut self,
        id: DirId,
        stat: &Stat,
        now: Now,
        why: Why,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        if let Some(session) = self.session_of_dir(id) {
            self.note_write(session, stat, now, why);
            // A read asks for a look of the engine's own: it must not ask for a read in turn.
            let is_news = why != Why::Again && self.rules.layout.reads_inode();
            if is_news && self.index.session_at(id) == Some(session) {
                self.read_session(session, out);
            }
        }
        if why != Why::Hint {
            return None;
        }
        out.extend(self.index.slots_below(id).into_iter().map(Effect::Forget));
        self.index.path(id)
    }

    pub(super) fn note_write(&mut self, session: SessionId, stat: &Stat, now: Now, why: Why) {
        let wall: UnixNanos = now.wall.into();
        let at = if why == Why::Hint {
            wall
        } else {
            stat.written(wall)
        };
        let is_first = self.index.note_written(session, at);
        self.life_touched(session, is_first);
        if why == Why::Hint {
            self.deciding.forget_immovable(Some(session));
        }
        self.places
            .note_time(session, stat.mtime.max(stat.ctime), now);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one look's context, passed on unchanged"
    )]
    fn place_inside(
        &mut self,
        dir: DirId,
        name: &[u8],
        found: &Found<'_>,
        owner: Owner,
        now: Now,
        why: Why,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        let session = self.index.session_of(owner);
        let stat = found.stat();
        if let Some(session) = session {
            self.note_write(session, stat, now, why);
        }
        let new = match found {
            Found::File(_) | Found::Dir(_) | Found::Other(_) => {
                self.put(dir, name, stat, owner, out)
            }
            Found::Foreign(_) => {
                self.index.put_other(dir, name, stat.id.ino);
                self.note_foreign(dir, name, session);
                None
            }
        };
        self.document_seen(dir, name, stat, why, out);
        new
    }

    /// Puts what is there under its name. Returns a directory that is to be listed.
    fn put(
        &mut self,
        dir: DirId,
        name: &[u8],
        stat: &Stat,
        owner: Owner,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        match stat.kind {
            FileKind::File => {
                self.index.put_file(dir, name, stat);
                None
            }
            FileKind::Dir => self.put_dir(dir, name, stat, DirOwner::In(owner), out),
            FileKind::Symlink | FileKind::Other => {
                self.index.put_other(dir, name, stat.id.ino);
                self.note_symlink(dir, name, stat);
                None
            }
        }
    }

    fn put_dir(
        &mut self,
        parent: DirId,
        name: &[u8],
        stat: &Stat,
        owner: DirOwner,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        if !self.make_room(parent, name, stat, out) {
            return None;
        }
        let id = self.index.put_dir(parent, name, stat, owner);
        self.index.path(id)
    }

    /// Makes a name free for a directory. A directory has one name: where it was before, it is
    /// not any more. `false`: that took the parent with it, which was moved out of the
    /// directory that now lies in it; the hints of that move are still to come.
    fn make_room(
        &mut self,
        parent: DirId,
        name: &[u8],
        stat: &Stat,
        out: &mut Vec<Effect>,
    ) -> bool {
        if let Some(old) = self.index.dir_of_ino(stat.id.ino) {
            let path = self.index.path(old);
            if let Some(above) = self.index.parent(old) {
                let old_name: Box<[u8]> = self.index.dir_name(old).into();
                self.note_recent(above, &old_name, out);
            }
            let dropped = self.index.drop_dir(old.slot);
            self.places.forget_below(|| path);
            self.give_up(dropped, out);
        }
        self.index.forget(parent, name);
        self.index.has_dir(parent)
    }

    fn place_in_container(
        &mut self,
        dir: DirId,
        name: &[u8],
        found: &Found<'_>,
        now: Now,
        why: Why,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        // What no path can hold comes from a broken file system only.
        if !is_name(name) {
            return None;
        }
        let stat = found.stat();
        if stat.kind == FileKind::File && self.is_on_its_way(name) {
            return None;
        }
        if self.rules.layout.is_of_files() && !matches!(found, Found::File(_)) {
            // A file of a session was here, and is not any more.
            let owner = self.index.owner_of(dir, name);
            self.index.forget(dir, name);
            self.file_gone(owner, self.index.name_hash(dir, name), out);
            if let Some(path) = self.path_in(dir, name) {
                self.note_unusable(&path);
            }
            self.metadata_replaced(dir, name, out);
        }
        if matches!(found, Found::Foreign(_)) {
            self.index.put_other(dir, name, stat.id.ino);
            self.note_foreign(dir, name, None);
            return None;
        }
        let kind = stat.kind;
        let is_catalog = self.rules.layout.kind() == Kind::Catalog;
        let claimant = is_catalog.then(|| self.index.owner_of(dir, name));
        let claimant = claimant.and_then(|owner| self.index.session_of(owner));
        let listed = self.in_listing.as_ref().filter(|listed| listed.dir == dir);
        let layout = &self.rules.layout;
        let within = match listed {
            Some(listed) => listed.within,
            None => layout.within(self.index.path(dir)?.as_bytes()),
        };
        let new = match layout.role_within(within, name, kind) {
            Role::Own => None,
            // What a catalogue claims is judged by the claim, whatever lies there now.
            _ if claimant.is_some() => self.place_blob(dir, name, stat, out),
            Role::Container => self.put_dir(dir, name, stat, DirOwner::Container, out),
            Role::Session if kind == FileKind::Dir => {
                let path = self.path_in(dir, name)?;
                if !self.make_room(dir, name, stat, out) {
                    return None;
                }
                let (session, _) = self.index.begin_tree(dir, name, stat);
                self.note_write(session, stat, now, why);
                self.read_first(session, out);
                Some(path)
            }
            Role::Session if kind == FileKind::File => {
                let path = self.path_in(dir, name)?;
                self.place_file(dir, name, &path, stat, now, why, out);
                None
            }
            Role::Catalogue if kind == FileKind::File => {
                self.index.set_owner(dir, name, Owner::Catalogue);
                self.index.put_file(dir, name, stat);
                self.catalogue_seen(stat, out);
                None
            }
            Role::Blob => self.place_blob(dir, name, stat, out),
            Role::Session | Role::Catalogue | Role::Unowned => {
                self.place_unowned(dir, name, stat, out)
            }
        };
        if let Some(session) = claimant {
            self.note_write(session, stat, now, why);
            self.restand(session);
        }
        new
    }

    /// A name in the form of a blob: claimed by a session, or an orphan.
    fn place_blob(
        &mut self,
        dir: DirId,
        name: &[u8],
        stat: &Stat,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        let is_claimed = matches!(self.index.owner_of(dir, name), Owner::Session(_));
        if stat.kind != FileKind::File {
            if is_claimed {
                self.note_place(AnomalyKind::BlobUnusable, dir, name, Bytes::ZERO);
            }
            return self.place_unowned(dir, name, stat, out);
        }
        if !is_claimed {
            self.index.set_owner(dir, name, Owner::Orphan);
            self.note_place(AnomalyKind::OrphanBlob, dir, name, Bytes(stat.apparent));
        }
        self.index.put_file(dir, name, stat);
        None
    }

    fn place_unowned(
        &mut self,
        dir: DirId,
        name: &[u8],
        stat: &Stat,
        out: &mut Vec<Effect>,
    ) -> Option<RelPath> {
        let new = self.put(dir, name, stat, Owner::Unowned, out);
        let is_text = name.is_ascii() || std::str::from_utf8(name).is_ok();
        if is_text && !self.places.has_room_for_unowned() {
            // The index counts it: nobody needs its path.
            return new;
        }
        let Some(path) = self.path_in(dir, name) else {
            return new;
        };
        // Nothing else counts; of a directory it is asked what is in it.
        let bytes = match stat.kind {
            FileKind::File => Bytes(stat.apparent),
            FileKind::Dir | FileKind::Symlink | FileKind::Other => Bytes::ZERO,
        };
        if !is_text {
            self.places
                .insert(AnomalyKind::NotUtf8, path.clone(), bytes);
        }
        // It counts as unowned bytes all the same: a name must not hide any.
        let is_lock =
            stat.kind != FileKind::Dir && self.rules.layout.is_foreign_lock(path.as_bytes());
        // It is gone before anybody can look for it.
        let is_cookie =
            stat.kind == FileKind::File && stat.apparent == 0 && is_cookie(name, BESIDE);
        if !is_lock && !is_cookie {
            self.places.insert_unowned(path, bytes);
        }
        new
    }

    fn note_place(&mut self, kind: AnomalyKind, dir: DirId, name: &[u8], bytes: Bytes) {
        if let Some(path) = self.path_in(dir, name) {
            self.places.insert(kind, path, bytes);
        }
    }

    fn note_symlink(&mut self, dir: DirId, name: &[u8], stat: &Stat) {
        if stat.kind == FileKind::Symlink {
            self.note_place(AnomalyKind::Symlink, dir, name, Bytes::ZERO);
        }
    }

    /// A mount inside a root is never crossed; a session with one in it stays.
    pub(super) fn note_foreign(&mut self, dir: DirId, name: &[u8], session: Option<SessionId>) {
        self.note_place(AnomalyKind::ForeignMount, dir, name, Bytes::ZERO);
        self.obstruct(session, AnomalyKind::ForeignMount);
    }

    /// Something in a session cannot be judged: no rule takes it until a scan finds it gone.
    pub(super) fn obstruct(&mut self, session: Option<SessionId>, kind: AnomalyKind) {
        if let Some(session) = session {
            if let Some(session) = self.index.session_mut(session) {
                session.obstacles.insert(kind);
            }
            self.restand(session);
        }
    }

    /// The session that facts are read for from this name.
    pub(super) fn document_of(&self, dir: DirId, name: &[u8]) -> Option<SessionId> {
        let layout = &self.rules.layout;
        match layout.kind() {
            Kind::Catalog => None,
            // Their names are the same in every session.
            Kind::Directories if !layout.is_document(b"", name) => None,
            Kind::Directories => self.index.session_at(dir),
            Kind::Files | Kind::Sidecar => {
                let session = self.session_at_name(dir, name)?;
                let key = self.index.key(session);
                layout.is_document(&key, name).then_some(session)
            }
        }
    }
}
