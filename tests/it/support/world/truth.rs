//! What lies in the tree, counted without any memory of how it came to be.

use super::{Count, METADATA, Owner, World, say};
use crate::support::tree::{NodeId, ROOT};
use housekeeper::layout::Role;
use housekeeper::model::bytes::Tally;
use housekeeper::model::path::RelPath;
use housekeeper::model::seen::FileKind;
use housekeeper::model::session::{Content, Verdict};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// Counts the tree without any memory of how it came to be.
    pub(crate) fn recount(&self) -> Count {
        let mut files = Vec::new();
        let mut count = Count::default();
        let claims = self.claims(&mut count);
        self.visit(ROOT, &[], None, &claims, &mut files, &mut count);
        let mut owners: BTreeMap<NodeId, BTreeSet<Owner>> = BTreeMap::new();
        for (node, owner) in files {
            owners.entry(node).or_default().insert(owner);
        }
        for (node, owners) in owners {
            let stat = self.tree.stat(node);
            let tally = Tally::file(stat.apparent, stat.allocated);
            if owners.iter().all(|owner| *owner == Owner::Unowned) {
                count.unowned.add(tally);
            } else {
                count.counted.add(tally);
            }
            for owner in owners {
                match owner {
                    Owner::Session(key) => {
                        let session = count.sessions.get_mut(&key).expect("claimed");
                        session.0.add(tally);
                    }
                    Owner::Orphan => count.orphans.add(tally),
                    Owner::Catalogue | Owner::Unowned => {}
                }
            }
        }
        count
    }

    /// Which session of a catalogue each name belongs to.
    pub(super) fn claims(&self, count: &mut Count) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut claims = BTreeMap::new();
        if !self.is_catalog() {
            return claims;
        }
        let Content::Text(text) = self.document(Some(ROOT), METADATA).content else {
            return claims;
        };
        let Ok(seen) = self.rules.layout.catalog(&text, self.now().wall) else {
            return claims;
        };
        for entry in seen.entries {
            let session = (Tally::default(), entry.facts.created);
            count.sessions.insert(entry.id.to_vec(), session);
            for blob in entry.blobs {
                claims.insert(blob.to_vec(), entry.id.to_vec());
            }
        }
        claims
    }

    pub(super) fn visit(
        &self,
        dir: NodeId,
        path: &[u8],
        owner: Option<&Owner>,
        claims: &BTreeMap<Vec<u8>, Vec<u8>>,
        files: &mut Vec<(NodeId, Owner)>,
        count: &mut Count,
    ) {
        for (name, node) in self.tree.names(dir).into_iter().flatten() {
            let mut at = path.to_vec();
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(name);
            let owner = match owner {
                Some(owner) => Some(owner.clone()),
                None => self.owner(&at, *node, claims, count),
            };
            if self.tree.is_dir(*node) {
                self.visit(*node, &at, owner.as_ref(), claims, files, count);
            } else if self.tree.stat(*node).kind == FileKind::File {
                files.push((*node, owner.expect("no file is a container")));
            }
        }
    }

    /// Who owns a name in a container; `None`: it is a container itself.
    pub(super) fn owner(
        &self,
        path: &[u8],
        node: NodeId,
        claims: &BTreeMap<Vec<u8>, Vec<u8>>,
        count: &mut Count,
    ) -> Option<Owner> {
        let stat = self.tree.stat(node);
        match self.rules.layout.role(path, stat.kind) {
            Role::Own => panic!("no name of the agent's own is made here"),
            Role::Container => None,
            Role::Catalogue => Some(Owner::Catalogue),
            Role::Session => {
                let part = self.rules.layout.part_of(path);
                let key = part.map_or_else(|| path.to_vec(), |key| key.into_vec());
                let (facts, _) = self.facts(&key);
                match facts.verdict {
                    Verdict::Disowned => return Some(Owner::Unowned),
                    Verdict::Orphaned => return Some(Owner::Orphan),
                    Verdict::Certain | Verdict::Doubtful => {}
                }
                let session = (Tally::default(), facts.created);
                count.sessions.insert(key.clone(), session);
                Some(Owner::Session(key))
            }
            Role::Blob if stat.kind == FileKind::File => Some(match claims.get(path) {
                Some(key) => Owner::Session(key.clone()),
                None => Owner::Orphan,
            }),
            Role::Blob | Role::Unowned => Some(Owner::Unowned),
        }
    }

    /// What the engine has, in the same words.
    pub(crate) fn known(&self) -> Count {
        let totals = self.engine.index().totals();
        let index = self.engine.index();
        Count {
            counted: totals.counted,
            unowned: totals.unowned,
            orphans: totals.orphans,
            sessions: index
                .sessions()
                .filter(|(_, session)| session.is_owned())
                .map(|(id, s)| (index.key(id).to_vec(), (index.tally(id), s.created)))
                .collect(),
        }
    }

    pub(super) fn print_difference(&self) {
        let index = self.engine.index();
        for (_, name, path, node) in self.tree.below(ROOT) {
            let path = RelPath::new(&path).expect("a path");
            let dir = path.parent().and_then(|parent| index.dir_at(&parent));
            let known = dir.and_then(|dir| index.find(dir, &name));
            let stat = self.tree.stat(node);
            say(&format!("{path}: {stat:?}, known as {known:?}"));
        }
    }

    /// At rest: the index is the disk, and the limit holds or somebody was told why not.
    pub(crate) fn check_rest(&self) {
        if self.known() != self.recount() {
            self.print_difference();
        }
        assert_eq!(
            self.known(),
            self.recount(),
            "index (left) and disk (right)"
        );
        let figures = self.engine.figures();
        assert!(!figures.suspect && figures.scanned);
        let draft = self.engine.draft(self.now(), 1);
        assert!(draft.picks.is_empty(), "still to go: {:?}", draft.picks);
        let due = self.engine.plan(self.now()).transitions;
        assert!(due.is_empty(), "still to do: {due:?}");
        let usage = self.engine.usage();
        let is_over = self.rules.limits.is_over(usage.bytes);
        assert!(!is_over || figures.unmet, "over the limit and not a word");
        if is_over {
            let blocked: u64 = draft.blocked.iter().map(|(_, held)| held.bytes.0).sum();
            let catalogue = self.tree.child(ROOT, METADATA);
            let catalogue = catalogue.filter(|_| self.is_catalog());
            let catalogue = catalogue.map_or(0, |node| self.tree.stat(node).apparent);
            let over = draft.still_over.0;
            assert!(over > 0 && over <= blocked + catalogue, "{draft:?}");
        }
    }
}
