//! What the agent keeps for itself, outside every root.

pub mod pin_file;
pub mod reports;
pub mod state;
