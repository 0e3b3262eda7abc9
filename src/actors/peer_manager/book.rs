//! The book of peers: pure, so that every decision about whom to know, greet, dial, ask or shun can be tested without a
//! network. It decides; the actor around it performs.
//!
//! Invariants: at most `PEERS_MAX` known and `BANNED_MAX` banned peers; a peer is admitted only after a hello that held;
//! scores stay in [-100, 100] and halve every ten minutes, except those of the banned.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{AttemptOutcome, Pick, PickMiners, Registry};
use crate::protocol::chance::Chance;
use crate::protocol::hello::{About, ClaimKind, Hello, PeerRecord, Presence, RECORDS_MAX, Roles};
use crate::protocol::ids::{AccountId, NodeId, PublicKey};

/// Known peers, connected or not.
pub const PEERS_MAX: usize = 500;
/// Banned peers remembered.
pub const BANNED_MAX: usize = 1_000;
/// Addresses kept of one peer.
const ADDRESSES_MAX: usize = 8;
/// Half-life of a score.
const HALF_LIFE_MS: f64 = 600_000.0;
/// Below this a peer is disconnected.
const DISCONNECT_BELOW: f64 = -20.0;
/// Below this it is banned.
const BAN_BELOW: f64 = -50.0;
/// For so long.
const BAN_MS: u64 = 12 * 3_600_000;
/// A hello unanswered for so long is said again.
const HELLO_AGAIN_MS: u64 = 3_000;
/// Unanswered hellos after which the peer is dropped.
const HELLOS_MAX: u32 = 4;
/// First pause between dials of one peer; doubles up to `REDIAL_MAX_MS`.
const REDIAL_MS: u64 = 1_000;
const REDIAL_MAX_MS: u64 = 300_000;
/// Dials begun in one tick.
const DIALS_PER_TICK: usize = 8;

/// What the book wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Dial {
        node: NodeId,
        addresses: Vec<String>,
    },
    Drop {
        node: NodeId,
        ban_ms: Option<u64>,
    },
    /// Say hello, and hear one.
    Greet {
        node: NodeId,
    },
    Admit {
        node: NodeId,
    },
    Score {
        node: NodeId,
        score: f64,
    },
    /// The connected nodes of the other committee members.
    Voters {
        nodes: Vec<NodeId>,
    },
}

/// What the book is told once.
#[derive(Clone, Debug)]
pub struct Params {
    pub local: NodeId,
    /// Consensus keys of the committee: their nodes are always wanted and get vote streams.
    pub committee: BTreeSet<PublicKey>,
    /// Connected peers to aim for.
    pub peers_target: usize,
}

#[derive(Clone, Debug)]
struct Link {
    address: String,
    outbound: bool,
    since_ms: u64,
    hellos: u32,
    hello_at_ms: u64,
    admitted: bool,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    addresses: Vec<String>,
    link: Option<Link>,
    about: Option<About>,
    software: String,
    presence: u64,
    score: f64,
    scored_at_ms: u64,
    banned_until_ms: u64,
    latency_ms: Option<f64>,
    /// Failed attempts since the last answer.
    failures: u32,
    dials: u32,
    dial_at_ms: u64,
    last_seen_ms: u64,
}

impl Peer {
    fn admitted(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.admitted)
    }

    fn claims(&self, kind: ClaimKind) -> Option<PublicKey> {
        self.about.as_ref().and_then(|about| about.claimed(kind))
    }

    fn decay(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.scored_at_ms) as f64;
        self.score *= (-passed * std::f64::consts::LN_2 / HALF_LIFE_MS).exp();
        self.scored_at_ms = now_ms;
    }
}

/// What survives a restart, per peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    pub node: NodeId,
    pub addresses: Vec<String>,
    pub score: f64,
    /// Milliseconds of ban left.
    pub ban_ms: u64,
}

/// The peers of this node.
#[derive(Clone, Debug)]
pub struct Book {
    params: Params,
    peers: BTreeMap<NodeId, Peer>,
    registry: Registry,
    voters: Vec<NodeId>,
}

impl Book {
    pub fn new(params: Params) -> Self {
        Self { params, peers: BTreeMap::new(), registry: Registry::default(), voters: Vec::new() }
    }

    /// Takes over what an earlier run remembered.
    pub fn remember(&mut self, now_ms: u64, remembered: Vec<Remembered>) {
        for old in remembered.into_iter().take(PEERS_MAX + BANNED_MAX) {
            let peer = Peer {
                addresses: old.addresses.into_iter().take(ADDRESSES_MAX).collect(),
                score: old.score.clamp(-100.0, 100.0),
                scored_at_ms: now_ms,
                banned_until_ms: if old.ban_ms > 0 { now_ms + old.ban_ms } else { 0 },
                ..Peer::default()
            };
            self.peers.insert(old.node, peer);
        }
    }

    /// What a later run should know: peers with an address, and the banned.
    pub fn to_remember(&self, now_ms: u64) -> Vec<Remembered> {
        let worth = |peer: &&Peer| !peer.addresses.is_empty() || peer.banned_until_ms > now_ms;
        let entry = |(node, peer): (&NodeId, &Peer)| Remembered {
            node: *node,
            addresses: peer.addresses.clone(),
            score: peer.score,
            ban_ms: peer.banned_until_ms.saturating_sub(now_ms),
        };
        self.peers.iter().filter(|(_, peer)| worth(peer)).map(entry).collect()
    }

    /// The whole connected set, as the router sees it: what is new is greeted, what is missing is gone.
    pub fn seen(&mut self, now_ms: u64, connected: &[(NodeId, String, bool)]) -> Vec<Act> {
        let present: BTreeSet<NodeId> = connected.iter().map(|(node, _, _)| *node).collect();
        for (node, peer) in &mut self.peers {
            if !present.contains(node) && peer.link.take().is_some() {
                peer.last_seen_ms = now_ms;
                peer.dial_at_ms = now_ms + REDIAL_MS;
            }
        }
        let mut acts = Vec::new();
        for (node, address, outbound) in connected {
            let peer = self.peers.entry(*node).or_default();
            if peer.banned_until_ms > now_ms {
                acts.push(Act::Drop { node: *node, ban_ms: Some(peer.banned_until_ms - now_ms) });
                continue;
            }
            if peer.link.is_some() {
                continue;
            }
            if *outbound {
                note_address(&mut peer.addresses, address);
            }
            peer.dials = 0;
            let (address, since_ms) = (address.clone(), now_ms);
            let link = Link { address, outbound: *outbound, since_ms, hellos: 1, hello_at_ms: now_ms, admitted: false };
            peer.link = Some(link);
            acts.push(Act::Greet { node: *node });
        }
        self.forget_surplus(now_ms);
        acts.extend(self.voters_changed());
        acts
    }

    /// A hello that held.
    pub fn greeted(&mut self, now_ms: u64, node: NodeId, hello: Hello) -> Vec<Act> {
        for record in hello.known {
            self.found(record.node, &record.addresses);
        }
        let Some(peer) = self.peers.get_mut(&node) else { return Vec::new() };
        peer.software = hello.software;
        peer.last_seen_ms = now_ms;
        for address in &hello.about.addresses {
            note_address(&mut peer.addresses, address);
        }
        peer.about = Some(hello.about);
        let mut acts = Vec::new();
        if let Some(link) = peer.link.as_mut().filter(|link| !link.admitted) {
            link.admitted = true;
            acts.push(Act::Admit { node });
        }
        acts.extend(self.voters_changed());
        acts
    }

    /// A presence whose signatures held. `false` when it says nothing new.
    pub fn present(&mut self, now_ms: u64, node: NodeId, presence: Presence) -> bool {
        if node == self.params.local {
            return true;
        }
        let known = self.peers.len();
        let peer = match self.peers.get_mut(&node) {
            Some(peer) => peer,
            None if known < PEERS_MAX => self.peers.entry(node).or_default(),
            None => return false,
        };
        if presence.sequence <= peer.presence {
            return false;
        }
        peer.presence = presence.sequence;
        peer.last_seen_ms = now_ms;
        for address in &presence.about.addresses {
            note_address(&mut peer.addresses, address);
        }
        peer.about = Some(presence.about);
        true
    }

    /// Somebody says a node may be found at these addresses.
    pub fn found(&mut self, node: NodeId, addresses: &[String]) {
        if node == self.params.local || (!self.peers.contains_key(&node) && self.peers.len() >= PEERS_MAX) {
            return;
        }
        let peer = self.peers.entry(node).or_default();
        for address in addresses {
            note_address(&mut peer.addresses, address);
        }
    }

    /// Adds to a peer's score; at the thresholds it is dropped or banned.
    pub fn scored(&mut self, now_ms: u64, node: NodeId, change: f64) -> Vec<Act> {
        let Some(peer) = self.peers.get_mut(&node) else { return Vec::new() };
        if peer.banned_until_ms > now_ms {
            return Vec::new();
        }
        peer.decay(now_ms);
        peer.score = (peer.score + change).clamp(-100.0, 100.0);
        let mut acts = vec![Act::Score { node, score: peer.score }];
        if peer.score < BAN_BELOW {
            peer.banned_until_ms = now_ms + BAN_MS;
            acts.push(Act::Drop { node, ban_ms: Some(BAN_MS) });
        } else if peer.score < DISCONNECT_BELOW && peer.link.is_some() {
            peer.dial_at_ms = now_ms + REDIAL_MAX_MS;
            acts.push(Act::Drop { node, ban_ms: None });
        }
        acts
    }

    /// What time alone brings: hellos said again, dials.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Act> {
        let mut acts = Vec::new();
        for (node, peer) in &mut self.peers {
            let Some(link) = peer.link.as_mut().filter(|link| !link.admitted) else { continue };
            if now_ms < link.hello_at_ms + HELLO_AGAIN_MS {
                continue;
            }
            if link.hellos >= HELLOS_MAX {
                acts.push(Act::Drop { node: *node, ban_ms: None });
                continue;
            }
            link.hellos += 1;
            link.hello_at_ms = now_ms;
            acts.push(Act::Greet { node: *node });
        }
        acts.extend(self.dials(now_ms));
        acts
    }

    /// Peers to dial now: committee members and miners that can be paid first, then any, while under target.
    fn dials(&mut self, now_ms: u64) -> Vec<Act> {
        let connected = self.peers.values().filter(|peer| peer.link.is_some()).count();
        let wanted = self.params.peers_target.saturating_sub(connected);
        let due = |peer: &Peer| {
            peer.link.is_none()
                && !peer.addresses.is_empty()
                && peer.banned_until_ms <= now_ms
                && peer.dial_at_ms <= now_ms
        };
        let mut candidates: Vec<(bool, u32, NodeId)> = self
            .peers
            .iter()
            .filter(|(_, peer)| due(peer))
            .map(|(node, peer)| {
                let member = peer.claims(ClaimKind::Consensus).is_some_and(|key| self.params.committee.contains(&key));
                (!member, peer.dials, *node)
            })
            .collect();
        candidates.sort_unstable();
        let mut acts = Vec::new();
        for (other, _, node) in candidates.into_iter().take(DIALS_PER_TICK) {
            if other && acts.len() >= wanted {
                continue;
            }
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            peer.dial_at_ms = now_ms + (REDIAL_MS << peer.dials.min(16)).min(REDIAL_MAX_MS);
            peer.dials += 1;
            acts.push(Act::Dial { node, addresses: peer.addresses.clone() });
        }
        acts
    }

    pub fn registered(&mut self, registry: Registry) {
        if registry.height >= self.registry.height {
            self.registry = registry;
        }
    }

    /// Miners to ask, drawn with a probability that follows their incentive and suffers from recent failures, so that load
    /// goes where quality is and a newcomer still gets its chance.
    pub fn pick(&self, wish: &PickMiners, chance: &mut Chance) -> Vec<Pick> {
        let by_account: BTreeMap<AccountId, NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.admitted())
            .filter_map(|(node, peer)| Some((AccountId::from(peer.claims(ClaimKind::Account)?), *node)))
            .collect();
        let Some(seats) = self.registry.miners.get(&wish.subnet) else { return Vec::new() };
        let mut pool: Vec<(u64, Pick)> = seats
            .iter()
            .filter(|seat| wish.members.as_ref().is_none_or(|only| only.contains(&seat.member)))
            .filter_map(|seat| {
                let node = *by_account.get(&seat.account)?;
                let failures = self.peers.get(&node).map_or(0, |peer| peer.failures).min(16);
                let draw = (u64::from(seat.incentive) / 1_000 + 20_000) >> failures;
                let pick = Pick { member: seat.member, account: seat.account, node };
                (!wish.exclude.contains(&node)).then_some((draw.max(1), pick))
            })
            .collect();
        let mut picked = Vec::new();
        while picked.len() < wish.count && !pool.is_empty() {
            let total: u64 = pool.iter().map(|(draw, _)| draw).sum();
            let mut at = chance.below(total);
            let hit = pool.iter().position(|(draw, _)| {
                let found = at < *draw;
                at = at.saturating_sub(*draw);
                found
            });
            picked.push(pool.swap_remove(hit.unwrap_or(0)).1);
        }
        picked
    }

    /// Learns from an attempt at a miner.
    pub fn attempted(&mut self, now_ms: u64, node: NodeId, outcome: AttemptOutcome, latency_ms: u64) -> Vec<Act> {
        let Some(peer) = self.peers.get_mut(&node) else { return Vec::new() };
        let change = match outcome {
            AttemptOutcome::Answered => {
                peer.failures = 0;
                let sample = latency_ms as f64;
                peer.latency_ms = Some(peer.latency_ms.map_or(sample, |mean| mean * 0.8 + sample * 0.2));
                0.05
            }
            AttemptOutcome::Refused | AttemptOutcome::Cancelled => return Vec::new(),
            AttemptOutcome::Late | AttemptOutcome::Broken => {
                peer.failures = peer.failures.saturating_add(1);
                return Vec::new();
            }
            AttemptOutcome::Malformed => {
                peer.failures = peer.failures.saturating_add(2);
                -10.0
            }
        };
        self.scored(now_ms, node, change)
    }

    fn voters_changed(&mut self) -> Option<Act> {
        let is_member = |peer: &Peer| {
            peer.admitted() && peer.claims(ClaimKind::Consensus).is_some_and(|key| self.params.committee.contains(&key))
        };
        let nodes: Vec<NodeId> = self.peers.iter().filter(|(_, peer)| is_member(peer)).map(|(node, _)| *node).collect();
        if nodes == self.voters {
            return None;
        }
        self.voters.clone_from(&nodes);
        Some(Act::Voters { nodes })
    }

    /// Keeps the book within its bounds: the unconnected seen longest ago go first, bans last.
    fn forget_surplus(&mut self, now_ms: u64) {
        let surplus = self.peers.len().saturating_sub(PEERS_MAX + BANNED_MAX);
        if surplus == 0 {
            return;
        }
        let mut oldest: Vec<(bool, u64, NodeId)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.link.is_none())
            .map(|(node, peer)| (peer.banned_until_ms > now_ms, peer.last_seen_ms, *node))
            .collect();
        oldest.sort_unstable();
        for (_, _, node) in oldest.into_iter().take(surplus) {
            self.peers.remove(&node);
        }
    }

    /// Nodes dialled with success, for the hello to others.
    pub fn records(&self, chance: &mut Chance) -> Vec<PeerRecord> {
        let mut records: Vec<PeerRecord> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.admitted() && !peer.addresses.is_empty())
            .map(|(node, peer)| PeerRecord { node: *node, addresses: peer.addresses.clone() })
            .collect();
        chance.shuffle(&mut records);
        records.truncate(RECORDS_MAX);
        records
    }

    /// The connected peers, for people.
    pub fn report(&self, now_ms: u64) -> Vec<crate::protocol::report::PeerReport> {
        let row = |(node, peer): (&NodeId, &Peer)| {
            let link = peer.link.as_ref()?;
            let about = peer.about.as_ref();
            #[expect(clippy::cast_possible_truncation, reason = "the score lies in [-100, 100]")]
            let score = peer.score.round() as i64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of u64 milliseconds")]
            let latency_ms = peer.latency_ms.map(|ms| ms.round() as u64);
            Some(crate::protocol::report::PeerReport {
                node: *node,
                address: link.address.clone(),
                outbound: link.outbound,
                roles: about.map_or(Roles::default(), |a| a.roles).names().iter().map(ToString::to_string).collect(),
                version: peer.software.clone(),
                height: about.map(|a| a.height),
                score,
                latency_ms,
                connected_s: now_ms.saturating_sub(link.since_ms) / 1_000,
            })
        };
        self.peers.iter().filter_map(row).collect()
    }

    /// Connected and greeted peers.
    pub fn admitted(&self) -> usize {
        self.peers.values().filter(|peer| peer.admitted()).count()
    }

    pub fn admitted_nodes(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.admitted()).map(|(node, _)| *node).collect()
    }

    /// The nodes that proved to speak for an account.
    pub fn accounts(&self) -> Vec<(AccountId, NodeId)> {
        let account = |(node, peer): (&NodeId, &Peer)| Some((peer.claims(ClaimKind::Account)?.into(), *node));
        self.peers.iter().filter_map(account).collect()
    }

    /// The node that speaks for a key, connected or not.
    pub fn node_of(&self, kind: ClaimKind, key: &PublicKey) -> Option<NodeId> {
        self.peers.iter().find(|(_, peer)| peer.claims(kind).as_ref() == Some(key)).map(|(node, _)| *node)
    }
}

/// Newest first, each once, at most `ADDRESSES_MAX`.
fn note_address(addresses: &mut Vec<String>, address: &str) {
    if address.len() > crate::protocol::hello::ADDRESS_BYTES_MAX {
        return;
    }
    addresses.retain(|known| known != address);
    addresses.insert(0, address.to_owned());
    addresses.truncate(ADDRESSES_MAX);
}

#[cfg(test)]
mod tests {
    use super::super::Seat;
    use super::*;
    use crate::protocol::hello::Claim;
    use crate::protocol::ids::{ChainId, MemberId, SubnetId};
    use crate::protocol::keys::SecretKey;

    fn node(i: u8) -> NodeId {
        NodeId([i; 32])
    }

    fn book(target: usize) -> Book {
        Book::new(Params { local: node(0), committee: BTreeSet::new(), peers_target: target })
    }

    fn hello(i: u8) -> Hello {
        let chain = ChainId([9; 32]);
        let account = SecretKey::from_seed([i; 32]);
        let claims = vec![Claim::sign(ClaimKind::Account, &chain, &account, &node(i))];
        let about = About { roles: Roles::MINER, height: 3, claims, addresses: vec![] };
        Hello { chain, software: "starling".into(), about, known: vec![] }
    }

    fn connect(book: &mut Book, now: u64, peers: &[u8]) -> Vec<Act> {
        let set: Vec<_> = peers.iter().map(|&i| (node(i), format!("/ip4/10.0.0.{i}/tcp/1"), true)).collect();
        book.seen(now, &set)
    }

    #[test]
    fn a_new_peer_is_greeted_once_and_admitted_after_its_hello() {
        let mut book = book(8);
        assert_eq!(connect(&mut book, 0, &[1]), [Act::Greet { node: node(1) }]);
        assert_eq!(connect(&mut book, 1, &[1]), []);
        assert_eq!(book.greeted(2, node(1), hello(1)), [Act::Admit { node: node(1) }]);
        assert_eq!(book.admitted(), 1);
        connect(&mut book, 3, &[]);
        assert_eq!(book.admitted(), 0);
    }

    #[test]
    fn a_silent_peer_is_greeted_again_and_then_dropped() {
        let mut book = book(0);
        connect(&mut book, 0, &[1]);
        let greets: Vec<_> = (1..=3).flat_map(|i| book.tick(i * HELLO_AGAIN_MS)).collect();
        assert_eq!(greets, vec![Act::Greet { node: node(1) }; 3]);
        assert_eq!(book.tick(4 * HELLO_AGAIN_MS), [Act::Drop { node: node(1), ban_ms: None }]);
    }

    #[test]
    fn scores_fall_to_a_drop_and_a_ban_and_a_ban_survives_a_restart() {
        let mut book = book(8);
        connect(&mut book, 0, &[1]);
        book.greeted(0, node(1), hello(1));
        assert!(book.scored(0, node(1), -25.0).contains(&Act::Drop { node: node(1), ban_ms: None }));
        assert!(book.scored(0, node(1), -50.0).contains(&Act::Drop { node: node(1), ban_ms: Some(BAN_MS) }));
        let mut later = Book::new(book.params.clone());
        later.remember(100, book.to_remember(BAN_MS / 2));
        let acts = connect(&mut later, 200, &[1]);
        assert!(matches!(acts[..], [Act::Drop { ban_ms: Some(left), .. }] if left <= BAN_MS / 2), "{acts:?}");
    }

    #[test]
    fn a_lost_peer_is_dialled_with_growing_pauses() {
        let mut book = book(8);
        connect(&mut book, 0, &[1]);
        connect(&mut book, 10, &[]);
        let dials: Vec<u64> = (0..100_u64).map(|s| s * 1_000).filter(|&now| !book.tick(now).is_empty()).collect();
        let pauses: Vec<u64> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]) && pauses.len() > 4, "{dials:?}");
    }

    #[test]
    fn picks_follow_incentive_and_shun_failures() {
        let mut book = book(8);
        connect(&mut book, 0, &[1, 2, 3]);
        for i in 1..=3 {
            book.greeted(0, node(i), hello(i));
        }
        let seat = |i: u8, incentive| Seat {
            member: MemberId(i.into()),
            account: SecretKey::from_seed([i; 32]).public().into(),
            incentive,
        };
        let miners = BTreeMap::from([(SubnetId(1), vec![seat(1, 3_000_000_000), seat(2, 1_000_000_000), seat(4, 9)])]);
        book.registered(Registry { height: 1, miners });
        let wish = PickMiners { subnet: SubnetId(1), count: 1, members: None, exclude: vec![] };
        let mut chance = Chance::from_seed([1; 32]);
        let mut count =
            |book: &Book| (0..1_000).filter(|_| book.pick(&wish, &mut chance)[0].member == MemberId(1)).count();
        let before = count(&book);
        assert!((650..850).contains(&before), "{before}");
        for _ in 0..3 {
            book.attempted(0, node(1), AttemptOutcome::Late, 0);
        }
        let after = count(&book);
        assert!(after < 400, "{after}");
        let all = PickMiners { count: 9, ..wish.clone() };
        assert_eq!(book.pick(&all, &mut chance).len(), 2, "a member that is not connected cannot be asked");
        let other = PickMiners { exclude: vec![node(1), node(2)], ..wish };
        assert!(book.pick(&other, &mut chance).is_empty());
    }

    #[test]
    fn presences_only_move_forward() {
        let mut book = book(8);
        let presence = |sequence| Presence { about: hello(1).about, sequence };
        assert!(book.present(0, node(1), presence(5)));
        assert!(!book.present(0, node(1), presence(5)));
        assert!(book.present(0, node(1), presence(6)));
    }
}
