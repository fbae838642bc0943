//! The loops and the wiring.

pub mod documents;
pub mod jobs;
pub mod leftovers;
pub mod published;
pub mod root;
pub mod shell;
pub mod survey;
pub mod teller;
