//! Files that are kept together, on a real disk: each comes back with the others or not at all.

use super::{Ground, ground, rel};
use crate::disk::kept::{let_go, list, sweep, unbundle};
use crate::disk::remove::{leftovers, strangers};
use crate::disk::tree::CONTROL;
use crate::model::disk::{Bundles, Moved};
use crate::model::report::AsideName;
use crate::model::seen::FileId;
use rustix::fs::{FlockOperation, flock};
use std::path::PathBuf;

const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn names(names: &[&str]) -> Vec<Box<[u8]>> {
    names.iter().map(|name| name.as_bytes().into()).collect()
}

fn errno<T: std::fmt::Debug>(done: std::io::Result<T>) -> i32 {
    let error = done.expect_err("it is refused");
    error.raw_os_error().expect("by the kernel")
}

fn kept(ground: &Ground) -> PathBuf {
    ground.root.join(CONTROL).join("kept")
}

/// `a/x` and `a/y`, kept together.
fn two_kept() -> (Ground, AsideName) {
    let ground = ground();
    let (name, held) = ground.tree.make_bundle(ULID).expect("made");
    for path in ["a/x", "a/y"] {
        ground.write(path, path.as_bytes());
        let id = ground.stat(path).id;
        let moved = ground.tree.bundle(&rel(path), id, &name);
        assert_eq!(moved.expect("a rename"), Moved::Aside);
    }
    drop(held);
    (ground, name)
}

#[test]
fn files_come_back_together_and_nothing_is_left_of_their_place() {
    let (ground, name) = two_kept();
    assert_eq!(list(&ground.tree).expect("kept").first(), Some(&name));
    let missing = unbundle(&ground.tree, &name, &rel("a"), &names(&["x", "y"]));
    assert_eq!(missing.expect("free"), names(&[]));
    for path in ["a/x", "a/y"] {
        let text = std::fs::read(ground.root.join(path)).expect("it is back");
        assert_eq!(text, path.as_bytes());
    }
    assert_eq!(std::fs::read_dir(kept(&ground)).expect("kept").count(), 0);
    // Again there is nothing to be had.
    let again = unbundle(&ground.tree, &name, &rel("a"), &names(&["x", "y"]));
    assert_eq!(errno(again), libc::ENOENT);
}

#[test]
fn where_one_cannot_come_back_none_does() {
    let (ground, name) = two_kept();
    ground.write("a/y", b"foreign");
    let back = unbundle(&ground.tree, &name, &rel("a"), &names(&["x", "y"]));
    assert_eq!(errno(back), libc::EEXIST);
    assert!(!ground.root.join("a/x").exists());
    assert!(kept(&ground).join(&name.0).join("x").exists());
    let foreign = std::fs::read(ground.root.join("a/y"));
    assert_eq!(foreign.expect("there"), b"foreign");
}

#[test]
fn who_brings_back_and_who_keeps_or_lets_go_are_kept_apart() {
    let (ground, name) = two_kept();
    let back = || unbundle(&ground.tree, &name, &rel("a"), &names(&["x", "y"]));
    let held = ground.tree.make_bundle("01ARZ3NDEKTSV4RRFFQ69G5FAW");
    let (other, held) = held.expect("made");
    assert_eq!(errno(back()), libc::EAGAIN);
    // Several may be kept and let go of at once.
    ground.tree.drop_bundle(&other).expect("empty");
    let also = ground.tree.make_bundle("01ARZ3NDEKTSV4RRFFQ69G5FAX");
    drop((held, also.expect("made")));
    let dir = std::fs::File::open(kept(&ground)).expect("kept");
    flock(&dir, FlockOperation::NonBlockingLockExclusive).expect("free");
    let gone = let_go(&ground.tree, &name);
    assert_eq!(errno(gone), libc::EAGAIN);
    assert_eq!(errno(ground.tree.make_bundle(ULID)), libc::EAGAIN);
    drop(dir);
    assert!(let_go(&ground.tree, &name).expect("let go of"));
    assert_eq!(errno(back()), libc::ENOENT);
}

#[test]
fn a_file_that_was_swapped_in_goes_back() {
    let (ground, name) = two_kept();
    ground.write("a/z", b"foreign");
    let other = FileId {
        ino: ground.stat("a/z").id.ino + 1,
        ..ground.stat("a/z").id
    };
    let moved = ground.tree.bundle(&rel("a/z"), other, &name);
    assert_eq!(moved.expect("a rename"), Moved::Back);
    let foreign = std::fs::read(ground.root.join("a/z"));
    assert_eq!(foreign.expect("there"), b"foreign");
}

#[test]
fn what_is_empty_is_swept_and_nothing_else() {
    let (ground, name) = two_kept();
    for new in ["01ARZ3NDEKTSV4RRFFQ69G5FAW", "01ARZ3NDEKTSV4RRFFQ69G5FAX"] {
        std::fs::create_dir(kept(&ground).join(new)).expect("made");
    }
    let full = kept(&ground).join("01ARZ3NDEKTSV4RRFFQ69G5FAX/f");
    std::fs::write(&full, b"somebody's").expect("written");
    sweep(&ground.tree).expect("swept");
    assert_eq!(std::fs::read_dir(kept(&ground)).expect("kept").count(), 2);
    assert!(full.exists());
    assert_eq!(errno(ground.tree.drop_bundle(&name)), libc::ENOTEMPTY);
}

#[test]
fn strangers_are_found_in_the_trash_and_among_what_is_kept() {
    let (ground, name) = two_kept();
    let found = strangers(&ground.tree, 10).expect("own directories");
    assert!(found.is_empty(), "{found:?}");
    let stranger = format!("{ULID}-1-2");
    for bin in ["trash", "kept"] {
        let path = ground.root.join(CONTROL).join(bin).join(&stranger);
        std::fs::write(path, b"12345").expect("written");
    }
    let found = strangers(&ground.tree, 10).expect("own directories");
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [format!("trash/{stranger}"), format!("kept/{stranger}")]
    );
    assert!(found.iter().all(|(_, bytes)| bytes.apparent == 5));
    assert_eq!(strangers(&ground.tree, 1).expect("own").len(), 1);
    // None of them is removed, and what is ours is no stranger.
    assert_eq!(leftovers(&ground.tree).expect("a trash").asides, []);
    assert_eq!(list(&ground.tree).expect("kept"), [name]);
}
