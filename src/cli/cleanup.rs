//! `cleanup`: through the agent where one runs, so that a change takes effect at once; else on the
//! store that it will find.

use super::cleanup_args::{Cleanup, What};
use super::render::{text, time};
use super::{DONE, WRONG_CONFIG, ask, begin_logging, close_store, complain, open_store, sound};
use super::{print_document, render};
use crate::agent::cleaning::Means;
use crate::agent::registrations::{Desk, parse};
use crate::clock::SystemClock;
use crate::config;
use crate::config::cleanup::Wanted;
use crate::config::request::Request;
use crate::model::path::escape;
use crate::store::Access;
use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Asks, or does it here.
pub(super) fn cleanup(request: &Request, asked: &Cleanup) -> anyhow::Result<u8> {
    let agent = match config::load_agent(request) {
        Ok(settings) => settings.agent,
        Err(problems) => {
            complain(&problems)?;
            return Ok(WRONG_CONFIG);
        }
    };
    let mut question = question(&asked.what);
    question["command"] = "cleanup".into();
    let answer = match ask::send(&agent.socket, &question)? {
        Some(answer) => answer,
        None => match here(request, &question)? {
            Ok(answer) => answer,
            Err(code) => return Ok(code),
        },
    };
    if let Some(error) = answer["error"].as_str() {
        bail!("{error}");
    }
    let code = answer["exit_code"].as_u64().map(u8::try_from);
    print_document(&answer, asked.way().ask.json, |answer| {
        show(&asked.what, answer)
    })?;
    Ok(code.and_then(Result::ok).unwrap_or(DONE))
}

/// Without an agent.
fn here(request: &Request, question: &Value) -> anyhow::Result<Result<Value, u8>> {
    let settings = match sound(config::load_registry(request))? {
        Ok(settings) => settings,
        Err(code) => return Ok(Err(code)),
    };
    let quietest = request.agent.log_level.is_none().then_some("warn");
    begin_logging(&settings, quietest)?;
    let store = open_store(&settings.agent, Access::Write)?;
    let (ask, actor) = parse(question).map_err(|error| anyhow!(error))?;
    let means = Means {
        store,
        settings: Arc::new(settings),
        clock: Arc::new(SystemClock::start()),
    };
    let desk = Desk {
        means: &means,
        actor,
    };
    let answer = desk.answer(&ask);
    close_store(means.store);
    Ok(Ok(answer.map_err(|error| anyhow!(error))?))
}

fn question(what: &What) -> Value {
    match what {
        What::Add(add) => {
            let wanted = Wanted {
                directory: Some(escape(add.dir.as_os_str().as_bytes())),
                pattern: add.pattern.clone(),
                preset: add.preset.clone(),
                ..add.rest.wanted()
            };
            json!({ "do": "add", "cleanup": wanted })
        }
        What::List(_) => json!({ "do": "list" }),
        What::Show(one) => json!({ "do": "show", "id": one.id }),
        What::Update(update) => {
            let rest = update.rest.wanted();
            let wanted = Wanted {
                pattern: update.pattern.clone(),
                preset: update.preset.clone(),
                watch: rest.watch.or(update.no_watch.then_some(false)),
                read_only: rest.read_only.or(update.no_read_only.then_some(false)),
                ..rest
            };
            json!({ "do": "update", "id": update.id, "cleanup": wanted })
        }
        What::Remove(one) => json!({ "do": "remove", "id": one.id }),
        What::Run(run) => json!({ "do": "run", "id": run.id, "dry_run": run.dry_run }),
    }
}

fn show(what: &What, answer: &Value) -> String {
    match what {
        What::Add(_) | What::Update(_) => {
            let word = if answer["updated"] == true {
                "updated"
            } else {
                "registered"
            };
            let mut out = format!("{} is {word}.\n", text(&answer["id"]));
            for note in answer["notes"].as_array().into_iter().flatten() {
                out += &format!("  {}\n", text(note));
            }
            out + &describe(answer)
        }
        What::List(_) => list(answer),
        What::Show(_) => describe(answer) + &runs(answer),
        What::Remove(_) => format!("{} is registered no more.\n", text(&answer["id"])),
        What::Run(_) => run(answer),
    }
}

fn list(answer: &Value) -> String {
    let header = [
        "ID",
        "OWNER",
        "DIRECTORY",
        "PATTERN",
        "DAYS",
        "FILES",
        "MIB",
        "WHEN",
        "LAST RUN",
    ];
    let mut out = String::new();
    let right = ["DAYS", "FILES", "MIB"];
    render::table(&mut out, &header, &right, &answer["cleanups"], |row| {
        let mut when = match (row["schedule"].is_null(), row["watch"] == true) {
            (true, _) => "on write".to_owned(),
            (false, true) => format!("{}, on write", text(&row["schedule"])),
            (false, false) => text(&row["schedule"]),
        };
        if !row["unwatched_because"].is_null() {
            when += " (not watched now)";
        }
        vec![
            text(&row["id"]),
            text(&row["owner"]),
            text(&row["directory"]),
            what(row),
            text(&row["retention_days"]),
            text(&row["max_files"]),
            text(&row["max_size_mb"]),
            when,
            time(&row["last_run"]),
        ]
    });
    if out.is_empty() {
        out += "Nothing is registered.\n";
    }
    out
}

/// The pattern that it goes by, or the preset.
fn what(row: &Value) -> String {
    match row["preset"].as_str() {
        Some(preset) => format!("preset {preset}"),
        None => text(&row["pattern"]),
    }
}

fn runs(answer: &Value) -> String {
    let header = ["STARTED", "BY", "OUTCOME", "MESSAGE"];
    let mut out = String::new();
    render::table(&mut out, &header, &[], &answer["runs"], |row| {
        vec![
            time(&row["started_at"]),
            text(&row["cause"]),
            text(&row["outcome"]),
            text(&row["message"]),
        ]
    });
    out
}

fn describe(cleanup: &Value) -> String {
    let fields = cleanup.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| !matches!(name.as_str(), "runs" | "notes" | "updated" | "removed"))
        .map(|(name, value)| format!("  {name:<15} {}\n", text(value)))
        .collect()
}

fn run(answer: &Value) -> String {
    let mut out = String::new();
    for detail in answer["details"].as_array().into_iter().flatten() {
        let [id, directory, message] =
            ["id", "directory", "message"].map(|name| text(&detail[name]));
        out += &format!("{id}  {directory}  {}\n  {message}\n", what(detail));
    }
    if out.is_empty() {
        out += "Nothing is registered.\n";
    }
    out
}
