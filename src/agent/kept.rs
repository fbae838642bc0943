//! The trash that is kept: what is in it, and how a session comes back. The same for a running
//! agent and for a command without one.
//!
//! A session that comes back is pinned first, for as long as it was kept, so that what took it
//! does not take it again at once. Its record is believed in nothing that can be asked again: the
//! layout must own the place, and the inode must be the one that was taken.

use crate::agent::audit::Clerk;
use crate::agent::outlook::below;
use crate::agent::report::{path_text, time};
use crate::agent::root::{Order, Orders};
use crate::agent::service::chain;
use crate::clock::SystemClock;
use crate::config::settings::Root;
use crate::disk::kept;
use crate::disk::measure::measured;
use crate::disk::records::RecordDir;
use crate::disk::tree::Tree;
use crate::engine::Command;
use crate::layout::spec::Kind;
use crate::model::bytes::{Bytes, Measure};
use crate::model::disk::{Bundles, Disk, Records};
use crate::model::path::{RelPath, escape, unescape};
use crate::model::pin::{Pin, Pins};
use crate::model::report::{Aside, AsideName};
use crate::model::seen::Seen;
use crate::model::session::Key;
use crate::model::time::{Clock, Time, rfc3339};
use crate::prune::origin::Origin;
use crate::store::Store;
use crate::store::audit::{Actor, Entry};
use crate::store::pin_file::PinFile;
use chrono::TimeDelta;
use crossbeam_channel::{RecvTimeoutError, bounded};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A session that came back is pinned for so long at least.
const SHORTEST_PIN: Duration = Duration::from_secs(600);
/// So long a root's thread is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// One session in the trash.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: AsideName,
    /// `None`: nobody knows any more, and it cannot come back.
    pub origin: Option<Origin>,
}

/// All that is kept, oldest first. Makes nothing; records that are about nothing are left alone.
///
/// # Errors
/// The trash is not the agent's own, or cannot be read.
pub fn rows(tree: &Arc<Tree>) -> io::Result<Vec<Row>> {
    let names = kept::list(tree)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    // Without its record a session is in the trash all the same.
    let records = origins(tree);
    let row = |name: AsideName| {
        let text = records.one(&name.0).unwrap_or_else(|error| {
            tracing::warn!(event = "trash.unread", record = %name.0, error = %error, "where a kept session came from cannot be read");
            None
        });
        let origin = text.and_then(|text| Origin::from_json(&name.0, &text));
        Row { name, origin }
    };
    Ok(names.into_iter().map(row).collect())
}

/// The records of where kept sessions came from.
pub fn origins(tree: &Arc<Tree>) -> RecordDir {
    RecordDir::origins(tree.clone())
}

/// What an engine must know of it: names with their bytes, counted where no record tells them.
/// What cannot be read is logged, and waits for the next start.
pub(super) fn known(tree: &Arc<Tree>, measure: Measure) -> Vec<(AsideName, Bytes)> {
    let rows = rows(tree).unwrap_or_else(|error| {
        tracing::warn!(event = "start.leftover", error = %error, "the kept trash cannot be listed");
        Vec::new()
    });
    let bytes = |row: &Row| match &row.origin {
        Some(origin) => origin.bytes,
        None => measured(tree, &Aside::Kept(row.name.clone())).bytes(measure),
    };
    rows.into_iter()
        .map(|row| (row.name.clone(), bytes(&row)))
        .collect()
}

/// Ends what killed processes left half done, under the root's lock: else it could be under way.
/// Records of removals that never happened or are over go, as do places for files that none got
/// into. What came back with some of its files, and is pinned for that, comes back with the others.
pub(super) fn sweep(tree: &Arc<Tree>, root: &Root, pins: &Pins) {
    let records = origins(tree);
    let swept = kept::sweep(tree).and_then(|()| {
        let rows = rows(tree)?;
        let mut names: HashSet<&str> = HashSet::new();
        for Row { name, origin } in &rows {
            if let Some(origin) = origin.as_ref().filter(|origin| !origin.files.is_empty()) {
                finish_restore(tree, root, pins, (name, origin));
            }
            // Of what has a record only several files may be gone, and without one it is lost
            // as it is: a place for files is made before its record.
            let is_bundle = origin
                .as_ref()
                .is_none_or(|origin| !origin.files.is_empty());
            // Only an empty one goes.
            if !is_bundle || tree.drop_bundle(name).is_err() {
                names.insert(&name.0);
            }
        }
        for (name, _) in records.all()? {
            // What is there under another device number now is not listed, and there all the same.
            if !names.contains(&*name) && !kept::has(tree, &AsideName(name.clone())) {
                records.discard(&name)?;
            }
        }
        Ok(())
    });
    if let Err(error) = swept {
        tracing::warn!(event = "start.leftover", error = %error, "old records of the trash stay");
    }
}

/// Brings the rest of several files back, where some of them came back already.
fn finish_restore(tree: &Tree, root: &Root, pins: &Pins, (name, origin): (&AsideName, &Origin)) {
    let is_back = |file: &[u8]| {
        let path = origin.path.join(file);
        !kept::holds(tree, name, file)
            && path.is_ok_and(|path| matches!(tree.look(&path), Seen::There(_)))
    };
    let is_begun = origin.files.iter().any(|file| is_back(file));
    let id = root.layout.id(&origin.key);
    let is_pinned = pins.trouble().is_none() && pins.hold(&origin.key, id, None);
    if !is_begun || !is_pinned || !is_lawful(root, origin) {
        return;
    }
    match kept::unbundle(tree, name, &origin.path, &origin.files) {
        Ok(_) => tracing::info!(
            event = "session.restored",
            root = %root.name,
            session = %escape(&origin.key),
            "a session that had come back in part came back whole"
        ),
        Err(error) => tracing::warn!(
            event = "start.leftover",
            root = %root.name,
            session = %escape(&origin.key),
            error = %error,
            "a session came back in part: `housekeeper restore` brings back the rest"
        ),
    }
}

/// Discards the record of what is gone for good.
pub(super) fn forget(tree: &Arc<Tree>, aside: &Aside) {
    if let Aside::Kept(name) = aside
        && !kept::has(tree, name)
        && let Err(error) = origins(tree).discard(&name.0)
    {
        // It is about nothing now: the next start discards it.
        tracing::debug!(error = %error, "a record of the trash stays");
    }
}

/// One root of `trash list`.
pub fn list(root: &Root) -> Value {
    let mut document = json!({ "name": root.name, "path": path_text(root) });
    let tree = Tree::open(&root.real).map_err(io::Error::from);
    match tree.and_then(|tree| rows(&Arc::new(tree))) {
        Ok(rows) => {
            document["kept"] = rows.iter().map(|row| spelled(root, row)).collect();
        }
        Err(error) => document["error"] = error.to_string().into(),
    }
    document
}

/// Adds to `why` of what is gone that it may come back, where it may: the removal at that time.
pub fn add_to_why(root: &Root, gone: &mut Value) {
    gone["restorable_until"] = Value::Null;
    let tree = Tree::open(&root.real).map_err(io::Error::from);
    let rows = tree
        .and_then(|tree| rows(&Arc::new(tree)))
        .unwrap_or_default();
    let is_it = |row: &&Row| {
        let paths = row.origin.iter().flat_map(Origin::paths);
        paths
            .into_iter()
            .any(|path| gone["path"] == path.to_string())
    };
    if let Some(row) = rows.iter().rfind(is_it) {
        let until = until(root, row).map_or_else(|| "-".to_owned(), rfc3339);
        let because = gone["because"].as_str().unwrap_or_default();
        let name = &row.name.0;
        gone["because"] = format!(
            "{because}; until {until}, or until its space is needed, `housekeeper restore {name}` brings it back"
        )
        .into();
        gone["restorable_until"] = until.into();
    }
}

fn until(root: &Root, row: &Row) -> Option<Time> {
    let keep = TimeDelta::from_std(root.trash_keep).ok()?;
    row.name.since()?.checked_add_signed(keep)
}

fn spelled(root: &Root, row: &Row) -> Value {
    let origin = row.origin.as_ref();
    json!({
        "name": row.name.0,
        "id": origin.map(|origin| escape(root.layout.id(&origin.key))),
        "path": origin.map(Origin::shown),
        "bytes": origin.map(|origin| origin.bytes.0),
        "removed_at": time(row.name.since()),
        "until": time(until(root, row)),
        "rule": origin.map(|origin| origin.rule.as_str()),
        "because": origin.map(|origin| origin.because.as_str()),
    })
}

/// A session that came back.
#[derive(Debug)]
pub struct Restored {
    pub name: AsideName,
    pub origin: Origin,
    pub pinned_until: Option<Time>,
    /// Of several files those that somebody removed before they were kept.
    pub missing: Vec<Box<[u8]>>,
}

impl Restored {
    /// The answer of `restore`.
    pub fn document(&self, root: &Root) -> Value {
        json!({
            "restored": escape(root.layout.id(&self.origin.key)),
            "root": root.name,
            "path": self.origin.shown(),
            "bytes": self.origin.bytes.0,
            "removed_at": time(self.name.since()),
            "pinned_until": time(self.pinned_until),
            "missing": self.missing.iter().map(|name| escape(name)).collect::<Vec<_>>(),
        })
    }

    /// What the audit says of it.
    pub fn because(&self) -> String {
        let until = self.pinned_until.map(rfc3339);
        format!(
            "it was brought back from the trash, and is pinned until {}; it had gone for {}",
            until.as_deref().unwrap_or("it is unpinned"),
            self.origin.because
        )
    }
}

/// What brings sessions back, and tells who must know: the engine, where one runs, and the audit.
#[derive(Debug)]
pub struct Restorer {
    pub state_dir: PathBuf,
    pub store: Store,
    /// Roots in which it may be, each with its thread.
    pub roots: Vec<(Root, Option<Orders>)>,
}

impl Restorer {
    /// Brings back what is called so in one of the roots. Answers the document.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn restore(&self, wanted: &str) -> Result<Value, String> {
        let (root, orders) = self.root_with(wanted)?;
        let now = SystemClock::start().now().wall;
        let restored = restore(&self.state_dir, root, orders.as_ref(), wanted, now)?;
        let mut clerk = Clerk::new(Actor::Command);
        self.store.audit(Entry {
            root: Some(root.name.clone()),
            session: Some(escape(&restored.origin.key)),
            path: Some(restored.origin.shown()),
            bytes: Some(restored.origin.bytes.0),
            rule: Some(restored.origin.rule.clone()),
            ..clerk.note(now, "session.restored", restored.because())
        });
        tracing::info!(
            event = "session.restored",
            root = %root.name,
            session = %escape(&restored.origin.key),
            freed_bytes = restored.origin.bytes.0,
            "a session was brought back from the trash"
        );
        Ok(restored.document(root))
    }

    /// The root in whose trash something is called so.
    fn root_with(&self, wanted: &str) -> Result<(&Root, &Option<Orders>), String> {
        let has = |root: &Root| {
            let tree = Tree::open(&root.real).map_err(io::Error::from);
            let rows = tree.and_then(|tree| rows(&Arc::new(tree)));
            rows.is_ok_and(|rows| rows.iter().any(|row| is_called(root, row, wanted)))
        };
        let found: Vec<_> = match &self.roots[..] {
            [only] => vec![only],
            roots => roots.iter().filter(|(root, _)| has(root)).collect(),
        };
        match found[..] {
            [(root, orders)] => Ok((root, orders)),
            [] => Err(format!(
                "nothing called `{wanted}` is in the trash; `housekeeper trash list` shows what is"
            )),
            _ => {
                let names: Vec<&str> = found.iter().map(|(root, _)| root.name.as_str()).collect();
                let names = names.join(", ");
                Err(format!(
                    "`{wanted}` is in the trash of {names}: name one with --root"
                ))
            }
        }
    }
}

fn is_called(root: &Root, row: &Row, wanted: &str) -> bool {
    let key = row.origin.as_ref().map(|origin| &origin.key);
    row.name.0 == wanted
        || row.name.ulid() == wanted
        || key.is_some_and(|key| below(root, wanted).as_deref() == Some(&**key))
        || key.is_some_and(|key| root.layout.id(key) == &unescape(wanted)[..])
}

/// Brings a session back that is called so: its name in the trash, its path or its id.
///
/// # Errors
/// A sentence that says why not and what to do; nothing changed then.
fn restore(
    state_dir: &Path,
    root: &Root,
    orders: Option<&Orders>,
    wanted: &str,
    now: Time,
) -> Result<Restored, String> {
    let tree = Tree::open(&root.real).map_err(|error| error.to_string())?;
    let tree = Arc::new(tree);
    let rows = rows(&tree).map_err(|error| format!("the trash cannot be read: {error}"))?;
    let (name, origin) = pick(root, rows, wanted)?;
    if !is_lawful(root, &origin) {
        let path = origin.shown();
        return Err(format!(
            "the record of {} says it was at {path}, where the root's layout has no session: it stays in the trash",
            name.0
        ));
    }
    // Looked at before anything is pinned; the rename decides.
    if let Some(path) = in_the_way(&tree, &name, &origin) {
        return Err(occupied(&path));
    }
    let mut file = PinFile::of(state_dir, &root.real);
    let (pinned_until, before) = pin(&mut file, root, &origin.key, now)?;
    let told = orders.map_or(Ok(()), |orders| announce(orders, &name, &origin));
    if let Err(why) = told {
        unpin(&mut file, &origin.key, before);
        return Err(why);
    }
    let back = match &origin.files[..] {
        [] => kept::bring_back(&tree, &name, &origin.path).map(|()| Vec::new()),
        files => kept::unbundle(&tree, &name, &origin.path, files),
    };
    let error = back.as_ref().err();
    if let Some(error) = error {
        unpin(&mut file, &origin.key, before);
        if let Some(orders) = orders.filter(|_| kept::has(&tree, &name)) {
            take_back(orders, &name, &origin);
        }
        return Err(match error.raw_os_error() {
            Some(libc::EEXIST) => occupied(&origin.shown()),
            Some(libc::EAGAIN) => format!(
                "others are just kept or let go of: {} stays in the trash, try again",
                origin.shown()
            ),
            Some(libc::ENOENT) => missing(&tree, &origin),
            Some(libc::ELOOP | libc::ENOTDIR | libc::EXDEV) => format!(
                "a symlink, a mount or a file is in the way to {}: it stays in the trash",
                origin.shown()
            ),
            _ => format!("{} cannot be brought back: {error}", origin.shown()),
        });
    }
    forget(&tree, &Aside::Kept(name.clone()));
    Ok(Restored {
        name,
        origin,
        pinned_until,
        missing: back.unwrap_or_default(),
    })
}

/// Has the root's thread count something as kept no more, before it counts as a session again:
/// counted twice it might cost others their place.
fn announce(orders: &Orders, name: &AsideName, origin: &Origin) -> Result<(), String> {
    let busy = || {
        format!(
            "the root is too busy: {} stays in the trash, try again",
            origin.shown()
        )
    };
    let (answer, answered) = bounded(1);
    if !orders.send(Order::Restoring(name.clone(), answer)) {
        return Err(busy());
    }
    match answered.recv_timeout(PATIENCE) {
        // Nobody looks after the root just then, and nobody counts.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        Err(RecvTimeoutError::Timeout) => {
            take_back(orders, name, origin);
            Err(busy())
        }
    }
}

/// It stays in the trash.
fn take_back(orders: &Orders, name: &AsideName, origin: &Origin) {
    let stays = Command::NotRestored(name.clone(), origin.bytes);
    if !orders.send(Order::Engine(stays)) {
        tracing::warn!(event = "trash.uncounted", record = %name.0, "a busy root does not count what stays in its trash before its next start");
    }
}

/// Whether the layout has such a session at the place that a record tells.
fn is_lawful(root: &Root, origin: &Origin) -> bool {
    let layout = &root.layout;
    match (layout.kind(), &origin.files[..]) {
        (Kind::Directories, []) => {
            layout.owns(&origin.path) && *origin.key == *origin.path.as_bytes()
        }
        (Kind::Files | Kind::Sidecar, []) => layout.owns_file(&origin.path, &origin.key),
        (Kind::Sidecar, files) => files.iter().all(|name| {
            let path = origin.path.join(name);
            path.is_ok_and(|path| layout.owns_file(&path, &origin.key))
        }),
        (Kind::Directories | Kind::Files, _) | (Kind::Catalog, _) => false,
    }
}

/// What is at a place that something kept goes back to.
fn in_the_way(tree: &Tree, name: &AsideName, origin: &Origin) -> Option<String> {
    let is_there = |path: &RelPath| matches!(tree.look(path), Seen::There(_));
    if origin.files.is_empty() {
        return is_there(&origin.path).then(|| origin.shown());
    }
    // What an earlier try brought back is in nobody's way.
    let is_kept = |file: &[u8]| kept::holds(tree, name, file);
    let names = origin.files.iter().filter(|file| is_kept(file));
    let mut paths = names.filter_map(|file| origin.path.join(file).ok());
    paths.find(is_there).map(|path| path.to_string())
}

fn occupied(path: &str) -> String {
    format!("something is at {path} again: move it away, then restore once more")
}

fn missing(tree: &Tree, origin: &Origin) -> String {
    match origin.home().map(|home| (tree.look(&home), home)) {
        Some((Seen::Gone, parent)) => format!(
            "the directory {parent} is gone, or behind a symlink: make it, then restore once more"
        ),
        _ => format!("{} is not in the trash any more", origin.shown()),
    }
}

/// The one that is called so.
fn pick(root: &Root, rows: Vec<Row>, wanted: &str) -> Result<(AsideName, Origin), String> {
    let is_called = |row: &Row| is_called(root, row, wanted);
    let mut found: Vec<Row> = rows.into_iter().filter(is_called).collect();
    let names: Vec<String> = found.iter().map(|row| row.name.0.clone()).collect();
    match (found.len(), found.pop()) {
        (
            1,
            Some(Row {
                name,
                origin: Some(origin),
            }),
        ) => Ok((name, origin)),
        (1, Some(row)) => Err(format!(
            "where {} came from is not known any more: it stays in the trash until its time is over",
            row.name.0
        )),
        (_, None) => Err(format!(
            "nothing called `{wanted}` is in the trash of {}; `housekeeper trash list` shows what is",
            root.name
        )),
        (n, Some(_)) => Err(format!(
            "{n} in the trash are called `{wanted}`: name one of {}",
            names.join(", ")
        )),
    }
}

type Before = Option<Pin>;

/// Pins a session that comes back, unless a pin holds for longer already. Answers until when it
/// is pinned (`None`: until it is unpinned), and what pin there was.
fn pin(
    file: &mut PinFile,
    root: &Root,
    key: &Key,
    now: Time,
) -> Result<(Option<Time>, Option<Before>), String> {
    let pins = match file.load() {
        Pins::Known(pins) => pins,
        Pins::Unreadable(why) => {
            return Err(format!(
                "the pins cannot be read ({why}), and what comes back must be pinned: mend them first"
            ));
        }
    };
    let before = pins.get(key).cloned();
    let lasts = TimeDelta::from_std(root.trash_keep.max(SHORTEST_PIN)).unwrap_or(TimeDelta::MAX);
    let until = now.checked_add_signed(lasts).unwrap_or(Time::MAX_UTC);
    if let Some(pin) = &before
        && pin.until.is_none_or(|held| held >= until)
    {
        return Ok((pin.until, None));
    }
    let pin = Pin {
        session: key.clone(),
        owner: "restore".to_owned(),
        reason: "brought back from the trash".to_owned(),
        created: now,
        until: Some(until),
    };
    file.put(pin).map_err(|error| {
        format!(
            "what comes back must be pinned, and that cannot be: {}; it stays in the trash: mend that, or free some room, then restore once more",
            chain(&error)
        )
    })?;
    Ok((Some(until), Some(before)))
}

/// Undoes [`pin`], as far as it did anything.
fn unpin(file: &mut PinFile, key: &Key, before: Option<Before>) {
    let undone = match before {
        None => return,
        Some(Some(pin)) => file.put(pin),
        Some(None) => file.remove(key).map(|_| ()),
    };
    if let Err(error) = undone {
        tracing::warn!(error = %error, "a pin of a session that did not come back stays");
    }
}
