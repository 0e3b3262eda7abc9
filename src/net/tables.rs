//! The tables of the network: topics, protocols, limits, and the names they carry on the wire.
//!
//! Numbers live here and nowhere else. A number may change with a measurement; a name may not, for it is what two nodes
//! must agree on (N11, N13).

use crate::protocol::ids::ChainId;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What is said to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    Proposal,
    Certificate,
    Vote,
    Transaction,
    Weights,
    Presence,
}

impl Topic {
    pub const ALL: [Self; 6] =
        [Self::Proposal, Self::Certificate, Self::Vote, Self::Transaction, Self::Weights, Self::Presence];

    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposal => "proposal",
            Self::Certificate => "certificate",
            Self::Vote => "vote",
            Self::Transaction => "tx",
            Self::Weights => "weights",
            Self::Presence => "presence",
        }
    }

    /// The whole topic name: another network, another name (N11).
    pub fn path(self, chain: &ChainId) -> String {
        format!("/starling/{}/{}/1", chain.netid(), self.name())
    }

    /// The most bytes of one message.
    pub fn max_bytes(self) -> usize {
        match self {
            Self::Proposal => MIB + MIB / 2,
            Self::Certificate => 16 * KIB,
            Self::Vote => 512,
            Self::Transaction => 20 * KIB,
            Self::Weights => 48 * KIB,
            Self::Presence => KIB,
        }
    }

    /// How much the behaviour on this topic counts in a peer's gossip score.
    pub fn weight(self) -> f64 {
        match self {
            Self::Proposal | Self::Certificate => 0.5,
            Self::Weights => 0.3,
            Self::Vote => 0.2,
            Self::Transaction => 0.1,
            Self::Presence => 0.05,
        }
    }

    /// Messages to expect per second in a network of `nodes`, from which score caps are computed.
    pub fn expected_per_s(self, nodes: usize) -> f64 {
        let nodes = f64::from(u32::try_from(nodes.max(1)).unwrap_or(u32::MAX));
        match self {
            Self::Proposal => 1.0,
            Self::Certificate => 2.0,
            Self::Vote => 0.1,
            Self::Transaction => 10.0,
            Self::Weights => 0.2,
            Self::Presence => nodes / 60.0,
        }
    }

    /// Whether a peer in our mesh is expected to deliver: only where messages come at a steady rate (N24).
    pub fn mesh_deficit(self) -> bool {
        matches!(self, Self::Proposal | Self::Certificate)
    }
}

/// What is asked of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Hello,
    Goodbye,
    Sync,
    Fetch,
    Query,
    Artifact,
}

impl Protocol {
    pub const ALL: [Self; 6] = [Self::Hello, Self::Goodbye, Self::Sync, Self::Fetch, Self::Query, Self::Artifact];
    /// Those carried by one request and one answer; the rest use a stream of their own.
    pub const RPC: [Self; 5] = [Self::Hello, Self::Goodbye, Self::Sync, Self::Fetch, Self::Artifact];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Goodbye => "goodbye",
            Self::Sync => "sync",
            Self::Fetch => "fetch",
            Self::Query => "query",
            Self::Artifact => "artifact",
        }
    }

    /// The whole protocol id.
    pub fn path(self, chain: &ChainId) -> String {
        format!("/starling/{}/{}/1", chain.netid(), self.name())
    }

    pub fn spec(self) -> &'static ProtocolSpec {
        match self {
            Self::Hello => &HELLO,
            Self::Goodbye => &GOODBYE,
            Self::Sync => &SYNC,
            Self::Fetch => &FETCH,
            Self::Query => &QUERY,
            Self::Artifact => &ARTIFACT,
        }
    }
}

/// The limits of one protocol. Bytes count the payload, not our few bytes of framing.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolSpec {
    pub request_bytes_max: usize,
    /// Of one answer frame.
    pub answer_bytes_max: usize,
    /// Of all frames of an answer together.
    pub answer_total_max: usize,
    /// The longest an exchange may take; of a query, until its first frame.
    pub timeout_ms: u64,
    /// Items a peer may ask for in `quota_ms`.
    pub quota_items: u32,
    pub quota_ms: u64,
    /// Items of one request.
    pub items_max: u16,
    /// Requests of one peer under way at once.
    pub in_flight: usize,
}

const HELLO: ProtocolSpec = ProtocolSpec {
    request_bytes_max: 8 * KIB,
    answer_bytes_max: 8 * KIB,
    answer_total_max: 8 * KIB,
    timeout_ms: 5_000,
    quota_items: 3,
    quota_ms: 60_000,
    items_max: 1,
    in_flight: 1,
};
const GOODBYE: ProtocolSpec = ProtocolSpec {
    request_bytes_max: 64,
    answer_bytes_max: 0,
    answer_total_max: 0,
    timeout_ms: 1_000,
    quota_items: 1,
    quota_ms: 10_000,
    items_max: 1,
    in_flight: 1,
};
const SYNC: ProtocolSpec = ProtocolSpec {
    request_bytes_max: KIB,
    answer_bytes_max: 4 * MIB,
    answer_total_max: 4 * MIB,
    timeout_ms: 15_000,
    quota_items: 2_048,
    quota_ms: 10_000,
    items_max: 64,
    in_flight: 4,
};
const FETCH: ProtocolSpec = ProtocolSpec {
    request_bytes_max: 2 * KIB,
    answer_bytes_max: MIB + MIB / 2,
    answer_total_max: MIB + MIB / 2,
    timeout_ms: 10_000,
    quota_items: 256,
    quota_ms: 10_000,
    items_max: 64,
    in_flight: 8,
};
const QUERY: ProtocolSpec = ProtocolSpec {
    request_bytes_max: MIB,
    answer_bytes_max: 256 * KIB,
    answer_total_max: 16 * MIB,
    timeout_ms: 10_000,
    quota_items: 64,
    quota_ms: 10_000,
    items_max: 1,
    in_flight: 32,
};

/// A chunk of 1 MiB, or a chunk list; an item is a chunk (N26, N31). `Limits::artifact_items` may set another quota.
const ARTIFACT: ProtocolSpec = ProtocolSpec {
    request_bytes_max: 128,
    answer_bytes_max: 2 * MIB + KIB,
    answer_total_max: 2 * MIB + KIB,
    timeout_ms: 20_000,
    quota_items: 256,
    quota_ms: 10_000,
    items_max: 1,
    in_flight: 4,
};

/// The vote stream: frames of one way (N22).
pub const VOTE_FRAME_BYTES_MAX: usize = 160;

/// The id of the vote stream.
pub fn vote_path(chain: &ChainId) -> String {
    format!("/starling/{}/vote/1", chain.netid())
}

/// What identify must say; anything else is another network (N11).
pub fn network_version(chain: &ChainId) -> String {
    format!("/starling/{}/1", chain.netid())
}

/// The id of this network's kad.
pub fn kad_path(chain: &ChainId) -> String {
    format!("/starling/{}/kad/1", chain.netid())
}

/// The name of a gossip message: the same bytes on the same topic of the same network are the same message (N21).
pub fn message_id(chain: &ChainId, topic: &str, data: &[u8]) -> [u8; 20] {
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    let mut hasher = blake3::Hasher::new();
    hasher.update(chain.0.first_chunk::<4>().unwrap_or(&[0; 4]));
    hasher.update(&length.to_le_bytes()).update(topic.as_bytes()).update(data);
    let mut id = [0; 20];
    hasher.finalize_xof().fill(&mut id);
    id
}

/// Sizes of queues and tables. Each default has its reason beside it; when one is full the doc says what happens.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Commands waiting for the swarm; full: `Busy`.
    pub commands: usize,
    /// Verdicts waiting: at least all inboxes together, so that it is never the bottleneck.
    pub verdicts: usize,
    /// Commands taken in one turn, so that events flow in a flood of commands (N3).
    pub commands_per_turn: usize,
    pub pending_inbound: u32,
    pub pending_outbound: u32,
    pub inbound: u32,
    pub outbound: u32,
    pub connections: u32,
    /// Simultaneous dials of two nodes meet; the rest is refused.
    pub connections_per_peer: u32,
    /// A connection nobody uses is closed after this; gossip use counts as use.
    pub idle_ms: u64,
    pub ping_ms: u64,
    /// New connections are refused above this much memory of the process.
    pub memory_bytes: usize,
    /// Fewer peers than this: bootnodes are dialled, with back-off, for ever.
    pub peers_min: usize,
    /// At this many, no more are looked for.
    pub peers_target: usize,
    /// Votes waiting for one member; full: the oldest is dropped.
    pub votes_per_member: usize,
    /// Requests out to one peer, and in all; full: the ask fails as busy.
    pub asks_per_peer: usize,
    pub asks: usize,
    /// Requests of others being worked on; full: they are told busy.
    pub replies: usize,
    /// Query streams, in and out each; full: busy.
    pub query_streams: usize,
    /// Chunks of artifacts that a peer may ask for in ten seconds, and that we ask of one.
    pub artifact_items: u32,
    /// Gossip that could not be sent at once waits here; full: the oldest is dropped.
    pub outbox: usize,
    pub outbox_ms: u64,
    /// Gossip messages whose verdict is awaited; full: the message is ignored.
    pub awaiting_verdict: usize,
    /// Addresses kept of one node; the rest is ignored.
    pub addresses_per_peer: usize,
    /// Nodes remembered; least recently useful out.
    pub known_peers: usize,
    /// Refused nodes and addresses; the ban that ends first is dropped.
    pub bans: usize,
    /// Bytes waiting in the lag queue of `Chaos`; full: dropped.
    pub lag_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commands: 1_024,
            verdicts: 8_192,
            commands_per_turn: 64,
            pending_inbound: 32,
            pending_outbound: 16,
            inbound: 80,
            outbound: 40,
            connections: 110,
            connections_per_peer: 2,
            idle_ms: 60_000,
            ping_ms: 15_000,
            memory_bytes: 2 << 30,
            peers_min: 8,
            peers_target: 50,
            votes_per_member: 256,
            asks_per_peer: 8,
            asks: 128,
            replies: 64,
            query_streams: 256,
            artifact_items: 256,
            outbox: 256,
            outbox_ms: 60_000,
            awaiting_verdict: 8_192,
            addresses_per_peer: 8,
            known_peers: 500,
            bans: 1_000,
            lag_bytes: 64 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_network_and_ids_depend_on_every_part() {
        let (a, b) = (ChainId([1; 32]), ChainId([2; 32]));
        assert_eq!(Topic::Transaction.path(&a), "/starling/01010101/tx/1");
        assert_eq!(Protocol::Query.path(&b), "/starling/02020202/query/1");
        let id = message_id(&a, "t", b"x");
        assert_ne!(id, message_id(&b, "t", b"x"));
        assert_ne!(id, message_id(&a, "u", b"x"));
        assert_ne!(id, message_id(&a, "t", b"y"));
        assert_ne!(message_id(&a, "ta", b"x"), message_id(&a, "t", b"ax"));
    }

    #[test]
    fn verdicts_hold_all_that_can_be_awaited() {
        let limits = Limits::default();
        assert!(limits.verdicts >= limits.awaiting_verdict);
    }
}
