//! The due queue: money that is paid out by itself when its height comes, in the order it was promised (L6).
//!
//! At most `DUE_MAX` items are paid at one height; the rest are first at the next. Nobody has to claim anything.

use super::draft::Draft;
use super::money::{Note, credit, income, outgo};
use super::rows::{Account, Due, DueReason, Move};
use crate::protocol::ids::Height;
use crate::protocol::statement::{Kind, Purse};

/// Items paid at one height (L6).
pub const DUE_MAX: usize = 256;

impl DueReason {
    /// The purse the money is in while it waits, and what its lines say when it goes in and comes out.
    pub fn purse(self) -> (Purse, Kind, Kind) {
        match self {
            Self::Unstaked => (Purse::Unbonding, Kind::Undelegate, Kind::Unbonded),
            Self::BondRefund | Self::Moved => (Purse::Waiting, Kind::BondRefund, Kind::BondRefund),
        }
    }
}

/// Promises a payment, and writes the line of the purse it waits in: taking it from where it was is the caller's. The
/// account stays for as long as something waits for it.
pub fn push(draft: &mut Draft, at: Height, due: Due) {
    draft.change::<Account>(&due.account, |account| account.attached = account.attached.saturating_add(1));
    let (purse, kind, _) = due.reason.purse();
    income(draft, &due.account, purse, due.amount, due.note(kind));
    let chain = draft.chain_mut();
    let seq = chain.due_seq;
    chain.due_seq = seq.saturating_add(1);
    draft.put(&(at, seq), due);
}

impl Due {
    fn note(&self, kind: Kind) -> Note {
        match &self.pool {
            Some(pool) => Note::of(kind).with(pool),
            None => Note::of(kind),
        }
    }
}

/// Pays what is due.
pub fn run(draft: &mut Draft, height: Height) {
    let due: Vec<((Height, u64), Due)> =
        draft.range::<Due>(..=(height, u64::MAX)).take(DUE_MAX).map(|(key, due)| (*key, due.clone())).collect();
    for (key, due) in due {
        draft.remove::<Due>(&key);
        let (purse, _, kind) = due.reason.purse();
        outgo(draft, &due.account, purse, due.amount, due.note(kind));
        let paid = credit(draft, &due.account, due.amount, due.note(kind));
        draft.change::<Account>(&due.account, |account| account.attached = account.attached.saturating_sub(1));
        if let (DueReason::Moved, Some(pool)) = (due.reason, due.pool) {
            draft.remove::<Move>(&(pool, due.account));
        }
        assert!(paid, "violation: a payment waits for {}, which does not exist", due.account);
    }
}
