//! When a clean-up runs: schedules as people write them, and who is to run now.
//!
//! A cron time is a time on the wall of its zone. Where a change of the clock skips it, it is the
//! first instant after the gap; several that one gap skips are one run. Where the clock shows it
//! twice, it is the first of the two: `*/5 * * * *` pauses while an hour is shown again, and who
//! wants every five minutes of real time writes `every 5m`.

pub mod dispatcher;
mod lived;

use crate::model::time::Time;
use crate::model::zone::Zone;
use chrono::{MappedLocalTime, NaiveDateTime, TimeDelta};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use std::time::Duration;

/// What to write, at the end of every refusal.
const EXAMPLES: &str =
    "write five cron fields like \"0 3 * * *\", an interval like \"every 6h\", or \"on write\"";
/// Longer is nobody's schedule.
const MAX_TEXT: usize = 256;
/// A shorter interval would be a busy loop.
const MIN_EVERY: Duration = Duration::from_secs(1);
/// Longer than anybody waits, and far from where arithmetic on dates ends.
const MAX_EVERY: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
/// Minutes that the longest change of a clock ever skipped or showed again: a day, and a rest.
const LONGEST_CHANGE: usize = 26 * 60;

/// When something runs again and again.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    rhythm: Rhythm,
}

#[derive(Debug, Clone)]
enum Rhythm {
    /// On the wall of a zone.
    Cron(Box<Cron>, Zone),
    /// After so much time, whatever a wall shows.
    Every(Duration),
    OnWrite,
}

impl Schedule {
    /// Reads five cron fields (or `@daily` and its like), `every 6h` (or `6h`), or `on write`.
    ///
    /// # Errors
    /// It is none of these, or never comes about; a sentence with an example.
    pub fn parse(text: &str, zone: Zone) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let tidy = words.join(" ");
        if tidy.len() > MAX_TEXT {
            return Err(format!(
                "a schedule of {} bytes is none; {EXAMPLES}",
                tidy.len()
            ));
        }
        let rhythm = match words.as_slice() {
            [] => return Err(format!("no schedule is written; {EXAMPLES}")),
            ["on", "write"] => Rhythm::OnWrite,
            ["every", rest @ ..] => Rhythm::Every(every(&rest.join(" "))?),
            [nickname] if nickname.starts_with('@') => cron(&tidy, zone)?,
            [_, _, _, _, _] => cron(&tidy, zone)?,
            _ => Rhythm::Every(every(&tidy)?),
        };
        Ok(Self { text: tidy, rhythm })
    }

    /// As it was written, each blank once.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the watcher of the directory does the work: no time ever comes.
    pub fn is_on_write(&self) -> bool {
        matches!(self.rhythm, Rhythm::OnWrite)
    }

    /// The interval, where it is one.
    pub fn every(&self) -> Option<Duration> {
        match self.rhythm {
            Rhythm::Every(every) => Some(every),
            Rhythm::Cron(..) | Rhythm::OnWrite => None,
        }
    }

    /// The next time strictly after `time`; an interval counts from `time`. `None`: never (`on
    /// write`), or not before the year 5000.
    pub fn next_after(&self, time: Time) -> Option<Time> {
        match &self.rhythm {
            Rhythm::Cron(cron, zone) => next(cron, *zone, time),
            Rhythm::Every(every) => time.checked_add_signed(TimeDelta::from_std(*every).ok()?),
            Rhythm::OnWrite => None,
        }
    }
}

fn every(text: &str) -> Result<Duration, String> {
    let bare = text.bytes().all(|b| b.is_ascii_digit());
    let parsed = humantime::parse_duration(text);
    match parsed {
        Ok(every) if (MIN_EVERY..=MAX_EVERY).contains(&every) => Ok(every),
        Ok(_) => Err(format!(
            "`{text}` is not from one second to a hundred years; {EXAMPLES}"
        )),
        Err(_) if bare && !text.is_empty() => Err(format!(
            "`{text}` has no unit; write it like \"every {text}m\""
        )),
        Err(_) => Err(format!("`{text}` is no schedule; {EXAMPLES}")),
    }
}

fn cron(text: &str, zone: Zone) -> Result<Rhythm, String> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let cron = parser
        .parse(text)
        .map_err(|why| format!("`{text}` is no cron text ({why}); {EXAMPLES}"))?;
    // From where all days there are lie ahead, 29 February with each day of the week included.
    if next(&cron, zone, Time::UNIX_EPOCH).is_none() {
        return Err(format!("`{text}` names a day that never comes; {EXAMPLES}"));
    }
    Ok(Rhythm::Cron(Box::new(cron), zone))
}

/// Times on a wall, in their order, are instants in the same order: of one that is shown twice
/// the first counts, and all in a gap are its end. So what the wall shows at `time` is where to
/// look from, and what is found before `time` was shown already.
fn next(cron: &Cron, zone: Zone, time: Time) -> Option<Time> {
    let mut shown = zone.shown(time).and_utc();
    for _ in 0..=LONGEST_CHANGE {
        shown = cron.find_next_occurrence(&shown, false).ok()?;
        let at = first_instant(zone, shown.naive_utc())?;
        if at > time {
            return Some(at);
        }
    }
    None
}

/// When a wall of the zone shows `naive` first, or the end of the gap that skips it.
fn first_instant(zone: Zone, naive: NaiveDateTime) -> Option<Time> {
    (0..=LONGEST_CHANGE as i64).find_map(|minutes| {
        let shown = naive.checked_add_signed(TimeDelta::minutes(minutes))?;
        match zone.when(shown) {
            MappedLocalTime::Single(at) => Some(at.to_utc()),
            MappedLocalTime::Ambiguous(one, other) => Some(one.to_utc().min(other.to_utc())),
            MappedLocalTime::None => None,
        }
    })
}

#[cfg(test)]
mod tests;
