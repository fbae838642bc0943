//! The simulated steps of sessions' lives, and what must hold whenever the engine asks for one.

use super::{METADATA, World};
use crate::support::tree::{Held, NodeId, OUTSIDE};
use crate::support::world::Dice;
use chrono::TimeDelta;
use housekeeper::layout::spec::Kind;
use housekeeper::model::lifecycle::{Deed, LifeOrder, LifeOutcome, Parts, PartsOrder, PartsSeen};
use housekeeper::model::plan::Victim;
use housekeeper::model::report::{Aside, AsideName, Skip};
use housekeeper::model::seen::{FileKind, Stat};
use housekeeper::model::session::{Content, Facts, Phase, Told, Verdict};
use housekeeper::model::time::UnixNanos;
use housekeeper::policy::lifecycle::{Lifecycle, PartGlobs};
use std::time::Duration;

/// Lives of seconds.
pub(super) fn lifecycle_for(dice: &mut Dice, kind: Kind) -> Lifecycle {
    let seconds = |n: u64| Some(Duration::from_secs(n));
    let mut lifecycle = Lifecycle {
        failed_retention: seconds(*dice.pick(&[3, 40])),
        batch: *dice.pick(&[2, 1000, 1000]),
        ..Lifecycle::default()
    };
    if kind == Kind::Directories {
        let globs = PartGlobs::new(&["d0/*".to_owned(), "d1/f1".to_owned()]);
        lifecycle.parts = globs.expect("good globs");
        lifecycle.parts_after = Duration::from_millis(*dice.pick(&[0, 200, 3_000]));
        lifecycle.stale_after = seconds(*dice.pick(&[1, 10]));
        lifecycle.orphan_parts_after = seconds(5).filter(|_| dice.percent(50));
    }
    lifecycle
}

impl World {
    /// What must hold when the engine asks for a step, whatever the disk says then.
    pub(super) fn check_deed(&mut self, order: &LifeOrder) {
        let figures = self.engine.figures();
        assert!(self.locked, "changes without the lock");
        assert!(figures.scanned, "changes before the first scan ended");
        assert!(
            !figures.held && !figures.suspect,
            "changes while held or suspect"
        );
        let transition = &order.transition;
        let index = self.engine.index();
        let session = index.session(transition.session).expect("a known session");
        assert_eq!(
            session.verdict,
            Verdict::Certain,
            "a doubtful session changes"
        );
        let limit = self.rules.lifecycle.limit(transition.deed).as_nanos() as i64;
        let idle = self.stamp().0 - session.written.0;
        assert!(idle > limit, "touched {idle} ns ago, which is not {limit}");
        let fits = match transition.deed {
            Deed::Fail => session.phase == Phase::Active,
            Deed::DropParts => matches!(session.phase, Phase::Complete | Phase::Failed),
            Deed::DropOrphanParts => session.phase == Phase::Stateless,
        };
        assert!(
            fits,
            "{:?} of a session that is {:?}",
            transition.deed, session.phase
        );
        let key = index.key(transition.session);
        let id = String::from_utf8_lossy(self.rules.layout.id(&key));
        assert!(
            !self.rules.protect.keep.is_match(&*id),
            "changes a pinned session"
        );
        let is_first = self.at_work.insert(transition.key.clone());
        assert!(is_first, "two steps of one session at a time");
    }

    /// What the tree itself says of a session now.
    fn facts_now(&self, dir: NodeId, key: &[u8]) -> Facts {
        let now = self.now().wall;
        let stat = self.tree.stat(dir);
        let documents = self.documents(Some(dir), key);
        self.layout().facts(key, Some(&stat), &documents, now)
    }

    /// Everything in a session, itself included, by its path below it.
    fn all_of(&self, dir: NodeId) -> Vec<(NodeId, Vec<u8>, Vec<u8>, Stat)> {
        let mut all = vec![(dir, Vec::new(), Vec::new(), self.tree.stat(dir))];
        for (above, name, path, node) in self.tree.below(dir) {
            all.push((above, name, path, self.tree.stat(node)));
        }
        all
    }

    fn parts_of(&self, dir: NodeId) -> (Vec<(NodeId, Vec<u8>, Stat)>, UnixNanos) {
        let now = self.stamp();
        let mut newest = UnixNanos(i64::MIN);
        let mut parts = Vec::new();
        for (above, name, path, stat) in self.all_of(dir) {
            newest = newest.max(stat.written(now));
            if stat.kind == FileKind::File && self.rules.lifecycle.parts.is_part(&path) {
                parts.push((above, name, stat));
            }
        }
        (parts, newest)
    }

    pub(super) fn find_parts(&mut self, order: &PartsOrder) -> Result<PartsSeen, i32> {
        let refusal = self.refusal;
        let dir = self.tree.at(order.extent.dir.as_bytes());
        let dir =
            dir.filter(|dir| self.tree.stat(*dir).id == order.extent.id && self.tree.is_dir(*dir));
        let Some(dir) = dir.filter(|_| !self.dice.percent(refusal / 4)) else {
            return Err(5);
        };
        let (parts, newest) = self.parts_of(dir);
        Ok(PartsSeen {
            parts: Parts {
                n_files: parts.len() as u64,
                bytes: parts.iter().map(|(_, _, stat)| stat.apparent).sum(),
            },
            newest,
        })
    }

    /// As the executor does it.
    pub(super) fn carry_out_deed(&mut self, order: &LifeOrder) -> LifeOutcome {
        assert!(self.locked, "the lock is gone before the step is done");
        let transition = &order.transition;
        let refusal = self.refusal;
        if self.dice.percent(refusal / 2) {
            return LifeOutcome::Skipped(Skip::Locked);
        }
        let Some(dir) = self.tree.at(transition.path.as_bytes()) else {
            return LifeOutcome::Gone;
        };
        if self.tree.stat(dir).id != order.extent.id || !self.tree.is_dir(dir) {
            return LifeOutcome::Skipped(Skip::Replaced);
        }
        for proof in &order.proofs {
            let signature = self.document(Some(dir), &proof.name).signature;
            if signature.map(|signature| signature.mark()) != proof.mark {
                return LifeOutcome::Skipped(Skip::Changed);
            }
        }
        let (parts, newest) = self.parts_of(dir);
        if newest > order.unwritten_since {
            return LifeOutcome::Skipped(Skip::Quiet);
        }
        let facts = self.facts_now(dir, &transition.key);
        match transition.deed {
            Deed::Fail => {
                assert_eq!(facts.phase, Phase::Active, "fails what is not active");
                self.make_failed(dir, order)
            }
            Deed::DropParts | Deed::DropOrphanParts => {
                assert!(!facts.phase.protects(), "takes parts that are still needed");
                let has_record = self.tree.child(dir, METADATA).is_some();
                let is_orphaned = transition.deed == Deed::DropOrphanParts;
                assert_ne!(has_record, is_orphaned, "{transition:?}");
                self.drop_parts(parts)
            }
        }
    }

    fn make_failed(&mut self, dir: NodeId, order: &LifeOrder) -> LifeOutcome {
        let Content::Text(text) = self.document(Some(dir), METADATA).content else {
            return LifeOutcome::Skipped(Skip::Changed);
        };
        let value = self.rules.lifecycle.failed_value.clone();
        let Ok(text) = self.layout().failed(&text, &value, order.at) else {
            return LifeOutcome::Skipped(Skip::Changed);
        };
        // Another file has the name now, as after a rename.
        self.unlink(dir, METADATA.to_vec());
        let text = Some(text);
        self.create(dir, METADATA, Held::File { size: 0, text });
        self.n_lived[0] += 1;
        LifeOutcome::Failed
    }

    fn drop_parts(&mut self, parts: Vec<(NodeId, Vec<u8>, Stat)>) -> LifeOutcome {
        let mut gone = Parts::default();
        let mut aside = Vec::new();
        for (dir, name, stat) in parts {
            self.next_name += 1;
            let in_trash = format!("trash{}", self.next_name);
            let stamp = self.stamp();
            self.tree
                .rename((dir, &name), (OUTSIDE, in_trash.as_bytes()), stamp);
            self.emit(dir, &name);
            aside.push(Aside::Trash(AsideName(in_trash)));
            gone.n_files += 1;
            gone.bytes += stat.apparent;
        }
        self.n_lived[1] += 1;
        LifeOutcome::PartsGone {
            parts: gone,
            aside,
            more: false,
        }
    }

    /// What must hold of the tree when a session goes because it failed long ago.
    pub(super) fn check_retired(&self, victim: &Victim) {
        let facts = if self.is_catalog() {
            let document = self.document(Some(crate::support::tree::ROOT), METADATA);
            let Content::Text(text) = document.content else {
                panic!("no catalogue");
            };
            let seen = self.layout().catalog(&text, self.now().wall);
            let entries = seen.expect("a good catalogue").entries;
            let entry = entries.into_iter().find(|entry| entry.id == victim.key);
            entry.expect("an entry").facts
        } else {
            let dir = self.tree.at(victim.path.as_bytes()).expect("a session");
            self.facts_now(dir, &victim.key)
        };
        assert_eq!(facts.phase, Phase::Failed, "goes as failed");
        let moments = facts.moments.as_deref().copied().unwrap_or_default();
        let since = match (moments.failed, moments.updated) {
            (Told::At(at), _) | (Told::Nothing, Told::At(at)) => at,
            (Told::Nothing, Told::Nothing) => facts.created.expect("a time"),
            (Told::Unreadable, _) | (_, Told::Unreadable) => panic!("goes by a time of no sense"),
        };
        let retention = self.rules.lifecycle.failed_retention.expect("a retention");
        let retention = TimeDelta::from_std(retention).expect("it fits");
        assert!(self.now().wall - since > retention, "goes too early");
    }
}
