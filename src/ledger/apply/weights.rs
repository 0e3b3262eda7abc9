//! A validator's judgement of a period: sealed while the period is open, opened later (0x40, 0x41, D1-D3, Y18).
//!
//! A commit binds the vector before anyone else's is known, and can be replaced while its period is open. A reveal is
//! refused without a trace when it opens nothing, and has no effect when it is there already, so it may be sent again
//! until the window closes. Both are free within a quota; beyond it they pay like anything else. Only the reveal counts
//! as activity, and the vector revealed before stays in force until a reveal replaces it.

use super::super::close;
use super::super::draft::Draft;
use super::super::event::Event;
use super::super::incentive::rows::within_limit;
use super::super::judging::ScoreSource;
use super::super::receipt::Code;
use super::super::rows::{Commit, Member, Subnet, Vector};
use super::super::state::State;
use crate::protocol::commitment::{Author, Opening, Width};
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, SubnetId};
use crate::protocol::parameters::SubnetRules;
use crate::protocol::transaction::Role;

/// Commits of one validator and period that cost nothing.
const COMMITS_FREE: u8 = 2;
/// Times the same reveal may be sent again at no cost.
const REPEATS_FREE: u8 = 2;

/// Whose vector of which period.
#[derive(Clone, Copy)]
pub struct Whose {
    pub subnet: SubnetId,
    pub mechanism: u8,
    pub epoch: Epoch,
    pub member: MemberId,
}

/// Who sent it, at which height, and whether without a fee.
pub struct Sent<'a> {
    pub account: &'a AccountId,
    pub free: bool,
    pub height: Height,
}

fn subnet_and_validator(state: &State, id: &AccountId, of: Whose) -> Result<(Subnet, Member), Code> {
    let subnet = state.subnet(of.subnet).ok_or(Code::UnknownSubnet)?;
    let member = state.member(of.subnet, of.member).ok_or(Code::UnknownMember)?;
    if member.account != *id {
        return Err(Code::NotYours);
    }
    if member.role != Role::Validator {
        return Err(Code::NoPermit);
    }
    if of.mechanism > 0 {
        return Err(Code::UnknownMechanism);
    }
    Ok((subnet.clone(), member.clone()))
}

/// Seals a vector of the open period (D3).
pub fn commit(
    draft: &mut Draft,
    sent: &Sent<'_>,
    of: Whose,
    (version, hash): (u64, Digest),
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    let (subnet, member) = subnet_and_validator(draft, sent.account, of)?;
    if !member.permit {
        return Err(Code::NoPermit);
    }
    if draft.seat(of.subnet, of.member).suspended {
        return Err(Code::SeatSuspended);
    }
    if of.epoch != subnet.epoch {
        return Err(if of.epoch > subnet.epoch { Code::TooEarly } else { Code::TooLate });
    }
    if version < subnet.rules.weights_version {
        return Err(Code::WeightVersion);
    }
    let key = (of.subnet, of.epoch, of.member);
    let count = draft.get::<Commit>(&key).map_or(0, |commit| commit.count);
    if sent.free && count >= COMMITS_FREE {
        return Err(Code::CommitsUsedUp);
    }
    let count = count.saturating_add(1);
    let (operator, miners) = (member.operator, subnet.miners);
    draft.put(&key, Commit { hash, operator, miners, count, revealed: false, repeats: 0 });
    events.push(Event::Committed { subnet: of.subnet, epoch: of.epoch, member: of.member, hash });
    Ok(())
}

/// Opens a sealed vector within its window (D1, D3).
pub fn reveal(
    draft: &mut Draft,
    sent: &Sent<'_>,
    of: Whose,
    opening: &Opening,
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    let (subnet, _) = subnet_and_validator(draft, sent.account, of)?;
    close::reveals(draft, of.subnet, &subnet, of.epoch, sent.height)
        .map_err(|early| if early { Code::TooEarly } else { Code::TooLate })?;
    let key = (of.subnet, of.epoch, of.member);
    let commit = draft.get::<Commit>(&key).cloned().ok_or(Code::NoCommit)?;
    let by = Author {
        chain: draft.chain_id(),
        subnet: of.subnet,
        mechanism: of.mechanism,
        period: of.epoch,
        validator: of.member,
        operator: commit.operator,
    };
    if !opening.opens(&commit.hash, &by) {
        return Err(Code::OtherWeights);
    }
    if commit.revealed {
        if sent.free && commit.repeats >= REPEATS_FREE {
            return Err(Code::AlreadyRevealed);
        }
        draft.change::<Commit>(&key, |commit| commit.repeats = commit.repeats.saturating_add(1));
        return Ok(());
    }
    // A miner that left meanwhile is not the validator's mistake: its entry counts for nothing when the epoch is settled.
    let named = |id: &MemberId| *id < subnet.next_member && is_miner_or_gone(draft, of.subnet, *id);
    if !opening.row.iter().all(|(id, _)| named(id)) {
        return Err(Code::NoSuchMiner);
    }
    admitted(opening, &subnet.rules, commit.miners)?;
    draft.change::<Commit>(&key, |commit| commit.revealed = true);
    // Two periods can be open at once where a subnet conceals for less than it did; the newer one stays in force.
    if draft.get::<Vector>(&(of.subnet, of.member)).is_none_or(|vector| vector.epoch <= of.epoch) {
        draft.put(&(of.subnet, of.member), Vector { epoch: of.epoch, weights: opening.row.as_slice().into() });
    }
    if opening.log_len > 0 {
        draft.put(&key, source(commit.hash, opening, sent.height));
    }
    draft.change::<Member>(&(of.subnet, of.member), |member| member.last_reveal = Some(sent.height));
    let entries = u32::try_from(opening.row.len()).unwrap_or(u32::MAX);
    events.push(Event::Revealed { subnet: of.subnet, epoch: of.epoch, member: of.member, entries });
    Ok(())
}

fn source(commitment: Digest, opening: &Opening, revealed: Height) -> ScoreSource {
    let Opening { scorer_digest, params_digest, log_root, log_len, .. } = *opening;
    ScoreSource { commitment, scorer_digest, params_digest, log_root, log_len, revealed }
}

/// What a subnet asks of a row beyond its form (Y18); the form was checked where the bytes were read.
fn admitted(opening: &Opening, rules: &SubnetRules, miners: u32) -> Result<(), Code> {
    if opening.width > Width::of(rules.width) {
        return Err(Code::WeightWide);
    }
    if (opening.row.len() as u64) < rules.min_weights.min(miners.into()) {
        return Err(Code::WeightFew);
    }
    let values: Vec<u32> = opening.row.iter().map(|(_, weight)| *weight).collect();
    if !within_limit(&values, u16::try_from(rules.weight_limit).unwrap_or(u16::MAX)) {
        return Err(Code::WeightLimit);
    }
    Ok(())
}

fn is_miner_or_gone(state: &State, subnet: SubnetId, id: MemberId) -> bool {
    state.member(subnet, id).is_none_or(|member| member.role == Role::Miner)
}
