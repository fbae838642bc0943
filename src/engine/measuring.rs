//! The file system's own total against the index's: what grew without a word shows there.
//!
//! The total is the whole file system's, so that other programs on it look the same. Hence:
//! a difference must last, the warm names are looked at first, and each scan that it leads to
//! and that does not explain it doubles the pause before the next, up to the rescans' own.

use super::Engine;
use super::guard::ACTIVE_FOR;
use crate::model::time::{Now, Tick};
use std::time::Duration;

/// Between two measurements while something is going on, and while nothing is.
const SOON: Duration = Duration::from_secs(1);
pub(super) const SLOW: Duration = Duration::from_secs(30);
/// So long a difference must last before it costs a scan: what is unlinked is freed later, and
/// hints and looks are on their way.
pub(super) const LASTING: Duration = Duration::from_secs(30);
/// The first pause after a scan that explained nothing.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// What a file system takes for itself goes unexplained: so much always, so much for each
/// directory, and one part in so many of what changed.
const TOLERANCE: i128 = 4 << 20;
const A_DIRECTORY: i128 = 8 << 10;
const OF_CHANGE: i128 = 32;

/// Both totals at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sums {
    used: i128,
    known: i128,
    n_dirs: i128,
}

impl Sums {
    /// What changed on the file system and not in the index since then; 0: about the same.
    fn unexplained(&self, before: &Self) -> i128 {
        let known = self.known - before.known;
        let tolerance =
            TOLERANCE + A_DIRECTORY * (self.n_dirs - before.n_dirs).abs() + known.abs() / OF_CHANGE;
        let left = (self.used - before.used) - known;
        if left.abs() > tolerance { left } else { 0 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Measuring {
    /// The totals after the last full scan.
    agreed: Option<Sums>,
    /// A full scan ended: the next totals are the new ones. `true`: a scan that a difference
    /// led to.
    rebase: Option<bool>,
    asked: bool,
    /// A scan was wanted for a difference.
    wanted: bool,
    last: Tick,
    /// Since when there is a difference.
    since: Option<Tick>,
    pause: Duration,
    not_before: Tick,
    pub(super) unexplained: i128,
    /// Scans that differences led to, and those that explained them.
    pub(super) n_scans: u64,
    pub(super) n_explained: u64,
}

/// What a measurement asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Nothing,
    /// To look at all warm names.
    Looks,
    Scan,
}

impl Measuring {
    /// When to measure next. `active`: when something was last hinted or found changed.
    pub(super) fn due(&self, active: Tick) -> Option<Tick> {
        if self.asked {
            return None;
        }
        let is_busy = self.since.is_some() || active.after(ACTIVE_FOR) > self.last;
        let fast = is_busy && self.last >= self.not_before;
        Some(self.last.after(if fast { SOON } else { SLOW }))
    }

    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    pub(super) fn scan_wanted(&mut self) {
        self.wanted = true;
    }

    /// A full scan ended.
    pub(super) fn scan_ended(&mut self) {
        let for_difference = std::mem::take(&mut self.wanted);
        let before = self.rebase.unwrap_or(false);
        self.rebase = Some(before || for_difference);
        self.n_scans += u64::from(for_difference);
    }

    /// Whether others write on this file system, so that its total says little.
    pub(super) fn has_others(&self) -> bool {
        self.pause > Duration::ZERO
    }

    fn compare(&mut self, now: Tick, sums: Sums, longest: Duration) -> Asks {
        let Some(agreed) = self.agreed else {
            self.rebase = None;
            self.agreed = Some(sums);
            return Asks::Nothing;
        };
        let unexplained = sums.unexplained(&agreed);
        if let Some(for_difference) = self.rebase.take() {
            if for_difference && unexplained == 0 {
                self.n_explained += 1;
                self.pause = Duration::ZERO;
            } else if for_difference {
                self.pause = self.pause.saturating_mul(2).max(FIRST_PAUSE).min(longest);
                self.not_before = now.after(self.pause);
            }
            self.agreed = Some(sums);
            self.since = None;
            self.unexplained = 0;
            return Asks::Nothing;
        }
        self.unexplained = unexplained;
        if unexplained == 0 {
            self.since = None;
            return Asks::Nothing;
        }
        let Some(since) = self.since else {
            self.since = Some(now);
            return Asks::Looks;
        };
        if now.since(since) >= LASTING && now >= self.not_before {
            Asks::Scan
        } else {
            Asks::Nothing
        }
    }
}

impl Engine {
    /// How many bytes the file system has in use; `None`: it does not say.
    pub(super) fn measured(&mut self, now: Now, used: Option<u64>) -> Asks {
        let is_sure = self.is_settled()
            && !self.scanning.is_suspect()
            && !self.is_pruning()
            && self.deciding.trash.is_empty();
        let totals = self.index.totals();
        let known = totals
            .counted
            .allocated
            .saturating_add(totals.unowned.allocated)
            .saturating_add(self.kept.bytes().0.into());
        let n_dirs = self.index.n_dirs() as i128;
        let longest = self.rules.rescan_interval;
        let measuring = &mut self.guard.measuring;
        measuring.asked = false;
        measuring.last = now.tick;
        let Some(used) = used.filter(|_| is_sure) else {
            return Asks::Nothing;
        };
        let sums = Sums {
            used: used.into(),
            known: i128::try_from(known).unwrap_or(i128::MAX),
            n_dirs,
        };
        measuring.compare(now.tick, sums, longest)
    }
}
