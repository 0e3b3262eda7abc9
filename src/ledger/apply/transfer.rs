//! Moving money between accounts, opening and closing them (0x01, L10).

use super::super::draft::Draft;
use super::super::money::{self, Note, credit, debit};
use super::super::receipt::Code;
use super::super::rows::Account;
use crate::protocol::ids::{AccountId, Height};
use crate::protocol::statement::Kind;

/// Where an account's nonces start: above every nonce an earlier account of this key can have used (L11).
pub fn first_nonce(height: Height) -> u64 {
    height.saturating_mul(1 << 16)
}

pub fn transfer(draft: &mut Draft, from: &AccountId, to: &AccountId, amount: u64, height: Height) -> Result<(), Code> {
    debit(draft, from, amount, Note::of(Kind::Transfer).with(to))?;
    let from = Note::of(Kind::Transfer).with(from);
    if credit(draft, to, amount, from) {
        return Ok(());
    }
    if amount < draft.parameters().min_account {
        return Err(Code::BelowMinAccount);
    }
    draft.put(to, Account { balance: 0, nonce: first_nonce(height), attached: 0 });
    credit(draft, to, amount, from);
    Ok(())
}

/// Closes an account that has less than `min_account` and nothing attached; the rest is burned. Not at the height that
/// opened it: opened again at once, its nonces would start where they did before.
pub fn reap(draft: &mut Draft, id: &AccountId, height: Height) {
    let Some(account) = draft.account(id).cloned() else { return };
    let fresh = account.nonce >= first_nonce(height);
    if fresh || account.attached > 0 || account.balance >= draft.parameters().min_account {
        return;
    }
    if debit(draft, id, account.balance, Note::of(Kind::Dust)).is_ok() {
        money::burn(draft, account.balance);
        draft.remove::<Account>(id);
    }
}
