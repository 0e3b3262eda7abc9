//! Reports about one account's money: its stake, and its statement (E18, E21).

use serde::{Deserialize, Serialize};

use super::Motes;
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, SubnetId};
use crate::protocol::statement::{Kind, Line, Purse};

/// Shares of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationReport {
    pub validator: AccountId,
    /// What they are worth now.
    pub worth: Motes,
    /// Until this height what was moved there cannot move on; 0 when it can.
    pub bound_until: Height,
}

/// The pool that an account runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Own and delegated stake.
    pub total: Motes,
    pub holders: u32,
    /// Hundredths of a percent of rewards that the validator keeps.
    pub take_bp: u16,
    /// An announced take and the height from which it counts.
    pub next_take_bp: Option<u16>,
    pub next_take_at: Option<Height>,
}

/// Money that was taken out of a pool and is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnbondingReport {
    pub validator: AccountId,
    pub amount: Motes,
    /// The height at which it is paid out by itself.
    pub at: Height,
}

/// `GET /api/v1/accounts/{id}/stake`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StakeReport {
    pub account: AccountId,
    pub height: Height,
    /// Worth of all shares.
    pub staked: Motes,
    /// Earned by members and not claimed yet.
    pub owed: Motes,
    pub delegations: Vec<DelegationReport>,
    pub unbonding: Vec<UnbondingReport>,
    pub pool: Option<PoolReport>,
}

/// What a purse holds, in motes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurseReport {
    pub purse: Purse,
    #[serde(with = "signed")]
    pub amount: i64,
}

/// One line of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementLine {
    pub height: Height,
    /// Its number at its height, for its proof.
    pub index: u32,
    pub purse: Purse,
    pub kind: Kind,
    pub subnet: Option<SubnetId>,
    pub epoch: Option<Epoch>,
    pub mechanism: Option<u8>,
    /// In motes: above 0 came in, below 0 went out.
    #[serde(with = "signed")]
    pub amount: i64,
    pub counterpart: Option<AccountId>,
    pub share: Motes,
    pub pot: Motes,
}

impl StatementLine {
    pub fn of(line: &Line) -> Self {
        Self {
            height: line.height,
            index: 0,
            purse: line.purse,
            kind: line.kind,
            subnet: line.subnet,
            epoch: line.epoch,
            mechanism: line.mechanism,
            amount: line.amount,
            counterpart: line.counterpart,
            share: Motes(line.share),
            pot: Motes(line.pot),
        }
    }

    /// The line as the ledger wrote it.
    pub fn line(&self, account: AccountId) -> Line {
        Line {
            height: self.height,
            account,
            purse: self.purse,
            kind: self.kind,
            subnet: self.subnet,
            epoch: self.epoch,
            mechanism: self.mechanism,
            amount: self.amount,
            counterpart: self.counterpart,
            share: self.share.0,
            pot: self.pot.0,
        }
    }
}

/// `GET /api/v1/accounts/{id}/statement?from=H&to=H`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementReport {
    pub account: AccountId,
    /// The height as of which this was told.
    pub height: Height,
    pub from: Height,
    pub to: Height,
    /// What each purse held before `from`, and after `to`.
    pub opening: Vec<PurseReport>,
    pub closing: Vec<PurseReport>,
    pub lines: Vec<StatementLine>,
    /// Where the next report begins, when there are more lines.
    pub next: Option<Height>,
    /// Whether all lines from the first to the last are what the ledger holds now, to the mote.
    pub ok: bool,
}

/// `GET /api/v1/accounts/{id}/statement/{height}/{index}`: what proves a line against a final checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineProofReport {
    /// The line's bytes in hex.
    pub line: String,
    /// Its place among the leaves of the receipt root of the first header, how many there are, and the path to the root.
    pub index: u32,
    pub leaves: u64,
    pub path: Vec<Digest>,
    /// Headers in hex, each the parent of the next.
    pub headers: Vec<String>,
    /// Says that the last header is final: its encoding in hex.
    pub certificate: String,
}

/// Signed motes as a decimal text, like all amounts.
mod signed {
    use serde::{Deserialize, Deserializer, Serializer, de};

    // The signature is what serde's `with` calls.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is what serde calls")]
    pub fn serialize<S: Serializer>(value: &i64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| de::Error::custom(format!("\"{text}\" is no whole number of motes")))
    }
}
