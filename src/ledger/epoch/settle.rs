//! A close comes due: what of its result is kept, and who is paid.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::draft::Draft;
use super::super::event::{EpochClosed, Event};
use super::super::incentive::fixed::to_raw32;
use super::super::incentive::{BondBlock, EpochResult};
use super::super::judging::Close;
use super::super::rows::{Bonds, Member};
use super::super::settlement::Settlement;
use super::super::{close, seats};
use super::payout;
use crate::protocol::ids::{Height, MemberId, SubnetId};

/// Settles the period of a close that is due.
pub fn settle(draft: &mut Draft, id: SubnetId, due: &Close, height: Height, events: &mut Vec<Event>) {
    let Some(mut subnet) = draft.subnet(id).cloned() else { return };
    let Some(mut settlement) = Settlement::of(draft, id, due) else { return };
    let (epoch, outcome) = (due.period, close::outcome(draft, &settlement));
    let earned: Vec<(MemberId, u64)> = draft.members(id).map(|(member, of)| (member, of.earned)).collect();
    draft.remove::<Close>(&id);
    let missed: Vec<MemberId> = due.voices.iter().filter(|voice| voice.missed).map(|voice| voice.member).collect();
    store(draft, id, &outcome, &missed);
    let paid = payout::pay(draft, (id, epoch), &mut subnet, &outcome, height);
    subnet.last_settled = Some(height);
    (settlement.height, settlement.pots) = (height, paid.pots);
    draft.put(&id, subnet);
    seats::judged(draft, id, due, &outcome, &earned, events);
    close::seat_newcomers(draft, id, due);
    events.push(Event::EpochClosed(EpochClosed {
        subnet: id,
        epoch,
        height,
        paid_miners: paid.miners,
        paid_validators: paid.validators,
        paid_owner: paid.owner,
        missed,
        members: draft.metagraph(id).unwrap_or_default(),
        settlement: Arc::new(settlement),
    }));
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
