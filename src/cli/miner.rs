//! `miner`: what the miners inside a node do and earn.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::output::{Reply, Table, maybe};
use crate::protocol::report::MinerReport;

#[derive(Subcommand, Debug)]
pub enum Miner {
    /// What each miner of this node does
    Status,
    /// What the account's miners were paid, by subnet and epoch
    Earnings,
}

impl Miner {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        if matches!(self, Self::Earnings) {
            return super::statement::earnings(context);
        }
        let report: MinerReport = context.client_of("miner")?.get("/api/v1/miner")?;
        let mut table = Table::new(&[
            "subnet",
            ">member",
            "state",
            "model",
            ">answered",
            ">refused",
            ">failed",
            ">rank",
            ">incentive",
            ">earned",
        ])
        .or("this node runs no miner: add the role and a [[miner.entries]] table to its configuration");
        for m in &report.miners {
            let state = m.progress.map_or_else(|| m.state.clone(), |p| format!("{} {p}", m.state));
            table.row(vec![
                m.name.clone(),
                maybe(m.member),
                state,
                m.model.map_or_else(|| "-".into(), |d| d.short()),
                m.answered.to_string(),
                m.refused.to_string(),
                m.failed.to_string(),
                m.rank.map_or_else(|| "-".into(), |r| format!("{r} of {}", m.of)),
                m.incentive.to_string(),
                m.earned.to_string(),
            ]);
        }
        let mut reply = Reply::of(&report).table(table);
        for miner in &report.miners {
            for note in &miner.notes {
                reply = reply.line(format!("  {}: {note}", miner.name));
            }
        }
        Ok(match report.miners.first() {
            Some(first) => reply.hint(format!("starling subnet metagraph {}   how the others do", first.name)),
            None => reply,
        })
    }
}
