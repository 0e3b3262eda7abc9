//! What a subnet asks for: challenges, their judgement, and what a model is truly worth (M1 to M4).
//!
//! A challenge is drawn from a seed nobody knew before, out of data that honest miners never train on, and keeps the
//! truth to itself. Scores lie in [0, 1] sample by sample, so that no order of arrival changes a sum.

pub mod forecast;
pub mod spec;
pub mod text;
pub mod vision;

use std::fmt;

pub use spec::MinerSpec;

use crate::ml::data::DataError;
use crate::ml::engine::{Control, Engine, EngineError, Handle};
use crate::ml::train::TrainJob;
use crate::protocol::ids::Digest;
use crate::protocol::query::{Answer, Query};

/// The tasks known here, by the name genesis uses.
pub const NAMES: [&str; 3] = ["vision", "text", "forecast"];

/// Why a task cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("no task \"{name}\"; known are {known}", name = .0, known = NAMES.join(", "))]
    Unknown(String),
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Opens a task by name; its data are unpacked and checked once per process.
///
/// # Errors
/// Unknown, or data that are not what they should be.
pub fn open(name: &str) -> Result<Box<dyn Task>, TaskError> {
    match name {
        "vision" => Ok(Box::new(vision::Vision::new()?)),
        "text" => Ok(Box::new(text::Text::new()?)),
        "forecast" => Ok(Box::new(forecast::Forecast::new()?)),
        other => Err(TaskError::Unknown(other.to_owned())),
    }
}

/// The true answers, which never leave the validator.
#[derive(Clone, PartialEq, Eq)]
pub struct Truth(pub(super) Vec<u8>);

impl fmt::Debug for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Truth({} hidden)", self.0.len())
    }
}

/// A query whose answer the asker knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub query: Query,
    pub truth: Truth,
}

/// What became of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Scored,
    /// No answer.
    Missing,
    /// An answer after the deadline.
    Late,
    /// An answer of the wrong shape, or a row without any probability in it.
    Malformed,
}

/// One score in [0, 1] per sample of a challenge, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleScores {
    pub outcome: Outcome,
    pub scores: Vec<f64>,
}

impl SampleScores {
    pub(super) fn none(outcome: Outcome, samples: usize) -> Self {
        Self { outcome, scores: vec![0.0; samples] }
    }

    pub fn mean(&self) -> f64 {
        if self.scores.is_empty() { 0.0 } else { self.scores.iter().sum::<f64>() / self.scores.len() as f64 }
    }
}

/// What a model is worth on the whole held-out set.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Quality {
    /// In [0, 1], comparable within a task: accuracy, `1 - bits per byte / 8`, or `1 - loss` of a forecast.
    pub quality: f64,
    /// The figure people know: accuracy in percent, bits per byte, or skill in percent.
    pub figure: f64,
    /// Its unit.
    #[serde(skip_deserializing)]
    pub unit: &'static str,
    pub samples: usize,
}

/// What is asked and how an answer is judged. Pure: equal arguments, equal results.
pub trait Task: Send + Sync + fmt::Debug {
    fn name(&self) -> &'static str;

    /// One line for people.
    fn about(&self) -> &'static str;

    /// Whether this kind of query belongs to the task.
    fn accepts(&self, query: &Query) -> bool;

    /// What an answer without knowledge scores; the weights count from there.
    fn chance_level(&self) -> f64;

    /// `count` fresh samples (at least 1, at most a query's bound) drawn by the seed from the held-out data.
    fn challenge(&self, seed: Digest, count: usize) -> Challenge;

    /// Judges an answer; `None` is one that did not come.
    fn score(&self, challenge: &Challenge, answer: Option<&Answer>, latency_ms: u64, deadline_ms: u64) -> SampleScores;

    /// What a miner of this spec trains.
    fn job(&self, spec: &MinerSpec) -> TrainJob;

    /// The worth of a loaded model on the whole held-out set, untransformed.
    ///
    /// # Errors
    /// The engine's.
    fn true_quality(
        &self,
        engine: &mut dyn Engine,
        handle: Handle,
        control: &Control<'_>,
    ) -> Result<Quality, EngineError>;
}

/// Latency up to this share of the deadline costs nothing.
const LATENCY_FREE: f64 = 0.5;
/// What an answer at the very deadline keeps: slow but right beats fast but wrong (M4).
const LATENCY_FLOOR: f64 = 0.9;

/// The factor for an answer in time: 1 up to half the deadline, then straight down to the floor.
pub(super) fn latency_factor(latency_ms: u64, deadline_ms: u64) -> f64 {
    let spent = latency_ms as f64 / deadline_ms.max(1) as f64;
    let over = ((spent - LATENCY_FREE) / (1.0 - LATENCY_FREE)).clamp(0.0, 1.0);
    1.0 - over * (1.0 - LATENCY_FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_costs_little_and_never_more() {
        assert_eq!(latency_factor(0, 1_000), 1.0);
        assert_eq!(latency_factor(500, 1_000), 1.0);
        assert!((latency_factor(750, 1_000) - 0.95).abs() < 1e-12);
        assert!((latency_factor(9_000, 1_000) - LATENCY_FLOOR).abs() < 1e-12);
    }

    #[test]
    fn an_unknown_task_names_the_known() {
        let error = open("speech").unwrap_err().to_string();
        assert!(NAMES.iter().all(|name| error.contains(name)), "{error}");
    }
}
