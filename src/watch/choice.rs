//! Which backend serves a root: from the best that is likely to work to what always does.
//!
//! Nothing is started here; what a host refuses is found when the backend is opened, and the
//! next one on the list is tried. Why this order: `docs/decisions/0007-choice-of-backends.md`.

use crate::model::watcher::Backend;
use rustix::fs::fstatfs;
use std::os::fd::BorrowedFd;

/// File systems whose content others change without telling this kernel, or whose files are
/// made of several layers: magic numbers of statfs(2) and of the kernel's own headers.
const UNHEARD: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFE53_4D42, "SMB2"),
    (0xFF53_4D42, "CIFS"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x0BD0_0BD0, "Lustre"),
    (0x7372_7545, "Coda"),
    (0x564C, "NCP"),
    (0x4750_4653, "GPFS"),
    (0x786F_4256, "VirtualBox shared folder"),
    (LAYERED, "overlayfs"),
];
/// Overlayfs: several layers, all of this host.
const LAYERED: u64 = 0x794C_7630;

/// The backends to try, in order. Never empty: polling always works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub order: &'static [Backend],
    /// Why it begins where it does.
    pub why: String,
}

/// What to try when nobody asked for a backend.
///
/// Where the file system cannot be asked for its type the answer is as for a local one.
pub fn auto(root: BorrowedFd<'_>) -> Choice {
    let magic = fstatfs(root).map_or(0, |statfs| magic_of(&statfs));
    match UNHEARD.iter().find(|(unheard, _)| *unheard == magic) {
        Some((_, name)) => Choice {
            order: &[Backend::Poll],
            why: format!("on {name} changes can be made that this kernel tells nobody of"),
        },
        None => Choice {
            order: &Backend::ALL,
            why: "the best that this host allows".to_owned(),
        },
    }
}

/// The name of a file system that other hosts change, or whose server does: what happens there is
/// seen by polling only.
pub fn foreign(root: BorrowedFd<'_>) -> Option<&'static str> {
    let magic = fstatfs(root).map_or(0, |statfs| magic_of(&statfs));
    let foreign = |(unheard, _): &&(u64, &str)| *unheard == magic && magic != LAYERED;
    UNHEARD.iter().find(foreign).map(|(_, name)| *name)
}

/// What to try when this one was asked for.
pub fn wanted(backend: Backend) -> Choice {
    let at = Backend::ALL.iter().position(|known| *known == backend);
    Choice {
        order: &Backend::ALL[at.unwrap_or(0)..],
        why: "asked for by the configuration".to_owned(),
    }
}

/// The type's bits; the kernel's word for it has another width on each architecture.
fn magic_of(statfs: &rustix::fs::StatFs) -> u64 {
    statfs.f_type as u64 & 0xFFFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_fails_goes_on_to_the_next() {
        assert_eq!(wanted(Backend::Inotify).order, &Backend::ALL[1..]);
        assert_eq!(wanted(Backend::Poll).order, [Backend::Poll]);
    }

    #[test]
    fn a_local_file_system_begins_with_the_best() {
        let hold = tempfile::tempdir().expect("a directory");
        let dir = std::fs::File::open(hold.path()).expect("opened");
        let choice = auto(dir.as_fd());
        assert!(choice.order == Backend::ALL || choice.order == [Backend::Poll]);
    }
}
