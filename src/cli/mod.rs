//! The command line: what was asked for, done, and printed. Standard output carries the
//! asked-for document and nothing else.

mod anomalies;
pub mod args;
pub mod ask;
mod audit;
mod cleanup;
pub mod cleanup_args;
pub mod demo;
pub mod detect;
pub mod one_shot;
mod outlook;
mod pins;
pub mod render;
mod trash;

use crate::agent::service::{Service, SpeakHttp};
use crate::agent::teller::{self, Teller};
use crate::agent::watching::would_pick;
use crate::clock::SystemClock;
use crate::config;
use crate::config::check::check;
use crate::config::request::{Request, environment};
use crate::config::settings::{Agent, LogFormat, Problem, Settings};
use crate::model::path::printable;
use crate::notify::Notifier;
use crate::store::error::StoreError;
use crate::store::state::StateDir;
use crate::store::{Access, Place, Store};
use crate::telemetry::logging::{self, Format};
use anyhow::Context;
use args::{Args, Command, PruneSize};
use clap::CommandFactory;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

/// At the end, for what happened last to be written down.
const LAST_NEWS: Duration = Duration::from_millis(300);

/// Done.
pub const DONE: u8 = 0;
/// Failed, or the goal was not met.
pub const FAILED: u8 = 1;
/// Another pruner holds the lock.
pub const BUSY: u8 = 2;
/// The configuration is wrong.
pub const WRONG_CONFIG: u8 = 78;

/// How long a start waits for the store: it goes on opening beside the roots then.
const FIRST_TRY: Duration = Duration::from_secs(5);
/// How long an end waits for the log and the store.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs one command. The number is the exit code.
///
/// # Errors
/// What ended the command; exit code 1.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    speak_http: SpeakHttp,
) -> anyhow::Result<u8> {
    let args = match args::parse(arguments) {
        Ok(args) => args,
        Err(error) => {
            error.print().context("cannot write to the terminal")?;
            return Ok(args::exit_code(&error));
        }
    };
    let mut request = args.request(environment());
    if is_one_shot(&args.command) && std::io::stderr().is_terminal() {
        request.log_default = LogFormat::Text;
    }
    match &args.command {
        Command::Run(_) => run(request, speak_http),
        Command::Demo(demo) => demo::run(&request, demo),
        Command::Scan(look) => one_shot::scan(&args, request, look.json),
        Command::Plan(look) => one_shot::plan(&args, request, look.json),
        Command::PruneSize(prune) => one_shot::prune_size(&args, request, prune),
        Command::Status(_) | Command::Rescan(_) | Command::Accept(_) => ask::ask(&args, &request),
        Command::Audit(wanted) => audit::audit(&request, wanted),
        Command::Anomalies(wanted) => anomalies::anomalies(&args, request, wanted),
        Command::Pin(_) | Command::Unpin(_) | Command::Pins(_) => pins::pins(&args, request),
        Command::Next(wanted) => outlook::next(&args, request, wanted),
        Command::Why(wanted) => outlook::why(&args, request, wanted),
        Command::Trash(wanted) => trash::trash(&args, &request, wanted),
        Command::Restore(wanted) => trash::restore(&args, &request, wanted),
        Command::Cleanup(wanted) => cleanup::cleanup(&request, wanted),
        Command::Presets(wanted) => detect::presets(wanted),
        Command::Detect(wanted) => detect::detect(&args, &request, wanted),
        Command::CheckConfig(wanted) => check_config(&request, wanted.json),
        Command::Completions(wanted) => completions(wanted.shell),
    }
}

/// Whether a command is one that somebody waits for: what it logs is for people where they see
/// it. The agent's log is for programs, wherever it runs.
fn is_one_shot(command: &Command) -> bool {
    match command {
        Command::Scan(_)
        | Command::Plan(_)
        | Command::PruneSize(_)
        | Command::Audit(_)
        | Command::Status(_)
        | Command::Rescan(_)
        | Command::Accept(_)
        | Command::Anomalies(_)
        | Command::Pin(_)
        | Command::Unpin(_)
        | Command::Pins(_)
        | Command::Next(_)
        | Command::Why(_)
        | Command::Trash(_)
        | Command::Restore(_)
        | Command::Cleanup(_)
        | Command::Presets(_)
        | Command::Detect(_)
        | Command::CheckConfig(_) => true,
        Command::Run(_) | Command::Demo(_) | Command::Completions(_) => false,
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "housekeeper", &mut script);
    print(&script)?;
    Ok(DONE)
}

/// Writes the asked-for document. A reader that went away is no failure.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a document as JSON, or as `render` shows it to people.
fn print_document(
    document: &Value,
    json: bool,
    render: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    let mut text = if json {
        document.to_string()
    } else {
        render(document)
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    print(text.as_bytes())
}

/// Says on standard error what is wrong, a line each.
fn complain(problems: &[Problem]) -> anyhow::Result<()> {
    let mut err = std::io::stderr().lock();
    for problem in problems {
        let problem = printable(&problem.to_string());
        writeln!(err, "housekeeper: {problem}").context("cannot write to standard error")?;
    }
    Ok(())
}

fn begin_logging(settings: &Settings, quietest: Option<&str>) -> anyhow::Result<()> {
    let format = match settings.log.format {
        LogFormat::Json | LogFormat::Clef => Format::Json,
        LogFormat::Text => Format::Text,
    };
    logging::begin(format, quietest.unwrap_or(&settings.log.level)).context("cannot begin to log")
}

fn check_config(request: &Request, json: bool) -> anyhow::Result<u8> {
    let mut checked = check(request);
    checked.say_backends(|root| {
        let (backend, why) = would_pick(root)?;
        Some((backend.name(), why))
    });
    if json {
        print(format!("{}\n", checked.to_json()).as_bytes())?;
    } else {
        print(render::check(&checked).as_bytes())?;
    }
    Ok(if checked.problems.is_empty() {
        DONE
    } else {
        WRONG_CONFIG
    })
}

/// The agent, in the foreground.
fn run(request: Request, speak_http: SpeakHttp) -> anyhow::Result<u8> {
    let settings = match config::load(&request) {
        Ok(settings) if settings.roots.is_empty() && settings.file.is_none() => {
            complain(&[Problem {
                key: "root".to_owned(),
                line: None,
                message: "there is nothing to look after: give --root DIR --max-size SIZE, or a configuration with --config FILE".to_owned(),
            }])?;
            return Ok(WRONG_CONFIG);
        }
        Ok(settings) => settings,
        Err(problems) => {
            complain(&problems)?;
            return Ok(WRONG_CONFIG);
        }
    };
    begin_logging(&settings, None)?;
    for problem in settings.strict_problems() {
        tracing::warn!(
            event = "config.invalid_value",
            key = %problem.key,
            line = problem.line,
            "{}", problem.message
        );
    }
    let state = StateDir::open(&settings.agent.state_dir)?;
    let _lock = state.lock()?;
    let store = open_store(&settings.agent, Access::Write)?;
    // What could not be opened is said by the store itself, and the agent goes on without it.
    match (store.opened().wait_for(FIRST_TRY), &settings.agent.database) {
        (Ok(()), Some(path)) => tracing::info!(
            event = "store.opened",
            path = %path.display(),
            backlog = store.condition().backlog,
            "the store is open"
        ),
        (Ok(()), None) => {}
        (Err(error), _) => {
            tracing::debug!(error = %error, "the agent begins without its store");
        }
    }
    let (notifier, notifying) = Notifier::start(
        settings.notify.clone(),
        &settings.agent.state_dir.join("notify"),
        Arc::new(SystemClock::start()),
    )
    .context("cannot start the thread that notifies")?;
    let (teller, thread) = Teller::start(store.clone(), Some(notifier.clone()));
    let address = settings.agent.http.clone();
    let service = Service::start(settings, request, teller, store.clone())?;
    let http = speak_http(&address, service.window().clone())
        .context("cannot start the thread that speaks HTTP")?;
    let ended = service.run(Some(http));
    // A root that did not end in time still holds a teller: then nothing more is waited for.
    teller::finish(&thread, store, LAST_WORDS);
    if !notifier.flush(LAST_NEWS) {
        tracing::warn!(
            event = "notify.unwritten",
            "what happened last may not be told of after the next start"
        );
    }
    // What waits is on the disk: the next start sends it.
    drop(notifying);
    ended?;
    Ok(DONE)
}

/// The store, where one is configured.
fn open_store(agent: &Agent, access: Access) -> anyhow::Result<Store> {
    let place = Place::new(agent.database.as_deref(), &agent.state_dir, access);
    let store = Store::start(place, Arc::new(SystemClock::start()));
    store.context("cannot start the store's thread")
}

/// Writes what waits, or says what becomes of it.
fn close_store(store: Store) {
    let watched = store.clone();
    let Err(error) = store.close().wait_for(LAST_WORDS) else {
        return;
    };
    let condition = watched.condition();
    if matches!(error, StoreError::Off) {
    } else if condition.unkept > 0 {
        let why = condition.unkept_because.unwrap_or_default();
        tracing::warn!(
            event = "store.unwritten",
            error = %error,
            rows = condition.unkept,
            "what was done is not in the audit and will not be: the database cannot be written, nor the file where rows wait ({why}); keep this command's output"
        );
    } else {
        tracing::warn!(event = "store.unwritten", error = %error, "what was done is not in the audit yet: its rows wait for the agent's next start");
    }
}

/// Settings in which nothing is wrong. `Err`: what is was told, and this is the exit code.
fn sound(loaded: Result<Settings, Vec<Problem>>) -> anyhow::Result<Result<Settings, u8>> {
    let problems = match loaded {
        Ok(settings) => match settings.strict_problems() {
            problems if problems.is_empty() => return Ok(Ok(settings)),
            problems => problems,
        },
        Err(problems) => problems,
    };
    complain(&problems)?;
    Ok(Err(WRONG_CONFIG))
}

fn settings_for(args: &Args, request: &Request) -> anyhow::Result<Result<Settings, u8>> {
    let settings = match sound(config::load(request))? {
        Ok(settings) => settings,
        Err(code) => return Ok(Err(code)),
    };
    let quietest = match &args.command {
        Command::PruneSize(PruneSize { verbose: true, .. }) => None,
        _ if args.log.log_level.is_some() => None,
        _ => Some("warn"),
    };
    begin_logging(&settings, quietest)?;
    Ok(Ok(settings))
}
