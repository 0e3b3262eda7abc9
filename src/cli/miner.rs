//! `miner`: what the miners inside a node do and earn, and why.

use clap::{Args, Subcommand};

use super::context::Context;
use super::error::CliError;
use super::output::{Reply, Table, maybe};
use crate::protocol::ids::AccountId;
use crate::protocol::report::{AccountReport, MinerReport, SeenRow, Share, WhyReport};

#[derive(Subcommand, Debug)]
pub enum Miner {
    /// What each miner of this node does
    Status,
    /// What the account's miners were paid, by subnet and epoch
    Earnings,
    /// Why a miner earned what it earned in an epoch: from the grant to the motes, and what validators saw
    Why(WhyArgs),
}

#[derive(Args, Debug)]
pub struct WhyArgs {
    /// Name or number [default: the one subnet in which the account mines]
    #[arg(long, value_name = "SUBNET")]
    subnet: Option<String>,
    /// Which epoch, of the last 16 that were settled [default: the last]
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
    /// Whose pay, by its member number [default: the account's miner]
    #[arg(long, value_name = "MEMBER")]
    member: Option<u32>,
    /// Do not fetch the validators' score logs
    #[arg(long)]
    no_logs: bool,
}

impl Miner {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::Earnings => super::statement::earnings(context),
            Self::Why(args) => why(context, &args),
            Self::Status => status(context),
        }
    }
}

fn status(context: &Context) -> Result<Reply, CliError> {
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

/// The subnet and the member that are meant: named, or the only ones the account has.
fn meant(context: &Context, args: &WhyArgs) -> Result<(String, u32), CliError> {
    if let (Some(subnet), Some(member)) = (&args.subnet, args.member) {
        return Ok((subnet.clone(), member));
    }
    let account: AccountId = context.account_info()?.public.into();
    let report: AccountReport = context.client()?.get(&format!("/api/v1/account/{account}"))?;
    let named = |name: &str, id: &dyn std::fmt::Display| {
        args.subnet.as_ref().is_none_or(|wanted| wanted == name || *wanted == id.to_string())
    };
    let mut mines = report.memberships.iter().filter(|seat| seat.role == "miner" && named(&seat.name, &seat.subnet));
    let (first, second) = (mines.next(), mines.next());
    match (first, second, args.member, &args.subnet) {
        (Some(seat), None, member, _) => Ok((seat.name.clone(), member.unwrap_or(seat.member.0))),
        (Some(one), Some(other), ..) => Err(CliError::usage(format!(
            "this account mines in {} and {}; name one with --subnet",
            one.name, other.name
        ))),
        (None, ..) => Err(CliError::usage(format!(
            "account {} mines nowhere that is meant; name a miner with --subnet and --member \
             (`starling subnet metagraph SUBNET` lists them)",
            account.short()
        ))),
    }
}

fn why(context: &Context, args: &WhyArgs) -> Result<Reply, CliError> {
    let (subnet, member) = meant(context, args)?;
    let name = super::subnet::segment(&subnet)?;
    let epoch = args.epoch.map(|epoch| format!("&epoch={epoch}")).unwrap_or_default();
    let path = format!("/api/v1/subnets/{name}/why/{member}?logs={}{epoch}", !args.no_logs);
    Ok(explained(&context.client()?.get(&path)?))
}

/// One screen: the money from the top down, then who gave what, then what they saw, then what to look at.
fn explained(r: &WhyReport) -> Reply {
    let title = format!(
        "Miner {} of {} earned {} in epoch {} (paid at height {})",
        r.member, r.name, r.amount, r.epoch, r.height
    );
    let carried = if r.carried.0 > 0 { format!(", and {} carried from before", r.carried) } else { String::new() };
    let place = format!(
        "{} of the pot: place {} of {}; the best has {}, the middle {}",
        r.incentive, r.rank, r.of, r.best, r.middle
    );
    let paid = match (r.ok, r.deferred) {
        (true, false) => format!("{}, as the statement says", r.paid),
        (true, true) => "nothing: not minted, the miner is the owner's".to_owned(),
        (false, _) => format!("{}, which is not what these sums give: this node's records are damaged", r.paid),
    };
    let mut reply = Reply::of(r).line(title).facts([
        (
            "granted",
            format!(
                "{}: owner {}, miners {}, validators {}",
                r.granted, r.owner_part, r.miners_part, r.validators_part
            ),
        ),
        ("pot", format!("{} for all miners{carried}", r.pot)),
        ("share", place),
        ("paid", paid),
    ]);
    let mut table = Table::new(&[">validator", ">voice", ">gave", ">counted", ">cut", ">lifted", ">pays", ""])
        .or("no validator had a voice in this epoch");
    for row in &r.rows {
        let notes = [(row.related, "related"), (row.missed, "not opened")];
        let notes: Vec<&str> = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
        table.row(vec![
            row.validator.to_string(),
            row.voice.to_string(),
            row.weight.to_string(),
            row.counted.to_string(),
            dash(row.clipped),
            dash(row.lifted),
            row.part.to_string(),
            notes.join(", "),
        ]);
    }
    reply = reply.heading(format!("Who gave what; more than {} does not count", r.consensus)).table(table);
    if !r.seen.is_empty() {
        reply = reply.heading("What they saw").table(seen(&r.seen));
        for row in r.seen.iter().filter(|row| !row.problem.is_empty()) {
            reply = reply.line(format!("  validator {}: {}", row.validator, row.problem));
        }
    }
    if !r.findings.is_empty() {
        reply = reply.heading("What to look at");
        for finding in &r.findings {
            reply = reply.line(format!("  - {finding}"));
        }
    }
    let worst = r.seen.iter().flat_map(|row| row.worst.first().map(|entry| (row, entry))).min_by_key(|(_, e)| e.score);
    match worst {
        Some((row, entry)) => reply.hint(format!(
            "starling validator challenge {} {} {} --subnet {}   makes the validator show its worst question to you",
            row.validator, r.epoch, entry.entry, r.name
        )),
        None => reply.hint(format!("starling validator weights show {}   what everybody got", r.name)),
    }
}

fn dash(share: Share) -> String {
    if share.0 == 0 { "-".to_owned() } else { share.to_string() }
}

fn seen(rows: &[SeenRow]) -> Table {
    let mut table = Table::new(&[
        ">validator",
        ">asked",
        ">answered",
        ">late",
        ">missed",
        ">malformed",
        ">mean",
        ">best miner",
        ">board",
        "worst",
    ]);
    for row in rows.iter().filter(|row| row.problem.is_empty()) {
        let worst = row.worst.first().map(|e| format!("{} ({}, question {})", e.score, e.outcome, e.entry));
        table.row(vec![
            row.validator.to_string(),
            row.asked.to_string(),
            row.answered.to_string(),
            row.late.to_string(),
            row.missed.to_string(),
            row.malformed.to_string(),
            row.mean.to_string(),
            row.best.to_string(),
            row.board.to_string(),
            worst.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table.or("no log could be read")
}

#[cfg(test)]
mod tests {
    use super::super::output::Ink;
    use super::*;
    use crate::protocol::ids::{Digest, MemberId};
    use crate::protocol::report::{Motes, SeenEntry, WhyRow};

    #[test]
    fn e22_low_pay_is_explained_on_one_screen() {
        let half = Share(1 << 31);
        let row = |validator: u32, weight: Share, counted: Share, part: u64| WhyRow {
            validator: MemberId(validator),
            voice: half,
            weight,
            counted,
            clipped: Share(weight.0 - counted.0),
            part: Motes(part),
            ..WhyRow::default()
        };
        let worst = SeenEntry { entry: 12, query: Digest([1; 32]), outcome: "missed".into(), ..SeenEntry::default() };
        let seen = SeenRow {
            validator: MemberId(1),
            asked: 8,
            missed: 3,
            answered: 5,
            worst: vec![worst],
            ..SeenRow::default()
        };
        let gone = SeenRow { validator: MemberId(2), problem: "its node is not known".into(), ..SeenRow::default() };
        let report = WhyReport {
            name: "vision".into(),
            epoch: 7,
            member: MemberId(5),
            amount: Motes(1_500_000_000),
            paid: Motes(1_500_000_000),
            ok: true,
            rows: vec![row(1, Share(3 << 29), Share(1 << 29), 1_500_000_000), row(2, Share(0), Share(0), 0)],
            seen: vec![seen, gone],
            findings: vec!["3 of 8 questions got no answer".into()],
            ..WhyReport::default()
        };
        let text = explained(&report).text(Ink(false));
        assert!(text.lines().count() < 26, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        for part in
            ["as the statement says", "37.50 %", "12.50 %", "25.00 %", "question 12", "validator 2: its node", "3 of 8"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let wrong = explained(&WhyReport { ok: false, ..report }).text(Ink(false));
        assert!(wrong.contains("damaged"), "{wrong}");
    }
}
