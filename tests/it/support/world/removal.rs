//! The simulated executor, and what must hold whenever the engine asks it for something.

use super::{Later, METADATA, World};
use crate::support::tree::{Held, NodeId, OUTSIDE, ROOT};
use housekeeper::engine::Input;
use housekeeper::index::Standing;
use housekeeper::layout::catalog;
use housekeeper::model::bytes::Bytes;
use housekeeper::model::lifecycle::LifeReport;
use housekeeper::model::plan::{Because, Body, Proof, Victim};
use housekeeper::model::report::{Aside, AsideName, Outcome, Removed, Skip, Unlist};
use housekeeper::model::seen::FileKind;
use housekeeper::model::session::{Content, Key, Verdict};
use housekeeper::model::time::UnixNanos;

/// So long, in nanoseconds, a victim that was skipped again and again may be passed over: the
/// engine's pauses double up to here.
const LONGEST_PAUSE: u64 = 30_000_000_000;

/// The same for what is kept and could not be let go of: a fixed pause.
const KEPT_PAUSE: u64 = 5_000_000_000;

impl World {
    pub(super) fn quiet(&self) -> i64 {
        self.rules.protect.quiet.as_nanos() as i64
    }

    /// Whether a moment lies within `quiet`.
    pub(super) fn is_quiet_at(&self, at: UnixNanos) -> bool {
        self.stamp().0 - at.0 < self.quiet()
    }

    /// What must hold when the engine asks for a removal, whatever the disk says then.
    pub(super) fn check_order(&self, victim: &Victim) {
        let figures = self.engine.figures();
        assert!(self.locked, "removes without the lock");
        assert!(figures.scanned, "removes before the first scan ended");
        assert!(!figures.held, "removes while held");
        assert!(!figures.suspect || self.fresh, "removes while suspect");
        let index = self.engine.index();
        let session = index.session(victim.session).expect("a known session");
        assert_eq!(session.standing, Standing::Removable, "a fixed victim");
        assert_eq!(session.verdict, Verdict::Certain, "a doubtful victim");
        if let Because::TooBig { goal, .. } = victim.because {
            let usage = self.engine.usage().bytes;
            assert!(usage > goal, "{usage} are not more than {goal}");
        }
        assert!(!self.is_quiet_at(session.written), "a quiet victim");
        assert!(
            !self.at_work.contains(&victim.key),
            "goes while it is changed"
        );
        if let Because::Failed { .. } = victim.because {
            // It goes whatever is older.
            return;
        }
        for (id, _, older) in index.oldest_first() {
            if id == victim.session {
                break;
            }
            let key = index.key(id);
            let is_held = older.standing != Standing::Removable
                || self.is_quiet_at(older.written)
                || self.in_place.contains(&key)
                || self.at_work.contains(&key)
                || self.skipped.contains_key(&key);
            assert!(is_held, "{:?} goes before {:?}", victim.key, key);
        }
    }

    /// What must hold of the tree itself when a removal is carried out.
    pub(super) fn check_truth(&self, victim: &Victim) {
        let count = self.recount();
        let (_, created) = count
            .sessions
            .get(&victim.key[..])
            .expect("removes what is no session");
        assert!(created.is_some(), "removes what has no creation time");
        assert_eq!(*created, victim.created, "removes by another time");
        assert!(!self.is_active(&victim.key), "removes an active session");
        assert!(
            !self
                .rules
                .protect
                .keep
                .is_match(&*String::from_utf8_lossy(self.rules.layout.id(&victim.key))),
            "removes a pinned session"
        );
        if let (true, Because::TooBig { goal, .. }) = (self.calm, victim.because) {
            let used = count.counted.bytes(self.rules.limits.measure);
            assert!(used > goal, "{used} are truly not more than {goal}");
        }
    }

    pub(super) fn is_active(&self, key: &[u8]) -> bool {
        let layout = self.layout();
        let now = self.now().wall;
        if self.is_catalog() {
            let document = self.document(Some(ROOT), METADATA);
            let Content::Text(text) = document.content else {
                return false;
            };
            let seen = layout.catalog(&text, now).expect("a good catalogue");
            let mut entries = seen.entries.iter();
            return entries.any(|entry| *entry.id == *key && entry.facts.phase.protects());
        }
        let (facts, _) = self.facts(key);
        facts.phase.protects() || facts.verdict != Verdict::Certain
    }

    pub(super) fn remove(&mut self, victim: &Victim) -> Outcome {
        self.check_order(victim);
        let outcome = self.try_remove(victim);
        if let Outcome::Skipped(_) | Outcome::Gone = outcome {
            let until = self.nanos + LONGEST_PAUSE;
            self.skipped.insert(victim.key.clone(), until);
        }
        outcome
    }

    pub(super) fn try_remove(&mut self, victim: &Victim) -> Outcome {
        let refusal = self.refusal;
        if self.dice.percent(refusal / 2) {
            return Outcome::Skipped(match self.dice.below(3) {
                0 => Skip::Locked,
                1 => Skip::RootMoved,
                _ => Skip::Refused {
                    operation: "rename",
                    errno: 16,
                },
            });
        }
        let names = match self.recheck(victim) {
            Ok(names) => names,
            Err(outcome) => return outcome,
        };
        self.check_truth(victim);
        if let Because::Failed { .. } = victim.because {
            self.check_retired(victim);
            self.n_lived[2] += 1;
        }
        self.n_removed += 1;
        if self.dice.percent(refusal / 4) {
            self.in_place.insert(victim.key.clone());
            return Outcome::InPlace;
        }
        self.left_there.remove(&victim.key);
        let mut aside = Vec::new();
        if let (Body::Files { names: one, .. }, [(dir, name)]) = (&victim.body, &names[..])
            && let [(_, id)] = &one[..]
        {
            self.next_name += 1;
            let beside = AsideName::new(&format!("{:026}", self.next_name), *id);
            let beside = Aside::Beside(victim.path.clone(), beside);
            let new = beside.file_name().into_bytes();
            let stamp = self.stamp();
            self.tree.rename((*dir, name), (*dir, &new), stamp);
            self.emit(*dir, name);
            self.emit(*dir, &new);
            return Outcome::Aside(vec![beside]);
        }
        if let (Body::Tree { id, .. }, [(dir, name)]) = (&victim.body, &names[..])
            && self.engine.keeps_aside(victim)
        {
            self.next_name += 1;
            let ms = u64::try_from(self.now().wall.timestamp_millis()).expect("after 1970");
            let ulid = ulid::Ulid::from_parts(ms, self.next_name as u128).to_string();
            let kept = Aside::Kept(AsideName::new(&ulid, *id));
            let to = (OUTSIDE, kept.file_name().into_bytes());
            let stamp = self.stamp();
            self.tree.rename((*dir, name), (to.0, &to.1), stamp);
            self.emit(*dir, name);
            return Outcome::Aside(vec![kept]);
        }
        for (dir, name) in names {
            self.next_name += 1;
            let in_trash = format!("trash{}", self.next_name);
            let to = (OUTSIDE, in_trash.as_bytes());
            let stamp = self.stamp();
            self.tree.rename((dir, &name), to, stamp);
            self.emit(dir, &name);
            aside.push(Aside::Trash(AsideName(in_trash)));
        }
        Outcome::Aside(aside)
    }

    /// What is kept is gone before its space is needed.
    pub(super) fn check_kept(&self) {
        if self.nanos <= self.kept_refused_until {
            return;
        }
        let rules = self.engine.rules();
        if rules.trash_keep.is_zero() {
            return;
        }
        let (kept, used) = (self.engine.figures().kept_bytes, self.engine.usage().bytes);
        let is_over = rules.limits.is_over(used.saturating_add(kept));
        assert!(kept == Bytes::ZERO || !is_over, "{kept} kept beside {used}");
    }

    /// As the executor checks: inodes, signatures, quiet. Gives the names to rename.
    pub(super) fn recheck(&self, victim: &Victim) -> Result<Vec<(NodeId, Vec<u8>)>, Outcome> {
        let mut grip = Vec::new();
        let mut names = Vec::new();
        let proofs: Vec<&Proof> = match &victim.body {
            Body::Tree { id, proofs } => {
                let dir = self.tree.at(victim.path.as_bytes()).ok_or(Outcome::Gone)?;
                if self.tree.stat(dir).id != *id || !self.tree.is_dir(dir) {
                    return Err(Outcome::Skipped(Skip::Replaced));
                }
                grip.push(dir);
                let parent = victim.path.parent().expect("not the root");
                let parent = self.tree.at(parent.as_bytes()).expect("it has a child");
                let name = victim.path.name().expect("not the root").to_vec();
                names.push((parent, name));
                proofs.iter().collect()
            }
            Body::Files { .. } | Body::Blobs { .. } => {
                let (files, proofs) = match &victim.body {
                    Body::Files { names, proofs } => (names, proofs.iter().collect()),
                    Body::Blobs { blobs, catalogue } => (blobs, vec![catalogue]),
                    Body::Tree { .. } => unreachable!("matched before"),
                };
                let home = self.tree.at(victim.path.as_bytes()).ok_or(Outcome::Gone)?;
                for (name, id) in files {
                    let Some(node) = self.tree.child(home, name) else {
                        continue;
                    };
                    if self.tree.stat(node).id != *id {
                        return Err(Outcome::Skipped(Skip::Replaced));
                    }
                    grip.push(node);
                    names.push((home, name.to_vec()));
                }
                if names.is_empty() {
                    return Err(Outcome::Gone);
                }
                proofs
            }
        };
        let dir = self.tree.at(victim.path.as_bytes());
        for proof in proofs {
            let document = self.document(dir, &proof.name);
            if document.signature.map(|s| s.mark()) != proof.mark
                || document.content == Content::NotAFile
            {
                return Err(Outcome::Skipped(Skip::Changed));
            }
            let node = dir.and_then(|dir| self.tree.child(dir, &proof.name));
            grip.extend(node.filter(|_| !self.is_catalog()));
        }
        let now = self.stamp();
        let written = grip.iter().map(|node| self.tree.stat(*node).written(now));
        if written.max().is_some_and(|at| self.is_quiet_at(at)) {
            return Err(Outcome::Skipped(Skip::Quiet));
        }
        Ok(names)
    }

    /// As the disk does it: what is not the inode that was meant stays.
    fn reap(&mut self, aside: &Aside) -> Vec<(String, i32)> {
        let name = aside.file_name().into_bytes();
        let refusal = self.refusal;
        if matches!(aside, Aside::Kept(_)) && self.dice.percent(refusal) {
            self.kept_refused_until = self.nanos + KEPT_PAUSE;
            return vec![(aside.file_name(), 28)];
        }
        let Aside::Beside(dir, meant) = aside else {
            self.unlink(OUTSIDE, name);
            return Vec::new();
        };
        let Some(dir) = self.tree.at(dir.as_bytes()) else {
            return Vec::new();
        };
        match self.tree.child(dir, &name) {
            Some(node) if Some(self.tree.stat(node).id) == meant.id() => {
                self.unlink(dir, name);
                Vec::new()
            }
            Some(_) => vec![(aside.file_name(), 116)],
            None => Vec::new(),
        }
    }

    pub(super) fn finish_later(&mut self, later: Later) {
        match later {
            Later::Reap(aside) => {
                for aside in aside {
                    let left = self.reap(&aside);
                    self.give(Input::Removed(Removed::Trash {
                        aside,
                        bytes: 0,
                        left,
                    }));
                }
            }
            Later::InPlace(victim) => self.finish_in_place(&victim),
            Later::Confirm(fresh) => self.give_as(Input::Confirmed, fresh),
            Later::Unlist(keys) => {
                let result = self.unlist(&keys);
                self.give(Input::Removed(Removed::Unlisted { keys, result }));
            }
            Later::FindParts(order) => {
                let (session, seen) = (order.session, self.find_parts(&order));
                self.give(Input::Parts { session, seen });
            }
            Later::Live(order) => {
                let outcome = self.carry_out_deed(&order);
                self.at_work.remove(&order.transition.key);
                let transition = order.transition;
                self.give(Input::Lived(Box::new(LifeReport {
                    transition,
                    outcome,
                })));
            }
            Later::Complete(node, text) => {
                if self.tree.is_alive(node) && self.tree.stat(node).kind == FileKind::File {
                    self.write_node(
                        node,
                        Held::File {
                            size: 0,
                            text: Some(text),
                        },
                    );
                }
            }
        }
    }

    pub(super) fn finish_in_place(&mut self, victim: &Victim) {
        let mut left = Vec::new();
        if self.dice.percent(self.refusal) {
            left.push(("f0".to_owned(), 13));
        } else {
            match &victim.body {
                Body::Tree { .. } => {
                    let parent = victim.path.parent().expect("not the root");
                    if let Some(dir) = self.tree.at(parent.as_bytes()) {
                        let name = victim.path.name().expect("not the root");
                        self.unlink(dir, name.to_vec());
                    }
                }
                Body::Files { names, .. } | Body::Blobs { blobs: names, .. } => {
                    if let Some(home) = self.tree.at(victim.path.as_bytes()) {
                        for (name, _) in names {
                            self.unlink(home, name.to_vec());
                        }
                    }
                }
            }
        }
        self.in_place.remove(&victim.key);
        if left.is_empty() {
            self.left_there.remove(&victim.key);
        } else {
            self.left_there.insert(victim.key.clone());
            let until = self.nanos + LONGEST_PAUSE;
            self.skipped.insert(victim.key.clone(), until);
        }
        let key = victim.key.clone();
        self.give(Input::Removed(Removed::InPlace { key, left }));
    }

    /// Only what is gone leaves the catalogue.
    pub(super) fn check_unlisting(&self, keys: &[Key]) {
        for key in keys {
            assert!(
                !self.in_place.contains(key) && !self.left_there.contains(key),
                "{key:?} loses its entry while it is there"
            );
        }
    }

    pub(super) fn unlist(&mut self, keys: &[Key]) -> Unlist {
        if self.dice.percent(self.refusal) {
            return Unlist::NoLease(11);
        }
        let Some(node) = self.tree.child(ROOT, METADATA) else {
            return Unlist::Done;
        };
        let Held::File {
            text: Some(text), ..
        } = &self.tree.node(node).held
        else {
            return Unlist::Unparsable;
        };
        match catalog::without(text, keys) {
            Ok(Some(text)) => {
                self.write_node(
                    node,
                    Held::File {
                        size: 0,
                        text: Some(text),
                    },
                );
                Unlist::Done
            }
            Ok(None) => Unlist::Done,
            Err(_) => Unlist::Unparsable,
        }
    }
}
