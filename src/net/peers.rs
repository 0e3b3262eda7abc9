//! Whom we are connected to, by libp2p's account, and when a connection becomes a peer.
//!
//! A connection is reported as `Connected` only after identify has named our network (N11); until then it is nobody. What
//! names another network is told so by our own identify, then disconnected and refused for ten minutes: not for ever,
//! since networks are upgraded.

use std::collections::{BTreeMap, HashMap, HashSet};

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, identify};

use super::guard::{ip_of, is_relayed};
use super::task::Task;
use super::{Event, Offence, identity, tables};
use crate::protocol::ids::NodeId;

/// Identify must have come by then.
const IDENTIFY_MS: u64 = 10_000;
/// A peer of another network is left this long to read our identify, so that it can say the same of us.
const FAREWELL_MS: u64 = 500;
const WRONG_NETWORK_MS: u64 = 600_000;

#[derive(Debug)]
struct Peer {
    connections: BTreeMap<ConnectionId, (Multiaddr, bool)>,
    since_ms: u64,
    identified: bool,
    serves_kad: bool,
    /// To be closed then.
    doomed_ms: Option<u64>,
}

/// The table of connected peers.
#[derive(Debug, Default)]
pub struct Peers {
    peers: HashMap<PeerId, Peer>,
}

impl Peers {
    pub fn is_identified(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.identified)
    }

    pub fn identified(&self) -> usize {
        self.peers.values().filter(|peer| peer.identified).count()
    }

    pub fn serves_kad(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.serves_kad)
    }

    fn ip(&self, peer: &PeerId) -> Option<std::net::IpAddr> {
        self.peers.get(peer)?.connections.values().find_map(|(address, _)| ip_of(address))
    }

    fn count(&self, outbound: bool) -> f64 {
        let count = self.peers.values().filter(|peer| {
            peer.identified && peer.connections.values().next().is_some_and(|(_, dialled)| *dialled == outbound)
        });
        f64::from(u32::try_from(count.count()).unwrap_or(u32::MAX))
    }
}

impl Task {
    pub(super) fn on_connection(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        self.dial_ended(id, None);
        let (address, outbound) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address.clone(), true),
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr.clone(), false),
        };
        let since_ms = self.now_ms();
        let entry = self.peers.peers.entry(peer).or_insert_with(|| Peer {
            connections: BTreeMap::new(),
            since_ms,
            identified: false,
            serves_kad: false,
            doomed_ms: None,
        });
        if entry.connections.is_empty() {
            // Until admitted, its messages are refused before they count as seen. Not earlier: gossipsub greets a new
            // peer with our topics only if it is not on this list.
            self.swarm.behaviour_mut().gossip.blacklist_peer(&peer);
        }
        entry.connections.insert(id, (address.clone(), outbound));
        if outbound && !is_relayed(&address) {
            // We have reached it there ourselves: the best hint there is.
            self.learn(peer, &[address], false);
        }
    }

    pub(super) fn on_disconnection(&mut self, peer: PeerId, id: ConnectionId, remaining: u32, cause: &'static str) {
        metrics::counter!("starling_net_connections_closed_total", "cause" => cause).increment(1);
        if let Some(entry) = self.peers.peers.get_mut(&peer) {
            entry.connections.remove(&id);
        }
        if remaining > 0 {
            return;
        }
        let was = self.peers.peers.remove(&peer).is_some_and(|peer| peer.identified);
        self.swarm.behaviour_mut().gossip.remove_blacklisted_peer(&peer);
        self.votes.connected(&peer, false);
        self.close_exchanges(&peer);
        if let Some(node) = identity::node_of(&peer).filter(|_| was) {
            self.emit(Event::Disconnected { node });
        }
    }

    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, connection_id } = event else { return };
        let now_ms = self.now_ms();
        let ours = tables::network_version(&self.params.chain);
        let Some(entry) = self.peers.peers.get_mut(&peer_id).filter(|peer| peer.doomed_ms.is_none()) else { return };
        let Some(node) = identity::node_of(&peer_id) else {
            entry.doomed_ms = Some(now_ms);
            return;
        };
        if info.protocol_version != ours {
            entry.doomed_ms = Some(now_ms + FAREWELL_MS);
            let theirs: String = info.protocol_version.chars().take(80).collect();
            tracing::info!(peer = %peer_id, %ours, %theirs, "a peer of another network");
            return self.emit(Event::Misbehaved { node, offence: Offence::WrongNetwork { theirs } });
        }
        let kad_path = tables::kad_path(&self.params.chain);
        entry.serves_kad = info.protocols.iter().any(|protocol| protocol.as_ref() == kad_path);
        let new = !std::mem::replace(&mut entry.identified, true);
        let connection = entry.connections.get(&connection_id).or_else(|| entry.connections.values().next());
        let (address, outbound) = connection.map(|(a, o)| (a.to_string(), *o)).unwrap_or_default();
        self.learn(peer_id, &info.listen_addrs, false);
        if new {
            self.discovery.redial.reached(node);
            self.votes.connected(&peer_id, true);
            self.emit(Event::Connected { node, address, outbound });
        }
        // What it says of itself, after it is known to be somebody.
        self.learn(peer_id, &info.listen_addrs, true);
    }

    pub(super) fn admit(&mut self, node: NodeId) {
        let Some(peer) = identity::peer_of(node).filter(|peer| self.peers.is_identified(peer)) else { return };
        let behaviour = self.swarm.behaviour_mut();
        behaviour.gossip.remove_blacklisted_peer(&peer);
        behaviour.guard.keep(peer, true);
        self.admit_to_kad(peer);
    }

    pub(super) fn disconnect(&mut self, node: NodeId, ban_ms: Option<u64>) {
        let Some(peer) = identity::peer_of(node) else { return };
        match ban_ms {
            Some(0) => self.lift(&peer),
            Some(ban_ms) => self.ban(peer, ban_ms),
            None => {}
        }
        // Not connected is as good.
        let _gone = self.swarm.disconnect_peer_id(peer);
    }

    fn ban(&mut self, peer: PeerId, ban_ms: u64) {
        let until_ms = self.now_ms().saturating_add(ban_ms);
        if let Some(lifted) = self.bans.ban(peer, self.peers.ip(&peer), until_ms) {
            self.unblock(&lifted);
        }
        self.swarm.behaviour_mut().blocked.block_peer(peer);
        self.swarm.behaviour_mut().kad.remove_peer(&peer);
        let ips = self.bans.ips();
        self.swarm.behaviour_mut().guard.set_banned_ips(ips);
    }

    fn lift(&mut self, peer: &PeerId) {
        if self.bans.lift(peer) {
            self.unblock(peer);
        }
    }

    fn unblock(&mut self, peer: &PeerId) {
        if !self.blocked.contains(peer) {
            self.swarm.behaviour_mut().blocked.unblock_peer(*peer);
        }
        let ips = self.bans.ips();
        self.swarm.behaviour_mut().guard.set_banned_ips(ips);
    }

    /// Trouble on purpose (`dev` only): refuse these, and no others for this reason.
    pub(super) fn block(&mut self, nodes: &[NodeId]) {
        let blocked: HashSet<PeerId> = nodes.iter().filter_map(|node| identity::peer_of(*node)).collect();
        let old = std::mem::replace(&mut self.blocked, blocked.clone());
        for peer in old.difference(&blocked).filter(|peer| !self.bans.is_banned(peer)) {
            self.swarm.behaviour_mut().blocked.unblock_peer(*peer);
        }
        for peer in blocked {
            self.swarm.behaviour_mut().blocked.block_peer(peer);
        }
    }

    /// Voters and bootnodes go past the caps on address ranges.
    pub(super) fn trust(&mut self) {
        let boot = self.params.bootnodes.iter().filter_map(|text| identity::peer_in(&text.parse().ok()?));
        let voters = self.votes.peers();
        self.swarm.behaviour_mut().guard.set_trusted(boot.chain(voters).collect());
    }

    /// Something a peer did, by its libp2p name.
    pub(super) fn misbehaved(&mut self, peer: PeerId, offence: Offence) {
        if let Some(node) = identity::node_of(&peer) {
            self.emit(Event::Misbehaved { node, offence });
        }
    }

    /// Ends what has had its time: bans, the doomed, and those who never said who they are.
    pub(super) fn peers_tick(&mut self) {
        let now_ms = self.now_ms();
        for peer in self.bans.ended(now_ms) {
            self.unblock(&peer);
        }
        let mut close = Vec::new();
        for (peer, entry) in &mut self.peers.peers {
            match entry.doomed_ms {
                Some(at) if at <= now_ms => close.push((*peer, None)),
                None if !entry.identified && entry.since_ms + IDENTIFY_MS <= now_ms => {
                    entry.doomed_ms = Some(now_ms);
                    close.push((*peer, Some(Offence::NoIdentity)));
                }
                _ => {}
            }
        }
        for (peer, offence) in close {
            match offence {
                Some(offence) => self.misbehaved(peer, offence),
                None => self.ban(peer, WRONG_NETWORK_MS),
            }
            let _gone = self.swarm.disconnect_peer_id(peer);
        }
        for (dir, outbound) in [("in", false), ("out", true)] {
            metrics::gauge!("starling_net_peers", "dir" => dir).set(self.peers.count(outbound));
        }
    }
}
