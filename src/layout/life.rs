//! What metadata says of a session's life, and the words by which a stale session is made a
//! failed one.
//!
//! The text is changed at three places and nowhere else: all other members, their order, their
//! numbers and the white space between them stay byte for byte. YAML is changed line by line
//! ([`yaml`]).

mod yaml;

use super::Layout;
use super::catalog;
use super::moment;
use super::record::{Record, scalar_text};
use super::spec::{Format, Source, StateSpec, TimeFormat};
use crate::model::session::{Moments, Told};
use crate::model::time::{Time, UnixNanos, rfc3339};
use crate::model::zone::Zone;
use std::ops::Range;

const UPDATED: &str = "updated_at";
const FAILED: &str = "failed_at";
const REASON: &str = "failure_reason";
const STALE: &str = "stale";

/// Why metadata is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewriteFault {
    #[error("the layout has no state")]
    Stateless,
    #[error("the metadata does not parse")]
    Corrupt,
    #[error("its state is none of the active ones")]
    NotActive,
    /// The state lies in a list, or a name on the way to it is there twice.
    #[error("the state is no plain member of an object")]
    Unplain,
}

/// The times that a record tells: beside the state, else at the top. Read as the creation time
/// is where that is a key, else as RFC 3339.
pub(super) fn moments(
    layout: &Layout,
    state: &StateSpec,
    record: &Record<'_>,
) -> Option<Box<Moments>> {
    let told = |name: &str| {
        let beside = format!("{}/{name}", above(&state.key));
        let top = format!("/{name}");
        match record.at(&beside).or_else(|| record.at(&top)) {
            None => Told::Nothing,
            Some(value) => time(layout, &value).map_or(Told::Unreadable, Told::At),
        }
    };
    let moments = Moments {
        updated: told(UPDATED),
        failed: told(FAILED),
    };
    (moments != Moments::default()).then(|| Box::new(moments))
}

fn time(layout: &Layout, value: &serde_json::Value) -> Option<Time> {
    let as_created = layout
        .spec
        .created_at
        .iter()
        .find_map(|source| match source {
            Source::Key { format, zone, .. } => Some((format, *zone)),
            Source::Name { .. } | Source::File { .. } | Source::Birth | Source::Mtime => None,
        });
    let (format, zone) = as_created.unwrap_or((&TimeFormat::Rfc3339, Zone::Utc));
    // What we wrote ourselves is RFC 3339 whatever the creation time is.
    moment::from_json(value, format, zone)
        .or_else(|| moment::from_json(value, &TimeFormat::Rfc3339, zone))
}

/// The pointer to what a pointer's last name is in.
fn above(pointer: &str) -> &str {
    pointer.rsplit_once('/').map_or("", |(above, _)| above)
}

/// The text of metadata with its state changed to `value`, and when and why that was.
///
/// # Errors
/// It is not what a stale session's metadata looks like; nothing is changed then.
pub(super) fn failed(
    layout: &Layout,
    text: &[u8],
    value: &str,
    at: Time,
) -> Result<Vec<u8>, RewriteFault> {
    let state = layout.spec.state.as_ref().ok_or(RewriteFault::Stateless)?;
    let record = Record::parse(text, layout.spec.format).ok_or(RewriteFault::Corrupt)?;
    let text = std::str::from_utf8(text).map_err(|_| RewriteFault::Corrupt)?;
    let word = record.at(&state.key).as_ref().and_then(scalar_text);
    if !word.is_some_and(|word| state.active.contains(&word)) {
        return Err(RewriteFault::NotActive);
    }
    match layout.spec.format {
        Format::Json => in_json(text, &record, layout, state, value, at),
        Format::Yaml => in_yaml(text, state, value, at).ok_or(RewriteFault::Unplain),
        Format::Text => Err(RewriteFault::Unplain),
    }
    .map(String::into_bytes)
}

/// The text of a catalogue with the state of one entry changed so; of two with its id that of the
/// last, which counts. `since`: an entry that says it was updated later is as its owner wants it.
pub(super) fn failed_entry(
    layout: &Layout,
    text: &[u8],
    id: &[u8],
    (value, at): (&str, Time),
    since: UnixNanos,
) -> Result<Vec<u8>, RewriteFault> {
    let state = layout.spec.state.as_ref().ok_or(RewriteFault::Stateless)?;
    let mut found = None;
    let read = catalog::members(text, |name, entry| {
        if name.as_bytes() == id {
            found = Some(entry.get());
        }
    });
    read.map_err(|_| RewriteFault::Corrupt)?;
    let whole = std::str::from_utf8(text).map_err(|_| RewriteFault::Corrupt)?;
    let entry = found.ok_or(RewriteFault::NotActive)?;
    let record = Record::parse(entry.as_bytes(), Format::Json).ok_or(RewriteFault::Corrupt)?;
    let updated = moments(layout, state, &record).map(|moments| moments.updated);
    if matches!(updated, Some(Told::At(at)) if UnixNanos::from(at) > since) {
        return Err(RewriteFault::NotActive);
    }
    let new = failed(layout, entry.as_bytes(), value, at)?;
    let place = range_in(whole, entry);
    Ok([&text[..place.start], &new, &text[place.end..]].concat())
}

/// A state at the top of a block mapping.
fn in_yaml(text: &str, state: &StateSpec, value: &str, at: Time) -> Option<String> {
    let name = state.key.strip_prefix('/')?;
    if name.contains(['/', '~']) {
        return None;
    }
    let members = [
        (name, quoted(value)),
        (FAILED, quoted(&rfc3339(at))),
        (REASON, quoted(STALE)),
    ];
    yaml::with(text, &members)
}

fn in_json(
    text: &str,
    record: &Record<'_>,
    layout: &Layout,
    state: &StateSpec,
    value: &str,
    at: Time,
) -> Result<String, RewriteFault> {
    let object = above(&state.key);
    let place = |pointer: &str| record.text_at(pointer).map(|part| range_in(text, part));
    let whole = place(object).filter(|whole| text[whole.clone()].starts_with('{'));
    let (Some(whole), Some(old)) = (whole, place(&state.key)) else {
        return Err(RewriteFault::Unplain);
    };
    let mut edits = vec![(old.clone(), in_the_style_of(&text[old], value))];
    let mut added = Vec::new();
    for (name, value) in [(FAILED, rfc3339(at)), (REASON, STALE.to_owned())] {
        match place(&format!("{object}/{name}")) {
            Some(old) => edits.push((old, quoted(&value))),
            None => added.push((name, quoted(&value))),
        }
    }
    if !added.is_empty() {
        edits.push(append(text, whole, &added));
    }
    let new = apply(text, edits);
    let is_right = Record::parse(new.as_bytes(), layout.spec.format)
        .and_then(|record| record.at(&state.key).as_ref().and_then(scalar_text))
        .is_some_and(|word| word == value);
    if !is_right {
        return Err(RewriteFault::Unplain);
    }
    Ok(new)
}

/// Where a part of a text lies in it.
fn range_in(text: &str, part: &str) -> Range<usize> {
    let begin = part.as_ptr() as usize - text.as_ptr() as usize;
    begin..begin + part.len()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A state that was a number stays one.
fn in_the_style_of(old: &str, value: &str) -> String {
    let is_number = |text: &str| text.parse::<i64>().is_ok();
    if is_number(old) && is_number(value) {
        value.to_owned()
    } else {
        quoted(value)
    }
}

/// New members at the end of an object, set as its first one is.
fn append(text: &str, object: Range<usize>, members: &[(&str, String)]) -> (Range<usize>, String) {
    let inner = &text[object.start + 1..object.end - 1];
    let filled = inner.trim_end();
    let lead = &inner[..inner.len() - inner.trim_start().len()];
    let is_wide = inner.contains("\": ");
    let lead = if lead.is_empty() && is_wide {
        " "
    } else {
        lead
    };
    let colon = if is_wide { ": " } else { ":" };
    let mut new = String::new();
    for (name, value) in members {
        // Never the first: the state is a member.
        new.push(',');
        new.push_str(lead);
        new.push_str(&quoted(name));
        new.push_str(colon);
        new.push_str(value);
    }
    let at = object.start + 1 + filled.len();
    (at..at, new)
}

/// Edits do not overlap.
fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut new = String::with_capacity(text.len() + 128);
    let mut at = 0;
    for (range, with) in edits {
        new.push_str(&text[at..range.start]);
        new.push_str(&with);
        at = range.end;
    }
    new.push_str(&text[at..]);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::spec::{Format, LayoutSpec};

    fn layout(key: &str) -> Layout {
        Layout::new(LayoutSpec {
            state: Some(StateSpec {
                key: key.to_owned(),
                active: vec!["init".to_owned(), "1".to_owned()],
                complete: vec!["complete".to_owned()],
                failed: vec!["failed".to_owned(), "9".to_owned()],
            }),
            ..LayoutSpec::default()
        })
        .expect("a good spec")
    }

    fn at() -> Time {
        "2026-12-01T10:00:00Z".parse().expect("a time")
    }

    fn rewritten(key: &str, text: &str, value: &str) -> Result<String, RewriteFault> {
        let new = failed(&layout(key), text.as_bytes(), value, at())?;
        Ok(String::from_utf8(new).expect("UTF-8"))
    }

    const AT: &str = r#""failed_at":"2026-12-01T10:00:00Z","failure_reason":"stale""#;

    #[test]
    fn all_else_stays_byte_for_byte() {
        for (key, value, text, expected) in [
            (
                "/state",
                "failed",
                r#"{"z":1.0,"state":"init","a":18446744073709551616}"#.to_owned(),
                format!(r#"{{"z":1.0,"state":"failed","a":18446744073709551616,{AT}}}"#),
            ),
            (
                "/state",
                "failed",
                "{\n  \"b\": [1, 2],\n  \"state\": \"init\"\n}\n".to_owned(),
                "{\n  \"b\": [1, 2],\n  \"state\": \"failed\",\n  \"failed_at\": \"2026-12-01T10:00:00Z\",\n  \"failure_reason\": \"stale\"\n}\n".to_owned(),
            ),
            (
                "/state",
                "failed",
                r#"{"state": "init", "failed_at": null, "x": "\u00e4"}"#.to_owned(),
                r#"{"state": "failed", "failed_at": "2026-12-01T10:00:00Z", "x": "\u00e4", "failure_reason": "stale"}"#.to_owned(),
            ),
            ("/state", "9", r#"{"state":1}"#.to_owned(), format!(r#"{{"state":9,{AT}}}"#)),
            (
                "/up~1load/state",
                "failed",
                r#" {"up/load":{"state":"init"},"state":"init"} "#.to_owned(),
                format!(r#" {{"up/load":{{"state":"failed",{AT}}},"state":"init"}} "#),
            ),
            // Of two members the last counts, and is the one that changes.
            (
                "/state",
                "failed",
                r#"{"state":"x","state":"init"}"#.to_owned(),
                format!(r#"{{"state":"x","state":"failed",{AT}}}"#),
            ),
        ] {
            assert_eq!(rewritten(key, &text, value), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_stale_session_is_not_changed() {
        use RewriteFault::*;
        for (key, text, fault) in [
            ("/state", r#"{"state":"complete"}"#, NotActive),
            ("/state", r#"{"state":"other"}"#, NotActive),
            ("/state", r#"{"state":null}"#, NotActive),
            ("/state", r#"{"state":["init"]}"#, NotActive),
            ("/state", r#"{}"#, NotActive),
            ("/state", r#"{"state":"init""#, Corrupt),
            ("/state", r#"[]"#, Corrupt),
            ("/list/0", r#"{"list":["init"]}"#, Unplain),
        ] {
            assert_eq!(rewritten(key, text, "failed"), Err(fault), "{text}");
        }
    }

    #[test]
    fn moments_lie_beside_the_state_or_at_the_top() {
        let told = |text: &str| {
            let layout = layout("/s/state");
            let record = Record::parse(text.as_bytes(), Format::Json).expect("an object");
            let state = layout.spec.state.clone().expect("a state");
            moments(&layout, &state, &record).map(|moments| *moments)
        };
        let time = |text: &str| Told::At(text.parse().expect("a time"));
        assert_eq!(told(r#"{"s":{"state":"init"}}"#), None);
        assert_eq!(
            told(
                r#"{"updated_at":"2026-01-01T00:00:00","s":{"failed_at":"2026-01-02T00:00:00+01:00"}}"#
            ),
            Some(Moments {
                updated: time("2026-01-01T00:00:00Z"),
                failed: time("2026-01-01T23:00:00Z"),
            })
        );
        assert_eq!(
            told(r#"{"updated_at":"2026-01-01T00:00:00Z","s":{"updated_at":"soon"}}"#),
            Some(Moments {
                updated: Told::Unreadable,
                failed: Told::Nothing,
            })
        );
    }

    #[test]
    fn of_a_catalogue_one_entry_changes_and_nothing_else() {
        let layout = layout("/state");
        let since = UnixNanos::from(at());
        let changed = |text: &str, id: &str| {
            let as_it_is_to_be = ("failed", at());
            let new = failed_entry(
                &layout,
                text.as_bytes(),
                id.as_bytes(),
                as_it_is_to_be,
                since,
            );
            new.map(|new| String::from_utf8(new).expect("UTF-8"))
        };
        let text =
            r#"{ "a":{"state":"init"}, "b" : {"state":"init", "n":1.50} ,"b": {"state":"init"}}"#;
        // Of two with one id the last counts.
        assert_eq!(
            changed(text, "b"),
            Ok(text.replace(
                r#""b": {"state":"init"}}"#,
                &format!(r#""b": {{"state":"failed",{AT}}}}}"#)
            ))
        );
        assert_eq!(
            changed(text, "a"),
            Ok(text.replace(
                r#""a":{"state":"init"}"#,
                &format!(r#""a":{{"state":"failed",{AT}}}"#)
            ))
        );
        for (text, id, why) in [
            (text, "c", RewriteFault::NotActive),
            (
                r#"{"a":{"state":"complete"}}"#,
                "a",
                RewriteFault::NotActive,
            ),
            (
                r#"{"a":{"state":"init","updated_at":"2026-12-01T10:00:01Z"}}"#,
                "a",
                RewriteFault::NotActive,
            ),
            (r#"{"a":{"state":"init"}"#, "a", RewriteFault::Corrupt),
            (r#"[{"state":"init"}]"#, "a", RewriteFault::Corrupt),
            (r#"{"a":["init"]}"#, "a", RewriteFault::Corrupt),
        ] {
            assert_eq!(changed(text, id), Err(why), "{text}");
        }
        let old = r#"{"a":{"state":"init","updated_at":"2026-12-01T09:59:59Z"}}"#;
        assert!(changed(old, "a").is_ok());
    }
}
