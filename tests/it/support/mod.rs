//! Doubles that several subjects share.

pub(crate) mod tree;
pub(crate) mod world;
