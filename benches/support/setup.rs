//! An agent on one root, by a configuration of its own.

use crate::support::Agent;
use std::fs;
use std::path::Path;

/// What differs between measurements.
#[derive(Debug, Clone)]
pub(crate) struct Setup<'a> {
    pub(crate) max_size: u64,
    pub(crate) backend: &'a str,
    pub(crate) scheduling: &'a str,
    pub(crate) headroom: &'a str,
}

impl Setup<'_> {
    /// Starts an agent on `root`; its state, socket, log and configuration lie in `home`.
    pub(crate) fn start(&self, root: &Path, home: &Path) -> Agent {
        if home.exists() {
            fs::remove_dir_all(home).expect("an old home can be removed");
        }
        fs::create_dir(home).expect("a home");
        let file = home.join("housekeeper.toml");
        let text = format!(
            "[agent]\nscheduling = {:?}\n\
             [[root]]\nname = \"bench\"\npath = {root:?}\nbackend = {:?}\n\
             [root.limits]\nmax_size = {}\nheadroom = {:?}\n",
            self.scheduling, self.backend, self.max_size, self.headroom,
        );
        fs::write(&file, text).expect("a configuration can be written");
        let file = file.to_str().expect("a path in words");
        Agent::start(root, home, &["--config", file])
    }
}

/// The backends asked for by `--backend`, or these.
pub(crate) fn backends() -> Vec<String> {
    let only: String = crate::support::option("--backend", String::new());
    if only.is_empty() {
        ["fanotify", "inotify", "notify"]
            .map(str::to_owned)
            .to_vec()
    } else {
        vec![only]
    }
}
