//! The one integration binary, a module for each subject.

mod architecture;
mod catalogue_memory;
mod catalogue_owner;
mod commands;
mod config_run;
mod crash;
mod demo;
mod documents;
mod engine_first_start;
mod engine_world;
mod exact;
mod first_start;
mod full_disk;
mod hidden_bytes;
mod intents;
mod odd_inputs;
mod odd_metadata;
mod pruners;
mod recording;
mod signals;
mod support;
mod symlinks;
mod terminal;
mod traps;
mod why_over;
