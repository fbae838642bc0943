//! How the simulated walks and reads go: beside the engine, bit by bit, late.

use super::{Job, METADATA, Walk, Watch, World};
use crate::support::tree::{Held, NodeId, ROOT};
use housekeeper::engine::{CatalogTrouble, Input, ReadOf, ReadOrder};
use housekeeper::layout::Role;
use housekeeper::model::listing::{Gathered, Listing, ScanOrder, Unlisted, Walked, Watched};
use housekeeper::model::path::RelPath;
use housekeeper::model::plan::ReadAs;
use housekeeper::model::seen::{FileKind, Seen, Stat};
use housekeeper::model::session::{Content, Document, Facts, Key};
use housekeeper::model::watcher::{DirKey, Watch as Placed};
use std::collections::VecDeque;

impl World {
    pub(super) fn begin_walk(&mut self, order: ScanOrder) {
        self.walks.push(Walk {
            scan: order.id,
            reads: order.reads,
            jobs: vec![Job::Open(order.at, None)],
            sent: VecDeque::new(),
            ended: false,
        });
    }

    /// Lets a walk do the next bit of its work.
    pub(super) fn walk(&mut self) {
        if self.walks.is_empty() {
            return;
        }
        let at = self.dice.below(self.walks.len());
        let mut walk = self.walks.swap_remove(at);
        if walk.jobs.is_empty() {
            if !walk.ended {
                walk.ended = true;
                walk.sent.push_back(Walked::End { scan: walk.scan });
            }
        } else {
            let job = self.dice.below(walk.jobs.len());
            let job = walk.jobs.swap_remove(job);
            self.work(&mut walk, job);
        }
        self.walks.push(walk);
    }

    pub(super) fn work(&mut self, walk: &mut Walk, job: Job) {
        let gone = |dir: RelPath| Walked::Unlisted {
            scan: walk.scan,
            dir,
            why: Unlisted::Gone,
        };
        match job {
            Job::Open(path, within) => {
                let node = match within {
                    Some((dir, name)) => self.tree.child(dir, &name),
                    None => self.tree.at(path.as_bytes()),
                };
                match node.filter(|node| self.tree.is_dir(*node)) {
                    None => walk.sent.push_back(gone(path)),
                    Some(node) => {
                        if !self.keyed {
                            self.watches.retain(|_, w| w.node != node && w.path != path);
                        }
                        walk.jobs.push(Job::Watch(path, node));
                    }
                }
            }
            Job::Watch(path, node) => match self.watch(&path, node) {
                None => walk.sent.push_back(gone(path)),
                Some(watched) => {
                    let names = self.tree.names(node).into_iter().flatten();
                    let names = names.map(|(name, _)| name.clone()).collect();
                    walk.jobs.push(Job::List {
                        stat: self.tree.stat(node),
                        path,
                        node,
                        watched,
                        names,
                        first: true,
                    });
                }
            },
            Job::List { .. } => self.list(walk, job),
        }
    }

    pub(super) fn watch(&mut self, path: &RelPath, node: NodeId) -> Option<Watched> {
        let is_elsewhere = !self.keyed && self.tree.at(path.as_bytes())? != node;
        if is_elsewhere || self.dice.percent(self.blind) {
            return self.tree.is_alive(node).then_some(Watched::Failed);
        }
        if self.keyed && !self.tree.is_alive(node) {
            return None;
        }
        let key = self.key_for(node);
        let keyed = self.keyed;
        self.watches
            .retain(|_, w| w.node != node && (keyed || w.path != *path));
        self.next_watch += 1;
        let watch = Watch {
            node,
            path: path.clone(),
            key,
        };
        self.watches.insert(self.next_watch, watch);
        if keyed {
            self.begun.push(key);
        }
        Some(Watched::Placed(Placed {
            generation: self.next_watch,
            key,
        }))
    }

    /// A directory keeps its key for as long as it is watched.
    fn key_for(&mut self, node: NodeId) -> DirKey {
        if !self.keyed {
            return DirKey::BY_PATH;
        }
        if let Some(watch) = self.watches.values().find(|watch| watch.node == node) {
            return watch.key;
        }
        self.next_key += 1;
        DirKey(self.next_key)
    }

    /// One chunk of at most three names.
    pub(super) fn list(&mut self, walk: &mut Walk, job: Job) {
        let Job::List {
            path,
            node,
            stat,
            watched,
            mut names,
            first,
        } = job
        else {
            return;
        };
        let mut chunk = Listing::new(walk.scan, path.clone(), stat, watched, first);
        for _ in 0..3 {
            let Some(name) = names.pop_front() else { break };
            let Some(child) = self.tree.child(node, &name) else {
                continue;
            };
            chunk.push(&name, Seen::There(self.tree.stat(child)));
            if self.tree.is_dir(child) {
                let path = path.join(&name).expect("a name");
                walk.jobs.push(Job::Open(path, Some((node, name))));
            }
        }
        chunk.last = names.is_empty();
        if walk.reads && self.dice.percent(80) {
            chunk.gathered = self.gather(&chunk, node, stat);
            self.n_reads += chunk.gathered.len() as u64;
        }
        if !chunk.last {
            walk.jobs.push(Job::List {
                path,
                node,
                stat,
                watched,
                names,
                first: false,
            });
        }
        walk.sent.push_back(Walked::Chunk(chunk));
    }

    pub(super) fn document(&self, dir: Option<NodeId>, name: &[u8]) -> Document {
        let node = dir.and_then(|dir| self.tree.child(dir, name));
        let (signature, content) = match node.map(|node| (node, &self.tree.node(node).held)) {
            None => (None, Content::Absent),
            Some((node, Held::File { text, .. })) => (
                Some(self.tree.signature(node)),
                Content::Text(text.clone().unwrap_or_default()),
            ),
            Some((_, Held::Dir(_) | Held::Symlink)) => (None, Content::NotAFile),
        };
        Document {
            name: name.into(),
            signature,
            content,
        }
    }

    pub(super) fn documents(&self, dir: Option<NodeId>, key: &[u8]) -> Vec<Document> {
        let layout = self.layout();
        let names = layout.documents(key);
        names.iter().map(|name| self.document(dir, name)).collect()
    }

    /// What is to be known of the session of this key now, and its files where it is made of
    /// some, the metadata first.
    pub(super) fn facts(&self, key: &[u8]) -> (Facts, Vec<NodeId>) {
        let layout = self.layout();
        let now = self.now().wall;
        if !layout.is_of_files() {
            let dir = self.tree.at(key);
            let inode = dir.map(|dir| self.tree.stat(dir));
            let facts = layout.facts(key, inode.as_ref(), &self.documents(dir, key), now);
            return (facts, Vec::new());
        }
        let path = RelPath::new(key).expect("a path");
        let above = path.parent().expect("not the root");
        let dir = self.tree.at(above.as_bytes());
        let mut files = Vec::new();
        for (name, node) in dir
            .and_then(|dir| self.tree.names(dir))
            .into_iter()
            .flatten()
        {
            let at = above.join(name).expect("a path");
            let is_file = self.tree.stat(*node).kind == FileKind::File;
            if is_file && layout.owns_file(&at, key) {
                files.push((!layout.is_document(key, name), *node));
            }
        }
        files.sort_by_key(|(is_data, _)| *is_data);
        let files: Vec<NodeId> = files.into_iter().map(|(_, node)| node).collect();
        let inode = files.first().map(|node| self.tree.stat(*node));
        let facts = layout.facts(key, inode.as_ref(), &self.documents(dir, key), now);
        (facts, files)
    }

    /// Through the descriptor that the listing was made with: of a directory that went meanwhile
    /// the world knows no more than the listing said.
    fn gather(&self, chunk: &Listing, dir: NodeId, listed: Stat) -> Vec<(Key, Gathered)> {
        let layout = self.layout();
        let key = chunk.dir.as_bytes();
        if layout.is_of_files() {
            return self.gather_files(chunk, dir);
        }
        if !chunk.last || layout.role(key, FileKind::Dir) != Role::Session {
            return Vec::new();
        }
        let documents = self.documents(Some(dir), key);
        let is_there = self.tree.is_alive(dir);
        let inode = if is_there {
            self.tree.stat(dir)
        } else {
            listed
        };
        let facts = layout.facts(key, Some(&inode), &documents, self.now().wall);
        let proofs = proofs(documents);
        vec![(key.into(), Gathered { facts, proofs })]
    }

    fn gather_files(&self, chunk: &Listing, dir: NodeId) -> Vec<(Key, Gathered)> {
        let layout = self.layout();
        let mut all = Vec::new();
        if layout.reads_no_file() || !layout.is_container(&chunk.dir) {
            return all;
        }
        for (name, seen) in chunk.entries() {
            let Seen::There(stat) = seen else { continue };
            let path = chunk.dir.join(name).expect("a path");
            let key = layout.part_of(path.as_bytes());
            let key = key.filter(|_| stat.kind == FileKind::File);
            if let Some(key) = key.filter(|key| layout.is_document(key, name)) {
                let documents = self.documents(Some(dir), &key);
                let facts = layout.facts(&key, Some(stat), &documents, self.now().wall);
                let proofs = proofs(documents);
                all.push(((*key).into(), Gathered { facts, proofs }));
            }
        }
        all
    }

    pub(super) fn read(&mut self, order: ReadOrder) {
        let layout = self.layout();
        let now = self.now().wall;
        let dir = self.tree.at(order.dir.as_bytes());
        let of = match order.session {
            Some((session, key)) => {
                let documents = self.documents(dir, &key);
                let inode = order.inode.as_ref();
                let inode = inode.and_then(|path| self.tree.at(path.as_bytes()));
                let inode = inode.map(|node| self.tree.stat(node));
                let facts = layout.facts(&key, inode.as_ref(), &documents, now);
                ReadOf::Session {
                    session,
                    facts,
                    proofs: proofs(documents),
                }
            }
            None => {
                let document = self.document(Some(ROOT), METADATA);
                let seen = match document.content {
                    Content::Text(text) => layout
                        .catalog(&text, now)
                        .map_err(|fault| CatalogTrouble::Corrupt(fault.to_string())),
                    Content::Absent => Err(CatalogTrouble::Absent),
                    Content::NotAFile | Content::TooBig | Content::Unreadable(_) => {
                        Err(CatalogTrouble::Unreadable)
                    }
                };
                ReadOf::Catalogue {
                    signature: document.signature,
                    seen,
                }
            }
        };
        let seq = order.seq;
        self.answers.push(Input::Read { seq, of });
    }
}

fn proofs(documents: Vec<Document>) -> Vec<ReadAs> {
    let proof = |document: Document| ReadAs {
        name: document.name,
        signature: document.signature,
    };
    documents.into_iter().map(proof).collect()
}
