//! `wallet`: what an account has, and payments.

use clap::{Args, Subcommand};
use serde_json::json;

use super::chain::resolve_account;
use super::context::Context;
use super::error::CliError;
use super::mutate;
use super::output::Reply;
use crate::protocol::report::AccountReport;
use crate::protocol::transaction::{Action, MEMO_BYTES_MAX};
use crate::protocol::units::parse_star;

#[derive(Subcommand, Debug)]
pub enum Wallet {
    /// What an account has
    Balance {
        /// An account's id or the name of a key [default: the node's account key]
        account: Option<String>,
    },
    /// Send STAR to another account
    Send(Send),
    /// Every change of what an account has, with proofs
    Statement(super::statement::Statement),
    /// Move what the account's miners earned to its balance
    Claim,
}

#[derive(Args, Debug)]
pub struct Send {
    /// An account's id, or the name of a key of this keystore
    #[arg(long)]
    to: String,
    /// In STAR, with up to nine decimals
    #[arg(long, value_name = "STAR")]
    amount: String,
    /// A few words that everybody can read
    #[arg(long, default_value = "", hide_default_value = true)]
    memo: String,
}

impl Wallet {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::Balance { account } => balance(context, account.as_deref()),
            Self::Statement(statement) => statement.run(context),
            Self::Claim => mutate::act(context, "claim what is owed".to_owned(), 0, Action::Claim),
            Self::Send(send) => {
                let amount = amount(&send.amount)?;
                if send.memo.len() > MEMO_BYTES_MAX {
                    let bytes = send.memo.len();
                    return Err(CliError::usage(format!("--memo takes {bytes} bytes; at most {MEMO_BYTES_MAX} fit")));
                }
                mutate::transfer(context, resolve_account(context, &send.to)?, amount, &send.memo)
            }
        }
    }
}

/// An amount of STAR above zero, in motes.
///
/// # Errors
/// It is no amount, or zero.
pub fn amount(text: &str) -> Result<u64, CliError> {
    match parse_star(text) {
        Ok(0) => Err(CliError::usage("the amount is zero")),
        Ok(motes) => Ok(motes),
        Err(e) => Err(CliError::usage(e.to_string())),
    }
}

fn balance(context: &Context, account: Option<&str>) -> Result<Reply, CliError> {
    let id = match account {
        Some(text) => resolve_account(context, text)?,
        None => context.account_info()?.public.into(),
    };
    let a: AccountReport = context.client()?.get(&format!("/api/v1/account/{id}"))?;
    let earned: u64 = a.memberships.iter().map(|m| m.earned.0).fold(0, u64::saturating_add);
    let earned = crate::protocol::report::Motes(earned);
    let data = json!({
        "account": a.account,
        "exists": a.exists,
        "amount": a.amount,
        "display": a.amount.to_string(),
        "staked": a.staked,
        "earned": earned,
        "height": a.height,
    });
    let seats = a.memberships.iter().map(|m| format!("{} in {}", m.role, m.name)).collect::<Vec<_>>().join(", ");
    let reply = Reply::of(&data).line(format!("{} free", a.amount)).facts([
        ("account", a.account.to_string()),
        ("staked", a.staked.to_string()),
        ("earned", if earned.0 > 0 { earned.to_string() } else { String::new() }),
        ("seats", seats),
        ("at height", a.height.to_string()),
    ]);
    Ok(if a.exists {
        reply
    } else {
        reply.line("  The ledger does not know it yet: it exists from its first deposit.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_star_above_zero() {
        assert_eq!(amount("1.5").unwrap(), 1_500_000_000);
        for wrong in ["0", "-1", "x", "1.0000000001"] {
            assert_eq!(amount(wrong).unwrap_err().exit, super::super::error::Exit::Usage, "{wrong}");
        }
    }
}
