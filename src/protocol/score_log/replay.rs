//! A row that was revealed against the log it is said to come from: the first difference, in words.
//!
//! What needs no task is checked here; whether the scores themselves are right is for who has the task, before or after.

use super::{ScoreLog, bucket_is_late};
use crate::protocol::ids::{ChainId, Digest, Epoch, MemberId, PublicKey, SubnetId};

/// What the ledger knows of a reveal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub chain: ChainId,
    pub subnet: SubnetId,
    pub epoch: Epoch,
    pub validator: MemberId,
    pub scorer: Digest,
    pub rules: Digest,
    pub log_root: Digest,
    pub log_len: u64,
    pub row: Vec<(MemberId, u32)>,
}

/// Where a log and a reveal part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    #[error("the log has {found} leaves under {root}, the ledger has {expected} under {claimed}")]
    Tree { found: u64, root: String, expected: u64, claimed: String },
    #[error("the head of the log names another {what}")]
    Head { what: &'static str },
    #[error("the board before this epoch is not the one the head names")]
    BoardBefore,
    #[error("the board that the epoch before published is {published}, this log goes on from {found}")]
    Broken { published: String, found: String },
    #[error("the entries lead to another board than the head names")]
    BoardAfter,
    #[error("entry {index}: the receipt is not signed by member {miner}")]
    Receipt { index: u64, miner: MemberId },
    #[error("entry {index} of member {miner}: {what}")]
    Entry { index: u64, miner: MemberId, what: String },
    #[error("the log gives member {member} {replayed}, the row that was revealed says {revealed}")]
    Row { member: MemberId, replayed: u32, revealed: u32 },
}

/// Does the sums of a log again. `published` is the board that the log of the epoch before came to, where it is known;
/// `operator` is the key of a miner, where the ledger still knows it.
///
/// # Errors
/// The first thing that differs.
pub fn replay(
    log: &ScoreLog,
    claim: &Claim,
    published: Option<Digest>,
    operator: impl Fn(MemberId) -> Option<PublicKey>,
) -> Result<(), Difference> {
    let (root, found) = (log.root(), log.leaf_count());
    if root != claim.log_root || found != claim.log_len {
        let (root, claimed) = (root.short(), claim.log_root.short());
        return Err(Difference::Tree { found, root, expected: claim.log_len, claimed });
    }
    let head = &log.head;
    for (same, what) in [
        (head.chain == claim.chain, "network"),
        (head.subnet == claim.subnet, "subnet"),
        (head.epoch == claim.epoch, "epoch"),
        (head.validator == claim.validator, "validator"),
        (head.scorer == claim.scorer, "scorer"),
        (head.rules.digest() == claim.rules, "set of rules"),
    ] {
        if !same {
            return Err(Difference::Head { what });
        }
    }
    if log.before.digest() != head.before {
        return Err(Difference::BoardBefore);
    }
    if let Some(published) = published.filter(|published| *published != head.before) {
        return Err(Difference::Broken { published: published.short(), found: head.before.short() });
    }
    for (index, entry) in (1..).zip(&log.entries) {
        let miner = entry.miner;
        if let (Some(receipt), Some(operator)) = (&entry.receipt, operator(miner)) {
            let said = entry.receipt_of(claim.chain, claim.subnet);
            said.check(&operator, receipt).map_err(|_| Difference::Receipt { index, miner })?;
        }
        if entry.score > 0 && (entry.receipt.is_none() || bucket_is_late(entry.arrival)) {
            let what = "a score for an answer that did not come in time".to_owned();
            return Err(Difference::Entry { index, miner, what });
        }
    }
    if log.after().digest() != head.after {
        return Err(Difference::BoardAfter);
    }
    same_row(&log.row(), &claim.row)
}

fn same_row(replayed: &[(MemberId, u32)], revealed: &[(MemberId, u32)]) -> Result<(), Difference> {
    let of =
        |row: &[(MemberId, u32)], member: MemberId| row.iter().find(|(id, _)| *id == member).map_or(0, |(_, w)| *w);
    let mut members: Vec<MemberId> = replayed.iter().chain(revealed).map(|(member, _)| *member).collect();
    members.sort_unstable();
    members.dedup();
    for member in members {
        let (replayed, revealed) = (of(replayed, member), of(revealed, member));
        if replayed != revealed {
            return Err(Difference::Row { member, replayed, revealed });
        }
    }
    Ok(())
}
