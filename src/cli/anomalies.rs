//! `anomalies`: what is wrong and what to do about it, as the running agent knows it, or by a
//! look of one's own where none runs or it does not look after that root.

use super::args::{Anomalies, Args};
use super::{
    DONE, FAILED, WRONG_CONFIG, ask, complain, one_shot, print_document, render, settings_for,
};
use crate::agent::report::{self, AnomalyFilter};
use crate::config;
use crate::config::request::Request;
use serde_json::{Value, json};
use std::path::Path;

/// Asks, or looks, and prints the answer.
pub(super) fn anomalies(args: &Args, request: Request, wanted: &Anomalies) -> anyhow::Result<u8> {
    let agent = match config::load_agent(&request) {
        Ok(settings) => settings.agent,
        Err(problems) => {
            complain(&problems)?;
            return Ok(WRONG_CONFIG);
        }
    };
    if let Some(answer) = of_agent(&agent.socket, wanted)? {
        print_document(&answer, wanted.ask.json, render::anomalies)?;
        return Ok(DONE);
    }
    let settings = match settings_for(args, &request)? {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    let filter = AnomalyFilter {
        kinds: wanted.kinds.clone(),
    };
    let (document, whole) = one_shot::each(&settings, |root| {
        let survey = one_shot::look_at(&settings, root)?;
        let now = survey.now();
        let rows = survey.engine().anomaly_rows(now);
        let value = report::anomalies(root, &rows, Some(now.wall), &filter);
        survey.end();
        Ok(value)
    })?;
    print_document(&document, wanted.ask.json, render::anomalies)?;
    Ok(if whole { DONE } else { FAILED })
}

/// `None`: no agent listens, or not one that looks after all these roots.
fn of_agent(socket: &Path, wanted: &Anomalies) -> anyhow::Result<Option<Value>> {
    let kinds: Vec<&str> = wanted.kinds.iter().map(|kind| kind.name()).collect();
    let mut questions: Vec<Value> = Vec::new();
    for root in &wanted.root.roots {
        let root = root.to_string_lossy();
        questions.push(json!({ "command": "anomalies", "root": root, "kinds": kinds }));
    }
    if questions.is_empty() {
        questions.push(json!({ "command": "anomalies", "kinds": kinds }));
    }
    let mut roots = Vec::new();
    for question in questions {
        let answer = ask::send(socket, &question)?.unwrap_or_default();
        let Some(found) = answer["roots"].as_array() else {
            return Ok(None);
        };
        roots.extend(found.iter().cloned());
    }
    Ok(Some(json!({ "roots": roots })))
}
