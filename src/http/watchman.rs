//! Looks once a second whether the agent's loop and its roots' threads turn.

use super::State;
use crate::agent::pulse::Seen;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(1);
/// A loop that shows itself each second and was not seen for so long does not turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// A root's thread that is awake and does not turn for so long hangs.
const STUCK: Duration = Duration::from_secs(5);

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Watchman {
    is_still: AtomicBool,
    /// For how long the threads of these roots have not turned.
    stuck: Mutex<HashMap<String, Duration>>,
}

impl Watchman {
    /// Whether the agent's own loop turns.
    pub(super) fn turns(&self) -> bool {
        !self.is_still.load(Ordering::Relaxed)
    }

    /// For how long a root's thread has been stuck; `None`: it is not.
    pub(super) fn stuck(&self, root: &str) -> Option<Duration> {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.get(root).copied()
    }
}

/// Looks until the runtime ends.
pub(super) async fn watch(state: &State) {
    let mut own = Seen::of(state.window.pulse(), Instant::now());
    let mut roots: HashMap<String, Seen> = HashMap::new();
    let mut round = tokio::time::interval(ROUND);
    loop {
        round.tick().await;
        let now = Instant::now();
        let still = own.look(state.window.pulse(), now);
        let watchman = &state.watchman;
        watchman.is_still.store(still > PATIENCE, Ordering::Relaxed);
        let panes = state.window.panes();
        roots.retain(|name, _| panes.iter().any(|pane| pane.root.name == *name));
        let mut stuck = HashMap::new();
        for pane in panes.iter() {
            let name = &pane.root.name;
            let first = || Seen::of(&pane.pulse, now);
            let seen = roots.entry(name.clone()).or_insert_with(first);
            let still = seen.look(&pane.pulse, now);
            if still > STUCK {
                stuck.insert(name.clone(), still);
            }
        }
        *watchman
            .stuck
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = stuck;
    }
}
