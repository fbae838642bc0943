//! Text and numbers to times.
//!
//! A time that cannot be read is `None`, never a guess; why a parser refused it is of no use to
//! anybody, so its errors end here. What is read has a year of four digits,
//! so that it can be written as RFC 3339 again.
//!
//! A time without an offset is read in a zone. Where a change of the clock made it happen twice,
//! it is the earlier instant; where the clock skipped it, it is read with the offset from before
//! the change (so 02:30 in a gap from 02:00 to 03:00 is the instant called 03:30).

use super::spec::TimeFormat;
use crate::model::time::Time;
use crate::model::zone::Zone;
use chrono::format::{Parsed, StrftimeItems};
use chrono::{
    DateTime, Datelike, FixedOffset, MappedLocalTime, NaiveDateTime, NaiveTime, Offset, TimeDelta,
};
use serde_json::Value;
use std::fmt::Write;

/// No text of a known format is longer. Longer ones are unreadable.
const MAX_BYTES: usize = 128;

/// A time from a JSON value: numbers for epochs (a fraction for seconds only), else text.
pub(super) fn from_json(value: &Value, format: &TimeFormat, zone: Zone) -> Option<Time> {
    match value {
        Value::String(text) => from_text(text, format, zone),
        Value::Number(number) => {
            let per_second = per_second(format)?;
            if let Some(signed) = number.as_i64() {
                epoch(signed.into(), per_second)
            } else if let Some(unsigned) = number.as_u64() {
                epoch(unsigned.into(), per_second)
            } else if per_second == 1 {
                fractional(number.as_f64()?)
            } else {
                None
            }
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A time from text, numbers being decimal.
pub(super) fn from_text(text: &str, format: &TimeFormat, zone: Zone) -> Option<Time> {
    from_digits(text, format, zone, 10)
}

/// A time from text, numbers being in `radix` (2 to 36; any other reads nothing).
pub(super) fn from_digits(text: &str, format: &TimeFormat, zone: Zone, radix: u32) -> Option<Time> {
    if text.len() > MAX_BYTES {
        return None;
    }
    match format {
        TimeFormat::Rfc3339 => rfc3339(text, zone),
        TimeFormat::Strftime(words) => strftime(text, words, zone),
        TimeFormat::EpochS if radix == 10 && text.contains('.') => {
            let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-');
            if !text.bytes().all(plain) {
                return None;
            }
            fractional(text.parse().ok()?)
        }
        TimeFormat::EpochS | TimeFormat::EpochMs | TimeFormat::EpochUs | TimeFormat::EpochNs => {
            // `from_str_radix` panics on other radices, and takes a plus sign.
            if !(2..=36).contains(&radix) || text.starts_with('+') {
                return None;
            }
            let number = i128::from_str_radix(text, radix).ok()?;
            epoch(number, per_second(format)?)
        }
    }
}

/// Checks strftime words by writing a time with them and reading it back.
pub(super) fn check_words(words: &str) -> Result<(), String> {
    let time = DateTime::from_timestamp(1_770_724_800, 0).unwrap_or_default();
    let mut text = String::new();
    // `to_string` would panic on unknown words.
    if write!(text, "{}", time.format(words)).is_err() {
        return Err(format!("`{words}` has words that strftime does not know"));
    }
    match strftime(&text, words, Zone::Utc) {
        Some(_) => Ok(()),
        None => Err(format!(
            "`{words}` gives no date; name at least year, month and day"
        )),
    }
}

/// How many of an epoch format's units a second has; `None` for formats that are text.
fn per_second(format: &TimeFormat) -> Option<i128> {
    match format {
        TimeFormat::EpochS => Some(1),
        TimeFormat::EpochMs => Some(1_000),
        TimeFormat::EpochUs => Some(1_000_000),
        TimeFormat::EpochNs => Some(1_000_000_000),
        TimeFormat::Rfc3339 | TimeFormat::Strftime(_) => None,
    }
}

fn epoch(number: i128, per_second: i128) -> Option<Time> {
    let seconds = i64::try_from(number.div_euclid(per_second)).ok()?;
    let nanos = number.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let nanos = u32::try_from(nanos).ok()?;
    in_range(DateTime::from_timestamp(seconds, nanos)?)
}

fn fractional(seconds: f64) -> Option<Time> {
    // Beyond any year of four digits; also keeps NaN out.
    if seconds.is_nan() || seconds.abs() > 1e12 {
        return None;
    }
    let whole = seconds.floor();
    let nanos = ((seconds - whole) * 1e9).min(999_999_999.0);
    in_range(DateTime::from_timestamp(whole as i64, nanos as u32)?)
}

/// RFC 3339 with an offset, or the same without one.
fn rfc3339(text: &str, zone: Zone) -> Option<Time> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => in_range(time.to_utc()),
        Err(_no_offset) => {
            let naive = DateTime::parse_from_rfc3339(&format!("{text}Z")).ok()?;
            in_zone(naive.naive_utc(), zone)
        }
    }
}

fn strftime(text: &str, words: &str, zone: Zone) -> Option<Time> {
    let mut parsed = Parsed::new();
    if chrono::format::parse(&mut parsed, text, StrftimeItems::new(words)).is_err() {
        return None;
    }
    // Of a year of four digits chrono accepts fewer; a year 26 would be the oldest of all.
    if parsed.year().is_some_and(|year| year < 1000) {
        return None;
    }
    if parsed.offset().is_some() {
        return in_range(parsed.to_datetime().ok()?.to_utc());
    }
    if parsed.timestamp().is_some() {
        let time = parsed.to_naive_datetime_with_offset(0).ok()?;
        return in_range(time.and_utc());
    }
    let date = parsed.to_naive_date().ok()?;
    let has_time = parsed.hour_div_12().is_some()
        || parsed.hour_mod_12().is_some()
        || parsed.minute().is_some()
        || parsed.second().is_some();
    let time = if has_time {
        parsed.to_naive_time().ok()?
    } else {
        NaiveTime::MIN
    };
    in_zone(date.and_time(time), zone)
}

fn in_zone(naive: NaiveDateTime, zone: Zone) -> Option<Time> {
    // Before any arithmetic, which near chrono's ends could overflow.
    if !(0..=9999).contains(&naive.year()) {
        return None;
    }
    in_range(match zone.when(naive) {
        MappedLocalTime::Single(time) => time.to_utc(),
        MappedLocalTime::Ambiguous(one, other) => one.to_utc().min(other.to_utc()),
        MappedLocalTime::None => {
            let naive_utc = naive.checked_sub_offset(offset_before(naive, zone)?)?;
            naive_utc.and_utc()
        }
    })
}

/// The offset that held before the gap `naive` lies in. The longest gap ever was a day.
fn offset_before(naive: NaiveDateTime, zone: Zone) -> Option<FixedOffset> {
    (1..=4 * 26).find_map(|quarters| {
        let earlier = naive.checked_sub_signed(TimeDelta::minutes(15 * quarters))?;
        Some(zone.when(earlier).latest()?.offset().fix())
    })
}

fn in_range(time: Time) -> Option<Time> {
    (0..=9999).contains(&time.year()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Local, Timelike, Utc};
    use proptest::prelude::*;
    use serde_json::json;

    fn shown(time: Option<Time>) -> String {
        time.map_or("-".to_owned(), crate::model::time::rfc3339)
    }

    #[test]
    fn rfc3339_in_every_spelling() {
        for (text, expected) in [
            ("2026-02-10T12:00:00Z", "2026-02-10T12:00:00Z"),
            ("2026-02-10t12:00:00z", "2026-02-10T12:00:00Z"),
            ("2026-02-10 12:00:00+09:00", "2026-02-10T03:00:00Z"),
            ("2026-02-10T12:00:00-05:30", "2026-02-10T17:30:00Z"),
            ("2026-02-10T12:00:00", "2026-02-10T12:00:00Z"),
            ("2026-02-10 12:00:00", "2026-02-10T12:00:00Z"),
            ("2026-02-10T12:00:00.123456", "2026-02-10T12:00:00.123456Z"),
            (
                "2026-02-10T12:00:00.1234567891",
                "2026-02-10T12:00:00.123456789Z",
            ),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60Z"),
            ("2026-02-10", "-"),
            ("26-02-10T12:00:00", "-"),
            ("2026-02-30T12:00:00Z", "-"),
            ("2026-02-10T25:00:00Z", "-"),
            ("2026-02-10T12:00:00ZZ", "-"),
            (" 2026-02-10T12:00:00Z", "-"),
            ("2026-02-10T12:00:00Z ", "-"),
            ("0000-01-01T00:00:00+01:00", "-"),
            ("9999-12-31T23:59:59-01:00", "-"),
            ("not-a-date", "-"),
            ("1770724800", "-"),
            ("", "-"),
            ("2026-02-10T12:00:0é", "-"),
        ] {
            let read = from_text(text, &TimeFormat::Rfc3339, Zone::Utc);
            assert_eq!(shown(read), expected, "{text}");
        }
    }

    #[test]
    fn zones_with_gaps_and_overlaps() {
        for (zone, text, expected) in [
            (
                chrono_tz::Europe::Berlin,
                "2026-07-01T12:00:00",
                "2026-07-01T10:00:00Z",
            ),
            // Skipped: 02:00 became 03:00 at 01:00Z.
            (
                chrono_tz::Europe::Berlin,
                "2026-03-29T02:00:00",
                "2026-03-29T01:00:00Z",
            ),
            (
                chrono_tz::Europe::Berlin,
                "2026-03-29T02:30:00",
                "2026-03-29T01:30:00Z",
            ),
            (
                chrono_tz::Europe::Berlin,
                "2026-03-29T03:00:00",
                "2026-03-29T01:00:00Z",
            ),
            // Twice: 03:00 became 02:00 at 01:00Z.
            (
                chrono_tz::Europe::Berlin,
                "2026-10-25T02:30:00",
                "2026-10-25T00:30:00Z",
            ),
            // Half an hour.
            (
                chrono_tz::Australia::Lord_Howe,
                "2026-10-04T02:10:00",
                "2026-10-03T15:40:00Z",
            ),
            // A whole day.
            (
                chrono_tz::Pacific::Apia,
                "2011-12-30T12:00:00",
                "2011-12-30T22:00:00Z",
            ),
            (
                chrono_tz::Asia::Kolkata,
                "2026-07-01T12:00:00Z",
                "2026-07-01T12:00:00Z",
            ),
        ] {
            let read = from_text(text, &TimeFormat::Rfc3339, Zone::Iana(zone));
            assert_eq!(shown(read), expected, "{zone} {text}");
        }
    }

    #[test]
    fn epochs() {
        use TimeFormat::{EpochMs, EpochNs, EpochS, EpochUs, Rfc3339};
        for (value, format, expected) in [
            (json!(1_770_724_800), EpochS, "2026-02-10T12:00:00Z"),
            (json!("1770724800"), EpochS, "2026-02-10T12:00:00Z"),
            (json!(1_770_724_800.5), EpochS, "2026-02-10T12:00:00.500Z"),
            (json!("1770724800.25"), EpochS, "2026-02-10T12:00:00.250Z"),
            (json!(-1), EpochS, "1969-12-31T23:59:59Z"),
            (json!("-1"), EpochMs, "1969-12-31T23:59:59.999Z"),
            (json!(-0.5), EpochS, "1969-12-31T23:59:59.500Z"),
            (
                json!(1_770_724_800_001_u64),
                EpochMs,
                "2026-02-10T12:00:00.001Z",
            ),
            (
                json!(1_770_724_800_000_001_u64),
                EpochUs,
                "2026-02-10T12:00:00.000001Z",
            ),
            (
                json!(1_770_724_800_000_000_001_u64),
                EpochNs,
                "2026-02-10T12:00:00.000000001Z",
            ),
            (json!(1.5), EpochMs, "-"),
            (json!(1e300), EpochS, "-"),
            (json!(u64::MAX), EpochS, "-"),
            (json!(i64::MIN), EpochS, "-"),
            (json!("+5"), EpochS, "-"),
            (json!("1_000"), EpochS, "-"),
            (json!("inf"), EpochS, "-"),
            (json!("1e3.0"), EpochS, "-"),
            (json!(".."), EpochS, "-"),
            (json!(""), EpochS, "-"),
            (json!("9".repeat(60)), EpochNs, "-"),
            (json!("9".repeat(600)), EpochNs, "-"),
            (json!(true), EpochS, "-"),
            (json!([1]), EpochS, "-"),
            (json!({}), EpochS, "-"),
            (json!(1_770_724_800), Rfc3339, "-"),
        ] {
            let read = from_json(&value, &format, Zone::Utc);
            assert_eq!(shown(read), expected, "{value} {format:?}");
        }
        let in_36 = from_digits("1z141z4", &EpochS, Zone::Utc, 36);
        assert_eq!(
            in_36.map(|time| time.timestamp()),
            i64::from_str_radix("1z141z4", 36).ok()
        );
        assert_eq!(from_digits("1", &EpochS, Zone::Utc, 99), None);
    }

    #[test]
    fn strftime_words() {
        for (words, text, expected) in [
            ("%Y%m%d_%H%M%S", "20260210_120000", "2026-02-10T12:00:00Z"),
            ("%Y-%m-%d", "2026-02-10", "2026-02-10T00:00:00Z"),
            ("%Y-%m-%d %H:%M", "2026-02-10 12:30", "2026-02-10T12:30:00Z"),
            (
                "%Y%m%dT%H%M%S%z",
                "20260210T120000+0900",
                "2026-02-10T03:00:00Z",
            ),
            ("%s", "1770724800", "2026-02-10T12:00:00Z"),
            ("%Y-%m-%d", "26-02-10", "-"),
            ("%Y%m%d_%H%M%S", "20261310_120000", "-"),
            ("%Y%m%d_%H%M%S", "20260210_126000", "-"),
            ("%Y%m%d_%H%M%S", "", "-"),
            ("%Y-%m-%d", "+99999-01-01", "-"),
        ] {
            let read = from_text(text, &TimeFormat::Strftime(words.to_owned()), Zone::Utc);
            assert_eq!(shown(read), expected, "{words} {text}");
        }
        for good in ["%Y%m%d_%H%M%S", "%Y-%m-%d", "%s", "%+", "%d.%m.%y %H:%M"] {
            assert_eq!(check_words(good), Ok(()), "{good}");
        }
        for bad in ["", "%", "%Q", "%Y%", "%H%M%S", "%Y", "now", "%Y%m%d %H"] {
            assert!(check_words(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_host_zone_reads_anything() {
        for text in [
            "0000-01-01T00:00:00",
            "9999-12-31T23:59:59",
            "2026-03-29T02:30:00",
        ] {
            // Only that it does not panic; the answer depends on the host.
            let _read = from_text(text, &TimeFormat::Rfc3339, Zone::Local);
        }
        let noon = from_text("2026-02-10T12:00:00", &TimeFormat::Rfc3339, Zone::Local);
        assert_eq!(noon.map(|time| time.with_timezone(&Local).hour()), Some(12));
        assert_eq!(noon.map(|time| time.with_timezone(&Utc)), noon);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*", words in "[%A-Za-z0-9:.#_ -]{0,8}", radix: u32) {
            for format in [
                TimeFormat::Rfc3339,
                TimeFormat::EpochS,
                TimeFormat::EpochNs,
                TimeFormat::Strftime(words.clone()),
            ] {
                for zone in [Zone::Utc, Zone::Local, Zone::Iana(chrono_tz::Europe::Berlin)] {
                    from_digits(&text, &format, zone, radix);
                }
            }
            let _checked = check_words(&words);
        }
    }
}
