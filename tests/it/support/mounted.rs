//! File systems of a test's own, unmounted in the end. Where this user may not mount there is
//! none, and the reason is printed.

#![expect(clippy::print_stdout, reason = "the test's reader has to see it")]

use super::running::wait_for;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Something mounted.
pub(crate) struct Mounted {
    at: Option<PathBuf>,
    /// Who serves it; ends with the mount.
    server: Option<Child>,
}

impl Mounted {
    fn new(at: &Path, server: Option<Child>) -> Self {
        Self {
            at: Some(at.to_owned()),
            server,
        }
    }

    pub(crate) fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        done(mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(at))?;
        Some(Self::new(at, None))
    }

    /// One of so many MiB without a journal, in a file.
    pub(crate) fn ext4(image: &Path, at: &Path, n_inodes: &str, mebibytes: u64) -> Option<Self> {
        let file = fs::File::create(image).expect("an image");
        file.set_len(mebibytes << 20).expect("sparse");
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-m", "0", "-b", "1024", "-O", "^has_journal"]);
        done(mkfs.args(["-N", n_inodes]).arg(image))?;
        let mut mount = Command::new("mount");
        done(mount.args(["-o", "loop"]).arg(image).arg(at))?;
        Some(Self::new(at, None))
    }

    /// What is at `from`, by way of a program that serves it (FUSE); its number. It answers nothing
    /// while it is stopped.
    pub(crate) fn fuse(from: &Path, at: &Path) -> Option<(Self, u32)> {
        let mut bind = Command::new("bindfs");
        done(bind.arg("-f").arg("--version"))?;
        let mut bind = Command::new("bindfs");
        bind.args(["-f", "--no-allow-other"]).arg(from).arg(at);
        let child = bind.spawn().expect("it was just there");
        let id = child.id();
        let mounted = Self::new(at, Some(child));
        wait_for("the mount", || {
            let here = fs::metadata(at).map_err(|error| error.to_string())?;
            let above = fs::metadata(at.parent().expect("a parent"));
            let above = above.map_err(|error| error.to_string())?;
            (here.dev() != above.dev())
                .then_some(())
                .ok_or_else(String::new)
        });
        Some((mounted, id))
    }

    pub(crate) fn remount(&self, options: &str) {
        let at = self.at.as_ref().expect("still mounted");
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(at);
        let output = mount.output().expect("mount runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// Before the test ends; what is open keeps it where it is.
    pub(crate) fn unmount(&mut self) {
        if let Some(at) = self.at.take() {
            let status = Command::new("umount").arg("-l").arg(at).status();
            assert!(status.is_ok_and(|status| status.success()), "unmounted");
        }
        if let Some(mut server) = self.server.take() {
            server.wait().expect("it ends");
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn done(command: &mut Command) -> Option<()> {
    match command.output() {
        Ok(output) if output.status.success() => Some(()),
        refused => {
            println!("skipped: {command:?} is refused: {refused:?}");
            None
        }
    }
}
