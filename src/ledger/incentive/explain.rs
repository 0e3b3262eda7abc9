//! Why a miner earned what it earned (E22): the terms of its rank, row by row.
//!
//! Nothing is decided here: shares, masks and levels are asked of the same code the epoch ran, and the terms sum to the
//! rank it found.

use super::consensus::Total;
use super::fixed::Q;
use super::job::{EpochJob, EpochResult};
use super::rows::{Mask, Places, kept, share};
use crate::protocol::ids::MemberId;

/// What one validator's row did to one miner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    pub validator: MemberId,
    /// A: its voice.
    pub active: Q,
    /// W: what it gave the miner, as a share of its row.
    pub weight: Q,
    /// W cut down to the consensus.
    pub clipped: Q,
    /// What counted: the clipped weight, or the lift.
    pub counted: Q,
    pub related: bool,
    /// A times what counted, as Q64. The terms of a miner sum to its `sum`.
    pub term: u128,
}

/// The reasons behind one column of a result, validators ascending; who has no voice and said nothing is left out.
pub fn explain(job: &EpochJob, result: &EpochResult, miner: MemberId) -> Option<Vec<Reason>> {
    let at = result.columns.binary_search_by_key(&miner, |column| column.member).ok()?;
    let column = result.columns.get(at)?;
    let mut places = Places::default();
    places.set(&job.input().columns);
    let mask = Mask::of(job);
    let mut reasons = Vec::new();
    for ((seat, input), row) in (0_u16..).zip(&job.input().rows).zip(&result.rows) {
        let mut weight = 0;
        kept(job, &mask, &places, input, &input.weights, |place, value| {
            if place == at {
                weight = share(value, row.weights);
            }
        });
        let related = job.related(at).binary_search(&seat).is_ok();
        let clipped = weight.min(column.consensus);
        let counted = if related { clipped } else { clipped.max(column.lift) };
        let mut total = Total::new(job.input().switches.sums);
        total.add(row.active, counted);
        if row.active > 0 || weight > 0 {
            let (validator, active, term) = (row.member, row.active, total.q64);
            reasons.push(Reason { validator, active, weight, clipped, counted, related, term });
        }
    }
    Some(reasons)
}
