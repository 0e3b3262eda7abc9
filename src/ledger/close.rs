//! Closing a period without stalling a checkpoint (1.6): looked at when its window ends, applied some heights later.
//!
//! At the end of the reveal window a `Close` keeps all that may still change: stakes, permits, who missed. Vectors and
//! bonds cannot change while it is in flight, so the job is the same whether it is made at once, on another thread, or
//! again after a restart; what was worked out beside is handed in by the name of the state it was taken from. Openings
//! of epochs wait for the close before, and with them everybody who leaves; who registers meanwhile is not part of it.

use std::sync::Arc;

use super::draft::Draft;
use super::incentive::fixed::ONE;
use super::incentive::{EpochJob, EpochResult, Workspace};
use super::judging::{Close, ScoreSource, Voice, Window};
use super::relation;
use super::rows::{Bonds, Commit, Member, Subnet, Vector};
use super::settlement::Settlement;
use super::state::State;
use crate::protocol::ids::{Digest, Epoch, Height, MemberId, SubnetId};
use crate::protocol::transaction::Role;

/// Heights a close takes at least (1.6).
const LAG_LEAST: u64 = 2;
/// Weights that make it a height longer.
const LAG_ENTRIES: u64 = 2_000_000;
/// A window in which more than this part of the room for weights was used, over 10,000, is made longer (D3).
const CROWDED: u64 = 9_000;
/// Periods for which the source of a row is kept (D11).
const SOURCES_KEPT: u64 = 16;

impl State {
    /// Closes in flight: their subnets, and the name under which a result is handed in.
    pub fn closing(&self) -> Vec<(SubnetId, Digest)> {
        self.range::<Close>(..).map(|(id, close)| (*id, close.root)).collect()
    }

    /// The work of a close in flight: a pure function of this state for as long as it is in flight.
    pub fn close_job(&self, id: SubnetId) -> Option<EpochJob> {
        job(self, &Settlement::of(self, id, self.get::<Close>(&id)?)?)
    }
}

/// Sets the window of the periods whose time has come, when an epoch opens (D1).
pub fn open_window(draft: &mut Draft, id: SubnetId, subnet: &mut Subnet, height: Height) {
    let mut window = draft.get::<Window>(&id).cloned().unwrap_or_default();
    (window.mark, window.extended) = (draft.weight_room(), false);
    let due = subnet.epoch.checked_sub(subnet.rules.conceal).is_some_and(|period| period >= window.next);
    subnet.settle_at = due.then(|| height.saturating_add(subnet.rules.reveal_window));
    draft.put(&id, window);
}

/// Whether a period can be revealed now, and if not, whether it can later (D1).
///
/// # Errors
/// It is over, or has not begun.
pub fn reveals(state: &State, id: SubnetId, subnet: &Subnet, period: Epoch, height: Height) -> Result<(), bool> {
    let early = period.saturating_add(subnet.rules.conceal) > subnet.epoch;
    let next = state.get::<Window>(&id).map_or(0, |window| window.next);
    let open = period >= next && subnet.settle_at.is_some_and(|end| height < end);
    if early || !open { Err(early) } else { Ok(()) }
}

/// The end of a window: it is made longer once, where the ledger was short of room, or the close begins.
pub fn window_ends(draft: &mut Draft, id: SubnetId, subnet: &mut Subnet, height: Height) {
    let mut window = draft.get::<Window>(&id).cloned().unwrap_or_default();
    let length = subnet.rules.reveal_window;
    let used = draft.weight_room().saturating_sub(window.mark);
    if !window.extended && used > length.saturating_mul(CROWDED) {
        window.extended = true;
        draft.put(&id, window);
        subnet.settle_at = Some(height.saturating_add(length));
        return;
    }
    let period = subnet.epoch.saturating_sub(subnet.rules.conceal);
    window.next = period.saturating_add(1);
    draft.put(&id, window);
    subnet.settle_at = None;
    begin(draft, id, subnet, period, height);
    let old = period.saturating_sub(SOURCES_KEPT);
    let gone: Vec<_> =
        draft.range::<ScoreSource>((id, 0, MemberId(0))..(id, old, MemberId(0))).map(|(key, _)| *key).collect();
    for key in gone {
        draft.remove::<ScoreSource>(&key);
    }
}

/// Takes what the close is judged by. Commits up to its period are done with.
fn begin(draft: &mut Draft, id: SubnetId, subnet: &Subnet, period: Epoch, height: Height) {
    let commits: Vec<((SubnetId, Epoch, MemberId), bool)> = draft
        .range::<Commit>((id, 0, MemberId(0))..=(id, period, MemberId(u32::MAX)))
        .map(|(key, commit)| (*key, commit.revealed))
        .collect();
    let mut missed = Vec::new();
    for (key, revealed) in commits {
        draft.remove::<Commit>(&key);
        if !revealed {
            missed.push(key.2);
        }
    }
    missed.sort_unstable();
    let gated = subnet.rules.freshness_gate > 0;
    let mut entries = 0_u64;
    let mut voices = Vec::new();
    for (member, of) in draft.members(id).filter(|(_, member)| member.role == Role::Validator) {
        let seat = draft.seat(id, member);
        entries += draft.get::<Vector>(&(id, member)).map_or(0, |vector| vector.weights.len() as u64);
        voices.push(Voice {
            member,
            stake: draft.stake(&of.account),
            permit: of.permit && draft.seat_speaks(id, subnet, member),
            missed: missed.binary_search(&member).is_ok(),
            last_reveal: of.last_reveal,
            gate: if gated { seat.freshness.gate(i64::try_from(seat.active).unwrap_or(i64::MAX)) } else { ONE },
        });
    }
    let apply_at = height.saturating_add(LAG_LEAST).saturating_add(entries.div_ceil(LAG_ENTRIES));
    let (bound, root) = (subnet.next_member, draft.root());
    let related = relation::pairs(draft, id, bound);
    draft.put(&id, Close { period, height, apply_at, bound, root, voices, related });
}

/// A settlement's epoch, with the bonds of the state.
fn job(state: &State, of: &Settlement) -> Option<EpochJob> {
    let id = of.subnet;
    let bonds = state.range::<Bonds>((id, 0, 0)..=(id, 0, u32::MAX)).map(|(_, bonds)| bonds.block.clone());
    let made = EpochJob::new(of.input(bonds.collect()));
    assert!(made.is_ok(), "violation: the members or vectors of subnet {id} are malformed");
    made.ok()
}

/// What a close comes to: what was handed in, or worked out here and now. The same bits.
pub fn outcome(draft: &mut Draft, settlement: &Settlement) -> Arc<EpochResult> {
    let ready = draft.take_ready(settlement.subnet, &settlement.close.root);
    ready.unwrap_or_else(|| {
        let job = job(draft, settlement);
        Arc::new(job.map(|job| job.run(&mut Workspace::new())).unwrap_or_default())
    })
}

/// Gives the seats that a close left free to validators that registered while it was in flight, the oldest first.
pub fn seat_newcomers(draft: &mut Draft, id: SubnetId, close: &Close) {
    let seats = draft.subnet(id).map_or(0, |subnet| subnet.rules.seats);
    let mut taken = draft.members(id).filter(|(_, member)| member.permit).count() as u64;
    let waiting: Vec<MemberId> = draft
        .members(id)
        .filter(|(member, of)| *member >= close.bound && of.role == Role::Validator && !of.permit)
        .map(|(member, _)| member)
        .collect();
    for member in waiting {
        if taken < seats {
            draft.change::<Member>(&(id, member), |member| member.permit = true);
            taken += 1;
        }
    }
}
