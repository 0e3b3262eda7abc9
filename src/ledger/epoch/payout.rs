//! What an epoch pays: what accrued of the grant, split and divided among those who earned it, or carried (E8, E9, E19).
//!
//! Money comes into being here and nowhere else but in the committee's pay: a pot is a right to mint until somebody is
//! paid from it.

use std::collections::BTreeSet;

use super::super::draft::Draft;
use super::super::economy::rows::{Charter, Purse, Standing};
use super::super::economy::split::split;
use super::super::economy::{largest_remainder, mintable, pools};
use super::super::incentive::EpochResult;
use super::super::money::{self, Note};
use super::super::relation;
use super::super::rows::{Member, Subnet, Vector};
use super::super::settlement::Pots;
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, SubnetId};
use crate::protocol::statement::Kind;
use crate::protocol::transaction::Role;

/// Epochs a pot is carried while there is nobody to pay (E9).
const CARRIED_EPOCHS_MAX: u8 = 16;
/// A miner's score goes this part of the way to its incentive in each epoch, as a shift (E15).
const SCORE_SHIFT: u32 = 3;

/// What was minted and paid, by side.
#[derive(Clone, Debug, Default)]
pub struct Paid {
    pub miners: u64,
    pub validators: u64,
    pub owner: u64,
    /// What miners were paid from.
    pub pots: Pots,
}

/// Pays for an epoch.
pub fn pay(
    draft: &mut Draft,
    (id, epoch): (SubnetId, Epoch),
    subnet: &mut Subnet,
    outcome: &EpochResult,
    height: Height,
) -> Paid {
    let mut purse = draft.purse(id);
    if worked(draft, id, epoch) {
        purse.worked = Some(height);
    }
    let amount = purse.take(draft.treasury().term_start, height, draft.parameters().term_heights);
    let owner = draft.get::<Charter>(&id).and_then(|charter| charter.owner);
    let owner_bp = owner.map_or(0, |_| subnet.rules.owner_bp);
    let parts = split(amount, owner_bp);
    let miners: Vec<(MemberId, u64)> = outcome.columns.iter().map(|m| (m.member, m.incentive.unsigned_abs())).collect();
    let validators: Vec<(MemberId, u64)> = outcome.rows.iter().map(|v| (v.member, v.dividend.unsigned_abs())).collect();
    let of = |kind| Note::of(kind).subnet(id).epoch(epoch);
    pay_fees(draft, &mut subnet.fee_pot, &validators, of(Kind::QueryFee));
    (purse.last_miners, purse.last_validators) =
        (parts.miners.saturating_add(purse.carried_miners), parts.validators.saturating_add(purse.carried_validators));
    let (carried, deferred) = (purse.carried_miners, relation::owners_miners(draft, id));
    let (divided, to_miners) = divide(draft, parts.miners, &mut purse.carried_miners, &miners, of(Kind::EmissionMiner));
    let worth = to_miners > 0;
    let paid = Paid {
        miners: to_miners,
        validators: divide(
            draft,
            parts.validators,
            &mut purse.carried_validators,
            &validators,
            of(Kind::EmissionValidator),
        )
        .1,
        // The owner is paid only for miners that are (E9).
        owner: owner
            .filter(|_| worth)
            .map_or(0, |owner| pay_owner(draft, &owner, parts.owner, of(Kind::EmissionOwner))),
        pots: Pots { granted: amount, owner_bp, carried, divided, deferred },
    };
    carry(&mut purse);
    draft.put(&id, purse);
    subnet.minted =
        subnet.minted.saturating_add(paid.miners).saturating_add(paid.validators).saturating_add(paid.owner);
    for column in &outcome.columns {
        draft.change::<Member>(&(id, column.member), |member| {
            member.score = smoothed(member.score, column.incentive.max(0).unsigned_abs());
        });
    }
    // Where an epoch opens at this very height, that opening takes nothing off.
    let opens = u64::from(subnet.next_open <= height);
    seen(draft, id, subnet.rules.probation_epochs.saturating_add(opens));
    paid
}

/// q := q + floor((I - q) / 8) (E15).
fn smoothed(score: u64, incentive: u64) -> u64 {
    let step = (i128::from(incentive) - i128::from(score)) >> SCORE_SHIFT;
    u64::try_from(i128::from(score) + step).unwrap_or(0)
}

/// Whether the epoch counts as work (E7): a row was revealed for it, and two accounts that are not the owner's mined.
fn worked(draft: &Draft, id: SubnetId, epoch: Epoch) -> bool {
    let owner = draft.get::<Charter>(&id).and_then(|charter| charter.owner);
    let miners: BTreeSet<AccountId> =
        draft.members(id).filter(|row| row.1.role == Role::Miner).map(|row| row.1.account).collect();
    let strangers = miners.into_iter().filter(|account| Some(*account) != owner).count();
    let all = (id, MemberId(0))..=(id, MemberId(u32::MAX));
    strangers >= 2 && draft.range::<Vector>(all).any(|(_, vector)| vector.epoch == epoch)
}

/// A weight of a stranger with a permit shows that a waiting miner answers: its probation begins (E14).
fn seen(draft: &mut Draft, id: SubnetId, probation: u64) {
    let waiting: Vec<(MemberId, AccountId)> = draft
        .members(id)
        .filter(|(_, member)| matches!(member.standing, Standing::Waiting { .. }))
        .map(|(at, member)| (at, member.account))
        .collect();
    if waiting.is_empty() {
        return;
    }
    let permitted: Vec<(MemberId, AccountId)> =
        draft.members(id).filter(|row| row.1.permit).map(|(at, member)| (at, member.account)).collect();
    for (miner, account) in waiting {
        let named = |row: &(MemberId, AccountId)| {
            let vector = draft.get::<Vector>(&(id, row.0));
            row.1 != account && vector.is_some_and(|v| v.weights.binary_search_by_key(&miner, |entry| entry.0).is_ok())
        };
        if permitted.iter().any(named) {
            draft.change::<Member>(&(id, miner), |member| member.standing = Standing::Probation { epochs: probation });
        }
    }
}

fn pay_owner(draft: &mut Draft, owner: &AccountId, part: u64, note: Note) -> u64 {
    let amount = mintable(part, draft.supply(), draft.parameters().supply_cap);
    if !money::credit(draft, owner, amount, note) {
        return 0;
    }
    money::mint(draft, amount);
    amount
}

/// Pots that could not be paid wait at most so many epochs (E9); then the right to mint them is gone.
fn carry(purse: &mut Purse) {
    if purse.carried_miners == 0 && purse.carried_validators == 0 {
        purse.carried_epochs = 0;
        return;
    }
    purse.carried_epochs = purse.carried_epochs.saturating_add(1);
    if purse.carried_epochs > CARRIED_EPOCHS_MAX {
        (purse.carried_miners, purse.carried_validators, purse.carried_epochs) = (0, 0, 0);
    }
}

/// Query fees join the validators' pay (E10): they exist already, so nothing is minted for them. While there is nobody to
/// pay they wait.
fn pay_fees(draft: &mut Draft, pot: &mut u64, shares: &[(MemberId, u64)], note: Note) {
    if *pot > 0 && shares.iter().any(|share| share.1 > 0) {
        give(draft, std::mem::take(pot), shares, note);
    }
}

/// Mints and pays one side's pot, with what was carried; carries it when there is nobody to pay. What the cap leaves no
/// room for is not minted. Says what was divided, and what of it was given.
fn divide(draft: &mut Draft, pot: u64, carried: &mut u64, shares: &[(MemberId, u64)], note: Note) -> (u64, u64) {
    let wanted = pot.saturating_add(*carried);
    if shares.iter().all(|share| share.1 == 0) {
        *carried = wanted;
        return (0, 0);
    }
    *carried = 0;
    let amount = mintable(wanted, draft.supply(), draft.parameters().supply_cap);
    let given = give(draft, amount, shares, note);
    money::mint(draft, given);
    (amount, given)
}

/// Gives members their parts of a pot: a miner is owed, a validator is paid into its pool (E18-E20). Says how much; what
/// miners of the subnet's owner would have is given to nobody, unless the subnet allows it (D8).
fn give(draft: &mut Draft, amount: u64, shares: &[(MemberId, u64)], note: Note) -> u64 {
    let Some(id) = note.subnet else { return 0 };
    let weights: Vec<u64> = shares.iter().map(|(_, share)| *share).collect();
    let (deferred, mut given) = (relation::owners_miners(draft, id), 0_u64);
    for ((member_id, _), part) in shares.iter().zip(largest_remainder(amount, &weights)) {
        if deferred.binary_search(member_id).is_ok() {
            continue;
        }
        given = given.saturating_add(part);
        let paid = match draft.member(id, *member_id).map(|member| (member.role, member.account)) {
            Some((Role::Miner, _)) => money::owe(draft, id, *member_id, part, note.share(part, amount)),
            Some((Role::Validator, account)) => {
                let earned = |member: &mut Member| member.earned = member.earned.saturating_add(part);
                draft.change::<Member>(&(id, *member_id), earned);
                pools::reward(draft, &account, part, note.share(part, amount))
            }
            None => false,
        };
        assert!(paid, "violation: member {member_id} of subnet {id} cannot be paid");
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e15_a_score_goes_an_eighth_of_the_way_and_reaches_both_ends() {
        assert_eq!((smoothed(0, 800), smoothed(800, 0), smoothed(800, 801)), (100, 700, 800));
        let settle = |from: u64, to: u64| (0..400).fold(from, |score, _| smoothed(score, to));
        assert_eq!(settle(1 << 32, 0), 0, "floor goes all the way down");
        assert!(settle(0, 1 << 32).abs_diff(1 << 32) < 8);
    }
}
