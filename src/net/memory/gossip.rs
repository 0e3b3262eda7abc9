//! Gossip and votes of the hub: flooding through verdicts, direct votes with the topic as fallback.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::parts::{Held, Letter, Node, Packet};
use super::world::World;
use crate::net::{Event, GossipTicket, Topic, Validity, tables};
use crate::protocol::ids::NodeId;

/// Ids remembered of messages seen, and for how long.
const SEEN_MAX: usize = 100_000;
const SEEN_MS: u64 = 120_000;

impl Node {
    /// Whether the message is new; it is not any more.
    fn first_seen(&mut self, id: [u8; 20], now_ms: u64) -> bool {
        while let Some((at, old)) = self.seen_order.front().copied() {
            if self.seen_order.len() < SEEN_MAX && at + SEEN_MS > now_ms {
                break;
            }
            self.seen_order.pop_front();
            self.seen.remove(&old);
        }
        let new = self.seen.insert(id);
        if new {
            self.seen_order.push_back((now_ms, id));
        }
        new
    }
}

impl World {
    pub fn publish(&mut self, id: NodeId, topic: Topic, data: Vec<u8>) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if data.len() > topic.max_bytes() {
            self.counts.dropped += 1;
            return;
        }
        let message = tables::message_id(&node.params.chain, &topic.path(&node.params.chain), &data);
        if !node.first_seen(message, now_ms) {
            return;
        }
        let shared: Arc<[u8]> = data.clone().into();
        self.spread(id, topic, message, &shared, None);
        self.emit(id, Event::Gossip { topic, from: id, data, ticket: GossipTicket { message, from: id } });
    }

    /// To every linked peer that listens, but not back to where it came from.
    fn spread(&mut self, id: NodeId, topic: Topic, message: [u8; 20], data: &Arc<[u8]>, source: Option<NodeId>) {
        let Some(node) = self.nodes.get(&id) else { return };
        let listeners: Vec<(NodeId, u64)> = node
            .peers
            .iter()
            .filter(|(peer, _)| Some(**peer) != source)
            .filter(|(peer, _)| self.nodes.get(peer).is_some_and(|other| other.params.topics.contains(&topic)))
            .map(|(peer, link)| (*peer, link.link))
            .collect();
        for (to, link) in listeners {
            let packet = Packet::Gossip { topic, id: message, data: Arc::clone(data), tries: 0 };
            self.post(Letter { from: id, to, link, packet });
        }
    }

    pub fn heard(&mut self, letter: Letter, topic: Topic, message: [u8; 20], data: Arc<[u8]>) {
        let Letter { from, to, .. } = letter;
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if !node.params.topics.contains(&topic) || node.seen.contains(&message) {
            return;
        }
        if node.peers.get(&from).is_none_or(|peer| !peer.admitted) {
            // Not heard, so not seen either: once the peer is admitted, its lazy pull offers the message again.
            return self.lose(letter);
        }
        if node.held.len() >= node.params.limits.awaiting_verdict {
            self.counts.dropped += 1;
            return;
        }
        node.first_seen(message, now_ms);
        let bytes = data.to_vec();
        node.held.insert(message, Held { topic, data, from });
        self.emit(to, Event::Gossip { topic, from, data: bytes, ticket: GossipTicket { message, from } });
    }

    pub fn verdict(&mut self, id: NodeId, ticket: GossipTicket, validity: Validity) {
        // Of our own messages there is nothing held: they left when they were published.
        let Some(held) = self.nodes.get_mut(&id).and_then(|node| node.held.remove(&ticket.message)) else { return };
        match validity {
            Validity::Accept => self.spread(id, held.topic, ticket.message, &held.data, Some(held.from)),
            Validity::Ignore => {}
            Validity::Reject => self.counts.rejected += 1,
        }
    }

    pub fn set_voters(&mut self, id: NodeId, nodes: &[NodeId]) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.voters = nodes.iter().copied().filter(|voter| *voter != id).collect::<BTreeSet<_>>();
        let voters: Vec<NodeId> = node.voters.iter().copied().collect();
        node.redial.set_always(&voters);
    }

    pub fn send_vote(&mut self, id: NodeId, data: Vec<u8>) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get(&id) else { return };
        if data.len() > tables::VOTE_FRAME_BYTES_MAX {
            self.counts.dropped += 1;
            return;
        }
        let shared: Arc<[u8]> = data.into();
        let mut streams = Vec::new();
        for voter in &node.voters {
            let claimed = self.nodes.get(voter).is_some_and(|other| other.voters.contains(&id));
            streams.push(node.peers.get(voter).filter(|_| claimed).map(|peer| (*voter, peer.link)));
        }
        for (to, link) in streams.iter().copied().flatten() {
            self.post(Letter { from: id, to, link, packet: Packet::Vote { data: Arc::clone(&shared) } });
        }
        if streams.iter().all(Option::is_some) {
            return;
        }
        // Somebody has no stream: the topic carries it too, once (N23).
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let chain = node.params.chain;
        let message = tables::message_id(&chain, &Topic::Vote.path(&chain), &shared);
        if node.first_seen(message, now_ms) {
            self.spread(id, Topic::Vote, message, &shared, None);
        }
    }

    pub fn vote_arrived(&mut self, from: NodeId, to: NodeId, data: &Arc<[u8]>) {
        if self.nodes.get(&to).is_some_and(|node| node.voters.contains(&from)) {
            self.emit(to, Event::VoteArrived { from, data: data.to_vec() });
        } else {
            self.counts.dropped += 1;
        }
    }
}
