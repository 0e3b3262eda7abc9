//! How a node behaves on a connection: libp2p's behaviours in one fixed order, and the transport beneath them.
//!
//! The order matters: limits and refusals come before anything that would spend work on a connection. This file only
//! builds; what the parts report is heard in `swarm`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::NameServerConfig;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::metrics::Registry;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, Transport, allow_block_list, autonat, connection_limits, dcutr, dns, identify, kad, mdns,
    memory_connection_limits, noise, ping, quic, relay, tcp, yamux,
};

use super::exchange::{self, Rpc};
use super::guard::Guard;
use super::{NetError, Params, Protocol, gossip, identity, providers, tables};

/// Streams of one TCP connection: 256 KiB of window each.
const YAMUX_STREAMS: usize = 128;

/// Everything a node does on its connections, in the order in which it is asked.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub struct Behaviour {
    pub limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub guard: Guard,
    pub gossip: gossip::Gossipsub,
    pub kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    autonat_client: autonat::v2::client::Behaviour,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    relay_client: relay::client::Behaviour,
    relay_server: Toggle<relay::Behaviour>,
    dcutr: dcutr::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub hello: Rpc,
    pub goodbye: Rpc,
    pub sync: Rpc,
    pub fetch: Rpc,
    pub artifact: Rpc,
    pub streams: libp2p_stream::Behaviour,
}

impl Behaviour {
    /// The behaviour that carries a protocol of one request and one answer.
    pub fn rpc(&mut self, protocol: Protocol) -> Option<&mut Rpc> {
        match protocol {
            Protocol::Hello => Some(&mut self.hello),
            Protocol::Goodbye => Some(&mut self.goodbye),
            Protocol::Sync => Some(&mut self.sync),
            Protocol::Fetch => Some(&mut self.fetch),
            Protocol::Artifact => Some(&mut self.artifact),
            Protocol::Query => None,
        }
    }

    pub fn build(
        params: &Params,
        keypair: &Keypair,
        relay_client: relay::client::Behaviour,
        registry: &mut Registry,
    ) -> Result<Self, NetError> {
        let peer = keypair.public().to_peer_id();
        let serves = params.boot || params.public;
        let allowed: Option<HashSet<PeerId>> =
            params.allowed.as_ref().map(|nodes| nodes.iter().filter_map(|node| identity::peer_of(*node)).collect());
        let outbound_max = usize::try_from(params.limits.outbound).unwrap_or(usize::MAX);
        let ping = ping::Config::new().with_interval(Duration::from_millis(params.limits.ping_ms));
        Ok(Self {
            limits: connection_limits::Behaviour::new(connection_limits_of(params)),
            memory: memory_connection_limits::Behaviour::with_max_bytes(params.limits.memory_bytes),
            blocked: allow_block_list::Behaviour::default(),
            guard: Guard::new(params.dev, outbound_max, allowed),
            gossip: gossip::build(params, registry)?,
            kad: kad_of(params, peer)?,
            identify: identify::Behaviour::new(
                identify::Config::new(tables::network_version(&params.chain), keypair.public())
                    .with_agent_version(params.agent.clone())
                    .with_push_listen_addr_updates(true),
            ),
            ping: ping::Behaviour::new(ping),
            autonat_client: autonat::v2::client::Behaviour::default(),
            autonat_server: Toggle::from(serves.then(autonat::v2::server::Behaviour::default)),
            relay_client,
            relay_server: Toggle::from(params.boot.then(|| relay::Behaviour::new(peer, relay::Config::default()))),
            dcutr: dcutr::Behaviour::new(peer),
            mdns: Toggle::from(mdns_of(params, peer)),
            hello: exchange::rpc(&params.chain, Protocol::Hello)?,
            goodbye: exchange::rpc(&params.chain, Protocol::Goodbye)?,
            sync: exchange::rpc(&params.chain, Protocol::Sync)?,
            fetch: exchange::rpc(&params.chain, Protocol::Fetch)?,
            artifact: exchange::rpc(&params.chain, Protocol::Artifact)?,
            streams: libp2p_stream::Behaviour::new(),
        })
    }
}

/// A protocol name as libp2p wants it.
pub fn protocol_name(name: String) -> Result<StreamProtocol, NetError> {
    StreamProtocol::try_from_owned(name).map_err(|e| NetError::Build(format!("a protocol name: {e}")))
}

fn connection_limits_of(params: &Params) -> connection_limits::ConnectionLimits {
    let limits = &params.limits;
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits.pending_inbound))
        .with_max_pending_outgoing(Some(limits.pending_outbound))
        .with_max_established_incoming(Some(limits.inbound))
        .with_max_established_outgoing(Some(limits.outbound))
        .with_max_established(Some(limits.connections))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
}

fn kad_of(params: &Params, peer: PeerId) -> Result<kad::Behaviour<MemoryStore>, NetError> {
    let mut config = kad::Config::new(protocol_name(tables::kad_path(&params.chain))?);
    config
        .disjoint_query_paths(true)
        // Only peers that have passed the handshake come into the table, and only by our hand (N15).
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        // Records are not used: what arrives is dropped. Provider records are judged by our own table first (N29).
        .set_provider_record_ttl(Some(Duration::from_millis(providers::LIFE_MS)))
        .set_provider_publication_interval(Some(Duration::from_millis(providers::REPUBLISH_MS)))
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_periodic_bootstrap_interval(None)
        .set_query_timeout(Duration::from_secs(20));
    let store = MemoryStoreConfig {
        max_provided_keys: providers::KEYS_MAX + providers::PROVIDED_MAX,
        // Ours may stand beside all of the table's.
        max_providers_per_key: providers::PER_KEY_MAX + 1,
        ..MemoryStoreConfig::default()
    };
    let mut kad = kad::Behaviour::with_config(peer, MemoryStore::with_config(peer, store), config);
    if params.boot || params.public || params.dev {
        kad.set_mode(Some(kad::Mode::Server));
    }
    Ok(kad)
}

fn mdns_of(params: &Params, peer: PeerId) -> Option<mdns::tokio::Behaviour> {
    if !(params.dev && params.mdns) {
        return None;
    }
    mdns::tokio::Behaviour::new(mdns::Config::default(), peer)
        .inspect_err(
            |error| tracing::warn!(%error, "mdns does not start; peers on this link are found by address only"),
        )
        .ok()
}

type Muxed = Boxed<(PeerId, StreamMuxerBox)>;

/// TCP and QUIC, names resolved, and the relay's circuits beside them.
pub fn transport(params: &Params, keypair: &Keypair) -> Result<(Muxed, relay::client::Behaviour), NetError> {
    let named = match resolver(params)? {
        Some((config, options)) => dns::tokio::Transport::custom(direct(keypair)?, config, options).boxed(),
        None => match dns::tokio::Transport::system(direct(keypair)?) {
            Ok(transport) => transport.boxed(),
            Err(error) => {
                // A container without a resolver file must still start (N: only names then fail, one by one).
                tracing::warn!(%error, "no system resolver: /etc/hosts is read, other names are not found");
                let (config, options) = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
                dns::tokio::Transport::custom(direct(keypair)?, config, options).boxed()
            }
        },
    };
    let (circuits, client) = relay::client::new(keypair.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise_of(keypair)?)
        .multiplex(yamux_config())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = OrTransport::new(circuits, named).map(|either, _| either.into_inner());
    Ok((both.boxed(), client))
}

fn direct(keypair: &Keypair) -> Result<Muxed, NetError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise_of(keypair)?)
        .multiplex(yamux_config())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = quic::tokio::Transport::new(quic::Config::new(keypair))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}

fn noise_of(keypair: &Keypair) -> Result<noise::Config, NetError> {
    noise::Config::new(keypair).map_err(|e| NetError::Build(format!("noise: {e}")))
}

fn yamux_config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(YAMUX_STREAMS);
    config
}

/// The resolver that the operator has named, if any.
fn resolver(params: &Params) -> Result<Option<(dns::ResolverConfig, dns::ResolverOpts)>, NetError> {
    let Some(text) = &params.nameserver else { return Ok(None) };
    let (ip, port) = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
        (Ok(address), _) => (address.ip(), Some(address.port())),
        (_, Ok(ip)) => (ip, None),
        (_, Err(e)) => return Err(NetError::Address { what: text.clone(), reason: e.to_string() }),
    };
    let mut server = NameServerConfig::udp_and_tcp(ip);
    for connection in &mut server.connections {
        connection.port = port.unwrap_or(connection.port);
    }
    Ok(Some((dns::ResolverConfig::from_name_servers(vec![server]), dns::ResolverOpts::default())))
}
