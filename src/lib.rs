//! housekeeper keeps directories full of sessions under their limits.
//!
//! The floors, from the bottom: [`model`]; [`layout`], [`index`], [`policy`],
//! [`schedule`], [`report`]; [`engine`];
//! [`clock`], [`sched`], [`disk`], [`watch`], [`prune`], [`store`], [`config`], [`telemetry`],
//! [`notify`];
//! [`agent`], [`client`]; [`http`], [`cli`]. A module names modules on lower floors only.

pub mod agent;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod disk;
pub mod engine;
pub mod http;
pub mod index;
pub mod layout;
pub mod model;
pub mod notify;
pub mod policy;
pub mod prune;
pub mod report;
pub mod sched;
pub mod schedule;
pub mod store;
pub mod telemetry;
pub mod watch;
