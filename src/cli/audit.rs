//! `audit`: what happened and why, as the running agent's store has it, or read from the store where
//! none runs.

use super::args::{Audit, When};
use super::{DONE, WRONG_CONFIG, ask, complain, open_store, print_document, render};
use crate::agent::report;
use crate::clock::SystemClock;
use crate::config;
use crate::config::request::Request;
use crate::config::settings::Agent;
use crate::model::time::{Clock, Time, rfc3339};
use crate::store::audit::Wanted;
use crate::store::{Access, Place, Store};
use anyhow::{Context, bail};
use chrono::TimeDelta;
use serde_json::{Value, json};

/// Asks, or reads, and prints the answer.
pub(super) fn audit(request: &Request, asked: &Audit) -> anyhow::Result<u8> {
    let agent = match config::load_agent(request) {
        Ok(settings) => settings.agent,
        Err(problems) => {
            complain(&problems)?;
            return Ok(WRONG_CONFIG);
        }
    };
    let now = SystemClock::start().now().wall;
    let wanted = Wanted {
        since: asked.since.map(|when| at(when, now)),
        until: asked.until.map(|when| at(when, now)),
        root: asked.root.clone(),
        session: asked.session.clone(),
        limit: asked.limit,
    };
    let question = json!({
        "command": "audit",
        "since": wanted.since.map(rfc3339),
        "until": wanted.until.map(rfc3339),
        "root": wanted.root,
        "session": wanted.session,
        "limit": wanted.limit,
    });
    let document = match ask::send(&agent.socket, &question)? {
        Some(answer) => answer,
        None => read(&agent, request, wanted)?,
    };
    if let Some(error) = document["error"].as_str() {
        bail!("{error}");
    }
    print_document(&document, asked.ask.json, render::audit)?;
    Ok(DONE)
}

/// Reads the store, where no agent runs.
fn read(agent: &Agent, request: &Request, wanted: Wanted) -> anyhow::Result<Value> {
    let place = Place::new(agent.database.as_deref(), &agent.state_dir, Access::Read);
    let wanted = Wanted {
        root: wanted.root.map(|root| named(request, root)),
        ..wanted
    };
    let mut document = match place.has_begun() {
        true => match open_store(agent, Access::Read)?.entries(wanted).wait() {
            Err(error) if error.is_unbegun() => unbegun(),
            entries => report::audit(&entries?),
        },
        false => unbegun(),
    };
    let n_rows = Store::waiting(&place).context("cannot read the rows that wait")?;
    let why = "no agent runs, the next one writes them";
    document["waiting"] = report::waiting(n_rows, Some(why));
    Ok(document)
}

/// Nobody has written to the store yet: that is no failure.
fn unbegun() -> Value {
    let mut document = report::audit(&[]);
    document["begun"] = json!(false);
    document
}

/// What the rows call a root, where it is a configured one's path.
fn named(request: &Request, root: String) -> String {
    let request = Request {
        roots: vec![root.clone().into()],
        ..request.clone()
    };
    // Where the roots cannot be read the word is a name.
    let settings = config::load(&request).ok();
    let found = settings.and_then(|settings| settings.roots.into_iter().next());
    found.map_or(root, |found| found.name)
}

/// Longer ago than any calendar goes is its beginning.
fn at(when: When, now: Time) -> Time {
    match when {
        When::At(at) => at,
        When::Ago(ago) => TimeDelta::from_std(ago)
            .ok()
            .and_then(|ago| now.checked_sub_signed(ago))
            .unwrap_or(Time::MIN_UTC),
    }
}
