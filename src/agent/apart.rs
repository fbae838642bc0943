//! Where what the agent keeps for a root lies: in `.housekeeper/`, or apart from the root.
//!
//! Where every session is a file of its own nothing needs a directory in the root: a victim
//! waits beside its place, and lock and records lie in the root's corner of the state directory.
//! Only on a local file system: elsewhere other hosts prune, too, and meet in the root.

use crate::config::settings::Root;
use crate::disk::tree::Tree;
use crate::layout::spec::Kind;
use crate::prune::lock;
use crate::store::state::RootState;
use rustix::fd::OwnedFd;

/// Where cookies are laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CookieAt {
    /// In `.housekeeper/`.
    Control,
    /// In the root itself.
    Root,
}

/// Whether nothing that the rules of a root may do needs a directory in it: sessions that are kept
/// for undo, and a file that is written anew, have to lie in the root's own file system.
pub(super) fn needs_no_directory(root: &Root) -> bool {
    root.layout.kind() == Kind::Files
        && root.trash_keep.is_zero()
        && root.lifecycle.stale_after.is_none()
}

/// The root's corner of the state directory, where its things lie there. `None`: they lie in
/// `.housekeeper/`. That is so, too, where it is there already: another pruner may use it.
pub(super) fn corner(tree: &Tree, root: &Root, state: Option<&RootState>) -> Option<OwnedFd> {
    let is_apart = needs_no_directory(root)
        && lock::is_local(tree.root())
        && matches!(tree.existing_control(), Ok(None));
    let state = state.filter(|_| is_apart)?;
    match state.open() {
        Ok(dir) => Some(dir),
        Err(error) => {
            tracing::warn!(
                event = "state.unread",
                error = %error,
                "the root's lock lies in .housekeeper/ for want of a state directory"
            );
            None
        }
    }
}
