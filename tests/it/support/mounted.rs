//! File systems of a test's own, unmounted in the end. Where this user may not mount there is
//! none, and the reason is printed.

#![expect(clippy::print_stdout, reason = "the test's reader has to see it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something mounted.
pub(crate) struct Mounted(Option<PathBuf>);

impl Mounted {
    pub(crate) fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        done(mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(at))?;
        Some(Self(Some(at.to_owned())))
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
        Some(Self(Some(at.to_owned())))
    }

    pub(crate) fn remount(&self, options: &str) {
        let at = self.0.as_ref().expect("still mounted");
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(at);
        let output = mount.output().expect("mount runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// Before the test ends; what is open keeps it where it is.
    pub(crate) fn unmount(&mut self) {
        if let Some(at) = self.0.take() {
            let status = Command::new("umount").arg("-l").arg(at).status();
            assert!(status.is_ok_and(|status| status.success()), "unmounted");
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
