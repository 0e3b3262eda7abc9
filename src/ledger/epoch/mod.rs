//! The clock of the subnets: an epoch opens, its weights are committed, then revealed, then it is settled and paid (L6).
//!
//! Epoch e of a subnet is open from the height that opens it (heights ≡ id modulo tempo) to the one that opens e + 1.
//! Its commits count while it is open, its reveals in the first `reveal_window` heights after, and at the end of that
//! window its close begins (`close`): an `EpochJob` says who earned what, and some heights later it is settled, and what
//! was minted for it is paid to the mote. At most two subnets are settled at one height; the others wait for the next,
//! and until a subnet is settled it opens no further epoch. Nothing is skipped.

mod open;
mod payout;
mod settle;

use super::close;
use super::draft::Draft;
use super::economy::rows::Charter;
use super::event::Event;
use super::judging::Close;
use super::rows::Subnet;
use crate::protocol::ids::{Height, SubnetId};

/// Subnets settled at one height (L6).
const SETTLED_MAX: usize = 2;

/// All epoch work of a height, by subnet id.
pub fn run(draft: &mut Draft, height: Height, events: &mut Vec<Event>) {
    let ids: Vec<SubnetId> = draft.range::<Subnet>(..).map(|(id, _)| *id).collect();
    let mut settled = 0;
    for id in ids {
        let Some(mut subnet) = draft.subnet(id).cloned() else { continue };
        if subnet.settle_at.is_some_and(|at| at <= height) {
            close::window_ends(draft, id, &mut subnet, height);
            draft.put(&id, subnet);
        }
        if let Some(due) = draft.get::<Close>(&id).cloned().filter(|close| close.apply_at <= height) {
            if settled == SETTLED_MAX {
                continue;
            }
            settled += 1;
            settle::settle(draft, id, &due, height, events);
        }
        let Some(subnet) = draft.subnet(id).cloned() else { continue };
        // What is about to end opens nothing more (E17).
        let ends = draft.get::<Charter>(&id).is_some_and(|charter| charter.closing.is_some_and(|at| at <= height));
        if !ends && subnet.next_open <= height && subnet.settle_at.is_none() && draft.get::<Close>(&id).is_none() {
            open::open(draft, id, subnet, height, events);
        }
    }
}
