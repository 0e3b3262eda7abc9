//! `sim`: offline worlds, for people who want to see what the rules do before they run into them.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::error::{CliError, Exit};
use super::output::{Reply, Table, maybe};
use crate::sim::consensus::{Report, Scenario, run};
use crate::sim::epoch::play;

/// A file of cases larger than this is a mistake.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Subcommand, Debug)]
pub enum Sim {
    /// Play epochs from a file: a case, or a list of cases, in the format of the public vectors
    Epoch {
        /// The file, JSON
        file: PathBuf,
    },
    /// Play the consensus of a network whose links, disks and members fail; exit 12 when an invariant breaks
    Consensus {
        /// How many seeds to play, from 1
        #[arg(long, default_value_t = 10)]
        seeds: u64,
        /// Members of the network
        #[arg(long, default_value_t = 4)]
        nodes: usize,
        /// The name of a scenario
        #[arg(long, default_value = "calm")]
        scenario: String,
    },
}

impl Sim {
    pub(super) fn run(self) -> Result<Reply, CliError> {
        match self {
            Self::Epoch { file } => epoch(&file),
            Self::Consensus { seeds, nodes, scenario } => consensus(seeds, nodes, &scenario),
        }
    }
}

fn epoch(file: &std::path::Path) -> Result<Reply, CliError> {
    let length = std::fs::metadata(file).map_err(|error| CliError::file(file, &error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(CliError::usage(format!("{} has {length} bytes; {FILE_BYTES_MAX} are read", file.display())));
    }
    let text = std::fs::read_to_string(file).map_err(|error| CliError::file(file, &error))?;
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| CliError::usage(format!("{} is not JSON: {error}", file.display())))?;
    let results = play(&document).map_err(|error| CliError::usage(error.to_string()))?;
    let mut table = Table::new(&["case", ">step", ">slot", ">incentive", ">dividend", ">emission"]).or("no cases");
    for result in &results {
        let name = result.get("name").and_then(Value::as_str).unwrap_or_default();
        for (step, found) in result.get("steps").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let at = |figure: &str, slot: usize| maybe(found.get(figure).and_then(|all| all.get(slot)));
            let slots = found.get("emission").and_then(Value::as_array).map_or(0, Vec::len);
            for slot in (0..slots).filter(|slot| at("emission", *slot) != "0") {
                table.row(vec![
                    name.to_owned(),
                    step.to_string(),
                    slot.to_string(),
                    at("incentive", slot),
                    at("dividends", slot),
                    at("emission", slot),
                ]);
            }
        }
    }
    Ok(Reply::of(&json!({ "results": results })).table(table))
}

fn consensus(seeds: u64, nodes: usize, name: &str) -> Result<Reply, CliError> {
    let mut table = Table::new(&[">seed", ">height", ">views", ">crashes", ">events", "violation"]).or("no seeds");
    let (mut results, mut broken) = (Vec::new(), 0);
    for seed in 1..=seeds {
        let scenario = Scenario::named(name, nodes)
            .ok_or_else(|| CliError::usage(format!("there is no scenario \"{name}\" for {nodes} nodes")))?;
        let report: Report = run(scenario, seed);
        let height = report.heights.iter().copied().max().unwrap_or(0);
        broken += u64::from(report.violation.is_some());
        table.row(vec![
            seed.to_string(),
            height.to_string(),
            report.entered.to_string(),
            report.crashes.to_string(),
            report.events.to_string(),
            report.violation.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
        results.push(json!({
            "scenario": report.scenario, "seed": seed, "height": height, "views": report.entered,
            "skipped": report.skipped, "crashes": report.crashes, "events": report.events,
            "violation": report.violation,
        }));
    }
    let reply = Reply::of(&json!({ "results": results })).table(table);
    Ok(if broken > 0 { reply.exit(Exit::Findings) } else { reply })
}
