//! Nothing happens, and so the agent does nothing: T19, T24.

use super::{For, each_backend, n_switches, stays};
use crate::support::resting::{nothing_lost, number, settled};
use crate::support::running::{Agent, Place};
use std::fs;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(2);
/// A guard may look now and then; a scan, or hearing oneself, is thousands.
const MOST_SWITCHES: u64 = 100;

/// Neither wake-ups nor log lines while nobody writes.
fn is_idle(agent: &Agent<'_>, place: &Place, is_alone: bool) {
    let (switches, log) = (n_switches(agent), place.log());
    stays(WINDOW, || {
        let n = n_switches(agent) - switches;
        // Others on the file system are heard by a mark on the whole of it.
        if is_alone && n > MOST_SWITCHES {
            return Err(format!("{n} context switches"));
        }
        let more = place.log().split_off(log.len());
        if more.is_empty() { Ok(()) } else { Err(more) }
    });
}

/// T19: a big tree at rest. `TRAPS_DIRS` makes it bigger.
#[test]
fn a_tree_of_twenty_thousand_directories_is_quiet() {
    let n_dirs = number("TRAPS_DIRS", 20_000);
    each_backend(For::Hearing, |place, backend| {
        place.configure("");
        for n in 0..n_dirs {
            let dir = place.root.join(format!("s{}/d{n}", n % 100));
            fs::create_dir_all(dir).expect("directories");
        }
        fs::write(place.root.join("s0/f"), [1; 10]).expect("a file");
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        let start = settled(&agent, &place.root);
        assert_eq!(start["watch"]["coverage"], 1.0, "{start}");
        assert_eq!(
            start["watch"]["lost"], 0,
            "of its own walk nothing is heard"
        );
        assert_eq!(place.told("cycle.start").len(), 1);
        is_idle(
            &agent,
            place,
            backend != housekeeper::model::watcher::Backend::Fanotify,
        );
        nothing_lost(&start, &agent.root());
    });
}

/// T24: the log, most detailed, and the state lie on the file system that is watched.
#[test]
fn the_agent_does_not_hear_itself() {
    each_backend(For::Hearing, |_, backend| {
        let mut place = Place::new();
        place.backend = backend.name();
        place.wrapper = ["env", "HOUSEKEEPER_LOG_LEVEL=trace"]
            .map(str::to_owned)
            .to_vec();
        place.configure("[root.limits]\nmax_count = 3\n[root.protect]\nquiet = \"0s\"");
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        fs::create_dir(place.root.join("s")).expect("a session");
        fs::write(place.root.join("s/f"), [1; 10]).expect("a file");
        let start = settled(&agent, &place.root);
        is_idle(
            &agent,
            &place,
            backend != housekeeper::model::watcher::Backend::Fanotify,
        );
        nothing_lost(&start, &agent.root());
    });
}
