//! One message to one receiver: over HTTP, or to a command's standard input.

use crate::model::notice::{BodyFormat, Exec, Webhook};
use crate::model::path::printable;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, redirect};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// For one message, from the connection to the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a command says and is logged; the rest is read and dropped.
const MAX_OUTPUT: usize = 4096;
/// After a command has ended, for what it said last. One that left a child behind with its
/// standard output is not waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// For commands: there is no other environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Receiver {
    Webhook(Webhook),
    Exec(Exec),
}

/// Why a message did not arrive. No secret is in it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    /// It will never be taken: to try again is of no use.
    pub(super) is_final: bool,
    /// How long the receiver wants to be left alone.
    pub(super) asked: Option<Duration>,
}

impl Failure {
    fn passing(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            is_final: false,
            asked: None,
        }
    }
}

/// What speaks HTTP; made once, for it reads the host's certificates.
#[derive(Debug, Clone)]
pub(super) struct Http(Result<Client, Arc<str>>);

impl Http {
    /// `false`: the host's certificates cannot be read, or TLS not be had.
    pub(super) fn is_ready(&self) -> bool {
        self.0.is_ok()
    }

    pub(super) fn new() -> Self {
        // Another part of the program may have chosen one already: then that one is used.
        if rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
        {
            tracing::debug!("TLS was set up before");
        }
        let client = Client::builder()
            .timeout(PATIENCE)
            // A secret must not follow to another place.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("housekeeper/", env!("CARGO_PKG_VERSION")))
            .build();
        Self(client.map_err(|error| chain(&error).into()))
    }
}

impl Receiver {
    /// Attempts before a message is given up, beside its age. A command that fails is at fault
    /// itself, most likely.
    pub(super) fn max_attempts(&self) -> u32 {
        match self {
            Self::Webhook(_) => 1000,
            Self::Exec(_) => 5,
        }
    }

    /// Sends one message; ends within its time.
    pub(super) async fn send(&self, http: Option<&Http>, notice: &Value) -> Result<(), Failure> {
        match self {
            Self::Webhook(hook) => post(http, hook, notice).await,
            Self::Exec(exec) => run(exec, notice).await,
        }
    }
}

/// A sentence for people, as Slack wants it written.
fn slack(notice: &Value) -> Value {
    let host = notice["host"].as_str().unwrap_or_default();
    let message = notice["message"].as_str().unwrap_or_default();
    let text = format!("housekeeper on {host}: {}", printable(message));
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    json!({ "text": text })
}

async fn post(http: Option<&Http>, hook: &Webhook, notice: &Value) -> Result<(), Failure> {
    let client = match http {
        Some(Http(Ok(client))) => client,
        Some(Http(Err(why))) => return Err(Failure::passing(&**why)),
        None => return Err(Failure::passing("HTTP is not set up")),
    };
    let body = match hook.format {
        BodyFormat::Json => notice.to_string(),
        BodyFormat::Slack => slack(notice).to_string(),
    };
    let id = notice["id"].as_str().unwrap_or_default();
    let mut request = client
        .post(&hook.url.0)
        .header(CONTENT_TYPE, "application/json")
        .header("idempotency-key", id)
        .body(body);
    if let Some((name, secret)) = &hook.header {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(&secret.0);
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err(Failure::passing("its header cannot be written"));
        };
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let answer = request.send().await;
    // An address may have a secret in it.
    let answer = answer.map_err(|error| Failure::passing(chain(&error.without_url())))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let asked = answer.headers().get(RETRY_AFTER);
    let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
    Err(Failure {
        why: format!("it answered {status}"),
        is_final: matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY
        ),
        asked: asked.map(Duration::from_secs),
    })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn run(exec: &Exec, notice: &Value) -> Result<(), Failure> {
    let mut command = Command::new(&exec.program);
    command
        .args(&exec.arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let program = exec.program.display().to_string();
    let mut child = command
        .spawn()
        .map_err(|error| Failure::passing(format!("{program} cannot be started: {error}")))?;
    let said = Arc::new(Mutex::new(Vec::new()));
    let readers = [
        child
            .stdout
            .take()
            .map(|out| tokio::spawn(listen(out, said.clone()))),
        child
            .stderr
            .take()
            .map(|out| tokio::spawn(listen(out, said.clone()))),
    ];
    let ended = tokio::time::timeout(exec.timeout, feed(&mut child, notice)).await;
    if ended.is_err() {
        kill(&mut child).await;
    }
    for reader in readers.into_iter().flatten() {
        let abort = reader.abort_handle();
        if tokio::time::timeout(LAST_WORDS, reader).await.is_err() {
            abort.abort();
        }
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.is_empty() {
        let output = printable(&String::from_utf8_lossy(&said));
        tracing::info!(
            event = "notify.exec_output",
            program,
            output,
            "{program} said something"
        );
    }
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(Failure::passing(format!("{program} ended with {status}"))),
        Ok(Err(error)) => Err(Failure::passing(format!(
            "{program} cannot be waited for: {error}"
        ))),
        Err(_) => Err(Failure::passing(format!(
            "{program} took longer than {}",
            humantime::format_duration(exec.timeout)
        ))),
    }
}

/// Gives a command its notice and waits for its end.
async fn feed(child: &mut Child, notice: &Value) -> std::io::Result<std::process::ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        let text = format!("{notice}\n");
        match stdin.write_all(text.as_bytes()).await {
            // It does not want to know: its exit code says what counts.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    child.wait().await
}

/// With all that it started and that did not leave its group.
async fn kill(child: &mut Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(Err(error)) = pid
        .and_then(Pid::from_raw)
        .map(|pid| kill_process_group(pid, Signal::KILL))
    {
        tracing::debug!(error = %error, "a command ended by itself");
    }
    if let Err(error) = child.wait().await {
        tracing::debug!(error = %error, "a command cannot be waited for");
    }
}

/// Reads all that is said, and keeps the beginning.
async fn listen(mut from: impl AsyncRead + Unpin, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 1024];
    // An end of any kind is an end.
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_OUTPUT.saturating_sub(said.len());
        said.extend_from_slice(&buffer[..n.min(room)]);
    }
}
