//! What no event tells, on real files: writes by `io_submit` and through a mapping while the
//! descriptor stays open, writes through a name outside, mounts, and a root that goes and comes.
//! And barriers, which need a source that tells.

#![expect(
    clippy::print_stdout,
    reason = "what this host does not allow is for who reads the run"
)]

use crate::support::mounted::Mounted;
use crate::support::recount::{self, Count};
use crate::support::running::{Agent, Place};
use rustix::fs::{OFlags, fcntl_getfl};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// The system calls and the memory that no crate at hand offers.
mod raw {
    #![expect(unsafe_code, reason = "libaio and mappings, as strangers use them")]

    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    /// `struct iocb` of linux/aio_abi.h, little endian.
    #[repr(C)]
    #[derive(Default)]
    struct Iocb {
        data: u64,
        key: u32,
        rw_flags: u32,
        opcode: u16,
        priority: i16,
        file: u32,
        buffer: u64,
        length: u64,
        offset: i64,
        reserved: u64,
        flags: u32,
        result_fd: u32,
    }

    #[repr(C)]
    #[derive(Default)]
    struct Event {
        data: u64,
        object: u64,
        result: i64,
        result2: i64,
    }

    const PWRITE: u16 = 1;

    /// A context for asynchronous writes.
    pub(super) struct Aio(u64);

    impl Aio {
        pub(super) fn new() -> io::Result<Self> {
            let mut context = 0_u64;
            // SAFETY: the kernel writes the context's number there.
            let done = unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) };
            if done == 0 {
                Ok(Self(context))
            } else {
                Err(io::Error::last_os_error())
            }
        }

        /// Writes and waits for the end.
        pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
            let mut order = Iocb {
                opcode: PWRITE,
                file: file.as_raw_fd() as u32,
                buffer: bytes.as_ptr() as u64,
                length: bytes.len() as u64,
                offset: offset as i64,
                ..Iocb::default()
            };
            let mut orders = [&raw mut order];
            let mut event = Event::default();
            // SAFETY: order and bytes live until the event has come.
            let submitted =
                unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, orders.as_mut_ptr()) };
            if submitted != 1 {
                return Err(io::Error::last_os_error());
            }
            let no_limit = std::ptr::null::<libc::timespec>();
            // SAFETY: there is room for one event.
            let ended = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.0,
                    1,
                    1,
                    &raw mut event,
                    no_limit,
                )
            };
            if ended != 1 {
                return Err(io::Error::last_os_error());
            }
            usize::try_from(event.result)
                .map_err(|_| io::Error::from_raw_os_error(-event.result as i32))
        }
    }

    impl Drop for Aio {
        fn drop(&mut self) {
            // SAFETY: the context is ours, and nothing is under way.
            unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
        }
    }

    /// A shared mapping of a whole file.
    pub(super) struct Mapping {
        at: *mut libc::c_void,
        length: usize,
    }

    impl Mapping {
        pub(super) fn new(file: &File, length: usize) -> io::Result<Self> {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: the kernel chooses the place.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    length,
                    rights,
                    libc::MAP_SHARED,
                    file.as_raw_fd(),
                    0,
                )
            };
            if at == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { at, length })
        }

        pub(super) fn fill(&mut self, from: usize, to: usize) {
            assert!(from <= to && to <= self.length);
            // SAFETY: within the mapping, which nobody else has.
            unsafe { std::ptr::write_bytes(self.at.cast::<u8>().add(from), 7, to - from) };
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: mapped by us, and used no more.
            unsafe { libc::munmap(self.at, self.length) };
        }
    }
}

const BACKENDS: [&str; 3] = ["inotify", "fanotify", "notify"];

/// A place whose root has one session with one file, for a backend.
fn place(backend: &'static str) -> Place {
    let mut place = Place::new();
    place.backend = backend;
    place.configure(
        "[root.layout]\nrequired = false\n\
         [root.layout.created_at]\nfrom = [\"mtime\"]",
    );
    fs::create_dir(place.root.join("s0")).expect("a session");
    fs::write(place.root.join("s0/file"), [1; 1000]).expect("a file");
    place
}

/// Whether the backend is the one wanted; says where it is not.
fn is_had(agent: &Agent<'_>, backend: &str) -> bool {
    let watch = agent.root()["watch"].clone();
    let is_it = watch["backend"] == *backend;
    if !is_it {
        println!("{backend} is skipped here: {}", watch["why"]);
    }
    is_it
}

/// Waits until the figures are the disk's.
fn until_exact(agent: &Agent<'_>, root: &Path) -> Value {
    agent.until("exact figures", |status| {
        status["watch"]["state"] == "watching"
            && Count::of_status(status) == recount::directories(root)
    })
}

fn rescans(status: &Value) -> u64 {
    let scans = status["rescan"]["count"].as_u64().expect("a count");
    scans - status["guard"]["scans"].as_u64().expect("a count")
}

#[test]
fn asynchronous_writes_through_a_descriptor_that_stays_open_are_found() {
    for backend in BACKENDS {
        let place = place(backend);
        let agent = place.agent();
        let aio = match raw::Aio::new() {
            Ok(aio) => aio,
            Err(error) => return println!("skipped: io_setup is refused here: {error}"),
        };
        let file = File::create(place.root.join("s0/aio")).expect("a file");
        let flags = fcntl_getfl(&file).expect("its flags");
        assert!(flags.contains(OFlags::WRONLY));
        let before = until_exact(&agent, &place.root);
        let chunk = vec![5; 100_000];
        for n in 0..5 {
            let written = aio.write(&file, &chunk, n * 100_000).expect("it writes");
            assert_eq!(written, chunk.len());
            let status = until_exact(&agent, &place.root);
            assert_eq!(status["bytes"], 1000 + (n + 1) * 100_000);
            assert_eq!(rescans(&status), rescans(&before), "{backend}");
        }
    }
}

#[test]
fn pages_filled_through_a_mapping_are_found() {
    const LENGTH: usize = 4 << 20;
    let place = place("inotify");
    let agent = place.agent();
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(place.root.join("s0/sparse"))
        .expect("a file");
    file.set_len(LENGTH as u64).expect("it is long");
    let before = until_exact(&agent, &place.root);
    let mut mapping = raw::Mapping::new(&file, LENGTH).expect("a mapping");
    for quarter in 0..4 {
        mapping.fill(quarter * LENGTH / 4, (quarter + 1) * LENGTH / 4);
        file.sync_all().expect("it has its blocks");
        let status = until_exact(&agent, &place.root);
        let allocated = status["allocated_bytes"].as_u64().expect("a number");
        assert!(allocated >= ((quarter + 1) * LENGTH / 4) as u64, "{status}");
        assert_eq!(rescans(&status), rescans(&before));
    }
}

#[test]
fn writes_through_a_name_outside_the_root_are_found() {
    for backend in BACKENDS {
        let place = place(backend);
        let outside = place.beside("outside");
        fs::hard_link(place.root.join("s0/file"), &outside).expect("another name");
        let agent = place.agent();
        if !is_had(&agent, backend) {
            continue;
        }
        let before = until_exact(&agent, &place.root);
        assert_eq!(before["guard"]["linked"], 1);
        let mut writer = OpenOptions::new()
            .append(true)
            .open(&outside)
            .expect("opened");
        for n in 1..=3_u64 {
            writer.write_all(&[2; 500]).expect("it writes");
            let status = until_exact(&agent, &place.root);
            assert_eq!(status["bytes"], 1000 + 500 * n);
            assert_eq!(rescans(&status), rescans(&before), "{backend}");
        }
        // A name that a file gets while the agent runs, of a file that is still warm.
        fs::write(place.root.join("s0/late"), [3; 10]).expect("a file");
        let late = place.beside("late");
        fs::hard_link(place.root.join("s0/late"), &late).expect("another name");
        agent.until("both are known", |status| status["guard"]["linked"] == 2);
        fs::write(&late, [4; 7_000]).expect("it is written");
        let status = until_exact(&agent, &place.root);
        assert_eq!(status["bytes"], 1000 + 1500 + 7_000);
        // Their last names outside go: nothing is left to look at.
        fs::remove_file(&outside).expect("it goes");
        fs::remove_file(&late).expect("it goes");
        agent.until("nothing to follow", |status| status["guard"]["linked"] == 0);
    }
}

#[test]
fn what_a_mount_hides_leaves_the_figures_and_comes_back() {
    for backend in BACKENDS {
        for (at, left) in [("s1", 1000), ("s1/deep", 1_050)] {
            let place = place(backend);
            fs::create_dir_all(place.root.join("s1/deep")).expect("a session");
            fs::write(place.root.join("s1/top"), [2; 50]).expect("a file");
            fs::write(place.root.join("s1/deep/hidden"), [2; 5_000]).expect("a file");
            let agent = place.agent();
            let before = until_exact(&agent, &place.root);
            assert_eq!(
                (&before["bytes"], &before["anomalies"]),
                (&6_050.into(), &0.into())
            );
            let Some(mut mounted) = Mounted::tmpfs(&place.root.join(at), "size=1m") else {
                return;
            };
            fs::write(place.root.join(at).join("foreign"), [3; 700]).expect("a file");
            agent.until("the mount is an anomaly", |status| {
                status["bytes"] == left && status["anomalies"].as_u64() > Some(0)
            });
            mounted.unmount();
            let after = agent.until("it is all back", |status| {
                status["bytes"] == 6_050 && status["anomalies"] == 0
            });
            assert_eq!(Count::of_status(&after), recount::directories(&place.root));
            // And what came back is watched.
            fs::write(place.root.join("s1/deep/new"), [4; 11]).expect("a file");
            until_exact(&agent, &place.root);
            let log = place.log();
            assert!(log.contains("foreign_mount"), "{backend}: {log}");
        }
    }
}

#[test]
fn a_root_that_is_renamed_away_and_back_or_made_anew_is_noticed() {
    let is = |state: &'static str| move |status: &Value| status["watch"]["state"] == state;
    for backend in BACKENDS {
        let place = place(backend);
        let agent = place.agent();
        until_exact(&agent, &place.root);
        let away = place.beside("away");
        fs::rename(&place.root, &away).expect("it moves");
        agent.until("it is absent", is("absent"));
        fs::rename(&away, &place.root).expect("it comes back");
        agent.until("it is back", is("watching"));
        until_exact(&agent, &place.root);
        fs::write(place.root.join("s0/more"), [1; 77]).expect("a file");
        until_exact(&agent, &place.root);
        fs::remove_dir_all(&place.root).expect("it goes");
        agent.until("it is absent", is("absent"));
        fs::create_dir_all(place.root.join("s9")).expect("a root");
        fs::write(place.root.join("s9/file"), [1; 5]).expect("a file");
        agent.until("the new one is looked after", |status| {
            status["watch"]["state"] == "watching" && status["bytes"] == 5
        });
        fs::write(place.root.join("s9/more"), [1; 6]).expect("a file");
        until_exact(&agent, &place.root);
        // Another directory in its place, at once.
        let other = place.beside("other");
        fs::create_dir_all(other.join("s7")).expect("a directory");
        fs::write(other.join("s7/file"), [1; 900]).expect("a file");
        fs::rename(&place.root, &away).expect("it moves");
        fs::rename(&other, &place.root).expect("another comes");
        agent.until("the other one is looked after", |status| {
            status["bytes"] == 900
        });
        until_exact(&agent, &place.root);
        assert_eq!(agent.stop(), Some(0), "{backend}");
    }
}

#[test]
fn a_root_that_is_mounted_over_or_unmounted_is_noticed() {
    let place = place("inotify");
    let agent = place.agent();
    until_exact(&agent, &place.root);
    let Some(mut mounted) = Mounted::tmpfs(&place.root, "size=1m") else {
        return;
    };
    agent.until("the mount is looked after", |status| {
        status["watch"]["state"] == "watching" && status["session_count"] == 0
    });
    fs::create_dir(place.root.join("s5")).expect("a session");
    fs::write(place.root.join("s5/file"), [1; 333]).expect("a file");
    agent.until("what it holds is known", |status| status["bytes"] == 333);
    mounted.unmount();
    agent.until("the directory below is looked after", |status| {
        status["watch"]["state"] == "watching" && status["bytes"] == 1000
    });
    fs::write(place.root.join("s0/more"), [1; 77]).expect("a file");
    until_exact(&agent, &place.root);
}

/// Whoever waits for a rescan with `wait` finds all that was done before, at once.
#[test]
fn behind_a_barrier_everything_is_known() {
    for backend in ["inotify", "fanotify", "notify", "poll"] {
        let place = place(backend);
        let agent = place.agent();
        for n in 0..5_u64 {
            fs::create_dir(place.root.join(format!("n{n}"))).expect("a session");
            for file in 0..50 {
                fs::write(place.root.join(format!("n{n}/f{file}")), [1; 20]).expect("a file");
            }
            let waited = place.run(&["rescan", "--wait", "--json"]);
            assert!(waited.status.success(), "{waited:?}");
            let status: Value = serde_json::from_slice(&waited.stdout).expect("a document");
            let root = &status["roots"][0];
            assert_eq!(root["bytes"], 1000 + (n + 1) * 1000, "{backend}: {root}");
            assert_eq!(root["watch"]["barrier"], n + 1);
        }
        let left = fs::read_dir(place.root.join(".housekeeper")).expect("there");
        let left = left.flatten().map(|entry| entry.file_name());
        let left: Vec<_> = left
            .filter(|n| n.to_string_lossy().contains("cookie"))
            .collect();
        assert!(left.is_empty(), "{backend}: {left:?}");
        // What a source that hears proves by its cookie.
        let had = agent.root()["watch"]["backend"].clone();
        assert!(!place.log().contains("hears nothing"), "{backend} is {had}");
        assert_eq!(agent.stop(), Some(0));
    }
}
