//! Answers to marks, and once an epoch marks to a log and a log to a weight vector.
//!
//! Owns a validator's desks, its challenges in flight and the shelf of what it has sealed. Refuses to score where its
//! account holds no validator seat. What is sealed is on disk before its commit goes out, and outlives the process: a
//! commit that cannot be opened costs its author (D4). A row comes from its log by the fold and by nothing else (D13).

mod conduct;
pub mod contest;
mod desk;
mod duties;
mod errands;
mod pit;
mod plan;
pub mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

pub use conduct::Conduct;
use contest::Contest;
pub use desk::scorer_digest;
use desk::{Desk, Round};
use errands::Outbox;
pub use plan::Seat;
use shelf::Shelf;

use super::artifact_keeper::{PullArtifact, ReadChunk};
use super::ledger::ReadLedger;
use super::mail::{ask, heard, tell};
use super::query_dispatcher::Challenge;
use super::router::{Publish, ReplyLog};
use super::worker_pool::{Cancel, Done, Given, Job, Lane, RunJob};
use crate::ledger::state::State;
use crate::ml::task;
use crate::net;
use crate::protocol::ids::{ChainId, Digest, Height, MemberId, PublicKey, SubnetId, hash};
use crate::protocol::keys::{SecretKey, Signature};
use crate::protocol::query::Answer;
use crate::protocol::score_log::Entry;
use crate::protocol::transaction::Role;
use crate::protocol::wire::{LogPiece, LogWish};
use crate::store::kv::Kv;

/// Messages that may wait.
pub const MAILBOX: usize = 256;
/// Challenges in flight.
const CHALLENGES_MAX: usize = 64;
/// Subnets scored by one node.
const SUBNETS_MAX: usize = 64;
/// The number of a competition among the kinds of subnets.
pub const KIND_COMPETITION: u64 = 1;
/// How long the ledger may take to say a nonce.
const LEDGER_DEADLINE: Duration = Duration::from_secs(5);

/// What one miner made of a challenge.
#[derive(Clone, Debug)]
pub struct Collected {
    pub member: MemberId,
    /// `None`: not connected, refused, late or broken.
    pub answer: Option<Answer>,
    /// The miner's operator stands for it, if it does.
    pub receipt: Option<Signature>,
    /// From the query sent to the last frame.
    pub latency_ms: u64,
}

/// From query_dispatcher: every miner of a challenge has answered or failed. Lost: the challenge is put again later.
#[derive(Clone, Debug)]
pub struct AnswersCollected {
    pub challenge: u64,
    /// In member order, one for each member that was to be asked.
    pub answers: Vec<Collected>,
}

/// From ledger, at every final height: the whole state. Lost: the next height brings it.
#[derive(Clone, Debug)]
pub struct HeightFinalised {
    pub state: State,
    pub hash: Digest,
}

/// From router: somebody wants a piece of a score log of ours. Lost: the asker's deadline ends it, and it asks again.
#[derive(Clone, Copy, Debug)]
pub struct LogAsked {
    pub wish: LogWish,
    pub ticket: net::ReplyTicket,
}

/// From api: a piece of a log, as others get it.
#[derive(Clone, Copy, Debug)]
pub struct ReadLog(pub LogWish);

/// From api: the scores and weights this validator holds, by subnet and member.
#[derive(Clone, Copy, Debug)]
pub struct ReadScores;

/// What this validator thinks of one miner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Opinion {
    /// In [0, 1], over the closed epochs.
    pub score: Option<f64>,
    /// In the last vector it made.
    pub weight: Option<u32>,
}

/// The reply to `ReadScores`.
pub type Opinions = BTreeMap<SubnetId, BTreeMap<MemberId, Opinion>>;

/// From api: how this validator looks after its seats.
#[derive(Clone, Copy, Debug)]
pub struct ReadCare;

/// The reply to `ReadCare`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// Motes added to one seat's bond in sixteen epochs at most.
    pub limit: u64,
    /// By subnet: what was added in the last sixteen epochs, and whether this epoch's vector is left out because those
    /// before were late.
    pub seats: BTreeMap<SubnetId, (u64, bool)>,
}

heard! { "scorer":
    AnswersCollected => (), HeightFinalised => (), LogAsked => (), ReadLog => Option<LogPiece>, ReadScores => Opinions,
    ReadCare => Care,
}
super::mail::stops! { Scorer }

/// What the scorer is given once.
#[derive(Clone)]
pub struct Params {
    pub chain: ChainId,
    /// The validator's account key: signs its weights.
    pub account: SecretKey,
    /// The key of its seats: salts follow from it (D2).
    pub operator: SecretKey,
    /// Only these subnets; empty means every subnet where the account has a seat.
    pub subnets: BTreeSet<SubnetId>,
    /// Challenges for each miner and epoch.
    pub rounds: u64,
    /// Samples of one challenge.
    pub samples: usize,
    /// Milliseconds a miner has for a challenge.
    pub deadline_ms: u64,
    pub conduct: Conduct,
    /// Motes added to one seat's bond in sixteen epochs at most; 0: never.
    pub bond_top_up: u64,
    /// Where what is sealed is kept.
    pub shelf: Arc<dyn Kv>,
}

/// The edges.
pub struct Links {
    pub run_job: Recipient<RunJob>,
    pub challenge: Recipient<Challenge>,
    pub read_ledger: Recipient<ReadLedger>,
    pub publish: Recipient<Publish>,
    pub reply_log: Recipient<ReplyLog>,
    pub pull_artifact: Recipient<PullArtifact>,
    pub read_chunk: Recipient<ReadChunk>,
}

/// The actor.
pub struct Scorer {
    params: Params,
    links: Links,
    shelf: Shelf,
    desks: BTreeMap<SubnetId, Desk>,
    in_flight: BTreeMap<u64, Round>,
    next_challenge: u64,
    outbox: Outbox,
    /// When each challenge of our logs was last answered.
    answered: BTreeMap<(Height, u64), Height>,
    /// The competitions judged here; no more than there are desks.
    contests: BTreeMap<SubnetId, Contest>,
}

impl Scorer {
    pub fn new(params: Params, links: Links) -> Self {
        let shelf = Shelf::new(Arc::clone(&params.shelf));
        let (desks, in_flight, answered, contests) = Default::default();
        Self {
            params,
            links,
            shelf,
            desks,
            in_flight,
            next_challenge: 0,
            outbox: Outbox::default(),
            answered,
            contests,
        }
    }

    /// The subnet's desk, opened when the account first has a seat there and the task is known to this program. It goes
    /// on from the last log on the shelf.
    fn desk(&mut self, seat: &Seat, task: &str) -> Option<&mut Desk> {
        let (subnet, epoch) = (seat.subnet, seat.epoch);
        if !self.desks.contains_key(&subnet) {
            if self.desks.len() >= SUBNETS_MAX {
                return None;
            }
            let task = match task::open(task) {
                Ok(task) => Arc::from(task),
                Err(error) => {
                    tracing::warn!(%subnet, %error, "cannot score this subnet");
                    return None;
                }
            };
            // A log of the open epoch is there when the process ended between sealing and closing.
            let last = self.shelf.last_before(subnet, epoch.saturating_add(1));
            let board = last.map(|log| log.after()).unwrap_or_default();
            self.desks.insert(subnet, Desk::new(task, epoch, board));
        }
        self.desks.get_mut(&subnet)
    }

    /// Does what is due at this height in every subnet.
    fn height(&mut self, finalised: &HeightFinalised, context: &mut Context<Self>) {
        let account = self.params.account.public().into();
        let state = &finalised.state;
        let subnets: Vec<(SubnetId, String)> = state
            .range::<crate::ledger::rows::Subnet>(..)
            .filter(|(id, _)| self.params.subnets.is_empty() || self.params.subnets.contains(id))
            .map(|(id, subnet)| (*id, subnet.task.clone()))
            .collect();
        let mut due = Vec::new();
        for (subnet, task) in subnets {
            let Some(seat) = Seat::of(state, subnet, &account) else { continue };
            let Some(desk) = self.desk(&seat, &task) else { continue };
            desk.open(seat.epoch);
            desk.at = seat.height;
            let miners = state.members(subnet).filter(|(_, member)| member.role == Role::Miner);
            let miners: BTreeMap<MemberId, PublicKey> = miners.map(|(id, member)| (id, member.operator)).collect();
            let competes = state.subnet(subnet).is_some_and(|subnet| subnet.rules.kind == KIND_COMPETITION);
            let revealed = state.member(subnet, seat.member).and_then(|member| member.last_reveal);
            #[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
            let age = seat.height.saturating_sub(revealed.unwrap_or(0)) as f64;
            metrics::gauge!("starling_weights_age_heights", "subnet" => subnet.to_string()).set(age);
            desk.competes = competes;
            if competes {
                self.contest(&seat, finalised, context);
            } else {
                self.challenge(&seat, finalised.hash, miners);
            }
            self.look_back(&seat);
            due.extend(self.reveal(&seat));
            due.extend(self.commit(&seat, state));
            due.extend(self.top_up(&seat, state));
            self.answers(&seat, state, &mut due);
            self.attest(&seat, state, &mut due);
        }
        if !due.is_empty() {
            self.send(due, context);
        }
    }

    /// Puts one round of challenges when it is due.
    fn challenge(&mut self, seat: &Seat, tip: Digest, operators: BTreeMap<MemberId, PublicKey>) {
        let due = seat.rounds_due(self.params.rounds);
        let Some(desk) = self.desks.get_mut(&seat.subnet) else { return };
        if desk.rounds_put >= due || operators.is_empty() {
            return;
        }
        if desk.rounds_put == 0 {
            // What no report came for in the last epoch never will; kept, such challenges would fill the table for good.
            self.in_flight.retain(|_, waiting| waiting.subnet != seat.subnet);
        }
        if self.in_flight.len() >= CHALLENGES_MAX {
            return;
        }
        desk.rounds_put += 1;
        // Fresh from the newest checkpoint, and closed to everybody without our secret: nobody knew the question (M3).
        let secret = hash("starling/1 challenge secret", &[self.params.account.seed()]);
        let (subnet, round) = (seat.subnet.0.to_le_bytes(), desk.rounds_put.to_le_bytes());
        let seed = hash("starling/1 challenge", &[&secret.0, &tip.0, &subnet, &seat.epoch.to_le_bytes(), &round]);
        let challenge = Arc::new(desk.task.challenge(seed, self.params.samples));
        self.next_challenge += 1;
        let id = self.next_challenge;
        let (subnet, query, deadline_ms) = (seat.subnet, challenge.query.clone(), self.params.deadline_ms);
        let (name, members) = (Round::name(seed), operators.keys().copied().collect());
        self.in_flight.insert(id, Round { subnet, epoch: seat.epoch, seed, name, challenge, operators });
        if !tell(&self.links.challenge, Challenge { id, name, subnet, query, deadline_ms, members }) {
            self.in_flight.remove(&id);
        }
    }

    /// Has the answers of a challenge judged off this thread, and puts them into the epoch's log.
    fn judge(&mut self, collected: AnswersCollected, context: &mut Context<Self>) {
        let Some(round) = self.in_flight.remove(&collected.challenge) else { return };
        let Some(desk) = self.desks.get_mut(&round.subnet) else { return };
        let (subnet, epoch, deadline_ms) = (round.subnet, round.epoch, self.params.deadline_ms);
        let entries = round.entries(self.params.chain, deadline_ms, collected.answers);
        desk.saw(entries.iter().filter(|(_, answer)| answer.is_some()).map(|(entry, _)| entry.miner));
        let given =
            |(entry, answer): &(Entry, Option<Answer>)| Given { answer: answer.clone(), arrival: entry.arrival };
        let answers = entries.iter().map(given).collect();
        let job = Job::Score { task: Arc::clone(&desk.task), challenge: round.challenge, answers };
        let run = RunJob { job, lane: Lane::Cpu, deadline_ms: 30_000, cancel: Cancel::new() };
        let done = ask(&self.links.run_job, run, Duration::from_secs(35));
        context.spawn(done.into_actor(self).map(move |done, actor, _| match done {
            Ok(Ok(Done::Scored(marks))) => {
                if let Some(desk) = actor.desks.get_mut(&subnet) {
                    desk.record(epoch, entries, marks);
                }
            }
            other => tracing::warn!(%subnet, ?other, "answers were not judged"),
        }));
    }

    fn opinions(&self) -> Opinions {
        let of_desk = |desk: &Desk| {
            let mut opinions: BTreeMap<MemberId, Opinion> = BTreeMap::new();
            for (member, score) in &desk.board.scores {
                opinions.entry(*member).or_default().score = Some(part(*score));
            }
            for (member, weight) in &desk.last_row {
                opinions.entry(*member).or_default().weight = Some(*weight);
            }
            opinions
        };
        self.desks.iter().map(|(subnet, desk)| (*subnet, of_desk(desk))).collect()
    }
}

/// A score for people.
fn part(score: u32) -> f64 {
    f64::from(score) / f64::from(u32::MAX)
}

impl Actor for Scorer {
    type Context = Context<Self>;
}

impl Handler<HeightFinalised> for Scorer {
    type Result = ();
    fn handle(&mut self, finalised: HeightFinalised, context: &mut Self::Context) {
        self.height(&finalised, context);
    }
}

impl Handler<AnswersCollected> for Scorer {
    type Result = ();
    fn handle(&mut self, collected: AnswersCollected, context: &mut Self::Context) {
        self.judge(collected, context);
    }
}

impl Handler<LogAsked> for Scorer {
    type Result = ();
    fn handle(&mut self, LogAsked { wish, ticket }: LogAsked, _: &mut Self::Context) {
        tell(&self.links.reply_log, ReplyLog { ticket, piece: self.shelf.piece(&wish) });
    }
}

impl Handler<ReadLog> for Scorer {
    type Result = Option<LogPiece>;
    fn handle(&mut self, ReadLog(wish): ReadLog, _: &mut Self::Context) -> Self::Result {
        self.shelf.piece(&wish)
    }
}

impl Handler<ReadScores> for Scorer {
    type Result = MessageResult<ReadScores>;
    fn handle(&mut self, _: ReadScores, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.opinions())
    }
}

impl Handler<ReadCare> for Scorer {
    type Result = MessageResult<ReadCare>;
    fn handle(&mut self, _: ReadCare, _: &mut Self::Context) -> Self::Result {
        let seat = |(subnet, desk): (&SubnetId, &Desk)| {
            (*subnet, (self.shelf.topped_up(*subnet, desk.epoch), desk.seals == Some(false)))
        };
        MessageResult(Care { limit: self.params.bond_top_up, seats: self.desks.iter().map(seat).collect() })
    }
}
