//! What both outgoing halves share: the effects they ask for, and what a frame says about an attempt.
//!
//! An attempt is one query put to one miner. Whoever opens it ends it, once, and its end is reported. A miner's frame is
//! believed only as far as it fits the query; what does not fit is a malformed answer, whatever it contains.

use crate::actors::peer_manager::{AttemptOutcome, PickMiners, QueryEnded};
use crate::actors::query_dispatcher::frames::{Frame, QueryFault};
use crate::actors::scorer::AnswersCollected;
use crate::net;
use crate::protocol::ids::{Digest, NodeId};
use crate::protocol::keys::Signature;
use crate::protocol::query::{Answer, AnswerFrame, Ask, RefusalCode, Usage};

/// Whose attempt, timer or pick it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Query(u64),
    Challenge(u64),
}

/// How a query ended: each has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Failed,
    Cancelled,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An attempt to begin.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub attempt: u64,
    pub to: NodeId,
    pub ask: Ask,
    pub deadline_ms: u64,
}

/// What a pure half wants done; performed in the order given.
#[derive(Debug)]
pub(super) enum Effect {
    /// Find miners; the reply comes back as an input.
    Pick { owner: Owner, wish: PickMiners },
    /// Begin an attempt; its frames come back as inputs.
    Open { owner: Owner, opening: Opening },
    /// The attempt is over: hear no more of it, report it, and with `withdraw` tell the miner to stop.
    End { attempt: u64, withdraw: bool, ended: QueryEnded },
    /// Wake the owner at this time; replaces what was set before.
    WakeAt { owner: Owner, at_ms: u64 },
    /// A frame for the caller.
    Give { query: u64, frame: Frame },
    /// The query has its outcome.
    Close { outcome: Outcome, elapsed_ms: u64 },
    /// A challenge is complete.
    Collected(AnswersCollected),
    /// Nothing of the owner remains.
    Forget { owner: Owner },
}

/// What answers brought from outside mean for an attempt.
#[derive(Debug)]
pub(super) enum Heard {
    Piece(Vec<u8>),
    Done { answer: Answer, usage: Usage, model: Digest, compute_ms: u64, receipt: Option<Signature> },
    Lost(Loss),
}

/// Why an attempt brought nothing.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub outcome: AttemptOutcome,
    /// What the caller is told when it was the last attempt.
    pub fault: QueryFault,
    pub text: String,
}

impl Loss {
    pub fn new(outcome: AttemptOutcome, fault: QueryFault, text: &str) -> Self {
        // The text may be a stranger's: nothing of it may act on a terminal or a log.
        Self { outcome, fault, text: text.chars().filter(|c| !c.is_control()).collect() }
    }

    pub fn late() -> Self {
        Self::new(AttemptOutcome::Late, QueryFault::Timeout, "no answer in time")
    }

    pub fn closed() -> Self {
        Self::from(net::AskError::Closed)
    }

    pub fn malformed(text: &str) -> Self {
        Self::new(AttemptOutcome::Malformed, QueryFault::NoCapacity, text)
    }

    fn refused(code: RefusalCode, text: &str) -> Self {
        let (outcome, fault) = match code {
            RefusalCode::Busy | RefusalCode::Stopping => (AttemptOutcome::Refused, QueryFault::NoCapacity),
            RefusalCode::Late => (AttemptOutcome::Refused, QueryFault::Timeout),
            RefusalCode::UnknownSubnet | RefusalCode::UnknownModel => {
                (AttemptOutcome::Refused, QueryFault::UnknownModel)
            }
            RefusalCode::Malformed | RefusalCode::Unsupported => (AttemptOutcome::Refused, QueryFault::Invalid),
            RefusalCode::Failed => (AttemptOutcome::Broken, QueryFault::NoCapacity),
        };
        Self::new(outcome, fault, &format!("{}: {text}", code.name()))
    }
}

impl From<net::AskError> for Loss {
    fn from(error: net::AskError) -> Self {
        let outcome = match error {
            net::AskError::Busy | net::AskError::RateLimited => AttemptOutcome::Refused,
            net::AskError::Timeout => return Self::late(),
            net::AskError::NotFound
            | net::AskError::TooLarge
            | net::AskError::WrongVersion
            | net::AskError::Failed
            | net::AskError::Unreachable
            | net::AskError::Closed => AttemptOutcome::Broken,
        };
        Self::new(outcome, QueryFault::NoCapacity, &error.to_string())
    }
}

/// Judges a frame by the query that was put to the miner.
pub(super) fn judge(frame: Result<AnswerFrame, net::AskError>, ask: &Ask) -> Heard {
    let frame = match frame {
        Ok(frame) => frame,
        Err(error) => return Heard::Lost(error.into()),
    };
    if let Err(error) = frame.check(&ask.query) {
        return Heard::Lost(Loss::malformed(&error.to_string()));
    }
    match frame {
        AnswerFrame::Piece(_) if !ask.stream => Heard::Lost(Loss::malformed("a piece nobody asked for")),
        AnswerFrame::Piece(bytes) => Heard::Piece(bytes),
        AnswerFrame::Done { model, .. } if ask.model.is_some_and(|asked| asked != model) => {
            Heard::Lost(Loss::malformed("the answer of another model"))
        }
        AnswerFrame::Done { answer, usage, model, compute_ms, receipt } => {
            Heard::Done { answer, usage, model, compute_ms, receipt }
        }
        AnswerFrame::Refused(code, text) => Heard::Lost(Loss::refused(code, &text)),
    }
}
