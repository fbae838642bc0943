//! Texts, and times against a naive look at every minute.

use super::Schedule;
use crate::model::time::{Time, rfc3339};
use crate::model::zone::Zone;
use chrono::{Datelike, NaiveDateTime, TimeDelta, Timelike};
use chrono_tz::{America, Australia, Europe};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn at(text: &str) -> Time {
    text.parse().expect("a time")
}

fn times(text: &str, zone: Zone, from: &str, n: usize) -> Vec<String> {
    let schedule = Schedule::parse(text, zone).expect("a schedule");
    let first = schedule.next_after(at(from));
    let all = std::iter::successors(first, |time| schedule.next_after(*time));
    all.take(n).map(rfc3339).collect()
}

#[test]
fn texts_mean_what_they_say() {
    for (text, expected) in [
        ("0 3 * * *", "2026-02-11T03:00:00Z"),
        ("  0  3 * *  * ", "2026-02-11T03:00:00Z"),
        ("*/15 * * * *", "2026-02-10T12:15:00Z"),
        ("0 0 * * SUN", "2026-02-15T00:00:00Z"),
        ("0 0 1 JAN *", "2027-01-01T00:00:00Z"),
        ("@daily", "2026-02-11T00:00:00Z"),
        ("every 6h", "2026-02-10T18:00:00Z"),
        ("6h 30m", "2026-02-10T18:30:00Z"),
        ("1d", "2026-02-11T12:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
    ] {
        assert_eq!(
            times(text, Zone::Utc, "2026-02-10T12:00:00Z", 1),
            [expected],
            "{text}"
        );
    }
    let on_write = Schedule::parse("on  write", Zone::Utc).expect("a schedule");
    assert!(on_write.is_on_write() && on_write.next_after(at("2026-02-10T12:00:00Z")).is_none());
    assert_eq!(on_write.text(), "on write");
    let every = Schedule::parse("every 90s", Zone::Utc).expect("a schedule");
    assert_eq!(every.every(), Some(Duration::from_secs(90)));
}

#[test]
fn what_is_no_schedule_is_refused_with_an_example() {
    for text in [
        "",
        " ",
        "never",
        "every",
        "every day",
        "every 0s",
        "every 10ms",
        "every 5000y",
        "0s",
        "0 3 * *",
        "0 3 * * * *",
        "60 3 * * *",
        "0 24 * * *",
        "0 3 32 * *",
        "0 3 * 13 *",
        "0 3 * * 9",
        "a b c d e",
        "*/0 * * * *",
        "0 0 30 2 *",
        "0 0 31 4 *",
        "@reboot",
        "@",
        "-5m",
        "on read",
        "1e9 * * * *",
        "é * * * *",
    ] {
        let why = Schedule::parse(text, Zone::Utc).map(|s| s.text().to_owned());
        let why = why.expect_err(text);
        assert!(why.contains("write"), "{text}: {why}");
    }
    let why = Schedule::parse("every 30", Zone::Utc).expect_err("no unit");
    assert!(why.contains("every 30m"), "{why}");
    assert!(Schedule::parse(&"1 ".repeat(400), Zone::Utc).is_err());
}

#[test]
fn a_time_in_a_gap_is_once_at_its_end_and_one_shown_twice_is_once() {
    for (zone, text, from, expected) in [
        // 02:00 becomes 03:00.
        (
            Europe::Berlin,
            "30 2 * * *",
            "2026-03-28T12:00:00Z",
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        (
            Europe::Berlin,
            "*/20 2 * * *",
            "2026-03-28T12:00:00Z",
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
        ),
        (
            Europe::Berlin,
            "0 2,3 * * *",
            "2026-03-28T12:00:00Z",
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
        ),
        // 03:00 becomes 02:00.
        (
            Europe::Berlin,
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        (
            Europe::Berlin,
            "30 * * * *",
            "2026-10-25T00:15:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"],
        ),
        (
            America::New_York,
            "30 2 * * *",
            "2026-03-07T12:00:00Z",
            ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
        ),
        (
            America::New_York,
            "30 1 * * *",
            "2026-10-31T12:00:00Z",
            ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
        ),
        // Half an hour: 02:00 becomes 02:30, and 02:00 becomes 01:30.
        (
            Australia::Lord_Howe,
            "10 2 * * *",
            "2026-10-03T00:00:00Z",
            ["2026-10-03T15:30:00Z", "2026-10-04T15:10:00Z"],
        ),
        (
            Australia::Lord_Howe,
            "40 1 * * *",
            "2026-04-04T00:00:00Z",
            ["2026-04-04T14:40:00Z", "2026-04-05T15:10:00Z"],
        ),
    ] {
        assert_eq!(
            times(text, Zone::Iana(zone), from, 2),
            expected,
            "{zone} {text}"
        );
    }
}

#[test]
fn a_year_has_each_day_once_wherever_clocks_change() {
    for zone in [Europe::Berlin, America::New_York, Australia::Lord_Howe] {
        // In the gap, in what is shown twice, and in neither.
        for text in [
            "30 2 * * *",
            "10 2 * * *",
            "40 1 * * *",
            "0 3 * * *",
            "0 0 * * *",
        ] {
            for (year, n_days) in [(2026, 365), (2028, 366)] {
                let from = format!("{year}-01-01T12:00:00Z");
                let days: BTreeSet<_> = times(text, Zone::Iana(zone), &from, n_days)
                    .iter()
                    .map(|time| at(time).with_timezone(&zone).date_naive())
                    .collect();
                assert_eq!(days.len(), n_days, "{zone} {text}");
                let last = days.last().expect("some");
                assert_eq!(
                    (last.year(), last.month(), last.day()),
                    (year + 1, 1, 1),
                    "{zone} {text}"
                );
            }
        }
    }
    let leap = times("0 0 29 2 *", Zone::Utc, "2096-01-01T00:00:00Z", 2);
    assert_eq!(leap, ["2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"]);
}

/// From the middle of what is shown twice, nothing comes that was shown before.
#[test]
fn the_second_showing_has_nothing_left() {
    let again = times(
        "*/5 * * * *",
        Zone::Iana(Europe::Berlin),
        "2026-10-25T01:10:00Z",
        1,
    );
    assert_eq!(again, ["2026-10-25T02:00:00Z"]);
}

/// One field of a cron text as numbers: a list, or all.
#[derive(Debug, Clone)]
struct Field(Option<BTreeSet<u32>>);

impl Field {
    fn text(&self) -> String {
        let Some(values) = &self.0 else {
            return "*".to_owned();
        };
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        values.join(",")
    }

    fn has(&self, value: u32) -> bool {
        self.0.as_ref().is_none_or(|values| values.contains(&value))
    }
}

/// All, `all` times as often as some.
fn field(from: u32, to: u32, all: u32) -> impl Strategy<Value = Field> {
    let some = proptest::collection::btree_set(from..=to, 1..4).prop_map(|set| Field(Some(set)));
    prop_oneof![all => Just(Field(None)), 1 => some]
}

/// Minute, hour, day, month, day of the week.
fn matches(fields: &[Field; 5], shown: NaiveDateTime) -> bool {
    let [minute, hour, day, month, week] = fields;
    let by_day = day.has(shown.day());
    let by_week = week.has(shown.weekday().num_days_from_sunday());
    let day_fits = match (&day.0, &week.0) {
        (Some(_), Some(_)) => by_day || by_week,
        _ => by_day && by_week,
    };
    minute.has(shown.minute()) && hour.has(shown.hour()) && month.has(shown.month()) && day_fits
}

/// Looks at a wall every minute: what it shows for the first time is due, and what it skipped.
fn naive(fields: &[Field; 5], zone: Zone, from: Time, n_minutes: i64) -> Vec<Time> {
    let minute = TimeDelta::minutes(1);
    let mut due = Vec::new();
    // What was shown before counts as shown: a clock comes back by a day at most.
    let earlier = (0..=26 * 60).map(|n| zone.shown(from - minute * n));
    let mut newest = earlier.max().expect("some");
    for n in 1..=n_minutes {
        let now = from + TimeDelta::minutes(n);
        let shown = zone.shown(now);
        let mut is_due = false;
        while newest < shown {
            newest += minute;
            is_due |= matches(fields, newest);
        }
        if is_due {
            due.push(now);
        }
    }
    due
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn times_are_those_of_somebody_who_looks_every_minute(
        fields in (field(0, 59, 1), field(0, 23, 1), field(1, 31, 6), field(1, 12, 6), field(0, 6, 6)),
        zone in 0..4_usize,
        change in 0..8_usize,
        before in 0..6000_i64,
    ) {
        let zone = [
            Zone::Utc,
            Zone::Iana(Europe::Berlin),
            Zone::Iana(America::New_York),
            Zone::Iana(Australia::Lord_Howe),
        ][zone];
        // Changes of clocks, the end of a year, and a leap day.
        let near = at([
            "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-03-08T07:00:00Z",
            "2026-11-01T06:00:00Z", "2026-10-03T15:30:00Z", "2026-04-04T15:00:00Z",
            "2027-12-31T22:00:00Z", "2028-02-28T22:00:00Z",
        ][change]);
        let fields = [fields.0, fields.1, fields.2, fields.3, fields.4];
        let text: Vec<String> = fields.iter().map(Field::text).collect();
        let from = near - TimeDelta::minutes(before);
        let n_minutes = 9000;
        let Ok(schedule) = Schedule::parse(&text.join(" "), zone) else {
            // A day that never comes, such as 31 April: nobody sees it.
            prop_assert!(naive(&fields, zone, from, n_minutes).is_empty());
            return Ok(());
        };
        let end = from + TimeDelta::minutes(n_minutes);
        let first = schedule.next_after(from);
        let all = std::iter::successors(first, |time| schedule.next_after(*time));
        let all: Vec<Time> = all.take_while(|time| *time <= end).collect();
        prop_assert_eq!(all, naive(&fields, zone, from, n_minutes), "{}", schedule.text());
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", cron in "[0-9*/,@LW#?A-Za-z -]{0,24}") {
        for text in [text, cron] {
            if let Ok(schedule) = Schedule::parse(&text, Zone::Local) {
                let now = at("2026-02-10T12:00:00Z");
                prop_assert!(schedule.next_after(now).is_none_or(|next| next > now));
            }
        }
    }
}
