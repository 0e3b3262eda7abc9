//! Who computes: one blocking, object-safe trait (M6) with weights crossing it as plain tensors only.
//!
//! An engine keeps no queue and starts no work of its own: whoever calls it owns the thread, the permit and the deadline.
//! Every input is checked before anything is allocated for it, and what an engine cannot do is a value, not a panic.

mod complete;
pub mod cpu;
#[cfg(feature = "llm")]
pub mod llm;
pub mod memory;
pub mod random;
pub mod sampler;
pub mod upstream;

use std::fmt;

use crate::ml::model::{Artifact, ArtifactError};
use crate::ml::train::TrainJob;
use crate::protocol::ids::Digest;
use crate::protocol::query::{Answer, BoundsError, Query, Usage};

/// A loaded model: the id of its artifact, so that every engine of a node names one model alike.
pub type Handle = Digest;

/// What an engine can do, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub train: bool,
    pub eval: bool,
    /// Completions.
    pub generate: bool,
    /// Classes of images.
    pub classify: bool,
    /// Distributions over the next byte.
    pub logprobs: bool,
    /// Quantiles of how a series goes on.
    pub forecast: bool,
    /// Answers mean something; false for engines that only pretend.
    pub honest: bool,
}

/// When two runs may be compared byte by byte (M11).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Determinism {
    /// Equal bytes between engines with this fingerprint.
    BitExact { fingerprint: Digest },
    /// Equal within a relative tolerance.
    Tolerance { relative: f64 },
    /// No promise.
    Opaque,
}

/// What an engine is and runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub name: &'static str,
    pub version: &'static str,
    pub device: String,
    /// The widest vector instructions in use.
    pub isa: &'static str,
    pub threads: usize,
    /// Bytes of models that still fit.
    pub memory_free: u64,
    /// Hash of name, version, backend and instruction class.
    pub fingerprint: Digest,
}

/// Why an engine did not do what was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    #[error("the {engine} engine cannot {what}")]
    Unsupported { engine: &'static str, what: &'static str },
    #[error("model {0} is not loaded")]
    UnknownModel(Handle),
    #[error("a model of architecture {architecture} does not answer {query} queries")]
    Mismatch { architecture: &'static str, query: &'static str },
    #[error(transparent)]
    Query(#[from] BoundsError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("{0}")]
    Job(String),
    #[error("{needed} bytes are needed, {free} of the model memory are free")]
    Memory { needed: u64, free: u64 },
    #[error("stopped after {steps} steps")]
    Stopped { steps: u64 },
    #[error("the loss is no number at step {step}; the job ends here")]
    Diverged { step: u64 },
    #[error("the device failed: {0}")]
    Device(String),
    /// The server behind an upstream engine.
    #[error("{0}")]
    Upstream(String),
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub step: u64,
    pub steps: u64,
    /// Mean of the last few steps.
    pub loss: f32,
}

/// The caller's hand on a running job, looked at in every step.
///
/// There is no clock here: `should_stop` compares whatever the caller wishes (a flag, a deadline) and says so.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    pub should_stop: &'a (dyn Fn() -> bool + Sync),
    /// Steps (training) or bytes (completion) after which the job ends with what it has.
    pub steps_max: u64,
    /// Told of progress now and then.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl Control<'static> {
    /// Runs to its own end and tells nobody.
    pub const FREE: Self = Self { should_stop: &|| false, steps_max: u64::MAX, progress: &|_| {} };
}

impl<'a> Control<'a> {
    /// Runs until told to stop.
    pub fn until(should_stop: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { should_stop, ..Control::FREE }
    }

    /// # Errors
    /// The caller wants the job to end now.
    pub fn go_on(&self, steps: u64) -> Result<(), EngineError> {
        if (self.should_stop)() { Err(EngineError::Stopped { steps }) } else { Ok(()) }
    }
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("steps_max", &self.steps_max).finish_non_exhaustive()
    }
}

/// Takes the pieces of a completion as they come; false ends it early with what there is.
pub type Sink<'a> = dyn FnMut(&[u8]) -> bool + Send + 'a;

/// A sink that keeps nothing.
pub fn no_sink(_: &[u8]) -> bool {
    true
}

/// What training gives.
#[derive(Clone, Debug)]
pub struct Trained {
    pub artifact: Artifact,
    /// Loss of each step.
    pub losses: Vec<f32>,
}

/// Questions with known answers.
#[derive(Clone, Debug)]
pub enum EvalJob {
    Images {
        images: ndarray::Array2<u8>,
        labels: Vec<u8>,
    },
    /// Each context with the byte that follows it.
    Bytes {
        contexts: Vec<Vec<u8>>,
        next: Vec<u8>,
    },
    /// Each a history and what followed it, as many values as the training windows have.
    Series {
        windows: Vec<Vec<f64>>,
    },
}

/// How a model did on an [`EvalJob`].
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// Mean cross-entropy in nats; of series the pinball loss against the seasonal difference.
    pub loss: f64,
    /// Share whose likeliest answer is the true one; of series, that lies between the outermost quantiles.
    pub accuracy: f64,
    /// Loss of each item.
    pub per_item: Vec<f32>,
}

/// What an inference gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    pub answer: Answer,
    pub usage: Usage,
}

/// One instance per worker thread; models are immutable once loaded.
pub trait Engine: Send + fmt::Debug {
    fn info(&self) -> Info;
    fn caps(&self) -> Caps;
    fn determinism(&self) -> Determinism;

    /// Makes a model ready to answer; loading what is loaded is free.
    ///
    /// # Errors
    /// The architecture is not run here, tensors do not fit it, or memory is short.
    fn load(&mut self, artifact: &Artifact) -> Result<Handle, EngineError>;

    /// Forgets a model; whether it was there.
    fn unload(&mut self, handle: Handle) -> bool;

    /// The weights of a loaded model.
    ///
    /// # Errors
    /// It is not loaded.
    fn export(&self, handle: Handle) -> Result<Artifact, EngineError>;

    /// Trains a new model from `start`, or from fresh weights drawn by the job's seed.
    ///
    /// # Errors
    /// Told to stop, no number for a loss, or data that do not fit the architecture.
    fn train(&mut self, start: Option<Handle>, job: &TrainJob, control: &Control<'_>) -> Result<Trained, EngineError>;

    /// # Errors
    /// Told to stop, or a job that does not fit the model.
    fn eval(&mut self, handle: Handle, job: &EvalJob, control: &Control<'_>) -> Result<Evaluated, EngineError>;

    /// Answers a query; pieces of a completion go to `sink` as they come.
    ///
    /// # Errors
    /// Told to stop, out of bounds, or a query that the model does not answer.
    fn infer(
        &mut self,
        handle: Handle,
        query: &Query,
        control: &Control<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Inferred, EngineError>;
}
