//! Why a miner earned what it earned in an epoch (E22): from the grant to the motes, validator by validator, and what
//! each of them saw of it.

use serde::{Deserialize, Serialize};

use super::values::{Motes, Share};
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, SubnetId};

/// `GET /api/v1/subnets/{name}/why/{member}?epoch=N&logs=true`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WhyReport {
    pub subnet: SubnetId,
    pub name: String,
    pub task: String,
    pub epoch: Epoch,
    /// The height that paid.
    pub height: Height,
    pub member: MemberId,
    pub account: AccountId,
    /// What accrued of the subnet's grant for this epoch, and its three parts (E8).
    pub granted: Motes,
    pub owner_part: Motes,
    pub miners_part: Motes,
    pub validators_part: Motes,
    /// Miners' parts of earlier epochs in which nobody could be paid (E9).
    pub carried: Motes,
    /// What was divided among miners.
    pub pot: Motes,
    /// I = R over the sum of all R.
    pub incentive: Share,
    /// What validators agree on: a row counts up to it.
    pub consensus: Share,
    pub rank: u32,
    pub of: u32,
    /// The incentives of the best miner and of the one in the middle.
    pub best: Share,
    pub middle: Share,
    /// What the division gave it.
    pub amount: Motes,
    /// The amount was not minted: the miner belongs to the subnet's owner (D8).
    pub deferred: bool,
    /// What its statement says of this epoch.
    pub paid: Motes,
    /// The parts of the rows sum to the amount, and the statement says the same.
    pub ok: bool,
    pub rows: Vec<WhyRow>,
    /// What validators saw of it, by the logs they publish; empty when they were not asked for.
    pub seen: Vec<SeenRow>,
    /// What to look at first, in words.
    pub findings: Vec<String>,
}

/// What one validator's row did to one miner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WhyRow {
    pub validator: MemberId,
    /// A: its part of the stake that had a voice.
    pub voice: Share,
    /// W: what it gave the miner, as a share of its row.
    pub weight: Share,
    /// min(W, C), or the lift.
    pub counted: Share,
    /// What the clip took from the weight, and what the lift added to it.
    pub clipped: Share,
    pub lifted: Share,
    /// It belongs to the miner's side: it can lower the miner and not raise it (Y6).
    pub related: bool,
    /// It sealed its weights and did not open them.
    pub missed: bool,
    /// Its part of the amount.
    pub part: Motes,
}

/// What one validator's log says of one miner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenRow {
    pub validator: MemberId,
    /// Questions put to it.
    pub asked: u32,
    /// Answers that came in time and could be judged.
    pub answered: u32,
    /// Answers after the deadline.
    pub late: u32,
    /// Questions that nothing came for.
    pub missed: u32,
    /// Answers in time that were none: of a wrong shape or without sense.
    pub malformed: u32,
    /// Its mean score in this epoch, and the best miner's.
    pub mean: Share,
    pub best: Share,
    /// Its standing on the validator's board after this epoch; weights count from the chance level up.
    pub board: Share,
    pub chance: Share,
    /// In a competition: the part of the row that the verdict gave its model. Scores are those of the model then.
    pub part: Option<Share>,
    /// Its worst questions, the worst first.
    pub worst: Vec<SeenEntry>,
    /// Why there is nothing to see, if so.
    pub problem: String,
}

/// One question to one miner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenEntry {
    /// Which leaf of the log.
    pub entry: u64,
    pub query: Digest,
    pub outcome: String,
    /// In sixteenths of the deadline; none when nothing came.
    pub arrival: Option<u8>,
    pub quality: Share,
    pub score: Share,
}
