//! What need not wait between a hint and the rename that it causes.

use super::burst::Phase;
use super::{Engine, Input};

/// Where an input stands on the way from a hint to a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// One name of a batch, where one is at hand.
    Name,
    /// The end of a batch.
    Drained,
    /// The answer to a limit in question.
    Confirmed,
    Lock,
    /// Nowhere, and nothing that somebody waits for.
    Aside,
    /// What became of something.
    Report,
}

impl Stage {
    pub(super) fn of(input: &Input) -> Self {
        match input {
            Input::Hint(_) | Input::Looked(..) | Input::Astray(_) => Self::Name,
            Input::Drained => Self::Drained,
            Input::Confirmed => Self::Confirmed,
            Input::Lock(_) => Self::Lock,
            Input::Walked(_) | Input::Command(_) | Input::Wake => Self::Aside,
            Input::Read { .. }
            | Input::Report(_)
            | Input::Removed(_)
            | Input::Kept(_)
            | Input::Found(_)
            | Input::Parts { .. }
            | Input::Lived(_)
            | Input::Measured(_)
            | Input::Mounted(_)
            | Input::Strangers(_) => Self::Report,
        }
    }

    /// Whether a limit may be in question afterwards, of what is known by then.
    pub(super) fn is_answer(self) -> bool {
        self == Self::Drained || self == Self::Confirmed
    }

    /// Whether the guard may look around afterwards.
    pub(super) fn may_guard(self) -> bool {
        self == Self::Drained || self == Self::Aside
    }
}

impl Engine {
    /// Whether more of the same comes at once: the rest of a batch, which ends with `Drained`, the
    /// answer to a limit in question, or a burst's first victim. What is due besides can wait for
    /// it, and a write over the limit does not wait for that.
    pub(super) fn is_in_haste(&self, stage: Stage) -> bool {
        match (stage, &self.deciding.phase) {
            (Stage::Name, _) => self.deciding.since.is_some(),
            (Stage::Drained | Stage::Confirmed | Stage::Lock, Phase::Confirming | Phase::Asked)
            | (Stage::Lock, Phase::Removing { .. }) => true,
            (Stage::Drained | Stage::Confirmed | Stage::Lock, _)
            | (Stage::Aside | Stage::Report, _) => false,
        }
    }
}
