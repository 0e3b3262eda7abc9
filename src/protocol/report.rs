//! What a node tells people: the documents of `/api/v1`, of the command line's `--json`, and of nothing else.
//!
//! One shape serves all three, so that a script may read either. Reports are never signed, hashed or sent between nodes;
//! a field may be added, none is renamed. Amounts are decimal strings of motes, because a reader of JSON may keep numbers
//! in 53 bits; times are RFC 3339 in UTC; digests and keys are lower-case hex.

mod account;
mod market;
mod models;
mod values;
mod why;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use account::{
    DelegationReport, LineProofReport, PoolReport, PurseReport, StakeReport, StatementLine, StatementReport,
    UnbondingReport,
};
pub use market::{BudgetReport, ChallengerRow, GrantRow, QueueRow, RuleChange, StandingReport, StandingRow, VoiceRow};
pub use models::{ArtifactReport, ArtifactState, ModelDetail, ModelRow};
pub use values::{Moment, Motes, Share};
pub use why::{SeenEntry, SeenRow, WhyReport, WhyRow};

use super::ids::{AccountId, ChainId, Digest, Epoch, Height, MemberId, NodeId, PublicKey, SubnetId, Term, View};
use super::score_log::Echo;

/// What a node is doing, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Opening its stores, reading its journals, finding peers.
    #[default]
    Starting,
    /// Behind the network and following.
    Syncing,
    /// At the network's height and doing its roles' work.
    Ready,
    /// Follows nothing new: the network finalises no checkpoint, or no peer is reachable.
    Stalled,
    /// Stopped by a violation; the log says which.
    Halted,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Syncing => "syncing",
            Self::Ready => "ready",
            Self::Stalled => "stalled",
            Self::Halted => "halted",
        })
    }
}

/// `GET /api/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub version: String,
    pub name: String,
    pub node: NodeId,
    pub chain_id: ChainId,
    /// The genesis' own name of the network.
    pub network: String,
    pub roles: Vec<String>,
    pub state: NodeState,
    /// The last finalised height.
    pub height: Height,
    /// Hash of the checkpoint at that height.
    pub finalised: Digest,
    /// Its timestamp.
    pub finalised_at: Moment,
    /// How long this node has waited since; milliseconds.
    pub finalised_age_ms: u64,
    pub peers: u32,
    pub uptime_s: u64,
    pub rss_bytes: u64,
    /// This node's account, when it holds a key of one.
    pub account: Option<AccountId>,
    /// Whether this node's consensus key sits in the committee.
    pub votes: bool,
    pub subnets: Vec<SubnetBrief>,
    /// What a person should know, in words: "no peer is reachable", "the clock is 3 s off".
    pub notes: Vec<String>,
}

/// One line of a subnet inside `NodeStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubnetBrief {
    pub id: SubnetId,
    pub name: String,
    pub task: String,
    pub epoch: Epoch,
    pub miners: u32,
    pub validators: u32,
}

/// `GET /api/v1/head`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    pub height: Height,
    pub hash: Digest,
    pub time: Moment,
    pub view: View,
    pub proposer: AccountId,
    pub state_root: Digest,
    pub transactions: u32,
    /// From the leader's timestamp to the certificate seen here; `None` when it was fetched later.
    pub finality_ms: Option<u64>,
}

/// `GET /api/v1/checkpoint/{height}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointReport {
    pub height: Height,
    pub hash: Digest,
    pub parent: Digest,
    pub term: Term,
    pub view: View,
    pub time: Moment,
    pub proposer: AccountId,
    pub state_root: Digest,
    pub body_root: Digest,
    pub receipt_root: Digest,
    pub body_bytes: u64,
    /// Indices of the committee members whose votes the certificate carries.
    pub signers: Vec<u32>,
    pub signed_weight: u64,
    pub total_weight: u64,
    pub transactions: Vec<TransactionBrief>,
}

/// One line of a transaction inside `CheckpointReport`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TransactionBrief {
    pub id: Digest,
    pub kind: String,
    pub account: AccountId,
    pub fee: Motes,
    /// 0 when it took effect, else the ledger's refusal code.
    pub code: u16,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// In this node's pool, in no final checkpoint.
    #[default]
    Pending,
    /// In a finalised checkpoint, with effect.
    Final,
    /// In a finalised checkpoint; the fee was taken, a rule refused the effect.
    Failed,
}

/// `GET /api/v1/tx/{id}`; an id nobody has seen is a 404.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TransactionReport {
    pub id: Digest,
    pub state: TransactionState,
    pub height: Option<Height>,
    pub index: Option<u32>,
    pub kind: String,
    pub account: AccountId,
    pub nonce: u64,
    pub fee: Motes,
    pub valid_until: Height,
    pub bytes: u32,
    /// 0 when it took effect, else the ledger's refusal code.
    pub code: u16,
    /// The outcome in words.
    pub outcome: String,
    /// The fields of its kind, in words: `to`, `amount`, `subnet`.
    pub fields: BTreeMap<String, String>,
}

/// A seat in a subnet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    pub subnet: SubnetId,
    pub name: String,
    pub member: MemberId,
    /// `miner` or `validator`.
    pub role: String,
    pub stake: Motes,
    pub earned: Motes,
}

/// `GET /api/v1/account/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountReport {
    pub account: AccountId,
    /// False when the ledger has no record of it: an account exists from its first deposit.
    pub exists: bool,
    /// Free motes.
    pub amount: Motes,
    /// The same in STAR, for people.
    pub display: String,
    pub staked: Motes,
    /// The nonce that its next transaction must carry, after those in this node's pool.
    pub nonce: u64,
    pub memberships: Vec<Membership>,
    pub height: Height,
}

/// `GET /api/v1/fees`: what a wallet needs to build a transaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeesReport {
    pub chain_id: ChainId,
    pub height: Height,
    pub fee_byte: Motes,
    pub fee_unit: Motes,
    /// Heights that `valid_until` may lie ahead.
    pub validity_max: u64,
    /// Motes below which an account cannot exist.
    pub account_min: Motes,
}

/// `GET /api/v1/subnets/{id}`, and the rows of `/api/v1/subnets`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubnetReport {
    pub id: SubnetId,
    pub name: String,
    pub task: String,
    /// `service`, `competition` or `training`.
    pub kind: String,
    pub owner: Option<AccountId>,
    pub tempo: u64,
    pub epoch: Epoch,
    /// Height at which this epoch closes.
    pub epoch_ends: Height,
    pub emission_per_epoch: Motes,
    pub validators: u32,
    pub miners: u32,
    pub members_max: u32,
    pub registration_price: Motes,
    pub staked: Motes,
    /// Further parameters by name, in words.
    pub parameters: BTreeMap<String, String>,
}

/// `GET /api/v1/subnets/{id}/metagraph`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetagraphReport {
    pub subnet: SubnetId,
    pub name: String,
    pub task: String,
    pub tempo: u64,
    pub epoch: Epoch,
    pub height: Height,
    pub rows: Vec<MetagraphRow>,
}

/// One member of a subnet. What does not apply to its role is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetagraphRow {
    pub member: MemberId,
    pub account: AccountId,
    pub node: Option<NodeId>,
    /// `miner` or `validator`.
    pub role: String,
    pub active: bool,
    pub stake: Motes,
    /// This node's own last weight for the miner, when it validates here.
    pub weight: Option<u32>,
    /// The stake-weighted median of the validators' weights.
    pub consensus: Option<Share>,
    pub incentive: Share,
    pub dividends: Share,
    /// How much of a validator's vector the others agree with.
    pub trust: Option<Share>,
    /// This node's own running score of the miner, when it validates here.
    pub score: Option<Share>,
    pub earned: Motes,
    pub earned_last_epoch: Motes,
    pub registered_at: Height,
    /// What the seat has at risk.
    pub bond: Motes,
    /// Commits of a validator that were not opened in time.
    pub missed: u32,
    /// Of a validator's rows, in [-1, 1]: below 0 they repeat the past. None before it can be told.
    pub freshness: Option<f64>,
    /// The epoch of a validator's last revealed weights.
    pub last_reveal: Option<Epoch>,
}

/// `GET /api/v1/committee`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommitteeReport {
    pub term: Term,
    pub set_hash: Digest,
    pub total_weight: u64,
    pub quorum_weight: u64,
    pub members: Vec<CommitteeRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommitteeRow {
    pub index: u32,
    pub key: PublicKey,
    pub account: AccountId,
    pub node: Option<NodeId>,
    pub weight: u64,
    pub share: Share,
    /// Whether the last certificate carries its vote.
    pub signed_last: bool,
    /// Whether it is this node.
    pub local: bool,
}

/// `GET /api/v1/supply`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SupplyReport {
    pub height: Height,
    pub genesis: Motes,
    pub minted: Motes,
    pub burned: Motes,
    /// The sum of everything that every account, stake and escrow holds.
    pub total: Motes,
    /// `total == genesis + minted - burned`.
    pub ok: bool,
}

/// `GET /api/v1/peers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeersReport {
    /// This node.
    pub node: NodeId,
    /// The libp2p name of this node, as it stands in multiaddrs.
    pub peer_id: String,
    /// Full addresses others can dial, each ending in `/p2p/...`.
    pub listening: Vec<String>,
    pub peers: Vec<PeerReport>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerReport {
    pub node: NodeId,
    pub address: String,
    pub outbound: bool,
    pub roles: Vec<String>,
    pub version: String,
    pub height: Option<Height>,
    /// Behaviour on the network; below 0 is suspicious.
    pub score: i64,
    pub latency_ms: Option<u64>,
    pub connected_s: u64,
}

/// `GET /api/v1/miner`: the miners that run inside this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MinerReport {
    pub account: Option<AccountId>,
    pub miners: Vec<MinerRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MinerRow {
    pub subnet: SubnetId,
    pub name: String,
    pub task: String,
    pub member: Option<MemberId>,
    /// `training`, `registering`, `serving`, `idle` or `failed`.
    pub state: String,
    pub behaviour: String,
    /// Of training, while it lasts.
    pub progress: Option<Share>,
    pub model: Option<Digest>,
    pub answered: u64,
    pub refused: u64,
    pub failed: u64,
    pub in_flight: u32,
    /// 1 is the best paid miner of the subnet.
    pub rank: Option<u32>,
    pub of: u32,
    pub incentive: Share,
    pub earned: Motes,
    /// What a person should know, in words.
    pub notes: Vec<String>,
}

/// `GET /api/v1/weights/{subnet}`: the vectors revealed for the last closed epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightsReport {
    pub subnet: SubnetId,
    pub name: String,
    pub epoch: Epoch,
    pub validators: Vec<WeightsRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightsRow {
    pub validator: MemberId,
    pub account: AccountId,
    pub stake: Motes,
    /// The epoch its weights were revealed for; `None` when never.
    pub epoch: Option<Epoch>,
    pub committed_at: Option<Height>,
    pub revealed_at: Option<Height>,
    pub weights: Vec<WeightEntry>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightEntry {
    pub miner: MemberId,
    pub weight: u32,
}

/// `GET /api/v1/weights/{subnet}/history`: who revealed what, the newest epoch first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryReport {
    pub subnet: SubnetId,
    pub name: String,
    /// The open epoch.
    pub epoch: Epoch,
    pub rows: Vec<HistoryRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    pub epoch: Epoch,
    pub validator: MemberId,
    pub revealed_at: Height,
    /// Zeros when the row names no score log.
    pub log_root: Digest,
    pub log_len: u64,
    pub weights: Vec<WeightEntry>,
}

/// `GET /api/v1/duties`: what a validator must do in which window, and what it missed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DutiesReport {
    pub account: AccountId,
    pub height: Height,
    pub rows: Vec<DutyRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DutyRow {
    pub subnet: SubnetId,
    pub name: String,
    pub validator: MemberId,
    /// It may set weights.
    pub permit: bool,
    /// The open epoch, whose weights are committed in these heights.
    pub epoch: Epoch,
    pub commit_from: Height,
    pub commit_until: Height,
    pub committed: bool,
    /// The epoch whose weights open now, until this height; none when its window is over.
    pub reveals: Option<Epoch>,
    pub reveal_until: Option<Height>,
    /// A commit of that epoch waits for its reveal.
    pub unrevealed: bool,
    /// Commits that were not opened in time.
    pub missed: u32,
    pub bond: Motes,
    /// Below this the seat is suspended until its bond is topped up.
    pub bond_minimum: Motes,
    pub suspended: bool,
    /// What its own node added to the bond in the last sixteen epochs, and may add in as many; 0 from another node.
    #[serde(default)]
    pub topped_up: Motes,
    #[serde(default)]
    pub top_up_limit: Motes,
    /// This epoch's weights are left out, because those before were opened too late.
    #[serde(default)]
    pub left_out: bool,
    /// Challenges of its logs that wait for an answer.
    pub challenges: u32,
    pub last_reveal: Option<Height>,
}

/// `GET /api/v1/replay/{subnet}/{epoch}`: the sums of an epoch done again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    pub subnet: SubnetId,
    pub name: String,
    pub epoch: Epoch,
    /// Every row is what its log gives.
    pub ok: bool,
    pub rows: Vec<ReplayRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayRow {
    pub validator: MemberId,
    pub revealed_at: Height,
    pub log_root: Digest,
    /// Questions in the log.
    pub entries: u64,
    /// Of them, those whose scores were computed again.
    pub judged: u64,
    /// The board it goes on from is the one that the epoch before published.
    pub chained: bool,
    /// Members of whose answers some are also others'.
    pub echoes: Vec<Echo>,
    pub ok: bool,
    /// The first thing that differs, in words.
    pub difference: String,
}

/// `POST /api/v1/tx`: the node took the transaction into its pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubmitReport {
    pub id: Digest,
    /// False when the pool knew it already.
    pub new: bool,
    /// The height this node had reached.
    pub height: Height,
}

/// A name that a query may be asked by: one row of `GET /v1/models`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// The subnet's name: the network picks the miner.
    pub id: String,
    pub subnet: SubnetId,
    pub task: String,
    /// When the subnet came to be.
    pub created: Moment,
    /// Miners that serve it now, as this node sees them.
    pub miners: u32,
}

/// `GET /readyz?verbose`: what this node must be able to do before work is sent to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    pub checks: Vec<ReadinessCheck>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadinessCheck {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}
