//! Metadata that is not written as JSON, as a JSON object.

use super::spec::Format;
use serde_json::{Map, Value};
use serde_saphyr::DuplicateKeyPolicy;

/// One YAML document that is a mapping, with whether a key is in it twice; then the last counts.
/// Aliases that would blow up, and whatever else is above the reader's bounds, is no YAML.
pub(super) fn yaml(text: &str) -> Option<(String, bool)> {
    let read = |duplicate_keys| {
        let options = serde_saphyr::options! { duplicate_keys: duplicate_keys };
        serde_saphyr::from_str_with_options::<Map<String, Value>>(text, options).ok()
    };
    // An empty text is no mapping: it may be half written.
    if text.trim().is_empty() {
        return None;
    }
    let (object, has_duplicates) = match read(DuplicateKeyPolicy::Error) {
        Some(object) => (object, false),
        None => (read(DuplicateKeyPolicy::LastWins)?, true),
    };
    Some((Value::Object(object).to_string(), has_duplicates))
}

/// Lines `key = value` or `key: value`, with whether a key is there twice; then the last counts.
/// A key is made of letters, digits, `_`, `-` and `.`; other lines, and what follows a `#` at
/// the beginning of one, say nothing. The whole text is under the empty key.
pub(super) fn lines(text: &str) -> Option<(String, bool)> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let mut object = Map::new();
    object.insert(String::new(), Value::from(text));
    let mut has_duplicates = false;
    for (key, value) in text.lines().filter_map(pair) {
        let value = Value::from(value);
        has_duplicates |= object.insert(key.to_owned(), value).is_some();
    }
    Some((Value::Object(object).to_string(), has_duplicates))
}

fn pair(line: &str) -> Option<(&str, &str)> {
    let at = line.find(['=', ':'])?;
    let (key, value) = (line[..at].trim(), &line[at + 1..]);
    let is_key = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    // `12:30:00` is a time, not a key with a value.
    let is_pair = line.as_bytes()[at] == b'=' || value.is_empty() || value.starts_with([' ', '\t']);
    if key.is_empty() || !key.bytes().all(is_key) || !is_pair {
        return None;
    }
    let value = value.trim();
    let unquoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((key, unquoted.unwrap_or(value)))
}

impl Format {
    /// The word for it in a configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Text => "text",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(read: Option<(String, bool)>) -> String {
        match read {
            None => "-".to_owned(),
            Some((text, false)) => text,
            Some((text, true)) => format!("{text} twice"),
        }
    }

    #[test]
    fn yaml_is_read_as_json() {
        let bomb = format!(
            "a: &a [x,x,x,x,x,x,x,x,x]\n{}",
            ('b'..='i')
                .map(|c| {
                    let before = char::from(c as u8 - 1);
                    let list = vec![format!("*{before}"); 9].join(",");
                    format!("{c}: &{c} [{list}]\n")
                })
                .collect::<String>()
        );
        for (text, expected) in [
            ("a: 1\n", r#"{"a":1}"#),
            (
                "---\na: {b: [x, 2.5, true, null]}\n",
                r#"{"a":{"b":["x",2.5,true,null]}}"#,
            ),
            (
                "created_at: 2026-02-10T12:00:00Z",
                r#"{"created_at":"2026-02-10T12:00:00Z"}"#,
            ),
            ("t: 2026-02-10 12:00:00", r#"{"t":"2026-02-10 12:00:00"}"#),
            ("a: 1\na: 2\n", r#"{"a":2} twice"#),
            ("", "-"),
            (" \n", "-"),
            ("- 1\n", "-"),
            ("text", "-"),
            ("a: [1", "-"),
            ("a: \"x", "-"),
            ("\u{0}", "-"),
            (&bomb, "-"),
            (&"[".repeat(100_000), "-"),
        ] {
            let head: String = text.chars().take(60).collect();
            assert_eq!(json(yaml(text)), expected, "{head}");
        }
    }

    #[test]
    fn lines_are_read_as_json() {
        for (text, expected) in [
            ("a = 1", r#"{"":"a = 1","a":"1"}"#),
            (
                "a: 1\n# b: 2\n\nc=\"x = y\"",
                r##"{"":"a: 1\n# b: 2\n\nc=\"x = y\"","a":"1","c":"x = y"}"##,
            ),
            ("2026-02-10T12:00:00Z\n", r#"{"":"2026-02-10T12:00:00Z"}"#),
            ("a=1\na=2", r#"{"":"a=1\na=2","a":"2"} twice"#),
            ("no key here: 1", r#"{"":"no key here: 1"}"#),
            ("", "-"),
            ("\n \n", "-"),
        ] {
            assert_eq!(json(lines(text)), expected, "{text}");
        }
    }
}
