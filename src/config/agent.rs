//! `[agent]` and `[log]`: default, then file, then environment, then flag.
//!
//! A bad value counts as absent and is noted, so a running agent goes on with what is left. `mode`
//! alone is different: whoever wrote it may have meant "delete nothing", so then nothing is deleted.

use crate::config::reader::Reader;
use crate::config::request::Request;
use crate::config::settings::{Agent, AuditKeep, Log, LogFormat, Mode, Problem};
use crate::config::{duration, word};
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

const RESCAN_INTERVAL: Duration = Duration::from_secs(3600);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
const HTTP: &str = "127.0.0.1:9470";
/// The database, in the state directory.
const DATABASE: &str = "housekeeper.db";
const AUDIT_KEEP: AuditKeep = AuditKeep {
    age: Duration::from_secs(90 * 24 * 3600),
    // About 300 bytes each.
    max_rows: 1_000_000,
};
const AUDIT_ROWS: Range<u64> = 10_000..1_000_000_001;
const LOG_LEVEL: &str = "info";
/// What fits into a `sockaddr_un` with its final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Who runs this: the defaults differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Root,
    Ordinary,
}

/// One section in the file and in the environment.
pub(super) struct Section<'r, 't> {
    name: &'static str,
    request: &'r Request,
    table: Reader<'t>,
    /// Problems of the environment.
    problems: Vec<Problem>,
}

/// What the file and the environment say about one key.
pub(super) struct Said<T> {
    pub(super) value: Option<T>,
    /// What counts most is bad.
    doubtful: bool,
}

/// Reads `[agent]`.
pub(super) fn read_agent(table: Reader<'_>, request: &Request) -> (Agent, Vec<Problem>) {
    let user = if rustix::process::geteuid().is_root() {
        User::Root
    } else {
        User::Ordinary
    };
    let mut section = Section::new("agent", table, request);
    let flags = &request.agent;
    let mode = section.said("mode", word::parse);
    let safe_mode = if mode.doubtful {
        Mode::Observe
    } else {
        mode.value.unwrap_or_default()
    };
    let state_dir = section.said("state_dir", path_of).value;
    let state_dir = flags
        .state_dir
        .as_deref()
        .map(absolute)
        .or(state_dir)
        .unwrap_or_else(|| default_state_dir(user, request));
    let socket = section.said("socket", socket_of).value;
    let socket = flags.socket.as_deref().map(absolute).or(socket);
    let agent = Agent {
        mode: flags.mode.unwrap_or(safe_mode),
        socket: socket.unwrap_or_else(|| default_socket(user, request, &state_dir)),
        state_dir,
        http: section
            .said("http", http_of)
            .value
            .unwrap_or_else(|| HTTP.to_owned()),
        rescan_interval: section
            .said("rescan_interval", duration::parse_interval)
            .value
            .unwrap_or(RESCAN_INTERVAL),
        shutdown_grace: section
            .said("shutdown_grace", duration::parse)
            .value
            .unwrap_or(SHUTDOWN_GRACE),
        scheduling: flags
            .scheduling
            .or(section.said("scheduling", word::parse).value)
            .unwrap_or_default(),
        database: None,
        audit_keep: AUDIT_KEEP,
    };
    (agent, section.finish())
}

/// Reads `[store]`.
pub(super) fn read_store(
    table: Reader<'_>,
    request: &Request,
    state_dir: &Path,
) -> (Option<PathBuf>, Vec<Problem>) {
    let mut section = Section::new("store", table, request);
    let url = section.said("url", database_of).value;
    let database = url.unwrap_or_else(|| Some(state_dir.join(DATABASE)));
    (database, section.finish())
}

/// Reads `[audit]`.
pub(super) fn read_audit(table: Reader<'_>, request: &Request) -> (AuditKeep, Vec<Problem>) {
    let mut section = Section::new("audit", table, request);
    let age = section.said("keep", duration::parse_above_zero).value;
    let max_rows = section.number("max_rows", AUDIT_ROWS);
    let keep = AuditKeep {
        age: age.unwrap_or(AUDIT_KEEP.age),
        max_rows: max_rows.unwrap_or(AUDIT_KEEP.max_rows),
    };
    (keep, section.finish())
}

/// Reads `[log]`.
pub(super) fn read_log(table: Reader<'_>, request: &Request) -> (Log, Vec<Problem>) {
    let mut section = Section::new("log", table, request);
    let format: Option<LogFormat> = section.said("format", word::parse).value;
    let level = section.said("level", level_of).value;
    let flags = &request.agent;
    let log = Log {
        format: flags.log_format.or(format).unwrap_or(request.log_default),
        level: flags
            .log_level
            .clone()
            .or(level)
            .unwrap_or_else(|| LOG_LEVEL.to_owned()),
    };
    (log, section.finish())
}

impl<'r, 't> Section<'r, 't> {
    pub(super) fn new(name: &'static str, table: Reader<'t>, request: &'r Request) -> Self {
        Self {
            name,
            request,
            table,
            problems: Vec::new(),
        }
    }

    /// Asks the environment, then the file. Both are checked, whichever counts.
    pub(super) fn said<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Said<T> {
        let from_file = self.table.parsed(key, &parse);
        self.said_over(key, from_file, parse)
    }

    /// A whole number in `range`, in the environment as text.
    pub(super) fn number(&mut self, key: &'static str, range: Range<u64>) -> Option<u64> {
        let from_file = self.table.number(key, range.clone());
        let said = self.said_over(key, from_file, |text| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            let most = range.end - 1;
            number.ok_or_else(|| {
                format!(
                    "`{text}` must be a whole number from {} to {most}",
                    range.start
                )
            })
        });
        said.value
    }

    /// `true` or `false`, in the environment as text.
    pub(super) fn switch(&mut self, key: &'static str) -> Option<bool> {
        let from_file = self.table.switch(key);
        let said = self.said_over(key, from_file, |text| {
            text.parse()
                .map_err(|_| format!("`{text}` is neither true nor false"))
        });
        said.value
    }

    fn said_over<T>(
        &mut self,
        key: &'static str,
        from_file: Option<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Said<T> {
        let variable = format!("HOUSEKEEPER_{}_{key}", self.name).to_uppercase();
        let Some(value) = self.request.variable(&variable) else {
            return Said {
                doubtful: self.table.has_problem(key),
                value: from_file,
            };
        };
        let parsed = match value.to_str() {
            Some(text) => parse(text.trim()),
            None => Err("is not UTF-8 text".to_owned()),
        };
        match parsed {
            Ok(value) => Said {
                value: Some(value),
                doubtful: false,
            },
            Err(message) => {
                self.problems.push(Problem {
                    key: variable,
                    line: None,
                    message,
                });
                Said {
                    value: from_file,
                    doubtful: true,
                }
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.table.finish();
        problems.extend(self.problems);
        problems
    }
}

fn default_state_dir(user: User, request: &Request) -> PathBuf {
    let ordinary = || {
        let state = request.directory("XDG_STATE_HOME");
        let home = || Some(request.directory("HOME")?.join(".local/state"));
        Some(state.or_else(home)?.join("housekeeper"))
    };
    match user {
        User::Root => None,
        User::Ordinary => ordinary(),
    }
    .unwrap_or_else(|| PathBuf::from("/var/lib/housekeeper"))
}

fn default_socket(user: User, request: &Request, state_dir: &Path) -> PathBuf {
    match user {
        User::Root => PathBuf::from("/run/housekeeper/agent.sock"),
        User::Ordinary => match request.directory("XDG_RUNTIME_DIR") {
            Some(runtime) => runtime.join("housekeeper/agent.sock"),
            None => state_dir.join("agent.sock"),
        },
    }
}

fn absolute(path: &Path) -> PathBuf {
    // Fails for an empty path only, which no socket or directory can be made at either.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

pub(super) fn path_of(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(format!("`{text}` is not absolute; begin it with `/`"));
    }
    if text.contains('\0') {
        return Err("the path contains a NUL byte".to_owned());
    }
    Ok(path)
}

fn socket_of(text: &str) -> Result<PathBuf, String> {
    if text.len() > MAX_SOCKET_PATH {
        return Err(format!(
            "`{text}` is longer than {MAX_SOCKET_PATH} bytes, the most a socket's path can have"
        ));
    }
    path_of(text)
}

/// The file of a database. Empty: off.
fn database_of(text: &str) -> Result<Option<PathBuf>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    // What was written may hold a password: it is not repeated.
    let form = "write \"sqlite:///path/to/housekeeper.db\", or \"\" for none";
    if text.starts_with("postgres") {
        return Err(format!(
            "is not supported by this version for PostgreSQL; {form}"
        ));
    }
    let path = text
        .strip_prefix("sqlite://")
        .filter(|path| !path.contains(['?', '#', '\0']));
    match path.map(PathBuf::from) {
        Some(path) if path.is_absolute() && path.file_name().is_some() => Ok(Some(path)),
        Some(_) | None => Err(format!("is no place of a store; {form}")),
    }
}

/// Empty: off. Who may ask from elsewhere is nobody's business to guess: this host only.
fn http_of(text: &str) -> Result<String, String> {
    let text = text.trim();
    let good = text.is_empty()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
            let blank = host.is_empty() || host.contains(char::is_whitespace);
            !blank && !bare_v6 && port.parse::<u16>().is_ok()
        });
    if !good {
        return Err(format!(
            "`{text}` is no address; write one like \"127.0.0.1:9470\", or \"\" for none"
        ));
    }
    let host = text.rsplit_once(':').map_or("", |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = |host: &str| {
        host.parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    };
    if !text.is_empty() && host != "localhost" && !is_here(bare) {
        return Err(format!(
            "`{text}` is open to other hosts, and everybody there could ask; write one like \
             \"127.0.0.1:9470\", and let a proxy stand before it that knows who may"
        ));
    }
    Ok(text.to_owned())
}

/// One word, or directives of tracing-subscriber: `info,housekeeper::watch=debug`.
pub fn level_of(text: &str) -> Result<String, String> {
    const WORDS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) {
        return Ok(lower);
    }
    // A lone word would be taken for the name of a target, and a typo would mean silence.
    let directives = text.contains('=')
        && tracing_subscriber::filter::EnvFilter::builder()
            .parse(text)
            .is_ok();
    if !directives {
        let words = WORDS.join(", ");
        return Err(format!(
            "`{text}` is none of {words}, nor directives like \"info,housekeeper::watch=debug\""
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{
        User, database_of, default_socket, default_state_dir, http_of, level_of, socket_of,
    };
    use crate::config::request::Request;
    use std::path::Path;

    #[test]
    fn defaults_depend_on_who_runs_it() {
        let request = Request {
            environment: vec![
                ("HOME".into(), "/home/joe".into()),
                ("XDG_STATE_HOME".into(), "relative".into()),
                ("XDG_RUNTIME_DIR".into(), "/run/user/1".into()),
            ],
            ..Request::default()
        };
        let state = default_state_dir(User::Ordinary, &request);
        assert_eq!(state, Path::new("/home/joe/.local/state/housekeeper"));
        let socket = default_socket(User::Ordinary, &request, &state);
        assert_eq!(socket, Path::new("/run/user/1/housekeeper/agent.sock"));
        let state = default_state_dir(User::Root, &request);
        assert_eq!(state, Path::new("/var/lib/housekeeper"));
        let bare = Request::default();
        let socket = default_socket(User::Ordinary, &bare, Path::new("/s"));
        assert_eq!(socket, Path::new("/s/agent.sock"));
        let socket = default_socket(User::Root, &bare, Path::new("/s"));
        assert_eq!(socket, Path::new("/run/housekeeper/agent.sock"));
    }

    #[test]
    fn addresses_levels_and_sockets_are_checked() {
        for good in ["", "127.0.0.1:0", "[::1]:9470", "localhost:80"] {
            assert!(http_of(good).is_ok(), "{good}");
        }
        for bad in [
            "9470",
            "127.0.0.1",
            "::1:9470",
            "h:99999",
            ":80",
            "a b:80",
            "0.0.0.0:80",
            "[::]:80",
            "10.0.0.1:80",
            "example.org:80",
        ] {
            assert!(http_of(bad).is_err(), "{bad}");
        }
        for good in ["info", "DEBUG", "info,housekeeper::watch=debug"] {
            assert!(level_of(good).is_ok(), "{good}");
        }
        for bad in ["inof", "", "a=b=c", "info,nonsense=loud"] {
            assert!(level_of(bad).is_err(), "{bad}");
        }
        assert!(socket_of(&format!("/{}", "x".repeat(200))).is_err());
        assert_eq!(database_of(" "), Ok(None));
        let path = database_of("sqlite:///a/b.db").ok().flatten();
        assert_eq!(path.as_deref(), Some(Path::new("/a/b.db")));
        for bad in [
            "/a/b",
            "sqlite://a",
            "sqlite:///",
            "sqlite:///a?mode=ro",
            "postgres://u:secret@h/d",
        ] {
            let why = database_of(bad).expect_err(bad);
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
