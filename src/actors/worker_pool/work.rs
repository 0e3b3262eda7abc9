//! What a worker's thread does with an order: one engine call for the jobs that share it, and a result for each.
//!
//! Blocking. An engine is made on its thread when the first order needs it, keeps the models it was given, and is told to
//! stop by the deadline or by the askers. Every job of an order gets exactly one result.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Cancel, Done, EngineMaker, Given, Job, JobError};
use crate::ml::batch;
use crate::ml::engine::{Control, Engine, EngineError, Handle, Inferred, Progress, no_sink};
use crate::ml::mark::{mark, whole};
use crate::ml::model::Artifact;
use crate::ml::task::{self, Challenge, MinerSpec, Task};
use crate::protocol::query::Query;

/// A job with its limits.
#[derive(Debug)]
pub(super) struct Work {
    pub job: Job,
    pub cancel: Cancel,
    pub due: Instant,
}

/// Work for one engine call.
#[derive(Debug)]
pub(super) struct Order {
    /// One job, or inferences of one model and kind.
    pub works: Vec<Work>,
    /// The model they need, when the node has it.
    pub artifact: Option<Arc<Artifact>>,
    /// Models the node has given up.
    pub stale: Vec<Handle>,
}

/// When the jobs of an order end early: all are cancelled, or the last deadline has passed.
struct Limits {
    cancels: Vec<Cancel>,
    due: Instant,
    /// The engine may look from a thread of its own, where the runtime's clock (a world's is virtual) is not at hand.
    runtime: Runtime,
}

impl Limits {
    fn cancelled(&self) -> bool {
        self.cancels.iter().all(Cancel::is_cancelled)
    }

    fn reached(&self) -> bool {
        let _clock = self.runtime.enter();
        self.cancelled() || Instant::now() >= self.due
    }

    fn judged<T>(&self, result: Result<T, EngineError>) -> Result<T, JobError> {
        result.map_err(|error| match error {
            EngineError::Stopped { .. } if self.cancelled() => JobError::Cancelled,
            EngineError::Stopped { .. } => JobError::Late,
            other => JobError::Engine(other),
        })
    }
}

/// An engine, or the promise of one, and what it has loaded.
#[derive(Debug)]
pub(super) struct Worker {
    make: Maker,
    engine: Option<Box<dyn Engine>>,
    loaded: BTreeSet<Handle>,
}

struct Maker(EngineMaker);

impl std::fmt::Debug for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Maker")
    }
}

impl Worker {
    pub fn new(make: &EngineMaker) -> Self {
        Self { make: Maker(Arc::clone(make)), engine: None, loaded: BTreeSet::new() }
    }

    pub fn loaded(&self) -> impl Iterator<Item = Handle> + '_ {
        self.loaded.iter().copied()
    }

    /// Runs an order; one result for each of its works, in their order.
    pub fn run(&mut self, order: Order) -> Vec<Result<Done, JobError>> {
        let Order { mut works, artifact, stale } = order;
        let Some(due) = works.iter().map(|work| work.due).max() else { return Vec::new() };
        let cancels = works.iter().map(|work| work.cancel.clone()).collect();
        let limits = Limits { cancels, due, runtime: Runtime::current() };
        let engine = self.engine.get_or_insert_with(|| (self.make.0)());
        for handle in stale {
            engine.unload(handle);
            self.loaded.remove(&handle);
        }
        if let Some(artifact) = artifact
            && let Some(model) = works.first().and_then(|work| work.job.model())
            && let Err(error) = load(engine.as_mut(), &mut self.loaded, model, &artifact)
        {
            return works.iter().map(|_| Err(JobError::Engine(error.clone()))).collect();
        }
        let engine = engine.as_mut();
        if works.len() > 1 {
            return infer_together(engine, works, &limits);
        }
        if let Some(Work { job: Job::Evaluate { model, .. }, .. }) = works.first() {
            // It is unloaded when it is judged, also where it was here before.
            self.loaded.remove(model);
        }
        works.pop().map(|work| run_one(engine, work.job, &limits)).into_iter().collect()
    }
}

/// Makes room when the engine's memory is short: everything else goes.
fn load(
    engine: &mut dyn Engine,
    loaded: &mut BTreeSet<Handle>,
    model: Handle,
    artifact: &Artifact,
) -> Result<(), EngineError> {
    // An engine that only pretends looks at no weights.
    if loaded.contains(&model) || !engine.caps().honest {
        return Ok(());
    }
    let mut result = engine.load(artifact);
    if matches!(result, Err(EngineError::Memory { .. })) && !loaded.is_empty() {
        for other in std::mem::take(loaded) {
            engine.unload(other);
        }
        result = engine.load(artifact);
    }
    result.map(|handle| {
        loaded.insert(handle);
    })
}

fn run_one(engine: &mut dyn Engine, job: Job, limits: &Limits) -> Result<Done, JobError> {
    match job {
        Job::Infer { model, query, pieces } => infer(engine, model, &query, pieces, limits),
        Job::Train { task, spec, progress } => train(engine, &task, &spec, progress.as_ref(), limits),
        Job::Score { task, challenge, answers } => score(task.as_ref(), &challenge, &answers, limits),
        Job::Evaluate { task, challenges, model, bytes } => {
            evaluate(engine, task.as_ref(), &challenges, (model, &bytes), limits)
        }
        Job::Quality { task, model } => {
            let task = task::open(&task).map_err(|error| JobError::Task(error.to_string()))?;
            let should_stop = || limits.reached();
            limits.judged(task.true_quality(engine, model, &Control::until(&should_stop))).map(Done::Judged)
        }
    }
}

/// Milliseconds since; on the runtime's clock.
fn ms_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Hands pieces on without ever waiting: what the channel does not take yet goes with the next.
struct Pieces {
    to: mpsc::Sender<Vec<u8>>,
    kept: Vec<u8>,
}

impl Pieces {
    /// False when nobody listens any more.
    fn push(&mut self, piece: &[u8]) -> bool {
        self.kept.extend_from_slice(piece);
        match self.to.try_send(std::mem::take(&mut self.kept)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(kept)) => {
                self.kept = kept;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

fn infer(
    engine: &mut dyn Engine,
    model: Handle,
    query: &Query,
    pieces: Option<mpsc::Sender<Vec<u8>>>,
    limits: &Limits,
) -> Result<Done, JobError> {
    let start = Instant::now();
    let should_stop = || limits.reached();
    let control = Control::until(&should_stop);
    let inferred = match pieces {
        None => engine.infer(model, query, &control, &mut no_sink),
        Some(to) => {
            let mut pieces = Pieces { to, kept: Vec::new() };
            engine.infer(model, query, &control, &mut |piece| pieces.push(piece))
        }
    };
    limits.judged(inferred).map(|inferred| Done::Answered { inferred, model, compute_ms: ms_since(start) })
}

/// One call for all; each its own when the call fails, so that nobody pays for another's query.
fn infer_together(engine: &mut dyn Engine, works: Vec<Work>, limits: &Limits) -> Vec<Result<Done, JobError>> {
    let start = Instant::now();
    let asked: Vec<(Handle, Query)> = works
        .iter()
        .filter_map(|work| match &work.job {
            Job::Infer { model, query, .. } => Some((*model, query.clone())),
            _ => None,
        })
        .collect();
    let should_stop = || limits.reached();
    let control = Control::until(&should_stop);
    let mut results: Vec<Option<Inferred>> = works.iter().map(|_| None).collect();
    if let Some((model, _)) = asked.first() {
        for batch in batch::merge(asked.iter().map(|(_, query)| query.clone())) {
            let split = engine.infer(*model, &batch.query, &control, &mut no_sink).and_then(|all| batch.split(all));
            for (index, inferred) in split.unwrap_or_default() {
                if let Some(place) = results.get_mut(index) {
                    *place = Some(inferred);
                }
            }
        }
    }
    let compute_ms = ms_since(start);
    let runtime = &limits.runtime;
    works
        .into_iter()
        .zip(results)
        .map(|(work, inferred)| match (work.job, inferred) {
            (Job::Infer { model, .. }, Some(inferred)) => Ok(Done::Answered { inferred, model, compute_ms }),
            (job, _) => {
                let limits = Limits { cancels: vec![work.cancel], due: work.due, runtime: runtime.clone() };
                run_one(engine, job, &limits)
            }
        })
        .collect()
}

fn train(
    engine: &mut dyn Engine,
    task: &str,
    spec: &MinerSpec,
    progress: Option<&watch::Sender<Option<Progress>>>,
    limits: &Limits,
) -> Result<Done, JobError> {
    let start = Instant::now();
    let task = task::open(task).map_err(|error| JobError::Task(error.to_string()))?;
    let should_stop = || limits.reached();
    let tell = |step: Progress| {
        if let Some(progress) = progress {
            progress.send_replace(Some(step));
        }
    };
    let control = Control { progress: &tell, ..Control::until(&should_stop) };
    let trained = limits.judged(engine.train(None, &task.job(&spec.bounded()), &control))?;
    let artifact = Arc::new(trained.artifact);
    Ok(Done::Trained { artifact, losses: trained.losses, compute_ms: ms_since(start) })
}

/// Foreign weights: read as tensors and nothing else, refused when they are not what their name says (M14), and gone again
/// when the challenges are answered.
fn evaluate(
    engine: &mut dyn Engine,
    task: &dyn Task,
    challenges: &[Challenge],
    (model, bytes): (Handle, &[u8]),
    limits: &Limits,
) -> Result<Done, JobError> {
    let artifact = Artifact::from_bytes(bytes).map_err(|error| JobError::Task(error.to_string()))?;
    if artifact.id() != model {
        return Err(JobError::Task(format!("the bytes are model {}, not {model}", artifact.id())));
    }
    let handle = engine.load(&artifact).map_err(JobError::Engine)?;
    let should_stop = || limits.reached();
    let control = Control::until(&should_stop);
    let (mut answers, mut scores) = (Vec::with_capacity(challenges.len()), Vec::new());
    for challenge in challenges {
        let inferred = limits.judged(engine.infer(handle, &challenge.query, &control, &mut no_sink));
        let Ok(Inferred { answer, .. }) = inferred else {
            engine.unload(handle);
            return inferred.map(|_| Done::Scored(Vec::new()));
        };
        scores.extend(task.score(challenge, Some(&answer), 0, 1).scores.into_iter().map(whole));
        answers.push(answer);
    }
    engine.unload(handle);
    Ok(Done::Evaluated { answers, scores })
}

fn score(task: &dyn Task, challenge: &Challenge, answers: &[Given], limits: &Limits) -> Result<Done, JobError> {
    let mut scores = Vec::with_capacity(answers.len());
    for given in answers {
        if limits.reached() {
            return limits.judged(Err(EngineError::Stopped { steps: scores.len() as u64 }));
        }
        scores.push(mark(task, challenge, given.answer.as_ref(), given.arrival));
    }
    Ok(Done::Scored(scores))
}
