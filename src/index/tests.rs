//! The index against a naive model, and hard links one by one.

use super::*;
use crate::model::bytes::{Bytes, Measure};
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
        allocated: size.div_ceil(4096) * 4096,
        n_links,
        mtime: UnixNanos(0),
        ctime: UnixNanos(0),
        btime: None,
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
    index.begin_listing(dir, 1);
    index.begin_listing(dir, 2);
    index.listed(dir, b"f", 1);
    index.listed(dir, b"g", 2);
    assert!(index.end_listing(dir, 1).names.is_empty());
    let absent: BTreeSet<_> = index.end_listing(dir, 2).names.into_iter().collect();
    let expected = [&b"f"[..], b"h"].map(|name| index.name_hash(dir, name));
    assert_eq!(absent, BTreeSet::from(expected));
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
            sum.add(Tally::file(size, size.div_ceil(4096) * 4096));
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
    Disown(usize),
    Own(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let at = || (0..HOLDERS, 0..4u8);
    prop_oneof![
        4 => (at(), 0..9000u64).prop_map(|((h, n), size)| Op::Write(h, n, size)),
        3 => (at(), at()).prop_map(|((h, n), (g, m))| Op::Link(h, n, g, m)),
        3 => at().prop_map(|(h, n)| Op::Unlink(h, n)),
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
        before - index.totals().counted.apparent == u128::from(planned.0)
    })
}

proptest! {
    #[test]
    fn whatever_is_done_the_sums_are_those_of_a_recount(ops in prop::collection::vec(op(), 0..60)) {
        let mut index = Index::new();
        let mut holders = Vec::new();
        for name in ["a", "b", "c"] {
            let (id, dir) = begin(&mut index, name, u64::from(name.as_bytes()[0]));
            index.set_facts(id, facts(Verdict::Certain, None), &[]);
            holders.push((Some(id), dir));
        }
        holders.push((None, index.root()));
        let mut model = Model::default();
        let mut next_ino = 1000;
        for op in ops {
            let see = |index: &mut Index, model: &Model, holder: usize, name: u8| {
                let ino = model.names[&(holder, name)];
                let stat = file(ino, model.sizes[&ino], model.n_links(ino));
                index.put_file(holders[holder].1, &[name + b'p'], &stat);
            };
            match op {
                Op::Write(holder, name, size) => {
                    let ino = *model.names.entry((holder, name)).or_insert_with(|| {
                        next_ino += 1;
                        next_ino
                    });
                    model.sizes.insert(ino, size);
                    see(&mut index, &model, holder, name);
                }
                Op::Link(from, name, to, new) => {
                    let Some(ino) = model.names.get(&(from, name)).copied() else { continue };
                    if model.names.contains_key(&(to, new)) { continue }
                    model.names.insert((to, new), ino);
                    see(&mut index, &model, to, new);
                }
                Op::Unlink(holder, name) => {
                    model.names.remove(&(holder, name));
                    index.forget(holders[holder].1, &[name + b'p']);
                }
                Op::Disown(holder) | Op::Own(holder) => {
                    let verdict = if matches!(op, Op::Disown(_)) {
                        model.disowned.insert(holder);
                        Verdict::Disowned
                    } else {
                        model.disowned.remove(&holder);
                        Verdict::Certain
                    };
                    let id = holders[holder].0.expect("a session");
                    index.set_facts(id, facts(verdict, None), &[]);
                }
            }
            index.settle_links();
            let counted = model.tally(|by| by.iter().any(|h| model.counts(*h)));
            let unowned = model.tally(|by| !by.iter().any(|h| model.counts(*h)));
            prop_assert_eq!(index.totals().counted, counted);
            prop_assert_eq!(index.totals().unowned, unowned);
            for (at, (id, _)) in holders.iter().enumerate() {
                let Some(id) = id else { continue };
                let tally = index.tally(*id);
                prop_assert_eq!(tally, model.tally(|by| by.contains(&at)));
            }
        }
        let owned: Vec<SessionId> = (0..HOLDERS - 1)
            .filter(|holder| model.counts(*holder))
            .filter_map(|holder| holders[holder].0)
            .collect();
        prop_assert!(frees_what_it_says(&mut index, &owned));
    }
}
