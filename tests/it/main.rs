//! The one integration test binary: one module per subject.

mod architecture;
mod commands;
mod config_run;
mod demo;
mod documents;
mod first_start;
mod odd_inputs;
mod odd_metadata;
mod signals;
mod support;
