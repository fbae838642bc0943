//! What the rules see: each session's standing, and the root's figures.

use super::{Engine, Input};
use crate::index::{Known, Session, Standing};
use crate::layout::spec::Kind;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::{Bytes, Tally};
use crate::model::place::Why;
use crate::model::plan::Blocker;
use crate::model::session::{SessionId, Verdict};
use crate::model::time::{Now, Tick, UnixNanos};
use crate::policy::limits::{Headroom, Limits};
use crate::policy::{Hold, Usage};
use std::time::Duration;

/// So many sessions can be made in a moment.
const AT_ONCE: u64 = 64;

impl Engine {
    pub(super) fn note_peak(&mut self) {
        let used = self
            .counted_bytes()
            .saturating_add(self.deciding.trash_bytes)
            .saturating_add(self.kept.bytes());
        self.deciding.peak = self.deciding.peak.max(used);
    }

    pub(super) fn counted_bytes(&self) -> Bytes {
        self.index.totals().counted.bytes(self.rules.limits.measure)
    }

    /// Whether what this input adds was written just now, and somebody wants to know how fast.
    /// What a full scan finds came at some time.
    pub(super) fn is_growth(&self, input: &Input) -> bool {
        if self.rules.limits.headroom != Headroom::Auto || !self.scanning.first_done() {
            return false;
        }
        match input {
            // What a scan or the guard finds was written at some time.
            Input::Looked(look, _) => !matches!(look.why, Why::Scan | Why::Guard),
            Input::Walked(_) => !self.scanning.is_full(),
            Input::Hint(_)
            | Input::Astray(_)
            | Input::Measured(_)
            | Input::Mounted(_)
            | Input::Strangers(_)
            | Input::Drained
            | Input::Read { .. }
            | Input::Confirmed
            | Input::Lock(_)
            | Input::Report(_)
            | Input::Removed(_)
            | Input::Kept(_)
            | Input::Found(_)
            | Input::Parts { .. }
            | Input::Lived(_)
            | Input::Command(_)
            | Input::Wake => false,
        }
    }

    /// The limits as they are now, with the headroom that was measured.
    pub(super) fn limits(&self) -> Limits {
        self.rules.limits.with_measured(self.pace.headroom())
    }

    /// How much may come before a limit is passed; nothing where that is being dealt with, or
    /// where so few more sessions may come that they could come at once.
    pub fn room(&self) -> Bytes {
        let (limits, usage) = (self.limits(), self.usage());
        let n_more = limits
            .max_count
            .map(|max| max.saturating_sub(usage.n_sessions));
        if self.deciding.is_busy() || n_more.is_some_and(|n_more| n_more < AT_ONCE) {
            return Bytes::ZERO;
        }
        limits
            .threshold()
            .map_or(Bytes(u64::MAX), |most| most.saturating_sub(usage.bytes))
    }

    /// Whether the trash is to be removed by all means; `hurries`: it is so already.
    pub fn trash_presses(&self, hurries: bool) -> bool {
        let limits = &self.rules.limits;
        limits.trash_presses(self.deciding.trash_bytes, hurries)
    }

    /// Says when the hints now coming in were first seen, for the reaction's figure.
    pub fn note_batch(&mut self, since: Tick) {
        self.deciding.since = Some(since);
    }

    /// What no rule may take, and why; time and locks apart.
    fn standing_of(&self, id: SessionId, session: &Session) -> Standing {
        let anomalous = !session.known
            || session.created.is_none()
            || session.verdict != Verdict::Certain
            || !session.obstacles.is_empty()
            || session.anomalies.contains(AnomalyKind::BadId)
            || match self.rules.layout.kind() {
                Kind::Directories | Kind::Files => false,
                Kind::Sidecar => self.index.is_bare_metadata(id) || self.has_unusable_name(id),
                Kind::Catalog => session.n_files() == 0 || self.has_unusable_blob(id),
            };
        if anomalous {
            return Standing::Fixed(Blocker::Anomalous);
        }
        if self.rules.protect.active && session.phase.protects() {
            return Standing::Fixed(Blocker::Active);
        }
        if self.is_pinned(id) {
            return Standing::Fixed(Blocker::Pinned);
        }
        Standing::Removable
    }

    pub(super) fn is_pinned(&self, id: SessionId) -> bool {
        if self.rules.protect.keep.is_empty() && self.pinning.are_none() {
            return false;
        }
        self.keeps(&self.index.key(id))
    }

    /// Whether somebody said that a session of this key stays: by a glob, or by a pin.
    pub fn keeps(&self, key: &[u8]) -> bool {
        let id = self.rules.layout.id(key);
        let keep = &self.rules.protect.keep;
        (!keep.is_empty() && keep.is_match(&*String::from_utf8_lossy(id)))
            || self.pinning.hold(key, id)
    }

    /// Whether an entry is all that there is of a session.
    fn is_ghost(&self, session: &Session) -> bool {
        self.rules.layout.kind() == Kind::Catalog && session.n_files() == 0
    }

    fn has_unusable_blob(&self, id: SessionId) -> bool {
        self.index.blobs(id).iter().any(|blob| {
            matches!(
                self.index.find(self.index.root(), blob),
                Some(Known::Dir { .. } | Known::Other { .. })
            )
        })
    }

    /// Judges a session anew after something about it changed.
    pub(super) fn restand(&mut self, id: SessionId) {
        if let Some(session) = self.index.session(id) {
            let standing = self.standing_of(id, session);
            let is_ghost = self.is_ghost(session);
            self.unlisting.note_ghost(id, is_ghost);
            self.index.set_standing(id, standing);
        }
    }

    pub(super) fn restand_all(&mut self) {
        let all: Vec<SessionId> = self.index.sessions().map(|(id, _)| id).collect();
        all.into_iter().for_each(|id| self.restand(id));
    }

    /// What keeps a session from going for as long as it is what it is.
    pub(super) fn lasting_hold(session: &Session) -> Option<Hold> {
        match session.standing {
            Standing::Fixed(by) => Some(Hold {
                by,
                until: None,
                fixed: true,
            }),
            Standing::Removable => None,
        }
    }

    pub(super) fn hold(&self, id: SessionId, session: &Session, now: Now) -> Option<Hold> {
        if let Some(lasting) = Self::lasting_hold(session) {
            return Some(lasting);
        }
        if let Some(passed) = self.deciding.passed.get(&id).filter(|p| p.until > now.tick) {
            return Some(Hold {
                by: passed.by,
                until: Some(passed.until),
                fixed: false,
            });
        }
        // Its parts go just now, or its metadata changes: the end of that is waited for.
        if self.living.is_at_work_on(id) {
            return Some(Hold {
                by: Blocker::Locked,
                until: None,
                fixed: false,
            });
        }
        let quiet = self.rules.protect.quiet;
        let written = Duration::from_nanos(
            u64::try_from(
                UnixNanos::from(now.wall)
                    .0
                    .saturating_sub(session.written.0),
            )
            .unwrap_or(0),
        );
        (written < quiet).then(|| Hold {
            by: Blocker::Quiet,
            until: Some(now.tick.after(quiet - written)),
            fixed: false,
        })
    }

    pub(super) fn in_group(&self, session: &Session) -> bool {
        self.rules
            .group
            .as_ref()
            .is_none_or(|group| self.index.group(session) == Some(group))
    }

    /// The figures the rules see.
    pub fn usage(&self) -> Usage {
        let measure = self.rules.limits.measure;
        let totals = self.index.totals();
        if self.rules.group.is_some() {
            return self.group_usage();
        }
        let leaving: u64 = self.deciding.leaving.values().map(|bytes| bytes.0).sum();
        let fixed = totals
            .fixed
            .bytes(measure)
            .saturating_add(totals.orphans.bytes(measure));
        let catalogue = self.catalogue_bytes();
        let (entry, unlisted) = self.entry_bytes(catalogue);
        let leaving = Bytes(leaving).saturating_add(unlisted);
        Usage {
            bytes: totals
                .counted
                .bytes(measure)
                .saturating_sub(leaving)
                .saturating_sub(self.deciding.unsure.bytes()),
            fixed: fixed.saturating_add(catalogue.saturating_sub(unlisted)),
            orphans: totals.orphans.bytes(measure),
            entry,
            n_sessions: totals
                .n_sessions
                .saturating_sub(self.unlisting.n_ghosts())
                .saturating_sub(self.deciding.leaving.len() as u64)
                .saturating_sub(self.deciding.unsure.n_sessions()),
            n_fixed: totals.n_fixed.saturating_sub(self.unlisting.n_ghosts()),
        }
    }

    /// The bytes of one entry of the catalogue, about, and of all that are to be taken out of
    /// it: sessions that left need no others to leave for their entries.
    fn entry_bytes(&self, catalogue: Bytes) -> (Bytes, Bytes) {
        let n_dropped = (self.deciding.burst.unlist.len() + self.n_unlisting()) as u64;
        let n_listed = self.index.totals().n_sessions.saturating_add(n_dropped);
        let n_out = n_dropped + self.deciding.leaving.len() as u64;
        let entry = catalogue.0 / n_listed.max(1);
        (Bytes(entry), Bytes(entry.saturating_mul(n_out)))
    }

    pub(super) fn catalogue_bytes(&self) -> Bytes {
        let name = self.rules.layout.catalogue();
        match name.and_then(|name| self.index.find(self.index.root(), name)) {
            Some(Known::File {
                apparent,
                allocated,
                ..
            }) => Tally::file(apparent, allocated).bytes(self.rules.limits.measure),
            _ => Bytes::ZERO,
        }
    }

    fn group_usage(&self) -> Usage {
        let measure = self.rules.limits.measure;
        let mut usage = Usage::default();
        let sessions = self.index.sessions().filter(|(id, session)| {
            self.in_group(session)
                && session.is_owned()
                && !self.is_ghost(session)
                && !self.deciding.leaving.contains_key(id)
        });
        for (_, session) in sessions {
            let bytes = session.bytes(measure);
            usage.bytes = usage.bytes.saturating_add(bytes);
            usage.n_sessions += 1;
            if session.standing != Standing::Removable {
                usage.fixed = usage.fixed.saturating_add(bytes);
                usage.n_fixed += 1;
            }
        }
        usage
    }
}
