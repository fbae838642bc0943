//! The index against a naive model, and hard links one by one.

use super::*;
use crate::model::bytes::{Bytes, Measure};
use crate::model::plan::ReadAs;
use crate::model::seen::{FileId, FileKind, Stat};
use crate::model::session::{Facts, SessionId, Verdict};
use crate::model::time::UnixNanos;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn stat(ino: u64, kind: FileKind, size: u64, n_links: u32) -> Stat {
    Stat {
        id: FileId { dev: 1, ino },
        mount: 1,
        kind,
        apparent: size,
        allocated: allocated(size),
        n_links,
        mtime: UnixNanos(0),
        ctime: UnixNanos(0),
        btime: None,
    }
}

/// Blocks that follow from the size, or do not, a little or by far.
fn allocated(size: u64) -> u64 {
    match size % 5 {
        0 | 1 => size.div_ceil(4096) * 4096,
        2 => size.div_ceil(512) * 512,
        3 => 512,
        _ => 1 << 40,
    }
}

fn file(ino: u64, size: u64, n_links: u32) -> Stat {
    stat(ino, FileKind::File, size, n_links)
}

fn begin(index: &mut Index, name: &str, ino: u64) -> (SessionId, DirId) {
    let stat = stat(ino, FileKind::Dir, 0, 1);
    let root = index.root();
    index.begin_tree(root, name.as_bytes(), &stat)
}

fn facts(verdict: Verdict, created: Option<&str>) -> Facts {
    Facts {
        verdict,
        created: created.map(|text| text.parse().expect("a time")),
        ..Facts::unknown()
    }
}

fn bytes_of(index: &Index, id: SessionId) -> u64 {
    let session = index.session(id).expect("a session");
    session.bytes(Measure::Apparent).0
}

#[test]
fn a_linked_inode_counts_once_in_each_holder_and_once_in_the_root() {
    let mut index = Index::new();
    let (a, a_dir) = begin(&mut index, "a", 10);
    let (b, b_dir) = begin(&mut index, "b", 11);
    index.put_file(a_dir, b"one", &file(50, 100, 2));
    index.put_file(a_dir, b"two", &file(50, 100, 2));
    assert_eq!(index.totals().counted, Tally::file(100, 4096));
    assert_eq!(bytes_of(&index, a), 100);
    index.put_file(b_dir, b"three", &file(50, 150, 3));
    assert_eq!(index.totals().counted, Tally::file(150, 4096));
    assert_eq!((bytes_of(&index, a), bytes_of(&index, b)), (150, 150));
    let freed = |index: &Index, taken: &mut Taken, id| index.freed(id, Measure::Apparent, taken);
    let mut taken = Taken::default();
    assert_eq!(freed(&index, &mut taken, a), Bytes(0));
    assert_eq!(freed(&index, &mut taken, b), Bytes(150));
    let dropped = index.drop_session(a);
    assert_eq!(dropped.sessions, [a]);
    assert_eq!(index.totals().counted, Tally::file(150, 4096));
    assert_eq!(freed(&index, &mut Taken::default(), b), Bytes(150));
    index.drop_session(b);
    assert_eq!(*index.totals(), Totals::default());
}

#[test]
fn a_name_that_does_not_count_keeps_nothing_counted() {
    let mut index = Index::new();
    let (a, a_dir) = begin(&mut index, "a", 10);
    index.put_file(a_dir, b"f", &file(50, 100, 2));
    index.put_file(index.root(), b"note", &file(50, 100, 2));
    assert_eq!(index.totals().unowned, Tally::default());
    let freed = index.freed(a, Measure::Apparent, &mut Taken::default());
    assert_eq!(freed, Bytes(100));
    index.drop_session(a);
    assert_eq!(index.totals().counted, Tally::default());
    assert_eq!(index.totals().unowned, Tally::file(100, 4096));
}

#[test]
fn the_first_name_of_a_file_is_found_when_it_gets_a_second() {
    let mut index = Index::new();
    let (a, a_dir) = begin(&mut index, "a", 10);
    index.put_file(a_dir, b"f", &file(50, 100, 1));
    index.put_file(a_dir, b"g", &file(50, 100, 2));
    assert!(index.has_unsettled_links());
    index.settle_links();
    assert!(!index.has_unsettled_links());
    assert_eq!(index.totals().counted, Tally::file(100, 4096));
    assert_eq!(bytes_of(&index, a), 100);
}

#[test]
fn the_disowned_are_unowned_until_they_are_owned_again() {
    let mut index = Index::new();
    let (a, a_dir) = begin(&mut index, "a", 10);
    index.put_file(a_dir, b"f", &file(50, 100, 1));
    index.set_facts(
        a,
        facts(Verdict::Certain, Some("2026-01-01T00:00:00Z")),
        &[],
    );
    assert_eq!(index.oldest_first().count(), 1);
    index.set_facts(a, facts(Verdict::Disowned, None), &[]);
    assert_eq!(index.totals().unowned, Tally::file(100, 4096));
    assert_eq!((index.totals().n_sessions, index.n_disowned()), (0, 1));
    assert_eq!(index.oldest_first().count(), 0);
    index.put_file(a_dir, b"g", &file(51, 1, 1));
    index.set_facts(
        a,
        facts(Verdict::Certain, Some("2026-01-01T00:00:00Z")),
        &[],
    );
    assert_eq!(index.totals().unowned, Tally::default());
    assert_eq!(index.totals().counted.apparent, 101);
    assert_eq!((index.totals().n_sessions, index.n_disowned()), (1, 0));
}

#[test]
fn an_inode_number_that_is_used_again_is_another_directory() {
    let mut index = Index::new();
    let (_, dir) = begin(&mut index, "a", 10);
    let born = |at| Stat {
        btime: Some(UnixNanos(at)),
        ..stat(11, FileKind::Dir, 0, 1)
    };
    let below = index.put_dir(dir, b"d", &born(1), DirOwner::Container);
    assert!(index.is_same_dir(below, &born(1)));
    assert!(!index.is_same_dir(below, &born(2)));
    assert!(index.is_same_dir(below, &stat(11, FileKind::Dir, 0, 1)));
}

#[test]
fn a_listing_that_was_overtaken_says_nothing() {
    let mut index = Index::new();
    let (_, dir) = begin(&mut index, "a", 10);
    for name in [&b"f"[..], b"g", b"h"] {
        index.put_file(dir, name, &file(name[0].into(), 1, 1));
    }
    index.begin_listing(dir, 1, 0);
    index.begin_listing(dir, 2, 0);
    index.listed(dir, b"f", 1);
    index.listed(dir, b"g", 2);
    assert!(index.end_listing(dir, 1).names.is_empty());
    let absent: BTreeSet<_> = index.end_listing(dir, 2).names.into_iter().collect();
    let expected = [&b"f"[..], b"h"].map(|name| index.name_hash(dir, name));
    assert_eq!(absent, BTreeSet::from(expected));
}

#[test]
fn two_names_with_one_hash_are_two_files_once_they_are_told_apart() {
    let mut index = Index::with_hash_mask(0);
    let (a, dir) = begin(&mut index, "a", 10);
    index.begin_listing(dir, 1, 0);
    let first = index.listed(dir, b"f", 1);
    assert!(first.known.is_none() && !first.again);
    index.put_file(dir, b"f", &file(50, 100, 1));
    let second = index.listed(dir, b"g", 1);
    assert!(second.again, "the entry is another name's");
    assert!(index.part_twins(dir, b"g"));
    assert!(!index.part_twins(dir, b"g"), "once");
    assert!(index.listed(dir, b"g", 1).known.is_none());
    index.put_file(dir, b"g", &file(51, 10, 1));
    assert!(index.end_listing(dir, 1).names.is_empty());
    assert_eq!(bytes_of(&index, a), 110);
    index.forget(dir, b"f");
    assert_eq!(bytes_of(&index, a), 10);
    assert!(index.find(dir, b"g").is_some());
    index.drop_session(a);
    assert_eq!(*index.totals(), Totals::default());
    assert!(index.twins.is_empty(), "they go with their directory");
}

#[test]
fn sums_above_64_bits_are_exact() {
    let mut index = Index::new();
    let (a, dir) = begin(&mut index, "a", 10);
    for (name, ino) in [(b"f", 50), (b"g", 51), (b"h", 52)] {
        index.put_file(dir, name, &file(ino, 1 << 63, 1));
    }
    assert_eq!(index.tally(a).apparent, 3 << 63);
    assert_eq!(bytes_of(&index, a), u64::MAX);
    index.forget(dir, b"f");
    index.forget(dir, b"g");
    assert_eq!(bytes_of(&index, a), 1 << 63);
    assert_eq!(index.tally(a), Tally::file(1 << 63, allocated(1 << 63)));
}

#[test]
fn a_directory_is_found_by_its_files_while_it_grows_long_and_empties() {
    let mut index = Index::new();
    let (a, dir) = begin(&mut index, "a", 10);
    let (b, other) = begin(&mut index, "b", 11);
    index.keep_homes();
    // Inodes of one block, of neighbouring ones, and far ones, in both directories.
    let ino = |n: u64| 1000 + n * if n.is_multiple_of(3) { 1 } else { 7 };
    for n in 0..60u64 {
        let to = if n.is_multiple_of(2) { dir } else { other };
        index.put_file(to, format!("f{n}").as_bytes(), &file(ino(n), 1, 1));
        for n in 0..=n {
            assert!(index.has_other_names(index.root(), b"new", ino(n)), "{n}");
        }
    }
    for n in 0..60u64 {
        let from = if n.is_multiple_of(2) { dir } else { other };
        let name = format!("f{n}").into_bytes();
        assert!(!index.has_other_names(from, &name, ino(n)), "{n}");
        let names = index.other_names(index.root(), b"new", ino(n));
        assert_eq!(names, [(from, index.name_hash(from, &name))]);
        index.forget(from, &name);
        assert!(!index.has_other_names(index.root(), b"new", ino(n)));
    }
    index.put_file(dir, b"last", &file(5, 1, 1));
    index.drop_session(a);
    index.drop_session(b);
    assert_eq!(index.homes.n_numbers(), 0);
}

#[test]
fn what_is_shared_is_kept_once_and_goes_with_its_last_user() {
    let mut index = Index::new();
    let read = |ino| ReadAs {
        name: Box::from(&b"metadata.json"[..]),
        signature: Some(file(ino, 1, 1).signature()),
    };
    let facts = |state: &str| Facts {
        state: Some(state.into()),
        ..facts(Verdict::Certain, None)
    };
    let (a, _) = begin(&mut index, "a", 10);
    let (b, b_dir) = begin(&mut index, "b", 11);
    index.set_facts(a, facts("live"), &[read(1)]);
    index.set_facts(b, facts("live"), &[read(2), read(3)]);
    assert!(index.was_read_from(b, &[read(2), read(3)]));
    assert!(!index.was_read_from(b, &[read(2)]));
    assert!(!index.was_read_from(b, &[read(3), read(2)]));
    assert!(index.is_read_as_seen(b, b"metadata.json", &file(3, 1, 1)));
    assert!(!index.is_read_as_seen(b, b"metadata.json", &file(4, 1, 1)));
    assert_eq!(index.proofs(b).len(), 2);
    assert!(index.has_other_documents(b));
    index.put_file(b_dir, b"metadata.json", &file(2, 1, 1));
    assert!(!index.has_other_documents(b));
    index.set_facts(a, facts("done"), &[]);
    index.drop_session(a);
    let session = index.session(b).expect("a session");
    assert_eq!(index.state(session).map(|s| &**s), Some("live"));
    assert!(index.group(session).is_none());
    assert!(index.session_by_key(b"a").is_none());
    assert_eq!(index.session_by_key(b"b"), Some(b));
    assert_eq!(&*index.key(b), b"b");
}

proptest! {
    /// Whatever times sessions get and lose, they are oldest first, ties by key.
    #[test]
    fn the_order_is_that_of_times_and_keys(
        steps in prop::collection::vec((0..40u8, prop::option::of(0..4i64), 0..8u8), 0..200),
    ) {
        let mut index = Index::new();
        let root = index.root();
        let group = |name: &str, ino| (name.to_owned(), stat(ino, FileKind::Dir, 0, 1));
        let parents = [group("g", 2), group("g-", 3)].map(|(name, stat)| {
            let dir = index.put_dir(root, name.as_bytes(), &stat, DirOwner::Container);
            (name, dir)
        });
        let mut sessions: BTreeMap<u8, (SessionId, Option<i64>)> = BTreeMap::new();
        let path = |at: u8| format!("{}/s{}", parents[usize::from(at % 2)].0, at / 2);
        for (at, time, what) in steps {
            let parent = parents[usize::from(at % 2)].1;
            if what == 0 {
                if let Some((id, _)) = sessions.remove(&at) {
                    index.drop_session(id);
                }
                continue;
            }
            let (id, known) = sessions.entry(at).or_insert_with(|| {
                let stat = stat(100 + u64::from(at), FileKind::Dir, 0, 1);
                let name = format!("s{}", at / 2);
                (index.begin_tree(parent, name.as_bytes(), &stat).0, None)
            });
            *known = time.filter(|_| what != 1);
            let verdict = if what == 1 { Verdict::Disowned } else { Verdict::Certain };
            let facts = Facts {
                verdict,
                created: time.map(|seconds| UnixNanos::new(seconds, 0).time()),
                ..Facts::unknown()
            };
            index.set_facts(*id, facts, &[]);
        }
        let mut expected: Vec<(i64, String)> = sessions
            .iter()
            .filter_map(|(at, (_, time))| Some(((*time)?, path(*at))))
            .collect();
        expected.sort();
        let ordered: Vec<(i64, String)> = index
            .oldest_first()
            .map(|(id, created, _)| {
                let key = index.key(id);
                (created.timestamp(), String::from_utf8_lossy(&key).into_owned())
            })
            .collect();
        prop_assert_eq!(ordered, expected);
    }
}

/// What the model knows: every name's inode, and every inode's size.
#[derive(Default)]
struct Model {
    names: BTreeMap<(usize, u8), u64>,
    sizes: BTreeMap<u64, u64>,
    disowned: BTreeSet<usize>,
}

const HOLDERS: usize = 4;

impl Model {
    fn n_links(&self, ino: u64) -> u32 {
        self.names.values().filter(|at| **at == ino).count() as u32
    }

    fn holders(&self, ino: u64) -> BTreeSet<usize> {
        let held = self.names.iter().filter(|(_, at)| **at == ino);
        held.map(|((holder, _), _)| *holder).collect()
    }

    fn tally(&self, wanted: impl Fn(&BTreeSet<usize>) -> bool) -> Tally {
        let mut sum = Tally::default();
        let inodes: BTreeSet<u64> = self.names.values().copied().collect();
        for ino in inodes.iter().filter(|ino| wanted(&self.holders(**ino))) {
            let size = self.sizes[ino];
            sum.add(Tally::file(size, allocated(size)));
        }
        sum
    }

    /// The last holder is the root itself, where nothing counts.
    fn counts(&self, holder: usize) -> bool {
        holder + 1 < HOLDERS && !self.disowned.contains(&holder)
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write(usize, u8, u64),
    Link(usize, u8, usize, u8),
    Unlink(usize, u8),
    /// It goes, and only a listing tells.
    Vanish(usize, u8),
    Disown(usize),
    Own(usize),
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..9000u64,
        1 => (1u64 << 19)..(1 << 21),
        1 => any::<u64>().prop_map(|size| size >> 1),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let at = || (0..HOLDERS, 0..6u8);
    prop_oneof![
        4 => (at(), size()).prop_map(|((h, n), size)| Op::Write(h, n, size)),
        3 => (at(), at()).prop_map(|((h, n), (g, m))| Op::Link(h, n, g, m)),
        2 => at().prop_map(|(h, n)| Op::Unlink(h, n)),
        1 => at().prop_map(|(h, n)| Op::Vanish(h, n)),
        1 => (0..HOLDERS - 1).prop_map(Op::Disown),
        1 => (0..HOLDERS - 1).prop_map(Op::Own),
    ]
}

/// Whether the totals lose what a plan says is freed, one victim after the other.
fn frees_what_it_says(index: &mut Index, victims: &[SessionId]) -> bool {
    let mut taken = Taken::default();
    let planned: Vec<Bytes> = victims
        .iter()
        .map(|id| index.freed(*id, Measure::Apparent, &mut taken))
        .collect();
    victims.iter().zip(planned).all(|(id, planned)| {
        let before = index.totals().counted.apparent;
        index.drop_session(*id);
        let freed = before - index.totals().counted.apparent;
        freed.min(u64::MAX.into()) == u128::from(planned.0)
    })
}

/// An index beside a model that knows all.
struct Beside {
    index: Index,
    model: Model,
    holders: Vec<(Option<SessionId>, DirId)>,
    next_ino: u64,
    n_scans: u64,
}

impl Beside {
    fn new(mask: u64, next_ino: u64) -> Self {
        let mut index = Index::with_hash_mask(mask);
        let mut holders = Vec::new();
        for name in ["a", "b", "c"] {
            // Names of directories share hashes, too: the index sees that by itself.
            let (id, dir) = begin(&mut index, name, u64::from(name.as_bytes()[0]));
            index.set_facts(id, facts(Verdict::Certain, None), &[]);
            holders.push((Some(id), dir));
        }
        holders.push((None, index.root()));
        Self {
            index,
            model: Model::default(),
            holders,
            next_ino,
            n_scans: 0,
        }
    }

    fn see(&mut self, holder: usize, name: u8) {
        let ino = self.model.names[&(holder, name)];
        let stat = file(ino, self.model.sizes[&ino], self.model.n_links(ino));
        self.index
            .put_file(self.holders[holder].1, &[name + b'p'], &stat);
    }

    /// A name comes up. What has its hash is told apart, as a listing would.
    fn name(&mut self, holder: usize, name: u8, ino: u64) {
        let dir = self.holders[holder].1;
        let text = [name + b'p'];
        let is_new = self.model.names.insert((holder, name), ino).is_none();
        if is_new && self.index.find(dir, &text).is_some() {
            assert!(self.index.part_twins(dir, &text));
            assert!(self.index.find(dir, &text).is_none());
        }
    }

    fn list(&mut self, holder: usize) {
        let dir = self.holders[holder].1;
        self.n_scans += 1;
        self.index.begin_listing(dir, self.n_scans, 3);
        let names = self.model.names.keys().filter(|(at, _)| *at == holder);
        let names: Vec<u8> = names.map(|(_, name)| *name).collect();
        for name in names {
            let listed = self.index.listed(dir, &[name + b'p'], self.n_scans);
            assert!(listed.known.is_some() && !listed.again);
        }
        let absent = self.index.end_listing(dir, self.n_scans);
        for hash in absent.names {
            assert!(self.index.forget_hash(dir, hash).is_some());
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Write(holder, name, size) => {
                let ino = match self.model.names.get(&(holder, name)) {
                    Some(ino) => *ino,
                    None => {
                        self.next_ino += 1;
                        self.next_ino
                    }
                };
                self.model.sizes.insert(ino, size);
                self.name(holder, name, ino);
                self.see(holder, name);
            }
            Op::Link(from, name, to, new) => {
                let ino = self.model.names.get(&(from, name)).copied();
                if let Some(ino) = ino
                    && !self.model.names.contains_key(&(to, new))
                {
                    self.name(to, new, ino);
                    self.see(to, new);
                }
            }
            Op::Unlink(holder, name) => {
                if self.model.names.remove(&(holder, name)).is_some() {
                    self.index.forget(self.holders[holder].1, &[name + b'p']);
                }
            }
            Op::Vanish(holder, name) => {
                self.model.names.remove(&(holder, name));
                self.list(holder);
            }
            Op::Disown(holder) | Op::Own(holder) => {
                let verdict = if matches!(op, Op::Disown(_)) {
                    self.model.disowned.insert(holder);
                    Verdict::Disowned
                } else {
                    self.model.disowned.remove(&holder);
                    Verdict::Certain
                };
                let id = self.holders[holder].0.expect("a session");
                self.index.set_facts(id, facts(verdict, None), &[]);
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let Self { index, model, .. } = self;
        let counted = model.tally(|by| by.iter().any(|h| model.counts(*h)));
        let unowned = model.tally(|by| !by.iter().any(|h| model.counts(*h)));
        prop_assert_eq!(index.totals().counted, counted);
        prop_assert_eq!(index.totals().unowned, unowned);
        prop_assert_eq!(index.n_unowned(), unowned_names(index));
        for (at, (id, _)) in self.holders.iter().enumerate() {
            let Some(id) = id else { continue };
            prop_assert_eq!(index.tally(*id), model.tally(|by| by.contains(&at)));
        }
        if index.homes.are_kept() {
            for ((holder, name), ino) in &model.names {
                let others = model
                    .names
                    .iter()
                    .filter(|(at, other)| **at != (*holder, *name) && *other == ino);
                let hash = |(holder, name): &(usize, u8)| {
                    let dir = self.holders[*holder].1;
                    (dir.slot, index.name_hash(dir, &[name + b'p']))
                };
                let expected: BTreeSet<_> = others.map(|(at, _)| hash(at)).collect();
                let (dir, name) = (self.holders[*holder].1, [name + b'p']);
                let found = index.other_names(dir, &name, *ino).into_iter();
                let found: BTreeSet<_> = found.map(|(dir, hash)| (dir.slot, hash)).collect();
                prop_assert_eq!(index.has_other_names(dir, &name, *ino), !found.is_empty());
                prop_assert_eq!(found, expected);
            }
        }
        Ok(())
    }

    /// All goes, and nothing is left behind.
    fn end(mut self) -> Result<(), TestCaseError> {
        let owned: Vec<SessionId> = (0..HOLDERS - 1)
            .filter(|holder| self.model.counts(*holder))
            .filter_map(|holder| self.holders[holder].0)
            .collect();
        prop_assert!(frees_what_it_says(&mut self.index, &owned));
        for (id, _) in &self.holders {
            id.iter().for_each(|id| drop(self.index.drop_session(*id)));
        }
        for (holder, name) in self.model.names.keys() {
            if *holder == HOLDERS - 1 {
                self.index.forget(self.index.root(), &[name + b'p']);
            }
        }
        self.index.settle_links();
        prop_assert_eq!(*self.index.totals(), Totals::default());
        prop_assert_eq!(self.index.n_unowned(), 0);
        prop_assert_eq!(self.index.wides.n_used(), 0);
        prop_assert_eq!(self.index.homes.n_numbers(), 0);
        Ok(())
    }
}

proptest! {
    /// With whole hashes, and with so few bits that most names share theirs; with inode numbers
    /// that fit an entry and others; in short directories, in one that gets long and in a long
    /// one; with the places of files kept from some time on, or never.
    #[test]
    fn whatever_is_done_the_sums_are_those_of_a_recount(
        ops in prop::collection::vec(op(), 0..60),
        mask in prop_oneof![Just(u64::MAX), Just(0), Just(3)],
        first_ino in prop_oneof![Just(1000u64), Just((1 << 40) - 5), Just(u64::MAX - 1000)],
        n_first in prop_oneof![4 => Just(0), 1 => Just(22), 1 => Just(30)],
        keep_at in 0..80usize,
    ) {
        let mut beside = Beside::new(mask, first_ino);
        for name in 10..10 + n_first {
            beside.run(Op::Write(0, name, 100));
        }
        for (at, op) in ops.into_iter().enumerate() {
            if at == keep_at {
                beside.index.keep_homes();
            }
            beside.run(op);
            beside.index.settle_links();
            beside.check()?;
        }
        beside.end()?;
    }
}

/// Counted anew.
fn unowned_names(index: &Index) -> u64 {
    let dirs = (0..).zip(&index.dirs).filter(|(_, dir)| dir.is_live());
    let loose = dirs.map(|(slot, dir)| {
        let is_loose = |entry: &&super::entry::Entry| {
            let owner = index.owner_at(slot, entry.hash());
            index.is_loose(slot, entry.what(&index.wides), owner)
        };
        dir.table.iter().filter(is_loose).count() as u64
    });
    loose.sum()
}

#[test]
fn names_that_nobody_owns_are_counted() {
    let mut index = Index::new();
    let root = index.root();
    let file = stat(1, FileKind::File, 5, 1);
    let n = |index: &Index| {
        assert_eq!(index.n_unowned(), unowned_names(index));
        index.n_unowned()
    };
    index.put_file(root, b"a", &file);
    index.put_other(root, b"b", 2);
    let nobodys = index.put_dir(
        root,
        b"c",
        &stat(3, FileKind::Dir, 0, 1),
        DirOwner::In(Owner::Unowned),
    );
    index.put_file(nobodys, b"in it", &stat(4, FileKind::File, 1, 1));
    assert_eq!(n(&index), 3);
    let container = index.put_dir(
        root,
        b"d",
        &stat(5, FileKind::Dir, 0, 1),
        DirOwner::Container,
    );
    index.put_file(container, b"e", &stat(6, FileKind::File, 1, 1));
    let below = index.put_dir(
        container,
        b"f",
        &stat(7, FileKind::Dir, 0, 1),
        DirOwner::In(Owner::Unowned),
    );
    index.put_file(below, b"g", &stat(8, FileKind::File, 1, 1));
    assert_eq!(n(&index), 5);
    index.set_owner(root, b"a", Owner::Orphan);
    index.set_owner(root, b"b", Owner::Orphan);
    assert_eq!(n(&index), 4, "no file is of no use to who claims it");
    index.set_owner(root, b"a", Owner::Unowned);
    index.put_file(root, b"a", &stat(9, FileKind::File, 1, 1));
    assert_eq!(n(&index), 5);
    index.begin_file(container, b"e");
    assert_eq!(n(&index), 4);
    index.forget(root, b"d");
    assert_eq!(n(&index), 3);
    index.forget(root, b"c");
    index.forget(root, b"b");
    index.forget(root, b"a");
    assert_eq!(n(&index), 0);
}
