//! What is found near a registration is what comparing it with every other one finds, at a cost that
//! does not grow with their number.

use super::*;
use crate::model::time::Time;
use std::fs;
use std::os::unix::fs::symlink;

fn cleanup(id: usize, owner: &str, dir: &Path, what: (&str, Option<&str>)) -> Cleanup {
    Cleanup {
        id: id.to_string(),
        owner: owner.to_owned(),
        directory: dir.display().to_string(),
        pattern: what.0.to_owned(),
        layout: what.1.map(str::to_owned),
        retention_days: Some(1),
        max_files: None,
        max_size_mb: None,
        priority: 0,
        description: String::new(),
        schedule: None,
        watch: false,
        read_only: false,
        created_at: Time::UNIX_EPOCH,
        updated_at: Time::UNIX_EPOCH,
        last_run: None,
    }
}

/// The rule in its plainest words: one after the other.
fn refused_by(cleanup: &Cleanup, all: &[Cleanup]) -> Option<String> {
    let place = Place::survey(&directory(cleanup));
    let refuses = |other: &&Cleanup| {
        let theirs = Place::survey(&directory(other));
        let is_alike = other.pattern == cleanup.pattern;
        let has_layout = other.layout.is_some() || cleanup.layout.is_some();
        other.id != cleanup.id
            && theirs.real() == theirs.written()
            && match place.relation(&theirs) {
                Relation::Apart => false,
                // Written otherwise the store takes it for another one.
                Relation::Same if is_alike => {
                    other.owner != cleanup.owner || other.directory != cleanup.directory
                }
                Relation::Same => has_layout,
                Relation::Inside | Relation::Around => true,
            }
    };
    all.iter().find(refuses).map(|other| other.id.clone())
}

#[test]
fn who_is_near_is_who_comparing_with_all_finds() {
    let hold = tempfile::tempdir().expect("a scratch directory");
    let top = fs::canonicalize(hold.path()).expect("there");
    fs::create_dir_all(top.join("a/b/c")).expect("made");
    fs::create_dir_all(top.join("d")).expect("made");
    symlink(top.join("a"), top.join("link")).expect("linked");
    // The last one is nowhere.
    let dirs = ["a", "a/b", "a/b/c", "d", "link/b", "d/absent"].map(|name| top.join(name));
    let whats = [("x", None), ("y", None), ("", Some("preset = \"tus\""))];
    let mut all = Vec::new();
    for dir in &dirs {
        for owner in ["ana", "bob"] {
            for what in whats {
                all.push(cleanup(all.len(), owner, dir, what));
            }
        }
    }
    // Each subset of four of them, in two orders, beside each of all.
    let mut n_refused = 0;
    for seed in 0..600_usize {
        let mut some: Vec<Cleanup> = (0..4)
            .map(|n| all[(seed * 7 + n * (seed % 11 + 1) * 5) % all.len()].clone())
            .collect();
        some.sort_by(|a, b| a.id.cmp(&b.id));
        some.dedup_by(|a, b| a.id == b.id);
        if seed % 2 == 1 {
            some.reverse();
        }
        let near = Neighbours::of(&some);
        for one in &all {
            let place = Place::survey(&directory(one));
            let found = near.refusal(one, &place).map(|(_, other)| other.id.clone());
            assert_eq!(found, refused_by(one, &some), "{one:?} beside {some:?}");
            n_refused += usize::from(found.is_some());
        }
    }
    assert!(n_refused > 1000, "{n_refused}");
}

#[test]
fn what_is_compared_does_not_grow_with_the_number_of_registrations() {
    let hold = tempfile::tempdir().expect("a scratch directory");
    let top = fs::canonicalize(hold.path()).expect("there");
    let compared = |n: usize| -> usize {
        let patterns: Vec<String> = (0..n).map(|n| format!("{n}-*")).collect();
        let all: Vec<Cleanup> = (0..n)
            .map(|id| match id % 2 {
                // Half of them share a directory, and half have one each.
                0 => cleanup(id, "ana", &top.join("shared"), (&patterns[id], None)),
                _ => cleanup(id, "ana", &top.join(format!("d{id}")), ("*.log", None)),
            })
            .collect();
        let near = Neighbours::of(&all);
        let marks = near
            .at
            .values()
            .map(|group| group.first.len())
            .sum::<usize>()
            + near.below.values().map(Vec::len).sum::<usize>();
        assert!(marks < n * 8 + 100, "{marks} of {n}");
        let of = |one: &Cleanup| near.near(one, &Place::survey(&directory(one))).len();
        all.iter().map(of).max().expect("some")
    };
    let (few, many) = (compared(20), compared(1000));
    assert!(many <= few && many < 10, "{few} and {many}");
}
