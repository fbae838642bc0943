//! `status`, `rescan` and `accept`: questions to the running agent.

use super::args::{Args, Command};
use super::{DONE, FAILED, WRONG_CONFIG, complain, print_document, render};
use crate::client::{Client, ClientError};
use crate::config;
use crate::config::request::Request;
use crate::disk::tree::Tree;
use crate::model::path::printable;
use crate::store::state::StateDir;
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::path::Path;

/// Asks, and prints the answer.
pub fn ask(args: &Args, request: &Request) -> anyhow::Result<u8> {
    let settings = match config::load_agent(request) {
        Ok(settings) => settings,
        Err(problems) => {
            complain(&problems)?;
            return Ok(WRONG_CONFIG);
        }
    };
    let socket = &settings.agent.socket;
    let (question, json) = match &args.command {
        Command::Rescan(rescan) => {
            let root = rescan
                .root
                .as_ref()
                .map(|root| root.to_string_lossy().into_owned());
            (
                json!({ "command": "rescan", "root": root, "wait": rescan.wait }),
                rescan.ask.json,
            )
        }
        Command::Accept(accept) => {
            let root = accept.root.to_string_lossy().into_owned();
            return accept_root(request, socket, &root, accept.ask.json);
        }
        Command::Status(ask) => (json!({ "command": "status" }), ask.json),
        _ => bail!("this command asks no agent"),
    };
    let answer = send(socket, &question)?
        .with_context(|| format!("no agent listens on {}: start one with `housekeeper run`, or name its socket with --socket", socket.display()))?;
    finish(&answer, json)
}

fn finish(answer: &Value, json: bool) -> anyhow::Result<u8> {
    if let Some(error) = answer["error"].as_str() {
        bail!("{error}");
    }
    print_document(answer, json, render::status)?;
    Ok(DONE)
}

/// One question. `None`: no agent listens.
pub(super) fn send(socket: &Path, question: &Value) -> anyhow::Result<Option<Value>> {
    match Client::new(socket).ask(question) {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::NoAgent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// With an agent, through it; without one, in the state it will find.
fn accept_root(request: &Request, socket: &Path, root: &str, json: bool) -> anyhow::Result<u8> {
    let question = json!({ "command": "accept", "root": root });
    if let Some(answer) = send(socket, &question)? {
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        print_document(&json!({ "accepted": root }), json, |_| {
            format!("{} is pruned from now on.\n", printable(root))
        })?;
        return Ok(DONE);
    }
    let wanted = Request {
        roots: vec![root.into()],
        ..request.clone()
    };
    let settings = match config::load(&wanted) {
        Ok(settings) => settings,
        Err(problems) => {
            complain(&problems)?;
            return Ok(WRONG_CONFIG);
        }
    };
    let Some(root) = settings.roots.first() else {
        return Ok(FAILED);
    };
    // Whatever comes to lie there later was not seen by whoever accepts.
    Tree::open(&root.real)
        .with_context(|| format!("there is no root {} to accept", printable(&root.name)))?;
    StateDir::open(&settings.agent.state_dir)?
        .root(&root.path)?
        .remember()?;
    print_document(&json!({ "accepted": root.name }), json, |_| {
        format!(
            "No agent runs; {} will not be held when one starts.\n",
            printable(&root.name)
        )
    })?;
    Ok(DONE)
}
