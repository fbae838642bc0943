//! What waits to be sent, on the disk: a file of lines in the state directory, so that it works
//! where the store does not, and holds through a kill at any moment.
//!
//! ```text
//! {"notice":{"id":…},"for":["hook"]}          somebody waits for it
//! {"done":"<id>","for":"hook"}                it arrived there, or was given up
//! {"more":{"id":…},"instead":["<id>"],"for":"hook"}   one speaks for many
//! {"known":"<key>","told":"<time>"}           is not told again
//! {"over":"<key>"}                            may be told again
//! ```
//!
//! Each line is appended whole and synced before anything is sent. At the start, and when most of
//! the file is of no use any more, it is written anew. What cannot be appended (a full disk) is
//! kept in memory, and the whole file is tried anew until it can be written.

use crate::model::time::{Time, rfc3339};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FILE: &str = "outbox.jsonl";
/// A file that is not read whole is put aside under this name; there is one at most.
const BAD: &str = "outbox.bad";
/// A longer file is none of ours: [`MAX_WAITING`] notices of some KiB are far below.
const MAX_FILE: u64 = 64 << 20;
/// Lines beyond what is of use before the file is written anew.
const MAX_DEAD: usize = 4096;
/// Notices that wait for one receiver. At the bound those that come are folded into the last.
pub(super) const MAX_WAITING: usize = 4096;
/// Identities that one notice that speaks for many repeats, and sentences of them.
const MAX_IDS: usize = 1000;
const MAX_SENTENCES: usize = 20;

/// Everything that waits, with what was told before.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) notices: BTreeMap<String, Value>,
    pub(super) waiting: BTreeMap<String, VecDeque<String>>,
    pub(super) known: BTreeMap<String, Time>,
    n_bad: usize,
}

#[derive(Debug)]
pub(super) struct Outbox {
    dir: PathBuf,
    pub(super) contents: Contents,
    /// `None`: the file must be written anew before anything can be appended.
    file: Option<File>,
    /// What is in the file is not what it should be.
    is_stale: bool,
    /// Lines not yet appended.
    pending: String,
    n_lines: usize,
}

impl Contents {
    fn read(text: &str) -> Self {
        let mut contents = Self::default();
        for line in text.lines() {
            let read = serde_json::from_str::<Map<String, Value>>(line).ok();
            if read.and_then(|line| contents.apply(&line)).is_none() {
                contents.n_bad += 1;
            }
        }
        contents.forget_unwanted();
        contents
    }

    /// `None`: it is no line of ours.
    fn apply(&mut self, line: &Map<String, Value>) -> Option<()> {
        let text = |key: &str| line.get(key).and_then(Value::as_str);
        if let Some(notice) = line.get("notice") {
            let id = id_of(notice)?;
            for lane in line.get("for")?.as_array()? {
                let lane = lane.as_str()?.to_owned();
                self.waiting.entry(lane).or_default().push_back(id.clone());
            }
            self.notices.insert(id, notice.clone());
        } else if let Some(done) = text("done") {
            self.waiting.get_mut(text("for")?)?.retain(|id| id != done);
        } else if let Some(more) = line.get("more") {
            let id = id_of(more)?;
            let instead = line.get("instead")?.as_array()?;
            let lane = self.waiting.get_mut(text("for")?)?;
            let ids: BTreeSet<&str> = instead.iter().filter_map(Value::as_str).collect();
            lane.retain(|id| !ids.contains(id.as_str()));
            lane.push_back(id.clone());
            self.notices.insert(id, more.clone());
        } else if let Some(key) = text("known") {
            let told = text("told")?.parse().ok()?;
            self.known.insert(key.to_owned(), told);
        } else {
            self.known.remove(text("over")?);
        }
        Some(())
    }

    /// Notices that nobody waits for any more.
    fn forget_unwanted(&mut self) {
        let wanted: BTreeSet<&String> = self.waiting.values().flatten().collect();
        self.notices.retain(|id, _| wanted.contains(id));
    }

    fn lines(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for (key, told) in &self.known {
            lines.push(json!({ "known": key, "told": rfc3339(*told) }));
        }
        // Each lane in its order; a notice for several is there once for each, under one identity.
        for (lane, ids) in &self.waiting {
            let notices = ids.iter().filter_map(|id| self.notices.get(id));
            lines.extend(notices.map(|notice| json!({ "notice": notice, "for": [lane] })));
        }
        lines
    }
}

/// When a notice was made.
pub(super) fn made(notice: &Value) -> Option<Time> {
    notice.get("timestamp")?.as_str()?.parse().ok()
}

fn id_of(notice: &Value) -> Option<String> {
    Some(notice.get("id")?.as_str()?.to_owned())
}

impl Outbox {
    /// Reads what the last run left. What cannot be read is put aside, and said.
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let (contents, is_bad) = match read(&path) {
            Ok(text) => {
                let contents = Contents::read(&text);
                // A last line without its end is what a kill leaves behind, and no damage.
                let n_torn = usize::from(!text.is_empty() && !text.ends_with('\n'));
                let is_bad = contents.n_bad > n_torn;
                (contents, is_bad)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Contents::default(), false),
            Err(error) => {
                tracing::warn!(event = "notify.outbox_unread", path = %path.display(), error = %error, "what waited to be sent cannot be read");
                (Contents::default(), true)
            }
        };
        let is_there = path.symlink_metadata().is_ok();
        if is_bad {
            let aside = std::fs::copy(&path, dir.join(BAD));
            tracing::warn!(
                event = "notify.outbox_bad",
                path = %path.display(),
                lines = contents.n_bad,
                kept = aside.is_ok(),
                "lines of what waited to be sent cannot be read: a copy is kept beside it"
            );
        }
        let mut outbox = Self {
            dir: dir.to_owned(),
            contents,
            file: None,
            is_stale: is_there,
            pending: String::new(),
            n_lines: 0,
        };
        outbox.sync();
        outbox
    }

    /// A notice for receivers.
    pub(super) fn add(&mut self, notice: Value, lanes: &[&str]) {
        self.line(&json!({ "notice": notice, "for": lanes }));
    }

    /// It arrived at a receiver, or is given up.
    pub(super) fn done(&mut self, id: &str, lane: &str) {
        self.line(&json!({ "done": id, "for": lane }));
        let is_wanted = self
            .contents
            .waiting
            .values()
            .any(|ids| ids.iter().any(|other| other == id));
        if !is_wanted {
            self.contents.notices.remove(id);
        }
    }

    pub(super) fn known(&mut self, key: &str, told: Time) {
        self.line(&json!({ "known": key, "told": rfc3339(told) }));
    }

    pub(super) fn over(&mut self, key: &str) {
        self.line(&json!({ "over": key }));
    }

    /// One notice speaks for `ids` from now on, all of which wait for the receiver.
    pub(super) fn fold(&mut self, id: &str, lane: &str, ids: &[String], at: Time) {
        let folded = ids.iter().filter_map(|id| self.contents.notices.get(id));
        let more = fold(id, at, folded);
        self.line(&json!({ "more": more, "instead": ids, "for": lane }));
        self.contents.forget_unwanted();
    }

    /// Forgets what waits for a receiver that nobody named in all the time since `oldest`.
    pub(super) fn forget_before(&mut self, oldest: Time, lane: &str) -> usize {
        let notices = &self.contents.notices;
        let Some(waiting) = self.contents.waiting.get_mut(lane) else {
            return 0;
        };
        let before = waiting.len();
        waiting.retain(|id| {
            notices
                .get(id)
                .and_then(made)
                .is_some_and(|made| made >= oldest)
        });
        let n_forgotten = before - waiting.len();
        self.contents.forget_unwanted();
        self.is_stale |= n_forgotten > 0;
        n_forgotten
    }

    /// The first that waits for a receiver.
    pub(super) fn first(&self, lane: &str) -> Option<&Value> {
        let id = self.contents.waiting.get(lane)?.front()?;
        self.contents.notices.get(id)
    }

    pub(super) fn n_waiting(&self, lane: &str) -> usize {
        self.contents.waiting.get(lane).map_or(0, VecDeque::len)
    }

    /// Those that wait for a receiver, after the first `n`.
    pub(super) fn after(&self, n: usize, lane: &str) -> Vec<String> {
        let waiting = self.contents.waiting.get(lane).into_iter().flatten();
        waiting.skip(n).cloned().collect()
    }

    fn line(&mut self, line: &Value) {
        if let Value::Object(line) = line {
            self.contents.apply(line);
        }
        self.pending.push_str(&line.to_string());
        self.pending.push('\n');
        self.n_lines += 1;
    }

    /// Brings all to the disk; `false`: it is in memory only, for now.
    pub(super) fn sync(&mut self) -> bool {
        let n_waiting: usize = self.contents.waiting.values().map(VecDeque::len).sum();
        let n_live = self.contents.known.len() + n_waiting;
        self.is_stale |= self.n_lines > n_live * 2 + MAX_DEAD;
        if !self.is_stale && self.pending.is_empty() {
            return true;
        }
        // All of it is in memory, too, so it is in what is written anew.
        let pending = std::mem::take(&mut self.pending);
        if let Some(file) = self.file.as_mut().filter(|_| !self.is_stale) {
            match file
                .write_all(pending.as_bytes())
                .and_then(|()| file.sync_data())
            {
                Ok(()) => return true,
                Err(error) => {
                    tracing::debug!(error = %error, "what waits to be sent cannot be appended");
                }
            }
        }
        // After half a line nothing may be appended.
        self.file = None;
        self.is_stale = true;
        match self.write_anew() {
            Ok(file) => {
                self.file = Some(file);
                self.is_stale = false;
                true
            }
            Err(error) => {
                tracing::debug!(error = %error, "what waits to be sent cannot be written");
                false
            }
        }
    }

    fn write_anew(&mut self) -> io::Result<File> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let path = self.dir.join(FILE);
        let temporary = self.dir.join("outbox.new");
        let lines = self.contents.lines();
        let mut text = String::new();
        for line in &lines {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(&self.dir)?.sync_all()?;
        self.n_lines = lines.len();
        // The file is at its end, where lines are appended.
        Ok(file)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first sentence and "and N more", with what programs need to count them.
fn fold<'v>(id: &str, at: Time, notices: impl Iterator<Item = &'v Value>) -> Value {
    let mut n_notices: u64 = 0;
    let mut ids = Vec::new();
    let mut sentences = Vec::new();
    let mut host = Value::Null;
    for notice in notices {
        host = notice["host"].clone();
        // One that speaks for many already.
        let folded = notice["details"]["ids"].as_array();
        n_notices += notice["details"]["notices"].as_u64().unwrap_or(1);
        match folded {
            Some(folded) => ids.extend(folded.iter().cloned()),
            None => ids.push(notice["id"].clone()),
        }
        match notice["details"]["sentences"].as_array() {
            Some(folded) => sentences.extend(folded.iter().cloned()),
            None => sentences.push(notice["message"].clone()),
        }
        ids.truncate(MAX_IDS);
        sentences.truncate(MAX_SENTENCES);
    }
    let first = sentences
        .first()
        .and_then(Value::as_str)
        .unwrap_or_default();
    json!({
        "id": id,
        "timestamp": rfc3339(at),
        "host": host,
        "topic": "more",
        "event": "notify.more",
        "root": null,
        "message": format!("{first} (and {} more)", n_notices.saturating_sub(1)),
        "details": { "notices": n_notices, "ids": ids, "sentences": sentences },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(id: &str) -> Value {
        json!({ "id": id, "host": "h", "message": format!("{id} happened"), "details": {} })
    }

    fn waiting(outbox: &Outbox, lane: &str) -> Vec<String> {
        outbox
            .contents
            .waiting
            .get(lane)
            .cloned()
            .unwrap_or_default()
            .into()
    }

    fn now() -> Time {
        "2026-02-10T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn what_waits_is_there_after_a_kill_at_any_byte() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut outbox = Outbox::open(scratch.path());
        // The first is written with a new file, the others are appended.
        outbox.known("key\0of", now());
        assert!(outbox.sync());
        outbox.add(notice("a"), &["x", "y"]);
        outbox.add(notice("b"), &["x"]);
        outbox.done("a", "x");
        assert!(outbox.sync());
        let path = scratch.path().join(FILE);
        let whole = std::fs::read(&path).expect("a file");
        let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let outbox = Outbox::open(scratch.path());
            let n_lines = ends.iter().filter(|end| **end < cut).count();
            // The text of a line without its end may be whole.
            let whole_text = usize::from(ends.contains(&cut));
            let x: &[&str] = match n_lines + whole_text {
                0 | 1 => &[],
                2 => &["a"],
                3 => &["a", "b"],
                _ => &["b"],
            };
            assert_eq!(waiting(&outbox, "x"), x, "{cut}");
            assert!(!scratch.path().join(BAD).exists(), "{cut}");
        }
    }

    #[test]
    fn what_is_no_line_of_ours_is_kept_beside_and_costs_nothing_else() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut outbox = Outbox::open(scratch.path());
        outbox.add(notice("a"), &["x"]);
        assert!(outbox.sync());
        let path = scratch.path().join(FILE);
        let mut text = b"{\"for\":[\"x\"]}\nnonsense\xff\n[]\n".to_vec();
        text.extend(std::fs::read(&path).expect("a file"));
        std::fs::write(&path, &text).expect("written");
        let outbox = Outbox::open(scratch.path());
        assert_eq!(waiting(&outbox, "x"), ["a"]);
        assert_eq!(
            std::fs::read(scratch.path().join(BAD)).expect("a copy"),
            text
        );
    }

    #[test]
    fn one_that_speaks_for_many_counts_them_all() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut outbox = Outbox::open(scratch.path());
        let ids: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        for id in &ids {
            outbox.add(notice(id), &["x", "y"]);
        }
        outbox.fold("m", "x", &ids[1..3], now());
        outbox.fold("n", "x", &["m".to_owned(), "3".to_owned()], now());
        assert!(outbox.sync());
        let outbox = Outbox::open(scratch.path());
        assert_eq!(waiting(&outbox, "x"), ["0", "4", "n"]);
        assert_eq!(waiting(&outbox, "y"), ids);
        let more = &outbox.contents.notices["n"];
        assert_eq!(more["details"]["ids"], json!(["1", "2", "3"]));
        assert_eq!(more["message"], "1 happened (and 2 more)");
        assert!(!outbox.contents.notices.contains_key("m"));
    }

    #[test]
    fn the_file_does_not_grow_with_what_was_sent() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut outbox = Outbox::open(scratch.path());
        for n in 0..3 * MAX_DEAD {
            let id = n.to_string();
            outbox.add(notice(&id), &["x"]);
            outbox.done(&id, "x");
            if n % 64 == 0 {
                assert!(outbox.sync());
            }
        }
        let text = std::fs::read_to_string(scratch.path().join(FILE)).expect("a file");
        assert!(
            text.lines().count() <= MAX_DEAD + 2 * 64,
            "{}",
            text.lines().count()
        );
        assert!(outbox.contents.notices.is_empty());
    }

    #[test]
    fn what_cannot_be_written_is_in_memory_until_it_can() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let dir = scratch.path().join("notify");
        std::fs::write(&dir, "in the way").expect("a file");
        let mut outbox = Outbox::open(&dir);
        outbox.add(notice("a"), &["x"]);
        assert!(!outbox.sync());
        assert_eq!(waiting(&outbox, "x"), ["a"]);
        std::fs::remove_file(&dir).expect("out of the way");
        outbox.add(notice("b"), &["x"]);
        assert!(outbox.sync());
        assert_eq!(waiting(&Outbox::open(&dir), "x"), ["a", "b"]);
    }
}
