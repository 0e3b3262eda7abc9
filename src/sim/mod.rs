//! Offline worlds for people and tests: a whole network in one thread, virtual time, one seed.

pub mod bench;
mod books;
pub mod consensus;
mod dense;
pub mod epoch;
pub mod incentive;
