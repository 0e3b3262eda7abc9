//! Queries: ours on their way out, the Scorer's challenges, and those of others that arrive here.
//!
//! Owns which attempt belongs to what, the timers, and the channels to callers. Decides nothing: `inflight`,
//! `challenges` and `serving` do, and this shell performs their effects in order. Every query ends with exactly one
//! outcome; every attempt opened at a miner is ended and reported once; everything in flight takes a permit.

mod attempts;
mod challenges;
pub mod frames;
mod inflight;
mod serving;

use tokio::sync::mpsc;

pub use self::frames::{AnswerStream, Frame, QueryError, QueryFault, Served};
pub use self::serving::Behaviour;
use super::mail::heard;
use super::peer_manager::{PickMiners, QueryEnded};
use super::router::{CancelQuery, OpenQuery, ReplyFrame};
use super::scorer::AnswersCollected;
use super::worker_pool::{Lane, RunJob};
use crate::ml::engine::Handle;
use crate::net::ReplyTicket;
use crate::protocol::ids::{Digest, MemberId, NodeId, SubnetId};
use crate::protocol::query::{Ask, Query};
use crate::protocol::report::MinerRow;

/// From the HTTP face: put a query to the network. The reply is the query's name, or why it was not admitted; frames come
/// on the channel, the last of them `Done` or `Failed`. Dropping the receiver cancels. When the mailbox is full the face
/// waits for its own deadline.
#[derive(Debug)]
pub struct SubmitQuery {
    pub ask: Ask,
    pub frames: mpsc::Sender<Frame>,
}

/// From scorer: put one query to all these members at once. Ends in `AnswersCollected`. Lost: put again in a later round.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The scorer's name for it.
    pub id: u64,
    pub subnet: SubnetId,
    pub query: Query,
    /// Milliseconds each member has.
    pub deadline_ms: u64,
    pub members: Vec<MemberId>,
}

/// From router: somebody asks us; `ask` is within its bounds. Lost: the asker's deadline ends it, and it asks another.
#[derive(Debug)]
pub struct QueryArrived {
    pub from: NodeId,
    pub ask: Ask,
    pub ticket: ReplyTicket,
}

/// From router: the asker has gone. Lost: the work is done for nobody, at most until its deadline.
#[derive(Clone, Copy, Debug)]
pub struct QueryWithdrawn {
    pub ticket: ReplyTicket,
}

/// From node.rs: this node answers queries of a subnet from now on, with this model and in this way.
#[derive(Clone, Copy, Debug)]
pub struct ServeModel {
    pub subnet: SubnetId,
    pub model: Handle,
    pub lane: Lane,
    pub behaviour: Behaviour,
}

/// From node.rs: what is served here, one row per subnet. Rows know what the dispatcher knows (subnet, behaviour, model,
/// counts); names, member and pay are for others to fill in.
#[derive(Clone, Copy, Debug)]
pub struct ReadServing;

heard! { "query_dispatcher":
    SubmitQuery => Result<Digest, QueryError>,
    Challenge => (),
    QueryArrived => (),
    QueryWithdrawn => (),
    ServeModel => bool,
    ReadServing => Vec<MinerRow>,
}

/// To whom the dispatcher speaks.
#[derive(Clone, Debug)]
pub struct Links {
    pub pick_miners: actix::Recipient<PickMiners>,
    pub query_ended: actix::Recipient<QueryEnded>,
    pub open_query: actix::Recipient<OpenQuery>,
    pub cancel_query: actix::Recipient<CancelQuery>,
    pub reply_frame: actix::Recipient<ReplyFrame>,
    pub run_job: actix::Recipient<RunJob>,
    pub answers_collected: actix::Recipient<AnswersCollected>,
}

/// Limits and chance of the dispatcher.
#[derive(Clone, Debug)]
pub struct Params {
    /// Own queries in flight; the next is refused as `Busy`.
    pub queries_max: usize,
    /// Miners asked for one query at most.
    pub attempts_max: u32,
    /// Challenges in flight; the next is dropped and counted.
    pub challenges_max: usize,
    /// Members of one challenge asked at the same time.
    pub challenge_parallel: usize,
    /// Queries of others in flight here; the next is refused as `Busy`.
    pub serving_max: usize,
    /// Subnets served at most.
    pub subnets_max: usize,
    /// Names queries; nothing else depends on it.
    pub chance: crate::protocol::chance::Chance,
}
