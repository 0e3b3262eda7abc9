//! Requests and answers of the hub, by the same books as on real sockets.

use super::parts::{Due, Letter, Packet};
use super::world::World;
use crate::net::desk::Decision;
use crate::net::{Ask, AskError, Event, Offence, Protocol, Refusal, ReplyTicket};
use crate::protocol::ids::{Digest, NodeId};

impl World {
    pub fn provide(&mut self, id: NodeId, artifact: Digest, held: bool) {
        let holders = self.providers.entry(artifact).or_default();
        if held {
            holders.insert(id);
        } else {
            holders.remove(&id);
        }
    }

    /// Two hops of kad later the holders are known, the dead ones too: a record outlives its node.
    pub fn find_providers(&mut self, id: NodeId, ask: u64, artifact: Digest) {
        let Some(incarnation) = self.nodes.get(&id).map(|node| node.incarnation) else { return };
        let holders = self.providers.get(&artifact).into_iter().flatten();
        let nodes = holders.copied().filter(|node| *node != id).collect();
        let after = 4 * self.weather.delay_ms;
        self.push(after, Due::Found { node: id, incarnation, ask, nodes });
    }

    pub fn ask(&mut self, id: NodeId, ask: Ask) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let connected = node.peers.contains_key(&ask.to);
        let ask_id = ask.id;
        match node.desk.ask(ask, connected, now_ms) {
            Decision::Send(ask) => self.request(id, ask),
            Decision::Waits => {}
            Decision::Failed(reason) => self.emit(id, Event::AskFailed { id: ask_id, reason }),
        }
        self.arm(id);
    }

    fn request(&mut self, id: NodeId, ask: Ask) {
        let (to, ask_id) = (ask.to, ask.id);
        match self.nodes.get(&id).and_then(|node| node.peers.get(&to)).map(|peer| peer.link) {
            Some(link) => self.post(Letter { from: id, to, link, packet: Packet::Request(ask) }),
            None => self.ask_failed(id, ask_id, AskError::Unreachable),
        }
    }

    /// A timer for the next thing in a node's books.
    fn arm(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(due_ms) = node.desk.next_due_ms() else { return };
        if node.desk_due_ms.is_some_and(|armed| armed <= due_ms) {
            return;
        }
        node.desk_due_ms = Some(due_ms);
        let incarnation = node.incarnation;
        self.push(due_ms.saturating_sub(now_ms), Due::Desk { node: id, incarnation });
    }

    pub fn desk_due(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.desk_due_ms = None;
        let due = node.desk.due(now_ms);
        for ask in due.send {
            self.request(id, ask);
        }
        for (ask, to, protocol) in due.expired {
            self.emit(id, Event::AskFailed { id: ask, reason: AskError::Timeout });
            self.emit(id, Event::Misbehaved { node: to, offence: Offence::Timeout { protocol } });
            if Self::is_stream(protocol) {
                self.tell_peer(id, to, Packet::Withdrawn { id: ask });
            }
        }
        for (ticket, _) in due.lapsed {
            self.decline_ticket(id, ticket, Refusal::Failed);
        }
        self.arm(id);
    }

    fn tell_peer(&mut self, id: NodeId, to: NodeId, packet: Packet) {
        if let Some(link) = self.nodes.get(&id).and_then(|node| node.peers.get(&to)).map(|peer| peer.link) {
            self.post(Letter { from: id, to, link, packet });
        }
    }

    pub fn cancel(&mut self, id: NodeId, ask: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some((to, _)) = node.desk.close_ask(ask).filter(|(_, protocol)| Self::is_stream(*protocol)) {
            self.tell_peer(id, to, Packet::Withdrawn { id: ask });
        }
    }

    pub fn requested(&mut self, from: NodeId, to: NodeId, link: u64, ask: Ask) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&to) else { return };
        let Ask { id, protocol, items, data, .. } = ask;
        match node.desk.admit(from, protocol, items, data.len(), now_ms) {
            Ok(ticket) => {
                node.tickets.insert(ticket.0, (from, link, id));
                self.emit(to, Event::Asked { from, protocol, items, data, ticket });
                // Nobody has anything to say to a goodbye.
                if protocol == Protocol::Goodbye {
                    self.reply(to, ticket, Vec::new(), true);
                }
                self.arm(to);
            }
            Err(refusal) => {
                let offence = match refusal {
                    Refusal::TooLarge => Some(Offence::Oversize),
                    Refusal::RateLimited => Some(Offence::Quota { protocol }),
                    _ => None,
                };
                if let Some(offence) = offence {
                    self.emit(to, Event::Misbehaved { node: from, offence });
                }
                self.post(Letter { from: to, to: from, link, packet: Packet::Refusal { id, refusal } });
            }
        }
    }

    pub fn reply(&mut self, id: NodeId, ticket: ReplyTicket, data: Vec<u8>, last: bool) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(to) = node.desk.reply(ticket, data.len(), last) else {
            self.counts.dropped += 1;
            // A frame over our own limits ends the reply; a spent ticket ends nothing.
            return self.refuse(id, ticket, Refusal::TooLarge);
        };
        let last = last || !Self::is_stream(to.protocol);
        let Some((_, link, ask)) = node.tickets.get(&ticket.0).copied() else { return };
        if last {
            node.tickets.remove(&ticket.0);
        }
        self.post(Letter { from: id, to: to.node, link, packet: Packet::Answer { id: ask, data, last } });
    }

    pub fn refuse(&mut self, id: NodeId, ticket: ReplyTicket, refusal: Refusal) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.desk.close_reply(ticket).is_some() {
            self.decline_ticket(id, ticket, refusal);
        }
    }

    fn decline_ticket(&mut self, id: NodeId, ticket: ReplyTicket, refusal: Refusal) {
        let Some((to, link, ask)) = self.nodes.get_mut(&id).and_then(|node| node.tickets.remove(&ticket.0)) else {
            return;
        };
        self.post(Letter { from: id, to, link, packet: Packet::Refusal { id: ask, refusal } });
    }

    pub fn answered(&mut self, from: NodeId, to: NodeId, id: u64, data: Vec<u8>, last: bool) {
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if node.desk.asked(id).is_none_or(|(asked, _)| asked != from) {
            return;
        }
        match node.desk.frame(id, data.len(), last) {
            Ok(()) => self.emit(to, Event::Answered { id, frame: data, last }),
            Err(Some(reason)) => {
                self.emit(to, Event::AskFailed { id, reason });
                self.emit(to, Event::Misbehaved { node: from, offence: Offence::Oversize });
            }
            Err(None) => {}
        }
    }

    pub fn ask_failed(&mut self, id: NodeId, ask: u64, reason: AskError) {
        if self.nodes.get_mut(&id).and_then(|node| node.desk.close_ask(ask)).is_some() {
            self.emit(id, Event::AskFailed { id: ask, reason });
        }
    }

    pub fn withdrawn(&mut self, from: NodeId, to: NodeId, ask: u64) {
        let Some(node) = self.nodes.get_mut(&to) else { return };
        let ticket = node.tickets.iter().find(|(_, (asker, _, id))| *asker == from && *id == ask).map(|(t, _)| *t);
        let Some(ticket) = ticket.map(ReplyTicket) else { return };
        node.tickets.remove(&ticket.0);
        if node.desk.close_reply(ticket).is_some() {
            self.emit(to, Event::AskWithdrawn { ticket });
        }
    }
}
