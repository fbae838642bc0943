//! A seeded world around one engine: a tree that changes, hints that are lost, late, repeated
//! and out of order, walks and reads that answer late, and an executor that sometimes refuses.
//!
//! [`World::step`] does one random thing and checks what must hold at any time;
//! [`World::rest`] lets everything arrive and compares the index with a recount of the tree.
//! All randomness comes from the seed.

use super::tree::{Held, NodeId, OUTSIDE, ROOT, Tree};
use chrono::TimeDelta;
use housekeeper::engine::{
    CatalogTrouble, Command, Effect, Engine, Input, ReadOf, ReadOrder, Rules,
};
use housekeeper::index::Standing;
use housekeeper::layout::spec::{Kind, LayoutSpec, Source, StateSpec};
use housekeeper::layout::{Layout, Role, catalog};
use housekeeper::model::bytes::{Bytes, Tally};
use housekeeper::model::fact::Fact;
use housekeeper::model::hint::Hint;
use housekeeper::model::listing::{Listing, ScanId, ScanOrder, Unlisted, Walked, Watched};
use housekeeper::model::path::RelPath;
use housekeeper::model::place::Look;
use housekeeper::model::plan::{Because, Body, Proof, Victim};
use housekeeper::model::report::{AsideName, LockTry, Outcome, Removed, Report, Skip, Unlist};
use housekeeper::model::seen::{FileKind, Seen};
use housekeeper::model::session::{Content, Document, Key, Verdict};
use housekeeper::model::time::{Now, Tick, Time, UnixNanos};
use housekeeper::policy::limits::{Limits, Protect};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const METADATA: &[u8] = b"metadata.json";
const MARKER: &[u8] = b"ok";

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    /// `n` times out of a hundred.
    pub(crate) fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

#[derive(Debug)]
struct Watch {
    node: NodeId,
    path: RelPath,
}

#[derive(Debug)]
enum Job {
    /// A name in a directory that was listed; without one the walk's beginning.
    Open(RelPath, Option<(NodeId, Vec<u8>)>),
    /// The watch it had is off, the new one is not placed yet.
    Watch(RelPath, NodeId),
    List {
        path: RelPath,
        node: NodeId,
        stat: housekeeper::model::seen::Stat,
        watched: Watched,
        names: VecDeque<Vec<u8>>,
        first: bool,
    },
}

#[derive(Debug)]
struct Walk {
    scan: ScanId,
    jobs: Vec<Job>,
    sent: VecDeque<Walked>,
    ended: bool,
}

/// What runs beside the engine and answers later.
#[derive(Debug)]
enum Later {
    Reap(Vec<AsideName>),
    InPlace(Victim),
    Unlist(Vec<Key>),
    /// Metadata that was half written.
    Complete(NodeId, Vec<u8>),
}

/// What lies in the tree, counted by hand.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) counted: Tally,
    pub(crate) unowned: Tally,
    pub(crate) orphans: Tally,
    /// By key: what it holds and when it was created.
    pub(crate) sessions: BTreeMap<Vec<u8>, (Tally, Option<Time>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Session(Vec<u8>),
    Orphan,
    Catalogue,
    Unowned,
}

#[derive(Debug)]
pub(crate) struct World {
    dice: Dice,
    nanos: u64,
    tree: Tree,
    pub(crate) engine: Engine,
    rules: Rules,
    watches: BTreeMap<u64, Watch>,
    next_watch: u64,
    /// Directories kept open for looks, by slot.
    open: BTreeMap<u32, NodeId>,
    hints: Vec<(u64, Hint)>,
    walks: Vec<Walk>,
    reads: Vec<ReadOrder>,
    answers: Vec<Input>,
    later: Vec<(u64, Later)>,
    locked: bool,
    /// Victims that were passed over lately.
    skipped: BTreeMap<Key, u64>,
    in_place: BTreeSet<Key>,
    /// The totals of a scan that ended in this chain of effects.
    fresh: bool,
    /// Nothing changes but by the engine, and everything has arrived.
    calm: bool,
    next_name: u64,
    listed: BTreeMap<String, String>,
    pub(crate) n_removed: u64,
    pub(crate) n_remembered: u64,
    pub(crate) told: Vec<Fact>,
    /// Folded over all inputs and effects: equal for equal seeds.
    pub(crate) trace: u64,
    /// Chances of loss, of failing watches, and of refusals, in percent.
    loss: usize,
    blind: usize,
    refusal: usize,
    is_traced: bool,
}

#[expect(clippy::print_stdout, reason = "for whoever looks at one seed")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

fn base() -> Time {
    "2026-12-01T00:00:00Z".parse().expect("a time")
}

fn states() -> StateSpec {
    StateSpec {
        key: "/state".to_owned(),
        active: vec!["live".to_owned()],
        complete: vec!["done".to_owned()],
        failed: Vec::new(),
    }
}

fn layout_for(dice: &mut Dice, kind: Kind) -> Layout {
    let mut spec = LayoutSpec {
        kind,
        state: Some(states()),
        ..LayoutSpec::default()
    };
    match kind {
        Kind::Catalog => spec.blobs = vec!["{id}.{format}".to_owned()],
        Kind::Directories => {
            if dice.percent(30) {
                spec.sessions = "*/*".to_owned();
            }
            if dice.percent(20) {
                spec.marker = Some(String::from_utf8_lossy(MARKER).into_owned());
            }
            if dice.percent(20) {
                spec.required = false;
                spec.created_at.push(Source::Birth);
            }
        }
    }
    Layout::new(spec).expect("a good layout")
}

fn rules_for(dice: &mut Dice, kind: Kind) -> Rules {
    let max = 5_000 + dice.below(50_000) as u64;
    let limits = Limits {
        max_size: Some(Bytes(max)),
        prune_to: dice
            .percent(40)
            .then(|| Bytes(max * (3 + dice.below(7) as u64) / 10)),
        max_count: dice.percent(20).then(|| 3 + dice.below(5) as u64),
        max_age: dice
            .percent(10)
            .then(|| Duration::from_secs(86_400 * (1 + dice.below(40) as u64))),
        ..Limits::default()
    };
    let mut protect = Protect {
        quiet: Duration::from_millis(*dice.pick(&[0, 0, 50, 200, 5_000])),
        ..Protect::default()
    };
    if dice.percent(30) {
        let glob = globset::Glob::new("*3").expect("a good glob");
        protect.keep = globset::GlobSet::builder()
            .add(glob)
            .build()
            .expect("a good set");
    }
    Rules {
        layout: Arc::new(layout_for(dice, kind)),
        limits,
        protect,
        enforce: true,
        group: None,
        rescan_interval: Duration::from_secs(*dice.pick(&[7, 3600, 3600, 3600])),
        first_start_enforce: false,
    }
}

/// Plain sessions under a limit, nothing quiet.
pub(crate) fn bare_rules(max_size: u64) -> Rules {
    let layout = LayoutSpec {
        state: Some(states()),
        ..LayoutSpec::default()
    };
    Rules {
        layout: Arc::new(Layout::new(layout).expect("a good layout")),
        limits: Limits {
            max_size: Some(Bytes(max_size)),
            ..Limits::default()
        },
        protect: Protect {
            quiet: Duration::ZERO,
            ..Protect::default()
        },
        enforce: true,
        group: None,
        rescan_interval: Duration::from_secs(3600),
        first_start_enforce: false,
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let kind = if seed % 3 == 2 {
            Kind::Catalog
        } else {
            Kind::Directories
        };
        let rules = rules_for(&mut dice, kind);
        let mut world = Self::with_rules(dice, rules, true);
        world.loss = *world.dice.pick(&[0, 0, 2, 10]);
        world.blind = *world.dice.pick(&[0, 0, 0, 5]);
        world.refusal = *world.dice.pick(&[0, 10, 40]);
        world
    }

    /// A world without mishaps.
    pub(crate) fn with_rules(dice: Dice, rules: Rules, known: bool) -> Self {
        Self {
            dice,
            nanos: 1_000_000_000,
            tree: Tree::new(base().into()),
            engine: Engine::new(rules.clone(), known, []),
            rules,
            watches: BTreeMap::new(),
            next_watch: 0,
            open: BTreeMap::new(),
            hints: Vec::new(),
            walks: Vec::new(),
            reads: Vec::new(),
            answers: Vec::new(),
            later: Vec::new(),
            locked: false,
            skipped: BTreeMap::new(),
            in_place: BTreeSet::new(),
            fresh: false,
            calm: false,
            next_name: 0,
            listed: BTreeMap::new(),
            n_removed: 0,
            told: Vec::new(),
            trace: 0,
            loss: 0,
            blind: 0,
            refusal: 0,
            n_remembered: 0,
            is_traced: std::env::var_os("WORLD_TRACE").is_some(),
        }
    }

    /// A finished session of so many bytes, with its metadata. A greater `minute` is newer.
    pub(crate) fn add_session(&mut self, name: &str, minute: i64, bytes: u64) {
        self.add("done", name, minute, bytes);
    }

    pub(crate) fn add_active_session(&mut self, name: &str, minute: i64, bytes: u64) {
        self.add("live", name, minute, bytes);
    }

    fn add(&mut self, state: &str, path: &str, minute: i64, bytes: u64) {
        let created = base() - TimeDelta::minutes(1_000 - minute);
        let created = created.to_rfc3339();
        let text = format!("{{\"created_at\":\"{created}\",\"state\":\"{state}\"}}");
        let path = RelPath::new(path.as_bytes()).expect("a path");
        let parent = path.parent().expect("not the root");
        let parent = self.tree.at(parent.as_bytes()).expect("a directory");
        let name = path.name().expect("not the root");
        let dir = self.create(parent, name, Held::Dir(BTreeMap::new()));
        let size = bytes - text.len() as u64;
        self.create(dir, b"f0", Held::File { size, text: None });
        let text = Some(text.into_bytes());
        self.create(dir, METADATA, Held::File { size: 0, text });
    }

    fn layout(&self) -> Arc<Layout> {
        self.rules.layout.clone()
    }

    fn is_catalog(&self) -> bool {
        self.rules.layout.kind() == Kind::Catalog
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            wall: base() + TimeDelta::nanoseconds(self.nanos as i64),
            tick: Tick(Duration::from_nanos(self.nanos)),
        }
    }

    fn stamp(&self) -> UnixNanos {
        self.now().wall.into()
    }

    fn after(&mut self, most_ms: usize) -> u64 {
        self.nanos + self.dice.below(most_ms * 1_000_000 + 1) as u64
    }

    // ---- the shell -------------------------------------------------------------------

    /// Hands one input over and carries out all that follows from it, first come first served.
    pub(crate) fn give(&mut self, input: Input) {
        self.fresh = false;
        let mut todo = VecDeque::new();
        self.handle(input, &mut todo);
        while let Some(effect) = todo.pop_front() {
            if let Some(answer) = self.carry_out(effect) {
                self.handle(answer, &mut todo);
            }
        }
        assert!(!self.locked || self.engine.is_pruning(), "the lock is kept");
    }

    fn fold(&mut self, text: &str) {
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    fn handle(&mut self, input: Input, todo: &mut VecDeque<Effect>) {
        let mut out = Vec::new();
        if self.is_traced {
            say(&format!("{:?} <- {input:?}", self.now().tick.0));
        }
        self.engine.handle(self.now(), input, &mut out);
        for effect in &out {
            if self.is_traced {
                say(&format!("    -> {effect:?}"));
            }
            if !matches!(effect, Effect::Tell(_)) {
                self.fold(&format!("{effect:?}"));
            }
            if let Effect::Tell(Fact::ScanDone { .. }) = effect {
                self.fresh = true;
            }
        }
        todo.extend(out);
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Look(look) => {
                let seen = self.look(&look);
                return Some(Input::Looked(look, seen));
            }
            Effect::Forget(slot) => {
                self.open.remove(&slot);
            }
            Effect::Unwatch(watches) => self.unwatch(&watches),
            Effect::Scan(order) => self.begin_walk(order),
            Effect::Read(order) => self.reads.push(order),
            Effect::Lock => return Some(Input::Lock(self.lock())),
            Effect::Unlock => assert!(std::mem::take(&mut self.locked), "unlocked twice"),
            Effect::Remove(victim) => {
                let outcome = self.remove(&victim);
                let report = Report {
                    victim: *victim,
                    outcome,
                };
                return Some(Input::Report(Box::new(report)));
            }
            Effect::Reap { aside, watches } => {
                self.unwatch(&watches);
                let at = self.after(500);
                self.later.push((at, Later::Reap(aside)));
            }
            Effect::RemoveInPlace(victim) => {
                let at = self.after(500);
                self.later.push((at, Later::InPlace(*victim)));
            }
            Effect::Unlist(keys) => {
                let at = self.after(500);
                self.later.push((at, Later::Unlist(keys)));
            }
            Effect::Remember => self.n_remembered += 1,
            Effect::Tell(fact) => {
                if self.told.len() < 10_000 {
                    self.told.push(fact);
                }
            }
        }
        None
    }

    /// As the shell looks: in the directory it holds open; what is gone there is asked for
    /// again by path.
    fn look(&mut self, look: &Look) -> Seen {
        let slot = look.dir.slot;
        if let Some(dir) = self.open.get(&slot)
            && let Some(node) = self.tree.child(*dir, look.name())
        {
            return Seen::There(self.tree.stat(node));
        }
        self.open.remove(&slot);
        let path = self.engine.index().path(look.dir);
        let dir = path.and_then(|path| self.tree.at(path.as_bytes()));
        let Some(dir) = dir.filter(|dir| self.tree.is_dir(*dir)) else {
            return Seen::Gone;
        };
        self.open.insert(slot, dir);
        match self.tree.child(dir, look.name()) {
            Some(node) => Seen::There(self.tree.stat(node)),
            None => Seen::Gone,
        }
    }

    fn lock(&mut self) -> LockTry {
        assert!(!self.locked, "locked twice");
        if self.dice.percent(self.refusal) {
            if self.dice.percent(30) {
                return LockTry::Failed {
                    operation: "open",
                    errno: 5,
                };
            }
            return LockTry::Busy(None);
        }
        self.locked = true;
        LockTry::Taken
    }

    fn unwatch(&mut self, watches: &[(RelPath, u64)]) {
        for (path, generation) in watches {
            if self
                .watches
                .get(generation)
                .is_some_and(|w| w.path == *path)
            {
                self.watches.remove(generation);
            }
        }
    }

    // ---- walks -----------------------------------------------------------------------

    fn begin_walk(&mut self, order: ScanOrder) {
        self.walks.push(Walk {
            scan: order.id,
            jobs: vec![Job::Open(order.at, None)],
            sent: VecDeque::new(),
            ended: false,
        });
    }

    /// Lets a walk do the next bit of its work.
    fn walk(&mut self) {
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

    fn work(&mut self, walk: &mut Walk, job: Job) {
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
                        self.watches.retain(|_, w| w.node != node && w.path != path);
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

    fn watch(&mut self, path: &RelPath, node: NodeId) -> Option<Watched> {
        let there = self.tree.at(path.as_bytes())?;
        if there != node || self.dice.percent(self.blind) {
            return self.tree.is_alive(node).then_some(Watched::Failed);
        }
        self.watches
            .retain(|_, w| w.node != node && w.path != *path);
        self.next_watch += 1;
        let watch = Watch {
            node,
            path: path.clone(),
        };
        self.watches.insert(self.next_watch, watch);
        Some(Watched::Placed(self.next_watch))
    }

    /// One chunk of at most three names.
    fn list(&mut self, walk: &mut Walk, job: Job) {
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

    // ---- reads -----------------------------------------------------------------------

    fn document(&self, dir: Option<NodeId>, name: &[u8]) -> Document {
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

    fn documents(&self, dir: Option<NodeId>) -> Vec<Document> {
        let layout = self.layout();
        let names = layout.documents().iter();
        names.map(|name| self.document(dir, name)).collect()
    }

    fn read(&mut self, order: ReadOrder) {
        let layout = self.layout();
        let now = self.now().wall;
        let dir = self.tree.at(order.dir.as_bytes());
        let of = match order.session {
            Some((session, key)) => {
                let documents = self.documents(dir);
                let inode = dir.map(|dir| self.tree.stat(dir));
                let facts = layout.facts(&key, inode.as_ref(), &documents, now);
                let proofs = documents.into_iter().map(|document| Proof {
                    name: document.name,
                    signature: document.signature,
                });
                ReadOf::Session {
                    session,
                    facts,
                    proofs: proofs.collect(),
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

    // ---- removal ---------------------------------------------------------------------

    fn quiet(&self) -> i64 {
        self.rules.protect.quiet.as_nanos() as i64
    }

    /// Whether a moment lies within `quiet`.
    fn is_quiet_at(&self, at: UnixNanos) -> bool {
        self.stamp().0 - at.0 < self.quiet()
    }

    /// What must hold when the engine asks for a removal, whatever the disk says then.
    fn check_order(&self, victim: &Victim) {
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
        for (id, _, older) in index.oldest_first() {
            if id == victim.session {
                break;
            }
            let is_held = older.standing != Standing::Removable
                || self.is_quiet_at(older.written)
                || self.in_place.contains(&older.key)
                || self.skipped.contains_key(&older.key);
            assert!(is_held, "{:?} goes before {:?}", victim.key, older.key);
        }
    }

    /// What must hold of the tree itself when a removal is carried out.
    fn check_truth(&self, victim: &Victim) {
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

    fn is_active(&self, key: &[u8]) -> bool {
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
        let dir = self.tree.at(key);
        let inode = dir.map(|dir| self.tree.stat(dir));
        let facts = layout.facts(key, inode.as_ref(), &self.documents(dir), now);
        facts.phase.protects() || facts.verdict != Verdict::Certain
    }

    fn remove(&mut self, victim: &Victim) -> Outcome {
        self.check_order(victim);
        let outcome = self.try_remove(victim);
        if let Outcome::Skipped(_) | Outcome::Gone = outcome {
            let until = self.nanos + 10_000_000_000;
            self.skipped.insert(victim.key.clone(), until);
        }
        outcome
    }

    fn try_remove(&mut self, victim: &Victim) -> Outcome {
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
        self.n_removed += 1;
        if self.dice.percent(refusal / 4) {
            self.in_place.insert(victim.key.clone());
            return Outcome::InPlace;
        }
        let mut aside = Vec::new();
        for (dir, name) in names {
            self.next_name += 1;
            let in_trash = format!("trash{}", self.next_name);
            let to = (OUTSIDE, in_trash.as_bytes());
            let stamp = self.stamp();
            self.tree.rename((dir, &name), to, stamp);
            self.emit(dir, &name);
            aside.push(AsideName(in_trash));
        }
        Outcome::Aside(aside)
    }

    /// As the executor checks: inodes, signatures, quiet. Gives the names to rename.
    fn recheck(&self, victim: &Victim) -> Result<Vec<(NodeId, Vec<u8>)>, Outcome> {
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
            Body::Blobs { blobs, catalogue } => {
                for (name, id) in blobs {
                    let Some(node) = self.tree.child(ROOT, name) else {
                        continue;
                    };
                    if self.tree.stat(node).id != *id {
                        return Err(Outcome::Skipped(Skip::Replaced));
                    }
                    grip.push(node);
                    names.push((ROOT, name.to_vec()));
                }
                if names.is_empty() {
                    return Err(Outcome::Gone);
                }
                vec![catalogue]
            }
        };
        let dir = self.tree.at(victim.path.as_bytes());
        for proof in proofs {
            let document = self.document(dir, &proof.name);
            if document.signature != proof.signature || document.content == Content::NotAFile {
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

    // ---- what runs beside ------------------------------------------------------------

    fn finish_later(&mut self, later: Later) {
        match later {
            Later::Reap(aside) => {
                for name in aside {
                    self.unlink(OUTSIDE, name.0.clone().into_bytes());
                    self.give(Input::Removed(Removed::Trash {
                        aside: name,
                        bytes: 0,
                        left: Vec::new(),
                    }));
                }
            }
            Later::InPlace(victim) => self.finish_in_place(&victim),
            Later::Unlist(keys) => {
                let result = self.unlist(&keys);
                self.give(Input::Removed(Removed::Unlisted { keys, result }));
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

    fn finish_in_place(&mut self, victim: &Victim) {
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
                Body::Blobs { blobs, .. } => {
                    for (name, _) in blobs {
                        self.unlink(ROOT, name.to_vec());
                    }
                }
            }
        }
        self.in_place.remove(&victim.key);
        if !left.is_empty() {
            let until = self.nanos + 10_000_000_000;
            self.skipped.insert(victim.key.clone(), until);
        }
        let key = victim.key.clone();
        self.give(Input::Removed(Removed::InPlace { key, left }));
    }

    fn unlist(&mut self, keys: &[Key]) -> Unlist {
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

    // ---- changes ---------------------------------------------------------------------

    /// A name changed: whoever watches its directory gives a hint, or loses it.
    fn emit(&mut self, dir: NodeId, name: &[u8]) {
        let paths: Vec<RelPath> = self
            .watches
            .values()
            .filter(|watch| watch.node == dir)
            .map(|watch| watch.path.join(name).expect("a name"))
            .collect();
        for path in paths {
            let late = *self.dice.pick(&[0, 1, 20, 200]);
            let at = self.after(late);
            let loss = self.loss;
            if self.dice.percent(loss) {
                let at = self.after(400);
                self.hints.push((at, Hint::Lost));
            } else {
                self.hints.push((at, Hint::Name(path.as_bytes().into())));
            }
        }
    }

    fn create(&mut self, dir: NodeId, name: &[u8], held: Held) -> NodeId {
        let reuse = self.dice.percent(50);
        let stamp = self.tick();
        let node = self.tree.create(dir, name, held, stamp, reuse);
        self.emit(dir, name);
        node
    }

    /// Every change has a moment of its own.
    fn tick(&mut self) -> UnixNanos {
        self.nanos += 1_000;
        self.stamp()
    }

    fn unlink(&mut self, dir: NodeId, name: Vec<u8>) {
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
            self.watches.retain(|_, watch| watch.node != dead);
        }
        self.emit(dir, &name);
    }

    fn rename(&mut self, from: (NodeId, Vec<u8>), to: (NodeId, Vec<u8>)) {
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
    fn write_node(&mut self, node: NodeId, held: Held) {
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
        {
            names = vec![self.dice.pick(&names).clone()];
        }
        for (dir, name, _, _) in names {
            self.emit(dir, &name);
        }
    }

    fn dirs(&self) -> Vec<(NodeId, usize)> {
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
    fn in_trash(&self, node: NodeId) -> bool {
        let outside = self.tree.names(OUTSIDE).into_iter().flatten();
        outside
            .filter(|(name, _)| name.starts_with(b"trash"))
            .any(|(_, top)| self.tree.is_within(node, *top))
    }

    fn some_dir(&mut self) -> (NodeId, usize) {
        let dirs = self.dirs();
        *self.dice.pick(&dirs)
    }

    /// A name that makes sense at a depth.
    fn some_name(&mut self, depth: usize) -> Vec<u8> {
        let text: &[&str] = if self.is_catalog() {
            match depth {
                0 => &[
                    "a0.json", "a1.json", "a2.bin", "a3.json", "a4.json", "a5.bin", "note",
                ],
                _ => &["f0", "f1", "a1.json"],
            }
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

    fn some_file(&mut self) -> Held {
        let size = *self.dice.pick(&[0, 1, 500, 4_096, 9_000, 20_000]);
        let size = size + self.dice.below(50) as u64;
        Held::File { size, text: None }
    }

    fn some_metadata(&mut self) -> Vec<u8> {
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
            "live", "done", "done", "done", "done", "done", "done", "odd",
        ];
        let state = *self.dice.pick(&words);
        format!("{{\"created_at\":{created},\"state\":\"{state}\"}}").into_bytes()
    }

    /// A name in sight or beside it, with where it lies. Nothing of the trash.
    fn some_entry(&mut self) -> Option<(NodeId, Vec<u8>, NodeId)> {
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

    fn put(&mut self, dir: NodeId, name: &[u8], held: Held) {
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
    fn burst(&mut self) {
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

    fn write_metadata(&mut self) {
        let (dir, _) = self.some_dir();
        let text = if self.is_catalog() {
            self.some_catalogue()
        } else {
            self.some_metadata()
        };
        let dir = if self.is_catalog() { ROOT } else { dir };
        let file = |text: &[u8]| Held::File {
            size: 0,
            text: Some(text.to_vec()),
        };
        match self.dice.below(10) {
            0 => self.put(dir, METADATA, file(b"{\"created_at\":")),
            1 | 2 => {
                let half = &text[..text.len() / 2];
                self.put(dir, METADATA, file(half));
                if let Some(node) = self.tree.child(dir, METADATA) {
                    let wait = *self.dice.pick(&[20, 700, 3_000]);
                    let at = self.after(wait);
                    self.later.push((at, Later::Complete(node, text)));
                }
            }
            _ => self.put(dir, METADATA, file(&text)),
        }
    }

    fn some_catalogue(&mut self) -> Vec<u8> {
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

    /// One random change.
    fn change(&mut self) {
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

    fn move_something(&mut self) {
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
    fn turn_over(&mut self) {
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

    // ---- time and delivery -----------------------------------------------------------

    /// Lets time pass; what the engine wants to be woken for happens on the way.
    pub(crate) fn pass(&mut self, wait: Duration) {
        let end = self.nanos + wait.as_nanos() as u64;
        let mut n_wakes = 0;
        while let Some(at) = self.engine.wake_at(self.now()) {
            let at = at.0.as_nanos() as u64;
            if at > end {
                break;
            }
            n_wakes = if at > self.nanos { 0 } else { n_wakes + 1 };
            assert!(n_wakes < 5, "wakes again and again without time passing");
            self.nanos = self.nanos.max(at);
            self.give(Input::Wake);
        }
        self.nanos = end;
        let now = self.nanos;
        self.skipped.retain(|_, until| *until > now);
    }

    fn idle_a_little(&mut self) {
        if self.dice.percent(50) {
            self.deliver();
        }
    }

    /// One thing that is under way goes on.
    fn deliver(&mut self) {
        match self.dice.below(8) {
            0..=2 => self.deliver_hints(),
            3 | 4 => {
                for _ in 0..1 + self.dice.below(12) {
                    self.walk();
                }
            }
            5 => self.deliver_walked(),
            6 => {
                if !self.reads.is_empty() {
                    let at = self.dice.below(self.reads.len());
                    let order = self.reads.swap_remove(at);
                    self.read(order);
                } else if !self.answers.is_empty() {
                    let at = self.dice.below(self.answers.len());
                    let answer = self.answers.swap_remove(at);
                    self.give(answer);
                }
            }
            _ => {
                let now = self.nanos;
                if let Some(at) = self.later.iter().position(|(due, _)| *due <= now) {
                    let (_, later) = self.later.remove(at);
                    self.finish_later(later);
                }
            }
        }
    }

    fn deliver_hints(&mut self) {
        for _ in 0..1 + self.dice.below(8) {
            let now = self.nanos;
            let due: Vec<usize> = (0..self.hints.len())
                .filter(|at| self.hints[*at].0 <= now)
                .collect();
            if due.is_empty() {
                break;
            }
            let at = *self.dice.pick(&due);
            let hint = self.hints[at].1.clone();
            if !self.dice.percent(10) {
                self.hints.swap_remove(at);
            }
            self.give(Input::Hint(hint));
        }
        if self.dice.percent(50) {
            self.give(Input::Drained);
        }
    }

    fn deliver_walked(&mut self) {
        if self.walks.is_empty() {
            return;
        }
        let at = self.dice.below(self.walks.len());
        for _ in 0..1 + self.dice.below(12) {
            let Some(walked) = self.walks[at].sent.pop_front() else {
                break;
            };
            let ended = matches!(walked, Walked::End { .. });
            self.give(Input::Walked(walked));
            if ended {
                self.walks.remove(at);
                break;
            }
        }
    }

    /// One random thing.
    pub(crate) fn step(&mut self) {
        let wait = match self.dice.below(200) {
            0..=2 => 30_000,
            3..=8 => 1_500,
            9..=40 => 40,
            _ => 1,
        };
        let wait = self.dice.below(wait * 1_000) as u64;
        self.pass(Duration::from_micros(wait));
        match self.dice.below(100) {
            0..=24 => self.change(),
            30 => self.give(Input::Command(Command::Rescan)),
            _ => self.deliver(),
        }
    }

    fn is_under_way(&self) -> bool {
        !(self.hints.is_empty()
            && self.walks.is_empty()
            && self.reads.is_empty()
            && self.answers.is_empty()
            && self.later.is_empty())
    }

    /// Nothing changes any more and everything arrives, until only time is left.
    pub(crate) fn rest(&mut self) {
        self.refusal = 0;
        self.loss = 0;
        if std::mem::take(&mut self.blind) > 0 {
            self.give(Input::Command(Command::Rescan));
        }
        self.settle();
        self.pass(Duration::from_secs(100));
        self.settle();
        assert!(self.engine.is_settled(), "it comes to rest");
        assert!(!self.engine.is_pruning(), "pruning comes to an end");
        self.give(Input::Drained);
    }

    /// Moves a name, whatever its hints say and whenever they come.
    pub(crate) fn move_name(&mut self, from: &str, to: &str) {
        let split = |path: &str| {
            let path = RelPath::new(path.as_bytes()).expect("a path");
            let dir = path.parent().expect("not the root");
            let dir = self.tree.at(dir.as_bytes()).expect("a directory");
            (dir, path.name().expect("not the root").to_vec())
        };
        let (from, to) = (split(from), split(to));
        self.rename(from, to);
    }

    /// Moves a name in the root out of sight, or back.
    pub(crate) fn hide(&mut self, name: &str) {
        let name = name.as_bytes().to_vec();
        self.rename((ROOT, name.clone()), (OUTSIDE, name));
    }

    pub(crate) fn show(&mut self, name: &str) {
        let name = name.as_bytes().to_vec();
        self.rename((OUTSIDE, name.clone()), (ROOT, name));
    }

    /// Makes a file in a directory that is hidden.
    pub(crate) fn write_hidden(&mut self, dir: &str, name: &str, size: u64) {
        let dir = self.tree.child(OUTSIDE, dir.as_bytes()).expect("hidden");
        self.create(dir, name.as_bytes(), Held::File { size, text: None });
    }

    /// Makes a directory in the root.
    pub(crate) fn add_dir(&mut self, name: &str) {
        self.create(ROOT, name.as_bytes(), Held::Dir(BTreeMap::new()));
    }

    /// Delivers the hints for this path and forgets them.
    pub(crate) fn deliver_for(&mut self, path: &str) {
        let wanted = Hint::Name(path.as_bytes().into());
        self.hints.retain(|(_, hint)| *hint != wanted);
        self.give(Input::Hint(wanted));
    }

    /// Everything that is under way arrives.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            if !self.is_under_way() && self.engine.is_settled() && !self.engine.is_pruning() {
                return;
            }
            self.pass(Duration::from_millis(5));
            self.deliver();
        }
        panic!("it does not come to rest");
    }

    /// Once at rest: pruning with nobody else at work must be right to the byte.
    pub(crate) fn prune_calmly(&mut self) {
        self.calm = true;
        // Walks that saw the victims and tell of them when they are gone.
        let names: Vec<Vec<u8>> = self
            .tree
            .names(ROOT)
            .into_iter()
            .flatten()
            .map(|(n, _)| n.clone())
            .collect();
        for name in names {
            self.give(Input::Hint(Hint::Name(name.into())));
        }
        for _ in 0..300 {
            self.walk();
        }
        let used = self.recount().counted.bytes(self.rules.limits.measure);
        self.rules.limits.max_size = Some(Bytes(used.0 / 2 + 1));
        self.rules.limits.prune_to = None;
        let rules = Box::new(self.rules.clone());
        self.give(Input::Command(Command::SetRules(rules)));
        self.rest();
        self.calm = false;
    }

    // ---- the truth -------------------------------------------------------------------

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
    fn claims(&self, count: &mut Count) -> BTreeMap<Vec<u8>, Vec<u8>> {
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

    fn visit(
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
    fn owner(
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
                let documents = self.documents(Some(node));
                let now = self.now().wall;
                let facts = self.rules.layout.facts(path, Some(&stat), &documents, now);
                if facts.verdict == Verdict::Disowned {
                    return Some(Owner::Unowned);
                }
                let session = (Tally::default(), facts.created);
                count.sessions.insert(path.to_vec(), session);
                Some(Owner::Session(path.to_vec()))
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
        let sessions = self.engine.index().sessions();
        Count {
            counted: totals.counted,
            unowned: totals.unowned,
            orphans: totals.orphans,
            sessions: sessions
                .filter(|(_, session)| !session.is_disowned())
                .map(|(_, s)| (s.key.to_vec(), (s.tally, s.created)))
                .collect(),
        }
    }

    fn print_difference(&self) {
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
