//! The world: an event heap, a virtual clock, and the driver that performs what machines ask for.
//!
//! Everything drawn comes from one seed, everything that happens is hashed into the trace: the same scenario and seed
//! give the same trace, byte for byte (D1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::consensus::rules::{Rule, Rules};
use crate::consensus::{Draft, Input, Params, Served, Source, TimerId, assemble};
use crate::protocol::chance::Chance;
use crate::protocol::checkpoint::{Body, Certificate, Checkpoint, Evidence, GenesisHeader, Header, Proposal, Vote};
use crate::protocol::committee::{Committee, CommitteeContext, CommitteeError, CommitteeMember};
use crate::protocol::ids::{AccountId, ChainId, Digest, NodeId, hash};
use crate::protocol::keys::SecretKey;
use crate::protocol::sync::{Get, Got};

use super::Report;
use super::byzantine::Behaviour;
use super::checker::Checker;
use super::ledger::Ledger;
use super::link::Links;
use super::node::Node;
use super::scenario::{Happening, Scenario};

/// The virtual wall clock starts here.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;
/// How long the simulated ledger takes for anything.
pub(crate) const LEDGER_MS: u64 = 2;

/// What travels between nodes.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Vote(Vote),
    Proposal(Arc<Proposal>),
    Certificate(Arc<Certificate>),
    Evidence(Evidence),
    Ask { id: u64, life: u64, get: Get },
    Answer { id: u64, life: u64, got: Box<Got> },
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most events are deliveries")]
pub(crate) enum Event {
    Deliver { to: usize, from: usize, message: Message },
    Timer { node: usize, life: u64, id: TimerId },
    Build { node: usize, life: u64, draft: Box<Draft> },
    Check { node: usize, life: u64, header: Box<Header>, body: Arc<Body> },
    Finalise { node: usize, life: u64, checkpoint: Arc<Checkpoint> },
    Deadline { node: usize, life: u64, id: u64 },
    Happen(Happening),
    Recut,
}

/// A running world.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) params: Params,
    pub(crate) rules: Rules,
    pub(crate) context: CommitteeContext,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Links,
    pub(crate) events: BTreeMap<(u64, u64), Event>,
    pub(crate) next: u64,
    pub(crate) now_ms: u64,
    pub(crate) chance: Chance,
    pub(crate) checker: Checker,
    pub(crate) trace: blake3::Hasher,
    pub(crate) report: Report,
}

impl World {
    pub(crate) fn new(scenario: Scenario, seed: u64, weak: Option<Rule>) -> Result<Self, CommitteeError> {
        let mut chance = Chance::from(hash("starling/1 sim", &[scenario.name.as_bytes(), &seed.to_le_bytes()]));
        let keys: Vec<SecretKey> = scenario.weights.iter().map(|_| SecretKey::from_seed(chance.bytes32())).collect();
        let members = keys.iter().zip(&scenario.weights).map(|(key, weight)| CommitteeMember {
            key: key.public(),
            weight: *weight,
            account: AccountId(key.public().0),
        });
        let committee = weaken(Committee::new(0, members.collect())?, weak);
        let chain = ChainId(chance.bytes32());
        let context = CommitteeContext::new(chain, committee.clone());
        let params = Params {
            chain,
            committee,
            seed: Digest(chance.bytes32()),
            interval_ms: scenario.interval_ms,
            idle_ms: scenario.interval_ms,
            delta_ms: scenario.delta_ms,
            delta_max_ms: 16_000,
            build_ms: 200,
        };
        let genesis = Header::genesis(GenesisHeader {
            chain,
            timestamp_ms: EPOCH_MS,
            state_root: Digest([1; 32]),
            receipt_root: Digest::ZERO,
            record_root: Digest::ZERO,
            set_hash: context.set_hash(),
            next_set_hash: context.set_hash(),
            params_hash: Digest::ZERO,
        });
        let nodes = roster(&scenario, keys, &genesis);
        let honest = honest_members(&scenario, &nodes, &context);
        Ok(Self {
            links: Links::new(scenario.links),
            checker: Checker::new(context.clone(), honest, genesis.hash()),
            params,
            rules: rules_without(weak),
            context,
            nodes,
            events: BTreeMap::new(),
            next: 0,
            now_ms: 0,
            chance,
            trace: blake3::Hasher::new(),
            report: Report::new(scenario.name, seed),
            scenario,
        })
    }

    /// Runs to the end of the scenario or the first violation.
    pub(crate) fn run(mut self) -> Report {
        for (at_ms, happening) in self.scenario.script.clone() {
            self.schedule(at_ms, Event::Happen(happening));
        }
        if self.scenario.chaos.partition_every_ms > 0 {
            self.schedule(self.scenario.chaos.partition_every_ms, Event::Recut);
        }
        for node in 0..self.nodes.len() {
            if !self.scenario.absent.contains(&node) {
                self.start(node);
            }
        }
        while let Some(((at_ms, _), event)) = self.events.pop_first() {
            if at_ms > self.scenario.run_ms || self.checker.violation.is_some() {
                break;
            }
            self.now_ms = at_ms;
            self.checker.now_ms = at_ms;
            self.report.events += 1;
            self.happen(event);
        }
        self.finish()
    }

    fn finish(mut self) -> Report {
        let honest = |node: &Node| node.behaviour.is_none() && node.is_up();
        let heights: Vec<u64> =
            self.nodes.iter().filter(|node| honest(node)).map(|node| node.ledger.height()).collect();
        let lowest = heights.iter().min().copied().unwrap_or(0);
        let highest = heights.iter().max().copied().unwrap_or(0);
        let expect = &self.scenario;
        if self.checker.violation.is_none() && lowest < expect.expect_height {
            self.checker.violated(&format!("P1: an honest node is at height {lowest}, below {}", expect.expect_height));
        }
        if self.checker.violation.is_none() && highest - lowest > expect.expect_spread {
            self.checker.violated(&format!("P3: an honest node is at height {lowest}, another at {highest}"));
        }
        self.report.heights = self.nodes.iter().map(|node| node.ledger.height()).collect();
        self.report.views = self.nodes.iter().map(|n| n.machine.as_ref().map_or(0, |m| m.status().view)).collect();
        self.report.offenders = self.checker.offenders.iter().copied().collect();
        self.report.violation = self.checker.violation;
        self.report.trace = Digest(*self.trace.finalize().as_bytes());
        self.report.finality_ms.sort_unstable();
        self.report
    }

    pub(crate) fn schedule(&mut self, at_ms: u64, event: Event) {
        self.next += 1;
        self.events.insert((at_ms, self.next), event);
    }

    pub(crate) fn soon(&mut self, after_ms: u64, event: Event) {
        self.schedule(self.now_ms.saturating_add(after_ms), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, from, message } => self.deliver(to, from, message),
            Event::Timer { node, life, id } => {
                let due = self.nodes.get(node).is_some_and(|n| n.timers.get(&id.kind) == Some(&(self.now_ms, id)));
                if due && self.lives(node, life) {
                    self.step(node, Input::Timer(id));
                }
            }
            Event::Build { node, life, draft } if self.lives(node, life) => {
                let ticket = draft.ticket;
                let chance = &mut self.chance;
                let built = self.nodes.get_mut(node).and_then(|n| n.ledger.build(&draft, chance));
                let input =
                    built.map_or(Input::Unbuilt { ticket }, |(header, body)| Input::Built { ticket, header, body });
                self.step(node, input);
            }
            Event::Check { node, life, header, body } if self.lives(node, life) => {
                if let Some(verdict) = self.nodes.get_mut(node).map(|n| n.ledger.check(&header, &body)) {
                    self.step(node, Input::Checked { hash: header.hash(), verdict });
                }
            }
            Event::Finalise { node, life, checkpoint } if self.lives(node, life) => self.finalise(node, &checkpoint),
            Event::Deadline { node, life, id } if self.lives(node, life) => {
                if self.nodes.get_mut(node).is_some_and(|n| n.asked.remove(&id)) {
                    self.step(node, Input::FetchFailed { id });
                }
            }
            Event::Happen(happening) => self.befall(happening),
            Event::Recut => self.recut(),
            Event::Build { .. } | Event::Check { .. } | Event::Finalise { .. } | Event::Deadline { .. } => {}
        }
    }

    fn finalise(&mut self, at: usize, checkpoint: &Checkpoint) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        let (height, hash) = (checkpoint.header.height, checkpoint.header.hash());
        if node.behaviour.is_none() {
            self.checker.finalised(at, node.ledger.height(), checkpoint);
        }
        let agrees = node.ledger.finalise(checkpoint);
        let input = if agrees { Input::Finalised { height, hash } } else { Input::Diverged { height, hash } };
        if !agrees && node.behaviour.is_none() {
            self.checker.violated(&format!("S8: node {at} executes height {height} to another root"));
        }
        self.step(at, input);
    }

    fn befall(&mut self, happening: Happening) {
        match happening {
            Happening::Crash(node) => self.crash(node),
            Happening::Restart(node) | Happening::Join(node) => self.start(node),
            Happening::Partition(groups) => self.links.partition(&groups, self.nodes.len()),
            Happening::Deafen { from, to } => self.links.cut(from, to),
            Happening::Heal => {
                self.links.heal();
                self.report.healed_ms = Some(self.now_ms);
            }
            Happening::Links(params) => self.links.params = params,
            Happening::Clock { node, off_ms } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.off_ms = off_ms;
                }
            }
        }
    }

    /// Chaos: new random groups, or none, until its time is over.
    fn recut(&mut self) {
        let chaos = self.scenario.chaos;
        self.links.heal();
        if self.now_ms >= chaos.until_ms {
            return;
        }
        match self.chance.below(4) {
            0 => {}
            1 => {
                let (from, to) = (self.chance.index(self.nodes.len()), self.chance.index(self.nodes.len()));
                self.links.cut(from, to);
            }
            _ => {
                let mut groups = vec![Vec::new(), Vec::new()];
                for node in 0..self.nodes.len() {
                    let side = self.chance.index(2);
                    groups.iter_mut().skip(side).take(1).for_each(|group| group.push(node));
                }
                self.links.partition(&groups, self.nodes.len());
            }
        }
        self.soon(1 + self.chance.clone().below(2 * chaos.partition_every_ms), Event::Recut);
    }

    pub(crate) fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_up() && node.life == life)
    }

    fn start(&mut self, at: usize) {
        let (params, rules) = (self.params.clone(), self.rules);
        let Some(node) = self.nodes.get_mut(at).filter(|node| !node.is_up()) else { return };
        if let Err(error) = node.start(params, rules) {
            self.checker.violated(&format!("node {at} cannot start: {error}"));
            return;
        }
        let own = node.id;
        let peers: Vec<NodeId> = self.nodes.iter().map(|node| node.id).filter(|id| *id != own).collect();
        self.step(at, Input::Start);
        self.step(at, Input::Peers(peers));
    }

    pub(crate) fn crash(&mut self, at: usize) {
        if let Some(node) = self.nodes.get_mut(at).filter(|node| node.is_up()) {
            node.crash(&mut self.chance);
            self.report.crashes += 1;
        }
    }

    fn deliver(&mut self, to: usize, from: usize, message: Message) {
        let Some(peer) = self.nodes.get(from).map(|node| node.id) else { return };
        let Some(node) = self.nodes.get_mut(to).filter(|node| node.is_up()) else { return };
        let source = |relayed| Source { peer, relayed };
        let input = match message {
            Message::Vote(vote) => Input::HearVote { from: source(false), vote },
            Message::Proposal(proposal) => {
                Input::HearProposal { from: source(true), proposal: Box::new(Arc::unwrap_or_clone(proposal)) }
            }
            Message::Certificate(certificate) => {
                Input::HearCertificate { from: source(true), certificate: Arc::unwrap_or_clone(certificate) }
            }
            Message::Evidence(evidence) => Input::HearEvidence { from: source(true), evidence },
            Message::Ask { id, life, get } => return self.answer(to, from, id, life, &get),
            Message::Answer { id, life, got } => {
                if node.life != life || !node.asked.remove(&id) {
                    return;
                }
                Input::Got { id, got: *got }
            }
        };
        self.step(to, input);
    }

    fn answer(&mut self, at: usize, asker: usize, id: u64, life: u64, get: &Get) {
        let Some(peer) = self.nodes.get(asker).map(|node| node.id) else { return };
        let Some(node) = self.nodes.get(at) else { return };
        let Some(machine) = &node.machine else { return };
        let withheld = match node.behaviour {
            Some(Behaviour::Silent) => true,
            Some(Behaviour::Withholder | Behaviour::Fickle) => matches!(get, Get::Candidate(_) | Get::Range { .. }),
            _ => false,
        };
        if withheld {
            return;
        }
        let got = match machine.serve(get) {
            Served::Now(got) => got,
            Served::Stored { from, count } => assemble(node.ledger.finals_from(from), count),
        };
        self.send(at, asker, 0, &Message::Answer { id, life, got: Box::new(got) });
        if let Get::Status(status) = get {
            self.step(at, Input::HearStatus { from: peer, status: *status });
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, after_ms: u64, message: &Message) {
        for delay in self.links.delays(from, to, &mut self.chance) {
            self.soon(after_ms + delay, Event::Deliver { to, from, message: message.clone() });
        }
    }

    pub(crate) fn send_to_members(&mut self, from: usize, message: &Message) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if self.nodes.get(to).is_some_and(|node| node.key.is_some()) {
                self.send(from, to, 0, message);
            }
        }
    }

    pub(crate) fn send_to_all(&mut self, from: usize, after_ms: u64, message: &Message) {
        for to in 0..self.nodes.len() {
            self.send(from, to, after_ms, message);
        }
    }
}

/// The nodes of a world: members, observers, and perhaps a second one with a member's key.
fn roster(scenario: &Scenario, keys: Vec<SecretKey>, genesis: &Header) -> Vec<Node> {
    let twin = scenario.twin_of.and_then(|member| keys.get(member)).cloned();
    let all_keys = keys.into_iter().map(Some).chain((0..scenario.observers).map(|_| None)).chain(twin.map(Some));
    (0_u64..)
        .zip(all_keys)
        .map(|(number, key)| {
            let behaviour = scenario.byzantine.iter().find(|(node, _)| *node as u64 == number).map(|(_, b)| *b);
            let id = NodeId(hash("starling/1 sim node", &[&number.to_le_bytes()]).0);
            Node::new(id, key, behaviour, Ledger::new(genesis.clone()))
        })
        .collect()
}

/// The committee indices whose one node keeps the rules.
fn honest_members(scenario: &Scenario, nodes: &[Node], context: &CommitteeContext) -> BTreeSet<u16> {
    let members = nodes.iter().enumerate().take(scenario.weights.len());
    members
        .filter(|(at, node)| node.behaviour.is_none() && scenario.twin_of != Some(*at))
        .filter_map(|(_, node)| context.committee().index_of(&node.key.as_ref()?.public()))
        .collect()
}

#[cfg(test)]
fn weaken(committee: Committee, weak: Option<Rule>) -> Committee {
    if weak == Some(Rule::Quorum) { committee.weakened() } else { committee }
}

#[cfg(not(test))]
fn weaken(committee: Committee, _: Option<Rule>) -> Committee {
    committee
}

#[cfg(test)]
fn rules_without(weak: Option<Rule>) -> Rules {
    Rules::without(weak)
}

#[cfg(not(test))]
fn rules_without(_: Option<Rule>) -> Rules {
    Rules::default()
}
