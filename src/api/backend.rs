//! What the HTTP face asks of a node, and nothing more: one object-safe trait, implemented over the actors' recipients.
//!
//! The face knows no actor and no actor knows HTTP. Every ask has a deadline of its own, kept by whoever implements it;
//! an answer stream ends with exactly one `Done` or `Failed`, and a stream that just closes counts as `Failed`.

use async_trait::async_trait;

pub use crate::actors::query_dispatcher::{AnswerStream, Frame, QueryError, QueryFault, Served};
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, NodeId, SubnetId};
use crate::protocol::query::Ask;
use crate::protocol::report::{
    AccountReport, ArtifactReport, BudgetReport, CheckpointReport, CommitteeReport, DutiesReport, FeesReport,
    HeadReport, HistoryReport, LineProofReport, MetagraphReport, MinerReport, ModelDetail, ModelReport, ModelRow,
    NodeStatus, PeersReport, Readiness, ReplayReport, StakeReport, StandingReport, StatementReport, SubmitReport,
    SubnetReport, SupplyReport, TransactionReport, WeightsReport, WhyReport,
};

/// Why a node could not tell something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such thing; the text names it: "no checkpoint 17 here".
    #[error("{0}")]
    NotFound(String),
    /// The part that knows does not answer in time, or this node has not got that part.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a transaction was not taken into the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The bytes are no transaction of this network.
    #[error("{0}")]
    Malformed(String),
    /// A rule of the ledger refuses it; `code` is the refusal's own short name.
    #[error("{message}")]
    Refused { code: String, message: String },
    /// The account cannot pay the amount and the fee.
    #[error("{0}")]
    Insufficient(String),
    /// This node cannot judge it now: it is behind, its pool is full, or it is stopping.
    #[error("{0}")]
    Unavailable(String),
}

fn no_artifacts<T>() -> Result<T, ReadError> {
    Err(ReadError::NotFound("this node keeps no artifacts".to_owned()))
}

/// A node, as the HTTP face sees it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    async fn status(&self) -> Result<NodeStatus, ReadError>;
    async fn readiness(&self) -> Readiness;
    async fn head(&self) -> Result<HeadReport, ReadError>;
    async fn checkpoint(&self, height: Height) -> Result<CheckpointReport, ReadError>;
    async fn transaction(&self, id: Digest) -> Result<TransactionReport, ReadError>;
    async fn account(&self, account: AccountId) -> Result<AccountReport, ReadError>;
    async fn stake(&self, account: AccountId) -> Result<StakeReport, ReadError>;
    /// The lines of an account between two heights, both included.
    async fn statement(&self, account: AccountId, from: Height, to: Height) -> Result<StatementReport, ReadError>;
    async fn line_proof(&self, height: Height, index: u32) -> Result<LineProofReport, ReadError>;
    async fn fees(&self) -> Result<FeesReport, ReadError>;
    async fn committee(&self) -> Result<CommitteeReport, ReadError>;
    async fn supply(&self) -> Result<SupplyReport, ReadError>;
    async fn subnets(&self) -> Result<Vec<SubnetReport>, ReadError>;
    async fn subnet(&self, subnet: SubnetId) -> Result<SubnetReport, ReadError>;
    /// What a place costs there, who may lose one, and what its owner announced.
    async fn standing(&self, subnet: SubnetId) -> Result<StandingReport, ReadError>;
    /// What the current term may mint.
    async fn budget(&self) -> Result<BudgetReport, ReadError>;
    async fn metagraph(&self, subnet: SubnetId) -> Result<MetagraphReport, ReadError>;
    async fn weights(&self, subnet: SubnetId) -> Result<WeightsReport, ReadError>;
    /// The reveals of the last so many epochs, the newest first.
    async fn history(&self, subnet: SubnetId, epochs: u64) -> Result<HistoryReport, ReadError>;
    /// What an account owes as a validator; that of this node when none is named.
    async fn duties(&self, account: Option<AccountId>) -> Result<DutiesReport, ReadError>;
    /// Does the sums of an epoch again: of one validator, or of all that revealed.
    async fn replay(
        &self,
        subnet: SubnetId,
        epoch: Epoch,
        validator: Option<MemberId>,
    ) -> Result<ReplayReport, ReadError>;
    /// Why a miner earned what it earned in an epoch, the last one settled when none is named; with what validators'
    /// logs say of it, where that is wanted.
    async fn why(
        &self,
        subnet: SubnetId,
        member: MemberId,
        epoch: Option<Epoch>,
        logs: bool,
    ) -> Result<WhyReport, ReadError>;
    async fn peers(&self) -> Result<PeersReport, ReadError>;
    async fn miner(&self) -> Result<MinerReport, ReadError>;
    /// Offers a signed transaction, as received, to this node's pool and through it to the network.
    async fn submit(&self, transaction: Vec<u8>) -> Result<SubmitReport, SubmitError>;
    /// What can be asked; one row per subnet that serves queries.
    async fn models(&self) -> Result<Vec<ModelReport>, ReadError>;
    /// Trouble on purpose, on a development network only: these nodes are cut off from this one, and everything it says
    /// or hears takes longer.
    async fn chaos(&self, _blocked: Vec<NodeId>, _lag_ms: u64) -> Result<(), ReadError> {
        Err(ReadError::NotFound("this is no development network".to_owned()))
    }
    /// Every model the ledger records, newest first.
    async fn model_rows(&self) -> Result<Vec<ModelRow>, ReadError> {
        no_artifacts()
    }
    /// Where a model comes from.
    async fn model_detail(&self, _id: Digest) -> Result<ModelDetail, ReadError> {
        no_artifacts()
    }
    /// Everything on this node's shelf.
    async fn artifacts(&self) -> Result<Vec<ArtifactReport>, ReadError> {
        no_artifacts()
    }
    async fn artifact(&self, _id: Digest) -> Result<ArtifactReport, ReadError> {
        no_artifacts()
    }
    /// Takes in bytes and keeps them until they are removed.
    async fn put_artifact(&self, _bytes: Vec<u8>) -> Result<ArtifactReport, ReadError> {
        no_artifacts()
    }
    /// Begins to fetch, and says how things stand now.
    async fn pull_artifact(&self, _id: Digest) -> Result<ArtifactReport, ReadError> {
        no_artifacts()
    }
    async fn artifact_chunk(&self, _id: Digest, _index: u32) -> Result<Vec<u8>, ReadError> {
        no_artifacts()
    }
    async fn drop_artifact(&self, _id: Digest) -> Result<bool, ReadError> {
        no_artifacts()
    }
    /// Asks the network. Refusals known at once are the error; later ones arrive as `Frame::Failed`.
    async fn query(&self, ask: Ask) -> Result<AnswerStream, QueryError>;
}
