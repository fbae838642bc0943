//! Takes connections, and bounds them: how many, and how long a client may take for its request.

use super::{State, guard, router};
use crate::agent::readiness::{Finding, Level};
use axum::Router;
use axum::middleware::from_fn;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

/// Connections at once; what comes beyond waits in the kernel, or for the socket is let go of. Who
/// uses up the port's takes none from the socket.
const MAX_ON_PORT: usize = 1024;
const MAX_ON_SOCKET: usize = 128;
/// A connection ends after so long, and after so much more whatever is under way: whoever does not
/// read his answers keeps no place for ever.
const LIFE: Duration = Duration::from_secs(60);
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// So long a client may take for the head of a request, the first and each that follows.
const HEAD: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// So often a port that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// After an error that is not one connection's alone.
const PAUSE: Duration = Duration::from_millis(100);

/// Places for connections, and how the TCP port is.
#[derive(Debug)]
pub(super) struct Door {
    on_port: Arc<Semaphore>,
    on_socket: Arc<Semaphore>,
    port: Mutex<Port>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Off,
    Open,
    Taken,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            on_port: Arc::new(Semaphore::new(MAX_ON_PORT)),
            on_socket: Arc::new(Semaphore::new(MAX_ON_SOCKET)),
            port: Mutex::new(Port::Off),
        }
    }
}

impl Door {
    pub(super) fn finding(&self) -> Finding {
        let (level, message) = match *self.port.lock().unwrap_or_else(PoisonError::into_inner) {
            Port::Off => (Level::Ok, "the socket only"),
            Port::Open => (Level::Ok, "the port answers"),
            Port::Taken => (
                Level::Degraded,
                "the address cannot be listened on; it is tried again",
            ),
        };
        Finding::new("http", level, message)
    }

    /// What it was before.
    fn set(&self, port: Port) -> Port {
        let mut place = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, port)
    }
}

/// Serves the TCP port, where one is wanted.
pub(super) async fn port(address: &str, state: &Arc<State>) {
    if address.is_empty() {
        return;
    }
    let app = router(state.clone()).layer(from_fn(guard::this_host_only));
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                if state.door.set(Port::Taken) != Port::Taken {
                    tracing::warn!(event = "http.unheard", address, error = %error, "the address for HTTP cannot be listened on: give another one as [agent] http, or \"\" for none");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    state.door.set(Port::Open);
    let local = listener.local_addr();
    let local = local.map_or_else(|_| address.to_owned(), |local| local.to_string());
    tracing::info!(event = "http.started", address = local, "HTTP is answered");
    loop {
        let Ok(place) = state.door.on_port.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                tokio::spawn(async move {
                    converse(stream, app).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves the connections that came to the agent's socket.
pub(super) async fn handed(mut handed: mpsc::Receiver<StdUnixStream>, state: &Arc<State>) {
    let app = router(state.clone());
    while let Some(stream) = handed.recv().await {
        let stream = match UnixStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken over");
                continue;
            }
        };
        let Ok(place) = state.door.on_socket.clone().acquire_owned().await else {
            return;
        };
        let app = app.clone();
        tokio::spawn(async move {
            converse(stream, app).await;
            drop(place);
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, app: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = tokio::time::sleep(LIFE) => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_ANSWER, served).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client went away");
    }
}
