//! The one integration binary, a module for each subject.

mod architecture;
mod commands;
mod config_run;
mod demo;
mod documents;
mod engine_first_start;
mod engine_world;
mod first_start;
mod odd_inputs;
mod odd_metadata;
mod signals;
mod support;
