//! Sources of hints: who tells where to look again.
//!
//! A source never says what is there. It puts names into a bounded set ([`dirty::Dirty`]) and
//! pokes a channel; everything it could not say becomes one flag, "lost", which costs a scan.

pub mod dirty;
pub mod notify;
