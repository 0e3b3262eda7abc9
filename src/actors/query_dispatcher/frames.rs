//! What the asker of a query sees of it: frames, and why there are none.
//!
//! An answer stream ends with exactly one `Done` or `Failed`; a stream that just closes counts as `Failed`.

use tokio::sync::mpsc;

use crate::protocol::ids::{Digest, MemberId, NodeId, SubnetId};
use crate::protocol::query::{Answer, Usage};

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

    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
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

impl Frame {
    /// Whether nothing may follow.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed(_))
    }
}

/// The frames of one query. Dropping it cancels the query.
#[derive(Debug)]
pub struct AnswerStream {
    /// The query's name, for `x-request-id` and the logs.
    pub id: Digest,
    pub frames: mpsc::Receiver<Frame>,
}
