//! Queries: ours on their way out, the Scorer's challenges, and those of others that arrive here.
//!
//! Owns which attempt belongs to what, the timers, and the channels to callers. Decides nothing: `inflight`,
//! `challenges` and `serving` do, and this shell performs their effects in order. Every query ends with exactly one
//! outcome; every attempt opened at a miner is ended and reported once; everything in flight takes a permit.

mod answering;
mod attempts;
mod challenges;
pub mod frames;
mod inflight;
mod serving;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, stream};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

pub use self::answering::Operator;
use self::answering::To;
use self::attempts::{Effect, Opening, Outcome, Owner};
use self::challenges::Challenges;
pub use self::frames::{AnswerStream, Frame, QueryError, QueryFault, Served};
use self::inflight::Inflight;
pub use self::serving::Behaviour;
use self::serving::{End, Serving};
use super::mail::{ask, heard, tell};
use super::peer_manager::{Pick, PickMiners, QueryEnded};
use super::router::{CancelQuery, OpenQuery, ReplyFrame};
use super::scorer::AnswersCollected;
use super::worker_pool::{Lane, RunJob};
use crate::ml::engine::Handle;
use crate::net::{self, ReplyTicket};
use crate::protocol::chance::Chance;
use crate::protocol::codec;
use crate::protocol::ids::{Digest, MemberId, NodeId, SubnetId, hash};
use crate::protocol::query::{AnswerFrame, Ask, Query};
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
    /// What receipts name it by; says nothing of the question.
    pub name: Digest,
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

/// From node.rs: the engine behind a subnet's miner takes nothing for now, and why; `ServeModel` opens it again. Lost: the
/// engine's own refusals say the same, one by one.
#[derive(Clone, Debug)]
pub struct CloseModel {
    pub serve: ServeModel,
    pub reason: String,
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
    CloseModel => bool,
    ReadServing => Vec<MinerRow>,
}
super::mail::stops! { QueryDispatcher }

/// To whom the dispatcher speaks.
#[derive(Clone, Debug)]
pub struct Links {
    pub pick_miners: Recipient<PickMiners>,
    pub query_ended: Recipient<QueryEnded>,
    pub open_query: Recipient<OpenQuery>,
    pub cancel_query: Recipient<CancelQuery>,
    pub reply_frame: Recipient<ReplyFrame>,
    pub run_job: Recipient<RunJob>,
    /// `None` on a node that scores nobody.
    pub answers_collected: Option<Recipient<AnswersCollected>>,
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
    pub chance: Chance,
    /// `None` answers without receipts.
    pub operator: Option<Operator>,
}

impl Params {
    /// Limits of an ordinary node.
    pub fn new(chance: Chance) -> Self {
        Self {
            queries_max: 256,
            attempts_max: 4,
            challenges_max: 16,
            challenge_parallel: 32,
            serving_max: 64,
            subnets_max: 32,
            chance,
            operator: None,
        }
    }
}

/// Messages that may wait in the mailbox.
pub const MAILBOX: usize = 1_024;
/// The peer manager answers within this time or not at all.
const PICK_DEADLINE: Duration = Duration::from_secs(2);
/// Frames of one attempt between the Router and here; a miner that is faster loses its attempt.
const FRAMES: usize = 256;

/// A frame, or its lack, as the Router hands it on.
type FrameResult = Result<AnswerFrame, net::AskError>;

/// The caller of one of our queries.
struct Caller {
    frames: mpsc::Sender<Frame>,
    /// Frames its channel has had no room for; pieces are joined, so this is never longer than the text and a few more.
    outbox: VecDeque<Frame>,
    /// While we wait for room.
    waiting: Option<SpawnHandle>,
    watch: SpawnHandle,
}

impl Caller {
    fn push(&mut self, frame: Frame) {
        match (self.outbox.back_mut(), frame) {
            (Some(Frame::Piece(text)), Frame::Piece(more)) => text.extend(more),
            (_, frame) => self.outbox.push_back(frame),
        }
    }
}

/// The actor.
pub struct QueryDispatcher {
    origin: Instant,
    links: Links,
    chance: Chance,
    operator: Option<Operator>,
    inflight: Inflight,
    challenges: Challenges,
    serving: Serving,
    callers: BTreeMap<u64, Caller>,
    timers: BTreeMap<Owner, SpawnHandle>,
    /// Who listens to the frames of each attempt.
    attempts: BTreeMap<u64, SpawnHandle>,
    /// The futures that answer others.
    answering: BTreeMap<ReplyTicket, SpawnHandle>,
}

impl fmt::Debug for QueryDispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryDispatcher").field("inflight", &self.inflight.len()).finish_non_exhaustive()
    }
}

impl QueryDispatcher {
    pub fn new(mut params: Params, links: Links) -> Self {
        let out = inflight::Limits { in_flight_max: params.queries_max, attempts_max: params.attempts_max };
        let (challenges_max, parallel_max) = (params.challenges_max, params.challenge_parallel);
        let serve = serving::Limits { in_flight_max: params.serving_max, subnets_max: params.subnets_max };
        Self {
            origin: Instant::now(),
            links,
            chance: params.chance.fork("query dispatcher"),
            operator: params.operator.take(),
            inflight: Inflight::new(out, 0),
            challenges: Challenges::new(challenges::Limits { challenges_max, parallel_max }, 1),
            serving: Serving::new(serve),
            callers: BTreeMap::new(),
            timers: BTreeMap::new(),
            attempts: BTreeMap::new(),
            answering: BTreeMap::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn gauge(&self) {
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        for (part, n) in
            [("queries", self.inflight.len()), ("challenges", self.challenges.len()), ("serving", self.serving.len())]
        {
            metrics::gauge!("starling_query_in_flight", "part" => part).set(count(n));
        }
    }

    fn query(&mut self, query: u64, input: inflight::Input, context: &mut Context<Self>) {
        let effects = self.inflight.step(self.now_ms(), query, input);
        self.perform(effects, context);
    }

    fn challenge(&mut self, challenge: u64, input: challenges::Input, context: &mut Context<Self>) {
        let effects = self.challenges.step(self.now_ms(), challenge, input);
        self.perform(effects, context);
    }

    fn picked(&mut self, owner: Owner, picks: Option<Vec<Pick>>, context: &mut Context<Self>) {
        match (owner, picks) {
            (Owner::Query(query), Some(picks)) => self.query(query, inflight::Input::Picked(picks), context),
            (Owner::Query(query), None) => self.query(query, inflight::Input::PickFailed, context),
            (Owner::Challenge(id), Some(picks)) => self.challenge(id, challenges::Input::Picked(picks), context),
            (Owner::Challenge(id), None) => self.challenge(id, challenges::Input::PickFailed, context),
        }
    }

    /// A frame of an attempt, or with `None` the end of its frames.
    fn heard(&mut self, owner: Owner, attempt: u64, frame: Option<FrameResult>, context: &mut Context<Self>) {
        match (owner, frame) {
            (Owner::Query(query), Some(frame)) => {
                self.query(query, inflight::Input::Heard { attempt, frame }, context);
            }
            (Owner::Query(query), None) => self.query(query, inflight::Input::Closed { attempt }, context),
            (Owner::Challenge(id), Some(frame)) => {
                self.challenge(id, challenges::Input::Heard { attempt, frame }, context);
            }
            (Owner::Challenge(id), None) => self.challenge(id, challenges::Input::Closed { attempt }, context),
        }
    }

    fn woken(&mut self, owner: Owner, context: &mut Context<Self>) {
        self.timers.remove(&owner);
        match owner {
            Owner::Query(query) => self.query(query, inflight::Input::Woken, context),
            Owner::Challenge(id) => self.challenge(id, challenges::Input::Woken, context),
        }
    }

    fn perform(&mut self, effects: Vec<Effect>, context: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Pick { owner, wish } => self.pick(owner, wish, context),
                Effect::Open { owner, opening } => self.open(owner, opening, context),
                Effect::End { attempt, withdraw, ended } => {
                    if let Some(listener) = self.attempts.remove(&attempt) {
                        context.cancel_future(listener);
                    }
                    if withdraw {
                        tell(&self.links.cancel_query, CancelQuery { attempt });
                    }
                    tell(&self.links.query_ended, ended);
                }
                Effect::WakeAt { owner, at_ms } => self.wake_at(owner, at_ms, context),
                Effect::Give { query, frame } => {
                    if let Some(caller) = self.callers.get_mut(&query) {
                        caller.push(frame);
                        self.flush(query, context);
                    }
                }
                Effect::Close { outcome, elapsed_ms } => closed(outcome, elapsed_ms),
                Effect::Collected(collected) => {
                    if let Some(to) = &self.links.answers_collected {
                        tell(to, collected);
                    }
                }
                Effect::Forget { owner } => self.forget(owner, context),
            }
        }
        self.gauge();
    }

    fn pick(&mut self, owner: Owner, wish: PickMiners, context: &mut Context<Self>) {
        let to = self.links.pick_miners.clone();
        let reply = ask(&to, wish, PICK_DEADLINE);
        let reply = async move { reply.await.ok() };
        context.spawn(reply.into_actor(self).map(move |picks, actor, context| actor.picked(owner, picks, context)));
    }

    fn open(&mut self, owner: Owner, opening: Opening, context: &mut Context<Self>) {
        let Opening { attempt, to, ask, deadline_ms } = opening;
        let (frames, mut heard) = mpsc::channel(FRAMES);
        // When the Router has no room the sender goes with the message, and the attempt ends as closed.
        tell(&self.links.open_query, OpenQuery { attempt, to, ask, deadline_ms, frames });
        let frames = stream::poll_fn(move |task| heard.poll_recv(task));
        let listener = frames
            .into_actor(self)
            .map(move |frame, actor, context| actor.heard(owner, attempt, Some(frame), context))
            .finish()
            .map(move |(), actor: &mut Self, context: &mut Context<Self>| actor.heard(owner, attempt, None, context));
        let listener = context.spawn(listener);
        self.attempts.insert(attempt, listener);
    }

    fn wake_at(&mut self, owner: Owner, at_ms: u64, context: &mut Context<Self>) {
        let delay = Duration::from_millis(at_ms.saturating_sub(self.now_ms()));
        let timer = context.run_later(delay, move |actor, context| actor.woken(owner, context));
        if let Some(before) = self.timers.insert(owner, timer) {
            context.cancel_future(before);
        }
    }

    /// Gives the caller what its channel takes; waits for room otherwise.
    fn flush(&mut self, query: u64, context: &mut Context<Self>) {
        let Some(caller) = self.callers.get_mut(&query) else { return };
        while let Some(frame) = caller.outbox.pop_front() {
            let last = frame.is_last();
            match caller.frames.try_send(frame) {
                Ok(()) if last => return self.query(query, inflight::Input::Delivered, context),
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => return self.query(query, inflight::Input::CallerGone, context),
                Err(TrySendError::Full(frame)) => {
                    caller.outbox.push_front(frame);
                    if caller.waiting.is_none() {
                        let room = wrap_future::<_, Self>(caller.frames.clone().reserve_owned());
                        caller.waiting = Some(context.spawn(room.map(move |room, actor, context| {
                            // The place is only looked for; the frames take it themselves.
                            drop(room);
                            if let Some(caller) = actor.callers.get_mut(&query) {
                                caller.waiting = None;
                            }
                            actor.flush(query, context);
                        })));
                    }
                    return;
                }
            }
        }
    }

    fn forget(&mut self, owner: Owner, context: &mut Context<Self>) {
        if let Some(timer) = self.timers.remove(&owner) {
            context.cancel_future(timer);
        }
        if let Owner::Query(query) = owner
            && let Some(caller) = self.callers.remove(&query)
        {
            context.cancel_future(caller.watch);
            if let Some(waiting) = caller.waiting {
                context.cancel_future(waiting);
            }
        }
    }

    /// Puts a query of ours to the network.
    fn submit(
        &mut self,
        SubmitQuery { ask, frames }: SubmitQuery,
        context: &mut Context<Self>,
    ) -> Result<Digest, QueryError> {
        let id = hash("starling/1 query", &[&self.chance.bytes32(), &codec::encode(&ask)]);
        let (query, effects) = self.inflight.submit(self.now_ms(), ask).inspect_err(|_| {
            metrics::counter!("starling_query_total", "outcome" => "refused").increment(1);
        })?;
        let watched = frames.clone();
        let gone = async move { watched.closed().await };
        let watch = context.spawn(gone.into_actor(self).map(move |(), actor, context| {
            actor.query(query, inflight::Input::CallerGone, context);
        }));
        self.callers.insert(query, Caller { frames, outbox: VecDeque::new(), waiting: None, watch });
        self.perform(effects, context);
        Ok(id)
    }

    fn answered(&mut self, ticket: ReplyTicket, end: End) {
        self.answering.remove(&ticket);
        self.serving.finish(ticket, end);
        self.gauge();
    }
}

fn closed(outcome: Outcome, elapsed_ms: u64) {
    metrics::counter!("starling_query_total", "outcome" => outcome.name()).increment(1);
    metrics::histogram!("starling_query_seconds").record(Duration::from_millis(elapsed_ms).as_secs_f64());
}

impl Actor for QueryDispatcher {
    type Context = Context<Self>;
}

impl Handler<SubmitQuery> for QueryDispatcher {
    type Result = Result<Digest, QueryError>;

    fn handle(&mut self, submit: SubmitQuery, context: &mut Self::Context) -> Self::Result {
        self.submit(submit, context)
    }
}

impl Handler<Challenge> for QueryDispatcher {
    type Result = ();

    fn handle(&mut self, challenge: Challenge, context: &mut Self::Context) {
        match self.challenges.begin(challenge) {
            Some(effects) => self.perform(effects, context),
            None => metrics::counter!("starling_query_challenges_dropped_total").increment(1),
        }
    }
}

impl Handler<QueryArrived> for QueryDispatcher {
    type Result = ();

    fn handle(&mut self, QueryArrived { from, ask, ticket }: QueryArrived, context: &mut Self::Context) {
        match self.serving.arrive(ask, ticket) {
            Err(frame) => {
                tell(&self.links.reply_frame, ReplyFrame { ticket, frame });
            }
            Ok(plan) => {
                tracing::trace!(peer = %from.short(), subnet = %plan.ask.subnet, "query admitted");
                let (run_job, reply_frame) = (self.links.run_job.clone(), self.links.reply_frame.clone());
                let to = To { run_job, reply_frame, operator: self.operator.clone() };
                let future: LocalBoxFuture<'static, End> = if plan.relays {
                    let (frames, heard) = mpsc::channel(FRAMES);
                    // In one piece and without a receipt of the other's: what is handed on is this miner's own word.
                    let ask = Ask { stream: false, model: None, receipt: None, ..plan.ask.clone() };
                    // Refused: its sender is gone, and the relay ends as one that heard nothing.
                    let _refused = self.submit(SubmitQuery { ask, frames }, context);
                    answering::relay(plan.ask, heard, ticket, to).boxed_local()
                } else {
                    answering::answer(plan, ticket, to).boxed_local()
                };
                let future = future.into_actor(self).map(move |end, actor, _| actor.answered(ticket, end));
                self.answering.insert(ticket, context.spawn(future));
            }
        }
        self.gauge();
    }
}

impl Handler<QueryWithdrawn> for QueryDispatcher {
    type Result = ();

    fn handle(&mut self, QueryWithdrawn { ticket }: QueryWithdrawn, context: &mut Self::Context) {
        if let Some(future) = self.answering.remove(&ticket) {
            // Dropping the future cancels its work.
            context.cancel_future(future);
            self.answered(ticket, End::Withdrawn);
        }
    }
}

impl Handler<ServeModel> for QueryDispatcher {
    type Result = bool;

    fn handle(&mut self, serve: ServeModel, _: &mut Self::Context) -> bool {
        self.serving.serve(serve, None)
    }
}

impl Handler<CloseModel> for QueryDispatcher {
    type Result = bool;

    fn handle(&mut self, CloseModel { serve, reason }: CloseModel, _: &mut Self::Context) -> bool {
        self.serving.serve(serve, Some(reason))
    }
}

impl Handler<ReadServing> for QueryDispatcher {
    type Result = Vec<MinerRow>;

    fn handle(&mut self, _: ReadServing, _: &mut Self::Context) -> Self::Result {
        self.serving.rows()
    }
}

#[cfg(test)]
mod tests;
