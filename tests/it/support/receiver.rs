//! A webhook's other end: a real HTTP server that takes, fails, resets, hangs or is not there.

use super::running::wait_for;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Take,
    /// 500.
    Fail,
    /// 400.
    Refuse,
    /// Reads it and closes the connection.
    Reset,
    /// Reads it and never answers.
    Hang,
}

/// One request, as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) manner: Manner,
    /// The first line and the headers, in small letters.
    pub(crate) head: String,
    pub(crate) key: String,
    pub(crate) body: Value,
}

#[derive(Debug)]
struct Shared {
    manner: Manner,
    requests: Vec<Request>,
    hanging: Vec<TcpStream>,
    is_over: bool,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    pub(crate) fn new(manner: Manner) -> Self {
        let shared = Shared {
            manner,
            requests: Vec::new(),
            hanging: Vec::new(),
            is_over: false,
        };
        let mut receiver = Self {
            address: "127.0.0.1:0".parse().expect("an address"),
            shared: Arc::new(Mutex::new(shared)),
            thread: None,
        };
        receiver.listen();
        receiver
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn behave(&self, manner: Manner) {
        lock(&self.shared).manner = manner;
    }

    /// Nobody listens from now on: connections are refused.
    pub(crate) fn leave(&mut self) {
        lock(&self.shared).is_over = true;
        if let Some(thread) = self.thread.take() {
            // Wakes it; it may be awake.
            drop(TcpStream::connect(self.address));
            thread.join().expect("no panic");
        }
    }

    /// At the same address as before.
    pub(crate) fn listen(&mut self) {
        lock(&self.shared).is_over = false;
        let listener = TcpListener::bind(self.address).expect("a free port");
        self.address = listener.local_addr().expect("an address");
        let shared = self.shared.clone();
        self.thread = Some(std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if lock(&shared).is_over {
                    return;
                }
                // A connection that comes to nothing is one that the agent gave up.
                if let Err(error) = serve(stream, &shared) {
                    assert_ne!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
                }
            }
        }));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.shared).requests.clone()
    }

    /// Those it took.
    pub(crate) fn taken(&self) -> Vec<Request> {
        let requests = self.requests().into_iter();
        requests
            .filter(|request| request.manner == Manner::Take)
            .collect()
    }

    /// Waits for a request that was met in this manner after the first `n` of all.
    pub(crate) fn met(&self, manner: Manner, n: usize) -> Request {
        wait_for("a request", || {
            let requests = self.requests();
            let found = requests
                .iter()
                .skip(n)
                .find(|request| request.manner == manner);
            found
                .cloned()
                .ok_or_else(|| format!("{manner:?}: {requests:?}"))
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        lock(&self.shared).hanging.clear();
        self.leave();
    }
}

fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let header = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name));
        line.map(|line| line[name.len()..].trim_matches([':', ' ']).to_owned())
    };
    let length = header("content-length")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body)?;
    let mut shared = lock(shared);
    let request = Request {
        manner: shared.manner,
        key: header("idempotency-key").unwrap_or_default(),
        head: head.clone(),
        body,
    };
    shared.requests.push(request);
    let answer = match shared.manner {
        Manner::Take => "200 OK",
        Manner::Fail => "500 Internal Server Error",
        Manner::Refuse => "400 Bad Request",
        Manner::Reset => return Ok(()),
        Manner::Hang => {
            shared.hanging.push(stream);
            return Ok(());
        }
    };
    drop(shared);
    write!(
        stream,
        "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
}
