//! Sessions that come whole from elsewhere count at once; what goes is the oldest all the same,
//! also where that has just come and its metadata is being read.

use crate::support::running::Place;
use housekeeper::model::watcher::Backend;
use std::fs;
use std::path::{Path, PathBuf};

/// So many bytes each, with its metadata.
const SIZE: usize = 1000;

/// A session outside of the root, made so many minutes ago as it says, with so many spaces in its
/// metadata.
fn staged(place: &Place, name: &str, minutes: i64, padding: usize) -> PathBuf {
    let dir = place.beside("staging").join(name);
    fs::create_dir_all(&dir).expect("made");
    let at = chrono::Utc::now() - chrono::TimeDelta::minutes(minutes);
    let text = format!("{{\"created_at\":\"{}\"}}", at.to_rfc3339());
    fs::write(dir.join("data"), vec![b'x'; SIZE - text.len()]).expect("space");
    let text = text + &" ".repeat(padding);
    fs::write(dir.join("metadata.json"), text).expect("space");
    dir
}

fn come(from: &Path, place: &Place) {
    let name = from.file_name().expect("a name");
    fs::rename(from, place.root.join(name)).expect("moved");
}

/// So much is more than is read at once.
const LONG: usize = 100 << 10;

#[test]
fn an_older_session_that_comes_whole_goes_before_a_younger_one() {
    for backend in Backend::ALL {
        for (limit, padding) in [
            ("max_count = 1", 0),
            ("max_size = 1500", 0),
            ("max_count = 1", LONG),
        ] {
            let mut place = Place::new();
            place.backend = backend.name();
            place.configure(&format!(
                "[root.layout]\n[root.protect]\nquiet = \"0s\"\n[root.limits]\n{limit}"
            ));
            come(&staged(&place, "young", 10, padding), &place);
            let Some(agent) = place.heard_by(backend) else {
                continue;
            };
            // The youngest of them comes first: each is older than all that is there. Who polls
            // takes a second or two for each.
            let n_old = if backend == Backend::Poll { 2 } else { 6 };
            for n in 0..n_old {
                come(&staged(&place, &format!("old{n}"), 80 + n, padding), &place);
                agent.until("one to go", |root| root["pruned"]["sessions"] == n + 1);
                let there = place.root.join("young").exists();
                assert!(there, "{}, {limit}: {}", backend.name(), place.log());
            }
            assert_eq!(agent.stop(), Some(0));
        }
    }
}

/// A crashed recording has no metadata; its name says when it began, also before it is listed.
#[test]
fn an_older_session_without_metadata_goes_before_a_younger_one() {
    for backend in Backend::ALL {
        let mut place = Place::new();
        place.backend = backend.name();
        place.configure(
            "preset = \"habla\"\n[root.protect]\nquiet = \"0s\"\n[root.limits]\nmax_count = 1",
        );
        let recording = |name: &str| {
            let dir = place.beside("staging").join(name);
            fs::create_dir_all(&dir).expect("made");
            for n in 0..40 {
                fs::create_dir(dir.join(format!("d{n}"))).expect("made");
                fs::write(dir.join(format!("d{n}/chunk")), "sound").expect("space");
            }
            dir
        };
        come(&recording("young_20260201_120000"), &place);
        let Some(agent) = place.heard_by(backend) else {
            continue;
        };
        for n in 0..2 {
            come(&recording(&format!("old{n}_20260101_12000{n}")), &place);
            agent.until("one to go", |root| root["pruned"]["sessions"] == n + 1);
            let there = place.root.join("young_20260201_120000").exists();
            assert!(there, "{}: {}", backend.name(), place.log());
        }
        assert_eq!(agent.stop(), Some(0));
    }
}

/// Many at once, in any order: when all has rested the youngest are there.
#[test]
fn of_many_that_are_made_and_moved_in_at_once_the_youngest_stay() {
    for backend in Backend::ALL {
        let mut place = Place::new();
        place.backend = backend.name();
        place.configure(
            "[root.layout]\n[root.protect]\nquiet = \"0s\"\n[root.limits]\nmax_count = 3",
        );
        let Some(agent) = place.heard_by(backend) else {
            continue;
        };
        // 0 and 1 come last although all others are younger.
        let staged: Vec<_> = (0..9)
            .map(|n| staged(&place, &format!("s{n}"), 80 - n, 0))
            .collect();
        for n in [8, 3, 5, 7, 2, 6, 4, 1, 0] {
            come(&staged[n], &place);
        }
        agent.until("six to go", |root| {
            root["pruned"]["sessions"] == 6 && root["session_count"] == 3
        });
        for n in 6..9 {
            let there = place.root.join(format!("s{n}")).exists();
            assert!(there, "s{n}, {}: {}", backend.name(), place.log());
        }
        assert_eq!(agent.stop(), Some(0));
    }
}

/// Metadata that is never whole is not waited for: the limit holds all the same.
#[test]
fn what_comes_and_cannot_be_read_keeps_nothing_from_going() {
    let place = Place::new();
    place.configure("[root.layout]\n[root.protect]\nquiet = \"0s\"\n[root.limits]\nmax_count = 3");
    for n in 0..3 {
        come(&staged(&place, &format!("s{n}"), 50 - n, 0), &place);
    }
    let odd = staged(&place, "odd", 80, 0);
    fs::write(odd.join("metadata.json"), "{\"created_at\":").expect("space");
    let agent = place.agent();
    come(&odd, &place);
    agent.until("the oldest that is known", |root| {
        root["pruned"]["sessions"] == 1
    });
    let there = |name: &str| place.root.join(name).exists();
    assert!(!there("s0") && there("s1") && there("s2") && there("odd"));
    assert_eq!(agent.stop(), Some(0));
}
