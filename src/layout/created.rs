//! When a session was made: asks the sources in order.
//!
//! The next source is asked only when the one before has nothing. One that has something
//! unreadable ends the list, so that no later source hides it (promise 2).

use super::moment;
use super::pattern::group_of;
use super::record::Record;
use super::spec::Source;
use crate::model::seen::Stat;
use crate::model::session::{Content, Document};
use crate::model::time::Time;
use regex::bytes::Captures;

/// All that facts can be read from.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) record: Option<&'a Record<'a>>,
    /// What the pattern captured in the name or id.
    pub(super) captures: Option<&'a Captures<'a>>,
    pub(super) inode: Option<&'a Stat>,
    pub(super) documents: &'a [Document],
}

/// What a source, or all of them, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    /// Something is there, and it is no time.
    Unreadable,
    At(Time),
}

/// The first answer that is not nothing.
pub(super) fn created(sources: &[Source], evidence: &Evidence<'_>) -> Answer {
    sources
        .iter()
        .map(|source| ask(source, evidence))
        .find(|answer| *answer != Answer::Nothing)
        .unwrap_or(Answer::Nothing)
}

fn ask(source: &Source, evidence: &Evidence<'_>) -> Answer {
    match source {
        Source::Key { key, format, zone } => {
            match evidence.record.and_then(|record| record.at(key)) {
                None => Answer::Nothing,
                Some(value) => Answer::read(moment::from_json(&value, format, *zone)),
            }
        }
        Source::Name {
            group,
            format,
            zone,
            radix,
        } => match evidence.captures.and_then(|found| group_of(found, group)) {
            None => Answer::Nothing,
            Some(bytes) => Answer::of_text(bytes, |text| {
                moment::from_digits(text, format, *zone, *radix)
            }),
        },
        Source::File { file, format, zone } => match content(evidence.documents, file.as_bytes()) {
            Content::Absent => Answer::Nothing,
            Content::NotAFile | Content::TooBig | Content::Unreadable(_) => Answer::Unreadable,
            Content::Text(bytes) => {
                Answer::of_text(bytes, |text| moment::from_text(text.trim(), format, *zone))
            }
        },
        Source::Birth => evidence
            .inode
            .and_then(|inode| inode.btime)
            .map_or(Answer::Nothing, |time| Answer::At(time.time())),
        Source::Mtime => evidence
            .inode
            .map_or(Answer::Nothing, |inode| Answer::At(inode.mtime.time())),
    }
}

impl Answer {
    fn read(time: Option<Time>) -> Self {
        time.map_or(Self::Unreadable, Self::At)
    }

    fn of_text(bytes: &[u8], read: impl Fn(&str) -> Option<Time>) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::read(read(text)),
            Err(_no_text) => Self::Unreadable,
        }
    }
}

/// What a file of the session held. One that was not read counts as absent.
pub(super) fn content<'a>(documents: &'a [Document], name: &[u8]) -> &'a Content {
    documents
        .iter()
        .find(|document| *document.name == *name)
        .map_or(&Content::Absent, |document| &document.content)
}
