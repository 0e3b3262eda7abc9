//! `status` and `top`: how a node is, once or continuously.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::client::Client;
use super::context::{Context, pause};
use super::error::{CliError, Exit};
use super::output::{Format, Ink, Reply, Table, ago, maybe, size};
use crate::protocol::report::{CommitteeReport, MetagraphReport, NodeState, NodeStatus, PeersReport};

/// `starling status`
#[derive(Args, Debug)]
pub struct Status {
    /// Look again every second until interrupted
    #[arg(long, short)]
    watch: bool,
}

/// `starling top`
#[derive(Args, Debug)]
pub struct Top {
    /// Milliseconds between two looks
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    every: u64,
}

impl Status {
    /// Exit 0 ready, 11 when behind, 6 when nobody answers.
    pub(super) fn run(self, context: &Context) -> Result<Option<Reply>, CliError> {
        let client = context.client()?;
        if self.watch {
            return watch(context, Duration::from_secs(1), |ink| Ok(reply(&client.get("/api/v1/status")?, ink)));
        }
        let status: NodeStatus = client.get("/api/v1/status")?;
        let reply = reply(&status, context.printer.ink());
        Ok(Some(match status.state {
            NodeState::Ready => reply,
            NodeState::Starting | NodeState::Syncing => reply.exit(Exit::NotSynced),
            NodeState::Stalled | NodeState::Halted => reply.exit(Exit::Failed),
        }))
    }
}

impl Top {
    pub(super) fn run(self, context: &Context) -> Result<Option<Reply>, CliError> {
        let client = context.client()?;
        watch(context, Duration::from_millis(self.every.clamp(100, 60_000)), |ink| overview(&client, ink))
    }
}

/// Shows a reply again and again: in place on a terminal, as JSON lines or plain text otherwise.
fn watch(
    context: &Context,
    every: Duration,
    mut look: impl FnMut(Ink) -> Result<Reply, CliError>,
) -> Result<Option<Reply>, CliError> {
    let printer = context.printer;
    let live = printer.format == Format::Table && std::io::IsTerminal::is_terminal(&std::io::stdout());
    loop {
        let shown = match look(printer.ink()) {
            Ok(reply) if printer.format == Format::Table => {
                let text = reply.text(printer.ink());
                // Home, rewrite each line to its end, clear what is left below: no flicker, and nothing to restore.
                if live { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text + "\n" }
            }
            Ok(reply) => format!("{}\n", json!({ "type": "status", "data": reply.data() })),
            // A node that goes away while it is watched is what one watches for.
            Err(error) if error.retryable && live => format!("\x1b[H{}\x1b[K\n\x1b[J", error.message),
            Err(error) => return Err(error),
        };
        if printer.raw(&shown).is_err() {
            return Ok(None);
        }
        pause(every);
    }
}

fn word(state: NodeState, ink: Ink) -> String {
    let text = state.to_string();
    match state {
        NodeState::Ready => ink.good(&text),
        NodeState::Starting | NodeState::Syncing => ink.bold(&text),
        NodeState::Stalled | NodeState::Halted => ink.bad(&text),
    }
}

/// The status in words.
pub fn reply(status: &NodeStatus, ink: Ink) -> Reply {
    let name = if status.name.is_empty() { status.node.short() } else { status.name.clone() };
    let height = match status.height {
        0 => "0 (genesis)".to_owned(),
        height => format!("{height}, finalised {} ago", ago(status.finalised_age_ms)),
    };
    let mut reply =
        Reply::of(status).line(format!("{} is {} on {}", ink.bold(&name), word(status.state, ink), status.network));
    reply = reply.facts([
        ("height", height),
        ("checkpoint", status.finalised.to_string()),
        ("peers", status.peers.to_string()),
        ("roles", status.roles.join(", ")),
        ("votes", if status.votes { "yes, sits in the committee".to_owned() } else { String::new() }),
        ("account", status.account.map(|a| a.to_string()).unwrap_or_default()),
        ("up for", ago(status.uptime_s * 1_000)),
        ("memory", if status.rss_bytes > 0 { size(status.rss_bytes) } else { String::new() }),
        ("version", status.version.clone()),
    ]);
    for note in &status.notes {
        reply = reply.line(format!("  {} {note}", ink.bad("!")));
    }
    if !status.subnets.is_empty() {
        let mut table = Table::new(&[">id", "subnet", "task", ">epoch", ">miners", ">validators"]);
        for subnet in &status.subnets {
            table.row(vec![
                subnet.id.to_string(),
                subnet.name.clone(),
                subnet.task.clone(),
                subnet.epoch.to_string(),
                subnet.miners.to_string(),
                subnet.validators.to_string(),
            ]);
        }
        reply = reply.heading("Subnets").table(table);
    }
    match status.state {
        NodeState::Ready => reply.hint("starling subnet metagraph NAME   who earns what"),
        NodeState::Starting | NodeState::Syncing => reply.hint("starling status --watch   see it catch up"),
        NodeState::Stalled => reply.hint("starling doctor net   find out why nothing is finalised"),
        NodeState::Halted => reply.hint("read the node's log: it stopped on purpose"),
    }
}

/// Everything on one screen.
fn overview(client: &Client, ink: Ink) -> Result<Reply, CliError> {
    let status: NodeStatus = client.get("/api/v1/status")?;
    let committee: CommitteeReport = client.get("/api/v1/committee")?;
    let peers: PeersReport = client.get("/api/v1/peers")?;
    let mut graphs = Vec::new();
    for subnet in &status.subnets {
        graphs.push(client.get::<MetagraphReport>(&format!("/api/v1/subnets/{}/metagraph", subnet.id))?);
    }
    let name = if status.name.is_empty() { status.node.short() } else { status.name.clone() };
    let mut head = format!("{} {} · {}", ink.bold(&name), word(status.state, ink), status.network);
    let age = ago(status.finalised_age_ms);
    let _ = write!(
        head,
        " · height {} ({age} ago) · {} peers · up {}",
        status.height,
        status.peers,
        ago(status.uptime_s * 1_000)
    );
    let data = json!({ "status": status, "committee": committee, "peers": peers, "metagraphs": graphs });
    let mut reply = Reply::of(&data).line(head);
    let mut table = Table::new(&[">#", "member", ">share", "signed the last"]).or("no committee");
    for row in &committee.members {
        let mark = if row.signed_last { "yes" } else { "no" };
        let own = if row.local { " (this node)" } else { "" };
        table.row(vec![
            row.index.to_string(),
            format!("{}{own}", row.account.short()),
            row.share.to_string(),
            mark.into(),
        ]);
    }
    reply = reply.heading(format!("Committee of term {}", committee.term)).table(table);
    for graph in &graphs {
        reply = reply
            .heading(format!("Subnet {} ({}), epoch {}", graph.name, graph.task, graph.epoch))
            .table(super::subnet::miners_table(graph));
    }
    let mut table = Table::new(&["peer", "roles", ">height", ">ms", ">score", "address"]).or("no peers");
    for peer in peers.peers.iter().take(12) {
        table.row(vec![
            peer.node.short(),
            peer.roles.join(","),
            maybe(peer.height),
            maybe(peer.latency_ms),
            peer.score.to_string(),
            peer.address.clone(),
        ]);
    }
    reply = reply.heading(format!("Peers ({})", peers.peers.len())).table(table);
    Ok(status.notes.iter().fold(reply, |reply, note| reply.line(format!("  {} {note}", ink.bad("!")))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::report::SubnetBrief;

    #[test]
    fn status_reads_like_a_sentence() {
        let status = NodeStatus {
            name: "validator-0".into(),
            network: "devnet".into(),
            state: NodeState::Ready,
            height: 128,
            finalised_age_ms: 420,
            peers: 9,
            roles: vec!["validator".into()],
            uptime_s: 128,
            subnets: vec![SubnetBrief {
                name: "vision".into(),
                task: "vision".into(),
                epoch: 12,
                ..Default::default()
            }],
            notes: vec!["the clock is 3 s off".into()],
            ..Default::default()
        };
        let text = reply(&status, Ink(false)).text(Ink(false));
        assert!(text.starts_with("validator-0 is ready on devnet\n"), "{text}");
        for part in
            ["height      128, finalised 420 ms ago", "up for      2 min 8 s", "! the clock is 3 s off", "next: "]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("account") && !text.contains("votes"));
    }
}
