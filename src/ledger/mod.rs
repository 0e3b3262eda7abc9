//! The ledger: who owns, stakes and does what, and how that changes. Pure, integers only.
//!
//! Owns the state and its commitment, the rules of every transaction and of scheduled work, the mempool, and the machine
//! that pays. Refuses clocks, chance, floats, files and hash-ordered maps: the same parent, context and body give the
//! same state, receipts and roots, byte for byte, on every machine (L1). Invariants: money is conserved at every height
//! (L7); nonces strictly rise; no balance is negative; member ids are never reused.
//!
//! Reading order: `rows`, `state`, `draft`, `money`, `apply`, `epoch`, `incentive`, `mempool`, `view`. `docs/ledger.md` explains the rules.

pub mod apply;
pub mod close;
pub mod draft;
pub mod due;
pub mod economy;
pub mod epoch;
pub mod event;
pub mod incentive;
pub mod judging;
pub mod mempool;
pub mod models;
pub mod money;
pub mod offence;
pub mod receipt;
pub mod records;
pub mod relation;
pub mod rows;
pub mod seats;
pub mod settlement;
pub mod state;
pub mod table;
pub mod tree;
pub mod view;

#[cfg(test)]
mod tests;
