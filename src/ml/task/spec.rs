//! How a miner trains: the model and the four numbers that make miners differ, and a graded row of them.

use serde::{Deserialize, Serialize};

use crate::ml::model::Kind;

/// How much a miner puts into its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinerSpec {
    /// Which of the task's models; `None` is the one it is known for.
    #[serde(default)]
    pub model: Option<Kind>,
    /// Images, bytes of text, or hours, out of the training range; the seed picks which.
    pub samples: usize,
    pub steps: u64,
    /// Hidden units.
    pub width: usize,
    pub seed: u64,
}

impl MinerSpec {
    /// Bounds that keep one training within memory and patience.
    pub const SAMPLES_MAX: usize = 1 << 24;
    pub const STEPS_MAX: u64 = 1_000_000;
    pub const WIDTH_MAX: usize = 4_096;

    /// The spec of miner `index` out of `of`, the best first, so that a devnet's miners truly differ.
    ///
    /// The best trains within about 1 s (vision) or 5 s (text, forecast) of one core; each further one has less data, fewer
    /// steps and, at the end of the row, a smaller model.
    pub fn graded(task: &str, index: usize, of: usize) -> Self {
        let last = of.max(1) - 1;
        let row = match task {
            "text" => TEXT_ROW,
            "forecast" => FORECAST_ROW,
            _ => VISION_ROW,
        };
        // 0 for the best, 1 for the last; the row of one is the best alone.
        let down = if last == 0 { 0.0 } else { (index.min(last) as f64 / last as f64).powf(row.bend) };
        let between = |of: fn(&End) -> f64| of(&row.best) * (of(&row.worst) / of(&row.best)).powf(down);
        Self {
            model: None,
            samples: whole(between(|end| end.samples)),
            steps: whole(between(|end| end.steps)) as u64,
            width: whole(between(|end| end.width)),
            seed: 1 + index as u64,
        }
    }

    /// The spec with every number brought into its bounds.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            model: self.model,
            samples: self.samples.clamp(1, Self::SAMPLES_MAX),
            steps: self.steps.clamp(1, Self::STEPS_MAX),
            width: self.width.clamp(1, Self::WIDTH_MAX),
            seed: self.seed,
        }
    }
}

/// One end of a graded row.
struct End {
    samples: f64,
    steps: f64,
    width: f64,
}

/// A graded row: numbers shrink by equal factors from one end to the other.
struct Row {
    best: End,
    worst: End,
    /// Under 1 the first steps down are the larger ones, where digits would otherwise hardly tell miners apart.
    bend: f64,
}

const VISION_ROW: Row = Row {
    best: End { samples: 1_400.0, steps: 1_000.0, width: 64.0 },
    worst: End { samples: 60.0, steps: 70.0, width: 16.0 },
    bend: 0.7,
};
const TEXT_ROW: Row = Row {
    best: End { samples: 1_400_000.0, steps: 1_200.0, width: 128.0 },
    worst: End { samples: 20_000.0, steps: 30.0, width: 32.0 },
    bend: 1.0,
};
const FORECAST_ROW: Row = Row {
    best: End { samples: 80_000.0, steps: 300.0, width: 48.0 },
    worst: End { samples: 2_000.0, steps: 10.0, width: 8.0 },
    bend: 1.0,
};

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
fn whole(value: f64) -> usize {
    value.round().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_goes_down_from_the_best() {
        for task in crate::ml::task::NAMES {
            let row: Vec<MinerSpec> = (0..6).map(|index| MinerSpec::graded(task, index, 6)).collect();
            assert!(row.windows(2).all(|two| two[0].steps > two[1].steps && two[0].samples > two[1].samples));
            assert!(row.iter().all(|spec| *spec == spec.bounded()));
            assert_eq!(MinerSpec::graded(task, 0, 1).steps, row[0].steps);
            assert_eq!(MinerSpec::graded(task, 9, 6).steps, row[5].steps);
        }
        let wild = MinerSpec { model: None, samples: 0, steps: u64::MAX, width: usize::MAX, seed: 7 }.bounded();
        assert_eq!((wild.samples, wild.steps, wild.width), (1, MinerSpec::STEPS_MAX, MinerSpec::WIDTH_MAX));
    }
}
