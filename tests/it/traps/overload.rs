//! Too many events: T17, T18, T20 to T23. Counts only; times are benches.

use super::{For, each_backend, hears, n_recoveries};
use crate::support::recount;
use crate::support::resting::{nothing_lost, settled, without_rescan};
use crate::support::running::{Agent, Place, make_session, signal, wait_for};
use housekeeper::model::watcher::Backend;
use rustix::process::Signal;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// More events than a queue holds: of each file its birth, its bytes, its writer's end.
const N_FILES: usize = 34_000;

fn write_files(place: &Place, n_files: usize, size: usize) {
    for n in 0..n_files {
        let file = place.root.join(format!("s{}/f{n}", n % 10));
        fs::write(file, vec![1; size]).expect("a file");
    }
}

fn ten_sessions(place: &Place) {
    for n in 0..10 {
        fs::create_dir(place.root.join(format!("s{n}"))).expect("a session");
    }
}

/// Recoveries that the pauses between them allow within this time: three at once, then one
/// after 0.1 s, 0.2 s, 0.4 s ..., and the one under way.
fn allowed(since: Instant) -> usize {
    let tenths = since.elapsed().as_secs_f64() / 0.1;
    4 + (tenths + 1.0).log2() as usize
}

/// T17, T18: nobody reads for a while. Where the queue has a bound that is one loss without
/// a path, and one scan, after which everything is watched again; else nothing is lost.
#[test]
fn a_hundred_thousand_events_while_nobody_reads_cost_one_scan() {
    each_backend(For::All, |place, backend| {
        place.configure("");
        ten_sessions(place);
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        let start = agent.root();
        signal(agent.child.id(), Signal::STOP);
        write_files(place, N_FILES, 100);
        let new = |n: usize| place.root.join(format!("s{}/new{n}/deep", n % 10));
        for n in 0..50 {
            fs::create_dir_all(new(n)).expect("directories");
            fs::write(new(n).join("f"), [1; 10]).expect("a file");
        }
        signal(agent.child.id(), Signal::CONT);
        let status = settled(&agent, &place.root);
        assert_eq!(status["files"], N_FILES + 50);
        if For::Overflowing.has(backend) {
            assert_ne!(status["watch"]["lost"], 0, "{status}");
            assert_eq!(n_recoveries(place), 1, "{status}");
        } else if hears(backend) {
            nothing_lost(&start, &status);
        }
        // What came while nobody read is watched.
        for n in 0..50 {
            fs::write(new(n).join("g"), [1; 5]).expect("a file");
            fs::create_dir(new(n).join("below")).expect("a directory");
            fs::write(new(n).join("below/h"), [1; 5]).expect("a file");
        }
        let after = settled(&agent, &place.root);
        if hears(backend) {
            nothing_lost(&status, &after);
        }
    });
}

/// T20: where events are lost again and again, scans do not follow each other without a
/// pause, and once it ends all is exact.
#[test]
fn persistent_losses_do_not_make_persistent_scans() {
    each_backend(For::Overflowing, |place, backend| {
        place.configure("");
        ten_sessions(place);
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        let begun = Instant::now();
        let n_lost = |root: &Value| root["watch"]["lost"].as_u64().expect("a count");
        for round in 0..25 {
            let before = n_lost(&agent.root());
            signal(agent.child.id(), Signal::STOP);
            write_files(place, 10_000, 10 + round);
            signal(agent.child.id(), Signal::CONT);
            agent.until("a loss", |root| n_lost(root) > before);
        }
        let status = settled(&agent, &place.root);
        let (n_scans, most) = (n_recoveries(place), allowed(begun));
        assert!(n_lost(&status) >= 25, "{status}");
        assert!(n_scans <= most, "{n_scans} recoveries, {most} are allowed");
    });
}

/// Writes to one file as fast as it can while `meanwhile` runs.
fn beside_a_hot_writer(place: &Place, meanwhile: impl FnOnce()) {
    let file = File::create(place.root.join("s0/hot")).expect("a file");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let body = [7; 4096];
            while !is_over.load(Ordering::Relaxed) {
                for at in 0..16 {
                    file.write_all_at(&body, at * 4096).expect("it writes");
                }
            }
        });
        // Also when it fails: a scope waits for its threads.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        is_over.store(true, Ordering::Relaxed);
        writer.join().expect("no panic");
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
}

/// T21: a writer that never rests hides no new directory.
#[test]
fn a_hot_writer_hides_nothing() {
    each_backend(For::All, |place, backend| {
        place.configure("");
        ten_sessions(place);
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        let start = agent.root();
        let n_rounds = if hears(backend) { 20 } else { 3 };
        beside_a_hot_writer(place, || {
            for round in 0..n_rounds {
                let dir = place.root.join(format!("s{}/d{round}/e", round % 10));
                fs::create_dir_all(&dir).expect("directories");
                fs::write(dir.join("f"), [1; 10]).expect("a file");
                agent.until("the new file while another one is hot", |root| {
                    root["files"] == round + 2
                });
            }
        });
        let status = settled(&agent, &place.root);
        if hears(backend) {
            nothing_lost(&start, &status);
        }
    });
}

/// Nothing is lost. With `notify` the kernel's queue may have been full, because its thread goes
/// through all its watches for each directory that went: then each of so many storms cost one
/// recovery at most.
fn nothing_lost_in(storms: usize, place: &Place, start: &Value, status: &Value) {
    match status["watch"]["backend"].as_str() {
        Some("notify") if start["watch"]["lost"] != status["watch"]["lost"] => {
            assert!(n_recoveries(place) <= storms, "{status}");
        }
        _ => nothing_lost(start, status),
    }
}

/// T22: two thousand watched directories go by a prune, and as many by somebody else's
/// `rm -rf`, among three thousand that stay.
#[test]
fn two_thousand_directories_go_without_a_loss() {
    each_backend(For::All, |place, backend| {
        place.configure(
            "[root.layout]\nmetadata = \"metadata.json\"\n\
             [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
             [root.limits]\nmax_count = 3\n[root.protect]\nquiet = \"0s\"",
        );
        let staging = place.beside("staging");
        let make = |name: &str, n_dirs: usize, age: i64| {
            make_session(&place.root, &staging, name, age, (1, 10));
            for n in 0..n_dirs {
                let dir = place.root.join(name).join(format!("d{n}"));
                fs::create_dir(&dir).expect("a directory");
                fs::write(dir.join("f"), [1; 10]).expect("a file");
            }
        };
        make("oldest", 2000, 100);
        make("removed", 2000, 90);
        make("kept", 3000, 80);
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        let start = agent.root();
        make("new", 0, 10);
        agent.until("a prune", |root| root["pruned"]["sessions"] == 1);
        let status = settled(&agent, &place.root);
        if hears(backend) {
            nothing_lost_in(1, place, &start, &status);
        }
        std::thread::scope(|scope| {
            let rm = scope.spawn(|| fs::remove_dir_all(place.root.join("removed")));
            for n in 0..500 {
                fs::write(place.root.join(format!("kept/d{n}/g")), vec![1; n]).expect("a file");
            }
            rm.join().expect("no panic").expect("it goes");
        });
        let status = settled(&agent, &place.root);
        assert_eq!(status["files"], 2 + 3000 + 500 + 2);
        if hears(backend) {
            nothing_lost_in(2, place, &start, &status);
        }
        let left: Vec<_> = recount::sessions(&place.root).into_iter().collect();
        assert_eq!(left, ["kept", "new"]);
        watches_fit(&agent, backend);
    });
}

/// One watch for each directory that is there, none for those that went.
fn watches_fit(agent: &Agent<'_>, backend: Backend) {
    let n_watches = match backend {
        Backend::Fanotify => 1,
        Backend::Inotify | Backend::Notify => 1 + 2 + 3000,
        Backend::Poll => 0,
    };
    agent.until("watches for what is left", |root| {
        root["watch"]["watches"] == n_watches
    });
}

/// T23: writes to many files at the greatest rate are merged, not kept one by one; what is
/// lost costs scans with pauses.
#[test]
fn a_storm_of_writes_costs_few_scans() {
    each_backend(For::Hearing, |place, backend| {
        place.configure("");
        ten_sessions(place);
        let Some(agent) = place.heard_by(backend) else {
            return;
        };
        let (start, begun) = (agent.root(), Instant::now());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let root = &place.root;
                scope.spawn(move || {
                    let open = |n| File::create(root.join(format!("s{n}/f{writer}")));
                    let files: Vec<_> = (0..10).map(|n| open(n).expect("a file")).collect();
                    for n in 0..5000 {
                        for file in &files {
                            file.write_all_at(&[7; 512], n % 8 * 512)
                                .expect("it writes");
                        }
                    }
                });
            }
        });
        let status = settled(&agent, &place.root);
        assert_eq!(status["bytes"], 40 * 4096);
        without_rescan(&start, &status);
        let (n_scans, most) = (n_recoveries(place), allowed(begun));
        assert!(n_scans <= most, "{n_scans} recoveries, {most} are allowed");
        if backend == Backend::Fanotify {
            nothing_lost(&start, &status);
        }
        wait_for("an end of the last scan", || {
            let (begun, ended) = (place.told("cycle.start"), place.told("cycle.end"));
            let text = format!("{begun:?} {ended:?}");
            (begun.len() == ended.len()).then_some(()).ok_or(text)
        });
    });
}
