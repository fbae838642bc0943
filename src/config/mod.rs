//! Text in, checked settings out: the file, the environment, the flags.
//!
//! One reading serves two strictnesses (promise 12). [`load`] gives what a running agent can go on
//! with: bad values of `[agent]` and `[log]` took their defaults, a root with anything wrong has no
//! limits. [`settings::Settings::strict_problems`] gives all that is wrong, for commands that end
//! then. Every problem is found in one reading, each with its key and line.
//!
//! Reading is text and a few looks at the disk: where roots lie decides whether they may be roots.

pub mod agent;
pub mod check;
pub mod cleanup;
pub mod duration;
mod file;
mod layout;
mod lifecycle;
mod limits;
mod notify;
mod place;
mod preset;
mod protect;
mod reader;
mod registry;
pub mod request;
mod root;
mod roots;
pub mod settings;
pub mod size;
mod trash;
pub mod word;

use crate::config::agent::{read_agent, read_audit, read_log, read_store};
use crate::config::reader::{Layer, Lines, Origin, Reader};
use crate::config::request::Request;
use crate::config::settings::{Problem, Settings};
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Read where `--config` is not given and the file exists.
pub const DEFAULT_FILE: &str = "/etc/housekeeper/housekeeper.toml";

/// A broken file may have an error in every line; more than this help nobody.
const MAX_SYNTAX_ERRORS: usize = 50;

/// Everything, for commands that look after roots. An error is a file that can't be read or parsed,
/// or that no root is left, but where the file has `[registry]` and names none; it lists all that
/// is wrong.
pub fn load(request: &Request) -> Result<Settings, Vec<Problem>> {
    let settings = load_registry(request)?;
    let registrations_only = settings.registry.is_written && settings.refused.is_empty();
    if !settings.roots.is_empty() || (registrations_only && request.roots.is_empty()) {
        return Ok(settings);
    }
    let mut problems = settings.strict_problems();
    problems.push(no_root(&settings));
    Err(problems)
}

/// Everything, for commands that look after registrations: there may be no roots.
pub fn load_registry(request: &Request) -> Result<Settings, Vec<Problem>> {
    read(request, Whole::Yes)
}

/// `[agent]` and `[log]` only, for commands that talk to a running agent. There are no roots.
pub fn load_agent(request: &Request) -> Result<Settings, Vec<Problem>> {
    read(request, Whole::No)
}

/// Whether more than `[agent]` and `[log]` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    /// The rest is known, and not looked at: its secrets may not be for this user.
    No,
}

fn read(request: &Request, whole: Whole) -> Result<Settings, Vec<Problem>> {
    let file = match &request.file {
        Some(path) => Some(path.clone()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| is_there(path)),
    };
    let text = match &file {
        Some(path) => file::read(path).map_err(|problem| vec![problem])?,
        None => String::new(),
    };
    let lines = Lines::new(&text);
    let (table, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        let name = file.as_deref().map(file::show).unwrap_or_default();
        return Err(syntax(&name, &lines, &errors));
    }
    let mut table = Reader::new(
        "",
        vec![Layer {
            table: table.get_ref(),
            origin: Origin::File(&lines),
        }],
    );
    let (mut agent, mut warnings) = read_agent(table.table_or_absent("agent"), request);
    let store = table.table_or_absent("store");
    let (database, more) = read_store(store, request, &agent.state_dir);
    agent.database = database;
    warnings.extend(more);
    let (keep, more) = read_audit(table.table_or_absent("audit"), request);
    agent.audit_keep = keep;
    warnings.extend(more);
    let (log, more) = read_log(table.table_or_absent("log"), request);
    warnings.extend(more);
    let roots = match whole {
        Whole::Yes => roots::read(request, &mut table, &agent),
        Whole::No => roots::Roots::default(),
    };
    let is_written = table.find("registry").is_some();
    let mut below = |key| match (whole, table.find(key)) {
        (Whole::Yes, _) => table.table_or_absent(key),
        (Whole::No, _) => Reader::absent(key),
    };
    let (mut registry, more) = registry::read(below("registry"), request, &agent, &roots.kept);
    registry.is_written = is_written;
    warnings.extend(more);
    let (notify, more) = notify::read(below("notify"));
    warnings.extend(more);
    table.find("root");
    warnings.extend(table.finish());
    Problem::sort(&mut warnings);
    Ok(Settings {
        file,
        agent,
        log,
        registry,
        notify,
        roots: roots.kept,
        warnings,
        refused: roots.refused,
    })
}

/// A file that can't be looked at is there: reading it will say what is wrong.
fn is_there(path: &Path) -> bool {
    !matches!(path.try_exists(), Ok(false))
}

fn syntax(file: &str, lines: &Lines, errors: &[toml::de::Error]) -> Vec<Problem> {
    let problems = errors.iter().take(MAX_SYNTAX_ERRORS).map(|error| Problem {
        key: file.to_owned(),
        line: error.span().map(|span| lines.line(span.start)),
        // The message alone: the text around it may hold a secret.
        message: format!("this is no TOML: {}", error.message()),
    });
    let mut problems: Vec<_> = problems.collect();
    Problem::sort(&mut problems);
    problems
}

fn no_root(settings: &Settings) -> Problem {
    let message = match &settings.file {
        _ if !settings.refused.is_empty() => "no root is left to look after".to_owned(),
        Some(file) => format!(
            "no root is configured; add a [[root]] to {}, or give --root DIR --max-size SIZE",
            file::show(file)
        ),
        None => format!(
            "no root is configured; give --root DIR --max-size SIZE, or write {DEFAULT_FILE}"
        ),
    };
    Problem {
        key: "root".to_owned(),
        line: None,
        message,
    }
}

#[cfg(test)]
mod tests;
