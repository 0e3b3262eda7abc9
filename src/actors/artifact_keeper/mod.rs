//! Bytes by their name: what this node holds, serves, fetches and keeps for others (N26-N31, M13).
//!
//! Owns the shelf, the fetches under way and the record of probes. Decides nothing: `fetch` and `placement` do. File work
//! is done off this thread; nothing reaches the shelf unverified, and nothing leaves it unverified. Every fetch ends once;
//! everything in flight takes a permit: fetches, chunks served, bytes a second.

mod fetch;
pub mod placement;
mod survey;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;

use self::fetch::{Effect, Fetch, Input, Verdict};
use self::placement::{Probes, Wish};
use super::clock::Clock;
use super::ledger::ReadLedger;
use super::mail::{ask, heard, tell};
use super::peer_manager::{PeerMisbehaved, ReadPeers};
use super::router::{Announce, Dial, FetchArtifact, FindHolders, ReplyArtifact};
use crate::net::quota::{Meter, Rate};
use crate::net::{self, AskError, ReplyTicket};
use crate::protocol::artifact::message::{Head, Want};
use crate::protocol::chance::Chance;
use crate::protocol::ids::{Digest, NodeId};
use crate::protocol::report::{ArtifactReport, ArtifactState};
use crate::store::artifacts::{Shelf, ShelfError};

/// Messages that may wait.
pub const MAILBOX: usize = 512;
/// Artifacts on their way here at once, and those that wait for their turn.
const FETCHES_MAX: usize = 8;
const WAITING_MAX: usize = 256;
/// Chunks being read for others at once; more are told busy (N31).
const SERVING_MAX: usize = 16;
/// A chunk or a list must be here by then.
const ASK_MS: u64 = 20_000;
/// How a fetch ended is remembered for so many.
const ENDED_MAX: usize = 256;
/// Who gave wrong bytes is not asked again for so long.
const LIAR_MS: u64 = 3_600_000;
const LIARS_MAX: usize = 1_024;
const READ_DEADLINE: Duration = Duration::from_secs(5);
const FIND_DEADLINE: Duration = Duration::from_secs(25);

/// From router: somebody wants a list or a chunk. Lost: told busy, and it asks another.
#[derive(Clone, Copy, Debug)]
pub struct ArtifactAsked {
    pub from: NodeId,
    pub want: Want,
    pub ticket: ReplyTicket,
}

/// From node.rs and api: keep these bytes of our own until they are removed by hand, and say that we have them.
#[derive(Debug)]
pub struct PutArtifact {
    pub bytes: Vec<u8>,
}

/// From api and scorer: fetch it, if it is not here; the reply is how things stand now.
#[derive(Clone, Copy, Debug)]
pub struct PullArtifact {
    pub id: Digest,
}

/// From api: how things stand with these; with all that is here when none are named.
#[derive(Clone, Debug)]
pub struct ReadArtifacts {
    pub ids: Vec<Digest>,
}

/// From api and scorer: a chunk of a whole artifact.
#[derive(Clone, Copy, Debug)]
pub struct ReadChunk {
    pub id: Digest,
    pub index: u32,
}

/// From api: take it off the shelf, pinned or not; whether it was there.
#[derive(Clone, Copy, Debug)]
pub struct DropArtifact {
    pub id: Digest,
}

heard! { "artifact_keeper":
    ArtifactAsked => (),
    PutArtifact => Result<Digest, String>,
    PullArtifact => ArtifactReport,
    ReadArtifacts => Vec<ArtifactReport>,
    ReadChunk => Result<Vec<u8>, String>,
    DropArtifact => bool,
}
super::mail::stops! { ArtifactKeeper }

/// The edges.
pub struct Links {
    pub fetch: Recipient<FetchArtifact>,
    pub find: Recipient<FindHolders>,
    pub announce: Recipient<Announce>,
    pub reply: Recipient<ReplyArtifact>,
    pub dial: Recipient<Dial>,
    pub misbehaved: Recipient<PeerMisbehaved>,
    pub read_peers: Recipient<ReadPeers>,
    pub read_ledger: Recipient<ReadLedger>,
}

/// What the keeper is given once.
pub struct Params {
    pub node: NodeId,
    pub clock: Clock,
    pub chance: Chance,
    pub shelf: Arc<Shelf>,
    /// Keeps what others published, within the quota.
    pub lends: bool,
    /// Bytes a second served to all peers together; 0: no limit.
    pub serve_bytes_s: u64,
    /// Between two looks at what should be kept.
    pub survey: Duration,
}

/// How a fetch ended.
#[derive(Clone, Debug)]
struct Ended {
    error: Option<String>,
    took_ms: u64,
    sources: usize,
}

/// The actor.
pub struct ArtifactKeeper {
    params: Params,
    links: Links,
    fetches: BTreeMap<Digest, Fetch>,
    timers: BTreeMap<Digest, SpawnHandle>,
    waiting: VecDeque<Digest>,
    ended: VecDeque<(Digest, Ended)>,
    liars: BTreeMap<NodeId, u64>,
    serving: usize,
    served: Meter,
    probes: Probes,
    wishes: Vec<Wish>,
    /// Since when each was to be kept: who keeps it is given time to fetch it.
    wished: BTreeMap<Digest, u64>,
    lenders: BTreeSet<NodeId>,
    neighbours: Vec<NodeId>,
    /// How many said that they hold it, when last asked.
    holders: BTreeMap<Digest, u32>,
    announced: BTreeSet<Digest>,
}

impl fmt::Debug for ArtifactKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArtifactKeeper").field("fetches", &self.fetches.len()).finish_non_exhaustive()
    }
}

impl ArtifactKeeper {
    pub fn new(params: Params, links: Links) -> Self {
        Self {
            params,
            links,
            fetches: BTreeMap::new(),
            timers: BTreeMap::new(),
            waiting: VecDeque::new(),
            ended: VecDeque::new(),
            liars: BTreeMap::new(),
            serving: 0,
            served: Meter::default(),
            probes: Probes::default(),
            wishes: Vec::new(),
            wished: BTreeMap::new(),
            lenders: BTreeSet::new(),
            neighbours: Vec::new(),
            holders: BTreeMap::new(),
            announced: BTreeSet::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.params.clock.mono_ms()
    }

    // ---- fetching ----

    /// Begins a fetch, or lets it wait for its turn.
    fn pull(&mut self, id: Digest, context: &mut Context<Self>) {
        if self.params.shelf.is_whole(&id) || self.fetches.contains_key(&id) || self.waiting.contains(&id) {
            return;
        }
        self.ended.retain(|(other, _)| *other != id);
        if self.fetches.len() >= FETCHES_MAX {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(id);
            } else {
                metrics::counter!("starling_net_queue_dropped_total", "queue" => "artifact_fetches").increment(1);
            }
            return;
        }
        let now_ms = self.now_ms();
        self.liars.retain(|_, at| *at + LIAR_MS > now_ms);
        let mut avoid: BTreeSet<NodeId> = self.liars.keys().copied().collect();
        avoid.insert(self.params.node);
        self.fetches.insert(id, Fetch::new(id, now_ms, avoid));
        self.input(id, Input::Woken, context);
    }

    fn input(&mut self, id: Digest, input: Input, context: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        for effect in fetch.step(now_ms, input) {
            self.perform(id, effect, context);
        }
    }

    fn perform(&mut self, id: Digest, effect: Effect, context: &mut Context<Self>) {
        match effect {
            Effect::Find => self.find(id, context),
            Effect::Ask { to, want } => {
                let reply = self.request(to, want);
                context.spawn(wrap_future::<_, Self>(reply).map(move |result, actor, context| {
                    actor.input(id, Input::Answered { from: to, want, result }, context);
                }));
            }
            Effect::Begin(list) => {
                let shelf = Arc::clone(&self.params.shelf);
                let begun = off_thread(move || shelf.begin(&list));
                context.spawn(wrap_future::<_, Self>(begun).map(move |begun, actor, context| {
                    actor.input(id, Input::Begun(begun.map_err(|error| error.to_string())), context);
                }));
            }
            Effect::Keep { from, index, bytes } => {
                let (shelf, length) = (Arc::clone(&self.params.shelf), bytes.len() as u64);
                let kept = off_thread(move || shelf.write(&id, index, &bytes));
                context.spawn(wrap_future::<_, Self>(kept).map(move |kept, actor, context| {
                    let verdict = match kept {
                        Ok(_) => {
                            metrics::counter!("starling_artifact_bytes_total", "dir" => "in").increment(length);
                            Verdict::Kept
                        }
                        Err(ShelfError::Chunk(_)) => Verdict::Wrong,
                        Err(error) => Verdict::Failed(error.to_string()),
                    };
                    actor.input(id, Input::Kept { from, index, verdict }, context);
                }));
            }
            Effect::Blame { node } => self.lied(node),
            Effect::WakeAt(at_ms) => {
                let delay = Duration::from_millis(at_ms.saturating_sub(self.now_ms()).max(1));
                let timer = context.run_later(delay, move |actor, context| {
                    actor.timers.remove(&id);
                    actor.input(id, Input::Woken, context);
                });
                if let Some(before) = self.timers.insert(id, timer) {
                    context.cancel_future(before);
                }
            }
            Effect::Ended(how) => self.fetched(id, how, context),
        }
    }

    /// Asks one node; it is dialled when it is not connected, and the next try finds it.
    fn request(&self, to: NodeId, want: Want) -> impl Future<Output = Result<Vec<u8>, AskError>> + use<> {
        let deadline = Duration::from_millis(ASK_MS + 1_000);
        let reply = ask(&self.links.fetch, FetchArtifact { to, want, deadline_ms: ASK_MS }, deadline);
        let dial = self.links.dial.clone();
        async move {
            let result = reply.await.unwrap_or(Err(AskError::Timeout));
            if matches!(result, Err(AskError::Unreachable)) {
                tell(&dial, Dial { node: to, addresses: Vec::new() });
            }
            result
        }
    }

    /// Who says that it has it; and meanwhile, because records are few in a small or young network and a search may wait for
    /// the dead, whoever is connected.
    fn find(&mut self, id: Digest, context: &mut Context<Self>) {
        let near = self.neighbours.iter().take(16).copied().collect();
        self.input(id, Input::Near(near), context);
        let found = ask(&self.links.find, FindHolders { id }, FIND_DEADLINE);
        context.spawn(wrap_future::<_, Self>(found).map(move |found, actor, context| {
            let nodes = found.unwrap_or_default();
            actor.count_holders(id, &nodes);
            actor.input(id, Input::Sources(nodes), context);
        }));
    }

    fn count_holders(&mut self, id: Digest, nodes: &[NodeId]) {
        let others = nodes.iter().filter(|node| **node != self.params.node).count();
        let own = usize::from(self.params.shelf.is_whole(&id));
        self.holders.insert(id, u32::try_from(others + own).unwrap_or(u32::MAX));
        while self.holders.len() > 4 * WAITING_MAX {
            self.holders.pop_first();
        }
    }

    fn lied(&mut self, node: NodeId) {
        metrics::counter!("starling_artifact_chunks_rejected_total").increment(1);
        tracing::warn!(peer = %node.short(), "a peer gave bytes that are not the artifact's; it is left");
        if self.liars.len() < LIARS_MAX {
            self.liars.insert(node, self.now_ms());
        }
        tell(&self.links.misbehaved, PeerMisbehaved { node, cost: -100.0, why: "chunk that does not match its id" });
    }

    fn fetched(&mut self, id: Digest, how: Result<(), String>, context: &mut Context<Self>) {
        let Some(fetch) = self.fetches.remove(&id) else { return };
        if let Some(timer) = self.timers.remove(&id) {
            context.cancel_future(timer);
        }
        let took_ms = self.now_ms().saturating_sub(fetch.began_ms());
        let sources = fetch.sources();
        match &how {
            Ok(()) => {
                tracing::info!(artifact = %id.short(), bytes = fetch.bytes(), took_ms, sources, "fetched");
                metrics::histogram!("starling_artifact_fetch_seconds")
                    .record(Duration::from_millis(took_ms).as_secs_f64());
                self.announce(id);
            }
            Err(why) => tracing::info!(artifact = %id.short(), why, "not fetched"),
        }
        self.ended.push_back((id, Ended { error: how.err(), took_ms, sources }));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
        if let Some(next) = self.waiting.pop_front() {
            self.pull(next, context);
        }
    }

    fn announce(&mut self, id: Digest) {
        if self.announced.insert(id) {
            tell(&self.links.announce, Announce { id, held: true });
        }
    }

    // ---- serving ----

    fn serve(&mut self, asked: ArtifactAsked, context: &mut Context<Self>) {
        let ArtifactAsked { want, ticket, .. } = asked;
        let refuse = |refusal| ReplyArtifact { ticket, given: Err(refusal) };
        if !self.params.shelf.is_whole(&want.id()) {
            tell(&self.links.reply, refuse(net::Refusal::NotFound));
            return;
        }
        let chunk_s = u32::try_from(self.params.serve_bytes_s >> 20).unwrap_or(u32::MAX);
        let rate = Rate { items: chunk_s.max(1), period_ms: 1_000 };
        let now_ms = self.now_ms();
        let free = self.params.serve_bytes_s == 0 || self.served.take(rate, 1, now_ms).is_ok();
        if self.serving >= SERVING_MAX || !free {
            tell(&self.links.reply, refuse(net::Refusal::Busy));
            return;
        }
        self.serving += 1;
        let shelf = Arc::clone(&self.params.shelf);
        let given = off_thread(move || given(&shelf, want));
        context.spawn(wrap_future::<_, Self>(given).map(move |given, actor, _| {
            actor.serving = actor.serving.saturating_sub(1);
            let given = given.map_err(|_| net::Refusal::NotFound);
            if let Ok(bytes) = &given {
                metrics::counter!("starling_artifact_bytes_total", "dir" => "out").increment(bytes.len() as u64);
            }
            tell(&actor.links.reply, ReplyArtifact { ticket, given });
        }));
    }

    // ---- reports ----

    fn report(&self, id: Digest) -> ArtifactReport {
        let mut report = ArtifactReport { id, holders: self.holders.get(&id).copied(), ..ArtifactReport::default() };
        if let Some(holding) = self.params.shelf.holding(&id) {
            report.bytes = Some(holding.bytes);
            report.chunks = holding.chunks;
            report.have = holding.have;
            report.pinned = holding.pinned;
            report.state = if holding.whole() { ArtifactState::Whole } else { ArtifactState::Part };
        }
        if let Some((_, ended)) = self.ended.iter().find(|(other, _)| *other == id) {
            report.took_ms = Some(ended.took_ms);
            report.sources = u32::try_from(ended.sources).unwrap_or(u32::MAX);
            if let Some(error) = &ended.error {
                report.state = ArtifactState::Failed;
                report.error = Some(error.clone());
            }
        }
        if let Some(fetch) = self.fetches.get(&id) {
            report.state = ArtifactState::Fetching;
            report.bytes = fetch.bytes();
            report.sources = u32::try_from(fetch.sources()).unwrap_or(u32::MAX);
        } else if self.waiting.contains(&id) {
            report.state = ArtifactState::Fetching;
        }
        report
    }
}

/// Runs file work where it holds nobody up. A lost thread is an I/O error like any other.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ShelfError> + Send + 'static,
) -> Result<T, ShelfError> {
    let lost = |error: tokio::task::JoinError| ShelfError::Io(std::io::Error::other(error));
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

fn given(shelf: &Shelf, want: Want) -> Result<Vec<u8>, ShelfError> {
    match want {
        Want::Head(id) => {
            let list = shelf.list(&id).ok_or(ShelfError::Absent(id))?;
            let whole = if list.count() == 1 { Some(shelf.read(&id, 0)?) } else { None };
            Ok(Head::encode(&list, whole.as_deref()))
        }
        Want::Chunk { id, index } => shelf.read(&id, index),
    }
}

impl Actor for ArtifactKeeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let survey = self.params.survey;
        context.run_interval(survey, Self::survey);
    }
}

impl Handler<ArtifactAsked> for ArtifactKeeper {
    type Result = ();
    fn handle(&mut self, asked: ArtifactAsked, context: &mut Self::Context) {
        self.serve(asked, context);
    }
}

impl Handler<PutArtifact> for ArtifactKeeper {
    type Result = ResponseActFuture<Self, Result<Digest, String>>;
    fn handle(&mut self, PutArtifact { bytes }: PutArtifact, _: &mut Self::Context) -> Self::Result {
        let shelf = Arc::clone(&self.params.shelf);
        let put = off_thread(move || {
            let id = shelf.put(&bytes)?.id();
            shelf.pin(&id)?;
            Ok(id)
        });
        Box::pin(wrap_future::<_, Self>(put).map(|put, actor, _| match put {
            Ok(id) => {
                actor.announce(id);
                Ok(id)
            }
            Err(error) => Err(error.to_string()),
        }))
    }
}

impl Handler<PullArtifact> for ArtifactKeeper {
    type Result = MessageResult<PullArtifact>;
    fn handle(&mut self, PullArtifact { id }: PullArtifact, context: &mut Self::Context) -> Self::Result {
        self.pull(id, context);
        MessageResult(self.report(id))
    }
}

impl Handler<ReadArtifacts> for ArtifactKeeper {
    type Result = MessageResult<ReadArtifacts>;
    fn handle(&mut self, ReadArtifacts { ids }: ReadArtifacts, _: &mut Self::Context) -> Self::Result {
        let ids = if ids.is_empty() {
            self.params.shelf.holdings().into_iter().map(|holding| holding.id).collect()
        } else {
            ids
        };
        MessageResult(ids.into_iter().map(|id| self.report(id)).collect())
    }
}

impl Handler<ReadChunk> for ArtifactKeeper {
    type Result = ResponseFuture<Result<Vec<u8>, String>>;
    fn handle(&mut self, ReadChunk { id, index }: ReadChunk, _: &mut Self::Context) -> Self::Result {
        let shelf = Arc::clone(&self.params.shelf);
        Box::pin(async move { off_thread(move || shelf.read(&id, index)).await.map_err(|error| error.to_string()) })
    }
}

impl Handler<DropArtifact> for ArtifactKeeper {
    type Result = bool;
    fn handle(&mut self, DropArtifact { id }: DropArtifact, _: &mut Self::Context) -> bool {
        self.withdraw(id);
        self.params.shelf.remove(&id)
    }
}
