//! The numbers a network is run by: their names, defaults, bounds and bytes (L9).
//!
//! A parameter is a `u64` with a number, a name, a unit, one default for a devnet and one for a public network, and hard
//! bounds. A devnet may go below the public lower bound (C50), never above the upper one. The table sorted by number is
//! what is hashed into every header.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{Digest, hash};
use super::units::MOTES_PER_STAR;

/// Whether a network is for trying things out or for strangers' money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    Devnet,
    Public,
}

impl fmt::Display for NetworkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Devnet => "devnet",
            Self::Public => "public",
        })
    }
}

/// What a parameter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Money: written as STAR in files, kept as motes.
    Motes,
    Heights,
    Milliseconds,
    /// Anything else that is counted.
    Plain,
}

/// One row of a parameter table.
#[derive(Debug)]
pub struct Spec<T: 'static> {
    pub id: u16,
    pub name: &'static str,
    pub unit: Unit,
    pub devnet: u64,
    pub public: u64,
    pub devnet_min: u64,
    pub min: u64,
    pub max: u64,
    pub doc: &'static str,
    pub get: fn(&T) -> u64,
    pub set: fn(&mut T, u64),
}

/// A parameter is outside its hard bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {found}; it must be {min} to {max}")]
pub struct OutOfBounds {
    pub name: &'static str,
    pub found: u64,
    pub min: u64,
    pub max: u64,
}

impl<T> Spec<T> {
    pub fn default_of(&self, network: NetworkKind) -> u64 {
        match network {
            NetworkKind::Devnet => self.devnet,
            NetworkKind::Public => self.public,
        }
    }

    /// # Errors
    /// The value is outside the bounds of this kind of network.
    pub fn check(&self, value: u64, network: NetworkKind) -> Result<(), OutOfBounds> {
        let min = if network == NetworkKind::Devnet { self.devnet_min } else { self.min };
        if value < min || value > self.max {
            return Err(OutOfBounds { name: self.name, found: value, min, max: self.max });
        }
        Ok(())
    }
}

/// Declares a set of parameters: the struct, its table, defaults and bytes.
macro_rules! parameters {
    ($(#[$doc:meta])* $name:ident {
        $($id:literal $field:ident: $unit:ident, default $devnet:expr, $public:expr,
          bounds $devnet_min:expr, $min:expr, $max:expr, $text:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $(#[doc = $text] pub $field: u64,)*
        }

        impl $name {
            pub const SPECS: &'static [Spec<Self>] = &[
                $(Spec {
                    id: $id, name: stringify!($field), unit: Unit::$unit, devnet: $devnet, public: $public,
                    devnet_min: $devnet_min, min: $min, max: $max, doc: $text,
                    get: |of| of.$field, set: |of, value| of.$field = value,
                },)*
            ];

            pub fn defaults(network: NetworkKind) -> Self {
                match network {
                    NetworkKind::Devnet => Self { $($field: $devnet,)* },
                    NetworkKind::Public => Self { $($field: $public,)* },
                }
            }

            /// Numbers and values, sorted by number.
            pub fn table(&self) -> Vec<(u16, u64)> {
                Self::SPECS.iter().map(|spec| (spec.id, (spec.get)(self))).collect()
            }

            /// From values in the order of the table; none when their count is another.
            pub fn from_values(values: &[u64]) -> Option<Self> {
                let mut of = Self::defaults(NetworkKind::Devnet);
                if values.len() != Self::SPECS.len() {
                    return None;
                }
                for (spec, value) in Self::SPECS.iter().zip(values) {
                    (spec.set)(&mut of, *value);
                }
                Some(of)
            }

            /// # Errors
            /// A value is outside the bounds of this kind of network.
            pub fn check(&self, network: NetworkKind) -> Result<(), OutOfBounds> {
                Self::SPECS.iter().try_for_each(|spec| spec.check((spec.get)(self), network))
            }
        }
    };
}

const STAR: u64 = MOTES_PER_STAR;
/// One day of heights at one a second.
const DAY: u64 = 86_400;

parameters! {
    /// The parameters of the whole network.
    Parameters {
        1 interval_ms: Milliseconds, default 1_000, 1_000, bounds 100, 500, 60_000,
            "Milliseconds between two checkpoints while there is something to do.";
        2 idle_ms: Milliseconds, default 1_000, 1_000, bounds 100, 500, 600_000,
            "Milliseconds between two checkpoints while there is nothing to do; at least interval_ms.";
        3 min_account: Motes, default STAR / 1_000, STAR / 1_000, bounds 1, 1, STAR,
            "The least a new account is opened with; below it an empty account is closed and the rest burned.";
        4 min_stake: Motes, default STAR, 10_000 * STAR, bounds 1, STAR, 1_000_000 * STAR,
            "The least that can be staked.";
        5 weight_unit: Motes, default STAR, STAR, bounds 1, 1, 1_000 * STAR,
            "Stake that makes one unit of voting weight.";
        6 fee_byte: Motes, default 10, 100, bounds 1, 1, STAR,
            "The least fee of a transaction for each of its bytes; it rises while bodies are more than half full.";
        7 fee_unit: Motes, default 100, 1_000, bounds 1, 1, STAR,
            "The least fee of a transaction for each unit of work; it rises while bodies are more than half full.";
        9 unbond_heights: Heights, default 1_200, 14 * DAY, bounds 1, 14 * DAY, 400 * DAY,
            "Heights from unstaking to being paid.";
        10 exit_heights: Heights, default 600, DAY, bounds 1, DAY, 400 * DAY,
            "Heights from leaving a subnet to getting the bond back.";
        11 supply_cap: Motes, default 21_000_000 * STAR, 21_000_000 * STAR,
            bounds STAR, 1_000_000 * STAR, i64::MAX.unsigned_abs(),
            "More than this can never exist at once; minting stops there.";
        30 term_heights: Heights, default 600, 600, bounds 10, 600, 86_400,
            "Heights of a term: budgets, support and notices are counted in terms.";
        31 query_burn_bp: Plain, default 1_000, 1_000, bounds 500, 500, 5_000,
            "Hundredths of a percent of a query's fee that are burned; the subnet's bank counts them.";
        32 query_validators_bp: Plain, default 1_000, 1_000, bounds 0, 0, 5_000,
            "Hundredths of a percent of a query's fee for the subnet's validators; the miner has the rest.";
    }
}

parameters! {
    /// The rules of one subnet.
    SubnetRules {
        1 tempo: Heights, default 10, 360, bounds 4, 60, 50_400,
            "Heights of an epoch.";
        2 reveal_window: Heights, default 4, 60, bounds 1, 10, 600,
            "Heights after an epoch in which its weights are revealed; at most the tempo.";
        3 emission: Motes, default 10 * STAR, 10 * STAR, bounds 0, 0, 1_000_000 * STAR,
            "Minted each epoch, half for miners, half for validators.";
        4 slots: Plain, default 256, 256, bounds 1, 64, 2_048,
            "Members the subnet has room for.";
        5 seats: Plain, default 64, 64, bounds 1, 4, 1_024,
            "Validators with a permit to set weights.";
        6 validator_stake: Motes, default STAR, 1_000 * STAR, bounds 1, STAR, 1_000_000 * STAR,
            "The least stake of a validator here.";
        7 miner_bond: Motes, default STAR, 10 * STAR, bounds 0, STAR / 100, 10_000 * STAR,
            "Locked while a miner is a member.";
        8 validator_bond: Motes, default STAR, 100 * STAR, bounds 0, 100 * STAR, 10_000 * STAR,
            "Locked while a validator is a member.";
        9 kappa: Plain, default 32_767, 32_767, bounds 0, 29_491, 43_690,
            "The share of stake, over 65535, that must agree on a miner's weight.";
        10 bonds_average_ppm: Plain, default 900_000, 900_000, bounds 0, 500_000, 999_999,
            "Millionths of a bond kept from one epoch to the next.";
        11 bonds_penalty: Plain, default 65_535, 65_535, bounds 0, 0, 65_535,
            "How much of the weight above the consensus is left out of bonds, over 65535.";
        12 activity_epochs: Plain, default 5, 5, bounds 1, 1, 50,
            "Epochs a validator's last revealed weights stay in force.";
        13 conceal: Plain, default 1, 1, bounds 1, 1, 16,
            "Epochs after its own in which an epoch's weights stay sealed.";
        14 replay: Plain, default 2, 2, bounds 0, 0, 2,
            "How scores can be checked: 0 bit for bit, 1 within replay_tolerance, 2 not at all.";
        15 replay_tolerance: Plain, default 0, 0, bounds 0, 0, 1 << 32,
            "How far a score that is computed again may lie from the first, over 2^32, where replay is 1.";
        20 yuma: Plain, default 3, 3, bounds 2, 2, 3,
            "How bonds are kept: 3 as absolute levels, 2 as shares of a miner.";
        21 liquid_alpha: Plain, default 0, 0, bounds 0, 0, 1,
            "1: bonds follow weights the faster the farther these are from the consensus.";
        22 alpha_low: Plain, default 45_875, 45_875, bounds 1_638, 1_638, 65_535,
            "The slowest a bond follows under liquid alpha, over 65535.";
        23 alpha_high: Plain, default 58_982, 58_982, bounds 1_638, 1_638, 65_535,
            "The fastest a bond follows under liquid alpha, over 65535; at least alpha_low.";
        24 steepness: Plain, default 1_000, 1_000, bounds 1, 1, 5_000,
            "How sharply liquid alpha turns from slow to fast, in hundredths.";
        25 width: Plain, default 2, 2, bounds 2, 2, 4,
            "Bytes of a weight: 2, or 4 where many small miners are paid.";
        26 lift_tau: Plain, default 0, 0, bounds 0, 0, 21_845,
            "Below this share of stake, over 65535, nobody can push a miner under the others; 0 turns the lift off.";
        27 lift_lambda: Plain, default 65_535, 65_535, bounds 0, 0, 65_535,
            "How far the lift goes, over 65535.";
        28 freshness_gate: Plain, default 0, 0, bounds 0, 0, 1,
            "1: validators whose rows only repeat the past earn less.";
        29 stake_curve: Plain, default 0, 0, bounds 0, 0, 2,
            "How stake becomes voice: 0 as it is, 1 as its root above four mean seats, 2 at most stake_cap of all.";
        30 stake_cap: Plain, default 65_535, 65_535, bounds 3_277, 3_277, 65_535,
            "The most one validator's stake counts, over 65535, where stake_curve is 2.";
        31 min_weights: Plain, default 1, 1, bounds 0, 0, 65_536,
            "Miners a weight vector must name, if there are so many.";
        32 weight_limit: Plain, default 65_535, 65_535, bounds 656, 656, 65_535,
            "The largest share of one miner in a weight vector, over 65535.";
        33 weights_version: Plain, default 0, 0, bounds 0, 0, u64::MAX,
            "The least version of the scorer whose weights are taken.";
        34 owner_mining: Plain, default 0, 0, bounds 0, 0, 1,
            "Whether miners related to the subnet's owner are paid: 0 what they earn is not minted, 1 they are.";
        35 accountable_only: Plain, default 0, 0, bounds 0, 0, 1,
            "1: validators that left a question about their scores open have no voice for sixteen epochs.";
    }
}

impl Parameters {
    /// What a header carries: any change of a parameter changes it (L9).
    pub fn params_hash(&self) -> Digest {
        let bytes: Vec<u8> = self
            .table()
            .iter()
            .flat_map(|(id, value)| [&id.to_le_bytes()[..], &value.to_le_bytes()].concat())
            .collect();
        hash("starling/1 params", &[&bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_bounds_and_tables_are_sorted() {
        for network in [NetworkKind::Devnet, NetworkKind::Public] {
            assert_eq!(Parameters::defaults(network).check(network), Ok(()));
            assert_eq!(SubnetRules::defaults(network).check(network), Ok(()));
        }
        let table = Parameters::defaults(NetworkKind::Devnet).table();
        assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let values: Vec<u64> = table.iter().map(|row| row.1).collect();
        assert_eq!(Parameters::from_values(&values), Some(Parameters::defaults(NetworkKind::Devnet)));
    }

    #[test]
    fn a_devnet_may_go_below_the_public_bounds_and_no_network_above() {
        let mut rules = SubnetRules::defaults(NetworkKind::Public);
        rules.tempo = 10;
        let found = OutOfBounds { name: "tempo", found: 10, min: 60, max: 50_400 };
        assert_eq!(rules.check(NetworkKind::Public), Err(found));
        assert_eq!(rules.check(NetworkKind::Devnet), Ok(()));
        rules.tempo = 50_401;
        assert!(rules.check(NetworkKind::Devnet).is_err());
    }

    #[test]
    fn every_parameter_moves_the_hash() {
        let base = Parameters::defaults(NetworkKind::Devnet);
        for spec in Parameters::SPECS {
            let mut other = base.clone();
            (spec.set)(&mut other, (spec.get)(&base) + 1);
            assert_ne!(other.params_hash(), base.params_hash(), "{}", spec.name);
        }
    }
}
