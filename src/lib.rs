//! housekeeper keeps directories full of sessions under their limits.

pub mod cli;
pub mod config;
pub mod layout;
pub mod model;
pub mod policy;
