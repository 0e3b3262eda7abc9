//! Becoming a member of a subnet and ceasing to be one (0x33, 0x34, L15).

use super::super::draft::Draft;
use super::super::economy::rows::Standing;
use super::super::event::Event;
use super::super::judging::Close;
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

/// Locks the bond and gives the next id. A validator has a permit at once while a seat is free; later the epochs decide.
pub fn register(
    draft: &mut Draft,
    id: &AccountId,
    wanted: &Wanted,
    height: Height,
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    let mut subnet = draft.subnet(wanted.subnet).cloned().ok_or(Code::UnknownSubnet)?;
    if draft.member_of(wanted.subnet, wanted.role, id).is_some() {
        return Err(Code::AlreadyMember);
    }
    if u64::from(subnet.miners) + u64::from(subnet.validators) >= subnet.rules.slots {
        return Err(Code::SubnetFull);
    }
    let bond = match wanted.role {
        Role::Miner => subnet.rules.miner_bond,
        Role::Validator => subnet.rules.validator_bond.max(draft.parameters().seat_bond_min),
    };
    if bond > wanted.max_bond {
        return Err(Code::BondAboveMax);
    }
    if wanted.role == Role::Validator && draft.stake(id) < subnet.rules.validator_stake {
        return Err(Code::ValidatorStake);
    }
    lock(draft, id, Purse::Bond, bond, Note::of(Kind::BondLock).subnet(wanted.subnet))?;
    draft.change::<Account>(id, |account| account.attached = account.attached.saturating_add(1));
    let member = subnet.next_member;
    // 2^32 registrations, at least one height for each 2,048, are out of reach.
    subnet.next_member = MemberId(member.0.saturating_add(1));
    // A close in flight decides the seats first; what it leaves free is given out behind it.
    let deciding = draft.get::<Close>(&wanted.subnet).is_some();
    let permit = wanted.role == Role::Validator && !deciding && free_seat(draft, wanted.subnet, subnet.rules.seats);
    match wanted.role {
        Role::Miner => subnet.miners = subnet.miners.saturating_add(1),
        Role::Validator => subnet.validators = subnet.validators.saturating_add(1),
    }
    draft.put(&wanted.subnet, subnet);
    draft.put(
        &(wanted.subnet, member),
        Member {
            account: *id,
            role: wanted.role,
            operator: wanted.operator,
            bond,
            registered: height,
            leaving: false,
            permit,
            last_reveal: None,
            missed: 0,
            consensus: 0,
            incentive: 0,
            dividend: 0,
            trust: 0,
            earned: 0,
            owed: 0,
            score: 0,
            standing: Standing::default(),
        },
    );
    events.push(Event::Registered { subnet: wanted.subnet, member, role: wanted.role, account: *id });
    Ok(())
}

fn free_seat(draft: &Draft, subnet: SubnetId, seats: u64) -> bool {
    (draft.members(subnet).filter(|(_, member)| member.permit).count() as u64) < seats
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
