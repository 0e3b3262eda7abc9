//! The door of money: every change of what an account has goes through here and writes a line of its statement (E21).
//!
//! How to use it, by what happens:
//! - `credit` and `debit` move a balance. `lock` takes from a balance into another purse, `release` gives back.
//! - `income` and `outgo` write the line of a purse whose row the caller keeps: a member's bond, a subnet's lock, a deposit.
//!   Whoever changes such a row calls them, in the same breath, with the same amount.
//! - `owe` is how miners are paid (E20); `keep_owed` keeps what a member that goes away has not claimed.
//! - `mint` and `burn` count what comes into being and what goes; where it goes to and comes from are lines of their own.
//! - A `Note` says why: its kind, and as far as there are any the subnet, epoch, mechanism, counterpart, share and pot.
//! - `held_by` reads all purses of all accounts. A new row that holds an account's money is added there; the tests of
//!   the ledger check at every height that every purse changed by exactly its lines.
//!
//! Refuses: a line of nothing, and a balance below 0.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::economy::rows::{Charter, Queued};
use super::judging::LogChallenge;
use super::receipt::Code;
use super::rows::{Account, Channel, Due, Member, Owed, Pool, Subnet};
use super::state::State;
use crate::protocol::ids::{AccountId, Epoch, MemberId, SubnetId};
use crate::protocol::statement::{Kind, Line, Purse};

/// Why money moves.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    pub kind: Kind,
    pub subnet: Option<SubnetId>,
    pub epoch: Option<Epoch>,
    pub mechanism: Option<u8>,
    pub counterpart: Option<AccountId>,
    pub share: u64,
    pub pot: u64,
}

impl Note {
    pub fn of(kind: Kind) -> Self {
        Self { kind, subnet: None, epoch: None, mechanism: None, counterpart: None, share: 0, pot: 0 }
    }

    #[must_use]
    pub fn subnet(self, subnet: SubnetId) -> Self {
        Self { subnet: Some(subnet), ..self }
    }

    #[must_use]
    pub fn epoch(self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    #[must_use]
    pub fn mechanism(self, mechanism: u8) -> Self {
        Self { mechanism: Some(mechanism), ..self }
    }

    #[must_use]
    pub fn with(self, counterpart: &AccountId) -> Self {
        Self { counterpart: Some(*counterpart), ..self }
    }

    /// The part of which pot it is.
    #[must_use]
    pub fn share(self, share: u64, pot: u64) -> Self {
        Self { share, pot, ..self }
    }
}

fn write(draft: &mut Draft, account: &AccountId, purse: Purse, amount: i64, note: Note) {
    if amount == 0 {
        return;
    }
    let Note { kind, subnet, epoch, mechanism, counterpart, share, pot } = note;
    let (height, account) = (draft.height(), *account);
    draft.line(Line { height, account, purse, kind, subnet, epoch, mechanism, amount, counterpart, share, pot });
}

/// No sum of money exceeds the supply cap, which fits (L9).
fn signed(amount: u64) -> i64 {
    let amount = i64::try_from(amount);
    assert!(amount.is_ok(), "violation: a sum of money above the supply cap");
    amount.unwrap_or(0)
}

/// The line of a purse that the caller has just put money into.
pub fn income(draft: &mut Draft, account: &AccountId, purse: Purse, amount: u64, note: Note) {
    write(draft, account, purse, signed(amount), note);
}

/// The line of a purse that the caller has just taken money from.
pub fn outgo(draft: &mut Draft, account: &AccountId, purse: Purse, amount: u64, note: Note) {
    write(draft, account, purse, -signed(amount), note);
}

/// Adds to a balance. Says whether the account is there; if not, nothing happened.
pub fn credit(draft: &mut Draft, id: &AccountId, amount: u64, note: Note) -> bool {
    let there = if amount == 0 {
        draft.account(id).is_some()
    } else {
        draft.change::<Account>(id, |account| account.balance = account.balance.saturating_add(amount))
    };
    if there {
        income(draft, id, Purse::Balance, amount, note);
    }
    there
}

/// Takes from a balance.
///
/// # Errors
/// It does not cover the amount, or there is no such account; nothing happened.
pub fn debit(draft: &mut Draft, id: &AccountId, amount: u64, note: Note) -> Result<(), Code> {
    let account = draft.account(id).ok_or(Code::BalanceTooLow)?;
    let balance = account.balance.checked_sub(amount).ok_or(Code::BalanceTooLow)?;
    if amount > 0 {
        draft.change::<Account>(id, |account| account.balance = balance);
        outgo(draft, id, Purse::Balance, amount, note);
    }
    Ok(())
}

/// Takes from a balance into a purse whose row the caller writes.
///
/// # Errors
/// As `debit`.
pub fn lock(draft: &mut Draft, id: &AccountId, purse: Purse, amount: u64, note: Note) -> Result<(), Code> {
    debit(draft, id, amount, note)?;
    income(draft, id, purse, amount, note);
    Ok(())
}

/// Gives back to the balance from a purse whose row the caller writes. Says whether the account is there.
pub fn release(draft: &mut Draft, id: &AccountId, purse: Purse, amount: u64, note: Note) -> bool {
    let there = credit(draft, id, amount, note);
    if there {
        outgo(draft, id, purse, amount, note);
    }
    there
}

/// Counts what is gone for good: the caller has taken it from somebody, with a line that says so.
pub fn burn(draft: &mut Draft, amount: u64) {
    let supply = draft.supply_mut();
    supply.burned = supply.burned.saturating_add(amount);
}

/// Counts what comes into being: the caller gives it to somebody, with a line that says so.
pub fn mint(draft: &mut Draft, amount: u64) {
    let supply = draft.supply_mut();
    supply.minted = supply.minted.saturating_add(amount);
}

/// Pays a member without touching its account (E20). Says whether the member is there.
pub fn owe(draft: &mut Draft, subnet: SubnetId, member: MemberId, amount: u64, note: Note) -> bool {
    let Some(account) = draft.member(subnet, member).map(|member| member.account) else { return false };
    if amount > 0 {
        draft.change::<Member>(&(subnet, member), |member| {
            member.owed = member.owed.saturating_add(amount);
            member.earned = member.earned.saturating_add(amount);
        });
        income(draft, &account, Purse::Owed, amount, note);
    }
    true
}

/// Keeps for its account what a member that was just taken out has not claimed (E20): the money stays in its purse.
pub fn keep_owed(draft: &mut Draft, gone: &Member) {
    if gone.owed == 0 {
        return;
    }
    let before = draft.get::<Owed>(&gone.account).map_or(0, |owed| owed.amount);
    if before == 0 {
        draft.change::<Account>(&gone.account, |account| account.attached = account.attached.saturating_add(1));
    }
    draft.put(&gone.account, Owed { amount: before.saturating_add(gone.owed) });
}

/// What every purse of every account holds, without the empty ones: linear in the state.
pub fn held_by(state: &State) -> BTreeMap<(AccountId, Purse), u128> {
    let mut purses = BTreeMap::new();
    let mut add = |account: &AccountId, purse: Purse, amount: u64| {
        if amount > 0 {
            *purses.entry((*account, purse)).or_insert(0) += u128::from(amount);
        }
    };
    for (id, account) in state.range::<Account>(..) {
        add(id, Purse::Balance, account.balance);
    }
    for (id, pool) in state.range::<Pool>(..) {
        add(id, Purse::Pool, pool.total);
    }
    for (_, member) in state.range::<Member>(..) {
        add(&member.account, Purse::Bond, member.bond);
        add(&member.account, Purse::Owed, member.owed);
    }
    for (id, owed) in state.range::<Owed>(..) {
        add(id, Purse::Owed, owed.amount);
    }
    for (_, channel) in state.range::<Channel>(..) {
        add(&channel.payer, Purse::Channel, channel.deposit.saturating_sub(channel.paid));
    }
    for (_, charter) in state.range::<Charter>(..) {
        if let Some(owner) = &charter.owner {
            add(owner, Purse::Lock, charter.lock);
        }
    }
    for challenger in &state.treasury().challengers {
        add(&challenger.account, Purse::Lock, challenger.lock);
    }
    for (_, queued) in state.range::<Queued>(..) {
        add(&queued.account, Purse::Place, queued.bond);
    }
    for (_, due) in state.range::<Due>(..) {
        add(&due.account, due.reason.purse().0, due.amount);
    }
    for (_, challenge) in state.range::<LogChallenge>(..) {
        add(&challenge.challenger, Purse::Challenge, challenge.deposit);
    }
    purses
}

/// The lines of height 0: what the genesis file gave to whom.
pub fn opening(state: &State) -> Vec<Line> {
    let line = |((account, purse), held): ((AccountId, Purse), u128)| Line {
        height: state.height(),
        account,
        purse,
        kind: Kind::Genesis,
        subnet: None,
        epoch: None,
        mechanism: None,
        amount: i64::try_from(held).unwrap_or(i64::MAX),
        counterpart: None,
        share: 0,
        pot: 0,
    };
    held_by(state).into_iter().map(line).collect()
}

/// What the network holds for nobody in particular: pots of subnets, and dust. With `held_by` this is all money.
pub fn held_by_nobody(state: &State) -> u128 {
    let pots = state.range::<Subnet>(..).map(|(_, subnet)| u128::from(subnet.fee_pot)).sum::<u128>();
    u128::from(state.supply().dust) + pots
}
