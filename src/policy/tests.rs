//! Laws of `draft` over random input, and the promises' corner cases as tables.

use super::*;
use crate::model::plan::Rule;
use crate::policy::flow::Growth;
use crate::policy::forecast::{Ahead, Due, Fate, Moment, Outset, forecast};
use crate::policy::limits::Headroom;
use chrono::TimeDelta;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn now() -> Now {
    Now {
        wall: "2026-12-01T00:00:00Z".parse().expect("a time"),
        tick: Tick(Duration::from_secs(1_000)),
    }
}

fn session(slot: u32, minutes_old: i64, bytes: u64, hold: Option<Hold>) -> Candidate {
    Candidate {
        session: SessionId {
            slot,
            generation: 1,
        },
        created: now().wall - TimeDelta::minutes(minutes_old),
        bytes: Bytes(bytes),
        hold,
    }
}

fn held(by: Blocker, fixed: bool) -> Hold {
    let until = (!fixed).then(|| now().tick.after(Duration::from_secs(5)));
    Hold { by, until, fixed }
}

fn usage(sessions: &[Candidate], orphans: u64) -> Usage {
    let fixed = || sessions.iter().filter(|s| s.hold.is_some_and(|h| h.fixed));
    let sum = |bytes: u64, s: &Candidate| bytes + s.bytes.0;
    Usage {
        bytes: Bytes(sessions.iter().fold(orphans, sum)),
        fixed: Bytes(fixed().fold(orphans, sum)),
        orphans: Bytes(orphans),
        n_sessions: sessions.len() as u64,
        n_fixed: fixed().count() as u64,
        entry: Bytes::ZERO,
    }
}

fn drafted(limits: &Limits, sessions: &[Candidate], orphans: u64, max_picks: usize) -> Draft {
    let mut oldest = sessions.to_vec();
    oldest.sort_by_key(|s| (s.created, s.session.slot));
    let speaking = Speaking {
        age: true,
        down_to_goal: false,
    };
    let question = Question {
        usage: usage(sessions, orphans),
        speaking,
        now: now(),
        max_picks,
    };
    let freed = |id: SessionId| {
        let session = sessions.iter().find(|s| s.session == id);
        session.expect("one of them").bytes
    };
    draft(limits, question, oldest.into_iter(), Held::default, freed)
}

fn by_size(max: u64, prune_to: Option<u64>) -> Limits {
    Limits {
        max_size: Some(Bytes(max)),
        prune_to: prune_to.map(Bytes),
        ..Limits::default()
    }
}

/// Which sessions go when these many bytes lie in sessions of these sizes, oldest first.
fn gone(limits: &Limits, sizes: &[u64], orphans: u64) -> Vec<u32> {
    let sessions: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(at, bytes)| session(at as u32, 100 - at as i64, *bytes, None))
        .collect();
    let draft = drafted(limits, &sessions, orphans, usize::MAX);
    draft.picks.iter().map(|pick| pick.session.slot).collect()
}

#[test]
fn exactly_at_the_limit_is_not_over_it() {
    assert_eq!(gone(&by_size(30, None), &[10, 10, 10], 0), [0; 0]);
    assert_eq!(gone(&by_size(29, None), &[10, 10, 10], 0), [0]);
    assert_eq!(gone(&by_size(30, Some(15)), &[10, 10, 10], 0), [0; 0]);
    assert_eq!(gone(&by_size(29, Some(15)), &[10, 10, 10], 0), [0, 1]);
    assert_eq!(gone(&by_size(29, Some(20)), &[10, 10, 10], 0), [0]);
    let ahead = Limits {
        headroom: Headroom::Fixed(Bytes(10)),
        ..by_size(30, None)
    };
    assert_eq!(gone(&ahead, &[10, 10], 0), [0; 0]);
    assert_eq!(gone(&ahead, &[10, 11], 0), [0]);
    assert_eq!(gone(&Limits::default(), &[10, 10], 0), [0; 0]);
}

#[test]
fn undeletable_bytes_leave_the_newest_tenth() {
    // 200 bytes nobody may take, over a limit of 100: sessions of 10 in all stay.
    assert_eq!(gone(&by_size(100, None), &[50, 4, 3, 3], 200), [0]);
    assert_eq!(gone(&by_size(100, None), &[50, 4, 4, 3], 200), [0, 1]);
    assert_eq!(gone(&by_size(100, None), &[11], 200), [0]);
    assert_eq!(gone(&by_size(100, None), &[10], 200), [0; 0]);
    // Nothing undeletable: a goal below a tenth is reached.
    assert_eq!(gone(&by_size(100, Some(3)), &[98, 3, 2], 0), [0, 1]);
    let sessions = [session(0, 9, 50, None), session(1, 8, 7, None)];
    let draft = drafted(&by_size(100, None), &sessions, 200, usize::MAX);
    assert_eq!(draft.still_over, Bytes(107));
    let reserved = Held {
        n_sessions: 1,
        bytes: Bytes(7),
    };
    let orphans = Held {
        n_sessions: 0,
        bytes: Bytes(200),
    };
    let blocked = [(Blocker::Orphan, orphans), (Blocker::Reserved, reserved)];
    assert_eq!(draft.blocked, blocked);
}

#[test]
fn a_burst_goes_on_down_to_the_goal() {
    let sessions = [session(0, 9, 10, None), session(1, 8, 10, None)];
    let speaking = Speaking {
        age: true,
        down_to_goal: true,
    };
    let draft = draft(
        &by_size(30, Some(10)),
        Question {
            usage: usage(&sessions, 0),
            speaking,
            now: now(),
            max_picks: usize::MAX,
        },
        sessions.into_iter(),
        Held::default,
        |_| Bytes(10),
    );
    assert_eq!(draft.picks.len(), 1);
}

#[test]
fn over_an_age_is_strictly_older() {
    let limits = Limits {
        max_age: Some(Duration::from_secs(600)),
        ..Limits::default()
    };
    let sessions = [
        session(0, 11, 1, None),
        session(1, 10, 1, None),
        session(2, -5, 1, None),
    ];
    let draft = drafted(&limits, &sessions, 0, usize::MAX);
    assert_eq!(draft.picks.len(), 1);
    assert_eq!(draft.picks[0].session.slot, 0);
}

#[test]
fn a_clock_that_is_not_believed_ages_nothing() {
    let limits = Limits {
        max_age: Some(Duration::from_secs(600)),
        ..Limits::default()
    };
    let speaking = Speaking {
        age: false,
        down_to_goal: false,
    };
    let sessions = [session(0, 11, 1, None)];
    let oldest = sessions.into_iter();
    let draft = draft(
        &limits,
        Question {
            usage: usage(&sessions, 0),
            speaking,
            now: now(),
            max_picks: 9,
        },
        oldest,
        Held::default,
        |_| Bytes(1),
    );
    assert!(draft.picks.is_empty());
}

#[test]
fn what_stays_is_named_with_the_end_of_its_reason() {
    let quiet = |slot, seconds| {
        let hold = Hold {
            by: Blocker::Quiet,
            until: Some(now().tick.after(Duration::from_secs(seconds))),
            fixed: false,
        };
        session(slot, 50 - i64::from(slot), 10, Some(hold))
    };
    let sessions = [quiet(0, 7), quiet(1, 3), session(2, 1, 10, None)];
    let draft = drafted(&by_size(15, None), &sessions, 0, usize::MAX);
    assert_eq!(draft.picks.len(), 1);
    assert_eq!(draft.still_over, Bytes(5));
    assert_eq!(draft.retry, Some(now().tick.after(Duration::from_secs(3))));
    let held = Held {
        n_sessions: 2,
        bytes: Bytes(20),
    };
    assert_eq!(draft.blocked, [(Blocker::Quiet, held)]);
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let hold = prop_oneof![
        6 => Just(None),
        1 => Just(Some(held(Blocker::Active, true))),
        1 => Just(Some(held(Blocker::Pinned, true))),
        1 => Just(Some(held(Blocker::Quiet, false))),
        1 => Just(Some(held(Blocker::Locked, false))),
    ];
    prop::collection::vec((0..60i64, 0..40u64, hold), 0..25).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(at, (age, bytes, hold))| session(at as u32, age, bytes, hold))
            .collect()
    })
}

prop_compose! {
    fn limits()(
        size in prop::option::of(1..300u64),
        goal in prop::option::of(1..300u64),
        count in prop::option::of(1..20u64),
        age in prop::option::of(1..60u64),
        headroom in 0..40u64,
    ) -> Limits {
        Limits {
            max_size: size.map(Bytes),
            prune_to: goal.map(Bytes),
            max_count: count,
            max_age: age.map(|minutes| Duration::from_secs(60 * minutes)),
            headroom: Headroom::Fixed(Bytes(headroom)),
            ..Limits::default()
        }
    }
}

proptest! {
    /// What goes is the oldest of what may go, in order; what is held stays.
    #[test]
    fn oldest_first_and_held_stay(all in candidates(), limits in limits(), orphans in 0..100u64) {
        let draft = drafted(&limits, &all, orphans, usize::MAX);
        let mut may_go: Vec<_> = all.iter().filter(|s| s.hold.is_none()).collect();
        may_go.sort_by_key(|s| (s.created, s.session.slot));
        let oldest: Vec<_> = may_go.iter().map(|s| s.session).collect();
        let picked: Vec<_> = draft.picks.iter().map(|p| p.session).collect();
        prop_assert_eq!(&picked[..], &oldest[..picked.len()]);
    }

    /// Before each pick there was a reason; after the last one there is none, or what is left
    /// is held or the newest tenth.
    #[test]
    fn it_stops_as_soon_as_it_may(all in candidates(), limits in limits(), orphans in 0..100u64) {
        let draft = drafted(&limits, &all, orphans, usize::MAX);
        let mut used = usage(&all, orphans);
        let was_over = limits.is_over(used.bytes);
        let wants = |used: &Usage, created: Time| {
            let too_big = was_over && limits.goal().is_some_and(|goal| used.bytes > goal);
            let too_many = limits.max_count.is_some_and(|max| used.n_sessions > max);
            let too_old = limits.max_age.is_some_and(|max| age(created, now().wall) > max);
            (too_big, too_many, too_old)
        };
        for pick in &draft.picks {
            prop_assert_ne!(wants(&used, pick.created), (false, false, false));
            used.bytes = used.bytes.saturating_sub(pick.freed);
            used.n_sessions -= 1;
        }
        let picked: BTreeSet<_> = draft.picks.iter().map(|p| p.session).collect();
        let left = || all.iter().filter(|s| s.hold.is_none() && !picked.contains(&s.session));
        let newest = left().map(|s| s.created).min();
        if let Some(created) = newest {
            let (too_big, too_many, too_old) = wants(&used, created);
            prop_assert!(!too_old);
            let bytes: u64 = left().map(|s| s.bytes.0).sum();
            let max = limits.max_size.map_or(0, |max| max.0);
            if too_big {
                prop_assert!(bytes <= max / 10, "{bytes} stay of {max}");
            }
            if too_many && !too_big {
                let n = left().count() as u64;
                prop_assert!(n <= limits.max_count.unwrap_or(0) / 10);
            }
        }
        let over = limits.goal().filter(|_| was_over);
        let over = over.map_or(Bytes::ZERO, |goal| used.bytes.saturating_sub(goal));
        prop_assert_eq!(draft.still_over, over);
        let reasons: u64 = draft.blocked.iter().map(|(_, held)| held.bytes.0).sum();
        prop_assert!(reasons >= over.0, "{draft:?}");
    }

    /// What was measured never prunes further down than itself, nor than a tenth of the limit,
    /// and never when the root is below both.
    #[test]
    fn measured_headroom_is_bounded(all in candidates(), limits in limits(), measured in 0..400u64) {
        let auto = Limits { headroom: Headroom::Auto, ..limits };
        prop_assert_eq!(auto.with_measured(Bytes::ZERO).threshold(), auto.max_size);
        let by_size = Limits { max_age: None, max_count: None, prune_to: None, ..auto };
        let now = by_size.with_measured(Bytes(measured));
        let Some(max) = now.max_size else {
            prop_assert_eq!(now.ahead(), Bytes::ZERO);
            return Ok(());
        };
        prop_assert!(now.ahead() <= Bytes(measured) && now.ahead().0 <= max.0 / 10);
        let draft = drafted(&now, &all, 0, usize::MAX);
        let mut used = usage(&all, 0).bytes;
        for pick in &draft.picks {
            prop_assert!(used.0 > max.0 - max.0 / 10 && used.0 > max.0.saturating_sub(measured));
            used = used.saturating_sub(pick.freed);
        }
    }

    /// Picking by portions is picking at once.
    #[test]
    fn portions_add_up(all in candidates(), limits in limits(), portion in 1..4usize) {
        let whole = drafted(&limits, &all, 0, usize::MAX);
        let part = drafted(&limits, &all, 0, portion);
        let n = portion.min(whole.picks.len());
        prop_assert_eq!(&part.picks[..], &whole.picks[..n]);
        prop_assert_eq!(part.more, whole.picks.len() > portion);
    }
}

fn foreseen(
    limits: &Limits,
    sessions: &[Candidate],
    orphans: u64,
    growth: Growth,
) -> Vec<(u32, Fate)> {
    let mut oldest = sessions.to_vec();
    oldest.sort_by_key(|s| (s.created, s.session.slot));
    let outset = Outset {
        limits: limits.clone(),
        usage: usage(sessions, orphans),
        speaking: Speaking {
            age: true,
            down_to_goal: false,
        },
        now: now(),
        growth,
    };
    let ahead = oldest.iter().map(|candidate| Ahead {
        candidate: *candidate,
        freed: candidate.bytes,
        retires: None,
    });
    let fates = forecast(&outset, ahead);
    oldest.iter().map(|s| s.session.slot).zip(fates).collect()
}

/// A byte a second.
const TRICKLE: Growth = Growth {
    bytes: Bytes(60),
    n_sessions: 0,
    over: Duration::from_secs(60),
};

/// In which second each session goes, where a byte comes each second and nobody may take it.
fn lived_through(limits: &Limits, sessions: &[Candidate], seconds: u64) -> Vec<(u32, u64)> {
    let (mut left, mut gone) = (sessions.to_vec(), Vec::new());
    left.sort_by_key(|s| (s.created, s.session.slot));
    for second in 0..=seconds {
        let mut usage = usage(&left, 0);
        usage.bytes = usage.bytes.saturating_add(Bytes(second));
        let question = Question {
            usage,
            speaking: Speaking {
                age: true,
                down_to_goal: false,
            },
            now: now(),
            max_picks: usize::MAX,
        };
        let freed = |id: SessionId| {
            let session = left.iter().find(|s| s.session == id);
            session.expect("one of them").bytes
        };
        let picks = draft(limits, question, left.iter().copied(), Held::default, freed).picks;
        gone.extend(picks.iter().map(|pick| (pick.session.slot, second)));
        left.retain(|s| picks.iter().all(|pick| pick.session != s.session));
    }
    gone
}

#[test]
fn an_age_ends_at_an_exact_instant_and_no_growth_is_never() {
    let limits = Limits {
        max_age: Some(Duration::from_secs(600)),
        ..by_size(30, None)
    };
    let still = Growth {
        bytes: Bytes::ZERO,
        ..TRICKLE
    };
    let all = [
        session(0, 11, 5, None),
        session(1, 10, 5, None),
        session(2, 4, 5, None),
    ];
    let fates = foreseen(&limits, &all, 0, still);
    let at = |seconds| now().wall + TimeDelta::seconds(seconds) + TimeDelta::milliseconds(1);
    let exact = |at| Due::At(Moment { at, exact: true });
    let dues: Vec<_> = fates.iter().map(|(_, fate)| fate.due).collect();
    assert_eq!(dues, [Due::Now, exact(at(0)), exact(at(360))]);
    let fates = foreseen(&by_size(30, None), &all, 0, still);
    assert!(
        fates
            .iter()
            .all(|(_, f)| f.due == Due::NeverAtThisRate && f.rule == Some(Rule::Size))
    );
    let fates = foreseen(&Limits::default(), &all, 0, TRICKLE);
    assert!(
        fates
            .iter()
            .all(|(_, f)| f.due == Due::Never && f.rule.is_none())
    );
}

#[test]
fn who_stays_is_passed_over_and_a_reason_that_ends_before_is_none() {
    let quiet = Some(held(Blocker::Quiet, false));
    let pinned = Some(held(Blocker::Pinned, true));
    let all = [
        session(0, 9, 10, pinned),
        session(1, 8, 10, quiet),
        session(2, 7, 10, None),
    ];
    // Over the limit now: what is written to is passed over.
    let fates = foreseen(&by_size(25, None), &all, 0, TRICKLE);
    let by = |fate: &Fate| fate.passed_over.map(|hold| hold.by);
    let reasons: Vec<_> = fates.iter().map(|(_, fate)| by(fate)).collect();
    assert_eq!(reasons, [Some(Blocker::Pinned), Some(Blocker::Quiet), None]);
    assert_eq!(fates[2].1.due, Due::Now);
    // In eleven seconds: by then it is quiet no more.
    let fates = foreseen(&by_size(40, None), &all, 0, TRICKLE);
    let at = now().wall + TimeDelta::seconds(11);
    assert_eq!(fates[1].1.due, Due::At(Moment { at, exact: false }));
    assert_eq!(by(&fates[1].1), None);
}

proptest! {
    /// What a forecast says goes now is what a plan picks, by the same rules.
    #[test]
    fn now_is_what_a_plan_picks(all in candidates(), limits in limits(), orphans in 0..100u64) {
        let draft = drafted(&limits, &all, orphans, usize::MAX);
        let picked: Vec<_> = draft.picks.iter().map(|p| (p.session.slot, Some(p.because.rule()))).collect();
        let fates = foreseen(&limits, &all, orphans, TRICKLE);
        let now: Vec<_> = fates
            .iter()
            .filter(|(_, fate)| fate.due == Due::Now && fate.passed_over.is_none())
            .map(|(slot, fate)| (*slot, fate.rule))
            .collect();
        prop_assert_eq!(now, picked);
    }

    /// What is written a byte a second takes each session in the second that was foreseen.
    #[test]
    fn what_was_foreseen_comes(all in candidates(), limits in limits()) {
        const SECONDS: u64 = 300;
        let lasting = |s: &Candidate| s.hold.is_none_or(|hold| hold.fixed);
        let all: Vec<_> = all.into_iter().filter(lasting).collect();
        let limits = Limits { max_age: None, ..limits };
        let foreseen = foreseen(&limits, &all, 0, TRICKLE);
        let foreseen: Vec<_> = foreseen
            .iter()
            .filter(|(_, fate)| fate.passed_over.is_none())
            .filter_map(|(slot, fate)| match fate.due {
                Due::Now => Some((*slot, 0)),
                Due::At(moment) => Some((*slot, (moment.at - now().wall).num_seconds() as u64)),
                Due::NeverAtThisRate | Due::Never => None,
            })
            .filter(|(_, second)| *second <= SECONDS)
            .collect();
        prop_assert_eq!(foreseen, lived_through(&limits, &all, SECONDS));
    }
}
