//! The clock of the subnets: an epoch opens, its weights are committed, then revealed, then it is settled and paid (L6).
//!
//! Epoch e of a subnet is open from the height that opens it (heights ≡ id modulo tempo) to the one that opens e + 1.
//! Its commits count while it is open, its reveals in the first `reveal_window` heights after, and at the end of that
//! window it is settled: an `EpochJob` says who earned what, and what was minted for it is paid to the mote. At
//! most two subnets are settled at one height; the others wait for the next, and until a subnet is settled it opens no
//! further epoch. Nothing is skipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::draft::Draft;
use super::economy::{largest_remainder, mintable, pools};
use super::event::{EpochClosed, EpochOpened, Event};
use super::incentive::fixed::{ONE, to_raw32};
use super::incentive::{
    BOND_FLOOR, BondBlock, ColumnInput, EpochInput, EpochJob, EpochResult, EpochRules, RowInput, Switches, Workspace,
};
use super::money::{self, Note};
use super::rows::{Account, Bonds, Commit, Due, DueReason, Member, Subnet, Vector};
use super::state::next_open;
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, SubnetId};
use crate::protocol::statement::{Kind, Purse};
use crate::protocol::transaction::Role;

/// Subnets settled at one height (L6).
const SETTLED_MAX: usize = 2;
/// Epochs a pot is carried while there is nobody to pay (E9).
const CARRIED_EPOCHS_MAX: u8 = 16;

/// All epoch work of a height, by subnet id.
pub fn run(draft: &mut Draft, height: Height, events: &mut Vec<Event>) {
    let ids: Vec<SubnetId> = draft.range::<Subnet>(..).map(|(id, _)| *id).collect();
    let mut settled = 0;
    for id in ids {
        let Some(subnet) = draft.subnet(id).cloned() else { continue };
        if subnet.settle_at.is_some_and(|at| at <= height) {
            if settled == SETTLED_MAX {
                continue;
            }
            settled += 1;
            events.push(Event::EpochClosed(settle(draft, id, subnet, height)));
        }
        let Some(subnet) = draft.subnet(id).cloned() else { continue };
        if subnet.next_open <= height && subnet.settle_at.is_none() {
            events.extend(open(draft, id, subnet, height));
        }
    }
}

/// Opens the next epoch: who asked to leave is out.
fn open(draft: &mut Draft, id: SubnetId, mut subnet: Subnet, height: Height) -> Vec<Event> {
    let mut events = Vec::new();
    let leaving: Vec<(MemberId, Member)> =
        draft.members(id).filter(|(_, member)| member.leaving).map(|(at, member)| (at, member.clone())).collect();
    for (member_id, member) in leaving {
        remove(draft, id, member_id, &member, height);
        match member.role {
            Role::Miner => subnet.miners = subnet.miners.saturating_sub(1),
            Role::Validator => subnet.validators = subnet.validators.saturating_sub(1),
        }
        let (role, account) = (member.role, member.account);
        events.push(Event::Left { subnet: id, member: member_id, role, account });
    }
    let window = subnet.rules.reveal_window;
    subnet.epoch = subnet.epoch.saturating_add(1);
    subnet.opened = height;
    subnet.next_open = next_open(id, subnet.rules.tempo, height);
    subnet.settle_at = (subnet.epoch >= subnet.rules.conceal).then(|| height.saturating_add(window));
    let (epoch, commit_end) = (subnet.epoch, subnet.next_open);
    let concealed = subnet.rules.tempo.saturating_mul(subnet.rules.conceal.saturating_sub(1));
    let reveal_start = commit_end.saturating_add(concealed);
    draft.put(&id, subnet);
    events.push(Event::EpochOpened(EpochOpened {
        subnet: id,
        epoch,
        height,
        commit_end,
        reveal_start,
        reveal_end: reveal_start.saturating_add(window),
        previous_reveal_end: height.saturating_add(window),
        members: draft.metagraph(id).unwrap_or_default(),
    }));
    events
}

/// Takes a member out; its bond waits in the due queue, so its account stays attached to something.
fn remove(draft: &mut Draft, subnet: SubnetId, id: MemberId, member: &Member, height: Height) {
    draft.remove::<Member>(&(subnet, id));
    draft.remove::<Vector>(&(subnet, id));
    money::keep_owed(draft, member);
    if member.bond > 0 {
        let note = Note::of(Kind::BondRefund).subnet(subnet);
        money::outgo(draft, &member.account, Purse::Bond, member.bond, note);
        let at = height.saturating_add(draft.parameters().exit_heights);
        super::due::push(
            draft,
            at,
            Due { account: member.account, amount: member.bond, reason: DueReason::BondRefund, pool: None },
        );
    }
    draft.change::<Account>(&member.account, |account| account.attached = account.attached.saturating_sub(1));
}

/// Settles the epoch before the open one.
fn settle(draft: &mut Draft, id: SubnetId, mut subnet: Subnet, height: Height) -> EpochClosed {
    let epoch = subnet.epoch.saturating_sub(subnet.rules.conceal);
    let (input, missed) = input(draft, id, &subnet, epoch, height);
    let job = EpochJob::new(input);
    assert!(job.is_ok(), "violation: the members or vectors of subnet {id} are malformed");
    let outcome = job.map(|job| job.run(&mut Workspace::new())).unwrap_or_default();
    store(draft, id, &outcome, &missed);
    let half = subnet.rules.emission / 2;
    let rest = subnet.rules.emission - half;
    let miners: Vec<(MemberId, u64)> = outcome.columns.iter().map(|m| (m.member, m.incentive.unsigned_abs())).collect();
    let validators: Vec<(MemberId, u64)> = outcome.rows.iter().map(|v| (v.member, v.dividend.unsigned_abs())).collect();
    let of = |kind| Note::of(kind).subnet(id).epoch(epoch);
    let paid_miners = pay(draft, half, &mut subnet.carried_miners, &miners, of(Kind::EmissionMiner));
    let paid_validators = pay(draft, rest, &mut subnet.carried_validators, &validators, of(Kind::EmissionValidator));
    pay_fees(draft, &mut subnet.fee_pot, &validators, of(Kind::QueryFee));
    carry(&mut subnet);
    subnet.minted = subnet.minted.saturating_add(paid_miners).saturating_add(paid_validators);
    subnet.settle_at = None;
    subnet.last_settled = Some(height);
    draft.put(&id, subnet);
    let members = draft.metagraph(id).unwrap_or_default();
    EpochClosed { subnet: id, epoch, height, paid_miners, paid_validators, missed, members }
}

/// Query fees join the validators' pay (E10): they exist already, so nothing is minted for them. While there is nobody to
/// pay they wait.
fn pay_fees(draft: &mut Draft, pot: &mut u64, shares: &[(MemberId, u64)], note: Note) {
    if *pot > 0 && shares.iter().any(|share| share.1 > 0) {
        give(draft, std::mem::take(pot), shares, note);
    }
}

/// Pots that could not be paid wait at most so many epochs (E9); then the right to mint them is gone.
fn carry(subnet: &mut Subnet) {
    if subnet.carried_miners == 0 && subnet.carried_validators == 0 {
        subnet.carried_epochs = 0;
        return;
    }
    subnet.carried_epochs = subnet.carried_epochs.saturating_add(1);
    if subnet.carried_epochs > CARRIED_EPOCHS_MAX {
        (subnet.carried_miners, subnet.carried_validators, subnet.carried_epochs) = (0, 0, 0);
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

/// Mints and pays one side's pot, with what was carried; carries it when there is nobody to pay. What the cap leaves no
/// room for is not minted.
fn pay(draft: &mut Draft, pot: u64, carried: &mut u64, shares: &[(MemberId, u64)], note: Note) -> u64 {
    let wanted = pot.saturating_add(*carried);
    if shares.iter().all(|share| share.1 == 0) {
        *carried = wanted;
        return 0;
    }
    *carried = 0;
    let amount = mintable(wanted, draft.supply(), draft.parameters().supply_cap);
    give(draft, amount, shares, note);
    money::mint(draft, amount);
    amount
}

/// Gives members their parts of a pot: a miner is owed, a validator is paid into its pool (E18-E20).
fn give(draft: &mut Draft, amount: u64, shares: &[(MemberId, u64)], note: Note) {
    let Some(id) = note.subnet else { return };
    let weights: Vec<u64> = shares.iter().map(|(_, share)| *share).collect();
    for ((member_id, _), part) in shares.iter().zip(largest_remainder(amount, &weights)) {
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
}
