//! Locks of other programs, as long as they are held.

use super::ground;
use crate::disk::foreign_lock::take;
use crate::model::time::{Now, Tick, Time};
use rustix::io::Errno;
use std::time::Duration;

const NAME: &[u8] = b".prune_size.lock";
const STALE: Duration = Duration::from_secs(3600);

fn now() -> Now {
    Now {
        wall: Time::from(std::time::SystemTime::now()),
        tick: Tick::default(),
    }
}

#[test]
fn a_foreign_lock_is_there_while_it_is_held() {
    let ground = ground();
    let there = ground.root.join(".prune_size.lock");
    let held = take(&ground.tree, NAME, STALE, now()).expect("free");
    let text = std::fs::read_to_string(&there).expect("the lock");
    assert!(text.contains("by=housekeeper"), "{text}");
    held.expect("taken").release().expect("ours");
    assert!(!there.exists());
}

#[test]
fn a_foreign_lock_that_was_replaced_stays_lost() {
    let ground = ground();
    let held = take(&ground.tree, NAME, STALE, now()).expect("free");
    let mut held = held.expect("taken");
    let (there, other) = (
        ground.root.join(".prune_size.lock"),
        ground.root.join("other"),
    );
    std::fs::write(&other, "pid=1").expect("written");
    std::fs::rename(&other, &there).expect("renamed");
    let late = Now {
        tick: Tick::default().after(Duration::from_secs(60)),
        ..now()
    };
    // For each victim anew: one that was asked about does not vouch for the next.
    for _ in 0..3 {
        assert_eq!(held.touch(late), Err(Errno::STALE));
    }
}
