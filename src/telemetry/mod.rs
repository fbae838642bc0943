//! What happened, told to people and programs: log lines on stderr.

pub mod logging;
pub mod tell;
