//! File names with words in braces, such as `{id}.{format}`.

use crate::model::path::is_name;

/// The longest file name Linux takes.
pub(super) const MAX_NAME: usize = 255;

/// More words in one template are refused: fitting a name tries every split of it.
const MAX_WORDS: usize = 3;

/// A checked template of one plain file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Word(Box<str>),
}

/// Why a template gave no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoName {
    /// A word has no value.
    Missing,
    /// The result is not one plain file name, or a value is empty.
    NotPlain,
}

/// Whether bytes are one file name that Linux takes.
pub(super) fn is_file_name(name: &[u8]) -> bool {
    is_name(name) && name.len() <= MAX_NAME
}

impl Template {
    /// Checks a template; the error says what is wrong.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if !is_file_name(text.as_bytes()) {
            return Err(format!(
                "`{text}` must be one plain file name, without slashes and at most {MAX_NAME} bytes"
            ));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(open);
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let word = after
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'));
            match word {
                Some((word, next)) if !word.is_empty() && !word.contains('{') => {
                    pieces.push(Piece::Word(word.into()));
                    rest = next;
                }
                _ => return Err(format!("`{text}` has a brace that opens or closes no word")),
            }
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        let template = Self { pieces };
        if template.words().count() > MAX_WORDS {
            return Err(format!(
                "`{text}` has more than {MAX_WORDS} words in braces"
            ));
        }
        Ok(template)
    }

    /// The words in braces, in order.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Word(word) => Some(&**word),
            Piece::Text(_) => None,
        })
    }

    /// The name with each word replaced by its value.
    pub(super) fn name(
        &self,
        value: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Box<[u8]>, NoName> {
        let mut name = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.extend_from_slice(text.as_bytes()),
                Piece::Word(word) => {
                    let value = value(word).ok_or(NoName::Missing)?;
                    if value.is_empty() {
                        return Err(NoName::NotPlain);
                    }
                    name.extend_from_slice(&value);
                }
            }
        }
        if is_file_name(&name) {
            Ok(name.into())
        } else {
            Err(NoName::NotPlain)
        }
    }

    /// What `{id}` stands for in a name of this form, the longest that `is_id` takes; `None`
    /// where the name has another form.
    pub(super) fn id_in<'n>(
        &self,
        name: &'n [u8],
        is_id: &dyn Fn(&[u8]) -> bool,
    ) -> Option<&'n [u8]> {
        if !self.may_fit(name) {
            return None;
        }
        id_in(&self.pieces, name, None, is_id)
    }

    /// Whether `name` has this form: each word stands for one byte or more, `{id}` for the same
    /// bytes wherever it stands, and `is_id` takes these.
    pub(super) fn fits(&self, name: &[u8], is_id: &dyn Fn(&[u8]) -> bool) -> bool {
        self.may_fit(name) && fits(&self.pieces, name, None, is_id)
    }

    /// Whether it ends as the template does: most names do not, and no split has to be tried for
    /// them.
    fn may_fit(&self, name: &[u8]) -> bool {
        let end = match self.pieces.last() {
            Some(Piece::Text(text)) => text.as_bytes(),
            Some(Piece::Word(_)) | None => return name.len() <= MAX_NAME,
        };
        name.len() <= MAX_NAME && name.last() == end.last() && name.ends_with(end)
    }
}

/// Tries every split, the longest `{id}` first.
fn id_in<'n>(
    pieces: &[Piece],
    rest: &'n [u8],
    id: Option<&'n [u8]>,
    is_id: &dyn Fn(&[u8]) -> bool,
) -> Option<&'n [u8]> {
    let Some((piece, pieces)) = pieces.split_first() else {
        return id.filter(|_| rest.is_empty());
    };
    let past = |text: &[u8]| id_in(pieces, rest.strip_prefix(text)?, id, is_id);
    match piece {
        Piece::Text(text) => past(text.as_bytes()),
        Piece::Word(word) => match (&**word, id) {
            ("id", Some(id)) => past(id),
            ("id", None) => (1..=rest.len()).rev().find_map(|end| {
                let (id, rest) = rest.split_at(end);
                id_in(pieces, rest, Some(id), is_id).filter(|id| is_id(id))
            }),
            _ => (1..=rest.len()).find_map(|end| id_in(pieces, &rest[end..], id, is_id)),
        },
    }
}

/// Tries every split, so a name that a template gave always fits it.
fn fits(pieces: &[Piece], rest: &[u8], id: Option<&[u8]>, is_id: &dyn Fn(&[u8]) -> bool) -> bool {
    let Some((piece, pieces)) = pieces.split_first() else {
        return rest.is_empty();
    };
    let past = |text: &[u8]| {
        rest.strip_prefix(text)
            .is_some_and(|rest| fits(pieces, rest, id, is_id))
    };
    match piece {
        Piece::Text(text) => past(text.as_bytes()),
        Piece::Word(word) => match (&**word, id) {
            ("id", Some(id)) => past(id),
            ("id", None) => (1..=rest.len()).any(|end| {
                let (id, rest) = rest.split_at(end);
                fits(pieces, rest, Some(id), is_id) && is_id(id)
            }),
            _ => (1..=rest.len()).any(|end| fits(pieces, &rest[end..], id, is_id)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::new(text).expect("a good template")
    }

    #[test]
    fn forms() {
        let any = |_: &[u8]| true;
        for (form, name, fits) in [
            ("{id}.{format}", "a.json", true),
            ("{id}.{format}", "a.tar.gz", true),
            ("{id}.{format}", "a", false),
            ("{id}.{format}", "a.", false),
            ("{id}.{format}", ".json", false),
            ("{id}-{id}", "ab-ab", true),
            ("{id}-{id}", "ab-ac", false),
            ("x{id}", "x", false),
            ("x{id}", "xy", true),
        ] {
            assert_eq!(
                template(form).fits(name.as_bytes(), &any),
                fits,
                "{form} {name}"
            );
        }
        let short = |id: &[u8]| id == b"a";
        assert!(template("{id}.{format}").fits(b"a.tar.gz", &short));
        assert!(!template("{id}.{format}").fits(b"b.tar.gz", &short));
    }

    #[test]
    fn the_longest_id_is_the_id() {
        let any = |_: &[u8]| true;
        let short = |id: &[u8]| !id.contains(&b'.');
        let id = |form: &str, name: &str, is_id: &dyn Fn(&[u8]) -> bool| {
            let id = template(form).id_in(name.as_bytes(), is_id)?.to_vec();
            String::from_utf8(id).ok()
        };
        for (form, name, longest, dotless) in [
            ("{id}.{ext}", "a.tar.gz", Some("a.tar"), Some("a")),
            ("{id}.{ext}", "a", None, None),
            ("{id}", "a.b", Some("a.b"), None),
            ("{id}.info", "a.info", Some("a"), Some("a")),
            ("{id}.info", ".info", None, None),
            ("{id}-{id}", "ab-ab", Some("ab"), Some("ab")),
        ] {
            assert_eq!(id(form, name, &any).as_deref(), longest, "{form} {name}");
            assert_eq!(id(form, name, &short).as_deref(), dotless, "{form} {name}");
        }
    }

    #[test]
    fn values_cannot_leave_the_directory() {
        let form = template("{id}.{format}");
        let with = |id: &str, format: &str| {
            let (id, format) = (id.to_owned(), format.to_owned());
            form.name(move |word| match word {
                "id" => Some(id.clone().into()),
                "format" => Some(format.clone().into()),
                _ => None,
            })
        };
        assert_eq!(with("a", "b"), Ok(b"a.b".as_slice().into()));
        let long = "x".repeat(300);
        for (id, format) in [
            ("../evil", "json"),
            ("a", "/../../evil2"),
            ("", "json"),
            ("a", ""),
            ("a\0", "b"),
            (&*long, "b"),
        ] {
            assert_eq!(with(id, format), Err(NoName::NotPlain), "{id} {format}");
        }
        assert_eq!(template("{x}").name(|_| None), Err(NoName::Missing));
    }

    #[test]
    fn bad_templates_are_refused() {
        for bad in [
            "",
            "a/b",
            "..",
            "{",
            "}",
            "{}",
            "{a{b}",
            "a}b",
            "{a}{b}{c}{d}",
        ] {
            assert!(Template::new(bad).is_err(), "{bad}");
        }
    }
}
