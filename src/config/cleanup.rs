//! Registrations of clean-ups: what somebody asks for, judged, and the root that comes of it.
//!
//! One question has one answer here: whether a registration is lawful ([`judge`]). It is asked
//! before one is written and again before each run, for a directory may have become something else.

use crate::config::place::{self, Place, Relation};
use crate::config::protect::QUIET_SHORT;
use crate::config::roots::{holds_own, own_places};
use crate::config::settings::{Agent, Backend, FirstStart, Origin, Registry, Root};
use crate::layout::Layout;
use crate::layout::spec::{Kind, LayoutSpec, Source};
use crate::model::bytes::Bytes;
use crate::model::cleanup::Cleanup;
use crate::model::path::{escape, unescape};
use crate::model::time::Time;
use crate::policy::lifecycle::Lifecycle;
use crate::policy::limits::{Limits, Protect};
use crate::schedule::Schedule;
use serde::{Deserialize, Deserializer, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What goes first when nobody says.
const PRIORITY: i64 = 100;
/// Who owns what nobody claims.
const OWNER: &str = "nobody";
const MAX_OWNER: usize = 128;
const MAX_DESCRIPTION: usize = 4096;
/// A century: what is longer is a mistake.
const MAX_DAYS: u64 = 36_500;
/// More MiB are no number of bytes.
const MAX_MB: u64 = u64::MAX >> 20;
const MAX_FILES: u64 = i64::MAX as u64;
const DAY: u64 = 24 * 3600;

/// What somebody says of a clean-up. What is not said is `None`, and takes its default in a new
/// one and stays as it was in an old one; a limit or schedule said to be none is `Some(None)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Absolute. Names that are not UTF-8 have `\xNN` escapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// A glob on names of regular files in the directory itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Older files go.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    pub retention_days: Option<Option<i64>>,
    /// So many files stay; 0: none, which needs `yes`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    pub max_files: Option<Option<i64>>,
    /// So many MiB stay; 0: none, which needs `yes`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    pub max_size_mb: Option<Option<i64>>,
    /// Lower first; 100 unless told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `0 3 * * *`, `every 6h`, `on write`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    pub schedule: Option<Option<String>>,
    /// The directory is watched, and what is too much goes at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<bool>,
    /// It says what it would do, and changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// That none may stay is meant so.
    pub yes: bool,
}

/// What is there and `null` was said.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What a registration is judged beside.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    pub agent: &'a Agent,
    pub registry: &'a Registry,
    /// Those configured.
    pub roots: &'a [Root],
    /// All that are registered.
    pub others: &'a [Cleanup],
}

/// A registration that may be written, with what should be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub cleanup: Cleanup,
    /// Sentences: what was not said and how it was taken.
    pub notes: Vec<String>,
}

/// A new registration. Where its owner has one with the same directory and pattern, the store
/// updates that one.
///
/// # Errors
/// It is not lawful; a sentence with the reason.
pub fn register(
    wanted: &Wanted,
    id: String,
    now: Time,
    beside: Beside<'_>,
) -> Result<Judged, String> {
    let text = |field: &Option<String>, name: &str| {
        let given = field.clone().filter(|text| !text.is_empty());
        given.ok_or_else(|| format!("`{name}` is missing"))
    };
    let blank = Cleanup {
        id,
        owner: OWNER.to_owned(),
        directory: text(&wanted.directory, "directory")?,
        pattern: text(&wanted.pattern, "pattern")?,
        layout: None,
        retention_days: None,
        max_files: None,
        max_size_mb: None,
        priority: PRIORITY,
        description: String::new(),
        schedule: None,
        watch: false,
        read_only: false,
        created_at: now,
        updated_at: now,
        last_run: None,
    };
    change(&blank, wanted, now, beside)
}

/// What an old registration becomes.
///
/// # Errors
/// It is not lawful any more; a sentence with the reason.
pub fn change(
    old: &Cleanup,
    wanted: &Wanted,
    now: Time,
    beside: Beside<'_>,
) -> Result<Judged, String> {
    let said = |new: &Option<String>, old: &String| new.clone().unwrap_or_else(|| old.clone());
    let mut cleanup = Cleanup {
        owner: said(&wanted.owner, &old.owner),
        directory: said(&wanted.directory, &old.directory),
        pattern: said(&wanted.pattern, &old.pattern),
        description: said(&wanted.description, &old.description),
        retention_days: limit(
            "retention_days",
            wanted.retention_days,
            old.retention_days,
            MAX_DAYS,
        )?,
        max_files: limit("max_files", wanted.max_files, old.max_files, MAX_FILES)?,
        max_size_mb: limit("max_size_mb", wanted.max_size_mb, old.max_size_mb, MAX_MB)?,
        priority: wanted.priority.unwrap_or(old.priority),
        schedule: wanted.schedule.clone().unwrap_or(old.schedule.clone()),
        watch: wanted.watch.unwrap_or(old.watch),
        read_only: wanted.read_only.unwrap_or(old.read_only),
        updated_at: now,
        ..old.clone()
    };
    check_words(&cleanup)?;
    confirm(&cleanup, old, wanted.yes)?;
    let mut notes = Vec::new();
    if (
        cleanup.retention_days,
        cleanup.max_files,
        cleanup.max_size_mb,
    ) == (None, None, None)
    {
        let days = beside.registry.default_retention_days;
        cleanup.retention_days = Some(days);
        notes.push(format!(
            "no limit was given: files older than {days} days go ([registry] default_retention)"
        ));
    }
    settle_schedule(&mut cleanup, wanted, beside.registry, &mut notes)?;
    cleanup.directory = escape(judge(&cleanup, beside)?.as_os_str().as_bytes());
    // The same limits and layout as every other root.
    root_of(&cleanup)?;
    Ok(Judged { cleanup, notes })
}

/// A limit as it is from now on.
fn limit(
    name: &str,
    wanted: Option<Option<i64>>,
    old: Option<u64>,
    most: u64,
) -> Result<Option<u64>, String> {
    let Some(wanted) = wanted else { return Ok(old) };
    let Some(number) = wanted else {
        return Ok(None);
    };
    match u64::try_from(number) {
        Err(_) => Err(format!(
            "`{name}` is {number}: it must not be negative; leave it out for no such limit"
        )),
        Ok(number) if number > most => Err(format!("`{name}` must be at most {most}")),
        Ok(number) => Ok(Some(number)),
    }
}

/// That none may stay is asked for twice, but where it is so already.
fn confirm(new: &Cleanup, old: &Cleanup, yes: bool) -> Result<(), String> {
    if new.retention_days == Some(0) {
        return Err("`retention_days` must be at least 1; for none to stay, say `max_files` 0 and confirm it with --yes".to_owned());
    }
    let zeros = [
        ("max_files", new.max_files, old.max_files),
        ("max_size_mb", new.max_size_mb, old.max_size_mb),
    ];
    for (name, new, old) in zeros {
        if new == Some(0) && old != Some(0) && !yes {
            return Err(format!(
                "`{name}` is 0: none of the files may stay; confirm it with --yes"
            ));
        }
    }
    Ok(())
}

fn check_words(cleanup: &Cleanup) -> Result<(), String> {
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    let owner = &cleanup.owner;
    if owner.is_empty() || owner.len() > MAX_OWNER || !is_plain(owner) {
        return Err(format!(
            "`owner` must be 1 to {MAX_OWNER} bytes without control characters"
        ));
    }
    if cleanup.description.len() > MAX_DESCRIPTION || !is_plain(&cleanup.description) {
        return Err(format!(
            "`description` must be at most {MAX_DESCRIPTION} bytes without control characters"
        ));
    }
    Ok(())
}

/// A time to run, or a watch: one of them at least.
fn settle_schedule(
    cleanup: &mut Cleanup,
    wanted: &Wanted,
    registry: &Registry,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    if let Some(text) = cleanup.schedule.take() {
        let schedule = Schedule::parse(&text, registry.zone)?;
        if schedule.is_on_write() {
            if wanted.watch == Some(false) {
                return Err("\"on write\" is a watch; give another schedule".to_owned());
            }
            cleanup.watch = true;
        } else {
            cleanup.schedule = Some(schedule.text().to_owned());
        }
    }
    if cleanup.schedule.is_none() && !cleanup.watch {
        let text = registry.schedule.text();
        if registry.schedule.is_on_write() {
            cleanup.watch = true;
        } else {
            cleanup.schedule = Some(text.to_owned());
        }
        notes.push(format!(
            "no schedule was given: it runs at \"{text}\" ([registry] schedule)"
        ));
    }
    Ok(())
}

/// Whether a registration may be where it is, now. Answers its directory without symlinks.
///
/// # Errors
/// It may not; a sentence with the reason.
pub fn judge(cleanup: &Cleanup, beside: Beside<'_>) -> Result<PathBuf, String> {
    let path = directory(cleanup);
    let shown = &cleanup.directory;
    let refuse = |why: &str| Err(format!("the directory {shown} {why}"));
    if let Some(why) = place::unusable(&path) {
        return refuse(why);
    }
    let place = Place::survey(&path);
    if let Some(why) = place.refusal(&beside.registry.homes) {
        return refuse(&why);
    }
    if !place.is_there() {
        return refuse("does not exist");
    }
    let mut own = own_places(beside.agent);
    let reports = Place::survey(&beside.registry.report_directory);
    own.push(("report_directory", reports));
    if let Some(why) = holds_own(&own, &place) {
        return refuse(&why);
    }
    let is_own = |(_, held): &&(&str, Place)| place.is_within(held);
    if let Some((key, _)) = own.iter().find(is_own) {
        return refuse(&format!("lies in the agent's own {key}"));
    }
    for root in beside.roots {
        let how = match place.relation(&Place::survey(&root.path)) {
            Relation::Apart => continue,
            Relation::Same => "is that of",
            Relation::Inside => "lies inside",
            Relation::Around => "holds that of",
        };
        return refuse(&format!("{how} the configured root `{}`", root.name));
    }
    for other in beside.others.iter().filter(|other| other.id != cleanup.id) {
        let theirs = Place::survey(&directory(other));
        let how = match place.relation(&theirs) {
            Relation::Apart => continue,
            // A symlink came into its way: it does not run, and keeps nobody from running.
            _ if theirs.real() != theirs.written() => continue,
            // Each looks at its own names, under the one lock of the directory.
            Relation::Same if other.pattern != cleanup.pattern => continue,
            // The store makes one of them.
            Relation::Same if other.owner == cleanup.owner => continue,
            Relation::Same => "has the same pattern registered already in",
            Relation::Inside => "lies inside that of",
            Relation::Around => "holds that of",
        };
        let (owner, id) = (&other.owner, &other.id);
        return refuse(&format!("{how} the clean-up {id} of `{owner}`"));
    }
    Ok(place.real().to_owned())
}

/// Whether a registration's root lies apart from all configured ones.
pub fn is_apart(root: &Root, configured: &[Root]) -> bool {
    let place = Place::survey(&root.path);
    configured
        .iter()
        .all(|other| place.relation(&Place::survey(&other.path)) == Relation::Apart)
}

fn directory(cleanup: &Cleanup) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(&cleanup.directory)))
}

/// A registration as a root like every other.
///
/// # Errors
/// Its pattern is none; a sentence.
pub fn root_of(cleanup: &Cleanup) -> Result<Root, String> {
    if cleanup.layout.is_some() {
        return Err("it has a layout of its own, which this version cannot read".to_owned());
    }
    let layout = layout(&cleanup.pattern)?;
    let path = directory(cleanup);
    Ok(Root {
        name: cleanup.root_name(),
        real: path.clone(),
        path,
        origin: Origin::File,
        preset: None,
        backend: Backend::Auto,
        layout: Arc::new(layout),
        limits: Limits {
            max_size: cleanup
                .max_size_mb
                .map(|mb| Bytes(mb.saturating_mul(1 << 20))),
            max_age: cleanup
                .retention_days
                .map(|days| Duration::from_secs(days.saturating_mul(DAY))),
            max_count: cleanup.max_files,
            ..Limits::default()
        },
        protect: Protect {
            quiet: QUIET_SHORT,
            ..Protect::default()
        },
        lifecycle: Lifecycle::default(),
        // Only directories are kept.
        trash_keep: Duration::ZERO,
        // Who registers it has said what may go.
        first_start: FirstStart::Enforce,
        problems: Vec::new(),
    })
}

/// Regular files of the directory itself, dated by their last change.
fn layout(pattern: &str) -> Result<Layout, String> {
    let refuse = |why: &str| Err(format!("the pattern `{pattern}` {why}"));
    if pattern.contains('/') {
        return refuse(
            "has a slash; it names files of the directory itself, register others by themselves",
        );
    }
    if pattern.contains("**") {
        return refuse("has `**`; it names files of the directory itself");
    }
    if pattern.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    let spec = LayoutSpec {
        kind: Kind::Files,
        sessions: pattern.to_owned(),
        metadata: None,
        group: None,
        created_at: vec![Source::Mtime],
        everything: true,
        ..LayoutSpec::default()
    };
    Layout::new(spec).map_err(|problems| {
        let why = problems.first().map(|problem| problem.message.as_str());
        format!("the pattern `{pattern}` {}", why.unwrap_or("is no glob"))
    })
}

#[cfg(test)]
mod tests;
