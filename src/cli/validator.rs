//! `validator`: what each validator thinks of each miner.

use std::collections::BTreeSet;

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::output::{Reply, Table};
use crate::protocol::ids::MemberId;
use crate::protocol::report::{Share, WeightsReport, WeightsRow};

#[derive(Subcommand, Debug)]
pub enum Validator {
    /// Weight vectors
    #[command(subcommand)]
    Weights(Weights),
}

#[derive(Subcommand, Debug)]
pub enum Weights {
    /// The last revealed weights of every validator of a subnet
    Show {
        /// Name or number
        subnet: String,
    },
}

impl Validator {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        let Self::Weights(Weights::Show { subnet }) = self;
        let path = format!("/api/v1/weights/{}", super::subnet::segment(&subnet)?);
        Ok(reply(&context.client()?.get(&path)?))
    }
}

fn cell(row: &WeightsRow, miner: MemberId) -> String {
    let total: u64 = row.weights.iter().map(|w| u64::from(w.weight)).sum();
    let weight = row.weights.iter().find(|w| w.miner == miner).map(|w| u64::from(w.weight));
    weight.map_or_else(|| "-".to_owned(), |w| Share::of(w, total).to_string())
}

/// One line for each miner, one column for each validator: agreement is read along a line.
fn reply(report: &WeightsReport) -> Reply {
    let miners: BTreeSet<MemberId> = report.validators.iter().flat_map(|v| v.weights.iter().map(|w| w.miner)).collect();
    let mut table = Table::new(&["validator", ">stake", ">epoch", ">committed", ">revealed"]).or("no validators yet");
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for v in &report.validators {
        let name = format!("member {} ({})", v.validator, v.account.short());
        table.row(vec![name, v.stake.to_string(), number(v.epoch), number(v.committed_at), number(v.revealed_at)]);
    }
    let mut shares = Table::new(&["miner", "by validator"]).or("no weights were revealed yet");
    for miner in miners {
        let cells: Vec<String> =
            report.validators.iter().map(|v| format!("{}: {:>8}", v.validator, cell(v, miner))).collect();
        shares.row(vec![format!("member {miner}"), cells.join("   ")]);
    }
    Reply::of(report)
        .line(format!("Weights of subnet {} for epoch {}", report.name, report.epoch))
        .table(table)
        .heading("Shares")
        .table(shares)
}

#[cfg(test)]
mod tests {
    use super::super::output::Ink;
    use super::*;
    use crate::protocol::report::WeightEntry;

    #[test]
    fn weights_are_shown_as_shares_of_each_vector() {
        let weights = vec![
            WeightEntry { miner: MemberId(4), weight: 65_535 },
            WeightEntry { miner: MemberId(5), weight: 65_535 },
        ];
        let row = WeightsRow { validator: MemberId(1), weights, epoch: Some(3), ..WeightsRow::default() };
        let text = reply(&WeightsReport { validators: vec![row], ..WeightsReport::default() }).text(Ink(false));
        assert_eq!(text.matches("1:  50.00 %").count(), 2, "{text}");
    }
}
