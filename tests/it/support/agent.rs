//! A running agent: the built program with its own state directory and socket.

use super::{Done, housekeeper, log_lines};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest a state is waited for.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    pub(crate) socket: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Agent {
    /// `run` on one root given as flags, with `quiet` off. Its state lies beside the root.
    pub(crate) fn on_root(root: &Path, more: &[&str]) -> Self {
        let mut command = housekeeper();
        command.arg("run").arg("--root").arg(root);
        command.args(["--quiet", "0s"]).args(more);
        Self::start(command, root.parent().expect("a scratch directory"))
    }

    /// `run` on a configuration file. State and socket lie beside it.
    pub(crate) fn on_config(config: &Path) -> Self {
        let mut command = housekeeper();
        command.arg("run").arg("--config").arg(config);
        Self::start(command, config.parent().expect("a scratch directory"))
    }

    /// Such a command with what else it was given. State and socket lie in `beside`.
    pub(crate) fn start(mut command: Command, beside: &Path) -> Self {
        let socket = beside.join("agent.sock");
        command.arg("--state-dir").arg(beside.join("state"));
        command.arg("--socket").arg(&socket);
        command.args(["--scheduling", "normal"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("piped");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let line = line.expect("standard error is text");
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        Self {
            child,
            socket,
            lines,
            reader: Some(reader),
        }
    }

    /// What was logged so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        log_lines(&lines.join("\n"))
    }

    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        self.log()
            .into_iter()
            .filter(|line| line["event"] == event)
            .collect()
    }

    /// The log lines with this event, of which there are to be so many. The log comes a moment
    /// after the status, so they are waited for.
    pub(crate) fn told(&self, event: &str, n_lines: usize) -> Vec<Value> {
        self.until(event, |agent| agent.events(event).len() >= n_lines);
        let lines = self.events(event);
        assert_eq!(lines.len(), n_lines, "{lines:?}");
        lines
    }

    /// One question over the socket; `None` while nobody listens.
    pub(crate) fn ask(&self, question: &Value) -> Option<Value> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        writeln!(stream, "{question}").ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    pub(crate) fn status(&self) -> Option<Value> {
        self.ask(&serde_json::json!({ "command": "status" }))
    }

    /// Waits until `is` holds, and fails with what there is when it takes too long.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !is(self) {
            assert!(
                Instant::now() < end,
                "{what} did not come about: {:#?}\n{}",
                self.status(),
                self.lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .join("\n")
            );
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Waits until the n-th root's status is as asked for, and answers it.
    pub(crate) fn root_until(&self, n: usize, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until(what, |agent| {
            agent.status().is_some_and(|status| is(&status["roots"][n]))
        });
        self.status().expect("just answered")["roots"][n].clone()
    }

    /// Waits until the only root was scanned and is watched.
    pub(crate) fn watching(&self) -> Value {
        self.root_until(0, "a watched root", |root| {
            root["watch"]["state"] == "watching"
        })
    }

    /// Asks for a full scan and waits until it has ended, so that all before it is settled.
    pub(crate) fn rescan(&self) -> Value {
        let question = serde_json::json!({ "command": "rescan" });
        let status = self.ask(&question).expect("an answer");
        assert!(status["error"].is_null(), "{status}");
        status["roots"][0].clone()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits for the end by itself; the exit code.
    pub(crate) fn ended(&mut self) -> i32 {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < end, "it did not end: {:?}", self.log());
            std::thread::park_timeout(PAUSE);
        };
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log was read");
        }
        status.code().expect("it ended by itself")
    }

    /// A command of the program that talks to this agent.
    pub(crate) fn command(&self, words: &[&str]) -> Done {
        let mut command = housekeeper();
        command.args(words).arg("--socket").arg(&self.socket);
        Done::of(command.output().expect("the program runs"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill, and that is fine.
        if self.child.kill().is_ok() {
            self.child.wait().expect("a child");
        }
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log was read");
        }
    }
}
