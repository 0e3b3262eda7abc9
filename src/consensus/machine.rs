//! The machine: its state, its one entry `step`, and entering views (C13).
//!
//! A step takes one input, applies what it says, then lets every rule act until none can (`settle`), and returns what
//! the driver must do, records to persist first. The rules read what is held, not what happened last, so no order of
//! messages, loss or restart needs a case of its own. Same state, time and input: same effects, byte for byte.
//!
//! Invariants: own votes go through `cast` alone, which records them; certificates through `accept` alone, which got
//! them verified; the final tip moves in `finality` alone, by one height at a time.

use std::collections::{BTreeMap, VecDeque};

use crate::protocol::checkpoint::{Ballot, Certificate, Evidence, Subject, Vote, VoteKind};
use crate::protocol::committee::CommitteeContext;
use crate::protocol::ids::{Digest, Height, NodeId, View};
use crate::protocol::keys::SecretKey;
use crate::protocol::sync::Status;

use super::effect::{Effect, Fault, Halt, Input, Note, Now, Publication, Record, Source, TimerId, TimerKind, Validity};
use super::leader::Schedule;
use super::pacing;
use super::planner::Planner;
use super::propose::Lead;
use super::rules::Rules;
use super::tree::Tree;
use super::view::ViewState;
use super::{Drop, Params};

/// Views behind the final one whose votes still count, as evidence and attendance (C49).
pub(crate) const BEHIND_FINAL: View = 8;
/// Views behind the current one whose votes still count (C49).
pub(crate) const BEHIND_CURRENT: View = 64;
/// Views ahead of the current one whose votes are kept (C49).
pub(crate) const AHEAD: View = 2;

/// Our place in the committee.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) index: u16,
    pub(crate) key: SecretKey,
}

/// The checkpoint protocol for one node, voting or observing.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) params: Params,
    pub(crate) context: CommitteeContext,
    pub(crate) schedule: Schedule,
    pub(crate) rules: Rules,
    /// `None`: an observer, which follows and never votes.
    pub(crate) me: Option<Member>,
    pub(crate) now: Now,
    pub(crate) view: View,
    pub(crate) entered_ms: u64,
    pub(crate) views: BTreeMap<View, ViewState>,
    pub(crate) tree: Tree,
    pub(crate) lead: Lead,
    pub(crate) tickets: u64,
    pub(crate) planner: Planner,
    /// By signer: one each (C49).
    pub(crate) evidence: BTreeMap<u16, Evidence>,
    /// The last view in which each member was heard (C28).
    pub(crate) seen: BTreeMap<u16, View>,
    /// Whether transactions wait (C24).
    pub(crate) pending: bool,
    /// Final, not yet reported durable.
    pub(crate) unsettled: VecDeque<(Height, Digest, View)>,
    /// Hashes of final checkpoints by view, the recent ones: what a late finalization is held against (C48).
    pub(crate) finals: BTreeMap<View, Digest>,
    pub(crate) last_final_ms: u64,
    pub(crate) alarmed_ms: u64,
    pub(crate) halted: bool,
    /// Counts what rules did, so that `settle` knows when none can act.
    pub(crate) moves: u64,
    /// Running timers: what for and until when, so that a step that changes nothing asks for nothing.
    pub(crate) armed: BTreeMap<TimerKind, (View, u64)>,
    pub(crate) records: Vec<Record>,
    pub(crate) out: Vec<Effect>,
}

impl Machine {
    /// The one entry: applies an input at a time and says what to do.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.now = Now { mono_ms: now.mono_ms.max(self.now.mono_ms), wall_ms: now.wall_ms };
        if self.halted {
            let mut effects = std::mem::take(&mut self.out);
            effects.extend(is_heard(&input).then_some(Effect::Judge(Validity::Ignore)));
            return effects;
        }
        self.apply(input);
        self.settle();
        if self.halted {
            self.withdraw();
        }
        let mut effects = Vec::with_capacity(self.out.len() + 1);
        if !self.records.is_empty() {
            effects.push(Effect::Persist(std::mem::take(&mut self.records)));
        }
        effects.append(&mut self.out);
        effects
    }

    fn apply(&mut self, input: Input) {
        match input {
            Input::Start => self.start(),
            Input::Timer(id) => self.time_out(id),
            Input::HearVote { from, vote } => {
                let validity = self.hear_vote(from, vote);
                self.out.push(Effect::Judge(validity));
            }
            Input::HearProposal { from, proposal } => {
                let validity = self.hear_proposal(from, *proposal);
                self.out.push(Effect::Judge(validity));
            }
            Input::HearCertificate { from, certificate } => {
                let validity = self.hear_certificate(from, &certificate);
                self.out.push(Effect::Judge(validity));
            }
            Input::HearEvidence { from, evidence } => {
                let validity = self.hear_evidence(from, evidence);
                self.out.push(Effect::Judge(validity));
            }
            Input::HearStatus { from, status } => self.hear_status(from, status),
            Input::Peers(peers) => self.meet(&peers),
            Input::Got { id, got } => self.got(id, got),
            Input::FetchFailed { id } => self.fetch_failed(id),
            Input::Built { ticket, header, body } => self.built(ticket, header, body),
            Input::Unbuilt { ticket } => self.unbuilt(ticket),
            Input::Checked { hash, verdict } => self.checked(hash, verdict),
            Input::Finalised { height, hash } => self.finalised(height, hash),
            Input::Diverged { height, hash } => self.halt(Halt::Diverged { height, hash }),
            Input::Pending(pending) => self.pending = pending,
        }
    }

    /// Lets every rule act until none can.
    fn settle(&mut self) {
        loop {
            let before = self.moves;
            self.advance_finality();
            if self.halted {
                return;
            }
            self.advance_checks();
            self.advance_votes();
            self.advance_lead();
            if self.moves == before {
                return;
            }
        }
    }

    /// C13: whoever holds a certificate of the view before is in this one, whatever kind it is.
    pub(crate) fn enter(&mut self, view: View, skipped: bool) {
        self.view = view;
        self.entered_ms = self.now.mono_ms;
        self.lead = Lead::Idle;
        self.moves += 1;
        self.out.push(Effect::Note(Note::Entered { view, skipped }));
        self.arm_timers();
        // Votes so old are waited for by nobody; certificates and own votes stay until the view is final.
        let old = view.saturating_sub(BEHIND_CURRENT);
        for state in self.views.range_mut(..old).rev().take(usize::try_from(BEHIND_CURRENT).unwrap_or(0)) {
            state.1.tally.clear();
        }
    }

    /// Starts the timers of the current view (C25).
    pub(crate) fn arm_timers(&mut self) {
        for kind in [TimerKind::Resend, TimerKind::Propose, TimerKind::Hold] {
            if self.armed.remove(&kind).is_some() {
                self.out.push(Effect::CancelTimer(kind));
            }
        }
        if self.me.is_none() {
            return;
        }
        let lost = self.lost_views();
        let leader_ms = pacing::leader_ms(&self.params, self.pending, lost);
        let view_ms = pacing::view_ms(&self.params, self.pending, lost);
        self.set_timer(TimerKind::Leader, leader_ms);
        self.set_timer(TimerKind::View, view_ms);
    }

    fn time_out(&mut self, id: TimerId) {
        let Some((_, at_ms)) = self.armed.get(&id.kind).copied().filter(|(view, _)| *view == id.view) else { return };
        if at_ms > self.now.mono_ms {
            // One that was replaced, or a clock that rounds: the rest of the time still has to pass.
            self.out.push(Effect::SetTimer { id, after_ms: at_ms - self.now.mono_ms });
            return;
        }
        self.armed.remove(&id.kind);
        match id.kind {
            TimerKind::Sync => self.look_around(),
            _ if id.view != self.view => {}
            TimerKind::Leader => {
                if self.here().is_none_or(|state| state.offer.is_none()) {
                    self.nullify();
                }
            }
            TimerKind::View => self.view_over(),
            TimerKind::Resend => self.resend(),
            // What these waited for is a matter of time, which `settle` reads.
            TimerKind::Propose | TimerKind::Hold => {}
        }
    }

    /// C16: a proposal that waits for a long justification gets the view's time once more.
    fn view_over(&mut self) {
        let waits = self.here().is_some_and(|s| !s.extended && s.offer.is_some_and(|o| !self.is_justified(&o)));
        if waits {
            let view_ms = pacing::view_ms(&self.params, self.pending, self.lost_views());
            self.views.entry(self.view).or_default().extended = true;
            self.set_timer(TimerKind::View, view_ms);
        } else {
            self.nullify();
        }
    }

    /// C26: what lets others leave this view or catch up with it, for as long as we are in it.
    fn resend(&mut self) {
        let own = self.here().map(|state| state.own.votes.clone()).unwrap_or_default();
        self.out.extend(own.into_iter().map(Effect::SendVote));
        let entry = self.entry_certificate().cloned();
        self.out.extend(entry.map(|certificate| Effect::Publish(Publication::Certificate(certificate))));
        self.set_timer(TimerKind::Resend, self.resend_ms());
    }

    pub(crate) fn resend_ms(&self) -> u64 {
        pacing::delta_ms(&self.params, self.lost_views()).saturating_mul(2)
    }

    /// Signs, records and sends; the caller has asked the rules (C17-C20).
    pub(crate) fn cast(&mut self, view: View, ballot: Ballot) -> Option<Vote> {
        let member = self.me.as_ref()?;
        let subject = Subject { term: self.context.term(), view, ballot };
        let vote = Vote::sign(&self.context, subject, member.index, &member.key);
        self.moves += 1;
        self.records.push(Record::Vote(vote));
        self.out.push(Effect::SendVote(vote));
        let own = Source { peer: NodeId::ZERO, relayed: false };
        let state = self.views.entry(view).or_default();
        state.own.note(vote);
        state.tally.hear(&self.context, own, vote, true);
        self.see(vote.signer, view);
        self.certify(&subject);
        Some(vote)
    }

    /// Forms the certificate of a subject if the votes suffice (C21).
    pub(crate) fn certify(&mut self, subject: &Subject) {
        let mut blame = Vec::new();
        let state = self.views.entry(subject.view).or_default();
        if state.holds(subject) {
            return;
        }
        let certificate = state.tally.certify(&self.context, subject, &mut blame);
        self.penalise(blame, Fault::BadSignature);
        if let Some(certificate) = certificate {
            self.accept(&certificate, true);
        }
    }

    /// Takes a verified certificate: keeps it, publishes it if it is ours or led us on, and enters the next view.
    pub(crate) fn accept(&mut self, certificate: &Certificate, formed: bool) {
        let (view, kind) = (certificate.subject.view, certificate.kind());
        if kind == VoteKind::Finalize && self.contradicts_final(certificate) {
            return;
        }
        if view <= self.tree.tip().view {
            return;
        }
        for signer in certificate.signers.iter() {
            self.see(signer, view);
        }
        let leads_on = view >= self.view;
        let votes = self.me.is_some();
        let state = self.views.entry(view).or_default();
        let new = state.keep(certificate);
        if !new && !leads_on {
            return;
        }
        self.moves += 1;
        let publish = votes && (formed || leads_on) && state.publish_once(kind);
        if new {
            self.records.push(Record::Certificate(certificate.clone()));
        }
        if publish {
            self.out.push(Effect::Publish(Publication::Certificate(certificate.clone())));
        }
        if leads_on {
            self.enter(view + 1, kind == VoteKind::Nullify);
        }
    }

    /// The certificate that leads into the current view.
    pub(crate) fn entry_certificate(&self) -> Option<&Certificate> {
        self.view.checked_sub(1).and_then(|before| self.views.get(&before)).and_then(|s| s.certificates().next())
    }

    /// Nullified views just before this one, as we know it (C25).
    pub(crate) fn lost_views(&self) -> View {
        let floor = self.tree.tip().view;
        let below = self.views.range(floor.saturating_add(1)..self.view.max(floor.saturating_add(1)));
        let parent = below.rev().find(|(_, state)| state.notarized().is_some()).map_or(floor, |(view, _)| *view);
        self.view.saturating_sub(1).saturating_sub(parent)
    }

    pub(crate) fn here(&self) -> Option<&ViewState> {
        self.views.get(&self.view)
    }

    pub(crate) fn see(&mut self, signer: u16, view: View) {
        let seen = self.seen.entry(signer).or_default();
        *seen = view.max(*seen);
    }

    pub(crate) fn set_timer(&mut self, kind: TimerKind, after_ms: u64) {
        let armed = (self.view, self.now.mono_ms.saturating_add(after_ms));
        if self.armed.insert(kind, armed) != Some(armed) {
            self.out.push(Effect::SetTimer { id: TimerId { kind, view: self.view }, after_ms });
        }
    }

    pub(crate) fn penalise(&mut self, peers: impl IntoIterator<Item = NodeId>, fault: Fault) {
        self.out.extend(peers.into_iter().map(|peer| Effect::Penalise { peer, fault }));
    }

    pub(crate) fn drop_one(&mut self, what: Drop) -> Validity {
        self.out.push(Effect::Note(Note::Dropped(what)));
        Validity::Ignore
    }

    /// C48: the end; everything else this step wanted but records is withdrawn.
    pub(crate) fn halt(&mut self, reason: Halt) {
        self.halted = true;
        if let Halt::Conflict { known, other, .. } = &reason {
            let both = known.iter().chain([other]).cloned();
            self.records.extend(both.map(Record::Certificate));
        }
        self.out.push(Effect::Halt(Box::new(reason)));
        self.withdraw();
    }

    fn withdraw(&mut self) {
        self.out.retain(|effect| matches!(effect, Effect::Judge(_) | Effect::Finalise(_) | Effect::Halt(_)));
    }

    /// Where we stand, for others (K1).
    pub fn status(&self) -> Status {
        let tip = self.tree.tip();
        Status {
            term: self.context.term(),
            view: self.view,
            height: tip.height,
            hash: self.tree.tip_hash(),
            entry: self.entry_certificate().map(|certificate| certificate.subject),
        }
    }

    /// The committee index we vote with; `None` for an observer.
    pub fn member(&self) -> Option<u16> {
        self.me.as_ref().map(|member| member.index)
    }

    /// Who leads the current view.
    pub fn leader(&self) -> u16 {
        self.schedule.leader(self.view)
    }

    /// Views, candidates and pieces of evidence held: what the bounds are about (C49).
    pub fn size(&self) -> usize {
        self.views.len() + self.tree.entries().count() + self.evidence.len()
    }

    /// Whether the machine has stopped for good (C48).
    pub fn is_halted(&self) -> bool {
        self.halted
    }
}

fn is_heard(input: &Input) -> bool {
    matches!(
        input,
        Input::HearVote { .. }
            | Input::HearProposal { .. }
            | Input::HearCertificate { .. }
            | Input::HearEvidence { .. }
    )
}
