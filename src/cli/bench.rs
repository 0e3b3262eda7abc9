//! `bench`: what the hot parts of the program cost on this machine.

use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::error::CliError;
use super::output::{Reply, Table};
use crate::ml::bench::{self as ml, CASES};
use crate::node::bench as serving;
use crate::sim::bench::{BENCHES, Figure, run};

#[derive(Args, Debug)]
pub struct Bench {
    /// What to measure; without a name, the list
    names: Vec<String>,
}

impl Bench {
    pub(super) fn run(self) -> Result<Reply, CliError> {
        if self.names.is_empty() {
            return Ok(list());
        }
        let unknown = |name: &&String| !known().any(|(known, _)| known == name.as_str());
        if let Some(name) = self.names.iter().find(unknown) {
            return Err(CliError::usage(format!(
                "nothing is measured under \"{name}\"; `starling bench` lists what is"
            )));
        }
        let results: Vec<Figure> = self.names.iter().map(|name| measure(name)).collect::<Result<_, _>>()?;
        let mut table = Table::new(&["name", ">median", ">min", ">max", "unit", ">runs", ">baseline", ">ratio"]);
        for figure in &results {
            let number = |value: f64| format!("{value:.3}");
            let other = |value: Option<f64>| value.map(number).unwrap_or_default();
            table.row(vec![
                figure.name.to_owned(),
                number(figure.median),
                number(figure.min),
                number(figure.max),
                figure.unit.to_owned(),
                figure.runs.to_string(),
                other(figure.baseline),
                other(figure.ratio),
            ]);
        }
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = |line: &&str| line.starts_with("model name");
        let model = processor.lines().find(named).and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown");
        let machine = json!({
            "processor": model, "cores": cores, "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        });
        Ok(Reply::of(&json!({ "results": results, "machine": machine })).table(table))
    }
}

/// Every name with what it measures.
fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
    let models = CASES.iter().map(|case| (case.name, case.about));
    let served = serving::BENCHES.iter().map(|bench| (bench.0, bench.1));
    BENCHES.iter().map(|(name, about, _)| (*name, *about)).chain(models).chain(served)
}

fn measure(name: &str) -> Result<Figure, CliError> {
    let nothing = || CliError::failed(format!("nothing is measured under \"{name}\""));
    if let Some(figure) = run(name) {
        return Ok(figure);
    }
    if let Some(served) = serving::run(name) {
        return Ok(figure(&served.map_err(CliError::failed)?));
    }
    let case = CASES.iter().find(|case| case.name == name).ok_or_else(nothing)?;
    let begin = Instant::now();
    let clock = || u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let ml::Figure { unit, median, min, max, runs } =
        case.run(&clock).map_err(|error| CliError::failed(error.to_string()))?;
    Ok(Figure { name: case.name, unit, median, min, max, runs, baseline: None, ratio: None })
}

/// Baseline: the bare engine in the same run.
fn figure(served: &serving::Served) -> Figure {
    let serving::Served { name, median, min, max, bare_median, runs } = *served;
    Figure { name, unit: "ms", median, min, max, runs, baseline: Some(bare_median), ratio: Some(bare_median / median) }
}

fn list() -> Reply {
    let mut table = Table::new(&["name", "what"]);
    for (name, what) in known() {
        table.row(vec![name.to_owned(), what.to_owned()]);
    }
    let names: Vec<&str> = known().map(|(name, _)| name).collect();
    Reply::of(&json!({ "names": names })).table(table)
}
