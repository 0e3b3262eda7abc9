//! Who belongs together (D8): a validator and a miner of one account, or one that has a twentieth of the other's pool.
//!
//! The effect of a relation is one-sided (Y6): a related validator creates no consensus for the miner and holds no bond on
//! it, but can still lower it.

use std::collections::BTreeMap;

use super::economy::rows::Charter;
use super::rows::{Pool, Shares};
use super::state::State;
use crate::protocol::ids::{AccountId, MemberId, SubnetId};
use crate::protocol::transaction::Role;

/// The part of a pool that makes a relation, over 65535.
const PART: u128 = 3_277;

/// Whether an account's shares are a twentieth of a pool.
fn is_large(state: &State, holder: &Shares, pool: &AccountId) -> bool {
    let all = state.get::<Pool>(pool).map_or(0, |pool| pool.shares);
    all > 0 && u128::from(holder.shares) * u128::from(u16::MAX) >= u128::from(all) * PART
}

/// Whether a validator's account is related to another account.
pub fn related(state: &State, validator: &AccountId, other: &AccountId) -> bool {
    let shares = || state.get::<Shares>(&(*other, *validator));
    validator == other || shares().is_some_and(|held| is_large(state, held, validator))
}

/// Every related validator and miner of a subnet, among the members below `bound`.
pub fn pairs(state: &State, subnet: SubnetId, bound: MemberId) -> Vec<(MemberId, MemberId)> {
    let mut validators: BTreeMap<AccountId, MemberId> = BTreeMap::new();
    let members = || state.members(subnet).filter(|(id, _)| *id < bound);
    validators.extend(members().filter(|at| at.1.role == Role::Validator).map(|(id, member)| (member.account, id)));
    let mut pairs = Vec::new();
    for (miner, member) in members().filter(|at| at.1.role == Role::Miner) {
        pairs.extend(validators.get(&member.account).map(|validator| (*validator, miner)));
        // An account has shares of few pools, and few validators share one pool's account.
        for (pool, held) in state.holdings(&member.account).filter(|(pool, _)| *pool != member.account) {
            if let Some(validator) = validators.get(&pool)
                && is_large(state, held, &pool)
            {
                pairs.push((*validator, miner));
            }
        }
    }
    pairs.sort_unstable();
    pairs
}

/// The miners whose pay is not minted because they belong to the subnet's owner (D8); none where the subnet allows it.
pub fn owners_miners(state: &State, subnet: SubnetId) -> Vec<MemberId> {
    let Some(owner) = state.get::<Charter>(&subnet).and_then(|charter| charter.owner) else { return Vec::new() };
    if state.subnet(subnet).is_none_or(|subnet| subnet.rules.owner_mining > 0) {
        return Vec::new();
    }
    let own = |account: &AccountId| related(state, &owner, account) || related(state, account, &owner);
    let miners = state.members(subnet).filter(|(_, member)| member.role == Role::Miner && own(&member.account));
    miners.map(|(id, _)| id).collect()
}
