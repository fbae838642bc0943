//! What was decided and takes more than one rename: written down first, so that the next start
//! finishes it and no half session stays that looks whole.
//!
//! A record lies in `.housekeeper/intents/`, or in the state directory where the root has no
//! space. It names inodes: a name that another inode has by then is left alone. A record that
//! does not parse was not whole when the process died, so nothing had been removed under it.
//! What a record says is judged anew before it is carried out: [`crate::prune::warrant`].

use crate::model::disk::Records;
use crate::model::path::{RelPath, escape, is_name, unescape};
use crate::model::report::AsideName;
use crate::model::seen::{FileId, Inode};
use crate::model::session::Key;
use crate::model::time::UnixNanos;
use serde::{Deserialize, Serialize};
use std::io;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub key: Key,
    /// The session's directory; for blobs the directory they lie in.
    pub path: RelPath,
    pub work: Work,
    /// Files go there instead of the trash, to be kept together.
    pub keep: Option<AsideName>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// These files go, then the entry in the catalogue.
    Blobs(Vec<(Box<[u8]>, Inode)>),
    /// The directory goes where it lies, these names in it last.
    InPlace { inode: Inode, last: Vec<Box<[u8]>> },
}

impl Intent {
    /// The record's text.
    pub fn to_json(&self) -> Vec<u8> {
        let (blobs, directory, last) = match &self.work {
            Work::Blobs(blobs) => (Some(blobs), None, &[][..]),
            Work::InPlace { inode, last } => (None, Some(inode), &last[..]),
        };
        let record = Record {
            version: VERSION,
            key: escape(&self.key),
            path: escape(self.path.as_bytes()),
            blobs: blobs.map(|blobs| {
                blobs
                    .iter()
                    .map(|(name, inode)| (escape(name), Numbers::of(inode)))
                    .collect()
            }),
            directory: directory.map(Numbers::of),
            last: last.iter().map(|name| escape(name)).collect(),
            keep: self.keep.as_ref().map(|name| name.0.clone()),
        };
        // Text, numbers and lists: there is nothing JSON could not hold.
        serde_json::to_vec(&record).unwrap_or_default()
    }

    /// Reads a record. `None`: not whole, or of another version.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let record: Record = serde_json::from_slice(text).ok()?;
        let work = match (record.blobs, record.directory) {
            (Some(blobs), None) => Work::Blobs(
                blobs
                    .into_iter()
                    .map(|(name, numbers)| (unescape(&name).into(), numbers.inode()))
                    .collect(),
            ),
            (None, Some(numbers)) => Work::InPlace {
                inode: numbers.inode(),
                last: record
                    .last
                    .iter()
                    .map(|name| unescape(name).into())
                    .collect(),
            },
            (None, None) | (Some(_), Some(_)) => return None,
        };
        let names_only = match &work {
            Work::Blobs(blobs) => blobs.iter().all(|(name, _)| is_name(name)),
            Work::InPlace { last, .. } => last.iter().all(|name| is_name(name)),
        };
        let keep = record.keep.map(AsideName);
        if !names_only || keep.as_ref().is_some_and(|name| name.id().is_none()) {
            return None;
        }
        (record.version == VERSION).then_some(Self {
            key: unescape(&record.key).into(),
            path: RelPath::new(&unescape(&record.path)).ok()?,
            work,
            keep,
        })
    }
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    key: String,
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blobs: Option<Vec<(String, Numbers)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<Numbers>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    last: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Numbers {
    dev: u64,
    ino: u64,
    birth_ns: Option<i64>,
}

impl Numbers {
    fn of(inode: &Inode) -> Self {
        Self {
            dev: inode.id.dev,
            ino: inode.id.ino,
            birth_ns: inode.birth.map(|birth| birth.0),
        }
    }

    fn inode(&self) -> Inode {
        Inode {
            id: FileId {
                dev: self.dev,
                ino: self.ino,
            },
            birth: self.birth_ns.map(UnixNanos),
        }
    }
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// Oldest first, each with its record's name.
    pub intents: Vec<(String, Intent)>,
    /// Records that are not whole, or name what no record may name: discarded.
    pub broken: Vec<String>,
}

/// The decisions an earlier run left. Records that are none are discarded.
///
/// # Errors
/// The records can't be listed, or one that is not whole can't be discarded.
pub fn unfinished(records: &impl Records) -> io::Result<Unfinished> {
    let mut unfinished = Unfinished::default();
    for (name, text) in records.all()? {
        match Intent::from_json(&text) {
            Some(intent) => unfinished.intents.push((name, intent)),
            None => {
                records.discard(&name)?;
                unfinished.broken.push(name);
            }
        }
    }
    Ok(unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_half_one_does_not() {
        let inode = Inode {
            id: FileId { dev: 3, ino: 9 },
            birth: Some(UnixNanos(-5)),
        };
        let bundle = AsideName::new("01ARZ3NDEKTSV4RRFFQ69G5FAV", inode.id);
        let blobs = || Work::Blobs(vec![(Box::from(&b"a\xFF\n"[..]), inode)]);
        let tree = Work::InPlace {
            inode,
            last: vec![Box::from(&b"m.json"[..])],
        };
        for (work, keep) in [(blobs(), None), (blobs(), Some(bundle)), (tree, None)] {
            let intent = Intent {
                key: Key::from(&b"k\xFE"[..]),
                path: RelPath::new(b"a/b").expect("a path"),
                work,
                keep,
            };
            let text = intent.to_json();
            assert_eq!(Intent::from_json(&text), Some(intent));
            for end in 0..text.len() {
                assert_eq!(Intent::from_json(&text[..end]), None);
            }
        }
    }

    #[test]
    fn a_record_cannot_point_outside() {
        for text in [
            &br#"{"version":1,"key":"k","path":"../x","directory":{"dev":1,"ino":2}}"#[..],
            br#"{"version":1,"key":"k","path":"x","directory":{"dev":1,"ino":2},"last":["../m"]}"#,
            br#"{"version":1,"key":"k","path":"","blobs":[["a/b",{"dev":1,"ino":2}]]}"#,
            br#"{"version":1,"key":"k","path":"","blobs":[["a",{"dev":1,"ino":2}]],"keep":".."}"#,
        ] {
            assert_eq!(Intent::from_json(text), None);
        }
    }
}
