//! Whom we are connected to, and why.

use super::mail::heard;
use crate::protocol::ids::{AccountId, MemberId, NodeId, SubnetId};

/// From query_dispatcher: which connected miners of a subnet to ask, best first. Never more than `count`.
#[derive(Clone, Debug)]
pub struct PickMiners {
    pub subnet: SubnetId,
    pub count: usize,
    /// Only these members, in no order; `None` leaves the choice to us.
    pub members: Option<Vec<MemberId>>,
    /// Not these nodes: they failed in this query already.
    pub exclude: Vec<NodeId>,
}

/// A miner that can be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    pub member: MemberId,
    pub account: AccountId,
    pub node: NodeId,
}

/// How an attempt at a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    Answered,
    /// It declined politely; costs nothing.
    Refused,
    /// No answer in time.
    Late,
    /// The connection or the answer broke.
    Broken,
    /// An answer that does not fit its query.
    Malformed,
    /// We gave up on it before it could end.
    Cancelled,
}

/// From query_dispatcher: feeds the book of latencies and failures. Lost: one sample less.
#[derive(Clone, Copy, Debug)]
pub struct QueryEnded {
    pub node: NodeId,
    pub outcome: AttemptOutcome,
    pub latency_ms: u64,
}

heard! { "peer_manager": PickMiners => Vec<Pick>, QueryEnded => () }
