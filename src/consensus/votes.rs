//! The votes of one view: first kept, verified late and together, conflicts turned into evidence (C21, C35).
//!
//! A vote that came straight from its signer waits unverified until its weight could matter. A forged one cannot take its
//! signer's place for good: as soon as a different vote claims the place, both are verified. Bounded by three places per
//! member (C49).

use std::collections::BTreeMap;

use crate::protocol::checkpoint::{Certificate, Evidence, Offence, Subject, Vote, VoteKind};
use crate::protocol::committee::CommitteeContext;
use crate::protocol::ids::NodeId;
use crate::protocol::keys::{Signature, verify_batch};

use super::effect::Source;

#[derive(Clone, Debug)]
struct Place {
    vote: Vote,
    verified: bool,
    from: NodeId,
}

/// What hearing a vote led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// It was new and took its place.
    pub(crate) kept: bool,
    /// Its own signature was looked at and does not hold.
    pub(crate) forged: bool,
    /// Who delivered signatures that do not hold.
    pub(crate) blame: Vec<NodeId>,
    pub(crate) evidence: Option<Evidence>,
}

/// The votes of one view by kind and signer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    places: BTreeMap<(VoteKind, u16), Place>,
}

impl Tally {
    /// Takes a vote whose signer and term are known; ours and the leader's come verified.
    pub(crate) fn hear(&mut self, context: &CommitteeContext, from: Source, vote: Vote, verified: bool) -> Heard {
        let mut heard = Heard::default();
        let key = (vote.subject.ballot.kind(), vote.signer);
        let known = self.places.get(&key);
        if known.is_some_and(|place| place.vote == vote && (place.verified || !from.relayed)) {
            return heard;
        }
        let mut sure = verified;
        if (from.relayed || known.is_some()) && !sure {
            if vote.verify(context).is_err() {
                heard.forged = true;
                heard.blame.push(from.peer);
                return heard;
            }
            sure = true;
        }
        if known.is_some() && self.confirm(context, key, &mut heard.blame) {
            heard.evidence = self.conflict(context, &vote, &mut heard.blame);
            return heard;
        }
        self.places.insert(key, Place { vote, verified: sure, from: from.peer });
        heard.kept = true;
        heard.evidence = self.conflict(context, &vote, &mut heard.blame);
        heard
    }

    /// Whether the place holds a vote whose signature holds; a forged one is dropped and its deliverer blamed.
    fn confirm(&mut self, context: &CommitteeContext, key: (VoteKind, u16), blame: &mut Vec<NodeId>) -> bool {
        let Some(place) = self.places.get_mut(&key) else { return false };
        if place.verified || place.vote.verify(context).is_ok() {
            place.verified = true;
            return true;
        }
        blame.push(place.from);
        self.places.remove(&key);
        false
    }

    /// The evidence this vote completes with one already held, both verified first (C45).
    fn conflict(&mut self, context: &CommitteeContext, vote: &Vote, blame: &mut Vec<NodeId>) -> Option<Evidence> {
        let own = (vote.subject.ballot.kind(), vote.signer);
        for kind in [VoteKind::Notarize, VoteKind::Nullify, VoteKind::Finalize] {
            let key = (kind, vote.signer);
            let Some(other) = self.places.get(&key).map(|place| place.vote) else { continue };
            if Offence::of(vote, &other).is_none() || !self.confirm(context, key, blame) {
                continue;
            }
            let held = self.places.get(&own).is_some_and(|place| place.vote == *vote);
            if held && !self.confirm(context, own, blame) {
                return None;
            }
            return Evidence::new(*vote, other);
        }
        None
    }

    /// Whether the member nullified the view, for sure.
    pub(crate) fn nullified_by(&mut self, context: &CommitteeContext, signer: u16, blame: &mut Vec<NodeId>) -> bool {
        self.confirm(context, (VoteKind::Nullify, signer), blame)
    }

    /// The certificate for a subject once its weight is a quorum: unverified votes are verified in one batch, and if
    /// that fails by halves until the forged ones are found, dropped and blamed (C35).
    pub(crate) fn certify(
        &mut self,
        context: &CommitteeContext,
        subject: &Subject,
        blame: &mut Vec<NodeId>,
    ) -> Option<Certificate> {
        let committee = context.committee();
        if !committee.is_quorum(committee.weight_of(self.matching(subject).map(|place| place.vote.signer))) {
            return None;
        }
        self.verify_all(context, subject, blame);
        Certificate::gather(context, *subject, &self.signatures(subject), false)
    }

    /// A certificate with every vote at hand, those of `known` included (C12).
    pub(crate) fn certify_all(
        &mut self,
        context: &CommitteeContext,
        known: &Certificate,
        blame: &mut Vec<NodeId>,
    ) -> Option<Certificate> {
        self.verify_all(context, &known.subject, blame);
        let mut signatures = self.signatures(&known.subject);
        signatures.extend(known.votes());
        Certificate::gather(context, known.subject, &signatures, true)
    }

    /// Forgets everything: the view is so old that nothing of it is waited for.
    pub(crate) fn clear(&mut self) {
        self.places.clear();
    }

    fn matching<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a Place> + 'a {
        let kind = subject.ballot.kind();
        self.places
            .range((kind, 0)..=(kind, u16::MAX))
            .map(|(_, place)| place)
            .filter(move |place| place.vote.subject == *subject)
    }

    fn signatures(&self, subject: &Subject) -> BTreeMap<u16, Signature> {
        let verified = self.matching(subject).filter(|place| place.verified);
        verified.map(|place| (place.vote.signer, place.vote.signature)).collect()
    }

    fn verify_all(&mut self, context: &CommitteeContext, subject: &Subject, blame: &mut Vec<NodeId>) {
        let pending: Vec<Vote> =
            self.matching(subject).filter(|place| !place.verified).map(|place| place.vote).collect();
        let message = subject.signing_bytes(context.digest());
        let mut forged = Vec::new();
        bisect(context, &message, &pending, &mut forged);
        for vote in &pending {
            let key = (vote.subject.ballot.kind(), vote.signer);
            if forged.contains(&vote.signer) {
                blame.extend(self.places.remove(&key).map(|place| place.from));
            } else if let Some(place) = self.places.get_mut(&key) {
                place.verified = true;
            }
        }
    }
}

/// Finds the signers whose signature over the one message does not hold.
fn bisect(context: &CommitteeContext, message: &[u8], votes: &[Vote], forged: &mut Vec<u16>) {
    let committee = context.committee();
    let items = votes.iter().filter_map(|v| committee.get(v.signer).map(|m| (m.key, message, v.signature)));
    if votes.is_empty() || verify_batch(items).is_ok() {
        return;
    }
    if let [vote] = votes {
        forged.push(vote.signer);
        return;
    }
    let (left, right) = votes.split_at(votes.len() / 2);
    bisect(context, message, left, forged);
    bisect(context, message, right, forged);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::checkpoint::{Ballot, Candidate};
    use crate::protocol::committee::{Committee, CommitteeMember};
    use crate::protocol::ids::{ChainId, Digest};
    use crate::protocol::keys::SecretKey;

    struct Setting {
        context: CommitteeContext,
        keys: Vec<SecretKey>,
    }

    impl Setting {
        fn new(count: u8) -> Self {
            let mut keys: Vec<SecretKey> = (1..=count).map(|i| SecretKey::from_seed([i; 32])).collect();
            keys.sort_by_key(SecretKey::public);
            let members =
                keys.iter().map(|k| CommitteeMember { key: k.public(), weight: 1, account: k.public().into() });
            let committee = Committee::new(0, members.collect()).unwrap();
            Self { context: CommitteeContext::new(ChainId::ZERO, committee), keys }
        }

        fn vote(&self, signer: u16, ballot: Ballot) -> Vote {
            let subject = Subject { term: 0, view: 1, ballot };
            Vote::sign(&self.context, subject, signer, &self.keys[usize::from(signer)])
        }
    }

    fn direct(peer: u16) -> Source {
        let [low, _] = peer.to_le_bytes();
        Source { peer: NodeId([low; 32]), relayed: false }
    }

    fn candidate(hash: u8) -> Candidate {
        Candidate { hash: Digest([hash; 32]), parent_view: 0 }
    }

    #[test]
    fn forged_votes_are_found_by_halves_and_blamed_on_their_deliverer() {
        let setting = Setting::new(10);
        let ballot = Ballot::Notarize(candidate(1));
        let subject = Subject { term: 0, view: 1, ballot };
        let mut tally = Tally::default();
        let mut blame = vec![];
        for signer in 0..7 {
            let mut vote = setting.vote(signer, ballot);
            vote.signature.0[0] ^= u8::from(signer == 2 || signer == 5);
            assert!(tally.hear(&setting.context, direct(signer), vote, false).kept);
        }
        assert_eq!(tally.certify(&setting.context, &subject, &mut blame), None);
        assert_eq!(blame, [direct(2).peer, direct(5).peer]);
        for signer in [2, 5] {
            assert!(tally.hear(&setting.context, direct(signer), setting.vote(signer, ballot), false).kept);
        }
        let certificate = tally.certify(&setting.context, &subject, &mut blame).unwrap();
        assert_eq!(certificate.verify(&setting.context), Ok(()));
        tally.hear(&setting.context, direct(9), setting.vote(9, ballot), false);
        let all = tally.certify_all(&setting.context, &certificate, &mut blame).unwrap();
        assert_eq!((all.signatures.len(), blame.len()), (8, 2));
    }

    #[test]
    fn a_forged_vote_cannot_keep_its_signers_place() {
        let setting = Setting::new(4);
        let mut tally = Tally::default();
        let honest = setting.vote(1, Ballot::Nullify);
        let forged = Vote { signature: Signature([1; 64]), ..honest };
        assert!(tally.hear(&setting.context, direct(3), forged, false).kept);
        let heard = tally.hear(&setting.context, direct(1), honest, false);
        assert_eq!((heard.kept, heard.blame), (true, vec![direct(3).peer]));
        let relayed = Source { relayed: true, ..direct(2) };
        let heard = tally.hear(&setting.context, relayed, forged, false);
        assert_eq!((heard.kept, heard.forged, heard.blame), (false, true, vec![relayed.peer]));
    }

    #[test]
    fn conflicting_votes_become_evidence_and_lawful_pairs_do_not() {
        let setting = Setting::new(4);
        let (c, d) = (candidate(1), candidate(2));
        let cases = [
            (Ballot::Notarize(c), Ballot::Notarize(d), Some(Offence::DoubleNotarize)),
            (Ballot::Finalize(c), Ballot::Finalize(d), Some(Offence::DoubleFinalize)),
            (Ballot::Finalize(c), Ballot::Nullify, Some(Offence::FinalizeNullify)),
            (Ballot::Notarize(d), Ballot::Finalize(c), Some(Offence::FinalizeOther)),
            (Ballot::Notarize(c), Ballot::Nullify, None),
            (Ballot::Notarize(c), Ballot::Finalize(c), None),
        ];
        for (one, other, expected) in cases {
            let mut tally = Tally::default();
            assert_eq!(tally.hear(&setting.context, direct(0), setting.vote(0, one), false).evidence, None);
            let heard = tally.hear(&setting.context, direct(0), setting.vote(0, other), false);
            let found = heard.evidence.map(|evidence| evidence.verify(&setting.context).unwrap());
            assert_eq!(found, expected, "{one:?} {other:?}");
            let mut forged = setting.vote(0, other);
            forged.signature.0[40] ^= 1;
            let mut tally = Tally::default();
            tally.hear(&setting.context, direct(0), setting.vote(0, one), false);
            assert_eq!(tally.hear(&setting.context, direct(3), forged, false).evidence, None, "{one:?} {other:?}");
        }
    }
}
