//! The report that a run of clean-ups leaves behind: its text, its name, and which old ones go.
//!
//! Pure: `store::reports` writes and removes.

use crate::model::bytes::Bytes;
use crate::model::time::{Time, rfc3339};
use chrono::{NaiveDateTime, TimeDelta};
use serde_json::{Value, json};
use std::time::Duration;
use ulid::Ulid;

const PREFIX: &str = "cleanup_report_";
const SUFFIX: &str = ".json";
/// A report that is not whole yet.
const UNFINISHED: &str = ".new";
/// UTC: names in their order are reports in theirs.
const TIME: &str = "%Y%m%d_%H%M%S";
/// What a crash left unfinished goes when it is older.
const UNFINISHED_FOR: TimeDelta = TimeDelta::hours(1);

/// What became of one registration in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    pub id: String,
    /// As people read it: a path may not be UTF-8.
    pub directory: String,
    /// Empty where it goes by a preset.
    pub pattern: String,
    /// The preset that it goes by, if it does.
    pub preset: Option<String>,
    pub success: bool,
    /// Nothing was removed: the numbers say what would have been.
    pub dry_run: bool,
    pub files_deleted: u64,
    pub space_freed: Bytes,
    pub files_kept: u64,
    /// A sentence.
    pub message: String,
}

/// One run: of one registration, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When it ended.
    pub at: Time,
    /// A dry run of all. In another run some may be read-only still: they count nothing in the
    /// sums, and say so themselves.
    pub dry_run: bool,
    pub details: Vec<Detail>,
}

impl Report {
    /// The document. Its names are an outside contract; `space_freed` is in bytes.
    pub fn document(&self) -> Value {
        let n_successful = self.details.iter().filter(|detail| detail.success).count();
        let alike = || self.details.iter().filter(|d| d.dry_run == self.dry_run);
        let deleted = alike().map(|detail| detail.files_deleted);
        let freed = alike().map(|detail| detail.space_freed.0);
        json!({
            "timestamp": rfc3339(self.at),
            "total_configs": self.details.len(),
            "successful": n_successful,
            "failed": self.details.len() - n_successful,
            "total_files_deleted": deleted.fold(0, u64::saturating_add),
            "total_space_freed": freed.fold(0, u64::saturating_add),
            "dry_run": self.dry_run,
            "details": self.details.iter().map(Detail::document).collect::<Vec<_>>(),
        })
    }

    /// `cleanup_report_<time>_<run>.json`, the time in UTC.
    pub fn name(&self, run: Ulid) -> String {
        format!("{PREFIX}{}_{run}{SUFFIX}", self.at.format(TIME))
    }
}

impl Detail {
    /// One of the document's `details`.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "id": self.id,
            "directory": self.directory,
            "pattern": self.pattern,
            "success": self.success,
            "dry_run": self.dry_run,
            "files_deleted": self.files_deleted,
            "space_freed": self.space_freed.0,
            "files_kept": self.files_kept,
            "message": self.message,
        });
        if let Some(preset) = &self.preset {
            document["preset"] = preset.as_str().into();
        }
        document
    }
}

/// The name of a report while it is being written.
pub fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED}")
}

/// How many reports stay, and for how long: `[registry] report_keep` and `report_keep_for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// At least 1.
    pub count: usize,
    pub age: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            count: 1000,
            age: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// When the report of this name was made. `None`: the name is not exactly one of ours.
fn made(name: &str) -> Option<Time> {
    let (time, run) = name
        .strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .split_at_checked("20260210_120000".len())?;
    let run = run.strip_prefix('_')?;
    // What reads otherwise than it is written was written by somebody else.
    let is_run = Ulid::from_string(run).is_ok_and(|ulid| ulid.to_string() == run);
    let made = NaiveDateTime::parse_from_str(time, TIME).ok()?;
    let is_time = made.format(TIME).to_string() == time;
    (is_run && is_time).then(|| made.and_utc())
}

/// Which of the names in a report directory go: reports beyond the number, older than the age, or
/// left unfinished. Never `newest`, which was just written, and no name that is not ours.
pub fn expired<'n>(names: &'n [String], newest: &str, now: Time, keep: Keep) -> Vec<&'n str> {
    let age = TimeDelta::from_std(keep.age).unwrap_or(TimeDelta::MAX);
    let mut reports: Vec<(Time, &str)> = names
        .iter()
        .filter(|name| *name != newest)
        .filter_map(|name| Some((made(name)?, name.as_str())))
        .collect();
    reports.sort_unstable_by(|a, b| b.cmp(a));
    let stay = keep.count.saturating_sub(1);
    let old = reports
        .iter()
        .enumerate()
        .filter(|(at, (made, _))| *at >= stay || now.signed_duration_since(*made) > age)
        .map(|(_, (_, name))| *name);
    let left = names.iter().filter_map(|name| {
        let made = made(name.strip_suffix(UNFINISHED)?)?;
        (now.signed_duration_since(made) > UNFINISHED_FOR).then_some(name.as_str())
    });
    old.chain(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        text.parse().expect("a time")
    }

    fn name(time: &str, n: u128) -> String {
        let report = Report {
            at: at(time),
            dry_run: false,
            details: Vec::new(),
        };
        report.name(Ulid(n))
    }

    #[test]
    fn the_document_has_the_names_and_sums_that_others_read() {
        let detail = |id: &str, success| Detail {
            id: id.to_owned(),
            directory: "/srv/logs".to_owned(),
            pattern: "*.log".to_owned(),
            preset: None,
            success,
            dry_run: true,
            files_deleted: 3,
            space_freed: Bytes(100),
            files_kept: 7,
            message: "Deleted 3 files".to_owned(),
        };
        let report = Report {
            at: at("2026-02-10T12:00:00Z"),
            dry_run: true,
            details: vec![detail("a", true), detail("b", false)],
        };
        let text = report.document().to_string();
        assert_eq!(
            text,
            "{\"timestamp\":\"2026-02-10T12:00:00Z\",\"total_configs\":2,\"successful\":1,\
             \"failed\":1,\"total_files_deleted\":6,\"total_space_freed\":200,\"dry_run\":true,\
             \"details\":[{\"id\":\"a\",\"directory\":\"/srv/logs\",\"pattern\":\"*.log\",\
             \"success\":true,\"dry_run\":true,\"files_deleted\":3,\"space_freed\":100,\
             \"files_kept\":7,\"message\":\"Deleted 3 files\"},{\"id\":\"b\",\
             \"directory\":\"/srv/logs\",\"pattern\":\"*.log\",\"success\":false,\
             \"dry_run\":true,\"files_deleted\":3,\"space_freed\":100,\"files_kept\":7,\
             \"message\":\"Deleted 3 files\"}]}"
        );
    }

    #[test]
    fn two_reports_of_one_second_have_two_names() {
        let one = name("2026-02-10T12:00:00Z", 1);
        assert_eq!(
            one,
            "cleanup_report_20260210_120000_00000000000000000000000001.json"
        );
        assert_ne!(one, name("2026-02-10T12:00:00Z", 2));
    }

    #[test]
    fn only_names_of_exactly_our_form_ever_go() {
        let ours = name("2020-02-10T12:00:00Z", 10);
        let strangers = [
            "cleanup_report_20200210_120000.json".to_owned(),
            "cleanup_report_20200210_120000_.json".to_owned(),
            "report.json".to_owned(),
            String::new(),
            "cleanup_report_.json".to_owned(),
            ours.to_lowercase(),
            format!("{ours}.bak"),
            format!("x{ours}"),
            ours.replace("0210", "0230"),
            ours.replace("0210", "+210"),
            ours.replace("00000A", "00000I"),
            ours.replace("00000A", "0000éA"),
            ours.replace(".json", "0.json"),
            format!("{}.new.new", ours),
        ];
        let keep = Keep {
            count: 1,
            age: Duration::from_secs(1),
        };
        let now = at("2026-02-10T12:00:00Z");
        assert_eq!(expired(&strangers, "", now, keep), Vec::<&str>::new());
        assert_eq!(expired(std::slice::from_ref(&ours), "", now, keep), [&ours]);
        let left = [
            unfinished(&ours),
            unfinished(&name("2026-02-10T11:30:00Z", 1)),
        ];
        assert_eq!(expired(&left, "", now, keep), [&left[0]]);
    }

    #[test]
    fn so_many_stay_and_for_so_long_and_the_newest_always() {
        let day = |n: u32| name(&format!("2026-02-{n:02}T12:00:00Z"), n.into());
        let names: Vec<String> = [3, 1, 5, 2, 4].map(day).to_vec();
        let now = at("2026-02-05T13:00:00Z");
        let keep = |count, days: u64| Keep {
            count,
            age: Duration::from_secs(days * 24 * 3600),
        };
        let newest = day(5);
        assert_eq!(
            expired(&names, &newest, now, keep(3, 100)),
            [day(2), day(1)]
        );
        assert_eq!(
            expired(&names, &newest, now, keep(100, 2)),
            [day(3), day(2), day(1)]
        );
        assert!(expired(&names, &newest, now, keep(5, 100)).is_empty());
        // The clock was set back: what was just written is the oldest by its name.
        let gone = expired(&names, &day(1), now, keep(1, 1));
        assert!(!gone.contains(&day(1).as_str()) && gone.len() == 4);
        // Dated by a clock that was ahead: it has no age, and its number counts.
        assert!(expired(&[day(9)], &newest, now, keep(2, 1)).is_empty());
    }
}
