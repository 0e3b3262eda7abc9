//! All that is known about one view: own votes, the votes of others, the proposal, the certificates.

use crate::protocol::checkpoint::{Candidate, Certificate, Subject, VoteKind};
use crate::protocol::ids::Digest;

use super::rules::Own;
use super::votes::Tally;

/// The first signed, complete and justified proposal of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) candidate: Candidate,
    pub(crate) timestamp_ms: u64,
    pub(crate) parent_hash: Digest,
}

/// One view.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewState {
    pub(crate) own: Own,
    pub(crate) tally: Tally,
    pub(crate) offer: Option<Offer>,
    /// The leader signed something invalid: nullified without waiting (C18).
    pub(crate) spoiled: bool,
    /// The view timer was extended for a long justification; once (C16).
    pub(crate) extended: bool,
    notarization: Option<Certificate>,
    nullification: Option<Certificate>,
    finalization: Option<Certificate>,
    /// Kinds already published by us: each once (C13, C21).
    published: Vec<VoteKind>,
}

impl ViewState {
    pub(crate) fn certificate(&self, kind: VoteKind) -> Option<&Certificate> {
        match kind {
            VoteKind::Notarize => self.notarization.as_ref(),
            VoteKind::Nullify => self.nullification.as_ref(),
            VoteKind::Finalize => self.finalization.as_ref(),
        }
    }

    /// Keeps a certificate; the first of its kind stays.
    pub(crate) fn keep(&mut self, certificate: &Certificate) -> bool {
        let place = match certificate.kind() {
            VoteKind::Notarize => &mut self.notarization,
            VoteKind::Nullify => &mut self.nullification,
            VoteKind::Finalize => &mut self.finalization,
        };
        if place.is_some() {
            return false;
        }
        *place = Some(certificate.clone());
        true
    }

    /// Whether a certificate of this subject is held, whoever signed it.
    pub(crate) fn holds(&self, subject: &Subject) -> bool {
        self.certificate(subject.ballot.kind()).is_some_and(|held| held.subject == *subject)
    }

    /// What is notarized here: a finalization counts as one (C13).
    pub(crate) fn notarized(&self) -> Option<Candidate> {
        self.parent_certificate().and_then(|certificate| certificate.subject.ballot.candidate())
    }

    /// The certificate that lets a proposal build on this view; the notarization shows more attendance (C12).
    pub(crate) fn parent_certificate(&self) -> Option<&Certificate> {
        self.notarization.as_ref().or(self.finalization.as_ref())
    }

    pub(crate) fn nullified(&self) -> bool {
        self.nullification.is_some()
    }

    /// The certificates held, the most telling first.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        [&self.finalization, &self.notarization, &self.nullification].into_iter().flatten()
    }

    /// Whether this kind may be published now, which is remembered.
    pub(crate) fn publish_once(&mut self, kind: VoteKind) -> bool {
        let first = !self.published.contains(&kind);
        if first {
            self.published.push(kind);
        }
        first
    }
}
