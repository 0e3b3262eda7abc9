//! Connections of the hub: dialling, refusing, closing, noticing the dead, and finding others.

use super::parts::{Dialing, Due, Letter, Node, Packet, Peer};
use super::world::{DIAL_TIMEOUT_MS, LINK_TIMEOUT_MS, World};
use crate::net::{AskError, Event, Offence, tables};
use crate::protocol::ids::NodeId;

/// How long a peer of another network is refused (N11).
const WRONG_NETWORK_MS: u64 = 600_000;
/// Between two looks at whom our peers know.
const WALK_MS: u64 = 5_000;

impl Node {
    /// Why we want nothing to do with this node, if so.
    fn refusal(&self, other: NodeId, now_ms: u64) -> Option<&'static str> {
        if self.blocked.contains(&other) {
            return Some("the node is blocked");
        }
        if self.bans.get(&other).is_some_and(|until| *until > now_ms) {
            return Some("the node is banned");
        }
        if self.params.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&other)) {
            return Some("the node is not on the list of allowed nodes");
        }
        let full = self.peers.len() >= usize::try_from(self.params.limits.connections).unwrap_or(usize::MAX);
        (full && !self.voters.contains(&other)).then_some("no room for another connection")
    }
}

impl World {
    /// Where an address leads: `/p2p/..` at its end only says whom to expect there.
    fn lookup(&self, address: &str) -> Option<NodeId> {
        let place = address.split("/p2p/").next().unwrap_or(address);
        self.nodes.iter().find(|(_, node)| node.address == place).map(|(id, _)| *id)
    }

    pub fn dial(&mut self, id: NodeId, named: Option<NodeId>, addresses: &[String]) {
        let mut targets: Vec<(NodeId, String)> =
            addresses.iter().filter_map(|text| Some((self.lookup(text)?, text.clone()))).collect();
        if addresses.is_empty() {
            // As kad would find it by its name.
            let known = named.and_then(|node| Some((node, self.nodes.get(&node)?.address.clone())));
            targets.extend(known);
        }
        let failed = |address: &str, reason: &str| Event::DialFailed {
            node: named,
            address: address.to_owned(),
            reason: reason.to_owned(),
        };
        let Some((to, address)) = targets.iter().find(|(to, _)| named.is_none_or(|node| node == *to)).cloned() else {
            let reason = if targets.is_empty() { "nobody listens there" } else { "another node answers there" };
            for address in addresses {
                self.emit(id, failed(address, reason));
            }
            if addresses.is_empty() {
                self.emit(id, failed("", "no address is known"));
            }
            return;
        };
        let now_ms = self.now_ms;
        let link = self.new_link();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if to == id || node.peers.contains_key(&to) || node.dialing.contains_key(&to) {
            return;
        }
        let pending_max = usize::try_from(node.params.limits.pending_outbound).unwrap_or(usize::MAX);
        let too_many = (node.dialing.len() >= pending_max).then_some("too many dials are under way");
        if let Some(reason) = node.refusal(to, now_ms).or(too_many) {
            return self.emit(id, failed(&address, reason));
        }
        node.dialing.insert(to, Dialing { link, address, named });
        self.post(Letter { from: id, to, link, packet: Packet::Dial });
        self.push(DIAL_TIMEOUT_MS, Due::DialTimeout { node: id, to, link });
    }

    pub fn dial_timed_out(&mut self, id: NodeId, to: NodeId, link: u64) {
        self.declined(to, id, link, "no answer in time".to_owned(), None);
    }

    pub fn decline(&mut self, letter: &Letter, reason: &str, wrong_network: Option<String>) {
        let packet = Packet::Declined { reason: reason.to_owned(), wrong_network };
        self.post(Letter { from: letter.to, to: letter.from, link: letter.link, packet });
    }

    /// Somebody dials `letter.to`.
    pub fn dialled(&mut self, letter: &Letter) {
        let Letter { from, to, link, .. } = *letter;
        let now_ms = self.now_ms;
        let Some((caller_chain, caller_address, caller_link)) = self
            .nodes
            .get(&from)
            .map(|caller| (caller.params.chain, caller.address.clone(), caller.peers.get(&to).map(|peer| peer.link)))
        else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if let Some(reason) = node.refusal(from, now_ms) {
            return self.decline(letter, reason, None);
        }
        if node.params.chain != caller_chain {
            node.bans.insert(from, now_ms + WRONG_NETWORK_MS);
            let ours = tables::network_version(&node.params.chain);
            let theirs = tables::network_version(&caller_chain);
            self.emit(to, Event::Misbehaved { node: from, offence: Offence::WrongNetwork { theirs } });
            return self.decline(letter, "another network", Some(ours));
        }
        if let Some(peer) = node.peers.get(&from) {
            // A live link stays; one whose other end has forgotten it (a restart) is replaced.
            if caller_link == Some(peer.link) {
                return;
            }
            self.unlink(to, from);
        }
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if node.dialing.contains_key(&from) {
            // Both dial at once: the dial of the lower name stands, the other is forgotten.
            if to < from {
                return;
            }
            node.dialing.remove(&from);
        }
        node.peers.insert(from, Peer { link, admitted: false, floor_ms: 0 });
        node.redial.reached(from);
        self.emit(to, Event::Connected { node: from, address: caller_address, outbound: false });
        self.post(Letter { from: to, to: from, link, packet: Packet::Accept });
    }

    pub fn accepted(&mut self, from: NodeId, to: NodeId, link: u64) {
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if node.dialing.get(&from).is_none_or(|dialing| dialing.link != link) {
            // We gave up waiting: the other end must not keep half a link.
            if node.peers.get(&from).is_none_or(|peer| peer.link != link) {
                self.post(Letter { from: to, to: from, link, packet: Packet::Close });
            }
            return;
        }
        let address = node.dialing.remove(&from).map(|dialing| dialing.address).unwrap_or_default();
        node.peers.insert(from, Peer { link, admitted: false, floor_ms: 0 });
        node.redial.reached(from);
        self.emit(to, Event::Connected { node: from, address, outbound: true });
    }

    /// The dial of `to` towards `from` has come to nothing.
    pub fn declined(&mut self, from: NodeId, to: NodeId, link: u64, reason: String, wrong_network: Option<String>) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&to) else { return };
        let Some(dialing) = node.dialing.get(&from).filter(|dialing| dialing.link == link) else { return };
        let (named, address) = (dialing.named, dialing.address.clone());
        node.dialing.remove(&from);
        if let Some(theirs) = wrong_network {
            node.bans.insert(from, now_ms + WRONG_NETWORK_MS);
            self.emit(to, Event::Misbehaved { node: from, offence: Offence::WrongNetwork { theirs } });
        }
        self.emit(to, Event::DialFailed { node: named, address, reason });
    }

    /// One end lets go of the other.
    pub fn unlink(&mut self, id: NodeId, peer: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.peers.remove(&peer).is_none() {
            return;
        }
        let (asks, tickets) = node.desk.close_peer(peer);
        node.tickets.retain(|_, (from, ..)| *from != peer);
        for ask in asks {
            self.emit(id, Event::AskFailed { id: ask, reason: AskError::Closed });
        }
        for ticket in tickets {
            self.emit(id, Event::AskWithdrawn { ticket });
        }
        self.emit(id, Event::Disconnected { node: peer });
    }

    /// Lets go and says so to the other end.
    fn hang_up(&mut self, id: NodeId, peer: NodeId) {
        let Some(link) = self.nodes.get(&id).and_then(|node| node.peers.get(&peer)).map(|peer| peer.link) else {
            return;
        };
        self.post(Letter { from: id, to: peer, link, packet: Packet::Close });
        self.unlink(id, peer);
    }

    pub fn disconnect(&mut self, id: NodeId, peer: NodeId, ban_ms: Option<u64>) {
        let until = ban_ms.map(|ms| self.now_ms.saturating_add(ms));
        if let Some((node, until)) = self.nodes.get_mut(&id).zip(until) {
            if node.bans.len() >= node.params.limits.bans {
                let first = node.bans.iter().min_by_key(|(_, until)| **until).map(|(node, _)| *node);
                first.map(|first| node.bans.remove(&first));
            }
            node.bans.insert(peer, until);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.dialing.remove(&peer);
        }
        self.hang_up(id, peer);
    }

    pub fn admit(&mut self, id: NodeId, peer: NodeId) {
        let soon_ms = self.now_ms + 200;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.walk_ms = node.walk_ms.min(soon_ms);
        if let Some(peer) = node.peers.get_mut(&peer) {
            peer.admitted = true;
        }
    }

    pub fn chaos(&mut self, id: NodeId, blocked: Vec<NodeId>, lag_ms: u64) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.params.dev) else { return };
        node.blocked = blocked.iter().copied().collect();
        self.set_lag(id, lag_ms);
        for peer in blocked {
            self.hang_up(id, peer);
        }
    }

    /// Takes a node out of the world: politely, or as a crash does.
    pub fn leave(&mut self, id: NodeId, politely: bool) {
        let peers: Vec<NodeId> =
            self.nodes.get(&id).map(|node| node.peers.keys().copied().collect()).unwrap_or_default();
        for peer in peers {
            self.hang_up(id, peer);
        }
        if politely {
            self.emit(id, Event::Stopped);
        } else {
            self.silence(id);
        }
        self.nodes.remove(&id);
    }

    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        let now_ms = self.now_ms;
        self.cuts.entry((from, to)).or_insert(now_ms);
        for (node, peer) in [(from, to), (to, from)] {
            let link = self.nodes.get(&node).and_then(|node| node.peers.get(&peer)).map(|peer| peer.link);
            if let Some(link) = link {
                self.push(LINK_TIMEOUT_MS, Due::Probe { node, peer, link });
            }
        }
    }

    /// Lets go of a link whose other end is gone, or over which nothing has passed for too long.
    pub fn probe(&mut self, id: NodeId, peer: NodeId, link: u64) {
        let holds = |a: NodeId, b: NodeId| {
            self.nodes.get(&a).and_then(|node| node.peers.get(&b)).is_some_and(|peer| peer.link == link)
        };
        if !holds(id, peer) {
            return;
        }
        let long_cut = |a: NodeId, b: NodeId| {
            self.cuts.get(&(a, b)).is_some_and(|since| self.now_ms.saturating_sub(*since) >= LINK_TIMEOUT_MS)
        };
        if !holds(peer, id) || long_cut(id, peer) || long_cut(peer, id) {
            self.unlink(id, peer);
        }
    }

    /// Once a second: dial whom we want, and look whom our peers know.
    pub fn tick(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.bans.retain(|_, until| *until > now_ms);
        let few = node.peers.len() < node.params.limits.peers_min;
        let Node { redial, peers, .. } = node;
        let dials = redial.due(now_ms, few, |other| peers.contains_key(other));
        let walk = node.walk_ms <= now_ms && node.peers.len() < node.params.limits.peers_target;
        for (node, addresses) in dials {
            self.dial(id, node, &addresses);
        }
        if walk {
            self.walk(id);
        }
    }

    fn walk(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.walk_ms = now_ms + WALK_MS;
        let Some(node) = self.nodes.get(&id) else { return };
        let mut found = std::collections::BTreeMap::new();
        for (peer, _) in node.peers.iter().filter(|(_, peer)| peer.admitted) {
            if self.cuts.contains_key(&(*peer, id)) || self.cuts.contains_key(&(id, *peer)) {
                continue;
            }
            let Some(friend) = self.nodes.get(peer) else { continue };
            for (other, _) in friend.peers.iter().filter(|(_, peer)| peer.admitted) {
                let known = *other == id || node.peers.contains_key(other) || node.dialing.contains_key(other);
                if let Some(other_node) = self.nodes.get(other).filter(|_| !known) {
                    found.insert(*other, other_node.address.clone());
                }
            }
        }
        for (other, address) in found {
            self.emit(id, Event::Discovered { node: other, addresses: vec![address] });
        }
    }
}
