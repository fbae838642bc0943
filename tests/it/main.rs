//! The one integration binary, a module for each subject.

mod demo;
mod documents;
mod engine_first_start;
mod engine_world;
mod support;
