//! A new directory listed at once: all of it, or left to a walk.

use super::{Ground, ground, rel};
use crate::disk::brief::{Brief, MAX_ENTRIES, list_briefly};
use crate::model::listing::{ScanId, ScanOrder, Watched};
use crate::model::path::RelPath;
use crate::model::seen::FileId;
use crate::model::watcher::{Backend, DirKey, Watch, WatchError, Watcher};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::symlink;

/// Places watches at once, or would have to wait.
struct AtOnce(bool);

impl Watcher for AtOnce {
    fn backend(&self) -> Backend {
        Backend::Inotify
    }
    fn watch(&self, _: &RelPath, _: BorrowedFd<'_>, _: FileId) -> Result<Watch, WatchError> {
        Err(WatchError::Exhausted)
    }
    fn watch_now(&self, _: &RelPath, _: BorrowedFd<'_>) -> Option<Watch> {
        self.0.then_some(PLACED)
    }
    fn unwatch(&self, _: &RelPath, _: Watch) {}
    fn n_watches(&self) -> usize {
        0
    }
}

const PLACED: Watch = Watch {
    generation: 3,
    key: DirKey(7),
};

fn brief(ground: &Ground, at: &str) -> Option<Brief> {
    let order = ScanOrder {
        id: ScanId(7),
        at: rel(at),
        reads: false,
    };
    list_briefly(&ground.tree, &order, &AtOnce(true))
}

#[test]
fn a_small_directory_is_listed_whole() {
    let ground = ground();
    for n in 0..MAX_ENTRIES {
        ground.write(&format!("s/f{n}"), b"data");
    }
    let Brief { listing, more } = brief(&ground, "s").expect("it is listed");
    assert_eq!(listing.watched, Watched::Placed(PLACED));
    assert_eq!(listing.len(), MAX_ENTRIES);
    assert!(listing.first && listing.last && !more);
}

#[test]
fn what_is_bigger_or_deeper_or_has_other_names_is_walked_as_well() {
    let ground = ground();
    for n in 0..=MAX_ENTRIES {
        ground.write(&format!("big/f{n}"), b"");
    }
    ground.write("deep/below/data", b"");
    ground.write("linked/data", b"");
    let (data, other) = (ground.root.join("linked/data"), ground.root.join("other"));
    std::fs::hard_link(data, other).expect("a link");
    for at in ["big", "deep", "linked"] {
        let Brief { listing, more } = brief(&ground, at).expect("it is watched");
        assert!(more && !listing.last, "{at}");
        assert!(listing.len() <= MAX_ENTRIES);
    }
}

#[test]
fn nothing_is_done_where_a_walk_has_to_say_what_is_wrong() {
    let ground = ground();
    ground.write("s/data", b"");
    symlink(&ground.outside, ground.root.join("away")).expect("a symlink");
    assert!(brief(&ground, "away").is_none());
    assert!(brief(&ground, "gone").is_none());
    assert!(brief(&ground, "s/data").is_none());
    let order = ScanOrder {
        id: ScanId(7),
        at: rel("s"),
        reads: false,
    };
    assert!(list_briefly(&ground.tree, &order, &AtOnce(false)).is_none());
}
