//! The live view of a running devnet: heights that go up, miners and what they earn. In place on a terminal, a plain line
//! every few seconds elsewhere. Ends when the person wants it to, or when every node is gone.

use std::time::{Duration, Instant};

use super::eyes::{Eyes, View};
use super::interrupt::Interrupt;
use super::processes::Children;
use super::progress::PLAIN_EVERY;
use super::record::Record;
use super::up::on_screen;
use super::{enrol, plan, status};
use crate::cli::error::CliError;
use crate::cli::output::{Format, Printer, Reply, Table, ago, maybe};
use crate::protocol::report::MetagraphReport;

const EVERY: Duration = Duration::from_secs(1);
/// Tables of pay change once an epoch.
const TABLES_EVERY: Duration = Duration::from_secs(3);
/// Heights after which latecomers join when the run has no end to take a third of.
const LATE_HEIGHT: u64 = 30;

/// Shows it until it is over.
///
/// # Errors
/// A latecomer is refused its seat.
pub fn show(
    printer: Printer,
    record: &Record,
    eyes: &Eyes,
    children: &mut Children,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let screen = on_screen(printer.format) && !printer.quiet;
    let mut late = enrol::Enrolment::new(record, |node| node.miner.as_ref().is_some_and(plan::MinerPlan::is_late));
    let (mut tables, mut read, mut said): (Vec<MetagraphReport>, Option<Instant>, Instant) =
        (vec![], None, Instant::now());
    if screen && printer.raw("\x1b[2J").is_err() {
        return Ok(());
    }
    while !interrupt.wait(EVERY) {
        children.reap();
        let views = eyes.look(false);
        if views.iter().all(|view| view.pid.is_none()) {
            printer.note("every node has stopped");
            return Ok(());
        }
        let height = views.iter().map(View::height).max().unwrap_or(0);
        if height >= LATE_HEIGHT
            && !late.is_done()
            && let Some(client) = eyes.any("gateway")
        {
            match late.step(client, |_| true) {
                Err(error) if !error.retryable => return Err(error),
                _ => {}
            }
        }
        if screen && read.is_none_or(|at| at.elapsed() >= TABLES_EVERY) {
            read = Some(Instant::now());
            tables = plan::markets(&record.wishes).iter().filter_map(|(subnet, _)| eyes.metagraph(*subnet)).collect();
        }
        if screen {
            let text = screenful(record, &views, &tables).text(printer.ink());
            // Home, each line to its end, clear what is left below: no flicker.
            if printer.raw(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))).is_err() {
                return Ok(());
            }
        } else if printer.format == Format::Table && said.elapsed() >= PLAIN_EVERY {
            said = Instant::now();
            printer.note(&line(&views));
        }
    }
    Ok(())
}

fn line(views: &[View]) -> String {
    let height = views.iter().map(View::height).max().unwrap_or(0);
    let ready = views.iter().filter(|view| view.is_ready()).count();
    let finality = views.iter().filter_map(|v| v.head.as_ref()?.finality_ms).max();
    format!("height {height}, {ready} of {} nodes ready, finality {} ms", views.len(), maybe(finality))
}

fn screenful(record: &Record, views: &[View], tables: &[MetagraphReport]) -> Reply {
    let height = views.iter().map(View::height).max().unwrap_or(0);
    let age = views.iter().filter_map(|v| v.status.as_ref()).map(|s| s.finalised_age_ms).min().unwrap_or(0);
    let head = format!("devnet at height {height}, finalised {} ago; gateway {}", ago(age), record.gateway.url);
    let mut reply = Reply::default().heading(head).table(status::nodes_table(record, views));
    for table in tables {
        reply = reply.heading(format!("{} (epoch {})", table.name, table.epoch)).table(miners(record, table));
        if record.nodes.iter().any(|node| node.manner.is_some()) {
            reply = reply.table(validators(record, table));
        }
    }
    reply.hint("starling ask \"The hacker said\"   asks it; Ctrl-C stops it")
}

/// Miners, best paid first, by the names of their nodes.
fn miners(record: &Record, graph: &MetagraphReport) -> Table {
    let mut rows: Vec<_> = graph.rows.iter().filter(|row| row.role == "miner").collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.incentive), std::cmp::Reverse(row.earned), row.member));
    let mut table =
        Table::new(&["miner", "behaviour", ">score", ">incentive", ">last epoch", ">earned"]).or("no miners yet");
    for row in rows {
        let node = record.nodes.iter().find(|node| node.account == row.account);
        let name = node.map_or_else(|| row.account.short(), |node| node.name.clone());
        let behaviour = node.map(super::record::NodeRecord::behaviour);
        table.row(vec![
            name,
            behaviour.unwrap_or_default(),
            maybe(row.score),
            row.incentive.to_string(),
            row.earned_last_epoch.to_string(),
            row.earned.to_string(),
        ]);
    }
    table
}

/// Validators, best paid first: those that cheat are watched losing.
fn validators(record: &Record, graph: &MetagraphReport) -> Table {
    let mut rows: Vec<_> = graph.rows.iter().filter(|row| row.role == "validator").collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.earned), row.member));
    let mut table =
        Table::new(&["validator", "behaviour", ">stake", ">dividend", ">earned", ">freshness", ">missed", ">bond"])
            .or("none yet");
    for row in rows {
        let node = record.nodes.iter().find(|node| node.account == row.account);
        table.row(vec![
            node.map_or_else(|| row.account.short(), |node| node.name.clone()),
            node.map(super::record::NodeRecord::behaviour).unwrap_or_default(),
            row.stake.to_string(),
            row.dividends.to_string(),
            row.earned.to_string(),
            maybe(row.freshness.map(|fresh| format!("{fresh:+.2}"))),
            row.missed.to_string(),
            row.bond.to_string(),
        ]);
    }
    table
}
