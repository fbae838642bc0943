//! The loops and the wiring.

pub mod documents;





pub mod teller;
