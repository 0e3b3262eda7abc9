//! `peer`: whom a node is connected to, and under which addresses it is reached itself.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::output::{Reply, Table, ago, maybe};
use crate::protocol::report::PeersReport;

#[derive(Subcommand, Debug)]
pub enum Peer {
    /// The peers of a node
    List,
    /// A node's own names, and addresses to give to others
    Id,
}

impl Peer {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        let peers: PeersReport = context.client()?.get("/api/v1/peers")?;
        Ok(match self {
            Self::List => list(&peers),
            Self::Id => id(&peers),
        })
    }
}

fn list(report: &PeersReport) -> Reply {
    let mut table = Table::new(&["node", "way", "roles", ">height", ">latency", ">score", ">for", "address"])
        .or("no peers: check `starling doctor net` and network.bootnodes");
    for p in &report.peers {
        table.row(vec![
            p.node.short(),
            if p.outbound { "out" } else { "in" }.into(),
            p.roles.join(","),
            maybe(p.height),
            p.latency_ms.map_or_else(|| "-".into(), |ms| format!("{ms} ms")),
            p.score.to_string(),
            ago(p.connected_s * 1_000),
            p.address.clone(),
        ]);
    }
    Reply::of(report).table(table)
}

fn id(report: &PeersReport) -> Reply {
    let mut reply = Reply::of(&serde_json::json!({
        "node": report.node, "peer_id": report.peer_id, "listening": report.listening,
    }))
    .facts([("node", report.node.to_string()), ("peer id", report.peer_id.clone())])
    .heading("Addresses");
    for address in &report.listening {
        reply = reply.line(format!("  {address}"));
    }
    reply.hint("others join by one of these: network.bootnodes, or starling up --bootnode ADDRESS")
}
