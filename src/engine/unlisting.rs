//! Entries that are to leave the catalogue, and those that left it.
//!
//! The owner may have the catalogue open, or write back what was taken out: then it is tried
//! again, with longer and longer pauses.

use super::{Effect, Engine};
use crate::model::place::{Look, Why};
use crate::model::report::Unlist;
use crate::model::session::{Key, SessionId};
use crate::model::time::{Now, Tick};
use std::collections::HashSet;
use std::time::Duration;

/// Ids taken out of a catalogue that are remembered, should the owner write them back.
const MAX_REMOVED: usize = 1 << 16;
/// Pauses between tries to take entries out of a catalogue nobody lets go of.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Unlisting {
    /// Taken out before.
    removed: HashSet<Key>,
    /// Being taken out just now.
    under_way: HashSet<Key>,
    /// To be taken out next.
    waiting: HashSet<Key>,
    /// When to try again; `None`: nothing stands in the way.
    at: Option<Tick>,
    pause: Duration,
    /// Since the last full scan somebody had the catalogue open when it was to be edited, or
    /// saved it from an old copy.
    contended: bool,
    /// Listed sessions of which nothing is on the disk. No count is passed by them: others would
    /// go in the place of what is gone already, for as long as its entry can't be taken out.
    ghosts: HashSet<SessionId>,
}

impl Unlisting {
    pub(super) fn new(removed: impl IntoIterator<Item = Key>) -> Self {
        Self {
            removed: removed.into_iter().take(MAX_REMOVED).collect(),
            under_way: HashSet::new(),
            waiting: HashSet::new(),
            at: None,
            pause: FIRST_PAUSE,
            contended: false,
            ghosts: HashSet::new(),
        }
    }

    pub(super) fn note_ghost(&mut self, session: SessionId, is_ghost: bool) {
        if is_ghost {
            self.ghosts.insert(session);
        } else {
            self.ghosts.remove(&session);
        }
    }

    pub(super) fn n_ghosts(&self) -> u64 {
        self.ghosts.len() as u64
    }

    pub(super) fn is_contended(&self) -> bool {
        self.contended
    }

    /// It was told; what goes on is noted again.
    pub(super) fn forget_contention(&mut self) {
        self.contended = self.at.is_some();
    }

    pub(super) fn due(&self) -> Option<Tick> {
        self.at
    }

    /// The owner has just been at the catalogue: it may be free soon.
    pub(super) fn try_soon(&mut self, now: Tick) {
        self.pause = FIRST_PAUSE;
        let soon = now.after(FIRST_PAUSE);
        self.at = self.at.map(|at| at.min(soon));
    }

    /// What is not listed any more need not be taken out.
    pub(super) fn keep(&mut self, listed: &HashSet<Key>) {
        self.waiting.retain(|key| listed.contains(key));
    }

    /// Whether an entry goes in a moment.
    pub(super) fn is_leaving(&self, key: &Key) -> bool {
        self.under_way.contains(key) || (self.at.is_none() && self.waiting.contains(key))
    }

    /// Entries came back that were taken out.
    pub(super) fn note_written_back(&mut self) {
        self.contended = true;
    }

    /// The owner made the session anew.
    pub(super) fn is_back(&mut self, key: &Key) {
        self.removed.remove(key);
    }

    pub(super) fn was_removed(&self, key: &Key) -> bool {
        self.removed.contains(key)
    }
}

impl Engine {
    /// Tries again to take entries out of the catalogue.
    pub(super) fn retry_unlisting(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.unlisting.at.is_some_and(|at| at <= now.tick) {
            self.unlisting.at = None;
            self.begin_unlisting(out);
        }
    }

    /// Asks for entries to be taken out of the catalogue.
    pub(super) fn unlist(&mut self, keys: Vec<Key>, out: &mut Vec<Effect>) {
        if !self.rules.enforce {
            return;
        }
        for key in keys {
            if self.unlisting.removed.len() < MAX_REMOVED {
                self.unlisting.removed.insert(key.clone());
            }
            if !self.unlisting.under_way.contains(&key) {
                self.unlisting.waiting.insert(key);
            }
        }
        self.begin_unlisting(out);
    }

    /// One edit at a time, with all that waits: two would be in each other's way, and while
    /// somebody has the catalogue open more of them gain nothing.
    fn begin_unlisting(&mut self, out: &mut Vec<Effect>) {
        let unlisting = &mut self.unlisting;
        let waits = unlisting.at.is_some() || !unlisting.under_way.is_empty();
        if waits || unlisting.waiting.is_empty() || !self.rules.enforce {
            return;
        }
        unlisting.under_way = std::mem::take(&mut unlisting.waiting);
        let mut keys: Vec<Key> = unlisting.under_way.iter().cloned().collect();
        keys.sort_unstable();
        out.push(Effect::Unlist(keys));
    }

    /// The end of a catalogue edit.
    pub(super) fn unlisted_entries(
        &mut self,
        now: Now,
        keys: &[Key],
        result: &Unlist,
        out: &mut Vec<Effect>,
    ) {
        for key in keys {
            self.unlisting.under_way.remove(key);
        }
        if *result == Unlist::Done {
            self.unlisting.pause = FIRST_PAUSE;
            self.begin_unlisting(out);
        } else {
            self.unlisting.contended |= matches!(result, Unlist::NoLease(_));
            self.unlisting.waiting.extend(keys.iter().cloned());
            self.unlisting.at = Some(now.tick.after(self.unlisting.pause));
            self.unlisting.pause = self.unlisting.pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        self.deciding.forget_back_off();
        // Its size counts: the disk is asked, since a hint may be late or nobody may watch.
        if let Some(name) = self.rules.layout.catalogue() {
            let look = Look::new(self.index.root(), name, Why::Again);
            out.push(Effect::Look(look));
        }
        self.read_catalogue(out);
    }

    /// Entries that are being taken out of the catalogue.
    pub(super) fn n_unlisting(&self) -> usize {
        let waiting = match self.unlisting.at {
            None => self.unlisting.waiting.len(),
            Some(_) => 0,
        };
        self.unlisting.under_way.len() + waiting
    }

    /// Whether catalogue edits are under way.
    pub fn is_unlisting(&self) -> bool {
        !self.unlisting.under_way.is_empty()
    }
}
