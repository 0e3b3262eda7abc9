//! Who plays (S3): agents, how each kind acts, and what is refused of what a file says about them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::scenario::{ScenarioError, VALIDATORS_MAX};

/// One side of the game: validators that act alike.
#[derive(Clone, Debug, Serialize)]
pub struct Agent {
    /// What its figures are called; the kind where nothing is said.
    pub name: String,
    /// Its part of all stake.
    pub stake: f64,
    /// Its validators; by its part of the stake where nothing is said.
    pub members: Option<u32>,
    #[serde(flatten)]
    pub kind: Kind,
}

/// How an agent acts (S3).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// Says what it sees.
    Honest {
        #[serde(default = "tenth")]
        noise: f64,
        #[serde(default = "one_sample")]
        samples: u32,
        #[serde(default = "yes")]
        sees_cheat: bool,
        /// What it says of a score is this power of it; the scorers that ship square.
        #[serde(default = "whole")]
        power: f64,
    },
    /// Repeats what was public.
    Copier {
        #[serde(default = "one_sample")]
        lag: u32,
        #[serde(default)]
        noise: f64,
        #[serde(default)]
        source: Source,
    },
    /// Speaks for miners of its own that do nothing.
    Colluder {
        #[serde(default = "one_sample")]
        own_miners: u32,
        /// The part of its rows that they get; the rest is honest.
        #[serde(default = "whole")]
        part: f64,
        /// Whether the ledger knows that they are its own (D8).
        #[serde(default)]
        masked: bool,
    },
    /// One machine behind several registrations.
    SybilMiner { ids: u32, capacity: f64 },
    /// Honest but for a few miners it gives nothing.
    Downweight {
        victims: u32,
        #[serde(default)]
        mode: Pressure,
        #[serde(default = "tenth")]
        noise: f64,
    },
    /// Gives everything to a middling miner of its own.
    SelfDealer { keys: Keys },
    /// Looks every so many epochs, and says the same in between.
    Lazy {
        every: u32,
        #[serde(default = "tenth")]
        noise: f64,
    },
    /// Sees everything so many epochs late.
    LateMover {
        delay: u32,
        #[serde(default = "tenth")]
        noise: f64,
    },
    /// Commits and does not always reveal.
    NonRevealer {
        rule: RevealRule,
        #[serde(default)]
        own_miners: u32,
        #[serde(default = "tenth")]
        noise: f64,
        /// The bond of each of its seats, in STAR; topped up after every cut (D4).
        #[serde(default = "hundred")]
        bond: u32,
    },
    /// Does not even commit in a part of the epochs.
    Abstainer {
        fraction: f64,
        #[serde(default = "tenth")]
        noise: f64,
    },
    /// One holder behind several seats, otherwise honest.
    WhaleSplit {
        pieces: u32,
        #[serde(default = "tenth")]
        noise: f64,
    },
}

fn tenth() -> f64 {
    0.1
}
fn one_sample() -> u32 {
    1
}
fn hundred() -> u32 {
    100
}
fn whole() -> f64 {
    1.0
}
fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    #[default]
    Consensus,
    /// The largest honest validator.
    Validator,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pressure {
    #[default]
    Targeted,
    /// Everything to one miner that is no victim.
    AllIn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    Declared,
    Hidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RevealRule {
    Always,
    Never,
    /// Not when the epoch would pay less than it usually does.
    IfLosing,
    /// Only when revealing pays at least as much in this epoch, everything it owns counted.
    IfPaying,
}

impl<'de> Deserialize<'de> for Agent {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut map = Map::deserialize(from)?;
        let kind_name = map.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if ["washer", "support_cabal"].contains(&kind_name.as_str()) {
            return Err(D::Error::custom(format!("{kind_name} acts between subnets; play it with `sim economy`")));
        }
        let name = map.remove("name").map(serde_json::from_value).transpose().map_err(D::Error::custom)?;
        let stake = map.remove("stake").map(serde_json::from_value).transpose().map_err(D::Error::custom)?;
        let members = map.remove("members").map(serde_json::from_value).transpose().map_err(D::Error::custom)?;
        let kind: Kind = serde_json::from_value(Value::Object(map))
            .map_err(|error| D::Error::custom(format!("agent {kind_name}: {error}")))?;
        Ok(Self { name: name.unwrap_or(kind_name), stake: stake.unwrap_or(0.0), members, kind })
    }
}

impl Agent {
    pub fn is_honest(&self) -> bool {
        matches!(self.kind, Kind::Honest { .. })
    }

    /// Whether it has validators at all.
    pub fn validates(&self) -> bool {
        !matches!(self.kind, Kind::SybilMiner { .. })
    }

    /// The miners that are its own, beside all others.
    pub fn own_miners(&self) -> u32 {
        match self.kind {
            Kind::Colluder { own_miners, .. } | Kind::NonRevealer { own_miners, .. } => own_miners,
            Kind::SybilMiner { ids, .. } => ids,
            Kind::SelfDealer { .. } => 1,
            _ => 0,
        }
    }
}

impl Agent {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let within = |what: &str, found: f64, low: f64, high: f64| {
            super::scenario::within(&format!("{what} of {}", self.name), found, low, high)
        };
        if let Some(members) = self.members {
            within("members", members.into(), 1.0, VALIDATORS_MAX.into())?;
        }
        if self.validates() && !self.is_honest() {
            within("the stake", self.stake, 1e-6, 0.99)?;
        }
        match &self.kind {
            Kind::Honest { noise, samples, power, .. } => {
                within("samples", f64::from(*samples), 1.0, 1e6)?;
                within("power", *power, 0.1, 10.0)?;
                within("noise", *noise, 0.0, 3.0)
            }
            Kind::Copier { lag, noise, .. } => {
                within("lag", f64::from(*lag), 1.0, 64.0)?;
                within("noise", *noise, 0.0, 3.0)
            }
            Kind::Lazy { every, noise } => {
                within("every", f64::from(*every), 1.0, 1e6)?;
                within("noise", *noise, 0.0, 3.0)
            }
            Kind::LateMover { delay, noise } => {
                within("delay", f64::from(*delay), 0.0, 64.0)?;
                within("noise", *noise, 0.0, 3.0)
            }
            Kind::Abstainer { fraction, noise } => {
                within("fraction", *fraction, 0.0, 1.0)?;
                within("noise", *noise, 0.0, 3.0)
            }
            Kind::WhaleSplit { pieces, noise } => {
                within("pieces", f64::from(*pieces), 1.0, VALIDATORS_MAX.into())?;
                within("noise", *noise, 0.0, 3.0)
            }
            Kind::SybilMiner { ids, capacity } => {
                within("ids", f64::from(*ids), 1.0, 1_024.0)?;
                within("capacity", *capacity, 0.001, 1_000.0)
            }
            Kind::Downweight { noise, .. } | Kind::NonRevealer { noise, .. } => within("noise", *noise, 0.0, 3.0),
            Kind::Colluder { own_miners, part, .. } => {
                within("own_miners", f64::from(*own_miners), 1.0, 1_024.0)?;
                within("part", *part, 0.01, 1.0)
            }
            Kind::SelfDealer { .. } => Ok(()),
        }
    }
}
