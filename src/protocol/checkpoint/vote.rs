//! Votes: what a member signs about a view (C8, C10).

use serde::{Deserialize, Serialize};

use crate::protocol::committee::CommitteeContext;
use crate::protocol::ids::{Digest, Term, View};
use crate::protocol::keys::{BadSignature, SecretKey, Signature};
use crate::protocol::layout::{LayoutError, Reader, Writer};

/// The fixed layout of a vote in journals and evidence.
pub const VOTE_BYTES: usize = SUBJECT_BYTES + 2 + 64;
const SUBJECT_BYTES: usize = 57;

/// A checkpoint and the view it extends. Votes match only if both match: a vote commits to which view it builds on (C10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    pub hash: Digest,
    pub parent_view: View,
}

/// What a vote says; its tag is the one signed (C8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteKind {
    Notarize = 1,
    Nullify = 2,
    Finalize = 3,
}

/// What a vote says, about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ballot {
    /// This candidate is valid and the first I saw in the view.
    Notarize(Candidate),
    /// I gave the view up.
    Nullify,
    /// I saw the candidate notarized and never gave the view up.
    Finalize(Candidate),
}

impl Ballot {
    pub fn kind(&self) -> VoteKind {
        match self {
            Self::Notarize(_) => VoteKind::Notarize,
            Self::Nullify => VoteKind::Nullify,
            Self::Finalize(_) => VoteKind::Finalize,
        }
    }

    pub fn candidate(&self) -> Option<Candidate> {
        match self {
            Self::Notarize(candidate) | Self::Finalize(candidate) => Some(*candidate),
            Self::Nullify => None,
        }
    }
}

/// A ballot in a view of a term: what matching votes, and their certificate, have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    pub term: Term,
    pub view: View,
    pub ballot: Ballot,
}

impl Subject {
    /// What is signed: 94 bytes, or 54 for a nullify (C8).
    pub fn signing_bytes(&self, context: &Digest) -> Vec<u8> {
        let start = Writer::signed(self.ballot.kind() as u8).raw(&context.0).u64(self.term).u64(self.view);
        match self.ballot.candidate() {
            Some(candidate) => start.u64(candidate.parent_view).raw(&candidate.hash.0).done(),
            None => start.done(),
        }
    }

    fn write(&self, to: Writer) -> Writer {
        let candidate = self.ballot.candidate().unwrap_or(Candidate { hash: Digest::ZERO, parent_view: 0 });
        to.u8(self.ballot.kind() as u8).u64(self.term).u64(self.view).u64(candidate.parent_view).raw(&candidate.hash.0)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let kind = from.u8()?;
        let (term, view) = (from.u64()?, from.u64()?);
        let candidate = Candidate { parent_view: from.u64()?, hash: from.digest()? };
        let ballot = match kind {
            1 => Ballot::Notarize(candidate),
            2 if candidate == (Candidate { hash: Digest::ZERO, parent_view: 0 }) => Ballot::Nullify,
            2 => return Err(LayoutError::NotCanonical("a nullify names no candidate")),
            3 => Ballot::Finalize(candidate),
            other => return Err(LayoutError::Unknown { what: "kind of vote", found: u64::from(other) }),
        };
        Ok(Self { term, view, ballot })
    }
}

/// One member's signed word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vote {
    pub subject: Subject,
    /// Committee index.
    pub signer: u16,
    pub signature: Signature,
}

impl Vote {
    /// Signs. The caller has checked that the rules allow it.
    pub fn sign(context: &CommitteeContext, subject: Subject, signer: u16, key: &SecretKey) -> Self {
        Self { subject, signer, signature: key.sign(&subject.signing_bytes(context.digest())) }
    }

    /// Verifies against the committee of its term.
    ///
    /// # Errors
    /// Another term, an unknown signer, or a signature that does not hold.
    pub fn verify(&self, context: &CommitteeContext) -> Result<(), BadSignature> {
        if self.subject.term != context.term() {
            return Err(BadSignature);
        }
        context.verify(self.signer, &self.subject.signing_bytes(context.digest()), &self.signature)
    }

    /// The 123 bytes of journals and evidence.
    pub fn layout(&self) -> Vec<u8> {
        self.subject.write(Writer::new()).u16(self.signer).raw(&self.signature.0).done()
    }

    /// Reads the 123 bytes.
    ///
    /// # Errors
    /// Another length, an unknown kind, or a nullify that names a candidate.
    pub fn from_layout(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader::new(bytes);
        let vote = Self::read(&mut from)?;
        from.end()?;
        Ok(vote)
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self { subject: Subject::read(from)?, signer: from.u16()?, signature: from.signature()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec;
    use crate::protocol::committee::{Committee, CommitteeMember};
    use crate::protocol::ids::{ChainId, hash, to_hex};

    fn subjects() -> [Subject; 3] {
        let candidate = Candidate { hash: Digest([7; 32]), parent_view: 4 };
        [Ballot::Notarize(candidate), Ballot::Nullify, Ballot::Finalize(candidate)].map(|ballot| Subject {
            term: 1,
            view: 5,
            ballot,
        })
    }

    #[test]
    fn signed_bytes_have_the_stated_layout() {
        let context = Digest([0xEE; 32]);
        let [notarize, nullify, finalize] = subjects().map(|subject| subject.signing_bytes(&context));
        assert_eq!([notarize.len(), nullify.len(), finalize.len()], [94, 54, 94]);
        let head = |tag: &str| format!("5354415231{tag}{}01000000000000000500000000000000", "ee".repeat(32));
        let tail = format!("0400000000000000{}", "07".repeat(32));
        assert_eq!(to_hex(&notarize), head("01") + &tail);
        assert_eq!(to_hex(&nullify), head("02"));
        assert_eq!(to_hex(&finalize), head("03") + &tail);
    }

    #[test]
    fn votes_verify_under_their_own_chain_term_and_set_only() {
        let keys = [1, 2].map(|i| SecretKey::from_seed([i; 32]));
        let members = || {
            keys.iter().map(|k| CommitteeMember { key: k.public(), weight: 1, account: k.public().into() }).collect()
        };
        let context =
            |chain, term| CommitteeContext::new(ChainId([chain; 32]), Committee::new(term, members()).unwrap());
        let here = context(1, 1);
        for subject in subjects() {
            let signer = here.committee().index_of(&keys[0].public()).unwrap();
            let vote = Vote::sign(&here, subject, signer, &keys[0]);
            assert_eq!(vote.verify(&here), Ok(()));
            assert!(vote.verify(&context(2, 1)).is_err() && vote.verify(&context(1, 2)).is_err());
            for wrong in [1 - signer, 2] {
                assert!(Vote { signer: wrong, ..vote }.verify(&here).is_err());
            }
            assert_eq!(vote.layout().len(), VOTE_BYTES);
            assert_eq!(Vote::from_layout(&vote.layout()), Ok(vote));
            assert_eq!(codec::decode::<Vote, 192>(&codec::encode(&vote)).unwrap(), vote);
        }
    }

    #[test]
    fn golden_vote() {
        let key = SecretKey::from_seed([1; 32]);
        let member = CommitteeMember { key: key.public(), weight: 5, account: key.public().into() };
        let context = CommitteeContext::new(ChainId([9; 32]), Committee::new(1, vec![member]).unwrap());
        assert_eq!(context.set_hash().to_string(), "6a912afd7f36940254626b243cbafef7405a1de4e474865d97a1a68e74e3727e");
        assert_eq!(context.digest().to_string(), "2123b22c13bdfbcbcb361c05f8cc367b8e888e299488670a70d00f6b69891cde");
        let all: Vec<u8> = subjects().iter().flat_map(|s| Vote::sign(&context, *s, 0, &key).layout()).collect();
        assert_eq!(
            hash("starling/1 test", &[&all]).to_string(),
            "daa2a8a26a737121f740950e7066044e1f9d59dfd2f79e8009fe21f57b6eadfb"
        );
    }

    #[test]
    fn a_nullify_layout_with_a_candidate_is_refused() {
        let vote = Vote { subject: subjects()[1], signer: 3, signature: Signature([5; 64]) };
        let mut bytes = vote.layout();
        assert_eq!(Vote::from_layout(&bytes), Ok(vote));
        bytes[30] = 1;
        assert!(matches!(Vote::from_layout(&bytes), Err(LayoutError::NotCanonical(_))));
        bytes[0] = 4;
        assert!(matches!(Vote::from_layout(&bytes), Err(LayoutError::Unknown { .. })));
    }
}
