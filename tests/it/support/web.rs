//! A client of HTTP/1.1 that says exactly what it is told to say.

use super::running::Place;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The longest an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The kind of its body.
    pub(crate) kind: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends the head of a request and reads the answer.
pub(crate) fn say(stream: &mut (impl Read + Write), head: &str) -> Answer {
    let head = head.replace('\n', "\r\n");
    stream.write_all(head.as_bytes()).expect("it is taken");
    stream.write_all(b"\r\n").expect("it is taken");
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).expect("an answer");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {line:?}"));
    let (mut length, mut kind) = (0, String::new());
    loop {
        line.clear();
        lines.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a number"),
            "content-type" => value.clone_into(&mut kind),
            _ => {}
        }
    }
    if head.starts_with("HEAD ") {
        length = 0;
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).expect("the body");
    let body = String::from_utf8(body).expect("text");
    Answer { status, kind, body }
}

/// A connection to the agent's socket.
pub(crate) fn socket(place: &Place) -> UnixStream {
    let stream = UnixStream::connect(place.beside("agent.sock")).expect("the agent listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// A connection to the agent's port.
pub(crate) fn port(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the agent listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Reads something over the socket.
pub(crate) fn get(place: &Place, path: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\nHost: localhost\n");
    say(&mut socket(place), &head)
}
