//! Drives the checkpoint protocol: owns the machine, the vote journal and the timers.
//!
//! Decides nothing: every decision is `Machine::step`, and its effects are performed in the order given. A vote is on disk
//! before it is on the wire; a journal that cannot be written ends the process. Asks do not wait: their replies come later
//! as further inputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::clock::Clock;
use super::ledger::{BuildCheckpoint, CheckProposal, Finalise, ReadCheckpoints};
use super::mail::{Heard, ask, heard, tell};
use super::peer_manager::{HeightReached, PeerMisbehaved};
use super::router::{FetchSync, Outbound, Publish, ReplySync, SendVote};
use crate::consensus::{
    Effect, Fault, Halt, Input, Machine, Note, Now, Publication, Record, Served, Source, TimerId, TimerKind, Validity,
    Verdict,
};
use crate::net;
use crate::protocol::checkpoint::{Certificate, Checkpoint, Evidence, Proposal, Vote};
use crate::protocol::ids::{Digest, NodeId, View};
use crate::protocol::sync::{Get, Got, Status};
use crate::protocol::wire::Certified;

/// Messages that may wait; the router's permits keep it from filling.
pub const MAILBOX: usize = 4_096;
/// How long the ledger may take for one checkpoint.
const LEDGER_DEADLINE: Duration = Duration::from_secs(60);
/// A timer whose message finds the mailbox full tries again after so long.
const TIMER_AGAIN: Duration = Duration::from_millis(10);

/// A message of the checkpoint protocol, decoded.
#[derive(Clone, Debug)]
pub enum ConsensusMessage {
    Vote(Vote),
    Proposal(Box<Proposal>),
    Certificate(Certificate),
    Evidence(Evidence),
}

impl From<Certified> for ConsensusMessage {
    fn from(certified: Certified) -> Self {
        match certified {
            Certified::Certificate(certificate) => Self::Certificate(certificate),
            Certified::Evidence(evidence) => Self::Evidence(evidence),
        }
    }
}

/// From router: something of the checkpoint protocol; `relayed` by gossip. The reply is its verdict.
#[derive(Clone, Debug)]
pub struct HearConsensus {
    pub from: NodeId,
    pub relayed: bool,
    pub message: ConsensusMessage,
}

/// From router: a peer asks for what it lacks. Lost: it asks somebody else.
#[derive(Clone, Debug)]
pub struct SyncArrived {
    pub from: NodeId,
    pub get: Get,
    pub ticket: net::ReplyTicket,
}

/// From ledger: whether transactions wait. Lost: the next change or height brings it.
#[derive(Clone, Copy, Debug)]
pub struct PendingChanged(pub bool);

/// From peer_manager: the peers whose hello held, the whole set. Lost: the next change brings it.
#[derive(Clone, Debug)]
pub struct PeersAdmitted(pub Vec<NodeId>);

/// From api: where the protocol stands.
#[derive(Clone, Copy, Debug)]
pub struct ReadConsensus;

/// The reply to `ReadConsensus`.
#[derive(Clone, Debug)]
pub struct Standing {
    pub status: Status,
    /// Our index in the committee; `None` for an observer.
    pub member: Option<u16>,
    pub halted: bool,
    /// Milliseconds since the last final height.
    pub stale_ms: u64,
    /// Verified equivocations seen since the start.
    pub evidence: Vec<Evidence>,
}

/// From a timer task: a timer of the machine ran out.
#[derive(Clone, Copy, Debug)]
struct TimerRanOut(TimerId);

heard! { "checkpointer":
    HearConsensus => net::Validity, SyncArrived => (), PendingChanged => (), PeersAdmitted => (),
    ReadConsensus => Standing, TimerRanOut => (),
}
super::mail::stops! { Checkpointer }

/// Where the machine's records go: appended in order and synced once, or an error that ends the node.
pub trait VoteJournal: Send {
    /// Appends all and syncs once.
    ///
    /// # Errors
    /// The journal could not be written or synced; nothing may be sent.
    fn append(&mut self, records: &[Record]) -> Result<(), String>;

    /// Lets segments go whose records all have a mark of at most this.
    ///
    /// # Errors
    /// The directory could not be changed.
    fn release(&mut self, mark: View) -> Result<(), String>;
}

/// The edges.
pub struct Links {
    pub build: Recipient<BuildCheckpoint>,
    pub check: Recipient<CheckProposal>,
    pub finalise: Recipient<Finalise>,
    pub read_checkpoints: Recipient<ReadCheckpoints>,
    pub publish: Recipient<Publish>,
    pub send_vote: Recipient<SendVote>,
    pub fetch: Recipient<FetchSync>,
    pub reply_sync: Recipient<ReplySync>,
    pub height_reached: Recipient<HeightReached>,
    pub misbehaved: Recipient<PeerMisbehaved>,
}

/// What the checkpointer is given once.
pub struct Params {
    pub clock: Clock,
    pub machine: Machine,
    pub journal: Box<dyn VoteJournal>,
    /// Says why and ends the node.
    pub fatal: Arc<dyn Fn(String) + Send + Sync>,
}

/// The actor.
pub struct Checkpointer {
    clock: Clock,
    machine: Machine,
    journal: Box<dyn VoteJournal>,
    fatal: Arc<dyn Fn(String) + Send + Sync>,
    links: Links,
    timers: BTreeMap<TimerKind, SpawnHandle>,
    final_at_ms: u64,
    evidence: Vec<Evidence>,
    stopped: bool,
}

impl Checkpointer {
    pub fn new(params: Params, links: Links) -> Self {
        let Params { clock, machine, journal, fatal } = params;
        let (timers, final_at_ms) = (BTreeMap::new(), clock.mono_ms());
        Self { clock, machine, journal, fatal, links, timers, final_at_ms, evidence: Vec::new(), stopped: false }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.clock.mono_ms(), wall_ms: self.clock.wall_ms() }
    }

    /// One step of the machine; the verdict of a heard message, if it was one.
    fn step(&mut self, input: Input, context: &mut Context<Self>) -> net::Validity {
        let effects = self.machine.step(self.now(), input);
        self.perform(effects, context)
    }

    fn perform(&mut self, effects: Vec<Effect>, context: &mut Context<Self>) -> net::Validity {
        let mut verdict = net::Validity::Ignore;
        for effect in effects {
            if self.stopped {
                break;
            }
            match effect {
                Effect::Persist(records) => self.persist(&records),
                Effect::Judge(validity) => verdict = judged(validity),
                Effect::SendVote(vote) => {
                    tell(&self.links.send_vote, SendVote(vote));
                }
                Effect::Publish(publication) => {
                    tell(&self.links.publish, Publish(outbound(publication)));
                }
                Effect::SetTimer { id, after_ms } => self.set_timer(id, after_ms, context),
                Effect::CancelTimer(kind) => self.cancel_timer(kind, context),
                Effect::Build(draft) => {
                    let ticket = draft.ticket;
                    let to = self.links.build.clone();
                    self.later(context, &to, BuildCheckpoint(draft), LEDGER_DEADLINE, move |built| {
                        match built.flatten() {
                            Some((header, body)) => Input::Built { ticket, header, body },
                            None => Input::Unbuilt { ticket },
                        }
                    });
                }
                Effect::Check { header, body } => {
                    let hash = header.hash();
                    let to = self.links.check.clone();
                    self.later(context, &to, CheckProposal { header, body }, LEDGER_DEADLINE, move |verdict| {
                        Input::Checked { hash, verdict: verdict.unwrap_or(Verdict::Unavailable) }
                    });
                }
                Effect::Finalise(checkpoint) => self.finalise(checkpoint, context),
                Effect::Fetch { id, peer, get, deadline_ms } => {
                    let to = self.links.fetch.clone();
                    let deadline = Duration::from_millis(deadline_ms);
                    self.later(
                        context,
                        &to,
                        FetchSync { to: peer, get, deadline_ms },
                        deadline,
                        move |got| match got {
                            Some(Ok(got)) => Input::Got { id, got },
                            _ => Input::FetchFailed { id },
                        },
                    );
                }
                Effect::Penalise { peer, fault } => {
                    let (cost, why) = cost_of(fault);
                    tell(&self.links.misbehaved, PeerMisbehaved { node: peer, cost, why });
                }
                Effect::Accuse(evidence) => self.accuse(evidence),
                Effect::DropJournal { mark } => {
                    if let Err(error) = self.journal.release(mark) {
                        self.stop(format!("the vote journal cannot be cut: {error}"));
                    }
                }
                Effect::Stale { height, for_ms } => {
                    tracing::warn!(height, for_ms, "no new checkpoint became final");
                }
                Effect::Note(note) => count(note),
                Effect::Halt(halt) => self.stop(describe(&halt)),
            }
        }
        verdict
    }

    /// Ends the node: nothing after this is performed.
    fn stop(&mut self, why: String) {
        self.stopped = true;
        (self.fatal)(why);
    }

    fn persist(&mut self, records: &[Record]) {
        if let Err(error) = self.journal.append(records) {
            self.stop(format!("the vote journal cannot be written: {error}"));
        }
    }

    /// Asks outside the handler; the reply comes back as an input.
    fn later<M>(
        &self,
        context: &mut Context<Self>,
        to: &Recipient<M>,
        message: M,
        deadline: Duration,
        input: impl FnOnce(Option<M::Result>) -> Input + 'static,
    ) where
        M: Heard + Send + 'static,
        M::Result: Send,
    {
        let reply = ask(to, message, deadline);
        context.spawn(reply.into_actor(self).map(move |reply, actor, context| {
            actor.step(input(reply.ok()), context);
        }));
    }

    fn finalise(&mut self, checkpoint: Arc<Checkpoint>, context: &mut Context<Self>) {
        let (height, hash) = (checkpoint.header.height, checkpoint.header.hash());
        let reply = ask(&self.links.finalise, Finalise(checkpoint), LEDGER_DEADLINE);
        context.spawn(reply.into_actor(self).map(move |reply, actor, context| match reply {
            Ok(agreed) => {
                if agreed {
                    actor.final_at_ms = actor.clock.mono_ms();
                    tell(&actor.links.height_reached, HeightReached(height));
                }
                let input = if agreed { Input::Finalised { height, hash } } else { Input::Diverged { height, hash } };
                actor.step(input, context);
            }
            Err(error) => actor.stop(format!("checkpoint {height} could not be made final: {error}")),
        }));
    }

    fn accuse(&mut self, evidence: Evidence) {
        metrics::counter!("starling_checkpoint_evidence_total").increment(1);
        tracing::warn!(signer = evidence.signer(), "a committee member signed two things that exclude each other");
        self.evidence.push(evidence);
        self.evidence.truncate(1_024);
    }

    /// A timer is a task of its own that sends a message: it does not starve behind a busy mailbox (N6).
    fn set_timer(&mut self, id: TimerId, after_ms: u64, context: &mut Context<Self>) {
        self.cancel_timer(id.kind, context);
        let to: Recipient<TimerRanOut> = context.address().recipient();
        let task = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            while to.connected() && to.try_send(TimerRanOut(id)).is_err() {
                tokio::time::sleep(TIMER_AGAIN).await;
            }
        });
        let handle = context.spawn(AbortOnDrop(task).into_actor(self));
        self.timers.insert(id.kind, handle);
    }

    fn cancel_timer(&mut self, kind: TimerKind, context: &mut Context<Self>) {
        if let Some(handle) = self.timers.remove(&kind) {
            context.cancel_future(handle);
        }
    }

    /// Answers a peer that catches up: from the machine what is not final, from the ledger's archive what is.
    fn serve(&mut self, arrived: SyncArrived, context: &mut Context<Self>) {
        let SyncArrived { from, get, ticket } = arrived;
        if let Get::Status(status) = &get {
            let status = *status;
            self.step(Input::HearStatus { from, status }, context);
        }
        let (from, count) = match self.machine.serve(&get) {
            Served::Now(got) => {
                tell(&self.links.reply_sync, ReplySync { ticket, got });
                return;
            }
            Served::Stored { from, count } => (from, count),
        };
        let read = ask(&self.links.read_checkpoints, ReadCheckpoints { from, count }, LEDGER_DEADLINE);
        context.spawn(read.into_actor(self).map(move |got, actor, _| {
            tell(&actor.links.reply_sync, ReplySync { ticket, got: got.unwrap_or(Got::Nothing) });
        }));
    }
}

/// A spawned task that ends with its handle.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Future for AbortOnDrop {
    type Output = ();
    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::pin::Pin::new(&mut self.0).poll(context).map(|_| ())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn judged(validity: Validity) -> net::Validity {
    match validity {
        Validity::Accept => net::Validity::Accept,
        Validity::Ignore => net::Validity::Ignore,
        Validity::Reject => net::Validity::Reject,
    }
}

fn outbound(publication: Publication) -> Outbound {
    match publication {
        Publication::Proposal(proposal) => Outbound::Proposal(proposal),
        Publication::Certificate(certificate) => Outbound::Certificate(certificate),
        Publication::Evidence(evidence) => Outbound::Evidence(evidence),
    }
}

/// What a fault against the protocol costs its peer.
fn cost_of(fault: Fault) -> (f64, &'static str) {
    match fault {
        Fault::BadSignature => (-100.0, "bad signature"),
        Fault::BadCertificate => (-100.0, "bad certificate"),
        Fault::WrongLeader => (-50.0, "wrong leader"),
        Fault::WrongBody => (-50.0, "wrong body"),
        Fault::Unjustified => (-50.0, "unjustified proposal"),
        Fault::WrongAnswer => (-50.0, "wrong sync answer"),
    }
}

fn count(note: Note) {
    match note {
        Note::Entered { skipped, .. } => {
            let outcome = if skipped { "nullified" } else { "notarized" };
            metrics::counter!("starling_checkpoint_views_total", "outcome" => outcome).increment(1);
        }
        Note::Proposed { view, height } => tracing::debug!(view, height, "proposed"),
        Note::Dropped(what) => {
            let queue = match what {
                crate::consensus::Drop::VoteOutsideWindow => "votes_window",
                crate::consensus::Drop::ProposalOutsideWindow => "proposals_window",
                crate::consensus::Drop::CertificateStale => "certificates_stale",
                crate::consensus::Drop::CandidateOverBound => "candidates",
                crate::consensus::Drop::EvidenceOverBound => "evidence",
                crate::consensus::Drop::AnswerUnasked => "answers",
            };
            metrics::counter!("starling_net_queue_dropped_total", "queue" => queue).increment(1);
        }
    }
}

fn describe(halt: &Halt) -> String {
    match halt {
        Halt::Conflict { height, view, .. } => format!(
            "two finalizations exclude each other at height {height}, view {view}: more than a third of the stake is \
             dishonest; this node stops and keeps both"
        ),
        Halt::Diverged { height, hash } => format!(
            "our execution of the final checkpoint {height} ({}) came to other roots: this program or its store is at \
             fault",
            Digest::short(hash)
        ),
    }
}

impl Actor for Checkpointer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.step(Input::Start, context);
    }
}

impl Handler<HearConsensus> for Checkpointer {
    type Result = MessageResult<HearConsensus>;
    fn handle(&mut self, heard: HearConsensus, context: &mut Self::Context) -> Self::Result {
        let from = Source { peer: heard.from, relayed: heard.relayed };
        let input = match heard.message {
            ConsensusMessage::Vote(vote) => Input::HearVote { from, vote },
            ConsensusMessage::Proposal(proposal) => Input::HearProposal { from, proposal },
            ConsensusMessage::Certificate(certificate) => Input::HearCertificate { from, certificate },
            ConsensusMessage::Evidence(evidence) => Input::HearEvidence { from, evidence },
        };
        MessageResult(self.step(input, context))
    }
}

/// Handlers that are one input each.
macro_rules! inputs {
    ($($message:ty, $bound:pat => $input:expr;)+) => {
        $(impl Handler<$message> for Checkpointer {
            type Result = ();
            fn handle(&mut self, $bound: $message, context: &mut Self::Context) {
                self.step($input, context);
            }
        })+
    };
}

inputs! {
    TimerRanOut, TimerRanOut(id) => Input::Timer(id);
    PendingChanged, PendingChanged(pending) => Input::Pending(pending);
    PeersAdmitted, PeersAdmitted(peers) => Input::Peers(peers);
}

impl Handler<SyncArrived> for Checkpointer {
    type Result = ();
    fn handle(&mut self, arrived: SyncArrived, context: &mut Self::Context) {
        self.serve(arrived, context);
    }
}

impl Handler<ReadConsensus> for Checkpointer {
    type Result = MessageResult<ReadConsensus>;
    fn handle(&mut self, _: ReadConsensus, _: &mut Self::Context) -> Self::Result {
        MessageResult(Standing {
            status: self.machine.status(),
            member: self.machine.member(),
            halted: self.machine.is_halted(),
            stale_ms: self.clock.mono_ms().saturating_sub(self.final_at_ms),
            evidence: self.evidence.clone(),
        })
    }
}
