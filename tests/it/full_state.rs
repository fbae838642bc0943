//! A state directory on a disk that is full: what is registered is known and run all the same, with
//! an agent and without one. Real file systems, mounted: skipped where this user may not.

use crate::support::agent::Agent;
use crate::support::cleaning::Desk;
use crate::support::fixture::names;
use crate::support::mounted::Mounted;
use crate::support::{Done, housekeeper};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The file system of a state directory.
struct Disk(PathBuf, Mounted);

impl Disk {
    /// `None` where this user may not mount.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("made");
        let mounted = Mounted::tmpfs(at, "size=1m,nr_inodes=60")?;
        Some(Self(at.to_owned(), mounted))
    }

    fn use_up_blocks(&self) {
        let mut file = fs::File::create(self.0.join("filler")).expect("a file");
        while file.write_all(&[b'x'; 512]).is_ok() {}
    }

    fn use_up_inodes(&self) {
        let more = |n: &u32| fs::File::create(self.0.join(format!("filler-{n}"))).is_ok();
        assert!((0..100).take_while(more).count() < 100);
    }

    fn make_room(&self) {
        for entry in fs::read_dir(&self.0).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.display().to_string().contains("/filler") {
                fs::remove_file(path).expect("removed");
            }
        }
    }

    fn allow(&self, what: &str) {
        self.1.remount(what);
    }
}

const FULL: [fn(&Disk); 2] = [Disk::use_up_blocks, Disk::use_up_inodes];

/// A desk whose state is on such a disk, with one registration that keeps two files of four.
fn desk() -> Option<(Desk, Disk, String)> {
    let desk = Desk::new("[registry]\nzone = \"utc\"\n");
    let disk = Disk::mount(&desk.scratch.path("state"))?;
    files(&desk);
    let id = desk.add("*.log", &["--max-files", "2"]);
    Some((desk, disk, id))
}

fn files(desk: &Desk) {
    for n in 0..4 {
        desk.file(&format!("{n}.log"), 10, 40 - n);
    }
}

fn lists(desk: &Desk, id: &str) {
    let listed = desk.done(&["list"]);
    assert_eq!(listed["cleanups"][0]["id"], id, "{listed}");
}

fn agent(desk: &Desk) -> Agent {
    let agent = Agent::on_config(&desk.scratch.path("config.toml"));
    agent.until("an agent that answers", |agent| agent.status().is_some());
    agent
}

fn command(desk: &Desk, words: &[&str]) -> Done {
    let mut command = housekeeper();
    command.args(words).arg("--config");
    let command = command.arg(desk.scratch.path("config.toml"));
    Done::of(command.output().expect("the program runs"))
}

/// What an agent or command that ended in order left has no index of its log, and there is no room for
/// one.
#[test]
fn an_agent_on_a_full_disk_knows_what_is_registered_and_writes_again_once_there_is_room() {
    for use_up in FULL {
        let Some((desk, disk, id)) = desk() else {
            return;
        };
        // What an agent and a run need of the state directory is there already.
        let mut before = agent(&desk);
        desk.done(&["run"]);
        before.signal(Signal::TERM);
        assert_eq!(before.ended(), 0);
        files(&desk);
        use_up(&disk);
        let agent = agent(&desk);
        lists(&desk, &id);
        desk.done(&["run"]);
        assert_eq!(names(&desk.dir()), ["2.log", "3.log"]);
        disk.make_room();
        let state = |agent: &Agent| agent.status().map(|status| status["store"].clone());
        agent.until("the store to be back", |agent| {
            state(agent).is_some_and(|store| store["state"] == "ok" && store["backlog"] == 0)
        });
        desk.done(&["update", &id, "--max-files", "1"]);
        lists(&desk, &id);
        assert_eq!(agent.events("registry.unread"), [] as [Value; 0]);
    }
}

/// There is no database, no lock file, no place of the root yet, and no room for any of them.
#[test]
fn a_first_start_on_a_full_disk_enforces_and_writes_it_all_once_there_is_room() {
    for use_up in FULL {
        let desk = Desk::new("");
        let dir = desk.dir();
        desk.configure(&format!(
            "[[root]]\nname = \"r\"\npath = {dir:?}\n[root.layout]\nkind = \"files\"\n\
             sessions = \"*.dat\"\ncreated_at = {{ from = [\"mtime\"] }}\n[root.limits]\n\
             max_count = 2\n[root.protect]\nquiet = \"0s\"\n[root.guard]\n\
             first_start = \"enforce\"\n"
        ));
        let Some(disk) = Disk::mount(&desk.scratch.path("state")) else {
            return;
        };
        use_up(&disk);
        let data = |n: u64| desk.file(&format!("{n}.dat"), 10, 40 - n);
        (0..4).for_each(data);
        let agent = agent(&desk);
        agent.until("the limit", |_| names(&dir) == ["2.dat", "3.dat"]);
        (4..9).for_each(data);
        agent.until("the limit again", |_| names(&dir) == ["7.dat", "8.dat"]);
        let store = |agent: &Agent| agent.status().expect("a status")["store"].clone();
        let said = store(&agent);
        let message = said["message"].as_str().expect("a reason").to_owned();
        assert_eq!(said["state"], "degraded", "{said}");
        let path = desk.scratch.path("state/housekeeper.db");
        let path = path.display().to_string();
        assert!(message.contains(&path), "{message}");
        let told = agent.told("store.degraded", 1);
        assert!(told[0]["message"].to_string().contains(&path), "{told:?}");
        // Nor does anybody else get the directory meanwhile.
        let mut second = housekeeper();
        second.arg("run").arg("--config");
        second.arg(desk.scratch.path("config.toml"));
        second.arg("--socket").arg(desk.scratch.path("second.sock"));
        let refused = Done::of(second.output().expect("it runs"));
        assert!(
            refused.code == 1 && refused.stderr.contains("another agent"),
            "{refused:?}"
        );
        disk.make_room();
        agent.until("the store", |agent| {
            let said = store(agent);
            said["state"] == "ok" && said["backlog"] == 0
        });
        let rows = command(&desk, &["audit", "--json"]).document();
        let entries = rows["entries"].as_array().expect("a list").iter();
        let gone = entries.filter(|row| row["event"] == "prune.deleted");
        let gone: Vec<String> = gone.map(|row| row["path"].to_string()).collect();
        let wanted: Vec<String> = (0..7).map(|n| format!("\"{n}.dat\"")).collect();
        assert_eq!(gone, wanted, "each once, in order");
        // The root's place is made with the next thing that is to be remembered of it.
        data(9);
        agent.until("a root that is known", |_| {
            let corners = fs::read_dir(desk.scratch.path("state/roots"));
            let mut corners = corners.into_iter().flatten();
            corners.any(|corner| corner.is_ok_and(|c| c.path().join("root.json").exists()))
        });
    }
}

#[test]
fn a_registry_that_was_never_read_says_so_instead_of_nothing() {
    let Some((desk, _disk, id)) = desk() else {
        return;
    };
    fs::write(
        desk.scratch.path("state/housekeeper.db"),
        "none of ours, and long enough to be looked at",
    )
    .expect("written");
    let agent = agent(&desk);
    agent.told("registry.unread", 1);
    for words in [&["run"][..], &["list"], &["show", &id]] {
        let done = desk.run(words);
        assert!(
            done.code == 1 && done.stderr.contains("corrupt"),
            "{words:?}: {done:?}"
        );
    }
    let done = desk.run(&["run"]);
    assert!(
        done.stderr.contains("the registrations cannot be read"),
        "{done:?}"
    );
}

/// Nobody removed what was written last from the log: it is read with the log, and without one.
#[test]
fn a_store_on_a_read_only_file_system_is_read() {
    for is_killed in [false, true] {
        let Some((desk, disk, id)) = desk() else {
            return;
        };
        if is_killed {
            let agent = agent(&desk);
            desk.done(&["update", &id, "--description", "last"]);
            drop(agent);
            fs::remove_file(desk.scratch.path("state/housekeeper.db-shm")).expect("it was there");
        }
        disk.allow("ro");
        let listed = desk.done(&["list"]);
        let said = if is_killed { "last" } else { "" };
        assert_eq!(listed["cleanups"][0]["description"], said, "{listed}");
        let rows = command(&desk, &["audit", "--json"]);
        assert_eq!(rows.code, 0, "{rows:?}");
        let rows = rows.document();
        assert_eq!(rows["entries"][0]["event"], "cleanup.added", "{rows}");
        disk.allow("rw");
        assert_eq!(desk.done(&["list"])["cleanups"][0]["id"], id);
    }
}

/// What the run needs of the state directory is not there yet, and cannot be made.
#[test]
fn a_command_on_a_full_disk_lists_runs_and_says_what_becomes_of_its_rows() {
    for use_up in FULL {
        let Some((desk, disk, id)) = desk() else {
            return;
        };
        use_up(&disk);
        lists(&desk, &id);
        let rows = command(&desk, &["audit", "--json"]);
        assert_eq!(rows.code, 0, "{rows:?}");
        assert_eq!(rows.document()["entries"][0]["event"], "cleanup.added");
        let done = desk.run(&["run"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(names(&desk.dir()), ["2.log", "3.log"]);
        let told = done.events("store.unwritten");
        let message = told[0]["message"].as_str().expect("a message");
        assert!(
            message.contains("will not be") && !message.contains("agent"),
            "{done:?}"
        );
        let refused = desk.run(&["update", &id, "--max-files", "1"]);
        assert!(
            refused.code == 1 && refused.stderr.contains("repeat the command"),
            "{refused:?}"
        );
        disk.make_room();
        desk.done(&["update", &id, "--max-files", "1"]);
    }
}

/// The state is on the disk that the run makes room on: at its end its rows can be written.
#[test]
fn a_command_that_made_the_room_writes_its_rows() {
    let desk = Desk::new("[registry]\nzone = \"utc\"\n");
    let Some(disk) = Disk::mount(&desk.scratch.path("disk")) else {
        return;
    };
    let dir = disk.0.join("files");
    fs::create_dir(&dir).expect("made");
    fs::create_dir(disk.0.join("state")).expect("made");
    symlink(disk.0.join("state"), desk.scratch.path("state")).expect("a link");
    desk.add_in(&dir, "*.log", &["--max-files", "1"]);
    crate::support::cleaning::file(&dir.join("0.log"), 300_000, 40);
    crate::support::cleaning::file(&dir.join("1.log"), 10, 30);
    disk.use_up_blocks();
    let done = desk.run(&["run"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(names(&dir), ["1.log"], "{done:?}");
    assert!(done.events("store.unwritten").is_empty(), "{done:?}");
    let rows = command(&desk, &["audit", "--json"]).document();
    let events = crate::support::texts(&rows["entries"], "event");
    assert!(events.contains(&"prune.deleted".to_owned()), "{rows}");
}
