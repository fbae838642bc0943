//! The words that cross floors: values only, no IO, no serde.
//!
//! Modules on one floor never name each other; what two of them must agree on lives here.

pub mod anomaly;
pub mod bytes;
pub mod cleanup;
pub mod count;
pub mod disk;
pub mod fact;
pub mod hint;
pub mod lifecycle;
pub mod listing;
pub mod notice;
pub mod path;
pub mod pin;
pub mod place;
pub mod plan;
pub mod report;
pub mod seen;
pub mod session;
pub mod time;
pub mod watcher;
pub mod zone;
