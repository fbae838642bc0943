//! Answers for people: the JSON documents of the outside contract as tables.
//!
//! Pure: text out of values. What a document lacks is shown as `-`. Names come from disks that
//! anybody may write to, so no control character of theirs reaches a terminal.

use crate::config::check::Check;
use crate::model::bytes::Bytes;
use crate::model::count::Count;
use crate::model::path::printable;
use chrono::{DateTime, Utc};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;
use std::collections::BTreeSet;

/// More rows than this nobody reads; how many were left out is said below them.
const MAX_ROWS: usize = 1000;
const BAR_WIDTH: u64 = 20;
const MISSING: &str = "-";

/// The answer of `scan`.
pub fn scan(document: &Value) -> String {
    each_root(document, |root, out| {
        line(
            out,
            &format!(
                "{}  {}  ({})",
                text(&root["name"]),
                text(&root["path"]),
                text(&root["layout"])
            ),
        );
        line(
            out,
            &format!(
                "  {} in {}, {}; unowned: {} in {}; took {} ms",
                size(&root["bytes"]),
                counted(&root["files"], "file"),
                counted(&root["session_count"], "session"),
                size(&root["unowned"]["bytes"]),
                many(&root["unowned"]["entries"], "entry", "entries"),
                text(&root["duration_ms"]),
            ),
        );
        let header = [
            "ID",
            "CREATED",
            "STATE",
            "GROUP",
            "SIZE",
            "FILES",
            "ANOMALIES",
        ];
        table(
            out,
            &header,
            &["SIZE", "FILES"],
            &root["sessions"],
            |session| {
                vec![
                    text(&session["id"]),
                    time(&session["created_at"]),
                    text(&session["state"]),
                    text(&session["group"]),
                    size(&session["bytes"]),
                    text(&session["files"]),
                    words(&session["anomalies"]),
                ]
            },
        );
        table(
            out,
            &["ANOMALY", "PATH", "SIZE"],
            &["SIZE"],
            &root["anomalies"],
            |anomaly| {
                vec![
                    text(&anomaly["kind"]),
                    text(&anomaly["path"]),
                    size(&anomaly["bytes"]),
                ]
            },
        );
    })
}

/// The answer of `anomalies`.
pub fn anomalies(document: &Value) -> String {
    each_root(document, |root, out| {
        let found = &root["anomalies"];
        line(
            out,
            &format!(
                "{}  {}  {} anomalies, as of {}",
                text(&root["name"]),
                text(&root["path"]),
                count(found),
                time(&root["scanned_at"])
            ),
        );
        let header = ["ANOMALY", "PATH", "SIZE", "FIRST SEEN", "LAST SEEN"];
        table(out, &header, &["SIZE"], found, |anomaly| {
            vec![
                text(&anomaly["kind"]),
                text(&anomaly["path"]),
                size(&anomaly["bytes"]),
                time(&anomaly["first_seen"]),
                time(&anomaly["last_seen"]),
            ]
        });
        let kinds = found.as_array().into_iter().flatten();
        let kinds: BTreeSet<&str> = kinds.filter_map(|row| row["kind"].as_str()).collect();
        for kind in kinds {
            if let Some(remedy) = remedy(kind) {
                line(out, &format!("  {kind}: {remedy}"));
            }
        }
    })
}

/// What to do about a kind of anomaly: the last column of its row in the documentation.
pub fn remedy(kind: &str) -> Option<&'static str> {
    let rows = include_str!("../../docs/ANOMALIES.md").lines();
    let mut cells = rows.map(|row| row.trim_matches(['|', ' ']).rsplit(" | "));
    cells.find_map(|mut row| {
        let remedy = row.next()?;
        let is_it = row.last()?.trim_matches('`') == kind;
        is_it.then_some(remedy)
    })
}

/// The answer of `plan`.
pub fn plan(document: &Value) -> String {
    each_root(document, |root, out| {
        usage(root, out);
        if is_empty(&root["victims"]) {
            line(out, "  nothing would go");
        }
        victims(&root["victims"], out);
        transitions(root, out);
        held_back(root, out);
    })
}

/// The answer of `next`.
pub fn next(document: &Value) -> String {
    each_root(document, |root, out| {
        if let Some(error) = root["error"].as_str() {
            let error = printable(error);
            return line(out, &format!("{}: {error}", text(&root["name"])));
        }
        usage(root, out);
        match root["prevented_by"].as_str() {
            Some("held") => line(out, "  held: nothing goes before it is accepted"),
            Some(_) => line(out, "  the agent only observes: nothing goes"),
            None => {}
        }
        if is_empty(&root["sessions"]) {
            line(out, "  there is no session that a rule could take");
        }
        let header = ["ID", "CREATED", "SIZE", "RULE", "WHEN", "STAYS FOR IT IS"];
        table(out, &header, &["SIZE"], &root["sessions"], |session| {
            let at = time(&session["expected_at"]);
            let when = match session["due"].as_str() {
                Some("at") => at,
                Some("at_present_rate") => format!("about {at}"),
                Some(due) => due.replace('_', " "),
                None => MISSING.to_owned(),
            };
            vec![
                text(&session["id"]),
                time(&session["created_at"]),
                size(&session["bytes"]),
                text(&session["rule"]),
                when,
                text(&session["held_by"]),
            ]
        });
    })
}

/// The answer of `trash list`.
pub fn trash(document: &Value) -> String {
    each_root(document, |root, out| {
        let name = text(&root["name"]);
        if let Some(error) = root["error"].as_str() {
            return line(out, &format!("{name}: {}", printable(error)));
        }
        if is_empty(&root["kept"]) {
            return line(out, &format!("{name}: nothing may come back"));
        }
        line(out, &name);
        let header = ["ID", "REMOVED", "UNTIL", "SIZE", "RULE", "NAME"];
        table(out, &header, &["SIZE"], &root["kept"], |row| {
            vec![
                text(&row["id"]),
                time(&row["removed_at"]),
                time(&row["until"]),
                size(&row["bytes"]),
                text(&row["rule"]),
                text(&row["name"]),
            ]
        });
    })
}

/// The answer of `prune-size`: of one root, or of several.
pub fn prune_size(document: &Value) -> String {
    each_root(document, |root, out| {
        usage(root, out);
        let removed = &root["removed"];
        if is_empty(removed) {
            line(out, "  nothing was removed");
            if !is_empty(&root["victims"]) {
                line(out, "  planned:");
                victims(&root["victims"], out);
            }
        } else {
            victims(removed, out);
            line(
                out,
                &format!(
                    "  removed {}, {} freed, {} left",
                    Count(removed.as_array().map_or(0, Vec::len) as u64, "session"),
                    size(&root["freed_bytes"]),
                    size(&root["left_bytes"])
                ),
            );
        }
        held_back(root, out);
    })
}

fn registry(registry: &Value, out: &mut String) {
    if let Some(message) = registry["message"].as_str() {
        let message = printable(message);
        line(out, &format!("the clean-ups cannot be read: {message}"));
    }
    if registry["cleanups"].as_u64().unwrap_or_default() == 0 {
        return;
    }
    let next = match registry["next"].as_str() {
        Some(id) => format!("; {id} runs next, at {}", time(&registry["next_run"])),
        None => String::new(),
    };
    let [all, watched, running] =
        ["cleanups", "watched", "running"].map(|key| text(&registry[key]));
    line(
        out,
        &format!("{all} clean-ups, {watched} of them watched, {running} under way{next}"),
    );
}

/// The answer of `status`.
pub fn status(document: &Value) -> String {
    let mut out = format!(
        "housekeeper {}, process {}, mode {}, since {}\n",
        text(&document["version"]),
        text(&document["pid"]),
        text(&document["mode"]),
        time(&document["started_at"]),
    );
    registry(&document["registry"], &mut out);
    if let Some(message) = document["store"]["message"].as_str() {
        let (message, backlog) = (printable(message), text(&document["store"]["backlog"]));
        line(
            &mut out,
            &format!("the store is left out, {backlog} rows wait: {message}"),
        );
    }
    let header = [
        "ROOT",
        "USAGE",
        "LIMIT",
        "",
        "SESSIONS",
        "PRUNED",
        "FREED",
        "TRASH",
        "WATCH",
        "NEXT SCAN",
        "READY",
    ];
    let right = ["USAGE", "LIMIT", "SESSIONS", "PRUNED", "FREED", "TRASH"];
    table(&mut out, &header, &right, &document["roots"], |root| {
        vec![
            text(&root["name"]),
            size(&root["bytes"]),
            limit(&root["limit_bytes"]),
            bar(&root["bytes"], &root["limit_bytes"]),
            text(&root["session_count"]),
            text(&root["pruned"]["sessions"]),
            size(&root["pruned"]["bytes"]),
            size(&root["trash_bytes"]),
            watch(&root["watch"]),
            time(&root["rescan"]["next_at"]),
            ready(root),
        ]
    });
    for root in document["roots"].as_array().into_iter().flatten() {
        for sentence in trouble(root).into_iter().chain(second_choice(root)) {
            line(&mut out, &sentence);
        }
    }
    out
}

/// The answer of `check-config`.
pub fn check(check: &Check) -> String {
    let mut out = String::new();
    for problem in &check.problems {
        line(&mut out, &printable(&problem.to_string()));
    }
    let verdict = match (check.problems.len(), &check.effective) {
        (0, _) => "the configuration is good".to_owned(),
        (n, Some(_)) => format!(
            "{}; the agent would start and leave out what is wrong",
            problems(n)
        ),
        (n, None) => format!("{}; the agent would not start", problems(n)),
    };
    line(&mut out, &verdict);
    let roots = check.effective.as_ref().and_then(|e| e["roots"].as_array());
    for root in roots.into_iter().flatten() {
        let watch = &root["watch"];
        let watched = match watch["backend"].as_str() {
            Some(backend) => format!("{backend} ({})", text(&watch["why"])),
            None => "nothing is at its path yet".to_owned(),
        };
        line(&mut out, &format!("{}: {watched}", text(&root["name"])));
    }
    out
}

/// The roots of a document one by one, or the document itself where it is one root.
/// The presets there are.
pub fn presets(document: &Value) -> String {
    let mut out = String::new();
    let row = |preset: &Value| vec![text(&preset["name"]), text(&preset["summary"])];
    table(
        &mut out,
        &["preset", "what it is for"],
        &[],
        &document["presets"],
        row,
    );
    line(
        &mut out,
        "  `housekeeper presets show NAME` prints one to copy from",
    );
    out
}

/// Which presets fit a directory, and what each would own.
pub fn detect(document: &Value) -> String {
    let mut out = String::new();
    let row = |preset: &Value| {
        let fits = if preset["fits"] == true { "yes" } else { "no" };
        vec![
            text(&preset["preset"]),
            fits.to_owned(),
            count(&preset["session_count"]),
            size(&preset["bytes"]),
            count(&preset["anomalies"]),
            count(&preset["unowned"]["entries"]),
            text(&preset["sessions"][0]["id"]),
        ]
    };
    let header = [
        "preset",
        "fits",
        "sessions",
        "bytes",
        "anomalies",
        "unowned",
        "oldest",
    ];
    let right = ["sessions", "bytes", "anomalies", "unowned"];
    table(&mut out, &header, &right, &document["presets"], row);
    let best = &document["presets"][0];
    if best["fits"] == true {
        let words = format!(
            "  try: housekeeper scan --root {} --preset {}",
            text(&document["path"]),
            text(&best["preset"])
        );
        line(&mut out, &words);
    } else {
        line(
            &mut out,
            "  none fits: see docs/CONFIGURATION.md on how to write a layout",
        );
    }
    out
}

fn each_root(document: &Value, mut render: impl FnMut(&Value, &mut String)) -> String {
    let mut out = String::new();
    match document["roots"].as_array() {
        Some(roots) => {
            for (at, root) in roots.iter().enumerate() {
                if at > 0 {
                    out.push('\n');
                }
                render(root, &mut out);
            }
        }
        None => render(document, &mut out),
    }
    out
}

fn usage(root: &Value, out: &mut String) {
    let bar = bar(&root["bytes"], &root["limit_bytes"]);
    let text = format!(
        "{}  {} of {}  {bar}",
        text(&root["name"]),
        size(&root["bytes"]),
        limit(&root["limit_bytes"]),
    );
    line(out, text.trim_end());
}

fn victims(victims: &Value, out: &mut String) {
    let header = ["ID", "CREATED", "SIZE", "RULE", "BECAUSE"];
    table(out, &header, &["SIZE"], victims, |victim| {
        vec![
            text(&victim["id"]),
            time(&victim["created_at"]),
            size(&victim["bytes"]),
            text(&victim["rule"]),
            text(&victim["because"]),
        ]
    });
}

fn transitions(root: &Value, out: &mut String) {
    let header = ["ID", "ACTION", "FILES", "SIZE", "RULE", "BECAUSE"];
    table(
        out,
        &header,
        &["FILES", "SIZE"],
        &root["transitions"],
        |transition| {
            vec![
                text(&transition["id"]),
                text(&transition["action"]),
                text(&transition["files"]),
                size(&transition["bytes"]),
                text(&transition["rule"]),
                text(&transition["because"]),
            ]
        },
    );
    let later = &root["transitions_later"];
    if later.as_u64() > Some(0) {
        let steps = many(later, "more step is due", "more steps are due");
        line(
            out,
            &format!("  {steps}: a later cycle takes them (lifecycle.batch)"),
        );
    }
}

fn held_back(root: &Value, out: &mut String) {
    for blocked in root["blocked"].as_array().into_iter().flatten() {
        line(
            out,
            &format!(
                "  {}: {}, {}",
                text(&blocked["reason"]),
                many(&blocked["sessions"], "session stays", "sessions stay"),
                size(&blocked["bytes"])
            ),
        );
    }
    if root["still_over_bytes"]
        .as_u64()
        .is_some_and(|bytes| bytes > 0)
    {
        let over = size(&root["still_over_bytes"]);
        line(out, &format!("  still {over} over the limit then"));
    }
}

fn watch(watch: &Value) -> String {
    if watch.is_null() {
        return MISSING.to_owned();
    }
    format!("{} {}", text(&watch["backend"]), text(&watch["state"]))
}

fn ready(root: &Value) -> String {
    if is_held(root) {
        return "held".to_owned();
    }
    match root["ready"].as_bool() {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => text(&root["ready"]),
    }
}

/// Why a root is not watched as it could be best; nothing where it is.
fn second_choice(root: &Value) -> Option<String> {
    let why = root["watch"]["why"].as_str()?;
    let was_refused = why.contains(" is refused: ") || why.contains(" failed: ");
    was_refused.then(|| {
        let (name, backend) = (text(&root["name"]), text(&root["watch"]["backend"]));
        format!("{name} is watched by {backend}: {}", printable(why))
    })
}

/// `audit`, a line for each row.
pub fn audit(document: &Value) -> String {
    let mut out = String::new();
    let header = [
        "TIME", "ACTOR", "EVENT", "ROOT", "SESSION", "SIZE", "RULE", "BECAUSE",
    ];
    table(&mut out, &header, &["SIZE"], &document["entries"], |row| {
        vec![
            time(&row["time"]),
            text(&row["actor"]),
            text(&row["event"]),
            text(&row["root"]),
            text(&row["session"]),
            size(&row["bytes"]),
            text(&row["rule"]),
            text(&row["because"]),
        ]
    });
    if document["begun"] == false {
        line(
            &mut out,
            "there is no audit yet: no agent or command has written to the store",
        );
    } else if is_empty(&document["entries"]) {
        line(&mut out, "nothing of that is in the audit");
    }
    let waiting = &document["waiting"];
    if waiting["rows"].as_u64().is_some_and(|n_rows| n_rows > 0) {
        let rows = many(&waiting["rows"], "row waits", "rows wait");
        let words = format!(
            "{rows} to be written, not shown here: {}",
            text(&waiting["why"])
        );
        line(&mut out, &words);
    }
    out
}

/// A number with what is counted.
fn counted(number: &Value, one: &'static str) -> String {
    Count(number.as_u64().unwrap_or(0), one).to_string()
}

fn problems(n: usize) -> Count {
    Count(n as u64, "problem")
}

/// The same, where more than one are called so.
fn many(number: &Value, one: &str, more: &str) -> String {
    match number.as_u64().unwrap_or(0) {
        1 => format!("1 {one}"),
        n => format!("{n} {more}"),
    }
}

fn is_held(root: &Value) -> bool {
    root["held"] == true || root["state"] == "held"
}

/// Why a root is above its limit and what helps, in one sentence; nothing for one that is well.
fn trouble(root: &Value) -> Option<String> {
    let name = text(&root["name"]);
    if is_held(root) {
        return Some(format!(
            "{name} is held: `housekeeper plan --root {}` shows what would go (with the limits of `run`, where they were given there), `housekeeper accept {name}` lets it",
            text(&root["path"])
        ));
    }
    let over = match root["still_over_bytes"].as_u64() {
        Some(bytes) if bytes > 0 => format!("{} over its limit", Bytes(bytes)),
        Some(_) | None => "over its limits".to_owned(),
    };
    let lock = &root["lock"];
    let since = time(&lock["since"]);
    match lock["state"].as_str() {
        Some("busy") => Some(format!(
            "{name} is {over}: {} holds its lock, in the way since {since}; it is pruned as soon as the lock is free, so end that process if it is stuck",
            holder(&lock["holder"])
        )),
        Some(_) => Some(format!(
            "{name} is {over}: its lock cannot be taken since {since} ({}); make room for {}/.housekeeper and let the agent write there, it tries again by itself",
            text(&lock["error"]),
            text(&root["path"]),
        )),
        None if root["unmet"] == true && root["enforcing"] == false => Some(format!(
            "{name} stays {over}: the agent only observes it and removes nothing; `housekeeper next --root {name}` shows what would go"
        )),
        None if root["unmet"] == true => Some(format!(
            "{name} stays {over}: {}; `housekeeper next --root {name}` names the sessions, so end, unpin or mend them, or raise the limit",
            stays(&root["blocked"]),
        )),
        None => None,
    }
}

/// Who holds a lock.
fn holder(holder: &Value) -> String {
    if holder.is_null() {
        return "another pruner".to_owned();
    }
    format!(
        "process {} on {} (since {})",
        text(&holder["pid"]),
        text(&holder["host"]),
        time(&holder["since"])
    )
}

/// What may not go, by reason.
fn stays(blocked: &Value) -> String {
    let all: Vec<String> = blocked
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            format!(
                "{} {} ({})",
                size(&one["bytes"]),
                text(&one["reason"]),
                counted(&one["sessions"], "session")
            )
        })
        .collect();
    if all.is_empty() {
        return "nothing more may go".to_owned();
    }
    format!("{} may not go", all.join(", "))
}

/// A table of the items of a list; nothing for an empty one.
pub(super) fn table(
    out: &mut String,
    header: &[&str],
    right: &[&str],
    items: &Value,
    row: impl Fn(&Value) -> Vec<String>,
) {
    let Some(items) = items.as_array().filter(|items| !items.is_empty()) else {
        return;
    };
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table.add_rows(items.iter().take(MAX_ROWS).map(row));
    for (at, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(at) {
            column.set_padding((2, 0));
            if right.contains(name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    line(out, &table.trim_fmt());
    if let Some(more) = items.len().checked_sub(MAX_ROWS).filter(|more| *more > 0) {
        line(out, &format!("  and {more} more; --json shows all"));
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// How full, as `[#####---------------]  25%`. Nothing where there is no limit.
pub fn bar(bytes: &Value, limit: &Value) -> String {
    let (Some(bytes), Some(limit)) = (bytes.as_u64(), limit.as_u64().filter(|limit| *limit > 0))
    else {
        return String::new();
    };
    let part = |whole: u64| u128::from(bytes) * u128::from(whole) / u128::from(limit);
    let full = part(BAR_WIDTH).min(u128::from(BAR_WIDTH));
    // At most BAR_WIDTH: it fits.
    let full = usize::try_from(full).unwrap_or_default();
    let rest = BAR_WIDTH as usize - full;
    format!(
        "[{}{}] {:>3}%",
        "#".repeat(full),
        "-".repeat(rest),
        part(100)
    )
}

pub(super) fn size(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| text(value), |bytes| Bytes(bytes).to_string())
}

fn limit(value: &Value) -> String {
    if value.is_null() {
        return "no limit".to_owned();
    }
    size(value)
}

/// RFC 3339 in UTC, without what nobody reads.
pub(super) fn time(value: &Value) -> String {
    value
        .as_str()
        .and_then(|text| text.parse::<DateTime<Utc>>().ok())
        .map_or_else(
            || text(value),
            |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string(),
        )
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => MISSING.to_owned(),
        Value::String(text) => printable(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            printable(&value.to_string())
        }
    }
}

fn words(value: &Value) -> String {
    match value.as_array() {
        Some(list) if list.is_empty() => MISSING.to_owned(),
        Some(list) => list.iter().map(text).collect::<Vec<_>>().join(" "),
        None => text(value),
    }
}

fn count(value: &Value) -> String {
    value
        .as_array()
        .map_or_else(|| text(value), |list| list.len().to_string())
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::{bar, plan, prune_size, scan, status};
    use serde_json::{Value, json};

    fn victim() -> Value {
        json!({"id": "tape-1", "path": "tape-1", "bytes": 2048, "created_at": "2026-02-10T12:00:00.5Z",
            "rule": "max_size", "because": "the oldest"})
    }

    fn planned() -> Value {
        json!({"name": "tapes", "bytes": 3072, "limit_bytes": 2048, "victims": [victim()],
            "blocked": [{"reason": "active", "sessions": 1, "bytes": 1024}], "still_over_bytes": 512})
    }

    #[test]
    fn a_plan_for_people() {
        assert_eq!(
            plan(&json!({"roots": [planned()]})),
            "\
tapes  3.0 KiB of 2.0 KiB  [####################] 150%
  ID      CREATED                  SIZE  RULE      BECAUSE
  tape-1  2026-02-10 12:00:00Z  2.0 KiB  max_size  the oldest
  active: 1 session stays, 1.0 KiB
  still 512 B over the limit then
"
        );
        let calm = json!({"roots": [{"name": "a", "bytes": 0, "limit_bytes": null, "victims": [],
            "blocked": [], "still_over_bytes": 0}]});
        assert_eq!(plan(&calm), "a  0 B of no limit\n  nothing would go\n");
    }

    #[test]
    fn a_prune_for_people() {
        let mut root = planned();
        root["removed"] = json!([victim()]);
        root["freed_bytes"] = json!(2048);
        root["left_bytes"] = json!(1024);
        let text = prune_size(&root);
        assert!(
            text.contains("  removed 1 session, 2.0 KiB freed, 1.0 KiB left\n"),
            "{text}"
        );
        root["removed"] = json!([]);
        let text = prune_size(&json!({"roots": [root, planned()]}));
        assert_eq!(text.matches("nothing was removed").count(), 2, "{text}");
    }

    #[test]
    fn a_scan_for_people() {
        let document = json!({"roots": [{"name": "tapes", "path": "/srv/tapes", "layout": "directories",
            "bytes": 3072, "files": 3, "session_count": 1, "sessions": [
                {"id": "a\u{1b}[31m\n", "path": "a", "bytes": 3072, "files": 3, "created_at": null,
                 "state": null, "group": "g", "anomalies": ["metadata_missing", "symlink"]}],
            "anomalies": [{"kind": "unowned", "path": "x", "bytes": 5}],
            "unowned": {"entries": 1, "bytes": 5}, "duration_ms": 7}]});
        assert_eq!(
            scan(&document),
            "\
tapes  /srv/tapes  (directories)
  3.0 KiB in 3 files, 1 session; unowned: 5 B in 1 entry; took 7 ms
  ID             CREATED  STATE  GROUP     SIZE  FILES  ANOMALIES
  a\\x1B[31m\\x0A  -        -      g      3.0 KiB      3  metadata_missing symlink
  ANOMALY  PATH  SIZE
  unowned  x      5 B
"
        );
    }

    #[test]
    fn a_status_for_people() {
        let document = json!({"version": "0.1.0", "pid": 7, "started_at": "2026-02-10T12:00:00Z",
            "mode": "enforce", "roots": [{"name": "tapes", "path": "/srv/tapes", "bytes": 512,
            "limit_bytes": 2048, "session_count": 4, "files": 9, "unowned": {"entries": 0, "bytes": 0},
            "watch": {"backend": "notify", "state": "live", "watches": 4, "lost": 0, "coverage": 1.0,
            "why": "the host allows it; fanotify is refused: EPERM"},
            "rescan": {"next_at": "2026-02-10T13:00:00Z"}, "pruned": {"sessions": 2, "bytes": 1024},
            "trash_bytes": 0, "anomalies": 0, "ready": true}, {"name": "new", "held": true}]});
        let text = status(&document);
        assert!(text.starts_with(
            "housekeeper 0.1.0, process 7, mode enforce, since 2026-02-10 12:00:00Z\n"
        ));
        assert!(text.contains("[#####---------------]  25%"), "{text}");
        assert!(text.contains("notify live"), "{text}");
        assert!(
            text.contains("tapes is watched by notify: the host"),
            "{text}"
        );
        assert!(text.contains("`housekeeper accept new`"), "{text}");
        for odd in [
            json!(null),
            json!([]),
            json!({"roots": 5}),
            json!({"roots": [1, null, "x"]}),
        ] {
            for render in [status, scan, plan, prune_size] {
                render(&odd);
            }
        }
    }

    #[test]
    fn a_status_says_why_a_limit_is_passed_and_what_helps() {
        let root = |more: Value| {
            let mut root = json!({"name": "tapes", "path": "/srv/tapes", "still_over_bytes": 2048,
                "unmet": false, "blocked": [], "lock": null});
            for (key, value) in more.as_object().into_iter().flatten() {
                root[key] = value.clone();
            }
            root
        };
        let busy = |holder: Value| json!({"lock": {"state": "busy", "since": "2026-02-10T12:00:00Z", "holder": holder}});
        let failed = json!({"state": "failed", "since": "2026-02-10T12:00:00Z", "holder": null,
            "error": "open .housekeeper: No space left on device (os error 28)"});
        let blocked = json!([{"reason": "active", "sessions": 2, "bytes": 4096},
            {"reason": "pinned", "sessions": 1, "bytes": 1024}]);
        for (more, expected) in [
            (json!({}), None),
            (
                busy(json!({"host": "a\u{1b}b", "pid": 7, "since": "2026-02-10T11:59:00Z"})),
                Some(
                    "tapes is 2.0 KiB over its limit: process 7 on a\\x1Bb (since 2026-02-10 11:59:00Z) holds its lock, in the way since 2026-02-10 12:00:00Z; it is pruned as soon as the lock is free, so end that process if it is stuck",
                ),
            ),
            (
                busy(Value::Null),
                Some(
                    "tapes is 2.0 KiB over its limit: another pruner holds its lock, in the way since 2026-02-10 12:00:00Z; it is pruned as soon as the lock is free, so end that process if it is stuck",
                ),
            ),
            (
                json!({"lock": failed, "unmet": true}),
                Some(
                    "tapes is 2.0 KiB over its limit: its lock cannot be taken since 2026-02-10 12:00:00Z (open .housekeeper: No space left on device (os error 28)); make room for /srv/tapes/.housekeeper and let the agent write there, it tries again by itself",
                ),
            ),
            (
                json!({"unmet": true, "blocked": blocked}),
                Some(
                    "tapes stays 2.0 KiB over its limit: 4.0 KiB active (2 sessions), 1.0 KiB pinned (1 session) may not go; `housekeeper next --root tapes` names the sessions, so end, unpin or mend them, or raise the limit",
                ),
            ),
            (
                json!({"unmet": true, "enforcing": false}),
                Some(
                    "tapes stays 2.0 KiB over its limit: the agent only observes it and removes nothing; `housekeeper next --root tapes` shows what would go",
                ),
            ),
            (
                json!({"unmet": true, "still_over_bytes": 0}),
                Some(
                    "tapes stays over its limits: nothing more may go; `housekeeper next --root tapes` names the sessions, so end, unpin or mend them, or raise the limit",
                ),
            ),
        ] {
            let text = status(&json!({ "roots": [root(more)] }));
            let said: Vec<&str> = text.lines().skip(3).collect();
            assert_eq!(said, expected.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }

    /// Whatever a disk's names and words are, no control character reaches the terminal.
    #[test]
    fn names_forge_no_line_and_drive_no_terminal() {
        let evil = "x\n2026 INFO fake\u{1b}]0;t\u{7}\r\u{9b}31m\u{85}\u{202e}\u{2028}";
        let one = json!({"id": evil, "path": evil, "bytes": 1, "files": evil, "created_at": evil,
            "state": evil, "group": evil, "anomalies": [evil], "rule": evil, "because": evil,
            "kind": evil, "reason": evil, "sessions": evil});
        let root = json!({"name": evil, "path": evil, "layout": evil, "bytes": 2, "limit_bytes": 1,
            "sessions": [one], "anomalies": [one], "victims": [one], "removed": [one],
            "blocked": [one], "still_over_bytes": 1, "unmet": true, "watch": {"backend": evil},
            "lock": {"state": "failed", "error": evil, "since": evil}});
        let mut held = root.clone();
        held["held"] = json!(true);
        let mut busy = root.clone();
        busy["lock"] = json!({"state": "busy", "since": evil, "holder":
            {"host": evil, "pid": evil, "since": evil}});
        let document = json!({"version": evil, "mode": evil, "roots": [root, held, busy]});
        for render in [status, scan, plan, prune_size] {
            let text = render(&document);
            let is_bad = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c);
            assert!(!text.contains(is_bad), "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("2026")), "{text}");
        }
    }

    #[test]
    fn a_bar_fits() {
        assert_eq!(bar(&json!(u64::MAX), &json!(1)).matches('#').count(), 20);
        assert_eq!(bar(&json!(0), &json!(1)), "[--------------------]   0%");
        assert_eq!(bar(&json!(5), &json!(0)), "");
    }
}
