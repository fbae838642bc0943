//! Who is to run now. Sans-IO like the engine: [`Dispatcher::handle`] is told what happened and
//! answers what to start or stop; it asks for its next turn by [`Dispatcher::wake_at`].
//!
//! - At most [`Limits::concurrent`] run at once; of those that wait the lowest priority number goes
//!   first, then who was due first.
//! - Nothing overlaps itself: what is due while it still runs is skipped, and said.
//! - What was due while nobody looked (downtime, sleep, a clock set forward) is one run.
//! - A clock set back runs nothing again that ran ([`super::lived`]). Intervals follow the time
//!   since boot, whatever a clock shows.
//! - A run that takes longer than [`Limits::timeout`] is told to stop and gives its place to
//!   others: one hanging disk stops no other clean-up. It starts again only after it has ended.
//!
//! Bounds: one entry for each registration and one for each run that has not ended; a registration
//! waits once at most. A turn looks at every registration.

use crate::model::time::{Now, Tick, Time};
use crate::schedule::Schedule;
use crate::schedule::lived::Lived;
use chrono::TimeDelta;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

/// The wall clock is looked at that often while a registration waits for it: it may be set.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);
/// What starts later than this after its time was missed.
const LATE: Duration = Duration::from_secs(90);
/// A last run may lie so far in the future that the clock was set back since; one beyond was
/// dated by a clock that was wrong, and holds nothing up.
const SET_BACK: TimeDelta = TimeDelta::days(1);

/// `[registry] concurrent_cleanups` and `job_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub concurrent: NonZeroUsize,
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
            timeout: Duration::from_secs(300),
        }
    }
}

/// What is to run again and again.
#[derive(Debug, Clone)]
pub struct Job {
    pub schedule: Schedule,
    /// Lower first.
    pub priority: i64,
    /// What was due up to then has run: the time its last run began, or when it was registered.
    pub since: Time,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input<K> {
    /// New, or with another schedule than before. What waits goes on waiting.
    Registered(K, Job),
    /// A run of it is told to stop.
    Removed(K),
    /// Somebody wants it to run now. Nothing happens where it runs or waits already.
    Asked(K),
    /// A run has ended, however.
    Finished(K),
    /// Time has passed.
    Woken,
}

/// Why something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Due,
    /// Its time passed while nobody looked.
    Missed,
    Asked,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<K> {
    /// [`Input::Finished`] must follow.
    Start { key: K, cause: Cause, due: Time },
    /// It runs for too long, or was removed. [`Input::Finished`] must follow all the same.
    Stop { key: K },
    /// It was due while it still ran.
    Skipped { key: K, due: Time },
}

#[derive(Debug, Clone, Copy)]
enum Due {
    Never,
    Wall(Time),
    Tick(Tick),
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    cause: Cause,
    due: Time,
}

#[derive(Debug)]
struct Entry {
    job: Job,
    due: Due,
    waiting: Option<Waiting>,
}

/// A run that has not ended.
#[derive(Debug)]
struct Running {
    /// `None`: it was told to stop, and has no place any more.
    until: Option<Tick>,
}

/// See the module. `K` names a registration.
#[derive(Debug)]
pub struct Dispatcher<K> {
    limits: Limits,
    entries: BTreeMap<K, Entry>,
    running: BTreeMap<K, Running>,
    lived: Lived,
    now: Now,
}

impl<K: Ord + Clone> Dispatcher<K> {
    pub fn new(limits: Limits, now: Now) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            running: BTreeMap::new(),
            lived: Lived::new(now),
            now,
        }
    }

    /// Holds for what starts from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What to do, in this order.
    pub fn handle(&mut self, now: Now, input: Input<K>) -> Vec<Effect<K>> {
        let mut out = Vec::new();
        let was_set = self.lived.go_on(now);
        self.now = now;
        if was_set {
            self.look_anew();
        }
        match input {
            Input::Registered(key, job) => self.register(key, job),
            Input::Removed(key) => {
                self.entries.remove(&key);
                self.stop(&key, &mut out);
            }
            Input::Asked(key) => self.ask(&key),
            Input::Finished(key) => {
                self.running.remove(&key);
            }
            Input::Woken => {}
        }
        self.notice_due(&mut out);
        self.stop_late(&mut out);
        self.start(&mut out);
        out
    }

    /// When [`Input::Woken`] is due at the latest; always later than the last turn.
    pub fn wake_at(&self) -> Option<Tick> {
        let dues = self.entries.values().filter_map(|entry| match entry.due {
            Due::Never => None,
            Due::Tick(at) => Some(at),
            Due::Wall(at) => {
                let wait = at.signed_duration_since(self.now.wall).to_std();
                let wait = wait.unwrap_or_default().min(LOOK_AT_CLOCK);
                Some(self.now.tick.after(wait.max(Duration::from_millis(1))))
            }
        });
        let ends = self.running.values().filter_map(|run| run.until);
        dues.chain(ends).min()
    }

    /// When a registration runs next, unless it is asked for: on the wall.
    pub fn next_of(&self, key: &K) -> Option<Time> {
        match self.entries.get(key)?.due {
            Due::Never => None,
            Due::Wall(at) => Some(at),
            Due::Tick(at) => {
                let wait = TimeDelta::from_std(at.since(self.now.tick)).ok()?;
                self.now.wall.checked_add_signed(wait)
            }
        }
    }

    /// How many are due and wait for a place.
    pub fn n_waiting(&self) -> usize {
        let waiting = |entry: &&Entry| entry.waiting.is_some();
        self.entries.values().filter(waiting).count()
    }

    fn register(&mut self, key: K, job: Job) {
        let mut waiting = self.entries.get(&key).and_then(|entry| entry.waiting);
        let due = match job.schedule.every() {
            Some(every) => {
                let passed = self.now.wall.signed_duration_since(job.since);
                let passed = passed.to_std().unwrap_or_default();
                if passed > every.saturating_add(LATE) && !self.running.contains_key(&key) {
                    let due = job.schedule.next_after(job.since).unwrap_or(self.now.wall);
                    let cause = Cause::Missed;
                    waiting.get_or_insert(Waiting { cause, due });
                    Due::Tick(self.now.tick.after(every))
                } else {
                    Due::Tick(self.now.tick.after(every.saturating_sub(passed)))
                }
            }
            None => {
                let settled = job.since.min(self.now.wall);
                self.due_after(&job.schedule, self.settled_of(&job, settled))
            }
        };
        let entry = Entry { job, due, waiting };
        self.entries.insert(key, entry);
    }

    /// The clock was set back while the agent was down: the last run holds still.
    fn settled_of(&self, job: &Job, settled: Time) -> Time {
        let ahead = job.since.signed_duration_since(self.now.wall);
        if TimeDelta::zero() < ahead && ahead <= SET_BACK {
            return settled.max(job.since);
        }
        settled
    }

    /// What a schedule of the wall clock says after `settled`, what was lived through left out.
    fn due_after(&self, schedule: &Schedule, mut settled: Time) -> Due {
        // Each turn passes a stretch, of which there are few.
        loop {
            let Some(due) = schedule.next_after(settled) else {
                return Due::Never;
            };
            match self.lived.settled_until(due) {
                Some(until) if due > self.now.wall => settled = until.max(due),
                Some(_) | None => return Due::Wall(due),
            }
        }
    }

    /// The wall clock was set.
    fn look_anew(&mut self) {
        let wall = self.now.wall;
        let settled = match self.lived.settled_until(wall) {
            Some(until) if until > wall => until,
            Some(_) | None => self.lived.before(wall).unwrap_or(wall),
        };
        let dues: Vec<Due> = self
            .entries
            .values()
            .map(|entry| match entry.due {
                Due::Wall(_) | Due::Never => {
                    let settled = self.settled_of(&entry.job, settled);
                    self.due_after(&entry.job.schedule, settled)
                }
                Due::Tick(at) => Due::Tick(at),
            })
            .collect();
        for (entry, due) in self.entries.values_mut().zip(dues) {
            entry.due = due;
        }
    }

    fn ask(&mut self, key: &K) {
        let due = self.now.wall;
        if self.running.contains_key(key) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(key) {
            entry.waiting.get_or_insert(Waiting {
                cause: Cause::Asked,
                due,
            });
        }
    }

    /// Lets wait what is due.
    fn notice_due(&mut self, out: &mut Vec<Effect<K>>) {
        let now = self.now;
        let is_due = |entry: &Entry| match entry.due {
            Due::Never => false,
            Due::Wall(at) => at <= now.wall,
            Due::Tick(at) => at <= now.tick,
        };
        let due = self.entries.iter().filter(|(_, entry)| is_due(entry));
        let due: Vec<K> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(entry) = self.entries.get(&key) else {
                continue;
            };
            let (at, next) = match entry.due {
                Due::Never => continue,
                Due::Wall(at) => (at, self.due_after(&entry.job.schedule, now.wall)),
                Due::Tick(at) => {
                    let late = TimeDelta::from_std(now.tick.since(at)).unwrap_or_default();
                    let every = entry.job.schedule.every().unwrap_or(LOOK_AT_CLOCK);
                    let next = Some(at.after(every)).filter(|next| *next > now.tick);
                    let next = next.unwrap_or_else(|| now.tick.after(every));
                    (now.wall - late, Due::Tick(next))
                }
            };
            let runs = self.running.contains_key(&key);
            if runs {
                out.push(Effect::Skipped {
                    key: key.clone(),
                    due: at,
                });
            }
            let late = now.wall.signed_duration_since(at).to_std();
            let cause = match late {
                Ok(late) if late > LATE => Cause::Missed,
                Ok(_) | Err(_) => Cause::Due,
            };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.due = next;
                if !runs {
                    entry.waiting.get_or_insert(Waiting { cause, due: at });
                }
            }
        }
    }

    fn stop_late(&mut self, out: &mut Vec<Effect<K>>) {
        let tick = self.now.tick;
        let late = self
            .running
            .iter()
            .filter(|(_, run)| run.until.is_some_and(|at| at <= tick));
        let late: Vec<K> = late.map(|(key, _)| key.clone()).collect();
        for key in late {
            self.stop(&key, out);
        }
    }

    /// Once a run.
    fn stop(&mut self, key: &K, out: &mut Vec<Effect<K>>) {
        let run = self.running.get_mut(key);
        if run.is_some_and(|run| run.until.take().is_some()) {
            out.push(Effect::Stop { key: key.clone() });
        }
    }

    fn start(&mut self, out: &mut Vec<Effect<K>>) {
        loop {
            let n_running = self
                .running
                .values()
                .filter(|run| run.until.is_some())
                .count();
            if n_running >= self.limits.concurrent.get() {
                return;
            }
            let waiting = self.entries.iter().filter_map(|(key, entry)| {
                let waiting = entry.waiting.filter(|_| !self.running.contains_key(key))?;
                Some(((entry.job.priority, waiting.due, key), waiting))
            });
            let Some(((_, _, key), waiting)) = waiting.min_by(|a, b| a.0.cmp(&b.0)) else {
                return;
            };
            let key = key.clone();
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.waiting = None;
            }
            let until = Some(self.now.tick.after(self.limits.timeout));
            self.running.insert(key.clone(), Running { until });
            let Waiting { cause, due } = waiting;
            out.push(Effect::Start { key, cause, due });
        }
    }
}

#[cfg(test)]
mod tests;
