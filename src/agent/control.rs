//! The agent's socket: one JSON line in, one JSON line out.
//!
//! `{"command":"status"}`, `{"command":"rescan","root":NAME?,"wait":true?}`,
//! `{"command":"audit","since":TIME?,"until":TIME?,"root":NAME?,"session":KEY?,"limit":N?}`,
//! `{"command":"pin","root":NAME?,"session":KEY,"reason":TEXT,"owner":TEXT?,"until":TIME?}`,
//! `{"command":"unpin","root":NAME?,"session":KEY}`, `{"command":"pins","root":NAME?}`,
//! `{"command":"next","root":NAME?,"n":N?}`, `{"command":"why","root":NAME?,"subject":PATH_OR_ID}`,
//! `{"command":"trash","root":NAME?}`, `{"command":"restore","root":NAME?,"id":NAME_OR_ID}`,
//! `{"command":"cleanup","do":"add"|"list"|"show"|"update"|"remove"|"run","id":ID?,"cleanup":{…}?,
//! "dry_run":true?,"by":"command"|"api"?}` ([`registrations::parse`]),
//! `{"command":"accept","root":NAME}`, `{"command":"anomalies","root":NAME?,"kinds":[KIND…]?}`. A rescan is answered when it has ended; with `wait` also
//! when all that happened before it was asked for has been heard and looked at.
//! The answer is the document, or `{"error": "…"}`. Who may connect is the socket's file mode.
//!
//! Bounds: a request has at most 64 KiB and must come within ten seconds; connections beyond
//! what the kernel queues wait there.

use crate::agent::kept;
use crate::agent::outlook::{self, Prevention};
use crate::agent::pins::{self, Change};
use crate::agent::registrations::{self, Ask};
use crate::agent::report::{self, AnomalyFilter};
use crate::agent::service::{AskedOutlook, Service};
use crate::config::settings::Root;
use crate::engine::outlook::{MAX_ROWS, Outlook, Sight};
use crate::model::anomaly::AnomalyKind;
use crate::model::count::Count;
use crate::model::time::Time;
use crate::store::Store;
use crate::store::audit::{Actor, Wanted};
use crate::store::error::StoreError;
use rustix::net::RecvFlags;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

const MAX_REQUEST: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest a rescan is waited for.
const RESCAN: Duration = Duration::from_secs(3600);
/// How many of the next victims are told where nobody says it.
pub const DEFAULT_NEXT: usize = 20;
/// The longest a root's thread is waited for, and how often it is asked meanwhile.
const OUTLOOK: Duration = Duration::from_secs(10);
const OUTLOOK_PAUSE: Duration = Duration::from_millis(2);

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Status,
    Rescan {
        root: Option<String>,
        wait: bool,
    },
    /// A part of a rescan that waits.
    Barrier {
        root: Option<String>,
    },
    Accept {
        root: String,
    },
    /// Pin or unpin a session.
    Pin {
        root: Option<String>,
        change: Change,
    },
    Pins {
        root: Option<String>,
    },
    Anomalies {
        root: Option<String>,
        filter: AnomalyFilter,
    },
    Audit(Wanted),
    Next {
        root: Option<String>,
        n: usize,
    },
    Why {
        root: Option<String>,
        subject: String,
    },
    /// What is kept.
    Trash {
        root: Option<String>,
    },
    Restore {
        root: Option<String>,
        id: String,
    },
    /// Of registered clean-ups.
    Cleanup(Ask, Actor),
}

/// A wish with the way back.
#[derive(Debug)]
pub struct Request {
    wish: Wish,
    answer: oneshot::Sender<Value>,
}

fn parse(line: &[u8]) -> Result<Wish, String> {
    let value: Value =
        serde_json::from_slice(line).map_err(|e| format!("the request is no JSON: {e}"))?;
    let root = match &value["root"] {
        Value::Null => None,
        Value::String(root) => Some(root.clone()),
        _ => return Err("`root` must be text".to_owned()),
    };
    match value["command"].as_str() {
        Some("status") => Ok(Wish::Status),
        Some("rescan") => match &value["wait"] {
            Value::Null => Ok(Wish::Rescan { root, wait: false }),
            Value::Bool(wait) => Ok(Wish::Rescan { root, wait: *wait }),
            _ => Err("`wait` must be true or false".to_owned()),
        },
        Some("accept") => root
            .map(|root| Wish::Accept { root })
            .ok_or_else(|| "`accept` needs a `root`".to_owned()),
        Some("anomalies") => {
            let filter = filter(&value["kinds"])?;
            Ok(Wish::Anomalies { root, filter })
        }
        Some("pin" | "unpin") => {
            let change = pins::change(&value)?;
            Ok(Wish::Pin { root, change })
        }
        Some("pins") => Ok(Wish::Pins { root }),
        Some("next") => {
            let n = match &value["n"] {
                Value::Null => Some(DEFAULT_NEXT),
                n => n.as_u64().and_then(|n| usize::try_from(n).ok()),
            };
            let n = n.filter(|n| (1..=MAX_ROWS).contains(n));
            let n = n.ok_or_else(|| format!("`n` must be a number from 1 to {MAX_ROWS}"))?;
            Ok(Wish::Next { root, n })
        }
        Some("trash") => Ok(Wish::Trash { root }),
        Some("restore") => match &value["id"] {
            Value::String(id) if !id.is_empty() => Ok(Wish::Restore {
                root,
                id: id.clone(),
            }),
            _ => Err("`id` must be text".to_owned()),
        },
        Some("why") => match &value["subject"] {
            Value::String(subject) if !subject.is_empty() => Ok(Wish::Why {
                root,
                subject: subject.clone(),
            }),
            _ => Err("`subject` must be text".to_owned()),
        },
        Some("cleanup") => registrations::parse(&value).map(|(ask, by)| Wish::Cleanup(ask, by)),
        Some("audit") => {
            let time = |key: &str| match &value[key] {
                Value::Null => Ok(None),
                Value::String(text) => text
                    .parse::<Time>()
                    .map(Some)
                    .map_err(|e| format!("`{key}` is no RFC 3339 time: {e}")),
                _ => Err(format!("`{key}` must be text")),
            };
            let limit = match &value["limit"] {
                Value::Null => Wanted::default().limit,
                limit => limit.as_u64().ok_or("`limit` must be a number")?,
            };
            Ok(Wish::Audit(Wanted {
                since: time("since")?,
                until: time("until")?,
                session: value["session"].as_str().map(str::to_owned),
                root,
                limit,
            }))
        }
        _ => Err(
            "`command` must be status, rescan, accept, anomalies, audit, next, why, trash, restore, pin, unpin, pins or cleanup"
                .to_owned(),
        ),
    }
}

fn filter(kinds: &Value) -> Result<AnomalyFilter, String> {
    let named = match kinds {
        Value::Null => &[][..],
        Value::Array(kinds) => kinds,
        _ => return Err("`kinds` must be a list".to_owned()),
    };
    let kind = |name: &Value| {
        let known = name.as_str().and_then(AnomalyKind::named);
        known.ok_or_else(|| format!("there is no anomaly of the kind {name}"))
    };
    let kinds = named.iter().map(kind).collect::<Result<_, _>>()?;
    Ok(AnomalyFilter { kinds })
}

/// Where connections go that speak HTTP.
pub type HttpPort = mpsc::Sender<std::os::unix::net::UnixStream>;

/// Serves one connection beside the others: JSON lines where its first byte is `{`, else HTTP where
/// somebody speaks that.
pub fn attend(stream: UnixStream, requests: mpsc::Sender<Request>, http: Option<HttpPort>) {
    tokio::spawn(async move {
        let stream = match http {
            None => stream,
            Some(http) => match tokio::time::timeout(PATIENCE, first_byte(&stream)).await {
                Ok(Ok(Some(b'{'))) => stream,
                Ok(Ok(Some(_))) => return hand_over(stream, &http),
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            },
        };
        if let Err(error) = converse(stream, requests).await {
            tracing::debug!(error = %error, "a client went away");
        }
    });
}

/// The first byte that a client sends, which stays there to be read. `None`: it hung up.
async fn first_byte(stream: &UnixStream) -> std::io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        stream.readable().await?;
        let peeked = stream.try_io(tokio::io::Interest::READABLE, || {
            let (n, _) = rustix::net::recv(stream, &mut byte[..], RecvFlags::PEEK)?;
            Ok(n)
        });
        match peeked {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn hand_over(stream: UnixStream, http: &HttpPort) {
    let handed = stream
        .into_std()
        .map_err(|error| error.to_string())
        .and_then(|stream| http.try_send(stream).map_err(|error| error.to_string()));
    if let Err(error) = handed {
        tracing::debug!(error, "a connection was let go of");
    }
}

async fn converse(mut stream: UnixStream, requests: mpsc::Sender<Request>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader.take(MAX_REQUEST));
    loop {
        let mut line = Vec::new();
        let read = tokio::time::timeout(PATIENCE, lines.read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(n)) if n > 0) {
            return Ok(());
        }
        lines.get_mut().set_limit(MAX_REQUEST);
        let answer = match parse(&line) {
            Err(error) => json!({ "error": error }),
            Ok(wish) => ask(wish, &requests).await,
        };
        let mut text = answer.to_string();
        text.push('\n');
        writer.write_all(text.as_bytes()).await?;
    }
}

async fn ask(wish: Wish, requests: &mpsc::Sender<Request>) -> Value {
    let Wish::Rescan { root, wait } = &wish else {
        return ask_once(wish, requests).await;
    };
    let counts = |status: &Value| -> Vec<(String, u64)> {
        let roots = status["roots"].as_array().cloned().unwrap_or_default();
        roots
            .iter()
            .filter(|r| {
                root.as_ref()
                    .is_none_or(|w| r["name"] == **w || r["path"] == **w)
            })
            .filter(|r| r["watch"]["state"] != "absent")
            .map(|r| {
                (
                    r["name"].to_string(),
                    r["rescan"]["count"].as_u64().unwrap_or(0),
                )
            })
            .collect()
    };
    let before = counts(&ask_once(Wish::Status, requests).await);
    let asked = ask_once(wish.clone(), requests).await;
    if asked.get("error").is_some() {
        return asked;
    }
    let barriers = if *wait {
        let root = root.clone();
        match ask_once(Wish::Barrier { root }, requests).await {
            Value::Object(barriers) => barriers,
            refused => return refused,
        }
    } else {
        serde_json::Map::new()
    };
    if let Some(error) = barriers.get("error").and_then(Value::as_str) {
        return json!({ "error": error });
    }
    let deadline = tokio::time::Instant::now() + RESCAN;
    loop {
        let status = ask_once(Wish::Status, requests).await;
        let now = counts(&status);
        let done = before.iter().all(|(name, count)| {
            now.iter()
                .find(|(n, _)| n == name)
                .is_none_or(|(_, c)| c > count)
        });
        if done && are_passed(&barriers, &status) {
            return status;
        }
        if tokio::time::Instant::now() > deadline {
            return json!({ "error": "the rescan takes longer than an hour; ask for status" });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether each root has passed its barrier; one that is not looked after now has none.
fn are_passed(barriers: &serde_json::Map<String, Value>, status: &Value) -> bool {
    let roots = status["roots"].as_array().map_or(&[][..], Vec::as_slice);
    roots.iter().all(|root| {
        let name = root["name"].as_str().unwrap_or_default();
        let watch = &root["watch"];
        let is_absent = matches!(watch["state"].as_str(), Some("absent" | "stopped"));
        let wanted = barriers.get(name).and_then(Value::as_u64);
        is_absent || watch["barrier"].as_u64() >= wanted
    })
}

async fn ask_once(wish: Wish, requests: &mpsc::Sender<Request>) -> Value {
    let (answer, answered) = oneshot::channel();
    let gone = || json!({ "error": "the agent is stopping" });
    if requests.send(Request { wish, answer }).await.is_err() {
        return gone();
    }
    answered.await.unwrap_or_else(|_| gone())
}

/// Reads the audit beside everything else.
async fn audit(store: Store, wanted: Wanted, answer: oneshot::Sender<Value>) {
    // Rows that could not be written are no reason not to show the others.
    if let Err(error) = store.flush().await {
        tracing::debug!(error = %error, "the audit is behind");
    }
    let value = match store.entries(wanted).await {
        Ok(entries) => {
            let condition = store.condition();
            let mut document = report::audit(&entries);
            document["waiting"] = report::waiting(condition.backlog, condition.message.as_deref());
            document
        }
        Err(error) => json!({ "error": behind(&error, store.condition().backlog) }),
    };
    tell(answer, value);
}

/// What a root's thread answered; `Err`: why it did not.
struct Answered {
    root: Root,
    prevented: Option<Prevention>,
    outlook: Result<Arc<OnceLock<Outlook>>, String>,
}

/// What root threads answered.
async fn outlooks(asked: Vec<AskedOutlook>) -> Vec<Answered> {
    let deadline = tokio::time::Instant::now() + OUTLOOK;
    let mut answers = Vec::new();
    for asked in asked {
        let AskedOutlook {
            root,
            prevented,
            slot,
        } = asked;
        let outlook = loop {
            match &slot {
                Err(why) => break Err(why.clone()),
                Ok(slot) if slot.get().is_some() => break Ok(slot.clone()),
                // Whoever had the order let go of it.
                Ok(slot) if Arc::strong_count(slot) == 1 => {
                    break Err("it is not looked after just now".to_owned());
                }
                Ok(_) if tokio::time::Instant::now() > deadline => {
                    break Err("its thread is busy for long".to_owned());
                }
                Ok(_) => tokio::time::sleep(OUTLOOK_PAUSE).await,
            }
        };
        answers.push(Answered {
            root,
            prevented,
            outlook,
        });
    }
    answers
}

/// Answers `next` when all threads have.
async fn next(asked: Vec<AskedOutlook>, answer: oneshot::Sender<Value>) {
    let mut roots = Vec::new();
    for answered in outlooks(asked).await {
        let (root, prevented) = (&answered.root, answered.prevented);
        roots.push(match &answered.outlook {
            Ok(slot) => slot.get().map(|seen| outlook::next(root, seen, prevented)),
            Err(why) => Some(outlook::silent(root, why)),
        });
    }
    tell(answer, json!({ "roots": roots }));
}

/// Answers `why`: from the roots, then from the audit.
async fn why(
    subject: String,
    asked: Vec<AskedOutlook>,
    store: Store,
    answer: oneshot::Sender<Value>,
) {
    // Rows that could not be written are no reason not to show the others.
    if let Err(error) = store.flush().await {
        tracing::debug!(error = %error, "the audit is behind");
    }
    let (mut present, mut gone) = (Vec::new(), Vec::new());
    let mut doubt = outlook::behind(store.condition().backlog);
    for answered in outlooks(asked).await {
        let (root, prevented) = (answered.root, answered.prevented);
        if let Ok(slot) = &answered.outlook {
            let seen = slot.get();
            present.extend(seen.and_then(|seen| outlook::present(&root, seen, prevented)));
        }
        let Some(name) = outlook::below(&root, &subject) else {
            continue;
        };
        match store.entries(outlook::question(&root, &name)).await {
            Ok(entries) => {
                let Some(mut found) = outlook::gone(&entries) else {
                    continue;
                };
                let looked = tokio::task::spawn_blocking(move || {
                    kept::add_to_why(&root, &mut found);
                    found
                });
                gone.extend(looked.await);
            }
            Err(error) => doubt = Some(error.to_string()),
        }
    }
    tell(answer, outlook::why(&subject, present, gone, doubt));
}

fn tell(answer: oneshot::Sender<Value>, value: Value) {
    if answer.send(value).is_err() {
        tracing::debug!("a client did not wait for its answer");
    }
}

/// Why the audit cannot be read, and how many rows wait for its end.
fn behind(error: &StoreError, backlog: u64) -> String {
    match backlog {
        0 => error.to_string(),
        n => format!("{error}; to be written then: {}", Count(n, "row")),
    }
}

/// Does what a client wants; answers at once, or has it answered.
pub fn answer(service: &Service, request: Request) {
    let Request { wish, answer } = request;
    let done = |result: Result<(), String>| match result {
        Ok(()) => json!({ "ok": true }),
        Err(error) => json!({ "error": error }),
    };
    let value = match wish {
        Wish::Audit(wanted) => {
            tokio::spawn(audit(
                service.store().clone(),
                service.audit_wanted(wanted),
                answer,
            ));
            return;
        }
        Wish::Next { root, n } => {
            match service.outlook(root.as_deref(), |_| Some(Sight::Next(n))) {
                Ok(asked) => {
                    tokio::spawn(next(asked, answer));
                    return;
                }
                Err(error) => json!({ "error": error }),
            }
        }
        Wish::Why { root, subject } => {
            let sight = |root: &Root| outlook::below(root, &subject).map(Sight::Of);
            match service.outlook(root.as_deref(), sight) {
                Ok(asked) => {
                    tokio::spawn(why(subject, asked, service.store().clone(), answer));
                    return;
                }
                Err(error) => json!({ "error": error }),
            }
        }
        Wish::Trash { root } => match service.roots_called(root.as_deref()) {
            Ok(roots) => {
                // The disk may take its time.
                tokio::task::spawn_blocking(move || {
                    let roots: Vec<Value> = roots.iter().map(kept::list).collect();
                    tell(answer, json!({ "roots": roots }));
                });
                return;
            }
            Err(error) => json!({ "error": error }),
        },
        Wish::Restore { root, id } => match service.restorer(root.as_deref()) {
            Ok(restorer) => {
                tokio::task::spawn_blocking(move || {
                    let restored = restorer.restore(&id);
                    tell(
                        answer,
                        restored.unwrap_or_else(|error| json!({ "error": error })),
                    );
                });
                return;
            }
            Err(error) => json!({ "error": error }),
        },
        Wish::Cleanup(ask, by) => return service.ask_registry(ask, by, answer),
        Wish::Status => service.status(),
        Wish::Rescan { root, .. } => done(service.rescan(root.as_deref())),
        Wish::Barrier { root } => match service.barrier(root.as_deref()) {
            Ok(barriers) => barriers.into_iter().collect(),
            Err(error) => json!({ "error": error }),
        },
        Wish::Accept { root } => done(service.accept(&root)),
        Wish::Pin { root, change } => service
            .pin(root.as_deref(), change)
            .unwrap_or_else(|error| json!({ "error": error })),
        Wish::Pins { root } => service
            .pins(root.as_deref())
            .unwrap_or_else(|error| json!({ "error": error })),
        Wish::Anomalies { root, filter } => service
            .anomalies(root.as_deref(), &filter)
            .unwrap_or_else(|error| json!({ "error": error })),
    };
    tell(answer, value);
}
