//! Work beside the engine: walking, reading (but for first, small reads), removing. Never on the
//! engine's thread, never
//! real-time.
//!
//! Two threads look (a scan spreads over further ones), two remove, or as many as there are cores
//! up to [`MAX_REMOVERS`]. All are of the ordinary class, and who removes leaves three quarters of
//! its time to others. Where the trash grows too big they go before everybody else in it, as far
//! as the host lets them: what others write is bounded by what can be removed, and a core that is
//! left to them fills the disk. Orders wait in channels without a bound of their own: the engine
//! has at most one full scan, one read for each session, [`crate::engine`]'s bounded part scans,
//! one removal for each victim under way and one order for each file with names elsewhere that it
//! keeps in mind.
//! Answers wait in a bounded channel, and whoever sends one waits for room: that is what keeps
//! a walk from filling the memory while the engine is busy.

use crate::agent::apart::CookieAt;
use crate::agent::barrier::Answer;
use crate::agent::documents;
use crate::agent::kept;
use crate::agent::mailbox::{Inbox, Outbox, mailbox};
use crate::disk::brief::{Brief, list_briefly};
use crate::disk::catalogue_edit;
use crate::disk::cookie;
use crate::disk::empty;
use crate::disk::in_place;
use crate::disk::measure::measured;
use crate::disk::remove;
use crate::disk::tree::{CONTROL, Tree};
use crate::disk::walk::{Aides, walk};
use crate::engine::{AnomalyRow, Input, ReadOrder};
use crate::layout::{Layout, catalog};
use crate::model::bytes::{Measure, Tally};
use crate::model::lifecycle::{LifeOrder, LifeReport, PartsOrder};
use crate::model::listing::{Listing, ScanOrder};
use crate::model::path::{RelPath, unescape};
use crate::model::report::{Aside, Removed, Unlist};
use crate::model::seen::FileId;
use crate::model::session::Key;
use crate::model::time::Clock;
use crate::model::watcher::{Watch, Watcher};
use crate::policy::lifecycle::Lifecycle;
use crate::prune::intent::{Intent, Work};
use crate::prune::lifecycle::Keeping;
use crate::prune::rest::{Beside, hold};
use crate::sched::{Nice, ThreadId};
use crate::store::state::RootState;
use crate::watch::dirty::Waker;
use crate::watch::mounts;
use crossbeam_channel::{Sender, unbounded};
use rustix::fd::{AsFd, BorrowedFd};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Answers that may wait for the engine.
const MAX_ANSWERS: usize = 64;
const N_LOOKERS: usize = 2;
/// What was found in the trash is known to the engine so many at a time.
const MEASURED_AT_ONCE: usize = 64;
const MIN_REMOVERS: usize = 2;
const MAX_REMOVERS: usize = 8;
/// How nice the threads are where the trash is too big.
const IN_A_HURRY: Nice = Nice(-20);
/// A remover that is in no hurry rests so many times as long as it worked ...
const RESTS: u32 = 3;
/// ... and at most so long.
const LONGEST_REST: Duration = Duration::from_millis(20);
/// Strangers in the trash that are told of.
const MAX_STRANGERS: usize = 1000;
/// One cookie is out at a time.
const MAX_COOKIES: usize = 4;

enum Looking {
    Scan(ScanOrder),
    Read(ReadOrder),
    /// A session is looked through for parts.
    Parts(PartsOrder, Lifecycle),
    /// What is mounted below the root.
    Mounts,
    /// A file has names elsewhere: the source is told.
    Follow {
        dir: RelPath,
        name: Box<[u8]>,
        id: FileId,
    },
    /// Watch `.housekeeper/`.
    WatchControl,
    /// Write down since when what is wrong has been so.
    Keep(RootState, Arc<[AnomalyRow]>),
    /// Make a file of this name, for the source to tell of.
    Lay(String, CookieAt),
}

enum Removing {
    Unwatch(Vec<(RelPath, Watch)>),
    Reap {
        aside: Vec<Aside>,
        watches: Vec<(RelPath, Watch)>,
    },
    /// Set aside by an earlier run.
    Found(Vec<Aside>, Measure),
    InPlace(Box<Intent>),
    Empty(RelPath),
    Unlist(Vec<Key>),
    Live(Box<LifeOrder>, Lifecycle),
}

/// What the threads of one root share.
struct Shop {
    tree: Arc<Tree>,
    layout: Arc<Layout>,
    clock: Arc<dyn Clock>,
    watcher: RwLock<Option<Arc<dyn Watcher>>>,
    stop: AtomicBool,
    n_removing: AtomicUsize,
    hurries: AtomicBool,
    answers: Outbox<Input>,
    cookies: Outbox<Answer>,
    /// Poked after each answer, where nobody waits on the channel itself.
    wake: Option<Waker>,
}

/// The threads of one root.
pub struct Jobs {
    shop: Arc<Shop>,
    /// The same as the shop's, for the engine's own thread.
    watcher: Option<Arc<dyn Watcher>>,
    looking: Option<Sender<Looking>>,
    removing: Option<Sender<Removing>>,
    /// What came of orders about cookies.
    cookies: Inbox<Answer>,
    threads: Vec<JoinHandle<()>>,
    /// Each thread's id once it runs.
    ids: Vec<Arc<OnceLock<ThreadId>>>,
    ordinary: Nice,
    hurries: bool,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs")
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

impl Jobs {
    /// Starts the threads. Their answers come through the receiver.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(
        tree: Arc<Tree>,
        layout: Arc<Layout>,
        clock: Arc<dyn Clock>,
        watcher: Option<Arc<dyn Watcher>>,
        wake: Option<Waker>,
    ) -> std::io::Result<(Self, Inbox<Input>)> {
        let (answers, answered) = mailbox(MAX_ANSWERS);
        let (cookies, cookie_answers) = mailbox(MAX_COOKIES);
        let shop = Arc::new(Shop {
            tree,
            layout,
            clock,
            watcher: RwLock::new(watcher.clone()),
            stop: AtomicBool::new(false),
            n_removing: AtomicUsize::new(0),
            hurries: AtomicBool::new(false),
            answers,
            cookies,
            wake,
        });
        let (looking, look) = unbounded();
        let (removing, remove) = unbounded();
        let mut jobs = Self {
            shop,
            watcher,
            looking: Some(looking),
            removing: Some(removing),
            cookies: cookie_answers,
            threads: Vec::new(),
            ids: Vec::new(),
            ordinary: Nice::of_process(),
            hurries: false,
        };
        for _ in 0..N_LOOKERS {
            let (shop, orders) = (jobs.shop.clone(), look.clone());
            jobs.spawn("looker", move || {
                orders.iter().for_each(|order| shop.look(order))
            })?;
        }
        let n_cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..n_cores.clamp(MIN_REMOVERS, MAX_REMOVERS) {
            let (shop, orders) = (jobs.shop.clone(), remove.clone());
            jobs.spawn("remover", move || {
                orders.iter().for_each(|order| shop.remove(order))
            })?;
        }
        Ok((jobs, answered))
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let id = Arc::new(OnceLock::new());
        let itself = id.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                itself.get_or_init(ThreadId::current);
                run();
            })?;
        self.threads.push(thread);
        self.ids.push(id);
        Ok(())
    }

    /// Whether the threads go before everybody else.
    pub(super) fn hurries(&self) -> bool {
        self.hurries
    }

    /// The trash is too big, or is no more. Who reads and lists goes first as well: what it would
    /// wait for is more removals.
    pub(super) fn hurry(&mut self, hurries: bool) {
        if self.hurries == hurries {
            return;
        }
        self.hurries = hurries;
        self.shop.hurries.store(hurries, Ordering::Relaxed);
        let nice = if hurries { IN_A_HURRY } else { self.ordinary };
        for id in self.ids.iter().filter_map(|id| id.get()) {
            if let Err(errno) = id.set_nice(nice) {
                // Without the right to it the trash is emptied as fast as others let it.
                tracing::debug!(errno, "a thread's niceness could not be set");
            }
        }
    }

    fn look(&self, order: Looking) {
        if let Some(looking) = &self.looking {
            // Fails only when the threads are gone, at the end of the root.
            if looking.send(order).is_err() {
                self.shop.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn remove(&self, order: Removing) {
        self.shop.n_removing.fetch_add(1, Ordering::AcqRel);
        if self
            .removing
            .as_ref()
            .is_none_or(|removing| removing.send(order).is_err())
        {
            self.shop.n_removing.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub fn scan(&self, order: ScanOrder) {
        self.look(Looking::Scan(order));
    }

    /// Lists one directory here and now, if that takes no longer than a look or two.
    pub(super) fn list_briefly(&self, order: &ScanOrder) -> Option<Brief> {
        let watcher = self.watcher.as_deref()?;
        list_briefly(&self.shop.tree, order, watcher)
    }

    pub fn read(&self, order: ReadOrder) {
        self.look(Looking::Read(order));
    }

    pub fn find_parts(&self, order: PartsOrder, rules: Lifecycle) {
        self.look(Looking::Parts(order, rules));
    }

    /// Carries out a step of a session's life, by these rules.
    pub fn live(&self, order: LifeOrder, rules: Lifecycle) {
        self.remove(Removing::Live(Box::new(order), rules));
    }

    pub fn keep_anomalies(&self, state: RootState, known: Arc<[AnomalyRow]>) {
        self.look(Looking::Keep(state, known));
    }

    pub fn mounts(&self) {
        self.look(Looking::Mounts);
    }

    pub fn follow(&self, dir: RelPath, name: Box<[u8]>, id: FileId) {
        if self.shop.watcher().is_some() {
            self.look(Looking::Follow { dir, name, id });
        }
    }

    pub(super) fn watch_control(&self) {
        self.look(Looking::WatchControl);
    }

    pub(super) fn unwatch_control(&self, watch: Watch) {
        if let Ok(control) = RelPath::new(CONTROL.as_bytes()) {
            self.unwatch(vec![(control, watch)]);
        }
    }

    pub(super) fn lay(&self, cookie: String, at: CookieAt) {
        self.look(Looking::Lay(cookie, at));
    }

    /// What came of an order about cookies.
    pub(super) fn take_cookie(&self) -> Option<Answer> {
        self.cookies.try_take()
    }

    pub fn unwatch(&self, watches: Vec<(RelPath, Watch)>) {
        if self.shop.watcher().is_some() {
            self.remove(Removing::Unwatch(watches));
        }
    }

    pub fn reap(&self, aside: Vec<Aside>, watches: Vec<(RelPath, Watch)>) {
        self.remove(Removing::Reap { aside, watches });
    }

    /// Something was set aside by an earlier run: it is measured, and then to be reaped.
    pub fn found(&self, asides: Vec<Aside>, measure: Measure) {
        for asides in asides.chunks(MEASURED_AT_ONCE) {
            self.remove(Removing::Found(asides.to_vec(), measure));
        }
    }

    pub fn remove_in_place(&self, intent: Intent) {
        self.remove(Removing::InPlace(Box::new(intent)));
    }

    pub fn remove_empty(&self, dir: RelPath) {
        self.remove(Removing::Empty(dir));
    }

    pub fn unlist(&self, keys: Vec<Key>) {
        self.remove(Removing::Unlist(keys));
    }

    /// From now on this one watches; what the one before has placed ends with it.
    pub(super) fn watch_with(&mut self, watcher: Option<Arc<dyn Watcher>>) {
        self.watcher.clone_from(&watcher);
        let mut place = self
            .shop
            .watcher
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = watcher;
    }

    /// How many removals wait or run.
    pub fn n_removing(&self) -> usize {
        self.shop.n_removing.load(Ordering::Acquire)
    }

    /// Ends walks under way; what is being removed goes on.
    pub fn stop_looking(&self) {
        self.shop.stop.store(true, Ordering::Relaxed);
    }

    /// Takes no more orders and waits for the threads. The receiver of answers must be
    /// dropped or read meanwhile.
    pub fn join(mut self) {
        self.stop_looking();
        self.looking = None;
        self.removing = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(event = "thread.panicked", "a thread of a root panicked");
            }
        }
    }
}

impl Shop {
    fn watcher(&self) -> Option<Arc<dyn Watcher>> {
        self.watcher
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// `false`: nobody listens any more.
    fn answer(&self, input: Input) -> bool {
        let sent = self.answers.send(input);
        if let Some(wake) = &self.wake {
            wake.poke();
        }
        sent
    }

    /// Answers with what lies in the trash and is nobody's victim.
    fn tell_strangers(&self) {
        match remove::strangers(&self.tree, MAX_STRANGERS) {
            Ok(found) => {
                let place = |(path, tally): (String, Tally)| {
                    let path = [CONTROL.as_bytes(), &unescape(&path)].join(&b'/');
                    Some((RelPath::new(&path).ok()?, tally))
                };
                let found = found.into_iter().filter_map(place).collect();
                self.answer(Input::Strangers(found));
            }
            Err(error) => tracing::debug!(%error, "the trash is not searched for strangers"),
        }
    }

    fn look(&self, order: Looking) {
        match order {
            Looking::Scan(order) => {
                // A new directory is small; a whole root is spread over the cores.
                let is_whole = order.at.is_root();
                let n_threads = if is_whole { N_LOOKERS } else { 1 };
                if is_whole {
                    // Before what is found, so that the scan's end knows of them.
                    self.tell_strangers();
                }
                let (tree, layout, clock) = (&self.tree, &self.layout, &*self.clock);
                let gather = |listed: &Listing, dir: BorrowedFd<'_>| {
                    documents::gather(tree, layout, clock, listed, dir)
                };
                let watcher = self.watcher();
                let aides = Aides {
                    watcher: watcher.as_deref(),
                    gather: Some(&gather),
                };
                walk(tree, &order, aides, n_threads, &self.stop, &|walked| {
                    self.answer(Input::Walked(walked))
                });
            }
            Looking::Read(order) => {
                self.answer(documents::read(
                    &self.tree,
                    &self.layout,
                    &*self.clock,
                    order,
                ));
            }
            Looking::Parts(order, rules) => {
                let seen = self.keeping(&rules).find_parts(&order, self.clock.now());
                let seen = seen.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
                let session = order.session;
                self.answer(Input::Parts { session, seen });
            }
            Looking::Keep(state, known) => {
                let known = known.iter();
                let known = known.map(|row| (row.kind, row.path.clone(), row.first_seen));
                if let Err(error) = state.keep_anomalies(known.collect()) {
                    tracing::warn!(
                        event = "state.unwritten",
                        error = %error,
                        "since when something has been wrong could not be written down"
                    );
                }
            }
            Looking::Mounts => match mounts::below(self.tree.root()) {
                Ok(points) => {
                    self.answer(Input::Mounted(points));
                }
                Err(error) => tracing::debug!(%error, "mounts are met by scans only"),
            },
            Looking::Follow { dir, name, id } => self.follow(&dir, &name, id),
            Looking::WatchControl => {
                let watched = self.watch_control();
                self.tell_cookie(watched.map_or(Answer::Unable, Answer::Watched));
            }
            Looking::Lay(name, at) => {
                let laid = self.lay(&name, at).map_or_else(
                    |errno| {
                        tracing::debug!(%errno, "no cookie can be laid");
                        Answer::Unable
                    },
                    |()| Answer::Laid,
                );
                self.tell_cookie(laid);
            }
        }
    }

    fn follow(&self, dir: &RelPath, name: &[u8], id: FileId) {
        if let Some(watcher) = self.watcher() {
            match self.tree.open_place(dir) {
                Ok(dir) => watcher.follow(dir.as_fd(), name, id),
                // Moved or gone meanwhile: where it is now, it is met again.
                Err(errno) => tracing::debug!(%errno, "a file cannot be followed"),
            }
        }
    }

    fn watch_control(&self) -> Option<Watch> {
        let watcher = self.watcher()?;
        let path = RelPath::new(CONTROL.as_bytes()).ok()?;
        let control = match self.tree.existing_control() {
            Ok(control) => control?,
            Err(error) => {
                tracing::debug!(%error, "no cookie can be laid");
                return None;
            }
        };
        match watcher.watch(&path, control.dir(), control.id()) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::debug!(%error, "no cookie can be watched for");
                None
            }
        }
    }

    fn lay(&self, name: &str, at: CookieAt) -> rustix::io::Result<()> {
        let control = match at {
            CookieAt::Control => self.tree.existing_control(),
            CookieAt::Root => return cookie::lay(self.tree.root(), name),
        };
        match control.ok().flatten() {
            Some(control) => cookie::lay(control.dir(), name),
            None => Err(rustix::io::Errno::NOENT),
        }
    }

    fn tell_cookie(&self, answer: Answer) {
        // Fails only when nobody listens any more, at the end of the root.
        if self.cookies.send(answer)
            && let Some(wake) = &self.wake
        {
            wake.poke();
        }
    }

    /// Leaves the cores to others for a while: what is in the trash is gone already. Not where
    /// the trash is too big, and not where somebody waits for the end of it.
    fn rest_after(&self, worked: Duration) {
        let is_waited_for = self.wake.is_none() || self.stop.load(Ordering::Relaxed);
        if !is_waited_for && !self.hurries.load(Ordering::Relaxed) {
            std::thread::sleep((worked * RESTS).min(LONGEST_REST));
        }
    }

    fn remove(&self, order: Removing) {
        match order {
            Removing::Unwatch(watches) => self.unwatch(&watches),
            Removing::Reap { aside, watches } => {
                // Unwatched first: notify takes a pass over all watches for each directory
                // that goes while it is watched.
                self.unwatch(&watches);
                for name in &aside {
                    let began = Instant::now();
                    self.answer(Input::Removed(remove::remove_aside(&self.tree, name)));
                    kept::forget(&self.tree, name);
                    self.rest_after(began.elapsed());
                }
            }
            Removing::Found(asides, measure) => {
                let measured = |aside: Aside| {
                    let bytes = measured(&self.tree, &aside).bytes(measure);
                    (aside, bytes)
                };
                let found = asides.into_iter().map(measured).collect();
                self.answer(Input::Found(found));
            }
            Removing::InPlace(intent) => {
                // The executor's locks ended with its report.
                let left = match hold(
                    &self.tree,
                    &self.layout,
                    &intent,
                    Beside::Engine,
                    self.clock.now(),
                ) {
                    Ok(_held) => finish_in_place(&self.tree, &intent),
                    Err(why) => vec![(intent.path.to_string(), why.errno())],
                };
                let key = intent.key.clone();
                self.answer(Input::Removed(Removed::InPlace { key, left }));
            }
            Removing::Empty(dir) => {
                empty::remove_empty(&self.tree, &dir);
            }
            Removing::Unlist(keys) => {
                let result = self.unlist(&keys);
                self.answer(Input::Removed(Removed::Unlisted { keys, result }));
            }
            Removing::Live(order, rules) => {
                let outcome = self.keeping(&rules).carry_out(&order, self.clock.now());
                let transition = order.transition;
                self.answer(Input::Lived(Box::new(LifeReport {
                    transition,
                    outcome,
                })));
            }
        }
        self.n_removing.fetch_sub(1, Ordering::AcqRel);
    }

    fn unwatch(&self, watches: &[(RelPath, Watch)]) {
        if let Some(watcher) = self.watcher() {
            for (dir, watch) in watches {
                watcher.unwatch(dir, *watch);
            }
        }
    }

    fn keeping<'a>(&'a self, rules: &'a Lifecycle) -> Keeping<'a, Tree> {
        Keeping {
            disk: &self.tree,
            layout: &self.layout,
            rules,
        }
    }

    fn unlist(&self, keys: &[Key]) -> Unlist {
        let Some(name) = self.layout.catalogue() else {
            return Unlist::Done;
        };
        let mut unparsable = false;
        let result = catalogue_edit::edit_catalogue(&self.tree, name, &mut |text| {
            catalog::without(text, keys).unwrap_or_else(|_| {
                unparsable = true;
                None
            })
        });
        if unparsable {
            Unlist::Unparsable
        } else {
            result
        }
    }
}

/// Removes what an intent names where it lies, under the locks of [`hold`]. Answers what is left,
/// with the errno.
pub(super) fn finish_in_place(tree: &Tree, intent: &Intent) -> Vec<(String, i32)> {
    match &intent.work {
        Work::Blobs(blobs) => in_place::remove_files_in_place(tree, &intent.path, blobs),
        Work::InPlace { inode, last } => {
            in_place::remove_in_place(tree, &intent.path, *inode, last)
        }
    }
}
