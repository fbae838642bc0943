//! Time zones: what a clock on the wall shows, and when it shows it.

use super::time::Time;
use chrono::{DateTime, FixedOffset, Local, MappedLocalTime, NaiveDateTime, Offset, TimeZone};

/// In which zone a time without an offset is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Zone {
    #[default]
    Utc,
    /// The host's.
    Local,
    Iana(chrono_tz::Tz),
}

impl Zone {
    /// The zone of this name, or a sentence that says what to write.
    pub fn named(word: &str) -> Result<Self, String> {
        match word {
            "utc" => Ok(Self::Utc),
            "local" => Ok(Self::Local),
            name => name.parse().map(Self::Iana).map_err(|_| {
                format!("`{name}` is none of utc, local, nor an IANA name like Europe/Zurich")
            }),
        }
    }

    /// The name it is configured by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utc => "utc",
            Self::Local => "local",
            Self::Iana(zone) => zone.name(),
        }
    }

    /// What a clock on the wall shows at this instant.
    pub fn shown(self, time: Time) -> NaiveDateTime {
        match self {
            Self::Utc => time.naive_utc(),
            Self::Local => time.with_timezone(&Local).naive_local(),
            Self::Iana(zone) => time.with_timezone(&zone).naive_local(),
        }
    }

    /// When a clock on the wall shows `naive`.
    pub fn when(self, naive: NaiveDateTime) -> MappedLocalTime<DateTime<FixedOffset>> {
        match self {
            Self::Utc => MappedLocalTime::Single(naive.and_utc().fixed_offset()),
            Self::Local => fixed(Local.from_local_datetime(&naive)),
            Self::Iana(zone) => fixed(zone.from_local_datetime(&naive)),
        }
    }
}

fn fixed<Z: TimeZone>(
    when: MappedLocalTime<DateTime<Z>>,
) -> MappedLocalTime<DateTime<FixedOffset>> {
    when.map(|time| {
        let offset = time.offset().fix();
        time.with_timezone(&offset)
    })
}
