//! Our own queries: admitted, put to one miner after another, and ended with exactly one outcome.
//!
//! Pure: inputs carry everything, effects ask for everything, time is an argument. A query holds its permit from
//! admission until its last frame is with the caller. While another miner could still be asked an attempt gets half of
//! the time that is left; the last one gets all of it. A streamed completion whose miner is lost goes on at the next
//! one, with what was streamed as part of the prompt: nothing repeats and nothing is cut silently.
//!
//! Invariants: one `Close` for each query; one `End` for each `Open`; never two attempts of a query at once; no attempt
//! after the deadline or over the cap; the pieces given are a prefix of the answer that ends them, and all of it when
//! pieces were wanted.

use std::collections::BTreeMap;

use super::attempts::{Effect, Heard, Loss, Opening, Outcome, Owner, judge};
use super::frames::{Frame, QueryError, QueryFault, Served};
use crate::actors::peer_manager::{AttemptOutcome, Pick, PickMiners, QueryEnded};
use crate::net;
use crate::protocol::ids::{Digest, MemberId, NodeId};
use crate::protocol::query::{Answer, AnswerFrame, Ask, PROMPT_BYTES_MAX, Query, Usage};
use crate::protocol::turns::is_mark;

/// The least an attempt gets while another miner could be asked.
const ATTEMPT_MS_MIN: u64 = 250;
/// How long a caller that does not read may keep a finished query's permit.
const LINGER_MS: u64 = 5_000;

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub in_flight_max: usize,
    pub attempts_max: u32,
}

/// What happens to a query.
#[derive(Debug)]
pub(super) enum Input {
    /// Miners to ask, best first; an empty list: nobody.
    Picked(Vec<Pick>),
    /// Nobody could say whom to ask.
    PickFailed,
    Heard {
        attempt: u64,
        frame: Result<AnswerFrame, net::AskError>,
    },
    /// The frames of an attempt ended without a last one.
    Closed {
        attempt: u64,
    },
    Woken,
    /// The caller wants no more.
    CallerGone,
    /// The last frame is with the caller.
    Delivered,
}

#[derive(Debug)]
struct Attempt {
    id: u64,
    member: MemberId,
    node: NodeId,
    /// What this miner was asked.
    ask: Ask,
    since_ms: u64,
    limit_ms: u64,
    /// Whether another miner could be asked after this one.
    spare: bool,
    /// Streamed bytes that earlier miners gave.
    base: usize,
    started: bool,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every flight is trying somebody: a box would save nothing")]
enum Phase {
    Picking,
    Trying(Attempt),
    /// The outcome is fixed; the last frame is on its way to the caller.
    Closing {
        until_ms: u64,
    },
}

#[derive(Debug)]
struct Flight {
    query: u64,
    ask: Ask,
    since_ms: u64,
    due_ms: u64,
    phase: Phase,
    attempts: u32,
    tried: Vec<NodeId>,
    /// What has been streamed to the caller.
    text: Vec<u8>,
    served: Served,
    loss: Option<Loss>,
}

/// The queries in flight.
#[derive(Debug)]
pub(super) struct Inflight {
    limits: Limits,
    next_query: u64,
    next_attempt: u64,
    flights: BTreeMap<u64, Flight>,
}

impl Inflight {
    /// Attempts are numbered with every second number from `first`, so that two halves never share one.
    pub fn new(limits: Limits, first: u64) -> Self {
        Self { limits, next_query: 0, next_attempt: first, flights: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Admits a query, or says why not.
    pub fn submit(&mut self, now_ms: u64, ask: Ask) -> Result<(u64, Vec<Effect>), QueryError> {
        ask.check().map_err(|error| QueryError::new(QueryFault::Invalid, error.to_string()))?;
        if self.flights.len() >= self.limits.in_flight_max {
            let text = format!("{} queries are in flight here, as many as are allowed", self.flights.len());
            return Err(QueryError::new(QueryFault::Busy, text).retry_after_s(1));
        }
        self.next_query += 1;
        let (query, due_ms) = (self.next_query, now_ms + ask.deadline_ms);
        let mut flight = Flight {
            query,
            served: Served { subnet: ask.subnet, model: ask.model, ..Served::default() },
            ask,
            since_ms: now_ms,
            due_ms,
            phase: Phase::Picking,
            attempts: 0,
            tried: Vec::new(),
            text: Vec::new(),
            loss: None,
        };
        let mut effects = vec![Effect::WakeAt { owner: Owner::Query(query), at_ms: due_ms }];
        flight.pick(&mut effects);
        self.flights.insert(query, flight);
        Ok((query, effects))
    }

    /// What follows from an input. Inputs that come too late, for a query or attempt that is over, change nothing.
    pub fn step(&mut self, now_ms: u64, query: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(flight) = self.flights.get_mut(&query) else { return effects };
        let limits = &self.limits;
        match input {
            Input::Picked(picks) => {
                if flight.picked(now_ms, &picks, self.next_attempt, limits, &mut effects) {
                    self.next_attempt += 2;
                }
            }
            Input::PickFailed => {
                if matches!(flight.phase, Phase::Picking) {
                    let text = "the part of this node that knows the miners does not answer";
                    flight.fail(now_ms, QueryError::new(QueryFault::Internal, text), &mut effects);
                }
            }
            Input::Heard { attempt, frame } => {
                if let Some(current) = flight.current(attempt) {
                    let heard = judge(frame, &current.ask);
                    flight.heard(now_ms, heard, limits, &mut effects);
                }
            }
            Input::Closed { attempt } => {
                if flight.current(attempt).is_some() {
                    flight.lost(now_ms, Loss::closed(), false, limits, &mut effects);
                }
            }
            Input::Woken => flight.woken(now_ms, limits, &mut effects),
            Input::CallerGone => flight.cancel(now_ms, &mut effects),
            Input::Delivered => flight.delivered(&mut effects),
        }
        if matches!(effects.last(), Some(Effect::Forget { .. })) {
            self.flights.remove(&query);
        }
        effects
    }
}

impl Flight {
    fn owner(&self) -> Owner {
        Owner::Query(self.query)
    }

    fn current(&self, attempt: u64) -> Option<&Attempt> {
        match &self.phase {
            Phase::Trying(current) if current.id == attempt => Some(current),
            _ => None,
        }
    }

    /// Two are wanted: the second says whether there is a choice after the first.
    fn pick(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Picking;
        let wish = PickMiners { subnet: self.ask.subnet, count: 2, members: None, exclude: self.tried.clone() };
        effects.push(Effect::Pick { owner: self.owner(), wish });
    }

    /// Whether an attempt of this number was opened.
    fn picked(&mut self, now_ms: u64, picks: &[Pick], id: u64, limits: &Limits, effects: &mut Vec<Effect>) -> bool {
        if !matches!(self.phase, Phase::Picking) {
            return false;
        }
        if now_ms >= self.due_ms {
            self.time_out(now_ms, effects);
            return false;
        }
        let Some(pick) = picks.first() else {
            self.fail(now_ms, self.nobody(), effects);
            return false;
        };
        self.attempts += 1;
        self.tried.push(pick.node);
        let left_ms = self.due_ms - now_ms;
        let spare = picks.len() > 1 && self.attempts < limits.attempts_max;
        let limit_ms = now_ms + if spare { patience(left_ms) } else { left_ms };
        // A stream is worth its whole time once it has begun; anything else is given up at the attempt's own limit.
        let deadline_ms = if self.ask.stream { left_ms } else { limit_ms - now_ms };
        let ask = Ask { query: self.rest(), deadline_ms, ..self.ask.clone() };
        self.served.member = Some(pick.member);
        self.served.node = Some(pick.node);
        self.served.attempts = self.attempts;
        let opening = Opening { attempt: id, to: pick.node, ask: ask.clone(), deadline_ms };
        effects.push(Effect::Open { owner: self.owner(), opening });
        effects.push(Effect::WakeAt { owner: self.owner(), at_ms: limit_ms });
        let (member, node, base) = (pick.member, pick.node, self.text.len());
        let attempt = Attempt { id, member, node, ask, since_ms: now_ms, limit_ms, spare, base, started: false };
        self.phase = Phase::Trying(attempt);
        true
    }

    /// What is left to ask: of a completion, what follows the text the caller has already.
    fn rest(&self) -> Query {
        let Query::Complete { prompt, max_bytes, temperature_milli, seed, stop } = &self.ask.query else {
            return self.ask.query.clone();
        };
        let mut longer = prompt.clone();
        // What a miner wrote goes on in its turn and begins none.
        longer.extend(self.text.iter().filter(|byte| !is_mark(**byte)));
        // A model reads the end of a prompt; the front may go when it grows over its bound.
        let over = longer.len().saturating_sub(PROMPT_BYTES_MAX);
        let written = self.text.len();
        Query::Complete {
            prompt: longer.split_off(over),
            max_bytes: max_bytes.saturating_sub(u32::try_from(written).unwrap_or(u32::MAX)),
            temperature_milli: *temperature_milli,
            // Other draws than those at the same places before.
            seed: seed.wrapping_add(written as u64),
            stop: stop.clone(),
        }
    }

    fn heard(&mut self, now_ms: u64, heard: Heard, limits: &Limits, effects: &mut Vec<Effect>) {
        match heard {
            Heard::Piece(bytes) => self.piece(now_ms, bytes, limits, effects),
            Heard::Done { answer, usage, model, compute_ms, .. } => {
                self.done(now_ms, answer, usage, model, compute_ms, limits, effects);
            }
            // A frame that does not fit ends the attempt, but not the miner's sending.
            Heard::Lost(loss) => {
                let withdraw = loss.outcome == AttemptOutcome::Malformed;
                self.lost(now_ms, loss, withdraw, limits, effects);
            }
        }
    }

    fn piece(&mut self, now_ms: u64, bytes: Vec<u8>, limits: &Limits, effects: &mut Vec<Effect>) {
        let Query::Complete { max_bytes, .. } = self.ask.query else { return };
        if self.text.len() + bytes.len() > max_bytes as usize {
            return self.lost(now_ms, Loss::malformed("more bytes than were asked for"), true, limits, effects);
        }
        self.start(effects);
        let (query, due_ms) = (self.query, self.due_ms);
        if let Phase::Trying(attempt) = &mut self.phase
            && attempt.spare
        {
            attempt.limit_ms = now_ms + patience(due_ms.saturating_sub(now_ms));
        }
        self.text.extend_from_slice(&bytes);
        effects.push(Effect::Give { query, frame: Frame::Piece(bytes) });
    }

    /// Says once who answers.
    fn start(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Trying(attempt) = &mut self.phase
            && !std::mem::replace(&mut attempt.started, true)
        {
            effects.push(Effect::Give { query: self.query, frame: Frame::Started(self.served.clone()) });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one frame")]
    fn done(
        &mut self,
        now_ms: u64,
        mut answer: Answer,
        mut usage: Usage,
        model: Digest,
        compute_ms: u64,
        limits: &Limits,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::Trying(attempt) = &self.phase else { return };
        let mut rest = Vec::new();
        if let (Answer::Text { bytes }, Query::Complete { prompt, .. }) = (&mut answer, &self.ask.query) {
            let streamed = self.text.get(attempt.base..).unwrap_or_default();
            let Some(more) = bytes.strip_prefix(streamed) else {
                let loss = Loss::malformed("the whole answer is not what was streamed");
                return self.lost(now_ms, loss, false, limits, effects);
            };
            rest.extend_from_slice(more);
            let whole = [self.text.as_slice(), &rest].concat();
            usage.input_bytes = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
            usage.output_bytes = u32::try_from(whole.len()).unwrap_or(u32::MAX);
            *bytes = whole;
        }
        self.served.model = Some(model);
        self.start(effects);
        if self.ask.stream && !rest.is_empty() {
            effects.push(Effect::Give { query: self.query, frame: Frame::Piece(rest) });
        }
        self.end_attempt(now_ms, AttemptOutcome::Answered, false, effects);
        let served = self.served.clone();
        self.close(now_ms, Outcome::Done, Frame::Done { answer, usage, served, compute_ms }, effects);
    }

    /// The attempt is over; on to the next miner, if there is time for one.
    fn lost(&mut self, now_ms: u64, loss: Loss, withdraw: bool, limits: &Limits, effects: &mut Vec<Effect>) {
        self.end_attempt(now_ms, loss.outcome, withdraw, effects);
        self.loss = Some(loss);
        if let Query::Complete { prompt, max_bytes, .. } = &self.ask.query
            && self.text.len() >= *max_bytes as usize
        {
            // All was said; only the last word is missing.
            let usage = Usage {
                items: 1,
                input_bytes: u32::try_from(prompt.len()).unwrap_or(u32::MAX),
                output_bytes: *max_bytes,
            };
            let answer = Answer::Text { bytes: self.text.clone() };
            let done = Frame::Done { answer, usage, served: self.served.clone(), compute_ms: 0 };
            return self.close(now_ms, Outcome::Done, done, effects);
        }
        if now_ms >= self.due_ms {
            self.time_out(now_ms, effects);
        } else if self.attempts >= limits.attempts_max {
            self.fail(now_ms, self.nobody(), effects);
        } else {
            self.pick(effects);
        }
    }

    fn woken(&mut self, now_ms: u64, limits: &Limits, effects: &mut Vec<Effect>) {
        let next_ms = match &self.phase {
            Phase::Closing { until_ms } if now_ms >= *until_ms => {
                return effects.push(Effect::Forget { owner: self.owner() });
            }
            Phase::Closing { until_ms } => *until_ms,
            Phase::Picking if now_ms >= self.due_ms => return self.time_out(now_ms, effects),
            Phase::Picking => self.due_ms,
            Phase::Trying(attempt) if now_ms >= attempt.limit_ms.min(self.due_ms) => {
                return self.lost(now_ms, Loss::late(), true, limits, effects);
            }
            Phase::Trying(attempt) => attempt.limit_ms.min(self.due_ms),
        };
        effects.push(Effect::WakeAt { owner: self.owner(), at_ms: next_ms });
    }

    fn cancel(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Closing { .. }) {
            self.end_attempt(now_ms, AttemptOutcome::Cancelled, true, effects);
            let elapsed_ms = now_ms.saturating_sub(self.since_ms);
            effects.push(Effect::Close { outcome: Outcome::Cancelled, elapsed_ms });
        }
        effects.push(Effect::Forget { owner: self.owner() });
    }

    fn delivered(&mut self, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Closing { .. }) {
            effects.push(Effect::Forget { owner: self.owner() });
        }
    }

    fn end_attempt(&mut self, now_ms: u64, outcome: AttemptOutcome, withdraw: bool, effects: &mut Vec<Effect>) {
        if let Phase::Trying(attempt) = &self.phase {
            let latency_ms = now_ms.saturating_sub(attempt.since_ms);
            let ended = QueryEnded { node: attempt.node, outcome, latency_ms };
            effects.push(Effect::End { attempt: attempt.id, withdraw, ended });
            tracing::debug!(member = %attempt.member, ?outcome, latency_ms, "attempt ended");
            self.phase = Phase::Picking;
        }
    }

    fn close(&mut self, now_ms: u64, outcome: Outcome, last: Frame, effects: &mut Vec<Effect>) {
        let until_ms = now_ms + LINGER_MS;
        let (query, elapsed_ms) = (self.query, now_ms.saturating_sub(self.since_ms));
        self.phase = Phase::Closing { until_ms };
        effects.push(Effect::Close { outcome, elapsed_ms });
        effects.push(Effect::WakeAt { owner: self.owner(), at_ms: until_ms });
        effects.push(Effect::Give { query, frame: last });
    }

    fn fail(&mut self, now_ms: u64, error: QueryError, effects: &mut Vec<Effect>) {
        self.close(now_ms, Outcome::Failed, Frame::Failed(error), effects);
    }

    fn time_out(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let mut text = format!("no whole answer within {} ms", self.ask.deadline_ms);
        if let Some(loss) = self.loss.as_ref().filter(|loss| loss.fault != QueryFault::Timeout) {
            text = format!("{text}; the last of {} miners asked: {}", self.attempts, loss.text);
        }
        self.fail(now_ms, QueryError::new(QueryFault::Timeout, text), effects);
    }

    /// Nobody is left to ask.
    fn nobody(&self) -> QueryError {
        let Some(loss) = &self.loss else {
            let text = format!("no miner of subnet {} can be reached now", self.ask.subnet);
            return QueryError::new(QueryFault::NoCapacity, text).retry_after_s(2);
        };
        let text = match self.text.len() {
            0 => format!("none of the {} miners asked answered; the last: {}", self.attempts, loss.text),
            bytes => format!("broken off after {bytes} bytes and {} miners; the last: {}", self.attempts, loss.text),
        };
        let error = QueryError::new(loss.fault, text);
        if loss.fault == QueryFault::NoCapacity { error.retry_after_s(1) } else { error }
    }
}

/// What an attempt gets of the time left while another miner could be asked.
fn patience(left_ms: u64) -> u64 {
    (left_ms / 2).max(ATTEMPT_MS_MIN).min(left_ms)
}

#[cfg(test)]
mod tests;
