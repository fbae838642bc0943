//! housekeeper keeps directories full of sessions under their limits.

pub mod config;
pub mod disk;
pub mod layout;
pub mod model;
pub mod policy;
