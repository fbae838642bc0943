//! `anomalies`: by a look of its own and from the running agent; and the kinds that a catalogue
//! and a clock have.

use crate::support::running::{Place, wait_for};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::{Duration, SystemTime};

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Kinds and places of the one root.
fn found(place: &Place, more: &[&str]) -> Vec<(String, String)> {
    let words = [&["anomalies", "--json"], more].concat();
    let answer = document(&place.run(&words));
    let rows = answer["roots"][0]["anomalies"].as_array().cloned();
    rows.unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(|row| {
            assert!(
                row["first_seen"].as_str() <= row["last_seen"].as_str(),
                "{row}"
            );
            assert!(row["bytes"].is_u64(), "{row}");
            let text = |key: &str| row[key].as_str().expect("text").to_owned();
            (text("kind"), text("path"))
        })
        .collect()
}

fn pair(kind: &str, path: &str) -> (String, String) {
    (kind.to_owned(), path.to_owned())
}

fn catalogue(text: &str) -> Place {
    let place = Place::new();
    place.configure(
        "preset = \"gofr-dig\"\n[root.limits]\nmax_size = 5000\n[root.protect]\nquiet = \"0s\"",
    );
    for id in ["a", "b", "c"] {
        fs::write(place.root.join(format!("{id}.json")), [b'x'; 3000]).expect("space");
    }
    fs::write(place.root.join("metadata.json"), text).expect("space");
    place
}

#[test]
fn a_corrupt_catalogue_is_never_empty() {
    for text in ["{\"a\":", "[]", "", "\u{FEFF}{}"] {
        let place = catalogue(text);
        let told = found(&place, &["--kind", "catalog_unreadable"]);
        assert_eq!(
            told,
            [pair("catalog_unreadable", "metadata.json")],
            "{text:?}"
        );
        let pruned = place.run(&["prune-size", "--max-mb", "0.001", "--json"]);
        assert_eq!(pruned.status.code(), Some(1), "{text:?}");
        let agent = place.agent();
        agent.until("a verdict", |root| root["unmet"] == true);
        let of_agent = found(&place, &["--kind", "catalog_unreadable", "--root", "r"]);
        assert_eq!(of_agent, told);
        assert_eq!(agent.stop(), Some(0));
        for id in ["a", "b", "c"] {
            assert!(place.root.join(format!("{id}.json")).exists(), "{text:?}");
        }
        let after = fs::read_to_string(place.root.join("metadata.json")).expect("a file");
        assert_eq!(after, text, "left as it is");
    }
}

/// Rules that take the sessions of a catalogue that can be read, at once.
#[test]
fn a_corrupt_catalogue_keeps_all_from_age_and_from_count() {
    let entry = |id: &str, day: u32| {
        format!("\"{id}\":{{\"format\":\"json\",\"created_at\":\"2026-01-0{day}T00:00:00\"}}")
    };
    let good = format!("{{{},{},{}}}", entry("a", 1), entry("b", 2), entry("c", 3));
    for (limit, left) in [("max_age = \"1h\"", &[][..]), ("max_count = 1", &["c"])] {
        for corrupt in [&good[..good.len() / 2], "[]", ""] {
            let place = catalogue(&good);
            place.configure(&format!(
                "preset = \"gofr-dig\"\n[root.limits]\n{limit}\n[root.protect]\nquiet = \"0s\""
            ));
            let config = place.beside("config.toml");
            let text = fs::read_to_string(&config).expect("a configuration");
            let held = text.replace("first_start = \"enforce\"", "first_start = \"hold\"");
            fs::write(&config, held).expect("space");
            let agent = place.agent();
            // Known to the agent when it could be read, and about to go.
            agent.until("a held root", |root| root["held"] == true);
            fs::write(place.root.join("metadata.json"), corrupt).expect("space");
            wait_for("a verdict", || {
                assert!(place.run(&["rescan", "--wait"]).status.success());
                match found(&place, &["--kind", "catalog_unreadable"]).len() {
                    1 => Ok(()),
                    _ => Err(place.log()),
                }
            });
            assert!(place.run(&["accept", "r"]).status.success());
            agent.until("it is accepted", |root| root["held"] == false);
            assert!(place.run(&["rescan", "--wait"]).status.success());
            // A goal that is met does not make up for it.
            for max_mb in ["0.001", "1000"] {
                let pruned = place.run(&["prune-size", "--max-mb", max_mb, "--json"]);
                assert_eq!(pruned.status.code(), Some(1), "{limit}: {pruned:?}");
            }
            let plan = document(&place.run(&["plan", "--json"]));
            assert_eq!(
                plan["roots"][0]["victims"].as_array().map(Vec::len),
                Some(0)
            );
            let stays = |id: &&str| place.root.join(format!("{id}.json")).exists();
            assert!(
                ["a", "b", "c"].iter().all(stays),
                "{limit}: {}",
                place.log()
            );
            let after = fs::read_to_string(place.root.join("metadata.json")).expect("a file");
            assert_eq!(after, corrupt, "{limit}: left as it is");
            assert_eq!(agent.root()["pruned"]["sessions"], 0, "{limit}");
            // Whole again it says what may go.
            fs::write(place.root.join("metadata.json"), &good).expect("space");
            wait_for("the rule", || {
                let there: Vec<_> = ["a", "b", "c"].into_iter().filter(stays).collect();
                match there == left {
                    true => Ok(()),
                    false => Err(format!("{there:?} {}", place.log())),
                }
            });
            assert_eq!(agent.stop(), Some(0));
        }
    }
}

#[test]
fn a_catalogue_that_is_whole_again_is_no_anomaly() {
    let place = catalogue("{\"a\":");
    let agent = place.agent();
    let first = document(&place.run(&["anomalies", "--json"]));
    let text = r#"{"a":{"format":"json","created_at":"2026-01-01T00:00:00"}}"#;
    fs::write(place.root.join("metadata.json"), text).expect("space");
    assert!(place.run(&["rescan", "--wait"]).status.success());
    wait_for("the end of it", || {
        assert!(place.run(&["rescan", "--wait"]).status.success());
        match found(&place, &["--kind", "catalog_unreadable"]).is_empty() {
            true => Ok(()),
            false => Err(place.log()),
        }
    });
    let orphans = found(&place, &["--kind", "orphan_blob"]);
    assert_eq!(
        orphans,
        [pair("orphan_blob", "b.json"), pair("orphan_blob", "c.json")]
    );
    // What goes on keeps its first time.
    let seen = |answer: &Value, key: &str| -> Vec<String> {
        let rows = answer["roots"][0]["anomalies"].as_array().expect("a list");
        let rows = rows.iter().filter(|row| row["kind"] == "orphan_blob");
        rows.map(|row| row[key].as_str().expect("a time").to_owned())
            .collect()
    };
    let before = document(&place.run(&["anomalies", "--json"]));
    assert!(place.run(&["rescan", "--wait"]).status.success());
    let after = document(&place.run(&["anomalies", "--json"]));
    assert_eq!(seen(&before, "first_seen"), seen(&after, "first_seen"));
    assert!(seen(&before, "last_seen") < seen(&after, "last_seen"));
    assert!(first["roots"][0]["scanned_at"].is_string());
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_time_to_come_is_an_anomaly_until_it_has_come() {
    let place = Place::new();
    place.configure("[root.layout]\n");
    let dir = place.root.join("s");
    fs::create_dir(&dir).expect("space");
    let text = r#"{"created_at":"2026-01-01T00:00:00Z"}"#;
    fs::write(dir.join("metadata.json"), text).expect("space");
    fs::write(dir.join("data"), "x").expect("space");
    assert_eq!(found(&place, &[]), []);
    let file = fs::File::options()
        .write(true)
        .open(dir.join("data"))
        .expect("a file");
    let later = SystemTime::now() + Duration::from_secs(86_400);
    file.set_modified(later).expect("it can be forged");
    assert_eq!(found(&place, &[]), [pair("clock_future", "s")]);
    let agent = place.agent();
    assert_eq!(found(&place, &[]), [pair("clock_future", "s")]);
    file.set_modified(SystemTime::now())
        .expect("it can be forged");
    assert!(place.run(&["rescan", "--wait"]).status.success());
    assert_eq!(found(&place, &[]), []);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_stranger_in_the_trash_stays_and_is_an_anomaly_until_it_is_moved_away() {
    let place = Place::new();
    place.configure("[root.layout]\n");
    let trash = place.root.join(".housekeeper/trash");
    for dir in [place.root.join(".housekeeper"), trash.clone()] {
        fs::create_dir(&dir).expect("space");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("a mode");
    }
    // The name of another inode.
    let name = "01ARZ3NDEKTSV4RRFFQ69G5FAV-1-2";
    let (dir, path) = (trash.join(name), format!(".housekeeper/trash/{name}"));
    fs::create_dir(&dir).expect("space");
    fs::write(dir.join("precious"), "precious").expect("space");
    let kind = "stranger_in_trash";
    assert_eq!(found(&place, &[]), [pair(kind, &path)]);
    let told = document(&place.run(&["anomalies", "--json"]));
    assert_eq!(told["roots"][0]["anomalies"][0]["bytes"], 8, "{told}");
    let agent = place.agent();
    assert_eq!(found(&place, &["--kind", kind]), [pair(kind, &path)]);
    let told = place.log();
    assert!(
        told.contains("anomaly.found") && told.contains(kind),
        "{told}"
    );
    fs::rename(&dir, place.beside("back")).expect("moved");
    assert!(place.run(&["rescan", "--wait"]).status.success());
    assert_eq!(found(&place, &[]), []);
    assert_eq!(agent.stop(), Some(0));
    assert!(place.beside("back").join("precious").exists());
}

/// Since when something is wrong, as a command says that finds it.
fn since(place: &Place) -> Value {
    let told = document(&place.run(&["anomalies", "--json"]));
    told["roots"][0]["anomalies"][0]["first_seen"].clone()
}

#[test]
fn a_command_without_an_agent_knows_since_when_something_is_wrong() {
    let place = Place::new();
    place.configure("[root.layout]\n");
    fs::write(place.root.join("foreign"), "x").expect("space");
    let agent = place.agent();
    let by_the_agent = since(&place);
    assert_eq!(agent.stop(), Some(0));
    assert!(by_the_agent.is_string());
    assert_eq!(since(&place), by_the_agent);
    // Nor does a command that removes begin anew.
    let pruned = place.run(&["prune-size", "--max-mb", "1"]);
    assert_eq!(pruned.status.code(), Some(0), "{pruned:?}");
    let agent = place.agent();
    assert_eq!(since(&place), by_the_agent);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_command_logs_one_line_of_a_kind_and_one_number_for_the_rest() {
    let place = Place::new();
    place.configure("[root.layout]\n");
    for n in 0..150 {
        fs::write(place.root.join(format!("f{n}")), "x").expect("space");
    }
    let output = place.run(&["prune-size", "--max-mb", "1"]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("unowned"))
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[1].contains("\"more_found\":149"), "{log}");
}

#[test]
fn people_are_told_what_to_do() {
    let place = catalogue("{}");
    let output = place.run(&["anomalies"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("3 anomalies, as of "), "{text}");
    assert!(
        text.contains("orphan_blob: remove it by hand, or add its entry"),
        "{text}"
    );
    let wrong = place.run(&["anomalies", "--kind", "nonsense"]);
    assert_eq!(wrong.status.code(), Some(64));
    let agent = place.agent();
    let other = Place::new();
    let dir = other.root.display().to_string();
    let output = place.run(&["anomalies", "--json", "--root", &dir]);
    let answer = document(&output);
    assert_eq!(
        answer["roots"][0]["path"],
        dir.as_str(),
        "a root that no agent looks after"
    );
    assert_eq!(agent.stop(), Some(0));
}
