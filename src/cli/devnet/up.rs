//! `devnet up`: plans, starts, waits until it works, then watches it live, or until a height, or leaves it running.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::eyes::Eyes;
use super::interrupt::Interrupt;
use super::processes::{self, Children};
use super::progress::Progress;
use super::ready::Scene;
use super::record::Record;
use super::summary::{Summary, summarise};
use super::{Sizes, layout, live, now, remove, run, status};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Format, Reply, Table, ago, maybe, size};
use crate::protocol::ids::Height;

#[derive(Args, Debug)]
pub struct Up {
    #[command(flatten)]
    sizes: Sizes,
    /// Port of the gateway; 0 for any free one [default: 8080, another when it is taken]
    #[arg(long, value_name = "PORT")]
    gateway_port: Option<u16>,
    /// Start anew, run until this height is final, print a summary and stop
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000), conflicts_with = "detach")]
    heights: Option<Height>,
    /// Return when it is ready and leave it running
    #[arg(long)]
    detach: bool,
}

impl Up {
    /// # Errors
    /// A devnet runs there already, a port is taken, a node does not start, or the run showed a failure (exit 1).
    pub fn run(self, context: &Context, dir: &Path) -> Result<Option<Reply>, CliError> {
        let record = self.prepare(context, dir)?;
        let interrupt = Interrupt::listen()?;
        let mut children = Children::default();
        let outcome = self.go(context, &record, &interrupt, &mut children);
        if self.detach && outcome.is_ok() {
            return outcome;
        }
        let stopped = processes::stop(record.processes(), &mut children, &interrupt)?;
        if stopped.asked > 0 {
            context.printer.note(&stopped.words());
        }
        outcome
    }

    /// The devnet of the folder, new or as it was stopped.
    fn prepare(&self, context: &Context, dir: &Path) -> Result<Record, CliError> {
        let (wishes, port, named) = self.sizes.settle(context, self.gateway_port)?;
        if let Some(old) = Record::find(dir)? {
            let living = processes::living(&old).len();
            if living > 0 {
                let message =
                    format!("a devnet runs in {} already: {living} of {} nodes", dir.display(), old.nodes.len());
                let help = "`starling devnet status` shows it, `starling devnet down` stops it; or name another folder with --dir";
                return Err(CliError::new(Exit::Failed, message, help).coded("already_running"));
            }
            if self.heights.is_none() {
                return self.resume(old, &wishes);
            }
            // A run that is measured starts from its own genesis.
            context.printer.note(&format!("starting anew: the stopped devnet in {} is removed", dir.display()));
            remove(&old)?;
        }
        let port = match layout::gateway_port(port) {
            Err(_) if !named => {
                let free = layout::gateway_port(0)?;
                context.printer.note(&format!("port {port} is in use by another program; the gateway takes {free}"));
                free
            }
            other => other?,
        };
        layout::processes(dir, &wishes, port, now())
    }

    fn resume(&self, old: Record, wishes: &super::plan::Wishes) -> Result<Record, CliError> {
        let asked = self.sizes.validators.is_some()
            || self.sizes.miners.is_some()
            || self.sizes.seed.is_some()
            || self.sizes.with.is_some()
            || self.sizes.tempo.is_some()
            || self.sizes.pace.is_some();
        let anew = "`starling devnet reset` forgets it; or name another folder with --dir";
        if asked && old.wishes != *wishes {
            let message = format!("the stopped devnet in {} has other nodes than asked for", old.dir.display());
            return Err(CliError::new(Exit::Failed, message, anew));
        }
        for node in &old.nodes {
            if !node.data_dir.join("config.toml").is_file() {
                let message =
                    format!("the devnet in {} is incomplete: {} has no configuration", old.dir.display(), node.name);
                return Err(CliError::new(Exit::Failed, message, anew));
            }
            if let Some(port) = node.ports.iter().find(|port| !layout::port_is_free(**port)) {
                let message = format!("port {port} of {} is in use by another program", node.name);
                return Err(CliError::new(Exit::Failed, message, anew).coded("port_in_use"));
            }
        }
        Ok(old)
    }

    fn go(
        &self,
        context: &Context,
        record: &Record,
        interrupt: &Interrupt,
        children: &mut Children,
    ) -> Result<Option<Reply>, CliError> {
        let printer = context.printer;
        let began = Instant::now();
        for engine in &record.engines {
            layout::teach(record, engine)?;
        }
        for node in record.engines.iter().chain(&record.nodes) {
            children.start(node)?;
        }
        let eyes = Eyes::new(record)?;
        let mut progress = Progress::new(printer);
        let mut scene =
            Scene { record, eyes: &eyes, children, interrupt, progress: &mut progress, stays: !self.detach };
        scene.until_ready()?;
        let ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(heights) = self.heights {
            let seen = run::watch(&mut scene, heights)?;
            // The nodes go first: judging models takes the cores they would want.
            let stopped = processes::stop(record.processes(), children, interrupt)?;
            printer.note(&stopped.words());
            let (known, mut problems) = run::known(record);
            let mut summary = summarise(seen, &known);
            summary.failures.append(&mut problems);
            if stopped.killed > 0 {
                summary.failures.push(stopped.words());
            }
            return Ok(Some(report(&summary, record, ready_ms)));
        }
        let views = eyes.look(false);
        let reply = status::reply(record, &views)
            .hint("starling ask \"The hacker said\"      asks the swarm")
            .hint(format!("curl {}/v1/models", record.gateway.url));
        let reply = if self.detach {
            reply.hint("starling devnet status | down | logs NODE | chaos kill NODE")
        } else {
            reply.hint("Ctrl-C stops every node")
        };
        if self.detach {
            printer.note(&format!("ready after {}", ago(ready_ms)));
            return Ok(Some(reply));
        }
        if printer.reply(&reply).is_err() {
            return Ok(None);
        }
        printer.note(&format!("ready after {}", ago(ready_ms)));
        live::show(printer, record, &eyes, children, interrupt).map(|()| None)
    }
}

/// The summary as a reply; exit 1 when something is not as it must be.
fn report(summary: &Summary, record: &Record, ready_ms: u64) -> Reply {
    let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v} ms"));
    let queries = &summary.queries;
    let supply = &summary.supply;
    let data = json!({ "summary": summary, "ready_ms": ready_ms, "dir": record.dir });
    let mut reply = Reply::of(&data).heading("Summary").facts([
        ("height", format!("{} after {} s, ready after {}", summary.height, summary.seconds, ago(ready_ms))),
        ("finality", format!("p50 {}, p99 {}", ms(summary.finality_ms.p50), ms(summary.finality_ms.p99))),
        ("queries", format!("{} asked, {} answered, {} failed", queries.asked, queries.answered, queries.failed)),
        (
            "supply",
            format!(
                "{}: {} = {} + {} - {}",
                if supply.ok { "ok" } else { "WRONG" },
                supply.total,
                supply.genesis,
                supply.minted,
                supply.burned
            ),
        ),
        (
            "statements",
            format!(
                "{} lines of {} accounts, {} differ from what is held",
                summary.statements.lines, summary.statements.accounts, summary.statements.differences
            ),
        ),
        ("memory", format!("{} at most in one node", size(summary.rss_bytes_max))),
    ]);
    for subnet in &summary.subnets {
        let rank = maybe(subnet.spearman.map(|r| format!("{r:.2}")));
        reply = reply.heading(format!("{}: {} paid epochs, pay follows quality by {rank}", subnet.name, subnet.epochs));
        let mut table = Table::new(&["node", "behaviour", ">true quality", ">score", ">incentive", ">earned"]);
        for miner in &subnet.miners {
            table.row(vec![
                miner.node.clone(),
                miner.behaviour.clone(),
                format!("{:.3}", miner.true_quality),
                maybe(miner.score),
                format!("{:.2} %", miner.incentive * 100.0),
                miner.display.clone(),
            ]);
        }
        reply = reply.table(table);
        let mut table =
            Table::new(&["validator", "behaviour", ">stake", ">dividend", ">earned", ">freshness", ">missed", ">bond"]);
        for validator in &subnet.validators {
            table.row(vec![
                validator.node.clone(),
                validator.behaviour.clone(),
                validator.stake.to_string(),
                format!("{:.2} %", validator.dividend * 100.0),
                validator.display.clone(),
                maybe(validator.freshness.map(|fresh| format!("{fresh:+.2}"))),
                validator.missed.to_string(),
                validator.bond.to_string(),
            ]);
        }
        reply = reply.table(table);
    }
    for failure in &summary.failures {
        reply = reply.line(format!("FAILED: {failure}"));
    }
    if summary.failures.is_empty() { reply } else { reply.exit(Exit::Failed) }
}

/// Whether people look at the screen of this reply.
pub fn on_screen(format: Format) -> bool {
    format == Format::Table && std::io::IsTerminal::is_terminal(&std::io::stdout())
}
