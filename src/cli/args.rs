//! What may be written on the command line. Values arrive checked; what they do is elsewhere.
//!
//! Wrong usage exits with 64: clap's own 2 means "another pruner holds the lock" here.

use super::cleanup_args::Cleanup;
use crate::config::agent::level_of;
use crate::config::request::{AgentFlags, Request, RootFlags};
use crate::config::settings::{FirstStart, LogFormat, Mode, Scheduling};
use crate::config::word::{self, Word};
use crate::config::{duration, size};
use crate::engine::outlook::MAX_ROWS;
use crate::layout::presets;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::Bytes;
use crate::model::time::Time;
use crate::store::audit::MAX_ANSWER;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Exit code of wrong usage.
pub const USAGE: u8 = 64;

/// Keeps directories full of sessions under their limits.
#[derive(Debug, Parser)]
#[command(name = "housekeeper", version)]
pub struct Args {
    /// Configuration file [default: /etc/housekeeper/housekeeper.toml where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// How to log, on standard error.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogArgs {
    /// How log lines are written
    #[arg(long, global = true, value_name = "FORMAT", value_parser = one_of::<LogFormat>())]
    pub log_format: Option<LogFormat>,
    /// Which log lines are written: off, error, warn, info, debug, trace, or directives
    #[arg(long, global = true, value_name = "LEVEL", value_parser = level_of)]
    pub log_level: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent in the foreground
    Run(Run),
    /// Run the agent on a scratch directory with real writers, and watch it
    Demo(Demo),
    /// Show what is in the roots; changes nothing
    Scan(Look),
    /// Show what would go now and why; changes nothing
    Plan(Look),
    /// Show what is wrong in the roots, and what to do about it
    Anomalies(Anomalies),
    /// Show what was removed, skipped or changed, by whom and why
    Audit(Audit),
    /// List the sessions that go next, by which rule, and when
    Next(Next),
    /// Say what keeps or takes a session, or what took it
    Why(Why),
    /// List what was removed and may come back
    Trash(Trash),
    /// Bring a session back from the trash
    Restore(Restore),
    /// Ask the running agent how it is
    Status(Ask),
    /// Ask the running agent to recount a root, or all of them
    Rescan(Rescan),
    /// Bring roots to a size now, oldest sessions first, without asking
    PruneSize(PruneSize),
    /// Say all that is wrong with the configuration
    CheckConfig(CheckConfig),
    /// Promise not to remove a session
    Pin(Pin),
    /// Take such a promise back
    Unpin(Unpin),
    /// List the pinned sessions
    Pins(Pins),
    /// Register what is to be cleaned up and when, and run it
    Cleanup(Cleanup),
    /// List the layouts that ship with the program, or show one
    Presets(Presets),
    /// Say which shipped layouts fit a directory, and what each would own; changes nothing
    Detect(Detect),
    /// Let a held root be pruned as configured
    Accept(Accept),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// Which roots, and what to know about them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RootArgs {
    /// A directory, or the name of a configured root; several may be given
    #[arg(long = "root", value_name = "DIR", action = ArgAction::Append)]
    pub roots: Vec<PathBuf>,
    /// A named layout
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Sessions written to within this time stay
    #[arg(long, value_name = "TIME", value_parser = duration::parse_quiet)]
    pub quiet: Option<Duration>,
    /// Where the program keeps what it must remember
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// The limits of every root looked after.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LimitArgs {
    /// The most a root may hold, such as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse_limit)]
    pub max_size: Option<Bytes>,
    /// Where pruning by size stops [default: the most it may hold]
    #[arg(long, value_name = "SIZE", value_parser = size::parse_limit)]
    pub prune_to: Option<Bytes>,
    /// Older sessions go
    #[arg(long, value_name = "TIME", value_parser = duration::parse_above_zero)]
    pub max_age: Option<Duration>,
    /// The most sessions a root may have
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_count: Option<u64>,
}

/// Flags of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Whether to delete, or only to decide and report
    #[arg(long, value_parser = one_of::<Mode>())]
    pub mode: Option<Mode>,
    /// Where `status` and `rescan` reach the agent
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// What to do where the first plan would remove more than half of a root
    #[arg(long, value_name = "WHAT", value_parser = one_of::<FirstStart>())]
    pub first_start: Option<FirstStart>,
    /// How the threads on the latency path are scheduled
    #[arg(long, value_name = "HOW", value_parser = one_of::<Scheduling>())]
    pub scheduling: Option<Scheduling>,
}

/// Flags of `audit`.
#[derive(Debug, clap::Args)]
pub struct Audit {
    /// Not before this time, or this long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub since: Option<When>,
    /// Not after this time, or this long ago
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub until: Option<When>,
    /// Of this root only
    #[arg(long, value_name = "NAME")]
    pub root: Option<String>,
    /// Of this session only, by its key or its path below the root
    #[arg(long, value_name = "KEY")]
    pub session: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..=MAX_ANSWER))]
    pub limit: u64,
    /// Where the agent keeps what it must remember
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub ask: Ask,
}

/// A time as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    At(Time),
    Ago(Duration),
}

fn when(text: &str) -> Result<When, String> {
    if let Ok(at) = text.parse() {
        return Ok(When::At(at));
    }
    let say = |why| format!("{why}; or a time like \"2026-02-10T12:00:00Z\"");
    duration::parse(text).map(When::Ago).map_err(say)
}

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// How long to run [default: until Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse_above_zero)]
    pub period: Option<Duration>,
    /// The limit of the scratch root
    #[arg(long, value_name = "SIZE", value_parser = size::parse_limit)]
    pub limit: Option<Bytes>,
    /// Where the scratch root is made [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Flags of `scan` and `plan`.
#[derive(Debug, clap::Args)]
pub struct Look {
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `anomalies`.
#[derive(Debug, clap::Args)]
pub struct Anomalies {
    #[command(flatten)]
    pub root: RootArgs,
    /// Only anomalies of this kind; several may be given
    #[arg(long = "kind", value_name = "KIND", action = ArgAction::Append, value_parser = anomaly_kind())]
    pub kinds: Vec<AnomalyKind>,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `next`.
#[derive(Debug, clap::Args)]
pub struct Next {
    /// How many
    #[arg(short, long = "number", value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u64).range(1..=MAX_ROWS as u64))]
    pub n: u64,
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `why`.
#[derive(Debug, clap::Args)]
pub struct Why {
    /// The session's path, below its root or in full, or its id
    #[arg(value_name = "PATH|ID")]
    pub subject: OsString,
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `trash`.
#[derive(Debug, clap::Args)]
pub struct Trash {
    #[command(subcommand)]
    pub what: TrashWhat,
}

/// What `trash` is to do.
#[derive(Debug, Subcommand)]
pub enum TrashWhat {
    /// List what may come back, and until when
    List(TrashList),
}

/// Flags of `trash list`.
#[derive(Debug, clap::Args)]
pub struct TrashList {
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The session's path or id, or its name in the trash
    #[arg(value_name = "ID")]
    pub id: OsString,
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `pin`.
#[derive(Debug, clap::Args)]
pub struct Pin {
    /// The session's path below the root, or its id; it need not exist yet
    #[arg(value_name = "ID")]
    pub session: String,
    /// Until when, such as 30d or 2027-01-31T12:00:00Z [default: until it is unpinned]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Why it stays
    #[arg(long)]
    pub reason: String,
    /// Who wants it
    #[arg(long)]
    pub owner: Option<String>,
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `unpin`.
#[derive(Debug, clap::Args)]
pub struct Unpin {
    /// As it was pinned
    #[arg(value_name = "ID")]
    pub session: String,
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `pins`.
#[derive(Debug, clap::Args)]
pub struct Pins {
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `presets`.
#[derive(Debug, clap::Args)]
pub struct Presets {
    #[command(subcommand)]
    pub what: Option<PresetsWhat>,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `presets` is to do besides listing them.
#[derive(Debug, Subcommand)]
pub enum PresetsWhat {
    /// Print a layout as TOML, to be copied into a configuration
    Show {
        /// One of those listed
        #[arg(value_parser = PossibleValuesParser::new(presets::names()))]
        name: String,
    },
}

/// Flags of `detect`.
#[derive(Debug, clap::Args)]
pub struct Detect {
    /// The directory to look at
    pub dir: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Ask {
    /// Where the agent listens
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `rescan`.
#[derive(Debug, clap::Args)]
pub struct Rescan {
    /// Name or path of a root [default: all]
    pub root: Option<PathBuf>,
    /// Wait also until all that happened before has been heard of
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `prune-size`.
#[derive(Debug, clap::Args)]
pub struct PruneSize {
    /// How many MiB each root may hold afterwards; fractions are allowed
    #[arg(long, value_name = "N", value_parser = mebibytes, allow_hyphen_values = true)]
    pub max_mb: Bytes,
    /// Only sessions of this group
    #[arg(long, value_name = "G")]
    pub group: Option<String>,
    /// After how long an untouched lock is stale, where locks don't reach
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub lock_stale_seconds: Duration,
    /// Print the plan and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub root: RootArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Log what is done to each session
    #[arg(long, short)]
    pub verbose: bool,
}

/// Flags of `check-config`.
#[derive(Debug, clap::Args)]
pub struct CheckConfig {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `accept`.
#[derive(Debug, clap::Args)]
pub struct Accept {
    /// Name or path of the held root
    pub root: PathBuf,
    #[command(flatten)]
    pub ask: Ask,
}

/// Flags of `completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// Reads the command line. The error prints itself; [`exit_code`] says how to end then.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(args)
}

/// 0 for help and version that were asked for, else [`USAGE`].
pub fn exit_code(error: &clap::Error) -> u8 {
    if error.use_stderr() { USAGE } else { 0 }
}

impl Args {
    /// What to read as the configuration of this command.
    pub fn request(&self, environment: Vec<(OsString, OsString)>) -> Request {
        let mut request = Request {
            file: self.config.clone(),
            environment,
            agent: AgentFlags {
                log_format: self.log.log_format,
                log_level: self.log.log_level.clone(),
                ..AgentFlags::default()
            },
            ..Request::default()
        };
        match &self.command {
            Command::Run(run) => {
                run.root.add_to(&mut request);
                run.limits.add_to(&mut request.root);
                request.root.first_start = run.first_start;
                request.agent.mode = run.mode;
                request.agent.socket.clone_from(&run.socket);
                request.agent.scheduling = run.scheduling;
            }
            Command::Scan(look) | Command::Plan(look) => {
                look.root.add_to(&mut request);
                look.limits.add_to(&mut request.root);
            }
            Command::PruneSize(prune) => prune.root.add_to(&mut request),
            Command::Audit(Audit { ask, state_dir, .. }) => {
                request.agent.socket.clone_from(&ask.socket);
                request.agent.state_dir.clone_from(state_dir);
            }
            Command::Anomalies(Anomalies { root, ask, .. })
            | Command::Pin(Pin { root, ask, .. })
            | Command::Unpin(Unpin { root, ask, .. })
            | Command::Pins(Pins { root, ask })
            | Command::Trash(Trash {
                what: TrashWhat::List(TrashList { root, ask }),
            })
            | Command::Restore(Restore { root, ask, .. }) => {
                root.add_to(&mut request);
                request.agent.socket.clone_from(&ask.socket);
            }
            Command::Next(Next {
                root, limits, ask, ..
            })
            | Command::Why(Why {
                root, limits, ask, ..
            }) => {
                root.add_to(&mut request);
                limits.add_to(&mut request.root);
                request.agent.socket.clone_from(&ask.socket);
            }
            Command::Cleanup(cleanup) => {
                let way = cleanup.way();
                request.agent.socket.clone_from(&way.ask.socket);
                request.agent.state_dir.clone_from(&way.state_dir);
            }
            Command::Status(ask)
            | Command::Rescan(Rescan { ask, .. })
            | Command::Accept(Accept { ask, .. }) => {
                request.agent.socket.clone_from(&ask.socket);
            }
            Command::Demo(_)
            | Command::CheckConfig(_)
            | Command::Presets(_)
            | Command::Detect(_)
            | Command::Completions(_) => {}
        }
        request
    }
}

impl RootArgs {
    fn add_to(&self, request: &mut Request) {
        request.roots.clone_from(&self.roots);
        request.root.preset.clone_from(&self.preset);
        request.root.quiet = self.quiet;
        request.agent.state_dir.clone_from(&self.state_dir);
    }
}

impl LimitArgs {
    fn add_to(&self, flags: &mut RootFlags) {
        flags.max_size = self.max_size;
        flags.prune_to = self.prune_to;
        flags.max_age = self.max_age;
        flags.max_count = self.max_count;
    }
}

/// One of the words of a closed set; completions and help name them all.
fn one_of<W: Word + Send + Sync>() -> impl TypedValueParser<Value = W> {
    let words = W::WORDS.iter().map(|(word, _)| *word);
    PossibleValuesParser::new(words).try_map(|text| word::parse::<W>(&text))
}

/// The name of a kind; completions and help name them all.
fn anomaly_kind() -> impl TypedValueParser<Value = AnomalyKind> {
    PossibleValuesParser::new(AnomalyKind::ALL.map(AnomalyKind::name))
        .try_map(|name| AnomalyKind::named(&name).ok_or("unknown"))
}

/// MiB, rounded down to bytes.
fn mebibytes(text: &str) -> Result<Bytes, String> {
    /// Above this a `f64` of MiB is no `u64` of bytes.
    const TOO_MANY: f64 = (1_u64 << 44) as f64;
    let number: f64 = text
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is not a number of MiB"))?;
    if !number.is_finite() {
        return Err(format!("`{text}` is not a finite number of MiB"));
    }
    if number <= 0.0 {
        return Err(format!("`{text}` is not above zero"));
    }
    if number >= TOO_MANY {
        return Err(format!("`{text}` MiB are more than any disk holds"));
    }
    // Positive and below 2⁶⁴: cutting off the fraction is all that this does.
    let bytes = (number * Bytes::MIB.0 as f64) as u64;
    if bytes == 0 {
        return Err(format!("`{text}` MiB are less than one byte"));
    }
    Ok(Bytes(bytes))
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim().parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is not a whole number of seconds above zero"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, Command, USAGE, exit_code, parse};
    use crate::config::settings::Mode;
    use crate::model::bytes::Bytes;
    use clap::CommandFactory;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::time::Duration;

    fn read(line: &str) -> Result<Args, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_says_what_a_command_does() {
        for (line, part) in [
            ("housekeeper --help", "full of sessions"),
            ("housekeeper run --help", "in the foreground"),
            ("housekeeper prune-size --help", "without asking"),
            ("housekeeper rescan --help", "recount"),
        ] {
            let help = read(line).expect_err(line).to_string();
            assert!(help.contains(part), "{help}");
        }
    }

    #[test]
    fn wrong_usage_is_64_and_help_is_0() {
        for line in [
            "housekeeper",
            "housekeeper nothing",
            "housekeeper prune-size",
            "housekeeper prune-size --max-mb nan",
            "housekeeper run --max-size 10G",
            "housekeeper run --max-size 0",
            "housekeeper run --max-count 0",
            "housekeeper run --max-age 30",
            "housekeeper run --mode destroy",
            "housekeeper accept",
        ] {
            let error = read(line).expect_err(line);
            assert_eq!(exit_code(&error), USAGE, "{line}");
        }
        for line in [
            "housekeeper --help",
            "housekeeper run --help",
            "housekeeper -V",
        ] {
            assert_eq!(exit_code(&read(line).expect_err(line)), 0, "{line}");
        }
    }

    #[test]
    fn mebibytes_are_above_zero_and_finite() {
        let read_mb = |number: &str| {
            read(&format!("housekeeper prune-size --max-mb {number}")).map(|args| {
                match args.command {
                    Command::PruneSize(prune) => prune.max_mb.0,
                    other => panic!("{other:?}"),
                }
            })
        };
        for (text, bytes) in [
            ("1", 1 << 20),
            ("0.5", 1 << 19),
            ("0.0000015", 1),
            ("1e3", 1000 << 20),
            ("17592186044415", u64::MAX - ((1 << 20) - 1)),
        ] {
            assert_eq!(read_mb(text).ok(), Some(bytes), "{text}");
        }
        for (text, part) in [
            ("0", "above zero"),
            ("-5", "above zero"),
            ("-0", "above zero"),
            ("-inf", "finite"),
            ("inf", "finite"),
            ("NaN", "finite"),
            ("1e999", "finite"),
            ("ten", "not a number"),
            ("1GiB", "not a number"),
            ("1e-9", "less than one byte"),
            ("1e15", "more than any disk"),
        ] {
            let why = read_mb(text).expect_err(text).to_string();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn flags_become_a_request() {
        let line = "housekeeper run --root a --root b --max-size 1GiB --mode observe --config f --quiet 0s --log-level debug";
        let request = read(line).expect("good usage").request(Vec::new());
        assert_eq!(request.file, Some("f".into()));
        assert_eq!(request.roots.len(), 2);
        assert_eq!(request.root.max_size, Some(Bytes(1 << 30)));
        assert_eq!(request.root.quiet, Some(Duration::ZERO));
        assert_eq!(request.agent.mode, Some(Mode::Observe));
        assert_eq!(request.agent.log_level.as_deref(), Some("debug"));
        let raw = OsString::from_vec(vec![b'/', 0xFF]);
        let args = [
            "housekeeper".into(),
            "scan".into(),
            "--root".into(),
            raw.clone(),
        ];
        let request = parse(args).expect("good usage").request(Vec::new());
        assert_eq!(request.roots[0].as_os_str(), raw);
    }
}
