//! The ids that were taken out of a catalogue, so that entries which the owner writes back
//! from its memory are recognised.
//!
//! One JSON string a line in `.housekeeper/removed`, appended and now and then written anew.
//! Holds the newest [`MAX_IDS`]; what is older is forgotten, and an entry that comes back then
//! is reported as dangling like any other. A file that can't be read counts as empty.

use crate::disk::document::read_all;
use crate::disk::records::write_all;
use crate::disk::tree::{Control, Tree, fd_stat, open_below};
use crate::model::path::{escape, unescape};
use crate::model::seen::FileKind;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

/// How many ids are known.
pub const MAX_IDS: usize = 65_536;

const NAME: &str = "removed";
const NEW: &str = "removed.new";
const MAX_FILE: u64 = 64 << 20;

/// The list of one root.
#[derive(Debug)]
pub struct RemovedIds {
    tree: Arc<Tree>,
    order: VecDeque<Arc<[u8]>>,
    known: HashSet<Arc<[u8]>>,
    n_lines: usize,
}

impl RemovedIds {
    /// Reads the list; makes nothing.
    ///
    /// # Errors
    /// `.housekeeper/` is not the agent's own.
    pub fn load(tree: Arc<Tree>) -> io::Result<Self> {
        let text = match tree.existing_control()? {
            Some(control) => read(&control).unwrap_or_default(),
            None => Vec::new(),
        };
        let mut removed = Self {
            tree,
            order: VecDeque::new(),
            known: HashSet::new(),
            n_lines: 0,
        };
        for line in text.split(|b| *b == b'\n') {
            removed.n_lines += 1;
            // The last line may be half written; a broken one names nothing.
            if let Ok(id) = serde_json::from_slice::<String>(line) {
                removed.remember(&unescape(&id));
            }
        }
        Ok(removed)
    }

    /// Whether this id was taken out.
    pub fn contains(&self, id: &[u8]) -> bool {
        self.known.contains(id)
    }

    /// All of them, oldest first.
    pub fn ids(&self) -> Vec<Arc<[u8]>> {
        self.order.iter().cloned().collect()
    }

    /// Adds ids. They are known from now on also where they can't be written down.
    ///
    /// # Errors
    /// They could not be written down.
    pub fn add(&mut self, ids: &[&[u8]]) -> io::Result<()> {
        let mut lines = Vec::new();
        for id in ids {
            if self.remember(id) {
                push_line(&mut lines, id)?;
                self.n_lines += 1;
            }
        }
        let control = self.tree.control()?;
        if self.n_lines > 2 * MAX_IDS {
            return self.rewrite(&control);
        }
        append(&control, &lines)
    }

    fn remember(&mut self, id: &[u8]) -> bool {
        let id: Arc<[u8]> = id.into();
        if !self.known.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    fn rewrite(&mut self, control: &Control) -> io::Result<()> {
        let mut text = Vec::new();
        for id in &self.order {
            push_line(&mut text, id)?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let file = open(control, NEW, flags)?;
        write_all(file.as_fd(), &text)?;
        rustix::fs::renameat(control.dir(), NEW, control.dir(), NAME)?;
        self.n_lines = self.order.len();
        Ok(())
    }
}

fn push_line(lines: &mut Vec<u8>, id: &[u8]) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, &escape(id))?;
    lines.push(b'\n');
    Ok(())
}

fn append(control: &Control, lines: &[u8]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let file = open(
        control,
        NAME,
        OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
    )?;
    let mut rest = lines;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(n) => rest = &rest[n..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn open(control: &Control, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(control.dir(), name, flags, Mode::RUSR | Mode::WUSR)?;
    let stat = fd_stat(file.as_fd())?;
    // A file with a second name may be anybody's outside.
    if stat.kind != FileKind::File || stat.n_links != 1 {
        return Err(Errno::INVAL);
    }
    Ok(file)
}

fn read(control: &Control) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = open_below(control.dir(), c"removed", flags).ok()?;
    let stat = fd_stat(file.as_fd()).ok()?;
    if stat.kind != FileKind::File || stat.n_links != 1 || stat.apparent > MAX_FILE {
        return None;
    }
    read_all(&file, stat.apparent, MAX_FILE).ok()?
}
