//! The driver of a simulated node: performs what its machine asks for, in order, as the real driver must - and dies
//! between any two effects when chaos wants it.

use std::sync::Arc;

use crate::consensus::{Effect, Input, Machine, Note, Now, Publication, Record};
use crate::protocol::checkpoint::Checkpoint;
use crate::store::journal::Journal;

use super::byzantine::Accomplice;
use super::scenario::Happening;
use super::world::{EPOCH_MS, Event, LEDGER_MS, Message, World};

impl World {
    /// One step of a node and all that follows from it, cut short if the node dies on the way.
    pub(crate) fn step(&mut self, at: usize, input: Input) {
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
                    self.checker.violated(&format!("node {at}'s journal: {error}"));
                }
            }
        }
    }

    fn persist(&mut self, at: usize, records: &[Record]) {
        self.append(at, records);
        let Some(node) = self.nodes.get_mut(at) else { return };
        let synced = node.journal.as_mut().map(Journal::sync);
        node.note_durable(records);
        if let Some(Err(error)) = synced {
            self.checker.violated(&format!("node {at}'s journal: {error}"));
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
                    self.send(at, to, 0, &Message::Ask { id, life, get });
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
                    self.checker.violated(&format!("node {at}'s journal: {error}"));
                }
            }
            Effect::Note(note) => self.count(at, note),
            Effect::Halt(halt) => {
                self.report.halts += 1;
                if honest && self.scenario.expect_height > 0 {
                    self.checker.violated(&format!("S1: node {at} halts: {halt:?}"));
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
                        self.send(at, to, out.after_ms, &out.message);
                    }
                }
            }
        }
        !matches!(effect, Effect::Note(_))
    }
}
