//! What is played (S2): a file in JSON whose unknown keys are errors, and the points of its sweep.
//!
//! The stake of an attack is exact: honest agents share what the others leave, in proportion to the stakes written at them.
//! A sweep is applied to the document before it is read, so anything in it can be swept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ledger::incentive::{EpochRules, Lift, Liquid, StakeCurve, Switches, Yuma};

/// Why a scenario cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    #[error("the scenario does not read: {0}")]
    Shape(String),
    #[error("the sweep names {path}, which the scenario does not have")]
    Path { path: String },
    #[error("{what} is {found}; {wanted}")]
    Range { what: String, found: String, wanted: String },
}

pub(super) fn range(what: &str, found: &impl ToString, wanted: &str) -> ScenarioError {
    ScenarioError::Range { what: what.to_owned(), found: found.to_string(), wanted: wanted.to_owned() }
}

pub const EPOCHS_MAX: u32 = 1_000_000;
pub const VALIDATORS_MAX: u32 = 1_024;
pub const MINERS_MAX: u32 = 4_096;
pub const POINTS_MAX: usize = 256;

/// One world, without its sweep.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub v: u32,
    pub name: String,
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default = "four_hundred")]
    pub epochs: u32,
    /// Epochs that are played and not measured.
    #[serde(default = "fifty")]
    pub warmup: u32,
    #[serde(default = "three_hundred_and_sixty")]
    pub tempo: u64,
    #[serde(default)]
    pub subnet: Subnet,
    #[serde(default)]
    pub stake: Stake,
    #[serde(default)]
    pub miners: Miners,
    pub agents: Vec<Agent>,
    #[serde(default)]
    pub registrations: Registrations,
    #[serde(default)]
    pub sweep: BTreeMap<String, Vec<Value>>,
    /// What must hold at every point; exit 12 when it does not.
    #[serde(default)]
    pub targets: Vec<Target>,
}

fn one() -> u64 {
    1
}
fn four_hundred() -> u32 {
    400
}
fn fifty() -> u32 {
    50
}
fn three_hundred_and_sixty() -> u64 {
    360
}

/// The mode of the subnet.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Subnet {
    pub mode: Mode,
    pub switches: SwitchSpec,
    pub kappa: u16,
    pub yuma: u8,
    pub liquid_alpha: bool,
    pub slots: u32,
    /// Epochs a row stays secret.
    pub conceal: u32,
    /// Seats of validators.
    pub seats: u32,
    pub bonds_average_ppm: u32,
    pub bonds_penalty: u16,
    pub activity_epochs: u64,
    /// What the subnet is granted per epoch, in motes.
    pub grant: u64,
}

impl Default for Subnet {
    fn default() -> Self {
        Self {
            mode: Mode::Native,
            switches: SwitchSpec::default(),
            kappa: 32_767,
            yuma: 3,
            liquid_alpha: false,
            slots: 256,
            conceal: 1,
            seats: 64,
            bonds_average_ppm: 900_000,
            bonds_penalty: 65_535,
            activity_epochs: 5,
            grant: 36_000_000_000,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Native,
    Compat,
}

/// What differs from the mode's preset.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchSpec {
    pub lift: Option<LiftSpec>,
    pub freshness_gate: bool,
    pub stake_curve: CurveSpec,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LiftSpec {
    pub tau: u16,
    pub lambda: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CurveSpec {
    #[default]
    Linear,
    Knee,
    /// Over 65535 of all stake.
    Cap(u16),
}

/// How stake is spread among the validators of an agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stake {
    pub law: StakeLaw,
    pub alpha: f64,
    pub validators: u32,
}

impl Default for Stake {
    fn default() -> Self {
        Self { law: StakeLaw::Pareto, alpha: 1.2, validators: 32 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StakeLaw {
    Pareto,
    Equal,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Miners {
    pub count: u32,
    /// Of these, so many answer with rubbish.
    pub worthless: u32,
    pub quality: Quality,
    /// By how much, relatively, a quality changes from epoch to epoch; its law stays the same.
    pub drift: f64,
    pub shock: Shock,
    /// One of the best stops working at an epoch, and not everybody sees it.
    pub cheat: Option<Cheat>,
}

impl Default for Miners {
    fn default() -> Self {
        Self { count: 64, worthless: 0, quality: Quality::default(), drift: 0.05, shock: Shock::default(), cheat: None }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quality {
    pub law: QualityLaw,
    pub sigma: f64,
}

impl Default for Quality {
    fn default() -> Self {
        Self { law: QualityLaw::Lognormal, sigma: 0.3 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityLaw {
    Lognormal,
    Equal,
}

/// How likely a miner's quality is drawn anew in an epoch.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shock {
    pub rate: f64,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cheat {
    pub at: u32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registrations {
    pub rate_per_epoch: u32,
}

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

/// A figure and its bounds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub id: String,
    pub metric: String,
    pub min: Option<f64>,
    pub max: Option<f64>,
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

/// A scenario at one point of its sweep.
#[derive(Clone, Debug)]
pub struct Point {
    /// What was swept, and its value here.
    pub at: BTreeMap<String, Value>,
    pub scenario: Scenario,
}

/// What was swept, its value here, and the document with it.
pub type Swept = (BTreeMap<String, Value>, Value);

/// The documents of a sweep, every combination of values once.
///
/// # Errors
/// The sweep does not read, or names what is not there.
pub fn sweep(document: &Value) -> Result<Vec<Swept>, ScenarioError> {
    let sweep: BTreeMap<String, Vec<Value>> = match document.get("sweep") {
        None => BTreeMap::new(),
        Some(sweep) => {
            serde_json::from_value(sweep.clone()).map_err(|error| ScenarioError::Shape(format!("sweep: {error}")))?
        }
    };
    let mut combinations: Vec<BTreeMap<String, Value>> = vec![BTreeMap::new()];
    for (path, values) in &sweep {
        if values.is_empty() {
            return Err(range(&format!("sweep of {path}"), &"empty", "name at least one value"));
        }
        let with = |so_far: &BTreeMap<String, Value>, value: &Value| {
            let mut point = so_far.clone();
            point.insert(path.clone(), value.clone());
            point
        };
        combinations = combinations.iter().flat_map(|so_far| values.iter().map(move |v| with(so_far, v))).collect();
        if combinations.len() > POINTS_MAX {
            return Err(range("the sweep", &combinations.len(), &format!("at most {POINTS_MAX} points are played")));
        }
    }
    let place = |at: BTreeMap<String, Value>| {
        let mut here = document.clone();
        for (path, value) in &at {
            set(&mut here, path, value).ok_or_else(|| ScenarioError::Path { path: path.clone() })?;
        }
        Ok((at, here))
    };
    combinations.into_iter().map(place).collect()
}

/// Reads a document and the points of its sweep.
///
/// # Errors
/// The document is no scenario, a sweep names what is not there, or a value is out of range.
pub fn points(document: &Value) -> Result<Vec<Point>, ScenarioError> {
    sweep(document)?.into_iter().map(|(at, here)| Ok(Point { at, scenario: Scenario::read(&here)? })).collect()
}

/// Sets the value at a path such as `agents[1].stake`. A last key that is not there yet is made; what is no key of the
/// format is refused when the document is read.
fn set(document: &mut Value, path: &str, value: &Value) -> Option<()> {
    let mut here = document;
    let mut steps = path.split(['.', '[']).peekable();
    while let Some(step) = steps.next() {
        let last = steps.peek().is_none();
        here = match step.strip_suffix(']') {
            Some(place) => here.get_mut(place.parse::<usize>().ok()?)?,
            None if last => here.as_object_mut()?.entry(step).or_insert(Value::Null),
            None => here.as_object_mut()?.entry(step).or_insert_with(|| Value::Object(Map::new())),
        };
    }
    *here = value.clone();
    Some(())
}

impl Scenario {
    /// Reads one scenario; its sweep is not looked at.
    ///
    /// # Errors
    /// The document is no scenario, or a value is out of range.
    pub fn read(document: &Value) -> Result<Self, ScenarioError> {
        let scenario = Self::deserialize(document).map_err(|error| ScenarioError::Shape(error.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let within = |what: &str, found: f64, low: f64, high: f64| {
            let fits = (low..=high).contains(&found);
            if fits { Ok(()) } else { Err(range(what, &found, &format!("{low} to {high} is understood"))) }
        };
        if self.v != 1 {
            return Err(range("v", &self.v, "this program plays version 1"));
        }
        within("epochs", self.epochs.into(), 1.0, EPOCHS_MAX.into())?;
        within("warmup", self.warmup.into(), 0.0, f64::from(self.epochs) - 1.0)?;
        within("tempo", self.tempo as f64, 1.0, 1e9)?;
        if self.subnet.mode == Mode::Compat {
            return Err(range("subnet.mode", &"compat", "worlds are native; published cases are `sim epoch`"));
        }
        within("subnet.yuma", self.subnet.yuma.into(), 2.0, 3.0)?;
        within("subnet.conceal", self.subnet.conceal.into(), 1.0, 16.0)?;
        within("subnet.seats", self.subnet.seats.into(), 1.0, VALIDATORS_MAX.into())?;
        within("stake.validators", self.stake.validators.into(), 1.0, VALIDATORS_MAX.into())?;
        within("stake.alpha", self.stake.alpha, 0.1, 100.0)?;
        let miners = self.miners.count.saturating_add(self.agents.iter().map(Agent::own_miners).sum());
        within("miners.count", miners.into(), 1.0, f64::from(MINERS_MAX.min(self.subnet.slots)))?;
        within("miners.worthless", self.miners.worthless.into(), 0.0, self.miners.count.into())?;
        within("miners.quality.sigma", self.miners.quality.sigma, 0.0, 3.0)?;
        within("miners.drift", self.miners.drift, 0.0, 1.0)?;
        within("miners.shock.rate", self.miners.shock.rate, 0.0, 1.0)?;
        within("registrations.rate_per_epoch", self.registrations.rate_per_epoch.into(), 0.0, 64.0)?;
        if !self.agents.iter().any(Agent::is_honest) {
            return Err(range("agents", &"without honest ones", "figures are measured against honest agents"));
        }
        let attack: f64 = self.agents.iter().filter(|agent| !agent.is_honest()).map(|agent| agent.stake).sum();
        within("the stake of agents that are not honest", attack, 0.0, 0.99)?;
        for (at, agent) in self.agents.iter().enumerate() {
            let twice = |other: &&Agent| !agent.is_honest() && other.name == agent.name;
            if self.agents.iter().skip(at + 1).any(|other| twice(&other)) {
                return Err(range("the name of two agents", &agent.name, "give each its own `name`"));
            }
            within(&format!("the stake of {}", agent.name), agent.stake, 0.0, 1.0)?;
            agent.check()?;
        }
        Ok(())
    }

    /// The switches of the epoch.
    pub fn switches(&self) -> Switches {
        let spec = &self.subnet.switches;
        Switches {
            lift: spec.lift.map(|lift| Lift { tau: lift.tau, lambda: lift.lambda }),
            stake_curve: match spec.stake_curve {
                CurveSpec::Linear => StakeCurve::Linear,
                CurveSpec::Knee => StakeCurve::Knee,
                CurveSpec::Cap(part) => StakeCurve::Cap(part),
            },
            ..Switches::native()
        }
    }

    /// The numbers of the epoch.
    pub fn rules(&self) -> EpochRules {
        let subnet = &self.subnet;
        EpochRules {
            tempo: self.tempo,
            cutoff: subnet.activity_epochs.saturating_mul(self.tempo),
            seats: subnet.seats,
            stake_threshold: 0,
            kappa: subnet.kappa,
            bonds_penalty: subnet.bonds_penalty,
            bonds_average_ppm: subnet.bonds_average_ppm,
            yuma: if subnet.yuma == 2 { Yuma::Two } else { Yuma::Three },
            liquid: subnet.liquid_alpha.then_some(Liquid { low: 45_875, high: 58_982, steepness: 1_000 }),
        }
    }
}

impl Agent {
    fn check(&self) -> Result<(), ScenarioError> {
        let within = |what: &str, found: f64, low: f64, high: f64| {
            let fits = (low..=high).contains(&found);
            let wanted = format!("{low} to {high} is understood");
            if fits { Ok(()) } else { Err(range(&format!("{what} of {}", self.name), &found, &wanted)) }
        };
        if let Some(members) = self.members {
            within("members", members.into(), 1.0, VALIDATORS_MAX.into())?;
        }
        if self.validates() && !self.is_honest() {
            within("the stake", self.stake, 1e-6, 0.99)?;
        }
        match &self.kind {
            Kind::Honest { noise, samples, .. } => {
                within("samples", f64::from(*samples), 1.0, 1e6)?;
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
