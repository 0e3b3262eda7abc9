//! What the models cost on this machine: a step of training, an answer, a byte of a completion.
//!
//! There is no clock here; the caller lends one in nanoseconds. What is timed is the engine's own work on one thread, as a
//! worker of the pool does it; `benches/pytorch.py` times the same shapes in PyTorch under the same names.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use crate::ml::engine::{Control, Engine, EngineError, no_sink};
use crate::ml::model::Architecture;
use crate::ml::model::layers::fresh;
use crate::ml::task::{self, MinerSpec, TaskError};
use crate::ml::train::TrainJob;
use crate::protocol::ids::hash;
use crate::protocol::query::{Answer, Query};

/// One measured figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub runs: usize,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// A time that never goes back, in nanoseconds.
pub type Clock<'a> = &'a (dyn Fn() -> u64 + Sync);

/// What is done with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// A step over so many samples.
    Train(usize),
    /// An answer to so many items.
    Infer(usize),
    /// A byte of a completion.
    Complete,
}

/// One measurement: its name, in words, the task whose data it is shown, the model, the work.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    task: &'static str,
    model: Architecture,
    work: Work,
}

const MLP: Architecture = Architecture::Mlp { hidden: 64 };
const CONV: Architecture = Architecture::Conv { channels: 16, hidden: 64 };
const BYTES: Architecture = Architecture::ByteMlp { context: 8, embedding: 32, hidden: 128 };
/// 0.92 M weights.
const GPT: Architecture = Architecture::ByteGpt { context: 128, embedding: 128, layers: 4, heads: 4 };
const GPT_BATCH: usize = 16;
const PATCHES: Architecture = Architecture::Patches { seasons: 6, embedding: 64, layers: 1, heads: 4 };

macro_rules! cases {
    ($($name:literal, $about:literal, $task:literal, $model:expr, $work:expr;)*) => {
        /// Everything that can be measured.
        pub const CASES: &[Case] =
            &[$(Case { name: $name, about: $about, task: $task, model: $model, work: $work },)*];
    };
}

cases! {
    "mlp_train_step", "a step of the digit classifier over 64 images", "vision", MLP, Work::Train(64);
    "mlp_infer_32", "32 images classified", "vision", MLP, Work::Infer(32);
    "mlp_infer_1", "one image classified", "vision", MLP, Work::Infer(1);
    "conv_train_step", "a step of the convolutional classifier over 64 images", "vision", CONV, Work::Train(64);
    "conv_infer_1", "one image classified by it", "vision", CONV, Work::Infer(1);
    "byte_mlp_train_step", "a step of the byte model over 256 contexts", "text", BYTES, Work::Train(256);
    "byte_mlp_infer_32", "32 distributions of the next byte", "text", BYTES, Work::Infer(32);
    "byte_mlp_infer_1", "one distribution of the next byte", "text", BYTES, Work::Infer(1);
    "byte_mlp_complete", "a byte of a completion", "text", BYTES, Work::Complete;
    "gpt_train_step", "a step of a transformer of 0.9 M weights over 16 windows of 128 bytes", "text", GPT, Work::Train(GPT_BATCH);
    "gpt_infer_1", "its distribution after 128 bytes", "text", GPT, Work::Infer(1);
    "patches_train_step", "a step of the forecaster over 64 windows", "forecast", PATCHES, Work::Train(64);
    "patches_infer_1", "one day forecast", "forecast", PATCHES, Work::Infer(1);
}

/// So long is measured, in nanoseconds, and so often at least and at most.
const LONG_ENOUGH: u64 = 2_000_000_000;
const RUNS_MIN: usize = 8;
const RUNS_MAX: usize = 400;
/// The first runs fill caches and pools and do not count.
const WARM: usize = 2;
/// Bytes of one measured completion.
const COMPLETION_BYTES: u32 = 256;

impl Case {
    /// Measures it.
    ///
    /// # Errors
    /// The engine's or the data's.
    pub fn run(&self, clock: Clock<'_>) -> Result<Figure, BenchError> {
        let task = task::open(self.task)?;
        let mut engine = CpuEngine::new(MEMORY_BYTES)?;
        match self.work {
            Work::Train(batch) => {
                let job = task.job(&MinerSpec::graded(self.task, 0, 1));
                let job = TrainJob { architecture: self.model, batch, steps: u64::MAX >> 1, ..job };
                train(&mut engine, &job, clock)
            }
            Work::Infer(items) => {
                let handle = engine.load(&fresh(self.model, 1).map_err(EngineError::from)?)?;
                let mut run = 0_u64;
                time(clock, "ms", || {
                    run += 1;
                    let challenge = task.challenge(hash("starling/1 bench", &[&run.to_le_bytes()]), items);
                    let begin = clock();
                    engine.infer(handle, &challenge.query, &Control::FREE, &mut no_sink)?;
                    Ok(since(clock, begin) / 1e6)
                })
            }
            Work::Complete => {
                let handle = engine.load(&fresh(self.model, 1).map_err(EngineError::from)?)?;
                let mut run = 0;
                time(clock, "us", || {
                    run += 1;
                    let prompt = b"The hacker ".to_vec();
                    let (max_bytes, temperature_milli, seed, stop) = (COMPLETION_BYTES, 800, run, vec![]);
                    let query = Query::Complete { prompt, max_bytes, temperature_milli, seed, stop };
                    let begin = clock();
                    let inferred = engine.infer(handle, &query, &Control::FREE, &mut no_sink)?;
                    let written = if let Answer::Text { bytes } = inferred.answer { bytes.len() } else { 0 };
                    Ok(since(clock, begin) / 1e3 / written.max(1) as f64)
                })
            }
        }
    }
}

/// How fast one worker of the CPU lane is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Speed {
    /// The widest vector instructions in use.
    pub isa: &'static str,
    pub parameters: u64,
    pub context_bytes: usize,
    /// Contexts read in a second, and trained on.
    pub contexts_s: f64,
    pub trained_s: f64,
}

/// Contexts of one measured call, and steps of the measured training.
const SPEED_ITEMS: usize = 64;
const SPEED_STEPS: u64 = 4;
const SPEED_RUNS: usize = 3;

/// Measures one worker with a fresh transformer, within a second or two.
///
/// # Errors
/// The engine's or the data's.
pub fn speed(clock: Clock<'_>) -> Result<Speed, BenchError> {
    let mut engine = CpuEngine::new(MEMORY_BYTES)?;
    let task = task::open("text")?;
    let job = task.job(&MinerSpec::graded("text", 0, 1));
    let job = TrainJob { architecture: GPT, batch: GPT_BATCH, steps: SPEED_STEPS, ..job };
    let begin = clock();
    let trained = engine.train(None, &job, &Control::FREE)?;
    let trained_s = SPEED_STEPS as f64 * job.batch as f64 / (since(clock, begin).max(1.0) / 1e9);
    let handle = engine.load(&trained.artifact)?;
    let challenge = task.challenge(hash("starling/1 bench", &[]), SPEED_ITEMS);
    let mut fastest = f64::INFINITY;
    for _ in 0..SPEED_RUNS {
        let begin = clock();
        engine.infer(handle, &challenge.query, &Control::FREE, &mut no_sink)?;
        fastest = fastest.min(since(clock, begin)).max(1.0);
    }
    let numbers = job.architecture.numbers();
    Ok(Speed {
        isa: engine.info().isa,
        parameters: job.architecture.weight_bytes() / 4,
        context_bytes: numbers.get("context").copied().unwrap_or(0),
        contexts_s: SPEED_ITEMS as f64 / (fastest / 1e9),
        trained_s,
    })
}

fn since(clock: Clock<'_>, begin: u64) -> f64 {
    clock().saturating_sub(begin) as f64
}

/// Whether this is enough.
fn done(runs: usize, spent: u64) -> bool {
    runs >= RUNS_MAX || (runs >= RUNS_MIN && spent >= LONG_ENOUGH)
}

/// A training asks before every step whether to stop: between two questions lies a step.
fn train(engine: &mut CpuEngine, job: &TrainJob, clock: Clock<'_>) -> Result<Figure, BenchError> {
    let asked = Mutex::new(Vec::new());
    let should_stop = || {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock();
        let first = *asked.get(WARM).unwrap_or(&now);
        asked.push(now);
        done(asked.len().saturating_sub(WARM + 1), now.saturating_sub(first))
    };
    match engine.train(None, job, &Control::until(&should_stop)) {
        Err(EngineError::Stopped { .. }) | Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let asked = asked.into_inner().unwrap_or_else(PoisonError::into_inner);
    let counted = asked.get(WARM..).unwrap_or_default();
    let steps = counted.iter().zip(counted.iter().skip(1)).map(|(a, b)| b.saturating_sub(*a) as f64 / 1e6);
    Ok(figure("ms", steps.collect()))
}

/// Runs until it is enough.
fn time(
    clock: Clock<'_>,
    unit: &'static str,
    mut work: impl FnMut() -> Result<f64, EngineError>,
) -> Result<Figure, BenchError> {
    for _ in 0..WARM {
        work()?;
    }
    let (begin, mut values) = (clock(), Vec::new());
    while !done(values.len(), clock().saturating_sub(begin)) {
        values.push(work()?);
    }
    Ok(figure(unit, values))
}

fn figure(unit: &'static str, mut values: Vec<f64>) -> Figure {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
    let runs = values.len();
    Figure { unit, median: at(runs / 2), min: at(0), max: at(runs.saturating_sub(1)), runs }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Every look at the clock costs a millisecond: enough after so many looks, whatever the machine.
    #[test]
    fn every_case_counts_the_lent_clock() {
        for case in CASES {
            let ticks = AtomicU64::new(0);
            let clock = || ticks.fetch_add(LONG_ENOUGH / 4, Ordering::Relaxed);
            let figure = case.run(&clock).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            assert!(figure.runs >= RUNS_MIN, "{}: {figure:?}", case.name);
            assert!(figure.min > 0.0 && figure.min <= figure.median && figure.median <= figure.max, "{figure:?}");
            let per_look = LONG_ENOUGH as f64 / 4.0 / 1e6;
            if matches!(case.work, Work::Train(_) | Work::Infer(_)) {
                assert!((figure.median - per_look).abs() < 1e-6, "{}: {figure:?}", case.name);
            }
        }
    }

    #[test]
    fn one_workers_speed_counts_the_lent_clock() {
        let ticks = AtomicU64::new(0);
        let clock = || ticks.fetch_add(1_000_000_000, Ordering::Relaxed);
        let speed = speed(&clock).unwrap();
        assert!((speed.contexts_s - SPEED_ITEMS as f64).abs() < 1e-9, "{speed:?}");
        assert!(speed.trained_s > 0.0 && speed.parameters > 10_000 && speed.context_bytes > 0, "{speed:?}");
    }
}
