//! Setting aside, removing and editing: what is outside, or not ours, stays.

use super::{Ground, bind, ground, mkfifo, rel, skipped};
use crate::disk::catalogue_edit::{Recovery, edit_catalogue, recover};
use crate::disk::in_place::{remove_files_in_place, remove_in_place};
use crate::disk::kept;
use crate::disk::measure::measured;
use crate::disk::records::RecordDir;
use crate::disk::remove::{leftovers, remove_aside};
use crate::disk::removed::RemovedIds;
use crate::disk::tree::CONTROL;
use crate::model::disk::{Disk, Lasting, Moved, Records};
use crate::model::report::{Aside, AsideName, Removed, Unlist};
use crate::model::seen::{FileId, Inode, Seen, Stat};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

impl Ground {
    pub(super) fn stat(&self, path: &str) -> Stat {
        match self.tree.look(&rel(path)) {
            Seen::There(stat) => stat,
            seen => panic!("{path}: {seen:?}"),
        }
    }

    fn aside(&self, path: &str) -> Aside {
        let id = self.stat(path).id;
        let aside = Aside::Trash(AsideName::new(ULID, id));
        let moved = self.tree.set_aside(&rel(path), &aside).expect("a rename");
        assert_eq!(moved, Moved::Aside);
        aside
    }

    fn trash(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join(CONTROL).join("trash"));
        let mut names: Vec<String> = entries
            .expect("a trash")
            .map(|entry| entry.expect("an entry").file_name().into_string())
            .collect::<Result<_, _>>()
            .expect("plain names");
        names.sort();
        names
    }

    fn removed(&self, aside: &Aside) -> (u64, Vec<(String, i32)>) {
        match remove_aside(&self.tree, aside) {
            Removed::Trash { bytes, left, .. } => (bytes, left),
            removed => panic!("{removed:?}"),
        }
    }
}

#[test]
fn a_session_goes_with_all_kinds_of_things_in_it_and_nothing_outside() {
    let ground = ground();
    ground.write("a/s/data", b"12345");
    ground.write("a/s/sub/more", b"123");
    mkfifo(&ground.root.join("a/s/fifo"));
    symlink(&ground.outside, ground.root.join("a/s/link")).expect("a symlink");
    symlink(&ground.outside, ground.root.join("a/s/sub/link")).expect("a symlink");
    let aside = ground.aside("a/s");
    assert_eq!(ground.tree.look(&rel("a/s")), Seen::Gone);
    assert_eq!(ground.removed(&aside), (8, vec![]));
    assert_eq!(ground.removed(&aside), (0, vec![]), "gone is success");
    assert!(ground.trash().is_empty() && ground.precious_is_there());
}

#[test]
fn nothing_is_set_aside_through_a_symlink() {
    let ground = ground();
    symlink(&ground.outside, ground.root.join("link")).expect("a symlink");
    let id = FileId { dev: 1, ino: 1 };
    let aside = Aside::Trash(AsideName::new(ULID, id));
    let path = rel("link/precious");
    assert!(ground.tree.set_aside(&path, &aside).is_err());
    assert!(ground.tree.open(&rel("link")).is_err());
    assert!(ground.precious_is_there());
    let inode = Inode { id, birth: None };
    let left = remove_in_place(&ground.tree, &rel("link"), inode, &[]);
    assert_eq!(left, [("link".to_string(), libc::ENOTDIR)]);
    assert!(ground.precious_is_there());
}

#[test]
fn a_stranger_goes_back_or_is_kept() {
    let ground = ground();
    ground.write("s/data", b"");
    // Named for another inode: what is taken is a stranger.
    let aside = Aside::Trash(AsideName::new(ULID, FileId { dev: 1, ino: 1 }));
    let path = rel("s");
    let moved = ground.tree.set_aside(&path, &aside).expect("a rename");
    assert_eq!(moved, Moved::Back);
    assert!(ground.root.join("s/data").exists());
    let taken = ground.tree.take(&path, &aside).expect("a rename");
    ground.write("s/new", b"");
    assert_eq!(taken.give_back(), Moved::Kept);
    let left = leftovers(&ground.tree).expect("a trash");
    assert!(left.asides.is_empty() && left.strangers.len() == 1);
    assert!(ground.trash()[0].starts_with("kept-"));
}

#[test]
fn leftovers_are_what_their_names_say() {
    let ground = ground();
    ground.write("s/data", b"");
    let ours = ground.aside("s");
    let false_name = Aside::Trash(AsideName::new(ULID, FileId { dev: 1, ino: 1 }));
    let trash = format!("{CONTROL}/trash");
    ground.write(&format!("{trash}/{}/data", false_name.file_name()), b"");
    ground.write(&format!("{trash}/other/data"), b"");
    let left = leftovers(&ground.tree).expect("a trash");
    assert_eq!(left.asides, [ours]);
    assert_eq!(left.strangers.len(), 2);
    let (_, refused) = ground.removed(&false_name);
    assert_eq!(refused, [(false_name.file_name(), libc::ESTALE)]);
    assert_eq!(ground.trash().len(), 3);
}

#[test]
fn five_thousand_levels_are_removed() {
    let ground = ground();
    // Deeper than a path can say: made from descriptors.
    let mut dir = rustix::fs::open(
        &ground.root,
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .expect("the root");
    for _ in 0..5000 {
        rustix::fs::mkdirat(&dir, "d", rustix::fs::Mode::RWXU).expect("a directory");
        dir = rustix::fs::openat(
            &dir,
            "d",
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .expect("a directory");
    }
    drop(dir);
    let aside = ground.aside("d");
    assert_eq!(ground.removed(&aside).1, []);
    assert!(ground.trash().is_empty());
}

#[test]
fn a_bind_mount_in_the_trash_stays_whole() {
    let ground = ground();
    ground.write("s/data", b"");
    ground.write("s/file", b"");
    std::fs::create_dir(ground.root.join("s/mnt")).expect("a directory");
    let Some(_dir) = bind(&ground.outside, &ground.root.join("s/mnt")) else {
        return;
    };
    // The directory above a mount point may be renamed, the mount goes with it.
    let aside = ground.aside("s");
    let (_, left) = ground.removed(&aside);
    let names: Vec<i32> = left.iter().map(|(_, errno)| *errno).collect();
    assert_eq!(names, [libc::EXDEV, libc::ENOTEMPTY]);
    assert!(ground.precious_is_there());
    std::fs::rename(
        ground
            .root
            .join(CONTROL)
            .join("trash")
            .join(aside.file_name()),
        ground.root.join("s"),
    )
    .expect("back, so that it can be unmounted");
}

/// An immutable file, undone in the end.
struct Immutable(PathBuf);

impl Immutable {
    fn new(path: PathBuf) -> Option<Self> {
        let done = std::process::Command::new("chattr")
            .arg("+i")
            .arg(&path)
            .output();
        if done.as_ref().is_ok_and(|done| done.status.success()) {
            return Some(Self(path));
        }
        skipped("no immutable files", &done);
        None
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let undone = std::process::Command::new("chattr")
            .arg("-i")
            .arg(&self.0)
            .status();
        assert!(undone.is_ok_and(|status| status.success()));
    }
}

#[test]
fn what_cannot_go_is_named_and_the_rest_goes() {
    let ground = ground();
    for n in 0..40 {
        ground.write(&format!("s/{n}/data"), b"1");
    }
    ground.write("s/deep/er/stays", b"1");
    let stays = ground.root.join("s/deep/er/stays");
    let aside = ground.aside("s");
    let trash = ground.root.join(CONTROL).join("trash");
    let before = trash.join(aside.file_name()).join("deep/er/stays");
    let Some(mut immutable) = Immutable::new(before) else {
        return;
    };
    let (bytes, left) = ground.removed(&aside);
    // Its directory was lifted into the trash: there it is named, and found again.
    let place = left[0].0.clone();
    immutable.0 = trash.join(&place);
    assert_eq!(bytes, 40);
    assert!(
        place.ends_with("/stays") && left[0].1 == libc::EPERM,
        "{left:?}"
    );
    assert!(!stays.exists() && !trash.join(aside.file_name()).exists());
    drop(immutable);
    let asides = leftovers(&ground.tree).expect("a trash").asides;
    let bytes: u64 = asides.iter().map(|aside| ground.removed(aside).0).sum();
    assert_eq!(bytes, 1);
    assert!(ground.trash().is_empty());
}

#[test]
fn directories_without_rights_are_removed() {
    let ground = ground();
    for (dir, mode) in [("a", 0o000), ("b", 0o500), ("c", 0o400)] {
        ground.write(&format!("s/{dir}/data"), b"1");
        let path = ground.root.join("s").join(dir);
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
    }
    let aside = ground.aside("s");
    assert_eq!(ground.removed(&aside).1, []);
    assert!(ground.trash().is_empty());
}

#[test]
fn in_place_the_metadata_goes_last_and_a_stranger_stays() {
    let ground = ground();
    ground.write("s/data/x", b"");
    ground.write("s/meta", b"");
    let wrong = Inode {
        id: ground.stat("s/meta").id,
        birth: None,
    };
    let last = [Box::from(&b"meta"[..])];
    let left = remove_in_place(&ground.tree, &rel("s"), wrong, &last);
    assert_eq!(left, [("s".to_string(), libc::ESTALE)]);
    let inode = ground.stat("s").inode();
    if let Some(_stays) = Immutable::new(ground.root.join("s/data/x")) {
        let left = remove_in_place(&ground.tree, &rel("s"), inode, &last);
        assert_eq!(left[0], ("s/data/x".to_string(), libc::EPERM));
        assert!(
            ground.root.join("s/meta").exists(),
            "it stays with the data"
        );
    }
    assert_eq!(remove_in_place(&ground.tree, &rel("s"), inode, &last), []);
    assert!(!ground.root.join("s").exists());
    assert_eq!(remove_in_place(&ground.tree, &rel("s"), inode, &last), []);
}

#[test]
fn files_in_place_go_by_inode() {
    let ground = ground();
    ground.write("a.wav", b"a");
    ground.write("b.wav", b"b");
    let a = ground.stat("a.wav").inode();
    let files = [(Box::from(&b"a.wav"[..]), a), (Box::from(&b"b.wav"[..]), a)];
    let left = remove_files_in_place(&ground.tree, &rel(""), &files);
    assert_eq!(left, []);
    assert!(!ground.root.join("a.wav").exists() && ground.root.join("b.wav").exists());
}

const OLD: &[u8] = br#"{"a":{"n":1},"b":{"n":2},"c":{"n":3}}"#;
const NEW: &[u8] = br#"{"b":{"n":2},"c":{"n":3}}"#;

/// Edits, although a child that another test is about to start may have every file of this
/// process open for a moment. Where there never is a lease the last answer says so.
fn edit_in_the_end(ground: &Ground, edit: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Unlist {
    let mut done = Unlist::Done;
    for _ in 0..10_000 {
        done = edit_catalogue(&ground.tree, b"m.json", edit);
        if done != Unlist::NoLease(libc::EAGAIN) {
            break;
        }
        std::thread::yield_now();
    }
    done
}

#[test]
fn a_catalogue_is_edited_under_a_lease_only() {
    let ground = ground();
    ground.write("m.json", OLD);
    let path = ground.root.join("m.json");
    let reader = std::fs::File::open(&path).expect("a file");
    let mut edit = |_: &[u8]| Some(NEW.to_vec());
    let refused = edit_catalogue(&ground.tree, b"m.json", &mut edit);
    assert_eq!(refused, Unlist::NoLease(libc::EAGAIN));
    assert_eq!(std::fs::read(&path).expect("a file"), OLD);
    drop(reader);
    match edit_in_the_end(&ground, &mut edit) {
        Unlist::NoLease(errno) => return skipped("no leases", &errno),
        done => assert_eq!(done, Unlist::Done),
    }
    assert_eq!(std::fs::read(&path).expect("a file"), NEW);
    let unparsable = edit_in_the_end(&ground, &mut |_| None);
    assert_eq!(unparsable, Unlist::Unparsable);
    assert_eq!(recover(&ground.tree, b"m.json"), Ok(Recovery::Nothing));
}

#[test]
fn a_catalogue_that_is_a_symlink_is_not_edited() {
    let ground = ground();
    symlink(ground.outside.join("precious"), ground.root.join("m.json")).expect("a symlink");
    let done = edit_catalogue(&ground.tree, b"m.json", &mut |_| Some(Vec::new()));
    assert!(matches!(
        done,
        Unlist::Failed {
            errno: libc::ELOOP,
            ..
        }
    ));
    assert!(ground.precious_is_there());
}

#[test]
fn an_owner_without_locks_loses_no_save() {
    let ground = ground();
    ground.write("m.json", b"0");
    let path = ground.root.join("m.json");
    let owner = std::thread::spawn(move || {
        for n in 1..=300u32 {
            std::fs::write(&path, n.to_string()).expect("the owner's file");
            let read = std::fs::read_to_string(&path).expect("the owner's file");
            let read = read.trim_end_matches('x');
            assert_eq!(read, n.to_string(), "overwritten");
        }
    });
    let mut n_done = 0;
    while !owner.is_finished() {
        // Appends a letter: an edit of an older text would be seen by the owner.
        let done = edit_catalogue(&ground.tree, b"m.json", &mut |text| {
            Some([text, b"x"].concat())
        });
        n_done += u32::from(done == Unlist::Done);
    }
    owner.join().expect("no save was lost");
    if n_done == 0 {
        skipped("no lease was got", &n_done);
    }
}

#[test]
fn a_torn_catalogue_is_completed_and_a_newer_one_is_left() {
    let ground = ground();
    let newer: &[u8] = br#"{"d":{"n":9},"a":{"n":1},"b":{"n":2}}"#;
    let mut cases = vec![
        (OLD.to_vec(), OLD.to_vec()),
        (NEW.to_vec(), NEW.to_vec()),
        (newer.to_vec(), newer.to_vec()),
        (b"".to_vec(), b"".to_vec()),
    ];
    for n in 0..=NEW.len() {
        let torn = [&NEW[..n], &OLD[n..]].concat();
        let whole = if torn == OLD { OLD } else { NEW };
        cases.push((torn, whole.to_vec()));
    }
    for (there, then) in cases {
        ground.write("m.json", &there);
        ground.write(".housekeeper/trash/.x", b"");
        ground.write(".housekeeper/catalogue.old", OLD);
        ground.write(".housekeeper/catalogue.new", NEW);
        match recover(&ground.tree, b"m.json") {
            Ok(Recovery::Later(errno)) => return skipped("no leases", &errno),
            Ok(Recovery::Completed) => assert_ne!(there, then),
            recovery => assert_eq!(recovery, Ok(Recovery::LeftAsItIs)),
        }
        let text = std::fs::read(ground.root.join("m.json")).expect("a file");
        assert_eq!(text, then, "{there:?}");
        assert!(!ground.root.join(".housekeeper/catalogue.new").exists());
    }
}

#[test]
fn records_are_kept_in_the_root_or_else_in_the_state() {
    let ground = ground();
    let state = ground.outside.join("state");
    let records = RecordDir::new(ground.tree.clone(), Some(state.clone()));
    assert_eq!(records.all().expect("none"), []);
    assert!(!ground.root.join(CONTROL).exists(), "listing makes nothing");
    records.save("1", b"one", Lasting::Process).expect("saved");
    assert!(
        records.save("1", b"two", Lasting::Process).is_ok(),
        "the state has it then"
    );
    records.save("0", b"zero", Lasting::Power).expect("saved");
    let names: Vec<_> = records
        .all()
        .expect("three")
        .into_iter()
        .map(|one| one.0)
        .collect();
    assert_eq!(names, ["0", "1", "1"]);
    records.discard("1").expect("gone");
    records.discard("1").expect("gone is success");
    assert_eq!(records.all().expect("one").len(), 1);
    std::fs::remove_dir_all(ground.root.join(CONTROL)).expect("ours");
    std::fs::write(ground.root.join(CONTROL), b"").expect("in the way");
    assert!(ground.tree.in_place().expect("in place"));
    records
        .save("2", b"two", Lasting::Process)
        .expect("in the state");
    assert!(state.join("2").exists());
}

#[test]
fn removed_ids_are_remembered() {
    let ground = ground();
    let mut removed = RemovedIds::load(ground.tree.clone()).expect("empty");
    let odd = b"a\n\"\xFF";
    removed.add(&[&b"one"[..], odd]).expect("written");
    removed.add(&[&b"one"[..]]).expect("known");
    let again = RemovedIds::load(ground.tree.clone()).expect("read");
    assert!(again.contains(b"one") && again.contains(odd) && !again.contains(b"two"));
}

/// Where the race of [`what_leaves_a_session_keeps_its_contents`] takes the directory.
struct Race {
    inside: PathBuf,
    outside: PathBuf,
}

impl Race {
    const N_FILES: usize = 300;

    fn n_files(dir: &std::path::Path) -> usize {
        std::fs::read_dir(dir).map_or(0, Iterator::count)
    }

    /// Takes the directory out of the session, and in again, until the session's end, or until
    /// it has been out so often: then it stays out. What was in it at its last way out.
    fn keep_moving(&self, n_times: usize) -> Option<usize> {
        // The removal is at work when the first file is gone.
        while Self::n_files(&self.inside) == Self::N_FILES {
            std::thread::yield_now();
        }
        for n in 1..=n_times {
            std::fs::rename(&self.inside, &self.outside).ok()?;
            let first = Self::n_files(&self.outside);
            if n == n_times {
                return Some(first);
            }
            let then = Self::n_files(&self.outside);
            assert!(first - then <= 1, "{first} files were outside, now {then}");
            if std::fs::rename(&self.outside, &self.inside).is_err() {
                return Some(first);
            }
        }
        None
    }
}

#[test]
fn what_leaves_a_session_keeps_its_contents() {
    let mut n_saved = 0;
    for round in 0..20 {
        let ground = ground();
        if round % 4 == 3 {
            ground.tree.control().expect("a trash");
        }
        ground.write("s/meta", b"");
        for n in 0..Race::N_FILES {
            ground.write(&format!("s/sub/deep/f{n:04}"), b"x");
        }
        let race = Race {
            inside: ground.root.join("s/sub/deep"),
            outside: ground.outside.join("deep"),
        };
        let inode = ground.stat("s").inode();
        let last = [Box::from(&b"meta"[..])];
        let left = std::thread::scope(|scope| {
            let mover = scope.spawn(|| race.keep_moving(1 + round % 5));
            let left = remove_in_place(&ground.tree, &rel("s"), inode, &last);
            let there = mover.join().expect("nothing vanished");
            if let Some(there) = there {
                let then = Race::n_files(&race.outside);
                assert!(there - then <= 1, "{there} files were outside, now {then}");
                n_saved += usize::from(then > 1);
            }
            left
        });
        // What came in again while its directory was being removed may be left.
        if left.is_empty() {
            assert!(!ground.root.join("s").exists());
        } else {
            assert!(ground.root.join("s/meta").exists(), "{left:?}");
        }
        if round % 4 == 3 {
            assert_eq!(ground.trash(), Vec::<String>::new());
        }
    }
    assert!(n_saved > 2, "it never left in the middle: {n_saved}");
}

#[test]
fn names_to_go_last_cannot_point_elsewhere() {
    let ground = ground();
    ground.write("s/data", b"");
    ground.write("other", b"");
    let inode = ground.stat("s").inode();
    let last = [
        Box::from(&b"../other"[..]),
        Box::from(&b"../../outside/precious"[..]),
    ];
    let left = remove_in_place(&ground.tree, &rel("s"), inode, &last);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(ground.root.join("other").exists() && ground.precious_is_there());
}

#[test]
fn in_place_many_levels_and_names_go() {
    let ground = ground();
    ground.write(&format!("s/{}data", "d/".repeat(300)), b"1");
    for n in 0..5000 {
        ground.write(&format!("s/wide/{n}"), b"");
    }
    for (dir, mode) in [("a", 0o000), ("b", 0o500)] {
        ground.write(&format!("s/{dir}/data"), b"1");
        let path = ground.root.join("s").join(dir);
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
    }
    symlink(&ground.outside, ground.root.join("s/link")).expect("a symlink");
    let inode = ground.stat("s").inode();
    assert_eq!(remove_in_place(&ground.tree, &rel("s"), inode, &[]), []);
    assert!(!ground.root.join("s").exists() && ground.precious_is_there());
    assert!(!ground.root.join(CONTROL).exists(), "nothing was made");
}

/// A file goes and comes back in its own directory, and a stranger under its name stays there.
#[test]
fn a_file_is_set_aside_beside_its_place() {
    let ground = ground();
    ground.write("a/f", b"12345");
    let id = ground.stat("a/f").id;
    let aside = Aside::Beside(rel("a"), AsideName::new(ULID, id));
    let path = rel("a/f");
    let take = || ground.tree.take(&path, &aside).expect("a rename");
    let taken = take();
    let beside = aside.beside().expect("a path");
    assert_eq!(ground.stat(&beside.to_string()).id, id);
    assert!(!ground.root.join(CONTROL).exists(), "no directory is made");
    assert_eq!(taken.give_back(), Moved::Back);
    assert_eq!(ground.stat("a/f").id, id);
    assert_eq!(
        ground.tree.set_aside(&path, &aside).expect("a rename"),
        Moved::Aside
    );
    ground.write("a/f", b"new");
    // Made before an inode number is free again.
    ground.write("a/other", b"precious");
    assert_eq!(ground.removed(&aside), (5, vec![]));
    assert_eq!(ground.removed(&aside), (0, vec![]), "gone is success");
    // Another inode has the name: it is not removed, and gets a name that nothing removes.
    let other = ground.root.join("a/other");
    std::fs::rename(other, ground.root.join(beside.to_string())).expect("it moves");
    let left = vec![(beside.to_string(), libc::ESTALE)];
    assert_eq!(ground.removed(&aside), (0, left));
    assert_eq!(ground.stat("a/f").apparent, 3);
}

/// Where it came from is the directory that was open when it was taken, not what has its path.
#[test]
fn a_stranger_goes_back_into_the_directory_that_it_was_taken_from() {
    for is_free in [true, false] {
        let ground = ground();
        ground.write("a/f", b"strange");
        let id = ground.stat("a/f").id;
        let (path, stranger) = (rel("a/f"), FileId { dev: 1, ino: 1 });
        let aside = Aside::Beside(rel("a"), AsideName::new(ULID, stranger));
        let taken = ground.tree.take(&path, &aside).expect("a rename");
        std::fs::rename(ground.root.join("a"), ground.root.join("b")).expect("it moves");
        ground.write("a/other", b"");
        if !is_free {
            ground.write("b/f", b"quicker");
        }
        let (moved, back) = match is_free {
            true => (Moved::Back, "b/f".to_owned()),
            false => (Moved::Kept, format!("b/.hk-kept-{}", aside.name().0)),
        };
        assert_eq!(taken.give_back(), moved);
        assert_eq!(ground.stat(&back).id, id);
        let others = std::fs::read_dir(ground.root.join("a")).expect("there");
        assert_eq!(others.count(), 1, "nothing came into the other directory");
    }
}

/// Another device number after a restart: what was set aside is what it was.
#[test]
fn what_was_set_aside_is_known_under_another_device_number() {
    let ground = ground();
    ground.write("a/s/data", b"12345");
    ground.write("a/t/data", b"123");
    ground.write("a/u/data", b"1");
    let before = |id: FileId| FileId {
        dev: id.dev + 1,
        ..id
    };
    let set_aside = |path: &str, name: AsideName, aside: fn(AsideName) -> Aside| {
        let own = aside(AsideName::new(name.ulid(), ground.stat(path).id));
        let moved = ground.tree.set_aside(&rel(path), &own);
        assert_eq!(moved.expect("a rename"), Moved::Aside);
        let bin = ground.root.join(CONTROL).join(match own {
            Aside::Kept(_) => "kept",
            Aside::Trash(_) | Aside::Beside(..) => "trash",
        });
        std::fs::rename(bin.join(own.file_name()), bin.join(&name.0)).expect("a rename");
        name
    };
    let name = |path: &str| AsideName::new(ULID, before(ground.stat(path).id));
    let (s, t, u) = (name("a/s"), name("a/t"), name("a/u"));
    let gone = set_aside("a/s", s, Aside::Trash);
    let found = leftovers(&ground.tree).expect("a trash");
    assert_eq!(
        (found.asides, found.strangers.len()),
        (vec![Aside::Trash(gone.clone())], 0)
    );
    assert_eq!(ground.removed(&Aside::Trash(gone)), (5, Vec::new()));

    let (back, over) = (
        set_aside("a/t", t, Aside::Kept),
        set_aside("a/u", u, Aside::Kept),
    );
    let mut both = vec![back.clone(), over.clone()];
    both.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(kept::list(&ground.tree).expect("a list"), both);
    assert_eq!(
        measured(&ground.tree, &Aside::Kept(back.clone())).n_files,
        1
    );
    kept::bring_back(&ground.tree, &back, &rel("a/t")).expect("it comes back");
    let text = std::fs::read(ground.root.join("a/t/data"));
    assert_eq!(text.expect("a file"), b"123");
    assert_eq!(ground.removed(&Aside::Kept(over)), (1, Vec::new()));
    assert_eq!(
        (
            kept::list(&ground.tree).expect("a list").len(),
            ground.trash().len()
        ),
        (0, 0)
    );
    // Another inode under the name is nobody's.
    ground.write("a/v/data", b"1");
    let stranger = AsideName::new(
        ULID,
        FileId {
            ino: 1,
            ..before(ground.stat("a/v").id)
        },
    );
    let stranger = set_aside("a/v", stranger, Aside::Kept);
    assert_eq!(kept::list(&ground.tree).expect("a list"), []);
    assert!(kept::has(&ground.tree, &stranger));
}
