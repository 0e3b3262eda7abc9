//! What must hold in every world at every moment (S1-S10), seen from outside all nodes.
//!
//! The first violation is kept with the time it happened; a world stops at it.

use std::collections::{BTreeMap, BTreeSet};

use crate::consensus::Fault;
use crate::protocol::checkpoint::{Ballot, Certificate, Checkpoint, Evidence, Offence, Vote};
use crate::protocol::committee::CommitteeContext;
use crate::protocol::ids::{Digest, Height, View};

/// The outside view of a world.
#[derive(Debug)]
pub(crate) struct Checker {
    context: CommitteeContext,
    /// Members whose every vote must be lawful.
    honest: BTreeSet<u16>,
    votes: BTreeMap<(u16, View), BTreeSet<Vote>>,
    notarized: BTreeMap<View, Digest>,
    nullified: BTreeSet<View>,
    finalized: BTreeMap<View, Digest>,
    chain: BTreeMap<Height, (Digest, View)>,
    seen: BTreeSet<Vec<u8>>,
    pub(crate) offenders: BTreeSet<u16>,
    pub(crate) violation: Option<String>,
    pub(crate) now_ms: u64,
    /// With byzantine weight over the bound agreement is not promised, only accountability (S13).
    agreement: bool,
}

impl Checker {
    pub(crate) fn new(context: CommitteeContext, honest: BTreeSet<u16>, genesis: Digest) -> Self {
        let committee = context.committee();
        let agreement = committee.is_quorum(committee.weight_of(honest.iter().copied()));
        Self {
            context,
            honest,
            votes: BTreeMap::new(),
            notarized: BTreeMap::new(),
            nullified: BTreeSet::new(),
            finalized: BTreeMap::new(),
            chain: BTreeMap::from([(0, (genesis, 0))]),
            seen: BTreeSet::new(),
            offenders: BTreeSet::new(),
            violation: None,
            now_ms: 0,
            agreement,
        }
    }

    pub(crate) fn violated(&mut self, what: String) {
        if self.violation.is_none() {
            self.violation = Some(format!("at {} ms: {what}", self.now_ms));
        }
    }

    fn demand(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violated(what());
        }
    }

    /// S5, S6: a vote leaves an honest node only if it is durable, and never completes an offence, also across crashes.
    pub(crate) fn sent(&mut self, vote: &Vote, durable: bool) {
        if !self.honest.contains(&vote.signer) {
            return;
        }
        self.demand(durable, || format!("S6: {vote:?} was sent and is not durable"));
        let before = self.votes.entry((vote.signer, vote.subject.view)).or_default();
        let offence = before.iter().find_map(|other| Offence::of(vote, other));
        before.insert(*vote);
        self.demand(offence.is_none(), || format!("S5: honest member {} in {offence:?} with {vote:?}", vote.signer));
    }

    /// S2, S3, S9: a certificate some honest node holds.
    pub(crate) fn certified(&mut self, certificate: &Certificate) {
        let subject = certificate.subject;
        let key = Vote { subject, signer: 0, signature: crate::protocol::keys::Signature([0; 64]) }.layout();
        if !self.seen.insert(key) {
            return;
        }
        let verdict = certificate.verify(&self.context);
        self.demand(verdict.is_ok(), || format!("S9: an honest node holds {certificate:?}: {verdict:?}"));
        let view = subject.view;
        let one = match subject.ballot {
            Ballot::Notarize(candidate) => *self.notarized.entry(view).or_insert(candidate.hash) == candidate.hash,
            Ballot::Finalize(candidate) => *self.finalized.entry(view).or_insert(candidate.hash) == candidate.hash,
            Ballot::Nullify => self.nullified.insert(view),
        };
        if !self.agreement {
            return;
        }
        self.demand(one, || format!("S3: two candidates certified in view {view}: {subject:?}"));
        let both = self.finalized.contains_key(&view) && self.nullified.contains(&view);
        self.demand(!both, || format!("S2: view {view} is finalized and nullified"));
        let other = self.finalized.get(&view).zip(self.notarized.get(&view)).is_some_and(|(f, n)| f != n);
        self.demand(!other, || format!("S3: view {view} notarized one candidate and finalized another"));
    }

    /// S1, S4, S7, S10: an honest node makes a checkpoint final above `below`.
    pub(crate) fn finalised(&mut self, node: usize, below: Height, checkpoint: &Checkpoint) {
        let header = &checkpoint.header;
        let (height, view, hash) = (header.height, header.view, header.hash());
        self.demand(height == below + 1, || format!("S7: node {node} went from height {below} to {height}"));
        if !self.agreement {
            return;
        }
        let agreed = self.chain.entry(height).or_insert((hash, view)).0 == hash;
        self.demand(agreed, || format!("S1: node {node} has another checkpoint at height {height}"));
        let notarized = self.notarized.get(&view) == Some(&hash) || self.finalized.get(&view) == Some(&hash);
        self.demand(notarized, || format!("S4: height {height} is final and was never notarized in view {view}"));
        let (parent, parent_view) = self.chain.get(&(height - 1)).copied().unwrap_or_default();
        self.demand(header.parent_hash == parent && parent_view < view, || format!("S10: parent of height {height}"));
        let skipped = (parent_view + 1..view).all(|skipped| self.nullified.contains(&skipped));
        self.demand(skipped, || format!("S10: height {height} in view {view} skips a view that is not nullified"));
    }

    /// Nobody honest is held to have done what no honest node does; over the bound of faults nobody can tell.
    pub(crate) fn blamed(&mut self, by: usize, whom: Option<usize>, fault: Fault) {
        let agreement = self.agreement;
        self.demand(!agreement, || format!("node {by} blames the honest node {whom:?} for {fault:?}"));
    }

    /// Evidence must be good, and never against an honest member.
    pub(crate) fn accused(&mut self, evidence: &Evidence) {
        let verdict = evidence.verify(&self.context);
        self.demand(verdict.is_ok(), || "evidence that proves nothing was accepted".to_owned());
        let signer = evidence.signer();
        self.demand(!self.honest.contains(&signer), || format!("S5: evidence against honest member {signer}"));
        self.offenders.insert(signer);
    }
}
