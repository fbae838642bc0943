//! A bounded copy of what a root's future follows from, for who asks: forecasts are made of it
//! elsewhere ([`crate::policy::forecast`]).
//!
//! Made on the engine's own thread, between two inputs, so it is small: at most [`MAX_WALKED`]
//! sessions are walked and at most [`MAX_ROWS`] spelled out. Beyond that it says that there are
//! more.

use super::Engine;
use crate::index::{Session, Taken};
use crate::model::bytes::Bytes;
use crate::model::path::RelPath;
use crate::model::session::{Key, SessionId};
use crate::model::time::{Now, Time};
use crate::policy::flow::Growth;
use crate::policy::forecast::{Ahead, Outset};
use crate::policy::lifecycle::Step;
use crate::policy::{Candidate, Hold, Speaking};
use std::sync::Arc;

/// Most sessions walked in one answer: half a millisecond.
pub const MAX_WALKED: usize = 5_000;
/// Most sessions spelled out in one answer.
pub const MAX_ROWS: usize = 500;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// The oldest: so many of those that may go, and those among them that may not.
    Next(usize),
    /// One session, by its key, a path in it, or its id.
    Of(Box<[u8]>),
}

/// One session, spelled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prospect {
    pub session: SessionId,
    pub key: Key,
    /// `None`: no name of it is on the disk.
    pub path: Option<RelPath>,
    pub bytes: Bytes,
    pub created: Option<Time>,
    pub state: Option<Arc<str>>,
    /// What keeps it as things are.
    pub hold: Option<Hold>,
}

/// The copy.
#[derive(Debug, Clone)]
pub struct Outlook {
    pub outset: Outset,
    /// From the oldest on, none left out before the last.
    pub oldest: Vec<Ahead>,
    /// There are more sessions than were walked.
    pub more: bool,
    /// Those that were asked for. Several for one id: it is ambiguous.
    pub rows: Vec<Prospect>,
}

impl Engine {
    /// What there is to be seen.
    pub fn outlook(&self, now: Now, sight: &Sight) -> Outlook {
        let wanted = match sight {
            Sight::Next(_) => Vec::new(),
            Sight::Of(name) => self.sessions_called(name),
        };
        let (mut oldest, mut rows, mut n_wanted) = (Vec::new(), Vec::new(), 0);
        let mut taken = Taken::default();
        let mut more = false;
        for (id, created, session) in self.index.oldest_first() {
            if self.deciding.is_leaving(id) || !self.in_group(session) {
                continue;
            }
            let is_enough = match sight {
                Sight::Next(n) => n_wanted >= *n || rows.len() >= MAX_ROWS,
                Sight::Of(_) => false,
            };
            if is_enough || oldest.len() >= MAX_WALKED {
                more = true;
                break;
            }
            let ahead = self.ahead(id, created, session, now, &mut taken);
            if let Sight::Next(_) = sight {
                n_wanted += usize::from(ahead.candidate.hold.is_none());
                rows.extend(self.prospect(id, now));
            }
            oldest.push(ahead);
        }
        rows.extend(wanted.into_iter().filter_map(|id| self.prospect(id, now)));
        Outlook {
            outset: Outset {
                limits: self.limits(),
                usage: self.usage(),
                speaking: Speaking {
                    age: self.clock.is_believed(now),
                    down_to_goal: self.deciding.burst.unfinished,
                },
                now,
                growth: Growth::default(),
            },
            oldest,
            more,
            rows,
        }
    }

    fn ahead(
        &self,
        id: SessionId,
        created: Time,
        session: &Session,
        now: Now,
        taken: &mut Taken,
    ) -> Ahead {
        let measure = self.rules.limits.measure;
        let hold = self.hold(id, session, now);
        let freed = match hold {
            // It takes nothing along.
            Some(_) => session.bytes(measure),
            None => self.index.freed(id, measure, taken),
        };
        let retires = || match self.next_step(id)? {
            (at, Step::Retire) => Some(at),
            (_, Step::Do(_)) => None,
        };
        let may_retire = self.rules.lifecycle.failed_retention.is_some();
        Ahead {
            candidate: Candidate {
                session: id,
                created,
                bytes: session.bytes(measure),
                hold,
            },
            freed,
            retires: may_retire.then(retires).flatten(),
        }
    }

    fn prospect(&self, id: SessionId, now: Now) -> Option<Prospect> {
        let session = self.index.session(id)?;
        let path = self.index.session_path(id);
        Some(Prospect {
            session: id,
            key: self.index.key(id),
            path: (!path.is_root()).then_some(path),
            bytes: session.bytes(self.rules.limits.measure),
            created: session.created,
            state: self.index.state(session).cloned(),
            hold: self.hold(id, session, now),
        })
    }

    /// The session of this key, or that a path leads into; else those of this id, as far as they
    /// are among the first [`MAX_WALKED`].
    fn sessions_called(&self, name: &[u8]) -> Vec<SessionId> {
        if let Some(id) = self
            .index
            .session_by_key(name)
            .or_else(|| self.session_in(name))
        {
            return vec![id];
        }
        let fixed = |session: &Session| session.created.is_none() && session.is_owned();
        let unordered = self.index.sessions().filter(|(_, session)| fixed(session));
        let ordered = self
            .index
            .oldest_first()
            .map(|(id, _, _)| id)
            .take(MAX_WALKED);
        let all = ordered.chain(unordered.map(|(id, _)| id).take(MAX_WALKED));
        let is_called = |id: &SessionId| *self.rules.layout.id(&self.index.key(*id)) == *name;
        all.filter(is_called).take(MAX_ROWS).collect()
    }

    /// The session that something at this path belongs to.
    fn session_in(&self, name: &[u8]) -> Option<SessionId> {
        let path = RelPath::new(name).ok()?;
        let mut above = Some(path);
        while let Some(path) = above {
            let parent = path.parent()?;
            if let Some(home) = self.index.dir_at(&parent) {
                let owner = self.index.owner_of(home, path.name()?);
                if let Some(id) = self.index.session_of(owner) {
                    return Some(id);
                }
            }
            if let Some(id) = self
                .index
                .dir_at(&path)
                .and_then(|dir| self.index.session_at(dir))
            {
                return Some(id);
            }
            above = Some(parent).filter(|parent| !parent.is_root());
        }
        None
    }
}
