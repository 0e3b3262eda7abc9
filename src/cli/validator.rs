//! `validator`: what each validator thinks of each miner, whether its logs say the same, and what it owes.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};

use super::context::Context;
use super::error::{CliError, Exit};
use super::mutate;
use super::output::{Reply, Table, maybe};
use crate::protocol::ids::{AccountId, Digest, Epoch, MemberId};
use crate::protocol::report::{
    DutiesReport, DutyRow, HistoryReport, HistoryRow, ReplayReport, Share, WeightEntry, WeightsReport, WeightsRow,
};
use crate::protocol::score_log::Echo;

#[derive(Subcommand, Debug)]
pub enum Validator {
    /// Weight vectors
    #[command(subcommand)]
    Weights(Weights),
    /// Do an epoch's sums again, from the logs its validators serve; exit 12 when a row is not what its log gives
    Replay(Replay),
    /// Ask a validator for an entry of its score log; it must answer in time, or loses a part of its bond
    Challenge {
        /// The validator's member number
        validator: u32,
        /// The epoch whose weights were revealed
        epoch: Epoch,
        /// Which leaf: 0 is the head of the log, the questions follow
        entry: u64,
        /// Name or number
        #[arg(long, value_name = "SUBNET")]
        subnet: String,
    },
    /// What a validator must do in which window, and what it missed
    Duties {
        /// Whose [default: the account of the node asked]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
}

#[derive(Args, Debug)]
pub struct Replay {
    /// The epoch whose weights were revealed
    epoch: Epoch,
    /// Name or number
    #[arg(long, value_name = "SUBNET")]
    subnet: String,
    /// One validator, by its member number [default: all that revealed]
    #[arg(long, value_name = "MEMBER")]
    validator: Option<u32>,
}

#[derive(Subcommand, Debug)]
pub enum Weights {
    /// The last revealed weights of every validator of a subnet
    Show {
        /// Name or number
        subnet: String,
    },
    /// Who revealed what in the last epochs
    History {
        /// Name or number
        subnet: String,
        /// How many epochs back
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
        epochs: u64,
        /// One validator, by its member number
        #[arg(long, value_name = "MEMBER")]
        validator: Option<u32>,
    },
}

impl Validator {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::Weights(Weights::Show { subnet }) => {
                let path = format!("/api/v1/weights/{}", super::subnet::segment(&subnet)?);
                Ok(reply(&context.client()?.get(&path)?))
            }
            Self::Weights(Weights::History { subnet, epochs, validator }) => {
                let name = super::subnet::segment(&subnet)?;
                let path = format!("/api/v1/weights/{name}/history?epochs={epochs}");
                Ok(history(context.client()?.get(&path)?, validator.map(MemberId)))
            }
            Self::Replay(Replay { epoch, subnet, validator }) => {
                let name = super::subnet::segment(&subnet)?;
                let only = validator.map(|member| format!("?validator={member}")).unwrap_or_default();
                Ok(replayed(&context.client()?.get(&format!("/api/v1/replay/{name}/{epoch}{only}"))?))
            }
            Self::Challenge { validator, epoch, entry, subnet } => {
                mutate::challenge(context, &subnet, (MemberId(validator), epoch, entry))
            }
            Self::Duties { account } => {
                let only = match account {
                    Some(text) => {
                        let id = text.parse::<AccountId>();
                        let id = id.map_err(|e| CliError::usage(format!("\"{text}\" is no account: {e}")))?;
                        format!("?account={id}")
                    }
                    None => String::new(),
                };
                Ok(duties(&context.client()?.get(&format!("/api/v1/duties{only}"))?))
            }
        }
    }
}

fn history(report: HistoryReport, only: Option<MemberId>) -> Reply {
    let rows: Vec<HistoryRow> =
        report.rows.into_iter().filter(|row| only.is_none_or(|member| row.validator == member)).collect();
    let report = HistoryReport { rows, ..report };
    let mut table = Table::new(&[">epoch", ">validator", ">revealed", "score log", "shares"])
        .or("nobody revealed weights in these epochs");
    for row in &report.rows {
        let total: u64 = row.weights.iter().map(|w| u64::from(w.weight)).sum();
        let share = |w: &WeightEntry| format!("{}: {}", w.miner, Share::of(u64::from(w.weight), total));
        let log = match row.log_root {
            Digest::ZERO => "none".to_owned(),
            root => format!("{} ({} questions)", root.short(), row.log_len.saturating_sub(1)),
        };
        let shares: Vec<String> = row.weights.iter().take(8).map(share).collect();
        let more = if row.weights.len() > 8 { " ..." } else { "" };
        table.row(vec![
            row.epoch.to_string(),
            row.validator.to_string(),
            row.revealed_at.to_string(),
            log,
            shares.join("  ") + more,
        ]);
    }
    Reply::of(&report).line(format!("Weights of {}; epoch {} is open", report.name, report.epoch)).table(table)
}

fn replayed(report: &ReplayReport) -> Reply {
    let mut table = Table::new(&[">validator", ">questions", ">judged again", "chained", "verdict"]);
    for row in &report.rows {
        let verdict = if row.ok { "the same".to_owned() } else { format!("DIFFERS: {}", row.difference) };
        let chained = if row.chained { "yes" } else { "unknown" };
        table.row(vec![
            row.validator.to_string(),
            row.entries.to_string(),
            row.judged.to_string(),
            chained.to_owned(),
            verdict,
        ]);
    }
    let mut reply =
        Reply::of(report).line(format!("Epoch {} of {}, done again", report.epoch, report.name)).table(table);
    // Every validator asks its own questions: the member that echoes most is shown as the one who saw most has it.
    let mut echoes: BTreeMap<MemberId, &Echo> = BTreeMap::new();
    for echo in report.rows.iter().flat_map(|row| &row.echoes) {
        let seen = echoes.entry(echo.member).or_insert(echo);
        if echo.shared > seen.shared {
            *seen = echo;
        }
    }
    for Echo { member, answers, shared, with, .. } in echoes.into_values() {
        let with = with.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        reply = reply.line(format!("member {member}: {shared} of {answers} answers are also those of member {with}"));
    }
    if report.ok { reply } else { reply.exit(Exit::Findings) }
}

fn duties(report: &DutiesReport) -> Reply {
    let mut table = Table::new(&["subnet", ">validator", ">epoch", "commit", "reveal", ">missed", ">bond", ">least"])
        .or("this account validates nowhere; `starling subnet register --role validator` takes a seat");
    for row in &report.rows {
        table.row(vec![
            row.name.clone(),
            row.validator.to_string(),
            row.epoch.to_string(),
            commit_words(row, report.height),
            reveal_words(row),
            row.missed.to_string(),
            row.bond.to_string(),
            row.bond_minimum.to_string(),
        ]);
    }
    let late = report.rows.iter().any(|row| row.unrevealed);
    let mut reply = Reply::of(report).line(format!("At height {}", report.height)).table(table);
    for row in &report.rows {
        for line in seat_words(row) {
            reply = reply.line(line);
        }
    }
    if late { reply.hint("a commit that is not opened in its window costs a part of the seat's bond") } else { reply }
}

/// What a person should know of a seat beyond its row.
fn seat_words(row: &DutyRow) -> Vec<String> {
    let mut lines = Vec::new();
    if row.suspended {
        lines.push(format!("{}: suspended until its bond is at least {}", row.name, row.bond_minimum));
    }
    if row.topped_up.0 > 0 {
        let (added, limit) = (row.topped_up, row.top_up_limit);
        lines.push(format!("{}: {added} of at most {limit} added to its bond in sixteen epochs", row.name));
    }
    if row.left_out {
        lines.push(format!(
            "{}: weights of this epoch are left out, because those before were opened too late",
            row.name
        ));
    }
    lines
}

fn commit_words(row: &DutyRow, height: u64) -> String {
    match (row.permit, row.committed) {
        (false, _) => "no permit".to_owned(),
        (true, true) => "done".to_owned(),
        (true, false) if height < row.commit_from => format!("from {} to {}", row.commit_from, row.commit_until),
        (true, false) => format!("due, until {}", row.commit_until),
    }
}

fn reveal_words(row: &DutyRow) -> String {
    match (row.reveals, row.reveal_until, row.unrevealed) {
        (Some(epoch), Some(until), true) => format!("epoch {epoch} due, until {until}"),
        (Some(epoch), Some(_), false) => format!("nothing of epoch {epoch}"),
        _ => format!("none now; last at {}", maybe(row.last_reveal)),
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
    use crate::protocol::report::{Motes, WeightEntry};

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

    #[test]
    fn a_replay_that_differs_ends_with_findings() {
        use crate::protocol::report::ReplayRow;
        let good = ReplayRow { ok: true, judged: 4, ..ReplayRow::default() };
        let bad = ReplayRow { difference: "entry 3 of member 4: score 5".into(), ..ReplayRow::default() };
        let report = ReplayReport { ok: true, rows: vec![good.clone()], ..ReplayReport::default() };
        assert_eq!(replayed(&report).exit_code(), 0);
        let report = ReplayReport { ok: false, rows: vec![good, bad], ..ReplayReport::default() };
        let reply = replayed(&report);
        assert_eq!(reply.exit_code(), 12);
        assert!(reply.text(Ink(false)).contains("DIFFERS: entry 3 of member 4"));
    }

    #[test]
    fn duties_say_what_is_due_until_when() {
        let row = DutyRow {
            permit: true,
            commit_from: 37,
            commit_until: 39,
            reveals: Some(2),
            reveal_until: Some(33),
            unrevealed: true,
            ..DutyRow::default()
        };
        assert!(seat_words(&row).is_empty());
        let poor = DutyRow { suspended: true, left_out: true, topped_up: Motes(1), ..row.clone() };
        assert_eq!(seat_words(&poor).len(), 3);
        assert_eq!(commit_words(&row, 31), "from 37 to 39");
        assert_eq!(commit_words(&row, 38), "due, until 39");
        assert_eq!(commit_words(&DutyRow { committed: true, ..row.clone() }, 38), "done");
        assert_eq!(reveal_words(&row), "epoch 2 due, until 33");
        assert!(reveal_words(&DutyRow { reveal_until: None, ..row }).starts_with("none now"));
    }
}
