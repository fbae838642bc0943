//! `presets` and `detect`: the layouts that ship with the program, and which of them fit.
//!
//! A preset fits a directory where it owns sessions, and at least half of them say when they
//! were made and have nothing wrong with them.

use super::args::{Args, Detect, Presets, PresetsWhat};
use super::{DONE, FAILED, WRONG_CONFIG, complain, print, print_document, render, settings_for};
use crate::agent::report;
use crate::agent::survey::{Manner, survey};
use crate::config;
use crate::config::request::Request;
use crate::config::settings::Root;
use crate::disk::tree::Tree;
use crate::layout::presets;
use crate::model::path::printable;
use anyhow::Context;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::path::Path;

/// Ids named for each preset.
const MAX_NAMED: usize = 10;
/// Presets that own almost anything, named after those that mean something.
const GENERAL: [&str; 2] = ["directories", "files"];

/// Lists the presets, or prints one.
pub fn presets(wanted: &Presets) -> anyhow::Result<u8> {
    if let Some(PresetsWhat::Show { name }) = &wanted.what {
        let text = presets::text(name).context("there is no such preset")?;
        if wanted.json {
            let document = json!({ "name": name, "toml": text });
            print_document(&document, true, |_| String::new())?;
        } else {
            print(text.as_bytes())?;
        }
        return Ok(DONE);
    }
    let all = presets::names()
        .iter()
        .map(|name| json!({ "name": name, "summary": presets::summary(name) }));
    let document = json!({ "presets": all.collect::<Vec<_>>() });
    print_document(&document, wanted.json, render::presets)?;
    Ok(DONE)
}

/// Looks at a directory through each preset.
pub fn detect(args: &Args, request: &Request, wanted: &Detect) -> anyhow::Result<u8> {
    let mut request = request.clone();
    request.roots = vec![wanted.dir.clone()];
    // What the directory itself is refused for is said once.
    let settings = match settings_for(args, &request)? {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    for root in &settings.roots {
        let shown = printable(&root.name);
        Tree::open(&root.real)
            .with_context(|| format!("the directory {shown} cannot be looked at"))?;
    }
    let mut found = Vec::new();
    let mut whole = true;
    for name in presets::names() {
        request.root.preset = Some((*name).to_owned());
        let settings = match config::load(&request) {
            Ok(settings) => settings,
            Err(problems) => {
                complain(&problems)?;
                return Ok(WRONG_CONFIG);
            }
        };
        for root in &settings.roots {
            match through(name, root, &settings.agent.state_dir) {
                Ok(fit) => found.push(fit),
                Err(error) => {
                    tracing::error!(event = "root.failed", preset = name, "{error:#}");
                    whole = false;
                }
            }
        }
    }
    found.sort_by_key(Fit::order);
    let fits: Vec<Value> = found.into_iter().map(|fit| fit.document).collect();
    let document = json!({ "path": wanted.dir.to_string_lossy(), "presets": fits });
    print_document(&document, wanted.json, render::detect)?;
    Ok(if whole { DONE } else { FAILED })
}

/// What a preset makes of a directory.
struct Fit {
    fits: bool,
    /// A preset that reads a state has found one: without any it says no more than a general one.
    is_sure: bool,
    name: &'static str,
    n_good: usize,
    n_unowned: u64,
    document: Value,
}

impl Fit {
    /// The best first: those that fit, that mean something, that leave least over.
    fn order(&self) -> (bool, bool, u64, Reverse<usize>, &'static str) {
        let is_general = GENERAL.contains(&self.name) || !self.is_sure;
        (
            !self.fits,
            is_general,
            self.n_unowned,
            Reverse(self.n_good),
            self.name,
        )
    }
}

fn through(name: &'static str, root: &Root, state_dir: &Path) -> anyhow::Result<Fit> {
    let survey = survey(root, Manner::look(state_dir))
        .with_context(|| format!("the directory cannot be looked at as `{name}`"))?;
    let scan = report::scan(root, &survey);
    let sessions = survey.engine().session_rows(survey.now());
    let is_good =
        |row: &&crate::engine::SessionRow| row.created.is_some() && row.anomalies.is_empty();
    let n_good = sessions.iter().filter(is_good).count();
    survey.end();
    let has_states = root.layout.spec().state.is_some();
    let is_sure = !has_states || sessions.iter().any(|row| row.state.is_some());
    let fits = n_good > 0 && n_good * 2 >= sessions.len();
    let named = scan["sessions"].as_array().into_iter().flatten();
    let named = named.take(MAX_NAMED).map(|session| {
        json!({ "id": session["id"], "bytes": session["bytes"], "created_at": session["created_at"] })
    });
    let document = json!({
        "preset": name,
        "summary": presets::summary(name),
        "fits": fits,
        "session_count": sessions.len(),
        "good_session_count": n_good,
        "bytes": scan["bytes"],
        "sessions": named.collect::<Vec<_>>(),
        "anomalies": scan["anomalies"].as_array().map_or(0, Vec::len),
        "unowned": scan["unowned"],
    });
    let n_unowned = scan["unowned"]["entries"].as_u64().unwrap_or(0);
    Ok(Fit {
        fits,
        is_sure,
        name,
        n_good,
        n_unowned,
        document,
    })
}
