//! What an earlier run decided and did not finish, finished at start and under the lock.

use crate::agent::jobs::finish_in_place;
use crate::disk::catalogue_edit;
use crate::disk::records::RecordDir;
use crate::disk::remove;
use crate::disk::tree::Tree;
use crate::layout::Layout;
use crate::model::disk::Records;
use crate::model::report::AsideName;
use crate::model::session::Key;
use crate::model::time::Now;
use crate::prune::executor::finish_blobs;
use crate::prune::intent::{Work, unfinished};
use std::sync::Arc;

/// What is left to do beside the engine.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// In the trash, to be removed.
    pub trash: Vec<AsideName>,
    /// Entries to be taken out of the catalogue.
    pub unlist: Vec<Key>,
}

/// Carries out unfinished intents and lists the trash. Problems are logged and left for the
/// next start: nothing here may keep an agent from starting.
pub fn finish(tree: &Arc<Tree>, records: &Arc<RecordDir>, layout: &Layout, now: Now) -> Leftovers {
    let mut leftovers = Leftovers::default();
    if let Some(name) = layout.catalogue()
        && let Err((operation, errno)) = catalogue_edit::recover(tree, name)
    {
        tracing::warn!(
            event = "start.leftover",
            operation,
            errno,
            "an unfinished catalogue edit is left as it is"
        );
    }
    match unfinished(records) {
        Err(error) => {
            tracing::warn!(event = "start.leftover", error = %error, "intent records cannot be read");
        }
        Ok(intents) => {
            for (name, intent) in intents {
                let left = match &intent.work {
                    Work::Blobs(_) => {
                        let (_, left) = finish_blobs(tree, &intent, now);
                        leftovers.unlist.push(intent.key.clone());
                        left.len()
                    }
                    Work::InPlace { .. } => finish_in_place(tree, &intent).len(),
                };
                if left > 0 {
                    tracing::warn!(
                        event = "start.leftover",
                        left,
                        "a decided removal could not be finished"
                    );
                } else if let Err(error) = records.discard(&name) {
                    tracing::debug!(error = %error, "an intent record could not be discarded");
                }
            }
        }
    }
    match remove::leftovers(tree) {
        Ok(found) => {
            if !found.strangers.is_empty() {
                tracing::warn!(
                    event = "trash.left",
                    entries = found.strangers.len(),
                    first = found.strangers.first(),
                    "what is not ours stays in the trash: look at it and move it where it belongs"
                );
            }
            leftovers.trash = found.asides;
        }
        Err(error) => {
            tracing::warn!(event = "start.leftover", error = %error, "the trash cannot be listed");
        }
    }
    leftovers
}
