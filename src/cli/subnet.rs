//! `subnet`: the markets, who is in them, and how to join one.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::market;
use super::output::{Reply, Table, maybe};
use crate::protocol::report::{MetagraphReport, MetagraphRow, Motes, StandingReport, SubnetReport};

#[derive(Subcommand, Debug)]
pub enum Subnet {
    /// All subnets
    List,
    /// One subnet: its task, its parameters, its pace
    Show {
        /// Name or number
        subnet: String,
    },
    /// Who is in a subnet, what they are worth to it and what they earned
    Metagraph {
        /// Name or number
        subnet: String,
    },
    /// Take a seat in a subnet, or wait for one
    Register(Register),
    /// Give up a registration that waits for a place
    Unqueue(market::Unqueue),
    /// Give up a seat
    Leave(market::Leave),
    /// Who may lose their place, and who waits for one
    EvictionList {
        /// Name or number
        subnet: String,
    },
    /// Open a new subnet, or wait for the place of one
    Create(market::Create),
    /// Change the rules of an own subnet, with notice, or hand it over
    Update(market::Update),
    /// Announce the end of an own subnet
    Close {
        /// Name or number
        subnet: String,
    },
    /// Keep an own subnet whose place somebody wants, by locking as much
    Match {
        /// Name or number
        subnet: String,
    },
    /// Give up an own creation that waits for a place
    Cancel,
}

#[derive(Args, Debug)]
pub struct Register {
    /// Name or number
    pub subnet: String,
    /// What to be there
    #[arg(long, value_enum, default_value_t)]
    pub role: SeatRole,
    /// The node that answers, by its id [default: the node asked]
    #[arg(long, value_name = "NODE")]
    pub node_id: Option<String>,
    /// The most it may cost, in STAR [default: what it costs now]
    #[arg(long, value_name = "STAR")]
    pub max_price: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SeatRole {
    #[default]
    Miner,
    Validator,
}

impl Subnet {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::List => list(context),
            Self::Show { subnet } => show(context, &subnet),
            Self::Metagraph { subnet } => metagraph(context, &subnet),
            Self::Register(register) => market::register(context, &register),
            Self::Unqueue(of) => market::unqueue(context, &of),
            Self::Leave(of) => market::leave(context, &of),
            Self::EvictionList { subnet } => market::eviction_list(context, &subnet),
            Self::Create(of) => market::create(context, &of),
            Self::Update(of) => market::update(context, &of),
            Self::Close { subnet } => market::close(context, &subnet),
            Self::Match { subnet } => market::matched(context, &subnet),
            Self::Cancel => market::cancel(context),
        }
    }
}

/// A subnet's name as one segment of a path.
///
/// # Errors
/// It has characters no subnet's name has.
pub fn segment(subnet: &str) -> Result<&str, CliError> {
    let fits = !subnet.is_empty() && subnet.len() <= 64;
    if fits && subnet.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Ok(subnet);
    }
    Err(CliError::usage(format!("\"{subnet}\" is no name or number of a subnet")))
}

fn list(context: &Context) -> Result<Reply, CliError> {
    let subnets: Vec<SubnetReport> = context.client()?.get("/api/v1/subnets")?;
    let mut table =
        Table::new(&[">id", "name", "task", "kind", ">tempo", ">epoch", ">miners", ">validators", ">per epoch"])
            .or("this network has no subnet yet");
    for s in &subnets {
        table.row(vec![
            s.id.to_string(),
            s.name.clone(),
            s.task.clone(),
            s.kind.clone(),
            s.tempo.to_string(),
            s.epoch.to_string(),
            s.miners.to_string(),
            s.validators.to_string(),
            s.emission_per_epoch.to_string(),
        ]);
    }
    let reply = Reply::of(&subnets).table(table);
    Ok(match subnets.first() {
        Some(first) => reply.hint(format!("starling subnet metagraph {}   who earns what", first.name)),
        None => reply,
    })
}

fn show(context: &Context, subnet: &str) -> Result<Reply, CliError> {
    let s: SubnetReport = context.client()?.get(&format!("/api/v1/subnets/{}", segment(subnet)?))?;
    let door: StandingReport = context.client()?.get(&format!("/api/v1/subnets/{}/standing", s.id))?;
    let left = s.epoch_ends.to_string();
    let facts = [
        ("number", s.id.to_string()),
        ("task", s.task.clone()),
        ("kind", s.kind.clone()),
        ("owner", s.owner.map(|o| o.to_string()).unwrap_or_default()),
        ("tempo", format!("{} heights", s.tempo)),
        ("epoch", format!("{}, closes at height {left}", s.epoch)),
        ("pays", format!("{} each epoch", s.emission_per_epoch)),
        ("miners", s.miners.to_string()),
        ("validators", s.validators.to_string()),
        ("staked", s.staked.to_string()),
    ];
    let facts = facts.into_iter().chain(market::facts(&door));
    // What scripts read stands where it stood; the doors stand beside it.
    let mut data = json!(s);
    if let Some(fields) = data.as_object_mut() {
        fields.insert("standing".to_owned(), json!(door));
    }
    let reply = Reply::of(&data).line(format!("Subnet {}", s.name)).facts(facts);
    let reply = match door.changes.is_empty() {
        true => reply,
        false => reply.heading("Announced changes").table(market::changes_table(&door)),
    };
    let reply = if s.parameters.is_empty() { reply } else { reply.heading("Parameters").facts(s.parameters.clone()) };
    Ok(reply.hint(format!("starling subnet metagraph {}   who is in it", s.name)))
}

/// The miners of a subnet, best paid first.
pub fn miners_table(graph: &MetagraphReport) -> Table {
    let mut miners: Vec<&MetagraphRow> = graph.rows.iter().filter(|r| r.role == "miner").collect();
    miners.sort_by_key(|r| (std::cmp::Reverse(r.incentive), std::cmp::Reverse(r.earned), r.member));
    let mut table =
        Table::new(&[">member", "account", "node", ">score", ">consensus", ">incentive", ">earned", ">last epoch"])
            .or("no miners yet");
    for r in miners {
        table.row(vec![
            r.member.to_string(),
            r.account.short(),
            r.node.map_or_else(|| "-".to_owned(), |n| n.short()),
            maybe(r.score),
            maybe(r.consensus),
            r.incentive.to_string(),
            r.earned.to_string(),
            r.earned_last_epoch.to_string(),
        ]);
    }
    table
}

fn validators_table(graph: &MetagraphReport) -> Table {
    let mut validators: Vec<&MetagraphRow> = graph.rows.iter().filter(|r| r.role == "validator").collect();
    validators.sort_by_key(|r| (std::cmp::Reverse(r.stake), r.member));
    let mut table = Table::new(&[">member", "account", ">stake", ">trust", ">dividends", ">earned", ">last reveal"])
        .or("no validators yet");
    for r in validators {
        table.row(vec![
            r.member.to_string(),
            r.account.short(),
            r.stake.to_string(),
            maybe(r.trust),
            r.dividends.to_string(),
            r.earned.to_string(),
            r.last_reveal.map_or_else(|| "-".to_owned(), |e| format!("epoch {e}")),
        ]);
    }
    table
}

fn metagraph(context: &Context, subnet: &str) -> Result<Reply, CliError> {
    let graph: MetagraphReport = context.client()?.get(&format!("/api/v1/subnets/{}/metagraph", segment(subnet)?))?;
    let earned: u64 = graph.rows.iter().map(|r| r.earned.0).fold(0, u64::saturating_add);
    Ok(Reply::of(&graph)
        .line(format!("Subnet {} ({}) in epoch {}, at height {}", graph.name, graph.task, graph.epoch, graph.height))
        .heading("Miners")
        .table(miners_table(&graph))
        .heading("Validators")
        .table(validators_table(&graph))
        .line(format!("\n  {} earned here in all", Motes(earned)))
        .hint(format!("starling validator weights show {}   what each validator thinks", graph.name)))
}

#[cfg(test)]
mod tests {
    use super::super::output::Ink;
    use super::*;
    use crate::protocol::ids::MemberId;
    use crate::protocol::report::Share;

    #[test]
    fn the_best_paid_miner_stands_first() {
        let row = |member, incentive| MetagraphRow {
            member: MemberId(member),
            role: "miner".into(),
            incentive: Share::of(incentive, 100),
            ..MetagraphRow::default()
        };
        let graph = MetagraphReport { rows: vec![row(1, 10), row(2, 60), row(3, 30)], ..MetagraphReport::default() };
        let text = Reply::of(&1).table(miners_table(&graph)).text(Ink(false));
        let firsts: Vec<&str> = text.lines().skip(1).filter_map(|l| l.split_whitespace().next()).collect();
        assert_eq!(firsts, ["2", "3", "1"]);
    }

    #[test]
    fn a_name_cannot_leave_its_path() {
        assert!(segment("vision").is_ok() && segment("0").is_ok());
        for wrong in ["", "../x", "a b", "a?b"] {
            assert!(segment(wrong).is_err());
        }
    }
}
