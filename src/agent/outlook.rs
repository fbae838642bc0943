//! The documents of `next` and `why`: what goes next and when, what becomes of one session, and
//! what became of one that is gone.

use crate::agent::report::{path_text, time};
use crate::config::settings::Root;
use crate::engine::outlook::{Outlook, Prospect};
use crate::model::count::Count;
use crate::model::path::{RelPath, escape, unescape};
use crate::model::plan::Rule;
use crate::model::time::rfc3339;
use crate::policy::forecast::{Ahead, Due, Fate, Outset, forecast};
use crate::policy::limits::Limits;
use crate::policy::{Candidate, Hold};
use crate::store::audit::{Entry, Wanted};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;

/// Why nothing goes from a root, whatever its rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prevention {
    /// Somebody has to accept it first.
    Held,
    /// The agent only looks.
    Observe,
}

impl Prevention {
    fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Observe => "observe",
        }
    }
}

/// One root of `next`.
pub fn next(root: &Root, outlook: &Outlook, prevented: Option<Prevention>) -> Value {
    let fates = forecast(&outlook.outset, outlook.oldest.iter().copied());
    let rows = outlook.rows.iter().zip(&fates);
    let growth = outlook.outset.growth;
    let known = !growth.over.is_zero();
    let a_second = |n: u64| known.then(|| n as f64 / growth.over.as_secs_f64());
    json!({
        "name": root.name,
        "path": path_text(root),
        "bytes": outlook.outset.usage.bytes.0,
        "limit_bytes": root.limits.max_size.map(|bytes| bytes.0),
        "bytes_per_second": a_second(growth.bytes.0),
        "sessions_per_second": a_second(growth.n_sessions),
        "sessions": rows.map(|(row, fate)| {
            let mut value = spelled(root, row);
            add(&mut value, outlook, fate);
            value
        }).collect::<Vec<_>>(),
        "more": outlook.more,
        "prevented_by": prevented.map(Prevention::name),
    })
}

fn spelled(root: &Root, row: &Prospect) -> Value {
    json!({
        "id": escape(root.layout.id(&row.key)),
        "path": row.path.as_ref().map(ToString::to_string),
        "bytes": row.bytes.0,
        "created_at": time(row.created),
        "session_state": row.state.as_deref(),
    })
}

fn add(value: &mut Value, outlook: &Outlook, fate: &Fate) {
    value["rule"] = fate.rule.map(Rule::name).into();
    value["due"] = due_name(outlook, fate.due).into();
    let moment = match fate.due {
        Due::At(moment) => Some(moment),
        Due::Now | Due::NeverAtThisRate | Due::Never => None,
    };
    value["expected_at"] = time(moment.map(|moment| moment.at));
    hold(value, outlook, fate.passed_over);
}

fn hold(value: &mut Value, outlook: &Outlook, hold: Option<Hold>) {
    value["held_by"] = hold.map(|hold| hold.by.name()).into();
    let now = outlook.outset.now;
    let until = hold.and_then(|hold| hold.until);
    value["held_until"] = time(until.map(|until| now.wall + until.since(now.tick)));
}

fn due_name(outlook: &Outlook, due: Due) -> &'static str {
    match due {
        Due::Now => "now",
        Due::At(moment) if moment.exact => "at",
        Due::At(_) => "at_present_rate",
        // Whoever only looks once knows no rate.
        Due::NeverAtThisRate if outlook.outset.growth.over.is_zero() => "rate_unknown",
        Due::NeverAtThisRate => "never_at_present_rate",
        Due::Never => "never",
    }
}

/// A session as somebody calls it, below this root: an absolute path loses the root's own, which
/// it must begin with.
pub fn below(root: &Root, subject: &str) -> Option<Box<[u8]>> {
    let bytes = unescape(subject);
    if !bytes.starts_with(b"/") {
        let plain = bytes.strip_suffix(b"/").unwrap_or(&bytes);
        return Some(plain.into());
    }
    let cut = |path: &std::path::Path| {
        let rest = bytes.strip_prefix(path.as_os_str().as_bytes())?;
        let rest = rest.strip_prefix(b"/")?;
        Some(rest.strip_suffix(b"/").unwrap_or(rest).into())
    };
    cut(&root.path).or_else(|| cut(&root.real))
}

/// `why` of what is there in one root. `None`: nothing of that name is. Several of one id are
/// only listed.
pub fn present(root: &Root, outlook: &Outlook, prevented: Option<Prevention>) -> Option<Value> {
    let row = match &outlook.rows[..] {
        [] => return None,
        [row] => row,
        rows => {
            let candidates = rows
                .iter()
                .map(|row| spelled(root, row))
                .collect::<Vec<_>>();
            return Some(json!({
                "state": "ambiguous",
                "root": root.name,
                "rule": null,
                "because": format!("{} sessions are called so: name one by its path", rows.len()),
                "candidates": candidates,
            }));
        }
    };
    let mut value = json!({
        "state": "present",
        "root": root.name,
        "prevented_by": prevented.map(Prevention::name),
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, spelled(root, row)) {
        value.extend(more);
    }
    let at = |ahead: &Ahead| ahead.candidate.session == row.session;
    let Some(place) = outlook.oldest.iter().position(at) else {
        return Some(out_of_order(value, outlook, row));
    };
    let upto = outlook.oldest[..=place].iter().copied();
    let fates = forecast(&outlook.outset, upto);
    let fate = &fates[place];
    let before = fates[..place]
        .iter()
        .filter(|fate| fate.passed_over.is_none());
    value["place"] = (before.count() + 1).into();
    add(&mut value, outlook, fate);
    value["because"] = sentence(&value).into();
    Some(value)
}

/// A session without a creation time, or behind more than were walked.
fn out_of_order(mut value: Value, outlook: &Outlook, row: &Prospect) -> Value {
    value["place"] = Value::Null;
    let outset = Outset {
        limits: Limits {
            max_age: outlook.outset.limits.max_age,
            ..Limits::default()
        },
        ..outlook.outset.clone()
    };
    let ahead = row.created.map(|created| Ahead {
        candidate: Candidate {
            session: row.session,
            created,
            bytes: row.bytes,
            hold: row.hold,
        },
        freed: row.bytes,
        retires: None,
    });
    match forecast(&outset, ahead).first() {
        Some(fate) => {
            add(&mut value, outlook, fate);
            let n_before = outlook.oldest.len();
            value["because"] = format!(
                "more than {n_before} older sessions go before it; {}",
                sentence(&value)
            )
            .into();
        }
        None => {
            value["rule"] = Value::Null;
            value["due"] = "never".into();
            value["expected_at"] = Value::Null;
            hold(&mut value, outlook, row.hold);
            value["because"] = sentence(&value).into();
        }
    }
    value
}

/// What becomes of what is there, for people.
fn sentence(value: &Value) -> String {
    let at = value["expected_at"].as_str().unwrap_or("-");
    let rule = value["rule"].as_str().unwrap_or("no rule");
    let but = match value["prevented_by"].as_str() {
        Some("held") => "its root is held, so nothing goes before it is accepted; then ",
        Some(_) => "the agent only observes its root, so nothing goes; else ",
        None => "",
    };
    let goes = match value["due"].as_str() {
        Some("now") => format!("{rule} takes it now"),
        Some("at") => format!("{rule} takes it at {at}"),
        Some("at_present_rate") => format!("{rule} takes it about {at}, at the present rate"),
        Some("rate_unknown") => {
            format!("{rule} takes it once enough has come; a running agent knows the rate")
        }
        Some("never_at_present_rate") => {
            format!("{rule} would take it, but never at the present rate: nothing comes")
        }
        _ => "no rule takes it".to_owned(),
    };
    match (value["held_by"].as_str(), value["held_until"].as_str()) {
        (None, _) => format!("{but}{goes}"),
        (Some(by), None) => format!("{but}it stays for it is {by}; without that {goes}"),
        (Some(by), Some(until)) => {
            format!("{but}it stays for it is {by} until {until}; without that {goes}")
        }
    }
}

/// `why` of what is gone, from the newest row that says so. `None`: none does.
pub fn gone(entries: &[Entry]) -> Option<Value> {
    let entry = entries
        .iter()
        .rfind(|entry| entry.event == "prune.deleted")?;
    let saving = entry.saving();
    let mut because = format!(
        "it was removed at {} by the agent's {}: {}",
        rfc3339(entry.at),
        entry.actor,
        entry.because
    );
    if let Some((keys, value)) = &saving {
        because += &format!("; {keys} of at least {value} would have kept it then");
    }
    Some(json!({
        "state": "removed",
        "root": entry.root,
        "session": entry.session,
        "path": entry.path,
        "bytes": entry.bytes,
        "removed_at": rfc3339(entry.at),
        "actor": entry.actor,
        "rule": entry.rule,
        "because": because,
        "usage_bytes": entry.usage_bytes,
        "limit_bytes": entry.limit_bytes,
        "spared_by": saving.map(|(keys, value)| json!({ "limit": keys, "value": value })),
        "plan": entry.plan,
        "audit_id": entry.id,
    }))
}

/// The answer of `why`: what was found, or that nobody knows it. What is there speaks before
/// what is gone. `doubt`: why the audit may not tell of all that is gone.
pub fn why(subject: &str, present: Vec<Value>, gone: Vec<Value>, doubt: Option<String>) -> Value {
    let mut found = present;
    if found.is_empty() {
        found = gone;
    }
    let mut answer = match found.len() {
        0 => json!({
            "state": "unknown",
            "rule": null,
            "because": match doubt {
                None => "no session of that path or id is there, and the audit knows of none that was removed".to_owned(),
                Some(doubt) => format!("no session of that path or id is there; whether one was removed is not known now: {doubt}"),
            },
        }),
        1 => found.remove(0),
        n => json!({
            "state": "ambiguous",
            "rule": null,
            "because": format!("{n} roots know it: name one with --root"),
            "candidates": found,
        }),
    };
    answer["subject"] = subject.into();
    answer
}

/// Why the audit may not tell of all that is gone, where rows wait to be written.
pub fn behind(n_rows: u64) -> Option<String> {
    (n_rows > 0).then(|| {
        format!(
            "what waits to be written to the audit: {}",
            Count(n_rows, "row")
        )
    })
}

/// Which audit is asked about a session that was called so.
pub fn question(root: &Root, name: &[u8]) -> Wanted {
    Wanted {
        root: Some(root.name.clone()),
        session: Some(RelPath::new(name).map_or_else(|_| escape(name), |path| path.to_string())),
        ..Wanted::default()
    }
}

/// One root of a document that could not be asked.
pub fn silent(root: &Root, why: &str) -> Value {
    json!({ "name": root.name, "path": path_text(root), "error": why })
}
