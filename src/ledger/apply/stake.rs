//! Staking and getting it back after the unbonding span (0x10, 0x11).

use super::super::draft::Draft;
use super::super::due;
use super::super::money::{Note, lock, outgo};
use super::super::receipt::Code;
use super::super::rows::{Account, Due, DueReason, Stake};
use crate::protocol::ids::{AccountId, Height};
use crate::protocol::statement::{Kind, Purse};
use crate::protocol::transaction::ALL;

pub fn stake(draft: &mut Draft, id: &AccountId, amount: u64) -> Result<(), Code> {
    lock(draft, id, Purse::Pool, amount, Note::of(Kind::Delegate).with(id))?;
    let before = draft.stake(id);
    let after = before.saturating_add(amount);
    if after < draft.parameters().min_stake {
        return Err(Code::BelowMinStake);
    }
    if before == 0 {
        draft.change::<Account>(id, |account| account.attached = account.attached.saturating_add(1));
    }
    draft.put(id, Stake { amount: after });
    Ok(())
}

pub fn unstake(draft: &mut Draft, id: &AccountId, amount: u64, height: Height) -> Result<(), Code> {
    let before = draft.stake(id);
    let amount = if amount == ALL { before } else { amount };
    let after = before.checked_sub(amount).ok_or(Code::StakeTooLow)?;
    if amount == 0 {
        return Err(Code::StakeTooLow);
    }
    if after > 0 && after < draft.parameters().min_stake {
        return Err(Code::BelowMinStake);
    }
    if after > 0 {
        draft.put(id, Stake { amount: after });
    } else {
        draft.remove::<Stake>(id);
        draft.change::<Account>(id, |account| account.attached = account.attached.saturating_sub(1));
    }
    outgo(draft, id, Purse::Pool, amount, Note::of(Kind::Undelegate).with(id));
    let at = height.saturating_add(draft.parameters().unbond_heights);
    due::push(draft, at, Due { account: *id, amount, reason: DueReason::Unstaked, pool: Some(*id) });
    Ok(())
}
