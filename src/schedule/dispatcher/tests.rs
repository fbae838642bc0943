//! Years in a moment: both clocks are numbers here.

use super::{Cause, Dispatcher, Effect, Input, Job, Limits};
use crate::model::time::{Now, Tick, Time};
use crate::model::zone::Zone;
use crate::schedule::Schedule;
use chrono::TimeDelta;
use chrono_tz::Europe;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn at(text: &str) -> Time {
    text.parse().expect("a time")
}

/// A dispatcher with a clock of its own; runs take `takes`.
struct World {
    now: Now,
    dispatcher: Dispatcher<&'static str>,
    takes: Duration,
    ends: BTreeMap<&'static str, Tick>,
    started: Vec<(&'static str, Cause, Time)>,
    stopped: Vec<&'static str>,
    skipped: Vec<&'static str>,
    n_turns: u64,
}

impl World {
    fn new(start: &str) -> Self {
        Self::with(start, Limits::default())
    }

    fn with(start: &str, limits: Limits) -> Self {
        let now = Now {
            wall: at(start),
            tick: Tick::default(),
        };
        Self {
            now,
            dispatcher: Dispatcher::new(limits, now),
            takes: Duration::from_secs(1),
            ends: BTreeMap::new(),
            started: Vec::new(),
            stopped: Vec::new(),
            skipped: Vec::new(),
            n_turns: 0,
        }
    }

    fn register(&mut self, key: &'static str, text: &str, zone: Zone, priority: i64, since: Time) {
        let schedule = Schedule::parse(text, zone).expect("a schedule");
        let job = Job {
            schedule,
            priority,
            since,
        };
        self.turn(Input::Registered(key, job));
    }

    fn turn(&mut self, input: Input<&'static str>) {
        self.n_turns += 1;
        for effect in self.dispatcher.handle(self.now, input) {
            match effect {
                Effect::Start { key, cause, .. } => {
                    let before = self.ends.insert(key, self.now.tick.after(self.takes));
                    assert!(before.is_none(), "{key} overlaps itself");
                    self.started.push((key, cause, self.now.wall));
                }
                Effect::Stop { key } => self.stopped.push(key),
                Effect::Skipped { key, .. } => self.skipped.push(key),
            }
        }
    }

    /// Lets real time pass, turn by turn.
    fn pass(&mut self, time: Duration) {
        let end = self.now.tick.after(time);
        loop {
            let run = self.ends.iter().min_by_key(|(_, tick)| **tick);
            let run = run.map(|(key, tick)| (*key, *tick));
            let wake = self.dispatcher.wake_at();
            assert!(wake.is_none_or(|at| at > self.now.tick), "it spins");
            let next = [run.map(|(_, tick)| tick), wake]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.step_to(end);
                return;
            };
            self.step_to(next);
            match run.filter(|(_, tick)| *tick <= next) {
                Some((key, _)) => {
                    self.ends.remove(key);
                    self.turn(Input::Finished(key));
                }
                None => self.turn(Input::Woken),
            }
        }
    }

    fn step_to(&mut self, tick: Tick) {
        self.now.wall += TimeDelta::from_std(tick.since(self.now.tick)).expect("short");
        self.now.tick = tick;
    }

    /// Somebody sets the wall clock.
    fn set(&mut self, by: TimeDelta) {
        self.now.wall += by;
    }

    fn n_runs(&self) -> usize {
        self.started.len()
    }
}

fn daily(start: &str) -> World {
    let mut world = World::new(start);
    let since = world.now.wall;
    world.register("a", "0 3 * * *", Zone::Utc, 100, since);
    world
}

#[test]
fn a_year_of_daily_is_365_runs() {
    let mut world = daily("2026-01-01T00:00:00Z");
    world.pass(DAY * 365);
    assert_eq!(world.n_runs(), 365);
    assert!(
        world
            .started
            .iter()
            .all(|(_, cause, _)| *cause == Cause::Due)
    );
    assert!(world.n_turns < 365 * 24 * 60 + 3 * 365, "{}", world.n_turns);
}

#[test]
fn a_year_in_a_zone_that_changes_its_clock_has_each_day_once() {
    let zone = Europe::Berlin;
    let mut world = World::new("2026-01-01T12:00:00Z");
    let since = world.now.wall;
    world.register("a", "30 2 * * *", Zone::Iana(zone), 100, since);
    world.pass(DAY * 365);
    assert_eq!(world.n_runs(), 365);
    let days: BTreeSet<_> = world
        .started
        .iter()
        .map(|(_, _, time)| time.with_timezone(&zone).date_naive())
        .collect();
    assert_eq!(days.len(), 365);
}

#[test]
fn a_leap_day_is_a_day() {
    let mut world = daily("2028-02-27T12:00:00Z");
    let since = world.now.wall;
    world.register("leap", "0 0 29 2 *", Zone::Utc, 100, since);
    world.pass(DAY * 3);
    let leap: Vec<Time> = world
        .started
        .iter()
        .filter(|run| run.0 == "leap")
        .map(|run| run.2)
        .collect();
    assert_eq!(leap, [at("2028-02-29T00:00:00Z")]);
    assert_eq!(world.n_runs(), 3 + 1);
}

#[test]
fn what_was_missed_while_down_runs_once() {
    for (text, then) in [
        ("0 3 * * *", 2),
        ("every 12h", 4),
        ("*/10 * * * *", 2 * 144),
    ] {
        let mut world = World::new("2026-06-10T12:00:00Z");
        world.register("a", text, Zone::Utc, 100, at("2026-05-30T03:00:02Z"));
        assert_eq!(world.n_runs(), 1, "{text}");
        assert_eq!(world.started[0].1, Cause::Missed, "{text}");
        world.pass(DAY * 2);
        assert_eq!(world.n_runs(), 1 + then, "{text}");
    }
    // Nothing was missed.
    let mut world = World::new("2026-06-10T12:00:00Z");
    world.register("a", "0 3 * * *", Zone::Utc, 100, at("2026-06-10T03:00:02Z"));
    assert_eq!(world.n_runs(), 0);
}

#[test]
fn a_machine_that_slept_runs_once_what_it_missed() {
    let mut world = daily("2026-06-10T12:00:00Z");
    world.pass(HOUR);
    // Both clocks go on; nobody looks.
    world.step_to(world.now.tick.after(DAY * 5));
    world.turn(Input::Woken);
    assert_eq!(world.n_runs(), 1);
    assert_eq!(world.started[0].1, Cause::Missed);
    world.pass(DAY);
    assert_eq!(world.n_runs(), 2);
}

#[test]
fn a_clock_set_back_runs_nothing_again() {
    let mut world = World::new("2026-06-10T02:00:00Z");
    let since = world.now.wall;
    world.register("daily", "0 3 * * *", Zone::Utc, 100, since);
    world.register("often", "*/10 * * * *", Zone::Utc, 100, since);
    world.pass(HOUR + MINUTE * 5);
    assert_eq!(world.n_runs(), 1 + 6);
    world.set(-TimeDelta::hours(1));
    // It shows 02:05 to 03:05 again.
    world.pass(HOUR);
    assert_eq!(world.n_runs(), 1 + 6);
    world.pass(HOUR);
    assert_eq!(world.n_runs(), 1 + 12);
    world.pass(DAY);
    assert_eq!(world.n_runs(), 2 + 12 + 144);
}

#[test]
fn a_clock_set_forward_an_hour_runs_once_what_it_skipped_and_not_again_when_set_back() {
    let mut world = World::new("2026-06-10T02:30:00Z");
    let since = world.now.wall;
    world.register("daily", "0 3 * * *", Zone::Utc, 100, since);
    world.register("often", "*/10 * * * *", Zone::Utc, 100, since);
    world.pass(MINUTE * 5);
    world.set(TimeDelta::hours(1));
    world.pass(MINUTE * 2);
    assert_eq!(world.n_runs(), 2, "{:?}", world.started);
    // 03:37 becomes 02:37: 02:40 to 03:30 never came to pass but for what ran for them.
    world.set(-TimeDelta::hours(1));
    world.pass(MINUTE * 10);
    assert_eq!(world.n_runs(), 3, "{:?}", world.started);
}

#[test]
fn ten_years_forward_are_one_run_each_and_ten_years_back_go_on_as_before() {
    let mut world = World::new("2026-06-10T12:00:00Z");
    let since = world.now.wall;
    world.register("daily", "0 3 * * *", Zone::Utc, 100, since);
    world.register("often", "*/10 * * * *", Zone::Utc, 100, since);
    world.register("every", "every 6h", Zone::Utc, 100, since);
    world.pass(MINUTE * 5);
    let turns = world.n_turns;
    world.set(TimeDelta::days(3652));
    world.pass(MINUTE * 4);
    let runs = |world: &World, key| world.started.iter().filter(|run| run.0 == key).count();
    assert_eq!(
        (
            runs(&world, "daily"),
            runs(&world, "often"),
            runs(&world, "every")
        ),
        (1, 1, 0)
    );
    assert!(world.n_turns - turns < 12, "it spins: {}", world.n_turns);
    world.set(-TimeDelta::days(3652));
    world.pass(DAY);
    assert_eq!(
        (
            runs(&world, "daily"),
            runs(&world, "often"),
            runs(&world, "every")
        ),
        (2, 145, 4)
    );
    // Far back, to a time that nobody has seen: it goes on there.
    world.set(-TimeDelta::days(3652));
    world.pass(DAY);
    assert_eq!(
        (
            runs(&world, "daily"),
            runs(&world, "often"),
            runs(&world, "every")
        ),
        (3, 289, 8)
    );
    // And to where it was: nothing was missed meanwhile.
    world.set(TimeDelta::days(3651));
    world.pass(Duration::from_secs(30));
    world.turn(Input::Woken);
    assert_eq!(world.now.wall, at("2026-06-11T12:09:30Z"));
    assert_eq!(
        (
            runs(&world, "daily"),
            runs(&world, "often"),
            runs(&world, "every")
        ),
        (3, 289, 8)
    );
}

#[test]
fn a_clock_set_back_while_down_runs_nothing_again() {
    let mut world = World::new("2026-06-10T02:30:00Z");
    world.register("a", "0 3 * * *", Zone::Utc, 100, at("2026-06-10T03:00:01Z"));
    world.pass(MINUTE * 5);
    // A step of the clock meanwhile changes nothing about that.
    world.set(TimeDelta::seconds(20));
    world.pass(HOUR);
    assert_eq!(world.n_runs(), 0);
    world.pass(DAY);
    assert_eq!(world.n_runs(), 1);
    // The last run was dated by a clock that was ten years ahead: it holds nothing up.
    let mut world = World::new("2026-06-10T02:30:00Z");
    world.register("a", "0 3 * * *", Zone::Utc, 100, at("2036-06-10T03:00:01Z"));
    world.register("b", "every 6h", Zone::Utc, 100, at("2036-06-10T03:00:01Z"));
    world.pass(DAY);
    assert_eq!(world.n_runs(), 1 + 4);
}

#[test]
fn at_most_so_many_run_at_once_by_priority_and_then_by_time() {
    let limits = Limits {
        concurrent: NonZeroUsize::new(2).expect("two"),
        timeout: MINUTE * 5,
    };
    let mut world = World::with("2026-06-10T02:00:00Z", limits);
    world.takes = MINUTE;
    let since = world.now.wall;
    for (key, minute, priority) in [
        ("late", 1, 5),
        ("b", 0, 5),
        ("a", 0, 5),
        ("low", 0, 9),
        ("first", 1, 1),
    ] {
        world.register(
            key,
            &format!("{minute} 3 * * *"),
            Zone::Utc,
            priority,
            since,
        );
    }
    world.pass(HOUR + MINUTE * 10);
    let order: Vec<&str> = world.started.iter().map(|run| run.0).collect();
    assert_eq!(order, ["a", "b", "first", "late", "low"]);
}

#[test]
fn a_run_that_hangs_is_stopped_once_gives_its_place_away_and_never_overlaps_itself() {
    let limits = Limits {
        concurrent: NonZeroUsize::MIN,
        timeout: MINUTE * 5,
    };
    let mut world = World::with("2026-06-10T02:55:00Z", limits);
    world.takes = DAY * 400;
    let since = world.now.wall;
    world.register("hangs", "*/10 * * * *", Zone::Utc, 1, since);
    world.pass(MINUTE * 6);
    assert_eq!(world.n_runs(), 1);
    world.takes = MINUTE;
    world.register("other", "every 2m", Zone::Utc, 9, world.now.wall);
    world.pass(HOUR);
    assert_eq!(world.stopped, ["hangs"]);
    let others = world.started.iter().filter(|run| run.0 == "other").count();
    assert!(others >= 25, "{others}");
    assert_eq!(world.skipped, ["hangs"; 6]);
    // Once it has ended, it runs again when it is due next.
    world.ends.remove("hangs");
    world.turn(Input::Finished("hangs"));
    world.pass(MINUTE * 10);
    assert_eq!(
        world.started.iter().filter(|run| run.0 == "hangs").count(),
        2
    );
}

#[test]
fn who_asks_is_served_once_and_what_is_removed_is_stopped() {
    let mut world = daily("2026-06-10T12:00:00Z");
    world.takes = MINUTE;
    world.turn(Input::Asked("a"));
    world.turn(Input::Asked("a"));
    world.turn(Input::Asked("unknown"));
    assert_eq!(world.n_runs(), 1);
    assert_eq!(world.started[0].1, Cause::Asked);
    world.turn(Input::Removed("a"));
    assert_eq!(world.stopped, ["a"]);
    // Registered anew while the old run still goes on.
    let since = world.now.wall;
    world.register("a", "every 10s", Zone::Utc, 1, since);
    world.pass(Duration::from_secs(40));
    assert_eq!(world.n_runs(), 1);
    world.pass(MINUTE);
    assert!(world.n_runs() > 1);
}

#[test]
fn a_registration_changed_runs_by_its_new_schedule_only() {
    let mut world = daily("2026-06-10T12:00:00Z");
    let since = world.now.wall;
    world.register("a", "0 4 * * *", Zone::Utc, 1, since);
    assert_eq!(
        world.dispatcher.next_of(&"a"),
        Some(at("2026-06-11T04:00:00Z"))
    );
    world.pass(DAY * 3);
    assert_eq!(world.n_runs(), 3);
    world.register("a", "on write", Zone::Utc, 1, since);
    assert_eq!(
        (world.dispatcher.next_of(&"a"), world.dispatcher.wake_at()),
        (None, None)
    );
    world.pass(DAY * 3);
    assert_eq!(world.n_runs(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However the clock is set, and whoever asks: bounds hold and nothing spins.
    #[test]
    fn bounds_hold_whatever_the_clock_does(
        steps in proptest::collection::vec((0..4_u8, 0..200_000_i64, 0..5_usize), 1..40),
        n_slots in 1..4_usize,
        takes in 1..1000_u64,
    ) {
        let limits = Limits {
            concurrent: NonZeroUsize::new(n_slots).expect("above zero"),
            timeout: Duration::from_secs(300),
        };
        let mut world = World::with("2026-03-28T00:00:00Z", limits);
        world.takes = Duration::from_secs(takes);
        let keys = ["a", "b", "c", "d", "e"];
        let texts = ["0 3 * * *", "*/7 * * * *", "every 5m", "on write", "30 2 * * SUN"];
        let since = world.now.wall;
        for (key, text) in keys.iter().zip(texts) {
            world.register(key, text, Zone::Iana(Europe::Berlin), 1, since);
        }
        for (what, amount, which) in steps {
            match what {
                0 => world.pass(Duration::from_secs(amount.unsigned_abs() % 20_000)),
                1 => world.set(TimeDelta::seconds(amount)),
                2 => world.set(-TimeDelta::seconds(amount)),
                _ => world.turn(Input::Asked(keys[which])),
            }
            let timed = world.ends.values().filter(|end| {
                // Those told to stop have no place any more.
                world.now.tick.0 + world.takes < end.0 + limits.timeout
            });
            prop_assert!(timed.count() <= n_slots);
        }
    }
}
