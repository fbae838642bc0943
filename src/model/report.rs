//! What became of the victims of a plan.

use super::path::RelPath;
use super::plan::Victim;
use super::seen::FileId;
use super::session::Key;
use super::time::{Tick, Time};

/// Why the disk or its owner said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// Another inode has the name now.
    Replaced,
    /// The metadata is not what the plan was made from: it is read again first.
    Changed,
    /// Written to within `quiet`.
    Quiet,
    /// Somebody holds a BSD lock on it.
    Locked,
    /// Another process has a file of it open.
    Open,
    /// Somebody pinned it since it was planned.
    Pinned,
    /// Something was swapped in during the rename; it is back in its place.
    Stranger,
    /// As before, but its place was taken: it stays in the trash, unremoved.
    StrangerKept,
    /// The kernel refuses (EROFS, EPERM, EACCES, EBUSY ...): the operation and the errno.
    Refused { operation: &'static str, errno: i32 },
    /// The root's path does not lead to the directory held open.
    RootMoved,
    /// The agent was told to end.
    Stopping,
}

impl Skip {
    /// Whether it is said of this victim alone, by what it is: a rename ends in EPERM where a name
    /// is immutable or append-only.
    pub fn is_of_the_victim_alone(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                operation: "rename",
                errno: libc::EPERM,
            }
        )
    }

    /// Whether it may be said of every victim and may pass at any moment: no space, no memory, no
    /// descriptors, something that is held for a moment, a lock that was lost. Whoever goes on with
    /// the next one takes a newer session in the place of an older.
    pub fn is_of_all(&self) -> bool {
        match self {
            Self::Refused { operation, errno } => {
                operation.starts_with("touch ")
                    || matches!(
                        *errno,
                        libc::ENOSPC
                            | libc::EDQUOT
                            | libc::ENOMEM
                            | libc::EMFILE
                            | libc::ENFILE
                            | libc::EAGAIN
                    )
            }
            Self::RootMoved | Self::Stopping => true,
            Self::Replaced
            | Self::Changed
            | Self::Quiet
            | Self::Locked
            | Self::Open
            | Self::Pinned
            | Self::Stranger
            | Self::StrangerKept => false,
        }
    }

    /// The errno that says it best, where nothing but one can be told.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Refused { errno, .. } => *errno,
            Self::Locked | Self::Open => libc::EWOULDBLOCK,
            Self::Replaced
            | Self::Changed
            | Self::Quiet
            | Self::Pinned
            | Self::Stranger
            | Self::StrangerKept
            | Self::RootMoved
            | Self::Stopping => libc::ESTALE,
        }
    }
}

/// What became of one victim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Out of the tree. These wait for removal.
    Aside(Vec<Aside>),
    /// No rename was possible (ENOSPC, EXDEV): the intent is written, and it is being removed
    /// where it lies. A [`Removed`] for the key follows.
    InPlace,
    /// It was not there any more.
    Gone,
    Skipped(Skip),
}

/// The name of something set aside: `<ulid>-<dev>-<ino>` (hexadecimal), so that the next start can
/// tell a victim from a stranger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AsideName(pub String);

/// The digits of the longest number.
const HEX: usize = 16;

/// `{:x}`, without the formatter: a removal waits for it.
fn push_hex(into: &mut String, number: u64) {
    let n_digits = HEX as u32 - (number | 1).leading_zeros() / 4;
    for at in (0..n_digits).rev() {
        into.push(char::from(
            b"0123456789abcdef"[(number >> (4 * at)) as usize & 0xF],
        ));
    }
}

impl AsideName {
    /// The name for an inode, under a fresh `ulid`.
    pub fn new(ulid: &str, id: FileId) -> Self {
        let mut name = String::with_capacity(ulid.len() + 2 * (1 + HEX));
        name.push_str(ulid);
        for number in [id.dev, id.ino] {
            name.push('-');
            push_hex(&mut name, number);
        }
        Self(name)
    }

    /// The inode it was made for. `None`: the name is not one of ours.
    pub fn id(&self) -> Option<FileId> {
        let mut parts = self.0.split('-');
        let ulid = parts.next()?;
        let dev = u64::from_str_radix(parts.next()?, 16).ok()?;
        let ino = u64::from_str_radix(parts.next()?, 16).ok()?;
        let id = FileId { dev, ino };
        // Only what `new` writes: no sign, no leading zero, nothing behind.
        let is_ulid = ulid.len() == 26 && ulid.bytes().all(|b| b.is_ascii_alphanumeric());
        (is_ulid && Self::new(ulid, id) == *self).then_some(id)
    }

    /// Whether it was made for this inode, found in a directory on the device `home`. A restart may
    /// give a file system another device number; one of its inodes has its number for as long as it
    /// has a name.
    pub fn names(&self, id: FileId, home: u64) -> bool {
        self.id()
            .is_some_and(|own| own == id || (own.ino == id.ino && id.dev == home))
    }

    /// When it was set aside, by the wall clock of then. `None`: the name is not one of ours.
    pub fn since(&self) -> Option<Time> {
        self.id()?;
        let ulid = ulid::Ulid::from_string(self.ulid()).ok()?;
        Time::from_timestamp_millis(i64::try_from(ulid.timestamp_ms()).ok()?)
    }

    /// The part before the inode: names the intent record, too, and says when it was set aside.
    pub fn ulid(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }
}

/// Something that was taken out of its place and waits for its removal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Aside {
    /// In `.housekeeper/trash`.
    Trash(AsideName),
    /// In `.housekeeper/kept`, from where it may come back for a while.
    Kept(AsideName),
    /// A file, under `.hk-<name>` in the directory it lay in.
    Beside(RelPath, AsideName),
}

/// What begins the name of a file that was set aside beside its place.
pub const BESIDE: &str = ".hk-";

/// What the names of cookies begin with, behind what hides them: empty files that are made and
/// removed at once, so that whoever watches hears of them.
pub const COOKIE: &str = "cookie-";

/// Whether a name is a cookie's, behind what hides it: `cookie-<ulid>`, or with a number behind it,
/// as earlier versions wrote.
pub fn is_cookie(name: &[u8], hidden: &str) -> bool {
    let rest = name.strip_prefix(hidden.as_bytes());
    let rest = rest.and_then(|rest| rest.strip_prefix(COOKIE.as_bytes()));
    let Some((id, number)) = rest.and_then(|rest| rest.split_at_checked(26)) else {
        return false;
    };
    let is_number = |rest: &[u8]| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit);
    id.iter().all(u8::is_ascii_alphanumeric)
        && (number.is_empty() || number.strip_prefix(b"-").is_some_and(is_number))
}

impl Aside {
    /// What it is called, wherever it lies.
    pub fn name(&self) -> &AsideName {
        match self {
            Self::Trash(name) | Self::Kept(name) | Self::Beside(_, name) => name,
        }
    }

    /// Its last name on the disk.
    pub fn file_name(&self) -> String {
        match self {
            Self::Trash(name) | Self::Kept(name) => name.0.clone(),
            Self::Beside(_, name) => format!("{BESIDE}{}", name.0),
        }
    }

    /// Where it lies below the root. `None`: in the trash.
    pub fn beside(&self) -> Option<RelPath> {
        match self {
            Self::Trash(_) | Self::Kept(_) => None,
            Self::Beside(dir, _) => dir.join(self.file_name().as_bytes()).ok(),
        }
    }
}

/// The name that a file was set aside under beside its place. `None`: this is no such name.
pub fn beside_name(name: &[u8]) -> Option<AsideName> {
    let rest = name.strip_prefix(BESIDE.as_bytes())?;
    let name = AsideName(std::str::from_utf8(rest).ok()?.to_owned());
    name.id().is_some().then_some(name)
}

/// One victim with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub victim: Victim,
    pub outcome: Outcome,
}

/// The end of a removal that ran beside the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// The bytes of something set aside are gone; `left` names what stayed, with the errno.
    Trash {
        aside: Aside,
        bytes: u64,
        left: Vec<(String, i32)>,
    },
    /// A victim that had to be removed in place is gone, or not.
    InPlace { key: Key, left: Vec<(String, i32)> },
    /// Entries were taken out of the catalogue.
    Unlisted { keys: Vec<Key>, result: Unlist },
}

/// The end of a catalogue edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlist {
    Done,
    /// Somebody has the catalogue open, or no lease can be had here: the entries stay as they are.
    NoLease(i32),
    /// The catalogue does not parse now: the entries stay as they are.
    Unparsable,
    Failed {
        operation: &'static str,
        errno: i32,
    },
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub host: String,
    pub pid: u32,
    /// RFC 3339 in UTC.
    pub since: String,
}

/// Why the root's lock cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockTrouble {
    /// `None`: the holder has not written its line yet.
    Busy(Option<Holder>),
    Failed {
        operation: &'static str,
        errno: i32,
    },
}

/// A lock that is wanted and cannot be had, since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockWait {
    pub trouble: LockTrouble,
    pub since: Tick,
}

/// The answer to a try for the root's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockTry {
    Taken,
    /// Taken from a holder on another host, whose line was watched unchanged for the whole
    /// stale time.
    TakenStale(Holder),
    /// `None`: the holder has not written its line yet.
    Busy(Option<Holder>),
    Failed {
        operation: &'static str,
        errno: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aside_name_is_in_lower_hexadecimal() {
        let numbers = (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1, u64::MAX >> bit]);
        for number in numbers {
            let (dev, ino) = (number, number.rotate_left(7));
            let name = AsideName::new("01M8FW9WVXJHTN8TTK5FX2JBAQ", FileId { dev, ino });
            assert_eq!(
                name.0,
                format!("01M8FW9WVXJHTN8TTK5FX2JBAQ-{dev:x}-{ino:x}")
            );
            assert_eq!(name.id(), Some(FileId { dev, ino }));
        }
    }
}
