//! Bytes that move: the disk is at its limit and never above it, whatever an observer who looks
//! at one name after the other makes of that. Nothing may go.

use super::{For, each_backend};
use crate::support::running::{Agent, Place};
use housekeeper::model::watcher::Backend;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

const N_FILES: u64 = 8;
const UNIT: u64 = 100_000;
const ROUNDS: usize = 300;

/// A session that is the oldest, and one of [`N_FILES`] files; together just what is allowed.
fn full(place: &mut Place, backend: Backend) -> Option<Agent<'_>> {
    let limit = (N_FILES + 1) * UNIT;
    place.configure(&format!(
        "[root.layout]\nrequired = false\n[root.layout.created_at]\nfrom = [\"mtime\"]\n\
         [root.limits]\nmax_size = {limit}\n[root.protect]\nquiet = \"0s\""
    ));
    let root = &place.root;
    fs::create_dir(root.join("old")).expect("a session");
    fill(&root.join("old/f"));
    let old = fs::File::open(root.join("old")).expect("a directory");
    let long_ago = SystemTime::now() - Duration::from_secs(86_400);
    old.set_modified(long_ago).expect("a time");
    fs::create_dir(root.join("a0")).expect("a session");
    for n in 0..N_FILES {
        fill(&root.join(format!("a0/{n}")));
    }
    place.heard_by(backend)
}

fn fill(file: &Path) {
    fs::write(file, vec![1; UNIT as usize]).expect("a file");
}

/// Does something many times; the oldest session stays all the while and afterwards.
fn nothing_goes(round: impl Fn(&Path, usize)) {
    each_backend(For::Hearing, |place, backend| {
        // That crate gives no order between its queues: nobody can say what was told when.
        if backend == Backend::Notify {
            return;
        }
        let root = place.root.clone();
        let Some(agent) = full(place, backend) else {
            return;
        };
        for n in 0..ROUNDS {
            round(&root, n);
            assert!(
                root.join("old").exists(),
                "gone after {n} rounds: {}",
                agent.root()
            );
        }
        let status = agent.until("all is known", |root| root["bytes"] == (N_FILES + 1) * UNIT);
        assert_eq!(status["pruned"]["sessions"], 0, "{status}");
    });
}

fn place_of(root: &Path, n: usize) -> (std::path::PathBuf, std::path::PathBuf) {
    (root.join(format!("a{n}")), root.join(format!("a{}", n + 1)))
}

#[test]
fn files_that_move_into_a_new_session_count_once() {
    nothing_goes(|root, n| {
        let (from, to) = place_of(root, n);
        fs::create_dir(&to).expect("a session");
        for file in 0..N_FILES {
            let name = file.to_string();
            fs::rename(from.join(&name), to.join(&name)).expect("a rename");
        }
        fs::remove_dir(from).expect("removed");
    });
}

#[test]
fn files_that_move_far_down_count_once() {
    nothing_goes(|root, n| {
        let from = root.join(if n == 0 {
            "a0".into()
        } else {
            format!("a{n}/x/y")
        });
        let to = root.join(format!("a{}/x/y", n + 1));
        fs::create_dir_all(&to).expect("directories");
        for file in 0..N_FILES {
            let name = file.to_string();
            fs::rename(from.join(&name), to.join(&name)).expect("a rename");
        }
        fs::remove_dir_all(root.join(format!("a{n}"))).expect("removed");
    });
}

#[test]
fn files_that_are_linked_over_and_unlinked_count_once() {
    nothing_goes(|root, n| {
        let (from, to) = place_of(root, n);
        fs::create_dir(&to).expect("a session");
        for file in 0..N_FILES {
            let name = file.to_string();
            fs::hard_link(from.join(&name), to.join(&name)).expect("a link");
        }
        fs::remove_dir_all(from).expect("removed");
    });
}

/// What is written takes the room of what was removed before.
#[test]
fn room_that_was_made_may_be_used() {
    nothing_goes(|root, n| {
        let gone = n as u64 % N_FILES;
        fs::remove_file(root.join(format!("a0/{gone}"))).expect("removed");
        fill(&root.join(format!("a0/{gone}")));
        // The same in the other order of names, and by truncation.
        let shrunk = root.join(format!("a0/{}", (gone + 3) % N_FILES));
        let file = fs::File::options()
            .write(true)
            .open(&shrunk)
            .expect("a file");
        file.set_len(0).expect("truncated");
        fs::write(root.join("a0/temporary"), vec![1; UNIT as usize]).expect("a file");
        fs::remove_file(root.join("a0/temporary")).expect("removed");
        file.set_len(UNIT).expect("grown");
    });
}
