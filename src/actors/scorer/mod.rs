//! Answers to scores, and once an epoch scores to a weight vector.

use super::mail::heard;
use crate::protocol::ids::MemberId;
use crate::protocol::query::Answer;

/// What one miner made of a challenge.
#[derive(Clone, Debug)]
pub struct Collected {
    pub member: MemberId,
    /// `None`: not connected, refused, late or broken.
    pub answer: Option<Answer>,
    /// From the query sent to the last frame.
    pub latency_ms: u64,
}

/// From query_dispatcher: every miner of a challenge has answered or failed. Lost: the challenge is put again later.
#[derive(Clone, Debug)]
pub struct AnswersCollected {
    pub challenge: u64,
    /// In member order, one for each member that was to be asked.
    pub answers: Vec<Collected>,
}

heard! { "scorer": AnswersCollected => () }
