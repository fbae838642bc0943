//! What Prometheus is told: the figures of `status`, in both formats, by names and units that its
//! own tools take, and by names that the rules and the dashboard in `docs/monitoring` ask for.

#![expect(
    clippy::print_stdout,
    reason = "what is skipped is for who reads the run"
)]

use crate::support::running::{Agent, Place, make_session, wait_for};
use crate::support::web::{self, Answer, say};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn place() -> Place {
    let mut place = Place::new();
    place.http = "127.0.0.1:0";
    place.configure(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
         [root.limits]\nmax_size = 5000\n[root.protect]\nquiet = \"0s\"",
    );
    place
}

/// Three sessions that stay, two that went, and something that is wrong.
fn busy(place: &Place) -> Agent<'_> {
    let agent = place.agent();
    let staging = place.beside("staging");
    for n in 0..5 {
        make_session(&place.root, &staging, &format!("s{n}"), 1000 - n, (2, 700));
    }
    fs::write(place.root.join("stray"), [0; 77]).expect("space");
    agent.until("two to go", |root| root["pruned"]["sessions"] == 2);
    let scanned = agent.root()["rescan"]["count"].as_u64();
    assert!(place.run(&["rescan"]).status.success());
    agent.until("the trash to be empty", |root| {
        root["trash_bytes"] == 0 && root["rescan"]["count"].as_u64() > scanned
    });
    agent
}

fn address(place: &Place) -> String {
    wait_for("the port", || {
        let told = place.told("http.started");
        let address = told.last().and_then(|line| line["address"].as_str());
        address.map(str::to_owned).ok_or_else(|| place.log())
    })
}

fn scrape(place: &Place, accept: &str) -> Answer {
    let head = format!("GET /metrics HTTP/1.1\nHost: localhost\nAccept: {accept}\n");
    say(&mut web::socket(place), &head)
}

/// Values by series.
fn series(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name, value.parse().expect("a number"))
        })
        .collect()
}

#[test]
fn the_figures_are_those_of_status_in_both_formats() {
    let place = place();
    let agent = busy(&place);
    let status = agent.root();
    let open = scrape(
        &place,
        "application/openmetrics-text; version=1.0.0, text/plain;q=0.5",
    );
    let old = scrape(&place, "text/plain");
    assert_eq!(
        open.kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert_eq!(old.kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(open.body.ends_with("# EOF\n") && !old.body.contains("# EOF"));
    for answer in [&open, &old] {
        let series = series(&answer.body);
        let of = |name: &str| series[format!("housekeeper_root_{name}{{root=\"r\"}}").as_str()];
        for (name, key) in [
            ("usage_bytes", "bytes"),
            ("limit_bytes", "limit_bytes"),
            ("apparent_bytes", "apparent_bytes"),
            ("allocated_bytes", "allocated_bytes"),
            ("peak_bytes", "peak_bytes"),
            ("trash_bytes", "trash_bytes"),
            ("sessions", "session_count"),
            ("files", "files"),
        ] {
            assert_eq!(Some(of(name)), status[key].as_f64(), "{name}");
        }
        assert_eq!(of("unowned_bytes"), 77.0);
        assert_eq!(
            (of("ready"), of("unmet"), of("held"), of("enforcing")),
            (1.0, 0.0, 0.0, 1.0)
        );
        assert_eq!(Some(of("scans_total")), status["rescan"]["count"].as_f64());
        let by = |name: &str, label: &str, value: &str| {
            series[format!("housekeeper_root_{name}{{root=\"r\",{label}=\"{value}\"}}").as_str()]
        };
        assert_eq!(by("pruned_sessions_total", "rule", "max_size"), 2.0);
        let pruned = status["pruned"]["bytes"].as_f64();
        assert_eq!(Some(by("pruned_bytes_total", "rule", "max_size")), pruned);
        assert_eq!(by("anomalies", "kind", "unowned"), 1.0);
        let backend = status["watch"]["backend"].as_str().expect("a backend");
        assert_eq!(by("watch_backend", "backend", backend), 1.0);
        assert_eq!(
            series["housekeeper_root_reaction_seconds_bucket{le=\"+Inf\",root=\"r\"}"],
            of("reaction_seconds_count")
        );
        // What goes together is one reaction.
        assert!((1.0..=2.0).contains(&of("reaction_seconds_count")));
        assert!(of("reaction_seconds_sum") > 0.0);
    }
    // What nobody may know who may only read.
    for secret in [
        place.root.display().to_string(),
        "s0".to_owned(),
        "stray".to_owned(),
    ] {
        assert!(!open.body.contains(&secret), "{secret}");
    }
    assert_eq!(agent.stop(), Some(0));
}

/// A tool of Prometheus; `None`, with the reason printed, where this host has none.
fn tool(name: &str) -> Option<Command> {
    let is_there = Command::new(name).arg("--version").output().is_ok();
    if !is_there {
        println!("skipped: {name} is not installed (Debian: prometheus)");
        assert!(std::env::var_os("CI").is_none(), "CI installs it");
    }
    is_there.then(|| Command::new(name))
}

fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/monitoring")
        .join(name)
}

#[test]
fn its_own_tools_find_nothing_wrong() {
    let Some(mut check) = tool("promtool") else {
        return;
    };
    let place = place();
    let agent = busy(&place);
    let text = scrape(&place, "*/*").body;
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    check.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = check.spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("taken");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}\n{text}"
    );
    for (what, file) in [("check", "alerts.yml"), ("test", "alerts.test.yml")] {
        let mut rules = tool("promtool").expect("as before");
        let output = rules.args([what, "rules"]).arg(monitoring(file)).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(agent.stop(), Some(0));
}

/// Every name that the rules and the dashboard ask for is told.
#[test]
fn rules_and_dashboard_ask_for_what_there_is() {
    let place = place();
    let agent = busy(&place);
    let text = scrape(&place, "*/*").body;
    let told: BTreeSet<&str> = series(&text)
        .into_keys()
        .map(|name| name.split('{').next().unwrap_or(name))
        .collect();
    let name = regex::Regex::new(r"housekeeper_[a-z_]+").expect("an expression");
    for file in ["alerts.yml", "dashboard.json"] {
        let asked = fs::read_to_string(monitoring(file)).expect("a file");
        let asked: BTreeSet<&str> = name.find_iter(&asked).map(|found| found.as_str()).collect();
        assert!(asked.len() > 5, "{file}: {asked:?}");
        let absent: Vec<_> = asked.iter().filter(|name| !told.contains(**name)).collect();
        assert!(absent.is_empty(), "{file}: {absent:?}, told are {told:?}");
    }
    let dashboard = fs::read(monitoring("dashboard.json")).expect("a file");
    let dashboard: Value = serde_json::from_slice(&dashboard).expect("JSON");
    assert!(
        dashboard["panels"]
            .as_array()
            .is_some_and(|panels| panels.len() > 8)
    );
    assert_eq!(agent.stop(), Some(0));
}

/// A program that is killed in the end.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended by itself.
        if self.0.kill().is_err() || self.0.wait().is_err() {
            println!("it had ended");
        }
    }
}

#[test]
fn a_real_prometheus_reads_it() {
    let Some(mut prometheus) = tool("prometheus") else {
        return;
    };
    let place = place();
    let agent = busy(&place);
    let target = address(&place);
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: housekeeper\n  static_configs: [{{targets: [\"{target}\"]}}]\n"
    );
    let file = place.beside("prometheus.yml");
    fs::write(&file, config).expect("space");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = free.local_addr().expect("an address").to_string();
    drop(free);
    let log = fs::File::create(place.beside("prometheus.log")).expect("space");
    prometheus
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            place.beside("tsdb").display()
        ))
        .arg(format!("--web.listen-address={listen}"))
        .stdout(Stdio::null())
        .stderr(log);
    let _beside = Beside(prometheus.spawn().expect("it runs"));
    let said = || fs::read_to_string(place.beside("prometheus.log")).unwrap_or_default();
    let ask = |query: &str| -> Result<Value, String> {
        let stream = std::net::TcpStream::connect(&listen);
        let mut stream = stream.map_err(|error| format!("{error}: {}", said()))?;
        let head = format!("GET /api/v1/query?query={query} HTTP/1.1\nHost: localhost\n");
        let answer = say(&mut stream, &head);
        match answer.status {
            200 => Ok(answer.json()["data"]["result"].clone()),
            _ => Err(format!("{answer:?}")),
        }
    };
    let value = |query: &str| {
        wait_for(query, || {
            let found = ask(query)?;
            let value = found[0]["value"][1].as_str();
            value
                .map(str::to_owned)
                .ok_or_else(|| format!("{found}: {}", said()))
        })
    };
    assert_eq!(value("up"), "1");
    assert_eq!(value("housekeeper_root_sessions"), "3");
    let pruned = "housekeeper_root_pruned_sessions_total%7Brule=%22max_size%22%7D";
    assert_eq!(value(pruned), "2");
    let reactions = "housekeeper_root_reaction_seconds_count";
    assert!(["1", "2"].contains(&value(reactions).as_str()));
    let all = "housekeeper_root_reaction_seconds_bucket%7Ble=%22%2BInf%22%7D";
    assert_eq!(value(all), value(reactions));
    assert_eq!(value("housekeeper_build_info"), "1");
    assert_eq!(agent.stop(), Some(0));
}
