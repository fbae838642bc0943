//! What a terminal gets to see: logs for people where somebody waits for a command, and never a
//! control character of a name.

use crate::support::fixture::{Scratch, session};
use crate::support::{Done, housekeeper, log_lines, mb};
use fs2::FileExt;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};

/// Starts a command whose standard error is a terminal; what it writes there can be read.
fn on_terminal(mut command: Command) -> (Child, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).expect("a terminal");
    grantpt(&terminal).expect("granted");
    unlockpt(&terminal).expect("unlocked");
    let name = ptsname(&terminal, Vec::new()).expect("a name");
    let other_end = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(OsStr::from_bytes(name.to_bytes()))
        .expect("the other end");
    command.stdout(Stdio::null()).stderr(other_end);
    let child = command.spawn().expect("the program starts");
    (child, File::from(terminal))
}

/// All that a command says on its terminal.
fn said(command: Command) -> String {
    let (mut child, mut terminal) = on_terminal(command);
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    // When the other end is closed reading fails.
    while let Ok(n @ 1..) = terminal.read(&mut buffer) {
        said.extend_from_slice(&buffer[..n]);
    }
    child.wait().expect("it ends");
    String::from_utf8(said).expect("text")
}

/// A root whose lock somebody holds: `prune-size` says so in its log.
fn locked() -> (Scratch, File) {
    let scratch = Scratch::new();
    session(&scratch.root(), "a", "2026-02-01T12:00:00Z", 4096);
    let control = scratch.root().join(".housekeeper");
    fs::create_dir(&control).expect("made");
    let lock = File::create(control.join("lock")).expect("made");
    lock.lock_exclusive().expect("locked");
    (scratch, lock)
}

fn prune_size(scratch: &Scratch) -> Command {
    let mut command = housekeeper();
    command.args(["prune-size", "--quiet", "0s", "--max-mb", &mb(1024)]);
    command.arg("--root").arg(scratch.root());
    command.arg("--state-dir").arg(scratch.path("state"));
    command
}

#[test]
fn a_command_on_a_terminal_logs_text_unless_told_otherwise() {
    let (scratch, _lock) = locked();
    let text = said(prune_size(&scratch));
    assert!(text.contains("another pruner holds the lock of"), "{text}");
    assert!(!text.contains('{'), "{text}");

    let mut told = prune_size(&scratch);
    told.args(["--log-format", "json"]);
    let mut by_environment = prune_size(&scratch);
    by_environment.env("HOUSEKEEPER_LOG_FORMAT", "json");
    let mut by_file = prune_size(&scratch);
    let config = scratch.path("config.toml");
    fs::write(&config, "[log]\nformat = \"json\"\n").expect("written");
    by_file.arg("--config").arg(config);
    for command in [told, by_environment, by_file] {
        let lines = log_lines(&said(command));
        assert_eq!(lines[0]["event"], "lock.busy", "{lines:?}");
    }
    // Nobody watches: programs read it.
    let done = Done::of(prune_size(&scratch).output().expect("it runs"));
    assert_eq!(done.events("lock.busy").len(), 1, "{done:?}");
}

#[test]
fn the_agent_on_a_terminal_logs_json() {
    let scratch = Scratch::new();
    let mut command = housekeeper();
    command.arg("run").arg("--root").arg(scratch.root());
    command.arg("--state-dir").arg(scratch.path("state"));
    command.arg("--socket").arg(scratch.path("agent.sock"));
    command.args(["--max-size", "1GiB", "--scheduling", "normal"]);
    let (mut child, terminal) = on_terminal(command);
    let mut line = String::new();
    let read = BufReader::new(terminal).read_line(&mut line);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    read.expect("a line");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert!(line["timestamp"].is_string(), "{line}");
}

const EVIL: &[u8] =
    b"x\n2026-02-10T12:00:00Z  INFO fake\x1b]0;t\x07\x1b[31m\r\xff\xc2\x9b\xc2\x85\xe2\x80\xae";

/// Removes a session that somebody named with care, and tells of it.
fn removal_of_evil(format: &str) -> String {
    let scratch = Scratch::new();
    let name = OsStr::from_bytes(EVIL);
    let evil = scratch.root().join(name);
    session(&scratch.root(), "plain", "2026-02-01T12:00:00Z", 4096);
    fs::rename(scratch.root().join("plain"), &evil).expect("named");
    let mut command = prune_size(&scratch);
    command.args(["--verbose", "--log-format", format, "--json"]);
    let done = Done::of(command.output().expect("it runs"));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!evil.exists());
    done.stderr
}

#[test]
fn a_name_forges_no_line_of_a_text_log() {
    let log = removal_of_evil("text");
    assert!(log.contains("prune.deleted"), "{log}");
    assert!(log.contains("fake"), "{log}");
    for line in log.lines() {
        let is_bad = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!line.contains(is_bad), "{line:?}");
        let time = line.split(' ').next().unwrap_or_default();
        let time = chrono::DateTime::parse_from_rfc3339(time).expect("a log line of ours");
        assert_ne!(time.to_rfc3339(), "2026-02-10T12:00:00+00:00", "{line}");
    }
}

#[test]
fn a_name_in_a_json_log_stays_a_value() {
    let log = removal_of_evil("json");
    let lines = log_lines(&log);
    let deleted: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "prune.deleted")
        .collect();
    assert_eq!(deleted.len(), 1, "{log}");
    let text = String::from_utf8_lossy(EVIL).replace('\u{fffd}', "\\xFF");
    assert_eq!(deleted[0]["session"], text.as_str());
    assert!(!log.contains('\u{1b}'), "{log:?}");
}
