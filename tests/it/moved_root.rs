//! A root that is moved while something removes from it: what is at its path decides, and under
//! another directory's name nothing goes.

use crate::support::running::{Place, make_session};
use housekeeper::agent::survey::{Manner, survey_at};
use housekeeper::clock::SystemClock;
use housekeeper::config::{self, request::Request};
use housekeeper::model::time::{Clock, Now};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;

const N_SESSIONS: usize = 8;

/// Moves the root away, and puts an empty directory in its place, when the time is asked for
/// for the so-manieth time: at any moment of a survey.
#[derive(Debug)]
struct Mover {
    clock: SystemClock,
    root: PathBuf,
    away: PathBuf,
    state: Mutex<Moving>,
}

#[derive(Debug)]
struct Moving {
    left: usize,
    /// How many sessions there were when it was moved.
    n_then: Option<usize>,
}

impl Clock for Mover {
    fn now(&self) -> Now {
        let mut state = self.state.lock().expect("nobody panicked");
        if state.left > 0 {
            state.left -= 1;
        } else if state.n_then.is_none() {
            fs::rename(&self.root, &self.away).expect("it moves");
            fs::create_dir(&self.root).expect("another one");
            state.n_then = Some(sessions(&self.away));
        }
        self.clock.now()
    }
}

fn sessions(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).expect("a directory");
    let is_session = |entry: &fs::DirEntry| entry.file_name() != ".housekeeper";
    entries
        .map(|e| e.expect("an entry"))
        .filter(is_session)
        .count()
}

/// How many went before the root was moved, and after; `None`: it ended before.
fn moved_after(n_calls: usize) -> Option<(usize, usize)> {
    let place = Place::in_memory();
    place.configure(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
         [root.limits]\nmax_count = 2\n[root.protect]\nquiet = \"0s\"",
    );
    for n in 0..N_SESSIONS {
        let age = 100 - i64::try_from(n).expect("small");
        make_session(
            &place.root,
            &place.beside("staging"),
            &format!("s{n}"),
            age,
            (1, 10),
        );
    }
    let request = Request {
        file: Some(place.beside("config.toml")),
        ..Request::default()
    };
    let settings = config::load(&request).expect("a good configuration");
    let manner = Manner {
        enforce: true,
        ..Manner::look(&place.beside("state"))
    };
    let mover = Arc::new(Mover {
        clock: SystemClock::start(),
        root: place.root.clone(),
        away: place.beside("away"),
        state: Mutex::new(Moving {
            left: n_calls,
            n_then: None,
        }),
    });
    if let Ok(survey) = survey_at(&settings.roots[0], manner, mover.clone()) {
        survey.end();
    }
    let n_then = mover.state.lock().expect("nobody panicked").n_then?;
    assert_eq!(
        sessions(&place.root),
        0,
        "what came to the path is untouched"
    );
    Some((N_SESSIONS - n_then, n_then - sessions(&mover.away)))
}

#[test]
fn a_root_that_is_moved_at_any_moment_loses_nothing_more() {
    let (mut n_calls, mut most) = (0, 0);
    while let Some((before, after)) = moved_after(n_calls) {
        // The removal whose moment it was may have looked already.
        assert!(after <= 1, "moved at call {n_calls}: {after} more went");
        most = most.max(before);
        n_calls += 1;
    }
    assert!(
        most > 2,
        "in the middle of it, too: {most} after {n_calls} moments"
    );
}
