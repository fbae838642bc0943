//! The pins of one root, in a file of their own in the state directory.
//!
//! A pin is a promise not to delete, so it does not depend on the database: whoever is to remove
//! reads this file first, and once more before each removal (one `stat` where nothing changed).
//! What cannot be read, is not whole, or is gone after it was there, pins the whole root.
//!
//! ```text
//! state_dir/roots/<hash of the root's real path>/pins.json   {"root":…,"pins":[…]}, and below
//!                                                            it the FNV-1a hash of that line
//! ```
//!
//! A change is written beside, synced and renamed, under a lock: a crash leaves the one or the
//! other.

use crate::model::path::{escape, unescape};
use crate::model::pin::{MAX_PINS, Pin, Pins};
use crate::model::session::Key;
use crate::model::time::{Time, rfc3339};
use crate::store::state::fnv1a;
use chrono::{DateTime, TimeDelta, Utc};
use fs2::FileExt;
use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer files are no pins: ten thousand with a kilobyte each are shorter.
const MAX_FILE: u64 = 16 << 20;
/// The longest reason, owner or name, in bytes.
const MAX_TEXT: usize = 512;

/// Why a pin could not be changed. None was then.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(
        "the pins in {path} cannot be read ({why}): mend the file, or remove it to give up its pins"
    )]
    Unreadable { path: String, why: String },
    #[error("there are {MAX_PINS} pins already: unpin some")]
    TooMany,
    #[error("a name, reason or owner is longer than {MAX_TEXT} bytes")]
    TooLong,
    #[error("cannot {operation} {path}")]
    File {
        operation: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Which file was read, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Absent,
    File {
        id: (u64, u64),
        size: u64,
        changed: (i64, u32),
    },
}

/// What a stamp is made of.
const STAMP: StatxFlags = StatxFlags::BASIC_STATS;

/// Where a root's pins are, and how they were when they were last read.
#[derive(Debug, Clone)]
pub struct PinFile {
    path: PathBuf,
    /// The root's real path, escaped.
    root: String,
    /// `None`: to be read again.
    stamp: Option<Stamp>,
    /// The file was there in this process's time.
    was_there: bool,
}

impl PinFile {
    /// The file for the root that is really at this path. Makes nothing.
    pub fn of(state_dir: &Path, root: &Path) -> Self {
        let bytes = root.as_os_str().as_bytes();
        let corner = format!("{:016x}", fnv1a(bytes));
        Self {
            path: state_dir.join("roots").join(corner).join("pins.json"),
            root: escape(bytes),
            stamp: None,
            was_there: false,
        }
    }

    /// All pins now, if they may differ from those returned before.
    pub fn changed(&mut self) -> Option<Arc<Pins>> {
        let stamp = self.look().ok();
        if stamp.is_some() && stamp == self.stamp {
            return None;
        }
        Some(Arc::new(self.load()))
    }

    /// All pins now.
    pub fn load(&mut self) -> Pins {
        self.stamp = None;
        match self.read() {
            Ok((Stamp::Absent, _)) if self.was_there => {
                Pins::Unreadable("the file is gone".to_owned())
            }
            Ok((stamp, pins)) => {
                self.stamp = Some(stamp);
                self.was_there |= stamp != Stamp::Absent;
                Pins::Known(pins)
            }
            Err(why) => Pins::Unreadable(why),
        }
    }

    /// Pins a session, instead of an earlier pin of it.
    ///
    /// # Errors
    /// The pins cannot be read or written, or are too many.
    pub fn put(&mut self, pin: Pin) -> Result<(), PinError> {
        let texts = [pin.owner.len(), pin.reason.len(), pin.session.len()];
        if texts.into_iter().any(|length| length > MAX_TEXT) {
            return Err(PinError::TooLong);
        }
        self.change(|pins| {
            if pins.len() >= MAX_PINS && !pins.contains_key(&pin.session) {
                let a_day_ago = pin.created.checked_sub_signed(TimeDelta::days(1));
                pins.retain(|_, old| !old.has_ended(a_day_ago));
            }
            if pins.len() >= MAX_PINS && !pins.contains_key(&pin.session) {
                return Err(PinError::TooMany);
            }
            pins.insert(pin.session.clone(), pin);
            Ok(())
        })
    }

    /// Takes a pin away; `false`: there was none.
    ///
    /// # Errors
    /// The pins cannot be read or written.
    pub fn remove(&mut self, session: &[u8]) -> Result<bool, PinError> {
        self.change(|pins| Ok(pins.remove(session).is_some()))
    }

    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut BTreeMap<Key, Pin>) -> Result<T, PinError>,
    ) -> Result<T, PinError> {
        let failed = |operation, path: &Path| {
            let path = path.display().to_string();
            move |source| PinError::File {
                operation,
                path,
                source,
            }
        };
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(failed("make", dir))?;
        let lock_path = self.path.with_file_name("pins.lock");
        let lock = writable(&lock_path, false).map_err(failed("open", &lock_path))?;
        lock.lock_exclusive().map_err(failed("lock", &lock_path))?;
        let (_, mut pins) = self.read().map_err(|why| PinError::Unreadable {
            path: self.path.display().to_string(),
            why,
        })?;
        let answer = change(&mut pins)?;
        let new = self.path.with_file_name("pins.json.new");
        let write = || -> io::Result<()> {
            let mut file = writable(&new, true)?;
            file.write_all(spell(&self.root, &pins).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(failed("write", &self.path))?;
        Ok(answer)
    }

    /// Asked before each removal: no allocation.
    fn look(&self) -> rustix::io::Result<Stamp> {
        match rustix::fs::statx(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW, STAMP) {
            Ok(found) => Ok(stamp(&found)),
            Err(Errno::NOENT) => Ok(Stamp::Absent),
            Err(errno) => Err(errno),
        }
    }

    fn read(&self) -> Result<(Stamp, BTreeMap<Key, Pin>), String> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Stamp::Absent, BTreeMap::new()));
            }
            Err(error) => return Err(error.to_string()),
        };
        let found = rustix::fs::statx(&file, c"", AtFlags::EMPTY_PATH, STAMP);
        let found = found.map_err(|errno| errno.to_string())?;
        let is_file = FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile;
        if !is_file || found.stx_size > MAX_FILE {
            return Err("it is no file of pins".to_owned());
        }
        let mut text = String::new();
        let read = file.take(MAX_FILE).read_to_string(&mut text);
        read.map_err(|error| error.to_string())?;
        Ok((stamp(&found), parse(&text, &self.root)?))
    }
}

fn stamp(found: &Statx) -> Stamp {
    let dev = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
    Stamp::File {
        id: (dev, found.stx_ino),
        size: found.stx_size,
        changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
    }
}

fn writable(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(truncate)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

fn spell(root: &str, pins: &BTreeMap<Key, Pin>) -> String {
    let pins: Vec<Value> = pins.values().map(to_json).collect();
    let body = json!({ "root": root, "pins": pins }).to_string();
    format!("{body}\n{:016x}\n", fnv1a(body.as_bytes()))
}

/// A pin as documents have it.
pub fn to_json(pin: &Pin) -> Value {
    json!({
        "session": escape(&pin.session),
        "owner": pin.owner,
        "reason": pin.reason,
        "created_at": rfc3339(pin.created),
        "until": pin.until.map(rfc3339),
    })
}

fn parse(text: &str, root: &str) -> Result<BTreeMap<Key, Pin>, String> {
    let not_whole = || "it is not whole".to_owned();
    let (body, sum) = text.split_once('\n').ok_or_else(not_whole)?;
    if sum.trim_end() != format!("{:016x}", fnv1a(body.as_bytes())) {
        return Err(not_whole());
    }
    let body: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    if body["root"] != *root {
        return Err("it is another root's".to_owned());
    }
    let pins = body["pins"].as_array().ok_or_else(not_whole)?;
    let pin = |pin: &Value| from_json(pin).ok_or_else(not_whole);
    let pins = pins.iter().map(pin).collect::<Result<Vec<_>, _>>()?;
    let named = pins.into_iter().map(|pin| (pin.session.clone(), pin));
    Ok(named.collect())
}

fn from_json(pin: &Value) -> Option<Pin> {
    let time = |text: &str| -> Option<Time> {
        let parsed = DateTime::parse_from_rfc3339(text).ok()?;
        Some(parsed.with_timezone(&Utc))
    };
    let until = match &pin["until"] {
        Value::Null => None,
        until => Some(time(until.as_str()?)?),
    };
    Some(Pin {
        session: unescape(pin["session"].as_str()?).into(),
        owner: pin["owner"].as_str()?.to_owned(),
        reason: pin["reason"].as_str()?.to_owned(),
        created: time(pin["created_at"].as_str()?)?,
        until,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(session: &[u8]) -> Pin {
        Pin {
            session: session.into(),
            owner: "ana".to_owned(),
            reason: "court case".to_owned(),
            created: DateTime::from_timestamp(1_800_000_000, 5_000).expect("in range"),
            until: DateTime::from_timestamp(1_900_000_000, 0),
        }
    }

    fn scratch() -> (tempfile::TempDir, PinFile) {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let file = PinFile::of(&scratch.path().join("state"), Path::new("/srv/x"));
        (scratch, file)
    }

    #[test]
    fn pins_come_back_as_they_were_and_a_change_is_seen_once() {
        let (_scratch, mut file) = scratch();
        let mut reader = file.clone();
        assert_eq!(reader.changed().as_deref(), Some(&Pins::default()));
        assert_eq!(reader.changed(), None);
        file.put(pin(b"a\xff\\b")).expect("written");
        let expected = Pins::new([pin(b"a\xff\\b")]);
        assert_eq!(reader.changed().as_deref(), Some(&expected));
        assert_eq!(reader.changed(), None);
        assert!(file.remove(b"a\xff\\b").expect("written"));
        assert!(!file.remove(b"a\xff\\b").expect("nothing to do"));
        assert_eq!(reader.changed().as_deref(), Some(&Pins::default()));
    }

    #[test]
    fn what_is_not_whole_is_unreadable_and_stays_as_it_is() {
        let (_scratch, mut file) = scratch();
        file.put(pin(b"x")).expect("written");
        let whole = std::fs::read(&file.path).expect("there");
        for at in 0..whole.len() - 1 {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            std::fs::write(&file.path, &broken).expect("written");
            assert!(file.load().trouble().is_some(), "byte {at}");
            assert!(file.put(pin(b"y")).is_err(), "byte {at}");
            std::fs::write(&file.path, &whole[..at]).expect("written");
            assert!(file.load().trouble().is_some(), "cut at {at}");
        }
        std::fs::write(&file.path, &whole).expect("written");
        assert_eq!(file.load(), Pins::new([pin(b"x")]));
    }

    #[test]
    fn pins_that_are_gone_or_a_link_are_unreadable() {
        let (scratch, mut file) = scratch();
        file.put(pin(b"x")).expect("written");
        assert!(file.changed().is_some());
        let away = scratch.path().join("away");
        std::fs::rename(&file.path, &away).expect("renamed");
        assert!(file.changed().is_some_and(|pins| pins.trouble().is_some()));
        std::os::unix::fs::symlink(&away, &file.path).expect("linked");
        assert!(file.changed().is_some_and(|pins| pins.trouble().is_some()));
        let mut other = PinFile::of(&scratch.path().join("state"), Path::new("/srv/y"));
        std::fs::create_dir_all(other.path.parent().expect("a directory")).expect("made");
        std::fs::rename(&away, &other.path).expect("renamed");
        assert!(other.load().trouble().is_some());
    }

    #[test]
    fn the_bound_holds_and_what_ended_long_ago_makes_room() {
        let (_scratch, mut file) = scratch();
        let full = (0..MAX_PINS).map(|n| pin(format!("s{n}").as_bytes()));
        let full: BTreeMap<_, _> = full.map(|pin| (pin.session.clone(), pin)).collect();
        file.change(|pins| {
            *pins = full;
            Ok(())
        })
        .expect("written");
        assert!(matches!(file.put(pin(b"more")), Err(PinError::TooMany)));
        file.put(pin(b"s1")).expect("the same one again");
        let mut late = pin(b"more");
        late.created = DateTime::from_timestamp(1_900_100_000, 0).expect("in range");
        late.until = None;
        file.put(late.clone()).expect("the others ended");
        assert_eq!(file.load(), Pins::new([late]));
    }
}
