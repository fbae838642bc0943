//! The engine in a seeded world (`support/world.rs`): whatever happens, nothing goes that must
//! stay, and at rest the index equals a recount.
//!
//! To look at one seed: `WORLD_SEED=17 cargo test --test it engine_world`; with `WORLD_TRACE=1`
//! and `--nocapture` every input and effect is printed.
//!
//! The engine was broken on purpose, and each time a test failed:
//!
//! | mutant | caught by |
//! |---|---|
//! | names looked at during a scan are not noted | index is not the recount |
//! | a chunk is believed over a newer look | index is not the recount |
//! | an overtaken listing is believed | index is not the recount |
//! | what a listing does not name stays | index is not the recount |
//! | a new directory is not scanned | index is not the recount |
//! | a loss is ignored | index is not the recount |
//! | second names are not settled | index is not the recount |
//! | what changes while it is read is not read again | index is not the recount |
//! | what a walk read of a session stands though it was touched since | index is not the recount |
//! | a known directory that a hint names is not listed again | `what_was_away_for_a_while...`, index is not the recount |
//! | a moved directory keeps its old place | `what_was_moved_counts_once` |
//! | an inode number alone tells a directory | `an_inode_number_used_again...` |
//! | a victim's names are not noted as looked at | truly not more than the goal |
//! | decides while suspect | removes while suspect |
//! | decides before the first scan ended | removes before the first scan ended |
//! | quiet is ignored | a quiet victim |
//! | newest first | the newer goes before the older |
//! | doubtful metadata is believed | a doubtful victim |
//! | active sessions may go | removes an active session |
//! | links that do not count keep bytes from being freed | usage not more than the goal |
//! | the goal is passed by one | usage not more than the goal |
//! | what may not go leaves no tenth | `undeletable_bytes_leave_the_newest_tenth` |
//! | due while the catalogue is awaited | wakes again and again |
//! | names with one hash are taken for one | `names_with_one_hash_are_told_apart` |
//! | exactly at the limit is over it | `policy::tests` |
//! | a hint before its directory's listing is dropped | index is not the recount |
//! | such hints are forgotten at the listing | index is not the recount |
//! | an ended watch is ignored | `engine_keys::a_watch_that_ended...` |
//! | a name in a directory that is elsewhere counts as gone | `engine_keys::a_look_in_a_directory...` |
//! | a look in a directory that is elsewhere is dropped | `engine_keys::a_directory_that_came_back...` |
//! | a key outlives its directory | `engine_keys::a_key_goes...` |
//! | states that nobody listed become failed | fails a session that is unknown |
//! | a burst takes what a step is changing | goes while it is changed |
//! | a burst lets go of the lock that steps need | unlocked twice |
//! | a second step begins while one is under way | goes while it is changed |
//! | pinned sessions change | changes a pinned session |
//! | steps while suspect | changes while held or suspect |
//! | a write does not put a step off | touched ... ago, which is not ... |
//! | the retention counts from the creation | goes too early |
//! | metadata that cannot be read is none | takes parts of a session with a record |
//! | a new end of a retention waits for an old pause | still to go |
//! | pruning goes on by size after a round by age | `what_age_takes_in_several_rounds...` |

use crate::support::world::{Dice, World, bare_rules, say};
use housekeeper::engine::{Command, Input};
use housekeeper::index::Standing;
use housekeeper::layout::Layout;
use housekeeper::layout::spec::{Kind, LayoutSpec};
use housekeeper::model::bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const SEEDS: u64 = 400;
const STEPS: usize = 500;

struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("the seed was {}", self.0));
        }
    }
}

fn live(seed: u64) -> World {
    let named = Named(seed);
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    // No event names the first name of a file that gets a second one.
    for _ in 0..3 {
        world.link_something();
    }
    world.rest();
    world.check_rest();
    world.prune_calmly();
    world.check_rest();
    drop(named);
    world
}

#[test]
fn whatever_happens() {
    if let Ok(seed) = std::env::var("WORLD_SEED") {
        live(seed.parse().expect("a number"));
        return;
    }
    let mut n_removed = 0;
    let mut n_lived = [0; 3];
    for seed in 0..SEEDS {
        let world = live(seed);
        n_removed += world.n_removed;
        for (sum, n) in n_lived.iter_mut().zip(world.n_lived) {
            *sum += n;
        }
    }
    assert!(n_removed > SEEDS, "too little was removed to show anything");
    assert!(
        n_lived.iter().all(|n| *n > 20),
        "too few lives: {n_lived:?}"
    );
}

#[test]
fn a_seed_tells_it_all() {
    for seed in 0..6 {
        assert_eq!(live(seed).trace, live(seed).trace, "seed {seed}");
    }
}

/// Metadata is read once for each change of it: not for each scan, nor for each look.
#[test]
fn metadata_is_read_once_a_change() {
    let mut rules = bare_rules(100_000);
    let spec = LayoutSpec {
        kind: Kind::Files,
        sessions: "*/*.json".to_owned(),
        metadata: Some(".".to_owned()),
        ..LayoutSpec::default()
    };
    rules.layout = Arc::new(Layout::new(spec).expect("a good layout"));
    let mut world = World::with_rules(Dice::new(1), rules, true);
    world.add_session("a", 1, 1_000);
    world.add_session("b", 2, 1_000);
    world.rest();
    let read = world.n_reads;
    assert_eq!(world.engine.index().totals().n_sessions, 2);
    assert!(read >= 2);
    for _ in 0..3 {
        world.give(Input::Command(Command::Rescan));
        world.rest();
        world.deliver_for("a/metadata.json");
    }
    assert_eq!(world.n_reads, read);
    world.check_rest();
}

/// A directory has one name: seen at its new place it has left the old one, and no byte of it
/// counts twice until the old place's hint comes.
#[test]
fn what_was_moved_counts_once() {
    let mut rules = bare_rules(100_000);
    let spec = LayoutSpec {
        sessions: "*/*".to_owned(),
        ..LayoutSpec::default()
    };
    rules.layout = Arc::new(Layout::new(spec).expect("a good layout"));
    let mut world = World::with_rules(Dice::new(1), rules, true);
    world.add_dir("g0");
    world.add_dir("g1");
    world.add_session("g0/a", 1, 1_000);
    world.rest();
    assert_eq!(world.engine.figures().bytes.0, 1_000);
    world.move_name("g0/a", "g1/a");
    world.deliver_for("g1/a");
    let index = world.engine.index();
    assert_eq!(index.totals().n_sessions, 1, "at one place only");
    world.rest();
    world.check_rest();
}

/// A session is moved away, is written to, and comes back before anybody looked at its name:
/// what was asked for meanwhile was answered with "gone".
#[test]
fn what_was_away_for_a_while_is_listed_again() {
    let mut world = World::with_rules(Dice::new(1), bare_rules(100_000), true);
    world.add_session("a", 1, 1_000);
    world.rest();
    world.hide("a");
    world.write_hidden("a", "new", 77);
    world.deliver_for("a/new");
    world.show("a");
    world.rest();
    assert_eq!(world.engine.figures().bytes.0, 1_077);
    world.check_rest();
}

/// A directory with a used inode number is another session, of which nothing is known yet.
#[test]
fn an_inode_number_used_again_is_another_session() {
    let mut world = World::with_rules(Dice::new(1), bare_rules(100_000), true);
    world.add_session("a", 1, 1_000);
    world.rest();
    world.replace_dir("a");
    world.deliver_for("a");
    let index = world.engine.index();
    let id = index.session_by_key(b"a").expect("a session");
    let session = index.session(id).expect("a session");
    assert_ne!(session.standing, Standing::Removable);
    assert_eq!(session.n_files(), 0);
    world.rest();
    world.check_rest();
}

/// More sessions are too old than one round takes: that is no reason to go down to `prune_to` in a
/// root that is not over its size.
#[test]
fn what_age_takes_in_several_rounds_is_no_beginning_of_pruning_by_size() {
    let mut rules = bare_rules(1_000_000);
    rules.limits.prune_to = Some(Bytes(2_000));
    rules.limits.max_age = Some(Duration::from_secs(600 * 60));
    let mut world = World::with_rules(Dice::new(1), rules, true);
    for n in 0..200 {
        world.add_session(&format!("old{n}"), n, 1_000);
    }
    for n in 0..5 {
        world.add_session(&format!("new{n}"), 900 + n, 1_000);
    }
    world.rest();
    assert_eq!(world.n_removed, 200);
    assert_eq!(world.engine.figures().n_sessions, 5);
    world.check_rest();
}

/// With hashes of one bit most names of a directory share theirs. A listing that names two of
/// them tells them apart.
#[test]
fn names_with_one_hash_are_told_apart() {
    for (seed, mask) in [(1, 0), (2, 1), (3, 1), (4, 3)] {
        let rules = bare_rules(1_000_000);
        let mut world = World::with_hash_mask(Dice::new(seed), rules, mask);
        let names = ["a", "b", "c", "d", "e"];
        for (name, minute) in names.iter().zip(1..) {
            world.add_session(name, minute, 1_000 + minute as u64);
        }
        world.rest();
        world.rescan();
        world.check_rest();
        let index = world.engine.index();
        let keys: BTreeSet<_> = index.sessions().map(|(id, _)| index.key(id)).collect();
        assert_eq!(keys.len(), names.len());
        world.move_name("b", "f");
        world.rest();
        world.rescan();
        world.check_rest();
    }
}
