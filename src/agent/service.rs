//! The agent in the foreground: its roots, signals and the socket.

use crate::agent::apart;
use crate::agent::audit::Clerk;
use crate::agent::cleaning::removes_nothing;
use crate::agent::control::{self, HttpPort};
use crate::agent::descriptors;
use crate::agent::kept::Restorer;
use crate::agent::outlook::Prevention;
use crate::agent::pins::{self, Change};
use crate::agent::published::{View, Watching};
use crate::agent::registrations::Ask;
use crate::agent::registry::{Registry, Wants};
use crate::agent::report::{self, AnomalyFilter};
use crate::agent::root::{Handle, Order, Surroundings, rules};
use crate::agent::signals::{Caught, Signals};
use crate::agent::teller::Teller;
use crate::agent::window::{Pane, Window};
use crate::clock::SystemClock;
use crate::config;
use crate::config::cleanup::ground::is_apart;
use crate::config::request::Request;
use crate::config::settings::{Agent, Mode, Origin, Problem, Root, Settings};
use crate::engine::Command;
use crate::engine::outlook::{Outlook, Sight};
use crate::model::time::{Clock, Time};
use crate::store::Store;
use crate::store::audit::{Actor, Keeping, Wanted};
use crate::store::state::{StateDir, StateError, bind_socket, make_dir, remove_socket};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

/// So often the agent's own loop shows that it turns.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the directory {path} of a root cannot be made")]
    MakeRoot {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot listen on the socket {path}: give another one with --socket or [agent] socket")]
    Socket {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {what}")]
    Start {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// Makes the directory of a root given as a flag, where it is absent.
fn make_root(path: &Path) -> Result<(), ServiceError> {
    let path_text = path.display().to_string();
    make_dir(path).map_err(|source| ServiceError::MakeRoot {
        path: path_text,
        source,
    })
}

/// Starts to speak HTTP: on an address, where that is not empty, and on the connections that it is
/// given.
pub type SpeakHttp = fn(&str, Window) -> std::io::Result<HttpPort>;

/// A root that was asked what is to come, and where its answer will lie.
#[derive(Debug)]
pub struct AskedOutlook {
    pub root: Root,
    /// Why nothing goes from it, whatever it answers.
    pub prevented: Option<Prevention>,
    /// `Err`: why it could not be asked.
    pub slot: Result<Arc<OnceLock<Outlook>>, String>,
}

/// An agent that runs.
#[derive(Debug)]
pub struct Service {
    settings: Settings,
    request: Request,
    around: Surroundings,
    roots: Vec<Handle>,
    store: Store,
    /// `None`: nobody serves it (a demonstration).
    registry: Option<Registry>,
    registered: Wants,
    clerk: Clerk,
    started: Time,
    window: Window,
}

impl Service {
    /// Starts the threads of all roots.
    ///
    /// # Errors
    /// The state directory cannot be used, or a thread cannot be started.
    pub fn start(
        settings: Settings,
        request: Request,
        teller: Teller,
        store: Store,
    ) -> Result<Self, ServiceError> {
        for root in settings
            .roots
            .iter()
            .filter(|root| root.origin == Origin::Flag)
        {
            make_root(&root.path)?;
        }
        let state = StateDir::open(&settings.agent.state_dir)?;
        let around = Surroundings {
            state,
            teller,
            agent: settings.agent.clone(),
            hurries: Arc::default(),
        };
        let mut service = Self {
            roots: Vec::new(),
            started: SystemClock::start().now().wall,
            window: Window::new(
                settings.agent.state_dir.clone(),
                store.clone(),
                around.teller.counts().clone(),
            ),
            store,
            registry: None,
            registered: Wants::default(),
            clerk: Clerk::new(Actor::Command),
            request,
            around,
            settings,
        };
        service.keep_audit();
        descriptors::make_room(service.settings.roots.len());
        for root in service.settings.roots.clone() {
            service.start_root(root)?;
        }
        service.show();
        Ok(service)
    }

    /// What others may look at.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Shows the roots as they are looked after now.
    fn show(&self) {
        let panes = self.roots.iter().map(|handle| Pane {
            enforces: rules(&handle.root, &self.settings.agent).enforce,
            root: Arc::new(handle.root.clone()),
            published: handle.published.clone(),
            pulse: handle.pulse.clone(),
            watches: handle.watches.clone(),
        });
        self.window.show(panes.collect());
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Rows of the audit are kept as long as is configured, and never shorter than anything that
    /// they may be about.
    fn keep_audit(&self) {
        let roots = self.settings.roots.iter();
        let limits = roots.flat_map(|r| [r.limits.max_age, r.lifecycle.failed_retention]);
        let keep = self.settings.agent.audit_keep;
        let keep = Keeping {
            age: limits
                .flatten()
                .fold(keep.age, Duration::max)
                .max(self.registered.longest),
            max_rows: keep.max_rows,
        };
        // Nothing waits for it: while the store takes no orders, nothing is removed from it.
        drop(self.store.keep_audit(keep));
    }

    /// What is asked of the audit, with a root by its name or its path.
    pub fn audit_wanted(&self, wanted: Wanted) -> Wanted {
        let named = |root: String| {
            self.find(&root)
                .map_or(root.clone(), |h| h.root.name.clone())
        };
        Wanted {
            root: wanted.root.map(named),
            ..wanted
        }
    }

    fn start_root(&mut self, root: Root) -> Result<(), ServiceError> {
        tracing::info!(
            event = "root.started",
            root = %root.name,
            path = %root.path.display(),
            limit_bytes = root.limits.max_size.map(|b| b.0),
            enforce = rules(&root, &self.around.agent).enforce,
            "a root is looked after"
        );
        let started = Handle::start(root, &self.around);
        let what = "start the thread of a root";
        self.roots
            .push(started.map_err(|source| ServiceError::Start { what, source })?);
        Ok(())
    }

    fn find(&self, wanted: &str) -> Option<&Handle> {
        let path = std::path::absolute(wanted).unwrap_or_default();
        self.roots
            .iter()
            .find(|h| h.root.name == wanted || h.root.path == path)
    }

    /// The document that `status` prints.
    pub fn status(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started_at": crate::model::time::rfc3339(self.started),
            "mode": mode_name(self.settings.agent.mode),
            "store": report::store(self.settings.agent.database.as_deref(), &self.store.condition()),
            "registry": self.registry.as_ref().map(Registry::status),
            "roots": self.roots.iter().map(|h| self.status_of(h)).collect::<Vec<_>>(),
        })
    }

    fn status_of(&self, handle: &Handle) -> Value {
        let n_watches = handle.watches.load(std::sync::atomic::Ordering::Relaxed);
        report::status_root(
            &handle.root,
            &self.settings.agent,
            &handle.published.view(),
            n_watches,
        )
    }

    /// What is wrong in roots, as of their last full scans; in all where none is named. `Err` says
    /// why not.
    pub fn anomalies(&self, wanted: Option<&str>, filter: &AnomalyFilter) -> Result<Value, String> {
        let wanted = self.wanted(wanted)?.into_iter();
        let roots: Vec<Value> = wanted
            .map(|handle| {
                let view = handle.published.view();
                let rows = &view.figures.anomalies;
                report::anomalies(&handle.root, rows, view.scan_ended, filter)
            })
            .collect();
        Ok(json!({ "roots": roots }))
    }

    /// Pins or unpins a session; the root may be left out where there is one. When it returns the
    /// pin is on the disk, and nothing is removed any more without a look at it. `Err` says why not.
    pub fn pin(&self, wanted: Option<&str>, change: Change) -> Result<Value, String> {
        let wanted = self.wanted(wanted)?;
        let [handle] = wanted[..] else {
            return Err("there are several roots, or none: name one".to_owned());
        };
        let now = SystemClock::start().now().wall;
        let done = pins::carry_out(self.around.state.path(), &handle.root, change, now);
        let done = done.map_err(|error| chain(&error))?;
        if !handle.order(Order::Pins) {
            tracing::debug!(root = %handle.root.name, "a busy root sees its pins before its next removal");
        }
        Ok(done)
    }

    /// The pins of roots, of all where none is named. `Err` says why not.
    pub fn pins(&self, wanted: Option<&str>) -> Result<Value, String> {
        let now = SystemClock::start().now().wall;
        let state_dir = self.around.state.path();
        let wanted = self.wanted(wanted)?.into_iter();
        let roots: Vec<Value> = wanted
            .map(|handle| pins::list(state_dir, &handle.root, now))
            .collect();
        Ok(json!({ "roots": roots }))
    }

    /// Roots as they are configured, all where none is named. `Err` says why not.
    pub fn roots_called(&self, wanted: Option<&str>) -> Result<Vec<Root>, String> {
        let wanted = self.wanted(wanted)?.into_iter();
        Ok(wanted.map(|handle| handle.root.clone()).collect())
    }

    /// What brings sessions of roots back, of all where none is named. `Err` says why not.
    pub fn restorer(&self, wanted: Option<&str>) -> Result<Restorer, String> {
        let wanted = self.wanted(wanted)?.into_iter();
        Ok(Restorer {
            state_dir: self.around.state.path().to_owned(),
            store: self.store.clone(),
            roots: wanted
                .map(|handle| (handle.root.clone(), Some(handle.orders())))
                .collect(),
        })
    }

    /// Asks roots what is to come; where `sight` is `None` the root is left out. `Err` says why
    /// not.
    pub fn outlook(
        &self,
        wanted: Option<&str>,
        sight: impl Fn(&Root) -> Option<Sight>,
    ) -> Result<Vec<AskedOutlook>, String> {
        let wanted = self.wanted(wanted)?.into_iter();
        let asked = wanted.filter_map(|handle| {
            let sight = sight(&handle.root)?;
            let slot = Arc::new(OnceLock::new());
            let view = handle.published.view();
            let is_enforced = rules(&handle.root, &self.settings.agent).enforce;
            let prevented = match (is_enforced, view.figures.held) {
                (false, _) => Some(Prevention::Observe),
                (true, true) => Some(Prevention::Held),
                (true, false) => None,
            };
            let slot = match view.figures.scanned {
                _ if view.watching == Watching::Absent => Err("it is not at its path".to_owned()),
                false => Err("its first scan has not ended yet".to_owned()),
                true if handle.order(Order::Outlook(sight, slot.clone())) => Ok(slot),
                true => Err("it is too busy to take an order".to_owned()),
            };
            let root = handle.root.clone();
            Some(AskedOutlook {
                root,
                prevented,
                slot,
            })
        });
        Ok(asked.collect())
    }

    /// What is published of each root.
    pub fn views(&self) -> Vec<View> {
        self.roots
            .iter()
            .map(|handle| handle.published.view())
            .collect()
    }

    /// Asks roots for a full scan, all of them where none is named. `Err` says why not.
    pub fn rescan(&self, wanted: Option<&str>) -> Result<(), String> {
        for handle in self.wanted(wanted)? {
            if !handle.order(Order::Engine(Command::Rescan)) {
                return Err(format!(
                    "the root {} is too busy to take an order",
                    handle.root.name
                ));
            }
        }
        Ok(())
    }

    /// Asks roots for a barrier: their names with its numbers. `Err` says why not.
    pub fn barrier(&self, wanted: Option<&str>) -> Result<Vec<(String, u64)>, String> {
        let mut barriers = Vec::new();
        for handle in self.wanted(wanted)? {
            let name = &handle.root.name;
            let busy = || format!("the root {name} is too busy to take an order");
            barriers.push((name.clone(), handle.barrier().ok_or_else(busy)?));
        }
        Ok(barriers)
    }

    fn wanted(&self, wanted: Option<&str>) -> Result<Vec<&Handle>, String> {
        Ok(match wanted {
            Some(wanted) => vec![self.find(wanted).ok_or_else(|| self.unknown(wanted))?],
            None => self.roots.iter().collect(),
        })
    }

    /// Lets a held root be pruned.
    pub fn accept(&self, wanted: &str) -> Result<(), String> {
        let handle = self.find(wanted).ok_or_else(|| self.unknown(wanted))?;
        if !handle.published.view().figures.held {
            let name = &handle.root.name;
            return Err(format!(
                "the root {name} is not held: there is nothing to accept"
            ));
        }
        if handle.order(Order::Engine(Command::Accept)) {
            return Ok(());
        }
        Err(format!(
            "the root {} is too busy to take an order",
            handle.root.name
        ))
    }

    fn unknown(&self, wanted: &str) -> String {
        let names: Vec<&str> = self.roots.iter().map(|h| h.root.name.as_str()).collect();
        format!(
            "there is no root `{wanted}`; there are: {}",
            names.join(", ")
        )
    }

    /// Reads the configuration again: all of it, or nothing where anything in it is wrong.
    fn reload(&mut self) {
        let refused = |problems: &[Problem]| {
            for problem in problems {
                tracing::error!(
                    event = "config.invalid_value",
                    key = %problem.key,
                    line = problem.line,
                    "{}", problem.message
                );
            }
            tracing::error!(
                event = "config.refused",
                "the configuration stays as it was"
            );
        };
        match config::load(&self.request) {
            Err(problems) => refused(&problems),
            Ok(settings) => match settings.strict_problems() {
                problems if !problems.is_empty() => refused(&problems),
                _ => self.take_over(settings),
            },
        }
    }

    fn take_over(&mut self, settings: Settings) {
        let (new, old) = (&settings.agent, &self.settings.agent);
        if (&new.state_dir, &new.socket, &new.database, &new.http)
            != (&old.state_dir, &old.socket, &old.database, &old.http)
        {
            tracing::warn!(
                event = "config.restart_needed",
                "state_dir, socket, http and store change with the next start only"
            );
        }
        self.around.teller.settle(settings.notify.clone());
        // The registry says anew what is watched. Until then nothing is that may not be.
        let watched = &mut self.registered.watched;
        watched.retain(|root| !removes_nothing(&settings) && is_apart(root, &settings.roots));
        let before = std::mem::replace(&mut self.settings, settings);
        self.around.agent = self.settings.agent.clone();
        self.look_after_all(&before.agent);
        if let Some(registry) = &self.registry {
            registry.settle(self.settings.clone());
        }
        self.keep_audit();
        let now = SystemClock::start().now().wall;
        let because = format!(
            "the configuration was read again; it has {} roots",
            self.roots.len()
        );
        self.store
            .audit(self.clerk.note(now, "config.reloaded", because));
        tracing::info!(
            event = "config.reloaded",
            roots = self.roots.len(),
            "the configuration was read again"
        );
    }

    /// Has all roots looked after that are wanted now, those configured and those registered, and
    /// no others. `before`: the agent as it was.
    fn look_after_all(&mut self, before: &Agent) {
        let wanted: Vec<Root> = [&self.settings.roots[..], &self.registered.watched].concat();
        let agent = self.settings.agent.clone();
        descriptors::make_room(wanted.len());
        let grace = Instant::now() + agent.shutdown_grace;
        let mut old = std::mem::take(&mut self.roots);
        for root in &wanted {
            // What an enforcing root needs is made ready at its start.
            let same = |handle: &Handle| {
                let was = rules(&handle.root, before).enforce;
                was == rules(root, &agent).enforce && is_same_place(&handle.root, root)
            };
            match old.iter().position(same) {
                Some(at) => {
                    let mut handle = old.swap_remove(at);
                    handle.root = root.clone();
                    let settled = Box::new((root.clone(), agent.clone()));
                    if !handle.order(Order::Settle(settled)) {
                        tracing::error!(event = "config.refused", root = %root.name, "a root is too busy to take its new rules: reload again");
                    }
                    self.roots.push(handle);
                }
                None => {
                    // One of this path that nobody wants ends first; several may share a path.
                    let goes = |handle: &mut Handle| {
                        let is_wanted = |root| is_same_place(&handle.root, root);
                        handle.root.path == root.path && !wanted.iter().any(is_wanted)
                            || handle.root.name == root.name
                    };
                    stop_all(old.extract_if(.., goes), grace);
                    if let Err(error) = self.start_root(root.clone()) {
                        tracing::error!(event = "root.failed", root = %root.name, error = %error, "a root could not be started");
                    }
                }
            }
        }
        self.show();
        stop_all(old.into_iter(), grace);
    }

    /// A question about registrations.
    pub fn ask_registry(&self, ask: Ask, actor: Actor, answer: oneshot::Sender<Value>) {
        match &self.registry {
            Some(registry) => registry.ask(ask, actor, answer),
            None => {
                let refused = json!({ "error": "this agent has no registry" });
                if answer.send(refused).is_err() {
                    tracing::debug!("a client did not wait for its answer");
                }
            }
        }
    }

    /// Ends the threads of all roots, within the grace of the configuration. `false`: one of them
    /// did not end in time.
    pub fn stop(self) -> bool {
        stop_all(
            self.roots.into_iter(),
            Instant::now() + self.settings.agent.shutdown_grace,
        )
    }

    /// Runs until a signal ends it. Connections to the socket that speak HTTP are given to `http`.
    ///
    /// # Errors
    /// The socket cannot be listened on, or signals cannot be had.
    pub fn run(mut self, http: Option<HttpPort>) -> Result<(), ServiceError> {
        let what = "start the control loop";
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ServiceError::Start { what, source })?;
        let socket = self.settings.agent.socket.clone();
        let ended = runtime.block_on(self.serve(&socket, http));
        runtime.shutdown_background();
        if let Err(error) = remove_socket(&socket) {
            tracing::warn!(event = "socket.left", error = %error, "the socket stays");
        }
        ended
    }

    async fn serve(&mut self, socket: &Path, http: Option<HttpPort>) -> Result<(), ServiceError> {
        let listener = listen(socket)?;
        let mut signals = Signals::new()?;
        tracing::info!(
            event = "housekeeper.started",
            version = env!("CARGO_PKG_VERSION"),
            pid = std::process::id(),
            roots = self.roots.len(),
            mode = mode_name(self.settings.agent.mode),
            socket = %socket.display(),
            state_dir = %self.settings.agent.state_dir.display(),
            "housekeeper looks after its roots"
        );
        let started = Registry::start(
            self.settings.clone(),
            self.store.clone(),
            self.around.teller.clone(),
        );
        let what = "start the registry's thread";
        let (registry, mut wishes) =
            started.map_err(|source| ServiceError::Start { what, source })?;
        self.registry = Some(registry);
        let (requests, mut requested) = tokio::sync::mpsc::channel(16);
        let mut heart = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                _ = heart.tick() => self.window.pulse().beat(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => control::attend(stream, requests.clone(), http.clone()),
                    Err(error) => {
                        tracing::warn!(event = "socket.failed", error = %error, "a connection could not be taken");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(request) = requested.recv() => control::answer(self, request),
                Some((wants, done)) = wishes.recv() => {
                    self.registered = wants;
                    let agent = self.settings.agent.clone();
                    self.look_after_all(&agent);
                    self.keep_audit();
                    if done.send(()).is_err() {
                        tracing::debug!("the registry's thread is gone already");
                    }
                }
                caught = signals.next() => match caught {
                    Caught::Rescan => {
                        if let Err(why) = self.rescan(None) {
                            tracing::warn!(event = "rescan.refused", "{why}");
                        }
                    }
                    Caught::Reload => self.reload(),
                    Caught::Stop => break,
                },
            }
        }
        tracing::info!(
            event = "housekeeper.stopping",
            "housekeeper finishes what it has in hand"
        );
        let grace = Instant::now() + self.settings.agent.shutdown_grace;
        let roots = std::mem::take(&mut self.roots);
        let registry = self.registry.take();
        // Nothing more is wanted: who waits for it goes on.
        drop(wishes);
        let stopping = tokio::task::spawn_blocking(move || {
            if let Some(mut registry) = registry {
                registry.stop(grace);
            }
            stop_all(roots.into_iter(), grace)
        });
        tokio::select! {
            _ = stopping => {}
            () = signals.stop() => {
                tracing::warn!(event = "housekeeper.hurried", "a second signal: what is left is finished by the next start");
            }
        }
        tracing::info!(event = "housekeeper.stopped", "housekeeper has stopped");
        Ok(())
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn is_same_place(a: &Root, b: &Root) -> bool {
    a.name == b.name
        && a.path == b.path
        && a.backend == b.backend
        && a.layout.spec() == b.layout.spec()
        && apart::needs_no_directory(a) == apart::needs_no_directory(b)
}

/// `false`: a root did not end in time.
fn stop_all(roots: impl Iterator<Item = Handle>, grace: Instant) -> bool {
    let mut roots: Vec<Handle> = roots.collect();
    roots.iter().for_each(Handle::stop);
    let mut all = true;
    for handle in &mut roots {
        if !handle.join_until(grace) {
            all = false;
            tracing::warn!(event = "root.abandoned", root = %handle.root.name, "a root did not end in time: the next start finishes its removals");
        }
    }
    all
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

fn listen(socket: &Path) -> Result<UnixListener, ServiceError> {
    let bound = bind_socket(socket)?;
    UnixListener::from_std(bound).map_err(|source| ServiceError::Socket {
        path: socket.display().to_string(),
        source,
    })
}
