//! Programs that fill a directory: threads that write sessions, each in its own way and speed.
//!
//! A session is a directory with `metadata.json` and data files. While it is written its state is
//! `active`; the last thing that happens to it is `complete`. A writer whose session vanishes
//! under its hands notices and counts it: that must not happen.

use crate::model::bytes::Bytes;
use anyhow::{Context, anyhow};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// In this time the writers together write as much as the limit allows.
const TURNOVER: Duration = Duration::from_secs(6);
/// So much of the limit is there before the writers begin, in percent: nobody likes to wait.
const FILLED: u64 = 85;
const N_OLD: u64 = 50;
/// A writer that stood still does not make up for more than this.
const MAX_DEBT: Duration = Duration::from_millis(250);
/// So often a resting writer looks whether it is time to stop.
const NAP: Duration = Duration::from_millis(20);

/// How one writer works. Sizes are parts of the limit, so that any limit gives the same picture.
#[derive(Debug)]
pub(super) struct Habit {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Of all that is written, in percent.
    share: u64,
    /// A session has the n-th part of the limit.
    session: u64,
    /// One write has the n-th part of the limit.
    piece: u64,
    /// Sessions written at full speed before it rests.
    burst: u64,
    files: Files,
}

#[derive(Debug, Clone, Copy)]
enum Files {
    /// A file for each piece.
    Many(&'static str),
    /// All pieces in one file.
    One(&'static str),
}

/// Everybody who writes.
pub(super) const HABITS: [Habit; 4] = [
    Habit {
        name: "camera",
        what: "slow, many small files",
        share: 10,
        session: 80,
        piece: 16 << 10,
        burst: 1,
        files: Files::Many("jpg"),
    },
    Habit {
        name: "upload",
        what: "steady, one big file",
        share: 40,
        session: 30,
        piece: 2 << 10,
        burst: 1,
        files: Files::One("upload.bin"),
    },
    Habit {
        name: "cache",
        what: "in bursts",
        share: 30,
        session: 120,
        piece: 4 << 10,
        burst: 4,
        files: Files::Many("blob"),
    },
    Habit {
        name: "logs",
        what: "line by line",
        share: 20,
        session: 60,
        piece: 32 << 10,
        burst: 1,
        files: Files::One("app.log"),
    },
];

/// A session that is complete.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) at: DateTime<Utc>,
}

/// What writers and watchers of them share.
#[derive(Debug)]
pub(super) struct Shared {
    root: PathBuf,
    limit: Bytes,
    stop: AtomicBool,
    /// By writer, in the order of [`HABITS`].
    written: [AtomicU64; HABITS.len()],
    /// Sessions that vanished while they were written.
    lost: AtomicU64,
    made: Mutex<Vec<Made>>,
}

impl Shared {
    pub(super) fn written(&self, writer: usize) -> Bytes {
        Bytes(self.written[writer].load(Ordering::Relaxed))
    }

    pub(super) fn n_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes the sessions completed since the last time.
    pub(super) fn take_made(&self) -> Vec<Made> {
        std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_made(&self, name: String, at: DateTime<Utc>) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(Made { name, at });
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The writers at work.
#[derive(Debug)]
pub(super) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Crew {
    /// Nobody writes yet.
    pub(super) fn new(root: &Path, limit: Bytes) -> Self {
        Self {
            threads: Vec::new(),
            shared: Arc::new(Shared {
                root: root.to_owned(),
                limit,
                stop: AtomicBool::new(false),
                written: Default::default(),
                lost: AtomicU64::new(0),
                made: Mutex::default(),
            }),
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Begins to write what was there before.
    pub(super) fn fill(&mut self) -> anyhow::Result<()> {
        self.spawn("fill", |shared| fill(&shared))
    }

    /// Has all writers begin.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        for (at, habit) in HABITS.iter().enumerate() {
            self.spawn(habit.name, move |shared| {
                Writer::new(shared, at, habit).run()
            })?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(Arc<Shared>) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(shared))
            .context("cannot start a thread that writes")?;
        self.threads.push(thread);
        Ok(())
    }

    /// Whether somebody ended: all is filled, or something went wrong.
    pub(super) fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Waits for those who end by themselves.
    pub(super) fn join(&mut self) -> anyhow::Result<()> {
        let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        for thread in ended {
            thread.map_err(|_| anyhow!("a thread that writes panicked"))??;
        }
        Ok(())
    }

    /// Has everybody end, and waits.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(event = "demo.writer_failed", "{error:#}");
        }
    }
}

/// One directory that is being written.
struct Session {
    name: String,
    dir: PathBuf,
    created: DateTime<Utc>,
}

impl Session {
    fn begin(root: &Path, name: String, created: DateTime<Utc>) -> io::Result<Self> {
        let dir = root.join(&name);
        DirBuilder::new().create(&dir)?;
        let session = Self { name, dir, created };
        std::fs::write(
            session.dir.join("metadata.json"),
            session.metadata("active"),
        )?;
        Ok(session)
    }

    fn metadata(&self, state: &str) -> String {
        let created = self.created.to_rfc3339_opts(SecondsFormat::Micros, true);
        serde_json::json!({ "created_at": created, "state": state }).to_string()
    }

    /// As careful programs do it: whoever reads sees the old text or the new one.
    fn complete(&self) -> io::Result<()> {
        let new = self.dir.join("metadata.json.new");
        std::fs::write(&new, self.metadata("complete"))?;
        std::fs::rename(&new, self.dir.join("metadata.json"))
    }
}

fn fill(shared: &Shared) -> anyhow::Result<()> {
    let noise = noise(shared.limit.0 / 100 * FILLED / N_OLD);
    let now = Utc::now();
    for number in 1..=N_OLD {
        if shared.is_over() {
            break;
        }
        let minutes = i64::try_from(N_OLD - number).unwrap_or_default() + 1;
        let created = now - TimeDelta::minutes(minutes);
        let write = || -> io::Result<Session> {
            let name = format!("older-{number:04}");
            let session = Session::begin(&shared.root, name, created)?;
            std::fs::write(session.dir.join("data.bin"), &noise)?;
            session.complete()?;
            Ok(session)
        };
        let session = write().context("cannot fill the scratch root")?;
        shared.note_made(session.name, created);
    }
    Ok(())
}

/// Bytes that no file system makes smaller.
fn noise(n_bytes: u64) -> Vec<u8> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < n_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(usize::try_from(n_bytes).unwrap_or(usize::MAX));
    bytes
}

struct Writer {
    shared: Arc<Shared>,
    at: usize,
    habit: &'static Habit,
    piece: Vec<u8>,
    session_bytes: u64,
    bytes_a_second: f64,
    begun: Instant,
    written: u64,
}

impl Writer {
    fn new(shared: Arc<Shared>, at: usize, habit: &'static Habit) -> Self {
        let limit = shared.limit.0;
        Self {
            piece: noise((limit / habit.piece).clamp(64, 1 << 20)),
            session_bytes: (limit / habit.session).max(1),
            bytes_a_second: (limit / 100 * habit.share) as f64 / TURNOVER.as_secs_f64(),
            begun: Instant::now(),
            written: 0,
            shared,
            at,
            habit,
        }
    }

    fn run(mut self) -> anyhow::Result<()> {
        let mut number = 0;
        while !self.shared.is_over() {
            for _ in 0..self.habit.burst {
                number += 1;
                match self.write_session(number) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        self.shared.lost.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("the writer `{}` failed", self.habit.name));
                    }
                }
            }
            self.keep_pace();
        }
        Ok(())
    }

    fn write_session(&mut self, number: u64) -> io::Result<()> {
        let name = format!("{}-{number:04}", self.habit.name);
        let session = Session::begin(&self.shared.root, name, Utc::now())?;
        let mut in_one = match self.habit.files {
            Files::One(name) => Some(open(&session.dir.join(name))?),
            Files::Many(_) => None,
        };
        let mut session_written = 0;
        while session_written < self.session_bytes && !self.shared.is_over() {
            match (&mut in_one, self.habit.files) {
                (None, Files::Many(kind)) => {
                    let name = format!("{session_written:010}.{kind}");
                    open(&session.dir.join(name))?.write_all(&self.piece)?;
                }
                (Some(file), _) => file.write_all(&self.piece)?,
                (None, Files::One(_)) => {}
            }
            let n_bytes = self.piece.len() as u64;
            session_written += n_bytes;
            self.written += n_bytes;
            self.shared.written[self.at].fetch_add(n_bytes, Ordering::Relaxed);
            if self.habit.burst == 1 {
                self.keep_pace();
            }
        }
        session.complete()?;
        self.shared.note_made(session.name, session.created);
        Ok(())
    }

    /// Rests while it has written more than its speed allows.
    fn keep_pace(&mut self) {
        while !self.shared.is_over() {
            let due = Duration::from_secs_f64(self.written as f64 / self.bytes_a_second);
            let elapsed = self.begun.elapsed();
            if due <= elapsed {
                self.begun += (elapsed - due).saturating_sub(MAX_DEBT);
                return;
            }
            std::thread::sleep((due - elapsed).min(NAP));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).open(path)
}
