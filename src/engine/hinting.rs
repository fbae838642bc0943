//! A watcher's word: which name is to be looked at.

use super::{Effect, Engine};
use crate::index::Known;
use crate::model::fact::ScanCause;
use crate::model::hint::Hint;
use crate::model::path::is_name;
use crate::model::place::{DirId, Look, Why};
use crate::model::time::Now;
use crate::model::watcher::{DirKey, Watch};
use std::collections::HashMap;

/// The agent's own directory in a root.
const CONTROL: &[u8] = b".housekeeper";

impl Engine {
    /// A watcher's word.
    pub(super) fn hint(&mut self, now: Now, hint: Hint, out: &mut Vec<Effect>) {
        match hint {
            Hint::Name(path) => self.hint_path(now, path, out),
            Hint::Entry { dir, path, name_at } => self.hint_entry(now, dir, path, name_at, out),
            Hint::Begun { dir } => self.watch_begun(dir),
            Hint::Unwatched { dir, generation } => self.unwatched(dir, generation, out),
            Hint::Ended { dir } => self.watch_ended(dir, out),
            Hint::Inode(ino) => self.hint_inode(ino, out),
            Hint::Lost => self.lost(out),
        }
    }

    /// A watcher names a directory by its key, and a name in it.
    fn hint_entry(
        &mut self,
        now: Now,
        key: DirKey,
        path: Box<[u8]>,
        name_at: usize,
        out: &mut Vec<Effect>,
    ) {
        let name = &path[name_at..];
        if !is_name(name) {
            return;
        }
        let Some(dir) = self.index.dir_of_key(key) else {
            return self.hint_early(key, &path[name_at..], out);
        };
        if (dir == self.index.root() && name == CONTROL) || self.is_on_its_way(name) {
            return;
        }
        if let Some(session) = self.session_at_name(dir, name) {
            self.index.note_written(session, now.wall.into());
        }
        out.push(Effect::Look(Look {
            dir,
            path,
            name_at,
            why: Why::Hint,
        }));
    }

    /// A name in a directory that is not known: kept where the directory is being listed,
    /// for after its listing. Of every other directory it says nothing: either it is not
    /// below this root, or its listing, when it comes, is younger.
    fn hint_early(&mut self, key: DirKey, name: &[u8], out: &mut Vec<Effect>) {
        let Some(names) = self.begun.get_mut(&key) else {
            return;
        };
        if names.iter().any(|known| **known == *name) {
            return;
        }
        names.push(name.into());
        self.n_begun_names += 1;
        if self.n_begun_names > super::MAX_RECENT {
            // Repeating the scan is cheaper than remembering more.
            self.forget_begun();
            self.lost(out);
        }
    }

    pub(super) fn watch_begun(&mut self, key: DirKey) {
        if self.index.dir_of_key(key).is_none() {
            self.begun.entry(key).or_default();
        }
    }

    pub(super) fn forget_begun(&mut self) {
        self.begun = HashMap::new();
        self.n_begun_names = 0;
    }

    /// The listing of a directory came in: what was hinted meanwhile may be younger.
    pub(super) fn look_at_begun(&mut self, dir: DirId, key: DirKey, out: &mut Vec<Effect>) {
        let names = self.begun.remove(&key).unwrap_or_default();
        self.n_begun_names -= names.len();
        for name in names {
            out.push(Effect::Look(Look::new(dir, &name, Why::Hint)));
        }
    }

    /// A watch ended by itself: the directory is gone, or its file system was unmounted.
    fn watch_ended(&mut self, key: DirKey, out: &mut Vec<Effect>) {
        self.begun
            .remove(&key)
            .inspect(|names| self.n_begun_names -= names.len());
        let Some(dir) = self.index.dir_of_key(key) else {
            return;
        };
        match self.index.parent(dir) {
            Some(parent) => {
                let name: Box<[u8]> = self.index.dir_name(dir).into();
                self.index.set_watch(dir, Watch::default(), true);
                out.push(Effect::Look(Look::new(parent, &name, Why::Hint)));
            }
            // The root is looked for at its path by the thread that keeps it.
            None => self.scanning.recover(ScanCause::Loss),
        }
    }

    /// A watcher names a path: the first unknown name on the way is looked at.
    fn hint_path(&mut self, now: Now, path: Box<[u8]>, out: &mut Vec<Effect>) {
        if path.is_empty() {
            // The root itself was touched: nothing below it is certain.
            return self.scanning.recover(ScanCause::Loss);
        }
        let mut dir = self.index.root();
        let mut at = 0;
        let end = loop {
            let end = path[at..]
                .iter()
                .position(|b| *b == b'/')
                .map_or(path.len(), |n| at + n);
            let name = &path[at..end];
            if !is_name(name) || (at == 0 && name == CONTROL) {
                return;
            }
            match self.index.find(dir, name) {
                Some(Known::Dir { id, .. }) if end < path.len() => dir = id,
                _ => break end,
            }
            at = end + 1;
        };
        if let Some(session) = self.session_at_name(dir, &path[at..end]) {
            self.index.note_written(session, now.wall.into());
        }
        let path = if end < path.len() {
            Box::from(&path[..end])
        } else {
            path
        };
        out.push(Effect::Look(Look {
            dir,
            path,
            name_at: at,
            why: Why::Hint,
        }));
    }
}
