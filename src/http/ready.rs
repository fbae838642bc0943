//! `/ready`: whether every part does what it is for. 503 where one is down.
//!
//! What is in memory is looked at for each answer. Disks are asked at most every [`FRESH`], by
//! whoever comes first after that; everybody else is answered from what was found then.

use super::State;
use super::answer::document;
use super::storage::{Place, Storage};
use crate::agent::readiness::{Finding, Level, of_root, of_store};
use crate::agent::window::Window;
use crate::clock::SystemClock;
use crate::model::time::{Clock, Time, rfc3339};
use axum::extract::State as Given;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// So long what a disk said is believed.
const FRESH: Duration = Duration::from_secs(10);

/// One part of the answer.
struct Component {
    finding: Finding,
    /// `None`: of the agent as a whole.
    root: Option<String>,
    at: Time,
}

/// What disks said last.
#[derive(Debug, Default)]
pub(super) struct Ready {
    storage: Storage,
    /// Held while disks are asked: who comes meanwhile waits for the same answers.
    last: Mutex<Option<Checked>>,
    n_hits: AtomicU64,
    n_misses: AtomicU64,
}

#[derive(Debug)]
struct Checked {
    since: Instant,
    at: Time,
    /// The roots; the state directory has no name.
    names: Vec<Option<String>>,
    places: Vec<Place>,
    findings: Vec<Finding>,
}

impl Ready {
    async fn disks(&self, window: &Window) -> Vec<Component> {
        let mut last = self.last.lock().await;
        let panes = window.panes();
        let roots = panes.iter();
        let (mut names, mut places): (Vec<_>, Vec<_>) = roots
            .map(|pane| {
                let place = Place {
                    dir: pane.root.real.clone(),
                    is_written: pane.enforces,
                };
                (Some(pane.root.name.clone()), place)
            })
            .unzip();
        names.push(None);
        places.push(Place {
            dir: window.state_dir().to_owned(),
            is_written: true,
        });
        let is_fresh = |checked: &&Checked| {
            checked.since.elapsed() < FRESH && checked.names == names && checked.places == places
        };
        if let Some(checked) = last.as_ref().filter(is_fresh) {
            self.count(&self.n_hits);
            return checked.components();
        }
        self.count(&self.n_misses);
        let findings = self.storage.check(&places).await;
        let checked = Checked {
            since: Instant::now(),
            at: SystemClock::start().now().wall,
            names,
            places,
            findings,
        };
        last.insert(checked).components()
    }

    /// How often disks had been asked shortly before, and how often they were asked.
    pub(super) fn counted(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.n_hits), count(&self.n_misses))
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            hits = self.n_hits.load(Ordering::Relaxed),
            misses = self.n_misses.load(Ordering::Relaxed),
            "the cache of /ready was asked"
        );
    }
}

impl Checked {
    fn components(&self) -> Vec<Component> {
        let found = self.names.iter().zip(&self.findings);
        let component = |(root, finding): (&Option<String>, &Finding)| Component {
            finding: finding.clone(),
            root: root.clone(),
            at: self.at,
        };
        found.map(component).collect()
    }
}

pub(super) async fn ready(Given(state): Given<Arc<State>>) -> Response {
    let asked = state.clone();
    // A client that does not wait for it has it done all the same: the next one has the answer.
    let disks = tokio::spawn(async move { asked.ready.disks(&asked.window).await });
    let disks = disks.await;
    let now = SystemClock::start().now().wall;
    let mut all = Vec::new();
    for pane in state.window.panes().iter() {
        let name = &pane.root.name;
        let mut findings = of_root(&pane.root, &pane.view());
        if let Some(still) = state.watchman.stuck(name) {
            let seconds = still.as_secs();
            let message =
                format!("its thread has not turned for {seconds} s: a disk hangs, perhaps");
            if let Some(index) = findings.iter_mut().find(|f| f.component == "index") {
                *index = Finding::new("index", Level::Down, message);
            }
        }
        all.extend(findings.into_iter().map(|finding| Component {
            finding,
            root: Some(name.clone()),
            at: now,
        }));
    }
    let own = [of_store(&state.window.store()), state.door.finding()];
    all.extend(own.into_iter().map(|finding| Component {
        finding,
        root: None,
        at: now,
    }));
    all.extend(disks.unwrap_or_else(|_| {
        vec![Component {
            finding: Finding::new("storage", Level::Down, "no disk could be asked"),
            root: None,
            at: now,
        }]
    }));
    let worst = all.iter().map(|component| component.finding.level).max();
    let worst = worst.unwrap_or(Level::Ok);
    let status = match worst {
        Level::Ok | Level::Degraded => StatusCode::OK,
        Level::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    document(
        status,
        &json!({
            "status": worst.name(),
            "components": all.iter().map(spelled).collect::<Vec<_>>(),
        }),
    )
}

fn spelled(component: &Component) -> Value {
    json!({
        "component": component.finding.component,
        "root": component.root,
        "status": component.finding.level.name(),
        "message": component.finding.message,
        "checked_at": rfc3339(component.at),
    })
}
