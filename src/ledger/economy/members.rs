//! Members between queue and exit: what a place costs, probation, rank, and who goes when it is full (E12-E16).

/// Validators that must have seen a miner answer before its probation begins (E14).
pub const ATTESTERS: usize = 2;
