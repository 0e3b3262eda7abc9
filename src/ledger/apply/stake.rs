//! Staking, delegating, moving stake, a validator's take, and claiming what miners earned (0x10-0x16, E18, E20).
//!
//! What is staked is shares of a pool: an account's own stake is its shares of its own pool. `economy/pools.rs` has the
//! arithmetic.

use super::super::draft::Draft;
use super::super::economy::pools;
use super::super::money::{Note, release};
use super::super::receipt::Code;
use super::super::rows::{Account, Member, Owed, Pool, Subnet};
use crate::protocol::ids::{AccountId, MemberId, SubnetId};
use crate::protocol::statement::{Kind, Purse};
use crate::protocol::transaction::{ALL, Role};

fn some_or_all(amount: u64) -> Option<u64> {
    (amount != ALL).then_some(amount)
}

pub fn stake(draft: &mut Draft, id: &AccountId, amount: u64) -> Result<(), Code> {
    pools::put_in(draft, id, id, amount)
}

pub fn unstake(draft: &mut Draft, id: &AccountId, amount: u64) -> Result<(), Code> {
    undelegate(draft, id, id, amount).map_err(|code| if code == Code::UnknownPool { Code::StakeTooLow } else { code })
}

pub fn delegate(draft: &mut Draft, id: &AccountId, validator: &AccountId, amount: u64) -> Result<(), Code> {
    draft.get::<Pool>(validator).ok_or(Code::UnknownPool)?;
    pools::put_in(draft, id, validator, amount)
}

pub fn undelegate(draft: &mut Draft, id: &AccountId, validator: &AccountId, amount: u64) -> Result<(), Code> {
    pools::unbond(draft, id, validator, some_or_all(amount))
}

pub fn redelegate(
    draft: &mut Draft,
    id: &AccountId,
    from: &AccountId,
    to: &AccountId,
    amount: u64,
) -> Result<(), Code> {
    pools::redelegate(draft, id, (from, to), some_or_all(amount))
}

pub fn set_take(draft: &mut Draft, id: &AccountId, take_bp: u16) -> Result<(), Code> {
    pools::set_take(draft, id, take_bp)
}

/// Moves everything that is owed to the account's members, present and former, to its balance (E20).
pub fn claim(draft: &mut Draft, id: &AccountId) -> Result<(), Code> {
    let subnets: Vec<SubnetId> = draft.range::<Subnet>(..).map(|(subnet, _)| *subnet).collect();
    let roles = |subnet| [Role::Miner, Role::Validator].map(|role| (subnet, role));
    let seats: Vec<(SubnetId, MemberId)> = subnets
        .into_iter()
        .flat_map(roles)
        .filter_map(|(subnet, role)| draft.member_of(subnet, role, id).map(|member| (subnet, member)))
        .collect();
    let mut claimed = false;
    for key in seats {
        let owed = draft.get::<Member>(&key).map_or(0, |member| member.owed);
        if owed > 0 {
            draft.change::<Member>(&key, |member| member.owed = 0);
            claimed |= release(draft, id, Purse::Owed, owed, Note::of(Kind::Claim).subnet(key.0));
        }
    }
    if let Some(owed) = draft.get::<Owed>(id).map(|owed| owed.amount) {
        draft.remove::<Owed>(id);
        draft.change::<Account>(id, |account| account.attached = account.attached.saturating_sub(1));
        claimed |= release(draft, id, Purse::Owed, owed, Note::of(Kind::Claim));
    }
    if claimed { Ok(()) } else { Err(Code::NothingOwed) }
}
