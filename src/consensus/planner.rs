//! Whom to ask for what: a bounded table of questions in flight, retried with other peers (K1, K2).
//!
//! The machine says what it lacks; the planner remembers since when, picks peers in turn, avoids those that failed for
//! the same question, and rests when all did. It trusts no answer: the machine verifies them.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::ids::{Height, NodeId, View};
use crate::protocol::sync::{Get, RANGE_MAX, Range, Status};

use super::effect::Effect;

/// How often catch-up looks around.
pub(crate) const TICK_MS: u64 = 250;
/// Status goes to so many peers, so often (K1).
const STATUS_PEERS: usize = 4;
const STATUS_MS: u64 = 2_000;
/// What is lacking may still arrive by itself for so long.
const GRACE_MS: u64 = 200;
/// A question to be answered at once (status, certificates) and one with bodies in the answer.
const SHORT_MS: u64 = 2_000;
const LONG_MS: u64 = 10_000;
/// A question so old is put to one more peer, whatever becomes of the first.
const HEDGE_MS: u64 = 1_500;
const HEDGES_MAX: usize = 2;
/// After every peer failed, or so many attempts, a question rests.
const TRIES_MAX: u32 = 6;
const REST_MS: u64 = 2_000;
/// Bounds: questions in flight per peer, and in all.
const PER_PEER_MAX: usize = 4;
const FLIGHTS_MAX: usize = 64;
const PEERS_MAX: usize = 256;
/// Ranges asked for at once.
const RANGES_MAX: usize = 3;

#[derive(Clone, Debug, Default)]
struct Peer {
    status: Option<Status>,
    heard_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) peer: NodeId,
    pub(crate) get: Get,
    sent_ms: u64,
    expires_ms: u64,
}

impl Flight {
    fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.sent_ms.saturating_add(HEDGE_MS)
    }
}

#[derive(Clone, Debug)]
struct Attempt {
    since_ms: u64,
    tries: u32,
    avoid: BTreeSet<NodeId>,
    rest_until_ms: u64,
}

/// Whom to ask.
enum Choice {
    Peer(NodeId),
    /// Nobody has it, or all who do are busy.
    Later,
    /// Everybody who has it failed already.
    AllFailed,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planner {
    peers: BTreeMap<NodeId, Peer>,
    flights: BTreeMap<u64, Flight>,
    attempts: BTreeMap<Get, Attempt>,
    /// Answered ranges that wait for the one below, by first height.
    ranges: BTreeMap<Height, (NodeId, Box<Range>)>,
    last_id: u64,
    turn: usize,
    status_at_ms: u64,
}

impl Planner {
    /// Replaces the set of peers; new ones are asked for their status at the next look around.
    pub(crate) fn meet(&mut self, peers: &[NodeId]) {
        let now: BTreeSet<NodeId> = peers.iter().copied().take(PEERS_MAX).collect();
        if now.iter().any(|peer| !self.peers.contains_key(peer)) {
            self.status_at_ms = 0;
        }
        self.peers.retain(|peer, _| now.contains(peer));
        for peer in now {
            self.peers.entry(peer).or_default();
        }
    }

    pub(crate) fn note_status(&mut self, from: NodeId, status: Status, now_ms: u64) {
        if let Some(peer) = self.peers.get_mut(&from) {
            *peer = Peer { status: Some(status), heard_ms: now_ms };
        }
    }

    /// What the peer claimed it did not deliver.
    pub(crate) fn distrust(&mut self, peer: &NodeId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.status = None;
        }
    }

    /// The greatest final height that a peer claimed at least a grace ago.
    pub(crate) fn best_height(&self, now_ms: u64) -> Height {
        let told = self.peers.values().filter(|peer| now_ms >= peer.heard_ms.saturating_add(GRACE_MS));
        told.filter_map(|peer| peer.status).map(|status| status.height).max().unwrap_or(0)
    }

    /// The greatest view that a peer claimed at least a grace ago.
    pub(crate) fn best_view(&self, now_ms: u64) -> View {
        let told = self.peers.values().filter(|peer| now_ms >= peer.heard_ms.saturating_add(GRACE_MS));
        told.filter_map(|peer| peer.status).map(|status| status.view).max().unwrap_or(0)
    }

    /// Status to some peers in turn, when it is time.
    pub(crate) fn spread_status(&mut self, mine: Status, now_ms: u64, out: &mut Vec<Effect>) {
        if now_ms < self.status_at_ms || self.peers.is_empty() {
            return;
        }
        self.status_at_ms = now_ms.saturating_add(STATUS_MS);
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        let chosen: Vec<NodeId> = peers
            .iter()
            .copied()
            .cycle()
            .skip(self.turn % peers.len().max(1))
            .take(peers.len().min(STATUS_PEERS))
            .collect();
        self.turn = self.turn.wrapping_add(STATUS_PEERS);
        for peer in chosen {
            self.launch(peer, Get::Status(mine), now_ms, out);
        }
    }

    /// Asks everybody soon: something is final that we cannot reach.
    pub(crate) fn hurry(&mut self) {
        self.status_at_ms = 0;
    }

    /// Asks one peer again where it stands, for there may be more by now.
    pub(crate) fn refresh(&mut self, peer: NodeId, mine: Status, now_ms: u64, out: &mut Vec<Effect>) {
        self.launch(peer, Get::Status(mine), now_ms, out);
    }

    /// The ranges to ask for next, so that with those in flight or waiting they go up from `tip` without holes.
    pub(crate) fn wanted_ranges(&self, tip: Height, target: Height, now_ms: u64) -> Vec<Get> {
        let mut taken: BTreeMap<Height, u64> =
            self.ranges.iter().map(|(from, (_, range))| (*from, range.checkpoints.len() as u64)).collect();
        for flight in self.flights.values().filter(|flight| flight.is_fresh(now_ms)) {
            if let Get::Range { from, count } = flight.get {
                taken.entry(from).or_insert(u64::from(count));
            }
        }
        let (mut wants, mut at, mut ahead) = (Vec::new(), tip.saturating_add(1), 0);
        while at <= target && ahead < RANGES_MAX {
            ahead += 1;
            if let Some(length) = taken.get(&at) {
                at = at.saturating_add((*length).max(1));
                continue;
            }
            let free = taken.range(at..).next().map_or(u64::MAX, |(next, _)| next - at);
            let count = free.min(u64::from(RANGE_MAX)).min(target - at + 1);
            wants.push(Get::Range { from: at, count: u16::try_from(count).unwrap_or(RANGE_MAX) });
            at = at.saturating_add(count);
        }
        wants
    }

    pub(crate) fn keep_range(&mut self, from: Height, peer: NodeId, range: Box<Range>) {
        self.ranges.insert(from, (peer, range));
    }

    /// The range that goes on from the tip; those the tip has passed, or that are far above it, are dropped.
    pub(crate) fn take_range(&mut self, tip: Height) -> Option<(NodeId, Box<Range>)> {
        let span = RANGES_MAX as u64 * u64::from(RANGE_MAX);
        self.ranges.retain(|from, _| *from > tip && *from <= tip.saturating_add(span));
        self.ranges.remove(&tip.saturating_add(1))
    }

    /// Sends every want that is ripe, has a peer, and is not in flight; wants no longer named are forgotten.
    pub(crate) fn pursue(&mut self, wants: &[Get], my_view: View, now_ms: u64, out: &mut Vec<Effect>) {
        self.attempts.retain(|get, _| wants.contains(get));
        for want in wants {
            let attempt = self.attempts.entry(want.clone()).or_insert(Attempt {
                since_ms: now_ms,
                tries: 0,
                avoid: BTreeSet::new(),
                rest_until_ms: 0,
            });
            let grace_ms = if matches!(want, Get::Range { .. } | Get::Entry) { 0 } else { GRACE_MS };
            let ripe = now_ms >= attempt.since_ms.saturating_add(grace_ms) && now_ms >= attempt.rest_until_ms;
            let mut asked = self.flights.values().filter(|flight| flight.get == *want);
            if !ripe || asked.any(|flight| flight.is_fresh(now_ms)) || asked.count() >= HEDGES_MAX {
                continue;
            }
            let mut avoid = attempt.avoid.clone();
            avoid.extend(self.flights.values().filter(|flight| flight.get == *want).map(|flight| flight.peer));
            let peer = match self.choose(want, my_view, &avoid) {
                Choice::Peer(peer) => peer,
                Choice::Later => continue,
                Choice::AllFailed => {
                    self.rest(want, now_ms);
                    continue;
                }
            };
            if let Some(attempt) = self.attempts.get_mut(want) {
                attempt.tries += 1;
            }
            self.launch(peer, want.clone(), now_ms, out);
        }
    }

    fn choose(&mut self, want: &Get, my_view: View, avoid: &BTreeSet<NodeId>) -> Choice {
        let fits = |peer: &Peer| match want {
            Get::Range { from, .. } => peer.status.is_some_and(|status| status.height >= *from),
            Get::Entry => peer.status.is_some_and(|status| status.view > my_view),
            Get::Status(_) | Get::Certificates { .. } | Get::Candidate(_) => true,
        };
        let busy = |node: &NodeId| self.flights.values().filter(|flight| flight.peer == *node).count() >= PER_PEER_MAX;
        let fitting = self.peers.iter().filter(|(_, peer)| fits(peer)).map(|(node, _)| *node);
        let (failed, able): (Vec<NodeId>, Vec<NodeId>) = fitting.partition(|node| avoid.contains(node));
        if able.is_empty() {
            return if failed.is_empty() { Choice::Later } else { Choice::AllFailed };
        }
        let free: Vec<NodeId> = able.into_iter().filter(|node| !busy(node)).collect();
        let chosen = self.turn.checked_rem(free.len()).and_then(|at| free.get(at)).copied();
        self.turn = self.turn.wrapping_add(1);
        chosen.map_or(Choice::Later, Choice::Peer)
    }

    fn rest(&mut self, want: &Get, now_ms: u64) {
        if let Some(attempt) = self.attempts.get_mut(want) {
            attempt.avoid.clear();
            attempt.tries = 0;
            attempt.rest_until_ms = now_ms.saturating_add(REST_MS);
        }
    }

    fn launch(&mut self, peer: NodeId, get: Get, now_ms: u64, out: &mut Vec<Effect>) {
        if self.flights.len() >= FLIGHTS_MAX {
            return;
        }
        let deadline_ms = match get {
            Get::Range { .. } | Get::Candidate(_) => LONG_MS,
            Get::Status(_) | Get::Entry | Get::Certificates { .. } => SHORT_MS,
        };
        self.last_id += 1;
        // Twice the deadline: should the driver lose a question, it does not stay in flight for ever.
        let expires_ms = now_ms.saturating_add(2 * deadline_ms);
        self.flights.insert(self.last_id, Flight { peer, get: get.clone(), sent_ms: now_ms, expires_ms });
        out.push(Effect::Fetch { id: self.last_id, peer, get, deadline_ms });
    }

    /// The question an answer belongs to.
    pub(crate) fn land(&mut self, id: u64) -> Option<Flight> {
        self.flights.remove(&id)
    }

    /// Another peer next time; after enough of them, a rest.
    pub(crate) fn failed(&mut self, flight: &Flight, now_ms: u64) {
        let Some(attempt) = self.attempts.get_mut(&flight.get) else { return };
        attempt.avoid.insert(flight.peer);
        if attempt.tries >= TRIES_MAX {
            self.rest(&flight.get, now_ms);
        }
    }

    /// Gives up questions the driver never answered.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let lost: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| flight.expires_ms <= now_ms).map(|(id, _)| *id).collect();
        for id in lost {
            if let Some(flight) = self.land(id) {
                self.failed(&flight, now_ms);
            }
        }
    }
}
