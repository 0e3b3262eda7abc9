//! Attacks on the machine that pays, played many times over (S1-S6): what each costs, and what it wins.
//!
//! A world is one subnet with agents around it. What they say is theirs; what comes of it is decided by the ledger's own
//! code, of which nothing is written a second time here. Files: `scenario` what is played, `kinds` who plays, `sweep` the
//! points of a document, `chance` one seed's numbers, `cast` validators and miners of a seed, `agents` what each kind says,
//! `world` epoch after epoch, `tally` and `metrics` the figures, `attack` all seeds of all points, `accept` the lines a switch
//! must pass, `plot` pictures and tables; `network` and `economy` the same between subnets.

pub mod accept;
pub mod agents;
pub mod attack;
pub mod cast;
pub mod chance;
pub mod economy;
pub mod kinds;
pub mod metrics;
pub mod network;
pub mod plot;
pub mod scenario;
pub mod sweep;
mod tally;
pub mod world;

#[cfg(test)]
mod tests;
