//! What happened, counted: for whoever asks how often, how much and how quickly. Since the agent's
//! start; a root that is looked after no more is forgotten when somebody asks.

use super::tell::skip_reason;
use crate::model::fact::Fact;
use crate::model::plan::Rule;
use crate::model::report::Skip;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the classes that reactions are sorted into, in microseconds: what a reaction
/// takes where all is well lies in the middle of them.
pub const REACTION_BOUNDS: [u64; 14] = [
    25, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000,
];

/// All that is said of why a session was passed over, in alphabetical order.
pub const REASONS: [&str; 11] = [
    "changed",
    "locked",
    "open",
    "pinned",
    "quiet",
    "refused",
    "replaced",
    "root_moved",
    "stopping",
    "stranger_kept_in_trash",
    "stranger_put_back",
];

/// What happened in one root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Sessions and bytes that went, by the rule that wanted it.
    pub pruned: BTreeMap<Rule, (u64, u64)>,
    /// What was passed over, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// How often a limit could not be met.
    pub n_unmet: u64,
    /// How often another pruner held the lock that was wanted.
    pub n_busy: u64,
    pub reactions: Reactions,
}

/// From the first hint to the rename that it led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reactions {
    /// How many fell into each class of [`REACTION_BOUNDS`], and above the last.
    pub classes: [u64; REACTION_BOUNDS.len() + 1],
    pub total: Duration,
}

impl Reactions {
    fn add(&mut self, reaction: Duration) {
        let at = REACTION_BOUNDS.partition_point(|bound| Duration::from_micros(*bound) < reaction);
        self.classes[at] += 1;
        self.total = self.total.saturating_add(reaction);
    }
}

/// All roots.
#[derive(Debug, Default)]
pub struct Counts(Mutex<HashMap<Arc<str>, Count>>);

impl Counts {
    /// Counts what happened in a root.
    pub fn hear(&self, root: &Arc<str>, fact: &Fact) {
        let mut roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = roots.entry(root.clone()).or_default();
        match fact {
            Fact::PruneDeleted {
                freed,
                because,
                reaction,
                ..
            } => {
                let (sessions, bytes) = count.pruned.entry(because.rule()).or_default();
                *sessions += 1;
                *bytes = bytes.saturating_add(freed.0);
                if let Some(reaction) = reaction {
                    count.reactions.add(*reaction);
                }
            }
            Fact::PruneSkipped { why, .. } => *count.skipped.entry(reason(why)).or_default() += 1,
            Fact::TargetUnmet { .. } => count.n_unmet += 1,
            Fact::LockBusy { .. } => count.n_busy += 1,
            _ => {}
        }
    }

    /// What happened in a root so far.
    pub fn of(&self, root: &str) -> Count {
        let roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        roots.get(root).cloned().unwrap_or_default()
    }

    /// Forgets all roots but these.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool) {
        let mut roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        roots.retain(|root, _| is_kept(root));
    }
}

/// One of a few: what was refused has many operations.
fn reason(why: &Skip) -> &'static str {
    match why {
        Skip::Refused { .. } => "refused",
        why => skip_reason(why).0,
    }
}

#[cfg(test)]
mod tests {
    use super::{REACTION_BOUNDS, REASONS, Reactions, reason};
    use crate::model::report::Skip;
    use std::time::Duration;

    #[test]
    fn every_reason_is_told_of() {
        let refused = Skip::Refused {
            operation: "rename",
            errno: 1,
        };
        let all = [
            Skip::Changed,
            Skip::Locked,
            Skip::Open,
            Skip::Pinned,
            Skip::Quiet,
            refused,
            Skip::Replaced,
            Skip::RootMoved,
            Skip::Stopping,
            Skip::StrangerKept,
            Skip::Stranger,
        ];
        assert_eq!(all.map(|why| reason(&why)), REASONS);
    }

    #[test]
    fn a_bound_belongs_to_its_class() {
        let mut reactions = Reactions::default();
        for micros in [0, 25, 26, 1_000_000, 1_000_001] {
            reactions.add(Duration::from_micros(micros));
        }
        let last = REACTION_BOUNDS.len();
        let mut wanted = [0; REACTION_BOUNDS.len() + 1];
        (wanted[0], wanted[1], wanted[last - 1], wanted[last]) = (2, 1, 1, 1);
        assert_eq!(reactions.classes, wanted);
        assert_eq!(reactions.total, Duration::from_micros(2_000_052));
    }
}
