//! The door: every byte from outside comes in here and every byte of ours goes out here.
//!
//! Owns decoding and encoding of everything on the wire, the set of connected peers, and the asks in flight. Foreign bytes
//! are checked here and nowhere else: size, then decode, then signatures that the type itself carries; what passes is a
//! typed value. Refuses what does not decode and names its deliverer. Invariant: every gossip message gets exactly one
//! verdict, and each class of messages has permits of its own, so a flood of one kind cannot starve another (C49).

mod door;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

pub use door::{Class, Door};

use super::artifact_keeper::ArtifactAsked;
use super::checkpointer::{ConsensusMessage, HearConsensus, SyncArrived};
use super::ledger::OfferTransaction;
use super::mail::{ask, heard, tell};
use super::peer_manager::{AddressesFound, HearPresence, HelloArrived, PeerMisbehaved, PeersSeen, TroubleSeen};
use super::query_dispatcher::{QueryArrived, QueryWithdrawn};
use super::scorer::LogAsked;
use crate::net::{self, Command, Event, Protocol, Topic, Transport, Validity};
use crate::protocol::artifact::message::{WANT_BYTES_MAX, Want};
use crate::protocol::checkpoint::{Certificate, Evidence, Proposal, Vote};
use crate::protocol::codec;
use crate::protocol::envelope::Envelope;
use crate::protocol::hello::{HELLO_BYTES_MAX, Hello, HelloError, PRESENCE_BYTES_MAX, Presence};
use crate::protocol::ids::{ChainId, Digest, NodeId};
use crate::protocol::query::{ASK_BYTES_MAX, AnswerFrame, Ask, FRAME_BYTES_MAX};
use crate::protocol::sync::{Get, Got};
use crate::protocol::wire::{
    Certified, LOG_PIECE_BYTES_MAX, LOG_WISH_BYTES_MAX, LogPiece, LogWish, read_vote, write_vote,
};

/// Messages that may wait; the door's permits keep it from filling.
pub const MAILBOX: usize = 8_192;
/// Asks in flight, of all kinds.
const ASKS_MAX: usize = 512;
/// Searches for holders under way.
const FINDS_MAX: usize = 64;
/// The connected set is told again this often, so that a lost tell is made good.
const SEEN_AGAIN: Duration = Duration::from_secs(5);
/// A verdict is given by this deadline; without one the message is ignored.
const VERDICT_DEADLINE: Duration = Duration::from_secs(10);
/// Sizes of sync messages (by the protocol's own table).
const GET_BYTES_MAX: usize = 1_024;
const GOT_BYTES_MAX: usize = 4 << 20;
const PROPOSAL_BYTES_MAX: usize = 3 << 19;
const CERTIFIED_BYTES_MAX: usize = 16 << 10;

/// From the network, through the `Door`, with the permit of its class.
#[derive(Debug)]
pub struct NetEvent {
    pub event: Event,
    pub permit: Option<OwnedSemaphorePermit>,
}

/// From peer_manager: connect to a node. Lost: the book dials again.
#[derive(Clone, Debug)]
pub struct Dial {
    pub node: NodeId,
    pub addresses: Vec<String>,
}

/// From peer_manager: close the connection, and refuse the node for `ban_ms`. Lost: decided again at its next fault.
#[derive(Clone, Copy, Debug)]
pub struct Drop {
    pub node: NodeId,
    pub ban_ms: Option<u64>,
}

/// From peer_manager: its hello held. Lost: its gossip stays ignored until it reconnects.
#[derive(Clone, Copy, Debug)]
pub struct Admit {
    pub node: NodeId,
}

/// From peer_manager: our opinion of a peer. Lost: the next one brings it.
#[derive(Clone, Copy, Debug)]
pub struct SetPeerScore {
    pub node: NodeId,
    pub score: f64,
}

/// From peer_manager: the nodes of the other committee members. Lost: votes go by gossip until the next one.
#[derive(Clone, Debug)]
pub struct SetVoters {
    pub nodes: Vec<NodeId>,
}

/// From peer_manager: say hello and hear one.
#[derive(Debug)]
pub struct SayHello {
    pub to: NodeId,
    pub hello: Envelope,
}

/// Why there is no hello.
#[derive(Debug)]
pub enum HelloFailure {
    NoAnswer(net::AskError),
    Refused(HelloError),
}

/// From peer_manager: our hello, in answer to theirs. Lost: they ask again.
#[derive(Debug)]
pub struct ReplyHello {
    pub ticket: net::ReplyTicket,
    pub hello: Envelope,
}

/// Something for everybody.
#[derive(Debug)]
pub enum Outbound {
    Proposal(Box<Proposal>),
    Certificate(Certificate),
    Evidence(Evidence),
    /// A signed transaction's bytes.
    Transaction(Vec<u8>),
    /// A signed weight commit's or reveal's bytes; a lane of its own.
    Weights(Vec<u8>),
    Presence(Envelope),
}

/// From peer_manager, checkpointer, scorer, api: publish by gossip; it comes back to ourselves as from a stranger. Lost:
/// consensus repeats itself by timer, the presence comes again, the scorer publishes until it sees its effect.
#[derive(Debug)]
pub struct Publish(pub Outbound);

/// From checkpointer: our vote, to every other member directly. Lost: resent by timer (C26).
#[derive(Debug)]
pub struct SendVote(pub Vote);

/// From checkpointer: ask a peer for what we lack.
#[derive(Debug)]
pub struct FetchSync {
    pub to: NodeId,
    pub get: Get,
    pub deadline_ms: u64,
}

/// From checkpointer: the answer to a `SyncArrived`. Lost: the asker's deadline ends it.
#[derive(Debug)]
pub struct ReplySync {
    pub ticket: net::ReplyTicket,
    pub got: Got,
}

/// From artifact_keeper: ask a peer for a list or a chunk.
#[derive(Clone, Copy, Debug)]
pub struct FetchArtifact {
    pub to: NodeId,
    pub want: Want,
    pub deadline_ms: u64,
}

/// From artifact_keeper: who says that it holds an artifact; hints, ourselves left out.
#[derive(Clone, Copy, Debug)]
pub struct FindHolders {
    pub id: Digest,
}

/// From artifact_keeper: we hold it and say so, or no longer. Lost: said again by the network's own republishing, or never
/// said; then others find it by asking their neighbours.
#[derive(Clone, Copy, Debug)]
pub struct Announce {
    pub id: Digest,
    pub held: bool,
}

/// From artifact_keeper: the answer to an `ArtifactAsked`. Lost: the asker's deadline ends it.
#[derive(Debug)]
pub struct ReplyArtifact {
    pub ticket: net::ReplyTicket,
    pub given: Result<Vec<u8>, net::Refusal>,
}

/// From query_dispatcher: put a query to one node. Frames come on the channel until one is last or an error; when the
/// channel is full or closed the query is withdrawn. When the mailbox is full nothing comes and the sender's own deadline
/// ends the attempt.
#[derive(Debug)]
pub struct OpenQuery {
    /// The dispatcher's name for this attempt.
    pub attempt: u64,
    pub to: NodeId,
    pub ask: Ask,
    /// Milliseconds from now.
    pub deadline_ms: u64,
    pub frames: mpsc::Sender<Result<AnswerFrame, net::AskError>>,
}

/// From query_dispatcher: forget an attempt; its miner is told by the closing stream. Lost: the deadline does it.
#[derive(Clone, Copy, Debug)]
pub struct CancelQuery {
    pub attempt: u64,
}

/// From query_dispatcher: one frame of the answer to a query that arrived. Lost: the asker's deadline ends it.
#[derive(Debug)]
pub struct ReplyFrame {
    pub ticket: net::ReplyTicket,
    pub frame: AnswerFrame,
}

/// From api: a piece of a score log, of the validator that made it.
#[derive(Clone, Copy, Debug)]
pub struct FetchLog {
    pub to: NodeId,
    pub wish: LogWish,
    pub deadline_ms: u64,
}

/// From scorer: the answer to a `LogAsked`; `None` when it has no such piece. Lost: the asker's deadline ends it.
#[derive(Debug)]
pub struct ReplyLog {
    pub ticket: net::ReplyTicket,
    pub piece: Option<LogPiece>,
}

heard! { "router":
    NetEvent => (), Dial => (), Drop => (), Admit => (), SetPeerScore => (), SetVoters => (),
    SayHello => Result<Hello, HelloFailure>, ReplyHello => (), Publish => (), SendVote => (),
    FetchSync => Result<Got, net::AskError>, ReplySync => (),
    OpenQuery => (), CancelQuery => (), ReplyFrame => (),
    FetchArtifact => Result<Vec<u8>, net::AskError>, FindHolders => Vec<NodeId>, Announce => (), ReplyArtifact => (),
    FetchLog => Result<LogPiece, net::AskError>, ReplyLog => (),
}
super::mail::stops! { Router }

/// The edges. A node without a role has no actor for it, and messages for that actor are answered here.
pub struct Links {
    pub peers_seen: Recipient<PeersSeen>,
    pub misbehaved: Recipient<PeerMisbehaved>,
    pub addresses_found: Recipient<AddressesFound>,
    pub trouble_seen: Recipient<TroubleSeen>,
    pub hello_arrived: Recipient<HelloArrived>,
    pub hear_presence: Recipient<HearPresence>,
    pub query_arrived: Recipient<QueryArrived>,
    pub query_withdrawn: Recipient<QueryWithdrawn>,
    pub offer: Recipient<OfferTransaction>,
    pub hear: Recipient<HearConsensus>,
    pub sync_arrived: Recipient<SyncArrived>,
    pub artifact_asked: Recipient<ArtifactAsked>,
    /// `None` on a node that scores nobody.
    pub log_asked: Option<Recipient<LogAsked>>,
}

/// Who waits for the frames of an ask.
enum Waiting {
    Once(oneshot::Sender<Result<Vec<u8>, net::AskError>>),
    Frames { attempt: u64, to: mpsc::Sender<Result<AnswerFrame, net::AskError>>, node: NodeId },
}

/// The actor.
pub struct Router {
    chain: ChainId,
    transport: Arc<dyn Transport>,
    links: Links,
    connected: BTreeMap<NodeId, (String, bool)>,
    listening: Vec<String>,
    asks: BTreeMap<u64, Waiting>,
    /// Who waits for the holders of an artifact.
    finds: BTreeMap<u64, oneshot::Sender<Vec<NodeId>>>,
    next_ask: u64,
}

impl Router {
    pub fn new(chain: ChainId, transport: Arc<dyn Transport>, links: Links) -> Self {
        let (connected, asks, finds) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { chain, transport, links, connected, listening: Vec::new(), asks, finds, next_ask: 0 }
    }

    /// Hands a command to the network; when its queue is full the command is lost and counted.
    fn command(&self, command: Command) -> bool {
        let taken = self.transport.try_command(command).is_ok();
        if !taken {
            metrics::counter!("starling_net_queue_dropped_total", "queue" => "commands").increment(1);
        }
        taken
    }

    fn blame(&self, node: NodeId, cost: f64, why: &'static str) {
        tell(&self.links.misbehaved, PeerMisbehaved { node, cost, why });
    }

    fn trouble(&self, text: String) {
        tell(&self.links.trouble_seen, TroubleSeen(text));
    }

    fn tell_seen(&self) {
        let connected = self.connected.iter().map(|(node, (address, out))| (*node, address.clone(), *out)).collect();
        tell(&self.links.peers_seen, PeersSeen { connected, local_addresses: self.listening.clone() });
    }

    fn listens(&mut self, address: String) {
        if !self.listening.contains(&address) {
            self.listening.push(address);
            self.listening.truncate(16);
            self.tell_seen();
        }
    }

    fn event(&mut self, event: Event, permit: Option<OwnedSemaphorePermit>, context: &mut Context<Self>) {
        match event {
            Event::Listening { address } | Event::ExternalAddress { address } => self.listens(address),
            Event::Connected { node, address, outbound } => {
                self.connected.insert(node, (address, outbound));
                self.tell_seen();
            }
            Event::Disconnected { node } => {
                self.connected.remove(&node);
                self.tell_seen();
            }
            Event::DialFailed { node, address, reason } => {
                let peer = node.map(|node| format!(" (peer {})", node.short())).unwrap_or_default();
                self.trouble(format!("could not connect to {address}{peer}: {reason}"));
            }
            Event::Discovered { node, addresses } => {
                tell(&self.links.addresses_found, AddressesFound { node, addresses });
            }
            Event::Misbehaved { node, offence } => {
                if let net::Offence::WrongNetwork { theirs } = &offence {
                    let ours = net::tables::network_version(&self.chain);
                    let peer = node.short();
                    self.trouble(format!(
                        "peer {peer} belongs to another network: it says {theirs}, ours is {ours}; compare the genesis files"
                    ));
                }
                let (cost, why) = cost_of(&offence);
                self.blame(node, cost, why);
            }
            Event::Gossip { topic, from, data, ticket } => self.gossip(topic, from, &data, ticket, permit, context),
            Event::VoteArrived { from, data } => match read_vote(&data) {
                Some(vote) => self.hear(from, false, ConsensusMessage::Vote(vote), None, permit, context),
                None => self.blame(from, -100.0, "undecodable vote"),
            },
            Event::Asked { from, protocol, data, ticket, .. } => self.asked(from, protocol, &data, ticket),
            Event::AskWithdrawn { ticket } => {
                tell(&self.links.query_withdrawn, QueryWithdrawn { ticket });
            }
            Event::Answered { id, frame, last } => self.answered(id, frame, last),
            Event::AskFailed { id, reason } => self.ask_failed(id, reason),
            Event::Providers { id, nodes } => {
                if let Some(waiting) = self.finds.remove(&id) {
                    // Whoever asked may have given up.
                    std::mem::drop(waiting.send(nodes));
                }
            }
            Event::Stopped => {}
        }
    }

    // ---- gossip ----

    fn gossip(
        &mut self,
        topic: Topic,
        from: NodeId,
        data: &[u8],
        ticket: net::GossipTicket,
        permit: Option<OwnedSemaphorePermit>,
        context: &mut Context<Self>,
    ) {
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        metrics::counter!("starling_net_gossip_bytes_total", "topic" => topic.name(), "dir" => "in").increment(bytes);
        let heard = match topic {
            Topic::Proposal => {
                codec::decode::<Proposal, PROPOSAL_BYTES_MAX>(data).map(|p| ConsensusMessage::Proposal(Box::new(p)))
            }
            Topic::Certificate => codec::decode::<Certified, CERTIFIED_BYTES_MAX>(data).map(ConsensusMessage::from),
            Topic::Vote => read_vote(data).map(ConsensusMessage::Vote).ok_or(codec::CodecError::Empty),
            Topic::Transaction | Topic::Weights => {
                return self.offer(from, data.to_vec(), ticket, permit, context);
            }
            Topic::Presence => return self.presence(from, data, ticket, permit, context),
        };
        match heard {
            Ok(message) => self.hear(from, true, message, Some(ticket), permit, context),
            Err(error) => self.reject(from, ticket, &error.to_string()),
        }
    }

    fn reject(&mut self, from: NodeId, ticket: net::GossipTicket, error: &str) {
        tracing::debug!(peer = %from.short(), error, "rejected a gossip message");
        self.command(Command::Verdict { ticket, validity: Validity::Reject });
        self.blame(from, -100.0, "undecodable gossip");
    }

    /// Waits outside the handler for a verdict and gives it to the network; the permit of the class is held as long.
    fn judge<M>(
        &mut self,
        to: &Recipient<M>,
        message: M,
        ticket: Option<net::GossipTicket>,
        permit: Option<OwnedSemaphorePermit>,
        context: &mut Context<Self>,
    ) where
        M: super::mail::Heard + Message<Result = Validity> + Send + 'static,
    {
        let verdict = ask(to, message, VERDICT_DEADLINE);
        let verdict = async move {
            let verdict = verdict.await;
            std::mem::drop(permit);
            verdict.unwrap_or(Validity::Ignore)
        };
        context.spawn(verdict.into_actor(self).map(move |validity, actor, _| {
            if let Some(ticket) = ticket {
                actor.command(Command::Verdict { ticket, validity });
            }
        }));
    }

    fn hear(
        &mut self,
        from: NodeId,
        relayed: bool,
        message: ConsensusMessage,
        ticket: Option<net::GossipTicket>,
        permit: Option<OwnedSemaphorePermit>,
        context: &mut Context<Self>,
    ) {
        let to = self.links.hear.clone();
        self.judge(&to, HearConsensus { from, relayed, message }, ticket, permit, context);
    }

    fn offer(
        &mut self,
        from: NodeId,
        bytes: Vec<u8>,
        ticket: net::GossipTicket,
        permit: Option<OwnedSemaphorePermit>,
        context: &mut Context<Self>,
    ) {
        let verdict = ask(&self.links.offer, OfferTransaction { from, bytes }, VERDICT_DEADLINE);
        let verdict = async move {
            let verdict = verdict.await.unwrap_or(Validity::Ignore);
            std::mem::drop(permit);
            verdict
        };
        context.spawn(verdict.into_actor(self).map(move |validity, actor, _| {
            actor.command(Command::Verdict { ticket, validity });
            // The machine names its own culprits; a transaction that no honest node passes on is its deliverer's.
            if validity == Validity::Reject {
                actor.blame(from, -100.0, "impossible transaction");
            }
        }));
    }

    fn presence(
        &mut self,
        from: NodeId,
        data: &[u8],
        ticket: net::GossipTicket,
        permit: Option<OwnedSemaphorePermit>,
        context: &mut Context<Self>,
    ) {
        let opened = codec::decode::<Envelope, PRESENCE_BYTES_MAX>(data)
            .map_err(|error| error.to_string())
            .and_then(|envelope| Presence::open(&envelope, &self.chain).map_err(|error| error.to_string()));
        match opened {
            Ok((node, presence)) => {
                let to = self.links.hear_presence.clone();
                self.judge(&to, HearPresence { node, presence }, Some(ticket), permit, context);
            }
            Err(error) => self.reject(from, ticket, &error),
        }
    }

    // ---- requests of others ----

    fn asked(&mut self, from: NodeId, protocol: Protocol, data: &[u8], ticket: net::ReplyTicket) {
        let taken = match protocol {
            Protocol::Hello => match codec::decode::<Envelope, HELLO_BYTES_MAX>(data) {
                Ok(envelope) => {
                    let hello = Hello::open(&envelope, &self.chain, &from);
                    tell(&self.links.hello_arrived, HelloArrived { from, hello, ticket })
                }
                Err(_) => return self.undecodable(from, ticket),
            },
            Protocol::Sync => match codec::decode::<Get, GET_BYTES_MAX>(data) {
                Ok(get) => tell(&self.links.sync_arrived, SyncArrived { from, get, ticket }),
                Err(_) => return self.undecodable(from, ticket),
            },
            Protocol::Query => match codec::decode::<Ask, ASK_BYTES_MAX>(data) {
                Ok(ask) if ask.check().is_ok() => tell(&self.links.query_arrived, QueryArrived { from, ask, ticket }),
                _ => return self.undecodable(from, ticket),
            },
            Protocol::Artifact => match codec::decode::<Want, WANT_BYTES_MAX>(data) {
                Ok(want) => tell(&self.links.artifact_asked, ArtifactAsked { from, want, ticket }),
                Err(_) => return self.undecodable(from, ticket),
            },
            Protocol::Goodbye => {
                self.command(Command::Reply { ticket, data: Vec::new(), last: true });
                true
            }
            Protocol::Fetch => match (codec::decode::<LogWish, LOG_WISH_BYTES_MAX>(data), &self.links.log_asked) {
                (Ok(wish), Some(scorer)) => tell(scorer, LogAsked { wish, ticket }),
                (Ok(_), None) => {
                    self.command(Command::Refuse { ticket, refusal: net::Refusal::NotFound });
                    true
                }
                (Err(_), _) => return self.undecodable(from, ticket),
            },
        };
        if !taken {
            self.command(Command::Refuse { ticket, refusal: net::Refusal::Busy });
        }
    }

    fn undecodable(&mut self, from: NodeId, ticket: net::ReplyTicket) {
        self.command(Command::Refuse { ticket, refusal: net::Refusal::Failed });
        self.blame(from, -100.0, "undecodable request");
    }

    // ---- our asks ----

    fn next_id(&mut self) -> Option<u64> {
        self.next_ask += 1;
        (self.asks.len() < ASKS_MAX).then_some(self.next_ask)
    }

    /// Opens a single-frame ask; the future ends with its frame or failure.
    fn request(
        &mut self,
        to: NodeId,
        protocol: Protocol,
        items: u16,
        data: Vec<u8>,
        deadline_ms: u64,
    ) -> oneshot::Receiver<Result<Vec<u8>, net::AskError>> {
        let (sender, receiver) = oneshot::channel();
        let opened = self
            .next_id()
            .filter(|&id| self.command(Command::Ask(net::Ask { id, to, protocol, items, data, deadline_ms })));
        match opened {
            Some(id) => {
                self.asks.insert(id, Waiting::Once(sender));
            }
            // The receiver may be gone; then nobody wants to know.
            None => std::mem::drop(sender.send(Err(net::AskError::Busy))),
        }
        receiver
    }

    fn answered(&mut self, id: u64, frame: Vec<u8>, last: bool) {
        let Some(waiting) = self.asks.remove(&id) else { return };
        match waiting {
            Waiting::Once(sender) => std::mem::drop(sender.send(Ok(frame))),
            Waiting::Frames { attempt, to, node } => {
                let decoded = codec::decode::<AnswerFrame, FRAME_BYTES_MAX>(&frame).map_err(|_| net::AskError::Failed);
                let broken = decoded.is_err();
                if broken {
                    self.blame(node, -100.0, "undecodable answer");
                }
                let delivered = to.try_send(decoded).is_ok();
                if !last && (broken || !delivered) {
                    self.command(Command::CancelAsk { id });
                } else if !last {
                    self.asks.insert(id, Waiting::Frames { attempt, to, node });
                }
            }
        }
    }

    fn ask_failed(&mut self, id: u64, reason: net::AskError) {
        match self.asks.remove(&id) {
            Some(Waiting::Once(sender)) => std::mem::drop(sender.send(Err(reason))),
            // A full channel means that its reader is slower than the miner; its own deadline ends it.
            Some(Waiting::Frames { to, .. }) => std::mem::drop(to.try_send(Err(reason))),
            None => {}
        }
    }

    fn publish(&mut self, outbound: &Outbound) {
        let (topic, data) = match outbound {
            Outbound::Proposal(proposal) => (Topic::Proposal, codec::encode(proposal)),
            Outbound::Certificate(certificate) => {
                (Topic::Certificate, codec::encode(&Certified::Certificate(certificate.clone())))
            }
            Outbound::Evidence(evidence) => (Topic::Certificate, codec::encode(&Certified::Evidence(*evidence))),
            Outbound::Transaction(bytes) => (Topic::Transaction, bytes.clone()),
            Outbound::Weights(bytes) => (Topic::Weights, bytes.clone()),
            Outbound::Presence(envelope) => (Topic::Presence, codec::encode(envelope)),
        };
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        metrics::counter!("starling_net_gossip_bytes_total", "topic" => topic.name(), "dir" => "out").increment(bytes);
        self.command(Command::Publish { topic, data });
    }
}

/// What a sync question is charged as: the heights it may bring.
fn items_of(get: &Get) -> u16 {
    match get {
        Get::Range { count, .. } => (*count).max(1),
        _ => 1,
    }
}

/// What an offence against the network costs.
fn cost_of(offence: &net::Offence) -> (f64, &'static str) {
    use net::Offence;
    match offence {
        Offence::WrongNetwork { .. } => (0.0, "wrong network"),
        Offence::NoIdentity => (-5.0, "no identity"),
        Offence::Oversize => (-50.0, "oversize"),
        Offence::Malformed => (-100.0, "malformed"),
        Offence::Quota { .. } => (-5.0, "quota"),
        Offence::SlowPeer => (-1.0, "slow"),
        Offence::Timeout { .. } => (-1.0, "timeout"),
    }
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(SEEN_AGAIN, |actor, _| actor.tell_seen());
    }
}

impl Handler<NetEvent> for Router {
    type Result = ();
    fn handle(&mut self, NetEvent { event, permit }: NetEvent, context: &mut Self::Context) {
        self.event(event, permit, context);
    }
}

/// Handlers that hand one command on.
macro_rules! commands {
    ($($message:ty, $bound:pat => $command:expr;)+) => {
        $(impl Handler<$message> for Router {
            type Result = ();
            fn handle(&mut self, $bound: $message, _: &mut Self::Context) {
                self.command($command);
            }
        })+
    };
}

commands! {
    Dial, Dial { node, addresses } => Command::Dial { node: Some(node), addresses };
    Drop, Drop { node, ban_ms } => Command::Disconnect { node, ban_ms };
    Admit, Admit { node } => Command::Admit { node };
    SetPeerScore, SetPeerScore { node, score } => Command::SetPeerScore { node, score };
    SetVoters, SetVoters { nodes } => Command::SetVoters { nodes };
    SendVote, SendVote(vote) => Command::SendVote { data: write_vote(&vote) };
    ReplyHello, ReplyHello { ticket, hello } => Command::Reply { ticket, data: codec::encode(&hello), last: true };
    ReplySync, ReplySync { ticket, got } => Command::Reply { ticket, data: codec::encode(&got), last: true };
    Announce, Announce { id, held } => Command::Provide { id, held };
    ReplyArtifact, ReplyArtifact { ticket, given } => match given {
        Ok(data) => Command::Reply { ticket, data, last: true },
        Err(refusal) => Command::Refuse { ticket, refusal },
    };
    ReplyFrame, ReplyFrame { ticket, frame } =>
        Command::Reply { ticket, last: frame.is_last(), data: codec::encode(&frame) };
}

impl Handler<Publish> for Router {
    type Result = ();
    fn handle(&mut self, Publish(outbound): Publish, _: &mut Self::Context) {
        self.publish(&outbound);
    }
}

impl Handler<SayHello> for Router {
    type Result = ResponseFuture<Result<Hello, HelloFailure>>;
    fn handle(&mut self, SayHello { to, hello }: SayHello, _: &mut Self::Context) -> Self::Result {
        let answer = self.request(to, Protocol::Hello, 1, codec::encode(&hello), 5_000);
        let chain = self.chain;
        Box::pin(async move {
            let closed = Err(net::AskError::Closed);
            let frame = answer.await.unwrap_or(closed).map_err(HelloFailure::NoAnswer)?;
            let envelope = codec::decode::<Envelope, HELLO_BYTES_MAX>(&frame)
                .map_err(|error| HelloFailure::Refused(HelloError::Envelope(error.into())))?;
            Hello::open(&envelope, &chain, &to).map_err(HelloFailure::Refused)
        })
    }
}

impl Handler<FetchSync> for Router {
    type Result = ResponseFuture<Result<Got, net::AskError>>;
    fn handle(&mut self, FetchSync { to, get, deadline_ms }: FetchSync, _: &mut Self::Context) -> Self::Result {
        let answer = self.request(to, Protocol::Sync, items_of(&get), codec::encode(&get), deadline_ms);
        let misbehaved = self.links.misbehaved.clone();
        Box::pin(async move {
            let frame = answer.await.unwrap_or(Err(net::AskError::Closed))?;
            codec::decode::<Got, GOT_BYTES_MAX>(&frame).map_err(|_| {
                tell(&misbehaved, PeerMisbehaved { node: to, cost: -100.0, why: "undecodable sync answer" });
                net::AskError::Failed
            })
        })
    }
}

impl Handler<FetchArtifact> for Router {
    type Result = ResponseFuture<Result<Vec<u8>, net::AskError>>;
    fn handle(
        &mut self,
        FetchArtifact { to, want, deadline_ms }: FetchArtifact,
        _: &mut Self::Context,
    ) -> Self::Result {
        let answer = self.request(to, Protocol::Artifact, 1, codec::encode(&want), deadline_ms);
        // What the bytes are is proved by the id they were asked by; that is the keeper's to check.
        Box::pin(async move { answer.await.unwrap_or(Err(net::AskError::Closed)) })
    }
}

impl Handler<FindHolders> for Router {
    type Result = ResponseFuture<Vec<NodeId>>;
    fn handle(&mut self, FindHolders { id }: FindHolders, _: &mut Self::Context) -> Self::Result {
        self.finds.retain(|_, waiting| !waiting.is_closed());
        let (sender, found) = oneshot::channel();
        self.next_ask += 1;
        let ask = self.next_ask;
        if self.finds.len() < FINDS_MAX && self.command(Command::FindProviders { ask, id }) {
            self.finds.insert(ask, sender);
        }
        Box::pin(async move { found.await.unwrap_or_default() })
    }
}

impl Handler<FetchLog> for Router {
    type Result = ResponseFuture<Result<LogPiece, net::AskError>>;
    fn handle(&mut self, FetchLog { to, wish, deadline_ms }: FetchLog, _: &mut Self::Context) -> Self::Result {
        let answer = self.request(to, Protocol::Fetch, 1, codec::encode(&wish), deadline_ms);
        let misbehaved = self.links.misbehaved.clone();
        Box::pin(async move {
            let frame = answer.await.unwrap_or(Err(net::AskError::Closed))?;
            codec::decode::<LogPiece, LOG_PIECE_BYTES_MAX>(&frame).map_err(|_| {
                tell(&misbehaved, PeerMisbehaved { node: to, cost: -100.0, why: "undecodable score log" });
                net::AskError::Failed
            })
        })
    }
}

impl Handler<ReplyLog> for Router {
    type Result = ();
    fn handle(&mut self, ReplyLog { ticket, piece }: ReplyLog, _: &mut Self::Context) {
        self.command(match piece {
            Some(piece) => Command::Reply { ticket, data: codec::encode(&piece), last: true },
            None => Command::Refuse { ticket, refusal: net::Refusal::NotFound },
        });
    }
}

impl Handler<OpenQuery> for Router {
    type Result = ();
    fn handle(&mut self, query: OpenQuery, _: &mut Self::Context) {
        let OpenQuery { attempt, to, ask, deadline_ms, frames } = query;
        let data = codec::encode(&ask);
        let opened = self.next_id().filter(|&id| {
            let ask = net::Ask { id, to, protocol: Protocol::Query, items: 1, data, deadline_ms };
            self.command(Command::Ask(ask))
        });
        match opened {
            Some(id) => {
                self.asks.insert(id, Waiting::Frames { attempt, to: frames, node: to });
            }
            None => std::mem::drop(frames.try_send(Err(net::AskError::Busy))),
        }
    }
}

impl Handler<CancelQuery> for Router {
    type Result = ();
    fn handle(&mut self, cancel: CancelQuery, _: &mut Self::Context) {
        let named =
            |waiting: &Waiting| matches!(waiting, Waiting::Frames { attempt, .. } if *attempt == cancel.attempt);
        let found = self.asks.iter().find(|(_, waiting)| named(waiting)).map(|(id, _)| *id);
        if let Some(id) = found {
            self.asks.remove(&id);
            self.command(Command::CancelAsk { id });
        }
    }
}
