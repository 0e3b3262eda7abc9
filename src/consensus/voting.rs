//! When this member speaks: notarize, nullify, finalize (C17-C20), and when it gives a view up early (C18, C28).

use crate::protocol::checkpoint::{Ballot, Candidate, VoteKind};
use crate::protocol::ids::{Digest, View};

use super::effect::{Effect, Record, TimerKind, Verdict};
use super::machine::Machine;
use super::pacing::FUTURE_MS;
use super::rules::Rule;
use super::tree::{Entry, Standing};
use super::view::Offer;
use super::{Fault, Halt};

impl Machine {
    /// Sends to the ledger every candidate whose parent is known to be right, and judges what needs no execution (C15).
    pub(crate) fn advance_checks(&mut self) {
        for hash in self.tree.checkable() {
            let Some(parent) = self.tree.get(&hash).and_then(|e| self.tree.header(&e.header.parent_hash)) else {
                continue;
            };
            let parent = (parent.height, parent.view, parent.timestamp_ms);
            let interval_ms = self.params.interval_ms;
            let Some(entry) = self.tree.get_mut(&hash) else { continue };
            self.moves += 1;
            if follows(entry, parent, interval_ms) {
                entry.standing = Standing::Checking;
                self.out.push(Effect::Check { header: entry.header.clone(), body: entry.body.clone() });
            } else {
                entry.standing = Standing::Invalid;
            }
        }
    }

    /// The ledger's verdict.
    pub(crate) fn checked(&mut self, hash: Digest, verdict: Verdict) {
        let Some(entry) = self.tree.get_mut(&hash).filter(|entry| entry.standing == Standing::Checking) else { return };
        entry.standing = match verdict {
            Verdict::Valid => Standing::Valid,
            Verdict::Invalid => Standing::Invalid,
            Verdict::Unavailable => Standing::Deferred,
        };
        let height = entry.header.height;
        let is_final = |state: &super::view::ViewState| {
            let certificate = state.certificate(VoteKind::Finalize);
            certificate.and_then(|c| c.subject.ballot.candidate()).is_some_and(|c| c.hash == hash)
        };
        if verdict == Verdict::Invalid && self.views.values().any(is_final) {
            self.halt(Halt::Diverged { height, hash });
        }
    }

    /// Casts every vote the rules allow now.
    pub(crate) fn advance_votes(&mut self) {
        let Some(me) = self.me.as_ref().map(|member| member.index) else { return };
        for (view, candidate) in self.finalizable() {
            self.persist_candidate(&candidate.hash);
            self.cast(view, Ballot::Finalize(candidate));
        }
        if let Some(candidate) = self.notarizable() {
            self.persist_candidate(&candidate.hash);
            self.cast(self.view, Ballot::Notarize(candidate));
        }
        if self.should_skip(me) {
            self.nullify();
        }
    }

    /// C19, C20: notarized, executed, above the final view, and nothing said against it.
    fn finalizable(&self) -> Vec<(View, Candidate)> {
        let above = self.tree.tip().view.saturating_add(1);
        let open = self.views.range(above..).filter_map(|(view, state)| {
            let candidate = state.certificate(VoteKind::Notarize)?.subject.ballot.candidate()?;
            let allowed = state.own.may_finalize(self.rules, &candidate);
            (allowed && self.is_executed(&candidate.hash)).then_some((*view, candidate))
        });
        open.collect()
    }

    /// C17: the first proposal of the current view, justified, valid, and not from the future (C16).
    fn notarizable(&mut self) -> Option<Candidate> {
        let state = self.here()?;
        let offer = state.offer?;
        let allowed = state.own.may_notarize(self.rules, &offer.candidate);
        if !allowed || state.spoiled || !self.is_executed(&offer.candidate.hash) || !self.is_justified(&offer) {
            return None;
        }
        let ahead_ms = offer.timestamp_ms.saturating_sub(self.now.wall_ms);
        if ahead_ms > FUTURE_MS {
            self.set_timer(TimerKind::Hold, ahead_ms - FUTURE_MS);
            return None;
        }
        Some(offer.candidate)
    }

    fn is_executed(&self, hash: &Digest) -> bool {
        self.tree.get(hash).is_some_and(|entry| entry.standing == Standing::Valid)
    }

    /// Whether what we hold proves that the offer may build where it builds (C15).
    pub(crate) fn is_justified(&self, offer: &Offer) -> bool {
        let parent_view = offer.candidate.parent_view;
        let tip = self.tree.tip();
        let parent = if parent_view == tip.view {
            self.tree.tip_hash() == offer.parent_hash
        } else {
            let notarized = self.views.get(&parent_view).and_then(super::view::ViewState::notarized);
            parent_view > tip.view && notarized.is_some_and(|candidate| candidate.hash == offer.parent_hash)
        };
        let mut between = parent_view.saturating_add(1)..self.view;
        parent && (!self.rules.hold(Rule::SkipProof) || between.all(|view| self.is_nullified(view)))
    }

    pub(crate) fn is_nullified(&self, view: View) -> bool {
        self.views.get(&view).is_some_and(super::view::ViewState::nullified)
    }

    /// C18, C28: the view is lost already.
    fn should_skip(&mut self, me: u16) -> bool {
        let leader = self.schedule.leader(self.view);
        let state = self.views.entry(self.view).or_default();
        if !state.own.may_nullify(self.rules) {
            return false;
        }
        let offered = state.offer.map(|offer| offer.candidate.hash);
        let invalid = offered.and_then(|hash| self.tree.get(&hash)).is_some_and(|e| e.standing == Standing::Invalid);
        if state.spoiled || invalid {
            return true;
        }
        if leader == me {
            return false;
        }
        let mut blame = Vec::new();
        let given_up = state.tally.nullified_by(&self.context, leader, &mut blame);
        self.penalise(blame, Fault::BadSignature);
        // Whoever is back after an absence has offered something before it is skipped for the absence.
        given_up || (offered.is_none() && self.is_absent(leader))
    }

    /// C28: a quorum was heard in the last 2n views and this member was not.
    fn is_absent(&self, leader: u16) -> bool {
        let committee = self.context.committee();
        let span = 2 * u64::try_from(committee.members().len()).unwrap_or(u64::MAX);
        let Some(since) = self.view.checked_sub(span).filter(|since| *since > 0) else { return false };
        let heard = |member: u16| self.seen.get(&member).is_some_and(|view| *view >= since);
        let present = (0_u16..).take(committee.members().len()).filter(|member| heard(*member));
        !heard(leader) && committee.is_quorum(committee.weight_of(present))
    }

    /// C18, C26: gives the current view up, and says so again until it is over.
    pub(crate) fn nullify(&mut self) {
        let allowed = self.here().is_none_or(|state| state.own.may_nullify(self.rules));
        if self.me.is_none() || !allowed {
            return;
        }
        self.set_timer(TimerKind::Resend, self.resend_ms());
        self.cast(self.view, Ballot::Nullify);
    }

    /// C36: a body is in the journal before the vote that rests on it.
    pub(crate) fn persist_candidate(&mut self, hash: &Digest) {
        if let Some(entry) = self.tree.get_mut(hash).filter(|entry| !entry.durable) {
            entry.durable = true;
            self.records.push(Record::Candidate { header: Box::new(entry.header.clone()), body: entry.body.clone() });
        }
    }
}

/// What a header owes to its parent (C15); the parent as (height, view, timestamp).
fn follows(entry: &Entry, parent: (u64, View, u64), interval_ms: u64) -> bool {
    let header = &entry.header;
    let (height, view, timestamp_ms) = parent;
    Some(header.height) == height.checked_add(1)
        && header.view > view
        && timestamp_ms.checked_add(interval_ms).is_some_and(|earliest| header.timestamp_ms >= earliest)
}
