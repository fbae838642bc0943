//! What somebody asks of the registry: answers, and runs that are asked for.

use super::running::{Ended, Running, spawn};
use super::{Keeper, Order};
use crate::agent::cleaning::{self, Done, Task};
use crate::agent::halt::Halt;
use crate::agent::registrations::{Ask, Desk, RunAsk, chosen};
use crate::model::cleanup::Cleanup;
use crate::model::time::rfc3339;
use crate::store::audit::Actor;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::oneshot;

/// Runs that somebody asked for, at once.
const MAX_ASKED: usize = 8;

impl Keeper {
    /// Answers a question; a run that is asked for answers itself.
    pub(super) fn answer(&mut self, ask: Ask, actor: Actor, answer: oneshot::Sender<Value>) {
        if let Ask::Run(asked) = ask {
            return self.run_asked(&asked, actor, answer);
        }
        let desk = Desk {
            means: &self.means,
            actor,
        };
        let mut document = match desk.answer(&ask) {
            Ok(document) => document,
            Err(error) => return say(answer, json!({ "error": error })),
        };
        match ask {
            Ask::Add(_) | Ask::Update { .. } | Ask::Remove { .. } => self.read(),
            Ask::List | Ask::Show { .. } | Ask::Run(_) => {}
        }
        let watched: BTreeSet<&str> = self.wanted.0.iter().map(|one| one.id.as_str()).collect();
        self.add_present(&mut document, &watched);
        if let Some(rows) = document["cleanups"].as_array_mut() {
            rows.iter_mut()
                .for_each(|row| self.add_present(row, &watched));
        }
        say(answer, document);
    }

    /// When it runs next, and whether it is watched.
    fn add_present(&self, row: &mut Value, watched: &BTreeSet<&str>) {
        let Some(id) = row["id"].as_str().map(str::to_owned) else {
            return;
        };
        if let Some(next) = self.dispatcher.next_of(&id) {
            row["next_run"] = rfc3339(next).into();
        }
        row["watching"] = watched.contains(id.as_str()).into();
        row["unwatched_because"] = self.unwatched.get(&id).cloned().into();
    }

    /// Runs what somebody asked for on a thread of its own.
    fn run_asked(&mut self, asked: &RunAsk, actor: Actor, answer: oneshot::Sender<Value>) {
        if self.asked.len() >= MAX_ASKED {
            let error = format!("{MAX_ASKED} runs that were asked for are under way; try again");
            return say(answer, json!({ "error": error }));
        }
        if !self.is_known {
            self.read();
        }
        if let (false, Some(why)) = (self.is_known, &self.unread) {
            let error = format!("the registrations cannot be read: {why}");
            return say(answer, json!({ "error": error }));
        }
        let chosen = match chosen(&self.cleanups, asked.id.as_deref()) {
            Ok(chosen) => chosen,
            Err(error) => return say(answer, json!({ "error": error })),
        };
        // Each is halted by itself: that one is changed or removed ends no other.
        let stop_of = |cleanup: &Cleanup| (cleanup.id.clone(), Arc::new(AtomicBool::new(false)));
        let stops: Vec<(String, Arc<AtomicBool>)> = chosen.iter().map(stop_of).collect();
        let told = stops.clone();
        let (means, others, dry_run) = (self.means.clone(), self.cleanups.clone(), asked.dry_run);
        let orders = self.orders.clone();
        self.n_asked += 1;
        let number = self.n_asked;
        let thread = spawn(move || {
            let _ended = Ended::says(Order::Answered(number), orders);
            let timeout = means.settings.registry.limits.timeout;
            let done: Vec<Done> = std::iter::zip(chosen, told)
                .map(|(cleanup, (_, told))| {
                    let task = Task {
                        cleanup,
                        others: others.clone(),
                        dry_run,
                        actor,
                        stop: Halt::when(told),
                        timeout: Some(timeout),
                        lock_patience: timeout,
                    };
                    cleaning::run(&task, &means)
                })
                .collect();
            say(answer, cleaning::answer(&done, dry_run, &means));
        });
        match thread {
            Ok(thread) => {
                self.asked.insert(number, Running::new(stops, thread));
            }
            Err(error) => {
                tracing::error!(event = "cleanup.failed", error = %error, "a clean-up's thread could not be started");
            }
        }
    }
}

/// Answers; who does not wait any more misses nothing.
pub(super) fn say(answer: oneshot::Sender<Value>, document: Value) {
    if answer.send(document).is_err() {
        tracing::debug!("a client did not wait for its answer");
    }
}
