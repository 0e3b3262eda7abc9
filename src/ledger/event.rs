//! What the ledger tells the rest of the node about a height: facts with everything in them, never deltas.

use std::sync::Arc;

use serde::Serialize;

use super::settlement::Settlement;
use super::view::MetagraphRow;
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, SubnetId};
use crate::protocol::transaction::Role;

/// Something that happened at a height, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    EpochOpened(EpochOpened),
    EpochClosed(EpochClosed),
    /// The members of a subnet changed; the new list is in the state.
    Registered {
        subnet: SubnetId,
        member: MemberId,
        role: Role,
        account: AccountId,
    },
    Left {
        subnet: SubnetId,
        member: MemberId,
        role: Role,
        account: AccountId,
    },
    Committed {
        subnet: SubnetId,
        epoch: Epoch,
        member: MemberId,
        hash: Digest,
    },
    Revealed {
        subnet: SubnetId,
        epoch: Epoch,
        member: MemberId,
        entries: u32,
    },
    ModelPublished {
        subnet: SubnetId,
        artifact: Digest,
        account: AccountId,
        since: Height,
    },
    /// A commit was not opened: a part of the seat's bond is burned (D4).
    BondCut {
        subnet: SubnetId,
        epoch: Epoch,
        member: MemberId,
        amount: u64,
        left: u64,
    },
    /// A seat lost its voice, or has it back: its bond against its minimum (D4).
    Suspended {
        subnet: SubnetId,
        member: MemberId,
        suspended: bool,
        bond: u64,
        minimum: u64,
    },
    /// Somebody wants to see an entry of a score log; the answer names `deadline` and `number` (D14).
    LogChallenged {
        subnet: SubnetId,
        epoch: Epoch,
        member: MemberId,
        entry: u64,
        challenger: AccountId,
        deadline: Height,
        number: u64,
    },
    /// The end of a challenge: answered, or a part of the bond burned.
    LogChallengeEnded {
        subnet: SubnetId,
        epoch: Epoch,
        member: MemberId,
        number: u64,
        answered: bool,
        burned: u64,
    },
}

/// A new epoch of a subnet is open: score now, commit before `commit_end`, reveal within the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpochOpened {
    pub subnet: SubnetId,
    pub epoch: Epoch,
    /// The height that opened it; its own transactions already belong to it.
    pub height: Height,
    /// Commits for this epoch count at heights below this.
    pub commit_end: Height,
    /// Its reveals count from this height on, if no epoch before is late (D1).
    pub reveal_start: Height,
    /// Its reveals count at heights below this; the epoch is settled there.
    pub reveal_end: Height,
    /// Until when the epoch before can be revealed.
    pub previous_reveal_end: Height,
    pub members: Vec<MetagraphRow>,
}

/// An epoch was settled: what everybody's share was and what was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpochClosed {
    pub subnet: SubnetId,
    pub epoch: Epoch,
    pub height: Height,
    /// Minted and paid for this epoch, by side.
    pub paid_miners: u64,
    pub paid_validators: u64,
    pub paid_owner: u64,
    /// Validators that committed and did not reveal.
    pub missed: Vec<MemberId>,
    pub members: Vec<MetagraphRow>,
    /// What it was settled on (E22). Long, and kept by whoever keeps events: not told with them.
    #[serde(skip)]
    pub settlement: Arc<Settlement>,
}
