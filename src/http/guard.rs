//! Who is answered on a TCP port: only who means this host.
//!
//! A page of a stranger may lead its own name to 127.0.0.1 (DNS rebinding) and would be let in by
//! any browser on this host. So a request has to name the host as nobody else can: by a loopback
//! address, `localhost`, or not at all (HTTP/1.0).

use super::answer::problem;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::IpAddr;

/// Refuses requests for other hosts.
pub(super) async fn this_host_only(request: Request, next: Next) -> Response {
    let named = request.uri().host();
    if named.is_none_or(is_this_host) && hosts_are_ours(request.headers()) {
        return next.run(request).await;
    }
    problem(
        StatusCode::MISDIRECTED_REQUEST,
        "the request names another host; ask for localhost or 127.0.0.1",
    )
}

fn hosts_are_ours(headers: &HeaderMap) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        let host = host.to_str().ok();
        let host = host.and_then(|host| host.parse::<axum::http::uri::Authority>().ok());
        host.is_some_and(|host| is_this_host(host.host()))
    })
}

fn is_this_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let address = bare.unwrap_or(host).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::hosts_are_ours;
    use axum::http::{HeaderMap, HeaderValue, header};

    #[test]
    fn only_names_of_this_host_are_ours() {
        let with = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).expect("a value"));
            hosts_are_ours(&headers)
        };
        assert!(hosts_are_ours(&HeaderMap::new()));
        for ours in [
            "localhost",
            "LocalHost:9470",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:9470",
        ] {
            assert!(with(ours), "{ours}");
        }
        for other in [
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org:9470",
            "10.0.0.1",
            "[::2]",
            "",
            "a b",
        ] {
            assert!(!with(other), "{other}");
        }
    }
}
