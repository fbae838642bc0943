//! housekeeper keeps directories full of sessions under their limits.

pub mod clock;
pub mod config;
pub mod disk;
pub mod layout;
pub mod model;
pub mod policy;
pub mod prune;
pub mod sched;
pub mod watch;
