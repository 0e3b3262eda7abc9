//! `stake`: motes bound behind a validator, which give its weights and its votes their force.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::mutate;
use super::output::{Reply, Table};
use crate::protocol::report::{AccountReport, CommitteeReport};

#[derive(Subcommand, Debug)]
pub enum Stake {
    /// Bind STAR behind the account's validator
    Add {
        /// In STAR, with up to nine decimals
        amount: String,
    },
    /// What is bound, and what it weighs
    List,
}

impl Stake {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::Add { amount } => mutate::stake(context, super::wallet::amount(&amount)?),
            Self::List => list(context),
        }
    }
}

fn list(context: &Context) -> Result<Reply, CliError> {
    let id = crate::protocol::ids::AccountId::from(context.account_info()?.public);
    let client = context.client()?;
    let a: AccountReport = client.get(&format!("/api/v1/account/{id}"))?;
    let committee: CommitteeReport = client.get("/api/v1/committee")?;
    let seat = committee.members.iter().find(|m| m.account == id);
    let mut table = Table::new(&["subnet", ">member", "role", ">stake", ">earned"]).or("behind no seat in a subnet");
    for m in &a.memberships {
        table.row(vec![
            m.name.clone(),
            m.member.to_string(),
            m.role.clone(),
            m.stake.to_string(),
            m.earned.to_string(),
        ]);
    }
    let data = json!({ "account": id, "staked": a.staked, "display": a.staked.to_string(),
        "committee_weight": seat.map(|s| s.weight), "memberships": a.memberships });
    let votes = seat.map(|s| format!("{} of {} weight, {}", s.weight, committee.total_weight, s.share));
    Ok(Reply::of(&data)
        .line(format!("{} staked", a.staked))
        .facts([("account", id.to_string()), ("votes with", votes.unwrap_or_default())])
        .table(table))
}
