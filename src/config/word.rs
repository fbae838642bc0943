//! Keys whose value is one of a few words.

use crate::config::settings::{Backend, FirstStart, LogFormat, Mode, Scheduling};
use crate::layout::spec::{Format, Kind, Means};
use crate::model::bytes::Measure;
use crate::model::notice::{BodyFormat, Topic};

/// A closed set of words.
pub trait Word: Copy + PartialEq + 'static {
    /// Each word with what it means.
    const WORDS: &[(&str, Self)];

    /// The word for this value.
    fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, value)| *value == self)
            .map_or("", |(word, _)| word)
    }
}

/// What the word `text` means, or a sentence that names the words there are.
pub fn parse<W: Word>(text: &str) -> Result<W, String> {
    let text = text.trim();
    if let Some((_, value)) = W::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<_> = W::WORDS.iter().map(|(word, _)| *word).collect();
    Err(format!("`{text}` is none of {}", words.join(", ")))
}

/// The word of `known` that `text` was probably meant to be.
pub(super) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = 1 + text.len() / 5;
    known
        .into_iter()
        .map(|word| (distance(text, word), word))
        .filter(|(far, _)| *far <= bound)
        .min_by_key(|(far, _)| *far)
        .map(|(_, word)| word)
}

/// How many letters must be put in, taken out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut far = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                far = far.min(rows[i - 2][j - 2] + 1);
            }
            row.push(far);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

impl Word for Mode {
    const WORDS: &[(&str, Self)] = &[("enforce", Self::Enforce), ("observe", Self::Observe)];
}

impl Word for Scheduling {
    const WORDS: &[(&str, Self)] = &[
        ("auto", Self::Auto),
        ("realtime", Self::Realtime),
        ("normal", Self::Normal),
    ];
}

impl Word for LogFormat {
    const WORDS: &[(&str, Self)] = &[
        ("json", Self::Json),
        ("text", Self::Text),
        ("clef", Self::Clef),
    ];
}

impl Word for Backend {
    const WORDS: &[(&str, Self)] = &[
        ("auto", Self::Auto),
        ("fanotify", Self::Fanotify),
        ("inotify", Self::Inotify),
        ("notify", Self::Notify),
        ("poll", Self::Poll),
    ];
}

impl Word for FirstStart {
    const WORDS: &[(&str, Self)] = &[("hold", Self::Hold), ("enforce", Self::Enforce)];
}

impl Word for Measure {
    const WORDS: &[(&str, Self)] = &[("apparent", Self::Apparent), ("allocated", Self::Allocated)];
}

impl Word for Kind {
    const WORDS: &[(&str, Self)] = &[
        ("directories", Self::Directories),
        ("files", Self::Files),
        ("sidecar", Self::Sidecar),
        ("catalog", Self::Catalog),
    ];
}

impl Word for Format {
    const WORDS: &[(&str, Self)] = &[
        ("json", Self::Json),
        ("yaml", Self::Yaml),
        ("text", Self::Text),
    ];
}

impl Word for Means {
    const WORDS: &[(&str, Self)] = &[
        ("bytes", Self::Bytes),
        ("declared_total", Self::DeclaredTotal),
    ];
}

impl Word for BodyFormat {
    const WORDS: &[(&str, Self)] = &[("json", Self::Json), ("slack", Self::Slack)];
}

impl Word for Topic {
    const WORDS: &[(&str, Self)] = &[
        ("failure", Self::Failure),
        ("target_unmet", Self::TargetUnmet),
        ("anomaly", Self::Anomaly),
        ("degraded", Self::Degraded),
    ];
}

#[cfg(test)]
mod tests {
    use super::{Word, nearest, parse};
    use crate::config::settings::Mode;

    #[test]
    fn words_go_both_ways() {
        assert_eq!(parse::<Mode>("observe"), Ok(Mode::Observe));
        assert_eq!(Mode::Observe.word(), "observe");
        let why = parse::<Mode>("obsrve").expect_err("a typo");
        assert!(why.contains("enforce, observe"), "{why}");
    }

    #[test]
    fn a_typo_finds_its_word() {
        let known = ["max_size", "max_age", "max_count", "prune_to"];
        assert_eq!(nearest("max_sise", known), Some("max_size"));
        assert_eq!(nearest("maxsize", known), Some("max_size"));
        assert_eq!(nearest("mxa_age", known), Some("max_age"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
