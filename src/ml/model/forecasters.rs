//! Three forecasters over the differences of `frame`: a gradient-free one, a linear one, and a small transformer that reads
//! a season as one patch.
//!
//! All give one row of corrections for the next season. The transformer adds the linear model's row to its own, so that it
//! starts where that one ends.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Device, Tensor};

use super::block::{self, Block};
use super::frame::SEASON;
use super::layers::{self, Weights};
use super::{Architecture, Artifact, ArtifactError};
use crate::protocol::query::QUANTILES_MILLI;

/// The mean of the last seasons, and how far the truth lay from it in training.
#[derive(Clone, Debug, PartialEq)]
pub struct Seasonal {
    seasons: usize,
    /// For each point of a season, the quantiles of truth against mean.
    spread: Vec<f32>,
}

impl Seasonal {
    /// # Errors
    /// The artifact is of another architecture.
    pub fn from_artifact(artifact: &Artifact, seasons: usize) -> Result<Self, ArtifactError> {
        let spread = artifact.tensors().get("spread").ok_or_else(|| ArtifactError::Missing("spread".to_owned()))?;
        Ok(Self { seasons, spread: spread.values.clone() })
    }

    /// The mean of the last seasons as a correction to the very last, for each point.
    pub fn mean(row: &[f32], seasons: usize) -> Vec<f32> {
        // A value so many seasons back is the last one less the differences since.
        let count = row.len() / SEASON;
        (0..SEASON)
            .map(|point| {
                let difference = |back: usize| {
                    let place = count.checked_sub(back).map(|season| season * SEASON + point);
                    place.and_then(|p| row.get(p)).copied().unwrap_or(0.0)
                };
                let mut below = 0.0;
                let mut sum = 0.0;
                for back in 1..seasons.max(1) {
                    below -= difference(back);
                    sum += below;
                }
                sum / seasons.max(1) as f32
            })
            .collect()
    }

    /// Corrections for the next season.
    pub fn forward(&self, row: &[f32]) -> Vec<f32> {
        let means = Self::mean(row, self.seasons);
        let steps = self.spread.chunks(QUANTILES_MILLI.len()).zip(means);
        steps.flat_map(|(spread, mean)| spread.iter().map(move |offset| mean + offset)).collect()
    }
}

/// Every correction a weighted sum of every difference.
#[derive(Module, Debug)]
pub struct Regression {
    output: Linear,
}

impl Regression {
    /// # Errors
    /// The artifact is of another architecture.
    pub fn from_artifact(artifact: &Artifact, device: &Device) -> Result<Self, ArtifactError> {
        Ok(Self { output: layers::linear(artifact, "output", device)? })
    }

    pub fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        self.output.forward(rows)
    }

    /// # Errors
    /// The device does not give the numbers back, or one of them is none.
    pub fn to_artifact(&self, architecture: Architecture) -> Result<Artifact, ArtifactError> {
        let mut weights = Weights::default();
        weights.linear("output", &self.output)?;
        Artifact::new(architecture, weights.tensors)
    }
}

/// Seasons as places of a transformer.
#[derive(Module, Debug)]
pub struct Patches {
    patch: Linear,
    position: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    output: Linear,
    skip: Param<Tensor<2>>,
}

impl Patches {
    /// # Errors
    /// The artifact is of another architecture.
    pub fn from_artifact(artifact: &Artifact, layers: usize, device: &Device) -> Result<Self, ArtifactError> {
        let blocks = (0..layers).map(|layer| Block::from_artifact(artifact, layer, device));
        Ok(Self {
            patch: layers::linear(artifact, "patch", device)?,
            position: layers::param(artifact, "position.weight", device)?,
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: block::norm(artifact, "norm", device)?,
            output: layers::linear(artifact, "output", device)?,
            skip: layers::param(artifact, "skip.weight", device)?,
        })
    }

    pub fn forward(&self, rows: Tensor<2>, heads: usize) -> Tensor<2> {
        let [count, numbers] = rows.dims();
        let seasons = numbers / SEASON;
        // A straight line learns what is linear; the patches see squashed differences, so that no outlier rules them.
        let seen = self.patch.forward(rows.clone().tanh().reshape([count * seasons, SEASON]));
        let [_, width] = seen.dims();
        let mut places = seen.reshape([count, seasons, width]) + self.position.val().unsqueeze();
        for block in &self.blocks {
            places = block.forward(places, heads, None);
        }
        let flat = self.norm.forward(places).reshape([count, seasons * width]);
        self.output.forward(flat) + rows.matmul(self.skip.val())
    }

    /// # Errors
    /// The device does not give the numbers back, or one of them is none.
    pub fn to_artifact(&self, architecture: Architecture) -> Result<Artifact, ArtifactError> {
        let mut weights = Weights::default();
        weights.linear("patch", &self.patch)?;
        weights.param("position.weight", &self.position)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            block.collect(layer, &mut weights)?;
        }
        weights.norm("norm", &self.norm)?;
        weights.linear("output", &self.output)?;
        weights.param("skip.weight", &self.skip)?;
        Artifact::new(architecture, weights.tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::model::frame::{Frame, OUTPUTS};

    #[test]
    fn the_mean_of_the_last_seasons_is_told_from_their_differences() {
        // Seasons of 10, 20, 40, 10: the mean of the last three is 23.3, of the last one 10.
        let history: Vec<f64> =
            [0.0, 0.0, 0.0, 10.0, 20.0, 40.0, 10.0].iter().flat_map(|v| std::iter::repeat_n(*v, SEASON)).collect();
        let frame = Frame::new(&history, SEASON, 6);
        let check = |seasons, expected: f64| {
            let mean = Seasonal::mean(&frame.row(6), seasons);
            let told = 10.0 + frame.unit() * f64::from(mean[0]);
            assert!((told - expected).abs() < 1e-3, "{seasons} {told}");
        };
        check(1, 10.0);
        check(3, 70.0 / 3.0);
        check(4, 20.0);
        let model = Seasonal { seasons: 3, spread: vec![1.0; OUTPUTS] };
        assert_eq!(model.forward(&frame.row(6)).len(), OUTPUTS);
    }
}
