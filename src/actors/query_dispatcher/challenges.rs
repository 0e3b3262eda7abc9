//! The Scorer's challenges: one query to many members at once, and what each of them made of it.
//!
//! Pure, like `inflight`. Every member has the same time, counted from the moment it is asked; at most so many are asked
//! at once. A challenge ends when each member has answered or failed, in one report with one entry for each.
//!
//! Invariants: one `Collected` or none (nobody could say whom to ask) for each challenge; one `End` for each `Open`; never
//! more attempts at once than allowed.

use std::collections::{BTreeMap, VecDeque};

use super::Challenge;
use super::attempts::{Effect, Heard, Loss, Opening, Owner, judge};
use crate::actors::peer_manager::{AttemptOutcome, Pick, PickMiners, QueryEnded};
use crate::actors::scorer::{AnswersCollected, Collected};
use crate::net;
use crate::protocol::ids::{Digest, MemberId, NodeId};
use crate::protocol::keys::Signature;
use crate::protocol::query::{Answer, AnswerFrame, Ask, ReceiptWish};

/// Members of one challenge.
pub(super) const MEMBERS_MAX: usize = 4_096;

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub challenges_max: usize,
    /// Attempts of one challenge at once.
    pub parallel_max: usize,
}

/// What happens to a challenge.
#[derive(Debug)]
pub(super) enum Input {
    Picked(Vec<Pick>),
    PickFailed,
    Heard { attempt: u64, frame: Result<AnswerFrame, net::AskError> },
    Closed { attempt: u64 },
    Woken,
}

#[derive(Debug)]
struct Attempt {
    member: MemberId,
    node: NodeId,
    since_ms: u64,
    limit_ms: u64,
}

#[derive(Debug)]
struct Open {
    /// The Scorer's name for it.
    id: u64,
    /// What receipts name it by.
    name: Digest,
    ask: Ask,
    picked: bool,
    waiting: VecDeque<Pick>,
    running: BTreeMap<u64, Attempt>,
    answers: BTreeMap<MemberId, Collected>,
}

/// The challenges in flight.
#[derive(Debug)]
pub(super) struct Challenges {
    limits: Limits,
    next: u64,
    next_attempt: u64,
    open: BTreeMap<u64, Open>,
}

impl Challenges {
    /// Attempts are numbered with every second number from `first`.
    pub fn new(limits: Limits, first: u64) -> Self {
        Self { limits, next: 0, next_attempt: first, open: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Begins a challenge; `None` when too many are under way, or it is out of bounds.
    pub fn begin(&mut self, challenge: Challenge) -> Option<Vec<Effect>> {
        let Challenge { id, name, subnet, query, deadline_ms, members } = challenge;
        let ask = Ask { subnet, model: None, query, deadline_ms, stream: false, receipt: None };
        if self.open.len() >= self.limits.challenges_max || members.len() > MEMBERS_MAX || ask.check().is_err() {
            return None;
        }
        self.next += 1;
        let owner = Owner::Challenge(self.next);
        let nothing = |member| (member, Collected { member, answer: None, receipt: None, latency_ms: 0 });
        let answers: BTreeMap<_, _> = members.into_iter().map(nothing).collect();
        let members: Vec<MemberId> = answers.keys().copied().collect();
        let wish = PickMiners { subnet, count: members.len(), members: Some(members), exclude: Vec::new() };
        let (waiting, running) = (VecDeque::new(), BTreeMap::new());
        self.open.insert(self.next, Open { id, name, ask, picked: false, waiting, running, answers });
        Some(vec![Effect::Pick { owner, wish }])
    }

    pub fn step(&mut self, now_ms: u64, challenge: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(open) = self.open.get_mut(&challenge) else { return effects };
        let owner = Owner::Challenge(challenge);
        match input {
            Input::Picked(picks) if !open.picked => {
                open.picked = true;
                let asked = picks.into_iter().filter(|pick| open.answers.contains_key(&pick.member));
                open.waiting = asked.take(MEMBERS_MAX).collect();
            }
            Input::Picked(_) => return effects,
            Input::PickFailed => {
                // Whom nobody could find is not to blame: no report, and the Scorer challenges again.
                if !open.picked {
                    self.open.remove(&challenge);
                    effects.push(Effect::Forget { owner });
                }
                return effects;
            }
            Input::Heard { attempt, frame } => {
                let heard = judge(frame, &open.ask);
                open.heard(now_ms, attempt, heard, &mut effects);
            }
            Input::Closed { attempt } => open.heard(now_ms, attempt, Heard::Lost(Loss::closed()), &mut effects),
            Input::Woken => open.woken(now_ms, &mut effects),
        }
        if !open.picked {
            return effects;
        }
        while open.running.len() < self.limits.parallel_max.max(1)
            && let Some(pick) = open.waiting.pop_front()
        {
            open.ask(now_ms, owner, self.next_attempt, &pick, &mut effects);
            self.next_attempt += 2;
        }
        match open.running.values().map(|attempt| attempt.limit_ms).min() {
            Some(at_ms) => effects.push(Effect::WakeAt { owner, at_ms }),
            None => {
                if let Some(open) = self.open.remove(&challenge) {
                    let answers = open.answers.into_values().collect();
                    effects.push(Effect::Collected(AnswersCollected { challenge: open.id, answers }));
                }
                effects.push(Effect::Forget { owner });
            }
        }
        effects
    }
}

impl Open {
    fn ask(&mut self, now_ms: u64, owner: Owner, attempt: u64, pick: &Pick, effects: &mut Vec<Effect>) {
        let deadline_ms = self.ask.deadline_ms;
        let receipt = Some(ReceiptWish { query: self.name, member: pick.member });
        let (ask, limit_ms) = (Ask { receipt, ..self.ask.clone() }, now_ms + deadline_ms);
        effects.push(Effect::Open { owner, opening: Opening { attempt, to: pick.node, ask, deadline_ms } });
        let running = Attempt { member: pick.member, node: pick.node, since_ms: now_ms, limit_ms };
        self.running.insert(attempt, running);
    }

    fn heard(&mut self, now_ms: u64, attempt: u64, heard: Heard, effects: &mut Vec<Effect>) {
        match heard {
            // No pieces are asked for; `judge` lets none through.
            Heard::Piece(_) => {}
            Heard::Done { answer, receipt, .. } => {
                self.end(now_ms, attempt, Some((answer, receipt)), AttemptOutcome::Answered, false, effects);
            }
            Heard::Lost(loss) => {
                let withdraw = loss.outcome == AttemptOutcome::Malformed;
                self.end(now_ms, attempt, None, loss.outcome, withdraw, effects);
            }
        }
    }

    fn woken(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let late = self.running.iter().filter(|(_, attempt)| now_ms >= attempt.limit_ms);
        for attempt in late.map(|(attempt, _)| *attempt).collect::<Vec<_>>() {
            self.end(now_ms, attempt, None, AttemptOutcome::Late, true, effects);
        }
    }

    fn end(
        &mut self,
        now_ms: u64,
        attempt: u64,
        answered: Option<(Answer, Option<Signature>)>,
        outcome: AttemptOutcome,
        withdraw: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Attempt { member, node, since_ms, .. }) = self.running.remove(&attempt) else { return };
        let latency_ms = now_ms.saturating_sub(since_ms);
        effects.push(Effect::End { attempt, withdraw, ended: QueryEnded { node, outcome, latency_ms } });
        let (answer, receipt) = answered.map_or((None, None), |(answer, receipt)| (Some(answer), receipt));
        self.answers.insert(member, Collected { member, answer, receipt, latency_ms });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::ids::{AccountId, SubnetId};
    use crate::protocol::query::{CLASSES, PIXELS, Query, RefusalCode, Usage};

    const LIMITS: Limits = Limits { challenges_max: 2, parallel_max: 3 };

    fn challenge(members: &[u32]) -> Challenge {
        Challenge {
            id: 77,
            name: Digest([7; 32]),
            subnet: SubnetId(1),
            query: Query::Classify { images: vec![vec![0; PIXELS]] },
            deadline_ms: 1_000,
            members: members.iter().map(|&m| MemberId(m)).collect(),
        }
    }

    fn pick(member: u32) -> Pick {
        let byte = u8::try_from(member).unwrap();
        Pick { member: MemberId(member), account: AccountId([byte; 32]), node: NodeId([byte; 32]) }
    }

    fn done() -> Result<AnswerFrame, net::AskError> {
        let answer = Answer::Classes { probabilities: vec![vec![1; CLASSES]] };
        Ok(AnswerFrame::Done { answer, usage: Usage::default(), model: Digest::ZERO, compute_ms: 1, receipt: None })
    }

    fn opened(effects: &[Effect]) -> Vec<u64> {
        effects
            .iter()
            .filter_map(|e| if let Effect::Open { opening, .. } = e { Some(opening.attempt) } else { None })
            .collect()
    }

    fn collected(effects: Vec<Effect>) -> Option<Vec<Collected>> {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Collected(AnswersCollected { challenge: 77, answers }) => Some(answers),
            _ => None,
        })
    }

    #[test]
    fn every_member_has_one_entry_whatever_it_did() {
        let mut challenges = Challenges::new(LIMITS, 1);
        challenges.begin(challenge(&[5, 1, 2, 3, 4, 1])).unwrap();
        let first = challenges.step(0, 1, Input::Picked(vec![pick(1), pick(2), pick(3), pick(4), pick(9)]));
        let open = opened(&first);
        assert_eq!(open.len(), 3, "bounded at once; strangers are not asked");
        let more = challenges.step(200, 1, Input::Heard { attempt: open[0], frame: done() });
        assert_eq!(opened(&more).len(), 1);
        let refused = Ok(AnswerFrame::refused(RefusalCode::Busy, ""));
        challenges.step(300, 1, Input::Heard { attempt: open[1], frame: refused });
        challenges.step(1_000, 1, Input::Woken);
        let last = challenges.step(1_100, 1, Input::Heard { attempt: opened(&more)[0], frame: done() });
        let answers = collected(last).unwrap();
        let told: Vec<(u32, bool, u64)> =
            answers.iter().map(|c| (c.member.0, c.answer.is_some(), c.latency_ms)).collect();
        assert_eq!(told, [(1, true, 200), (2, false, 300), (3, false, 1_000), (4, true, 900), (5, false, 0)]);
        assert_eq!(challenges.len(), 0);
    }

    #[test]
    fn nobody_to_ask_is_a_report_and_nobody_to_tell_is_none() {
        let mut challenges = Challenges::new(LIMITS, 1);
        challenges.begin(challenge(&[1, 2])).unwrap();
        let effects = challenges.step(0, 1, Input::Picked(vec![]));
        assert_eq!(collected(effects).unwrap().len(), 2);
        challenges.begin(challenge(&[1])).unwrap();
        assert!(collected(challenges.step(0, 2, Input::PickFailed)).is_none());
        assert_eq!(challenges.len(), 0);
        challenges.begin(challenge(&[1])).unwrap();
        challenges.begin(challenge(&[1])).unwrap();
        assert!(challenges.begin(challenge(&[1])).is_none(), "bounded");
    }

    proptest! {
        #[test]
        fn attempts_are_bounded_and_every_challenge_ends(events in proptest::collection::vec((0_u8..6, any::<u8>()), 1..80)) {
            let mut challenges = Challenges::new(LIMITS, 1);
            challenges.begin(challenge(&[1, 2, 3, 4, 5, 6, 7])).unwrap();
            let (mut now, mut open, mut reports) = (0, BTreeSet::new(), 0);
            let finish = (0..40).map(|_| (4, 255)).chain([(5, 0)]).chain((0..40).map(|_| (4, 255)));
            for (what, value) in events.into_iter().chain(finish) {
                let attempt = open.iter().nth(usize::from(value) % open.len().max(1)).copied().unwrap_or(1);
                let input = match what {
                    0 => Input::Heard { attempt, frame: done() },
                    1 => Input::Heard { attempt, frame: Err(net::AskError::Closed) },
                    2 => Input::Heard { attempt, frame: Ok(AnswerFrame::Piece(vec![1])) },
                    3 => Input::Closed { attempt },
                    4 => { now += u64::from(value); Input::Woken }
                    _ => Input::Picked((1..7).map(pick).collect()),
                };
                for effect in challenges.step(now, 1, input) {
                    match effect {
                        Effect::Open { opening, .. } => prop_assert!(open.insert(opening.attempt)),
                        Effect::End { attempt, .. } => prop_assert!(open.remove(&attempt)),
                        Effect::Collected(report) => { reports += 1; prop_assert_eq!(report.answers.len(), 7); }
                        _ => {}
                    }
                }
                prop_assert!(open.len() <= LIMITS.parallel_max);
            }
            prop_assert!(open.is_empty() && challenges.len() == 0);
            prop_assert_eq!(reports, 1);
        }
    }
}
