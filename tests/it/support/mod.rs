//! What tests share: the built program, directories to point it at, and a running agent.

pub(crate) mod agent;
pub(crate) mod cleaning;
pub(crate) mod fixture;
pub(crate) mod mounted;
pub(crate) mod receiver;
pub(crate) mod recount;
pub(crate) mod refusing;
pub(crate) mod resting;
pub(crate) mod running;
pub(crate) mod tree;
pub(crate) mod web;
pub(crate) mod world;

use serde_json::Value;
use std::path::Path;
use std::process::Output;

/// The built program, with an environment that no host configuration reaches.
pub(crate) fn housekeeper() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_housekeeper"));
    let ours: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("HOUSEKEEPER_"))
        .collect();
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.stdin(std::process::Stdio::null());
    command
}

/// A one-shot command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).expect("standard output is text"),
            stderr: String::from_utf8(output.stderr).expect("standard error is text"),
        }
    }

    /// The one JSON document on standard output.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The only root of the document.
    pub(crate) fn root(&self) -> Value {
        let document = self.document();
        let roots = document["roots"].as_array().expect("a list of roots");
        assert_eq!(roots.len(), 1, "{document}");
        roots[0].clone()
    }

    /// Log lines with this event.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        log_lines(&self.stderr)
            .into_iter()
            .filter(|line| line["event"] == event)
            .collect()
    }
}

/// Runs a one-shot command on a root. Its state lies beside the root.
pub(crate) fn on_root(command: &str, root: &Path, more: &[&str]) -> Done {
    let state = root.parent().expect("a scratch directory").join("state");
    let mut asked = housekeeper();
    asked.arg(command).arg("--root").arg(root);
    asked.arg("--state-dir").arg(state);
    asked.args(["--quiet", "0s", "--json"]).args(more);
    Done::of(asked.output().expect("the program runs"))
}

/// All of standard error as log lines.
pub(crate) fn log_lines(stderr: &str) -> Vec<Value> {
    stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// A number of bytes as `prune-size --max-mb` takes it. Exact: 2^20 divides without a rest.
pub(crate) fn mb(bytes: u64) -> String {
    format!("{}", bytes as f64 / f64::from(1 << 20))
}

/// Texts of one field of each item of a list.
pub(crate) fn texts(list: &Value, field: &str) -> Vec<String> {
    list.as_array()
        .unwrap_or_else(|| panic!("a list: {list}"))
        .iter()
        .map(|item| item[field].as_str().unwrap_or("null").to_owned())
        .collect()
}
