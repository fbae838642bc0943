//! Carries out a plan, one victim after the other.
//!
//! What to remove was decided before; here each victim is checked again, its locks are taken,
//! and it is renamed aside. The bytes are removed elsewhere, later.

pub mod executor;
mod grip;
pub mod intent;
pub mod lifecycle;
pub mod lock;
mod names;
pub mod origin;
pub mod rest;
pub mod warrant;

#[cfg(test)]
mod tests;
