//! The loops and the wiring.

mod apart;
pub mod audit;
mod barrier;
pub mod bell;
pub mod cleaning;
pub mod control;
mod crowd;
mod descriptors;
pub mod documents;
pub mod jobs;
pub mod kept;
pub mod leftovers;
mod mailbox;
pub mod outlook;
pub mod pins;
pub mod published;
pub mod registrations;
pub mod registry;
pub mod report;
pub mod root;
mod round;
pub mod service;
pub mod shell;
mod signals;
pub mod survey;
pub mod teller;
pub mod watching;
