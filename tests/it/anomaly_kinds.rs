//! Each kind of anomaly, made on a real tree: its place and bytes, when it was seen first and
//! last, and that a restart of the agent does not make it new.

use crate::support::running::{Place, wait_for};
use housekeeper::model::anomaly::AnomalyKind;
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What takes more than a tree: the right to mount (`symlinks`, `guard`), another user
/// (`traps::limits`), a swap in the middle of a rename (`prune::tests`).
const ELSEWHERE: [AnomalyKind; 3] = [
    AnomalyKind::ForeignMount,
    AnomalyKind::Unreadable,
    AnomalyKind::StrangerInTrash,
];

/// Kind and place of an anomaly.
type At = (String, String);

#[derive(Debug, PartialEq)]
struct Row {
    bytes: u64,
    first: String,
    last: String,
}

fn rows(place: &Place) -> BTreeMap<At, Row> {
    let output = place.run(&["anomalies", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let rows = answer["roots"][0]["anomalies"].as_array().cloned();
    let text = |row: &Value, key: &str| row[key].as_str().expect("text").to_owned();
    rows.unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(|row| {
            let seen = Row {
                bytes: row["bytes"].as_u64().expect("bytes"),
                first: text(row, "first_seen"),
                last: text(row, "last_seen"),
            };
            assert!(seen.first <= seen.last, "{row}");
            ((text(row, "kind"), text(row, "path")), seen)
        })
        .collect()
}

/// Waits until the agent tells of exactly these, with their bytes; then again after a rescan and
/// a restart. Answers the kinds.
fn check(place: &Place, expected: &[(&str, &str, u64)]) -> BTreeSet<String> {
    let expected: BTreeMap<At, u64> = expected
        .iter()
        .map(|(kind, path, bytes)| (((*kind).to_owned(), (*path).to_owned()), *bytes))
        .collect();
    let all = || {
        assert!(place.run(&["rescan", "--wait"]).status.success());
        wait_for("all of them", || {
            let rows = rows(place);
            let bytes = rows.iter().map(|(at, row)| (at.clone(), row.bytes));
            if bytes.collect::<BTreeMap<_, _>>() == expected {
                return Ok(rows);
            }
            assert!(place.run(&["rescan", "--wait"]).status.success());
            Err(format!("{rows:#?}"))
        })
    };
    let agent = place.agent();
    let first = all();
    let second = all();
    assert_eq!(agent.stop(), Some(0));
    let agent = place.agent();
    let third = all();
    assert_eq!(agent.stop(), Some(0));
    for (at, row) in &first {
        for later in [&second, &third] {
            assert_eq!(later[at].first, row.first, "{at:?}");
            assert!(later[at].last > row.last, "{at:?}: {later:?}");
        }
        let told = place.told("anomaly.found");
        let told = told
            .iter()
            .find(|told| told["kind"] == at.0.as_str() && told["path"] == at.1.as_str());
        assert!(told.is_some(), "{at:?}: {}", place.log());
    }
    expected.into_keys().map(|(kind, _)| kind).collect()
}

fn session(root: &Path, name: impl AsRef<OsStr>, text: &str) {
    let dir = root.join(name.as_ref());
    fs::create_dir(&dir).expect("a session");
    fs::write(dir.join("metadata.json"), text).expect("metadata");
}

fn deep(session: &Path) -> String {
    let name = "n".repeat(200);
    let mut dir = open(session, OFlags::DIRECTORY, Mode::empty()).expect("a session");
    for _ in 0..90 {
        mkdirat(&dir, &name, Mode::RWXU).expect("a directory");
        dir = openat(&dir, &name, OFlags::DIRECTORY, Mode::empty()).expect("a directory");
    }
    name
}

const CREATED: &str = "\"created_at\":\"2026-01-01T00:00:00Z\"";

/// Sessions that are directories. Nothing is done to them: a stale one stays as it is.
fn of_directories() -> BTreeSet<String> {
    let place = Place::new();
    place.configure(
        "[root.layout]\nsize = { key = \"/size\", means = \"bytes\" }\n\
         [root.layout.state]\nkey = \"/state\"\nactive = [\"init\"]\nfailed = [\"failed\"]\n\
         [root.lifecycle]\nstale_after = \"1s\"\n[root.limits]\nmax_size = \"1 GiB\"",
    );
    let config = place.beside("config.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(
        &config,
        text.replace("[agent]\n", "[agent]\nmode = \"observe\"\n"),
    )
    .expect("it");
    let root = &place.root;
    let with = |more: &str| format!("{{{CREATED}{more}}}");
    session(root, "good", &with(""));
    session(root, "state", &with(",\"state\":\"paused\""));
    session(root, "stale", &with(",\"state\":\"init\""));
    session(root, "size", &with(",\"size\":77"));
    session(root, "twice", &with(&format!(",{CREATED}")));
    session(root, OsStr::from_bytes(b"n\xFF"), &with(""));
    session(root, "corrupt", "{");
    session(root, "undated", "{}");
    session(root, "odd", "{\"created_at\":\"soon\"}");
    session(root, "later", "{\"created_at\":\"2126-01-01T00:00:00Z\"}");
    fs::create_dir(root.join("bare")).expect("a session");
    fs::create_dir_all(root.join("unreadable/metadata.json")).expect("a session");
    session(root, "future", &with(""));
    let data = fs::File::create(root.join("future/data")).expect("a file");
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    data.set_modified(tomorrow).expect("it can be forged");
    session(root, "deep", &with(""));
    let name = deep(&root.join("deep"));
    fs::write(root.join("note"), "12345").expect("a file");
    symlink(root.join("note"), root.join("good/link")).expect("a link");
    // The first path that is longer than the bound, 201 bytes a level.
    let n_levels = (16_380 - "deep".len()) / 201 + 1;
    let too_deep = format!("deep{}", format!("/{name}").repeat(n_levels));
    let len = with("").len() as u64;
    check(
        &place,
        &[
            (
                "state_unknown",
                "state",
                with(",\"state\":\"paused\"").len() as u64,
            ),
            (
                "stale_active",
                "stale",
                with(",\"state\":\"init\"").len() as u64,
            ),
            ("size_mismatch", "size", with(",\"size\":77").len() as u64),
            (
                "duplicate_id",
                "twice",
                with(&format!(",{CREATED}")).len() as u64,
            ),
            ("not_utf8", "n\\xFF", len),
            ("metadata_corrupt", "corrupt", 1),
            ("created_at_missing", "undated", 2),
            ("created_at_invalid", "odd", 21),
            ("created_at_future", "later", 37),
            ("metadata_missing", "bare", 0),
            ("metadata_unreadable", "unreadable", 0),
            ("clock_future", "future", len),
            ("too_deep", &too_deep, 0),
            ("too_deep", "deep", len),
            ("unowned", "note", 5),
            ("symlink", "good/link", 0),
        ],
    )
}

const ENTRY: &str = "{\"format\":\"json\",\"created_at\":\"2026-01-01T00:00:00\"}";

fn of_catalogues() -> BTreeSet<String> {
    let place = Place::new();
    place.configure("preset = \"gofr-dig\"\n[root.limits]\nmax_size = \"1 GiB\"");
    let file = |name: &str| fs::write(place.root.join(name), [b'x'; 10]).expect("a file");
    ["good.json", "orphan.json"].into_iter().for_each(file);
    fs::create_dir(place.root.join("dir.json")).expect("a directory");
    symlink(place.root.join("good.json"), place.root.join("link.json")).expect("a link");
    let ids = ["good", "good", "dir", "link", "gone", "../evil"];
    let entries: Vec<String> = ids.iter().map(|id| format!("\"{id}\":{ENTRY}")).collect();
    let text = format!("{{{}}}", entries.join(","));
    fs::write(place.root.join("metadata.json"), &text).expect("a catalogue");
    let rows = check(
        &place,
        &[
            ("orphan_blob", "orphan.json", 10),
            ("blob_unusable", "dir.json", 0),
            ("blob_unusable", "link.json", 0),
            ("unowned", "dir.json", 0),
            ("unowned", "link.json", 0),
            ("symlink", "link.json", 0),
            ("dangling_entry", "dir.json", 0),
            ("dangling_entry", "link.json", 0),
            ("dangling_entry", "gone.json", 0),
            ("bad_id", "..\\x5Cx2Fevil", 0),
            ("duplicate_id", "metadata.json", text.len() as u64),
        ],
    );
    fs::write(place.root.join("metadata.json"), "{").expect("a catalogue");
    let agent = place.agent();
    assert!(place.run(&["rescan", "--wait"]).status.success());
    let unreadable = ("catalog_unreadable".to_owned(), "metadata.json".to_owned());
    wait_for("a verdict", || match self::rows(&place).get(&unreadable) {
        Some(row) if row.bytes == 1 => Ok(()),
        row => Err(format!("{row:?}")),
    });
    assert_eq!(agent.stop(), Some(0));
    rows.into_iter().chain([unreadable.0]).collect()
}

/// Its entries cannot be taken out while somebody has it open.
fn of_a_contended_catalogue() -> BTreeSet<String> {
    let place = Place::new();
    place.configure(
        "preset = \"gofr-dig\"\n[root.limits]\nmax_size = 30000\n[root.protect]\nquiet = \"0s\"",
    );
    let mut entries = Vec::new();
    for n in 0..9 {
        fs::write(place.root.join(format!("{n}.json")), [b'x'; 10_000]).expect("a blob");
        entries.push(format!(
            "\"{n}\":{{\"format\":\"json\",\"created_at\":\"2026-01-0{}T00:00:00\"}}",
            n + 1
        ));
    }
    let path = place.root.join("metadata.json");
    fs::write(&path, format!("{{{}}}", entries.join(","))).expect("a catalogue");
    let open = fs::File::open(&path).expect("it is there");
    let agent = place.agent();
    let at = (
        "catalog_concurrent_write".to_owned(),
        "metadata.json".to_owned(),
    );
    wait_for("a verdict", || {
        assert!(place.run(&["rescan", "--wait"]).status.success());
        match rows(&place).get(&at) {
            Some(row) if row.bytes == fs::metadata(&path).expect("a file").len() => Ok(()),
            row => Err(format!("{row:?} {}", place.log())),
        }
    });
    drop(open);
    assert_eq!(agent.stop(), Some(0));
    [at.0].into()
}

/// The answers are those of a catalogue, and the session stays like there.
fn of_sidecars() -> BTreeSet<String> {
    let place = Place::new();
    place.configure(
        "[root.layout]\nkind = \"sidecar\"\nmetadata = \"{id}.info\"\nblobs = [\"{id}.wav\"]\n\
         [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
         [root.limits]\nmax_size = 100\n[root.protect]\nquiet = \"0s\"",
    );
    let file = |name: &str| place.root.join(name);
    let text = format!("{{{CREATED}}}");
    for id in ["dir", "link", "gone"] {
        fs::write(file(&format!("{id}.info")), &text).expect("metadata");
    }
    for name in ["orphan.wav", "precious"] {
        fs::write(file(name), [b'x'; 10]).expect("a file");
    }
    fs::create_dir(file("dir.wav")).expect("a directory");
    symlink(file("precious"), file("link.wav")).expect("a link");
    // Of no session: a link like any other.
    symlink(file("precious"), file("nobodys.wav")).expect("a link");
    let len = text.len() as u64;
    let kinds = check(
        &place,
        &[
            ("orphan_blob", "orphan.wav", 10),
            ("unowned", "precious", 10),
            ("unowned", "nobodys.wav", 0),
            ("symlink", "nobodys.wav", 0),
            ("blob_unusable", "dir.wav", 0),
            ("blob_unusable", "link.wav", 0),
            ("unowned", "dir.wav", 0),
            ("unowned", "link.wav", 0),
            ("symlink", "link.wav", 0),
            ("dangling_entry", "dir.info", len),
            ("dangling_entry", "link.info", len),
            ("dangling_entry", "gone.info", len),
        ],
    );
    for id in ["dir", "link"] {
        assert!(file(&format!("{id}.info")).exists(), "{id}");
    }
    kinds
}

#[test]
fn each_kind_is_found_on_a_real_tree_and_a_restart_does_not_make_it_new() {
    let mut made = of_directories();
    made.extend(of_catalogues());
    made.extend(of_a_contended_catalogue());
    made.extend(of_sidecars());
    for kind in AnomalyKind::ALL {
        let is_elsewhere = ELSEWHERE.contains(&kind);
        assert_eq!(made.contains(kind.name()), !is_elsewhere, "{kind}");
    }
}
