//! `next` and `why`: as the running agent knows it, or by a look of one's own where none runs.

use super::args::{Args, Next, RootArgs, Why};
use super::{
    DONE, FAILED, WRONG_CONFIG, ask, complain, one_shot, open_store, print_document, render,
    settings_for,
};
use crate::agent::kept;
use crate::agent::outlook::{self, Prevention};
use crate::config;
use crate::config::request::Request;
use crate::config::settings::{Agent, Mode, Settings};
use crate::engine::outlook::Sight;
use crate::model::path::{escape, printable};
use crate::store::{Access, Place, Store};
use anyhow::bail;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;

pub(super) fn agent_of(request: &Request) -> anyhow::Result<Option<Agent>> {
    match config::load_agent(request) {
        Ok(settings) => Ok(Some(settings.agent)),
        Err(problems) => {
            complain(&problems)?;
            Ok(None)
        }
    }
}

/// The answer of the agent, where one runs that looks after these roots.
pub(super) fn asked(
    agent: &Agent,
    root: &RootArgs,
    mut question: Value,
) -> anyhow::Result<Option<Value>> {
    question["root"] = match &root.roots[..] {
        [] => Value::Null,
        [root] => root.to_string_lossy().into(),
        _ => bail!("give one --root"),
    };
    let answer = ask::send(&agent.socket, &question)?.unwrap_or_default();
    if root.roots.is_empty()
        && let Some(error) = answer["error"].as_str()
    {
        bail!("{error}");
    }
    // An agent that does not know the root is none for it.
    Ok(Some(answer).filter(|answer| answer.is_object() && answer["error"].is_null()))
}

/// The next victims.
pub(super) fn next(args: &Args, request: Request, wanted: &Next) -> anyhow::Result<u8> {
    let Some(agent) = agent_of(&request)? else {
        return Ok(WRONG_CONFIG);
    };
    let question = json!({ "command": "next", "n": wanted.n });
    let (document, whole) = match asked(&agent, &wanted.root, question)? {
        Some(answer) => {
            let mut roots = answer["roots"].as_array().into_iter().flatten();
            let whole = roots.all(|root| root["error"].is_null());
            (answer, whole)
        }
        None => {
            let settings = match settings_for(args, &request)? {
                Ok(settings) => settings,
                Err(code) => return Ok(code),
            };
            let sight = Sight::Next(usize::try_from(wanted.n)?);
            one_shot::each(&settings, |root| {
                let survey = one_shot::look_at(&settings, root)?;
                let seen = survey.engine().outlook(survey.now(), &sight);
                survey.end();
                Ok(outlook::next(root, &seen, prevented(&settings)))
            })?
        }
    };
    print_document(&document, wanted.ask.json, render::next)?;
    Ok(if whole { DONE } else { FAILED })
}

/// Why a session is there still, or no more.
pub(super) fn why(args: &Args, request: Request, wanted: &Why) -> anyhow::Result<u8> {
    let Some(agent) = agent_of(&request)? else {
        return Ok(WRONG_CONFIG);
    };
    let subject = escape(wanted.subject.as_bytes());
    let question = json!({ "command": "why", "subject": subject });
    let document = match asked(&agent, &wanted.root, question)? {
        Some(answer) => answer,
        None => {
            let settings = match settings_for(args, &request)? {
                Ok(settings) => settings,
                Err(code) => return Ok(code),
            };
            let is_begun = place(&settings.agent).has_begun();
            let store = open_store(&settings.agent, Access::Read)?;
            let (mut present, mut gone) = (Vec::new(), Vec::new());
            let mut doubt = doubt(&settings.agent);
            for root in &settings.roots {
                let Some(name) = outlook::below(root, &subject) else {
                    continue;
                };
                let survey = one_shot::look_at(&settings, root)?;
                let sight = Sight::Of(name.clone());
                let seen = survey.engine().outlook(survey.now(), &sight);
                survey.end();
                present.extend(outlook::present(root, &seen, prevented(&settings)));
                match store.entries(outlook::question(root, &name)).wait() {
                    Ok(entries) => {
                        gone.extend(outlook::gone(&entries).map(|mut found| {
                            kept::add_to_why(root, &mut found);
                            found
                        }));
                    }
                    Err(error) if !is_begun || error.is_unbegun() => {
                        tracing::debug!(error = %error, "nobody wrote to the audit yet");
                    }
                    Err(error) => doubt = Some(error.to_string()),
                }
            }
            outlook::why(&subject, present, gone, doubt)
        }
    };
    print_document(&document, wanted.ask.json, render_why)?;
    let is_known = !matches!(document["state"].as_str(), Some("unknown" | "ambiguous"));
    Ok(if is_known { DONE } else { FAILED })
}

/// A look of one's own knows of no root that waits to be accepted.
fn prevented(settings: &Settings) -> Option<Prevention> {
    match settings.agent.mode {
        Mode::Enforce => None,
        Mode::Observe => Some(Prevention::Observe),
    }
}

/// Rows that wait for the next agent.
fn doubt(agent: &Agent) -> Option<String> {
    match Store::waiting(&place(agent)) {
        Ok(n_rows) => outlook::behind(n_rows),
        Err(error) => Some(format!("the rows that wait cannot be read: {error}")),
    }
}

fn place(agent: &Agent) -> Place {
    Place::new(agent.database.as_deref(), &agent.state_dir, Access::Read)
}

fn render_why(document: &Value) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let mut lines = format!(
        "{}: {}. {}.\n",
        text(&document["subject"]),
        text(&document["state"]),
        text(&document["because"])
    );
    for candidate in document["candidates"].as_array().into_iter().flatten() {
        let root = candidate["root"]
            .as_str()
            .map(printable)
            .unwrap_or_default();
        lines += &format!("  {root} {}\n", text(&candidate["path"]));
    }
    lines
}
