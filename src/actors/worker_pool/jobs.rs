//! Jobs, and what comes of them: the words between the pool and those who ask it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, watch};

use super::lanes::{BatchKey, Class};
use crate::ml::engine::{EngineError, Handle, Inferred, Progress};
use crate::ml::mark::Mark;
use crate::ml::model::Artifact;
use crate::ml::task::{self, MinerSpec, Quality, Task};
use crate::protocol::query::{Answer, Query};

/// What kind of engine works in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The CPU engine, always there.
    Cpu,
    /// Answers by chance: what a worthless miner of a development network serves.
    Random,
    /// Answers by heart: what a miner of a development network serves that has learnt the held-out data.
    Memory,
    /// Servers elsewhere that speak the OpenAI API: its workers wait for them, and use no processor here.
    Upstream,
    /// A language model in this process (feature `llm`).
    Llm,
}

impl Lane {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Random => "random",
            Self::Memory => "memory",
            Self::Upstream => "upstream",
            Self::Llm => "llm",
        }
    }
}

/// The caller's way to end a job: a shared flag, looked at in every step of the work.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Cancels when dropped, so that no way out of a scope leaves work behind.
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// See [`Cancel::on_drop`].
#[derive(Debug)]
#[must_use = "cancels when dropped"]
pub struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What one miner said to a challenge.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    pub answer: Option<Answer>,
    /// The sixteenth of the deadline in which it came.
    pub arrival: u8,
}

/// Work for one worker.
#[derive(Debug)]
pub enum Job {
    /// Answer a query. Pieces of a completion go to the channel as they come; while it is full they are joined, never
    /// lost, and when it is closed the completion ends early. The whole answer is in the reply either way.
    Infer { model: Handle, query: Query, pieces: Option<mpsc::Sender<Vec<u8>>> },
    /// Train a miner's model from fresh weights.
    Train { task: String, spec: MinerSpec, progress: Option<watch::Sender<Option<Progress>>> },
    /// Judge what was said to one challenge.
    Score { task: Arc<dyn Task>, challenge: Arc<task::Challenge>, answers: Vec<Given> },
    /// Run a published model, by its bytes, on all of these, and judge what it says sample by sample.
    Evaluate { task: Arc<dyn Task>, challenges: Arc<Vec<task::Challenge>>, model: Handle, bytes: Vec<u8> },
    /// What a loaded model is worth on its task's whole held-out set.
    Quality { task: String, model: Handle },
}

impl Job {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Infer { .. } | Self::Score { .. } => Class::Foreground,
            Self::Train { .. } | Self::Quality { .. } | Self::Evaluate { .. } => Class::Background,
        }
    }

    /// What may share one engine call: completions keep a call of their own, for their pieces come one by one.
    pub(super) fn batch(&self) -> Option<(BatchKey, usize)> {
        match self {
            Self::Infer { model, query, .. } if !matches!(query, Query::Complete { .. }) => {
                Some((BatchKey { model: *model, kind: query.kind() }, query.items()))
            }
            _ => None,
        }
    }

    pub(super) fn model(&self) -> Option<Handle> {
        match self {
            Self::Infer { model, .. } | Self::Quality { model, .. } => Some(*model),
            Self::Train { .. } | Self::Score { .. } | Self::Evaluate { .. } => None,
        }
    }
}

/// What came of a job.
#[derive(Clone, Debug)]
pub enum Done {
    Answered {
        inferred: Inferred,
        model: Handle,
        compute_ms: u64,
    },
    Trained {
        artifact: Arc<Artifact>,
        losses: Vec<f32>,
        compute_ms: u64,
    },
    /// In the order of the answers given.
    Scored(Vec<Mark>),
    Judged(Quality),
    /// An answer for each challenge, and a score of 2^32 - 1 for each sample of all of them.
    Evaluated {
        answers: Vec<Answer>,
        scores: Vec<u32>,
    },
}

/// Why nothing came of a job.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JobError {
    #[error("no worker and no place in the queue is free")]
    Busy,
    #[error("its time was up")]
    Late,
    #[error("it was cancelled")]
    Cancelled,
    #[error("this node has no {} lane", .0.name())]
    NoLane(Lane),
    #[error(transparent)]
    Engine(EngineError),
    #[error("{0}")]
    Task(String),
    #[error("the engine broke down; it has been replaced")]
    Failed,
}

impl JobError {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Cancelled => "cancelled",
            Self::NoLane(_) => "no_lane",
            Self::Engine(_) => "refused",
            Self::Task(_) => "task",
            Self::Failed => "failed",
        }
    }
}
