//! Attacks on the machine that pays, played many times over (S1-S6): what each costs, and what it wins.
//!
//! A world is one subnet with agents around it. What they say is theirs; what comes of it is decided by the ledger's own
//! code, of which nothing is written a second time here. Files: `scenario` what is played, `chance` one seed's numbers,
//! `agents` what each kind says, `world` epoch after epoch, `tally` and `metrics` the figures, `attack` all seeds of all
//! points, `economy` the network between subnets, `accept` the lines a switch must pass, `plot` pictures and tables.

pub mod accept;
pub mod agents;
pub mod attack;
pub mod chance;
pub mod economy;
pub mod metrics;
pub mod plot;
pub mod scenario;
mod tally;
pub mod world;

#[cfg(test)]
mod tests;
