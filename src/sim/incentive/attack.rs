//! All seeds of all points of a scenario, on as many threads as there are; the same bytes with any number of them.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::metrics::Summary;
use super::scenario::{Scenario, ScenarioError, Target};
use super::sweep::sweep;
use super::tally::Figures;
use super::{economy, network, world};

/// One world that was played.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub point: usize,
    pub seed: u64,
    pub metrics: BTreeMap<String, f64>,
    #[serde(skip)]
    pub series: BTreeMap<String, Vec<f64>>,
}

/// A point, and what its seeds say together.
#[derive(Clone, Debug, Serialize)]
pub struct PointSummary {
    pub at: BTreeMap<String, Value>,
    pub metrics: BTreeMap<String, Summary>,
}

/// Everything a scenario came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: String,
    pub config_hash: String,
    pub points: Vec<PointSummary>,
    pub runs: Vec<Run>,
}

/// One figure and what it was held against.
#[derive(Clone, Debug, Serialize)]
pub struct Accept {
    pub id: String,
    pub figure: String,
    pub value: f64,
    /// Where the value lies with a chance of 95 %.
    pub low: f64,
    pub high: f64,
    pub target: String,
    /// None: reported, held against nothing.
    pub pass: Option<bool>,
}

impl Accept {
    pub fn missed(&self) -> bool {
        self.pass == Some(false)
    }
}

/// How a scenario is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seeds: u64,
    /// Whether each epoch's figures are kept, too.
    pub series: bool,
    /// Epochs instead of the scenario's.
    pub epochs: Option<u32>,
}

impl Plan {
    pub fn seeds(seeds: u64) -> Self {
        Self { seeds, series: false, epochs: None }
    }
}

/// Plays every seed of every point of a subnet's scenario.
///
/// # Errors
/// The document is no scenario.
pub fn run(document: &Value, plan: Plan) -> Result<Outcome, ScenarioError> {
    let read = |here: &Value| {
        let mut scenario = Scenario::read(here)?;
        if let Some(epochs) = plan.epochs {
            scenario.epochs = epochs.max(1);
            scenario.warmup = scenario.warmup.min(epochs.max(1) - 1);
        }
        Ok(scenario)
    };
    all(document, plan, read, |scenario, number| {
        let seed = scenario.seed.wrapping_add(number);
        (seed, world::play(scenario, seed, plan.series))
    })
}

/// The same of a network's.
///
/// # Errors
/// The document is no network.
pub fn run_economy(document: &Value, plan: Plan) -> Result<Outcome, ScenarioError> {
    all(document, plan, network::parse, |economy, number| {
        let seed = economy.seed.wrapping_add(number);
        (seed, economy::play(economy, seed))
    })
}

fn all<W: Sync>(
    document: &Value,
    plan: Plan,
    read: impl Fn(&Value) -> Result<W, ScenarioError>,
    play: impl Fn(&W, u64) -> (u64, Figures) + Sync,
) -> Result<Outcome, ScenarioError> {
    let mut points: Vec<(BTreeMap<String, Value>, W)> = Vec::new();
    for (at, here) in sweep(document)? {
        points.push((at, read(&here)?));
    }
    let jobs: Vec<(usize, u64)> =
        (0..points.len()).flat_map(|at| (0..plan.seeds).map(move |seed| (at, seed))).collect();
    let one = |(at, number): (usize, u64)| {
        let (seed, Figures { metrics, series }) = play(&points.get(at)?.1, number);
        Some(Run { point: at, seed, metrics, series })
    };
    // The order of a parallel collect is that of the jobs.
    let runs: Vec<Run> = jobs.into_par_iter().filter_map(one).collect();
    let summaries = points.iter().enumerate().map(|(at, (values, _))| summary(at, values, &runs)).collect();
    let name = document.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Outcome { name, config_hash: hash(document), points: summaries, runs })
}

/// The hash of a document, its keys in order.
fn hash(document: &Value) -> String {
    blake3::hash(document.to_string().as_bytes()).to_hex().to_string()
}

fn summary(at: usize, values_at: &BTreeMap<String, Value>, runs: &[Run]) -> PointSummary {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.point == at) {
        for (name, value) in &run.metrics {
            values.entry(name.clone()).or_default().push(*value);
        }
    }
    let metrics = values.into_iter().filter_map(|(name, values)| Some((name, Summary::of(&values)?))).collect();
    PointSummary { at: values_at.clone(), metrics }
}

impl Outcome {
    /// The targets the document itself names, at every point.
    pub fn targets(&self, document: &Value) -> Vec<Accept> {
        let targets = document.get("targets").cloned().unwrap_or(Value::Null);
        let targets: Vec<Target> = serde_json::from_value(targets).unwrap_or_default();
        let mut found = Vec::new();
        for target in targets {
            let bounds = [target.min.map(|min| format!(">= {min}")), target.max.map(|max| format!("<= {max}"))];
            let text = bounds.into_iter().flatten().collect::<Vec<String>>().join(" and ");
            for point in &self.points {
                let summary = point.metrics.get(&target.metric);
                let value = summary.map_or(f64::NAN, |summary| summary.mean);
                let pass = summary.is_some()
                    && target.min.is_none_or(|min| value >= min)
                    && target.max.is_none_or(|max| value <= max);
                found.push(Accept {
                    id: target.id.clone(),
                    figure: format!("{} at {}", target.metric, label(&point.at)),
                    value,
                    low: summary.map_or(f64::NAN, |summary| summary.low),
                    high: summary.map_or(f64::NAN, |summary| summary.high),
                    target: text.clone(),
                    pass: Some(pass),
                });
            }
        }
        found
    }

    /// Of the document the command prints (S5).
    pub fn report(&self) -> Value {
        json!({ "name": self.name, "config_hash": self.config_hash, "runs": self.runs, "summary": self.points })
    }
}

/// A point in words.
pub fn label(at: &BTreeMap<String, Value>) -> String {
    if at.is_empty() {
        return "the only point".to_owned();
    }
    at.iter().map(|(path, value)| format!("{path} = {value}")).collect::<Vec<String>>().join(", ")
}
