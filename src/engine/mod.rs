//! The mind of one root. Sans-IO: inputs in, effects out; no clock, disk, lock or log inside.
//!
//! Hints are never facts: each one becomes a [`Effect::Look`], and only what the disk answers
//! changes the index. A scan is a list of hints with evidence: where it agrees with the index
//! nothing happens, where it tells something new about a place nobody looked at since the
//! scan began it is believed, everywhere else the engine looks again.

mod anomalies;
mod clock_gate;
mod deciding;
mod inventory;
mod listing;
mod looking;
mod reading;
mod scanning;

pub use inventory::{AnomalyRow, SessionRow};

use crate::index::Index;
use crate::layout::{CatalogSeen, Layout};
use crate::model::bytes::Bytes;
use crate::model::fact::{Fact, ScanCause};
use crate::model::hint::Hint;
use crate::model::listing::{ScanId, ScanOrder, Walked};
use crate::model::path::RelPath;
use crate::model::place::{DirId, Look};
use crate::model::plan::{Proof, Victim};
use crate::model::report::{AsideName, LockTry, Removed, Report};
use crate::model::seen::{Seen, Signature, Stat};
use crate::model::session::{Facts, Key, SessionId};
use crate::model::time::{Now, Tick};
use crate::model::watcher::{DirKey, Watch};
use crate::policy::limits::{Limits, Protect};
use anomalies::Places;
use clock_gate::ClockGate;
use deciding::Deciding;
use reading::Reading;
use scanning::Scanning;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What one root is held to.
#[derive(Debug, Clone)]
pub struct Rules {
    pub layout: Arc<Layout>,
    pub limits: Limits,
    pub protect: Protect,
    /// `false`: decides and reports, removes nothing.
    pub enforce: bool,
    /// Plans and totals speak of this group only.
    pub group: Option<Arc<str>>,
    pub rescan_interval: Duration,
    /// Whether a first plan that takes more than half is carried out without being accepted.
    pub first_start_enforce: bool,
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
        proofs: Vec<Proof>,
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
    /// All hints at hand were handled.
    Drained,
    /// In the order in which it was seen.
    Walked(Vec<Walked>),
    Read {
        seq: u64,
        of: ReadOf,
    },
    Lock(LockTry),
    Report(Box<Report>),
    Removed(Removed),
    Command(Command),
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
    /// Try for the root's lock and answer with [`Input::Lock`].
    Lock,
    Unlock,
    /// Answer with [`Input::Report`].
    Remove(Box<Victim>),
    /// End the watches, then remove from the trash.
    Reap {
        aside: Vec<AsideName>,
        watches: Vec<(RelPath, Watch)>,
    },
    /// Remove where it lies, metadata last.
    RemoveInPlace(Box<Victim>),
    /// Take these entries out of the catalogue.
    Unlist(Vec<Key>),
    /// The root has passed its first start: remember it.
    Remember,
    Tell(Fact),
}

/// What others may know, copied out whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    pub trash_bytes: Bytes,
    pub scan_drift: Bytes,
    pub scan_duration: Duration,
    pub scan_ended: Option<Tick>,
    pub scan_next: Option<Tick>,
    pub scanned: bool,
    pub suspect: bool,
    pub held: bool,
    pub unmet: bool,
    pub peak: Bytes,
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
    deciding: Deciding,
    places: Places,
    clock: ClockGate,
    /// Names looked at while scans are under way: their chunks may be older, so that where
    /// they say something else the name is looked at once more. By the hash of the name.
    recent: HashMap<(DirId, u64), Box<[u8]>>,
    /// Watches that ended before the listing that came with them was heard.
    ended_early: HashSet<u64>,
    /// Directories that are watched and whose listing is still to come, with the names that
    /// were hinted in them meanwhile.
    begun: HashMap<DirKey, Vec<Box<[u8]>>>,
    /// How many names wait in [`Engine::begun`].
    n_begun_names: usize,
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
        Self {
            deciding: Deciding::new(known),
            reading: Reading::new(removed),
            rules,
            index: Index::new(),
            root: None,
            scanning: Scanning::default(),
            places: Places::default(),
            clock: ClockGate::default(),
            recent: HashMap::new(),
            ended_early: HashSet::new(),
            begun: HashMap::new(),
            n_begun_names: 0,
            n_losses: 0,
            stopped: false,
        }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.clock.look(now, out);
        match input {
            Input::Hint(hint) => self.hint(now, hint, out),
            Input::Looked(look, seen) => self.looked(now, look, seen, out),
            Input::Drained => self.drained(),
            Input::Walked(walked) => {
                for walked in walked {
                    self.walked(now, walked, out);
                }
            }
            Input::Read { seq, of } => self.read(now, seq, of, out),
            Input::Lock(answer) => self.locked(now, answer, out),
            Input::Report(report) => self.reported(now, *report, out),
            Input::Removed(removed) => self.removed(now, removed, out),
            Input::Command(command) => self.command(now, command, out),
            Input::Wake => {}
        }
        self.turn(now, out);
    }

    /// What is due after every input.
    fn turn(&mut self, now: Now, out: &mut Vec<Effect>) {
        // What a walk or a look of the engine's own brought is followed by no `Drained`.
        if self.deciding.since.is_none() {
            self.settle();
        }
        self.begin_due_scan(now, out);
        self.reread_doubtful(now, out);
        self.finish_scan(now, out);
        self.decide(now, out);
        self.scanning.fresh_totals = false;
    }

    /// All hints at hand were used up: totals are to be exact now.
    fn drained(&mut self) {
        self.deciding.since = None;
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
                self.deciding.forget_back_off();
                // What was said under the old rules says nothing about the new ones.
                self.deciding.forget_unmet();
                self.restand_all();
            }
            Command::Poll => self.scanning.polls = true,
            Command::Stop => self.stopped = true,
        }
        self.begin_due_scan(now, out);
    }

    /// When something is due by itself; `None`: only inputs matter.
    pub fn wake_at(&self, now: Now) -> Option<Tick> {
        [self.scan_due(), self.reading.due(), self.decision_due(now)]
            .into_iter()
            .flatten()
            .min()
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
        self.scanning.first_done() && self.scanning.is_quiet() && self.reading.is_idle()
    }

    /// Whether nothing more is to be decided now: within the limits, or backed off.
    pub fn is_resting(&self, now: Now) -> bool {
        self.is_settled()
            && !self.is_pruning()
            && !self.is_unlisting()
            && self.decision_due(now).is_none_or(|due| due > now.tick)
    }

    /// Whether there is a catalogue that says nothing: missing, unreadable or corrupt.
    pub fn has_catalogue_trouble(&self) -> bool {
        self.reading.catalogue_trouble().is_some()
    }

    /// Whether a plan is being carried out.
    pub fn is_pruning(&self) -> bool {
        self.deciding.is_busy()
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
            unowned_entries: self.places.n_unowned() + self.index.n_disowned(),
            unowned_bytes: totals.unowned.bytes(self.rules.limits.measure),
            n_anomalies: self.scanning.n_anomalies,
            n_losses: self.n_losses,
            n_dirs: self.index.n_dirs() as u64,
            n_unwatched: self.index.n_unwatched(),
            pruned_sessions: self.deciding.pruned_sessions,
            pruned_bytes: self.deciding.pruned_bytes,
            trash_bytes: self.deciding.trash_bytes,
            scan_drift: scan.drift,
            scan_duration: scan.duration,
            scan_ended: scan.ended,
            scan_next: self.scan_due(),
            scanned: self.scanning.first_done(),
            suspect: self.scanning.is_suspect(),
            held: self.deciding.is_held(),
            unmet: self.deciding.is_unmet(),
            peak: self.deciding.peak,
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
            .insert((dir, self.index.name_hash(name)), name.into());
    }

    /// Orders a walk of a directory with everything below it.
    fn scan_below(&mut self, at: RelPath, out: &mut Vec<Effect>) {
        let id: ScanId = self.scanning.begin_part();
        let reads = true;
        out.push(Effect::Scan(ScanOrder { id, at, reads }));
    }
}
