//! What a hub is made of: packets, what is due, and the state of one node.
//!
//! Plain data; how it changes is told in the files beside this one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use crate::net::desk::Desk;
use crate::net::redial::Redial;
use crate::net::{Ask, Command, EventSink, Params, Refusal, Topic};
use crate::protocol::ids::NodeId;

pub type Sink = Arc<Mutex<EventSink>>;

/// What the hub has done, for checkers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub nodes: usize,
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Events a full receiver gave back, and messages over a bound.
    pub dropped: u64,
    pub rejected: u64,
}

/// Between two nodes.
#[derive(Clone, Debug)]
pub enum Packet {
    Dial,
    Accept,
    Declined {
        reason: String,
        wrong_network: Option<String>,
    },
    Close,
    Gossip {
        topic: Topic,
        id: [u8; 20],
        data: Arc<[u8]>,
        tries: u8,
    },
    Vote {
        data: Arc<[u8]>,
    },
    Request(Ask),
    Answer {
        id: u64,
        data: Vec<u8>,
        last: bool,
    },
    Refusal {
        id: u64,
        refusal: Refusal,
    },
    /// A frame was lost: the stream ends here.
    Broken {
        id: u64,
    },
    Withdrawn {
        id: u64,
    },
}

/// A packet on its way; `link` names the connection it belongs to, so that a later one is not confused by it.
#[derive(Clone, Debug)]
pub struct Letter {
    pub from: NodeId,
    pub to: NodeId,
    pub link: u64,
    pub packet: Packet,
}

#[derive(Debug)]
pub enum Due {
    Command {
        node: NodeId,
        incarnation: u64,
        command: Command,
    },
    Letter(Letter),
    /// A gossip message tried again, as the lazy pull of a heartbeat would.
    Resend(Letter),
    Tick {
        node: NodeId,
        incarnation: u64,
    },
    DialTimeout {
        node: NodeId,
        to: NodeId,
        link: u64,
    },
    /// Whether the other end of the link is still there.
    Probe {
        node: NodeId,
        peer: NodeId,
        link: u64,
    },
    Desk {
        node: NodeId,
        incarnation: u64,
    },
    /// A look-up of holders has ended.
    Found {
        node: NodeId,
        incarnation: u64,
        ask: u64,
        nodes: Vec<NodeId>,
    },
}

pub struct Peer {
    pub link: u64,
    pub admitted: bool,
    /// Packets of an exchange keep their order on a link.
    pub floor_ms: u64,
}

pub struct Held {
    pub topic: Topic,
    pub data: Arc<[u8]>,
    pub from: NodeId,
}

pub struct Dialing {
    pub link: u64,
    pub address: String,
    /// Named by the caller; unknown when only an address was given.
    pub named: Option<NodeId>,
}

/// One node in the hub.
pub struct Node {
    pub params: Params,
    pub address: String,
    pub sink: Sink,
    pub incarnation: u64,
    pub commands: usize,
    pub verdicts: usize,
    pub inbound: usize,
    pub peers: BTreeMap<NodeId, Peer>,
    pub dialing: BTreeMap<NodeId, Dialing>,
    pub bans: BTreeMap<NodeId, u64>,
    pub blocked: BTreeSet<NodeId>,
    pub voters: BTreeSet<NodeId>,
    pub redial: Redial,
    pub walk_ms: u64,
    /// Seen messages and when, oldest first.
    pub seen: BTreeSet<[u8; 20]>,
    pub seen_order: VecDeque<(u64, [u8; 20])>,
    pub held: BTreeMap<[u8; 20], Held>,
    pub desk: Desk,
    pub desk_due_ms: Option<u64>,
    /// Our ticket, and what the asker calls the same request.
    pub tickets: BTreeMap<u64, (NodeId, u64, u64)>,
}
