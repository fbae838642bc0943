//! Tests of the disk on real directories.

mod bundles;
mod listing;
mod locking;
mod reading;
mod removing;

use crate::disk::tree::Tree;
use crate::model::path::RelPath;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A fresh root, with the directory that holds it so that there is an outside.
struct Ground {
    _hold: TempDir,
    outside: std::path::PathBuf,
    root: std::path::PathBuf,
    tree: Arc<Tree>,
}

fn ground() -> Ground {
    let hold = tempfile::tempdir().expect("a temporary directory");
    let base = hold.path().canonicalize().expect("it is there");
    let (outside, root) = (base.join("outside"), base.join("root"));
    for dir in [&outside, &root] {
        std::fs::create_dir(dir).expect("a fresh directory");
    }
    std::fs::write(outside.join("precious"), b"precious").expect("a file");
    let tree = Arc::new(Tree::open(&root).expect("a directory"));
    Ground {
        _hold: hold,
        outside,
        root,
        tree,
    }
}

impl Ground {
    fn write(&self, path: &str, text: &[u8]) {
        let path = self.root.join(path);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        std::fs::write(path, text).expect("a file");
    }

    fn precious_is_there(&self) -> bool {
        std::fs::read(self.outside.join("precious")).is_ok_and(|text| text == b"precious")
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).expect("a path")
}

fn mkfifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO");
}

/// Says why a test could not run here.
#[expect(clippy::print_stdout, reason = "the test's reader has to see it")]
fn skipped(what: &str, why: &dyn std::fmt::Debug) {
    println!("skipped: {what}: {why:?}");
}

/// Binds `from` over `onto` where this user may; says so and answers `None` otherwise.
fn bind(from: &Path, onto: &Path) -> Option<Bound> {
    let mut mount = std::process::Command::new("mount");
    match mount.arg("--bind").arg(from).arg(onto).output() {
        Ok(done) if done.status.success() => Some(Bound(onto.to_path_buf())),
        refused => {
            skipped("a bind mount is refused", &refused);
            None
        }
    }
}

/// A bind mount, undone in the end.
struct Bound(std::path::PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        let status = std::process::Command::new("umount").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}
