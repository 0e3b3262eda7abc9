//! Finding others: whom to dial, where they may be, and who told us.
//!
//! Owns the book of addresses, the list of those who are tried again, and the random walk through kad. Everything learned
//! here is a hint (N15): an address counts once a node has proved its key at it. Redialling never ends, because a network
//! must come together again however long it was apart.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use libp2p::kad::{self, Event as KadEvent, GetClosestPeersError, QueryResult};
use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, mdns};

use super::guard::{ip_of, is_private, is_relayed, range_of};
use super::redial::{Reason, Redial};
use super::task::Task;
use super::{Event, NetError, Params, identity};
use crate::protocol::chance::Chance;
use crate::protocol::ids::NodeId;

/// Longer texts are no addresses anybody needs.
const ADDRESS_BYTES_MAX: usize = 256;
/// Dials into one /24 or /48: one in this time (N16).
const RANGE_DIAL_MS: u64 = 60_000;
const RANGES_MAX: usize = 4_096;
/// Between random walks: short after something new, long when all is quiet.
const WALK_MS: (u64, u64) = (500, 60_000);

/// An address fit to be remembered and told: of a machine, and outside `dev` not of this one or its link.
pub fn is_usable(address: &Multiaddr, dev: bool) -> bool {
    if address.len() > ADDRESS_BYTES_MAX {
        return false;
    }
    let named =
        address.iter().any(|part| matches!(part, Part::Dns(_) | Part::Dns4(_) | Part::Dns6(_) | Part::Dnsaddr(_)));
    match ip_of(address) {
        Some(ip) if ip.is_unspecified() || ip.is_multicast() => false,
        Some(IpAddr::V4(ip)) => dev || !(ip.is_loopback() || ip.is_link_local()),
        Some(IpAddr::V6(ip)) => dev || !(ip.is_loopback() || ip.is_unicast_link_local()),
        None => named,
    }
}

/// The address without its `/p2p/..` end.
fn bare(mut address: Multiaddr) -> Multiaddr {
    if !is_relayed(&address) && matches!(address.iter().last(), Some(Part::P2p(_))) {
        address.pop();
    }
    address
}

/// Reads addresses; what is none is reported by its text.
fn read(texts: &[String]) -> (Vec<Multiaddr>, Vec<(String, String)>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for text in texts {
        match text.parse::<Multiaddr>() {
            Ok(address) => good.push(address),
            Err(error) => bad.push((text.clone(), error.to_string())),
        }
    }
    (good, bad)
}

/// Where nodes may be found. Full: the entry least recently useful goes.
#[derive(Debug)]
struct Book {
    entries: BTreeMap<PeerId, (u64, Vec<Multiaddr>)>,
    peers_max: usize,
    addresses_max: usize,
}

impl Book {
    fn add(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>, now_ms: u64) {
        if self.entries.len() >= self.peers_max && !self.entries.contains_key(&peer) {
            let oldest = self.entries.iter().min_by_key(|(_, (at, _))| *at).map(|(peer, _)| *peer);
            oldest.map(|peer| self.entries.remove(&peer));
        }
        let (at, known) = self.entries.entry(peer).or_default();
        *at = now_ms;
        for address in addresses.into_iter().map(bare) {
            known.retain(|other| *other != address);
            // The newest in front: it was true most recently.
            known.insert(0, address);
        }
        known.truncate(self.addresses_max);
    }

    fn get(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.entries.get(peer).map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }
}

/// The state of the search.
#[derive(Debug)]
pub struct Discovery {
    book: Book,
    pub redial: Redial,
    chance: Chance,
    /// Dials of ours under way: whom we hoped to reach, and where.
    dials: HashMap<ConnectionId, (Option<NodeId>, Vec<Multiaddr>)>,
    ranges: HashMap<[u8; 6], u64>,
    walk_ms: u64,
    walk_step_ms: u64,
    dev: bool,
}

impl Discovery {
    /// # Errors
    /// A bootnode's address cannot be read, or names nobody.
    pub fn new(params: &Params) -> Result<Self, NetError> {
        let mut chance = params.chance.clone();
        let mut redial = Redial::new(chance.fork("redial"));
        for (node, addresses) in &params.remembered {
            redial.add(Some(*node), addresses.clone(), Reason::Few);
        }
        for text in &params.bootnodes {
            let wrong = |reason: String| NetError::Address { what: format!("the bootnode {text}"), reason };
            let address: Multiaddr = text.parse().map_err(|e| wrong(format!("{e}")))?;
            let node = identity::peer_in(&address).and_then(|peer| identity::node_of(&peer));
            let by_name = address.iter().any(|part| matches!(part, Part::Dnsaddr(_)));
            if node.is_none() && !by_name {
                return Err(wrong("it must end in /p2p/<peer id>, so that we know whom we reached".to_owned()));
            }
            redial.add(node, vec![text.clone()], Reason::Few);
        }
        let book = Book {
            entries: BTreeMap::new(),
            peers_max: params.limits.known_peers,
            addresses_max: params.limits.addresses_per_peer,
        };
        Ok(Self {
            book,
            redial,
            chance: chance.fork("walk"),
            dials: HashMap::new(),
            ranges: HashMap::new(),
            walk_ms: 0,
            walk_step_ms: WALK_MS.0,
            dev: params.dev,
        })
    }

    /// Something new is known: look around soon.
    pub fn stir(&mut self, now_ms: u64) {
        self.walk_step_ms = WALK_MS.0;
        self.walk_ms = self.walk_ms.min(now_ms + WALK_MS.0);
    }

    /// Whether a dial into the range of this address is within the budget (N16).
    fn budget(&mut self, address: &Multiaddr, now_ms: u64) -> bool {
        let Some(ip) = ip_of(address).filter(|ip| !(self.dev && is_private(*ip))) else { return true };
        if self.ranges.len() >= RANGES_MAX {
            self.ranges.retain(|_, at| *at + RANGE_DIAL_MS > now_ms);
        }
        let last = self.ranges.entry(range_of(ip)).or_insert(0);
        let free = *last == 0 || *last + RANGE_DIAL_MS <= now_ms;
        if free {
            *last = now_ms.max(1);
        }
        free
    }
}

impl Task {
    /// Remembers where a node may be, and tells.
    pub(super) fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr], tell: bool) {
        let dev = self.params.dev;
        let max = self.params.limits.addresses_per_peer;
        let usable: Vec<Multiaddr> = addresses.iter().filter(|a| is_usable(a, dev)).take(max).cloned().collect();
        let Some(node) = identity::node_of(&peer).filter(|node| *node != self.local && !usable.is_empty()) else {
            return;
        };
        let now_ms = self.now_ms();
        self.discovery.book.add(peer, usable.iter().rev().cloned(), now_ms);
        if tell {
            self.emit(Event::Discovered { node, addresses: usable.iter().map(ToString::to_string).collect() });
        }
    }

    /// Where a node was found or said it may be found.
    pub(super) fn addresses_of(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.discovery.book.get(peer)
    }

    /// A dial somebody asked for. `trusted`: beside the budget, since it is not strangers who chose the address.
    pub(super) fn dial(&mut self, node: Option<NodeId>, texts: &[String], trusted: bool) {
        let (mut addresses, unreadable) = read(texts);
        for (address, reason) in unreadable {
            self.emit(Event::DialFailed { node, address, reason });
        }
        let named = node.and_then(identity::peer_of);
        if named.is_none() && node.is_none() {
            for address in addresses {
                self.dial_address(address, trusted);
            }
            return;
        }
        let Some(peer) = named else {
            let reason = "the node id is no ed25519 key".to_owned();
            return self.emit(Event::DialFailed { node, address: String::new(), reason });
        };
        addresses.retain(|address| identity::peer_in(address).is_none_or(|other| other == peer || is_relayed(address)));
        addresses.extend(self.discovery.book.get(&peer));
        self.dial_peer(peer, addresses, trusted);
    }

    /// An address of which only the place, or also the node at its end, is known.
    fn dial_address(&mut self, address: Multiaddr, trusted: bool) {
        if let Some(peer) = identity::peer_in(&address) {
            return self.dial_peer(peer, vec![address], trusted);
        }
        let options = DialOpts::unknown_peer_id().address(address.clone()).build();
        self.start_dial(options, None, vec![address], trusted);
    }

    fn dial_peer(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>, trusted: bool) {
        if self.swarm.is_connected(&peer) {
            return;
        }
        let mut seen = Vec::new();
        addresses.retain(|address| {
            let place = bare(address.clone());
            let new = !seen.contains(&place);
            seen.push(place);
            new
        });
        if addresses.is_empty() {
            // Ask around; whoever knows the place answers with `Discovered`, and the next try has it.
            self.swarm.behaviour_mut().kad.get_closest_peers(peer);
        }
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses.clone())
            .extend_addresses_through_behaviour()
            .build();
        self.start_dial(options, identity::node_of(&peer), addresses, trusted);
    }

    fn start_dial(&mut self, options: DialOpts, node: Option<NodeId>, addresses: Vec<Multiaddr>, trusted: bool) {
        let now_ms = self.now_ms();
        let first = addresses.first().cloned();
        if let Some(first) = first.filter(|_| !trusted)
            && !self.discovery.budget(&first, now_ms)
        {
            let reason = "another address of this range was dialled within a minute".to_owned();
            return self.emit(Event::DialFailed { node, address: first.to_string(), reason });
        }
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.discovery.dials.insert(id, (node, addresses));
            }
            // Connected or on the way already: nothing to report.
            Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.report_dial(node, &addresses, &error),
        }
    }

    pub(super) fn dial_ended(&mut self, id: ConnectionId, error: Option<&DialError>) {
        let result = if error.is_some() { "failed" } else { "connected" };
        metrics::counter!("starling_net_dials_total", "result" => result).increment(1);
        let Some((node, addresses)) = self.discovery.dials.remove(&id) else { return };
        match error {
            Some(DialError::DialPeerConditionFalse(_)) | None => {}
            Some(error) => self.report_dial(node, &addresses, error),
        }
    }

    /// One event for every address that was tried, with its own reason.
    fn report_dial(&mut self, node: Option<NodeId>, addresses: &[Multiaddr], error: &DialError) {
        if let DialError::Transport(errors) = error {
            for (address, error) in errors {
                let (address, reason) = (address.to_string(), chain(error));
                self.emit(Event::DialFailed { node, address, reason });
            }
            return;
        }
        let address = addresses.first().map(ToString::to_string).unwrap_or_default();
        self.emit(Event::DialFailed { node, address, reason: chain(error) });
    }

    /// Four times a second: dial whom we want, and walk when it is time.
    pub(super) fn discovery_tick(&mut self) {
        let now_ms = self.now_ms();
        let peers = self.peers.identified();
        let few = peers < self.params.limits.peers_min;
        let swarm = &self.swarm;
        let dials = self
            .discovery
            .redial
            .due(now_ms, few, |node| identity::peer_of(*node).is_some_and(|peer| swarm.is_connected(&peer)));
        for (node, addresses) in dials {
            self.dial(node, &addresses, true);
        }
        if peers > 0 && peers < self.params.limits.peers_target && self.discovery.walk_ms <= now_ms {
            let step = self.discovery.walk_step_ms;
            self.discovery.walk_step_ms = (step * 2).min(WALK_MS.1);
            self.discovery.walk_ms = now_ms + step;
            let target = self.discovery.chance.bytes32().to_vec();
            self.swarm.behaviour_mut().kad.get_closest_peers(target);
        }
    }

    /// The peer has passed the handshake: kad may tell others of it, if it answers kad at all.
    pub(super) fn admit_to_kad(&mut self, peer: PeerId) {
        if !self.peers.serves_kad(&peer) {
            return;
        }
        for address in self.addresses_of(&peer) {
            self.swarm.behaviour_mut().kad.add_address(&peer, address);
        }
        let now_ms = self.now_ms();
        self.discovery.stir(now_ms);
    }

    pub(super) fn on_kad(&mut self, event: KadEvent) {
        let (id, result, last) = match event {
            KadEvent::OutboundQueryProgressed { id, result, step, .. } => (id, result, step.last),
            KadEvent::InboundRequest { request } => return self.on_record(request),
            _ => return,
        };
        let QueryResult::GetClosestPeers(result) = result else { return self.on_providers(id, &result, last) };
        let peers = match result {
            Ok(found) => found.peers,
            Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        for kad::PeerInfo { peer_id, addrs } in peers {
            if !self.swarm.is_connected(&peer_id) && peer_id != *self.swarm.local_peer_id() {
                self.learn(peer_id, &addrs, true);
            }
        }
    }

    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else { return };
        for (peer, address) in found {
            self.learn(peer, &[address], true);
        }
    }
}

/// An error with all its causes, for people.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some of libp2p's errors say nothing themselves, others repeat their cause.
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::ChainId;

    #[test]
    fn only_addresses_of_machines_are_kept() {
        for (text, public, dev) in [
            ("/ip4/127.0.0.1/tcp/1", false, true),
            ("/ip4/0.0.0.0/tcp/1", false, false),
            ("/ip4/169.254.1.1/udp/1/quic-v1", false, true),
            ("/ip4/198.51.100.1/udp/1/quic-v1", true, true),
            ("/ip6/fe80::1/tcp/1", false, true),
            ("/ip6/2001:db8::1/tcp/1", true, true),
            ("/dns4/boot.example.org/tcp/1", true, true),
            ("/memory/1", false, false),
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!((is_usable(&address, false), is_usable(&address, true)), (public, dev), "{text}");
        }
    }

    #[test]
    fn the_book_is_bounded_and_keeps_the_newest() {
        let mut book = Book { entries: BTreeMap::new(), peers_max: 2, addresses_max: 2 };
        let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
        for (at, peer) in (1..).zip(peers) {
            let addresses = (1..=3).map(|port| format!("/ip4/198.51.100.1/tcp/{port}").parse().unwrap());
            book.add(peer, addresses, at);
        }
        assert!(book.get(&peers[0]).is_empty());
        let kept: Vec<String> = book.get(&peers[2]).iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["/ip4/198.51.100.1/tcp/3", "/ip4/198.51.100.1/tcp/2"]);
    }

    #[test]
    fn one_dial_a_minute_into_a_range() {
        let params = Params::new(ChainId([1; 32]), [1; 32]);
        let mut discovery = Discovery::new(&params).unwrap();
        let at = |text: &str| text.parse::<Multiaddr>().unwrap();
        assert!(discovery.budget(&at("/ip4/198.51.100.1/tcp/1"), 1));
        assert!(!discovery.budget(&at("/ip4/198.51.100.9/tcp/1"), 50_000));
        assert!(discovery.budget(&at("/ip4/198.51.101.9/tcp/1"), 50_000));
        assert!(discovery.budget(&at("/ip4/198.51.100.9/tcp/1"), 60_001));
    }

    #[test]
    fn a_bootnode_must_say_who_it_is() {
        let mut params = Params::new(ChainId([1; 32]), [1; 32]);
        params.bootnodes = vec!["/ip4/198.51.100.1/tcp/1".into()];
        assert!(matches!(Discovery::new(&params), Err(NetError::Address { .. })));
        params.bootnodes = vec!["/dnsaddr/boot.example.org".into()];
        assert!(Discovery::new(&params).is_ok());
    }
}
