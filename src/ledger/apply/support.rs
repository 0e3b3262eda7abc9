//! What validators say about subnets and new miners (0x36, 0x38; E7, E14).

use super::super::draft::Draft;
use super::super::economy::members::ATTESTERS;
use super::super::economy::rows::{Attested, Purse, Standing, Support};
use super::super::receipt::Code;
use super::super::relation::related;
use super::super::rows::{Member, Subnet};
use crate::protocol::ids::{AccountId, Height, MemberId, SubnetId};
use crate::protocol::transaction::Role;

/// Replaces what an account's stake supports.
pub fn support(draft: &mut Draft, id: &AccountId, parts: &[(SubnetId, u16)]) -> Result<(), Code> {
    if draft.stake(id) == 0 {
        return Err(Code::NoStake);
    }
    if parts.iter().any(|(subnet, _)| draft.subnet(*subnet).is_none()) {
        return Err(Code::UnknownSubnet);
    }
    match (draft.get::<Support>(id).is_some(), parts.is_empty()) {
        (true, true) => draft.remove::<Support>(id),
        (_, false) => draft.put(id, Support { parts: parts.to_vec() }),
        (false, true) => {}
    }
    Ok(())
}

/// Says that a waiting miner answers. The second stranger that does so starts its clock (E14).
pub fn attest(
    draft: &mut Draft,
    id: &AccountId,
    subnet: SubnetId,
    validator: MemberId,
    miner: MemberId,
    height: Height,
) -> Result<(), Code> {
    let probation = draft.get::<Subnet>(&subnet).ok_or(Code::UnknownSubnet)?.rules.probation_epochs;
    let witness = draft.member(subnet, validator).ok_or(Code::UnknownMember)?;
    if witness.account != *id {
        return Err(Code::NotYours);
    }
    if witness.role != Role::Validator || !witness.permit {
        return Err(Code::NoPermit);
    }
    let of = draft.member(subnet, miner).ok_or(Code::UnknownMember)?;
    if !matches!(of.standing, Standing::Waiting { .. }) {
        return Err(Code::NotWaiting);
    }
    let key = (subnet, miner);
    let mut attested = draft.get::<Attested>(&key).cloned().unwrap_or_default();
    let Err(at) = attested.by.binary_search(&validator) else { return Err(Code::NoWitness) };
    if related(draft, id, &of.account) {
        return Err(Code::NoWitness);
    }
    attested.by.insert(at, validator);
    if attested.by.len() < ATTESTERS {
        draft.put(&key, attested);
    } else {
        draft.remove::<Attested>(&key);
        draft.change::<Member>(&key, |member| member.standing = Standing::Probation { epochs: probation });
    }
    draft.change::<Purse>(&subnet, |purse| purse.seen = height);
    Ok(())
}
