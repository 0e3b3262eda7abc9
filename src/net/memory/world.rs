//! The state of a hub: its nodes, everything under way, and the fate of each packet.
//!
//! One queue ordered by time and then by entry holds commands, packets and timers. Handling one entry may push others and
//! may emit events; nothing else changes the world, so the order of entries is the order of the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use super::Weather;
use super::parts::{Counts, Due, Letter, Node, Packet, Sink};
use crate::net::desk::Desk;
use crate::net::redial::{Reason, Redial};
use crate::net::{Busy, Command, Event, EventSink, NetError, Params, Protocol, Refusal};
use crate::protocol::chance::Chance;
use crate::protocol::ids::{Digest, NodeId};

/// How often a node looks whom to dial.
const TICK_MS: u64 = 1_000;
/// The longest a dial waits for its answer.
pub const DIAL_TIMEOUT_MS: u64 = 5_000;
/// A connection over a cut is given up after this: one ping interval and its timeout.
pub const LINK_TIMEOUT_MS: u64 = 20_000;
/// Packets on their way to one node; beyond it messages are dropped, as a full socket would.
const INBOUND_MAX: usize = 16_384;

/// What the driver does next.
pub enum Step {
    Deliver { node: NodeId, incarnation: u64, sink: Sink, event: Event },
    Idle { next_ms: Option<u64> },
}

struct Outgoing {
    node: NodeId,
    incarnation: u64,
    sink: Sink,
    event: Event,
}

pub struct World {
    pub now_ms: u64,
    pub weather: Weather,
    pub nodes: BTreeMap<NodeId, Node>,
    /// Directed cuts and since when.
    pub cuts: BTreeMap<(NodeId, NodeId), u64>,
    lags: BTreeMap<NodeId, u64>,
    chance: Chance,
    queue: BTreeMap<(u64, u64), Due>,
    entries: u64,
    links: u64,
    incarnations: u64,
    out: VecDeque<Outgoing>,
    /// What kad would know: who says that it holds an artifact, also after it has gone.
    pub providers: BTreeMap<Digest, BTreeSet<NodeId>>,
    trace: blake3::Hasher,
    pub counts: Counts,
}

impl World {
    pub fn new(chance: Chance, weather: Weather) -> Self {
        Self {
            now_ms: 0,
            weather,
            nodes: BTreeMap::new(),
            cuts: BTreeMap::new(),
            lags: BTreeMap::new(),
            chance,
            queue: BTreeMap::new(),
            entries: 0,
            links: 0,
            incarnations: 0,
            out: VecDeque::new(),
            providers: BTreeMap::new(),
            trace: blake3::Hasher::new_derive_key("starling/1 hub trace"),
            counts: Counts::default(),
        }
    }

    pub fn counts(&self) -> Counts {
        Counts { nodes: self.nodes.len(), ..self.counts }
    }

    pub fn trace(&self) -> Digest {
        Digest(*self.trace.finalize().as_bytes())
    }

    pub fn set_lag(&mut self, node: NodeId, lag_ms: u64) {
        self.lags.insert(node, lag_ms);
    }

    pub fn new_link(&mut self) -> u64 {
        self.links += 1;
        self.links
    }

    pub fn join(&mut self, id: NodeId, params: Params, sink: EventSink) -> Result<u64, NetError> {
        let address = params.listen.first().cloned().unwrap_or_default();
        let taken = self.nodes.contains_key(&id) || self.nodes.values().any(|node| node.address == address);
        if taken || address.is_empty() {
            let reason = if taken { "it is in use" } else { "no address is given" }.to_owned();
            return Err(NetError::Listen { address, reason });
        }
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let mut redial = Redial::new(params.chance.clone());
        for (node, addresses) in &params.remembered {
            redial.add(Some(*node), addresses.clone(), Reason::Few);
        }
        for address in &params.bootnodes {
            redial.add(crate::net::identity::node_of_text(address), vec![address.clone()], Reason::Few);
        }
        let node = Node {
            address: address.clone(),
            sink: Arc::new(Mutex::new(sink)),
            incarnation,
            commands: 0,
            verdicts: 0,
            inbound: 0,
            peers: BTreeMap::new(),
            dialing: BTreeMap::new(),
            bans: BTreeMap::new(),
            blocked: BTreeSet::new(),
            voters: BTreeSet::new(),
            redial,
            walk_ms: 0,
            seen: BTreeSet::new(),
            seen_order: VecDeque::new(),
            held: BTreeMap::new(),
            desk: Desk::new(params.limits.clone()),
            desk_due_ms: None,
            tickets: BTreeMap::new(),
            params,
        };
        self.nodes.insert(id, node);
        self.emit(id, Event::Listening { address });
        self.push(0, Due::Tick { node: id, incarnation });
        Ok(incarnation)
    }

    pub fn enqueue(&mut self, id: NodeId, incarnation: u64, command: Command) -> Result<(), Busy> {
        let node = self.nodes.get_mut(&id).filter(|node| node.incarnation == incarnation).ok_or(Busy)?;
        let (count, bound) = match command {
            Command::Verdict { .. } => (&mut node.verdicts, node.params.limits.verdicts),
            _ => (&mut node.commands, node.params.limits.commands),
        };
        if *count >= bound {
            self.counts.dropped += 1;
            return Err(Busy);
        }
        *count += 1;
        self.push(0, Due::Command { node: id, incarnation, command });
        Ok(())
    }

    pub fn push(&mut self, after_ms: u64, due: Due) {
        self.entries += 1;
        self.queue.insert((self.now_ms.saturating_add(after_ms), self.entries), due);
    }

    pub fn emit(&mut self, id: NodeId, event: Event) {
        if let Some(node) = self.nodes.get(&id) {
            let (sink, incarnation) = (Arc::clone(&node.sink), node.incarnation);
            self.out.push_back(Outgoing { node: id, incarnation, sink, event });
        }
    }

    /// Forgets what was still to be told to a node that has crashed.
    pub fn silence(&mut self, id: NodeId) {
        self.out.retain(|outgoing| outgoing.node != id);
    }

    pub fn step(&mut self, now_ms: u64) -> Step {
        loop {
            if let Some(Outgoing { node, incarnation, sink, event }) = self.out.pop_front() {
                self.record(node, &event);
                return Step::Deliver { node, incarnation, sink, event };
            }
            let Some((&(at_ms, _), _)) = self.queue.first_key_value() else { return Step::Idle { next_ms: None } };
            if at_ms > now_ms {
                return Step::Idle { next_ms: Some(at_ms) };
            }
            self.now_ms = now_ms;
            if let Some((_, due)) = self.queue.pop_first() {
                self.handle(due);
            }
        }
    }

    /// The receiver was full: a message is ignored, a request told busy, the rest counted and gone (N2).
    pub fn undelivered(&mut self, id: NodeId, incarnation: u64, event: &Event) {
        self.counts.dropped += 1;
        if self.nodes.get(&id).is_none_or(|node| node.incarnation != incarnation) {
            return;
        }
        match event {
            Event::Gossip { ticket, .. } => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.held.remove(&ticket.message);
                }
            }
            Event::Asked { ticket, .. } => self.refuse(id, *ticket, Refusal::Busy),
            _ => {}
        }
    }

    fn alive(&self, id: NodeId, incarnation: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.incarnation == incarnation)
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Command { node, incarnation, command } if self.alive(node, incarnation) => self.obey(node, command),
            Due::Letter(letter) => self.arrive(letter),
            Due::Resend(letter) => self.post(letter),
            Due::Tick { node, incarnation } if self.alive(node, incarnation) => {
                self.tick(node);
                self.push(TICK_MS, Due::Tick { node, incarnation });
            }
            Due::DialTimeout { node, to, link } => self.dial_timed_out(node, to, link),
            Due::Probe { node, peer, link } => self.probe(node, peer, link),
            Due::Found { node, incarnation, ask, nodes } if self.alive(node, incarnation) => {
                self.emit(node, Event::Providers { id: ask, nodes });
            }
            Due::Desk { node, incarnation } if self.alive(node, incarnation) => self.desk_due(node),
            Due::Command { .. } | Due::Tick { .. } | Due::Desk { .. } | Due::Found { .. } => {}
        }
    }

    fn obey(&mut self, id: NodeId, command: Command) {
        if let Some(node) = self.nodes.get_mut(&id) {
            match command {
                Command::Verdict { .. } => node.verdicts = node.verdicts.saturating_sub(1),
                _ => node.commands = node.commands.saturating_sub(1),
            }
        }
        match command {
            Command::Dial { node, addresses } => self.dial(id, node, &addresses),
            Command::Disconnect { node, ban_ms } => self.disconnect(id, node, ban_ms),
            Command::Admit { node } => self.admit(id, node),
            // Only gossipsub's own mesh looks at it, and here is no mesh.
            Command::SetPeerScore { .. } => {}
            Command::Publish { topic, data } => self.publish(id, topic, data),
            Command::Verdict { ticket, validity } => self.verdict(id, ticket, validity),
            Command::Ask(ask) => self.ask(id, ask),
            Command::CancelAsk { id: ask } => self.cancel(id, ask),
            Command::Reply { ticket, data, last } => self.reply(id, ticket, data, last),
            Command::Refuse { ticket, refusal } => self.refuse(id, ticket, refusal),
            Command::Provide { id: artifact, held } => self.provide(id, artifact, held),
            Command::FindProviders { ask, id: artifact } => self.find_providers(id, ask, artifact),
            Command::SetVoters { nodes } => self.set_voters(id, &nodes),
            Command::SendVote { data } => self.send_vote(id, data),
            Command::Chaos { blocked, lag_ms } => self.chaos(id, blocked, lag_ms),
            Command::Shutdown => self.leave(id, true),
        }
    }

    /// Sends a packet on its way, or not: here the weather decides.
    pub fn post(&mut self, letter: Letter) {
        let Letter { from, to, ref packet, .. } = letter;
        let loose = matches!(packet, Packet::Gossip { .. } | Packet::Vote { .. });
        let exchange = matches!(packet, Packet::Request(_) | Packet::Answer { .. });
        let lost = self.chance.one_in(u64::from(self.weather.loss), 1_000);
        if self.cuts.contains_key(&(from, to)) || (lost && (loose || exchange)) {
            return self.lose(letter);
        }
        let mut delay = self.weather.delay_ms + self.chance.below(self.weather.jitter_ms + 1);
        delay += self.lags.get(&from).copied().unwrap_or(0) + self.lags.get(&to).copied().unwrap_or(0);
        if lost {
            // A handshake or an end of stream is retransmitted by the transport beneath.
            delay += 200;
        }
        if loose && self.chance.one_in(u64::from(self.weather.reorder), 1_000) {
            delay += 1 + self.chance.below(4 * (self.weather.delay_ms + self.weather.jitter_ms) + 1);
        }
        if loose && self.chance.one_in(u64::from(self.weather.duplicate), 1_000) {
            self.counts.duplicated += 1;
            let again = delay + 1 + self.chance.below(self.weather.delay_ms + self.weather.jitter_ms + 1);
            self.carry(again, letter.clone(), loose);
        }
        if !loose {
            delay = self.in_order(from, to, delay);
        }
        self.carry(delay, letter, loose);
    }

    /// Never before the packet that left before it.
    fn in_order(&mut self, from: NodeId, to: NodeId, delay_ms: u64) -> u64 {
        let Some(peer) = self.nodes.get_mut(&from).and_then(|node| node.peers.get_mut(&to)) else { return delay_ms };
        peer.floor_ms = peer.floor_ms.max(self.now_ms + delay_ms);
        peer.floor_ms - self.now_ms
    }

    fn carry(&mut self, delay_ms: u64, letter: Letter, loose: bool) {
        if let Some(node) = self.nodes.get_mut(&letter.to) {
            if loose && node.inbound >= INBOUND_MAX {
                self.counts.dropped += 1;
                return;
            }
            node.inbound += 1;
        }
        self.push(delay_ms, Due::Letter(letter));
    }

    /// A packet that does not arrive. What the two ends make of it depends on what it was.
    pub fn lose(&mut self, mut letter: Letter) {
        self.counts.lost += 1;
        let Letter { from, to, link, .. } = letter;
        match &mut letter.packet {
            Packet::Gossip { tries, .. } if *tries < 3 => {
                *tries += 1;
                let wait = 700 + self.chance.below(700);
                self.push(wait, Due::Resend(letter));
            }
            Packet::Accept | Packet::Close => {
                self.push(LINK_TIMEOUT_MS, Due::Probe { node: to, peer: from, link });
                self.push(LINK_TIMEOUT_MS, Due::Probe { node: from, peer: to, link });
            }
            Packet::Answer { id, .. } => {
                let id = *id;
                // Over a cut nothing arrives, and the asker's own clock ends it.
                if !self.cuts.contains_key(&(from, to)) {
                    let delay = self.in_order(from, to, self.weather.delay_ms + self.weather.jitter_ms);
                    self.carry(delay, Letter { from, to, link, packet: Packet::Broken { id } }, false);
                }
            }
            _ => {}
        }
    }

    fn arrive(&mut self, letter: Letter) {
        let Letter { from, to, link, .. } = letter;
        let Some(node) = self.nodes.get_mut(&to) else {
            if matches!(letter.packet, Packet::Dial) {
                self.decline(&letter, "connection refused", None);
            }
            return;
        };
        node.inbound = node.inbound.saturating_sub(1);
        if self.cuts.contains_key(&(from, to)) {
            return self.lose(letter);
        }
        match letter.packet {
            Packet::Dial => return self.dialled(&letter),
            Packet::Accept => return self.accepted(from, to, link),
            Packet::Declined { reason, wrong_network } => return self.declined(from, to, link, reason, wrong_network),
            _ => {}
        }
        // Of an earlier connection.
        if node.peers.get(&from).is_none_or(|peer| peer.link != link) {
            return;
        }
        match letter.packet {
            Packet::Close => self.unlink(to, from),
            Packet::Gossip { topic, id, ref data, .. } => {
                let data = Arc::clone(data);
                self.heard(letter, topic, id, data);
            }
            Packet::Vote { data } => self.vote_arrived(from, to, &data),
            Packet::Request(ask) => self.requested(from, to, link, ask),
            Packet::Answer { id, data, last } => self.answered(from, to, id, data, last),
            Packet::Refusal { id, refusal } => self.ask_failed(to, id, refusal.into()),
            Packet::Broken { id } => self.ask_failed(to, id, crate::net::AskError::Closed),
            Packet::Withdrawn { id } => self.withdrawn(from, to, id),
            Packet::Dial | Packet::Accept | Packet::Declined { .. } => {}
        }
    }

    fn record(&mut self, node: NodeId, event: &Event) {
        self.counts.delivered += 1;
        self.trace.update(&self.now_ms.to_le_bytes()).update(&node.0);
        match event {
            // The bytes themselves: printing a megabyte as text would cost more than the world does.
            Event::Gossip { topic, from, data, ticket } => {
                self.trace.update(topic.name().as_bytes()).update(&from.0).update(&ticket.message);
                self.trace.update(blake3::hash(data).as_bytes());
            }
            Event::VoteArrived { from, data } => {
                self.trace.update(b"vote").update(&from.0).update(data);
            }
            Event::Asked { from, protocol, data, .. } => {
                self.trace.update(protocol.name().as_bytes()).update(&from.0).update(data);
            }
            Event::Answered { id, frame, last } => {
                self.trace.update(&id.to_le_bytes()).update(&[u8::from(*last)]).update(frame);
            }
            other => {
                self.trace.update(format!("{other:?}").as_bytes());
            }
        }
    }

    /// Whether this protocol keeps a stream of its own, whose other end learns of a withdrawal.
    pub fn is_stream(protocol: Protocol) -> bool {
        protocol == Protocol::Query
    }
}
