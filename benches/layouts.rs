//! What layouts cost: the scan of the same files through each kind beside a scan that owns
//! nothing, and what reading metadata adds for each session. "Every file" is a session for each of
//! them, and printed only: what it costs are the sessions.
//!
//! `cargo bench --bench layouts [-- --files 500000 --sessions 20000 --rounds 5
//! --judge 1]`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

#[expect(dead_code, reason = "shared with benches that run agents")]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Scratch, option, percentile, places};

/// Directories of so many files each, a metadata.json among them; and as many blobs with their
/// catalogue beside them.
fn tree(root: &Path, n_sessions: usize, n_files: usize) {
    let mut entries = Vec::new();
    for number in 0..n_sessions {
        let dir = root.join(format!("rec_{number:06}"));
        fs::create_dir_all(&dir).expect("made");
        let text = format!(
            "{{\"created_at\":\"2026-01-01T00:00:{:02}.{number:06}Z\",\"group\":\"g\"}}",
            number % 60
        );
        fs::write(dir.join("metadata.json"), &text).expect("written");
        for file in 1..n_files - 1 {
            fs::write(dir.join(format!("f{file}.bin")), b"x").expect("written");
        }
        fs::write(root.join(format!("blob_{number:06}.json")), b"x").expect("written");
        let text = text.replace("\"group\"", "\"format\":\"json\",\"group\"");
        entries.push(format!("\"blob_{number:06}\":{text}"));
    }
    let catalogue = format!("{{{}}}", entries.join(",\n"));
    fs::write(root.join("metadata.json"), catalogue).expect("written");
}

fn config(scratch: &Path, root: &Path, name: &str, layout: &str) -> PathBuf {
    let config = scratch.join(format!("{name}.toml"));
    let text = format!(
        "[agent]\nstate_dir = {:?}\n[[root]]\npath = {root:?}\n[root.limits]\nmax_size = \"1TiB\"\n[root.layout]\n{layout}\n",
        scratch.join("state")
    );
    fs::write(&config, text).expect("written");
    config
}

fn time(config: &Path) -> Duration {
    let mut command = Command::new(env!("CARGO_BIN_EXE_housekeeper"));
    command.args(["plan", "--json", "--config"]).arg(config);
    let begun = Instant::now();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .expect("it starts");
    let lasted = begun.elapsed();
    assert!(output.status.success(), "{}", config.display());
    lasted
}

fn compare(place: &str, base: &Path) -> bool {
    let n_files = option("--files", 500_000usize);
    let n_sessions = option("--sessions", 20_000usize);
    let scratch = Scratch::new(base, "layouts");
    let root = scratch.0.join("root");
    tree(&root, n_sessions, n_files / n_sessions);
    let by_name = "created_at = { from = [{ name = \"created\", as = \"epoch_s\" }] }";
    let kinds = [
        ("nothing owned", "sessions = \"nothing\"\ncreated_at = { from = [\"mtime\"] }".to_owned()),
        ("directories", format!("pattern = '^rec_(?<created>\\d+)$'\n{by_name}")),
        ("directories, metadata read", String::new()),
        (
            "files",
            format!("kind = \"files\"\nsessions = \"*/f1.bin\"\n{}", "created_at = { from = [\"mtime\"] }"),
        ),
        (
            "every file",
            "kind = \"files\"\nsessions = \"*/*.bin\"\ncreated_at = { from = [\"mtime\"] }".to_owned(),
        ),
        ("catalog, read", "kind = \"catalog\"\nmetadata = \"metadata.json\"".to_owned()),
        ("sidecar, metadata read", "kind = \"sidecar\"\nsessions = \"*/*\"\nmetadata = \"{id}.json\"\nblobs = [\"{id}.none\"]".to_owned()),
    ];
    let configs: Vec<(&str, PathBuf)> = kinds
        .iter()
        .map(|(name, layout)| {
            (
                *name,
                config(&scratch.0, &root, &name.replace([' ', ','], "_"), layout),
            )
        })
        .collect();
    for (_, config) in &configs {
        time(config);
    }
    let mut lasted = vec![Vec::new(); configs.len()];
    for _ in 0..option("--rounds", 5usize) {
        for (at, (_, config)) in configs.iter().enumerate() {
            lasted[at].push(time(config));
        }
    }
    let medians: Vec<Duration> = lasted.iter().map(|all| percentile(all, 50.0)).collect();
    let plain = medians[0].as_secs_f64();
    for ((name, _), median) in configs.iter().zip(&medians) {
        println!(
            "layouts {place:5} {n_files} files, {n_sessions} directories, {name}: {:.0} ms, {:+.1} % over nothing owned",
            median.as_secs_f64() * 1e3,
            (median.as_secs_f64() / plain - 1.0) * 100.0
        );
    }
    let [directories, read, files, _, catalog, sidecar] =
        [1, 2, 3, 4, 5, 6].map(|at: usize| medians[at].as_secs_f64());
    let added = [directories, files].map(|lasted| lasted / plain - 1.0);
    let a_session = |seconds: f64| seconds / n_sessions as f64 * 1e6;
    let metadata = [
        a_session(read - directories),
        a_session(sidecar - plain * 1.15),
        a_session(catalog - plain * 1.15),
    ];
    println!(
        "layouts {place:5} without metadata: directories {:+.1} %, files {:+.1} % (at most 15); \
         metadata: directories {:.1} µs a session, sidecar {:.1} and catalog {:.1} beside 15 % (at most 8)",
        added[0] * 100.0,
        added[1] * 100.0,
        metadata[0],
        metadata[1],
        metadata[2]
    );
    added.iter().all(|added| *added <= 0.15) && metadata.iter().all(|micros| *micros <= 8.0)
}

fn main() {
    let mut all = true;
    for (place, base) in places() {
        all &= compare(place, &base);
    }
    if !all {
        eprintln!("layouts: a bound was missed");
        if option("--judge", 1u8) == 1 {
            std::process::exit(1);
        }
    }
}
