//! `trash list` and `restore`: through the agent where one runs, else in the trash it will find.

use super::args::{Args, Restore, Trash, TrashWhat};
use super::outlook::{agent_of, asked};
use super::{
    DONE, FAILED, LAST_WORDS, WRONG_CONFIG, open_store, print_document, render, settings_for,
};
use crate::agent::kept::{self, Restorer};
use crate::config::request::Request;
use crate::model::path::{escape, printable};
use crate::store::Access;
use crate::store::error::StoreError;
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

/// Brings a session back.
pub(super) fn restore(args: &Args, request: &Request, wanted: &Restore) -> anyhow::Result<u8> {
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
            if let Err(error) = store.close().wait_for(LAST_WORDS)
                && !matches!(error, StoreError::Off)
            {
                tracing::warn!(event = "store.unwritten", error = %error, "what came back is not in the audit yet: its row waits for the agent's next start");
            }
            restored.map_err(|why| anyhow!(why))?
        }
    };
    print_document(&document, wanted.ask.json, |document| {
        let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
        format!(
            "{} is back at {}, and pinned until {}.\n",
            text(&document["restored"]),
            text(&document["path"]),
            text(&document["pinned_until"])
        )
    })?;
    Ok(DONE)
}
