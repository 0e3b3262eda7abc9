//! Two defences that are off until a simulation says otherwise: the lower lift (D7) and the stake curve (D10).

use super::fixed::{Q, from_u16, mul};
use super::switches::{Lift, StakeCurve};

/// The lower lift as the epoch needs it: what a miner cannot be pushed under by fewer than tau of the stake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifting {
    tau: Q,
    lambda: Q,
}

impl Lifting {
    pub fn of(lift: Lift) -> Self {
        Self { tau: from_u16(lift.tau), lambda: from_u16(lift.lambda) }
    }

    /// The stake at or below the low quantile of a set, as Y7 asks for it.
    pub fn threshold(self, total: Q) -> Q {
        mul(self.tau, total)
    }

    /// L of a column (D7).
    pub fn level(self, low: Q, consensus: Q) -> Q {
        mul(self.lambda, low.min(consensus))
    }
}

/// A stake curve with what it depends on: the rows of one epoch (D10).
#[derive(Clone, Copy, Debug)]
pub struct Curve {
    curve: StakeCurve,
    /// Where the knee is, or the most one row counts.
    bend: u128,
}

impl Curve {
    /// `permitted` is the stake of all rows with a permit, `all` of all rows above the threshold.
    ///
    /// While nobody has a permit there is no knee, or nobody would ever get one.
    pub fn new(curve: StakeCurve, permitted: u128, all: u128, seats: u32) -> Self {
        let bend = match curve {
            StakeCurve::Linear => 0,
            StakeCurve::Knee => permitted.checked_div(seats.into()).unwrap_or(0) * 4,
            StakeCurve::Cap(share) => all * u128::from(share) / u128::from(u16::MAX),
        };
        Self { curve, bend }
    }

    /// What a stake counts.
    pub fn of(self, stake: u64) -> u64 {
        let wide = u128::from(stake);
        if wide <= self.bend || self.bend == 0 {
            return stake;
        }
        let bent = match self.curve {
            StakeCurve::Linear => wide,
            // Both value and slope go on at the knee: 2k - k, and 1.
            StakeCurve::Knee => wide.saturating_mul(4).saturating_mul(self.bend).isqrt() - self.bend,
            StakeCurve::Cap(_) => self.bend,
        };
        u64::try_from(bent).unwrap_or(stake)
    }
}
