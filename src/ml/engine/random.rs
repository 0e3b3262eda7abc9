//! An engine that answers at random and says so: what a miner without a model would send.
//!
//! Devnets run it to show that guessing does not pay. It loads and exports like any other, learns nothing, and its
//! answers follow from its seed and the query alone.

use std::collections::BTreeMap;

use super::complete::{Wish, complete};
use super::{
    Caps, Control, Determinism, Engine, EngineError, EvalJob, Evaluated, Handle, Inferred, Info, Sink, Trained,
};
use crate::ml::data::series::HISTORY;
use crate::ml::model::Artifact;
use crate::ml::model::frame::{Frame, SEASON};
use crate::ml::model::layers::unit;
use crate::ml::quantise::{from_micros, to_fixed, to_micros};
use crate::ml::train::TrainJob;
use crate::protocol::chance::Chance;
use crate::protocol::codec;
use crate::protocol::ids::hash;
use crate::protocol::query::{Answer, BYTE_VALUES, CLASSES, QUANTILES_MILLI, Query, Usage};

const NAME: &str = "random";
/// Models it keeps for `export`; none is ever looked at.
const MODELS_MAX: usize = 16;

/// Guesses.
#[derive(Debug)]
pub struct RandomEngine {
    seed: u64,
    models: BTreeMap<Handle, Artifact>,
}

impl RandomEngine {
    pub fn new(seed: u64) -> Self {
        Self { seed, models: BTreeMap::new() }
    }
}

/// A random distribution: exponential variables are one once they are divided by their sum.
fn row(chance: &mut Chance, width: usize) -> Vec<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "a probability, as every engine gives it")]
    let drawn: Vec<f32> = (0..width).map(|_| -(1.0 - unit(chance)).ln() as f32).collect();
    let sum: f32 = drawn.iter().sum();
    drawn.into_iter().map(|v| v / sum.max(f32::MIN_POSITIVE)).collect()
}

/// Somewhere between the least and the most that was seen.
fn quantiles(chance: &mut Chance, values: &[f64]) -> [f64; QUANTILES_MILLI.len()] {
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let mut told = QUANTILES_MILLI.map(|_| least + (most - least).max(0.0) * unit(chance));
    told.sort_by(f64::total_cmp);
    told
}

impl RandomEngine {
    /// What guessing is worth for series, as [`Engine::eval`] tells it.
    fn forecast(&self, windows: &[Vec<f64>]) -> Evaluated {
        let mut chance = Chance::from(hash("starling/1 random evaluation", &[&self.seed.to_le_bytes(), b"series"]));
        let (mut inside, mut per_item) = (0.0, Vec::with_capacity(windows.len()));
        for window in windows {
            let (history, ahead) = window.split_at_checked(HISTORY).unwrap_or((window, &[]));
            let scale = Frame::new(history, SEASON, 1).unit();
            let mut cost = 0.0;
            for truth in ahead {
                let told = quantiles(&mut chance, history);
                for (told, milli) in told.iter().zip(QUANTILES_MILLI) {
                    let over = truth - told;
                    cost += over * f64::from(milli) / 1_000.0 + (-over).max(0.0);
                }
                let [low, .., high] = told;
                inside += f64::from(u8::from((low..=high).contains(truth))) / ahead.len() as f64;
            }
            #[expect(clippy::cast_possible_truncation, reason = "a loss, as every engine gives it")]
            per_item.push((cost / scale / (ahead.len() * QUANTILES_MILLI.len()).max(1) as f64) as f32);
        }
        let items = per_item.len().max(1) as f64;
        let loss = per_item.iter().map(|&l| f64::from(l)).sum::<f64>() / items;
        Evaluated { loss, accuracy: inside / items, per_item }
    }
}

impl Engine for RandomEngine {
    fn info(&self) -> Info {
        let fingerprint = hash("starling/1 engine", &[NAME.as_bytes()]);
        let device = "none".to_owned();
        Info { name: NAME, version: "1", device, isa: "none", threads: 1, memory_free: u64::MAX, fingerprint }
    }

    fn caps(&self) -> Caps {
        Caps { train: false, eval: true, generate: true, classify: true, logprobs: true, forecast: true, honest: false }
    }

    fn determinism(&self) -> Determinism {
        Determinism::Opaque
    }

    fn load(&mut self, artifact: &Artifact) -> Result<Handle, EngineError> {
        let handle = artifact.id();
        if self.models.len() >= MODELS_MAX && !self.models.contains_key(&handle) {
            return Err(EngineError::Memory { needed: artifact.architecture().weight_bytes(), free: 0 });
        }
        self.models.insert(handle, artifact.clone());
        Ok(handle)
    }

    fn unload(&mut self, handle: Handle) -> bool {
        self.models.remove(&handle).is_some()
    }

    fn export(&self, handle: Handle) -> Result<Artifact, EngineError> {
        self.models.get(&handle).cloned().ok_or(EngineError::UnknownModel(handle))
    }

    fn train(&mut self, _: Option<Handle>, _: &TrainJob, _: &Control<'_>) -> Result<Trained, EngineError> {
        Err(EngineError::Unsupported { engine: NAME, what: "train" })
    }

    /// What guessing is worth, guessed afresh for every item.
    fn eval(&mut self, _: Handle, job: &EvalJob, control: &Control<'_>) -> Result<Evaluated, EngineError> {
        control.go_on(0)?;
        let (truth, width) = match job {
            EvalJob::Images { labels, .. } => (labels, CLASSES),
            EvalJob::Bytes { next, .. } => (next, BYTE_VALUES),
            EvalJob::Series { windows } => return Ok(self.forecast(windows)),
        };
        let mut chance = Chance::from(hash("starling/1 random evaluation", &[&self.seed.to_le_bytes(), truth]));
        let (mut right, mut per_item) = (0_usize, Vec::with_capacity(truth.len()));
        for &truth in truth {
            let row = row(&mut chance, width);
            let told = row.get(usize::from(truth)).copied().unwrap_or(0.0);
            right += usize::from(row.iter().all(|&p| p <= told));
            per_item.push(-told.max(f32::MIN_POSITIVE).ln());
        }
        let items = per_item.len().max(1) as f64;
        let loss = per_item.iter().map(|&l| f64::from(l)).sum::<f64>() / items;
        Ok(Evaluated { loss, accuracy: right as f64 / items, per_item })
    }

    /// Answers for any handle, loaded or not: there is nothing to load.
    fn infer(
        &mut self,
        _: Handle,
        query: &Query,
        control: &Control<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Inferred, EngineError> {
        query.check()?;
        control.go_on(0)?;
        let seed = hash("starling/1 random answer", &[&self.seed.to_le_bytes(), &codec::encode(query)]);
        let mut chance = Chance::from(seed);
        let mut rows = |count: usize, width: usize| (0..count).map(|_| to_fixed(&row(&mut chance, width))).collect();
        let answer = match query {
            Query::Classify { images } => Answer::Classes { probabilities: rows(images.len(), CLASSES) },
            Query::NextByte { contexts } => Answer::Distributions { probabilities: rows(contexts.len(), BYTE_VALUES) },
            Query::Forecast { series, horizon, .. } => {
                let mut row = |values: &Vec<i64>| {
                    let values: Vec<f64> = values.iter().map(|v| from_micros(*v)).collect();
                    (0..*horizon).flat_map(|_| quantiles(&mut chance, &values).map(to_micros)).collect()
                };
                Answer::Quantiles { steps: series.iter().map(&mut row).collect() }
            }
            Query::Complete { prompt, max_bytes, seed, stop, .. } => {
                let wish = Wish { prompt, max_bytes: *max_bytes, temperature_milli: 1_000, seed: *seed, stop };
                // Any printable character is as likely as another.
                let flat: Vec<f32> = (0..=255_u8).map(|b| if (32..127).contains(&b) { 0.0 } else { -99.0 }).collect();
                Answer::Text { bytes: complete(&wish, control, sink, |_| Ok(flat.clone()))? }
            }
        };
        let usage = Usage::of(query, &answer);
        Ok(Inferred { answer, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::engine::no_sink;
    use crate::protocol::ids::Digest;
    use crate::protocol::query::PIXELS;

    #[test]
    fn answers_have_the_right_shape_and_no_knowledge() {
        let mut engine = RandomEngine::new(1);
        let complete = Query::Complete { prompt: vec![], max_bytes: 20, temperature_milli: 0, seed: 1, stop: vec![] };
        let queries = [
            Query::Classify { images: vec![vec![0; PIXELS]; 3] },
            Query::NextByte { contexts: vec![b"ab".to_vec()] },
            Query::Forecast { series: vec![vec![0, 5, 0, 7]; 2], season: 2, horizon: 3 },
            complete,
        ];
        for query in queries {
            let mut ask = || engine.infer(Digest::ZERO, &query, &Control::FREE, &mut no_sink).unwrap();
            let first = ask();
            assert_eq!(first.answer.check(&query), Ok(()));
            assert_eq!(first, ask());
        }
        assert!(!engine.caps().honest);
    }

    #[test]
    fn guessing_is_worth_what_chance_is() {
        let mut engine = RandomEngine::new(1);
        let next = (0..10_u8).cycle().take(4_000).collect::<Vec<u8>>();
        let images = EvalJob::Images { images: ndarray::Array2::zeros((4_000, PIXELS)), labels: next.clone() };
        let done = engine.eval(Digest::ZERO, &images, &Control::FREE).unwrap();
        assert!((done.accuracy - 0.1).abs() < 0.02, "{}", done.accuracy);
        let done = engine.eval(Digest::ZERO, &EvalJob::Bytes { contexts: vec![], next }, &Control::FREE).unwrap();
        assert!(done.loss / std::f64::consts::LN_2 > 8.0);
    }
}
