//! What the agent keeps for itself, outside every root.

pub mod anomalies;
pub mod reports;
pub mod state;
