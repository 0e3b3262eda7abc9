//! Local work off the actor threads: a lane per device, a bounded queue before each, one engine per worker.
//!
//! Owns the engines and the models they answer with. A job that finds its queue full is refused at once, one that is past
//! its deadline is never begun, and one that runs is told to stop by its deadline or its [`Cancel`]. Queries and scoring
//! go before training, which never takes the last free worker of a lane that has more than one. Sends to nobody.
//!
//! Invariants: every job gets exactly one reply; an engine is either idle here or inside exactly one running order; a
//! panic in an engine costs its jobs and that engine, and the next order makes a fresh one.

mod jobs;
mod lanes;
mod models;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio::time::Instant;

pub use self::jobs::{Cancel, CancelOnDrop, Done, Given, Job, JobError, Lane};
use self::lanes::{Class, Fate, LaneQueue, Waiting};
pub use self::models::LoadError;
use self::models::ModelStore;
use self::work::{Order, Work, Worker};
use super::mail::heard;
use crate::ml::engine::{Engine, Handle};
use crate::ml::model::Artifact;

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
    LoadModel => Result<Handle, LoadError>,
    ReadPool => PoolStatus,
}
super::mail::stops! { WorkerPool }

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

/// The longest a job may be given: a day.
const DEADLINE_MS_MAX: u64 = 86_400_000;

type Reply = Result<Done, JobError>;

/// A job that waits, with its asker.
#[derive(Debug)]
struct Pending {
    work: Work,
    reply: oneshot::Sender<Reply>,
    since: Instant,
}

/// A job's asker while a worker has the job: stays here, so that a panic over there leaves nobody without a reply.
struct Asker {
    reply: oneshot::Sender<Reply>,
    since: Instant,
}

/// A lane at work.
struct Station {
    params: LaneParams,
    queue: LaneQueue<Pending>,
    /// Engines of the free workers; the queue counts the rest.
    idle: Vec<Worker>,
    done: u64,
    undone: u64,
}

impl Station {
    fn new(params: LaneParams) -> Self {
        let queue = LaneQueue::new(params.workers, params.waiting_max);
        let idle = (0..queue.workers()).map(|_| Worker::new(&params.engine)).collect();
        Self { params, queue, idle, done: 0, undone: 0 }
    }

    /// The one place where a job ends.
    fn settle(&mut self, asker: Asker, result: Reply) {
        let device = self.params.lane.name();
        let outcome = match &result {
            Ok(_) => "done",
            Err(error) => error.name(),
        };
        let count = if result.is_ok() { &mut self.done } else { &mut self.undone };
        *count += 1;
        metrics::counter!("starling_pool_jobs_total", "device" => device, "outcome" => outcome).increment(1);
        metrics::histogram!("starling_pool_job_seconds", "device" => device)
            .record(asker.since.elapsed().as_secs_f64());
        // An asker that has gone needs no reply.
        let _ = asker.reply.send(result);
    }

    fn gauge(&self) {
        let device = self.params.lane.name();
        let busy = self.queue.workers() - self.queue.free();
        metrics::gauge!("starling_pool_waiting_jobs", "device" => device).set(count(self.queue.waiting()));
        metrics::gauge!("starling_pool_busy_workers", "device" => device).set(count(busy));
    }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// The actor.
pub struct WorkerPool {
    origin: Instant,
    stations: BTreeMap<Lane, Station>,
    models: ModelStore,
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool").field("models", &self.models).finish_non_exhaustive()
    }
}

/// Messages that may wait in the mailbox.
pub const MAILBOX: usize = 256;

impl WorkerPool {
    pub fn new(params: Params) -> Self {
        let stations = params.lanes.into_iter().map(|lane| (lane.lane, Station::new(lane))).collect();
        Self { origin: Instant::now(), stations, models: ModelStore::new(params.model_bytes_max) }
    }

    fn ms(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }

    fn admit(&mut self, pending: Pending, lane: Lane) {
        let due_ms = self.ms(pending.work.due);
        let now_ms = self.ms(Instant::now());
        let Some(station) = self.stations.get_mut(&lane) else {
            let _ = pending.reply.send(Err(JobError::NoLane(lane)));
            return;
        };
        // What need not run any more makes room for what should.
        Self::sweep(station, now_ms);
        let (class, batch) = (pending.work.job.class(), pending.work.job.batch());
        if let Err(refused) = station.queue.offer(Waiting { class, batch, due_ms, job: pending }) {
            let Pending { reply, since, .. } = refused.job;
            station.settle(Asker { reply, since }, Err(JobError::Busy));
        }
    }

    fn sweep(station: &mut Station, now_ms: u64) {
        for (pending, fate) in station.queue.sweep(now_ms, |pending| pending.work.cancel.is_cancelled()) {
            let error = match fate {
                Fate::Late => JobError::Late,
                Fate::Cancelled => JobError::Cancelled,
            };
            let Pending { reply, since, .. } = pending;
            station.settle(Asker { reply, since }, Err(error));
        }
    }

    /// Gives work to the free workers of a lane.
    fn pump(&mut self, lane: Lane, context: &mut Context<Self>) {
        let now_ms = self.ms(Instant::now());
        let Some(station) = self.stations.get_mut(&lane) else { return };
        Self::sweep(station, now_ms);
        while let Some((class, pending)) = station.queue.start() {
            let mut worker = station.idle.pop().unwrap_or_else(|| Worker::new(&station.params.engine));
            let (works, askers): (Vec<Work>, Vec<Asker>) =
                pending.into_iter().map(|Pending { work, reply, since }| (work, Asker { reply, since })).unzip();
            let artifact = works.first().and_then(|work| work.job.model()).and_then(|model| self.models.want(&model));
            let stale = worker.loaded().filter(|handle| !self.models.contains(handle)).collect();
            let order = Order { works, artifact, stale };
            let run = tokio::task::spawn_blocking(move || {
                let results = worker.run(order);
                (worker, results)
            });
            // The result comes back as a future of this actor, not through its mailbox: no full mailbox can lose an engine.
            context.spawn(wrap_future::<_, Self>(run).map(move |back, actor, context| {
                actor.returned(lane, class, askers, back);
                actor.pump(lane, context);
            }));
        }
        station.gauge();
    }

    fn returned(
        &mut self,
        lane: Lane,
        class: Class,
        askers: Vec<Asker>,
        back: Result<(Worker, Vec<Reply>), JoinError>,
    ) {
        let Some(station) = self.stations.get_mut(&lane) else { return };
        station.queue.finish(class);
        let (worker, results) = back.unwrap_or_else(|error| {
            tracing::error!(lane = lane.name(), %error, "an engine broke down and is replaced");
            metrics::counter!("starling_pool_breakdowns_total", "device" => lane.name()).increment(1);
            (Worker::new(&station.params.engine), Vec::new())
        });
        station.idle.push(worker);
        let results = results.into_iter().chain(std::iter::repeat_with(|| Err(JobError::Failed)));
        for (asker, result) in askers.into_iter().zip(results) {
            station.settle(asker, result);
        }
    }
}

impl Actor for WorkerPool {
    type Context = Context<Self>;
}

impl Handler<RunJob> for WorkerPool {
    type Result = ResponseFuture<Reply>;

    fn handle(&mut self, message: RunJob, context: &mut Self::Context) -> Self::Result {
        let RunJob { job, lane, deadline_ms, cancel } = message;
        let since = Instant::now();
        let due = since + Duration::from_millis(deadline_ms.min(DEADLINE_MS_MAX));
        let (reply, done) = oneshot::channel();
        self.admit(Pending { work: Work { job, cancel, due }, reply, since }, lane);
        self.pump(lane, context);
        Box::pin(async move {
            match tokio::time::timeout_at(due, done).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(JobError::Failed),
                Err(_) => Err(JobError::Late),
            }
        })
    }
}

impl Handler<LoadModel> for WorkerPool {
    type Result = ResponseActFuture<Self, Result<Handle, LoadError>>;

    fn handle(&mut self, LoadModel { artifact }: LoadModel, _: &mut Self::Context) -> Self::Result {
        // Hashing a large model takes a while: not on this thread.
        let hashed = tokio::task::spawn_blocking(move || (artifact.id(), artifact));
        Box::pin(hashed.into_actor(self).map(|hashed, actor, _| {
            let (handle, artifact) = hashed.map_err(|_| LoadError::Failed)?;
            let gone = actor.models.insert(handle, artifact)?;
            if gone > 0 {
                metrics::counter!("starling_pool_models_evicted_total").increment(gone as u64);
            }
            Ok(handle)
        }))
    }
}

impl Handler<ReadPool> for WorkerPool {
    type Result = MessageResult<ReadPool>;

    fn handle(&mut self, _: ReadPool, _: &mut Self::Context) -> Self::Result {
        let lanes = self.stations.iter().map(|(lane, station)| LaneStatus {
            lane: *lane,
            workers: station.queue.workers(),
            free: station.queue.free(),
            training: station.queue.training(),
            waiting: station.queue.waiting(),
            done: station.done,
            undone: station.undone,
        });
        MessageResult(PoolStatus {
            lanes: lanes.collect(),
            models: self.models.handles().collect(),
            model_bytes: self.models.bytes(),
        })
    }
}

#[cfg(test)]
mod tests;
