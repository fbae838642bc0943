//! What a prune makes of traps: T11, T12, T16.

use super::{For, each_backend, stays};
use crate::support::recount;
use crate::support::resting::settled;
use crate::support::running::{Place, make_session};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

/// Four files and the metadata.
const FILES: (u32, usize) = (4, 10_000);

fn configure(place: &Place, n_sessions: u64, quiet: &str) {
    let (n_files, size) = FILES;
    let limit = n_sessions * (u64::from(n_files) * size as u64 + 100);
    place.configure(&format!(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
         [root.limits]\nmax_size = {limit}\n[root.protect]\nquiet = \"{quiet}\""
    ));
}

fn make(place: &Place, name: &str, age_minutes: i64) {
    make_session(
        &place.root,
        &place.beside("staging"),
        name,
        age_minutes,
        FILES,
    );
}

/// T11: the space of a session that somebody holds open is not free after its removal; that
/// is no reason to remove another one.
#[test]
fn a_session_held_open_takes_no_other_one_with_it() {
    each_backend(For::All, |place, backend| {
        configure(place, 4, "0s");
        for n in 0..4 {
            make(place, &format!("s{n}"), 100 - n);
        }
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        let mut held = File::options()
            .append(true)
            .open(place.root.join("s0/f0000"))
            .expect("a file");
        make(place, "s4", 10);
        agent.until("a prune", |root| root["pruned"]["sessions"] == 1);
        held.write_all(&vec![1; 200_000])
            .expect("it still is a file");
        settled(&agent, &place.root);
        stays(Duration::from_millis(300), || {
            let pruned = agent.root()["pruned"]["sessions"].clone();
            (pruned == 1)
                .then_some(())
                .ok_or_else(|| pruned.to_string())
        });
        let left: Vec<_> = recount::sessions(&place.root).into_iter().collect();
        assert_eq!(left, ["s1", "s2", "s3", "s4"]);
    });
}

/// T12: a session goes, what it links to stays.
#[test]
fn a_prune_goes_through_no_symlink() {
    each_backend(For::All, |place, backend| {
        configure(place, 2, "0s");
        let outside = place.beside("outside");
        fs::create_dir(&outside).expect("a directory");
        fs::write(outside.join("file"), "precious").expect("a file");
        for n in 0..2 {
            make(place, &format!("s{n}"), 100 - n);
        }
        symlink(&outside, place.root.join("s0/to-outside")).expect("a link");
        symlink("/", place.root.join("s0/to-everything")).expect("a link");
        let before = recount::snapshot(&outside);
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        make(place, "s2", 10);
        agent.until("a prune and its end", |root| {
            root["pruned"]["sessions"] == 1 && root["trash_bytes"] == 0 && place.trash().is_empty()
        });
        settled(&agent, &place.root);
        assert!(!place.root.join("s0").exists());
        assert_eq!(recount::snapshot(&outside), before);
    });
}

/// T16: a session that is written to now is in use, whatever its files' times say.
#[test]
fn forged_times_do_not_make_a_session_look_unused() {
    each_backend(For::All, |place, backend| {
        configure(place, 2, "1h");
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        for n in 0..3 {
            make(place, &format!("s{n}"), 100 - n);
            for entry in fs::read_dir(place.root.join(format!("s{n}"))).expect("a session") {
                let path = entry.expect("an entry").path();
                let file = File::options().write(true).open(path).expect("a file");
                let time = UNIX_EPOCH + Duration::from_secs(86_400);
                file.set_modified(time).expect("a time");
            }
        }
        // What was just made is not read yet for a moment.
        let status = agent.until("a limit that quiet sessions keep from being met", |root| {
            root["unmet"] == true && root["blocked"][0]["reason"] == "quiet"
        });
        assert_eq!(status["pruned"]["sessions"], 0);
        assert_eq!(recount::sessions(&place.root).len(), 3);
    });
}
