//! The command line: what may be written, and how answers look to people.

pub mod args;
pub mod render;
