//! The machine that pays: what an epoch's weight vectors make of miners and validators.
//!
//! An `EpochJob` is a snapshot of one subnet and mechanism; `run` turns it into an `EpochResult` and is total and pure: it
//! knows no account balance and moves no money. It is Yuma in exact integers, in the mode a subnet chose (`Switches`).
//! Files: `fixed` the numbers, `job` what goes in and comes out, `switches` the modes, `rows` admission and columns,
//! `consensus` median, clip and incentive, `bonds` bonds and dividends, `epoch` the passes, `payout` motes, `defence` what
//! is off by default, `freshness` who repeats the past, `explain` why a miner earned what it earned.

pub mod bonds;
mod codec;
mod consensus;
mod defence;
mod epoch;
mod explain;
pub mod fixed;
pub mod freshness;
mod job;
mod payout;
pub mod rows;
mod switches;

pub use bonds::{BOND_FLOOR, Bond, BondBlock, BondTable};
pub use consensus::{lowered, minority, quantile};
pub use defence::Curve;
pub use epoch::{InTurn, Lane, Spread, Workspace, top};
pub use explain::{Reason, explain};
pub use freshness::{Freshness, Movement};
pub use job::{
    COLUMNS_MAX, ColumnInput, ColumnResult, EpochInput, EpochJob, EpochResult, JobError, ROWS_MAX, RowInput, RowResult,
    RowWeights,
};
pub use payout::{MECHANISMS_MAX, Merged, merge, split_emission};
pub use switches::{
    Activity, Decay, EpochRules, Ids, Lift, Liquid, NoMiner, Payout, Related, StakeCurve, Sums, Switches, Tie, Width,
    Yuma, Zeros,
};

#[cfg(test)]
mod tests;
