//! An epoch is settled: what it is judged by, what it comes to, and what of it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::draft::Draft;
use super::super::event::EpochClosed;
use super::super::incentive::fixed::{ONE, to_raw32};
use super::super::incentive::{
    BOND_FLOOR, BondBlock, ColumnInput, EpochInput, EpochJob, EpochResult, EpochRules, RowInput, Switches, Workspace,
};
use super::super::rows::{Bonds, Commit, Member, Subnet, Vector};
use super::payout;
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, SubnetId};
use crate::protocol::transaction::Role;

/// Settles the epoch before the open one.
pub fn settle(draft: &mut Draft, id: SubnetId, mut subnet: Subnet, height: Height) -> EpochClosed {
    let epoch = subnet.epoch.saturating_sub(subnet.rules.conceal);
    let (input, missed) = input(draft, id, &subnet, epoch, height);
    let job = EpochJob::new(input);
    assert!(job.is_ok(), "violation: the members or vectors of subnet {id} are malformed");
    let outcome = job.map(|job| job.run(&mut Workspace::new())).unwrap_or_default();
    store(draft, id, &outcome, &missed);
    let paid = payout::pay(draft, id, epoch, &mut subnet, &outcome);
    subnet.settle_at = None;
    subnet.last_settled = Some(height);
    draft.put(&id, subnet);
    let members = draft.metagraph(id).unwrap_or_default();
    EpochClosed {
        subnet: id,
        epoch,
        height,
        paid_miners: paid.miners,
        paid_validators: paid.validators,
        missed,
        members,
    }
}

/// What the epoch is judged by, and who did not open a commit. The commits of the epoch are done with.
fn input(
    draft: &mut Draft,
    id: SubnetId,
    subnet: &Subnet,
    epoch: Epoch,
    height: Height,
) -> (EpochInput, Vec<MemberId>) {
    let commits: Vec<((SubnetId, Epoch, MemberId), bool)> = draft
        .range::<Commit>((id, 0, MemberId(0))..=(id, epoch, MemberId(u32::MAX)))
        .map(|(key, commit)| (*key, commit.revealed))
        .collect();
    let mut missed = Vec::new();
    for (key, revealed) in commits {
        draft.remove::<Commit>(&key);
        if !revealed && draft.member(id, key.2).is_some() {
            missed.push(key.2);
        }
    }
    let (mut rows, mut columns, mut accounts) = (Vec::new(), Vec::new(), Vec::new());
    for (member_id, member) in draft.members(id) {
        match member.role {
            Role::Miner => {
                columns.push(ColumnInput { member: member_id, registered: member.registered, reset: false });
            }
            Role::Validator => {
                let vector = draft.get::<Vector>(&(id, member_id));
                let weights = vector.map(|vector| vector.weights.clone());
                rows.push(RowInput {
                    member: member_id,
                    stake: draft.stake(&member.account),
                    permit: member.permit,
                    last_activity: member.last_reveal,
                    missed: missed.contains(&member_id),
                    commit: None,
                    gate: ONE,
                    weights: weights.unwrap_or_else(|| Arc::from([])),
                });
            }
        }
        accounts.push((member.account, member.role, member_id));
    }
    let input = EpochInput {
        switches: Switches::of(&subnet.rules),
        rules: EpochRules::of(&subnet.rules),
        height,
        last_close: subnet.last_settled,
        owner: None,
        miner_pot: 0,
        validator_pot: 0,
        rows,
        columns,
        related: related(&accounts),
        bonds: draft.range::<Bonds>((id, 0, 0)..=(id, 0, u32::MAX)).map(|(_, bonds)| bonds.block.clone()).collect(),
        bond_floor: BOND_FLOOR,
    };
    (input, missed)
}

/// Validators and miners of one account (D8).
fn related(accounts: &[(AccountId, Role, MemberId)]) -> Vec<(MemberId, MemberId)> {
    let of = |role: Role| accounts.iter().filter(move |at| at.1 == role);
    let pairs = of(Role::Validator).flat_map(|v| of(Role::Miner).filter(|m| m.0 == v.0).map(|m| (v.2, m.2)));
    pairs.collect()
}

/// Keeps what the epoch came to (Y16).
fn store(draft: &mut Draft, id: SubnetId, outcome: &EpochResult, missed: &[MemberId]) {
    for miner in &outcome.columns {
        draft.change::<Member>(&(id, miner.member), |member| {
            member.consensus = to_raw32(miner.consensus);
            member.incentive = to_raw32(miner.incentive);
        });
    }
    for validator in &outcome.rows {
        draft.change::<Member>(&(id, validator.member), |member| {
            member.trust = to_raw32(validator.trust);
            member.dividend = to_raw32(validator.dividend);
            member.permit = validator.permit;
            member.missed = member.missed.saturating_add(u32::from(missed.contains(&validator.member)));
        });
    }
    let blocks: BTreeMap<u32, BondBlock> = outcome.bonds.blocks(&outcome.rows, &outcome.columns).into_iter().collect();
    let old: Vec<u32> = draft.range::<Bonds>((id, 0, 0)..=(id, 0, u32::MAX)).map(|(key, _)| key.2).collect();
    for number in old.into_iter().filter(|number| !blocks.contains_key(number)) {
        draft.remove::<Bonds>(&(id, 0, number));
    }
    for (number, block) in blocks {
        draft.put(&(id, 0, number), Bonds { block: Arc::new(block) });
    }
}
