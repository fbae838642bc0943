//! A real agent, or a real command, on a scratch root: started, asked over its socket, killed.
//!
//! Everything lies in one temporary directory: the root, the state, the socket, the log.

use housekeeper::model::watcher::Backend;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The longest any state is waited for: far above what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(3);

/// Polls until `found` has something, or panics with `what` and the last `state`.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match found() {
            Ok(found) => return found,
            Err(state) if Instant::now() > deadline => {
                panic!("waited {PATIENCE:?} for {what}; it is: {state}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// A scratch directory with a root in it.
#[derive(Debug)]
pub(crate) struct Place {
    hold: tempfile::TempDir,
    pub(crate) root: PathBuf,
    /// `agent.scheduling`. Ordinary, unless a test is about it: another program's real-time
    /// threads on the host must not decide whether a test ends in time.
    pub(crate) scheduling: &'static str,
    /// `agent.http`: off, unless a test is about it.
    pub(crate) http: &'static str,
    /// The root's `backend`.
    pub(crate) backend: &'static str,
    /// Words before the program's own: what prepares its surroundings and becomes it by `exec`.
    pub(crate) wrapper: Vec<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// In memory where the host has that, else where temporary files lie.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            Self::below(memory)
        } else {
            Self::new()
        }
    }

    pub(crate) fn below(parent: &Path) -> Self {
        let hold = tempfile::tempdir_in(parent).expect("a scratch directory");
        let root = hold.path().join("root");
        fs::create_dir(&root).expect("a root");
        Self {
            hold,
            root,
            scheduling: "normal",
            http: "",
            backend: "auto",
            wrapper: Vec::new(),
        }
    }

    /// Runs the agent after `script` in a new user namespace. `false`, with the reason printed,
    /// where there is none to be had.
    #[expect(
        clippy::print_stdout,
        reason = "who reads the run has to see what it skipped"
    )]
    pub(crate) fn in_namespace(&mut self, flags: &str, script: &str) -> bool {
        let wrapper = [
            "unshare",
            flags,
            "sh",
            "-ec",
            &format!("{script}; exec \"$@\""),
            "sh",
        ];
        let tried = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg("true")
            .output();
        match tried {
            Ok(output) if output.status.success() => {}
            refused => {
                println!("skipped: {wrapper:?} is refused: {refused:?}");
                return false;
            }
        }
        self.wrapper = wrapper.map(str::to_owned).to_vec();
        true
    }

    /// A path beside the root, on the same file system.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.hold.path().join(name)
    }

    /// Writes the configuration: `tables` are the tables of the one root.
    pub(crate) fn configure(&self, tables: &str) {
        let at = |name: &str| self.beside(name).display().to_string();
        let text = format!(
            "[agent]\nstate_dir = \"{}\"\nsocket = \"{}\"\nhttp = \"{}\"\n\
             scheduling = \"{}\"\n[[root]]\nname = \"r\"\npath = \"{}\"\n\
             backend = \"{}\"\n{tables}\n[root.guard]\nfirst_start = \"enforce\"\n",
            at("state"),
            at("agent.sock"),
            self.http,
            self.scheduling,
            self.root.display(),
            self.backend,
        );
        fs::write(self.beside("config.toml"), text).expect("a configuration");
    }

    /// The program with the place's configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_housekeeper");
        let mut all = self.wrapper.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(all.next().expect("the program at least"));
        command
            .args(all)
            .args(words)
            .arg("--config")
            .arg(self.beside("config.toml"));
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the program runs")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.beside("agent.log")).unwrap_or_default()
    }

    /// Whole log lines with this event.
    pub(crate) fn told(&self, event: &str) -> Vec<Value> {
        let log = self.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["event"] == event)
            .collect()
    }

    /// Starts the agent without waiting for anything.
    pub(crate) fn spawn_agent(&self) -> Agent<'_> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.beside("agent.log"))
            .expect("a log file");
        let child = self
            .command(&["run"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        Agent { child, place: self }
    }

    /// Starts the agent and waits until it watches its root.
    pub(crate) fn agent(&self) -> Agent<'_> {
        let agent = self.spawn_agent();
        agent.until("the first scan", |root| {
            root["watch"]["state"] == "watching"
        });
        agent
    }

    /// Starts the agent and waits until this backend hears for it. `None`, with the reason
    /// printed, where this user or kernel may not have it.
    #[expect(
        clippy::print_stdout,
        reason = "who reads the run has to see what it skipped"
    )]
    pub(crate) fn heard_by(&self, backend: Backend) -> Option<Agent<'_>> {
        let agent = self.agent();
        let watch = agent.root()["watch"].clone();
        if watch["backend"] == backend.name() {
            return Some(agent);
        }
        // The others are to be had everywhere.
        assert_eq!(backend, Backend::Fanotify, "{watch}");
        let reason = watch["why"].as_str().unwrap_or_default();
        assert!(reason.contains("fanotify is refused"), "{watch}");
        println!("skipped with fanotify: {reason}");
        None
    }

    /// Names in the trash; none where there is no trash.
    pub(crate) fn trash(&self) -> Vec<String> {
        let trash = self.root.join(".housekeeper/trash");
        fs::read_dir(trash)
            .map(|entries| {
                entries
                    .filter_map(Result::ok)
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect()
            })
            .unwrap_or_default()
    }
}

/// A running agent. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    pub(crate) child: Child,
    place: &'a Place,
}

impl Agent<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The document of `status`, or why there is none.
    pub(crate) fn try_status(&self) -> Result<Value, String> {
        let say = |error: std::io::Error| error.to_string();
        let mut stream = UnixStream::connect(self.place.beside("agent.sock")).map_err(say)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(say)?;
        stream
            .write_all(b"{\"command\":\"status\"}\n")
            .map_err(say)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).map_err(say)?;
        serde_json::from_str(&line).map_err(|error| format!("{error} in {line:?}"))
    }

    /// What `status` says of the root.
    pub(crate) fn try_root(&self) -> Result<Value, String> {
        self.try_status().map(|status| status["roots"][0].clone())
    }

    /// Waits until `status` says something of the root.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        wait_for(what, || {
            let root = self.try_root()?;
            if holds(&root) {
                Ok(root)
            } else {
                Err(format!("{root}; {}", self.last_words()))
            }
        })
    }

    /// The end of the log.
    fn last_words(&self) -> String {
        let log = self.place.log();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.join("\n")
    }

    pub(crate) fn root(&self) -> Value {
        self.until("an answer", |_| true)
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        signal(self.child.id(), rustix::process::Signal::TERM);
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // Ended already: nothing to kill.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Sends a signal to a process this test started.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process id");
    rustix::process::kill_process(pid, signal).expect("it is ours");
}

/// Stops a process this test started, and waits until it stands still.
pub(crate) fn freeze(pid: u32) {
    signal(pid, rustix::process::Signal::STOP);
    wait_for("a stopped process", || {
        let stat =
            fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| error.to_string())?;
        let state = stat.rsplit(") ").next().unwrap_or_default().to_owned();
        match state.starts_with('T') {
            true => Ok(()),
            false => Err(state),
        }
    });
}

/// Small numbers that look random, from a seed that is printed when a test fails.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n
    }
}

/// Makes a session: `n_files` files of `size` bytes, and metadata that says when it was made,
/// written last. Appears under its name when it is whole.
pub(crate) fn make_session(
    root: &Path,
    staging: &Path,
    name: &str,
    age_minutes: i64,
    files: (u32, usize),
) {
    let made = staging.join(name);
    fs::create_dir_all(&made).expect("a session");
    let body = vec![b'x'; files.1];
    for n in 0..files.0 {
        fs::write(made.join(format!("f{n:04}")), &body).expect("a file");
    }
    let created = chrono::Utc::now() - chrono::TimeDelta::minutes(age_minutes);
    let text = format!("{{\"created_at\":\"{}\"}}", created.to_rfc3339());
    fs::write(made.join("metadata.json"), text).expect("metadata");
    fs::rename(&made, root.join(name)).expect("it moves in");
}
