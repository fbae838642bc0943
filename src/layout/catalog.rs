//! The file that lists all sessions: one JSON object, id → entry.
//!
//! Each entry is parsed on its own, so one that is wrong says nothing of the others. An entry
//! whose id or blob cannot be a plain name in the root claims nothing and has no creation time,
//! so that it is never removed; nor has one whose blob another entry claims too.

use super::created::Evidence;
use super::facts::{distrust, of_evidence};
use super::record::{Record, scalar_text};
use super::roles::has_blob_form;
use super::spec::Format;
use super::template::{NoName, is_file_name};
use super::{CatalogFault, CatalogSeen, Layout};
use crate::model::anomaly::AnomalyKind;
use crate::model::session::{CatalogEntry, Facts, Key, Verdict};
use crate::model::time::Time;
use hashbrown::HashTable;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Reads the members one by one, as they stand, with their order and repetitions.
struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        while let Some(id) = access.next_key::<Id<'de>>()? {
            (self.0)(&id.0, access.next_value()?);
        }
        Ok(())
    }
}

/// A key, borrowed from the text where it has no escapes.
#[derive(Deserialize)]
struct Id<'a>(#[serde(borrow)] Cow<'a, str>);

/// Calls `each` for every member; after a fault what it was called for is void.
pub(super) fn members<'a>(
    text: &'a [u8],
    each: impl FnMut(&str, &'a RawValue),
) -> Result<(), CatalogFault> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = json.deserialize_map(Members(each));
    let Err(error) = read.and_then(|()| json.end()) else {
        return Ok(());
    };
    let is_json = serde_json::from_slice::<IgnoredAny>(text).is_ok();
    if is_json && text.trim_ascii_start().first() != Some(&b'{') {
        Err(CatalogFault::NotAnObject)
    } else {
        Err(CatalogFault::Syntax(error.to_string()))
    }
}

/// Reads a catalogue, entry by entry: beside its text what is kept of each entry is all it takes.
pub(super) fn read(layout: &Layout, text: &[u8], now: Time) -> Result<CatalogSeen, CatalogFault> {
    let mut listed = Listed::default();
    members(text, |id, value| {
        let entry = entry(layout, id.as_bytes(), value, now);
        listed.put(entry);
    })?;
    let Listed {
        mut entries,
        duplicates,
        ..
    } = listed;
    disclaim_shared(&mut entries);
    Ok(CatalogSeen {
        entries,
        duplicates: duplicates.iter().map(|id| Box::from(&**id)).collect(),
    })
}

/// The entries so far. Of two with one id the last counts, in the place of the first.
#[derive(Default)]
struct Listed {
    entries: Vec<CatalogEntry>,
    /// Where in `entries` an id is. Found by the hash of the id, which is not kept here again.
    places: HashTable<u32>,
    hashing: RandomState,
    duplicates: BTreeSet<Key>,
    words: Words,
}

impl Listed {
    fn put(&mut self, mut entry: CatalogEntry) {
        self.words.share(&mut entry.facts.state);
        self.words.share(&mut entry.facts.group);
        let (entries, hashing) = (&mut self.entries, &self.hashing);
        let hash = hashing.hash_one(&entry.id);
        let found = (self.places).find(hash, |place| entries[*place as usize].id == entry.id);
        if let Some(place) = found {
            self.duplicates.insert(entry.id.clone());
            entries[*place as usize] = entry;
            return;
        }
        // A text of 256 MiB has not that many members.
        let place = u32::try_from(entries.len()).expect("fewer than 2^32 entries");
        entries.push(entry);
        let rehash = |place: &u32| hashing.hash_one(&entries[*place as usize].id);
        self.places.insert_unique(hash, place, rehash);
    }
}

/// Words that many entries have in common are kept once. Further ones than these are kept with
/// each entry.
#[derive(Default)]
struct Words(HashSet<Arc<str>>);

impl Words {
    const MAX: usize = 1024;

    fn share(&mut self, word: &mut Option<Arc<str>>) {
        let Some(word) = word else { return };
        match self.0.get(&**word) {
            Some(known) => *word = known.clone(),
            None if self.0.len() < Self::MAX => {
                self.0.insert(word.clone());
            }
            None => {}
        }
    }
}

fn entry(layout: &Layout, id: &[u8], value: &RawValue, now: Time) -> CatalogEntry {
    let mut entry = CatalogEntry {
        id: Key::from(id),
        blobs: Vec::new(),
        facts: Facts {
            verdict: Verdict::Certain,
            ..Facts::unknown()
        },
    };
    let captures = layout
        .pattern
        .as_ref()
        .and_then(|pattern| pattern.captures(id));
    match Record::parse(value.get().as_bytes(), Format::Json) {
        // The catalogue itself is whole, so this is no half write: it is certainly wrong.
        None => distrust(&mut entry.facts, AnomalyKind::MetadataCorrupt),
        Some(record) => {
            let evidence = Evidence {
                record: Some(&record),
                captures: captures.as_ref(),
                inode: None,
                documents: &[],
            };
            entry.facts = of_evidence(layout, &evidence, now);
            match blobs(layout, id, &record) {
                Ok(blobs) => entry.blobs = blobs,
                // Without blobs the entry dangles, and the caller says so.
                Err(NoName::Missing) => {}
                Err(NoName::NotPlain) => distrust(&mut entry.facts, AnomalyKind::BadId),
            }
        }
    }
    if !is_good_id(layout, id) {
        entry.blobs.clear();
        distrust(&mut entry.facts, AnomalyKind::BadId);
    }
    entry
}

/// One plain name, and one that the pattern takes: the layout owns no other.
fn is_good_id(layout: &Layout, id: &[u8]) -> bool {
    is_file_name(id)
        && layout
            .pattern
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(id))
}

/// The names of an entry's blobs, all or none.
fn blobs(layout: &Layout, id: &[u8], record: &Record<'_>) -> Result<Vec<Box<[u8]>>, NoName> {
    let value = |word: &str| match word {
        "id" => Some(id.to_vec()),
        "format" => scalar_text(&record.member(word)?).map(|text| text.to_lowercase().into()),
        _ => scalar_text(&record.member(word)?).map(String::into_bytes),
    };
    let mut names: Vec<Box<[u8]>> = Vec::with_capacity(layout.blobs.len());
    for blob in &layout.blobs {
        let name = blob.name(value)?;
        if !has_blob_form(layout, &name) {
            return Err(NoName::NotPlain);
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A file that two entries claim is nobody's: removing one session would take it from the other.
fn disclaim_shared(entries: &mut [CatalogEntry]) {
    let mut claimed = HashSet::new();
    let mut shared = HashSet::new();
    for blob in entries.iter().flat_map(|entry| &entry.blobs) {
        if !claimed.insert(blob) {
            shared.insert(blob.clone());
        }
    }
    if shared.is_empty() {
        return;
    }
    for entry in entries {
        if entry.blobs.iter().any(|blob| shared.contains(blob)) {
            entry.blobs.clear();
            distrust(&mut entry.facts, AnomalyKind::BadId);
        }
    }
}

/// The catalogue without the entries of `ids`, every repetition of them; `None` when it has none.
///
/// All that stays is kept byte for byte, keys included: spaces, indent, separators, order, and
/// whether the text ends in a newline. Beside the new text nothing is kept.
pub fn without(text: &[u8], ids: &[Key]) -> Result<Option<Vec<u8>>, CatalogFault> {
    let ids: HashSet<&[u8]> = ids.iter().map(|id| &**id).collect();
    let mut any_out = false;
    members(text, |id, _| any_out |= ids.contains(id.as_bytes()))?;
    if !any_out {
        return Ok(None);
    }
    let lost = || CatalogFault::Syntax("a member was not found again in the text".to_owned());
    let mut kept = Kept::begin(text).ok_or_else(lost)?;
    let mut is_found = true;
    members(text, |id, value| {
        is_found &= kept.pass(value, ids.contains(id.as_bytes())).is_some();
    })?;
    let whole = kept.end().filter(|_| is_found);
    whole.map(Some).ok_or_else(lost)
}

/// What stays of a text, member by member.
struct Kept<'a> {
    text: &'a [u8],
    kept: Vec<u8>,
    /// The space before the first member, which the first that stays takes over.
    first_space: Option<&'a [u8]>,
    is_first: bool,
    /// Up to here the text was passed.
    at: usize,
}

impl<'a> Kept<'a> {
    fn begin(text: &'a [u8]) -> Option<Self> {
        let open = text.iter().position(|b| *b == b'{')? + 1;
        let mut kept = Vec::with_capacity(text.len());
        kept.extend_from_slice(&text[..open]);
        Some(Self {
            text,
            kept,
            first_space: None,
            is_first: true,
            at: open,
        })
    }

    /// The next member, which ends with `value`, goes or stays.
    fn pass(&mut self, value: &RawValue, is_out: bool) -> Option<()> {
        let end = end_of(self.text, value)?;
        let member = after_comma(self.text.get(self.at..end)?);
        let (space, member) = member.split_at(member.len() - member.trim_ascii_start().len());
        let first_space = *self.first_space.get_or_insert(space);
        self.at = end;
        if is_out {
            return Some(());
        }
        let (comma, space) = if self.is_first {
            (&b""[..], first_space)
        } else {
            (&b","[..], space)
        };
        for part in [comma, space, member] {
            self.kept.extend_from_slice(part);
        }
        self.is_first = false;
        Some(())
    }

    fn end(mut self) -> Option<Vec<u8>> {
        let close = self.text.iter().rposition(|b| *b == b'}')?;
        let tail = if self.is_first { close } else { self.at };
        self.kept.extend_from_slice(self.text.get(tail..)?);
        Some(self.kept)
    }
}

/// Where a value that was borrowed from `text` ends in it.
fn end_of(text: &[u8], value: &RawValue) -> Option<usize> {
    let value = value.get();
    let start = (value.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start.checked_add(value.len())?;
    (text.get(start..end)? == value.as_bytes()).then_some(end)
}

/// What lies between two values begins with the comma, if there is one, and goes on with a key.
fn after_comma(gap: &[u8]) -> &[u8] {
    gap.trim_ascii_start().strip_prefix(b",").unwrap_or(gap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::spec::{Kind, LayoutSpec, Source, TimeFormat};
    use crate::model::anomaly::Anomalies;
    use crate::model::zone::Zone;
    use proptest::prelude::*;

    fn now() -> Time {
        "2026-03-01T00:00:00Z".parse().expect("a time")
    }

    fn gofr(change: impl FnOnce(&mut LayoutSpec)) -> Layout {
        let mut spec = LayoutSpec {
            kind: Kind::Catalog,
            blobs: vec!["{id}.{format}".to_owned()],
            ..LayoutSpec::default()
        };
        change(&mut spec);
        Layout::new(spec).expect("a good spec")
    }

    fn key(text: &str) -> Key {
        Key::from(text.as_bytes())
    }

    /// Of each entry its blobs, time, size and anomalies, in one readable line.
    fn said(entry: &CatalogEntry) -> String {
        let blobs: Vec<_> = entry
            .blobs
            .iter()
            .map(|blob| String::from_utf8_lossy(blob))
            .collect();
        format!(
            "{blobs:?} {} {:?} {:?}",
            entry
                .facts
                .created
                .map_or("-".to_owned(), |t| t.to_rfc3339()),
            entry.facts.declared,
            entry.facts.anomalies
        )
    }

    const TIME: &str = r#""created_at":"2026-02-10T12:00:00.000001""#;
    const READ: &str = "2026-02-10T12:00:00.000001+00:00";

    #[test]
    fn entries_that_are_odd() {
        let layout = gofr(|_| {});
        let long = format!("\"{}\":{{\"format\":\"json\",TIME}}", "x".repeat(251));
        for (entry, expected) in [
            (
                r#""a":{"format":"JSON","size":7,TIME,"group":"g","guid":"b","aliases":["c"]}"#,
                r#"["a.json"] READ Bytes(7) {}"#,
            ),
            (r#""a":null"#, "[] - Nothing {MetadataCorrupt}"),
            (r#""a":"text""#, "[] - Nothing {MetadataCorrupt}"),
            (r#""a":["\ud800"]"#, "[] - Nothing {MetadataCorrupt}"),
            (
                r#""a":{"format":"json","x":"\ud800",TIME}"#,
                "[] - Nothing {MetadataCorrupt}",
            ),
            (
                r#""a":{"format":"json"}"#,
                r#"["a.json"] - Nothing {CreatedAtMissing}"#,
            ),
            (
                r#""a":{"format":"json","created_at":null}"#,
                r#"["a.json"] - Nothing {CreatedAtMissing}"#,
            ),
            (
                r#""a":{"format":"json","created_at":7}"#,
                r#"["a.json"] - Nothing {CreatedAtInvalid}"#,
            ),
            (
                r#""a":{"format":"json","created_at":"2126-02-10T12:00:00"}"#,
                r#"["a.json"] 2126-02-10T12:00:00+00:00 Nothing {CreatedAtFuture}"#,
            ),
            (
                r#""a":{"format":"json","size":"7",TIME}"#,
                r#"["a.json"] READ Nonsense {}"#,
            ),
            (
                r#""a":{"format":"json","size":-7,TIME}"#,
                r#"["a.json"] READ Nonsense {}"#,
            ),
            (
                r#""a":{"format":"json","size":null,TIME}"#,
                r#"["a.json"] READ Nonsense {}"#,
            ),
            (
                r#""a":{"format":"json",TIME,"x":1,"x":2}"#,
                r#"["a.json"] READ Nothing {DuplicateId}"#,
            ),
            (r#""a":{TIME}"#, "[] READ Nothing {}"),
            (r#""a":{"format":null,TIME}"#, "[] READ Nothing {}"),
            (r#""a":{"format":[],TIME}"#, "[] READ Nothing {}"),
            (r#""a":{"format":"",TIME}"#, "[] - Nothing {BadId}"),
            (
                r#""a":{"format":"/../../evil2",TIME}"#,
                "[] - Nothing {BadId}",
            ),
            (r#""a":{"format":"x\u0000",TIME}"#, "[] - Nothing {BadId}"),
            (
                r#""../evil":{"format":"json",TIME}"#,
                "[] - Nothing {BadId}",
            ),
            (r#""..":{"format":"json",TIME}"#, "[] - Nothing {BadId}"),
            (r#""":{"format":"json",TIME}"#, "[] - Nothing {BadId}"),
            (r#"".a":{"format":"json",TIME}"#, "[] - Nothing {BadId}"),
            (r#"".hk-1":{"format":"json",TIME}"#, "[] - Nothing {BadId}"),
            (
                r#""metadata":{"format":"json",TIME}"#,
                "[] - Nothing {BadId}",
            ),
            (r#""/":null"#, "[] - Nothing {MetadataCorrupt, BadId}"),
            (&long, "[] - Nothing {BadId}"),
        ] {
            let text = format!("{{{entry}}}").replace("TIME", TIME);
            let seen = layout.catalog(text.as_bytes(), now()).expect("an object");
            assert_eq!(seen.entries.len(), 1, "{text}");
            assert_eq!(
                said(&seen.entries[0]),
                expected.replace("READ", READ),
                "{text}"
            );
            assert_eq!(seen.entries[0].facts.verdict, Verdict::Certain);
        }
    }

    #[test]
    fn what_is_no_catalogue_says_nothing() {
        let layout = gofr(|_| {});
        for bad in ["", " ", "{", "{}x", "[1", "\u{FEFF}{}", "{\"a\":{}"] {
            let fault = layout.catalog(bad.as_bytes(), now());
            assert!(matches!(fault, Err(CatalogFault::Syntax(_))), "{bad}");
        }
        for bad in ["[]", "null", " 5 ", "\"{}\""] {
            let fault = layout.catalog(bad.as_bytes(), now());
            assert_eq!(fault, Err(CatalogFault::NotAnObject), "{bad}");
            assert_eq!(without(bad.as_bytes(), &[]), Err(CatalogFault::NotAnObject));
        }
        assert_eq!(layout.catalog(b" {} ", now()), Ok(CatalogSeen::default()));
    }

    #[test]
    fn the_last_of_two_counts_and_both_are_told() {
        let text = r#"{"a":{"format":"x"},"b":{"format":"x"},"\u0061":{"format":"y"}}"#;
        let seen = gofr(|_| {}).catalog(text.as_bytes(), now()).expect("good");
        let ids: Vec<_> = seen.entries.iter().map(|entry| entry.id.clone()).collect();
        assert_eq!(ids, [key("a"), key("b")]);
        assert_eq!(seen.entries[0].blobs, [Box::from(&b"a.y"[..])]);
        assert_eq!(seen.duplicates, [Box::from(&b"a"[..])]);
    }

    #[test]
    fn a_file_two_entries_claim_is_neithers() {
        let text = format!(
            r#"{{"a":{{"format":"b.c",{TIME}}},"a.b":{{"format":"c",{TIME}}},"z":{{"format":"c",{TIME}}}}}"#
        );
        let seen = gofr(|_| {}).catalog(text.as_bytes(), now()).expect("good");
        for entry in &seen.entries[..2] {
            assert_eq!(said(entry), "[] - Nothing {BadId}");
        }
        assert_eq!(seen.entries[2].facts.anomalies, Anomalies::NONE);
    }

    #[test]
    fn the_pattern_owns_ids_and_reads_them() {
        let layout = gofr(|spec| {
            spec.pattern = Some(r"^s(?<created>\d+)$".to_owned());
            spec.created_at = vec![Source::Name {
                group: "created".to_owned(),
                format: TimeFormat::EpochS,
                zone: Zone::Utc,
                radix: 10,
            }];
        });
        let text = br#"{"s60":{"format":"x"},"notes":{"format":"x"}}"#;
        let seen = layout.catalog(text, now()).expect("an object");
        assert_eq!(
            said(&seen.entries[0]),
            r#"["s60.x"] 1970-01-01T00:01:00+00:00 Nothing {}"#
        );
        assert_eq!(said(&seen.entries[1]), "[] - Nothing {BadId}");
    }

    #[test]
    fn style_is_kept() {
        let compact = r#"{"a": {"x": 1}, "b": 2, "\u00fc": [ ]}"#;
        let pretty = "{\n  \"a\": {\n    \"x\": 1\n  },\n  \"b\": 2\n}\n";
        for (text, ids, expected) in [
            (compact, &["a"][..], Some(r#"{"b": 2, "\u00fc": [ ]}"#)),
            (compact, &["b"], Some(r#"{"a": {"x": 1}, "\u00fc": [ ]}"#)),
            (compact, &["ü"], Some(r#"{"a": {"x": 1}, "b": 2}"#)),
            (compact, &["a", "b"], Some(r#"{"\u00fc": [ ]}"#)),
            (compact, &["a", "b", "ü"], Some("{}")),
            (compact, &["A", "x", ""], None),
            (compact, &[], None),
            (pretty, &["a"], Some("{\n  \"b\": 2\n}\n")),
            (
                pretty,
                &["b"],
                Some("{\n  \"a\": {\n    \"x\": 1\n  }\n}\n"),
            ),
            (pretty, &["a", "b"], Some("{}\n")),
            (r#"{"a":1,"b":2,"a":3}"#, &["a"], Some(r#"{"b":2}"#)),
            (
                r#" { "}{," : "{,}" , "b" : 2 } "#,
                &["b"],
                Some(r#" { "}{," : "{,}" } "#),
            ),
            (
                r#" { "}{," : "{,}" , "b" : 2 } "#,
                &["}{,"],
                Some(r#" { "b" : 2 } "#),
            ),
            ("{}", &["a"], None),
        ] {
            let ids: Vec<Key> = ids.iter().map(|id| key(id)).collect();
            let left = without(text.as_bytes(), &ids).expect("an object");
            let left = left.map(|bytes| String::from_utf8(bytes).expect("text"));
            assert_eq!(left.as_deref(), expected, "{text} {ids:?}");
        }
    }

    #[derive(Debug, Clone)]
    struct Member {
        id: String,
        value: &'static str,
        spaces: [&'static str; 4],
    }

    fn member() -> impl Strategy<Value = Member> {
        let space = || prop::sample::select(vec!["", " ", "\n  ", "\t\r\n"]);
        let value = prop::sample::select(vec![
            "null",
            "-1.50e3",
            r#""}\",{\u00fc""#,
            "[ 1,{} ]",
            r#"{"a": {"b":"{"}}"#,
        ]);
        let id = prop_oneof!["[ab]{1,2}", "[\"\\\\{},:é\n]{0,3}"];
        (id, value, space(), space(), space(), space()).prop_map(|(id, value, a, b, c, d)| Member {
            id,
            value,
            spaces: [a, b, c, d],
        })
    }

    fn written(members: &[Member], end: &str) -> String {
        let members: Vec<String> = members
            .iter()
            .map(|member| {
                let id = serde_json::to_string(&member.id).expect("text");
                let [a, b, c, d] = member.spaces;
                format!("{a}{id}{b}:{c}{}{d}", member.value)
            })
            .collect();
        format!("{{{}{end}", members.join(","))
    }

    proptest! {
        #[test]
        fn the_others_stay_as_they_are(
            all in prop::collection::vec(member(), 0..8),
            out in prop::collection::vec(prop_oneof!["[ab]{1,2}", "[\"{},:é]{0,2}"], 0..4),
            end in prop::sample::select(vec!["}", "\n}", "}\n", " } "]),
        ) {
            let text = written(&all, end);
            let ids: Vec<Key> = out.iter().map(|id| key(id)).collect();
            let stay: Vec<_> = all.iter().filter(|m| !out.contains(&m.id)).collect();
            match without(text.as_bytes(), &ids).expect("an object") {
                None => prop_assert_eq!(stay.len(), all.len()),
                Some(left) => {
                    prop_assert!(stay.len() < all.len());
                    let mut left_members = Vec::new();
                    members(&left, |id, value| left_members.push((id.to_owned(), value)))
                        .expect("an object");
                    prop_assert_eq!(left_members.len(), stay.len());
                    for ((id, value), member) in left_members.iter().zip(stay) {
                        prop_assert_eq!(id, &member.id);
                        prop_assert_eq!(value.get(), member.value);
                    }
                }
            }
        }

        #[test]
        fn nothing_panics(text in "[\\[\\]{}:,\"ab0 \\\\]{0,40}", bytes: Vec<u8>) {
            let layout = gofr(|_| {});
            for text in [text.as_bytes(), &bytes] {
                let _seen = layout.catalog(text, now());
                let _left = without(text, &[key("a"), key("")]);
            }
        }
    }
}
