//! Tells people what they should know: webhooks, and a command.
//!
//! A thread of its own with queues on the disk ([`outbox`]). Whoever has something to tell leaves
//! it in a bounded channel and goes on; nothing that enforces a limit ever waits for a receiver.
//! What was accepted is sent until it arrives, over restarts, under one identity
//! (`Idempotency-Key`): at least once, and once for a receiver that looks at it.
//!
//! Given up is what a receiver refuses for good (400, 413, 422), what is a day old, or what failed
//! a thousand times (a command: five times). That is an error in the log.

mod known;
mod lane;
mod news;
mod outbox;
mod send;

use crate::model::fact::Fact;
use crate::model::notice::{Notice, Receivers, Topic};
use crate::model::time::{Clock, Now, Tick, Time, rfc3339};
use crate::notify::known::{Heard, Known};
use crate::notify::lane::{Lane, Turn};
use crate::notify::news::{News, absence_of, anomalies_of};
use crate::notify::outbox::{MAX_WAITING, Outbox, made};
use crate::notify::send::{Failure, Http, Receiver};
use chrono::TimeDelta;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What may wait for the thread. What comes when it is full is counted, and the count is told.
const MAX_ORDERS: usize = 4096;
/// Orders taken before what they ask for is begun.
const BATCH: usize = 256;
/// Older than this nothing is news.
const MAX_AGE: TimeDelta = TimeDelta::days(1);
/// What is in memory only is tried to be written that often.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Order {
    Heard(Arc<str>, News),
    Tell(Notice),
    /// Answer when all before is on the disk.
    Flush(std::sync::mpsc::Sender<()>),
}

/// The sending side; cheap to clone. The thread ends with the last of them.
#[derive(Debug, Clone)]
pub struct Notifier {
    orders: mpsc::Sender<Order>,
    receivers: Arc<watch::Sender<Receivers>>,
    folded: Arc<AtomicU64>,
}

impl Notifier {
    /// Starts the thread. What waits is kept in `dir`, which is made when there is something.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        receivers: Receivers,
        dir: &Path,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (orders, ordered) = mpsc::channel(MAX_ORDERS);
        let (sender, wanted) = watch::channel(receivers);
        let folded = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (counted, dir) = (folded.clone(), dir.to_owned());
        let thread = std::thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || runtime.block_on(run(ordered, wanted, &dir, clock, &counted)))?;
        let notifier = Self {
            orders,
            receivers: Arc::new(sender),
            folded,
        };
        Ok((notifier, thread))
    }

    /// Tells of a fact, where it is worth it. Never waits.
    pub fn hear(&self, root: &Arc<str>, fact: &Fact) {
        match news::of(root, fact) {
            News::None => {}
            news => self.order(Order::Heard(root.clone(), news)),
        }
    }

    /// Tells of something that is no fact of a root: the failure of a run. Never waits.
    pub fn tell(&self, notice: Notice) {
        self.order(Order::Tell(notice));
    }

    /// The receivers as configured now.
    pub fn settle(&self, receivers: Receivers) {
        self.receivers.send_replace(receivers);
    }

    /// Waits until all that was told before is on the disk; `false`: not in this time.
    pub fn flush(&self, within: Duration) -> bool {
        let (answer, answered) = std::sync::mpsc::channel();
        let sent = self.orders.try_send(Order::Flush(answer));
        sent.is_ok() && answered.recv_timeout(within).is_ok()
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            self.folded.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What became of one message.
#[derive(Debug)]
struct Sent {
    lane: String,
    result: Result<(), Failure>,
}

/// The thread's own.
struct Desk {
    outbox: Outbox,
    known: Known,
    receivers: BTreeMap<String, Arc<Receiver>>,
    lanes: BTreeMap<String, Lane>,
    clock: Arc<dyn Clock>,
    http: Option<Http>,
    host: String,
    sent: mpsc::UnboundedSender<Sent>,
    is_written: bool,
    flushes: Vec<std::sync::mpsc::Sender<()>>,
}

async fn run(
    mut ordered: mpsc::Receiver<Order>,
    mut wanted: watch::Receiver<Receivers>,
    dir: &Path,
    clock: Arc<dyn Clock>,
    folded: &AtomicU64,
) {
    // One message a lane is under way at most: that is the bound.
    let (sent, mut arrived) = mpsc::unbounded_channel();
    let mut desk = Desk::open(dir, clock, sent);
    let receivers = wanted.borrow_and_update().clone();
    desk.settle(&receivers);
    loop {
        let n_folded = folded.swap(0, Ordering::Relaxed);
        if n_folded > 0 {
            desk.tell(folded_notice(n_folded));
        }
        let wake = desk.turn();
        let wait = tokio::time::sleep(wake.unwrap_or(Duration::from_secs(3600)));
        tokio::select! {
            order = ordered.recv() => {
                let Some(order) = order else {
                    desk.turn();
                    return;
                };
                desk.take(order);
                for _ in 1..BATCH {
                    let Ok(order) = ordered.try_recv() else { break };
                    desk.take(order);
                }
            }
            Some(sent) = arrived.recv() => desk.arrived(sent),
            Ok(()) = wanted.changed() => {
                let receivers = wanted.borrow_and_update().clone();
                desk.settle(&receivers);
            }
            () = wait => {}
        }
    }
}

fn folded_notice(n_folded: u64) -> Notice {
    Notice {
        topic: Topic::Failure,
        event: "notify.folded",
        root: None,
        message: format!("{n_folded} more things happened than could be told: see the log"),
        details: vec![("folded", n_folded.to_string())],
    }
}

impl Desk {
    fn open(dir: &Path, clock: Arc<dyn Clock>, sent: mpsc::UnboundedSender<Sent>) -> Self {
        let outbox = Outbox::open(dir);
        Self {
            known: Known::carried(outbox.contents.known.clone()),
            outbox,
            receivers: BTreeMap::new(),
            lanes: BTreeMap::new(),
            clock,
            http: None,
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            sent,
            is_written: true,
            flushes: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// The receivers as configured. What waits for one that is not named now is kept for a day:
    /// a mistake in the configuration must not lose it.
    fn settle(&mut self, wanted: &Receivers) {
        let hooks = wanted.webhooks.iter().cloned();
        let hooks = hooks.map(|hook| (hook.name.clone(), Arc::new(Receiver::Webhook(hook))));
        let exec = wanted.exec.iter().cloned();
        let exec = exec.map(|exec| (EXEC.to_owned(), Arc::new(Receiver::Exec(exec))));
        self.receivers = hooks.chain(exec).collect();
        if !self.http.as_ref().is_some_and(Http::is_ready) && !wanted.webhooks.is_empty() {
            self.http = Some(Http::new());
        }
        let oldest = self.now().wall - MAX_AGE;
        let waiting: Vec<String> = self.outbox.contents.waiting.keys().cloned().collect();
        for lane in waiting
            .iter()
            .filter(|lane| !self.receivers.contains_key(*lane))
        {
            let n_forgotten = self.outbox.forget_before(oldest, lane);
            if n_forgotten > 0 {
                tracing::warn!(
                    event = "notify.given_up",
                    receiver = lane,
                    notices = n_forgotten,
                    "nobody of the name {lane} is told any more"
                );
            }
        }
        for name in self.receivers.keys() {
            let n_waiting = self.outbox.n_waiting(name);
            let lane = self.lanes.entry(name.clone());
            lane.or_insert_with(|| Lane::new(wanted.rate, n_waiting))
                .set_rate(wanted.rate);
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Heard(root, news) => self.hear(&root, news),
            Order::Tell(notice) => self.tell(notice),
            Order::Flush(answer) => self.flushes.push(answer),
        }
    }

    fn hear(&mut self, root: &str, news: News) {
        match news {
            News::None => {}
            News::Told { key, once, notice } => {
                // What nobody is told is not known to anybody.
                if self.interested(notice.topic).is_empty() {
                    return;
                }
                let now = self.now().wall;
                if let Heard::News { forgotten } = self.known.hear(&key, once, now) {
                    if let Some(forgotten) = forgotten {
                        self.outbox.over(&forgotten);
                    }
                    self.outbox.known(&key, now);
                    self.tell(notice);
                }
            }
            News::Over { key } => {
                if self.known.is_over(&key) {
                    self.outbox.over(&key);
                }
            }
            News::Scanned => {
                // Whatever can be scanned is there.
                for prefix in [anomalies_of(root), absence_of(root)] {
                    for key in self.known.settle(&prefix) {
                        self.outbox.over(&key);
                    }
                }
            }
        }
    }

    fn interested(&self, topic: Topic) -> Vec<String> {
        let interested = self
            .receivers
            .iter()
            .filter(|(_, receiver)| match &***receiver {
                Receiver::Webhook(hook) => hook.topics.contains(&topic),
                Receiver::Exec(exec) => exec.topics.contains(&topic),
            });
        interested.map(|(name, _)| name.clone()).collect()
    }

    fn tell(&mut self, notice: Notice) {
        let lanes = self.interested(notice.topic);
        if lanes.is_empty() {
            return;
        }
        let lanes: Vec<&str> = lanes.iter().map(String::as_str).collect();
        let document = self.document(notice);
        self.outbox.add(document, &lanes);
    }

    fn document(&self, notice: Notice) -> Value {
        let details: Map<String, Value> = notice
            .details
            .into_iter()
            .map(|(name, value)| {
                let number = value.parse::<u64>().ok().filter(|n| n.to_string() == value);
                (
                    name.to_owned(),
                    number.map_or(Value::String(value), Value::from),
                )
            })
            .collect();
        json!({
            "id": ulid::Ulid::generate().to_string(),
            "timestamp": rfc3339(self.now().wall),
            "host": self.host,
            "topic": notice.topic.name(),
            "event": notice.event,
            "root": notice.root,
            "message": notice.message,
            "details": details,
        })
    }

    /// Writes down what is new, then begins what can be begun; answers how long there is nothing
    /// to do.
    fn turn(&mut self) -> Option<Duration> {
        let now = self.now();
        let mut wake = None;
        let mut earlier = |at: Tick| wake = Some(wake.map_or(at, |wake: Tick| wake.min(at)));
        let names: Vec<String> = self.receivers.keys().cloned().collect();
        let mut ready = Vec::new();
        for name in names {
            if self.outbox.n_waiting(&name) > MAX_WAITING {
                self.fold(&name, MAX_WAITING - 1, now.wall);
            }
            let Some(lane) = self.lanes.get_mut(&name) else {
                continue;
            };
            let mut turn = lane.turn(now.tick, self.outbox.n_waiting(&name));
            if turn == Turn::Fold {
                self.fold(&name, 0, now.wall);
                turn = Turn::Send;
            }
            match turn {
                Turn::Wait(at) => at.into_iter().for_each(&mut earlier),
                Turn::Send | Turn::Fold => ready.push(name),
            }
        }
        // Before anything is sent: what a kill leaves of it is sent again, under its identity.
        if !self.write() {
            earlier(now.tick.after(WRITE_AGAIN));
        }
        for name in ready {
            self.begin(&name, now.tick);
        }
        wake.map(|at| at.since(now.tick).max(Duration::from_millis(1)))
    }

    fn fold(&mut self, lane: &str, after: usize, now: Time) {
        let ids = self.outbox.after(after, lane);
        let id = ulid::Ulid::generate().to_string();
        self.outbox.fold(&id, lane, &ids, now);
    }

    fn write(&mut self) -> bool {
        let is_written = self.outbox.sync();
        if self.is_written && !is_written {
            tracing::warn!(
                event = "notify.unwritten",
                "what waits to be sent cannot be written to the state directory: it is in memory until it can"
            );
        }
        self.is_written = is_written;
        for flush in self.flushes.drain(..) {
            // Who asked may have gone away; then nobody waits.
            if is_written && flush.send(()).is_err() {
                tracing::debug!("nobody waits for a flush any more");
            }
        }
        is_written
    }

    fn begin(&mut self, name: &str, now: Tick) {
        let receiver = self.receivers.get(name).cloned();
        let notice = self.outbox.first(name).cloned();
        let (Some(receiver), Some(notice), Some(lane)) =
            (receiver, notice, self.lanes.get_mut(name))
        else {
            return;
        };
        lane.begin(now);
        let http = self.http.clone();
        let (sent, lane) = (self.sent.clone(), name.to_owned());
        tokio::spawn(async move {
            let result = receiver.send(http.as_ref(), &notice).await;
            if sent.send(Sent { lane, result }).is_err() {
                tracing::debug!("the agent ends: what became of a notice is found out by the next");
            }
        });
    }

    fn arrived(&mut self, sent: Sent) {
        let now = self.now();
        let name = sent.lane;
        let (Some(lane), Some(notice)) = (self.lanes.get_mut(&name), self.outbox.first(&name))
        else {
            return;
        };
        let id = notice["id"].as_str().unwrap_or_default().to_owned();
        let n_failed = lane.n_failed();
        match sent.result {
            Ok(()) => {
                if n_failed > 0 {
                    tracing::info!(
                        event = "notify.recovered",
                        receiver = name,
                        failures = n_failed,
                        "{name} takes notices again"
                    );
                }
                lane.done();
                self.outbox.done(&id, &name);
            }
            Err(failure) => {
                let age = made(notice).map(|made| now.wall.signed_duration_since(made));
                let is_old = age.is_none_or(|age| age > MAX_AGE);
                let attempts = self
                    .receivers
                    .get(&name)
                    .map_or(u32::MAX, |r| r.max_attempts());
                if failure.is_final || is_old || n_failed + 1 >= attempts {
                    tracing::error!(
                        event = "notify.given_up",
                        receiver = name,
                        notice = id,
                        reason = failure.why,
                        "a notice to {name} is given up: {}",
                        notice["message"].as_str().unwrap_or_default()
                    );
                    lane.done();
                    self.outbox.done(&id, &name);
                    return;
                }
                if n_failed == 0 {
                    tracing::warn!(
                        event = "notify.failed",
                        receiver = name,
                        reason = failure.why,
                        "{name} cannot be told now: it is tried again"
                    );
                }
                lane.failed(now.tick, dice(), failure.asked);
            }
        }
    }
}

/// The name under which notices for the command wait; no webhook may have it.
pub const EXEC: &str = "exec";

/// A number that nobody can foretell, which is all that jitter needs.
fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}
