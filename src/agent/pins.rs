//! Pinning and unpinning sessions: the same for a running agent and for a command without one.

use crate::config::settings::Root;
use crate::disk::tree::Tree;
use crate::layout::spec::Kind;
use crate::model::disk::Disk;
use crate::model::path::{RelPath, escape, unescape};
use crate::model::pin::{Pin, Pins};
use crate::model::seen::Seen;
use crate::model::session::Key;
use crate::model::time::Time;
use crate::store::pin_file::{PinError, PinFile, to_json};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::path::Path;

/// What is said of one session: a pin to be written, or one to be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put {
        session: Key,
        owner: String,
        reason: String,
        until: Option<Time>,
    },
    Remove {
        session: Key,
    },
}

/// Reads a change as the socket has it. `Err` says what is wrong.
pub fn change(request: &Value) -> Result<Change, String> {
    let text = |field: &str| match &request[field] {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(format!("`{field}` must be text")),
    };
    let session: Key = unescape(&text("session")?).into();
    if request["command"] == "unpin" {
        return Ok(Change::Remove { session });
    }
    let until = match &request["until"] {
        Value::Null => None,
        Value::String(until) => {
            let parsed = DateTime::parse_from_rfc3339(until);
            let parsed = parsed.map_err(|_| "`until` must be a time in RFC 3339".to_owned())?;
            Some(parsed.with_timezone(&Utc))
        }
        _ => return Err("`until` must be a time in RFC 3339".to_owned()),
    };
    let owner = match &request["owner"] {
        Value::Null => String::new(),
        _ => text("owner")?,
    };
    Ok(Change::Put {
        session,
        owner,
        reason: text("reason")?,
        until,
    })
}

/// Carries a change out. When it returns, the pin is on the disk; the document says what was done.
///
/// # Errors
/// It could not be written: nothing changed.
pub fn carry_out(
    state_dir: &Path,
    root: &Root,
    change: Change,
    now: Time,
) -> Result<Value, PinError> {
    let mut file = PinFile::of(state_dir, &root.real);
    let mut document = match change {
        Change::Put {
            session,
            owner,
            reason,
            until,
        } => {
            let pin = Pin {
                session,
                owner,
                reason,
                created: now,
                until,
            };
            file.put(pin.clone())?;
            let mut document = to_json(&pin);
            document["exists"] = exists(root, &pin.session).into();
            document
        }
        Change::Remove { session } => {
            let unpinned = file.remove(&session)?;
            json!({ "session": escape(&session), "unpinned": unpinned })
        }
    };
    document["root"] = root.name.as_str().into();
    Ok(document)
}

/// Whether there is something at the session's path. `None`: its key is no path, or it cannot be
/// looked at.
fn exists(root: &Root, session: &Key) -> Option<bool> {
    match root.layout.kind() {
        Kind::Directories | Kind::Files => {}
        Kind::Sidecar | Kind::Catalog => return None,
    }
    let tree = Tree::open(&root.real).ok()?;
    match tree.look(&RelPath::new(session).ok()?) {
        Seen::There(_) => Some(true),
        Seen::Gone => Some(false),
        Seen::Unreadable(_) => None,
    }
}

/// One root of `pins`.
pub fn list(state_dir: &Path, root: &Root, now: Time) -> Value {
    let pins = PinFile::of(state_dir, &root.real).load();
    let rows: Vec<Value> = match &pins {
        Pins::Unreadable(_) => Vec::new(),
        Pins::Known(pins) => pins
            .values()
            .map(|pin| {
                let mut row = to_json(pin);
                row["ended"] = pin.has_ended(Some(now)).into();
                row
            })
            .collect(),
    };
    json!({ "name": root.name, "pins": rows, "error": pins.trouble() })
}
