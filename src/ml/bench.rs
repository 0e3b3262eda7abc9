//! What the models cost on this machine: training, answering, completing.
//!
//! There is no clock here; the caller lends one in nanoseconds. Every figure is the median of its runs with the largest
//! beside it, after one run that is not counted.

use crate::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use crate::ml::engine::{Control, Engine, EngineError, Handle, no_sink};
use crate::ml::model::Kind;
use crate::ml::task::{self, MinerSpec, Task, TaskError};
use crate::protocol::ids::hash;
use crate::protocol::query::{Answer, Query};

/// One measured figure.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub median: f64,
    pub worst: f64,
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

/// Items of one measured query.
const ITEMS: usize = 32;
/// Bytes of one measured completion.
const COMPLETION_BYTES: u32 = 256;

/// A kind of model and the names of its figures.
struct Row {
    task: &'static str,
    /// `None`: the task's own.
    model: Option<Kind>,
    train: &'static str,
    infer: &'static str,
    single: &'static str,
}

const fn row(task: &'static str, model: Option<Kind>, [train, infer, single]: [&'static str; 3]) -> Row {
    Row { task, model, train, infer, single }
}

const ROWS: [Row; 6] = [
    row("vision", None, ["vision_train_step", "vision_infer_32", "vision_infer_1"]),
    row("vision", Some(Kind::Conv), ["conv_train_step", "conv_infer_32", "conv_infer_1"]),
    row("text", None, ["text_train_step", "text_infer_32", "text_infer_1"]),
    row("text", Some(Kind::ByteGpt), ["byte_gpt_train_step", "byte_gpt_infer_32", "byte_gpt_infer_1"]),
    row("forecast", Some(Kind::Linear), ["linear_train_step", "linear_infer_32", "linear_infer_1"]),
    row("forecast", Some(Kind::Patches), ["patches_train_step", "patches_infer_32", "patches_infer_1"]),
];

/// Measures everything with models trained for `steps` steps.
///
/// # Errors
/// The engine's or the data's.
pub fn measure(clock: &dyn Fn() -> u64, steps: u64, runs: usize) -> Result<Vec<Figure>, BenchError> {
    let mut engine = CpuEngine::new(MEMORY_BYTES)?;
    let mut figures = Vec::new();
    for Row { task: name, model, train, infer, single } in ROWS {
        let task = task::open(name)?;
        let spec = MinerSpec { model, steps: steps.max(1), ..MinerSpec::graded(name, 0, 1) };
        let job = task.job(&spec);
        let begin = clock();
        let trained = engine.train(None, &job, &Control::FREE)?;
        let step = spread(clock, begin) / spec.steps as f64 / 1e6;
        figures.push(Figure { name: train, unit: "ms", median: step, worst: step, runs: 1 });
        let handle = engine.load(&trained.artifact)?;
        for (name, items) in [(infer, ITEMS), (single, 1)] {
            let times = answers(clock, &mut engine, task.as_ref(), handle, items, runs)?;
            figures.push(figure(name, "ms", times.into_iter().map(|ns| ns / 1e6).collect()));
        }
        if model.is_none() && name == "text" {
            let rates = completions(clock, &mut engine, handle, runs)?;
            figures.push(figure("text_complete_byte", "us", rates.into_iter().map(|ns| ns / 1e3).collect()));
        }
    }
    Ok(figures)
}

fn spread(clock: &dyn Fn() -> u64, begin: u64) -> f64 {
    clock().saturating_sub(begin) as f64
}

/// Nanoseconds of each run.
fn answers(
    clock: &dyn Fn() -> u64,
    engine: &mut dyn Engine,
    task: &dyn Task,
    handle: Handle,
    items: usize,
    runs: usize,
) -> Result<Vec<f64>, EngineError> {
    let mut times = Vec::new();
    for run in 0..=runs {
        let challenge = task.challenge(hash("starling/1 bench", &[&run.to_le_bytes()]), items);
        let begin = clock();
        engine.infer(handle, &challenge.query, &Control::FREE, &mut no_sink)?;
        times.push(spread(clock, begin));
    }
    Ok(times.split_off(1))
}

/// Nanoseconds per byte of each run.
fn completions(
    clock: &dyn Fn() -> u64,
    engine: &mut dyn Engine,
    handle: Handle,
    runs: usize,
) -> Result<Vec<f64>, EngineError> {
    let mut times = Vec::new();
    for seed in 0..=runs {
        let prompt = b"The hacker ".to_vec();
        let (max_bytes, temperature_milli, seed, stop) = (COMPLETION_BYTES, 800, seed as u64, vec![]);
        let query = Query::Complete { prompt, max_bytes, temperature_milli, seed, stop };
        let begin = clock();
        let inferred = engine.infer(handle, &query, &Control::FREE, &mut no_sink)?;
        let written = if let Answer::Text { bytes } = inferred.answer { bytes.len() } else { 0 };
        times.push(spread(clock, begin) / written.max(1) as f64);
    }
    Ok(times.split_off(1))
}

fn figure(name: &'static str, unit: &'static str, mut values: Vec<f64>) -> Figure {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or(0.0);
    let worst = values.last().copied().unwrap_or(0.0);
    Figure { name, unit, median, worst, runs: values.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn every_figure_is_there_and_counts_the_lent_clock() {
        let ticks = Cell::new(0);
        let clock = || {
            ticks.set(ticks.get() + 1_000_000);
            ticks.get()
        };
        let figures = measure(&clock, 1, 3).unwrap();
        let names: Vec<_> = figures.iter().map(|f| f.name).collect();
        let mut expected: Vec<_> = ROWS.iter().flat_map(|r| [r.train, r.infer, r.single]).collect();
        expected.insert(9, "text_complete_byte");
        assert_eq!(names, expected);
        assert!(figures.iter().filter(|f| f.unit == "ms").all(|f| (f.median - 1.0).abs() < 1e-9));
        assert_eq!(figures[1].runs, 3);
    }
}
