//! Leading a view: choose the parent, build in time for the pace, propose once (C14, C24, C12).

use std::sync::Arc;

use crate::protocol::checkpoint::{Ballot, Body, Candidate, Certificate, Header, Justification, Proposal, SKIPS_MAX};
use crate::protocol::committee::Bitmap;
use crate::protocol::ids::{Digest, View};

use super::effect::{Draft, Effect, Fault, Note, Publication, TimerKind};
use super::machine::Machine;
use super::pacing;
use super::tree::{Entry, Standing, UNFINAL_MAX};
use super::view::Offer;

/// How far this node's proposal of the current view is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Lead {
    /// Not our view, or waiting for the parent or the time to build.
    #[default]
    Idle,
    /// The ledger builds.
    Building(Box<Plan>),
    /// Built, waiting for its time.
    Ready(Box<Plan>, Box<Header>, Arc<Body>),
    /// Sent, or failed: once per view.
    Done,
}

/// What was decided when building began.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    draft: Draft,
    parent_view: View,
    justification: Justification,
    /// Not to be sent before (monotonic).
    due_ms: u64,
}

impl Machine {
    /// Takes the next step of leading the current view, if it is ours.
    pub(crate) fn advance_lead(&mut self) {
        let Some(member) = &self.me else { return };
        let mine = self.schedule.leader(self.view) == member.index;
        let untouched = self
            .here()
            .is_none_or(|state| state.own.notarized.is_none() && !state.own.nullified && state.own.finalized.is_none());
        if !mine || !untouched {
            return;
        }
        match std::mem::take(&mut self.lead) {
            Lead::Idle => self.plan_proposal(),
            Lead::Ready(plan, header, body) if self.now.mono_ms >= plan.due_ms => self.propose(*plan, *header, body),
            other => self.lead = other,
        }
    }

    /// C14: the parent is the highest notarized view we executed, with proof that all above it are nullified.
    /// `Err` names the view whose certificate or body is missing.
    pub(crate) fn choose_parent(&self) -> Result<(Digest, View), View> {
        let tip = self.tree.tip();
        let mut view = self.view.saturating_sub(1);
        while view > tip.view {
            let state = self.at(view).ok_or(view)?;
            if let Some(candidate) = state.notarized().filter(|candidate| self.tree.is_valid(&candidate.hash)) {
                return Ok((candidate.hash, view));
            }
            if !state.nullified() {
                return Err(view);
            }
            view -= 1;
        }
        Ok((self.tree.tip_hash(), tip.view))
    }

    /// Starts to build shortly before the proposal is due (C24).
    fn plan_proposal(&mut self) {
        let Ok((parent, parent_view)) = self.choose_parent() else { return };
        let Some(parent_header) = self.tree.header(&parent) else { return };
        let (height, stamp_ms) = (parent_header.height, parent_header.timestamp_ms);
        let pace_ms = pacing::pace_ms(&self.params, self.pending);
        let since_ms = self.now.mono_ms.saturating_sub(self.entered_ms);
        let wait_ms = pacing::due_in_ms(pace_ms, stamp_ms, self.now.wall_ms, since_ms);
        if wait_ms > self.params.build_ms {
            return self.set_timer(TimerKind::Propose, wait_ms - self.params.build_ms);
        }
        let Some(justification) = self.justify(parent_view) else { return };
        let attendance = justification.parent.as_ref().map(|c| c.signers.clone()).unwrap_or_default();
        let earliest_ms = stamp_ms.saturating_add(self.params.interval_ms);
        let timestamp_ms = self.now.wall_ms.saturating_add(wait_ms).max(earliest_ms);
        let draft = self.draft(parent, height + 1, timestamp_ms, attendance);
        self.moves += 1;
        self.out.push(Effect::Build(draft.clone()));
        let due_ms = self.now.mono_ms.saturating_add(wait_ms);
        self.lead = Lead::Building(Box::new(Plan { draft, parent_view, justification, due_ms }));
    }

    fn draft(&mut self, parent: Digest, height: u64, timestamp_ms: u64, attendance: Bitmap) -> Draft {
        self.tickets += 1;
        Draft {
            ticket: self.tickets,
            parent,
            chain: self.params.chain,
            term: self.context.term(),
            height,
            view: self.view,
            timestamp_ms,
            proposer: self.me.as_ref().map_or(0, |member| member.index),
            attendance,
            set_hash: self.context.set_hash(),
            empty: height.saturating_sub(self.tree.tip().height) > UNFINAL_MAX,
        }
    }

    /// The parent's certificate with every vote we hold, and the nullifications above it, the highest first (C12, C15).
    fn justify(&mut self, parent_view: View) -> Option<Justification> {
        let skipped = (parent_view.saturating_add(1)..self.view).rev().take(SKIPS_MAX);
        let skips: Vec<Certificate> = skipped
            .filter_map(|view| self.at(view)?.certificate(crate::protocol::checkpoint::VoteKind::Nullify).cloned())
            .collect();
        if parent_view == 0 {
            return Some(Justification { parent: None, skips });
        }
        let mut blame = Vec::new();
        let state = self.views.get_mut(&parent_view)?;
        let known = state.parent_certificate()?.clone();
        let parent = state.tally.certify_all(&self.context, &known, &mut blame);
        self.penalise(blame, Fault::BadSignature);
        Some(Justification { parent: Some(parent.unwrap_or(known)), skips })
    }

    /// The ledger built; what it built must be what we asked for.
    pub(crate) fn built(&mut self, ticket: u64, header: Header, body: Arc<Body>) {
        self.lead = match std::mem::take(&mut self.lead) {
            Lead::Building(plan) if plan.draft.ticket == ticket => {
                let draft = &plan.draft;
                let fits = self.is_well_formed(draft.view, &header, body.transactions.len())
                    && (header.parent_hash, header.height) == (draft.parent, draft.height)
                    && header.timestamp_ms == draft.timestamp_ms
                    && body.attendance == draft.attendance
                    && body.belongs_to(&header);
                if fits {
                    self.set_timer(TimerKind::Propose, plan.due_ms.saturating_sub(self.now.mono_ms));
                    Lead::Ready(plan, Box::new(header), body)
                } else {
                    Lead::Done
                }
            }
            other => other,
        };
    }

    /// The ledger could not build: the view passes without us.
    pub(crate) fn unbuilt(&mut self, ticket: u64) {
        if matches!(&self.lead, Lead::Building(plan) if plan.draft.ticket == ticket) {
            self.lead = Lead::Done;
        }
    }

    /// Persists the body and our notarize, then sends both (C14, C36).
    fn propose(&mut self, plan: Plan, header: Header, body: Arc<Body>) {
        let candidate = Candidate { hash: header.hash(), parent_view: plan.parent_view };
        let (view, height) = (self.view, header.height);
        let offer = Offer { candidate, timestamp_ms: header.timestamp_ms, parent_hash: header.parent_hash };
        let entry = Entry { header: header.clone(), body: body.clone(), standing: Standing::Valid, durable: false };
        self.lead = Lead::Done;
        self.moves += 1;
        self.tree.insert(candidate.hash, entry);
        self.views.entry(view).or_default().offer = Some(offer);
        self.persist_candidate(&candidate.hash);
        let Some(vote) = self.cast(view, Ballot::Notarize(candidate)) else { return };
        let body = Arc::unwrap_or_clone(body);
        let proposal = Proposal { header, body, justification: plan.justification, vote };
        self.out.push(Effect::Publish(Publication::Proposal(Box::new(proposal))));
        self.out.push(Effect::Note(Note::Proposed { view, height }));
    }
}
