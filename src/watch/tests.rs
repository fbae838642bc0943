//! What every source of hints must do, whichever it is.

use super::*;
use crate::model::path::RelPath;
use crate::model::seen::FileId;
use crate::model::watcher::Watch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

struct Watching {
    _hold: tempfile::TempDir,
    root: PathBuf,
    backend: Backend,
    watcher: Arc<dyn Watcher>,
    hints: Box<dyn Hints>,
    dirs: Mutex<HashMap<DirKey, String>>,
}

/// Each source that this host allows; says which it does not.
fn each(script: impl Fn(&mut Watching)) {
    for backend in [Backend::Fanotify, Backend::Inotify, Backend::Notify] {
        let hold = tempfile::tempdir().expect("a temporary directory");
        let root = hold.path().canonicalize().expect("it is there");
        let dir = File::open(&root).expect("opened");
        let wake = Waker::new(|| {});
        let attend: Attend = Arc::new(|_| {});
        let source = match open(backend, &root, dir.as_fd(), &wake, &attend) {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!(?error, backend = backend.name(), "skipped");
                continue;
            }
        };
        script(&mut Watching {
            _hold: hold,
            root,
            backend,
            watcher: source.watcher.expect("a source that hears"),
            hints: source.hints,
            dirs: Mutex::default(),
        });
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).expect("a path")
}

impl Watching {
    fn watch(&self, dir: &str) -> Watch {
        let held = File::open(self.root.join(dir)).expect("a directory");
        let meta = held.metadata().expect("it is open");
        let id = FileId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        let watch = self
            .watcher
            .watch(&rel(dir), held.as_fd(), id)
            .expect("a watch");
        self.dirs
            .lock()
            .expect("no panic")
            .insert(watch.key, dir.to_owned());
        watch
    }

    fn make(&self, dir: &str) {
        std::fs::create_dir_all(self.root.join(dir)).expect("a directory");
    }

    fn write(&self, file: &str) {
        std::fs::write(self.root.join(file), b"x").expect("a file");
    }

    fn drain(&mut self) -> Vec<Hint> {
        let mut hints = Vec::new();
        let dirs = self.dirs.lock().expect("no panic");
        let drained = self.hints.drain(&|key| dirs.contains_key(&key), &mut hints);
        assert_eq!(drained.broken, None);
        assert!(!hints.contains(&Hint::Lost));
        hints
    }

    /// Waits until `name` was heard, and gives all that was heard meanwhile.
    fn hear(&mut self, name: &str) -> BTreeSet<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = BTreeSet::new();
        while !heard.contains(name) {
            assert!(
                Instant::now() < deadline,
                "{:?} never told of {name}, only {heard:?}",
                self.backend
            );
            for hint in self.drain() {
                heard.extend(self.name(&hint));
            }
        }
        heard
    }

    fn name(&self, hint: &Hint) -> Option<String> {
        let text = |bytes: &[u8]| crate::model::path::escape(bytes);
        match hint {
            Hint::Name(path) => Some(text(path)),
            Hint::Entry { dir, path, name_at } => {
                let dirs = self.dirs.lock().expect("no panic");
                let dir = dirs.get(dir)?;
                let name = text(&path[*name_at..]);
                Some(if dir.is_empty() {
                    name
                } else {
                    format!("{dir}/{name}")
                })
            }
            Hint::Begun { .. }
            | Hint::Unwatched { .. }
            | Hint::Ended { .. }
            | Hint::Inode(_)
            | Hint::Lost => None,
        }
    }

    /// Makes `in/file`, links it to `out/file`, and follows it. Its inode.
    fn follow_linked(&self) -> u64 {
        self.write("in/file");
        let file = self.root.join("in/file");
        std::fs::hard_link(&file, self.root.join("out/file")).expect("a link");
        let held = File::open(self.root.join("in")).expect("a directory");
        let ino = std::fs::metadata(file).expect("it is there").ino();
        let id = FileId { dev: 0, ino };
        self.watcher.follow(held.as_fd(), b"file", id);
        ino
    }

    fn hear_inode(&mut self, ino: u64) {
        let deadline = Instant::now() + PATIENCE;
        while !self.drain().contains(&Hint::Inode(ino)) {
            assert!(Instant::now() < deadline, "it is not heard");
        }
    }

    /// Writes to a file of others, and hears, until nothing is told of it any more.
    fn write_until_silent(&mut self, file: &str) {
        let deadline = Instant::now() + PATIENCE;
        self.write(file);
        while self.is_told() {
            assert!(Instant::now() < deadline, "{file} is told of for ever");
            self.drain();
            std::fs::write(self.root.join(file), b"more").expect("written");
        }
    }

    fn is_told(&self) -> bool {
        let source = self.hints.source().expect("a descriptor");
        let mut fds = [PollFd::from_borrowed_fd(source, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).expect("a poll") > 0
    }

    /// Watches are counted where there is one for each directory.
    fn assert_watches(&self, n: usize) {
        if self.backend != Backend::Fanotify {
            assert_eq!(self.watcher.n_watches(), n, "{:?}", self.backend);
        }
    }
}

#[test]
fn writes_are_heard_and_readers_are_not() {
    each(|w| {
        w.make("s/a");
        w.write("s/quiet");
        for dir in ["", "s", "s/a"] {
            w.watch(dir);
        }
        w.drain();
        for entry in std::fs::read_dir(w.root.join("s")).expect("a directory") {
            entry.expect("an entry");
        }
        std::fs::read(w.root.join("s/quiet")).expect("a file");
        w.write("s/a/loud");
        w.hear("s/a/loud");
        w.write("s/loud");
        let heard = w.hear("s/loud");
        assert!(
            w.backend == Backend::Fanotify || !heard.contains("s/quiet"),
            "{heard:?}"
        );
        w.assert_watches(3);
    });
}

#[test]
fn a_new_directory_on_an_old_path_stays_watched() {
    each(|w| {
        w.make("s");
        w.watch("s");
        for n in 0..50 {
            std::fs::remove_dir_all(w.root.join("s")).expect("a directory");
            w.make("s");
            w.watch("s");
            let file = format!("s/f{n}");
            w.write(&file);
            w.hear(&file);
            // The old one's end is drained by now; the watch must have survived it.
            w.write(&format!("{file}b"));
            w.hear(&format!("{file}b"));
        }
    });
}

#[test]
fn a_moved_directory_is_heard_in_its_new_place() {
    each(|w| {
        w.make("old/sub");
        let old = w.watch("old");
        let sub = w.watch("old/sub");
        std::fs::rename(w.root.join("old"), w.root.join("new")).expect("a rename");
        w.watch("new");
        w.watch("new/sub");
        w.watcher.unwatch(&rel("old"), old);
        w.watcher.unwatch(&rel("old/sub"), sub);
        w.write("new/file");
        w.hear("new/file");
        w.write("new/sub/file");
        w.hear("new/sub/file");
        w.assert_watches(2);
    });
}

#[test]
fn an_old_watch_ends_nothing() {
    each(|w| {
        w.make("s");
        let first = w.watch("s");
        let second = w.watch("s");
        assert!(second.generation > first.generation);
        w.watcher.unwatch(&rel("s"), first);
        w.write("s/file");
        w.hear("s/file");
        w.watcher.unwatch(&rel("s"), second);
        w.assert_watches(0);
    });
}

/// Where hints call directories by key, a watch that is taken off by the kernel says so. One
/// that was asked to end is not counted any more either.
#[test]
fn a_watch_that_ends_by_itself_says_so() {
    each(|w| {
        if w.backend != Backend::Inotify {
            return;
        }
        w.make("asked");
        w.make("unasked");
        let (asked, unasked) = (w.watch("asked"), w.watch("unasked"));
        w.watcher.unwatch(&rel("asked"), asked);
        std::fs::remove_dir(w.root.join("unasked")).expect("removed");
        let deadline = Instant::now() + PATIENCE;
        let mut hints = Vec::new();
        while !hints.contains(&Hint::Ended { dir: unasked.key }) {
            assert!(Instant::now() < deadline, "{hints:?}");
            hints.extend(w.drain());
        }
        w.assert_watches(0);
    });
}

/// A write through a name outside is hinted as the inode, where the kernel tells it.
#[test]
fn a_followed_inode_is_heard_through_its_other_name() {
    each(|w| {
        if w.backend != Backend::Fanotify {
            return;
        }
        w.make("in");
        w.make("out");
        w.watch("in");
        let ino = w.follow_linked();
        w.drain();
        w.write("out/file");
        w.hear_inode(ino);
    });
}

/// Others that write much are not heard at all, until their directory is one of ours.
#[test]
fn a_busy_directory_of_others_falls_silent_and_is_heard_once_it_is_watched() {
    each(|w| {
        if w.backend != Backend::Fanotify {
            return;
        }
        w.make("in");
        w.make("out");
        w.watch("in");
        w.write_until_silent("out/file");
        // Names are heard all the same: what leaves it arrives.
        std::fs::rename(w.root.join("out/file"), w.root.join("in/came")).expect("a rename");
        w.hear("in/came");
        w.write_until_silent("out/file");
        std::fs::rename(w.root.join("out"), w.root.join("in/out")).expect("a rename");
        w.hear("in/out");
        w.watch("in/out");
        std::fs::write(w.root.join("in/out/file"), b"once").expect("written");
        w.hear("in/out/file");
    });
}

#[test]
fn nothing_is_silent_once_an_inode_is_followed() {
    each(|w| {
        if w.backend != Backend::Fanotify {
            return;
        }
        w.make("in");
        w.make("out");
        w.watch("in");
        w.write_until_silent("out/other");
        let ino = w.follow_linked();
        for _ in 0..100 {
            w.drain();
            std::fs::write(w.root.join("out/other"), b"much").expect("written");
        }
        w.drain();
        std::fs::write(w.root.join("out/file"), b"once").expect("written");
        w.hear_inode(ino);
    });
}

/// What the thread that listens has moved out itself is left out where the source can tell;
/// everything else it does is told, and so is what others move out.
#[test]
fn the_listening_threads_removals_are_no_news() {
    each(|watching| {
        watching.make("in");
        watching.make("out");
        watching.watch("in");
        for name in ["in/own", "in/others", "in/replaced", "out/back"] {
            watching.write(name);
        }
        watching.hear("in/replaced");
        watching.hints.leave_out_this_thread();
        let root = watching.root.clone();
        let moves = |from: &str, to: &str| {
            std::fs::rename(root.join(from), root.join(to)).expect("it moves");
        };
        moves("in/own", "out/own");
        std::thread::scope(|scope| {
            scope.spawn(|| moves("in/others", "out/others"));
        });
        moves("in/replaced", "in/replaces");
        moves("out/back", "in/back");
        let heard = watching.hear("in/back");
        let tells_who = watching.backend == Backend::Fanotify;
        assert_eq!(heard.contains("in/own"), !tells_who, "{heard:?}");
        for name in ["in/others", "in/replaced", "in/replaces"] {
            assert!(heard.contains(name), "{:?}: {heard:?}", watching.backend);
        }
    });
}
