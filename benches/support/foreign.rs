//! A program that writes at a pace beside what is measured: on the same file system, outside
//! the root.
//!
//! The bench starts itself as that program. On two cores it shares the measuring writer's, and
//! gives way to it; for that writer not to be alone while it waits, [`Beside`] has it write at
//! the same pace itself meanwhile.

use crate::support::Scratch;
use rustix::io::pwrite;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const FLAG: &str = "--foreign-writer";
const N_FILES: usize = 64;
const BLOCK: [u8; 64] = [b'z'; 64];
/// Writes that are due longer than this are left out.
const DEBT: Duration = Duration::from_millis(10);
/// So often it says how many writes it has made.
const SAY: u64 = 1000;

/// Writes when a write is due.
#[derive(Debug)]
pub(crate) struct Beside {
    files: Vec<File>,
    rate: f64,
    begun: Instant,
    n_due: f64,
    n_written: u64,
}

impl Beside {
    pub(crate) fn new(dir: &Path, rate: u64) -> Self {
        fs::create_dir_all(dir).expect("a directory");
        let file = |n| File::create(dir.join(format!("z{n:03}"))).expect("a file");
        Self {
            files: (0..N_FILES).map(file).collect(),
            rate: rate as f64,
            begun: Instant::now(),
            n_due: 0.0,
            n_written: 0,
        }
    }

    /// What came due while nobody called is left out.
    pub(crate) fn begin(&mut self) {
        self.n_due = self.begun.elapsed().as_secs_f64() * self.rate;
    }

    pub(crate) fn tick(&mut self) {
        let due = self.begun.elapsed().as_secs_f64() * self.rate;
        self.n_due = self.n_due.max(due - DEBT.as_secs_f64() * self.rate);
        while self.n_due < due {
            let file = &self.files[self.n_written as usize % N_FILES];
            pwrite(file, &BLOCK, 0).expect("written");
            self.n_due += 1.0;
            self.n_written += 1;
        }
    }
}

/// The program, running.
#[derive(Debug)]
pub(crate) struct Foreign {
    child: Child,
    count: PathBuf,
    begun: Instant,
    before: u64,
}

impl Foreign {
    /// It runs where the calling thread may.
    pub(crate) fn start(scratch: &Scratch, rate: u64) -> Self {
        let dir = scratch.0.join("foreign");
        fs::create_dir_all(&dir).expect("a directory");
        let count = dir.join("count");
        fs::write(&count, "0").expect("a count");
        let child = Command::new(std::env::current_exe().expect("this program"))
            .arg(FLAG)
            .arg(&dir)
            .arg(rate.to_string())
            .spawn()
            .expect("it starts");
        let mut foreign = Self {
            child,
            count,
            begun: Instant::now(),
            before: 0,
        };
        while foreign.n_written() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        foreign.begin();
        foreign
    }

    /// The rate is counted from now on.
    pub(crate) fn begin(&mut self) {
        (self.begun, self.before) = (Instant::now(), self.n_written());
    }

    /// Writes a second, as reached.
    pub(crate) fn rate(&self) -> f64 {
        (self.n_written() - self.before) as f64 / self.begun.elapsed().as_secs_f64()
    }

    fn n_written(&self) -> u64 {
        let text = fs::read_to_string(&self.count).expect("a count");
        // Empty while it is just written.
        text.trim().parse().unwrap_or(self.before)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("the foreign writer could not be ended: {error}");
        }
    }
}

/// Is that program, and never returns, where the command line says so.
pub(crate) fn write_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    let [_, flag, dir, rate] = &args[..] else {
        return;
    };
    if flag != FLAG {
        return;
    }
    let parent = rustix::process::getppid();
    // Who measures on the same core comes first.
    rustix::process::setpriority_process(None, 10).expect("a process may give way");
    let mut beside = Beside::new(Path::new(dir), rate.parse().expect("a rate"));
    let count = File::create(Path::new(dir).join("count")).expect("a count");
    let mut said = 0;
    while rustix::process::getppid() == parent {
        beside.tick();
        if beside.n_written - said >= SAY {
            said = beside.n_written;
            pwrite(&count, format!("{said:020}").as_bytes(), 0).expect("written");
        }
    }
    std::process::exit(0);
}
