//! `stake`: motes in the pools of validators, which give their weights and votes their force (E18).

use clap::{Args, Subcommand};
use serde_json::json;

use super::chain::resolve_account;
use super::context::Context;
use super::error::CliError;
use super::mutate;
use super::output::{Reply, Table};
use crate::protocol::ids::AccountId;
use crate::protocol::report::{AccountReport, CommitteeReport, Motes, StakeReport};
use crate::protocol::transaction::{ALL, Action};

#[derive(Subcommand, Debug)]
pub enum Stake {
    /// Bind STAR behind the account's own validator
    Add {
        /// In STAR, with up to nine decimals
        amount: String,
    },
    /// Take STAR out of the account's own pool; it is held for the unbonding span
    Remove {
        /// In STAR, or "all"
        amount: String,
    },
    /// Put STAR into another validator's pool
    Delegate(Pooled),
    /// Take STAR out of a validator's pool; it is held for the unbonding span
    Undelegate(Pooled),
    /// Move STAR from one validator's pool to another's, without a wait
    Redelegate {
        /// The validator's account it leaves
        from: String,
        /// The validator's account it goes to
        to: String,
        /// In STAR, or "all"
        amount: String,
    },
    /// Set the part of rewards that this account's validator keeps
    Take {
        /// In hundredths of a percent, at most 1800; it falls at once and rises slowly
        take_bp: u16,
    },
    /// Say which subnets the account's stake wants the network to pay
    Support(super::market::Support),
    /// What stake brought
    Rewards,
    /// What was taken out of pools and is held
    Unbonding,
    /// What is bound, where, and what it weighs
    List,
}

#[derive(Args, Debug)]
pub struct Pooled {
    /// The validator's account: its id, or the name of a key of this keystore
    validator: String,
    /// In STAR; "all" takes out everything
    amount: String,
}

/// An amount, or everything.
fn some_or_all(text: &str) -> Result<u64, CliError> {
    if text == "all" { Ok(ALL) } else { super::wallet::amount(text) }
}

fn worded(amount: u64) -> String {
    if amount == ALL { "everything".to_owned() } else { Motes(amount).to_string() }
}

impl Stake {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::Add { amount } => mutate::stake(context, super::wallet::amount(&amount)?),
            Self::Remove { amount } => {
                let amount = some_or_all(&amount)?;
                let what = format!("take {} out of the own pool", worded(amount));
                mutate::act(context, what, 0, Action::Unstake { amount })
            }
            Self::Delegate(to) => {
                let (validator, amount) =
                    (resolve_account(context, &to.validator)?, super::wallet::amount(&to.amount)?);
                let what = format!("put {} into the pool of {validator}", Motes(amount));
                mutate::act(context, what, amount, Action::Delegate { validator, amount })
            }
            Self::Undelegate(from) => {
                let (validator, amount) = (resolve_account(context, &from.validator)?, some_or_all(&from.amount)?);
                let what = format!("take {} out of the pool of {validator}", worded(amount));
                mutate::act(context, what, 0, Action::Undelegate { validator, amount })
            }
            Self::Redelegate { from, to, amount } => {
                let (from, to) = (resolve_account(context, &from)?, resolve_account(context, &to)?);
                let amount = some_or_all(&amount)?;
                let what = format!("move {} from the pool of {from} to that of {to}", worded(amount));
                mutate::act(context, what, 0, Action::Redelegate { from, to, amount })
            }
            Self::Take { take_bp } => {
                let what = format!("keep {}.{:02} % of rewards", take_bp / 100, take_bp % 100);
                mutate::act(context, what, 0, Action::SetTake { take_bp })
            }
            Self::Support(of) => super::market::support(context, &of),
            Self::Rewards => super::statement::rewards(context),
            Self::Unbonding => unbonding(context),
            Self::List => list(context),
        }
    }
}

fn told(context: &Context) -> Result<(AccountId, StakeReport), CliError> {
    let id = AccountId::from(context.account_info()?.public);
    Ok((id, context.client()?.get(&format!("/api/v1/accounts/{id}/stake"))?))
}

fn unbonding(context: &Context) -> Result<Reply, CliError> {
    let (_, s) = told(context)?;
    let mut table = Table::new(&["from pool", ">amount", ">at height", ">heights left"]).or("nothing is held");
    for item in &s.unbonding {
        let left = item.at.saturating_sub(s.height);
        table.row(vec![item.validator.short(), item.amount.to_string(), item.at.to_string(), left.to_string()]);
    }
    Ok(Reply::of(&s.unbonding)
        .table(table)
        .line("It is paid out by itself; until then it is liable for its pool's faults."))
}

fn list(context: &Context) -> Result<Reply, CliError> {
    let (id, s) = told(context)?;
    let client = context.client()?;
    let a: AccountReport = client.get(&format!("/api/v1/account/{id}"))?;
    let committee: CommitteeReport = client.get("/api/v1/committee")?;
    let seat = committee.members.iter().find(|m| m.account == id);
    let mut seats = Table::new(&["subnet", ">member", "role", ">stake", ">earned"]).or("behind no seat in a subnet");
    for m in &a.memberships {
        let (stake, earned) = (m.stake.to_string(), m.earned.to_string());
        seats.row(vec![m.name.clone(), m.member.to_string(), m.role.clone(), stake, earned]);
    }
    let mut pools = Table::new(&["pool of", ">worth", "moves on"]).or("in no pool");
    for d in &s.delegations {
        let own = if d.validator == id { "itself".to_owned() } else { d.validator.to_string() };
        let bound = if d.bound_until > 0 { format!("from height {}", d.bound_until) } else { "any time".to_owned() };
        pools.row(vec![own, d.worth.to_string(), bound]);
    }
    let data = json!({ "account": id, "staked": s.staked, "display": s.staked.to_string(),
        "committee_weight": seat.map(|s| s.weight), "memberships": a.memberships, "delegations": s.delegations,
        "unbonding": s.unbonding, "pool": s.pool, "owed": s.owed });
    let votes = seat.map(|s| format!("{} of {} weight, {}", s.weight, committee.total_weight, s.share));
    let pool = s.pool.map(|pool| format!("{} by {} holders, take {} bp", pool.total, pool.holders, pool.take_bp));
    let rise = s.pool.and_then(|pool| pool.next_take_bp.zip(pool.next_take_at));
    Ok(Reply::of(&data)
        .line(format!("{} staked", s.staked))
        .facts([
            ("account", id.to_string()),
            ("own pool", pool.unwrap_or_default()),
            ("next take", rise.map(|(take, at)| format!("{take} bp from height {at}")).unwrap_or_default()),
            ("votes with", votes.unwrap_or_default()),
        ])
        .table(pools)
        .heading("Seats")
        .table(seats))
}
