//! Members that break the rules, each in its own way: an honest machine whose effects are bent before they leave.

use std::sync::Arc;

use crate::consensus::{Effect, Machine, Note, Publication};
use crate::protocol::chance::Chance;
use crate::protocol::checkpoint::{
    Ballot, Body, Candidate, Header, Justification, Proposal, Subject, Vote, attendance_hash,
};
use crate::protocol::committee::CommitteeContext;
use crate::protocol::ids::{Digest, View};
use crate::protocol::keys::{SecretKey, Signature};

use super::ledger::execute;
use super::world::Message;

/// How a member misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// Says nothing at all.
    Silent,
    /// Gives every view up as soon as it begins.
    Nuller,
    /// Proposes to one node only and serves no bodies.
    Withholder,
    /// Proposes twice, to halves and later again, and votes for everything.
    Equivocator,
    /// Builds on something older without proof that it may.
    Conflicter,
    /// Proposes a wrong state root.
    Liar,
    /// Proposes just before the view times out.
    Laggard,
    /// Floods with votes for far views and signatures that do not hold.
    Flooder,
    /// Draws another of these for every view.
    Fickle,
}

const TURNS: [Behaviour; 8] = [
    Behaviour::Equivocator,
    Behaviour::Conflicter,
    Behaviour::Silent,
    Behaviour::Withholder,
    Behaviour::Nuller,
    Behaviour::Liar,
    Behaviour::Laggard,
    Behaviour::Flooder,
];

impl Behaviour {
    /// All plain behaviours, one after another.
    pub fn in_turn(turn: usize) -> Self {
        TURNS.get(turn % TURNS.len()).copied().unwrap_or(Self::Silent)
    }
}

/// What leaves a byzantine node: to whom (`None`: everybody), after how long.
pub(crate) struct Outgoing {
    pub(crate) to: Option<Vec<usize>>,
    pub(crate) after_ms: u64,
    pub(crate) message: Message,
}

/// What a byzantine member knows and can sign with.
pub(crate) struct Accomplice<'a> {
    pub(crate) behaviour: Behaviour,
    pub(crate) machine: &'a Machine,
    pub(crate) context: &'a CommitteeContext,
    pub(crate) key: &'a SecretKey,
    pub(crate) index: u16,
    pub(crate) nodes: usize,
    /// How late is just not too late.
    pub(crate) view_ms: u64,
    pub(crate) chance: &'a mut Chance,
}

impl Accomplice<'_> {
    /// Bends one effect; `None` leaves it as an honest node would do it.
    pub(crate) fn bend(&mut self, effect: &Effect) -> Option<Vec<Outgoing>> {
        let speaks = matches!(effect, Effect::SendVote(_) | Effect::Publish(_) | Effect::Note(Note::Entered { .. }));
        if !speaks {
            return None;
        }
        match self.behaviour {
            Behaviour::Silent => Some(Vec::new()),
            Behaviour::Nuller => self.nuller(effect),
            Behaviour::Withholder => self.withholder(effect),
            Behaviour::Equivocator => self.equivocator(effect),
            Behaviour::Conflicter => self.conflicter(effect),
            Behaviour::Liar => self.liar(effect),
            Behaviour::Laggard => self.laggard(effect),
            Behaviour::Flooder => self.flooder(effect),
            Behaviour::Fickle => {
                self.behaviour = Behaviour::in_turn(self.chance.index(TURNS.len()));
                self.bend(effect)
            }
        }
    }

    fn vote(&self, view: View, ballot: Ballot) -> Vote {
        let subject = Subject { term: self.context.term(), view, ballot };
        Vote::sign(self.context, subject, self.index, self.key)
    }

    fn half(&mut self) -> (Vec<usize>, Vec<usize>) {
        let mut nodes: Vec<usize> = (0..self.nodes).collect();
        self.chance.shuffle(&mut nodes);
        let other = nodes.split_off(self.nodes / 2);
        (nodes, other)
    }

    fn nuller(&mut self, effect: &Effect) -> Option<Vec<Outgoing>> {
        match effect {
            Effect::Note(Note::Entered { view, .. }) => Some(vec![all(self.vote(*view, Ballot::Nullify))]),
            Effect::SendVote(_) | Effect::Publish(Publication::Proposal(_)) => Some(Vec::new()),
            _ => None,
        }
    }

    fn withholder(&mut self, effect: &Effect) -> Option<Vec<Outgoing>> {
        let Effect::Publish(Publication::Proposal(proposal)) = effect else { return None };
        let lucky = self.chance.index(self.nodes);
        let message = Message::Proposal(Arc::new(proposal.as_ref().clone()));
        Some(vec![Outgoing { to: Some(vec![lucky]), after_ms: 0, message }])
    }

    fn equivocator(&mut self, effect: &Effect) -> Option<Vec<Outgoing>> {
        match effect {
            Effect::Publish(Publication::Proposal(proposal)) => {
                let other = self.resign(proposal, |body| body.transactions.push(vec![0xEE; 8]), None);
                let (one_half, other_half) = self.half();
                let late_ms = self.chance.below(3_000);
                let one = Message::Proposal(Arc::new(proposal.as_ref().clone()));
                let two = Message::Proposal(Arc::new(other));
                Some(vec![
                    Outgoing { to: Some(one_half.clone()), after_ms: 0, message: one.clone() },
                    Outgoing { to: Some(other_half.clone()), after_ms: 0, message: two.clone() },
                    Outgoing { to: Some(one_half), after_ms: late_ms, message: two },
                    Outgoing { to: Some(other_half), after_ms: late_ms, message: one },
                ])
            }
            Effect::SendVote(vote) => {
                let view = vote.subject.view;
                let ballots = match vote.subject.ballot {
                    // A leader that gives its own view up is skipped at once and has nobody left to fool.
                    Ballot::Notarize(candidate) if self.machine.leads(view) => vec![Ballot::Finalize(candidate)],
                    Ballot::Notarize(candidate) => vec![Ballot::Nullify, Ballot::Finalize(candidate)],
                    Ballot::Nullify => Vec::new(),
                    Ballot::Finalize(candidate) => vec![Ballot::Nullify, Ballot::Notarize(candidate)],
                };
                let more = ballots.into_iter().map(|ballot| self.vote(view, ballot)).collect::<Vec<_>>();
                Some([*vote].into_iter().chain(more).map(all).collect())
            }
            _ => None,
        }
    }

    /// Upon entering a view it leads: a proposal on the tip or an older notarized view, with no proof of the skips.
    fn conflicter(&mut self, effect: &Effect) -> Option<Vec<Outgoing>> {
        match effect {
            Effect::Note(Note::Entered { view, .. }) if self.machine.leader() == self.index => {
                Some(self.conflicting(*view).into_iter().collect())
            }
            Effect::Publish(Publication::Proposal(_)) => Some(Vec::new()),
            Effect::SendVote(vote) => match vote.subject.ballot {
                // Helps whatever it sees, whatever it said before.
                Ballot::Notarize(candidate) => {
                    let finalize = self.vote(vote.subject.view, Ballot::Finalize(candidate));
                    Some(vec![all(*vote), all(finalize)])
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn conflicting(&mut self, view: View) -> Option<Outgoing> {
        let parent_view = self.machine.older_parent(view)?;
        let (parent, certificate) = self.machine.parent_at(parent_view)?;
        let attendance = certificate.as_ref().map(|c| c.signers.clone()).unwrap_or_default();
        let body = Body { attendance, transactions: vec![vec![0xCC; 8]] };
        let (height, timestamp_ms) = (parent.height + 1, parent.timestamp_ms + self.machine.interval_ms());
        let header = Header {
            height,
            view,
            timestamp_ms,
            proposer: self.index,
            tx_count: 1,
            parent_hash: parent.hash(),
            body_root: body.root(),
            state_root: execute(&parent.state_root, height, timestamp_ms, &body),
            set_hash: self.context.set_hash(),
            next_set_hash: self.context.set_hash(),
            attendance_hash: attendance_hash(body.attendance.as_bytes()),
            ..parent
        };
        let vote = self.vote(view, Ballot::Notarize(Candidate { hash: header.hash(), parent_view }));
        let justification = Justification { parent: certificate, skips: Vec::new() };
        let message = Message::Proposal(Arc::new(Proposal { header, body, justification, vote }));
        Some(Outgoing { to: None, after_ms: 0, message })
    }

    fn liar(&mut self, effect: &Effect) -> Option<Vec<Outgoing>> {
        let Effect::Publish(Publication::Proposal(proposal)) = effect else { return None };
        let lie = self.resign(proposal, |_| {}, Some(Digest([0xBA; 32])));
        Some(vec![Outgoing { to: None, after_ms: 0, message: Message::Proposal(Arc::new(lie)) }])
    }

    fn laggard(&mut self, effect: &Effect) -> Option<Vec<Outgoing>> {
        let Effect::Publish(Publication::Proposal(proposal)) = effect else { return None };
        let message = Message::Proposal(Arc::new(proposal.as_ref().clone()));
        let (one_half, other_half) = self.half();
        let late_ms = self.view_ms.saturating_sub(120);
        Some(vec![
            Outgoing { to: Some(one_half), after_ms: late_ms, message: message.clone() },
            Outgoing { to: Some(other_half), after_ms: late_ms + self.chance.below(120), message },
        ])
    }

    fn flooder(&mut self, effect: &Effect) -> Option<Vec<Outgoing>> {
        let Effect::SendVote(vote) = effect else { return None };
        let far = (0..20).map(|i| self.vote(vote.subject.view + 3 + i * 1_000, Ballot::Nullify)).map(all);
        let members = u16::try_from(self.context.committee().members().len()).unwrap_or(1);
        let forged = (0..members).map(|signer| Vote { signer, signature: Signature([signer as u8; 64]), ..*vote });
        Some(far.chain(forged.filter(|forged| forged.signer != self.index).map(all)).chain([all(*vote)]).collect())
    }

    /// Another proposal for the same view under our own signature.
    fn resign(&self, proposal: &Proposal, change: impl FnOnce(&mut Body), lie: Option<Digest>) -> Proposal {
        let mut body = proposal.body.clone();
        change(&mut body);
        let parent = self.machine.header_of(&proposal.header.parent_hash).map(|header| header.state_root);
        let mut header = proposal.header.clone();
        header.tx_count = u32::try_from(body.transactions.len()).unwrap_or(0);
        header.body_root = body.root();
        let honest = execute(&parent.unwrap_or_default(), header.height, header.timestamp_ms, &body);
        header.state_root = lie.unwrap_or(honest);
        let parent_view = proposal.vote.subject.ballot.candidate().map_or(0, |candidate| candidate.parent_view);
        let vote = self.vote(header.view, Ballot::Notarize(Candidate { hash: header.hash(), parent_view }));
        Proposal { header, body, justification: proposal.justification.clone(), vote }
    }
}

fn all(vote: Vote) -> Outgoing {
    Outgoing { to: None, after_ms: 0, message: Message::Vote(vote) }
}

impl Machine {
    /// For those who break the rules: a notarized view, or the tip, below the best parent.
    fn older_parent(&self, view: View) -> Option<View> {
        let tip = self.tree.tip().view;
        let lower = self.views.range(tip + 1..view).filter(|(_, state)| state.notarized().is_some());
        let mut views: Vec<View> = [tip].into_iter().chain(lower.map(|(view, _)| *view)).collect();
        views.pop().filter(|_| !views.is_empty())?;
        views.pop()
    }

    fn parent_at(&self, view: View) -> Option<(Header, Option<crate::protocol::checkpoint::Certificate>)> {
        let state = self.at(view);
        let certificate = state.and_then(|state| state.parent_certificate()).cloned();
        if view == self.tree.tip().view {
            return (view == 0 || certificate.is_some()).then(|| (self.tree.tip().clone(), certificate));
        }
        let candidate = state.and_then(|state| state.notarized())?;
        Some((self.header_of(&candidate.hash)?.clone(), certificate))
    }

    fn header_of(&self, hash: &Digest) -> Option<&Header> {
        self.tree.header(hash)
    }

    fn leads(&self, view: View) -> bool {
        self.me.as_ref().is_some_and(|member| self.schedule.leader(view) == member.index)
    }

    fn interval_ms(&self) -> u64 {
        self.params.interval_ms
    }
}
