//! `scan`, `plan` and `prune-size`: one look at each root, without an agent.

use super::args::{Args, PruneSize};
use super::{BUSY, DONE, FAILED, close_store, open_store, print_document, render, settings_for};
use crate::agent::audit;
use crate::agent::halt::Halt;
use crate::agent::report;
use crate::agent::survey::{Manner, Survey, survey};
use crate::config::request::Request;
use crate::config::settings::{Mode, Root, Settings};
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::Bytes;
use crate::model::fact::Fact;
use crate::policy::lifecycle::Lifecycle;
use crate::policy::limits::Limits;
use crate::store::audit::Actor;
use crate::store::state::StateDir;
use crate::store::{Access, Store};
use crate::telemetry::tell::tell;
use anyhow::Context;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Looks at each root and spells it out. A root that cannot be looked at is said on standard
/// error and makes the command fail; the others are printed all the same.
pub(super) fn each(
    settings: &Settings,
    mut spell: impl FnMut(&Root) -> anyhow::Result<Value>,
) -> anyhow::Result<(Value, bool)> {
    let mut roots = Vec::new();
    let mut whole = true;
    for root in &settings.roots {
        match spell(root) {
            Ok(value) => roots.push(value),
            Err(error) => {
                tracing::error!(event = "root.failed", root = %root.name, "{error:#}");
                whole = false;
            }
        }
    }
    Ok((json!({ "roots": roots }), whole))
}

pub(super) fn look_at(settings: &Settings, root: &Root) -> anyhow::Result<Survey> {
    survey(root, Manner::look(&settings.agent.state_dir))
        .with_context(|| format!("the root {} cannot be looked at", root.name))
}

/// What is there.
pub fn scan(args: &Args, request: Request, json: bool) -> anyhow::Result<u8> {
    let settings = match settings_for(args, &request)? {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    let (document, whole) = each(&settings, |root| {
        let survey = look_at(&settings, root)?;
        let value = report::scan(root, &survey);
        survey.end();
        Ok(value)
    })?;
    print_document(&document, json, render::scan)?;
    Ok(if whole { DONE } else { FAILED })
}

/// What would go, and why.
pub fn plan(args: &Args, request: Request, json: bool) -> anyhow::Result<u8> {
    let settings = match settings_for(args, &request)? {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    let (document, whole) = each(&settings, |root| {
        let survey = look_at(&settings, root)?;
        let value = report::plan(root, &survey);
        survey.end();
        Ok(value)
    })?;
    print_document(&document, json, render::plan)?;
    Ok(if whole { DONE } else { FAILED })
}

/// Brings each root to a size. The exit code is 1 before 2 before 0.
pub fn prune_size(args: &Args, request: Request, wanted: &PruneSize) -> anyhow::Result<u8> {
    let settings = match settings_for(args, &request)? {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    let enforce = !wanted.dry_run && settings.agent.mode == Mode::Enforce;
    let state = if enforce {
        StateDir::open(&settings.agent.state_dir).ok()
    } else {
        None
    };
    let store = match enforce {
        true => open_store(&settings.agent, Access::Write)?,
        false => Store::off(),
    };
    let stop = match enforce {
        true => stopped_by_signal()?,
        false => Halt::default(),
    };
    let mut codes = Vec::new();
    let (document, whole) = each(&settings, |root| {
        let mut root = root.clone();
        let measure = root.limits.measure;
        root.limits = Limits {
            max_size: Some(wanted.max_mb),
            measure,
            ..Limits::default()
        };
        // It brings a root to a size, and does nothing else.
        root.lifecycle = Lifecycle::default();
        let manner = Manner {
            enforce,
            group: wanted.group.as_deref().map(Arc::from),
            lock_stale: wanted.lock_stale_seconds,
            state: state.as_ref().and_then(|state| state.root(&root.path).ok()),
            stop: stop.clone(),
            hear: enforce.then(|| audit::hear(Actor::Command, &root.name, &store)),
            ..Manner::look(&settings.agent.state_dir)
        };
        let survey = survey(&root, manner)
            .with_context(|| format!("the root {} cannot be pruned", root.name))?;
        let code = exit_code(&survey, enforce);
        tell_all(&root, &survey);
        write_down(&store, &root, &survey);
        codes.push(code);
        let value = report::pruned(&root, &survey, code);
        survey.end();
        Ok(value)
    })?;
    if enforce {
        close_store(store);
    }
    print_document(&document, wanted.json, render::prune_size)?;
    Ok(match () {
        () if !whole || codes.contains(&FAILED) => FAILED,
        () if codes.contains(&BUSY) => BUSY,
        () => DONE,
    })
}

/// Logs what happened: of each kind of anomaly one, and how many more there are.
fn tell_all(root: &Root, survey: &Survey) {
    let mut more: BTreeMap<AnomalyKind, u64> = BTreeMap::new();
    for fact in survey.facts() {
        match fact {
            Fact::AnomalyFound { kind, path, .. } => match more.entry(*kind) {
                Entry::Vacant(first) => {
                    first.insert(0);
                    tell(&root.name, fact);
                }
                Entry::Occupied(mut others) => {
                    *others.get_mut() += 1;
                    tracing::debug!(root = %root.name, kind = kind.name(), path = %path, "another anomaly");
                }
            },
            // Those that were not told one by one: one number has both.
            Fact::AnomaliesMore { kind, found, .. } => *more.entry(*kind).or_default() += found,
            _ => tell(&root.name, fact),
        }
    }
    for (kind, found) in more.into_iter().filter(|(_, found)| *found > 0) {
        let cleared = 0;
        tell(
            &root.name,
            &Fact::AnomaliesMore {
                kind,
                found,
                cleared,
            },
        );
    }
}

/// What was not heard of when it happened.
fn write_down(store: &Store, root: &Root, survey: &Survey) {
    if survey.was_heard() {
        return;
    }
    let hear = audit::hear(Actor::Command, &root.name, store);
    for fact in survey.facts() {
        (hear.0)(fact, survey.now().wall, survey.engine().moment());
    }
}

/// Is set by the first signal that asks the command to end: it finishes the rename in hand, and
/// says what it did. The second one ends it.
fn stopped_by_signal() -> anyhow::Result<Halt> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, FAILED.into(), stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .context("signals cannot be caught")?;
    }
    Ok(Halt::when(stop))
}

fn exit_code(survey: &Survey, enforce: bool) -> u8 {
    let engine = survey.engine();
    let plan = engine.plan(survey.now());
    let over = engine.rules().limits.is_over(engine.usage().bytes);
    let unknown = engine.has_catalogue_trouble() && engine.usage().bytes > Bytes::ZERO;
    match (enforce, over) {
        // A catalogue that says nothing is never "empty".
        _ if unknown => FAILED,
        (true, true) if survey.was_busy() => BUSY,
        (true, true) => FAILED,
        (false, true) if !plan.meets_limits() => FAILED,
        (_, _) => DONE,
    }
}
