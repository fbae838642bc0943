//! `[root.layout]` with `created_at` and `state`: words in, a [`LayoutSpec`] out. Whether the words
//! make sense together is for [`Layout::new`] to say; here its answer gets its key and line.

use crate::config::reader::{Found, Reader, type_name};
use crate::layout::Layout;
use crate::layout::spec::{Kind, LayoutSpec, Means, SizeSpec, Source, StateSpec, TimeFormat};
use crate::model::zone::Zone;

const METADATA: &str = "metadata.json";
const SIDECAR: &str = "{id}.json";

/// Reads the table; `None` where a problem was noted.
pub(super) fn read(table: &mut Reader<'_>) -> (LayoutSpec, Option<Layout>) {
    let spec = spec(table);
    let layout = match Layout::new(spec.clone()) {
        Ok(layout) => Some(layout),
        Err(problems) => {
            // What could not be read has its problem already; the rest follows from it.
            let news: Vec<_> = problems
                .into_iter()
                .filter(|problem| !table.has_problem(problem.key))
                .collect();
            for problem in news {
                table.problem(problem.key, &problem.message);
            }
            None
        }
    };
    (spec, layout)
}

fn spec(table: &mut Reader<'_>) -> LayoutSpec {
    let default = LayoutSpec::default();
    let kind: Kind = table.word("kind").unwrap_or_default();
    let created_at = created_at(table).unwrap_or_else(|| default.created_at.clone());
    let state = state(table);
    let group = table.filled_text("group");
    let size = size(table);
    let read_from_metadata = state.is_some()
        || group.is_some()
        || size.is_some()
        || created_at
            .iter()
            .any(|source| matches!(source, Source::Key { .. }));
    let metadata = table.filled_text("metadata").or_else(|| match kind {
        Kind::Catalog => Some(METADATA.to_owned()),
        Kind::Directories => read_from_metadata.then(|| METADATA.to_owned()),
        Kind::Files => read_from_metadata.then(|| ".".to_owned()),
        Kind::Sidecar => Some(SIDECAR.to_owned()),
    });
    let blobs = table.texts("blobs").unwrap_or_else(|| match kind {
        Kind::Catalog => vec!["{id}.{format}".to_owned()],
        Kind::Sidecar => vec!["{id}.{ext}".to_owned(), "{id}".to_owned()],
        Kind::Directories | Kind::Files => default.blobs,
    });
    LayoutSpec {
        kind,
        sessions: table.filled_text("sessions").unwrap_or(default.sessions),
        pattern: table.filled_text("pattern"),
        group: group.or(default.group).filter(|_| metadata.is_some()),
        metadata,
        format: table.word("format").unwrap_or_default(),
        required: table.switch("required").unwrap_or(default.required),
        marker: table.filled_text("marker"),
        lock: table.filled_text("lock"),
        blobs,
        created_at,
        state,
        size,
        everything: table.switch("everything").unwrap_or_default(),
        remove_empty_parents: table.switch("remove_empty_parents").unwrap_or_default(),
        foreign_lock: table.filled_text("foreign_lock"),
    }
}

fn size(table: &mut Reader<'_>) -> Option<SizeSpec> {
    let mut size = table.table("size")?;
    let key = size.filled_text("key");
    if key.is_none() && !size.has_problem("key") {
        size.problem("key", "is missing; write the JSON pointer of the size");
    }
    let means = size.word("means").unwrap_or(Means::Bytes);
    table.absorb(size);
    Some(SizeSpec { key: key?, means })
}

fn state(table: &mut Reader<'_>) -> Option<StateSpec> {
    let mut state = table.table("state")?;
    let key = state.filled_text("key");
    if key.is_none() && !state.has_problem("key") {
        state.problem("key", "is missing; write the JSON pointer of the state");
    }
    let spec = StateSpec {
        key: key.unwrap_or_default(),
        active: state.texts("active").unwrap_or_default(),
        complete: state.texts("complete").unwrap_or_default(),
        failed: state.texts("failed").unwrap_or_default(),
    };
    table.absorb(state);
    Some(spec)
}

/// `None`: the default list.
fn created_at(table: &mut Reader<'_>) -> Option<Vec<Source>> {
    let mut below = table.table("created_at")?;
    let items = below.items("from");
    if items.is_none() && !below.has_problem("from") {
        below.problem("from", "is missing; write the list of places to look at");
    }
    let mut sources = Vec::new();
    for item in items.unwrap_or_default() {
        sources.extend(source(&mut below, item));
    }
    table.absorb(below);
    Some(sources)
}

/// One item of `from`.
fn source<'t>(below: &mut Reader<'t>, item: Found<'t>) -> Option<Source> {
    match item.value.as_str() {
        Some("birth") => return Some(Source::Birth),
        Some("mtime") => return Some(Source::Mtime),
        Some(word) => {
            let why = format!("`{word}` is none of birth, mtime");
            below.item_problem("from", item, &why);
            return None;
        }
        None => {}
    }
    let Some(mut table) = below.item_table("from", item) else {
        let why = format!(
            "an item must be a table or one of \"birth\", \"mtime\", not {}",
            type_name(item.value)
        );
        below.item_problem("from", item, &why);
        return None;
    };
    let places = (
        table.filled_text("key"),
        table.filled_text("name"),
        table.filled_text("file"),
    );
    let n_places = ["key", "name", "file"]
        .into_iter()
        .filter(|place| table.find(place).is_some())
        .count();
    let format = table
        .parsed("as", time_format)
        .unwrap_or(TimeFormat::Rfc3339);
    let zone = table.parsed("zone", Zone::named).unwrap_or_default();
    let radix = radix(&mut table, &format);
    let source = match places {
        (Some(key), None, None) => Some(Source::Key { key, format, zone }),
        (None, Some(group), None) => Some(Source::Name {
            group,
            format,
            zone,
            radix: radix.unwrap_or(10),
        }),
        (None, None, Some(file)) => Some(Source::File { file, format, zone }),
        _ => None,
    };
    if n_places != 1 {
        let why = "an item must have exactly one of key, name, file";
        below.item_problem("from", item, why);
    }
    below.absorb(table);
    source.filter(|_| n_places == 1)
}

/// Only a number in a name may be written to another base than ten.
fn radix(table: &mut Reader<'_>, format: &TimeFormat) -> Option<u32> {
    let radix = table.number("radix", 2..37)?;
    let number = matches!(
        format,
        TimeFormat::EpochS | TimeFormat::EpochMs | TimeFormat::EpochUs | TimeFormat::EpochNs
    );
    if !number || table.find("name").is_none() {
        table.problem("radix", "goes with name and as = \"epoch_…\" only");
    }
    u32::try_from(radix).ok()
}

fn time_format(word: &str) -> Result<TimeFormat, String> {
    Ok(match word {
        "rfc3339" => TimeFormat::Rfc3339,
        "epoch_s" => TimeFormat::EpochS,
        "epoch_ms" => TimeFormat::EpochMs,
        "epoch_us" => TimeFormat::EpochUs,
        "epoch_ns" => TimeFormat::EpochNs,
        words if words.contains('%') => {
            let bad = chrono::format::StrftimeItems::new(words)
                .any(|item| matches!(item, chrono::format::Item::Error));
            if bad {
                return Err(format!("`{words}` has a strftime word that nobody knows"));
            }
            TimeFormat::Strftime(words.to_owned())
        }
        other => {
            return Err(format!(
                "`{other}` is none of rfc3339, epoch_s, epoch_ms, epoch_us, epoch_ns, nor strftime words like %Y%m%d"
            ));
        }
    })
}
