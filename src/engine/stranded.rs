//! Files that were set aside beside their place: `.hk-<name>`, in directories with sessions.
//!
//! What this engine has set aside is on its way out and no news to anybody. What a walk meets
//! besides was left by a run that was killed: it counts as unowned like any name that nobody
//! owns, and under the lock it is judged anew and removed (`Effect::FinishAsides`).

use super::{Effect, Engine};
use crate::index::DirOwner;
use crate::model::place::{DirId, Look, Why};
use crate::model::report::{Aside, BESIDE, beside_name};
use crate::model::seen::{FileKind, Stat};
use crate::model::time::Now;
use std::time::Duration;

/// Leftovers handed over at once. What is more waits for the next full scan, which meets it
/// again.
pub(super) const MAX_STRANDED: usize = 4096;
/// Of these so many are judged at a time, and the next ones after a pause: each costs a look, on
/// the thread that answers writes.
const A_TURN: usize = 128;
const PAUSE: Duration = Duration::from_millis(10);

impl Engine {
    /// Victims that lie beside their place now; `true`: these do. Their names count as looked
    /// at: a walk may have seen them before they are unlinked.
    pub(super) fn note_beside(
        &mut self,
        home: Option<DirId>,
        asides: &[Aside],
        out: &mut Vec<Effect>,
    ) -> bool {
        let mut is_beside = false;
        for aside in asides.iter().filter(|aside| aside.beside().is_some()) {
            is_beside = true;
            if let Some(home) = home {
                self.note_recent(home, aside.file_name().as_bytes(), out);
            }
        }
        is_beside
    }

    /// Whether a name is that of a victim on its way out.
    pub(super) fn is_on_its_way(&self, name: &[u8]) -> bool {
        name.starts_with(BESIDE.as_bytes())
            && beside_name(name).is_some_and(|aside| self.deciding.trash.contains_key(&aside.0))
    }

    /// A walk met a name. Where a killed run set it aside it is kept in mind.
    pub(super) fn note_stranded(&mut self, dir: DirId, name: &[u8], stat: &Stat) {
        if !name.starts_with(BESIDE.as_bytes())
            || stat.kind != FileKind::File
            || !self.rules.layout.is_of_files()
            || self.index.dir_owner(dir) != Some(DirOwner::Container)
            || self.is_on_its_way(name)
        {
            return;
        }
        let Some(aside) =
            beside_name(name).filter(|aside| aside.id().is_some_and(|id| id.ino == stat.id.ino))
        else {
            return;
        };
        if let Some(path) = self.index.path(dir)
            && self.stranded.len() < MAX_STRANDED
        {
            self.stranded.insert(Aside::Beside(path, aside));
        }
    }

    /// A file that was set aside beside its place is unlinked, or not.
    pub(super) fn beside_removed(&mut self, aside: &Aside, out: &mut Vec<Effect>) {
        let Aside::Beside(dir, _) = aside else { return };
        let Some(dir) = self.index.dir_at(dir) else {
            return;
        };
        // The disk says what is so: what an earlier run had left counts as unowned until now, and
        // what stays does so from now on.
        let name = aside.file_name();
        out.push(Effect::Look(Look::new(dir, name.as_bytes(), Why::Again)));
    }

    /// A name that was asked for again is not there. Until now its directory was not empty.
    pub(super) fn beside_gone(&self, look: &Look, out: &mut Vec<Effect>) {
        if look.why == Why::Again && beside_name(look.name()).is_some() {
            self.leave_empty(Some(look.dir), out);
        }
    }

    /// What was left, to be finished now that something may be removed here.
    pub(super) fn finish_stranded(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.stranded_rest.is_some_and(|until| until > now.tick)
            || self.stranded.is_empty()
            || !self.rules.enforce
        {
            return;
        }
        let asides: Vec<Aside> = self.stranded.iter().take(A_TURN).cloned().collect();
        for aside in &asides {
            self.stranded.remove(aside);
        }
        let more = !self.stranded.is_empty();
        self.stranded_rest = more.then(|| now.tick.after(PAUSE));
        out.push(Effect::FinishAsides { asides, more });
    }

    /// The next ones are asked for once; where nothing may be decided then, the next input does.
    pub(super) fn end_stranded_rest(&mut self, now: Now) {
        self.stranded_rest = self.stranded_rest.filter(|until| *until > now.tick);
    }
}
