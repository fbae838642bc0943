//! housekeeper keeps directories full of sessions under their limits.

pub mod agent;
pub mod clock;
pub mod config;
pub mod disk;
pub mod engine;
pub mod index;
pub mod layout;
pub mod model;
pub mod policy;
pub mod sched;
pub mod telemetry;
pub mod watch;
