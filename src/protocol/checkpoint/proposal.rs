//! Proposals, which justify themselves, and whole checkpoints as sync serves them.

use serde::{Deserialize, Serialize};

use super::{Body, Candidate, Certificate, Header, Vote, VoteKind};

/// The most nullifications a proposal carries; the rest is fetched from the leader (C16).
pub const SKIPS_MAX: usize = 16;
/// The most bytes a framed proposal takes.
pub const PROPOSAL_BYTES_MAX: usize = 1_400_000;

/// Why a leader may build where it builds (C15).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Justification {
    /// Notarization or finalization of the parent; none above view 0 (C11).
    pub parent: Option<Certificate>,
    /// Nullifications of the views between parent and proposal, the highest first, at most `SKIPS_MAX`.
    pub skips: Vec<Certificate>,
}

/// A leader's offer for a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub header: Header,
    pub body: Body,
    pub justification: Justification,
    /// The leader's own notarize: its signature under the header and the view it extends.
    pub vote: Vote,
}

impl Proposal {
    /// What the proposal asks to notarize, if its vote is a notarize of this very header.
    pub fn candidate(&self) -> Option<Candidate> {
        let subject = &self.vote.subject;
        let candidate = subject.ballot.candidate()?;
        (subject.ballot.kind() == VoteKind::Notarize && candidate.hash == self.header.hash()).then_some(candidate)
    }
}

/// A final checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub header: Header,
    pub body: Body,
    /// Its own finalization, where one is known; else a descendant's covers it through the hash links (C21).
    pub certificate: Option<Certificate>,
}
