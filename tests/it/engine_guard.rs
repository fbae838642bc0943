//! The guard of the engine alone: what no hint tells is known within its period, at a cost that
//! has a bound; and how often scans follow losses that do not end.

use crate::support::world::{Dice, World, bare_rules};
use housekeeper::engine::{Command, Input};
use housekeeper::model::fact::{Fact, ScanCause};
use housekeeper::model::hint::Hint;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(250);
/// So long after its last change a name stays warm.
const KEEP: Duration = Duration::from_secs(180);
/// Looks that one tick may ask for, of each of the two kinds.
const LOOKS: usize = 128;
const MOST_HOT: u64 = 2048;

/// A guarded root of three sessions, some with big files, nothing to prune.
fn guarded() -> World {
    let mut world = World::with_rules(Dice::new(1), bare_rules(1 << 40), true);
    world.give(Input::Command(Command::Guard));
    for at in 0..3 {
        world.add_session(&format!("s{at}"), at, 1_000);
        world.add_file(&format!("s{at}/big"), 100 << 20);
    }
    world.rest();
    world.check_rest();
    world
}

/// Nothing is warm any more.
fn cold() -> World {
    let mut world = guarded();
    world.pass(KEEP + KEEP);
    assert_eq!(world.engine.figures().guard.n_hot, 0);
    world
}

fn is_exact(world: &World) -> bool {
    world.known() == world.recount()
}

fn n_scans(world: &World, wanted: ScanCause) -> usize {
    let is_it = |fact: &&Fact| matches!(fact, Fact::CycleStart { cause } if *cause == wanted);
    world.told.iter().filter(is_it).count()
}

#[test]
fn what_was_touched_of_late_is_exact_after_one_period() {
    let mut world = guarded();
    for size in [5_000, 90_000, 10, 70_000_000] {
        world.write_silently("s1/big", size);
        assert!(!is_exact(&world));
        world.pass(PERIOD);
        assert!(is_exact(&world));
    }
    assert_eq!(world.scans.iter().filter(|at| at.is_root()).count(), 1);
}

/// A writer that never closes its file keeps it warm for as long as it writes.
#[test]
fn found_changes_keep_a_name_warm() {
    let mut world = guarded();
    for minute in 0..20 {
        world.pass(Duration::from_secs(60));
        world.write_silently("s0/big", (101 + minute) << 20);
        world.pass(PERIOD);
        assert!(is_exact(&world), "minute {minute}");
    }
}

#[test]
fn with_the_most_warm_names_each_has_its_turn_within_sixteen_periods_and_a_tick_is_bounded() {
    let mut world = guarded();
    for n in 0..3_000 {
        if n == 3_000 - MOST_HOT {
            world.rest();
        }
        world.add_file(&format!("s2/g{n}"), 10);
    }
    world.rest();
    assert_eq!(world.engine.figures().guard.n_hot as u64, MOST_HOT);
    world.guard = Default::default();
    // Those that changed last are warm.
    for n in [952, 1_500, 2_999] {
        world.write_silently(&format!("s2/g{n}"), 4_000);
        world.pass(16 * PERIOD);
        assert!(is_exact(&world), "{n}");
    }
    // Besides the looks: the place, and a measurement.
    assert!(world.guard.most <= LOOKS + 2, "{:?}", world.guard);
    assert!(world.guard.n_looks <= 3 * 16 * LOOKS as u64 + LOOKS as u64);
}

#[test]
fn an_idle_root_is_woken_once_in_thirty_seconds() {
    let mut world = cold();
    world.guard = Default::default();
    let n_scans = world.scans.len();
    world.pass(Duration::from_secs(1_500));
    assert_eq!(world.scans.len(), n_scans);
    assert!(world.guard.n_wakes <= 1_500 / 30, "{:?}", world.guard);
    assert!(world.guard.n_measures <= 1_500 / 30);
    assert_eq!(world.guard.n_places, world.guard.n_measures);
    assert_eq!(world.guard.n_looks, 0);
    assert!(world.guard.most <= 2);
}

#[test]
fn without_a_guard_nothing_is_due() {
    let mut world = World::with_rules(Dice::new(1), bare_rules(1 << 40), true);
    world.add_session("a", 1, 1_000);
    world.rest();
    world.guard = Default::default();
    world.pass(Duration::from_secs(3_000));
    assert_eq!(world.guard, Default::default());
}

#[test]
fn a_look_in_turn_is_no_write() {
    let mut world = guarded();
    let written = |world: &World| {
        let index = world.engine.index();
        let id = index.session_by_key(b"s1").expect("a session");
        index.session(id).expect("a session").written
    };
    let before = written(&world);
    world.guard = Default::default();
    world.pass(Duration::from_secs(20));
    assert!(world.guard.n_looks > 0);
    assert_eq!(written(&world), before);
}

#[test]
fn a_file_with_a_name_elsewhere_is_looked_at_every_second() {
    let mut world = guarded();
    world.link_outside("s1/big");
    world.pass(PERIOD);
    assert_eq!(world.guard.followed, [world.ino("s1/big")]);
    world.pass(KEEP + KEEP);
    let guard = world.engine.figures().guard;
    assert_eq!((guard.n_hot, guard.n_linked), (0, 1));
    world.write_silently("s1/big", 4_321);
    world.pass(Duration::from_secs(1));
    assert!(is_exact(&world));
    // The last name elsewhere goes: nothing is left to look at.
    world.pass(KEEP + KEEP);
    world.unlink_outside("s1/big");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.engine.figures().guard.n_linked, 0);
}

#[test]
fn a_source_that_tells_an_inode_leads_to_its_name() {
    let mut world = guarded();
    world.link_outside("s1/big");
    world.pass(PERIOD);
    let ino = world.ino("s1/big");
    world.write_silently("s1/big", 4_321);
    world.give(Input::Hint(Hint::Inode(ino)));
    assert!(is_exact(&world));
    world.give(Input::Hint(Hint::Inode(ino + 1_000)));
}

/// Names that all lie in the root need no turns: each is hinted at by itself.
#[test]
fn a_file_whose_names_are_all_known_is_left_alone() {
    let mut world = guarded();
    world.link_inside("s1/big", "s2/also");
    world.rest();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.engine.figures().guard.n_linked, 0);
    assert!(is_exact(&world));
}

#[test]
fn growth_of_a_cold_file_shows_in_the_file_systems_total() {
    let mut world = cold();
    world.write_silently("s0/big", 200 << 20);
    world.pass(Duration::from_secs(70));
    world.settle();
    assert!(is_exact(&world));
    assert_eq!(n_scans(&world, ScanCause::Guard), 1);
    world.pass(Duration::from_secs(40));
    let guard = world.engine.figures().guard;
    assert_eq!((guard.n_scans, guard.n_explained), (1, 1), "{guard:?}");
    assert!(!guard.has_others);
}

/// Other programs fill the same file system: scans that explain nothing become as rare as the
/// rescans, and the check stays as slow as that of an idle root.
#[test]
fn others_on_the_file_system_make_the_check_silent() {
    let mut world = cold();
    world.guard = Default::default();
    const HOURS: u64 = 8;
    for _ in 0..HOURS * 360 {
        world.used_by_others += 50 << 20;
        world.pass(Duration::from_secs(10));
        world.settle();
    }
    let n = n_scans(&world, ScanCause::Guard) as u64;
    // 1, 2, 4 … 32 minutes, then hours.
    assert!((6..=7 + HOURS).contains(&n), "{n}");
    let guard = world.engine.figures().guard;
    assert!(guard.has_others && guard.n_explained == 0, "{guard:?}");
    let slow = HOURS * 3_600 / 30;
    assert!(
        world.guard.n_measures < slow + (n + 1) * 40,
        "{:?}",
        world.guard
    );
    // And what is silent in the root is still found, an hour later at most.
    world.write_silently("s0/big", 300 << 20);
    world.pass(Duration::from_secs(3_700));
    world.settle();
    assert!(is_exact(&world));
}

#[test]
fn sessions_that_changed_last_are_listed_first_after_a_loss() {
    let mut world = cold();
    world.write_silently("s1/big", 10);
    world.deliver_for("s1/big");
    world.pass(Duration::from_secs(5));
    world.write_silently("s2/big", 10);
    world.deliver_for("s2/big");
    world.scans.clear();
    world.give(Input::Hint(Hint::Lost));
    let scans: Vec<String> = world.scans.iter().map(ToString::to_string).collect();
    assert_eq!(scans[..2], ["s2", "s1"]);
    assert!(world.scans[2].is_root() && scans.len() == 3);
    world.rest();
    world.check_rest();
}

/// When recoveries begin, in milliseconds, while hints are lost every few milliseconds.
fn recoveries(world: &mut World, lasts: Duration, scan: Duration) -> Vec<u128> {
    let begun = world.now().tick;
    let mut all = Vec::new();
    while world.now().tick.since(begun) < lasts {
        let before = n_scans(world, ScanCause::Loss);
        world.give(Input::Hint(Hint::Lost));
        world.pass(Duration::from_millis(5));
        if n_scans(world, ScanCause::Loss) > before {
            all.push(world.now().tick.since(begun).as_millis());
            // What is lost while it runs is lost after it began.
            let until = world.now().tick.after(scan);
            while world.now().tick < until {
                world.give(Input::Hint(Hint::Lost));
                world.pass(Duration::from_millis(500).min(scan));
            }
            world.settle();
        }
    }
    all
}

#[test]
fn losses_that_do_not_end_lead_to_ever_rarer_scans() {
    let mut world = World::with_rules(Dice::new(1), bare_rules(1 << 40), true);
    world.add_session("a", 1, 1_000);
    world.rest();
    let all = recoveries(&mut world, Duration::from_secs(300), Duration::ZERO);
    let pauses: Vec<u128> = all.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(all[0] < 50 && pauses[0] < 250 && pauses[1] < 250, "{all:?}");
    for (pause, wanted) in pauses[2..]
        .iter()
        .zip([100, 200, 400, 800, 1_600, 3_200, 6_400])
    {
        assert!(
            (wanted..wanted + 250).contains(pause),
            "{wanted}: {pauses:?}"
        );
    }
    assert!(pauses.iter().all(|pause| *pause < 30_500), "{pauses:?}");
    assert!(
        pauses.iter().filter(|pause| **pause > 29_900).count() >= 6,
        "{pauses:?}"
    );
    // A scan takes up to 250 ms of it. A calm, and it begins anew.
    world.rest();
    world.pass(Duration::from_secs(11));
    let all = recoveries(&mut world, Duration::from_millis(500), Duration::ZERO);
    assert!(all[0] < 50 && all.len() >= 4, "{all:?}");
}

/// A scan that takes longer than a calm is none.
#[test]
fn long_scans_do_not_make_losses_look_like_news() {
    let mut world = World::with_rules(Dice::new(1), bare_rules(1 << 40), true);
    world.add_session("a", 1, 1_000);
    world.rest();
    let scan = Duration::from_secs(20);
    let all = recoveries(&mut world, Duration::from_secs(1_200), scan);
    // 20 s each at first, 50 s each in the end.
    assert!((20..=32).contains(&all.len()), "{}: {all:?}", all.len());
}
