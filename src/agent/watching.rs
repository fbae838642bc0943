//! Which source a root's hints come from: tried from the best on, and the next one when one
//! fails later.

use crate::config::settings;
use crate::disk::tree::Tree;
use crate::model::watcher::Backend;
use crate::watch::choice::{self, Choice};
use crate::watch::dirty::Waker;
use crate::watch::{self, Attend, Source};
use std::sync::Arc;

/// A source with how it came to be chosen.
#[derive(Debug)]
pub struct Chosen {
    pub backend: Backend,
    /// A sentence for people: why this one, and what refused before it.
    pub why: String,
    pub source: Source,
    /// What is tried when this one fails.
    rest: &'static [Backend],
}

/// The backends to try for a root, in order.
pub fn choice(wanted: settings::Backend, tree: &Tree) -> Choice {
    match wanted {
        settings::Backend::Auto => choice::auto(tree.root()),
        settings::Backend::Fanotify => choice::wanted(Backend::Fanotify),
        settings::Backend::Inotify => choice::wanted(Backend::Inotify),
        settings::Backend::Notify => choice::wanted(Backend::Notify),
        settings::Backend::Poll => choice::wanted(Backend::Poll),
    }
}

/// Starts the first backend of the order that can be had, on the thread that takes sessions out.
/// Polling always can.
pub fn start(choice: &Choice, tree: &Tree, wake: &Waker, attend: &Attend) -> Chosen {
    let mut why = choice.why.clone();
    let mut rest = choice.order;
    while let Some((backend, others)) = rest.split_first() {
        rest = others;
        match watch::open(*backend, tree.path(), tree.root(), wake, attend) {
            Ok(mut source) => {
                source.hints.leave_out_this_thread();
                return Chosen {
                    backend: *backend,
                    why,
                    source,
                    rest,
                };
            }
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map(|source| format!(": {source}"))
                    .unwrap_or_default();
                why.push_str(&format!("; {} is refused: {error}{cause}", backend.name()));
            }
        }
    }
    Chosen {
        backend: Backend::Poll,
        why,
        source: watch::silent(),
        rest: &[],
    }
}

/// What would watch a root now, and why; `None` where nothing is at its path.
pub fn would_pick(root: &settings::Root) -> Option<(Backend, String)> {
    let tree = Tree::open(&root.real).ok()?;
    let (wake, attend): (Waker, Attend) = (Waker::new(|| {}), Arc::new(|_| {}));
    let chosen = start(&choice(root.backend, &tree), &tree, &wake, &attend);
    Some((chosen.backend, chosen.why))
}

impl Chosen {
    /// What is left to try after this one failed, and why.
    pub fn after(&self, failure: &str) -> Choice {
        Choice {
            order: self.rest,
            why: format!("{} failed: {failure}", self.backend.name()),
        }
    }
}
