//! An epoch opens: who asked to leave is out, and the clock is set.

use super::super::close;
use super::super::draft::Draft;
use super::super::due;
use super::super::event::{EpochOpened, Event};
use super::super::money::{self, Note};
use super::super::rows::{Account, Due, DueReason, Member, Subnet, Vector};
use super::super::seats;
use super::super::state::next_open;
use crate::protocol::ids::{Height, MemberId, SubnetId};
use crate::protocol::statement::{Kind, Purse};
use crate::protocol::transaction::Role;

/// Opens the next epoch: who asked to leave is out.
pub fn open(draft: &mut Draft, id: SubnetId, mut subnet: Subnet, height: Height, events: &mut Vec<Event>) {
    seats::review(draft, id, events);
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
    close::open_window(draft, id, &mut subnet, height);
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
}

/// Takes a member out; its bond waits in the due queue, so its account stays attached to something.
fn remove(draft: &mut Draft, subnet: SubnetId, id: MemberId, member: &Member, height: Height) {
    draft.remove::<Member>(&(subnet, id));
    draft.remove::<Vector>(&(subnet, id));
    seats::gone(draft, subnet, id);
    money::keep_owed(draft, member);
    if member.bond > 0 {
        let note = Note::of(Kind::BondRefund).subnet(subnet);
        money::outgo(draft, &member.account, Purse::Bond, member.bond, note);
        let at = height.saturating_add(draft.parameters().exit_heights);
        due::push(
            draft,
            at,
            Due { account: member.account, amount: member.bond, reason: DueReason::BondRefund, pool: None },
        );
    }
    draft.change::<Account>(&member.account, |account| account.attached = account.attached.saturating_sub(1));
}
