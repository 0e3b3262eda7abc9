//! What others say: votes, proposals, certificates, evidence - judged, kept or dropped (C15, C21, C49, C54).
//!
//! A fault under the leader's signature spoils the view; a fault that a deliverer can make (a body that is not the
//! header's, a justification that does not prove) costs the deliverer and leaves room for a better copy.

use std::sync::Arc;

use crate::protocol::checkpoint::{
    Candidate, Certificate, Evidence, HEADER_VERSION, Header, Proposal, SKIPS_MAX, Vote, VoteKind,
};
use crate::protocol::ids::View;

use super::effect::{Drop, Effect, Fault, Halt, Publication, Source, Validity};
use super::machine::{AHEAD, BEHIND_CURRENT, BEHIND_FINAL, Machine};
use super::tree::{Entry, Standing};
use super::view::{Offer, ViewState};

impl Machine {
    /// A vote: bounded by the window, kept by first come, certified when it completes a quorum (C21, C35).
    pub(crate) fn hear_vote(&mut self, from: Source, vote: Vote) -> Validity {
        let subject = vote.subject;
        if subject.term != self.context.term() || !self.in_window(subject.view) {
            return self.drop_one(Drop::VoteOutsideWindow);
        }
        if self.context.committee().get(vote.signer).is_none() {
            self.penalise([from.peer], Fault::BadSignature);
            return Validity::Reject;
        }
        let state = self.views.entry(subject.view).or_default();
        if state.own.votes.contains(&vote) {
            return Validity::Ignore;
        }
        let heard = state.tally.hear(&self.context, from, vote, false);
        self.penalise(heard.blame, Fault::BadSignature);
        if let Some(evidence) = heard.evidence {
            self.accuse(evidence, true);
        }
        if heard.kept {
            self.see(vote.signer, subject.view);
            // Below the final view only a second finalization still means something (C48).
            if subject.view > self.tree.tip().view || subject.ballot.kind() == VoteKind::Finalize {
                self.certify(&subject);
            }
        }
        match (heard.forged, heard.kept) {
            (true, _) => Validity::Reject,
            (false, true) => Validity::Accept,
            (false, false) => Validity::Ignore,
        }
    }

    fn in_window(&self, view: View) -> bool {
        let lowest = self.tree.tip().view.saturating_sub(BEHIND_FINAL).max(self.view.saturating_sub(BEHIND_CURRENT));
        view > 0 && view >= lowest && view <= self.view.saturating_add(AHEAD)
    }

    /// A certificate: verified unless one of the same subject is held.
    pub(crate) fn hear_certificate(&mut self, from: Source, certificate: &Certificate) -> Validity {
        let subject = &certificate.subject;
        let settled = match self.views.get(&subject.view) {
            Some(state) if state.holds(subject) => true,
            _ => subject.view <= self.tree.tip().view && !self.is_other_final(certificate),
        };
        if subject.term != self.context.term() || settled {
            return self.drop_one(Drop::CertificateStale);
        }
        if certificate.verify(&self.context).is_err() {
            self.penalise([from.peer], Fault::BadCertificate);
            return Validity::Reject;
        }
        self.accept(certificate, false);
        Validity::Accept
    }

    /// Whether a finalization names something else than what is final there, as far back as we remember.
    fn is_other_final(&self, certificate: &Certificate) -> bool {
        let view = certificate.subject.view;
        let Some(candidate) = certificate.subject.ballot.candidate() else { return false };
        let remembered = self.finals.first_key_value().is_some_and(|(first, _)| *first <= view);
        certificate.kind() == VoteKind::Finalize
            && remembered
            && view <= self.tree.tip().view
            && self.finals.get(&view) != Some(&candidate.hash)
    }

    /// C48: a verified finalization against what is final, or against another finalization of its view.
    pub(crate) fn contradicts_final(&mut self, certificate: &Certificate) -> bool {
        let view = certificate.subject.view;
        let held = self.views.get(&view).and_then(|state| state.certificate(VoteKind::Finalize));
        let other = held.filter(|held| held.subject != certificate.subject).cloned();
        if other.is_none() && !self.is_other_final(certificate) {
            return false;
        }
        let hash = certificate.subject.ballot.candidate().map(|candidate| candidate.hash).unwrap_or_default();
        let height = self.tree.tip().height;
        self.halt(Halt::Conflict { known: other, height, view, hash, other: certificate.clone() });
        true
    }

    /// Evidence from elsewhere: new for its signer, then verified (C45, C49).
    pub(crate) fn hear_evidence(&mut self, from: Source, evidence: Evidence) -> Validity {
        if self.evidence.contains_key(&evidence.signer()) {
            return self.drop_one(Drop::EvidenceOverBound);
        }
        if evidence.verify(&self.context).is_err() {
            self.penalise([from.peer], Fault::BadSignature);
            return Validity::Reject;
        }
        self.accuse(evidence, false);
        Validity::Accept
    }

    fn accuse(&mut self, evidence: Evidence, publish: bool) {
        if self.evidence.contains_key(&evidence.signer()) {
            return;
        }
        self.evidence.insert(evidence.signer(), evidence);
        self.out.push(Effect::Accuse(evidence));
        if publish {
            self.out.push(Effect::Publish(Publication::Evidence(evidence)));
        }
    }

    /// A proposal: its signature first, then what a deliverer could have changed, then what the leader signed (C15).
    pub(crate) fn hear_proposal(&mut self, from: Source, proposal: Proposal) -> Validity {
        let vote = proposal.vote;
        let view = vote.subject.view;
        if vote.subject.term != self.context.term() || view <= self.tree.tip().view {
            return self.drop_one(Drop::ProposalOutsideWindow);
        }
        let known = self.views.get(&view).and_then(|state| state.offer);
        if known.is_some_and(|offer| Some(offer.candidate) == vote.subject.ballot.candidate()) {
            return Validity::Ignore;
        }
        let Some(candidate) = proposal.candidate().filter(|_| vote.signer == self.schedule.leader(view)) else {
            self.penalise([from.peer], Fault::WrongLeader);
            return Validity::Reject;
        };
        if vote.verify(&self.context).is_err() {
            self.penalise([from.peer], Fault::BadSignature);
            return Validity::Reject;
        }
        if !proposal.body.belongs_to(&proposal.header) {
            self.penalise([from.peer], Fault::WrongBody);
            return Validity::Reject;
        }
        if !self.take_justification(view, &candidate, &proposal) {
            self.penalise([from.peer], Fault::Unjustified);
            return Validity::Reject;
        }
        self.take_proposal(from, candidate, proposal)
    }

    /// Verifies and keeps the certificates a proposal carries, which may lead us to its view, and says whether with
    /// what we hold they prove that it may build on its parent; with more than `SKIPS_MAX` skips that may take a fetch.
    fn take_justification(&mut self, view: View, candidate: &Candidate, proposal: &Proposal) -> bool {
        let justification = &proposal.justification;
        if justification.skips.len() > SKIPS_MAX || candidate.parent_view >= view {
            return false;
        }
        // What attended is what signed the parent's certificate, all of it (C12).
        let (attended, names_parent) = match &justification.parent {
            None => (Vec::new(), candidate.parent_view == 0),
            Some(certificate) => {
                let notarized = certificate.subject.ballot.candidate().map(|parent| parent.hash);
                let named =
                    certificate.subject.view == candidate.parent_view && notarized == Some(proposal.header.parent_hash);
                (certificate.signers.as_bytes().to_vec(), named)
            }
        };
        if !names_parent || proposal.body.attendance.as_bytes() != attended {
            return false;
        }
        for certificate in justification.parent.iter().chain(&justification.skips) {
            // The parent's is verified even if one of its subject is held: its signers are the attendance.
            let held =
                self.views.get(&certificate.subject.view).is_some_and(|s| s.certificates().any(|c| c == certificate));
            if !held && certificate.verify(&self.context).is_err() {
                return false;
            }
            self.accept(certificate, false);
        }
        let skips = view.saturating_sub(1).saturating_sub(candidate.parent_view);
        let offer = offer_of(candidate, &proposal.header);
        self.halted || self.view > view || skips > SKIPS_MAX as u64 || (self.view == view && self.is_justified(&offer))
    }

    /// Takes a signed, complete and justified proposal: the first of its view is the one voted on (C17).
    fn take_proposal(&mut self, from: Source, candidate: Candidate, proposal: Proposal) -> Validity {
        let view = proposal.vote.subject.view;
        let header = proposal.header;
        let spoiled = !self.is_well_formed(view, &header, proposal.body.transactions.len())
            || proposal.body.check_size().is_err();
        let entry = Entry { body: Arc::new(proposal.body), header, standing: Standing::Waiting, durable: false };
        let offer = offer_of(&candidate, &entry.header);
        if view > self.view.saturating_add(1) {
            return self.drop_one(Drop::ProposalOutsideWindow);
        }
        let state = self.views.entry(view).or_default();
        let heard = state.tally.hear(&self.context, from, proposal.vote, true);
        self.penalise(heard.blame, Fault::BadSignature);
        let conflict = heard.evidence;
        self.see(proposal.vote.signer, view);
        let state = self.views.entry(view).or_default();
        let replaces = !self.rules.hold(super::rules::Rule::NotarizeOnce);
        if state.offer.is_none() || replaces {
            state.offer = Some(offer);
            state.spoiled |= spoiled;
        }
        let wanted = state.offer == Some(offer) || state.notarized() == Some(candidate);
        if let Some(evidence) = conflict {
            self.accuse(evidence, true);
        }
        if !spoiled && wanted && !self.tree.insert(candidate.hash, entry) {
            self.drop_one(Drop::CandidateOverBound);
        }
        self.moves += 1;
        self.certify(&proposal.vote.subject);
        Validity::Accept
    }

    /// What the leader answers for in a header, as far as it needs no parent (C15).
    pub(crate) fn is_well_formed(&self, view: View, header: &Header, transactions: usize) -> bool {
        header.version == HEADER_VERSION
            && header.chain == self.params.chain
            && header.term == self.context.term()
            && header.view == view
            && header.proposer == self.schedule.leader(view)
            && header.set_hash == self.context.set_hash()
            && usize::try_from(header.tx_count).is_ok_and(|count| count == transactions)
    }
}

fn offer_of(candidate: &Candidate, header: &Header) -> Offer {
    Offer { candidate: *candidate, timestamp_ms: header.timestamp_ms, parent_hash: header.parent_hash }
}

impl Machine {
    /// The state of a view, if anything is known of it.
    pub(crate) fn at(&self, view: View) -> Option<&ViewState> {
        self.views.get(&view)
    }
}
