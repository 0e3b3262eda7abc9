//! Answers to scores, and once an epoch scores to a weight vector.
//!
//! Owns a validator's boards, its challenges in flight and the vectors it has sealed but not opened. Refuses to score
//! where its account holds no validator seat. What is sealed outlives the process: a commit that cannot be opened forfeits
//! the epoch's dividend (L16).

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use plan::{RESEND_HEIGHTS, Seat};

use super::ledger::ReadLedger;
use super::mail::{ask, heard, tell};
use super::query_dispatcher::Challenge;
use super::router::{Outbound, Publish};
use super::worker_pool::{Cancel, Done, Given, Job, Lane, RunJob};
use crate::ledger::state::State;
use crate::ml::quantise;
use crate::ml::score::Board;
use crate::ml::task::{self, SampleScores, Task};
use crate::protocol::commitment::{Author, Opening, Width, canonical_weights, salt};
use crate::protocol::ids::{ChainId, Digest, Epoch, Height, MemberId, SubnetId, hash};
use crate::protocol::keys::{SecretKey, Signature};
use crate::protocol::query::Answer;
use crate::protocol::transaction::{Action, Role, Transaction};

/// Messages that may wait.
pub const MAILBOX: usize = 256;
/// Challenges in flight.
const CHALLENGES_MAX: usize = 64;
/// Subnets scored by one node.
const SUBNETS_MAX: usize = 64;
/// Sealed vectors kept for each subnet: as many as may be waiting at once, and some (D1).
const SEALED_MAX: usize = 20;
/// A weight transaction is valid for so many heights.
const VALID_HEIGHTS: u64 = 20;
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

heard! { "scorer": AnswersCollected => (), HeightFinalised => (), ReadScores => Opinions }
super::mail::stops! { Scorer }

/// A vector that is committed and not yet opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub subnet: SubnetId,
    pub epoch: Epoch,
    pub opening: Opening,
}

/// Where sealed vectors go before their commit is published.
pub type Remember = Arc<dyn Fn(Vec<Sealed>) + Send + Sync>;

/// What the scorer is given once.
#[derive(Clone)]
pub struct Params {
    pub chain: ChainId,
    /// The validator's account key: signs its weights.
    pub account: SecretKey,
    /// Only these subnets; empty means every subnet where the account has a seat.
    pub subnets: BTreeSet<SubnetId>,
    /// Challenges for each miner and epoch.
    pub rounds: u64,
    /// Samples of one challenge.
    pub samples: usize,
    /// Milliseconds a miner has for a challenge.
    pub deadline_ms: u64,
    pub sealed: Vec<Sealed>,
    pub remember: Remember,
}

/// The edges.
pub struct Links {
    pub run_job: Recipient<RunJob>,
    pub challenge: Recipient<Challenge>,
    pub read_ledger: Recipient<ReadLedger>,
    pub publish: Recipient<Publish>,
}

/// One subnet's desk.
struct Desk {
    task: Arc<dyn Task>,
    board: Board,
    epoch: Epoch,
    rounds_put: u64,
    /// Height at which the commit of this epoch, and the reveal of the one before, were last sent.
    commit_sent: Option<Height>,
    reveal_sent: Option<Height>,
    last_vector: BTreeMap<MemberId, u32>,
}

/// A challenge put to miners.
struct InFlight {
    subnet: SubnetId,
    challenge: Arc<task::Challenge>,
}

/// The actor.
pub struct Scorer {
    params: Params,
    links: Links,
    desks: BTreeMap<SubnetId, Desk>,
    in_flight: BTreeMap<u64, InFlight>,
    next_challenge: u64,
    sealed: Vec<Sealed>,
}

impl Scorer {
    pub fn new(mut params: Params, links: Links) -> Self {
        let sealed = std::mem::take(&mut params.sealed);
        Self { params, links, desks: BTreeMap::new(), in_flight: BTreeMap::new(), next_challenge: 0, sealed }
    }

    /// The subnet's desk, opened when the account first has a seat there and the task is known to this program.
    fn desk(&mut self, subnet: SubnetId, task: &str) -> Option<&mut Desk> {
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
            let desk = Desk {
                task,
                board: Board::default(),
                epoch: 0,
                rounds_put: 0,
                commit_sent: None,
                reveal_sent: None,
                last_vector: BTreeMap::new(),
            };
            self.desks.insert(subnet, desk);
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
        let mut actions = Vec::new();
        for (subnet, task) in subnets {
            let Some(seat) = Seat::of(state, subnet, &account) else { continue };
            let Some(desk) = self.desk(subnet, &task) else { continue };
            if desk.epoch != seat.epoch {
                (desk.epoch, desk.rounds_put, desk.commit_sent, desk.reveal_sent) = (seat.epoch, 0, None, None);
            }
            let miners: Vec<MemberId> =
                state.members(subnet).filter(|(_, member)| member.role == Role::Miner).map(|(id, _)| id).collect();
            desk.board.retain(|member| miners.binary_search(&member).is_ok());
            let revealed = state.member(subnet, seat.member).and_then(|member| member.last_reveal);
            #[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
            let age = seat.height.saturating_sub(revealed.unwrap_or(0)) as f64;
            metrics::gauge!("starling_weights_age_heights", "subnet" => subnet.to_string()).set(age);
            self.challenge(&seat, finalised.hash, miners);
            actions.extend(self.reveal(&seat));
            actions.extend(self.commit(&seat));
        }
        if !actions.is_empty() {
            self.send(actions, state.height(), context);
        }
    }

    /// Puts one round of challenges when it is due.
    fn challenge(&mut self, seat: &Seat, tip: Digest, miners: Vec<MemberId>) {
        let due = seat.rounds_due(self.params.rounds);
        let Some(desk) = self.desks.get_mut(&seat.subnet) else { return };
        if desk.rounds_put >= due || miners.is_empty() {
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
        let name = hash("starling/1 challenge name", &[&seed.0]);
        self.in_flight.insert(id, InFlight { subnet, challenge });
        if !tell(&self.links.challenge, Challenge { id, name, subnet, query, deadline_ms, members: miners }) {
            self.in_flight.remove(&id);
        }
    }

    /// The reveal of the vector whose time has come, when it is due and not just sent.
    fn reveal(&mut self, seat: &Seat) -> Option<Action> {
        let epoch = seat.opening?;
        let desk = self.desks.get_mut(&seat.subnet)?;
        if !seat.unrevealed || desk.reveal_sent.is_some_and(|sent| seat.height < sent + RESEND_HEIGHTS) {
            return None;
        }
        let Some(sealed) = self.sealed.iter().find(|s| s.subnet == seat.subnet && s.epoch == epoch) else {
            metrics::counter!("starling_weights_forfeited_total").increment(1);
            tracing::warn!(subnet = %seat.subnet, epoch, "a commit of ours cannot be opened: its vector is lost");
            return None;
        };
        desk.reveal_sent = Some(seat.height);
        let (subnet, member) = (seat.subnet, seat.member);
        Some(Action::WeightsReveal { subnet, mechanism: 0, epoch, member, opening: sealed.opening.clone() })
    }

    /// The commit of this epoch's vector, when it is due and not just sent. The vector is made once, and remembered before
    /// its commit goes out.
    fn commit(&mut self, seat: &Seat) -> Option<Action> {
        let desk = self.desks.get_mut(&seat.subnet)?;
        if !seat.commit_due() || desk.commit_sent.is_some_and(|sent| seat.height < sent + RESEND_HEIGHTS) {
            return None;
        }
        let Seat { subnet, epoch, member, .. } = *seat;
        if !self.sealed.iter().any(|s| s.subnet == subnet && s.epoch == epoch) {
            let scores = desk.board.close_epoch();
            let weights = quantise::weights(&scores, desk.task.chance_level());
            if !scores.is_empty() {
                let mean = scores.values().sum::<f64>() / scores.len() as f64;
                metrics::gauge!("starling_miner_score_ratio", "subnet" => subnet.to_string()).set(mean);
            }
            let weights = canonical_weights(weights);
            if weights.is_empty() {
                return None;
            }
            desk.last_vector = weights.iter().copied().collect();
            let salt = salt(&self.params.account, &self.params.chain, subnet, 0, epoch);
            self.sealed.push(Sealed { subnet, epoch, opening: Opening::bare(Width::Two, weights, salt) });
            let surplus = self.sealed.len().saturating_sub(SEALED_MAX * self.desks.len().max(1));
            self.sealed.drain(..surplus);
            (self.params.remember)(self.sealed.clone());
        }
        let sealed = self.sealed.iter().find(|s| s.subnet == subnet && s.epoch == epoch)?;
        let chain = self.params.chain;
        let by = Author { chain, subnet, mechanism: 0, period: epoch, validator: member, operator: seat.operator };
        let hash = sealed.opening.commitment(&by);
        self.desks.get_mut(&subnet)?.commit_sent = Some(seat.height);
        let version = seat.version;
        Some(Action::WeightsCommit { subnet, mechanism: 0, epoch, member, version, hash })
    }

    /// Signs with the ledger's next nonces and publishes, in order.
    fn send(&mut self, actions: Vec<Action>, height: Height, context: &mut Context<Self>) {
        let account = self.params.account.public().into();
        let view = ask(&self.links.read_ledger, ReadLedger { account: Some(account) }, LEDGER_DEADLINE);
        context.spawn(view.into_actor(self).map(move |view, actor, _| {
            let Ok(view) = view else { return };
            for (nonce, action) in (view.next_nonce..).zip(actions) {
                let kind = action.name();
                let valid_until = height + VALID_HEIGHTS;
                let transaction = Transaction { account, nonce, fee: 0, valid_until, action };
                match transaction.sign(&actor.params.chain, &actor.params.account) {
                    Ok(signed) => {
                        tracing::debug!(kind, nonce, height, "publishing weights");
                        tell(&actor.links.publish, Publish(Outbound::Weights(signed.encode())));
                    }
                    Err(error) => tracing::warn!(kind, %error, "weights of ours do not make a transaction"),
                }
            }
        }));
    }

    /// Has the answers of a challenge judged off this thread, and puts the scores on the board.
    fn judge(&mut self, collected: AnswersCollected, context: &mut Context<Self>) {
        let Some(InFlight { subnet, challenge }) = self.in_flight.remove(&collected.challenge) else { return };
        let Some(desk) = self.desks.get(&subnet) else { return };
        let (members, answers): (Vec<MemberId>, Vec<Given>) = collected
            .answers
            .into_iter()
            .map(|c| (c.member, Given { answer: c.answer, latency_ms: c.latency_ms }))
            .unzip();
        let deadline_ms = self.params.deadline_ms;
        let job = Job::Score { task: Arc::clone(&desk.task), challenge, answers, deadline_ms };
        let run = RunJob { job, lane: Lane::Cpu, deadline_ms: 30_000, cancel: Cancel::new() };
        let done = ask(&self.links.run_job, run, Duration::from_secs(35));
        context.spawn(done.into_actor(self).map(move |done, actor, _| match done {
            Ok(Ok(Done::Scored(scores))) => actor.record(subnet, &members, &scores),
            other => tracing::warn!(%subnet, ?other, "answers were not judged"),
        }));
    }

    fn record(&mut self, subnet: SubnetId, members: &[MemberId], scores: &[SampleScores]) {
        let Some(desk) = self.desks.get_mut(&subnet) else { return };
        for (member, samples) in members.iter().zip(scores) {
            desk.board.record(*member, samples);
        }
    }

    fn opinions(&self) -> Opinions {
        let of_desk = |desk: &Desk| {
            let mut opinions: BTreeMap<MemberId, Opinion> = BTreeMap::new();
            for (member, score) in desk.board.scores() {
                opinions.entry(member).or_default().score = Some(score);
            }
            for (member, weight) in &desk.last_vector {
                opinions.entry(*member).or_default().weight = Some(*weight);
            }
            opinions
        };
        self.desks.iter().map(|(subnet, desk)| (*subnet, of_desk(desk))).collect()
    }
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

impl Handler<ReadScores> for Scorer {
    type Result = MessageResult<ReadScores>;
    fn handle(&mut self, _: ReadScores, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.opinions())
    }
}
