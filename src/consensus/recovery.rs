//! Starting, with or without a past: what the journal says is what was said (C38, C40).
//!
//! Votes, candidates and certificates are restored; timers and the votes of others are not, their loss equals message
//! loss (C37). Without a key of the committee, or when the driver withholds the key because the journal is lost (C40),
//! the machine observes.

use std::collections::{BTreeMap, VecDeque};

use crate::protocol::checkpoint::VoteKind;
use crate::protocol::committee::CommitteeContext;
use crate::protocol::ids::{NodeId, View};
use crate::protocol::keys::SecretKey;

use super::effect::{Effect, Now, Record, Source, TimerKind};
use super::leader::Schedule;
use super::machine::{Machine, Member};
use super::planner::{Planner, TICK_MS};
use super::propose::Lead;
use super::rules::{Rule, Rules};
use super::tree::{Entry, Standing, Tree};
use super::{Params, Tip};

impl Machine {
    /// A machine from what the stores hold. `records` are those of the journal, in order; give a key only with the
    /// journal that belongs to it. The first input is `Start`.
    pub fn new(params: Params, key: Option<SecretKey>, tip: Tip, records: Vec<Record>) -> Self {
        Self::with_rules(params, key, tip, records, Rules::default())
    }

    pub(crate) fn with_rules(
        params: Params,
        key: Option<SecretKey>,
        tip: Tip,
        records: Vec<Record>,
        rules: Rules,
    ) -> Self {
        let schedule = Schedule::new(&params.committee, params.seed);
        let context = CommitteeContext::new(params.chain, params.committee.clone());
        let me = key.and_then(|key| params.committee.index_of(&key.public()).map(|index| Member { index, key }));
        let tree = Tree::new(tip.header);
        let mut machine = Self {
            finals: BTreeMap::from([(tree.tip().view, tree.tip_hash())]),
            view: tree.tip().view + 1,
            params,
            context,
            schedule,
            rules,
            me,
            now: Now::default(),
            entered_ms: 0,
            views: BTreeMap::new(),
            tree,
            lead: Lead::Idle,
            tickets: 0,
            planner: Planner::default(),
            evidence: BTreeMap::new(),
            seen: BTreeMap::new(),
            pending: false,
            unsettled: VecDeque::new(),
            last_final_ms: 0,
            alarmed_ms: 0,
            halted: false,
            moves: 0,
            armed: BTreeMap::new(),
            records: Vec::new(),
            out: Vec::new(),
        };
        if let Some(certificate) = &tip.certificate {
            machine.views.entry(certificate.subject.view).or_default().keep(certificate);
        }
        for record in records {
            machine.restore(record);
        }
        machine.view = machine.restored_view();
        machine
    }

    fn restore(&mut self, record: Record) {
        match record {
            Record::Vote(vote) => {
                let mine = self.me.as_ref().is_some_and(|member| member.index == vote.signer);
                if mine && vote.subject.term == self.context.term() && self.rules.hold(Rule::RememberVotes) {
                    let own = Source { peer: NodeId::ZERO, relayed: false };
                    let state = self.views.entry(vote.subject.view).or_default();
                    state.own.note(vote);
                    state.tally.hear(&self.context, own, vote, true);
                }
            }
            Record::Candidate { header, body } => {
                let entry = Entry { header, body, standing: Standing::Waiting, durable: true };
                self.tree.insert(entry.header.hash(), entry);
            }
            Record::Certificate(certificate) => {
                if certificate.kind() == VoteKind::Finalize && self.contradicts_final(&certificate) {
                    return;
                }
                self.views.entry(certificate.subject.view).or_default().keep(&certificate);
            }
        }
    }

    /// C38: no view is entered again in which something final or something that ends it was said, and certificates
    /// lead on as they always do (C13).
    fn restored_view(&self) -> View {
        let mut view = self.view;
        for (at, state) in &self.views {
            if state.own.notarized.is_some() || state.own.nullified {
                view = view.max(*at);
            }
            // The mutants that go back to where they finalized.
            if !self.rules.hold(Rule::FinalizedBeforeCrash) || !self.rules.hold(Rule::NullifyAfterFinalize) {
                view = view.max(if state.own.finalized.is_some() { *at } else { 0 });
                continue;
            }
            if state.own.finalized.is_some() || state.certificates().next().is_some() {
                view = view.max(at + 1);
            }
        }
        view
    }

    /// The first input: own votes go out again verbatim, timers start (C38).
    pub(crate) fn start(&mut self) {
        self.entered_ms = self.now.mono_ms;
        self.last_final_ms = self.now.mono_ms;
        let final_view = self.tree.tip().view;
        self.out.push(Effect::DropJournal { mark: final_view });
        let open = self.views.range(final_view.saturating_add(1)..);
        let votes: Vec<_> = open.flat_map(|(_, state)| state.own.votes.iter().copied()).collect();
        self.out.extend(votes.into_iter().map(Effect::SendVote));
        self.arm_timers();
        if self.here().is_some_and(|state| state.own.nullified) {
            self.set_timer(TimerKind::Resend, self.resend_ms());
        }
        self.set_timer(TimerKind::Sync, TICK_MS);
    }
}
