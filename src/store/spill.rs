//! Rows of the audit that could not be written yet, in order.
//!
//! A file of lines in the state directory: the checksum, a space, the row as JSON. It is appended to
//! and synced; when all of it is in the database it is emptied. Where it is read from is not
//! written down: after a crash all of it is written to the database again, and rows that are there
//! are recognised by their ids. A line that was torn by a crash or a full disk is no row.
//!
//! Bounds: the file takes [`MAX_FILE`] bytes. While it takes no more, or cannot be written, rows wait
//! in memory, at most [`MAX_MEMORY`]; more are counted by root and event ([`Folded`]), and the counts
//! become rows as soon as there is room.

use crate::store::audit::{Actor, Entry, Ids};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// About a million rows.
const MAX_FILE: u64 = 256 << 20;
/// About 20 MiB.
const MAX_MEMORY: usize = 1 << 16;
/// A line is never longer: a row that would be has its texts cut. What is longer is no line of ours.
const MAX_LINE: usize = 64 << 10;
/// What stands where a text was cut.
const CUT: &str = "… (cut)";
/// Roots and events that are told apart; more are one.
const MAX_KINDS: usize = 256;

/// Rows that there was no room for: how many, and how many bytes, by root and event.
#[derive(Debug, Default)]
pub struct Folded(BTreeMap<(Option<String>, String), (u64, u64)>);

impl Folded {
    pub(super) fn add(&mut self, entry: &Entry) {
        let mut key = (entry.root.clone(), entry.event.clone());
        if self.0.len() >= MAX_KINDS && !self.0.contains_key(&key) {
            key = (None, "other".to_owned());
        }
        let (rows, bytes) = self.0.entry(key).or_default();
        *rows = rows.saturating_add(1);
        *bytes = bytes.saturating_add(entry.bytes.unwrap_or(0));
    }

    fn absorb(&mut self, other: Self) {
        for (key, (more_rows, more_bytes)) in other.0 {
            let (rows, bytes) = self.0.entry(key).or_default();
            *rows = rows.saturating_add(more_rows);
            *bytes = bytes.saturating_add(more_bytes);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn n_rows(&self) -> u64 {
        self.0.values().map(|(rows, _)| rows).sum()
    }

    /// A row for each count.
    fn entries(self, now: crate::model::time::Time, ids: &mut Ids) -> Vec<Entry> {
        let row = |((root, event), (rows, bytes)): ((Option<String>, String), (u64, u64))| {
            let because = format!("{rows} rows of {event} found no room and are counted only");
            Entry {
                root,
                bytes: Some(bytes),
                ..Entry::new(ids.next_id(), now, Actor::Agent, "audit.folded", because)
            }
        };
        self.0.into_iter().map(row).collect()
    }
}

/// The file and what is behind it.
#[derive(Debug)]
pub(super) struct Spill {
    /// `None`: rows wait in memory only.
    path: Option<PathBuf>,
    /// `None`: it could not be opened yet, or there is nothing in it.
    file: Option<File>,
    /// Where whole lines end.
    end: u64,
    /// Up to here all is in the database.
    read: u64,
    /// Rows between.
    n_rows: u64,
    /// What comes after the file.
    memory: VecDeque<Entry>,
    folded: Folded,
    /// Why the file takes no more.
    pub(super) trouble: Option<String>,
}

impl Spill {
    /// What an earlier run left. A file that cannot be read stays as it is, and rows wait in
    /// memory.
    pub(super) fn open(path: Option<PathBuf>) -> Self {
        let mut spill = Self {
            path,
            file: None,
            end: 0,
            read: 0,
            n_rows: 0,
            memory: VecDeque::new(),
            folded: Folded::default(),
            trouble: None,
        };
        if spill.path.as_ref().is_some_and(|path| path.exists()) {
            spill.trouble = spill.ready().err().map(|error| spill.say(&error));
        }
        spill
    }

    pub(super) fn backlog(&self) -> u64 {
        self.n_rows + self.memory.len() as u64 + self.folded.n_rows()
    }

    /// What is lost with the process.
    pub(super) fn unkept(&self) -> u64 {
        self.memory.len() as u64 + self.folded.n_rows()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.backlog() == 0
    }

    pub(super) fn fold(&mut self, folded: Folded) {
        self.folded.absorb(folded);
    }

    /// The counts become rows, where the queue has room again.
    pub(super) fn unfold(&mut self, now: crate::model::time::Time, ids: &mut Ids) {
        if !self.folded.is_empty() && self.memory.len() + MAX_KINDS < MAX_MEMORY {
            let rows = std::mem::take(&mut self.folded).entries(now, ids);
            self.memory.extend(rows);
        }
    }

    /// Keeps rows, behind all that are kept.
    pub(super) fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            if self.memory.len() < MAX_MEMORY {
                self.memory.push_back(entry);
            } else {
                self.folded.add(&entry);
            }
        }
        self.trouble = match self.write_out() {
            Ok(()) => None,
            Err(error) => Some(self.say(&error)),
        };
    }

    fn say(&self, error: &io::Error) -> String {
        match &self.path {
            Some(path) if error.kind() == fs2::lock_contended_error().kind() => {
                format!("{}: a running agent or command has it", path.display())
            }
            Some(path) => format!("{}: {error}", path.display()),
            None => error.to_string(),
        }
    }

    /// Moves what is in memory into the file.
    fn write_out(&mut self) -> io::Result<()> {
        if self.memory.is_empty() {
            return Ok(());
        }
        self.ready()?;
        let mut lines = Vec::new();
        let mut n_taken = 0;
        for entry in &self.memory {
            let line = line(entry);
            if self.end + (lines.len() + line.len()) as u64 > MAX_FILE {
                break;
            }
            lines.extend(line);
            n_taken += 1;
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.end))?;
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Half a line stays half a line if this fails, too; the next write goes over it.
            file.set_len(self.end)?;
            return Err(error);
        }
        self.end += lines.len() as u64;
        self.n_rows += n_taken as u64;
        self.memory.drain(..n_taken);
        if self.memory.is_empty() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is full"))
        }
    }

    /// Opens the file, if it is not open.
    fn ready(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let Some(path) = &self.path else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "there is none"));
        };
        let mut file = open(path)?;
        let (end, n_rows, n_torn) = count(&mut file)?;
        if n_torn > 0 {
            tracing::warn!(
                event = "store.spill_torn",
                lines = n_torn,
                path = %path.display(),
                "lines of the file were not whole; they are left out"
            );
        }
        self.end = end;
        self.read = 0;
        self.n_rows = n_rows;
        self.file = Some(file);
        Ok(())
    }

    /// The oldest rows, at most about `limit`; nothing is taken out. The second is for
    /// [`Spill::done`].
    pub(super) fn oldest(&mut self, limit: usize) -> io::Result<(Vec<Entry>, Done)> {
        if self.n_rows == 0 {
            let rows: Vec<Entry> = self.memory.iter().take(limit).cloned().collect();
            let n_rows = rows.len();
            return Ok((rows, Done::Memory { n_rows }));
        }
        let Some(file) = &mut self.file else {
            return Ok((Vec::new(), Done::Memory { n_rows: 0 }));
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut lines = Lines::new(file.take(self.end - self.read));
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(line) = lines.next_line()?
        {
            rows.extend(row(&line));
        }
        let to = self.read + lines.passed;
        let n_rows = rows.len();
        Ok((rows, Done::File { to, n_rows }))
    }

    /// The rows that [`Spill::oldest`] gave are in the database.
    pub(super) fn done(&mut self, done: &Done) {
        match *done {
            Done::Memory { n_rows } => {
                self.memory.drain(..n_rows);
            }
            Done::File { to, n_rows } => {
                self.read = to;
                self.n_rows = self.n_rows.saturating_sub(n_rows as u64);
                if self.read >= self.end {
                    self.n_rows = 0;
                }
                if self.n_rows == 0 {
                    self.empty();
                }
            }
        }
    }

    /// Nothing of the file is needed any more. Where it cannot be emptied its rows are written once
    /// more after the next start, which changes nothing.
    fn empty(&mut self) {
        if let Some(file) = &self.file
            && file.set_len(0).is_ok()
        {
            (self.end, self.read) = (0, 0);
        }
    }
}

/// What of a spill is done with.
#[derive(Debug)]
pub(super) enum Done {
    File { to: u64, n_rows: usize },
    Memory { n_rows: usize },
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    // Another process's rows are its own business.
    fs2::FileExt::try_lock_exclusive(&file)?;
    Ok(file)
}

/// Where the last whole line ends, how many rows there are, and how many lines are none.
fn count(file: &mut File) -> io::Result<(u64, u64, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut lines = Lines::new(file);
    let (mut n_rows, mut n_torn) = (0, 0);
    while let Some(line) = lines.next_line()? {
        match row(&line) {
            Some(_) => n_rows += 1,
            None => n_torn += 1,
        }
    }
    let tail = u64::from(lines.has_tail());
    Ok((lines.passed, n_rows, n_torn + tail))
}

/// Lines of a file, with where they end.
struct Lines<R> {
    file: R,
    buffer: Vec<u8>,
    at: usize,
    passed: u64,
}

impl<R: Read> Lines<R> {
    fn new(file: R) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            at: 0,
            passed: 0,
        }
    }

    /// The next line that has an end. One that is too long comes in pieces, none of them a row.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let rest = &self.buffer[self.at..];
            let end = rest.iter().position(|b| *b == b'\n');
            if let Some(length) = end
                .map(|end| end + 1)
                .or_else(|| (rest.len() > MAX_LINE).then_some(rest.len()))
            {
                let line = rest[..length].to_vec();
                self.at += length;
                self.passed += length as u64;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let mut more = [0; 16 << 10];
            match self.file.read(&mut more)? {
                0 => return Ok(None),
                n => self.buffer.extend(&more[..n]),
            }
        }
    }

    fn has_tail(&self) -> bool {
        self.at < self.buffer.len()
    }
}

/// FNV-1a: it finds torn writes, not forgers.
fn checksum(text: &[u8]) -> u64 {
    crate::store::state::fnv1a(text)
}

fn line(entry: &Entry) -> Vec<u8> {
    let mut line = spelled(entry);
    // In JSON a byte takes six at most: at 512 bytes a text the longest row is short enough.
    let mut longest = MAX_LINE / 4;
    while line.len() > MAX_LINE && longest >= 512 {
        line = spelled(&shortened(entry, longest));
        longest /= 2;
    }
    line
}

fn spelled(entry: &Entry) -> Vec<u8> {
    // Strings and numbers only: it never fails.
    let text = serde_json::to_string(entry).unwrap_or_default();
    format!("{:016x} {text}\n", checksum(text.as_bytes())).into_bytes()
}

/// The same row with no text longer than so many bytes, and the mark.
fn shortened(entry: &Entry, longest: usize) -> Entry {
    let cut = |text: &str| {
        if text.len() <= longest {
            return text.to_owned();
        }
        let mut ends = (0..=longest).rev();
        let end = ends.find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        format!("{}{CUT}", &text[..end])
    };
    Entry {
        event: cut(&entry.event),
        root: entry.root.as_deref().map(cut),
        session: entry.session.as_deref().map(cut),
        path: entry.path.as_deref().map(cut),
        rule: entry.rule.as_deref().map(cut),
        because: cut(&entry.because),
        plan: entry.plan.as_deref().map(cut),
        ..entry.clone()
    }
}

/// How many rows wait in a file of another process, or of one that has ended. Nothing is locked
/// or changed; no file is none.
pub(super) fn waiting(path: &Path) -> io::Result<u64> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match opened {
        Ok(mut file) => count(&mut file).map(|(_, n_rows, _)| n_rows),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn row(line: &[u8]) -> Option<Entry> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, text) = line.split_at_checked(17)?;
    let sum = u64::from_str_radix(std::str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
    (sum == checksum(text)).then(|| serde_json::from_slice(text).ok())?
}

#[cfg(test)]
mod tests;
