//! `chain`: what the ledger holds, as a node sees it.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::output::{Reply, Table, maybe, size};
use crate::protocol::ids::{AccountId, Digest};
use crate::protocol::report::{
    AccountReport, CheckpointReport, CommitteeReport, HeadReport, Motes, SupplyReport, TransactionReport,
    TransactionState,
};

#[derive(Subcommand, Debug)]
pub enum Chain {
    /// The last finalised checkpoint
    Head,
    /// One checkpoint
    Checkpoint {
        /// Its height
        height: u64,
    },
    /// One transaction
    Tx {
        /// Its id, 64 hex digits
        id: String,
    },
    /// One account
    Account {
        /// Its id, or the name of a key of this keystore
        account: String,
    },
    /// Who votes
    Committee,
    /// All the money there is, and whether it adds up
    Supply,
    /// What the current term may mint: for the committee, for burned fees, and for support
    Budget,
}

impl Chain {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::Head => head(context),
            Self::Checkpoint { height } => checkpoint(context, height),
            Self::Tx { id } => transaction(context, &id),
            Self::Account { account } => account_reply(context, &account),
            Self::Committee => committee(context),
            Self::Supply => supply(context),
            Self::Budget => super::market::budget(context),
        }
    }
}

fn head(context: &Context) -> Result<Reply, CliError> {
    let head: HeadReport = context.client()?.get("/api/v1/head")?;
    Ok(Reply::of(&head)
        .line(format!("Height {}", head.height))
        .facts([
            ("hash", head.hash.to_string()),
            ("time", head.time.to_string()),
            ("view", head.view.to_string()),
            ("proposer", head.proposer.to_string()),
            ("state root", head.state_root.to_string()),
            ("transactions", head.transactions.to_string()),
            ("final after", head.finality_ms.map(|ms| format!("{ms} ms")).unwrap_or_default()),
        ])
        .hint(format!("starling chain checkpoint {}   what is in it", head.height)))
}

fn checkpoint(context: &Context, height: u64) -> Result<Reply, CliError> {
    let c: CheckpointReport = context.client()?.get(&format!("/api/v1/checkpoint/{height}"))?;
    let mut table = Table::new(&["transaction", "kind", "account", ">fee", ">code"]).or("empty");
    for t in &c.transactions {
        table.row(vec![t.id.to_string(), t.kind.clone(), t.account.short(), t.fee.to_string(), t.code.to_string()]);
    }
    let signers = format!("{} members with {} of {} weight", c.signers.len(), c.signed_weight, c.total_weight);
    Ok(Reply::of(&c)
        .line(format!("Checkpoint {}", c.height))
        .facts([
            ("hash", c.hash.to_string()),
            ("parent", c.parent.to_string()),
            ("time", c.time.to_string()),
            ("term, view", format!("{}, {}", c.term, c.view)),
            ("proposer", c.proposer.to_string()),
            ("signed by", signers),
            ("state root", c.state_root.to_string()),
            ("body", size(c.body_bytes)),
        ])
        .heading("Transactions")
        .table(table))
}

/// A transaction in words.
pub fn transaction_reply(t: &TransactionReport) -> Reply {
    let state = match t.state {
        TransactionState::Pending => "waits in the pool".to_owned(),
        TransactionState::Final => format!("is final in checkpoint {}", maybe(t.height)),
        TransactionState::Failed => format!("is in checkpoint {} without effect: {}", maybe(t.height), t.outcome),
    };
    Reply::of(t)
        .line(format!("Transaction {} {state}", t.id.short()))
        .facts([
            ("id", t.id.to_string()),
            ("kind", t.kind.clone()),
            ("account", t.account.to_string()),
            ("nonce", t.nonce.to_string()),
            ("fee", t.fee.to_string()),
            ("valid until", format!("height {}", t.valid_until)),
        ])
        .facts(t.fields.iter().map(|(name, value)| (name.clone(), in_words(name, value))))
}

/// Fields of a transaction carry motes as machines read them; people get STAR.
fn in_words(name: &str, value: &str) -> String {
    match (name, value.parse()) {
        ("amount" | "max_bond", Ok(motes)) => Motes(motes).to_string(),
        _ => value.to_owned(),
    }
}

fn transaction(context: &Context, id: &str) -> Result<Reply, CliError> {
    let id: Digest = id.parse().map_err(|e| CliError::usage(format!("\"{id}\" is no id of a transaction: {e}")))?;
    let t: TransactionReport = context.client()?.get(&format!("/api/v1/tx/{id}"))?;
    Ok(transaction_reply(&t))
}

/// An account by its id or by the name of a key.
///
/// # Errors
/// It is neither.
pub fn resolve_account(context: &Context, text: &str) -> Result<AccountId, CliError> {
    if let Ok(account) = text.parse() {
        return Ok(account);
    }
    let info = context.keystore()?.info(text);
    info.map(|info| info.public.into()).map_err(|_| {
        let help = "give 64 hex digits, or a name that `starling key list` shows";
        CliError::not_found(format!("\"{text}\" is neither an account's id nor the name of a key"), help)
    })
}

/// An account in words.
pub fn account_text(a: &AccountReport) -> Reply {
    let mut table = Table::new(&["subnet", ">member", "role", ">stake", ">earned"]).or("in no subnet");
    for m in &a.memberships {
        table.row(vec![
            m.name.clone(),
            m.member.to_string(),
            m.role.clone(),
            m.stake.to_string(),
            m.earned.to_string(),
        ]);
    }
    let reply = Reply::of(a).line(format!("Account {}", a.account));
    if !a.exists {
        return reply.line("  The ledger does not know it: an account exists from its first deposit.");
    }
    reply
        .facts([
            ("free", a.amount.to_string()),
            ("staked", a.staked.to_string()),
            ("next nonce", a.nonce.to_string()),
            ("at height", a.height.to_string()),
        ])
        .heading("Seats")
        .table(table)
}

fn account_reply(context: &Context, account: &str) -> Result<Reply, CliError> {
    let account = resolve_account(context, account)?;
    let a: AccountReport = context.client()?.get(&format!("/api/v1/account/{account}"))?;
    if !a.exists {
        let help = "an account exists from its first deposit";
        return Err(CliError::not_found(format!("the ledger does not know account {account}"), help));
    }
    Ok(account_text(&a))
}

fn committee(context: &Context) -> Result<Reply, CliError> {
    let c: CommitteeReport = context.client()?.get("/api/v1/committee")?;
    let mut table = Table::new(&[">#", "key", "account", ">weight", ">share", "signed the last"]).or("nobody votes");
    for row in &c.members {
        let mark = match (row.signed_last, row.local) {
            (true, true) => "yes (this node)",
            (false, true) => "no (this node)",
            (true, false) => "yes",
            (false, false) => "no",
        };
        table.row(vec![
            row.index.to_string(),
            row.key.short(),
            row.account.short(),
            row.weight.to_string(),
            row.share.to_string(),
            mark.into(),
        ]);
    }
    Ok(Reply::of(&c)
        .line(format!("Committee of term {}: a quorum is {} of {} weight", c.term, c.quorum_weight, c.total_weight))
        .table(table))
}

fn supply(context: &Context) -> Result<Reply, CliError> {
    let s: SupplyReport = context.client()?.get("/api/v1/supply")?;
    let verdict = if s.ok { "genesis + minted - burned = total" } else { "IT DOES NOT ADD UP" };
    Ok(Reply::of(&s).line(format!("Supply at height {}: {verdict}", s.height)).facts([
        ("genesis", s.genesis.to_string()),
        ("minted", s.minted.to_string()),
        ("burned", s.burned.to_string()),
        ("total", s.total.to_string()),
    ]))
}
