//! What the harness-free benches share: scratch trees, the agent as a child, percentiles.

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A directory that is made anew and removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(base: &Path, name: &str) -> Self {
        let path = base.join(format!("housekeeper-bench-{name}-{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).expect("an old scratch directory can be removed");
        }
        fs::create_dir_all(&path).expect("a scratch directory can be made");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// Where to work: the directory for temporary files, and memory where there is a tmpfs.
pub(crate) fn places() -> Vec<(&'static str, PathBuf)> {
    let mut places = vec![("disk", std::env::temp_dir())];
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() {
        places.push(("tmpfs", shm));
    }
    places
}

/// A flag's value from the command line, or the default.
pub(crate) fn option<T: std::str::FromStr>(name: &str, default: T) -> T {
    let mut args = std::env::args();
    while let Some(arg) = args.next() {
        if arg == name {
            return args
                .next()
                .and_then(|v| v.parse().ok())
                .expect("the flag has a good value");
        }
    }
    default
}

/// One session: `metadata.json` and `n_files` files, `bytes` in all.
pub(crate) fn session(root: &Path, number: usize, n_files: usize, bytes: usize) -> PathBuf {
    let dir = root.join(format!("s{number:07}"));
    fs::create_dir(&dir).expect("a session can be made");
    let (minutes, seconds) = (number / 60, number % 60);
    let metadata = format!(
        "{{\"created_at\":\"2025-{:02}-{:02}T{:02}:{:02}:{seconds:02}Z\"}}",
        1 + minutes / 60 / 24 / 28 % 12,
        1 + minutes / 60 / 24 % 28,
        minutes / 60 % 24,
        minutes % 60
    );
    fs::write(dir.join("metadata.json"), &metadata).expect("metadata can be written");
    let left = bytes.saturating_sub(metadata.len());
    for file in 0..n_files {
        let size = left / n_files + usize::from(file == 0) * (left % n_files);
        fs::write(dir.join(format!("f{file:05}")), vec![b'x'; size]).expect("data can be written");
    }
    dir
}

/// The agent as a child process.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) child: Child,
    socket: PathBuf,
}

impl Agent {
    pub(crate) fn start(root: &Path, home: &Path, flags: &[&str]) -> Self {
        let socket = home.join("agent.sock");
        let child = Command::new(env!("CARGO_BIN_EXE_housekeeper"))
            .args(["run", "--quiet", "0s", "--first-start", "enforce", "--root"])
            .arg(root)
            .arg("--state-dir")
            .arg(home.join("state"))
            .arg("--socket")
            .arg(&socket)
            .args(flags)
            .stdout(Stdio::null())
            .stderr(fs::File::create(home.join("log")).expect("a log can be made"))
            .spawn()
            .expect("the agent starts");
        Self { child, socket }
    }

    /// The first root's part of `status`, when the agent answers.
    pub(crate) fn root(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.write_all(b"{\"command\":\"status\"}\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        let status: Value = serde_json::from_str(&line).ok()?;
        status["roots"].get(0).cloned()
    }

    /// Waits until the root is ready.
    pub(crate) fn ready(&mut self) -> Value {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            if let Some(root) = self.root().filter(|root| root["ready"] == true) {
                return root;
            }
            assert!(
                self.child.try_wait().expect("its state").is_none(),
                "the agent ended"
            );
            assert!(
                Instant::now() < deadline,
                "the agent is not ready: {:?}",
                self.root()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("the agent could not be ended: {error}");
        }
    }
}

/// The value below which so many per cent of the samples are.
pub(crate) fn percentile(samples: &[Duration], percent: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * percent / 100.0).round() as usize]
}
