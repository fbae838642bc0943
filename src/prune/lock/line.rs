//! The line that says who holds a lock.

use crate::model::time::Time;
use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// How a time of day ends a moment in RFC 3339 with milliseconds.
const TIME: usize = "hh:mm:ss.mmmZ".len();

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) since: String,
    /// Containers on one machine have names of their own, but one kernel, whose `flock` reaches
    /// all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<String>,
}

/// Our own line, ready but for the time: a removal waits for it, so it is spelled out anew once a
/// day only.
pub(super) struct OwnLine {
    line: Line,
    text: Vec<u8>,
    /// The day it is spelled out for, since 1970.
    day: Option<i64>,
    /// Where the time of day is.
    time_at: usize,
}

impl OwnLine {
    pub(super) fn new(line: Line) -> Self {
        Self {
            line,
            text: Vec::new(),
            day: None,
            time_at: 0,
        }
    }

    /// The line of somebody who holds the lock since then, with its end.
    pub(super) fn since(&mut self, wall: Time) -> serde_json::Result<&[u8]> {
        let day = wall.timestamp().div_euclid(DAY);
        if self.day == Some(day) {
            self.set_time(wall);
        } else {
            self.spell_out(wall, day)?;
        }
        Ok(&self.text)
    }

    fn spell_out(&mut self, wall: Time, day: i64) -> serde_json::Result<()> {
        self.day = None;
        self.line.since = wall.to_rfc3339_opts(SecondsFormat::Millis, true);
        self.text = serde_json::to_vec(&self.line)?;
        self.text.push(b'\n');
        // A quote within a text has a backslash before it: this stands in it once.
        let since = format!("\"since\":\"{}\"", self.line.since);
        let found = |w: &[u8]| w == since.as_bytes();
        if let Some(at) = self.text.windows(since.len()).position(found) {
            self.time_at = at + since.len() - "\"".len() - TIME;
            self.day = Some(day);
        }
        Ok(())
    }

    fn set_time(&mut self, wall: Time) {
        let second = wall.timestamp().rem_euclid(DAY).unsigned_abs() as u32;
        let millis = wall.timestamp_subsec_millis().min(999);
        let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
        // Each number's last digit stands before its mark.
        let numbers = [
            (2, hours, 2),
            (5, minutes, 2),
            (8, seconds, 2),
            (12, millis, 3),
        ];
        for (end, mut number, n_digits) in numbers {
            for at in (end - n_digits..end).rev() {
                self.text[self.time_at + at] = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
    }
}

impl std::fmt::Debug for OwnLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn line(host: &str) -> Line {
        Line {
            host: host.to_owned(),
            pid: 7,
            since: String::new(),
            boot: Some("2026-11-28T00:00:00.000Z".to_owned()),
        }
    }

    proptest! {
        /// Set into the text it is what is spelled out.
        #[test]
        fn a_time_is_set_as_it_is_spelled_out(
            day in -800_000i64..3_000_000,
            times in proptest::collection::vec((0..DAY, 0u32..1_000_000_000), 1..5),
            host in prop_oneof!["[a-z\"0-9:.-]{0,12}", Just("2026-11-28T00:00:00.000Z".to_owned())],
        ) {
            let mut own = OwnLine::new(line(&host));
            for (second, nanos) in times {
                let wall = DateTime::from_timestamp(day * DAY + second, nanos).expect("in range");
                let since = wall.to_rfc3339_opts(SecondsFormat::Millis, true);
                let mut wanted = serde_json::to_vec(&Line { since, ..line(&host) }).expect("json");
                wanted.push(b'\n');
                prop_assert_eq!(own.since(wall).expect("json"), &wanted[..]);
            }
        }
    }
}
