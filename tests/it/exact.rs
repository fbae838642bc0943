//! Exactness: at rest the agent's figures equal a naive recount of the disk, to the byte,
//! after any operations on a real directory, and without any rescan in between.
//!
//! The random operations come from seeds, on every backend, in memory and on the disk of
//! temporary files: `EXACT_MEMORY=95 EXACT_DISK=5 EXACT_BACKENDS=all` is all of them (as
//! `.ci/long` runs it), `EXACT_FIRST=17 EXACT_MEMORY=1 EXACT_DISK=0 EXACT_BACKENDS=notify` one.
//! `EXACT_OPS` makes them longer; `EXACT_SHRINK=200 EXACT_PATIENCE=3` makes a failing one small.

#![expect(
    clippy::print_stdout,
    reason = "seeds, figures and skipped parts are for who reads the run"
)]

use crate::support::recount;
use crate::support::resting::{number, settled, without_rescan};
use crate::support::running::{Agent, Dice, Place, make_session, wait_for};
use housekeeper::model::watcher::Backend;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, fallocate, linkat, openat,
    renameat_with,
};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// Operations name places by numbers, so that they often meet.
#[derive(Debug, Clone)]
enum Op {
    Write(Spot, u32),
    Append(Spot, u32),
    Truncate(Spot, u32),
    Allocate(Spot, u8, u32),
    Rename(Spot, Spot),
    Exchange(Spot, Spot),
    Remove(Spot),
    RemoveAndRemake(Spot, u32),
    Link(Spot, Spot),
    Symlink(Spot),
    Replace(Spot, u32),
    Become(Spot, u32),
    Deep(Spot, u8, u32),
    Unnamed(Spot, u32, u32),
    Hold(Spot),
    WriteHeld(u8, u32),
    DropHeld(u8),
    MoveUnderWriter(Spot, Spot, u32),
}

/// A place: outside or inside, then names.
#[derive(Debug, Clone)]
struct Spot {
    outside: bool,
    names: Vec<u8>,
}

fn spot(outside: bool) -> impl Strategy<Value = Spot> {
    let names = (0..6u8, prop::collection::vec(0..4u8, 0..3));
    let outside = if outside { 0.15 } else { 0.0 };
    (prop::bool::weighted(outside), names).prop_map(|(outside, (top, below))| Spot {
        outside,
        names: std::iter::once(top).chain(below).collect(),
    })
}

fn operation() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![0..50u32, 4090..4100u32, 0..40_000u32];
    prop_oneof![
        8 => (spot(true), len()).prop_map(|(a, n)| Op::Write(a, n)),
        5 => (spot(false), len()).prop_map(|(a, n)| Op::Append(a, n)),
        3 => (spot(false), len()).prop_map(|(a, n)| Op::Truncate(a, n)),
        2 => (spot(false), 0..3u8, len()).prop_map(|(a, m, n)| Op::Allocate(a, m, n)),
        8 => (spot(true), spot(true)).prop_map(|(a, b)| Op::Rename(a, b)),
        4 => (spot(true), spot(true)).prop_map(|(a, b)| Op::Exchange(a, b)),
        3 => spot(true).prop_map(Op::Remove),
        3 => (spot(true), len()).prop_map(|(a, n)| Op::RemoveAndRemake(a, n)),
        5 => (spot(true), spot(true)).prop_map(|(a, b)| Op::Link(a, b)),
        2 => spot(false).prop_map(Op::Symlink),
        3 => (spot(false), len()).prop_map(|(a, n)| Op::Replace(a, n)),
        3 => (spot(false), len()).prop_map(|(a, n)| Op::Become(a, n)),
        4 => (spot(true), 1..6u8, len()).prop_map(|(a, d, n)| Op::Deep(a, d, n)),
        3 => (spot(false), len(), len()).prop_map(|(a, n, m)| Op::Unnamed(a, n, m)),
        3 => spot(false).prop_map(Op::Hold),
        4 => (any::<u8>(), len()).prop_map(|(i, n)| Op::WriteHeld(i, n)),
        1 => any::<u8>().prop_map(Op::DropHeld),
        3 => (spot(false), spot(true), len()).prop_map(|(a, b, n)| Op::MoveUnderWriter(a, b, n)),
    ]
}

/// Carries operations out; one that meets nothing to work on does nothing.
struct World {
    root: PathBuf,
    outside: PathBuf,
    far: PathBuf,
    held: Vec<File>,
}

impl World {
    fn path(&self, spot: &Spot) -> io::Result<PathBuf> {
        const TOP: [&str; 6] = ["s0", "s1", "s2", "loose", ".hidden", "s3"];
        const BELOW: [&str; 4] = ["a", "b", "metadata.json", "c"];
        let mut path = if spot.outside {
            self.outside.clone()
        } else {
            self.root.clone()
        };
        for (depth, n) in spot.names.iter().enumerate() {
            // Never through a symlink: only what is named here is worked on.
            if depth > 0 && fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink()) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let names: &[&str] = if depth == 0 { &TOP } else { &BELOW };
            path.push(names[usize::from(*n) % names.len()]);
        }
        Ok(path)
    }

    fn parents(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path.parent().expect("below a root"))
    }

    /// A write through one of several names of a file is told under that name alone. Where it
    /// goes before anybody looks, no event leads to the others: no kernel tells more, and it is
    /// left to the guard. So such files are written to when nothing follows but rest, in
    /// [`World::write_linked`].
    fn is_linked(path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.nlink() > 1)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        if Self::is_linked(path) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    }

    fn write(&self, path: &Path, len: u32) -> io::Result<()> {
        Self::parents(path)?;
        if Self::is_linked(path) {
            return Ok(());
        }
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?
            .write_all(&vec![7; len as usize])
    }

    /// Appends to every file in the root that has several names, under each of those inside.
    fn write_linked(&self) -> usize {
        let mut n_written = 0;
        let mut stack = vec![self.root.clone()];
        while let Some(dir) = stack.pop() {
            for entry in fs::read_dir(dir).expect("a directory").flatten() {
                let path = entry.path();
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_dir && entry.file_name() != ".housekeeper" {
                    stack.push(path);
                } else if Self::is_linked(&path) {
                    let file = OpenOptions::new().append(true).open(&path);
                    file.and_then(|mut file| file.write_all(&[5; 1234]))
                        .expect("it grows");
                    n_written += 1;
                }
            }
        }
        n_written
    }

    fn remove(path: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
    }

    /// Whether what is written through a descriptor is told of, or does not matter: see
    /// [`World::is_linked`].
    fn is_visible(file: &File) -> io::Result<bool> {
        let meta = file.metadata()?;
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let is_named = fs::symlink_metadata(link).is_ok_and(|named| named.ino() == meta.ino());
        Ok(meta.nlink() == 0 || (meta.nlink() == 1 && is_named))
    }

    fn apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::Write(at, len) => self.write(&self.path(at)?, *len),
            Op::Append(at, len) => {
                let path = self.path(at)?;
                if Self::is_linked(&path) {
                    return Ok(());
                }
                let mut file = OpenOptions::new()
                    .append(true)
                    .custom_flags(libc::O_NOFOLLOW)
                    .open(path)?;
                file.write_all(&vec![9; *len as usize])
            }
            Op::Truncate(at, len) => self.open(&self.path(at)?)?.set_len((*len).into()),
            Op::Allocate(at, mode, len) => {
                let file = self.open(&self.path(at)?)?;
                let flags = match mode {
                    0 => FallocateFlags::empty(),
                    1 => FallocateFlags::KEEP_SIZE,
                    _ => FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE,
                };
                Ok(fallocate(&file, flags, 0, u64::from(*len).max(1))?)
            }
            Op::Rename(from, to) => fs::rename(self.path(from)?, self.path(to)?),
            Op::Exchange(a, b) => {
                let (a, b) = (self.path(a)?, self.path(b)?);
                Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
            }
            Op::Remove(at) => Self::remove(&self.path(at)?),
            Op::RemoveAndRemake(at, len) => {
                let path = self.path(at)?;
                let was_dir = fs::symlink_metadata(&path)?.is_dir();
                Self::remove(&path)?;
                if was_dir {
                    self.write(&path.join("b"), *len)
                } else {
                    self.write(&path, *len)
                }
            }
            Op::Link(from, to) => {
                let (from, to) = (self.path(from)?, self.path(to)?);
                Self::parents(&to)?;
                fs::hard_link(from, to)
            }
            Op::Symlink(at) => {
                let path = self.path(at)?;
                Self::parents(&path)?;
                symlink(&self.far, path)
            }
            Op::Replace(at, len) => {
                let path = self.path(at)?;
                let new = path.with_extension("new");
                self.write(&new, *len)?;
                fs::rename(&new, &path).or_else(|_| fs::remove_file(&new))
            }
            Op::Become(at, len) => {
                let path = self.path(at)?;
                let was_dir = fs::symlink_metadata(&path)?.is_dir();
                Self::remove(&path)?;
                if was_dir {
                    self.write(&path, *len)
                } else {
                    self.write(&path.join("a"), *len)
                }
            }
            Op::Deep(at, depth, len) => {
                let mut path = self.path(at)?;
                for n in 0..*depth {
                    path.push(format!("d{n}"));
                }
                self.write(&path.join("deep"), *len)?;
                self.write(&path.with_file_name("up"), *len / 2)
            }
            Op::Unnamed(at, len, more) => {
                let path = self.path(at)?;
                Self::parents(&path)?;
                let dir = path.parent().expect("below a root");
                let flags = OFlags::TMPFILE | OFlags::WRONLY;
                let mut file = File::from(openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR)?);
                file.write_all(&vec![1; *len as usize])?;
                let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
                linkat(CWD, itself, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
                file.write_all(&vec![2; *more as usize])
            }
            Op::Hold(at) => {
                let file = self.open(&self.path(at)?)?;
                if self.held.len() < 16 && file.metadata()?.is_file() {
                    self.held.push(file);
                }
                Ok(())
            }
            Op::WriteHeld(i, len) => match self.held.len() {
                0 => Ok(()),
                n => {
                    let file = &mut self.held[usize::from(*i) % n];
                    if Self::is_visible(file)? {
                        file.write_all(&vec![3; *len as usize])?;
                    }
                    Ok(())
                }
            },
            Op::DropHeld(i) => {
                if !self.held.is_empty() {
                    let at = usize::from(*i) % self.held.len();
                    self.held.swap_remove(at);
                }
                Ok(())
            }
            Op::MoveUnderWriter(from, to, len) => {
                let (from, to) = (self.path(from)?, self.path(to)?);
                self.write(&from.join("open"), *len)?;
                let mut writer = self.open(&from.join("open"))?;
                fs::rename(&from, &to)?;
                if Self::is_visible(&writer)? {
                    writer.set_len(0)?;
                    writer.write_all(&vec![4; *len as usize / 2])?;
                }
                self.write(&to.join("c/new"), *len)?;
                self.write(&to.join("b"), *len / 3)
            }
        }
    }
}

/// One run: a seed's operations, heard by one backend.
#[derive(Debug, Clone, Copy)]
struct Case {
    seed: u64,
    backend: Backend,
    is_in_memory: bool,
}

/// The seeds of one kind of file system, each on one backend in turn, or on those asked for.
fn cases(first: u64, n_seeds: u64, is_in_memory: bool) -> Vec<Case> {
    let wanted = std::env::var("EXACT_BACKENDS").unwrap_or_default();
    let is_wanted = |backend: Backend, seed: u64| match wanted.as_str() {
        "" => Backend::ALL[(seed % Backend::ALL.len() as u64) as usize] == backend,
        "all" => true,
        names => names.split(',').any(|name| name == backend.name()),
    };
    (first..first + n_seeds)
        .flat_map(|seed| Backend::ALL.map(|backend| (seed, backend)))
        .filter(|(seed, backend)| is_wanted(*backend, *seed))
        .map(|(seed, backend)| Case {
            seed,
            backend,
            is_in_memory,
        })
        .collect()
}

#[test]
fn at_rest_the_figures_equal_a_recount_after_any_operations() {
    let first = number("EXACT_FIRST", 0);
    let mut cases = cases(first, number("EXACT_MEMORY", 9), true);
    cases.extend(self::cases(1001 + first, number("EXACT_DISK", 1), false));
    cases.reverse();
    let (waiting, failed) = (Mutex::new(cases), Mutex::new(Vec::new()));
    // A run waits for rest most of its time.
    std::thread::scope(|scope| {
        for _ in 0..number("EXACT_JOBS", 4) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no panic").pop();
                    let Some(case) = next else { break };
                    if let Err(error) = run(case) {
                        let failure = format!("{case:?}: {error}");
                        failed.lock().expect("no panic").push(failure);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The panic's message where a case fails, with the few operations that suffice when asked for.
fn run(case: Case) -> Result<(), String> {
    let n_ops = number("EXACT_OPS", 4000) as usize;
    let config = Config {
        rng_seed: RngSeed::Fixed(case.seed),
        failure_persistence: None,
        ..Config::default()
    };
    let ops = prop::collection::vec(operation(), n_ops)
        .new_tree(&mut TestRunner::new(config))
        .expect("operations")
        .current();
    let begun = Instant::now();
    let Err(error) = try_storm(case, &ops) else {
        let took = begun.elapsed();
        println!("exact: {case:?}: {n_ops} operations, 0 bytes of drift, {took:.1?}");
        return Ok(());
    };
    println!("NOT exact: {case:?}: {error}");
    let small = shrunk(ops, number("EXACT_SHRINK", 0), |ops| {
        try_storm(case, ops).is_err()
    });
    match small {
        Some(small) => Err(format!("{error}\n{small:#?}")),
        None => Err(error),
    }
}

fn try_storm(case: Case, ops: &[Op]) -> Result<(), String> {
    std::panic::catch_unwind(|| storm(case, ops)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default()
    })
}

/// Leaves out ever smaller pieces as long as it fails, in at most so many runs.
fn shrunk(mut ops: Vec<Op>, n_runs: u64, fails: impl Fn(&[Op]) -> bool) -> Option<Vec<Op>> {
    let mut left = n_runs;
    let mut piece = ops.len() / 2;
    while piece > 0 && left > 0 {
        let mut at = 0;
        while at < ops.len() && left > 0 {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + piece).min(ops.len()));
            left -= 1;
            if fails(&fewer) {
                ops = fewer;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    (n_runs > 0).then_some(ops)
}

fn storm(case: Case, ops: &[Op]) {
    let mut place = if case.is_in_memory {
        Place::in_memory()
    } else {
        Place::new()
    };
    place.backend = case.backend.name();
    place.configure("[root.limits]\nmax_size = \"100 GiB\"");
    let mut world = World {
        root: place.root.clone(),
        outside: place.beside("outside"),
        far: place.beside("far"),
        held: Vec::new(),
    };
    fs::create_dir(&world.outside).expect("a directory");
    fs::create_dir(&world.far).expect("a directory");
    fs::write(world.far.join("file"), "far").expect("a file");
    let Some(agent) = place.heard_by(case.backend) else {
        return;
    };
    let start = agent.root();
    let rests = |agent: &Agent<'_>| {
        let status = settled(agent, &place.root);
        if case.backend != Backend::Poll {
            without_rescan(&start, &status);
        }
    };
    // Rests in between, so that a wrong figure is not put right by what follows; polling rests
    // for a round each time.
    let part = if case.backend == Backend::Poll {
        800
    } else {
        200
    };
    let mut n_done = 0;
    for part in ops.chunks(part) {
        for op in part {
            n_done += u32::from(world.apply(op).is_ok());
        }
        rests(&agent);
        if world.write_linked() > 0 {
            rests(&agent);
        }
    }
    assert!(
        n_done as usize >= ops.len() / 8,
        "too little was done: {n_done}"
    );
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_thousand_new_directories_with_a_file_each_lose_nothing() {
    let place = Place::new();
    place.configure("");
    let agent = place.agent();
    let start = agent.root();
    let at = |n: u32| place.root.join(format!("s{}/d{n}", n % 10));
    for n in 0..1000 {
        fs::create_dir_all(at(n)).expect("a directory");
    }
    for n in 0..1000 {
        fs::write(at(n).join("file"), vec![1; n as usize]).expect("a file");
    }
    let status = settled(&agent, &place.root);
    assert_eq!(
        (&status["files"], &status["session_count"]),
        (&1000.into(), &10.into())
    );
    without_rescan(&start, &status);
    // And all of them are watched now.
    for n in 0..1000 {
        fs::write(at(n).join("file"), vec![2; 10]).expect("a file");
        fs::write(at(n).join("second"), [3; 7]).expect("a file");
    }
    let status = settled(&agent, &place.root);
    assert_eq!(status["bytes"], 17_000);
    without_rescan(&start, &status);
}

#[test]
fn a_directory_renamed_under_its_writer_keeps_being_seen() {
    let place = Place::new();
    place.configure("");
    fs::create_dir_all(place.root.join("a/sub")).expect("directories");
    let agent = place.agent();
    let start = agent.root();
    let mut name = place.root.join("a");
    for n in 0..200 {
        let mut writer = File::create(name.join("sub/open")).expect("a file");
        let to = place.root.join(format!("n{n}"));
        fs::rename(&name, &to).expect("it moves");
        writer.write_all(&[1; 1000]).expect("it writes");
        fs::write(to.join("sub/new"), [2; 500]).expect("a file");
        fs::create_dir_all(to.join(format!("more{n}/deep"))).expect("directories");
        fs::write(to.join(format!("more{n}/deep/file")), [3; 10]).expect("a file");
        name = to;
    }
    let status = settled(&agent, &place.root);
    assert_eq!(status["bytes"], 1500 + 2000);
    without_rescan(&start, &status);
}

#[test]
fn many_directories_removed_by_others_while_others_are_written() {
    let place = Place::new();
    place.configure("");
    for n in 0..600 {
        let dir = place.root.join(format!("old/d{}/e{n}", n % 20));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("f"), [1; 100]).expect("a file");
    }
    let agent = place.agent();
    let start = agent.root();
    let old = place.root.join("old");
    let remover = std::thread::spawn(move || fs::remove_dir_all(old).expect("it goes"));
    for n in 0..400 {
        let dir = place.root.join(format!("new{}/d{n}", n % 7));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("f"), vec![1; n]).expect("a file");
    }
    remover.join().expect("no panic");
    let status = settled(&agent, &place.root);
    assert_eq!(status["files"], 400);
    without_rescan(&start, &status);
}

#[test]
fn growth_of_a_file_that_got_its_name_late_is_seen() {
    let place = Place::new();
    place.configure("");
    let dir = place.root.join("s");
    fs::create_dir(&dir).expect("a directory");
    let agent = place.agent();
    let start = agent.root();
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    let mut file = File::from(openat(CWD, &dir, flags, Mode::RUSR | Mode::WUSR).expect("a file"));
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, itself, CWD, dir.join("named"), AtFlags::SYMLINK_FOLLOW).expect("a name");
    for n in 1..=20u64 {
        file.write_all(&[1; 1000]).expect("it writes");
        let status = settled(&agent, &place.root);
        assert_eq!(status["bytes"], 1000 * n);
        without_rescan(&start, &status);
    }
}

/// Sessions come, grow and are pruned at the same time: at rest the limit holds, nothing but
/// the oldest is gone, not one more than needed, and the figures are exact.
#[test]
fn while_it_prunes_the_figures_stay_exact_and_only_the_oldest_go() {
    const LIMIT: u64 = 600_000;
    let seed = number("EXACT_SEED", 4711);
    println!("seed: {seed}");
    let mut dice = Dice::new(seed);
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
         [root.limits]\nmax_size = {LIMIT}\n[root.protect]\nquiet = \"0s\""
    ));
    let staging = place.beside("staging");
    let agent = place.agent();
    let start = agent.root();
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    let mut n_next = 0_i64;
    for _ in 0..8 {
        for _ in 0..60 {
            if dice.below(3) == 0 {
                let name = format!("s{n_next:05}");
                let size = 1 + dice.below(4000) as usize;
                make_session(&place.root, &staging, &name, 100_000 - n_next, (8, size));
                sizes.insert(name.clone(), 8 * size as u64 + 100);
                n_next += 1;
            } else if !sizes.is_empty() {
                grow(&place.root, &mut sizes, &mut dice);
            }
        }
        let status = settled(&agent, &place.root);
        without_rescan(&start, &status);
        let used = recount::directories(&place.root).apparent;
        assert!(used <= LIMIT, "{used}");
        let there = recount::sessions(&place.root);
        let newest: Vec<&String> = sizes.keys().rev().take(there.len()).rev().collect();
        assert!(there.iter().eq(newest), "only the oldest may go: {there:?}");
        let last_gone = sizes.keys().rev().nth(there.len());
        if let Some(gone) = last_gone {
            assert!(
                used + sizes[gone] > LIMIT,
                "one more than needed went: {gone}"
            );
        }
    }
    assert!(
        n_next as usize > recount::sessions(&place.root).len(),
        "something was pruned"
    );
    let pruned = agent.root()["pruned"]["sessions"].as_u64();
    let gone = sizes.len() - recount::sessions(&place.root).len();
    assert_eq!(pruned, Some(gone as u64));
    wait_for("an empty trash", || match place.trash() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

/// Appends to a random session, if it still is there.
fn grow(root: &Path, sizes: &mut BTreeMap<String, u64>, dice: &mut Dice) {
    let at = dice.below(sizes.len() as u64) as usize;
    let (name, size) = sizes.iter_mut().nth(at).expect("there are that many");
    let more = dice.below(6000);
    let file = root.join(name).join(format!("f{:04}", dice.below(8)));
    if let Ok(mut file) = OpenOptions::new().append(true).open(file) {
        // Gone meanwhile: the bytes are the trash's, which only makes our figure too big.
        file.write_all(&vec![1; more as usize]).expect("space");
        *size += more;
    }
}
