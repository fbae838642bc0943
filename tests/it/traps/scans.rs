//! Scans and changes at once: T28, T30, T31.

use super::scripts::CREATED;
use super::{For, each_backend, hears};
use crate::support::resting::{nothing_lost, settled};
use crate::support::running::{signal, wait_for};
use housekeeper::model::watcher::Backend;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Does `work` over and over on a thread of its own while `meanwhile` runs.
fn beside<T>(work: impl Fn(u64) + Sync, meanwhile: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for round in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                work(round);
            }
        });
        // Also when it fails: a scope waits for its threads.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        is_over.store(true, Ordering::Relaxed);
        worker.join().expect("no panic");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn stable(root: &Path, n_dirs: usize) {
    for n in 0..n_dirs {
        let dir = root.join(format!("s{}/stable{n}", n % 10));
        fs::create_dir_all(&dir).expect("directories");
        fs::write(dir.join("f"), vec![1; 100]).expect("a file");
    }
}

/// T28: directories come and go during the first scan, and none that stays is left out.
#[test]
fn churn_during_the_first_scan_leaves_nothing_unwatched() {
    each_backend(For::All, |place, backend| {
        place.configure("");
        stable(&place.root, 600);
        let churn = |round: u64| {
            let dir = place
                .root
                .join(format!("s{}/passing{}", round % 10, round % 7));
            fs::create_dir(&dir).expect("a directory");
            fs::write(dir.join("f"), [1; 10]).expect("a file");
            let moved = dir.with_extension("moved");
            fs::rename(&dir, &moved).expect("it moves");
            fs::remove_dir_all(&moved).expect("it goes");
        };
        let Some(agent) = beside(churn, || place.heard_by(backend)) else {
            return;
        };
        let start = settled(&agent, &place.root);
        for n in 0..600 {
            let dir = place.root.join(format!("s{}/stable{n}", n % 10));
            fs::write(dir.join("g"), [1; 3]).expect("a file");
        }
        let status = settled(&agent, &place.root);
        assert_eq!(status["bytes"], 600 * 103);
        if hears(backend) {
            nothing_lost(&start, &status);
            assert_eq!(status["watch"]["lost"], 0);
            assert_eq!(status["watch"]["coverage"], 1.0, "{status}");
        }
    });
}

/// T30: a storm of signals makes one scan after the other, and few of them.
#[test]
fn a_storm_of_signals_makes_one_scan_at_a_time() {
    each_backend(For::All, |place, backend| {
        place.configure("");
        stable(&place.root, 1000);
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        const N_SIGNALS: usize = 1000;
        for n in 0..N_SIGNALS {
            let kind = if n % 2 == 0 {
                Signal::USR1
            } else {
                Signal::HUP
            };
            signal(agent.child.id(), kind);
        }
        wait_for("an end of the scans", || {
            let (begun, ended) = (place.told("cycle.start"), place.told("cycle.end"));
            let is_over = begun.len() > 1 && begun.len() == ended.len();
            let text = format!("{} of {}", ended.len(), begun.len());
            is_over.then_some(()).ok_or(text)
        });
        let status = settled(&agent, &place.root);
        assert_eq!(status["watch"]["lost"], 0);
        let mut is_running = false;
        let mut n_scans = 0;
        for line in place.log().lines() {
            let is_start = line.contains("\"cycle.start\"");
            if is_start || line.contains("\"cycle.end\"") {
                assert_ne!(is_running, is_start, "two scans at once: {line}");
                is_running = is_start;
                n_scans += usize::from(is_start);
            }
        }
        assert!(n_scans < N_SIGNALS / 4, "{n_scans} scans");
        assert_eq!(agent.stop(), Some(0));
    });
}

/// T31: while scans meet renames, replacements and rewrites, the totals never pass what is
/// there, so nothing is ever pruned.
///
/// The total is the sum of looks at different moments: a file that is gone since its look
/// counts until the next one, while its follower elsewhere counts already. So it may be too
/// much by what is under way at a moment, here a few files.
#[test]
fn totals_stay_true_while_scans_meet_changes() {
    const N_FILES: u64 = 1000;
    const SIZE: u64 = 100;
    const TOTAL: u64 = N_FILES * SIZE;
    const UNDER_WAY: u64 = 16;
    each_backend(For::All, |place, backend| {
        let limit = TOTAL + UNDER_WAY * SIZE;
        place.configure(&format!(
            "{CREATED}\n[root.limits]\nmax_size = {limit}\n[root.protect]\nquiet = \"0s\""
        ));
        stable(&place.root, 1000);
        fs::create_dir(place.root.join("s10")).expect("a session");
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        let work = |round: u64| {
            let n = round % N_FILES;
            let dir = place.root.join(format!("s{}/stable{n}", n % 10));
            let away = place.root.join(format!("s10/stable{n}"));
            fs::write(dir.join("new"), vec![2; SIZE as usize]).expect("a file");
            fs::rename(dir.join("new"), dir.join("f")).expect("it is replaced");
            fs::rename(&dir, &away).expect("it moves");
            fs::rename(&away, &dir).expect("it comes back");
            // Without a pause `notify` places no watch for seconds, and a scan took over 20 s: it
            // gets as much time for each round as the agent takes to answer.
            if backend == Backend::Notify {
                agent.root();
            }
        };
        beside(work, || {
            for _ in 0..20 {
                let before = agent.root()["rescan"]["count"].as_u64();
                signal(agent.child.id(), Signal::USR1);
                agent.until("a scan", |root| {
                    let bytes = root["bytes"].as_u64().expect("a size");
                    assert!(bytes <= limit, "{root}");
                    root["rescan"]["count"].as_u64() > before
                });
            }
        });
        let status = settled(&agent, &place.root);
        assert_eq!(status["bytes"], TOTAL);
        assert!(status["peak_bytes"].as_u64() <= Some(limit), "{status}");
        assert_eq!(status["pruned"]["sessions"], 0, "{status}");
    });
}
