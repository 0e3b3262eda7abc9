//! Certificates: one subject and the signatures of a quorum, as a bitmap and a list (C32-C34).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::committee::{Bitmap, CommitteeContext};
use crate::protocol::keys::{Signature, verify_batch};
use crate::protocol::layout::LayoutError;

use super::{Subject, VoteKind};

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("the certificate is of term {found}, expected {expected}")]
    Term { found: u64, expected: u64 },
    #[error("the signers: {0}")]
    Signers(LayoutError),
    #[error("{signers} signers but {signatures} signatures")]
    Count { signers: usize, signatures: usize },
    #[error("a weight of {weight} of {total} is no quorum")]
    Quorum { weight: u64, total: u64 },
    #[error("a signature does not hold")]
    Signature,
}

/// Proof that a quorum said the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub subject: Subject,
    pub signers: Bitmap,
    /// In index order, one per set bit.
    pub signatures: Vec<Signature>,
}

impl Certificate {
    pub fn kind(&self) -> VoteKind {
        self.subject.ballot.kind()
    }

    /// Gathers signatures, already verified, into a certificate; `None` below a quorum.
    ///
    /// With `all` every signature goes in, as attendance wants it (C12); otherwise the fewest that reach a quorum, by
    /// weight and then by index (C34).
    pub fn gather(
        context: &CommitteeContext,
        subject: Subject,
        signatures: &BTreeMap<u16, Signature>,
        all: bool,
    ) -> Option<Self> {
        let committee = context.committee();
        let mut ranked: Vec<(u16, u64)> =
            signatures.keys().filter_map(|index| committee.get(*index).map(|member| (*index, member.weight))).collect();
        ranked.sort_by_key(|(index, weight)| (std::cmp::Reverse(*weight), *index));
        let (mut chosen, mut weight) = (Vec::new(), 0_u64);
        for (index, more) in ranked {
            if !all && committee.is_quorum(weight) {
                break;
            }
            chosen.push(index);
            weight = weight.saturating_add(more);
        }
        if !committee.is_quorum(weight) {
            return None;
        }
        let signers = Bitmap::of(committee.members().len(), chosen);
        let signatures = signers.iter().filter_map(|index| signatures.get(&index).copied()).collect();
        Some(Self { subject, signers, signatures })
    }

    /// The signatures by signer.
    pub fn votes(&self) -> impl Iterator<Item = (u16, Signature)> + '_ {
        self.signers.iter().zip(self.signatures.iter().copied())
    }

    /// Verifies everything (C33).
    ///
    /// # Errors
    /// Another term, a bad bitmap, a wrong number of signatures, no quorum, or a signature that does not hold.
    pub fn verify(&self, context: &CommitteeContext) -> Result<(), CertificateFault> {
        let committee = context.committee();
        let (found, expected) = (self.subject.term, context.term());
        if found != expected {
            return Err(CertificateFault::Term { found, expected });
        }
        self.signers.check(committee.members().len()).map_err(CertificateFault::Signers)?;
        let (signers, signatures) = (self.signers.count(), self.signatures.len());
        if signers != signatures {
            return Err(CertificateFault::Count { signers, signatures });
        }
        let (weight, total) = (committee.weight_of(self.signers.iter()), committee.total());
        if !committee.is_quorum(weight) {
            return Err(CertificateFault::Quorum { weight, total });
        }
        let message = self.subject.signing_bytes(context.digest());
        let items = self
            .votes()
            .filter_map(|(index, signature)| committee.get(index).map(|m| (m.key, message.as_slice(), signature)));
        verify_batch(items).map_err(|_| CertificateFault::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::checkpoint::{Ballot, Candidate, Vote};
    use crate::protocol::codec;
    use crate::protocol::committee::{Committee, CommitteeMember};
    use crate::protocol::ids::{ChainId, Digest};
    use crate::protocol::keys::SecretKey;

    fn setting(weights: &[u64]) -> (CommitteeContext, Subject, BTreeMap<u16, Signature>) {
        let keys: Vec<SecretKey> = (1..).zip(weights).map(|(i, _)| SecretKey::from_seed([i; 32])).collect();
        let members = keys.iter().zip(weights).map(|(key, &weight)| CommitteeMember {
            key: key.public(),
            weight,
            account: key.public().into(),
        });
        let context = CommitteeContext::new(ChainId([1; 32]), Committee::new(0, members.collect()).unwrap());
        let ballot = Ballot::Finalize(Candidate { hash: Digest([3; 32]), parent_view: 1 });
        let subject = Subject { term: 0, view: 2, ballot };
        let signatures = keys
            .iter()
            .map(|key| {
                let index = context.committee().index_of(&key.public()).unwrap();
                (index, Vote::sign(&context, subject, index, key).signature)
            })
            .collect();
        (context, subject, signatures)
    }

    #[test]
    fn a_gathered_certificate_verifies_and_is_minimal_unless_all_are_wanted() {
        let (context, subject, signatures) = setting(&[1; 10]);
        let few = Certificate::gather(&context, subject, &signatures, false).unwrap();
        let all = Certificate::gather(&context, subject, &signatures, true).unwrap();
        assert_eq!((few.signatures.len(), all.signatures.len()), (7, 10));
        assert_eq!((few.verify(&context), all.verify(&context)), (Ok(()), Ok(())));
        assert_eq!(codec::decode::<Certificate, 1024>(&codec::encode(&few)).unwrap(), few);
        let six: BTreeMap<_, _> = signatures.into_iter().take(6).collect();
        assert_eq!(Certificate::gather(&context, subject, &six, true), None);
    }

    #[test]
    fn exactly_two_thirds_is_refused() {
        let (context, subject, signatures) = setting(&[1; 9]);
        let six: BTreeMap<_, _> = signatures.into_iter().take(6).collect();
        assert_eq!(Certificate::gather(&context, subject, &six, true), None);
        let certificate = Certificate {
            subject,
            signers: Bitmap::of(9, six.keys().copied()),
            signatures: six.values().copied().collect(),
        };
        assert_eq!(certificate.verify(&context), Err(CertificateFault::Quorum { weight: 6, total: 9 }));
    }

    #[test]
    fn forged_certificates_are_refused() {
        let (context, subject, signatures) = setting(&[1; 4]);
        let good = Certificate::gather(&context, subject, &signatures, false).unwrap();
        let mut unknown = good.clone();
        unknown.signers = Bitmap::from_bytes(vec![0b1_0011]);
        assert!(matches!(unknown.verify(&context), Err(CertificateFault::Signers(_))));
        let mut padded = good.clone();
        padded.signers = Bitmap::from_bytes(vec![0b111, 0]);
        assert!(matches!(padded.verify(&context), Err(CertificateFault::Signers(_))));
        let mut twice = good.clone();
        twice.signatures.push(twice.signatures[0]);
        assert_eq!(twice.verify(&context), Err(CertificateFault::Count { signers: 3, signatures: 4 }));
        let mut swapped = good.clone();
        swapped.signatures.swap(0, 1);
        assert_eq!(swapped.verify(&context), Err(CertificateFault::Signature));
        let mut other = good.clone();
        other.subject.view += 1;
        assert_eq!(other.verify(&context), Err(CertificateFault::Signature));
        let mut late = good;
        late.subject.term += 1;
        assert_eq!(late.verify(&context), Err(CertificateFault::Term { found: 1, expected: 0 }));
    }
}
