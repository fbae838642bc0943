//! What a host refuses: T25 to T27, T32. User namespaces give limits and powers of their own.

use super::scripts::{self, Hand};
use super::{For, each_backend, hears};
use crate::support::recount;
use crate::support::resting::settled;
use crate::support::running::{Place, make_session, wait_for};
use housekeeper::model::watcher::Backend;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// T25: with six watches for forty directories the rest is polled, which is said once, and
/// the limit holds.
#[test]
fn without_watches_enough_the_limit_still_holds() {
    each_backend(For::Overflowing, |place, backend| {
        let set = "echo 6 > /proc/sys/user/max_inotify_watches";
        if !place.in_namespace("-Ur", set) {
            return;
        }
        place.configure(
            "[root.layout]\nmetadata = \"metadata.json\"\n\
             [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
             [root.limits]\nmax_count = 20\n[root.protect]\nquiet = \"0s\"",
        );
        let staging = place.beside("staging");
        for n in 0..20 {
            let name = format!("s{n:02}");
            make_session(&place.root, &staging, &name, 100 - n, (2, 100));
            fs::create_dir(place.root.join(name).join("below")).expect("a directory");
        }
        let agent = place.heard_by(backend).expect("others always can");
        let coverage = agent.root()["watch"]["coverage"].as_f64().expect("a share");
        assert!(coverage > 0.0 && coverage < 0.5, "{coverage}");
        assert_eq!(agent.root()["ready"], false);
        fs::write(place.root.join("s19/below/unheard"), [1; 777]).expect("a file");
        settled(&agent, &place.root);
        for n in 20..23 {
            make_session(
                &place.root,
                &staging,
                &format!("s{n:02}"),
                100 - n,
                (2, 100),
            );
            settled(&agent, &place.root);
        }
        agent.until("three prunes", |root| root["pruned"]["sessions"] == 3);
        let left = recount::sessions(&place.root);
        assert!(
            left.iter()
                .eq(&(3..23).map(|n| format!("s{n:02}")).collect::<Vec<_>>())
        );
        assert_eq!(place.told("watch.degraded").len(), 1, "{}", place.log());
        assert_eq!(place.told("watch.lost").len(), 0, "{}", place.log());
    });
}

/// T26: no instance is to be had: what is next takes over, and that is said.
#[test]
fn without_instances_the_next_backend_takes_over() {
    each_backend(For::Overflowing, |place, backend| {
        let set = "echo 0 > /proc/sys/user/max_inotify_instances";
        if !place.in_namespace("-Ur", set) {
            return;
        }
        place.configure("");
        let agent = place.agent();
        let watch = agent.root()["watch"].clone();
        assert_eq!(watch["backend"], "poll", "{watch}");
        let why = watch["why"].as_str().expect("a reason");
        assert!(
            why.contains(&format!("{} is refused", backend.name())),
            "{why}"
        );
        fs::create_dir(place.root.join("s")).expect("a session");
        fs::write(place.root.join("s/f"), [1; 100]).expect("a file");
        settled(&agent, &place.root);
        wait_for("a word on it", || match place.told("watch.degraded") {
            told if told.len() == 1 && told[0]["backend"] == "poll" => Ok(()),
            told => Err(format!("{told:?}")),
        });
    });
}

/// T27: what may not be read is reported, and its session stays.
#[test]
fn what_may_not_be_read_is_reported() {
    each_backend(For::All, |place, backend| {
        if backend == Backend::Fanotify {
            // Who may mark a file system may read all of it.
            return;
        }
        // Root without capabilities; anybody else has none.
        if rustix::process::geteuid().is_root() {
            let drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
            place.wrapper = drop.map(str::to_owned).to_vec();
        }
        place.configure(
            "[root.layout]\nmetadata = \"metadata.json\"\n\
             [root.layout.created_at]\nfrom = [{ key = \"/created_at\", as = \"rfc3339\" }]\n\
             [root.limits]\nmax_count = 2\n[root.protect]\nquiet = \"0s\"",
        );
        let staging = place.beside("staging");
        for n in 0..3 {
            make_session(&place.root, &staging, &format!("s{n}"), 100 - n, (2, 100));
        }
        let locked = place.root.join("s0/locked");
        fs::create_dir(&locked).expect("a directory");
        fs::write(locked.join("f"), [1; 10]).expect("a file");
        let allow = |mode| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(&locked, mode).expect("a mode");
        };
        allow(0);
        let agent = place.heard_by(backend).expect("others always can");
        agent.until("the next oldest to go", |root| {
            root["pruned"]["sessions"] == 1
        });
        let left: Vec<_> = recount::sessions(&place.root).into_iter().collect();
        assert_eq!(left, ["s0", "s2"]);
        wait_for("a word on it", || {
            let found = place.told("anomaly.found");
            let is_it = |line: &&serde_json::Value| {
                line["kind"] == "unreadable" && line["path"] == "s0/locked"
            };
            match found.iter().filter(is_it).count() {
                1 => Ok(()),
                _ => Err(format!("{found:?}")),
            }
        });
        // Readable again, and it counts.
        allow(0o700);
        let status = settled(&agent, &place.root);
        if hears(backend) {
            assert_eq!(status["rescan"]["count"], 1);
        }
    });
}

/// T32: the whole of fanotify without any power on the host: a file system of one's own, in a
/// namespace of one's own. The scripts run there, too.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "who reads the run has to see what it skipped"
)]
fn fanotify_in_a_namespace_of_its_own() {
    for script in scripts::all() {
        let mut place = Place::in_memory();
        let own = place.beside("own");
        fs::create_dir(&own).expect("a directory");
        // The script's places beside the root lie there as well.
        let mount = format!("mount -t tmpfs own {0}; mkdir -p {0}/root", own.display());
        if !place.in_namespace("-Urm", &mount) {
            return;
        }
        place.backend = "fanotify";
        place.root = own.join("root");
        place.configure(scripts::CREATED);
        let agent = place.spawn_agent();
        let inside = PathBuf::from(format!("/proc/{}/root", agent.child.id()));
        let root = inside
            .join(own.strip_prefix("/").expect("absolute"))
            .join("root");
        let watch = agent.until("the first scan", |root| {
            root["watch"]["state"] == "watching"
        });
        if watch["watch"]["backend"] != "fanotify" {
            println!("skipped: {}", watch["watch"]["why"]);
            return;
        }
        let mut hand = Hand::new(root);
        script.prepare(&mut hand);
        script.play(&mut hand, &agent, Backend::Fanotify);
    }
}
