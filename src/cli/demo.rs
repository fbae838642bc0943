//! The real agent on a scratch root with real writers, to be watched.
//!
//! The agent is the one that `run` starts, with a configuration file like anybody's; it answers
//! `status` on its socket. At the end the disk is counted anew and compared with what the agent
//! knows. Nothing is touched but one directory made for this, and that one goes in the end.

mod scratch;
mod screen;
mod writers;

use super::args::{Demo, USAGE};
use super::{DONE, FAILED, WRONG_CONFIG, begin_logging, complain};
use crate::agent::control;
use crate::agent::published::View;
use crate::agent::service::Service;
use crate::agent::teller::Teller;
use crate::config;
use crate::config::request::Request;
use crate::config::settings::{Problem, Settings};
use crate::model::bytes::Bytes;
use crate::store::Store;
use crate::store::state::StateDir;
use anyhow::{Context, bail};
use scratch::Scratch;
use screen::{Screen, overshoot, reaction, say, seconds};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use writers::{Crew, HABITS, Made, Shared};

const LIMIT: Bytes = Bytes(256 << 20);
/// Below this there is nothing to see.
const SMALLEST: Bytes = Bytes::MIB;
/// So much free space a default limit leaves: a quarter of it is used.
const USE_OF_FREE: u64 = 4;
const TICK: Duration = Duration::from_millis(100);
/// Rates are those of so many ticks.
const N_RATE_TICKS: usize = 10;
/// What a Unix socket's path may have; a longer one is done without.
const MAX_SOCKET_PATH: usize = 107;
/// The agent may take so long to start, and to know what was written last.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// Sessions watched for having gone.
const MAX_WATCHED: usize = 4096;

/// Everything shown at one moment.
#[derive(Debug, Clone, Default)]
struct Frame {
    elapsed: Duration,
    usage: Bytes,
    limit: Bytes,
    peak: Bytes,
    trash: Bytes,
    n_sessions: u64,
    n_pruned: u64,
    pruned: Bytes,
    reaction: Option<(Duration, Duration)>,
    scheduling: &'static str,
    written: Bytes,
    rate: Bytes,
    rates: [Bytes; HABITS.len()],
    last_gone: Option<Made>,
}

/// Runs the demonstration.
///
/// # Errors
/// There is no room, or something on the way failed. The scratch directory is gone all the same.
pub fn run(request: &Request, wanted: &Demo) -> anyhow::Result<u8> {
    if let Some(limit) = wanted.limit.filter(|limit| *limit < SMALLEST) {
        complain(&[Problem {
            key: "--limit".to_owned(),
            line: None,
            message: format!("{limit} is too little to see anything; give {SMALLEST} or more"),
        }])?;
        return Ok(USAGE);
    }
    let parent = wanted.dir.clone().unwrap_or_else(std::env::temp_dir);
    let limit = limit_for(&parent, wanted.limit)?;
    let scratch = Scratch::make(&parent)?;
    let ended = demonstrate(&scratch, limit, request, wanted.period);
    let path = scratch.path().display().to_string();
    let removed = scratch.remove();
    let code = ended?;
    removed?;
    if code == DONE {
        // Whoever went away does not want to know.
        let _: ControlFlow<()> = say(&format!("  scratch      {path} is removed"))?;
    }
    Ok(code)
}

/// The limit asked for where there is room for it, or one that leaves most of the room free.
fn limit_for(parent: &Path, wanted: Option<Bytes>) -> anyhow::Result<Bytes> {
    let place = parent.display();
    let room = rustix::fs::statvfs(parent)
        .with_context(|| format!("cannot look at the directory {place}"))?;
    let free = Bytes(room.f_bavail.saturating_mul(room.f_frsize));
    let limit = wanted.unwrap_or_else(|| {
        let part = free.0 / USE_OF_FREE;
        LIMIT.min(Bytes(part - part % Bytes::MIB.0))
    });
    if limit < SMALLEST || limit.0.saturating_add(limit.0 / USE_OF_FREE) > free.0 {
        bail!("{place} has {free} free: too little; name another directory with --dir");
    }
    Ok(limit)
}

/// Where things lie in the scratch directory.
struct Places {
    root: PathBuf,
    state: PathBuf,
    socket: PathBuf,
    config: PathBuf,
}

impl Places {
    fn make(scratch: &Path) -> anyhow::Result<Self> {
        let agent = scratch.join("agent");
        let places = Self {
            root: scratch.join("sessions"),
            state: agent.join("state"),
            socket: agent.join("agent.sock"),
            config: agent.join("housekeeper.toml"),
        };
        for dir in [&agent, &places.root] {
            std::fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(places)
    }

    fn has_socket(&self) -> bool {
        self.socket.as_os_str().len() <= MAX_SOCKET_PATH
    }

    /// The configuration, written as anybody would.
    fn configure(&self, limit: Bytes) -> anyhow::Result<()> {
        let quoted = |path: &Path| -> anyhow::Result<String> {
            let text = path
                .to_str()
                .with_context(|| format!("{} is not UTF-8", path.display()))?;
            Ok(toml::Value::from(text).to_string())
        };
        let socket = if self.has_socket() {
            format!("socket = {}\n", quoted(&self.socket)?)
        } else {
            String::new()
        };
        let text = format!(
            r#"[agent]
state_dir = {state}
{socket}http = ""

[log]
format = "text"
level = "warn"

[[root]]
name = "demo"
path = {root}

[root.layout]
kind = "directories"
metadata = "metadata.json"

[root.layout.state]
key = "/state"
active = ["active"]
complete = ["complete"]

[root.limits]
max_size = {limit}

# These writers need no more: they say when a session is complete.
[root.protect]
quiet = "500ms"
"#,
            state = quoted(&self.state)?,
            root = quoted(&self.root)?,
            limit = limit.0,
        );
        std::fs::write(&self.config, text).context("cannot write the configuration")
    }
}

fn demonstrate(
    scratch: &Scratch,
    limit: Bytes,
    request: &Request,
    period: Option<Duration>,
) -> anyhow::Result<u8> {
    let places = Places::make(scratch.path())?;
    places.configure(limit)?;
    // Nothing of this host's own configuration has a say here, but for how to log.
    let request = Request {
        file: Some(places.config.clone()),
        agent: config::request::AgentFlags {
            log_format: request.agent.log_format,
            log_level: request.agent.log_level.clone(),
            ..Default::default()
        },
        ..Request::default()
    };
    let settings = match config::load(&request) {
        Ok(settings) if settings.strict_problems().is_empty() => settings,
        Ok(settings) => {
            complain(&settings.strict_problems())?;
            return Ok(WRONG_CONFIG);
        }
        Err(problems) => {
            complain(&problems)?;
            return Ok(WRONG_CONFIG);
        }
    };
    begin_logging(&settings, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control loop")?;
    runtime.block_on(play(&places, limit, settings, request, period))
}

/// First the root is filled, then the agent starts, then the writers.
async fn play(
    places: &Places,
    limit: Bytes,
    settings: Settings,
    request: Request,
    period: Option<Duration>,
) -> anyhow::Result<u8> {
    let mut signals = Signals::new()?;
    if introduce(places, limit)?.is_break() {
        return Ok(DONE);
    }
    let mut crew = Crew::new(&places.root, limit);
    crew.fill()?;
    while !crew.has_ended() {
        tokio::select! {
            () = signals.stop() => return Ok(DONE),
            () = tokio::time::sleep(POLL) => {}
        }
    }
    crew.join()?;
    let state = StateDir::open(&settings.agent.state_dir)?;
    let _lock = state.lock()?;
    let (teller, telling) = Teller::start(Store::off(), None);
    let service = Service::start(settings, request, teller, Store::off())?;
    let mut show = Show::new(service, crew.shared(), limit, period);
    let ended = show.run(places, &mut crew, &mut signals).await;
    // Nobody writes any more when the disk is counted.
    let stopped = crew.stop();
    let proof = ended.and(stopped).map(|()| show.prove(places));
    let Show {
        service,
        frame,
        shared,
        ..
    } = show;
    if service.stop() && telling.join().is_err() {
        bail!("the thread that logs panicked");
    }
    sum_up(&frame, &proof??, shared.n_lost())
}

fn introduce(places: &Places, limit: Bytes) -> anyhow::Result<ControlFlow<()>> {
    let root = places.root.display();
    let mut text = format!(
        "housekeeper demo: {} programs write sessions into {root}.\n\
         It may hold {limit}; the agent removes the oldest sessions the moment a write goes over.\n",
        HABITS.len()
    );
    if places.has_socket() {
        let socket = places.socket.display();
        text.push_str(&format!(
            "Ask it from another terminal: housekeeper status --socket {socket}\n"
        ));
    }
    say(&text)
}

/// What is shown, and from where.
struct Show {
    service: Service,
    shared: Arc<Shared>,
    screen: Screen,
    frame: Frame,
    period: Option<Duration>,
    begun: Instant,
    /// Complete sessions that were still there at the last tick.
    there: VecDeque<Made>,
    /// What was written until each of the last ticks, by writer.
    ticks: VecDeque<(Instant, [Bytes; HABITS.len()])>,
}

impl Show {
    fn new(service: Service, shared: Arc<Shared>, limit: Bytes, period: Option<Duration>) -> Self {
        Self {
            screen: Screen::open(),
            frame: Frame {
                limit,
                ..Frame::default()
            },
            begun: Instant::now(),
            there: VecDeque::new(),
            ticks: VecDeque::new(),
            service,
            shared,
            period,
        }
    }

    /// Runs until the time is up, a signal ends it, or nobody reads any more.
    async fn run(
        &mut self,
        places: &Places,
        crew: &mut Crew,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let listener = match places.has_socket() {
            // Its directory is for this user alone.
            true => Some(UnixListener::bind(&places.socket).context("cannot listen on a socket")?),
            false => None,
        };
        let (requests, mut requested) = tokio::sync::mpsc::channel(16);
        let mut tick = tokio::time::interval(TICK);
        let mut writing = false;
        loop {
            tokio::select! {
                stream = accept(listener.as_ref()) => control::attend(stream?, requests.clone(), None),
                Some(request) = requested.recv() => control::answer(&self.service, request),
                () = signals.stop() => return Ok(()),
                _ = tick.tick() => {
                    if !writing && self.is_ready()? {
                        writing = true;
                        self.begun = Instant::now();
                        crew.begin()?;
                    }
                    if writing && self.turn(places)?.is_break() {
                        return Ok(());
                    }
                    if writing && crew.has_ended() {
                        return crew.join();
                    }
                }
            }
        }
    }

    fn is_ready(&self) -> anyhow::Result<bool> {
        if self.view()?.figures.scanned {
            return Ok(true);
        }
        if self.begun.elapsed() > PATIENCE {
            bail!("the agent did not finish its first scan");
        }
        Ok(false)
    }

    fn view(&self) -> anyhow::Result<View> {
        let view = self.service.views().into_iter().next();
        view.context("the agent has no root")
    }

    /// Looks at everything and shows it.
    fn turn(&mut self, places: &Places) -> anyhow::Result<ControlFlow<()>> {
        self.look(places)?;
        let is_up = self
            .period
            .is_some_and(|period| self.frame.elapsed >= period);
        match self.screen.show(&self.frame)? {
            ControlFlow::Continue(()) if !is_up => Ok(ControlFlow::Continue(())),
            _ => Ok(ControlFlow::Break(())),
        }
    }

    fn look(&mut self, places: &Places) -> anyhow::Result<()> {
        let View {
            figures,
            reaction,
            scheduling,
            ..
        } = self.view()?;
        let last_gone = self
            .look_for_gone(&places.root)
            .or(self.frame.last_gone.take());
        let written = std::array::from_fn(|at| self.shared.written(at));
        let now = Instant::now();
        self.ticks.push_back((now, written));
        while self.ticks.len() > N_RATE_TICKS {
            self.ticks.pop_front();
        }
        let (then, before) = self.ticks[0];
        let passed = now.duration_since(then).as_secs_f64();
        let rates = std::array::from_fn(|at| {
            let n_bytes = written[at].saturating_sub(before[at]);
            let rate = if passed > 0.0 {
                n_bytes.0 as f64 / passed
            } else {
                0.0
            };
            Bytes(rate as u64)
        });
        let sum =
            |all: [Bytes; HABITS.len()]| all.into_iter().fold(Bytes::ZERO, Bytes::saturating_add);
        self.frame = Frame {
            elapsed: self.begun.elapsed(),
            usage: figures.bytes,
            limit: self.frame.limit,
            peak: figures.peak,
            trash: figures.trash_bytes,
            n_sessions: figures.n_sessions,
            n_pruned: figures.pruned_sessions,
            pruned: figures.pruned_bytes,
            reaction,
            scheduling,
            written: sum(written),
            rate: sum(rates),
            rates,
            last_gone,
        };
        Ok(())
    }

    /// The newest session that was there at the last tick and is not now. The disk itself is asked.
    fn look_for_gone(&mut self, root: &Path) -> Option<Made> {
        self.there.extend(self.shared.take_made());
        // The agent prunes the oldest: these are the ones to look at.
        self.there.make_contiguous().sort_by_key(|made| made.at);
        self.there.truncate(MAX_WATCHED);
        let mut last = None;
        self.there.retain(|made| {
            let is_there = root.join(&made.name).symlink_metadata().is_ok();
            if !is_there {
                last = Some(made.clone());
            }
            is_there
        });
        last
    }

    /// Counts the disk anew until the agent knows the same, or long enough.
    fn prove(&mut self, places: &Places) -> anyhow::Result<Proof> {
        let begun = Instant::now();
        loop {
            self.look(places)?;
            let proof = Proof {
                known: self.frame.usage,
                counted: count(&places.root)?,
            };
            if proof.holds() || begun.elapsed() > PATIENCE {
                return Ok(proof);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The next connection; never, where there is no socket.
async fn accept(listener: Option<&UnixListener>) -> anyhow::Result<tokio::net::UnixStream> {
    match listener {
        Some(listener) => {
            let (stream, _) = listener
                .accept()
                .await
                .context("cannot take a connection")?;
            Ok(stream)
        }
        None => std::future::pending().await,
    }
}

/// What the agent knows beside what is there.
struct Proof {
    known: Bytes,
    counted: Bytes,
}

impl Proof {
    fn holds(&self) -> bool {
        self.known == self.counted
    }
}

/// The bytes of all files in the sessions of a root where nobody makes hard links.
fn count(root: &Path) -> anyhow::Result<Bytes> {
    let mut sum = Bytes::ZERO;
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match std::fs::read_dir(&dir) {
            // Pruned just now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("cannot list {}", dir.display()))?,
        };
        for entry in entries {
            let entry = entry.context("cannot list a directory")?;
            let Ok(seen) = entry.path().symlink_metadata() else {
                continue;
            };
            let own = dir == *root && entry.file_name() == ".housekeeper";
            if seen.is_dir() && !own {
                dirs.push(entry.path());
            } else if seen.is_file() {
                sum = sum.saturating_add(Bytes(seen.len()));
            }
        }
    }
    Ok(sum)
}

fn sum_up(frame: &Frame, proof: &Proof, n_lost: u64) -> anyhow::Result<u8> {
    let Frame { limit, peak, .. } = *frame;
    let mut text = format!(
        "\nIn {} {} programs wrote {} into a directory that may hold {limit}.\n",
        seconds(frame.elapsed),
        HABITS.len(),
        frame.written
    );
    let mut line = |name: &str, what: String| text.push_str(&format!("  {name:<11}  {what}\n"));
    line(
        "pruned",
        format!(
            "{} sessions, {}, the oldest first",
            frame.n_pruned, frame.pruned
        ),
    );
    line("peak", format!("{peak}: {}", overshoot(peak, limit)));
    line(
        "reaction",
        format!(
            "{}, from the first notice of a write to the rename that took a session away",
            reaction(frame)
        ),
    );
    line(
        "in progress",
        match n_lost {
            0 => "no session was touched while it was written".to_owned(),
            n => format!("{n} sessions vanished while they were written: this must not happen"),
        },
    );
    let (known, counted) = (proof.known.0, proof.counted.0);
    line(
        "recount",
        if proof.holds() {
            format!("{counted} bytes are on the disk, and the agent knows just that")
        } else {
            format!(
                "{counted} bytes are on the disk, the agent knows {known}: this must not happen"
            )
        },
    );
    let _: ControlFlow<()> = say(text.trim_end())?;
    Ok(if proof.holds() && n_lost == 0 {
        DONE
    } else {
        FAILED
    })
}

/// What ends a demonstration before its time.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self([
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
        ]))
    }

    async fn stop(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
