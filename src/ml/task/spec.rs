//! How a miner trains: the four numbers that make miners differ, and a graded row of them.

use serde::{Deserialize, Serialize};

/// How much a miner puts into its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinerSpec {
    /// Images, or bytes of text, out of the training range; the seed picks which.
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
    /// The best trains within about 2 s (vision) or 6 s (text) of one core; each further one has less data, fewer
    /// steps and, at the end of the row, a smaller model.
    pub fn graded(task: &str, index: usize, of: usize) -> Self {
        let last = of.max(1) - 1;
        // 0 for the best, 1 for the last; the row of one is the best alone.
        let down = if last == 0 { 0.0 } else { index.min(last) as f64 / last as f64 };
        let (best, worst) = if task == "text" { TEXT_ROW } else { VISION_ROW };
        let between = |best: f64, worst: f64| best * (worst / best).powf(down);
        Self {
            samples: whole(between(best.samples, worst.samples)),
            steps: whole(between(best.steps, worst.steps)) as u64,
            width: whole(between(best.width, worst.width)),
            seed: 1 + index as u64,
        }
    }

    /// The spec with every number brought into its bounds.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
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

const VISION_ROW: (End, End) =
    (End { samples: 1_400.0, steps: 600.0, width: 64.0 }, End { samples: 30.0, steps: 25.0, width: 16.0 });
const TEXT_ROW: (End, End) = (
    End { samples: 1_400_000.0, steps: 1_500.0, width: 128.0 },
    End { samples: 20_000.0, steps: 25.0, width: 32.0 },
);

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
fn whole(value: f64) -> usize {
    value.round().max(1.0) as usize
}
