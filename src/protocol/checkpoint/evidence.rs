//! Evidence: two votes of one signer that no honest member can both have signed (C45).

use serde::{Deserialize, Serialize};

use crate::protocol::committee::CommitteeContext;
use crate::protocol::keys::BadSignature;
use crate::protocol::layout::{LayoutError, Reader};

use super::{Ballot, Vote};

/// The bytes of evidence: two votes.
pub const EVIDENCE_BYTES: usize = 246;

/// Which rule two votes break together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Offence {
    /// E1: notarized two candidates.
    DoubleNotarize,
    /// E2: finalized two candidates.
    DoubleFinalize,
    /// E3: finalized and nullified.
    FinalizeNullify,
    /// E4: finalized one candidate and notarized another.
    FinalizeOther,
}

impl Offence {
    /// What two votes of one signer in one view prove; notarize and nullify together is lawful.
    pub fn of(one: &Vote, other: &Vote) -> Option<Self> {
        let same_slot = one.signer == other.signer
            && (one.subject.term, one.subject.view) == (other.subject.term, other.subject.view);
        if !same_slot {
            return None;
        }
        match (one.subject.ballot, other.subject.ballot) {
            (Ballot::Notarize(a), Ballot::Notarize(b)) => (a != b).then_some(Self::DoubleNotarize),
            (Ballot::Finalize(a), Ballot::Finalize(b)) => (a != b).then_some(Self::DoubleFinalize),
            (Ballot::Finalize(_), Ballot::Nullify) | (Ballot::Nullify, Ballot::Finalize(_)) => {
                Some(Self::FinalizeNullify)
            }
            (Ballot::Finalize(a), Ballot::Notarize(b)) | (Ballot::Notarize(b), Ballot::Finalize(a)) => {
                (a != b).then_some(Self::FinalizeOther)
            }
            (Ballot::Nullify, Ballot::Nullify | Ballot::Notarize(_)) | (Ballot::Notarize(_), Ballot::Nullify) => None,
        }
    }
}

/// Proof of an offence; proves itself, so nobody signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    first: Vote,
    second: Vote,
}

impl Evidence {
    /// Both votes in their one order, if together they prove anything.
    pub fn new(one: Vote, other: Vote) -> Option<Self> {
        Offence::of(&one, &other)?;
        Some(if one <= other { Self { first: one, second: other } } else { Self { first: other, second: one } })
    }

    pub fn votes(&self) -> (&Vote, &Vote) {
        (&self.first, &self.second)
    }

    pub fn signer(&self) -> u16 {
        self.first.signer
    }

    /// What is proven, once `verify` agrees.
    ///
    /// # Errors
    /// The votes do not conflict, are in the wrong order, or a signature does not hold.
    pub fn verify(&self, context: &CommitteeContext) -> Result<Offence, BadSignature> {
        let offence =
            Offence::of(&self.first, &self.second).filter(|_| self.first <= self.second).ok_or(BadSignature)?;
        self.first.verify(context)?;
        self.second.verify(context)?;
        Ok(offence)
    }

    /// 246 bytes: the two votes in order.
    pub fn layout(&self) -> Vec<u8> {
        [self.first.layout(), self.second.layout()].concat()
    }

    /// Reads the 246 bytes.
    ///
    /// # Errors
    /// Another length, an unreadable vote, votes that prove nothing, or the wrong order.
    pub fn from_layout(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader::new(bytes);
        let (first, second) = (Vote::read(&mut from)?, Vote::read(&mut from)?);
        from.end()?;
        let wrong = LayoutError::NotCanonical("evidence is two conflicting votes, the lesser first");
        Self::new(first, second).filter(|evidence| evidence.first == first).ok_or(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::checkpoint::{Candidate, Subject};
    use crate::protocol::ids::Digest;
    use crate::protocol::keys::Signature;

    #[test]
    fn the_four_offences_and_nothing_else() {
        let candidate = |hash, parent_view| Candidate { hash: Digest([hash; 32]), parent_view };
        let (c, d, c_on_other_view) = (candidate(1, 1), candidate(2, 1), candidate(1, 0));
        let vote = |ballot, view, signer| Vote {
            subject: Subject { term: 0, view, ballot },
            signer,
            signature: Signature([9; 64]),
        };
        use Ballot::{Finalize, Notarize, Nullify};
        let cases = [
            (Notarize(c), Notarize(d), Some(Offence::DoubleNotarize)),
            (Notarize(c), Notarize(c_on_other_view), Some(Offence::DoubleNotarize)),
            (Finalize(c), Finalize(d), Some(Offence::DoubleFinalize)),
            (Finalize(c), Nullify, Some(Offence::FinalizeNullify)),
            (Finalize(c), Notarize(d), Some(Offence::FinalizeOther)),
            (Notarize(c), Nullify, None),
            (Notarize(c), Notarize(c), None),
            (Finalize(c), Notarize(c), None),
            (Nullify, Nullify, None),
        ];
        for (one, other, expected) in cases {
            let (a, b) = (vote(one, 3, 1), vote(other, 3, 1));
            assert_eq!((Offence::of(&a, &b), Offence::of(&b, &a)), (expected, expected), "{one:?} {other:?}");
            assert_eq!(Offence::of(&a, &vote(other, 4, 1)), None);
            assert_eq!(Offence::of(&a, &vote(other, 3, 2)), None);
            let evidence = Evidence::new(a, b);
            assert_eq!(evidence, Evidence::new(b, a));
            if let Some(evidence) = evidence {
                let bytes = evidence.layout();
                assert_eq!((bytes.len(), Evidence::from_layout(&bytes)), (246, Ok(evidence)));
                let reversed = [&bytes[123..], &bytes[..123]].concat();
                assert!(Evidence::from_layout(&reversed).is_err());
            }
        }
    }
}
