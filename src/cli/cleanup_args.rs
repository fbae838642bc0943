//! What may be written after `cleanup`.

use super::args::Ask;
use crate::config::cleanup::Wanted;
use std::path::PathBuf;

/// Flags of `cleanup`.
#[derive(Debug, clap::Args)]
pub struct Cleanup {
    #[command(subcommand)]
    pub what: What,
}

/// What to do with clean-ups.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// Register a clean-up, or update the one of the same owner, directory and pattern
    Add(Add),
    /// List what is registered
    List(Way),
    /// Show one, with its last runs
    Show(One),
    /// Change one; what is not given stays as it is
    Update(Update),
    /// Take one out; its files stay as they are
    Remove(One),
    /// Run one now, or all of them
    Run(Run),
}

/// How the registry is reached.
#[derive(Debug, clap::Args)]
pub struct Way {
    #[command(flatten)]
    pub ask: Ask,
    /// Where the agent keeps what it must remember
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Flags of `show` and `remove`.
#[derive(Debug, clap::Args)]
pub struct One {
    /// Of the clean-up, as `list` has it
    pub id: String,
    #[command(flatten)]
    pub way: Way,
}

/// Flags of `add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The directory, absolute
    pub dir: PathBuf,
    /// Which files of the directory itself, such as '*.log'; a dot file only where the dot is written
    #[arg(long, value_name = "GLOB", required_unless_present = "preset")]
    pub pattern: Option<String>,
    /// Instead of a pattern: the layout of what lies there, as `housekeeper presets` lists them
    #[arg(long, value_name = "NAME", conflicts_with = "pattern")]
    pub preset: Option<String>,
    #[command(flatten)]
    pub rest: Rest,
}

/// Flags of `update`.
#[derive(Debug, clap::Args)]
pub struct Update {
    /// Of the clean-up, as `list` has it
    pub id: String,
    /// Another pattern
    #[arg(long, value_name = "GLOB")]
    pub pattern: Option<String>,
    /// Another preset, of one that goes by a preset
    #[arg(long, value_name = "NAME", conflicts_with = "pattern")]
    pub preset: Option<String>,
    #[command(flatten)]
    pub rest: Rest,
    /// Not watched any more
    #[arg(long, conflicts_with = "watch")]
    pub no_watch: bool,
    /// Not read-only any more
    #[arg(long, conflicts_with = "read_only")]
    pub no_read_only: bool,
}

/// What `add` and `update` both take.
#[derive(Debug, clap::Args)]
pub struct Rest {
    /// Older files (or sessions of the preset) go; `none`: no such limit
    #[arg(long, value_name = "DAYS", value_parser = limit, allow_negative_numbers = true)]
    pub retention_days: Option<Limit>,
    /// So many files stay, the newest; 0: none may stay
    #[arg(long, value_name = "N", value_parser = limit, allow_negative_numbers = true)]
    pub max_files: Option<Limit>,
    /// So many MiB stay, of the newest; 0: none may stay
    #[arg(long, value_name = "N", value_parser = limit, allow_negative_numbers = true)]
    pub max_size_mb: Option<Limit>,
    /// Lower goes first [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i64>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// When it runs: five cron fields such as '0 3 * * *', 'every 6h', or 'on write'; `none`: only --watch
    #[arg(long, value_name = "WHEN")]
    pub schedule: Option<String>,
    /// The same as --schedule 'every TIME'
    #[arg(long, value_name = "TIME", conflicts_with = "schedule")]
    pub every: Option<String>,
    /// Watch the directory: what is too much goes at once
    #[arg(long)]
    pub watch: bool,
    /// Whose it is [default: nobody]
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// Say what would go, and change nothing
    #[arg(long)]
    pub read_only: bool,
    /// That none may stay is meant so
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub way: Way,
}

/// Flags of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Of the clean-up, as `list` has it [default: all]
    pub id: Option<String>,
    /// Say what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub way: Way,
}

/// A number, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(Option<i64>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err("it must not be negative".to_owned()),
        Ok(number) => Ok(Limit(Some(number))),
        Err(_) => Err("it must be a whole number, or `none`".to_owned()),
    }
}

impl Cleanup {
    pub(super) fn way(&self) -> &Way {
        match &self.what {
            What::Add(add) => &add.rest.way,
            What::List(way) => way,
            What::Show(one) | What::Remove(one) => &one.way,
            What::Update(update) => &update.rest.way,
            What::Run(run) => &run.way,
        }
    }
}

impl Rest {
    /// What is said here; a flag that is not given says nothing.
    pub(super) fn wanted(&self) -> Wanted {
        let said = |limit: Option<Limit>| limit.map(|limit| limit.0);
        let every = self.every.as_ref().map(|every| format!("every {every}"));
        let schedule = self.schedule.clone();
        let schedule = schedule.map(|text| Some(text).filter(|text| text != "none"));
        Wanted {
            directory: None,
            pattern: None,
            preset: None,
            owner: self.owner.clone(),
            retention_days: said(self.retention_days),
            max_files: said(self.max_files),
            max_size_mb: said(self.max_size_mb),
            priority: self.priority,
            description: self.description.clone(),
            schedule: schedule.or(every.map(Some)),
            watch: self.watch.then_some(true),
            read_only: self.read_only.then_some(true),
            yes: self.yes,
        }
    }
}
