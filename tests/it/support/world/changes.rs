//! What everybody else does to the tree, and the hints that come of it.

use super::{Later, MARKER, METADATA, World, base};
use crate::support::tree::{Held, NodeId, OUTSIDE, ROOT};
use chrono::TimeDelta;
use housekeeper::model::hint::Hint;
use housekeeper::model::seen::FileKind;
use housekeeper::model::time::UnixNanos;
use housekeeper::model::watcher::DirKey;
use std::collections::BTreeMap;

impl World {
    /// A name changed: whoever watches its directory gives a hint, or loses it.
    pub(super) fn emit(&mut self, dir: NodeId, name: &[u8]) {
        let hints: Vec<Hint> = self
            .watches
            .values()
            .filter(|watch| watch.node == dir)
            .map(|watch| match watch.key {
                DirKey::BY_PATH => {
                    let path = watch.path.join(name).expect("a name");
                    Hint::Name(path.as_bytes().into())
                }
                dir => Hint::Entry {
                    dir,
                    path: name.into(),
                    name_at: 0,
                },
            })
            .collect();
        for hint in hints {
            let late = *self.dice.pick(&[0, 1, 20, 200]);
            let at = self.after(late);
            let loss = self.loss;
            if self.dice.percent(loss) {
                let at = self.after(400);
                self.hints.push((at, Hint::Lost));
            } else {
                self.hints.push((at, hint));
            }
        }
    }

    /// A directory is no more: its watch ends.
    fn end_watch(&mut self, dead: NodeId) {
        let keys: Vec<DirKey> = self
            .watches
            .values()
            .filter(|watch| watch.node == dead && watch.key != DirKey::BY_PATH)
            .map(|watch| watch.key)
            .collect();
        self.watches.retain(|_, watch| watch.node != dead);
        for dir in keys {
            let at = self.after(20);
            self.hints.push((at, Hint::Ended { dir }));
        }
    }

    pub(super) fn create(&mut self, dir: NodeId, name: &[u8], held: Held) -> NodeId {
        let reuse = self.dice.percent(50);
        let stamp = self.tick();
        let node = self.tree.create(dir, name, held, stamp, reuse);
        self.emit(dir, name);
        node
    }

    /// Every change has a moment of its own.
    pub(super) fn tick(&mut self) -> UnixNanos {
        self.nanos += 1_000;
        self.stamp()
    }

    pub(super) fn unlink(&mut self, dir: NodeId, name: Vec<u8>) {
        let Some(node) = self.tree.child(dir, &name) else {
            return;
        };
        let inside: Vec<Vec<u8>> = self
            .tree
            .names(node)
            .map(|names| names.keys().cloned().collect())
            .unwrap_or_default();
        for name in inside {
            self.unlink(node, name);
        }
        let stamp = self.tick();
        for dead in self.tree.unlink(dir, &name, stamp) {
            self.end_watch(dead);
        }
        self.emit(dir, &name);
    }

    pub(super) fn rename(&mut self, from: (NodeId, Vec<u8>), to: (NodeId, Vec<u8>)) {
        let Some(node) = self.tree.child(from.0, &from.1) else {
            return;
        };
        if self.tree.is_within(to.0, node) || from == to {
            return;
        }
        if let Some(old) = self.tree.child(to.0, &to.1) {
            if self.tree.is_within(from.0, old) {
                return;
            }
            self.unlink(to.0, to.1.clone());
        }
        let stamp = self.tick();
        self.tree.rename((from.0, &from.1), (to.0, &to.1), stamp);
        self.emit(from.0, &from.1);
        self.emit(to.0, &to.1);
    }

    /// Writes through one of the names: the others' directories hear nothing of it. But for
    /// documents, which are read when their own name is hinted at, and by rescans.
    pub(super) fn write_node(&mut self, node: NodeId, held: Held) {
        let mut names = self.tree.below(ROOT);
        names.retain(|(_, _, _, at)| *at == node);
        if names.is_empty() && self.tree.node(node).n_links > 1 {
            return;
        }
        let stamp = self.tick();
        self.tree.write(node, held, stamp);
        if names.is_empty() {
            return;
        }
        if !names
            .iter()
            .any(|(_, name, _, _)| name == METADATA || name == MARKER)
            && !self.rules.layout.is_of_files()
        {
            names = vec![self.dice.pick(&names).clone()];
        }
        for (dir, name, _, _) in names {
            self.emit(dir, &name);
        }
    }

    pub(super) fn dirs(&self) -> Vec<(NodeId, usize)> {
        let below = |top: NodeId, depth: usize| {
            let all = self.tree.below(top).into_iter();
            let dirs = all.filter(|(_, _, _, node)| self.tree.is_dir(*node));
            dirs.map(move |(_, _, path, node)| {
                let slashes = path.iter().filter(|b| **b == b'/').count();
                (node, depth + slashes + 1)
            })
        };
        let mut dirs = vec![(ROOT, 0), (OUTSIDE, 9)];
        dirs.extend(below(ROOT, 0));
        let is_ours = |dir: &NodeId| self.tree.node(*dir).n_links > 0;
        dirs.extend(below(OUTSIDE, 9).filter(|(dir, _)| is_ours(dir) && !self.in_trash(*dir)));
        dirs
    }

    /// Whether the trash holds it: nobody else works there.
    pub(super) fn in_trash(&self, node: NodeId) -> bool {
        let outside = self.tree.names(OUTSIDE).into_iter().flatten();
        outside
            .filter(|(name, _)| name.starts_with(b"trash"))
            .any(|(_, top)| self.tree.is_within(node, *top))
    }

    pub(super) fn some_dir(&mut self) -> (NodeId, usize) {
        let dirs = self.dirs();
        *self.dice.pick(&dirs)
    }

    /// A name that makes sense at a depth.
    pub(super) fn some_name(&mut self, depth: usize) -> Vec<u8> {
        let text: &[&str] = if self.is_catalog() {
            match depth {
                0 => &[
                    "a0.json", "a1.json", "a2.bin", "a3.json", "a4.json", "a5.bin", "note",
                ],
                _ => &["f0", "f1", "a1.json"],
            }
        } else if self.rules.layout.is_of_files() {
            &[
                "a0.json", "a0.wav", "a1.json", "a1.wav", "a1.bin", "a2.json", "a2.wav", "a3.wav",
                "a4.json", "a5.json", "g0", "note",
            ]
        } else {
            let deep = self.rules.layout.spec().sessions == "*/*";
            match (depth, deep) {
                (0, true) => &["g0", "g1", "s0"],
                (0, false) | (1, true) => &[
                    "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "note",
                ],
                _ => &["f0", "f1", "f2", "d0", "d1", "metadata.json", "ok"],
            }
        };
        self.dice.pick(text).as_bytes().to_vec()
    }

    pub(super) fn some_file(&mut self) -> Held {
        let size = *self.dice.pick(&[0, 1, 500, 4_096, 9_000, 20_000]);
        let size = size + self.dice.below(50) as u64;
        Held::File { size, text: None }
    }

    pub(super) fn some_metadata(&mut self) -> Vec<u8> {
        let minutes = self.dice.below(80_000) as i64;
        let created = match self.dice.below(20) {
            0 => "\"soon\"".to_owned(),
            1 => "\"2027-01-01T00:00:00Z\"".to_owned(),
            _ => format!(
                "\"{}\"",
                (base() - TimeDelta::minutes(minutes)).to_rfc3339()
            ),
        };
        let words = [
            "live", "done", "done", "done", "done", "done", "failed", "odd",
        ];
        let state = *self.dice.pick(&words);
        format!("{{\"created_at\":{created},\"state\":\"{state}\"}}").into_bytes()
    }

    /// A name in sight or beside it, with where it lies. Nothing of the trash.
    pub(super) fn some_entry(&mut self) -> Option<(NodeId, Vec<u8>, NodeId)> {
        let mut all = self.tree.below(ROOT);
        if self.dice.percent(25) {
            all = self.tree.below(OUTSIDE);
            all.retain(|(_, _, path, _)| !path.starts_with(b"trash"));
        }
        if all.is_empty() {
            return None;
        }
        let (dir, name, _, node) = self.dice.pick(&all).clone();
        Some((dir, name, node))
    }

    pub(super) fn put(&mut self, dir: NodeId, name: &[u8], held: Held) {
        match self.tree.child(dir, name) {
            Some(node) if self.tree.stat(node).kind == FileKind::File => {
                if let Held::File { .. } = held {
                    return self.write_node(node, held);
                }
                self.unlink(dir, name.to_vec());
                self.create(dir, name, held);
            }
            Some(_) => {
                self.unlink(dir, name.to_vec());
                self.create(dir, name, held);
            }
            None => {
                self.create(dir, name, held);
            }
        }
    }

    /// `mkdir -p` with files in it, all at once.
    pub(super) fn burst(&mut self) {
        let (dir, depth) = if self.dice.percent(70) {
            let all = self.dirs();
            let deep = self.rules.layout.spec().sessions == "*/*";
            let tops: Vec<_> = all
                .into_iter()
                .filter(|(_, depth)| *depth == usize::from(deep))
                .collect();
            if tops.is_empty() {
                (ROOT, 0)
            } else {
                *self.dice.pick(&tops)
            }
        } else {
            self.some_dir()
        };
        let name = self.some_name(depth);
        if self.tree.child(dir, &name).is_some() {
            return;
        }
        let mut at = self.create(dir, &name, Held::Dir(BTreeMap::new()));
        if self.dice.percent(95) {
            let text = Some(self.some_metadata());
            self.create(at, METADATA, Held::File { size: 0, text });
            self.create(
                at,
                MARKER,
                Held::File {
                    size: 0,
                    text: None,
                },
            );
        }
        for _ in 0..self.dice.below(4) {
            let file = self.some_file();
            self.create(at, b"f0", file);
            at = self.create(at, b"d0", Held::Dir(BTreeMap::new()));
        }
    }

    pub(super) fn write_metadata(&mut self) {
        let (dir, _) = self.some_dir();
        let text = if self.is_catalog() {
            self.some_catalogue()
        } else {
            self.some_metadata()
        };
        let dir = if self.is_catalog() { ROOT } else { dir };
        let name = if self.rules.layout.is_of_files() {
            format!("a{}.json", self.dice.below(6)).into_bytes()
        } else {
            METADATA.to_vec()
        };
        let file = |text: &[u8]| Held::File {
            size: 0,
            text: Some(text.to_vec()),
        };
        match self.dice.below(10) {
            0 => self.put(dir, &name, file(b"{\"created_at\":")),
            1 | 2 => {
                let half = &text[..text.len() / 2];
                self.put(dir, &name, file(half));
                if let Some(node) = self.tree.child(dir, &name) {
                    let wait = *self.dice.pick(&[20, 700, 3_000]);
                    let at = self.after(wait);
                    self.later.push((at, Later::Complete(node, text)));
                }
            }
            _ => self.put(dir, &name, file(&text)),
        }
    }

    pub(super) fn some_catalogue(&mut self) -> Vec<u8> {
        for _ in 0..1 + self.dice.below(3) {
            let id = self.dice.below(7);
            if self.dice.percent(25) {
                self.listed.remove(&format!("a{id}"));
                continue;
            }
            let format = if matches!(id, 2 | 5) { "bin" } else { "json" };
            let metadata = String::from_utf8(self.some_metadata()).expect("text");
            let entry = format!("{{\"format\":\"{format}\",{}", &metadata[1..]);
            self.listed.insert(format!("a{id}"), entry);
        }
        let entries = self.listed.iter();
        let entries: Vec<_> = entries
            .map(|(id, entry)| format!("\"{id}\":{entry}"))
            .collect();
        format!("{{{}}}", entries.join(",")).into_bytes()
    }

    /// A file that was touched within the last minute changes without a hint, as one that is
    /// kept open may.
    fn change_silently(&mut self) {
        let mut files = self.tree.below(ROOT);
        let now = self.stamp().0;
        files.retain(|(_, name, _, node)| {
            let stat = self.tree.stat(*node);
            let age = now - stat.mtime.max(stat.ctime).0;
            stat.kind == FileKind::File
                && (0..60_000_000_000).contains(&age)
                && name != METADATA
                && name != MARKER
        });
        if files.is_empty() {
            return;
        }
        let (_, _, _, node) = self.dice.pick(&files).clone();
        let file = self.some_file();
        let stamp = self.tick();
        self.tree.write(node, file, stamp);
    }

    /// One random change.
    pub(super) fn change(&mut self) {
        if self.silent && self.dice.percent(15) {
            return self.change_silently();
        }
        match self.dice.below(30) {
            0..=5 => self.burst(),
            6..=10 => {
                let (dir, depth) = self.some_dir();
                let name = self.some_name(depth);
                let file = self.some_file();
                self.put(dir, &name, file);
            }
            11..=15 => self.write_metadata(),
            16..=18 => {
                if let Some((dir, name, node)) = self.some_entry() {
                    let file = self.some_file();
                    if self.tree.stat(node).kind == FileKind::File && name != METADATA {
                        self.put(dir, &name, file);
                    }
                }
            }
            19..=22 => self.move_something(),
            23..=24 => {
                if let Some((dir, name, _)) = self.some_entry() {
                    self.unlink(dir, name);
                }
            }
            25..=26 => self.link_something(),
            27 => {
                let (dir, depth) = self.some_dir();
                let name = self.some_name(depth);
                self.put(dir, &name, Held::Symlink);
            }
            28 => self.turn_over(),
            _ => {
                if let Some((dir, name, node)) = self.some_entry() {
                    let mtime = self.dice.below(2_000_000_000) as i64;
                    let stamp = self.tick();
                    self.tree.forge(node, UnixNanos::new(mtime, 0), stamp);
                    self.emit(dir, &name);
                }
            }
        }
    }

    pub(super) fn move_something(&mut self) {
        let Some((dir, name, _)) = self.some_entry() else {
            return;
        };
        let (to, depth) = self.some_dir();
        let to_name = if self.dice.percent(30) {
            name.clone()
        } else {
            self.some_name(depth)
        };
        let (from, to) = ((dir, name), (to, to_name));
        self.rename(from.clone(), to.clone());
        if self.dice.percent(25) {
            self.idle_a_little();
            self.rename(to, from);
        }
    }

    /// Gives a file somewhere one more name.
    pub(crate) fn link_something(&mut self) {
        let Some((_, _, node)) = self.some_entry() else {
            return;
        };
        if self.tree.stat(node).kind != FileKind::File {
            return;
        }
        let (to, depth) = self.some_dir();
        let name = self.some_name(depth);
        if self.tree.child(to, &name).is_none() {
            let stamp = self.tick();
            self.tree.link(to, &name, node, stamp);
            self.emit(to, &name);
        }
    }

    /// A file becomes a directory, or the other way round.
    pub(super) fn turn_over(&mut self) {
        let Some((dir, name, node)) = self.some_entry() else {
            return;
        };
        let was_dir = self.tree.is_dir(node);
        self.unlink(dir, name.clone());
        if was_dir && self.dice.percent(50) {
            let file = self.some_file();
            self.create(dir, &name, file);
        } else {
            let at = self.create(dir, &name, Held::Dir(BTreeMap::new()));
            let file = self.some_file();
            self.create(at, b"f1", file);
        }
    }
}
