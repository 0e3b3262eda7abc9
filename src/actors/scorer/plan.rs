//! What a validator owes a subnet at a height: pure, and read off the ledger's state each time anew, so that nothing
//! depends on having seen every height, and a restart or a lost message changes nothing but time.

use crate::ledger::rows::{Commit, Subnet};
use crate::ledger::state::State;
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, PublicKey, SubnetId};
use crate::protocol::transaction::Role;

/// The vector is committed so many heights before the epoch closes: time for three leaders to include it.
const COMMIT_LEAD: u64 = 3;
/// A transaction that had no effect after so many heights is sent again.
pub const RESEND_HEIGHTS: u64 = 3;

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
    /// The epoch whose weights open now (D1).
    pub opening: Option<Epoch>,
    /// Our commit of that epoch is on the ledger and waits for its reveal.
    pub unrevealed: bool,
    /// The key our commitments name.
    pub operator: PublicKey,
    /// The least version of a scorer the subnet takes.
    pub version: u64,
}

impl Seat {
    /// The seat of an account, if it validates in the subnet.
    pub fn of(state: &State, subnet: SubnetId, account: &AccountId) -> Option<Self> {
        let of = state.subnet(subnet)?;
        let Subnet { epoch, opened, next_open, .. } = *of;
        let (opening, version) = (epoch.checked_sub(of.rules.conceal), of.rules.weights_version);
        let member = state.member_of(subnet, Role::Validator, account)?;
        let operator = state.member(subnet, member)?.operator;
        let commit = |epoch: Epoch| state.get::<Commit>(&(subnet, epoch, member));
        let unrevealed = opening.and_then(commit).is_some_and(|commit| !commit.revealed);
        let (height, committed) = (state.height(), commit(epoch).is_some());
        Some(Self {
            subnet,
            member,
            height,
            epoch,
            opened,
            next_open,
            committed,
            opening,
            unrevealed,
            operator,
            version,
        })
    }

    /// The first height at which this epoch's vector is committed.
    pub fn commit_from(&self) -> Height {
        self.next_open.saturating_sub(COMMIT_LEAD).max(self.opened + 1)
    }

    /// How many of the epoch's `rounds` challenges should have been put by now: spread from the epoch's opening to the
    /// commit, none after it.
    pub fn rounds_due(&self, rounds: u64) -> u64 {
        let span = self.commit_from().saturating_sub(self.opened).max(1);
        let passed = self.height.saturating_sub(self.opened);
        if self.height >= self.commit_from() { 0 } else { (passed * rounds / span + 1).min(rounds) }
    }

    /// Whether the vector of this epoch is due.
    pub fn commit_due(&self) -> bool {
        self.height >= self.commit_from() && !self.committed
    }
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
            unrevealed: false,
            operator: PublicKey([1; 32]),
            version: 0,
        }
    }

    #[test]
    fn rounds_spread_over_the_epoch_and_end_before_the_commit() {
        let due: Vec<u64> = (30..40).map(|height| seat(height).rounds_due(3)).collect();
        assert_eq!(due, [1, 1, 1, 2, 2, 3, 3, 0, 0, 0]);
        let commits: Vec<bool> = (30..40).map(|height| seat(height).commit_due()).collect();
        assert_eq!(commits.iter().position(|due| *due), Some(7));
        assert!(!Seat { committed: true, ..seat(38) }.commit_due());
    }

    #[test]
    fn an_epoch_too_short_for_rounds_asks_for_none() {
        let short = Seat { next_open: 31, ..seat(31) };
        assert_eq!(short.rounds_due(3), 0);
        assert!(short.commit_due());
    }
}
