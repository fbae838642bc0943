//! Lengths of time as people write them: `"60m"`, `"30d"`, `"1h30m"`. A bare number is refused.

use std::time::Duration;

/// Longer than anybody keeps anything, and far from where arithmetic on dates ends.
const LONGEST: Duration = Duration::from_secs(1000 * 366 * 24 * 3600);

/// The time that `text` says, zero included, or a sentence that says why it is none.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("no time is written; write one like \"30d\"".to_owned());
    }
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative, a length of time is not"));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("`{text}` has no unit; write it like \"{text}s\""));
    }
    let time = humantime::parse_duration(text)
        .map_err(|why| format!("`{text}` is no length of time ({why}); write one like \"30d\""))?;
    if time > LONGEST {
        return Err(format!("`{text}` is longer than 1000 years"));
    }
    Ok(time)
}

/// Like [`parse`], zero refused.
pub fn parse_above_zero(text: &str) -> Result<Duration, String> {
    let time = parse(text)?;
    if time.is_zero() {
        return Err(format!("`{text}` must be longer than zero"));
    }
    Ok(time)
}

/// Like [`parse_above_zero`], for what happens again and again: shorter would be a busy loop.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let time = parse_above_zero(text)?;
    if time < Duration::from_millis(100) {
        return Err(format!("`{text}` is shorter than 100ms"));
    }
    Ok(time)
}

/// `"0"` is zero without a unit: there is nothing to mistake.
pub fn parse_quiet(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    parse(text)
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_above_zero, parse_interval, parse_quiet};
    use std::time::Duration;

    #[test]
    fn times_mean_what_they_say() {
        for (text, seconds) in [
            ("60m", 3600),
            ("30d", 2_592_000),
            ("2s", 2),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("2000ms", 2),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_quiet("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (text, part) in [
            ("60", "write it like \"60s\""),
            ("1.5", "no unit"),
            ("", "no time"),
            ("-5s", "negative"),
            ("soon", "no length of time"),
            ("5 apples", "no length of time"),
            ("5000y", "1000 years"),
            ("99999999999999999999s", "no length of time"),
            ("NaN", "no length of time"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
        assert!(parse_above_zero("0s").is_err());
        assert!(parse_interval("1ms").is_err());
        assert!(parse_quiet("60").is_err());
    }
}
