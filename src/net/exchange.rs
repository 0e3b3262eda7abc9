//! Requests with one answer: the bytes of a request and an answer, their limits, and the way between the books and libp2p.
//!
//! A request is `items u16 || length u32 || data`, an answer `status u8 || length u32 || data`, integers little-endian.
//! Lengths are checked before anything is allocated for them. Queries use streams of their own (`streams`); the books of
//! both are one `Desk`.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response::{
    self, Config, Event as RpcEvent, Message, OutboundFailure, OutboundRequestId, ProtocolSupport, ResponseChannel,
};
use libp2p::{PeerId, StreamProtocol};

use super::behaviour::protocol_name;
use super::desk::{Decision, Desk};
use super::streams::{Reply, Streams};
use super::task::Task;
use super::{Ask, AskError, Event, NetError, Offence, Protocol, Refusal, ReplyTicket, identity};
use crate::protocol::ids::ChainId;

pub type Rpc = request_response::Behaviour<Codec>;
pub type Answer = Result<Vec<u8>, Refusal>;

/// A request on the wire.
#[derive(Debug)]
pub struct Request {
    pub items: u16,
    pub data: Vec<u8>,
}

/// What has come in as a request, or what is wrong with it.
pub type Received = Result<Request, Offence>;

/// Reads and writes the frames of one protocol.
#[derive(Clone, Copy, Debug)]
pub struct Codec(Protocol);

pub fn rpc(chain: &ChainId, protocol: Protocol) -> Result<Rpc, NetError> {
    // The books keep the deadline; this one only ends what they have already given up.
    let timeout = Duration::from_millis(protocol.spec().timeout_ms + 1_000);
    let config = Config::default().with_request_timeout(timeout).with_max_concurrent_streams(64);
    let name = protocol_name(protocol.path(chain))?;
    Ok(Rpc::with_codec(Codec(protocol), [(name, ProtocolSupport::Full)], config))
}

impl Refusal {
    /// The byte on the wire; 0 is an answer.
    pub fn code(self) -> u8 {
        match self {
            Self::Busy => 1,
            Self::RateLimited => 2,
            Self::NotFound => 3,
            Self::TooLarge => 4,
            Self::WrongVersion => 5,
            Self::Failed => 6,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Busy, Self::RateLimited, Self::NotFound, Self::TooLarge, Self::WrongVersion, Self::Failed]
            .into_iter()
            .find(|refusal| refusal.code() == code)
    }
}

/// Over a limit. Kept apart from bytes that make no sense by its kind.
pub fn oversize(length: usize, limit: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes, at most {limit} are allowed"))
}

pub fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// What a failed read says about the peer; nothing when the connection just broke.
pub fn offence_of(error: &io::Error) -> Option<Offence> {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Some(Offence::Oversize),
        io::ErrorKind::InvalidData => Some(Offence::Malformed),
        _ => None,
    }
}

/// `length u32 || data` with at most `limit` bytes of data.
pub async fn read_block<T: AsyncRead + Unpin + Send>(io: &mut T, limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(oversize(length, limit));
    }
    // Grows with what arrives, not with what is claimed.
    let mut data = Vec::new();
    io.take(length as u64).read_to_end(&mut data).await?;
    if data.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(data)
}

pub async fn write_block<T: AsyncWrite + Unpin + Send>(io: &mut T, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(|_| oversize(data.len(), u32::MAX as usize))?;
    io.write_all(&length.to_le_bytes()).await?;
    io.write_all(data).await
}

pub async fn read_request<T: AsyncRead + Unpin + Send>(io: &mut T, limit: usize) -> io::Result<Request> {
    let mut items = [0; 2];
    io.read_exact(&mut items).await?;
    Ok(Request { items: u16::from_le_bytes(items), data: read_block(io, limit).await? })
}

pub async fn write_request<T: AsyncWrite + Unpin + Send>(io: &mut T, items: u16, data: &[u8]) -> io::Result<()> {
    io.write_all(&items.to_le_bytes()).await?;
    write_block(io, data).await
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Received;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Received>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read_request(io, self.0.spec().request_bytes_max).await {
            Ok(request) => Ok(Ok(request)),
            // libp2p keeps the error of a request that cannot be read to itself, so a fault travels as a value.
            Err(error) => offence_of(&error).map_or(Err(error), |offence| Ok(Err(offence))),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut status = [0; 1];
        io.read_exact(&mut status).await?;
        let [status] = status;
        let data = read_block(io, self.0.spec().answer_bytes_max).await?;
        match (status, Refusal::from_code(status)) {
            (0, _) => Ok(Ok(data)),
            (_, Some(refusal)) => Ok(Err(refusal)),
            _ => Err(malformed("an unknown status")),
        }
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Received) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let request = request.map_err(|_| malformed("a fault is never sent"))?;
        write_request(io, request.items, &request.data).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Answer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let (status, data) = match answer {
            Ok(data) => (0, data),
            Err(refusal) => (refusal.code(), Vec::new()),
        };
        io.write_all(&[status]).await?;
        write_block(io, &data).await
    }
}

/// What is under way, by libp2p's names for it.
#[derive(Debug)]
pub struct Exchange {
    pub desk: Desk,
    outbound: HashMap<(Protocol, OutboundRequestId), u64>,
    channels: HashMap<ReplyTicket, (Protocol, ResponseChannel<Answer>)>,
    pub streams: Streams,
}

impl Exchange {
    pub fn new(desk: Desk, streams: Streams) -> Self {
        Self { desk, outbound: HashMap::new(), channels: HashMap::new(), streams }
    }
}

/// One line in the table of exchanges.
pub fn count(protocol: Protocol, dir: &'static str, result: &'static str) {
    let labels = [("protocol", protocol.name()), ("dir", dir), ("result", result)];
    metrics::counter!("starling_net_rpc_total", &labels).increment(1);
}

impl Task {
    pub(super) fn ask(&mut self, ask: Ask) {
        let now_ms = self.now_ms();
        let connected = identity::peer_of(ask.to).is_some_and(|peer| self.peers.is_identified(&peer));
        let id = ask.id;
        match self.exchange.desk.ask(ask, connected, now_ms) {
            Decision::Send(ask) => self.request(ask),
            Decision::Waits => {}
            Decision::Failed(reason) => self.emit(Event::AskFailed { id, reason }),
        }
    }

    fn request(&mut self, ask: Ask) {
        let Some(peer) = identity::peer_of(ask.to) else { return self.ask_failed(ask.id, AskError::Unreachable) };
        let Ask { id, protocol, items, data, .. } = ask;
        match self.swarm.behaviour_mut().rpc(protocol) {
            Some(rpc) => {
                let request = rpc.send_request(&peer, Ok(Request { items, data }));
                self.exchange.outbound.insert((protocol, request), id);
            }
            None => self.exchange.streams.ask(id, peer, items, data),
        }
    }

    pub(super) fn cancel(&mut self, id: u64) {
        // An answer that still comes finds nobody; a stream is closed, and the other side sees that.
        self.exchange.desk.close_ask(id);
        self.exchange.streams.forget(id);
        self.exchange.outbound.retain(|_, ask| *ask != id);
    }

    pub(super) fn ask_failed(&mut self, id: u64, reason: AskError) {
        self.exchange.streams.forget(id);
        if let Some((_, protocol)) = self.exchange.desk.close_ask(id) {
            count(protocol, "out", "failed");
            self.emit(Event::AskFailed { id, reason });
        }
    }

    /// A frame of an answer has arrived.
    pub(super) fn answered(&mut self, id: u64, frame: Vec<u8>, last: bool) {
        let Some((node, protocol)) = self.exchange.desk.asked(id) else { return };
        match self.exchange.desk.frame(id, frame.len(), last) {
            Ok(()) => {
                if last {
                    count(protocol, "out", "answered");
                    self.exchange.streams.forget(id);
                }
                self.emit(Event::Answered { id, frame, last });
            }
            Err(Some(reason)) => {
                self.exchange.streams.forget(id);
                self.emit(Event::AskFailed { id, reason });
                self.emit(Event::Misbehaved { node, offence: Offence::Oversize });
            }
            Err(None) => {}
        }
    }

    /// Somebody asks us: into the books, or a polite refusal.
    pub(super) fn admit_request(
        &mut self,
        peer: PeerId,
        protocol: Protocol,
        request: Request,
    ) -> Result<(ReplyTicket, Event), Refusal> {
        let now_ms = self.now_ms();
        let from = identity::node_of(&peer).filter(|_| self.peers.is_identified(&peer)).ok_or(Refusal::Busy)?;
        let Request { items, data } = request;
        match self.exchange.desk.admit(from, protocol, items, data.len(), now_ms) {
            Ok(ticket) => {
                count(protocol, "in", "taken");
                Ok((ticket, Event::Asked { from, protocol, items, data, ticket }))
            }
            Err(refusal) => {
                count(protocol, "in", "refused");
                let offence = match refusal {
                    Refusal::TooLarge => Some(Offence::Oversize),
                    Refusal::RateLimited => Some(Offence::Quota { protocol }),
                    _ => None,
                };
                if let Some(offence) = offence {
                    metrics::counter!("starling_net_rate_limited_total", "protocol" => protocol.name()).increment(1);
                    self.emit(Event::Misbehaved { node: from, offence });
                }
                Err(refusal)
            }
        }
    }

    pub(super) fn reply(&mut self, ticket: ReplyTicket, data: Vec<u8>, last: bool) {
        let Some(to) = self.exchange.desk.reply(ticket, data.len(), last) else {
            super::gossip::dropped("reply");
            // A frame over our own limits ends the reply; a spent ticket ends nothing.
            return self.refuse(ticket, Refusal::TooLarge);
        };
        if to.protocol == Protocol::Query {
            let frame = if last { Reply::Last(data) } else { Reply::Frame(data) };
            if !self.exchange.streams.reply(ticket, frame) {
                // The asker takes frames slower than they are made, beyond all that may wait.
                super::gossip::dropped("query_frames");
                self.exchange.desk.close_reply(ticket);
                self.emit(Event::AskWithdrawn { ticket });
            }
        } else {
            self.send_answer(ticket, Ok(data));
        }
    }

    pub(super) fn refuse(&mut self, ticket: ReplyTicket, refusal: Refusal) {
        if self.exchange.desk.close_reply(ticket).is_some() {
            self.decline(ticket, refusal);
        }
    }

    fn decline(&mut self, ticket: ReplyTicket, refusal: Refusal) {
        if !self.exchange.streams.reply(ticket, Reply::Refused(refusal)) {
            self.send_answer(ticket, Err(refusal));
        }
    }

    fn send_answer(&mut self, ticket: ReplyTicket, answer: Answer) {
        let Some((protocol, channel)) = self.exchange.channels.remove(&ticket) else { return };
        if let Some(rpc) = self.swarm.behaviour_mut().rpc(protocol) {
            // The asker may have gone: then there is nobody to tell.
            let _gone = rpc.send_response(channel, answer);
        }
    }

    pub(super) fn on_rpc(&mut self, protocol: Protocol, event: RpcEvent<Received, Answer>) {
        match event {
            RpcEvent::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let admitted = match request {
                    Ok(request) => self.admit_request(peer, protocol, request),
                    Err(offence) => {
                        let refusal = if offence == Offence::Oversize { Refusal::TooLarge } else { Refusal::Failed };
                        self.misbehaved(peer, offence);
                        Err(refusal)
                    }
                };
                match admitted {
                    Ok((ticket, event)) => {
                        self.exchange.channels.insert(ticket, (protocol, channel));
                        self.emit(event);
                        // Nobody has anything to say to a goodbye.
                        if protocol == Protocol::Goodbye {
                            self.reply(ticket, Vec::new(), true);
                        }
                    }
                    Err(refusal) => {
                        if let Some(rpc) = self.swarm.behaviour_mut().rpc(protocol) {
                            let _gone = rpc.send_response(channel, Err(refusal));
                        }
                    }
                }
            }
            RpcEvent::Message { message: Message::Response { request_id, response }, .. } => {
                let Some(id) = self.exchange.outbound.remove(&(protocol, request_id)) else { return };
                match response {
                    Ok(data) => self.answered(id, data, true),
                    Err(refusal) => self.ask_failed(id, refusal.into()),
                }
            }
            RpcEvent::OutboundFailure { peer, request_id, error, .. } => {
                let Some(id) = self.exchange.outbound.remove(&(protocol, request_id)) else { return };
                self.request_failed(peer, id, &error);
            }
            RpcEvent::InboundFailure { .. } | RpcEvent::ResponseSent { .. } => {}
        }
    }

    fn request_failed(&mut self, peer: PeerId, id: u64, error: &OutboundFailure) {
        let reason = match error {
            OutboundFailure::DialFailure => AskError::Unreachable,
            OutboundFailure::Timeout => AskError::Timeout,
            OutboundFailure::ConnectionClosed => AskError::Closed,
            OutboundFailure::UnsupportedProtocols => AskError::WrongVersion,
            OutboundFailure::Io(error) => {
                let offence = offence_of(error);
                if let Some(offence) = offence.clone() {
                    self.misbehaved(peer, offence);
                }
                if offence == Some(Offence::Oversize) { AskError::TooLarge } else { AskError::Closed }
            }
        };
        self.ask_failed(id, reason);
    }

    /// The peer is gone: so are its questions and its answers.
    pub(super) fn close_exchanges(&mut self, peer: &PeerId) {
        let Some(node) = identity::node_of(peer) else { return };
        let (asks, queries) = self.exchange.desk.close_peer(node);
        for id in asks {
            self.exchange.streams.forget(id);
            self.exchange.outbound.retain(|_, ask| *ask != id);
            self.emit(Event::AskFailed { id, reason: AskError::Closed });
        }
        for ticket in queries {
            self.exchange.streams.close(ticket);
            self.emit(Event::AskWithdrawn { ticket });
        }
        self.exchange.channels.retain(|_, (_, channel)| channel.is_open());
    }

    /// What time has done to the books.
    pub(super) fn desk_tick(&mut self) {
        let now_ms = self.now_ms();
        let due = self.exchange.desk.due(now_ms);
        for ask in due.send {
            self.request(ask);
        }
        for (id, node, protocol) in due.expired {
            count(protocol, "out", "timeout");
            self.exchange.streams.forget(id);
            self.exchange.outbound.retain(|_, ask| *ask != id);
            self.emit(Event::AskFailed { id, reason: AskError::Timeout });
            self.emit(Event::Misbehaved { node, offence: Offence::Timeout { protocol } });
        }
        for (ticket, _) in due.lapsed {
            self.decline(ticket, Refusal::Failed);
        }
    }
}
