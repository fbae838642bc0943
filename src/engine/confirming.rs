//! Whether a limit that seems to be passed really was.
//!
//! A total is a sum of looks at different moments: room that was made and used again may be in
//! it twice. So before anything goes, all that happened up to then is heard and looked at, which
//! is one *try*. What was not hinted during it did not change, and its bytes were there when the
//! try began. Of what was hinted, the rest is *unsure*:
//!
//! - what was found to have grown is newer than that moment, and may be in the place of
//!   something that is gone by now: the growth does not count;
//! - what has the size it had, or less, or is another file than before, may have been empty at
//!   that moment: nothing of it counts. A file that only grew was as long as it was known to be.
//!
//! Where the limit is passed without what is unsure, it was passed. Where only what is unsure
//! makes it so, there is another try: what is not touched meanwhile is certain then. Writers that
//! touch the same things again and again could go on like that for ever, so after [`MIN_TRIES`]
//! and [`BELIEVED_AFTER`] it is believed without them being quiet: each try found it passed.

use super::burst::{Burst, Phase};
use super::{Effect, Engine, Input};
use crate::index::{Known, Owner};
use crate::model::bytes::{Bytes, Tally};
use crate::model::place::{DirId, Why};
use crate::model::time::{Now, Tick};
use std::collections::HashMap;
use std::time::Duration;

/// So many tries find a limit passed before it is believed of things that never rest ...
const MIN_TRIES: u32 = 4;
/// ... and for so long.
const BELIEVED_AFTER: Duration = Duration::from_millis(2);

/// What one try cannot be sure of.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    grown: Bytes,
    grown_sessions: u64,
    /// Files whose size says nothing, by directory and name.
    doubted: HashMap<(u32, u64), Bytes>,
    doubted_bytes: Bytes,
    n_tries: u32,
    since: Tick,
}

impl Unsure {
    /// Bytes that do not count yet.
    pub(super) fn bytes(&self) -> Bytes {
        self.grown.saturating_add(self.doubted_bytes)
    }

    /// Sessions that do not count yet.
    pub(super) fn n_sessions(&self) -> u64 {
        self.grown_sessions
    }

    /// All counts: nothing is being confirmed any more.
    pub(super) fn clear(&mut self) {
        self.next_try();
        self.n_tries = 0;
    }

    fn next_try(&mut self) {
        (self.grown, self.grown_sessions) = (Bytes::ZERO, 0);
        self.doubted.clear();
        self.doubted_bytes = Bytes::ZERO;
        self.n_tries += 1;
    }

    fn doubt(&mut self, at: (u32, u64), bytes: Bytes) {
        let before = self.doubted.insert(at, bytes).unwrap_or(Bytes::ZERO);
        let others = self.doubted_bytes.saturating_sub(before);
        self.doubted_bytes = others.saturating_add(bytes);
    }
}

/// What there was before an input was taken.
#[derive(Debug)]
pub(super) struct Before {
    bytes: Bytes,
    n_sessions: u64,
    hinted: Option<Hinted>,
}

/// A name that a hint led to, and what was known of it.
#[derive(Debug)]
struct Hinted {
    dir: DirId,
    name: Box<[u8]>,
    was: Option<File>,
}

#[derive(Debug, Clone, Copy)]
struct File {
    ino: u64,
    bytes: Bytes,
}

impl Engine {
    /// Begins to ask whether a limit really is passed.
    pub(super) fn confirm_limit(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.deciding.phase = Phase::Confirming;
        self.deciding.unsure.clear();
        self.deciding.unsure.since = now.tick;
        self.deciding.burst = Burst::begun(self.usage().bytes, self.n_losses, self.deciding.since);
        out.push(Effect::Confirm);
    }

    /// All that happened before the try began has been heard and looked at.
    pub(super) fn limit_confirmed(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.deciding.phase != Phase::Confirming {
            return;
        }
        let is_free = !self.stopped && !self.deciding.held && !self.catalogue_in_doubt();
        // Of what was heard meanwhile some may be older.
        let may_go_on = is_free && !self.awaits_first_reads(now);
        if may_go_on && self.is_over(now) {
            self.ask_for_lock(now, out);
        } else if may_go_on && self.is_over_with_doubted(now) {
            let unsure = &mut self.deciding.unsure;
            let waited = now.tick.since(unsure.since);
            if unsure.n_tries >= MIN_TRIES && waited >= BELIEVED_AFTER {
                unsure.clear();
                return self.ask_for_lock(now, out);
            }
            unsure.next_try();
            out.push(Effect::Confirm);
        } else {
            self.deciding.phase = Phase::Idle;
            self.deciding.unsure.clear();
        }
    }

    fn is_over_with_doubted(&mut self, now: Now) -> bool {
        let doubted = std::mem::take(&mut self.deciding.unsure.doubted_bytes);
        let is_over = self.is_over(now);
        self.deciding.unsure.doubted_bytes = doubted;
        is_over
    }

    /// `None`: nothing is being confirmed.
    pub(super) fn before_confirming(&self, input: &Input) -> Option<Before> {
        if self.deciding.phase != Phase::Confirming {
            return None;
        }
        let hinted = match input {
            Input::Looked(look, _) if look.why == Why::Hint => Some(look),
            _ => None,
        };
        let hinted = hinted.filter(|look| {
            self.index.has_dir(look.dir)
                && self.index.owner_of(look.dir, look.name()) != Owner::Unowned
        });
        Some(Before {
            bytes: self.counted_bytes(),
            n_sessions: self.index.totals().n_sessions,
            hinted: hinted.map(|look| Hinted {
                dir: look.dir,
                name: look.name().into(),
                was: self.file(look.dir, look.name()),
            }),
        })
    }

    /// Notes what an input brought while a limit is being confirmed.
    pub(super) fn note_unsure(&mut self, before: Before) {
        let n_sessions = self.index.totals().n_sessions;
        let grown = self.counted_bytes().saturating_sub(before.bytes);
        let unsure = &mut self.deciding.unsure;
        unsure.grown = unsure.grown.saturating_add(grown);
        unsure.grown_sessions += n_sessions.saturating_sub(before.n_sessions);
        let Some(Hinted { dir, name, was }) = before.hinted else {
            return;
        };
        let is = self.index.has_dir(dir).then(|| self.file(dir, &name));
        if let (Some(was), Some(Some(is))) = (was, is)
            && (was.ino != is.ino || was.bytes >= is.bytes)
        {
            let at = (dir.slot, self.index.name_hash(dir, &name));
            self.deciding.unsure.doubt(at, is.bytes);
        }
    }

    fn file(&self, dir: DirId, name: &[u8]) -> Option<File> {
        match self.index.find(dir, name)? {
            Known::File {
                ino,
                apparent,
                allocated,
                ..
            } => {
                let bytes = Tally::file(apparent, allocated).bytes(self.rules.limits.measure);
                Some(File { ino, bytes })
            }
            Known::Dir { .. } | Known::Other { .. } => None,
        }
    }
}
