//! The world: an event heap, a virtual clock, and the driver that performs what machines ask for.
//!
//! Everything drawn comes from one seed, everything that happens is hashed into the trace: the same scenario and seed
//! give the same trace, byte for byte (D1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::consensus::rules::{Rule, Rules};
use crate::consensus::{
    Draft, Effect, Input, Machine, Note, Now, Params, Publication, Record, Served, Source, TimerId, assemble,
};
use crate::protocol::chance::Chance;
use crate::protocol::checkpoint::{Body, Certificate, Checkpoint, Evidence, GenesisHeader, Header, Proposal, Vote};
use crate::protocol::committee::{Committee, CommitteeContext, CommitteeError, CommitteeMember};
use crate::protocol::ids::{AccountId, ChainId, Digest, NodeId, hash};
use crate::protocol::keys::SecretKey;
use crate::protocol::sync::{Get, Got};

use super::Report;
use super::byzantine::{Accomplice, Behaviour};
use super::checker::Checker;
use super::ledger::Ledger;
use super::link::Links;
use super::node::Node;
use super::scenario::{Happening, Scenario};

/// The virtual wall clock starts here.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// How long the simulated ledger takes for anything.
const LEDGER_MS: u64 = 2;

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
enum Event {
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
    scenario: Scenario,
    params: Params,
    rules: Rules,
    context: CommitteeContext,
    pub(crate) nodes: Vec<Node>,
    links: Links,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    now_ms: u64,
    chance: Chance,
    pub(crate) checker: Checker,
    trace: blake3::Hasher,
    report: Report,
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
        let twin = scenario.twin_of.and_then(|member| keys.get(member)).cloned();
        let all_keys = keys.into_iter().map(Some).chain((0..scenario.observers).map(|_| None)).chain(twin.map(Some));
        let nodes: Vec<Node> = (0_u64..)
            .zip(all_keys)
            .map(|(i, key)| {
                let at = usize::try_from(i).unwrap_or(usize::MAX);
                let behaviour = scenario.byzantine.iter().find(|(node, _)| *node == at).map(|(_, b)| *b);
                let id = NodeId(hash("starling/1 sim node", &[&i.to_le_bytes()]).0);
                Node::new(id, key, behaviour, Ledger::new(genesis.clone()))
            })
            .collect();
        let honest = nodes
            .iter()
            .enumerate()
            .filter(|(at, node)| node.behaviour.is_none() && scenario.twin_of != Some(*at))
            .take(scenario.weights.len())
            .filter_map(|(_, node)| context.committee().index_of(&node.key.as_ref()?.public()))
            .collect::<BTreeSet<u16>>();
        let honest = match &scenario.twin_of {
            Some(_) => honest.into_iter().filter(|i| !is_twin(&nodes, &context, *i)).collect(),
            None => honest,
        };
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
            self.checker.violated(format!("P1: an honest node is at height {lowest}, below {}", expect.expect_height));
        }
        if self.checker.violation.is_none() && highest - lowest > expect.expect_spread {
            self.checker.violated(format!("P3: an honest node is at height {lowest}, another at {highest}"));
        }
        self.report.heights = self.nodes.iter().map(|node| node.ledger.height()).collect();
        self.report.views = self.nodes.iter().map(|n| n.machine.as_ref().map_or(0, |m| m.status().view)).collect();
        self.report.offenders = self.checker.offenders.iter().copied().collect();
        self.report.violation = self.checker.violation;
        self.report.trace = Digest(*self.trace.finalize().as_bytes());
        self.report.finality_ms.sort_unstable();
        self.report
    }

    fn schedule(&mut self, at_ms: u64, event: Event) {
        self.next += 1;
        self.events.insert((at_ms, self.next), event);
    }

    fn soon(&mut self, after_ms: u64, event: Event) {
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
            self.checker.violated(format!("S8: node {at} executes height {height} to another root"));
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

    fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_up() && node.life == life)
    }

    fn start(&mut self, at: usize) {
        let (params, rules) = (self.params.clone(), self.rules);
        let Some(node) = self.nodes.get_mut(at).filter(|node| !node.is_up()) else { return };
        if let Err(error) = node.start(params, rules) {
            self.checker.violated(format!("node {at} cannot start: {error}"));
            return;
        }
        let own = node.id;
        let peers: Vec<NodeId> = self.nodes.iter().map(|node| node.id).filter(|id| *id != own).collect();
        self.step(at, Input::Start);
        self.step(at, Input::Peers(peers));
    }

    fn crash(&mut self, at: usize) {
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
            Served::Stored { from, count } => assemble(node.ledger.from_height(from), count),
        };
        self.send(at, asker, 0, Message::Answer { id, life, got: Box::new(got) });
        if let Get::Status(status) = get {
            self.step(at, Input::HearStatus { from: peer, status: *status });
        }
    }

    fn send(&mut self, from: usize, to: usize, after_ms: u64, message: Message) {
        for delay in self.links.delays(from, to, &mut self.chance) {
            self.soon(after_ms + delay, Event::Deliver { to, from, message: message.clone() });
        }
    }

    fn send_to_members(&mut self, from: usize, message: &Message) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if self.nodes.get(to).is_some_and(|node| node.key.is_some()) {
                self.send(from, to, 0, message.clone());
            }
        }
    }

    fn send_to_all(&mut self, from: usize, after_ms: u64, message: &Message) {
        for to in 0..self.nodes.len() {
            self.send(from, to, after_ms, message.clone());
        }
    }

    /// One step of a node and all that follows from it, cut short if the node dies on the way.
    fn step(&mut self, at: usize, input: Input) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(at) else { return };
        let wall_ms = EPOCH_MS.saturating_add(now_ms).saturating_add_signed(node.off_ms);
        let Some(machine) = node.machine.as_mut() else { return };
        let effects = machine.step(Now { mono_ms: now_ms, wall_ms }, input);
        let life = node.life;
        for effect in effects {
            let chaos = self.scenario.chaos;
            let dies = now_ms < chaos.until_ms && self.chance.one_in(chaos.crash_per_100k, 100_000);
            let honest = self.nodes.get(at).is_some_and(|node| node.behaviour.is_none());
            if dies && honest && self.lives(at, life) {
                if let Effect::Persist(records) = &effect {
                    self.append(at, records);
                }
                self.crash(at);
                let back_ms = 1 + self.chance.below(chaos.down_ms);
                self.soon(back_ms, Event::Happen(Happening::Restart(at)));
                return;
            }
            self.note_trace(at, &effect);
            self.perform(at, life, effect);
        }
    }

    /// What happened, told apart where it matters; formatting whole proposals would cost more than running them.
    fn note_trace(&mut self, at: usize, effect: &Effect) {
        self.trace.update(&self.now_ms.to_le_bytes()).update(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        match effect {
            Effect::SendVote(vote) => self.trace.update(b"v").update(&vote.layout()),
            Effect::Publish(Publication::Proposal(proposal)) => self.trace.update(b"p").update(&proposal.vote.layout()),
            Effect::Finalise(checkpoint) => self.trace.update(b"f").update(&checkpoint.header.hash().0),
            Effect::Persist(records) => self.trace.update(b"r").update(&records.len().to_le_bytes()),
            Effect::Fetch { get, .. } => self.trace.update(format!("{get:?}").as_bytes()),
            Effect::SetTimer { id, after_ms } => self.trace.update(format!("{id:?} {after_ms}").as_bytes()),
            Effect::Publish(_) => self.trace.update(b"c"),
            _ => self.trace.update(b"."),
        };
    }

    fn append(&mut self, at: usize, records: &[Record]) {
        if let Some(journal) = self.nodes.get_mut(at).and_then(|node| node.journal.as_mut()) {
            for record in records {
                if let Err(error) = journal.append(record.mark(), &record.layout()) {
                    self.checker.violated(format!("node {at}'s journal: {error}"));
                }
            }
        }
    }

    fn persist(&mut self, at: usize, records: &[Record]) {
        self.append(at, records);
        let Some(node) = self.nodes.get_mut(at) else { return };
        let synced = node.journal.as_mut().map(crate::store::journal::Journal::sync);
        node.note_durable(records);
        if let Some(Err(error)) = synced {
            self.checker.violated(format!("node {at}'s journal: {error}"));
        }
        if node.behaviour.is_none() {
            for record in records {
                if let Record::Certificate(certificate) = record {
                    self.checker.certified(certificate);
                }
            }
        }
    }

    fn perform(&mut self, at: usize, life: u64, effect: Effect) {
        if self.bent(at, &effect) {
            return;
        }
        let honest = self.nodes.get(at).is_some_and(|node| node.behaviour.is_none());
        match effect {
            Effect::Persist(records) => self.persist(at, &records),
            Effect::SendVote(vote) => {
                let durable = self.nodes.get(at).is_some_and(|node| node.durable_votes.contains(&vote));
                self.checker.sent(&vote, durable);
                self.send_to_members(at, &Message::Vote(vote));
            }
            Effect::Publish(publication) => self.publish(at, publication),
            Effect::SetTimer { id, after_ms } => {
                let at_ms = self.now_ms.saturating_add(after_ms);
                if let Some(node) = self.nodes.get_mut(at) {
                    node.timers.insert(id.kind, (at_ms, id));
                }
                self.schedule(at_ms, Event::Timer { node: at, life, id });
            }
            Effect::CancelTimer(kind) => {
                if let Some(node) = self.nodes.get_mut(at) {
                    node.timers.remove(&kind);
                }
            }
            Effect::Build(draft) => self.soon(LEDGER_MS, Event::Build { node: at, life, draft: Box::new(draft) }),
            Effect::Check { header, body } => {
                self.soon(LEDGER_MS, Event::Check { node: at, life, header: Box::new(header), body });
            }
            Effect::Finalise(checkpoint) => {
                if honest {
                    self.measure(&checkpoint);
                }
                self.soon(LEDGER_MS, Event::Finalise { node: at, life, checkpoint });
            }
            Effect::Fetch { id, peer, get, deadline_ms } => {
                if let Some(node) = self.nodes.get_mut(at) {
                    node.asked.insert(id);
                }
                self.report.fetches += 1;
                self.soon(deadline_ms, Event::Deadline { node: at, life, id });
                if let Some(to) = self.nodes.iter().position(|node| node.id == peer) {
                    self.send(at, to, 0, Message::Ask { id, life, get });
                }
            }
            Effect::Penalise { peer, fault } => {
                self.report.penalties += 1;
                let blamed = self.nodes.iter().position(|node| node.id == peer);
                if honest && blamed.is_none_or(|b| self.nodes.get(b).is_some_and(|node| node.behaviour.is_none())) {
                    self.checker.blamed(at, blamed, fault);
                }
            }
            Effect::Accuse(evidence) if honest => self.checker.accused(&evidence),
            Effect::DropJournal { mark } => {
                let journal = self.nodes.get_mut(at).and_then(|node| node.journal.as_mut());
                if let Some(Err(error)) = journal.map(|journal| journal.drop_through(mark)) {
                    self.checker.violated(format!("node {at}'s journal: {error}"));
                }
            }
            Effect::Note(note) => self.count(at, note),
            Effect::Halt(halt) => {
                self.report.halts += 1;
                if honest && self.scenario.expect_height > 0 {
                    self.checker.violated(format!("S1: node {at} halts: {halt:?}"));
                }
            }
            Effect::Stale { .. } => self.report.alarms += 1,
            Effect::Judge(_) | Effect::Accuse(_) => {}
        }
    }

    fn publish(&mut self, at: usize, publication: Publication) {
        let message = match publication {
            Publication::Proposal(proposal) => Message::Proposal(Arc::new(*proposal)),
            Publication::Certificate(certificate) => Message::Certificate(Arc::new(certificate)),
            Publication::Evidence(evidence) => Message::Evidence(evidence),
        };
        self.send_to_all(at, 0, &message);
    }

    fn count(&mut self, at: usize, note: Note) {
        match note {
            Note::Entered { skipped, .. } if at == 0 => {
                self.report.entered += 1;
                self.report.skipped += u64::from(skipped);
            }
            Note::Proposed { height, .. } => {
                self.report.proposed_ms.insert(height, self.now_ms);
            }
            Note::Dropped(_) => self.report.dropped += 1,
            Note::Entered { .. } => {}
        }
        let size = self.nodes.get(at).and_then(|n| n.machine.as_ref()).map_or(0, Machine::size);
        self.report.size_max = self.report.size_max.max(size);
    }

    /// From the proposal to the first finalisation at each node.
    fn measure(&mut self, checkpoint: &Checkpoint) {
        if let Some(at_ms) = self.report.proposed_ms.get(&checkpoint.header.height) {
            self.report.finality_ms.push(self.now_ms - at_ms);
        }
        if self.report.healed_ms.is_some_and(|healed| self.report.resumed_ms.is_none() && self.now_ms > healed) {
            self.report.resumed_ms = self.report.healed_ms.map(|healed| self.now_ms - healed);
        }
    }

    /// Lets a byzantine node bend an effect; true when that replaced it.
    fn bent(&mut self, at: usize, effect: &Effect) -> bool {
        let nodes = self.nodes.len();
        let Some(node) = self.nodes.get(at) else { return false };
        let (Some(behaviour), Some(machine), Some(key)) = (node.behaviour, &node.machine, &node.key) else {
            return false;
        };
        let index = self.context.committee().index_of(&key.public()).unwrap_or(0);
        let view_ms = self.scenario.interval_ms + 4 * self.scenario.delta_ms;
        let chance = &mut self.chance;
        let context = &self.context;
        let outgoing = Accomplice { behaviour, machine, context, key, index, nodes, view_ms, chance }.bend(effect);
        let Some(outgoing) = outgoing else { return false };
        for out in outgoing {
            match out.to {
                None => self.send_to_all(at, out.after_ms, &out.message),
                Some(to) => {
                    for to in to {
                        self.send(at, to, out.after_ms, out.message.clone());
                    }
                }
            }
        }
        !matches!(effect, Effect::Note(_))
    }
}

fn is_twin(nodes: &[Node], context: &CommitteeContext, index: u16) -> bool {
    let key = context.committee().get(index).map(|member| member.key);
    nodes.iter().filter(|node| node.key.as_ref().map(SecretKey::public) == key).count() > 1
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
