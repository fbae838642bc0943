//! Every refusal, on a disk of a few maps.

mod keeping;

use crate::layout::LockAt;
use crate::model::bytes::Bytes;
use crate::model::disk::{Bundles, Disk, Lasting, Moved, Records};
use crate::model::path::RelPath;
use crate::model::plan::{Because, Body, Proof, Victim};
use crate::model::report::{Aside, AsideName, Outcome, Skip};
use crate::model::seen::{FileId, FileKind, Seen, Stat};
use crate::model::session::{Key, SessionId};
use crate::model::time::{Now, Tick, Time, UnixNanos};
use crate::prune::executor::Executor;
use crate::prune::intent::{Work, unfinished};
use crate::prune::rest::finish_blobs;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

const QUIET: Duration = Duration::from_secs(60);
const WRITTEN: i64 = 1_000_000_000_000;

/// A tree of names, with errors by operation and path.
#[derive(Default)]
struct Fake {
    names: RefCell<BTreeMap<String, Stat>>,
    trash: RefCell<BTreeMap<String, Stat>>,
    errors: RefCell<BTreeMap<(&'static str, String), i32>>,
    locked: RefCell<Vec<u64>>,
    /// What is swapped in for the victim at the moment of the rename.
    swapped_in: Cell<Option<Stat>>,
    records: RefCell<BTreeMap<String, Vec<u8>>>,
    log: RefCell<Vec<String>>,
}

type Shared = Rc<Fake>;

/// Both traits for one fake.
struct On(Shared);

/// An open file; its lock goes with it.
struct Opened(String, u64, Shared);

impl Drop for Opened {
    fn drop(&mut self) {
        self.2.log.borrow_mut().push(format!("close {}", self.0));
    }
}

impl Fake {
    fn check(&self, operation: &'static str, path: &str) -> io::Result<()> {
        self.log.borrow_mut().push(format!("{operation} {path}"));
        match self.errors.borrow().get(&(operation, path.to_string())) {
            Some(errno) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }

    fn get(&self, path: &str) -> io::Result<Stat> {
        let gone = || io::Error::from_raw_os_error(libc::ENOENT);
        self.names.borrow().get(path).copied().ok_or_else(gone)
    }

    fn put(&self, path: &str, ino: u64, kind: FileKind) -> Stat {
        let stat = stat(ino, kind);
        self.names.borrow_mut().insert(path.into(), stat);
        stat
    }

    fn replace(&self, path: &str, ino: u64, kind: FileKind) {
        self.names.borrow_mut().insert(path.into(), stat(ino, kind));
    }

    fn take_away(&self, path: &str) {
        self.names.borrow_mut().remove(path);
    }

    fn fail(&self, operation: &'static str, path: &str, errno: i32) {
        self.errors
            .borrow_mut()
            .insert((operation, path.into()), errno);
    }

    fn n_trash(&self) -> usize {
        self.trash.borrow().len()
    }
}

fn text(path: &RelPath) -> String {
    path.to_string()
}

impl Disk for On {
    type Handle = Opened;

    fn in_place(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn look(&self, path: &RelPath) -> Seen {
        self.0.get(&text(path)).map_or(Seen::Gone, Seen::There)
    }

    fn open(&self, path: &RelPath) -> io::Result<(Self::Handle, Stat)> {
        let path = text(path);
        self.0.check("open", &path)?;
        let stat = self.0.get(&path)?;
        Ok((Opened(path, stat.id.ino, self.0.clone()), stat))
    }

    fn open_in(&self, dir: &Self::Handle, name: &[u8]) -> io::Result<(Self::Handle, Stat)> {
        let name = String::from_utf8_lossy(name);
        let path = if dir.0.is_empty() {
            name.into_owned()
        } else {
            format!("{}/{name}", dir.0)
        };
        self.0.check("open", &path)?;
        let stat = self.0.get(&path)?;
        Ok((Opened(path, stat.id.ino, self.0.clone()), stat))
    }

    fn lock(&self, handle: &Self::Handle) -> io::Result<bool> {
        self.0.check("lock", &handle.0)?;
        // As BSD locks do: a second descriptor of one file conflicts, also in one process.
        let mut locked = self.0.locked.borrow_mut();
        let free = !locked.contains(&handle.1);
        locked.push(handle.1);
        Ok(free)
    }

    fn set_aside(&self, path: &RelPath, aside: &Aside) -> io::Result<Moved> {
        let path = text(path);
        if matches!(aside, Aside::Kept(_)) {
            self.0.check("keep", &path)?;
        }
        self.0.check("rename", &path)?;
        let there = self.0.names.borrow_mut().remove(&path);
        let there = there.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let moved = self.0.swapped_in.take().unwrap_or(there);
        if Some(moved.id) == aside.name().id() {
            self.0.trash.borrow_mut().insert(aside.file_name(), moved);
            return Ok(Moved::Aside);
        }
        if self.0.check("put back", &path).is_ok() {
            self.0.names.borrow_mut().insert(path, moved);
            return Ok(Moved::Back);
        }
        self.0.trash.borrow_mut().insert(aside.file_name(), moved);
        Ok(Moved::Kept)
    }
}

impl Bundles for On {
    fn make_bundle(&self, ulid: &str) -> io::Result<(AsideName, Opened)> {
        self.0.check("bundle", "")?;
        let id = FileId { dev: 1, ino: 777 };
        let name = AsideName::new(ulid, id);
        self.0.put(&format!("kept/{}", name.0), 777, FileKind::Dir);
        Ok((name, Opened("kept".to_owned(), 776, self.0.clone())))
    }

    fn bundle(&self, path: &RelPath, id: FileId, bundle: &AsideName) -> io::Result<Moved> {
        self.0.check("rename", &text(path))?;
        let there = self.0.names.borrow_mut().remove(&text(path));
        let there = there.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        assert_eq!(there.id, id);
        let name = path.name().map(String::from_utf8_lossy).unwrap_or_default();
        let at = format!("kept/{}/{name}", bundle.0);
        self.0.names.borrow_mut().insert(at, there);
        Ok(Moved::Aside)
    }

    fn has_bundle(&self, bundle: &AsideName) -> bool {
        self.0.get(&format!("kept/{}", bundle.0)).is_ok()
    }

    fn drop_bundle(&self, bundle: &AsideName) -> io::Result<()> {
        self.0.take_away(&format!("kept/{}", bundle.0));
        Ok(())
    }
}

impl Records for On {
    fn save(&self, name: &str, text: &[u8], _: Lasting) -> io::Result<()> {
        self.0.check("save", "")?;
        self.0.records.borrow_mut().insert(name.into(), text.into());
        Ok(())
    }

    fn discard(&self, name: &str) -> io::Result<()> {
        self.0.check("discard", "")?;
        self.0.records.borrow_mut().remove(name);
        Ok(())
    }

    fn all(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        Ok(self.0.records.borrow().clone().into_iter().collect())
    }
}

fn stat(ino: u64, kind: FileKind) -> Stat {
    Stat {
        id: FileId { dev: 1, ino },
        mount: 1,
        kind,
        apparent: 1,
        allocated: 512,
        n_links: 1,
        mtime: UnixNanos(WRITTEN),
        ctime: UnixNanos(WRITTEN),
        btime: Some(UnixNanos(ino as i64)),
    }
}

fn now(after: Duration) -> Now {
    let wall = Time::from_timestamp_nanos(WRITTEN) + after;
    Now {
        wall,
        tick: Tick::default(),
    }
}

fn victim(path: &str, body: Body) -> Victim {
    Victim {
        session: SessionId {
            slot: 1,
            generation: 1,
        },
        key: Key::from(&b"key"[..]),
        path: RelPath::new(path.as_bytes()).expect("a path"),
        body,
        freed: Bytes(1),
        created: None,
        because: Because::TooMany {
            n_sessions: 2,
            max_count: 1,
        },
    }
}

/// `a/s` with `meta`, and a proof that `marker` is absent.
fn session() -> (Shared, Victim) {
    let fake = Shared::default();
    let dir = fake.put("a/s", 10, FileKind::Dir);
    let meta = fake.put("a/s/meta", 11, FileKind::File);
    let proof = |name: &[u8], mark| Proof {
        name: name.into(),
        mark,
    };
    let proofs = vec![
        proof(b"meta", Some(meta.signature().mark())),
        proof(b"marker", None),
    ];
    let body = Body::Tree { id: dir.id, proofs };
    (fake, victim("a/s", body))
}

fn a_file() -> (Shared, Victim) {
    let fake = Shared::default();
    fake.put("", 1, FileKind::Dir);
    let stat = fake.put("x.log", 30, FileKind::File);
    let names = vec![(Box::from(&b"x.log"[..]), stat.id)];
    let proofs = Vec::new();
    (fake, victim("", Body::Files { names, proofs }))
}

fn blobs() -> (Shared, Victim) {
    let fake = Shared::default();
    fake.put("", 1, FileKind::Dir);
    let blobs = ["x.wav", "x.txt"]
        .iter()
        .zip(20..)
        .map(|(name, ino)| {
            let stat = fake.put(name, ino, FileKind::File);
            (Box::from(name.as_bytes()), stat.id)
        })
        .collect();
    let catalogue = Proof {
        name: Box::from(&b"m.json"[..]),
        mark: None,
    };
    (fake, victim("", Body::Blobs { blobs, catalogue }))
}

fn executor(fake: &Shared) -> Executor<On, On> {
    Executor::new(On(fake.clone()), On(fake.clone()))
}

fn remove(fake: &Shared, victim: &Victim, locks: &[LockAt]) -> Outcome {
    executor(fake).remove(victim, now(QUIET), QUIET, locks)
}

fn refused(operation: &'static str, errno: i32) -> Outcome {
    Outcome::Skipped(Skip::Refused { operation, errno })
}

fn beside(name: &str) -> LockAt {
    LockAt::Beside(name.as_bytes().into())
}

#[test]
fn a_victim_goes_in_one_rename_after_all_checks() {
    let (fake, victim) = session();
    fake.put("a/s.lock", 30, FileKind::File);
    fake.put("a/s/in.lock", 31, FileKind::File);
    let locks = [
        beside("s.lock"),
        LockAt::Inside(Box::from(&b"in.lock"[..])),
        // The metadata itself: locked already, by us.
        LockAt::Inside(Box::from(&b"meta"[..])),
        beside("absent.lock"),
    ];
    let Outcome::Aside(asides) = remove(&fake, &victim, &locks) else {
        panic!("nothing spoke against it");
    };
    assert_eq!(asides[0].name().id(), Some(FileId { dev: 1, ino: 10 }));
    assert_eq!(fake.n_trash(), 1);
    let log = fake.log.borrow();
    let last = log.iter().rfind(|line| !line.starts_with("close"));
    assert_eq!(last.map(String::as_str), Some("rename a/s"));
    let locked: Vec<_> = log.iter().filter(|line| line.starts_with("lock")).collect();
    assert_eq!(
        locked,
        [
            "lock a/s",
            "lock a/s/meta",
            "lock a/s.lock",
            "lock a/s/in.lock"
        ]
    );
}

#[test]
fn a_catalogue_that_changed_or_is_locked_keeps_its_blobs() {
    let (fake, mut victim) = blobs();
    let stat = fake.put("m.json", 40, FileKind::File);
    let Body::Blobs { catalogue, .. } = &mut victim.body else {
        panic!("blobs");
    };
    catalogue.mark = Some(stat.signature().mark());
    fake.replace("m.json", 41, FileKind::File);
    assert_eq!(remove(&fake, &victim, &[]), Outcome::Skipped(Skip::Changed));
    fake.take_away("m.json");
    assert_eq!(remove(&fake, &victim, &[]), Outcome::Skipped(Skip::Changed));
    assert_eq!(fake.n_trash(), 0);
    fake.put("m.json", 40, FileKind::File);
    assert!(matches!(remove(&fake, &victim, &[]), Outcome::Aside(_)));
    assert!(fake.log.borrow().iter().any(|line| line == "lock m.json"));
}

/// Changes a session, and checks that it stays for that reason, untouched.
fn stays(change: fn(&Fake), outcome: &Outcome) {
    let (fake, victim) = session();
    change(&fake);
    assert_eq!(&remove(&fake, &victim, &[]), outcome);
    assert_eq!(fake.n_trash(), 0);
    let log = fake.log.borrow();
    assert!(!log.iter().any(|line| line.starts_with("rename")));
}

#[test]
fn what_is_not_as_planned_stays() {
    let replaced = Outcome::Skipped(Skip::Replaced);
    stays(|f| f.names.borrow_mut().clear(), &Outcome::Gone);
    stays(|f| f.replace("a/s", 99, FileKind::Dir), &replaced);
    stays(|f| f.replace("a/s", 10, FileKind::File), &replaced);
    stays(|f| f.fail("open", "a/s", libc::ELOOP), &replaced);
    stays(|f| f.fail("open", "a/s", libc::ENOTDIR), &replaced);
    let changed = Outcome::Skipped(Skip::Changed);
    stays(|f| f.replace("a/s/meta", 12, FileKind::File), &changed);
    stays(|f| f.take_away("a/s/meta"), &changed);
    stays(|f| f.fail("open", "a/s/meta", libc::ELOOP), &changed);
    stays(|f| f.replace("a/s/marker", 13, FileKind::File), &changed);
}

#[test]
fn what_cannot_be_checked_stays() {
    for errno in [libc::EXDEV, libc::EACCES, libc::EIO] {
        let (fake, victim) = session();
        fake.fail("open", "a/s", errno);
        assert_eq!(remove(&fake, &victim, &[]), refused("open", errno));
    }
    stays(
        |f| f.fail("lock", "a/s", libc::ENOLCK),
        &refused("lock", libc::ENOLCK),
    );
    stays(
        |f| f.fail("open", "a/s/meta", libc::EIO),
        &refused("open", libc::EIO),
    );
    stays(
        |f| f.fail("open", "a/s/marker", libc::EIO),
        &refused("open", libc::EIO),
    );
}

#[test]
fn who_is_locked_stays() {
    for ino in [10, 11, 30, 31] {
        let (fake, victim) = session();
        fake.put("a/s.lock", 30, FileKind::File);
        fake.put("a/s/in.lock", 31, FileKind::File);
        fake.locked.borrow_mut().push(ino);
        let locks = [beside("s.lock"), LockAt::Inside(Box::from(&b"in.lock"[..]))];
        assert_eq!(
            remove(&fake, &victim, &locks),
            Outcome::Skipped(Skip::Locked),
            "{ino}"
        );
    }
    let (fake, victim) = session();
    fake.fail("open", "a/s.lock", libc::ELOOP);
    let outcome = remove(&fake, &victim, &[beside("s.lock")]);
    assert_eq!(outcome, refused("open the lock file", libc::ELOOP));
}

#[test]
fn who_was_written_to_lately_stays() {
    let short = QUIET - Duration::from_nanos(1);
    for path in ["a/s", "a/s/meta"] {
        let (fake, mut victim) = session();
        let mut newer = fake.get(path).expect("it is there");
        newer.ctime = UnixNanos(WRITTEN + 1);
        fake.names.borrow_mut().insert(path.into(), newer);
        if let (Body::Tree { proofs, .. }, "a/s/meta") = (&mut victim.body, path) {
            proofs[0].mark = Some(newer.signature().mark());
        }
        let outcome = remove(&fake, &victim, &[]);
        assert_eq!(outcome, Outcome::Skipped(Skip::Quiet), "{path}");
    }
    let (fake, victim) = session();
    let mut executor = executor(&fake);
    let outcome = executor.remove(&victim, now(short), QUIET, &[]);
    assert_eq!(outcome, Outcome::Skipped(Skip::Quiet));
    fake.locked.borrow_mut().clear();
    let off = executor.remove(&victim, now(Duration::ZERO), Duration::ZERO, &[]);
    assert!(matches!(off, Outcome::Aside(_)));
}

#[test]
fn a_stranger_goes_back_or_stays_unremoved() {
    for (back, skip) in [(true, Skip::Stranger), (false, Skip::StrangerKept)] {
        let (fake, victim) = session();
        fake.swapped_in.set(Some(stat(99, FileKind::Dir)));
        if !back {
            fake.fail("put back", "a/s", libc::EEXIST);
        }
        assert_eq!(remove(&fake, &victim, &[]), Outcome::Skipped(skip));
        assert_eq!(fake.n_trash(), usize::from(!back));
    }
}

#[test]
fn a_refused_rename_is_in_place_or_refused_by_its_errno() {
    for errno in [libc::ENOSPC, libc::EXDEV, libc::EDQUOT] {
        let (fake, victim) = session();
        fake.fail("rename", "a/s", errno);
        assert_eq!(remove(&fake, &victim, &[]), Outcome::InPlace);
        let intents = unfinished(&On(fake)).expect("one").intents;
        let Work::InPlace { inode, last } = &intents[0].1.work else {
            panic!("a directory");
        };
        assert_eq!((inode.id.ino, last.len()), (10, 2));
    }
    for errno in [
        libc::EROFS,
        libc::EPERM,
        libc::EACCES,
        libc::EBUSY,
        libc::EIO,
        libc::ENOENT,
    ] {
        let (fake, victim) = session();
        fake.fail("rename", "a/s", errno);
        assert_eq!(remove(&fake, &victim, &[]), refused("rename", errno));
        assert!(fake.records.borrow().is_empty());
    }
    let (fake, victim) = session();
    fake.fail("rename", "a/s", libc::ENOSPC);
    fake.fail("save", "", libc::ENOSPC);
    let outcome = remove(&fake, &victim, &[]);
    assert_eq!(
        outcome,
        refused("write the intent", libc::ENOSPC),
        "no intent, no removal"
    );
}

#[test]
fn blobs_go_under_an_intent() {
    let (fake, victim) = blobs();
    let mut executor = executor(&fake);
    let outcome = executor.remove(&victim, now(QUIET), QUIET, &[]);
    assert!(matches!(outcome, Outcome::Aside(asides) if asides.len() == 2));
    let (name, _) = executor
        .take_intent()
        .expect("it stays until the entry is out");
    assert!(fake.records.borrow().contains_key(&name));
    let log = fake.log.borrow();
    let at = |what: &str| log.iter().position(|line| line.starts_with(what));
    assert!(at("save") < at("rename") && at("lock x.txt") < at("rename"));
}

#[test]
fn what_is_locked_stays_locked_past_the_last_rename() {
    for (fake, victim) in [session(), blobs(), a_file()] {
        let outcome = remove(&fake, &victim, &[]);
        assert!(matches!(outcome, Outcome::Aside(_)), "{outcome:?}");
        let log = fake.log.borrow();
        let locked: Vec<_> = log.iter().filter_map(|l| l.strip_prefix("lock ")).collect();
        assert!(!locked.is_empty(), "{log:?}");
        let renamed = log.iter().rposition(|line| line.starts_with("rename"));
        for name in locked {
            let closed = log.iter().position(|line| *line == format!("close {name}"));
            assert!(closed > renamed, "{name}: {log:?}");
        }
    }
}

#[test]
fn blobs_that_are_not_as_planned_stay_all() {
    type Change = fn(&Fake);
    let cases: [(Change, Outcome); 5] = [
        (
            |f| f.replace("x.txt", 99, FileKind::File),
            Outcome::Skipped(Skip::Replaced),
        ),
        (
            |f| f.replace("x.txt", 21, FileKind::Dir),
            Outcome::Skipped(Skip::Replaced),
        ),
        (
            |f| f.locked.borrow_mut().push(21),
            Outcome::Skipped(Skip::Locked),
        ),
        (
            |f| f.fail("save", "", libc::EROFS),
            refused("write the intent", libc::EROFS),
        ),
        (
            |f| f.fail("rename", "x.wav", libc::EPERM),
            refused("rename", libc::EPERM),
        ),
    ];
    for (change, outcome) in cases {
        let (fake, victim) = blobs();
        change(&fake);
        assert_eq!(remove(&fake, &victim, &[]), outcome);
        assert_eq!(fake.n_trash(), 0);
        assert!(
            fake.records.borrow().is_empty(),
            "nothing is left to finish"
        );
    }
}

#[test]
fn blobs_half_gone_are_finished_later_and_newer_ones_are_left() {
    let (fake, victim) = blobs();
    fake.fail("rename", "x.txt", libc::EIO);
    let outcome = remove(&fake, &victim, &[]);
    assert!(matches!(outcome, Outcome::Aside(asides) if asides.len() == 1));
    fake.errors.borrow_mut().clear();
    // The owner makes a new blob under the old name and even the old number.
    let mut newer = fake.put("x.wav", 20, FileKind::File);
    newer.btime = Some(UnixNanos(77));
    fake.names.borrow_mut().insert("x.wav".into(), newer);
    let disk = On(fake.clone());
    let intents = unfinished(&disk).expect("one");
    let (asides, left) = finish_blobs(&disk, &intents.intents[0].1, now(QUIET));
    assert_eq!((asides.len(), left.len()), (1, 0));
    assert!(fake.get("x.wav").is_ok() && fake.get("x.txt").is_err());
}
