//! Starling: one program with which strangers run a machine-learning network together, with nobody in charge.
//!
//! The modules in reading order: what is said (`protocol`), and then, as rooms of their own, what is true.
//! `docs/architecture.md` is the map.

pub mod actors;
pub mod api;
pub mod cli;
pub mod config;
pub mod consensus;
pub mod ledger;
pub mod ml;
pub mod net;
pub mod node;
pub mod protocol;
pub mod sim;
pub mod store;
pub mod telemetry;
