//! A file system without a free inode or block, on which not even `.housekeeper` can be made:
//! it is pruned all the same. Real ones, mounted: skipped where this user may not.

use crate::support::mounted::Mounted;
use crate::support::recount;
use crate::support::running::{Place, make_session};
use std::fs;
use std::io::Write;
use std::path::Path;

const FILES: (u32, usize) = (4, 16_384);
const SESSION: u64 = 4 * 16_384 + 100;
const KEPT: u64 = 5;

fn ext4(place: &Place, n_inodes: &str, mebibytes: u64) -> Option<Mounted> {
    Mounted::ext4(&place.beside("image"), &place.root, n_inodes, mebibytes)
}

fn configure(place: &Place) {
    place.configure(&format!(
        "[root.layout]\nmetadata = \"metadata.json\"\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"rfc3339\" }}]\n\
         [root.limits]\nmax_size = {}\n[root.protect]\nquiet = \"0s\"",
        SESSION * KEPT
    ));
}

fn fill(place: &Place, n_sessions: i64) {
    let staging = place.root.join(".staging");
    for n in 0..n_sessions {
        let name = format!("s{n:03}");
        make_session(&place.root, &staging, &name, 1_000_000 - n, FILES);
    }
    fs::remove_dir(staging).expect("it is empty");
}

/// Empty files in the newest session until no inode is left.
fn use_up_inodes(root: &Path) {
    let newest = root.join("s019/more");
    fs::create_dir(&newest).expect("one more");
    for n in 0.. {
        match fs::File::create(newest.join(n.to_string())) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
                return;
            }
        }
    }
}

/// A file that takes every block, unowned, and no slack in the root's own directory block.
fn use_up_blocks(root: &Path) {
    let mut file = fs::File::create(root.join(".filler")).expect("a file");
    for size in [65_536, 4096, 1024, 512, 1] {
        let piece = vec![b'x'; size];
        while file.write_all(&piece).is_ok() {}
    }
}

fn is_full(root: &Path) {
    let error = fs::create_dir(root.join(".probe")).expect_err("it is full");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    assert!(!root.join(".housekeeper").exists());
}

fn newest_stay(place: &Place) {
    let there = recount::directories(&place.root);
    assert!(there.apparent <= SESSION * KEPT, "{there:?}");
    let names: Vec<_> = recount::sessions(&place.root)
        .into_iter()
        .filter(|name| name != "lost+found")
        .collect();
    let newest: Vec<_> = (20 - KEPT..20).map(|n| format!("s{n:03}")).collect();
    assert_eq!(names, newest);
}

fn the_agent_frees_it(place: &Place) {
    is_full(&place.root);
    let agent = place.agent();
    agent.until("room, down to the limit", |root| {
        root["bytes"].as_u64() <= Some(SESSION * KEPT)
            && root["bytes"] == recount::directories(&place.root).apparent
    });
    newest_stay(place);
    assert_eq!(agent.stop(), Some(0));
}

fn a_command_frees_it(place: &Place) {
    is_full(&place.root);
    let goal = format!("{}", (SESSION * KEPT) as f64 / f64::from(1 << 20));
    let done = place.run(&["prune-size", "--json", "--max-mb", &goal]);
    let log = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{log}");
    newest_stay(place);
}

#[test]
fn without_a_free_inode_on_ext4_the_agent_frees_room() {
    let place = Place::new();
    configure(&place);
    let Some(_mounted) = ext4(&place, "256", 8) else {
        return;
    };
    fill(&place, 20);
    use_up_inodes(&place.root);
    the_agent_frees_it(&place);
}

#[test]
fn without_a_free_block_on_ext4_the_agent_frees_room() {
    let place = Place::new();
    configure(&place);
    let Some(_mounted) = ext4(&place, "256", 4) else {
        return;
    };
    fill(&place, 20);
    use_up_blocks(&place.root);
    the_agent_frees_it(&place);
}

#[test]
fn without_a_free_inode_on_tmpfs_the_agent_frees_room() {
    let place = Place::new();
    configure(&place);
    let Some(_mounted) = Mounted::tmpfs(&place.root, "size=16m,nr_inodes=200") else {
        return;
    };
    fill(&place, 20);
    use_up_inodes(&place.root);
    the_agent_frees_it(&place);
}

#[test]
fn without_a_free_inode_or_block_a_command_frees_room() {
    for (n_inodes, mebibytes, use_up) in [
        ("256", 8, use_up_inodes as fn(&Path)),
        ("256", 4, use_up_blocks),
    ] {
        let place = Place::new();
        configure(&place);
        let Some(_mounted) = ext4(&place, n_inodes, mebibytes) else {
            return;
        };
        fill(&place, 20);
        use_up(&place.root);
        a_command_frees_it(&place);
    }
}

#[test]
fn without_a_free_block_a_catalogue_is_pruned() {
    const BLOB: usize = 65_536;
    let place = Place::new();
    place.configure(&format!(
        "[root.layout]\nkind = \"catalog\"\nmetadata = \"metadata.json\"\n\
         blobs = [\"{{id}}.wav\"]\n\
         [root.layout.created_at]\nfrom = [{{ key = \"/created_at\", as = \"epoch_s\" }}]\n\
         [root.limits]\nmax_size = {}\n[root.protect]\nquiet = \"0s\"",
        BLOB * 5 + 10_000
    ));
    let Some(_mounted) = ext4(&place, "256", 4) else {
        return;
    };
    let mut entries = serde_json::Map::new();
    for n in 0..20 {
        fs::write(place.root.join(format!("b{n:02}.wav")), vec![b'x'; BLOB]).expect("a blob");
        let entry = serde_json::json!({ "created_at": 1_000_000 + n });
        entries.insert(format!("b{n:02}"), entry);
    }
    let text = serde_json::to_vec(&entries).expect("JSON");
    fs::write(place.root.join("metadata.json"), text).expect("a catalogue");
    use_up_blocks(&place.root);
    is_full(&place.root);
    let agent = place.agent();
    agent.until("the limit", |root| {
        root["bytes"].as_u64() <= root["limit_bytes"].as_u64()
    });
    let newest: Vec<_> = (15..20).map(|n| format!("b{n:02}")).collect();
    crate::support::running::wait_for("entries without blobs to go", || {
        let text = fs::read(place.root.join("metadata.json")).map_err(|e| e.to_string())?;
        let entries: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        let ids: Vec<_> = entries.keys().cloned().collect();
        if ids == newest {
            Ok(())
        } else {
            Err(format!("{ids:?}\n{}", place.log()))
        }
    });
    for n in 0..20 {
        let there = place.root.join(format!("b{n:02}.wav")).exists();
        assert_eq!(there, n >= 15, "{n}");
    }
    assert_eq!(agent.stop(), Some(0));
}

/// Whoever may read the root can lock its directory, as `flock DIR command` does: the limit
/// holds all the same.
#[test]
fn a_lock_on_the_root_keeps_no_pruner_away() {
    let place = Place::new();
    configure(&place);
    fill(&place, 20);
    let root = fs::File::open(&place.root).expect("a directory");
    let held = rustix::fs::flock(&root, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    held.expect("nobody else has it");
    let done = place.run(&["prune-size", "--json", "--max-mb", "0.2"]);
    assert_eq!(done.status.code(), Some(0));
    let agent = place.agent();
    agent.until("the limit", |root| {
        root["bytes"].as_u64() <= Some(SESSION * KEPT)
    });
    drop(root);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn only_an_agent_that_enforces_makes_its_own_directory_and_at_once() {
    for (mode, is_made) in [("enforce", true), ("observe", false)] {
        let place = Place::new();
        configure(&place);
        let config = place.beside("config.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        let text = text.replacen("[agent]\n", &format!("[agent]\nmode = \"{mode}\"\n"), 1);
        fs::write(&config, text).expect("a configuration");
        for words in [&["scan"][..], &["plan"]] {
            assert_eq!(place.run(words).status.code(), Some(0));
        }
        assert!(!place.root.join(".housekeeper").exists(), "only read");
        let agent = place.agent();
        for name in [".housekeeper/lock", ".housekeeper/trash"] {
            assert_eq!(place.root.join(name).exists(), is_made, "{mode}: {name}");
        }
        assert_eq!(agent.stop(), Some(0));
    }
}
