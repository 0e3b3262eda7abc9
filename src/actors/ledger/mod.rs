//! Owns `ledger::State` and its store: the one place where state changes.
//!
//! Executes what the checkpointer asks for, keeps the state of every notarized checkpoint that is not final yet as an
//! overlay, and makes final ones durable in one write (C36). Owns the mempool. Asks nobody. Invariant: the state served is
//! that of the last durable final checkpoint; a store that cannot be written ends the process.

pub mod archive;
mod closes;
mod market;
pub mod report;
pub mod statement;

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;

use archive::{Archive, Tip};
use closes::Closes;

use super::checkpointer::PendingChanged;
use super::clock::Clock;
use super::mail::{heard, tell};
use super::peer_manager::{Registry, RegistryChanged, Seat};
use super::scorer::HeightFinalised;
use crate::consensus::{Draft, Roots, Verdict, assemble};
use crate::ledger::apply::{self, Context as At, Executed};
use crate::ledger::mempool::Mempool;
use crate::ledger::receipt::Refusal;
use crate::ledger::rows::Subnet;
use crate::ledger::state::State;
use crate::net::Validity;
use crate::protocol::checkpoint::{Body, Checkpoint, Header};
use crate::protocol::committee::{Bitmap, Committee};
use crate::protocol::ids::{AccountId, Digest, Height, NodeId};
use crate::protocol::sync::Got;
use crate::protocol::transaction::Role;

/// Messages that may wait.
pub const MAILBOX: usize = 8_192;
/// States of checkpoints that are not final, kept at most; what was dropped is executed again when it becomes final.
const OVERLAYS_MAX: usize = 64;

/// From router: a transaction that came by gossip, our own included. The reply is the verdict on its gossip.
#[derive(Clone, Debug)]
pub struct OfferTransaction {
    pub from: NodeId,
    pub bytes: Vec<u8>,
}

/// From api: would this transaction be taken? When it is, it is in the pool; publishing it is the asker's.
#[derive(Clone, Debug)]
pub struct SubmitTransaction {
    pub bytes: Vec<u8>,
}

/// A transaction in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub id: Digest,
    /// False when the pool knew it already.
    pub new: bool,
    pub height: Height,
}

/// From checkpointer: choose transactions, execute them on the draft's parent. `None` when that state is gone.
#[derive(Clone, Debug)]
pub struct BuildCheckpoint(pub Draft);

/// From checkpointer: execute a candidate and compare every root.
#[derive(Clone, Debug)]
pub struct CheckProposal {
    pub header: Header,
    pub body: Arc<Body>,
}

/// From checkpointer: make it final and durable. `false`: our execution came to other roots (C48).
#[derive(Clone, Debug)]
pub struct Finalise(pub Arc<Checkpoint>);

/// From checkpointer: final checkpoints for a peer that catches up, with what proves them.
#[derive(Clone, Copy, Debug)]
pub struct ReadCheckpoints {
    pub from: Height,
    pub count: u16,
}

/// From scorer and api: the ledger as of the last final height.
#[derive(Clone, Copy, Debug)]
pub struct ReadLedger {
    /// Whose next nonce to tell, pool included.
    pub account: Option<AccountId>,
}

/// The reply to `ReadLedger`: a value that stays as it is while the ledger goes on.
#[derive(Clone, Debug)]
pub struct View {
    pub state: State,
    pub tip: Tip,
    /// Leader's timestamp to finality here, for the newest checkpoint; `None` when it was fetched.
    pub finality_ms: Option<u64>,
    pub next_nonce: u64,
    /// Transactions that wait.
    pub pending: usize,
    pub archive: Archive,
}

/// From api: a transaction that waits in the pool, as its bytes.
#[derive(Clone, Copy, Debug)]
pub struct ReadPending(pub Digest);

heard! { "ledger":
    OfferTransaction => Validity,
    SubmitTransaction => Result<Submitted, Refusal>,
    BuildCheckpoint => Option<(Header, Arc<Body>)>,
    CheckProposal => Verdict,
    Finalise => bool,
    ReadCheckpoints => Got,
    ReadLedger => View,
    ReadPending => Option<Vec<u8>>,
}
super::mail::stops! { Ledger }

/// The edges.
pub struct Links {
    pub height_finalised: Option<Recipient<HeightFinalised>>,
    pub registry_changed: Recipient<RegistryChanged>,
    pub pending_changed: Recipient<PendingChanged>,
}

/// What the ledger is given once.
#[derive(Clone)]
pub struct Params {
    pub committee: Committee,
    pub clock: Clock,
    pub archive: Archive,
    /// Called when the store fails: says why and ends the node.
    pub fatal: Arc<dyn Fn(String) + Send + Sync>,
}

/// The state after a checkpoint that is not final.
struct Overlay {
    height: Height,
    executed: Arc<Executed>,
}

/// The actor.
pub struct Ledger {
    params: Params,
    links: Links,
    state: State,
    tip: Tip,
    finality_ms: Option<u64>,
    overlays: BTreeMap<Digest, Overlay>,
    mempool: Mempool,
    pending: bool,
    closes: Closes,
}

impl Ledger {
    /// Starts from what the archive holds.
    pub fn new(params: Params, links: Links, state: State, tip: Tip) -> Self {
        Self {
            params,
            links,
            state,
            tip,
            finality_ms: None,
            overlays: BTreeMap::new(),
            mempool: Mempool::default(),
            pending: false,
            closes: Closes::default(),
        }
    }

    /// The state after a checkpoint, final tip or overlay.
    fn state_after(&self, hash: &Digest) -> Option<&State> {
        if *hash == self.tip.hash {
            return Some(&self.state);
        }
        self.overlays.get(hash).map(|overlay| &overlay.executed.state)
    }

    /// What a height's header, or the draft of it, and the attendance of its body give to the execution (E5).
    fn at(&self, (height, timestamp_ms): (Height, u64), proposer: u16, parent: Digest, attendance: &Bitmap) -> At {
        let committee = &self.params.committee;
        let attended = attendance.iter().filter_map(|index| committee.get(index));
        At {
            height,
            timestamp_ms,
            proposer: committee.get(proposer).map(|member| member.account).unwrap_or_default(),
            parent,
            attended: attended.map(|member| (member.account, member.weight)).collect(),
            committee: committee.total(),
        }
    }

    fn roots(&self, executed: &Executed) -> Roots {
        Roots {
            state_root: executed.state_root,
            receipt_root: executed.receipt_root,
            record_root: executed.record_root,
            next_set_hash: self.params.committee.set_hash(),
            params_hash: executed.params_hash,
        }
    }

    fn keep(&mut self, hash: Digest, height: Height, executed: Arc<Executed>) {
        self.overlays.insert(hash, Overlay { height, executed });
        while self.overlays.len() > OVERLAYS_MAX {
            let lowest = self.overlays.iter().min_by_key(|(_, overlay)| overlay.height).map(|(hash, _)| *hash);
            if let Some(lowest) = lowest {
                self.overlays.remove(&lowest);
                metrics::counter!("starling_net_queue_dropped_total", "queue" => "overlays").increment(1);
            }
        }
    }

    fn build(&mut self, draft: &Draft) -> Option<(Header, Arc<Body>)> {
        let parent = self.closes.hand_in(self.state_after(&draft.parent)?);
        let at = self.at((draft.height, draft.timestamp_ms), draft.proposer, draft.parent, &draft.attendance);
        let candidates = if draft.empty { Vec::new() } else { self.mempool.propose(&parent) };
        let (transactions, executed) = apply::build(&parent, &at, candidates);
        let body = draft.body(transactions);
        let header = draft.header(&body, &self.roots(&executed));
        self.keep(header.hash(), header.height, Arc::new(executed));
        Some((header, Arc::new(body)))
    }

    /// Executes a body on its parent; `None` when the parent's state is not at hand.
    fn execute(&mut self, header: &Header, body: &Body) -> Option<Result<Arc<Executed>, String>> {
        let hash = header.hash();
        if let Some(overlay) = self.overlays.get(&hash) {
            return Some(Ok(Arc::clone(&overlay.executed)));
        }
        let parent = &self.closes.hand_in(self.state_after(&header.parent_hash)?);
        let known = |bytes: &[u8]| self.mempool.knows(bytes);
        let when = (header.height, header.timestamp_ms);
        let at = self.at(when, header.proposer, header.parent_hash, &body.attendance);
        let executed = match apply::execute_trusting(parent, &at, &body.transactions, known) {
            Ok(executed) => executed,
            Err(error) => return Some(Err(error.to_string())),
        };
        let (ours, theirs) = (
            self.roots(&executed),
            Roots {
                state_root: header.state_root,
                receipt_root: header.receipt_root,
                record_root: header.record_root,
                next_set_hash: header.next_set_hash,
                params_hash: header.params_hash,
            },
        );
        if ours != theirs {
            return Some(Err(format!("its roots {theirs:?} are not ours {ours:?}")));
        }
        let executed = Arc::new(executed);
        self.keep(hash, header.height, Arc::clone(&executed));
        Some(Ok(executed))
    }

    fn check(&mut self, header: &Header, body: &Body) -> Verdict {
        match self.execute(header, body) {
            None => Verdict::Unavailable,
            Some(Ok(_)) => Verdict::Valid,
            Some(Err(error)) => {
                tracing::warn!(height = header.height, error, "a proposal is invalid");
                Verdict::Invalid
            }
        }
    }

    fn finalise(&mut self, checkpoint: &Checkpoint) -> bool {
        let header = &checkpoint.header;
        if header.height <= self.tip.header.height {
            return true;
        }
        let executed = match self.execute(header, &checkpoint.body) {
            Some(Ok(executed)) => executed,
            Some(Err(error)) => {
                tracing::error!(height = header.height, error, "a final checkpoint does not execute here");
                return false;
            }
            None => {
                (self.params.fatal)(format!("checkpoint {} became final without its parent", header.height));
                return false;
            }
        };
        if let Err(error) = self.params.archive.finalise(checkpoint, &executed) {
            (self.params.fatal)(format!("checkpoint {} cannot be stored: {error}", header.height));
            return false;
        }
        self.advance(checkpoint, &executed);
        true
    }

    /// Takes over a durable final checkpoint.
    fn advance(&mut self, checkpoint: &Checkpoint, executed: &Executed) {
        let height = checkpoint.header.height;
        self.state = executed.state.clone();
        self.tip = Tip::of(checkpoint);
        self.overlays.retain(|_, overlay| overlay.height > height);
        self.mempool.settle(&self.state, &executed.ids);
        let age = self.params.clock.wall_ms().saturating_sub(checkpoint.header.timestamp_ms);
        // A checkpoint that was fetched long after it was made says nothing about finality.
        self.finality_ms = (age < 10_000).then_some(age);
        if let Some(ms) = self.finality_ms {
            #[expect(clippy::cast_precision_loss, reason = "under ten thousand")]
            metrics::histogram!("starling_checkpoint_finality_seconds").record(ms as f64 / 1_000.0);
        }
        let count = u64::try_from(executed.ids.len()).unwrap_or(u64::MAX);
        metrics::counter!("starling_ledger_transactions_total").increment(count);
        #[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
        metrics::gauge!("starling_ledger_height").set(height as f64);
        self.tell_tip();
    }

    /// Has the closes in flight worked out beside; their results are there when the heights that apply them come.
    fn work_ahead(&mut self, context: &mut Context<Self>) {
        for (name, job) in self.closes.due(&self.state) {
            let done = actix::fut::wrap_future::<_, Self>(tokio::task::spawn_blocking(move || closes::work(&job)));
            context.spawn(done.map(move |result, actor, _| {
                if let Ok(result) = result {
                    actor.closes.worked_out(name, result);
                }
            }));
        }
    }

    /// Whole facts about the newest height, to whoever works from it.
    fn tell_tip(&mut self) {
        if let Some(to) = &self.links.height_finalised {
            tell(to, HeightFinalised { state: self.state.clone(), hash: self.tip.hash });
        }
        tell(&self.links.registry_changed, RegistryChanged(registry(&self.state)));
        self.tell_pending();
    }

    fn tell_pending(&mut self) {
        let pending = !self.mempool.is_empty();
        #[expect(clippy::cast_precision_loss, reason = "at most some thousands")]
        metrics::gauge!("starling_ledger_mempool_transactions").set(self.mempool.len() as f64);
        if pending != self.pending && tell(&self.links.pending_changed, PendingChanged(pending)) {
            self.pending = pending;
        }
    }

    fn offer(&mut self, bytes: &[u8]) -> Result<Submitted, Refusal> {
        let height = self.tip.header.height;
        let offered = self.mempool.offer(bytes, &self.state)?;
        self.tell_pending();
        Ok(Submitted { id: offered.id, new: offered.new, height })
    }
}

/// Who mines where.
fn registry(state: &State) -> Registry {
    let mut miners = BTreeMap::new();
    for (id, _) in state.range::<Subnet>(..) {
        let seats = state
            .members(*id)
            .filter(|(_, member)| member.role == Role::Miner)
            .map(|(member, row)| Seat { member, account: row.account, incentive: row.incentive })
            .collect();
        miners.insert(*id, seats);
    }
    Registry { height: state.height(), miners }
}

impl Actor for Ledger {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.work_ahead(context);
        self.tell_tip();
    }
}

impl Handler<OfferTransaction> for Ledger {
    type Result = MessageResult<OfferTransaction>;
    fn handle(&mut self, offer: OfferTransaction, _: &mut Self::Context) -> Self::Result {
        MessageResult(match self.offer(&offer.bytes) {
            Ok(Submitted { new: true, .. }) => Validity::Accept,
            Ok(Submitted { new: false, .. }) => Validity::Ignore,
            Err(refusal) => {
                tracing::debug!(peer = %offer.from.short(), %refusal, "refused a transaction");
                // Only what no honest node could have passed on is its deliverer's fault (L26).
                if refusal.provable() { Validity::Reject } else { Validity::Ignore }
            }
        })
    }
}

impl Handler<SubmitTransaction> for Ledger {
    type Result = MessageResult<SubmitTransaction>;
    fn handle(&mut self, submit: SubmitTransaction, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.offer(&submit.bytes))
    }
}

impl Handler<BuildCheckpoint> for Ledger {
    type Result = MessageResult<BuildCheckpoint>;
    fn handle(&mut self, BuildCheckpoint(draft): BuildCheckpoint, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.build(&draft))
    }
}

impl Handler<CheckProposal> for Ledger {
    type Result = MessageResult<CheckProposal>;
    fn handle(&mut self, proposal: CheckProposal, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.check(&proposal.header, &proposal.body))
    }
}

impl Handler<Finalise> for Ledger {
    type Result = bool;
    fn handle(&mut self, Finalise(checkpoint): Finalise, context: &mut Self::Context) -> Self::Result {
        let finalised = self.finalise(&checkpoint);
        if finalised {
            self.work_ahead(context);
        }
        finalised
    }
}

impl Handler<ReadCheckpoints> for Ledger {
    type Result = MessageResult<ReadCheckpoints>;
    fn handle(&mut self, read: ReadCheckpoints, _: &mut Self::Context) -> Self::Result {
        MessageResult(assemble(self.params.archive.checkpoints_from(read.from), read.count))
    }
}

impl Handler<ReadLedger> for Ledger {
    type Result = MessageResult<ReadLedger>;
    fn handle(&mut self, read: ReadLedger, _: &mut Self::Context) -> Self::Result {
        MessageResult(View {
            state: self.state.clone(),
            tip: self.tip.clone(),
            finality_ms: self.finality_ms,
            next_nonce: read.account.map_or(0, |account| self.mempool.next_nonce(&account, &self.state)),
            pending: self.mempool.len(),
            archive: self.params.archive.clone(),
        })
    }
}

impl Handler<ReadPending> for Ledger {
    type Result = MessageResult<ReadPending>;
    fn handle(&mut self, ReadPending(id): ReadPending, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.mempool.get(&id).map(<[u8]>::to_vec))
    }
}
