//! Where a kept session came from: written before it leaves, so that whatever is in the trash
//! can come back, and read with suspicion: a record is a file.
//!
//! A session that is several files is kept as a directory of its own with them in it.
//!
//! A record has the name of what it is about. One whose session is not there is of a removal that
//! never happened, or is over: it is discarded at the next start. A session whose record was
//! lost (a loss of power: a record is not synced) goes when its time is over, and cannot be
//! brought back before.

use crate::model::bytes::Bytes;
use crate::model::path::{RelPath, escape, is_name, unescape};
use crate::model::plan::Victim;
use crate::model::report::AsideName;
use crate::model::session::Key;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// What is known of a kept session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub key: Key,
    /// Where it was, below the root; of several files the directory that they lay in.
    pub path: RelPath,
    /// The names of several files, which are kept together; else none.
    pub files: Vec<Box<[u8]>>,
    pub bytes: Bytes,
    /// The name of the rule that took it, and its sentence.
    pub rule: String,
    pub because: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    /// What it is about: a record under another name is about nothing.
    name: String,
    key: String,
    path: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<String>,
    bytes: u64,
    rule: String,
    because: String,
}

impl Origin {
    /// Of what is one name, at `path`.
    pub fn of(victim: &Victim, path: &RelPath) -> Self {
        Self::of_files(victim, path, Vec::new())
    }

    /// Of several files in the directory at `path`.
    pub fn of_files(victim: &Victim, path: &RelPath, files: Vec<Box<[u8]>>) -> Self {
        Self {
            key: victim.key.clone(),
            path: path.clone(),
            files,
            bytes: victim.freed,
            rule: victim.because.rule().name().to_owned(),
            because: victim.because.to_string(),
        }
    }

    /// Where people look for it: of several files the session's key.
    pub fn shown(&self) -> String {
        match self.files.is_empty() {
            true => self.path.to_string(),
            false => escape(&self.key),
        }
    }

    /// The places of all that it is made of.
    pub fn paths(&self) -> Vec<RelPath> {
        let files = self.files.iter();
        let files = files.filter_map(|name| self.path.join(name).ok());
        match self.files.is_empty() {
            true => vec![self.path.clone()],
            false => files.collect(),
        }
    }

    /// The directory that it goes back to.
    pub fn home(&self) -> Option<RelPath> {
        match self.files.is_empty() {
            true => self.path.parent(),
            false => Some(self.path.clone()),
        }
    }

    /// The record's text.
    pub fn to_json(&self, name: &AsideName) -> Vec<u8> {
        let record = Record {
            version: VERSION,
            name: name.0.clone(),
            key: escape(&self.key),
            path: escape(self.path.as_bytes()),
            files: self.files.iter().map(|name| escape(name)).collect(),
            bytes: self.bytes.0,
            rule: self.rule.clone(),
            because: self.because.clone(),
        };
        // Text and numbers: there is nothing JSON could not hold.
        serde_json::to_vec(&record).unwrap_or_default()
    }

    /// Reads the record of this name. `None`: it is not whole, of another version, about
    /// something else, or names a place that no session can be in.
    pub fn from_json(name: &str, text: &[u8]) -> Option<Self> {
        let record: Record = serde_json::from_slice(text).ok()?;
        let path = RelPath::new(&unescape(&record.path)).ok()?;
        let names = record.files.iter().map(|name| unescape(name).into());
        let files: Vec<Box<[u8]>> = names.collect();
        let is_place = !path.is_root() || !files.is_empty();
        let is_about = record.version == VERSION && record.name == name && is_place;
        (is_about && files.iter().all(|name| is_name(name))).then(|| Self {
            key: unescape(&record.key).into(),
            path,
            files,
            bytes: Bytes(record.bytes),
            rule: record.rule,
            because: record.because,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::seen::FileId;

    #[test]
    fn a_record_comes_back_and_a_half_or_strange_one_does_not() {
        let name = AsideName::new("01ARZ3NDEKTSV4RRFFQ69G5FAV", FileId { dev: 1, ino: 2 });
        let origin = Origin {
            key: Key::from(&b"a/k\xFE"[..]),
            path: RelPath::new(b"a/k\xFE").expect("a path"),
            files: Vec::new(),
            bytes: Bytes(7),
            rule: "max_age".to_owned(),
            because: "old".to_owned(),
        };
        let text = origin.to_json(&name);
        assert_eq!(Origin::from_json(&name.0, &text), Some(origin));
        assert_eq!(Origin::from_json("another", &text), None);
        for end in 0..text.len() {
            assert_eq!(Origin::from_json(&name.0, &text[..end]), None);
        }
        let text = String::from_utf8(text).expect("text");
        for path in ["../k", "/etc/k", "", "a/../../k", "a//k"] {
            let moved = text.replace("\"path\":\"a/k\\\\xFE\"", &format!("\"path\":\"{path}\""));
            assert_ne!(moved, text);
            assert_eq!(Origin::from_json(&name.0, moved.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn of_several_files_only_names_are_taken() {
        let name = AsideName::new("01ARZ3NDEKTSV4RRFFQ69G5FAV", FileId { dev: 1, ino: 2 });
        let with = |files: &[&[u8]]| Origin {
            key: Key::from(&b"k"[..]),
            path: RelPath::root(),
            files: files.iter().map(|name| (*name).into()).collect(),
            bytes: Bytes(7),
            rule: "max_age".to_owned(),
            because: "old".to_owned(),
        };
        let read = |origin: &Origin| Origin::from_json(&name.0, &origin.to_json(&name));
        let whole = with(&[b"k.json", b"k\xFF.wav"]);
        assert_eq!(read(&whole), Some(whole));
        for odd in [&b".."[..], b"../k", b"a/b", b"", b"."] {
            assert_eq!(read(&with(&[b"k.json", odd])), None, "{odd:?}");
        }
        // Nothing at all, at no place.
        assert_eq!(read(&with(&[])), None);
    }
}
