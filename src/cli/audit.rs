//! `audit`: what happened and why, as the running agent's store has it, or read from the store where
//! none runs.

use super::args::{Audit, When};
use super::{DONE, WRONG_CONFIG, ask, complain, open_store, print_document, render};
use crate::agent::report;
use crate::clock::SystemClock;
use crate::config;
use crate::config::request::Request;
use crate::model::time::{Clock, Time, rfc3339};
use crate::store::Access;
use crate::store::audit::Wanted;
use anyhow::bail;
use chrono::TimeDelta;
use serde_json::json;

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
        None => {
            let store = open_store(&agent, Access::Read)?;
            report::audit(&store.entries(wanted).wait()?)
        }
    };
    if let Some(error) = document["error"].as_str() {
        bail!("{error}");
    }
    print_document(&document, asked.ask.json, render::audit)?;
    Ok(DONE)
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
