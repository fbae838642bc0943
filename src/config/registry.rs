//! `[registry]`: when clean-ups run, how many at once, and what they leave behind.

use crate::config::agent::{Section, path_of};
use crate::config::duration;
use crate::config::file::show;
use crate::config::place::{self, Place};
use crate::config::reader::Reader;
use crate::config::request::Request;
use crate::config::settings::{Agent, Problem, Registry, Root};
use crate::model::zone::Zone;
use crate::report::Keep;
use crate::schedule::Schedule;
use crate::schedule::dispatcher::Limits;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

/// A daily time at which little happens.
const SCHEDULE: &str = "0 3 * * *";
const CONCURRENT: Range<u64> = 1..65;
const REPORTS: Range<u64> = 1..100_001;
/// What has no limit stays for so many days.
const RETENTION_DAYS: u64 = 30;
const HISTORY_DAYS: u64 = 30;
const DAYS: Range<u64> = 1..36_501;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads `[registry]`. A bad value takes its default and is noted; a report directory inside a
/// root counts as bad.
pub(super) fn read(
    table: Reader<'_>,
    request: &Request,
    agent: &Agent,
    roots: &[Root],
) -> (Registry, Vec<Problem>) {
    let mut section = Section::new("registry", table, request);
    let zone = section
        .said("zone", Zone::named)
        .value
        .unwrap_or(Zone::Local);
    let schedule = section
        .said("schedule", |text| Schedule::parse(text, zone))
        .value;
    let mut limits = Limits::default();
    if let Some(n) = section.number("concurrent_cleanups", CONCURRENT) {
        let n = usize::try_from(n).ok().and_then(NonZeroUsize::new);
        limits.concurrent = n.unwrap_or(limits.concurrent);
    }
    if let Some(timeout) = section.said("job_timeout", duration::parse_interval).value {
        limits.timeout = timeout;
    }
    let retention = section.number("default_retention", DAYS);
    let dry_run = section.switch("dry_run").unwrap_or_default();
    let read_only = section.switch("read_only").unwrap_or_default();
    let job_history = section.switch("job_history").unwrap_or(true);
    let history = section.number("job_history_retention_days", DAYS);
    let history = u32::try_from(history.unwrap_or(HISTORY_DAYS)).unwrap_or(u32::MAX);
    let report = section.switch("report").unwrap_or(true);
    let outside = |text: &str| {
        let path = path_of(text)?;
        let place = Place::survey(&path);
        let around = roots
            .iter()
            .find(|root| place.is_within(&Place::survey(&root.path)));
        match around {
            Some(root) => Err(format!(
                "{} lies inside root `{}`; name a directory outside every root",
                show(&path),
                root.name
            )),
            None => Ok(path),
        }
    };
    let directory = section.said("report_directory", outside).value;
    let mut keep = Keep::default();
    if let Some(n) = section.number("report_keep", REPORTS) {
        keep.count = usize::try_from(n).unwrap_or(keep.count);
    }
    if let Some(age) = section
        .said("report_keep_for", duration::parse_above_zero)
        .value
    {
        keep.age = age;
    }
    let registry = Registry {
        schedule: schedule.unwrap_or_else(|| {
            Schedule::parse(SCHEDULE, zone).expect("the schedule above is one in every zone")
        }),
        zone,
        limits,
        default_retention_days: retention.unwrap_or(RETENTION_DAYS),
        dry_run,
        read_only,
        job_history,
        job_history_retention: DAY.saturating_mul(history),
        homes: place::homes(request.directory("HOME")),
        is_written: false,
        report,
        report_directory: directory.unwrap_or_else(|| agent.state_dir.join("reports")),
        report_keep: keep,
    };
    (registry, section.finish())
}
