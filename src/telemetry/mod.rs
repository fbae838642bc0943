//! What happened, told to people and programs: log lines on stderr, and counts.

pub mod counts;
pub mod logging;
pub mod tell;
