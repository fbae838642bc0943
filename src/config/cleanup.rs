//! Registrations of clean-ups: what somebody asks for, judged, and the root that comes of it.
//!
//! One question has one answer here: whether a registration is lawful ([`judge`]). It is asked
//! before one is written and again before each run, for a directory may have become something else.
//!
//! What its sessions are says a pattern, or a preset ([`layout`]).

pub mod ground;
pub mod layout;

use crate::config::cleanup::ground::Ground;
use crate::config::cleanup::layout::root_of;
use crate::config::settings::{Agent, Registry, Root};
use crate::layout::presets;
use crate::model::cleanup::Cleanup;
use crate::model::path::{escape, unescape};
use crate::model::time::Time;
use crate::schedule::Schedule;
use serde::{Deserialize, Deserializer, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

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

/// What somebody says of a clean-up. What is not said is `None`, and takes its default in a new
/// one and stays as it was in an old one; a limit or schedule said to be none is `Some(None)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Absolute. Names that are not UTF-8 have `\xNN` escapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// A glob on names of regular files in the directory itself. Either this or a preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The name of a layout that the program brings along: its sessions are what is counted and
    /// goes, each as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Older files, or sessions, go.
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
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let (pattern, layout) = match (given(&wanted.pattern), &wanted.preset) {
        (Some(pattern), None) => (pattern, None),
        (None, Some(preset)) => (String::new(), Some(layout::text_of(preset))),
        (Some(_), Some(_)) => return Err("`pattern` and `preset` exclude each other".to_owned()),
        (None, None) => {
            return Err("`pattern` is missing; or name the `preset` of what lies there".to_owned());
        }
    };
    let blank = Cleanup {
        id,
        owner: OWNER.to_owned(),
        directory: given(&wanted.directory).ok_or("`directory` is missing")?,
        pattern,
        layout,
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
    let judged = change(&blank, wanted, now, beside)?;
    confirm_preset(&judged.cleanup, wanted.yes)?;
    Ok(judged)
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
    check_preset(old, wanted)?;
    let mut cleanup = Cleanup {
        owner: said(&wanted.owner, &old.owner),
        directory: said(&wanted.directory, &old.directory),
        pattern: said(&wanted.pattern, &old.pattern),
        layout: match &wanted.preset {
            Some(preset) => Some(layout::text_of(preset)),
            None => old.layout.clone(),
        },
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

/// A pattern stays one, and a preset may become another: what one counts as a file the other may
/// count as a part of a session.
fn check_preset(old: &Cleanup, wanted: &Wanted) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("{why}: remove it, and add one anew"));
    match (&old.layout, &wanted.pattern, &wanted.preset) {
        (Some(_), Some(_), _) => refuse("it goes by a preset, which no `pattern` replaces"),
        (None, _, Some(_)) => refuse("it goes by a pattern, which no `preset` replaces"),
        (_, _, Some(name)) if presets::text(name).is_none() => Err(format!(
            "there is no preset `{}`; there are: {}",
            escape(name.as_bytes()),
            presets::names().join(", ")
        )),
        _ => Ok(()),
    }
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

/// That none may stay is asked for twice, as is a preset, but where it is so already.
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
    let is_same = (&new.layout, &new.directory) == (&old.layout, &old.directory);
    if is_same {
        Ok(())
    } else {
        confirm_preset(new, yes)
    }
}

/// What a pattern takes is seen from it; a preset takes whole directories by what it knows of them.
fn confirm_preset(new: &Cleanup, yes: bool) -> Result<(), String> {
    if new.layout.is_none() || yes {
        return Ok(());
    }
    let directory = &new.directory;
    Err(format!(
        "a preset takes whole sessions: `housekeeper detect {directory}` shows what it would own; then confirm it with --yes"
    ))
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

/// Whether a registration may be where it is, now. Answers its directory without symlinks. Who asks
/// for many surveys the [`Ground`] once.
///
/// # Errors
/// It may not; a sentence with the reason.
pub fn judge(cleanup: &Cleanup, beside: Beside<'_>) -> Result<PathBuf, String> {
    Ground::survey(beside).judge(cleanup)
}

fn directory(cleanup: &Cleanup) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(&cleanup.directory)))
}

#[cfg(test)]
mod tests;
