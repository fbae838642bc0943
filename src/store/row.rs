//! Between words of the program and what columns hold: TEXT and BIGINT.

use crate::model::time::Time;
use crate::store::database::Row;
use chrono::DateTime;
use sqlx::Row as _;

/// Microseconds since 1970.
pub(super) fn micros(time: Time) -> i64 {
    time.timestamp_micros()
}

/// Saturates: no file system holds 2^63 bytes.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Columns of one row by name. An error is a table that is not ours.
pub(super) trait Columns {
    fn text(&self, name: &str) -> Result<String, sqlx::Error>;
    fn text_or_null(&self, name: &str) -> Result<Option<String>, sqlx::Error>;
    fn number(&self, name: &str) -> Result<u64, sqlx::Error>;
    fn number_or_null(&self, name: &str) -> Result<Option<u64>, sqlx::Error>;
    fn signed(&self, name: &str) -> Result<i64, sqlx::Error>;
    fn truth(&self, name: &str) -> Result<bool, sqlx::Error>;
    fn time(&self, name: &str) -> Result<Time, sqlx::Error>;
    fn time_or_null(&self, name: &str) -> Result<Option<Time>, sqlx::Error>;
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// What no calendar has is 1970.
fn moment(micros: i64) -> Time {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

impl Columns for Row {
    fn text(&self, name: &str) -> Result<String, sqlx::Error> {
        self.try_get(name)
    }

    fn text_or_null(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get(name)
    }

    fn number(&self, name: &str) -> Result<u64, sqlx::Error> {
        self.try_get(name).map(unsigned)
    }

    fn number_or_null(&self, name: &str) -> Result<Option<u64>, sqlx::Error> {
        let number: Option<i64> = self.try_get(name)?;
        Ok(number.map(unsigned))
    }

    fn signed(&self, name: &str) -> Result<i64, sqlx::Error> {
        self.try_get(name)
    }

    fn truth(&self, name: &str) -> Result<bool, sqlx::Error> {
        self.try_get(name).map(|number: i64| number != 0)
    }

    fn time(&self, name: &str) -> Result<Time, sqlx::Error> {
        self.try_get(name).map(moment)
    }

    fn time_or_null(&self, name: &str) -> Result<Option<Time>, sqlx::Error> {
        let micros: Option<i64> = self.try_get(name)?;
        Ok(micros.map(moment))
    }
}
