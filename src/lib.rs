//! housekeeper keeps directories full of sessions under their limits.
//!
//! The floors, from the bottom: [`model`]; [`layout`], [`index`], [`policy`]; [`engine`];
//! [`clock`], [`sched`], [`disk`], [`watch`], [`prune`], [`store`], [`config`], [`telemetry`];
//! [`agent`]; [`cli`]. A module names modules on lower floors only.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod engine;
pub mod index;
pub mod layout;
pub mod model;
pub mod policy;
pub mod prune;
pub mod sched;
pub mod store;
pub mod telemetry;
pub mod watch;
