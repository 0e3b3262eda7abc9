//! What the HTTP face asks of a node, and nothing more: one object-safe trait, implemented over the actors' recipients.
//!
//! The face knows no actor and no actor knows HTTP. Every ask has a deadline of its own, kept by whoever implements it;
//! an answer stream ends with exactly one `Done` or `Failed`, and a stream that just closes counts as `Failed`.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::protocol::ids::{AccountId, Digest, Height, MemberId, NodeId, SubnetId};
use crate::protocol::query::{Answer, Ask, Usage};
use crate::protocol::report::{
    AccountReport, CheckpointReport, CommitteeReport, FeesReport, HeadReport, MetagraphReport, MinerReport, ModelReport,
    NodeStatus, PeersReport, Readiness, SubmitReport, SubnetReport, SupplyReport, TransactionReport, WeightsReport,
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

/// Why a query brought no answer. The kinds are those a client must tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFault {
    /// The question itself cannot be answered as it stands: 400.
    Invalid,
    /// No such subnet or model: 404.
    UnknownModel,
    /// This node's own limit, or that of the caller: 429.
    Busy,
    /// No miner serves it now, or all of them refused: 503.
    NoCapacity,
    /// The deadline passed: 504.
    Timeout,
    /// A part of this node failed: 500.
    Internal,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    pub fault: QueryFault,
    pub message: String,
    /// When asking again makes sense, in seconds; becomes `retry-after`.
    pub retry_after_s: Option<u64>,
}

impl QueryError {
    pub fn new(fault: QueryFault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), retry_after_s: None }
    }
}

/// Who answers: known from the first frame on, and again when another miner takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub subnet: SubnetId,
    pub member: Option<MemberId>,
    pub node: Option<NodeId>,
    pub model: Option<Digest>,
    /// 1 for the first miner that was asked.
    pub attempts: u32,
}

/// One step of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A miner took the query. Sent before the first piece, and again after a miner was lost.
    Started(Served),
    /// The next bytes of a streamed text. After a miner was lost the stream goes on where it was; nothing repeats.
    Piece(Vec<u8>),
    /// The whole answer, pieces included. The last frame.
    Done { answer: Answer, usage: Usage, served: Served, compute_ms: u64 },
    /// No answer, or none beyond the pieces already sent. The last frame.
    Failed(QueryError),
}

/// The frames of one query. Dropping it cancels the query.
#[derive(Debug)]
pub struct AnswerStream {
    /// The query's name, for `x-request-id` and the logs.
    pub id: Digest,
    pub frames: mpsc::Receiver<Frame>,
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
    async fn fees(&self) -> Result<FeesReport, ReadError>;
    async fn committee(&self) -> Result<CommitteeReport, ReadError>;
    async fn supply(&self) -> Result<SupplyReport, ReadError>;
    async fn subnets(&self) -> Result<Vec<SubnetReport>, ReadError>;
    async fn subnet(&self, subnet: SubnetId) -> Result<SubnetReport, ReadError>;
    async fn metagraph(&self, subnet: SubnetId) -> Result<MetagraphReport, ReadError>;
    async fn weights(&self, subnet: SubnetId) -> Result<WeightsReport, ReadError>;
    async fn peers(&self) -> Result<PeersReport, ReadError>;
    async fn miner(&self) -> Result<MinerReport, ReadError>;
    /// Offers a signed transaction, as received, to this node's pool and through it to the network.
    async fn submit(&self, transaction: Vec<u8>) -> Result<SubmitReport, SubmitError>;
    /// What can be asked; one row per subnet that serves queries.
    async fn models(&self) -> Result<Vec<ModelReport>, ReadError>;
    /// Asks the network. Refusals known at once are the error; later ones arrive as `Frame::Failed`.
    async fn query(&self, ask: Ask) -> Result<AnswerStream, QueryError>;
}
