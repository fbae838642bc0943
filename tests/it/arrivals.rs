//! Sessions that come whole from elsewhere count at once; what goes is the oldest all the same,
//! also where that has just come and its metadata is being read.

use crate::support::running::{Place, wait_for};
use housekeeper::model::watcher::Backend;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// So many bytes each, with its metadata.
const SIZE: usize = 1000;

/// A session outside of the root, made so many minutes ago as it says, and a while ago on the disk.
fn staged(place: &Place, name: &str, minutes: i64) -> std::path::PathBuf {
    let dir = place.beside("staging").join(name);
    fs::create_dir_all(&dir).expect("made");
    let at = chrono::Utc::now() - chrono::TimeDelta::minutes(minutes);
    let text = format!("{{\"created_at\":\"{}\"}}", at.to_rfc3339());
    fs::write(dir.join("data"), vec![b'x'; SIZE - text.len()]).expect("space");
    fs::write(dir.join("metadata.json"), text).expect("space");
    dir
}

fn come(from: &Path, place: &Place) {
    let name = from.file_name().expect("a name");
    fs::rename(from, place.root.join(name)).expect("moved");
}

/// Longer ago than what may have been made in its place.
fn is_old_enough(born: &std::io::Result<SystemTime>) -> Result<(), String> {
    let age = born
        .as_ref()
        .map(|at| SystemTime::now().duration_since(*at));
    match age {
        Ok(Ok(age)) if age > Duration::from_millis(1100) => Ok(()),
        _ => Err(format!("{age:?}")),
    }
}

#[test]
fn an_older_session_that_comes_whole_goes_before_a_younger_one() {
    for backend in Backend::ALL {
        for limit in ["max_count = 1", "max_size = 1500"] {
            let mut place = Place::new();
            place.backend = backend.name();
            place.configure(&format!(
                "[root.layout]\n[root.protect]\nquiet = \"0s\"\n[root.limits]\n{limit}"
            ));
            come(&staged(&place, "young", 10), &place);
            let olds: Vec<_> = (0..6)
                .map(|n| staged(&place, &format!("old{n}"), 80 + n))
                .collect();
            // On the disk they are older than their coming, too.
            let made = fs::metadata(&olds[5]).and_then(|meta| meta.created());
            wait_for("a second to pass", || is_old_enough(&made));
            let Some(agent) = place.heard_by(backend) else {
                continue;
            };
            for (n, old) in olds.iter().enumerate() {
                come(old, &place);
                agent.until("one to go", |root| root["pruned"]["sessions"] == n + 1);
                let there = place.root.join("young").exists();
                assert!(there, "{}, {limit}: {}", backend.name(), place.log());
            }
            assert_eq!(agent.stop(), Some(0));
        }
    }
}

/// Metadata that is never whole is not waited for: the limit holds all the same.
#[test]
fn what_comes_and_cannot_be_read_keeps_nothing_from_going() {
    let place = Place::new();
    place.configure("[root.layout]\n[root.protect]\nquiet = \"0s\"\n[root.limits]\nmax_count = 3");
    for n in 0..3 {
        come(&staged(&place, &format!("s{n}"), 50 - n), &place);
    }
    let odd = staged(&place, "odd", 80);
    fs::write(odd.join("metadata.json"), "{\"created_at\":").expect("space");
    let born = fs::metadata(&odd).and_then(|meta| meta.created());
    wait_for("a second to pass", || is_old_enough(&born));
    let agent = place.agent();
    come(&odd, &place);
    agent.until("the oldest that is known", |root| {
        root["pruned"]["sessions"] == 1
    });
    let there = |name: &str| place.root.join(name).exists();
    assert!(!there("s0") && there("s1") && there("s2") && there("odd"));
    assert_eq!(agent.stop(), Some(0));
}
