//! A file system in memory: what the simulated world looks at, walks, reads and removes from.
//!
//! Every node has an identity of its own (an open descriptor would keep it) beside its inode
//! number, which may be used again, as ext4 does at once.

use housekeeper::model::seen::{FileId, FileKind, Signature, Stat};
use housekeeper::model::time::UnixNanos;
use std::collections::BTreeMap;

/// A node's identity, never used again.
pub(crate) type NodeId = usize;

/// The root of the tree.
pub(crate) const ROOT: NodeId = 0;
/// A directory beside the root: what lies in it is out of every watcher's sight.
pub(crate) const OUTSIDE: NodeId = 1;

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Dir(BTreeMap<Vec<u8>, NodeId>),
    /// Without text its size alone matters.
    File {
        size: u64,
        text: Option<Vec<u8>>,
    },
    Symlink,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) ino: u64,
    pub(crate) held: Held,
    pub(crate) n_links: u32,
    pub(crate) mtime: UnixNanos,
    pub(crate) ctime: UnixNanos,
    pub(crate) btime: UnixNanos,
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    next_ino: u64,
    free_inos: Vec<u64>,
}

impl Tree {
    pub(crate) fn new(now: UnixNanos) -> Self {
        let mut tree = Self {
            nodes: BTreeMap::new(),
            next_node: 0,
            next_ino: 100,
            free_inos: Vec::new(),
        };
        for _ in [ROOT, OUTSIDE] {
            let node = tree.make(Held::Dir(BTreeMap::new()), now, false);
            tree.nodes.get_mut(&node).expect("made").n_links = 1;
        }
        tree
    }

    fn make(&mut self, held: Held, now: UnixNanos, reuse: bool) -> NodeId {
        let free = if reuse { self.free_inos.pop() } else { None };
        let ino = free.unwrap_or_else(|| {
            self.next_ino += 1;
            self.next_ino
        });
        let id = self.next_node;
        self.next_node += 1;
        let node = Node {
            ino,
            held,
            n_links: 0,
            mtime: now,
            ctime: now,
            btime: now,
        };
        self.nodes.insert(id, node);
        id
    }

    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[&node]
    }

    fn node_mut(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("a live node")
    }

    pub(crate) fn names(&self, dir: NodeId) -> Option<&BTreeMap<Vec<u8>, NodeId>> {
        match &self.nodes.get(&dir)?.held {
            Held::Dir(names) => Some(names),
            Held::File { .. } | Held::Symlink => None,
        }
    }

    fn names_mut(&mut self, dir: NodeId) -> &mut BTreeMap<Vec<u8>, NodeId> {
        match &mut self.node_mut(dir).held {
            Held::Dir(names) => names,
            Held::File { .. } | Held::Symlink => panic!("not a directory"),
        }
    }

    pub(crate) fn is_dir(&self, node: NodeId) -> bool {
        self.names(node).is_some()
    }

    pub(crate) fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        self.names(dir)?.get(name).copied()
    }

    /// The bytes that all files take.
    pub(crate) fn used(&self) -> u64 {
        let files = self.nodes.keys().map(|node| self.stat(*node));
        let files = files.filter(|stat| stat.kind == FileKind::File);
        files.map(|stat| stat.allocated).sum()
    }

    /// What a path below the root leads to.
    pub(crate) fn at(&self, path: &[u8]) -> Option<NodeId> {
        let mut names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        names.try_fold(ROOT, |dir, name| self.child(dir, name))
    }

    pub(crate) fn stat(&self, id: NodeId) -> Stat {
        let node = self.node(id);
        let (kind, apparent) = match &node.held {
            Held::Dir(_) => (FileKind::Dir, 4096),
            Held::File { size, text } => {
                let size = text.as_ref().map_or(*size, |text| text.len() as u64);
                (FileKind::File, size)
            }
            Held::Symlink => (FileKind::Symlink, 7),
        };
        Stat {
            id: FileId {
                dev: 1,
                ino: node.ino,
            },
            mount: 1,
            kind,
            apparent,
            allocated: apparent.div_ceil(4096) * 4096,
            n_links: node.n_links,
            mtime: node.mtime,
            ctime: node.ctime,
            btime: Some(node.btime),
        }
    }

    pub(crate) fn signature(&self, id: NodeId) -> Signature {
        self.stat(id).signature()
    }

    fn touch_dir(&mut self, dir: NodeId, now: UnixNanos) {
        let node = self.node_mut(dir);
        (node.mtime, node.ctime) = (now, now);
    }

    /// Makes a node under a free name.
    pub(crate) fn create(
        &mut self,
        dir: NodeId,
        name: &[u8],
        held: Held,
        now: UnixNanos,
        reuse: bool,
    ) -> NodeId {
        let node = self.make(held, now, reuse);
        self.link(dir, name, node, now);
        node
    }

    /// Gives a node one more name.
    pub(crate) fn link(&mut self, dir: NodeId, name: &[u8], node: NodeId, now: UnixNanos) {
        let before = self.names_mut(dir).insert(name.to_vec(), node);
        assert!(before.is_none(), "the name was taken");
        self.node_mut(node).n_links += 1;
        self.node_mut(node).ctime = now;
        self.touch_dir(dir, now);
    }

    /// Takes a name away, with what lies below it where it was the last. Returns the nodes
    /// that died.
    pub(crate) fn unlink(&mut self, dir: NodeId, name: &[u8], now: UnixNanos) -> Vec<NodeId> {
        let Some(node) = self.names_mut(dir).remove(name) else {
            return Vec::new();
        };
        self.touch_dir(dir, now);
        let mut dead = Vec::new();
        self.release(node, now, &mut dead);
        dead
    }

    fn release(&mut self, node: NodeId, now: UnixNanos, dead: &mut Vec<NodeId>) {
        self.node_mut(node).n_links -= 1;
        self.node_mut(node).ctime = now;
        if self.node(node).n_links > 0 {
            return;
        }
        let children: Vec<NodeId> = self
            .names(node)
            .map(|names| names.values().copied().collect())
            .unwrap_or_default();
        for child in children {
            self.release(child, now, dead);
        }
        let ino = self.node(node).ino;
        self.nodes.remove(&node);
        self.free_inos.push(ino);
        dead.push(node);
    }

    /// Moves a name onto a free one.
    pub(crate) fn rename(
        &mut self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        now: UnixNanos,
    ) -> NodeId {
        let node = self.names_mut(from.0).remove(from.1).expect("it is there");
        let before = self.names_mut(to.0).insert(to.1.to_vec(), node);
        assert!(before.is_none(), "the name was taken");
        self.touch_dir(from.0, now);
        self.touch_dir(to.0, now);
        self.node_mut(node).ctime = now;
        node
    }

    /// Gives a file another content.
    pub(crate) fn write(&mut self, node: NodeId, held: Held, now: UnixNanos) {
        let file = self.node_mut(node);
        assert!(
            matches!(file.held, Held::File { .. }),
            "only files are written"
        );
        file.held = held;
        (file.mtime, file.ctime) = (now, now);
    }

    /// Sets mtime, as anybody may.
    pub(crate) fn forge(&mut self, node: NodeId, mtime: UnixNanos, now: UnixNanos) {
        let file = self.node_mut(node);
        (file.mtime, file.ctime) = (mtime, now);
    }

    /// Whether `dir` is `node` or lies below it.
    pub(crate) fn is_within(&self, dir: NodeId, node: NodeId) -> bool {
        dir == node
            || self
                .names(node)
                .is_some_and(|names| names.values().any(|child| self.is_within(dir, *child)))
    }

    /// Every name below a directory: its directory, its name, its path, its node.
    pub(crate) fn below(&self, dir: NodeId) -> Vec<(NodeId, Vec<u8>, Vec<u8>, NodeId)> {
        let mut all = Vec::new();
        self.collect(dir, &[], &mut all);
        all
    }

    fn collect(&self, dir: NodeId, path: &[u8], all: &mut Vec<(NodeId, Vec<u8>, Vec<u8>, NodeId)>) {
        for (name, node) in self.names(dir).into_iter().flatten() {
            let mut at = path.to_vec();
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(name);
            all.push((dir, name.clone(), at.clone(), *node));
            self.collect(*node, &at, all);
        }
    }
}
