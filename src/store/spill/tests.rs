//! The spill: order, once, torn tails, bounds.

use super::{Entry, Folded, Spill, row};
use crate::store::audit::{Actor, Ids};
use std::path::Path;

fn entries(n: usize) -> Vec<Entry> {
    let mut ids = Ids::default();
    let entry = |at: usize| {
        let at = chrono::DateTime::from_timestamp_micros(at as i64).unwrap_or_default();
        let because = "line one\nline \\ two".to_owned();
        Entry {
            bytes: Some(7),
            ..Entry::new(ids.next_id(), at, Actor::Event, "prune.deleted", because)
        }
    };
    (0..n).map(entry).collect()
}

fn at(path: &Path) -> Spill {
    Spill::open(Some(path.to_owned()))
}

fn drained(spill: &mut Spill) -> Vec<Entry> {
    let mut all = Vec::new();
    while !spill.is_empty() {
        let (rows, done) = spill.oldest(3).expect("it can be read");
        assert!(!rows.is_empty(), "{spill:?}");
        all.extend(rows);
        spill.done(&done);
    }
    all
}

#[test]
fn rows_come_back_in_order_also_after_a_restart() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("audit.spill");
    let rows = entries(20);
    let mut spill = at(&path);
    spill.append(rows[..5].iter().cloned());
    let (first, done) = spill.oldest(2).expect("it can be read");
    assert_eq!(first, rows[..2]);
    spill.done(&done);
    spill.append(rows[5..].iter().cloned());
    assert_eq!(spill.backlog(), 18);
    drop(spill);
    // Where it had been read to is forgotten: all of it comes once more.
    let mut spill = at(&path);
    assert_eq!(spill.backlog(), 20);
    assert_eq!(drained(&mut spill), rows);
    assert_eq!(std::fs::metadata(&path).expect("it is there").len(), 0);
    spill.append(rows[..1].iter().cloned());
    assert_eq!(drained(&mut spill), rows[..1]);
}

#[test]
fn a_torn_tail_is_no_row_and_is_written_over() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("audit.spill");
    let rows = entries(4);
    let mut spill = at(&path);
    spill.append(rows[..3].iter().cloned());
    drop(spill);
    let whole = std::fs::read(&path).expect("it is there");
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("written");
        let n_whole = whole[..cut].iter().filter(|b| **b == b'\n').count();
        let mut spill = at(&path);
        spill.append(rows[3..].iter().cloned());
        let mut expected = rows[..n_whole].to_vec();
        expected.push(rows[3].clone());
        assert_eq!(drained(&mut spill), expected, "cut at {cut}");
    }
    // A flipped byte takes its own row with it, and no other.
    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    std::fs::write(&path, &flipped).expect("written");
    assert_eq!(drained(&mut at(&path)), rows[1..3]);
    assert_eq!(row(b"short\n"), None);
}

#[test]
fn without_a_file_rows_wait_in_memory_and_then_are_counted() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let gone = scratch.path().join("no/such/directory/audit.spill");
    let mut spill = at(&gone);
    let rows = entries(super::MAX_MEMORY + 10);
    spill.append(rows.iter().cloned());
    assert!(
        spill
            .trouble
            .as_ref()
            .is_some_and(|t| t.contains("no/such"))
    );
    assert_eq!(spill.backlog(), rows.len() as u64);
    let mut kept = Vec::new();
    for _ in 0..super::MAX_MEMORY / 1024 {
        let (some, done) = spill.oldest(1024).expect("memory");
        kept.extend(some);
        spill.done(&done);
    }
    assert_eq!(kept, rows[..super::MAX_MEMORY]);
    spill.unfold(chrono::DateTime::default(), &mut Ids::default());
    let rest = drained(&mut spill);
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!((&*rest[0].event, rest[0].bytes), ("audit.folded", Some(70)));
    assert!(rest[0].because.starts_with("10 rows of prune.deleted"));
}

#[test]
fn another_process_s_file_is_left_alone() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("audit.spill");
    let mut first = at(&path);
    first.append(entries(2));
    let mut second = at(&path);
    second.append(entries(3));
    assert!(second.trouble.is_some());
    assert_eq!((first.backlog(), second.backlog()), (2, 3));
}

#[test]
fn kinds_that_are_told_apart_have_a_bound() {
    let mut folded = Folded::default();
    for (n, entry) in entries(super::MAX_KINDS + 50).into_iter().enumerate() {
        let root = Some(format!("r{n}"));
        folded.add(&Entry { root, ..entry });
    }
    assert!(folded.0.len() <= super::MAX_KINDS + 1);
    assert_eq!(folded.n_rows(), super::MAX_KINDS as u64 + 50);
}

#[test]
fn a_row_that_is_too_long_comes_back_cut_and_marked() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("audit.spill");
    let mut rows = entries(3);
    rows[1].because = "ä".repeat(100_000);
    // The worst there is: control characters take six bytes each.
    rows[2].because = "\u{1}".repeat(100_000);
    rows[2].path = Some("\u{2}".repeat(100_000));
    rows[2].session = Some("\u{3}".repeat(100_000));
    let mut spill = at(&path);
    spill.append(rows.iter().cloned());
    assert_eq!(super::waiting(&path).expect("it can be read"), 3);
    drop(spill);
    let mut spill = at(&path);
    assert_eq!(spill.backlog(), 3);
    let back = drained(&mut spill);
    assert_eq!(back[0], rows[0]);
    for (back, row) in back.iter().zip(&rows).skip(1) {
        assert_eq!((&back.id, back.bytes), (&row.id, row.bytes));
        let text = back.because.strip_suffix("… (cut)").expect("the mark");
        assert!(row.because.starts_with(text) && text.len() > 500);
    }
    assert_eq!(super::waiting(&path).expect("it can be read"), 0);
    assert_eq!(
        super::waiting(&scratch.path().join("none")).expect("none"),
        0
    );
}
