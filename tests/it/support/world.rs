//! A seeded world around one engine: a tree that changes, hints that are lost, late, repeated
//! and out of order, walks and reads that answer late, and an executor that sometimes refuses.
//!
//! [`World::step`] does one random thing and checks what must hold at any time;
//! [`World::rest`] lets everything arrive and compares the index with a recount of the tree.
//! All randomness comes from the seed.

mod changes;
mod living;
mod removal;
mod truth;
mod walks;

use crate::support::tree::{Held, NodeId, OUTSIDE, ROOT, Tree};
use chrono::TimeDelta;
use housekeeper::engine::{Command, Effect, Engine, Input, ReadOrder, Rules};
use housekeeper::index::Index;
use housekeeper::layout::Layout;
use housekeeper::layout::spec::{Kind, LayoutSpec, Source, StateSpec};
use housekeeper::model::bytes::{Bytes, Tally};
use housekeeper::model::fact::Fact;
use housekeeper::model::hint::Hint;
use housekeeper::model::lifecycle::{LifeOrder, PartsOrder};
use housekeeper::model::listing::{ScanId, Walked, Watched};
use housekeeper::model::path::RelPath;
use housekeeper::model::place::{Look, Why};
use housekeeper::model::plan::Victim;
use housekeeper::model::report::{Aside, LockTry, Report};
use housekeeper::model::seen::{Seen, Stat};
use housekeeper::model::session::Key;
use housekeeper::model::time::{Now, Tick, Time, UnixNanos};
use housekeeper::model::watcher::{DirKey, Watch as Placed};
use housekeeper::policy::lifecycle::Lifecycle;
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
    /// What hints call the directory by; [`DirKey::BY_PATH`] where they name paths.
    key: DirKey,
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
        stat: Stat,
        watched: Watched,
        names: VecDeque<Vec<u8>>,
        first: bool,
    },
}

#[derive(Debug)]
struct Walk {
    scan: ScanId,
    reads: bool,
    jobs: Vec<Job>,
    sent: VecDeque<Walked>,
    ended: bool,
}

/// What runs beside the engine and answers later.
#[derive(Debug)]
enum Later {
    Reap(Vec<Aside>),
    InPlace(Victim),
    Unlist(Vec<Key>),
    FindParts(PartsOrder),
    Live(Box<LifeOrder>),
    /// All that happened before was handed over; whether a scan that had just ended wanted it.
    Confirm(bool),
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

/// What the guard asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) n_wakes: u64,
    pub(crate) n_looks: u64,
    pub(crate) n_measures: u64,
    pub(crate) n_places: u64,
    /// Inodes whose names elsewhere the source was told of.
    pub(crate) followed: Vec<u64>,
    /// The most effects that one input brought.
    pub(crate) most: usize,
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
    /// Hints call directories by a key that belongs to the inode, not by path.
    keyed: bool,
    next_key: u64,
    /// Said before any hint that comes after.
    begun: Vec<DirKey>,
    walks: Vec<Walk>,
    reads: Vec<ReadOrder>,
    answers: Vec<Input>,
    later: Vec<(u64, Later)>,
    locked: bool,
    /// Victims that were passed over lately.
    skipped: BTreeMap<Key, u64>,
    in_place: BTreeSet<Key>,
    /// Of these something was left where it lay.
    left_there: BTreeSet<Key>,
    /// Until then none that is kept is let go of after one could not be.
    kept_refused_until: u64,
    /// Sessions that a step of their life is under way for.
    at_work: BTreeSet<Key>,
    /// Steps done: metadata changed, parts gone, failed sessions gone.
    pub(crate) n_lived: [u64; 3],
    /// The totals of a scan that ended in this chain of effects.
    fresh: bool,
    /// Nothing changes but by the engine, and everything has arrived.
    calm: bool,
    next_name: u64,
    listed: BTreeMap<String, String>,
    pub(crate) n_removed: u64,
    pub(crate) n_remembered: u64,
    pub(crate) n_reads: u64,
    pub(crate) told: Vec<Fact>,
    pub(crate) guard: Guard,
    /// Where walks began, in order.
    pub(crate) scans: Vec<RelPath>,
    /// Bytes that others use on the same file system.
    pub(crate) used_by_others: u64,
    /// Files change without a hint.
    silent: bool,
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

/// A moment in the worlds of these tests.
pub(crate) fn rules_time() -> Time {
    base()
}

fn states() -> StateSpec {
    StateSpec {
        key: "/state".to_owned(),
        active: vec!["live".to_owned()],
        complete: vec!["done".to_owned()],
        failed: vec!["failed".to_owned()],
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
        Kind::Files => {
            let deep = if dice.percent(30) { "**/" } else { "" };
            if dice.percent(60) {
                spec.sessions = format!("{deep}*.json");
                spec.metadata = Some(".".to_owned());
            } else {
                spec.sessions = format!("{deep}a*");
                spec.metadata = None;
                spec.state = None;
                spec.group = None;
                spec.created_at = vec![Source::Mtime];
            }
        }
        Kind::Sidecar => {
            spec.metadata = Some("{id}.json".to_owned());
            spec.blobs = vec!["{id}.{ext}".to_owned()];
            if dice.percent(30) {
                spec.sessions = "*/*".to_owned();
            }
            if dice.percent(30) {
                spec.required = false;
                spec.pattern = Some(r"^a\d$".to_owned());
                spec.created_at.push(Source::Birth);
            }
        }
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
    let lifecycle = if dice.percent(50) {
        living::lifecycle_for(dice, kind)
    } else {
        Lifecycle::default()
    };
    Rules {
        layout: Arc::new(layout_for(dice, kind)),
        limits,
        protect,
        lifecycle,
        enforce: true,
        group: None,
        rescan_interval: Duration::from_secs(*dice.pick(&[7, 3600, 3600, 3600])),
        first_start_enforce: false,
        // No throw of the dice: what seeds mean stays as it was.
        trash_keep: Duration::from_secs(max % 4 * 5),
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
        lifecycle: Lifecycle::default(),
        enforce: true,
        group: None,
        rescan_interval: Duration::from_secs(3600),
        first_start_enforce: false,
        trash_keep: Duration::ZERO,
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let kind = match seed % 6 {
            0 | 1 => Kind::Directories,
            2 | 5 => Kind::Catalog,
            3 => Kind::Files,
            _ => Kind::Sidecar,
        };
        let rules = rules_for(&mut dice, kind);
        let mut world = Self::with_rules(dice, rules, true);
        world.loss = *world.dice.pick(&[0, 0, 2, 10]);
        world.blind = *world.dice.pick(&[0, 0, 0, 5]);
        world.refusal = *world.dice.pick(&[0, 10, 40]);
        world.keyed = seed % 2 == 1;
        if seed % 4 == 1 {
            world.silent = true;
            world.give(Input::Command(Command::Guard));
        }
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
            keyed: false,
            next_key: 0,
            begun: Vec::new(),
            walks: Vec::new(),
            reads: Vec::new(),
            answers: Vec::new(),
            later: Vec::new(),
            locked: false,
            skipped: BTreeMap::new(),
            in_place: BTreeSet::new(),
            left_there: BTreeSet::new(),
            kept_refused_until: 0,
            at_work: BTreeSet::new(),
            n_lived: [0; 3],
            fresh: false,
            calm: false,
            next_name: 0,
            listed: BTreeMap::new(),
            n_removed: 0,
            told: Vec::new(),
            guard: Guard::default(),
            scans: Vec::new(),
            used_by_others: 0,
            silent: false,
            trace: 0,
            loss: 0,
            blind: 0,
            refusal: 0,
            n_remembered: 0,
            n_reads: 0,
            is_traced: std::env::var_os("WORLD_TRACE").is_some(),
        }
    }

    /// A world without mishaps whose index keeps only these bits of the hashes of names.
    pub(crate) fn with_hash_mask(dice: Dice, rules: Rules, mask: u64) -> Self {
        let index = Index::with_hash_mask(mask);
        Self {
            engine: Engine::over(index, rules.clone(), true, []),
            ..Self::with_rules(dice, rules, true)
        }
    }

    /// A full scan from end to end.
    pub(crate) fn rescan(&mut self) {
        self.give(Input::Command(Command::Rescan));
        self.rest();
    }

    /// A finished session of so many bytes, with its metadata. A greater `minute` is newer.
    pub(crate) fn add_session(&mut self, name: &str, minute: i64, bytes: u64) {
        self.add("done", name, minute, bytes);
    }

    pub(crate) fn add_active_session(&mut self, name: &str, minute: i64, bytes: u64) {
        self.add("live", name, minute, bytes);
    }

    pub(super) fn add(&mut self, state: &str, path: &str, minute: i64, bytes: u64) {
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

    pub(super) fn layout(&self) -> Arc<Layout> {
        self.rules.layout.clone()
    }

    pub(super) fn is_catalog(&self) -> bool {
        self.rules.layout.kind() == Kind::Catalog
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            wall: base() + TimeDelta::nanoseconds(self.nanos as i64),
            tick: Tick(Duration::from_nanos(self.nanos)),
        }
    }

    pub(super) fn stamp(&self) -> UnixNanos {
        self.now().wall.into()
    }

    pub(super) fn after(&mut self, most_ms: usize) -> u64 {
        self.nanos + self.dice.below(most_ms * 1_000_000 + 1) as u64
    }

    /// Hands one input over and carries out all that follows from it, first come first served.
    pub(crate) fn give(&mut self, input: Input) {
        self.give_as(input, false);
    }

    /// The same, where what follows goes back to totals that were fresh.
    pub(super) fn give_as(&mut self, input: Input, fresh: bool) {
        self.fresh = fresh;
        let mut todo = VecDeque::new();
        self.handle(input, &mut todo);
        while let Some(effect) = todo.pop_front() {
            match self.carry_out(effect) {
                Some(answer @ Input::Astray(_)) => {
                    let mut first = VecDeque::new();
                    self.handle(answer, &mut first);
                    first.append(&mut todo);
                    todo = first;
                }
                Some(answer) => self.handle(answer, &mut todo),
                None => {}
            }
        }
        assert!(!self.locked || self.engine.is_pruning(), "the lock is kept");
    }

    pub(super) fn fold(&mut self, text: &str) {
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    pub(super) fn handle(&mut self, input: Input, todo: &mut VecDeque<Effect>) {
        let mut out = Vec::new();
        if self.is_traced {
            say(&format!("{:?} <- {input:?}", self.now().tick.0));
        }
        self.engine.handle(self.now(), input, &mut out);
        self.guard.most = self.guard.most.max(out.len());
        self.check_kept();
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

    pub(super) fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Look(look) => {
                self.guard.n_looks += u64::from(look.why == Why::Guard);
                return Some(match self.look(&look) {
                    Some(seen) => Input::Looked(look, seen),
                    None => Input::Astray(look),
                });
            }
            Effect::Forget(slot) => {
                self.open.remove(&slot);
            }
            Effect::Unwatch(watches) => self.unwatch(&watches),
            Effect::Scan(order) => {
                self.scans.push(order.at.clone());
                self.begin_walk(order);
            }
            Effect::Read(order) => {
                self.n_reads += 1;
                self.reads.push(order);
            }
            Effect::Confirm if self.dice.percent(50) => return Some(Input::Confirmed),
            Effect::Confirm => {
                let at = self.after(20);
                self.later.push((at, Later::Confirm(self.fresh)));
            }
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
            Effect::LetGo(kept) => {
                let at = self.after(500);
                let kept = kept.into_iter().map(Aside::Kept).collect();
                self.later.push((at, Later::Reap(kept)));
            }
            // Nothing here asks for it.
            Effect::RemoveEmpty(_) => {}
            // Its directory was moved before it was unlinked.
            Effect::FinishAsides { asides, .. } => {
                let at = self.after(500);
                self.later.push((at, Later::Reap(asides)));
            }
            Effect::Unlist(keys) => {
                self.check_unlisting(&keys);
                let at = self.after(500);
                self.later.push((at, Later::Unlist(keys)));
            }
            Effect::FindParts(order) => {
                let at = self.after(100);
                self.later.push((at, Later::FindParts(order)));
            }
            Effect::Live(order) => {
                self.check_deed(&order);
                let at = self.after(500);
                self.later.push((at, Later::Live(order)));
            }
            Effect::Follow { id, .. } => self.guard.followed.push(id.ino),
            Effect::Measure => {
                self.guard.n_measures += 1;
                let used = self.tree.used() + self.used_by_others;
                return Some(Input::Measured(Some(used)));
            }
            Effect::CheckPlace => self.guard.n_places += 1,
            Effect::Remember => self.n_remembered += 1,
            Effect::KeepAnomalies => {}
            Effect::Tell(fact) => {
                if let Fact::PruneDeleted { key, .. } = &fact {
                    let is_going = self.in_place.contains(key) || self.left_there.contains(key);
                    assert!(!is_going, "{key:?} is told of as deleted before it went");
                }
                if self.told.len() < 10_000 {
                    self.told.push(fact);
                }
            }
        }
        None
    }

    /// As the shell looks: in the directory it holds open, else in the one at the path where
    /// that has the inode that the index means.
    pub(super) fn look(&mut self, look: &Look) -> Option<Seen> {
        let slot = look.dir.slot;
        let index = self.engine.index();
        if !index.has_dir(look.dir) {
            return Some(Seen::Gone);
        }
        let open = self.open.get(&slot).copied();
        let dir = open.or_else(|| {
            let at = self.tree.at(index.path(look.dir)?.as_bytes())?;
            let ino = index.dir_ino(look.dir).unwrap_or(0);
            let is_it = ino == 0 || self.tree.stat(at).id.ino == ino;
            (self.tree.is_dir(at) && is_it).then_some(at)
        })?;
        self.open.insert(slot, dir);
        Some(match self.tree.child(dir, look.name()) {
            Some(node) => Seen::There(self.tree.stat(node)),
            None => Seen::Gone,
        })
    }

    pub(super) fn lock(&mut self) -> LockTry {
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

    pub(super) fn unwatch(&mut self, watches: &[(RelPath, Placed)]) {
        for (path, Placed { generation, .. }) in watches {
            let keyed = self.keyed;
            if self
                .watches
                .get(generation)
                .is_some_and(|w| keyed || w.path == *path)
            {
                self.watches.remove(generation);
            }
        }
    }

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
            self.guard.n_wakes += 1;
            self.give(Input::Wake);
        }
        self.nanos = end;
        let now = self.nanos;
        self.skipped.retain(|_, until| *until > now);
    }

    pub(super) fn idle_a_little(&mut self) {
        if self.dice.percent(50) {
            self.deliver();
        }
    }

    /// One thing that is under way goes on.
    pub(super) fn deliver(&mut self) {
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

    fn tell_begun(&mut self) {
        for dir in std::mem::take(&mut self.begun) {
            self.give(Input::Hint(Hint::Begun { dir }));
        }
    }

    pub(super) fn deliver_hints(&mut self) {
        for _ in 0..1 + self.dice.below(8) {
            let now = self.nanos;
            let due: Vec<usize> = (0..self.hints.len())
                .filter(|at| self.hints[*at].0 <= now)
                .collect();
            if due.is_empty() {
                break;
            }
            let at = *self.dice.pick(&due);
            self.tell_begun();
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

    pub(super) fn deliver_walked(&mut self) {
        if self.walks.is_empty() {
            return;
        }
        let at = self.dice.below(self.walks.len());
        for _ in 0..1 + self.dice.below(4) {
            let sent = &mut self.walks[at].sent;
            let n = (1 + self.dice.below(6)).min(sent.len());
            let walked: Vec<Walked> = sent.drain(..n).collect();
            let ended = matches!(walked.last(), Some(Walked::End { .. }));
            if !walked.is_empty() {
                self.give(Input::Walked(walked));
            }
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

    pub(super) fn is_under_way(&self) -> bool {
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

    /// Makes a file; whoever watches is told.
    pub(crate) fn add_file(&mut self, path: &str, size: u64) {
        let path = RelPath::new(path.as_bytes()).expect("a path");
        let dir = path.parent().expect("not the root");
        let dir = self.tree.at(dir.as_bytes()).expect("a directory");
        let name = path.name().expect("not the root");
        self.create(dir, name, Held::File { size, text: None });
    }

    /// Gives a file another size, and nobody is told.
    pub(crate) fn write_silently(&mut self, path: &str, size: u64) {
        let node = self.tree.at(path.as_bytes()).expect("a file");
        let stamp = self.tick();
        self.tree
            .write(node, Held::File { size, text: None }, stamp);
    }

    /// Gives a file one more name beside the root, and nobody is told.
    pub(crate) fn link_outside(&mut self, path: &str) {
        let node = self.tree.at(path.as_bytes()).expect("a file");
        let stamp = self.tick();
        self.tree
            .link(OUTSIDE, path.replace('/', "-").as_bytes(), node, stamp);
    }

    pub(crate) fn unlink_outside(&mut self, path: &str) {
        let stamp = self.tick();
        self.tree
            .unlink(OUTSIDE, path.replace('/', "-").as_bytes(), stamp);
    }

    /// Gives a file one more name in the root.
    pub(crate) fn link_inside(&mut self, path: &str, name: &str) {
        let node = self.tree.at(path.as_bytes()).expect("a file");
        let name = RelPath::new(name.as_bytes()).expect("a path");
        let dir = name.parent().expect("not the root");
        let dir = self.tree.at(dir.as_bytes()).expect("a directory");
        let name = name.name().expect("not the root");
        let stamp = self.tick();
        self.tree.link(dir, name, node, stamp);
        self.emit(dir, name);
    }

    /// The inode number of what a path leads to.
    pub(crate) fn ino(&self, path: &str) -> u64 {
        self.tree
            .node(self.tree.at(path.as_bytes()).expect("a name"))
            .ino
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

    /// Puts an empty directory in the place of one, with the same inode number.
    pub(crate) fn replace_dir(&mut self, name: &str) {
        let inode = |world: &Self| {
            let node = world.tree.child(ROOT, name.as_bytes());
            world.tree.node(node.expect("it is there")).ino
        };
        let before = inode(self);
        self.unlink(ROOT, name.as_bytes().to_vec());
        let held = Held::Dir(BTreeMap::new());
        let stamp = self.tick();
        self.tree.create(ROOT, name.as_bytes(), held, stamp, true);
        assert_eq!(inode(self), before);
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
    pub(crate) fn settle(&mut self) {
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
}
