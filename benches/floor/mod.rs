//! What no scan can be faster than: `getdents64` of every directory and `statx` of every name,
//! over a few threads, keeping nothing but a sum.
//!
//! It opens each directory by its name in its parent's descriptor, which stays open as long as
//! one of its children waits; the directories that wait are one stack, of which a thread takes
//! a handful at a time. It checks nothing: no mount, no replaced directory, no root left.

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags};
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

const BUFFER: usize = 256 << 10;
/// Directories a thread takes at a time.
const HANDFUL: usize = 16;

/// What was found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) n_files: u64,
    pub(crate) bytes: u64,
}

type Waiting = (Arc<OwnedFd>, CString);

struct Stack {
    waiting: Vec<Waiting>,
    n_busy: usize,
    sum: Sum,
}

/// Walks the tree with so many threads.
pub(crate) fn walk(root: &Path, n_threads: usize) -> Sum {
    let root = CString::new(root.as_os_str().as_bytes()).expect("no NUL in a path");
    let cwd = rustix::fs::openat(CWD, c".", OFlags::PATH, Mode::empty()).expect("a directory");
    let stack = Mutex::new(Stack {
        waiting: vec![(Arc::new(cwd), root)],
        n_busy: 0,
        sum: Sum::default(),
    });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 1..n_threads {
            scope.spawn(|| work(&stack, &changed));
        }
        work(&stack, &changed);
    });
    stack.into_inner().expect("no thread panicked").sum
}

fn work(stack: &Mutex<Stack>, changed: &Condvar) {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut sum = Sum::default();
    let mut found = Vec::new();
    let mut mine = Vec::new();
    loop {
        {
            let mut stack = stack.lock().expect("no thread panicked");
            while stack.waiting.is_empty() && stack.n_busy > 0 {
                stack = changed.wait(stack).expect("no thread panicked");
            }
            if stack.waiting.is_empty() {
                stack.sum.n_files += sum.n_files;
                stack.sum.bytes += sum.bytes;
                changed.notify_all();
                return;
            }
            // Not all of a few: the others want some.
            let n = HANDFUL.min(stack.waiting.len().div_ceil(2));
            let at = stack.waiting.len() - n;
            mine.extend(stack.waiting.drain(at..));
            stack.n_busy += 1;
        }
        for (parent, name) in mine.drain(..) {
            list(&parent, &name, &mut buffer, &mut sum, &mut found);
        }
        let mut stack = stack.lock().expect("no thread panicked");
        stack.n_busy -= 1;
        if !found.is_empty() || stack.n_busy == 0 {
            stack.waiting.append(&mut found);
            changed.notify_all();
        }
    }
}

fn list(
    parent: &OwnedFd,
    name: &CString,
    buffer: &mut [MaybeUninit<u8>],
    sum: &mut Sum,
    found: &mut Vec<Waiting>,
) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name.as_c_str(), flags, Mode::empty());
    let dir = Arc::new(dir.expect("a directory opens"));
    let mut entries = RawDir::new(&*dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.expect("a directory is read");
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(&*dir, name, flags, StatxFlags::BASIC_STATS)
            .expect("a name is looked at");
        if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory {
            found.push((dir.clone(), name.to_owned()));
        } else {
            sum.n_files += 1;
            sum.bytes += stat.stx_blocks * 512;
        }
    }
}
