//! What is said over HTTP of how the agent is, on its port and on its socket, while real things
//! fail and recover.

#![expect(
    clippy::print_stdout,
    reason = "how long it took is for who reads the run"
)]

use crate::support::mounted::Mounted;
use crate::support::running::{Agent, Place, freeze, make_session, signal, wait_for};
use crate::support::web::{self, Answer, get, say};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What a disk said is believed for ten seconds, asking it may take two more, and a busy machine
/// a few besides.
const CACHE: Duration = Duration::from_secs(15);

fn place(limits: &str) -> Place {
    let place = Place::new();
    configure(&place, limits);
    place
}

fn configure(place: &Place, limits: &str) {
    place.configure(&format!(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
         [root.limits]\n{limits}\n[root.protect]\nquiet = \"0s\""
    ));
}

/// The address that an agent says it listens on.
fn address(place: &Place) -> String {
    wait_for("the port", || {
        let told = place.told("http.started");
        let address = told.last().and_then(|line| line["address"].as_str());
        address.map(str::to_owned).ok_or_else(|| place.log())
    })
}

/// The components that are not well, as `name of root: message`.
fn unwell(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let components = json["components"].as_array().expect("components");
    let unwell = components.iter().filter(|c| c["status"] != "ok");
    unwell
        .map(|c| {
            let text = |key: &str| c[key].as_str().unwrap_or("agent").to_owned();
            format!(
                "{} of {}: {}",
                text("component"),
                text("root"),
                text("message")
            )
        })
        .collect()
}

fn is_healthy(place: &Place) {
    let health = get(place, "/health");
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
}

/// Waits until `/ready` says so, no longer than its cache may take, with `/health` asked meanwhile.
fn until_ready(place: &Place, status: u16, what: &str) {
    let begun = Instant::now();
    let answer = wait_for(what, || {
        is_healthy(place);
        let answer = get(place, "/ready");
        let said = unwell(&answer).join("; ");
        match answer.status == status && (status == 200 || said.contains(what)) {
            true => Ok(answer),
            false => Err(format!("{}: {said}", answer.status)),
        }
    });
    let took = begun.elapsed();
    println!(
        "http: {} after {took:.1?}: {:?}",
        answer.status,
        unwell(&answer)
    );
    assert!(took < CACHE, "{took:?}");
    // Nobody who may only read is told where anything is.
    assert!(!answer.body.contains('/'), "{}", answer.body);
}

#[test]
fn the_port_and_the_socket_answer_under_every_name() {
    let mut place = Place::new();
    place.http = "127.0.0.1:0";
    configure(&place, "max_size = \"1 MiB\"");
    let agent = place.agent();
    let address = address(&place);
    let mut tcp = web::port(&address);
    let mut unix = web::socket(&place);
    let health = r#"{"status":"ok"}"#;
    for path in ["/health", "/healthz", "/livez"] {
        let head = format!("GET {path} HTTP/1.1\nHost: {address}\n");
        for answer in [say(&mut tcp, &head), say(&mut unix, &head)] {
            assert_eq!((answer.status, answer.body.as_str()), (200, health));
            assert_eq!(answer.kind, "application/json");
        }
    }
    for path in ["/ready", "/readyz", "/health/ready"] {
        let head = format!("GET {path} HTTP/1.1\nHost: localhost\n");
        for answer in [say(&mut tcp, &head), say(&mut unix, &head)] {
            assert_eq!(answer.status, 200, "{answer:?}");
            let json = answer.json();
            assert_eq!(json["status"], "ok");
            let components = json["components"].as_array().expect("components");
            let named: Vec<_> = components
                .iter()
                .map(|c| (c["component"].as_str().expect("a name"), c["root"].as_str()))
                .collect();
            let of_root = ["watcher", "index", "lock", "limits"].map(|name| (name, Some("r")));
            let own = [
                ("store", None),
                ("http", None),
                ("storage", Some("r")),
                ("storage", None),
            ];
            assert_eq!(named, [&of_root[..], &own[..]].concat());
            for component in components {
                let at = component["checked_at"].as_str().expect("a time");
                assert!(chrono::DateTime::parse_from_rfc3339(at).is_ok(), "{at}");
            }
        }
    }
    let head = say(&mut tcp, "HEAD /health HTTP/1.1\nHost: localhost\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for (request, status) in [
        ("GET /nothing HTTP/1.1\nHost: localhost\n", 404),
        ("GET /../etc/passwd HTTP/1.1\nHost: localhost\n", 404),
        (
            "POST /health HTTP/1.1\nHost: localhost\nContent-Length: 0\n",
            405,
        ),
        ("DELETE /ready HTTP/1.1\nHost: localhost\n", 405),
    ] {
        for answer in [say(&mut tcp, request), say(&mut unix, request)] {
            assert_eq!(
                (answer.status, answer.kind.as_str()),
                (status, "application/problem+json")
            );
            assert_eq!(answer.json()["status"], status);
        }
    }
    // The same socket speaks lines of JSON.
    let mut lines = web::socket(&place);
    lines
        .write_all(b"{\"command\":\"status\"}\n")
        .expect("taken");
    let mut line = String::new();
    BufReader::new(lines).read_line(&mut line).expect("a line");
    let status: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(status["roots"][0]["name"], "r");
    assert_eq!(agent.stop(), Some(0));
}

/// A page of a stranger may lead its own name to this host (DNS rebinding).
#[test]
fn only_who_means_this_host_is_answered_on_the_port() {
    let mut place = Place::new();
    place.http = "127.0.0.1:0";
    configure(&place, "max_size = \"1 MiB\"");
    let agent = place.agent();
    let address = address(&place);
    for (request, status) in [
        ("GET /health HTTP/1.1\nHost: localhost\n", 200),
        ("GET /health HTTP/1.1\nHost: [::1]:9470\n", 200),
        ("GET /health HTTP/1.0\n", 200),
        (
            "GET http://localhost/health HTTP/1.1\nHost: localhost\n",
            200,
        ),
        ("GET /health HTTP/1.1\nHost: evil.example.org\n", 421),
        ("GET /ready HTTP/1.1\nHost: 127.0.0.1.example.org\n", 421),
        (
            "GET /health HTTP/1.1\nHost: localhost\nHost: evil.example.org\n",
            421,
        ),
        (
            "GET http://evil.example.org/health HTTP/1.1\nHost: localhost\n",
            421,
        ),
        ("GET /nothing HTTP/1.1\nHost: evil.example.org\n", 421),
    ] {
        let answer = say(&mut web::port(&address), request);
        assert_eq!(answer.status, status, "{request}: {answer:?}");
    }
    // Who may connect to the socket is its file mode.
    let other = "GET /health HTTP/1.1\nHost: other\n";
    assert_eq!(say(&mut web::socket(&place), other).status, 200);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_said_and_taken_when_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut place = Place::new();
    place.http = taken.local_addr().expect("an address").to_string().leak();
    configure(&place, "max_size = \"1 MiB\"");
    let agent = place.agent();
    let answer = wait_for("the warning", || {
        let answer = get(&place, "/ready");
        let said = unwell(&answer).join("; ");
        said.contains("http of agent").then_some(answer).ok_or(said)
    });
    assert_eq!(
        (answer.status, answer.json()["status"].as_str()),
        (200, Some("degraded"))
    );
    assert_eq!(place.told("http.unheard").len(), 1);
    drop(taken);
    let address = address(&place);
    assert_eq!(address, place.http);
    let head = "GET /ready HTTP/1.1\nHost: localhost\n";
    assert_eq!(say(&mut web::port(&address), head).status, 200);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_store_that_cannot_be_used_is_not_ready() {
    let place = place("max_size = 3000");
    let agent = place.agent();
    until_ready(&place, 200, "all is well");
    let (here, away) = (place.beside("state/housekeeper.db"), place.beside("away"));
    fs::rename(&here, &away).expect("moved");
    fs::create_dir(&here).expect("something else is there");
    overflow(&place, &agent, 3);
    until_ready(&place, 503, "store of agent");
    fs::remove_dir(&here).expect("it goes");
    fs::rename(&away, &here).expect("moved back");
    overflow(&place, &agent, 6);
    until_ready(&place, 200, "it is back");
    assert_eq!(agent.stop(), Some(0));
}

/// Sessions that lead to a removal, which is a row of the audit.
fn overflow(place: &Place, agent: &Agent<'_>, first: i64) {
    let before = agent.root()["pruned"]["sessions"].as_u64();
    for n in first..first + 3 {
        let staging = place.beside("staging");
        make_session(&place.root, &staging, &format!("s{n}"), 1000 - n, (2, 500));
    }
    agent.until("a removal", |root| {
        root["pruned"]["sessions"].as_u64() > before
    });
}

#[test]
fn a_root_that_is_unmounted_or_read_only_is_not_ready() {
    let place = place("max_size = \"1 MiB\"");
    let Some(mut mounted) = Mounted::tmpfs(&place.root, "size=4m") else {
        return;
    };
    mounted.remount("ro");
    let agent = place.spawn_agent();
    wait_for("the socket", || agent.try_status().map(drop));
    until_ready(&place, 503, "storage of r: read-only");
    mounted.remount("rw");
    until_ready(&place, 200, "it can be written to");
    mounted.unmount();
    // What lay below it is another directory: it is looked after as one, or nobody knows it.
    fs::remove_dir(&place.root).expect("empty");
    until_ready(&place, 503, "watcher of r: the root is not at its path");
    fs::create_dir(&place.root).expect("made");
    until_ready(&place, 200, "a root is there");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_limit_that_cannot_be_met_is_not_ready() {
    let place = place("max_size = 2000");
    let staging = place.beside("staging");
    make_session(&place.root, &staging, "s0", 1000, (2, 500));
    let agent = place.agent();
    until_ready(&place, 200, "all is well");
    let pinned = place.run(&["pin", "s0", "--reason", "evidence"]);
    assert!(pinned.status.success(), "{pinned:?}");
    fs::write(place.root.join("s0/more"), vec![0; 5000]).expect("space");
    until_ready(&place, 503, "limits of r: what may go is not enough");
    let unpinned = place.run(&["unpin", "s0"]);
    assert!(unpinned.status.success(), "{unpinned:?}");
    until_ready(&place, 200, "it is met");
    assert_eq!(agent.stop(), Some(0));
}

/// With six watches for twenty directories most changes are seen by scans only.
#[test]
fn a_root_with_too_few_watches_is_not_ready() {
    let mut place = Place::new();
    if !place.in_namespace("-Ur", "echo 6 > /proc/sys/user/max_inotify_watches") {
        return;
    }
    place.backend = "inotify";
    configure(&place, "max_count = 100");
    let staging = place.beside("staging");
    for n in 0..20 {
        make_session(&place.root, &staging, &format!("s{n}"), 100 - n, (2, 100));
    }
    let agent = place.spawn_agent();
    wait_for("the socket", || agent.try_status().map(drop));
    until_ready(&place, 503, "directories have no watch");
    let pid = agent.pid().to_string();
    let more = "echo 1000 > /proc/sys/user/max_inotify_watches";
    let mut enter = Command::new("nsenter");
    enter.args([
        "-t",
        &pid,
        "-U",
        "--preserve-credentials",
        "sh",
        "-ec",
        more,
    ]);
    let entered = enter.output().expect("nsenter runs");
    assert!(entered.status.success(), "{entered:?}");
    assert!(place.run(&["rescan"]).status.success());
    until_ready(&place, 200, "all are watched");
    assert_eq!(agent.stop(), Some(0));
}

/// A program that serves the root's file system stands still: whoever asks that waits for it.
#[test]
fn a_stopped_fuse_mount_freezes_nothing_but_its_root() {
    let mut place = Place::new();
    place.backend = "poll";
    configure(&place, "max_size = \"1 MiB\"");
    let real = place.beside("real");
    fs::create_dir(&real).expect("made");
    let Some((_mounted, server)) = Mounted::fuse(&real, &place.root) else {
        return;
    };
    let agent = place.agent();
    until_ready(&place, 200, "all is well");
    let stopped = Stopped::new(server);
    until_ready(&place, 503, "index of r: its thread has not turned for");
    until_ready(&place, 503, "storage of r: the disk does not answer");
    drop(stopped);
    until_ready(&place, 200, "it answers");
    assert_eq!(agent.stop(), Some(0));
}

/// A process that stands still until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        freeze(pid);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, rustix::process::Signal::CONT);
    }
}

/// An error of the disk after which its file system takes no writes.
#[test]
fn a_file_system_that_turned_read_only_is_not_ready() {
    let place = place("max_size = \"1 MiB\"");
    let image = place.beside("image");
    let Some(mounted) = Mounted::ext4(&image, &place.root, "256", 8) else {
        return;
    };
    let agent = place.agent();
    until_ready(&place, 200, "all is well");
    mounted.remount("abort");
    until_ready(&place, 503, "storage of r: read-only");
    assert_eq!(agent.stop(), Some(0));
}

/// A file system that takes no writes until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(at: &Path) -> Self {
        let status = Command::new("fsfreeze").arg("-f").arg(at).status();
        assert!(status.is_ok_and(|status| status.success()), "frozen");
        Self(at.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let status = Command::new("fsfreeze").arg("-u").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "thawed");
    }
}

/// The thread of a root waits for its disk; nobody else does.
#[test]
fn a_disk_that_hangs_freezes_nothing_but_its_root() {
    let place = place("max_age = \"1h\"");
    let image = place.beside("image");
    let Some(_mounted) = Mounted::ext4(&image, &place.root, "256", 8) else {
        return;
    };
    // In a few seconds it is too old, and leaves by a rename.
    let dir = place.root.join("s0");
    fs::create_dir(&dir).expect("made");
    let at = chrono::Utc::now() - chrono::TimeDelta::seconds(3600 - 4);
    let text = format!("{{\"created_at\":\"{}\"}}", at.to_rfc3339());
    fs::write(dir.join("metadata.json"), text).expect("space");
    let agent = place.agent();
    until_ready(&place, 200, "all is well");
    let frozen = Frozen::new(&place.root);
    until_ready(&place, 503, "index of r: its thread has not turned for");
    is_healthy(&place);
    drop(frozen);
    until_ready(&place, 200, "it turns");
    agent.until("the old one to go", |root| root["pruned"]["sessions"] == 1);
    assert_eq!(agent.stop(), Some(0));
}
