//! A network over some terms, as a file says it (S1, S2): its subnets, who has a plan, and what of that is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scenario::{ScenarioError, Target, range, within};
use crate::protocol::parameters::Parameters;

const TERMS_MAX: u32 = 1_000_000;
const SUBNETS_MAX: usize = 256;
/// Hundredths of a percent in a whole.
const WHOLE_BP: f64 = 10_000.0;

/// A network over some terms.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Economy {
    pub v: u32,
    pub name: String,
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default = "thousand")]
    pub terms: u32,
    /// Money there is at the start, in STAR.
    #[serde(default = "supply")]
    pub supply: u64,
    #[serde(default = "validators")]
    pub validators: u32,
    /// The subnets of everybody else.
    pub subnets: Vec<Market>,
    #[serde(default)]
    pub agents: Vec<Player>,
    #[serde(default)]
    pub sweep: BTreeMap<String, Vec<Value>>,
    /// What must hold at every point; exit 12 when it does not.
    #[serde(default)]
    pub targets: Vec<Target>,
}

fn one() -> u64 {
    1
}
fn thousand() -> u32 {
    1_000
}
fn supply() -> u64 {
    5_000_000
}
fn validators() -> u32 {
    32
}

/// A subnet somebody uses.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    /// Fees burnt in a term, in STAR, on average.
    pub burnt: f64,
    /// How much that differs from term to term.
    #[serde(default)]
    pub noise: f64,
    /// The part of the honest stake that supports it.
    #[serde(default)]
    pub support: f64,
}

/// Somebody with a plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Player {
    /// Buys from itself in a subnet of its own, until a term. Of each fee, what goes to a role it does not have is lost to it.
    Washer {
        /// Its part of all money.
        holding: f64,
        /// Burnt per term, in STAR.
        burn: f64,
        until: u32,
        /// Its part of the stake, all of it behind its own subnet.
        #[serde(default)]
        stake: f64,
        #[serde(default = "yes")]
        owner: bool,
        #[serde(default = "yes")]
        miners: bool,
        #[serde(default = "yes")]
        validators: bool,
    },
    /// Gives all its support to an empty subnet of its own.
    SupportCabal { stake: f64 },
}

fn yes() -> bool {
    true
}

impl Player {
    pub(super) fn stake(&self) -> f64 {
        match self {
            Self::Washer { stake, .. } | Self::SupportCabal { stake } => *stake,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Washer { .. } => "washer",
            Self::SupportCabal { .. } => "support_cabal",
        }
    }

    /// Whether it owns the subnet, is its miners, and its validators.
    pub(super) fn roles(&self) -> [bool; 3] {
        match self {
            Self::Washer { owner, miners, validators, .. } => [*owner, *miners, *validators],
            Self::SupportCabal { .. } => [true; 3],
        }
    }

    /// What it loses of a fee for each mote of it that is burnt: all that goes to others (E10).
    pub(super) fn lost(&self, parameters: &Parameters) -> f64 {
        let [_, miners, validators] = self.roles();
        let (burnt, theirs) = (parameters.query_burn_bp as f64, parameters.query_validators_bp as f64);
        let to_miners = if miners { 0.0 } else { WHOLE_BP - burnt - theirs };
        let to_validators = if validators { 0.0 } else { theirs };
        (burnt + to_miners + to_validators) / burnt
    }
}

/// Reads one network.
///
/// # Errors
/// It is not understood, or a value is out of range.
pub fn parse(document: &Value) -> Result<Economy, ScenarioError> {
    let economy = Economy::deserialize(document).map_err(|error| ScenarioError::Shape(error.to_string()))?;
    within("v", economy.v.into(), 1.0, 1.0)?;
    within("terms", economy.terms.into(), 1.0, TERMS_MAX.into())?;
    within("validators", economy.validators.into(), 1.0, 1_024.0)?;
    within("supply", economy.supply as f64, 1.0, 21_000_000.0)?;
    within("the number of subnets", economy.subnets.len() as f64, 0.0, SUBNETS_MAX as f64)?;
    for market in &economy.subnets {
        within("burnt", market.burnt, 0.0, 1e6)?;
        within("noise", market.noise, 0.0, 3.0)?;
        within("support", market.support, 0.0, 1.0)?;
    }
    for player in &economy.agents {
        within("the stake of an agent", player.stake(), 0.0, 0.99)?;
        if let Player::Washer { holding, burn, .. } = player {
            within("holding", *holding, 0.0, 1.0)?;
            within("burn", *burn, 0.0, 1e6)?;
        }
    }
    within("the stake of all agents", economy.agents.iter().map(Player::stake).sum(), 0.0, 0.99)?;
    for (at, player) in economy.agents.iter().enumerate() {
        if economy.agents.iter().skip(at + 1).any(|other| other.name() == player.name()) {
            return Err(range("the number of agents of one kind", &player.name(), "one of each kind is played"));
        }
    }
    Ok(economy)
}
