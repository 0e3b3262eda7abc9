//! What is played (S2): a file in JSON whose unknown keys are errors.
//!
//! The stake of an attack is exact: honest agents share what the others leave, in proportion to the stakes written at them.
//! A sweep is applied to the document before it is read, so anything in it can be swept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kinds::Agent;
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

/// Checks that a value is within what is understood.
pub(super) fn within(what: &str, found: f64, low: f64, high: f64) -> Result<(), ScenarioError> {
    let fits = (low..=high).contains(&found);
    if fits { Ok(()) } else { Err(range(what, &found, &format!("{low} to {high} is understood"))) }
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

/// A figure and its bounds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub id: String,
    pub metric: String,
    pub min: Option<f64>,
    pub max: Option<f64>,
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
