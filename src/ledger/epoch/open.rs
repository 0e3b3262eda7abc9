//! An epoch opens: members come and go, and the clock is set.

use super::super::close;
use super::super::draft::Draft;
use super::super::economy::{members, subnets};
use super::super::event::{EpochOpened, Event};
use super::super::rows::Subnet;
use super::super::seats;
use super::super::state::next_open;
use crate::protocol::ids::{Height, SubnetId};

/// Opens the next epoch.
pub fn open(draft: &mut Draft, id: SubnetId, mut subnet: Subnet, height: Height, events: &mut Vec<Event>) {
    let epoch = subnet.epoch.saturating_add(1);
    subnets::changes(draft, id, &mut subnet, epoch);
    seats::review(draft, id, events);
    events.extend(members::turn(draft, id, &mut subnet, epoch, height));
    let window = subnet.rules.reveal_window;
    subnet.epoch = epoch;
    subnet.opened = height;
    subnet.next_open = next_open(id, subnet.rules.tempo, height);
    close::open_window(draft, id, &mut subnet, height);
    let commit_end = subnet.next_open;
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
