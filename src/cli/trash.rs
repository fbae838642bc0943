//! `trash list` and `restore`: through the agent where one runs, else in the trash it will find.

use super::args::{Args, Restore, Trash, TrashWhat};
use super::outlook::{agent_of, asked};
use super::{
    DONE, FAILED, WRONG_CONFIG, close_store, open_store, print_document, render, settings_for,
};
use crate::agent::kept::{self, Restorer};
use crate::config;
use crate::config::request::Request;
use crate::model::path::{escape, printable};
use crate::store::Access;
use anyhow::anyhow;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;

/// What may come back.
pub(super) fn trash(args: &Args, request: &Request, wanted: &Trash) -> anyhow::Result<u8> {
    let TrashWhat::List(wanted) = &wanted.what;
    let Some(agent) = agent_of(request)? else {
        return Ok(WRONG_CONFIG);
    };
    let question = json!({ "command": "trash" });
    let document = match asked(&agent, &wanted.root, question)? {
        Some(answer) => answer,
        None => {
            let settings = match settings_for(args, request)? {
                Ok(settings) => settings,
                Err(code) => return Ok(code),
            };
            let roots: Vec<Value> = settings.roots.iter().map(kept::list).collect();
            json!({ "roots": roots })
        }
    };
    print_document(&document, wanted.ask.json, render::trash)?;
    let mut roots = document["roots"].as_array().into_iter().flatten();
    let whole = roots.all(|root| root["error"].is_null());
    Ok(if whole { DONE } else { FAILED })
}

/// Brings a session back. Where it cannot, and no root keeps anything, it says that, too.
pub(super) fn restore(args: &Args, request: &Request, wanted: &Restore) -> anyhow::Result<u8> {
    bring_back(args, request, wanted).map_err(|error| match keeps_none(request) {
        true => anyhow!(
            "{error:#}; the roots keep nothing of what they remove: `[root.trash] keep` is not set"
        ),
        false => error,
    })
}

/// As far as this command's own configuration tells.
fn keeps_none(request: &Request) -> bool {
    let roots = config::load(request).map(|settings| settings.roots);
    let roots = roots.unwrap_or_default();
    !roots.is_empty() && roots.iter().all(|root| root.trash_keep.is_zero())
}

fn bring_back(args: &Args, request: &Request, wanted: &Restore) -> anyhow::Result<u8> {
    let Some(agent) = agent_of(request)? else {
        return Ok(WRONG_CONFIG);
    };
    let id = escape(wanted.id.as_bytes());
    let question = json!({ "command": "restore", "id": id });
    let document = match asked(&agent, &wanted.root, question)? {
        Some(answer) => answer,
        None => {
            let settings = match settings_for(args, request)? {
                Ok(settings) => settings,
                Err(code) => return Ok(code),
            };
            let store = open_store(&settings.agent, Access::Write)?;
            let restorer = Restorer {
                state_dir: settings.agent.state_dir.clone(),
                store: store.clone(),
                roots: settings
                    .roots
                    .into_iter()
                    .map(|root| (root, None))
                    .collect(),
            };
            let restored = restorer.restore(&id);
            close_store(store);
            restored.map_err(|why| anyhow!(why))?
        }
    };
    print_document(&document, wanted.ask.json, |document| {
        let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
        format!(
            "{} is back at {}, and pinned until {}.\n",
            text(&document["restored"]),
            text(&document["path"]),
            match document["pinned_until"].as_str() {
                Some(until) => printable(until),
                None => "it is unpinned".to_owned(),
            }
        )
    })?;
    Ok(DONE)
}
