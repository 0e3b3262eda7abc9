//! `bench`: what the hot parts of the program cost on this machine.

use clap::Args;
use serde_json::json;

use super::error::CliError;
use super::output::{Reply, Table};
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
        let unknown = |name: &&String| !BENCHES.iter().any(|bench| bench.0 == **name);
        if let Some(name) = self.names.iter().find(unknown) {
            return Err(CliError::usage(format!(
                "nothing is measured under \"{name}\"; `starling bench` lists what is"
            )));
        }
        let results: Vec<Figure> = self.names.iter().filter_map(|name| run(name)).collect();
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

fn list() -> Reply {
    let mut table = Table::new(&["name", "what"]);
    for (name, what, _) in BENCHES {
        table.row(vec![(*name).to_owned(), (*what).to_owned()]);
    }
    let names: Vec<&str> = BENCHES.iter().map(|bench| bench.0).collect();
    Reply::of(&json!({ "names": names })).table(table)
}
