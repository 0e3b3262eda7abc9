//! What the pool and its mail cost beside the engine itself, for `starling bench`.
//!
//! The same query goes to an engine of its own and through the pool's actor, in turns, so that a busy machine slows both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::System;

use crate::actors::mail::{ask, mailbox, start, to};
use crate::actors::worker_pool::{self, Cancel, EngineMaker, Job, Lane, LaneParams, LoadModel, RunJob, WorkerPool};
use crate::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use crate::ml::engine::random::RandomEngine;
use crate::ml::engine::{Control, Engine, EngineError, no_sink};
use crate::ml::model::{Kind, layers::fresh};
use crate::ml::task::{self, MinerSpec};
use crate::protocol::ids::hash;
use crate::protocol::query::Query;

/// What can be measured: name, what it is, contexts of one query.
pub const BENCHES: &[(&str, &str, usize)] = &[
    ("serving_1", "one context through the pool of workers; baseline: the bare engine", 1),
    ("serving_8", "a query of eight contexts, likewise", 8),
];
/// Milliseconds of a query through the pool, and of the same one at the bare engine.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pub name: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub bare_median: f64,
    pub runs: usize,
}

/// Turns that count.
const RUNS: usize = 201;
const WARM: usize = 20;
const DEADLINE: Duration = Duration::from_secs(60);
const DEADLINE_MS: u64 = 60_000;

/// Measures what has this name; `None` when it is none of ours.
///
/// # Errors
/// The engine's, in words.
pub fn run(name: &str) -> Option<Result<Served, String>> {
    let &(name, _, items) = BENCHES.iter().find(|bench| bench.0 == name)?;
    Some(System::new().block_on(measure(name, items)))
}

async fn measure(name: &'static str, items: usize) -> Result<Served, String> {
    let words = |error: EngineError| error.to_string();
    let task = task::open("text").map_err(|error| error.to_string())?;
    let job = task.job(&MinerSpec { model: Some(Kind::ByteGpt), ..MinerSpec::graded("text", 0, 1) });
    let artifact = Arc::new(fresh(job.architecture, 1).map_err(|error| error.to_string())?);
    let mut bare = CpuEngine::new(MEMORY_BYTES).map_err(words)?;
    let handle = bare.load(&artifact).map_err(words)?;

    let (address, inbox) = mailbox::<WorkerPool>(worker_pool::MAILBOX);
    let engine: EngineMaker = Arc::new(|| match CpuEngine::new(MEMORY_BYTES) {
        Ok(engine) => Box::new(engine),
        Err(_) => Box::new(RandomEngine::new(0)),
    });
    let lane = LaneParams { lane: Lane::Cpu, workers: 1, waiting_max: 4, engine };
    start(WorkerPool::new(worker_pool::Params { lanes: vec![lane], model_bytes_max: MEMORY_BYTES }), inbox);
    let loaded = ask(&to(&address), LoadModel { artifact }, DEADLINE).await.map_err(|error| error.to_string())?;
    loaded.map_err(|error| error.to_string())?;
    let run_job = to(&address);

    let (mut direct, mut pooled) = (Vec::new(), Vec::new());
    for turn in 0..WARM + RUNS {
        let query: Query = task.challenge(hash("starling/1 bench", &[&turn.to_le_bytes()]), items).query;
        // Whoever comes second finds the model in the caches: they take turns at that too.
        for second in [false, true] {
            if second == turn.is_multiple_of(2) {
                let began = Instant::now();
                bare.infer(handle, &query, &Control::FREE, &mut no_sink).map_err(words)?;
                direct.push(began.elapsed().as_secs_f64() * 1e3);
                continue;
            }
            let job = Job::Infer { model: handle, query: query.clone(), pieces: None };
            let message = RunJob { job, lane: Lane::Cpu, deadline_ms: DEADLINE_MS, cancel: Cancel::new() };
            let began = Instant::now();
            let done = ask(&run_job, message, DEADLINE).await.map_err(|error| error.to_string())?;
            pooled.push(began.elapsed().as_secs_f64() * 1e3);
            done.map_err(|error| error.to_string())?;
        }
    }
    let (mut direct, mut pooled) = (direct.split_off(WARM), pooled.split_off(WARM));
    let middle = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let (bare_median, median) = (middle(&mut direct), middle(&mut pooled));
    let end = |value: Option<&f64>| value.copied().unwrap_or_default();
    Ok(Served { name, median, min: end(pooled.first()), max: end(pooled.last()), bare_median, runs: RUNS })
}
