//! Becoming a member of a subnet and ceasing to be one (0x33, 0x34, 0x37, L15).

use super::super::draft::Draft;
use super::super::economy::members::{self, Entrant};
use super::super::economy::rows::{Charter, Queued};
use super::super::event::Event;
use super::super::money::{Note, lock};
use super::super::receipt::Code;
use super::super::rows::{Account, Member, Subnet};
use crate::protocol::ids::{AccountId, Height, MemberId, PublicKey, SubnetId};
use crate::protocol::statement::{Kind, Purse};
use crate::protocol::transaction::Role;

/// What a registration asks for.
pub struct Wanted {
    pub subnet: SubnetId,
    pub role: Role,
    pub operator: PublicKey,
    pub max_bond: u64,
}

/// Takes a place, or a place in the queue for one.
pub fn register(
    draft: &mut Draft,
    id: &AccountId,
    wanted: &Wanted,
    height: Height,
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    let mut subnet = draft.subnet(wanted.subnet).cloned().ok_or(Code::UnknownSubnet)?;
    if draft.get::<Charter>(&wanted.subnet).is_some_and(|charter| charter.closing.is_some()) {
        return Err(Code::SubnetClosing);
    }
    let waits = wanted.role == Role::Miner && draft.queue(wanted.subnet).iter().any(|(_, row)| row.account == *id);
    if waits || draft.member_of(wanted.subnet, wanted.role, id).is_some() {
        return Err(Code::AlreadyMember);
    }
    let event = match wanted.role {
        Role::Miner => {
            let price = draft.place_price(wanted.subnet, &subnet.rules, height);
            if price.whole > wanted.max_bond {
                return Err(Code::BondAboveMax);
            }
            members::buy(draft, wanted.subnet, &mut subnet, (id, wanted.operator), price)?
        }
        Role::Validator => Some(seat(draft, id, wanted, &mut subnet, height)?),
    };
    draft.put(&wanted.subnet, subnet);
    events.extend(event);
    Ok(())
}

/// A validator has a permit at once while a seat is free; later the epochs decide. It never queues.
fn seat(
    draft: &mut Draft,
    id: &AccountId,
    wanted: &Wanted,
    subnet: &mut Subnet,
    height: Height,
) -> Result<Event, Code> {
    if u64::from(subnet.miners) + u64::from(subnet.validators) >= subnet.rules.slots {
        return Err(Code::SubnetFull);
    }
    let bond = subnet.rules.validator_bond.max(draft.parameters().seat_bond_min);
    if bond > wanted.max_bond {
        return Err(Code::BondAboveMax);
    }
    if draft.stake(id) < subnet.rules.validator_stake {
        return Err(Code::ValidatorStake);
    }
    lock(draft, id, Purse::Bond, bond, Note::of(Kind::BondLock).subnet(wanted.subnet))?;
    let of = Entrant { account: *id, role: wanted.role, operator: wanted.operator, bond };
    Ok(members::enter(draft, wanted.subnet, subnet, &of, height))
}

/// Gives up a registration that waits: its bond is on the way back (E16).
pub fn unqueue(draft: &mut Draft, id: &AccountId, subnet: SubnetId, place: u64, height: Height) -> Result<(), Code> {
    let row = draft.get::<Queued>(&(subnet, place)).cloned().ok_or(Code::UnknownMember)?;
    if row.account != *id {
        return Err(Code::NotYours);
    }
    draft.remove::<Queued>(&(subnet, place));
    members::refund(draft, (id, Purse::Place), row.bond, subnet, height);
    draft.change::<Account>(id, |account| account.attached = account.attached.saturating_sub(1));
    Ok(())
}

/// Marks a member as leaving; it is out, and its bond on the way back, when the next epoch opens.
pub fn leave(draft: &mut Draft, id: &AccountId, subnet: SubnetId, member: MemberId) -> Result<(), Code> {
    draft.get::<Subnet>(&subnet).ok_or(Code::UnknownSubnet)?;
    let found = draft.member(subnet, member).ok_or(Code::UnknownMember)?;
    if found.account != *id {
        return Err(Code::NotYours);
    }
    if found.leaving {
        return Err(Code::AlreadyLeaving);
    }
    draft.change::<Member>(&(subnet, member), |member| member.leaving = true);
    Ok(())
}
