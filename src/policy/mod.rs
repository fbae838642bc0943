//! Rules in, plan out. Pure.

pub mod limits;
