//! The facts of one session, from what was read of it.
//!
//! Promise 2 is kept here: a session whose metadata is missing although required, cannot be
//! read, or is corrupt, has no creation time even where another source could answer, so no
//! order that needs one takes it.

use super::Layout;
use super::created::{Answer, Evidence, content, created};
use super::life;
use super::pattern::group_of;
use super::record::{Record, scalar_text};
use super::spec::{Format, Kind, Source, StateSpec};
use crate::model::anomaly::AnomalyKind;
use crate::model::path::escape;
use crate::model::seen::Stat;
use crate::model::session::{Content, Declared, Document, Facts, Phase, Verdict};
use crate::model::time::Time;
use serde_json::Value;
use std::sync::Arc;

/// Words for states and groups are kept for every session, so longer ones are cut here.
const MAX_WORD: usize = 255;

/// What became of reading the metadata.
enum Metadata<'a> {
    /// None is expected, or it is absent and need not be there.
    Without,
    Read(Record<'a>),
    Bad(AnomalyKind),
}

/// The facts of a session that is no catalogue's.
pub(super) fn of_session(
    layout: &Layout,
    key: &[u8],
    inode: Option<&Stat>,
    documents: &[Document],
    now: Time,
) -> Facts {
    let spec = &layout.spec;
    let marker = spec
        .marker
        .as_ref()
        .map(|marker| content(documents, marker.as_bytes()));
    if let Some(Content::Absent | Content::NotAFile) = marker {
        let verdict = Verdict::Disowned;
        return Facts {
            verdict,
            ..Facts::unknown()
        };
    }
    let metadata = metadata(layout, key, documents);
    if matches!(metadata, Metadata::Bad(AnomalyKind::MetadataMissing)) && spec.kind == Kind::Sidecar
    {
        return Facts {
            verdict: Verdict::Orphaned,
            ..Facts::unknown()
        };
    }
    let captures = layout
        .pattern
        .as_ref()
        .and_then(|pattern| pattern.captures(super::last_name(key)));
    let evidence = Evidence {
        record: match &metadata {
            Metadata::Read(record) => Some(record),
            Metadata::Without | Metadata::Bad(_) => None,
        },
        captures: captures.as_ref(),
        inode,
        documents,
    };
    let mut facts = of_evidence(layout, &evidence, now);
    match metadata {
        Metadata::Without | Metadata::Read(_) => {}
        Metadata::Bad(kind) => {
            distrust(&mut facts, kind);
            if kind == AnomalyKind::MetadataCorrupt {
                facts.verdict = Verdict::Doubtful;
            }
        }
    }
    if let Some(Content::Unreadable(_)) = marker {
        distrust(&mut facts, AnomalyKind::MetadataUnreadable);
    }
    if std::str::from_utf8(key).is_err() {
        // For people only: no rule minds.
        facts.anomalies.insert(AnomalyKind::NotUtf8);
    }
    if facts.anomalies.contains(AnomalyKind::CreatedAtInvalid) && reads_text(spec, documents) {
        facts.verdict = Verdict::Doubtful;
    }
    facts
}

/// Whether a file that is a source was read, so that it may have been half written.
fn reads_text(spec: &super::spec::LayoutSpec, documents: &[Document]) -> bool {
    spec.created_at.iter().any(|source| match source {
        Source::File { file, .. } => {
            matches!(content(documents, file.as_bytes()), Content::Text(_))
        }
        Source::Key { .. } | Source::Name { .. } | Source::Birth | Source::Mtime => false,
    })
}

/// Takes the creation time away, whatever said it, and leaves `kind` as the reason.
pub(super) fn distrust(facts: &mut Facts, kind: AnomalyKind) {
    facts.created = None;
    for about_time in [
        AnomalyKind::CreatedAtMissing,
        AnomalyKind::CreatedAtInvalid,
        AnomalyKind::CreatedAtFuture,
    ] {
        facts.anomalies.remove(about_time);
    }
    facts.anomalies.insert(kind);
}

fn metadata<'a>(layout: &Layout, key: &[u8], documents: &'a [Document]) -> Metadata<'a> {
    let Some(name) = layout.metadata_of(key) else {
        return Metadata::Without;
    };
    match content(documents, &name) {
        Content::Absent if layout.spec.required => Metadata::Bad(AnomalyKind::MetadataMissing),
        Content::Absent => Metadata::Without,
        Content::NotAFile | Content::TooBig | Content::Unreadable(_) => {
            Metadata::Bad(AnomalyKind::MetadataUnreadable)
        }
        Content::Text(text) => match Record::parse(text, layout.spec.format) {
            Some(record) => Metadata::Read(record),
            None => Metadata::Bad(AnomalyKind::MetadataCorrupt),
        },
    }
}

/// What the evidence says, before the state of the metadata itself is judged.
pub(super) fn of_evidence(layout: &Layout, evidence: &Evidence<'_>, now: Time) -> Facts {
    let mut facts = Facts {
        verdict: Verdict::Certain,
        ..Facts::unknown()
    };
    match created(&layout.spec.created_at, evidence) {
        Answer::At(time) => {
            facts.created = Some(time);
            if time > now {
                facts.anomalies.insert(AnomalyKind::CreatedAtFuture);
            }
        }
        Answer::Unreadable => facts.anomalies.insert(AnomalyKind::CreatedAtInvalid),
        Answer::Nothing => facts.anomalies.insert(AnomalyKind::CreatedAtMissing),
    }
    if let (Some(state), Some(record)) = (&layout.spec.state, evidence.record) {
        (facts.phase, facts.state) = phase(state, record);
        facts.moments = life::moments(layout, state, record);
    }
    if facts.phase == Phase::Unknown {
        facts.anomalies.insert(AnomalyKind::StateUnknown);
    }
    facts.group = group(layout, evidence);
    facts.declared = evidence
        .record
        .map_or(Declared::Nothing, |record| declared(layout, record));
    if evidence.record.is_some_and(|record| record.has_duplicates) {
        facts.anomalies.insert(AnomalyKind::DuplicateId);
    }
    facts
}

/// A catalogue's entries say their size as `size` unless told otherwise.
fn declared(layout: &Layout, record: &Record<'_>) -> Declared {
    let value = match (&layout.spec.size, layout.spec.kind) {
        (Some(size), _) => record.find(&size.key),
        (None, Kind::Catalog) => record.find("/size"),
        (None, Kind::Directories | Kind::Files | Kind::Sidecar) => None,
    };
    match value {
        None => Declared::Nothing,
        Some(Value::String(text)) if layout.spec.format == Format::Text => {
            text.parse().map_or(Declared::Nonsense, Declared::Bytes)
        }
        Some(value) => value.as_u64().map_or(Declared::Nonsense, Declared::Bytes),
    }
}

fn phase(spec: &StateSpec, record: &Record<'_>) -> (Phase, Option<Arc<str>>) {
    let Some(value) = record.at(&spec.key) else {
        return (Phase::Stateless, None);
    };
    // A list or object is in none of the lists either.
    let word = scalar_text(&value).unwrap_or_else(|| value.to_string());
    let phase = if spec.active.contains(&word) {
        Phase::Active
    } else if spec.complete.contains(&word) {
        Phase::Complete
    } else if spec.failed.contains(&word) {
        Phase::Failed
    } else {
        Phase::Unknown
    };
    (phase, Some(shortened(&word)))
}

/// A group of the pattern named `group` comes first, then the metadata. Empty is none.
fn group(layout: &Layout, evidence: &Evidence<'_>) -> Option<Arc<str>> {
    if let Some(bytes) = evidence.captures.and_then(|found| group_of(found, "group")) {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => shortened(text),
            Err(_no_text) => shortened(&escape(bytes)),
        };
        return Some(text);
    }
    let value = evidence.record?.at(layout.spec.group.as_deref()?)?;
    if value.is_boolean() {
        return None;
    }
    let word = scalar_text(&value).filter(|word| !word.is_empty())?;
    Some(shortened(&word))
}

fn shortened(word: &str) -> Arc<str> {
    let end = (0..=MAX_WORD.min(word.len()))
        .rfind(|end| word.is_char_boundary(*end))
        .unwrap_or(0);
    Arc::from(&word[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::spec::{LayoutSpec, StateSpec, TimeFormat};
    use crate::model::seen::{FileId, FileKind};
    use crate::model::time::UnixNanos;
    use crate::model::zone::Zone;
    use AnomalyKind::*;

    fn now() -> Time {
        "2026-03-01T00:00:00Z".parse().expect("a time")
    }

    fn layout(change: impl FnOnce(&mut LayoutSpec)) -> Layout {
        let mut spec = LayoutSpec::default();
        change(&mut spec);
        Layout::new(spec).expect("a good spec")
    }

    fn document(name: &str, content: Content) -> Document {
        Document {
            name: name.as_bytes().into(),
            signature: None,
            content,
        }
    }

    fn text(name: &str, text: impl Into<Vec<u8>>) -> Document {
        document(name, Content::Text(text.into()))
    }

    fn metadata(content: impl Into<Vec<u8>>) -> Vec<Document> {
        vec![text("metadata.json", content)]
    }

    /// Verdict, creation time and anomalies, in one readable line.
    fn said(facts: &Facts) -> String {
        let created = facts
            .created
            .map_or("-".to_owned(), |time| time.to_rfc3339());
        format!("{:?} {created} {:?}", facts.verdict, facts.anomalies)
    }

    fn birth() -> Stat {
        Stat {
            id: FileId::default(),
            mount: 0,
            kind: FileKind::Dir,
            apparent: 0,
            allocated: 0,
            n_links: 2,
            mtime: UnixNanos::new(100, 0),
            ctime: UnixNanos::new(200, 0),
            btime: Some(UnixNanos::new(50, 0)),
        }
    }

    #[test]
    fn metadata_that_is_odd() {
        // `birth` could always answer, and must not where the metadata is in doubt.
        let layout = layout(|spec| spec.created_at.push(Source::Birth));
        let bom = "\u{FEFF}{\"created_at\":\"2026-02-10T12:00:00Z\"}";
        for (content, expected) in [
            (Content::Absent, "Certain - {MetadataMissing}"),
            (Content::NotAFile, "Certain - {MetadataUnreadable}"),
            (Content::TooBig, "Certain - {MetadataUnreadable}"),
            (Content::Unreadable(5), "Certain - {MetadataUnreadable}"),
            (Content::Text(b"".to_vec()), "Doubtful - {MetadataCorrupt}"),
            (
                Content::Text(b"[]".to_vec()),
                "Doubtful - {MetadataCorrupt}",
            ),
            (
                Content::Text(b"null".to_vec()),
                "Doubtful - {MetadataCorrupt}",
            ),
            (
                Content::Text(b"{\"a\":".to_vec()),
                "Doubtful - {MetadataCorrupt}",
            ),
            (
                Content::Text(b"\xFF".to_vec()),
                "Doubtful - {MetadataCorrupt}",
            ),
            (Content::Text(bom.into()), "Doubtful - {MetadataCorrupt}"),
            (
                Content::Text(b"{}".to_vec()),
                "Certain 1970-01-01T00:00:50+00:00 {}",
            ),
        ] {
            let documents = [document("metadata.json", content)];
            let facts = layout.facts(b"s", Some(&birth()), &documents, now());
            assert_eq!(said(&facts), expected, "{documents:?}");
        }
        let facts = layout.facts(b"s", Some(&birth()), &[], now());
        assert_eq!(said(&facts), "Certain - {MetadataMissing}");
    }

    #[test]
    fn creation_times_that_are_odd() {
        let layout = layout(|_| {});
        for (json, expected) in [
            ("{}", "Certain - {CreatedAtMissing}"),
            (r#"{"created_at":null}"#, "Certain - {CreatedAtMissing}"),
            (r#"{"created_at":5}"#, "Certain - {CreatedAtInvalid}"),
            (
                r#"{"created_at":"not-a-date"}"#,
                "Certain - {CreatedAtInvalid}",
            ),
            (r#"{"created_at":""}"#, "Certain - {CreatedAtInvalid}"),
            (
                r#"{"created_at":["2026-02-10T12:00:00Z"]}"#,
                "Certain - {CreatedAtInvalid}",
            ),
            (
                r#"{"created_at":"2026-02-10T12:00:00+09:00"}"#,
                "Certain 2026-02-10T03:00:00+00:00 {}",
            ),
            (
                r#"{"created_at":"2126-02-10T12:00:00"}"#,
                "Certain 2126-02-10T12:00:00+00:00 {CreatedAtFuture}",
            ),
            (
                r#"{"created_at":"2025-02-10T12:00:00","created_at":"2026-02-10T12:00:00"}"#,
                "Certain 2026-02-10T12:00:00+00:00 {DuplicateId}",
            ),
        ] {
            let facts = layout.facts(b"s", None, &metadata(json), now());
            assert_eq!(said(&facts), expected, "{json}");
        }
    }

    #[test]
    fn an_unreadable_source_ends_the_list() {
        let layout = layout(|spec| {
            spec.required = false;
            spec.pattern = Some(r"^(?<id>[a-z]+)(_(?<created>\d+))?$".to_owned());
            spec.created_at.push(Source::Name {
                group: "created".to_owned(),
                format: TimeFormat::EpochS,
                zone: Zone::Utc,
                radix: 10,
            });
            spec.created_at.push(Source::File {
                file: "startedat".to_owned(),
                format: TimeFormat::Rfc3339,
                zone: Zone::Utc,
            });
            spec.created_at.push(Source::Mtime);
        });
        assert_eq!(layout.documents(b"a").len(), 2);
        assert!(layout.reads_inode());
        let bad = metadata(r#"{"created_at":true}"#);
        let long = "a_9999999999999999999999";
        let file = |content| vec![document("startedat", content)];
        let good = || file(Content::Text(b" 2026-02-10T12:00:00Z\n".to_vec()));
        for (key, documents, expected) in [
            ("x/a_100", vec![], "Certain 1970-01-01T00:01:40+00:00 {}"),
            ("a_100", bad, "Certain - {CreatedAtInvalid}"),
            ("a_100", metadata("{"), "Doubtful - {MetadataCorrupt}"),
            (long, vec![], "Certain - {CreatedAtInvalid}"),
            ("a", good(), "Certain 2026-02-10T12:00:00+00:00 {}"),
            (
                "a",
                file(Content::Text(vec![])),
                "Doubtful - {CreatedAtInvalid}",
            ),
            (
                "a",
                file(Content::Text(vec![255])),
                "Doubtful - {CreatedAtInvalid}",
            ),
            ("a", file(Content::NotAFile), "Certain - {CreatedAtInvalid}"),
            (
                "a",
                file(Content::Absent),
                "Certain 1970-01-01T00:01:40+00:00 {}",
            ),
        ] {
            let facts = layout.facts(key.as_bytes(), Some(&birth()), &documents, now());
            assert_eq!(said(&facts), expected, "{key} {documents:?}");
        }
        let facts = layout.facts(b"a", None, &[], now());
        assert_eq!(said(&facts), "Certain - {CreatedAtMissing}");
    }

    #[test]
    fn a_directory_without_its_marker_is_not_owned() {
        let layout = layout(|spec| spec.marker = Some("startedat".to_owned()));
        let json = r#"{"created_at":"2026-02-10T12:00:00"}"#;
        for (content, expected) in [
            (Content::Absent, "Disowned - {}"),
            (Content::NotAFile, "Disowned - {}"),
            (Content::Unreadable(13), "Certain - {MetadataUnreadable}"),
            (
                Content::Text(vec![]),
                "Certain 2026-02-10T12:00:00+00:00 {}",
            ),
            (Content::TooBig, "Certain 2026-02-10T12:00:00+00:00 {}"),
        ] {
            let documents = [text("metadata.json", json), document("startedat", content)];
            let facts = layout.facts(b"s", None, &documents, now());
            assert_eq!(said(&facts), expected, "{documents:?}");
        }
    }

    #[test]
    fn states_are_compared_as_text() {
        let layout = layout(|spec| {
            spec.state = Some(StateSpec {
                key: "/state".to_owned(),
                active: vec!["init".to_owned(), "1".to_owned()],
                complete: vec!["complete".to_owned(), "true".to_owned()],
                failed: vec!["failed".to_owned()],
            });
        });
        for (state, phase, word) in [
            ("\"init\"", Phase::Active, Some("init")),
            ("1", Phase::Active, Some("1")),
            ("true", Phase::Complete, Some("true")),
            ("\"failed\"", Phase::Failed, Some("failed")),
            ("null", Phase::Stateless, None),
            ("\"\"", Phase::Unknown, Some("")),
            ("\"INIT\"", Phase::Unknown, Some("INIT")),
            ("[1]", Phase::Unknown, Some("[1]")),
        ] {
            let json = format!("{{\"state\":{state}}}");
            let facts = layout.facts(b"s", None, &metadata(json), now());
            assert_eq!(
                (facts.phase, facts.state.as_deref()),
                (phase, word),
                "{state}"
            );
            assert_eq!(
                facts.anomalies.contains(StateUnknown),
                phase == Phase::Unknown
            );
        }
    }

    #[test]
    fn groups() {
        let layout = layout(|spec| {
            spec.pattern = Some(r"^(?:(?<group>[a-z]+)-)?\d+$".to_owned());
        });
        let long = format!("{{\"group\":\"{}\"}}", "é".repeat(200));
        for (key, json, group) in [
            ("a-1", r#"{"group":"b"}"#, Some("a")),
            ("1", r#"{"group":"b"}"#, Some("b")),
            ("1", r#"{"group":7}"#, Some("7")),
            ("1", r#"{"group":""}"#, None),
            ("1", r#"{"group":null}"#, None),
            ("1", r#"{"group":[]}"#, None),
            ("1", &long, Some(&*"é".repeat(127))),
        ] {
            let facts = layout.facts(key.as_bytes(), None, &metadata(json), now());
            assert_eq!(facts.group.as_deref(), group, "{key} {json}");
        }
    }
}
