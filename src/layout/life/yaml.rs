//! Changes members of a block mapping in YAML, each a line of its own at the top.
//!
//! The text is edited line by line, and then both are read and compared: what comes out is the
//! old mapping with these members and nothing else, or nothing is changed. So a style that the
//! editing does not know (a flow mapping, a value of several lines) costs a refusal.

use crate::layout::record::Record;
use crate::layout::spec::Format;
use serde_json::{Map, Value};

/// The text with these members, each a scalar as JSON writes it. `None`: it is not certain that
/// all else would stay as it is.
pub(super) fn with(text: &str, members: &[(&str, String)]) -> Option<String> {
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    for (name, value) in members {
        match lines.iter_mut().find(|line| value_of(line, name).is_some()) {
            Some(line) => {
                let old = value_of(line, name)?;
                *line = replaced(line, old, value);
            }
            None => {
                if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
                    last.push_str(ending);
                }
                lines.push(format!("{name}: {value}{ending}"));
            }
        }
    }
    let new = lines.concat();
    let mut expected = mapping(text)?;
    for (name, value) in members {
        let value = serde_json::from_str(value).ok()?;
        expected.insert((*name).to_owned(), value);
    }
    (mapping(&new)? == expected).then_some(new)
}

fn mapping(text: &str) -> Option<Map<String, Value>> {
    let record = Record::parse(text.as_bytes(), Format::Yaml)?;
    if record.has_duplicates {
        return None;
    }
    serde_json::from_str(record.text_at("")?).ok()
}

/// What follows `name:` at the beginning of a line.
fn value_of<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let plain = line.strip_prefix(name);
    let quoted = || {
        let quote = line.chars().next().filter(|c| "\"'".contains(*c))?;
        let rest = line[1..].strip_prefix(name)?;
        rest.strip_prefix(quote)
    };
    let rest = plain.or_else(quoted)?.trim_start_matches(' ');
    let value = rest.strip_prefix(':')?;
    (value.is_empty() || value.starts_with([' ', '\t', '\r', '\n'])).then_some(value)
}

/// The line with another value; a remark behind it stays.
fn replaced(line: &str, old: &str, value: &str) -> String {
    let name = &line[..line.len() - old.len()];
    let body = old.trim_end_matches(['\r', '\n']);
    let ending = &old[body.len()..];
    let remark = body.find(" #").map_or("", |at| &body[at..]);
    format!("{name} {value}{remark}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<(&'static str, String)> {
        let text = |word: &str| Value::from(word).to_string();
        vec![("state", text("failed")), ("failed_at", text("now"))]
    }

    #[test]
    fn lines_change_and_all_others_stay() {
        for (text, new) in [
            (
                "# made by hand\nz: 1.50\nstate: init   # so far\nlist:\n  - state: x\na: |\n  state: y\n",
                "# made by hand\nz: 1.50\nstate: \"failed\" # so far\nlist:\n  - state: x\na: |\n  state: y\nfailed_at: \"now\"\n",
            ),
            (
                "'state' : \"init\"\r\nfailed_at:\r\nx: [1, 2]",
                "'state' : \"failed\"\r\nfailed_at: \"now\"\r\nx: [1, 2]",
            ),
            ("state: init", "state: \"failed\"\nfailed_at: \"now\"\n"),
            (
                "---\nstate: init\n",
                "---\nstate: \"failed\"\nfailed_at: \"now\"\n",
            ),
        ] {
            assert_eq!(with(text, &members()).as_deref(), Some(new), "{text}");
        }
    }

    #[test]
    fn what_is_not_certain_is_not_changed() {
        for text in [
            "{state: init}\n",
            "state: >\n  in\n  it\n",
            "state: init\nstate: other\n",
            "state: init\n...\n",
            "state: [init\n",
            "a: &x init\nstate: *x\nfailed_at: &y old\nb: *y\n",
        ] {
            assert_eq!(with(text, &members()), None, "{text}");
        }
    }
}
