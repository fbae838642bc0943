//! When scans begin and what they mean: one full scan at a time, with back-off after losses.

use super::parts::Parts;
use super::{Effect, Engine};
use crate::model::bytes::Bytes;
use crate::model::fact::{Fact, ScanCause};
use crate::model::listing::{ScanId, ScanOrder};
use crate::model::path::RelPath;
use crate::model::place::{DirId, Look, Why};
use crate::model::time::{Now, Tick};
use std::collections::HashMap;
use std::time::Duration;

/// Pauses before recovery scans: none for the first three, then doubling.
const FREE_RECOVERIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So long without a loss, and the pauses begin anew.
const CALM: Duration = Duration::from_secs(10);
/// Where directories have no watch, scans take one part in this many of the time, so that a
/// big root does not keep the host busy; but see the bounds.
const POLL_SHARE: u32 = 20;
const POLL_SOONEST: Duration = Duration::from_secs(1);
const POLL_LATEST: Duration = Duration::from_secs(30);
/// Most differences kept for the end of a scan; further ones are looked at at once.
const MAX_DISPUTED: usize = 1 << 16;

/// The full scan under way.
#[derive(Debug)]
struct Full {
    id: ScanId,
    cause: ScanCause,
    begun: Tick,
    /// Everything was listed; its reads go on up to this number.
    reads_until: Option<u64>,
    drift: u64,
    disputed: Vec<(DirId, Box<[u8]>)>,
    absent: Vec<(DirId, u64)>,
}

/// The last full scan that finished.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Last {
    pub(super) begun: Option<Tick>,
    pub(super) ended: Option<Tick>,
    pub(super) duration: Duration,
    pub(super) drift: Bytes,
}

#[derive(Debug)]
pub(super) struct Scanning {
    next_id: u64,
    full: Option<Full>,
    pub(super) parts: Parts,
    wanted: Option<ScanCause>,
    not_before: Tick,
    n_recoveries: u32,
    /// When something was last lost.
    last_loss: Option<Tick>,
    /// Something was lost since the last turn.
    lost_now: bool,
    /// Something was lost that the pause before the next recovery does not count yet.
    pause_due: bool,
    /// Something was lost since the last full scan began.
    loss_unseen: bool,
    suspect: bool,
    last: Last,
    /// Looks asked for by scans and not answered yet.
    pub(super) looks_left: usize,
    /// A scan ended in this turn: its totals may decide even when hints were lost meanwhile,
    /// or a root whose hints are lost all the time would never be pruned.
    pub(super) fresh_totals: bool,
    pub(super) n_anomalies: u64,
    /// Nobody gives hints.
    pub(super) polls: bool,
    /// It was told that directories have no watch.
    told_unwatched: bool,
    /// Since when there are directories without a watch.
    unwatched_since: Option<Tick>,
}

impl Default for Scanning {
    fn default() -> Self {
        Self {
            next_id: 0,
            full: None,
            parts: Parts::default(),
            wanted: Some(ScanCause::Start),
            not_before: Tick::default(),
            n_recoveries: 0,
            last_loss: None,
            lost_now: false,
            pause_due: false,
            loss_unseen: false,
            suspect: false,
            last: Last::default(),
            looks_left: 0,
            fresh_totals: false,
            n_anomalies: 0,
            polls: false,
            told_unwatched: false,
            unwatched_since: None,
        }
    }
}

impl Scanning {
    pub(super) fn want(&mut self, cause: ScanCause) {
        let is_wanted = match self.wanted {
            Some(ScanCause::Start | ScanCause::Loss) => true,
            Some(ScanCause::Asked) => cause == ScanCause::Guard,
            Some(ScanCause::Guard | ScanCause::Timer) | None => false,
        };
        if !is_wanted {
            self.wanted = Some(cause);
        }
        if cause == ScanCause::Asked {
            self.not_before = Tick::default();
        }
    }

    /// Hints were lost: whether that is news.
    pub(super) fn lose(&mut self) -> bool {
        let news = !self.suspect;
        self.suspect = true;
        self.loss_unseen = true;
        self.recover(ScanCause::Loss);
        news
    }

    /// Wants a scan, after a pause when there were many of late. Pauses do not add up: the
    /// scan that is wanted already begins when it was to begin.
    pub(super) fn recover(&mut self, cause: ScanCause) {
        self.lost_now = true;
        let waits = match self.wanted {
            Some(ScanCause::Start | ScanCause::Loss) => true,
            Some(ScanCause::Asked) => cause == ScanCause::Guard,
            Some(ScanCause::Guard | ScanCause::Timer) | None => false,
        };
        if !waits {
            self.pause_due |= self.wanted != Some(cause);
            self.wanted = Some(cause);
        }
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    pub(super) fn first_done(&self) -> bool {
        self.last.ended.is_some()
    }

    /// Whether no scan is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.full.is_none() && self.parts.are_none()
    }

    /// Whether a full scan is under way.
    pub(super) fn is_full(&self) -> bool {
        self.full.is_some()
    }

    pub(super) fn last(&self) -> Last {
        self.last
    }

    /// The number of the scan that was begun last.
    pub(super) fn last_id(&self) -> u64 {
        self.next_id
    }

    /// The walk of a single directory that begins now.
    pub(super) fn next_part(&mut self) -> Option<(ScanId, RelPath)> {
        let at = self.parts.next()?;
        self.next_id += 1;
        let id = ScanId(self.next_id);
        self.parts.begun(id);
        Some((id, at))
    }

    /// Whether differences found by this scan are settled at its end: in a rescan of a
    /// root whose hints are complete, most are hints still on their way.
    pub(super) fn defers(&self, id: ScanId) -> bool {
        self.first_done() && !self.suspect && self.full.as_ref().is_some_and(|f| f.id == id)
    }

    pub(super) fn dispute(&mut self, dir: DirId, name: &[u8]) -> bool {
        match &mut self.full {
            Some(full) if full.disputed.len() < MAX_DISPUTED => {
                full.disputed.push((dir, name.into()));
                true
            }
            _ => false,
        }
    }

    pub(super) fn defer_absent(&mut self, dir: DirId, hash: u64) -> bool {
        match &mut self.full {
            Some(full) if full.absent.len() < MAX_DISPUTED => {
                full.absent.push((dir, hash));
                true
            }
            _ => false,
        }
    }

    pub(super) fn add_drift(&mut self, bytes: u64) {
        if let Some(full) = self.full.as_mut().filter(|f| f.cause != ScanCause::Start) {
            full.drift = full.drift.saturating_add(bytes);
        }
    }

    /// When the next full scan begins by itself.
    ///
    /// Where directories have no watch the pace counts from when that began: most of them are
    /// gone, or watched again, as soon as they were looked at.
    fn due(&self, interval: Duration) -> Option<Tick> {
        if self.full.is_some() {
            return None;
        }
        if self.wanted.is_some() {
            return Some(self.not_before);
        }
        let ended = self.last.ended?;
        let unheard = match self.unwatched_since {
            Some(since) => Some(ended.max(since)),
            None => self.polls.then_some(ended),
        };
        let by_pace = unheard.map(|from| {
            let pace = self.last.duration.saturating_mul(POLL_SHARE);
            from.after(pace.clamp(POLL_SOONEST, POLL_LATEST))
        });
        let by_interval = ended.after(interval);
        Some(by_pace.map_or(by_interval, |at| at.min(by_interval)))
    }

    fn note_unwatched(&mut self, now: Tick, has_unwatched: bool) {
        self.unwatched_since = has_unwatched.then(|| self.unwatched_since.unwrap_or(now));
    }

    /// Sets when the recovery that is wanted may begin.
    fn pause(&mut self, now: Tick) {
        self.n_recoveries += 1;
        let wait = match self.n_recoveries.checked_sub(FREE_RECOVERIES + 1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_PAUSE
                .saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX))
                .min(LONGEST_PAUSE),
        };
        self.not_before = now.after(wait);
    }

    /// Something was lost: after a calm the pauses begin anew. What is lost while a scan runs
    /// or is waited for keeps the calm away just the same.
    fn note_loss(&mut self, now: Tick) {
        if self.last_loss.is_none_or(|at| now.since(at) > CALM) {
            self.n_recoveries = 0;
        }
        self.last_loss = Some(now);
    }
}

impl Engine {
    pub(super) fn begin_due_scan(&mut self, now: Now, out: &mut Vec<Effect>) {
        let has_unwatched = self.index.n_unwatched() > 0;
        let scanning = &mut self.scanning;
        scanning.note_unwatched(now.tick, has_unwatched);
        if std::mem::take(&mut scanning.lost_now) {
            scanning.note_loss(now.tick);
        }
        if scanning.full.is_some() || self.stopped {
            return;
        }
        if std::mem::take(&mut scanning.pause_due) {
            scanning.pause(now.tick);
        }
        if scanning.wanted == Some(ScanCause::Start) && !self.catalogue_was_read(out) {
            return;
        }
        if self.scan_due().is_none_or(|at| at > now.tick) {
            return;
        }
        let cause = self.scanning.wanted.take().unwrap_or(ScanCause::Timer);
        if cause == ScanCause::Loss {
            for path in self.hottest_sessions() {
                self.scan_below(path, out);
                self.begin_parts(out);
            }
        }
        let scanning = &mut self.scanning;
        scanning.next_id += 1;
        let id = ScanId(scanning.next_id);
        // A loss from now on is not healed by this scan.
        scanning.loss_unseen = false;
        scanning.full = Some(Full {
            id,
            cause,
            begun: now.tick,
            reads_until: None,
            drift: 0,
            disputed: Vec::new(),
            absent: Vec::new(),
        });
        self.places.forget_future();
        out.push(Effect::Tell(Fact::CycleStart { cause }));
        out.push(Effect::Scan(ScanOrder {
            id,
            at: RelPath::root(),
            // Later the sessions are known, and read again only where they changed.
            reads: cause == ScanCause::Start,
        }));
    }

    /// When the next full scan is due by itself; the first one in a catalogue's root is when
    /// the catalogue was read.
    pub(super) fn scan_due(&self) -> Option<Tick> {
        let waits = self.scanning.wanted == Some(ScanCause::Start) && self.awaits_catalogue();
        if self.stopped || waits {
            return None;
        }
        self.scanning.due(self.rules.rescan_interval)
    }

    /// A walk sent everything it found.
    pub(super) fn scan_ended(&mut self, id: ScanId, out: &mut Vec<Effect>) {
        if self.scanning.parts.ended(id) {
            self.forget_recent();
            return;
        }
        let Some(full) = self.scanning.full.as_mut().filter(|f| f.id == id) else {
            return;
        };
        full.reads_until = Some(self.reading.last_seq());
        let absent = std::mem::take(&mut full.absent);
        let disputed = std::mem::take(&mut full.disputed);
        if !absent.is_empty() {
            self.read_unreadable(out);
        }
        for (dir, hash) in absent {
            self.absent(dir, hash, out);
            if let Some(session) = self.index.session_at(dir) {
                self.read_if_unknown(session, out);
            }
        }
        for (dir, name) in disputed {
            self.look_for_scan(dir, &name, out);
        }
    }

    /// Asks for a look on behalf of a scan; every such look is answered.
    pub(super) fn look_for_scan(&mut self, dir: DirId, name: &[u8], out: &mut Vec<Effect>) {
        self.scanning.looks_left += 1;
        out.push(Effect::Look(Look::new(dir, name, Why::Scan)));
    }

    fn forget_recent(&mut self) {
        if self.scanning.is_quiet() {
            self.recent = HashMap::new();
            self.disagreeing.clear();
            self.ended_early.clear();
            // Their listings would have come: the directories were gone.
            self.forget_begun();
        }
    }

    /// Finishes a full scan when its reads are in.
    pub(super) fn finish_scan(&mut self, now: Now, out: &mut Vec<Effect>) {
        let done = self
            .scanning
            .full
            .as_ref()
            .and_then(|full| full.reads_until)
            .is_some_and(|until| self.reading.is_done(until));
        if !done || self.scanning.looks_left > 0 {
            return;
        }
        let Some(full) = self.scanning.full.take() else {
            return;
        };
        self.forget_recent();
        self.index.settle_links();
        if self.keeps_guard() {
            // Not before: a first scan is quicker without, and what moves meanwhile is hinted.
            self.index.keep_homes();
        }
        self.clock.settle();
        let scanning = &mut self.scanning;
        scanning.suspect = scanning.loss_unseen;
        scanning.fresh_totals = true;
        let duration = now.tick.since(full.begun);
        scanning.last = Last {
            begun: Some(full.begun),
            ended: Some(now.tick),
            duration,
            drift: Bytes(full.drift),
        };
        self.guard.measuring.scan_ended();
        self.deciding.forget_back_off();
        self.living.begin_cycle(self.rules.lifecycle.batch);
        self.publish_anomalies(now, out);
        let figures = self.figures();
        out.push(Effect::Tell(Fact::ScanDone {
            cause: full.cause,
            duration,
            bytes: figures.bytes,
            n_files: figures.n_files,
            n_sessions: figures.n_sessions,
            n_anomalies: figures.n_anomalies,
            drift: Bytes(full.drift),
        }));
        self.tell_unwatched(out);
        self.tell_check(now, out);
        let next_wakeup = self.scan_due().map(|at| now.wall + at.since(now.tick));
        out.push(Effect::Tell(Fact::CycleEnd { next_wakeup }));
    }

    fn tell_unwatched(&mut self, out: &mut Vec<Effect>) {
        let n_unwatched = self.index.n_unwatched();
        let told = std::mem::replace(&mut self.scanning.told_unwatched, n_unwatched > 0);
        if n_unwatched > 0 && !told {
            out.push(Effect::Tell(Fact::WatchDegraded { n_unwatched }));
        }
    }

    pub(super) fn both_tallies(&self) -> (u128, u128) {
        let totals = self.index.totals();
        (totals.counted.apparent, totals.unowned.apparent)
    }

    /// What a scan changed in the totals is drift.
    pub(super) fn note_drift(&mut self, before: (u128, u128)) {
        let after = self.both_tallies();
        let drift = after
            .0
            .abs_diff(before.0)
            .saturating_add(after.1.abs_diff(before.1));
        if drift > 0 {
            self.scanning
                .add_drift(u64::try_from(drift).unwrap_or(u64::MAX));
        }
    }
}
