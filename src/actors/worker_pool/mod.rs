//! Local work off the actor threads: a lane per device, a bounded queue before each, one engine per worker.
//!
//! Owns the engines and the models they answer with. A job that finds its queue full is refused at once, one that is past
//! its deadline is never begun, and one that runs is told to stop by its deadline or its [`Cancel`]. Queries and scoring
//! go before training, which never takes the last free worker of a lane that has more than one. Sends to nobody.
//!
//! Invariants: every job gets exactly one reply; an engine is either idle here or inside exactly one running order; a
//! panic in an engine costs its jobs and that engine, and the next order makes a fresh one.

mod lanes;
mod models;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinError;
use tokio::time::Instant;

use self::lanes::{BatchKey, Class, Fate, LaneQueue, Waiting};
use self::models::ModelStore;
use self::work::{Order, Piece, Worker};
use super::mail::heard;
use crate::ml::engine::{Engine, EngineError, Handle, Inferred, Progress};
use crate::ml::model::Artifact;
use crate::ml::task::{self, MinerSpec, Quality, SampleScores, Task};
use crate::protocol::query::{Answer, Query};

pub use self::models::TooLarge;

/// What kind of engine works in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The CPU engine, always there.
    Cpu,
    /// Answers by chance: what a worthless miner of a development network serves.
    Random,
}

impl Lane {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Random => "random",
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
    pub latency_ms: u64,
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
    Score { task: Arc<dyn Task>, challenge: Arc<task::Challenge>, answers: Vec<Given>, deadline_ms: u64 },
    /// What a loaded model is worth on its task's whole held-out set.
    Quality { task: String, model: Handle },
}

impl Job {
    fn class(&self) -> Class {
        match self {
            Self::Infer { .. } | Self::Score { .. } => Class::Foreground,
            Self::Train { .. } | Self::Quality { .. } => Class::Background,
        }
    }

    /// What may share one engine call: completions keep a call of their own, for their pieces come one by one.
    fn batch(&self) -> Option<(BatchKey, usize)> {
        match self {
            Self::Infer { model, query, .. } if !matches!(query, Query::Complete { .. }) => {
                Some((BatchKey { model: *model, kind: query.kind() }, query.items()))
            }
            _ => None,
        }
    }

    fn model(&self) -> Option<Handle> {
        match self {
            Self::Infer { model, .. } | Self::Quality { model, .. } => Some(*model),
            Self::Train { .. } | Self::Score { .. } => None,
        }
    }
}

/// What came of a job.
#[derive(Clone, Debug)]
pub enum Done {
    Answered { inferred: Inferred, model: Handle, compute_ms: u64 },
    Trained { artifact: Arc<Artifact>, losses: Vec<f32>, compute_ms: u64 },
    /// In the order of the answers given.
    Scored(Vec<SampleScores>),
    Judged(Quality),
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
    fn name(&self) -> &'static str {
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

/// From query_dispatcher and scorer: do this, within `deadline_ms` from now. The reply comes when it is done, refused or
/// out of time. When the mailbox is full the asker waits, at most for its own deadline.
#[derive(Debug)]
pub struct RunJob {
    pub job: Job,
    pub lane: Lane,
    pub deadline_ms: u64,
    pub cancel: Cancel,
}

/// From node.rs: keep this model ready, under the handle replied. The least recently used make room for it.
#[derive(Clone, Debug)]
pub struct LoadModel {
    pub artifact: Arc<Artifact>,
}

/// From node.rs: how busy the pool is.
#[derive(Clone, Copy, Debug)]
pub struct ReadPool;

/// Reply to [`ReadPool`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    pub lanes: Vec<LaneStatus>,
    pub models: Vec<Handle>,
    pub model_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    pub lane: Lane,
    pub workers: usize,
    pub free: usize,
    pub training: usize,
    pub waiting: usize,
    /// Jobs that gave a result.
    pub done: u64,
    /// Jobs that did not, for whatever reason.
    pub undone: u64,
}

heard! { "worker_pool":
    RunJob => Result<Done, JobError>,
    LoadModel => Result<Handle, TooLarge>,
    ReadPool => PoolStatus,
}

/// Makes an engine, on the worker's own thread when its first order comes.
pub type EngineMaker = Arc<dyn Fn() -> Box<dyn Engine> + Send + Sync>;

/// One lane, as configured.
#[derive(Clone)]
pub struct LaneParams {
    pub lane: Lane,
    /// At least 1.
    pub workers: usize,
    /// Jobs that may wait beside those that run; when as many do, the next is refused.
    pub waiting_max: usize,
    pub engine: EngineMaker,
}

impl fmt::Debug for LaneParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneParams").field("lane", &self.lane).field("workers", &self.workers).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub struct Params {
    pub lanes: Vec<LaneParams>,
    /// Bytes of weights kept; a model over it is refused.
    pub model_bytes_max: u64,
}
