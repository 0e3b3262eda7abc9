//! Epochs from a file: one case, or a sequence of them, in the format of the public vectors.
//!
//! A case is played by the ledger's own machine in the `compat` mode; here is only what turns JSON into jobs, carries
//! bonds and permits from step to step, and turns results into JSON again. No rule is written a second time, and nothing
//! a case expects is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::ledger::incentive::fixed::{ONE, Q, to_u16};
use crate::ledger::incentive::{
    BOND_FLOOR, Bond, BondBlock, ColumnInput, EpochInput, EpochJob, EpochResult, EpochRules, JobError, Liquid,
    RowInput, Switches, Workspace, Yuma,
};
use crate::protocol::ids::{Height, MemberId};

/// Why a case cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    #[error("{name}: {reason}")]
    Shape { name: String, reason: String },
    #[error("{name}: {reason}")]
    Job { name: String, reason: JobError },
}

/// Cases have few slots; a file asking for more is a mistake.
const SLOTS_MAX: usize = 16_384;
/// Steps of a case, repeats counted.
const STEPS_MAX: u64 = 100_000;

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    name: String,
    kind: String,
    input: Input,
    generator: Option<Generator>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Generator {
    n: usize,
    validators: usize,
    stake: u64,
    weight: u32,
}

type Entries = BTreeMap<String, Vec<(u32, u32)>>;

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
struct Input {
    n: usize,
    stake: Vec<u64>,
    permits: Vec<bool>,
    last_update: Vec<Height>,
    registered: Vec<Height>,
    commit_blocks: Vec<Option<Height>>,
    tempo: u64,
    last_step: Height,
    activity_cutoff: u64,
    max_validators: u32,
    emission: u64,
    owner_uid: Option<u32>,
    weights: Entries,
    bonds: Entries,
    block: Height,
    params: Params,
}

#[derive(Clone, Deserialize)]
#[serde(default)]
struct Params {
    kappa: u16,
    bonds_penalty: u16,
    bonds_moving_average: u32,
    yuma3: bool,
    liquid_alpha: bool,
    alpha_low: u16,
    alpha_high: u16,
    alpha_sigmoid_steepness: i16,
    stake_threshold: u64,
    dense: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            kappa: 32_767,
            bonds_penalty: 0,
            bonds_moving_average: 900_000,
            yuma3: false,
            liquid_alpha: false,
            alpha_low: 45_875,
            alpha_high: 58_982,
            alpha_sigmoid_steepness: 1_000,
            stake_threshold: 0,
            dense: false,
        }
    }
}

#[derive(Deserialize)]
struct Step {
    weights: Option<Entries>,
    #[serde(default = "one")]
    repeat: u64,
    #[serde(default = "one")]
    advance: u64,
    reset_bonds_for: Option<u32>,
}

fn one() -> u64 {
    1
}

/// Plays a case, or every case of a list; one object each, in their order.
///
/// # Errors
/// A case is malformed; its name is in the error.
pub fn play(document: &Value) -> Result<Vec<Value>, CaseError> {
    match document {
        Value::Array(cases) => cases.iter().map(play_one).collect(),
        case => Ok(vec![play_one(case)?]),
    }
}

fn play_one(case: &Value) -> Result<Value, CaseError> {
    let name = case.get("name").and_then(Value::as_str).unwrap_or("case").to_owned();
    let shape = |reason: String| CaseError::Shape { name: name.clone(), reason };
    let mut case = Case::deserialize(case).map_err(|error| shape(error.to_string()))?;
    if !["epoch", "sequence"].contains(&case.kind.as_str()) {
        return Err(shape(format!("kind {} is no epoch and no sequence", case.kind)));
    }
    if let Some(generator) = &case.generator {
        generator.fill(&mut case.input);
    }
    case.input.check().map_err(shape)?;
    let mut steps = Vec::new();
    if case.kind == "epoch" {
        case.steps = vec![Step { weights: None, repeat: 1, advance: 0, reset_bonds_for: None }];
    }
    if case.steps.iter().map(|step| step.repeat).fold(0, u64::saturating_add) > STEPS_MAX {
        return Err(shape(format!("more than {STEPS_MAX} epochs")));
    }
    let mut workspace = Workspace::new();
    for step in &case.steps {
        let mut result = None;
        if let Some(weights) = &step.weights {
            case.input.weights.clone_from(weights);
        }
        for _ in 0..step.repeat.max(1) {
            let reset = step.reset_bonds_for.map(MemberId);
            let job = case.input.job(reset).map_err(|reason| CaseError::Job { name: case.name.clone(), reason })?;
            let found = job.run(&mut workspace);
            case.input.keep(&found);
            case.input.block = case.input.block.saturating_add(step.advance);
            result = Some(found);
        }
        steps.extend(result.map(|result| report(&result, case.input.emission)));
    }
    Ok(json!({ "name": case.name, "steps": steps }))
}

impl Generator {
    fn fill(&self, input: &mut Input) {
        let first = |i: usize| i < self.validators;
        input.n = self.n.min(SLOTS_MAX + 1);
        input.stake = (0..input.n).map(|i| if first(i) { self.stake } else { 0 }).collect();
        input.permits = (0..input.n).map(first).collect();
        input.last_update = (0..input.n).map(|i| u64::from(first(i))).collect();
        input.registered = vec![0; input.n];
        let others: Vec<(u32, u32)> =
            (self.validators..input.n).filter_map(|j| Some((u32::try_from(j).ok()?, self.weight))).collect();
        input.weights = (0..self.validators.min(input.n)).map(|i| (i.to_string(), others.clone())).collect();
    }
}

impl Input {
    fn check(&self) -> Result<(), String> {
        if self.n > SLOTS_MAX {
            return Err(format!("{} slots; {SLOTS_MAX} fit", self.n));
        }
        let lengths = [
            ("stake", self.stake.len()),
            ("permits", self.permits.len()),
            ("last_update", self.last_update.len()),
            ("registered", self.registered.len()),
        ];
        for (name, found) in lengths {
            if found != self.n {
                return Err(format!("{name} has {found} values for {} slots", self.n));
            }
        }
        for slot in self.weights.keys().chain(self.bonds.keys()) {
            if slot.parse::<usize>().ok().is_none_or(|slot| slot >= self.n) {
                return Err(format!("{slot} is no slot"));
            }
        }
        Ok(())
    }

    fn rules(&self) -> EpochRules {
        let params = &self.params;
        let liquid =
            Liquid { low: params.alpha_low, high: params.alpha_high, steepness: params.alpha_sigmoid_steepness };
        EpochRules {
            tempo: self.tempo,
            cutoff: self.activity_cutoff,
            seats: self.max_validators,
            stake_threshold: params.stake_threshold,
            kappa: params.kappa,
            bonds_penalty: params.bonds_penalty,
            bonds_average_ppm: params.bonds_moving_average,
            yuma: if params.yuma3 { Yuma::Three } else { Yuma::Two },
            liquid: params.liquid_alpha.then_some(liquid),
        }
    }

    fn job(&self, reset: Option<MemberId>) -> Result<EpochJob, JobError> {
        let slots = || (0..u32::try_from(self.n).unwrap_or(u32::MAX)).map(MemberId);
        let at = |id: MemberId| usize::try_from(id.0).unwrap_or(usize::MAX);
        let row = |member: MemberId| RowInput {
            member,
            stake: self.stake.get(at(member)).copied().unwrap_or(0),
            permit: self.permits.get(at(member)).copied().unwrap_or(false),
            last_activity: self.last_update.get(at(member)).copied(),
            missed: false,
            commit: self.commit_blocks.get(at(member)).copied().flatten(),
            gate: ONE,
            weights: of_slot(&self.weights, member).map(|(j, value)| (MemberId(j), value)).collect(),
        };
        let column = |member: MemberId| ColumnInput {
            member,
            registered: self.registered.get(at(member)).copied().unwrap_or(0),
            reset: reset == Some(member),
        };
        let bonds: Vec<Bond> =
            slots().flat_map(|i| of_slot(&self.bonds, i).map(move |(j, value)| (i, MemberId(j), value))).collect();
        EpochJob::new(EpochInput {
            switches: Switches { dense: self.params.dense, ..Switches::compat() },
            rules: self.rules(),
            height: self.block,
            last_close: Some(self.last_step).filter(|last| *last > 0),
            owner: self.owner_uid.map(MemberId),
            // The compatible mode has one pot.
            miner_pot: self.emission,
            validator_pot: 0,
            rows: slots().map(row).collect(),
            columns: slots().map(column).collect(),
            related: Vec::new(),
            bonds: BondBlock::of(&bonds).into_iter().map(|(_, block)| Arc::new(block)).collect(),
            bond_floor: BOND_FLOOR,
        })
    }

    /// What a sequence carries from one epoch to the next.
    fn keep(&mut self, result: &EpochResult) {
        self.permits = result.rows.iter().map(|row| row.permit).collect();
        self.bonds.clear();
        for (row, column, value) in bonds(result) {
            self.bonds.entry(row.to_string()).or_default().push((column, value));
        }
    }
}

fn of_slot(entries: &Entries, slot: MemberId) -> impl Iterator<Item = (u32, u32)> + '_ {
    entries.get(&slot.0.to_string()).into_iter().flatten().copied()
}

/// Validator, miner, value; by validator.
fn bonds(result: &EpochResult) -> Vec<(u32, u32, u32)> {
    let blocks = result.bonds.blocks(&result.rows, &result.columns);
    let all = blocks.iter().flat_map(|(_, block)| block.bonds());
    let mut all: Vec<(u32, u32, u32)> = all.map(|(row, column, value)| (row.0, column.0, value)).collect();
    all.sort_unstable();
    all
}

/// A fraction as a decimal with ten digits.
#[allow(clippy::cast_precision_loss)]
fn decimal(share: Q) -> f64 {
    (share as f64 / ONE as f64 * 1e10).round() / 1e10
}

#[allow(clippy::cast_precision_loss)]
fn report(result: &EpochResult, emission: u64) -> Value {
    let rows = |get: fn(&crate::ledger::incentive::RowResult) -> Q| result.rows.iter().map(get).collect::<Vec<Q>>();
    let columns =
        |get: fn(&crate::ledger::incentive::ColumnResult) -> Q| result.columns.iter().map(get).collect::<Vec<Q>>();
    let decimals = |values: &[Q]| values.iter().map(|value| decimal(*value)).collect::<Vec<f64>>();
    let narrow = |values: &[Q]| values.iter().map(|value| to_u16(*value)).collect::<Vec<u16>>();
    let (consensus, incentive, dividends) =
        (columns(|c| c.consensus), columns(|c| c.incentive), rows(|row| row.dividend));
    let (trust, stake) = (rows(|row| row.trust), rows(|row| row.stake));
    let total: f64 = decimals(&dividends).iter().sum();
    let proportion = |value: f64| if total > 0.0 { value / total } else { 0.0 };
    let bonds = bonds(result);
    let part = |emission: f64, paid: u64| if emission > 0.0 { paid as f64 / emission } else { 0.0 };
    json!({
        "consensus": decimals(&consensus),
        "consensus_u16": narrow(&consensus),
        "validator_trust": decimals(&trust),
        "validator_trust_u16": narrow(&trust),
        "trust": decimals(&result.columns.iter().map(crate::ledger::incentive::ColumnResult::trust).collect::<Vec<_>>()),
        "rank": decimals(&columns(crate::ledger::incentive::ColumnResult::rank)),
        "incentive": decimals(&incentive),
        "incentive_u16": narrow(&incentive),
        "dividends": decimals(&dividends),
        "dividends_u16": narrow(&dividends),
        "dividends_proportion": decimals(&dividends).into_iter().map(proportion).collect::<Vec<f64>>(),
        "emission": result.combined,
        "norm_emission": result.combined.iter().map(|paid| part(emission as f64, *paid)).collect::<Vec<f64>>(),
        "server_emission": result.columns.iter().map(|column| column.amount).collect::<Vec<u64>>(),
        "validator_emission": result.rows.iter().map(|row| row.amount).collect::<Vec<u64>>(),
        "bonds_u16": bonds,
        "bonds_proportion": bonds.iter().map(|(i, j, b)| (i, j, f64::from(*b) / 65_535.0)).collect::<Vec<_>>(),
        "new_permits": result.rows.iter().map(|row| row.permit).collect::<Vec<bool>>(),
        "active_stake": decimals(&rows(|row| row.active)),
        "stake": decimals(&stake),
        "stake_u16": narrow(&stake),
    })
}
