//! The doorkeeper: who is refused before any handshake, whose connection is kept, and for how long a ban lasts.
//!
//! Owns the table of bans, the caps per address range and the keep-alive flag of each peer. It knows nothing of scores:
//! somebody else decides to ban, this file makes it hold. Refusing happens as early as the transport allows, because the
//! cost of a refused connection is what an attacker makes us pay.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// Inbound connections of one /24 (v4) or /48 (v6) at a time.
const INBOUND_PER_RANGE: usize = 16;
/// More banned peers than this on one address: the address is banned.
const BANNED_PEERS_PER_IP: usize = 5;

/// The address an endpoint is reached at, if it is a plain IP address.
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

/// Whether the connection runs through a relay.
pub fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// Addresses of one machine or one site, which a development network uses for everybody.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The range an address counts for: /24 or /48.
pub fn range_of(ip: IpAddr) -> [u8; 6] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [0, 0, 4, a, b, c]
        }
        IpAddr::V6(ip) => ip.octets().first_chunk::<6>().copied().unwrap_or_default(),
    }
}

/// The wide range: /16 or /32.
fn wide_range_of(ip: IpAddr) -> [u8; 4] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            [0, 4, a, b]
        }
        IpAddr::V6(ip) => ip.octets().first_chunk::<4>().copied().unwrap_or_default(),
    }
}

/// Who is banned and until when. Time is an argument.
#[derive(Debug)]
pub struct Bans {
    peers: BTreeMap<PeerId, (u64, Option<IpAddr>)>,
    max: usize,
}

impl Bans {
    pub fn new(max: usize) -> Self {
        Self { peers: BTreeMap::new(), max }
    }

    /// Bans a peer; when the table is full, the ban that would end first is lifted for it.
    pub fn ban(&mut self, peer: PeerId, ip: Option<IpAddr>, until_ms: u64) -> Option<PeerId> {
        let mut lifted = None;
        if self.peers.len() >= self.max && !self.peers.contains_key(&peer) {
            lifted = self.peers.iter().min_by_key(|(_, (until, _))| *until).map(|(peer, _)| *peer);
            lifted.map(|first| self.peers.remove(&first));
        }
        self.peers.insert(peer, (until_ms, ip));
        lifted
    }

    pub fn lift(&mut self, peer: &PeerId) -> bool {
        self.peers.remove(peer).is_some()
    }

    pub fn is_banned(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Takes out what has ended.
    pub fn ended(&mut self, now_ms: u64) -> Vec<PeerId> {
        let ended: Vec<PeerId> =
            self.peers.iter().filter(|(_, (until, _))| *until <= now_ms).map(|(peer, _)| *peer).collect();
        for peer in &ended {
            self.peers.remove(peer);
        }
        ended
    }

    /// Addresses that hold too many banned peers.
    pub fn ips(&self) -> HashSet<IpAddr> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for ip in self.peers.values().filter_map(|(_, ip)| *ip) {
            *counts.entry(ip).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > BANNED_PEERS_PER_IP).map(|(ip, _)| ip).collect()
    }
}

/// Why a connection was refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the address is banned")]
    Ip,
    #[error("too many connections from this address range")]
    Range,
    #[error("too many of our connections lead into this address range")]
    Outbound,
    #[error("the node is not on the list of allowed nodes")]
    NotAllowed,
    #[error("this node is stopping")]
    Stopping,
}

/// The behaviour that refuses at the door and keeps wanted connections open.
#[derive(Debug)]
pub struct Guard {
    dev: bool,
    outbound_max: usize,
    allowed: Option<HashSet<PeerId>>,
    banned_ips: HashSet<IpAddr>,
    /// Peers that go past the caps: voters and bootnodes.
    trusted: HashSet<PeerId>,
    wanted: HashMap<PeerId, Arc<AtomicBool>>,
    ranges: HashMap<ConnectionId, (IpAddr, bool)>,
    /// The node is stopping: nobody comes in, and we go nowhere.
    shut: bool,
}

impl Guard {
    pub fn new(dev: bool, outbound_max: usize, allowed: Option<HashSet<PeerId>>) -> Self {
        Self {
            dev,
            outbound_max,
            allowed,
            banned_ips: HashSet::new(),
            trusted: HashSet::new(),
            wanted: HashMap::new(),
            ranges: HashMap::new(),
            shut: false,
        }
    }

    /// From now on every new connection is refused, also of those who go past the limits.
    pub fn shut(&mut self) {
        self.shut = true;
    }

    pub fn set_banned_ips(&mut self, ips: HashSet<IpAddr>) {
        self.banned_ips = ips;
        if self.dev {
            // There, one address is everybody.
            self.banned_ips.retain(|ip| !is_private(*ip));
        }
    }

    pub fn set_trusted(&mut self, peers: HashSet<PeerId>) {
        self.trusted = peers;
    }

    /// Keeps the connections of a peer open though nothing is said on them (ping and requests do not).
    pub fn keep(&mut self, peer: PeerId, wanted: bool) {
        self.flag(peer).store(wanted, Ordering::Relaxed);
    }

    /// The peer is gone; its flag with it.
    pub fn forget(&mut self, peer: &PeerId) {
        self.wanted.remove(peer);
    }

    fn flag(&mut self, peer: PeerId) -> Arc<AtomicBool> {
        Arc::clone(self.wanted.entry(peer).or_default())
    }

    fn check_allowed(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        match &self.allowed {
            Some(allowed) if !allowed.contains(peer) => Err(ConnectionDenied::new(Refused::NotAllowed)),
            _ => Ok(()),
        }
    }

    fn exempt(&self, ip: IpAddr) -> bool {
        self.dev && is_private(ip)
    }

    fn check_inbound(&self, address: &Multiaddr) -> Result<(), Refused> {
        if self.shut {
            return Err(Refused::Stopping);
        }
        let Some(ip) = ip_of(address) else { return Ok(()) };
        if self.banned_ips.contains(&ip) {
            return Err(Refused::Ip);
        }
        let range = range_of(ip);
        let same = self.ranges.values().filter(|(other, inbound)| *inbound && range_of(*other) == range).count();
        if same >= INBOUND_PER_RANGE && !self.exempt(ip) {
            return Err(Refused::Range);
        }
        Ok(())
    }

    /// Never more than a quarter of what we dial in one /16 or /32 (N16): who holds one range must not hold our view.
    fn check_outbound(&self, peer: &PeerId, address: &Multiaddr) -> Result<(), Refused> {
        if self.shut {
            return Err(Refused::Stopping);
        }
        let Some(ip) = ip_of(address) else { return Ok(()) };
        if self.trusted.contains(peer) || self.exempt(ip) {
            return Ok(());
        }
        let range = wide_range_of(ip);
        let same = self.ranges.values().filter(|(other, inbound)| !inbound && wide_range_of(*other) == range).count();
        if same >= (self.outbound_max / 4).max(1) { Err(Refused::Outbound) } else { Ok(()) }
    }
}

impl NetworkBehaviour for Guard {
    type ConnectionHandler = KeepAlive;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check_inbound(remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check_allowed(&peer)?;
        Ok(KeepAlive { wanted: self.flag(peer) })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check_allowed(&peer)?;
        self.check_outbound(&peer, address).map_err(ConnectionDenied::new)?;
        Ok(KeepAlive { wanted: self.flag(peer) })
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(new) => {
                let (address, inbound) = match new.endpoint {
                    ConnectedPoint::Dialer { address, .. } => (address, false),
                    ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr, true),
                };
                if let Some(ip) = ip_of(address) {
                    self.ranges.insert(new.connection_id, (ip, inbound));
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.ranges.remove(&closed.connection_id);
                if closed.remaining_established == 0 {
                    self.forget(&closed.peer_id);
                }
            }
            // A connection that was refused by another behaviour after we made its flag.
            FromSwarm::DialFailure(failed) => {
                if let Some(peer) = failed.peer_id {
                    self.wanted.retain(|other, flag| *other != peer || Arc::strong_count(flag) > 1);
                }
            }
            FromSwarm::ListenFailure(_) => self.wanted.retain(|_, flag| Arc::strong_count(flag) > 1),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Says for one connection whether it is to be kept.
#[derive(Debug)]
pub struct KeepAlive {
    wanted: Arc<AtomicBool>,
}

impl ConnectionHandler for KeepAlive {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {}
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        Poll::Pending
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn many_banned_peers_ban_their_address_and_bans_end() {
        let mut bans = Bans::new(10);
        let ip: IpAddr = "203.0.113.7".parse().unwrap();
        for i in 0..6 {
            assert!(bans.ips().is_empty());
            bans.ban(PeerId::random(), Some(ip), 100 + i);
        }
        assert!(bans.ips().contains(&ip));
        assert_eq!(bans.ended(100).len(), 1);
        assert!(bans.ips().is_empty());
        let first = *bans.peers.iter().min_by_key(|(_, (until, _))| *until).unwrap().0;
        for _ in 0..5 {
            assert_eq!(bans.ban(PeerId::random(), None, 900), None);
        }
        assert_eq!(bans.ban(PeerId::random(), None, 900), Some(first));
    }

    #[test]
    fn ranges_are_capped_and_private_ones_only_outside_dev() {
        let mut guard = Guard::new(false, 40, None);
        for i in 0..16 {
            guard.ranges.insert(ConnectionId::new_unchecked(i), (ip_of(&at("/ip4/198.51.100.1")).unwrap(), true));
        }
        assert_eq!(guard.check_inbound(&at("/ip4/198.51.100.200/tcp/1")), Err(Refused::Range));
        assert_eq!(guard.check_inbound(&at("/ip4/198.51.101.1/tcp/1")), Ok(()));
        for i in 20..30 {
            guard.ranges.insert(ConnectionId::new_unchecked(i), (ip_of(&at("/ip4/10.0.7.1")).unwrap(), false));
        }
        let (peer, address) = (PeerId::random(), at("/ip4/10.0.9.9/tcp/1"));
        assert_eq!(guard.check_outbound(&peer, &address), Err(Refused::Outbound));
        guard.set_trusted(HashSet::from([peer]));
        assert_eq!(guard.check_outbound(&peer, &address), Ok(()));
        guard.dev = true;
        assert_eq!(guard.check_outbound(&PeerId::random(), &address), Ok(()));
    }
}
