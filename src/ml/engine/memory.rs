//! An engine that has learnt the held-out data by heart and nothing else: what a miner that cheats in this way would send.
//!
//! Devnets run it to show what remembering is worth where challenges are changed by their seed (M3). An image is the known
//! one nearest to it, the byte after a context the one after the longest known end of it, and a series goes on as it did a
//! season before. It loads, trains and exports nothing.

use super::complete::{Wish, complete};
use super::{
    Caps, Control, Determinism, Engine, EngineError, EvalJob, Evaluated, Handle, Inferred, Info, Sink, Trained,
};
use crate::ml::data::{self, DataError, Digits, Jargon};
use crate::ml::model::Artifact;
use crate::ml::quantise::to_fixed;
use crate::ml::train::TrainJob;
use crate::protocol::ids::hash;
use crate::protocol::query::{Answer, BYTE_VALUES, CLASSES, QUANTILES_MILLI, Query, Usage};

const NAME: &str = "memory";
/// Bytes of the end of a context that are looked for at most.
const END_MAX: usize = 32;
/// What it thinks of its own memory.
const SURE: f32 = 0.97;

/// Remembers.
#[derive(Clone, Copy, Debug)]
pub struct MemoryEngine {
    digits: &'static Digits,
    jargon: &'static Jargon,
}

impl MemoryEngine {
    /// # Errors
    /// The data in the binary are damaged.
    pub fn new() -> Result<Self, DataError> {
        Ok(Self { digits: data::digits()?, jargon: data::jargon()? })
    }

    /// The class of the known image nearest to this one.
    fn class(&self, image: &[u8]) -> usize {
        let held = &self.digits.held;
        let distance = |row: &ndarray::ArrayView1<'_, u8>| -> u64 {
            row.iter().zip(image).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
        };
        let rows = held.pixels.rows().into_iter().zip(&held.labels);
        rows.min_by_key(|(row, _)| distance(row)).map_or(0, |(_, label)| usize::from(*label))
    }

    /// The byte after the longest known end of a context.
    fn byte(&self, context: &[u8]) -> usize {
        let (mut best, mut found) = (0, b' ');
        for block in &self.jargon.held {
            for (at, next) in block.iter().enumerate() {
                let before = block.get(..at).unwrap_or_default();
                let ends = before.iter().rev().zip(context.iter().rev()).take(END_MAX);
                let equal = ends.take_while(|(a, b)| a == b).count();
                if equal > best {
                    (best, found) = (equal, *next);
                }
            }
        }
        usize::from(found)
    }
}

/// Nearly everything on one place, the rest on all.
fn row(place: usize, width: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let rest = (1.0 - SURE) / width.max(1) as f32;
    (0..width).map(|i| if i == place { SURE + rest } else { rest }).collect()
}

impl Engine for MemoryEngine {
    fn info(&self) -> Info {
        let fingerprint = hash("starling/1 engine", &[NAME.as_bytes()]);
        let device = "none".to_owned();
        Info { name: NAME, version: "1", device, isa: "none", threads: 1, memory_free: 0, fingerprint }
    }

    fn caps(&self) -> Caps {
        let (train, eval, honest) = (false, false, false);
        Caps { train, eval, generate: true, classify: true, logprobs: true, forecast: true, honest }
    }

    fn determinism(&self) -> Determinism {
        Determinism::Opaque
    }

    fn load(&mut self, artifact: &Artifact) -> Result<Handle, EngineError> {
        Err(EngineError::Memory { needed: artifact.architecture().weight_bytes(), free: 0 })
    }

    fn unload(&mut self, _: Handle) -> bool {
        false
    }

    fn export(&self, handle: Handle) -> Result<Artifact, EngineError> {
        Err(EngineError::UnknownModel(handle))
    }

    fn train(&mut self, _: Option<Handle>, _: &TrainJob, _: &Control<'_>) -> Result<Trained, EngineError> {
        Err(EngineError::Unsupported { engine: NAME, what: "train" })
    }

    fn eval(&mut self, _: Handle, _: &EvalJob, _: &Control<'_>) -> Result<Evaluated, EngineError> {
        Err(EngineError::Unsupported { engine: NAME, what: "eval" })
    }

    fn infer(
        &mut self,
        _: Handle,
        query: &Query,
        control: &Control<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Inferred, EngineError> {
        query.check()?;
        control.go_on(0)?;
        let answer = match query {
            Query::Classify { images } => {
                let probabilities = images.iter().map(|image| to_fixed(&row(self.class(image), CLASSES))).collect();
                Answer::Classes { probabilities }
            }
            Query::NextByte { contexts } => {
                let row = |context: &Vec<u8>| to_fixed(&row(self.byte(context), BYTE_VALUES));
                Answer::Distributions { probabilities: contexts.iter().map(row).collect() }
            }
            Query::Forecast { series, season, horizon } => {
                let season = usize::try_from(*season).unwrap_or(1).max(1);
                let again = |values: &Vec<i64>| -> Vec<i64> {
                    let last = values.get(values.len().saturating_sub(season)..).unwrap_or_default();
                    let steps = last.iter().cycle().zip(0..*horizon);
                    steps.flat_map(|(value, _)| [*value; QUANTILES_MILLI.len()]).collect()
                };
                Answer::Quantiles { steps: series.iter().map(again).collect() }
            }
            Query::Complete { prompt, max_bytes, temperature_milli, seed, stop } => {
                let (max_bytes, temperature_milli) = (*max_bytes, *temperature_milli);
                let wish = Wish { prompt, max_bytes, temperature_milli, seed: *seed, stop };
                let logits = |text: &[u8]| Ok(row(self.byte(text), BYTE_VALUES).into_iter().map(f32::ln).collect());
                Answer::Text { bytes: complete(&wish, control, sink, logits)? }
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
    use crate::ml::quantise::from_fixed;
    use crate::ml::task::{self, Outcome};
    use crate::protocol::ids::Digest;

    fn answer(engine: &mut MemoryEngine, query: &Query) -> Answer {
        let answer = engine.infer(Digest::ZERO, query, &Control::FREE, &mut no_sink).unwrap().answer;
        assert_eq!(answer.check(query), Ok(()));
        answer
    }

    /// What challenges come to, of 1.
    fn worth(name: &str) -> f64 {
        let (mut engine, task) = (MemoryEngine::new().unwrap(), task::open(name).unwrap());
        let scores = (0..8).map(|seed| {
            let challenge = task.challenge(Digest([seed; 32]), 32);
            let answer = answer(&mut engine, &challenge.query);
            let scored = task.score(&challenge, Some(&answer), 0, 1_000);
            assert_eq!(scored.outcome, Outcome::Scored);
            scored.mean()
        });
        scores.sum::<f64>() / 8.0
    }

    #[test]
    fn it_knows_what_it_has_seen() {
        let mut engine = MemoryEngine::new().unwrap();
        let (digits, jargon) = (data::digits().unwrap(), data::jargon().unwrap());
        let images = digits.held.pixels.rows().into_iter().take(8).map(|row| row.to_vec()).collect();
        let Answer::Classes { probabilities } = answer(&mut engine, &Query::Classify { images }) else { panic!() };
        for (row, label) in probabilities.iter().zip(&digits.held.labels) {
            assert!(from_fixed(row).unwrap()[usize::from(*label)] > 0.9);
        }
        let text = &jargon.held[0];
        let contexts = vec![text[..40].to_vec()];
        let Answer::Distributions { probabilities } = answer(&mut engine, &Query::NextByte { contexts }) else {
            panic!()
        };
        assert!(from_fixed(&probabilities[0]).unwrap()[usize::from(text[40])] > 0.9);
        assert!(!engine.caps().honest);
    }

    /// M3: changed data are worth far less to it than the 100 % it would have on what it has seen. Words come again
    /// elsewhere, so of a text it knows as much as an ordinary model, and no more.
    #[test]
    fn m3_remembering_is_not_enough_where_challenges_are_changed() {
        for (name, most) in [("vision", 0.8), ("text", 0.7), ("forecast", 0.52)] {
            let worth = worth(name);
            println!("{name}: {worth:.3}");
            assert!(worth < most, "{name}: {worth}");
        }
    }
}
