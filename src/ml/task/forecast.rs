//! `forecast`: how an hourly series goes on for a day, after the week before.
//!
//! A challenge shows held-out weeks, changed by the seed; the day after is never sent. A sample's score is `1 - L / S`: L is
//! the mean pinball loss of the told quantiles over the day, S the mean difference between an hour and the same hour a day
//! before within the week shown. S is known to whoever is asked, so no answer gains by what it does to the measure. Telling
//! the last day again, as a point, costs S / 2: half of the score is free, and weights count from there. The skill against
//! that baseline is `1 - 2 L / S`.

use super::{Challenge, MinerSpec, Outcome, Quality, SampleScores, Task, Truth, latency_factor};
use crate::ml::data::DataError;
use crate::ml::data::series::{self, HISTORY, HORIZON, Series, window, windows};
use crate::ml::engine::{Control, Engine, EngineError, EvalJob, Handle};
use crate::ml::model::{Architecture, Kind};
use crate::ml::quantise::{from_micros, to_micros};
use crate::ml::train::{TrainData, TrainJob};
use crate::protocol::chance::Chance;
use crate::protocol::ids::{Digest, hash};
use crate::protocol::query::{Answer, ITEMS_MAX, QUANTILES_MILLI, Query, STEPS_MAX, VALUES_MAX};

/// What telling the last day again gains.
pub const CHANCE_LEVEL: f64 = 0.5;
/// Hours of the pattern that repeats.
pub const SEASON: usize = 24;
/// Every how many-th held-out window counts for the true quality.
const QUALITY_STRIDE: usize = 7;
/// Windows shown per training step.
const BATCH: usize = 64;
/// Seasons the shipped models read.
const MODEL_SEASONS: usize = 6;
const MODEL_HEADS: usize = 4;
/// A flat series has no difference to measure by; this much is one millionth of what the wire can say.
const LEAST: f64 = 1e-6;

/// The task with its data.
#[derive(Clone, Copy, Debug)]
pub struct Forecast {
    series: &'static Series,
}

impl Forecast {
    /// # Errors
    /// The data in the binary are damaged.
    pub fn new() -> Result<Self, DataError> {
        Ok(Self { series: series::series()? })
    }
}

/// What one sample of an answer cost, and what it is measured by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parts {
    /// Mean pinball loss over hours and quantiles.
    pub loss: f64,
    /// Mean difference to the day before in the history shown.
    pub scale: f64,
}

impl Parts {
    /// Against telling the last day again: 0 as good as that, 1 without loss, below 0 worse.
    pub fn skill(&self) -> f64 {
        1.0 - 2.0 * self.loss / self.scale
    }

    /// In [0, 1].
    pub fn score(&self) -> f64 {
        (1.0 - self.loss / self.scale).clamp(0.0, 1.0)
    }
}

/// What a told row is worth; `None` when it has not the length of the truth.
pub fn parts(history: &[i64], truth: &[i64], told: &[i64]) -> Option<Parts> {
    let steps = told.chunks(QUANTILES_MILLI.len());
    if truth.is_empty() || told.len() != truth.len() * QUANTILES_MILLI.len() {
        return None;
    }
    let pairs = || history.iter().skip(SEASON).zip(history);
    let differences = pairs().map(|(now, then)| from_micros(now - then).abs()).sum::<f64>();
    let scale = (differences / pairs().count().max(1) as f64).max(LEAST);
    let of = |(step, truth): (&[i64], &i64)| {
        let quantiles = step.iter().zip(QUANTILES_MILLI);
        let cost = quantiles.map(|(told, milli)| {
            let over = from_micros(truth - told);
            over * f64::from(milli) / 1_000.0 + (-over).max(0.0)
        });
        cost.sum::<f64>()
    };
    let loss = steps.zip(truth).map(of).sum::<f64>() / told.len() as f64;
    Some(Parts { loss, scale })
}

/// The true hours ahead of each series, as they travel nowhere.
fn hidden(truth: &[Vec<i64>]) -> Truth {
    Truth(truth.iter().flatten().flat_map(|v| v.to_le_bytes()).collect())
}

fn revealed(truth: &Truth) -> Vec<i64> {
    truth.0.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

impl Task for Forecast {
    fn name(&self) -> &'static str {
        "forecast"
    }

    fn about(&self) -> &'static str {
        "forecast hourly series a day ahead (weather and sea)"
    }

    fn accepts(&self, query: &Query) -> bool {
        matches!(query, Query::Forecast { .. })
    }

    fn chance_level(&self) -> f64 {
        CHANCE_LEVEL
    }

    fn challenge(&self, seed: Digest, count: usize) -> Challenge {
        let mut chance = Chance::from(hash("starling/1 forecast challenge", &[&seed.0]));
        let most = ITEMS_MAX.min(STEPS_MAX / HORIZON).min(VALUES_MAX / HISTORY);
        let (mut series, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..count.clamp(1, most) {
            let mut values: Vec<i64> = window(&self.series.held, &mut chance).into_iter().map(to_micros).collect();
            truth.push(values.split_off(HISTORY.min(values.len())));
            series.push(values);
        }
        #[expect(clippy::cast_possible_truncation, reason = "24 each")]
        let (season, horizon) = (SEASON as u32, HORIZON as u32);
        Challenge { query: Query::Forecast { series, season, horizon }, truth: hidden(&truth) }
    }

    fn score(&self, challenge: &Challenge, answer: Option<&Answer>, latency_ms: u64, deadline_ms: u64) -> SampleScores {
        let samples = challenge.query.items();
        let Some(answer) = answer else { return SampleScores::none(Outcome::Missing, samples) };
        if latency_ms > deadline_ms {
            return SampleScores::none(Outcome::Late, samples);
        }
        let malformed = || SampleScores::none(Outcome::Malformed, samples);
        let (Ok(()), Answer::Quantiles { steps }, Query::Forecast { series, .. }) =
            (answer.check(&challenge.query), answer, &challenge.query)
        else {
            return malformed();
        };
        let factor = latency_factor(latency_ms, deadline_ms);
        let truth = revealed(&challenge.truth);
        let rows = series.iter().zip(truth.chunks(HORIZON)).zip(steps);
        let scores: Option<Vec<f64>> =
            rows.map(|((history, truth), told)| Some(factor * parts(history, truth, told)?.score())).collect();
        scores.map_or_else(malformed, |scores| SampleScores { outcome: Outcome::Scored, scores })
    }

    fn job(&self, spec: &MinerSpec) -> TrainJob {
        let spec = spec.bounded();
        let mut order: Vec<usize> = (0..self.series.train.len()).collect();
        Chance::from(hash("starling/1 forecast slice", &[&spec.seed.to_le_bytes()])).shuffle(&mut order);
        let mut left = spec.samples.max(series::WINDOW);
        let mut runs = Vec::new();
        for run in order.into_iter().filter_map(|i| self.series.train.get(i)) {
            if left < series::WINDOW {
                break;
            }
            let taken = run.get(..left.min(run.len())).unwrap_or_default();
            left -= taken.len();
            runs.push(taken.to_vec());
        }
        let seasons = MODEL_SEASONS;
        let embedding = spec.width.next_multiple_of(MODEL_HEADS);
        let (architecture, learning_rate) = match spec.model.unwrap_or(Kind::Patches) {
            Kind::Seasonal => (Architecture::Seasonal { seasons: 1 }, 1e-2),
            Kind::Linear => (Architecture::Linear { seasons }, 3e-3),
            Kind::Patches => (Architecture::Patches { seasons, embedding, layers: 1, heads: MODEL_HEADS }, 3e-3),
            other => (other.smallest(), 1e-2),
        };
        let data = TrainData::Series { runs };
        TrainJob { architecture, data, steps: spec.steps, batch: BATCH, learning_rate, seed: spec.seed }
    }

    fn true_quality(
        &self,
        engine: &mut dyn Engine,
        handle: Handle,
        control: &Control<'_>,
    ) -> Result<Quality, EngineError> {
        let windows = windows(&self.series.held, QUALITY_STRIDE);
        let samples = windows.len();
        let done = engine.eval(handle, &EvalJob::Series { windows }, control)?;
        // The engine's loss is in units of the seasonal difference: what the score divides by.
        let (quality, skill) = (1.0 - done.loss, 1.0 - 2.0 * done.loss);
        Ok(Quality { quality: quality.clamp(0.0, 1.0), figure: 100.0 * skill, unit: "% skill", samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::engine::no_sink;
    use crate::ml::engine::random::RandomEngine;
    use crate::protocol::query::MICROS_MAX;

    fn rows(challenge: &Challenge, tell: impl Fn(&[i64], usize, i64) -> [i64; 5]) -> Answer {
        let Query::Forecast { series, .. } = &challenge.query else { panic!() };
        let truth = revealed(&challenge.truth);
        let row = |(history, truth): (&Vec<i64>, &[i64])| {
            truth.iter().enumerate().flat_map(|(hour, true_value)| tell(history, hour, *true_value)).collect()
        };
        Answer::Quantiles { steps: series.iter().zip(truth.chunks(HORIZON)).map(row).collect() }
    }

    fn last_day(history: &[i64], hour: usize, _: i64) -> [i64; 5] {
        [history[HISTORY - SEASON + hour]; 5]
    }

    #[test]
    fn m03_challenges_follow_the_seed_and_the_day_ahead_is_never_sent() {
        let task = Forecast::new().unwrap();
        let challenge = task.challenge(Digest([1; 32]), 32);
        assert_eq!(challenge, task.challenge(Digest([1; 32]), 32));
        assert_ne!(challenge, task.challenge(Digest([2; 32]), 32));
        assert_eq!(challenge.query.check(), Ok(()));
        let Query::Forecast { series, season, horizon } = &challenge.query else { panic!() };
        assert_eq!((series.len(), *season, *horizon), (32, 24, 24));
        assert!(series.iter().all(|s| s.len() == HISTORY));
        assert_eq!(revealed(&challenge.truth).len(), 32 * HORIZON);
        let most = task.challenge(Digest([1; 32]), 9_999);
        assert_eq!((most.query.check(), most.query.items()), (Ok(()), 200));
    }

    #[test]
    fn m03_no_shown_week_is_a_week_of_the_shipped_data() {
        let task = Forecast::new().unwrap();
        let Query::Forecast { series, .. } = task.challenge(Digest([7; 32]), 40).query else { panic!() };
        // Level and unit apart: a table of known weeks would look for the same shape.
        let shape = |week: &[f64]| -> Vec<f64> {
            let mean = week.iter().sum::<f64>() / week.len() as f64;
            let norm = week.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt().max(1e-9);
            week.iter().map(|v| (v - mean) / norm).collect()
        };
        let runs = task.series.held.iter();
        let known: Vec<Vec<f64>> = runs
            .flat_map(|run| run.windows(HISTORY))
            .map(|w| shape(&w.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()))
            .collect();
        let alike = series.iter().filter(|week| {
            let week = shape(&week.iter().map(|v| from_micros(*v)).collect::<Vec<_>>());
            known.iter().any(|k| k.iter().zip(&week).map(|(a, b)| a * b).sum::<f64>() > 0.999_9)
        });
        assert_eq!(alike.count(), 0);
    }

    #[test]
    fn m04_knowing_beats_doubt_beats_the_last_day_and_late_is_nothing() {
        let task = Forecast::new().unwrap();
        let challenge = task.challenge(Digest([3; 32]), 64);
        let score = |answer: &Answer, latency| task.score(&challenge, Some(answer), latency, 1_000);
        let knows = rows(&challenge, |_, _, truth| [truth; 5]);
        assert!((score(&knows, 0).mean() - 1.0).abs() < 1e-9);
        let near = rows(&challenge, |history, hour, truth| {
            let told = (history[HISTORY - SEASON + hour] + 3 * truth) / 4;
            [told; 5]
        });
        let last = score(&rows(&challenge, last_day), 0).mean();
        assert!(score(&near, 0).mean() > last + 0.2 && score(&near, 0).mean() < 1.0);
        // Slow but right beats fast but wrong.
        assert!(score(&near, 1_000).mean() > last);
        assert_eq!(score(&knows, 1_001), SampleScores::none(Outcome::Late, 64));
        let crossed = rows(&challenge, |_, _, truth| [truth + 1, truth, truth, truth, truth]);
        assert_eq!(score(&crossed, 0).outcome, Outcome::Malformed);
        assert_eq!(score(&Answer::Quantiles { steps: vec![] }, 0).outcome, Outcome::Malformed);
        assert_eq!(task.score(&challenge, None, 0, 1_000).outcome, Outcome::Missing);
    }

    #[test]
    fn m04_the_parts_explain_a_score() {
        let history: Vec<i64> = (0..HISTORY as i64).map(|hour| hour / 24 * 2_000_000).collect();
        let last = vec![12_000_000; HORIZON];
        let told = vec![12_000_000; HORIZON * 5];
        let found = parts(&history, &[14_000_000; HORIZON], &told).unwrap();
        // Two too low at every hour: half of it is lost, and days differ by two.
        assert!((found.loss - 1.0).abs() < 1e-9 && (found.scale - 2.0).abs() < 1e-9);
        assert!(found.skill().abs() < 1e-9 && (found.score() - CHANCE_LEVEL).abs() < 1e-9);
        assert!((parts(&history, &last, &told).unwrap().skill() - 1.0).abs() < 1e-9);
        assert_eq!(parts(&history, &last, &told[1..]), None);
        let flat = parts(&[MICROS_MAX; HISTORY], &[-MICROS_MAX; HORIZON], &[MICROS_MAX; HORIZON * 5]);
        assert_eq!(flat.unwrap().score(), 0.0, "no difference to divide by, and no overflow");
    }

    #[test]
    fn m04_repeating_a_day_is_worth_the_chance_level_and_guessing_less() {
        let task = Forecast::new().unwrap();
        let mut engine = RandomEngine::new(5);
        let (mut guessed, mut last) = (0.0, 0.0);
        for n in 0..20 {
            let challenge = task.challenge(Digest([n; 32]), 64);
            let answer = engine.infer(Digest::ZERO, &challenge.query, &Control::FREE, &mut no_sink).unwrap().answer;
            guessed += task.score(&challenge, Some(&answer), 0, 1_000).mean() / 20.0;
            last += task.score(&challenge, Some(&rows(&challenge, last_day)), 0, 1_000).mean() / 20.0;
        }
        assert!((last - CHANCE_LEVEL).abs() < 0.03, "{last}");
        assert!(guessed < CHANCE_LEVEL - 0.1, "{guessed}");
    }
}
