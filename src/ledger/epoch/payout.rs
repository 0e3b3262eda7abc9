//! What an epoch pays: pots, divided among those who earned them, or carried (E8, E9, E19).

use super::super::draft::Draft;
use super::super::economy::rows::Purse;
use super::super::economy::{largest_remainder, mintable, pools};
use super::super::incentive::EpochResult;
use super::super::money::{self, Note};
use super::super::relation;
use super::super::rows::{Member, Subnet};
use crate::protocol::ids::{Epoch, MemberId, SubnetId};
use crate::protocol::statement::Kind;
use crate::protocol::transaction::Role;

/// Epochs a pot is carried while there is nobody to pay (E9).
const CARRIED_EPOCHS_MAX: u8 = 16;

/// What was minted and paid, by side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paid {
    pub miners: u64,
    pub validators: u64,
}

/// Pays for an epoch.
pub fn pay(draft: &mut Draft, id: SubnetId, epoch: Epoch, subnet: &mut Subnet, outcome: &EpochResult) -> Paid {
    let mut purse = draft.purse(id);
    let half = subnet.rules.emission / 2;
    let rest = subnet.rules.emission - half;
    let miners: Vec<(MemberId, u64)> = outcome.columns.iter().map(|m| (m.member, m.incentive.unsigned_abs())).collect();
    let validators: Vec<(MemberId, u64)> = outcome.rows.iter().map(|v| (v.member, v.dividend.unsigned_abs())).collect();
    let of = |kind| Note::of(kind).subnet(id).epoch(epoch);
    pay_fees(draft, &mut subnet.fee_pot, &validators, of(Kind::QueryFee));
    let miners = divide(draft, half, &mut purse.carried_miners, &miners, of(Kind::EmissionMiner));
    let validators = divide(draft, rest, &mut purse.carried_validators, &validators, of(Kind::EmissionValidator));
    carry(&mut purse);
    draft.put(&id, purse);
    subnet.minted = subnet.minted.saturating_add(miners).saturating_add(validators);
    Paid { miners, validators }
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
/// room for is not minted.
fn divide(draft: &mut Draft, pot: u64, carried: &mut u64, shares: &[(MemberId, u64)], note: Note) -> u64 {
    let wanted = pot.saturating_add(*carried);
    if shares.iter().all(|share| share.1 == 0) {
        *carried = wanted;
        return 0;
    }
    *carried = 0;
    let amount = mintable(wanted, draft.supply(), draft.parameters().supply_cap);
    let given = give(draft, amount, shares, note);
    money::mint(draft, given);
    given
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
