//! Reports of the markets: what a place costs, who may lose one, what an owner announced, what a term may mint.

use serde::{Deserialize, Serialize};

use super::{Motes, Share};
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, SubnetId};

/// `GET /api/v1/subnets/{name}/standing`: the doors of a subnet (E12-E17).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StandingReport {
    pub subnet: SubnetId,
    pub name: String,
    pub height: Height,
    pub epoch: Epoch,
    /// Members it has room for, and how many more fit in now.
    pub slots: u64,
    pub free: u64,
    /// What a miner's place costs at the next height: the part that is burned, and the part that comes back.
    pub price: Motes,
    pub price_burned: Motes,
    pub price_returned: Motes,
    /// What a validator's seat locks.
    pub seat_bond: Motes,
    pub owner: Option<AccountId>,
    /// Locked by the owner; it comes back when the subnet closes.
    pub lock: Motes,
    pub created: Height,
    /// No challenger can take its place before this height.
    pub protected_until: Height,
    /// It closes at this height; `challenged`: because somebody wants its place, and its owner may match it.
    pub closing: Option<Height>,
    pub challenged: bool,
    /// Rules that will change.
    pub changes: Vec<RuleChange>,
    pub grant: GrantRow,
    /// How many of the lowest would have to go now.
    pub exits: u64,
    /// The lowest first; those that cannot lose their place come last.
    pub miners: Vec<StandingRow>,
    /// Who comes first stands first.
    pub queue: Vec<QueueRow>,
}

/// A rule of a subnet that its owner changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleChange {
    pub rule: String,
    /// In the rule's own unit, in words.
    pub now: String,
    pub then: String,
    /// The epoch from whose opening it counts.
    pub epoch: Epoch,
}

/// A miner on its way from the queue to the exit (E14, E16).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StandingRow {
    pub member: MemberId,
    pub account: AccountId,
    /// `waiting`, `probation`, `active`, `notice` or `leaving`.
    pub standing: String,
    /// Heights waited, epochs of probation left, or the first epoch whose opening may end it.
    pub since: Option<u64>,
    /// Validators that saw it answer, while it waits.
    pub attested: u32,
    /// The smoothed score that ranks it (E15).
    pub score: Share,
    /// Its place among those that may lose theirs, 0 the lowest; none while it cannot.
    pub rank: Option<u32>,
    /// What its score lacks to the lowest that is safe; none when it is safe.
    pub lacks: Option<Share>,
    /// What its score has above the highest that would have to go; none when nobody has to, or it has to itself.
    pub ahead: Option<Share>,
}

/// A registration that waits for a place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueRow {
    pub place: u64,
    pub account: AccountId,
    pub paid: Motes,
    /// What comes back when it gives up.
    pub bond: Motes,
    pub since: Height,
}

/// What one subnet may mint in a term (E6, E7).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrantRow {
    pub subnet: SubnetId,
    pub name: String,
    /// Granted for the current term, by burned fees and by support.
    pub usage: Motes,
    pub support: Motes,
    /// What of it was taken, and what earlier terms left.
    pub taken: Motes,
    pub pending: Motes,
    /// What it was granted for a term on average.
    pub mean: Motes,
    /// Burned fees that later terms draw on.
    pub bank: Motes,
    /// The part of all stake that names it.
    pub named: Share,
}

/// A creation that waits for the place of a subnet (E17).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChallengerRow {
    pub account: AccountId,
    pub name: String,
    pub task: String,
    pub tempo: u64,
    pub lock: Motes,
    pub since: Height,
}

/// What one validator supports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VoiceRow {
    pub account: AccountId,
    pub stake: Motes,
    /// Subnets and their parts of this voice.
    pub parts: Vec<(SubnetId, Share)>,
}

/// `GET /api/v1/budget`: what the current term may mint, and who said so (E4-E7).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetReport {
    pub height: Height,
    /// The current term.
    pub term_start: Height,
    pub term_end: Height,
    /// All of the budget that the last boundary divided, and its parts.
    pub budget: Motes,
    pub committee: Motes,
    pub usage: Motes,
    pub support: Motes,
    /// What of each part was paid or granted.
    pub committee_paid: Motes,
    pub usage_granted: Motes,
    pub support_granted: Motes,
    /// What nobody was given stays unminted.
    pub unminted: Motes,
    pub subnets: Vec<GrantRow>,
    pub voices: Vec<VoiceRow>,
    /// What creating a subnet locks now, how many there are and may be, and who waits for a place.
    pub lock: Motes,
    pub subnets_open: u64,
    pub subnets_max: u64,
    pub challengers: Vec<ChallengerRow>,
}
