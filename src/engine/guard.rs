//! The guard against what no hint tells, at a bounded cost.
//!
//! Some writes give no hint while a descriptor stays open (`io_submit`, a mapping of a file
//! with holes), some none at all (through a name elsewhere; blocks that a file system gives out
//! when it writes back). So names that were touched of late are looked at again, each in its
//! turn; files with names elsewhere, too; and the file system's own total is compared with the
//! index's ([`super::measuring`]).
//!
//! A tick's looks are made [`AT_ONCE`] at a time, [`BETWEEN`] apart: what is to be pruned waits
//! for some microseconds at most.
//!
//! Bounds: a tick looks at no more than [`LOOKS`] names of each kind and comes every [`PERIOD`]
//! while there are warm names, every [`LINKED_PERIOD`] while there are files with names
//! elsewhere, else not at all. So a silent change of a warm name is known after `PERIOD` where
//! there are up to `LOOKS` of them and after 16 periods (4 s) where there are the most; one
//! through a name elsewhere after one second for each `LOOKS` of them. An idle root is woken
//! every 30 s, for one `statfs` and one look at its path.

use super::burst::Phase;
use super::hot::{Hot, KEEP, Ring};
use super::measuring::{Asks, Measuring};
use super::{Effect, Engine};
use crate::index::Known;
use crate::model::fact::ScanCause;
use crate::model::path::RelPath;
use crate::model::place::{DirId, Look, MountPoint, Why};
use crate::model::seen::{FileKind, Stat};
use crate::model::time::{Now, Tick, UnixNanos};
use std::collections::BTreeSet;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(250);
const LINKED_PERIOD: Duration = Duration::from_secs(1);
/// Names of each kind that a tick looks at.
const LOOKS: usize = 128;
/// Looks of each kind that are made at once, and how long the next ones wait.
const AT_ONCE: usize = 8;
const BETWEEN: Duration = Duration::from_millis(1);
/// Files with names elsewhere that are kept. Further ones are left to the rescans.
const MAX_LINKED: usize = 1 << 16;
/// So long after its last change a root counts as active.
pub(super) const ACTIVE_FOR: Duration = Duration::from_secs(10);
/// Sessions that are listed before everything else after a loss.
const FIRST_LISTED: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Nobody keeps guard in a one-shot command.
    kept: bool,
    hot: Hot,
    /// By inode number: a name in the root of a file that has others elsewhere.
    linked: Ring<u64>,
    last: Tick,
    /// Names, and files with names elsewhere, that are still to be looked at in this tick.
    left: [usize; 2],
    /// When the last looks were made.
    looked: Tick,
    active: Tick,
    /// Since when there has been no moment without a walk: what walks bring may be that old.
    walks_since: Option<Tick>,
    mounts: Option<BTreeSet<MountPoint>>,
    pub(super) measuring: Measuring,
}

impl Guard {
    fn tick_due(&self) -> Option<Tick> {
        if self.left != [0, 0] {
            Some(self.looked.after(BETWEEN))
        } else if !self.hot.is_empty() {
            Some(self.last.after(PERIOD))
        } else if !self.linked.is_empty() {
            Some(self.last.after(LINKED_PERIOD))
        } else {
            None
        }
    }

    fn warm(&mut self, at: (DirId, u64), name: &[u8], then: Tick, now: Tick) {
        if self.hot.is_empty() {
            // It was looked at just now.
            self.last = now;
        }
        self.hot.warm(at, name, then);
    }

    pub(super) fn n_hot(&self) -> usize {
        self.hot.len()
    }

    pub(super) fn n_linked(&self) -> usize {
        self.linked.len()
    }
}

impl Engine {
    pub(super) fn keep_guard(&mut self, now: Now) {
        self.guard.kept = true;
        self.guard.last = now.tick;
        self.guard.active = now.tick;
    }

    pub(super) fn keeps_guard(&self) -> bool {
        self.guard.kept
    }

    pub(super) fn guard_due(&self) -> Option<Tick> {
        // Between a passed limit and the end of a burst nothing of this is wanted.
        if !self.guard.kept || self.stopped || self.deciding.phase != Phase::Idle {
            return None;
        }
        let measure = self.guard.measuring.due(self.guard.active);
        self.guard.tick_due().into_iter().chain(measure).min()
    }

    /// Notes since when walks have been under way without a break.
    pub(super) fn note_walks(&mut self, now: Now) {
        self.guard.walks_since = if self.scanning.is_quiet() {
            None
        } else {
            self.guard.walks_since.or(Some(now.tick))
        };
    }

    /// Looks around when it is time to.
    pub(super) fn guard(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.guard_due().is_none_or(|at| at > now.tick) {
            return;
        }
        let is_due = |at: Option<Tick>| at.is_some_and(|at| at <= now.tick);
        if is_due(self.guard.tick_due()) {
            self.look_on(now, out);
        }
        if is_due(self.guard.measuring.due(self.guard.active)) {
            out.push(Effect::CheckPlace);
            self.guard.measuring.ask();
            out.push(Effect::Measure);
        }
    }

    /// Begins a tick, or goes on with the present one.
    fn look_on(&mut self, now: Now, out: &mut Vec<Effect>) {
        let guard = &mut self.guard;
        if guard.left == [0, 0] {
            guard.last = now.tick;
            guard.hot.expire(now.tick);
            guard.left = [guard.hot.len().min(LOOKS), guard.linked.len().min(LOOKS)];
            out.push(Effect::CheckPlace);
        }
        guard.looked = now.tick;
        let [hot, linked] = guard.left.map(|left| left.min(AT_ONCE));
        guard.left = [guard.left[0] - hot, guard.left[1] - linked];
        self.look_at_hot(hot, out);
        self.look_at_linked(linked, out);
    }

    fn look_at_hot(&mut self, max: usize, out: &mut Vec<Effect>) {
        let Self { guard, index, .. } = self;
        let mut gone = Vec::new();
        guard.hot.turn(max, |at, dir, name| {
            if index.has_dir(dir) {
                out.push(Effect::Look(Look::new(dir, name, Why::Guard)));
            } else {
                gone.push(at);
            }
        });
        gone.into_iter().for_each(|at| guard.hot.cool(at));
    }

    fn look_at_linked(&mut self, max: usize, out: &mut Vec<Effect>) {
        let Self { guard, index, .. } = self;
        let mut gone = Vec::new();
        guard.linked.turn(max, |ino, dir, name| {
            if index.has_dir(dir) {
                out.push(Effect::Look(Look::new(dir, name, Why::Guard)));
            } else {
                gone.push(ino);
            }
        });
        for ino in gone {
            guard.linked.remove(ino);
        }
    }

    /// The file system was asked for its total.
    pub(super) fn compare_totals(&mut self, now: Now, used: Option<u64>) {
        match self.measured(now, used) {
            Asks::Nothing => {}
            Asks::Looks => self.guard.left[0] = self.guard.hot.len(),
            Asks::Scan => {
                self.guard.measuring.scan_wanted();
                self.scanning.want(ScanCause::Guard);
            }
        }
    }

    /// An inode that has names elsewhere was touched.
    pub(super) fn hint_inode(&mut self, ino: u64, out: &mut Vec<Effect>) {
        if let Some((dir, name)) = self.guard.linked.get(ino) {
            out.push(Effect::Look(Look::new(dir, name, Why::Hint)));
        }
    }

    /// A look is to be answered, or a walk tells of a name: what the index has for it.
    pub(super) fn before_look(&self, dir: DirId, name: &[u8], why: Why) -> Option<Known> {
        // A hint warms its name in any case: no need to ask on the way from hint to rename.
        if !self.guard.kept || (why == Why::Hint && self.guard.linked.is_empty()) {
            return None;
        }
        self.index.find(dir, name)
    }

    /// A name was looked at and is gone.
    pub(super) fn guard_gone(&mut self, dir: DirId, name: &[u8], before: Option<Known>) {
        if !self.guard.kept {
            return;
        }
        self.guard.hot.cool((dir, self.index.name_hash(dir, name)));
        self.unlink(dir, name, before, None);
    }

    /// A name does not lead to the inode any more that it led to before.
    fn unlink(&mut self, dir: DirId, name: &[u8], before: Option<Known>, now: Option<u64>) {
        if let Some(Known::File { ino, .. }) = before
            && Some(ino) != now
            && self.guard.linked.get(ino) == Some((dir, name))
        {
            self.guard.linked.remove(ino);
        }
    }

    /// A name was looked at and is there.
    pub(super) fn guard_seen(
        &mut self,
        now: Now,
        look: &Look,
        stat: &Stat,
        before: Option<Known>,
        out: &mut Vec<Effect>,
    ) {
        if !self.guard.kept {
            return;
        }
        let (dir, name) = (look.dir, look.name());
        if stat.kind != FileKind::File {
            return self.guard_gone(dir, name, before);
        }
        let after = match look.why {
            Why::Hint => None,
            Why::Scan | Why::Again | Why::Guard => self.index.find(dir, name),
        };
        if look.why == Why::Hint || before != after {
            self.guard.active = now.tick;
            let at = (dir, self.index.name_hash(dir, name));
            self.guard.warm(at, name, now.tick, now.tick);
        } else if look.why != Why::Guard {
            self.warm_by_age(now, dir, name, stat);
        }
        self.unlink(dir, name, before, Some(stat.id.ino));
        if self.link(dir, name, stat) {
            out.push(Effect::Follow {
                dir,
                name: name.into(),
                id: stat.id,
            });
        }
    }

    /// A walk tells of a name. It told the source already of names elsewhere.
    pub(super) fn guard_listed(&mut self, now: Now, dir: DirId, name: &[u8], stat: &Stat) {
        if self.guard.kept && stat.kind == FileKind::File {
            self.warm_by_age(now, dir, name, stat);
            self.link(dir, name, stat);
        }
    }

    /// A file that was written to of late may go on.
    fn warm_by_age(&mut self, now: Now, dir: DirId, name: &[u8], stat: &Stat) {
        let wall: UnixNanos = now.wall.into();
        let age = wall.0.saturating_sub(stat.written(wall).0);
        let age = Duration::from_nanos(u64::try_from(age).unwrap_or(0));
        let walked = self
            .guard
            .walks_since
            .map_or(Duration::ZERO, |since| now.tick.since(since));
        if age <= KEEP.saturating_add(walked) {
            let then = Tick(now.tick.0.saturating_sub(age.saturating_sub(walked)));
            let at = (dir, self.index.name_hash(dir, name));
            self.guard.warm(at, name, then, now.tick);
        }
    }

    /// Keeps a file in mind that has more names than the index knows. Whether that is news.
    fn link(&mut self, dir: DirId, name: &[u8], stat: &Stat) -> bool {
        let ino = stat.id.ino;
        let linked = &mut self.guard.linked;
        if stat.n_links <= 1 || self.index.n_names(ino) >= stat.n_links {
            linked.remove(ino);
            return false;
        }
        let is_news = linked.get(ino).is_none() && linked.len() < MAX_LINKED;
        if is_news {
            linked.put(ino, dir, name);
        }
        is_news
    }

    /// The sessions whose names changed last: listed first after a loss.
    pub(super) fn hottest_sessions(&self) -> Vec<RelPath> {
        let mut paths = Vec::new();
        for dir in self.guard.hot.newest() {
            let session = self.session_of_dir(dir);
            let path = session.map(|session| self.index.session_path(session));
            if let Some(path) = path.filter(|path| !path.is_root() && !paths.contains(path)) {
                paths.push(path);
                if paths.len() == FIRST_LISTED {
                    break;
                }
            }
        }
        paths
    }

    /// What is mounted below the root. Where that changed, the names are looked at, and a scan
    /// tells what came and went.
    pub(super) fn mounted(&mut self, points: BTreeSet<MountPoint>, out: &mut Vec<Effect>) {
        let before = self.guard.mounts.as_ref();
        let changed: BTreeSet<RelPath> = before
            .into_iter()
            .flat_map(|before| before.symmetric_difference(&points))
            .map(|point| point.at.clone())
            .collect();
        self.guard.mounts = Some(points);
        if changed.is_empty() {
            return;
        }
        for path in &changed {
            let parent = path.parent().and_then(|parent| self.index.dir_at(&parent));
            if let Some((parent, name)) = parent.zip(path.name()) {
                out.push(Effect::Look(Look::new(parent, name, Why::Again)));
            }
        }
        self.scanning.recover(ScanCause::Guard);
    }
}
