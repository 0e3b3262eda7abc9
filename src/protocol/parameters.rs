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
        12 emission_base: Motes, default 10 * STAR, STAR / 10, bounds 0, 0, 1_000 * STAR,
            "What a height may mint while less than half of supply_cap exists; half of it above, and so on.";
        13 committee_bp: Plain, default 1_000, 1_000, bounds 0, 500, 10_000,
            "Hundredths of a percent of a term's budget for the committee, by attendance.";
        14 usage_bp: Plain, default 6_000, 6_000, bounds 0, 0, 10_000,
            "Hundredths of a percent of a term's budget for subnets whose queries burn fees.";
        15 support_bp: Plain, default 3_000, 3_000, bounds 0, 0, 10_000,
            "Hundredths of a percent of a term's budget for subnets that validators support; the three add up to 10000.";
        16 usage_theta_bp: Plain, default 7_500, 7_500, bounds 0, 0, 9_999,
            "Hundredths of a percent of burned fees that come back as a grant.";
        17 usage_draw_shift: Plain, default 4, 4, bounds 0, 1, 16,
            "A term draws the burned fees of a subnet divided by two to this power.";
        18 usage_gate_bp: Plain, default 2_500, 2_500, bounds 0, 0, 10_000,
            "Hundredths of a percent of a usage grant that a subnet gets without any support.";
        19 support_quorum_bp: Plain, default 1_000, 1_000, bounds 500, 500, 3_300,
            "Hundredths of a percent of the stake that must agree on a subnet's support.";
        20 subnet_limit: Plain, default 256, 256, bounds 1, 16, 1_024,
            "Open subnets at most.";
        21 lock_min: Motes, default 100 * STAR, 1_000 * STAR, bounds STAR, STAR, 1_000_000 * STAR,
            "The least that creating a subnet locks; all of it comes back when the subnet closes.";
        22 lock_half_life: Heights, default 600, 14 * DAY, bounds 1, DAY, 400 * DAY,
            "Heights in which what a creation locks falls by half; each creation doubles it.";
        23 protected_heights: Heights, default 600, 90 * DAY, bounds 1, 7 * DAY, 400 * DAY,
            "Heights from its creation or match in which no challenger can take a subnet's place.";
        24 challenge_heights: Heights, default 100, 14 * DAY, bounds 1, DAY, 400 * DAY,
            "Heights of notice before a challenger takes a subnet's place.";
        25 close_heights: Heights, default 20, DAY, bounds 1, DAY, 400 * DAY,
            "Heights of notice before a subnet closes because its owner wants it to.";
        26 mean_terms: Plain, default 10, 4_320, bounds 1, 100, 100_000,
            "Terms over which a subnet's mean grant is taken when a challenger looks for the lowest.";
        27 outage_heights: Heights, default 60, 600, bounds 1, 60, 14_400,
            "Heights without a sign of life of a subnet's validators after which the clocks of its miners stand still.";
        28 genesis_lock_heights: Heights, default 0, 180 * DAY, bounds 0, 0, 400 * DAY,
            "Heights from genesis in which the stake of the first committee cannot leave its pools.";
        30 term_heights: Heights, default 20, 600, bounds 10, 600, 86_400,
            "Heights of a term: budgets, support and notices are counted in terms.";
        31 query_burn_bp: Plain, default 1_000, 1_000, bounds 500, 500, 5_000,
            "Hundredths of a percent of a query's fee that are burned; the subnet's bank counts them.";
        32 query_validators_bp: Plain, default 1_000, 1_000, bounds 0, 0, 5_000,
            "Hundredths of a percent of a query's fee for the subnet's validators; the miner has the rest.";
        40 seat_bond_min: Motes, default STAR / 2, 100 * STAR, bounds 0, 100 * STAR, 10_000 * STAR,
            "The least bond of a validator's seat; below it the seat has no voice.";
        41 seat_bond_epochs: Plain, default 0, 64, bounds 0, 16, 1_024,
            "Mean dividends a seat's bond must cover, at most a tenth of the validator's own stake.";
        42 log_challenge_deposit: Motes, default STAR, STAR, bounds 0, STAR / 100, 1_000 * STAR,
            "Locked by who challenges a score log: the validator's if it answers.";
        43 log_challenge_heights: Heights, default 60, 600, bounds 1, 60, DAY,
            "Heights a validator has to answer a challenge of its score log.";
    }
}

parameters! {
    /// The rules of one subnet.
    SubnetRules {
        1 tempo: Heights, default 10, 360, bounds 4, 60, 50_400,
            "Heights of an epoch.";
        2 reveal_window: Heights, default 4, 60, bounds 1, 10, 600,
            "Heights after an epoch in which its weights are revealed; at most the tempo.";
        4 slots: Plain, default 256, 256, bounds 1, 64, 2_048,
            "Members the subnet has room for.";
        5 seats: Plain, default 64, 64, bounds 1, 4, 1_024,
            "Validators with a permit to set weights.";
        6 validator_stake: Motes, default STAR, 1_000 * STAR, bounds 1, STAR, 1_000_000 * STAR,
            "The least stake of a validator here.";
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
        16 echoes: Plain, default 1, 0, bounds 0, 0, 1,
            "Members that give equal answers to a question: 0 are shown, 1 are shown and share what one would have.";
        17 kind: Plain, default 0, 0, bounds 0, 0, 1,
            "How miners compete: 0 they answer queries, 1 they publish models that the validators run.";
        18 crown_epochs: Plain, default 4, 16, bounds 1, 1, 1_024,
            "Where kind is 1: epochs in which what the best model's part has above a half falls by half.";
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
        40 owner_bp: Plain, default 1_800, 1_800, bounds 0, 0, 1_800,
            "Hundredths of a percent of what the subnet mints for its owner; miners and validators share the rest in halves.";
        41 price_start: Motes, default STAR, 10 * STAR, bounds 0, STAR / 100, 10_000 * STAR,
            "What a miner's place costs at first; each registration raises it by 26 %.";
        42 price_min: Motes, default STAR, STAR, bounds 0, STAR / 100, 10_000 * STAR,
            "What a miner's place costs at least.";
        43 price_max: Motes, default 10_000 * STAR, 10_000 * STAR, bounds 0, STAR / 100, 10_000 * STAR,
            "What a miner's place costs at most; at least price_min.";
        44 price_half_life: Heights, default 10, 4_320, bounds 1, 360, DAY,
            "Heights in which the price of a miner's place falls by half.";
        45 entry_fee_bp: Plain, default 1_000, 1_000, bounds 0, 100, 2_500,
            "Hundredths of a percent of that price that are burned; the rest comes back with the place.";
        46 probation_epochs: Plain, default 2, 8, bounds 0, 2, 64,
            "Epochs in which a new miner cannot lose its place.";
        47 waiting_heights: Heights, default 600, 7_200, bounds 1, 600, 100_800,
            "Heights a miner may wait to be seen before its place is taken back.";
        48 queue_max: Plain, default 64, 64, bounds 0, 1, 64,
            "Registrations that wait for a place at most.";
        49 exit_share: Plain, default 32, 32, bounds 1, 8, 1_024,
            "At most the slots divided by this, and at least one, lose their place in an epoch.";
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
