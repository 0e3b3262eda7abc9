//! Answers to marks, and once an epoch marks to a log and a log to a weight vector.
//!
//! Owns a validator's desks, its challenges in flight and the shelf of what it has sealed. Refuses to score where its
//! account holds no validator seat. What is sealed is on disk before its commit goes out, and outlives the process: a
//! commit that cannot be opened costs its author (D4). A row comes from its log by the fold and by nothing else (D13).

mod conduct;
mod desk;
mod plan;
pub mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

pub use conduct::Conduct;
pub use desk::scorer_digest;
use desk::{Desk, Round};
use plan::RESEND_HEIGHTS;
pub use plan::Seat;
use shelf::{Sealed, Shelf};

use super::ledger::ReadLedger;
use super::mail::{ask, heard, tell};
use super::query_dispatcher::Challenge;
use super::router::{Outbound, Publish, ReplyLog};
use super::worker_pool::{Cancel, Done, Given, Job, Lane, RunJob};
use crate::ledger::apply;
use crate::ledger::judging::LogChallenge;
use crate::ledger::state::State;
use crate::ml::task;
use crate::net;
use crate::protocol::commitment::{Author, Opening, Width, salt};
use crate::protocol::ids::{ChainId, Digest, Height, MemberId, PublicKey, SubnetId, hash};
use crate::protocol::keys::{SecretKey, Signature};
use crate::protocol::query::Answer;
use crate::protocol::score_log::Entry;
use crate::protocol::transaction::{Action, Class, Role, Transaction};
use crate::protocol::wire::{LogPiece, LogWish};
use crate::store::kv::Kv;

/// Messages that may wait.
pub const MAILBOX: usize = 256;
/// Challenges in flight.
const CHALLENGES_MAX: usize = 64;
/// Subnets scored by one node.
const SUBNETS_MAX: usize = 64;
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

heard! { "scorer":
    AnswersCollected => (), HeightFinalised => (), LogAsked => (), ReadLog => Option<LogPiece>, ReadScores => Opinions,
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
}

/// The actor.
pub struct Scorer {
    params: Params,
    links: Links,
    shelf: Shelf,
    desks: BTreeMap<SubnetId, Desk>,
    in_flight: BTreeMap<u64, Round>,
    next_challenge: u64,
    /// When each challenge of our logs was last answered.
    answered: BTreeMap<(Height, u64), Height>,
}

impl Scorer {
    pub fn new(params: Params, links: Links) -> Self {
        let shelf = Shelf::new(Arc::clone(&params.shelf));
        let (desks, in_flight, answered) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { params, links, shelf, desks, in_flight, next_challenge: 0, answered }
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
        let mut actions = Vec::new();
        for (subnet, task) in subnets {
            let Some(seat) = Seat::of(state, subnet, &account) else { continue };
            let Some(desk) = self.desk(&seat, &task) else { continue };
            desk.open(seat.epoch);
            let miners = state.members(subnet).filter(|(_, member)| member.role == Role::Miner);
            let miners: BTreeMap<MemberId, PublicKey> = miners.map(|(id, member)| (id, member.operator)).collect();
            let revealed = state.member(subnet, seat.member).and_then(|member| member.last_reveal);
            #[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
            let age = seat.height.saturating_sub(revealed.unwrap_or(0)) as f64;
            metrics::gauge!("starling_weights_age_heights", "subnet" => subnet.to_string()).set(age);
            self.challenge(&seat, finalised.hash, miners);
            actions.extend(self.reveal(&seat));
            actions.extend(self.commit(&seat, state));
            self.answers(&seat, state, &mut actions);
        }
        if !actions.is_empty() {
            self.send(actions, state.height(), context);
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

    /// The reveal of the vector whose time has come, when it is due and not just sent.
    fn reveal(&mut self, seat: &Seat) -> Option<Action> {
        let epoch = seat.opening?;
        let desk = self.desks.get_mut(&seat.subnet)?;
        if !seat.unrevealed || desk.reveal_sent.is_some_and(|sent| seat.height < sent + RESEND_HEIGHTS) {
            return None;
        }
        desk.reveal_sent = Some(seat.height);
        if !self.params.conduct.reveals() {
            return None;
        }
        let Some(Sealed { subnet, opening, .. }) = self.shelf.sealed(seat.subnet, epoch) else {
            metrics::counter!("starling_weights_forfeited_total").increment(1);
            tracing::warn!(subnet = %seat.subnet, epoch, "a commit of ours cannot be opened: its vector is lost");
            return None;
        };
        Some(Action::WeightsReveal { subnet, mechanism: 0, epoch, member: seat.member, opening })
    }

    /// The commit of this epoch's vector, when it is due and not just sent.
    fn commit(&mut self, seat: &Seat, state: &State) -> Option<Action> {
        let desk = self.desks.get(&seat.subnet)?;
        if !seat.commit_due() || desk.commit_sent.is_some_and(|sent| seat.height < sent + RESEND_HEIGHTS) {
            return None;
        }
        let Seat { subnet, epoch, member, operator, version, .. } = *seat;
        let Sealed { opening, .. } = match self.shelf.sealed(subnet, epoch) {
            Some(sealed) => sealed,
            None => self.seal(seat, state)?,
        };
        let desk = self.desks.get_mut(&subnet)?;
        desk.last_row = opening.row.iter().copied().collect();
        desk.commit_sent = Some(seat.height);
        let chain = self.params.chain;
        let by = Author { chain, subnet, mechanism: 0, period: epoch, validator: member, operator };
        let hash = opening.commitment(&by);
        Some(Action::WeightsCommit { subnet, mechanism: 0, epoch, member, version, hash })
    }

    /// Answers to challenges of our logs, those that were not just sent (D14).
    fn answers(&mut self, seat: &Seat, state: &State, actions: &mut Vec<Action>) {
        let Seat { subnet, member, height, .. } = *seat;
        self.answered.retain(|(deadline, _), _| *deadline >= height);
        let ours = |of: &LogChallenge| of.subnet == subnet && of.validator == member;
        for (key, of) in state.range::<LogChallenge>((height, 0)..).filter(|(_, of)| ours(of)) {
            if self.answered.get(key).is_some_and(|sent| height < sent + RESEND_HEIGHTS) {
                continue;
            }
            self.answered.insert(*key, height);
            let Some((leaf, path)) = self.shelf.log(subnet, of.period).and_then(|log| log.proof(of.entry)) else {
                tracing::warn!(%subnet, epoch = of.period, entry = of.entry, "a challenged log is not on the shelf");
                continue;
            };
            actions.push(Action::LogAnswer { deadline: key.0, number: key.1, leaf, path });
        }
    }

    /// Makes this epoch's log and vector, once, and keeps both. `None`: there is nothing to say, or no way to keep it.
    fn seal(&mut self, seat: &Seat, state: &State) -> Option<Sealed> {
        let Seat { subnet, epoch, member, .. } = *seat;
        let width = Width::of(state.subnet(subnet)?.rules.width);
        let Params { chain, deadline_ms, samples, .. } = self.params;
        let desk = self.desks.get_mut(&subnet).filter(|desk| !desk.is_sealed())?;
        let rules = desk.rules(deadline_ms, samples, width);
        let log = desk.seal(chain, subnet, member, rules);
        if !desk.board.scores.is_empty() {
            let sum: f64 = desk.board.scores.values().map(|score| part(*score)).sum();
            let mean = sum / desk.board.scores.len() as f64;
            metrics::gauge!("starling_miner_score_ratio", "subnet" => subnet.to_string()).set(mean);
        }
        let row = self.params.conduct.row(state, subnet, width, log.row());
        if row.is_empty() {
            return None;
        }
        let opening = Opening {
            scorer_digest: log.head.scorer,
            params_digest: rules.digest(),
            log_root: log.root(),
            log_len: log.leaf_count(),
            width,
            row,
            salt: salt(&self.params.operator, &chain, subnet, 0, epoch),
        };
        let sealed = Sealed { subnet, epoch, opening };
        match self.shelf.keep(&sealed, &log) {
            Ok(()) => Some(sealed),
            Err(error) => {
                tracing::warn!(%subnet, epoch, %error, "a vector cannot be kept, so it is not committed");
                None
            }
        }
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
                let mut transaction = Transaction { account, nonce, fee: 0, valid_until, action };
                let weights = transaction.class() == Class::System;
                if !weights {
                    // The fee stands in a field of fixed width: the size does not depend on it.
                    let bytes = transaction.signed_bytes();
                    transaction.fee = apply::full_fee(&view.state, &transaction.action, bytes);
                }
                match transaction.sign(&actor.params.chain, &actor.params.account) {
                    Ok(signed) => {
                        tracing::debug!(kind, nonce, height, "publishing weights");
                        let bytes = signed.encode();
                        let outbound = if weights { Outbound::Weights(bytes) } else { Outbound::Transaction(bytes) };
                        tell(&actor.links.publish, Publish(outbound));
                    }
                    Err(error) => tracing::warn!(kind, %error, "weights of ours do not make a transaction"),
                }
            }
        }));
    }

    /// Has the answers of a challenge judged off this thread, and puts them into the epoch's log.
    fn judge(&mut self, collected: AnswersCollected, context: &mut Context<Self>) {
        let Some(round) = self.in_flight.remove(&collected.challenge) else { return };
        let Some(desk) = self.desks.get(&round.subnet) else { return };
        let (subnet, epoch, deadline_ms) = (round.subnet, round.epoch, self.params.deadline_ms);
        let entries = round.entries(self.params.chain, deadline_ms, collected.answers);
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
