//! One object of metadata, as JSON whatever it is written in.
//!
//! The text is checked once, as a whole, and values are looked up in it when they are asked for:
//! no tree of values is ever built, so that what a record costs is its text, whatever strangers
//! put into it.

use super::formats;
use super::spec::Format;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// A list or object where one value is expected is kept up to this much text; a longer one
/// becomes a list that says nothing. Neither is ever a time, a name or a known word.
const MAX_NESTED: usize = 4096;

/// A checked object. Of two members with one name the last counts.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// Always an object.
    text: Cow<'a, str>,
    /// A name was there twice, at the top level.
    pub(super) has_duplicates: bool,
}

impl<'a> Record<'a> {
    /// `None`: it is not in this format (perhaps half written), or it is but no object. A byte
    /// order mark is no JSON.
    pub(super) fn parse(text: &'a [u8], format: Format) -> Option<Self> {
        // What is wrong in it is of no use to the caller: all of it is "corrupt".
        let text = std::str::from_utf8(text).ok()?;
        match format {
            Format::Json => Self::json(Cow::Borrowed(text)),
            Format::Yaml => Self::converted(formats::yaml(text)?),
            Format::Text => Self::converted(formats::lines(text)?),
        }
    }

    fn converted((object, has_duplicates): (String, bool)) -> Option<Self> {
        let mut record = Self::json(Cow::Owned(object))?;
        record.has_duplicates |= has_duplicates;
        Some(record)
    }

    fn json(text: Cow<'a, str>) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_str(&text);
        let has_duplicates = json.deserialize_map(Names::default()).ok()?;
        json.end().ok()?;
        Some(Self {
            text,
            has_duplicates,
        })
    }

    /// What a JSON pointer leads to; null is nothing.
    pub(super) fn at(&self, pointer: &str) -> Option<Value> {
        self.find(pointer).filter(|value| !value.is_null())
    }

    /// What a JSON pointer leads to, null included.
    pub(super) fn find(&self, pointer: &str) -> Option<Value> {
        self.text_at(pointer).map(value)
    }

    /// The text that a JSON pointer leads to, a part of the record's own.
    pub(super) fn text_at(&self, pointer: &str) -> Option<&str> {
        let mut found = self.text.trim_ascii();
        if !pointer.is_empty() {
            for token in pointer.strip_prefix('/')?.split('/') {
                let token = token.replace("~1", "/").replace("~0", "~");
                found = inside(found, &token)?;
            }
        }
        Some(found)
    }

    /// A member of the top level, null included.
    pub(super) fn member(&self, name: &str) -> Option<Value> {
        inside(self.text.trim_ascii(), name).map(value)
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

/// The text of a member of an object, or of an item of a list.
fn inside<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    let mut json = serde_json::Deserializer::from_str(text);
    // The text was checked: what fails here would have failed there.
    match text.as_bytes().first()? {
        b'{' => json.deserialize_map(Member(token)).ok()?,
        b'[' => json.deserialize_seq(Item(index(token)?)).ok()?,
        _ => None,
    }
}

/// Digits without a leading zero or a sign, as JSON pointers have them.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with(['0', '+']);
    token.parse().ok().filter(|_: &usize| plain)
}

fn value(text: &str) -> Value {
    let is_nested = text.starts_with(['{', '[']);
    if is_nested && text.len() > MAX_NESTED {
        return Value::Array(vec![Value::from("…")]);
    }
    // Checked before; were it wrong all the same, it would be there and say nothing.
    serde_json::from_str(text).unwrap_or_else(|_| Value::Array(Vec::new()))
}

/// Whether a key is this one.
struct Is<'t>(&'t str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }
}

/// Finds the last member with a name.
struct Member<'t>(&'t str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = access.next_key_seed(Is(self.0))? {
            if is_it {
                found = Some(access.next_value::<&RawValue>()?.get());
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Finds the item at a place of a list.
struct Item(usize);

impl<'de> Visitor<'de> for Item {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut at = 0;
        loop {
            if at == self.0 {
                let Some(item) = access.next_element::<&RawValue>()? else {
                    break;
                };
                found = Some(item.get());
            } else if access.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
            at += 1;
        }
        Ok(found)
    }
}

/// Checks an object and says whether a name is in it twice. Of each name a hash is kept, whose
/// seed nobody knows: two names with one hash would be reported, and nothing else.
#[derive(Default)]
struct Names {
    state: RandomState,
    seen: HashSet<u64>,
}

impl<'de> Visitor<'de> for Names {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<bool, A::Error> {
        let mut has_duplicates = false;
        while let Some(hash) = access.next_key_seed(HashOf(&self.state))? {
            has_duplicates |= !self.seen.insert(hash);
            access.next_value_seed(Checked)?;
        }
        Ok(has_duplicates)
    }
}

struct HashOf<'s>(&'s RandomState);

impl<'de> DeserializeSeed<'de> for HashOf<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for HashOf<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        Ok(self.0.hash_one(text))
    }
}

/// Any value, checked as closely as a tree of values would be when built (escapes, numbers,
/// depth), and forgotten.
struct Checked;

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while access.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while access.next_entry_seed(Self, Self)?.is_some() {}
        Ok(())
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
            assert!(
                Record::parse(bad, Format::Json).is_none(),
                "{}",
                bad.escape_ascii()
            );
        }
    }

    #[test]
    fn the_last_of_two_counts() {
        let record =
            Record::parse(br#" {"a":1,"b":null,"a":2} "#, Format::Json).expect("an object");
        assert!(record.has_duplicates);
        assert_eq!(record.at("/a"), Some(Value::from(2)));
        assert_eq!(record.at("/b"), None);
        assert_eq!(record.member("b"), Some(Value::Null));
    }

    /// What a tree of values says, text by text and pointer by pointer.
    #[test]
    fn look_ups_agree_with_a_tree_of_values() {
        let big = format!("{{\"a\":[{}]}}", vec!["0"; MAX_NESTED].join(","));
        let texts = [
            r#"{"a":{"b":[1,{"c":"x"},null]},"~":1,"/":2,"":3,"0":4}"#,
            r#"{"a":{"b":1},"a":[10,11]}"#,
            r#" {"\u0061" : {"b" : {"b":true,"b":-1.5e3}} } "#,
            r#"{"a":"\ud83d\ude00\n","b":18446744073709551615,"c":[]}"#,
        ];
        let pointers = [
            "", "/", "/a", "/a/b", "/a/b/0", "/a/b/1/c", "/a/b/2", "/a/b/3", "/a/b/01", "/a/b/+1",
            "/a/b/-", "/a/0", "/a/1", "/~0", "/~1", "/~01", "/0", "/b", "/c", "/c/0", "a",
            "/a/b/b",
        ];
        for text in texts {
            let record = Record::parse(text.as_bytes(), Format::Json).expect("an object");
            let tree: Value = serde_json::from_str(text).expect("JSON");
            for pointer in pointers {
                let expected = tree.pointer(pointer).filter(|value| !value.is_null());
                assert_eq!(record.at(pointer).as_ref(), expected, "{text} {pointer}");
            }
            for name in ["a", "b", "~", "/", "", "0", "none"] {
                assert_eq!(
                    record.member(name).as_ref(),
                    tree.get(name),
                    "{text} {name}"
                );
            }
        }
        let record = Record::parse(big.as_bytes(), Format::Json).expect("an object");
        assert_eq!(record.at("/a/4095"), Some(Value::from(0)));
        assert_eq!(record.at("/a"), Some(serde_json::json!(["…"])));
    }
}
