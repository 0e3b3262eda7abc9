//! The network: moves bytes between nodes and keeps limits; it does not know what the bytes mean.
//!
//! Owns connections, gossip, votes on the wire, requests and answers, discovery, and the price of saying too much. It
//! refuses to judge content: every verdict on a message comes from outside as a `Command`. Two worlds stand behind the
//! one trait `Transport`: `swarm` (libp2p on real sockets) and `memory` (many nodes in one thread on virtual time, one
//! seed, one trace).
//!
//! Invariants: every queue is bounded and every drop counted; every gossip message gets exactly one verdict (N20); nothing
//! here waits for the receiver of its events (N2).

use std::fmt;

use zeroize::Zeroizing;

use crate::protocol::chance::Chance;
use crate::protocol::ids::{ChainId, Digest, NodeId};

mod backoff;
mod behaviour;
mod desk;
mod discovery;
mod exchange;
mod gossip;
mod guard;
mod identity;
mod lag;
pub mod memory;
mod peers;
mod providers;
pub mod quota;
mod redial;
mod streams;
pub mod swarm;
pub mod tables;
mod task;
mod votes;

pub use tables::{Limits, Protocol, Topic};

/// The way to a network: commands in, events out through the `EventSink` given at start.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Hands a command over without waiting. Verdicts have a queue of their own, so a flood of commands delays none.
    ///
    /// # Errors
    /// The queue is full, or the network has stopped; the command is gone either way.
    fn try_command(&self, command: Command) -> Result<(), Busy>;

    /// The node this transport speaks for.
    fn local(&self) -> NodeId;

    /// The transport's own measurements in the Prometheus text form, without a final `# EOF`.
    fn metrics_text(&self) -> String {
        String::new()
    }
}

/// Where events go. `Err` gives the event back: the receiver is full. Gossip is then answered with `Ignore`, a request
/// with `Busy`; everything else is counted and gone.
pub type EventSink = Box<dyn Fn(Event) -> Result<(), Event> + Send>;

/// The command queue is full or the network has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network's command queue is full or closed")]
pub struct Busy;

/// What a network needs to know before it starts. Plain values: configuration is read elsewhere.
#[derive(Clone, Debug)]
pub struct Params {
    pub chain: ChainId,
    /// Seed of the link identity; `NodeId` is its ed25519 public key.
    pub link_seed: Zeroizing<[u8; 32]>,
    /// Multiaddresses to listen on; TCP and QUIC, IPv4 and IPv6 are separate entries. In a `memory` world: `/memory/<n>`.
    pub listen: Vec<String>,
    /// Addresses announced beside what is observed: for nodes behind a fixed mapping.
    pub external: Vec<String>,
    /// Multiaddresses that end in `/p2p/<peer id>`; `/dns4`, `/dns6` and `/dnsaddr` are resolved at each dial.
    pub bootnodes: Vec<String>,
    /// Addresses known to work from earlier runs, dialled first.
    pub remembered: Vec<(NodeId, Vec<String>)>,
    /// Helps others: serves kad, autonat and relay.
    pub boot: bool,
    /// Reachable by a fixed address: serves kad and autonat.
    pub public: bool,
    /// A development network: loopback addresses are announced, mdns may run, the dial budget is off, `Chaos` is obeyed.
    pub dev: bool,
    /// Looks for peers on the local link; honoured in `dev` only.
    pub mdns: bool,
    /// Topics to subscribe to; others are not received.
    pub topics: Vec<Topic>,
    /// About how many nodes the network has; under 12 the gossip mesh is made smaller.
    pub expected_nodes: usize,
    /// Only these nodes may connect; `None` is an open network.
    pub allowed: Option<Vec<NodeId>>,
    /// Resolver to use when the system names none, as `ip` or `ip:port`.
    pub nameserver: Option<String>,
    /// What this node calls itself to others, such as `starling/0.1.0`.
    pub agent: String,
    /// For jitter; in a world this makes the run repeatable.
    pub chance: Chance,
    pub limits: Limits,
}

impl Params {
    /// A quiet full node that listens nowhere; everything else is set by field.
    pub fn new(chain: ChainId, link_seed: [u8; 32]) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&crate::protocol::ids::hash("starling/1 net jitter", &[&link_seed]).0);
        Self {
            chain,
            link_seed: Zeroizing::new(link_seed),
            listen: Vec::new(),
            external: Vec::new(),
            bootnodes: Vec::new(),
            remembered: Vec::new(),
            boot: false,
            public: false,
            dev: false,
            mdns: false,
            topics: Topic::ALL.to_vec(),
            expected_nodes: 50,
            allowed: None,
            nameserver: None,
            agent: format!("starling/{}", env!("CARGO_PKG_VERSION")),
            chance: Chance::from_seed(*seed),
            limits: Limits::default(),
        }
    }

    /// The node of the link identity.
    pub fn node(&self) -> NodeId {
        identity::node_of_seed(&self.link_seed)
    }
}

/// The peer id text (`12D3Koo...`) of a node, for addresses that people write.
pub fn peer_id_text(node: NodeId) -> Option<String> {
    identity::peer_of(node).map(|peer| peer.to_base58())
}

/// The node named by a peer id text, or by the `/p2p/..` end of a multiaddress.
pub fn node_of_text(text: &str) -> Option<NodeId> {
    identity::node_of_text(text)
}

/// What the node wants of the network.
#[derive(Clone, Debug)]
pub enum Command {
    /// Connect to a node, or to whatever answers at the addresses when `node` is `None`. Ends in `Connected` or
    /// `DialFailed`; when the node is connected already, in nothing.
    Dial { node: Option<NodeId>, addresses: Vec<String> },
    /// Close every connection to the node; with `ban_ms` refuse it for that long (0 lifts a ban).
    Disconnect { node: NodeId, ban_ms: Option<u64> },
    /// The node has passed the handshake: its gossip is heard from now on, and kad learns of it. Until then every message
    /// of it is ignored (N11).
    Admit { node: NodeId },
    /// Our opinion of a peer in [-100, 100], given to gossipsub as application score.
    SetPeerScore { node: NodeId, score: f64 },
    /// Say something to all who listen. Also delivered to ourselves, as `Gossip` from the local node (N21).
    Publish { topic: Topic, data: Vec<u8> },
    /// The judgement on one gossip message. Every ticket gets exactly one.
    Verdict { ticket: GossipTicket, validity: Validity },
    /// Ask one node. Ends in `Answered{last: true}` or `AskFailed` with the same id, exactly once, unless cancelled.
    Ask(Ask),
    /// Forget an ask; a query stream is closed, so the other side may stop its work.
    CancelAsk { id: u64 },
    /// One frame of the reply to a request; protocols other than `Query` have exactly one, with `last`.
    Reply { ticket: ReplyTicket, data: Vec<u8>, last: bool },
    /// Politely decline a request.
    Refuse { ticket: ReplyTicket, refusal: Refusal },
    /// We hold an artifact and say so; or hold it no more.
    Provide { id: Digest, held: bool },
    /// Who says that it holds an artifact. Ends in `Providers` with the same ask, exactly once.
    FindProviders { ask: u64, id: Digest },
    /// Nodes of the other committee members: kept connected, given direct vote streams, explicit gossip peers, free of the
    /// peer limits.
    SetVoters { nodes: Vec<NodeId> },
    /// To every voter by direct stream; to those without one by gossip, once (N23).
    SendVote { data: Vec<u8> },
    /// Trouble on purpose, obeyed in `dev` only: these nodes are disconnected and refused, and everything we say or hear
    /// takes `lag_ms` longer.
    Chaos { blocked: Vec<NodeId>, lag_ms: u64 },
    /// Leave the topics, say goodbye to the connections, stop. Ends in `Stopped`.
    Shutdown,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Chosen by the asker, unique among what is in flight.
    pub id: u64,
    pub to: NodeId,
    pub protocol: Protocol,
    /// How many things are asked for (heights, ids): what quotas charge. At least 1; the other side checks the claim.
    pub items: u16,
    pub data: Vec<u8>,
    /// Milliseconds from now; capped by the protocol's own timeout, except for queries.
    pub deadline_ms: u64,
}

/// What the network reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// We listen here.
    Listening { address: String },
    /// A node of our network, known by its identity and network name; the first connection to it.
    Connected { node: NodeId, address: String, outbound: bool },
    /// The last connection to it is gone.
    Disconnected { node: NodeId },
    /// Nobody was reached; once for every address tried, with the reason.
    DialFailed { node: Option<NodeId>, address: String, reason: String },
    /// A node and where it says it may be found: a hint, never an authority (N15).
    Discovered { node: NodeId, addresses: Vec<String> },
    /// A message on a topic, new to us. `from` is who handed it on, not who wrote it; the local node for our own.
    Gossip { topic: Topic, from: NodeId, data: Vec<u8>, ticket: GossipTicket },
    /// A vote on the direct stream of a voter.
    VoteArrived { from: NodeId, data: Vec<u8> },
    /// Somebody wants something. `items` is their claim; a false one is their fault. A `Goodbye` is answered already.
    /// Nodes that are not admitted may ask too: what they get is the receiver's choice.
    Asked { from: NodeId, protocol: Protocol, items: u16, data: Vec<u8>, ticket: ReplyTicket },
    /// A frame of the answer.
    Answered { id: u64, frame: Vec<u8>, last: bool },
    /// No answer, or no further frame.
    AskFailed { id: u64, reason: AskError },
    /// The asker of a query has gone; frames to this ticket go nowhere.
    AskWithdrawn { ticket: ReplyTicket },
    /// Who says that it holds what was asked for: hints, without ourselves.
    Providers { id: u64, nodes: Vec<NodeId> },
    /// A peer broke a rule of the network.
    Misbehaved { node: NodeId, offence: Offence },
    /// Somebody outside confirmed that we are reachable here.
    ExternalAddress { address: String },
    /// After `Shutdown`: nothing follows.
    Stopped,
}

/// Names one gossip message and who handed it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GossipTicket {
    pub(crate) message: [u8; 20],
    pub(crate) from: NodeId,
}

impl GossipTicket {
    /// A ticket that belongs to no message: for tests of those who give verdicts.
    pub fn unclaimed(from: NodeId) -> Self {
        Self { message: [0; 20], from }
    }
}

/// Names one request that waits for our reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTicket(pub u64);

/// The judgement on a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Hand it on.
    Accept,
    /// Say nothing of it and blame nobody.
    Ignore,
    /// Provably wrong: the peer that sent it pays.
    Reject,
}

/// Why a request is declined; one byte on the wire. None of these costs score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    Busy,
    RateLimited,
    NotFound,
    TooLarge,
    WrongVersion,
    Failed,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum AskError {
    #[error("too much is in flight, here or there")]
    Busy,
    #[error("the quota of this protocol is spent")]
    RateLimited,
    #[error("the peer does not have it")]
    NotFound,
    #[error("the request or the answer is over its size limit")]
    TooLarge,
    #[error("the peer speaks no common version of this protocol")]
    WrongVersion,
    #[error("the peer failed to answer")]
    Failed,
    #[error("no answer in time")]
    Timeout,
    #[error("the node is not connected")]
    Unreachable,
    #[error("the connection closed before the answer was whole")]
    Closed,
}

impl From<Refusal> for AskError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::Busy,
            Refusal::RateLimited => Self::RateLimited,
            Refusal::NotFound => Self::NotFound,
            Refusal::TooLarge => Self::TooLarge,
            Refusal::WrongVersion => Self::WrongVersion,
            Refusal::Failed => Self::Failed,
        }
    }
}

/// What a peer did against the rules of the network; rules of content are judged elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Its identify names another network; it is refused for ten minutes.
    WrongNetwork { theirs: String },
    /// It did not say who it is in time.
    NoIdentity,
    /// A frame or message over its limit.
    Oversize,
    /// Bytes that are no frame of the protocol.
    Malformed,
    /// More than its quota.
    Quota { protocol: Protocol },
    /// gossipsub cannot deliver to it as fast as it should take.
    SlowPeer,
    /// It did not answer in time.
    Timeout { protocol: Protocol },
}

/// Why a network does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: String, reason: String },
    #[error("{what} is no valid address: {reason}")]
    Address { what: String, reason: String },
    #[error("the network cannot be built: {0}")]
    Build(String),
}

#[cfg(test)]
mod tests;
