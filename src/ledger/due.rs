//! The due queue: money that is paid out by itself when its height comes, in the order it was promised (L6).
//!
//! At most `DUE_MAX` items are paid at one height; the rest are first at the next. Nobody has to claim anything.

use super::draft::Draft;
use super::rows::{Account, Due};
use crate::protocol::ids::Height;

/// Items paid at one height (L6).
pub const DUE_MAX: usize = 256;

/// Promises a payment. The account stays for as long as something waits for it.
pub fn push(draft: &mut Draft, at: Height, due: Due) {
    draft.change::<Account>(&due.account, |account| account.attached = account.attached.saturating_add(1));
    let chain = draft.chain_mut();
    let seq = chain.due_seq;
    chain.due_seq = seq.saturating_add(1);
    draft.put(&(at, seq), due);
}

/// Pays what is due.
pub fn run(draft: &mut Draft, height: Height) {
    let due: Vec<((Height, u64), Due)> =
        draft.range::<Due>(..=(height, u64::MAX)).take(DUE_MAX).map(|(key, due)| (*key, due.clone())).collect();
    for (key, due) in due {
        draft.remove::<Due>(&key);
        let paid = draft.change::<Account>(&due.account, |account| {
            account.balance = account.balance.saturating_add(due.amount);
            account.attached = account.attached.saturating_sub(1);
        });
        assert!(paid, "violation: a payment waits for {}, which does not exist", due.account);
    }
}
