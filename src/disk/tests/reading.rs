//! Looking, walking and reading never leave the root.

use super::{Ground, bind, ground, mkfifo, rel};
use crate::disk::document::{MAX_METADATA, read, read_in};
use crate::disk::looker::{Looker, MAX_OPEN};
use crate::disk::tree::{CONTROL, Tree, fd_stat};
use crate::disk::walk::{Aides, walk};
use crate::model::disk::Disk;
use crate::model::listing::{Gathered, Listing, ScanId, ScanOrder, Unlisted, Walked, Watched};
use crate::model::path::RelPath;
use crate::model::seen::{FileId, FileKind, Seen};
use crate::model::session::{Content, Facts};
use crate::model::watcher::{Backend, DirKey, Watch, WatchError, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

fn walked(
    tree: &Tree,
    at: &RelPath,
    watcher: Option<&dyn Watcher>,
    n_threads: usize,
) -> Vec<Walked> {
    let order = ScanOrder {
        id: ScanId(7),
        at: at.clone(),
        reads: false,
    };
    let all = Mutex::new(Vec::new());
    let never = AtomicBool::new(false);
    let aides = Aides {
        watcher,
        gather: None,
    };
    walk(tree, &order, aides, n_threads, &never, &|walked| {
        all.lock().expect("no panic").extend(walked);
        true
    });
    all.into_inner().expect("no panic")
}

fn names(walked: &[Walked]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for walked in walked {
        if let Walked::Chunk(chunk) = walked {
            for (name, _) in chunk.entries() {
                let path = chunk.dir.join(name).expect("a name");
                assert!(names.insert(path.to_string()), "{path} twice");
            }
        }
    }
    names
}

/// Everything that holds for every walk.
fn check_order(walked: &[Walked]) {
    let mut known: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut open: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    for (n, one) in walked.iter().enumerate() {
        let last = n + 1 == walked.len();
        assert_eq!(
            matches!(one, Walked::End { .. }),
            last,
            "one end, at the end"
        );
        if let Walked::Chunk(chunk) = one {
            let dir = chunk.dir.as_bytes().to_vec();
            assert!(
                known.is_empty() || known.contains(&dir),
                "a parent comes first"
            );
            assert!(chunk.len() <= Listing::MAX_ENTRIES);
            assert_eq!(chunk.first, !open.contains_key(&dir), "first is first");
            assert_eq!(
                open.insert(dir, chunk.last),
                (!chunk.first).then_some(false)
            );
            for (name, _) in chunk.entries() {
                known.insert(chunk.dir.join(name).expect("a name").as_bytes().to_vec());
            }
        }
    }
    assert!(open.values().all(|last| *last), "every directory was ended");
}

#[test]
fn a_walk_sees_everything_once_and_nothing_of_the_agents() {
    let ground = ground();
    for n in 0..2500 {
        ground.write(&format!("wide/f{n}"), b"x");
    }
    for n in 0..30 {
        ground.write(&format!("s{n}/a/b/data"), b"data");
    }
    ground.write(".housekeeper/trash/old/data", b"");
    ground.write("s1/.housekeeper/data", b"");
    ground.write(".hk-1/data", b"");
    symlink(&ground.outside, ground.root.join("link")).expect("a symlink");
    for n_threads in [1, 4] {
        let walked = walked(&ground.tree, &RelPath::root(), None, n_threads);
        check_order(&walked);
        let names = names(&walked);
        assert_eq!(names.len(), 1 + 2500 + 30 * 4 + 2 + 1 + 2);
        assert!(
            names.contains(".hk-1/data"),
            "nothing hides behind such a name"
        );
        assert!(names.contains("link") && names.contains("s1/.housekeeper/data"));
        assert!(!names.iter().any(|name| name.contains("precious")));
    }
}

/// Directories of one name in each other, so many, and a file in the last one. Made from
/// descriptors: no path says it.
fn dig(root: &std::path::Path, name: &str, n_levels: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let mut dir = open(root, OFlags::DIRECTORY, Mode::empty()).expect("the root");
    for _ in 0..n_levels {
        mkdirat(&dir, name, Mode::RWXU).expect("a directory");
        dir = openat(&dir, name, OFlags::DIRECTORY, Mode::empty()).expect("a directory");
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = openat(&dir, "data", flags, Mode::RUSR).expect("a file");
    rustix::io::write(&file, b"12345").expect("written");
}

#[test]
fn bytes_below_a_path_that_the_kernel_does_not_take_are_counted() {
    let ground = ground();
    let name = "n".repeat(200);
    dig(&ground.root, &name, 60);
    let walked = walked(&ground.tree, &RelPath::root(), None, 2);
    check_order(&walked);
    let names = names(&walked);
    let deepest = format!("{}data", format!("{name}/").repeat(60));
    assert!(deepest.len() > 12_000 && names.contains(&deepest));
    let mut looker = Looker::new(ground.tree.clone());
    let dir = || rel(&deepest[..deepest.len() - "/data".len()]);
    let seen = looker.look(1, 0, dir, b"data");
    assert!(matches!(seen, Some(Seen::There(stat)) if stat.apparent == 5));
}

#[test]
fn a_path_beyond_every_bound_is_named() {
    let ground = ground();
    let name = "n".repeat(250);
    dig(&ground.root, &name, 70);
    let walked = walked(&ground.tree, &RelPath::root(), None, 1);
    let too_deep = walked.iter().filter(|walked| {
        matches!(walked, Walked::Unlisted { why: Unlisted::TooDeep, dir, .. } if dir.as_bytes().len() > 16_384)
    });
    assert_eq!(too_deep.count(), 1, "once, where it begins");
}

#[test]
fn a_walk_ends_once_also_when_stopped_or_unheard() {
    let ground = ground();
    for n in 0..50 {
        ground.write(&format!("s{n}/data"), b"");
    }
    let order = ScanOrder {
        id: ScanId(1),
        at: RelPath::root(),
        reads: false,
    };
    for (stop, heard) in [(true, true), (false, false)] {
        let ends = Mutex::new(0);
        let stop = AtomicBool::new(stop);
        walk(
            &ground.tree,
            &order,
            Aides::default(),
            3,
            &stop,
            &|walked| {
                let is_end = |walked: &&Walked| matches!(walked, Walked::End { .. });
                *ends.lock().expect("no panic") += walked.iter().filter(is_end).count();
                heard
            },
        );
        assert_eq!(ends.into_inner().expect("no panic"), 1);
    }
}

#[test]
fn documents_are_asked_for_once_for_each_directory_when_ordered() {
    let ground = ground();
    for n in 0..40 {
        ground.write(&format!("s{n}/deep/data"), b"data");
        ground.write(&format!("s{n}/metadata.json"), b"{}");
    }
    let never = AtomicBool::new(false);
    for reads in [false, true] {
        let asked = Mutex::new(BTreeSet::new());
        let gather = |listed: &Listing, dir: BorrowedFd<'_>| {
            assert!(listed.last);
            let path = &listed.dir;
            let named = std::fs::metadata(ground.root.join(path.to_string()));
            let ino = named.expect("a look").ino();
            assert_eq!(fd_stat(dir).expect("a look").id.ino, ino);
            let first = asked.lock().expect("no panic").insert(path.clone());
            assert!(first, "{path} twice");
            let document = read_in(&ground.tree, dir, b"metadata.json", MAX_METADATA);
            let gathered = Gathered {
                facts: Facts::unknown(),
                proofs: Vec::new(),
            };
            let is_text = matches!(document.content, Content::Text(_));
            Vec::from_iter(is_text.then(|| (path.as_bytes().into(), gathered)))
        };
        let aides = Aides {
            watcher: None,
            gather: Some(&gather),
        };
        let order = ScanOrder {
            id: ScanId(1),
            at: RelPath::root(),
            reads,
        };
        let sent = Mutex::new(Vec::new());
        walk(&ground.tree, &order, aides, 3, &never, &|walked| {
            sent.lock().expect("no panic").extend(walked);
            true
        });
        let sent = sent.into_inner().expect("no panic");
        check_order(&sent);
        let gathered = sent
            .iter()
            .filter(|walked| matches!(walked, Walked::Chunk(chunk) if !chunk.gathered.is_empty()));
        assert_eq!(gathered.count(), if reads { 40 } else { 0 });
        let asked = asked.into_inner().expect("no panic");
        assert_eq!(asked.len(), if reads { 1 + 2 * 40 } else { 0 });
    }
}

#[test]
fn a_document_is_read_in_the_directory_held_open_and_nowhere_else() {
    let ground = ground();
    ground.write("s/metadata.json", b"{}");
    symlink(ground.outside.join("precious"), ground.root.join("s/link")).expect("a symlink");
    let dir = ground.tree.open_dir(&rel("s")).expect("a directory");
    let content = |name: &[u8]| read_in(&ground.tree, dir.as_fd(), name, MAX_METADATA).content;
    assert_eq!(content(b"metadata.json"), Content::Text(b"{}".to_vec()));
    assert_eq!(content(b"link"), Content::NotAFile);
    assert_eq!(content(b"nothing"), Content::Absent);
    for bad in [&b".."[..], b"../s/metadata.json", b""] {
        assert!(matches!(content(bad), Content::Unreadable(_)));
    }
}

/// Replaces a directory at the moment its watch is placed.
struct Swapping<'a>(&'a Ground);

impl Watcher for Swapping<'_> {
    fn backend(&self) -> Backend {
        Backend::Inotify
    }
    fn watch(&self, dir: &RelPath, fd: BorrowedFd<'_>, id: FileId) -> Result<Watch, WatchError> {
        if dir == &rel("s") {
            let s = self.0.root.join("s");
            std::fs::rename(&s, self.0.root.join("moved")).expect("a rename");
            symlink(&self.0.outside, s).expect("a symlink");
        }
        let held = crate::disk::tree::fd_stat(fd).expect("it is open");
        assert_eq!(held.id, id, "the watch is for what is held open");
        Ok(PLACED)
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

#[test]
fn what_is_watched_is_what_is_listed() {
    let ground = ground();
    ground.write("s/data", b"");
    let watcher = Swapping(&ground);
    let walked = walked(&ground.tree, &RelPath::root(), Some(&watcher), 1);
    let s = walked.iter().find_map(|walked| match walked {
        Walked::Chunk(chunk) if chunk.dir == rel("s") => Some(chunk),
        _ => None,
    });
    let s = s.expect("it is listed");
    assert_eq!(s.watched, Watched::Placed(PLACED));
    assert!(s.entries().any(|(name, _)| name == b"data"));
    assert!(!names(&walked).iter().any(|name| name.contains("precious")));
}

#[test]
fn a_bind_mount_is_named_and_not_entered() {
    let ground = ground();
    ground.write("s/data", b"");
    std::fs::create_dir(ground.root.join("s/mnt")).expect("a directory");
    let Some(_bound) = bind(&ground.outside, &ground.root.join("s/mnt")) else {
        return;
    };
    let walked = walked(&ground.tree, &RelPath::root(), None, 2);
    assert!(walked.contains(&Walked::Unlisted {
        scan: ScanId(7),
        dir: rel("s/mnt"),
        why: Unlisted::ForeignMount
    }));
    assert!(!names(&walked).contains("s/mnt/precious"));
    assert_eq!(ground.tree.look(&rel("s/mnt/precious")), Seen::Gone);
}

#[test]
fn a_walk_that_begins_at_a_symlink_or_nothing_says_gone() {
    let ground = ground();
    symlink(&ground.outside, ground.root.join("link")).expect("a symlink");
    for at in ["link", "nothing", "link/precious"] {
        let walked = walked(&ground.tree, &rel(at), None, 1);
        assert!(matches!(
            &walked[0],
            Walked::Unlisted {
                why: Unlisted::Gone,
                ..
            }
        ));
    }
}

#[test]
fn a_looker_follows_nothing_and_keeps_to_its_directory() {
    let ground = ground();
    ground.write("s/data", b"12345");
    symlink(&ground.outside, ground.root.join("link")).expect("a symlink");
    let ino = |path: &str| {
        let meta = std::fs::metadata(ground.root.join(path)).expect("there");
        std::os::unix::fs::MetadataExt::ino(&meta)
    };
    let s = ino("s");
    let mut looker = Looker::new(ground.tree.clone());
    let size = |seen: Option<Seen>| match seen {
        Some(Seen::There(stat)) => Some(stat.apparent),
        Some(Seen::Gone | Seen::Unreadable(_)) | None => None,
    };
    assert_eq!(size(looker.look(1, s, || rel("s"), b"data")), Some(5));
    std::fs::rename(ground.root.join("s"), ground.root.join("t")).expect("a rename");
    ground.write("s/data", b"123");
    // Kept open it is still the same directory; opened anew by its old path it is another.
    assert_eq!(size(looker.look(1, s, || rel("s"), b"data")), Some(5));
    looker.forget(1);
    assert_eq!(looker.look(1, s, || rel("s"), b"data"), None);
    assert_eq!(looker.look(1, s, || rel("gone"), b"data"), None);
    assert_eq!(size(looker.look(1, s, || rel("t"), b"data")), Some(5));
    assert_eq!(size(looker.look(2, 0, || rel("s"), b"data")), Some(3));
    assert_eq!(looker.look(3, 0, || rel("link"), b"precious"), None);
    let Some(Seen::There(link)) = looker.look(4, 0, RelPath::root, b"link") else {
        panic!("the symlink is there");
    };
    assert_eq!(link.kind, FileKind::Symlink);
    for name in [&b".."[..], b"../outside", b"s/data", b""] {
        assert_eq!(
            looker.look(4, 0, RelPath::root, name),
            Some(Seen::Unreadable(libc::EINVAL))
        );
    }
}

#[test]
fn a_looker_keeps_a_bounded_number_of_directories() {
    let ground = ground();
    ground.write("s/data", b"1");
    let mut looker = Looker::new(ground.tree.clone());
    for slot in 0..(MAX_OPEN as u32 * 2) {
        assert!(matches!(
            looker.look(slot, 0, || rel("s"), b"data"),
            Some(Seen::There(_))
        ));
    }
    for slot in (0..(MAX_OPEN as u32 * 2)).step_by(3) {
        looker.forget(slot);
        assert!(matches!(
            looker.look(slot, 0, || rel("s"), b"data"),
            Some(Seen::There(_))
        ));
    }
}

#[test]
fn documents_are_regular_files_inside_or_nothing() {
    let ground = ground();
    ground.write("s/good", b"{}");
    ground.write("s/dir/x", b"");
    mkfifo(&ground.root.join("s/fifo"));
    symlink(ground.outside.join("precious"), ground.root.join("s/link")).expect("a symlink");
    let sparse = std::fs::File::create(ground.root.join("s/sparse")).expect("a file");
    sparse.set_len(10 << 30).expect("a sparse file");
    let content = |name: &[u8]| read(&ground.tree, &rel("s"), name, MAX_METADATA).content;
    assert_eq!(content(b"good"), Content::Text(b"{}".to_vec()));
    assert_eq!(content(b"nothing"), Content::Absent);
    for name in [&b"dir"[..], b"fifo", b"link"] {
        assert_eq!(content(name), Content::NotAFile, "{name:?}");
    }
    assert_eq!(content(b"sparse"), Content::TooBig);
    ground.write("s/edge", &vec![b'x'; MAX_METADATA as usize]);
    assert!(matches!(content(b"edge"), Content::Text(text) if text.len() as u64 == MAX_METADATA));
    ground.write("s/over", &vec![b'x'; MAX_METADATA as usize + 1]);
    assert_eq!(content(b"over"), Content::TooBig);
}

#[test]
fn nothing_is_made_by_looking_and_a_false_control_directory_is_refused() {
    let ground = ground();
    assert!(ground.tree.in_place().expect("a stat"));
    assert!(ground.tree.existing_control().expect("no error").is_none());
    assert!(!ground.root.join(CONTROL).exists());
    symlink(&ground.outside, ground.root.join(CONTROL)).expect("a symlink");
    assert!(ground.tree.control().is_err());
    assert!(!ground.outside.join("trash").exists());
}

#[test]
fn a_swapped_control_directory_is_noticed() {
    let ground = ground();
    let first = ground.tree.control().expect("it is made");
    std::fs::rename(ground.root.join(CONTROL), ground.root.join("old")).expect("a rename");
    assert!(ground.tree.in_place().expect("a stat"));
    let second = ground.tree.control().expect("it is made again");
    assert!(!std::sync::Arc::ptr_eq(&first, &second));
}

#[test]
fn a_root_is_a_directory_and_stays_where_it_was() {
    let ground = ground();
    let link = ground.outside.join("link");
    symlink(&ground.root, &link).expect("a symlink");
    assert!(Tree::open(&link).is_err());
    assert!(Tree::open(&link.join("")).is_err());
    assert!(Tree::open(std::path::Path::new("root")).is_err());
    let elsewhere = ground.outside.join("root");
    std::fs::rename(&ground.root, &elsewhere).expect("a rename");
    assert!(!ground.tree.in_place().expect("an answer"));
    symlink(&elsewhere, &ground.root).expect("a symlink");
    assert!(!ground.tree.in_place().expect("an answer"));
}
