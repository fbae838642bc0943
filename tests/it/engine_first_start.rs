//! Promise 8a: a root that is not known and whose first plan would take more than half of it
//! is held until somebody accepts. The engine alone, over a tree of plain sessions.

use crate::support::world::{Dice, World, bare_rules};
use housekeeper::engine::{Command, Effect, Input};
use housekeeper::model::bytes::Bytes;
use housekeeper::model::fact::Fact;
use housekeeper::model::plan::{Blocker, Held};
use std::time::Duration;

/// A world of so many sessions of 1000 bytes each, metadata included, under this limit.
fn root(n_sessions: usize, max_size: u64, known: bool) -> World {
    let mut world = World::with_rules(Dice::new(1), bare_rules(max_size), known);
    for at in 0..n_sessions {
        world.add_session(&format!("s{at}"), at as i64, 1_000);
    }
    world.rest();
    world
}

fn is_held(world: &World) -> bool {
    let told = |fact: &&Fact| matches!(fact, Fact::RootHeld { .. });
    let n_told = world.told.iter().filter(told).count();
    assert_eq!(
        n_told,
        usize::from(world.engine.figures().held),
        "told once"
    );
    world.engine.figures().held
}

#[test]
fn a_root_that_is_not_known_and_far_over_its_limit_is_held() {
    let mut world = root(10, 4_999, false);
    assert!(is_held(&world));
    assert_eq!(world.n_removed, 0);
    assert_eq!(world.n_remembered, 0);
    assert_eq!(world.engine.plan(world.now()).victims.len(), 6);
    world.give(Input::Command(Command::Rescan));
    world.rest();
    world.pass(Duration::from_secs(1_000));
    assert_eq!(world.n_removed, 0, "neither time nor a rescan lets it run");
    world.give(Input::Command(Command::Accept));
    world.rest();
    assert!(!world.engine.figures().held);
    assert_eq!((world.n_removed, world.n_remembered), (6, 1));
    world.check_rest();
}

/// Sessions that were just written to become removable one after the other: the first plan is
/// small then, and what follows takes the rest.
#[test]
fn what_only_waits_for_a_quiet_moment_belongs_to_the_first_plan() {
    let mut rules = bare_rules(1_000);
    rules.protect.quiet = Duration::from_secs(600);
    let mut world = World::with_rules(Dice::new(1), rules, false);
    for at in 0..10 {
        world.add_session(&format!("s{at}"), at, 1_000);
    }
    world.rest();
    world.pass(Duration::from_secs(10_000));
    assert!(is_held(&world));
    assert_eq!((world.n_removed, world.n_remembered), (0, 0));
}

#[test]
fn exactly_half_is_not_more_than_half() {
    let world = root(10, 5_000, false);
    assert!(!is_held(&world));
    assert_eq!((world.n_removed, world.n_remembered), (5, 1));
}

#[test]
fn a_root_that_is_known_is_not_held() {
    let world = root(10, 1_000, true);
    assert!(!is_held(&world));
    assert_eq!((world.n_removed, world.n_remembered), (9, 0));
}

#[test]
fn a_root_under_its_limit_is_remembered() {
    let mut world = root(10, 10_000, false);
    assert!(!is_held(&world));
    assert_eq!((world.n_removed, world.n_remembered), (0, 1));
    // And from then on it is pruned however much it is.
    let rules = Box::new(bare_rules(1_000));
    world.give(Input::Command(Command::SetRules(rules)));
    world.rest();
    assert_eq!(world.n_removed, 9);
}

#[test]
fn undeletable_bytes_leave_the_newest_tenth() {
    let mut world = World::with_rules(Dice::new(1), bare_rules(20_000), true);
    for at in 0..10 {
        world.add_session(&format!("s{at}"), at, 1_000);
    }
    world.add_active_session("z", 50, 100_000);
    world.rest();
    assert_eq!(world.n_removed, 8, "two of a thousand bytes are a tenth");
    let figures = world.engine.figures();
    assert!(figures.unmet);
    let held = |n_sessions, bytes| Held {
        n_sessions,
        bytes: Bytes(bytes),
    };
    let reasons = [
        (Blocker::Active, held(1, 100_000)),
        (Blocker::Reserved, held(2, 2_000)),
    ];
    assert_eq!(figures.blocked, reasons);
    assert_eq!(figures.still_over, Bytes(82_000));
    assert_eq!(figures.lock, None);
    // With room enough nothing blocks any more.
    let rules = Box::new(bare_rules(200_000));
    world.give(Input::Command(Command::SetRules(rules)));
    world.rest();
    let figures = world.engine.figures();
    assert_eq!((figures.blocked, figures.still_over), (vec![], Bytes::ZERO));
}

#[test]
fn who_only_observes_removes_nothing() {
    let mut rules = bare_rules(1_000);
    rules.enforce = false;
    let mut world = World::with_rules(Dice::new(1), rules, true);
    world.add_session("a", 1, 1_000);
    world.add_session("b", 2, 1_000);
    world.rest();
    let mut out = Vec::new();
    let now = world.now();
    world.engine.handle(now, Input::Drained, &mut out);
    assert!(
        !out.iter()
            .any(|e| matches!(e, Effect::Lock | Effect::Remove(_)))
    );
    assert_eq!(world.n_removed, 0);
    assert_eq!(world.engine.plan(world.now()).victims.len(), 1);
}
