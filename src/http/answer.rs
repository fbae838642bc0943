//! How answers look: JSON, and problem details (RFC 9457) for what cannot be answered.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A document that is as it is now: nobody is to keep it.
pub(super) fn document(status: StatusCode, document: &Value) -> Response {
    let kind = HeaderValue::from_static("application/json");
    fresh(status, kind, document.to_string())
}

/// A problem, with what helps.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let text = json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    let kind = HeaderValue::from_static("application/problem+json");
    fresh(status, kind, text.to_string())
}

/// The same for a text of another kind.
pub(super) fn fresh(status: StatusCode, kind: HeaderValue, text: String) -> Response {
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

pub(super) async fn not_found() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "there is nothing here; there are /health, /ready and /metrics",
    )
}

pub(super) async fn not_allowed() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "this can be read only: GET")
}
