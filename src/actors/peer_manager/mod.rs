//! Whom we are connected to, and why.
//!
//! Owns the `Book` and the node's own introduction (hello, presence). Decides nothing itself: every decision is the
//! book's, this actor performs it. Refuses peers whose hello does not hold. A peer store outlives the process, so that a
//! node finds its network again when every bootnode is gone.

mod book;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

pub use book::Remembered;
use book::{Act, Book};

use super::checkpointer::PeersAdmitted;
use super::clock::Clock;
use super::mail::{ask, heard, tell};
use super::router::{
    Admit, Dial, Drop, HelloFailure, Outbound, Publish, ReplyHello, SayHello, SetPeerScore, SetVoters,
};
use crate::net;
use crate::protocol::chance::Chance;
use crate::protocol::hello::{About, Claim, ClaimKind, Hello, HelloError, Presence, Roles};
use crate::protocol::ids::{AccountId, ChainId, Height, MemberId, NodeId, PublicKey, SubnetId};
use crate::protocol::keys::SecretKey;
use crate::protocol::report::PeerReport;

/// Messages that may wait.
pub const MAILBOX: usize = 1_024;
/// Time passes for the book this often.
const TICK_MS: u64 = 500;
/// The presence is said this often, and soon after the addresses changed.
const PRESENCE_MS: u64 = 30_000;
/// The peer store is written this often.
const REMEMBER_MS: u64 = 10_000;
/// A hello waits so long for its answer.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);

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

/// From router, at every change and every few seconds: the whole connected set. Lost: the next one brings it.
#[derive(Clone, Debug)]
pub struct PeersSeen {
    /// Node, the address of the link, whether we dialled.
    pub connected: Vec<(NodeId, String, bool)>,
    /// Where we listen and where others say we are reached.
    pub local_addresses: Vec<String>,
}

/// From router and checkpointer: a peer broke a rule; `cost` is negative. Lost: it gets away once.
#[derive(Clone, Copy, Debug)]
pub struct PeerMisbehaved {
    pub node: NodeId,
    pub cost: f64,
    pub why: &'static str,
}

/// From router: a node may be found at these addresses. Lost: found again later.
#[derive(Clone, Debug)]
pub struct AddressesFound {
    pub node: NodeId,
    pub addresses: Vec<String>,
}

/// From router: why somebody could not be reached, in words. Lost: it is tried again, and fails again.
#[derive(Clone, Debug)]
pub struct TroubleSeen(pub String);

/// From router: a peer's hello, decoded and checked, waits for ours. Lost: the peer says it again.
#[derive(Debug)]
pub struct HelloArrived {
    pub from: NodeId,
    pub hello: Result<Hello, HelloError>,
    pub ticket: net::ReplyTicket,
}

/// From router: a presence whose signatures held. The reply is the verdict on its gossip.
#[derive(Debug)]
pub struct HearPresence {
    pub node: NodeId,
    pub presence: Presence,
}

/// A miner's seat in a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub member: MemberId,
    pub account: AccountId,
    /// Its incentive of the last closed epoch; `u32::MAX` is all of it.
    pub incentive: u32,
}

/// From ledger: who mines where, as of a finalised height. A whole fact; lost: the next change brings it.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    pub height: Height,
    pub miners: BTreeMap<SubnetId, Vec<Seat>>,
}

/// From ledger, for `Registry`.
#[derive(Clone, Debug)]
pub struct RegistryChanged(pub Registry);

/// From checkpointer: our finalised height, told to others in hello and presence. Lost: the next one brings it.
#[derive(Clone, Copy, Debug)]
pub struct HeightReached(pub Height);

/// From checkpointer, api: admitted peers, for whoever looks for checkpoints or shows them.
#[derive(Clone, Copy, Debug)]
pub struct ReadPeers;

/// The reply to `ReadPeers`.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    pub rows: Vec<PeerReport>,
    pub local_addresses: Vec<String>,
    /// Nodes that speak for committee members, by consensus key.
    pub voters: Vec<(PublicKey, NodeId)>,
    /// Nodes that speak for accounts.
    pub accounts: Vec<(AccountId, NodeId)>,
    /// Why recent attempts to connect failed, newest first.
    pub troubles: Vec<String>,
}

heard! { "peer_manager":
    PickMiners => Vec<Pick>, QueryEnded => (), PeersSeen => (), PeerMisbehaved => (), AddressesFound => (),
    TroubleSeen => (),
    HelloArrived => (), HearPresence => net::Validity, RegistryChanged => (), HeightReached => (), ReadPeers => Peers,
}
super::mail::stops! { PeerManager }

/// Where the peer store's bytes go; the actor never touches a disk itself.
pub type Remember = Arc<dyn Fn(Vec<Remembered>) + Send + Sync>;

/// What the peer manager is given once.
#[derive(Clone)]
pub struct Params {
    pub chain: ChainId,
    pub clock: Clock,
    pub chance: Chance,
    /// The node's own link key, with which hellos and presences are signed.
    pub node_key: SecretKey,
    pub account_key: Option<SecretKey>,
    pub consensus_key: Option<SecretKey>,
    pub committee: BTreeSet<PublicKey>,
    pub roles: Roles,
    pub software: String,
    pub peers_target: usize,
    pub remembered: Vec<Remembered>,
    pub remember: Remember,
}

/// The edges.
pub struct Links {
    pub dial: Recipient<Dial>,
    pub drop: Recipient<Drop>,
    pub admit: Recipient<Admit>,
    pub score: Recipient<SetPeerScore>,
    pub voters: Recipient<SetVoters>,
    pub say_hello: Recipient<SayHello>,
    pub reply_hello: Recipient<ReplyHello>,
    pub publish: Recipient<Publish>,
    pub peers_admitted: Recipient<PeersAdmitted>,
}

/// The actor.
pub struct PeerManager {
    params: Params,
    links: Links,
    book: Book,
    chance: Chance,
    claims: Vec<Claim>,
    height: Height,
    addresses: Vec<String>,
    presence_at_ms: u64,
    remember_at_ms: u64,
    troubles: Vec<String>,
}

impl PeerManager {
    pub fn new(mut params: Params, links: Links) -> Self {
        let local = NodeId(params.node_key.public().0);
        let keys = [(ClaimKind::Account, &params.account_key), (ClaimKind::Consensus, &params.consensus_key)];
        let claims = keys
            .into_iter()
            .filter_map(|(kind, key)| Some(Claim::sign(kind, &params.chain, key.as_ref()?, &local)))
            .collect();
        let committee = params.committee.clone();
        let mut book = Book::new(book::Params { local, committee, peers_target: params.peers_target });
        book.remember(params.clock.mono_ms(), std::mem::take(&mut params.remembered));
        let chance = params.chance.fork("peer manager");
        Self {
            params,
            links,
            book,
            chance,
            claims,
            height: 0,
            addresses: Vec::new(),
            presence_at_ms: 0,
            remember_at_ms: REMEMBER_MS,
            troubles: Vec::new(),
        }
    }

    fn now(&self) -> u64 {
        self.params.clock.mono_ms()
    }

    fn about(&self) -> About {
        let (claims, addresses) = (self.claims.clone(), self.addresses.clone());
        About { roles: self.params.roles, height: self.height, claims, addresses }
    }

    fn hello(&mut self) -> Hello {
        let known = self.book.records(&mut self.chance);
        Hello { chain: self.params.chain, software: self.params.software.clone(), about: self.about(), known }
    }

    fn perform(&mut self, acts: Vec<Act>, context: &mut Context<Self>) {
        for act in acts {
            match act {
                Act::Dial { node, addresses } => {
                    tell(&self.links.dial, Dial { node, addresses });
                }
                Act::Drop { node, ban_ms } => {
                    metrics::counter!("starling_net_drops_total", "banned" => ban_ms.is_some().to_string())
                        .increment(1);
                    tell(&self.links.drop, Drop { node, ban_ms });
                }
                Act::Greet { node } => self.greet(node, context),
                Act::Admit { node } => {
                    tell(&self.links.admit, Admit { node });
                    self.tell_admitted();
                    // A newcomer should learn of us, and others of it, without waiting a whole presence period.
                    self.presence_at_ms = self.presence_at_ms.min(self.now() + TICK_MS);
                }
                Act::Score { node, score } => {
                    tell(&self.links.score, SetPeerScore { node, score });
                }
                Act::Voters { nodes } => {
                    tell(&self.links.voters, SetVoters { nodes });
                }
            }
        }
    }

    fn greet(&mut self, node: NodeId, context: &mut Context<Self>) {
        let hello = self.hello().seal(&self.params.node_key);
        let answer = ask(&self.links.say_hello, SayHello { to: node, hello }, HELLO_DEADLINE);
        context.spawn(answer.into_actor(self).map(move |answer, actor, context| {
            let acts = match answer {
                Ok(Ok(hello)) => actor.book.greeted(actor.now(), node, hello),
                Ok(Err(HelloFailure::Refused(error))) => actor.refuse(node, &error),
                // Silence is not guilt: the book greets again and gives up by itself.
                Ok(Err(HelloFailure::NoAnswer(_))) | Err(_) => Vec::new(),
            };
            actor.perform(acts, context);
        }));
    }

    /// A hello that does not hold: another network is only another network, anything else is a lie.
    fn refuse(&mut self, node: NodeId, error: &HelloError) -> Vec<Act> {
        self.trouble(format!("refused peer {}: {error}", node.short()));
        match error {
            HelloError::OtherChain { .. } => vec![Act::Drop { node, ban_ms: Some(600_000) }],
            _ => self.book.scored(self.now(), node, -100.0),
        }
    }

    fn tell_admitted(&self) {
        tell(&self.links.peers_admitted, PeersAdmitted(self.book.admitted_nodes()));
    }

    /// Keeps what went wrong for whoever asks why nobody is connected; said in the log when it is new.
    fn trouble(&mut self, text: String) {
        if !self.troubles.contains(&text) {
            tracing::warn!("{text}");
        }
        self.troubles.retain(|known| *known != text);
        self.troubles.insert(0, text);
        self.troubles.truncate(16);
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let now = self.now();
        let acts = self.book.tick(now);
        self.perform(acts, context);
        if now >= self.presence_at_ms && self.book.admitted() > 0 {
            self.presence_at_ms = now + PRESENCE_MS;
            let presence = Presence { about: self.about(), sequence: self.params.clock.wall_ms() };
            let sealed = presence.seal(&self.params.chain, &self.params.node_key);
            tell(&self.links.publish, Publish(Outbound::Presence(sealed)));
        }
        if now >= self.remember_at_ms {
            self.remember_at_ms = now + REMEMBER_MS;
            (self.params.remember)(self.book.to_remember(now));
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge of at most some hundred peers")]
        metrics::gauge!("starling_net_peers").set(self.book.admitted() as f64);
    }
}

impl Actor for PeerManager {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(Duration::from_millis(TICK_MS), Self::tick);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        (self.params.remember)(self.book.to_remember(self.now()));
        Running::Stop
    }
}

impl Handler<PeersSeen> for PeerManager {
    type Result = ();
    fn handle(&mut self, seen: PeersSeen, context: &mut Self::Context) {
        if seen.local_addresses != self.addresses {
            self.addresses = seen.local_addresses;
            self.addresses.truncate(crate::protocol::hello::ADDRESSES_MAX);
            self.presence_at_ms = self.presence_at_ms.min(self.now() + TICK_MS);
        }
        let acts = self.book.seen(self.now(), &seen.connected);
        self.perform(acts, context);
        self.tell_admitted();
    }
}

impl Handler<PeerMisbehaved> for PeerManager {
    type Result = ();
    fn handle(&mut self, fault: PeerMisbehaved, context: &mut Self::Context) {
        tracing::debug!(peer = %fault.node.short(), fault.cost, fault.why, "a peer misbehaved");
        metrics::counter!("starling_net_faults_total", "why" => fault.why).increment(1);
        if fault.node.0 != self.params.node_key.public().0 {
            let acts = self.book.scored(self.now(), fault.node, fault.cost);
            self.perform(acts, context);
        }
    }
}

impl Handler<AddressesFound> for PeerManager {
    type Result = ();
    fn handle(&mut self, found: AddressesFound, _: &mut Self::Context) {
        self.book.found(found.node, &found.addresses);
    }
}

impl Handler<TroubleSeen> for PeerManager {
    type Result = ();
    fn handle(&mut self, TroubleSeen(text): TroubleSeen, _: &mut Self::Context) {
        self.trouble(text);
    }
}

impl Handler<HelloArrived> for PeerManager {
    type Result = ();
    fn handle(&mut self, arrived: HelloArrived, context: &mut Self::Context) {
        let hello = self.hello().seal(&self.params.node_key);
        tell(&self.links.reply_hello, ReplyHello { ticket: arrived.ticket, hello });
        let acts = match arrived.hello {
            Ok(hello) => self.book.greeted(self.now(), arrived.from, hello),
            Err(error) => self.refuse(arrived.from, &error),
        };
        self.perform(acts, context);
    }
}

impl Handler<HearPresence> for PeerManager {
    type Result = MessageResult<HearPresence>;
    fn handle(&mut self, heard: HearPresence, _: &mut Self::Context) -> Self::Result {
        let new = self.book.present(self.now(), heard.node, heard.presence);
        MessageResult(if new { net::Validity::Accept } else { net::Validity::Ignore })
    }
}

impl Handler<RegistryChanged> for PeerManager {
    type Result = ();
    fn handle(&mut self, changed: RegistryChanged, _: &mut Self::Context) {
        self.book.registered(changed.0);
    }
}

impl Handler<HeightReached> for PeerManager {
    type Result = ();
    fn handle(&mut self, reached: HeightReached, _: &mut Self::Context) {
        self.height = self.height.max(reached.0);
    }
}

impl Handler<PickMiners> for PeerManager {
    type Result = MessageResult<PickMiners>;
    fn handle(&mut self, wish: PickMiners, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.book.pick(&wish, &mut self.chance))
    }
}

impl Handler<QueryEnded> for PeerManager {
    type Result = ();
    fn handle(&mut self, ended: QueryEnded, context: &mut Self::Context) {
        let acts = self.book.attempted(self.now(), ended.node, ended.outcome, ended.latency_ms);
        self.perform(acts, context);
    }
}

impl Handler<ReadPeers> for PeerManager {
    type Result = MessageResult<ReadPeers>;
    fn handle(&mut self, _: ReadPeers, _: &mut Self::Context) -> Self::Result {
        let voter = |key: &PublicKey| Some((*key, self.book.node_of(ClaimKind::Consensus, key)?));
        MessageResult(Peers {
            rows: self.book.report(self.now()),
            local_addresses: self.addresses.clone(),
            voters: self.params.committee.iter().filter_map(voter).collect(),
            accounts: self.book.accounts(),
            troubles: self.troubles.clone(),
        })
    }
}
