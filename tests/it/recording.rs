//! Real input: ffmpeg's segment muxer records into one directory per session while the agent
//! holds the limit.

#![expect(
    clippy::print_stdout,
    reason = "seeds, figures and skipped parts are for who reads the run"
)]

use crate::support::recount;
use crate::support::running::{PATIENCE, Place, wait_for};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const LIMIT: u64 = 3_000_000;

fn has_ffmpeg() -> bool {
    Command::new("ffmpeg")
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Records `seconds` of a tone into segments of one second, as fast as it goes, or (`live`) at
/// the speed of a microphone into shorter ones, which are written when they end.
fn record(dir: &Path, seconds: u32, live: bool) -> Child {
    fs::create_dir(dir).expect("a session");
    let source = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error"]);
    if live {
        command.arg("-re");
    }
    command
        .args(["-f", "lavfi", "-i", &source, "-c:a", "pcm_s16le"])
        .args([
            "-f",
            "segment",
            "-segment_time",
            if live { "0.25" } else { "1" },
        ])
        .arg(dir.join("part%04d.wav"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ffmpeg starts")
}

fn name(n: u32) -> String {
    format!("take{n:02}_20260101_0000{n:02}")
}

#[test]
fn recordings_by_ffmpeg_stay_under_the_limit_and_the_one_in_progress_is_untouched() {
    if !has_ffmpeg() {
        println!("skipped: there is no ffmpeg here");
        return;
    }
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\npattern = '^(?<id>.+)_(?<created>\\d{{8}}_\\d{{6}})$'\n\
         [root.layout.created_at]\n\
         from = [{{ name = \"created\", as = \"%Y%m%d_%H%M%S\", zone = \"utc\" }}]\n\
         [root.limits]\nmax_size = {LIMIT}\n[root.protect]\nquiet = \"2s\""
    ));
    let agent = place.agent();
    let deadline = Instant::now() + PATIENCE;
    // The one in progress has the oldest name of all: only that it is written keeps it.
    let current = place.root.join(name(0));
    let mut live = record(&current, 60, true);
    let mut peak = 0;
    let mut made = BTreeSet::new();
    for n in 1..=8 {
        made.insert(name(n));
        // 10 s of 48 kHz in 16 bits: 960 000 bytes.
        let mut take = record(&place.root.join(name(n)), 10, false);
        while take.try_wait().expect("it is ours").is_none() {
            peak = peak.max(recount::directories(&place.root).apparent);
            assert!(Instant::now() < deadline, "ffmpeg takes too long");
        }
        // While all of it is young nothing may go; then the limit holds again.
        let at_rest = wait_for("the limit to hold", || {
            let count = recount::directories(&place.root);
            if count.apparent <= LIMIT {
                Ok(count)
            } else {
                Err(format!("{count:?}"))
            }
        });
        assert!(at_rest.sessions >= 2, "{at_rest:?}");
        let there = recount::sessions(&place.root);
        assert!(
            there.contains(&name(0)),
            "the recording in progress is gone"
        );
        let left: BTreeSet<_> = there.into_iter().filter(|s| *s != name(0)).collect();
        let newest: BTreeSet<_> = made.iter().rev().take(left.len()).cloned().collect();
        assert_eq!(left, newest, "only the oldest may go");
        for session in &left {
            let parts = fs::read_dir(place.root.join(session)).expect("a session");
            assert_eq!(parts.count(), 10, "{session} is half there");
        }
        assert!(
            live.try_wait().expect("it is ours").is_none(),
            "it still records"
        );
    }
    // No part of the live one was taken from it.
    let parts = fs::read_dir(&current).expect("it is there").count();
    for n in 0..parts {
        assert!(current.join(format!("part{n:04}.wav")).exists());
    }
    live.kill().expect("it is ours");
    live.wait().expect("it ends");
    let status = agent.until("exact figures", |root| {
        root["bytes"] == recount::directories(&place.root).apparent
    });
    assert!(status["pruned"]["sessions"].as_u64() >= Some(5), "{status}");
    // At most two takes of 960 000 bytes are too young to go, and the live one.
    println!("limit {LIMIT}, peak while it recorded {peak}");
    assert!(peak < LIMIT + 3 * 1_000_000, "{peak}");
    assert_eq!(agent.stop(), Some(0));
}
