//! `sim`: offline worlds, for people who want to see what the rules do before they run into them.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::error::{CliError, Exit};
use super::output::{Reply, Table, maybe};
use crate::sim::consensus::{Report, Scenario, run};
use crate::sim::epoch::play;
use crate::sim::incentive::accept::{LINES, Line};
use crate::sim::incentive::attack::{self, Accept, Outcome, Plan, label};
use crate::sim::incentive::plot;
use crate::sim::incentive::scenario::ScenarioError;

/// A file of cases larger than this is a mistake.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Subcommand, Debug)]
pub enum Sim {
    /// Play epochs from a file: a case, or a list of cases, in the format of the public vectors
    Epoch {
        /// The file, JSON
        file: PathBuf,
    },
    /// Play an attack on the machine that pays, many times over; exit 12 when a target is missed
    Attack {
        /// A scenario in JSON, or the name of an acceptance line: A1 to A18, or `all`
        file: String,
        /// Worlds of each point of its sweep
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// Where tables (CSV) and pictures (SVG) are put
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Play what a network burns and grants, term by term; exit 12 when a target is missed
    Economy {
        /// The network in JSON, such as config/sim/economy.json
        file: PathBuf,
        /// Networks of each point of its sweep
        #[arg(long, default_value_t = 10)]
        seeds: u64,
        /// Where tables (CSV) and pictures (SVG) are put
        #[arg(long)]
        out: Option<PathBuf>,
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
            Self::Attack { file, seeds, out } => attack(&file, seeds.max(1), out.as_deref()),
            Self::Economy { file, seeds, out } => economy(&file, seeds.max(1), out.as_deref()),
            Self::Consensus { seeds, nodes, scenario } => consensus(seeds, nodes, &scenario),
        }
    }
}

/// A file of a person's, as JSON.
fn read(file: &Path) -> Result<Value, CliError> {
    let length = std::fs::metadata(file).map_err(|error| CliError::file(file, &error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(CliError::usage(format!("{} has {length} bytes; {FILE_BYTES_MAX} are read", file.display())));
    }
    let text = std::fs::read_to_string(file).map_err(|error| CliError::file(file, &error))?;
    serde_json::from_str(&text).map_err(|error| CliError::usage(format!("{} is not JSON: {error}", file.display())))
}

/// What was played, and its figures against targets.
type Played = (Outcome, Vec<Accept>);

fn attack(file: &str, seeds: u64, out: Option<&Path>) -> Result<Reply, CliError> {
    let plan = Plan { seeds, series: out.is_some(), epochs: None };
    let lines: Vec<&Line> =
        if file == "all" { LINES.iter().collect() } else { Line::named(file).into_iter().collect() };
    if lines.is_empty() {
        if !Path::new(file).exists() {
            let known = LINES.iter().map(|line| line.id).collect::<Vec<&str>>().join(", ");
            return Err(CliError::usage(format!(
                "{file} is neither a file nor an acceptance line; the lines are {known}, and `all` of them"
            )));
        }
        return own(&read(Path::new(file))?, plan, out, attack::run);
    }
    let mut played: Vec<Played> = Vec::new();
    for line in &lines {
        let outcome = line.play(plan).map_err(|error| CliError::usage(error.to_string()))?;
        let accepted = line.judge(&outcome);
        played.push((outcome, accepted));
    }
    let folders: Vec<PathBuf> = out.iter().flat_map(|out| lines.iter().map(|line| out.join(line.id))).collect();
    report(&played, &folders)
}

fn economy(file: &Path, seeds: u64, out: Option<&Path>) -> Result<Reply, CliError> {
    own(&read(file)?, Plan::seeds(seeds), out, attack::run_economy)
}

/// A document of a person's, held against the targets it names.
fn own(
    document: &Value,
    plan: Plan,
    out: Option<&Path>,
    run: fn(&Value, Plan) -> Result<Outcome, ScenarioError>,
) -> Result<Reply, CliError> {
    let outcome = run(document, plan).map_err(|error| CliError::usage(error.to_string()))?;
    let accepted = outcome.targets(document);
    let folders: Vec<PathBuf> = out.map(Path::to_owned).into_iter().collect();
    report(&[(outcome, accepted)], &folders)
}

/// What is shown of everything that was played; `folders` are where its files go, if anywhere.
fn report(played: &[Played], folders: &[PathBuf]) -> Result<Reply, CliError> {
    let accepted: Vec<&Accept> = played.iter().flat_map(|(_, accepted)| accepted).collect();
    let missed = accepted.iter().any(|accept| accept.missed());
    let table = if accepted.is_empty() { figures(played) } else { targets(&accepted) };
    let reports: Vec<Value> = played.iter().map(|(outcome, _)| outcome.report()).collect();
    let mut data = match reports.as_slice() {
        [only] => only.clone(),
        _ => json!({ "played": reports }),
    };
    if let Some(data) = data.as_object_mut() {
        data.insert("accept".to_owned(), json!(accepted));
    }
    let mut reply = Reply::of(&data).table(table);
    for ((outcome, _), folder) in played.iter().zip(folders) {
        let count = write(outcome, folder)?;
        reply = reply.line(format!("{count} files in {}", folder.display()));
    }
    Ok(if missed { reply.exit(Exit::Findings) } else { reply })
}

fn targets(accepted: &[&Accept]) -> Table {
    let mut table = Table::new(&["line", "figure", ">value", ">low", ">high", "target", "met"]);
    for accept in accepted {
        let number = |value: f64| format!("{value:.4}");
        let met = accept.pass.map_or("-", |pass| if pass { "yes" } else { "no" });
        table.row(vec![
            accept.id.clone(),
            accept.figure.clone(),
            number(accept.value),
            number(accept.low),
            number(accept.high),
            accept.target.clone(),
            met.to_owned(),
        ]);
    }
    table
}

/// Every figure of every point, where no target was named.
fn figures(played: &[Played]) -> Table {
    let mut table = Table::new(&["point", "figure", ">mean", ">low", ">high", ">min", ">max"]);
    for point in played.iter().flat_map(|(outcome, _)| &outcome.points) {
        for (name, of) in &point.metrics {
            let mut row = vec![label(&point.at), name.clone()];
            row.extend([of.mean, of.low, of.high, of.min, of.max].map(|value| format!("{value:.4}")));
            table.row(row);
        }
    }
    table
}

/// Puts tables and pictures of a run into a folder.
fn write(outcome: &Outcome, folder: &Path) -> Result<usize, CliError> {
    std::fs::create_dir_all(folder).map_err(|error| CliError::file(folder, &error))?;
    let mut files = plot::tables(outcome);
    files.extend(plot::pictures(outcome));
    for (name, text) in &files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| CliError::file(&path, &error))?;
    }
    Ok(files.len())
}

fn epoch(file: &Path) -> Result<Reply, CliError> {
    let document = read(file)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s01_an_unknown_line_is_refused_with_the_names_of_all() {
        let refused = attack("A99", 1, None).unwrap_err().to_string();
        assert!(refused.contains("A99 is neither a file nor an acceptance line"), "{refused}");
        assert!(LINES.iter().all(|line| refused.contains(&format!(" {},", line.id))), "{refused}");
    }

    #[test]
    fn s01_the_network_that_ships_plays_and_meets_its_targets() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sim/economy.json");
        let mut document = read(&file).unwrap();
        document["terms"] = json!(50);
        let outcome = attack::run_economy(&document, Plan::seeds(1)).unwrap();
        let found = outcome.targets(&document);
        assert_eq!(found.len(), 2 * 4, "two targets at four points");
        assert!(found.iter().all(|accept| accept.pass == Some(true)), "{found:?}");
    }
}
