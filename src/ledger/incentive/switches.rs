//! How an epoch is run: the named switches of a subnet (Y 1.2) and the numbers its rules need.
//!
//! Two presets exist: `compat` reproduces the public vectors of the older network, `native` is what subnets here run by
//! default. Every switch can be set alone; none of them is read anywhere but in this folder.

use super::fixed::{ONE, Q, from_ppm, from_u16};
use crate::protocol::ids::Height;
use crate::protocol::parameters::SubnetRules;

/// What a member number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// A slot that is given out again: what was said before its registration does not count.
    Slots,
    /// Never reused: what names someone who is gone is dropped.
    Members,
}

/// What keeps a row alive (Y1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Any update.
    Update,
    /// A valid reveal; who committed and did not reveal is silent in this epoch.
    Reveal,
}

/// Who may not speak for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Related {
    /// Nobody weighs the own slot; the owner may.
    Diagonal,
    /// The relation mask (Y6), one-sided.
    Mask,
}

/// What an explicit weight of 0 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// Present, which liquid alpha can tell from absent.
    Kept,
    /// Refused when the job is made.
    Refused,
}

/// How wide a stored number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    U16,
    U32,
}

/// Where sums are floored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// Each product.
    Floored,
    /// Once, at the end.
    Exact,
}

/// Who wins when stakes are equal (Y3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    Younger,
    Older,
}

/// How a pot becomes whole motes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payout {
    /// Floors; the dust is lost.
    Floor,
    /// Largest remainder (E19): the parts sum to the pot.
    Remainder,
}

/// Where the miners' pot goes when nobody has any incentive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMiner {
    /// To the validators (Y15).
    Validators,
    /// To the next epoch (E9).
    Carried,
}

/// What liquid alpha does to a bond on a miner that is no longer weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Drops it.
    Dropped,
    /// Lets it fade like a weight of 0.
    Faded,
}

/// The lower lift (D7): thresholds over 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lift {
    pub tau: u16,
    pub lambda: u16,
}

/// How stake becomes voice (D10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StakeCurve {
    Linear,
    /// Grows as the square root above four mean seats.
    Knee,
    /// At most this part, over 65535, of all stake.
    Cap(u16),
}

/// The mode of a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    pub ids: Ids,
    pub activity: Activity,
    pub related: Related,
    pub zeros: Zeros,
    /// Of weights; checked when a row is admitted.
    pub width: Width,
    pub sums: Sums,
    /// Of stored bonds.
    pub bonds: Width,
    /// The owner's row needs no stake and no permit and may weigh itself.
    pub owner: bool,
    pub tie: Tie,
    pub payout: Payout,
    pub no_miner: NoMiner,
    pub decay: Decay,
    pub lift: Option<Lift>,
    pub stake_curve: StakeCurve,
    /// Every row is present in every column: an option of the public vectors, never of a subnet.
    pub dense: bool,
}

impl Switches {
    /// The older network, to the bit.
    pub const fn compat() -> Self {
        Self {
            ids: Ids::Slots,
            activity: Activity::Update,
            related: Related::Diagonal,
            zeros: Zeros::Kept,
            width: Width::U16,
            sums: Sums::Floored,
            bonds: Width::U16,
            owner: true,
            tie: Tie::Younger,
            payout: Payout::Floor,
            no_miner: NoMiner::Validators,
            decay: Decay::Dropped,
            lift: None,
            stake_curve: StakeCurve::Linear,
            dense: false,
        }
    }

    /// What subnets run by default.
    pub const fn native() -> Self {
        Self {
            ids: Ids::Members,
            activity: Activity::Reveal,
            related: Related::Mask,
            zeros: Zeros::Refused,
            width: Width::U16,
            sums: Sums::Exact,
            bonds: Width::U32,
            owner: false,
            tie: Tie::Older,
            payout: Payout::Remainder,
            no_miner: NoMiner::Carried,
            decay: Decay::Faded,
            lift: None,
            stake_curve: StakeCurve::Linear,
            dense: false,
        }
    }
}

/// Which bonds are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yuma {
    /// Shares of a column (Y14).
    Two,
    /// Absolute levels (Y13).
    Three,
}

/// Liquid alpha: how fast bonds follow, by how far a weight is from the consensus (Y13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liquid {
    pub low: u16,
    pub high: u16,
    pub steepness: i16,
}

/// The numbers of an epoch. Fractions are over 65535 where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRules {
    pub tempo: Height,
    /// Heights a row stays alive.
    pub cutoff: Height,
    /// Seats: rows that may hold a permit.
    pub seats: u32,
    /// Less stake than this is none.
    pub stake_threshold: u64,
    pub kappa: u16,
    pub bonds_penalty: u16,
    /// Millionths of a bond kept from one epoch to the next.
    pub bonds_average_ppm: u32,
    pub yuma: Yuma,
    pub liquid: Option<Liquid>,
}

fn narrow(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

impl Switches {
    /// The mode a subnet of this network chose: native, with its options.
    pub fn of(rules: &SubnetRules) -> Self {
        let lift = Lift { tau: narrow(rules.lift_tau), lambda: narrow(rules.lift_lambda) };
        Self {
            width: if rules.width > 2 { Width::U32 } else { Width::U16 },
            lift: (lift.tau > 0).then_some(lift),
            stake_curve: match rules.stake_curve {
                0 => StakeCurve::Linear,
                1 => StakeCurve::Knee,
                _ => StakeCurve::Cap(narrow(rules.stake_cap)),
            },
            ..Self::native()
        }
    }
}

impl EpochRules {
    /// The numbers a subnet of this network runs by.
    pub fn of(rules: &SubnetRules) -> Self {
        let liquid = Liquid {
            low: narrow(rules.alpha_low),
            high: narrow(rules.alpha_high),
            steepness: i16::try_from(rules.steepness).unwrap_or(i16::MAX),
        };
        Self {
            tempo: rules.tempo,
            cutoff: rules.activity_epochs.saturating_mul(rules.tempo),
            seats: u32::try_from(rules.seats).unwrap_or(u32::MAX),
            stake_threshold: rules.validator_stake,
            kappa: narrow(rules.kappa),
            bonds_penalty: narrow(rules.bonds_penalty),
            bonds_average_ppm: u32::try_from(rules.bonds_average_ppm).unwrap_or(u32::MAX),
            yuma: if rules.yuma == 2 { Yuma::Two } else { Yuma::Three },
            liquid: (rules.liquid_alpha > 0).then_some(liquid),
        }
    }

    pub(super) fn kappa(&self) -> Q {
        from_u16(self.kappa)
    }

    pub(super) fn penalty(&self) -> Q {
        from_u16(self.bonds_penalty)
    }

    /// How much of the new a plain bond takes in.
    pub(super) fn step(&self) -> Q {
        ONE - from_ppm(self.bonds_average_ppm.into()).min(ONE)
    }
}
