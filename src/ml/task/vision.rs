//! `vision`: which digit is on an 8x8 image.
//!
//! Challenges show held-out digits, each changed by the seed, so that nobody can have seen them (M3). A sample's score
//! is three parts whether the likeliest class is the true one and one part calibration (Brier), which pays for honest
//! doubt. The constant "every class alike" scores [`CHANCE_LEVEL`].

use super::{Challenge, MinerSpec, Outcome, Quality, SampleScores, Task, Truth, latency_factor};
use crate::ml::data::{self, DataError, Digits, transform};
use crate::ml::engine::{Control, Engine, EngineError, EvalJob, Handle};
use crate::ml::model::{Architecture, Kind};
use crate::ml::quantise::from_fixed;
use crate::ml::train::{TrainData, TrainJob};
use crate::protocol::chance::Chance;
use crate::protocol::ids::{Digest, hash};
use crate::protocol::query::{Answer, ITEMS_MAX, Query};

/// The part of a sample's score that is accuracy; the rest is calibration.
const ACCURACY_PART: f64 = 0.75;
/// What the constant answer scores: a tenth of the accuracy, and 0.55 of the calibration.
pub const CHANCE_LEVEL: f64 = ACCURACY_PART * 0.1 + (1.0 - ACCURACY_PART) * 0.55;
/// Images shown per training step.
const BATCH: usize = 64;
const LEARNING_RATE: f64 = 8e-3;
const CONV_LEARNING_RATE: f64 = 5e-3;
/// Hidden units of a model with filters, for each channel of its first layer.
const UNITS_PER_CHANNEL: usize = 8;

/// The task with its data.
#[derive(Clone, Copy, Debug)]
pub struct Vision {
    digits: &'static Digits,
}

impl Vision {
    /// # Errors
    /// The data in the binary are damaged.
    pub fn new() -> Result<Self, DataError> {
        Ok(Self { digits: data::digits()? })
    }
}

impl Task for Vision {
    fn name(&self) -> &'static str {
        "vision"
    }

    fn about(&self) -> &'static str {
        "classify handwritten digits (8x8, UCI)"
    }

    fn accepts(&self, query: &Query) -> bool {
        matches!(query, Query::Classify { .. })
    }

    fn chance_level(&self) -> f64 {
        CHANCE_LEVEL
    }

    fn challenge(&self, seed: Digest, count: usize) -> Challenge {
        let mut chance = Chance::from(hash("starling/1 vision challenge", &[&seed.0]));
        let held = &self.digits.held;
        let mut order: Vec<usize> = (0..held.labels.len()).collect();
        chance.shuffle(&mut order);
        let (mut images, mut truth) = (Vec::new(), Vec::new());
        for index in order.into_iter().cycle().take(count.clamp(1, ITEMS_MAX)) {
            images.push(transform::changed(&held.pixels.row(index).to_vec(), &mut chance));
            truth.push(held.labels.get(index).copied().unwrap_or(0));
        }
        Challenge { query: Query::Classify { images }, truth: Truth(truth) }
    }

    fn score(&self, challenge: &Challenge, answer: Option<&Answer>, latency_ms: u64, deadline_ms: u64) -> SampleScores {
        let truth = &challenge.truth.0;
        let Some(answer) = answer else { return SampleScores::none(Outcome::Missing, truth.len()) };
        if latency_ms > deadline_ms {
            return SampleScores::none(Outcome::Late, truth.len());
        }
        let malformed = || SampleScores::none(Outcome::Malformed, truth.len());
        let (Ok(()), Answer::Classes { probabilities }) = (answer.check(&challenge.query), answer) else {
            return malformed();
        };
        let factor = latency_factor(latency_ms, deadline_ms);
        let score = |(row, &label): (&Vec<u16>, &u8)| Some(factor * sample(&from_fixed(row)?, usize::from(label)));
        let scores: Option<Vec<f64>> = probabilities.iter().zip(truth).map(score).collect();
        scores.map_or_else(malformed, |scores| SampleScores { outcome: Outcome::Scored, scores })
    }

    fn job(&self, spec: &MinerSpec) -> TrainJob {
        let spec = spec.bounded();
        let train = &self.digits.train;
        let mut order: Vec<usize> = (0..train.labels.len()).collect();
        Chance::from(hash("starling/1 vision slice", &[&spec.seed.to_le_bytes()])).shuffle(&mut order);
        order.truncate(spec.samples);
        let labels = order.iter().filter_map(|&i| train.labels.get(i).copied()).collect();
        let (architecture, learning_rate) = match spec.model.unwrap_or(Kind::Mlp) {
            Kind::Mlp => (Architecture::Mlp { hidden: spec.width }, LEARNING_RATE),
            Kind::Conv => {
                let channels = spec.width.div_ceil(UNITS_PER_CHANNEL).min(Architecture::CHANNELS_MAX);
                (Architecture::Conv { channels, hidden: spec.width }, CONV_LEARNING_RATE)
            }
            other => (other.smallest(), LEARNING_RATE),
        };
        TrainJob {
            architecture,
            data: TrainData::Images { images: train.pixels.select(ndarray::Axis(0), &order), labels },
            steps: spec.steps,
            batch: BATCH,
            learning_rate,
            seed: spec.seed,
        }
    }

    fn true_quality(
        &self,
        engine: &mut dyn Engine,
        handle: Handle,
        control: &Control<'_>,
    ) -> Result<Quality, EngineError> {
        let (images, labels) = (self.digits.held.pixels.clone(), self.digits.held.labels.clone());
        let samples = labels.len();
        let done = engine.eval(handle, &EvalJob::Images { images, labels }, control)?;
        Ok(Quality { quality: done.accuracy, figure: done.accuracy * 100.0, unit: "%", samples })
    }
}

/// One sample: the accuracy part is shared among equally likely classes, so that a flat row gains nothing by order.
fn sample(row: &[f64], label: usize) -> f64 {
    let most = row.iter().copied().fold(0.0, f64::max);
    let told = row.get(label).copied().unwrap_or(0.0);
    let equals = row.iter().filter(|&&p| p >= most).count().max(1);
    let accuracy = if told >= most { 1.0 / equals as f64 } else { 0.0 };
    let brier: f64 = row.iter().enumerate().map(|(i, p)| (p - f64::from(u8::from(i == label))).powi(2)).sum();
    ACCURACY_PART * accuracy + (1.0 - ACCURACY_PART) * (1.0 - brier / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::engine::no_sink;
    use crate::ml::engine::random::RandomEngine;
    use crate::protocol::query::CLASSES;

    fn row(label: u8, sure: u16) -> Vec<u16> {
        let rest = (u16::MAX - sure) / 9;
        (0..CLASSES).map(|class| if class == usize::from(label) { sure } else { rest }).collect()
    }

    #[test]
    fn challenges_follow_the_seed_and_show_changed_held_out_digits() {
        let task = Vision::new().unwrap();
        let seed = |n| Digest([n; 32]);
        let challenge = task.challenge(seed(1), 32);
        assert_eq!(challenge, task.challenge(seed(1), 32));
        assert_ne!(challenge, task.challenge(seed(2), 32));
        assert_eq!(challenge.query.check(), Ok(()));
        assert!(!format!("{:?}", challenge.truth).contains('['));
        let Query::Classify { images } = challenge.query else { panic!() };
        let known: Vec<Vec<u8>> = task.digits.held.pixels.rows().into_iter().map(|r| r.to_vec()).collect();
        assert!(images.iter().all(|image| !known.contains(image)));
        assert_eq!(task.challenge(seed(1), 9_999).query.items(), ITEMS_MAX);
    }

    #[test]
    fn knowing_beats_doubt_beats_guessing_and_late_is_nothing() {
        let task = Vision::new().unwrap();
        let challenge = task.challenge(Digest([1; 32]), 64);
        let labels = challenge.truth.0.clone();
        let score = |rows: Vec<Vec<u16>>, latency| {
            task.score(&challenge, Some(&Answer::Classes { probabilities: rows }), latency, 1_000)
        };
        let all = |sure| labels.iter().map(|&l| row(l, sure)).collect::<Vec<_>>();
        let knows = score(all(u16::MAX), 0).mean();
        assert!((knows - 1.0).abs() < 1e-9);
        assert!(score(all(30_000), 0).mean() < knows);
        let flat = score(vec![vec![1; CLASSES]; 64], 0).mean();
        assert!((flat - CHANCE_LEVEL).abs() < 1e-9);
        // Slow but right beats fast but wrong.
        let wrong: Vec<_> =
            labels.iter().enumerate().map(|(i, &l)| row(if i % 5 == 0 { (l + 1) % 10 } else { l }, u16::MAX)).collect();
        assert!(score(all(u16::MAX), 1_000).mean() > score(wrong, 0).mean());
        assert_eq!(score(all(u16::MAX), 1_001), SampleScores::none(Outcome::Late, 64));
        assert_eq!(score(vec![vec![0; CLASSES]; 64], 0).outcome, Outcome::Malformed);
        assert_eq!(score(all(u16::MAX)[1..].to_vec(), 0).outcome, Outcome::Malformed);
        assert_eq!(task.score(&challenge, None, 0, 1_000).outcome, Outcome::Missing);
    }

    #[test]
    fn honest_doubt_pays_best() {
        // Seen as 70 % a three and 30 % an eight, telling just that is worth more than any other telling.
        let worth = |told: f64| {
            let mut row = [0.0; CLASSES];
            (row[3], row[8]) = (told, 1.0 - told);
            0.7 * sample(&row, 3) + 0.3 * sample(&row, 8)
        };
        for told in [0.55, 0.65, 0.75, 0.9, 1.0] {
            assert!(worth(0.7) > worth(told), "{told}");
        }
    }

    #[test]
    fn guessing_scores_near_the_chance_level() {
        let task = Vision::new().unwrap();
        let mut engine = RandomEngine::new(5);
        let mut sum = 0.0;
        for n in 0..20 {
            let challenge = task.challenge(Digest([n; 32]), 64);
            let answer = engine.infer(Digest::ZERO, &challenge.query, &Control::FREE, &mut no_sink).unwrap().answer;
            sum += task.score(&challenge, Some(&answer), 0, 1_000).mean();
        }
        assert!((sum / 20.0 - CHANCE_LEVEL).abs() < 0.03, "{}", sum / 20.0);
    }
}
