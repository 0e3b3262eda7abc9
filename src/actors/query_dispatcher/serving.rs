//! What this node serves, and the queries of others that are being answered here.
//!
//! Pure. A query is admitted or refused at once: busy is an answer. An admitted one holds a permit until its end, and has
//! one end. Behaviours other than `Honest` are what devnets show the worthlessness of.

use std::collections::BTreeMap;

use crate::actors::worker_pool::{JobError, Lane};
use crate::ml::engine::{EngineError, Handle};
use crate::net::ReplyTicket;
use crate::protocol::ids::SubnetId;
use crate::protocol::query::{AnswerFrame, Ask, RefusalCode};
use crate::protocol::report::MinerRow;

use super::ServeModel;

/// How late a `Late` miner begins, after the asker's deadline.
const LATE_MS: u64 = 250;

/// How a miner answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Honest,
    /// By chance, without the model.
    Random,
    /// Takes queries and never answers.
    Silent,
    /// Answers when nobody waits any more.
    Late,
    /// Puts every question to another miner in its own name, and stands for what that one says.
    Relay,
    /// Answers by heart, without a model.
    Memoriser,
}

impl Behaviour {
    pub fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Random => "random",
            Self::Silent => "silent",
            Self::Late => "late",
            Self::Relay => "relay",
            Self::Memoriser => "memoriser",
        }
    }

    /// The lane that answers without a model of the miner's own; a relay needs none, and has its answers elsewhere.
    pub fn bare(self) -> Option<Lane> {
        match self {
            Self::Random => Some(Lane::Random),
            Self::Memoriser => Some(Lane::Memory),
            Self::Relay => Some(Lane::Cpu),
            Self::Honest | Self::Silent | Self::Late => None,
        }
    }
}

/// How an admitted query ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Answered,
    Refused,
    /// Begun and not ended as it should, or never answered.
    Failed,
    /// The asker went away.
    Withdrawn,
}

impl End {
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What to do with an admitted query.
#[derive(Debug)]
pub(super) struct Plan {
    pub ask: Ask,
    pub model: Handle,
    pub lane: Lane,
    /// Wait this long before anything.
    pub wait_ms: u64,
    /// Whether anything follows then.
    pub answers: bool,
    /// Whether another miner is to find the answer.
    pub relays: bool,
}

#[derive(Debug)]
struct Served {
    serve: ServeModel,
    /// Why nothing is taken at present.
    closed: Option<String>,
    answered: u64,
    refused: u64,
    failed: u64,
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub in_flight_max: usize,
    pub subnets_max: usize,
}

/// The serving side.
#[derive(Debug)]
pub(super) struct Serving {
    limits: Limits,
    subnets: BTreeMap<SubnetId, Served>,
    in_flight: BTreeMap<ReplyTicket, SubnetId>,
}

impl Serving {
    pub fn new(limits: Limits) -> Self {
        Self { limits, subnets: BTreeMap::new(), in_flight: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Sets what is served in a subnet, or with a reason that nothing is for now; false when there is no room for another
    /// subnet. Counts go on.
    pub fn serve(&mut self, serve: ServeModel, closed: Option<String>) -> bool {
        if let Some(served) = self.subnets.get_mut(&serve.subnet) {
            (served.serve, served.closed) = (serve, closed);
            return true;
        }
        let room = self.subnets.len() < self.limits.subnets_max;
        if room {
            self.subnets.insert(serve.subnet, Served { serve, closed, answered: 0, refused: 0, failed: 0 });
        }
        room
    }

    /// Admits a query, or refuses it with the frame to send. A ticket that is in flight already is refused too.
    #[expect(clippy::result_large_err, reason = "the refusal is the frame that goes out, made once")]
    pub fn arrive(&mut self, ask: Ask, ticket: ReplyTicket) -> Result<Plan, AnswerFrame> {
        let subnet = ask.subnet;
        let admitted = self.admit(ask, ticket);
        match &admitted {
            Ok(_) => {
                self.in_flight.insert(ticket, subnet);
            }
            Err(_) => self.count(subnet, End::Refused),
        }
        admitted
    }

    #[expect(clippy::result_large_err, reason = "the refusal is the frame that goes out, made once")]
    fn admit(&self, ask: Ask, ticket: ReplyTicket) -> Result<Plan, AnswerFrame> {
        let refuse = |code, text: &str| Err(AnswerFrame::refused(code, text));
        if let Err(error) = ask.check() {
            return refuse(RefusalCode::Malformed, &error.to_string());
        }
        let Some(served) = self.subnets.get(&ask.subnet) else {
            return refuse(RefusalCode::UnknownSubnet, "this subnet is not served here");
        };
        let serve = &served.serve;
        if ask.model.is_some_and(|model| model != serve.model) {
            return refuse(RefusalCode::UnknownModel, "another model is served here");
        }
        if served.closed.is_some() {
            // Why is the operator's to know; whoever asks goes to another miner.
            return refuse(RefusalCode::Busy, "the engine behind this miner takes nothing at present");
        }
        if self.in_flight.len() >= self.limits.in_flight_max || self.in_flight.contains_key(&ticket) {
            return refuse(RefusalCode::Busy, "as many queries as allowed are in flight here");
        }
        let (wait_ms, answers) = match serve.behaviour {
            Behaviour::Honest | Behaviour::Random | Behaviour::Relay | Behaviour::Memoriser => (0, true),
            Behaviour::Silent => (ask.deadline_ms, false),
            Behaviour::Late => (ask.deadline_ms + LATE_MS, true),
        };
        let lane = serve.behaviour.bare().unwrap_or(serve.lane);
        let relays = serve.behaviour == Behaviour::Relay;
        Ok(Plan { ask, model: serve.model, lane, wait_ms, answers, relays })
    }

    /// The query has ended; false when it had before.
    pub fn finish(&mut self, ticket: ReplyTicket, end: End) -> bool {
        let Some(subnet) = self.in_flight.remove(&ticket) else { return false };
        self.count(subnet, end);
        true
    }

    fn count(&mut self, subnet: SubnetId, end: End) {
        metrics::counter!("starling_serving_queries_total", "outcome" => end.name()).increment(1);
        let Some(served) = self.subnets.get_mut(&subnet) else { return };
        match end {
            End::Answered => served.answered += 1,
            End::Refused => served.refused += 1,
            End::Failed => served.failed += 1,
            End::Withdrawn => {}
        }
    }

    pub fn rows(&self) -> Vec<MinerRow> {
        let row = |(subnet, served): (&SubnetId, &Served)| {
            let in_flight = self.in_flight.values().filter(|in_subnet| *in_subnet == subnet).count();
            MinerRow {
                subnet: *subnet,
                state: if served.closed.is_some() { "closed" } else { "serving" }.to_owned(),
                notes: served.closed.iter().map(|why| format!("takes no queries: {why}")).collect(),
                behaviour: served.serve.behaviour.name().to_owned(),
                model: Some(served.serve.model),
                answered: served.answered,
                refused: served.refused,
                failed: served.failed,
                in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
                ..MinerRow::default()
            }
        };
        self.subnets.iter().map(row).collect()
    }
}

/// What a stranger is told when the pool has no result, and how that counts. Our own troubles are not described.
pub(super) fn refusal(error: &JobError) -> (AnswerFrame, End) {
    let refuse = |code, text: &str| (AnswerFrame::refused(code, text), End::Refused);
    match error {
        JobError::Busy => refuse(RefusalCode::Busy, "no worker is free"),
        JobError::Late => refuse(RefusalCode::Late, "the deadline passed"),
        JobError::Engine(EngineError::UnknownModel(_)) => refuse(RefusalCode::UnknownModel, "the model is not loaded"),
        JobError::Engine(error @ (EngineError::Unsupported { .. } | EngineError::Mismatch { .. })) => {
            refuse(RefusalCode::Unsupported, &error.to_string())
        }
        JobError::Engine(EngineError::Query(error)) => refuse(RefusalCode::Malformed, &error.to_string()),
        JobError::NoLane(_) => refuse(RefusalCode::Unsupported, "no such engine here"),
        JobError::Cancelled | JobError::Engine(_) | JobError::Task(_) | JobError::Failed => {
            (AnswerFrame::refused(RefusalCode::Failed, "the work failed"), End::Failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::Digest;
    use crate::protocol::query::{PIXELS, Query};

    fn ask(subnet: u32) -> Ask {
        let query = Query::Classify { images: vec![vec![0; PIXELS]] };
        Ask { subnet: SubnetId(subnet), model: None, query, deadline_ms: 1_000, stream: false, receipt: None }
    }

    fn serving(behaviour: Behaviour) -> Serving {
        let mut serving = Serving::new(Limits { in_flight_max: 2, subnets_max: 1 });
        let model = Digest([1; 32]);
        assert!(serving.serve(ServeModel { subnet: SubnetId(1), model, lane: Lane::Cpu, behaviour }, None));
        serving
    }

    #[test]
    fn behaviours_make_plans() {
        for (behaviour, lane, wait_ms, answers) in [
            (Behaviour::Honest, Lane::Cpu, 0, true),
            (Behaviour::Random, Lane::Random, 0, true),
            (Behaviour::Silent, Lane::Cpu, 1_000, false),
            (Behaviour::Late, Lane::Cpu, 1_250, true),
            (Behaviour::Relay, Lane::Cpu, 0, true),
            (Behaviour::Memoriser, Lane::Memory, 0, true),
        ] {
            let plan = serving(behaviour).arrive(ask(1), ReplyTicket(1)).unwrap();
            assert_eq!((plan.lane, plan.wait_ms, plan.answers), (lane, wait_ms, answers));
            assert_eq!(plan.relays, behaviour == Behaviour::Relay);
        }
    }

    #[test]
    fn a_closed_engine_refuses_as_busy_and_says_why_to_its_operator_alone() {
        let mut serving = serving(Behaviour::Honest);
        let serve = serving.subnets[&SubnetId(1)].serve;
        assert!(serving.serve(serve, Some("the server is down".to_owned())));
        let refused = serving.arrive(ask(1), ReplyTicket(1)).unwrap_err();
        let AnswerFrame::Refused(RefusalCode::Busy, text) = refused else { panic!("{refused:?}") };
        assert!(!text.contains("down"));
        let row = &serving.rows()[0];
        assert_eq!((row.state.as_str(), row.refused), ("closed", 1));
        assert!(row.notes[0].contains("the server is down"));
        assert!(serving.serve(serve, None));
        assert!(serving.arrive(ask(1), ReplyTicket(1)).is_ok());
        assert_eq!(serving.rows()[0].state, "serving");
    }

    #[test]
    fn what_cannot_be_served_is_refused_at_once() {
        let mut serving = serving(Behaviour::Honest);
        let other = Ask { model: Some(Digest([9; 32])), ..ask(1) };
        let endless = Ask { deadline_ms: u64::MAX, ..ask(1) };
        for (ask, code) in [
            (ask(2), RefusalCode::UnknownSubnet),
            (other, RefusalCode::UnknownModel),
            (endless, RefusalCode::Malformed),
        ] {
            let refused = serving.arrive(ask, ReplyTicket(9)).unwrap_err();
            assert!(matches!(refused, AnswerFrame::Refused(found, _) if found == code));
        }
        for ticket in 1..=2 {
            assert!(serving.arrive(ask(1), ReplyTicket(ticket)).is_ok());
        }
        let busy = |frame| matches!(frame, Err(AnswerFrame::Refused(RefusalCode::Busy, _)));
        assert!(busy(serving.arrive(ask(1), ReplyTicket(3))));
        assert_eq!(serving.len(), 2);
        assert!(serving.finish(ReplyTicket(1), End::Answered) && !serving.finish(ReplyTicket(1), End::Failed));
        assert!(busy(serving.arrive(ask(1), ReplyTicket(2))), "a ticket in flight is no new query");
        assert!(serving.arrive(ask(1), ReplyTicket(3)).is_ok());
        let row = &serving.rows()[0];
        assert_eq!((row.answered, row.refused, row.failed, row.in_flight), (1, 4, 0, 2));
        let model = Digest::ZERO;
        let second = ServeModel { subnet: SubnetId(2), model, lane: Lane::Cpu, behaviour: Behaviour::Honest };
        assert!(!serving.serve(second, None), "bounded");
    }
}
