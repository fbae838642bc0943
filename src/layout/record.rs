//! One JSON object of metadata.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// A parsed object. Of two members with one name the last counts.
#[derive(Debug)]
pub(super) struct Record {
    /// Always an object.
    value: Value,
    /// A name was there twice, at the top level.
    pub(super) has_duplicates: bool,
}

impl Record {
    /// `None`: no JSON (perhaps half written), or JSON but no object. A byte order mark is no JSON.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        // What is wrong in it is of no use to the caller: all of it is "corrupt".
        serde_json::from_slice(text).ok()
    }

    /// What a JSON pointer leads to; null is nothing.
    pub(super) fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer).filter(|value| !value.is_null())
    }

    /// A member of the top level, null included.
    pub(super) fn member(&self, name: &str) -> Option<&Value> {
        self.value.get(name)
    }
}

/// A text, number or bool as text.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Record, A::Error> {
        let mut map = Map::new();
        let mut has_duplicates = false;
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            has_duplicates |= map.insert(name, value).is_some();
        }
        Ok(Record {
            value: Value::Object(map),
            has_duplicates,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_records() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for bad in [
            &b""[..],
            b" ",
            b"[]",
            b"null",
            b"\"a\"",
            b"{",
            b"{}x",
            b"\xEF\xBB\xBF{}",
            b"{\"a\":\"\xFF\"}",
            b"{\"a\":NaN}",
            deep.as_bytes(),
        ] {
            assert!(Record::parse(bad).is_none(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn the_last_of_two_counts() {
        let record = Record::parse(br#" {"a":1,"b":null,"a":2} "#).expect("an object");
        assert!(record.has_duplicates);
        assert_eq!(record.at("/a"), Some(&Value::from(2)));
        assert_eq!(record.at("/b"), None);
        assert_eq!(record.member("b"), Some(&Value::Null));
    }
}
