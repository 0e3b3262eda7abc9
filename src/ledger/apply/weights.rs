//! A validator's judgement of an epoch: sealed while the epoch is open, opened after it (0x40, 0x41, L16).
//!
//! A commit binds the vector before anyone else's is known; the last of at most two counts. Only the reveal counts as
//! activity. The vector revealed before stays in force until a reveal replaces it.

use super::super::draft::Draft;
use super::super::event::Event;
use super::super::receipt::Code;
use super::super::rows::{Commit, Member, Subnet, Vector};
use super::super::state::State;
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, SubnetId};
use crate::protocol::transaction::{Role, Weight, weights_hash};

/// Commits of one validator in one epoch.
const COMMITS_MAX: u8 = 2;

/// Whose vector of which epoch.
#[derive(Clone, Copy)]
pub struct Whose {
    pub subnet: SubnetId,
    pub epoch: Epoch,
    pub member: MemberId,
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
    Ok((subnet.clone(), member.clone()))
}

pub fn commit(draft: &mut Draft, id: &AccountId, of: Whose, hash: Digest, events: &mut Vec<Event>) -> Result<(), Code> {
    let (subnet, member) = subnet_and_validator(draft, id, of)?;
    if !member.permit {
        return Err(Code::NoPermit);
    }
    if of.epoch != subnet.epoch {
        return Err(if of.epoch > subnet.epoch { Code::TooEarly } else { Code::TooLate });
    }
    let key = (of.subnet, of.epoch, of.member);
    let count = draft.get::<Commit>(&key).map_or(0, |commit| commit.count);
    if count >= COMMITS_MAX {
        return Err(Code::CommitsUsedUp);
    }
    draft.put(&key, Commit { hash, count: count + 1, revealed: false });
    events.push(Event::Committed { subnet: of.subnet, epoch: of.epoch, member: of.member, hash });
    Ok(())
}

pub fn reveal(
    draft: &mut Draft,
    id: &AccountId,
    of: Whose,
    (salt, weights): (&[u8; 32], &[Weight]),
    height: Height,
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    let (subnet, _) = subnet_and_validator(draft, id, of)?;
    if of.epoch >= subnet.epoch {
        return Err(Code::TooEarly);
    }
    // The window is the one after the epoch; once it is settled there is none.
    if of.epoch + 1 != subnet.epoch || subnet.settle_at.is_none_or(|end| height >= end) {
        return Err(Code::TooLate);
    }
    let key = (of.subnet, of.epoch, of.member);
    let commit = draft.get::<Commit>(&key).ok_or(Code::NoCommit)?;
    if commit.revealed {
        return Err(Code::AlreadyRevealed);
    }
    if commit.hash != weights_hash(&draft.chain_id(), of.subnet, of.epoch, of.member, salt, weights) {
        return Err(Code::OtherWeights);
    }
    // A miner that left meanwhile is not the validator's mistake: its entry counts for nothing when the epoch is settled.
    let named = |id: &MemberId| *id < subnet.next_member && is_miner_or_gone(draft, of.subnet, *id);
    if !weights.iter().all(|(id, _)| named(id)) {
        return Err(Code::NoSuchMiner);
    }
    draft.change::<Commit>(&key, |commit| commit.revealed = true);
    draft.put(&(of.subnet, of.member), Vector { epoch: of.epoch, weights: weights.to_vec() });
    draft.change::<Member>(&(of.subnet, of.member), |member| member.last_reveal = Some(height));
    let entries = u32::try_from(weights.len()).unwrap_or(u32::MAX);
    events.push(Event::Revealed { subnet: of.subnet, epoch: of.epoch, member: of.member, entries });
    Ok(())
}

fn is_miner_or_gone(state: &State, subnet: SubnetId, id: MemberId) -> bool {
    state.member(subnet, id).is_none_or(|member| member.role == Role::Miner)
}
