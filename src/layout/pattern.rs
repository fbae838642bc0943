//! The `pattern`: a regex on a name, with named groups.
//!
//! It is anchored as the user wrote it. Names are bytes: what a regex says of letters (`.`,
//! `\w`) matches UTF-8 only, so a name that is not UTF-8 must be allowed for with `(?-u:.)`.

use regex::bytes::{Captures, Regex, RegexBuilder};

/// Longer patterns are refused.
const MAX_BYTES: usize = 4096;
/// A pattern that compiles to more is refused.
const MAX_COMPILED: usize = 4 << 20;

/// A checked pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    writes_dot: bool,
    writes_lost_found: bool,
}

impl Pattern {
    /// Checks a pattern; the error says what is wrong.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("is longer than {MAX_BYTES} bytes; shorten it"));
        }
        let regex = RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| format!("is no regular expression: {error}"))?;
        Ok(Self {
            regex,
            writes_dot: begins_with(text, "\\.") || begins_with(text, "[.]"),
            writes_lost_found: begins_with(text, "lost\\+found"),
        })
    }

    pub(super) fn is_match(&self, name: &[u8]) -> bool {
        self.regex.is_match(name)
    }

    /// Whether it has a group of this name.
    pub(super) fn has_group(&self, group: &str) -> bool {
        self.regex.capture_names().flatten().any(|g| g == group)
    }

    pub(super) fn captures<'a>(&self, name: &'a [u8]) -> Option<Captures<'a>> {
        self.regex.captures(name)
    }

    /// What a group matched in a name; `None` when it did not take part or matched nothing.
    pub(super) fn group<'a>(&self, name: &'a [u8], group: &str) -> Option<&'a [u8]> {
        group_of(&self.captures(name)?, group)
    }

    /// Whether a hidden name matches because the pattern writes what hides it.
    pub(super) fn writes(&self, name: &[u8]) -> bool {
        let written = (self.writes_dot && name.first() == Some(&b'.'))
            || (self.writes_lost_found && name == b"lost+found");
        written && self.is_match(name)
    }
}

/// What a group matched; `None` when it did not take part or matched nothing.
pub(super) fn group_of<'a>(captures: &Captures<'a>, group: &str) -> Option<&'a [u8]> {
    captures
        .name(group)
        .map(|found| found.as_bytes())
        .filter(|bytes| !bytes.is_empty())
}

/// Whether every match of the regex begins with `literal`, judged by its text: anchored, past
/// opened groups the first thing written, not optional. With alternatives the answer is no;
/// a user can still write the hidden name into the glob.
fn begins_with(text: &str, literal: &str) -> bool {
    let Some(mut rest) = text.strip_prefix('^').or_else(|| text.strip_prefix("\\A")) else {
        return false;
    };
    if text.contains('|') {
        return false;
    }
    while let Some(inner) = rest.strip_prefix('(') {
        rest = match inner.strip_prefix('?') {
            None => inner,
            Some(flags) => match flags.find(['>', ':', ')']) {
                Some(end) => &flags[end + 1..],
                None => return false,
            },
        };
    }
    rest.strip_prefix(literal)
        .is_some_and(|after| !after.starts_with(['?', '*', '{']))
        // A group that holds it may itself be optional.
        && !text.contains(")?")
        && !text.contains(")*")
        && !text.contains("){")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_name_must_be_written() {
        for (pattern, name, written) in [
            (r"^\.rec_\d+$", ".rec_1", true),
            (r"^\.rec_\d+$", ".other", false),
            (r"\A[.]a", ".a", true),
            (r"^(?<id>\.a.*)$", ".ab", true),
            (r"^(?:(\.a))", ".ab", true),
            (r"\.wav$", ".secret.wav", false),
            (r"^.*$", ".a", false),
            (r"^\.?a", ".a", false),
            (r"^(\.)?a", ".a", false),
            (r"^\.a|b", ".a", false),
            (r"^lost\+found$", "lost+found", true),
            (r"^l", "lost+found", false),
            (r"^(?", "", false),
        ] {
            let Ok(pattern) = Pattern::new(pattern) else {
                assert_eq!(name, "", "{pattern} must be good");
                continue;
            };
            assert_eq!(pattern.writes(name.as_bytes()), written, "{pattern:?}");
        }
    }

    #[test]
    fn giants_are_refused() {
        assert!(Pattern::new(r"((\w{100}){100}){100}").is_err());
        assert!(Pattern::new(&"a".repeat(5000)).is_err());
        assert!(Pattern::new("(").is_err());
    }

    #[test]
    fn bytes_that_are_no_text_match_where_allowed() {
        assert!(!Pattern::new("^a.$").expect("good").is_match(b"a\xFF"));
        assert!(Pattern::new("^a(?-u:.)$").expect("good").is_match(b"a\xFF"));
    }
}
