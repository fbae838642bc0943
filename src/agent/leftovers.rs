//! What an earlier run decided and did not finish, finished at start and under the lock, as far
//! as it is still lawful.

use crate::agent::jobs::finish_in_place;
use crate::agent::kept;
use crate::config::settings::Root;
use crate::disk::catalogue_edit;
use crate::disk::cookie;
use crate::disk::document::{self, MAX_CATALOGUE};
use crate::disk::records::RecordDir;
use crate::disk::remove;
use crate::disk::rewrite;
use crate::disk::tree::Tree;
use crate::layout::CatalogSeen;
use crate::layout::spec::Kind;
use crate::model::disk::{Disk, Moved, Records};
use crate::model::fact::Fact;
use crate::model::path::RelPath;
use crate::model::pin::Pins;
use crate::model::report::{Aside, AsideName, BESIDE, Skip};
use crate::model::seen::Seen;
use crate::model::session::{Content, Key};
use crate::model::time::Now;
use crate::prune::intent::{Intent, Work, unfinished};
use crate::prune::rest::{Beside, finish_blobs, hold};
use crate::prune::warrant::{Against, Law};
use rustix::fd::OwnedFd;
use std::sync::Arc;

/// What is left to do beside the engine.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Set aside, to be removed.
    pub trash: Vec<Aside>,
    /// Entries to be taken out of the catalogue.
    pub unlist: Vec<Key>,
    pub told: Vec<Fact>,
}

/// Carries out unfinished intents and lists the trash. Problems are logged and left for the
/// next start: nothing here may keep an agent from starting.
pub fn finish(
    tree: &Arc<Tree>,
    records: &Arc<RecordDir>,
    root: &Root,
    pins: &Pins,
    now: Now,
) -> Leftovers {
    let mut leftovers = Leftovers::default();
    if let Some(name) = root.layout.catalogue()
        && let Err((operation, errno)) = catalogue_edit::recover(tree, name)
    {
        tracing::warn!(
            event = "start.leftover",
            operation,
            errno,
            "an unfinished catalogue edit is left as it is"
        );
    }
    sweep_cookies(tree, root);
    match rewrite::sweep(tree) {
        Ok(kept) if kept.is_empty() => {}
        Ok(kept) => tracing::warn!(
            event = "rewrite.left",
            entries = kept.len(),
            first = kept.first(),
            "somebody's metadata stays in .housekeeper: look at it and move it where it belongs"
        ),
        Err(error) => {
            tracing::warn!(event = "start.leftover", error = %error, ".housekeeper cannot be read");
        }
    }
    match unfinished(records) {
        Err(error) => {
            tracing::warn!(event = "start.leftover", error = %error, "intent records cannot be read");
        }
        Ok(unfinished) => {
            for record in unfinished.broken {
                leftovers.told.push(Fact::IntentRefused {
                    record,
                    path: None,
                    why: "it is not whole, or names what no record may name",
                });
            }
            let court = Court::new(tree, records, root, pins, now);
            for (name, intent) in unfinished.intents {
                court.try_one(&name, &intent, &mut leftovers);
            }
        }
    }
    kept::sweep(tree, root, pins);
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
            if found.more {
                tracing::warn!(
                    event = "trash.left",
                    taken = found.asides.len(),
                    "more lies in the trash than is taken at once: the next start removes the rest"
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

/// Removes the cookies of killed agents: in `.housekeeper/`, and in a root that gets no
/// directory.
fn sweep_cookies(tree: &Tree, root: &Root) {
    let control = tree.existing_control().ok().flatten();
    let in_control = control.map(|control| cookie::sweep(control.dir(), ""));
    let is_apart = root.layout.kind() == Kind::Files;
    let in_root = is_apart.then(|| cookie::sweep(tree.root(), BESIDE));
    for swept in [in_control, in_root].into_iter().flatten() {
        if let Err(errno) = swept {
            tracing::debug!(%errno, "cookies of killed agents stay: they are empty");
        }
    }
}

/// Leftovers beside their place that stay: how many, the first one and why. Told in one line.
#[derive(Debug, Default)]
pub(super) struct Stranded {
    n_kept: usize,
    first: Option<(String, &'static str)>,
}

impl Stranded {
    fn keep(&mut self, aside: &Aside, why: &'static str) {
        self.n_kept += 1;
        self.first.get_or_insert_with(|| (aside.file_name(), why));
    }

    pub(super) fn tell(self) {
        if let Some((first, why)) = self.first {
            tracing::warn!(
                event = "trash.left",
                entries = self.n_kept,
                first,
                reason = why,
                "what was set aside beside its place stays: look at it and move it where it belongs"
            );
        }
    }
}

/// What a killed run set aside and may still be removed.
pub(super) fn lawful(
    tree: &Tree,
    law: &Law<'_>,
    asides: Vec<Aside>,
    now: Now,
    kept: &mut Stranded,
) -> Vec<Aside> {
    let mut granted = Vec::new();
    for aside in asides {
        match law.judge_aside(tree, &aside, now) {
            Ok(()) => match named_anew(tree, aside) {
                Ok(aside) => granted.push(aside),
                Err(aside) => kept.keep(&aside, "it cannot be given its new name"),
            },
            Err(Against::Refused(why) | Against::Later(why)) => kept.keep(&aside, why),
        }
    }
    granted
}

/// Its name with the inode it has now: a restart may give a file system another device number.
/// `Err`: it keeps its old one.
fn named_anew(tree: &Tree, aside: Aside) -> Result<Aside, Aside> {
    let Aside::Beside(dir, name) = &aside else {
        return Ok(aside);
    };
    let Some(path) = aside.beside() else {
        return Ok(aside);
    };
    let Seen::There(stat) = tree.look(&path) else {
        return Ok(aside);
    };
    if name.id() == Some(stat.id) {
        return Ok(aside);
    }
    let anew = Aside::Beside(dir.clone(), AsideName::new(name.ulid(), stat.id));
    match tree.set_aside(&path, &anew) {
        Ok(Moved::Aside) => Ok(anew),
        Ok(Moved::Back | Moved::Kept) | Err(_) => Err(aside),
    }
}

/// Judges records and carries out those that are lawful.
struct Court<'a> {
    tree: &'a Arc<Tree>,
    records: &'a Arc<RecordDir>,
    root: &'a Root,
    pins: &'a Pins,
    catalogue: Option<CatalogSeen>,
    now: Now,
}

impl<'a> Court<'a> {
    fn new(
        tree: &'a Arc<Tree>,
        records: &'a Arc<RecordDir>,
        root: &'a Root,
        pins: &'a Pins,
        now: Now,
    ) -> Self {
        let catalogue = root.layout.catalogue().and_then(|name| {
            let document = document::read(tree, &RelPath::root(), name, MAX_CATALOGUE);
            match document.content {
                Content::Text(text) => root.layout.catalog(&text, now.wall).ok(),
                Content::Absent | Content::NotAFile | Content::TooBig | Content::Unreadable(_) => {
                    None
                }
            }
        });
        Self {
            tree,
            records,
            root,
            pins,
            catalogue,
            now,
        }
    }

    fn try_one(&self, name: &str, intent: &Intent, leftovers: &mut Leftovers) {
        let law = Law {
            layout: &self.root.layout,
            protect: &self.root.protect,
            pins: self.pins,
            catalogue: self.catalogue.as_ref().map(|seen| &seen.entries[..]),
        };
        // Held until it is done.
        let _held = match self.allowed(&law, name, intent) {
            Ok(held) => held,
            Err(Against::Refused(why)) => {
                leftovers.told.push(Fact::IntentRefused {
                    record: name.to_owned(),
                    path: Some(intent.path.clone()),
                    why,
                });
                return self.discard(name);
            }
            Err(Against::Later(why)) => {
                tracing::warn!(
                    event = "start.leftover",
                    record = name,
                    reason = why,
                    "a decided removal cannot be finished now"
                );
                return;
            }
        };
        let left = match &intent.work {
            // One name goes in one step where it lies, too.
            Work::Blobs(blobs) if blobs.len() == 1 && self.root.layout.is_of_files() => {
                finish_in_place(self.tree, intent).len()
            }
            Work::Blobs(_) => {
                let (_, left) = finish_blobs(self.tree, intent, self.now);
                // What is still there keeps its entry.
                if left.is_empty() && self.root.layout.catalogue().is_some() {
                    leftovers.unlist.push(intent.key.clone());
                }
                left.len()
            }
            Work::InPlace { .. } => finish_in_place(self.tree, intent).len(),
        };
        if left > 0 {
            tracing::warn!(
                event = "start.leftover",
                left,
                "a decided removal could not be finished"
            );
        } else {
            self.discard(name);
        }
    }

    /// The locks of what may be finished. Writes are asked for under them: nobody who holds
    /// one writes unseen.
    fn allowed(&self, law: &Law<'_>, name: &str, intent: &Intent) -> Result<Vec<OwnedFd>, Against> {
        law.judge(self.tree, intent)?;
        let held = hold(self.tree, law.layout, intent, Beside::Nobody, self.now).map_err(
            |why| match why {
                Skip::Locked => Against::Later("somebody holds a lock on it"),
                _ => Against::Later("its locks cannot be taken"),
            },
        )?;
        law.judge_writes(&**self.tree, intent, name, self.now)?;
        Ok(held)
    }

    fn discard(&self, name: &str) {
        if let Err(error) = self.records.discard(name) {
            // It is judged again at the next start.
            tracing::debug!(error = %error, "an intent record could not be discarded");
        }
    }
}
