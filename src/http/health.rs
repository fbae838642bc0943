//! `/health`: whether the agent's own loop turns, to which signals, orders and the configuration
//! come. Nothing is asked for it; roots have loops of their own ([`super::ready`]).

use super::State;
use super::answer::document;
use axum::extract::State as Given;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;

pub(super) async fn health(Given(state): Given<Arc<State>>) -> Response {
    if state.watchman.turns() {
        document(StatusCode::OK, &json!({ "status": "ok" }))
    } else {
        document(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "status": "down" }),
        )
    }
}
