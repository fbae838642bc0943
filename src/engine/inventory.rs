//! What a root holds, spelled out for people and programs.

use super::Engine;
use crate::index::Standing;
use crate::model::anomaly::AnomalyKind;
use crate::model::bytes::{Bytes, Tally};
use crate::model::path::RelPath;
use crate::model::session::SessionId;
use crate::model::time::{Now, Time};
use std::sync::Arc;

/// One session.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub id: Vec<u8>,
    /// `None`: no name of it is on the disk.
    pub path: Option<RelPath>,
    pub bytes: Bytes,
    pub n_files: u64,
    pub created: Option<Time>,
    pub state: Option<Arc<str>>,
    pub group: Option<Arc<str>>,
    pub anomalies: Vec<AnomalyKind>,
    pub removable: bool,
}

/// One anomaly at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnomalyRow {
    pub kind: AnomalyKind,
    pub path: RelPath,
    pub bytes: Bytes,
    /// At which full scan, or look, of this agent it was there first and last.
    pub first_seen: Time,
    pub last_seen: Time,
}

impl Engine {
    /// All sessions, oldest first, those without a creation time last by key.
    pub fn session_rows(&self, now: Now) -> Vec<SessionRow> {
        let mut unordered: Vec<_> = self
            .index
            .sessions()
            .filter(|(_, s)| s.created.is_none() && s.is_owned())
            .map(|(id, _)| (self.index.key(id), id))
            .collect();
        unordered.sort_unstable();
        let ordered = self.index.oldest_first().map(|(id, _, _)| id);
        ordered
            .chain(unordered.into_iter().map(|(_, id)| id))
            .filter_map(|id| self.session_row(id, now))
            .collect()
    }

    fn session_row(&self, id: SessionId, now: Now) -> Option<SessionRow> {
        let session = self.index.session(id)?;
        let path = self.index.session_path(id);
        let mut anomalies: Vec<_> = session
            .anomalies
            .iter()
            .chain(session.obstacles.iter())
            .chain(self.derived(id, session))
            .chain(self.as_time_goes_by(id, now))
            .collect();
        anomalies.sort_unstable();
        anomalies.dedup();
        Some(SessionRow {
            id: self.rules.layout.id(&self.index.key(id)).to_vec(),
            path: (!path.is_root()).then_some(path),
            bytes: session.bytes(self.rules.limits.measure),
            n_files: session.n_files(),
            created: session.created,
            state: self.index.state(session).cloned(),
            group: self.index.group(session).cloned(),
            anomalies,
            removable: session.standing == Standing::Removable,
        })
    }

    /// Everything counted, by both measures.
    pub fn counted(&self) -> Tally {
        self.index.totals().counted
    }
}
