//! Takes keys out of a TOML table, one by one, and notes all that is wrong on the way.
//!
//! A getter answers `None` both where a key is absent and where its value is bad; then a problem
//! with the full name of the key and its line is noted. [`Reader::finish`] reports every key that
//! nobody asked for, so a key is known exactly where it is read. Values of unknown keys are never
//! repeated in a message: they may be secrets in the wrong place.

use crate::config::settings::Problem;
use crate::config::word::{self, Word};
use crate::config::{duration, size};
use crate::model::bytes::Bytes;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One table of the file, over the same table of a preset where the root names one.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    /// The full name of the table, such as `root.limits`; empty for the whole file.
    at: String,
    /// Whose table it is, for messages: "root `recordings`: ".
    subject: String,
    /// What comes first wins.
    layers: Vec<Layer<'t>>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

/// A table and where its text is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'t> {
    pub(super) table: &'t DeTable<'t>,
    pub(super) origin: Origin<'t>,
}

/// Whose lines the spans of a table count.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'t> {
    File(&'t Lines),
    /// It has no lines in the file: problems are shown at the table that names it.
    Preset,
}

/// Where the lines of a text begin.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at + 1).collect())
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.0.partition_point(|begin| *begin <= at) + 1
    }
}

/// A value with the place of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'t> {
    pub(super) value: &'t DeValue<'t>,
    pub(super) line: Option<usize>,
    origin: Origin<'t>,
}

impl<'t> Found<'t> {
    fn new(origin: Origin<'t>, span: Range<usize>, value: &'t Spanned<DeValue<'t>>) -> Self {
        Self {
            value: value.get_ref(),
            line: origin.line(span),
            origin,
        }
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(at: impl Into<String>, layers: Vec<Layer<'t>>) -> Self {
        Self {
            at: at.into(),
            subject: String::new(),
            layers,
            known: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// A table that is not there: every key is absent.
    pub(super) fn absent(at: impl Into<String>) -> Self {
        Self::new(at, Vec::new())
    }

    /// Messages from here on say that they are about this root.
    pub(super) fn about_root(&mut self, name: &str) {
        self.subject = format!("root `{name}`: ");
    }

    pub(super) fn full_name(&self, key: &str) -> String {
        match (self.at.as_str(), key) {
            ("", key) => key.to_owned(),
            (at, "") => at.to_owned(),
            (at, key) => format!("{at}.{key}"),
        }
    }

    /// The value of a key, which is known from now on.
    pub(super) fn find(&mut self, key: &'static str) -> Option<Found<'t>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.peek(key)
    }

    fn peek(&self, key: &str) -> Option<Found<'t>> {
        self.layers.iter().find_map(|layer| {
            let (name, value) = layer.table.get_key_value(key)?;
            Some(Found::new(layer.origin, name.span(), value))
        })
    }

    /// Notes what is wrong with the key.
    pub(super) fn problem(&mut self, key: &str, message: impl AsRef<str>) {
        let line = self.line(key);
        self.push(key, line, message.as_ref().to_owned());
    }

    /// The line of a key; of one in a table below (`created_at.from`) that of the nearest table
    /// that is there.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        let mut names = key.split('.');
        let mut found = self.peek(names.next()?)?;
        for name in names {
            let below = found.value.as_table().and_then(|table| {
                let (name, value) = table.get_key_value(name)?;
                Some(Found::new(found.origin, name.span(), value))
            });
            let Some(below) = below else { break };
            found = below;
        }
        found.line
    }

    fn push(&mut self, key: &str, line: Option<usize>, message: String) {
        self.problems.push(Problem {
            key: self.full_name(key),
            line,
            message: format!("{}{message}", self.subject),
        });
    }

    /// Whether something was noted about this key or one below it.
    pub(super) fn has_problem(&self, key: &str) -> bool {
        let name = self.full_name(key);
        self.problems.iter().any(|problem| {
            problem
                .key
                .strip_prefix(&name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Text, through `parse`.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problem(key, why);
                None
            }
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<&'t str> {
        let found = self.find(key)?;
        if let Some(text) = found.value.as_str() {
            return Some(text);
        }
        self.wrong_type(key, found.value, "text in quotes");
        None
    }

    /// Text that is not empty.
    pub(super) fn filled_text(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, |text| {
            if text.trim().is_empty() {
                return Err("is empty; leave the key away instead".to_owned());
            }
            Ok(text.to_owned())
        })
    }

    pub(super) fn word<W: Word>(&mut self, key: &'static str) -> Option<W> {
        self.parsed(key, word::parse)
    }

    pub(super) fn duration_above_zero(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed(key, duration::parse_above_zero)
    }

    pub(super) fn switch(&mut self, key: &'static str) -> Option<bool> {
        let found = self.find(key)?;
        if let Some(on) = found.value.as_bool() {
            return Some(on);
        }
        self.wrong_type(key, found.value, "true or false");
        None
    }

    /// A size, zero included.
    pub(super) fn size(&mut self, key: &'static str) -> Option<Bytes> {
        let found = self.find(key)?;
        let parsed = match found.value {
            DeValue::String(text) => size::parse(text),
            DeValue::Integer(number) if number.as_str().starts_with('-') => {
                Err(format!("`{number}` is negative, a size is not"))
            }
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .map(Bytes)
                .map_err(|_| format!("`{number}` is more than any disk holds")),
            DeValue::Float(number) => Err(format!(
                "`{number}` is no number of bytes; write it with a unit like \"1.5 GiB\""
            )),
            other => {
                self.wrong_type(key, other, "a size like \"10 GiB\"");
                return None;
            }
        };
        self.noted(key, parsed)
    }

    /// A size above zero.
    pub(super) fn limit(&mut self, key: &'static str) -> Option<Bytes> {
        let size = self.size(key)?;
        self.noted(key, size::above_zero(size))
    }

    /// A whole number in `range`.
    pub(super) fn number(&mut self, key: &'static str, range: Range<u64>) -> Option<u64> {
        let found = self.find(key)?;
        let DeValue::Integer(number) = found.value else {
            self.wrong_type(key, found.value, "a whole number");
            return None;
        };
        let parsed = u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let most = range.end - 1;
                format!(
                    "`{number}` must be a whole number from {} to {most}",
                    range.start
                )
            });
        self.noted(key, parsed)
    }

    /// A list of texts, none of them empty.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let found = self.find(key)?;
        let Some(list) = found.value.as_array() else {
            self.wrong_type(key, found.value, "a list like [\"a\", \"b\"]");
            return None;
        };
        let mut texts = Vec::with_capacity(list.len());
        for item in list.iter() {
            let item = Found::new(found.origin, item.span(), item);
            match item.value.as_str() {
                Some(text) if !text.is_empty() => texts.push(text.to_owned()),
                Some(_) => self.item_problem(key, item, "an item is empty"),
                None => {
                    let kind = type_name(item.value);
                    self.item_problem(key, item, &format!("an item must be text, not {kind}"));
                }
            }
        }
        Some(texts)
    }

    /// The items of a list, each with its line.
    pub(super) fn items(&mut self, key: &'static str) -> Option<Vec<Found<'t>>> {
        let found = self.find(key)?;
        let Some(list) = found.value.as_array() else {
            self.wrong_type(key, found.value, "a list");
            return None;
        };
        let items = list
            .iter()
            .map(|item| Found::new(found.origin, item.span(), item));
        Some(items.collect())
    }

    /// A table below this one: that of the file, over that of the preset.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Reader<'t>> {
        let found = self.find(key)?;
        if found.value.as_table().is_none() {
            let message = format!("must be a table, not {}", type_name(found.value));
            self.problem(key, message);
            return None;
        }
        let layers = self.layers.iter().filter_map(|layer| {
            Some(Layer {
                table: layer.table.get(key)?.get_ref().as_table()?,
                origin: layer.origin,
            })
        });
        let layers = layers.collect();
        Some(self.below(key, layers))
    }

    /// The same, empty where it is absent or no table.
    pub(super) fn table_or_absent(&mut self, key: &'static str) -> Reader<'t> {
        match self.table(key) {
            Some(table) => table,
            None => self.below(key, Vec::new()),
        }
    }

    /// An item of a list, to be read as a table of the name `key`; `None` where it is no table.
    pub(super) fn item_table(&self, key: &str, item: Found<'t>) -> Option<Reader<'t>> {
        let below = Self::of_item(self.full_name(key), item)?;
        Some(Reader {
            subject: self.subject.clone(),
            ..below
        })
    }

    /// An item of a list at the top.
    pub(super) fn of_item(at: impl Into<String>, item: Found<'t>) -> Option<Reader<'t>> {
        let layer = Layer {
            table: item.value.as_table()?,
            origin: item.origin,
        };
        Some(Self::new(at, vec![layer]))
    }

    fn below(&self, key: &str, layers: Vec<Layer<'t>>) -> Reader<'t> {
        Reader {
            subject: self.subject.clone(),
            ..Reader::new(self.full_name(key), layers)
        }
    }

    /// Puts a preset under what is written here.
    pub(super) fn lay_under(&mut self, layer: Layer<'t>) {
        self.layers.push(layer);
    }

    /// Notes that an item of a list is wrong.
    pub(super) fn item_problem(&mut self, key: &str, item: Found<'t>, message: &str) {
        self.push(key, item.line, message.to_owned());
    }

    fn noted<T>(&mut self, key: &str, parsed: Result<T, String>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(why) => {
                self.problem(key, why);
                None
            }
        }
    }

    fn wrong_type(&mut self, key: &str, value: &DeValue<'_>, wanted: &str) {
        self.problem(key, format!("must be {wanted}, not {}", type_name(value)));
    }

    /// Takes over what was noted in a table below.
    pub(super) fn absorb(&mut self, below: Reader<'t>) {
        self.problems.extend(below.finish());
    }

    /// All that was noted, and every key that nobody asked for.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let layers = std::mem::take(&mut self.layers);
        for layer in layers {
            for name in layer.table.keys() {
                let key = name.get_ref().as_ref();
                if self.known.contains(&key) {
                    continue;
                }
                let mean = match word::nearest(key, self.known.iter().copied()) {
                    Some(word) => format!("unknown key; did you mean `{word}`?"),
                    None if self.known.is_empty() => "unknown key".to_owned(),
                    None => format!("unknown key; known here: {}", self.known.join(", ")),
                };
                self.push(key, layer.origin.line(name.span()), mean);
            }
        }
        self.problems
    }
}

impl Origin<'_> {
    fn line(self, span: Range<usize>) -> Option<usize> {
        match self {
            Self::File(lines) => Some(lines.line(span.start)),
            Self::Preset => None,
        }
    }
}

/// What a value is, for people.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
