//! Creation times in whole roots: what `scan` says of them, and that the oldest goes first by
//! them. Times that are numbers of another radix in a name, and naive times around a change of
//! the clock.

use crate::support::fixture::Scratch;
use crate::support::{Done, housekeeper, mb, texts};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Runs a command on the scratch root with this layout, on a host of this zone.
fn run(scratch: &Scratch, host: &str, layout: &str, words: &[&str]) -> Done {
    let config = scratch.path("config.toml");
    let text = format!(
        "[agent]\nstate_dir = {:?}\n[[root]]\nname = \"r\"\npath = {:?}\n\
         [root.protect]\nquiet = \"0s\"\n{layout}",
        scratch.path("state"),
        scratch.root()
    );
    fs::write(&config, text).expect("written");
    let mut command = housekeeper();
    command.env("TZ", host).args(words).arg("--json");
    command.arg("--config").arg(&config);
    Done::of(command.output().expect("runs"))
}

/// The sessions of the root by the first word of their ids, with their times.
fn times(scratch: &Scratch, host: &str, layout: &str) -> BTreeMap<String, Option<DateTime<Utc>>> {
    let done = run(scratch, host, layout, &["scan"]);
    assert_eq!(done.code, 0, "{done:?}");
    let time = |session: &Value| Some(at(session["created_at"].as_str()?));
    let root = done.root();
    let sessions = root["sessions"].as_array().expect("a list");
    sessions
        .iter()
        .map(|session| {
            let id = session["id"].as_str().expect("an id");
            (first_word(id), time(session))
        })
        .collect()
}

fn first_word(id: &str) -> String {
    let end = id.find(['-', '_']).unwrap_or(id.len());
    id[..end].to_owned()
}

/// The first words of the ids in the order in which sessions go, each by a prune of its own
/// that one session less satisfies.
fn order_of_removal(scratch: &Scratch, host: &str, layout: &str) -> Vec<String> {
    let mut order = Vec::new();
    loop {
        let seen = run(scratch, host, layout, &["scan"]).root();
        let bytes = seen["bytes"].as_u64().expect("a number");
        let less = mb(bytes.saturating_sub(1).max(1));
        let done = run(scratch, host, layout, &["prune-size", "--max-mb", &less]);
        let gone = texts(&done.root()["removed"], "id");
        match &gone[..] {
            [] => return order,
            [one] => order.push(first_word(one)),
            _ => panic!("more than one went: {done:?}"),
        }
    }
}

fn at(text: &str) -> DateTime<Utc> {
    let time = DateTime::parse_from_rfc3339(text).expect("a time");
    time.to_utc()
}

fn write(root: &Path, name: &str, text: impl AsRef<[u8]>) {
    fs::write(root.join(name), text).expect("written");
}

/// A number as it is written with 36 digits.
fn in_36(mut number: u64) -> String {
    let mut digits = Vec::new();
    while number > 0 {
        let digit = u32::try_from(number % 36).expect("below 36");
        digits.push(char::from_digit(digit, 36).expect("a digit"));
        number /= 36;
    }
    digits.into_iter().rev().collect()
}

/// Ids, oldest first, with their microseconds in the radix 36. Neither the ids nor the digits
/// as text have this order.
fn numbered() -> Vec<(&'static str, String, DateTime<Utc>)> {
    let micros = |text: &str| at(text).timestamp_micros().unsigned_abs();
    let written = |id, text: &str| (id, in_36(micros(text)), at(text));
    let all = vec![
        written("e", "1972-05-06T07:08:09.000001Z"),
        // A number in the radix 10, too, and 1970 if it were read so.
        (
            "d",
            "1000000000".to_owned(),
            at("1973-03-21T11:05:56.668416Z"),
        ),
        {
            let (id, digits, time) = written("b", "2001-09-09T01:46:40Z");
            (id, digits.to_uppercase(), time)
        },
        written("c", "2026-01-02T03:04:05.678900Z"),
        written("a", "2026-01-02T03:04:05.678901Z"),
    ];
    assert!(all.is_sorted_by_key(|(_, _, time)| *time));
    assert!(!all.is_sorted_by_key(|(_, digits, _)| digits.clone()));
    all
}

const BORN: &str = "(?<id>[a-z]+)-(?<born>[0-9A-Za-z]+)";
const IN_36: &str = "{ name = \"born\", as = \"epoch_us\", radix = 36 }";

/// The same in each kind of layout: words of the layout, and what makes a session.
type Kind = (&'static str, fn(&Path, &str));

const KINDS: [Kind; 4] = [
    (
        "kind = \"directories\"\npattern = '^BORN$'",
        |root, name| {
            fs::create_dir(root.join(name)).expect("made");
            write(&root.join(name), "data", [b'x'; 1024]);
        },
    ),
    (
        "kind = \"files\"\nsessions = \"*\"\npattern = '^BORN\\.log$'",
        |root, name| write(root, &format!("{name}.log"), [b'x'; 1024]),
    ),
    (
        "kind = \"sidecar\"\nrequired = false\npattern = '^BORN$'",
        |root, name| write(root, &format!("{name}.wav"), [b'x'; 1024]),
    ),
    ("kind = \"catalog\"\npattern = '^BORN$'", |root, name| {
        write(root, &format!("{name}.wav"), [b'x'; 1024]);
        let catalogue = root.join("metadata.json");
        let known = fs::read(&catalogue).unwrap_or_else(|_| b"{}".to_vec());
        let mut entries: Value = serde_json::from_slice(&known).expect("JSON");
        entries[name] = json!({ "format": "wav" });
        write(root, "metadata.json", entries.to_string());
    }),
];

#[test]
fn numbers_of_another_radix_in_names_are_times() {
    for (layout, make) in KINDS {
        let scratch = Scratch::new();
        let mut sessions = numbered();
        for (id, digits, _) in &sessions {
            make(&scratch.root(), &format!("{id}-{digits}"));
        }
        // Digits all of them, and beyond any date.
        make(&scratch.root(), "odd-zzzzzzzzzzzzz");
        let layout = format!(
            "[root.layout]\n{}\ncreated_at = {{ from = [{IN_36}] }}\n",
            layout.replace("BORN", BORN)
        );
        let seen = times(&scratch, "UTC", &layout);
        for (id, digits, time) in &sessions {
            assert_eq!(seen[*id], Some(*time), "{layout}{id}-{digits}");
        }
        assert_eq!(seen["odd"], None, "{layout}");
        assert_eq!(seen.len(), sessions.len() + 1, "{layout}: {seen:?}");
        let order = order_of_removal(&scratch, "UTC", &layout);
        let oldest_first: Vec<&str> = sessions.drain(..).map(|(id, _, _)| id).collect();
        assert_eq!(order, oldest_first, "{layout}");
    }
}

/// Ids, what their metadata says, and when that is where clocks show the time of Berlin; oldest
/// first, which neither the texts nor the ids are.
const CHANGES: [(&str, &str, &str); 9] = [
    ("f", "2025-03-30T01:59:00", "2025-03-30T00:59:00Z"),
    ("h", "2025-03-30T03:15:00", "2025-03-30T01:15:00Z"),
    // Skipped by clocks: read with the offset from before.
    ("b", "2025-03-30T02:30:00", "2025-03-30T01:30:00Z"),
    ("g", "2025-03-30T03:45:00", "2025-03-30T01:45:00Z"),
    // Shown twice: the earlier one.
    ("e", "2025-10-26T02:30:00", "2025-10-26T00:30:00Z"),
    ("i", "2025-10-26T02:45:00+02:00", "2025-10-26T00:45:00Z"),
    ("a", "2025-10-26T01:00:00Z", "2025-10-26T01:00:00Z"),
    ("d", "2025-10-26T02:30:00+01:00", "2025-10-26T01:30:00Z"),
    ("c", "2025-10-26T03:10:00", "2025-10-26T02:10:00Z"),
];

/// Berlin's rules as the host's, and a host far away.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const FAR: &str = "FAR+8";

/// Zones of the layout, on hosts of these zones.
const ZONES: [(&str, &str); 3] = [
    ("Europe/Berlin", FAR),
    ("Europe/Berlin", "UTC"),
    ("local", BERLIN),
];

fn check_changes(scratch: &Scratch, host: &str, layout: &str, rows: &[(&str, &str, &str)]) {
    let seen = times(scratch, host, layout);
    for (id, text, instant) in rows {
        assert_eq!(seen[*id], Some(at(instant)), "{text} {host} {layout}");
    }
    let order: Vec<&str> = rows.iter().map(|(id, _, _)| *id).collect();
    let removed = order_of_removal(scratch, host, layout);
    assert_eq!(removed, order, "{host} {layout}");
}

#[test]
fn naive_times_around_a_change_of_the_clock_in_metadata() {
    for (zone, host) in ZONES {
        let from = format!("[{{ key = \"/created_at\", as = \"rfc3339\", zone = {zone:?} }}]");
        let directories = Scratch::new();
        let catalogue = Scratch::new();
        let mut entries = serde_json::Map::new();
        for (id, text, _) in CHANGES {
            directories.session(id, text, 1024);
            write(&catalogue.root(), &format!("{id}.wav"), [b'x'; 1024]);
            let entry = json!({ "format": "wav", "created_at": text });
            entries.insert(id.to_owned(), entry);
        }
        let text = Value::Object(entries).to_string();
        write(&catalogue.root(), "metadata.json", text);
        for (scratch, kind) in [(directories, "directories"), (catalogue, "catalog")] {
            let layout =
                format!("[root.layout]\nkind = {kind:?}\ncreated_at = {{ from = {from} }}\n");
            check_changes(&scratch, host, &layout, &CHANGES);
        }
    }
}

#[test]
fn naive_times_around_a_change_of_the_clock_in_names() {
    let naive: Vec<_> = CHANGES
        .into_iter()
        .filter(|(_, text, _)| text.len() == "2025-03-30T01:59:00".len())
        .collect();
    assert_eq!(naive.len(), 6);
    for (zone, host) in ZONES {
        let scratch = Scratch::new();
        for (id, text, _) in &naive {
            let stamp = text.replace(['-', ':'], "").replace('T', "_");
            let dir = scratch.root().join(format!("{id}_{stamp}"));
            fs::create_dir(&dir).expect("made");
            write(&dir, "data", [b'x'; 1024]);
        }
        let layout = format!(
            "[root.layout]\npattern = '^(?<id>[a-z])_(?<created>\\d{{8}}_\\d{{6}})$'\n\
             [root.layout.created_at]\nfrom = [{{ name = \"created\", as = \"%Y%m%d_%H%M%S\", zone = {zone:?} }}]\n"
        );
        check_changes(&scratch, host, &layout, &naive);
    }
}
