//! What the agent says over HTTP, on a TCP port and on its socket.
//!
//! A thread and a runtime of its own: nothing here waits for a disk, the store or a root's thread.
//! What is answered comes from memory ([`crate::agent::window`]), and what has to ask a disk is
//! asked by threads that nobody waits for without an end ([`storage`]).
//!
//! An endpoint is a file with its handler, and a line in [`router`].

mod answer;
mod guard;
mod health;
mod metrics;
mod ready;
mod serve;
mod storage;
mod watchman;

use crate::agent::control::HttpPort;
use crate::agent::window::Window;
use axum::Router;
use axum::routing::get;
use ready::Ready;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use watchman::Watchman;

/// Connections that may wait to be taken over from the socket.
const MAX_HANDED: usize = 64;

/// What every handler may look at.
#[derive(Debug)]
struct State {
    window: Window,
    watchman: Watchman,
    ready: Ready,
    door: serve::Door,
}

/// Starts the thread. It listens on `address`, where that is not empty, and takes the connections
/// that it is given. A port that is taken is tried again now and then.
///
/// # Errors
/// No thread or no runtime can be had.
pub fn start(address: &str, window: Window) -> io::Result<HttpPort> {
    let (port, handed) = mpsc::channel(MAX_HANDED);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let state = Arc::new(State {
        watchman: Watchman::default(),
        ready: Ready::default(),
        door: serve::Door::default(),
        window,
    });
    let address = address.to_owned();
    std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::join!(
                    watchman::watch(&state),
                    serve::port(&address, &state),
                    serve::handed(handed, &state),
                );
            });
        })?;
    Ok(port)
}

/// All there is.
fn router(state: Arc<State>) -> Router {
    let mut router = Router::new();
    for path in ["/health", "/healthz", "/livez"] {
        router = router.route(path, get(health::health));
    }
    for path in ["/ready", "/readyz", "/health/ready"] {
        router = router.route(path, get(ready::ready));
    }
    router
        .route("/metrics", get(metrics::metrics))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::not_allowed)
        .with_state(state)
}
