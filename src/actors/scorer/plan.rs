//! What a validator owes a subnet at a height: pure, and read off the ledger's state each time anew, so that nothing
//! depends on having seen every height, and a restart or a lost message changes nothing but time.

use crate::ledger::economy::rows::Charter;
use crate::ledger::judging::Close;
use crate::ledger::rows::{Commit, Subnet};
use crate::ledger::state::State;
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, PublicKey, SubnetId};
use crate::protocol::transaction::Role;

/// The vector is committed so many heights before the epoch closes: time for three leaders to include it, and in a long
/// epoch for more.
const COMMIT_LEAD: u64 = 3;
const COMMIT_PART: u64 = 32;
const COMMIT_LEAD_MAX: u64 = 12;
/// A transaction that had no effect after so many heights is sent again: one leader had it and did not include it.
pub const RESEND_HEIGHTS: u64 = 2;

/// A validator's place in a subnet at a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub subnet: SubnetId,
    pub member: MemberId,
    pub height: Height,
    pub epoch: Epoch,
    pub opened: Height,
    pub next_open: Height,
    /// Our commit of the open epoch is on the ledger.
    pub committed: bool,
    /// The epoch whose weights open now, or at the next height for sure (D1).
    pub opening: Option<Epoch>,
    /// The last height at which they can be opened, as far as is known: a crowded window is made longer.
    pub reveal_until: Height,
    /// Our commit of that epoch is on the ledger and waits for its reveal.
    pub unrevealed: bool,
    /// The key our commitments name.
    pub operator: PublicKey,
    /// The least version of a scorer the subnet takes.
    pub version: u64,
    pub bond: u64,
    /// The least bond it must have; below it the seat is suspended when an epoch opens (D4).
    pub bond_minimum: u64,
    /// It may not commit (D4).
    pub suspended: bool,
    /// It gives the seat up.
    pub leaving: bool,
    /// Commits that were not opened, of the last sixteen periods.
    pub misses: u32,
    /// The height of the last reveal that took effect.
    pub revealed_at: Option<Height>,
}

impl Seat {
    /// The seat of an account, if it validates in the subnet.
    pub fn of(state: &State, subnet: SubnetId, account: &AccountId) -> Option<Self> {
        let of = state.subnet(subnet)?;
        let Subnet { epoch, opened, next_open, .. } = *of;
        let height = state.height();
        let turned = turns(state, subnet, of);
        let opening = if turned { epoch.saturating_add(1) } else { epoch }.checked_sub(of.rules.conceal);
        let begin = if turned { next_open } else { opened };
        let ends = of.settle_at.unwrap_or_else(|| begin.saturating_add(of.rules.reveal_window));
        let member = state.member_of(subnet, Role::Validator, account)?;
        let row = state.member(subnet, member)?;
        let commit = |epoch: Epoch| state.get::<Commit>(&(subnet, epoch, member));
        let unrevealed = opening.and_then(commit).is_some_and(|commit| !commit.revealed);
        let committed = commit(epoch).is_some();
        let seat = state.seat(subnet, member);
        Some(Self {
            subnet,
            member,
            height,
            epoch,
            opened,
            next_open,
            committed,
            opening,
            reveal_until: ends.saturating_sub(1),
            unrevealed,
            operator: row.operator,
            version: of.rules.weights_version,
            bond: row.bond,
            bond_minimum: state.bond_minimum(subnet, member),
            suspended: seat.suspended,
            leaving: row.leaving,
            misses: seat.misses.count_ones(),
            revealed_at: row.last_reveal,
        })
    }

    /// The first height at which this epoch's vector is committed.
    pub fn commit_from(&self) -> Height {
        let lead = (self.next_open.saturating_sub(self.opened) / COMMIT_PART).clamp(COMMIT_LEAD, COMMIT_LEAD_MAX);
        self.next_open.saturating_sub(lead).max(self.opened + 1)
    }

    /// How many of the epoch's `rounds` challenges should have been put by now: spread from the epoch's opening to the
    /// commit, none after it.
    pub fn rounds_due(&self, rounds: u64) -> u64 {
        let span = self.commit_from().saturating_sub(self.opened).max(1);
        let passed = self.height.saturating_sub(self.opened);
        if self.height >= self.commit_from() { 0 } else { (passed * rounds / span + 1).min(rounds) }
    }

    /// The last height at which this epoch's vector can be committed.
    pub fn commit_until(&self) -> Height {
        self.next_open.saturating_sub(1)
    }

    /// Whether the vector of this epoch is due, and can still be in time.
    pub fn commit_due(&self) -> bool {
        self.height >= self.commit_from() && self.height < self.commit_until() && !self.committed && !self.suspended
    }

    /// What is missing of the bond.
    pub fn bond_missing(&self) -> u64 {
        self.bond_minimum.saturating_sub(self.bond)
    }
}

/// Whether the next height opens the next epoch for sure. The last height that could hold a commit of the open one is
/// final then, so an opening that is sent now tells nobody anything in time, and gains a height.
fn turns(state: &State, id: SubnetId, subnet: &Subnet) -> bool {
    let charter = state.get::<Charter>(&id);
    // A rule that changes may be the one that says how long weights stay sealed.
    let settled = charter.is_none_or(|charter| charter.closing.is_none() && charter.changes.is_empty());
    let closed = subnet.settle_at.is_none() && state.get::<Close>(&id).is_none();
    settled && closed && state.height().saturating_add(1) == subnet.next_open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(height: Height) -> Seat {
        Seat {
            subnet: SubnetId(1),
            member: MemberId(0),
            height,
            epoch: 3,
            opened: 30,
            next_open: 40,
            committed: false,
            opening: Some(2),
            reveal_until: 33,
            unrevealed: false,
            operator: PublicKey([1; 32]),
            version: 0,
            bond: 64,
            bond_minimum: 50,
            suspended: false,
            leaving: false,
            misses: 0,
            revealed_at: None,
        }
    }

    #[test]
    fn rounds_spread_over_the_epoch_and_end_before_the_commit() {
        let due: Vec<u64> = (30..40).map(|height| seat(height).rounds_due(3)).collect();
        assert_eq!(due, [1, 1, 1, 2, 2, 3, 3, 0, 0, 0]);
        let commits: Vec<bool> = (30..40).map(|height| seat(height).commit_due()).collect();
        assert_eq!(commits.iter().position(|due| *due), Some(7));
        assert_eq!(commits.iter().filter(|due| **due).count(), 2, "at 39 the last height for it is final");
        assert!(!Seat { committed: true, ..seat(38) }.commit_due());
        assert!(!Seat { suspended: true, ..seat(38) }.commit_due());
    }

    #[test]
    fn an_epoch_too_short_for_rounds_asks_for_none() {
        let short = Seat { next_open: 33, ..seat(31) };
        assert_eq!(short.rounds_due(3), 0);
        assert!(short.commit_due());
    }
}
