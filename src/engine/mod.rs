//! The mind of one root. Sans-IO: inputs in, effects out; no clock, disk, lock or log inside.
//!
//! Hints are never facts: each one becomes a [`Effect::Look`], and only what the disk answers
//! changes the index. A scan is a list of hints with evidence: where it agrees with the index
//! nothing happens, where it tells something new about a place nobody looked at since the
//! scan began it is believed, everywhere else the engine looks again.

mod anomalies;
mod beside;
mod burst;
mod clock_gate;
mod confirming;
mod deciding;
mod guard;
mod haste;
mod hinting;
mod hot;
mod inventory;
mod kept;
mod lifecycle;
mod listing;
mod living;
mod looking;
mod measuring;
pub mod outlook;
mod parts;
mod pinning;
mod reading;
mod scanning;
mod skipping;
mod stranded;
mod unlisting;
mod usage;

pub use inventory::{AnomalyRow, SessionRow};

use crate::index::Index;
use crate::layout::{CatalogSeen, Layout};
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::{Bytes, Tally};
use crate::model::fact::{Fact, ScanCause};
use crate::model::hint::Hint;
use crate::model::lifecycle::{LifeOrder, LifeReport, PartsOrder, PartsSeen};
use crate::model::listing::{ScanOrder, Walked};
use crate::model::path::RelPath;
use crate::model::pin::Pins;
use crate::model::place::{DirId, Look, MountPoint};
use crate::model::plan::{Blocker, Held, ReadAs, Victim};
use crate::model::report::{Aside, AsideName, LockTry, LockWait, Removed, Report};
use crate::model::seen::{FileId, Seen, Signature, Stat};
use crate::model::session::{Facts, Key, SessionId};
use crate::model::time::{Now, Tick, Time, sooner};
use crate::model::watcher::{DirKey, Watch};
use crate::policy::lifecycle::Lifecycle;
use crate::policy::limits::{Headroom, Limits, Protect};
use crate::policy::pace::Pace;
use anomalies::Places;
use clock_gate::ClockGate;
use deciding::Deciding;
use guard::Guard;
use haste::Stage;
use kept::Kept;
use listing::InListing;
use living::Living;
use pinning::Pinning;
use reading::Reading;
use scanning::Scanning;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use unlisting::Unlisting;

/// What one root is held to.
#[derive(Debug, Clone)]
pub struct Rules {
    pub layout: Arc<Layout>,
    pub limits: Limits,
    pub protect: Protect,
    pub lifecycle: Lifecycle,
    /// `false`: decides and reports, removes nothing.
    pub enforce: bool,
    /// Plans and totals speak of this group only.
    pub group: Option<Arc<str>>,
    pub rescan_interval: Duration,
    /// Whether a first plan that takes more than half is carried out without being accepted.
    pub first_start_enforce: bool,
    /// How long what age, count or failure took may come back. Zero: not at all.
    pub trash_keep: Duration,
}

/// What the outside may ask for.
#[derive(Debug, Clone)]
pub enum Command {
    Rescan,
    /// Lets a held root run.
    Accept,
    SetRules(Box<Rules>),
    /// Nobody gives hints: scan at a pace.
    Poll,
    /// Another source gives the hints from now on; the old one's watches and keys mean nothing
    /// to it, and what happened between the two is lost.
    NewSource,
    /// Know when a file has moved also where nobody tells: before a command that removes scans.
    FollowFiles,
    /// Keep guard against what no hint tells: not in a command that ends by itself.
    Guard,
    /// This one comes back from the trash: it counts there no more, before it counts as a session
    /// again.
    Restoring(AsideName),
    /// It did not.
    NotRestored(AsideName, Bytes),
    /// These sessions are pinned from now on, and no others.
    SetPins(Arc<Pins>),
    /// No new decisions from now on.
    Stop,
}

/// Why the catalogue says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogTrouble {
    Absent,
    Unreadable,
    /// It does not parse, or is no object: perhaps half written.
    Corrupt(String),
}

/// What was read.
#[derive(Debug, Clone)]
pub enum ReadOf {
    Session {
        session: SessionId,
        facts: Facts,
        proofs: Vec<ReadAs>,
    },
    Catalogue {
        signature: Option<Signature>,
        seen: Result<CatalogSeen, CatalogTrouble>,
    },
}

/// Everything that can happen to an engine.
#[derive(Debug, Clone)]
pub enum Input {
    Hint(Hint),
    Looked(Look, Seen),
    /// The directory of the look is not where the index has it. What follows from this is
    /// carried out before all other effects.
    Astray(Look),
    /// All hints at hand were handled.
    Drained,
    /// In the order in which it was seen.
    Walked(Vec<Walked>),
    Read {
        seq: u64,
        of: ReadOf,
    },
    /// All hints of what happened before [`Effect::Confirm`] were handled.
    Confirmed,
    Lock(LockTry),
    Report(Box<Report>),
    Removed(Removed),
    /// What an earlier run set aside and did not remove, with its bytes.
    Found(Vec<(Aside, Bytes)>),
    /// What an earlier run kept, with its bytes.
    Kept(Vec<(AsideName, Bytes)>),
    /// What was found of a session's parts; `Err`: the errno.
    Parts {
        session: SessionId,
        seen: Result<PartsSeen, i32>,
    },
    Lived(Box<LifeReport>),
    Command(Command),
    /// How many bytes the root's file system has in use; `None`: it does not say.
    Measured(Option<u64>),
    /// All that is mounted below the root.
    Mounted(BTreeSet<MountPoint>),
    /// What lies in the trash, is nobody's victim and stays there.
    Strangers(Vec<(RelPath, Tally)>),
    /// The time of [`Engine::wake_at`] has come.
    Wake,
}

/// What to read: a session's documents, or the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOrder {
    pub seq: u64,
    /// `None`: the catalogue.
    pub session: Option<(SessionId, Key)>,
    pub dir: RelPath,
    /// Whose times are asked for, too.
    pub inode: Option<RelPath>,
    /// Nothing is known of the session yet, and what is decided waits for it: a small read is to be
    /// done here and now, before what follows. At most once for each session and hint: no look
    /// that a read asks for leads here.
    pub at_once: bool,
}

/// What the shell has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Look(Look),
    /// The directory's slot may be used for another one: close what is kept open for it.
    Forget(u32),
    Unwatch(Vec<(RelPath, Watch)>),
    Scan(ScanOrder),
    Read(ReadOrder),
    /// Answer with [`Input::Confirmed`] when all that happened up to now has been handed over.
    Confirm,
    /// Try for the root's lock and answer with [`Input::Lock`].
    Lock,
    Unlock,
    /// Answer with [`Input::Report`].
    Remove(Box<Victim>),
    /// End the watches, then remove what was set aside.
    Reap {
        aside: Vec<Aside>,
        watches: Vec<(RelPath, Watch)>,
    },
    /// Remove for good what was kept.
    LetGo(Vec<AsideName>),
    /// Judge what a killed run left beside its place, under the lock, and remove it; where the
    /// lock cannot be had the next scan meets it again.
    FinishAsides {
        asides: Vec<Aside>,
        /// Others follow.
        more: bool,
    },
    /// Remove where it lies, metadata last.
    RemoveInPlace(Box<Victim>),
    /// Remove a directory that is empty now, and those above it that are empty then.
    RemoveEmpty(RelPath),
    /// Take these entries out of the catalogue.
    Unlist(Vec<Key>),
    /// Look for a session's parts, beside the engine, and answer with [`Input::Parts`].
    FindParts(PartsOrder),
    /// Carry out a step of a session's life, beside the engine, and answer with
    /// [`Input::Lived`]. The lock is held until all answers are in.
    Live(Box<LifeOrder>),
    /// Tell the source of this file's names elsewhere; beside the engine, it takes a while.
    Follow {
        dir: DirId,
        name: Box<[u8]>,
        id: FileId,
    },
    /// Ask the file system how much is used and answer with [`Input::Measured`].
    Measure,
    /// Look whether the root still is at its path.
    CheckPlace,
    /// The root has passed its first start: remember it.
    Remember,
    /// What is wrong has changed: the next start is to know since when.
    KeepAnomalies,
    Tell(Fact),
}

/// What others may know, copied out whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    pub bytes: Bytes,
    pub apparent: Bytes,
    pub allocated: Bytes,
    pub n_files: u64,
    pub n_sessions: u64,
    pub unowned_entries: u64,
    pub unowned_bytes: Bytes,
    pub n_anomalies: u64,
    pub n_losses: u64,
    pub n_dirs: u64,
    pub n_unwatched: u64,
    pub pruned_sessions: u64,
    pub pruned_bytes: Bytes,
    /// With what is kept.
    pub trash_bytes: Bytes,
    pub kept_bytes: Bytes,
    pub n_kept: u64,
    pub scan_drift: Bytes,
    pub scan_duration: Duration,
    pub scan_ended: Option<Tick>,
    pub scan_next: Option<Tick>,
    pub scanned: bool,
    pub suspect: bool,
    pub held: bool,
    pub unmet: bool,
    /// What stays although a limit is passed, by reason.
    pub blocked: Vec<(Blocker, Held)>,
    /// What is too much and cannot go at present.
    pub still_over: Bytes,
    /// The root is over a limit, and its lock cannot be had.
    pub lock: Option<LockWait>,
    pub peak: Bytes,
    /// What is kept free ahead of the limit at present.
    pub headroom: Bytes,
    pub guard: GuardFigures,
    /// How many pins hold.
    pub n_pins: u64,
    /// Why the pins cannot be read: nothing in the root is removed then.
    pub pins_trouble: Option<Arc<str>>,
    /// What is wrong, as of the last full scan.
    pub anomalies: Arc<[AnomalyRow]>,
}

/// How the guard is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuardFigures {
    /// Names that are looked at in turns: touched of late, or with names elsewhere.
    pub n_hot: usize,
    pub n_linked: usize,
    /// How much more is used on the file system than the index explains; less where negative.
    pub unexplained: i64,
    /// Full scans that such differences led to, and those that explained them.
    pub n_scans: u64,
    pub n_explained: u64,
    /// Other programs write on this file system: differences say little.
    pub has_others: bool,
}

/// The engine of one root.
#[derive(Debug)]
pub struct Engine {
    rules: Rules,
    index: Index,
    /// The root directory itself, once listed.
    root: Option<Stat>,
    scanning: Scanning,
    reading: Reading,
    unlisting: Unlisting,
    deciding: Deciding,
    living: Living,
    kept: Kept,
    pinning: Pinning,
    places: Places,
    clock: ClockGate,
    guard: Guard,
    /// Only where the headroom is to be measured.
    pace: Pace,
    /// Names looked at while scans are under way: their chunks may be older, so that where
    /// they say something else the name is looked at once more. By the hash of the name.
    recent: HashMap<(DirId, u64), Box<[u8]>>,
    in_listing: Option<InListing>,
    /// Entries that a listing under way found to be another inode's.
    disagreeing: HashSet<(DirId, u64)>,
    /// Watches that ended before the listing that came with them was heard.
    ended_early: HashSet<u64>,
    /// Directories that are watched and whose listing is still to come, with the names that
    /// were hinted in them meanwhile.
    begun: HashMap<DirKey, Vec<Box<[u8]>>>,
    /// How many names wait in [`Engine::begun`].
    n_begun_names: usize,
    /// What a killed run left beside its place: at most [`stranded::MAX_STRANDED`].
    stranded: HashSet<Aside>,
    /// When the next of them are due.
    stranded_rest: Option<Tick>,
    n_losses: u64,
    stopped: bool,
}

/// Most names kept in [`Engine::recent`]. Above it the hints count as lost, so that another
/// scan puts right what this one's chunks then get wrong.
const MAX_RECENT: usize = 1 << 18;

impl Engine {
    /// A new engine that knows nothing. `known`: whether the root passed its first start
    /// before. `removed`: ids that were taken out of the catalogue before.
    pub fn new(rules: Rules, known: bool, removed: impl IntoIterator<Item = Key>) -> Self {
        Self::over(Index::new(), rules, known, removed)
    }

    /// The same, with an empty index of a kind of its own.
    pub fn over(
        index: Index,
        rules: Rules,
        known: bool,
        removed: impl IntoIterator<Item = Key>,
    ) -> Self {
        Self {
            deciding: Deciding::new(known),
            reading: Reading::default(),
            unlisting: Unlisting::new(removed),
            living: Living::new(rules.lifecycle.batch),
            kept: Kept::default(),
            pinning: Pinning::default(),
            rules,
            index,
            root: None,
            scanning: Scanning::default(),
            places: Places::default(),
            clock: ClockGate::default(),
            guard: Guard::default(),
            pace: Pace::default(),
            recent: HashMap::new(),
            in_listing: None,
            disagreeing: HashSet::new(),
            ended_early: HashSet::new(),
            stranded: HashSet::new(),
            stranded_rest: None,
            begun: HashMap::new(),
            n_begun_names: 0,
            n_losses: 0,
            stopped: false,
        }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.clock.look(now, out);
        let stage = Stage::of(&input);
        let confirming = self.before_confirming(&input);
        let before = self.is_growth(&input).then(|| self.counted_bytes());
        match input {
            Input::Hint(hint) => self.hint(now, hint, out),
            Input::Looked(look, seen) => self.looked(now, look, seen, out),
            Input::Astray(look) => self.astray(&look, out),
            Input::Drained => self.drained(now),
            Input::Walked(walked) => {
                for walked in walked {
                    self.walked(now, walked, out);
                }
            }
            Input::Read { seq, of } => self.read(now, seq, of, out),
            Input::Confirmed => self.limit_confirmed(now, out),
            Input::Lock(answer) => self.locked(now, answer, out),
            Input::Report(report) => self.reported(now, *report, out),
            Input::Removed(removed) => self.removed(now, removed, out),
            Input::Found(asides) => self.found_aside(asides, out),
            Input::Kept(kept) => {
                for (name, bytes) in kept {
                    self.note_kept(name, bytes);
                }
            }
            Input::Parts { session, seen } => self.parts_found(now, session, seen, out),
            Input::Lived(report) => self.lived(now, *report, out),
            Input::Command(command) => self.command(now, command, out),
            Input::Measured(used) => self.compare_totals(now, used),
            Input::Mounted(points) => self.mounted(points, out),
            Input::Strangers(found) => self.note_strangers(found),
            Input::Wake => {}
        }
        if let Some(before) = confirming {
            self.note_unsure(before);
        }
        if let Some(before) = before {
            let by = self.counted_bytes().saturating_sub(before);
            self.pace.grew(now.tick, by);
        }
        self.pace.expire(now.tick);
        if self.is_in_haste(stage) {
            // What lies in a directory that was perhaps away is known before a limit is confirmed.
            if stage.is_answer() {
                self.begin_parts(out);
            }
            return self.decide(now, out);
        }
        self.turn(now, out);
        if stage.may_guard() {
            self.guard(now, out);
        }
    }

    /// What is due after every input.
    fn turn(&mut self, now: Now, out: &mut Vec<Effect>) {
        // What a walk or a look of the engine's own brought is followed by no `Drained`.
        self.settle();
        self.end_pins(now);
        self.begin_due_scan(now, out);
        self.begin_parts(out);
        self.retry_unlisting(now, out);
        self.reread_doubtful(now, out);
        self.finish_scan(now, out);
        self.live(now, out);
        self.mind_kept(now, out);
        self.end_stranded_rest(now);
        self.decide(now, out);
        self.scanning.fresh_totals = false;
        self.note_walks(now);
    }

    /// All hints at hand were used up: totals are to be exact now.
    fn drained(&mut self, now: Now) {
        if let Some(since) = self.deciding.since.take() {
            self.pace.batch_ended(since, now.tick);
        }
        self.settle();
    }

    /// Finds second names of inodes, unless a scan still brings more of them: it settles at
    /// its end.
    fn settle(&mut self) {
        if self.index.has_unsettled_links()
            && self.scanning.is_quiet()
            && self.scanning.looks_left == 0
        {
            self.index.settle_links();
        }
    }

    fn command(&mut self, now: Now, command: Command, out: &mut Vec<Effect>) {
        match command {
            Command::Rescan => self.scanning.want(ScanCause::Asked),
            Command::Accept => self.accept(out),
            Command::SetRules(rules) => {
                self.rules = *rules;
                if self.rules.limits.headroom != Headroom::Auto {
                    self.pace = Pace::default();
                }
                self.deciding.forget_back_off();
                // What was said under the old rules says nothing about the new ones.
                self.deciding.forget_unmet();
                self.restand_all();
                self.plan_lives();
            }
            Command::Poll => self.scanning.polls = true,
            Command::NewSource => {
                self.index.forget_watches();
                self.forget_begun();
                self.ended_early.clear();
                self.lost(out);
            }
            Command::FollowFiles => self.index.keep_homes(),
            Command::Guard => self.keep_guard(now),
            Command::Restoring(name) => self.kept.remove(&name),
            Command::NotRestored(name, bytes) => self.note_kept(name, bytes),
            Command::SetPins(pins) => self.set_pins(now, pins),
            Command::Stop => self.stopped = true,
        }
        self.begin_due_scan(now, out);
    }

    /// When something is due by itself; `None`: only inputs matter.
    pub fn wake_at(&self, now: Now) -> Option<Tick> {
        let due = [
            self.scan_due(),
            self.reading.due(),
            self.unlisting.due(),
            self.decision_due(now),
            self.life_due(now),
            self.guard_due(),
            self.pace.due(),
            self.pins_due(now),
            self.kept_due(now),
            self.stranded_rest,
        ];
        due.into_iter().fold(None, sooner)
    }

    /// What is on the disk as last seen.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Whether hints may call a directory by this key.
    pub fn knows(&self, key: DirKey) -> bool {
        self.index.dir_of_key(key).is_some() || self.begun.contains_key(&key)
    }

    /// What the root is held to at present.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether the first full scan has finished and all that was doubtful is settled.
    pub fn is_settled(&self) -> bool {
        self.scanning.first_done()
            && self.scanning.is_quiet()
            && self.reading.is_idle()
            && !self.living.is_finding()
    }

    /// What a run before this one knew to be wrong, and since when.
    pub fn recall_anomalies(
        &mut self,
        known: impl IntoIterator<Item = (AnomalyKind, RelPath, Time)>,
    ) {
        self.places.recall(known);
    }

    /// What is wrong, as of the last full scan.
    pub fn known_anomalies(&self) -> Arc<[AnomalyRow]> {
        self.places.rows()
    }

    /// What the root's own directory is watched by. `None`: it is not.
    pub fn root_watch(&self) -> Option<Watch> {
        let watch = self.index.watch(self.index.root());
        Some(watch).filter(|watch| watch.generation != 0)
    }

    /// Whether the first full scan has finished.
    pub fn is_scanned(&self) -> bool {
        self.scanning.first_done()
    }

    /// Whether hints were lost and the scan that puts it right has not finished.
    pub fn is_suspect(&self) -> bool {
        self.scanning.is_suspect()
    }

    /// When the last full scan that finished had begun.
    pub fn scan_begun(&self) -> Option<Tick> {
        self.scanning.last().begun
    }

    /// Whether nothing more is to be decided now: within the limits, or backed off.
    pub fn is_resting(&self, now: Now) -> bool {
        self.is_settled()
            && !self.is_pruning()
            && !self.is_unlisting()
            && self.decision_due(now).is_none_or(|due| due > now.tick)
            && self.life_due(now).is_none_or(|due| due > now.tick)
    }

    /// Whether there is a catalogue that says nothing: missing, unreadable or corrupt.
    pub fn has_catalogue_trouble(&self) -> bool {
        self.reading.catalogue_trouble().is_some()
    }

    /// Whether a plan is being carried out.
    pub fn is_pruning(&self) -> bool {
        self.deciding.is_busy() || self.living.is_busy()
    }

    /// The root in numbers, at this moment.
    pub fn figures(&self) -> Figures {
        let totals = self.index.totals();
        let scan = self.scanning.last();
        Figures {
            bytes: totals.counted.bytes(self.rules.limits.measure),
            apparent: Bytes(u64::try_from(totals.counted.apparent).unwrap_or(u64::MAX)),
            allocated: Bytes(u64::try_from(totals.counted.allocated).unwrap_or(u64::MAX)),
            n_files: totals.counted.n_files,
            n_sessions: totals.n_sessions,
            unowned_entries: self.n_unowned() + self.index.n_disowned(),
            unowned_bytes: totals.unowned.bytes(self.rules.limits.measure),
            n_anomalies: self.scanning.n_anomalies,
            n_pins: self.pinning.n_lasting(),
            pins_trouble: self.pinning.trouble(),
            n_losses: self.n_losses,
            n_dirs: self.index.n_dirs() as u64,
            n_unwatched: self.index.n_unwatched(),
            pruned_sessions: self.deciding.pruned_sessions,
            pruned_bytes: self.deciding.pruned_bytes,
            trash_bytes: (self.deciding.trash_bytes).saturating_add(self.kept.bytes()),
            kept_bytes: self.kept.bytes(),
            n_kept: self.kept.n(),
            scan_drift: scan.drift,
            scan_duration: scan.duration,
            scan_ended: scan.ended,
            scan_next: self.scan_due(),
            scanned: self.scanning.first_done(),
            suspect: self.scanning.is_suspect(),
            held: self.deciding.is_held(),
            unmet: self.deciding.is_unmet(),
            blocked: self.deciding.blocked.clone(),
            still_over: self.still_over(),
            lock: self.deciding.lock.clone(),
            peak: self.deciding.peak,
            guard: self.guard_figures(),
            headroom: self.limits().ahead(),
            anomalies: self.places.rows(),
        }
    }

    fn guard_figures(&self) -> GuardFigures {
        let measuring = &self.guard.measuring;
        let unexplained = measuring.unexplained;
        GuardFigures {
            n_hot: self.guard.n_hot(),
            n_linked: self.guard.n_linked(),
            unexplained: unexplained.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            n_scans: measuring.n_scans,
            n_explained: measuring.n_explained,
            has_others: measuring.has_others(),
        }
    }

    fn lost(&mut self, out: &mut Vec<Effect>) {
        self.n_losses += 1;
        if self.scanning.lose() {
            out.push(Effect::Tell(Fact::WatchLost {
                n_losses: self.n_losses,
            }));
        }
    }

    /// Notes that a name was looked at while a scan is under way.
    fn note_recent(&mut self, dir: DirId, name: &[u8], out: &mut Vec<Effect>) {
        if self.scanning.is_quiet() {
            return;
        }
        if self.recent.len() >= MAX_RECENT {
            // Chunks can no longer be told from newer looks: the scan has to be repeated.
            self.lost(out);
            self.recent.clear();
        }
        self.recent
            .insert((dir, self.index.name_hash(dir, name)), name.into());
    }
}
