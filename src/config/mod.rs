//! Text in, checked settings out: the file, the environment, the flags.

pub mod settings;
